// Gated cross-attention (Alayrac et al. 2022): text tokens attend to an image's cached keys and values.
//
//   q     (batch, tokens, heads, dim)       k, v  (batch, keys, kv_heads, dim); a batch stride of 0 shares one memory
//   gate  f32 or null: the result is multiplied by tanh(gate[0])
//   lengths (batch) or null: keys that a row has; without any its result is zeros
//   visible (batch, tokens, keys) u8 or null: 0 hides the key from the token; one that sees nothing gets zeros
//   out   (batch, tokens, heads, dim)       type of q
//   weights (batch, heads, tokens, keys) f32 or null: the probabilities, for evidence; written for all keys
//
// dim even and equal to v_dim, at most 64 (_d64) or 128 (_d128); types f32 (rounded to bf16 for the products) and bf16.
// Launch: grid (ceil(tokens * heads / kv_heads / 64), kv_heads, batch), 128 threads, shared 3 * 64 * (D + 8) * 2 + 512 bytes.
#include "heads.cuh"

namespace {

template <int D, class T>
DEVICE void cross_attention(const T* q, Strides q_strides, const T* k, Strides k_strides, const T* v, Strides v_strides,
                            const float* gate, const int* lengths, const u8* visible, T* out, float* weights, Sizes sizes,
                            float scale, u8* shared) {
    int b = blockIdx.z;
    HeadsProblem<T, T> p(q, q_strides, k, k_strides, v, v_strides, out, sizes, lengths, visible, 0x7fffffff, scale, b);
    p.factor = gate ? tanhf(gate[0]) : 1.0f;
    if (weights) {
        p.weights = weights + static_cast<i64>(b) * sizes.heads * sizes.tokens * sizes.keys;
        int absent = sizes.keys - p.last_key;
        for (int i = threadIdx.x; i < p.queries * absent; i += attention::THREADS)
            p.probability(i / absent, p.last_key + i % absent, 0.0f);
    }
    attention::attend<D>(p, shared, weights != nullptr);
}

}  // namespace

#define CROSS_ATTENTION(NAME, T, D)                                                                                    \
    KERNEL(128)                                                                                                        \
    NAME(const T* q, Strides q_strides, const T* k, Strides k_strides, const T* v, Strides v_strides, const float* gate, \
         const int* lengths, const u8* visible, T* out, float* weights, Sizes sizes, float scale) {                    \
        DYNAMIC_SHARED(shared);                                                                                        \
        cross_attention<D>(q, q_strides, k, k_strides, v, v_strides, gate, lengths, visible, out, weights, sizes, scale, \
                           shared);                                                                                    \
    }

CROSS_ATTENTION(cross_attention_bf16_d64, bf16, 64)
CROSS_ATTENTION(cross_attention_bf16_d128, bf16, 128)
CROSS_ATTENTION(cross_attention_f32_d64, float, 64)
CROSS_ATTENTION(cross_attention_f32_d128, float, 128)
