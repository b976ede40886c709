// A mixture of experts (DeepSeekMoE, arXiv 2401.06066; DeepSeek-V3's routing, arXiv 2412.19437) on N tokens, in five launches:
//
// moe_route     logits (N, experts) f32 to chosen (N, k) i32, ascending, and weights (N, k) f32
//               bias (experts) f32 or null moves the choice but not the weights. Groups of experts in order; where kept_groups
//               < groups, only the best groups count, by their greatest or (rank_by_two) the sum of their two greatest.
//               Of equals the lower index wins. Launch: grid (ceil(N / 4)), 128 threads, shared bytes 32 * experts;
//               groups at most 32, at least k experts in the kept groups.
// moe_dispatch  chosen to order (N k) i32: the pairs token * k + choice by expert, in order, and offsets (experts + 1).
//               Launch: grid (experts), whole warps up to 1024 threads, shared bytes 384.
// moe_gate_up_* x (N, dim) to inner (N k, width) bf16 in the order of `order`: weight * silu(gate) * value; W is
//               (experts, 2 width, dim), gates first. Launch: grid (ceil(width / 32), ceil(N k / 64) + experts), 128 threads,
//               shared bytes 37888. (W_down is linear: weighting its narrow input is cheaper than its output.)
// moe_down_*    inner to pairs (N k, dim) f32, in the order of tokens; W is (experts, dim, width).
//               Launch: grid (ceil(dim / 64), as above), 128 threads, shared bytes 37888.
// moe_combine_* pairs to y (N, dim) = the sum over a token's choices, in order, + shared (N, dim) of y's type, or null.
//               Launch: any one-dimensional grid and block; no shared memory.
//
// Weights are bf16, int8 or int4 (weights.cuh), the experts' rows one after another.
#include "gemm.cuh"
#include "weights.cuh"

struct Routing {
    int experts, top_k, sigmoid, groups, kept_groups, rank_by_two, normalize;
    float factor;
};

namespace {

// One warp a token. `score` and `choice` hold `experts` numbers each.
DEVICE void route(const float* logits, const float* bias, int* chosen, float* weights, Routing r, float* score, float* choice) {
    int lane = threadIdx.x % 32, size = r.experts / r.groups;
    float greatest = -infinity(), sum = 0.0f;
    for (int e = lane; e < r.experts; e += 32) greatest = fmaxf(greatest, logits[e]);
    greatest = warp_reduce(greatest, Greatest());
    for (int e = lane; e < r.experts; e += 32) {
        score[e] = r.sigmoid ? 1.0f / (1.0f + expf(-logits[e])) : expf(logits[e] - greatest);
        sum += score[e];
    }
    sum = warp_reduce(sum, Sum());
    for (int e = lane; e < r.experts; e += 32) {
        if (!r.sigmoid) score[e] /= sum;
        choice[e] = score[e] + (bias ? bias[e] : 0.0f);
    }
    __syncwarp();
    if (r.kept_groups < r.groups) {
        float best = -infinity(), second = -infinity();
        for (int i = 0; lane < r.groups && i < size; i++) {
            float x = choice[lane * size + i];
            if (x > best)
                second = best, best = x;
            else if (x > second)
                second = x;
        }
        float rank = r.rank_by_two && size > 1 ? best + second : best;
        int better = 0;
        for (int g = 0; g < r.groups; g++) {
            float other = __shfl_sync(ALL_LANES, rank, g);
            better += other > rank || (other == rank && g < lane);
        }
        u32 kept = __ballot_sync(ALL_LANES, better < r.kept_groups);
        for (int e = lane; e < r.experts; e += 32)
            if (!(kept >> e / size & 1)) choice[e] = -infinity();
        __syncwarp();
    }
    // An expert is chosen when fewer than k come before it; the chosen are written in ascending order.
    int written = 0;
    float total = 0.0f;
    for (int first = 0; first < r.experts; first += 32) {
        int e = first + lane, better = 0;
        for (int other = 0; e < r.experts && other < r.experts; other++)
            better += choice[other] > choice[e] || (choice[other] == choice[e] && other < e);
        bool is_chosen = e < r.experts && better < r.top_k;
        u32 all = __ballot_sync(ALL_LANES, is_chosen);
        if (is_chosen) {
            int place = written + __popc(all & ((1u << lane) - 1));
            chosen[place] = e, weights[place] = score[e];
            total += score[e];
        }
        written += __popc(all);
    }
    total = warp_reduce(total, Sum());
    __syncwarp();
    float factor = r.normalize ? r.factor / (total + 1e-20f) : r.factor;
    for (int i = lane; i < r.top_k; i += 32) weights[i] *= factor;
}

// One block an expert: how many pairs go to those before it, then its own pairs in order.
DEVICE void dispatch(const int* chosen, int* order, int* offsets, int pairs, int* scratch) {
    int expert = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    int before = 0, own = 0;
    for (int i = threadIdx.x; i < pairs; i += blockDim.x) before += chosen[i] < expert, own += chosen[i] == expert;
    before = block_reduce(before, scratch, Sum());
    own = block_reduce(own, scratch, Sum());
    if (threadIdx.x == 0) {
        offsets[expert] = before;
        if (expert + 1 == static_cast<int>(gridDim.x)) offsets[expert + 1] = before + own;
    }
    for (int first = 0; first < pairs; first += blockDim.x) {
        int i = first + threadIdx.x;
        bool mine = i < pairs && chosen[i] == expert;
        u32 all = __ballot_sync(ALL_LANES, mine);
        if (lane == 0) scratch[warp] = __popc(all);
        __syncthreads();
        int place = before + __popc(all & ((1u << lane) - 1));
        for (int w = 0; w < warps; w++) {
            if (w < warp) place += scratch[w];
            before += scratch[w];
        }
        if (mine) order[place] = i;
        __syncthreads();  // the counts have been read
    }
}

// The 64 pairs that block row blockIdx.y works on.
struct Tile {
    int expert, first, count;  // count 0: none
};

// Tiles are numbered expert by expert; each warp finds its block's by a running total over 32 experts at a time.
DEVICE Tile find_tile(const int* offsets, int experts) {
    int lane = threadIdx.x % 32, tile = blockIdx.y;
    for (int first = 0; first < experts; first += 32) {
        int e = first + lane, tiles = e < experts ? divide_up(offsets[e + 1] - offsets[e], gemm::ROWS) : 0, up_to = tiles;
        for (int step = 1; step < 32; step *= 2) {
            int below = __shfl_up_sync(ALL_LANES, up_to, step);
            if (lane >= step) up_to += below;
        }
        u32 past = __ballot_sync(ALL_LANES, up_to > tile);
        if (past) {
            int found = __ffs(past) - 1, expert = first + found;
            int at = offsets[expert] + (tile - __shfl_sync(ALL_LANES, up_to - tiles, found)) * gemm::ROWS;
            return {expert, at, smaller(gemm::ROWS, offsets[expert + 1] - at)};
        }
        tile -= __shfl_sync(ALL_LANES, up_to, 31);
    }
    return {0, 0, 0};
}

template <class T, class W>
DEVICE void gate_up(const T* x, W w, const int* order, const int* offsets, const float* weights, bf16* inner, int experts, int top_k,
                    int width, u8* shared) {
    Tile tile = find_tile(offsets, experts);
    if (tile.count == 0) return;
    int dim = w.in;
    i64 first_row = static_cast<i64>(tile.expert) * 2 * width;
    auto load_a = [&](int row, int chunk) {
        if (row >= tile.count || chunk * 8 >= dim) return Vec{};
        return load_8(x + static_cast<i64>(order[tile.first + row] / top_k) * dim + chunk * 8, dim - chunk * 8);
    };
    auto load_b = [&](int column, int chunk) {
        int row = gemm::gated_row(column, width);
        return row >= 0 && chunk * 8 < dim ? w.load(first_row + row, chunk * 8) : Vec{};
    };
    auto scale = [&](int column, int group) {
        int row = gemm::gated_row(column, width);
        return row >= 0 && group * 32 < dim ? w.group_scale(first_row + row, group) : 0.0f;
    };
    float acc[2][4][4] = {};
    gemm::multiply<float, W::GROUPED>(divide_up(dim, 64), load_a, load_b, scale, shared, acc);
    gemm::for_each_gated<float>(acc, [&](int row, int column, float gate, float value) {
        if (row >= tile.count || column >= width) return;
        gate *= w.row_scale(first_row + column), value *= w.row_scale(first_row + width + column);
        int pair = tile.first + row;
        inner[static_cast<i64>(pair) * width + column] = from_float<bf16>(weights[order[pair]] * gemm::silu(gate) * value);
    });
}

template <class W>
DEVICE void down(const bf16* inner, W w, const int* order, const int* offsets, float* pairs, int experts, int dim, u8* shared) {
    Tile tile = find_tile(offsets, experts);
    if (tile.count == 0) return;
    int width = w.in, first = blockIdx.x * gemm::COLUMNS;
    i64 first_row = static_cast<i64>(tile.expert) * dim;
    auto load_a = [&](int row, int chunk) {
        if (row >= tile.count || chunk * 8 >= width) return Vec{};
        return load_8(inner + static_cast<i64>(tile.first + row) * width + chunk * 8, width - chunk * 8);
    };
    auto load_b = [&](int column, int chunk) {
        return first + column < dim && chunk * 8 < width ? w.load(first_row + first + column, chunk * 8) : Vec{};
    };
    auto scale = [&](int column, int group) {
        return first + column < dim && group * 32 < width ? w.group_scale(first_row + first + column, group) : 0.0f;
    };
    float acc[2][4][4] = {};
    gemm::multiply<float, W::GROUPED>(divide_up(width, 64), load_a, load_b, scale, shared, acc);
    gemm::for_each_pair<float>(acc, [&](int row, int column, float u, float v) {
        column += first;
        if (row >= tile.count || column >= dim) return;
        float* to = pairs + static_cast<i64>(order[tile.first + row]) * dim + column;
        to[0] = u * w.row_scale(first_row + column);
        if (column + 1 < dim) to[1] = v * w.row_scale(first_row + column + 1);
    });
}

template <class T>
DEVICE void combine(const float* pairs, const T* shared, T* y, i64 tokens, int top_k, int dim) {
    for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < tokens * dim;
         i += static_cast<i64>(gridDim.x) * blockDim.x) {
        float sum = 0.0f;
        for (int choice = 0; choice < top_k; choice++) sum += pairs[(i / dim * top_k + choice) * dim + i % dim];
        y[i] = from_float<T>(shared ? sum + to_float(shared[i]) : sum);
    }
}

}  // namespace

KERNEL(128) moe_route(const float* logits, const float* bias, int* chosen, float* weights, Routing routing, int tokens) {
    DYNAMIC_SHARED(shared);
    int warp = threadIdx.x / 32, token = blockIdx.x * 4 + warp;
    if (token >= tokens) return;
    float* score = reinterpret_cast<float*>(shared) + warp * 2 * routing.experts;
    i64 first = static_cast<i64>(token) * routing.top_k;
    route(logits + static_cast<i64>(token) * routing.experts, bias, chosen + first, weights + first, routing, score,
          score + routing.experts);
}

KERNEL(1024) moe_dispatch(const int* chosen, int* order, int* offsets, int pairs) {
    DYNAMIC_SHARED(shared);
    dispatch(chosen, order, offsets, pairs, reinterpret_cast<int*>(shared));
}

#define MOE_GATE_UP(FORMAT, BLOCKS, WEIGHTS, SUFFIX, T, ...)                                                           \
    KERNEL_RESIDENT(128, BLOCKS)                                                                                       \
    moe_gate_up_##FORMAT##_##SUFFIX(const T* x, __VA_ARGS__, const int* order, const int* offsets, const float* weights, \
                                    bf16* inner, int experts, int top_k, int in, int width) {                          \
        DYNAMIC_SHARED(shared);                                                                                        \
        gate_up(x, WEIGHTS, order, offsets, weights, inner, experts, top_k, width, shared);                            \
    }

#define MOE_DOWN(FORMAT, BLOCKS, WEIGHTS, ...)                                                                         \
    KERNEL_RESIDENT(128, BLOCKS)                                                                                       \
    moe_down_##FORMAT(const bf16* inner, __VA_ARGS__, const int* order, const int* offsets, float* pairs, int experts, \
                      int in, int dim) {                                                                               \
        DYNAMIC_SHARED(shared);                                                                                        \
        down(inner, WEIGHTS, order, offsets, pairs, experts, dim, shared);                                             \
    }

#define MOE_FORMAT(FORMAT, BLOCKS, WEIGHTS, ...)                   \
    MOE_GATE_UP(FORMAT, BLOCKS, WEIGHTS, f32, float, __VA_ARGS__)  \
    MOE_GATE_UP(FORMAT, BLOCKS, WEIGHTS, bf16, bf16, __VA_ARGS__)  \
    MOE_DOWN(FORMAT, BLOCKS, WEIGHTS, __VA_ARGS__)

// Without these numbers of blocks the compiler aims at one more, and spills.
MOE_FORMAT(bf16, 3, (Bf16{w, in}), const bf16* w)
MOE_FORMAT(i8, 3, (Int8{w, scale, in}), const i8* w, const float* scale)
MOE_FORMAT(i4, 2, (Int4{w, scale, in}), const u8* w, const f16* scale)

KERNEL(1024) moe_combine_f32(const float* pairs, const float* shared, float* y, i64 tokens, int top_k, int dim) {
    combine(pairs, shared, y, tokens, top_k, dim);
}

KERNEL(1024) moe_combine_bf16(const float* pairs, const bf16* shared, bf16* y, i64 tokens, int top_k, int dim) {
    combine(pairs, shared, y, tokens, top_k, dim);
}
