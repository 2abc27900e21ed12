/* Quotients of single precision by multiplications, beside a divider that is busy with roots: AVX-512 alone.
 *
 * A vector's quotient keeps the divider for 10 cycles and its root for 12; what follows takes some 6 of the two ports
 * that multiply, so that a loop with a root and a quotient runs in little more than the root's time.
 *
 *   s = 1/b to 14 bits,  e = 1 - b s,  r = s + s (e + e^2),  q = a r,  d = b q - a,  quotient = q - d r
 *
 * It is a / b, correctly rounded. Let 1 <= b < 2 and q, the exact a / b, have units u and u' = 2^-24 be that of 1/b.
 * (1) r is off by at most (1/2 + 2^-12) u': what e^3 and the roundings of e and e + e^2 leave is below 2^-36 of it.
 * (2) a r is off by at most a/4 (a >= b) or a/2 (a < b) units u, so that the rounded q is off by t < 3/2 + 2^-11 units.
 *     d is exact for t <= 1; else it may be off by one unit of b times one of q, 2 / (2^24 b) units u of the quotient.
 * (3) q - d r is off by t 2^-25 b (1 + 2^-11), and perhaps that, before its rounding: below 6 / (2^24 b) units. The
 *     quotient of two numbers of 24 bits is never the middle between two neighbours; those closest are j / (2^24 b) from
 *     one, j = 1, 2, ..., so that only j < 6 could be rounded the wrong way. Near a middle t is 1/2 (3/2 for a and b
 *     above 2 - 2^-10), d is exact, and b^2 / 4 (1 + 2^-11) < j: too far only for j = 1 and b above 2 - 2^-10.
 * These significands, and all with j <= 8, were divided: all are right. 1 / (2 - 2^-23) is, since e + e^2 is rounded up.
 * tests/test_quotient.py goes through them.
 *
 * This holds where nothing leaves the normal range. With b from 2^-60 to 2^60 and |a| up to 2^60 it does, a = 0 with its
 * sign, and down to 2^-80; smaller ones have an error below 4 units. A vector with anything else is divided as usual.
 */
#ifndef NNM_QUOTIENT_H
#define NNM_QUOTIENT_H

#if defined(__AVX512F__) && defined(__AVX512DQ__) && (defined(__GNUC__) || defined(__clang__))
#define NNM_QUOTIENT 1
#include <immintrin.h>

static inline __m512 nnm_quotient(__m512 a, __m512 b)
{
    const __m512 s = _mm512_rcp14_ps(b);
    const __m512 e = _mm512_fnmadd_ps(b, s, _mm512_set1_ps(1.0f));
    const __m512 t = _mm512_fmadd_round_ps(e, e, e, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
    const __m512 r = _mm512_fmadd_ps(s, t, s);
    const __m512 q = _mm512_mul_ps(a, r);
    const __m512 d = _mm512_fmsub_ps(b, q, a);
    const __m512 size = _mm512_range_ps(a, b, 0xB); /* the larger of |a| and |b|; of a NaN and a number the number */
    __mmask16 good = _mm512_cmp_ps_mask(b, _mm512_set1_ps(0x1p-60f), _CMP_GE_OQ);
    good = _mm512_mask_cmp_ps_mask(good, size, _mm512_set1_ps(0x1p60f), _CMP_LE_OQ);
    if (__builtin_expect(good != 0xFFFF, 0))
        return _mm512_div_ps(a, b);
    return _mm512_fnmadd_ps(d, r, q); /* so that the sign of a = 0 is kept */
}
#endif

#endif
