// Softmax, log-sum-exp and normalisations over rows, each in one launch: a block of threads does a row at a time.
//
// The meanings are the definitions in autodiff/ops/softmax.py and standardize.py. Sums are made in double, by a tree over
// the threads whose shape depends on their number alone: bits do not depend on the grid.
// x, y: (blocks, n), distinct, n >= 1. What is one number a row: (blocks,). Threads of a block: a multiple of 32.

// The sum of what all threads of the block have, for all; parts has room for a number a warp.
__device__ __forceinline__ double all_sum(double v, double *parts)
{
    for (int d = 16; d > 0; d /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, d);
    if ((threadIdx.x & 31) == 0)
        parts[threadIdx.x >> 5] = v;
    __syncthreads();
    v = 0;
    for (int w = 0; w < (int)blockDim.x >> 5; ++w)
        v += parts[w];
    __syncthreads(); // all have read
    return v;
}

// The largest of what they have; NaN is passed over.
__device__ __forceinline__ double all_max(double v, double *parts)
{
    for (int d = 16; d > 0; d /= 2)
        v = fmax(v, __shfl_xor_sync(0xffffffffu, v, d));
    if ((threadIdx.x & 31) == 0)
        parts[threadIdx.x >> 5] = v;
    __syncthreads();
    for (int w = 0; w < (int)blockDim.x >> 5; ++w)
        v = fmax(v, parts[w]);
    __syncthreads();
    return v;
}

__device__ __forceinline__ double infinite() { return __longlong_as_double(0x7ff0000000000000LL); }

// y_j = e_j / sum_k e_k, e_j = exp(x_j - max_k x_k). A row of -inf alone is NaN or, with zeros = 1, all 0.
template <typename real_t>
__global__ void softmax_rows(long long blocks, real_t *__restrict__ y, const real_t *__restrict__ x, long long n, int zeros)
{
    __shared__ double parts[32];
    for (long long b = blockIdx.x; b < blocks; b += gridDim.x) {
        const real_t *xb = x + b * n;
        real_t *yb = y + b * n; // a thread's entries are its own: no barrier
        double top = -infinite(), sum = 0;
        for (long long j = threadIdx.x; j < n; j += blockDim.x)
            top = fmax(top, (double)xb[j]);
        top = all_max(top, parts);
        if (zeros && top == -infinite())
            top = 0;
        for (long long j = threadIdx.x; j < n; j += blockDim.x) {
            const real_t e = exp(xb[j] - (real_t)top);
            yb[j] = e;
            sum += e;
        }
        sum = all_sum(sum, parts);
        if (zeros && sum == 0)
            sum = 1;
        for (long long j = threadIdx.x; j < n; j += blockDim.x)
            yb[j] /= (real_t)sum;
    }
}

// y = max + log(m + rest): m entries are as large as the largest, with exponentials 1; log1p keeps what is beside them.
template <typename real_t>
__global__ void logsumexp_rows(long long blocks, real_t *__restrict__ y, const real_t *__restrict__ x, long long n)
{
    __shared__ double parts[32];
    for (long long b = blockIdx.x; b < blocks; b += gridDim.x) {
        const real_t *xb = x + b * n;
        double top = -infinite(), ones = 0, rest = 0;
        for (long long j = threadIdx.x; j < n; j += blockDim.x)
            top = fmax(top, (double)xb[j]);
        top = all_max(top, parts);
        if (fabs(top) == infinite())
            top = 0;
        for (long long j = threadIdx.x; j < n; j += blockDim.x) {
            const real_t e = exp(xb[j] - (real_t)top);
            if (e == 1)
                ones += 1;
            else
                rest += e;
        }
        ones = all_sum(ones, parts);
        rest = all_sum(rest, parts);
        if (threadIdx.x == 0)
            y[b] = (real_t)(log1p(rest + (ones - 1)) + top);
    }
}

// 1 / sqrt(s + eps) of the mean square s of a row, whose entries a thread has at c + threadIdx.x, ...; 0 where it has no
// direction. Squares of double could leave the range: there the largest entry is taken out.
template <typename real_t>
__device__ __forceinline__ double factor_of(const real_t *c, long long n, double eps, double *parts, double &s)
{
    double top = 1, sum = 0;
    if (sizeof(real_t) == 8) {
        top = 0;
        for (long long j = threadIdx.x; j < n; j += blockDim.x)
            top = fmax(top, fabs((double)c[j]));
        top = all_max(top, parts);
        if (top == 0 || top == infinite())
            top = 1;
    }
    for (long long j = threadIdx.x; j < n; j += blockDim.x) {
        const double v = c[j] / top;
        sum += v * v;
    }
    const double root = sqrt(all_sum(sum, parts) / n) * top;
    const double length = hypot(root, sqrt(eps));
    s = root * root;
    return length == 0 ? 0 : 1 / length;
}

// y = (x - mean) r, r = (variance + eps)^(-1/2), in two passes of differences to the first entry of a row.
template <typename real_t>
__global__ void standardize_rows(long long blocks, real_t *__restrict__ y, real_t *__restrict__ r, real_t *__restrict__ mean,
                                 real_t *__restrict__ variance, const real_t *__restrict__ x, long long n, double eps)
{
    __shared__ double parts[32];
    for (long long b = blockIdx.x; b < blocks; b += gridDim.x) {
        const real_t *xb = x + b * n;
        real_t *yb = y + b * n;
        const real_t first = xb[0];
        double shift = 0, s;
        for (long long j = threadIdx.x; j < n; j += blockDim.x)
            shift += xb[j] - first;
        shift = all_sum(shift, parts) / n;
        for (long long j = threadIdx.x; j < n; j += blockDim.x)
            yb[j] = (xb[j] - first) - (real_t)shift;
        const double factor = factor_of(yb, n, eps, parts, s);
        for (long long j = threadIdx.x; j < n; j += blockDim.x)
            yb[j] *= (real_t)factor;
        if (threadIdx.x == 0) {
            r[b] = (real_t)factor;
            mean[b] = (real_t)(first + shift);
            variance[b] = (real_t)s;
        }
    }
}

// y = x r, r = (mean square + eps)^(-1/2)
template <typename real_t>
__global__ void rms_rows(long long blocks, real_t *__restrict__ y, real_t *__restrict__ r, const real_t *__restrict__ x,
                         long long n, double eps)
{
    __shared__ double parts[32];
    for (long long b = blockIdx.x; b < blocks; b += gridDim.x) {
        const real_t *xb = x + b * n;
        double s;
        const double factor = factor_of(xb, n, eps, parts, s);
        for (long long j = threadIdx.x; j < n; j += blockDim.x)
            y[b * n + j] = xb[j] * (real_t)factor;
        if (threadIdx.x == 0)
            r[b] = (real_t)factor;
    }
}
