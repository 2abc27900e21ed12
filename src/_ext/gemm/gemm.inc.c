/* C (m, n) = A (m, k) B (k, n), or C += A B where it `adds`.
 *
 * gemm: blocked for registers alone, for products too small to pay for packing. A is read at a[i * ra + p * ka], where ra or ka is 1; B at b[p * kb + j * nb], any strides; C lies at
 * c[i * ldc + j]. Each entry of C is one chain of fused multiply-adds in the order of p, whatever block it is in, so the
 * bits do not depend on how rows and columns are dealt to threads. Where B has unit stride in n its rows are read as they
 * are, unless they are many and read by many rows of A; else it is packed, a panel of columns and some rows at a time.
 *
 * gemm_packed: for larger products, in packed.inc.c.
 *
 * Both add a row to C and apply an activation before they store it, where `finish` says so: see after.h.
 *
 * gemm_dots: B has unit stride in k and so has A: entries of C are dot products. For few rows, which do not pay for packing.
 *
 * c: distinct from a and b. Nothing beside the entries of A is read; of B, what lies between its entries may be read and
 * is not used.
 */
#include "gemm/after.h"

#ifndef NNM_GEMM_ONCE
#define NNM_GEMM_ONCE
#if !defined(__GNUC__)
#define GEMM_BYTES 0 /* no vector types: one number at a time */
#define GEMM_MR 4
#define GEMM_NV 4
#define GEMM_PR 4
#elif defined(__AVX512F__)
#include <immintrin.h>
#define GEMM_BYTES 64
#define GEMM_MR 8
#define GEMM_NV 3
#define GEMM_PR 14
#elif defined(__AVX__)
#define GEMM_BYTES 32
#define GEMM_MR 6
#define GEMM_NV 2
#define GEMM_PR 6
#else
#define GEMM_BYTES 16
#define GEMM_MR 6
#define GEMM_NV 2
#define GEMM_PR 6
#endif
#define GEMM_KC 128 /* rows of a packed panel */
/* Of gemm_packed: a tile has GEMM_PR rows and GEMM_PV vectors, a block of B GEMM_DEPTH rows (half as many of double) and
 * GEMM_WIDE columns, which meets GEMM_TALL rows of A; up to GEMM_FEW rows read B of at most GEMM_NEAR bytes where it is. */
#define GEMM_PV 2
#if GEMM_BYTES == 64
#define GEMM_DEPTH 384
#define GEMM_WIDE 384
#define GEMM_NEAR PTRDIFF_MAX
#else /* 196 KB: the second-level cache has 256 to 512, which a neighbour on the same core shares */
#define GEMM_DEPTH 256
#define GEMM_WIDE 192
#define GEMM_NEAR (1 << 19)
#endif
#define GEMM_FEW 256
#define GEMM_TALL (1036 / GEMM_PR * GEMM_PR)
#if GEMM_PR == 14
#define GEMM_HEIGHTS(F) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14)
#elif GEMM_PR == 6
#define GEMM_HEIGHTS(F) F(1) F(2) F(3) F(4) F(5) F(6)
#else
#define GEMM_HEIGHTS(F) F(1) F(2) F(3) F(4)
#endif
#ifdef __has_builtin
#define GEMM_SHUFFLES (GEMM_BYTES && __has_builtin(__builtin_shufflevector))
#else
#define GEMM_SHUFFLES 0
#endif
#if defined(__GNUC__)
#define GEMM_INLINE static inline __attribute__((always_inline))
#define GEMM_UNROLL _Pragma("GCC unroll 16")
#define GEMM_FETCH(place) __builtin_prefetch(place)
#define GEMM_FETCH_L2(place) __builtin_prefetch(place, 0, 2)
#else
#define GEMM_FETCH(place) (void)(place)
#define GEMM_FETCH_L2(place) (void)(place)
#define GEMM_INLINE static inline
#define GEMM_UNROLL
#endif
#endif

#undef vec_t
#undef mask_t
#undef quad_t
#undef VL
#if GEMM_BYTES
#define mask_t NNM_FN(mask)
#define quad_t NNM_FN(quad)
#if NNM_IS_F32
typedef int32_t mask_t __attribute__((vector_size(GEMM_BYTES), aligned(4), may_alias));
#else
typedef int64_t mask_t __attribute__((vector_size(GEMM_BYTES), aligned(8), may_alias));
#endif
typedef real_t quad_t __attribute__((vector_size(4 * sizeof(real_t)), aligned(sizeof(real_t)), may_alias));
#define vec_t NNM_FN(vec)
typedef real_t vec_t __attribute__((vector_size(GEMM_BYTES), aligned(sizeof(real_t)), may_alias));
#define VL ((nnm_idx)(GEMM_BYTES / sizeof(real_t)))
#else
#define vec_t real_t
#define VL ((nnm_idx)1)
#endif

/* The first n entries at `from`, the other lanes whatever they were in `x`. */
GEMM_INLINE vec_t NNM_FN(get)(const real_t *from, vec_t x, nnm_idx n)
{
#if GEMM_BYTES == 64 && NNM_IS_F32
    return (vec_t)_mm512_mask_loadu_ps((__m512)x, (__mmask16)(0xFFFFu >> (16 - n)), from);
#elif GEMM_BYTES == 64
    return (vec_t)_mm512_mask_loadu_pd((__m512d)x, (__mmask8)(0xFFu >> (8 - n)), from);
#else
    memcpy(&x, from, (size_t)n * sizeof(real_t));
    return x;
#endif
}

/* The first n lanes of x; there is at least one. By a mask that costs what a whole vector does, by memcpy a call. */
GEMM_INLINE void NNM_FN(put)(real_t *to, vec_t x, nnm_idx n)
{
#if GEMM_BYTES == 64 && NNM_IS_F32
    _mm512_mask_storeu_ps(to, (__mmask16)(0xFFFFu >> (16 - n)), (__m512)x);
#elif GEMM_BYTES == 64
    _mm512_mask_storeu_pd(to, (__mmask8)(0xFFu >> (8 - n)), (__m512d)x);
#else
    memcpy(to, &x, (size_t)n * sizeof(real_t));
#endif
}

/* An nnm_finish from some column on. */
typedef struct {
    const real_t *row;
    int relu;
} NNM_FN(finish);

static inline NNM_FN(finish) NNM_FN(finish_from)(const nnm_finish *f, nnm_idx col)
{
    return (NNM_FN(finish)){f->row ? (const real_t *)f->row + col : NULL, f->relu};
}

/* What is added to n columns, a vector at most, from `col` on: without a row -0.0, with which every number stays what it
 * is. */
GEMM_INLINE vec_t NNM_FN(row_of)(const NNM_FN(finish) *f, nnm_idx col, nnm_idx n)
{
    const vec_t none = -(vec_t){0};
    return !f->row ? none : n == VL ? *(const vec_t *)(f->row + col) : NNM_FN(get)(f->row + col, none, n);
}

/* 0 where x <= 0, else x. */
GEMM_INLINE vec_t NNM_FN(rectified)(vec_t x)
{
#if GEMM_BYTES == 64 && NNM_IS_F32
    return (vec_t)_mm512_maskz_mov_ps(_mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_NLE_UQ), (__m512)x);
#elif GEMM_BYTES == 64
    return (vec_t)_mm512_maskz_mov_pd(_mm512_cmp_pd_mask((__m512d)x, _mm512_setzero_pd(), _CMP_NLE_UQ), (__m512d)x);
#elif GEMM_BYTES
    return (vec_t)((mask_t)x & ~(mask_t)(x <= (vec_t){0}));
#else
    return x <= 0 ? 0 : x;
#endif
}

/* A panel of B: `rows` of them at b, `tail` more, which end in zeros, at t. */
typedef struct {
    const real_t *b;
    nnm_idx kb, rows;
    const real_t *t;
    nnm_idx tail;
    const NNM_FN(finish) *finish; /* of its columns, with its rows C is whole; or NULL */
} NNM_FN(panel);

/* mr rows and nv vectors of C, the last of them with `edge` entries. */
GEMM_INLINE void NNM_FN(block)(const int mr, const int nv, const int along_k, const real_t *a, nnm_idx ra, nnm_idx ka,
                               const NNM_FN(panel) *s, real_t *c, nnm_idx ldc, nnm_idx edge, const int first)
{
    vec_t acc[GEMM_MR][GEMM_NV];
    const real_t *row[GEMM_MR];
    GEMM_UNROLL
    for (int i = 0; i < mr; ++i) {
        row[i] = a + i * ra;
        GEMM_UNROLL
        for (int v = 0; v < nv; ++v)
            acc[i][v] = (vec_t){0};
        if (!first) {
            GEMM_UNROLL
            for (int v = 0; v < nv - 1; ++v)
                acc[i][v] = *(const vec_t *)(c + i * ldc + v * VL);
            acc[i][nv - 1] = NNM_FN(get)(c + i * ldc + (nv - 1) * VL, acc[i][nv - 1], edge);
        }
    }
    const real_t *b = s->b;
    for (nnm_idx p = 0; p < s->rows; ++p, b += s->kb) {
        vec_t x[GEMM_NV];
        GEMM_UNROLL
        for (int v = 0; v < nv; ++v)
            x[v] = *(const vec_t *)(b + v * VL);
        GEMM_UNROLL
        for (int i = 0; i < mr; ++i) {
            const real_t y = along_k ? row[i][p] : a[p * ka + i];
            GEMM_UNROLL
            for (int v = 0; v < nv; ++v)
                acc[i][v] += y * x[v];
        }
    }
    for (nnm_idx p = s->rows, q = 0; q < s->tail; ++p, ++q)
        for (int i = 0; i < mr; ++i) {
            const real_t y = along_k ? row[i][p] : a[p * ka + i];
            GEMM_UNROLL
            for (int v = 0; v < nv; ++v)
                acc[i][v] += y * *(const vec_t *)(s->t + (q * nv + v) * VL);
        }
    if (s->finish) {
        GEMM_UNROLL
        for (int v = 0; v < nv; ++v) {
            const vec_t y = NNM_FN(row_of)(s->finish, v * VL, v < nv - 1 ? VL : edge);
            GEMM_UNROLL
            for (int i = 0; i < mr; ++i)
                acc[i][v] += y;
        }
        if (s->finish->relu) {
            GEMM_UNROLL
            for (int i = 0; i < mr; ++i) {
                GEMM_UNROLL
                for (int v = 0; v < nv; ++v)
                    acc[i][v] = NNM_FN(rectified)(acc[i][v]);
            }
        }
    }
    GEMM_UNROLL
    for (int i = 0; i < mr; ++i) {
        GEMM_UNROLL
        for (int v = 0; v < nv - 1; ++v)
            *(vec_t *)(c + i * ldc + v * VL) = acc[i][v];
        if (edge == VL)
            *(vec_t *)(c + i * ldc + (nv - 1) * VL) = acc[i][nv - 1];
        else
            NNM_FN(put)(c + i * ldc + (nv - 1) * VL, acc[i][nv - 1], edge);
    }
}

#define GEMM_ROWS(mr)                                                                                  \
    case mr:                                                                                           \
        if (along_k)                                                                                   \
            NNM_FN(block)(mr, nv, 1, a, ra, ka, s, c, ldc, edge, first);                               \
        else                                                                                           \
            NNM_FN(block)(mr, nv, 0, a, ra, ka, s, c, ldc, edge, first);                               \
        break;

/* All rows of one panel of nv vectors, in blocks of about the same height. */
GEMM_INLINE void NNM_FN(rows)(const int nv, nnm_idx m, const real_t *a, nnm_idx ra, nnm_idx ka, const NNM_FN(panel) *s,
                              real_t *c, nnm_idx ldc, nnm_idx edge, const int first)
{
    const int along_k = ka == 1;
    const nnm_idx blocks = (m + GEMM_MR - 1) / GEMM_MR;
    for (nnm_idx q = 0; q < blocks; ++q) {
        const nnm_idx height = m / blocks + (q < m % blocks);
        switch (height) {
            GEMM_ROWS(1)
            GEMM_ROWS(2)
            GEMM_ROWS(3)
            GEMM_ROWS(4)
#if GEMM_MR > 4
            GEMM_ROWS(5)
            GEMM_ROWS(6)
#endif
#if GEMM_MR > 6
            GEMM_ROWS(7)
            GEMM_ROWS(8)
#endif
        default: break;
        }
        a += height * ra;
        c += height * ldc;
    }
}

static void NNM_FN(rows1)(nnm_idx m, const real_t *a, nnm_idx ra, nnm_idx ka, const NNM_FN(panel) *s, real_t *c,
                          nnm_idx ldc, nnm_idx edge, int first)
{
    NNM_FN(rows)(1, m, a, ra, ka, s, c, ldc, edge, first);
}

static void NNM_FN(rows2)(nnm_idx m, const real_t *a, nnm_idx ra, nnm_idx ka, const NNM_FN(panel) *s, real_t *c,
                          nnm_idx ldc, nnm_idx edge, int first)
{
    NNM_FN(rows)(2, m, a, ra, ka, s, c, ldc, edge, first);
}

#if GEMM_NV > 2
static void NNM_FN(rows3)(nnm_idx m, const real_t *a, nnm_idx ra, nnm_idx ka, const NNM_FN(panel) *s, real_t *c,
                          nnm_idx ldc, nnm_idx edge, int first)
{
    NNM_FN(rows)(3, m, a, ra, ka, s, c, ldc, edge, first);
}
#endif

#if GEMM_NV > 3
static void NNM_FN(rows4)(nnm_idx m, const real_t *a, nnm_idx ra, nnm_idx ka, const NNM_FN(panel) *s, real_t *c,
                          nnm_idx ldc, nnm_idx edge, int first)
{
    NNM_FN(rows)(4, m, a, ra, ka, s, c, ldc, edge, first);
}
#endif

static void NNM_FN(panel_product)(int nv, nnm_idx m, const real_t *a, nnm_idx ra, nnm_idx ka, const NNM_FN(panel) *s,
                                  real_t *c, nnm_idx ldc, nnm_idx edge, int first)
{
    switch (nv) {
    case 1: NNM_FN(rows1)(m, a, ra, ka, s, c, ldc, edge, first); break;
    case 2: NNM_FN(rows2)(m, a, ra, ka, s, c, ldc, edge, first); break;
#if GEMM_NV > 2
    case 3: NNM_FN(rows3)(m, a, ra, ka, s, c, ldc, edge, first); break;
#endif
#if GEMM_NV > 3
    case 4: NNM_FN(rows4)(m, a, ra, ka, s, c, ldc, edge, first); break;
#endif
    default: break;
    }
}

/* Four rows of four entries, kb and nb apart, into rows that lie `full` apart. */
GEMM_INLINE void NNM_FN(turn)(const real_t *b, nnm_idx kb, nnm_idx nb, real_t *to, nnm_idx full)
{
#if GEMM_SHUFFLES
    if (kb == 1) {
        const quad_t x0 = *(const quad_t *)b, x1 = *(const quad_t *)(b + nb), x2 = *(const quad_t *)(b + 2 * nb),
                     x3 = *(const quad_t *)(b + 3 * nb);
        const quad_t y0 = __builtin_shufflevector(x0, x1, 0, 4, 1, 5), y1 = __builtin_shufflevector(x0, x1, 2, 6, 3, 7),
                     y2 = __builtin_shufflevector(x2, x3, 0, 4, 1, 5), y3 = __builtin_shufflevector(x2, x3, 2, 6, 3, 7);
        *(quad_t *)to = __builtin_shufflevector(y0, y2, 0, 1, 4, 5);
        *(quad_t *)(to + full) = __builtin_shufflevector(y0, y2, 2, 3, 6, 7);
        *(quad_t *)(to + 2 * full) = __builtin_shufflevector(y1, y3, 0, 1, 4, 5);
        *(quad_t *)(to + 3 * full) = __builtin_shufflevector(y1, y3, 2, 3, 6, 7);
        return;
    }
#endif
    for (int p = 0; p < 4; ++p)
        for (int j = 0; j < 4; ++j)
            to[p * full + j] = b[p * kb + j * nb];
}

/* Copy a row of w entries that ends in its last vector, with zeros behind it up to `full`. */
GEMM_INLINE void NNM_FN(whole_row)(const real_t *from, nnm_idx w, nnm_idx full, real_t *to)
{
    nnm_idx j = 0;
    for (; j + VL < full; j += VL)
        *(vec_t *)(to + j) = *(const vec_t *)(from + j);
    *(vec_t *)(to + j) = NNM_FN(get)(from + j, (vec_t){0}, w - j);
}

/* Copy rows of `width` entries into rows of nv vectors that end in zeros. */
static void NNM_FN(pack)(nnm_idx rows, nnm_idx width, int nv, const real_t *b, nnm_idx kb, nnm_idx nb, real_t *to)
{
    const nnm_idx full = nv * VL;
    if (nb == 1) {
        for (nnm_idx p = 0; p < rows; ++p, to += full, b += kb)
            NNM_FN(whole_row)(b, width, full, to);
        return;
    }
    nnm_idx j = 0;
    for (; j + 4 <= width; j += 4) {
        nnm_idx p = 0;
        for (; p + 4 <= rows; p += 4)
            NNM_FN(turn)(b + p * kb + j * nb, kb, nb, to + p * full + j, full);
        for (; p < rows; ++p)
            for (nnm_idx l = j; l < j + 4; ++l)
                to[p * full + l] = b[p * kb + l * nb];
    }
    for (; j < full; ++j)
        for (nnm_idx p = 0; p < rows; ++p)
            to[p * full + j] = j < width ? b[p * kb + j * nb] : 0;
}

void NNM_FN(gemm)(nnm_idx m, nnm_idx n, nnm_idx k, const real_t *a, nnm_idx ra, nnm_idx ka, const real_t *b, nnm_idx kb,
                  nnm_idx nb, real_t *c, nnm_idx ldc, int adds, const void *finish)
{
    real_t room[GEMM_KC * GEMM_NV * VL];
    const nnm_idx vectors = (n + VL - 1) / VL, panels = (vectors + GEMM_NV - 1) / GEMM_NV;
    /* Many rows read each panel again: it should be in L1 then, and its rows not on a page each. */
    const int packs = nb != 1 || kb < 1 || (k > 2 * GEMM_KC && m >= 4 * GEMM_MR);
    nnm_idx j = 0;
    for (nnm_idx q = 0; q < panels; ++q) {
        const int nv = (int)(vectors / panels + (q < vectors % panels));
        const nnm_idx width = n - j < nv * VL ? n - j : nv * VL, edge = width - (nv - 1) * VL, over = VL - edge;
        NNM_FN(panel) s = {b + j * nb, kb, k, room, 0, NULL};
        NNM_FN(finish) end = {NULL, 0};
        if (finish)
            end = NNM_FN(finish_from)(finish, j);
        if (!packs) {
            /* Rows whose last vector would reach behind the last entry of B are copied. */
            const nnm_idx tail = (over + kb - 1) / kb;
            s.tail = tail < k ? tail : k;
            s.rows = k - s.tail;
            s.finish = finish ? &end : NULL;
            NNM_FN(pack)(s.tail, width, nv, s.b + s.rows * kb, kb, 1, room);
            NNM_FN(panel_product)(nv, m, a, ra, ka, &s, c + j, ldc, edge, !adds);
        } else {
            for (nnm_idx p = 0; p == 0 || p < k; p += GEMM_KC) {
                const nnm_idx rows = k - p < GEMM_KC ? k - p : GEMM_KC;
                NNM_FN(panel) packed = {room, nv * VL, rows, room, 0, finish && p + rows >= k ? &end : NULL};
                NNM_FN(pack)(rows, width, nv, s.b + p * kb, kb, nb, room);
                NNM_FN(panel_product)(nv, m, a + p * ka, ra, ka, &packed, c + j, ldc, edge, p == 0 && !adds);
            }
        }
        j += width;
    }
}

/* ---------------------------------------------------------------------------------------------- dot products */
GEMM_INLINE real_t NNM_FN(lanes)(vec_t x)
{
#if GEMM_BYTES == 0
    return x;
#elif GEMM_BYTES == 16 && !NNM_IS_F32
    return x[0] + x[1];
#else
    quad_t part[VL / 4];
    memcpy(part, &x, sizeof x);
#if GEMM_BYTES == 64 && NNM_IS_F32
    part[0] += part[2];
    part[1] += part[3];
#endif
    if (VL > 4)
        part[0] += part[VL > 4];
    return (part[0][0] + part[0][2]) + (part[0][1] + part[0][3]);
#endif
}

#if GEMM_BYTES
/* The last `rest` lanes of x, the others 0. */
GEMM_INLINE vec_t NNM_FN(last)(vec_t x, nnm_idx rest)
{
    mask_t lane;
    for (int l = 0; l < VL; ++l)
        lane[l] = l;
    return (vec_t)((mask_t)x & (lane >= (mask_t){0} + (int)(VL - rest)));
}
#endif

/* mr rows of A by nr columns of B; k is VL or more. */
GEMM_INLINE void NNM_FN(dot_block)(const int mr, const int nr, nnm_idx k, const real_t *a, nnm_idx ra, const real_t *b,
                                   nnm_idx nb, real_t *c, nnm_idx ldc)
{
    vec_t acc[2][4];
    GEMM_UNROLL
    for (int i = 0; i < mr; ++i) {
        GEMM_UNROLL
        for (int j = 0; j < nr; ++j)
            acc[i][j] = (vec_t){0};
    }
    nnm_idx p = 0;
    for (; p + VL <= k; p += VL) {
        vec_t x[2];
        GEMM_UNROLL
        for (int i = 0; i < mr; ++i)
            x[i] = *(const vec_t *)(a + i * ra + p);
        GEMM_UNROLL
        for (int j = 0; j < nr; ++j) {
            const vec_t y = *(const vec_t *)(b + j * nb + p);
            GEMM_UNROLL
            for (int i = 0; i < mr; ++i)
                acc[i][j] += x[i] * y;
        }
    }
#if GEMM_BYTES
    if (p < k) { /* the last vector overlaps the one before */
        vec_t x[2];
        GEMM_UNROLL
        for (int i = 0; i < mr; ++i)
            x[i] = NNM_FN(last)(*(const vec_t *)(a + i * ra + k - VL), k - p);
        GEMM_UNROLL
        for (int j = 0; j < nr; ++j) {
            const vec_t y = NNM_FN(last)(*(const vec_t *)(b + j * nb + k - VL), k - p);
            GEMM_UNROLL
            for (int i = 0; i < mr; ++i)
                acc[i][j] += x[i] * y;
        }
    }
#endif
    GEMM_UNROLL
    for (int i = 0; i < mr; ++i) {
        GEMM_UNROLL
        for (int j = 0; j < nr; ++j)
            c[i * ldc + j] = NNM_FN(lanes)(acc[i][j]);
    }
}

void NNM_FN(gemm_dots)(nnm_idx m, nnm_idx n, nnm_idx k, const real_t *a, nnm_idx ra, const real_t *b, nnm_idx nb, real_t *c,
                       nnm_idx ldc)
{
    nnm_idx j = 0;
    if (k < VL) {
        for (nnm_idx i = 0; i < m; ++i)
            for (j = 0; j < n; ++j) {
                real_t sum = 0;
                for (nnm_idx p = 0; p < k; ++p)
                    sum += a[i * ra + p] * b[j * nb + p];
                c[i * ldc + j] = sum;
            }
        return;
    }
    for (; j + 4 <= n; j += 4) {
        nnm_idx i = 0;
        for (; i + 2 <= m; i += 2)
            NNM_FN(dot_block)(2, 4, k, a + i * ra, ra, b + j * nb, nb, c + i * ldc + j, ldc);
        if (i < m)
            NNM_FN(dot_block)(1, 4, k, a + i * ra, ra, b + j * nb, nb, c + i * ldc + j, ldc);
    }
    for (; j < n; ++j)
        for (nnm_idx i = 0; i < m; ++i)
            NNM_FN(dot_block)(1, 1, k, a + i * ra, ra, b + j * nb, nb, c + i * ldc + j, ldc);
}

#include "gemm/packed.inc.c"
