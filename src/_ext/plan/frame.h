/* Frames: what one run writes. A frame is a head, which says where every slot is, and an arena; a caller brings the
 * memory of both as one block, or the plan lends a frame of its own.
 */
#ifndef NNM_FRAME_H
#define NNM_FRAME_H

#include <stdatomic.h>

#include "plan/nnm_plan.h"

enum {
    NNM_FRAME_ALIGN = 64,
    NNM_FRAMES_KEPT = 16, /* of each plan, for later runs; frames of more runs at once are freed when they end */
};

/* The free frames of a plan. Taken and given by exchange, so that nobody waits. */
typedef struct nnm_frames {
    _Atomic(nnm_frame *) free[NNM_FRAMES_KEPT];
} nnm_frames;

/* Bytes of a block that a frame fits in, arena and head. */
size_t nnm_frame_nbytes(const nnm_program *p);

/* A frame inside a block of so many bytes, aligned to NNM_FRAME_ALIGN. Nothing is to be freed. */
nnm_frame *nnm_frame_place(const nnm_program *p, void *block);

/* A frame of the plan, and its return. The first allocates when none is free, NULL: there is no memory. */
nnm_frame *nnm_frame_take(const nnm_program *p);
void nnm_frame_give(nnm_frame *frame);

/* Memory of 16 bytes for the number in a slot. */
char *nnm_frame_number(const nnm_frame *frame, int64_t slot);

/* Run a frame whose slots are filled, on the threads that the program may use; not 0: a call into Python has raised, or an
 * index was outside, or something has no value. */
int nnm_frame_run(nnm_frame *frame);

/* Free the frames that wait; no run may be on. */
void nnm_frames_clear(const nnm_program *p);

#endif
