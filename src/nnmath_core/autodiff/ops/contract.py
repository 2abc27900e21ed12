"""The one product: a two-operand einsum. matmul, dot, outer, tensordot and einsum are spellings of it.

``contract(x, y, spec=(a, b, o))`` labels the axes of x, y and the output with letters: shared letters that the output
lacks are summed. Its derivative rules and its batching rule are arithmetic on labels.
"""

from __future__ import annotations

import functools
import itertools
import operator
import string

import numpy as np

from nnmath_core._ext._autodiff import alias
from nnmath_core.autodiff.ops.axes import spread
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    as_operand,
    constant,
    dtype_of,
    implements,
    methods,
    ndim_of,
    normal_axis,
    operands,
    refuse,
    result_dtype,
    shape_of,
    ufunc_methods,
    ufuncs,
)
from nnmath_core.autodiff.ops.elementwise import conjugated, multiply
from nnmath_core.autodiff.ops.matrices import is_structured, product
from nnmath_core.autodiff.ops.reduce import sum
from nnmath_core.autodiff.ops.shape import moveaxis, ravel, reshape_p
from nnmath_core.autodiff.primitive import Primitive, sample
from nnmath_core.errors import ShapeError

__all__ = [
    "contract",
    "diag",
    "diagonal",
    "dot",
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
        return spread(r, xs[i].shape, lonely, False) if lonely else r

    return rule


def _contract_shape(x, y, *, spec):
    length = dict(zip(spec[0], x.shape, strict=True)) | dict(zip(spec[1], y.shape, strict=True))
    return Aval(tuple(length[c] for c in spec[2]), result_dtype(x, y))


def _contract_batch(on, v, size, *, spec):
    a, b, o = spec
    z = next(c for c in map(chr, itertools.count(97)) if c.isalpha() and c not in a + b + o)
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
    refuse("trace", out=(out, None))
    d = diagonal(alias(as_operand(a)), offset, axis1, axis2)
    return sum(d, axis=-1, dtype=dtype)


# ---------------------------------------------------------------------------------------------- products
def _mismatch(who, sa, sb, what):
    return ShapeError(f"{who}: {what}, got shapes {sa} and {sb}.")


def operand_arrays(*xs):
    """Lists and numbers as arrays, numbers on the device of the others."""
    xs = operands(*xs)
    like = next((x for x in xs if hasattr(x, "dtype")), 0.0)
    return [x if hasattr(x, "dtype") else constant(like, (), x, dtype_of(x)) for x in xs]


@implements(np.matmul)
def matmul(x1, x2, /):
    """NumPy's ``matmul``."""
    x1, x2 = as_operand(x1), as_operand(x2)
    if is_structured(x1) or is_structured(x2):
        return product(x1, x2)
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
    rows, columns = "Y" if len(sa) > 1 else "", "X" if len(sb) > 1 else ""
    return _stacked("matmul", x1, x2, rows + "Z", "Z" + columns, rows + columns)


def _stacked(who, x1, x2, tail1, tail2, out):
    """A product of the last axes of stacks whose leading axes broadcast."""
    sa, sb = shape_of(x1), shape_of(x2)
    try:
        lead = np.broadcast_shapes(sa[: len(sa) - len(tail1)], sb[: len(sb) - len(tail2)])
    except ValueError:
        raise _mismatch(who, sa, sb, "the leading axes must broadcast") from None
    letters = string.ascii_lowercase[: len(lead)]
    x1, la = _stack_side(x1, sa, tail1, lead, letters)
    x2, lb = _stack_side(x2, sb, tail2, lead, letters)
    return contract(x1, x2, spec=(la, lb, letters + out))


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


def _require_core(who, x1, x2, n1, n2, axes):
    """Refuse operands without the axes of the product, and axes of two lengths."""
    sa, sb = shape_of(x1), shape_of(x2)
    if len(sa) < n1 or len(sb) < n2:
        raise _mismatch(who, sa, sb, f"the operands must have at least {n1} and {n2} axes")
    if sa[axes[0]] != sb[axes[1]]:
        raise _mismatch(who, sa, sb, "the axes that are summed must have one length")


def matvec(x1, x2, /):
    """A matrix (or a stack) times a vector (or a stack), NumPy's ``matvec``."""
    x1, x2 = as_operand(x1), as_operand(x2)
    _require_core("matvec", x1, x2, 2, 1, (-1, -1))
    return _stacked("matvec", x1, x2, "YZ", "Z", "Y")


def vecmat(x1, x2, /):
    """The conjugate of a vector (or a stack) times a matrix (or a stack), NumPy's ``vecmat``."""
    x1, x2 = conjugated(as_operand(x1)), as_operand(x2)
    _require_core("vecmat", x1, x2, 1, 2, (-1, -2))
    return _stacked("vecmat", x1, x2, "Z", "ZX", "X")


@implements(np.dot)
def dot(a, b, out=None):
    """NumPy's ``dot``."""
    refuse("dot", out=(out, None))
    a, b = as_operand(a), as_operand(b)
    na, nb = ndim_of(a), ndim_of(b)
    if is_structured(a) or is_structured(b):
        return product(a, b) if na and nb else multiply(a, b)
    if na == 0 or nb == 0:
        return a * b
    if na <= 2 and nb <= 2:
        return matmul(a, b)
    return tensordot(a, b, ((na - 1,), (max(nb - 2, 0),)))


@implements(np.tensordot)
def tensordot(a, b, axes=2):
    """NumPy's ``tensordot``."""
    a, b = operand_arrays(a, b)
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
    a, b = operand_arrays(a, b)
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
    a, b = operand_arrays(a, b)
    return matmul(ravel(conjugated(alias(a))), ravel(alias(b)))


def vecdot(x1, x2, /, *, axis=-1):
    """Dot products along an axis, the first operand conjugated."""
    x1, x2 = as_operand(x1), as_operand(x2)
    if ndim_of(x1) and ndim_of(x2):
        x1, x2 = (moveaxis(alias(x), axis, -1) for x in (x1, x2))
    _require_core("vecdot", x1, x2, 1, 1, (-1, -1))
    return _stacked("vecdot", conjugated(x1), x2, "Z", "Z", "")


ufuncs.update(
    {
        getattr(np, f.__name__): f
        for f in (matvec, vecmat, vecdot)
        if hasattr(np, f.__name__)  # the first two came with NumPy 2.2
    }
)


def _outer_method(p):
    def f(a, b, /):
        a = reshape_p(a, shape=(*shape_of(a), *([1] * ndim_of(b))))
        return p(a, b)

    return f


for _u in (np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum, np.power):
    ufunc_methods[(_u, "outer")] = _outer_method(ufuncs[_u])

methods.update({"dot": dot, "trace": trace, "diagonal": diagonal})
