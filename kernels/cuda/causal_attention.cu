// Causal attention with grouped heads (Dao et al. 2022; Ainslie et al. 2023), prefill and decoding.
//
//   q (batch, tokens, heads, dim), k (batch, keys, kv_heads, dim), v (batch, keys, kv_heads, v_dim)
//   lengths (batch) or null: keys that a row has
//   mask (batch, tokens, keys) u8 or null: 0 hides the key, as a sparse selection does
//   offset: token t sees keys 0..=t + offset (the number of cached keys; 2^31 - 1 for no causality)
//   out (batch, tokens, heads, v_dim), type of q; a row that sees nothing gets zeros
//
// dim and v_dim even, at most 64 (_d64), 128 (_d128) or 192 (_d192, the expanded form of latent attention).
// Launch: grid (ceil(tokens * heads / kv_heads / 64), kv_heads, batch), 128 threads, shared 3 * 64 * (D + 8) * 2 + 512 bytes.
//
// `_split` is for few queries and many keys: grid.z is batch * splits, each block reads its share of the keys and writes
//   partial (splits, batch, tokens, heads, v_dim) f32, statistics (splits, batch, tokens, heads, 2) f32,
// which `attention_combine` (attention_combine.cu) joins.
#include "heads.cuh"

#define CAUSAL_ATTENTION(NAME, T, D)                                                                                   \
    KERNEL(128)                                                                                                        \
    NAME(const T* q, Strides q_strides, const T* k, Strides k_strides, const T* v, Strides v_strides, const int* lengths, \
         const u8* mask, T* out, Sizes sizes, int offset, float scale) {                                               \
        DYNAMIC_SHARED(shared);                                                                                        \
        HeadsProblem<T, T> p(q, q_strides, k, k_strides, v, v_strides, out, sizes, lengths, mask, offset, scale,       \
                             blockIdx.z);                                                                              \
        attention::attend<D>(p, shared, false);                                                                        \
    }

#define CAUSAL_ATTENTION_SPLIT(NAME, BLOCKS, T, D)                                                                     \
    KERNEL_RESIDENT(128, BLOCKS)                                                                                       \
    NAME(const T* q, Strides q_strides, const T* k, Strides k_strides, const T* v, Strides v_strides, const int* lengths, \
         const u8* mask, float* partial, float* statistics, Sizes sizes, int offset, float scale, int splits) {        \
        DYNAMIC_SHARED(shared);                                                                                        \
        int split = blockIdx.z % splits, b = blockIdx.z / splits, batch = gridDim.z / splits;                          \
        i64 rows = static_cast<i64>(batch) * sizes.tokens * sizes.heads;                                               \
        HeadsProblem<T, float> p(q, q_strides, k, k_strides, v, v_strides, partial + split * rows * sizes.v_dim, sizes, \
                                 lengths, mask, offset, scale, b);                                                     \
        p.statistics = statistics + (split * rows + static_cast<i64>(b) * sizes.tokens * sizes.heads) * 2;             \
        /* Whole tiles, so that only the last split has a tail. */                                                     \
        int share = divide_up(divide_up(p.last_key, attention::KEYS), splits) * attention::KEYS;                       \
        p.first_key = smaller(split * share, p.last_key), p.last_key = smaller(p.first_key + share, p.last_key);       \
        attention::attend<D>(p, shared, false);                                                                        \
    }

CAUSAL_ATTENTION(causal_attention_bf16_d64, bf16, 64)
CAUSAL_ATTENTION(causal_attention_bf16_d128, bf16, 128)
CAUSAL_ATTENTION(causal_attention_bf16_d192, bf16, 192)
CAUSAL_ATTENTION(causal_attention_f32_d64, float, 64)
CAUSAL_ATTENTION(causal_attention_f32_d128, float, 128)
// Without these numbers of blocks the compiler aims at one more, and spills.
CAUSAL_ATTENTION_SPLIT(causal_attention_split_bf16_d64, 3, bf16, 64)
CAUSAL_ATTENTION_SPLIT(causal_attention_split_bf16_d128, 2, bf16, 128)
