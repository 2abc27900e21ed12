"""The steps of a Lanczos run with full reorthogonalisation; the product A v is Python's, the rest holds no GIL."""

from cython cimport floating
from libc.float cimport DBL_EPSILON, FLT_EPSILON
from libc.math cimport fabs, isfinite, sqrt
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from _blas cimport as_blas_int, axpy, blas_int, dot, gemv, nrm2, scal

from nnmath_core.errors import DomainError, ShapeError


cdef inline double wide_dot(blas_int n, const floating *x, const floating *y) noexcept nogil:
    """The sum of x_i y_i, accumulated in double for both types: the entries of T come from it."""
    cdef double a = 0, b = 0, c = 0, d = 0
    cdef Py_ssize_t i, whole = n - n % 4
    if floating is double:
        return dot(n, x, 1, y, 1)
    else:
        for i in range(0, whole, 4):
            a += <double>x[i] * y[i]
            b += <double>x[i + 1] * y[i + 1]
            c += <double>x[i + 2] * y[i + 2]
            d += <double>x[i + 3] * y[i + 3]
        for i in range(whole, n):
            a += <double>x[i] * y[i]
        return (a + b) + (c + d)


cdef inline double wide_norm(blas_int n, const floating *x) noexcept nogil:
    """The length of x: the squares of float32 fit a double, those of doubles are scaled by BLAS."""
    if floating is double:
        return nrm2(n, x, 1)
    else:
        return sqrt(wide_dot(n, x, x))


cdef double orthogonalise(const floating *basis, blas_int rows, blas_int n, floating *w, floating *coefficients,
                          double before, double *leak) noexcept nogil:
    """Make w (n,) orthogonal to the orthonormal rows of basis; return its length, or -1 where w lies in their span.

    Classical Gram-Schmidt in two products, repeated once where the length fell: twice is enough (Kahan, Parlett).
    `leak` receives the largest coefficient of the first pass, which is rounding when A is symmetric.
    """
    cdef double after
    cdef int k
    cdef Py_ssize_t i
    for k in range(2):
        gemv(False, rows, n, <floating>1, basis, n, w, 1, <floating>0, coefficients, 1)
        gemv(True, rows, n, <floating>-1, basis, n, coefficients, 1, <floating>1, w, 1)
        if k == 0:
            for i in range(rows):
                leak[0] = max(leak[0], fabs(coefficients[i]))
        after = wide_norm(n, w)
        if after >= 0.7 * before:
            return after
        before = after
        if k == 1:
            break
    # A second loss of length: what is left is rounding of what was taken away.
    gemv(False, rows, n, <floating>1, basis, n, w, 1, <floating>0, coefficients, 1)
    for i in range(rows):
        if fabs(coefficients[i]) > 0.5 * after:
            return -1
    return after


def orthonormalise(const floating[:, ::1] basis, Py_ssize_t rows, floating[::1] w, floating[::1] coefficients):
    """w <- unit vector orthogonal to the first rows of basis; False where w lies in their span, to rounding."""
    cdef blas_int n = as_blas_int(basis.shape[1], "lanczos: the number of columns of the basis")
    cdef blas_int m = as_blas_int(rows, "lanczos: the number of rows of the basis")
    cdef double before, length, leak = 0
    cdef double eps = DBL_EPSILON if floating is double else FLT_EPSILON
    if w.shape[0] != n or rows > basis.shape[0] or coefficients.shape[0] < rows:
        raise ShapeError("orthonormalise: the basis, the vector and the coefficients must agree.")
    if n == 0:
        return False
    with nogil:
        length = before = wide_norm(n, &w[0])
        if m > 0 and length > 0:
            length = orthogonalise(&basis[0, 0], m, n, &w[0], &coefficients[0], before, &leak)
        if length > 32 * eps * before:
            scal(n, <floating>(1 / length), &w[0], 1)
    return length > 32 * eps * before


def run(product, floating[:, ::1] basis, Py_ssize_t locked, Py_ssize_t stop, double[::1] alpha, double[::1] beta,
        floating[::1] coefficients, int64_t[::1] done, double[::1] facts, double breakdown):
    """Steps done[0] .. stop-1 of a run whose first vector is row `locked`; True where it broke down.

    Step j takes v = row locked + j, writes A v to the next row, takes away all rows up to v and normalises. alpha[j]
    and beta[j] are the entries of T. product(i) returns A @ basis[i]. done[0] counts complete steps, also when
    product raises. facts: the largest |A v| and the largest leak (see `orthogonalise`), updated. A run breaks down
    where beta[j] <= breakdown * facts[0]; the next row is then not normalised.
    """
    cdef blas_int n = as_blas_int(basis.shape[1], "lanczos: the number of columns of the basis")
    cdef blas_int rows
    cdef Py_ssize_t j, i
    cdef double length, leak
    cdef const floating[::1] image
    cdef floating *v
    cdef floating *w
    as_blas_int(basis.shape[0], "lanczos: the number of rows of the basis")
    if (locked + stop >= basis.shape[0] or stop > alpha.shape[0] or stop > beta.shape[0] or n == 0
            or coefficients.shape[0] < basis.shape[0]):
        raise ShapeError("run: the basis, its coefficients and the entries of T must have room for the steps.")
    while done[0] < stop:
        j = done[0]
        i = locked + j
        image = product(i)
        if image.shape[0] != n:
            raise ShapeError(f"lanczos: `A @ v` must have shape ({n},), got ({image.shape[0]},).")
        with nogil:
            rows = <blas_int>(i + 1)
            v = &basis[i, 0]
            w = &basis[i + 1, 0]
            memcpy(w, &image[0], n * sizeof(floating))
            length = wide_norm(n, w)
            if isfinite(length):
                leak = facts[1]
                facts[0] = max(facts[0], length)
                alpha[j] = wide_dot(n, v, w)
                axpy(n, <floating>(-alpha[j]), v, 1, w, 1)
                if j > 0:
                    axpy(n, <floating>(-beta[j - 1]), &basis[i - 1, 0], 1, w, 1)
                length = orthogonalise(&basis[0, 0], rows, n, w, &coefficients[0], wide_norm(n, w), &leak)
                facts[1] = leak
                beta[j] = max(length, 0.0)
                done[0] = j + 1
                if length > breakdown * facts[0]:
                    scal(n, <floating>(1 / length), w, 1)
        if not isfinite(length):
            raise DomainError(f"lanczos: `A @ v` must be finite, got infinity or NaN in step {j + 1}. Is the point of "
                              "the operator one where its entries are finite?")
        if not length > breakdown * facts[0]:
            return True
    return False
