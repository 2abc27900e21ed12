# vmap: the value of a tracer has the batch axis first; a batching rule is about the axes after it.

@cython.final
cdef class BatchTracer(Tracer):
    cdef tuple get_shape(self):
        return shape_of(self.value)[1:]


@cython.final
cdef class BatchTrace(Trace):
    cdef readonly Py_ssize_t size

    def __cinit__(self):
        self.kind = "vmap"

    cdef object truth(self, Tracer x):
        raise TraceError("vmap: `if`, `while`, `bool()` or `and` needs one truth value, and this one differs between "
                         "the examples of the batch. Write np.where(condition, a, b).")

    cdef object process(self, PrimitiveBase p, tuple xs, dict kw):
        cdef Py_ssize_t i, n, rank = 0, k = PyTuple_GET_SIZE(xs)
        cdef list on = [], vals = []
        cdef int flags = 0
        for i in range(k):
            x = xs[i]
            if is_tracer(x) and (<Tracer>x).trace is self:
                on.append(True)
                vals.append((<Tracer>x).value)
            else:
                on.append(False)
                vals.append(x)
        if p.elementwise:
            for i in range(k):
                n = len(shape_of(vals[i])) - (1 if on[i] else 0)
                if n > rank:
                    rank = n
            for i in range(k):
                if on[i] and len(shape_of(vals[i])) - 1 < rank:
                    vals[i] = _align(vals[i], rank)
            y = bind(p, tuple(vals), kw)
        else:
            y = p.batch_rule(on, vals, self.size, **(kw if kw is not None else _no_params))
            if p.joint:
                refuse_closure(p, self, y)
        if p.view:
            flags = FLAG_VIEW
            for x in xs:
                if is_tracer(x):
                    (<Tracer>x).flags |= FLAG_VIEWED
        if p.several:
            return tuple([new_batch_tracer(self, v, 0) for v in y])
        return new_batch_tracer(self, y, flags)


cdef inline BatchTracer new_batch_tracer(BatchTrace tr, object value, int flags):
    cdef BatchTracer t = BatchTracer.__new__(BatchTracer)
    t.trace, t.value, t.slot, t.flags = tr, value, None, flags
    return t


def is_batched(x):
    """Whether a tracer stands, at whatever depth, for one example of a batch: its value is that of all of them."""
    while isinstance(x, Tracer) and not isinstance(x, (BatchTracer, StageTracer)):
        x = (<Tracer>x).value
    return isinstance(x, BatchTracer)


def is_differentiated(x):
    """Whether a transformation, vmap and stage apart, wants a derivative of x, at whatever depth."""
    while isinstance(x, Tracer) and not isinstance(x, StageTracer):
        if not isinstance(x, BatchTracer):
            return True
        x = (<Tracer>x).value
    return False


def batches_of(x):
    """The ids of the batches that a tracer is one example of, newest first."""
    cdef list ids = []
    while is_tracer(x) and type(x) is not StageTracer:
        if type(x) is BatchTracer:
            ids.append((<Tracer>x).trace.id)
        x = (<Tracer>x).value
    return ids


def batch_of(BatchTracer x):
    """The values of all examples, batch axis first."""
    return x.value
