// A CUDA device made of fibers: blocks run one after another, the threads of a block take turns at their barriers.
//
// What it finds: missing barriers (three schedules let threads run as far ahead of each other as the barriers allow),
// reads of shared memory that was never written (it is filled with NaNs before each block), reads of copies that were not
// waited for (they happen at the wait), collectives at which the lanes of a warp do not meet, and, under
// AddressSanitizer, any access outside of buffers and shared memory. What it cannot find: races between blocks.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "fiber.h"

#define __global__
#define __device__
#define DEVICE inline
#define KERNEL(threads) static void
#define KERNEL_RESIDENT(threads, blocks) static void
#define DYNAMIC_SHARED(name) u8* name = host::block->shared.data()

struct Index {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace host {

// In which order the threads that can run do run.
enum class Schedule { RoundRobin, WarpsUp, WarpsDown };
inline Schedule schedule = Schedule::RoundRobin;

enum class Waiting { Nothing, Warp, Block };
// Where lanes of a warp meet; they must meet at the same kind of place.
enum class Site { Barrier, Shuffle, Mma, Matrix };

struct Copy {
    void* to;
    const void* from;
    int bytes;
};

// What a lane shows to its warp at a collective.
struct Shown {
    Site site;
    u64 words[4];
};

struct Thread {
    Stack stack;
    Index index;
    bool done;
    Waiting waiting;
    Shown shown;
    // Groups of asynchronous copies that were not waited for; the last one is open.
    std::vector<std::vector<Copy>> copies;
};

struct Block {
    std::vector<Thread> threads;
    std::vector<u8> shared;
    Stack scheduler;
    Index index;
    dim3 size, grid;
    int current = 0;
    const std::function<void()>* kernel;
};

inline Block* block = nullptr;

inline Thread& self() { return block->threads[block->current]; }

[[noreturn]] inline void fail(const char* what) {
    std::fprintf(stderr, "device: %s (block %u %u %u)\n", what, block->index.x, block->index.y, block->index.z);
    std::exit(3);
}

inline void wait(Waiting what) {
    Thread& thread = self();
    thread.waiting = what;
    Stack::jump(thread.stack, block->scheduler);
}

inline void run_thread() {
    (*block->kernel)();
    self().done = true;
    Stack::jump(self().stack, block->scheduler);
    std::abort();
}

// Lets the threads of `first..last` go on if all that are left of them wait for `what`.
inline bool release(int first, int last, Waiting what) {
    bool any = false;
    for (int i = first; i < last; i++) {
        Thread& thread = block->threads[i];
        if (thread.done) continue;
        if (thread.waiting != what) return false;
        any = true;
    }
    for (int i = first; i < last; i++) block->threads[i].waiting = Waiting::Nothing;
    return any;
}

// Runs every thread of a warp to its next barrier; `greedy` warps go on through their own barriers.
inline bool run_warp(int first, int last, bool greedy) {
    bool progress = false;
    do {
        for (int i = first; i < last; i++) {
            Thread& thread = block->threads[i];
            if (thread.done || thread.waiting != Waiting::Nothing) continue;
            block->current = i;
            Stack::jump(block->scheduler, thread.stack);
            progress = true;
        }
    } while (release(first, last, Waiting::Warp) && greedy);
    return progress;
}

inline void run_block() {
    int threads = block->threads.size(), warps = (threads + 31) / 32;
    for (Thread& thread : block->threads) {
        thread.done = false;
        thread.waiting = Waiting::Nothing;
        thread.copies.assign(1, {});
        thread.stack.start(run_thread);
    }
    for (;;) {
        bool progress = false;
        for (int i = 0; i < warps; i++) {
            int first = 32 * (schedule == Schedule::WarpsDown ? warps - 1 - i : i);
            int last = first + 32 < threads ? first + 32 : threads;
            progress |= run_warp(first, last, schedule != Schedule::RoundRobin);
        }
        progress |= release(0, threads, Waiting::Block);
        if (progress) continue;
        for (Thread& thread : block->threads)
            if (!thread.done) fail("stuck: not all threads of a warp or block reach a barrier");
        return;
    }
}

// kernel<<<grid, size, shared_bytes>>>
inline void launch(dim3 grid, dim3 size, size_t shared_bytes, const std::function<void()>& kernel) {
    Block running;
    block = &running;
    running.threads.resize(size.x * size.y * size.z);
    running.size = size;
    running.grid = grid;
    running.kernel = &kernel;
    for (unsigned i = 0; i < running.threads.size(); i++)
        running.threads[i].index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                running.index = {x, y, z};
                // NaN as bf16 and as f32. A vector of exactly this size, so that AddressSanitizer sees its end.
                running.shared.assign(shared_bytes, 0xff);
                run_block();
            }
    for (Thread& thread : running.threads) thread.stack.release();
    block = nullptr;
}

inline void require_that(bool ok, const char* what) {
    if (!ok) fail(what);
}

// The lanes of the caller's warp.
inline int first_lane() { return block->current & ~31; }

// Shows `value` to the warp, calls `read` when all lanes have shown theirs, and returns when all have read.
template <class T, class Read>
inline auto meet(Site site, const T& value, Read read) {
    static_assert(sizeof(T) <= sizeof(Shown::words), "too large to show");
    Thread& me = self();
    me.shown.site = site;
    std::memcpy(me.shown.words, &value, sizeof(T));
    wait(Waiting::Warp);
    auto of_lane = [](int lane) {
        T shown;
        std::memcpy(&shown, block->threads[first_lane() + lane].shown.words, sizeof(T));
        return shown;
    };
    if (block->threads.size() < static_cast<size_t>(first_lane() + 32)) fail("a collective of an incomplete warp");
    for (int lane = 0; lane < 32; lane++) {
        const Thread& other = block->threads[first_lane() + lane];
        if (other.done || other.shown.site != site) fail("the lanes of a warp meet at different instructions");
    }
    auto result = read(of_lane);
    wait(Waiting::Warp);
    return result;
}

}  // namespace host

#define threadIdx (host::self().index)
#define blockIdx (host::block->index)
#define blockDim (host::block->size)
#define gridDim (host::block->grid)

inline void __syncthreads() { host::wait(host::Waiting::Block); }
inline void __syncwarp(u32 = 0) {
    host::meet(host::Site::Barrier, 0, [](auto) { return 0; });
}

template <class T>
inline T __shfl_sync(u32, T x, int lane) {
    return host::meet(host::Site::Shuffle, x, [&](auto of_lane) { return of_lane(lane & 31); });
}
template <class T>
inline T __shfl_xor_sync(u32 mask, T x, int step) {
    return __shfl_sync(mask, x, (threadIdx.x & 31) ^ step);
}
template <class T>
inline T __shfl_up_sync(u32 mask, T x, int step) {
    int lane = threadIdx.x & 31;
    return __shfl_sync(mask, x, lane < step ? lane : lane - step);
}
inline u32 __ballot_sync(u32, bool x) {
    return host::meet(host::Site::Shuffle, u32(x), [](auto of_lane) {
        u32 all = 0;
        for (int lane = 0; lane < 32; lane++) all |= of_lane(lane) << lane;
        return all;
    });
}
inline int __popc(u32 x) { return __builtin_popcount(x); }
inline int __ffs(u32 x) { return __builtin_ffs(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

// Blocks and threads take turns, so that a plain addition is atomic.
template <class T>
inline T atomicAdd(T* to, T x) {
    T old = *to;
    *to = old + x;
    return old;
}

inline float bits_to_float(u32 bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
inline u32 float_to_bits(float x) {
    u32 bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

inline float to_float(f16 x) {
    int exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
    float magnitude = exponent == 0    ? std::ldexp(float(fraction), -24)
                      : exponent == 31 ? (fraction ? NAN : INFINITY)
                                       : std::ldexp(float(fraction + 1024), exponent - 25);
    return x.bits >> 15 ? -magnitude : magnitude;
}

// Round to nearest, ties to even, as cvt.rn.
inline u16 round_to_bf16(float x) {
    u32 bits = float_to_bits(x);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
    return static_cast<u16>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline u32 pack_bf16(float low, float high) { return round_to_bf16(low) | u32(round_to_bf16(high)) << 16; }
inline float exp2_fast(float x) { return std::exp2(x); }

namespace host {

struct Fragments {
    u32 a[4], b[2];
};

// Element `i` of a register: two bf16 or four int8.
template <class C>
inline C element(u32 word, int i);
template <>
inline float element<float>(u32 word, int i) {
    return bits_to_float((word >> 16 * i & 0xffff) << 16);
}
template <>
inline int element<int>(u32 word, int i) {
    return static_cast<i8>(word >> 8 * i & 0xff);
}

}  // namespace host

// A fragment's register r of lane 4 g + t: row g (+ 8 for odd r), bytes 4 t (+ 16 for r >= 2) of a's 32-byte rows.
template <class C>
inline void mma(C (&c)[4], const u32 (&a)[4], const u32* b) {
    host::Fragments mine;
    std::memcpy(mine.a, a, 16);
    std::memcpy(mine.b, b, 8);
    host::meet(host::Site::Mma, mine, [&](auto of_lane) {
        constexpr int PER_WORD = sizeof(C) == 4 && C(0.5f) == C(0) ? 4 : 2;
        int lane = threadIdx.x & 31, g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) {
            int column = 2 * t + (i & 1);
            C sum = 0;
            for (int word = 0; word < 8; word++) {
                u32 x = of_lane(4 * g + word % 4).a[word / 4 * 2 + i / 2];
                u32 y = of_lane(4 * column + word % 4).b[word / 4];
                for (int e = 0; e < PER_WORD; e++) sum += host::element<C>(x, e) * host::element<C>(y, e);
            }
            c[i] += sum;
        }
        return 0;
    });
}

namespace host {

template <bool TRANSPOSED>
inline void load_matrices(u32 (&r)[4], const void* row) {
    require_that((reinterpret_cast<uintptr_t>(row) & 15) == 0, "ldmatrix of an unaligned row");
    meet(Site::Matrix, row, [&](auto of_lane) {
        int lane = threadIdx.x & 31, major = lane / 4, minor = lane % 4 * 2;
        for (int matrix = 0; matrix < 4; matrix++) {
            u16 pair[2];
            for (int i = 0; i < 2; i++) {
                int from = TRANSPOSED ? minor + i : major, column = TRANSPOSED ? major : minor + i;
                std::memcpy(&pair[i], static_cast<const u8*>(of_lane(8 * matrix + from)) + 2 * column, 2);
            }
            r[matrix] = pair[0] | u32(pair[1]) << 16;
        }
        return 0;
    });
}

}  // namespace host

inline void ldmatrix(u32 (&r)[4], const void* row) { host::load_matrices<false>(r, row); }
inline void ldmatrix_transposed(u32 (&r)[4], const void* row) { host::load_matrices<true>(r, row); }

inline void copy_async(void* shared, const void* global, int bytes) {
    host::require_that(((reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global)) & 15) == 0,
                              "asynchronous copy of unaligned bytes");
    host::self().copies.back().push_back({shared, global, bytes});
}
inline void copy_commit() { host::self().copies.emplace_back(); }

// The latest moment at which the hardware may have made the copies is also the one that shows a missing wait.
template <int PENDING>
inline void copy_wait() {
    auto& groups = host::self().copies;
    while (groups.size() > PENDING + 1) {
        for (const host::Copy& copy : groups.front()) {
            std::memset(copy.to, 0, 16);
            std::memcpy(copy.to, copy.from, copy.bytes);
        }
        groups.erase(groups.begin());
    }
}
