/* Which instruction set the kernels use: decided from the processor and NNMATH_ISA. */
#ifndef NNM_ISA_H
#define NNM_ISA_H

enum { NNM_ISA_NONE = -1, NNM_ISA_BASELINE = 0, NNM_ISA_V3 = 1, NNM_ISA_V4 = 2 };

/* One of the above; NNM_ISA_NONE where NNMATH_ISA asks for what cannot be had. */
int nnm_isa_selected(void);

/* NULL, or why NNMATH_ISA cannot be followed, as the end of a sentence. */
const char *nnm_isa_problem(void);

/* Whether this processor can run level (built or not). */
int nnm_isa_runs_here(int level);

#endif
