// Random quantised weights, and what they mean in f64.
#pragma once
#include "check.h"

struct QuantizedInt8 {
    Vector<i8> q;
    Vector<float> scale;
    std::vector<double> w;

    QuantizedInt8(Random& random, int out, int in) {
        // Exactly: a sanitizer does not see beyond the size but inside the capacity.
        q.reserve(size_t(out) * in), scale.reserve(out);
        for (int row = 0; row < out; row++) {
            scale.push_back(0.002f + 0.01f * float(random.uniform()));
            for (int i = 0; i < in; i++) {
                q.push_back(i8(random.between(-127, 127)));
                w.push_back(double(q.back()) * scale.back());
            }
        }
    }
};

struct QuantizedInt4 {
    Vector<u8> q;
    Vector<f16> scale;
    std::vector<double> w;

    QuantizedInt4(Random& random, int out, int in) {
        q.reserve(size_t(out) * in / 2), scale.reserve(out * in / 32);
        for (int group = 0; group < out * in / 32; group++) {
            // Between 2^-6 and 2^-3, of either sign, as GGUF has it.
            scale.push_back({u16(random.between(9 << 10, 12 << 10) | random.below(2) << 15)});
            int values[32];
            for (int& value : values) value = random.between(-8, 7);
            for (int i = 0; i < 16; i++) q.push_back(u8((values[i] + 8) | (values[i + 16] + 8) << 4));
            for (int value : values) w.push_back(double(value) * real(scale.back()));
        }
    }
};

inline double bf16_of(double x) { return real(rounded<bf16>(float(x))); }

// x (rows, in) times wᵀ, row by row; also the sums of absolute terms, which rounding errors are in proportion to.
inline std::vector<double> product(const std::vector<double>& x, const double* w, int rows, int in, int out) {
    std::vector<double> y;
    for (int r = 0; r < rows; r++)
        for (int n = 0; n < out; n++) {
            double sum = 0;
            for (int i = 0; i < in; i++) sum += x[size_t(r) * in + i] * w[size_t(n) * in + i];
            y.push_back(sum);
        }
    return y;
}
