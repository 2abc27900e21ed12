# Reverse mode: record a node for each operation, then sweep the nodes newest first.

@cython.final
@cython.trashcan(True)        # a million dropped nodes are released in a loop, not by recursion
@cython.freelist(256)
cdef class Node:
    """One recorded operation. Leaves have no primitive; outputs of several-output primitives are picks of a node."""
    cdef PrimitiveBase p
    cdef long long seq
    cdef int tn               # type number of the output, which its cotangent must have
    cdef int index            # of a pick its output; of others, while somebody watches, the user's line
    cdef object ct            # cotangent being accumulated; of a several-output node a list
    cdef object live          # mask of entries that are not structural zeros; None: all may be live
    cdef int owned            # which of the two are arrays that the sweep made and that nobody else has seen
    # elementwise, one or two operands: inline
    cdef Node pa, pb
    cdef object xa, xb        # kept operands
    cdef tuple sa, sb         # operand shapes, where broadcasting must be summed away
    # all others
    cdef tuple parents, xs
    cdef object y             # kept output
    cdef dict kw


@cython.final
cdef class GradTracer(Tracer):
    pass


@cython.final
cdef class GradTrace(Trace):
    cdef list locked          # the user's arrays that rules will read: read-only until the transformation ends

    def __cinit__(self):
        self.kind = "grad"
        self.locked = None

    cdef object process(self, PrimitiveBase p, tuple xs, dict kw):
        if p.elementwise and kw is None:
            if PyTuple_GET_SIZE(xs) == 1:
                return record1(self, p, xs[0])
            if PyTuple_GET_SIZE(xs) == 2:
                return record2(self, p, xs[0], xs[1])
        return record(self, p, xs, kw)

    cdef int lock(self, object x) except -1:
        """Make the user's array read-only (and the array that owns its memory) until `unlock`."""
        while cnp.PyArray_CheckExact(x):
            if cnp.PyArray_ISWRITEABLE(x):
                cnp.PyArray_CLEARFLAGS(x, cnp.NPY_ARRAY_WRITEABLE)
                if self.locked is None:
                    self.locked = []
                self.locked.append(x)
            x = <object>cnp.PyArray_BASE(x) if cnp.PyArray_BASE(x) != NULL else None
        return 0

    cdef int unlock(self) except -1:
        cdef Py_ssize_t i
        if self.locked is not None:
            # owners before views: NumPy lets a view be writeable only when its base is
            for i in range(len(self.locked) - 1, -1, -1):
                cnp.PyArray_ENABLEFLAGS(self.locked[i], cnp.NPY_ARRAY_WRITEABLE)
            self.locked = None
        return 0

    cdef int close(self) except -1:
        self.alive = False
        self.unlock()
        return 0


cdef inline bint lockable(object x):
    """Whether an array, or the array that owns its memory, is still writeable."""
    return cnp.PyArray_ISWRITEABLE(x) or cnp.PyArray_BASE(x) != NULL


cdef inline GradTracer new_grad_tracer(GradTrace tr, object value, Node node, int flags):
    cdef GradTracer t = GradTracer.__new__(GradTracer)
    t.trace, t.value, t.slot, t.flags = tr, value, node, flags
    return t


cdef inline Node new_leaf(object value):
    cdef Node n = Node.__new__(Node)
    n.seq = next_id()
    n.tn = typenum(value)
    return n


cdef object record1(GradTrace tr, PrimitiveBase p, Tracer x):
    cdef object v = x.value
    cdef object y = bind1(p, v) if is_tracer(v) else compute1(p, v)
    cdef int tn
    if not p.differentiable:
        return y
    tn = typenum(y)
    if not is_inexact(tn):
        return y
    cdef Node n = Node.__new__(Node)
    n.p, n.seq, n.tn, n.pa = p, next_id(), tn, <Node>x.slot
    if p.keep[0] & 1:
        n.xa = v
    if p.keep[0] & KEEP_OUTPUT:
        n.y = y
    if watched():
        noted(n, p, (v,), y)
    return new_grad_tracer(tr, y, n, 0)


cdef object record2(GradTrace tr, PrimitiveBase p, object a, object b):
    cdef Node na = None
    cdef Node nb = None
    cdef unsigned int keep = 0
    cdef bint older = False
    cdef object y
    cdef int tn
    if is_tracer(a):
        if (<Tracer>a).trace is tr:
            na = <Node>(<Tracer>a).slot
            a = (<Tracer>a).value
            keep |= p.keep[0]
        if is_tracer(a):
            older = True
    if is_tracer(b):
        if (<Tracer>b).trace is tr:
            nb = <Node>(<Tracer>b).slot
            b = (<Tracer>b).value
            keep |= p.keep[1]
        if is_tracer(b):
            older = True
    y = bind2(p, a, b) if older else compute2(p, a, b)
    if not p.differentiable:
        return y
    tn = typenum(y)
    if not is_inexact(tn):
        return y
    cdef Node n = Node.__new__(Node)
    n.p, n.seq, n.tn, n.pa, n.pb = p, next_id(), tn, na, nb
    if keep & 1:
        n.xa = a
        if na is None and cnp.PyArray_CheckExact(a) and lockable(a):
            tr.lock(a)
    if keep & 2:
        n.xb = b
        if nb is None and cnp.PyArray_CheckExact(b) and lockable(b):
            tr.lock(b)
    if keep & KEEP_OUTPUT:
        n.y = y
    if na is not None and not (cnp.PyArray_CheckExact(a) and cnp.PyArray_CheckExact(y) and same_shape(a, y)):
        s = shape_of(a)
        if s != shape_of(y):
            n.sa = s
    if nb is not None and not (cnp.PyArray_CheckExact(b) and cnp.PyArray_CheckExact(y) and same_shape(b, y)):
        s = shape_of(b)
        if s != shape_of(y):
            n.sb = s
    if watched():
        noted(n, p, (a, b), y)
    return new_grad_tracer(tr, y, n, 0)


cdef object record(GradTrace tr, PrimitiveBase p, tuple xs, dict kw):
    cdef Py_ssize_t i, k = PyTuple_GET_SIZE(xs)
    cdef list vals = [], parents = []
    cdef unsigned int keep = 0
    cdef int flags = 0
    cdef Node n, pick
    for i in range(k):
        x = xs[i]
        if is_tracer(x) and (<Tracer>x).trace is tr:
            vals.append((<Tracer>x).value)
            parents.append((<Tracer>x).slot)
            keep |= keep_of(p, 0 if p.variadic or p.joint else i)
        else:
            vals.append(x)
            parents.append(None)
    y = bind(p, tuple(vals), kw)
    if p.joint:
        refuse_closure(p, tr, y)
    if not p.differentiable:
        return y
    if not p.several and not is_inexact(typenum(y)):
        return y
    n = Node.__new__(Node)
    n.p, n.seq, n.parents, n.kw = p, next_id(), tuple(parents), kw
    if watched():
        n.index = _watch.line()
    for i in range(k):
        v = vals[i]
        if (keep >> (i if i < 14 else 14)) & 1:
            if parents[i] is None and cnp.PyArray_CheckExact(v):
                tr.lock(v)
        elif not (type(v) is float or type(v) is int):
            vals[i] = aval_of(v)
    n.xs = tuple(vals)
    if not p.several:
        n.tn = typenum(y)
        n.y = y if keep & KEEP_OUTPUT else aval_of(y)
        if p.view:
            flags = FLAG_VIEW
            for x in xs:
                if is_tracer(x):
                    (<Tracer>x).flags |= FLAG_VIEWED
        return new_grad_tracer(tr, y, n, flags)
    n.y = tuple(y) if keep & KEEP_OUTPUT else tuple([aval_of(v) for v in y])
    outs = []
    for i, v in enumerate(y):
        if not differentiable_output(p, i) or not is_inexact(typenum(v)):
            outs.append(v)
            continue
        pick = Node.__new__(Node)
        pick.seq, pick.tn, pick.pa, pick.index = next_id(), typenum(v), n, i
        pick.p = _pick
        outs.append(new_grad_tracer(tr, v, pick, 0))
    return tuple(outs)


cdef PrimitiveBase _pick = PrimitiveBase(
    "pick", host=None, elementwise=False, linear=True, multilinear=False, differentiable=True, variadic=False,
    view=False, selects=None, through=None, shape=None, batch=None, vjp=(), jvp=(), keeps=("",))


cdef inline bint differentiable_output(PrimitiveBase p, Py_ssize_t i):
    return p.differentiable_outputs is None or p.differentiable_outputs[i]


# ---------------------------------------------------------------------------- the sweep
cdef class Heap:
    """Nodes waiting for their turn, newest on top."""
    cdef PyObject **items
    cdef Py_ssize_t n, room

    def __cinit__(self):
        self.items = NULL
        self.n = self.room = 0

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.n):
            Py_XDECREF(self.items[i])
        PyMem_Free(self.items)

    cdef int push(self, Node x) except -1:
        cdef Py_ssize_t i, up
        cdef PyObject **grown
        if self.n == self.room:
            grown = <PyObject **>PyMem_Realloc(self.items, (2 * self.room + 16) * sizeof(PyObject *))
            if grown == NULL:
                raise MemoryError
            self.items, self.room = grown, 2 * self.room + 16
        Py_INCREF(x)
        i = self.n
        self.n += 1
        while i > 0:
            up = (i - 1) // 2
            if (<Node>self.items[up]).seq >= x.seq:
                break
            self.items[i] = self.items[up]
            i = up
        self.items[i] = <PyObject *>x
        return 0

    cdef Node pop(self):
        cdef Node top = <Node>self.items[0]
        cdef PyObject *last
        cdef Py_ssize_t i = 0, c
        cdef long long seq
        Py_DECREF(top)
        self.n -= 1
        if self.n:
            last = self.items[self.n]
            seq = (<Node>last).seq
            while True:
                c = 2 * i + 1
                if c >= self.n:
                    break
                if c + 1 < self.n and (<Node>self.items[c + 1]).seq > (<Node>self.items[c]).seq:
                    c += 1
                if seq >= (<Node>self.items[c]).seq:
                    break
                self.items[i] = self.items[c]
                i = c
            self.items[i] = last
        return top


cdef enum:
    OWN_CT = 1
    OWN_LIVE = 2


cdef int give(Heap h, Node par, object c, object live) except -1:
    """Add a contribution to a node's cotangent; an entry with one live contribution is live."""
    if typenum(c) != par.tn:
        c = _cast(c, <object>cnp.PyArray_DescrFromType(par.tn))
    if par.ct is None:
        par.ct = c
        par.owned = 0
        if par.p is not None:
            par.live = live
            h.push(par)
    else:
        if par.owned & OWN_CT and cnp.PyArray_CheckExact(c) and same_shape(par.ct, c):
            _add(par.ct, c, par.ct)
        else:
            par.ct = bind2(P_ADD, par.ct, c)
            par.owned &= ~OWN_CT
        if par.live is not None:
            par.live = _mask_or(par.live, live) if live is not None else None
            par.owned &= ~OWN_LIVE
    return 0


cdef bint give_entries(Heap h, PrimitiveBase p, Node par, object g, object live, tuple xs, dict kw) except -1:
    """`give` for a primitive that reads entries: add g there, in place. False: the general rule has to run.

    A loop over rows or entries would otherwise make and add an array of the operand's size for each of them. What is
    written into is made here, or copied here, and stays the sweep's own until the node's turn has come: `owned` holds
    only while nobody else has seen the array. Traced cotangents and other devices take the general way.
    """
    cdef Py_ssize_t i
    cdef tuple shape = shape_of(xs[0])
    if not shape or not on_host(g) or not (live is None or cnp.PyArray_CheckExact(live)):
        return False
    for i in range(1, PyTuple_GET_SIZE(xs)):
        if not on_host(xs[i]):
            return False
    if par.ct is None:
        par.ct = _np_zeros(shape, <object>cnp.PyArray_DescrFromType(par.tn))
        par.owned = OWN_CT
        if par.p is not None:
            par.live = _np_zeros(shape, bool)
            par.owned |= OWN_LIVE
            h.push(par)
    else:
        if not cnp.PyArray_CheckExact(par.ct) or not (par.live is None or cnp.PyArray_CheckExact(par.live)):
            return False
        if not par.owned & OWN_CT:
            par.ct = par.ct.copy("C")
            par.owned |= OWN_CT
        if par.live is not None and not par.owned & OWN_LIVE:
            par.live = par.live.copy("C")
            par.owned |= OWN_LIVE
    p.accumulate(par.ct, g, xs, **kw)
    if par.live is not None:
        p.accumulate(par.live, True if live is None else live, xs, **kw)     # NumPy adds booleans by `or`
    return True


cdef object _add = np.add
cdef object _np_zeros = np.zeros


cdef object sweep(list outs, list seeds, list leaves, bint consume):
    """Cotangents of `leaves` (None where nothing reaches them), for cotangents `seeds` of the nodes `outs`.

    With `consume` a node's residuals are dropped as soon as its rule has run. On an exception nothing stays
    behind in the nodes, so a pullback can be called again.
    """
    cdef Heap h = Heap()
    cdef Py_ssize_t i
    for l in leaves:
        (<Node>l).ct = None
    try:
        for i in range(len(outs)):
            give(h, <Node>outs[i], seeds[i], None)
        drain(h, consume)
        return [(<Node>l).ct for l in leaves]
    finally:
        abandon(h)
        for l in leaves:
            (<Node>l).ct = (<Node>l).live = None


cdef object sweep_one(Node out, object seed, Node leaf):
    """`sweep` from one node to one leaf, consuming."""
    cdef Heap h = Heap()
    try:
        give(h, out, seed, None)
        out = None
        drain(h, True)
        return leaf.ct
    finally:
        abandon(h)
        leaf.ct = leaf.live = None


cdef int drain(Heap h, bint consume) except -1:
    """Run the rules of all waiting nodes, newest first."""
    cdef Node n
    while h.n:
        n = h.pop()
        if watched() and n.p is not _pick and n.p is not _again:
            watched_step(h, n, consume)
        else:
            step(h, n, consume)
        n = None
    return 0


cdef int abandon(Heap h) except -1:
    """Forget the cotangents of nodes that still wait: an exception has ended the sweep."""
    cdef Node n
    while h.n:
        n = h.pop()
        n.ct = n.live = None
    return 0


cdef int step(Heap h, Node n, bint consume) except -1:
    """Run the rules of one node and hand the results to its parents."""
    cdef object g = n.ct
    cdef object live = n.live
    cdef PrimitiveBase p = n.p
    cdef Node par
    n.ct = n.live = None
    if p is _again:
        return run_again(h, n, <list>g, consume)
    if p.through is not None and type(g) is list:
        live = masks_of(<list>g)
    if live is not None and p is not _pick and p.accumulate is None:
        # entries that are masked may divide by zero; what they give is discarded, so NumPy shall not warn of it
        with _errstate(all="ignore"):
            if n.parents is not None:
                return step_general(h, n, p, g, live, consume)
            return step_elementwise(h, n, p, g, live, consume)
    if n.parents is not None:
        return step_general(h, n, p, g, live, consume)
    if p is _pick:
        par = n.pa
        if consume:
            n.pa = None
        if par.ct is None:
            par.ct = [None] * len(par.y)
            h.push(par)
        par.ct[n.index] = (g, live) if par.p is _again or par.p.through is not None else g
        return 0
    return step_elementwise(h, n, p, g, live, consume)


cdef object masks_of(list cts):
    """The masks of several outputs, taken out of what their picks have left; None when one of them is all live."""
    cdef Py_ssize_t i
    cdef bint masked = True
    cdef list masks = []
    cdef object live
    for i in range(len(cts)):
        live = None
        if cts[i] is not None:
            cts[i], live = cts[i]
            masked = masked and live is not None
        masks.append(live)
    return tuple(masks) if masked else None


cdef int step_elementwise(Heap h, Node n, PrimitiveBase p, object g, object live, bint consume) except -1:
    """One or two operands: a kernel when it applies, else the rule; then mask, then sum over broadcast axes."""
    cdef Node pa = n.pa
    cdef Node pb = n.pb
    cdef object xa = n.xa
    cdef object xb = n.xb
    cdef object y = n.y
    cdef tuple sa = n.sa
    cdef tuple sb = n.sb
    cdef object c, m
    cdef tuple xs = None
    cdef bint unary = PyTuple_GET_SIZE(p.vjp) == 1
    if consume:
        n.pa = n.pb = None
        n.xa = n.xb = n.y = None
    if unary:
        c = unary_cotangent(p, g, xa, y, True) if _kernels_on and p.unary else None
        if c is None:
            c = (<object>PyTuple_GET_ITEM(p.vjp, 0))(g, (xa,), y)
        if live is not None and not p.linear:
            c = _mask_where(live, c)
        if p.selects is not None and pa.p is not None:     # its rule has zeros where it selects nothing
            m = p.selects(0, (xa,), y)
            live = m if live is None else _mask_and(live, m)
        give(h, pa, c, live)
        return 0
    if pa is not None:
        if p is P_ADD or p is P_SUB:
            c = g
        elif p is P_MUL or p is P_DIV:
            c = scaled_cotangent(p.binary, g, xb, pb is None) if _kernels_on else None
            if c is None:
                c = bind2(p, g, xb)
        else:
            xs = (xa, xb)
            c = (<object>PyTuple_GET_ITEM(p.vjp, 0))(g, xs, y)
        if live is None and sa is None and p.selects is None:
            give(h, pa, c, None)
        else:
            give_masked(h, p, 0, pa, c, live, xa, xb, y, sa)
    if pb is not None:
        if p is P_ADD:
            c = g
        elif p is P_MUL:
            c = scaled_cotangent(p.binary, g, xa, True) if _kernels_on else None
            if c is None:
                c = bind2(P_MUL, g, xa)
        elif p is P_SUB:
            c = bind1(P_NEG, g)
        else:
            c = (<object>PyTuple_GET_ITEM(p.vjp, 1))(g, xs if xs is not None else (xa, xb), y)
        if live is None and sb is None and p.selects is None:
            give(h, pb, c, None)
        else:
            give_masked(h, p, 1, pb, c, live, xa, xb, y, sb)
    return 0


cdef int give_masked(Heap h, PrimitiveBase p, int i, Node par, object c, object live, object xa, object xb, object y,
                     tuple shape) except -1:
    """Mask a cotangent where it is structurally zero, sum it to the operand's shape, hand it over."""
    cdef object m
    if live is not None and not p.linear:
        live = _mask_broadcast(live, shape_of(c))
        c = _mask_where(live, c)
    if p.selects is not None and par.p is not None:        # its rule has zeros where it selects nothing
        m = _mask_broadcast(p.selects(i, (xa, xb), y), shape_of(c))
        live = m if live is None else _mask_and(live, m)
    if live is not None and shape is not None:
        live = _mask_to(live, shape)
    if shape is not None:
        c = sum_to_shape(c, shape)
    return give(h, par, c, live)


cdef object sum_to_shape(object c, tuple shape):
    """Sum a cotangent over the axes that broadcasting from `shape` added."""
    cdef Py_ssize_t lead, i
    cdef list axes
    if not cnp.PyArray_CheckExact(c):
        return _sum_to(c, shape)
    lead = cnp.PyArray_NDIM(c) - PyTuple_GET_SIZE(shape)
    axes = list(range(lead))
    for i in range(PyTuple_GET_SIZE(shape)):
        if shape[i] == 1 and cnp.PyArray_DIM(c, <int>(lead + i)) != 1:
            axes.append(lead + i)
    if axes:
        c = _add_reduce(c, tuple(axes))
    return c if shape_of(c) == shape else c.reshape(shape)


cdef int step_general(Heap h, Node n, PrimitiveBase p, object g, object live, bint consume) except -1:
    cdef tuple parents = n.parents
    cdef tuple xs = n.xs
    cdef object y = n.y
    cdef dict kw = n.kw if n.kw is not None else _no_params
    cdef Node par
    cdef Py_ssize_t i
    cdef object c, m, shape
    if consume:
        n.parents = ()
        n.xs = n.y = None
    if type(g) is list:
        g = tuple(g)
    if p is P_SUM and type(xs[0]) is Aval and len(<tuple>kw["axis"]) == len((<Aval>xs[0]).shape):
        c = filled(xs[0], g)
        if c is not None:
            return give(h, <Node>parents[0], c, None if live is None else p.through(live, 0, xs, y, **kw))
    if p.joint:
        if p.inline is not None:
            kw = {**kw, "needs": tuple([par is not None for par in parents])}
        for par, c in zip(parents, (<object>PyTuple_GET_ITEM(p.vjp, 0))(g, xs, y, **kw)):
            if par is not None and c is not None:
                give(h, par, c, None)
        return 0
    if live is not None and p.shield is not None:
        xs, y = p.shield(live, xs, y, **kw)
    for i in range(PyTuple_GET_SIZE(parents)):
        par = <Node>parents[i]
        if par is None:
            continue
        if i == 0 and p.accumulate is not None and give_entries(h, p, par, g, live, xs, kw):
            continue
        if p.variadic and PyTuple_GET_SIZE(p.vjp):
            c = (<object>PyTuple_GET_ITEM(p.vjp, 0))(g, xs, y, i=i, **kw)
        elif i < PyTuple_GET_SIZE(p.vjp) and <object>PyTuple_GET_ITEM(p.vjp, i) is not None:
            c = (<object>PyTuple_GET_ITEM(p.vjp, i))(g, xs, y, **kw)
        else:
            c = _transposed_jvp(p, i, g, xs, y, kw)
        if c is None:                       # the rule says: exactly zero
            continue
        m = live
        if p.elementwise:
            shape = shape_of(xs[i])
            if m is not None:
                m = _mask_broadcast(m, shape_of(c))
                c = _mask_where(m, c)
            if p.selects is not None and par.p is not None:    # its rule has zeros where it selects nothing
                m = _mask_broadcast(p.selects(i, xs, y, **kw), shape_of(c))
                if live is not None:
                    m = _mask_and(live, m)
            if m is not None:
                m = _mask_to(m, shape)
            c = sum_to_shape(c, shape)
        else:
            m = None
            if live is not None and p.through is not None:
                m = p.through(live, i, xs, y, **kw)
            if p.selects is not None and par.p is not None:
                shape = p.selects(i, xs, y, **kw)      # a mask of the operand's shape
                if live is None:
                    m = shape
                elif m is not None:
                    m = _mask_and(m, shape)
                elif p.through is None:
                    m = shape
            if live is not None and m is not None and not (p.linear or p.multilinear):
                c = _mask_where(m, c)
        give(h, par, c, m)
    return 0

cdef dict _no_params = {}
cdef object _errstate = np.errstate


def alias(x):
    """The same traced value as another tracer: that views of it are taken does not mark x.

    For views that the user never sees, such as the flat view that `flatten` copies.
    """
    cdef Tracer t
    if not is_tracer(x):
        return x
    t = type(x).__new__(type(x))
    t.trace, t.value, t.slot, t.flags = (<Tracer>x).trace, (<Tracer>x).value, (<Tracer>x).slot, (<Tracer>x).flags
    return t


def mark_fresh(x):
    """Declare that a traced result shares no memory with its operands (a reshape of a private intermediate)."""
    y = x
    while is_tracer(y) and not isinstance(y, StageTracer):
        (<Tracer>y).flags &= ~FLAG_VIEW
        y = (<Tracer>y).value
    return x
