/* The loops of a Plan's elementwise machine over a block that lies in the first cache. Included, never compiled alone.
 *
 * vector.def lists them and says what an operand may be. Plans give no floating-point warnings: the family is compiled
 * with -fno-trapping-math, so that both sides of a choice may be computed. An output may be an input: no restrict, and
 * `omp simd` says that one iteration does not see another. What a function does not do as vector code (sine and cosine
 * beyond 1e6, powers of numbers that are not finite, log Gamma of negative numbers) is seen before the loop, and such a
 * block goes element by element, only its own elements through libm.
 */
#ifndef NNM_LOOP_ARGS
#define NNM_LOOP_ARGS (char **args, const nnm_idx *dims, const nnm_idx *strides, void *data)

/* float32 borrows from float64, which therefore comes first */
#undef NNM_IS_F32
#define NNM_IS_F32 0
#include "nnm_dtype.h"
#include "nnm_vector_math.h"
#undef NNM_IS_F32
#define NNM_IS_F32 1
#include "nnm_dtype.h"
#include "nnm_vector_math.h"

#endif

/* --- one input ------------------------------------------------------------------------------------------- */
#define UNARY(name, out_t, value)                                                          \
    void NNM_FN(name) NNM_LOOP_ARGS                                                        \
    {                                                                                      \
        const nnm_idx n = dims[0];                                                         \
        const real_t *px = (const real_t *)args[0];                                        \
        out_t *po = (out_t *)args[1];                                                      \
        if (strides[0]) {                                                                  \
            NNM_SIMD                                                                       \
            for (nnm_idx i = 0; i < n; ++i) {                                              \
                const real_t x = px[i];                                                    \
                po[i] = (out_t)(value);                                                    \
            }                                                                              \
        } else {                                                                           \
            const real_t x = *px;                                                          \
            const out_t y = (out_t)(value);                                                \
            for (nnm_idx i = 0; i < n; ++i)                                                \
                po[i] = y;                                                                 \
        }                                                                                  \
    }

/* As UNARY where `inside` holds for the whole block; else each element that is outside has the value `other`. */
#define UNARY_INSIDE(name, inside, value, other)                                           \
    void NNM_FN(name) NNM_LOOP_ARGS                                                        \
    {                                                                                      \
        const nnm_idx n = dims[0], step = strides[0] != 0;                                 \
        const real_t *px = (const real_t *)args[0];                                        \
        real_t *po = (real_t *)args[1];                                                    \
        NNM_INT outside = 0;                                                               \
        NNM_SIMD_OR(outside)                                                               \
        for (nnm_idx i = 0; i < (step ? n : n > 0); ++i) {                                 \
            const real_t x = px[i];                                                        \
            outside |= (inside) ? 0 : 1;                                                   \
        }                                                                                  \
        if (step && !outside) {                                                            \
            NNM_SIMD                                                                       \
            for (nnm_idx i = 0; i < n; ++i) {                                              \
                const real_t x = px[i];                                                    \
                po[i] = (value);                                                           \
            }                                                                              \
        } else {                                                                           \
            real_t x = *px; /* read before the output, which may lie in its place */       \
            const real_t first = (inside) ? (value) : (other);                             \
            for (nnm_idx i = 0; i < n; ++i) {                                              \
                x = px[i * step];                                                          \
                po[i] = !step ? first : (inside) ? (value) : (other);                      \
            }                                                                              \
        }                                                                                  \
    }

#undef INFINITE
#define INFINITE ((real_t)INFINITY)
#ifdef NNM_ROUND_IN_HARDWARE
#define FLOOR(x) NNM_R(floor)(x)
#define CEIL(x) NNM_R(ceil)(x)
#define TRUNC(x) NNM_R(trunc)(x)
#define RINT(x) NNM_R(rint)(x)
#else
#define FLOOR(x) NNM_FN(soft_floor)(x)
#define CEIL(x) -NNM_FN(soft_floor)(-(x))
#define TRUNC(x) NNM_R(copysign)(NNM_FN(soft_floor)(R_ABS(x)), x)
#define RINT(x) NNM_FN(soft_rint)(x)
#endif
UNARY(negative, real_t, -x)
UNARY(square, real_t, x * x)
UNARY(reciprocal, real_t, NNM_C(1.0) / x)
UNARY(absolute, real_t, R_ABS(x))
UNARY(sign, real_t, x > NNM_C(0.0) ? NNM_C(1.0) : x < NNM_C(0.0) ? NNM_C(-1.0) : x == NNM_C(0.0) ? NNM_C(0.0) : x)
UNARY(floor, real_t, FLOOR(x))
UNARY(ceil, real_t, CEIL(x))
UNARY(trunc, real_t, TRUNC(x))
UNARY(rint, real_t, RINT(x))
UNARY(sqrt, real_t, R_SQRT(x))
UNARY(rsqrt, real_t, NNM_C(1.0) / R_SQRT(x))
UNARY(relu, real_t, x <= NNM_C(0.0) ? NNM_C(0.0) : x)
UNARY(exp, real_t, NNM_FN(math_exp)(x))
UNARY(exp2, real_t, NNM_FN(math_exp2)(x))
UNARY(expm1, real_t, NNM_FN(math_expm1)(x))
UNARY(log, real_t, NNM_FN(math_log)(x))
UNARY(log2, real_t, NNM_FN(math_log2)(x))
UNARY(log10, real_t, NNM_FN(math_log10)(x))
UNARY(log1p, real_t, NNM_FN(math_log1p)(x))
UNARY_INSIDE(sin, R_ABS(x) <= NNM_TRIG_MOST, NNM_FN(math_sin)(x), R_SIN(x))
UNARY_INSIDE(cos, R_ABS(x) <= NNM_TRIG_MOST, NNM_FN(math_cos)(x), R_COS(x))
UNARY_INSIDE(tan, R_ABS(x) <= NNM_TRIG_MOST, NNM_FN(math_tan)(x), R_TAN(x))
UNARY(arctan, real_t, NNM_FN(math_arctan)(x))
UNARY(sinh, real_t, NNM_FN(math_sinh)(x))
UNARY(cosh, real_t, NNM_FN(math_cosh)(x))
UNARY(tanh, real_t, NNM_FN(vector_tanh)(x))
UNARY(expit, real_t, NNM_FN(math_sigmoid)(x))
UNARY(erf, real_t, NNM_FN(math_erf)(x))
UNARY(erfc, real_t, NNM_FN(math_erfc)(x))
UNARY(gelu, real_t, NNM_FN(math_gelu)(x))
UNARY(gelu_slope, real_t, NNM_FN(math_gelu_slope)(x))
UNARY(gelu_tanh, real_t, NNM_FN(math_gelu_tanh)(x))
UNARY(gelu_tanh_slope, real_t, NNM_FN(math_gelu_tanh_slope)(x))
UNARY_INSIDE(gammaln, x > NNM_C(0.0), NNM_FN(math_gammaln)(x), NNM_FN(gammaln_left)(x))
UNARY_INSIDE(digamma, x > NNM_C(0.0), NNM_FN(math_digamma)(x), NNM_FN(digamma_left)(x))
UNARY(isnan, unsigned char, x != x)
UNARY(isinf, unsigned char, R_ABS(x) == INFINITE)
UNARY(isfinite, unsigned char, R_ABS(x) < INFINITE)

/* --- two and three inputs: the steps are 0 or 1, and constants in every copy of the loop -------------------- */
#define BINARY(name, out_t, value)                                                         \
    NNM_INLINE void NNM_FN(steps_##name)(nnm_idx n, const real_t *pa, int sa, const real_t *pb, int sb, out_t *po) \
    {                                                                                      \
        const real_t a0 = *pa, b0 = *pb;                                                   \
        NNM_SIMD                                                                           \
        for (nnm_idx i = 0; i < n; ++i) {                                                  \
            const real_t a = sa ? pa[i] : a0, b = sb ? pb[i] : b0;                         \
            po[i] = (out_t)(value);                                                        \
        }                                                                                  \
    }                                                                                      \
    void NNM_FN(name) NNM_LOOP_ARGS                                                        \
    {                                                                                      \
        const nnm_idx n = dims[0];                                                         \
        const real_t *pa = (const real_t *)args[0], *pb = (const real_t *)args[1];         \
        out_t *po = (out_t *)args[2];                                                      \
        if (n <= 0)                                                                        \
            return;                                                                        \
        if (strides[0] && strides[1])                                                      \
            NNM_FN(steps_##name)(n, pa, 1, pb, 1, po);                                     \
        else if (strides[0])                                                               \
            NNM_FN(steps_##name)(n, pa, 1, pb, 0, po);                                     \
        else                                                                               \
            NNM_FN(steps_##name)(n, pa, 0, pb, strides[1] != 0, po);                       \
    }

BINARY(add, real_t, a + b)
BINARY(subtract, real_t, a - b)
BINARY(multiply, real_t, a * b)
BINARY(quotient, real_t, a / b)

/* Quotients by one divisor: the product with its reciprocal, corrected by the remainder, which is the rounded quotient
 * again (P. Markstein, 1990, "Computation of elementary functions on the IBM RISC System/6000 processor"), or a number
 * beside it where the remainder is subnormal. Where it is not finite the product is the quotient: infinity, or NaN.
 * Divisors near the ends of the range, whose reciprocal is not exact enough, and instruction sets without FMA divide. */
void NNM_FN(divide) NNM_LOOP_ARGS
{
#if NNM_HAS_FMA
    const real_t b = *(const real_t *)args[1], far = NNM_IS_F32 ? NNM_C(1e18) : NNM_C(1e150);
    if (strides[0] && !strides[1] && R_ABS(b) < far && R_ABS(b) > NNM_C(1.0) / far) {
        const real_t *pa = (const real_t *)args[0], r = NNM_C(1.0) / b;
        real_t *po = (real_t *)args[2];
        NNM_SIMD
        for (nnm_idx i = 0; i < dims[0]; ++i) {
            const real_t q = pa[i] * r, rest = NNM_FMA(-q, b, pa[i]), better = NNM_FMA(rest, r, q);
            po[i] = (R_ABS(rest) < INFINITE) & (rest != NNM_C(0.0)) ? better : q; /* rest 0: q is exact, -0.0 too */
        }
        return;
    }
#endif
    NNM_FN(quotient)(args, dims, strides, data);
}
/* b of two that are equal, as NumPy's vector loops: it shows in the sign of 0 */
BINARY(maximum, real_t, (a > b) | (a != a) ? a : b)
BINARY(minimum, real_t, (a < b) | (a != a) ? a : b)
BINARY(hypot, real_t, NNM_FN(math_hypot)(a, b))
BINARY(equal, unsigned char, a == b)
BINARY(not_equal, unsigned char, a != b)
BINARY(less, unsigned char, a < b)
BINARY(less_equal, unsigned char, a <= b)
BINARY(greater, unsigned char, a > b)
BINARY(greater_equal, unsigned char, a >= b)
BINARY(tanh_pull, real_t, a * (NNM_C(1.0) - b * b))
BINARY(expit_pull, real_t, a * (b * (NNM_C(1.0) - b)))
BINARY(relu_pull, real_t, b <= NNM_C(0.0) ? NNM_C(0.0) : a)

/* Powers of at most POWER_BLOCK numbers: a scalar is copied into an array, so that one loop serves all, and powers of
 * positive numbers alone need no thought of signs. */
#undef POWER_BLOCK
#define POWER_BLOCK 256
static void NNM_FN(power_block)(nnm_idx n, const real_t *pa, const real_t *pb, real_t *po)
{
    NNM_INT outside = NNM_POWER_BY_LIBM, signs = 0;
    NNM_PRAGMA(omp simd reduction(| : outside, signs))
    for (nnm_idx i = 0; i < n; ++i) {
        outside |= (R_ABS(pa[i]) < INFINITE) & (R_ABS(pb[i]) < INFINITE) ? 0 : 1;
        signs |= pa[i] > NNM_C(0.0) ? 0 : 1;
    }
    if (outside) {
        for (nnm_idx i = 0; i < n; ++i) {
            const real_t a = pa[i], b = pb[i];
            const int finite = (R_ABS(a) < INFINITE) & (R_ABS(b) < INFINITE) & !NNM_POWER_BY_LIBM;
            po[i] = finite ? NNM_FN(math_pow)(a, b) : R_POW(a, b);
        }
    } else if (signs) {
        NNM_SIMD
        for (nnm_idx i = 0; i < n; ++i)
            po[i] = NNM_FN(math_pow)(pa[i], pb[i]);
    } else {
        NNM_SIMD
        for (nnm_idx i = 0; i < n; ++i)
            po[i] = NNM_FN(pow_positive)(pa[i], pb[i]);
    }
}

void NNM_FN(power) NNM_LOOP_ARGS
{
    const nnm_idx n = dims[0], sa = strides[0] != 0, sb = strides[1] != 0;
    const real_t *pa = (const real_t *)args[0], *pb = (const real_t *)args[1];
    real_t *po = (real_t *)args[2], fixed[2][POWER_BLOCK];
    if (n <= 0)
        return;
    for (nnm_idx i = 0; i < POWER_BLOCK && !(sa && sb); ++i) {
        fixed[0][i] = *pa;
        fixed[1][i] = *pb;
    }
    for (nnm_idx i = 0; i < n; i += POWER_BLOCK)
        NNM_FN(power_block)(n - i < POWER_BLOCK ? n - i : POWER_BLOCK, sa ? pa + i : fixed[0], sb ? pb + i : fixed[1], po + i);
}

#define TERNARY(name, first_t, value)                                                      \
    NNM_INLINE void NNM_FN(steps_##name)(nnm_idx n, const first_t *pa, int sa, const real_t *pb, int sb, \
                                         const real_t *pc, int sc, real_t *po)             \
    {                                                                                      \
        const first_t a0 = *pa;                                                            \
        const real_t b0 = *pb, c0 = *pc;                                                   \
        NNM_SIMD                                                                           \
        for (nnm_idx i = 0; i < n; ++i) {                                                  \
            const first_t a = sa ? pa[i] : a0;                                             \
            const real_t b = sb ? pb[i] : b0, c = sc ? pc[i] : c0;                         \
            po[i] = (value);                                                               \
        }                                                                                  \
    }                                                                                      \
    void NNM_FN(name) NNM_LOOP_ARGS                                                        \
    {                                                                                      \
        const nnm_idx n = dims[0];                                                         \
        const first_t *pa = (const first_t *)args[0];                                      \
        const real_t *pb = (const real_t *)args[1], *pc = (const real_t *)args[2];         \
        real_t *po = (real_t *)args[3];                                                    \
        if (n <= 0)                                                                        \
            return;                                                                        \
        switch ((strides[0] ? 4 : 0) + (strides[1] ? 2 : 0) + (strides[2] ? 1 : 0)) {      \
        case 7: NNM_FN(steps_##name)(n, pa, 1, pb, 1, pc, 1, po); return;                  \
        case 6: NNM_FN(steps_##name)(n, pa, 1, pb, 1, pc, 0, po); return;                  \
        case 5: NNM_FN(steps_##name)(n, pa, 1, pb, 0, pc, 1, po); return;                  \
        case 4: NNM_FN(steps_##name)(n, pa, 1, pb, 0, pc, 0, po); return;                  \
        case 3: NNM_FN(steps_##name)(n, pa, 0, pb, 1, pc, 1, po); return;                  \
        case 2: NNM_FN(steps_##name)(n, pa, 0, pb, 1, pc, 0, po); return;                  \
        case 1: NNM_FN(steps_##name)(n, pa, 0, pb, 0, pc, 1, po); return;                  \
        default: NNM_FN(steps_##name)(n, pa, 0, pb, 0, pc, 0, po); return;                 \
        }                                                                                  \
    }

TERNARY(muladd, real_t, a * b + c)
TERNARY(mulsub, real_t, a * b - c)
TERNARY(nmuladd, real_t, c - a * b)
TERNARY(clip, real_t, NNM_FN(clipped)(a, b, c))
TERNARY(where, unsigned char, a ? b : c)

/* --- reductions ------------------------------------------------------------------------------------------
 * A sum runs as four streams of vector registers over at most 512 elements in float32 (4096 in float64); these sums are
 * added in double, and the block's sum joins the accumulator {high, low} without loss. What there is is summed in the
 * same order whatever the block's place in memory. */
#define SUM(name, two, lane_t, term)                                                               \
    NNM_INLINE void NNM_FN(steps_##name)(nnm_idx n, const real_t *pa, nnm_idx sa, const real_t *pb, nnm_idx sb, \
                                         nnm_wide *acc)                                      \
    {                                                                                      \
        const nnm_idx most = sizeof(lane_t) == 4 ? 512 : 4096;                                      \
        (void)pb;                                                                          \
        for (nnm_idx begin = 0; begin < n; begin += most) {                                \
            const nnm_idx end = n - begin < most ? n : begin + most, q = (end - begin) / 4; \
            lane_t s0 = 0, s1 = 0, s2 = 0, s3 = 0, rest = 0;                               \
            NNM_PRAGMA(omp simd reduction(+ : s0, s1, s2, s3))                             \
            for (nnm_idx i = begin; i < begin + q; ++i) {                                  \
                const nnm_idx j = i + q, k = i + 2 * q, l = i + 3 * q;                     \
                s0 += term(i);                                                             \
                s1 += term(j);                                                             \
                s2 += term(k);                                                             \
                s3 += term(l);                                                             \
            }                                                                              \
            for (nnm_idx i = begin + 4 * q; i < end; ++i)                                  \
                rest += term(i);                                                           \
            nnm_join_sum(acc, (((nnm_wide)s0 + s1) + ((nnm_wide)s2 + s3)) + rest); \
        }                                                                                  \
    }                                                                                      \
    void NNM_FN(name) NNM_LOOP_ARGS                                                        \
    {                                                                                      \
        const nnm_idx sa = strides[0] != 0, sb = two ? strides[1] != 0 : 1;                \
        const real_t *pa = (const real_t *)args[0], *pb = (const real_t *)args[two];       \
        nnm_wide *acc = (nnm_wide *)args[1 + two];                                             \
        if (sa && sb)                                                                      \
            NNM_FN(steps_##name)(dims[0], pa, 1, pb, 1, acc);                              \
        else                                                                               \
            NNM_FN(steps_##name)(dims[0], pa, sa, pb, sb, acc);                            \
    }

#define ENTRY(i) pa[(i) * sa]
#define SQUARE(i) (pa[(i) * sa] * pa[(i) * sa])
#define PRODUCT(i) (pa[(i) * sa] * pb[(i) * sb])
/* of exponentials the largest of which is 1: how many are 1, and the sum of the others, which may be far smaller */
#define ONE(i) (pa[(i) * sa] == NNM_C(1.0) ? NNM_C(1.0) : NNM_C(0.0))
#define OTHER(i) (pa[(i) * sa] == NNM_C(1.0) ? NNM_C(0.0) : pa[(i) * sa])
/* squares in double: those of float do not overflow */
#define WIDE_SQUARE(i) ((nnm_wide)pa[(i) * sa] * (nnm_wide)pa[(i) * sa])
SUM(sum, 0, real_t, ENTRY)
SUM(sum_squares, 0, real_t, SQUARE)
SUM(sum_products, 1, real_t, PRODUCT)
SUM(sum_ones, 0, real_t, ONE)
SUM(sum_others, 0, real_t, OTHER)
SUM(sum_wide_squares, 0, nnm_wide, WIDE_SQUARE)
#undef ENTRY
#undef ONE
#undef OTHER
#undef WIDE_SQUARE
#undef SQUARE
#undef PRODUCT

/* The largest (least) of the elements and what the accumulator holds; NaN if one of them is. */
#define EXTREME(name, which, beats)                                                        \
    void NNM_FN(name) NNM_LOOP_ARGS                                                        \
    {                                                                                      \
        const nnm_idx n = strides[0] ? dims[0] : dims[0] > 0, q = n / 2;                   \
        const real_t *px = (const real_t *)args[0];                                        \
        real_t *acc = (real_t *)args[1], s0 = *acc, s1 = *acc;                             \
        NNM_INT nan = s0 != s0;                                                            \
        NNM_PRAGMA(omp simd reduction(which : s0, s1) reduction(| : nan))                  \
        for (nnm_idx i = 0; i < q; ++i) {                                                  \
            const real_t x = px[i], y = px[i + q];                                         \
            nan |= (x != x) | (y != y) ? 1 : 0;                                            \
            s0 = x beats s0 ? x : s0;                                                      \
            s1 = y beats s1 ? y : s1;                                                      \
        }                                                                                  \
        for (nnm_idx i = 2 * q; i < n; ++i) {                                              \
            nan |= px[i] != px[i];                                                         \
            s0 = px[i] beats s0 ? px[i] : s0;                                              \
        }                                                                                  \
        *acc = nan ? (real_t)NAN : s1 beats s0 ? s1 : s0;                                  \
    }

EXTREME(max, max, >)
EXTREME(min, min, <)

void NNM_FN(any) NNM_LOOP_ARGS
{
    const nnm_idx n = strides[0] ? dims[0] : dims[0] > 0;
    const unsigned char *px = (const unsigned char *)args[0];
    unsigned char found = 0;
    NNM_SIMD_OR(found)
    for (nnm_idx i = 0; i < n; ++i)
        found |= px[i];
    *(unsigned char *)args[1] |= found != 0;
}

void NNM_FN(all) NNM_LOOP_ARGS
{
    const nnm_idx n = strides[0] ? dims[0] : dims[0] > 0;
    const unsigned char *px = (const unsigned char *)args[0];
    unsigned char missing = 0;
    NNM_SIMD_OR(missing)
    for (nnm_idx i = 0; i < n; ++i)
        missing |= px[i] == 0;
    *(unsigned char *)args[1] &= missing == 0;
}

void NNM_FN(finish_sum) NNM_LOOP_ARGS
{
    const nnm_wide *acc = (const nnm_wide *)args[0];
    real_t *po = (real_t *)args[1];
    for (nnm_idx i = 0; i < dims[0]; ++i, acc += strides[0] ? 2 : 0)
        po[i] = (real_t)(acc[0] + acc[1]);
}

#undef UNARY
#undef UNARY_INSIDE
#undef BINARY
#undef TERNARY
#undef SUM
#undef EXTREME
#undef FLOOR
#undef CEIL
#undef TRUNC
#undef RINT
