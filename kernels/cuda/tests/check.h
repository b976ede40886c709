// What the tests of all kernels share: numbers, buffers, comparison.
#pragma once
#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "../types.cuh"

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
inline std::vector<T> random_vector(Random& random, size_t count, float range) {
    std::vector<T> all(count);
    for (T& x : all) x = from_float<T>(random.number(range));
    return all;
}

// Results start as NaN, so that what is not written is seen.
template <class T>
inline std::vector<T> unwritten(size_t count) {
    return std::vector<T>(count, from_float<T>(NAN));
}

inline int failures = 0;
inline int comparisons = 0;

// |result - expected| <= absolute + relative |expected| everywhere. Also says which shape and schedule it was.
template <class T>
inline void compare(const std::string& what, const std::vector<T>& result, const std::vector<double>& expected,
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
        double error = std::fabs(to_float(result[i]) - expected[i]) / (absolute + relative * std::fabs(expected[i]));
        if (!(error <= worst)) worst = error, at = i;
        if (std::isnan(error)) break;
    }
    if (worst <= 1) return;
    failures++;
    std::printf("FAILED %s (schedule %d): element %zu is %g, expected %g, %g times the tolerance\n", what.c_str(),
                static_cast<int>(host::schedule), at, to_float(result[at]), expected[at], worst);
}

inline void expect(bool ok, const std::string& what) {
    comparisons++;
    if (ok) return;
    failures++;
    std::printf("FAILED %s (schedule %d)\n", what.c_str(), static_cast<int>(host::schedule));
}

// The test under each order in which threads may run, with the same numbers each time, until one fails. With an argument
// only the first order: under a sanitizer, which looks for something else.
inline int under_all_schedules(int arguments, const std::function<void(Random&)>& test) {
    using host::Schedule;
    for (auto schedule : {Schedule::RoundRobin, Schedule::WarpsUp, Schedule::WarpsDown}) {
        if (failures > 0 || (arguments > 1 && schedule != Schedule::RoundRobin)) break;
        host::schedule = schedule;
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
