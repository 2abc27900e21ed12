/* Random numbers from counters: Philox4x32-10 and what is made of its words. Mirrored by random.cu.
 *
 * A key is two words and gives a row of numbers. Entry j of the row depends on the key and on j alone: a row
 * of `count` numbers is the beginning of a longer one, and rows are independent of each other. A block is
 * philox(counter = (low(b), high(b), 0, purpose), key) for b = 0, 1, ...: four words. Numbers are made of
 * purpose 0; other purposes make other keys, so that nothing is used twice.
 *
 * n is the number of blocks of all rows together, n = rows * ceil(count / numbers in a block).
 *
 * Everything is exact, or + - * / and the root, each rounded once: the same bits on every instruction set
 * and on the device. Source: Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
 */

#undef NNM_WORDS
#undef NNM_PER_BLOCK
#undef NNM_UBITS
#undef NNM_MANTISSA_BITS
#undef NNM_EXPONENT_BIAS
#undef NNM_ONE_BITS
#undef NNM_ROOT_HALF_BITS
#if NNM_IS_F32
#define NNM_UBITS uint32_t
#define NNM_MANTISSA_BITS 23
#define NNM_EXPONENT_BIAS 127
#define NNM_ONE_BITS 0x3F800000u
#define NNM_ROOT_HALF_BITS 0x3F3504F3u                /* the bits of sqrt(1/2) */
#else
#define NNM_UBITS uint64_t
#define NNM_MANTISSA_BITS 52
#define NNM_EXPONENT_BIAS 1023
#define NNM_ONE_BITS 0x3FF0000000000000u
#define NNM_ROOT_HALF_BITS 0x3FE6A09E667F3BCDu
#endif
#define NNM_WORDS 32                                  /* blocks at a time, a multiple of every vector length */
#define NNM_PER_BLOCK (NNM_IS_F32 ? 4 : 2)            /* numbers of the type in a block */

/* Philox4x32-10: four words in place of the counter's four, under a key of two. */
static inline void NNM_FN(philox)(uint32_t *NNM_RESTRICT w0, uint32_t *NNM_RESTRICT w1, uint32_t *NNM_RESTRICT w2,
                                  uint32_t *NNM_RESTRICT w3, uint32_t k0, uint32_t k1)
{
    uint32_t c0 = *w0, c1 = *w1, c2 = *w2, c3 = *w3;
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        const uint32_t d0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, d2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c0 = d0;
        c1 = (uint32_t)p1;
        c2 = d2;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u; /* the golden ratio, and the root of 3 less 1 */
        k1 += 0xBB67AE85u;
    }
    *w0 = c0;
    *w1 = c1;
    *w2 = c2;
    *w3 = c3;
}

/* Blocks first .. first + count - 1 of one key: w[j][b] is word j of block first + b.  count <= NNM_WORDS. */
static inline void NNM_FN(philox_blocks)(uint32_t (*NNM_RESTRICT w)[NNM_WORDS], nnm_idx first, nnm_idx count,
                                         uint32_t key0, uint32_t key1, uint32_t purpose)
{
    NNM_SIMD
    for (nnm_idx b = 0; b < count; ++b) {
        const uint64_t at = (uint64_t)first + (uint64_t)b;
        uint32_t w0 = (uint32_t)at, w1 = (uint32_t)(at >> 32), w2 = 0, w3 = purpose;
        NNM_FN(philox)(&w0, &w1, &w2, &w3, key0, key1);
        w[0][b] = w0;
        w[1][b] = w1;
        w[2][b] = w2;
        w[3][b] = w3;
    }
}

/* A word as a number, rounded once: the sum of two exact halves, which every instruction set converts. */
static inline real_t NNM_FN(random_whole)(uint32_t word)
{
    return (real_t)(int32_t)(word >> 16) * NNM_C(65536.0) + (real_t)(int32_t)(word & 0xFFFFu);
}

/* log(u) for 0 < u <= 1, u normal: below 2 ULP.
 *
 * u = 2^e m with sqrt(1/2) <= m < sqrt(2), and log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.1716: the
 * series to s^21 (s^9) is off by less than 1e-18 (3e-9) of itself. log 2 is split so that e times its first
 * part is exact.
 */
static inline real_t NNM_FN(random_log)(real_t u)
{
    NNM_UBITS bits;
    memcpy(&bits, &u, sizeof bits);
    /* moved so that the exponent changes at sqrt(1/2) and not at 1 */
    const NNM_UBITS moved = bits + (NNM_ONE_BITS - NNM_ROOT_HALF_BITS);
    const real_t e = (real_t)((int32_t)(moved >> NNM_MANTISSA_BITS) - NNM_EXPONENT_BIAS);
    const NNM_UBITS mantissa = (moved & (((NNM_UBITS)1 << NNM_MANTISSA_BITS) - 1)) + NNM_ROOT_HALF_BITS;
    real_t m;
    memcpy(&m, &mantissa, sizeof m);
    const real_t f = m - NNM_C(1.0);
    const real_t s = f / (NNM_C(2.0) + f), q = s * s;
#if NNM_IS_F32
    real_t p = 1.0f / 9;
    p = p * q + 1.0f / 7;
    p = p * q + 1.0f / 5;
    p = p * q + 1.0f / 3;
    const real_t log2_high = 0.693359375f, log2_low = -2.12194440e-4f;
#else
    real_t p = 1.0 / 21;
    p = p * q + 1.0 / 19;
    p = p * q + 1.0 / 17;
    p = p * q + 1.0 / 15;
    p = p * q + 1.0 / 13;
    p = p * q + 1.0 / 11;
    p = p * q + 1.0 / 9;
    p = p * q + 1.0 / 7;
    p = p * q + 1.0 / 5;
    p = p * q + 1.0 / 3;
    const real_t log2_high = 6.93147180369123816490e-01, log2_low = 1.90821492927058770002e-10;
#endif
    const real_t rest = NNM_C(2.0) * s * q * p + e * log2_low;
    /* f - s f is 2 s without the rounding of the quotient's double: log(1 + f) = f - s f + 2 s (q / 3 + ...) */
    return e * log2_high + (f - (s * f - rest));
}

/* sin and cos of t pi / 2 for |t| <= 1/2: below 2 ULP, small t included. Taylor, to the 17th (9th) power of the
 * angle for the sine and to the 16th (10th) for the cosine: off by less than 1e-18 (3e-9) of themselves.
 */
static inline void NNM_FN(random_turn)(real_t t, real_t *sine, real_t *cosine)
{
    const real_t a = t * NNM_C(1.5707963267948966), q = a * a;
#if NNM_IS_F32
    const real_t left = -4.3711388286737929e-08f;    /* pi / 2 less its float */
    real_t s = 1.0f / 362880, c = -1.0f / 3628800;
    s = s * q - 1.0f / 5040;
    s = s * q + 1.0f / 120;
    s = s * q - 1.0f / 6;
    c = c * q + 1.0f / 40320;
    c = c * q - 1.0f / 720;
    c = c * q + 1.0f / 24;
#else
    const real_t left = 6.123233995736766e-17;       /* pi / 2 less its value in the type */
    real_t s = 1.0 / 355687428096000.0, c = 1.0 / 20922789888000.0;
    s = s * q - 1.0 / 1307674368000.0;
    s = s * q + 1.0 / 6227020800.0;
    s = s * q - 1.0 / 39916800;
    s = s * q + 1.0 / 362880;
    s = s * q - 1.0 / 5040;
    s = s * q + 1.0 / 120;
    s = s * q - 1.0 / 6;
    c = c * q - 1.0 / 87178291200.0;
    c = c * q + 1.0 / 479001600;
    c = c * q - 1.0 / 3628800;
    c = c * q + 1.0 / 40320;
    c = c * q - 1.0 / 720;
    c = c * q + 1.0 / 24;
#endif
    *sine = a + (a * (q * s) + t * left);
    *cosine = NNM_C(1.0) - (NNM_C(0.5) * q - q * (q * c));
}

/* Two normal numbers from a radius and an angle, by Box and Muller: sqrt(-2 log u) times cos and sin of 2 pi v.
 *
 * u is in (0, 1]. The turn v comes as its nearest quarter and the rest t in quarters, exactly, so that numbers
 * near 0 keep their relative precision.  Source: Box & Muller 1958.
 */
static inline void NNM_FN(random_pair)(real_t u, uint32_t quarter, real_t t, real_t *first, real_t *second)
{
    real_t sine, cosine;
    NNM_FN(random_turn)(t, &sine, &cosine);
    const real_t radius = R_SQRT(NNM_C(-2.0) * NNM_FN(random_log)(u));
    const real_t x = quarter & 1 ? sine : cosine, y = quarter & 1 ? cosine : sine;
    const real_t turned = radius * x, other = radius * y;
    *first = (quarter + 1) & 2 ? -turned : turned;   /* cos is negative in quarters 1 and 2, sin in 2 and 3 */
    *second = quarter & 2 ? -other : other;
}

/* Single blocks: philox(counter, key), row by row.
 *
 * w, counters: (n, 4).  keys: (n, 2).
 */
void NNM_FN(random_blocks)(nnm_idx n, unsigned int *NNM_RESTRICT w, const unsigned int *NNM_RESTRICT counters,
                           const unsigned int *NNM_RESTRICT keys)
{
    for (nnm_idx i = 0; i < n; ++i) {
        unsigned int *NNM_RESTRICT wi = w + 4 * i;
        memcpy(wi, counters + 4 * i, 4 * sizeof *w);
        NNM_FN(philox)(wi, wi + 1, wi + 2, wi + 3, keys[2 * i], keys[2 * i + 1]);
    }
}

/* Words, one row a key.
 *
 * w: (rows, count).  keys: (rows, 2).
 */
void NNM_FN(random_words)(nnm_idx n, unsigned int *NNM_RESTRICT w, const unsigned int *NNM_RESTRICT keys,
                          nnm_idx count, unsigned int purpose)
{
    const nnm_idx blocks = (count + 3) / 4;
    uint32_t words[4][NNM_WORDS];
    for (nnm_idx i = 0; i < n;) {
        const nnm_idx row = i / blocks, first = i % blocks;
        const nnm_idx some = blocks - first < NNM_WORDS ? blocks - first : NNM_WORDS;
        NNM_FN(philox_blocks)(words, first, some, keys[2 * row], keys[2 * row + 1], purpose);
        unsigned int *NNM_RESTRICT out = w + row * count + 4 * first;
        const nnm_idx left = count - 4 * first, full = left / 4 < some ? left / 4 : some;
        for (nnm_idx b = 0; b < full; ++b)
            for (int j = 0; j < 4; ++j)
                out[4 * b + j] = words[j][b];
        for (nnm_idx k = 4 * full; k < left && k < 4 * some; ++k)
            out[k] = words[k % 4][k / 4];
        i += some;
    }
}

/* Uniform numbers in [0, 1), one row a key: multiples of 2^-53 from two words, of 2^-24 from one in float32.
 *
 * u: (rows, count).  keys: (rows, 2).
 */
void NNM_FN(random_uniform)(nnm_idx n, real_t *NNM_RESTRICT u, const unsigned int *NNM_RESTRICT keys, nnm_idx count)
{
    const nnm_idx blocks = (count + NNM_PER_BLOCK - 1) / NNM_PER_BLOCK;
    uint32_t words[4][NNM_WORDS];
    real_t made[NNM_PER_BLOCK * NNM_WORDS];
    for (nnm_idx i = 0; i < n;) {
        const nnm_idx row = i / blocks, first = i % blocks;
        const nnm_idx some = blocks - first < NNM_WORDS ? blocks - first : NNM_WORDS;
        NNM_FN(philox_blocks)(words, first, some, keys[2 * row], keys[2 * row + 1], 0);
        for (nnm_idx b = 0; b < some; ++b) {
#if NNM_IS_F32
            for (int j = 0; j < 4; ++j)
                made[4 * b + j] = (real_t)(int32_t)(words[j][b] >> 8) * NNM_C(5.9604644775390625e-8);
#else
            for (int j = 0; j < 2; ++j) {
                const real_t low = (real_t)(int32_t)(words[2 * j][b] >> 11);
                made[2 * b + j] = (NNM_FN(random_whole)(words[2 * j + 1][b]) * NNM_C(2097152.0) + low)
                                  * NNM_C(1.1102230246251565e-16);
            }
#endif
        }
        const nnm_idx left = count - NNM_PER_BLOCK * first, room = NNM_PER_BLOCK * some;
        memcpy(u + row * count + NNM_PER_BLOCK * first, made, (size_t)(left < room ? left : room) * sizeof *u);
        i += some;
    }
}

/* Normal numbers, one row a key; entries 2 j and 2 j + 1 are a pair, of two words in float32 and of four else.
 *
 * z: (rows, count).  keys: (rows, 2).  |z| < 6.77 in float32 and < 8.58 else.
 */
void NNM_FN(random_normal)(nnm_idx n, real_t *NNM_RESTRICT z, const unsigned int *NNM_RESTRICT keys, nnm_idx count)
{
    const nnm_idx blocks = (count + NNM_PER_BLOCK - 1) / NNM_PER_BLOCK;
    uint32_t words[4][NNM_WORDS];
    real_t pairs[NNM_PER_BLOCK][NNM_WORDS], made[NNM_PER_BLOCK * NNM_WORDS];
    for (nnm_idx i = 0; i < n;) {
        const nnm_idx row = i / blocks, first = i % blocks;
        const nnm_idx some = blocks - first < NNM_WORDS ? blocks - first : NNM_WORDS;
        NNM_FN(philox_blocks)(words, first, some, keys[2 * row], keys[2 * row + 1], 0);
#if NNM_IS_F32
        for (int j = 0; j < 4; j += 2) {
            NNM_SIMD
            for (nnm_idx b = 0; b < some; ++b) {
                const uint32_t word = words[j][b], turn = words[j + 1][b];
                const real_t u = NNM_FN(random_whole)(word) * NNM_C(2.3283064365386963e-10)
                                 + NNM_C(1.1641532182693481e-10);
                const uint32_t quarter = ((turn >> 29) + 1) >> 1;
                const real_t t = (real_t)(int32_t)(turn - (quarter << 30)) * NNM_C(9.3132257461547852e-10);
                NNM_FN(random_pair)(u, quarter, t, &pairs[j][b], &pairs[j + 1][b]);
            }
        }
#else
        NNM_SIMD
        for (nnm_idx b = 0; b < some; ++b) {
            /* two words are 53 bits: the second one and, below it, 21 of the first */
            const real_t low = (real_t)(int32_t)((words[0][b] >> 11) + 1), rest = (real_t)(int32_t)(words[2][b] >> 11);
            const uint32_t turn = words[3][b], quarter = ((turn >> 29) + 1) >> 1;
            const real_t u = (NNM_FN(random_whole)(words[1][b]) * NNM_C(2097152.0) + low)
                             * NNM_C(1.1102230246251565e-16);
            const real_t t = ((real_t)(int32_t)(turn - (quarter << 30)) * NNM_C(2097152.0) + rest)
                             * NNM_C(4.4408920985006262e-16);
            NNM_FN(random_pair)(u, quarter, t, &pairs[0][b], &pairs[1][b]);
        }
#endif
        for (nnm_idx b = 0; b < some; ++b)
            for (int j = 0; j < NNM_PER_BLOCK; ++j)
                made[NNM_PER_BLOCK * b + j] = pairs[j][b];
        const nnm_idx left = count - NNM_PER_BLOCK * first, room = NNM_PER_BLOCK * some;
        memcpy(z + row * count + NNM_PER_BLOCK * first, made, (size_t)(left < room ? left : room) * sizeof *z);
        i += some;
    }
}
