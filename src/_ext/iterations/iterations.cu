// What iterations do on the device between products with an operator: Lanczos, conjugate gradients, powers.
//
// Vectors of one length are rows, (rows, cols), and each row is an iteration of its own. Sums over columns are in double,
// in an order that is fixed: a row is cut into pieces by its length alone (the callers choose `piece`), a block sums a
// piece, and whoever needs the whole adds the sums of the pieces. So the bits depend neither on the grid nor on the
// device, and are the same each time. Numbers of an iteration stay on the device; no kernel reads one that another block
// of the same launch writes, so that they are kept twice, before and after. n is the number of elements that a launch
// goes over; any one-dimensional grid of blocks of 32 to 256 threads, whole warps.

// The sum of the numbers of a block, one a thread, by one warp, which gets it; 32 numbers at a time, then these.
__device__ double warp_sum(const double *numbers)
{
    double x = 0;
    for (int k = threadIdx.x & 31; k < (int)blockDim.x; k += 32)
        x += numbers[k];
    for (int s = 16; s > 0; s /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, s);
    return x;
}

// The sum of a number of each thread of the block, for all threads.
__device__ double block_sum(double x)
{
    __shared__ double numbers[256], sum;
    numbers[threadIdx.x] = x;
    __syncthreads(); // all are written, and the last sum is read
    if (threadIdx.x < 32) {
        x = warp_sum(numbers);
        if (threadIdx.x == 0)
            sum = x;
    }
    __syncthreads();
    return sum;
}

// The largest of them, which are not NaN, for thread 0; a barrier must follow before the next call.
__device__ double block_max(double x)
{
    __shared__ double numbers[256];
    numbers[threadIdx.x] = x;
    __syncthreads();
    if (threadIdx.x == 0)
        for (int k = 1; k < (int)blockDim.x; ++k)
            x = fmax(x, numbers[k]);
    return x;
}

// The sum of the pieces of a row.
__device__ double whole(const double *pieces, long long count)
{
    double s = 0;
    for (long long i = threadIdx.x; i < count; i += blockDim.x)
        s += pieces[i];
    return block_sum(s);
}

// Four sums at once: that of the j-th numbers goes to out[j stride], for the first `count`.
__device__ void store_sums(const double *x, double *out, long long stride, int count)
{
    __shared__ double numbers[4][256];
    for (int j = 0; j < 4; ++j)
        numbers[j][threadIdx.x] = x[j];
    __syncthreads();
    for (int j = threadIdx.x / 32; j < count; j += blockDim.x / 32) {
        const double sum = warp_sum(numbers[j]);
        if ((threadIdx.x & 31) == 0)
            out[j * stride] = sum;
    }
    __syncthreads(); // all are read
}

// A number of each thread of the block, where all threads find it.
__device__ const double *shared_by_all(double x)
{
    __shared__ double numbers[256];
    __syncthreads();
    numbers[threadIdx.x] = x;
    __syncthreads();
    return numbers;
}

// Products of rows, piece by piece.
//
//   sums[0, i, p] = sum of a b,   sums[1, i, p] = sum of a a,   over piece p of row i
//
// a, b: (rows, cols); sums: (2, rows, pieces).
template <typename real_t>
__global__ void row_products(long long n, const real_t *a, const real_t *b, double *sums,
                             long long cols, long long piece)
{
    const long long pieces = (cols + piece - 1) / piece, tasks = n / cols * pieces;
    for (long long t = blockIdx.x; t < tasks; t += gridDim.x) {
        const long long row = t / pieces * cols, first = t % pieces * piece;
        const long long last = first + piece < cols ? first + piece : cols;
        double ab = 0, aa = 0;
        for (long long k = row + first + threadIdx.x; k < row + last; k += blockDim.x) {
            const double x = a[k];
            ab += x * b[k];
            aa += x * x;
        }
        ab = block_sum(ab);
        aa = block_sum(aa);
        if (threadIdx.x == 0) {
            sums[t] = ab;
            sums[tasks + t] = aa;
        }
    }
}

// ------------------------------------------------------------------------------------------ Lanczos

// The coefficients of w on basis vectors, and its square, piece by piece.
//
//   sums[i, r, p] = sum over piece p of basis[i, r] w[i], r < height;   sums[i, height, p] that of w[i] w[i]
//
// basis: (rows, capacity, cols), of which the first `height` vectors count; w: (rows, cols);
// sums: (rows, height + 1, pieces); n = rows (height + 1) cols. Four vectors share what is read of w.
template <typename real_t>
__global__ void basis_products(long long n, const real_t *basis, const real_t *w, double *sums,
                               long long capacity, long long height, long long cols, long long piece)
{
    const long long pieces = (cols + piece - 1) / piece, groups = height / 4 + 1;
    const long long tasks = n / ((height + 1) * cols) * groups * pieces;
    for (long long t = blockIdx.x; t < tasks; t += gridDim.x) {
        const long long i = t / pieces / groups, r = 4 * (t / pieces % groups), p = t % pieces;
        const long long first = p * piece, last = first + piece < cols ? first + piece : cols;
        const real_t *x = w + i * cols;
        const real_t *b[4];
        double s[4] = {0, 0, 0, 0};
        for (int j = 0; j < 4; ++j)
            b[j] = r + j < height ? basis + (i * capacity + r + j) * cols : x;
        for (long long k = first + threadIdx.x; k < last; k += blockDim.x) {
            const double xk = x[k];
            for (int j = 0; j < 4; ++j)
                s[j] += xk * b[j][k];
        }
        store_sums(s, sums + (i * (height + 1) + r) * pieces + p, pieces, r + 4 <= height + 1 ? 4 : (int)(height + 1 - r));
    }
}

// One pass of classical Gram-Schmidt with the coefficients c of `basis_products`.
//
//   w[i] <- w[i] - sum over r < height of c[i, r] basis[i, r];   squares[i, p] = sum of w w over piece p of row i
//
// With step >= 0 it is the first pass of step number `step`, whose v is the last vector, and
//
//   record[step, i] = (alpha = c[i, height - 1], -, top, leak)
//
// top: the largest |A v| of steps up to this one and `known` of runs before, or one that is not finite; leak: the largest
// coefficient that symmetry makes zero: all but alpha and, after the first step, the one before it, beta of that step.
// basis, w, sums: as there; piece: of the sums; squares: (rows, pieces of `width`); record: (steps, rows, 4).
template <typename real_t>
__global__ void take_away(long long n, const real_t *basis, real_t *w, const double *sums, double *squares,
                          double *record, long long capacity, long long height, long long cols, long long piece,
                          long long width, long long step, double known)
{
    const long long pieces = (cols + piece - 1) / piece, widths = (cols + width - 1) / width, rows = n / cols;
    for (long long t = blockIdx.x; t < rows * widths; t += gridDim.x) {
        const long long i = t / widths, p = t % widths;
        const long long first = p * width, last = first + width < cols ? first + width : cols;
        const double *mine = sums + i * (height + 1) * pieces;
        const bool writes = step >= 0 && p == 0;
        double *now = record + ((writes ? step : 0) * rows + i) * 4;
        double square = 0, leak = 0;
        for (long long at = first; at < last; at += 4 * blockDim.x) {
            real_t taken[4] = {0, 0, 0, 0};
            for (long long low = 0; low < height; low += blockDim.x) {
                const long long r = low + threadIdx.x, some = height - low < blockDim.x ? height - low : blockDim.x;
                double c = 0;
                if (r < height)
                    for (long long q = 0; q < pieces; ++q)
                        c += mine[r * pieces + q];
                if (writes && at == first && r < height) {
                    if (r == height - 1)
                        now[0] = c;
                    else if (r == height - 2 && step > 0)
                        leak = fmax(leak, fabs(c - now[1 - 4 * rows]));
                    else
                        leak = fmax(leak, fabs(c));
                }
                const double *all = shared_by_all(c);
                for (long long k = 0; k < some; ++k) {
                    const real_t ck = (real_t)all[k];
                    const real_t *row = basis + (i * capacity + low + k) * cols;
                    for (int u = 0; u < 4; ++u) {
                        const long long col = at + u * (long long)blockDim.x + threadIdx.x;
                        if (col < last)
                            taken[u] += ck * row[col];
                    }
                }
            }
            for (int u = 0; u < 4; ++u) {
                const long long col = at + u * (long long)blockDim.x + threadIdx.x;
                if (col < last) {
                    const real_t x = w[i * cols + col] - taken[u];
                    w[i * cols + col] = x;
                    square += (double)x * x;
                }
            }
        }
        square = block_sum(square);
        if (threadIdx.x == 0)
            squares[t] = square;
        if (writes) {
            leak = block_max(leak);
            const double norm = sqrt(whole(mine + height * pieces, pieces));
            if (threadIdx.x == 0) {
                const double top = step > 0 ? now[2 - 4 * rows] : known;
                now[2] = norm <= top ? top : norm;
                now[3] = step > 0 ? fmax(leak, now[3 - 4 * rows]) : leak;
            }
        }
    }
}

// The next vectors, after two passes: the end of step number `step`.
//
//   record[step, i, 1] = beta = |w[i]|;   v[i] = basis[i, height] = w[i] / beta, or 0 where the run closes
//
// A run closes where beta <= breakdown top, or where the second pass took away most of what the first had left: that was
// rounding, and beta is 0. Whatever follows is then 0. first, second: (rows, pieces of `width`), the squares after each
// pass; w, v: (rows, cols); the others as above.
template <typename real_t>
__global__ void next_vectors(long long n, const real_t *w, real_t *v, real_t *basis, const double *first,
                             const double *second, double *record, long long capacity, long long height,
                             long long cols, long long width, long long step, double breakdown)
{
    const long long widths = (cols + width - 1) / width, rows = n / cols;
    for (long long t = blockIdx.x; t < rows * widths; t += gridDim.x) {
        const long long i = t / widths, p = t % widths, at = p * width;
        const long long last = at + width < cols ? at + width : cols;
        double *now = record + (step * rows + i) * 4;
        const double before = sqrt(whole(first + i * widths, widths));
        double beta = sqrt(whole(second + i * widths, widths));
        if (beta < 0.7 * before)
            beta = 0;
        const bool goes = beta > breakdown * now[2];
        for (long long k = at + threadIdx.x; k < last; k += blockDim.x) {
            const real_t x = goes ? (real_t)(w[i * cols + k] / beta) : (real_t)0;
            v[i * cols + k] = x;
            basis[(i * capacity + height) * cols + k] = x;
        }
        if (p == 0 && threadIdx.x == 0)
            now[1] = beta;
    }
}

// ------------------------------------------------------------------------------------------ conjugate gradients

// The numbers of a system: r'z, the least p'q / p'p, the length of r, how it ended (0: it runs), its steps.
// How it ended is as in cg.pxi: 1 solved, 2 p'q <= 0, 3 not finite, 4 r'z <= 0.

// The first part of a step, of the systems that run; q = A p.
//
//   x <- x + a p,   r <- r - a q,   a = r'z / p'q;   squares[i, s] = sum of r r over piece s of row i
//
// x, r, p, q: (rows, cols); sums: those of `row_products` of p and q; squares: (rows, pieces); before, after: (rows, 5),
// the numbers, of which a negative or vanishing p'q ends a system.
template <typename real_t>
__global__ void cg_move(long long n, real_t *x, real_t *r, const real_t *p, const real_t *q, const double *sums,
                        double *squares, const double *before, double *after, long long cols, long long piece)
{
    const long long pieces = (cols + piece - 1) / piece, tasks = n / cols * pieces;
    for (long long t = blockIdx.x; t < tasks; t += gridDim.x) {
        const long long i = t / pieces, row = i * cols, first = t % pieces * piece;
        const long long last = first + piece < cols ? first + piece : cols;
        const double pq = whole(sums + i * pieces, pieces), pp = whole(sums + tasks + i * pieces, pieces);
        const double *now = before + 5 * i;
        double least = now[1], code = now[3];
        if (code == 0) {
            if (!isfinite(pq) || !isfinite(pp)) {
                code = 3;
            } else {
                least = fmin(least, pq / pp);
                code = pq <= 0 ? 2 : 0;
            }
        }
        const bool runs = code == 0;
        const real_t scale = runs ? (real_t)(now[0] / pq) : (real_t)0;
        double square = 0;
        for (long long k = row + first + threadIdx.x; k < row + last; k += blockDim.x) {
            real_t rk = r[k];
            if (runs) {
                x[k] += scale * p[k];
                rk -= scale * q[k];
                r[k] = rk;
            }
            square += (double)rk * rk;
        }
        square = block_sum(square);
        if (threadIdx.x == 0) {
            squares[t] = square;
            if (t % pieces == 0) {
                after[5 * i] = now[0];
                after[5 * i + 1] = least;
                after[5 * i + 2] = now[2];
                after[5 * i + 3] = code;
                after[5 * i + 4] = now[4] + (runs ? 1 : 0);
            }
        }
    }
}

// The second part of a step: whether a system is solved, and the next direction of those that run; z = M r.
//
//   p <- z + b p,   b = r'z of now / r'z of before
//
// p, z: (rows, cols); squares: of r, by pieces; products: of r and z, by pieces, which are the squares where z is r;
// goals: (rows,), lengths of r to reach; before, after: (rows, 5), the numbers.
template <typename real_t>
__global__ void cg_turn(long long n, real_t *p, const real_t *z, const double *squares, const double *products,
                        const double *goals, const double *before, double *after, long long cols, long long piece)
{
    const long long pieces = (cols + piece - 1) / piece, tasks = n / cols * pieces;
    for (long long t = blockIdx.x; t < tasks; t += gridDim.x) {
        const long long i = t / pieces, row = i * cols, first = t % pieces * piece;
        const long long last = first + piece < cols ? first + piece : cols;
        const double length = sqrt(whole(squares + i * pieces, pieces)), rz = whole(products + i * pieces, pieces);
        const double *now = before + 5 * i;
        const bool ran = now[3] == 0;
        double code = now[3];
        if (ran) {
            if (!isfinite(length))
                code = 3;
            else if (length <= goals[i])
                code = 1;
            else if (!isfinite(rz))
                code = 3;
            else if (!(rz > 0))
                code = 4;
        }
        if (code == 0) {
            const real_t scale = (real_t)(rz / now[0]);
            for (long long k = row + first + threadIdx.x; k < row + last; k += blockDim.x)
                p[k] = z[k] + scale * p[k];
        }
        if (threadIdx.x == 0 && t % pieces == 0) {
            after[5 * i] = code == 0 ? rz : now[0];
            after[5 * i + 1] = now[1];
            after[5 * i + 2] = ran ? length : now[2];
            after[5 * i + 3] = code;
            after[5 * i + 4] = now[4];
        }
    }
}

// ------------------------------------------------------------------------------------------ powers

// What w has beside v, piece by piece: squares[p] = sum of (w - (v'w) v)^2 over piece p.
//
// w, v: (n,), v of length 1; sums: those of `row_products` of w and v.
template <typename real_t>
__global__ void power_rest(long long n, const real_t *w, const real_t *v, const double *sums, double *squares,
                           long long piece)
{
    const long long pieces = (n + piece - 1) / piece;
    for (long long t = blockIdx.x; t < pieces; t += gridDim.x) {
        const long long first = t * piece, last = first + piece < n ? first + piece : n;
        const double theta = whole(sums, pieces);
        double square = 0;
        for (long long k = first + threadIdx.x; k < last; k += blockDim.x) {
            const double d = w[k] - theta * v[k];
            square += d * d;
        }
        square = block_sum(square);
        if (threadIdx.x == 0)
            squares[t] = square;
    }
}

// One step of powers: v <- w / |w|, unless it has ended.
//
// It ends where |w| is 0 or not finite, and with tol > 0 where the root of the squares is at most tol |w|.
// v, w: (n,); sums: those of `row_products` of w and v; squares: those of `power_rest`, read with tol > 0 alone;
// before, after: (2,), the steps done and whether it has ended.
template <typename real_t>
__global__ void power_step(long long n, real_t *v, const real_t *w, const double *sums, const double *squares,
                           const double *before, double *after, long long piece, double tol)
{
    const long long pieces = (n + piece - 1) / piece;
    for (long long t = blockIdx.x; t < pieces; t += gridDim.x) {
        const long long first = t * piece, last = first + piece < n ? first + piece : n;
        const double length = sqrt(whole(sums + pieces, pieces));
        bool ended = before[1] != 0 || !isfinite(length) || length == 0;
        if (tol > 0 && !ended)
            ended = sqrt(whole(squares, pieces)) <= tol * length;
        if (!ended)
            for (long long k = first + threadIdx.x; k < last; k += blockDim.x)
                v[k] = (real_t)(w[k] / length);
        if (t == 0 && threadIdx.x == 0) {
            after[0] = before[0] + (ended ? 0 : 1);
            after[1] = ended ? 1 : 0;
        }
    }
}
