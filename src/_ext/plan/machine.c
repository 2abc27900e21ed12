#include "plan/nnm_plan.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#define FENCE() _mm_sfence() /* what loops have stored past the caches others will read */
#else
#define FENCE() ((void)0)
#endif

/* The elementwise machine: a micro-program over rows of columns, block by block in L1, with reductions.
 *
 * The space is rows x cols; rows run through some axes (outermost first). Rows are worked on in *batches*, phase after
 * phase. A phase executes its block operations for each row of the batch and each block of its columns, then its row
 * operations once, on an entry for each row of the batch: they see what reductions of the phase have left in
 * accumulators. So softmax is three phases (maximum; exponentials and their sum; quotient), and one pass over memory.
 *
 * Registers are pointers. The first are *views*: they move with row and column (stride 0: they do not), and serve inputs,
 * outputs and row buffers alike. The others lie in the thread's scratch: blocks, and values of rows and accumulators,
 * which have an entry for each row of a batch. An operation is an inner loop (nnm_loop) on registers.
 *
 * Rows come in *groups* (without accumulation over rows: all rows are one group). Phase 0 runs once at the beginning of a
 * group, over its columns: it clears what is accumulated over rows, in views that move with the group. A batch lies in
 * one group and along the last axis of the rows.
 *
 * refs: operands and outputs, then scratch of the instruction, thread_bytes for each thread.
 * ints: the header below; lengths of the axes; for each view (ref, offset, whether it lies in the thread's scratch, stride
 * of a column, of a group, of each axis), in bytes; for each other register its offset in the thread's scratch and bytes
 * from one row of a batch to the next; for each phase the number of its block and row operations, and of the views and
 * other registers that its block operations move; these registers; the operations: loop, its data, number of arguments,
 * and for each argument register and stride.
 *
 * Threads share groups (split 0; rows where there is one group only and none is accumulated), or columns (split 1), which
 * the lowering asks for when no phase reduces along them.
 */
enum {
    AXES,         /* of the rows */
    COLS,
    ROWS,
    BLOCK,        /* columns that an operation works on at a time */
    BATCH,        /* rows of a batch, at most */
    GROUP,        /* rows of a group; 0: nothing is accumulated over rows */
    SPLIT,
    QUANTUM,      /* of the share of a thread, in rows, groups or columns */
    THREAD_BYTES,
    VIEWS,
    FIXED,        /* registers in the scratch */
    PHASES,       /* phase 0, of a group, included */
    HEADER,
};

enum { MAX_AXES = 16, MAX_VIEWS = 64, MAX_FIXED = 192, MAX_ARGS = 64 };

/* The data of a loop that does several rows: dims are columns and rows, data the steps of the args between rows. */
enum { NNM_ROWS = 1 };

/* One view in ints: these, then the strides of the axes. */
enum { V_REF, V_OFFSET, V_OWN, V_COL, V_GROUP, V_AXES };

/* One phase in ints: block operations, row operations, views and other registers that move. */
enum { P_BLOCK, P_ROW, P_VIEWS, P_FIXED, PHASE };

static const int64_t *run(const int64_t *op, int64_t count, char *const *reg, nnm_idx n)
{
    const nnm_idx dims[2] = {n, 1};
    for (; count > 0; --count) {
        char *args[MAX_ARGS];
        nnm_idx strides[MAX_ARGS];
        const int64_t nargs = op[2];
        for (int64_t k = 0; k < nargs; ++k) {
            args[k] = reg[op[3 + 2 * k]];
            strides[k] = (nnm_idx)op[4 + 2 * k];
        }
        ((nnm_loop)(uintptr_t)op[0])(args, dims, strides, (void *)(uintptr_t)op[1]);
        op += 3 + 2 * nargs;
    }
    return op;
}

/* One operation on all rows of a batch; step and place as below. */
static void run_rows(const int64_t *op, char *const *reg, nnm_idx n, nnm_idx rows, int64_t views, const int64_t *step,
                     const int64_t *place)
{
    char *args[MAX_ARGS];
    nnm_idx strides[MAX_ARGS], steps[MAX_ARGS];
    const nnm_idx dims[2] = {n, rows};
    for (int64_t k = 0; k < op[2]; ++k) {
        const int64_t r = op[3 + 2 * k];
        args[k] = reg[r];
        strides[k] = (nnm_idx)op[4 + 2 * k];
        steps[k] = (nnm_idx)(r < views ? step[r] : place[2 * (r - views) + 1]);
    }
    ((nnm_loop)(uintptr_t)op[0])(args, dims, strides, steps);
}

static const int64_t *skip(const int64_t *op, int64_t count)
{
    for (; count > 0; --count)
        op += 3 + 2 * op[2];
    return op;
}

void nnm_exec_machine(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t *s = in->ints;
    const int64_t axes = s[AXES], cols = s[COLS], block = s[BLOCK], views = s[VIEWS], fixed = s[FIXED];
    const int64_t *length = s + HEADER, *view = length + axes;
    const int64_t width = V_AXES + axes;
    const int64_t *place = view + views * width, *phases = place + 2 * fixed;
    const int64_t group = s[GROUP] ? s[GROUP] : s[ROWS];
    char *reg[MAX_VIEWS + MAX_FIXED];
    char *base[MAX_VIEWS], *row[MAX_VIEWS];
    int64_t step[MAX_VIEWS]; /* from one row of a batch to the next */
    int64_t low, high, first = 0, last = cols;

    if (s[ROWS] == 0)
        return;
    if (s[SPLIT]) {
        low = 0, high = s[ROWS];
        nnm_share(cols, s[QUANTUM], t, nt, &first, &last);
        if (first == last)
            return;
    } else {
        const int64_t unit = s[GROUP] ? group : 1, units = (s[ROWS] + unit - 1) / unit;
        nnm_share(units, s[QUANTUM], t, nt, &low, &high);
        low *= unit, high *= unit;
        if (high > s[ROWS])
            high = s[ROWS];
        if (low >= high)
            return;
    }
    char *scratch = in->nrefs ? nnm_at(frame, in->refs[in->nrefs - 1]) + t / nnm_slices(in) * s[THREAD_BYTES] : NULL;
    for (int64_t v = 0; v < views; ++v) {
        const int64_t *w = view + v * width;
        base[v] = (w[V_OWN] ? scratch : nnm_at(frame, in->refs[w[V_REF]])) + w[V_OFFSET];
        step[v] = axes ? w[V_AXES + axes - 1] : 0;
    }

    int64_t at[MAX_AXES];
    int64_t rest = low, batch;
    for (int64_t a = axes - 1; a >= 0; --a) {
        at[a] = rest % length[a];
        rest /= length[a];
    }
    for (int64_t r = low; r < high; r += batch) {
        batch = s[BATCH] < high - r ? s[BATCH] : high - r;
        if (axes && length[axes - 1] - at[axes - 1] < batch)
            batch = length[axes - 1] - at[axes - 1];
        if (group - r % group < batch)
            batch = group - r % group;
        for (int64_t v = 0; v < views; ++v) {
            const int64_t *w = view + v * width;
            row[v] = base[v];
            if (w[V_OWN])
                continue;
            row[v] += w[V_GROUP] * (r / group);
            for (int64_t a = 0; a < axes; ++a)
                row[v] += at[a] * w[V_AXES + a];
        }
        const int64_t *op = phases;
        for (int64_t p = 0; p < s[PHASES]; ++p) {
            const int64_t nblock = op[P_BLOCK], nrow = op[P_ROW], nviews = op[P_VIEWS], nfixed = op[P_FIXED];
            const int64_t *moving = op + PHASE, *here = moving + nviews, *end = here + nfixed;
            op = end;
            if (p == 0 && r % group != 0) { /* the operations of a group's beginning */
                op = skip(op, nblock + nrow);
                continue;
            }
            if (nblock) {
                for (int64_t k = 0; k < fixed; ++k)
                    reg[views + k] = scratch + place[2 * k];
                const int at_once = p && nblock == 1 && op[1] == NNM_ROWS && 0 < last - first && last - first <= block;
                if (at_once) {
                    for (int64_t k = 0; k < nviews; ++k)
                        reg[moving[k]] = row[moving[k]] + first * view[moving[k] * width + V_COL];
                    run_rows(op, reg, (nnm_idx)(last - first), (nnm_idx)batch, views, step, place);
                    end = skip(op, 1);
                }
                for (int64_t b = 0; !at_once && b < (p ? batch : 1); ++b) {
                    for (int64_t k = 0; b && k < nfixed; ++k)
                        reg[here[k]] += place[2 * (here[k] - views) + 1];
                    for (int64_t c = first; c < last; c += block) {
                        for (int64_t k = 0; k < nviews; ++k) {
                            const int64_t v = moving[k];
                            reg[v] = row[v] + b * step[v] + c * view[v * width + V_COL];
                        }
                        end = run(op, nblock, reg, (nnm_idx)(last - c < block ? last - c : block));
                    }
                }
                if (first == last)
                    end = skip(op, nblock);
                op = end;
            }
            if (nrow) {
                for (int64_t v = 0; v < views; ++v)
                    reg[v] = row[v];
                for (int64_t k = 0; k < fixed; ++k)
                    reg[views + k] = scratch + place[2 * k];
                op = run(op, nrow, reg, (nnm_idx)batch);
            }
        }
        /* the place of the next batch */
        if (axes)
            at[axes - 1] += batch;
        for (int64_t a = axes - 1; a > 0 && at[a] == length[a]; --a)
            at[a] = 0, ++at[a - 1];
    }
    FENCE(); /* once, not a row: the next row is begun while the last one leaves */
}
