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
#include <string.h>

#include "optim/rules.h"
#include "plan/nnm_plan.h"

enum { PIECE = 1024 }; /* entries that are copied before they are changed */

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
        int apart = 0;
        for (int j = 0; j <= slots; ++j) {
            from[j] = nnm_at(frame, read[i * (2 + slots) + (j ? j + 1 : 0)]);
            to[j] = nnm_at(frame, write[i * (1 + slots) + j]);
            apart |= from[j] != to[j];
        }
        const int64_t most = apart ? PIECE : last - first;
        for (int64_t e = first; e < last; e += most) {
            const int64_t n = last - e < most ? last - e : most, at = e * item;
            char *here[1 + NNM_SLOTS_MOST] = {NULL, NULL, NULL};
            for (int j = 0; j <= slots; ++j) {
                here[j] = to[j] + at;
                if (from[j] != to[j])
                    memcpy(here[j], from[j] + at, (size_t)(n * item));
            }
            (wide ? nnm_rule_f64 : nnm_rule_f32)(k, &s, (nnm_idx)n, here[0], g + at, here + 1);
        }
    }
}
