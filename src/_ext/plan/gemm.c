/* Matrix products, one after the other over some axes.
 *
 * refs: a, b, c; packed, also the scratch of all threads. With a row that is added to c: a, b, the row, c, the scratch.
 *       With a step behind it: a, b, learning rate, number of the step, weights, slots, the new weights and slots, the
 *       scratch.
 * ints: type, how, rows of a panel (packed: bytes of a thread's scratch), m, n, k, strides of a along m and k, of b
 *       along k and n, of c along m (in entries; along n it is 1), number of axes, then for each of them, outermost
 *       first: length, strides of a, b, c in bytes. A packed product (without axes) of which C is the gradient for a step
 *       of an optimizer, which nobody else reads, has behind them: rule, type, bytes of a tile in the thread's scratch.
 *       A product by blocks or packed that finishes its entries in registers: whether there is a row, whether relu.
 * reals: the numbers of the rule.
 *
 * Threads share the axes where they give each as much, else the rows of C, or its columns where rows are few; packed,
 * the longer of both, so that what each of them packs is the smaller operand. With BLAS the bits may depend on the
 * share; where `rows of a panel` is not 0, the rows are multiplied that many at a time, so that they do not.
 */
#include "plan/gemm.h"
#include "plan/blas.h"
#include "plan/optimizer.h"
#include "nnm_gemm.h"

nnm_blas_table nnm_blas;

static const nnm_gemm_kernels *kernels;

static const int64_t item[] = {4, 8, 8, 16, 1, 2, 4, 8, 1};

int nnm_gemm_ready(void)
{
    kernels = nnm_gemm_table();
    return kernels != NULL;
}

/* ---------------------------------------------------------------------------------------------- by BLAS */
static const union {
    float f[2];
    double d[2];
} ones[4] = {{.f = {1, 0}}, {.d = {1, 0}}, {.f = {1, 0}}, {.d = {1, 0}}};

static const double zeros[2];

static inline int at_least(int64_t stride, int64_t width)
{
    return (int)(stride > width ? stride : width > 1 ? width : 1); /* the stride of a single row may be anything */
}

/* y (n) = B^T x, B (k, n) with unit stride along one axis. */
static void blas_vector(const nnm_product *p, int64_t n, int64_t k, const char *b, int64_t kb, int64_t nb, const char *x,
                        int64_t incx, char *y, int64_t incy)
{
    const int plain = nb == 1; /* column-major, the rows of B are columns */
    char trans = plain ? 'N' : 'T';
    int rows = (int)(plain ? n : k), cols = (int)(plain ? k : n), ld = at_least(plain ? kb : nb, rows), ix = (int)incx,
        iy = (int)incy;
    nnm_blas.gemv[p->type](&trans, &rows, &cols, (void *)&ones[p->type], (void *)b, &ld, (void *)x, &ix, (void *)zeros, y,
                           &iy);
}

static void by_blas(const nnm_product *p, const char *a, const char *b, char *c)
{
    if (p->m == 1) {
        blas_vector(p, p->n, p->k, b, p->kb, p->nb, a, p->ka, c, 1);
        return;
    }
    if (p->n == 1) {
        blas_vector(p, p->m, p->k, a, p->ka, p->ra, b, p->kb, c, p->ldc);
        return;
    }
    /* BLAS reads C as its transpose, C^T = B^T A^T. */
    char ta = p->ka == 1 ? 'N' : 'T', tb = p->nb == 1 ? 'N' : 'T';
    int m = (int)p->m, n = (int)p->n, k = (int)p->k;
    int lda = p->ka == 1 ? at_least(p->ra, k) : at_least(p->ka, m);
    int ldb = p->nb == 1 ? at_least(p->kb, n) : at_least(p->nb, k);
    int ldc = at_least(p->ldc, n);
    nnm_blas.gemm[p->type](&tb, &ta, &n, &m, &k, (void *)&ones[p->type], (void *)b, &ldb, (void *)a, &lda, (void *)zeros, c,
                           &ldc);
}

/* ---------------------------------------------------------------------------------------------- integers */
/* Sums wrap around, as NumPy's do; of truth values they are `or`. */
#define LOOPS(name, type, step)                                                                             \
    static void name(const nnm_product *p, const type *a, const type *b, type *c)                           \
    {                                                                                                       \
        for (int64_t i = 0; i < p->m; ++i) {                                                                \
            type *NNM_RESTRICT y = c + i * p->ldc;                                                          \
            memset(y, 0, (size_t)p->n * sizeof *y);                                                         \
            for (int64_t q = 0; q < p->k; ++q) {                                                            \
                const type s = a[i * p->ra + q * p->ka], *x = b + q * p->kb;                                \
                for (int64_t j = 0; j < p->n; ++j)                                                          \
                    step;                                                                                   \
            }                                                                                               \
        }                                                                                                   \
    }
LOOPS(loops_u8, uint8_t, y[j] = (uint8_t)(y[j] + s * x[j * p->nb]))
LOOPS(loops_u16, uint16_t, y[j] = (uint16_t)(y[j] + (uint32_t)s * x[j * p->nb]))
LOOPS(loops_u32, uint32_t, y[j] += s * x[j * p->nb])
LOOPS(loops_u64, uint64_t, y[j] += s * x[j * p->nb])
LOOPS(loops_bool, uint8_t, y[j] |= (uint8_t)(s && x[j * p->nb]))

static void by_loops(const nnm_product *p, const char *a, const char *b, char *c)
{
    switch (p->type) {
    case NNM_U8: loops_u8(p, (const void *)a, (const void *)b, (void *)c); break;
    case NNM_U16: loops_u16(p, (const void *)a, (const void *)b, (void *)c); break;
    case NNM_U32: loops_u32(p, (const void *)a, (const void *)b, (void *)c); break;
    case NNM_U64: loops_u64(p, (const void *)a, (const void *)b, (void *)c); break;
    default: loops_bool(p, (const void *)a, (const void *)b, (void *)c); break;
    }
}

/* ---------------------------------------------------------------------------------------------- one product */
void nnm_multiply(const nnm_product *p, const char *a, const char *b, char *c)
{
    const void *x = a, *y = b;
    void *z = c;
    switch (p->how) {
    case NNM_BY_BLAS:
        by_blas(p, a, b, c);
        break;
    case NNM_BY_BLOCKS:
        if (p->type == NNM_F32)
            kernels->gemm_f32(p->m, p->n, p->k, x, p->ra, p->ka, y, p->kb, p->nb, z, p->ldc, (int)p->adds,
                              p->finish);
        else
            kernels->gemm_f64(p->m, p->n, p->k, x, p->ra, p->ka, y, p->kb, p->nb, z, p->ldc, (int)p->adds,
                              p->finish);
        break;
    case NNM_BY_PACKED:
        if (p->type == NNM_F32)
            kernels->gemm_packed_f32(p->m, p->n, p->k, x, p->ra, p->ka, y, p->kb, p->nb, z, p->ldc, (int)p->adds, p->room,
                                     p->after, p->finish);
        else
            kernels->gemm_packed_f64(p->m, p->n, p->k, x, p->ra, p->ka, y, p->kb, p->nb, z, p->ldc, (int)p->adds, p->room,
                                     p->after, p->finish);
        break;
    case NNM_BY_DOTS:
        if (p->type == NNM_F32)
            kernels->gemm_dots_f32(p->m, p->n, p->k, x, p->ra, y, p->nb, z, p->ldc);
        else
            kernels->gemm_dots_f64(p->m, p->n, p->k, x, p->ra, y, p->nb, z, p->ldc);
        break;
    default:
        by_loops(p, a, b, c);
    }
}

/* ---------------------------------------------------------------------------------------------- the instruction */
enum { MAX_LOOPS = 64, ROWS = 8, COLUMNS = 16, PACKED_COLUMNS = 32 };
enum { OF_FINISH = 2, OF_STEP = 3 }; /* integers behind the axes */

void nnm_exec_gemm(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const char *a = nnm_at(frame, in->refs[0]), *b = nnm_at(frame, in->refs[1]);
    const int64_t *I = in->ints, axes = I[11], *axis = I + 12;
    const int packed = I[1] == NNM_BY_PACKED;
    const int64_t panel = packed ? 0 : I[2];
    nnm_product p = {I[0], I[1], I[3], I[4], I[5], I[6], I[7], I[8], I[9], I[10], 0, NULL, NULL, NULL};
    const int64_t *behind = axis + 4 * axes;
    const int steps = in->nints - (behind - I) == OF_STEP, finishes = in->nints - (behind - I) == OF_FINISH;
    const int row = finishes && behind[0];
    char *c = nnm_at(frame, in->refs[2 + row]);
    nnm_step_after step;
    nnm_finish finish;
    if (packed)
        p.room = nnm_at(frame, in->refs[in->nrefs - 1]) + t / nnm_slices(in) * I[2];
    if (steps) {
        nnm_step_begin(&step, in, frame, behind[0], behind[1], 2, 5 + nnm_rule_slots(behind[0]));
        step.cols = p.n;
        step.after.tile = c = (char *)p.room + I[2] - behind[2];
        p.after = &step.after;
    }
    if (finishes) {
        finish = (nnm_finish){row ? nnm_at(frame, in->refs[2]) : NULL, behind[1] != 0};
        p.finish = &finish;
    }
    int64_t many = 1, low = 0, high, at[MAX_LOOPS] = {0};
    for (int64_t k = 0; k < axes; ++k)
        many *= axis[4 * k];
    high = many;
    if (many % nt == 0 || many >= 4 * nt) {
        nnm_share(many, 1, t, nt, &low, &high);
    } else if (!panel) {
        const int64_t size = item[p.type];
        int64_t from, to;
        if (p.m >= p.n || (!packed && p.m >= 2 * ROWS * nt)) {
            nnm_share(p.m, ROWS, t, nt, &from, &to);
            a += from * p.ra * size;
            c += steps ? 0 : from * p.ldc * size;
            step.row = from;
            p.m = to - from;
        } else {
            nnm_share(p.n, packed ? PACKED_COLUMNS : COLUMNS, t, nt, &from, &to);
            b += from * p.nb * size;
            c += steps ? 0 : from * size;
            step.col = from;
            if (row)
                finish.row = (const char *)finish.row + from * size;
            p.n = to - from;
        }
        if (from == to)
            return;
    }
    if (low == high)
        return;
    /* Panels are units as the axes are. */
    const int shares = panel && !(many % nt == 0 || many >= 4 * nt);
    int64_t rest = low;
    for (int64_t k = axes - 1; k >= 0; --k) {
        at[k] = rest % axis[4 * k];
        rest /= axis[4 * k];
    }
    for (int64_t unit = low; unit < high; ++unit) {
        const char *x = a, *y = b;
        char *z = c;
        for (int64_t k = 0; k < axes; ++k) {
            x += at[k] * axis[4 * k + 1];
            y += at[k] * axis[4 * k + 2];
            z += at[k] * axis[4 * k + 3];
        }
        if (!panel) {
            nnm_multiply(&p, x, y, z);
        } else {
            const int64_t panels = (p.m + panel - 1) / panel, size = item[p.type];
            int64_t first = 0, last = panels;
            if (shares)
                nnm_share(panels, 1, t, nt, &first, &last);
            for (; first < last; ++first) {
                nnm_product q = p;
                q.m = p.m - first * panel < panel ? p.m - first * panel : panel;
                nnm_multiply(&q, x + first * panel * p.ra * size, y, z + first * panel * p.ldc * size);
            }
        }
        for (int64_t k = axes - 1; k >= 0 && ++at[k] == axis[4 * k]; --k)
            at[k] = 0;
    }
}
