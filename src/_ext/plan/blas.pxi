# The addresses of BLAS's functions. Cython compares the C signature of each when this module is imported.
from scipy.linalg.cython_blas cimport cgemm, cgemv, dgemm, dgemv, sgemm, sgemv, zgemm, zgemv

cdef extern from "plan/blas.h":
    ctypedef void (*blas_gemm "nnm_blas_gemm")(char *, char *, int *, int *, int *, void *, void *, int *,
                                               void *, int *, void *, void *, int *) noexcept nogil
    ctypedef void (*blas_gemv "nnm_blas_gemv")(char *, int *, int *, void *, void *, int *, void *, int *,
                                               void *, void *, int *) noexcept nogil
    ctypedef struct blas_table "nnm_blas_table":
        blas_gemm gemm[4]
        blas_gemv gemv[4]
    blas_table blas "nnm_blas"

cdef extern from "plan/gemm.h":
    bint gemm_ready "nnm_gemm_ready"() noexcept nogil

blas.gemm[0], blas.gemm[1] = <blas_gemm>sgemm, <blas_gemm>dgemm
blas.gemm[2], blas.gemm[3] = <blas_gemm>cgemm, <blas_gemm>zgemm
blas.gemv[0], blas.gemv[1] = <blas_gemv>sgemv, <blas_gemv>dgemv
blas.gemv[2], blas.gemv[3] = <blas_gemv>cgemv, <blas_gemv>zgemv
gemm_ready()
