// Joins results over parts of the keys into the result over all of them, in the order of the parts.
//
//   partial (splits, rows, width) f32: each divided by its own sum of exponentials
//   statistics (splits, rows, 2) f32: greatest score in units of log 2, and the sum of exponentials relative to it
//   out (rows, width)
//
// Launch: grid (rows), any number of threads up to 1024, no shared memory.
#include "types.cuh"

namespace {

template <class T>
DEVICE void combine(const float* partial, const float* statistics, T* out, int rows, int width, int splits) {
    int row = blockIdx.x;
    auto statistic = [&](int split, int which) { return statistics[(static_cast<i64>(split) * rows + row) * 2 + which]; };
    float greatest = -infinity(), total = 0.0f;
    for (int s = 0; s < splits; s++) greatest = fmaxf(greatest, statistic(s, 0));
    auto weight = [&](int s) {
        float x = statistic(s, 0);
        return x == -infinity() ? 0.0f : exp2_fast(x - greatest) * statistic(s, 1);
    };
    for (int s = 0; s < splits; s++) total += weight(s);
    float inverse = total > 0.0f ? 1.0f / total : 0.0f;
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        float sum = 0.0f;
        for (int s = 0; s < splits; s++) sum += weight(s) * partial[(static_cast<i64>(s) * rows + row) * width + column];
        out[static_cast<i64>(row) * width + column] = from_float<T>(sum * inverse);
    }
}

}  // namespace

KERNEL(1024)
attention_combine_bf16(const float* partial, const float* statistics, bf16* out, int rows, int width, int splits) {
    combine(partial, statistics, out, rows, width, splits);
}

KERNEL(1024)
attention_combine_f32(const float* partial, const float* statistics, float* out, int rows, int width, int splits) {
    combine(partial, statistics, out, rows, width, splits);
}
