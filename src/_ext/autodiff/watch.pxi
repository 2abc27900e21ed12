# Watching: debug_nans looks at every result, precision_report at the user's line of every equation.
#
# The object that watches is `nnmath_core.autodiff.watch`, which asks a context variable whether this thread wants it.
# While nobody in the process does, an operation costs one look at an integer.

cdef extern from *:
    """
    static int nnm_watchers = 0;
    #if defined(__GNUC__) || defined(__clang__)
    #define nnm_watched() __builtin_expect(nnm_watchers != 0, 0)
    #else
    #define nnm_watched() (nnm_watchers != 0)
    #endif
    """
    int nnm_watchers
    bint watched "nnm_watched"() noexcept nogil

cdef object _watch = None


def install_watch(watch):
    """Hand the core the object that watches: `ran`, `line`, `refused`, `enter`, `leave`, `swept` and `pushed`."""
    global _watch
    _watch = watch


def add_watchers(int n):
    """Count those who watch, in all threads."""
    global nnm_watchers
    nnm_watchers += n


cdef int noted(Node n, PrimitiveBase p, tuple xs, object y) except -1:
    """Look at what a recorded operation has computed, unless an older trace did, and keep the user's line."""
    if not is_tracer(y):
        _watch.ran(p, xs, y)
    n.index = _watch.line()
    return 0


cdef int watched_step(Heap h, Node n, bint consume) except -1:
    """`step`: what happens inside of a rule is not looked at, since it may be masked; what it hands on is."""
    cdef PrimitiveBase p = n.p
    cdef int line = n.index
    cdef list parents, before
    cdef Node par
    g = n.ct
    if n.parents is not None:
        parents = [par for par in n.parents if par is not None]
        kept = n.xs
    else:
        parents = [par for par in (n.pa, n.pb) if par is not None]
        kept = (n.xa, n.xb)
    y = n.y
    before = [_watch.clean(par.ct) for par in parents]
    token = _watch.enter(p, line)
    try:
        step(h, n, consume)
    finally:
        _watch.leave(token)
    _watch.swept(p, line, g, kept, y, [par.ct for par, good in zip(parents, before) if good])
    return 0


cdef object watched_jvp(JvpTrace tr, PrimitiveBase p, tuple xs, dict kw):
    """The rule of forward mode: values first, which are looked at; then the tangents, as in `watched_step`."""
    cdef list vals = [], tangents = [], dots = []
    for x in xs:
        if is_tracer(x) and (<Tracer>x).trace is tr:
            vals.append((<Tracer>x).value)
            tangents.append((<Tracer>x).slot)
        else:
            vals.append(x)
    if p.inline is not None or any([isinstance(value_of(x), Tracer) for x in vals]):
        return push(tr, p, xs, kw)        # the operations inside are looked at; or there are no values yet
    bind(p, tuple(vals), kw)
    token = _watch.enter(p, -1)
    try:
        y = push(tr, p, xs, kw)
    finally:
        _watch.leave(token)
    for x in y if p.several else (y,):
        if is_tracer(x) and (<Tracer>x).trace is tr:
            dots.append((<Tracer>x).slot)
    _watch.pushed(p, tuple(vals), tangents, dots)
    return y


cdef object push(JvpTrace tr, PrimitiveBase p, tuple xs, dict kw):
    if p.elementwise and kw is None:
        if PyTuple_GET_SIZE(xs) == 1:
            return push1(tr, p, xs[0])
        if PyTuple_GET_SIZE(xs) == 2:
            return push2(tr, p, xs[0], xs[1])
    return push_general(tr, p, xs, kw)
