/* Words of the kernel language that do not depend on the element type. */
#ifndef NNM_BASE_H
#define NNM_BASE_H

#include <math.h>
#include <stdint.h>
#include <stddef.h>
#include <string.h>

typedef ptrdiff_t nnm_idx; /* Py_ssize_t of the doors */

#if defined(_MSC_VER)
#define NNM_RESTRICT __restrict
#else
#define NNM_RESTRICT restrict
#endif

#define NNM_PRAGMA(text) _Pragma(#text)
#define NNM_SIMD NNM_PRAGMA(omp simd)                                 /* iterations are independent */
#define NNM_SIMD_SUM(acc) NNM_PRAGMA(omp simd reduction(+ : acc))     /* the sum may be reordered */
#define NNM_SIMD_MAX(top) NNM_PRAGMA(omp simd reduction(max : top))

#define NNM_CAT2_(a, b) a##b
#define NNM_CAT2(a, b) NNM_CAT2_(a, b)
#define NNM_CAT4_(a, b, c, d) a##b##c##d
#define NNM_CAT4(a, b, c, d) NNM_CAT4_(a, b, c, d)
#define NNM_CAT6_(a, b, c, d, e, f) a##b##c##d##e##f
#define NNM_CAT6(a, b, c, d, e, f) NNM_CAT6_(a, b, c, d, e, f)
#define NNM_STR_(x) #x
#define NNM_STR(x) NNM_STR_(x)

#endif
