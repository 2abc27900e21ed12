/* Plans as nnmath_core.h shows them to C, and as the functions that SciPy calls. */
#ifndef NNM_EMBED_H
#define NNM_EMBED_H

#include "nnmath_core.h"
#include "plan/nnm_plan.h"

typedef struct {
    nnm_plan face; /* first: its address is that of the whole */
    const nnm_program *program;
    const int64_t *slots; /* of the inputs, then of the outputs */
} nnm_embedded;

enum { NNM_QUAD_MOST = 64 }; /* numbers that nnm_quad_numbers and nnm_mapping take */

/* Fill what does not depend on the program's inputs and outputs: sizes, versions, the function. */
void nnm_embed(nnm_embedded *e, const nnm_program *program);

/* The functions for scipy.LowLevelCallable; user_data is the nnm_plan. What cannot be computed is NaN, or 0 where the
 * function returns whether all went well; entries too many or too few also set an exception. */
double nnm_quad(double x, void *user_data);                 /* one number -> a number */
double nnm_quad_numbers(int n, double *x, void *user_data); /* n numbers -> a number */
double nnm_quad_array(int n, double *x, void *user_data);   /* n entries of one array -> a number */
int nnm_filter(double *x, ptrdiff_t n, double *y, void *user_data);
int nnm_filter1d(double *x, ptrdiff_t n, double *y, ptrdiff_t m, void *user_data);
int nnm_mapping(ptrdiff_t *x, double *y, int n, int m, void *user_data); /* coordinates -> coordinates */

/* Set once, at import: print and drop the exception of a run; set the exception of a call with n (and m) entries. */
void nnm_embed_errors(void (*print)(void *error), void (*misfit)(const nnm_plan *plan, ptrdiff_t n, ptrdiff_t m));

#endif
