/* gemm_packed: C (m, n) = A (m, k) B (k, n), or C += A B, both operands packed for the caches. Part of gemm.inc.c.
 *
 * A at a[i * ra + p * ka], B at b[p * kb + j * nb], any strides; C at c[i * ldc + j], distinct from both. The order of
 * loops is that of K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication" (2008): parts of k;
 * for each, a block of B that stays in the second-level cache, panels of A that go past it, tiles of C in registers.
 *
 * - What is packed next, and the tile of C, are asked for a line at a time inside of the innermost loops: asked for at
 *   once, they would fill the few places for lines on their way, and the loop would wait.
 * - Rows of A with unit stride along k are copied line by line (`pack_lines`), which costs a third of a transpose.
 * - Few rows do not pay for packing B: the first tiles read it where it is and write it, packed, for the next. Without
 *   AVX-512 only where B is near: 16 columns of it are read from as many pages as it has rows.
 *
 * Each entry of C is, for each part of k, one chain of fused multiply-adds in the order of p; the parts, which depend on
 * k alone, are added in order. So the bits do not depend on how rows and columns are dealt to threads.
 *
 * `room`: as much as layouts.py says (packed_scratch). Nothing beside the entries of A and B is read. `after`, `finish`: see after.h.
 */

/* Lines that tiles ask for while they compute, one for every LINE along k, and how far apart these are. */
typedef struct {
    const real_t *a, *b;
    nnm_idx step_a, step_b;
} NNM_FN(ahead);

#undef LINE
#define LINE ((nnm_idx)(64 / sizeof(real_t)))
#undef GEMM_NR
#define GEMM_NR (GEMM_PV * VL)

/* mr rows and nv full vectors of C. A in `lines`: see pack_lines; else at a[i + p * ka]. `copies`: what is read of B is
 * written to `to`, packed. `finish`: of these columns, or NULL. */
GEMM_INLINE void NNM_FN(tile)(const int mr, const int nv, const int lines, const int copies, nnm_idx k, const real_t *a,
                              nnm_idx ka, const real_t *b, nnm_idx kb, real_t *to, real_t *c, nnm_idx ldc, const int adds,
                              const NNM_FN(ahead) *next, const NNM_FN(finish) *finish)
{
    vec_t acc[GEMM_PR][GEMM_PV];
    const real_t *next_a = next->a, *next_b = next->b, *next_c = c;
    const nnm_idx step_a = next->step_a, step_b = next->step_b;
    nnm_idx left = mr;
    GEMM_UNROLL
    for (int i = 0; i < mr; ++i) {
        GEMM_UNROLL
        for (int v = 0; v < nv; ++v)
            acc[i][v] = (vec_t){0};
    }
    for (; k > 0; k -= LINE) {
        GEMM_FETCH_L2(next_a);
        GEMM_FETCH_L2(next_b);
        GEMM_FETCH(next_c);
        GEMM_FETCH(next_c + nv * VL - 1);
        next_a += step_a;
        next_b += step_b;
        next_c += --left > 0 ? ldc : 0;
        for (nnm_idx p = k < LINE ? k : LINE; p > 0; --p) {
            vec_t x[GEMM_PV];
            GEMM_UNROLL
            for (int v = 0; v < nv; ++v)
                x[v] = *(const vec_t *)(b + v * VL);
            GEMM_UNROLL
            for (int v = 0; v < nv; ++v)
                if (v * GEMM_BYTES % 64 == 0)
                    GEMM_FETCH(b + (copies ? 16 : 8) * kb + v * VL);
            if (copies) {
                GEMM_UNROLL
                for (int v = 0; v < nv; ++v)
                    *(vec_t *)(to + v * VL) = x[v];
                to += nv * VL;
            }
            b += kb;
            GEMM_UNROLL
            for (int i = 0; i < mr; ++i) {
                const real_t y = a[lines ? i * LINE : i];
                GEMM_UNROLL
                for (int v = 0; v < nv; ++v)
                    acc[i][v] += y * x[v];
            }
            a += lines ? 1 : ka;
        }
        a += lines ? (mr - 1) * LINE : 0;
    }
    if (adds) {
        GEMM_UNROLL
        for (int i = 0; i < mr; ++i) {
            GEMM_UNROLL
            for (int v = 0; v < nv; ++v)
                acc[i][v] += *(const vec_t *)(c + i * ldc + v * VL);
        }
    }
    if (finish) {
        GEMM_UNROLL
        for (int v = 0; v < nv; ++v) {
            const vec_t y = NNM_FN(row_of)(finish, v * VL, VL);
            GEMM_UNROLL
            for (int i = 0; i < mr; ++i)
                acc[i][v] += y;
        }
        if (finish->relu) {
            GEMM_UNROLL
            for (int i = 0; i < mr; ++i) {
                GEMM_UNROLL
                for (int v = 0; v < nv; ++v)
                    acc[i][v] = NNM_FN(rectified)(acc[i][v]);
            }
        }
    }
    GEMM_UNROLL
    for (int i = 0; i < mr; ++i, c += ldc) {
        GEMM_UNROLL
        for (int v = 0; v < nv; ++v)
            *(vec_t *)(c + v * VL) = acc[i][v];
    }
}

typedef void (*NNM_FN(tile_f))(nnm_idx k, const real_t *a, nnm_idx ka, const real_t *b, nnm_idx kb, real_t *to, real_t *c,
                               nnm_idx ldc, int adds, const NNM_FN(ahead) *next);
typedef void (*NNM_FN(last_tile_f))(nnm_idx k, const real_t *a, nnm_idx ka, const real_t *b, nnm_idx kb, real_t *to,
                                    real_t *c, nnm_idx ldc, int adds, const NNM_FN(ahead) *next,
                                    const NNM_FN(finish) *finish);

#ifndef GEMM_TILE
#define GEMM_TILE_NAME(mr, nv, lines, copies) NNM_FN(tile_##mr##_##nv##_##lines##copies)
#define GEMM_LAST_NAME(mr, nv, lines, copies) NNM_FN(last_tile_##mr##_##nv##_##lines##copies)
#define GEMM_TILE(mr, nv, lines, copies)                                                                              \
    static void GEMM_TILE_NAME(mr, nv, lines, copies)(nnm_idx k, const real_t *a, nnm_idx ka, const real_t *b,        \
                                                      nnm_idx kb, real_t *to, real_t *c, nnm_idx ldc, int adds,       \
                                                      const NNM_FN(ahead) *next)                                      \
    {                                                                                                                 \
        NNM_FN(tile)(mr, nv, lines, copies, k, a, ka, b, kb, to, c, ldc, adds, next, NULL);                           \
    }                                                                                                                 \
    static void GEMM_LAST_NAME(mr, nv, lines, copies)(nnm_idx k, const real_t *a, nnm_idx ka, const real_t *b,        \
                                                      nnm_idx kb, real_t *to, real_t *c, nnm_idx ldc, int adds,       \
                                                      const NNM_FN(ahead) *next, const NNM_FN(finish) *finish)        \
    {                                                                                                                 \
        NNM_FN(tile)(mr, nv, lines, copies, k, a, ka, b, kb, to, c, ldc, adds, next, finish);                         \
    }
#define GEMM_TILES(mr)                                                                                                \
    GEMM_TILE(mr, 1, 0, 0)                                                                                            \
    GEMM_TILE(mr, 2, 0, 0)                                                                                            \
    GEMM_TILE(mr, 2, 0, 1)                                                                                            \
    GEMM_TILE(mr, 1, 1, 0)                                                                                            \
    GEMM_TILE(mr, 2, 1, 0)                                                                                            \
    GEMM_TILE(mr, 2, 1, 1)
#define GEMM_NAMES(NAME, mr)                                                                                          \
    {{{NAME(mr, 1, 0, 0), NULL}, {NAME(mr, 2, 0, 0), NAME(mr, 2, 0, 1)}},                                             \
     {{NAME(mr, 1, 1, 0), NULL}, {NAME(mr, 2, 1, 0), NAME(mr, 2, 1, 1)}}},
#define GEMM_TILE_ROW(mr) GEMM_NAMES(GEMM_TILE_NAME, mr)
#define GEMM_LAST_ROW(mr) GEMM_NAMES(GEMM_LAST_NAME, mr)
#endif

GEMM_HEIGHTS(GEMM_TILES)
/* By height - 1, lines, vectors - 1, copies; those that finish are instances of their own, so that the others have no test
 * of it. */
static const NNM_FN(tile_f) NNM_FN(tiles)[GEMM_PR][2][2][2] = {GEMM_HEIGHTS(GEMM_TILE_ROW)};
static const NNM_FN(last_tile_f) NNM_FN(last_tiles)[GEMM_PR][2][2][2] = {GEMM_HEIGHTS(GEMM_LAST_ROW)};

/* A tile whose last vector is not full: beside the entries of C nothing is touched. */
static void NNM_FN(edge)(NNM_FN(tile_f) tile, nnm_idx h, nnm_idx w, nnm_idx full, nnm_idx k, const real_t *a, nnm_idx ka,
                         const real_t *b, real_t *c, nnm_idx ldc, int adds, const NNM_FN(ahead) *next,
                         const NNM_FN(finish) *finish)
{
    real_t whole[GEMM_PR * GEMM_NR];
    const real_t *from = whole;
    tile(k, a, ka, b, full, NULL, whole, full, 0, next);
    const nnm_idx last = full - VL, rest = w - last;
    const vec_t row_start = finish ? NNM_FN(row_of)(finish, 0, w < VL ? w : VL) : (vec_t){0},
                row_end = finish ? NNM_FN(row_of)(finish, last, rest) : (vec_t){0};
    for (nnm_idx i = 0; i < h; ++i, c += ldc, from += full) {
        vec_t start = *(const vec_t *)from, end = *(const vec_t *)(from + last);
        if (adds) {
            start += NNM_FN(get)(c, start, w < VL ? w : VL);
            end += NNM_FN(get)(c + last, end, rest);
        }
        if (finish) {
            start += row_start;
            end += row_end;
            if (finish->relu) {
                start = NNM_FN(rectified)(start);
                end = NNM_FN(rectified)(end);
            }
        }
        if (last)
            *(vec_t *)c = start;
        NNM_FN(put)(c + last, end, rest);
    }
}

/* ---------------------------------------------------------------------------------------------- packing */
/* h rows with unit stride along k: LINE entries of each row, one row below the other, then the next LINE. */
static void NNM_FN(pack_lines)(nnm_idx h, nnm_idx k, const real_t *a, nnm_idx ra, real_t *to)
{
    for (nnm_idx i = 0; i < h; ++i, a += ra) {
        real_t *line = to + i * LINE;
        nnm_idx p = 0;
        for (; p + LINE <= k; p += LINE, line += h * LINE) {
            GEMM_FETCH(a + ra + p);
            memcpy(line, a + p, 64);
        }
        if (p < k)
            memcpy(line, a + p, (size_t)(k - p) * sizeof *line);
    }
}

/* k rows of w entries with unit stride, into rows of `full`. */
static void NNM_FN(pack_across)(nnm_idx w, nnm_idx k, const real_t *b, nnm_idx kb, real_t *to, nnm_idx full)
{
    for (nnm_idx p = 0; w >= 8 && p < k; ++p, b += kb, to += full) {
        for (nnm_idx j = 0; j + 8 < w; j += 8)
            memcpy(to + j, b + j, 8 * sizeof *to);
        memcpy(to + w - 8, b + w - 8, 8 * sizeof *to); /* may overlap the one before */
    }
    for (nnm_idx p = 0; w < 8 && p < k; ++p, b += kb, to += full)
        for (nnm_idx j = 0; j < w; ++j)
            to[j] = b[j];
}

/* w columns with unit stride along k, into rows of `full`. */
static void NNM_FN(pack_turned)(nnm_idx w, nnm_idx k, const real_t *b, nnm_idx nb, real_t *to, nnm_idx full)
{
    nnm_idx j = 0;
    for (; j + LINE <= w; j += LINE) {
        nnm_idx p = 0;
        for (; p + LINE <= k; p += LINE)
            for (nnm_idx l = j; l < j + LINE; l += 4) { /* four lines are read to their ends: they may exclude others */
                const real_t *x = b + l * nb + p;
                GEMM_UNROLL
                for (int i = 0; i < 4; ++i)
                    GEMM_FETCH(x + i * nb + 2 * LINE);
                GEMM_UNROLL
                for (nnm_idx q = 0; q < LINE; q += 4)
                    NNM_FN(turn)(x + q, 1, nb, to + (p + q) * full + l, full);
            }
        for (; p < k; ++p)
            for (nnm_idx l = j; l < j + LINE; ++l)
                to[p * full + l] = b[p + l * nb];
    }
    for (; j < w; ++j)
        for (nnm_idx p = 0; p < k; ++p)
            to[p * full + j] = b[p + j * nb];
}

/* k rows of w entries at any strides, into rows of `full`. */
static void NNM_FN(pack_any)(nnm_idx w, nnm_idx k, const real_t *b, nnm_idx kb, nnm_idx nb, real_t *to, nnm_idx full)
{
    if (nb == 1)
        NNM_FN(pack_across)(w, k, b, kb, to, full);
    else if (kb == 1)
        NNM_FN(pack_turned)(w, k, b, nb, to, full);
    else
        for (nnm_idx p = 0; p < k; ++p)
            for (nnm_idx j = 0; j < w; ++j)
                to[p * full + j] = b[p * kb + j * nb];
}

/* k rows of w columns of B as panels of GEMM_NR columns, one behind the other; rows of the last one end in zeros. */
static void NNM_FN(pack_block)(nnm_idx w, nnm_idx k, const real_t *b, nnm_idx kb, nnm_idx nb, int but_whole, real_t *to)
{
    const nnm_idx whole = w / GEMM_NR;
    nnm_idx q = 0;
    if (nb == 1) { /* whole rows, as they lie */
        for (nnm_idx p = 0; p < k && !but_whole; ++p)
            for (q = 0; q < whole; ++q) {
                const real_t *x = b + p * kb + q * GEMM_NR;
                GEMM_FETCH(x + 2 * kb);
                GEMM_FETCH(x + 2 * kb + GEMM_NR - 1);
                memcpy(to + (q * k + p) * GEMM_NR, x, GEMM_NR * sizeof *to);
            }
        q = whole;
    }
    for (; q * GEMM_NR < w; ++q) {
        const nnm_idx j = q * GEMM_NR, some = w - j < GEMM_NR ? w - j : GEMM_NR, full = (some + VL - 1) / VL * VL;
        real_t *panel = to + j * k;
        if (nb == 1) {
            for (nnm_idx p = 0; p < k; ++p)
                NNM_FN(whole_row)(b + j + p * kb, some, full, panel + p * full);
            continue;
        }
        if (some < full)
            memset(panel, 0, (size_t)(k * full) * sizeof *panel); /* at once: a call for each row takes longer */
        NNM_FN(pack_any)(some, k, b + j * nb, kb, nb, panel, full);
    }
}

/* ---------------------------------------------------------------------------------------------- the product */
/* One block of B with some rows of A. */
typedef struct {
    nnm_idx rows, tall;         /* all rows: of `rows`, the first `tall` blocks are one higher than `height` */
    nnm_idx height, from, to;   /* blocks from .. to */
    nnm_idx k, n;               /* of the block of B */
    const real_t *a;            /* of its first row */
    nnm_idx ra, ka;
    const real_t *b;            /* where it is, not packed */
    nnm_idx kb;
    const real_t *after;        /* the next block of B, in pieces so many, so far apart; or NULL */
    nnm_idx pieces, apart;
    real_t *c;
    nnm_idx ldc;
    real_t *pa, *pb;            /* packed */
    const nnm_after *then;      /* of the last part of k */
    const nnm_finish *finish;   /* likewise */
    nnm_idx row, col;           /* of C, where c begins */
    int lines, packs, copies, adds;
} NNM_FN(work);

static void NNM_FN(multiply_block)(const NNM_FN(work) *w)
{
    const nnm_idx panels = (w->n + GEMM_NR - 1) / GEMM_NR, blocks = w->to - w->from, k = w->k;
    const real_t *own = w->a;
    const int apart = w->then && w->then->tile;
    real_t *a = w->pa, *c = apart ? (real_t *)w->then->tile : w->c;
    const nnm_idx ldc = apart ? w->n : w->ldc;
    nnm_idx row = w->row;
    nnm_idx late = w->pieces - blocks * panels; /* the next block is asked for by the last tiles, a piece each */
    for (nnm_idx s = w->from; s < w->to; ++s) {
        const nnm_idx h = w->height + (s < w->tall);
        const real_t *below = w->packs && s + 1 < w->to ? own + h * w->ra : NULL;
        if (w->packs && w->lines)
            NNM_FN(pack_lines)(h, k, own, w->ra, a);
        else if (w->packs)
            NNM_FN(pack_any)(h, k, own, w->ka, w->ra, a, h);
        for (nnm_idx q = 0; q < panels; ++q, ++late) {
            const nnm_idx j = q * GEMM_NR, some = w->n - j < GEMM_NR ? w->n - j : GEMM_NR, nv = (some + VL - 1) / VL;
            NNM_FN(ahead) next = {a, a, 0, 0};
            if (below && w->lines && q < h)
                next = (NNM_FN(ahead)){below + q * w->ra, q + panels < h ? below + (q + panels) * w->ra : a, LINE,
                                       q + panels < h ? LINE : 0};
            else if (below && !w->lines && w->ra == 1)
                next = (NNM_FN(ahead)){below + k * q / panels * w->ka, a, w->ka, 0};
            if (w->after && late >= 0 && next.step_b == 0) {
                next.b = w->after + late * w->apart;
                next.step_b = LINE;
            }
            const int copies = w->copies && s == w->from && some == GEMM_NR;
            const real_t *b = copies ? w->b + j : w->pb + j * k;
            const nnm_idx kb = copies ? w->kb : nv * VL;
            const NNM_FN(tile_f) tile = NNM_FN(tiles)[h - 1][w->lines][nv - 1][copies];
            NNM_FN(finish) columns;
            if (w->finish)
                columns = NNM_FN(finish_from)(w->finish, w->col + j);
            if (some % VL)
                NNM_FN(edge)(tile, h, some, nv * VL, k, a, h, b, c + j, ldc, w->adds, &next, w->finish ? &columns : NULL);
            else if (w->finish)
                NNM_FN(last_tiles)[h - 1][w->lines][nv - 1][copies](k, a, h, b, kb, w->pb + j * k, c + j, ldc, w->adds,
                                                                    &next, &columns);
            else
                tile(k, a, h, b, kb, w->pb + j * k, c + j, ldc, w->adds, &next);
        }
        own += h * w->ra;
        a += h * ((k + LINE - 1) / LINE * LINE);
        if (w->then)
            w->then->done(w->then, row, h, w->col, w->n, (char *)c, ldc);
        row += h;
        c += apart ? 0 : h * ldc;
    }
}

void NNM_FN(gemm_packed)(nnm_idx m, nnm_idx n, nnm_idx k, const real_t *a, nnm_idx ra, nnm_idx ka, const real_t *b,
                         nnm_idx kb, nnm_idx nb, real_t *c, nnm_idx ldc, int adds, real_t *room, const void *after,
                         const void *finish)
{
    if (m < 1 || n < 1)
        return;
    const nnm_idx depth = GEMM_DEPTH * 4 / (nnm_idx)sizeof(real_t), steps = (k + LINE - 1) / LINE;
    const nnm_idx blocks = (m + GEMM_PR - 1) / GEMM_PR, panels = (n + GEMM_NR - 1) / GEMM_NR;
    const nnm_idx mparts = (blocks * GEMM_PR + GEMM_TALL - 1) / GEMM_TALL, nparts = (n + GEMM_WIDE - 1) / GEMM_WIDE,
                  kparts = k > 0 ? (k + depth - 1) / depth : 1, deep = (steps + kparts - 1) / kparts * LINE;
    NNM_FN(work) w = {.rows = m, .tall = m % blocks, .height = m / blocks, .ra = ra, .ka = ka, .kb = kb, .ldc = ldc};
    const int few = nb == 1 && n * k <= GEMM_NEAR / (nnm_idx)sizeof(real_t);
    w.lines = ka == 1;
    w.pa = room;
    nnm_idx row = 0;
    for (nnm_idx mp = 0; mp < mparts; ++mp) {
        w.from = blocks * mp / mparts;
        w.to = blocks * (mp + 1) / mparts;
        const nnm_idx end = w.to * w.height + (w.to < w.tall ? w.to : w.tall);
        w.copies = few && end - row <= GEMM_FEW;
        w.pb = room + (end - row) * deep;
        for (nnm_idx kp = 0; kp < kparts; ++kp) {
            const nnm_idx p = steps * kp / kparts * LINE, q = steps * (kp + 1) / kparts * LINE;
            w.k = (q < k ? q : k) - p;
            w.adds = kp > 0 || adds;
            w.then = kp + 1 == kparts ? after : NULL;
            w.finish = kp + 1 == kparts ? finish : NULL;
            w.row = row;
            w.a = a + row * ra + p * ka;
            for (nnm_idx np = 0; np < nparts; ++np) {
                const nnm_idx j = panels * np / nparts * GEMM_NR, l = panels * (np + 1) / nparts * GEMM_NR;
                w.n = (l < n ? l : n) - j;
                w.packs = np == 0;
                w.b = b + p * kb + j * nb;
                w.c = c + row * ldc + j;
                w.col = j;
                w.after = w.copies ? NULL : np + 1 < nparts ? w.b + w.n * nb : kp + 1 < kparts ? b + q * kb : NULL;
                w.pieces = nb == 1 ? w.k : w.n;
                w.apart = nb == 1 ? kb : nb;
                NNM_FN(pack_block)(w.n, w.k, w.b, kb, nb, w.copies, w.pb);
                NNM_FN(multiply_block)(&w);
            }
        }
        row = end;
    }
}
