# Running a primitive on operands without a tracer: C kernels for small arrays, the host function, or another device.

from libc.string cimport memcpy

from _isa cimport require_isa

cdef extern from "elementwise/elementwise_rows.h":
    ctypedef void (*unary_f "nnm_unary_f")(Py_ssize_t, const void *, void *) noexcept nogil
    ctypedef void (*cotangent_f "nnm_cotangent_f")(
        Py_ssize_t, const void *, const void *, const void *, void *) noexcept nogil
    ctypedef void (*binary_f "nnm_binary_f")(
        Py_ssize_t, const void *, Py_ssize_t, const void *, Py_ssize_t, void *) noexcept nogil
    ctypedef struct nnm_elementwise_kernels:
        const char *isa
    const nnm_elementwise_kernels *nnm_rows_table
    const char **nnm_unary_names
    const char **nnm_binary_names
    int NNM_UNARY_COUNT, NNM_BINARY_COUNT
    unary_f nnm_unary_rows[2][64]
    cotangent_f nnm_cotangent_rows[2][64]
    binary_f nnm_binary_rows[2][64]
    unary_f nnm_sum_rows[2]
    int nnm_rows_init() noexcept
    int nnm_fp_trouble() noexcept nogil

require_isa()
nnm_rows_init()

cdef dict _kernel_rows_unary = {(<bytes>nnm_unary_names[i]).decode(): i for i in range(1, NNM_UNARY_COUNT)}
cdef dict _kernel_rows_binary = {(<bytes>nnm_binary_names[i]).decode(): i for i in range(1, NNM_BINARY_COUNT)}

cdef bint _kernels_on = True
cdef enum:
    KERNEL_MAX = 512          # elements; past that NumPy's vector loops win back what its dispatch costs
    SUM_MAX = 128             # one block of NumPy's pairwise sum


def set_small_kernels(bint on):
    """Use the C kernels on small arrays or leave all arithmetic to NumPy; returns the previous setting.

    A switch for tests and benchmarks: results differ by rounding at most.
    """
    global _kernels_on
    previous = _kernels_on
    _kernels_on = on
    return previous


def kernel_isa():
    """Instruction set of the small-array kernels."""
    return (<bytes>nnm_rows_table.isa).decode()


cdef inline bint on_host(object x):
    """Whether an operand may go to a host function as it is."""
    return cnp.PyArray_CheckExact(x) or type(x) is float or cnp.PyArray_IsAnyScalar(x)


cdef inline bint small(object x):
    """Whether a kernel may read this array: exact ndarray, float32 or float64, native, aligned, C-contiguous, short."""
    cdef int t
    if not cnp.PyArray_CheckExact(x):
        return False
    t = cnp.PyArray_TYPE(x)
    return ((t == cnp.NPY_DOUBLE or t == cnp.NPY_FLOAT) and cnp.PyArray_ISCARRAY_RO(x)
            and cnp.PyArray_NDIM(x) > 0 and cnp.PyArray_SIZE(x) <= KERNEL_MAX)


cdef inline bint same_shape(object a, object b):
    cdef int i, n = cnp.PyArray_NDIM(a)
    if n != cnp.PyArray_NDIM(b):
        return False
    for i in range(n):
        if cnp.PyArray_DIM(a, i) != cnp.PyArray_DIM(b, i):
            return False
    return True


cdef inline object empty_like(object x):
    return cnp.PyArray_EMPTY(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x), 0)


cdef inline bint scalar_value(object b, double *out):
    """Read a Python float, a small Python int or a NumPy double (not one that would promote) as a double."""
    t = type(b)
    if t is float:
        out[0] = <double>b
        return True
    if t is int and -(1 << 24) <= b <= (1 << 24):
        out[0] = <double>b
        return True
    return False


cdef inline object run1(PrimitiveBase p, object x):
    """p(x) for an elementwise primitive of one operand, x without a tracer."""
    cdef object y = compute1(p, x)
    if watched():
        _watch.ran(p, (x,), y)
    return y


cdef inline object compute1(PrimitiveBase p, object x):
    cdef object y
    cdef double v, w
    if _kernels_on and p.unary:
        if small(x):
            y = empty_like(x)
            nnm_unary_rows[cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT][p.unary](
                cnp.PyArray_SIZE(x), cnp.PyArray_DATA(x), cnp.PyArray_DATA(y))
            if not nnm_fp_trouble():
                return y
        elif type(x) is _float64:
            v = <double>x
            nnm_unary_rows[0][p.unary](1, &v, &w)
            if not nnm_fp_trouble():
                return _float64(w)
    if on_host(x):
        return p.host(x)
    return _elsewhere(p, (x,), None)


cdef inline object binary_kernel(int row, object a, object b):
    """The kernel's result, or None where it does not apply or met a floating-point exception."""
    cdef object y
    cdef double s, r, out
    cdef float sf
    cdef bint f32
    if small(a):
        f32 = cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT
        if scalar_value(b, &s) or (not f32 and type(b) is _float64 and as_double(b, &s)):
            y = empty_like(a)
            sf = <float>s
            nnm_binary_rows[f32][row](cnp.PyArray_SIZE(a), cnp.PyArray_DATA(a), 1,
                                      <void *>&sf if f32 else <void *>&s, 0, cnp.PyArray_DATA(y))
        elif cnp.PyArray_CheckExact(b) and cnp.PyArray_TYPE(b) == cnp.PyArray_TYPE(a) and same_shape(a, b) and small(b):
            y = empty_like(a)
            nnm_binary_rows[f32][row](cnp.PyArray_SIZE(a), cnp.PyArray_DATA(a), 1,
                                      cnp.PyArray_DATA(b), 1, cnp.PyArray_DATA(y))
        else:
            return None
    elif small(b):
        f32 = cnp.PyArray_TYPE(b) == cnp.NPY_FLOAT
        if scalar_value(a, &s) or (not f32 and type(a) is _float64 and as_double(a, &s)):
            y = empty_like(b)
            sf = <float>s
            nnm_binary_rows[f32][row](cnp.PyArray_SIZE(b), <void *>&sf if f32 else <void *>&s, 0,
                                      cnp.PyArray_DATA(b), 1, cnp.PyArray_DATA(y))
        else:
            return None
    elif type(a) is _float64:
        s = <double>a
        if not (scalar_value(b, &r) or (type(b) is _float64 and as_double(b, &r))):
            return None
        nnm_binary_rows[0][row](1, &s, 1, &r, 1, &out)
        return None if nnm_fp_trouble() else _float64(out)
    elif type(b) is _float64:
        r = <double>b
        if not scalar_value(a, &s):
            return None
        nnm_binary_rows[0][row](1, &s, 1, &r, 1, &out)
        return None if nnm_fp_trouble() else _float64(out)
    else:
        return None
    return None if nnm_fp_trouble() else y


cdef inline bint as_double(object x, double *out):
    out[0] = <double>x
    return True


cdef inline object run2(PrimitiveBase p, object a, object b):
    """p(a, b) for an elementwise primitive of two operands, neither a tracer."""
    cdef object y = compute2(p, a, b)
    if watched():
        _watch.ran(p, (a, b), y)
    return y


cdef inline object compute2(PrimitiveBase p, object a, object b):
    if _kernels_on and p.binary:
        y = binary_kernel(p.binary, a, b)
        if y is not None:
            return y
    if on_host(a) and on_host(b):
        return p.host(a, b)
    return _elsewhere(p, (a, b), None)


cdef inline object run(PrimitiveBase p, tuple xs, dict kw):
    """p(*xs, **kw), no operand a tracer."""
    if p.elementwise and kw is None:       # the same bits as on a tracer
        if PyTuple_GET_SIZE(xs) == 1:
            return run1(p, xs[0])
        if PyTuple_GET_SIZE(xs) == 2:
            return run2(p, xs[0], xs[1])
    cdef object y = compute(p, xs, kw)
    if watched():
        _watch.ran(p, xs, y)
    return y


cdef inline object compute(PrimitiveBase p, tuple xs, dict kw):
    for x in xs:
        if not on_host(x):
            return _elsewhere(p, xs, kw)
    return p.host(*xs, **kw) if kw is not None else p.host(*xs)


cdef enum:
    REUSE_MAX = 64            # elements that fit a copy on the stack


cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(object)


cdef inline bint nobody_else_has(object g):
    """Whether the caller's reference is the only one: its memory may take the result.

    An allocation costs more than the arithmetic on a few dozen elements. A view of g would hold a reference to it.
    """
    return (Py_REFCNT(g) == 1 and cnp.PyArray_SIZE(g) <= REUSE_MAX and cnp.PyArray_ISWRITEABLE(g)
            and cnp.PyArray_CHKFLAGS(g, cnp.NPY_ARRAY_OWNDATA))


cdef inline object unary_cotangent(PrimitiveBase p, object g, object x, object y, bint spend):
    """The fused cotangent kernel of a unary primitive, or None where it does not apply.

    With `spend` the caller gives g away: the result may be written into it.
    """
    cdef object o
    cdef const void *px = NULL
    cdef const void *py = NULL
    cdef const void *pg
    cdef double saved[REUSE_MAX]
    cdef Py_ssize_t bytes_
    cdef bint f32
    if not small(g):
        return None
    f32 = cnp.PyArray_TYPE(g) == cnp.NPY_FLOAT
    if x is not None:
        if not (small(x) and same_shape(g, x) and cnp.PyArray_TYPE(x) == cnp.PyArray_TYPE(g)):
            return None
        px = cnp.PyArray_DATA(x)
    if y is not None:
        if not (small(y) and same_shape(g, y) and cnp.PyArray_TYPE(y) == cnp.PyArray_TYPE(g)):
            return None
        py = cnp.PyArray_DATA(y)
    if spend and nobody_else_has(g):
        bytes_ = cnp.PyArray_NBYTES(g)
        memcpy(saved, cnp.PyArray_DATA(g), bytes_)
        nnm_cotangent_rows[f32][p.unary](cnp.PyArray_SIZE(g), saved, px, py, cnp.PyArray_DATA(g))
        if nnm_fp_trouble():
            memcpy(cnp.PyArray_DATA(g), saved, bytes_)
            return None
        return g
    o = empty_like(g)
    nnm_cotangent_rows[f32][p.unary](cnp.PyArray_SIZE(g), cnp.PyArray_DATA(g), px, py, cnp.PyArray_DATA(o))
    return None if nnm_fp_trouble() else o


cdef inline object scaled_cotangent(int row, object g, object b, bint spend):
    """g * b or g / b by a kernel, or None where it does not apply; with `spend` the result may be written into g."""
    cdef double saved[REUSE_MAX]
    cdef Py_ssize_t bytes_
    cdef bint f32
    if not (spend and small(g) and cnp.PyArray_CheckExact(b) and cnp.PyArray_TYPE(b) == cnp.PyArray_TYPE(g)
            and same_shape(g, b) and small(b) and nobody_else_has(g)):
        return binary_kernel(row, g, b)
    f32 = cnp.PyArray_TYPE(g) == cnp.NPY_FLOAT
    bytes_ = cnp.PyArray_NBYTES(g)
    memcpy(saved, cnp.PyArray_DATA(g), bytes_)
    nnm_binary_rows[f32][row](cnp.PyArray_SIZE(g), saved, 1, cnp.PyArray_DATA(b), 1, cnp.PyArray_DATA(g))
    if nnm_fp_trouble():
        memcpy(cnp.PyArray_DATA(g), saved, bytes_)
        return None
    return g


cdef inline object full_sum(object v):
    """np.add.reduce over all axes of a host array; one block of the pairwise sum in C."""
    cdef double d
    cdef float f
    if _kernels_on and small(v) and cnp.PyArray_SIZE(v) <= SUM_MAX:
        if cnp.PyArray_TYPE(v) == cnp.NPY_DOUBLE:
            nnm_sum_rows[0](cnp.PyArray_SIZE(v), cnp.PyArray_DATA(v), &d)
            if not nnm_fp_trouble():
                return _float64(d)
        else:
            nnm_sum_rows[1](cnp.PyArray_SIZE(v), cnp.PyArray_DATA(v), &f)
            if not nnm_fp_trouble():
                return _float32(f)
    return _add_reduce(v, None)

cdef object _add_reduce = np.add.reduce


cdef inline object filled(object v, object g):
    """An array of v's shape and g's value (the cotangent of a full sum), or None where it does not apply.

    A large one is a read-only view of one number, as of np.broadcast_to, which would cost more than the whole rest of
    a small gradient.
    """
    cdef object o
    cdef tuple shape
    cdef cnp.npy_intp dims[32]
    cdef cnp.npy_intp strides[32]
    cdef Py_ssize_t i, n = 1
    cdef int k
    cdef bint f32
    if cnp.PyArray_CheckExact(g) and cnp.PyArray_NDIM(g) == 0:
        g = g[()]
    if type(g) is _float64:
        f32 = False
    elif type(g) is _float32:
        f32 = True
    else:
        return None
    shape = (<Aval>v).shape
    k = <int>PyTuple_GET_SIZE(shape)
    if k > 32:
        return None
    for i in range(k):
        dims[i] = shape[i]
        strides[i] = 0
        n *= dims[i]
    if n > KERNEL_MAX:
        v = np.asarray(g)
        o = cnp.PyArray_New(np.ndarray, k, dims, cnp.PyArray_TYPE(v), strides, cnp.PyArray_DATA(v), 0, 0, None)
        cnp.set_array_base(o, v)
        return o
    o = cnp.PyArray_EMPTY(k, dims, cnp.NPY_FLOAT if f32 else cnp.NPY_DOUBLE, 0)
    if f32:
        for i in range(n):
            (<float *>cnp.PyArray_DATA(o))[i] = <float>g
    else:
        for i in range(n):
            (<double *>cnp.PyArray_DATA(o))[i] = <double>g
    return o
