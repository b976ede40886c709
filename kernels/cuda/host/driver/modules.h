// Modules and kernels by name: this repository's from the libraries beside the driver, candle's from `candle_*.cpp`.
#pragma once
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "launch.h"

namespace simulated {

// Adds a stand-in for one of candle's kernels.
void add_stand_in(const std::string& module, const std::string& kernel, void (*run)(const Launch&), const bool* is_pointer,
                  int parameters);

// A stand-in's arguments are those of the kernel; how it was launched is `launched()`.
const Launch& launched();
void set_launched(const Launch* launch);

template <auto FUNCTION>
void stand_in(const std::string& module, const std::string& kernel) {
    auto run = [](const Launch& launch) {
        set_launched(&launch);
        Unpacked<FUNCTION>::call(launch.parameters);
        set_launched(nullptr);
    };
    add_stand_in(module, kernel, run, Unpacked<FUNCTION>::IS_POINTER, Unpacked<FUNCTION>::COUNT);
}

// What a stand-in throws where the kernel would stop the card.
struct Fault {
    std::string what;
};

// A kernel in a loaded module.
struct Function {
    std::string module;
    Kernel kernel;
    // Until the launcher asks for more.
    int dynamic_shared_limit = 48 << 10;
};

struct Module {
    std::string name;
    std::map<std::string, Function> functions;
};

// The module that the text names, or null.
Module* load_module(const char* ptx);

}  // namespace simulated
