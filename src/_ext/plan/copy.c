#include "plan/move.h"

#include <stdlib.h>

/* Strided copy of one array into another of the same shape and item size.
 *
 * refs: from, to.  ints: item size, axes, then for each axis (outermost first) length, stride of from, stride of to in
 * bytes. The lowering has merged axes that lie behind each other; the last axis is the innermost loop. Nothing aliases.
 */
#define ROW(type)                                                                          \
    static void row_##type(int64_t n, const char *x, int64_t sx, char *y, int64_t sy)      \
    {                                                                                      \
        if (sy == (int64_t)sizeof(type) && sx == (int64_t)sizeof(type)) {                  \
            memcpy(y, x, (size_t)n * sizeof(type));                                        \
        } else {                                                                           \
            for (int64_t i = 0; i < n; ++i)                                                \
                *(type *)(y + i * sy) = *(const type *)(x + i * sx);                       \
        }                                                                                  \
    }

typedef struct {
    uint64_t re, im;
} pair;

ROW(uint8_t)
ROW(uint16_t)
ROW(uint32_t)
ROW(uint64_t)
ROW(pair)

nnm_row nnm_row_of(int64_t itemsize)
{
    switch (itemsize) {
    case 1: return row_uint8_t;
    case 2: return row_uint16_t;
    case 4: return row_uint32_t;
    case 8: return row_uint64_t;
    default: return row_pair; /* the lowering lets only these sizes through */
    }
}

/* A transposition, eight rows at a time: each line of the source is read once, however far apart the lines lie (rows at
 * a power of two would else push each other out of the cache), and vectors of two turn in registers. */
typedef uint64_t two __attribute__((vector_size(16), aligned(8), may_alias));

enum { HIGH = 8, WIDE = 4 };

static void turn_uint64_t(const char *x, int64_t sxc, char *y, int64_t syr)
{
    for (int64_t i = 0; i < HIGH; i += 2)
        for (int64_t j = 0; j < WIDE; j += 2) {
            const two a = *(const two *)(x + 8 * i + j * sxc), b = *(const two *)(x + 8 * i + (j + 1) * sxc);
            *(two *)(y + i * syr + 8 * j) = (two){a[0], b[0]};
            *(two *)(y + (i + 1) * syr + 8 * j) = (two){a[1], b[1]};
        }
}

static void turn_uint32_t(const char *x, int64_t sxc, char *y, int64_t syr)
{
    for (int64_t i = 0; i < HIGH; ++i)
        for (int64_t j = 0; j < WIDE; ++j)
            *(uint32_t *)(y + i * syr + 4 * j) = *(const uint32_t *)(x + 4 * i + j * sxc);
}

enum { TILE = 32 };

/* The last two axes of a transposition, tile by tile, so that both sides stay in cache. */
static void tiles(nnm_row row, int64_t item, int64_t rows, int64_t cols, const char *x, int64_t sxr, int64_t sxc, char *y,
                  int64_t syr, int64_t syc)
{
    if (sxr == item && syc == item && (item == 8 || item == 4)) {
        const int64_t high = rows / HIGH * HIGH, wide = cols / WIDE * WIDE;
        for (int64_t i = 0; i < high; i += HIGH) {
            const char *from = x + i * item;
            char *to = y + i * syr;
            for (int64_t j = 0; j < wide; j += WIDE)
                (item == 8 ? turn_uint64_t : turn_uint32_t)(from + j * sxc, sxc, to + j * item, syr);
            if (wide < cols)
                for (int64_t k = 0; k < HIGH; ++k)
                    row(cols - wide, from + k * item + wide * sxc, sxc, to + k * syr + wide * item, item);
        }
        for (int64_t k = high; k < rows; ++k)
            row(cols, x + k * item, sxc, y + k * syr, item);
        return;
    }
    for (int64_t i = 0; i < rows; i += TILE)
        for (int64_t j = 0; j < cols; j += TILE) {
            const int64_t height = rows - i < TILE ? rows - i : TILE, width = cols - j < TILE ? cols - j : TILE;
            for (int64_t k = i; k < i + height; ++k)
                row(width, x + k * sxr + j * sxc, sxc, y + k * syr + j * syc, syc);
        }
}

void nnm_exec_copy(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const char *x = nnm_at(frame, in->refs[0]);
    char *y = nnm_at(frame, in->refs[1]);
    const int64_t itemsize = in->ints[0], axes = in->ints[1];
    const int64_t *axis = in->ints + 2;
    const nnm_row row = nnm_row_of(itemsize);
    if (axes == 0) {
        if (t == 0)
            row(1, x, 0, y, itemsize);
        return;
    }
    int64_t low, high;
    if (axes == 1) {
        nnm_share(axis[0], 4096, t, nt, &low, &high);
        row(high - low, x + low * axis[1], axis[1], y + low * axis[2], axis[2]);
        return;
    }
    /* Threads share the first axis; an odometer runs over the axes before the last two. */
    const int64_t *last = axis + 3 * (axes - 1), *other = last - 3;
    const int transposes = llabs(last[1]) > llabs(other[1]) && other[0] > 1;
    int64_t at[NNM_MAX_AXES] = {0};
    nnm_share(axis[0], axes == 2 ? TILE : 1, t, nt, &low, &high);
    if (low == high)
        return;
    if (axes == 2) {
        const char *from = x + low * axis[1];
        char *to = y + low * axis[2];
        if (transposes)
            tiles(row, itemsize, high - low, last[0], from, other[1], last[1], to, other[2], last[2]);
        else
            for (int64_t i = 0; i < high - low; ++i)
                row(last[0], from + i * other[1], last[1], to + i * other[2], last[2]);
        return;
    }
    at[0] = low;
    for (;;) {
        const char *from = x;
        char *to = y;
        for (int64_t a = 0; a < axes - 2; ++a) {
            from += at[a] * axis[3 * a + 1];
            to += at[a] * axis[3 * a + 2];
        }
        if (transposes)
            tiles(row, itemsize, other[0], last[0], from, other[1], last[1], to, other[2], last[2]);
        else
            for (int64_t i = 0; i < other[0]; ++i)
                row(last[0], from + i * other[1], last[1], to + i * other[2], last[2]);
        int64_t a = axes - 3;
        while (a > 0 && ++at[a] == axis[3 * a])
            at[a--] = 0;
        if (a == 0 && ++at[0] == high)
            return;
    }
}
