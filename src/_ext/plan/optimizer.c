/* A step of an optimizer over all its tensors, by the kernels of the family `optim`: the bits are those of the eager step.
 *
 * refs: learning rate (double), number of the step, from 1 on (int64); of each tensor weights, gradient and slots; of
 *       each tensor the new weights and slots, which may lie where the old ones are.
 * ints: rule (optim/rules.h), type (0 float, 1 double), number of tensors, entries of each, of each the entries of
 *       which the share of a thread is a multiple.
 * reals: the numbers of the rule.
 *
 * Threads share the entries of each tensor: as the product did that has made its gradient, where one has.
 */
#include "plan/optimizer.h"

#include <string.h>

enum { PIECE = 1024 }; /* entries that are copied before they are changed */

/* n entries from entry `at` of weights and slots on, whose gradient is at g. */
static void step_entries(const nnm_optim_kernels *k, const nnm_step_numbers *s, int wide, int slots, int64_t n, int64_t at,
                         const char *const *from, const char *g, char *const *to)
{
    const int64_t item = wide ? 8 : 4;
    int apart = 0;
    for (int j = 0; j <= slots; ++j)
        apart |= from[j] != to[j];
    for (int64_t most = apart ? PIECE : n; n > 0; n -= most, at += most, g += most * item) {
        char *here[1 + NNM_SLOTS_MOST] = {NULL, NULL, NULL};
        most = n < most ? n : most;
        for (int j = 0; j <= slots; ++j) {
            here[j] = to[j] + at * item;
            if (from[j] != to[j])
                memcpy(here[j], from[j] + at * item, (size_t)(most * item));
        }
        (wide ? nnm_rule_f64 : nnm_rule_f32)(k, s, (nnm_idx)most, here[0], g, here + 1);
    }
}

static void step_piece(const nnm_after *after, nnm_idx row, nnm_idx rows, nnm_idx col, nnm_idx cols, char *c, nnm_idx ldc)
{
    const nnm_step_after *s = (const void *)after;
    int64_t at = (s->row + row) * s->cols + s->col + col;
    if (cols == s->cols && cols == ldc) {
        cols *= rows;
        rows = 1;
    }
    for (; rows > 0; --rows, at += s->cols, c += ldc * (s->wide ? 8 : 4))
        step_entries(s->kernels, &s->numbers, s->wide, s->slots, cols, at, s->from, c, s->to);
}

void nnm_step_begin(nnm_step_after *s, const nnm_instr *in, nnm_frame *frame, int64_t rule, int64_t type, int64_t first,
                    int64_t written)
{
    const nnm_ref *r = in->refs + first;
    memset(s, 0, sizeof *s);
    s->after.done = step_piece;
    s->kernels = nnm_optim_table();
    s->numbers = nnm_step_of(rule, *(const double *)nnm_at(frame, r[0]), *(const int64_t *)nnm_at(frame, r[1]), in->reals);
    s->wide = type != 0;
    s->slots = nnm_rule_slots(rule);
    for (int j = 0; j <= s->slots; ++j) {
        s->from[j] = nnm_at(frame, r[2 + j]);
        s->to[j] = nnm_at(frame, in->refs[written + j]);
    }
}

void nnm_exec_optimizer(const nnm_instr *in, nnm_frame *frame, int t, int nt)
{
    const nnm_optim_kernels *k = nnm_optim_table();
    const int64_t *size = in->ints + 3, tensors = in->ints[2], *quantum = size + tensors;
    const int wide = in->ints[1] != 0, slots = nnm_rule_slots(in->ints[0]);
    const int64_t item = wide ? 8 : 4;
    const nnm_step_numbers s = nnm_step_of(in->ints[0], *(const double *)nnm_at(frame, in->refs[0]),
                                           *(const int64_t *)nnm_at(frame, in->refs[1]), in->reals);
    const nnm_ref *read = in->refs + 2, *write = read + tensors * (2 + slots);
    for (int64_t i = 0; i < tensors; ++i) {
        int64_t first, last;
        nnm_share(size[i], quantum[i], t, nt, &first, &last);
        if (first == last)
            continue;
        const char *from[1 + NNM_SLOTS_MOST], *g = nnm_at(frame, read[i * (2 + slots) + 1]);
        char *to[1 + NNM_SLOTS_MOST] = {NULL, NULL, NULL};
        for (int j = 0; j <= slots; ++j) {
            from[j] = nnm_at(frame, read[i * (2 + slots) + (j ? j + 1 : 0)]);
            to[j] = nnm_at(frame, write[i * (1 + slots) + j]);
        }
        step_entries(k, &s, wide, slots, last - first, first, from, g + first * item, to);
    }
}
