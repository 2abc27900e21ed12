/* x^y. Included once for each type, float64 first, after nnm_log.h.
 *
 * float32 computes exp(y log |x|) in float64. float64 keeps log |x| = h + l to 2^-66: y log |x| reaches 745, and its
 * error is that of the result. It needs the exact product of two numbers in one instruction; where there is none (and
 * for numbers that are not finite) the loop calls libm.
 */

/* x^y from p = |x|^y, for finite x and y: what 0 and negative numbers give. |y| < 2^22 (2^51) decides what is odd by
 * rounding; larger numbers are integers, and from 2^24 (2^53) on even: those between are found through y - 2^k. */
NNM_INLINE real_t NNM_FN(pow_signed)(real_t x, real_t y, real_t p)
{
    const real_t step = NNM_IS_F32 ? NNM_C(4194304.0) : NNM_C(2251799813685248.0), size = R_ABS(y);
    const real_t even = NNM_C(4.0) * step;
    /* y, less a multiple of 2^22 (2^51) that is even, without rounding */
    real_t part = size >= NNM_C(2.0) * step ? size - NNM_C(2.0) * step : size;
    part = part >= step ? part - step : part;
    part = size >= even ? NNM_C(0.0) : part;
    const real_t half = NNM_C(0.5) * part, odd = NNM_FN(near_integer)(half) == half ? NNM_C(1.0) : x;
    const real_t whole = NNM_FN(near_integer)(part) - part, at_zero = y > NNM_C(0.0) ? NNM_C(0.0) : (real_t)INFINITY;
    p = x == NNM_C(0.0) ? at_zero : p;
    p = NNM_R(copysign)(p, whole == NNM_C(0.0) ? odd : NNM_C(1.0));
    const real_t negative = whole == NNM_C(0.0) ? p : (real_t)NAN;
    p = x < NNM_C(0.0) ? negative : p;
    return y == NNM_C(0.0) ? NNM_C(1.0) : p;
}

#undef NNM_POWER_BY_LIBM
#define NNM_POWER_BY_LIBM (!NNM_IS_F32 && !NNM_HAS_FMA)

#if NNM_IS_F32

NNM_INLINE float NNM_FN(pow_positive)(float x, float y)
{
    return (float)NNM_FN_F64(math_exp)((double)y * NNM_FN_F64(math_log)((double)x));
}

#else

/* log(x) = *h + the result, of a positive finite x: 2 s + s z (2/3 + z R(z)), s = f / (2 + f), z = s^2, in two parts. */
NNM_INLINE double NNM_FN(log_in_two)(double x, double *h)
{
    double k, shift, d, head;
    const double f = NNM_FN(log_split)(NNM_FN(log_normal)(x, &shift), &k);
    const double lost = NNM_FN(fast_two_sum)(2.0, f, &d);
    k += shift;
    const double inverse = 1.0 / d, s = f * inverse;
    const double sl = (NNM_FMA(-s, d, f) - s * lost) * inverse;
    const double z = s * s, zl = NNM_FMA(s, s, -z) + 2.0 * (s * sl);
    const double r = z * NNM_E7(z, z * z, 4.0000000000000027e-1, 2.8571428571338011e-1, 2.2222222271326808e-1,
                                1.8181808210921881e-1, 1.5385577463308144e-1, 1.3285868837545742e-1,
                                1.2914712183935091e-1);
    const double c = 0.66666666666666663 + r, cl = ((0.66666666666666663 - c) + r) + 3.700743415417188e-17;
    const double p = z * c, pl = NNM_FMA(z, c, -p) + (z * cl + zl * c);
    const double q = 2.0 + p, ql = ((2.0 - q) + p) + pl;
    const double y = s * q, yl = NNM_FMA(s, q, -y) + (s * ql + sl * q);
    const double tail = NNM_FN(fast_two_sum)(k * NNM_LN2_HI, y, &head) + (yl + k * NNM_LN2_LO);
    *h = head + tail;
    return (head - *h) + tail;
}

NNM_INLINE double NNM_FN(pow_positive)(double x, double y)
{
    double h, a;
    const double l = NNM_FN(log_in_two)(x, &h);
    double b = NNM_FN(two_product)(y, h, &a) + y * l;
    b = R_ABS(a) < 800.0 ? b : 0.0;
    return NNM_FN(math_exp_times)(a, b, 1.0);
}
#endif

/* Finite x and y. */
NNM_INLINE real_t NNM_FN(math_pow)(real_t x, real_t y)
{
    const real_t size = R_ABS(x);
    return NNM_FN(pow_signed)(x, y, NNM_FN(pow_positive)(size == NNM_C(0.0) ? NNM_C(1.0) : size, y));
}
