#include "plan/move.h"

/* Sorted rows. An entry becomes a number without sign that has its order: NaN is last, 0 and -0 are the same. */

static inline uint64_t of_float(float v)
{
    uint32_t u;
    v += 0.0f; /* -0 becomes 0 */
    memcpy(&u, &v, 4);
    return v != v ? UINT32_MAX : u >> 31 ? ~u : u | 0x80000000u;
}

static inline uint64_t of_double(double v)
{
    uint64_t u;
    v += 0.0;
    memcpy(&u, &v, 8);
    return v != v ? UINT64_MAX : u >> 63 ? ~u : u | (uint64_t)1 << 63;
}

static inline uint64_t of_signed(int64_t v)
{
    return (uint64_t)v ^ (uint64_t)1 << 63;
}

#define OF_UNSIGNED(v) ((uint64_t)(v))
#define ALL(X)                       \
    X(NNM_F4, float, of_float)       \
    X(NNM_F8, double, of_double)     \
    X(NNM_I1, int8_t, of_signed)     \
    X(NNM_I2, int16_t, of_signed)    \
    X(NNM_I4, int32_t, of_signed)    \
    X(NNM_I8, int64_t, of_signed)    \
    X(NNM_U2, uint16_t, OF_UNSIGNED) \
    X(NNM_U4, uint32_t, OF_UNSIGNED) \
    X(NNM_U8, uint64_t, OF_UNSIGNED)

typedef struct {
    uint64_t key;
    int64_t at;
} entry;

enum { RUN = 12 };

/* Stable: runs by insertion, then merged, from a to b and back. Where the result is. */
static entry *sorted(entry *a, entry *b, int64_t n)
{
    for (int64_t low = 0; low < n; low += RUN) {
        const int64_t high = n - low < RUN ? n : low + RUN;
        for (int64_t i = low + 1; i < high; ++i) {
            const entry e = a[i];
            int64_t j = i;
            for (; j > low && a[j - 1].key > e.key; --j)
                a[j] = a[j - 1];
            a[j] = e;
        }
    }
    for (int64_t width = RUN; width < n; width *= 2) {
        for (int64_t low = 0; low < n; low += 2 * width) {
            const int64_t middle = n - low < width ? n : low + width, high = n - low < 2 * width ? n : low + 2 * width;
            int64_t i = low, j = middle, k = low;
            if (middle == high || a[middle - 1].key <= a[middle].key) {
                memcpy(b + low, a + low, (size_t)(high - low) * sizeof(entry));
                continue;
            }
            while (i < middle && j < high) {
                const int second = a[j].key < a[i].key;
                b[k++] = a[second ? j : i];
                j += second;
                i += !second;
            }
            memcpy(b + k, a + i, (size_t)(middle - i) * sizeof(entry));
            memcpy(b + k + (middle - i), a + j, (size_t)(high - j) * sizeof(entry));
        }
        entry *c = a;
        a = b;
        b = c;
    }
    return a;
}

#define KEYS(type, type_t, key)                                       \
    static void keys_##type_t(int64_t n, const void *from, entry *to) \
    {                                                                 \
        const type_t *x = from;                                       \
        for (int64_t k = 0; k < n; ++k)                               \
            to[k] = (entry){key(x[k]), k};                            \
    }
ALL(KEYS)
KEYS(NNM_U1, uint8_t, OF_UNSIGNED)

#define KEYS_CASE(type, type_t, key) case type: keys_##type_t(n, x, to); break;
static void keys(int64_t type, int64_t n, const void *x, entry *to)
{
    switch (type) {
        ALL(KEYS_CASE)
    default: keys_uint8_t(n, x, to);
    }
}

static int64_t itemsize_of(int64_t type)
{
    switch (type) {
    case NNM_F8: case NNM_I8: case NNM_U8: return 8;
    case NNM_F4: case NNM_I4: case NNM_U4: return 4;
    case NNM_I2: case NNM_U2: return 2;
    default: return 1;
    }
}

/* --- argsort: refs: x, y (int64), contiguous (L, n), scratch of 32 n bytes for each thread that has rows.  ints: type,

 */
void nnm_exec_argsort(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int64_t n = in->ints[2], bytes = n * itemsize_of(in->ints[0]);
    const char *x = nnm_at(frame, in->refs[0]);
    int64_t *y = (int64_t *)nnm_at(frame, in->refs[1]);
    int64_t low, high;
    nnm_share(in->ints[1], 1, t, nt, &low, &high);
    /* as many places as rows or threads, whichever are fewer */
    entry *room = (entry *)nnm_at(frame, in->refs[2]) + (in->ints[1] < nt ? low : t) * 2 * n;
    for (int64_t l = low; l < high; ++l) {
        keys(in->ints[0], n, x + l * bytes, room);
        const entry *done = sorted(room, room + n, n);
        for (int64_t k = 0; k < n; ++k)
            y[l * n + k] = done[k].at;
    }
}

/* --- searchsorted: refs: rows a (L, n), v (L, m) of the same type, y (L, m), contiguous.  ints: type, L, n, m, right.
 * The number of entries of a that are before v or, `right`, not behind it.
 */
#define SEARCH(type, type_t, key)                                                                             \
    static void search_##type_t(int64_t low, int64_t high, int64_t n, int64_t m, int right, const void *from, \
                                const void *wanted, int64_t *y)                                               \
    {                                                                                                         \
        const type_t *v = wanted;                                                                             \
        for (int64_t i = low; i < high; ++i) {                                                                \
            const type_t *a = (const type_t *)from + i / m * n;                                               \
            const uint64_t mine = key(v[i]);                                                                  \
            int64_t first = 0, count = n;                                                                     \
            while (count > 0) {                                                                               \
                const int64_t half = count / 2;                                                               \
                const uint64_t other = key(a[first + half]);                                                  \
                const int behind = right ? other <= mine : other < mine;                                      \
                first = behind ? first + half + 1 : first;                                                    \
                count = behind ? count - half - 1 : half;                                                     \
            }                                                                                                 \
            y[i] = first;                                                                                     \
        }                                                                                                     \
    }
ALL(SEARCH)
SEARCH(NNM_U1, uint8_t, OF_UNSIGNED)

#define SEARCH_CASE(type, type_t, key) case type: search_##type_t(low, high, n, m, right, a, v, y); break;
void nnm_exec_searchsorted(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const int right = (int)in->ints[4];
    const int64_t n = in->ints[2], m = in->ints[3];
    const void *a = nnm_at(frame, in->refs[0]), *v = nnm_at(frame, in->refs[1]);
    int64_t *y = (int64_t *)nnm_at(frame, in->refs[2]);
    int64_t low, high;
    nnm_share(in->ints[1] * m, 64, t, nt, &low, &high);
    switch (in->ints[0]) {
        ALL(SEARCH_CASE)
    default: search_uint8_t(low, high, n, m, right, a, v, y);
    }
}
