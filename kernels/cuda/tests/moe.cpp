#include "../moe.cu"

#include "quantize.h"

struct QuantizedBf16 {
    Vector<bf16> q;
    std::vector<double> w;

    QuantizedBf16(Random& random, int out, int in) {
        q = random_vector<bf16>(random, size_t(out) * in, 0.5f);
        for (bf16 x : q) w.push_back(real(x));
    }
};

// As `language/src/router.rs` has it. Scores are f64: logits are drawn far enough apart for the choice to be the same.
void route_reference(const float* logits, const Vector<float>& bias, const Routing& r, Vector<int>& chosen,
                     std::vector<double>& weights) {
    std::vector<double> score, choice;
    for (int e = 0; e < r.experts; e++) score.push_back(r.sigmoid ? 1 / (1 + std::exp(-double(logits[e]))) : logits[e]);
    if (!r.sigmoid) softmax(score);
    for (int e = 0; e < r.experts; e++) choice.push_back(score[e] + (bias.empty() ? 0 : bias[e]));
    auto best = [](const std::vector<double>& values, int k) {
        Vector<int> order;
        for (size_t i = 0; i < values.size(); i++) order.push_back(i);
        std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return values[a] > values[b]; });
        order.resize(std::min<size_t>(k, order.size()));
        std::sort(order.begin(), order.end());
        return order;
    };
    int size = r.experts / r.groups;
    std::vector<double> ranks;
    for (int g = 0; g < r.groups; g++) {
        std::vector<double> own(choice.begin() + g * size, choice.begin() + (g + 1) * size);
        double rank = 0;
        for (int i : best(own, r.rank_by_two ? 2 : 1)) rank += own[i];
        ranks.push_back(rank);
    }
    auto kept = best(ranks, r.kept_groups);
    for (int e = 0; e < r.experts; e++)
        if (!std::count(kept.begin(), kept.end(), e / size)) choice[e] = -INFINITY;
    double total = 0;
    for (int e : best(choice, r.top_k)) chosen.push_back(e), total += score[e];
    for (size_t i = chosen.size() - r.top_k; i < chosen.size(); i++)
        weights.push_back(score[chosen[i]] * r.factor / (r.normalize ? total + 1e-20 : 1));
}

void check_route(Random& random, Routing r, int tokens, bool with_bias, bool ties) {
    Vector<float> logits, bias;
    for (int t = 0; t < tokens; t++) {
        Vector<float> row;
        for (int e = 0; e < r.experts; e++) row.push_back(0.02f * (ties ? e / 2 : e) - 2);
        for (int e = r.experts - 1; e > 0; e--) std::swap(row[e], row[random.below(e + 1)]);
        logits.insert(logits.end(), row.begin(), row.end());
    }
    // Steps that do not bring scores together.
    for (int e = 0; with_bias && e < r.experts; e++) bias.push_back(random.below(3));
    Vector<int> chosen(size_t(tokens) * r.top_k, -7), expected;
    auto weights = unwritten<float>(chosen.size());
    LAUNCH((tokens + 3) / 4, 128, 32 * r.experts, moe_route, logits.data(), with_bias ? bias.data() : nullptr, chosen.data(), weights.data(), r, tokens);
    std::vector<double> expected_weights;
    for (int t = 0; t < tokens; t++) route_reference(logits.data() + size_t(t) * r.experts, bias, r, expected, expected_weights);
    char what[120];
    std::snprintf(what, sizeof what, "top %d of %d, groups %d/%d by %d, sigmoid %d", r.top_k, r.experts, r.kept_groups, r.groups,
                  1 + r.rank_by_two, r.sigmoid);
    expect(chosen == expected, std::string("experts, ") + what);
    // Exponentials in f32.
    compare(std::string("weights, ") + what, weights, expected_weights, 1e-7, 2e-6);
}

template <class W, class T, class GateUp, class Down, class Combine>
void check_experts(Random& random, GateUp gate_up, Down down, Combine combine, int tokens, int experts, int top_k, int dim, int width) {
    auto x = random_vector<T>(random, size_t(tokens) * dim, 1), shared = random_vector<T>(random, x.size(), 1);
    bool with_shared = random.below(2);
    Vector<int> chosen;
    Vector<float> weights;
    for (int t = 0; t < tokens; t++) {
        // Few experts get many tokens, some get none.
        Vector<int> own;
        while (int(own.size()) < top_k) {
            int e = int(std::pow(random.uniform(), 2) * experts);
            if (!std::count(own.begin(), own.end(), e)) own.push_back(e);
        }
        std::sort(own.begin(), own.end());
        chosen.insert(chosen.end(), own.begin(), own.end());
    }
    int pairs = chosen.size();
    for (int i = 0; i < pairs; i++) weights.push_back(random.uniform());
    Vector<int> order(pairs, -1), offsets(experts + 1, -1), expected_order, expected_offsets = {0};
    LAUNCH(experts, 32 * random.between(1, 3), 384, moe_dispatch, chosen.data(), order.data(), offsets.data(), pairs);
    for (int e = 0; e < experts; e++) {
        for (int i = 0; i < pairs; i++)
            if (chosen[i] == e) expected_order.push_back(i);
        expected_offsets.push_back(expected_order.size());
    }
    expect(order == expected_order && offsets == expected_offsets, "dispatch");

    W gate_up_weight(random, experts * 2 * width, dim), down_weight(random, experts * dim, width);
    auto inner = unwritten<bf16>(size_t(pairs) * width);
    auto outputs = unwritten<float>(size_t(pairs) * dim);
    auto y = unwritten<T>(x.size());
    unsigned tiles = (pairs + 63) / 64 + experts;
    gate_up(dim3((width + 31) / 32, tiles), x.data(), gate_up_weight, order.data(), offsets.data(), weights.data(), inner.data(), experts, top_k, dim, width);
    down(dim3((dim + 63) / 64, tiles), inner.data(), down_weight, order.data(), offsets.data(), outputs.data(), experts, width, dim);
    LAUNCH(2, 50, 0, combine, outputs.data(), with_shared ? shared.data() : nullptr, y.data(), tokens, top_k, dim);

    std::vector<double> expected_inner, expected(x.size());
    for (int p = 0; p < pairs; p++)
        for (int i = 0; i < width; i++) {
            int pair = order[p], expert = chosen[pair];
            double gate = 0, value = 0;
            for (int d = 0; d < dim; d++) {
                double input = bf16_of(real(x[size_t(pair) / top_k * dim + d]));
                gate += input * gate_up_weight.w[(size_t(expert) * 2 * width + i) * dim + d];
                value += input * gate_up_weight.w[(size_t(expert) * 2 * width + width + i) * dim + d];
            }
            expected_inner.push_back(weights[pair] * gate / (1 + std::exp(-gate)) * value);
        }
    // One rounding to bf16 of f32 sums.
    compare("inner", inner, expected_inner, 1e-5, 0.0045);
    for (int p = 0; p < pairs; p++)
        for (int d = 0; d < dim; d++) {
            int pair = order[p], expert = chosen[pair];
            double& sum = expected[size_t(pair) / top_k * dim + d];
            for (int i = 0; i < width; i++)
                sum += real(inner[size_t(p) * width + i]) * down_weight.w[(size_t(expert) * dim + d) * width + i];
        }
    for (size_t i = 0; with_shared && i < expected.size(); i++) expected[i] += real(shared[i]);
    compare("experts' sum", y, expected, 2e-5, sizeof(T) == 4 ? 1e-5 : 0.0045);
}

// A format's kernels, which take its arrays one by one.
#define SCALED(KERNEL) \
    [](dim3 grid, auto* x, auto& w, auto... rest) { LAUNCH(grid, 128, 37888, KERNEL, x, w.q.data(), w.scale.data(), rest...); }
#define PLAIN(KERNEL) \
    [](dim3 grid, auto* x, auto& w, auto... rest) { LAUNCH(grid, 128, 37888, KERNEL, x, w.q.data(), rest...); }

int main(int arguments, char**) {
    return under_all_schedules(arguments, [](Random& random) {
        check_route(random, {256, 8, 1, 8, 4, 1, 1, 2.5f}, 3, true, false);
        check_route(random, {64, 6, 0, 1, 1, 0, 0, 1}, 5, false, true);
        for (int i = 0; i < 10; i++) {
            int groups = random.between(1, 6), size = random.between(1, 12), kept = random.between(1, groups);
            Routing r{groups * size, random.between(1, kept * size), random.below(2), groups, kept, random.below(2), random.below(2), 1.5f};
            bool with_bias = random.below(2);
            check_route(random, r, random.between(1, 9), with_bias, i % 3 == 0);
        }
        for (int i = 0; i < 4; i++) {
            int tokens = i == 0 ? 80 : random.between(1, 30), experts = i == 1 ? 40 : random.between(2, 7);
            int top_k = random.between(1, 2), dim = random.between(1, 80), width = random.between(1, 50);
            check_experts<QuantizedBf16, float>(random, PLAIN(moe_gate_up_bf16_f32), PLAIN(moe_down_bf16), moe_combine_f32, tokens,
                                                experts, top_k, dim, width);
            check_experts<QuantizedInt8, bf16>(random, SCALED(moe_gate_up_i8_bf16), SCALED(moe_down_i8), moe_combine_bf16, tokens,
                                               experts, top_k, dim, width);
            dim = 32 * random.between(1, 3), width = 32 * random.between(1, 2);
            check_experts<QuantizedInt4, float>(random, SCALED(moe_gate_up_i4_f32), SCALED(moe_down_i4), moe_combine_f32, tokens,
                                                experts, top_k, dim, width);
            check_experts<QuantizedBf16, bf16>(random, PLAIN(moe_gate_up_bf16_bf16), PLAIN(moe_down_bf16), moe_combine_bf16, tokens,
                                               experts, top_k, dim, width);
        }
    });
}
