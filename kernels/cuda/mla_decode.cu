// One decoding step of multi-head latent attention in absorbed form (DeepSeek-V2, arXiv 2405.04434): all heads attend to
// one key [c ; k^R] per token, whose first part is also the value.
//
//   q      (batch, heads, rank + rope) bf16     [W_UK^T q ; q^R]
//   cache  (batch, capacity, rank + rope) bf16  batch rows are `cache_batch` elements apart, tokens rank + rope
//   lengths (batch)                             tokens in the cache of each row; without any the result is zeros
//   out    (batch, heads, rank) bf16            W_UV acts on it afterwards; used when there is one split
//   partial (splits, batch, heads, rank) f32 and statistics (splits, batch, heads, 2) f32, for `attention_combine`
//
// rank and rope are multiples of 8; at most 512 and 64 (_r512) or 128 and 64 (_r128). All pointers 16-byte aligned.
// Launch: grid (ceil(heads / 16), splits, batch), 256 threads, shared bytes 80 * (R + 72) * 2 + 5696.
//
// The 16 heads of a block share each tile of 32 tokens, which arrives by asynchronous copies while the tile before is
// used. For the scores the 8 warps divide the tokens (4) and the depth (2); for the values they divide the columns.
#include "types.cuh"

namespace {

constexpr int HEADS = 16, TOKENS = 32, THREADS = 256, ROPE = 64;
constexpr int SCORE_STRIDE = TOKENS + 2, P_STRIDE = TOKENS + 8;

template <int R>
struct LatentShared {
    static constexpr int WIDTH = R + ROPE, STRIDE = WIDTH + 8;
    static constexpr int TILE_BYTES = TOKENS * STRIDE * 2;
    u8 *q, *tiles;      // two tiles of the cache, used in turn
    float* scores;      // (2, HEADS, SCORE_STRIDE): one partial sum for each half of the depth
    u8* p;              // (HEADS, P_STRIDE) bf16
    float* correction;  // (HEADS)

    DEVICE LatentShared(u8* shared) {
        q = shared;
        tiles = q + HEADS * STRIDE * 2;
        p = tiles + 2 * TILE_BYTES;
        scores = reinterpret_cast<float*>(p + HEADS * P_STRIDE * 2);
        correction = scores + 2 * HEADS * SCORE_STRIDE;
    }
    // Where the tile that begins `done` tokens after the first lies.
    DEVICE u8* tile(int done) const { return tiles + done / TOKENS % 2 * TILE_BYTES; }
};

// Rows of [rank ; rope] to rows of [R ; ROPE]. Chunks beyond either part, and rows beyond `rows`, become zeros.
template <int R>
DEVICE void copy_rows(u8* to, int count, const bf16* from, int rows, int rank, int rope) {
    using Shared = LatentShared<R>;
    constexpr int CHUNKS = Shared::WIDTH / 8;
    for (int i = threadIdx.x; i < count * CHUNKS; i += THREADS) {
        int row = i / CHUNKS, column = i % CHUNKS * 8;
        int source = column < R ? column : column - R + rank;
        bool there = row < rows && (column < R ? column < rank : column - R < rope);
        copy_async(to + (row * Shared::STRIDE + column) * 2, there ? from + static_cast<i64>(row) * (rank + rope) + source : from,
                   there ? 16 : 0);
    }
}

// Half of the depth of the scores of 16 heads and the 8 tokens of this warp.
template <int R>
DEVICE void score_tile(const LatentShared<R>& shared, const u8* tile) {
    constexpr int STRIDE = LatentShared<R>::STRIDE, STEPS = LatentShared<R>::WIDTH / 16 / 2;
    static_assert(STEPS % 2 == 0, "two steps are loaded at once");
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, n = warp % 4, half = warp / 4;
    float s[4] = {};
#pragma unroll
    for (int step = half * STEPS; step < (half + 1) * STEPS; step += 2) {
        u32 a[4], b[4];
        ldmatrix(b, tile + ((n * 8 + lane % 8) * STRIDE + step * 16 + lane / 8 * 8) * 2);
        for (int i = 0; i < 2; i++) {
            ldmatrix(a, shared.q + (lane % 16 * STRIDE + (step + i) * 16 + lane / 16 * 8) * 2);
            mma(s, a, b + 2 * i);
        }
    }
    for (int i = 0; i < 4; i++) {
        int head = lane / 4 + i / 2 * 8, token = n * 8 + lane % 4 * 2 + i % 2;
        shared.scores[(half * HEADS + head) * SCORE_STRIDE + token] = s[i];
    }
}

// Greatest score so far and sum of exponentials of head threadIdx.x / 16, known to its 16 threads.
struct Running {
    float greatest, sum;
};

template <int R>
DEVICE void softmax_tile(const LatentShared<R>& shared, Running& running, int count, float scale) {
    int head = threadIdx.x / 16, first = threadIdx.x % 16 * 2;
    float x[2], above = running.greatest, total = 0.0f;
    for (int i = 0; i < 2; i++) {
        const float* at = shared.scores + head * SCORE_STRIDE + first + i;
        x[i] = first + i < count ? (at[0] + at[HEADS * SCORE_STRIDE]) * scale : -infinity();
        above = fmaxf(above, x[i]);
    }
    for (int step = 8; step > 0; step /= 2) above = fmaxf(above, __shfl_xor_sync(ALL_LANES, above, step));
    for (int i = 0; i < 2; i++) total += x[i] = exp2_fast(x[i] - above);
    for (int step = 8; step > 0; step /= 2) total += __shfl_xor_sync(ALL_LANES, total, step);
    // A tile has at least one token, so that `above` is finite.
    float correction = exp2_fast(running.greatest - above);
    running = {above, running.sum * correction + total};
    *reinterpret_cast<u32*>(shared.p + (head * P_STRIDE + first) * 2) = pack_bf16(x[0], x[1]);
    if (threadIdx.x % 16 == 0) shared.correction[head] = correction;
}

template <int R>
DEVICE void value_tile(const LatentShared<R>& shared, const u8* tile, float (&result)[R / 64][4]) {
    constexpr int STRIDE = LatentShared<R>::STRIDE;
    int lane = threadIdx.x % 32, first = threadIdx.x / 32 * (R / 8);
    float upper = shared.correction[lane / 4], lower = shared.correction[lane / 4 + 8];
#pragma unroll
    for (int n = 0; n < R / 64; n++) {
        result[n][0] *= upper, result[n][1] *= upper;
        result[n][2] *= lower, result[n][3] *= lower;
    }
#pragma unroll
    for (int step = 0; step < TOKENS / 16; step++) {
        u32 p[4];
        ldmatrix(p, shared.p + (lane % 16 * P_STRIDE + step * 16 + lane / 16 * 8) * 2);
#pragma unroll
        for (int n = 0; n < R / 64; n += 2) {
            u32 b[4];
            ldmatrix_transposed(b, tile + ((step * 16 + lane % 16) * STRIDE + first + n * 8 + lane / 16 * 8) * 2);
            mma(result[n], p, b);
            mma(result[n + 1], p, b + 2);
        }
    }
}

template <int R>
DEVICE void mla_decode(const bf16* q, const bf16* cache, i64 cache_batch, const int* lengths, bf16* out, float* partial,
                       float* statistics, int heads, int rank, int rope, float scale, u8* memory) {
    LatentShared<R> shared(memory);
    int first_head = blockIdx.x * HEADS, split = blockIdx.y, splits = gridDim.y, b = blockIdx.z, batch = gridDim.z;
    int lane = threadIdx.x % 32, width = rank + rope, own_heads = smaller(HEADS, heads - first_head);
    int share = divide_up(divide_up(lengths[b], TOKENS), splits) * TOKENS;
    int begin = smaller(split * share, lengths[b]), end = smaller(begin + share, lengths[b]);
    const bf16* tokens = cache + b * cache_batch;

    auto start = [&](int first) {
        if (first < end)
            copy_rows<R>(shared.tile(first - begin), TOKENS, tokens + static_cast<i64>(first) * width, end - first,
                         rank, rope);
        copy_commit();
    };
    copy_rows<R>(shared.q, HEADS, q + (static_cast<i64>(b) * heads + first_head) * width, own_heads, rank, rope);
    start(begin);

    Running running = {-infinity(), 0.0f};
    float result[R / 64][4] = {};
    for (int first = begin; first < end; first += TOKENS) {
        const u8* tile = shared.tile(first - begin);
        start(first + TOKENS);
        copy_wait<1>();
        __syncthreads();
        score_tile(shared, tile);
        __syncthreads();
        softmax_tile(shared, running, end - first, scale * LOG2_E);
        __syncthreads();
        value_tile(shared, tile, result);
        __syncthreads();  // the next tile but one takes this one's place
    }

    i64 row = (static_cast<i64>(split) * batch + b) * heads + first_head;
    int own = threadIdx.x / 16;
    if (threadIdx.x % 16 == 0) {
        shared.correction[own] = running.sum > 0.0f ? 1.0f / running.sum : 0.0f;
        if (splits > 1 && own < own_heads) {
            statistics[(row + own) * 2] = running.greatest;
            statistics[(row + own) * 2 + 1] = running.sum;
        }
    }
    __syncthreads();
#pragma unroll
    for (int n = 0; n < R / 64; n++)
        for (int r = 0; r < 2; r++) {
            int head = lane / 4 + r * 8, column = threadIdx.x / 32 * (R / 8) + n * 8 + lane % 4 * 2;
            if (head >= own_heads || column >= rank) continue;
            float inverse = shared.correction[head], x = result[n][2 * r] * inverse, y = result[n][2 * r + 1] * inverse;
            if (splits > 1)
                store_pair(partial + (row + head) * rank + column, x, y);
            else
                store_pair(out + (row + head) * rank + column, x, y);
        }
}

}  // namespace

#define MLA_DECODE(NAME, R)                                                                                          \
    KERNEL(256)                                                                                                      \
    NAME(const bf16* q, const bf16* cache, i64 cache_batch, const int* lengths, bf16* out, float* partial,           \
         float* statistics, int heads, int rank, int rope, float scale) {                                            \
        DYNAMIC_SHARED(shared);                                                                                      \
        mla_decode<R>(q, cache, cache_batch, lengths, out, partial, statistics, heads, rank, rope, scale, shared);   \
    }

MLA_DECODE(mla_decode_r128, 128)
MLA_DECODE(mla_decode_r512, 512)
