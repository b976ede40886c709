// The cuBLAS products that candle asks for: column-major, C = alpha op(A) op(B) + beta C, sums in f32 (f64 of f64).
#include <cstdio>
#include <vector>

#include "memory.h"
#include "numbers.h"
#include "unsimulated.h"

using namespace simulated;

namespace {

enum : int { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum : int { R_32F = 0, R_64F = 1, R_16F = 2, R_16BF = 14 };
enum : int { COMPUTE_16F = 64, COMPUTE_32F = 68, COMPUTE_64F = 70, FAST_16BF = 75, FAST_TF32 = 77 };

int fail(int status, const char* why) {
    std::fprintf(stderr, "simulated card: cuBLAS: %s\n", why);
    return status;
}

struct Matrix {
    const void* at;
    bool transposed;
    int rows, columns;  // as stored
    int leading;
    long long batch_stride;

    bool fits(int batches, size_t element) const {
        if (leading < (rows > 1 ? rows : 1) || !rows || !columns) return leading >= 1 && leading >= rows;
        long long last = batch_stride * (batches - 1) + (long long)leading * (columns - 1) + rows;
        return simulated_is_live(at, size_t(last) * element);
    }
};

struct Product {
    int m, n, k, batches;
    Matrix a, b, c;
};

// `op(a)` with its columns dense, widened; four columns of the result at a time.
template <class T, class C, class A>
void multiply_one(const Product& p, const T* a, const T* b, C* c, A alpha, A beta) {
    static thread_local std::vector<A> left, right, sums;
    size_t m = p.m, n = p.n, k = p.k;
    left.resize(m * k), right.resize(k * 4), sums.resize(m * 4);
    for (size_t l = 0; l < k; l++)
        for (size_t i = 0; i < m; i++)
            left[l * m + i] = A(p.a.transposed ? a[i * p.a.leading + l] : a[l * p.a.leading + i]);
    for (size_t j0 = 0; j0 < n; j0 += 4) {
        size_t columns = std::min<size_t>(4, n - j0);
        std::fill(sums.begin(), sums.end(), A(0));
        std::fill(right.begin(), right.end(), A(0));
        for (size_t j = 0; j < columns; j++)
            for (size_t l = 0; l < k; l++)
                right[l * 4 + j] = A(p.b.transposed ? b[l * p.b.leading + j0 + j] : b[(j0 + j) * p.b.leading + l]);
        A *s0 = sums.data(), *s1 = s0 + m, *s2 = s1 + m, *s3 = s2 + m;
        for (size_t l = 0; l < k; l++) {
            const A *x = &left[l * m], *y = &right[l * 4];
            A y0 = y[0], y1 = y[1], y2 = y[2], y3 = y[3];
            for (size_t i = 0; i < m; i++) s0[i] += x[i] * y0, s1[i] += x[i] * y1, s2[i] += x[i] * y2, s3[i] += x[i] * y3;
        }
        for (size_t j = 0; j < columns; j++)
            for (size_t i = 0; i < m; i++) {
                C& to = c[(j0 + j) * p.c.leading + i];
                // What beta = 0 replaces is not read: it may be anything.
                to = C(beta == A(0) ? alpha * sums[j * m + i] : alpha * sums[j * m + i] + beta * A(to));
            }
    }
}

template <class T, class C, class A>
int multiply(const Product& p, A alpha, A beta) {
    if (p.m < 0 || p.n < 0 || p.k < 0 || p.batches < 0) return fail(INVALID_VALUE, "a negative size");
    if (!p.a.fits(p.batches, sizeof(T)) || !p.b.fits(p.batches, sizeof(T)) || !p.c.fits(p.batches, sizeof(C)))
        return fail(INVALID_VALUE, "a matrix that is not in a live allocation");
    auto of = [](const Matrix& x, int batch) { return static_cast<const T*>(x.at) + batch * x.batch_stride; };
    C* c = static_cast<C*>(const_cast<void*>(p.c.at));
    for (int batch = 0; batch < p.batches; batch++)
        multiply_one<T, C, A>(p, of(p.a, batch), of(p.b, batch), c + batch * p.c.batch_stride, alpha, beta);
    return SUCCESS;
}

Product product(int a_op, int b_op, int m, int n, int k, const void* a, int lda, long long a_stride, const void* b, int ldb,
                long long b_stride, void* c, int ldc, long long c_stride, int batches) {
    Matrix left = {a, a_op != 0, a_op ? k : m, a_op ? m : k, lda, a_stride};
    Matrix right = {b, b_op != 0, b_op ? n : k, b_op ? k : n, ldb, b_stride};
    return {m, n, k, batches, left, right, {c, false, m, n, ldc, c_stride}};
}

int multiply_typed(const Product& p, const void* alpha, const void* beta, int a_type, int b_type, int c_type, int compute) {
    bool widens = a_type == R_16BF && b_type == R_16BF && c_type == R_32F;
    if (!widens && (a_type != b_type || a_type != c_type)) return fail(NOT_SUPPORTED, "these mixed types are not simulated");
    auto f32 = [](const void* x) { return *static_cast<const float*>(x); };
    auto f16 = [](const void* x) { return float(*static_cast<const F16*>(x)); };
    auto f64 = [](const void* x) { return *static_cast<const double*>(x); };
    bool in_f32 = compute == COMPUTE_32F || compute == FAST_TF32 || compute == FAST_16BF;
    if (widens && in_f32) return multiply<Bf16, float, float>(p, f32(alpha), f32(beta));
    if (a_type == R_32F && in_f32) return multiply<float, float, float>(p, f32(alpha), f32(beta));
    if (a_type == R_16BF && in_f32) return multiply<Bf16, Bf16, float>(p, f32(alpha), f32(beta));
    if (a_type == R_16F && in_f32) return multiply<F16, F16, float>(p, f32(alpha), f32(beta));
    if (a_type == R_16F && compute == COMPUTE_16F) return multiply<F16, F16, float>(p, f16(alpha), f16(beta));
    if (a_type == R_64F && compute == COMPUTE_64F) return multiply<double, double, double>(p, f64(alpha), f64(beta));
    return fail(NOT_SUPPORTED, "these types are not simulated");
}

}  // namespace

#define CUBLAS extern "C" __attribute__((visibility("default"))) int

CUBLAS cublasCreate_v2(void** handle) { return *handle = new char, SUCCESS; }
CUBLAS cublasDestroy_v2(void* handle) { return delete static_cast<char*>(handle), SUCCESS; }
CUBLAS cublasSetStream_v2(void*, void*) { return SUCCESS; }
CUBLAS cublasSetMathMode(void*, int) { return SUCCESS; }
CUBLAS cublasSetWorkspace_v2(void*, void*, size_t) { return SUCCESS; }

CUBLAS cublasGemmStridedBatchedEx(void*, int ta, int tb, int m, int n, int k, const void* alpha, const void* a, int a_type,
                                  int lda, long long a_stride, const void* b, int b_type, int ldb, long long b_stride,
                                  const void* beta, void* c, int c_type, int ldc, long long c_stride, int batches,
                                  int compute, int) {
    Product p = product(ta, tb, m, n, k, a, lda, a_stride, b, ldb, b_stride, c, ldc, c_stride, batches);
    return multiply_typed(p, alpha, beta, a_type, b_type, c_type, compute);
}
CUBLAS cublasGemmEx(void*, int ta, int tb, int m, int n, int k, const void* alpha, const void* a, int a_type, int lda,
                    const void* b, int b_type, int ldb, const void* beta, void* c, int c_type, int ldc, int compute, int) {
    Product p = product(ta, tb, m, n, k, a, lda, 0, b, ldb, 0, c, ldc, 0, 1);
    return multiply_typed(p, alpha, beta, a_type, b_type, c_type, compute);
}

#define PLAIN(NAME, T)                                                                                                    \
    CUBLAS cublas##NAME##gemm_v2(void*, int ta, int tb, int m, int n, int k, const T* alpha, const T* a, int lda,         \
                                 const T* b, int ldb, const T* beta, T* c, int ldc) {                                     \
        return multiply<T, T, T>(product(ta, tb, m, n, k, a, lda, 0, b, ldb, 0, c, ldc, 0, 1), *alpha, *beta);               \
    }                                                                                                                     \
    CUBLAS cublas##NAME##gemmStridedBatched(void*, int ta, int tb, int m, int n, int k, const T* alpha, const T* a,       \
                                            int lda, long long sa, const T* b, int ldb, long long sb, const T* beta,      \
                                            T* c, int ldc, long long sc, int batches) {                                   \
        return multiply<T, T, T>(product(ta, tb, m, n, k, a, lda, sa, b, ldb, sb, c, ldc, sc, batches), *alpha, *beta);      \
    }
PLAIN(S, float)
PLAIN(D, double)

UNSIMULATED(cublasSgemv_v2)
UNSIMULATED(cublasDgemv_v2)
UNSIMULATED(cublasHgemm)
UNSIMULATED(cublasHgemmStridedBatched)
UNSIMULATED(cublasSasum_v2)
UNSIMULATED(cublasDasum_v2)
UNSIMULATED(cublasGemmBatchedEx)
UNSIMULATED(cublasGemmGroupedBatchedEx)
UNSIMULATED(cublasSgemmGroupedBatched)
UNSIMULATED(cublasDgemmGroupedBatched)
UNSIMULATED(cublasGetPointerMode_v2)
UNSIMULATED(cublasSetPointerMode_v2)
