#include "vector/plain.h"

#define ARGS (char **args, const nnm_idx *dims, const nnm_idx *strides, void *data)

/* --- logic on bytes that are 0 or 1; any other byte counts as 1 ------------------------------------------------ */
#define LOGICAL(name, value)                                                               \
    static void logical_##name ARGS                                                        \
    {                                                                                      \
        const nnm_idx n = dims[0], sa = strides[0], sb = strides[1];                       \
        const unsigned char *pa = (const unsigned char *)args[0], *pb = (const unsigned char *)args[1]; \
        unsigned char *po = (unsigned char *)args[2];                                      \
        if (sa == 1 && sb == 1) {                                                          \
            NNM_SIMD                                                                       \
            for (nnm_idx i = 0; i < n; ++i) {                                              \
                const unsigned char a = pa[i] != 0, b = pb[i] != 0;                        \
                po[i] = (unsigned char)(value);                                            \
            }                                                                              \
        } else if (n > 0) {                                                                \
            const unsigned char a0 = *pa != 0, b0 = *pb != 0;                              \
            for (nnm_idx i = 0; i < n; ++i) {                                              \
                const unsigned char a = sa ? pa[i * sa] != 0 : a0, b = sb ? pb[i * sb] != 0 : b0; \
                po[i] = (unsigned char)(value);                                            \
            }                                                                              \
        }                                                                                  \
    }
LOGICAL(and, a & b)
LOGICAL(or, a | b)
LOGICAL(xor, a ^ b)

static void logical_not ARGS
{
    const nnm_idx n = dims[0];
    const unsigned char *px = (const unsigned char *)args[0];
    unsigned char *po = (unsigned char *)args[1];
    if (strides[0]) {
        NNM_SIMD
        for (nnm_idx i = 0; i < n; ++i)
            po[i] = px[i] == 0;
    } else if (n > 0) {
        memset(po, *px == 0, (size_t)n);
    }
}

/* --- casts, as C makes them and NumPy too: what does not fit an integer type is undefined ------------------------- */
typedef unsigned char nnm_b1; /* to bool: whether it is not 0 */
#define TYPES(X, from, from_t)                                                             \
    X(from, from_t, i1, int8_t)                                                            \
    X(from, from_t, i2, int16_t)                                                           \
    X(from, from_t, i4, int32_t)                                                           \
    X(from, from_t, i8, int64_t)                                                           \
    X(from, from_t, u1, uint8_t)                                                           \
    X(from, from_t, u2, uint16_t)                                                          \
    X(from, from_t, u4, uint32_t)                                                          \
    X(from, from_t, u8, uint64_t)                                                          \
    X(from, from_t, f4, float)                                                             \
    X(from, from_t, f8, double)
#define FROM_ALL(X)                                                                        \
    TYPES(X, b1, nnm_b1)                                                                   \
    TYPES(X, i1, int8_t)                                                                   \
    TYPES(X, i2, int16_t)                                                                  \
    TYPES(X, i4, int32_t)                                                                  \
    TYPES(X, i8, int64_t)                                                                  \
    TYPES(X, u1, uint8_t)                                                                  \
    TYPES(X, u2, uint16_t)                                                                 \
    TYPES(X, u4, uint32_t)                                                                 \
    TYPES(X, u8, uint64_t)                                                                 \
    TYPES(X, f4, float)                                                                    \
    TYPES(X, f8, double)

/* An output in the place of its input may be of the same size only: the lowering sees to it. */
#define CAST(from, from_t, to, to_t)                                                       \
    static void from##_to_##to ARGS                                                        \
    {                                                                                      \
        const nnm_idx n = dims[0];                                                         \
        const from_t *px = (const from_t *)args[0];                                        \
        to_t *po = (to_t *)args[1];                                                        \
        if (strides[0] == (nnm_idx)sizeof(from_t)) {                                       \
            NNM_SIMD                                                                       \
            for (nnm_idx i = 0; i < n; ++i)                                                \
                po[i] = (to_t)px[i];                                                       \
        } else if (n > 0) {                                                                \
            const to_t y = (to_t)*px;                                                      \
            for (nnm_idx i = 0; i < n; ++i)                                                \
                po[i] = y;                                                                 \
        }                                                                                  \
    }
FROM_ALL(CAST)

#define TRUTH(from, from_t)                                                                \
    static void from##_to_b1 ARGS                                                          \
    {                                                                                      \
        const nnm_idx n = dims[0];                                                         \
        const from_t *px = (const from_t *)args[0];                                        \
        nnm_b1 *po = (nnm_b1 *)args[1];                                                    \
        if (strides[0] == (nnm_idx)sizeof(from_t)) {                                       \
            NNM_SIMD                                                                       \
            for (nnm_idx i = 0; i < n; ++i)                                                \
                po[i] = px[i] != 0;                                                        \
        } else if (n > 0) {                                                                \
            memset(po, *px != 0, (size_t)n);                                               \
        }                                                                                  \
    }
TRUTH(b1, nnm_b1)
TRUTH(i1, int8_t)
TRUTH(i2, int16_t)
TRUTH(i4, int32_t)
TRUTH(i8, int64_t)
TRUTH(u1, uint8_t)
TRUTH(u2, uint16_t)
TRUTH(u4, uint32_t)
TRUTH(u8, uint64_t)
TRUTH(f4, float)
TRUTH(f8, double)

/* --- copies: both strides are free, 0 for the input fills; nothing overlaps but an array with itself ------------- */
typedef struct {
    uint64_t first, second;
} pair;

#define COPY(size, item_t)                                                                 \
    static void copy_##size ARGS                                                           \
    {                                                                                      \
        const nnm_idx n = dims[0], sx = strides[0], so = strides[1];                       \
        const char *px = args[0];                                                          \
        char *po = args[1];                                                                \
        if (n <= 0)                                                                        \
            return;                                                                        \
        if (so == size && sx == size) {                                                    \
            memmove(po, px, (size_t)n * size);                                             \
        } else if (so == size && sx == 0) {                                                \
            const item_t x = *(const item_t *)px;                                          \
            item_t *to = (item_t *)po;                                                     \
            for (nnm_idx i = 0; i < n; ++i)                                                \
                to[i] = x;                                                                 \
        } else if (so == size) {                                                           \
            item_t *to = (item_t *)po;                                                     \
            for (nnm_idx i = 0; i < n; ++i, px += sx)                                      \
                to[i] = *(const item_t *)px;                                               \
        } else {                                                                           \
            for (nnm_idx i = 0; i < n; ++i, px += sx, po += so)                            \
                *(item_t *)po = *(const item_t *)px;                                       \
        }                                                                                  \
    }
COPY(1, uint8_t)
COPY(2, uint16_t)
COPY(4, uint32_t)
COPY(8, uint64_t)
COPY(16, pair)

#define CAST_ROW(from, from_t, to, to_t) {"to_" #to, #from, #from, #to, from##_to_##to},
#define TRUTH_ROW(from) {"to_b1", #from, #from, "b1", from##_to_b1},
#define COPY_ROW(size) {"copy", #size, #size, #size, copy_##size},
const nnm_plain_row nnm_plain_rows[] = {
    {"logical_and", "b1", "bb", "b", logical_and},
    {"logical_or", "b1", "bb", "b", logical_or},
    {"logical_xor", "b1", "bb", "b", logical_xor},
    {"logical_not", "b1", "b", "b", logical_not},
    FROM_ALL(CAST_ROW)
    TRUTH_ROW(b1) TRUTH_ROW(i1) TRUTH_ROW(i2) TRUTH_ROW(i4) TRUTH_ROW(i8) TRUTH_ROW(u1) TRUTH_ROW(u2)
    TRUTH_ROW(u4) TRUTH_ROW(u8) TRUTH_ROW(f4) TRUTH_ROW(f8)
    COPY_ROW(1) COPY_ROW(2) COPY_ROW(4) COPY_ROW(8) COPY_ROW(16)
};
const int nnm_plain_count = (int)(sizeof nnm_plain_rows / sizeof *nnm_plain_rows);
