/* The pool. How a run begins:
 *
 *   the caller takes the pool (or runs alone), writes the job and opens the seats: one word with the number of the run,
 *   how many workers are wanted, how many came, and whether it is closed; then it rings each wanted worker;
 *   a worker claims a seat by compare-and-swap, which fails when the run is closed or another has begun;
 *   the last wanted worker closes the seats by claiming; else the caller does when its patience ends.
 *
 * So a worker that comes late finds a closed run, whatever it missed, and goes back to sleep. A worker claims at most
 * one seat of a run: it is rung once, and when the seats are full or closed nobody can claim.
 */
#if defined(__linux__)
#define _GNU_SOURCE /* syscall, sched_getcpu, CPU sets */
#endif
#include "plan/pool.h"
#include "plan/waiting.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/syscall.h>
#endif

/* Times in seconds. Chosen by measurement, see docs/threads.md. */
static const double PATIENCE = 40e-6;        /* how long a run waits for its workers */
static const double PATIENCE_LONG = 100e-6;  /* and one that takes longer than this: */
static const double LONG = 1e-3;
static const double BRIEF = 5e-6;            /* a run as short as this is not shared */
static const double WORTH_WAKING = 80e-6;    /* and one as short as this wakes nobody, */
static const double IN_A_ROW = 200e-6;       /* unless the last one began so recently */
static const double REST_LATE = 3e-3;        /* serial for this long after workers were late, */
static const double LOSS = 100e-6;           /* or after runs lost as much by them in a row (to wake them takes half of it): */
static const double RETURN = 16;             /* so many times what was lost, */
static const double REST_MOST = 2.0;         /* up to this */
static const double START = 2e-3;            /* how long the first run waits for its new workers */
static const double END = 0.1;               /* how long the end of the process waits for them */
enum { STACK = 4 << 20 };                    /* bytes; some systems give new threads too little for BLAS */

/* --- state ------------------------------------------------------------------------------------------------------- */
typedef struct {
    _Alignas(64) atomic_uint bell; /* counts the rings */
    atomic_int asleep;
    atomic_int cpu;                /* where it fell asleep; -1: not known */
    atomic_int moved;              /* its CPUs were restricted before it was woken */
    long tid;
    int id;
} nnm_worker;

static struct {
    _Alignas(64) atomic_int owned; /* a run has the pool */
    atomic_int setting;            /* of the user */
    atomic_int cpus;               /* that the caller's mask allows; 0: not looked yet */
    atomic_int rest_nt;            /* until `rest_end` no run has more threads than this */
    atomic_llong rest_end;         /* nanoseconds; 0: no rest */
    atomic_llong lost;             /* by runs with several threads, one after the other, in nanoseconds */
    atomic_int forked, ended;
    int workers;                   /* of the owner */
    double rest_late;              /* of the owner: the last rest after late workers, 0 when they came since */
    double last;                   /* of the owner: when the last run began that may not be worth waking anybody */
    atomic_int alive;

    _Alignas(64) atomic_ullong seats;
    nnm_job job;
    void *arg;
    _Alignas(64) atomic_uint finished; /* workers that have done their share of this run */
    atomic_int owner_asleep;
} pool = {.setting = 1};

static nnm_worker workers[NNM_THREADS_MOST];

static struct {
#define COUNTER(name) atomic_llong name;
    NNM_POOL_COUNTERS
#undef COUNTER
} counts;

#define COUNT(name) atomic_fetch_add_explicit(&counts.name, 1, memory_order_relaxed)

nnm_pool_counts nnm_pool_read(void)
{
    nnm_pool_counts now;
#define COUNTER(name) now.name = atomic_load_explicit(&counts.name, memory_order_relaxed);
    NNM_POOL_COUNTERS
#undef COUNTER
    now.workers = atomic_load(&pool.alive);
    return now;
}

int nnm_threads_get(void)
{
    return atomic_load_explicit(&pool.setting, memory_order_relaxed);
}

void nnm_threads_set(int n)
{
    atomic_store_explicit(&pool.setting, n < 1 ? 1 : n > NNM_THREADS_MOST ? NNM_THREADS_MOST : n, memory_order_relaxed);
    atomic_store(&pool.cpus, 0); /* a good moment to look again */
}

static long long nanoseconds(double seconds)
{
    return (long long)(1e9 * seconds);
}

static void rest(int nt, double seconds)
{
    atomic_store_explicit(&pool.rest_nt, nt, memory_order_relaxed);
    atomic_store_explicit(&pool.rest_end, nanoseconds(nnm_now() + seconds), memory_order_release);
}

void nnm_pool_feedback(double lost)
{
    const double sum = lost > 0 ? lost + 1e-9 * (double)atomic_load_explicit(&pool.lost, memory_order_relaxed) : 0;
    const int slow = sum >= LOSS;
    atomic_store_explicit(&pool.lost, slow ? 0 : nanoseconds(sum), memory_order_relaxed);
    if (slow) {
        rest(1, RETURN * sum < REST_MOST ? RETURN * sum : REST_MOST);
        COUNT(slow);
    }
}

/* --- CPUs -------------------------------------------------------------------------------------------------------- */
#if defined(__linux__)
static cpu_set_t allowed; /* for the owner's eyes only; empty when the system has more CPUs than the set can name */

static int count_cpus(void)
{
    if (sched_getaffinity(0, sizeof allowed, &allowed)) {
        CPU_ZERO(&allowed);
        return (int)sysconf(_SC_NPROCESSORS_ONLN);
    }
    return CPU_COUNT(&allowed);
}

/* Linux wakes a thread where it fell asleep when it can: on the caller's own CPU, if the caller has come there since.
 * Both would then run by turns. */
static void place(nnm_worker *w, cpu_set_t *used)
{
    const int cpu = atomic_load_explicit(&w->cpu, memory_order_relaxed);
    if (cpu < 0 || cpu >= CPU_SETSIZE)
        return;
    if (CPU_ISSET(cpu, used)) {
        cpu_set_t rest_of_them;
        CPU_XOR(&rest_of_them, &allowed, used);
        CPU_AND(&rest_of_them, &rest_of_them, &allowed);
        if (CPU_COUNT(&rest_of_them) && !sched_setaffinity((pid_t)w->tid, sizeof rest_of_them, &rest_of_them)) {
            atomic_store(&w->moved, 1);
            COUNT(placed);
        }
    } else
        CPU_SET(cpu, used);
}

/* Awake elsewhere, a worker may go where it likes again; of two CPUs the other one is right until the caller comes. */
static void settle(nnm_worker *w, const cpu_set_t *before)
{
    if (CPU_COUNT(before) > 2 && atomic_exchange(&w->moved, 0))
        sched_setaffinity(0, sizeof *before, before);
}
#else
static int count_cpus(void)
{
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}
#endif

/* --- seats: run number, closed, wanted, taken -------------------------------------------------------------------- */
enum { FIELD = 15 };
static const unsigned long long FIELD_MASK = (1u << FIELD) - 1, CLOSED = 1u << 2 * FIELD;

static inline int taken(unsigned long long seats)
{
    return (int)(seats & FIELD_MASK);
}

static inline int wanted(unsigned long long seats)
{
    return (int)(seats >> FIELD & FIELD_MASK);
}

static inline int settled(unsigned long long seats)
{
    return (seats & CLOSED) || taken(seats) == wanted(seats);
}

/* --- workers ----------------------------------------------------------------------------------------------------- */
static void serve(nnm_worker *w)
{
    unsigned long long seats = atomic_load_explicit(&pool.seats, memory_order_acquire);
    do {
        if (settled(seats) || w->id >= wanted(seats))
            return;
    } while (!atomic_compare_exchange_weak(&pool.seats, &seats, seats + 1));
    const int rank = taken(seats) + 1;
    for (int i = 0; !settled(seats = atomic_load_explicit(&pool.seats, memory_order_acquire)); ++i)
        if (i < nnm_pauses_idle)
            nnm_relax();
        else
            sched_yield(); /* the caller is not running */
    /* When all came, each has the share that it had the last time, which its cache may still hold. */
    pool.job(pool.arg, taken(seats) == wanted(seats) ? w->id + 1 : rank, taken(seats) + 1);
    atomic_fetch_add(&pool.finished, 1);
    nnm_wake(&pool.finished, &pool.owner_asleep);
}

static void *work(void *arg)
{
    nnm_worker *w = arg;
    unsigned seen = 0;
#if defined(__linux__)
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask))
        CPU_ZERO(&mask);
    w->tid = syscall(SYS_gettid);
#endif
    atomic_fetch_add(&pool.alive, 1);
    while (!atomic_load(&pool.ended)) {
        if (!nnm_spin_while(&w->bell, seen, nnm_pauses_idle)) {
#if defined(__linux__)
            atomic_store_explicit(&w->cpu, sched_getcpu(), memory_order_relaxed);
#endif
            nnm_sleep_while(&w->bell, seen, &w->asleep);
#if defined(__linux__)
            settle(w, &mask);
#endif
        }
        seen = atomic_load(&w->bell);
        serve(w);
    }
    atomic_fetch_sub(&pool.alive, 1);
    return NULL;
}

/* Start workers until there are `count`, as far as the system gives them. */
static void start(int count)
{
    pthread_attr_t attr;
    sigset_t all, before;
    nnm_waiting_measure();
    if (pthread_attr_init(&attr))
        return;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* workers take no signals: Ctrl-C goes to the main thread */
    while (pool.workers < count) {
        nnm_worker *w = &workers[pool.workers];
        pthread_t thread;
        w->id = pool.workers;
        atomic_store(&w->cpu, -1);
        if (pthread_create(&thread, &attr, work, w))
            break;
        ++pool.workers;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    for (const double end = nnm_now() + START; atomic_load(&pool.alive) < pool.workers && nnm_now() < end;)
        sched_yield();
}

/* Ring the first `count` workers. */
static void ring(int count)
{
#if defined(__linux__)
    cpu_set_t used;
    int looked = 0;
#endif
    for (int i = 0; i < count; ++i) {
        nnm_worker *w = &workers[i];
        if (atomic_load(&w->asleep)) {
#if defined(__linux__)
            if (!looked) {
                const int mine = sched_getcpu();
                CPU_ZERO(&used);
                if (mine >= 0 && mine < CPU_SETSIZE)
                    CPU_SET(mine, &used);
                looked = 1;
            }
            place(w, &used);
#endif
        }
        atomic_fetch_add(&w->bell, 1);
        nnm_wake(&w->bell, &w->asleep);
    }
}

/* --- runs -------------------------------------------------------------------------------------------------------- */

/* The most threads that may be had now. */
static int at_most(int nt)
{
    const int setting = nnm_threads_get();
    nt = nt < setting ? nt : setting;
    if (nt <= 1 || atomic_load_explicit(&pool.forked, memory_order_relaxed)
        || atomic_load_explicit(&pool.ended, memory_order_relaxed)) {
        COUNT(alone);
        return 1;
    }
    const long long rest_end = atomic_load_explicit(&pool.rest_end, memory_order_acquire);
    if (rest_end) {
        if (nanoseconds(nnm_now()) < rest_end) {
            const int most = atomic_load_explicit(&pool.rest_nt, memory_order_relaxed);
            if (most <= 1)
                COUNT(resting);
            return nt < most ? nt : most;
        }
        atomic_store_explicit(&pool.rest_end, 0, memory_order_relaxed);
    }
    return nt;
}

static int awake(int count)
{
    for (int i = 0; i < count; ++i)
        if (atomic_load_explicit(&workers[i].asleep, memory_order_relaxed))
            return 0;
    return 1;
}

/* Whether a run is worth sharing: to wake a worker costs some ten microseconds, which pay when more runs follow. */
static int worth_it(int count, double seconds)
{
    if (!(seconds > 0 && seconds < WORTH_WAKING))
        return 1;
    const double now = nnm_now(), before = pool.last;
    pool.last = now;
    return now - before < IN_A_ROW || awake(count);
}

/* Take the pool and seat its workers for a job: the number of threads, 1 when the pool was not taken. */
static int gather(nnm_job job, void *arg, int nt, double seconds)
{
    int free = 0;
    COUNT(runs);
    if (seconds > 0 && seconds < BRIEF) {
        COUNT(brief);
        return 1;
    }
    if ((nt = at_most(nt)) == 1)
        return 1;
    if (!atomic_compare_exchange_strong(&pool.owned, &free, 1)) {
        COUNT(busy);
        return 1;
    }
    int cpus = atomic_load_explicit(&pool.cpus, memory_order_relaxed);
    if (!cpus)
        atomic_store_explicit(&pool.cpus, cpus = count_cpus(), memory_order_relaxed);
    nt = nt < cpus ? nt : cpus;
    if (pool.workers < nt - 1)
        start(nt - 1);
    nt = nt < pool.workers + 1 ? nt : pool.workers + 1;
    if (nt <= 1 || !worth_it(nt - 1, seconds)) {
        if (nt <= 1)
            COUNT(alone);
        else
            COUNT(brief);
        atomic_store(&pool.owned, 0);
        return 1;
    }

    pool.job = job;
    pool.arg = arg;
    atomic_store_explicit(&pool.finished, 0, memory_order_relaxed);
    unsigned long long seats = (atomic_load_explicit(&pool.seats, memory_order_relaxed) >> 32) + 1;
    seats = seats << 32 | (unsigned long long)(nt - 1) << FIELD;
    atomic_store_explicit(&pool.seats, seats, memory_order_release);
    ring(nt - 1);
    double end = 0;
    for (int i = 1; !settled(seats = atomic_load_explicit(&pool.seats, memory_order_acquire)); ++i) {
        nnm_relax();
        if (i % 16)
            continue;
        const double now = nnm_now();
        if (!end)
            end = now + (seconds > LONG ? PATIENCE_LONG : PATIENCE);
        else if (now > end && atomic_compare_exchange_strong(&pool.seats, &seats, seats | CLOSED))
            break;
    }
    const int got = taken(seats) + 1;
    if (got == nt) {
        COUNT(parallel);
        pool.rest_late = 0;
        return got;
    }
    pool.rest_late = !pool.rest_late ? REST_LATE : 2 * pool.rest_late < REST_MOST ? 2 * pool.rest_late : REST_MOST;
    rest(got, pool.rest_late);
    atomic_store_explicit(&pool.cpus, 0, memory_order_relaxed); /* the mask may have changed */
    if (got > 1)
        COUNT(fewer);
    else {
        COUNT(late);
        atomic_store(&pool.owned, 0);
    }
    return got;
}

static void blas_enter(void);
static void blas_leave(void);

int nnm_pool_run(nnm_job job, void *arg, int nt, double seconds)
{
    blas_enter();
    const int got = nt > 1 ? gather(job, arg, nt, seconds) : 1;
    job(arg, 0, got);
    if (got > 1) {
        for (unsigned done; (done = atomic_load_explicit(&pool.finished, memory_order_acquire)) != (unsigned)got - 1;)
            if (!nnm_spin_while(&pool.finished, done, nnm_pauses_meeting))
                nnm_sleep_while(&pool.finished, done, &pool.owner_asleep);
        atomic_store(&pool.owned, 0);
    }
    blas_leave();
    return got;
}

/* --- BLAS: one thread while any run is under way ----------------------------------------------------------------- */
static struct {
    pthread_mutex_t lock;
    int runs;
    int before; /* its number of threads outside of runs; 0: to be asked */
    nnm_blas_set set;
    nnm_blas_get get;
} blas = {.lock = PTHREAD_MUTEX_INITIALIZER};

void nnm_pool_blas(nnm_blas_set set, nnm_blas_get get)
{
    blas.set = set;
    blas.get = get;
}

static void blas_enter(void)
{
    if (!blas.set)
        return;
    pthread_mutex_lock(&blas.lock);
    if (!blas.runs++) {
        if (!blas.before)
            blas.before = blas.get();
        if (blas.get() != 1)
            blas.set(1);
    }
    pthread_mutex_unlock(&blas.lock);
}

static void blas_leave(void)
{
    if (!blas.set)
        return;
    pthread_mutex_lock(&blas.lock);
    if (!--blas.runs) {
        if (blas.before != 1 && blas.get() == 1) /* else somebody has set it meanwhile */
            blas.set(blas.before);
        blas.before = 0;
    }
    pthread_mutex_unlock(&blas.lock);
}

/* --- beginning and end of a process ------------------------------------------------------------------------------ */

/* No thread may be inside of BLAS's own administration while another one forks, or the child inherits its lock. */
static void before_fork(void)
{
    pthread_mutex_lock(&blas.lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&blas.lock);
}

/* The child of a fork has only the thread that forked. It starts none: there may be many children, and what other
 * threads held at the fork stays as it was. When a run was under way, BLAS is at 1 there; the first run of the child
 * gives it back its number. */
static void in_child(void)
{
    atomic_store(&pool.forked, 1);
    atomic_store(&pool.alive, 0);
    blas.runs = 0;
    pthread_mutex_init(&blas.lock, NULL);
}

void nnm_pool_init(void)
{
    static atomic_int done;
    if (!atomic_exchange(&done, 1))
        pthread_atfork(before_fork, after_fork, in_child); /* handlers registered last are the first before a fork */
}

void nnm_pool_end(void)
{
    if (atomic_load(&pool.forked) || atomic_exchange(&pool.ended, 1))
        return;
    const double end = nnm_now() + END;
    for (int free = 0; !atomic_compare_exchange_strong(&pool.owned, &free, 1); free = 0) {
        if (nnm_now() > end)
            return; /* a thread of the interpreter that nobody waits for is in a run */
        sched_yield();
    }
    ring(pool.workers);
    while (atomic_load(&pool.alive) > 0 && nnm_now() < end)
        sched_yield();
    atomic_store(&pool.owned, 0);
}

const nnm_pool_table nnm_pool = {
    .run = nnm_pool_run,
    .barrier_init = nnm_barrier_init,
    .barrier_wait = nnm_barrier_wait,
    .barrier_waited = nnm_barrier_waited,
    .now = nnm_now,
    .threads_get = nnm_threads_get,
    .threads_set = nnm_threads_set,
    .feedback = nnm_pool_feedback,
};
