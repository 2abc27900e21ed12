#include "plan/move.h"

/* Pieces put into an array at steps, with zeros elsewhere: concatenation, padding, the transpose of a slice.
 *
 * refs: the pieces, the array.  ints: item size, axes, pieces, whether there is room between (of one piece), the
 * lengths of the array, which is contiguous, then for each piece and axis: first place, step > 0, count, stride of
 * the piece in bytes. The threads share the first axis.
 */
typedef struct {
    const int64_t *lengths;
    int64_t strides[NNM_MAX_AXES];
    int64_t axes;
    int room;
    nnm_row row;
} target;

static int64_t steps_before(int64_t place, int64_t start, int64_t step, int64_t count)
{
    if (place <= start)
        return 0;
    const int64_t k = (place - start + step - 1) / step;
    return k < count ? k : count;
}

/* The places [low, high) of an axis. */
static void put(const target *o, int64_t axis, const int64_t *p, const char *x, char *y, int64_t low, int64_t high)
{
    const int64_t start = p[0], step = p[1], sx = p[3], sy = o->strides[axis];
    const int64_t begin = steps_before(low, start, step, p[2]), end = steps_before(high, start, step, p[2]);
    int64_t at = low;
    if (axis == o->axes - 1) {
        if (o->room) {
            if (step > 1 || begin >= end) {
                memset(y + low * sy, 0, (size_t)((high - low) * sy));
            } else {
                memset(y + low * sy, 0, (size_t)((start + begin - low) * sy));
                memset(y + (start + end) * sy, 0, (size_t)((high - start - end) * sy));
            }
        }
        if (begin < end)
            o->row(end - begin, x + begin * sx, sx, y + (start + begin * step) * sy, step * sy);
        return;
    }
    for (int64_t k = begin; k < end; ++k) {
        const int64_t place = start + k * step;
        if (o->room && place > at)
            memset(y + at * sy, 0, (size_t)((place - at) * sy));
        put(o, axis + 1, p + 4, x + k * sx, y + place * sy, 0, o->lengths[axis + 1]);
        at = place + 1;
    }
    if (o->room && at < high)
        memset(y + at * sy, 0, (size_t)((high - at) * sy));
}

void nnm_exec_place(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t pieces = in->ints[2];
    target o = {.lengths = in->ints + 4, .axes = in->ints[1], .room = (int)in->ints[3], .row = nnm_row_of(in->ints[0])};
    int64_t stride = in->ints[0], low, high;
    for (int64_t a = o.axes; a-- > 0; stride *= o.lengths[a])
        o.strides[a] = stride;
    nnm_share(o.lengths[0], o.axes == 1 ? 1024 : 1, t, nt, &low, &high);
    if (low == high)
        return;
    char *y = nnm_at(frame, in->refs[pieces]);
    for (int64_t k = 0; k < pieces; ++k)
        put(&o, 0, o.lengths + o.axes * (1 + 4 * k), nnm_at(frame, in->refs[k]), y, low, high);
}
