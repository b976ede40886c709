#include "../quant_linear.cu"

#include "quantize.h"

double silu_f64(double x) { return x / (1 + std::exp(-x)); }
double gelu_f64(double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }

struct Shape {
    int rows, in, out;
};

template <class T>
struct Case {
    Shape s;
    Vector<T> x, residual;
    Vector<float> bias;
    Epilogue epilogue;

    Case(Random& random, Shape s) : s(s) {
        x = random_vector<T>(random, size_t(s.rows) * s.in, 2);
        if (random.below(2)) residual = random_vector<T>(random, size_t(s.rows) * s.out, 4);
        if (random.below(2)) bias = random_vector<float>(random, s.out, 4);
        epilogue = {bias.empty() ? nullptr : bias.data(), residual.empty() ? nullptr : residual.data(), random.below(2)};
    }
    // What the tensor cores see, or (vector kernels) x itself.
    std::vector<double> inputs(bool rounded) const {
        std::vector<double> all;
        for (T value : x) all.push_back(rounded ? bf16_of(real(value)) : real(value));
        return all;
    }
    std::vector<double> expected(std::vector<double> y) const {
        for (size_t i = 0; i < y.size(); i++) {
            if (!bias.empty()) y[i] += bias[i % s.out];
            if (epilogue.activation) y[i] = gelu_f64(y[i]);
            if (!residual.empty()) y[i] += real(residual[i]);
        }
        return y;
    }
};

// f32 sums of up to some hundred terms below 2; a bf16 result is rounded once more.
template <class T>
void compare_linear(const std::string& kind, Shape s, const Vector<T>& y, const std::vector<double>& expected) {
    compare(kind + " " + std::to_string(s.rows) + "x" + std::to_string(s.in) + "x" + std::to_string(s.out), y, expected, 1e-4,
            sizeof(T) == 4 ? 1e-5 : 0.0045);
}

template <class T, class W, class Linear, class Swiglu, class Vector>
void check(Random& random, Linear linear, Swiglu swiglu, Vector vector, Shape s) {
    std::string kind = std::is_same_v<W, QuantizedInt8> ? "int8" : "int4";
    Case<T> c(random, s);
    W w(random, s.out, s.in), gated(random, 2 * s.out, s.in);
    auto y = unwritten<T>(size_t(s.rows) * s.out);
    auto x = c.inputs(true);
    LAUNCH(dim3((s.out + 63) / 64, (s.rows + 63) / 64), 128, 37888, linear, c.x.data(), w.q.data(), w.scale.data(), c.epilogue, y.data(), s.rows, s.in, s.out);
    compare_linear(kind + " linear", s, y, c.expected(product(x, w.w.data(), s.rows, s.in, s.out)));

    y = unwritten<T>(y.size());
    LAUNCH(dim3((s.out + 31) / 32, (s.rows + 63) / 64), 128, 37888, swiglu, c.x.data(), gated.q.data(), gated.scale.data(), y.data(), s.rows, s.in, s.out);
    auto gate = product(x, gated.w.data(), s.rows, s.in, s.out);
    auto value = product(x, gated.w.data() + size_t(s.out) * s.in, s.rows, s.in, s.out);
    for (size_t i = 0; i < gate.size(); i++) gate[i] = silu_f64(gate[i]) * value[i];
    compare_linear(kind + " swiglu", s, y, gate);

    s.rows = std::min(s.rows, 4);
    c.x.resize(size_t(s.rows) * s.in), c.residual.resize(c.residual.empty() ? 0 : size_t(s.rows) * s.out);
    y = unwritten<T>(size_t(s.rows) * s.out);
    LAUNCH((s.out + 15) / 16, 128, 0, vector, c.x.data(), w.q.data(), w.scale.data(), c.epilogue, y.data(), s.rows, s.in, s.out);
    compare_linear(kind + " vector", s, y, c.expected(product(c.inputs(false), w.w.data(), s.rows, s.in, s.out)));
}

template <class T, class Quantize, class Linear>
void check_int8(Random& random, Quantize quantize, Linear linear, Shape s) {
    Case<T> c(random, s);
    if (s.rows > 1) std::fill(c.x.begin(), c.x.begin() + s.in, rounded<T>(0));
    QuantizedInt8 w(random, s.out, s.in);
    Vector<i8> q(c.x.size(), -128);
    auto scale = unwritten<float>(s.rows);
    LAUNCH(s.rows, 32 * random.between(1, 4), 128, quantize, c.x.data(), q.data(), scale.data(), s.in);
    std::vector<double> rounded, original = c.inputs(false), dequantized;
    for (size_t i = 0; i < q.size(); i++) {
        dequantized.push_back(double(q[i]) * scale[i / s.in]);
        // Half a step, and what the f32 division loses.
        rounded.push_back(std::fabs(dequantized[i] - original[i]) / std::max(1e-30, double(scale[i / s.in])));
    }
    expect(std::all_of(rounded.begin(), rounded.end(), [](double steps) { return steps <= 0.5001; }), "rounding of int8 rows");
    auto y = unwritten<T>(size_t(s.rows) * s.out);
    LAUNCH(dim3((s.out + 63) / 64, (s.rows + 63) / 64), 128, 37888, linear, q.data(), scale.data(), w.q.data(), w.scale.data(), c.epilogue, y.data(), s.rows, s.in, s.out);
    compare_linear("int8 x int8 linear", s, y, c.expected(product(dequantized, w.w.data(), s.rows, s.in, s.out)));
}

int main(int arguments, char**) {
    return under_all_schedules(arguments, [](Random& random) {
        for (int i = 0; i < 5; i++) {
            Shape s{random.between(1, 90), random.between(1, 200), random.between(1, 90)};
            check<bf16, QuantizedInt8>(random, linear_i8_bf16, swiglu_i8_bf16, vector_i8_bf16, s);
            check<float, QuantizedInt8>(random, linear_i8_f32, swiglu_i8_f32, vector_i8_f32, s);
            s.in = 32 * random.between(1, 7);
            check<bf16, QuantizedInt4>(random, linear_i4_bf16, swiglu_i4_bf16, vector_i4_bf16, s);
            check<float, QuantizedInt4>(random, linear_i4_f32, swiglu_i4_f32, vector_i4_f32, s);
            s.in = 16 * random.between(1, 20);
            check_int8<float>(random, quantize_rows_f32, linear_i8i8_f32, s);
            check_int8<bf16>(random, quantize_rows_bf16, linear_i8i8_bf16, s);
        }
    });
}
