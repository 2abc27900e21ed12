// What an optimizer does to one entry, in place: w the weight, g its gradient, m, v the slots.
//
// Included as text by optim.cu and by the kernels of compiled steps. The callers give gain_i = 1 - beta_i, computed in
// double and rounded once, step = lr / c1 and root = 1 / sqrt(c2), where c_i = 1 - beta_i^t: the root of v / c2 is
// split, so that v / c2 cannot overflow.

// m <- m + gain1 (g - m),   v <- v + gain2 (g^2 - v),   w <- w - step m / (sqrt(v) root + eps)
template <typename real_t>
__device__ __forceinline__ void nnm_adam(real_t &w, real_t &m, real_t &v, real_t g, real_t step, real_t gain1,
                                         real_t gain2, real_t eps, real_t root)
{
    m += gain1 * (g - m);
    v += gain2 * (g * g - v);
    w -= step * m / (sqrt(v) * root + eps);
}

// The same after a decay of the weights, shrink = lr decay. It is subtracted and not written as the factor
// 1 - lr decay, which float32 rounds to a wrong decay when lr decay is small.
template <typename real_t>
__device__ __forceinline__ void nnm_adamw(real_t &w, real_t &m, real_t &v, real_t g, real_t step, real_t gain1,
                                          real_t gain2, real_t eps, real_t root, real_t shrink)
{
    m += gain1 * (g - m);
    v += gain2 * (g * g - v);
    w -= shrink * w + step * m / (sqrt(v) * root + eps);
}

// w <- w - lr g
template <typename real_t> __device__ __forceinline__ void nnm_gradient_descent(real_t &w, real_t g, real_t lr)
{
    w -= lr * g;
}

// v <- momentum v + g,   w <- w - lr v
template <typename real_t>
__device__ __forceinline__ void nnm_heavy_ball(real_t &w, real_t &v, real_t g, real_t lr, real_t momentum)
{
    v = momentum * v + g;
    w -= lr * v;
}

// v <- momentum v + g,   w <- w - lr (g + momentum v)
template <typename real_t>
__device__ __forceinline__ void nnm_nesterov(real_t &w, real_t &v, real_t g, real_t lr, real_t momentum)
{
    v = momentum * v + g;
    w -= lr * (g + momentum * v);
}
