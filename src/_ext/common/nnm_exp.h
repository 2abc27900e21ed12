/* exp and what is made of it: exp2, expm1, tanh, sigmoid, sinh, cosh. Included once for each type, after nnm_bits.h.
 *
 * exp(x) = 2^n exp(r), n = round(x / log 2), |r| <= log(2) / 2. log 2 is split so that n times its first part is exact.
 * 2^n is applied as a power in the exponent's range and a factor of 2^64 or 2^-64 (2^600), so that results that underflow
 * are rounded once and those that overflow are infinite.
 * Coefficients: tests/reference/vector_math_fit.py. Bounds: docs/vector-math.md, measured by tests/test_vector_math.py.
 */

/* (exp(r) - 1 - r) / r^2 */
NNM_INLINE real_t NNM_FN(exp_tail)(real_t r)
{
    const real_t r2 = r * r;
#if NNM_IS_F32
    return NNM_E6(r, r2, 5.00000001e-1, 1.66666667e-1, 4.16664649e-2, 8.33331093e-3, 1.393365e-3, 1.98909908e-4);
#else
    return NNM_E11(r, r2, 5.0e-1, 1.6666666666666671e-1, 4.166666666666667e-2, 8.3333333333261351e-3,
                   1.3888888888883748e-3, 1.9841269874820625e-4, 2.4801587325547741e-5, 2.7557255400206424e-6,
                   2.7557273643110295e-7, 2.5105217004720745e-8, 2.0914686968086877e-9);
#endif
}

#undef NNM_LN2_HI
#undef NNM_LN2_LO
#if NNM_IS_F32
#define NNM_LN2_HI 0.693115234375f         /* 12 bits */
#define NNM_LN2_LO 3.19461833e-05f
#else
#define NNM_LN2_HI 0.6931471805598903      /* 42 bits */
#define NNM_LN2_LO 5.497923018708371e-14
#endif

/* x where exp(x) is neither 0 nor infinite, and a little beyond: one comparison of |x| is cheaper than two of x. */
NNM_INLINE real_t NNM_FN(exp_clamp)(real_t x)
{
    const real_t most = NNM_IS_F32 ? NNM_C(120.0) : NNM_C(760.0), size = R_ABS(x);
    return NNM_R(copysign)(size > most ? most : size, x);
}
#undef NNM_OFF
#define NNM_OFF (NNM_IS_F32 ? NNM_C(64.0) : NNM_C(600.0))
#undef NNM_UP
#define NNM_UP (NNM_IS_F32 ? (real_t)0x1p+64 : (real_t)0x1p+600)
#undef NNM_DOWN
#define NNM_DOWN (NNM_IS_F32 ? (real_t)0x1p-64 : (real_t)0x1p-600)

/* exp(x + low) = (*p + the result) s1 s2 with s1, s2 powers of two; |low| <= 0.01, and 0 where x is not finite. A factor
 * of the result is best multiplied to p: then a result that is subnormal is rounded once. Rounding errors of r and of
 * 1 + r are kept: below 0.7 ULP. */
NNM_INLINE real_t NNM_FN(exp_parts)(real_t x, real_t low, real_t *p, real_t *s1, real_t *s2)
{
    x = NNM_FN(exp_clamp)(x);
    const real_t t = NNM_FMA(x, NNM_C(1.4426950408889634), NNM_ROUND_BY), n = t - NNM_ROUND_BY;
    const real_t head = NNM_FMA(n, -NNM_LN2_HI, x), tail = NNM_FMA(n, NNM_LN2_LO, -low);
    const real_t r = head - tail, c = (head - r) - tail, sum = NNM_C(1.0) + r;
    *s1 = NNM_FN(power_of_two)(t + (x < NNM_C(0.0) ? NNM_OFF : -NNM_OFF), 0);
    *s2 = x < NNM_C(0.0) ? NNM_DOWN : NNM_UP;
    *p = sum;
    return NNM_FMA(r * r, NNM_FN(exp_tail)(r), (r - (sum - NNM_C(1.0))) + c);
}

/* factor exp(x + low) */
NNM_INLINE real_t NNM_FN(math_exp_times)(real_t x, real_t low, real_t factor)
{
    real_t p, s1, s2;
    const real_t rest = NNM_FN(exp_parts)(x, low, &p, &s1, &s2);
    return NNM_FMA(factor, p, factor * rest) * s1 * s2;
}

/* p 2^n, p in [0.5, 2] and no NaN, t = n + NNM_ROUND_BY: the first factor joins the exponent of p. */
NNM_INLINE real_t NNM_FN(scale)(real_t p, real_t t)
{
    const int down = t < NNM_ROUND_BY;
    const NNM_UINT shift = NNM_FN(bits_of)(t + (down ? NNM_OFF : -NNM_OFF)) << NNM_MANT;
    return NNM_FN(of_bits)(NNM_FN(bits_of)(p) + shift) * (down ? NNM_DOWN : NNM_UP);
}

/* exp(x), five operations less: below 1 ULP. */
NNM_INLINE real_t NNM_FN(math_exp)(real_t x)
{
    const real_t z = NNM_FN(exp_clamp)(x);
    const real_t t = NNM_FMA(z, NNM_C(1.4426950408889634), NNM_ROUND_BY), n = t - NNM_ROUND_BY;
    const real_t r = NNM_FMA(n, -NNM_LN2_LO, NNM_FMA(n, -NNM_LN2_HI, z));
    return x != x ? x : NNM_FN(scale)(NNM_C(1.0) + NNM_FMA(r * r, NNM_FN(exp_tail)(r), r), t);
}

/* exp(x) for x <= 0, or NaN: 0 where it is subnormal, else below 1 ULP. */
NNM_INLINE real_t NNM_FN(math_exp_below)(real_t x)
{
    const real_t least = NNM_IS_F32 ? NNM_C(-87.0) : NNM_C(-708.0), z = x < least ? least : x;
    const real_t t = NNM_FMA(z, NNM_C(1.4426950408889634), NNM_ROUND_BY), n = t - NNM_ROUND_BY;
    const real_t r = NNM_FMA(n, -NNM_LN2_LO, NNM_FMA(n, -NNM_LN2_HI, z));
    const real_t p = NNM_C(1.0) + NNM_FMA(r * r, NNM_FN(exp_tail)(r), r);
    const real_t y = NNM_FN(of_bits)(NNM_FN(bits_of)(p) + (NNM_FN(bits_of)(t) << NNM_MANT));
    return x < least ? NNM_C(0.0) : x != x ? x : y;
}

/* 2^x: the reduction is exact, and r = (x - n) log 2 keeps its low part. */
NNM_INLINE real_t NNM_FN(math_exp2)(real_t x)
{
    const real_t most = NNM_IS_F32 ? NNM_C(159.0) : NNM_C(1090.0), size = R_ABS(x);
    const real_t z = NNM_R(copysign)(size > most ? most : size, x);
    const real_t t = z + NNM_ROUND_BY, u = z - (t - NNM_ROUND_BY);
    real_t r;
    const real_t low = NNM_FN(two_product)(u, NNM_C(0.69314718055994531), &r)
                       + u * (NNM_IS_F32 ? NNM_C(-1.9046543e-09) : NNM_C(2.3190468138462996e-17));
    return x != x ? x : NNM_FN(scale)(NNM_C(1.0) + (r + NNM_FMA(r * r, NNM_FN(exp_tail)(r), low)), t);
}

/* expm1(x) / 2 for moderate x: (2^n - 1) / 2 + 2^(n-1) expm1(r). r has its rounding error c, the sum of (2^n - 1) / 2
 * and of what is largest of the rest has its own: the first is the larger, or 0. */
NNM_INLINE real_t NNM_FN(half_expm1)(real_t x)
{
    const real_t t = NNM_FMA(x, NNM_C(1.4426950408889634), NNM_ROUND_BY), n = t - NNM_ROUND_BY;
    const real_t head = NNM_FMA(n, -NNM_LN2_HI, x), tail = n * NNM_LN2_LO;
    const real_t r = head - tail, c = (head - r) - tail;
    const real_t e = NNM_FMA(r * r, NNM_FN(exp_tail)(r), NNM_FMA(c, r, c)); /* expm1(r + c) - r */
    const real_t half = NNM_FN(power_of_two)(t, -1);
    const real_t large = half - NNM_C(0.5), small = half * r, sum = large + small;
    return sum + NNM_FMA(half, e, small - (sum - large));
}

NNM_INLINE real_t NNM_FN(math_expm1)(real_t x)
{
    const real_t most = NNM_IS_F32 ? NNM_C(88.8) : NNM_C(709.9), size = R_ABS(x);
    const real_t y = NNM_C(2.0) * NNM_FN(half_expm1)(NNM_R(copysign)(size > most ? most : size, x));
    const real_t z = size < (NNM_IS_F32 ? NNM_C(1e-9) : NNM_C(1e-17)) ? x : y; /* there half of it is subnormal; -0 */
    return x < NNM_C(-40.0) ? NNM_C(-1.0) : z;
}

/* h / (h + 1) with h = expm1(2 |x|) / 2, and a polynomial below 0.3; from |x| = 20 (10) on it is 1 in the type. Errors of h
 * count 1 / (h + 1) times, and from 0.3 on (2^n - 1) / 2 is no smaller than the rest of h: rounded where half_expm1 keeps what
 * is lost. */
NNM_INLINE real_t NNM_FN(vector_tanh)(real_t x)
{
    const real_t top = NNM_IS_F32 ? NNM_C(10.0) : NNM_C(20.0), size = R_ABS(x), z = x * x;
    const real_t u = NNM_C(2.0) * (size > top ? top : size);
    const real_t t = NNM_FMA(u, NNM_C(1.4426950408889634), NNM_ROUND_BY), n = t - NNM_ROUND_BY;
    const real_t r = NNM_FMA(n, -NNM_LN2_LO, NNM_FMA(n, -NNM_LN2_HI, u)), half = NNM_FN(power_of_two)(t, -1);
    const real_t h = NNM_FMA(half, NNM_FMA(r * r, NNM_FN(exp_tail)(r), r), half - NNM_C(0.5));
#if NNM_IS_F32
    const real_t p = NNM_H4(z, -3.33333329e-1, 1.33331824e-1, -5.38839547e-2, 2.03491984e-2);
#else
    const real_t p = NNM_E8(z, z * z, -3.3333333333333331e-1, 1.3333333333329434e-1, -5.3968253959152077e-2,
                            2.186948772571052e-2, -8.8632000249942392e-3, 3.5912807603255065e-3,
                            -1.4445662421400336e-3, 5.1084434913505086e-4);
#endif
    const real_t y = size < NNM_C(0.3) ? NNM_FMA(size * z, p, size) : h / (h + NNM_C(1.0));
    return NNM_R(copysign)(y, x);
}

/* 1 / (1 + exp(-x)), by e = exp(-|x|), which does not overflow: e / (1 + e) for negative x. What 1 + e loses is taken
 * from the numerator before that is rounded. */
NNM_INLINE real_t NNM_FN(math_sigmoid)(real_t x)
{
    real_t p, s1, s2;
    const real_t rest = NNM_FN(exp_parts)(-R_ABS(x), NNM_C(0.0), &p, &s1, &s2);
    const real_t e = (p + rest) * s1 * s2, d = NNM_C(1.0) + e, lost = e - (d - NNM_C(1.0));
    const real_t above = (p + NNM_FMA(-p, lost, rest)) * s1 * s2;
    return (x > NNM_C(0.0) ? NNM_C(1.0) : above) / d;
}

/* (t + t / (t + 1)) / 2 with t = expm1(|x|) for small |x|, exp(|x|) / 2 for large. */
NNM_INLINE real_t NNM_FN(math_sinh)(real_t x)
{
    const real_t border = NNM_IS_F32 ? NNM_C(10.0) : NNM_C(22.0), size = R_ABS(x);
    const real_t t = NNM_C(2.0) * NNM_FN(half_expm1)(size > border ? border : size);
    const real_t low = size < (NNM_IS_F32 ? NNM_C(1e-9) : NNM_C(1e-17)) ? size
                                                                     : NNM_C(0.5) * (t + t / (t + NNM_C(1.0)));
    const real_t high = NNM_FN(math_exp_times)(size, NNM_C(0.0), NNM_C(0.5));
    return NNM_R(copysign)(size < border ? low : high, x);
}

/* h + 1 / (4 h) with h = exp(|x|) / 2 */
NNM_INLINE real_t NNM_FN(math_cosh)(real_t x)
{
    const real_t h = NNM_FN(math_exp_times)(R_ABS(x), NNM_C(0.0), NNM_C(0.5));
    return h + NNM_C(0.25) / h;
}
