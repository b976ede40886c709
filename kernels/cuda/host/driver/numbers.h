// candle's element types: 16-bit floats are stored as bits, and each operation on them rounds, as on a card.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>

namespace simulated {

inline float float_of_bits(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
inline uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

// To nearest, ties to even.
struct Bf16Format {
    static uint16_t round(float x) {
        uint32_t bits = bits_of(x);
        if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
        return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
    static float widen(uint16_t bits) { return float_of_bits(uint32_t(bits) << 16); }
};
struct F16Format {
    static uint16_t round(float x) {
        uint16_t sign = bits_of(x) >> 16 & 0x8000;
        float magnitude = std::fabs(x);
        if (std::isnan(x)) return 0x7fff;
        if (magnitude >= 65520.0f) return sign | 0x7c00;
        // Subnormals are multiples of 2^-24; the current rounding mode is to nearest even.
        if (magnitude < 6.103515625e-5f) return sign | uint16_t(std::nearbyint(std::ldexp(magnitude, 24)));
        uint32_t bits = bits_of(magnitude);
        bits += 0xfff + (bits >> 13 & 1);
        return sign | uint16_t((bits >> 13) - (112 << 10));
    }
    static float widen(uint16_t bits) {
        int exponent = bits >> 10 & 31, fraction = bits & 1023;
        float magnitude = exponent == 0    ? std::ldexp(float(fraction), -24)
                          : exponent == 31 ? (fraction ? NAN : INFINITY)
                                           : std::ldexp(float(fraction + 1024), exponent - 25);
        return bits >> 15 ? -magnitude : magnitude;
    }
};

template <class Format>
struct Half {
    uint16_t bits;
    Half() = default;
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
    Half(T x) : bits(Format::round(static_cast<float>(x))) {}
    operator float() const { return Format::widen(bits); }
    Half operator-() const { return Half(-float(*this)); }
    friend Half operator+(Half a, Half b) { return Half(float(a) + float(b)); }
    friend Half operator-(Half a, Half b) { return Half(float(a) - float(b)); }
    friend Half operator*(Half a, Half b) { return Half(float(a) * float(b)); }
    friend Half operator/(Half a, Half b) { return Half(float(a) / float(b)); }
    friend bool operator<(Half a, Half b) { return float(a) < float(b); }
    friend bool operator>(Half a, Half b) { return float(a) > float(b); }
};
using Bf16 = Half<Bf16Format>;
using F16 = Half<F16Format>;

template <class T>
inline constexpr bool IS_HALF = std::is_same_v<T, Bf16> || std::is_same_v<T, F16>;

// As in the names of kernels.
template <class T>
std::string name_of() {
    if (std::is_same_v<T, Bf16>) return "bf16";
    if (std::is_same_v<T, F16>) return "f16";
    if (std::is_same_v<T, float>) return "f32";
    if (std::is_same_v<T, double>) return "f64";
    return (std::is_signed_v<T> ? "i" : "u") + std::to_string(8 * sizeof(T));
}

// What functions of one number are computed in.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
T greater_of(T a, T b) {
    if constexpr (IS_HALF<T>) return std::isnan(float(a)) || a > b ? a : b;
    if constexpr (std::is_floating_point_v<T>) return std::fmax(a, b);
    else return a < b ? b : a;
}
template <class T>
T lesser_of(T a, T b) {
    if constexpr (IS_HALF<T>) return std::isnan(float(a)) || a < b ? a : b;
    if constexpr (std::is_floating_point_v<T>) return std::fmin(a, b);
    else return b < a ? b : a;
}
template <class T>
T lowest() {
    if constexpr (std::is_integral_v<T>) return std::numeric_limits<T>::lowest();
    else return T(-INFINITY);
}
template <class T>
T highest() {
    if constexpr (std::is_integral_v<T>) return std::numeric_limits<T>::max();
    else return T(INFINITY);
}

// Calls `f` with one value of each type.
template <class... T, class F>
void for_types(F f) {
    (f(T{}), ...);
}

// ---- where elements are: `dims` and the strides of `N` operands, or all of them dense where `info` is null

template <int N>
class Walk {
    size_t rank, place[N] = {};
    const size_t* dims;
    const size_t* strides;
    size_t index[16] = {};

  public:
    Walk(size_t rank, const size_t* info) : rank(rank), dims(info), strides(info ? info + rank : nullptr) {}
    size_t operator[](int operand) const { return place[operand]; }
    void advance() {
        if (!dims) {
            for (size_t& p : place) p++;
            return;
        }
        for (size_t d = rank; d-- > 0;) {
            for (int n = 0; n < N; n++) place[n] += strides[n * rank + d];
            if (++index[d] < dims[d]) return;
            for (int n = 0; n < N; n++) place[n] -= strides[n * rank + d] * dims[d];
            index[d] = 0;
        }
    }
};

inline size_t strided(size_t i, size_t rank, const size_t* info) {
    size_t at = 0;
    for (size_t d = rank; d-- > 0; i /= info[d]) at += i % info[d] * info[rank + d];
    return at;
}

inline bool is_dense(size_t rank, const size_t* info) {
    size_t expected = 1;
    for (size_t d = rank; d-- > 0; expected *= info[d])
        if (info[d] > 1 && info[rank + d] != expected) return false;
    return true;
}

}  // namespace simulated
