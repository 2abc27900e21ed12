/* BLAS for the executor: SciPy's functions, whose addresses blas.pxi fills in when the module is imported.
 *
 * The index is the type: 0 float32, 1 float64, 2 complex64, 3 complex128. Numbers are passed by their address, so that
 * one type of function stands for the four. Everything is column-major; sizes have 32 bits.
 */
#ifndef NNM_BLAS_H
#define NNM_BLAS_H

typedef void (*nnm_blas_gemm)(char *ta, char *tb, int *m, int *n, int *k, void *alpha, void *a, int *lda, void *b, int *ldb,
                              void *beta, void *c, int *ldc);
typedef void (*nnm_blas_gemv)(char *ta, int *m, int *n, void *alpha, void *a, int *lda, void *x, int *incx, void *beta,
                              void *y, int *incy);

typedef struct {
    nnm_blas_gemm gemm[4];
    nnm_blas_gemv gemv[4];
} nnm_blas_table;

extern nnm_blas_table nnm_blas;

#endif
