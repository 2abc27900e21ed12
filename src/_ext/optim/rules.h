/* The rules of optimizers by number, over the kernels of the family `optim`: what one call does to some entries of a tensor. */
#ifndef NNM_OPTIM_RULES_H
#define NNM_OPTIM_RULES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "nnm_optim.h"

enum {
    NNM_GRADIENT_DESCENT, /* no numbers, no slots */
    NNM_HEAVY_BALL,       /* momentum; a velocity */
    NNM_NESTEROV,         /* the same */
    NNM_ADAM,             /* b1, b2, eps; two moments */
    NNM_ADAMW,            /* b1, b2, eps, decay; two moments */
    NNM_RULES
};

enum { NNM_SLOTS_MOST = 2 };

static inline int nnm_rule_slots(int64_t rule)
{
    return rule == NNM_GRADIENT_DESCENT ? 0 : rule < NNM_ADAM ? 1 : 2;
}

/* The numbers of a step: c_i = 1 - b_i^t for step t, which is computed once, in double, as Python does it. */
typedef struct {
    int64_t rule;
    double rate, c1, c2;
    const double *reals;
} nnm_step_numbers;

static inline nnm_step_numbers nnm_step_of(int64_t rule, double rate, int64_t t, const double *reals)
{
    nnm_step_numbers s = {rule, rate, 1.0, 1.0, reals};
    if (rule == NNM_ADAM || rule == NNM_ADAMW) {
        s.c1 = 1.0 - pow(reals[0], (double)t);
        s.c2 = 1.0 - pow(reals[1], (double)t);
    }
    return s;
}

/* Change n weights and slots in place. */
#define NNM_RULE(real, suffix)                                                                                        \
    static inline void nnm_rule_##suffix(const nnm_optim_kernels *k, const nnm_step_numbers *s, nnm_idx n, char *w, const char *g, \
                             char *const *slot)                                                                   \
    {                                                                                                             \
        const real rate = (real)s->rate;                                                                          \
        const double *r = s->reals;                                                                               \
        real *a = (real *)slot[0], *b = (real *)slot[1];                                                          \
        switch (s->rule) {                                                                                        \
        case NNM_GRADIENT_DESCENT: k->gradient_descent_step_##suffix(n, (real *)w, (const real *)g, rate); break;       \
        case NNM_HEAVY_BALL: k->heavy_ball_step_##suffix(n, (real *)w, a, (const real *)g, rate, (real)r[0]); break;    \
        case NNM_NESTEROV: k->nesterov_step_##suffix(n, (real *)w, a, (const real *)g, rate, (real)r[0]); break;        \
        case NNM_ADAM:                                                                                                \
            k->adam_step_##suffix(n, (real *)w, a, b, (const real *)g, rate, (real)(1 - r[0]), (real)(1 - r[1]),    \
                                  (real)r[2], (real)s->c1, (real)s->c2);                                          \
            break;                                                                                                \
        case NNM_ADAMW:                                                                                               \
            k->adamw_step_##suffix(n, (real *)w, a, b, (const real *)g, rate, (real)(1 - r[0]), (real)(1 - r[1]),   \
                                   (real)r[2], (real)r[3], (real)s->c1, (real)s->c2);                              \
            break;                                                                                                \
        }                                                                                                         \
    }
NNM_RULE(float, f32)
NNM_RULE(double, f64)
#undef NNM_RULE

#endif
