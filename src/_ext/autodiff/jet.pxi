# Taylor mode: a tracer carries a value and the coefficients of its truncated power series in t.
#
# What is done to the series is written in Python, `nnmath_core.autodiff.jet`: the costs are those of the products.

@cython.final
cdef class JetTracer(Tracer):
    pass


@cython.final
cdef class JetTrace(Trace):
    cdef readonly object series           # nnmath_core.autodiff.jet.Jets: the order, and the rules of the series

    def __cinit__(self):
        self.kind = "jet"

    cdef object process(self, PrimitiveBase p, tuple xs, dict kw):
        y = self.series.process(self, p, xs, kw if kw is not None else _no_params)
        if p.view and type(y) is JetTracer:
            (<JetTracer>y).flags = FLAG_VIEW
            for x in xs:
                if is_tracer(x):
                    (<Tracer>x).flags |= FLAG_VIEWED
        return y


def jet_tracer(JetTrace tr, value, series):
    """A tracer of a value and of the coefficients of its series from the first on."""
    cdef JetTracer t = JetTracer.__new__(JetTracer)
    t.trace, t.value, t.slot, t.flags = tr, value, series, 0
    return t


def jet_parts(JetTrace tr, tuple xs):
    """Values and series of operands; None for the series of what is constant in this trace."""
    cdef list values = [], series = []
    for x in xs:
        if is_tracer(x) and (<Tracer>x).trace is tr:
            values.append((<Tracer>x).value)
            series.append((<Tracer>x).slot)
        else:
            values.append(x)
            series.append(None)
    return tuple(values), series


def evaluate(PrimitiveBase p, tuple xs, dict kw):
    """A primitive of values and tracers with its parameters as they are."""
    return bind(p, xs, kw if kw else None)


def jet_door(jets, f, tuple primals, list coefficients):
    """``(outputs, [first terms, second terms, ...])``; `coefficients` holds a tree like `primals` for each order."""
    cdef JetTrace tr = JetTrace.__new__(JetTrace)
    cdef list leaves, ts, orders = [], tracers = [], values = [], ys = [], terms = []
    cdef Py_ssize_t i, k
    tr.series = jets
    leaves, d = flatten(primals, True)
    require_leaves("jet", leaves, d, "primals")
    for k in range(len(coefficients)):
        ts = flatten_like(coefficients[k], d)
        if ts is None:
            raise TreeError(f"jet: the terms of order {k + 1} in `series` must have the structure of `primals`, {d}, "
                            f"got {flatten(coefficients[k])[1]}.")
        orders.append(ts)
    for i in range(len(leaves)):
        v = leaf_value("jet", leaves[i], d, i, "primals")
        values.append(v)
        terms = [_tangent_value("jet", ts[i], v, place(d, i, f"the terms of order {k + 1}"))
                 for k, ts in enumerate(orders)]
        tracers.append(jet_tracer(tr, v, jets.given(terms)))
        (<Tracer>tracers[i]).flags = FLAG_ARGUMENT
    args = unflatten(d, tracers)
    scope = None if all_on_host(values) else _device_scope(values)
    if scope is not None:
        scope.__enter__()
    try:
        out = call("jet", f, args, None, has_list_of_floats(primals, 0))
        flat, out_def = flatten(out)
        orders = [[] for k in range(len(coefficients))]
        for o in flat:
            check_output("jet", o, tr)
            if isinstance(o, Tracer) and (<Tracer>o).trace is tr:
                ys.append((<Tracer>o).value)
                terms = jets.taken((<Tracer>o).value, (<Tracer>o).slot)
            else:
                check_value("jet", o)
                ys.append(o)
                terms = [_zeros(o, shape_of(o), dtype_of(o) if is_inexact(typenum(o)) else np.dtype(np.float64))
                         for k in range(len(coefficients))]
            for k in range(len(coefficients)):
                orders[k].append(terms[k])
    finally:
        tr.alive = False
        if scope is not None:
            scope.__exit__(None, None, None)
    return unflatten(out_def, ys), [unflatten(out_def, ts) for ts in orders]
