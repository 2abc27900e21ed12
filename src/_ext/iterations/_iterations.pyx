"""Iterations over products, without the GIL: Lanczos with full reorthogonalisation, conjugate gradients, powers.

Each door takes a product (`product.pxi`) and arrays that the caller has made; it does so many steps in C, on the
threads of the pool, and returns with the state in the arrays whole, also when a product failed or a signal has come.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from cython cimport floating
from libc.float cimport DBL_EPSILON, FLT_EPSILON
from libc.math cimport fabs, isfinite, sqrt
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

cimport numpy as cnp
import numpy as np

from _blas cimport as_blas_int, axpy, blas_int, dot, gemm, gemv, nrm2, scal
from _isa cimport require_isa
from _threads cimport nnm_barrier, nnm_barrier_join, nnm_job, nnm_pool_table, pool_table

from nnmath_core.errors import DomainError, ShapeError

cdef extern from "nnmath_core.h":
    const char *NNM_CAPSULE
    enum:
        NNM_OK
        NNM_TYPE_FLOAT32
        NNM_TYPE_FLOAT64
    ctypedef struct nnm_spec:
        int32_t dtype, rank
        const int64_t *shape
        int64_t nbytes
    ctypedef struct nnm_plan:
        int32_t ninputs, noutputs
        const nnm_spec *inputs
        const nnm_spec *outputs
    int nnm_run(const nnm_plan *, const void *const *, void *const *, void *) noexcept nogil
    const char *nnm_message(int) noexcept nogil

cdef extern from "nnm_linalg.h":
    ctypedef struct nnm_linalg_kernels:
        void (*normal_rows_f32)(Py_ssize_t, Py_ssize_t, const float *, Py_ssize_t, const float *, float *,
                                float *) noexcept nogil
        void (*normal_rows_f64)(Py_ssize_t, Py_ssize_t, const double *, Py_ssize_t, const double *, double *,
                                double *) noexcept nogil
    const nnm_linalg_kernels *nnm_linalg_table()

cnp.import_array()
require_isa()
cdef const nnm_linalg_kernels *K = nnm_linalg_table()
cdef const nnm_pool_table *pool = pool_table()

cdef double SIGNALS_EVERY = 0.02         # seconds


cdef inline bint signals_due(double *last) noexcept nogil:
    """Whether it is time to let Python see to signals."""
    cdef double now = pool.now()
    if now - last[0] < SIGNALS_EVERY:
        return False
    last[0] = now
    return True


cdef inline double wide_dot(Py_ssize_t n, const floating *x, const floating *y) noexcept nogil:
    """The sum of x_i y_i, accumulated in double for both types."""
    cdef double a = 0, b = 0, c = 0, d = 0
    cdef Py_ssize_t i, whole = n - n % 4
    if floating is double:
        return dot(<blas_int>n, x, 1, y, 1)
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
    """The length of x: the squares of float32 fit a double, those of doubles are scaled where they do not."""
    cdef double squares = wide_dot(n, x, x)
    if floating is double:
        if not 1e-280 < squares < 1e280:
            return nrm2(n, x, 1)
    return sqrt(squares)


include "product.pxi"
include "lanczos.pxi"
include "cg.pxi"
include "power.pxi"
