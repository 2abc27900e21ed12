/* erf, erfc, the normal distribution and GELU. Included once for each type, after nnm_exp.h.
 *
 * erfc(x) = exp(-x^2) erfcx(x), and erfcx is one quotient of polynomials over all x >= 0 where exp(-x^2) is not 0. Their
 * coefficients are positive: nothing cancels. exp(-x^2) takes the square in one rounding with the reduction: the
 * rounding error of the square alone would cost 700 ULP in the tail.
 */

/* erfcx(x), x >= 0 */
NNM_INLINE real_t NNM_FN(math_erfcx)(real_t x)
{
    const real_t x2 = x * x;
#if NNM_IS_F32
    return NNM_E5(x, x2, 1.0, 1.24241984, 7.3581022e-1, 2.31226116e-1, 3.32187153e-2)
           / NNM_E6(x, x2, 1.0, 2.37079954, 2.41096115, 1.33322096, 4.09862101e-1, 5.88780083e-2);
#else
    return NNM_E11(x, x2, 1.0, 2.3435662581952242, 2.7225011419997292, 2.0258851983538135, 1.0594471162877819,
                   4.0501564057456594e-1, 1.1447625196557424e-1, 2.3652071722073629e-2, 3.4319074663182382e-3,
                   3.1804257130062337e-4, 1.4473109684346979e-5)
           / NNM_E12(x, x2, 1.0, 3.4719454252907371, 5.6401720291903498, 5.670445167700305, 3.9294678739446286,
                     1.976263635924438, 7.3855077895958054e-1, 2.059324958796402e-1, 4.2204063498876375e-2,
                     6.0957240640579597e-3, 5.6371578025455821e-4, 2.5652918994593459e-5);
#endif
}

/* erfcx(s / sqrt 2) / 2, s >= 0: the same polynomials of s, so that s / sqrt 2 is not rounded */
NNM_INLINE real_t NNM_FN(half_erfcx)(real_t s)
{
    const real_t s2 = s * s;
#if NNM_IS_F32
    return NNM_E5(s, s2, 5.0e-1, 4.39261734e-1, 1.8395257e-1, 4.08753902e-2, 4.15233942e-3)
           / NNM_E6(s, s2, 1.0, 1.67640841, 1.20548058, 4.71364796e-1, 1.0246554e-1, 1.0408259e-2);
#else
    return NNM_E11(s, s2, 5.0e-1, 8.2857579666491316e-1, 6.806252854999323e-1, 3.5812929041535886e-1,
                   1.3243088953597274e-1, 3.5798663242111122e-2, 7.1547657478483901e-3, 1.0452837689868029e-3,
                   1.0724710832244494e-4, 7.027814339771151e-6, 2.2614233881792155e-7)
           / NNM_E12(s, s2, 1.0, 2.4550361541326919, 2.8200860145951749, 2.0048051152136877, 9.8236696848615716e-1,
                     3.493573545936381e-1, 9.2318847369947568e-2, 1.8202033037895543e-2, 2.6377539686797734e-3,
                     2.6939548887108774e-4, 1.7616118132954944e-5, 5.6685478057206956e-7);
#endif
}

/* factor exp(-scale x^2), scale 1 or 1/2, for 0 <= x and scale x^2 up to 800. n times the first part of log 2 is exact,
 * so that the square less that is rounded once. Of the two powers of two only the second can make a result subnormal. */
NNM_INLINE real_t NNM_FN(math_gauss_times)(real_t x, real_t scale, real_t factor)
{
    const real_t h = -scale * x;
    const real_t t = NNM_FMA(x * x, scale * NNM_C(-1.4426950408889634), NNM_ROUND_BY), n = t - NNM_ROUND_BY;
#if NNM_HAS_FMA
    const real_t head = NNM_FMA(h, x, n * -NNM_LN2_HI);
#else
    real_t square;
    const real_t lost = NNM_FN(two_product)(h, x, &square), head = (square - n * NNM_LN2_HI) + lost;
#endif
    const real_t r = NNM_FMA(n, -NNM_LN2_LO, head), e = NNM_FMA(r * r, NNM_FN(exp_tail)(r), r);
    return NNM_FMA(factor, e, factor) * NNM_FN(power_of_two)(t + NNM_OFF, 0) * NNM_DOWN;
}

/* erf(x) / x - 1, z = x^2 <= 1: x + x (erf(x) / x - 1) keeps the bits of x */
NNM_INLINE real_t NNM_FN(erf_part)(real_t z)
{
#if NNM_IS_F32
    return NNM_E7(z, z * z, 1.28379166e-1, -3.76126267e-1, 1.12835947e-1, -2.6854212e-2, 5.18908742e-3, -8.01686429e-4,
                  7.87587506e-5);
#else
    return NNM_E13(z, z * z, 1.2837916709551257e-1, -3.7612638903183748e-1, 1.1283791670954879e-1, -2.6866170645076793e-2,
                   5.2239776248180145e-3, -8.5483269808337899e-4, 1.2055331111642711e-4, -1.4925595266831182e-5,
                   1.6461000484121368e-6, -1.6350312701054695e-7, 1.4659775274047436e-8, -1.1372848856791674e-9,
                   5.9571761477489114e-11);
#endif
}

NNM_INLINE real_t NNM_FN(math_erf)(real_t x)
{
    const real_t most = NNM_IS_F32 ? NNM_C(4.0) : NNM_C(6.0);
    real_t size = R_ABS(x);
    size = size > most ? most : size;        /* erf is 1 there */
    const real_t small = NNM_FMA(size, NNM_FN(erf_part)(size * size), size);
    const real_t large = NNM_C(1.0) - NNM_FN(math_gauss_times)(size, NNM_C(1.0), NNM_FN(math_erfcx)(size));
    return NNM_R(copysign)(size < NNM_C(1.0) ? small : large, x);
}

NNM_INLINE real_t NNM_FN(math_erfc)(real_t x)
{
    const real_t most = NNM_IS_F32 ? NNM_C(11.0) : NNM_C(28.0);
    real_t size = R_ABS(x);
    size = size > most ? most : size;
    const real_t tail = NNM_FN(math_gauss_times)(size, NNM_C(1.0), NNM_FN(math_erfcx)(size));
    return x < NNM_C(0.0) ? NNM_C(2.0) - tail : tail;
}

/* GELU, x P(Z <= x) of a standard normal Z, and its derivative P(Z <= x) + x density(x). With s = |x|,
 * P(Z <= -s) = exp(-s^2/2) erfcx(s / sqrt 2) / 2 keeps its digits in the tail, and exp takes all factors in. */
NNM_INLINE real_t NNM_FN(math_gelu)(real_t x)
{
    const real_t most = NNM_IS_F32 ? NNM_C(15.0) : NNM_C(40.0);
    real_t size = R_ABS(x);
    size = size > most ? most : size;
    const real_t tail = NNM_FN(math_gauss_times)(size, NNM_C(0.5), size * NNM_FN(half_erfcx)(size)); /* s P(Z <= -s) */
    const real_t y = (NNM_C(-0.0) > x ? NNM_C(-0.0) : x) - tail; /* zeros have the sign of x */
    return NNM_FMA(x > most ? most : x, NNM_C(0.0), y); /* NaN at -infinity */
}

NNM_INLINE real_t NNM_FN(math_gelu_slope)(real_t x)
{
    const real_t most = NNM_IS_F32 ? NNM_C(15.0) : NNM_C(40.0);
    real_t size = R_ABS(x);
    size = size > most ? most : size;
    const real_t factor = NNM_FMA(size, NNM_C(-0.3989422804014327), NNM_FN(half_erfcx)(size));
    const real_t left = NNM_FN(math_gauss_times)(size, NNM_C(0.5), factor); /* the slope at -s; at s it is 1 - left */
    return x > NNM_C(0.0) ? NNM_C(1.0) - left : left + NNM_C(0.0);
}

/* The tanh form, x sigmoid(v) with v = 2 sqrt(2/pi) (x + 0.044715 x^3): exp(-|v|) = p s1 s2, v in two parts. */
NNM_INLINE real_t NNM_FN(gelu_tanh_parts)(real_t size, real_t *s1, real_t *s2)
{
    const real_t a = NNM_C(1.5957691216057308), b = NNM_C(0.071354816272600248);
    const real_t al = NNM_IS_F32 ? NNM_C(-4.534068e-08) : NNM_C(-9.96930880911092e-17);
    const real_t bl = NNM_IS_F32 ? NNM_C(2.3988325e-09) : NNM_C(-6.175149918155315e-19);
    real_t square, cube, q, v;
    real_t low = NNM_FN(two_product)(size, size, &square);
    low = NNM_FN(two_product)(square, b, &cube) + (low * b + square * bl);
    low += NNM_FN(two_sum)(cube, a, &q) + al;
    low = NNM_FN(two_product)(q, size, &v) + low * size;
    real_t p;
    const real_t rest = NNM_FN(exp_parts)(-v, -low, &p, s1, s2);
    return p + rest;
}

NNM_INLINE real_t NNM_FN(math_gelu_tanh)(real_t x)
{
    const real_t most = NNM_IS_F32 ? NNM_C(13.0) : NNM_C(24.0);
    real_t size = R_ABS(x), s1, s2;
    size = size > most ? most : size;
    const real_t p = NNM_FN(gelu_tanh_parts)(size, &s1, &s2), e = p * s1 * s2, tail = size * p * s1 * s2;
    const real_t y = (x >= NNM_C(0.0) ? x : -tail) / (NNM_C(1.0) + e); /* zeros keep their signs */
    return R_ABS(x) < most ? y : x * (x > NNM_C(0.0) ? NNM_C(1.0) : NNM_C(0.0));
}

/* sigmoid(v) + x v' sigmoid(v) sigmoid(-v): at -s it is e (1 + e - s v') / (1 + e)^2, at s 1 less that. */
NNM_INLINE real_t NNM_FN(math_gelu_tanh_slope)(real_t x)
{
    const real_t most = NNM_IS_F32 ? NNM_C(13.0) : NNM_C(24.0);
    real_t size = R_ABS(x), s1, s2;
    size = size > most ? most : size;
    const real_t p = NNM_FN(gelu_tanh_parts)(size, &s1, &s2), e = p * s1 * s2;
    const real_t rise = size * NNM_FMA(NNM_C(0.21406444881780074), size * size, NNM_C(1.5957691216057308));
    const real_t square = NNM_FMA(e, NNM_C(2.0) + e, NNM_C(1.0));
    const real_t left = ((NNM_C(1.0) - rise) + e) * p / square * s1 * s2;
    return x > NNM_C(0.0) ? NNM_C(1.0) - left : left + NNM_C(0.0);
}
