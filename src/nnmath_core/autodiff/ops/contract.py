"""The one product: a two-operand einsum. matmul, dot, outer, tensordot and einsum are spellings of it.

``contract(x, y, spec=(a, b, o))`` labels the axes of x, y and the output with letters: shared letters that the output
lacks are summed. Its derivative rules and its batching rule are arithmetic on labels.
"""

from __future__ import annotations

import functools
import operator
import string

import numpy as np

from nnmath_core._ext._autodiff import alias, mark_fresh
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    as_operand,
    constant,
    dropped,
    dtype_of,
    implements,
    methods,
    ndim_of,
    normal_axis,
    refuse,
    result_dtype,
    shape_of,
    ufunc_methods,
    ufuncs,
)
from nnmath_core.autodiff.ops.elementwise import conjugated
from nnmath_core.autodiff.ops.reduce import _spread, sum_p
from nnmath_core.autodiff.ops.shape import moveaxis, ravel, reshape_p, transpose_p
from nnmath_core.autodiff.primitive import Primitive, sample
from nnmath_core.errors import ShapeError

__all__ = [
    "contract",
    "diag",
    "diagonal",
    "dot",
    "einsum",
    "inner",
    "matmul",
    "matvec",
    "outer",
    "tensordot",
    "trace",
    "vdot",
    "vecdot",
    "vecmat",
]


# ---------------------------------------------------------------------------------------------- contract
@functools.lru_cache(maxsize=1024)
def _transposed_spec(spec, i):
    """Labels of the product that gives operand i's cotangent, and its axes that were summed away alone."""
    a, b, o = spec
    mine, other = (a, b) if i == 0 else (b, a)
    have = set(o) | set(other)
    target = "".join(c for c in mine if c in have)
    return (o, other, target), tuple(k for k, c in enumerate(mine) if c not in have)


def _contract_rule(i):
    def rule(g, xs, y, *, spec):
        back, lonely = _transposed_spec(spec, i)
        r = contract(g, xs[1 - i], spec=back)
        return _spread(r, xs[i].shape, lonely, False) if lonely else r

    return rule


def _contract_shape(x, y, *, spec):
    length = dict(zip(spec[0], x.shape, strict=True)) | dict(zip(spec[1], y.shape, strict=True))
    return Aval(tuple(length[c] for c in spec[2]), result_dtype(x, y))


def _contract_batch(on, v, size, *, spec):
    a, b, o = spec
    z = next(c for c in string.ascii_letters if c not in a + b + o)
    return contract(*v, spec=(z + a if on[0] else a, z + b if on[1] else b, z + o))


contract = Primitive(
    "contract",
    multilinear=True,
    vjp=(_contract_rule(0), _contract_rule(1)),
    keeps=("1", "0"),
    shape=_contract_shape,
    batch=_contract_batch,
    samples=lambda d: [
        sample(d.normal(3, 4), d.normal(4, 2), spec=("ij", "jk", "ik")),
        sample(d.normal(2, 3, 4), d.normal(2, 4, 3), spec=("bij", "bjk", "kib")),
        sample(d.normal(4), d.normal(4), spec=("i", "i", "")),
        sample(d.normal(3), d.normal(2), spec=("i", "j", "ij")),
        sample(d.normal(3, 2), d.normal(3, 4), spec=("ij", "ik", "i")),
        sample(d.normal(3, 0), d.normal(0, 2), spec=("ij", "jk", "ik")),
    ],
)


# ---------------------------------------------------------------------------------------------- diagonals
def _diagonal_index(shape, k):
    """Index of the k-th diagonal of the last two axes."""
    m, n = shape[-2:]
    start = (0, k) if k >= 0 else (-k, 0)
    length = max(min(m - start[0], n - start[1]), 0)
    return (..., np.arange(start[0], start[0] + length), np.arange(start[1], start[1] + length))


def _embed_forward(be, g, *, k, shape):
    index = tuple(i if i is ... else be.from_host(i) for i in _diagonal_index(shape, k))
    return be.index_put(shape, dtype_of(g), index, g)


diagonal_p = Primitive(
    "diagonal",
    forward=lambda be, x, *, k: be.xp.diagonal(x, k, -2, -1),
    linear=True,
    view=True,
    vjp=(lambda g, xs, y, *, k: embed_diagonal_p(g, k=k, shape=xs[0].shape),),
    keeps=("",),
    selects=lambda i, xs, y, *, k: embed_diagonal_p(np.ones(y.shape, bool), k=k, shape=xs[0].shape),
    through=lambda m, i, xs, y, *, k: embed_diagonal_p(m, k=k, shape=xs[0].shape),
    shape=lambda x, *, k: Aval((*x.shape[:-2], len(_diagonal_index(x.shape, k)[1])), dtype_of(x)),
    batch=lambda on, v, size, *, k: diagonal_p(v[0], k=k),
    samples=lambda d: [
        sample(d.normal(3, 4), k=0),
        sample(d.normal(2, 3, 3), k=-1),
        sample(d.normal(2, 4), k=2),
    ],
)
embed_diagonal_p = Primitive(
    "embed_diagonal",
    forward=_embed_forward,
    linear=True,
    vjp=(lambda g, xs, y, *, k, shape: diagonal_p(g, k=k),),
    keeps=("",),
    through=lambda m, i, xs, y, *, k, shape: diagonal_p(m, k=k),
    shape=lambda g, *, k, shape: Aval(shape, dtype_of(g)),
    batch=lambda on, v, size, *, k, shape: embed_diagonal_p(v[0], k=k, shape=(size, *shape)),
    samples=lambda d: [
        sample(d.normal(3), k=0, shape=(3, 3)),
        sample(d.normal(2, 2), k=1, shape=(2, 3, 3)),
    ],
)


@implements(np.diagonal)
def diagonal(a, offset=0, axis1=0, axis2=1):
    """NumPy's ``diagonal``."""
    n = ndim_of(a)
    if n < 2:
        raise ValueError("diag requires an array of at least two dimensions")
    i, j = normal_axis("diagonal", axis1, n), normal_axis("diagonal", axis2, n)
    return diagonal_p(moveaxis(a, (i, j), (-2, -1)), k=operator.index(offset))


@implements(np.diag)
def diag(v, k=0):
    """NumPy's ``diag``: the diagonal of a matrix, or the matrix of a diagonal."""
    s = shape_of(v)
    if len(s) == 2:
        return diagonal(v, k)
    if len(s) != 1:
        raise ValueError("Input must be 1- or 2-d.")
    n = s[0] + abs(k)
    return embed_diagonal_p(v, k=k, shape=(n, n))


@implements(np.trace)
def trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None):
    """NumPy's ``trace``."""
    refuse("trace", out=(out, None), dtype=(dtype, None))
    d = diagonal(alias(a), offset, axis1, axis2)
    return sum_p(d, axis=(ndim_of(d) - 1,), keepdims=False)


# ---------------------------------------------------------------------------------------------- products
def _mismatch(who, sa, sb, what):
    return ShapeError(f"{who}: {what}, got shapes {sa} and {sb}.")


def _arrays(*xs):
    """Lists and numbers as arrays, numbers on the device of the others."""
    xs = [as_operand(x) for x in xs]
    like = next((x for x in xs if hasattr(x, "dtype")), 0.0)
    return [x if hasattr(x, "dtype") else constant(like, (), x, dtype_of(x)) for x in xs]


@implements(np.matmul)
def matmul(x1, x2, /):
    """NumPy's ``matmul``."""
    x1, x2 = as_operand(x1), as_operand(x2)
    sa, sb = shape_of(x1), shape_of(x2)
    if not sa or not sb:
        raise _mismatch(
            "matmul", sa, sb, "operands must have at least one axis; for a scalar write a * b"
        )
    if sa[-1] != sb[-1 if len(sb) == 1 else -2]:
        raise _mismatch("matmul", sa, sb, "the last axis of the first operand must have the length of the "
                        + ("only" if len(sb) == 1 else "second to last") + " axis of the second")  # fmt: skip
    if len(sa) <= 2 and len(sb) <= 2:
        a, b = ("j", "ij")[len(sa) - 1], ("j", "jk")[len(sb) - 1]
        return contract(x1, x2, spec=(a, b, "".join(c for c in a + b if c != "j")))
    try:
        lead = np.broadcast_shapes(sa[:-2], sb[:-2])
    except ValueError:
        raise _mismatch("matmul", sa, sb, "the leading axes must broadcast") from None
    letters = string.ascii_letters[: len(lead)]
    x1, la = _stack_side(x1, sa, "YZ"[2 - min(len(sa), 2) :], lead, letters)
    x2, lb = _stack_side(x2, sb, "ZX" if len(sb) > 1 else "Z", lead, letters)
    return contract(
        x1, x2, spec=(la, lb, letters + ("Y" if len(sa) > 1 else "") + ("X" if len(sb) > 1 else ""))
    )


def _stack_side(x, s, tail, lead, letters):
    """One operand of a stacked product: axes of length 1 that broadcast are dropped, all others labelled."""
    k = len(s) - len(tail)
    labels, drop = [], []
    for i in range(k):
        at = len(lead) - k + i
        if s[i] == 1 and lead[at] != 1:
            drop.append(i)
        else:
            labels.append(letters[at])
    if drop:
        x = reshape_p(alias(x), shape=tuple(n for i, n in enumerate(s) if i not in drop))
    return x, "".join(labels) + tail


def matvec(x1, x2, /):
    """A matrix (or a stack) times a vector (or a stack), NumPy's ``matvec``."""
    return einsum("...ij,...j->...i", x1, x2)


def vecmat(x1, x2, /):
    """The conjugate of a vector (or a stack) times a matrix (or a stack), NumPy's ``vecmat``."""
    return einsum("...i,...ij->...j", conjugated(as_operand(x1)), x2)


@implements(np.dot)
def dot(a, b, out=None):
    """NumPy's ``dot``."""
    refuse("dot", out=(out, None))
    a, b = as_operand(a), as_operand(b)
    na, nb = ndim_of(a), ndim_of(b)
    if na == 0 or nb == 0:
        return a * b
    if na <= 2 and nb <= 2:
        return matmul(a, b)
    return tensordot(a, b, ((na - 1,), (max(nb - 2, 0),)))


@implements(np.tensordot)
def tensordot(a, b, axes=2):
    """NumPy's ``tensordot``."""
    a, b = _arrays(a, b)
    na, nb = ndim_of(a), ndim_of(b)
    if isinstance(axes, (int, np.integer)):
        axes = (tuple(range(na - axes, na)), tuple(range(axes)))
    ax, bx = (tuple(t) if isinstance(t, (tuple, list)) else (t,) for t in axes)
    ax = tuple(normal_axis("tensordot", i, na) for i in ax)
    bx = tuple(normal_axis("tensordot", i, nb) for i in bx)
    if len(ax) != len(bx) or any(
        shape_of(a)[i] != shape_of(b)[j] for i, j in zip(ax, bx, strict=True)
    ):
        raise _mismatch(
            "tensordot",
            shape_of(a),
            shape_of(b),
            f"axes {ax} of the first must match axes {bx} of the second",
        )
    la = list(string.ascii_lowercase[:na])
    lb = list(string.ascii_uppercase[:nb])
    for i, j in zip(ax, bx, strict=True):
        lb[j] = la[i]
    out = [c for i, c in enumerate(la) if i not in ax] + [
        c for j, c in enumerate(lb) if j not in bx
    ]
    return contract(a, b, spec=("".join(la), "".join(lb), "".join(out)))


@implements(np.outer)
def outer(a, b, out=None):
    """NumPy's ``outer``."""
    refuse("outer", out=(out, None))
    a, b = _arrays(a, b)
    return contract(ravel(alias(a)), ravel(alias(b)), spec=("i", "j", "ij"))


@implements(np.inner)
def inner(a, b, /):
    """NumPy's ``inner``."""
    if ndim_of(a) == 0 or ndim_of(b) == 0:
        return a * b
    return tensordot(a, b, ((ndim_of(a) - 1,), (ndim_of(b) - 1,)))


@implements(np.vdot)
def vdot(a, b, /):
    """NumPy's ``vdot``: the conjugate of the first operand times the second, both flattened."""
    a, b = _arrays(a, b)
    return matmul(ravel(conjugated(alias(a))), ravel(alias(b)))


def vecdot(x1, x2, /, *, axis=-1):
    """Dot products along an axis, the first operand conjugated."""
    x1, x2 = (moveaxis(alias(as_operand(x)), axis, -1) for x in (x1, x2))
    return einsum("...i,...i->...", conjugated(x1), x2)


ufuncs.update(
    {
        getattr(np, f.__name__): f
        for f in (matvec, vecmat, vecdot)
        if hasattr(np, f.__name__)  # the first two came with NumPy 2.2
    }
)


# ---------------------------------------------------------------------------------------------- einsum
def _parse(subscripts, shapes):
    """Labels of each operand and of the output, ellipses replaced by letters; errors name the label."""
    text = subscripts.replace(" ", "")
    left, arrow, out = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(shapes):
        raise ValueError(
            f"einsum: {subscripts!r} names {len(parts)} operands and {len(shapes)} were given."
        )
    used = set(text) - set(",.->")
    for c in used:
        if not c.isalpha():
            raise ValueError(
                f"einsum: invalid character {c!r} in {subscripts!r}; labels are letters."
            )
    free = [c for c in string.ascii_letters if c not in used]
    width = 0
    for part, s in zip(parts, shapes, strict=True):
        if "..." in part:
            width = max(width, len(s) - len(part.replace("...", "")))
    dots = "".join(free[:width])
    labels, length = [], {}
    for k, (part, s) in enumerate(zip(parts, shapes, strict=True)):
        if "..." in part:
            n = len(s) - len(part.replace("...", ""))
            part = part.replace("...", dots[width - n :] if n > 0 else "")
        if len(part) != len(s):
            raise ShapeError(
                f"einsum: operand {k} has {len(s)} axes and {parts[k]!r} names {len(part)}."
            )
        for c, n in zip(part, s, strict=True):
            if length.setdefault(c, n) != n and 1 not in (n, length[c]):
                raise ShapeError(
                    f"einsum: label {c!r} has length {length[c]} before and {n} in operand {k} of {subscripts!r}."
                )
            length[c] = max(length[c], n) if 0 not in (n, length[c]) else 0
        labels.append(part)
    if arrow:
        out = out.replace("...", dots)
    else:
        every = "".join(labels)
        out = dots + "".join(sorted(c for c in set(every) if every.count(c) == 1 and c not in dots))
    for c in out:
        if c not in length or out.count(c) > 1:
            why = "is not in any operand" if c not in length else "is repeated in the output"
            raise ValueError(f"einsum: output label {c!r} of {subscripts!r} {why}.")
    return labels, out, length


def _without_repeats(x, labels, length):
    """One operand with each label once (diagonals taken) and axes of length 1 that broadcast dropped."""
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            i = labels.index(c)
            j = labels.index(c, i + 1)
            if shape_of(x)[i] != shape_of(x)[j]:
                raise ShapeError(
                    f"einsum: label {c!r} is repeated with lengths {shape_of(x)[i]} and {shape_of(x)[j]}."
                )
            x = diagonal(x, 0, i, j)
            labels = "".join(k for a, k in enumerate(labels) if a not in (i, j)) + c
    s = shape_of(x)
    ones = [i for i, c in enumerate(labels) if s[i] == 1 and length[c] != 1]
    if ones:
        x = reshape_p(x, shape=dropped(s, tuple(ones)))
        labels = "".join(c for i, c in enumerate(labels) if i not in ones)
    return x, labels


def _path(labels, out, length):
    """Pairs of operands to contract, in NumPy's greedy order."""
    if len(labels) <= 2:
        return [(0, 1)] * (len(labels) - 1)
    dummies = [np.broadcast_to(0.0, tuple(length[c] for c in part)) for part in labels]
    path, _ = np.einsum_path(",".join(labels) + "->" + out, *dummies, optimize="greedy")
    pairs = []
    for group in path[1:]:
        group = list(group)
        # a group of three or more: two at a time, from the left
        while len(group) > 2:
            pairs.append((group[0], group[1]))
            n = len(labels) - len(pairs)
            group = [i - sum(j < i for j in group[:2]) for i in group[2:]] + [n - 1]
        if len(group) == 2:
            pairs.append(tuple(sorted(group)))
    return pairs


@implements(np.einsum)
def einsum(
    subscripts, /, *operands, out=None, optimize=True, dtype=None, order="K", casting="safe"
):
    """NumPy's ``einsum``: implicit and explicit outputs, ellipses, repeated labels; the order is planned."""
    refuse("einsum", out=(out, None), dtype=(dtype, None))
    if not isinstance(subscripts, str):
        raise TypeError("einsum: write the subscripts as a string, like 'ij,jk->ik'.")
    xs = _arrays(*operands)
    xs = [alias(x) for x in xs] if len(xs) > 1 else xs  # of one operand the result may be a view
    labels, result, length = _parse(subscripts, [shape_of(x) for x in xs])
    pairs = [_without_repeats(x, part, length) for x, part in zip(xs, labels, strict=True)]
    for i, j in _path([p for _, p in pairs], result, length):
        (x, a), (y, b) = pairs[i], pairs[j]
        rest = [p for k, p in enumerate(pairs) if k not in (i, j)]
        needed = set(result).union(*(p for _, p in rest)) if rest else set(result)
        o = "".join(c for c in dict.fromkeys(a + b) if c in needed)
        o = result if not rest and set(o) == set(result) else o
        pairs = [*rest, (contract(x, y, spec=(a, b, o)), o)]
    x, a = pairs[0]
    gone = tuple(i for i, c in enumerate(a) if c not in result)
    if gone:
        x, a = sum_p(x, axis=gone, keepdims=False), "".join(c for c in a if c in result)
    missing = [c for c in result if c not in a]  # labels whose only axes had length 1 elsewhere
    if missing:
        x = reshape_p(x, shape=(*shape_of(x), *([1] * len(missing))))
        a += "".join(missing)
    if a != result:
        x = transpose_p(x, axes=tuple(a.index(c) for c in result))
    return mark_fresh(x) if len(xs) > 1 or gone else x


def _outer_method(p):
    def f(a, b, /):
        a = reshape_p(a, shape=(*shape_of(a), *([1] * ndim_of(b))))
        return p(a, b)

    return f


for _u in (np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum, np.power):
    ufunc_methods[(_u, "outer")] = _outer_method(ufuncs[_u])

methods.update({"dot": dot, "trace": trace, "diagonal": diagonal})
