#include "plan/move.h"

/* Along an axis, entry after entry: sums, products, recurrences, the place of an extreme, the product of the others. */

typedef struct {
    float re, im;
} pair_float;
typedef struct {
    double re, im;
} pair_double;

#define ADD(type, a, b) ((a) + (b))
#define MUL(type, a, b) ((a) * (b))
#define ADD_PAIR(type, a, b) ((type){(a).re + (b).re, (a).im + (b).im})
#define MUL_PAIR(type, a, b) ((type){(a).re * (b).re - (a).im * (b).im, (a).re * (b).im + (a).im * (b).re})

enum { SUM, PRODUCT, RECURRENCE };

/* --- accumulate ----------------------------------------------------------------------------------------------------
 * refs: x, (the factors c,) y, all contiguous (L, n, T).  ints: type, what, L, n, T, backwards. A recurrence is y[k]
 * = x[k] + c[k] y[k - 1] or, backwards, y[k] = x[k] + c[k + 1] y[k + 1]. Threads share columns or L.
 */
#define SCAN(type, PLUS, TIMES)                                                                                 \
    static void scan_##type(int what, int64_t l0, int64_t l1, int64_t n, int64_t width, int64_t t0, int64_t t1, \
                            int back, const void *from, const void *factors, void *to)                          \
    {                                                                                                           \
        const int64_t step = back ? -width : width;                                                             \
        for (int64_t l = l0; l < l1; ++l) {                                                                     \
            const int64_t first = (l * n + (back ? n - 1 : 0)) * width;                                         \
            const type *x = (const type *)from + first, *c = factors ? (const type *)factors + first : 0;       \
            type *y = (type *)to + first;                                                                       \
            if (back && c)                                                                                      \
                c += width;                                                                                     \
            if (width == 1) {                                                                                   \
                type last = x[0];                                                                               \
                y[0] = last;                                                                                    \
                for (int64_t k = 1, at = step; k < n; ++k, at += step)                                          \
                    y[at] = last = what == SUM       ? PLUS(type, last, x[at])                                  \
                                   : what == PRODUCT ? TIMES(type, last, x[at])                                 \
                                                     : PLUS(type, x[at], TIMES(type, c[at], last));             \
                continue;                                                                                       \
            }                                                                                                   \
            for (int64_t t = t0; t < t1; ++t)                                                                   \
                y[t] = x[t];                                                                                    \
            for (int64_t k = 1; k < n; ++k) {                                                                   \
                const type *last = y;                                                                           \
                x += step;                                                                                      \
                y += step;                                                                                      \
                if (c)                                                                                          \
                    c += step;                                                                                  \
                switch (what) {                                                                                 \
                case SUM:                                                                                       \
                    for (int64_t t = t0; t < t1; ++t)                                                           \
                        y[t] = PLUS(type, last[t], x[t]);                                                       \
                    break;                                                                                      \
                case PRODUCT:                                                                                   \
                    for (int64_t t = t0; t < t1; ++t)                                                           \
                        y[t] = TIMES(type, last[t], x[t]);                                                      \
                    break;                                                                                      \
                default:                                                                                        \
                    for (int64_t t = t0; t < t1; ++t)                                                           \
                        y[t] = PLUS(type, x[t], TIMES(type, c[t], last[t]));                                    \
                }                                                                                               \
            }                                                                                                   \
        }                                                                                                       \
    }

SCAN(float, ADD, MUL)
SCAN(double, ADD, MUL)
SCAN(pair_float, ADD_PAIR, MUL_PAIR)
SCAN(pair_double, ADD_PAIR, MUL_PAIR)
SCAN(uint64_t, ADD, MUL)

void nnm_exec_accumulate(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int what = (int)in->ints[1], back = (int)in->ints[5];
    const int64_t L = in->ints[2], n = in->ints[3], width = in->ints[4];
    const void *x = nnm_at(frame, in->refs[0]), *c = what == RECURRENCE ? nnm_at(frame, in->refs[1]) : NULL;
    void *y = nnm_at(frame, in->refs[in->nrefs - 1]);
    int64_t l0 = 0, l1 = L, t0 = 0, t1 = width;
    if (width >= 16 * nt)
        nnm_share(width, 16, t, nt, &t0, &t1);
    else
        nnm_share(L, 1, t, nt, &l0, &l1);
    switch (in->ints[0]) {
    case NNM_F4: scan_float(what, l0, l1, n, width, t0, t1, back, x, c, y); break;
    case NNM_F8: scan_double(what, l0, l1, n, width, t0, t1, back, x, c, y); break;
    case NNM_C8: scan_pair_float(what, l0, l1, n, width, t0, t1, back, x, c, y); break;
    case NNM_C16: scan_pair_double(what, l0, l1, n, width, t0, t1, back, x, c, y); break;
    default: scan_uint64_t(what, l0, l1, n, width, t0, t1, back, x, c, y);
    }
}

/* --- others ------------------------------------------------------------------------------------------------------
 * For each entry of a row the product of the others. refs: x, y, contiguous (L, n), n > 0.  ints: type, L, n.
 * Where a partial product overflowed though the whole one does not, it is the quotient.
 */
#define OTHERS(type, REPAIR)                                                   \
    static void others_##type(int64_t rows, int64_t n, const type *x, type *y) \
    {                                                                          \
        for (int64_t l = 0; l < rows; ++l, x += n, y += n) {                   \
            type p = 1;                                                        \
            for (int64_t k = 0; k < n; ++k) {                                  \
                y[k] = p;                                                      \
                p *= x[k];                                                     \
            }                                                                  \
            type q = 1;                                                        \
            for (int64_t k = n; k-- > 0; q *= x[k])                            \
                y[k] *= q;                                                     \
            REPAIR                                                             \
        }                                                                      \
    }

#define QUOTIENT                        \
    if (isfinite(p) && p != 0)          \
        for (int64_t k = 0; k < n; ++k) \
            if (!isfinite(y[k]))        \
                y[k] = p / x[k];

OTHERS(float, QUOTIENT)
OTHERS(double, QUOTIENT)
OTHERS(uint64_t, )

void nnm_exec_others(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t n = in->ints[2];
    int64_t low, high;
    nnm_share(in->ints[1], 1, t, nt, &low, &high);
    const char *x = nnm_at(frame, in->refs[0]);
    char *y = nnm_at(frame, in->refs[1]);
    if (in->ints[0] == NNM_F4)
        others_float(high - low, n, (const float *)x + low * n, (float *)y + low * n);
    else if (in->ints[0] == NNM_F8)
        others_double(high - low, n, (const double *)x + low * n, (double *)y + low * n);
    else
        others_uint64_t(high - low, n, (const uint64_t *)x + low * n, (uint64_t *)y + low * n);
}

/* --- extreme: the first place of the largest or smallest entry; the first NaN, if there is one ----------------------
 * refs: x contiguous (L, n, T), y (L, T) of int64; n > 0.  ints: type, smallest, L, n, T.
 */
enum { COLUMNS = 64, AT_ONCE = 128 };

#define IS_NAN(v) ((v) != (v))
/* Of a row: the first block with a better entry than all before, then the first such entry of it. */
#define FIRST(type)                                                          \
    static int64_t first_##type(int least, int64_t n, const type *x)         \
    {                                                                        \
        type best = x[0];                                                    \
        int64_t at = 0;                                                      \
        for (int64_t low = 0; low < n && !IS_NAN(best); low += AT_ONCE) {    \
            const int64_t high = n - low < AT_ONCE ? n : low + AT_ONCE;      \
            type top = best;                                                 \
            int nan = 0;                                                     \
            if (least) {                                                     \
                NNM_PRAGMA(omp simd reduction(min : top) reduction(| : nan)) \
                for (int64_t k = low; k < high; ++k) {                       \
                    top = x[k] < top ? x[k] : top;                           \
                    nan |= IS_NAN(x[k]);                                     \
                }                                                            \
            } else {                                                         \
                NNM_PRAGMA(omp simd reduction(max : top) reduction(| : nan)) \
                for (int64_t k = low; k < high; ++k) {                       \
                    top = x[k] > top ? x[k] : top;                           \
                    nan |= IS_NAN(x[k]);                                     \
                }                                                            \
            }                                                                \
            if (!nan && top == best)                                         \
                continue;                                                    \
            int64_t k = low;                                                 \
            while (nan ? !IS_NAN(x[k]) : x[k] != top)                        \
                ++k;                                                         \
            at = k;                                                          \
            best = x[k];                                                     \
        }                                                                    \
        return at;                                                           \
    }

FIRST(float)
FIRST(double)
FIRST(int8_t)
FIRST(int16_t)
FIRST(int32_t)
FIRST(int64_t)
FIRST(uint8_t)
FIRST(uint16_t)
FIRST(uint32_t)
FIRST(uint64_t)

#define EXTREME(type)                                                                                               \
    static void extreme_##type(int least, int64_t l0, int64_t l1, int64_t n, int64_t width, int64_t t0, int64_t t1, \
                               const void *from, int64_t *to)                                                       \
    {                                                                                                               \
        type best[COLUMNS];                                                                                         \
        if (width == 1) {                                                                                           \
            for (int64_t l = l0; l < l1; ++l)                                                                       \
                to[l] = first_##type(least, n, (const type *)from + l * n);                                         \
            return;                                                                                                 \
        }                                                                                                           \
        for (int64_t l = l0; l < l1; ++l)                                                                           \
            for (int64_t t = t0; t < t1; t += COLUMNS) {                                                            \
                const int64_t m = t1 - t < COLUMNS ? t1 - t : COLUMNS;                                              \
                const type *x = (const type *)from + l * n * width + t;                                             \
                int64_t *y = to + l * width + t;                                                                    \
                for (int64_t j = 0; j < m; ++j) {                                                                   \
                    best[j] = x[j];                                                                                 \
                    y[j] = 0;                                                                                       \
                }                                                                                                   \
                for (int64_t k = 1; k < n; ++k) {                                                                   \
                    x += width;                                                                                     \
                    for (int64_t j = 0; j < m; ++j) {                                                               \
                        const type v = x[j], b = best[j];                                                           \
                        const int better = ((least ? v < b : v > b) | IS_NAN(v)) & !IS_NAN(b);                      \
                        best[j] = better ? v : b;                                                                   \
                        y[j] = better ? k : y[j];                                                                   \
                    }                                                                                               \
                }                                                                                                   \
            }                                                                                                       \
    }

EXTREME(float)
EXTREME(double)
EXTREME(int8_t)
EXTREME(int16_t)
EXTREME(int32_t)
EXTREME(int64_t)
EXTREME(uint8_t)
EXTREME(uint16_t)
EXTREME(uint32_t)
EXTREME(uint64_t)

void nnm_exec_extreme(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int least = (int)in->ints[1];
    const int64_t L = in->ints[2], n = in->ints[3], width = in->ints[4];
    const void *x = nnm_at(frame, in->refs[0]);
    int64_t *y = (int64_t *)nnm_at(frame, in->refs[1]);
    int64_t l0 = 0, l1 = L, t0 = 0, t1 = width;
    if (width >= 16 * nt)
        nnm_share(width, 16, t, nt, &t0, &t1);
    else
        nnm_share(L, 1, t, nt, &l0, &l1);
    switch (in->ints[0]) {
    case NNM_F4: extreme_float(least, l0, l1, n, width, t0, t1, x, y); break;
    case NNM_F8: extreme_double(least, l0, l1, n, width, t0, t1, x, y); break;
    case NNM_I1: extreme_int8_t(least, l0, l1, n, width, t0, t1, x, y); break;
    case NNM_I2: extreme_int16_t(least, l0, l1, n, width, t0, t1, x, y); break;
    case NNM_I4: extreme_int32_t(least, l0, l1, n, width, t0, t1, x, y); break;
    case NNM_I8: extreme_int64_t(least, l0, l1, n, width, t0, t1, x, y); break;
    case NNM_U2: extreme_uint16_t(least, l0, l1, n, width, t0, t1, x, y); break;
    case NNM_U4: extreme_uint32_t(least, l0, l1, n, width, t0, t1, x, y); break;
    case NNM_U8: extreme_uint64_t(least, l0, l1, n, width, t0, t1, x, y); break;
    default: extreme_uint8_t(least, l0, l1, n, width, t0, t1, x, y);
    }
}
