/* What is done with the entries of C while they are in registers, before they are stored, and while they are in the
 * first-level cache: gemm_packed tells of each piece of C as soon as it is whole. */
#ifndef NNM_GEMM_AFTER_H
#define NNM_GEMM_AFTER_H

#include "nnm_base.h"

/* With the bits of loops that would follow the product: the row is added to whole sums, then 0 takes the place of x <= 0;
 * NaN stays. */
typedef struct {
    const void *row; /* a number for each column of C; or NULL */
    int relu;
} nnm_finish;

typedef struct nnm_after nnm_after;
struct nnm_after {
    /* Rows and columns of C from (row, col) on lie at c, rows ldc entries apart. */
    void (*done)(const nnm_after *after, nnm_idx row, nnm_idx rows, nnm_idx col, nnm_idx cols, char *c, nnm_idx ldc);
    char *tile; /* where each piece is made, GEMM_PR x GEMM_WIDE entries: nobody else reads C, and k is not cut */
};

#endif
