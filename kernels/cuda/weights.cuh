// Weights (out, in) as they lie in memory, and as bf16 operands of a product.
//
//   Bf16  bf16, row-major
//   Int8  i8, row-major; w = q * scale[row], scale f32
//   Int4  groups of 32 along `in` (which is a multiple of 32) of 16 bytes: byte i holds element i in its low and element
//         i + 16 in its high half, as q + 8; w = q * scale[row, group], scale f16 (GGUF's Q4_0 order)
//
// All arrays are 16-byte aligned. Both kinds of integers are exact in bf16. `GROUPED` says whether a scale belongs to 32 elements or to the whole row.
#pragma once
#include "types.cuh"

struct Bf16 {
    static constexpr bool GROUPED = false;
    const bf16* w;
    int in;

    DEVICE Vec load(i64 row, int k) const { return load_8(w + row * in + k, in - k); }
    DEVICE float row_scale(i64) const { return 1.0f; }
    DEVICE float group_scale(i64, int) const { return 1.0f; }
};

struct Int8 {
    static constexpr bool GROUPED = false;
    static constexpr int UNIT = 16;
    const i8* q;
    const float* scale;
    int in;

    DEVICE Vec load(i64 row, int k) const {
        const i8* from = q + row * in + k;
        float x[8];
        if (k + 8 <= in && (reinterpret_cast<u64>(from) & 7) == 0) {
            u64 packed = *reinterpret_cast<const u64*>(from);
            for (int i = 0; i < 8; i++) x[i] = static_cast<i8>(packed >> 8 * i);
        } else {
            for (int i = 0; i < 8; i++) x[i] = k + i < in ? from[i] : 0;
        }
        Vec r;
        for (int i = 0; i < 4; i++) r.word[i] = pack_bf16(x[2 * i], x[2 * i + 1]);
        return r;
    }
    DEVICE float row_scale(i64 row) const { return scale[row]; }
    DEVICE float group_scale(i64, int) const { return 1.0f; }

    // `UNIT` weights from k on, without the row's scale.
    DEVICE void unpack(i64 row, int k, float (&x)[UNIT]) const {
        const i8* from = q + row * in + k;
        if (k + UNIT <= in && is_aligned(from)) {
            Vec packed = *reinterpret_cast<const Vec*>(from);
            for (int i = 0; i < UNIT; i++) x[i] = static_cast<i8>(packed.word[i / 4] >> 8 * (i % 4));
        } else {
            for (int i = 0; i < UNIT; i++) x[i] = k + i < in ? from[i] : 0;
        }
    }
};

struct Int4 {
    static constexpr bool GROUPED = true;
    static constexpr int UNIT = 32;
    const u8* q;
    const f16* scale;
    int in;

    DEVICE Vec load(i64 row, int k) const {
        const u8* from = q + (row * in + k / 32 * 32) / 2 + k % 16;
        u64 packed = *reinterpret_cast<const u64*>(from) >> (k % 32 < 16 ? 0 : 4);
        Vec r;
        for (int i = 0; i < 4; i++) {
            int low = packed >> 16 * i & 15, high = packed >> (16 * i + 8) & 15;
            r.word[i] = pack_bf16(low - 8, high - 8);
        }
        return r;
    }
    DEVICE float row_scale(i64) const { return 1.0f; }
    DEVICE float group_scale(i64 row, int group) const { return to_float(scale[row * (in / 32) + group]); }

    // `UNIT` weights from k on.
    DEVICE void unpack(i64 row, int k, float (&x)[UNIT]) const {
        Vec packed = *reinterpret_cast<const Vec*>(q + (row * in + k) / 2);
        float s = group_scale(row, k / 32);
        for (int i = 0; i < 16; i++) {
            u32 byte = packed.word[i / 4] >> 8 * (i % 4) & 255;
            x[i] = s * (static_cast<int>(byte & 15) - 8);
            x[i + 16] = s * (static_cast<int>(byte >> 4) - 8);
        }
    }
};
