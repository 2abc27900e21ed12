/* log, log2, log10, log1p. Included once for each type, after nnm_exp.h.
 *
 * x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)); log(1 + f) = f - f^2/2 + s (f^2/2 + R(s^2)), s = f / (2 + f), where
 * 2 s + s R is the series of 2 atanh(s): the first two terms are nearly exact and the rest is small.
 */

/* f and *k of a positive number that is not subnormal. */
NNM_INLINE real_t NNM_FN(log_split)(real_t x, real_t *k)
{
    const NNM_UINT low = NNM_IS_F32 ? (NNM_UINT)0x3f3504f3 : (NNM_UINT)0x3fe6a09e667f3bcd; /* sqrt(1/2) */
    const NNM_UINT u = NNM_FN(bits_of)(x) - low;
    const NNM_UINT mask = ((NNM_UINT)1 << NNM_MANT) - 1;
#if NNM_IS_F32
    *k = (real_t)((int32_t)u >> NNM_MANT);
#else /* an arithmetic shift of 64 bits is no vector instruction before v4: shift a positive number, then into a double */
    *k = NNM_FN(of_bits)(((u + ((NNM_UINT)1 << 62)) >> NNM_MANT) | (NNM_UINT)0x4330000000000000) - 4503599627371520.0;
#endif
    return NNM_FN(of_bits)((u & mask) + low) - NNM_C(1.0);
}

/* R(z), z = s^2 */
NNM_INLINE real_t NNM_FN(log_tail)(real_t z)
{
    const real_t w = z * z;
#if NNM_IS_F32
    return z * NNM_FMA(z, NNM_H2(w, 4.00001222e-1, 2.33316145e-1), NNM_H2(w, 6.66666666e-1, 2.85507786e-1));
#else
    return z * NNM_E7(z, w, 6.6666666666666697e-1, 3.9999999999898891e-1, 2.8571428626253838e-1, 2.2222211089379496e-1,
                      1.8182892432536871e-1, 1.5331611722055008e-1, 1.4617807153417325e-1);
#endif
}

/* A positive number, made normal, with what must be added to its exponent; 0, negative numbers and NaN pass. */
NNM_INLINE real_t NNM_FN(log_normal)(real_t x, real_t *shift)
{
    const real_t least = NNM_FN(of_bits)((NNM_UINT)1 << NNM_MANT); /* the least normal number */
    const real_t up = NNM_IS_F32 ? NNM_C(33554432.0) : NNM_C(18014398509481984.0);
    *shift = x < least ? (NNM_IS_F32 ? NNM_C(-25.0) : NNM_C(-54.0)) : NNM_C(0.0);
    return x < least ? x * up : x;
}

/* What every logarithm is at 0, at infinity, at negative numbers and NaN; y elsewhere. */
NNM_INLINE real_t NNM_FN(log_special)(real_t x, real_t y)
{
    const real_t inf = (real_t)INFINITY;
    y = x < inf ? y : x;                    /* infinity and NaN are themselves */
    y = x == NNM_C(0.0) ? -inf : y;
    return x < NNM_C(0.0) ? (real_t)NAN : y;
}

NNM_INLINE real_t NNM_FN(math_log)(real_t x)
{
    real_t k, shift;
    const real_t f = NNM_FN(log_split)(NNM_FN(log_normal)(x, &shift), &k);
    const real_t s = f / (NNM_C(2.0) + f), h = NNM_C(0.5) * f * f;
    const real_t t = NNM_FMA(s, h + NNM_FN(log_tail)(s * s), (k + shift) * NNM_LN2_LO);
    return NNM_FN(log_special)(x, (k + shift) * NNM_LN2_HI - ((h - t) - f));
}

/* (k + log(1 + f) b): the product with b = bh + bl is kept in two parts, then both sums. */
NNM_INLINE real_t NNM_FN(log_of_base)(real_t x, real_t bh, real_t bl, real_t ch, real_t cl)
{
    real_t k, shift, head, p, y;
    const real_t f = NNM_FN(log_split)(NNM_FN(log_normal)(x, &shift), &k);
    k += shift;
    const real_t s = f / (NNM_C(2.0) + f), h = NNM_C(0.5) * f * f;
    /* head = f - h, cut short so that its product with bh is exact; the rest of log(1 + f) is tail */
    head = NNM_FN(of_bits)(NNM_FN(bits_of)(f - h) & ((NNM_UINT)-1 << (NNM_IS_F32 ? 12 : 32)));
    const real_t tail = ((f - head) - h) + s * (h + NNM_FN(log_tail)(s * s));
    p = head * bh;
    const real_t low = (tail + head) * bl + tail * bh + k * cl;
    const real_t lost = NNM_FN(two_sum)(k * ch, p, &y);
    return NNM_FN(log_special)(x, y + (low + lost));
}

NNM_INLINE real_t NNM_FN(math_log2)(real_t x)
{
#if NNM_IS_F32
    return NNM_FN(log_of_base)(x, 1.4423828125f, 3.1222839e-4f, 1.0f, 0.0f);
#else
    return NNM_FN(log_of_base)(x, 0x1.71547652p+0, 1.6751713164886512e-10, 1.0, 0.0);
#endif
}

NNM_INLINE real_t NNM_FN(math_log10)(real_t x)
{
#if NNM_IS_F32
    return NNM_FN(log_of_base)(x, 0.4342041015625f, 9.0380341e-05f, 0.301025390625f, 4.6050391e-06f);
#else
    return NNM_FN(log_of_base)(x, 0x1.bcb7b152p-2, 2.5082946711645275e-11, 0x1.34413509f78p-2, 2.8363394551044964e-14);
#endif
}

/* log(u) of u = 1 + x, and the part c of x that u has lost: log(1 + x) = log(u) + c / u. */
NNM_INLINE real_t NNM_FN(math_log1p)(real_t x)
{
    const real_t u = NNM_C(1.0) + x;
    real_t k;
    real_t f = NNM_FN(log_split)(u, &k);
    const real_t lost = (x > NNM_C(1.0) ? NNM_C(1.0) - (u - x) : x - (u - NNM_C(1.0))) / u;
    const real_t c = k == NNM_C(0.0) ? NNM_C(0.0) : lost;
    f = k == NNM_C(0.0) ? x : f;            /* f = u - 1 has lost what x has */
    const real_t s = f / (NNM_C(2.0) + f), h = NNM_C(0.5) * f * f;
    const real_t t = NNM_FMA(s, h + NNM_FN(log_tail)(s * s), NNM_FMA(k, NNM_LN2_LO, c));
    real_t y = NNM_FN(log_special)(u, k * NNM_LN2_HI - ((h - t) - f));
    return x == NNM_C(0.0) ? x : y;          /* -0 */
}
