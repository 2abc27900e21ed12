# Trace and Tracer: identity, operators, NumPy's protocols, and what a tracer refuses.

cdef object _absent = object()           # an argument that was not given
cdef object _numpy_sum = np.sum
cdef object _partial = functools.partial

cdef enum:
    FLAG_ARGUMENT = 1         # the value is the caller's own array
    FLAG_VIEW = 2             # the value may share memory with another traced array
    FLAG_VIEWED = 4           # another traced array may share memory with the value


cdef class Trace:
    """One running transformation."""
    cdef readonly long long id
    cdef public bint alive
    cdef readonly str kind

    def __cinit__(self):
        self.id = next_id()
        self.alive = True
        self.kind = "trace"

    cdef object process(self, PrimitiveBase p, tuple xs, dict kw):
        raise NotImplementedError("abstract")

    cdef object truth(self, Tracer x):
        """The value behind `bool(x)`, or an error where there is none."""
        return x.value


@cython.freelist(256)
cdef class Tracer:
    """A traced array: answers to operators, to NumPy's functions and methods, and to ``nnmath_core.numpy``.

    It is made by the transformations and means something only while the transformation that made it runs.
    """
    cdef Trace trace
    cdef object value         # a plain value, or a tracer of an older trace; for staging a Var
    cdef object slot          # GradTracer: Node; JvpTracer: tangent; JetTracer: series. In one slot, for one freelist
    cdef int flags

    __array_priority__ = 1000
    __pandas_priority__ = 5000            # above a DataFrame's: pandas then leaves the operator to the tracer
    __hash__ = None

    cdef tuple get_shape(self):
        return shape_of(self.value)

    cdef object get_dtype(self):
        return dtype_of(self.value)

    @property
    def shape(self):
        return self.get_shape()

    @property
    def dtype(self):
        return self.get_dtype()

    @property
    def ndim(self):
        return len(self.get_shape())

    @property
    def size(self):
        n = 1
        for s in self.get_shape():
            n *= s
        return n

    @property
    def itemsize(self):
        return self.get_dtype().itemsize

    @property
    def nbytes(self):
        return self.size * self.get_dtype().itemsize

    # ------------------------------------------------------------------ NumPy's protocols
    # NumPy calls these two by their descriptors, hence no binding: a bound function takes the arguments apart twice.
    # The operands and keywords of a ufunc are spelt out because a tuple and a dict of them cost as much as the call.
    @cython.binding(False)
    def __array_ufunc__(self, ufunc, method, a=_absent, b=_absent, *more, out=_absent, where=_absent, axis=_absent,
                        axes=_absent, keepdims=_absent, initial=_absent, dtype=_absent, signature=_absent,
                        casting=_absent, order=_absent, subok=_absent):
        cdef tuple xs
        cdef dict kw
        cdef bint plain = (out is _absent and where is _absent and axis is _absent and axes is _absent
                           and keepdims is _absent and initial is _absent and dtype is _absent
                           and signature is _absent and casting is _absent and order is _absent and subok is _absent)
        if plain and method == "__call__":
            f = _ufunc_primitives.get(ufunc)
            if f is not None and PyTuple_GET_SIZE(more) == 0:
                if b is _absent:
                    return bind1(<PrimitiveBase>f, a)
                return bind2(<PrimitiveBase>f, a, b)
        xs = () if a is _absent else (a,) if b is _absent else (a, b) + more
        kw = {} if plain else {name: v for name, v in (
            ("out", out), ("where", where), ("axis", axis), ("axes", axes), ("keepdims", keepdims),
            ("initial", initial), ("dtype", dtype), ("signature", signature), ("casting", casting), ("order", order),
            ("subok", subok)) if v is not _absent}
        if method != "__call__":
            return _operators["ufunc_method"](ufunc, method, xs, kw)
        f = _ufuncs.get(ufunc)
        if f is None:
            return _operators["unknown_ufunc"](ufunc, xs, kw)
        if kw:
            return _operators["ufunc_call"](ufunc, f, xs, kw)
        return bind(<PrimitiveBase>f, xs, None) if isinstance(f, PrimitiveBase) else f(*xs)

    @cython.binding(False)
    def __array_function__(self, func, types, args, kw):
        f = _functions.get(func)
        if f is None:
            return _operators["unknown_function"](func, args)
        if not kw and PyTuple_GET_SIZE(args) == 1:
            if func is _numpy_sum and is_tracer(args[0]):
                y = sum_all(<Tracer>args[0])
                if y is not None:
                    return y
            return f(args[0])
        return f(*args, **kw)

    def __array_namespace__(self, *, api_version=None):
        return _namespace(api_version)

    def __cupy_override_elementwise_kernel__(self, kernel, *args):
        return _operators["cupy_kernel"](kernel, args)

    def __array__(self, dtype=None, copy=None):
        no_conversion("array", self)

    def __float__(self):
        no_conversion("float", self)

    def __int__(self):
        no_conversion("int", self)

    def __complex__(self):
        no_conversion("complex", self)

    def __index__(self):
        no_conversion("index", self)

    def __bool__(self):
        if not self.trace.alive:
            dead("bool", self.trace)
        return bool(self.trace.truth(self))

    def __reduce_ex__(self, protocol):
        raise TraceError("copy or pickle: a tracer cannot be copied or pickled; its graph belongs to a running "
                         "transformation. For the number use nm.value_of(x); for a fresh traced array write x * 1.0.")

    def __setitem__(self, index, value):
        raise TraceError("x[i] = v: a traced array cannot be written into. Write x = nm.at(x)[i].set(v) "
                         "(or .add, .multiply), which returns the changed array.")

    def __len__(self):
        s = self.get_shape()
        if not s:
            raise TypeError("len() of unsized object")
        return s[0]

    def __iter__(self):
        s = self.get_shape()
        if not s:
            raise TypeError("iteration over a 0-d array")
        return map(_partial(_operators["getitem"], self), range(s[0]))

    def __getitem__(self, index):
        return _operators["getitem"](self, index)

    def __repr__(self):
        return f"Tracer({self.describe()}, {self.trace.kind})"

    def __str__(self):
        return self.describe(str)

    def __format__(self, spec):
        v = value_of(self)
        if isinstance(v, (Tracer, Var)):
            return self.describe(str)
        if spec and not self.get_shape() and shape_of(v):     # under vmap: a number of each example
            return formatted(v.tolist(), spec)
        return format(v, spec)

    def describe(self, how=repr):
        v = value_of(self)
        return how(v) if not isinstance(v, (Tracer, Var)) else f"{self.dtype}[{','.join(map(str, self.shape))}]"

    # ------------------------------------------------------------------ operators
    def __add__(self, o): return bind2(P_ADD, self, o)
    def __radd__(self, o): return bind2(P_ADD, o, self)
    def __sub__(self, o): return bind2(P_SUB, self, o)
    def __rsub__(self, o): return bind2(P_SUB, o, self)
    def __mul__(self, o): return bind2(P_MUL, self, o)
    def __rmul__(self, o): return bind2(P_MUL, o, self)
    def __truediv__(self, o): return bind2(P_DIV, self, o)
    def __rtruediv__(self, o): return bind2(P_DIV, o, self)
    def __neg__(self): return bind1(P_NEG, self)
    def __pos__(self): return _operators["pos"](self)
    def __abs__(self): return _operators["abs"](self)
    def __invert__(self): return _operators["invert"](self)
    def __round__(self, n=None): return _operators["round"](self, 0 if n is None else n)

    def __pow__(self, o, modulo):
        if modulo is not None:
            raise TypeError("pow(x, y, m): a modulus is not supported for arrays")
        if type(o) is int and o == 2:
            return bind1(P_SQUARE, self)
        return _operators["pow"](self, o)

    def __rpow__(self, o, modulo): return _operators["pow"](o, self)
    def __mod__(self, o): return _operators["mod"](self, o)
    def __rmod__(self, o): return _operators["mod"](o, self)
    def __floordiv__(self, o): return _operators["floordiv"](self, o)
    def __rfloordiv__(self, o): return _operators["floordiv"](o, self)
    def __divmod__(self, o): return _operators["floordiv"](self, o), _operators["mod"](self, o)
    def __rdivmod__(self, o): return _operators["floordiv"](o, self), _operators["mod"](o, self)
    def __matmul__(self, o): return matmul(self, o)
    def __rmatmul__(self, o): return matmul(o, self)
    def __and__(self, o): return _operators["and"](self, o)
    def __rand__(self, o): return _operators["and"](o, self)
    def __or__(self, o): return _operators["or"](self, o)
    def __ror__(self, o): return _operators["or"](o, self)
    def __xor__(self, o): return _operators["xor"](self, o)
    def __rxor__(self, o): return _operators["xor"](o, self)
    def __lshift__(self, o): return _operators["lshift"](self, o)
    def __rlshift__(self, o): return _operators["lshift"](o, self)
    def __rshift__(self, o): return _operators["rshift"](self, o)
    def __rrshift__(self, o): return _operators["rshift"](o, self)
    def __lt__(self, o): return _operators["lt"](self, o)
    def __le__(self, o): return _operators["le"](self, o)
    def __gt__(self, o): return _operators["gt"](self, o)
    def __ge__(self, o): return _operators["ge"](self, o)
    def __eq__(self, o): return _operators["eq"](self, o) if o is not None else NotImplemented
    def __ne__(self, o): return _operators["ne"](self, o) if o is not None else NotImplemented

    def __iadd__(self, o): return in_place(self, bind2(P_ADD, self, o), "+")
    def __isub__(self, o): return in_place(self, bind2(P_SUB, self, o), "-")
    def __imul__(self, o): return in_place(self, bind2(P_MUL, self, o), "*")
    def __itruediv__(self, o): return in_place(self, bind2(P_DIV, self, o), "/")
    def __ipow__(self, o): return in_place(self, self ** o, "**")
    def __imod__(self, o): return in_place(self, self % o, "%")
    def __ifloordiv__(self, o): return in_place(self, self // o, "//")
    def __imatmul__(self, o): return in_place(self, self @ o, "@")
    def __iand__(self, o): return in_place(self, self & o, "&")
    def __ior__(self, o): return in_place(self, self | o, "|")
    def __ixor__(self, o): return in_place(self, self ^ o, "^")


cdef int no_conversion(str what, Tracer x) except -1:
    """Refuse to become what Python or NumPy asks for, with the user's line and what to write instead."""
    if not x.trace.alive:
        dead(f"conversion of a traced value to {what}", x.trace)
    raise TraceError(_explain(what, x))


cdef str formatted(object x, str spec):
    return "[" + " ".join([formatted(v, spec) for v in x]) + "]" if type(x) is list else format(x, spec)


cdef dict _matrix_product = {"spec": ("ij", "jk", "ik")}


cdef object matmul(object a, object b):
    """a @ b; the product of two matrices takes a short way."""
    cdef tuple sa, sb
    if (cnp.PyArray_CheckExact(a) or is_tracer(a)) and (cnp.PyArray_CheckExact(b) or is_tracer(b)):
        sa, sb = shape_of(a), shape_of(b)
        if PyTuple_GET_SIZE(sa) == 2 and PyTuple_GET_SIZE(sb) == 2 and sa[1] == sb[0]:
            return bind(P_CONTRACT, (a, b), _matrix_product)
    return _operators["matmul"](a, b)


def traced_matmul(a, b, /):
    """NumPy's ``matmul``."""
    return matmul(a, b)


cdef object in_place(Tracer x, object r, str op):
    """x op= y with NumPy's own meaning: every name bound to x sees the new value, or an error says what to write.

    A tracer is a cell, so replacing its content is what NumPy does to an array that shares no memory. The caller's
    array, a view and an array that has views are refused: there the functional form says what is meant.
    """
    cdef Tracer t
    scalar = not x.get_shape()
    if scalar and not (x.flags & FLAG_ARGUMENT and cnp.PyArray_CheckExact(value_of(x))):
        return r                                  # NumPy scalars are immutable: Python rebinds the name
    if x.flags:
        what = ("the caller's array" if x.flags & FLAG_ARGUMENT else
                "a view of another traced array" if x.flags & FLAG_VIEW else "a traced array that has views")
        raise TraceError(f"x {op}= y: this writes into {what}. Write x = x {op} y, or for a part of an array "
                         f"x = nm.at(x)[i].set(...), .add(...) or .multiply(...).")
    if shape_of(r) != x.get_shape():
        raise ShapeError(f"x {op}= y: the result of shape {shape_of(r)} does not fit `x` of shape {x.get_shape()}. "
                         f"Write x = x {op} y.")
    if dtype_of(r) != x.get_dtype():
        if not np.can_cast(dtype_of(r), x.get_dtype(), "same_kind"):
            raise DtypeError(f"x {op}= y: the result of dtype {dtype_of(r)} cannot be stored in `x` of dtype "
                             f"{x.get_dtype()}. Write x = x {op} y.")
        r = _cast(r, x.get_dtype())
    if isinstance(r, Tracer) and (<Tracer>r).trace.id > x.trace.id:
        raise TraceError(f"x {op}= y: `y` belongs to an inner transformation and `x` to an outer one. "
                         f"Write x = x {op} y.")
    t = <Tracer>r if isinstance(r, Tracer) and (<Tracer>r).trace is x.trace else constant_in(x.trace, r)
    x.value, x.slot = t.value, t.slot
    return x


cdef PrimitiveBase _constant = PrimitiveBase(
    "constant", host=None, elementwise=False, linear=True, multilinear=False, differentiable=True, variadic=False,
    view=False, selects=None, through=None, shape=None, batch=None, vjp=(), jvp=(), keeps=("",))


cdef Tracer constant_in(Trace tr, object value):
    """A value without derivative (the result of `//`) as what a tracer of a differentiation may become."""
    cdef Node n
    if type(tr) is GradTrace:
        n = Node.__new__(Node)
        n.p, n.seq, n.tn, n.parents, n.xs = _constant, next_id(), typenum(value), (), ()
        return new_grad_tracer(<GradTrace>tr, value, n, 0)
    if type(tr) is JvpTrace:
        return new_jvp_tracer(<JvpTrace>tr, value, _zeros(value, shape_of(value), dtype_of(value)), 0)
    if type(tr) is JetTrace:
        return jet_tracer(<JetTrace>tr, value, (<JetTrace>tr).series.given([None]))
    raise TraceError(f"{tr.kind}: an operator in place gave a plain value. Write x = x + y instead of x += y.")


cpdef value_of(x):
    """The innermost value of a tracer; what is not a tracer, or has no value yet while staging, as it is.

    Under vmap it is the value of the whole batch. The public function, which refuses that, is in `transforms`.
    """
    while isinstance(x, Tracer) and not isinstance(x, StageTracer):
        x = (<Tracer>x).value
    return x


cdef int refuse_closure(PrimitiveBase p, Trace tr, object ys) except -1:
    """What a trace wraps belongs to older traces. A rule's result that does not came in through a closure."""
    for y in ys:
        if is_tracer(y) and (<Tracer>y).trace.id >= tr.id:
            raise TraceError(f"{p.name}: the function or its rule closes over a traced value, whose derivative would "
                             "be lost. Pass it as an argument.")
    return 0


cdef int dead(object who, Trace t) except -1:
    raise TraceError(f"{who}: a leaked tracer. An operand was made inside a `{t.kind}` that has ended; return it from "
                     "the function (has_aux=True for extra outputs), or take its number inside with nm.value_of(x).")


cdef inline bint is_tracer(object x):
    """isinstance(x, Tracer) by five comparisons of pointers: there are no other tracers."""
    t = type(x)
    return t is GradTracer or t is JvpTracer or t is BatchTracer or t is StageTracer or t is JetTracer


cdef inline object admit(object x):
    """An operand as it may enter a primitive: arrays and scalars as they are, anything else converted or refused.

    NotImplemented for a matrix with structure (sparse, of low rank), for which a function in Python speaks.
    """
    if cnp.PyArray_CheckExact(x) or is_tracer(x) or cnp.PyArray_IsAnyScalar(x):
        return x
    return _admit(x)


cdef object bind(PrimitiveBase p, tuple xs, dict kw):
    """Run a primitive: the newest trace among the operands processes it; without a tracer it just runs."""
    cdef Trace top = None
    cdef Trace t
    cdef bint strange = False
    for x in xs:
        if is_tracer(x):
            t = (<Tracer>x).trace
            if top is None or t.id > top.id:
                top = t
        elif not on_host(x):
            strange = True
    if strange:
        try:
            ys = tuple([admit(x) for x in xs])
        except TraceError:
            if top is not None or kw is not None or not p.elementwise:
                raise
            y = _operators["unadmitted"](p, xs)
            if y is NotImplemented:
                raise
            return y
        for y in ys:
            if y is NotImplemented:
                return _operators["structured"](p, xs, kw)
        xs = ys
    if top is None:
        if p.elementwise and kw is None:
            if PyTuple_GET_SIZE(xs) == 1:
                return run1(p, <object>PyTuple_GET_ITEM(xs, 0))
            if PyTuple_GET_SIZE(xs) == 2:
                return run2(p, <object>PyTuple_GET_ITEM(xs, 0), <object>PyTuple_GET_ITEM(xs, 1))
        return run(p, xs, kw)
    if open_branches():
        top = enclosing(top)
    if not top.alive:
        dead(p.name, top)
    return top.process(p, xs, kw)


cdef inline object bind1(PrimitiveBase p, object x):
    """`bind` of an elementwise primitive of one operand."""
    cdef Trace t
    if not is_tracer(x):
        y = admit(x)
        return _operators["structured"](p, (x,), None) if y is NotImplemented else run1(p, y)
    t = (<Tracer>x).trace
    if open_branches():
        t = enclosing(t)
    if not t.alive:
        dead(p.name, t)
    if type(t) is GradTrace:
        return record1(<GradTrace>t, p, <Tracer>x)
    if type(t) is JvpTrace:
        return jvp1(<JvpTrace>t, p, <Tracer>x)
    return t.process(p, (x,), None)


cdef inline object bind2(PrimitiveBase p, object a, object b):
    """`bind` of an elementwise primitive of two operands."""
    cdef Trace t = None
    cdef Trace u
    if is_tracer(a):
        t = (<Tracer>a).trace
    if is_tracer(b):
        u = (<Tracer>b).trace
        if t is None or u.id > t.id:
            t = u
    if not (on_host(a) or is_tracer(a)):
        x = _admit(a)
        if x is NotImplemented:
            return _operators["structured"](p, (a, b), None)
        a = x
    if not (on_host(b) or is_tracer(b)):
        x = _admit(b)
        if x is NotImplemented:
            return _operators["structured"](p, (a, b), None)
        b = x
    if t is None:
        return run2(p, a, b)
    if open_branches():
        t = enclosing(t)
    if not t.alive:
        dead(p.name, t)
    if type(t) is GradTrace:
        return record2(<GradTrace>t, p, a, b)
    if type(t) is JvpTrace:
        return jvp2(<JvpTrace>t, p, a, b)
    return t.process(p, (a, b), None)


def install_method(str name, attribute):
    """Give all tracers a method or property written in Python (NumPy's ndarray has some fifty)."""
    cdef PyTypeObject *t = <PyTypeObject *>Tracer
    (<dict>t.tp_dict)[name] = attribute
    PyType_Modified(t)


cdef extern from "Python.h":
    void PyType_Modified(PyTypeObject *)
    ctypedef struct PySequenceMethods:
        void *sq_item
        void *sq_ass_item
    ctypedef struct TypeWithSequence "PyTypeObject":
        PySequenceMethods *tp_as_sequence
        PyObject *tp_dict


cdef int hide_sequence(object cls) except -1:
    """Clear sq_item: NumPy then asks __array__ and __float__ of a tracer, whose errors say what to write instead.

    With sq_item set, `a[0] = t` ends in "setting an array element with a sequence" and the remedy is lost. Indexing,
    iteration and len go through other slots.
    """
    cdef TypeWithSequence *t = <TypeWithSequence *>cls
    if t.tp_as_sequence is not NULL:
        t.tp_as_sequence.sq_item = NULL
        t.tp_as_sequence.sq_ass_item = NULL
    return 0
