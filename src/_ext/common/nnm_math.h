/* Vector mathematics: functions without branches and calls, so that a loop over them becomes vector code.
 *
 * Included once for each type, after nnm_dtype.h (no include guard on purpose). Only + - * / and bit
 * operations, never contracted: the same bits on every instruction set. The error bounds are of the
 * function as it stands here, in units in the last place, and are measured by tests/test_registry_kernels.py.
 */
#undef NNM_BITS
#undef NNM_MANTISSA
#undef NNM_BIAS
#undef NNM_ROUNDER
#if NNM_IS_F32
#define NNM_BITS int32_t
#define NNM_MANTISSA 23
#define NNM_BIAS 127
#define NNM_ROUNDER 12582912.0f            /* 1.5 * 2^23: adding it rounds to an integer, in the low bits */
#else
#define NNM_BITS int64_t
#define NNM_MANTISSA 52
#define NNM_BIAS 1023
#define NNM_ROUNDER 6755399441055744.0     /* 1.5 * 2^52 */
#endif

/* tanh(x) = sign(x) t / (t + 2) with t = expm1(2 |x|): below 3 ULP, odd to the bit, NaN stays NaN.
 *
 * expm1(z) = 2^n (expm1(r) + 1) - 1 with n = round(z / log 2) and |r| <= log(2) / 2, where the Taylor
 * polynomial of degree 13 (7 in float) is off by less than 2e-17 (2e-8) of r. From |x| = 20 (10) on tanh is
 * 1 in the type. log 2 is split so that n times its first part is exact.
 */
static inline real_t NNM_FN(math_tanh)(real_t x)
{
    const real_t top = NNM_IS_F32 ? NNM_C(10.0) : NNM_C(20.0);
    const real_t size = R_ABS(x);
    const real_t z = NNM_C(2.0) * (size > top ? top : size);
    const real_t shifted = z * NNM_C(1.4426950408889634) + NNM_ROUNDER;
    const real_t n = shifted - NNM_ROUNDER;
    NNM_BITS bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (NNM_BITS)(((NNM_IS_F32 ? (uint64_t)(uint32_t)bits : (uint64_t)bits) << NNM_MANTISSA)
                      + ((uint64_t)NNM_BIAS << NNM_MANTISSA));
    real_t power;                          /* 2^n */
    memcpy(&power, &bits, sizeof power);
    /* (expm1(r) - r) / r^2, as pairs of pairs: half as deep as Horner's rule, which waits for each product */
#if NNM_IS_F32
    const real_t r = (z - n * 0.693359375f) - n * -2.12194440e-4f;
    const real_t r2 = r * r;
    const real_t p = ((1.0f / 2 + r * (1.0f / 6)) + r2 * (1.0f / 24 + r * (1.0f / 120)))
                     + r2 * r2 * (1.0f / 720 + r * (1.0f / 5040));
#else
    const real_t r = (z - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
    const real_t r2 = r * r, r4 = r2 * r2;
    const real_t p = ((1.0 / 2 + r * (1.0 / 6)) + r2 * (1.0 / 24 + r * (1.0 / 120)))
                     + r4 * (((1.0 / 720 + r * (1.0 / 5040)) + r2 * (1.0 / 40320 + r * (1.0 / 362880)))
                             + r4 * ((1.0 / 3628800 + r * (1.0 / 39916800))
                                     + r2 * (1.0 / 479001600 + r * (1.0 / 6227020800.0))));
#endif
    const real_t t = power * (r + r2 * p) + (power - NNM_C(1.0));
    return NNM_R(copysign)(t / (t + NNM_C(2.0)), x);
}
