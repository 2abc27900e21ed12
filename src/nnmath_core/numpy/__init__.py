"""NumPy's functions for plain arrays, device arrays and tracers.

Names, signatures and results are NumPy's. On a plain array a function runs at once on the array's device; on a tracer
it is recorded. Creation functions make arrays on the default device (`nnmath_core.default_device`). Everything that
differentiates when it is called as ``numpy.f`` on a tracer is here too; what is not here yet raises AttributeError.
"""

from __future__ import annotations

import sys as _sys
from typing import Any

import numpy as _np
from numpy import (
    bool_,
    broadcast_shapes,
    dtype,
    e,
    euler_gamma,
    float32,
    float64,
    inf,
    int32,
    int64,
    intp,
    nan,
    newaxis,
    pi,
    result_type,
)

from nnmath_core._ext._autodiff import Tracer as _Tracer
from nnmath_core._ext._autodiff import install as _install
from nnmath_core._ext._autodiff import shape_of as shape
from nnmath_core._ext._autodiff import traced_sum as sum
from nnmath_core.autodiff.functions import clip, copy, full_like, ndim, size, where
from nnmath_core.autodiff.functions import round_ as round
from nnmath_core.autodiff.ops.compare import (
    equal,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
    signbit,
)
from nnmath_core.autodiff.ops.contract import (
    diag,
    diagonal,
    dot,
    einsum,
    inner,
    matmul,
    matvec,
    outer,
    tensordot,
    trace,
    vdot,
    vecdot,
    vecmat,
)
from nnmath_core.autodiff.ops.conventions import numpy_functions as _functions
from nnmath_core.autodiff.ops.elementwise import (
    absolute,
    add,
    angle,
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    cbrt,
    ceil,
    conj,
    cos,
    cosh,
    divide,
    exp,
    exp2,
    expm1,
    floor,
    floor_divide,
    hypot,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    multiply,
    negative,
    positive,
    power,
    reciprocal,
    remainder,
    rint,
    sign,
    sin,
    sinh,
    sqrt,
    square,
    subtract,
    tan,
    tanh,
    trunc,
)
from nnmath_core.autodiff.ops.index import (
    argsort,
    compress,
    extract,
    nonzero,
    sort,
    take,
    take_along_axis,
)
from nnmath_core.autodiff.ops.join import (
    array_split,
    column_stack,
    concatenate,
    dstack,
    hstack,
    pad,
    repeat,
    roll,
    split,
    stack,
    tile,
    vstack,
)
from nnmath_core.autodiff.ops.linalg import tril, triu
from nnmath_core.autodiff.ops.product import cumprod, cumulative_prod, prod
from nnmath_core.autodiff.ops.reduce import (
    all,
    any,
    argmax,
    argmin,
    average,
    count_nonzero,
    cumsum,
    cumulative_sum,
    diff,
    max,
    mean,
    min,
    ptp,
    std,
    var,
)
from nnmath_core.autodiff.ops.select import maximum, minimum
from nnmath_core.autodiff.ops.shape import (
    astype,
    atleast_1d,
    atleast_2d,
    atleast_3d,
    broadcast_arrays,
    broadcast_to,
    expand_dims,
    flip,
    fliplr,
    flipud,
    imag,
    matrix_transpose,
    moveaxis,
    permute_dims,
    ravel,
    real,
    reshape,
    squeeze,
    swapaxes,
    transpose,
)
from nnmath_core.device import backend_for as _backend_for
from nnmath_core.device import current_default_device as _current_default_device
from nnmath_core.numpy import linalg

__all__ = [
    "abs",
    "absolute",
    "acos",
    "acosh",
    "add",
    "all",
    "amax",
    "amin",
    "angle",
    "any",
    "arange",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "argmax",
    "argmin",
    "argsort",
    "around",
    "array",
    "array_split",
    "asarray",
    "asin",
    "asinh",
    "astype",
    "atan",
    "atan2",
    "atanh",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "average",
    "bool_",
    "broadcast_arrays",
    "broadcast_shapes",
    "broadcast_to",
    "cbrt",
    "ceil",
    "clip",
    "column_stack",
    "compress",
    "concat",
    "concatenate",
    "conj",
    "conjugate",
    "copy",
    "cos",
    "cosh",
    "count_nonzero",
    "cumprod",
    "cumsum",
    "cumulative_prod",
    "cumulative_sum",
    "diag",
    "diagonal",
    "diff",
    "divide",
    "dot",
    "dstack",
    "dtype",
    "e",
    "einsum",
    "empty",
    "empty_like",
    "equal",
    "euler_gamma",
    "exp",
    "exp2",
    "expand_dims",
    "expm1",
    "extract",
    "eye",
    "flip",
    "fliplr",
    "flipud",
    "float32",
    "float64",
    "floor",
    "floor_divide",
    "full",
    "full_like",
    "greater",
    "greater_equal",
    "hstack",
    "hypot",
    "identity",
    "imag",
    "inf",
    "inner",
    "int32",
    "int64",
    "intp",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "linalg",
    "linspace",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "matmul",
    "matrix_transpose",
    "matvec",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mod",
    "moveaxis",
    "multiply",
    "nan",
    "ndim",
    "negative",
    "newaxis",
    "nonzero",
    "not_equal",
    "ones",
    "ones_like",
    "outer",
    "pad",
    "permute_dims",
    "pi",
    "positive",
    "pow",
    "power",
    "prod",
    "ptp",
    "ravel",
    "real",
    "reciprocal",
    "remainder",
    "repeat",
    "reshape",
    "result_type",
    "rint",
    "roll",
    "round",
    "shape",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "size",
    "sort",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "subtract",
    "sum",
    "swapaxes",
    "take",
    "take_along_axis",
    "tan",
    "tanh",
    "tensordot",
    "tile",
    "trace",
    "transpose",
    "tri",
    "tril",
    "triu",
    "true_divide",
    "trunc",
    "var",
    "vdot",
    "vecdot",
    "vecmat",
    "vstack",
    "where",
    "zeros",
    "zeros_like",
]

abs = absolute
acos, acosh, asin, asinh, atan, atan2, atanh = (
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
)
amax, amin = max, min
concat = concatenate
conjugate = conj
mod = remainder
pow = power
true_divide = divide
around = round


def _creation(name: str) -> Any:
    def create(*args: Any, **kw: Any) -> Any:
        return getattr(_backend_for(_current_default_device()).xp, name)(*args, **kw)

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"NumPy's ``{name}``, on the default device."
    return create


arange = _creation("arange")
empty = _creation("empty")
eye = _creation("eye")
full = _creation("full")
identity = _creation("identity")
linspace = _creation("linspace")
ones = _creation("ones")
tri = _creation("tri")
zeros = _creation("zeros")
zeros_like = _functions[_np.zeros_like]
ones_like = _functions[_np.ones_like]
empty_like = _functions[_np.empty_like]


def asarray(a: Any, dtype: Any = None) -> Any:
    """NumPy's ``asarray`` on the default device; a tracer, or a list of tracers, becomes a traced array."""
    if isinstance(a, _Tracer):
        return a if dtype is None else astype(a, dtype)
    if isinstance(a, (list, tuple)) and _holds_tracer(a):
        y = stack([asarray(x) for x in a])
        return y if dtype is None else astype(y, dtype)
    return _backend_for(_current_default_device()).asarray(a, dtype=dtype)


def _holds_tracer(a: Any) -> bool:
    return isinstance(a, _Tracer) or (
        isinstance(a, (list, tuple)) and True in map(_holds_tracer, a)
    )


array = asarray


def _namespace(api_version: str | None) -> Any:
    return _sys.modules[__name__]


_install(namespace=_namespace)
