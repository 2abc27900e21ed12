#include "plan/move.h"

/* Products of sparse matrices with dense ones, and dense products at the places of a pattern. */

typedef struct {
    float re, im;
} pair_float;
typedef struct {
    double re, im;
} pair_double;

#define MULADD(y, a, b) ((y) += (a) * (b))
#define MULADD_PAIR(y, a, b) \
    ((y).re += (a).re * (b).re - (a).im * (b).im, (y).im += (a).re * (b).im + (a).im * (b).re)

#define ZERO_PAIR {0, 0}

/* --- spmm: row i of y is the sum of data[order[e]] x[columns[e], :] over e of the row, in their order.--------------
 * refs: data, x (m, p), starts (n + 1), columns, order (absent: as they are), y (n, p), contiguous, places of int64.
 * ints: type, n, p.
 */
#define SPMM(type, zero, INTO)                                                                             \
    static void spmm_##type(int64_t low, int64_t high, int64_t p, const void *entries, const void *from,   \
                            const int64_t *starts, const int64_t *columns, const int64_t *order, void *to) \
    {                                                                                                      \
        const type *data = entries;                                                                        \
        for (int64_t i = low; i < high; ++i) {                                                             \
            type *y = (type *)to + i * p;                                                                  \
            if (p == 1) {                                                                                  \
                type sum = zero;                                                                           \
                for (int64_t e = starts[i]; e < starts[i + 1]; ++e)                                        \
                    INTO(sum, data[order ? order[e] : e], ((const type *)from)[columns[e]]);               \
                *y = sum;                                                                                  \
                continue;                                                                                  \
            }                                                                                              \
            memset(y, 0, (size_t)p * sizeof(type));                                                        \
            for (int64_t e = starts[i]; e < starts[i + 1]; ++e) {                                          \
                const type a = data[order ? order[e] : e], *x = (const type *)from + columns[e] * p;       \
                for (int64_t j = 0; j < p; ++j)                                                            \
                    INTO(y[j], a, x[j]);                                                                   \
            }                                                                                              \
        }                                                                                                  \
    }

SPMM(float, 0, MULADD)
SPMM(double, 0, MULADD)
SPMM(pair_float, ZERO_PAIR, MULADD_PAIR)
SPMM(pair_double, ZERO_PAIR, MULADD_PAIR)

void nnm_exec_spmm(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t p = in->ints[2];
    const void *data = nnm_at(frame, in->refs[0]), *x = nnm_at(frame, in->refs[1]);
    const int64_t *starts = (const int64_t *)nnm_at(frame, in->refs[2]);
    const int64_t *columns = (const int64_t *)nnm_at(frame, in->refs[3]);
    const int64_t *order = in->nrefs == 6 ? (const int64_t *)nnm_at(frame, in->refs[4]) : NULL;
    void *y = nnm_at(frame, in->refs[in->nrefs - 1]);
    int64_t low, high;
    nnm_share(in->ints[1], 1, t, nt, &low, &high);
    switch (in->ints[0]) {
    case NNM_F4: spmm_float(low, high, p, data, x, starts, columns, order, y); break;
    case NNM_F8: spmm_double(low, high, p, data, x, starts, columns, order, y); break;
    case NNM_C8: spmm_pair_float(low, high, p, data, x, starts, columns, order, y); break;
    default: spmm_pair_double(low, high, p, data, x, starts, columns, order, y);
    }
}

/* --- sddmm: entry e of y is the product of row rows[e] of a and row columns[e] of b.--------------------------------
 * refs: a (m, p), b (n, p), rows, columns (int64), y (nnz,), contiguous.  ints: type, nnz, p. Four sums, then their
 * sum.
 */
#define SDDMM(type, zero, INTO, PLUS)                                                                   \
    static void sddmm_##type(int64_t low, int64_t high, int64_t p, const void *from, const void *with,  \
                             const int64_t *rows, const int64_t *columns, void *to)                     \
    {                                                                                                   \
        for (int64_t e = low; e < high; ++e) {                                                          \
            const type *a = (const type *)from + rows[e] * p, *b = (const type *)with + columns[e] * p; \
            type s[4] = {zero, zero, zero, zero};                                                       \
            int64_t j = 0;                                                                              \
            for (; j + 4 <= p; j += 4)                                                                  \
                for (int k = 0; k < 4; ++k)                                                             \
                    INTO(s[k], a[j + k], b[j + k]);                                                     \
            for (; j < p; ++j)                                                                          \
                INTO(s[0], a[j], b[j]);                                                                 \
            PLUS(s[0], s[1]);                                                                           \
            PLUS(s[2], s[3]);                                                                           \
            PLUS(s[0], s[2]);                                                                           \
            ((type *)to)[e] = s[0];                                                                     \
        }                                                                                               \
    }

#define PLUS_REAL(a, b) ((a) += (b))
#define PLUS_PAIR(a, b) ((a).re += (b).re, (a).im += (b).im)

SDDMM(float, 0, MULADD, PLUS_REAL)
SDDMM(double, 0, MULADD, PLUS_REAL)
SDDMM(pair_float, ZERO_PAIR, MULADD_PAIR, PLUS_PAIR)
SDDMM(pair_double, ZERO_PAIR, MULADD_PAIR, PLUS_PAIR)

void nnm_exec_sddmm(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t p = in->ints[2];
    const void *a = nnm_at(frame, in->refs[0]), *b = nnm_at(frame, in->refs[1]);
    const int64_t *rows = (const int64_t *)nnm_at(frame, in->refs[2]);
    const int64_t *columns = (const int64_t *)nnm_at(frame, in->refs[3]);
    void *y = nnm_at(frame, in->refs[4]);
    int64_t low, high;
    nnm_share(in->ints[1], 16, t, nt, &low, &high);
    switch (in->ints[0]) {
    case NNM_F4: sddmm_float(low, high, p, a, b, rows, columns, y); break;
    case NNM_F8: sddmm_double(low, high, p, a, b, rows, columns, y); break;
    case NNM_C8: sddmm_pair_float(low, high, p, a, b, rows, columns, y); break;
    default: sddmm_pair_double(low, high, p, a, b, rows, columns, y);
    }
}
