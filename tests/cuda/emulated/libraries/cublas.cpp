// cuBLAS as far as CuPy calls it for arrays: loops with sums in double, factorisations by LAPACK.
#include "common.h"

// What was multiplied since the last time it was asked, and how: nnm_products.
enum { GEMM, STRIDED, POINTERS, DOT, KINDS };
static long nnm_calls[KINDS];
static void *nnm_stream;

extern "C" void nnm_products(long *calls, void **stream)
{
    for (int i = 0; i < KINDS; ++i) calls[i] = nnm_calls[i], nnm_calls[i] = 0;
    *stream = nnm_stream;
}

namespace {

void multiplied(const Handle *h, int kind) { ++nnm_calls[kind]; nnm_stream = h->stream; }

enum { SUCCESS = 0, INVALID = 7, NOT_SUPPORTED = 15 };
enum { OP_N, OP_T, OP_C };
enum { LOWER, UPPER };
enum { LEFT, RIGHT };

template <class T> T at(const T *a, long i, long j, int lda, int op)
{
    return op == OP_N ? a[i + j * lda] : op == OP_T ? a[j + i * lda] : conjugate(a[j + i * lda]);
}

// TF32 has the exponents of float32 and 10 bits of fraction; to nearest, ties away from zero.
float tf32(float x)
{
    unsigned u;
    memcpy(&u, &x, 4);
    if ((u & 0x7f800000) != 0x7f800000) u = (u + 0x1000) & 0xffffe000;
    memcpy(&x, &u, 4);
    return x;
}
c64 tf32(c64 x) { return {tf32(float(x.real())), tf32(float(x.imag()))}; }

// Whether a mode of the handle lets float32 be rounded: CUBLAS_TENSOR_OP_MATH, CUBLAS_TF32_TENSOR_OP_MATH.
bool rounds(const Handle *h) { return (h->math_mode & 15) == 1 || (h->math_mode & 15) == 3; }

template <class T> T factor(T x, bool round)
{
    if constexpr (std::is_same_v<T, float>) return round ? tf32(x) : x;
    else if constexpr (std::is_same_v<T, c32>) return round ? c32(tf32(c64(x))) : x;
    else return x;
}

template <class T>
int gemm(const Handle *h, int ta, int tb, int m, int n, int k, T alpha, const T *a, int lda, const T *b, int ldb, T beta,
         T *c, int ldc)
{
    if (m < 0 || n < 0 || k < 0 || lda < std::max(1, ta ? k : m) || ldb < std::max(1, tb ? n : k)
        || ldc < std::max(1, m))
        return INVALID;
    const bool round = rounds(h);
    for (long j = 0; j < n; ++j)
        for (long i = 0; i < m; ++i) {
            wide<T> sum = 0;
            for (long l = 0; l < k; ++l)
                sum += wide<T>(factor(at(a, i, l, lda, ta), round)) * wide<T>(factor(at(b, l, j, ldb, tb), round));
            wide<T> y = wide<T>(alpha) * sum;
            if (beta != T(0)) y += wide<T>(beta) * wide<T>(c[i + j * ldc]);   // C is not read for beta = 0
            c[i + j * ldc] = T(y);
        }
    return SUCCESS;
}

template <class T>
int gemv(int ta, int m, int n, T alpha, const T *a, int lda, const T *x, int ix, T beta, T *y, int iy)
{
    if (lda < std::max(1, m) || !ix || !iy) return INVALID;
    const int rows = ta ? n : m, terms = ta ? m : n;
    const long x0 = ix < 0 ? -long(terms - 1) * ix : 0, y0 = iy < 0 ? -long(rows - 1) * iy : 0;
    for (long i = 0; i < rows; ++i) {
        wide<T> sum = 0;
        for (long l = 0; l < terms; ++l) sum += wide<T>(at(a, i, l, lda, ta)) * wide<T>(x[x0 + l * ix]);
        wide<T> v = wide<T>(alpha) * sum;
        if (beta != T(0)) v += wide<T>(beta) * wide<T>(y[y0 + i * iy]);
        y[y0 + i * iy] = T(v);
    }
    return SUCCESS;
}

template <class T> int dot(int n, const T *x, int ix, const T *y, int iy, T *out, bool conjugated)
{
    const long x0 = ix < 0 ? -long(n - 1) * ix : 0, y0 = iy < 0 ? -long(n - 1) * iy : 0;
    wide<T> sum = 0;
    for (long i = 0; i < n; ++i) {
        const T v = x[x0 + i * ix];
        sum += wide<T>(conjugated ? conjugate(v) : v) * wide<T>(y[y0 + i * iy]);
    }
    *out = T(sum);
    return SUCCESS;
}

template <class T>
int ger(int m, int n, T alpha, const T *x, int ix, const T *y, int iy, T *a, int lda, bool conjugated)
{
    for (long j = 0; j < n; ++j)
        for (long i = 0; i < m; ++i)
            a[i + j * lda] += alpha * x[i * ix] * (conjugated ? conjugate(y[j * iy]) : y[j * iy]);
    return SUCCESS;
}

template <class T> int nrm2(int n, const T *x, int ix, real_of<T> *out)
{
    double sum = 0;
    for (long i = 0; i < n; ++i) sum += std::norm(wide<T>(x[i * ix]));
    *out = real_of<T>(std::sqrt(sum));
    return SUCCESS;
}

template <class T>
int trsm(int side, int uplo, int trans, int unit, int m, int n, T alpha, const T *a, int lda, T *b, int ldb)
{
    const int size = side == LEFT ? m : n, others = side == LEFT ? n : m;
    const bool upper = (uplo == UPPER) == (trans == OP_N);
    // op(A) X = B column by column; X op(A) = B is op(A)^T X^T = B^T row by row
    const bool from_end = side == LEFT ? upper : !upper;
    for (long r = 0; r < others; ++r) {
        T *v = side == LEFT ? b + r * ldb : b + r;
        const long step = side == LEFT ? 1 : ldb;
        for (long q = 0; q < size; ++q) {
            const long i = from_end ? size - 1 - q : q;
            wide<T> sum = wide<T>(alpha) * wide<T>(v[i * step]);
            for (long p = 0; p < q; ++p) {
                const long l = from_end ? size - 1 - p : p;
                const T w = side == LEFT ? at(a, i, l, lda, trans) : at(a, l, i, lda, trans);
                sum -= wide<T>(w) * wide<T>(v[l * step]);
            }
            if (!unit) sum /= wide<T>(at(a, i, i, lda, trans));
            v[i * step] = T(sum);
        }
    }
    return SUCCESS;
}

template <class T>
int geam(int ta, int tb, int m, int n, T alpha, const T *a, int lda, T beta, const T *b, int ldb, T *c, int ldc)
{
    std::vector<T> out(size_t(m) * n);       // C may be A or B
    for (long j = 0; j < n; ++j)
        for (long i = 0; i < m; ++i)
            out[i + j * m] = (alpha == T(0) ? T(0) : alpha * at(a, i, j, lda, ta))
                           + (beta == T(0) ? T(0) : beta * at(b, i, j, ldb, tb));
    for (long j = 0; j < n; ++j)
        for (long i = 0; i < m; ++i) c[i + j * ldc] = out[i + j * m];
    return SUCCESS;
}

template <class T>
int dgmm(int side, int m, int n, const T *a, int lda, const T *x, int ix, T *c, int ldc)
{
    for (long j = 0; j < n; ++j)
        for (long i = 0; i < m; ++i) c[i + j * ldc] = a[i + j * lda] * x[(side == LEFT ? i : j) * ix];
    return SUCCESS;
}

template <class T>
int syrk(int uplo, int trans, int n, int k, T alpha, const T *a, int lda, T beta, T *c, int ldc)
{
    for (long j = 0; j < n; ++j)
        for (long i = uplo == LOWER ? j : 0; i < (uplo == LOWER ? n : j + 1); ++i) {
            wide<T> sum = 0;
            for (long l = 0; l < k; ++l)
                sum += wide<T>(trans ? a[l + i * lda] : a[i + l * lda]) * wide<T>(trans ? a[l + j * lda] : a[j + l * lda]);
            wide<T> y = wide<T>(alpha) * sum;
            if (beta != T(0)) y += wide<T>(beta) * wide<T>(c[i + j * ldc]);
            c[i + j * ldc] = T(y);
        }
    return SUCCESS;
}

template <class T> int getrf_batched(int n, T *const *a, int lda, int *pivots, int *info, int count)
{
    std::vector<int> spare(n + 1);
    for (int b = 0; b < count; ++b)
        lapack<T>("getrf", &n, &n, a[b], &lda, pivots ? pivots + long(b) * n : spare.data(), info + b);
    return SUCCESS;
}

template <class T>
int getri_batched(int n, const T *const *a, int lda, const int *pivots, T *const *c, int ldc, int *info, int count)
{
    int length = 64 * std::max(n, 1);
    std::vector<T> work(length);
    for (int b = 0; b < count; ++b) {
        for (long j = 0; j < n; ++j) std::copy(a[b] + j * lda, a[b] + j * lda + n, c[b] + j * ldc);
        lapack<T>("getri", &n, c[b], &ldc, pivots + long(b) * n, work.data(), &length, info + b);
    }
    return SUCCESS;
}

template <class T>
int getrs_batched(int trans, int n, int nrhs, const T *const *a, int lda, const int *pivots, T *const *b, int ldb,
                  int *info, int count)
{
    char how = "NTC"[trans];
    *info = 0;                   // of the arguments, on the host
    for (int k = 0; k < count; ++k) {
        int status = 0;
        lapack<T>("getrs", &how, &n, &nrhs, a[k], &lda, pivots + long(k) * n, b[k], &ldb, &status);
    }
    return SUCCESS;
}

// ------------------------------------------------------------- products of any element types (Ex)
enum { R_32F = 0, R_64F = 1, R_16F = 2, C_32F = 4, C_64F = 5, R_16BF = 14 };
enum { COMPUTE_16F = 64, COMPUTE_32F = 68, COMPUTE_64F = 70, COMPUTE_FAST_16F = 74, COMPUTE_FAST_16BF, COMPUTE_TF32 = 77,
       COMPUTE_32F_EMULATED = 78, COMPUTE_64F_EMULATED };

struct Elements {
    int type;
    size_t size() const { return type == R_32F ? 4 : type == R_64F || type == C_32F ? 8 : type == C_64F ? 16 : 2; }
    bool known() const { return type == R_32F || type == R_64F || type == R_16F || type == C_32F || type == C_64F || type == R_16BF; }
    c64 load(const void *p, long i) const
    {
        switch (type) {
        case R_32F: return ((const float *)p)[i];
        case R_64F: return ((const double *)p)[i];
        case R_16F: return double(((const _Float16 *)p)[i]);
        case C_32F: return ((const c32 *)p)[i];
        case C_64F: return ((const c64 *)p)[i];
        }
        unsigned u = unsigned(((const unsigned short *)p)[i]) << 16;
        float f;
        memcpy(&f, &u, 4);
        return f;
    }
    void store(void *p, long i, c64 v) const
    {
        switch (type) {
        case R_32F: ((float *)p)[i] = float(v.real()); return;
        case R_64F: ((double *)p)[i] = v.real(); return;
        case R_16F: ((_Float16 *)p)[i] = _Float16(v.real()); return;
        case C_32F: ((c32 *)p)[i] = c32(v); return;
        case C_64F: ((c64 *)p)[i] = v; return;
        }
        float f = float(v.real());
        unsigned u;
        memcpy(&u, &f, 4);
        ((unsigned short *)p)[i] = (unsigned short)((u + 0x7fff + (u >> 16 & 1)) >> 16);
    }
};

int gemm_any(const Handle *h, int ta, int tb, int m, int n, int k, c64 alpha, const void *a, Elements ea, int lda, const void *b,
             Elements eb, int ldb, c64 beta, void *c, Elements ec, int ldc, int compute)
{
    // float16 and bfloat16 in the place of float32, and emulated precision: nothing here may ask for them unseen
    if (!ea.known() || !eb.known() || !ec.known() || compute == COMPUTE_FAST_16F || compute == COMPUTE_FAST_16BF
        || compute >= COMPUTE_32F_EMULATED)
        return NOT_SUPPORTED;
    const bool single = ec.type == R_32F || ec.type == C_32F;
    const bool round = single && (compute == COMPUTE_TF32 || (compute == COMPUTE_32F && rounds(h)));
    if (lda < std::max(1, ta ? k : m) || ldb < std::max(1, tb ? n : k) || ldc < std::max(1, m)) return INVALID;
    for (long j = 0; j < n; ++j)
        for (long i = 0; i < m; ++i) {
            c64 sum = 0;
            for (long l = 0; l < k; ++l) {
                c64 x = ea.load(a, ta ? l + i * lda : i + l * lda), y = eb.load(b, tb ? j + l * ldb : l + j * ldb);
                if (ta == OP_C) x = std::conj(x);
                if (tb == OP_C) y = std::conj(y);
                sum += round ? tf32(x) * tf32(y) : x * y;
            }
            c64 v = alpha * sum;
            if (beta != 0.0) v += beta * ec.load(c, i + j * ldc);
            ec.store(c, i + j * ldc, v);
        }
    return SUCCESS;
}

// alpha and beta have the type of the computation, complex where the result is
c64 scale_at(const void *p, Elements result, int compute)
{
    const bool complex = result.type == C_32F || result.type == C_64F;
    const int type = compute == COMPUTE_16F || compute == 65 ? R_16F
                   : compute == COMPUTE_64F || compute == 71 ? (complex ? C_64F : R_64F) : (complex ? C_32F : R_32F);
    return Elements{type}.load(p, 0);
}

}  // namespace

extern "C" {

int cublasCreate_v2(void **h) { *h = new Handle; return SUCCESS; }
int cublasDestroy_v2(Handle *h) { delete h; return SUCCESS; }
int cublasGetVersion_v2(void *, int *v) { *v = 130000; return SUCCESS; }
int cublasSetStream_v2(Handle *h, void *s) { h->stream = s; return SUCCESS; }
int cublasGetStream_v2(Handle *h, void **s) { *s = h->stream; return SUCCESS; }
int cublasSetPointerMode_v2(Handle *h, int m) { h->pointer_mode = m; return SUCCESS; }
int cublasGetPointerMode_v2(Handle *h, int *m) { *m = h->pointer_mode; return SUCCESS; }
int cublasSetMathMode(Handle *h, int m) { h->math_mode = m; return SUCCESS; }
int cublasGetMathMode(Handle *h, int *m) { *m = h->math_mode; return SUCCESS; }
int cublasSetWorkspace_v2(Handle *, void *, size_t) { return SUCCESS; }

int cublasGemmEx(Handle *h, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int ta_, int lda,
                 const void *b, int tb_, int ldb, const void *beta, void *c, int tc, int ldc, int compute, int)
{
    Open open;
    multiplied(h, GEMM);
    const Elements ec{tc};
    return gemm_any(h, ta, tb, m, n, k, scale_at(alpha, ec, compute), a, {ta_}, lda, b, {tb_}, ldb,
                    scale_at(beta, ec, compute), c, ec, ldc, compute);
}

int cublasGemmStridedBatchedEx(Handle *h, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int ta_,
                               int lda, long long sa, const void *b, int tb_, int ldb, long long sb, const void *beta,
                               void *c, int tc, int ldc, long long sc, int count, int compute, int)
{
    Open open;
    multiplied(h, STRIDED);
    const Elements ea{ta_}, eb{tb_}, ec{tc};
    for (long q = 0; q < count; ++q) {
        const int status = gemm_any(
            h, ta, tb, m, n, k, scale_at(alpha, ec, compute), (const char *)a + q * sa * (long)ea.size(), ea, lda,
            (const char *)b + q * sb * (long)eb.size(), eb, ldb, scale_at(beta, ec, compute),
            (char *)c + q * sc * (long)ec.size(), ec, ldc, compute);
        if (status) return status;
    }
    return SUCCESS;
}

int cublasSgemmEx(Handle *h, int ta, int tb, int m, int n, int k, const float *alpha, const void *a, int ta_, int lda,
                  const void *b, int tb_, int ldb, const float *beta, void *c, int tc, int ldc)
{
    Open open;
    multiplied(h, GEMM);
    return gemm_any(h, ta, tb, m, n, k, *alpha, a, {ta_}, lda, b, {tb_}, ldb, *beta, c, {tc}, ldc, 68);
}

#define OF_EVERY_TYPE(P, T) \
    int cublas##P##gemm_v2(Handle *h, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda, \
                           const T *b, int ldb, const T *beta, T *c, int ldc) \
    { Open open; multiplied(h, GEMM); return gemm(h, ta, tb, m, n, k, *alpha, a, lda, b, ldb, *beta, c, ldc); } \
    int cublas##P##gemmStridedBatched(Handle *h, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, \
        int lda, long long sa, const T *b, int ldb, long long sb, const T *beta, T *c, int ldc, long long sc, int count) \
    { Open open; multiplied(h, STRIDED); int s = 0; \
      for (long q = 0; q < count && !s; ++q) \
          s = gemm(h, ta, tb, m, n, k, *alpha, a + q * sa, lda, b + q * sb, ldb, *beta, c + q * sc, ldc); \
      return s; } \
    int cublas##P##gemmBatched(Handle *h, int ta, int tb, int m, int n, int k, const T *alpha, const T *const *a, \
        int lda, const T *const *b, int ldb, const T *beta, T *const *c, int ldc, int count) \
    { Open open; multiplied(h, POINTERS); int s = 0; \
      for (int q = 0; q < count && !s; ++q) s = gemm(h, ta, tb, m, n, k, *alpha, a[q], lda, b[q], ldb, *beta, c[q], ldc); \
      return s; } \
    int cublas##P##gemv_v2(Handle *, int ta, int m, int n, const T *alpha, const T *a, int lda, const T *x, int ix, \
                           const T *beta, T *y, int iy) \
    { Open open; return gemv(ta, m, n, *alpha, a, lda, x, ix, *beta, y, iy); } \
    int cublas##P##trsm_v2(Handle *, int side, int uplo, int trans, int diag, int m, int n, const T *alpha, \
                           const T *a, int lda, T *b, int ldb) \
    { Open open; return trsm(side, uplo, trans, diag, m, n, *alpha, a, lda, b, ldb); } \
    int cublas##P##trsmBatched(Handle *, int side, int uplo, int trans, int diag, int m, int n, const T *alpha, \
                               const T *const *a, int lda, T *const *b, int ldb, int count) \
    { Open open; for (int q = 0; q < count; ++q) trsm(side, uplo, trans, diag, m, n, *alpha, a[q], lda, b[q], ldb); \
      return SUCCESS; } \
    int cublas##P##geam(Handle *, int ta, int tb, int m, int n, const T *alpha, const T *a, int lda, const T *beta, \
                        const T *b, int ldb, T *c, int ldc) \
    { Open open; return geam(ta, tb, m, n, *alpha, a, lda, *beta, b, ldb, c, ldc); } \
    int cublas##P##dgmm(Handle *, int side, int m, int n, const T *a, int lda, const T *x, int ix, T *c, int ldc) \
    { Open open; return dgmm(side, m, n, a, lda, x, ix, c, ldc); } \
    int cublas##P##syrk_v2(Handle *, int uplo, int trans, int n, int k, const T *alpha, const T *a, int lda, \
                           const T *beta, T *c, int ldc) \
    { Open open; return syrk(uplo, trans, n, k, *alpha, a, lda, *beta, c, ldc); } \
    int cublas##P##axpy_v2(Handle *, int n, const T *alpha, const T *x, int ix, T *y, int iy) \
    { Open open; for (long i = 0; i < n; ++i) y[i * iy] += *alpha * x[i * ix]; return SUCCESS; } \
    int cublas##P##scal_v2(Handle *, int n, const T *alpha, T *x, int ix) \
    { Open open; for (long i = 0; i < n; ++i) x[i * ix] *= *alpha; return SUCCESS; } \
    int cublas##P##getrfBatched(Handle *, int n, T *const *a, int lda, int *pivots, int *info, int count) \
    { Open open; return getrf_batched(n, a, lda, pivots, info, count); } \
    int cublas##P##getriBatched(Handle *, int n, const T *const *a, int lda, const int *pivots, T *const *c, int ldc, \
                                int *info, int count) \
    { Open open; return getri_batched(n, a, lda, pivots, c, ldc, info, count); } \
    int cublas##P##getrsBatched(Handle *, int trans, int n, int nrhs, const T *const *a, int lda, const int *pivots, \
                                T *const *b, int ldb, int *info, int count) \
    { Open open; return getrs_batched(trans, n, nrhs, a, lda, pivots, b, ldb, info, count); }
OF_EVERY_TYPE(S, float)
OF_EVERY_TYPE(D, double)
OF_EVERY_TYPE(C, c32)
OF_EVERY_TYPE(Z, c64)

#define DOT(name, T, conjugated) \
    int cublas##name##_v2(Handle *h, int n, const T *x, int ix, const T *y, int iy, T *out) \
    { T sum; \
      { Open open; multiplied(h, DOT); dot(n, x, ix, y, iy, &sum, conjugated); } \
      if (h->pointer_mode) { Open open; *out = sum; } \
      else *out = sum;      /* the host's: an address of the device faults */ \
      return SUCCESS; }
DOT(Sdot, float, false)
DOT(Ddot, double, false)
DOT(Cdotu, c32, false)
DOT(Cdotc, c32, true)
DOT(Zdotu, c64, false)
DOT(Zdotc, c64, true)

#define GER(name, T, conjugated) \
    int cublas##name##_v2(Handle *, int m, int n, const T *alpha, const T *x, int ix, const T *y, int iy, T *a, int lda) \
    { Open open; return ger(m, n, *alpha, x, ix, y, iy, a, lda, conjugated); }
GER(Sger, float, false)
GER(Dger, double, false)
GER(Cgeru, c32, false)
GER(Cgerc, c32, true)
GER(Zgeru, c64, false)
GER(Zgerc, c64, true)

#define NORM(name, T) \
    int cublas##name##_v2(Handle *, int n, const T *x, int ix, real_of<T> *out) \
    { Open open; return nrm2(n, x, ix, out); }
NORM(Snrm2, float)
NORM(Dnrm2, double)
NORM(Scnrm2, c32)
NORM(Dznrm2, c64)

}  // extern "C"
