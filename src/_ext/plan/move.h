/* What the kernels of movement and indices share: codes of types, rows of a copy, and indices that may be wrong. */
#ifndef NNM_MOVE_H
#define NNM_MOVE_H

#include "plan/nnm_plan.h"

/* Types of entries, as program/lower/entries.py numbers them. */
enum {
    NNM_F4, NNM_F8, NNM_C8, NNM_C16,
    NNM_I1, NNM_I2, NNM_I4, NNM_I8,
    NNM_U1, NNM_U2, NNM_U4, NNM_U8,
    NNM_BOOL,
};

enum { NNM_MAX_AXES = 64 };

/* Copies n items at strides in bytes. Item sizes are 1, 2, 4, 8 and 16. */
typedef void (*nnm_row)(int64_t n, const char *x, int64_t sx, char *y, int64_t sy);
nnm_row nnm_row_of(int64_t itemsize);

/* The place of an index on an axis of n > 0 entries; negative ones count from the end. Of one that is outside the run
 * fails in the end, and meanwhile it is 0, so that nothing else is touched. */
static inline int64_t nnm_place(int64_t i, int64_t n, nnm_frame *frame)
{
    if ((uint64_t)i < (uint64_t)n)
        return i;
    if (i < 0 && i >= -n)
        return i + n;
    nnm_outside(frame, i, n);
    return 0;
}

#endif
