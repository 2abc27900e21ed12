/* Convolutions of layers, channels last: x (n, *s, c), w (*k, c / groups, o), y (n, *t, o).
 *
 *   y[n, t, o] = sum over k, c of x[n, t * stride + k * dilation - before, c] w[k, c, o], zeros around x
 *
 * ints of all kinds: type, groups, n, channels of x a group, of y a group, rows of a block, axes, then for each
 * axis: length of x, of y, of w, stride, zeros before, dilation.
 *
 * conv         refs x, w, y, scratch. The windows of a block of positions are gathered into a matrix of the thread's
 *              scratch, rows of k * c numbers, and multiplied. Threads share the positions.
 * conv_kernel  refs x, y's cotangent, w's cotangent, scratch. The same matrix, transposed, times the cotangents of its
 *              positions, added up. Threads share the offsets k: each gathers its columns alone.
 * conv_input   refs y's cotangent, w as (*k, o, c / groups), x's cotangent. For each row of positions and each offset
 *              one product, added where its windows lie in x. Threads share the examples, or the channels of one.
 * conv_input_few  refs y's cotangent, w, x's cotangent, scratch: the same for few channels.
 *
 * Each sum has one order, whatever the number of threads.
 */
#include "plan/gemm.h"
#include "plan/nnm_plan.h"

enum { MAX_SPACE = 8 };

typedef struct {
    int64_t size, count, window, stride, before, dilation;
    int64_t step; /* entries of x from one position to the next */
} space;

typedef struct {
    int64_t type, item, groups, n, each, outs, block, axes;
    int64_t windows, counts, sizes; /* numbers of offsets, positions of y, of x */
    space s[MAX_SPACE];
} shape;

static shape shape_of(const nnm_instr *in)
{
    const int64_t *I = in->ints;
    shape q = {I[0], I[0] == NNM_F32 ? 4 : 8, I[1], I[2], I[3], I[4], I[5], I[6], 1, 1, 1, {{0}}};
    for (int64_t a = q.axes - 1; a >= 0; --a) {
        const int64_t *J = I + 7 + 6 * a;
        q.s[a] = (space){J[0], J[1], J[2], J[3], J[4], J[5], q.sizes * q.each * q.groups};
        q.sizes *= J[0];
        q.counts *= J[1];
        q.windows *= J[2];
    }
    return q;
}

/* Positions or offsets as digits. */
static void digits(const shape *q, int64_t number, int windows, int64_t *at)
{
    for (int64_t a = q->axes - 1; a >= 0; --a) {
        const int64_t n = windows ? q->s[a].window : q->s[a].count;
        at[a] = number % n;
        number /= n;
    }
}

static inline int64_t clipped(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* Along one axis, positions t in [low, high) with 0 <= t * stride + shift and t * stride + shift + length <= size. */
static inline void reach(const space *s, int64_t shift, int64_t length, int64_t *low, int64_t *high)
{
    const int64_t room = s->size - length - shift;
    *low = clipped(shift < 0 ? (-shift + s->stride - 1) / s->stride : 0, 0, s->count);
    *high = clipped(room < 0 ? 0 : room / s->stride + 1, *low, s->count);
}

#define RUNS(words)                                                          \
    case words:                                                              \
        for (; n > 0; --n, to += step_to, from += step_from)                 \
            memcpy(to, from, 4 * words);                                     \
        return;

/* n runs of words, from one place to another. */
static void copy_runs(int64_t n, int64_t words, char *to, int64_t step_to, const char *from, int64_t step_from)
{
    switch (words) {
        RUNS(1)
        RUNS(2)
        RUNS(3)
        RUNS(4)
        RUNS(5)
        RUNS(6)
        RUNS(7)
        RUNS(8)
        RUNS(9)
        RUNS(10)
        RUNS(12)
        RUNS(16)
        RUNS(24)
        RUNS(32)
    default:
        for (; n > 0; --n, to += step_to, from += step_from)
            memcpy(to, from, (size_t)words * 4);
    }
}

static void clear_runs(int64_t n, int64_t words, char *to, int64_t step_to)
{
    for (; n > 0; --n, to += step_to)
        memset(to, 0, (size_t)words * 4);
}

/* What the windows of neighbouring positions have of x in some columns of their matrix, and what lies outside. */
typedef void (*band_f)(const shape *q, int64_t n, int64_t words, char *row, int64_t width, char *x, int64_t step);

/* The columns of offsets [first, last) of the windows at positions [low, high), channels of group g, in rows of `width`
 * bytes: `band` is called with the places in the rows and in x, `outside` (if any) where there are zeros around x. */
static void bands(const shape *q, char *x, int64_t g, int64_t first, int64_t last, int64_t low, int64_t high, char *room,
                  band_f band, void (*outside)(int64_t, int64_t, char *, int64_t))
{
    const int64_t word = q->item / 4, across = q->axes - 1, width = (last - first) * q->each * q->item;
    const space *s = &q->s[across];
    /* neighbours along the last axis lie together: one run for several offsets */
    const int joined = q->groups == 1 && s->dilation == 1;
    while (low < high) {
        int64_t t[MAX_SPACE];
        digits(q, low, 0, t);
        const int64_t begin = t[across], stop = begin + high - low < s->count ? begin + high - low : s->count;
        char *example = x + (low / q->counts * q->sizes * q->groups + g) * q->each * q->item;
        for (int64_t k = first; k < last;) {
            int64_t at[MAX_SPACE], place = 0, inside = 1, from, to;
            digits(q, k, 1, at);
            for (int64_t a = 0; a < across; ++a) {
                const int64_t p = t[a] * q->s[a].stride + at[a] * q->s[a].dilation - q->s[a].before;
                inside &= p >= 0 && p < q->s[a].size;
                place += p * q->s[a].step;
            }
            int64_t run = joined ? s->window - at[across] : 1;
            run = run < last - k ? run : last - k;
            const int64_t shift = at[across] * s->dilation - s->before;
            char *row = room + (k - first) * q->each * q->item;
            reach(s, shift, run, &from, &to);
            from = clipped(from, begin, stop);
            to = clipped(to, from, stop);
            if (!inside)
                from = to = begin;
            if (from < to)
                band(q, to - from, run * q->each * word, row + (from - begin) * width, width,
                     example + (place + (from * s->stride + shift) * s->step) * q->item, s->stride * s->step * q->item);
            /* positions whose run crosses the edge: offset by offset */
            for (int64_t side = 0; side < 2; ++side) {
                const int64_t a = side ? to : begin, z = side ? stop : from;
                if (a >= z)
                    continue;
                if (outside)
                    outside(z - a, run * q->each * word, row + (a - begin) * width, width);
                for (int64_t r = 0; r < run && inside; ++r) {
                    int64_t b, e;
                    reach(s, shift + r, 1, &b, &e);
                    b = clipped(b, a, z);
                    e = clipped(e, b, z);
                    if (b < e)
                        band(q, e - b, q->each * word, row + r * q->each * q->item + (b - begin) * width, width,
                             example + (place + (b * s->stride + shift + r) * s->step) * q->item,
                             s->stride * s->step * q->item);
                }
            }
            k += run;
        }
        room += (stop - begin) * width;
        low += stop - begin;
    }
}

static void fetch(const shape *q, int64_t n, int64_t words, char *row, int64_t width, char *x, int64_t step)
{
    copy_runs(n, words, row, width, x, step);
}

static void gather(const shape *q, const char *x, int64_t g, int64_t first, int64_t last, int64_t low, int64_t high,
                   char *room)
{
    bands(q, (char *)x, g, first, last, low, high, room, fetch, clear_runs);
}

#define ADD_RUNS(type, length)                                                               \
    for (; n > 0; --n, row += width, x += step)                                              \
        for (int64_t i = 0; i < length; ++i)                                                 \
            ((type *)x)[i] += ((const type *)row)[i];

/* Add what a matrix of windows has to where it belongs in x. */
static void give_back(const shape *q, int64_t n, int64_t words, char *row, int64_t width, char *x, int64_t step)
{
    if (q->type == NNM_F64) {
        ADD_RUNS(double, words / 2)
    } else if (words == 1) {
        ADD_RUNS(float, 1)
    } else if (words == 3) {
        ADD_RUNS(float, 3)
    } else {
        ADD_RUNS(float, words)
    }
}

void nnm_exec_conv(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const shape q = shape_of(in);
    const char *x = nnm_at(frame, in->refs[0]), *w = nnm_at(frame, in->refs[1]);
    char *y = nnm_at(frame, in->refs[2]);
    const int64_t inner = q.windows * q.each, all = q.outs * q.groups;
    char *room = nnm_at(frame, in->refs[3]) + t * q.block * inner * q.item;
    int64_t low, high;
    nnm_share(q.n * q.counts, 8, t, nt, &low, &high);
    for (; low < high; low += q.block) {
        const int64_t rows = high - low < q.block ? high - low : q.block;
        for (int64_t g = 0; g < q.groups; ++g) {
            gather(&q, x, g, 0, q.windows, low, low + rows, room);
            const nnm_product p = {q.type, NNM_BY_BLOCKS, rows, q.outs, inner, inner, 1, all, 1, all, 0, NULL, NULL};
            nnm_multiply(&p, room, w + g * q.outs * q.item, y + (low * all + g * q.outs) * q.item);
        }
    }
}

void nnm_exec_conv_kernel(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const shape q = shape_of(in);
    const char *x = nnm_at(frame, in->refs[0]), *y = nnm_at(frame, in->refs[1]);
    char *w = nnm_at(frame, in->refs[2]);
    const int64_t all = q.outs * q.groups, rows = q.n * q.counts;
    char *room = nnm_at(frame, in->refs[3]) + t * q.block * q.windows * q.each * q.item;
    int64_t from, to;
    nnm_share(q.windows * q.groups, 1, t, nt, &from, &to);
    while (from < to) {
        const int64_t g = from / q.windows, first = from % q.windows, rest = to - g * q.windows,
                      last = rest < q.windows ? rest : q.windows, wide = (last - first) * q.each;
        char *place = w + (first * q.each * all + g * q.outs) * q.item;
        for (int64_t low = 0; low < rows; low += q.block) {
            const int64_t some = rows - low < q.block ? rows - low : q.block;
            gather(&q, x, g, first, last, low, low + some, room);
            const nnm_product p = {q.type, NNM_BY_BLOCKS, wide, q.outs, some, 1, wide, all, 1, all, low > 0, NULL, NULL};
            nnm_multiply(&p, room, y + (low * all + g * q.outs) * q.item, place);
        }
        from = g * q.windows + last;
    }
}

/* Few channels: matrices of windows, whose entries are added to x afterwards. Threads share the examples. */
void nnm_exec_conv_input_few(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const shape q = shape_of(in);
    const char *y = nnm_at(frame, in->refs[0]), *w = nnm_at(frame, in->refs[1]);
    char *x = nnm_at(frame, in->refs[2]);
    const int64_t inner = q.windows * q.each, all = q.outs * q.groups, entries = q.sizes * q.each * q.groups;
    char *room = nnm_at(frame, in->refs[3]) + t * q.block * inner * q.item;
    /* Examples in groups that depend on the shape alone, so that each entry of x is added up in one order. */
    const int64_t group = q.block / q.counts > 1 ? q.block / q.counts : 1;
    int64_t from, to;
    nnm_share(q.n, group, t, nt, &from, &to);
    memset(x + from * entries * q.item, 0, (size_t)((to - from) * entries * q.item));
    for (; from < to; from += group) {
        const int64_t high = (from + group < to ? from + group : to) * q.counts;
        for (int64_t low = from * q.counts; low < high; low += q.block) {
            const int64_t rows = high - low < q.block ? high - low : q.block;
            for (int64_t g = 0; g < q.groups; ++g) {
                const nnm_product p = {q.type, NNM_BY_BLOCKS, rows, inner, q.outs, all, 1, 1, all, inner, 0, NULL, NULL};
                nnm_multiply(&p, y + (low * all + g * q.outs) * q.item, w + g * q.outs * q.item, room);
                bands(&q, x, g, 0, q.windows, low, low + rows, room, give_back, NULL);
            }
        }
    }
}

void nnm_exec_conv_input(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const shape q = shape_of(in);
    const char *y = nnm_at(frame, in->refs[0]), *w = nnm_at(frame, in->refs[1]);
    char *x = nnm_at(frame, in->refs[2]);
    const int64_t channels = q.each * q.groups, all = q.outs * q.groups, across = q.axes - 1;
    const space *s = &q.s[across];
    const int by_example = q.n >= 4 * nt || q.n % nt == 0;
    int64_t from = 0, to = q.n, c0 = 0, c1 = q.each;
    if (by_example)
        nnm_share(q.n, 1, t, nt, &from, &to);
    else
        nnm_share(q.each, 64 / q.item, t, nt, &c0, &c1);
    if (c0 == c1)
        return;
    for (int64_t i = from; i < to; ++i) {
        char *example = x + i * q.sizes * channels * q.item;
        if (c1 - c0 == q.each)
            memset(example, 0, (size_t)(q.sizes * channels * q.item));
        else
            for (int64_t r = 0; r < q.sizes * q.groups; ++r)
                memset(example + (r * q.each + c0) * q.item, 0, (size_t)((c1 - c0) * q.item));
        for (int64_t row = 0; row < q.counts; row += s->count) {
            int64_t at[MAX_SPACE];
            digits(&q, row, 0, at);
            for (int64_t k = 0; k < q.windows; ++k) {
                int64_t off[MAX_SPACE], place = 0, inside = 1, low, high;
                digits(&q, k, 1, off);
                for (int64_t a = 0; a < across; ++a) {
                    const int64_t p = at[a] * q.s[a].stride + off[a] * q.s[a].dilation - q.s[a].before;
                    inside &= p >= 0 && p < q.s[a].size;
                    place += p * q.s[a].step;
                }
                reach(s, off[across] * s->dilation - s->before, 1, &low, &high);
                if (!inside || low == high)
                    continue;
                place += (low * s->stride + off[across] * s->dilation - s->before) * s->step;
                const char *given = y + (i * q.counts + row + low) * all * q.item;
                const char *matrix = w + k * all * q.each * q.item;
                for (int64_t g = 0; g < q.groups; ++g) {
                    const nnm_product p = {q.type,  NNM_BY_BLOCKS, high - low, c1 - c0, q.outs, all, 1,
                                           q.each, 1,             s->stride * s->step, 1, NULL, NULL};
                    nnm_multiply(&p, given + g * q.outs * q.item, matrix + (g * q.outs * q.each + c0) * q.item,
                                 example + (place + g * q.each + c0) * q.item);
                }
            }
        }
    }
}
