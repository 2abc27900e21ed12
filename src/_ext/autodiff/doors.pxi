# The doors of the transformations: flatten the arguments, open a trace, call the user, close it, flatten the result.

cdef object _leaf_value = None       # (who, leaf, place) -> value that may be differentiated, or an error (slow path)
cdef object _tangent_value = None    # (who, tangent, primal, place) -> tangent of the primal's shape and dtype
cdef object _one_like = None         # value -> 1 of its dtype on its device


def install_doors(*, leaf_value, tangent_value, one_like):
    """Hand the doors the slow paths of their checks."""
    global _leaf_value, _tangent_value, _one_like
    _leaf_value, _tangent_value, _one_like = leaf_value, tangent_value, one_like


cdef object _one64 = np.float64(1.0)
cdef object _one32 = np.float32(1.0)


cdef str place(object treedef, Py_ssize_t i, str root):
    """Where leaf i stands: ``primals[0]['w']``, or after a root that ends in a space ``argument 0['w']``."""
    return root_and_path(root, paths(treedef)[i])


cdef str root_and_path(str root, str path):
    if root.endswith(" ") and path.startswith("["):
        return root + path[1:].replace("]", "", 1)
    return root + path


cdef inline object leaf_value(str who, object x, object treedef, Py_ssize_t i, str root):
    """A leaf as it is traced: float32 or float64, native; the message of a refusal names argument and path."""
    cdef int t
    if cnp.PyArray_CheckExact(x):
        t = cnp.PyArray_TYPE(x)
        if (t == cnp.NPY_DOUBLE or t == cnp.NPY_FLOAT) and cnp.PyArray_ISNOTSWAPPED(x):
            return x
    elif type(x) is float:
        return _float64(x)
    elif type(x) is _float64 or type(x) is _float32:
        return x
    elif isinstance(x, Tracer):
        t = dtype_of(x).num
        if t == cnp.NPY_DOUBLE or t == cnp.NPY_FLOAT:
            return x
    return _leaf_value(who, x, place(treedef, i, root))


cdef object call(str who, object f, tuple args, dict kw, bint has_lists):
    """Call the user's function; explain two errors whose cause lies in the transformation."""
    try:
        return f(*args, **kw) if kw else f(*args)
    except ValueError as e:
        if "read-only" in str(e):
            note(e, f"{who}: arrays that a derivative rule will read again are read-only until the transformation "
                    "ends; changing one would change the gradient in silence. Copy it first: b = a.copy().")
        raise
    except (TypeError, AttributeError) as e:
        if has_lists and (isinstance(e, TypeError) or "'list' object" in str(e) or "'tuple' object" in str(e)):
            note(e, f"{who}: an argument is a list of floats. A list is a tree here, its floats are separate leaves; "
                    "for a vector pass np.array([...]).")
        raise


cpdef require_leaves(str who, list leaves, object treedef, str root):
    """Refuse dataclasses of nothing but Python floats: they are constants, and a gradient would return them as such."""
    if not leaves and treedef.static_floats:
        raise DtypeError(f"{who}: there is no array to differentiate: the Python float at "
                         f"{root_and_path(root, treedef.static_floats[0])} is a constant, since in the fields of a "
                         "dataclass only arrays are leaves. Put np.float64(...) or an array there.")


cdef int note(object e, str text) except -1:
    if text not in getattr(e, "__notes__", ()):
        e.add_note(text)
    return 0


cdef bint has_list_of_floats(object x, int depth):
    if isinstance(x, (list, tuple)):
        for v in x:
            if type(v) is float or (depth < 4 and has_list_of_floats(v, depth + 1)):
                return True
    elif isinstance(x, dict) and depth < 4:
        for v in x.values():
            if has_list_of_floats(v, depth + 1):
                return True
    return False


cdef bint base_on_host(object v):
    """Whether the array behind a value is on the host (or, while staging, nowhere yet)."""
    v = value_of(v)
    return on_host(v) or isinstance(v, Tracer)


cdef bint all_on_host(list values):
    for v in values:
        if not base_on_host(v):
            return False
    return True


cdef int check_output(str who, object out, Trace tr) except -1:
    """Refuse an output that belongs to a transformation which has ended or was started later."""
    cdef Trace t
    if isinstance(out, Tracer):
        t = (<Tracer>out).trace
        if not t.alive and t is not tr:
            dead(who, t)
        if t.id > tr.id:
            raise TraceError(f"{who}: the function returned a tracer of a `{t.kind}` that was started inside it and "
                             "has not ended. Return the result of the inner transformation instead.")
    return 0


cdef int check_value(str who, object o) except -1:
    """Refuse a leaf of the output that is neither a number nor a numeric array."""
    if not (isinstance(o, Tracer) or cnp.PyArray_IsPythonNumber(o) or getattr(getattr(o, "dtype", None), "kind", "") in
            _numeric_kinds):
        raise TypeError(f"{who}: the function must return arrays or numbers, got a {type(o).__name__}.")
    return 0

cdef tuple _numeric_kinds = tuple("biufc")


cdef object plain_output(str who, object out, Trace tr):
    """A leaf of the auxiliary output: this trace's tracers give their values."""
    check_output(who, out, tr)
    if isinstance(out, Tracer) and (<Tracer>out).trace is tr:
        return (<Tracer>out).value
    return out


cdef object plain_tree(str who, object tree, Trace tr):
    leaves, d = flatten(tree)
    return unflatten(d, [plain_output(who, x, tr) for x in leaves])


cdef inline bint owned(object r, object seed):
    """Whether a gradient is an array that the caller may keep as it is."""
    return (cnp.PyArray_CheckExact(r) and cnp.PyArray_BASE(r) == NULL and cnp.PyArray_ISCARRAY(r) and r is not seed)


cdef object finished(list results, list values, list seeds):
    """Gradients as the caller may keep them: of the variable's kind, owning their memory, shared with nothing."""
    cdef Py_ssize_t i
    cdef object r, v
    cdef list out = []
    cdef set seen
    if len(results) == 1 and len(seeds) <= 1 and owned(results[0], seeds[0] if seeds else None):
        return results
    seen = set()
    for s in seeds:
        seen.add(id(s))
    for i in range(len(results)):
        r, v = results[i], values[i]
        if r is None:
            r = _zeros(v, shape_of(v), dtype_of(v))
        if cnp.PyArray_CheckExact(r):
            if (id(r) in seen or cnp.PyArray_BASE(r) != NULL or not cnp.PyArray_ISWRITEABLE(r)
                    or not cnp.PyArray_ISCARRAY(r)):
                r = r.copy("C")
            seen.add(id(r))
        elif cnp.PyArray_CheckExact(v) and not isinstance(r, Tracer):
            r = np.asarray(r)             # a NumPy scalar for a 0-d array
        out.append(r)
    return out


cdef class GradFn:
    """grad and value_and_grad of a function, as a callable."""
    cdef object f, argnums
    cdef bint with_value, has_aux
    cdef bint plain               # of the first argument, without auxiliary output
    cdef str who, root            # root: what the path of a leaf begins with in a message
    cdef dict __dict__

    def __init__(self, f, argnums, with_value, has_aux, who):
        self.f, self.argnums, self.with_value, self.has_aux, self.who = f, argnums, with_value, has_aux, who
        self.plain = type(argnums) is int and argnums == 0 and not has_aux
        self.root = f"argument {argnums}" if type(argnums) is int else "the arguments "

    def __call__(self, *args, **kw):
        cdef Py_ssize_t k = 0, n = PyTuple_GET_SIZE(args)
        cdef GradTrace tr
        cdef Node leaf
        cdef list leaves, values = [], nodes = [], tracers = [], call_args
        cdef object d, out, aux = None
        cdef object target
        cdef list places = None
        if n == 1 and self.plain and not kw and cnp.PyArray_CheckExact(args[0]):
            return self.of_array(args[0])
        # The values of args live as long as the call: nothing below keeps the user's tree.
        if type(self.argnums) is int:
            k = self.argnums
            if k < 0:
                k += n
            if not 0 <= k < n:
                raise self.missing(n)
            target = args[k]
        else:
            for k in self.argnums:
                if not -n <= k < n:
                    raise self.missing(n)
            places = [k if k >= 0 else k + n for k in self.argnums]
            if len(set(places)) != len(places):
                raise TypeError(f"{self.who}: `argnums` = {self.argnums} names one of the {n} arguments twice.")
            target = tuple([args[k] for k in places])
        leaves, d = flatten(target, True)
        require_leaves(self.who, leaves, d, self.root)
        has_lists = d is not leaf_def and has_list_of_floats(target, 0)
        tr = GradTrace.__new__(GradTrace)
        for i in range(len(leaves)):
            v = leaf_value(self.who, leaves[i], d, i, self.root)
            leaf = new_leaf(v)
            values.append(v)
            nodes.append(leaf)
            tracers.append(new_grad_tracer(tr, v, leaf, FLAG_ARGUMENT))
        target = unflatten(d, tracers) if d is not leaf_def else tracers[0]
        if n == 1 and type(self.argnums) is int:
            args = (target,)
        else:
            call_args = list(args)
            if type(self.argnums) is int:
                call_args[k] = target
            else:
                for k, v in zip(places, target):
                    call_args[k] = v
            args = tuple(call_args)
            call_args = None
        tracers = target = None
        scope = None if all_on_host(values) else _device_scope(values)
        if scope is not None:
            scope.__enter__()
        try:
            for v in values:
                if cnp.PyArray_CheckExact(v):
                    tr.lock(v)
            out = call(self.who, self.f, args, kw, has_lists)
            args = ()
            if self.has_aux:
                if not isinstance(out, tuple) or len(out) != 2:
                    raise TypeError(f"{self.who}: with has_aux=True the function must return (value, aux), "
                                    f"got {type(out).__name__}.")
                out, aux = out
                aux = plain_tree(self.who, aux, tr)
            node, out = self.scalar(out, tr)
            tr.alive = False
            if node is None:
                grads = finished([None] * len(nodes), values, [])
            else:
                seed = _one64 if typenum(out) == cnp.NPY_DOUBLE else _one32
                if not base_on_host(out):
                    seed = _one_like(out)
                nodes_out = [node]
                node = None
                grads = finished(sweep(nodes_out, [seed], nodes, True), values, [seed])
        finally:
            tr.close()
            if scope is not None:
                scope.__exit__(None, None, None)
        g = unflatten(d, grads, ()) if d is not leaf_def else grads[0]
        if self.with_value:
            return ((out, aux), g) if self.has_aux else (out, g)
        return (g, aux) if self.has_aux else g

    cdef object of_array(self, object v):
        """The call with one array and nothing else: what follows in `__call__`, without its lists."""
        cdef GradTrace tr = GradTrace.__new__(GradTrace)
        cdef Node leaf, node
        cdef object g, out, seed
        v = leaf_value(self.who, v, leaf_def, 0, self.root)
        leaf = new_leaf(v)
        g = new_grad_tracer(tr, v, leaf, FLAG_ARGUMENT)
        try:
            tr.lock(v)
            out = call(self.who, self.f, (g,), _no_params, False)
            g = None
            node, out = self.scalar(out, tr)
            tr.alive = False
            if node is None:
                g = finished([None], [v], [])[0]
            else:
                seed = _one64 if typenum(out) == cnp.NPY_DOUBLE else _one32
                if not on_host(out):
                    seed = _one_like(out)
                g = sweep_one(node, seed, leaf)
                if not owned(g, seed):
                    g = finished([g], [v], [seed])[0]
        finally:
            tr.close()
        return (out, g) if self.with_value else g

    cdef object missing(self, Py_ssize_t n):
        return TypeError(f"{self.who}: `argnums` = {self.argnums} must name positional arguments, and the function was "
                         f"called with {n}. Pass the variable to differentiate by position.")

    cdef tuple scalar(self, object out, GradTrace tr):
        """(node or None, value) of the function's result, which must be one real floating-point number."""
        if type(out) is GradTracer and (<Tracer>out).trace is tr and type((<Tracer>out).value) is _float64:
            return (<Tracer>out).slot, (<Tracer>out).value
        check_output(self.who, out, tr)
        remedy = ("Reduce it, for example with .sum() or .mean(), or use nm.jacrev for a Jacobian."
                  if not self.has_aux else "With has_aux=True the first item must be the scalar.")
        if not isinstance(out, Tracer):
            if out is None:
                raise TypeError(f"{self.who}: the function must return a scalar, got None. Is a `return` missing?")
            if isinstance(out, (tuple, list, dict)):
                raise TypeError(f"{self.who}: the function must return a scalar, got a {type(out).__name__}. "
                                "Return the scalar alone, or (scalar, aux) with has_aux=True.")
            if not (cnp.PyArray_IsAnyScalar(out) or hasattr(out, "dtype")) or isinstance(out, (str, bytes)):
                raise TypeError(f"{self.who}: the function must return a scalar, got a {type(out).__name__}.")
        if shape_of(out) != ():
            raise ShapeError(f"{self.who}: the function must return a scalar, got shape {shape_of(out)}. {remedy}")
        kind = dtype_of(out).kind
        if kind != "f":
            what = {"c": "a complex number", "i": "an integer", "u": "an integer", "b": "a boolean"}.get(
                kind, f"dtype {dtype_of(out)}")
            hint = ("Return its real part or its absolute value." if kind == "c" else
                    "Integers carry no derivative: does an argmax, a rounding, a comparison or astype(int) stand on "
                    "the way?")
            raise DtypeError(f"{self.who}: the function must return a real floating-point scalar, got {what}. {hint}")
        if isinstance(out, Tracer) and (<Tracer>out).trace is tr:
            return (<Tracer>out).slot, (<Tracer>out).value
        return None, out


cdef class Pullback:
    """The map from cotangents of the outputs to cotangents of the inputs; may be called any number of times."""
    cdef list outs, shapes, leaves, values
    cdef object in_def, out_def, mutex
    cdef bint single

    def __call__(self, cotangents):
        cdef list cts, nodes = [], seeds = [], r
        cdef Py_ssize_t i
        d = self.out_def
        cts = flatten_like(cotangents, d)
        if cts is None:
            raise TreeError(f"vjp: the cotangent must have the structure of the output, {d}, "
                            f"got {flatten(cotangents)[1]}.")
        for i in range(len(cts)):
            if self.outs[i] is None:
                continue
            nodes.append(self.outs[i])
            seeds.append(_tangent_value("vjp", cts[i], self.shapes[i], place(d, i, "cotangent")))
        scope = None if all_on_host(self.values) else _device_scope(self.values)
        if scope is not None:
            scope.__enter__()
        try:
            with self.mutex:
                r = sweep(nodes, seeds, self.leaves, False)
        finally:
            if scope is not None:
                scope.__exit__(None, None, None)
        r = finished(r, self.values, seeds)
        out = unflatten(self.in_def, r, ())
        return out


def vjp_door(f, tuple primals, bint has_aux):
    """``(outputs, Pullback)`` or, with has_aux, ``(outputs, Pullback, aux)``."""
    cdef GradTrace tr = GradTrace.__new__(GradTrace)
    cdef list leaves, values = [], nodes = [], tracers = [], outs = [], shapes = [], results = []
    cdef Node leaf
    cdef Pullback back
    cdef object out, aux = None
    leaves, d = flatten(primals, True)
    require_leaves("vjp", leaves, d, "argument ")
    for i in range(len(leaves)):
        v = leaf_value("vjp", leaves[i], d, i, "argument ")
        leaf = new_leaf(v)
        values.append(v)
        nodes.append(leaf)
        tracers.append(new_grad_tracer(tr, v, leaf, FLAG_ARGUMENT))
    args = unflatten(d, tracers)
    scope = None if all_on_host(values) else _device_scope(values)
    if scope is not None:
        scope.__enter__()
    try:
        for v in values:
            if cnp.PyArray_CheckExact(v):
                tr.lock(v)
        out = call("vjp", f, args, None, has_list_of_floats(primals, 0))
        if has_aux:
            if not isinstance(out, tuple) or len(out) != 2:
                raise TypeError("vjp: with has_aux=True the function must return (value, aux), "
                                f"got {type(out).__name__}.")
            out, aux = out
            aux = plain_tree("vjp", aux, tr)
        flat, out_def = flatten(out)
        for i in range(len(flat)):
            o = flat[i]
            check_output("vjp", o, tr)
            if isinstance(o, Tracer) and (<Tracer>o).trace is tr:
                outs.append((<Tracer>o).slot)
                o = (<Tracer>o).value
            else:
                check_value("vjp", o)
                outs.append(None)
            results.append(o)
            shapes.append(aval_of(o) if outs[i] is not None and on_host(o) else o)
    finally:
        tr.close()
        if scope is not None:
            scope.__exit__(None, None, None)
    back = Pullback.__new__(Pullback)
    back.outs, back.shapes, back.leaves, back.values = outs, shapes, nodes, values
    back.in_def, back.out_def, back.mutex = d, out_def, threading.Lock()
    out = unflatten(out_def, results)
    return (out, back, aux) if has_aux else (out, back)


def jvp_door(f, tuple primals, tuple tangents, bint has_aux, str who="jvp"):
    """``(outputs, tangents)`` or, with has_aux, ``(outputs, tangents, aux)``."""
    cdef JvpTrace tr = JvpTrace.__new__(JvpTrace)
    cdef list leaves, ts, tracers = [], values = [], ys = [], outs = []
    cdef object out, aux = None
    leaves, d = flatten(primals, True)
    require_leaves(who, leaves, d, "primals")
    ts = flatten_like(tangents, d)
    if ts is None:
        raise TreeError(f"{who}: `tangents` must have the structure of `primals`, {d}, got {flatten(tangents)[1]}.")
    for i in range(len(leaves)):
        v = leaf_value(who, leaves[i], d, i, "primals")
        t = ts[i]
        if not (cnp.PyArray_CheckExact(t) and cnp.PyArray_CheckExact(v)
                and cnp.PyArray_TYPE(t) == cnp.PyArray_TYPE(v) and same_shape(t, v)):
            t = _tangent_value(who, t, v, place(d, i, "tangents"))
        values.append(v)
        tracers.append(new_jvp_tracer(tr, v, t, FLAG_ARGUMENT))
    args = unflatten(d, tracers)
    scope = None if all_on_host(values) else _device_scope(values)
    if scope is not None:
        scope.__enter__()
    try:
        out = call(who, f, args, None, has_list_of_floats(primals, 0))
        if has_aux:
            if not isinstance(out, tuple) or len(out) != 2:
                raise TypeError(f"{who}: with has_aux=True the function must return (value, aux), "
                                f"got {type(out).__name__}.")
            out, aux = out
            aux = plain_tree(who, aux, tr)
        flat, out_def = flatten(out)
        for o in flat:
            check_output(who, o, tr)
            if isinstance(o, Tracer) and (<Tracer>o).trace is tr:
                ys.append((<Tracer>o).value)
                outs.append((<Tracer>o).slot)
            else:
                check_value(who, o)
                ys.append(o)
                outs.append(_zeros(o, shape_of(o), dtype_of(o)) if is_inexact(typenum(o))
                            else _zeros(o, shape_of(o), np.dtype(np.float64)))
    finally:
        tr.alive = False
        if scope is not None:
            scope.__exit__(None, None, None)
    out, t = unflatten(out_def, ys), unflatten(out_def, outs)
    return (out, t, aux) if has_aux else (out, t)


def vmap_door(f, tuple args, dict kw, list axes, Py_ssize_t size, out_axes_of):
    """Call f on batch tracers. `axes` has an int or None for each leaf of (args, kw); out_axes_of(treedef) likewise."""
    cdef BatchTrace tr = BatchTrace.__new__(BatchTrace)
    cdef list leaves, inner = [], results = []
    cdef object v
    tr.size = size
    leaves, d = flatten((args, kw))
    for x, axis in zip(leaves, axes):
        if axis is None:
            inner.append(x)
            continue
        v = x if axis == 0 else _move_axis(x, axis, 0)
        inner.append(new_batch_tracer(tr, v, FLAG_ARGUMENT))
    call_args, call_kw = unflatten(d, inner)
    try:
        out = call("vmap", f, call_args, call_kw, False)
        flat, out_def = flatten(out)
        out_axes = out_axes_of(out_def)
        for o, axis in zip(flat, out_axes):
            check_output("vmap", o, tr)
            if isinstance(o, Tracer) and (<Tracer>o).trace is tr:
                if axis is None:
                    raise ShapeError("vmap: an output with `out_axes` None must not depend on a mapped argument, and "
                                     "this one does. Reduce it outside of vmap, or give it an axis.")
                v = (<Tracer>o).value
                results.append(v if axis == 0 else _move_axis(v, 0, axis))
            elif axis is None:
                results.append(o)
            else:
                check_value("vmap", o)
                v = _expand_batch(o, size)
                results.append(v if axis == 0 else _move_axis(v, 0, axis))
    finally:
        tr.alive = False
    return unflatten(out_def, results)


def stage_door(f, tuple args, str who="stage", bint by_reference=False, bint branch=False, bint weak=False):
    """``(recording, outputs, out_def)``: f with a variable for each leaf of args; an output is a Var or a scalar.

    With `weak` Python numbers among the leaves become weak variables; what stands for such one is weak anyhow.
    With `branch` nothing runs now that has a traced operand, a tracer that f closes over included.
    """
    cdef StageTrace tr = StageTrace.__new__(StageTrace)
    cdef object around = None
    cdef list leaves, tracers = [], outputs = []
    cdef Var v
    tr.kind, tr.recording.by_reference = who, by_reference
    leaves, d = flatten(args)
    for x in leaves:
        v = tr.recording.new(shape_of(x), dtype_of(x))
        v.weak = is_weak(x) or (weak and type(x) in (float, int, complex))
        tr.recording.inputs.append(v)
        tracers.append(new_stage_tracer(tr, v, FLAG_ARGUMENT))
    if branch:
        around = getattr(_innermost_branch, "trace", None)
        _innermost_branch.trace = tr
        add_branches(1)
    try:
        out = call(who, f, unflatten(d, tracers), None, False)
        flat, out_def = flatten(out)
        for o in flat:
            check_output(who, o, tr)
            check_value(who, o)
            outputs.append(tr.operand(o))
    finally:
        tr.alive = False
        if branch:
            _innermost_branch.trace = around
            add_branches(-1)
    return tr.recording, outputs, out_def


for _cls in (Tracer, GradTracer, JvpTracer, BatchTracer, StageTracer, JetTracer):
    hide_sequence(_cls)
del _cls
