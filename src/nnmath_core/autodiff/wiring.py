"""Handing primitives, backends and messages to the compiled core; imported once, before anything is traced.

Imports go down: the core knows no primitive, no device and no sentence of advice. It gets them here.
"""

from __future__ import annotations

import linecache
import os
import re
import sys
from types import FrameType
from typing import Any

import numpy as np

from nnmath_core._ext import _autodiff as core
from nnmath_core._ext._autodiff import Aval, Tracer, dtype_of, shape_of, value_of
from nnmath_core.autodiff.ops import compare, contract, elementwise, index, linalg, reduce, shape
from nnmath_core.autodiff.ops.conventions import (
    as_operand,
    beside,
    constant,
    expand_batch,
    is_traced,
    methods,
    numpy_functions,
    ufunc_methods,
    ufuncs,
)
from nnmath_core.device import backend_of, device_of
from nnmath_core.errors import DtypeError, ShapeError, TraceError

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_NUMPY = os.path.dirname(os.path.abspath(np.__file__))


# ------------------------------------------------------------------------------------ running and admitting operands
def elsewhere(p: Any, xs: tuple[Any, ...], params: dict[str, Any] | None) -> Any:
    """Run a primitive whose operands are not all NumPy's: find their device, enter it, run its definition there."""
    be = backend_of(*xs, who=p.name)
    with be.scope():
        return p.on(be)(*xs, **(params or {}))


def admit(x: Any) -> Any:
    """An operand of an unknown type as an array, or the reason why it cannot take part."""
    if isinstance(x, np.ndarray):
        if isinstance(x, np.ma.MaskedArray):
            raise DtypeError(
                "a masked array cannot take part in a traced computation. Fill it: x.filled(value)."
            )
        if isinstance(x, np.matrix):
            raise DtypeError(
                "np.matrix cannot take part in a traced computation. Convert it: np.asarray(x)."
            )
        if isinstance(x, np.memmap):
            return np.asarray(x)
        raise DtypeError(
            f"{type(x).__name__}, a subclass of ndarray, cannot take part in a traced computation. "
            "Convert it: np.asarray(x)."
        )
    if getattr(x, "__array_namespace__", None) is not None or hasattr(
        x, "__cuda_array_interface__"
    ):
        return x  # an array of another library: the backend accepts or refuses it
    if isinstance(x, (list, tuple)) or hasattr(x, "__array__"):
        y = np.asarray(x)
        if y.dtype.kind in "biufc":
            return y
    raise TraceError(
        f"an operand of type {type(x).__name__} cannot take part in a traced computation. "
        "Pass numbers, NumPy arrays or arrays of the device."
    )


def leaf_value(who: str, x: Any, place: str) -> Any:
    """A leaf to be differentiated, when it is not plainly a float32 or float64 array."""
    if type(x) is float or isinstance(x, (np.float64, np.float32)):
        return x
    wanted = f"{who}: {place} must be a float32 or float64 array, or a float, got "
    if isinstance(x, Tracer):
        if dtype_of(x) not in (np.float32, np.float64):
            raise DtypeError(wanted + f"a traced array of {dtype_of(x)}.")
        return x
    if isinstance(x, (bool, np.bool_)):
        raise DtypeError(wanted + "a boolean. Close over it, or pass it by another argument.")
    if isinstance(x, (int, np.integer)):
        raise DtypeError(
            wanted
            + f"the integer {int(x)}. Write it as a float, {int(x)}.0, or choose another argument with argnums."
        )
    if isinstance(x, complex):
        raise DtypeError(
            wanted + "a complex number. Pass its real and imaginary part as two floats."
        )
    if isinstance(x, np.ndarray):
        if type(x) is not np.ndarray:
            try:
                x = admit(x)
            except DtypeError as e:
                raise DtypeError(f"{wanted}another kind of array: {e}") from None
        kind, size = x.dtype.kind, x.dtype.itemsize
        if kind == "f" and size in (4, 8):
            return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))
        advice = {
            "i": "Convert it: x.astype(float), or choose another argument with argnums.",
            "u": "Convert it: x.astype(float), or choose another argument with argnums.",
            "b": "Convert it: x.astype(float), or choose another argument with argnums.",
            "f": "Convert it: x.astype(np.float32) or x.astype(np.float64).",
            "c": "Pass x.real and x.imag as two arguments and join them inside.",
            "O": "Its elements are Python objects (is it ragged?). Make it rectangular and numeric.",
        }.get(kind, "")
        what = "integer" if kind in "iu" else ""
        raise DtypeError(
            (wanted + f"an {what} array of {x.dtype}. {advice}").replace("an  array", "an array")
        )
    if isinstance(x, np.generic):
        raise DtypeError(wanted + f"a scalar of {x.dtype}. Convert it: np.float64(x).")
    if hasattr(x, "__array_namespace__") or hasattr(x, "__cuda_array_interface__"):
        be = backend_of(x, who=who, names=(place,))
        if x.dtype not in (np.float32, np.float64):
            raise DtypeError(
                wanted + f"an array of {x.dtype} on {be.device}. Convert it: x.astype(float)."
            )
        return x
    if hasattr(x, "to_numpy"):
        raise DtypeError(
            wanted + f"a {type(x).__name__}. Pass its numbers: x.to_numpy(dtype=float)."
        )
    raise DtypeError(wanted + f"a {type(x).__name__}.")


def tangent_value(who: str, t: Any, primal: Any, place: str) -> Any:
    """A tangent or cotangent as an array of the shape and dtype of what it belongs to."""
    want, dtype = shape_of(primal), dtype_of(primal)
    if not isinstance(t, Tracer):
        if isinstance(t, (bool, str)) or t is None:
            raise DtypeError(
                f"{who}: {place} must be a number or an array, got {type(t).__name__}."
            )
        if not isinstance(t, (int, float, np.generic)) or want == ():
            t = t if hasattr(t, "dtype") else np.asarray(t)
    have = shape_of(t)
    if have != want:
        raise ShapeError(
            f"{who}: {place} must have shape {want}, as the value it belongs to, got {have}."
        )
    if not np.can_cast(dtype_of(t), dtype, "same_kind"):
        raise DtypeError(f"{who}: {place} must have dtype {dtype}, got {dtype_of(t)}.")
    t = shape.cast(t, dtype)
    if not isinstance(t, Tracer) and type(value_of(primal)) is np.ndarray and type(t) is np.ndarray:
        return np.asarray(t)
    return t


def one_like(x: Any) -> Any:
    """The number 1 in the dtype and on the device of x."""
    return constant(x, (), 1, dtype_of(x))


def zeros(like: Any, have: tuple[int, ...], dtype: Any) -> Any:
    """Zeros on the device of ``like``; a NumPy scalar for a scalar."""
    y = constant(like, have, 0, dtype)
    return (
        y[()]
        if have == () and isinstance(y, np.ndarray) and not isinstance(value_of(like), np.ndarray)
        else y
    )


def device_scope(leaves: list[Any]) -> Any:
    """The scope of the device of the leaves; None when all of them are on the host or staged."""
    arrays = [
        v
        for v in map(value_of, leaves)
        if not isinstance(v, (Tracer, np.ndarray, np.generic, float, int))
    ]
    return backend_of(*arrays).scope() if arrays else None


# ------------------------------------------------------------------------------------------------ masks, shapes
def mask_where(mask: Any, x: Any) -> Any:
    """X where the mask is set, exactly 0 elsewhere."""
    return elementwise.where(beside(x, mask) if isinstance(mask, np.ndarray) else mask, x, 0.0)


def mask_broadcast(mask: Any, target: tuple[int, ...]) -> Any:
    """The mask repeated to a shape."""
    return mask if shape_of(mask) == target else shape.broadcast_to_p(mask, shape=target)


def align(x: Any, rank: int) -> Any:
    """Give x, batch axis first, axes of length 1 after it, up to ``rank`` axes of its own."""
    s = shape_of(x)
    return shape.reshape_p(x, shape=(s[0], *([1] * (rank - len(s) + 1)), *s[1:]))


def elementwise_aval(p: Any, xs: tuple[Any, ...], params: dict[str, Any]) -> Aval:
    """Shape and dtype of an elementwise result: broadcasting, and what the host function makes of empty arrays."""
    probes = [np.empty(0, x.dtype) if hasattr(x, "number") else x for x in xs]
    return Aval(
        np.broadcast_shapes(*[x.shape if hasattr(x, "shape") else () for x in xs]),
        p.host(*probes).dtype,
    )


def transposed_jvp(p: Any, i: int, g: Any, xs: Any, y: Any, params: dict[str, Any]) -> Any:
    """The vjp of operand i from the jvp rule, which is linear in its tangent: pull g back through it."""
    _, pull = core.vjp_door(
        lambda t: p.jvp[i](t, xs, y, **params), (zeros(g, shape_of(xs[i]), dtype_of(xs[i])),), False
    )
    return pull(g)[0]


def transposed_vjp(p: Any, i: int, t: Any, xs: Any, y: Any, params: dict[str, Any]) -> Any:
    """The jvp of operand i from the vjp rule, which is linear in its cotangent: pull t back through it."""
    rule = p.vjp[i] if not p.variadic else lambda g, xs, y, **k: p.vjp[0](g, xs, y, i=i, **k)
    if p.several:  # None stands for an output without derivative, in cotangents and in tangents
        on = p.differentiable_outputs or (True,) * len(y)
        like = tuple(
            zeros(v, shape_of(v), dtype_of(v)) if m else None for v, m in zip(y, on, strict=True)
        )
    else:
        like = zeros(y, shape_of(y), dtype_of(y))
    _, pull = core.vjp_door(lambda g: rule(g, xs, y, **params), (like,), False)
    return pull(t)[0]


# ------------------------------------------------------------------------------------------------ what cannot be traced
_HINTS = (
    (r"\bnp\.(array|asarray)\s*\(\s*[\[(]", "Join traced values with np.stack([...]) or np.concatenate([...])."),
    (r"\bnp\.(array|asarray|ascontiguousarray|asfarray)\s*\(", "Leave out the conversion: x is an array already."),
    (r"\.dot\s*\(", "Write a @ x instead of a.dot(x)."),
    (r"\bnp\.(full|full_like)\s*\(", "Write x * np.ones(shape)."),
    (r"\bnp\.(linspace|arange)\s*\(", "Write start + step * np.arange(n)."),
    (r"\b(rng|random|default_rng\(.*\))\.\w+\s*\(", "Write mean + scale * rng.standard_normal(shape)."),
    (r"\bscipy\.|\blinalg\.|\bspecial\.", "SciPy functions that are not ufuncs convert their arguments: use "
     "nnmath_core.special, nnmath_core.numpy or np.linalg."),
    (r"\bmath\.\w+\s*\(", "Write np instead of math: np.exp(x), np.sqrt(x), ..."),
    (r"\]\s*=[^=]", "Write y = nm.at(y)[i].set(x) instead of y[i] = x."),
    (r"\[", "Index an ordinary array by a traced one with np.take(a, i)."),
)  # fmt: skip


def _user_line() -> str:
    """The first line of the stack outside NumPy, SciPy and this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        inside = (
            name.startswith(_HERE) or name.startswith(_NUMPY) or f"{os.sep}scipy{os.sep}" in name
        )
        if not inside and not name.startswith("<frozen"):
            line = linecache.getline(name, frame.f_lineno).strip()
            return f" (line {frame.f_lineno}: {line})" if line else ""
        frame = frame.f_back
    return ""


def explain(what: str, x: Any) -> str:
    """The message of a refused conversion, with the user's line and what to write instead."""
    line = _user_line()
    code = line.partition(": ")[2]
    into = {
        "array": "a plain array",
        "float": "a Python float",
        "int": "a Python int",
        "complex": "a Python complex",
        "index": "an index",
    }[what]
    fallback = {
        "array": "Use NumPy functions that return new arrays.",
        "float": "Stay with arrays (np.exp(x), not math.exp(x); y = nm.at(y)[i].set(x), not y[i] = x).",
        "int": "Stay with arrays; for indices use x.astype(int), which carries no derivative.",
        "complex": "Stay with arrays.",
        "index": "Use np.take(a, i), or nm.value_of(x) for a number without derivative.",
    }[what]
    hint = next((text for pattern, text in _HINTS if re.search(pattern, code)), fallback)
    if what == "int" or (what == "index" and "math" not in code):
        hint = fallback
    return (
        f"a traced value cannot become {into}: its derivative would be lost{line}. {hint} For the number without its "
        "derivative: nm.value_of(x)."
    )


def _name(f: Any) -> str:
    return str(getattr(f, "__name__", None) or f.name)


def unknown_ufunc(ufunc: Any, xs: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """A ufunc without a row: SciPy's erf and expit are found by identity, others are refused by name."""
    special = sys.modules.get("scipy.special")
    if special is not None:
        for name in ("erf", "expit"):
            if ufunc is getattr(special, name):
                core.install(ufuncs={ufunc: getattr(elementwise, name)})
                return getattr(elementwise, name)(*xs)
    raise TraceError(
        f"{_name(ufunc)}: this ufunc has no derivative rule. Write it with functions that have one, or give it a "
        "rule with nm.custom_rule."
    )


def ufunc_call(ufunc: Any, f: Any, xs: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """A ufunc called with keywords, or one that is a function here."""
    if "out" in kw and kw["out"] is not None:
        raise TraceError(
            f"np.{_name(ufunc)}(..., out=a), which `a += x` is too, writes a traced value into an ordinary array: "
            "its derivative would be lost. Write a = a + x, or start from a traced array."
        )
    where_ = kw.get("where", True)
    if where_ is not True:
        raise TraceError(
            f"np.{_name(ufunc)}(..., where=mask) leaves the other entries undefined. Write np.where(mask, f(x), other)."
        )
    for name in kw:
        if name not in ("out", "where", "dtype", "casting", "order", "subok"):
            raise TraceError(
                f"np.{_name(ufunc)}: the keyword `{name}` is not supported on traced arrays."
            )
    if kw.get("casting", "same_kind") != "same_kind":
        raise TraceError(
            f"np.{_name(ufunc)}: the keyword `casting` is not supported on traced arrays. Use astype."
        )
    if kw.get("dtype") is not None:
        xs = tuple(shape.cast(x, kw["dtype"]) for x in xs)
    return f(*xs)


def elementwise_call(p: Any, xs: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """A primitive called with a ufunc's keywords, as ``nnmath_core.numpy.tanh(x, out=y)``."""
    if not is_traced(*xs) and not is_traced(*kw.values()):
        return p.host(*xs, **kw)
    return ufunc_call(p, p, xs, kw)


def ufunc_method(ufunc: Any, method: str, xs: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """ufunc.reduce, accumulate, outer; ``at`` writes in place and is refused."""
    if method == "at":
        raise TraceError(
            f"np.{_name(ufunc)}.at writes traced values into an ordinary array. Write a = nm.at(a)[i].add(x)."
        )
    f = ufunc_methods.get((ufunc, method))
    if f is None:
        raise TraceError(f"np.{_name(ufunc)}.{method} has no derivative rule.")
    return f(*xs, **kw)


_IN_PLACE = {"copyto", "put", "putmask", "place", "fill_diagonal", "put_along_axis", "full_like"}
_INSTEAD = {
    "linspace": "Write start + (stop - start) * np.arange(n) / (n - 1).",
    "geomspace": "Write np.exp(...) of an even spacing.",
    "logspace": "Write np.power(base, ...) of an even spacing.",
    "full": "Write x * np.ones(shape).",
    "vectorize": "Write the function with array operations, or use nm.vmap.",
    "apply_along_axis": "Use nm.vmap.",
    "median": "Write it with np.sort(x).",
    "quantile": "Write it with np.sort(x).",
    "percentile": "Write it with np.sort(x).",
}
_CONVERTING = {"array_repr", "array_str", "array2string", "save", "savez", "savetxt"}


def unknown_function(func: Any, args: tuple[Any, ...]) -> Any:
    """A NumPy function without a row."""
    name = getattr(func, "__name__", str(func))
    module = getattr(func, "__module__", "numpy").replace("numpy.linalg", "np.linalg")
    shown = f"np.linalg.{name}" if "linalg" in module else f"np.{name}"
    if name in _IN_PLACE:
        raise TraceError(
            f"{shown} writes a traced value into an ordinary array: its derivative would be lost. "
            "Write y = nm.at(y)[i].set(x), or np.where(mask, x, y)."
        )
    if name in _CONVERTING:
        raise TraceError(
            f"{shown}: a traced value has no plain form. Use nm.value_of(x) for the number."
        )
    if name in _INSTEAD:
        raise TraceError(f"{shown} cannot be traced. {_INSTEAD[name]}")
    raise TraceError(
        f"{shown} cannot be traced. Write it with functions that can, or give it a rule with nm.custom_rule."
    )


def cupy_kernel(kernel: Any, args: tuple[Any, ...]) -> Any:
    """``cp.tanh(x)`` of a tracer: the NumPy ufunc of that name, as `np.tanh` would be traced."""
    name = kernel.name.removeprefix("cupy_")
    if len(args) > kernel.nin:
        raise TraceError(
            f"cupy.{name}(..., out=a) writes a traced value into an ordinary array. Write a = a + x."
        )
    f = ufuncs.get(getattr(np, name, None))
    if f is None:
        raise TraceError(
            f"cupy.{name} cannot be traced. Write the function of `numpy` of that name."
        )
    return f(*args)


# ------------------------------------------------------------------------------------------------ plain answers
def _plain(name: str) -> Any:
    """A NumPy function whose answer is about values or types and carries no derivative."""
    f = getattr(np, name)

    def answer(*args: Any, **kw: Any) -> Any:
        return f(*[_plain_value(a) for a in args], **kw)

    return answer


def _plain_value(a: Any) -> Any:
    v = value_of(a)
    if isinstance(v, Tracer):
        raise TraceError(
            "this function needs the values of a staged array, which do not exist yet."
        )
    return v


def _like(name: str, fill: float) -> Any:
    def like(
        a: Any,
        dtype: Any = None,
        order: Any = "K",
        subok: bool = True,
        shape: Any = None,
        *,
        device: Any = None,
    ) -> Any:
        s = shape_of(a) if shape is None else shape
        return constant(
            a,
            tuple(s) if isinstance(s, (tuple, list)) else (s,),
            fill,
            dtype_of(a) if dtype is None else dtype,
        )

    like.__name__ = like.__qualname__ = name
    like.__doc__ = (
        f"NumPy's ``{name}``; of a tracer an ordinary array, which carries no derivative."
    )
    return like


def ndim(a: Any) -> int:
    """NumPy's ``ndim``."""
    return len(shape_of(a))


def size(a: Any, axis: int | None = None) -> int:
    """NumPy's ``size``: how many entries there are, in all or along an axis."""
    return int(np.prod(shape_of(a))) if axis is None else shape_of(a)[axis]


def copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    """NumPy's ``copy``; of a tracer a traced array that shares no memory with it."""
    return shape.copied(as_operand(a))


def clip(
    a: Any,
    a_min: Any = None,
    a_max: Any = None,
    out: Any = None,
    *,
    min: Any = None,
    max: Any = None,
) -> Any:
    """NumPy's ``clip``: minimum(maximum(a, a_min), a_max); ties share the derivative."""
    if out is not None:
        raise TraceError(
            "clip: the keyword `out` is not supported on traced arrays. Use the returned array."
        )
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    if low is not None:
        a = elementwise.maximum(a, low)
    return a if high is None else elementwise.minimum(a, high)


def round_(a: Any, decimals: int = 0, out: Any = None) -> Any:
    """NumPy's ``round``: it carries no derivative."""
    if decimals == 0:
        return elementwise.rint(a)
    scale = 10.0**decimals
    return elementwise.rint(a * scale) / scale


def where(condition: Any, *branches: Any) -> Any:
    """NumPy's ``where``."""
    if not branches:
        return index.nonzero(condition)
    x, y = branches
    if isinstance(condition, Tracer) or hasattr(condition, "dtype"):
        if dtype_of(condition) != np.bool_:
            condition = compare.not_equal(condition, 0)
    return elementwise.where(condition, x, y)


def _refuse_sort(self: Any, *args: Any, **kw: Any) -> Any:
    raise TraceError(
        "x.sort() sorts in place, and a traced array cannot be written into. Write x = np.sort(x)."
    )


def _refuse_tolist(self: Any, *args: Any) -> Any:
    raise TraceError(explain("float", self))


numpy_functions.update(
    {
        np.clip: clip,
        np.round: round_,
        np.around: round_,
        np.where: where,
        np.shape: shape_of,
        np.ndim: ndim,
        np.size: size,
        np.zeros_like: _like("zeros_like", 0),
        np.ones_like: _like("ones_like", 1),
        np.empty_like: _like("empty_like", 0),
        np.copy: copy,
        np.result_type: lambda *xs: np.result_type(
            *[dtype_of(x) if isinstance(x, Tracer) else x for x in xs]
        ),
        np.iscomplexobj: lambda x: dtype_of(x).kind == "c",
        np.isrealobj: lambda x: dtype_of(x).kind != "c",
        np.may_share_memory: lambda a, b, max_work=None: False,
        np.shares_memory: lambda a, b, max_work=None: False,
    }
)
numpy_functions.update(
    {
        np.linalg.matmul: contract.matmul,
        np.linalg.outer: contract.outer,
        np.linalg.tensordot: contract.tensordot,
        np.linalg.matrix_transpose: shape.matrix_transpose,
        np.linalg.diagonal: lambda x, /, *, offset=0: contract.diagonal(x, offset, -2, -1),
        np.linalg.trace: lambda x, /, *, offset=0, dtype=None: contract.trace(
            x, offset, -2, -1, dtype
        ),
        np.linalg.vector_norm: linalg.vector_norm,
        np.linalg.matrix_norm: linalg.matrix_norm,
        np.linalg.vecdot: contract.vecdot,
    }
)
numpy_functions.update(
    {
        getattr(np, name): _plain(name)
        for name in ("array_equal", "array_equiv", "allclose", "isclose", "searchsorted")
    }
)
methods.update(
    {
        "clip": clip,
        "round": round_,
        "sort": _refuse_sort,
        "tolist": _refuse_tolist,
        "item": lambda self, *args: float(self),
        "conj": lambda self: self if dtype_of(self).kind != "c" else elementwise.multiply(self, 1),
        "device": property(
            lambda self: (
                device_of(value_of(self)) if not isinstance(value_of(self), Tracer) else None
            )
        ),
    }
)


def install() -> None:
    """Give the core everything it asks for."""
    core.install(
        add=elementwise.add,
        subtract=elementwise.subtract,
        multiply=elementwise.multiply,
        divide=elementwise.divide,
        negative=elementwise.negative,
        square=elementwise.square,
        contract=contract.contract,
        sum=reduce.sum_p,
        elsewhere=elsewhere,
        admit=admit,
        cast=shape.cast,
        sum_to=shape.sum_to,
        broadcast_to=shape.broadcast_to,
        zeros=zeros,
        mask_where=mask_where,
        mask_and=compare.logical_and,
        mask_or=compare.logical_or,
        mask_to=shape.mask_to,
        mask_broadcast=mask_broadcast,
        transposed_jvp=transposed_jvp,
        transposed_vjp=transposed_vjp,
        align=align,
        move_axis=shape.moveaxis,
        expand_batch=expand_batch,
        elementwise_aval=elementwise_aval,
        explain=explain,
        device_scope=device_scope,
        operators={
            "unknown_ufunc": unknown_ufunc,
            "ufunc_call": ufunc_call,
            "ufunc_method": ufunc_method,
            "unknown_function": unknown_function,
            "cupy_kernel": cupy_kernel,
            "elementwise_call": elementwise_call,
            "getitem": index.getitem,
            "pos": elementwise.positive,
            "abs": elementwise.absolute,
            "invert": ufuncs[np.invert],
            "round": round_,
            "pow": elementwise.power,
            "mod": elementwise.remainder,
            "floordiv": elementwise.floor_divide,
            "matmul": contract.matmul,
            "and": ufuncs[np.bitwise_and],
            "or": ufuncs[np.bitwise_or],
            "xor": ufuncs[np.bitwise_xor],
            "lt": compare.less,
            "le": compare.less_equal,
            "gt": compare.greater,
            "ge": compare.greater_equal,
            "eq": compare.equal,
            "ne": compare.not_equal,
        },
        ufuncs={**ufuncs, np.matmul: core.traced_matmul},
        ufunc_methods=ufunc_methods,
        functions={**numpy_functions, np.sum: core.traced_sum},
    )
    core.install_sum(reduce.sum)
    core.install_doors(leaf_value=leaf_value, tangent_value=tangent_value, one_like=one_like)
    for name, attribute in {**methods, "sum": core.traced_sum}.items():
        core.install_method(name, attribute)


install()
