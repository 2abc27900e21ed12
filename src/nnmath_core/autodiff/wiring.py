"""Handing primitives, backends and messages to the compiled core; imported once, before anything is traced.

Imports go down: the core knows no primitive, no device and no sentence of advice. It gets them here.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, cast

import numpy as np

from nnmath_core._ext import _autodiff as core
from nnmath_core._ext._autodiff import Aval, Tracer, dtype_of, shape_of, value_of
from nnmath_core.autodiff.advice import (
    explain,
    unknown_function,
    unknown_ufunc,
)
from nnmath_core.autodiff.functions import round_
from nnmath_core.autodiff.ops import (  # importing a module declares its primitives and fills the tables
    arrange,  # noqa: F401
    banded,  # noqa: F401
    choice,  # noqa: F401
    compare,
    contract,
    convolutions,  # noqa: F401
    convolve,  # noqa: F401
    dtypes,  # noqa: F401
    eigen,  # noqa: F401
    einsum,  # noqa: F401
    elementwise,
    factorisations,  # noqa: F401
    fft,  # noqa: F401
    floats,  # noqa: F401
    index,
    integers,  # noqa: F401
    inverse_root,  # noqa: F401
    least_squares,  # noqa: F401
    matrix_functions,  # noqa: F401
    nan,  # noqa: F401
    numeric,  # noqa: F401
    order,  # noqa: F401
    pad,  # noqa: F401
    polynomial,  # noqa: F401
    product,  # noqa: F401
    quantile,  # noqa: F401
    random,  # noqa: F401
    reduce,
    riccati,  # noqa: F401
    select,
    sequences,  # noqa: F401
    sets,  # noqa: F401
    shape,
    softmax,  # noqa: F401
    special,  # noqa: F401
    spectral,  # noqa: F401
    standardize,  # noqa: F401
    statistics,  # noqa: F401
    tensor_systems,  # noqa: F401
    ufunc_methods as methods_of_ufuncs,
    windows,  # noqa: F401
)
from nnmath_core.autodiff.ops.conventions import (
    beside,
    constant,
    expand_batch,
    is_traced,
    methods,
    numpy_functions,
    ufunc_methods,
    ufuncs,
)
from nnmath_core.autodiff.ops.matrices import is_structured, structured_call
from nnmath_core.autodiff.ops.plain import is_plain
from nnmath_core.autodiff.ops.sparse_matrix import SparseMatrix  # noqa: F401  (makes sparse matrices nodes)
from nnmath_core.autodiff.watch import watch
from nnmath_core.device import backend_of
from nnmath_core.errors import DtypeError, ShapeError, TraceError


# ------------------------------------------------------------------------------------ running and admitting operands
def elsewhere(p: Any, xs: tuple[Any, ...], params: dict[str, Any] | None) -> Any:
    """Run a primitive whose operands are not all NumPy's: find their device, enter it, run its definition there."""
    be = backend_of(*xs, who=p.name)
    with be.scope():
        return p.on(be)(*xs, **(params or {}))


def admit(x: Any) -> Any:
    """An operand of an unknown type as an array, or the reason why it cannot take part.

    NotImplemented for a matrix with structure, which has operations of its own.
    """
    if is_structured(x):
        return NotImplemented
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


def unadmitted(p: Any, xs: tuple[Any, ...]) -> Any:
    """What NumPy says of operands without a tracer that no trace would take, as None; NotImplemented: an error."""
    if not all(map(is_plain, xs)):
        return NotImplemented
    try:
        return p.host(*xs)
    except Exception:  # ours says what to do
        return NotImplemented


_WITH_ARGNUMS = ("grad", "value_and_grad", "jacrev", "jacfwd", "jacobian")


def leaf_value(who: str, x: Any, place: str) -> Any:
    """A leaf to be differentiated, when it is not plainly a float32 or float64 array."""
    if type(x) is float or isinstance(x, (np.float64, np.float32)):
        return x
    wanted = f"{who}: {place} must be a float32 or float64 array, or a float, got "
    instead = (
        "or choose another argument with argnums." if who in _WITH_ARGNUMS else "or close over it."
    )
    if isinstance(x, Tracer):
        if dtype_of(x) not in (np.float32, np.float64):
            raise DtypeError(wanted + f"a traced array of {dtype_of(x)}.")
        return x
    if isinstance(x, (bool, np.bool_)):
        raise DtypeError(wanted + "a boolean. Close over it, or pass it by another argument.")
    if isinstance(x, (int, np.integer)):
        raise DtypeError(
            wanted + f"the integer {int(x)}. Write it as a float, {int(x)}.0, {instead}"
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
            "i": f"Convert it: x.astype(float), {instead}",
            "u": f"Convert it: x.astype(float), {instead}",
            "b": f"Convert it: x.astype(float), {instead}",
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
    advice = " Convert it: A.tocsr()." if is_structured(x) else ""
    raise DtypeError(wanted + f"a {type(x).__name__}.{advice}")


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
        here, there = value_of(primal), value_of(t)
        if type(here) is not np.ndarray and hasattr(here, "__cuda_array_interface__"):
            backend_of(here, there, who=who, names=("primals", place.strip("`")))
        elif type(there) is not np.ndarray and type(here) is np.ndarray:
            backend_of(here, there, who=who, names=("primals", place.strip("`")))
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
    return select.where(beside(x, mask) if isinstance(mask, np.ndarray) else mask, x, 0.0)


def _together(a: Any, b: Any) -> tuple[Any, Any]:
    """Two masks on one device: one that follows from an index alone is made on the host."""
    if isinstance(a, np.ndarray) and not isinstance(b, np.ndarray):
        return beside(b, a), b
    if isinstance(b, np.ndarray) and not isinstance(a, np.ndarray):
        return a, beside(a, b)
    return a, b


def mask_and(a: Any, b: Any) -> Any:
    """Where both masks are set."""
    return compare.logical_and(*_together(a, b))


def mask_or(a: Any, b: Any) -> Any:
    """Where one of the masks is set."""
    return compare.logical_or(*_together(a, b))


def mask_broadcast(mask: Any, target: tuple[int, ...]) -> Any:
    """The mask repeated to a shape."""
    return mask if shape_of(mask) == target else shape.broadcast_to_p(mask, shape=target)


def align(x: Any, rank: int) -> Any:
    """Give x, batch axis first, axes of length 1 after it, up to ``rank`` axes of its own."""
    s = shape_of(x)
    return shape.reshape_p(x, shape=(s[0], *([1] * (rank - len(s) + 1)), *s[1:]))


def elementwise_aval(p: Any, xs: tuple[Any, ...], params: dict[str, Any]) -> Aval:
    """Shape and dtype of an elementwise result: broadcasting, and what the host function makes of empty arrays."""
    shapes = [x.shape if hasattr(x, "shape") else () for x in xs]
    whole = shapes[0] if shapes.count(shapes[0]) == len(shapes) else np.broadcast_shapes(*shapes)
    kinds = [(x.dtype, x.weak) for x in xs if hasattr(x, "number")]
    if len(kinds) == len(xs):
        return Aval(whole, _dtype_of_variables(p, *kinds))
    probes = [_probe(x.dtype, x.weak) if hasattr(x, "number") else x for x in xs]
    return Aval(whole, p.host(*probes).dtype)


def _probe(dtype: np.dtype[Any], weak: bool) -> Any:
    return dtype.type(1).item() if weak else np.empty(0, dtype)


@functools.lru_cache(maxsize=4096)
def _dtype_of_variables(p: Any, *kinds: tuple[np.dtype[Any], bool]) -> np.dtype[Any]:
    return cast(np.dtype[Any], p.host(*[_probe(*kind) for kind in kinds]).dtype)


def transposed_jvp(p: Any, i: int, g: Any, xs: Any, y: Any, params: dict[str, Any]) -> Any:
    """The vjp of operand i from the jvp rule, which is linear in its tangent: pull g back through it."""
    if not p.several:
        like = zeros(g, shape_of(xs[i]), dtype_of(xs[i]))
        return transpose_of(lambda t: p.jvp[i](t, xs, y, **params), like, g)
    on = [k for k, c in enumerate(g) if c is not None]
    like = zeros(g[on[0]], shape_of(xs[i]), dtype_of(xs[i]))

    def reached(t: Any) -> tuple[Any, ...]:
        tangents = p.jvp[i](t, xs, y, **params)
        return tuple(tangents[k] for k in on)

    return transpose_of(reached, like, tuple(g[k] for k in on))


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
    if dtype_of(t).kind == "c":  # so is the cotangent, though it may have turned out real
        return transpose_of(lambda g: shape.cast(rule(g, xs, y, **params), dtype_of(t)), like, t)
    return transpose_of(lambda g: rule(g, xs, y, **params), like, t)


def transpose_of(f: Any, like: Any, t: Any) -> Any:
    """The transpose of a linear f, whose argument has the structure of ``like`` (zeros), at t."""
    several = isinstance(like, tuple)
    parts = [
        (v.real, v.imag) if v is not None and dtype_of(v).kind == "c" else v
        for v in (like if several else (like,))
    ]
    if not any(isinstance(v, tuple) for v in parts):
        _, pull = core.vjp_door(f, (like,), False)
        return pull(t)[0]

    # the doors take real arguments: a complex one goes in, and its cotangent comes out, in two parts
    def join(xs: Any, i: complex) -> Any:
        joined = tuple(x[0] + i * x[1] if isinstance(x, (tuple, list)) else x for x in xs)
        return joined if several else joined[0]

    _, pull = core.vjp_door(lambda xs: f(join(xs, 1j)), (parts,), False)
    return join(pull(t)[0], -1j)


# ------------------------------------------------------------------------------------------------ what cannot be traced
def _name(f: Any) -> str:
    return str(getattr(f, "__name__", None) or f.name)


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
    axis = {"axis": kw["axis"]} if f is contract.vecdot and "axis" in kw else {}
    for name in kw:
        if name not in ("out", "where", "dtype", "casting", "order", "subok", *axis):
            raise TraceError(
                f"np.{_name(ufunc)}: the keyword `{name}` is not supported on traced arrays."
            )
    if kw.get("casting", "same_kind") != "same_kind":
        raise TraceError(
            f"np.{_name(ufunc)}: the keyword `casting` is not supported on traced arrays. Use astype."
        )
    if kw.get("dtype") is not None:
        xs = tuple(shape.cast(x, kw["dtype"]) for x in xs)
    return f(*xs, **axis)


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


def namespace(api_version: str | None) -> Any:
    """The namespace of a tracer, which puts itself in the place of this function when it is imported."""
    return importlib.import_module("nnmath_core.numpy")._namespace(api_version)


def install() -> None:
    """Give the core everything it asks for."""
    methods_of_ufuncs.fill_ufunc_methods()
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
        mask_and=mask_and,
        mask_or=mask_or,
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
        namespace=namespace,
        operators={
            "unknown_ufunc": unknown_ufunc,
            "ufunc_call": ufunc_call,
            "ufunc_method": ufunc_method,
            "unknown_function": unknown_function,
            "cupy_kernel": cupy_kernel,
            "elementwise_call": elementwise_call,
            "unadmitted": unadmitted,
            "getitem": index.getitem,
            "structured": structured_call,
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
            "lshift": ufuncs[np.left_shift],
            "rshift": ufuncs[np.right_shift],
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
    core.install_watch(watch)
    core.install_doors(leaf_value=leaf_value, tangent_value=tangent_value, one_like=one_like)
    for name, attribute in {**methods, "sum": core.traced_sum}.items():
        core.install_method(name, attribute)


install()
