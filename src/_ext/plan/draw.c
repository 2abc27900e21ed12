#include "nnm_random.h"
#include "plan/nnm_plan.h"

/* Random numbers of keys, by the kernels of the family `random`: the bits are those of the eager functions.
 *
 * refs: keys (rows, 2) of uint32, y (rows, count).  ints: what, rows, count, purpose. Threads share the rows.
 * BLOCKS: refs: counters (rows, 4), keys (rows, 2), y (rows, 4).
 */
enum { WORDS, UNIFORM_F4, UNIFORM_F8, NORMAL_F4, NORMAL_F8, BLOCKS };

void nnm_exec_draw(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const nnm_random_kernels *k = nnm_random_table();
    const int64_t what = in->ints[0], count = in->ints[2];
    const nnm_idx fours = (nnm_idx)((count + 3) / 4), twos = (nnm_idx)((count + 1) / 2);
    int64_t low, high;
    nnm_share(in->ints[1], 1, t, nt, &low, &high);
    const nnm_idx n = (nnm_idx)(high - low);
    if (n <= 0)
        return;
    char *y = nnm_at(frame, in->refs[in->nrefs - 1]);
    const unsigned int *keys = (const unsigned int *)nnm_at(frame, in->refs[what == BLOCKS]) + 2 * low;
    const int64_t at = low * count;
    switch (what) {
    case WORDS:
        k->random_words_f32(n * fours, (unsigned int *)y + at, keys, (nnm_idx)count, (unsigned int)in->ints[3]);
        break;
    case UNIFORM_F4: k->random_uniform_f32(n * fours, (float *)y + at, keys, (nnm_idx)count); break;
    case UNIFORM_F8: k->random_uniform_f64(n * twos, (double *)y + at, keys, (nnm_idx)count); break;
    case NORMAL_F4: k->random_normal_f32(n * fours, (float *)y + at, keys, (nnm_idx)count); break;
    case NORMAL_F8: k->random_normal_f64(n * twos, (double *)y + at, keys, (nnm_idx)count); break;
    default:
        k->random_blocks_f32(n, (unsigned int *)y + 4 * low,
                             (const unsigned int *)nnm_at(frame, in->refs[0]) + 4 * low, keys);
    }
}
