/* The table of the family `elementwise` as rows that a primitive can number, made from elementwise.def. */
#ifndef NNM_ELEMENTWISE_ROWS_H
#define NNM_ELEMENTWISE_ROWS_H

#include "nnm_elementwise.h"

typedef void (*nnm_unary_f)(nnm_idx, const void *, void *);
typedef void (*nnm_cotangent_f)(nnm_idx, const void *, const void *, const void *, void *);
typedef void (*nnm_binary_f)(nnm_idx, const void *, nnm_idx, const void *, nnm_idx, void *);

/* Row 0 is "no kernel". */
#define K(name, args)
#define B(name)
#define U(name) #name,
static const char *const nnm_unary_names[] = {"",
#include "elementwise/elementwise.def"
};
#undef U
#undef B
#define U(name)
#define B(name) #name,
static const char *const nnm_binary_names[] = {"",
#include "elementwise/elementwise.def"
};
#undef U
#undef B
#undef K

enum {
    NNM_UNARY_COUNT = sizeof nnm_unary_names / sizeof *nnm_unary_names,
    NNM_BINARY_COUNT = sizeof nnm_binary_names / sizeof *nnm_binary_names
};

static nnm_unary_f nnm_unary_rows[2][NNM_UNARY_COUNT];
static nnm_cotangent_f nnm_cotangent_rows[2][NNM_UNARY_COUNT];
static nnm_binary_f nnm_binary_rows[2][NNM_BINARY_COUNT];
static nnm_unary_f nnm_sum_rows[2];
static const nnm_elementwise_kernels *nnm_rows_table;

/* Fill the rows from the table of the chosen instruction set; non-zero where NNMATH_ISA cannot be followed. */
static inline int nnm_rows_init(void)
{
    int i = 1;
    const nnm_elementwise_kernels *t = nnm_rows_table = nnm_elementwise_table();
    if (t == NULL)
        return 1;
#define K(name, args)
#define B(name)
#define U(name)                                                        \
    nnm_unary_rows[0][i] = (nnm_unary_f)t->u_##name##_f64;             \
    nnm_unary_rows[1][i] = (nnm_unary_f)t->u_##name##_f32;             \
    nnm_cotangent_rows[0][i] = (nnm_cotangent_f)t->v_##name##_f64;     \
    nnm_cotangent_rows[1][i] = (nnm_cotangent_f)t->v_##name##_f32;     \
    ++i;
#include "elementwise/elementwise.def"
#undef U
#undef B
    i = 1;
#define U(name)
#define B(name)                                                        \
    nnm_binary_rows[0][i] = (nnm_binary_f)t->b_##name##_f64;           \
    nnm_binary_rows[1][i] = (nnm_binary_f)t->b_##name##_f32;           \
    ++i;
#include "elementwise/elementwise.def"
#undef U
#undef B
#undef K
    nnm_sum_rows[0] = (nnm_unary_f)t->sum_f64;
    nnm_sum_rows[1] = (nnm_unary_f)t->sum_f32;
    return 0;
}

/* Whether divide, overflow, underflow or invalid was raised since the last call; clears them.
 *
 * Reading MXCSR takes three nanoseconds, fetestexcept and feclearexcept a hundred. A flag left by somebody else
 * only makes the caller redo one call through NumPy, which decides by its own flags.
 */
#if defined(__SSE__) || defined(__x86_64__)
#include <xmmintrin.h>
static inline int nnm_fp_trouble(void)
{
    const unsigned csr = _mm_getcsr();
    if (!(csr & 0x1du)) /* invalid 1, divide 4, overflow 8, underflow 16; not denormal 2, not inexact 32 */
        return 0;
    _mm_setcsr(csr & ~0x3fu);
    return 1;
}
#else
#include <fenv.h>
static inline int nnm_fp_trouble(void)
{
    const int mask = FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW | FE_UNDERFLOW;
    if (!fetestexcept(mask))
        return 0;
    feclearexcept(mask);
    return 1;
}
#endif

#endif
