/* Systems and factorisations by SciPy's LAPACK: triangular, banded, LU, Schur, Sylvester.
 *
 * Types are those of blas.h. Matrices of a stack are independent: threads share the stack. Arrays lie row by row, one
 * matrix behind the other, unless strides are given; LAPACK's are column-major, in scratch of the thread. So are sizes:
 * what is beyond 31 bits has been refused before.
 */
#include "plan/lapack.h"
#include "plan/nnm_plan.h"

#include <math.h>
#include <string.h>

nnm_lapack_table nnm_lapack;

static const int64_t item[] = {4, 8, 8, 16};

static const union {
    float f[2];
    double d[2];
} ones[4] = {{.f = {1, 0}}, {.d = {1, 0}}, {.f = {1, 0}}, {.d = {1, 0}}};

static int at_least_one(int64_t n)
{
    return n > 1 ? (int)n : 1;
}

static inline void put(char *to, const char *from, int64_t size)
{
    if (size == 4)
        memcpy(to, from, 4);
    else if (size == 8)
        memcpy(to, from, 8);
    else
        memcpy(to, from, 16);
}

/* to[i, j] = from[i, j], m x n entries of a type; strides in bytes. */
static void copied(int64_t type, int64_t m, int64_t n, char *to, int64_t ti, int64_t tj, const char *from, int64_t fi,
                   int64_t fj)
{
    for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j)
            put(to + i * ti + j * tj, from + i * fi + j * fj, item[type]);
}

static void by_columns(int64_t type, int64_t m, int64_t n, char *to, const char *from)
{
    copied(type, m, n, to, item[type], m * item[type], from, n * item[type], item[type]);
}

static void by_rows(int64_t type, int64_t m, int64_t n, char *to, const char *from)
{
    copied(type, m, n, to, n * item[type], item[type], from, item[type], m * item[type]);
}

static int is_zero(int64_t type, const char *x)
{
    switch (type) {
    case 0: return *(const float *)x == 0;
    case 1: return *(const double *)x == 0;
    case 2: return ((const float *)x)[0] == 0 && ((const float *)x)[1] == 0;
    default: return ((const double *)x)[0] == 0 && ((const double *)x)[1] == 0;
    }
}

static int all_finite(int64_t type, int64_t n, const char *x)
{
    n *= type >= 2 ? 2 : 1;
    if (type % 2) {
        for (int64_t i = 0; i < n; ++i)
            if (!isfinite(((const double *)x)[i]))
                return 0;
    } else {
        for (int64_t i = 0; i < n; ++i)
            if (!isfinite(((const float *)x)[i]))
                return 0;
    }
    return 1;
}

/* Scratch of thread t: its last ref, of so many bytes for each. */
static inline char *own(const nnm_instr *in, nnm_frame *frame, int t, int64_t nbytes)
{
    return nnm_at(frame, in->refs[in->nrefs - 1]) + t * nbytes;
}

/* Solve a x = b for a triangle of a (n, n), and k right-hand sides.
 *
 * refs: a, b, x. ints: type, whether it is the lower triangle, whether its diagonal counts as ones, n, k, whether a lies
 * column by column, the entries from one of its rows (columns) to the next, strides of b along rows and columns in bytes,
 * number of axes, then for each of them: length, strides of a and b in bytes. A zero on the diagonal is reason 0. */
enum { MOST_AXES = 64 };

void nnm_exec_triangular(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t *I = in->ints, type = I[0], n = I[3], k = I[4], ld = I[6], axes = I[9], *axis = I + 10, size = item[type];
    const int lower = I[1] != 0, unit = I[2] != 0, turned = I[5] != 0;
    char side = 'R', uplo = lower == turned ? 'L' : 'U', trans = turned ? 'T' : 'N', diag = unit ? 'U' : 'N';
    int64_t many = 1, low = 0, high, from = 0, to = k, at[MOST_AXES];
    for (int64_t i = 0; i < axes; ++i)
        many *= axis[3 * i];
    high = many;
    if (many >= nt)
        nnm_share(many, 1, t, nt, &low, &high);
    else
        nnm_share(k, 8, t, nt, &from, &to);
    if (from == to)
        return;
    int64_t rest = low;
    for (int64_t i = axes - 1; i >= 0; --i) {
        at[i] = rest % axis[3 * i];
        rest /= axis[3 * i];
    }
    for (int64_t unit_of = low; unit_of < high; ++unit_of) {
        char *a = nnm_at(frame, in->refs[0]);
        const char *b = nnm_at(frame, in->refs[1]);
        char *x = nnm_at(frame, in->refs[2]) + unit_of * n * k * size;
        for (int64_t i = 0; i < axes; ++i) {
            a += at[i] * axis[3 * i + 1];
            b += at[i] * axis[3 * i + 2];
        }
        for (int64_t i = 0; i < n && !unit; ++i)
            if (is_zero(type, a + i * (ld + 1) * size)) {
                nnm_refuse(frame, in, 0);
                return;
            }
        copied(type, n, to - from, x + from * size, k * size, size, b + from * I[8], I[7], I[8]);
        /* Columns of LAPACK are rows here: x^T a^T = b^T. */
        int rows = (int)(to - from), columns = (int)n, lda = at_least_one(ld), ldx = at_least_one(k);
        nnm_lapack.trsm[type](&side, &uplo, &trans, &diag, &rows, &columns, (void *)&ones[type], a, &lda, x + from * size,
                              &ldx);
        for (int64_t i = axes - 1; i >= 0 && ++at[i] == axis[3 * i]; --i)
            at[i] = 0;
    }
}

/* a[order] = low up, with row exchanges.
 *
 * refs: a (m, n), order (m) of int64, low (m, k), up (k, n) with k = min(m, n); scratch. ints: type, matrices, m, n, bytes
 * of scratch for a thread: a matrix and k ints. */
void nnm_exec_lu(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t *I = in->ints, type = I[0], m = I[2], n = I[3], k = m < n ? m : n, size = item[type];
    int64_t u, high;
    char *f = own(in, frame, t, I[4]);
    int *pivots = (int *)(f + m * n * size);
    nnm_share(I[1], 1, t, nt, &u, &high);
    for (; u < high; ++u) {
        int64_t *order = (int64_t *)nnm_at(frame, in->refs[1]) + u * m;
        char *low = nnm_at(frame, in->refs[2]) + u * m * k * size, *up = nnm_at(frame, in->refs[3]) + u * k * n * size;
        int rows = (int)m, columns = (int)n, lda = at_least_one(m), info;
        by_columns(type, m, n, f, nnm_at(frame, in->refs[0]) + u * m * n * size);
        nnm_lapack.getrf[type](&rows, &columns, f, &lda, pivots, &info);
        for (int64_t i = 0; i < m; ++i)
            order[i] = i;
        for (int64_t i = 0; i < k; ++i) {
            const int64_t j = pivots[i] - 1, other = order[j];
            order[j] = order[i];
            order[i] = other;
        }
        memset(low, 0, (size_t)(m * k * size));
        memset(up, 0, (size_t)(k * n * size));
        for (int64_t i = 0; i < m; ++i) {
            const int64_t below = i < k ? i : k;
            copied(type, 1, below, low + i * k * size, 0, size, f + i * size, 0, m * size);
            if (i < k) {
                put(low + (i * k + i) * size, (const char *)&ones[type], size);
                copied(type, 1, n - i, up + (i * n + i) * size, 0, size, f + (i * m + i) * size, 0, m * size);
            }
        }
    }
}

/* Orders of rows and row exchanges: row i with row pivots[i], for the first k in turn.
 *
 * refs: one, the other. ints: whether to make the order of exchanges, stacks, m rows, k. Orders are int64, exchanges int32. */
void nnm_exec_exchanges(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t m = in->ints[2], k = in->ints[3];
    int64_t u, high;
    nnm_share(in->ints[1], 1, t, nt, &u, &high);
    for (; u < high; ++u) {
        if (in->ints[0]) {
            const int32_t *pivots = (const int32_t *)nnm_at(frame, in->refs[0]) + u * k;
            int64_t *order = (int64_t *)nnm_at(frame, in->refs[1]) + u * m;
            for (int64_t i = 0; i < m; ++i)
                order[i] = i;
            for (int64_t i = 0; i < k; ++i) {
                const int64_t j = pivots[i];
                if (j < -m || j >= m) {
                    nnm_outside(frame, j, m);
                    return;
                }
                const int64_t mine = order[i];
                order[i] = order[j < 0 ? j + m : j];
                if (j >= 0)
                    order[j] = mine;
            }
        } else { /* where row order[i] is now: at a place that those before have left */
            const int64_t *order = (const int64_t *)nnm_at(frame, in->refs[0]) + u * m;
            int32_t *pivots = (int32_t *)nnm_at(frame, in->refs[1]) + u * k;
            for (int64_t i = 0; i < k; ++i) {
                int64_t at = order[i];
                for (int64_t steps = 0; at < i && at >= 0 && steps < m; ++steps)
                    at = pivots[at];
                pivots[i] = (int32_t)at;
            }
        }
    }
}

/* Solve a x = b for a (n, n) given by its bands.
 *
 * refs: bands (lower + upper + 1, n), b (n, k), x (n, k); scratch. ints: type, matrices, lower, upper, n, k, bytes of scratch
 * for a thread: a matrix (2 lower + upper + 1, n), one (n, k), and n ints. Reason 0: singular; 1: not finite. */
void nnm_exec_banded(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t *I = in->ints, type = I[0], lower = I[2], upper = I[3], n = I[4], k = I[5], size = item[type];
    const int64_t bands = lower + upper + 1, room = lower + bands;
    int64_t u, high;
    char *f = own(in, frame, t, I[6]), *x = f + room * n * size;
    int *pivots = (int *)(x + n * k * size);
    nnm_share(I[1], 1, t, nt, &u, &high);
    for (; u < high; ++u) {
        const char *ab = nnm_at(frame, in->refs[0]) + u * bands * n * size, *b = nnm_at(frame, in->refs[1]) + u * n * k * size;
        int order = (int)n, kl = (int)lower, ku = (int)upper, many = (int)k, ldab = (int)room, ldx = at_least_one(n), info;
        if (!all_finite(type, bands * n, ab) || !all_finite(type, n * k, b)) {
            nnm_refuse(frame, in, 1);
            return;
        }
        memset(f, 0, (size_t)(room * n * size));
        copied(type, bands, n, f + lower * size, size, room * size, ab, n * size, size);
        by_columns(type, n, k, x, b);
        nnm_lapack.gbsv[type](&order, &kl, &ku, &many, f, &ldab, pivots, x, &ldx, &info);
        if (info > 0) {
            nnm_refuse(frame, in, 0);
            return;
        }
        by_rows(type, n, k, nnm_at(frame, in->refs[2]) + u * n * k * size, x);
    }
}

/* a = z s z^H with s triangular, of real matrices with blocks of 2 on its diagonal.
 *
 * refs: a, s, z (n, n); scratch. ints: type, matrices, n, entries of workspace, bytes of scratch for a thread: two matrices,
 * 2 n numbers, the workspace, n numbers. Reason 0: no convergence; 1: not finite. */
void nnm_exec_schur(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t *I = in->ints, type = I[0], n = I[2], work = I[3], size = item[type];
    int64_t u, high;
    char *s = own(in, frame, t, I[4]), *z = s + n * n * size, *w = z + n * n * size, *room = w + 2 * n * size;
    char *real = room + work * size;
    char vectors = 'V', sorted = 'N';
    nnm_share(I[1], 1, t, nt, &u, &high);
    for (; u < high; ++u) {
        const char *a = nnm_at(frame, in->refs[0]) + u * n * n * size;
        int order = (int)n, ld = at_least_one(n), lwork = (int)work, found, info = 0;
        if (!all_finite(type, n * n, a)) {
            nnm_refuse(frame, in, 1);
            return;
        }
        by_columns(type, n, n, s, a);
        if (n && type < 2)
            nnm_lapack.gees_real[type](&vectors, &sorted, NULL, &order, s, &ld, &found, w, w + n * size, z, &ld, room, &lwork,
                                       NULL, &info);
        else if (n)
            nnm_lapack.gees_complex[type - 2](&vectors, &sorted, NULL, &order, s, &ld, &found, w, z, &ld, room, &lwork, real,
                                              NULL, &info);
        if (info > 0) {
            nnm_refuse(frame, in, 0);
            return;
        }
        by_rows(type, n, n, nnm_at(frame, in->refs[1]) + u * n * n * size, s);
        by_rows(type, n, n, nnm_at(frame, in->refs[2]) + u * n * n * size, z);
    }
}

/* Solve r x + x s^H = f for r (m, m) and s (n, n) of Schur's form.
 *
 * refs: r, s, f (m, n), x (m, n); scratch. ints: type, matrices, m, n, bytes of scratch for a thread: the matrices. */
void nnm_exec_sylvester(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t *I = in->ints, type = I[0], m = I[2], n = I[3], size = item[type];
    int64_t u, high;
    char *r = own(in, frame, t, I[4]), *s = r + m * m * size, *x = s + n * n * size;
    char plain = 'N', turned = 'C';
    nnm_share(I[1], 1, t, nt, &u, &high);
    for (; u < high; ++u) {
        int sign = 1, rows = (int)m, columns = (int)n, ldr = at_least_one(m), lds = at_least_one(n), info;
        union {
            float f[2];
            double d[2];
        } scale;
        by_columns(type, m, m, r, nnm_at(frame, in->refs[0]) + u * m * m * size);
        by_columns(type, n, n, s, nnm_at(frame, in->refs[1]) + u * n * n * size);
        by_columns(type, m, n, x, nnm_at(frame, in->refs[2]) + u * m * n * size);
        nnm_lapack.trsyl[type](&plain, &turned, &sign, &rows, &columns, r, &ldr, s, &lds, x, &ldr, &scale, &info);
        const int64_t parts = m * n * (type >= 2 ? 2 : 1);
        if (type % 2) {
            for (int64_t i = 0; i < parts; ++i)
                ((double *)x)[i] *= scale.d[0];
        } else {
            for (int64_t i = 0; i < parts; ++i)
                ((float *)x)[i] *= scale.f[0];
        }
        by_rows(type, m, n, nnm_at(frame, in->refs[3]) + u * m * n * size, x);
    }
}
