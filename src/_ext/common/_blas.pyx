"""Each function of `_blas.pxd` from Python, so that tests reach every transpose, type and empty size."""

from cython cimport floating

from _blas cimport as_blas_int, axpy, dot, gemm, gemv, nrm2, scal

from nnmath_core.errors import ShapeError


def matmul(const floating[:, ::1] a, const floating[:, ::1] b, floating[:, ::1] out,
           double alpha=1, double beta=0, bint ta=False, bint tb=False):
    """out <- alpha op(a) op(b) + beta out."""
    cdef Py_ssize_t rows = a.shape[1] if ta else a.shape[0], inner = a.shape[0] if ta else a.shape[1]
    cdef Py_ssize_t inner_b = b.shape[1] if tb else b.shape[0], cols = b.shape[0] if tb else b.shape[1]
    if inner != inner_b or out.shape[0] != rows or out.shape[1] != cols:
        raise ShapeError(f"matmul: `out` and the factors must agree, got ({rows}, {inner}) @ ({inner_b}, {cols}) "
                         f"-> ({out.shape[0]}, {out.shape[1]}).")
    m = as_blas_int(rows, "matmul: the number of rows of `a`")
    n = as_blas_int(cols, "matmul: the number of columns of `b`")
    k = as_blas_int(inner, "matmul: the number of summed terms")
    if m == 0 or n == 0:
        return
    gemm(ta, tb, m, n, k, <floating>alpha, &a[0, 0] if k else NULL, max(1, <int>a.shape[1]),
         &b[0, 0] if k else NULL, max(1, <int>b.shape[1]), <floating>beta, &out[0, 0], n)


def matvec(const floating[:, ::1] a, const floating[::1] x, floating[::1] out,
           double alpha=1, double beta=0, bint ta=False):
    """out <- alpha op(a) x + beta out."""
    cdef Py_ssize_t rows = a.shape[1] if ta else a.shape[0], inner = a.shape[0] if ta else a.shape[1]
    if x.shape[0] != inner or out.shape[0] != rows:
        raise ShapeError(f"matvec: `out` and the factors must agree, got ({rows}, {inner}) @ ({x.shape[0]},) "
                         f"-> ({out.shape[0]},).")
    m = as_blas_int(a.shape[0], "matvec: the number of rows of `a`")
    n = as_blas_int(a.shape[1], "matvec: the number of columns of `a`")
    if rows == 0:
        return
    gemv(ta, m, n, <floating>alpha, &a[0, 0] if inner else NULL, max(1, n), &x[0] if inner else NULL, 1,
         <floating>beta, &out[0], 1)


def inner(const floating[::1] x, const floating[::1] y):
    """The sum of x_i y_i."""
    _require_same_length("inner", x.shape[0], y.shape[0])
    n = as_blas_int(x.shape[0], "inner: the length of `x`")
    return dot(n, &x[0], 1, &y[0], 1) if n else 0.0


def add_scaled(double alpha, const floating[::1] x, floating[::1] y):
    """y <- y + alpha x."""
    _require_same_length("add_scaled", x.shape[0], y.shape[0])
    n = as_blas_int(x.shape[0], "add_scaled: the length of `x`")
    if n:
        axpy(n, <floating>alpha, &x[0], 1, &y[0], 1)


def norm(const floating[::1] x):
    """sqrt of the sum of x_i^2."""
    n = as_blas_int(x.shape[0], "norm: the length of `x`")
    return nrm2(n, &x[0], 1) if n else 0.0


def scale(double alpha, floating[::1] x):
    """x <- alpha x."""
    n = as_blas_int(x.shape[0], "scale: the length of `x`")
    if n:
        scal(n, <floating>alpha, &x[0], 1)


cdef _require_same_length(str who, Py_ssize_t n, Py_ssize_t m):
    if n != m:
        raise ShapeError(f"{who}: `y` must be of shape ({n},), got ({m},).")
