// Window attention of Swin v1 and v2 (Liu et al. 2021, 2022) in one pass over the feature map: cyclic shift, partition,
// relative position bias, scaled or cosine scores, shift mask, softmax, and the way back.
//
//   qkv    (batch, rows * columns, 3, heads, dim)   the fused projection of the map, token by token
//   pad    (3, heads, dim) or null      what the projection makes of padding (its bias); null is zeros
//   table  ((2 window_rows - 1) (2 window_columns - 1), heads) f32     relative position bias
//   sharpness (heads) f32 or null       Swin v2: cosines times this; null: dot products times 1 / sqrt(dim)
//   out    (batch, rows * columns, heads, dim)      type of qkv
//
// Types f32 (rounded to bf16 for the products) and bf16; dim even, at most 32 (_d32) or 64 (_d64).
// Launch: grid (windows of an image * ceil(area / 64), heads, batch), 128 threads, shared bytes
//   3 * 64 * (D + 8) * 2 + 512 + (2 window_rows - 1) (2 window_columns - 1) * 4.
#include "attention.cuh"

struct Map {
    int rows, columns;                // of the feature map, in tokens
    int window_rows, window_columns;  // of a window
    int shift_rows, shift_columns;    // of the cyclic shift
    int roll_first;                   // 1: roll the real tokens, then pad (timm); 0: pad, then roll (transformers)
    float hidden;                     // added to the score of tokens that only the shift brought together
};

namespace {

template <class T>
struct WindowProblem {
    struct Query {
        int place, region;
    };
    using Key = Query;

    const T *qkv, *pad;
    const float* bias;  // of this head, in shared memory
    T* out;
    Map map;
    float scale;  // in units of log 2
    int head, heads, dim, v_dim, top, left, padded_rows, padded_columns, first_query, queries, first_key, last_key;

    // Token of the map at place `i` of the window, or -1 for padding.
    DEVICE int token(int i) const {
        int row = top + i / map.window_columns, column = left + i % map.window_columns;
        if (map.roll_first) {
            if (row >= map.rows || column >= map.columns) return -1;
            row = (row + map.shift_rows) % map.rows, column = (column + map.shift_columns) % map.columns;
        } else {
            row = (row + map.shift_rows) % padded_rows, column = (column + map.shift_columns) % padded_columns;
            if (row >= map.rows || column >= map.columns) return -1;
        }
        return row * map.columns + column;
    }

    // Row of q (part 0), k (1) or v (2).
    DEVICE const T* part_row(int i, int part) const {
        if (i >= map.window_rows * map.window_columns) return nullptr;
        int at = token(i);
        i64 inside = (static_cast<i64>(part) * heads + head) * dim;
        if (at < 0) return pad ? pad + inside : nullptr;
        return qkv + static_cast<i64>(at) * 3 * heads * dim + inside;
    }
    DEVICE const T* query_row(int i) const { return part_row(first_query + i, 0); }
    DEVICE const T* key_row(int j) const { return part_row(j, 1); }
    DEVICE const T* value_row(int j) const { return part_row(j, 2); }

    DEVICE static int part(int at, int size, int window, int shift) { return (at >= size - window) + (at >= size - shift); }

    DEVICE Key key(int j) const {
        int row = j / map.window_columns, column = j % map.window_columns;
        int region = part(top + row, padded_rows, map.window_rows, map.shift_rows) * 3 +
                     part(left + column, padded_columns, map.window_columns, map.shift_columns);
        return {row * (2 * map.window_columns - 1) + column, region};
    }
    DEVICE Query query(int i) const { return key(smaller(first_query + i, map.window_rows * map.window_columns - 1)); }

    DEVICE float score(float dot, Query q, Key k) const {
        int centre = (map.window_rows - 1) * (2 * map.window_columns - 1) + map.window_columns - 1;
        bool shifted = map.shift_rows || map.shift_columns;
        float added = bias[q.place - k.place + centre] + (shifted && q.region != k.region ? map.hidden : 0.0f);
        return dot * scale + added * LOG2_E;
    }

    DEVICE void store(int i, int column, float x, float y) const {
        int at = token(first_query + i);
        if (at >= 0) store_pair(out + (static_cast<i64>(at) * heads + head) * dim + column, x, y);
    }
    DEVICE void finish(int, float, float) const {}
    DEVICE void probability(int, int, float) const {}
};

template <class T>
struct Scaled : WindowProblem<T> {
    static constexpr bool COSINE = false;
};
template <class T>
struct Cosine : WindowProblem<T> {
    static constexpr bool COSINE = true;
};

template <int D, class T, template <class> class Problem>
DEVICE void window_attention(const T* qkv, const T* pad, const float* table, const float* sharpness, T* out, Map map,
                             int heads, int dim, u8* shared) {
    Problem<T> p;
    int area = map.window_rows * map.window_columns, panels = divide_up(area, attention::QUERIES);
    int windows_across = divide_up(map.columns, map.window_columns), window = blockIdx.x / panels;
    int offsets = (2 * map.window_rows - 1) * (2 * map.window_columns - 1);
    i64 image = static_cast<i64>(blockIdx.z) * map.rows * map.columns * heads * dim;
    p.head = blockIdx.y, p.heads = heads, p.dim = p.v_dim = dim, p.map = map, p.pad = pad;
    p.qkv = qkv + image * 3, p.out = out + image;
    p.padded_rows = divide_up(map.rows, map.window_rows) * map.window_rows;
    p.padded_columns = windows_across * map.window_columns;
    p.top = window / windows_across * map.window_rows, p.left = window % windows_across * map.window_columns;
    p.first_query = blockIdx.x % panels * attention::QUERIES;
    p.queries = smaller(attention::QUERIES, area - p.first_query);
    p.first_key = 0, p.last_key = area;
    p.scale = LOG2_E * (Problem<T>::COSINE ? sharpness[p.head] : rsqrtf(static_cast<float>(dim)));
    float* bias = reinterpret_cast<float*>(shared + attention::SHARED_BYTES<D>);
    // The barriers on the way to the first score make these visible.
    for (int i = threadIdx.x; i < offsets; i += attention::THREADS) bias[i] = table[i * heads + p.head];
    p.bias = bias;
    attention::attend<D>(p, shared, false);
}

}  // namespace

#define WINDOW_ATTENTION(NAME, T, D)                                                                                   \
    KERNEL(128)                                                                                                        \
    NAME(const T* qkv, const T* pad, const float* table, const float* sharpness, T* out, Map map, int heads, int dim) { \
        DYNAMIC_SHARED(shared);                                                                                        \
        if (sharpness)                                                                                                 \
            window_attention<D, T, Cosine>(qkv, pad, table, sharpness, out, map, heads, dim, shared);                   \
        else                                                                                                           \
            window_attention<D, T, Scaled>(qkv, pad, table, sharpness, out, map, heads, dim, shared);                   \
    }

WINDOW_ATTENTION(window_attention_bf16_d32, bf16, 32)
WINDOW_ATTENTION(window_attention_bf16_d64, bf16, 64)
WINDOW_ATTENTION(window_attention_f32_d32, float, 32)
WINDOW_ATTENTION(window_attention_f32_d64, float, 64)
