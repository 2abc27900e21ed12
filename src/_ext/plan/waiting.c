/* How threads wait: the clock, spinning, sleep, and the barrier. */
#if defined(__linux__)
#define _GNU_SOURCE /* syscall */
#endif
#include "plan/waiting.h"
#include "plan/pool.h"

#include <pthread.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__) && !defined(NNM_NO_FUTEX)
#define NNM_FUTEX 1
#include <linux/futex.h>
#include <sys/syscall.h>
#else
#define NNM_FUTEX 0
#endif

static const double SPIN_MEETING = 8e-6; /* seconds of spinning before sleep: at a barrier and at the end of a run */
static const double SPIN_IDLE = 20e-6;   /* and of a worker without work */

int nnm_pauses_meeting = 200, nnm_pauses_idle = 500;

double nnm_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* --- sleep until a word changes --------------------------------------------------------------------------------- */
#if NNM_FUTEX
static void sleep_on(atomic_uint *word, unsigned seen)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void wake_all(atomic_uint *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}
#else
/* One condition for all words: those whom a change does not concern look and go back to sleep. */
static pthread_mutex_t sleep_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t sleep_end = PTHREAD_COND_INITIALIZER;

static void sleep_on(atomic_uint *word, unsigned seen)
{
    pthread_mutex_lock(&sleep_lock);
    while (atomic_load(word) == seen)
        pthread_cond_wait(&sleep_end, &sleep_lock);
    pthread_mutex_unlock(&sleep_lock);
}

static void wake_all(atomic_uint *word)
{
    (void)word;
    pthread_mutex_lock(&sleep_lock); /* else the change may fall between their look and their sleep */
    pthread_cond_broadcast(&sleep_end);
    pthread_mutex_unlock(&sleep_lock);
}
#endif

/* The order of `sleepers` and `word`, and in `nnm_wake` the opposite one, is sequentially consistent: either the
 * sleeper sees the change or the waker sees the sleeper. */
void nnm_sleep_while(atomic_uint *word, unsigned seen, atomic_int *sleepers)
{
    atomic_fetch_add(sleepers, 1);
    while (atomic_load(word) == seen)
        sleep_on(word, seen);
    atomic_fetch_sub(sleepers, 1);
}

void nnm_wake(atomic_uint *word, atomic_int *sleepers)
{
    if (atomic_load(sleepers) > 0)
        wake_all(word);
}

/* How many pauses take this long: a pause is 10 to 140 cycles. */
static int pauses_in(double seconds)
{
    enum { MANY = 128 };
    double least = 1.0;
    for (int k = 0; k < 5; ++k) {
        const double start = nnm_now();
        for (int i = 0; i < MANY; ++i)
            nnm_relax();
        const double took = nnm_now() - start;
        least = took < least ? took : least;
    }
    const double pauses = least > 0 ? MANY * seconds / least : 1000;
    return pauses < 100 ? 100 : pauses > 4000 ? 4000 : (int)pauses;
}

void nnm_waiting_measure(void)
{
    static int done;
    if (done)
        return;
    nnm_pauses_meeting = pauses_in(SPIN_MEETING);
    nnm_pauses_idle = pauses_in(SPIN_IDLE);
    done = 1;
}

/* --- barrier ------------------------------------------------------------------------------------------------------ */
void nnm_barrier_init(nnm_barrier *b, int nt)
{
    atomic_init(&b->phase, 0);
    atomic_init(&b->arrived, 0);
    atomic_init(&b->nt, nt);
    atomic_init(&b->sleepers, 0);
    atomic_init(&b->waited, 0);
}

void nnm_barrier_wait(nnm_barrier *b)
{
    enum { AT_ONCE = 16 }; /* pauses that are not worth a look at the clock */
    const int nt = atomic_load_explicit(&b->nt, memory_order_relaxed);
    if (nt <= 1)
        return;
    const unsigned phase = atomic_load_explicit(&b->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) == nt - 1) {
        atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
        atomic_fetch_add(&b->phase, 1);
        nnm_wake(&b->phase, &b->sleepers);
        return;
    }
    if (nnm_spin_while(&b->phase, phase, AT_ONCE))
        return;
    const double start = nnm_now();
    if (!nnm_spin_while(&b->phase, phase, nnm_pauses_meeting))
        nnm_sleep_while(&b->phase, phase, &b->sleepers);
    atomic_fetch_add_explicit(&b->waited, (long long)(1e9 * (nnm_now() - start)), memory_order_relaxed);
}

double nnm_barrier_waited(const nnm_barrier *b)
{
    const int nt = atomic_load_explicit(&b->nt, memory_order_relaxed);
    return nt > 1 ? 1e-9 * (double)atomic_load_explicit(&b->waited, memory_order_relaxed) / (nt - 1) : 0.0;
}
