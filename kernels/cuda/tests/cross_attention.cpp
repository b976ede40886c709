#include "../cross_attention.cu"

#include "heads_reference.h"

template <class T, class Kernel>
void check(Random& random, Kernel kernel, int padded_dim, HeadsCase c, bool with_gate, bool with_lengths, bool with_mask) {
    c.v_dim = c.dim, c.offset = 0x7fffffff, c.scale = 1 / std::sqrt(float(c.dim));
    auto q = random_vector<T>(random, static_cast<size_t>(c.batch) * c.tokens * c.heads * c.dim, 2);
    auto k = random_vector<T>(random, static_cast<size_t>(c.batch) * c.keys * c.kv_heads * c.dim, 2);
    auto v = random_vector<T>(random, static_cast<size_t>(c.batch) * c.keys * c.kv_heads * c.dim, 2);
    Vector<int> lengths;
    for (int b = 0; with_lengths && b < c.batch; b++) lengths.push_back(random.between(0, c.keys));
    Vector<u8> mask;
    for (int i = 0; with_mask && i < c.batch * c.tokens * c.keys; i++) mask.push_back(random.below(3) > 0);
    Vector<float> gate = {0.7f};
    auto out = unwritten<T>(q.size());
    auto weights = unwritten<float>(static_cast<size_t>(c.batch) * c.heads * c.tokens * c.keys);
    Strides q_strides{i64(c.tokens) * c.heads * c.dim, i64(c.heads) * c.dim, c.dim};
    Strides k_strides{i64(c.keys) * c.kv_heads * c.dim, i64(c.kv_heads) * c.dim, c.dim};
    int rows = c.tokens * c.heads / c.kv_heads;
    LAUNCH(dim3((rows + 63) / 64, c.kv_heads, c.batch), 128, 3 * 64 * (padded_dim + 8) * 2 + 512, kernel, q.data(), q_strides, k.data(), k_strides, v.data(), k_strides, with_gate ? gate.data() : nullptr, with_lengths ? lengths.data() : nullptr, with_mask ? mask.data() : nullptr, out.data(), weights.data(), Sizes{c.tokens, c.keys, c.heads, c.kv_heads, c.dim, c.dim}, c.scale);
    std::vector<double> probabilities, expected = reference(c, q, k, v, lengths, mask, probabilities);
    for (double& x : expected) x *= with_gate ? std::tanh(gate[0]) : 1;
    char what[200];
    std::snprintf(what, sizeof what, "tokens %d keys %d heads %d/%d dim %d lengths %d mask %d", c.tokens, c.keys, c.heads,
                  c.kv_heads, c.dim, with_lengths, with_mask);
    // Values up to 2 and probabilities rounded to bf16; with f32, the operands of the scores as well.
    compare(what, out, expected, sizeof(T) == 4 ? 0.02 : 0.008, 0.006);
    compare(std::string("weights, ") + what, weights, probabilities, sizeof(T) == 4 ? 0.01 : 1e-4, sizeof(T) == 4 ? 0.02 : 1e-4);
}

int main(int arguments, char**) {
    return under_all_schedules(arguments, [](Random& random) {
        check<bf16>(random, cross_attention_bf16_d64, 64, {2, 5, 70, 4, 2, 64, 0, 0, 0}, true, true, false);
        check<bf16>(random, cross_attention_bf16_d128, 128, {1, 70, 65, 2, 2, 128, 0, 0, 0}, true, false, true);
        check<float>(random, cross_attention_f32_d128, 128, {1, 3, 33, 3, 1, 98, 0, 0, 0}, false, true, true);
        for (int i = 0; i < 8; i++) {
            int kv_heads = random.between(1, 2), heads = kv_heads * random.between(1, 3);
            HeadsCase c{random.between(1, 2), random.between(1, 40), random.between(1, 150), heads, kv_heads,
                        2 * random.between(1, 32), 0, 0, 0};
            bool lengths = random.below(2), mask = random.below(2);
            if (i % 2)
                check<bf16>(random, cross_attention_bf16_d64, 64, c, random.below(2), lengths, mask);
            else
                check<float>(random, cross_attention_f32_d64, 64, c, random.below(2), lengths, mask);
        }
    });
}
