// What the tests of all kernels share: numbers, buffers, comparison.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "../types.cuh"
#include "launch.h"

// Conversions of the tests' own.
inline float bits_to_value(u32 bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
inline float real(float x) { return x; }
inline float real(bf16 x) { return bits_to_value(u32(x.bits) << 16); }
inline float real(f16 x) {
    int exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
    float magnitude = exponent ? std::ldexp(float(fraction + 1024), exponent - 25) : std::ldexp(float(fraction), -24);
    return x.bits >> 15 ? -magnitude : magnitude;
}
template <class T>
inline T rounded(float x);
template <>
inline float rounded<float>(float x) {
    return x;
}
// Ties to even; NaN stays NaN.
template <>
inline bf16 rounded<bf16>(float x) {
    u32 bits;
    std::memcpy(&bits, &x, 4);
    if (x != x) return {0x7fff};
    return {u16((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

// SplitMix64 (Steele et al. 2014).
struct Random {
    u64 state;
    u64 next() {
        u64 z = state += 0x9e3779b97f4a7c15ull;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ z >> 27) * 0x94d049bb133111ebull;
        return z ^ z >> 31;
    }
    double uniform() { return (next() >> 11) * 0x1p-53; }
    // In -range..range.
    float number(float range) { return static_cast<float>((2 * uniform() - 1) * range); }
    int below(int n) { return static_cast<int>(next() % n); }
    // In low..=high.
    int between(int low, int high) { return low + below(high - low + 1); }
};

template <class T>
inline Vector<T> random_vector(Random& random, size_t count, float range) {
    Vector<T> all(count);
    for (T& x : all) x = rounded<T>(random.number(range));
    return all;
}

// Results start as NaN, so that what is not written is seen.
template <class T>
inline Vector<T> unwritten(size_t count) {
    return Vector<T>(count, rounded<T>(NAN));
}

inline int failures = 0;
inline int comparisons = 0;

// |result - expected| <= absolute + relative |expected| everywhere. Also says which shape and schedule it was.
template <class T>
inline void compare(const std::string& what, const Vector<T>& result, const std::vector<double>& expected,
                    double absolute, double relative) {
    comparisons++;
    if (result.size() != expected.size()) {
        std::printf("FAILED %s: %zu elements, expected %zu\n", what.c_str(), result.size(), expected.size());
        failures++;
        return;
    }
    double worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < result.size(); i++) {
        double error = std::fabs(real(result[i]) - expected[i]) / (absolute + relative * std::fabs(expected[i]));
        if (!(error <= worst)) worst = error, at = i;
        if (std::isnan(error)) break;
    }
    if (worst <= 1) return;
    failures++;
    std::printf("FAILED %s (schedule %d): element %zu is %g, expected %g, %g times the tolerance\n", what.c_str(),
                chosen_order, at, real(result[at]), expected[at], worst);
}

inline void expect(bool ok, const std::string& what) {
    comparisons++;
    if (ok) return;
    failures++;
    std::printf("FAILED %s (schedule %d)\n", what.c_str(), chosen_order);
}

// The test under each order in which threads may run, with the same numbers each time, until one fails. With an argument
// only the first order: under a sanitizer, which looks for something else.
inline int under_all_schedules(int arguments, const std::function<void(Random&)>& test) {
    for (int order = 0; order < (arguments > 1 ? 1 : ORDERS) && failures == 0; order++) {
        choose_order(order);
        Random random{42};
        test(random);
    }
    std::printf("%d comparisons, %d failures\n", comparisons, failures);
    return failures > 0 || comparisons == 0;
}

// softmax in place; a row without a finite score becomes zeros.
inline void softmax(std::vector<double>& row) {
    double greatest = -INFINITY, sum = 0;
    for (double x : row) greatest = std::max(greatest, x);
    for (double& x : row) sum += x = greatest == -INFINITY ? 0 : std::exp(x - greatest);
    for (double& x : row) x = sum > 0 ? x / sum : 0;
}
