#include <complex>

#include "../rope.cu"
#include "check.h"

template <class T, class Kernel>
void check(Random& random, Kernel kernel, int batch, int tokens, int heads, int half, bool shared_angles, bool interleaved) {
    int dim = 2 * half, gap = random.below(5), row = heads * dim + gap;
    auto x = random_vector<T>(random, static_cast<size_t>(batch) * tokens * row, 4);
    Vector<float> cos, sin;
    std::vector<double> angles;
    for (int i = 0; i < (shared_angles ? 1 : batch) * tokens * half; i++) {
        angles.push_back(random.number(100));
        cos.push_back(std::cos(angles[i])), sin.push_back(std::sin(angles[i]));
    }
    auto y = unwritten<T>(static_cast<size_t>(batch) * tokens * heads * dim);
    i64 angle_batch = shared_angles ? 0 : i64(tokens) * half;
    LAUNCH(random.between(1, 4), random.between(1, 70), 0, kernel, x.data(), i64(tokens) * row, row, dim, cos.data(), sin.data(), angle_batch, y.data(), batch, tokens, heads, dim, interleaved);
    // A pair is a complex number, and the rotation a product.
    std::vector<double> expected(y.size());
    for (int b = 0; b < batch; b++)
        for (int t = 0; t < tokens; t++)
            for (int h = 0; h < heads; h++)
                for (int i = 0; i < half; i++) {
                    int first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + half;
                    const T* from = x.data() + (static_cast<size_t>(b) * tokens + t) * row + h * dim;
                    std::complex<double> z(real(from[first]), real(from[second]));
                    z *= std::polar(1.0, angles[(shared_angles ? 0 : b * tokens * half) + t * half + i]);
                    double* to = expected.data() + ((static_cast<size_t>(b) * tokens + t) * heads + h) * dim;
                    to[first] = z.real(), to[second] = z.imag();
                }
    // f32: angles rounded to 1e-7; bf16: one rounding.
    compare(interleaved ? "interleaved" : "halves", y, expected, 2e-6, sizeof(T) == 4 ? 1e-6 : 0.0045);
}

int main(int arguments, char**) {
    return under_all_schedules(arguments, [](Random& random) {
        for (int i = 0; i < 16; i++) {
            int batch = random.between(1, 3), tokens = random.between(1, 6), heads = random.between(1, 4), half = random.between(1, 20);
            if (i % 2)
                check<float>(random, rope_f32, batch, tokens, heads, half, random.below(2), i % 4 < 2);
            else
                check<bf16>(random, rope_bf16, batch, tokens, heads, half, random.below(2), i % 4 < 2);
        }
    });
}
