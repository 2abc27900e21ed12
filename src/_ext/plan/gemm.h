/* Matrix products of the executor, for the other kinds that need one. */
#ifndef NNM_PLAN_GEMM_H
#define NNM_PLAN_GEMM_H

#include "nnm_base.h"

enum { NNM_F32, NNM_F64, NNM_C64, NNM_C128, NNM_U8, NNM_U16, NNM_U32, NNM_U64, NNM_BOOL };
enum { NNM_BY_BLAS, NNM_BY_BLOCKS, NNM_BY_DOTS, NNM_BY_LOOPS, NNM_BY_PACKED };

/* C (m, n) = A (m, k) B (k, n); strides in entries, those of C are (ldc, 1). */
typedef struct {
    int64_t type, how;
    int64_t m, n, k;
    int64_t ra, ka, kb, nb, ldc;
    int64_t adds; /* C += A B; by blocks or packed */
    void *room;   /* of this thread, where operands are packed */
    const void *after; /* packed: what is done with its pieces, see gemm/after.h */
    const void *finish; /* by blocks or packed: what is done with its entries before they are stored, see there */
} nnm_product;

void nnm_multiply(const nnm_product *p, const char *a, const char *b, char *c);

/* Choose the kernels of the instruction set; at import. */
int nnm_gemm_ready(void);

#endif
