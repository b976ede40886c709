// Rotary position embedding (Su et al. 2021).
//
//   x (batch, tokens, heads, dim), its token and head strides in elements given, to y (batch, tokens, heads, dim) dense
//   cos, sin (batch or 1, tokens, dim / 2) f32: `angle_batch` is tokens * dim / 2, or 0 where one row serves all
//   interleaved: pairs are (x_2i, x_2i+1) (latent attention), else (x_i, x_i+dim/2) (llama)
//
// Launch: any one-dimensional grid and block; no shared memory.
#include "types.cuh"

namespace {

template <class T>
DEVICE void rotate(const T* x, i64 x_batch, i64 x_token, i64 x_head, const float* cos, const float* sin, i64 angle_batch, T* y,
                   int batch, int tokens, int heads, int dim, int interleaved) {
    int half = dim / 2;
    i64 count = static_cast<i64>(batch) * tokens * heads * half;
    for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
         i += static_cast<i64>(gridDim.x) * blockDim.x) {
        int pair = i % half, head = i / half % heads, token = i / half / heads % tokens, b = i / half / heads / tokens;
        int first = interleaved ? 2 * pair : pair, second = interleaved ? first + 1 : pair + half;
        const T* from = x + b * x_batch + token * x_token + head * x_head;
        T* to = y + ((static_cast<i64>(b) * tokens + token) * heads + head) * dim;
        i64 angle = b * angle_batch + static_cast<i64>(token) * half + pair;
        float u = to_float(from[first]), v = to_float(from[second]);
        to[first] = from_float<T>(u * cos[angle] - v * sin[angle]);
        to[second] = from_float<T>(v * cos[angle] + u * sin[angle]);
    }
}

}  // namespace

#define ROPE(NAME, T)                                                                                                 \
    KERNEL(1024)                                                                                                      \
    NAME(const T* x, i64 x_batch, i64 x_token, i64 x_head, const float* cos, const float* sin, i64 angle_batch, T* y, \
         int batch, int tokens, int heads, int dim, int interleaved) {                                                \
        rotate(x, x_batch, x_token, x_head, cos, sin, angle_batch, y, batch, tokens, heads, dim, interleaved);        \
    }

ROPE(rope_f32, float)
ROPE(rope_bf16, bf16)
