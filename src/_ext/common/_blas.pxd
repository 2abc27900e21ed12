"""The one door to BLAS: row-major, const inputs, nogil, both element types.

Everything is inline, so a module that cimports this file calls SciPy's BLAS directly and imports nothing of ours at
run time. Cython compares the C signature of each function when the importing module is loaded, so a SciPy with 64-bit
BLAS integers is an ImportError that names the function, and never a wrong call.

BLAS reads column-major: a row-major (m, n) matrix is to it the transpose, (n, m). The functions below swap operands
and dimensions accordingly. SciPy's prototypes lack const; the casts remove it and nothing is written through them.

Sizes are `blas_int`. Turn every dimension, increment and leading dimension into one with `as_blas_int`, which refuses
what does not fit, before the GIL is released. A leading dimension is at least 1, also of an empty matrix.
"""

from cython cimport floating
from libc.limits cimport INT_MAX
from scipy.linalg.cython_blas cimport (
    daxpy, ddot, dgemm, dgemv, dnrm2, dscal, saxpy, sdot, sgemm, sgemv, snrm2, sscal,
)

ctypedef int blas_int


cdef inline blas_int as_blas_int(Py_ssize_t n, str what) except? -1:
    """n as a BLAS integer, or ShapeError; `what` names it, as "lanczos: the number of rows of `V`"."""
    if n > INT_MAX:
        from nnmath_core.errors import ShapeError
        raise ShapeError(f"{what} must be at most {INT_MAX} (BLAS counts in 32 bits), got {n}.")
    return <blas_int>n


cdef inline void gemm(bint ta, bint tb, blas_int m, blas_int n, blas_int k, floating alpha,
                      const floating *a, blas_int lda, const floating *b, blas_int ldb,
                      floating beta, floating *c, blas_int ldc) noexcept nogil:
    """C (m, n) <- alpha op(A) (m, k) op(B) (k, n) + beta C; C is not read where beta = 0.

    C^T = op(B)^T op(A)^T is what BLAS is asked for: operands and m, n change places, the flags stay.
    """
    cdef char fa = b'T' if ta else b'N'
    cdef char fb = b'T' if tb else b'N'
    if floating is float:
        sgemm(&fb, &fa, &n, &m, &k, &alpha, <float *>b, &ldb, <float *>a, &lda, &beta, c, &ldc)
    else:
        dgemm(&fb, &fa, &n, &m, &k, &alpha, <double *>b, &ldb, <double *>a, &lda, &beta, c, &ldc)


cdef inline void gemv(bint ta, blas_int m, blas_int n, floating alpha, const floating *a, blas_int lda,
                      const floating *x, blas_int incx, floating beta,
                      floating *y, blas_int incy) noexcept nogil:
    """y <- alpha op(A) x + beta y, A (m, n); y is not read where beta = 0.

    BLAS returns without touching y where m or n is 0; here an empty sum is 0.
    """
    cdef char fa = b'N' if ta else b'T'
    cdef Py_ssize_t i
    if m == 0 or n == 0:
        for i in range(n if ta else m):
            y[i * incy] = 0 if beta == 0 else beta * y[i * incy]
        return
    if floating is float:
        sgemv(&fa, &n, &m, &alpha, <float *>a, &lda, <float *>x, &incx, &beta, y, &incy)
    else:
        dgemv(&fa, &n, &m, &alpha, <double *>a, &lda, <double *>x, &incx, &beta, y, &incy)


cdef inline floating dot(blas_int n, const floating *x, blas_int incx,
                         const floating *y, blas_int incy) noexcept nogil:
    """The sum of x_i y_i, accumulated in the element type."""
    if floating is float:
        return sdot(&n, <float *>x, &incx, <float *>y, &incy)
    else:
        return ddot(&n, <double *>x, &incx, <double *>y, &incy)


cdef inline void axpy(blas_int n, floating alpha, const floating *x, blas_int incx,
                      floating *y, blas_int incy) noexcept nogil:
    """y <- y + alpha x."""
    if floating is float:
        saxpy(&n, &alpha, <float *>x, &incx, y, &incy)
    else:
        daxpy(&n, &alpha, <double *>x, &incx, y, &incy)


cdef inline floating nrm2(blas_int n, const floating *x, blas_int incx) noexcept nogil:
    """sqrt of the sum of x_i^2, without overflow or underflow on the way."""
    if floating is float:
        return snrm2(&n, <float *>x, &incx)
    else:
        return dnrm2(&n, <double *>x, &incx)


cdef inline void scal(blas_int n, floating alpha, floating *x, blas_int incx) noexcept nogil:
    """x <- alpha x."""
    if floating is float:
        sscal(&n, &alpha, x, &incx)
    else:
        dscal(&n, &alpha, x, &incx)
