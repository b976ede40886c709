#include "../norms.cu"

#include "check.h"

template <class X, class Y, class Kernel>
void check(Random& random, Kernel kernel, bool centre, int rows, int dim, int threads, bool with_delta) {
    size_t count = static_cast<size_t>(rows) * dim;
    auto x = random_vector<X>(random, count, 3), delta = random_vector<X>(random, with_delta ? count : 0, 3);
    // A mean far from zero shows a variance that was not centred.
    if (centre && sizeof(X) == 4)
        for (X& value : x) value = rounded<X>(real(value) + 100);
    auto weight = random_vector<float>(random, dim, 2), bias = random_vector<float>(random, centre ? dim : 0, 2);
    float eps = 1e-5f;
    auto sum = unwritten<X>(with_delta ? count : 0);
    auto y = unwritten<Y>(count);
    LAUNCH(rows, threads, (dim + 32) * 4, kernel, x.data(), with_delta ? delta.data() : nullptr, sum.data(), weight.data(), centre ? bias.data() : nullptr, y.data(), dim, eps);
    std::vector<double> sums, expected;
    for (int row = 0; row < rows; row++) {
        double mean = 0, square = 0;
        for (int i = 0; i < dim; i++) {
            size_t at = static_cast<size_t>(row) * dim + i;
            double value = double(real(x[at])) + (with_delta ? real(delta[at]) : 0);
            // The normalised value is the rounded one that goes on in the residual stream.
            if (with_delta) value = real(rounded<X>(float(value)));
            sums.push_back(value);
            if (centre) mean += value / dim;
        }
        const double* values = sums.data() + static_cast<size_t>(row) * dim;
        for (int i = 0; i < dim; i++) square += (values[i] - mean) * (values[i] - mean) / dim;
        for (int i = 0; i < dim; i++)
            expected.push_back((values[i] - mean) / std::sqrt(square + eps) * weight[i] + (centre ? bias[i] : 0));
    }
    char what[100];
    std::snprintf(what, sizeof what, "%s norm of %d x %d, %d threads, delta %d", centre ? "layer" : "rms", rows, dim, threads,
                  with_delta);
    // f32: sums of some hundred terms of size 100; bf16: one rounding.
    bool exact = sizeof(Y) == 4;
    compare(what, y, expected, exact ? 1e-4 : 1e-3, exact ? 1e-5 : 0.0045);
    if (with_delta) compare(std::string("sum, ") + what, sum, sums, 1e-30, 1e-7);
}

int main(int arguments, char**) {
    return under_all_schedules(arguments, [](Random& random) {
        for (int i = 0; i < 24; i++) {
            int rows = random.between(1, 5), dim = i < 2 ? 1 : random.between(1, 700), threads = 32 * random.between(1, 8);
            bool delta = random.below(2);
            switch (i % 6) {
                case 0: check<float, float>(random, layer_norm_f32_f32, true, rows, dim, threads, delta); break;
                case 1: check<float, bf16>(random, layer_norm_f32_bf16, true, rows, dim, threads, delta); break;
                case 2: check<bf16, bf16>(random, layer_norm_bf16_bf16, true, rows, dim, threads, delta); break;
                case 3: check<float, float>(random, rms_norm_f32_f32, false, rows, dim, threads, delta); break;
                case 4: check<float, bf16>(random, rms_norm_f32_bf16, false, rows, dim, threads, delta); break;
                case 5: check<bf16, bf16>(random, rms_norm_bf16_bf16, false, rows, dim, threads, delta); break;
            }
        }
    });
}
