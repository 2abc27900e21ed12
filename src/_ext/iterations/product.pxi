# A linear operator that an iteration calls without the GIL: one struct, a function and its context. All kinds are here.

ctypedef int (*apply_t)(void *context, Py_ssize_t k, const void *x, void *y) noexcept nogil

cdef struct product_t:
    apply_t apply      # y_i = A x_i for the k rows of x (k, cols) and of y (k, rows), distinct; not 0: it failed
    void *context
    int64_t count      # vectors multiplied


cdef inline int multiply(product_t *p, Py_ssize_t k, const void *x, void *y) noexcept nogil:
    p.count += k
    return p.apply(p.context, k, x, y)


cdef inline double reading(double nbytes) noexcept nogil:
    """About the seconds that one thread takes to read so many bytes."""
    return nbytes / 1e10


@cython.internal
cdef class Product:
    """A product of one dtype for the iterations of this module."""
    cdef product_t c
    cdef readonly Py_ssize_t rows, cols
    cdef readonly object dtype

    @property
    def count(self):
        """Vectors multiplied so far."""
        return self.c.count

    cdef int fail(self) except -1:
        """Raise what a product has failed with."""
        raise RuntimeError("a product has failed")

    def __call__(self, cnp.ndarray x not None):
        """The products with the rows of x (k, cols), as rows (k, rows)."""
        cdef Py_ssize_t k = x.shape[0]
        cdef int failed
        if x.ndim != 2 or x.dtype != self.dtype or x.shape[1] != self.cols or not cnp.PyArray_IS_C_CONTIGUOUS(x):
            raise ShapeError(f"product: vectors must be contiguous rows of shape (k, {self.cols}) and {self.dtype}.")
        cdef cnp.ndarray y = np.zeros((k, self.rows), self.dtype)
        cdef const void *given = cnp.PyArray_DATA(x)
        cdef void *got = cnp.PyArray_DATA(y)
        if x.size == 0 or y.size == 0:
            return y
        with nogil:
            failed = multiply(&self.c, k, given, got)
        if failed:
            self.fail()
        return y


cdef int require_product(Product p, Py_ssize_t n, bint single) except -1:
    """Refuse vectors of another length or dtype."""
    if n != p.cols or single != (p.dtype.itemsize == 4):
        raise ShapeError(f"product: vectors must be of shape ({p.cols},) and {p.dtype}.")
    return 0


# ------------------------------------------------------------------------------------------------ Python

@cython.final
@cython.internal
cdef class PythonProduct(Product):
    cdef object function                 # (k, cols) -> (k, rows)
    cdef object error                    # of the last failure

    cdef int fail(self) except -1:
        error, self.error = self.error, None
        raise error

    cdef int call(self, Py_ssize_t k, const void *x, void *y) except -1:
        given = np.empty((k, self.cols), self.dtype)
        memcpy(cnp.PyArray_DATA(<cnp.ndarray>given), x, given.nbytes)
        found = np.ascontiguousarray(self.function(given), self.dtype)
        if found.shape != (k, self.rows):
            raise ShapeError(f"product: the result must be of shape {(k, self.rows)}, got {found.shape}.")
        memcpy(y, cnp.PyArray_DATA(<cnp.ndarray>found), found.nbytes)
        return 0


cdef int python_apply(void *context, Py_ssize_t k, const void *x, void *y) noexcept with gil:
    product = <PythonProduct>context
    try:
        product.call(k, x, y)
        return 0
    except BaseException as error:       # KeyboardInterrupt too: the iteration ends in order, then it is raised
        product.error = error
        return 1


def python_product(function, Py_ssize_t rows, Py_ssize_t cols, dtype):
    """A function of Python, from rows (k, cols) to rows (k, rows), as a product: it takes the GIL."""
    cdef PythonProduct p = PythonProduct.__new__(PythonProduct)
    p.rows, p.cols, p.dtype, p.function = rows, cols, np.dtype(dtype), function
    p.c.apply, p.c.context = <apply_t>python_apply, <void *>p
    return p


# ------------------------------------------------------------------------------------------------ plans

cdef struct plan_t:
    const nnm_plan *plan
    Py_ssize_t rows, cols
    double scale
    int single, code


@cython.final
@cython.internal
cdef class PlanProduct(Product):
    cdef object capsule                  # it keeps the plan alive
    cdef plan_t work

    cdef int fail(self) except -1:
        raise RuntimeError("product: " + (<bytes>nnm_message(self.work.code)).decode())


cdef int plan_apply(void *context, Py_ssize_t k, const void *x, void *y) noexcept nogil:
    cdef plan_t *w = <plan_t *>context
    cdef Py_ssize_t i, j, itemsize = 4 if w.single else 8
    cdef const void *given
    cdef void *got
    cdef int code
    for i in range(k):
        given = <const char *>x + i * w.cols * itemsize
        got = <char *>y + i * w.rows * itemsize
        code = nnm_run(w.plan, &given, &got, NULL)
        if code != NNM_OK:
            w.code = code
            return 1
    if w.scale != 1:
        if w.single:
            for j in range(k * w.rows):
                (<float *>y)[j] *= <float>w.scale
        else:
            for j in range(k * w.rows):
                (<double *>y)[j] *= w.scale
    return 0


def plan_product(capsule, double scale=1):
    """A plan from (cols,) to (rows,), times a number, as a product; one run a vector."""
    cdef PlanProduct p = PlanProduct.__new__(PlanProduct)
    cdef const nnm_plan *plan = <const nnm_plan *>PyCapsule_GetPointer(capsule, NNM_CAPSULE)
    if (plan.ninputs != 1 or plan.noutputs != 1 or plan.inputs[0].rank != 1 or plan.outputs[0].rank != 1
            or plan.inputs[0].dtype != plan.outputs[0].dtype
            or plan.inputs[0].dtype not in (NNM_TYPE_FLOAT32, NNM_TYPE_FLOAT64)):
        raise ShapeError("product: the plan must be of one vector to one vector of its dtype, float32 or float64.")
    p.capsule = capsule
    p.rows, p.cols = plan.outputs[0].shape[0], plan.inputs[0].shape[0]
    p.work.plan, p.work.scale = plan, scale
    p.work.rows, p.work.cols, p.work.single = p.rows, p.cols, plan.inputs[0].dtype == NNM_TYPE_FLOAT32
    p.dtype = np.dtype("f4" if p.work.single else "f8")
    p.c.apply, p.c.context = plan_apply, <void *>&p.work
    return p


# ------------------------------------------------------------------------------------------------ dense matrices

cdef struct dense_t:
    const void *a                        # (m, n), row by row
    const void *x
    void *y
    blas_int m, n, k, panel
    bint turned, single                  # turned: the product is with the transpose of what lies there


@cython.final
@cython.internal
cdef class DenseProduct(Product):
    cdef object matrix                   # keeps the memory
    cdef dense_t work


cdef void dense_share(dense_t *w, int t, int nt, floating *_) noexcept nogil:
    """The panels of thread t: rows of the result, cut by shape alone."""
    cdef blas_int first, some, total = w.n if w.turned else w.m
    cdef Py_ssize_t panels = (<Py_ssize_t>total + w.panel - 1) // w.panel, i
    cdef const floating *a = <const floating *>w.a
    cdef const floating *x = <const floating *>w.x
    cdef floating *y = <floating *>w.y
    for i in range(panels * t // nt, panels * (t + 1) // nt):
        first = <blas_int>(i * w.panel)
        some = min(w.panel, total - first)
        if w.turned and w.k == 1:
            gemv(True, w.m, some, <floating>1, a + first, w.n, x, 1, <floating>0, y + first, 1)
        elif w.turned:
            gemm(False, False, w.k, some, w.m, <floating>1, x, w.m, a + first, w.n, <floating>0, y + first, total)
        elif w.k == 1:
            gemv(False, some, w.n, <floating>1, a + <Py_ssize_t>first * w.n, w.n, x, 1, <floating>0, y + first, 1)
        else:
            gemm(False, True, w.k, some, w.n, <floating>1, x, w.n, a + <Py_ssize_t>first * w.n, w.n, <floating>0,
                 y + first, total)


cdef void dense_f32(void *arg, int t, int nt) noexcept nogil:
    dense_share(<dense_t *>arg, t, nt, <float *>NULL)


cdef void dense_f64(void *arg, int t, int nt) noexcept nogil:
    dense_share(<dense_t *>arg, t, nt, <double *>NULL)


cdef int dense_apply(void *context, Py_ssize_t k, const void *x, void *y) noexcept nogil:
    cdef dense_t w = (<dense_t *>context)[0]
    cdef Py_ssize_t itemsize = 4 if w.single else 8, done = 0
    cdef Py_ssize_t rows = w.n if w.turned else w.m, cols = w.m if w.turned else w.n
    while done < k:
        w.k = <blas_int>min(k - done, 256)
        w.x = <const char *>x + done * cols * itemsize
        w.y = <char *>y + done * rows * itemsize
        pool.run(dense_f32 if w.single else dense_f64, &w, pool.threads_get(),
                 reading(<double>w.m * w.n * itemsize) * (1 + w.k // 8))
        done += w.k
    return 0


def dense_product(const floating[:, ::1] a, bint turned=False):
    """A matrix (m, n), or with `turned` its transpose, as a product."""
    cdef DenseProduct p = DenseProduct.__new__(DenseProduct)
    cdef blas_int m = as_blas_int(a.shape[0], "product: the number of rows of `A`")
    cdef blas_int n = as_blas_int(a.shape[1], "product: the number of columns of `A`")
    p.matrix = a
    p.rows, p.cols = (n, m) if turned else (m, n)
    p.dtype = np.dtype("f4" if floating is float else "f8")
    p.work.a, p.work.m, p.work.n = &a[0, 0] if m and n else NULL, m, n
    p.work.turned, p.work.single = turned, floating is float
    p.work.panel = <blas_int>max(16, (1 << 18) // max(1, p.cols))   # by shape alone: the bits do not depend on threads
    p.c.apply, p.c.context = dense_apply, <void *>&p.work
    return p


# ------------------------------------------------------------------------------------------------ sparse matrices

ctypedef fused index_t:
    int32_t
    int64_t


cdef struct sparse_t:
    const void *data
    const void *indices
    const void *indptr
    const void *x
    void *y
    Py_ssize_t rows, cols, k
    double seconds
    nnm_job job


@cython.final
@cython.internal
cdef class SparseProduct(Product):
    cdef object arrays                   # keep the memory
    cdef sparse_t work


cdef void sparse_share(sparse_t *w, int t, int nt, floating *_, index_t *__) noexcept nogil:
    """Rows of about equal numbers of entries for each thread; a row is one sum whatever nt is."""
    cdef const floating *data = <const floating *>w.data
    cdef const index_t *indices = <const index_t *>w.indices
    cdef const index_t *indptr = <const index_t *>w.indptr
    cdef const floating *x
    cdef floating *y
    cdef Py_ssize_t low = first_row(indptr, w.rows, t, nt), high = first_row(indptr, w.rows, t + 1, nt), r, j, c
    cdef floating a
    for c in range(w.k):
        x = <const floating *>w.x + c * w.cols
        y = <floating *>w.y + c * w.rows
        for r in range(low, high):
            a = 0
            for j in range(indptr[r], indptr[r + 1]):
                a += data[j] * x[indices[j]]
            y[r] = a


cdef Py_ssize_t first_row(const index_t *indptr, Py_ssize_t rows, int t, int nt) noexcept nogil:
    """The first row of thread t's share of rows and entries together."""
    cdef Py_ssize_t low = 0, high = rows, middle
    cdef double goal = (<double>indptr[rows] + rows) * t / nt
    if t >= nt:
        return rows
    while low < high:
        middle = (low + high) // 2
        if <double>indptr[middle] + middle < goal:
            low = middle + 1
        else:
            high = middle
    return low


cdef void sparse_f32_i32(void *arg, int t, int nt) noexcept nogil:
    sparse_share(<sparse_t *>arg, t, nt, <float *>NULL, <int32_t *>NULL)


cdef void sparse_f32_i64(void *arg, int t, int nt) noexcept nogil:
    sparse_share(<sparse_t *>arg, t, nt, <float *>NULL, <int64_t *>NULL)


cdef void sparse_f64_i32(void *arg, int t, int nt) noexcept nogil:
    sparse_share(<sparse_t *>arg, t, nt, <double *>NULL, <int32_t *>NULL)


cdef void sparse_f64_i64(void *arg, int t, int nt) noexcept nogil:
    sparse_share(<sparse_t *>arg, t, nt, <double *>NULL, <int64_t *>NULL)


cdef int sparse_apply(void *context, Py_ssize_t k, const void *x, void *y) noexcept nogil:
    cdef sparse_t w = (<sparse_t *>context)[0]
    w.x, w.y, w.k = x, y, k
    pool.run(w.job, &w, pool.threads_get(), w.seconds * k)
    return 0


def sparse_product(const floating[::1] data, const index_t[::1] indices, const index_t[::1] indptr, Py_ssize_t cols):
    """A matrix in rows of entries (CSR), whose indices SciPy has checked, as a product."""
    cdef SparseProduct p = SparseProduct.__new__(SparseProduct)
    p.arrays = (data, indices, indptr)
    p.rows, p.cols = indptr.shape[0] - 1, cols
    p.dtype = np.dtype("f4" if floating is float else "f8")
    p.work.data = &data[0] if data.shape[0] else NULL
    p.work.indices = &indices[0] if indices.shape[0] else NULL
    p.work.indptr = &indptr[0]
    p.work.rows, p.work.cols = p.rows, cols
    p.work.seconds = 1e-9 * (data.shape[0] + p.rows)    # about one entry a nanosecond
    if floating is float:
        p.work.job = sparse_f32_i64 if index_t is int64_t else sparse_f32_i32
    else:
        p.work.job = sparse_f64_i64 if index_t is int64_t else sparse_f64_i32
    p.c.apply, p.c.context = sparse_apply, <void *>&p.work
    return p


# ------------------------------------------------------------------------------------------------ A^T A

cdef struct normal_t:
    product_t *forward
    product_t *backward                  # NULL: a dense matrix, in one pass
    const void *a
    const void *x
    void *y
    void *u
    void *parts                          # (panels, n): the shares of y
    Py_ssize_t m, n, panels, panel
    bint single, second                  # second: the product that failed was that of the transpose
    nnm_barrier barrier


@cython.final
@cython.internal
cdef class NormalProduct(Product):
    cdef readonly object image           # A x of the last vector; it is overwritten
    cdef Product forward, backward
    cdef object parts
    cdef normal_t work

    cdef int fail(self) except -1:
        return self.backward.fail() if self.work.second else self.forward.fail()


cdef void normal_share(normal_t *w, int t, int nt, floating *_) noexcept nogil:
    cdef Py_ssize_t i, j, first, some, low = w.n * t // nt, high = w.n * (t + 1) // nt
    cdef const floating *a = <const floating *>w.a
    cdef floating *u = <floating *>w.u
    cdef floating *parts = <floating *>w.parts
    cdef floating *y = <floating *>w.y
    nnm_barrier_join(&w.barrier, nt)
    for i in range(w.panels * t // nt, w.panels * (t + 1) // nt):
        first = i * w.panel
        some = min(w.panel, w.m - first)
        if floating is float:
            K.normal_rows_f32(some, w.n, a + first * w.n, w.n, <const float *>w.x, u + first, parts + i * w.n)
        else:
            K.normal_rows_f64(some, w.n, a + first * w.n, w.n, <const double *>w.x, u + first, parts + i * w.n)
    if nt > 1:
        pool.barrier_wait(&w.barrier)
    for j in range(low, high):
        y[j] = parts[j]
    for i in range(1, w.panels):
        for j in range(low, high):
            y[j] += parts[i * w.n + j]


cdef void normal_f32(void *arg, int t, int nt) noexcept nogil:
    normal_share(<normal_t *>arg, t, nt, <float *>NULL)


cdef void normal_f64(void *arg, int t, int nt) noexcept nogil:
    normal_share(<normal_t *>arg, t, nt, <double *>NULL)


cdef int normal_apply(void *context, Py_ssize_t k, const void *x, void *y) noexcept nogil:
    cdef normal_t *w = <normal_t *>context
    cdef Py_ssize_t c, itemsize = 4 if w.single else 8
    for c in range(k):
        w.x = <const char *>x + c * w.n * itemsize
        w.y = <char *>y + c * w.n * itemsize
        if w.backward == NULL:
            pool.barrier_init(&w.barrier, 1)
            pool.run(normal_f32 if w.single else normal_f64, w, pool.threads_get(),
                     reading(<double>w.m * w.n * itemsize))
        else:
            w.second = False
            if multiply(w.forward, 1, w.x, w.u):
                return 1
            w.second = True
            if multiply(w.backward, 1, w.u, w.y):
                return 1
    return 0


def normal_product(Product forward, Product backward=None):
    """A^T A of two products, or of a dense matrix (not turned) alone, which is then read once a vector."""
    cdef NormalProduct p = NormalProduct.__new__(NormalProduct)
    cdef dense_t *dense
    cdef Py_ssize_t panels = 0
    p.forward, p.backward = forward, backward
    p.rows = p.cols = forward.cols
    p.dtype = forward.dtype
    p.work.m, p.work.n, p.work.single = forward.rows, forward.cols, forward.dtype.itemsize == 4
    p.work.forward = &forward.c
    if backward is None:
        dense = &(<DenseProduct?>forward).work
        if dense.turned:
            raise ShapeError("normal_product: the matrix must be as it lies in memory.")
        p.work.a = dense.a
        panels = max(1, min(16, (forward.rows + 63) // 64))    # by shape alone, as above
        p.work.panel = max(1, (forward.rows + panels - 1) // panels)
        panels = max(1, (forward.rows + p.work.panel - 1) // p.work.panel)
    else:
        if backward.rows != forward.cols or backward.cols != forward.rows or backward.dtype != forward.dtype:
            raise ShapeError("normal_product: the second product must be that of the transpose.")
        p.work.backward = &backward.c
    p.work.panels = panels
    p.image, p.parts = np.zeros(forward.rows, p.dtype), np.zeros((panels, p.cols), p.dtype)
    p.work.u = cnp.PyArray_DATA(<cnp.ndarray>p.image)
    p.work.parts = cnp.PyArray_DATA(<cnp.ndarray>p.parts)
    p.c.apply, p.c.context = normal_apply, <void *>&p.work
    return p
