/* Products that iterations take again and again, in one pass over the matrix. */
#ifndef NNM_LINALG_ONCE
#define NNM_LINALG_ONCE
#if defined(__GNUC__)
#define LINALG_INLINE static inline __attribute__((always_inline))
#else
#define LINALG_INLINE static inline
#endif
#endif

/* u = A x and y = A^T u, A read once from memory: what is added to y comes from the cache.
 *
 * a: (m, n), rows lda apart. x, y: (n,), u: (m,), distinct. y is overwritten, also where m = 0. Sums over a row are in the
 * element type, a part for each lane of a vector.
 *
 * The loops begin where the rows are aligned to a line of the cache: NumPy's memory is not, and each vector that lies across
 * two lines is read twice.
 *
 * With AVX-512 (Sapphire Rapids) two rows come from memory for their entries of u while the two before them are added to y: so
 * the one loop waits for memory alone, and more rows at a time are slower. With AVX2 (Zen 3) that loop has seven accesses for
 * two vectors of A, and four rows in two loops, with nine for four, take 0.82 of its time where a cache holds A and 0.9 where
 * none does.
 */
LINALG_INLINE nnm_idx NNM_FN(to_line)(const real_t *a, nnm_idx n)
{
    const nnm_idx past = (nnm_idx)((uintptr_t)a % 64), entries = (64 - past) % 64 / (nnm_idx)sizeof(real_t);
    return entries < n ? entries : n;
}

/* The rows from `first` on, one by one. */
LINALG_INLINE void NNM_FN(single_rows)(nnm_idx first, nnm_idx m, nnm_idx n, const real_t *a, nnm_idx lda,
                                       const real_t *NNM_RESTRICT x, real_t *NNM_RESTRICT u, real_t *NNM_RESTRICT y)
{
    for (nnm_idx i = first; i < m; ++i) {
        const real_t *c = a + i * lda;
        real_t s = 0;
        NNM_SIMD_SUM(s)
        for (nnm_idx j = 0; j < n; ++j)
            s += c[j] * x[j];
        u[i] = s;
        NNM_SIMD
        for (nnm_idx j = 0; j < n; ++j)
            y[j] += c[j] * s;
    }
}

#if defined(__AVX512F__)
LINALG_INLINE void NNM_FN(two_dots)(nnm_idx low, nnm_idx high, const real_t *NNM_RESTRICT c0, const real_t *NNM_RESTRICT c1,
                                    const real_t *NNM_RESTRICT x, real_t *NNM_RESTRICT u)
{
    real_t t0 = u[0], t1 = u[1];
    NNM_PRAGMA(omp simd reduction(+ : t0, t1))
    for (nnm_idx j = low; j < high; ++j) {
        t0 += c0[j] * x[j];
        t1 += c1[j] * x[j];
    }
    u[0] = t0;
    u[1] = t1;
}

LINALG_INLINE void NNM_FN(two_added)(nnm_idx low, nnm_idx high, const real_t *NNM_RESTRICT b0, const real_t *NNM_RESTRICT b1,
                                     const real_t s0, const real_t s1, real_t *NNM_RESTRICT y)
{
    NNM_SIMD
    for (nnm_idx j = low; j < high; ++j)
        y[j] += b0[j] * s0 + b1[j] * s1;
}

/* Both at once: dots of the rows c, and the rows b added. */
LINALG_INLINE void NNM_FN(two_steps)(nnm_idx low, nnm_idx high, const real_t *NNM_RESTRICT c0, const real_t *NNM_RESTRICT c1,
                                     const real_t *NNM_RESTRICT x, real_t *NNM_RESTRICT u, const real_t *NNM_RESTRICT b0,
                                     const real_t *NNM_RESTRICT b1, const real_t s0, const real_t s1, real_t *NNM_RESTRICT y)
{
    real_t t0 = u[0], t1 = u[1];
    NNM_PRAGMA(omp simd reduction(+ : t0, t1))
    for (nnm_idx j = low; j < high; ++j) {
        t0 += c0[j] * x[j];
        t1 += c1[j] * x[j];
        y[j] += b0[j] * s0 + b1[j] * s1;
    }
    u[0] = t0;
    u[1] = t1;
}

void NNM_FN(normal_rows)(nnm_idx m, nnm_idx n, const real_t *a, nnm_idx lda, const real_t *x, real_t *u, real_t *y)
{
    const nnm_idx head = NNM_FN(to_line)(a, n);
    nnm_idx i = 0;
    memset(y, 0, (size_t)n * sizeof(real_t));
    memset(u, 0, (size_t)m * sizeof(real_t));
    if (m >= 2) {
        NNM_FN(two_dots)(0, head, a, a + lda, x, u);
        NNM_FN(two_dots)(head, n, a, a + lda, x, u);
        for (i = 2; i + 2 <= m; i += 2) {
            const real_t *b = a + (i - 2) * lda, *c = a + i * lda;
            NNM_FN(two_steps)(0, head, c, c + lda, x, u + i, b, b + lda, u[i - 2], u[i - 1], y);
            NNM_FN(two_steps)(head, n, c, c + lda, x, u + i, b, b + lda, u[i - 2], u[i - 1], y);
        }
        NNM_FN(two_added)(0, head, a + (i - 2) * lda, a + (i - 1) * lda, u[i - 2], u[i - 1], y);
        NNM_FN(two_added)(head, n, a + (i - 2) * lda, a + (i - 1) * lda, u[i - 2], u[i - 1], y);
    }
    NNM_FN(single_rows)(i, m, n, a, lda, x, u, y);
}

#else

LINALG_INLINE void NNM_FN(four_dots)(nnm_idx low, nnm_idx high, const real_t *NNM_RESTRICT c, nnm_idx lda,
                                     const real_t *NNM_RESTRICT x, real_t *NNM_RESTRICT u)
{
    const real_t *c1 = c + lda, *c2 = c1 + lda, *c3 = c2 + lda;
    real_t t0 = 0, t1 = 0, t2 = 0, t3 = 0;
    NNM_PRAGMA(omp simd reduction(+ : t0, t1, t2, t3))
    for (nnm_idx j = low; j < high; ++j) {
        t0 += c[j] * x[j];
        t1 += c1[j] * x[j];
        t2 += c2[j] * x[j];
        t3 += c3[j] * x[j];
    }
    u[0] += t0;
    u[1] += t1;
    u[2] += t2;
    u[3] += t3;
}

LINALG_INLINE void NNM_FN(four_added)(nnm_idx low, nnm_idx high, const real_t *NNM_RESTRICT c, nnm_idx lda,
                                      const real_t *NNM_RESTRICT u, real_t *NNM_RESTRICT y)
{
    const real_t *c1 = c + lda, *c2 = c1 + lda, *c3 = c2 + lda;
    const real_t s0 = u[0], s1 = u[1], s2 = u[2], s3 = u[3];
    NNM_SIMD
    for (nnm_idx j = low; j < high; ++j)
        y[j] = y[j] + c[j] * s0 + c1[j] * s1 + c2[j] * s2 + c3[j] * s3;
}

void NNM_FN(normal_rows)(nnm_idx m, nnm_idx n, const real_t *a, nnm_idx lda, const real_t *x, real_t *u, real_t *y)
{
    const nnm_idx head = NNM_FN(to_line)(a, n);
    nnm_idx i = 0;
    memset(y, 0, (size_t)n * sizeof(real_t));
    memset(u, 0, (size_t)m * sizeof(real_t));
    for (; i + 4 <= m; i += 4) {
        const real_t *c = a + i * lda;
        NNM_FN(four_dots)(0, head, c, lda, x, u + i);
        NNM_FN(four_dots)(head, n, c, lda, x, u + i);
        NNM_FN(four_added)(0, head, c, lda, u + i, y);
        NNM_FN(four_added)(head, n, c, lda, u + i, y);
    }
    NNM_FN(single_rows)(i, m, n, a, lda, x, u, y);
}

#endif
