#include "../sampling.cu"

#include "check.h"

struct Params {
    float temperature;
    int top_k;
    float top_p, min_p, uniform;
};

// As `language/src/sampler.rs` has it, in f64. Numbers that a filter or the draw compares may be this close.
constexpr double CLOSE = 2e-6;

// The tokens that may be the answer, given that sums may differ by rounding.
Vector<int> acceptable(const Vector<float>& logits, const Params& p) {
    int n = logits.size();
    Vector<int> order;
    for (int i = 0; i < n; i++) order.push_back(i);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
    double best = logits[order[0]];
    if (best == -INFINITY) return {-1};
    if (p.temperature == 0) return {order[0]};
    auto weight = [&](int i) { return std::exp((logits[i] - best) / p.temperature); };
    bool ordered = false;
    if (p.top_k > 0 && p.top_k < n) order.resize(p.top_k), ordered = true;
    if (p.top_p < 1) {
        double all = 0, mass = 0;
        size_t kept = 0;
        for (int i : order) all += weight(i);
        while (kept < order.size() && mass < p.top_p * all - CLOSE * all) mass += weight(order[kept++]);
        order.resize(std::max<size_t>(kept, 1)), ordered = true;
    }
    Vector<int> left;
    for (int i : order)
        if (weight(i) >= p.min_p) left.push_back(i);
    if (!ordered) std::sort(left.begin(), left.end());
    double all = 0, before = 0;
    for (int i : left) all += weight(i);
    Vector<int> answers;
    for (int i : left) {
        double low = before / all - CLOSE, high = (before += weight(i)) / all + CLOSE;
        if (weight(i) > 1e-11 && p.uniform >= low && p.uniform < high) answers.push_back(i);
    }
    return answers;
}

void check(Random& random, int vocabulary, int threads, float spread, bool ties) {
    constexpr int ROWS = 6;
    Vector<float> logits, temperature, top_p, min_p, uniform;
    Vector<int> top_k, token(ROWS, -7);
    for (int row = 0; row < ROWS; row++) {
        for (int i = 0; i < vocabulary; i++) {
            float x = random.number(spread);
            if (ties) x = std::round(x);
            logits.push_back(random.below(8) == 0 || (row == 5 && random.below(3) == 0) ? -INFINITY : x);
        }
        temperature.push_back(row == 0 ? 0 : 0.3f + random.uniform());
        top_k.push_back(row % 2 ? random.between(0, vocabulary + 2) : 0);
        top_p.push_back(row % 3 ? float(0.05 + 0.9 * random.uniform()) : 1.0f);
        min_p.push_back(random.below(2) ? float(random.uniform() * 0.2) : 0.0f);
        uniform.push_back(row == 4 ? 0.0f : float(random.next() >> 40) / (1 << 24));
    }
    LAUNCH(ROWS, threads, 256 * 8 + 32 * 8 + 24, sample_tokens, logits.data(), temperature.data(), top_k.data(), top_p.data(), min_p.data(), uniform.data(), token.data(), vocabulary);
    for (int row = 0; row < ROWS; row++) {
        Vector<float> own(logits.begin() + row * vocabulary, logits.begin() + (row + 1) * vocabulary);
        auto answers = acceptable(own, {temperature[row], top_k[row], top_p[row], min_p[row], uniform[row]});
        char what[200];
        std::snprintf(what, sizeof what, "%d of %d with temperature %g top_k %d top_p %g min_p %g uniform %g", token[row],
                      vocabulary, temperature[row], top_k[row], top_p[row], min_p[row], uniform[row]);
        expect(std::count(answers.begin(), answers.end(), token[row]) > 0, what);
    }
}

// Draws at equal distances come out as often as the probabilities say.
void frequencies() {
    constexpr int DRAWS = 400;
    Vector<float> one = {1, 3, 2, -INFINITY, 2.5f}, logits, uniform, temperature(DRAWS, 1.3f), top_p(DRAWS, 1), min_p(DRAWS, 0);
    Vector<int> top_k(DRAWS, 3), token(DRAWS, -7);
    for (int i = 0; i < DRAWS; i++) {
        logits.insert(logits.end(), one.begin(), one.end());
        uniform.push_back((i + 0.5f) / DRAWS);
    }
    LAUNCH(DRAWS, 256, 256 * 8 + 32 * 8 + 24, sample_tokens, logits.data(), temperature.data(), top_k.data(), top_p.data(), min_p.data(), uniform.data(), token.data(), 5);
    double all = 0;
    for (int i : {1, 2, 4}) all += std::exp(one[i] / 1.3);
    for (int i = 0; i < 5; i++) {
        double expected = i == 0 || i == 3 ? 0 : DRAWS * std::exp(one[i] / 1.3) / all;
        expect(std::fabs(std::count(token.begin(), token.end(), i) - expected) <= 1, "frequency of token " + std::to_string(i));
    }
}

int main(int arguments, char**) {
    return under_all_schedules(arguments, [](Random& random) {
        for (int i = 0; i < 24; i++)
            check(random, i < 3 ? 1 + i : random.between(1, 900), i % 2 ? 256 : 288, i % 3 ? 6 : 30, i % 4 == 0);
        frequencies();
    });
}
