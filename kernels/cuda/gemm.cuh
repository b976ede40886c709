// A block's tile of C = A Bᵀ on tensor cores: 64 x 64 results by 4 warps of 32 x 32, two stages of operands in shared
// memory, the next stage on its way through registers (where weights are unpacked) while this one is multiplied.
#pragma once
#include "types.cuh"

namespace gemm {

constexpr int ROWS = 64, COLUMNS = 64, THREADS = 128;
// A row of a stage is 128 bytes deep (64 bf16 or 128 int8), and 16 longer so that rows of an ldmatrix lie in different banks.
constexpr int DEPTH_BYTES = 128, CHUNKS = DEPTH_BYTES / 16, STRIDE = DEPTH_BYTES + 16, TILE_BYTES = 64 * STRIDE;
// Quantisation groups of 32 elements in a stage of bf16.
constexpr int GROUPS = 2;
constexpr int SCALE_BYTES = COLUMNS * GROUPS * 4, STAGE_BYTES = 2 * TILE_BYTES + SCALE_BYTES;
constexpr int SHARED_BYTES = 2 * STAGE_BYTES;
constexpr int LOADS = 64 * CHUNKS / THREADS;

// acc[m][n] of lane 4 g + t holds rows 16 m + g (+ 8) and columns 8 n + 2 t (+ 1) of the warp's 32 x 32.
template <class C>
using Accumulators = C[2][4][4];

DEVICE int warp_row() { return threadIdx.x / 64 * 32; }
DEVICE int warp_column() { return threadIdx.x / 32 % 2 * 32; }

template <class C>
DEVICE void multiply_step(const u8* a, const u8* b, int step, Accumulators<C>& acc) {
    int lane = threadIdx.x % 32;
    u32 left[2][4], right[2][4];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        ldmatrix(left[i], a + (warp_row() + 16 * i + lane % 16) * STRIDE + step * 32 + lane / 16 * 16);
        ldmatrix(right[i], b + (warp_column() + 16 * i + lane % 8 + lane / 16 * 8) * STRIDE + step * 32 + lane / 8 % 2 * 16);
    }
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int n = 0; n < 4; n++) mma(acc[m][n], left[m], right[n / 2] + n % 2 * 2);
}

// Adds the product over `stages` stages to `acc`. `load_a(row, chunk)` and `load_b(column, chunk)` give the 16 bytes `chunk`
// of a row of the tile, zeros outside of the matrix. With GROUPED, products over 32 elements are multiplied by
// `scale(column, group)` before they are added.
template <class C, bool GROUPED, class LoadA, class LoadB, class Scale>
DEVICE void multiply(int stages, LoadA load_a, LoadB load_b, Scale scale, u8* shared, Accumulators<C>& acc) {
    Vec a[LOADS], b[LOADS];
    float s = 0.0f;
    auto fetch = [&](int stage) {
#pragma unroll
        for (int i = 0; i < LOADS; i++) {
            int at = threadIdx.x + i * THREADS, chunk = stage * CHUNKS + at % CHUNKS;
            a[i] = load_a(at / CHUNKS, chunk), b[i] = load_b(at / CHUNKS, chunk);
        }
        if (GROUPED) s = scale(threadIdx.x / GROUPS, stage * GROUPS + threadIdx.x % GROUPS);
    };
    auto put = [&](int stage) {
        u8* to = shared + stage % 2 * STAGE_BYTES;
#pragma unroll
        for (int i = 0; i < LOADS; i++) {
            int at = threadIdx.x + i * THREADS, place = at / CHUNKS * STRIDE + at % CHUNKS * 16;
            *reinterpret_cast<Vec*>(to + place) = a[i];
            *reinterpret_cast<Vec*>(to + TILE_BYTES + place) = b[i];
        }
        if (GROUPED) reinterpret_cast<float*>(to + 2 * TILE_BYTES)[threadIdx.x] = s;
    };
    fetch(0);
    put(0);
    __syncthreads();
    for (int stage = 0; stage < stages; stage++) {
        if (stage + 1 < stages) fetch(stage + 1);
        const u8* from = shared + stage % 2 * STAGE_BYTES;
        if constexpr (GROUPED) {
            const float* scales = reinterpret_cast<const float*>(from + 2 * TILE_BYTES);
#pragma unroll
            for (int group = 0; group < GROUPS; group++) {
                Accumulators<C> part = {};
                for (int i = 0; i < 2; i++) multiply_step<C>(from, from + TILE_BYTES, group * 2 + i, part);
#pragma unroll
                for (int n = 0; n < 4; n++)
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        float factor = scales[(warp_column() + n * 8 + threadIdx.x % 4 * 2 + e % 2) * GROUPS + group];
                        for (int m = 0; m < 2; m++) acc[m][n][e] += part[m][n][e] * factor;
                    }
            }
        } else {
#pragma unroll
            for (int step = 0; step < DEPTH_BYTES / 32; step++) multiply_step<C>(from, from + TILE_BYTES, step, acc);
        }
        if (stage + 1 < stages) put(stage + 1);
        __syncthreads();
    }
}

// Calls `store(row, column, x, y)` for this thread's pairs of neighbours, in the tile's coordinates.
template <class C, class Store>
DEVICE void for_each_pair(const Accumulators<C>& acc, Store store) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int n = 0; n < 4; n++)
#pragma unroll
            for (int r = 0; r < 2; r++)
                store(warp_row() + m * 16 + r * 8 + lane / 4, warp_column() + n * 8 + lane % 4 * 2, acc[m][n][2 * r],
                      acc[m][n][2 * r + 1]);
}

// For SwiGLU the tile's columns are 32 gates and the 32 values that they gate, ordered so that a thread holds both: of a
// warp's 32 columns the first 16 are gates. Row of the (2 inner, depth) weight that tile column `column` is.
DEVICE int gated_row(int column, int inner) {
    int output = blockIdx.x * (COLUMNS / 2) + column / 32 * 16 + column % 16;
    return output >= inner ? -1 : column % 32 < 16 ? output : output + inner;
}

// Calls `store(row, output, gate, value)` for this thread's results, `output` among the `inner` of the whole matrix.
template <class C, class Store>
DEVICE void for_each_gated(const Accumulators<C>& acc, Store store) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int n = 0; n < 2; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                store(warp_row() + m * 16 + e / 2 * 8 + lane / 4,
                      blockIdx.x * (COLUMNS / 2) + warp_column() / 2 + n * 8 + lane % 4 * 2 + e % 2, acc[m][n][e],
                      acc[m][n + 2][e]);
}

DEVICE float silu(float x) { return x / (1.0f + expf(-x)); }

}  // namespace gemm
