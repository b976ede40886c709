// candle's reduce.cu, as far as candle-core launches it: the order of additions is that of a block's threads.
#include <vector>

#include "modules.h"
#include "numbers.h"

namespace simulated {
namespace {

// What sums are kept in.
template <class T>
using Accumulator = std::conditional_t<std::is_same_v<T, Bf16>, float, T>;

// The element of row `row` of `width`; `info` has the reduced dimensions at the end.
template <class T>
struct Rows {
    const T* x;
    size_t width, rank;
    const size_t* info;
    bool dense;

    Rows(const T* x, size_t width, size_t rank, const size_t* info)
        : x(x), width(width), rank(rank), info(info), dense(is_dense(rank, info)) {}
    T at(size_t row, size_t i) const {
        size_t place = row * width + i;
        return x[dense ? place : strided(place, rank, info)];
    }
};

// Calls `first(thread, i)` for each thread's elements, then `join(a, b)` for pairs of threads; the result is thread 0's.
template <class First, class Join>
void reduce_row(size_t width, size_t threads, First first, Join join) {
    for (size_t i = 0; i < width; i++) first(i % threads, i);
    for (size_t step = threads / 2; step > 0; step /= 2)
        for (size_t thread = 0; thread < step; thread++) join(thread, thread + step);
}

template <class A, class T, class Fold>
void fold(size_t width, size_t rank, const size_t* info, const T* x, T* y, A start, Fold combine) {
    Rows<T> rows(x, width, rank, info);
    size_t threads = launched().block[0];
    std::vector<A> of(threads);
    for (size_t row = 0; row < launched().grid[0]; row++) {
        std::fill(of.begin(), of.end(), start);
        reduce_row(width, threads, [&](size_t t, size_t i) { of[t] = combine(of[t], A(rows.at(row, i))); },
                   [&](size_t a, size_t b) { of[a] = combine(of[a], of[b]); });
        y[row] = T(of[0]);
    }
}

template <class T>
void fast_sum(size_t, size_t width, size_t rank, const size_t* info, const T* x, T* y) {
    using A = Accumulator<T>;
    fold<A>(width, rank, info, x, y, A(0), [](A a, A b) { return A(a + b); });
}
template <class T>
void fast_max(size_t, size_t width, size_t rank, const size_t* info, const T* x, T* y) {
    fold<T>(width, rank, info, x, y, lowest<T>(), greater_of<T>);
}
template <class T>
void fast_min(size_t, size_t width, size_t rank, const size_t* info, const T* x, T* y) {
    fold<T>(width, rank, info, x, y, highest<T>(), lesser_of<T>);
}

template <class T, bool MAX>
void fast_arg(size_t, size_t width, size_t rank, const size_t* info, const T* x, uint32_t* y) {
    Rows<T> rows(x, width, rank, info);
    size_t threads = launched().block[0];
    auto better = [](T a, T b) { return MAX ? a > b : a < b; };
    for (size_t row = 0; row < launched().grid[0]; row++) {
        std::vector<T> best(threads, MAX ? lowest<T>() : highest<T>());
        std::vector<uint32_t> index(threads, ~0u);
        reduce_row(width, threads,
                   [&](size_t t, size_t i) {
                       T value = rows.at(row, i);
                       if (i < threads || better(value, best[t])) best[t] = value, index[t] = i % info[rank - 1];
                   },
                   [&](size_t a, size_t b) {
                       if (better(best[b], best[a])) best[a] = best[b], index[a] = index[b];
                   });
        y[row] = index[0];
    }
}

template <class T>
void fast_sum_small(size_t count, size_t width, size_t rank, const size_t* info, const T* x, T* y) {
    using A = std::conditional_t<IS_HALF<T>, float, T>;
    Rows<T> rows(x, width, rank, info);
    for (size_t row = 0; row < count; row++) {
        A sum = 0;
        for (size_t i = 0; i < width; i++) sum = A(sum + A(rows.at(row, i)));
        y[row] = T(sum);
    }
}

const bool REGISTERED = [] {
    for_types<Bf16, F16, float, double, uint8_t, uint32_t, int64_t>([](auto example) {
        using T = decltype(example);
        std::string name = name_of<T>();
        stand_in<&fast_sum<T>>("reduce", "fast_sum_" + name);
        stand_in<&fast_sum_small<T>>("reduce", "fast_sum_small_" + name);
        stand_in<&fast_max<T>>("reduce", "fast_max_" + name);
        stand_in<&fast_min<T>>("reduce", "fast_min_" + name);
        stand_in<&fast_arg<T, true>>("reduce", "fast_argmax_" + name);
        stand_in<&fast_arg<T, false>>("reduce", "fast_argmin_" + name);
    });
    return true;
}();

}  // namespace
}  // namespace simulated
