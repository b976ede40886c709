// The simulated card's memory: host memory, with everything that is wrong about its use said aloud.
#pragma once
#include <cstddef>
#include <string>

namespace simulated {

// Reports to stderr and ends the program: no error code would say this much.
[[noreturn]] void refuse(const std::string& what);

// Fresh memory is NaNs. Null where `bytes` is none.
void* allocate(size_t bytes);
bool release(void* at);
size_t allocated_bytes();

// Whether `bytes` bytes from `at` on are in one live allocation; none may also be just behind its end.
bool is_live(const void* at, size_t bytes);

// Whether nothing was written just outside of the allocation that `at` is in.
bool is_intact(const void* at);

}  // namespace simulated

// For the other libraries of the card.
extern "C" __attribute__((visibility("default"))) bool simulated_is_live(const void* at, size_t bytes);
