# Staging: operations with a traced operand become equations; all others run once, now.

@cython.final
cdef class Var:
    """A variable of a recorded computation: its shape, its dtype and its number.

    A weak one stands for a Python number, which takes the dtype of the arrays that it meets.
    """
    cdef readonly tuple shape
    cdef readonly object dtype
    cdef readonly Py_ssize_t number
    cdef readonly bint weak

    @property
    def ndim(self):
        return len(self.shape)

    def __repr__(self):
        return f"v{self.number}:{self.dtype}[{','.join(map(str, self.shape))}]"


def variable(tuple shape, object dtype, Py_ssize_t number, bint weak=False):
    """Make a variable that no recording has; for those who rewrite programs."""
    cdef Var v = Var.__new__(Var)
    v.shape, v.dtype, v.number, v.weak = shape, dtype, number, weak
    return v


@cython.final
cdef class Recording:
    """Equations ``(primitive, operands, outputs, params)`` in order, input variables and captured arrays.

    An operand is a `Var` or a scalar. Captured arrays are copies and read-only: what the user does to the originals
    later does not change what was recorded. With `by_reference`, for what runs at once, they are the originals.
    """
    cdef readonly list equations, inputs
    cdef readonly dict constants          # Var -> array
    cdef readonly dict lines              # while somebody watches: index of an equation -> the user's line
    cdef dict captured                    # id(array) -> (Var, array); the array is kept so that its id stays its own
    cdef Py_ssize_t count
    cdef bint by_reference

    def __cinit__(self):
        self.equations, self.inputs, self.constants, self.captured, self.count = [], [], {}, {}, 0
        self.lines = {}
        self.by_reference = False

    cdef Var new(self, tuple shape, object dtype):
        cdef Var v = Var.__new__(Var)
        v.shape, v.dtype, v.number, v.weak = shape, dtype, self.count, False
        self.count += 1
        return v

    cdef object capture(self, object x):
        """The operand that stands for an untraced value."""
        cdef Var v
        if cnp.PyArray_IsAnyScalar(x):
            return x
        known = self.captured.get(id(x))
        if known is not None and unchanged(x, self.constants[known[0]]):
            return known[0]
        if isinstance(x, Tracer) and not (<Tracer>x).trace.alive:
            dead("stage", (<Tracer>x).trace)
        v = self.new(shape_of(x), dtype_of(x))
        v.weak = is_weak(x)
        if self.by_reference or isinstance(x, Tracer):     # a tracer of an older trace stays what it is
            self.constants[v] = x
        else:
            if cnp.PyArray_CheckExact(x):
                copy = x.copy()
                copy.flags.writeable = False
            else:                                          # on its own device: CuPy copies to the current one
                scope = _device_scope([x])
                if scope is None:
                    copy = x.copy()
                else:
                    with scope:
                        copy = x.copy()
            self.constants[v] = copy
        self.captured[id(x)] = (v, x)
        return v


cpdef bint is_weak(x):
    """Whether a value stands for a Python number: a weak variable, or a tracer of one."""
    if type(x) is Var:
        return (<Var>x).weak
    cdef object v = value_of(x)
    return isinstance(v, StageTracer) and (<Var>(<Tracer>v).value).weak


cdef bint unchanged(object x, object copy):
    """Whether an array still has the bytes it had when it was captured."""
    return x is copy or not cnp.PyArray_CheckExact(x) or x.tobytes() == copy.tobytes()


@cython.final
cdef class StageTracer(Tracer):
    cdef tuple get_shape(self):
        return (<Var>self.value).shape

    cdef object get_dtype(self):
        return (<Var>self.value).dtype


@cython.final
cdef class StageTrace(Trace):
    cdef readonly Recording recording

    def __cinit__(self):
        self.kind = "stage"
        self.recording = Recording.__new__(Recording)

    cdef object truth(self, Tracer x):
        raise TraceError(f"{self.kind}: `if`, `while`, `bool()` or `and` needs the value of a staged array, which does "
                         "not exist yet. Write np.where(condition, a, b), nm.cond or nm.while_loop, or decide on "
                         "something known while tracing (a shape, a static argument).")

    cdef object operand(self, object x):
        if isinstance(x, Tracer) and (<Tracer>x).trace is self:
            return (<Tracer>x).value
        return self.recording.capture(x)

    cdef object process(self, PrimitiveBase p, tuple xs, dict kw):
        cdef tuple ins = tuple([self.operand(x) for x in xs])
        cdef dict params = kw if kw is not None else _no_params
        cdef Recording r = self.recording
        cdef Var v
        cdef int flags = 0
        try:
            if p.elementwise and p.shape_rule is None:
                a = _elementwise_aval(p, ins, params)
            else:
                a = p.shape_rule(*ins, **params)
        except Exception as e:
            if watched():
                _watch.refused(e, r, p, ins)
            raise
        if p.view:
            flags = FLAG_VIEW
            for x in xs:
                if isinstance(x, Tracer):
                    (<Tracer>x).flags |= FLAG_VIEWED
        if watched():
            r.lines[len(r.equations)] = _watch.line()
        if not p.several:
            v = r.new((<Aval>a).shape, (<Aval>a).dtype)
            v.weak = p.elementwise and stays_number(p, ins)
            r.equations.append((p, ins, (v,), params))
            return new_stage_tracer(self, v, flags)
        outs = tuple([r.new((<Aval>b).shape, (<Aval>b).dtype) for b in a])
        r.equations.append((p, ins, outs, params))
        return tuple([new_stage_tracer(self, v, 0) for v in outs])


# What Python's operators make of Python numbers are Python numbers.
cdef frozenset _operators_of_numbers = frozenset([
    "add", "subtract", "multiply", "divide", "negative", "absolute", "power", "remainder", "floor_divide"])


cdef bint stays_number(PrimitiveBase p, tuple operands):
    """Whether an operation has only weak variables and Python numbers as operands, and is one of Python's operators."""
    cdef bint some = False
    for x in operands:
        if type(x) is Var:
            if not (<Var>x).weak:
                return False
            some = True
        elif type(x) not in (float, int, complex):
            return False
    return some and p.name in _operators_of_numbers


# A branch that may not run must not run while it is traced. So while the function of one is called, operations on what
# it closes over are recorded with the rest. This alone depends on the thread: another one, which cannot know of the
# branch, runs such operations at once, as they run everywhere else. While no thread traces one, nobody asks for it.
cdef object _innermost_branch = threading.local()


cdef Trace enclosing(Trace t):
    """The trace that processes an operation on tracers of t: the branch that this thread traces, when it is newer."""
    cdef Trace branch = getattr(_innermost_branch, "trace", None)
    return t if branch is None or branch.id < t.id else branch


def staged(x):
    """``(recording, variable)`` of a staged array, however many other traces it is in; None for other values."""
    cdef object v = value_of(x)
    if not isinstance(v, StageTracer):
        return None
    return (<StageTrace>(<Tracer>v).trace).recording, (<Tracer>v).value


cdef inline StageTracer new_stage_tracer(StageTrace tr, Var v, int flags):
    cdef StageTracer t = StageTracer.__new__(StageTracer)
    t.trace, t.value, t.slot, t.flags = tr, v, None, flags
    return t


def replay(list equations, dict env):
    """Run equations ``(primitive, operands, outputs, params, spent)`` by definition.

    `env` maps variables to values and receives the outputs; the variables in `spent` leave it after their last use, so
    that the next value finds their memory, warm.
    """
    for p, ins, outs, params, spent in equations:
        if (<PrimitiveBase>p).inline is not None:
            y = (<PrimitiveBase>p).inline(*[env[x] if type(x) is Var else x for x in ins], **params)
        else:
            y = bind(<PrimitiveBase>p, tuple([env[x] if type(x) is Var else x for x in ins]),
                     params if params else None)
        if not (<PrimitiveBase>p).several:
            env[outs[0]] = y.item() if (<Var>outs[0]).weak and isinstance(y, np.generic) else y
        else:
            for v, z in zip(outs, y):
                env[v] = z
        y = z = None
        for v in spent:
            del env[v]
    return env
