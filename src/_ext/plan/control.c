#include "plan/nnm_plan.h"

#include <string.h>

/* Control flow: instructions that run those behind them, their bodies, any number of times.
 *
 * ints begin with the number of bodies and the number of instructions in each; what follows is said below. A body reads
 * and writes memory of the frame as all instructions do. What lies elsewhere in each turn of a loop, rows of arrays and
 * the two ends of a carry, has a slot of its own, whose place thread 0 sets before the turn: so nothing is copied. With
 * several threads all of them go round the loop together and meet before and after the places are set.
 */

/* Whether a loop has to end: then nothing that it computes counts. */
static int over(const nnm_frame *frame)
{
    return frame->failed || frame->outside;
}

/* When a loop last looked at the clock and saw to signals, at which turn it looks again, and how many turns lie between. */
typedef struct {
    double looked, asked;
    int64_t turn, gap;
} patience;

static const patience FRESH = {0.0, 0.0, 0, 1};

/* Every twentieth of a second a loop sees to signals, so that Ctrl-C can end it. */
static void ask(nnm_frame *frame, patience *p, int64_t k)
{
    if (k < p->turn)
        return;
    const double now = nnm_clock();
    p->gap = now - p->looked > 0.01 ? 1 : p->gap < 1024 ? 2 * p->gap : p->gap;
    p->looked = now;
    p->turn = k + p->gap;
    if (p->asked == 0.0) {
        p->asked = now;
    } else if (now - p->asked > 0.05) {
        p->asked = now;
        nnm_signals(frame);
    }
}

static int64_t integer(const char *x, int64_t code)
{
    switch (code) {
    case 1: return *(const int8_t *)x;
    case 2: return *(const int16_t *)x;
    case 4: return *(const int32_t *)x;
    case 8: return *(const int64_t *)x;
    case -1: return *(const uint8_t *)x;
    case -2: return *(const uint16_t *)x;
    case -4: return *(const uint32_t *)x;
    default: return *(const uint64_t *)x < INT64_MAX ? (int64_t)*(const uint64_t *)x : INT64_MAX;
    }
}

/* One of several bodies. refs: the index. ints: its item size, negative for one without sign. */
void nnm_exec_cond(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t bodies = in->ints[0], *length = in->ints + 1;
    int64_t k = integer(nnm_at(frame, in->refs[0]), length[bodies]);
    k = k < 0 ? 0 : k < bodies ? k : bodies - 1;
    const nnm_instr *body = in + 1;
    for (int64_t i = 0; i < k; ++i)
        body += length[i];
    nnm_walk_body(frame, body, body + length[k], t, nt);
}

/* A known number of turns over rows of arrays with a carry.
 *
 * ints: turns, whether backwards, number of operands, then the numbers C of carries, X of arrays and Y of results; the
 * stride in bytes from row to row of each array and of each result; three for each carry: a result whose rows hold it
 * or -1, whether a row holds it before the turn of that row (else after it), and its bytes.
 *
 * refs: operands: C first carries, X arrays, and what the body reads beside; C last carries, Y results; slots that the
 * body uses: C carries before the turn, C after it, X rows, Y rows; scratch: 8 bytes, then C spare carries.
 *
 * A carry goes to and fro between two places, so that it ends as the last one; or from row to row of its result.
 */
enum { TURNS, BACKWARDS, OPERANDS, CARRIES, ARRAYS, RESULTS, SCAN_HEADER };

static void to_row(const nnm_instr *in, nnm_frame *frame, const int64_t *s, int64_t k)
{
    const int64_t c = s[CARRIES], x = s[ARRAYS], y = s[RESULTS], turns = s[TURNS];
    const int64_t *stride = s + SCAN_HEADER, *carry = stride + x + y;
    const nnm_ref *first = in->refs, *last = first + s[OPERANDS], *now = last + c + y, *next = now + c, *row = next + c;
    const nnm_ref *spare = row + x + y + 1;
    char **base = frame->base;
    const int64_t r = s[BACKWARDS] ? turns - 1 - k : k, step = s[BACKWARDS] ? -1 : 1;
    for (int64_t i = 0; i < x; ++i)
        base[row[i].slot] = nnm_at(frame, first[c + i]) + r * stride[i];
    for (int64_t i = 0; i < y; ++i)
        base[row[x + i].slot] = nnm_at(frame, last[c + i]) + r * stride[x + i];
    for (int64_t i = 0; i < c; ++i, carry += 3) {
        const int64_t tape = carry[0], before = carry[1];
        char *const tapes = tape < 0 ? NULL : nnm_at(frame, last[c + tape]);
        if (k) {
            base[now[i].slot] = base[next[i].slot];
        } else if (before) {
            base[now[i].slot] = tapes + r * stride[x + tape];
            memcpy(base[now[i].slot], nnm_at(frame, first[i]), (size_t)carry[2]);
        } else {
            base[now[i].slot] = nnm_at(frame, first[i]);
        }
        if (tape < 0)
            base[next[i].slot] = nnm_at(frame, (turns - 1 - k) % 2 ? spare[i] : last[i]);
        else if (!before)
            base[next[i].slot] = tapes + r * stride[x + tape];
        else
            base[next[i].slot] = k == turns - 1 ? nnm_at(frame, last[i]) : tapes + (r + step) * stride[x + tape];
    }
}

void nnm_exec_scan(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const nnm_instr *body = in + 1, *end = body + in->ints[1];
    const int64_t *s = in->ints + 2;
    const int64_t c = s[CARRIES], x = s[ARRAYS], y = s[RESULTS], turns = s[TURNS];
    int64_t *shared = (int64_t *)nnm_at(frame, in->refs[s[OPERANDS] + c + y + 2 * c + x + y]);
    patience p = FRESH;

    if (nt == 1) {
        for (int64_t k = 0; k < turns && !over(frame); ++k) {
            ask(frame, &p, k);
            to_row(in, frame, s, k);
            nnm_walk_body(frame, body, end, 0, 1);
        }
        return;
    }
    for (int64_t k = 0;; ++k) {
        nnm_meet(frame);
        if (t == 0) {
            ask(frame, &p, k);
            *shared = k < turns && !over(frame);
            if (*shared)
                to_row(in, frame, s, k);
        }
        nnm_meet(frame);
        if (!*shared)
            return;
        nnm_walk_body(frame, body, end, t, nt);
    }
}

/* Turns as long as a condition, the first body, holds.
 *
 * ints: number of operands, number C of carries, the bytes of each. refs: operands: C first carries, and what the bodies
 * read beside; C last carries, the condition (one byte); slots that the bodies use: C carries before the turn, C after it;
 * scratch: 8 bytes, then C spare carries. A carry goes to and fro between two places; where it ends is not known before.
 */
static int turn(const nnm_instr *in, nnm_frame *frame, const int64_t *s, int64_t k, patience *p)
{
    const int64_t c = s[1];
    const nnm_ref *first = in->refs, *last = first + s[0], *now = last + c + 1, *next = now + c, *spare = next + c + 1;
    ask(frame, p, k);
    if (over(frame))
        return 0;
    for (int64_t i = 0; i < c; ++i) {
        frame->base[now[i].slot] = k ? frame->base[next[i].slot] : nnm_at(frame, first[i]);
        frame->base[next[i].slot] = nnm_at(frame, k % 2 ? spare[i] : last[i]);
    }
    return 1;
}

void nnm_exec_while_loop(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const nnm_instr *holds = in + 1, *body = holds + in->ints[1], *end = body + in->ints[2];
    const int64_t *s = in->ints + 3;
    const int64_t c = s[1], *nbytes = s + 2;
    const nnm_ref *last = in->refs + s[0], *now = last + c + 1;
    const char *condition = nnm_at(frame, last[c]);
    int64_t *shared = (int64_t *)nnm_at(frame, now[2 * c]);
    patience p = FRESH;

    for (int64_t k = 0;; ++k) {
        int64_t go = 0;
        if (nt > 1)
            nnm_meet(frame);
        if (t == 0)
            go = *shared = turn(in, frame, s, k, &p);
        if (nt > 1) {
            nnm_meet(frame);
            go = *shared;
        }
        if (!go)
            return;
        nnm_walk_body(frame, holds, body, t, nt);
        if (nt > 1)
            nnm_meet(frame);
        if (!*condition)
            break;
        nnm_walk_body(frame, body, end, t, nt);
    }
    if (t == 0)
        for (int64_t i = 0; i < c; ++i)
            if (frame->base[now[i].slot] != nnm_at(frame, last[i]))
                memcpy(nnm_at(frame, last[i]), frame->base[now[i].slot], (size_t)nbytes[i]);
}
