#include "plan/move.h"

/* Entries at the places that an array of integers says. Indices are 64-bit, and checked where they are read. */

/* --- take ----------------------------------------------------------------------------------------------------------
 * refs: x, indices, y.  ints: item size, length of the axis, its stride, indices, leading axes, trailing axes, then
 * length and stride of each of them in x. Indices and y are contiguous, y has the leading axes, the indices, the
 * trailing axes.
 */
static void block(const int64_t *axis, int64_t axes, int64_t itemsize, nnm_row row, const char *x, char *y)
{
    if (axes == 0) {
        memcpy(y, x, (size_t)itemsize);
    } else if (axes == 1) {
        row(axis[0], x, axis[1], y, itemsize);
    } else {
        int64_t size = itemsize;
        for (int64_t a = 1; a < axes; ++a)
            size *= axis[2 * a];
        for (int64_t k = 0; k < axis[0]; ++k)
            block(axis + 2, axes - 1, itemsize, row, x + k * axis[1], y + k * size);
    }
}

#define TAKE(type)                                                                                        \
    static void take_##type(int64_t k, const int64_t *i, int64_t n, const char *x, int64_t sx, void *out, \
                            nnm_frame *f)                                                                 \
    {                                                                                                     \
        type *y = out;                                                                                    \
        for (int64_t j = 0; j < k; ++j)                                                                   \
            y[j] = *(const type *)(x + nnm_place(i[j], n, f) * sx);                                       \
    }

typedef struct {
    uint64_t re, im;
} pair;

TAKE(uint8_t)
TAKE(uint16_t)
TAKE(uint32_t)
TAKE(uint64_t)
TAKE(pair)

typedef void (*take_f)(int64_t, const int64_t *, int64_t, const char *, int64_t, void *, nnm_frame *);

static take_f take_of(int64_t itemsize)
{
    switch (itemsize) {
    case 1: return take_uint8_t;
    case 2: return take_uint16_t;
    case 4: return take_uint32_t;
    case 8: return take_uint64_t;
    default: return take_pair;
    }
}

void nnm_exec_take(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t itemsize = in->ints[0], n = in->ints[1], sx = in->ints[2], k = in->ints[3];
    const int64_t leads = in->ints[4], trails = in->ints[5];
    const int64_t *lead = in->ints + 6, *trail = lead + 2 * leads;
    const char *x = nnm_at(frame, in->refs[0]);
    const int64_t *i = (const int64_t *)nnm_at(frame, in->refs[1]);
    char *y = nnm_at(frame, in->refs[2]);
    int64_t rows = 1, size = itemsize, low, high;
    for (int64_t a = 0; a < leads; ++a)
        rows *= lead[2 * a];
    for (int64_t a = 0; a < trails; ++a)
        size *= trail[2 * a];
    const int whole = trails == 0 || (trails == 1 && trail[1] == itemsize);
    const nnm_row row = nnm_row_of(itemsize);
    const take_f take = take_of(itemsize);
    nnm_share(rows * k, size < 64 ? 64 : 1, t, nt, &low, &high);
    while (low < high) {
        const int64_t l = low / k, j = low % k, stop = k - j < high - low ? k - j : high - low;
        const char *from = x;
        int64_t rest = l;
        for (int64_t a = leads; a-- > 0; rest /= lead[2 * a])
            from += rest % lead[2 * a] * lead[2 * a + 1];
        char *to = y + low * size;
        if (trails == 0)
            take(stop, i + j, n, from, sx, to, frame);
        else if (whole)
            for (int64_t s = 0; s < stop; ++s)
                memcpy(to + s * size, from + nnm_place(i[j + s], n, frame) * sx, (size_t)size);
        else
            for (int64_t s = 0; s < stop; ++s)
                block(trail, trails, itemsize, row, from + nnm_place(i[j + s], n, frame) * sx, to + s * size);
        low += stop;
    }
}

/* --- take_along: an index for each entry ---------------------------------------------------------------------
 * refs: x, indices, y.  ints: item size, length of the axis, its stride, axes, then for each axis (outermost first)
 * length, stride of the indices, stride of x, which is 0 along the axis that is indexed. y is contiguous.
 */
#define ALONG(type)                                                                                                  \
    static void along_##type(int64_t k, const char *i, int64_t si, int64_t n, const char *x, int64_t sx, int64_t sn, \
                             void *out, nnm_frame *f)                                                                \
    {                                                                                                                \
        type *y = out;                                                                                               \
        for (int64_t j = 0; j < k; ++j)                                                                              \
            y[j] = *(const type *)(x + j * sx + nnm_place(*(const int64_t *)(i + j * si), n, f) * sn);               \
    }

ALONG(uint8_t)
ALONG(uint16_t)
ALONG(uint32_t)
ALONG(uint64_t)
ALONG(pair)

typedef void (*along_f)(int64_t, const char *, int64_t, int64_t, const char *, int64_t, int64_t, void *, nnm_frame *);

static along_f along_of(int64_t itemsize)
{
    switch (itemsize) {
    case 1: return along_uint8_t;
    case 2: return along_uint16_t;
    case 4: return along_uint32_t;
    case 8: return along_uint64_t;
    default: return along_pair;
    }
}

void nnm_exec_take_along(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t itemsize = in->ints[0], n = in->ints[1], sn = in->ints[2], axes = in->ints[3];
    const int64_t *axis = in->ints + 4;
    const char *x = nnm_at(frame, in->refs[0]), *i = nnm_at(frame, in->refs[1]);
    char *y = nnm_at(frame, in->refs[2]);
    const along_f along = along_of(itemsize);
    const int64_t none[3] = {1, 0, 0}, *last = axes ? axis + 3 * (axes - 1) : none;
    int64_t rows = 1, low, high;
    for (int64_t a = 0; a + 1 < axes; ++a)
        rows *= axis[3 * a];
    nnm_share(rows * last[0], rows == 1 ? 64 : last[0], t, nt, &low, &high);
    while (low < high) {
        const int64_t j = low % last[0], stop = last[0] - j < high - low ? last[0] - j : high - low;
        const char *xs = x + j * last[2], *is = i + j * last[1];
        int64_t rest = low / last[0];
        for (int64_t a = axes - 1; a-- > 0; rest /= axis[3 * a]) {
            const int64_t at = rest % axis[3 * a];
            is += at * axis[3 * a + 1];
            xs += at * axis[3 * a + 2];
        }
        along(stop, is, last[1], n, xs, last[2], sn, y + low * itemsize, frame);
        low += stop;
    }
}

/* --- scatter_add: sums of the values that go to the same place, in their order -------------------------------------
 * refs: g, indices, y.  ints: type, length n of the axis, L, k, T, whether there is an index for each entry. g is
 * (L, k, T), y is (L, n, T), the indices are (k,) or (L, k, T), all contiguous. Threads share columns, or L, or the
 * places.
 */
typedef struct {
    int64_t n, k, width, l0, l1, n0, n1, t0, t1;
    int each;
} part;

#define PLUS(a, b) ((a) += (b))
#define PLUS_PAIR(a, b) ((a).re += (b).re, (a).im += (b).im)

#define SCATTER(type, ADD)                                                                                \
    static void scatter_##type(const part *p, const void *from, const int64_t *i, void *to, nnm_frame *f) \
    {                                                                                                     \
        for (int64_t l = p->l0; l < p->l1; ++l) {                                                         \
            type *y = (type *)to + l * p->n * p->width;                                                   \
            if (p->t1 - p->t0 == p->width)                                                                \
                memset(y + p->n0 * p->width, 0, (size_t)((p->n1 - p->n0) * p->width) * sizeof(type));     \
            else                                                                                          \
                for (int64_t r = p->n0; r < p->n1; ++r)                                                   \
                    memset(y + r * p->width + p->t0, 0, (size_t)(p->t1 - p->t0) * sizeof(type));          \
            if (p->width == 1) {                                                                          \
                const type *g = (const type *)from + l * p->k;                                            \
                const int64_t *at = p->each ? i + l * p->k : i;                                           \
                for (int64_t j = 0; j < p->k; ++j) {                                                      \
                    const int64_t r = nnm_place(at[j], p->n, f);                                          \
                    if (r >= p->n0 && r < p->n1)                                                          \
                        ADD(y[r], g[j]);                                                                  \
                }                                                                                         \
                continue;                                                                                 \
            }                                                                                             \
            for (int64_t j = 0; j < p->k; ++j) {                                                          \
                const type *g = (const type *)from + (l * p->k + j) * p->width;                           \
                if (p->each) {                                                                            \
                    const int64_t *at = i + (l * p->k + j) * p->width;                                    \
                    for (int64_t t = p->t0; t < p->t1; ++t) {                                             \
                        const int64_t r = nnm_place(at[t], p->n, f);                                      \
                        if (r >= p->n0 && r < p->n1)                                                      \
                            ADD(y[r * p->width + t], g[t]);                                               \
                    }                                                                                     \
                } else {                                                                                  \
                    const int64_t r = nnm_place(i[j], p->n, f);                                           \
                    type *row = y + r * p->width;                                                         \
                    if (r >= p->n0 && r < p->n1)                                                          \
                        for (int64_t t = p->t0; t < p->t1; ++t)                                           \
                            ADD(row[t], g[t]);                                                            \
                }                                                                                         \
            }                                                                                             \
        }                                                                                                 \
    }

typedef struct {
    float re, im;
} pair_float;
typedef struct {
    double re, im;
} pair_double;

SCATTER(float, PLUS)
SCATTER(double, PLUS)
SCATTER(pair_float, PLUS_PAIR)
SCATTER(pair_double, PLUS_PAIR)
SCATTER(uint8_t, PLUS)
SCATTER(uint16_t, PLUS)
SCATTER(uint32_t, PLUS)
SCATTER(uint64_t, PLUS)

void nnm_exec_scatter_add(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t L = in->ints[2];
    part p = {.n = in->ints[1], .k = in->ints[3], .width = in->ints[4], .each = (int)in->ints[5], .l1 = L};
    p.n1 = p.n;
    p.t1 = p.width;
    if (p.width >= 16 * nt)
        nnm_share(p.width, 16, t, nt, &p.t0, &p.t1);
    else if (L >= nt)
        nnm_share(L, 1, t, nt, &p.l0, &p.l1);
    else
        nnm_share(p.n, 1, t, nt, &p.n0, &p.n1);
    const void *g = nnm_at(frame, in->refs[0]);
    const int64_t *i = (const int64_t *)nnm_at(frame, in->refs[1]);
    void *y = nnm_at(frame, in->refs[2]);
    switch (in->ints[0]) {
    case NNM_F4: scatter_float(&p, g, i, y, frame); break;
    case NNM_F8: scatter_double(&p, g, i, y, frame); break;
    case NNM_C8: scatter_pair_float(&p, g, i, y, frame); break;
    case NNM_C16: scatter_pair_double(&p, g, i, y, frame); break;
    case NNM_I1: case NNM_U1: scatter_uint8_t(&p, g, i, y, frame); break;
    case NNM_I2: case NNM_U2: scatter_uint16_t(&p, g, i, y, frame); break;
    case NNM_I4: case NNM_U4: scatter_uint32_t(&p, g, i, y, frame); break;
    default: scatter_uint64_t(&p, g, i, y, frame);
    }
}

/* --- last_writer: for each place the last of the indices that says it, or -1 ----------------------------------------
 * refs: indices, y.  ints: length of y, indices. Alone.
 */
void nnm_exec_last_writer(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t n = in->ints[0], k = in->ints[1];
    const int64_t *i = (const int64_t *)nnm_at(frame, in->refs[0]);
    int64_t *y = (int64_t *)nnm_at(frame, in->refs[1]);
    for (int64_t j = 0; j < n; ++j)
        y[j] = -1;
    for (int64_t j = 0; j < k; ++j)
        y[nnm_place(i[j], n, frame)] = j;
}
