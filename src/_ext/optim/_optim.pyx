"""Doors to the optimizer kernels. The arrays are distinct; hyperparameters are Python floats."""

from cython cimport floating
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport free, malloc, qsort
cimport numpy as cnp

from _isa cimport require_isa
from _threads cimport nnm_pool_table, pool_table

from nnmath_core.errors import ShapeError

cnp.import_array()

cdef extern from "nnm_optim.h":
    ctypedef struct nnm_optim_kernels:
        const char *isa
        void (*adam_step_f32)(Py_ssize_t, float *, float *, float *, const float *,
                              float, float, float, float, float, float) noexcept nogil
        void (*adam_step_f64)(Py_ssize_t, double *, double *, double *, const double *,
                              double, double, double, double, double, double) noexcept nogil
        void (*adamw_step_f32)(Py_ssize_t, float *, float *, float *, const float *,
                               float, float, float, float, float, float, float) noexcept nogil
        void (*adamw_step_f64)(Py_ssize_t, double *, double *, double *, const double *,
                               double, double, double, double, double, double, double) noexcept nogil
        void (*gradient_descent_step_f32)(Py_ssize_t, float *, const float *, float) noexcept nogil
        void (*gradient_descent_step_f64)(Py_ssize_t, double *, const double *, double) noexcept nogil
        void (*heavy_ball_step_f32)(Py_ssize_t, float *, float *, const float *, float, float) noexcept nogil
        void (*heavy_ball_step_f64)(Py_ssize_t, double *, double *, const double *, double, double) noexcept nogil
        void (*nesterov_step_f32)(Py_ssize_t, float *, float *, const float *, float, float) noexcept nogil
        void (*nesterov_step_f64)(Py_ssize_t, double *, double *, const double *, double, double) noexcept nogil
    const nnm_optim_kernels *nnm_optim_table()

cdef extern from "optim/rules.h":
    enum:
        NNM_RULES
        NNM_SLOTS_MOST
    ctypedef struct nnm_step_numbers:
        pass
    int nnm_rule_slots(int64_t rule) noexcept nogil
    nnm_step_numbers nnm_step_of(int64_t rule, double rate, int64_t t, const double *reals) noexcept nogil
    void nnm_rule_f32(const nnm_optim_kernels *, const nnm_step_numbers *, Py_ssize_t, char *, const char *,
                      char *const *) noexcept nogil
    void nnm_rule_f64(const nnm_optim_kernels *, const nnm_step_numbers *, Py_ssize_t, char *, const char *,
                      char *const *) noexcept nogil

require_isa()
cdef const nnm_optim_kernels *K = nnm_optim_table()
cdef const nnm_pool_table *pool = pool_table()


def isa():
    """The instruction set of the kernels: 'baseline', 'v3' or 'v4'."""
    return K.isa.decode()


def adam_step(floating[::1] w, floating[::1] m, floating[::1] v, const floating[::1] g,
              double lr, double beta1, double beta2, double eps, double c1, double c2):
    """One step of Adam in place. w, m, v, g: (n,), one dtype, distinct; c_i = 1 - beta_i^t."""
    cdef Py_ssize_t n = w.shape[0]
    if m.shape[0] != n or v.shape[0] != n or g.shape[0] != n:
        raise ShapeError(f"adam_step: `m`, `v` and `g` must be of shape ({n},) as `w` is.")
    if n == 0:
        return
    with nogil:
        if floating is float:
            K.adam_step_f32(n, &w[0], &m[0], &v[0], &g[0], lr, 1 - beta1, 1 - beta2, eps, c1, c2)
        else:
            K.adam_step_f64(n, &w[0], &m[0], &v[0], &g[0], lr, 1 - beta1, 1 - beta2, eps, c1, c2)


def adamw_step(floating[::1] w, floating[::1] m, floating[::1] v, const floating[::1] g,
               double lr, double beta1, double beta2, double eps, double decay, double c1, double c2):
    """One step of AdamW in place, as `adam_step`; the decay of w is multiplied by lr."""
    cdef Py_ssize_t n = w.shape[0]
    if m.shape[0] != n or v.shape[0] != n or g.shape[0] != n:
        raise ShapeError(f"adamw_step: `m`, `v` and `g` must be of shape ({n},) as `w` is.")
    if n == 0:
        return
    with nogil:
        if floating is float:
            K.adamw_step_f32(n, &w[0], &m[0], &v[0], &g[0], lr, 1 - beta1, 1 - beta2, eps, decay, c1, c2)
        else:
            K.adamw_step_f64(n, &w[0], &m[0], &v[0], &g[0], lr, 1 - beta1, 1 - beta2, eps, decay, c1, c2)


def gradient_descent_step(floating[::1] w, const floating[::1] g, double lr):
    """One step of gradient descent in place. w, g: (n,), one dtype, distinct."""
    cdef Py_ssize_t n = w.shape[0]
    if g.shape[0] != n:
        raise ShapeError(f"gradient_descent_step: `g` must be of shape ({n},) as `w` is.")
    if n == 0:
        return
    with nogil:
        if floating is float:
            K.gradient_descent_step_f32(n, &w[0], &g[0], lr)
        else:
            K.gradient_descent_step_f64(n, &w[0], &g[0], lr)


def heavy_ball_step(floating[::1] w, floating[::1] v, const floating[::1] g, double lr, double momentum):
    """One step of the heavy ball in place. w, v, g: (n,), one dtype, distinct."""
    cdef Py_ssize_t n = w.shape[0]
    if v.shape[0] != n or g.shape[0] != n:
        raise ShapeError(f"heavy_ball_step: `v` and `g` must be of shape ({n},) as `w` is.")
    if n == 0:
        return
    with nogil:
        if floating is float:
            K.heavy_ball_step_f32(n, &w[0], &v[0], &g[0], lr, momentum)
        else:
            K.heavy_ball_step_f64(n, &w[0], &v[0], &g[0], lr, momentum)


def nesterov_step(floating[::1] w, floating[::1] v, const floating[::1] g, double lr, double momentum):
    """One step of Nesterov's gradient in place, as `heavy_ball_step`."""
    cdef Py_ssize_t n = w.shape[0]
    if v.shape[0] != n or g.shape[0] != n:
        raise ShapeError(f"nesterov_step: `v` and `g` must be of shape ({n},) as `w` is.")
    if n == 0:
        return
    with nogil:
        if floating is float:
            K.nesterov_step_f32(n, &w[0], &v[0], &g[0], lr, momentum)
        else:
            K.nesterov_step_f64(n, &w[0], &v[0], &g[0], lr, momentum)


# ------------------------------------------------------------------------------------------------ all tensors at once
cdef enum:
    COLUMNS = 4                           # weights, gradient, slots
    QUANTUM = 64                          # entries of a thread's share
    MOST_THREADS = 64

cdef double AN_ENTRY = 1e-9               # seconds, about


cdef struct Tensor:
    Py_ssize_t size
    int wide
    char *places[4]


cdef struct Span:
    uintptr_t start, end
    int written


cdef struct Work:
    const nnm_step_numbers *numbers
    const Tensor *tensors
    Py_ssize_t count, total


cdef int compare(const void *a, const void *b) noexcept nogil:
    cdef uintptr_t x = (<const Span *>a).start, y = (<const Span *>b).start
    return (x > y) - (x < y)


cdef bint overlaps(Span *spans, Py_ssize_t count) noexcept nogil:
    """Whether something that is written shares memory with anything else."""
    cdef uintptr_t furthest = 0, written = 0
    cdef Py_ssize_t i
    qsort(spans, count, sizeof(Span), compare)
    for i in range(count):
        if spans[i].start < (furthest if spans[i].written else written):
            return True
        furthest = max(furthest, spans[i].end)
        if spans[i].written:
            written = max(written, spans[i].end)
    return False


cdef void share(void *arg, int t, int nt) noexcept nogil:
    """The share t of nt of the entries of all tensors."""
    cdef const Work *w = <const Work *>arg
    cdef Py_ssize_t blocks = (w.total + QUANTUM - 1) // QUANTUM
    cdef Py_ssize_t low = blocks * t // nt * QUANTUM, high = min(blocks * (t + 1) // nt * QUANTUM, w.total)
    cdef Py_ssize_t begin = 0, first, last, i, item
    cdef const Tensor *x
    cdef char *slots[2]
    for i in range(w.count):
        x = &w.tensors[i]
        first, last = max(low - begin, 0), min(high - begin, x.size)
        begin += x.size
        if first >= last:
            continue
        item = 8 if x.wide else 4
        slots[0] = x.places[2] + first * item
        slots[1] = x.places[3] + first * item
        if x.wide:
            nnm_rule_f64(K, w.numbers, last - first, x.places[0] + first * item, x.places[1] + first * item, slots)
        else:
            nnm_rule_f32(K, w.numbers, last - first, x.places[0] + first * item, x.places[1] + first * item, slots)


def step(int64_t rule, double rate, int64_t t, const double[::1] numbers, list rows):
    """Step t of a rule over all rows (weights, gradient, slots) in place; False, and nothing done: they do not fit.

    They fit when each row is of arrays of one shape and dtype, contiguous, aligned, and those that are written can be
    and share memory with no other one.
    """
    cdef Py_ssize_t n = len(rows), i, k = 0
    cdef int j, columns
    cdef Tensor *tensors
    cdef Span *spans
    cdef cnp.ndarray a
    cdef tuple row
    cdef nnm_step_numbers s
    cdef Work work
    cdef bint fits = True
    if not 0 <= rule < NNM_RULES:
        raise ValueError(f"step: there is no rule {rule}")
    columns = 2 + nnm_rule_slots(rule)
    tensors = <Tensor *>malloc(n * sizeof(Tensor) + 1)
    spans = <Span *>malloc(n * columns * sizeof(Span) + 1)
    try:
        if tensors is NULL or spans is NULL:
            raise MemoryError
        work.total = 0
        for i in range(n):
            row = rows[i]
            if len(row) != columns:
                return False
            tensors[i].places[2] = tensors[i].places[3] = NULL
            for j in range(columns):
                x = row[j]
                if not cnp.PyArray_CheckExact(x):
                    return False
                a = x
                if j == 0:
                    tensors[i].size, tensors[i].wide = cnp.PyArray_SIZE(a), cnp.PyArray_TYPE(a) == cnp.NPY_DOUBLE
                if (cnp.PyArray_TYPE(a) != (cnp.NPY_DOUBLE if tensors[i].wide else cnp.NPY_FLOAT)
                        or cnp.PyArray_SIZE(a) != tensors[i].size or not cnp.PyArray_ISCARRAY_RO(a)
                        or (j != 1 and not cnp.PyArray_ISWRITEABLE(a))):
                    return False
                tensors[i].places[j] = <char *>cnp.PyArray_DATA(a)
                if tensors[i].size:
                    spans[k].start = <uintptr_t>cnp.PyArray_DATA(a)
                    spans[k].end, spans[k].written = spans[k].start + cnp.PyArray_NBYTES(a), j != 1
                    k += 1
            work.total += tensors[i].size
        with nogil:
            fits = not overlaps(spans, k)
            if fits and work.total:
                s = nnm_step_of(rule, rate, t, &numbers[0] if numbers.shape[0] else NULL)
                work.numbers, work.tensors, work.count = &s, tensors, n
                pool.run(share, &work, min(pool.threads_get(), MOST_THREADS), AN_ENTRY * work.total)
        return fits
    finally:
        free(tensors)
        free(spans)
