#include "../attention_combine.cu"
#include "../causal_attention.cu"

#include "heads_reference.h"

// Keys and values lie in a cache with room for more tokens than there are, heads before tokens.
template <class T>
Vector<T> cached(const Vector<T>& x, const HeadsCase& c, int dim, int capacity) {
    auto cache = unwritten<T>(static_cast<size_t>(c.batch) * c.kv_heads * capacity * dim);
    for (int b = 0; b < c.batch; b++)
        for (int j = 0; j < c.keys; j++)
            for (int h = 0; h < c.kv_heads; h++)
                for (int d = 0; d < dim; d++)
                    cache[((static_cast<size_t>(b) * c.kv_heads + h) * capacity + j) * dim + d] =
                        x[((static_cast<size_t>(b) * c.keys + j) * c.kv_heads + h) * dim + d];
    return cache;
}

template <class T, class Kernel, class Split>
void check(Random& random, Kernel kernel, Split split, int splits, int padded_dim, HeadsCase c, bool with_lengths,
           bool with_mask) {
    c.scale = 1 / std::sqrt(float(c.dim));
    auto q = random_vector<T>(random, static_cast<size_t>(c.batch) * c.tokens * c.heads * c.dim, 2);
    auto k = random_vector<T>(random, static_cast<size_t>(c.batch) * c.keys * c.kv_heads * c.dim, 2);
    auto v = random_vector<T>(random, static_cast<size_t>(c.batch) * c.keys * c.kv_heads * c.v_dim, 2);
    Vector<int> lengths;
    for (int b = 0; with_lengths && b < c.batch; b++) lengths.push_back(random.between(1, c.keys));
    Vector<u8> mask;
    for (int i = 0; with_mask && i < c.batch * c.tokens * c.keys; i++) mask.push_back(random.below(3) > 0);
    int capacity = c.keys + 3;
    auto k_cache = cached(k, c, c.dim, capacity), v_cache = cached(v, c, c.v_dim, capacity);
    Strides q_strides{i64(c.tokens) * c.heads * c.dim, i64(c.heads) * c.dim, c.dim};
    auto strides = [&](int dim) { return Strides{i64(c.kv_heads) * capacity * dim, dim, i64(capacity) * dim}; };
    Sizes sizes{c.tokens, c.keys, c.heads, c.kv_heads, c.dim, c.v_dim};
    int rows = c.batch * c.tokens * c.heads, panels = (c.tokens * c.heads / c.kv_heads + 63) / 64;
    size_t shared = 3 * 64 * (padded_dim + 8) * 2 + 512;
    auto out = unwritten<T>(static_cast<size_t>(rows) * c.v_dim);
    const int* lengths_at = with_lengths ? lengths.data() : nullptr;
    const u8* mask_at = with_mask ? mask.data() : nullptr;
    if constexpr (!std::is_same_v<Split, std::nullptr_t>) {
        auto partial = unwritten<float>(static_cast<size_t>(splits) * rows * c.v_dim);
        auto statistics = unwritten<float>(static_cast<size_t>(splits) * rows * 2);
        LAUNCH(dim3(panels, c.kv_heads, c.batch * splits), 128, shared, split, q.data(), q_strides, k_cache.data(), strides(c.dim), v_cache.data(), strides(c.v_dim), lengths_at, mask_at, partial.data(), statistics.data(), sizes, c.offset, c.scale, splits);
        LAUNCH(rows, 64, 0, attention_combine_bf16, partial.data(), statistics.data(), out.data(), rows, c.v_dim, splits);
    } else {
        LAUNCH(dim3(panels, c.kv_heads, c.batch), 128, shared, kernel, q.data(), q_strides, k_cache.data(), strides(c.dim), v_cache.data(), strides(c.v_dim), lengths_at, mask_at, out.data(), sizes, c.offset, c.scale);
    }
    char what[200];
    std::snprintf(what, sizeof what, "tokens %d keys %d heads %d/%d dim %d/%d offset %d splits %d lengths %d mask %d", c.tokens,
                  c.keys, c.heads, c.kv_heads, c.dim, c.v_dim, c.offset, splits, with_lengths, with_mask);
    std::vector<double> probabilities;
    // Values up to 2 and probabilities rounded to bf16; with f32, the operands of the scores as well.
    compare(what, out, reference(c, q, k, v, lengths, mask, probabilities), sizeof(T) == 4 ? 0.02 : 0.008, 0.006);
}

int main(int arguments, char**) {
    return under_all_schedules(arguments, [](Random& random) {
        check<bf16>(random, causal_attention_bf16_d128, nullptr, 1, 128, {1, 70, 70, 2, 1, 128, 128, 0, 0}, false, false);
        check<bf16>(random, causal_attention_bf16_d192, nullptr, 1, 192, {1, 9, 20, 2, 2, 192, 128, 11, 0}, false, false);
        check<float>(random, causal_attention_f32_d128, nullptr, 1, 128, {1, 5, 66, 2, 1, 100, 70, 61, 0}, true, true);
        check<bf16>(random, nullptr, causal_attention_split_bf16_d128, 3, 128, {1, 1, 300, 4, 1, 128, 128, 299, 0}, false, false);
        for (int i = 0; i < 9; i++) {
            int kv_heads = random.between(1, 2), heads = kv_heads * random.between(1, 4), tokens = random.between(1, 40);
            int past = random.below(100);
            HeadsCase c{random.between(1, 2), tokens, tokens + past, heads, kv_heads, 2 * random.between(1, 32),
                        2 * random.between(1, 32), random.below(3) ? past : 0x7fffffff, 0};
            bool lengths = random.below(2), mask = random.below(2);
            if (i % 3 == 0)
                check<bf16>(random, causal_attention_bf16_d64, nullptr, 1, 64, c, lengths, mask);
            else if (i % 3 == 1)
                check<float>(random, causal_attention_f32_d64, nullptr, 1, 64, c, lengths, mask);
            else
                check<bf16>(random, nullptr, causal_attention_split_bf16_d64, random.between(1, 4), 64, c, lengths, mask);
        }
    });
}
