/* The executor of Plans: a list of instructions over one arena, run by several threads together, without Python.
 *
 * A plan is immutable while it runs; everything that a run writes belongs to its frame, so one plan may run in many
 * threads at once, each with a frame of its own. An address is a slot and an offset: slot 0 is the arena, the others are
 * inputs, outputs and constants, whose places a caller gives with each run.
 *
 * A run is SPMD: its threads walk the list together, each executes its share (t of nt) of every instruction, and they
 * wait for each other only where an instruction has NNM_WAIT. An instruction with NNM_ALONE is executed by thread 0.
 */
#ifndef NNM_PLAN_H
#define NNM_PLAN_H

#include "nnm_base.h"

typedef struct nnm_frame nnm_frame;
typedef struct nnm_instr nnm_instr;
typedef struct nnm_program nnm_program;

typedef struct {
    int64_t slot;
    int64_t offset; /* bytes */
} nnm_ref;

/* Executes the share t of nt of an instruction. What can fail has failed before, apart from calls into Python. */
typedef void (*nnm_exec)(const nnm_instr *in, nnm_frame *frame, int t, int nt);

enum {
    NNM_WAIT = 1,  /* all threads meet before this instruction: it reads what others wrote, or writes what they read */
    NNM_ALONE = 2, /* thread 0 executes it, as t = 0 of nt = 1 */
    NNM_FLOW = 4,  /* it runs its body, with meetings of its own, and goes on with them after a failure */
    NNM_SLICES = 8, /* times so many: it and the next run in turns, a slice of their share each, see nnm_walk_body */
};

struct nnm_instr {
    nnm_exec exec;
    int32_t flags;
    int32_t nrefs, nints, nreals;
    const nnm_ref *refs;   /* operands, outputs, scratch, in the order that the kind says */
    const int64_t *ints;   /* sizes, strides, codes */
    const double *reals;
    const char *kind;
    void *object;          /* of a call into Python */
    int64_t body;          /* so many instructions behind it are its own: control flow, which runs them itself */
};

/* What runs of a program have taken; not exact where several threads run it. */
typedef struct {
    double alone; /* seconds on one thread; 0: not known */
    unsigned turns;
} nnm_past;

struct nnm_program {
    int64_t ninstr;
    nnm_instr *instr;
    int64_t nslots;
    int64_t arena;         /* bytes */
    int threads;           /* the most that a run of it may use */
    double seconds;        /* that one thread takes, about */
    int products;          /* some instruction may call BLAS, which must have one thread meanwhile */
    nnm_past *past;        /* of its runs */
    char *const *constants; /* for each slot, where the constant is; else NULL */
    struct nnm_frames *frames; /* free ones, see frame.h */
};

struct nnm_frame {
    char **base;                  /* of each slot */
    const nnm_program *program;
    struct nnm_barrier *barrier;  /* of this run; NULL with one thread */
    int failed;                   /* a call into Python has raised, or an instruction has no value: nothing more is
                                   * executed, but threads still meet */
    void *error;                  /* its exception */
    int outside;                  /* an index was outside of its axis: this one, of that length; the run ends, and fails */
    int64_t index, length;
    int64_t refused;              /* an instruction has no value for what it was given; see nnm_refuse */
    int split;                    /* shares of so many threads run one after the other; 0: not; see nnm_walk_split */
    double *seconds;              /* of each instruction; see nnm_walk_timed */
    double inside;                /* seconds of what ran inside of an instruction that is timed */
};

/* In how many slices a share of an instruction runs. What lies in the scratch of thread t is that of t / slices then. */
static inline int nnm_slices(const nnm_instr *in)
{
    const int slices = in->flags / NNM_SLICES;
    return slices > 1 ? slices : 1;
}

static inline void nnm_outside(nnm_frame *frame, int64_t index, int64_t length)
{
    frame->index = index; /* of several threads any: each is right to complain */
    frame->length = length;
    frame->outside = 1;
}

enum { NNM_REASONS = 8 };

/* An instruction has no value, for a reason 0 <= why < NNM_REASONS: a singular matrix, say. Nothing more is executed; the
 * door raises item `why` of the instruction's object, a tuple of pairs (type of exception, message). */
static inline void nnm_refuse(nnm_frame *frame, const nnm_instr *in, int why)
{
    frame->refused = (in - frame->program->instr) * NNM_REASONS + why + 1; /* of several threads any is right */
    frame->failed = 1;
}

static inline char *nnm_at(const nnm_frame *frame, nnm_ref ref)
{
    return frame->base[ref.slot] + ref.offset;
}

/* The share [low, high) of n units that thread t of nt has; a multiple of `quantum` but for the last. The same for
 * every instruction with the same n and quantum: then a row stays with its thread and nobody waits. */
static inline void nnm_share(int64_t n, int64_t quantum, int t, int nt, int64_t *low, int64_t *high)
{
    const int64_t blocks = (n + quantum - 1) / quantum;
    int64_t a = blocks * t / nt * quantum, b = blocks * (t + 1) / nt * quantum;
    *low = a < n ? a : n;
    *high = b < n ? b : n;
}

/* Run all instructions of a frame as thread t of nt. */
void nnm_walk(nnm_frame *frame, int t, int nt);

/* Run the instructions from one to before another: what control flow does with a body. */
void nnm_walk_body(nnm_frame *frame, const nnm_instr *in, const nnm_instr *end, int t, int nt);

/* All threads of a run wait for each other. */
void nnm_meet(nnm_frame *frame);

/* Let Python see to signals, of which one may make the run fail: for long loops, now and then. Seconds of a clock. */
void nnm_signals(nnm_frame *frame);
double nnm_clock(void);
void nnm_plan_use_signals(void (*check)(nnm_frame *));

/* Run the shares of nt threads one after the other, from one meeting to the next: a test of what threads would do. Where
 * nt is negative, the last thread comes first. */
void nnm_walk_split(nnm_frame *frame, int nt);

/* Run on one thread, and say how many seconds each instruction took. */
void nnm_walk_timed(nnm_frame *frame, double *seconds);

/* Run a frame on up to nt threads of the pool, whose table is set once, at import; `seconds` is what one would take. */
void nnm_run_threads(nnm_frame *frame, struct nnm_barrier *barrier, int nt, double seconds);
void nnm_plan_use_pool(const void *table);

/* The exec function of a kind, by its name; NULL when there is none. */
nnm_exec nnm_kind(const char *name);

/* Inner loops have the signature of NumPy's ufunc loops, so that both serve in a micro-program: args are inputs, then
 * outputs; dims[0] elements; strides in bytes, 0 or the item size for the inputs of our own loops, the item size for
 * outputs. An output may be one of the inputs, exactly. */
typedef void (*nnm_loop)(char **args, const nnm_idx *dims, const nnm_idx *strides, void *data);

#endif
