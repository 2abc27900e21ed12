# Recomputation: a call of which the graph keeps nothing but the arguments. The sweep runs it again when its turn comes.
#
# The second run records on the same trace, its operands being the same nodes, so the sweep just goes on through it:
# what the function closes over receives its derivative, structural zeros pass, and since the new nodes are the newest
# and contributions are added in the order of an ordinary graph, the gradient has the same bits.

cdef PrimitiveBase _again = PrimitiveBase(
    "again", host=None, elementwise=False, linear=False, multilinear=False, differentiable=True, variadic=False,
    view=False, selects=None, through=None, shape=None, batch=None, vjp=(), jvp=(), keeps=("",))


cdef int traced_in(object x, list grads, list traces) except -1:
    """Collect the traces that a value belongs to and, in a fixed order, the tracers of reverse mode at any depth."""
    cdef Trace t
    while is_tracer(x):
        t = (<Tracer>x).trace
        if not any([t is u for u in traces]):
            traces.append(t)
        if type(x) is GradTracer:
            grads.append(x)
        elif type(x) is JvpTracer:
            traced_in((<Tracer>x).slot, grads, traces)
        elif type(x) is StageTracer:
            return 0
        x = (<Tracer>x).value
    return 0


cdef list tracers_of(GradTrace tr, list leaves, list traces):
    """The tracers of one trace in some values, in the order of `traced_in`."""
    cdef list grads = []
    for x in leaves:
        traced_in(x, grads, traces)
    return [x for x in grads if (<Tracer>x).trace is tr]


cdef object with_picks(object x, Trace tr, list fresh):
    """The value x with its tracers of one trace replaced by those in `fresh`, last one first."""
    cdef Tracer t
    if not is_tracer(x) or type(x) is StageTracer:
        return x
    if (<Tracer>x).trace is tr:
        return fresh.pop()
    t = type(x).__new__(type(x))
    t.trace, t.slot, t.flags = (<Tracer>x).trace, (<Tracer>x).slot, (<Tracer>x).flags
    if type(x) is JvpTracer:
        t.slot = with_picks(t.slot, tr, fresh)
    t.value = with_picks((<Tracer>x).value, tr, fresh)
    return t


cdef object held(object arguments):
    """The arguments in cells of their own: an operator in place, on whatever name, does not change these."""
    leaves, d = flatten(arguments)
    return unflatten(d, [alias(x) for x in leaves])


cdef enum:
    SAMPLED_OUTPUTS = 4
    SAMPLED_ENTRIES = 64


cdef object sample_of(object x):
    """Some entries of a host array, by which the second run is known to have repeated the first; else None."""
    x = value_of(x)
    if cnp.PyArray_CheckExact(x):
        return x.flat[::max(1, cnp.PyArray_SIZE(x) // SAMPLED_ENTRIES)]
    return np.asarray(x) if cnp.PyArray_IsAnyScalar(x) else None


cdef bint repeated(object a, object b):
    """Whether two samples agree up to rounding: products may depend on the number of threads."""
    if a is None or b is None or np.array_equal(a, b):
        return True
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    with _errstate(all="ignore"):
        size = np.abs(a[np.isfinite(a)]).max(initial=np.finfo(a.dtype).tiny)
        return np.allclose(b, a, rtol=0, atol=size * np.finfo(a.dtype).eps ** 0.5, equal_nan=True)


def recomputed(f, tuple args, dict kw):
    """``f(*args, **kw)``; of its graph the newest reverse mode keeps only the arguments, and the sweep runs f again."""
    cdef GradTrace tr = None
    cdef list grads = [], traces = [], fresh = []
    cdef Node n, pick
    cdef Tracer t
    cdef Py_ssize_t i
    given = held((args, kw))
    out = f(*args, **kw)
    leaves, d = flatten(out)
    for x in leaves:
        traced_in(x, grads, traces)
    for t in grads:
        if tr is None or t.trace.id > tr.id:
            tr = <GradTrace>t.trace
    if tr is None:
        return out
    grads = [x for x in grads if (<Tracer>x).trace is tr]
    for x in flatten((args, kw))[0]:
        traced_in(x, [], traces)
    n = Node.__new__(Node)
    n.p, n.seq, n.parents = _again, next_id(), ()
    n.xs = (tr, f, given, tuple([u for u in traces if (<Trace>u).id >= tr.id]),
            [sample_of(x) for x in grads[:SAMPLED_OUTPUTS]])
    n.y = (None,) * len(grads)
    for i in range(len(grads)):
        t = <Tracer>grads[i]
        pick = Node.__new__(Node)
        pick.p, pick.seq, pick.tn, pick.pa, pick.index = _pick, next_id(), typenum(t.value), n, i
        fresh.append(new_grad_tracer(tr, t.value, pick, t.flags))
    fresh.reverse()
    return unflatten(d, [with_picks(x, tr, fresh) for x in leaves])


cdef int run_again(Heap h, Node n, list cts, bint consume) except -1:
    """Run the function of a node for the sweep, and give the cotangents of its results to the nodes that it makes."""
    cdef GradTrace tr
    cdef list kept, found, ended = []
    cdef Py_ssize_t i
    tr, f, given, traces, samples = n.xs
    if consume:
        n.xs = n.y = None
    args, kw = held(given)
    given = None
    kept, tr.locked = tr.locked, None
    for t in traces:                      # the traces of then, for the time of this call
        if not (<Trace>t).alive:
            (<Trace>t).alive = True
            ended.append(t)
    try:
        found = tracers_of(tr, flatten(f(*args, **kw))[0], [])
        args = kw = None
    finally:
        for t in ended:
            (<Trace>t).alive = False
        tr.unlock()
        tr.locked = kept
    if len(found) != len(cts) or not all([repeated(a, sample_of(x)) for a, x in zip(samples, found)]):
        raise TraceError("checkpoint: the function returned something else when it ran again for the backward pass. "
                         "Does it draw random numbers, or has an array that it closes over been changed in place?")
    for i in range(len(cts)):
        if cts[i] is not None:
            give(h, <Node>(<Tracer>found[i]).slot, cts[i][0], cts[i][1])
    return 0


def reverse_first(tuple xs):
    """Whether it is reverse mode that will process these operands."""
    cdef Trace top = None
    for x in xs:
        if is_tracer(x) and (top is None or (<Tracer>x).trace.id > top.id):
            top = (<Tracer>x).trace
    return type(top) is GradTrace
