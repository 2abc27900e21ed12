/* Words of vector mathematics: bits, fused products, polynomials, error-free sums.
 *
 * Included once for each type, after nnm_dtype.h (no include guard on purpose). Everything here is free of branches and
 * calls, so that a loop over it becomes vector code.
 *
 * NNM_FMA is one instruction where the instruction set has it, and a product and a sum elsewhere: the last bits of a
 * function may differ between instruction sets. What needs the exact product asks NNM_HAS_FMA.
 */
#undef NNM_INT
#undef NNM_UINT
#undef NNM_MANT
#undef NNM_BIAS_OF
#undef NNM_ROUND_BY
#if NNM_IS_F32
#define NNM_INT int32_t
#define NNM_UINT uint32_t
#define NNM_MANT 23
#define NNM_BIAS_OF 127
#define NNM_ROUND_BY 12582912.0f           /* 1.5 * 2^23: adding it rounds to an integer, in the low bits */
#else
#define NNM_INT int64_t
#define NNM_UINT uint64_t
#define NNM_MANT 52
#define NNM_BIAS_OF 1023
#define NNM_ROUND_BY 6755399441055744.0    /* 1.5 * 2^52 */
#endif

#ifndef NNM_FMA
#if defined(_MSC_VER)
#define NNM_INLINE static __forceinline
#else
#define NNM_INLINE static inline __attribute__((always_inline)) /* a call inside would keep a loop scalar */
#endif
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define NNM_HAS_FMA 1
#define NNM_FMA(a, b, c) NNM_R(__builtin_fma)(a, b, c)
#else
#define NNM_HAS_FMA 0
#define NNM_FMA(a, b, c) ((a) * (b) + (c))
#endif

/* The name of the function in float64, whatever the type is: float32 borrows some of them. */
#define NNM_FN_F64(name) NNM_CAT6(nnm_, name, _, f64, _, NNM_ISA)

/* a0 + a1 x + ...: NNM_Hn is Horner's rule on n coefficients, NNM_En joins the even and the odd ones of x, which is
 * half as deep. x2 is x * x. */
#define NNM_H1(x, a) NNM_C(a)
#define NNM_H2(x, a, b) NNM_FMA(x, NNM_C(b), NNM_C(a))
#define NNM_H3(x, a, ...) NNM_FMA(x, NNM_H2(x, __VA_ARGS__), NNM_C(a))
#define NNM_H4(x, a, ...) NNM_FMA(x, NNM_H3(x, __VA_ARGS__), NNM_C(a))
#define NNM_H5(x, a, ...) NNM_FMA(x, NNM_H4(x, __VA_ARGS__), NNM_C(a))
#define NNM_H6(x, a, ...) NNM_FMA(x, NNM_H5(x, __VA_ARGS__), NNM_C(a))
#define NNM_H7(x, a, ...) NNM_FMA(x, NNM_H6(x, __VA_ARGS__), NNM_C(a))
#define NNM_H8(x, a, ...) NNM_FMA(x, NNM_H7(x, __VA_ARGS__), NNM_C(a))
#define NNM_E5(x, x2, a, b, c, d, e) NNM_FMA(x, NNM_H2(x2, b, d), NNM_H3(x2, a, c, e))
#define NNM_E6(x, x2, a, b, c, d, e, f) NNM_FMA(x, NNM_H3(x2, b, d, f), NNM_H3(x2, a, c, e))
#define NNM_E7(x, x2, a, b, c, d, e, f, g) NNM_FMA(x, NNM_H3(x2, b, d, f), NNM_H4(x2, a, c, e, g))
#define NNM_E8(x, x2, a, b, c, d, e, f, g, h) NNM_FMA(x, NNM_H4(x2, b, d, f, h), NNM_H4(x2, a, c, e, g))
#define NNM_E9(x, x2, a, b, c, d, e, f, g, h, i) NNM_FMA(x, NNM_H4(x2, b, d, f, h), NNM_H5(x2, a, c, e, g, i))
#define NNM_E11(x, x2, a, b, c, d, e, f, g, h, i, j, k) \
    NNM_FMA(x, NNM_H5(x2, b, d, f, h, j), NNM_H6(x2, a, c, e, g, i, k))
#define NNM_E12(x, x2, a, b, c, d, e, f, g, h, i, j, k, l) \
    NNM_FMA(x, NNM_H6(x2, b, d, f, h, j, l), NNM_H6(x2, a, c, e, g, i, k))
#define NNM_E13(x, x2, a, b, c, d, e, f, g, h, i, j, k, l, m) \
    NNM_FMA(x, NNM_H6(x2, b, d, f, h, j, l), NNM_H7(x2, a, c, e, g, i, k, m))
#endif

NNM_INLINE NNM_UINT NNM_FN(bits_of)(real_t x)
{
    NNM_UINT u;
    memcpy(&u, &x, sizeof u);
    return u;
}

NNM_INLINE real_t NNM_FN(of_bits)(NNM_UINT u)
{
    real_t x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* 2^(n + k) of t = n + NNM_ROUND_BY, n an integer, in the exponent's range. */
NNM_INLINE real_t NNM_FN(power_of_two)(real_t t, int k)
{
    return NNM_FN(of_bits)((NNM_FN(bits_of)(t) << NNM_MANT) + ((NNM_UINT)(NNM_BIAS_OF + k) << NNM_MANT));
}

/* The nearest integer of |x| < 2^22 (2^51 in float64), ties to even. */
NNM_INLINE real_t NNM_FN(near_integer)(real_t x)
{
    return (x + NNM_ROUND_BY) - NNM_ROUND_BY;
}

/* a b = *p + the result, exactly where nothing overflows or underflows. */
NNM_INLINE real_t NNM_FN(two_product)(real_t a, real_t b, real_t *p)
{
    *p = a * b;
#if NNM_HAS_FMA
    return NNM_FMA(a, b, -*p);
#else
    const NNM_UINT mask = (NNM_UINT)-1 << (NNM_IS_F32 ? 12 : 27);
    const real_t ah = NNM_FN(of_bits)(NNM_FN(bits_of)(a) & mask), al = a - ah;
    const real_t bh = NNM_FN(of_bits)(NNM_FN(bits_of)(b) & mask), bl = b - bh;
    return ((ah * bh - *p) + ah * bl + al * bh) + al * bl;
#endif
}

/* a + b = *s + the result, exactly. */
NNM_INLINE real_t NNM_FN(two_sum)(real_t a, real_t b, real_t *s)
{
    *s = a + b;
    const real_t v = *s - a;
    return (a - (*s - v)) + (b - v);
}

/* The same where |a| >= |b| or a = 0. */
NNM_INLINE real_t NNM_FN(fast_two_sum)(real_t a, real_t b, real_t *s)
{
    *s = a + b;
    return b - (*s - a);
}
