// Functions that programs may be linked with but that nothing simulates: a call names itself and ends the program.
#pragma once
#include <cstdio>
#include <cstdlib>

#define UNSIMULATED(name)                                                     \
    extern "C" __attribute__((visibility("default"))) int name() {           \
        std::fprintf(stderr, "simulated card: " #name " is not simulated\n"); \
        std::abort();                                                         \
    }
