// Times of the kernels on a GPU, beside the ceilings that the same card reaches: copying for bytes, cuda's own clock for time.
#include "../cross_attention.cu"
#include "../mla_decode.cu"
#include "../norms.cu"
#include "../quant_linear.cu"
#include "../window_attention.cu"

#include <algorithm>
#include <cstdio>
#include <vector>

#include "launch.h"

// Device memory full of small numbers of any type.
template <class T>
T* device(size_t count) {
    void* memory;
    require(cudaMalloc(&memory, count * sizeof(T)));
    std::vector<u8> bytes(count * sizeof(T));
    u64 state = 1;
    for (size_t i = 0; i < bytes.size(); i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        // Every second byte is the upper one of a bf16 or f16 (or of an f32's upper half): about 0.1, of either sign.
        bytes[i] = i % 2 ? 0x3d | (state >> 40 & 0x80) : state >> 33;
    }
    require(cudaMemcpy(memory, bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
    return static_cast<T*>(memory);
}

// Median time of 50 launches after 5, in microseconds.
template <class Launch>
double time(Launch launch) {
    cudaEvent_t from, to;
    require(cudaEventCreate(&from));
    require(cudaEventCreate(&to));
    std::vector<float> all;
    for (int i = 0; i < 55; i++) {
        require(cudaEventRecord(from));
        launch();
        require(cudaEventRecord(to));
        require(cudaEventSynchronize(to));
        float milliseconds;
        require(cudaEventElapsedTime(&milliseconds, from, to));
        if (i >= 5) all.push_back(milliseconds);
    }
    require(cudaGetLastError());
    std::sort(all.begin(), all.end());
    return all[all.size() / 2] * 1e3;
}

void report(const char* what, double microseconds, double bytes, double operations) {
    std::printf("%-44s %9.1f us %8.1f GB/s %8.1f TFLOP/s\n", what, microseconds, bytes / microseconds * 1e-3,
                operations / microseconds * 1e-6);
}

template <class... Parameters>
void allow(void (*kernel)(Parameters...), int shared) {
    require(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared));
}

void copy() {
    size_t bytes = size_t(1) << 30;
    u8 *from = device<u8>(bytes), *to = device<u8>(bytes);
    report("copy of 1 GiB (the ceiling for bytes)", time([&] { cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice); }),
           2.0 * bytes, 0);
    cudaFree(from), cudaFree(to);
}

void window(int batch, int size, int heads) {
    int dim = 32, tokens = size * size, offsets = 13 * 13;
    bf16 *qkv = device<bf16>(size_t(batch) * tokens * 3 * heads * dim), *out = device<bf16>(size_t(batch) * tokens * heads * dim);
    float* table = device<float>(offsets * heads);
    int shared = 3 * 64 * 40 * 2 + 512 + offsets * 4;
    Map map{size, size, 7, 7, 3, 3, 0, -100};
    double count = double(batch) * tokens * heads * dim;
    auto launch = [&] {
        window_attention_bf16_d32<<<dim3(size / 7 * (size / 7), heads, batch), 128, shared>>>(qkv, nullptr, table, nullptr, out, map,
                                                                                              heads, dim);
    };
    char what[80];
    std::snprintf(what, sizeof what, "window attention %dx%d, %d heads, batch %d", size, size, heads, batch);
    report(what, time(launch), count * 4 * 2, count * 49 * 4);
    cudaFree(qkv), cudaFree(out), cudaFree(table);
}

void cross(int batch, int tokens, int keys) {
    int heads = 16, kv_heads = 4, dim = 64, shared = 3 * 64 * 72 * 2 + 512;
    size_t queries = size_t(batch) * tokens * heads * dim, cached = size_t(batch) * keys * kv_heads * dim;
    bf16 *q = device<bf16>(queries), *k = device<bf16>(cached), *v = device<bf16>(cached), *out = device<bf16>(queries);
    Strides rows{i64(tokens) * heads * dim, i64(heads) * dim, dim}, cache{i64(keys) * kv_heads * dim, i64(kv_heads) * dim, dim};
    auto launch = [&] {
        cross_attention_bf16_d64<<<dim3((tokens * 4 + 63) / 64, kv_heads, batch), 128, shared>>>(
            q, rows, k, cache, v, cache, nullptr, nullptr, nullptr, out, nullptr, Sizes{tokens, keys, heads, kv_heads, dim, dim}, 0.125f);
    };
    char what[80];
    std::snprintf(what, sizeof what, "cross-attention %d tokens, %d keys, batch %d", tokens, keys, batch);
    report(what, time(launch), (queries + cached) * 4.0, double(queries) * keys * 4);
    cudaFree(q), cudaFree(k), cudaFree(v), cudaFree(out);
}

void latent(int batch, int tokens, int splits) {
    int heads = 16, rank = 512, rope = 64, width = rank + rope, shared = 80 * (512 + 72) * 2 + 5696;
    bf16 *q = device<bf16>(size_t(batch) * heads * width), *cache = device<bf16>(size_t(batch) * tokens * width);
    float *partial = device<float>(size_t(splits) * batch * heads * rank), *statistics = device<float>(size_t(splits) * batch * heads * 2);
    bf16* out = device<bf16>(size_t(batch) * heads * rank);
    int* lengths = device<int>(batch);
    std::vector<int> all(batch, tokens);
    require(cudaMemcpy(lengths, all.data(), batch * 4, cudaMemcpyHostToDevice));
    allow(mla_decode_r512, shared);
    auto launch = [&] {
        mla_decode_r512<<<dim3(1, splits, batch), 256, shared>>>(q, cache, i64(tokens) * width, lengths, out, partial, statistics, heads,
                                                                rank, rope, 0.1f);
    };
    char what[80];
    std::snprintf(what, sizeof what, "MLA decode %d tokens, batch %d, %d splits", tokens, batch, splits);
    report(what, time(launch), double(batch) * tokens * width * 2, double(batch) * heads * tokens * (width + rank) * 2);
    cudaFree(q), cudaFree(cache), cudaFree(partial), cudaFree(statistics), cudaFree(out), cudaFree(lengths);
}

void linear(int rows, int in, int out) {
    bf16 *x = device<bf16>(size_t(rows) * in), *y = device<bf16>(size_t(rows) * out);
    u8* q = device<u8>(size_t(in) * out);
    float* row_scale = device<float>(out);
    f16* group_scale = device<f16>(size_t(in) * out / 32);
    dim3 grid((out + 63) / 64, (rows + 63) / 64), lines((out + 15) / 16);
    double operations = 2.0 * rows * in * out;
    auto show = [&](const char* format, double bits, auto launch) {
        char what[80];
        std::snprintf(what, sizeof what, "linear %s %d x %d x %d", format, rows, in, out);
        report(what, time(launch), double(in) * out * bits / 8, operations);
    };
    const i8* q8 = reinterpret_cast<i8*>(q);
    show("int8", 8, [&] { linear_i8_bf16<<<grid, 128, 37888>>>(x, q8, row_scale, Epilogue{}, y, rows, in, out); });
    show("int4", 4.5, [&] { linear_i4_bf16<<<grid, 128, 37888>>>(x, q, group_scale, Epilogue{}, y, rows, in, out); });
    if (rows <= 4) {
        show("int8 (vector)", 8, [&] { vector_i8_bf16<<<lines, 128>>>(x, q8, row_scale, Epilogue{}, y, rows, in, out); });
        show("int4 (vector)", 4.5, [&] { vector_i4_bf16<<<lines, 128>>>(x, q, group_scale, Epilogue{}, y, rows, in, out); });
    }
    cudaFree(x), cudaFree(y), cudaFree(q), cudaFree(row_scale), cudaFree(group_scale);
}

void norm_rows(int rows, int dim) {
    float *x = device<float>(size_t(rows) * dim), *weight = device<float>(dim);
    bf16* y = device<bf16>(size_t(rows) * dim);
    double microseconds = time([&] {
        rms_norm_f32_bf16<<<rows, 256, (dim + 32) * 4>>>(x, nullptr, nullptr, weight, nullptr, y, dim, 1e-5f);
    });
    char what[80];
    std::snprintf(what, sizeof what, "RMS norm of %d x %d", rows, dim);
    report(what, microseconds, double(rows) * dim * 6, 0);
    cudaFree(x), cudaFree(weight), cudaFree(y);
}

int main() {
    cudaDeviceProp card;
    require(cudaGetDeviceProperties(&card, 0));
    std::printf("%s, %d multiprocessors\n", card.name, card.multiProcessorCount);
    copy();
    // Swin-B at 224 pixels, stage by stage.
    for (int stage = 0; stage < 4; stage++) window(32, 56 >> stage, 4 << stage);
    cross(8, 1, 784), cross(8, 128, 784);
    latent(1, 4096, 32), latent(32, 4096, 4);
    linear(1, 4096, 4096), linear(8, 4096, 4096), linear(512, 4096, 4096);
    norm_rows(4096, 2048);
}
