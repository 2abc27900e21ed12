"""Reshaping, transposing, broadcasting, flipping, casting: what changes the frame and not the numbers."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import alias, mark_fresh
from nnmath_core.autodiff.ops.conventions import (
    Aval,
    as_first,
    as_operand,
    dtype_of,
    implements,
    is_traced,
    methods,
    ndim_of,
    normal_axes,
    normal_axis,
    placed,
    shape_of,
)
from nnmath_core.autodiff.primitive import REGISTRY, Primitive, sample
from nnmath_core.checks import require_in
from nnmath_core.errors import DtypeError

__all__ = [
    "astype",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_arrays",
    "broadcast_to",
    "expand_dims",
    "flip",
    "fliplr",
    "flipud",
    "imag",
    "matrix_transpose",
    "moveaxis",
    "permute_dims",
    "ravel",
    "real",
    "reshape",
    "squeeze",
    "stop_gradient",
    "swapaxes",
    "transpose",
]


# ---------------------------------------------------------------------------------------------- primitives
def _through_transpose(p_transpose):
    """A mask goes back the way the cotangent does."""
    return lambda m, i, xs, y, **params: p_transpose(m, xs, y, **params)


def _reshape_back(g, xs, y, *, shape):
    return reshape_p(g, shape=xs[0].shape)


reshape_p = Primitive(
    "reshape",
    forward=lambda be, x, *, shape: be.xp.reshape(x, shape),
    linear=True,
    view=True,
    vjp=(_reshape_back,),
    keeps=("",),
    through=_through_transpose(_reshape_back),
    shape=lambda x, *, shape: Aval(shape, dtype_of(x)),
    batch=lambda on, v, size, *, shape: reshape_p(v[0], shape=(size, *shape)),
    samples=lambda d: [
        sample(d.normal(3, 4), shape=(2, 6)),
        sample(d.normal(4), shape=(2, 1, 2)),
        sample(d.normal(), shape=(1, 1)),
        sample(d.normal(0, 3), shape=(3, 0)),
    ],
)


def _transpose_back(g, xs, y, *, axes):
    inverse = [0] * len(axes)
    for i, a in enumerate(axes):
        inverse[a] = i
    return transpose_p(g, axes=tuple(inverse))


transpose_p = Primitive(
    "transpose",
    forward=lambda be, x, *, axes: be.xp.transpose(x, axes),
    linear=True,
    view=True,
    vjp=(_transpose_back,),
    keeps=("",),
    through=_through_transpose(_transpose_back),
    shape=lambda x, *, axes: Aval(tuple(x.shape[a] for a in axes), dtype_of(x)),
    batch=lambda on, v, size, *, axes: transpose_p(v[0], axes=(0, *[a + 1 for a in axes])),
    samples=lambda d: [
        sample(d.normal(3, 4), axes=(1, 0)),
        sample(d.normal(2, 3, 4), axes=(2, 0, 1)),
        sample(d.normal(5), axes=(0,)),
        sample(d.normal(0, 2), axes=(1, 0)),
    ],
)


def _by_name(name):
    """A primitive declared in `reduce.py`, which imports this module."""
    return REGISTRY[name]


def sum_to(x, shape):
    """Sum x over the axes that broadcasting from ``shape`` added."""
    have = shape_of(x)
    if have == tuple(shape):
        return x
    lead = len(have) - len(shape)
    axes = tuple(range(lead)) + tuple(
        lead + i for i, n in enumerate(shape) if n == 1 and have[lead + i] != 1
    )
    if axes:
        x = _by_name("sum")(x, axis=axes, keepdims=False)
    return x if shape_of(x) == tuple(shape) else reshape_p(x, shape=tuple(shape))


def mask_to(m, shape):
    """A mask reduced by ``any`` over the axes that broadcasting from ``shape`` added."""
    have = shape_of(m)
    if have == tuple(shape):
        return m
    lead = len(have) - len(shape)
    axes = tuple(range(lead)) + tuple(
        lead + i for i, n in enumerate(shape) if n == 1 and have[lead + i] != 1
    )
    if axes:
        m = _by_name("any")(m, axis=axes, keepdims=False)
    return m if shape_of(m) == tuple(shape) else reshape_p(m, shape=tuple(shape))


def _batch_broadcast(on, v, size, *, shape):
    x, missing = v[0], len(shape) - (ndim_of(v[0]) - 1)
    if missing:
        s = shape_of(x)
        x = reshape_p(x, shape=(s[0], *([1] * missing), *s[1:]))
    return broadcast_to_p(x, shape=(size, *shape))


broadcast_to_p = Primitive(
    "broadcast_to",
    forward=lambda be, x, *, shape: be.xp.broadcast_to(x, shape),
    linear=True,
    view=True,
    vjp=(lambda g, xs, y, *, shape: sum_to(g, xs[0].shape),),
    keeps=("",),
    through=lambda m, i, xs, y, *, shape: mask_to(m, xs[0].shape),
    shape=lambda x, *, shape: Aval(shape, dtype_of(x)),
    batch=_batch_broadcast,
    samples=lambda d: [
        sample(d.normal(3, 1), shape=(2, 3, 4)),
        sample(d.normal(), shape=(3,)),
        sample(d.normal(1, 4), shape=(3, 4)),
        sample(d.normal(1), shape=(0,)),
    ],
)


def _flip_back(g, xs, y, *, axis):
    return flip_p(g, axis=axis)


flip_p = Primitive(
    "flip",
    forward=lambda be, x, *, axis: be.xp.flip(x, axis),
    linear=True,
    view=True,
    vjp=(_flip_back,),
    keeps=("",),
    through=_through_transpose(_flip_back),
    shape=as_first,
    batch=lambda on, v, size, *, axis: flip_p(v[0], axis=tuple(a + 1 for a in axis)),
    samples=lambda d: [sample(d.normal(3, 4), axis=(0,)), sample(d.normal(2, 3, 2), axis=(0, 2))],
)


def _cast_forward(be, x, *, dtype):
    y = be.xp.array(x, dtype=dtype)
    return y if y.ndim else y[()]


def _part_forward(name):
    def forward(be, x):
        y = be.xp.array(getattr(be.xp, name)(x))  # a copy: the parts of an array are views
        return y if y.ndim else y[()]

    return forward


astype_p = Primitive(
    "astype",
    forward=_cast_forward,
    linear=True,
    vjp=(lambda g, xs, y, *, dtype: cast(g, dtype_of(xs[0])),),
    keeps=("",),
    through=lambda m, i, xs, y, *, dtype: m,
    shape=lambda x, *, dtype: Aval(x.shape, np.dtype(dtype)),
    batch=lambda on, v, size, *, dtype: astype_p(v[0], dtype=dtype),
    samples=lambda d: [
        sample(d.normal(3, 4), dtype=np.dtype(np.float64)),
        sample(d.normal(), dtype=np.dtype(float)),
    ],
)


def cast(x: Any, dtype: Any) -> Any:
    """Convert x to ``dtype``; complex to real takes the real part (the cotangent of a real argument)."""
    dtype = np.dtype(dtype)
    have = dtype_of(x)
    if have == dtype:
        return x
    if dtype.kind not in "biufc":
        raise DtypeError(
            f"astype: `dtype` must be a type of numbers, got {dtype}: the derivative would be lost. "
            "For the number: nm.value_of(x)."
        )
    if have.kind == "c" and dtype.kind != "c":
        x = real_p(alias(x))
    return astype_p(x, dtype=dtype)


def floating(x: Any) -> Any:
    """Integers and booleans as float64, as NumPy's means and decompositions take them; a list as an array."""
    x = as_operand(x)
    return x if dtype_of(x).kind in "fc" else cast(x, np.float64)


def copied(x: Any) -> Any:
    """Return a copy that shares no memory with x, of the same dtype (1 * x would count a boolean)."""
    return astype_p(x, dtype=dtype_of(x))


def _part(name, back):
    """Real or imaginary part: linear over the reals; cotangents by the convention of no conjugation."""
    return Primitive(
        name,
        forward=_part_forward(name),
        linear=True,
        view=True,  # NumPy's is; ours is a copy
        vjp=(back,),
        keeps=("",),
        through=lambda m, i, xs, y: m,
        shape=lambda x: Aval(x.shape, np.zeros(0, dtype_of(x)).real.dtype),
        batch=lambda on, v, size: (real_p if name == "real" else imag_p)(v[0]),
        samples=lambda d: [sample(d.normal(3, 4)), sample(d.normal())],
    )


real_p = _part("real", lambda g, xs, y: g)
imag_p = _part("imag", lambda g, xs, y: g * (-1j) if dtype_of(xs[0]).kind == "c" else None)
stop_gradient = Primitive(
    "stop_gradient",
    forward=lambda be, x: x,
    elementwise=True,
    differentiable=False,
    samples=lambda d: [sample(d.normal(3, 4))],
)


# ---------------------------------------------------------------------------------------------- NumPy's functions
@implements(np.reshape)
def reshape(a, /, shape=None, order="C", *, newshape=None, copy=None):
    """NumPy's ``reshape``; one length may be -1, and ``order`` is "C" or "F"."""
    if copy:
        a = copied(a)
    _require_order("reshape", order)
    shape = newshape if shape is None else shape
    shape = tuple(
        operator.index(n) for n in (shape if isinstance(shape, (tuple, list)) else (shape,))
    )
    have = shape_of(a)
    if -1 in shape:
        known = -math.prod(shape)
        if (
            shape.count(-1) != 1
            or (known == 0 and math.prod(have) != 0)
            or (known and math.prod(have) % known)
        ):
            raise ValueError(f"cannot reshape array of size {math.prod(have)} into shape {shape}")
        shape = tuple((math.prod(have) // known if known else 0) if n == -1 else n for n in shape)
    if math.prod(shape) != math.prod(have):
        raise ValueError(f"cannot reshape array of size {math.prod(have)} into shape {shape}")
    if order == "F" and (len(shape) > 1 or len(have) > 1):
        return transpose(reshape_p(transpose(a), shape=shape[::-1]))
    return reshape_p(a, shape=shape)


def _require_order(who, order):
    advice = "The layout in memory of a traced array is not known; write the order of the numbers."
    require_in(who, "order", order, ("C", "F"), advice)


@implements(np.ravel)
def ravel(a, order="C"):
    """NumPy's ``ravel``."""
    return reshape(a, (-1,), order)


@implements(np.transpose, *([np.permute_dims] if hasattr(np, "permute_dims") else []))
def transpose(a, axes=None):
    """NumPy's ``transpose``."""
    n = ndim_of(a)
    if axes is None:
        return transpose_p(a, axes=tuple(range(n))[::-1])
    axes = tuple(normal_axis("transpose", i, n) for i in axes)
    if sorted(axes) != list(range(n)):
        raise ValueError("axes don't match array")
    return transpose_p(a, axes=axes)


permute_dims = transpose


@implements(np.matrix_transpose)
def matrix_transpose(x, /):
    """The last two axes exchanged."""
    return swapaxes(x, -1, -2)


@implements(np.swapaxes)
def swapaxes(a, axis1, axis2):
    """NumPy's ``swapaxes``."""
    n = ndim_of(a)
    i, j = normal_axis("swapaxes", axis1, n), normal_axis("swapaxes", axis2, n)
    axes = list(range(n))
    axes[i], axes[j] = j, i
    return transpose_p(a, axes=tuple(axes))


@implements(np.moveaxis)
def moveaxis(a, source, destination):
    """NumPy's ``moveaxis``."""
    n = ndim_of(a)
    src = [
        normal_axis("moveaxis", i, n)
        for i in (source if isinstance(source, (tuple, list)) else (source,))
    ]
    dst = [
        normal_axis("moveaxis", i, n)
        for i in (destination if isinstance(destination, (tuple, list)) else (destination,))
    ]
    if len(src) != len(dst):
        raise ValueError(
            "`source` and `destination` arguments must have the same number of elements"
        )
    order = [i for i in range(n) if i not in src]
    for d, s in sorted(zip(dst, src, strict=True)):
        order.insert(d, s)
    return transpose_p(a, axes=tuple(order))


@implements(np.broadcast_to)
def broadcast_to(array, shape, subok=False):
    """NumPy's ``broadcast_to``."""
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (operator.index(shape),)
    if np.broadcast_shapes(shape_of(array), shape) != shape:
        raise ValueError(f"cannot broadcast an array of shape {shape_of(array)} to shape {shape}")
    return (
        array
        if shape_of(array) == shape and is_traced(array)
        else broadcast_to_p(array, shape=shape)
    )


@implements(np.broadcast_arrays)
def broadcast_arrays(*args, subok=False):
    """NumPy's ``broadcast_arrays``."""
    shape = np.broadcast_shapes(*map(shape_of, args))
    return tuple(broadcast_to(a, shape) for a in args)


@implements(np.expand_dims)
def expand_dims(a, axis):
    """NumPy's ``expand_dims``."""
    axis = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    n = ndim_of(a) + len(axis)
    at = normal_axes("expand_dims", axis, n)
    rest = iter(shape_of(a))
    return reshape_p(a, shape=tuple(1 if i in at else next(rest) for i in range(n)))


@implements(np.squeeze)
def squeeze(a, axis=None):
    """NumPy's ``squeeze``."""
    s = shape_of(a)
    if axis is None:
        return reshape_p(a, shape=tuple(n for n in s if n != 1))
    axes = normal_axes("squeeze", axis, len(s))
    if any(s[i] != 1 for i in axes):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return reshape_p(a, shape=tuple(n for i, n in enumerate(s) if i not in axes))


def _at_least(name, reach):
    def f(*arys):
        out = [mark(as_operand(a)) for a in arys]
        return out[0] if len(out) == 1 else tuple(out)

    def mark(a):
        s = shape_of(a)
        return a if len(s) >= len(reach(())) else reshape_p(a, shape=reach(s))

    f.__name__, f.__doc__ = name, f"NumPy's ``{name}``."
    return f


def _three(s):
    return (1, 1, 1) if not s else (1, *s, 1) if len(s) == 1 else (*s, 1)


atleast_1d = implements(np.atleast_1d)(_at_least("atleast_1d", lambda s: s or (1,)))
atleast_2d = implements(np.atleast_2d)(_at_least("atleast_2d", lambda s: (1, *s) if s else (1, 1)))
atleast_3d = implements(np.atleast_3d)(_at_least("atleast_3d", _three))


@implements(np.flip)
def flip(m, axis=None):
    """NumPy's ``flip``."""
    return flip_p(m, axis=normal_axes("flip", axis, ndim_of(m)))


@implements(np.flipud)
def flipud(m):
    """NumPy's ``flipud``."""
    return flip(m, 0)


@implements(np.fliplr)
def fliplr(m):
    """NumPy's ``fliplr``."""
    return flip(m, 1)


@implements(*([np.astype] if hasattr(np, "astype") else []))
def astype(x, dtype, /, *, copy=True, device=None):
    """NumPy's ``astype``; to an integer or boolean dtype the result carries no derivative."""
    if device is not None:
        x = placed("astype", x, device)
    return cast(x, dtype) if dtype_of(x) != np.dtype(dtype) or not copy else copied(x)


@implements(np.real)
def real(val):
    """The real part."""
    return real_p(val)


@implements(np.imag)
def imag(val):
    """The imaginary part; of a real array zeros."""
    return imag_p(val) if dtype_of(val).kind == "c" else mark_fresh(imag_p(alias(val)))


def _method_reshape(self, *shape, order="C", copy=None):
    return reshape(self, shape[0] if len(shape) == 1 else shape, order, copy=copy)


def _method_transpose(self, *axes):
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))):
        axes = axes[0]
    return transpose(self, axes or None)


def _method_astype(self, dtype, order="K", casting="unsafe", subok=True, copy=True):
    if not np.can_cast(dtype_of(self), dtype, casting):
        raise TypeError(
            f"Cannot cast array data from {dtype_of(self)!r} to {np.dtype(dtype)!r} according to the rule {casting!r}"
        )
    return astype(self, dtype, copy=copy)  # a traced array has no memory order


methods.update(
    {
        "T": property(lambda self: transpose(self)),
        "mT": property(lambda self: matrix_transpose(self)),
        "real": property(real),
        "imag": property(imag),
        "reshape": _method_reshape,
        "transpose": _method_transpose,
        "swapaxes": swapaxes,
        "squeeze": squeeze,
        "ravel": ravel,
        "flatten": lambda self, order="C": mark_fresh(ravel(copied(self), order)),
        "astype": _method_astype,
        "copy": lambda self, order="C": copied(self),
    }
)
