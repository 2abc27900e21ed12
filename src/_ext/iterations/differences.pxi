# Differences of values: Richardson's table, when a line ends, the irregularity that rounding shows in, natural units of
# entries, and what derivatives are beside them.
cdef enum:
    DEPTH = 4                             # columns of a table
    LEVELS = 96                           # rows at most
    LEAST = 4                             # steps before the first look at errors

cdef double RATIO = 4.0                   # of a step to the next
cdef double OWN = 1.2                     # times the rounding of its smallest step: the least error of an extrapolate


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
            error = guess[i] + OWN * rounding[i + j]
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
    best[0], best[1], best[2], best[3] = columns[at], least, OWN * rounding[i + j], step[i + j]


cdef struct Sides:
    const double *there                   # (B, m) to the right
    const double *other                   # (B, m) to the left, or at step 0
    const double *right                   # (B,) steps
    const double *left                    # NULL where one of the two is at step 0


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


cdef bint unsettled(const double *right, const double *left, const double *noise, bint noises, const double *best,
                    Py_ssize_t lines, Py_ssize_t m, uint8_t *active) noexcept nogil:
    """active[b] <- 0 where no smaller step can lower the best error found; whether a line is left.

    `right` and `left` are the last steps (B,), whose rounding is in all that is made with smaller ones; the noise has a
    row for each line where it has `noises`; `best` (4, B, m) is as `Table.extrapolated` leaves it.
    """
    cdef Py_ssize_t b, o, at
    cdef double width, share
    cdef bint spent, some = False
    for b in range(lines):
        if not active[b]:
            continue
        width, spent = right[b] + left[b], True
        for o in range(m):                # not spent: without a value
            at = b * m + o
            share = 1 / (OWN * RATIO) if best[3 * lines * m + at] > width else 4
            spent = spent and 2 * noise[at if noises else o] / width > share * best[lines * m + at]
        active[b] = not (spent or width <= 0)
        some = some or active[b]
    return some


cdef bint irregularity(const double *values, Py_ssize_t m, double *found) noexcept nogil:
    """found[o] <- what differences of order 3 to 5 of seven values (7, m) show, where it is NaN; whether none is then.

    Of a smooth function there is next to nothing but rounding in them; see `noise_of`. It stays NaN where a value is
    not finite, or three neighbours are equal.
    """
    cdef double row[7]
    cdef double gamma, total, sigma
    cdef Py_ssize_t o, k, i
    cdef int equal
    cdef bint every = True
    for o in range(m):
        if found[o] == found[o]:
            continue
        for i in range(7):
            row[i] = values[i * m + o]
        sigma, equal, gamma = 0, 0, 1.0
        for k in range(1, 6):
            total = 0
            for i in range(7 - k):
                row[i] = row[i + 1] - row[i]
                total += row[i] * row[i]
                equal += k == 1 and row[i] == 0
            gamma *= k / (2.0 * (2 * k - 1))       # (k!)^2 / (2k)!
            if k >= 3:
                sigma = larger(sigma, sqrt(gamma * (total / (7 - k))))
        if equal < 3 and sigma < INFINITY:
            found[o] = sigma
        else:
            every = False
    return every


# ------------------------------------------------------------------------------------------- derivatives beside them
cdef inline double finite(double a) noexcept nogil:
    """A size, or 0 where it is none."""
    return a if a < INFINITY else 0.0


def judge(const double[:, :] given, const double[:, :] expected, const double[:, :] error, const double[:, :] part,
          const double[:, :] floor, const uint8_t[:, :] skip, double share, double safety, double tiny,
          double[:, :, ::1] numbers, uint8_t[:, :, ::1] marks):
    """Judge (b, r) comparisons: numbers <- error, gap, tolerance; marks <- good, bad, blind, unsettled; see `Compared`.

    `part` is what rounding has in the error, `share` of the larger number is rounding of both, `floor` is tolerated
    beside. Where `skip`, which may be None, has a 1 nothing is marked. Returns the largest gap of the good ones by
    its tolerance, of how many of them the derivative given is another number than zero, and zero, and how many other
    marks there are.
    """
    cdef Py_ssize_t b, r, decided = 0, zeros = 0, others = 0
    cdef double y, size, off, gap, tolerance, worst = 0
    cdef bint good, coarse, blind, rough, left_out, some = skip is not None
    if numbers.shape[0] != 3 or marks.shape[0] != 4 or not (
            given.shape[0] == expected.shape[0] == error.shape[0] == part.shape[0] == floor.shape[0]
            == numbers.shape[1] == marks.shape[1]
            and given.shape[1] == expected.shape[1] == error.shape[1] == part.shape[1] == floor.shape[1]
            == numbers.shape[2] == marks.shape[2]) or (
            skip is not None and (skip.shape[0] != given.shape[0] or skip.shape[1] != given.shape[1])):
        raise ShapeError("judge: numbers for each comparison.")
    for b in range(given.shape[0]):
        for r in range(given.shape[1]):
            y, off = given[b, r], error[b, r]
            off = INFINITY if off != off else off
            size = fmax(fabs(y), fabs(expected[b, r]))
            gap = fabs(y - expected[b, r])
            tolerance = safety * off + share * finite(size) + floor[b, r] + tiny
            good = gap <= tolerance and fabs(y) < INFINITY
            left_out = some and skip[b, r]
            marks[1, b, r] = not good and not left_out
            good = good and not left_out
            coarse = good and tolerance > 0.5 * size
            blind = coarse and y != 0
            # differences that grow as the step shrinks, and not by rounding
            rough = (coarse and fabs(expected[b, r]) > safety * part[b, r]
                     and off > 0.25 * fabs(expected[b, r]))
            good = good and not blind and not rough
            marks[0, b, r], marks[2, b, r], marks[3, b, r] = good, blind, rough
            others += marks[1, b, r] + blind + rough
            numbers[0, b, r], numbers[1, b, r], numbers[2, b, r] = off, gap, tolerance
            if good:
                worst = fmax(worst, gap / tolerance)
                decided += y != 0
                zeros += y == 0
    return worst, decided, zeros, others


def sizes(const double[::1] x, const double[::1] unit, double[::1] out):
    """out <- the size of each entry; its unit where that is zero."""
    cdef Py_ssize_t i
    if not x.shape[0] == unit.shape[0] == out.shape[0]:
        raise ShapeError("sizes: a unit for each entry.")
    for i in range(x.shape[0]):
        out[i] = fabs(x[i]) if x[i] != 0 else unit[i]


def natural_units(const double[::1] x, const int64_t[::1] starts, double fraction, double[::1] out):
    """out <- the size of each entry, at least a fraction of the root mean square of its leaf; 1 where that is zero."""
    cdef Py_ssize_t k, i
    cdef int power
    cdef double top, total, scale
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
        frexp(top, &power)
        scale = ldexp(1.0, -max(power, -1000))     # no square overflows, and none that counts vanishes
        for i in range(starts[k], starts[k + 1]):
            total += (out[i] * scale) * (out[i] * scale)
        top = fraction * (sqrt(total / (starts[k + 1] - starts[k])) / scale)
        for i in range(starts[k], starts[k + 1]):
            out[i] = larger(out[i], top)
