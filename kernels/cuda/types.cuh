// Number types and the instructions that C++ has no word for, without any NVIDIA header: the same sources go through
// nvcc, NVRTC (which has no include path) and, with `CUDA_ON_HOST`, an ordinary C++ compiler.
#pragma once

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// Stored as their bits; arithmetic is f32.
struct bf16 {
    u16 bits;
};
struct f16 {
    u16 bits;
};
// 16 bytes moved at once.
struct alignas(16) Vec {
    u32 word[4];
};

#ifdef CUDA_ON_HOST
#include "host/device.h"
#else

#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) u8 name[]
#define DEVICE __device__ __forceinline__
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
// With leave to use as many registers as `blocks` blocks of a multiprocessor can.
#define KERNEL_RESIDENT(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)

DEVICE float to_float(f16 x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}

// Two floats rounded to bf16, the first in the low half.
DEVICE u32 pack_bf16(float low, float high) {
    u32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float bits_to_float(u32 bits) { return __uint_as_float(bits); }
DEVICE u32 float_to_bits(float x) { return __float_as_uint(x); }

DEVICE u32 shared_address(const void* pointer) {
    u64 address;
    asm("cvta.to.shared.u64 %0, %1;" : "=l"(address) : "l"(pointer));
    return static_cast<u32>(address);
}

// c (16 x 8, f32) += a (16 x 16) b (16 x 8), bf16. Lane 4 g + t holds rows g and g + 8, columns 2 t and 2 t + 1 of c.
DEVICE void mma(float (&c)[4], const u32 (&a)[4], const u32* b) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The same with int8 operands, 32 of them deep, and exact int32 sums.
DEVICE void mma(int (&c)[4], const u32 (&a)[4], const u32* b) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8 (16 bytes, aligned).
DEVICE void ldmatrix(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

DEVICE void ldmatrix_transposed(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// Starts a copy of 16 bytes to shared memory; the bytes after the first `bytes` become zeros.
DEVICE void copy_async(void* shared, const void* global, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
                 : "memory");
}

DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `PENDING` of this thread's groups are unfinished.
template <int PENDING>
DEVICE void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

#endif

constexpr u32 ALL_LANES = 0xffffffffu;
constexpr float LOG2_E = 1.4426950408889634f;

DEVICE float infinity() { return bits_to_float(0x7f800000u); }
DEVICE int divide_up(int a, int b) { return (a + b - 1) / b; }
DEVICE int smaller(int a, int b) { return a < b ? a : b; }

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return bits_to_float(static_cast<u32>(x.bits) << 16); }

template <class T>
DEVICE T from_float(float x);
template <>
DEVICE float from_float<float>(float x) {
    return x;
}
template <>
DEVICE bf16 from_float<bf16>(float x) {
    return {static_cast<u16>(pack_bf16(x, 0.0f))};
}

// Stores two neighbours; `at` is even-aligned where T is bf16.
DEVICE void store_pair(float* at, float x, float y) { at[0] = x, at[1] = y; }
DEVICE void store_pair(bf16* at, float x, float y) { *reinterpret_cast<u32*>(at) = pack_bf16(x, y); }

DEVICE bool is_aligned(const void* pointer) { return (reinterpret_cast<u64>(pointer) & 15) == 0; }

// Eight numbers as bf16, from anywhere, those at and beyond `count` zeros.
DEVICE Vec load_8(const bf16* from, int count) {
    if (count >= 8 && is_aligned(from)) return *reinterpret_cast<const Vec*>(from);
    Vec r;
    for (int i = 0; i < 4; i++) {
        u32 low = 2 * i < count ? from[2 * i].bits : 0, high = 2 * i + 1 < count ? from[2 * i + 1].bits : 0;
        r.word[i] = low | high << 16;
    }
    return r;
}

DEVICE Vec load_8(const float* from, int count) {
    Vec r;
    if (count >= 8 && is_aligned(from)) {
        Vec a = reinterpret_cast<const Vec*>(from)[0], b = reinterpret_cast<const Vec*>(from)[1];
        for (int i = 0; i < 2; i++) {
            r.word[i] = pack_bf16(bits_to_float(a.word[2 * i]), bits_to_float(a.word[2 * i + 1]));
            r.word[i + 2] = pack_bf16(bits_to_float(b.word[2 * i]), bits_to_float(b.word[2 * i + 1]));
        }
        return r;
    }
    for (int i = 0; i < 4; i++)
        r.word[i] = pack_bf16(2 * i < count ? from[2 * i] : 0.0f, 2 * i + 1 < count ? from[2 * i + 1] : 0.0f);
    return r;
}

// ---- sums and greatest values, in an order that does not depend on anything but the number of threads

template <class T, class Combine>
DEVICE T warp_reduce(T x, Combine combine) {
    for (int step = 16; step > 0; step /= 2) x = combine(x, __shfl_xor_sync(ALL_LANES, x, step));
    return x;
}

struct Sum {
    template <class T>
    DEVICE T operator()(T a, T b) const {
        return a + b;
    }
};
struct Greatest {
    template <class T>
    DEVICE T operator()(T a, T b) const {
        return a < b ? b : a;
    }
};

// Over the block, known to all; `scratch` has a place for each warp. Whole warps only.
template <class T, class Combine>
DEVICE T block_reduce(T x, T* scratch, Combine combine) {
    x = warp_reduce(x, combine);
    int warps = blockDim.x / 32, warp = threadIdx.x / 32;
    if (threadIdx.x % 32 == 0) scratch[warp] = x;
    __syncthreads();
    T all = scratch[0];
    for (int w = 1; w < warps; w++) all = combine(all, scratch[w]);
    // The scratch may be written again as soon as this returns.
    __syncthreads();
    return all;
}
