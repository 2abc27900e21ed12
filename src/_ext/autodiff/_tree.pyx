"""Trees: nested dicts, lists, tuples, named tuples, None and dataclasses, whose leaves are everything else.

What a type is (its kind and, for a dataclass, its field names) is looked up once and cached. A `TreeDef`
is hashable and compares by structure, so that it can be the key of a cache. `flatten_like` walks a tree beside a
known structure and builds nothing, which is what a call in a loop needs.

In a dataclass, fields marked `metadata={"static": True}` and fields that hold no array (a string, an integer, a
function, a tuple of integers) belong to the structure; all others are children. A dataclass is rebuilt without
`__init__`, because the leaves may be tracers, for which a check in `__post_init__` would fail.
"""

cimport cython
from collections import OrderedDict, defaultdict

from nnmath_core.errors import TreeError

cdef enum Kind:
    LEAF = 0
    NONE = 1
    LIST = 2
    TUPLE = 3
    DICT = 4
    DATACLASS = 5
    NAMEDTUPLE = 6

cdef dict _kinds = {list: LIST, tuple: TUPLE, dict: DICT, OrderedDict: DICT, type(None): NONE}
cdef dict _fields = {}                    # dataclass -> (names of children, names of declared static fields)
cdef object _set = object.__setattr__
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
    cdef object static                    # ((name, value), ...) of a dataclass, default_factory of a defaultdict
    cdef readonly Py_ssize_t num_leaves
    cdef Py_hash_t _hash

    def __hash__(self):
        if self._hash == 0:
            # static values may be unhashable; equality looks at them, the hash need not
            self._hash = hash((<int>self.kind, self.type, self.keys, self.children)) or 1
        return self._hash

    def __eq__(self, other):
        cdef TreeDef o
        if self is other:
            return True
        if type(other) is not TreeDef:
            return False
        o = <TreeDef>other
        return (self.kind == o.kind and self.type is o.type and self.num_leaves == o.num_leaves
                and self.keys == o.keys and self.children == o.children and same_static(self.static, o.static))

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


cdef bint same_static(object a, object b):
    if a is b:
        return True
    if a is None or b is None:
        return False
    try:
        return bool(a == b)
    except (TypeError, ValueError):        # an array among the static values: no truth value
        return False


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
    names = d.keys if d.kind == DATACLASS else d.type._fields
    return d.type.__name__ + "(" + ", ".join([f"{k}={render(c)}" for k, c in zip(names, d.children)]) + ")"


cdef TreeDef make(Kind kind, object type_, tuple keys, tuple children, object static):
    cdef TreeDef d = TreeDef.__new__(TreeDef)
    cdef TreeDef c
    d.kind, d.type, d.keys, d.children, d.static, d._hash = kind, type_, keys, children, static, 0
    d.num_leaves = 1 if kind == LEAF else 0
    for c in children:
        d.num_leaves += c.num_leaves
    return d

cdef TreeDef _leaf = make(LEAF, None, (), (), None)
cdef TreeDef _none = make(NONE, None, (), (), None)
leaf_def = _leaf


cdef Kind kind_of(object t) except *:
    k = _kinds.get(t)
    if k is not None:
        return k
    if "__dataclass_fields__" in dir(t) and hasattr(t, "__dataclass_fields__"):
        fields = [f for f in t.__dataclass_fields__.values() if f._field_type.name == "_FIELD"]
        _fields[t] = (tuple([f.name for f in fields if not f.metadata.get("static")]),
                      tuple([f.name for f in fields if f.metadata.get("static")]))
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


cdef bint holds_array(list leaves, Py_ssize_t start):
    """Whether a leaf from `start` on is a number with a derivative or an array (not an int, a string, a function)."""
    cdef Py_ssize_t i
    for i in range(start, len(leaves)):
        x = leaves[i]
        if isinstance(x, float) or hasattr(x, "shape"):
            return True
    return False


cdef TreeDef walk(object x, list out, int depth):
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
            children.append(walk((<dict>x)[key], out, depth + 1))
        return make(DICT, t, keys, tuple(children), x.default_factory if issubclass(t, defaultdict) else None)
    if k == DATACLASS:
        names, static = [], [(s, getattr(x, s)) for s in (<tuple>_fields[t])[1]]
        for name in (<tuple>_fields[t])[0]:
            v = getattr(x, name)
            mark = len(out)
            c = walk(v, out, depth + 1)
            if c.kind == NONE or holds_array(out, mark):
                names.append(name)
                children.append(c)
            else:
                del out[mark:]
                static.append((name, v))
        return make(DATACLASS, t, tuple(names), tuple(children), tuple(static))
    for v in x:
        children.append(walk(v, out, depth + 1))
    return make(k, t, (), tuple(children), None)


def flatten(tree):
    """``(leaves, treedef)``: the leaves in order (dict keys sorted) and the structure."""
    cdef list out = []
    d = walk(tree, out, 0)
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
        return same_static(d.static, tuple([(s, getattr(x, s)) for s, _ in d.static]))
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


cdef object build(TreeDef d, list leaves, Py_ssize_t *at):
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
            r[d.keys[i]] = build(<TreeDef>d.children[i], leaves, at)
        if d.type is dict:
            return r
        return d.type(d.static, r) if issubclass(d.type, defaultdict) else d.type(r)
    if d.kind == DATACLASS:
        o = d.type.__new__(d.type)
        for i in range(len(d.keys)):
            _set(o, d.keys[i], build(<TreeDef>d.children[i], leaves, at))
        for name, v in d.static:
            _set(o, name, v)
        return o
    items = [build(<TreeDef>c, leaves, at) for c in d.children]
    if d.kind == LIST:
        return items
    return tuple(items) if d.kind == TUPLE else d.type(*items)


def unflatten(TreeDef treedef, leaves):
    """The tree of structure `treedef` with these leaves (a list or any iterable of the right length)."""
    cdef Py_ssize_t at = 0
    cdef list items = leaves if type(leaves) is list else list(leaves)
    if len(items) != treedef.num_leaves:
        raise TreeError(f"unflatten: `leaves` must have {treedef.num_leaves} items, one for each leaf of {treedef}, "
                        f"got {len(items)}.")
    return build(treedef, items, &at)


def paths(TreeDef treedef, str prefix=""):
    """The key path of each leaf, like ``.layers[0]['w']``; built only when a message needs it."""
    if treedef.kind == LEAF:
        return [prefix]
    r = []
    for i, c in enumerate(treedef.children):
        if treedef.kind == DICT:
            step = f"[{treedef.keys[i]!r}]"
        elif treedef.kind == DATACLASS:
            step = f".{treedef.keys[i]}"
        elif treedef.kind == NAMEDTUPLE:
            step = f".{treedef.type._fields[i]}"
        else:
            step = f"[{i}]"
        r += paths(c, prefix + step)
    return r
