/* The exponential of matrices, by scaling, a Pade approximant and squaring.
 *
 * Source: Higham, "The scaling and squaring method for the matrix exponential revisited", SIAM J. Matrix Anal. Appl. 26
 * (2005), algorithm 2.3: the lowest of the orders 3, 5, 7, 9, 13 whose radius holds the 1-norm, else order 13 of a / 2^s.
 *
 * exp(a^T) = exp(a)^T, so that it does not matter whether matrices lie row by row or column by column.
 */
#include "plan/blas.h"
#include "plan/lapack.h"
#include "plan/nnm_plan.h"

#include <complex.h>
#include <math.h>
#include <string.h>

static const int64_t item[] = {4, 8, 8, 16};

static const union {
    float f[2];
    double d[2];
} ones[4] = {{.f = {1, 0}}, {.d = {1, 0}}, {.f = {1, 0}}, {.d = {1, 0}}};
static const double zeros[2];

static const int orders[] = {3, 5, 7, 9, 13};
static const double radius[] = {1.495585217958292e-2, 2.539398330063230e-1, 9.504178996162932e-1, 2.097847961257068,
                                5.371920351148152}; /* table 2.3 there */
static const double pade[5][14] = {
    {120, 60, 12, 1},
    {30240, 15120, 3360, 420, 30, 1},
    {17297280, 8648640, 1995840, 277200, 25200, 1512, 56, 1},
    {17643225600, 8821612800, 2075673600, 302702400, 30270240, 2162160, 110880, 3960, 90, 1},
    {64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600, 670442572800,
     33522128640, 1323241920, 40840800, 960960, 16380, 182, 1},
};

static double number(int64_t type, const char *x, int64_t i)
{
    return type % 2 ? ((const double *)x)[i] : ((const float *)x)[i];
}

/* y += s x, entries real or complex; `parts` numbers. */
static void add(int64_t type, int64_t parts, double s, const char *x, char *y)
{
    if (type % 2) {
        for (int64_t i = 0; i < parts; ++i)
            ((double *)y)[i] += s * ((const double *)x)[i];
    } else {
        for (int64_t i = 0; i < parts; ++i)
            ((float *)y)[i] += (float)s * ((const float *)x)[i];
    }
}

static void add_diagonal(int64_t type, int64_t n, double s, char *y)
{
    const int64_t step = (n + 1) * (type >= 2 ? 2 : 1);
    for (int64_t i = 0; i < n; ++i) {
        if (type % 2)
            ((double *)y)[i * step] += s;
        else
            ((float *)y)[i * step] += (float)s;
    }
}

static void product(int64_t type, int64_t n, const char *a, const char *b, char *c)
{
    char plain = 'N';
    int m = (int)n, ld = m > 1 ? m : 1;
    nnm_blas.gemm[type](&plain, &plain, &m, &m, &m, (void *)&ones[type], (void *)a, &ld, (void *)b, &ld, (void *)zeros, c,
                        &ld);
}

static double norm1(int64_t type, int64_t n, const char *a)
{
    double top = 0;
    for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t i = 0; i < n; ++i)
            sum += type >= 2 ? hypot(number(type, a, 2 * (j * n + i)), number(type, a, 2 * (j * n + i) + 1))
                             : fabs(number(type, a, j * n + i));
        if (!(sum <= top))
            top = sum; /* NaN stays */
        if (isnan(top))
            return top;
    }
    return top;
}

static int is_zero(int64_t type, const char *x, int64_t i)
{
    return type >= 2 ? number(type, x, 2 * i) == 0 && number(type, x, 2 * i + 1) == 0 : number(type, x, i) == 0;
}

/* y[i] = exp(s x[i]), entries by number. */
static void exponential_of(int64_t type, double s, const char *x, char *y, int64_t i)
{
    switch (type) {
    case 0: ((float *)y)[i] = expf((float)s * ((const float *)x)[i]); break;
    case 1: ((double *)y)[i] = exp(s * ((const double *)x)[i]); break;
    case 2: ((float complex *)y)[i] = cexpf((float)s * ((const float complex *)x)[i]); break;
    default: ((double complex *)y)[i] = cexp(s * ((const double complex *)x)[i]);
    }
}

/* Which entries off the diagonal may be others than 0: those above (1), those below (2). */
static int shape_of(int64_t type, int64_t n, const char *a)
{
    int shape = 0;
    for (int64_t i = 0; i < n && shape != 3; ++i)
        for (int64_t j = 0; j < n && shape != 3; ++j)
            if (i != j && !is_zero(type, a, i * n + j))
                shape |= j > i ? 1 : 2;
    return shape;
}

/* Set the triangles to 0 in which an exponential has nothing else. */
static void cleared(int64_t type, int64_t n, int shape, char *y)
{
    for (int64_t i = 0; i < n && shape != 3; ++i) {
        char *row = y + i * n * item[type];
        if (!(shape & 2))
            memset(row, 0, (size_t)(i * item[type]));
        if (!(shape & 1))
            memset(row + (i + 1) * item[type], 0, (size_t)((n - 1 - i) * item[type]));
    }
}

/* One matrix; w: eight matrices and n ints. Of a triangular one the diagonal is known at each step: the eigenvalues do not
 * suffer from squaring (Al-Mohy and Higham, "A new scaling and squaring algorithm for the matrix exponential", 2009, 2.1). */
static void exponential(int64_t type, int64_t n, const char *from, char *y, char *w)
{
    const int64_t size = n * n * item[type], parts = n * n * (type >= 2 ? 2 : 1);
    char *a = w, *a2 = a + size, *a4 = a2 + size, *a6 = a4 + size, *u = a6 + size, *v = u + size, *p = v + size, *q = p + size;
    int *pivots = (int *)(q + size);
    const int shape = shape_of(type, n, from);
    if (!shape) {
        memset(y, 0, (size_t)size);
        for (int64_t i = 0; i < n; ++i)
            exponential_of(type, 1.0, from, y, i * (n + 1));
        return;
    }
    const double norm = norm1(type, n, from);
    int k = 0, times = 0, info, order = (int)n, ld = order;
    if (!isfinite(norm)) {
        for (int64_t i = 0; i < parts; ++i) {
            if (type % 2)
                ((double *)y)[i] = NAN;
            else
                ((float *)y)[i] = NAN;
        }
        cleared(type, n, shape, y);
        return;
    }
    while (k < 4 && norm > radius[k])
        ++k;
    if (norm > radius[4]) {
        (void)frexp(norm / radius[4], &times);
        times = times > 0 ? times : 0;
    }
    memset(a, 0, (size_t)size);
    add(type, parts, ldexp(1.0, -times), from, a);
    const double *c = pade[k];
    memset(u, 0, (size_t)size);
    memset(v, 0, (size_t)size);
    product(type, n, a, a, a2);
    if (orders[k] < 13) {
        add_diagonal(type, n, c[1], u);
        add_diagonal(type, n, c[0], v);
        char *power = a2, *next = a4, *spare = a6;
        for (int i = 2; i < orders[k]; i += 2) {
            if (i > 2) {
                product(type, n, power, a2, next);
                power = next;
                char *other = next;
                next = spare;
                spare = other;
            }
            add(type, parts, c[i + 1], power, u);
            add(type, parts, c[i], power, v);
        }
    } else {
        product(type, n, a2, a2, a4);
        product(type, n, a4, a2, a6);
        memset(p, 0, (size_t)size);
        memset(q, 0, (size_t)size);
        add(type, parts, c[13], a6, p);
        add(type, parts, c[11], a4, p);
        add(type, parts, c[9], a2, p);
        add(type, parts, c[12], a6, q);
        add(type, parts, c[10], a4, q);
        add(type, parts, c[8], a2, q);
        product(type, n, a6, p, u);
        product(type, n, a6, q, v);
        add(type, parts, c[7], a6, u);
        add(type, parts, c[5], a4, u);
        add(type, parts, c[3], a2, u);
        add_diagonal(type, n, c[1], u);
        add(type, parts, c[6], a6, v);
        add(type, parts, c[4], a4, v);
        add(type, parts, c[2], a2, v);
        add_diagonal(type, n, c[0], v);
    }
    product(type, n, a, u, p); /* the odd part; the even one is v */
    memcpy(q, v, (size_t)size);
    add(type, parts, -1.0, p, q);
    add(type, parts, 1.0, p, v);
    nnm_lapack.gesv[type](&order, &order, q, &ld, pivots, v, &ld, &info);
    for (; times > 0; --times) {
        for (int64_t i = 0; i < n && shape != 3; ++i)
            exponential_of(type, ldexp(1.0, -times), from, v, i * (n + 1));
        product(type, n, v, v, p);
        char *other = v;
        v = p;
        p = other;
    }
    memcpy(y, v, (size_t)size);
    for (int64_t i = 0; i < n && shape != 3; ++i)
        exponential_of(type, 1.0, from, y, i * (n + 1));
    cleared(type, n, shape, y);
}

/* refs: a, exp(a) (n, n); scratch. ints: type, matrices, n, bytes of scratch for a thread: eight matrices and n ints. */
void nnm_exec_expm(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t *spec = in->ints, type = spec[0], n = spec[2], size = n * n * item[type];
    int64_t u, high;
    char *w = nnm_at(frame, in->refs[2]) + t * spec[3];
    nnm_share(spec[1], 1, t, nt, &u, &high);
    for (; u < high; ++u)
        exponential(type, n, nnm_at(frame, in->refs[0]) + u * size, nnm_at(frame, in->refs[1]) + u * size, w);
}
