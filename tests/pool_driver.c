/* Runs of the pool without Python: pool_driver THREADS RUNS CALLERS [CPUS]
 *
 * Each run has rounds in which every thread adds to its share and then sums the share of its neighbour, which is right
 * only when the barrier holds. With CPUS the program sees so many, whatever the machine has: then some workers of a run
 * come in time and others do not. Prints one line of counts; the exit status is 1 when a sum was wrong.
 */
#define _GNU_SOURCE
#include "plan/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LONGEST = 600, MOST_THREADS = 64, MOST_CALLERS = 64 };

static int seen_cpus;

#if defined(__linux__)
int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    CPU_ZERO(set);
    if (!seen_cpus)
        return syscall(SYS_sched_getaffinity, pid, size, set) < 0;
    for (int i = 0; i < seen_cpus; ++i)
        CPU_SET(i, set);
    return 0;
}

int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set)
{
    return seen_cpus ? -1 : (int)syscall(SYS_sched_setaffinity, pid, size, set);
}
#endif

typedef struct {
    long values[LONGEST], sums[8 * MOST_THREADS];
    int n, rounds, threads;
    int seen[MOST_THREADS]; /* how often each t came */
    long wrong;
    nnm_barrier barrier;
} work;

static void job(void *arg, int t, int nt)
{
    work *w = arg;
    const long low = (long)w->n * t / nt, high = (long)w->n * (t + 1) / nt;
    const int next = (t + 1) % nt;
    const long next_low = (long)w->n * next / nt, next_high = (long)w->n * (next + 1) / nt;
    nnm_barrier_join(&w->barrier, nt);
    w->seen[t]++;
    for (int r = 0; r < w->rounds; ++r) {
        for (long i = low; i < high; ++i)
            w->values[i] += i + r;
        nnm_barrier_wait(&w->barrier);
        long sum = 0;
        for (long i = next_low; i < next_high; ++i)
            sum += w->values[i];
        w->sums[8 * t] = sum;
        nnm_barrier_wait(&w->barrier);
        if (t == 0) {
            for (int k = 0; k < nt; ++k)
                sum = k ? sum + w->sums[8 * k] : w->sums[0];
            for (long i = 0; i < w->n; ++i)
                sum -= (r + 1) * i + r * (r + 1) / 2;
            w->wrong += sum != 0;
        }
    }
}

static int threads, runs;
static long wrong[MOST_CALLERS], parallel[MOST_CALLERS];

static void *caller(void *arg)
{
    const long id = (long)arg;
    work *w = malloc(sizeof *w);
    for (int k = 0; k < runs; ++k) {
        memset(w, 0, sizeof *w);
        w->n = 100 + k % (LONGEST - 100);
        w->rounds = k % 5;
        nnm_barrier_init(&w->barrier, threads);
        const int got = nnm_pool_run(job, w, threads, 0);
        for (int t = 0; t < MOST_THREADS; ++t)
            w->wrong += w->seen[t] != (t < got); /* each share by one thread */
        parallel[id] += got > 1;
        wrong[id] += w->wrong;
        if (k % 97 == 0)
            usleep(300); /* workers fall asleep */
    }
    free(w);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t handles[MOST_CALLERS];
    long all_wrong = 0, all_parallel = 0;
    if (argc < 4)
        return 2;
    threads = atoi(argv[1]);
    runs = atoi(argv[2]);
    const int callers = atoi(argv[3]);
    seen_cpus = argc > 4 ? atoi(argv[4]) : 0;
    nnm_pool_init();
    nnm_threads_set(threads);
    for (long i = 0; i < callers; ++i)
        pthread_create(&handles[i], NULL, caller, (void *)i);
    for (int i = 0; i < callers; ++i) {
        pthread_join(handles[i], NULL);
        all_wrong += wrong[i];
        all_parallel += parallel[i];
    }
    const nnm_pool_counts before = nnm_pool_read();
    nnm_pool_end();
    printf("wrong %ld several %ld", all_wrong, all_parallel);
#define COUNTER(name) printf(" " #name " %lld", before.name);
    NNM_POOL_COUNTERS
#undef COUNTER
    printf(" workers %d left %d\n", before.workers, nnm_pool_read().workers);
    return all_wrong != 0;
}
