# Differences of values: Richardson's table, the irregularity that rounding shows in, natural units of entries.
cdef enum:
    DEPTH = 4                             # columns of a table
    LEVELS = 96                           # rows at most


cdef inline double larger(double a, double b) noexcept nogil:
    """The maximum; NaN where one is. Comparisons of estimates are as good as random: no branch is taken on them."""
    cdef double most = a if a > b else b
    return a if a != a else most


cdef void table(Py_ssize_t levels, const double *slope, const double *rounding, const double *step, double ratio,
                double *best) noexcept nogil:
    """Value, error, its rounding part and step of the entry of least estimated error; see `Samples`.

    The steps shrink so that the errors of differences shrink by the ratio, its square, ...
    """
    cdef double columns[DEPTH * LEVELS]
    cdef double guess[LEVELS]
    cdef double factor = 1, weight, drift, error, before, least = INFINITY
    cdef Py_ssize_t i, j, count, at = -1, undefined = -1
    cdef bint less
    cdef double *column
    for j in range(min(<Py_ssize_t>DEPTH, levels)):
        count, column = levels - j, columns + j * LEVELS
        if j == 0:
            for i in range(count):
                column[i], guess[i] = slope[i], 0
            guess[0] = INFINITY           # a single difference says nothing about its error
        else:
            factor *= ratio
            weight = 1.0 / (factor - 1)
            for i in range(count):
                before = column[i + 1 - LEVELS]
                column[i] = before + (before - column[i - LEVELS]) * weight
                guess[i] = fabs(column[i] - before)
        for i in range(1, count):
            drift = fabs(column[i] - column[i - 1])
            guess[i] = larger(guess[i], drift)
            guess[i - 1] = larger(guess[i - 1], drift - 4 * rounding[j + i])
        for i in range(count):
            error = guess[i] + 1.2 * rounding[i + j]
            if error != error:            # without a value the error is infinite, without a step undefined
                if guess[i] == guess[i] and undefined < 0:
                    undefined = j * LEVELS + i
                continue
            less = error < least
            least = error if less else least
            at = j * LEVELS + i if less else at
    if undefined >= 0:
        at, least = undefined, NAN
    elif at < 0:                          # no entry has an error: the last difference
        at = levels - 1
    j, i = at // LEVELS, at % LEVELS
    best[0], best[1], best[2], best[3] = columns[at], least, 1.2 * rounding[i + j], step[i + j]


cdef struct Sides:
    const double *there                   # (B, m) to the right
    const double *other                   # (B, m) to the left, or at step 0
    const double *right                   # (B,) steps
    const double *left                    # NULL where one of the two is at step 0


cdef const double *array_of(object given, Py_ssize_t rows, Py_ssize_t columns) except NULL:
    cdef cnp.ndarray a = given
    if (cnp.PyArray_TYPE(a) != cnp.NPY_DOUBLE or cnp.PyArray_NDIM(a) != 2 or not cnp.PyArray_ISCARRAY_RO(a)
            or cnp.PyArray_DIM(a, 0) != rows or cnp.PyArray_DIM(a, 1) != columns):
        raise ShapeError(f"extrapolate: arrays of float64 and shape ({rows}, {columns}), contiguous.")
    return <const double *>cnp.PyArray_DATA(a)


cdef struct Lines:
    Sides sides[LEVELS]
    const double *noise
    const uint8_t *active
    double *best                          # (4, B, m)
    Py_ssize_t levels, count, m, rows     # rows: of the noise


cdef void estimate(void *arg, int t, int nt) noexcept nogil:
    """The share t of nt of the lines."""
    cdef const Lines *w = <const Lines *>arg
    cdef double slope[LEVELS]
    cdef double rounding[LEVELS]
    cdef double step[LEVELS]
    cdef double per[LEVELS]               # one over the widths
    cdef double four[4]
    cdef double noise, width
    cdef Py_ssize_t b, o, k
    cdef const Sides *s
    cdef bint central = w.sides[0].left is not NULL
    for b in range(w.count * t // nt, w.count * (t + 1) // nt):
        if not w.active[b]:
            continue
        for k in range(w.levels):
            s = &w.sides[k]
            width = s.right[b] + s.left[b] if central else s.right[b]
            step[k], per[k] = (0.5 * width if central else width), 1.0 / width
        for o in range(w.m):
            noise = 2 * w.noise[(b if w.rows == w.count else 0) * w.m + o]
            for k in range(w.levels):
                s = &w.sides[k]
                slope[k] = (s.there[b * w.m + o] - s.other[b * w.m + o]) * per[k]
                rounding[k] = noise * per[k]
            table(w.levels, slope, rounding, step, 16.0 if central else 4.0, four)
            for k in range(4):
                w.best[(k * w.count + b) * w.m + o] = four[k]


def extrapolate(list there, list other, list right, list left, const double[:, ::1] noise, const uint8_t[::1] active,
                double[:, :, ::1] best):
    """best[:, b, o] <- value, error, rounding part and step of the derivative on line b; see `Samples`.

    Level by level values (B, m) and steps (B, 1) on both sides: `left` is empty where one of them has the values at
    step 0. `noise` is (1, m) or (B, m). Lines that are not active are left out.
    """
    cdef Lines w
    cdef Py_ssize_t k
    w.levels, w.count, w.m, w.rows = len(there), best.shape[1], best.shape[2], noise.shape[0]
    if not 0 < w.levels <= LEVELS:
        raise ShapeError(f"extrapolate: 1 to {LEVELS} levels, got {w.levels}.")
    if (best.shape[0] != 4 or active.shape[0] != w.count or noise.shape[1] != w.m or w.rows not in (1, w.count)
            or len(other) != w.levels or len(right) != w.levels or len(left) not in (0, w.levels)):
        raise ShapeError("extrapolate: levels, lines and outputs must agree.")
    if w.count == 0 or w.m == 0:
        return
    for k in range(w.levels):
        w.sides[k].there, w.sides[k].other = array_of(there[k], w.count, w.m), array_of(other[k], w.count, w.m)
        w.sides[k].right = array_of(right[k], w.count, 1)
        w.sides[k].left = array_of(left[k], w.count, 1) if left else NULL
    w.noise, w.active, w.best = &noise[0, 0], &active[0], &best[0, 0, 0]
    with nogil:
        pool.run(estimate, &w, min(pool.threads_get(), MOST_THREADS), 2e-8 * w.levels * w.count * w.m)


def irregularity(const double[:, ::1] values, double[::1] sigma, int64_t[::1] equal):
    """sigma[o], equal[o] <- what differences of order 3 to 5 of seven values show, and how many neighbours are equal.

    Of a smooth function there is next to nothing but rounding in them; see `noise_of`. NaN where a value is.
    """
    cdef double row[7]
    cdef double gamma, total
    cdef Py_ssize_t o, k, i
    if values.shape[0] != 7 or sigma.shape[0] != values.shape[1] or equal.shape[0] != values.shape[1]:
        raise ShapeError("irregularity: seven values of each output.")
    for o in range(values.shape[1]):
        for i in range(7):
            row[i] = values[i, o]
        sigma[o], equal[o], gamma = 0, 0, 1.0
        for k in range(1, 6):
            total = 0
            for i in range(7 - k):
                row[i] = row[i + 1] - row[i]
                total += row[i] * row[i]
                equal[o] += k == 1 and row[i] == 0
            gamma *= k / (2.0 * (2 * k - 1))       # (k!)^2 / (2k)!
            if k >= 3:
                sigma[o] = larger(sigma[o], sqrt(gamma * (total / (7 - k))))


def natural_units(const double[::1] x, const int64_t[::1] starts, double fraction, double[::1] out):
    """out <- the size of each entry, at least a fraction of the root mean square of its leaf; 1 where that is zero."""
    cdef Py_ssize_t k, i
    cdef double top, total
    if out.shape[0] != x.shape[0] or starts.shape[0] < 1 or starts[0] != 0 or starts[starts.shape[0] - 1] != x.shape[0]:
        raise ShapeError("natural_units: leaves must cover the vector.")
    for k in range(starts.shape[0] - 1):
        top, total = 0, 0
        for i in range(starts[k], starts[k + 1]):
            out[i] = fabs(x[i])
            top = larger(top, out[i])
        if not top > 0:                   # NaN, too
            for i in range(starts[k], starts[k + 1]):
                out[i] = 1.0
            continue
        for i in range(starts[k], starts[k + 1]):
            total += (out[i] / top) * (out[i] / top)
        top *= fraction * sqrt(total / (starts[k + 1] - starts[k]))
        for i in range(starts[k], starts[k + 1]):
            out[i] = larger(out[i], top)
