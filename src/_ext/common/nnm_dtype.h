/* Words of the kernel language that depend on the element type.
 *
 * Included once for each type (no include guard on purpose), with NNM_IS_F32 set to 1 or 0, before
 * the loops of a family: one body gives both types. A loop writes real_t, NNM_C(0.5), R_SQRT(x) and
 * NNM_FN(name), and never float, double or a suffix.
 */
#undef real_t
#undef NNM_DTYPE
#undef NNM_C
#undef NNM_R
#if NNM_IS_F32
#define real_t float
#define NNM_DTYPE f32
#define NNM_C(x) x##f              /* a constant of the type: NNM_C(0.5) is 0.5f */
#define NNM_R(name) NNM_CAT2(name, f)
#else
#define real_t double
#define NNM_DTYPE f64
#define NNM_C(x) x
#define NNM_R(name) name
#endif

#ifndef NNM_FN
/* nnm_<kernel>_<dtype>_<isa> */
#define NNM_FN(name) NNM_CAT6(nnm_, name, _, NNM_DTYPE, _, NNM_ISA)

/* the functions of math.h for the type */
#define R_ABS(x) NNM_R(fabs)(x)
#define R_ACOS(x) NNM_R(acos)(x)
#define R_ACOSH(x) NNM_R(acosh)(x)
#define R_ASIN(x) NNM_R(asin)(x)
#define R_ASINH(x) NNM_R(asinh)(x)
#define R_ATAN(x) NNM_R(atan)(x)
#define R_ATAN2(y, x) NNM_R(atan2)(y, x)
#define R_ATANH(x) NNM_R(atanh)(x)
#define R_CBRT(x) NNM_R(cbrt)(x)
#define R_CEIL(x) NNM_R(ceil)(x)
#define R_COS(x) NNM_R(cos)(x)
#define R_COSH(x) NNM_R(cosh)(x)
#define R_ERF(x) NNM_R(erf)(x)
#define R_ERFC(x) NNM_R(erfc)(x)
#define R_EXP(x) NNM_R(exp)(x)
#define R_EXP2(x) NNM_R(exp2)(x)
#define R_EXPM1(x) NNM_R(expm1)(x)
#define R_FLOOR(x) NNM_R(floor)(x)
#define R_FMA(x, y, z) NNM_R(fma)(x, y, z)
#define R_FMAX(x, y) NNM_R(fmax)(x, y)
#define R_FMIN(x, y) NNM_R(fmin)(x, y)
#define R_HYPOT(x, y) NNM_R(hypot)(x, y)
#define R_LOG(x) NNM_R(log)(x)
#define R_LOG10(x) NNM_R(log10)(x)
#define R_LOG1P(x) NNM_R(log1p)(x)
#define R_LOG2(x) NNM_R(log2)(x)
#define R_POW(x, y) NNM_R(pow)(x, y)
#define R_RINT(x) NNM_R(rint)(x)
#define R_SIN(x) NNM_R(sin)(x)
#define R_SINH(x) NNM_R(sinh)(x)
#define R_SQRT(x) NNM_R(sqrt)(x)
#define R_TAN(x) NNM_R(tan)(x)
#define R_TANH(x) NNM_R(tanh)(x)
#define R_TRUNC(x) NNM_R(trunc)(x)
#endif
