# What the core knows of a primitive, and the functions that the Python side hands in.

@cython.freelist(32)
cdef class Aval:
    """Shape and dtype: what is left of an operand that no rule reads. Any other attribute is an error.

    A rule that reads an operand missing from its ``keeps`` meets an `Aval` (or None) and fails its registry test.
    """
    cdef readonly tuple shape
    cdef readonly object dtype

    def __init__(self, shape, dtype):
        self.shape = tuple(shape)
        self.dtype = dtype

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def size(self):
        n = 1
        for s in self.shape:
            n *= s
        return n

    def __repr__(self):
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


cdef enum:
    KEEP_OUTPUT = 1 << 15
    KEEP_ALL = (1 << 15) - 1
    MAX_RULES = 8


cdef class PrimitiveBase:
    """The part of a declaration that compiled code reads; `nnmath_core.autodiff.Primitive` is the public class."""
    cdef readonly str name
    cdef readonly object host             # forward on NumPy arrays
    cdef readonly bint elementwise, linear, multilinear, differentiable, variadic, view, joint, several
    cdef readonly object selects, through, shape_rule, batch_rule
    cdef readonly object accumulate       # of a selection: adds a cotangent into the operand's, in place
    cdef readonly object shield           # hides from the rules what only structural zeros were made of
    cdef readonly object inline           # of control flow: runs an equation on tracers, by what is known of them
    cdef readonly object adapt            # of outputs that are not unique: the choice that a tangent asks for
    cdef readonly tuple vjp, jvp
    cdef readonly tuple differentiable_outputs   # of several outputs; None: all of them
    cdef unsigned int keep[MAX_RULES]
    cdef readonly int unary, binary       # rows of the kernel tables, 0: none

    def __init__(self, name, *, host, elementwise, linear, multilinear, differentiable, variadic, view, selects,
                 through, shape, batch, vjp, jvp, keeps, joint=False, several=False, differentiable_outputs=None,
                 accumulate=None, shield=None, inline=None, adapt=None):
        cdef int i
        cdef unsigned int mask
        self.name, self.host = name, host
        self.elementwise, self.linear, self.multilinear = elementwise, linear, multilinear
        self.differentiable, self.variadic, self.view = differentiable, variadic, view
        self.joint, self.several, self.accumulate, self.shield = joint, several, accumulate, shield
        self.inline, self.adapt = inline, adapt
        self.selects, self.through, self.shape_rule, self.batch_rule = selects, through, shape, batch
        self.vjp, self.jvp, self.differentiable_outputs = tuple(vjp), tuple(jvp), differentiable_outputs
        for i in range(MAX_RULES):
            mask = 0
            for c in keeps[min(i, len(keeps) - 1)] if keeps else "":
                if c == "y":
                    mask |= KEEP_OUTPUT
                elif c == "*":
                    mask |= KEEP_ALL
                else:
                    mask |= 1 << int(c)
            self.keep[i] = mask
        self.unary = _kernel_rows_unary.get(name, 0) if elementwise else 0
        self.binary = _kernel_rows_binary.get(name, 0) if elementwise else 0

    def __call__(self, *operands, **params):
        if params and self.elementwise:
            return _operators["elementwise_call"](self, operands, params)
        return bind(self, operands, params if params else None)

    def __repr__(self):
        return self.name

    def __reduce__(self):
        raise TypeError(f"the primitive {self.name} cannot be pickled or copied")


cdef inline unsigned int keep_of(PrimitiveBase p, Py_ssize_t i) noexcept:
    return p.keep[i if i < MAX_RULES else MAX_RULES - 1]


# Handed in once by `nnmath_core.autodiff` (imports go down only: this module knows no primitive and no backend).
cdef PrimitiveBase P_ADD = None, P_SUB = None, P_MUL = None, P_DIV = None, P_NEG = None, P_SUM = None, P_SQUARE = None
cdef PrimitiveBase P_CONTRACT = None
cdef object _elsewhere = None        # (p, xs, kw) -> result, for operands that are not NumPy's (CuPy) or are mixed
cdef object _admit = None            # operand of an unknown type -> array, or an error
cdef object _cast = None             # (x, dtype) -> x as dtype; complex to real takes the real part
cdef object _sum_to = None           # (x, shape) -> x summed over the axes that broadcasting from shape added
cdef object _broadcast_to = None
cdef object _zeros = None            # (like, shape, dtype) -> zeros on the device of `like`
cdef object _mask_where = None       # (mask, x) -> x where mask, else exactly 0
cdef object _mask_and = None
cdef object _mask_or = None
cdef object _mask_to = None          # (mask, shape) -> any() over the axes that broadcasting from shape added
cdef object _mask_broadcast = None
cdef object _transposed_jvp = None   # (p, i, g, xs, y, params) -> cotangent from the jvp rule
cdef object _transposed_vjp = None   # (p, i, t, xs, y, params) -> tangent from the vjp rule
cdef object _align = None            # (x, ndim) -> x (batch first) with ones after axis 0 up to ndim + 1 axes
cdef object _move_axis = None
cdef object _expand_batch = None     # (x, size) -> x repeated along a new axis 0
cdef object _elementwise_aval = None  # (p, avals, params) -> Aval
cdef object _namespace = None        # api_version -> the module behind __array_namespace__
cdef object _explain = None          # (what) -> text of a conversion error with the user's line
cdef object _device_scope = None     # leaves -> context manager that enters their device, or None on the host
cdef dict _operators = {}            # name -> Python function, for operators without a C path
cdef dict _ufuncs = {}               # ufunc -> primitive or function
cdef dict _ufunc_primitives = {}     # those of _ufuncs that are primitives
cdef dict _ufunc_methods = {}        # (ufunc, "reduce" | "accumulate" | "outer") -> function
cdef dict _functions = {}            # NumPy function (NEP 18) -> function


def install(**hooks):
    """Hand the core its primitives and helpers, by the names above without the leading mark. Called once, at import."""
    global P_ADD, P_SUB, P_MUL, P_DIV, P_NEG, P_SUM, P_SQUARE, P_CONTRACT
    global _elsewhere, _admit, _cast, _sum_to, _broadcast_to, _zeros
    global _mask_where, _mask_and, _mask_or, _mask_to, _mask_broadcast, _transposed_jvp, _transposed_vjp
    global _align, _move_axis, _expand_batch, _elementwise_aval, _namespace, _explain, _device_scope
    for name, f in hooks.items():
        if name == "add": P_ADD = f
        elif name == "subtract": P_SUB = f
        elif name == "multiply": P_MUL = f
        elif name == "divide": P_DIV = f
        elif name == "negative": P_NEG = f
        elif name == "sum": P_SUM = f
        elif name == "square": P_SQUARE = f
        elif name == "contract": P_CONTRACT = f
        elif name == "elsewhere": _elsewhere = f
        elif name == "admit": _admit = f
        elif name == "cast": _cast = f
        elif name == "sum_to": _sum_to = f
        elif name == "broadcast_to": _broadcast_to = f
        elif name == "zeros": _zeros = f
        elif name == "mask_where": _mask_where = f
        elif name == "mask_and": _mask_and = f
        elif name == "mask_or": _mask_or = f
        elif name == "mask_to": _mask_to = f
        elif name == "mask_broadcast": _mask_broadcast = f
        elif name == "transposed_jvp": _transposed_jvp = f
        elif name == "transposed_vjp": _transposed_vjp = f
        elif name == "align": _align = f
        elif name == "move_axis": _move_axis = f
        elif name == "expand_batch": _expand_batch = f
        elif name == "elementwise_aval": _elementwise_aval = f
        elif name == "namespace": _namespace = f
        elif name == "explain": _explain = f
        elif name == "device_scope": _device_scope = f
        elif name == "operators": _operators.update(f)
        elif name == "ufuncs":
            _ufuncs.update(f)
            _ufunc_primitives.update({u: p for u, p in f.items() if isinstance(p, PrimitiveBase)})
        elif name == "ufunc_methods": _ufunc_methods.update(f)
        elif name == "functions": _functions.update(f)
        else: raise TypeError(f"install: no hook named {name}")


def dispatch_tables():
    """The NumPy functions that trace, for the documentation: (ufuncs, ufunc methods, functions), read-only."""
    return MappingProxyType(_ufuncs), MappingProxyType(_ufunc_methods), MappingProxyType(_functions)


cpdef tuple shape_of(x):
    """Shape of an array, a tracer or a scalar."""
    if cnp.PyArray_CheckExact(x):
        return (<object>x).shape
    if isinstance(x, Tracer):
        return (<Tracer>x).get_shape()
    if isinstance(x, (float, int, complex)):
        return ()
    return tuple(x.shape) if hasattr(x, "shape") else np.shape(x)


cpdef dtype_of(x):
    """dtype of an array or tracer; of a Python scalar, the dtype NumPy would give its array."""
    if cnp.PyArray_CheckExact(x):
        return <object>cnp.PyArray_DESCR(x)
    if isinstance(x, Tracer):
        return (<Tracer>x).get_dtype()
    return x.dtype if hasattr(x, "dtype") else np.result_type(type(x))


cpdef Aval aval_of(x):
    """Shape and dtype of a value."""
    cdef Aval a = Aval.__new__(Aval)
    a.shape, a.dtype = shape_of(x), dtype_of(x)
    return a


cdef inline int typenum(object y):
    """NumPy's type number of a value's dtype."""
    if cnp.PyArray_CheckExact(y):
        return cnp.PyArray_TYPE(y)
    t = type(y)
    if t is _float64 or t is float:
        return cnp.NPY_DOUBLE
    if t is _float32:
        return cnp.NPY_FLOAT
    return dtype_of(y).num


cdef inline bint is_inexact(int t) noexcept:
    """Whether a type number is floating or complex: only those carry derivatives."""
    return cnp.NPY_FLOAT <= t <= cnp.NPY_CLONGDOUBLE or t == cnp.NPY_FLOAT16


cdef object _float64 = np.float64
cdef object _float32 = np.float32
