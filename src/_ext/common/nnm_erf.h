/* erf, erfc, the normal distribution and GELU. Included once for each type, after nnm_exp.h.
 *
 * erfc(x) = exp(-x^2) erfcx(x), and (1 + 2 x) erfcx(x) is one polynomial in t = (x - c) / (x + c) over all x >= 0, in the
 * manner of M. Shepherd and J. Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < oo", 1981.
 * exp(-x^2) takes the square in two parts: its rounding error alone would cost 700 ULP in the tail.
 */

/* (1 + 2 x) erfcx(x) of t = (x - c) / (x + c) */
NNM_INLINE real_t NNM_FN(erfcx_part)(real_t t)
{
    const real_t u = t * t;
#if NNM_IS_F32
    const real_t p = NNM_E13(t, u, 1.27697838, -9.27637598e-2, -1.66030391e-1, 1.64049395e-1, -5.42201861e-2,
                             -8.01863569e-3, 8.72429454e-3, 1.2166655e-3, -1.46351167e-3, -3.57177892e-4,
                             2.21105452e-4, 6.31001855e-5, -2.01089312e-5);
#else
    const real_t w = u * u;
    const real_t a = NNM_FMA(u, NNM_H6(w, 1.537965210261959e-2, -6.6330365812199045e-2, -7.5777326203091503e-4,
                                       -1.1221292615314274e-5, 7.7460686356819793e-8, 3.1672611119361695e-9),
                             NNM_H7(w, 1.2329951186255525, -1.0103906603629991e-1, -1.6197734059683292e-2,
                                    1.5062149237837335e-4, 2.9198219084548258e-7, -2.05545313698593e-8,
                                    -2.6557266163125748e-10));
    const real_t b = NNM_FMA(u, NNM_H6(w, 6.8097054254691298e-2, 3.7167515536323988e-2, -1.9925676026410457e-4,
                                       5.7093141135324918e-6, 1.1025271999000153e-7, 1.825695118953907e-9),
                             NNM_H7(w, -1.3962111684056251e-1, 9.3732834998410491e-2, 5.0319699895242517e-3,
                                    -2.43989944557621e-5, -8.2507833868124504e-7, -1.4806988146925794e-8,
                                    -1.4311318470928161e-10));
    const real_t p = NNM_FMA(t, b, a);
#endif
    return p;
}

/* erfcx(x), x >= 0 */
NNM_INLINE real_t NNM_FN(math_erfcx)(real_t x)
{
    const real_t c = NNM_IS_F32 ? NNM_C(2.0) : NNM_C(4.0);
    return NNM_FN(erfcx_part)((x - c) / (x + c)) / NNM_FMA(NNM_C(2.0), x, NNM_C(1.0));
}

/* erfcx(s / sqrt 2) / 2, s >= 0, without the rounding of the quotient */
NNM_INLINE real_t NNM_FN(half_erfcx)(real_t s)
{
    const real_t c = NNM_IS_F32 ? NNM_C(2.8284271247461901) : NNM_C(5.6568542494923804);
    return NNM_FN(erfcx_part)((s - c) / (s + c)) / NNM_FMA(NNM_C(2.8284271247461901), s, NNM_C(2.0));
}

/* factor exp(-scale x^2), scale 1 or 1/2, for 0 <= x; from 15 (40 in float64) on it is 0 in the type. */
NNM_INLINE real_t NNM_FN(math_gauss_times)(real_t x, real_t scale, real_t factor)
{
    real_t square;
    const real_t lost = NNM_FN(two_product)(x, x, &square);
    return NNM_FN(math_exp_times)(-scale * square, -scale * lost, factor);
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
    const real_t most = NNM_IS_F32 ? NNM_C(15.0) : NNM_C(40.0);
    real_t size = R_ABS(x);
    size = size > most ? most : size;
    const real_t tail = NNM_FN(math_gauss_times)(size, NNM_C(1.0), NNM_FN(math_erfcx)(size));
    const real_t small = NNM_C(1.0) - NNM_FMA(x, NNM_FN(erf_part)(x * x), x);
    const real_t y = x < NNM_C(0.0) ? NNM_C(2.0) - tail : tail;
    return size < NNM_C(0.5) ? small : y;
}

/* GELU, x P(Z <= x) of a standard normal Z, and its derivative P(Z <= x) + x density(x). With s = |x|,
 * P(Z <= -s) = exp(-s^2/2) erfcx(s / sqrt 2) / 2 keeps its digits in the tail, and exp takes all factors in. */
NNM_INLINE real_t NNM_FN(math_gelu)(real_t x)
{
    const real_t most = NNM_IS_F32 ? NNM_C(15.0) : NNM_C(40.0);
    real_t size = R_ABS(x);
    size = size > most ? most : size;
    const real_t factor = size * NNM_FN(half_erfcx)(size);
    const real_t tail = NNM_FN(math_gauss_times)(size, NNM_C(0.5), factor); /* s P(Z <= -s) */
    const real_t large = (x > NNM_C(0.0) ? x : NNM_C(0.0)) - tail, z = x * x;
#if NNM_IS_F32
    const real_t p = NNM_H4(z, 3.98942277e-1, -6.64899469e-2, 9.96486319e-3, -1.13120092e-3);
#else
    const real_t p = NNM_E8(z, z * z, 3.9894228040143268e-1, -6.649038006690493e-2, 9.9735570099924625e-3,
                            -1.1873282140917717e-3, 1.1543466575868644e-4, -9.444469242999595e-6,
                            6.6508109843099493e-7, -3.9018869723989702e-8);
#endif
    const real_t y = size < NNM_C(0.5) ? x * NNM_FMA(x, p, NNM_C(0.5)) : large;
    return R_ABS(x) < most ? y : x * (x > NNM_C(0.0) ? NNM_C(1.0) : NNM_C(0.0));
}

NNM_INLINE real_t NNM_FN(math_gelu_slope)(real_t x)
{
    const real_t most = NNM_IS_F32 ? NNM_C(15.0) : NNM_C(40.0);
    real_t size = R_ABS(x);
    size = size > most ? most : size;
    const real_t bump = size * NNM_C(0.3989422804014327);
    const real_t factor = NNM_FN(half_erfcx)(size) - bump;
    const real_t left = NNM_FN(math_gauss_times)(size, NNM_C(0.5), factor); /* the slope at -s; at s it is 1 - left */
    const real_t large = x > NNM_C(0.0) ? NNM_C(1.0) - left : left, z = x * x;
#if NNM_IS_F32
    const real_t p = NNM_H5(z, 7.97884561e-1, -2.65961479e-1, 5.98400243e-2, -9.4837957e-3, 1.08582395e-3);
#else
    const real_t p = NNM_E9(z, z * z, 7.9788456080286536e-1, -2.6596152026762174e-1, 5.98413420602106e-2,
                            -9.4986257236668464e-3, 1.1543468725203399e-3, -1.1333583295789633e-4,
                            9.3232839003468421e-6, -6.5848530493461711e-7, 3.8461956050776085e-8);
#endif
    return size < NNM_C(0.5) ? NNM_FMA(x, p, NNM_C(0.5)) : large;
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
    const real_t y = (x > NNM_C(0.0) ? x : -tail) / (NNM_C(1.0) + e);
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
    return x > NNM_C(0.0) ? NNM_C(1.0) - left : left;
}
