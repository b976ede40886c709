#include "../activation.cu"

#include "check.h"

double silu_f64(double x) { return x / (1 + std::exp(-x)); }
double gelu_f64(double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }

template <class X, class Y, class Swiglu, class SiluMul, class Gelu>
void check(Random& random, Swiglu swiglu, SiluMul silu_mul, Gelu gelu, int rows, int inner) {
    size_t count = static_cast<size_t>(rows) * inner;
    auto gate_up = random_vector<X>(random, 2 * count, 8);
    auto bias = random_vector<float>(random, inner, 2);
    Vector<X> gate, up;
    std::vector<double> swiglu_expected, gelu_expected, biased_expected;
    for (size_t i = 0; i < count; i++) {
        gate.push_back(gate_up[i / inner * 2 * inner + i % inner]);
        up.push_back(gate_up[i / inner * 2 * inner + inner + i % inner]);
        swiglu_expected.push_back(silu_f64(real(gate[i])) * real(up[i]));
        gelu_expected.push_back(gelu_f64(real(gate[i])));
        biased_expected.push_back(gelu_f64(double(real(gate[i])) + bias[i % inner]));
    }
    int blocks = random.between(1, 5), threads = random.between(1, 70);
    auto run = [&](const char* what, const std::vector<double>& expected, const std::function<void(Y*)>& kernel) {
        auto y = unwritten<Y>(count);
        kernel(y.data());
        // f32: the cancellation in 1 + erf for negative x costs 1e-7 of x; bf16: one rounding.
        compare(what, y, expected, 1e-6, sizeof(Y) == 4 ? 1e-5 : 0.0045);
    };
    run("swiglu", swiglu_expected, [&](Y* y) { LAUNCH(blocks, threads, 0, swiglu, gate_up.data(), y, rows, inner); });
    run("silu_mul", swiglu_expected, [&](Y* y) { LAUNCH(blocks, threads, 0, silu_mul, gate.data(), up.data(), y, count); });
    run("gelu", gelu_expected, [&](Y* y) { LAUNCH(blocks, threads, 0, gelu, gate.data(), nullptr, y, rows, inner); });
    run("gelu with bias", biased_expected, [&](Y* y) { LAUNCH(blocks, threads, 0, gelu, gate.data(), bias.data(), y, rows, inner); });
}

int main(int arguments, char**) {
    return under_all_schedules(arguments, [](Random& random) {
        for (int i = 0; i < 5; i++) {
            int rows = random.between(0, 9), inner = random.between(1, 40);
            check<float, float>(random, swiglu_f32_f32, silu_mul_f32_f32, gelu_f32_f32, rows, inner);
            check<float, bf16>(random, swiglu_f32_bf16, silu_mul_f32_bf16, gelu_f32_bf16, rows, inner);
            check<bf16, bf16>(random, swiglu_bf16_bf16, silu_mul_bf16_bf16, gelu_bf16_bf16, rows, inner);
        }
    });
}
