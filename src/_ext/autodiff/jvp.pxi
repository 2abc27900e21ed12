# Forward mode: a tracer carries a primal and a tangent of the primal's shape and dtype.

@cython.final
cdef class JvpTracer(Tracer):
    pass


@cython.final
cdef class JvpTrace(Trace):
    def __cinit__(self):
        self.kind = "jvp"

    cdef object process(self, PrimitiveBase p, tuple xs, dict kw):
        if p.elementwise and kw is None:
            if PyTuple_GET_SIZE(xs) == 1:
                return jvp1(self, p, xs[0])
            if PyTuple_GET_SIZE(xs) == 2:
                return jvp2(self, p, xs[0], xs[1])
        return jvp_general(self, p, xs, kw)


cdef inline JvpTracer new_jvp_tracer(JvpTrace tr, object value, object tangent, int flags):
    cdef JvpTracer t = JvpTracer.__new__(JvpTracer)
    t.trace, t.value, t.slot, t.flags = tr, value, tangent, flags
    return t


cdef inline object fit_tangent(object t, object y):
    """A tangent as the shape and dtype of its primal y."""
    if not (cnp.PyArray_CheckExact(t) and cnp.PyArray_CheckExact(y) and same_shape(t, y)):
        s = shape_of(y)
        if shape_of(t) != s:
            t = _broadcast_to(t, s)
    return t if typenum(t) == typenum(y) else _cast(t, dtype_of(y))


cdef object jvp1(JvpTrace tr, PrimitiveBase p, Tracer x):
    if watched():
        return watched_jvp(tr, p, (x,), None)
    return push1(tr, p, x)


cdef object push1(JvpTrace tr, PrimitiveBase p, Tracer x):
    cdef object v = x.value
    cdef object y = bind1(p, v)
    cdef object t = None
    if not p.differentiable or not is_inexact(typenum(y)):
        return y
    if _kernels_on and p.unary:
        t = unary_cotangent(p, x.slot, v if p.keep[0] & 1 else None, y if p.keep[0] & KEEP_OUTPUT else None, False)
    if t is None:
        t = (<object>PyTuple_GET_ITEM(p.vjp, 0))(x.slot, (v,), y)
    return new_jvp_tracer(tr, y, fit_tangent(t, y), 0)


cdef object jvp2(JvpTrace tr, PrimitiveBase p, object a, object b):
    if watched():
        return watched_jvp(tr, p, (a, b), None)
    return push2(tr, p, a, b)


cdef object push2(JvpTrace tr, PrimitiveBase p, object a, object b):
    cdef object ta = None
    cdef object tb = None
    cdef object t, y, u
    if is_tracer(a) and (<Tracer>a).trace is tr:
        ta, a = (<Tracer>a).slot, (<Tracer>a).value
    if is_tracer(b) and (<Tracer>b).trace is tr:
        tb, b = (<Tracer>b).slot, (<Tracer>b).value
    y = bind2(p, a, b)
    if not p.differentiable or not is_inexact(typenum(y)):
        return y
    if ta is not None and tb is not None and (p is P_ADD or p is P_SUB):
        return new_jvp_tracer(tr, y, fit_tangent(bind2(p, ta, tb), y), 0)
    t = None
    if ta is not None:
        if p is P_MUL or p is P_DIV:
            t = bind2(p, ta, b)
        else:
            t = (<object>PyTuple_GET_ITEM(p.vjp, 0))(ta, (a, b), y)
    if tb is not None:
        u = bind2(P_MUL, tb, a) if p is P_MUL else (<object>PyTuple_GET_ITEM(p.vjp, 1))(tb, (a, b), y)
        t = u if t is None else bind2(P_ADD, t, u)
    return new_jvp_tracer(tr, y, fit_tangent(t, y), 0)


cdef object jvp_general(JvpTrace tr, PrimitiveBase p, tuple xs, dict kw):
    if watched():
        return watched_jvp(tr, p, xs, kw)
    return push_general(tr, p, xs, kw)


cdef object push_general(JvpTrace tr, PrimitiveBase p, tuple xs, dict kw):
    cdef Py_ssize_t i, k = PyTuple_GET_SIZE(xs)
    cdef list vals = [], tangents = [], outs
    cdef dict params = kw if kw is not None else _no_params
    cdef tuple v
    cdef int flags = 0
    cdef object t = None
    cdef object c
    for i in range(k):
        x = xs[i]
        if is_tracer(x) and (<Tracer>x).trace is tr:
            vals.append((<Tracer>x).value)
            tangents.append((<Tracer>x).slot)
        else:
            vals.append(x)
            tangents.append(None)
    v = tuple(vals)
    if p.inline is not None:             # control flow: one pass for values and tangents
        y, t = (<object>PyTuple_GET_ITEM(p.jvp, 0))(tangents, v, **params)
        refuse_closure(p, tr, y)
        refuse_closure(p, tr, t)
    else:
        y = bind(p, v, kw)
    if not p.differentiable or (not p.several and not is_inexact(typenum(y))):
        return y
    if p.adapt is not None:
        y = p.adapt(tangents, v, y, **params)
    if p.linear:
        # jointly linear in all operands: an operand without a tangent contributes zero
        t = bind(p, tuple([_zeros(v[i], shape_of(v[i]), dtype_of(v[i])) if tangents[i] is None else tangents[i]
                           for i in range(k)]), kw)
    elif p.inline is not None:
        pass
    elif p.joint:
        refuse_closure(p, tr, y)
        t = (<object>PyTuple_GET_ITEM(p.jvp, 0))(tangents, v, y, **params)
        refuse_closure(p, tr, t)
    else:
        for i in range(k):
            if tangents[i] is None:
                continue
            if p.multilinear:
                c = bind(p, v[:i] + (tangents[i],) + v[i + 1:], kw)
            elif p.elementwise:
                c = (<object>PyTuple_GET_ITEM(p.vjp, i))(tangents[i], v, y, **params)
            elif p.variadic and PyTuple_GET_SIZE(p.jvp):
                c = (<object>PyTuple_GET_ITEM(p.jvp, 0))(tangents[i], v, y, i=i, **params)
            elif i < PyTuple_GET_SIZE(p.jvp) and <object>PyTuple_GET_ITEM(p.jvp, i) is not None:
                c = (<object>PyTuple_GET_ITEM(p.jvp, i))(tangents[i], v, y, **params)
            else:
                c = _transposed_vjp(p, i, tangents[i], v, y, params)
            if c is None:
                continue
            if p.several:
                t = c if t is None else tuple([add_tangents(a, b) for a, b in zip(t, c)])
            else:
                if p.elementwise and t is not None:
                    c = fit_tangent(c, y)
                    t = fit_tangent(t, y)
                t = c if t is None else bind2(P_ADD, t, c)
    if not p.several:
        if t is None:
            return y
        if p.view:
            flags = FLAG_VIEW
            for x in xs:
                if is_tracer(x):
                    (<Tracer>x).flags |= FLAG_VIEWED
        return new_jvp_tracer(tr, y, fit_tangent(t, y), flags)
    if t is None:
        return y
    outs = []
    for i in range(len(y)):
        if differentiable_output(p, i) and t[i] is not None and is_inexact(typenum(y[i])):
            outs.append(new_jvp_tracer(tr, y[i], fit_tangent(t[i], y[i]), 0))
        else:
            outs.append(y[i])
    return tuple(outs)


cdef object add_tangents(object a, object b):
    return b if a is None else a if b is None else bind2(P_ADD, a, b)


# ---------------------------------------------------------------------------- the sum over all axes, without detours
cdef object _general_sum = None


def install_sum(f):
    """Hand in the general ``sum(a, axis=None, ...)``."""
    global _general_sum
    _general_sum = f


def traced_sum(a, *args, **kw):
    """NumPy's ``sum``; the sum of a traced array over all its axes, the end of most losses, takes a short way."""
    if PyTuple_GET_SIZE(args) == 0 and not kw and is_tracer(a):
        y = sum_all(<Tracer>a)
        if y is not None:
            return y
    return _general_sum(a, *args, **kw)


cdef list _all_axes = [{"axis": tuple(range(i)), "keepdims": False} for i in range(33)]


cdef object sum_all(Tracer x):
    cdef object v = x.value
    cdef object y, t
    cdef Trace tr = x.trace
    cdef Node n
    if open_branches() or watched() or (type(tr) is not GradTrace and type(tr) is not JvpTrace):
        return None
    if is_tracer(v):
        y = sum_all(<Tracer>v)
        if y is None:
            return None
    elif cnp.PyArray_CheckExact(v) and cnp.PyArray_NDIM(v) > 0:
        y = full_sum(v)
    else:
        return None
    if not tr.alive:
        dead("sum", tr)
    if type(tr) is JvpTrace:
        t = x.slot
        if is_tracer(t):
            t = sum_all(<Tracer>t)
            if t is None:
                t = _general_sum(x.slot)
        elif cnp.PyArray_CheckExact(t):
            t = full_sum(t)
        else:
            t = _general_sum(t)
        return new_jvp_tracer(<JvpTrace>tr, y, t, 0)
    n = Node.__new__(Node)
    n.p, n.seq, n.tn = P_SUM, next_id(), typenum(y)
    n.parents = (x.slot,)
    n.xs = (aval_of(v),)
    n.y = None
    n.kw = _all_axes[len(shape_of(v))]
    return new_grad_tracer(<GradTrace>tr, y, n, 0)
