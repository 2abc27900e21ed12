/* A step of an optimizer on a tensor, piece by piece, as a product of matrices makes its gradient. */
#ifndef NNM_PLAN_OPTIMIZER_H
#define NNM_PLAN_OPTIMIZER_H

#include "gemm/after.h"
#include "optim/rules.h"
#include "plan/nnm_plan.h"

typedef struct {
    nnm_after after;
    const nnm_optim_kernels *kernels;
    nnm_step_numbers numbers;
    int wide, slots;
    int64_t row, col, cols;             /* of the tensor: where the piece of the thread begins; all columns */
    const char *from[1 + NNM_SLOTS_MOST]; /* weights and slots */
    char *to[1 + NNM_SLOTS_MOST];
} nnm_step_after;

/* refs from `first` on: learning rate, number of the step, weights, slots; from `written` on: new weights, slots. */
void nnm_step_begin(nnm_step_after *s, const nnm_instr *in, nnm_frame *frame, int64_t rule, int64_t type, int64_t first,
                    int64_t written);

#endif
