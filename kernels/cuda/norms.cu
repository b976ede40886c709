// Layer norm (Ba et al. 2016) and RMS norm (Zhang & Sennrich 2019) over the last dimension, with the residual addition
// before them and the rounding for the next projection after them.
//
//   x (rows, dim); delta (rows, dim) of x's type, or null: x + delta is normalised, and written to `sum` where that is not
//   null (it may be x)
//   weight (dim) f32; bias (dim) f32 or null
//   y (rows, dim) = (x - mean) / sqrt(var + eps) * weight + bias, or x / sqrt(mean(x^2) + eps) * weight
//
// Names end in the types of x and y. Statistics are f32; the variance is that of the centred row.
// Launch: grid (rows), whole warps up to 1024 threads, shared bytes (dim + 32) * 4.
#include "types.cuh"

namespace {

template <bool CENTRE, class X, class Y>
DEVICE void norm(const X* x, const X* delta, X* sum, const float* weight, const float* bias, Y* y, int dim, float eps,
                 u8* shared) {
    float *row = reinterpret_cast<float*>(shared), *scratch = row + dim;
    i64 first = static_cast<i64>(blockIdx.x) * dim;
    // A thread reads and writes the same places throughout, so that the row needs no barrier.
    float total = 0.0f;
    for (int i = threadIdx.x; i < dim; i += blockDim.x) {
        float value = to_float(x[first + i]);
        if (delta) {
            X rounded = from_float<X>(value + to_float(delta[first + i]));
            value = to_float(rounded);
            if (sum) sum[first + i] = rounded;
        }
        row[i] = value;
        total += value;
    }
    float centre = CENTRE ? block_reduce(total, scratch, Sum()) / dim : 0.0f, squares = 0.0f;
    for (int i = threadIdx.x; i < dim; i += blockDim.x) {
        float centred = row[i] - centre;
        squares += centred * centred;
    }
    float scale = 1.0f / sqrtf(block_reduce(squares, scratch, Sum()) / dim + eps);
    for (int i = threadIdx.x; i < dim; i += blockDim.x)
        y[first + i] = from_float<Y>((row[i] - centre) * scale * weight[i] + (bias ? bias[i] : 0.0f));
}

}  // namespace

#define NORM(NAME, CENTRE, X, Y)                                                                                      \
    KERNEL(1024)                                                                                                      \
    NAME(const X* x, const X* delta, X* sum, const float* weight, const float* bias, Y* y, int dim, float eps) {      \
        DYNAMIC_SHARED(shared);                                                                                       \
        norm<CENTRE>(x, delta, sum, weight, bias, y, dim, eps, shared);                                               \
    }

NORM(layer_norm_f32_f32, true, float, float)
NORM(layer_norm_f32_bf16, true, float, bf16)
NORM(layer_norm_bf16_bf16, true, bf16, bf16)
NORM(rms_norm_f32_f32, false, float, float)
NORM(rms_norm_f32_bf16, false, float, bf16)
NORM(rms_norm_bf16_bf16, false, bf16, bf16)
