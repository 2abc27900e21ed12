// Fused optimizer steps on the device: one pass over the weights, in place. Mirrors optim.inc.c line for line.
//
// The callers give gain_i = 1 - beta_i and c_i = 1 - beta_i^t, computed in double and rounded once.
// Any one-dimensional grid: a thread strides over the weights.

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
    const real_t step = lr / c1; // hoisted; the root of v / c2 is split, so that v / c2 cannot overflow
    const real_t root = real_t(1) / sqrt(c2);
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        const real_t mi = m[i] + gain1 * (g[i] - m[i]);
        const real_t vi = v[i] + gain2 * (g[i] * g[i] - v[i]);
        m[i] = mi;
        v[i] = vi;
        w[i] -= step * mi / (sqrt(vi) * root + eps);
    }
}

// AdamW, one step over n weights, in place: the decay acts on the weights and not on the gradient.
//
//   m, v as in adam_step;   w <- w - lr decay w - lr (m / c1) / (sqrt(v / c2) + eps)
//
// The decay is multiplied by lr, as in PyTorch and optax; in the paper it is not. It is subtracted and
// not written as the factor 1 - lr decay, which float32 rounds to a wrong decay when lr decay is small.
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
        const real_t mi = m[i] + gain1 * (g[i] - m[i]);
        const real_t vi = v[i] + gain2 * (g[i] * g[i] - v[i]);
        m[i] = mi;
        v[i] = vi;
        w[i] -= shrink * w[i] + step * mi / (sqrt(vi) * root + eps);
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
        w[i] -= lr * g[i];
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
        const real_t vi = momentum * v[i] + g[i];
        v[i] = vi;
        w[i] -= lr * vi;
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
        const real_t vi = momentum * v[i] + g[i];
        v[i] = vi;
        w[i] -= lr * (g[i] + momentum * vi);
    }
}
