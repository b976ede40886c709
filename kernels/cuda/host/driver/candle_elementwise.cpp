// candle's affine.cu, binary.cu, cast.cu, fill.cu, ternary.cu and unary.cu as plain loops, with the same names and parameters.
#include "modules.h"
#include "numbers.h"

namespace simulated {
namespace {

// ---- unary

template <class T, class F>
void unary(size_t count, size_t rank, const size_t* info, const T* x, T* y) {
    Walk<1> at(rank, info);
    for (size_t i = 0; i < count; i++, at.advance()) y[i] = F::template of<T>(x[at[0]]);
}

template <class T, class F>
void unary_with(size_t count, size_t rank, const size_t* info, T parameter, const T* x, T* y) {
    Walk<1> at(rank, info);
    for (size_t i = 0; i < count; i++, at.advance()) y[i] = F::template of<T>(x[at[0]], parameter);
}

// `W` is the type that functions are computed in, `T` the one that sums and products round to.
#define UNARY(NAME, EXPRESSION)           \
    struct NAME {                         \
        template <class T>                \
        static T of(T x) {                \
            using W = Wide<T>;            \
            W w = x;                      \
            (void)w;                      \
            return static_cast<T>(EXPRESSION); \
        }                                 \
    };
UNARY(Copy, x)
UNARY(Negate, -x)
UNARY(Reciprocal, W(1) / w)
UNARY(Exp, std::exp(w))
UNARY(Log, std::log(w))
UNARY(Sin, std::sin(w))
UNARY(Cos, std::cos(w))
UNARY(Tanh, std::tanh(w))
UNARY(Erf, std::erf(w))
UNARY(Ceil, std::ceil(w))
UNARY(Floor, std::floor(w))
UNARY(Round, std::round(w))
UNARY(Abs, std::fabs(w))
UNARY(Square, x* x)
UNARY(Root, std::sqrt(w))
UNARY(Relu, greater_of(x, T(0)))
UNARY(Sign, W(w > 0) - W(w < 0))
UNARY(Sigmoid, W(1) / (W(1) + std::exp(-w)))
UNARY(Silu, w / (W(1) + std::exp(-w)))
UNARY(GeluErf, x* T(W(0.5) * std::erfc(-w * W(M_SQRT1_2))))
struct Gelu {
    template <class T>
    static T of(T x) {
        T inside = T(M_2_SQRTPI * M_SQRT1_2) * (x + T(0.044715) * (x * x * x));
        return T(0.5) * x * (T(1) + T(std::tanh(Wide<T>(inside))));
    }
};
struct Elu {
    template <class T>
    static T of(T x, T alpha) {
        return x > T(0) ? x : alpha * (T(std::exp(Wide<T>(x))) - T(1));
    }
};
struct Power {
    template <class T>
    static T of(T x, T exponent) {
        return T(std::pow(Wide<T>(x), Wide<T>(exponent)));
    }
};

template <class T>
void add_unary() {
    auto add = [](auto f, const char* name) {
        stand_in<&unary<T, decltype(f)>>("unary", name + ("_" + name_of<T>()));
    };
    add(Copy{}, "ucopy");
    if constexpr (!std::is_integral_v<T>) {
        add(Negate{}, "uneg"), add(Reciprocal{}, "urecip"), add(Exp{}, "uexp"), add(Log{}, "ulog"), add(Sin{}, "usin");
        add(Cos{}, "ucos"), add(Tanh{}, "utanh"), add(Erf{}, "uerf"), add(Ceil{}, "uceil"), add(Floor{}, "ufloor");
        add(Round{}, "uround"), add(Abs{}, "uabs"), add(Square{}, "usqr"), add(Root{}, "usqrt"), add(Relu{}, "urelu");
        add(Sign{}, "usign"), add(Sigmoid{}, "usigmoid"), add(Silu{}, "usilu"), add(Gelu{}, "ugelu");
        add(GeluErf{}, "ugelu_erf");
        stand_in<&unary_with<T, Elu>>("unary", "uelu_" + name_of<T>());
        stand_in<&unary_with<T, Power>>("unary", "upowf_" + name_of<T>());
    }
}

// ---- affine

template <class T>
void affine(size_t count, size_t rank, const size_t* info, const T* x, T* y, T factor, T offset) {
    Walk<1> at(rank, info);
    for (size_t i = 0; i < count; i++, at.advance()) y[i] = static_cast<T>(x[at[0]] * factor + offset);
}

// ---- binary

template <class T, class Y, class F>
void binary(size_t count, size_t rank, const size_t* info, const T* a, const T* b, Y* y) {
    Walk<2> at(rank, info);
    for (size_t i = 0; i < count; i++, at.advance()) y[i] = F::template of<T>(a[at[0]], b[at[1]]);
}

#define BINARY(NAME, EXPRESSION)                 \
    struct NAME {                                \
        template <class T>                       \
        static auto of(T a, T b) {               \
            return static_cast<T>(EXPRESSION);   \
        }                                        \
    };
#define COMPARISON(NAME, OPERATOR)                                                    \
    struct NAME {                                                                     \
        template <class T>                                                            \
        static uint8_t of(T a, T b) {                                                 \
            if constexpr (IS_HALF<T>) return float(a) OPERATOR float(b);              \
            else return a OPERATOR b;                                                 \
        }                                                                             \
    };
BINARY(Add, a + b)
BINARY(Subtract, a - b)
BINARY(Multiply, a* b)
BINARY(Greater, greater_of(a, b))
BINARY(Lesser, lesser_of(a, b))
struct Divide {
    template <class T>
    static T of(T a, T b) {
        // A card does not trap.
        if constexpr (std::is_integral_v<T>) return b == 0 ? T(~T(0)) : a / b;
        else return a / b;
    }
};
COMPARISON(Equal, ==)
COMPARISON(NotEqual, !=)
COMPARISON(Less, <)
COMPARISON(LessEqual, <=)
COMPARISON(More, >)
COMPARISON(MoreEqual, >=)

template <class T>
void add_binary() {
    auto add = [](auto f, const char* name) {
        stand_in<&binary<T, T, decltype(f)>>("binary", name + ("_" + name_of<T>()));
    };
    auto compare = [](auto f, const char* name) {
        stand_in<&binary<T, uint8_t, decltype(f)>>("binary", name + ("_" + name_of<T>()));
    };
    add(Add{}, "badd"), add(Subtract{}, "bsub"), add(Multiply{}, "bmul"), add(Divide{}, "bdiv");
    add(Greater{}, "bmaximum"), add(Lesser{}, "bminimum");
    compare(Equal{}, "eq"), compare(NotEqual{}, "ne"), compare(Less{}, "lt"), compare(LessEqual{}, "le");
    compare(More{}, "gt"), compare(MoreEqual{}, "ge");
}

// ---- casts

// Floats become integers by truncation and saturate; bytes are the low ones of 32 bits.
template <class Y, class X>
Y cast_one(X x) {
    if constexpr (std::is_integral_v<Y> && !std::is_integral_v<X>) {
        using Register = std::conditional_t<sizeof(Y) < 4, uint32_t, Y>;
        double value = static_cast<double>(static_cast<Wide<X>>(x));
        if (std::isnan(value)) return 0;
        if (value <= double(std::numeric_limits<Register>::min())) return Y(std::numeric_limits<Register>::min());
        if (value >= double(std::numeric_limits<Register>::max())) return Y(std::numeric_limits<Register>::max());
        return Y(Register(value));
    } else if constexpr (IS_HALF<X>) {
        return Y(float(x));
    } else {
        return Y(x);
    }
}

template <class X, class Y>
void cast(size_t count, size_t rank, const size_t* info, const X* x, Y* y) {
    Walk<1> at(rank, info);
    for (size_t i = 0; i < count; i++, at.advance()) y[i] = cast_one<Y>(x[at[0]]);
}

// There is no cast between 16-bit floats and i64.
template <class X, class Y>
constexpr bool HAS_CAST = !(IS_HALF<X> && std::is_same_v<Y, int64_t>) && !(IS_HALF<Y> && std::is_same_v<X, int64_t>);

// ---- the rest

template <class T>
void const_set(size_t count, size_t rank, const size_t* info, T value, T* y) {
    Walk<1> at(rank, info);
    for (size_t i = 0; i < count; i++, at.advance()) y[at[0]] = value;
}

template <class T>
void copy2d(const T* x, T* y, uint32_t rows, uint32_t columns, uint32_t x_stride, uint32_t y_stride) {
    for (size_t row = 0; row < rows; row++) std::copy_n(x + row * x_stride, columns, y + row * y_stride);
}

template <class T, class Id>
void where(size_t count, size_t rank, const size_t* info, const Id* condition, const T* yes, const T* no, T* y) {
    Walk<3> at(rank, info);
    for (size_t i = 0; i < count; i++, at.advance()) y[i] = condition[at[0]] ? yes[at[1]] : no[at[2]];
}

const bool REGISTERED = [] {
    for_types<Bf16, F16, float, double, uint8_t, uint32_t, int64_t>([](auto example) {
        using T = decltype(example);
        std::string name = name_of<T>();
        add_unary<T>();
        add_binary<T>();
        stand_in<&affine<T>>("affine", "affine_" + name);
        stand_in<&const_set<T>>("fill", "const_set_" + name);
        stand_in<&copy2d<T>>("fill", "copy2d_" + name);
        for_types<uint8_t, uint32_t, int64_t>([&](auto id) {
            using Id = decltype(id);
            stand_in<&where<T, Id>>("ternary", "where_" + name_of<Id>() + "_" + name);
        });
        for_types<Bf16, F16, float, double, uint8_t, uint32_t, int64_t>([&](auto to) {
            using Y = decltype(to);
            if constexpr (HAS_CAST<T, Y>) stand_in<&cast<T, Y>>("cast", "cast_" + name + "_" + name_of<Y>());
        });
    });
    stand_in<&affine<int16_t>>("affine", "affine_i16");
    stand_in<&affine<int32_t>>("affine", "affine_i32");
    return true;
}();

}  // namespace
}  // namespace simulated
