// Fused optimizer steps on the device: one pass over the weights, in place. Mirrors optim.inc.c line for line.
//
// The callers give gain_i = 1 - beta_i and c_i = 1 - beta_i^t, computed in double and rounded once.
// Any one-dimensional grid: a thread strides over the weights.

#include "optim.cuh"

// Adam, one step over n weights, in place.
//
//   m <- m + gain1 (g - m),   v <- v + gain2 (g^2 - v)
//   w <- w - lr (m / c1) / (sqrt(v / c2) + eps)
//
// w, m, v, g: (n,), distinct arrays; v >= 0.  Source: Kingma & Ba 2015, algorithm 1.
template <typename real_t>
__global__ void adam_step(long long n, real_t *__restrict__ w, real_t *__restrict__ m,
                          real_t *__restrict__ v, const real_t *__restrict__ g,
                          real_t lr, real_t gain1, real_t gain2, real_t eps,
                          real_t c1, real_t c2)
{
    const real_t step = lr / c1;
    const real_t root = real_t(1) / sqrt(c2);
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        nnm_adam(w[i], m[i], v[i], g[i], step, gain1, gain2, eps, root);
    }
}

// AdamW, one step over n weights, in place: the decay acts on the weights and not on the gradient.
//
//   m, v as in adam_step;   w <- w - lr decay w - lr (m / c1) / (sqrt(v / c2) + eps)
//
// The decay is multiplied by lr, as in PyTorch and optax; in the paper it is not.
// w, m, v, g: (n,), distinct arrays; v >= 0.  Source: Loshchilov & Hutter 2019, algorithm 2.
template <typename real_t>
__global__ void adamw_step(long long n, real_t *__restrict__ w, real_t *__restrict__ m,
                           real_t *__restrict__ v, const real_t *__restrict__ g,
                           real_t lr, real_t gain1, real_t gain2, real_t eps,
                           real_t decay, real_t c1, real_t c2)
{
    const real_t step = lr / c1;
    const real_t root = real_t(1) / sqrt(c2);
    const real_t shrink = lr * decay;
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        nnm_adamw(w[i], m[i], v[i], g[i], step, gain1, gain2, eps, root, shrink);
    }
}

// Gradient descent, one step over n weights, in place.
//
//   w <- w - lr g
//
// w, g: (n,), distinct arrays.
template <typename real_t>
__global__ void gradient_descent_step(long long n, real_t *__restrict__ w, const real_t *__restrict__ g, real_t lr)
{
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride)
        nnm_gradient_descent(w[i], g[i], lr);
}

// Polyak's heavy ball, one step over n weights, in place.
//
//   v <- momentum v + g,   w <- w - lr v
//
// w, v, g: (n,), distinct arrays.  Source: Polyak 1964.
template <typename real_t>
__global__ void heavy_ball_step(long long n, real_t *__restrict__ w, real_t *__restrict__ v,
                                const real_t *__restrict__ g, real_t lr, real_t momentum)
{
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        nnm_heavy_ball(w[i], v[i], g[i], lr, momentum);
    }
}

// Nesterov's accelerated gradient, one step over n weights, in place.
//
//   v <- momentum v + g,   w <- w - lr (g + momentum v)
//
// w, v, g: (n,), distinct arrays.  Source: Sutskever et al. 2013.
template <typename real_t>
__global__ void nesterov_step(long long n, real_t *__restrict__ w, real_t *__restrict__ v,
                              const real_t *__restrict__ g, real_t lr, real_t momentum)
{
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        nnm_nesterov(w[i], v[i], g[i], lr, momentum);
    }
}
