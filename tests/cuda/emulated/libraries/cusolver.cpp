// cuSOLVER's dense routines as far as CuPy calls them, each by the LAPACK routine of the same name.
//
// Workspaces are the routines' own here, so the sizes that CuPy is told are 1. `info` is on the
// device. The Jacobi variants (syevj, gesvdj) return what syevd and gesvd return; gesvdj gives V, not
// its conjugate transpose. cuSOLVER's signs and phases of vectors may be others than LAPACK's.
#include "common.h"

namespace {

enum { SUCCESS = 0, INVALID_VALUE = 3, NOT_SUPPORTED = 9 };
enum { VALUES_ONLY, VECTORS };
enum { R_32F = 0, R_64F = 1, C_32F = 4, C_64F = 5 };

char triangle(int uplo) { return uplo == 0 ? 'L' : 'U'; }

template <class T> int potrf(int uplo, int n, T *a, int lda, int *info)
{
    char which = triangle(uplo);
    lapack<T>("potrf", &which, &n, a, &lda, info);
    return SUCCESS;
}

template <class T> int potrs(int uplo, int n, int nrhs, const T *a, int lda, T *b, int ldb, int *info)
{
    char which = triangle(uplo);
    lapack<T>("potrs", &which, &n, &nrhs, a, &lda, b, &ldb, info);
    return SUCCESS;
}

template <class T> int getrf(int m, int n, T *a, int lda, int *pivots, int *info)
{
    std::vector<int> spare(std::min(m, n) + 1);
    lapack<T>("getrf", &m, &n, a, &lda, pivots ? pivots : spare.data(), info);
    return SUCCESS;
}

template <class T> int getrs(int trans, int n, int nrhs, const T *a, int lda, const int *pivots, T *b, int ldb, int *info)
{
    char how = "NTC"[trans];
    lapack<T>("getrs", &how, &n, &nrhs, a, &lda, pivots, b, &ldb, info);
    return SUCCESS;
}

template <class T> int geqrf(int m, int n, T *a, int lda, T *tau, int *info)
{
    int length = 64 * std::max(n, 1);
    std::vector<T> work(length);
    lapack<T>("geqrf", &m, &n, a, &lda, tau, work.data(), &length, info);
    return SUCCESS;
}

template <class T> int orgqr(int m, int n, int k, T *a, int lda, const T *tau, int *info)
{
    int length = 64 * std::max(n, 1);
    std::vector<T> work(length);
    lapack<T>(is_complex<T> ? "ungqr" : "orgqr", &m, &n, &k, a, &lda, tau, work.data(), &length, info);
    return SUCCESS;
}

template <class T>
int ormqr(int side, int trans, int m, int n, int k, const T *a, int lda, const T *tau, T *c, int ldc, int *info)
{
    char where = "LR"[side], how = "NTC"[trans];
    int length = 64 * std::max({m, n, 1});
    std::vector<T> work(length);
    lapack<T>(is_complex<T> ? "unmqr" : "ormqr", &where, &how, &m, &n, &k, a, &lda, tau, c, &ldc, work.data(), &length, info);
    return SUCCESS;
}

template <class T> int eigh(int jobz, int uplo, int n, T *a, int lda, real_of<T> *w, int *info)
{
    char job = jobz == VECTORS ? 'V' : 'N', which = triangle(uplo);
    int length = 1 + 6 * n + 2 * n * n, integers = 3 + 5 * n;
    std::vector<T> work(length);
    std::vector<int> iwork(integers);
    if constexpr (is_complex<T>) {
        int reals = 1 + 5 * n + 2 * n * n;
        std::vector<real_of<T>> rwork(reals);
        lapack<T>("heevd", &job, &which, &n, a, &lda, w, work.data(), &length, rwork.data(), &reals, iwork.data(),
                  &integers, info);
    } else {
        lapack<T>("syevd", &job, &which, &n, a, &lda, w, work.data(), &length, iwork.data(), &integers, info);
    }
    return SUCCESS;
}

template <class T>
int svd(char jobu, char jobvt, int m, int n, T *a, int lda, real_of<T> *s, T *u, int ldu, T *vt, int ldvt, int *info)
{
    const int small = std::min(m, n), large = std::max(m, n);
    int length = std::max(1, 64 * (small + large) + 5 * small);
    std::vector<T> work(length);
    if constexpr (is_complex<T>) {
        std::vector<real_of<T>> rwork(5 * small + 1);
        lapack<T>("gesvd", &jobu, &jobvt, &m, &n, a, &lda, s, u, &ldu, vt, &ldvt, work.data(), &length, rwork.data(), info);
    } else {
        lapack<T>("gesvd", &jobu, &jobvt, &m, &n, a, &lda, s, u, &ldu, vt, &ldvt, work.data(), &length, info);
    }
    return SUCCESS;
}

// gesvdj returns V where gesvd returns its conjugate transpose
template <class T>
int svdj(int jobz, int econ, int m, int n, T *a, int lda, real_of<T> *s, T *u, int ldu, T *v, int ldv, int *info)
{
    const char job = jobz == VALUES_ONLY ? 'N' : econ ? 'S' : 'A';
    const int rows = econ ? std::min(m, n) : n;
    std::vector<T> vt(size_t(std::max(rows, 1)) * std::max(n, 1));
    svd(job, job, m, n, a, lda, s, u, ldu, vt.data(), std::max(rows, 1), info);
    if (job != 'N')
        for (long i = 0; i < rows; ++i)
            for (long j = 0; j < n; ++j) v[j + i * ldv] = conjugate(vt[i + j * rows]);
    return SUCCESS;
}

template <class T> int geev(int jobvl, int jobvr, int n, T *a, int lda, void *w, T *vl, int ldvl, T *vr, int ldvr, int *info)
{
    char left = jobvl ? 'V' : 'N', right = jobvr ? 'V' : 'N';
    int length = std::max(1, 8 * n), least = std::max(1, n);
    ldvl = std::max(ldvl, 1), ldvr = std::max(ldvr, 1);
    std::vector<T> work(length);
    if constexpr (is_complex<T>) {
        std::vector<real_of<T>> rwork(2 * least);
        lapack<T>("geev", &left, &right, &n, a, &lda, (T *)w, vl, &ldvl, vr, &ldvr, work.data(), &length, rwork.data(), info);
    } else {
        std::vector<T> re(least), im(least);
        lapack<T>("geev", &left, &right, &n, a, &lda, re.data(), im.data(), vl, &ldvl, vr, &ldvr, work.data(), &length, info);
        for (int i = 0; i < n; ++i) ((std::complex<T> *)w)[i] = {re[i], im[i]};
    }
    return SUCCESS;
}

int one(int *size) { *size = 1; return SUCCESS; }

}  // namespace

extern "C" {

int cusolverDnCreate(void **h) { *h = new Handle; return SUCCESS; }
int cusolverDnDestroy(Handle *h) { delete h; return SUCCESS; }
int cusolverDnSetStream(Handle *h, void *s) { h->stream = s; return SUCCESS; }
int cusolverDnGetStream(Handle *h, void **s) { *s = h->stream; return SUCCESS; }
int cusolverGetProperty(int which, int *v) { *v = which == 0 ? 12 : 0; return SUCCESS; }

#define PARAMETERS(name) \
    int cusolverDnCreate##name(void **p) { *p = new int; return SUCCESS; } \
    int cusolverDnDestroy##name(void *p) { delete (int *)p; return SUCCESS; }
PARAMETERS(Params)
PARAMETERS(SyevjInfo)
PARAMETERS(GesvdjInfo)
int cusolverDnXsyevjSetTolerance(void *, double) { return SUCCESS; }
int cusolverDnXsyevjSetMaxSweeps(void *, int) { return SUCCESS; }
int cusolverDnXsyevjSetSortEig(void *, int) { return SUCCESS; }
int cusolverDnXgesvdjSetTolerance(void *, double) { return SUCCESS; }
int cusolverDnXgesvdjSetMaxSweeps(void *, int) { return SUCCESS; }
int cusolverDnXgesvdjSetSortEig(void *, int) { return SUCCESS; }

#define OF_EVERY_TYPE(P, T, SY, OR) \
    int cusolverDn##P##potrf_bufferSize(Handle *, int, int, T *, int, int *size) { return one(size); } \
    int cusolverDn##P##potrf(Handle *, int uplo, int n, T *a, int lda, T *, int, int *info) \
    { Open open; return potrf(uplo, n, a, lda, info); } \
    int cusolverDn##P##potrfBatched(Handle *, int uplo, int n, T *const *a, int lda, int *info, int count) \
    { Open open; for (int q = 0; q < count; ++q) potrf(uplo, n, a[q], lda, info + q); return SUCCESS; } \
    int cusolverDn##P##potrs(Handle *, int uplo, int n, int nrhs, const T *a, int lda, T *b, int ldb, int *info) \
    { Open open; return potrs(uplo, n, nrhs, a, lda, b, ldb, info); } \
    int cusolverDn##P##potrsBatched(Handle *, int uplo, int n, int nrhs, T *const *a, int lda, T *const *b, int ldb, \
                                    int *info, int count) \
    { Open open; for (int q = 0; q < count; ++q) potrs(uplo, n, nrhs, a[q], lda, b[q], ldb, info); return SUCCESS; } \
    int cusolverDn##P##getrf_bufferSize(Handle *, int, int, T *, int, int *size) { return one(size); } \
    int cusolverDn##P##getrf(Handle *, int m, int n, T *a, int lda, T *, int *pivots, int *info) \
    { Open open; return getrf(m, n, a, lda, pivots, info); } \
    int cusolverDn##P##getrs(Handle *, int trans, int n, int nrhs, const T *a, int lda, const int *pivots, T *b, \
                             int ldb, int *info) \
    { Open open; return getrs(trans, n, nrhs, a, lda, pivots, b, ldb, info); } \
    int cusolverDn##P##geqrf_bufferSize(Handle *, int, int, T *, int, int *size) { return one(size); } \
    int cusolverDn##P##geqrf(Handle *, int m, int n, T *a, int lda, T *tau, T *, int, int *info) \
    { Open open; return geqrf(m, n, a, lda, tau, info); } \
    int cusolverDn##P##OR##gqr_bufferSize(Handle *, int, int, int, const T *, int, const T *, int *size) { return one(size); } \
    int cusolverDn##P##OR##gqr(Handle *, int m, int n, int k, T *a, int lda, const T *tau, T *, int, int *info) \
    { Open open; return orgqr(m, n, k, a, lda, tau, info); } \
    int cusolverDn##P##OR##mqr_bufferSize(Handle *, int, int, int, int, int, const T *, int, const T *, const T *, int, \
                                          int *size) { return one(size); } \
    int cusolverDn##P##OR##mqr(Handle *, int side, int trans, int m, int n, int k, const T *a, int lda, const T *tau, \
                               T *c, int ldc, T *, int, int *info) \
    { Open open; return ormqr(side, trans, m, n, k, a, lda, tau, c, ldc, info); } \
    int cusolverDn##P##gesvd_bufferSize(Handle *, int, int, int *size) { return one(size); } \
    int cusolverDn##P##gesvd(Handle *, signed char jobu, signed char jobvt, int m, int n, T *a, int lda, real_of<T> *s, \
                             T *u, int ldu, T *vt, int ldvt, T *, int, real_of<T> *, int *info) \
    { if (m < n) return INVALID_VALUE; \
      Open open; return svd(jobu, jobvt, m, n, a, lda, s, u, ldu, vt, ldvt, info); } \
    int cusolverDn##P##gesvdj_bufferSize(Handle *, int, int, int, int, const T *, int, const real_of<T> *, const T *, \
                                         int, const T *, int, int *size, void *) { return one(size); } \
    int cusolverDn##P##gesvdj(Handle *, int jobz, int econ, int m, int n, T *a, int lda, real_of<T> *s, T *u, int ldu, \
                              T *v, int ldv, T *, int, int *info, void *) \
    { Open open; return svdj(jobz, econ, m, n, a, lda, s, u, ldu, v, ldv, info); } \
    int cusolverDn##P##gesvdjBatched_bufferSize(Handle *, int, int, int, const T *, int, const real_of<T> *, const T *, \
                                                int, const T *, int, int *size, void *, int) { return one(size); } \
    int cusolverDn##P##gesvdjBatched(Handle *, int jobz, int m, int n, T *a, int lda, real_of<T> *s, T *u, int ldu, \
                                     T *v, int ldv, T *, int, int *info, void *, int count) \
    { if (m > 32 || n > 32) return INVALID_VALUE; \
      Open open; \
      for (long q = 0; q < count; ++q) \
          svdj(jobz, 0, m, n, a + q * lda * n, lda, s + q * std::min(m, n), u + q * ldu * m, ldu, v + q * ldv * n, ldv, info + q); \
      return SUCCESS; } \
    int cusolverDn##P##SY##evd_bufferSize(Handle *, int, int, int, const T *, int, const real_of<T> *, int *size) { return one(size); } \
    int cusolverDn##P##SY##evd(Handle *, int jobz, int uplo, int n, T *a, int lda, real_of<T> *w, T *, int, int *info) \
    { Open open; return eigh(jobz, uplo, n, a, lda, w, info); } \
    int cusolverDn##P##SY##evj_bufferSize(Handle *, int, int, int, const T *, int, const real_of<T> *, int *size, void *) \
    { return one(size); } \
    int cusolverDn##P##SY##evj(Handle *, int jobz, int uplo, int n, T *a, int lda, real_of<T> *w, T *, int, int *info, void *) \
    { Open open; return eigh(jobz, uplo, n, a, lda, w, info); } \
    int cusolverDn##P##SY##evjBatched_bufferSize(Handle *, int, int, int, const T *, int, const real_of<T> *, int *size, \
                                                 void *, int) { return one(size); } \
    int cusolverDn##P##SY##evjBatched(Handle *, int jobz, int uplo, int n, T *a, int lda, real_of<T> *w, T *, int, \
                                      int *info, void *, int count) \
    { Open open; for (long q = 0; q < count; ++q) eigh(jobz, uplo, n, a + q * lda * n, lda, w + q * n, info + q); \
      return SUCCESS; }
OF_EVERY_TYPE(S, float, sy, or)
OF_EVERY_TYPE(D, double, sy, or)
OF_EVERY_TYPE(C, c32, he, un)
OF_EVERY_TYPE(Z, c64, he, un)

int cusolverDnXsyevd_bufferSize(Handle *, void *, int, int, long, int, const void *, long, int, const void *, int,
                                size_t *device, size_t *host)
{
    *device = *host = 16;
    return SUCCESS;
}
int cusolverDnXsyevd(Handle *, void *, int jobz, int uplo, long n, int type, void *a, long lda, int, void *w, int, void *,
                     size_t, void *, size_t, int *info)
{
    Open open;
    switch (type) {
    case R_32F: return eigh(jobz, uplo, int(n), (float *)a, int(lda), (float *)w, info);
    case R_64F: return eigh(jobz, uplo, int(n), (double *)a, int(lda), (double *)w, info);
    case C_32F: return eigh(jobz, uplo, int(n), (c32 *)a, int(lda), (float *)w, info);
    case C_64F: return eigh(jobz, uplo, int(n), (c64 *)a, int(lda), (double *)w, info);
    }
    return NOT_SUPPORTED;
}

int cusolverDnXgeev_bufferSize(Handle *, void *, int, int, long, int, const void *, long, int, const void *, int,
                               const void *, long, int, const void *, long, int, size_t *device, size_t *host)
{
    *device = *host = 16;
    return SUCCESS;
}
int cusolverDnXgeev(Handle *, void *, int jobvl, int jobvr, long n, int type, void *a, long lda, int, void *w, int,
                    void *vl, long ldvl, int, void *vr, long ldvr, int, void *, size_t, void *, size_t, int *info)
{
    Open open;
    switch (type) {
    case R_32F: return geev(jobvl, jobvr, int(n), (float *)a, int(lda), w, (float *)vl, int(ldvl), (float *)vr, int(ldvr), info);
    case R_64F: return geev(jobvl, jobvr, int(n), (double *)a, int(lda), w, (double *)vl, int(ldvl), (double *)vr, int(ldvr), info);
    case C_32F: return geev(jobvl, jobvr, int(n), (c32 *)a, int(lda), w, (c32 *)vl, int(ldvl), (c32 *)vr, int(ldvr), info);
    case C_64F: return geev(jobvl, jobvr, int(n), (c64 *)a, int(lda), w, (c64 *)vl, int(ldvl), (c64 *)vr, int(ldvr), info);
    }
    return NOT_SUPPORTED;
}

}  // extern "C"
