// LAUNCH(grid, threads, shared bytes, kernel, arguments...) on the device of fibers or, where nvcc compiles, on a GPU.
#pragma once
#include <vector>

inline int chosen_order = 0;

#ifdef CUDA_ON_HOST

#define LAUNCH(grid, threads, shared, kernel, ...) \
    host::launch(grid, threads, shared, [&] { kernel(__VA_ARGS__); })

template <class T>
using Vector = std::vector<T>;

// Orders in which threads run.
constexpr int ORDERS = 3;
inline void choose_order(int order) {
    chosen_order = order;
    host::schedule = static_cast<host::Schedule>(order);
}

#else

#include <cstdio>
#include <cstdlib>
#include <type_traits>

constexpr int ORDERS = 1;
inline void choose_order(int order) { chosen_order = order; }

inline void require(cudaError_t status) {
    if (status == cudaSuccess) return;
    std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(status));
    std::exit(3);
}

// Memory that the GPU reads and writes where it is.
template <class T>
struct Pinned {
    using value_type = T;
    Pinned() = default;
    template <class U>
    Pinned(const Pinned<U>&) {}
    T* allocate(size_t count) {
        void* memory;
        require(cudaMallocHost(&memory, count * sizeof(T)));
        return static_cast<T*>(memory);
    }
    void deallocate(T* memory, size_t) { cudaFreeHost(memory); }
    bool operator==(const Pinned&) const { return true; }
    bool operator!=(const Pinned&) const { return false; }
};

template <class T>
using Vector = std::vector<T, Pinned<T>>;

template <class... Parameters, class... Arguments>
inline void launch_on_gpu(dim3 grid, dim3 threads, size_t shared, void (*kernel)(Parameters...), Arguments... arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    require(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)));
    kernel<<<grid, threads, shared>>>(arguments...);
    require(cudaGetLastError());
    require(cudaDeviceSynchronize());
}

#define LAUNCH(grid, threads, shared, kernel, ...) launch_on_gpu(grid, threads, shared, kernel, __VA_ARGS__)

#endif
