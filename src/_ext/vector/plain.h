/* Loops that know no mathematics, compiled once: logic on bytes, casts between real types, strided copies. */
#ifndef NNM_PLAIN_H
#define NNM_PLAIN_H

#include "plan/nnm_plan.h"

/* A row: `type` is the kind and size of the first input, as "f4"; 'b1' is a NumPy bool, "16" any item of 16 bytes. */
typedef struct {
    const char *name, *type, *ins, *outs;
    nnm_loop loop;
} nnm_plain_row;

extern const nnm_plain_row nnm_plain_rows[];
extern const int nnm_plain_count;

#endif
