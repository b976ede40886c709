// Attention over tiles of keys with a running softmax (Dao et al. 2022; Milakov & Gimelshein 2018), once for all kernels
// that are a matter of which rows are read, what is added to a score and where the result goes.
//
// A block holds 64 queries of one head, each of its 4 warps 16 of them; keys and values pass by in tiles of 64. Products are
// bf16 on tensor cores with f32 sums; probabilities are rounded to bf16 before they meet the values.
//
// A `Problem` has
//   static constexpr bool COSINE     whether scores are of queries and keys of length 1
//   Query query(int i)               what `score` needs to know of a query; `Key key(int j)` of a key
//   float score(float dot, Query, Key)   the score in units of log 2, or -infinity where the key is hidden
//   const T* query_row(i), key_row(j), value_row(j)    null for a row of zeros
//   int dim, v_dim                   elements of a query or key, and of a value
//   int first_key, last_key          the keys that some query of the block may see
//   void store(i, column, x, y)      two neighbours of the result, divided by the sum of exponentials
//   void finish(i, greatest, sum)    once for each row
// Queries past `queries` are computed and never stored.
#pragma once
#include "types.cuh"

namespace attention {

constexpr int QUERIES = 64, KEYS = 64, THREADS = 128;
// A row is this much longer than its elements, so that the eight rows of an ldmatrix lie in different banks.
constexpr int PAD = 8;

template <int D>
constexpr int TILE_BYTES = KEYS * (D + PAD) * 2;

// Queries, keys, values, and one over the length of each query and key.
template <int D>
constexpr int SHARED_BYTES = 3 * TILE_BYTES<D> + (QUERIES + KEYS) * 4;

// 64 rows to shared memory as bf16; elements beyond `dim` and missing rows become zeros.
template <int D, class Row>
DEVICE void load_tile(u8* tile, int dim, Row row_of) {
    constexpr int CHUNKS = D / 8;
    for (int i = threadIdx.x; i < KEYS * CHUNKS; i += THREADS) {
        int row = i / CHUNKS, column = i % CHUNKS * 8;
        auto from = row_of(row);
        Vec x = {};
        if (from && column < dim) x = load_8(from + column, dim - column);
        *reinterpret_cast<Vec*>(tile + (row * (D + PAD) + column) * 2) = x;
    }
}

// One over the length of each row of a tile, as the torch function `normalize` has it; two threads a row.
template <int D>
DEVICE void inverse_lengths(const u8* tile, float* inverse) {
    int row = threadIdx.x / 2;
    const bf16* from = reinterpret_cast<const bf16*>(tile) + row * (D + PAD) + threadIdx.x % 2 * (D / 2);
    float squares = 0.0f;
    for (int i = 0; i < D / 2; i++) squares += to_float(from[i]) * to_float(from[i]);
    squares += __shfl_xor_sync(ALL_LANES, squares, 1);
    if (threadIdx.x % 2 == 0) inverse[row] = 1.0f / fmaxf(sqrtf(squares), 1e-12f);
}

// What a thread holds: rows `row[0]` and `row[1]` of the queries, columns 8 n + 2 (lane % 4) and the next.
template <int D, class P>
struct Panel {
    const P& problem;
    u8 *q, *k, *v;
    float *q_inverse, *k_inverse;
    int lane, first_row, row[2];
    u32 fragments[D / 16][4];

    DEVICE Panel(const P& problem, u8* shared) : problem(problem) {
        q = shared;
        k = q + TILE_BYTES<D>;
        v = k + TILE_BYTES<D>;
        q_inverse = reinterpret_cast<float*>(v + TILE_BYTES<D>);
        k_inverse = q_inverse + QUERIES;
        lane = threadIdx.x % 32;
        first_row = threadIdx.x / 32 * 16;
        for (int r = 0; r < 2; r++) row[r] = first_row + lane / 4 + 8 * r;
    }

    DEVICE void load_queries() {
        load_tile<D>(q, problem.dim, [&](int i) { return problem.query_row(i); });
        __syncthreads();
        if (P::COSINE) inverse_lengths<D>(q, q_inverse);
#pragma unroll
        for (int step = 0; step < D / 16; step++)
            ldmatrix(fragments[step], q + ((first_row + lane % 16) * (D + PAD) + step * 16 + lane / 16 * 8) * 2);
    }

    // Scores of the 64 keys from `first` on; their values are in `v` then, if wanted.
    template <class Query>
    DEVICE void scores(int first, bool with_values, const Query (&query)[2], float (&s)[KEYS / 8][4]) {
        __syncthreads();  // the tile before has been read
        auto there = [&](int j) { return first + j < problem.last_key; };
        load_tile<D>(k, problem.dim, [&](int j) { return there(j) ? problem.key_row(first + j) : nullptr; });
        if (with_values)
            load_tile<D>(v, problem.v_dim, [&](int j) { return there(j) ? problem.value_row(first + j) : nullptr; });
        __syncthreads();
        if (P::COSINE) {
            inverse_lengths<D>(k, k_inverse);
            __syncthreads();
        }
#pragma unroll
        for (int n = 0; n < KEYS / 8; n += 2) {
            for (int i = 0; i < 4; i++) s[n][i] = s[n + 1][i] = 0.0f;
#pragma unroll
            for (int step = 0; step < D / 16; step++) {
                u32 b[4];
                ldmatrix(b, k + ((n * 8 + lane % 8 + lane / 16 * 8) * (D + PAD) + step * 16 + lane / 8 % 2 * 8) * 2);
                mma(s[n], fragments[step], b);
                mma(s[n + 1], fragments[step], b + 2);
            }
        }
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                int j = n * 8 + lane % 4 * 2 + c;
                auto key = problem.key(first + j);
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    float& x = s[n][2 * r + c];
                    if (P::COSINE) x *= q_inverse[row[r]] * k_inverse[j];
                    x = there(j) ? problem.score(x, query[r], key) : -infinity();
                }
            }
    }
};

// Greatest (or sum) of a row, whose elements four neighbouring lanes hold.
template <class Combine>
DEVICE float row_reduce(float x, Combine combine) {
    x = combine(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return combine(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

// exp2(x - greatest), where both may be -infinity.
DEVICE float power(float x, float greatest) {
    return x == -infinity() ? 0.0f : exp2_fast(x - greatest);
}

// A block's whole work. A query that sees no key gets zeros. With `probabilities`, `problem.probability(i, j, p)` is called
// for every query and key of the range, in a second pass over the keys.
template <int D, class P>
DEVICE void attend(const P& problem, u8* shared, bool probabilities) {
    Panel<D, P> panel(problem, shared);
    panel.load_queries();
    int lane = panel.lane;
    decltype(problem.query(0)) query[2] = {problem.query(panel.row[0]), problem.query(panel.row[1])};
    float greatest[2] = {-infinity(), -infinity()}, sum[2] = {0.0f, 0.0f};
    float s[KEYS / 8][4], result[D / 8][4] = {};

    for (int first = problem.first_key; first < problem.last_key; first += KEYS) {
        panel.scores(first, true, query, s);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float above = greatest[r];
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) above = fmaxf(above, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
            above = row_reduce(above, Greatest());
            float correction = power(greatest[r], above), total = 0.0f;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    float& x = s[n][2 * r + c];
                    x = power(x, above);
                    total += x;
                }
            sum[r] = sum[r] * correction + row_reduce(total, Sum());
            greatest[r] = above;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                result[n][2 * r] *= correction;
                result[n][2 * r + 1] *= correction;
            }
        }
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++) {
            const float(&left)[4] = s[2 * step], (&right)[4] = s[2 * step + 1];
            u32 p[4] = {pack_bf16(left[0], left[1]), pack_bf16(left[2], left[3]), pack_bf16(right[0], right[1]),
                        pack_bf16(right[2], right[3])};
#pragma unroll
            for (int n = 0; n < D / 8; n += 2) {
                u32 b[4];
                ldmatrix_transposed(b, panel.v + ((step * 16 + lane % 16) * (D + PAD) + n * 8 + lane / 16 * 8) * 2);
                mma(result[n], p, b);
                mma(result[n + 1], p, b + 2);
            }
        }
    }

#pragma unroll
    for (int r = 0; r < 2; r++) {
        int i = panel.row[r];
        if (i >= problem.queries) continue;
        float inverse = sum[r] > 0.0f ? 1.0f / sum[r] : 0.0f;
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            int column = n * 8 + lane % 4 * 2;
            if (column < problem.v_dim) problem.store(i, column, result[n][2 * r] * inverse, result[n][2 * r + 1] * inverse);
        }
        if (lane % 4 == 0) problem.finish(i, greatest[r], sum[r]);
    }
    if (!probabilities) return;
    for (int first = problem.first_key; first < problem.last_key; first += KEYS) {
        panel.scores(first, false, query, s);
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int i = panel.row[e / 2], j = first + n * 8 + lane % 4 * 2 + e % 2;
                if (i < problem.queries && j < problem.last_key)
                    problem.probability(i, j, sum[e / 2] > 0.0f ? power(s[n][e], greatest[e / 2]) / sum[e / 2] : 0.0f);
            }
    }
}

}  // namespace attention
