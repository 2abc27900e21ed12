/* What memory can do at best: copies with ordinary and with non-temporal stores, and one read, shared among threads.
 * Compiled when floors are measured (floors.py); no part of the package. */

#include <pthread.h>
#include <stddef.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum { COPY, STREAM, READ, MOST = 64 };

struct job { int kind; float *to; const float *from; size_t n; float sum; };

static void stream(float *to, const float *from, size_t n) {
#if defined(__SSE2__)
    for (size_t i = 0; i + 16 <= n; i += 16) {      /* a cache line at a time; `to` is aligned to one */
        __m128 a = _mm_loadu_ps(from + i), b = _mm_loadu_ps(from + i + 4);
        __m128 c = _mm_loadu_ps(from + i + 8), d = _mm_loadu_ps(from + i + 12);
        _mm_stream_ps(to + i, a), _mm_stream_ps(to + i + 4, b);
        _mm_stream_ps(to + i + 8, c), _mm_stream_ps(to + i + 12, d);
    }
    _mm_sfence();
#else
    memcpy(to, from, n * sizeof *to);
#endif
}

static float read_all(const float *from, size_t n) {
    float s[64] = {0}, total = 0;
    for (size_t i = 0; i + 64 <= n; i += 64)
        for (int j = 0; j < 64; j++) s[j] += from[i + j];
    for (int j = 0; j < 64; j++) total += s[j];
    return total;
}

static void *work(void *given) {
    struct job *j = given;
    if (j->kind == COPY) memcpy(j->to, j->from, j->n * sizeof *j->to);
    else if (j->kind == STREAM) stream(j->to, j->from, j->n);
    else j->sum = read_all(j->from, j->n);
    return NULL;
}

/* One pass over n numbers (n a multiple of 64) by nt threads; the sum of what was read, 0 for copies. */
float nnm_pass(int kind, float *to, const float *from, size_t n, int nt) {
    struct job jobs[MOST];
    pthread_t threads[MOST];
    int started[MOST] = {0};
    float sum = 0;
    if (nt > MOST) nt = MOST;
    size_t blocks = n / 64;
    for (int t = 0; t < nt; t++) {
        size_t low = blocks * t / nt * 64, high = blocks * (t + 1) / nt * 64;
        jobs[t] = (struct job){kind, to ? to + low : to, from + low, high - low, 0};
        if (t + 1 < nt) started[t] = !pthread_create(&threads[t], NULL, work, &jobs[t]);
    }
    work(&jobs[nt - 1]);
    for (int t = 0; t + 1 < nt; t++) {
        if (started[t]) pthread_join(threads[t], NULL);
        else work(&jobs[t]);
    }
    for (int t = 0; t < nt; t++) sum += jobs[t].sum;
    return sum;
}
