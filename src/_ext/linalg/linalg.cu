// Products that iterations take again and again, in one pass over the matrix. Mirrors linalg.inc.c.

// u = A x and, of each piece of A, its share of y = A^T u: A is read once from memory.
//
//   u_i = sum_j a_ij x_j,   y_bj = sum_i a_ij u_i over the rows i of piece b
//
// Piece b of `blocks` is the rows [b m / blocks, (b + 1) m / blocks); sum_parts adds the shares in their order. So bits
// depend on the number of pieces and on nothing else. Four rows at a time: their second reading comes from cache.
// a: (m, n), rows lda apart. x: (n,), u: (m,), y: (blocks, n), distinct; y is overwritten, also where m = 0.
// Threads of a block: a multiple of 32, at most 1024.
template <typename real_t>
__global__ void normal_rows(long long blocks, long long m, long long n, const real_t *__restrict__ a, long long lda,
                            const real_t *__restrict__ x, real_t *__restrict__ u, real_t *__restrict__ y)
{
    const int rows = 4;
    __shared__ real_t parts[rows][32]; // a sum for each row and warp
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    for (long long b = blockIdx.x; b < blocks; b += gridDim.x) {
        const long long end = (b + 1) * m / blocks;
        real_t *yb = y + b * n; // a thread's columns are its own: no barrier
        for (long long j = threadIdx.x; j < n; j += blockDim.x)
            yb[j] = 0;
        for (long long i = b * m / blocks; i < end; i += rows) {
            const real_t *ai = a + i * lda;
            real_t s[rows];
            for (int r = 0; r < rows; ++r) {
                s[r] = 0;
                if (i + r < end)
                    for (long long j = threadIdx.x; j < n; j += blockDim.x)
                        s[r] += ai[r * lda + j] * x[j];
                for (int d = 16; d > 0; d /= 2)
                    s[r] += __shfl_xor_sync(0xffffffffu, s[r], d);
                if (lane == 0)
                    parts[r][warp] = s[r];
            }
            __syncthreads();
            for (int r = 0; r < rows; ++r) {
                s[r] = 0;
                for (int w = 0; w < warps; ++w)
                    s[r] += parts[r][w];
                if (i + r < end && threadIdx.x == 0)
                    u[i + r] = s[r];
            }
            __syncthreads(); // all have read the sums
            for (long long j = threadIdx.x; j < n; j += blockDim.x) {
                real_t v = yb[j];
                for (int r = 0; r < rows; ++r)
                    if (i + r < end)
                        v += ai[r * lda + j] * s[r];
                yb[j] = v;
            }
        }
    }
}

// y_j = sum_b parts_bj, in the order of b, in double.  parts: (count, n).  y: (n,).
template <typename real_t>
__global__ void sum_parts(long long n, real_t *__restrict__ y, const real_t *__restrict__ parts, long long count)
{
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long j = (long long)blockIdx.x * blockDim.x + threadIdx.x; j < n; j += stride) {
        double s = 0;
        for (long long b = 0; b < count; ++b)
            s += parts[b * n + j];
        y[j] = (real_t)s;
    }
}
