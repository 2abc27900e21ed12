#include "plan/frame.h"

#include <stdlib.h>

#include "plan/arena.h"
#include "plan/pool.h"

/* The head: this, then a pointer and a number for each slot. */
typedef struct {
    nnm_frame frame; /* first: its address is that of the head */
    nnm_barrier barrier;
    char *numbers;
} head;

static size_t rounded(size_t nbytes)
{
    return (nbytes + NNM_FRAME_ALIGN - 1) / NNM_FRAME_ALIGN * NNM_FRAME_ALIGN;
}

static size_t head_nbytes(const nnm_program *p)
{
    return rounded(sizeof(head)) + rounded((size_t)p->nslots * (16 + sizeof(char *)));
}

static nnm_frame *placed(const nnm_program *p, void *memory, void *arena)
{
    head *h = memory;
    char *behind = (char *)memory + rounded(sizeof(head));
    h->numbers = behind;
    h->frame.base = (char **)(behind + 16 * (size_t)p->nslots);
    h->frame.program = p;
    h->frame.barrier = NULL;
    h->frame.failed = 0;
    h->frame.error = NULL;
    h->frame.outside = 0;
    h->frame.refused = 0;
    h->frame.split = 0;
    h->frame.seconds = NULL;
    memcpy(h->frame.base, p->constants, (size_t)p->nslots * sizeof(char *));
    h->frame.base[0] = arena;
    return &h->frame;
}

size_t nnm_frame_nbytes(const nnm_program *p)
{
    return rounded((size_t)p->arena) + head_nbytes(p);
}

nnm_frame *nnm_frame_place(const nnm_program *p, void *block)
{
    return placed(p, (char *)block + rounded((size_t)p->arena), block); /* the arena first: it may lie on huge pages */
}

nnm_frame *nnm_frame_take(const nnm_program *p)
{
    for (int i = 0; i < NNM_FRAMES_KEPT; ++i)
        if (atomic_load_explicit(&p->frames->free[i], memory_order_relaxed)) {
            nnm_frame *frame = atomic_exchange_explicit(&p->frames->free[i], NULL, memory_order_acquire);
            if (frame)
                return frame;
        }
    void *memory = nnm_arena_new(head_nbytes(p));
    void *arena = p->arena ? nnm_arena_new((size_t)p->arena) : NULL;
    if (memory && (arena || !p->arena))
        return placed(p, memory, arena);
    if (memory)
        nnm_arena_free(memory, head_nbytes(p));
    if (arena)
        nnm_arena_free(arena, (size_t)p->arena);
    return NULL;
}

static void freed(nnm_frame *frame)
{
    const nnm_program *p = frame->program;
    if (p->arena)
        nnm_arena_free(frame->base[0], (size_t)p->arena);
    nnm_arena_free(frame, head_nbytes(p));
}

void nnm_frame_give(nnm_frame *frame)
{
    nnm_frames *frames = frame->program->frames;
    for (int i = 0; i < NNM_FRAMES_KEPT; ++i) {
        nnm_frame *none = NULL;
        if (!atomic_load_explicit(&frames->free[i], memory_order_relaxed) &&
            atomic_compare_exchange_strong_explicit(&frames->free[i], &none, frame, memory_order_release,
                                                    memory_order_relaxed))
            return;
    }
    freed(frame);
}

void nnm_frames_clear(const nnm_program *p)
{
    for (int i = 0; i < NNM_FRAMES_KEPT; ++i) {
        nnm_frame *frame = atomic_exchange(&p->frames->free[i], NULL);
        if (frame)
            freed(frame);
    }
}

char *nnm_frame_number(const nnm_frame *frame, int64_t slot)
{
    return ((const head *)frame)->numbers + 16 * slot;
}

int nnm_frame_run(nnm_frame *frame)
{
    const nnm_program *p = frame->program;
    frame->failed = 0;
    frame->error = NULL;
    frame->outside = 0;
    frame->refused = 0;
    if (p->threads > 1 || p->products)
        nnm_run_threads(frame, &((head *)frame)->barrier, p->threads, p->seconds);
    else
        nnm_walk(frame, 0, 1);
    return frame->failed || frame->outside;
}
