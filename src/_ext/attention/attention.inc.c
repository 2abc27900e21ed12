/* What attention does with rows of scores between its products. Included, never compiled alone.
 *
 *   a_ij = e_ij / sum_j e_ij, e_ij = exp(s_ij - max_j s_ij)          attention_weights, attention_shares
 *   s'_ij = a_ij (a'_ij - sum_j a_ij a'_ij)                          attention_pull
 *
 * Sums are made in parts of 1024 columns, whatever the number of rows, so that the bits of a row depend on nothing else.
 */
#ifndef NNM_ATTENTION_ONCE
#define NNM_ATTENTION_ONCE
/* float32 borrows from float64, which therefore comes first */
#undef NNM_IS_F32
#define NNM_IS_F32 0
#include "nnm_dtype.h"
#include "nnm_vector_math.h"
#undef NNM_IS_F32
#define NNM_IS_F32 1
#include "nnm_dtype.h"
#include "nnm_vector_math.h"

#include "plan/attention.h"

enum { ATTENTION_PART = 1024 };
#endif

/* n rows of d entries, `step` apart, as panels of NNM_PANEL columns: the rows of a panel lie one behind the other, and
 * what is missing of the last one is 0. */
void NNM_FN(attention_panels)(nnm_idx n, nnm_idx d, const real_t *x, nnm_idx step, real_t *to)
{
    enum { ROWS = 16 };
    for (nnm_idx j = 0; j < n; j += NNM_PANEL, to += d * NNM_PANEL) {
        const nnm_idx some = n - j < NNM_PANEL ? n - j : NNM_PANEL;
        if (some < NNM_PANEL)
            memset(to, 0, (size_t)(d * NNM_PANEL) * sizeof *to);
        for (nnm_idx l = 0; l < some; l += ROWS) {
            const real_t *from = x + (j + l) * step;
            if (l + ROWS <= some) {
                for (nnm_idx p = 0; p < d; ++p) {
                    real_t *line = to + p * NNM_PANEL + l;
                    NNM_SIMD
                    for (int i = 0; i < ROWS; ++i)
                        line[i] = from[i * step + p];
                }
            } else {
                for (nnm_idx p = 0; p < d; ++p)
                    for (nnm_idx i = 0; l + i < some; ++i)
                        to[p * NNM_PANEL + l + i] = from[i * step + p];
            }
        }
    }
}

/* to (m, n) = scale x; x may be `to`. */
void NNM_FN(attention_scaled)(nnm_idx m, nnm_idx n, real_t scale, const real_t *x, nnm_idx step, real_t *to)
{
    for (nnm_idx i = 0; i < m; ++i, x += step, to += n) {
        NNM_SIMD
        for (nnm_idx j = 0; j < n; ++j)
            to[j] = scale * x[j];
    }
}

/* A row of scores with its bias; masked ones are -inf. */
NNM_INLINE void NNM_FN(joined)(nnm_idx n, real_t *x, const real_t *bias, nnm_idx bj, const unsigned char *mask, nnm_idx mj)
{
    if (bias && bj == 1) {
        NNM_SIMD
        for (nnm_idx j = 0; j < n; ++j)
            x[j] += bias[j];
    } else if (bias) {
        for (nnm_idx j = 0; j < n; ++j)
            x[j] += bias[j * bj];
    }
    if (mask && mj == 1) {
        NNM_SIMD
        for (nnm_idx j = 0; j < n; ++j)
            x[j] = mask[j] ? x[j] : -(real_t)INFINITY;
    } else if (mask) {
        for (nnm_idx j = 0; j < n; ++j)
            x[j] = mask[j * mj] ? x[j] : -(real_t)INFINITY;
    }
}

/* m rows of n scores in place: e_ij, and their sums; `whole`: a_ij. Row i is that of query before + i, which, `causal`,
 * sees the columns up to that number. Rows that may see nothing become zeros, with sum 1. */
void NNM_FN(attention_weights)(nnm_idx m, nnm_idx n, nnm_idx before, int causal, int whole, real_t *s, nnm_idx ld,
                               const real_t *bias, nnm_idx bi, nnm_idx bj, const unsigned char *mask, nnm_idx mi, nnm_idx mj,
                               real_t *sums)
{
    const int some = causal || bias || mask;
    for (nnm_idx i = 0; i < m; ++i) {
        real_t *x = s + i * ld;
        const nnm_idx seen = causal && before + i + 1 < n ? before + i + 1 : n;
        if (bias || mask)
            NNM_FN(joined)(seen, x, bias ? bias + i * bi : NULL, bj, mask ? mask + i * mi : NULL, mj);
        real_t top = -(real_t)INFINITY;
        NNM_SIMD_MAX(top)
        for (nnm_idx j = 0; j < seen; ++j)
            top = x[j] > top ? x[j] : top;
        if (some && top == -(real_t)INFINITY) {
            int nan = 0; /* comparisons do not see it */
            for (nnm_idx j = 0; j < seen; ++j)
                nan |= x[j] != x[j];
            if (!nan) {
                memset(x, 0, (size_t)n * sizeof *x);
                sums[i] = NNM_C(1.0);
                continue;
            }
        }
        real_t sum = NNM_C(0.0);
        for (nnm_idx from = 0; from < seen; from += ATTENTION_PART) {
            const nnm_idx to = seen - from < ATTENTION_PART ? seen : from + ATTENTION_PART;
            real_t part = NNM_C(0.0);
            NNM_SIMD_SUM(part)
            for (nnm_idx j = from; j < to; ++j) {
                const real_t e = NNM_FN(math_exp_below)(x[j] - top);
                x[j] = e;
                part += e;
            }
            sum += part;
        }
        memset(x + seen, 0, (size_t)(n - seen) * sizeof *x);
        sums[i] = sum;
        if (whole) {
            const real_t each = NNM_C(1.0) / sum;
            NNM_SIMD
            for (nnm_idx j = 0; j < seen; ++j)
                x[j] *= each;
        }
    }
}

/* y (m, n): rows divided by their sums. */
void NNM_FN(attention_shares)(nnm_idx m, nnm_idx n, const real_t *sums, real_t *y)
{
    for (nnm_idx i = 0; i < m; ++i, y += n) {
        NNM_SIMD
        for (nnm_idx j = 0; j < n; ++j)
            y[j] /= sums[i];
    }
}

/* g (m, n) in place: a_ij (g_ij - sum_j a_ij g_ij). Not the cotangent times the value: where one weight is nearly 1, the
 * difference cancels to the last digit. */
void NNM_FN(attention_pull)(nnm_idx m, nnm_idx n, const real_t *a, real_t *g, nnm_idx ld)
{
    for (nnm_idx i = 0; i < m; ++i, a += ld, g += ld) {
        real_t sum = NNM_C(0.0);
        for (nnm_idx from = 0; from < n; from += ATTENTION_PART) {
            const nnm_idx to = n - from < ATTENTION_PART ? n : from + ATTENTION_PART;
            real_t part = NNM_C(0.0);
            NNM_SIMD_SUM(part)
            for (nnm_idx j = from; j < to; ++j)
                part += a[j] * g[j];
            sum += part;
        }
        NNM_SIMD
        for (nnm_idx j = 0; j < n; ++j)
            g[j] = a[j] * (g[j] - sum);
    }
}
