// Gates and activations of an MLP.
//
// swiglu: gate_up (rows, 2 inner), the gate first, to y (rows, inner) = silu(gate) * up (Shazeer 2020).
// silu_mul: the same of two tensors. gelu: y = x Phi(x), with the error function (Hendrycks & Gimpel 2016); bias (dim) f32,
// or null, is added before.
//
// Names end in the types of input and output. Launch: any one-dimensional grid and block; no shared memory.
#include "types.cuh"

namespace {

DEVICE float silu(float x) { return x / (1.0f + expf(-x)); }
DEVICE float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678f)); }

// Calls `write` for this thread's share of 0..count.
template <class Write>
DEVICE void for_each(i64 count, Write write) {
    for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
         i += static_cast<i64>(gridDim.x) * blockDim.x)
        write(i);
}

}  // namespace

#define ACTIVATIONS(SUFFIX, X, Y)                                                                                     \
    KERNEL(1024) swiglu_##SUFFIX(const X* gate_up, Y* y, i64 rows, int inner) {                                       \
        for_each(rows * inner, [&](i64 i) {                                                                           \
            const X* gate = gate_up + i / inner * 2 * inner + i % inner;                                              \
            y[i] = from_float<Y>(silu(to_float(gate[0])) * to_float(gate[inner]));                                    \
        });                                                                                                           \
    }                                                                                                                 \
    KERNEL(1024) silu_mul_##SUFFIX(const X* gate, const X* up, Y* y, i64 count) {                                     \
        for_each(count, [&](i64 i) { y[i] = from_float<Y>(silu(to_float(gate[i])) * to_float(up[i])); });             \
    }                                                                                                                 \
    KERNEL(1024) gelu_##SUFFIX(const X* x, const float* bias, Y* y, i64 rows, int dim) {                              \
        for_each(rows * dim, [&](i64 i) {                                                                             \
            y[i] = from_float<Y>(gelu(to_float(x[i]) + (bias ? bias[i % dim] : 0.0f)));                               \
        });                                                                                                           \
    }

ACTIVATIONS(f32_f32, float, float)
ACTIVATIONS(f32_bf16, float, bf16)
ACTIVATIONS(bf16_bf16, bf16, bf16)
