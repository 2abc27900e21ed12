// Random numbers from counters: Philox4x32-10 and what is made of its words. Mirrors random.inc.c line for line.
//
// A key is two words and gives a row of `count` numbers; a thread makes the numbers of one block of four words,
// philox(counter = (low(b), high(b), 0, purpose), key). n is the number of blocks of all rows together.
// Every product and sum is rounded by itself, never fused, so that the bits are those of the host.
// Source: Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".

struct Words {
    unsigned int w[4];
};

// Products and sums that the compiler may not join to a fused multiply-add.
#ifdef __CUDA_ARCH__
__device__ inline float mul(float x, float y) { return __fmul_rn(x, y); }
__device__ inline float add(float x, float y) { return __fadd_rn(x, y); }
__device__ inline double mul(double x, double y) { return __dmul_rn(x, y); }
__device__ inline double add(double x, double y) { return __dadd_rn(x, y); }
#else // the text is compiled for the host by tests, without contraction
template <typename real_t> __device__ inline real_t mul(real_t x, real_t y) { return x * y; }
template <typename real_t> __device__ inline real_t add(real_t x, real_t y) { return x + y; }
#endif

__device__ inline Words philox(Words counter, const unsigned int *key)
{
    unsigned int c0 = counter.w[0], c1 = counter.w[1], c2 = counter.w[2], c3 = counter.w[3];
    unsigned int k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; ++round) {
        const unsigned long long p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
        const unsigned int d0 = (unsigned int)(p1 >> 32) ^ c1 ^ k0, d2 = (unsigned int)(p0 >> 32) ^ c3 ^ k1;
        c0 = d0;
        c1 = (unsigned int)p1;
        c2 = d2;
        c3 = (unsigned int)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return Words{{c0, c1, c2, c3}};
}

__device__ inline Words philox_block(long long at, const unsigned int *key, unsigned int purpose)
{
    return philox(Words{{(unsigned int)at, (unsigned int)((unsigned long long)at >> 32), 0, purpose}}, key);
}

// A word as a number, rounded once.
template <typename real_t> __device__ inline real_t whole(unsigned int word)
{
    return add(mul((real_t)(int)(word >> 16), (real_t)65536), (real_t)(int)(word & 0xFFFFu));
}

// log(u) for 0 < u <= 1, by 2 atanh((m - 1) / (m + 1)) and the exponent; see random.inc.c.
__device__ inline float log_of(float u)
{
    const unsigned int moved = __float_as_uint(u) + (0x3F800000u - 0x3F3504F3u);
    const float e = (float)((int)(moved >> 23) - 127);
    const float m = __uint_as_float((moved & 0x7FFFFFu) + 0x3F3504F3u);
    const float f = add(m, -1.0f);
    const float s = f / add(2.0f, f), q = mul(s, s);
    float p = 1.0f / 9;
    p = add(mul(p, q), 1.0f / 7);
    p = add(mul(p, q), 1.0f / 5);
    p = add(mul(p, q), 1.0f / 3);
    const float rest = add(mul(mul(mul(2.0f, s), q), p), mul(e, -2.12194440e-4f));
    return add(mul(e, 0.693359375f), add(f, -add(mul(s, f), -rest)));
}

__device__ inline double log_of(double u)
{
    const unsigned long long one = 0x3FF0000000000000ull, root = 0x3FE6A09E667F3BCDull;
    const unsigned long long moved = (unsigned long long)__double_as_longlong(u) + (one - root);
    const double e = (double)((int)(moved >> 52) - 1023);
    const double m = __longlong_as_double((long long)((moved & 0xFFFFFFFFFFFFFull) + root));
    const double f = add(m, -1.0);
    const double s = f / add(2.0, f), q = mul(s, s);
    double p = 1.0 / 21;
    p = add(mul(p, q), 1.0 / 19);
    p = add(mul(p, q), 1.0 / 17);
    p = add(mul(p, q), 1.0 / 15);
    p = add(mul(p, q), 1.0 / 13);
    p = add(mul(p, q), 1.0 / 11);
    p = add(mul(p, q), 1.0 / 9);
    p = add(mul(p, q), 1.0 / 7);
    p = add(mul(p, q), 1.0 / 5);
    p = add(mul(p, q), 1.0 / 3);
    const double rest = add(mul(mul(mul(2.0, s), q), p), mul(e, 1.90821492927058770002e-10));
    return add(mul(e, 6.93147180369123816490e-01), add(f, -add(mul(s, f), -rest)));
}

// sin and cos of t pi / 2 for |t| <= 1/2, by Taylor; see random.inc.c.
__device__ inline void turn_of(float t, float *sine, float *cosine)
{
    const float a = mul(t, 1.5707963267948966f), q = mul(a, a);
    float s = 1.0f / 362880, c = -1.0f / 3628800;
    s = add(mul(s, q), -1.0f / 5040);
    s = add(mul(s, q), 1.0f / 120);
    s = add(mul(s, q), -1.0f / 6);
    c = add(mul(c, q), 1.0f / 40320);
    c = add(mul(c, q), -1.0f / 720);
    c = add(mul(c, q), 1.0f / 24);
    *sine = add(a, add(mul(a, mul(q, s)), mul(t, -4.3711388286737929e-08f)));
    *cosine = add(1.0f, -add(mul(0.5f, q), -mul(q, mul(q, c))));
}

__device__ inline void turn_of(double t, double *sine, double *cosine)
{
    const double a = mul(t, 1.5707963267948966), q = mul(a, a);
    double s = 1.0 / 355687428096000.0, c = 1.0 / 20922789888000.0;
    s = add(mul(s, q), -1.0 / 1307674368000.0);
    s = add(mul(s, q), 1.0 / 6227020800.0);
    s = add(mul(s, q), -1.0 / 39916800);
    s = add(mul(s, q), 1.0 / 362880);
    s = add(mul(s, q), -1.0 / 5040);
    s = add(mul(s, q), 1.0 / 120);
    s = add(mul(s, q), -1.0 / 6);
    c = add(mul(c, q), -1.0 / 87178291200.0);
    c = add(mul(c, q), 1.0 / 479001600);
    c = add(mul(c, q), -1.0 / 3628800);
    c = add(mul(c, q), 1.0 / 40320);
    c = add(mul(c, q), -1.0 / 720);
    c = add(mul(c, q), 1.0 / 24);
    *sine = add(a, add(mul(a, mul(q, s)), mul(t, 6.123233995736766e-17)));
    *cosine = add(1.0, -add(mul(0.5, q), -mul(q, mul(q, c))));
}

// Two normal numbers from a radius and an angle.  Source: Box & Muller 1958.
template <typename real_t>
__device__ inline void normal_pair(real_t u, unsigned int quarter, real_t t, real_t *z)
{
    real_t sine, cosine;
    turn_of(t, &sine, &cosine);
    const real_t radius = sqrt(mul((real_t)-2, log_of(u)));
    const real_t turned = mul(radius, quarter & 1 ? sine : cosine), other = mul(radius, quarter & 1 ? cosine : sine);
    z[0] = (quarter + 1) & 2 ? -turned : turned;
    z[1] = quarter & 2 ? -other : other;
}

// The numbers of a block: four of float, two of double.
__device__ inline void uniform_block(const unsigned int *w, float *u)
{
    for (int j = 0; j < 4; ++j)
        u[j] = mul((float)(int)(w[j] >> 8), 5.9604644775390625e-8f);
}

__device__ inline void uniform_block(const unsigned int *w, double *u)
{
    for (int j = 0; j < 2; ++j)
        u[j] = mul(add(mul(whole<double>(w[2 * j + 1]), 2097152.0), (double)(int)(w[2 * j] >> 11)),
                   1.1102230246251565e-16);
}

__device__ inline void normal_block(const unsigned int *w, float *z)
{
    for (int j = 0; j < 4; j += 2) {
        const unsigned int quarter = ((w[j + 1] >> 29) + 1) >> 1;
        const float u = add(mul(whole<float>(w[j]), 2.3283064365386963e-10f), 1.1641532182693481e-10f);
        const float t = mul((float)(int)(w[j + 1] - (quarter << 30)), 9.3132257461547852e-10f);
        normal_pair(u, quarter, t, z + j);
    }
}

__device__ inline void normal_block(const unsigned int *w, double *z)
{
    const unsigned int quarter = ((w[3] >> 29) + 1) >> 1;
    const double low = (double)(int)((w[0] >> 11) + 1), rest = (double)(int)(w[2] >> 11);
    const double u = mul(add(mul(whole<double>(w[1]), 2097152.0), low), 1.1102230246251565e-16);
    const double t = mul(add(mul((double)(int)(w[3] - (quarter << 30)), 2097152.0), rest), 4.4408920985006262e-16);
    normal_pair(u, quarter, t, z);
}

// Single blocks: philox(counter, key), row by row.  w, counters: (n, 4).  keys: (n, 2).
template <typename real_t>
__global__ void random_blocks(long long n, unsigned int *__restrict__ w, const unsigned int *__restrict__ counters,
                              const unsigned int *__restrict__ keys)
{
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        const unsigned int *c = counters + 4 * i;
        const Words made = philox(Words{{c[0], c[1], c[2], c[3]}}, keys + 2 * i);
        for (int j = 0; j < 4; ++j)
            w[4 * i + j] = made.w[j];
    }
}

// Words, one row a key.  w: (rows, count).  keys: (rows, 2).
template <typename real_t>
__global__ void random_words(long long n, unsigned int *__restrict__ w, const unsigned int *__restrict__ keys,
                             long long count, unsigned int purpose)
{
    const long long blocks = (count + 3) / 4, stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        const long long row = i / blocks, first = i % blocks;
        const Words made = philox_block(first, keys + 2 * row, purpose);
        for (int j = 0; j < 4 && 4 * first + j < count; ++j)
            w[row * count + 4 * first + j] = made.w[j];
    }
}

// Uniform numbers in [0, 1), one row a key.  u: (rows, count).  keys: (rows, 2).
template <typename real_t>
__global__ void random_uniform(long long n, real_t *__restrict__ u, const unsigned int *__restrict__ keys,
                               long long count)
{
    const int in_block = 16 / (int)sizeof(real_t);
    const long long blocks = (count + in_block - 1) / in_block, stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        const long long row = i / blocks, first = i % blocks;
        const Words made = philox_block(first, keys + 2 * row, 0);
        real_t numbers[4];
        uniform_block(made.w, numbers);
        for (int j = 0; j < in_block && in_block * first + j < count; ++j)
            u[row * count + in_block * first + j] = numbers[j];
    }
}

// Normal numbers, one row a key.  z: (rows, count).  keys: (rows, 2).
template <typename real_t>
__global__ void random_normal(long long n, real_t *__restrict__ z, const unsigned int *__restrict__ keys,
                              long long count)
{
    const int in_block = 16 / (int)sizeof(real_t);
    const long long blocks = (count + in_block - 1) / in_block, stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        const long long row = i / blocks, first = i % blocks;
        const Words made = philox_block(first, keys + 2 * row, 0);
        real_t numbers[4];
        normal_block(made.w, numbers);
        for (int j = 0; j < in_block && in_block * first + j < count; ++j)
            z[row * count + in_block * first + j] = numbers[j];
    }
}
