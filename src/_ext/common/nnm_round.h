/* Rounding where the instruction set has no instruction for it, the larger of two, hypot. After nnm_bits.h. */
#ifndef NNM_SIMD_OR
#define NNM_SIMD_OR(bits) NNM_PRAGMA(omp simd reduction(| : bits))
#if defined(__SSE4_1__) || defined(__aarch64__)
#define NNM_ROUND_IN_HARDWARE
#endif

typedef double nnm_wide; /* what sums are kept in */

/* acc[0] + acc[1] is the sum so far: x joins acc[0], and what its rounding loses joins acc[1]. */
NNM_INLINE void nnm_join_sum(nnm_wide *acc, nnm_wide x)
{
    nnm_wide s;
    const nnm_wide lost = NNM_FN_F64(two_sum)(acc[0], x, &s);
    acc[0] = s;
    acc[1] += fabs(s) < (nnm_wide)INFINITY ? lost : 0.0; /* infinity would leave NaN */
}
#endif

/* x to an integer, ties to even; from 2^23 (2^52) on it is one. */
NNM_INLINE real_t NNM_FN(soft_rint)(real_t x)
{
    const real_t border = NNM_IS_F32 ? NNM_C(8388608.0) : NNM_C(4503599627370496.0), size = R_ABS(x);
    return NNM_R(copysign)(size < border ? (size + border) - border : size, x);
}

/* The integer not above x; -0 stays. */
NNM_INLINE real_t NNM_FN(soft_floor)(real_t x)
{
    const real_t t = NNM_FN(soft_rint)(x);
    return t > x ? t - NNM_C(1.0) : t;
}

/* min(max(x, low), high), NaN where one of the three is: sums keep NaN where comparisons lose it. */
NNM_INLINE real_t NNM_FN(clipped)(real_t x, real_t low, real_t high)
{
    const real_t y = x < low ? low : x, z = y > high ? high : y;
    const real_t nan = low != low ? low : high;
    return nan == nan ? z : nan;
}

/* sqrt(a^2 + b^2), scaled by a power of two where a square leaves the range; infinite beside infinity, even for NaN. */
NNM_INLINE real_t NNM_FN(math_hypot)(real_t a, real_t b)
{
    const real_t inf = (real_t)INFINITY;
    a = R_ABS(a);
    b = R_ABS(b);
#if NNM_IS_F32
    const float y = (float)sqrt((double)a * (double)a + (double)b * (double)b);
#else
    const double top = a > b ? a : b;
    const double up = top > 0x1p+500 ? 0x1p-600 : top < 0x1p-450 ? 0x1p+600 : 1.0;
    const double back = top > 0x1p+500 ? 0x1p+600 : top < 0x1p-450 ? 0x1p-600 : 1.0;
    a *= up;
    b *= up;
    /* the square of the larger in two parts: below 1 ULP */
    const double high = a > b ? a : b, low = a > b ? b : a;
    double p;
    const double lost = NNM_FN(two_product)(high, high, &p);
    const double y = sqrt(p + (low * low + lost)) * back;
#endif
    return (a == inf) | (b == inf) ? inf : y;
}
