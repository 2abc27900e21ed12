"""Values of plans at many points near one, without Python, and the differences that are made of them.

`Points` runs the plan of a function: it moves one entry of its arguments and puts it back, or, for `Along`, all of
them along a direction.
`Batches` runs a plan that takes many moved entries at a time (`nnmath_core.verify.incremental` makes it). Both share
their runs among the threads of the pool, look at signals now and then, and write to no array of a caller but the
results.

    differences.pxi    Richardson's table of differences, line by line, the rounding that they show, and derivatives
                       beside them
    search.pxi         values on lines, and smaller steps until none can do better
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport fabs, fmax, frexp, ldexp, sqrt, INFINITY, NAN
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
cimport numpy as cnp

import numpy as np

from _threads cimport nnm_pool_table, pool_table

from nnmath_core.errors import DtypeError, MemoryLimitError, ShapeError

cnp.import_array()

cdef extern from "nnmath_core.h":
    const char *NNM_CAPSULE
    enum:
        NNM_OK
        NNM_NO_MEMORY
        NNM_OUTSIDE
        NNM_TYPE_FLOAT32
        NNM_TYPE_FLOAT64
        NNM_TYPE_INT64
    ctypedef struct nnm_spec:
        int32_t dtype, rank
        const int64_t *shape
        int64_t itemsize, nbytes
        int32_t alignment, takes
    ctypedef struct nnm_plan:
        int32_t ninputs, noutputs
        const nnm_spec *inputs
        const nnm_spec *outputs
        size_t workspace_size
        int32_t host, threads
    int nnm_run(const nnm_plan *plan, const void *const *inputs, void *const *outputs, void *workspace) noexcept nogil
    const char *nnm_message(int code) noexcept nogil

cdef enum:
    ALIGN = 64
    MOST_THREADS = 16                     # of a loop: each has arrays of its own
    SHARED = 1 << 25                      # bytes: a plan that works in more shares its own run instead

cdef double PORTION = 0.03                # seconds between two looks at signals, about
cdef const nnm_pool_table *pool = pool_table()


cdef inline size_t rounded(size_t nbytes) noexcept nogil:
    return (nbytes + ALIGN - 1) // ALIGN * ALIGN


cdef struct Place:
    int32_t dtype
    int64_t size, start                   # entries, and where they stand in the vector of all


@cython.final
cdef class _Room:
    """The arrays of the inputs and outputs of a plan for each thread that runs it; ``kept`` are read where they lie."""
    cdef object capsule, kept
    cdef const nnm_plan *plan
    cdef int threads, asked               # asked: the setting when it was made
    cdef char *block
    cdef void **places                    # inputs, then outputs, of each thread

    def __cinit__(self, object capsule, list kept):
        cdef const nnm_plan *plan = <const nnm_plan *>PyCapsule_GetPointer(capsule, NNM_CAPSULE)
        cdef size_t each = 0
        cdef char *at
        cdef int i, t, count = plan.ninputs + plan.noutputs
        self.capsule, self.plan, self.kept = capsule, plan, kept
        if len(kept) != plan.ninputs:
            raise ShapeError(f"a plan of {plan.ninputs} inputs, got {len(kept)}.")
        for i in range(count):
            if i >= plan.ninputs or kept[i] is None:
                each += rounded(self.nbytes(i))
            elif kept[i].nbytes != self.nbytes(i) or not kept[i].flags.c_contiguous:
                raise ShapeError("an array that stays must be contiguous, as the plan takes it.")
        self.threads = self.asked = min(pool.threads_get(), MOST_THREADS)
        if plan.workspace_size + each > SHARED:
            self.threads = 1
        self.block = <char *>malloc(each * self.threads + ALIGN)
        self.places = <void **>malloc(self.threads * count * sizeof(void *) + 1)
        if self.block is NULL or self.places is NULL:
            raise MemoryError
        at = <char *>rounded(<size_t>self.block)
        for t in range(self.threads):
            for i in range(count):
                if i < plan.ninputs and kept[i] is not None:
                    self.places[t * count + i] = <void *><size_t>kept[i].ctypes.data
                    continue
                self.places[t * count + i] = at
                at += rounded(self.nbytes(i))

    def __dealloc__(self):
        free(self.block)
        free(self.places)

    cdef size_t nbytes(self, int i) noexcept:
        """Of an input, or of an output behind these."""
        cdef int n = self.plan.ninputs
        return self.plan.inputs[i].nbytes if i < n else self.plan.outputs[i - n].nbytes

    cdef void **inputs(self, int t) noexcept nogil:
        return self.places + t * (self.plan.ninputs + self.plan.noutputs)


def failure(int code):
    """The exception that a call of the function would have raised in place of a code."""
    text = (<bytes>nnm_message(code)).decode()
    return IndexError(text) if code == NNM_OUTSIDE else ArithmeticError(text)


# ------------------------------------------------------------------------------------------------ whole evaluations
cdef struct Walk:
    const nnm_plan *plan
    void **places
    const Place *moved                    # of the vector: one for each input, size 0: it stays
    const Place *found                    # of the results: one for each output, size 0: nobody wants it
    const double *x
    const int64_t *which                  # entries, or rows of d; there are `lines`, one after another
    const double *by                      # what the entries become, or how far along the row
    const double *d                       # NULL: single entries
    double *out
    Py_ssize_t n, m, lines, low, high
    int code


cdef inline void put(void *array, int32_t dtype, int64_t k, double value) noexcept nogil:
    if dtype == NNM_TYPE_FLOAT64:
        (<double *>array)[k] = value
    else:
        (<float *>array)[k] = <float>value


cdef void evaluate(Walk *w, void **places, Py_ssize_t k) noexcept nogil:
    """Run the plan and put what it gives in row k; NaN where it fails."""
    cdef int code = nnm_run(w.plan, <const void *const *>places, places + w.plan.ninputs, NULL)
    cdef double *row = w.out + k * w.m
    cdef const Place *p
    cdef void *array
    cdef int i
    cdef Py_ssize_t e
    if code != NNM_OK:
        w.code = code                     # of several threads any
        for e in range(w.m):
            row[e] = NAN
        return
    for i in range(w.plan.noutputs):
        p, array = &w.found[i], places[w.plan.ninputs + i]
        if p.size == 0:
            continue
        if p.dtype == NNM_TYPE_FLOAT64:
            memcpy(row + p.start, array, p.size * sizeof(double))
        else:
            for e in range(p.size):
                row[p.start + e] = (<float *>array)[e]


cdef inline void step_off(void *array, const Place *p, const Walk *w, const double *d, double step) noexcept nogil:
    """The entries of an input as they are a step along the direction d."""
    cdef const double *x = w.x + p.start
    cdef double *to = <double *>array
    cdef Py_ssize_t e
    d = d + p.start
    if p.dtype == NNM_TYPE_FLOAT64:
        for e in range(p.size):
            to[e] = x[e] + step * d[e]
        return
    for e in range(p.size):
        put(array, p.dtype, e, x[e] + step * d[e])


cdef void walk(void *arg, int t, int nt) noexcept nogil:
    cdef Walk *w = <Walk *>arg
    cdef Py_ssize_t count = w.high - w.low, k, i
    cdef int j, n = w.plan.ninputs
    cdef void **places = w.places + t * (n + w.plan.noutputs)
    cdef const Place *p
    cdef const double *d
    cdef double step
    for k in range(w.low + count * t // nt, w.low + count * (t + 1) // nt):
        if w.d is not NULL:
            d, step = w.d + w.which[k % w.lines] * w.n, w.by[k]
            for j in range(n):
                if w.moved[j].size > 0:
                    step_off(places[j], &w.moved[j], w, d, step)
            evaluate(w, places, k)
            continue
        i, j = w.which[k % w.lines], 0
        while not w.moved[j].start <= i < w.moved[j].start + w.moved[j].size:
            j += 1
        p = &w.moved[j]
        put(places[j], p.dtype, i - p.start, w.by[k])
        evaluate(w, places, k)
        put(places[j], p.dtype, i - p.start, w.x[i])


cdef class Points:
    """Runs of the plan of a function at points near one.

    ``fixed`` has the array of each input that stays, None for those that move; these are entries of one vector, in the
    order of ``order``. ``wanted`` names the outputs that are read. All of these are float32 or float64.
    """
    cdef _Room room
    cdef Place *moved
    cdef Place *found
    cdef readonly Py_ssize_t n, m

    def __cinit__(self, object capsule, list fixed, list order, list wanted):
        cdef int i
        cdef const nnm_plan *plan
        self.room = _Room(capsule, fixed)
        plan = self.room.plan
        self.moved = <Place *>malloc((plan.ninputs + 1) * sizeof(Place))
        self.found = <Place *>malloc((plan.noutputs + 1) * sizeof(Place))
        if self.moved is NULL or self.found is NULL:
            raise MemoryError
        if sorted(order) != [i for i in range(len(fixed)) if fixed[i] is None]:
            raise ShapeError("Points: each input of the plan must stay, or be one that moves.")
        for i in range(plan.ninputs):
            self.moved[i].size = self.moved[i].start = 0
        self.n = self.settle(self.moved, plan.inputs, order)
        for i in range(plan.noutputs):
            self.found[i].size = self.found[i].start = 0
            if plan.outputs[i].takes >= 0:
                raise DtypeError("Points: no result may take the memory of an argument.")
        self.m = self.settle(self.found, plan.outputs, wanted)

    cdef Py_ssize_t settle(self, Place *places, const nnm_spec *specs, list order) except -1:
        cdef Py_ssize_t total = 0
        cdef int i
        for i in order:
            if specs[i].dtype != NNM_TYPE_FLOAT32 and specs[i].dtype != NNM_TYPE_FLOAT64:
                raise DtypeError("Points: what moves, and what is read, must be float32 or float64.")
            places[i].dtype, places[i].size = specs[i].dtype, specs[i].nbytes // specs[i].itemsize
            places[i].start = total
            total += places[i].size
        return total

    def __dealloc__(self):
        free(self.moved)
        free(self.found)

    def entries(self, const double[::1] x, const int64_t[::1] which, const double[::1] values, double[:, ::1] out):
        """out[k] <- values at x with entry which[k] as values[k]; 0, or the code of a run that failed.

        When there are more values than entries, these repeat.
        """
        cdef Walk w
        cdef Py_ssize_t k
        self.begin(&w, x, which.shape[0], values.shape[0], out)
        for k in range(which.shape[0]):
            if not 0 <= which[k] < self.n:
                raise ShapeError(f"Points: there are {self.n} entries, got {which[k]}.")
        if out.shape[0] == 0:
            return 0
        self.fill(&w)
        w.which, w.by = &which[0], &values[0]
        w.d = NULL
        return self.run(&w, out.shape[0])

    cdef int begin(self, Walk *w, const double[::1] x, Py_ssize_t lines, Py_ssize_t k, double[:, ::1] out) except -1:
        if (x.shape[0] != self.n or (k % lines if lines > 0 else k) != 0 or out.shape[0] != k
                or out.shape[1] != self.m):
            raise ShapeError(f"Points: {self.n} entries, and {self.m} results for each of {k} points.")
        self.aim(w, lines)
        w.out = &out[0, 0] if k > 0 and self.m > 0 else NULL
        w.x = &x[0] if self.n > 0 else NULL
        return 0

    cdef void aim(self, Walk *w, Py_ssize_t lines) noexcept:
        w.plan, w.places, w.moved, w.found = self.room.plan, self.room.places, self.moved, self.found
        w.n, w.m, w.lines, w.code = self.n, self.m, lines, 0

    cdef void fill(self, const Walk *w) noexcept:
        """Put every thread at x; along directions each value moves all entries anyway."""
        cdef int t, i
        cdef Py_ssize_t e
        cdef const Place *p
        cdef void *array
        for t in range(self.room.threads):
            for i in range(w.plan.ninputs):
                p, array = &self.moved[i], self.room.inputs(t)[i]
                if p.size > 0 and p.dtype == NNM_TYPE_FLOAT64:
                    memcpy(array, w.x + p.start, p.size * sizeof(double))
                    continue
                for e in range(p.size):
                    put(array, p.dtype, e, w.x[p.start + e])

    cdef int run(self, Walk *w, Py_ssize_t count) except -1:
        cdef double begin, each = 0
        cdef Py_ssize_t portion = self.room.threads
        w.low = 0
        while w.low < count:
            w.high = min(w.low + portion, count)
            with nogil:
                begin = pool.now()
                if each == 0:             # the first ones say how long one takes
                    walk(w, 0, 1)
                else:
                    pool.run(walk, w, min(self.room.threads, w.high - w.low), each * (w.high - w.low))
                each = max((pool.now() - begin) / (w.high - w.low), 1e-7)
            if w.code == NNM_NO_MEMORY:
                raise MemoryLimitError((<bytes>nnm_message(w.code)).decode())
            PyErr_CheckSignals()
            w.low, portion = w.high, max(<Py_ssize_t>(PORTION / each), self.room.threads)
        return w.code


@cython.final
cdef class Along:
    """Lines x + t d[b] through the points of a plan; `ran(count, code)` hears of each portion of them."""
    cdef Points points
    cdef object ran
    cdef const double[::1] x
    cdef const double[:, ::1] d

    def __init__(self, Points points, const double[::1] x, const double[:, ::1] d, object ran):
        if not x.shape[0] == d.shape[1] == points.n:
            raise ShapeError(f"Along: the point and directions must have {points.n} entries.")
        self.points, self.x, self.d, self.ran = points, x, d, ran

    def __call__(self, int64_t b, double t):
        """Values (m,) at t on line b, and t."""
        return self.many(np.array([b]), np.array([t]))[0][0], t

    def many(self, cnp.ndarray b, cnp.ndarray t):
        """Values (k, m) at steps t (k,) on lines b, which repeat when there are more steps, and the steps."""
        cdef Walk w
        cdef Py_ssize_t k, lines = cnp.PyArray_SIZE(b), count = cnp.PyArray_SIZE(t)
        cdef cnp.ndarray values = array(cnp.NPY_DOUBLE, count, self.points.m)
        if cnp.PyArray_TYPE(b) != cnp.NPY_INT64 or not cnp.PyArray_ISCARRAY_RO(b) or (
                count % lines if lines > 0 else count) != 0:
            raise ShapeError("Along: lines of int64, and as many steps for each.")
        w.which, w.by = <const int64_t *>cnp.PyArray_DATA(b), doubles(t, count)
        for k in range(lines):
            if not 0 <= w.which[k] < self.d.shape[0]:
                raise ShapeError(f"Along: there are {self.d.shape[0]} directions, got {w.which[k]}.")
        if count and self.points.n:
            w.x, w.d, w.out = &self.x[0], &self.d[0, 0], <double *>cnp.PyArray_DATA(values)
            self.points.aim(&w, lines)
            self.ran(count, self.points.run(&w, count))
        return values, t


# ------------------------------------------------------------------------------------------------ many entries a run
def moves(const double[::1] x, const double[::1] unit, const int64_t[::1] lines, const int64_t[::1] b,
          const double[::1] t, const uint8_t[::1] single, int64_t[::1] which, double[::1] to, double[::1] reached):
    """which[k] <- lines[b[k]], to[k] <- x + t[k] unit there, and reached[k] <- what of the step rounding has left.

    When there are more steps than lines, these repeat. Where `single` has a 1, the entry is float32; it is empty where
    no entry is.
    """
    cdef Py_ssize_t k, at, n = x.shape[0], some = b.shape[0]
    cdef int64_t i
    if (unit.shape[0] != n or single.shape[0] not in (0, n) or which.shape[0] != some or to.shape[0] != t.shape[0]
            or reached.shape[0] != t.shape[0] or (t.shape[0] % some if some else t.shape[0]) != 0):
        raise ShapeError("moves: steps for each line, and a unit for each entry.")
    for k in range(some):
        if not (0 <= b[k] < lines.shape[0] and 0 <= lines[b[k]] < n):
            raise ShapeError(f"moves: there are {n} entries and {lines.shape[0]} lines.")
        which[k] = lines[b[k]]
    if some == 0:
        return
    for at in range(0, t.shape[0], some):
        for k in range(some):
            i = which[k]
            to[at + k] = x[i] + t[at + k] * unit[i]
            if single.shape[0] and single[i]:
                to[at + k] = <float>to[at + k]
            reached[at + k] = (to[at + k] - x[i]) / unit[i]


cdef struct Batch:
    const nnm_plan *plan
    void **places
    const int64_t *lengths                # of the pinned axes
    const int64_t *which                  # entries of the vector of all; those of the argument are at `mine`
    const Py_ssize_t *mine
    int64_t start                         # of the argument in that vector
    const double *to                      # (turns, lines)
    double *out                           # (turns, lines, m)
    Py_ssize_t lines, turns, count        # count: how many lines are entries of the argument
    Py_ssize_t size, steps, m             # of a run: entries, and steps of each
    Py_ssize_t low, high                  # runs
    int code


cdef void batch(void *arg, int t, int nt) noexcept nogil:
    cdef Batch *b = <Batch *>arg
    cdef Py_ssize_t k, e, s, at, row, rows, first, turn, r, total = b.high - b.low
    cdef Py_ssize_t each = (b.turns + b.steps - 1) // b.steps     # runs for one batch of entries
    cdef int code, j, nin = b.plan.ninputs
    cdef void **places = b.places + t * (nin + b.plan.noutputs)
    cdef double *array
    cdef int64_t rest
    for k in range(b.low + total * t // nt, b.low + total * (t + 1) // nt):
        first, turn = k // each * b.size, k % each * b.steps
        for e in range(b.size):           # the last batch is filled with its first entry
            at = b.mine[first + e if first + e < b.count else 0]
            rest = b.which[at] - b.start
            for j in range(nin - 2, 0, -1):
                (<int64_t *>places[j])[e] = rest % b.lengths[j]
                rest = rest // b.lengths[j]
            if nin > 1:
                (<int64_t *>places[0])[e] = rest
            array = <double *>places[nin - 1]
            for s in range(b.steps):      # the last steps likewise
                array[s * b.size + e] = b.to[(turn + s if turn + s < b.turns else 0) * b.lines + at]
        code = nnm_run(b.plan, <const void *const *>places, places + nin, NULL)
        if code != NNM_OK:
            b.code = code
            return
        row = 0
        for j in range(b.plan.noutputs):
            array = <double *>places[nin + j]
            rows = b.plan.outputs[j].nbytes // (b.steps * b.size * <Py_ssize_t>sizeof(double))
            for s in range(min(b.steps, b.turns - turn)):
                for e in range(min(b.size, b.count - first)):
                    at = (turn + s) * b.lines + b.mine[first + e]
                    for r in range(rows):
                        b.out[at * b.m + row + r] = array[(r * b.steps + s) * b.size + e]
            row += rows


cdef class Batches:
    """Runs of a plan of batches: places of the entries, their new values -> results whose last axis is the batch.

    ``lengths`` are those of the axes at which an entry of the argument is pinned; ``steps`` is how many values each
    entry of a batch gets, the same step of all entries side by side.
    """
    cdef _Room room
    cdef int64_t *lengths
    cdef double each                      # seconds of a run, 0 when nobody knows
    cdef readonly Py_ssize_t size, steps, coordinates, m

    def __cinit__(self, object capsule, tuple lengths, Py_ssize_t steps):
        cdef const nnm_plan *plan
        cdef int i
        plan = <const nnm_plan *>PyCapsule_GetPointer(capsule, NNM_CAPSULE)
        self.room = _Room(capsule, [None] * plan.ninputs)
        if plan.ninputs < 1 or plan.inputs[plan.ninputs - 1].rank != 1 or len(lengths) != plan.ninputs - 1:
            raise ShapeError("Batches: the plan must take a coordinate for each axis, and the new values of entries.")
        if steps < 1 or plan.inputs[plan.ninputs - 1].shape[0] % steps:
            raise ShapeError("Batches: each entry must have the same number of new values.")
        self.coordinates, self.steps = plan.ninputs - 1, steps
        self.size, self.each = plan.inputs[plan.ninputs - 1].shape[0] // steps, 0
        for i in range(plan.ninputs):
            if plan.inputs[i].nbytes != 8 * self.size * (1 if i < self.coordinates else steps) or (
                    plan.inputs[i].dtype != (NNM_TYPE_INT64 if i < self.coordinates else NNM_TYPE_FLOAT64)):
                raise DtypeError("Batches: the plan must take coordinates as int64, and new values as float64.")
        self.lengths = <int64_t *>malloc((len(lengths) + 1) * sizeof(int64_t))
        if self.lengths is NULL:
            raise MemoryError
        for i in range(self.coordinates):
            self.lengths[i] = lengths[i]
        self.m = 0
        for i in range(plan.noutputs):
            if plan.outputs[i].dtype != NNM_TYPE_FLOAT64 or plan.outputs[i].takes >= 0:
                raise DtypeError("Batches: the plan must give float64.")
            self.m += plan.outputs[i].nbytes // (8 * self.size * steps)

    def __dealloc__(self):
        free(self.lengths)

    @property
    def enough(self):
        """Whether there are arrays for as many threads as a run may have now."""
        return self.room.asked >= min(pool.threads_get(), MOST_THREADS)

    def run(self, const int64_t[::1] which, const double[::1] to, int64_t start, int64_t stop, double[:, ::1] out):
        """out[k] <- results with entry which[k] as to[k], for entries from start to stop; 0, or the code of a failure.

        When there are more values than entries, these repeat. From start to stop are the entries of the argument in the
        vector of all. After a failure nothing is known of any of them.
        """
        cdef Batch b
        cdef double begin
        cdef Py_ssize_t runs, portion = self.room.threads, k
        cdef Py_ssize_t *mine
        cdef int64_t size = 1
        cdef int got
        b.lines, b.turns = which.shape[0], 0
        if b.lines > 0:
            b.turns = to.shape[0] // b.lines
        if to.shape[0] != b.turns * b.lines or out.shape[0] != to.shape[0] or out.shape[1] != self.m:
            raise ShapeError(f"Batches: values for each entry, and {self.m} results for each value.")
        for k in range(self.coordinates):
            size *= self.lengths[k]
        if stop - start != size:
            raise ShapeError(f"Batches: the argument has {size} entries, got {stop - start}.")
        if to.shape[0] == 0 or self.m == 0:
            return 0
        mine = <Py_ssize_t *>malloc(b.lines * sizeof(Py_ssize_t))
        if mine is NULL:
            raise MemoryError
        try:
            b.count = 0
            for k in range(b.lines):
                if start <= which[k] < stop:
                    mine[b.count] = k
                    b.count += 1
            b.plan, b.places, b.size, b.steps, b.m, b.code, b.low = (
                self.room.plan, self.room.places, self.size, self.steps, self.m, 0, 0)
            b.lengths, b.which, b.mine, b.start, b.to, b.out = (
                self.lengths, &which[0], mine, start, &to[0], &out[0, 0])
            runs = (b.count + b.size - 1) // b.size * ((b.turns + b.steps - 1) // b.steps)
            while b.low < runs:
                if self.each > 0:
                    portion = max(<Py_ssize_t>(PORTION / self.each), self.room.threads)
                b.high = min(b.low + portion, runs)
                with nogil:
                    begin = pool.now()
                    got = 1
                    if self.each == 0:    # the first ones say how long one takes
                        batch(&b, 0, 1)
                    else:
                        got = pool.run(batch, &b, min(self.room.threads, b.high - b.low), self.each * (b.high - b.low))
                    self.each = max((pool.now() - begin) * got / (b.high - b.low), 1e-7)
                if b.code == NNM_NO_MEMORY:
                    raise MemoryLimitError((<bytes>nnm_message(b.code)).decode())
                PyErr_CheckSignals()
                b.low = b.high
        finally:
            free(mine)
        return b.code


include "differences.pxi"
include "search.pxi"
