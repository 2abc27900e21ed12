/* The table of the family `vector` as rows that the door can search, made from vector.def. */
#ifndef NNM_VECTOR_ROWS_H
#define NNM_VECTOR_ROWS_H

#include "nnm_vector.h"
#include "plan/nnm_plan.h"
#include "vector/plain.h"

typedef struct {
    const char *name, *ins, *outs;
    nnm_loop loop[2]; /* float64, float32 */
} nnm_vector_row;

#define K(name, args)
#define L(name, ins, outs) {#name, ins, outs, {NULL, NULL}},
static nnm_vector_row nnm_vector_rows[] = {
#include "vector/vector.def"
};
#undef L

enum { NNM_VECTOR_COUNT = sizeof nnm_vector_rows / sizeof *nnm_vector_rows };

/* Fill the rows from the table of the chosen instruction set; its name. */
static inline const char *nnm_vector_init(void)
{
    nnm_vector_row *row = nnm_vector_rows;
    const nnm_vector_kernels *t = nnm_vector_table();
#define L(name, ins, outs)                \
    row->loop[0] = t->name##_f64;         \
    row->loop[1] = t->name##_f32;         \
    ++row;
#include "vector/vector.def"
#undef L
    return t->isa;
}
#undef K

#endif
