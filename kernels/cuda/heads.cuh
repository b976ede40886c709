// Attention of a decoder's tokens: grouped query heads, keys and values wherever they are cached.
#pragma once
#include "attention.cuh"

// Where token t of head h of batch row b is: at b * batch + t * token + h * head. In elements.
struct Strides {
    i64 batch, token, head;
};

struct Sizes {
    int tokens, keys, heads, kv_heads, dim, v_dim;
};

namespace {

// The queries of a block are rows of tokens x the heads that share keys: row r is token r / group and head
// kv_head * group + r % group, so that a decoder's single token still fills a tile.
template <class T, class Out>
struct HeadsProblem {
    struct Query {
        int last_key;            // the last key that causality lets it see
        const u8* visible;       // its row of the mask, or null
    };
    using Key = int;
    static constexpr bool COSINE = false;

    const T *q, *k, *v;  // of this batch row and key head
    Strides q_strides;
    i64 k_token, v_token;
    Out* out;               // (tokens, heads, v_dim) of this batch row
    float* statistics;      // (tokens, heads, 2) of this batch row, or null
    float* weights;         // (heads, tokens, all_keys) of this batch row, or null
    const u8* mask;         // (tokens, all_keys) of this batch row, or null
    int tokens, heads, group, first_head, all_keys, offset, first_row, queries, dim, v_dim, first_key, last_key;
    float scale, factor;

    DEVICE int token(int i) const { return (first_row + i) / group; }
    DEVICE int head(int i) const { return first_head + (first_row + i) % group; }

    DEVICE const T* query_row(int i) const {
        if (i >= queries) return nullptr;
        return q + token(i) * q_strides.token + (first_row + i) % group * q_strides.head;
    }
    DEVICE const T* key_row(int j) const { return k + j * k_token; }
    DEVICE const T* value_row(int j) const { return v + j * v_token; }
    DEVICE Key key(int j) const { return j; }

    DEVICE Query query(int i) const {
        int t = token(smaller(i, queries - 1));
        // `offset` may be large: no causality.
        return {t > 0x7fffffff - offset ? 0x7fffffff : t + offset, mask ? mask + static_cast<i64>(t) * all_keys : nullptr};
    }
    DEVICE float score(float dot, Query q, Key j) const {
        return j <= q.last_key && (!q.visible || q.visible[j]) ? dot * scale : -infinity();
    }
    DEVICE void store(int i, int column, float x, float y) const {
        store_pair(out + (static_cast<i64>(token(i)) * heads + head(i)) * v_dim + column, x * factor, y * factor);
    }
    DEVICE void finish(int i, float greatest, float sum) const {
        if (!statistics) return;
        float* at = statistics + (static_cast<i64>(token(i)) * heads + head(i)) * 2;
        at[0] = greatest, at[1] = sum;
    }
    DEVICE void probability(int i, int j, float p) const {
        weights[(static_cast<i64>(head(i)) * tokens + token(i)) * all_keys + j] = p;
    }

    // Everything but the range of keys, for block (panel, key head) of batch row b.
    DEVICE HeadsProblem(const T* q, Strides q_strides, const T* k, Strides k_strides, const T* v, Strides v_strides, Out* out,
                        Sizes sizes, const int* lengths, const u8* mask, int offset, float scale, int b)
        : q_strides(q_strides), k_token(k_strides.token), v_token(v_strides.token), tokens(sizes.tokens),
          heads(sizes.heads), all_keys(sizes.keys), offset(offset), dim(sizes.dim), v_dim(sizes.v_dim) {
        int kv_head = blockIdx.y;
        group = heads / sizes.kv_heads, first_head = kv_head * group;
        this->q = q + b * q_strides.batch + first_head * q_strides.head;
        this->k = k + b * k_strides.batch + kv_head * k_strides.head;
        this->v = v + b * v_strides.batch + kv_head * v_strides.head;
        this->out = out + static_cast<i64>(b) * tokens * heads * v_dim;
        this->mask = mask ? mask + static_cast<i64>(b) * tokens * all_keys : nullptr;
        this->scale = scale * LOG2_E, factor = 1.0f;
        statistics = weights = nullptr;
        first_row = blockIdx.x * attention::QUERIES;
        queries = smaller(attention::QUERIES, tokens * group - first_row);
        first_key = 0, last_key = smaller(lengths ? lengths[b] : all_keys, all_keys);
        int seen = query(queries - 1).last_key;
        if (seen < last_key) last_key = seen + 1;
    }
};

}  // namespace
