# The search for steps: values on lines, the error of a value, and tables that grow until no smaller step can do better.
cdef inline cnp.ndarray array(int kind, Py_ssize_t rows, Py_ssize_t columns):
    cdef cnp.npy_intp shape[2]
    shape[0], shape[1] = rows, columns
    return cnp.PyArray_EMPTY(2, shape, kind, 0)


cdef inline cnp.ndarray vector(int kind, Py_ssize_t size):
    cdef cnp.npy_intp shape = size
    return cnp.PyArray_EMPTY(1, &shape, kind, 0)


cdef double *doubles(object given, Py_ssize_t size) except NULL:
    """The numbers of an array that is read."""
    cdef cnp.ndarray a = given
    if cnp.PyArray_TYPE(a) != cnp.NPY_DOUBLE or not cnp.PyArray_ISCARRAY_RO(a) or cnp.PyArray_SIZE(a) != size:
        raise ShapeError(f"differences: arrays of float64 with {size} numbers, contiguous.")
    return <double *>cnp.PyArray_DATA(a)


def one_by_one(line, b, t):
    """What `values_on` returns, by a call for each point."""
    cdef list values = [], reached = [], lines = b.tolist()
    cdef Py_ssize_t k
    for k, step in enumerate(t.tolist()):
        y, s = line(lines[k % len(lines)], step)
        values.append(y)
        reached.append(s)
    return np.array(values), np.array(reached)


def values_on(line, b, t):
    """Return the values (k, m) at steps t (k,) on lines b, which repeat, and the steps that were reached."""
    if type(line) is Along:
        return (<Along>line).many(b, t)
    many = getattr(line, "many", None)
    return one_by_one(line, b, t) if many is None else many(b, t)


def noise_of(line, middle, eps, double first):
    """Error of a value, from differences of high order of seven values on a short line, ``middle`` among them.

    A smooth function has next to no third to fifth differences there, so what they show is
    rounding (More and Wild). Where neighbours are equal the line was too short to see it and is
    made longer. At least one rounding unit of the value.
    """
    cdef const double[::1] y = middle
    cdef const double[:] unit = eps
    cdef Py_ssize_t m = y.shape[0], o, k
    cdef int turns = 5 if first < 1e-10 else 3
    cdef double growth = 256 if first < 1e-10 else 16
    cdef cnp.ndarray found = vector(cnp.NPY_DOUBLE, m), t = vector(cnp.NPY_DOUBLE, 6), b = vector(cnp.NPY_INT64, 1)
    cdef cnp.ndarray seven = array(cnp.NPY_DOUBLE, 7, m)
    cdef double *noise = doubles(found, m)
    cdef double *step = doubles(t, 6)
    cdef double *rows = doubles(seven, 7 * m)
    (<int64_t *>cnp.PyArray_DATA(b))[0] = 0
    for o in range(m):
        noise[o] = NAN
    for _ in range(turns):
        for k in range(3):
            step[k], step[k + 3] = first * (k - 3), first * (k + 1)
        values = np.ascontiguousarray(values_on(line, b, t)[0], np.float64)
        memcpy(rows, doubles(values, 6 * m), 3 * m * sizeof(double))
        for o in range(m):
            rows[3 * m + o] = y[o]
        memcpy(rows + 4 * m, doubles(values, 6 * m) + 3 * m, 3 * m * sizeof(double))
        if irregularity(rows, m, noise):
            break
        first *= growth
    for o in range(m):
        noise[o] = larger(noise[o] if noise[o] == noise[o] else 0.0, unit[o] * fabs(y[o]))
    return found


cdef void scatter(const int64_t *lines, Py_ssize_t n, const double *rows, int sign, double *out, Py_ssize_t B,
                  Py_ssize_t m, double rest) noexcept nogil:
    """Put n rows, times 1 or -1, where their lines are among B, and `rest` elsewhere."""
    cdef Py_ssize_t i, o
    if n < B:
        for i in range(B * m):
            out[i] = rest
        for i in range(n):
            for o in range(m):
                out[lines[i] * m + o] = sign * rows[i * m + o]
        return
    for i in range(n * m):
        out[i] = sign * rows[i]


cdef class Table:
    """Values on both sides of a point along lines, at steps that shrink by `RATIO`; see `Samples`."""
    cdef readonly object line, middle
    cdef public object noise              # (m,) or (B, m)
    cdef readonly Py_ssize_t count, m
    cdef readonly double first
    cdef readonly list plus, minus        # (B, m)
    cdef readonly list right, left        # steps reached, (B, 1)

    def __init__(self, line, Py_ssize_t count, middle, noise, double first):
        self.line, self.count, self.middle, self.noise, self.first = line, count, middle, noise, first
        self.m = len(middle)
        self.plus, self.minus, self.right, self.left = [], [], [], []

    def advance(self, cnp.ndarray active, Py_ssize_t levels=1):
        """Take the next smaller step, or several, on the active lines."""
        cdef Py_ssize_t n = 0, b, k, at = 0, B = self.count, m = self.m, done = len(self.plus)
        cdef cnp.ndarray which, t, values, reached, taken
        cdef const uint8_t *mine = <const uint8_t *>cnp.PyArray_DATA(active)
        cdef const double *y
        cdef const double *steps
        cdef double *step
        cdef int64_t *lines
        cdef double size
        cdef int side
        if cnp.PyArray_TYPE(active) != cnp.NPY_BOOL or cnp.PyArray_SIZE(active) != B:
            raise ShapeError("Table: a bool for each line.")
        for b in range(B):
            n += mine[b]
        which, t = vector(cnp.NPY_INT64, n), vector(cnp.NPY_DOUBLE, 2 * levels * n)
        lines, step = <int64_t *>cnp.PyArray_DATA(which), <double *>cnp.PyArray_DATA(t)
        for b in range(B):
            if mine[b]:
                lines[at] = b
                at += 1
        for k in range(2 * levels):
            size = ldexp(self.first if k % 2 == 0 else -self.first, -2 * (done + k // 2))   # RATIO is 4
            for at in range(n):
                step[k * n + at] = size
        values, reached = array(cnp.NPY_DOUBLE, 0, m), t
        if n:
            found, reached = values_on(self.line, which, t)
            values = np.ascontiguousarray(found, np.float64)
        y, steps = doubles(values, 2 * levels * n * m), doubles(reached, 2 * levels * n)
        for k in range(2 * levels):
            side, size = 1 - 2 * (k % 2), ldexp(self.first, -2 * (done + k // 2))
            taken = array(cnp.NPY_DOUBLE, B, m)
            scatter(lines, n, y + k * n * m, 1, <double *>cnp.PyArray_DATA(taken), B, m, NAN)
            (self.plus if side > 0 else self.minus).append(taken)
            taken = array(cnp.NPY_DOUBLE, B, 1)
            scatter(lines, n, steps + k * n, side, <double *>cnp.PyArray_DATA(taken), B, 1, size)
            (self.right if side > 0 else self.left).append(taken)

    def begin(self, Py_ssize_t most=LEAST):
        """Take the steps before the first look at errors, on all lines."""
        cdef Py_ssize_t levels = min(<Py_ssize_t>LEAST, most) - len(self.plus)
        if levels > 0:
            self.advance(self.every(), levels)

    cdef cnp.ndarray every(self):
        """All lines are active."""
        cdef cnp.ndarray active = vector(cnp.NPY_BOOL, self.count)
        memset(cnp.PyArray_DATA(active), 1, self.count)
        return active

    def round_steps(self, double eps):
        """Raise the error of values to that of steps along lines on which points are rounded by entry."""
        cdef Py_ssize_t b, o, at
        cdef const double *noise = self.noises()
        cdef bint rows = self.noise.ndim == 2
        cdef cnp.ndarray made = array(cnp.NPY_DOUBLE, self.count, self.m)
        cdef double *out = <double *>cnp.PyArray_DATA(made)
        cdef Sides s = self.sides(self.plus, self.minus, self.right, self.left, 0)
        for b in range(self.count):
            for o in range(self.m):
                at = b * self.m + o
                out[at] = fmax(noise[at if rows else o],
                               eps * (fabs(s.there[at] - s.other[at]) / (s.right[b] + s.left[b])))
        self.noise = made

    cdef const double *noises(self) except? NULL:
        cdef cnp.ndarray noise = self.noise
        if cnp.PyArray_TYPE(noise) != cnp.NPY_DOUBLE or not cnp.PyArray_ISCARRAY_RO(noise):
            self.noise = np.ascontiguousarray(noise, np.float64)
        return doubles(self.noise, (self.count if self.noise.ndim == 2 else 1) * self.m)

    cdef Sides sides(self, list there, list other, list right, list left, Py_ssize_t k) except *:
        cdef Sides s
        s.there, s.other = doubles(there[k], self.count * self.m), doubles(other[k], self.count * self.m)
        s.right, s.left = doubles(right[k], self.count), doubles(left[k], self.count) if left else NULL
        return s

    cpdef object extrapolated(self, list there, list other, list right, list left, cnp.ndarray active,
                              cnp.ndarray best):
        """best[:, b, o] <- value, error, rounding part and step of the derivative on the active lines; see `Samples`.

        Level by level values and steps on both sides; `left` is empty where one of them has the values at step 0.
        """
        cdef Lines w
        cdef Py_ssize_t k
        w.levels, w.count, w.m = len(there), self.count, self.m
        if not 0 < w.levels <= LEVELS:
            raise ShapeError(f"Table: 1 to {LEVELS} levels, got {w.levels}.")
        if len(other) != w.levels or len(right) != w.levels or len(left) not in (0, w.levels):
            raise ShapeError("Table: levels must agree.")
        w.rows = self.count if self.noise.ndim == 2 else 1
        w.noise, w.best = self.noises(), doubles(best, 4 * self.count * self.m)
        w.active = <const uint8_t *>cnp.PyArray_DATA(active)
        for k in range(w.levels):
            w.sides[k] = self.sides(there, other, right, left, k)
        if w.count and w.m:
            with nogil:
                pool.run(estimate, &w, min(pool.threads_get(), MOST_THREADS), 2e-8 * w.levels * w.count * w.m)

    def until_settled(self, Py_ssize_t most):
        """Take smaller steps until no smaller one can lower the best error found, on each line; return `best`.

        What a step brings in carries its rounding, so the error of all that is made with it is known from below before
        it is taken. The best entry must have been seen beside one of a smaller step, unless the rounding of the step
        that it has itself outweighs its error. A line keeps the estimate with which it ended.
        """
        cdef cnp.ndarray active = self.every(), best = array(cnp.NPY_DOUBLE, 4, self.count * self.m)
        cdef Py_ssize_t levels, i
        cdef Sides s
        for i in range(4 * self.count * self.m):
            (<double *>cnp.PyArray_DATA(best))[i] = NAN
        self.begin(most)
        while True:
            self.extrapolated(self.plus, self.minus, self.right, self.left, active, best)
            levels = len(self.plus)
            if levels >= most:
                break
            s = self.sides(self.plus, self.minus, self.right, self.left, levels - 1)
            if not unsettled(s.right, s.left, self.noises(), self.noise.ndim == 2,
                             <const double *>cnp.PyArray_DATA(best), self.count, self.m,
                             <uint8_t *>cnp.PyArray_DATA(active)):
                break
            self.advance(active)
        return best.reshape(4, self.count, self.m)
