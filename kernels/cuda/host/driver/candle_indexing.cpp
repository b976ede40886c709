// candle's indexing.cu and sort.cu as plain loops. The greatest number of an index type means "none".
#include "modules.h"
#include "numbers.h"

namespace simulated {
namespace {

template <class Id>
bool is_none(Id id) {
    return id == std::numeric_limits<Id>::max();
}

// The kernels assert this.
template <class Id>
size_t checked(Id id, size_t size) {
    if (id < Id(0) || size_t(id) >= size) throw Fault{"index " + std::to_string(id) + " of " + std::to_string(size)};
    return size_t(id);
}

// `info` belongs to the ids, and is applied to places in `x` all the same: only dense ids give what is meant.
template <class T, class Id>
void index_select(size_t count, size_t rank, const size_t* info, const Id* ids, const T* x, T* y, size_t, size_t x_size,
                  size_t id_count, size_t right) {
    bool dense = is_dense(rank, info);
    for (size_t i = 0; i < count; i++) {
        Id id = ids[i / right % id_count];
        size_t at = 0;
        if (!is_none(id)) at = (i / (id_count * right) * x_size + checked(id, x_size)) * right + i % right;
        y[i] = is_none(id) ? T(0) : x[dense ? at : strided(at, rank, info)];
    }
}

template <class T, class Id>
void gather(size_t count, const Id* ids, const T* x, T* y, size_t, size_t x_size, size_t id_size, size_t right) {
    for (size_t i = 0; i < count; i++) {
        size_t left = i / (right * id_size);
        y[i] = is_none(ids[i]) ? T(0) : x[(left * x_size + checked(ids[i], x_size)) * right + i % right];
    }
}

template <class T, class Id>
void index_add(const Id* ids, size_t id_count, const T* x, T* y, size_t left, size_t, size_t y_size, size_t right) {
    for (size_t l = 0; l < left; l++)
        for (size_t j = 0; j < id_count; j++) {
            if (is_none(ids[j])) continue;
            const T* from = x + (l * id_count + j) * right;
            T* to = y + (l * y_size + checked(ids[j], y_size)) * right;
            for (size_t r = 0; r < right; r++) to[r] = static_cast<T>(to[r] + from[r]);
        }
}

template <class T, class Id, bool ADD>
void scatter(const Id* ids, const T* x, T* y, size_t left, size_t x_size, size_t y_size, size_t right) {
    for (size_t i = 0; i < left * x_size * right; i++) {
        if (is_none(ids[i])) continue;
        T& to = y[(i / (x_size * right) * y_size + checked(ids[i], y_size)) * right + i % right];
        to = ADD ? static_cast<T>(to + x[i]) : x[i];
    }
}

// The kernel's bitonic network, for it decides the order of equals.
template <class T, bool ASCENDING>
void argsort(const T* x, uint32_t* y, int columns, int padded) {
    for (unsigned row = 0; row < launched().grid[0]; row++) {
        const T* of = x + size_t(row) * columns;
        std::string bytes(size_t(padded) * 4, 0);
        if (bytes.size() > launched().shared_bytes) throw Fault{"a row does not fit into the shared memory"};
        int* order = reinterpret_cast<int*>(&bytes[0]);
        for (int i = 0; i < padded; i++) order[i] = i;
        auto after = [&](int a, int b) { return ASCENDING ? of[a] > of[b] : of[a] < of[b]; };
        for (int k = 2; k <= padded; k *= 2)
            for (int j = k / 2; j > 0; j /= 2)
                for (int i = 0; i < padded; i++) {
                    int a = i, b = i ^ j;
                    if (b <= a) continue;
                    if (i & k) std::swap(a, b);
                    if (order[a] >= columns || (order[b] < columns && after(order[a], order[b]))) std::swap(order[a], order[b]);
                }
        std::copy_n(order, columns, y + size_t(row) * columns);
    }
}

const bool REGISTERED = [] {
    for_types<Bf16, F16, float, double, uint8_t, uint32_t, int64_t>([](auto example) {
        using T = decltype(example);
        std::string name = name_of<T>();
        for_types<uint8_t, uint32_t, int64_t>([&](auto id) {
            using Id = decltype(id);
            std::string both = name_of<Id>() + "_" + name;
            stand_in<&index_select<T, Id>>("indexing", "is_" + both);
            stand_in<&gather<T, Id>>("indexing", "gather_" + both);
            stand_in<&index_add<T, Id>>("indexing", "ia_" + both);
            stand_in<&scatter<T, Id, false>>("indexing", "s_" + both);
            stand_in<&scatter<T, Id, true>>("indexing", "sa_" + both);
        });
        stand_in<&argsort<T, true>>("sort", "asort_asc_" + name);
        stand_in<&argsort<T, false>>("sort", "asort_desc_" + name);
    });
    return true;
}();

}  // namespace
}  // namespace simulated
