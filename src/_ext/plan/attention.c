/* Attention in blocks of queries, whose scores stay in a thread's scratch: a_ij = softmax_j(scale q_i . k_j + b_ij),
 * y_i = sum_j a_ij v_j, and the cotangents of q, k, v.
 *
 * refs: q, k, v, of the pull also the cotangent of y; bias and mask, if any; results; the scratch of all threads.
 *       Of attention: y (heads, t, e). Of the pull: q' (heads, t, d), k' (chunks, heads, keys, d), v' (chunks, heads, keys,
 *       e), whose chunks somebody adds up.
 * ints: type, causal, t, s, keys, d, e, rows of a block, chunks, bytes of a thread's scratch; strides of the rows of q,
 *       k, v, y' (in entries; along a row it is 1); is there a bias, a mask, and their strides along rows and columns
 *       (in entries); number of axes in front, then for each of them, outermost first: length, strides of q, k, v, y',
 *       bias, mask in bytes.
 * reals: scale.
 *
 * s is how many of the keys are seen: causal, no more than t. A head has its keys (and values, of the pull) packed in
 * panels, once for all its blocks. Threads share the blocks of all heads, of the pull the heads, or, where those are
 * few, chunks of the blocks of each: what a block adds to k' and v' has one order, whatever the number of threads.
 */
#include "plan/attention.h"
#include "plan/gemm.h"
#include "plan/nnm_plan.h"
#include "nnm_attention.h"

enum { FEW = 4 }; /* rows for which packing costs more than it gains */
enum { Q, K_, V, G, BIAS, MASK, OPERANDS };

typedef struct {
    int64_t type, item, causal, t, s, keys, d, e, rows, chunks, scratch;
    int64_t step[4];                  /* of rows of q, k, v, y' */
    int64_t has[2], bi, bj, mi, mj;
    int64_t axes, heads;
    const int64_t *axis;
    double scale;
    char *at[OPERANDS];               /* of the operands, or NULL */
    const nnm_ref *results;
    int64_t ld, panels;
    const nnm_attention_kernels *kernels;
} task;

static task task_of(const nnm_instr *in, const nnm_frame *frame, int pulls)
{
    const int64_t *I = in->ints;
    task a = {.type = I[0], .item = I[0] == NNM_F32 ? 4 : 8, .causal = I[1], .t = I[2], .s = I[3], .keys = I[4], .d = I[5],
              .e = I[6], .rows = I[7], .chunks = I[8], .scratch = I[9], .step = {I[10], I[11], I[12], I[13]},
              .has = {I[14], I[17]}, .bi = I[15], .bj = I[16], .mi = I[18], .mj = I[19], .axes = I[20], .heads = 1,
              .axis = I + 21, .scale = in->reals[0], .kernels = nnm_attention_table()};
    const nnm_ref *ref = in->refs;
    for (int i = 0; i < OPERANDS; ++i) {
        const int given = i < G || (i == G ? pulls : (int)a.has[i - BIAS]);
        a.at[i] = given ? nnm_at(frame, *ref++) : NULL;
    }
    a.results = ref;
    for (int64_t k = 0; k < a.axes; ++k)
        a.heads *= a.axis[7 * k];
    const int64_t line = 64 / a.item, lines = (a.s + NNM_PANEL - 1) / NNM_PANEL * NNM_PANEL / line;
    a.ld = (lines | 1) * line; /* an odd number of lines: a column is spread over the sets of a cache */
    a.panels = (a.s + NNM_PANEL - 1) / NNM_PANEL;
    return a;
}

/* Where the operands of a head are. */
static void head_of(const task *a, int64_t head, const char *at[OPERANDS])
{
    for (int i = 0; i < OPERANDS; ++i)
        at[i] = a->at[i];
    for (int64_t k = a->axes - 1; k >= 0; --k) {
        const int64_t *axis = a->axis + 7 * k, here = head % axis[0];
        head /= axis[0];
        for (int i = 0; i < OPERANDS; ++i)
            if (at[i])
                at[i] += here * axis[1 + i];
    }
}

/* --- the kernels of the type ----------------------------------------------------------------------------------- */
static void panels(const task *a, int64_t d, const char *x, int64_t step, char *to)
{
    if (a->type == NNM_F32)
        a->kernels->attention_panels_f32(a->s, d, (const float *)x, step, (float *)to);
    else
        a->kernels->attention_panels_f64(a->s, d, (const double *)x, step, (double *)to);
}

static void scaled(const task *a, int64_t m, const char *x, int64_t step, char *to)
{
    if (a->type == NNM_F32)
        a->kernels->attention_scaled_f32(m, a->d, (float)a->scale, (const float *)x, step, (float *)to);
    else
        a->kernels->attention_scaled_f64(m, a->d, a->scale, (const double *)x, step, (double *)to);
}

static void weights(const task *a, const char *const at[OPERANDS], int64_t i, int64_t m, int64_t n, int whole, char *s,
                    char *sums)
{
    const char *bias = at[BIAS] ? at[BIAS] + i * a->bi * a->item : NULL;
    const unsigned char *mask = at[MASK] ? (const unsigned char *)at[MASK] + i * a->mi : NULL;
    if (a->type == NNM_F32)
        a->kernels->attention_weights_f32(m, n, i, (int)a->causal, whole, (float *)s, a->ld, (const float *)bias, a->bi, a->bj,
                                          mask, a->mi, a->mj, (float *)sums);
    else
        a->kernels->attention_weights_f64(m, n, i, (int)a->causal, whole, (double *)s, a->ld, (const double *)bias, a->bi,
                                          a->bj, mask, a->mi, a->mj, (double *)sums);
}

/* (m, n) = x (m, d) times the rows of `plain` (s, d), of which `packed` are the panels; few rows read them as they are. */
static void scores(const task *a, int64_t m, int64_t n, int64_t d, const char *x, int64_t step, const char *plain,
                   int64_t plain_step, const char *packed, char *to)
{
    if (!packed) {
        const nnm_product p = {a->type, NNM_BY_DOTS, m, n, d, step, 1, 1, plain_step, a->ld, 0, NULL};
        nnm_multiply(&p, x, plain, to);
        return;
    }
    for (int64_t j = 0; j < n; j += NNM_PANEL, packed += d * NNM_PANEL * a->item, to += NNM_PANEL * a->item) {
        const nnm_product p = {a->type, NNM_BY_BLOCKS, m, NNM_PANEL, d, step, 1, NNM_PANEL, 1, a->ld, 0, NULL};
        nnm_multiply(&p, x, packed, to);
    }
}

/* Block number i of a head: causal, the first, the last, the second, ... so that every share has about as much to do. */
static inline int64_t folded(const task *a, int64_t i, int64_t blocks)
{
    return !a->causal ? i : i % 2 ? blocks - 1 - i / 2 : i / 2;
}

static inline int64_t least(int64_t x, int64_t y)
{
    return x < y ? x : y;
}

/* --- the instructions ------------------------------------------------------------------------------------------ */
void nnm_exec_attention(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const task a = task_of(in, frame, 0);
    const int64_t blocks = (a.t + a.rows - 1) / a.rows;
    char *y = nnm_at(frame, a.results[0]), *room = nnm_at(frame, a.results[1]) + t * a.scratch;
    char *packed = a.t > FEW ? room : NULL, *q = room + (packed ? a.panels * NNM_PANEL * a.d * a.item : 0),
         *sums = q + a.rows * a.d * a.item, *s = sums + a.rows * a.item;
    const char *at[OPERANDS];
    int64_t low, high, head = -1;
    nnm_share(a.heads * blocks, 1, t, nt, &low, &high);
    for (; low < high; ++low) {
        if (low / blocks != head) {
            head = low / blocks;
            head_of(&a, head, at);
            if (packed)
                panels(&a, a.d, at[K_], a.step[K_], packed);
        }
        const int64_t i = folded(&a, low % blocks, blocks) * a.rows, m = least(a.t - i, a.rows),
                      n = a.causal ? least(i + m, a.s) : a.s;
        char *own = y + (head * a.t + i) * a.e * a.item;
        scaled(&a, m, at[Q] + i * a.step[Q] * a.item, a.step[Q], q);
        scores(&a, m, n, a.d, q, a.d, at[K_], a.step[K_], packed, s);
        weights(&a, at, i, m, n, 0, s, sums);
        const nnm_product p = {a.type, NNM_BY_BLOCKS, m, a.e, n, a.ld, 1, a.step[V], 1, a.e, 0, NULL};
        nnm_multiply(&p, s, at[V], own);
        if (a.type == NNM_F32)
            a.kernels->attention_shares_f32(m, a.e, (const float *)sums, (float *)own);
        else
            a.kernels->attention_shares_f64(m, a.e, (const double *)sums, (double *)own);
    }
}

void nnm_exec_attention_pull(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const task a = task_of(in, frame, 1);
    const int64_t blocks = (a.t + a.rows - 1) / a.rows, item = a.item;
    char *room = nnm_at(frame, a.results[3]) + t * a.scratch;
    char *k = a.t > FEW ? room : NULL, *v = k ? k + a.panels * NNM_PANEL * a.d * item : NULL,
         *q = k ? v + a.panels * NNM_PANEL * a.e * item : room, *sums = q + a.rows * a.d * item, *s = sums + a.rows * item,
         *g = s + a.rows * a.ld * item;
    const char *at[OPERANDS];
    int64_t low, high, head = -1;
    nnm_share(a.heads * a.chunks, 1, t, nt, &low, &high);
    for (; low < high; ++low) {
        if (low / a.chunks != head) {
            head = low / a.chunks;
            head_of(&a, head, at);
            if (k) {
                panels(&a, a.d, at[K_], a.step[K_], k);
                panels(&a, a.e, at[V], a.step[V], v);
            }
        }
        const int64_t chunk = low % a.chunks, place = (chunk * a.heads + head) * a.keys * item;
        char *gq = nnm_at(frame, a.results[0]) + head * a.t * a.d * item;
        char *gk = nnm_at(frame, a.results[1]) + place * a.d, *gv = nnm_at(frame, a.results[2]) + place * a.e;
        memset(gk, 0, (size_t)(a.keys * a.d * item));
        memset(gv, 0, (size_t)(a.keys * a.e * item));
        int64_t first, last;
        nnm_share(blocks, 1, (int)chunk, (int)a.chunks, &first, &last);
        for (; first < last; ++first) {
            const int64_t i = folded(&a, first, blocks) * a.rows, m = least(a.t - i, a.rows),
                          n = a.causal ? least(i + m, a.s) : a.s;
            const char *gy = at[G] + i * a.step[G] * item;
            char *own = gq + i * a.d * item;
            scaled(&a, m, at[Q] + i * a.step[Q] * item, a.step[Q], q);
            scores(&a, m, n, a.d, q, a.d, at[K_], a.step[K_], k, s);
            weights(&a, at, i, m, n, 1, s, sums);
            scores(&a, m, n, a.e, gy, a.step[G], at[V], a.step[V], v, g);
            if (a.type == NNM_F32)
                a.kernels->attention_pull_f32(m, n, (const float *)s, (float *)g, a.ld);
            else
                a.kernels->attention_pull_f64(m, n, (const double *)s, (double *)g, a.ld);
            const nnm_product of_q = {a.type, NNM_BY_BLOCKS, m, a.d, n, a.ld, 1, a.step[K_], 1, a.d, 0, NULL};
            nnm_multiply(&of_q, g, at[K_], own);
            scaled(&a, m, own, a.d, own);
            const nnm_product of_k = {a.type, NNM_BY_BLOCKS, n, a.d, m, 1, a.ld, a.d, 1, a.d, 1, NULL};
            nnm_multiply(&of_k, g, q, gk);
            const nnm_product of_v = {a.type, NNM_BY_BLOCKS, n, a.e, m, 1, a.ld, a.step[G], 1, a.e, 1, NULL};
            nnm_multiply(&of_v, s, gy, gv);
        }
    }
}
