/* Loops of universal functions over stacks of matrices and rows, and the end of a run that has no result.
 *
 * The loops are those of NumPy's and SciPy's ufunc objects: factorisations, transforms, functions of several results. They
 * need neither Python nor the GIL. What they work in they take from malloc themselves, and their LAPACK is NumPy's.
 */
#include "plan/nnm_plan.h"

#include <fenv.h>

enum { MOST_ARGS = 16, MOST_NUMBERS = 32, MOST_AXES = 64 };

/* refs: the operands and results of the loop, in its order; what follows them is not its business.
 *
 * ints: address of the loop, address of its data, number of args; whether a floating-point `invalid` at the end of the loop
 * says that there is no result (reason 0); number of core lengths, number of core strides, then these; number of axes of the
 * stack, then for each of them, outermost first: its length, and the stride in bytes of each arg.
 *
 * Threads share the members of the stack, each of which is computed by one of them. */
enum { LOOP, DATA, ARGS, WATCH, LENGTHS, STRIDES, GUFUNC_HEADER };

void nnm_exec_gufunc(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t *I = in->ints, nargs = I[ARGS], lengths = I[LENGTHS], strides = I[STRIDES];
    const int64_t *own = I + GUFUNC_HEADER, axes = own[lengths + strides], *axis = own + lengths + strides + 1;
    const nnm_loop loop = (nnm_loop)(intptr_t)I[LOOP];
    nnm_idx dims[1 + MOST_NUMBERS], steps[MOST_ARGS + MOST_NUMBERS];
    int64_t many = 1, low, high, at[MOST_AXES];
    char *args[MOST_ARGS];

    for (int64_t k = 0; k < axes; ++k)
        many *= axis[k * (nargs + 1)];
    nnm_share(many, 1, t, nt, &low, &high);
    if (low == high)
        return;
    for (int64_t k = 0; k < lengths; ++k)
        dims[1 + k] = (nnm_idx)own[k];
    const int64_t *last = axis + (axes - 1) * (nargs + 1);
    for (int64_t k = 0; k < nargs; ++k)
        steps[k] = (nnm_idx)last[1 + k];
    for (int64_t k = 0; k < strides; ++k)
        steps[nargs + k] = (nnm_idx)own[lengths + k];
    int64_t rest = low;
    for (int64_t k = axes - 1; k >= 0; --k) {
        at[k] = rest % axis[k * (nargs + 1)];
        rest /= axis[k * (nargs + 1)];
    }
    while (low < high) {
        for (int64_t i = 0; i < nargs; ++i) {
            args[i] = nnm_at(frame, in->refs[i]);
            for (int64_t k = 0; k < axes; ++k)
                args[i] += at[k] * axis[k * (nargs + 1) + 1 + i];
        }
        const int64_t left = last[0] - at[axes - 1], run = left < high - low ? left : high - low;
        dims[0] = (nnm_idx)run;
        if (I[WATCH])
            feclearexcept(FE_INVALID);
        loop(args, dims, steps, (void *)(intptr_t)I[DATA]);
        if (I[WATCH] && fetestexcept(FE_INVALID)) {
            nnm_refuse(frame, in, 0);
            return;
        }
        low += run;
        at[axes - 1] += run - 1;
        for (int64_t k = axes - 1; k >= 0 && ++at[k] == axis[k * (nargs + 1)]; --k)
            at[k] = 0;
    }
}

/* Ends the run where flags say so. refs: int64, one behind the other. ints: how many. The largest above 0, k, is reason k - 1. */
void nnm_exec_guard(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t *x = (const int64_t *)nnm_at(frame, in->refs[0]);
    int64_t low, high, top = 0;
    nnm_share(in->ints[0], 64, t, nt, &low, &high);
    for (int64_t i = low; i < high; ++i)
        if (x[i] > top)
            top = x[i];
    if (top > 0)
        nnm_refuse(frame, in, (int)(top - 1) % NNM_REASONS);
}
