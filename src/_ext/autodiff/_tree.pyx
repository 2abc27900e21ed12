"""Trees: nested dicts, lists, tuples, named tuples, None and dataclasses, whose leaves are everything else.

What a type is (its kind and, for a dataclass, its field names) is looked up once and cached. A `TreeDef`
is hashable and compares by structure, so that it can be the key of a cache. `flatten_like` walks a tree beside a
known structure and builds nothing, which is what a call in a loop needs.

In a dataclass the arrays are leaves and the rest is static, part of the structure: a field is a child when it holds an
array, a NumPy scalar, a tracer, a dataclass, a registered node, or a container with an array or a float somewhere
inside. A Python number, a string, None, a function, a tuple of integers and whatever is marked
`metadata={"static": True}` are static. A dataclass is rebuilt without `__init__`, because the leaves may be tracers,
for which a check in `__post_init__` would fail.

A field that is marked `metadata={"buffer": True}` holds statistics, which are arrays and no variables. `flatten` finds
them as it finds all arrays; with `variables` it leaves them in the structure, where they compare equal whatever they
are, so that a tree of gradients or moments has the structure of the parameters. `unflatten` puts them back, or zeros.

Types of other libraries are leaves unless they are registered: a function takes an instance apart into its children and
a `node`, which holds the rest, compares and hashes by it, and builds an instance from new children. Sparse matrices
are such nodes: the stored entries are the child, the pattern is the rest.
"""

cimport cython
from collections import OrderedDict, defaultdict
from functools import partial

import numpy as np

from nnmath_core.errors import TreeError

cdef enum Kind:
    LEAF = 0
    NONE = 1
    LIST = 2
    TUPLE = 3
    DICT = 4
    DATACLASS = 5
    NAMEDTUPLE = 6
    REGISTERED = 7

cdef dict _kinds = {list: LIST, tuple: TUPLE, dict: DICT, OrderedDict: DICT, type(None): NONE}
cdef dict _fields = {}                    # dataclass -> (names of children, of declared static fields, of buffers)
cdef dict _registered = {}                # type -> function: instance -> (names of children, children, node)
cdef object _foreign = None               # type -> such a function, False or None: asked once for each new type
cdef object _set = object.__setattr__
cdef frozenset _plain = frozenset([int, float, bool, str, type(None), type(lambda: 0)])
cdef enum:
    MAX_DEPTH = 200                       # a list that contains itself would overflow the C stack


@cython.final
@cython.freelist(64)
cdef class TreeDef:
    """The structure of a tree: kind and type of each node, keys, static fields, number of leaves."""
    cdef Kind kind
    cdef object type
    cdef readonly tuple keys              # dict keys or names of dataclass fields
    cdef readonly tuple children
    cdef object static                    # of a dataclass ((name, value), ...), else default_factory, or the node
    cdef readonly Py_ssize_t num_leaves
    cdef Py_hash_t _hash

    def __hash__(self):
        if self._hash == 0:
            static = tuple([(name, static_hash(v)) for name, v in self.static]) if self.kind == DATACLASS else None
            if self.kind == REGISTERED:
                static = self.static
            self._hash = hash((<int>self.kind, self.type, self.keys, self.children, static)) or 1
        return self._hash

    def __eq__(self, other):
        cdef TreeDef o
        if self is other:
            return True
        if type(other) is not TreeDef:
            return False
        o = <TreeDef>other
        return (self.kind == o.kind and self.type is o.type and self.num_leaves == o.num_leaves
                and self.keys == o.keys and self.children == o.children
                and (same_fields(self.static, o.static) if self.kind == DATACLASS else
                     self.static == o.static if self.kind == REGISTERED else self.static is o.static))

    def __repr__(self):
        return f"TreeDef({render(self)})"

    @property
    def node_type(self):
        """The container's type; None for a leaf and for None."""
        return self.type

    @property
    def is_leaf(self):
        return self.kind == LEAF

    @property
    def is_none(self):
        return self.kind == NONE

    @property
    def static_fields(self):
        """The static fields of a dataclass as ((name, value), ...), else None."""
        return self.static if self.kind == DATACLASS else None

    @property
    def static_floats(self):
        """The paths of all Python floats that a dataclass keeps in its structure, as `paths` writes them."""
        r = [f".{k}" for k, v in self.static if type(v) is float] if self.kind == DATACLASS else []
        for step, c in zip(steps(self), self.children):
            r += [step + path for path in (<TreeDef>c).static_floats]
        return r


@cython.final
cdef class _Held:
    """A buffer that stays in the structure."""
    cdef object value

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return "<buffer>"


cdef bint same_static(object a, object b, int depth=0):
    """Whether two static values are one and the same to every function of them: 1, 1.0 and True are not."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    try:
        if a == b or (type(a) is float and a != a and b != b):
            return True
    except (TypeError, ValueError):        # no truth value: an array in a field that is declared static
        pass
    parts, others = static_parts(a), static_parts(b)
    if parts is None or len(parts) != len(others) or depth > MAX_DEPTH:
        return False
    for v, w in zip(parts, others):
        if not same_static(v, w, depth + 1):
            return False
    return True


cdef tuple static_parts(object v):
    """What a value consists of that compares by identity although it need not; None of any other value.

    So two models that are made alike have one structure although their layers without arrays, and partials, are other
    objects. A lambda is not compared with another: what it does can depend on variables that have changed meanwhile.
    """
    cdef object t = type(v)
    if isinstance(v, (tuple, list)):
        return tuple(v)
    if t is partial:
        names = tuple(sorted(v.keywords))
        return (v.func, names, *v.args, *[v.keywords[name] for name in names])
    if kind_of(t) == DATACLASS and t.__eq__ is object.__eq__:
        return tuple([getattr(v, name) for name in t.__dataclass_fields__ if hasattr(v, name)])
    return None


cdef bint same_fields(tuple a, tuple b):
    if len(a) != len(b):
        return False
    for (name, v), (other, w) in zip(a, b):
        if name != other or not (type(v) is _Held or type(w) is _Held or same_static(v, w)):
            return False
    return True


cdef Py_hash_t static_hash(object v, int depth=0):
    """A hash that agrees with `same_static`; what has none is told apart by equality alone."""
    if type(v) is _Held or (type(v) is float and v != v):
        return 0
    parts = None if type(v) in _plain else static_parts(v)
    if parts is not None:
        return 0 if depth > MAX_DEPTH else hash(tuple([static_hash(w, depth + 1) for w in parts]))
    try:
        return hash(v)
    except TypeError:
        return 0


cdef str shown(object v):
    """A static value in a message, short."""
    if callable(v):
        return str(getattr(v, "__name__", type(v).__name__))
    text = repr(v)
    return text if len(text) <= 40 else text[:37] + "..."


cdef str render(TreeDef d):
    if d.kind == LEAF:
        return "*"
    if d.kind == NONE:
        return "None"
    if d.kind == LIST:
        return "[" + ", ".join([render(c) for c in d.children]) + "]"
    if d.kind == TUPLE:
        return "(" + ", ".join([render(c) for c in d.children]) + ("," if len(d.children) == 1 else "") + ")"
    if d.kind == DICT:
        return "{" + ", ".join([f"{k!r}: {render(c)}" for k, c in zip(d.keys, d.children)]) + "}"
    parts = {k: render(c) for k, c in zip(d.type._fields if d.kind == NAMEDTUPLE else d.keys, d.children)}
    if d.kind == DATACLASS:
        parts.update({k: shown(v) for k, v in d.static})
        parts = {k: parts[k] for k in d.type.__dataclass_fields__ if k in parts}
    text = ", ".join([f"{k}={v}" for k, v in parts.items()])
    return f"{d.type.__name__}({text}, {d.static!r})" if d.kind == REGISTERED else f"{d.type.__name__}({text})"


cdef TreeDef make(Kind kind, object type_, tuple keys, tuple children, object static):
    cdef TreeDef d = TreeDef.__new__(TreeDef)
    cdef TreeDef c
    d.kind, d.type, d.keys, d.children, d.static, d._hash = kind, type_, keys, children, static, 0
    d.num_leaves = 1 if kind == LEAF else 0
    for c in children:
        d.num_leaves += c.num_leaves
    return d


def register_node(type_, take_apart):
    """Make the instances of a type nodes: ``take_apart(x) -> (names of children, children, node)``.

    ``node.type`` is the type that a message names, ``node.build(children)`` makes an instance.
    """
    _registered[type_] = take_apart
    _kinds[type_] = REGISTERED


def install_foreign(f):
    """Hand in ``f(type)``, asked when a type is met for the first time.

    It returns a function for `register_node`, False for a leaf, or None where it knows nothing.
    """
    global _foreign
    _foreign = f
    for t in [t for t, kind in _kinds.items() if kind == LEAF or kind == DICT]:
        if t not in (dict, OrderedDict):
            del _kinds[t]                 # decided without it


cdef TreeDef _leaf = make(LEAF, None, (), (), None)
cdef TreeDef _none = make(NONE, None, (), (), None)
leaf_def = _leaf


cdef Kind kind_of(object t) except *:
    k = _kinds.get(t)
    if k is not None:
        return k
    take_apart = None if _foreign is None else _foreign(t)
    if take_apart is not None:
        kind = REGISTERED if take_apart else LEAF
        if take_apart:
            _registered[t] = take_apart
    elif "__dataclass_fields__" in dir(t) and hasattr(t, "__dataclass_fields__"):
        fields = [f for f in t.__dataclass_fields__.values() if f._field_type.name == "_FIELD"]
        _fields[t] = (tuple([f.name for f in fields if not f.metadata.get("static")]),
                      tuple([f.name for f in fields if f.metadata.get("static")]),
                      frozenset([f.name for f in fields if f.metadata.get("buffer")]))
        kind = DATACLASS
    elif issubclass(t, dict):
        kind = DICT
    elif issubclass(t, tuple) and hasattr(t, "_fields"):
        kind = NAMEDTUPLE
    else:
        kind = LEAF
    _kinds[t] = kind
    return kind


cdef tuple sorted_keys(dict d):
    try:
        return tuple(sorted(d))
    except TypeError:
        raise TreeError(
            "tree: the keys of a dict must be sortable among each other, got keys of types "
            f"{sorted({type(k).__name__ for k in d})}. Use strings, or integers, throughout.") from None


cdef bint is_array(object x):
    """Whether a leaf is an array: NumPy's scalars, tracers and arrays of other libraries are."""
    return hasattr(x, "shape") and not isinstance(x, (type, np.dtype))


cdef bint holds_array(list leaves, Py_ssize_t start):
    """Whether a leaf from `start` on is an array or a float (not an int, a string, a function)."""
    cdef Py_ssize_t i
    for i in range(start, len(leaves)):
        if isinstance(leaves[i], float) or is_array(leaves[i]):
            return True
    return False


cdef bint is_child(object v, TreeDef c, list out, Py_ssize_t mark):
    """Whether the field that holds v, whose leaves are in `out` from `mark` on, is a child of its dataclass."""
    if c.kind == LEAF:
        return is_array(v)
    return c.kind == DATACLASS or c.kind == REGISTERED or (c.kind != NONE and holds_array(out, mark))


cdef TreeDef walk(object x, list out, int depth, bint variables):
    cdef object t = type(x)
    cdef Kind k = kind_of(t)
    cdef Py_ssize_t mark
    cdef list children, names, static
    cdef tuple keys
    cdef TreeDef c
    if k == LEAF:
        out.append(x)
        return _leaf
    if k == NONE:
        return _none
    if depth > MAX_DEPTH:
        raise TreeError(f"tree: nested deeper than {MAX_DEPTH} levels. Does a list or dict contain itself?")
    children = []
    if k == DICT:
        keys = sorted_keys(<dict>x)
        for key in keys:
            children.append(walk((<dict>x)[key], out, depth + 1, variables))
        return make(DICT, t, keys, tuple(children), x.default_factory if issubclass(t, defaultdict) else None)
    if k == DATACLASS:
        names, static = [], [(s, getattr(x, s)) for s in (<tuple>_fields[t])[1]]
        for name in (<tuple>_fields[t])[0]:
            v = getattr(x, name)
            if variables and name in (<tuple>_fields[t])[2]:
                static.append((name, _Held(v)))
                continue
            mark = len(out)
            c = walk(v, out, depth + 1, variables)
            if is_child(v, c, out, mark):
                names.append(name)
                children.append(c)
            else:
                del out[mark:]
                static.append((name, v))
        return make(DATACLASS, t, tuple(names), tuple(children), tuple(static))
    if k == REGISTERED:
        keys, parts, node = _registered[t](x)
        for v in parts:
            children.append(walk(v, out, depth + 1, variables))
        return make(REGISTERED, node.type, keys, tuple(children), node)
    for v in x:
        children.append(walk(v, out, depth + 1, variables))
    return make(k, t, (), tuple(children), None)


def flatten(tree, bint variables=False):
    """``(leaves, treedef)``: the leaves in order (dict keys sorted) and the structure.

    With `variables` the leaves are what is differentiated and trained; the structure keeps the buffers.
    """
    cdef list out = []
    d = walk(tree, out, 0, variables)
    return out, d


cdef bint walk_like(object x, TreeDef d, list out):
    cdef Py_ssize_t i
    if d.kind == LEAF:
        if kind_of(type(x)) != LEAF:
            return False
        out.append(x)
        return True
    if d.kind == NONE:
        return x is None
    if d.kind == REGISTERED:
        if kind_of(type(x)) != REGISTERED:
            return False
        _, parts, node = _registered[type(x)](x)
        if len(parts) != len(d.children) or not (node is d.static or node == d.static):
            return False
        for i in range(len(d.children)):
            if not walk_like(parts[i], <TreeDef>d.children[i], out):
                return False
        return True
    if type(x) is not d.type:
        return False
    if d.kind == DICT:
        if len(<dict>x) != len(d.keys):
            return False
        for i in range(len(d.keys)):
            v = (<dict>x).get(d.keys[i], d)
            if v is d or not walk_like(v, <TreeDef>d.children[i], out):
                return False
        return True
    if d.kind == DATACLASS:
        for i in range(len(d.keys)):
            if not walk_like(getattr(x, d.keys[i]), <TreeDef>d.children[i], out):
                return False
        return same_fields(d.static, tuple([(s, getattr(x, s)) for s, _ in d.static]))
    if len(x) != len(d.children):
        return False
    i = 0
    for v in x:
        if not walk_like(v, <TreeDef>d.children[i], out):
            return False
        i += 1
    return True


def flatten_like(tree, TreeDef treedef):
    """The leaves of `tree` if it has the structure `treedef`, else None."""
    cdef list out = []
    return out if walk_like(tree, treedef, out) else None


cdef object zeros_of(object buffer, tuple shape):
    """A tree like a buffer whose arrays are zeros, with `shape` before their own."""
    leaves, d = flatten(buffer)
    return unflatten(d, [zeros_beside(x, shape + np.shape(x)) if is_array(x) else x for x in leaves])


cdef object zeros_beside(object x, tuple shape):
    """Zeros where x lives: CuPy's functions make arrays on the current device."""
    place = getattr(x, "device", None)
    if not hasattr(place, "__enter__"):
        return np.zeros_like(x, shape=shape)
    with place:
        return np.zeros_like(x, shape=shape)


cdef object build(TreeDef d, list leaves, Py_ssize_t *at, tuple zeros):
    cdef Py_ssize_t i
    cdef dict r
    cdef list items
    if d.kind == LEAF:
        v = leaves[at[0]]
        at[0] += 1
        return v
    if d.kind == NONE:
        return None
    if d.kind == DICT:
        r = {}
        for i in range(len(d.keys)):
            r[d.keys[i]] = build(<TreeDef>d.children[i], leaves, at, zeros)
        if d.type is dict:
            return r
        return d.type(d.static, r) if issubclass(d.type, defaultdict) else d.type(r)
    if d.kind == DATACLASS:
        o = d.type.__new__(d.type)
        for i in range(len(d.keys)):
            _set(o, d.keys[i], build(<TreeDef>d.children[i], leaves, at, zeros))
        for name, v in d.static:
            if type(v) is _Held:
                v = (<_Held>v).value if zeros is None else zeros_of((<_Held>v).value, zeros)
            _set(o, name, v)
        return o
    items = [build(<TreeDef>c, leaves, at, zeros) for c in d.children]
    if d.kind == REGISTERED:
        return d.static.build(items)
    if d.kind == LIST:
        return items
    return tuple(items) if d.kind == TUPLE else d.type(*items)


def unflatten(TreeDef treedef, leaves, tuple zeros=None):
    """The tree of structure `treedef` with these leaves (a list or any iterable of the right length).

    Buffers that the structure keeps come back; with `zeros`, a shape, as zeros with that shape before their own.
    """
    cdef Py_ssize_t at = 0
    cdef list items = leaves if type(leaves) is list else list(leaves)
    if len(items) != treedef.num_leaves:
        raise TreeError(f"unflatten: `leaves` must have {treedef.num_leaves} items, one for each leaf of {treedef}, "
                        f"got {len(items)}.")
    return build(treedef, items, &at, zeros)


cdef list steps(TreeDef d):
    """What leads from a node to each of its children, as it is written."""
    if d.kind == DICT:
        return [f"[{k!r}]" for k in d.keys]
    if d.kind == DATACLASS or d.kind == REGISTERED:
        return [f".{k}" for k in d.keys]
    if d.kind == NAMEDTUPLE:
        return [f".{k}" for k in d.type._fields]
    return [f"[{i}]" for i in range(len(d.children))]


def paths(TreeDef treedef, str prefix=""):
    """The key path of each leaf, like ``.layers[0]['w']``; built only when a message needs it."""
    if treedef.kind == LEAF:
        return [prefix]
    r = []
    for step, c in zip(steps(treedef), treedef.children):
        r += paths(c, prefix + step)
    return r
