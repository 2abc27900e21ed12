// Attention on the device, by tiles of scores that never leave a block of threads, and the cotangents of q, k, v.
//
//   s_ij = scale q_i . k_j + bias_ij,   a_ij = exp(s_ij) / sum_l exp(s_il),   y_i = sum_j a_ij v_j
//   p_ij = y'_i . v_j,   s'_ij = a_ij (p_ij - sum_l a_il p_il)
//   q'_i = scale sum_j s'_ij k_j,   k'_j = scale sum_i s'_ij q_i,   v'_j = sum_i a_ij y'_i
//
// These are the instructions of Plans (plan/attention.c), one kernel for the first and two for the second; the kernels of
// attention.def work on rows of scores between products of BLAS, which would put the scores into memory here.
// s_ij is -inf where the mask is false and, causal, where j > i. A row without a score above -inf has y_i = 0.
//
// How. A block of 256 threads, 16 by 16, has a tile of scores in registers: thread (down, across) has R rows and C
// columns of it, 4 by 4 of float, 2 by 4 of double. `products` makes the tile as a product of matrices is made, from 16
// columns of both operands at a time in shared memory, so that no size but that of the accumulators depends on d and e.
// `collect` multiplies the tile, which has moved to shared memory, by rows of another operand into accumulators that
// stay in registers: NNM_D / 16 and NNM_E / 16 columns of R rows a thread, for d <= NNM_D, e <= NNM_E (multiples of 16
// up to 256, given with -D; a source is compiled for each pair that is met). The scores of a block go by in tiles of
// columns; maxima and sums run along (`attention`, first round of `attention_pull_q`): what was collected is multiplied
// by exp(old maximum - new maximum). Memory beside the results: three numbers for each query in the pull.
//
// What it costs. Of products of t s d (or e) multiplications, 2 for y; for the pull 5 in `attention_pull_q` and 4 in
// `attention_pull_kv`. Two of them could be saved by maxima and sums kept from the forward pass and by
// sum_l a_il p_il = y'_i . y_i, but that is the sum of rounded products that differ from those it is subtracted from:
// where one weight is nearly 1 the difference would be noise, and here it is exactly 0. No atomic additions: what a
// tile collects has one order, so that the bits depend on neither grid nor time. A score is computed in the same order
// by all three kernels, and so bit for bit the same.
// Shared memory: 34 kB at most, below the 48 kB that every device gives without asking. Per step of the inner product a
// thread reads 4 + 4 numbers (two reads of 16 bytes; lanes of a half warp read neighbours, the two halves the same or
// two broadcasts) for 16 multiplications of float. Rows of shared tiles are 16 bytes longer than a power of two, so
// that columns are stored in two turns and not in sixteen. Reads of global memory are 64 bytes in a row at least, but
// for a bias or mask in `attention_pull_kv`, whose rows lie across. A tile of 64 by 64 scores reads 128 rows for
// 64 * 64 products of rows, from the second-level cache where heads are read by many blocks.
// Registers of a thread, as NVRTC 13.0 says for sm_75 and sm_90: up to 128 for d, e <= 64, so that a multiprocessor has
// two blocks; 128 to 245 for 128 and up to 255 for 256, one block. Spilled are at most 140 bytes (`attention_pull_q` of
// float for sm_90) where two blocks share the registers, at most 40 bytes elsewhere.
// A query alone (a step of decoding) fills one row of a tile of 64: its keys are not shared out to blocks.
//
// Source: Rabe & Staats 2021; Dao et al. 2022, "FlashAttention", algorithms 1 and 4; Milakov & Gimelshein 2018 (sums).

#ifndef NNM_D // entries of queries and keys, of values: multiples of 16, at least d and e
#define NNM_D 64
#define NNM_E 64
#endif
#if NNM_D <= 64 && NNM_E <= 64 // blocks of a multiprocessor: what their registers are shared out to
#define NNM_BLOCKS 2
#else
#define NNM_BLOCKS 1
#endif

// Lengths, and strides in entries: of four axes in front, then of rows, of bias and mask also of columns.
struct Layout {
    long long t, s, d, e, causal;
    long long front[4]; // of the axes in front; what is missing has length 1
    long long q[5], k[5], v[5], g[5], bias[6], mask[6];
};

template <typename real_t> struct Tile {
    static constexpr int R = sizeof(real_t) == 4 ? 4 : 2, C = 4; // of a thread
    static constexpr int ROWS = 16 * R, COLS = 16 * C;
    static constexpr int DEPTH = 16;                             // columns of both operands at a time, in `products`
    static constexpr int LINES = 64 / (int)sizeof(real_t);             // rows of an operand at a time, in `collect`
    static constexpr int PAD = 16 / (int)sizeof(real_t);
    static constexpr int X = ROWS + PAD, Y = COLS + PAD;         // from one line in shared memory to the next
    static constexpr int WIDE = NNM_D > NNM_E ? NNM_D : NNM_E;
    static constexpr int STAGE = DEPTH * (X + Y) > LINES * WIDE ? DEPTH * (X + Y) : LINES * WIDE;
};

template <typename real_t> __device__ __forceinline__ real_t infinity() { return (real_t)__uint_as_float(0x7f800000u); }
template <typename real_t> __device__ __forceinline__ real_t not_a_number()
{
    return (real_t)__uint_as_float(0x7fffffffu);
}

// Where the operand of a head begins.
__device__ __forceinline__ long long head_at(const Layout &at, long long head, const long long *strides)
{
    long long found = 0;
#pragma unroll
    for (int k = 3; k >= 0; --k) {
        found += head % at.front[k] * strides[k];
        head /= at.front[k];
    }
    return found;
}

// The column of a line of 16 M entries that is number m of a thread: fours in a row where they can be read at once.
template <int M> __device__ __forceinline__ int column(int m, int across)
{
    return M % 4 == 0 ? (m & ~3) * 16 + 4 * across + (m & 3) : 16 * m + across;
}

// tile[i][j] = sum_p (fx x_ip) (fy y_jp), in the order of p, of rows of x and y with `depth` > 0 entries; rows from
// `rows` and columns from `cols` on are 0. Everybody has passed a barrier after reading what `stage` held before.
template <typename real_t>
__device__ __forceinline__ void products(real_t (&tile)[Tile<real_t>::R][Tile<real_t>::C], const real_t *__restrict__ x,
                                         long long step_x, int rows, real_t fx, const real_t *__restrict__ y,
                                         long long step_y, int cols, real_t fy, int depth, real_t *stage)
{
    typedef Tile<real_t> T;
    const int across = threadIdx.x % 16, down = threadIdx.x / 16;
    real_t *xs = stage, *ys = stage + T::DEPTH * T::X;
#pragma unroll
    for (int i = 0; i < T::R; ++i)
#pragma unroll
        for (int j = 0; j < T::C; ++j)
            tile[i][j] = 0;
    for (int from = 0; from < depth; from += T::DEPTH) {
        __syncthreads(); // the stage has been read
        const int p = from + across;
#pragma unroll
        for (int r = 0; r < T::ROWS; r += 16)
            xs[across * T::X + r + down] = r + down < rows && p < depth ? fx * x[(r + down) * step_x + p] : 0;
#pragma unroll
        for (int c = 0; c < T::COLS; c += 16)
            ys[across * T::Y + c + down] = c + down < cols && p < depth ? fy * y[(c + down) * step_y + p] : 0;
        __syncthreads(); // the stage is filled
#pragma unroll 4
        for (int l = 0; l < T::DEPTH; ++l) {
            real_t a[T::R], b[T::C];
#pragma unroll
            for (int i = 0; i < T::R; ++i)
                a[i] = xs[l * T::X + T::R * down + i];
#pragma unroll
            for (int j = 0; j < T::C; ++j)
                b[j] = ys[l * T::Y + T::C * across + j];
#pragma unroll
            for (int i = 0; i < T::R; ++i)
#pragma unroll
                for (int j = 0; j < T::C; ++j)
                    tile[i][j] += a[i] * b[j];
        }
    }
}

// The bias added, and -inf where nothing is seen or outside of the tile. `turned`: rows are keys, columns queries.
template <typename real_t>
__device__ __forceinline__ void join(real_t (&tile)[Tile<real_t>::R][Tile<real_t>::C], const Layout &at, bool turned,
                                     long long row, int rows, long long col, int cols,
                                     const real_t *__restrict__ bias, const bool *__restrict__ mask)
{
    typedef Tile<real_t> T;
    const int across = threadIdx.x % 16, down = threadIdx.x / 16;
#pragma unroll
    for (int i = 0; i < T::R; ++i)
#pragma unroll
        for (int j = 0; j < T::C; ++j) {
            const int r = T::R * down + i, c = T::C * across + j;
            const long long query = turned ? col + c : row + r, key = turned ? row + r : col + c;
            bool seen = r < rows && c < cols && (!at.causal || key <= query);
            if (seen && mask)
                seen = mask[query * at.mask[4] + key * at.mask[5]];
            if (seen && bias)
                tile[i][j] += bias[query * at.bias[4] + key * at.bias[5]];
            tile[i][j] = seen ? tile[i][j] : -infinity<real_t>();
        }
}

// The new maximum of a row, so far `top`, from the scores of 16 threads. It does not see NaN, which the sums then have.
template <typename real_t>
__device__ __forceinline__ real_t higher(const real_t (&score)[Tile<real_t>::C], real_t top)
{
#pragma unroll
    for (int j = 0; j < Tile<real_t>::C; ++j)
        top = score[j] > top ? score[j] : top;
#pragma unroll
    for (int by = 8; by > 0; by /= 2) {
        const real_t other = __shfl_xor_sync(0xffffffffu, top, by);
        top = other > top ? other : top;
    }
    return top;
}

// What is subtracted from the scores of a row: their maximum, or 0 where nothing is seen.
template <typename real_t> __device__ __forceinline__ real_t base_of(real_t top)
{
    return top == -infinity<real_t>() ? (real_t)0 : top;
}

template <typename real_t> __device__ __forceinline__ real_t sum_of_row(real_t part)
{
#pragma unroll
    for (int by = 8; by > 0; by /= 2)
        part += __shfl_xor_sync(0xffffffffu, part, by);
    return part;
}

template <typename real_t>
__device__ __forceinline__ void put(const real_t (&tile)[Tile<real_t>::R][Tile<real_t>::C], real_t *to)
{
    typedef Tile<real_t> T;
    const int across = threadIdx.x % 16, down = threadIdx.x / 16;
#pragma unroll
    for (int i = 0; i < T::R; ++i)
#pragma unroll
        for (int j = 0; j < T::C; ++j)
            to[(T::R * down + i) * T::Y + T::C * across + j] = tile[i][j];
}

// out[i][m] += sum_j tile_ij (factor z_jm) over the columns j < lines of a tile in shared memory.
template <typename real_t, int M>
__device__ __forceinline__ void collect(real_t (&out)[Tile<real_t>::R][M], const real_t *tile, const real_t *__restrict__ z,
                                        long long step, int lines, int width, real_t factor, real_t *stage)
{
    typedef Tile<real_t> T;
    const int across = threadIdx.x % 16, down = threadIdx.x / 16;
    for (int from = 0; from < lines; from += T::LINES) {
        __syncthreads(); // the tile is there, and the stage has been read
#pragma unroll
        for (int l = 0; l < T::LINES * 16 * M; l += 256) {
            const int place = l + threadIdx.x, j = place / (16 * M), m = place % (16 * M);
            if (place < T::LINES * 16 * M)
                stage[place] = from + j < lines && m < width ? factor * z[(from + j) * step + m] : 0;
        }
        __syncthreads(); // the stage is filled
#pragma unroll 1
        for (int j = 0; j < T::LINES; j += 4) {
            real_t a[T::R][4];
#pragma unroll
            for (int i = 0; i < T::R; ++i)
#pragma unroll
                for (int l = 0; l < 4; ++l)
                    a[i][l] = tile[(T::R * down + i) * T::Y + from + j + l];
#pragma unroll
            for (int l = 0; l < 4; ++l)
#pragma unroll
                for (int m = 0; m < M; ++m) {
                    const real_t b = stage[(j + l) * 16 * M + column<M>(m, across)];
#pragma unroll
                    for (int i = 0; i < T::R; ++i)
                        out[i][m] += a[i][l] * b;
                }
        }
    }
}

template <typename real_t, int M> __device__ __forceinline__ void clear(real_t (&out)[Tile<real_t>::R][M])
{
#pragma unroll
    for (int i = 0; i < Tile<real_t>::R; ++i)
#pragma unroll
        for (int m = 0; m < M; ++m)
            out[i][m] = 0;
}

// Rows of `width` entries, one behind the other.
template <typename real_t, int M>
__device__ __forceinline__ void store(const real_t (&out)[Tile<real_t>::R][M], real_t *to, int rows, int width)
{
    const int across = threadIdx.x % 16, down = threadIdx.x / 16;
#pragma unroll
    for (int i = 0; i < Tile<real_t>::R; ++i)
#pragma unroll
        for (int m = 0; m < M; ++m) {
            const int r = Tile<real_t>::R * down + i, c = column<M>(m, across);
            if (r < rows && c < width)
                to[(long long)r * width + c] = out[i][m];
        }
}

// Values. n: heads times tiles of queries.  y: (heads, t, e).  q, k, v: see Layout.  bias, mask: or null.
template <typename real_t>
__global__ void __launch_bounds__(256, NNM_BLOCKS)
attention(long long n, real_t *__restrict__ y, const real_t *__restrict__ q, const real_t *__restrict__ k,
          const real_t *__restrict__ v, const real_t *__restrict__ bias, const bool *__restrict__ mask, real_t scale,
          Layout at)
{
    typedef Tile<real_t> T;
    constexpr int M = NNM_E / 16;
    __shared__ __align__(16) real_t stage[T::STAGE];
    __shared__ __align__(16) real_t weights[T::ROWS * T::Y];
    const long long tiles = (at.t + T::ROWS - 1) / T::ROWS;
    const bool some = at.causal || bias || mask; // a row that sees nothing has zeros
    for (long long turn = blockIdx.x; turn < n; turn += gridDim.x) {
        // causal, the last queries of a head have most to do: they begin
        const long long head = turn / tiles, tile = at.causal ? tiles - 1 - turn % tiles : turn % tiles;
        const long long first = tile * T::ROWS;
        const int rows = at.t - first < T::ROWS ? (int)(at.t - first) : T::ROWS;
        const long long seen = at.causal && first + rows < at.s ? first + rows : at.s;
        const real_t *own = q + head_at(at, head, at.q) + first * at.q[4];
        const real_t *keys = k + head_at(at, head, at.k), *values = v + head_at(at, head, at.v);
        const real_t *added = bias ? bias + head_at(at, head, at.bias) : bias;
        const bool *allowed = mask ? mask + head_at(at, head, at.mask) : mask;
        real_t top[T::R], sum[T::R], out[T::R][M];
        clear<real_t, M>(out);
#pragma unroll
        for (int i = 0; i < T::R; ++i) {
            top[i] = -infinity<real_t>();
            sum[i] = 0;
        }
        for (long long key = 0; key < seen; key += T::COLS) {
            const int cols = seen - key < T::COLS ? (int)(seen - key) : T::COLS;
            real_t score[T::R][T::C];
            products<real_t>(score, own, at.q[4], rows, scale, keys + key * at.k[4], at.k[4], cols, 1, (int)at.d, stage);
            join<real_t>(score, at, false, first, rows, key, cols, added, allowed);
#pragma unroll
            for (int i = 0; i < T::R; ++i) {
                const real_t most = higher<real_t>(score[i], top[i]), base = base_of(most);
                const real_t kept = exp(top[i] - base);
                real_t part = 0;
#pragma unroll
                for (int j = 0; j < T::C; ++j) {
                    score[i][j] = exp(score[i][j] - base);
                    part += score[i][j];
                }
                top[i] = most;
                sum[i] = sum[i] * kept + part;
#pragma unroll
                for (int m = 0; m < M; ++m)
                    out[i][m] *= kept;
            }
            put<real_t>(score, weights);
            collect<real_t, M>(out, weights, values + key * at.v[4], at.v[4], cols, (int)at.e, 1, stage);
        }
#pragma unroll
        for (int i = 0; i < T::R; ++i) {
            const real_t all = sum_of_row(sum[i]), by = all == 0 ? some ? (real_t)1 : not_a_number<real_t>() : all;
#pragma unroll
            for (int m = 0; m < M; ++m)
                out[i][m] /= by;
        }
        store<real_t, M>(out, y + (head * at.t + first) * at.e, rows, (int)at.e);
    }
}

// Cotangents of the queries, and what the other kernel needs of each row: the base of its scores, the reciprocal of its
// sum, and its mean sum_j a_ij p_ij. n: heads times tiles of queries.  gq: (heads, t, d).  kept: (3, heads, t).
// q, k, v, g: see Layout; g is the cotangent of the values.
template <typename real_t>
__global__ void __launch_bounds__(256, NNM_BLOCKS)
attention_pull_q(long long n, real_t *__restrict__ gq, real_t *__restrict__ kept, const real_t *__restrict__ q,
                 const real_t *__restrict__ k, const real_t *__restrict__ v, const real_t *__restrict__ g,
                 const real_t *__restrict__ bias, const bool *__restrict__ mask, real_t scale, Layout at)
{
    typedef Tile<real_t> T;
    constexpr int M = NNM_D / 16;
    __shared__ __align__(16) real_t stage[T::STAGE];
    __shared__ __align__(16) real_t pulled[T::ROWS * T::Y];
    const long long tiles = (at.t + T::ROWS - 1) / T::ROWS, all_rows = n / tiles * at.t;
    const bool some = at.causal || bias || mask;
    for (long long turn = blockIdx.x; turn < n; turn += gridDim.x) {
        const long long head = turn / tiles, tile = at.causal ? tiles - 1 - turn % tiles : turn % tiles;
        const long long first = tile * T::ROWS;
        const int rows = at.t - first < T::ROWS ? (int)(at.t - first) : T::ROWS;
        const long long seen = at.causal && first + rows < at.s ? first + rows : at.s;
        const real_t *own = q + head_at(at, head, at.q) + first * at.q[4];
        const real_t *given = g + head_at(at, head, at.g) + first * at.g[4];
        const real_t *keys = k + head_at(at, head, at.k), *values = v + head_at(at, head, at.v);
        const real_t *added = bias ? bias + head_at(at, head, at.bias) : bias;
        const bool *allowed = mask ? mask + head_at(at, head, at.mask) : mask;
        real_t top[T::R], sum[T::R], mean[T::R];
#pragma unroll
        for (int i = 0; i < T::R; ++i) {
            top[i] = -infinity<real_t>();
            sum[i] = mean[i] = 0;
        }
        for (long long key = 0; key < seen; key += T::COLS) {
            const int cols = seen - key < T::COLS ? (int)(seen - key) : T::COLS;
            real_t score[T::R][T::C], p[T::R][T::C];
            products<real_t>(score, own, at.q[4], rows, scale, keys + key * at.k[4], at.k[4], cols, 1, (int)at.d, stage);
            products<real_t>(p, given, at.g[4], rows, 1, values + key * at.v[4], at.v[4], cols, 1, (int)at.e, stage);
            join<real_t>(score, at, false, first, rows, key, cols, added, allowed);
#pragma unroll
            for (int i = 0; i < T::R; ++i) {
                const real_t most = higher<real_t>(score[i], top[i]), base = base_of(most);
                const real_t shrunk = exp(top[i] - base);
                real_t part = 0, weighed = 0;
#pragma unroll
                for (int j = 0; j < T::C; ++j) {
                    const real_t e = exp(score[i][j] - base);
                    part += e;
                    weighed += e * p[i][j];
                }
                top[i] = most;
                sum[i] = sum[i] * shrunk + part;
                mean[i] = mean[i] * shrunk + weighed;
            }
        }
        real_t each[T::R];
#pragma unroll
        for (int i = 0; i < T::R; ++i) {
            const real_t all = sum_of_row(sum[i]);
            each[i] = all == 0 ? some ? (real_t)0 : not_a_number<real_t>() : (real_t)1 / all;
            mean[i] = sum_of_row(mean[i]) * each[i];
            top[i] = base_of(top[i]);
            const int r = T::R * (threadIdx.x / 16) + i;
            if (threadIdx.x % 16 == 0 && r < rows) {
                real_t *to = kept + head * at.t + first + r;
                to[0] = top[i];
                to[all_rows] = each[i];
                to[2 * all_rows] = mean[i];
            }
        }
        real_t out[T::R][M];
        clear<real_t, M>(out);
        for (long long key = 0; key < seen; key += T::COLS) {
            const int cols = seen - key < T::COLS ? (int)(seen - key) : T::COLS;
            real_t score[T::R][T::C], p[T::R][T::C];
            products<real_t>(score, own, at.q[4], rows, scale, keys + key * at.k[4], at.k[4], cols, 1, (int)at.d, stage);
            products<real_t>(p, given, at.g[4], rows, 1, values + key * at.v[4], at.v[4], cols, 1, (int)at.e, stage);
            join<real_t>(score, at, false, first, rows, key, cols, added, allowed);
#pragma unroll
            for (int i = 0; i < T::R; ++i)
#pragma unroll
                for (int j = 0; j < T::C; ++j)
                    score[i][j] = exp(score[i][j] - top[i]) * each[i] * (p[i][j] - mean[i]);
            put<real_t>(score, pulled);
            collect<real_t, M>(out, pulled, keys + key * at.k[4], at.k[4], cols, (int)at.d, 1, stage);
        }
#pragma unroll
        for (int i = 0; i < T::R; ++i)
#pragma unroll
            for (int m = 0; m < M; ++m)
                out[i][m] *= scale;
        store<real_t, M>(out, gq + (head * at.t + first) * at.d, rows, (int)at.d);
    }
}

// Cotangents of keys and values, from what attention_pull_q has kept. n: heads times tiles of keys.
// gk: (heads, s, d).  gv: (heads, s, e).  The rest as there; rows of a tile are keys here.
template <typename real_t>
__global__ void __launch_bounds__(256, NNM_BLOCKS)
attention_pull_kv(long long n, real_t *__restrict__ gk, real_t *__restrict__ gv, const real_t *__restrict__ kept,
                  const real_t *__restrict__ q, const real_t *__restrict__ k, const real_t *__restrict__ v,
                  const real_t *__restrict__ g, const real_t *__restrict__ bias, const bool *__restrict__ mask,
                  real_t scale, Layout at)
{
    typedef Tile<real_t> T;
    constexpr int MK = NNM_D / 16, MV = NNM_E / 16;
    __shared__ __align__(16) real_t stage[T::STAGE];
    __shared__ __align__(16) real_t tile[T::ROWS * T::Y];
    const int across = threadIdx.x % 16;
    const long long tiles = (at.s + T::ROWS - 1) / T::ROWS, all_rows = n / tiles * at.t;
    for (long long turn = blockIdx.x; turn < n; turn += gridDim.x) {
        const long long head = turn / tiles, first = turn % tiles * T::ROWS; // causal, the first keys have most to do
        const int rows = at.s - first < T::ROWS ? (int)(at.s - first) : T::ROWS;
        const real_t *own = k + head_at(at, head, at.k) + first * at.k[4];
        const real_t *values = v + head_at(at, head, at.v) + first * at.v[4];
        const real_t *queries = q + head_at(at, head, at.q), *given = g + head_at(at, head, at.g);
        const real_t *added = bias ? bias + head_at(at, head, at.bias) : bias;
        const bool *allowed = mask ? mask + head_at(at, head, at.mask) : mask;
        real_t of_k[T::R][MK], of_v[T::R][MV];
        clear<real_t, MK>(of_k);
        clear<real_t, MV>(of_v);
        for (long long query = at.causal ? first : 0; query < at.t; query += T::COLS) {
            const int cols = at.t - query < T::COLS ? (int)(at.t - query) : T::COLS;
            const real_t *theirs = queries + query * at.q[4], *pulls = given + query * at.g[4];
            real_t score[T::R][T::C], p[T::R][T::C];
            products<real_t>(score, own, at.k[4], rows, 1, theirs, at.q[4], cols, scale, (int)at.d, stage);
            products<real_t>(p, values, at.v[4], rows, 1, pulls, at.g[4], cols, 1, (int)at.e, stage);
            join<real_t>(score, at, true, first, rows, query, cols, added, allowed);
#pragma unroll
            for (int j = 0; j < T::C; ++j) {
                const int c = T::C * across + j;
                const real_t *of = kept + head * at.t + query + c;
                const real_t base = c < cols ? of[0] : 0, each = c < cols ? of[all_rows] : 0;
                const real_t mean = c < cols ? of[2 * all_rows] : 0;
#pragma unroll
                for (int i = 0; i < T::R; ++i) {
                    score[i][j] = exp(score[i][j] - base) * each;
                    p[i][j] = score[i][j] * (p[i][j] - mean);
                }
            }
            put<real_t>(score, tile);
            collect<real_t, MV>(of_v, tile, pulls, at.g[4], cols, (int)at.e, 1, stage);
            __syncthreads(); // the tile has been read
            put<real_t>(p, tile);
            collect<real_t, MK>(of_k, tile, theirs, at.q[4], cols, (int)at.d, scale, stage);
        }
        store<real_t, MK>(of_k, gk + (head * at.s + first) * at.d, rows, (int)at.d);
        store<real_t, MV>(of_v, gv + (head * at.s + first) * at.e, rows, (int)at.e);
    }
}
