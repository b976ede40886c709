#include "memory.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace simulated {
namespace {

// What a card aligns allocations to, and the width of the strips around them that nobody may write.
constexpr size_t ALIGNMENT = 256;
constexpr unsigned char UNWRITTEN = 0xff;

struct Allocation {
    size_t bytes;
    unsigned char* memory;
    unsigned char mark;
};

// Never destroyed: devices that outlive main() still release.
struct Table {
    std::mutex lock;
    std::map<uintptr_t, Allocation> allocations;
    size_t bytes = 0;
    unsigned count = 0;
};

Table& table() {
    static Table* table = new Table;
    return *table;
}

// The allocation that begins at or before `at`; the lock is held.
auto at_or_before(uintptr_t at) {
    auto next = table().allocations.upper_bound(at);
    return next == table().allocations.begin() ? table().allocations.end() : std::prev(next);
}

size_t padded(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + ALIGNMENT; }

size_t whole(const Allocation& a) { return ALIGNMENT + padded(a.bytes); }

// Strips are signalling NaNs of a kind that only this allocation has: what arithmetic makes of them, and other strips, differ.
unsigned char of_strip(const Allocation& a, size_t i) { return i % 2 ? 0xff : a.mark; }

template <class F>
void for_strips(const Allocation& a, F f) {
    for (size_t i = 0; i < ALIGNMENT; i++) f(i);
    for (size_t i = ALIGNMENT + a.bytes; i < whole(a); i++) f(i);
}

bool strips_are_intact(const Allocation& a) {
    bool intact = true;
    for_strips(a, [&](size_t i) { intact &= a.memory[i] == of_strip(a, i); });
    return intact;
}

}  // namespace

void refuse(const std::string& what) {
    std::fprintf(stderr, "simulated card: %s\n", what.c_str());
    std::abort();
}

void* allocate(size_t bytes) {
    if (bytes == 0) return nullptr;
    Allocation allocation = {bytes, nullptr, 0};
    allocation.memory = static_cast<unsigned char*>(std::aligned_alloc(ALIGNMENT, whole(allocation)));
    if (!allocation.memory) return nullptr;
    unsigned char* begin = allocation.memory + ALIGNMENT;
    std::lock_guard<std::mutex> guard(table().lock);
    allocation.mark = 0x81 + table().count++ % 63;
    std::memset(begin, UNWRITTEN, bytes);
    for_strips(allocation, [&](size_t i) { allocation.memory[i] = of_strip(allocation, i); });
    table().allocations[reinterpret_cast<uintptr_t>(begin)] = allocation;
    table().bytes += bytes;
    return begin;
}

bool release(void* at) {
    if (!at) return true;
    uintptr_t begin = reinterpret_cast<uintptr_t>(at);
    std::lock_guard<std::mutex> guard(table().lock);
    auto found = table().allocations.find(begin);
    if (found == table().allocations.end()) return false;
    Allocation allocation = found->second;
    if (!strips_are_intact(allocation)) {
        refuse("something wrote outside of an allocation of " + std::to_string(allocation.bytes) + " bytes");
    }
    table().bytes -= allocation.bytes;
    table().allocations.erase(found);
    // Whoever still reads it reads NaNs, until the memory is used again.
    std::memset(at, UNWRITTEN, allocation.bytes);
    std::free(allocation.memory);
    return true;
}

size_t allocated_bytes() {
    std::lock_guard<std::mutex> guard(table().lock);
    return table().bytes;
}

bool is_live(const void* at, size_t bytes) {
    uintptr_t begin = reinterpret_cast<uintptr_t>(at);
    std::lock_guard<std::mutex> guard(table().lock);
    auto found = at_or_before(begin);
    if (found == table().allocations.end()) return false;
    size_t offset = begin - found->first;
    return offset <= found->second.bytes && bytes <= found->second.bytes - offset;
}

bool is_intact(const void* at) {
    std::lock_guard<std::mutex> guard(table().lock);
    auto found = at_or_before(reinterpret_cast<uintptr_t>(at));
    return found == table().allocations.end() || strips_are_intact(found->second);
}

}  // namespace simulated

bool simulated_is_live(const void* at, size_t bytes) { return simulated::is_live(at, bytes); }
