/* Threads of runs: a pool that meets for one job at a time, and the barrier by which the threads of a job wait for
 * each other.
 *
 * The number of threads of a run is settled when it begins. Workers that do not come within some ten microseconds are
 * not waited for: the run goes on without them, and so do those of the next milliseconds. Waiting means a few
 * microseconds of spinning, then sleep. The state is one for the process and lives in the module `_threads`; other
 * modules call it through the table below (`_threads.pxd`).
 */
#ifndef NNM_POOL_H
#define NNM_POOL_H

#include <stdatomic.h>

typedef void (*nnm_job)(void *arg, int t, int nt);

enum { NNM_THREADS_MOST = 1024 };

/* Run job(arg, t, got) for t = 0..got-1, each on a thread of its own, t = 0 on the caller's, and return got <= nt. It
 * is 1 when the workers did not come, when another run has the pool (also the one that calls this, from its job), in a
 * forked child, and for a run too short to share. `seconds` is what one thread would take, or 0 when nobody knows. BLAS
 * has one thread meanwhile, whatever got is. */
int nnm_pool_run(nnm_job job, void *arg, int nt, double seconds);

/* In memory of the caller, which is free again when the run has returned. */
typedef struct nnm_barrier {
    atomic_uint phase;   /* meetings so far */
    atomic_int arrived;
    atomic_int nt;
    atomic_int sleepers;
    atomic_llong waited; /* nanoseconds, of all threads; waits of less than a microsecond are not counted */
} nnm_barrier;

void nnm_barrier_init(nnm_barrier *b, int nt);

/* Each thread of a job says, before it first waits, how many there are: the run may have got fewer than it wanted. */
static inline void nnm_barrier_join(nnm_barrier *b, int nt)
{
    atomic_store_explicit(&b->nt, nt, memory_order_relaxed);
}

/* Return when all threads are here; what they wrote before is then seen by all. */
void nnm_barrier_wait(nnm_barrier *b);

/* Seconds that those who came early have waited for the last, on average. */
double nnm_barrier_waited(const nnm_barrier *b);

/* Seconds of a clock that only goes forward. */
double nnm_now(void);

/* The most threads that a run may have, as set by the user: of all runs that begin from now on. */
int nnm_threads_get(void);
void nnm_threads_set(int n);

/* Tell the pool that a run with several threads took `lost` seconds longer than one takes alone (negative: it gained).
 * When runs in a row have lost a tenth of a millisecond, something else is using a core, and runs are serial for sixteen
 * times as long. */
void nnm_pool_feedback(double lost);

typedef struct {
    int (*run)(nnm_job, void *, int, double);
    void (*barrier_init)(nnm_barrier *, int);
    void (*barrier_wait)(nnm_barrier *);
    double (*barrier_waited)(const nnm_barrier *);
    double (*now)(void);
    int (*threads_get)(void);
    void (*threads_set)(int);
    void (*feedback)(double);
} nnm_pool_table;

extern const nnm_pool_table nnm_pool;

/* --- what only the door `_threads` calls ----------------------------------------------------------------------- */

void nnm_pool_init(void); /* once; starts no thread */
void nnm_pool_end(void);  /* at the end of the process: workers leave, later runs are serial */

/* How BLAS is told its number of threads, and asked for it; without both it keeps its own. */
typedef void (*nnm_blas_set)(int);
typedef int (*nnm_blas_get)(void);
void nnm_pool_blas(nnm_blas_set set, nnm_blas_get get);

/* COUNTER(name): how often. */
#define NNM_POOL_COUNTERS                                                          \
    COUNTER(runs)     /* that asked for several threads */                         \
    COUNTER(parallel) /* that had all they asked for */                            \
    COUNTER(fewer)    /* that went on with some of their workers */                \
    COUNTER(late)     /* that went on alone, since no worker came in time */       \
    COUNTER(resting)  /* serial, since workers were late or slow just before */    \
    COUNTER(busy)     /* serial, since another run had the pool */                 \
    COUNTER(brief)    /* serial, since they are too short, or too short to wake */ \
    COUNTER(alone)    /* serial, since there is one CPU, one thread, or a fork */  \
    COUNTER(placed)   /* workers moved from the caller's CPU before they woke */   \
    COUNTER(slow)     /* feedbacks that made runs serial */

typedef struct {
#define COUNTER(name) long long name;
    NNM_POOL_COUNTERS
#undef COUNTER
    int workers;
} nnm_pool_counts;

nnm_pool_counts nnm_pool_read(void);

#endif
