#include "plan/nnm_plan.h"
#include "plan/pool.h"
#include <string.h>

#define KIND(name) void nnm_exec_##name(const nnm_instr *, nnm_frame *, int, int);
#include "plan/kinds.def"
#undef KIND

static const struct {
    const char *name;
    nnm_exec exec;
} kinds[] = {
#define KIND(name) {#name, nnm_exec_##name},
#include "plan/kinds.def"
#undef KIND
};

nnm_exec nnm_kind(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; ++i)
        if (!strcmp(kinds[i].name, name))
            return kinds[i].exec;
    return NULL;
}

static const nnm_pool_table *pool; /* NULL: no threads */

void nnm_plan_use_pool(const void *table)
{
    pool = table;
}

void nnm_meet(nnm_frame *frame)
{
    pool->barrier_wait(frame->barrier);
}

/* On one thread, with a clock. */
static void walk_timed(nnm_frame *frame, const nnm_instr *in, const nnm_instr *end)
{
    for (; in < end && !frame->failed; in += 1 + in->body) {
        const double begin = pool->now(), inside = frame->inside;
        frame->inside = 0.0;
        in->exec(in, frame, 0, 1);
        const double took = pool->now() - begin;
        frame->seconds[in - frame->program->instr] += took - frame->inside;
        frame->inside = inside + took;
    }
}

/* On one thread, with the shares of several: between two meetings all of one thread, then all of the next. */
static void walk_apart(nnm_frame *frame, const nnm_instr *in, const nnm_instr *end)
{
    const int split = frame->split, nt = split < 0 ? -split : split;
    while (in < end && !frame->failed) {
        if (in->flags & NNM_FLOW) { /* a body that is thread 0's alone has scratch for one */
            frame->split = in->flags & NNM_ALONE ? 0 : split;
            in->exec(in, frame, 0, 1);
            frame->split = split;
            in += 1 + in->body;
            continue;
        }
        const nnm_instr *stop = in + 1;
        while (stop < end && !(stop->flags & (NNM_WAIT | NNM_FLOW)))
            ++stop;
        for (int k = 0; k < nt; ++k) {
            const int t = split < 0 ? nt - 1 - k : k;
            for (const nnm_instr *i = in; i < stop && !frame->failed; ++i)
                if (!(i->flags & NNM_ALONE))
                    i->exec(i, frame, t, nt);
                else if (t == 0)
                    i->exec(i, frame, 0, 1);
        }
        in = stop;
    }
}

/* Share t of nt; of two instructions in slices both, one slice after the other, so that the second finds in the cache what
 * the first has just made. A slice is the share of a thread, if there were so many more. How many instructions these are. */
static int execute(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int slices = nnm_slices(in);
    if (slices == 1) {
        in->exec(in, frame, t, nt);
        return 1;
    }
    for (int k = 0; k < slices; ++k) {
        in[0].exec(in, frame, t * slices + k, nt * slices);
        in[1].exec(in + 1, frame, t * slices + k, nt * slices);
    }
    return 2;
}

void nnm_walk_body(nnm_frame *frame, const nnm_instr *in, const nnm_instr *end, int t, int nt)
{
    if (frame->split) {
        walk_apart(frame, in, end);
    } else if (frame->seconds) {
        walk_timed(frame, in, end);
    } else if (nt == 1) {
        while (in < end && !frame->failed) {
            const int64_t body = in->body;
            in += execute(in, frame, 0, 1) + body;
        }
    } else {
        /* After a failure threads go on to meet, since some may know of it later than others. */
        int64_t next;
        for (; in < end; in += next) {
            next = 1 + in->body;
            if (in->flags & NNM_WAIT)
                nnm_meet(frame);
            if (frame->failed && (in->flags & (NNM_FLOW | NNM_ALONE)) != NNM_FLOW)
                continue;
            if (!(in->flags & NNM_ALONE))
                next += execute(in, frame, t, nt) - 1;
            else if (t == 0)
                in->exec(in, frame, 0, 1);
        }
    }
}

void nnm_walk(nnm_frame *frame, int t, int nt)
{
    const nnm_program *p = frame->program;
    nnm_walk_body(frame, p->instr, p->instr + p->ninstr, t, nt);
}

void nnm_walk_split(nnm_frame *frame, int nt)
{
    frame->split = nt;
    nnm_walk(frame, 0, 1);
    frame->split = 0;
}

static void walk_alone(void *arg, int t, int nt)
{
    nnm_walk(arg, t, nt);
}

void nnm_walk_timed(nnm_frame *frame, double *seconds)
{
    frame->seconds = seconds;
    frame->inside = 0.0;
    if (frame->program->products) /* the pool sees to it that BLAS has one thread */
        pool->run(walk_alone, frame, 1, 0.0);
    else
        nnm_walk(frame, 0, 1);
    frame->seconds = NULL;
}

static void (*signals)(nnm_frame *);

void nnm_plan_use_signals(void (*check)(nnm_frame *))
{
    signals = check;
}

void nnm_signals(nnm_frame *frame)
{
    if (signals)
        signals(frame);
}

double nnm_clock(void)
{
    return pool->now();
}

static void walk(void *arg, int t, int nt)
{
    nnm_frame *frame = arg;
    nnm_barrier_join(frame->barrier, nt);
    nnm_walk(frame, t, nt);
}

/* A short program learns now and then how long it takes alone, after its first run: whether it is worth sharing is then
 * known better than from its operations. */
static const double SHORT = 20e-3;
enum { AGAIN = 1024 };

/* What alone takes much less than the pool shares is not offered to it: clock and pool would be a part of the run that
 * shows. One run of so many goes the whole way and sees whether that still holds. */
static const double SHORTEST = 2e-6;
enum { LOOK = 64 };

static int too_short(const nnm_past *past)
{
    return past->alone > 0 && past->alone < SHORTEST && past->turns % LOOK;
}

static int learns(const nnm_past *past, double seconds)
{
    return past->turns % AGAIN == 1 && (past->alone > 0 ? past->alone : seconds) < SHORT;
}

void nnm_run_threads(nnm_frame *frame, struct nnm_barrier *barrier, int nt, double seconds)
{
    const nnm_program *p = frame->program;
    nnm_past *past = p->past;
    const int most = pool ? pool->threads_get() : 1;
    nt = nt < most ? nt : most;
    if (!(pool && p->products) && (nt <= 1 || too_short(past))) {
        past->turns += nt > 1;
        nnm_walk(frame, 0, 1);
        return;
    }
    if (nt > 1 && learns(past, seconds))
        nt = 1;
    ++past->turns;
    pool->barrier_init(barrier, nt);
    frame->barrier = barrier;
    const double begin = pool->now(), alone = past->alone;
    const int got = pool->run(walk, frame, nt, alone > 0 ? alone : seconds);
    const double total = pool->now() - begin;
    if (frame->failed || frame->outside)
        return;
    if (got <= 1) { /* faster at once, slower by and by: something else may have run */
        past->alone = alone > 0 && total > alone ? alone + (total - alone) / 8 : total;
        return;
    }
    pool->feedback(alone > 0 ? total - alone : pool->barrier_waited(barrier) - total / 3);
}
