#include "plan/move.h"

/* What windows add to the entries of an array (see autodiff/ops/windows.py).
 *
 * refs: v (K, N, *counts, C) or, with a mask, (N, *counts, C), the mask (K, N, *counts, C) of bytes, x (N, *size,
 * C), all contiguous.  ints: type, masked, K, N, axes, C, then size, window, stride, dilation, counts of each axis.
 * Each entry of x is the sum over the windows in the order of their offsets k. Threads share N and the first axis.
 */
typedef struct {
    const int64_t *size, *window, *stride, *dilation, *counts;
    int64_t axes, channels;
} geometry;

typedef struct {
    float re, im;
} pair_float;
typedef struct {
    double re, im;
} pair_double;

#define PLUS(a, b) ((a) += (b))
#define PLUS_PAIR(a, b) ((a).re += (b).re, (a).im += (b).im)
#define OR(a, b) ((a) |= (b))
#define ONE(type, m, a, b) ((m) ? (a) : (b))
#define PAIR(type, m, a, b) ((type){(m) ? (a).re : (b).re, (m) ? (a).im : (b).im})
#define NOTHING {0, 0}

#define ADD(name, type, nothing, CHOICE, INTO)                                                                       \
    static void add_##name(const geometry *q, int64_t axis, const int64_t *k, const void *from, const uint8_t *mask, \
                           void *to)                                                                                 \
    {                                                                                                                \
        const type *v = from;                                                                                        \
        type *x = to;                                                                                                \
        if (axis == q->axes) {                                                                                       \
            if (mask) {                                                                                              \
                NNM_SIMD                                                                                             \
                for (int64_t c = 0; c < q->channels; ++c) {                                                          \
                    const type chosen = v[c], none = nothing;                                                        \
                    INTO(x[c], CHOICE(type, mask[c], chosen, none));                                                 \
                }                                                                                                    \
            } else {                                                                                                 \
                NNM_SIMD                                                                                             \
                for (int64_t c = 0; c < q->channels; ++c)                                                            \
                    INTO(x[c], v[c]);                                                                                \
            }                                                                                                        \
            return;                                                                                                  \
        }                                                                                                            \
        int64_t block = q->channels, line = q->channels;                                                             \
        for (int64_t a = axis + 1; a < q->axes; ++a) {                                                               \
            block *= q->counts[a];                                                                                   \
            line *= q->size[a];                                                                                      \
        }                                                                                                            \
        for (int64_t t = 0; t < q->counts[axis]; ++t)                                                                \
            add_##name(q, axis + 1, k, v + t * block, mask ? mask + t * block : 0,                                   \
                       x + (t * q->stride[axis] + k[axis] * q->dilation[axis]) * line);                              \
    }

ADD(f4, float, 0, ONE, PLUS)
ADD(f8, double, 0, ONE, PLUS)
ADD(c8, pair_float, NOTHING, PAIR, PLUS_PAIR)
ADD(c16, pair_double, NOTHING, PAIR, PLUS_PAIR)
ADD(u1, uint8_t, 0, ONE, PLUS)
ADD(u2, uint16_t, 0, ONE, PLUS)
ADD(u4, uint32_t, 0, ONE, PLUS)
ADD(u8, uint64_t, 0, ONE, PLUS)
ADD(truth, uint8_t, 0, ONE, OR)

typedef void (*add_f)(const geometry *, int64_t, const int64_t *, const void *, const uint8_t *, void *);

static add_f add_of(int64_t type, int64_t *itemsize)
{
    switch (type) {
    case NNM_F4: *itemsize = 4; return add_f4;
    case NNM_F8: *itemsize = 8; return add_f8;
    case NNM_C8: *itemsize = 8; return add_c8;
    case NNM_C16: *itemsize = 16; return add_c16;
    case NNM_I1: case NNM_U1: *itemsize = 1; return add_u1;
    case NNM_I2: case NNM_U2: *itemsize = 2; return add_u2;
    case NNM_I4: case NNM_U4: *itemsize = 4; return add_u4;
    case NNM_I8: case NNM_U8: *itemsize = 8; return add_u8;
    default: *itemsize = 1; return add_truth;
    }
}

void nnm_exec_add_windows(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t *ints = in->ints;
    const int64_t masked = ints[1], K = ints[2], N = ints[3], axes = ints[4];
    const int64_t *g = ints + 6;
    const geometry q = {g, g + axes, g + 2 * axes, g + 3 * axes, g + 4 * axes, axes, ints[5]};
    const char *v = nnm_at(frame, in->refs[0]);
    const uint8_t *mask = masked ? (const uint8_t *)nnm_at(frame, in->refs[1]) : NULL;
    char *x = nnm_at(frame, in->refs[in->nrefs - 1]);
    int64_t itemsize, block = q.channels, line = q.channels, low, high, k[NNM_MAX_AXES];
    const add_f add = add_of(ints[0], &itemsize);
    for (int64_t a = 1; a < axes; ++a) {
        block *= q.counts[a];
        line *= q.size[a];
    }
    const int64_t each = q.counts[0] * block; /* entries of one n of v */
    nnm_share(N * q.size[0], 1, t, nt, &low, &high);
    for (int64_t unit = low; unit < high; ++unit) {
        const int64_t n = unit / q.size[0], place = unit % q.size[0];
        char *to = x + unit * line * itemsize;
        memset(to, 0, (size_t)(line * itemsize));
        if (block == 0)
            continue;
        for (int64_t i = 0; i < K; ++i) {
            int64_t rest = i;
            for (int64_t a = axes; a-- > 0; rest /= q.window[a])
                k[a] = rest % q.window[a];
            const int64_t ahead = place - k[0] * q.dilation[0];
            if (ahead < 0 || ahead % q.stride[0] || ahead / q.stride[0] >= q.counts[0])
                continue;
            const int64_t at = n * each + ahead / q.stride[0] * block, far = i * N * each;
            add(&q, 1, k, v + (at + (masked ? 0 : far)) * itemsize, mask ? mask + far + at : NULL, to);
        }
    }
}

/* --- winners: which entries of the windows equal y, a NaN being equal to a NaN -------------------------------------
 * refs: x (N, *size, C), y (N, *counts, C), m (K, N, *counts, C) of bytes, contiguous; ints as above, `masked`
 * unused. Threads share K, N and the first axis.
 */
#define WIN(name, type)                                                                                               \
    static void win_##name(const geometry *q, int64_t axis, const int64_t *k, const void *from, const void *top,      \
                           uint8_t *m)                                                                                \
    {                                                                                                                 \
        const type *x = from, *y = top;                                                                               \
        if (axis == q->axes) {                                                                                        \
            NNM_SIMD                                                                                                  \
            for (int64_t c = 0; c < q->channels; ++c)                                                                 \
                m[c] = (uint8_t)((x[c] == y[c]) | ((x[c] != x[c]) & (y[c] != y[c])));                                 \
            return;                                                                                                   \
        }                                                                                                             \
        int64_t block = q->channels, line = q->channels;                                                              \
        for (int64_t a = axis + 1; a < q->axes; ++a) {                                                                \
            block *= q->counts[a];                                                                                    \
            line *= q->size[a];                                                                                       \
        }                                                                                                             \
        for (int64_t t = 0; t < q->counts[axis]; ++t)                                                                 \
            win_##name(q, axis + 1, k, x + (t * q->stride[axis] + k[axis] * q->dilation[axis]) * line, y + t * block, \
                       m + t * block);                                                                                \
    }

WIN(f4, float)
WIN(f8, double)
WIN(u1, uint8_t)
WIN(u2, uint16_t)
WIN(u4, uint32_t)
WIN(u8, uint64_t)

typedef void (*win_f)(const geometry *, int64_t, const int64_t *, const void *, const void *, uint8_t *);

static win_f win_of(int64_t type, int64_t itemsize)
{
    if (type == NNM_F4 || type == NNM_F8)
        return type == NNM_F4 ? win_f4 : win_f8;
    return itemsize == 1 ? win_u1 : itemsize == 2 ? win_u2 : itemsize == 4 ? win_u4 : win_u8;
}

void nnm_exec_winners(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t *ints = in->ints, *g = ints + 6;
    const int64_t K = ints[2], N = ints[3], axes = ints[4];
    const geometry q = {g, g + axes, g + 2 * axes, g + 3 * axes, g + 4 * axes, axes, ints[5]};
    const char *x = nnm_at(frame, in->refs[0]), *y = nnm_at(frame, in->refs[1]);
    uint8_t *m = (uint8_t *)nnm_at(frame, in->refs[2]);
    int64_t itemsize, block = q.channels, line = q.channels, low, high, k[NNM_MAX_AXES];
    add_of(ints[0], &itemsize);
    const win_f win = win_of(ints[0], itemsize);
    for (int64_t a = 1; a < axes; ++a) {
        block *= q.counts[a];
        line *= q.size[a];
    }
    nnm_share(K * N * q.counts[0], 1, t, nt, &low, &high);
    for (int64_t unit = low; unit < high; ++unit) {
        const int64_t i = unit / (N * q.counts[0]), of = unit % (N * q.counts[0]), n = of / q.counts[0];
        int64_t rest = i;
        for (int64_t a = axes; a-- > 0; rest /= q.window[a])
            k[a] = rest % q.window[a];
        const int64_t place = of % q.counts[0] * q.stride[0] + k[0] * q.dilation[0];
        win(&q, 1, k, x + (n * q.size[0] + place) * line * itemsize, y + of * block * itemsize, m + unit * block);
    }
}

/* --- parts: numbers divided by how many entries of their windows are marked, where there are any -------------------
 * refs: g (E,), the mask (K, E) of bytes, y (E,), contiguous.  ints: type, K, E.
 */
enum { BLOCK = 1024 };

#define PARTS(type)                                                                             \
    static void parts_##type(int64_t K, int64_t E, int64_t low, int64_t high, const void *from, \
                             const uint8_t *mask, void *to)                                     \
    {                                                                                           \
        int32_t count[BLOCK];                                                                   \
        for (int64_t e = low; e < high; e += BLOCK) {                                           \
            const int64_t n = high - e < BLOCK ? high - e : BLOCK;                              \
            const type *g = (const type *)from + e;                                             \
            type *y = (type *)to + e;                                                           \
            memset(count, 0, sizeof count);                                                     \
            for (int64_t k = 0; k < K; ++k)                                                     \
                for (int64_t j = 0; j < n; ++j)                                                 \
                    count[j] += mask[k * E + e + j] != 0;                                       \
            for (int64_t j = 0; j < n; ++j)                                                     \
                y[j] = g[j] / (type)(count[j] > 1 ? count[j] : 1);                              \
        }                                                                                       \
    }

PARTS(float)
PARTS(double)

void nnm_exec_parts(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t K = in->ints[1], E = in->ints[2];
    const void *g = nnm_at(frame, in->refs[0]);
    const uint8_t *mask = (const uint8_t *)nnm_at(frame, in->refs[1]);
    void *y = nnm_at(frame, in->refs[2]);
    int64_t low, high;
    nnm_share(E, BLOCK, t, nt, &low, &high);
    if (in->ints[0] == NNM_F4)
        parts_float(K, E, low, high, g, mask, y);
    else
        parts_double(K, E, low, high, g, mask, y);
}
