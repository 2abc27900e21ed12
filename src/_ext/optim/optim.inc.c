/* Fused optimizer steps: one pass over the weights, in place. Mirrored by optim.cu.
 *
 * The callers give gain_i = 1 - beta_i and c_i = 1 - beta_i^t, computed in double and rounded once: in
 * float32, 1 - 0.999f is off by 1.3e-5 of itself, a hundred times the rounding of everything below.
 */
#include "nnm_quotient.h"

#undef NNM_WIDE
#if NNM_IS_F32 && defined(NNM_QUOTIENT)
#define NNM_WIDE 1
#include "optim/adam_wide.h"
#else
#define NNM_WIDE 0
#endif

/* Adam, one step over n weights, in place.
 *
 *   m <- m + gain1 (g - m),   v <- v + gain2 (g^2 - v)
 *   w <- w - lr (m / c1) / (sqrt(v / c2) + eps)
 *
 * w, m, v, g: (n,), distinct arrays; v >= 0.  Source: Kingma & Ba 2015, algorithm 1.
 */
void NNM_FN(adam_step)(nnm_idx n, real_t *NNM_RESTRICT w, real_t *NNM_RESTRICT m,
                       real_t *NNM_RESTRICT v, const real_t *NNM_RESTRICT g,
                       real_t lr, real_t gain1, real_t gain2, real_t eps,
                       real_t c1, real_t c2)
{
    const real_t step = lr / c1; /* hoisted; the root of v / c2 is split, so that v / c2 cannot overflow */
    const real_t root = NNM_C(1.0) / R_SQRT(c2);
#if NNM_WIDE
    NNM_FN(adam_entries)(n, w, m, v, g, gain1, gain2, step, root, eps, 0.0f, 0);
#else
    NNM_SIMD
    for (nnm_idx i = 0; i < n; ++i) {
        const real_t mi = m[i] + gain1 * (g[i] - m[i]);
        const real_t vi = v[i] + gain2 * (g[i] * g[i] - v[i]);
        m[i] = mi;
        v[i] = vi;
        w[i] -= step * mi / (R_SQRT(vi) * root + eps);
    }
#endif
}

/* AdamW, one step over n weights, in place: the decay acts on the weights and not on the gradient.
 *
 *   m, v as in adam_step;   w <- w - lr decay w - lr (m / c1) / (sqrt(v / c2) + eps)
 *
 * The decay is multiplied by lr, as in PyTorch and optax; in the paper it is not. It is subtracted and
 * not written as the factor 1 - lr decay, which float32 rounds to a wrong decay when lr decay is small.
 * w, m, v, g: (n,), distinct arrays; v >= 0.  Source: Loshchilov & Hutter 2019, algorithm 2.
 */
void NNM_FN(adamw_step)(nnm_idx n, real_t *NNM_RESTRICT w, real_t *NNM_RESTRICT m,
                        real_t *NNM_RESTRICT v, const real_t *NNM_RESTRICT g,
                        real_t lr, real_t gain1, real_t gain2, real_t eps,
                        real_t decay, real_t c1, real_t c2)
{
    const real_t step = lr / c1;
    const real_t root = NNM_C(1.0) / R_SQRT(c2);
    const real_t shrink = lr * decay;
#if NNM_WIDE
    NNM_FN(adam_entries)(n, w, m, v, g, gain1, gain2, step, root, eps, shrink, 1);
#else
    NNM_SIMD
    for (nnm_idx i = 0; i < n; ++i) {
        const real_t mi = m[i] + gain1 * (g[i] - m[i]);
        const real_t vi = v[i] + gain2 * (g[i] * g[i] - v[i]);
        m[i] = mi;
        v[i] = vi;
        w[i] -= shrink * w[i] + step * mi / (R_SQRT(vi) * root + eps);
    }
#endif
}

/* Gradient descent, one step over n weights, in place.
 *
 *   w <- w - lr g
 *
 * w, g: (n,), distinct arrays.
 */
void NNM_FN(gradient_descent_step)(nnm_idx n, real_t *NNM_RESTRICT w, const real_t *NNM_RESTRICT g, real_t lr)
{
    NNM_SIMD
    for (nnm_idx i = 0; i < n; ++i)
        w[i] -= lr * g[i];
}

/* Polyak's heavy ball, one step over n weights, in place.
 *
 *   v <- momentum v + g,   w <- w - lr v
 *
 * w, v, g: (n,), distinct arrays.  Source: Polyak 1964.
 */
void NNM_FN(heavy_ball_step)(nnm_idx n, real_t *NNM_RESTRICT w, real_t *NNM_RESTRICT v,
                             const real_t *NNM_RESTRICT g, real_t lr, real_t momentum)
{
    NNM_SIMD
    for (nnm_idx i = 0; i < n; ++i) {
        const real_t vi = momentum * v[i] + g[i];
        v[i] = vi;
        w[i] -= lr * vi;
    }
}

/* Nesterov's accelerated gradient, one step over n weights, in place.
 *
 *   v <- momentum v + g,   w <- w - lr (g + momentum v)
 *
 * w, v, g: (n,), distinct arrays.  Source: Sutskever et al. 2013.
 */
void NNM_FN(nesterov_step)(nnm_idx n, real_t *NNM_RESTRICT w, real_t *NNM_RESTRICT v,
                           const real_t *NNM_RESTRICT g, real_t lr, real_t momentum)
{
    NNM_SIMD
    for (nnm_idx i = 0; i < n; ++i) {
        const real_t vi = momentum * v[i] + g[i];
        v[i] = vi;
        w[i] -= lr * (g[i] + momentum * vi);
    }
}
