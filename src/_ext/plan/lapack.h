/* LAPACK for the executor: SciPy's functions, whose addresses lapack.pxi fills in when the module is imported.
 *
 * The index is the type, as in blas.h; numbers and matrices are passed by their address. Everything is column-major.
 */
#ifndef NNM_LAPACK_H
#define NNM_LAPACK_H

typedef struct {
    void (*trsm[4])(char *side, char *uplo, char *trans, char *diag, int *m, int *n, void *alpha, void *a, int *lda,
                    void *b, int *ldb);
    void (*getrf[4])(int *m, int *n, void *a, int *lda, int *ipiv, int *info);
    void (*gesv[4])(int *n, int *nrhs, void *a, int *lda, int *ipiv, void *b, int *ldb, int *info);
    void (*gbsv[4])(int *n, int *kl, int *ku, int *nrhs, void *ab, int *ldab, int *ipiv, void *b, int *ldb, int *info);
    /* real: eigenvalues as real and imaginary parts; complex: as numbers, and real workspace */
    void (*gees_real[2])(char *jobvs, char *sort, void *select, int *n, void *a, int *lda, int *sdim, void *wr, void *wi,
                         void *vs, int *ldvs, void *work, int *lwork, void *bwork, int *info);
    void (*gees_complex[2])(char *jobvs, char *sort, void *select, int *n, void *a, int *lda, int *sdim, void *w, void *vs,
                            int *ldvs, void *work, int *lwork, void *rwork, void *bwork, int *info);
    void (*trsyl[4])(char *trana, char *tranb, int *isgn, int *m, int *n, void *a, int *lda, void *b, int *ldb, void *c,
                     int *ldc, void *scale, int *info);
} nnm_lapack_table;

extern nnm_lapack_table nnm_lapack;

#endif
