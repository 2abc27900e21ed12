/* sin, cos, tan, arctan. Included once for each type, after nnm_bits.h.
 *
 * x = n pi/2 + r + low, |r| <= pi/4, for |x| <= NNM_TRIG_MOST: n has at most 20 bits there and pi/2 is cut into pieces of
 * 33 bits, so that products with n are exact. float32 reduces in float64. Larger numbers are libm's: the loops say so.
 */
#undef NNM_TRIG_MOST
#define NNM_TRIG_MOST NNM_C(1e6)

#if NNM_IS_F32
NNM_INLINE float NNM_FN(quarter_turns)(float x, float *n, float *low)
{
    const double q = NNM_FN_F64(near_integer)((double)x * 0.63661977236758134);
    const double t = (double)x - q * 1.5707963267341256;
    *n = (float)q;
    *low = 0.0f;
    return (float)(t - q * 6.077100506506192e-11);
}
#else
NNM_INLINE double NNM_FN(quarter_turns)(double x, double *n, double *low)
{
    const double q = NNM_FN(near_integer)(x * 0.63661977236758134);
    double r, s;
    const double t = x - q * 1.5707963267341256; /* exact */
    const double lost = NNM_FN(two_sum)(t, q * -6.077100506303966e-11, &s);
    const double more = NNM_FN(two_sum)(s, q * -2.0222662487111665e-21, &r);
    const double rest = (lost + more) - q * 8.4784276603689e-32;
    const double y = r + rest;
    *n = q;
    *low = (r - y) + rest;
    return y;
}
#endif

/* sin(r + low) and cos(r + low) of |r| <= pi/4 */
NNM_INLINE real_t NNM_FN(sin_part)(real_t r, real_t low)
{
    const real_t z = r * r;
#if NNM_IS_F32
    return NNM_FMA(r * z, NNM_H3(z, -1.66666647e-1, 8.3327471e-3, -1.95876391e-4), r);
#else
    const real_t p = NNM_H6(z, -1.6666666666666665e-1, 8.3333333333309366e-3, -1.9841269836740532e-4,
                            2.7557316093198405e-6, -2.5051129896450186e-8, 1.5917988979397433e-10);
    return r + NNM_FMA(r * z, p, NNM_FMA(NNM_C(-0.5) * z, low, low));
#endif
}

NNM_INLINE real_t NNM_FN(cos_part)(real_t r, real_t low)
{
    const real_t z = r * r, h = NNM_C(0.5) * z, w = NNM_C(1.0) - h;
    const real_t lost = (NNM_C(1.0) - w) - h;
#if NNM_IS_F32
    return w + NNM_FMA(z * z, NNM_H3(z, 4.16666647e-2, -1.38883019e-3, 2.45476898e-5), lost);
#else
    const real_t p = NNM_H6(z, 4.1666666666666665e-2, -1.388888888888739e-3, 2.4801587298754401e-5,
                            -2.755731726587808e-7, 2.0876145049413179e-9, -1.138254464534925e-11);
    return w + NNM_FMA(z * z, p, NNM_FMA(-r, low, lost));
#endif
}

/* (-1)^(n div 2) times the sine for even n, the cosine for odd n; of float n. */
NNM_INLINE real_t NNM_FN(turned)(real_t n, real_t sine, real_t cosine)
{
    const NNM_UINT bits = NNM_FN(bits_of)(n + NNM_ROUND_BY);
    const real_t half = n * NNM_C(0.5);
    const real_t y = NNM_FN(near_integer)(half) == half ? sine : cosine;
    const NNM_UINT sign = (bits & 2) << (NNM_IS_F32 ? 30 : 62);
    return NNM_FN(of_bits)(NNM_FN(bits_of)(y) ^ sign);
}

NNM_INLINE real_t NNM_FN(math_sin)(real_t x)
{
    real_t n, low;
    const real_t r = NNM_FN(quarter_turns)(x, &n, &low);
    const real_t y = NNM_FN(turned)(n, NNM_FN(sin_part)(r, low), NNM_FN(cos_part)(r, low));
    return x == NNM_C(0.0) ? x : y;         /* -0 */
}

NNM_INLINE real_t NNM_FN(math_cos)(real_t x)
{
    real_t n, low;
    const real_t r = NNM_FN(quarter_turns)(x, &n, &low);
    return NNM_FN(turned)(n + NNM_C(1.0), NNM_FN(sin_part)(r, low), NNM_FN(cos_part)(r, low));
}

NNM_INLINE real_t NNM_FN(math_tan)(real_t x)
{
    real_t n, low;
    const real_t r = NNM_FN(quarter_turns)(x, &n, &low), half = n * NNM_C(0.5);
    const real_t s = NNM_FN(sin_part)(r, low), c = NNM_FN(cos_part)(r, low);
    const int even = NNM_FN(near_integer)(half) == half;
    const real_t y = (even ? s : -c) / (even ? c : s);
    return x == NNM_C(0.0) ? x : y;
}

/* base + atan(q): q = |x|, (|x| - 1) / (|x| + 1) or -1 / |x| with base 0, pi/4 or pi/2, so that |q| <= tan(pi/8). */
NNM_INLINE real_t NNM_FN(math_arctan)(real_t x)
{
    const real_t size = R_ABS(x);
    const int small = size < NNM_C(0.41421356237309503), middle = size < NNM_C(2.4142135623730949);
    const real_t q = (small ? size : middle ? size - NNM_C(1.0) : NNM_C(-1.0))
                     / (small ? NNM_C(1.0) : middle ? size + NNM_C(1.0) : size);
    const real_t base = small ? NNM_C(0.0) : middle ? NNM_C(0.78539816339744828) : NNM_C(1.5707963267948966);
    const real_t bit = NNM_IS_F32 ? NNM_C(-2.1855695e-08) : NNM_C(3.061616997868383e-17);
    const real_t low = small ? NNM_C(0.0) : middle ? bit : NNM_C(2.0) * bit;
    const real_t z = q * q;
#if NNM_IS_F32
    const real_t p = NNM_H5(z, -3.33333318e-1, 1.99995388e-1, -1.42638971e-1, 1.07430997e-1, -6.44983522e-2);
#else
    const real_t p = NNM_E11(z, z * z, -3.333333333333333e-1, 1.9999999999995479e-1, -1.4285714284657894e-1,
                             1.1111111014561014e-1, -9.090904549884611e-2, 7.6921825351166482e-2,
                             -6.6645022156714471e-2, 5.8580687568615105e-2, -5.0850304928109405e-2,
                             3.9219552532551294e-2, -1.9162068915902574e-2);
#endif
    const real_t y = base + (q + NNM_FMA(q * z, p, low));
    return NNM_R(copysign)(y, x);
}
