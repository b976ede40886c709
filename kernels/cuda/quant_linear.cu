// Linear layers with quantised weights (formats: weights.cuh).
//
//   x (rows, in); bias (out) f32 or null; residual (rows, out) of y's type, or null; y (rows, out)
//   y = activation(x Wᵀ + bias) + residual, activation: 0 none, 1 GELU
//
// linear_i8_*, linear_i4_*: operands bf16 (integers are exact in it), scales applied to f32 sums. `out` even where T is bf16.
//   Launch: grid (ceil(out / 64), ceil(rows / 64)), 128 threads, shared bytes 37888.
// swiglu_i8_*, swiglu_i4_*: W is (2 out, in), gates first, and y = silu(gate) * value; no bias, no residual.
//   Launch: grid (ceil(out / 32), ceil(rows / 64)), as above.
// linear_i8i8_*: x as int8 with one scale a row (from quantize_rows_*), int32 sums. Launch as linear_i8_*; `in` a multiple of 16.
// quantize_rows_*: x (rows, in) to q = round(x / scale), scale = max |x| / 127 (rows); a row of zeros has scale 0.
//   Launch: grid (rows), whole warps up to 1024 threads, shared bytes 128.
// vector_i8_*, vector_i4_*: the same as linear_* for at most 4 rows, as in decoding; x is not rounded.
//   Launch: grid (ceil(out / 16)), 128 threads, no shared memory.
#include "gemm.cuh"
#include "weights.cuh"

struct Epilogue {
    const float* bias;
    const void* residual;
    int activation;
};

namespace {

template <class T>
DEVICE float finish(const Epilogue& e, i64 row, int column, int out, float x) {
    if (e.bias) x += e.bias[column];
    if (e.activation == 1) x = 0.5f * x * (1.0f + erff(x * 0.70710678f));
    return e.residual ? x + to_float(static_cast<const T*>(e.residual)[row * out + column]) : x;
}

template <class T>
DEVICE void store_results(const Epilogue& e, T* y, i64 row, int column, int out, float a, float b) {
    T* to = y + row * out + column;
    a = finish<T>(e, row, column, out, a);
    if (column + 1 < out) {
        b = finish<T>(e, row, column + 1, out, b);
        to[1] = from_float<T>(b);
    }
    to[0] = from_float<T>(a);
}

// The rows of x that belong to this block.
template <class T>
struct Activations {
    const T* x;
    int rows, in;

    DEVICE Vec load(int row, int chunk) const {
        int at = blockIdx.y * gemm::ROWS + row;
        if (at >= rows || chunk * 8 >= in) return {};
        return load_8(x + static_cast<i64>(at) * in + chunk * 8, in - chunk * 8);
    }
};

template <class T, class W>
DEVICE void linear(const T* x, W weights, Epilogue epilogue, T* y, int rows, int out, u8* shared) {
    int in = weights.in, first = blockIdx.x * gemm::COLUMNS;
    Activations<T> a{x, rows, in};
    auto load_b = [&](int column, int chunk) {
        return first + column < out && chunk * 8 < in ? weights.load(first + column, chunk * 8) : Vec{};
    };
    auto scale = [&](int column, int group) {
        return first + column < out && group * 32 < in ? weights.group_scale(first + column, group) : 0.0f;
    };
    float acc[2][4][4] = {};
    gemm::multiply<float, W::GROUPED>(
        divide_up(in, 64), [&](int row, int chunk) { return a.load(row, chunk); }, load_b, scale, shared, acc);
    gemm::for_each_pair<float>(acc, [&](int row, int column, float u, float v) {
        row += blockIdx.y * gemm::ROWS, column += first;
        if (row >= rows || column >= out) return;
        u *= weights.row_scale(column);
        if (column + 1 < out) v *= weights.row_scale(column + 1);
        store_results(epilogue, y, row, column, out, u, v);
    });
}

template <class T, class W>
DEVICE void swiglu_linear(const T* x, W weights, T* y, int rows, int out, u8* shared) {
    int in = weights.in;
    Activations<T> a{x, rows, in};
    auto load_b = [&](int column, int chunk) {
        int row = gemm::gated_row(column, out);
        return row >= 0 && chunk * 8 < in ? weights.load(row, chunk * 8) : Vec{};
    };
    auto scale = [&](int column, int group) {
        int row = gemm::gated_row(column, out);
        return row >= 0 && group * 32 < in ? weights.group_scale(row, group) : 0.0f;
    };
    float acc[2][4][4] = {};
    gemm::multiply<float, W::GROUPED>(
        divide_up(in, 64), [&](int row, int chunk) { return a.load(row, chunk); }, load_b, scale, shared, acc);
    gemm::for_each_gated<float>(acc, [&](int row, int column, float gate, float value) {
        row += blockIdx.y * gemm::ROWS;
        if (row >= rows || column >= out) return;
        gate *= weights.row_scale(column), value *= weights.row_scale(column + out);
        y[static_cast<i64>(row) * out + column] = from_float<T>(gemm::silu(gate) * value);
    });
}

template <class T>
DEVICE void linear_int8(const i8* x, const float* x_scale, Int8 weights, Epilogue epilogue, T* y, int rows, int out, u8* shared) {
    int in = weights.in, first = blockIdx.x * gemm::COLUMNS;
    // The bytes are operands as they are.
    auto rows_of = [in](const i8* from, int row, int count, int chunk) {
        return row < count && chunk * 16 < in ? *reinterpret_cast<const Vec*>(from + static_cast<i64>(row) * in + chunk * 16) : Vec{};
    };
    int acc[2][4][4] = {}, first_row = blockIdx.y * gemm::ROWS;
    gemm::multiply<int, false>(
        divide_up(in, 128), [&](int row, int chunk) { return rows_of(x, first_row + row, rows, chunk); },
        [&](int column, int chunk) { return rows_of(weights.q, first + column, out, chunk); }, [](int, int) { return 0.0f; }, shared,
        acc);
    gemm::for_each_pair<int>(acc, [&](int row, int column, int u, int v) {
        row += blockIdx.y * gemm::ROWS, column += first;
        if (row >= rows || column >= out) return;
        float next = column + 1 < out ? v * x_scale[row] * weights.scale[column + 1] : 0.0f;
        store_results(epilogue, y, row, column, out, u * x_scale[row] * weights.scale[column], next);
    });
}

template <class T>
DEVICE void quantize_row(const T* x, i8* q, float* scale, int in, float* scratch) {
    i64 first = static_cast<i64>(blockIdx.x) * in;
    float greatest = 0.0f;
    for (int i = threadIdx.x; i < in; i += blockDim.x) greatest = fmaxf(greatest, fabsf(to_float(x[first + i])));
    greatest = block_reduce(greatest, scratch, Greatest());
    float inverse = greatest > 0.0f ? 127.0f / greatest : 0.0f;
    for (int i = threadIdx.x; i < in; i += blockDim.x) q[first + i] = static_cast<i8>(rintf(to_float(x[first + i]) * inverse));
    if (threadIdx.x == 0) scale[blockIdx.x] = greatest / 127.0f;
}

// `N` numbers, those at and beyond `count` zeros.
template <int N>
DEVICE void load_floats(const float* from, int count, float (&x)[N]) {
    if (count >= N && is_aligned(from)) {
        for (int i = 0; i < N / 4; i++) {
            Vec v = reinterpret_cast<const Vec*>(from)[i];
            for (int e = 0; e < 4; e++) x[4 * i + e] = bits_to_float(v.word[e]);
        }
    } else {
        for (int i = 0; i < N; i++) x[i] = i < count ? from[i] : 0.0f;
    }
}

template <int N>
DEVICE void load_floats(const bf16* from, int count, float (&x)[N]) {
    for (int i = 0; i < N / 8; i++) {
        Vec v = load_8(from + 8 * i, count - 8 * i);
        for (int e = 0; e < 8; e++) x[8 * i + e] = bits_to_float(e % 2 ? v.word[e / 2] & 0xffff0000u : v.word[e / 2] << 16);
    }
}

// A warp computes 4 outputs of all rows; its lanes divide the depth.
template <class T, class W>
DEVICE void vector_linear(const T* x, W weights, Epilogue epilogue, T* y, int rows, int out) {
    constexpr int OUTPUTS = 4, ROWS = 4, UNIT = W::UNIT;
    int lane = threadIdx.x % 32, first = (blockIdx.x * 4 + threadIdx.x / 32) * OUTPUTS, in = weights.in;
    float acc[ROWS][OUTPUTS] = {};
    for (int k = lane * UNIT; k < in; k += 32 * UNIT) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (r >= rows) continue;
            float v[UNIT];
            load_floats(x + static_cast<i64>(r) * in + k, in - k, v);
#pragma unroll
            for (int n = 0; n < OUTPUTS; n++) {
                // Unpacked again for each row: the bytes are in the first-level cache.
                float w[UNIT];
                weights.unpack(smaller(first + n, out - 1), k, w);
                for (int i = 0; i < UNIT; i++) acc[r][n] += w[i] * v[i];
            }
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int n = 0; n < OUTPUTS; n++) {
            float sum = warp_reduce(acc[r][n], Sum());
            if (lane == 0 && r < rows && first + n < out)
                y[static_cast<i64>(r) * out + first + n] =
                    from_float<T>(finish<T>(epilogue, r, first + n, out, sum * weights.row_scale(first + n)));
        }
}

}  // namespace

#define QUANT_LINEAR(FORMAT, W, Q, S, SUFFIX, T)                                                                       \
    KERNEL(128)                                                                                                        \
    linear_##FORMAT##_##SUFFIX(const T* x, const Q* q, const S* scale, Epilogue epilogue, T* y, int rows, int in, int out) { \
        DYNAMIC_SHARED(shared);                                                                                        \
        linear(x, W{q, scale, in}, epilogue, y, rows, out, shared);                                                    \
    }                                                                                                                  \
    KERNEL(128)                                                                                                        \
    swiglu_##FORMAT##_##SUFFIX(const T* x, const Q* q, const S* scale, T* y, int rows, int in, int out) {              \
        DYNAMIC_SHARED(shared);                                                                                        \
        swiglu_linear(x, W{q, scale, in}, y, rows, out, shared);                                                       \
    }                                                                                                                  \
    KERNEL(128)                                                                                                        \
    vector_##FORMAT##_##SUFFIX(const T* x, const Q* q, const S* scale, Epilogue epilogue, T* y, int rows, int in, int out) { \
        vector_linear(x, W{q, scale, in}, epilogue, y, rows, out);                                                     \
    }

QUANT_LINEAR(i8, Int8, i8, float, f32, float)
QUANT_LINEAR(i8, Int8, i8, float, bf16, bf16)
QUANT_LINEAR(i4, Int4, u8, f16, f32, float)
QUANT_LINEAR(i4, Int4, u8, f16, bf16, bf16)

#define QUANTIZED_ROWS(SUFFIX, T)                                                                                      \
    KERNEL_RESIDENT(128, 3)                                                                                            \
    linear_i8i8_##SUFFIX(const i8* x, const float* x_scale, const i8* q, const float* scale, Epilogue epilogue, T* y,  \
                         int rows, int in, int out) {                                                                  \
        DYNAMIC_SHARED(shared);                                                                                        \
        linear_int8(x, x_scale, Int8{q, scale, in}, epilogue, y, rows, out, shared);                                   \
    }                                                                                                                  \
    KERNEL(1024) quantize_rows_##SUFFIX(const T* x, i8* q, float* scale, int in) {                                     \
        DYNAMIC_SHARED(shared);                                                                                        \
        quantize_row(x, q, scale, in, reinterpret_cast<float*>(shared));                                               \
    }

QUANTIZED_ROWS(f32, float)
QUANTIZED_ROWS(bf16, bf16)
