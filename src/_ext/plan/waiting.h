/* How threads wait for a word of memory to change: spinning for a few microseconds, then asleep. */
#ifndef NNM_WAITING_H
#define NNM_WAITING_H

#include <stdatomic.h>

static inline void nnm_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* `yield` does nothing on most cores */
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* Whether the word is no longer `seen`, after at most so many looks with a pause between them. */
static inline int nnm_spin_while(atomic_uint *word, unsigned seen, int pauses)
{
    for (int i = 0; i < pauses; ++i) {
        if (atomic_load_explicit(word, memory_order_acquire) != seen)
            return 1;
        nnm_relax();
    }
    return 0;
}

/* Sleep until the word is no longer `seen`. Who changes it calls nnm_wake afterwards, with the same `sleepers`. */
void nnm_sleep_while(atomic_uint *word, unsigned seen, atomic_int *sleepers);
void nnm_wake(atomic_uint *word, atomic_int *sleepers);

/* Pauses before sleep: at a barrier and at the end of a run, and of a worker without work. A pause is 10 to 140 cycles,
 * so their number is measured, once and before there are workers. */
extern int nnm_pauses_meeting, nnm_pauses_idle;
void nnm_waiting_measure(void);

#endif
