# Steps of a Lanczos run with full reorthogonalisation. All sums over n are cut by shape alone and added in order, so
# that the threads, which take shares of the pieces, do not change the bits. So are those of conjugate gradients.

cdef enum:
    PIECE = 32768                        # bytes of w in one piece: it stays in cache between the products with it


cdef struct step_t:
    const void *basis                    # (rows, n): all that w is made orthogonal to; the last row is v
    void *w                              # in: A v; out: the next vector
    void *sums                           # (pieces, rows): B w of each piece
    void *coefficients                   # (threads, rows)
    double *partial                      # (8, pieces): sums of each phase
    Py_ssize_t n, rows, piece, pieces
    double beta                          # of the step before, 0 in the first
    double breakdown
    double size                          # the largest |A v| before this step
    # out:
    double alpha, length, norm, leak     # norm: |A v|; length: of what is left, -1 where it lies in the span
    nnm_barrier barrier


cdef inline double total(const double *partial, Py_ssize_t pieces) noexcept nogil:
    cdef double s = 0
    cdef Py_ssize_t i
    for i in range(pieces):
        s += partial[i]
    return s


cdef inline double length_from(const double *partial, Py_ssize_t pieces, Py_ssize_t n, floating *w) noexcept nogil:
    """The length of w (n,) from the squares of its pieces; where these do not fit a double, by BLAS."""
    cdef double squares = total(partial, pieces)
    if floating is double:
        if not 1e-280 < squares < 1e280:
            return nrm2(<blas_int>n, w, 1)
    return sqrt(squares)


cdef inline double length_of(step_t *s, const double *partial, floating *w) noexcept nogil:
    return length_from(partial, s.pieces, s.n, w)


cdef inline void meet(step_t *s, int nt) noexcept nogil:
    if nt > 1:
        pool.barrier_wait(&s.barrier)


cdef inline void multiply_pieces(step_t *s, int t, int nt, floating *w) noexcept nogil:
    """sums <- B w, for the pieces of thread t."""
    cdef Py_ssize_t i, at
    for i in range(s.pieces * t // nt, s.pieces * (t + 1) // nt):
        at = i * s.piece
        gemv(False, <blas_int>s.rows, <blas_int>min(s.piece, s.n - at), <floating>1, <const floating *>s.basis + at,
             <blas_int>s.n, w + at, 1, <floating>0, <floating *>s.sums + i * s.rows, 1)


cdef inline void take_away(step_t *s, int t, int nt, floating *w, double *partial) noexcept nogil:
    """w <- w - B^T c and its squares, for the pieces of thread t; c is the sum over all pieces."""
    cdef floating *c = <floating *>s.coefficients + t * s.rows
    cdef const floating *sums = <const floating *>s.sums
    cdef Py_ssize_t i, k, at, some
    cdef double a
    for k in range(s.rows):
        a = 0
        for i in range(s.pieces):
            a += sums[i * s.rows + k]
        c[k] = <floating>a
    for i in range(s.pieces * t // nt, s.pieces * (t + 1) // nt):
        at = i * s.piece
        some = min(s.piece, s.n - at)
        gemv(True, <blas_int>s.rows, <blas_int>some, <floating>-1, <const floating *>s.basis + at, <blas_int>s.n, c, 1,
             <floating>1, w + at, 1)
        partial[i] = wide_dot(some, w + at, w + at)


cdef inline double largest(step_t *s, int t, floating *_) noexcept nogil:
    """The largest coefficient of the last `take_away`."""
    cdef floating *c = <floating *>s.coefficients + t * s.rows
    cdef double top = 0
    cdef Py_ssize_t k
    for k in range(s.rows):
        top = max(top, fabs(c[k]))
    return top


cdef void step_share(step_t *s, int t, int nt, floating *_) noexcept nogil:
    """One step after its product: every thread comes to the same numbers, thread 0 writes them down.

    Classical Gram-Schmidt in two products, repeated once where the length fell: twice is enough (Kahan, Parlett). The
    largest coefficient of the first pass is rounding when A is symmetric.
    """
    cdef const floating *v = <const floating *>s.basis + (s.rows - 1) * s.n
    cdef floating *w = <floating *>s.w
    cdef Py_ssize_t i, at, some, low = s.pieces * t // nt, high = s.pieces * (t + 1) // nt
    cdef double norm, alpha, before, after, leak
    cdef int k
    nnm_barrier_join(&s.barrier, nt)
    for i in range(low, high):
        at = i * s.piece
        some = min(s.piece, s.n - at)
        s.partial[i] = wide_dot(some, w + at, w + at)
        s.partial[s.pieces + i] = wide_dot(some, v + at, w + at)
    meet(s, nt)
    norm = length_of(s, s.partial, w)
    alpha = total(s.partial + s.pieces, s.pieces)
    if t == 0:
        s.norm, s.alpha, s.length, s.leak = norm, alpha, -1, 0
    if not isfinite(norm):
        return
    meet(s, nt)                          # nobody changes w before all have its length
    for i in range(low, high):
        at = i * s.piece
        some = min(s.piece, s.n - at)
        axpy(<blas_int>some, <floating>-alpha, v + at, 1, w + at, 1)
        if s.beta != 0:
            axpy(<blas_int>some, <floating>-s.beta, v - s.n + at, 1, w + at, 1)
        s.partial[2 * s.pieces + i] = wide_dot(some, w + at, w + at)
    multiply_pieces(s, t, nt, w)
    meet(s, nt)
    before = length_of(s, s.partial + 2 * s.pieces, w)
    meet(s, nt)
    for k in range(2):
        take_away(s, t, nt, w, s.partial + (3 + k) * s.pieces)
        leak = largest(s, t, w)
        meet(s, nt)
        after = length_of(s, s.partial + (3 + k) * s.pieces, w)
        if t == 0 and k == 0:
            s.leak = leak
        if after >= 0.7 * before or k == 1:
            break
        before = after
        multiply_pieces(s, t, nt, w)
        meet(s, nt)
    if not after >= 0.7 * before:        # a second loss: what is left is rounding of what was taken away
        multiply_pieces(s, t, nt, w)
        meet(s, nt)
        leak = 0
        for k in range(s.rows):
            alpha = 0
            for i in range(s.pieces):
                alpha += (<floating *>s.sums)[i * s.rows + k]
            leak = max(leak, fabs(alpha))
        if leak > 0.5 * after:
            after = -1
    if t == 0:
        s.length = after
    if after > s.breakdown * max(s.size, norm):
        meet(s, nt)                      # as above
        for i in range(low, high):
            at = i * s.piece
            scal(<blas_int>min(s.piece, s.n - at), <floating>(1 / after), w + at, 1)


cdef void step_f32(void *arg, int t, int nt) noexcept nogil:
    step_share(<step_t *>arg, t, nt, <float *>NULL)


cdef void step_f64(void *arg, int t, int nt) noexcept nogil:
    step_share(<step_t *>arg, t, nt, <double *>NULL)


cdef inline bint orthogonal(const floating *basis, blas_int rows, blas_int n, floating *w, floating *c,
                            double *length) noexcept nogil:
    """w made orthogonal to orthonormal rows; False where it lies in their span."""
    cdef double after
    cdef int k
    cdef Py_ssize_t i
    for k in range(3):
        gemv(False, rows, n, <floating>1, basis, n, w, 1, <floating>0, c, 1)
        if k == 2:                       # a second loss of length
            for i in range(rows):
                if fabs(c[i]) > 0.5 * length[0]:
                    return False
            return True
        gemv(True, rows, n, <floating>-1, basis, n, c, 1, <floating>1, w, 1)
        after = wide_norm(n, w)
        if after >= 0.7 * length[0]:
            length[0] = after
            return True
        length[0] = after
    return True


def orthonormalise(const floating[:, ::1] basis, Py_ssize_t rows, floating[::1] w, floating[::1] coefficients):
    """w <- unit vector orthogonal to the first rows of basis; False where w lies in their span, to rounding."""
    cdef blas_int n = as_blas_int(basis.shape[1], "lanczos: the number of columns of the basis")
    cdef blas_int m = as_blas_int(rows, "lanczos: the number of rows of the basis")
    cdef double before, length
    cdef double eps = DBL_EPSILON if floating is double else FLT_EPSILON
    cdef bint outside = True
    if w.shape[0] != n or rows > basis.shape[0] or coefficients.shape[0] < rows:
        raise ShapeError("orthonormalise: the basis, the vector and the coefficients must agree.")
    if n == 0:
        return False
    with nogil:
        length = before = wide_norm(n, &w[0])
        if m > 0 and length > 0:
            outside = orthogonal(&basis[0, 0], m, n, &w[0], &coefficients[0], &length)
        outside = outside and length > 32 * eps * before
        if outside:
            scal(n, <floating>(1 / length), &w[0], 1)
    return outside


def lanczos(Product product, floating[:, ::1] basis, Py_ssize_t locked, Py_ssize_t stop, double[::1] alpha,
            double[::1] beta, int64_t[::1] done, double[::1] facts, double breakdown):
    """Steps done[0] .. stop-1 of a run whose first vector is row `locked`; True where it broke down.

    Step j takes v = row locked + j, writes A v to the next row, takes away all rows up to v and normalises. alpha[j]
    and beta[j] are the entries of T. done[0] counts complete steps, also when the product fails or a signal comes.
    facts: the largest |A v| and the largest coefficient that symmetry makes zero, updated. A run breaks down where
    beta[j] <= breakdown * facts[0]; the next row is then not normalised.
    """
    cdef Py_ssize_t n = basis.shape[1], j, room
    cdef int threads = pool.threads_get(), failed = 0
    cdef bint closed = False
    cdef double since = pool.now()
    cdef step_t s
    cdef void *memory
    as_blas_int(n, "lanczos: the number of columns of the basis")
    as_blas_int(basis.shape[0], "lanczos: the number of rows of the basis")
    require_product(product, n, floating is float)
    if (product.rows != n or locked + stop >= basis.shape[0] or stop > alpha.shape[0] or stop > beta.shape[0] or n == 0
            or facts.shape[0] < 2 or locked < 0 or done[0] < 0):
        raise ShapeError("lanczos: the basis and the entries of T must have room for the steps.")
    s.n, s.breakdown = n, breakdown
    s.piece = PIECE // sizeof(floating)
    s.pieces = (n + s.piece - 1) // s.piece
    room = locked + stop + 1
    memory = malloc(sizeof(double) * 8 * s.pieces + sizeof(floating) * room * (s.pieces + threads))
    if memory is NULL:
        raise MemoryError
    s.partial = <double *>memory
    s.sums = s.partial + 8 * s.pieces
    s.coefficients = <floating *>s.sums + room * s.pieces
    s.norm = 1
    try:
        with nogil:
            while done[0] < stop:
                j = done[0]
                s.basis, s.rows = &basis[0, 0], locked + j + 1
                s.w = &basis[locked + j + 1, 0]
                s.beta = beta[j - 1] if j > 0 else 0
                s.size = facts[0]
                failed = multiply(&product.c, 1, &basis[locked + j, 0], s.w)
                if failed:
                    break
                pool.barrier_init(&s.barrier, 1)
                pool.run(step_f32 if floating is float else step_f64, &s, threads,
                         reading(<double>(2 * s.rows + 5) * n * sizeof(floating)))
                if not isfinite(s.norm):
                    break
                facts[0] = max(facts[0], s.norm)
                facts[1] = max(facts[1], s.leak)
                alpha[j] = s.alpha
                beta[j] = max(s.length, 0.0)
                done[0] = j + 1
                closed = not s.length > breakdown * facts[0]
                if closed:
                    break
                if signals_due(&since):
                    with gil:
                        PyErr_CheckSignals()
        if failed:
            product.fail()
        if not isfinite(s.norm):
            raise DomainError(f"lanczos: `A @ v` must be finite, got infinity or NaN in step {done[0] + 1}. Is the "
                              "point of the operator one where its entries are finite?")
        return closed
    finally:
        free(memory)
