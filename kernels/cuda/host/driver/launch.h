// What a simulated kernel is to the simulated driver, and how it takes its arguments out of `void** parameters`.
#pragma once
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>

namespace simulated {

struct Launch {
    unsigned grid[3], block[3];
    size_t shared_bytes;
    void** parameters;
};

struct Kernel {
    const char* name;
    int max_threads;
    void (*run)(const Launch&);
    // Which parameters are pointers: those must be null or in a live allocation.
    const bool* is_pointer;
    int parameters;
};

template <class T>
std::remove_cv_t<T> argument(const void* at) {
    std::remove_cv_t<T> value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

// Calls `FUNCTION` with the arguments that `parameters` point to.
template <auto FUNCTION>
struct Unpacked;
template <class... P, void (*FUNCTION)(P...)>
struct Unpacked<FUNCTION> {
    static constexpr int COUNT = sizeof...(P);
    static constexpr bool IS_POINTER[] = {std::is_pointer_v<P>..., false};

    template <size_t... I>
    static void call(void** parameters, std::index_sequence<I...>) {
        FUNCTION(argument<P>(parameters[I])...);
    }
    static void call(void** parameters) { call(parameters, std::make_index_sequence<sizeof...(P)>()); }
};

}  // namespace simulated
