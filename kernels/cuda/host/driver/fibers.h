// The kernels of one .cu file, which was included before: a thread is a fiber of ../device.h.
#pragma once
#include "launch.h"

namespace simulated {

template <auto FUNCTION>
Kernel of_fibers(const char* name, int max_threads) {
    auto run = [](const Launch& l) {
        // Reads arguments once a thread, as a card does.
        std::function<void()> thread = [&] { Unpacked<FUNCTION>::call(l.parameters); };
        host::launch(dim3(l.grid[0], l.grid[1], l.grid[2]), dim3(l.block[0], l.block[1], l.block[2]), l.shared_bytes, thread);
    };
    return {name, max_threads, run, Unpacked<FUNCTION>::IS_POINTER, Unpacked<FUNCTION>::COUNT};
}

}  // namespace simulated

#define SIMULATED_KERNELS extern "C" __attribute__((visibility("default"))) const simulated::Kernel simulated_kernels[] =
