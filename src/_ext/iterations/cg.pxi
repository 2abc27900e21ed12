# Conjugate gradients for several right-hand sides, each with its own steps; they share products with blocks.

cdef enum:
    RUNNING = 0
    CONVERGED = 1
    BENT = 2                             # p'Ap <= 0
    BROKEN = 3                           # not finite
    PRECONDITIONER = 4                   # r'Mr <= 0


cdef struct system_t:
    void *x
    void *r
    void *p
    void *q
    void *z                              # M r; NULL: there is no preconditioner
    double *numbers                      # see `cg`
    int64_t *count
    double *partial                      # (3, pieces)
    Py_ssize_t n, piece, pieces
    bint turns                           # the second part of a step, which makes the next direction of z
    nnm_barrier barrier


cdef inline void come_together(system_t *s, int nt) noexcept nogil:
    if nt > 1:
        pool.barrier_wait(&s.barrier)


cdef inline void turn(system_t *s, int t, int nt, floating *z, double rz) noexcept nogil:
    """p <- z + beta p, for the pieces of thread t."""
    cdef double beta = rz / s.numbers[0]
    cdef floating *p = <floating *>s.p
    cdef Py_ssize_t i, at, some
    for i in range(s.pieces * t // nt, s.pieces * (t + 1) // nt):
        at = i * s.piece
        some = min(s.piece, s.n - at)
        scal(<blas_int>some, <floating>beta, p + at, 1)
        axpy(<blas_int>some, <floating>1, z + at, 1, p + at, 1)


cdef void system_share(system_t *s, int t, int nt, floating *_) noexcept nogil:
    """One step of one system after its product: every thread comes to the same numbers, thread 0 writes them down."""
    cdef floating *x = <floating *>s.x
    cdef floating *r = <floating *>s.r
    cdef floating *p = <floating *>s.p
    cdef floating *q = <floating *>s.q
    cdef double pq, pp, scale, rz, size, least
    cdef Py_ssize_t i, at, some, low = s.pieces * t // nt, high = s.pieces * (t + 1) // nt
    cdef int code = RUNNING
    nnm_barrier_join(&s.barrier, nt)
    for i in range(low, high):
        at = i * s.piece
        some = min(s.piece, s.n - at)
        if s.turns:
            s.partial[i] = wide_dot(some, r + at, <floating *>s.z + at)
        else:
            s.partial[i] = wide_dot(some, p + at, q + at)
            s.partial[s.pieces + i] = wide_dot(some, p + at, p + at)
    come_together(s, nt)
    if s.turns:
        rz = total(s.partial, s.pieces)
        if rz > 0 and isfinite(rz):
            turn(s, t, nt, <floating *>s.z, rz)
        else:
            code = BROKEN if not isfinite(rz) else PRECONDITIONER
        come_together(s, nt)             # all have read the number that is overwritten
        if t == 0:
            s.count[2], s.numbers[0] = code, rz
        return
    pq, pp = total(s.partial, s.pieces), total(s.partial + s.pieces, s.pieces)
    rz, least = s.numbers[0], s.numbers[2]
    if not isfinite(pq) or not isfinite(pp):
        code = BROKEN
    else:
        least = min(least, pq / pp)
        if pq <= 0:
            code = BENT
    if code == RUNNING:
        scale = rz / pq
        for i in range(low, high):
            at = i * s.piece
            some = min(s.piece, s.n - at)
            axpy(<blas_int>some, <floating>scale, p + at, 1, x + at, 1)
            axpy(<blas_int>some, <floating>-scale, q + at, 1, r + at, 1)
            s.partial[2 * s.pieces + i] = wide_dot(some, r + at, r + at)
        come_together(s, nt)
        size = length_from(s.partial + 2 * s.pieces, s.pieces, s.n, r)
        if not isfinite(size):
            code = BROKEN
        elif size <= s.numbers[1]:
            code = CONVERGED
        elif s.z == NULL:
            turn(s, t, nt, r, size * size)
        come_together(s, nt)
        if t == 0:
            s.count[1] += 1
            s.numbers[3] = size
            if s.z == NULL and code == RUNNING:
                s.numbers[0] = size * size
    else:
        come_together(s, nt)
    if t == 0:
        s.count[2], s.numbers[2] = code, least


cdef void system_f32(void *arg, int t, int nt) noexcept nogil:
    system_share(<system_t *>arg, t, nt, <float *>NULL)


cdef void system_f64(void *arg, int t, int nt) noexcept nogil:
    system_share(<system_t *>arg, t, nt, <double *>NULL)


cdef inline void swap_rows(floating *x, Py_ssize_t n, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    cdef Py_ssize_t c
    cdef floating *a = x + i * n
    cdef floating *b = x + j * n
    cdef floating kept
    for c in range(n):
        kept = a[c]
        a[c] = b[c]
        b[c] = kept


cdef void retire(floating *x, floating *r, floating *p, double *numbers, int64_t *counts, Py_ssize_t n,
                 int64_t *active) noexcept nogil:
    """Exchange the active rows that have ended with the last active ones."""
    cdef Py_ssize_t i, last, c
    for i in range(active[0] - 1, -1, -1):
        if counts[3 * i + 2] == RUNNING:
            continue
        active[0] -= 1
        last = active[0]
        if i != last:
            swap_rows(x, n, i, last)
            swap_rows(r, n, i, last)
            swap_rows(p, n, i, last)
            swap_rows(numbers, 4, i, last)
            for c in range(3):
                counts[3 * i + c], counts[3 * last + c] = counts[3 * last + c], counts[3 * i + c]


def cg(Product product, Product preconditioner, floating[:, ::1] x, floating[:, ::1] r, floating[:, ::1] z,
       floating[:, ::1] p, floating[:, ::1] q, double[:, ::1] numbers, int64_t[:, ::1] counts, int64_t[::1] active,
       Py_ssize_t steps):
    """Up to `steps` steps of the first active[0] rows; rows that end are exchanged with the last active one.

    x, r, p: (k, n), iterates, residuals, directions; z: (k, n), M r, unless M is None; q: (k, n), work.
    numbers: (k, 4), r'z, the length of r to reach, the least p'Ap / p'p, the length of r; counts: (k, 3), the system,
    steps, the code of how it ended. All of them go with their row. Returns the steps done.
    """
    cdef Py_ssize_t k = x.shape[0], n = x.shape[1], i, step = 0
    cdef int failed = 0, threads = pool.threads_get()
    cdef bint in_m = False, with_m = preconditioner is not None
    cdef system_t w
    cdef double since = pool.now()
    cdef product_t *m = &preconditioner.c if with_m else NULL
    as_blas_int(n, "cg: the number of rows of `A`")
    require_product(product, n, floating is float)
    if with_m:
        require_product(preconditioner, n, floating is float)
    if (product.rows != n or r.shape[0] != k or p.shape[0] != k or q.shape[0] != k or numbers.shape[0] != k
            or counts.shape[0] != k or r.shape[1] != n or p.shape[1] != n or q.shape[1] != n or numbers.shape[1] != 4
            or counts.shape[1] != 3 or active[0] > k or n == 0
            or (with_m and (z.shape[0] != k or z.shape[1] != n or preconditioner.rows != n))):
        raise ShapeError("cg: the arrays must agree.")
    w.n, w.piece = n, PIECE // sizeof(floating)
    w.pieces = (n + w.piece - 1) // w.piece
    w.partial = <double *>malloc(sizeof(double) * 3 * w.pieces)
    if w.partial is NULL:
        raise MemoryError
    try:
        with nogil:
            while step < steps and active[0] > 0:
                failed = multiply(&product.c, active[0], &p[0, 0], &q[0, 0])
                if failed:
                    break
                w.turns = False
                for i in range(active[0]):
                    w.x, w.r, w.p, w.q = &x[i, 0], &r[i, 0], &p[i, 0], &q[i, 0]
                    w.z = &z[i, 0] if with_m else NULL
                    w.numbers, w.count = &numbers[i, 0], &counts[i, 0]
                    pool.barrier_init(&w.barrier, 1)
                    pool.run(system_f32 if floating is float else system_f64, &w, threads,
                             reading(11.0 * n * sizeof(floating)))
                step += 1
                retire(&x[0, 0], &r[0, 0], &p[0, 0], &numbers[0, 0], &counts[0, 0], n, &active[0])
                if with_m and active[0] > 0:
                    in_m = True
                    failed = multiply(m, active[0], &r[0, 0], &z[0, 0])
                    if failed:
                        break
                    in_m = False
                    w.turns = True
                    for i in range(active[0]):
                        w.r, w.p, w.z = &r[i, 0], &p[i, 0], &z[i, 0]
                        w.numbers, w.count = &numbers[i, 0], &counts[i, 0]
                        pool.barrier_init(&w.barrier, 1)
                        pool.run(system_f32 if floating is float else system_f64, &w, threads,
                                 reading(5.0 * n * sizeof(floating)))
                    retire(&x[0, 0], &r[0, 0], &p[0, 0], &numbers[0, 0], &counts[0, 0], n, &active[0])
                if signals_due(&since):
                    with gil:
                        PyErr_CheckSignals()
    finally:
        free(w.partial)
    if failed:
        (preconditioner if in_m else product).fail()
    return step
