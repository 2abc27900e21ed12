"""Operations by their definition: what a forward function does in array code, recorded and lowered in its place.

Many primitives are declared by a few lines of NumPy, a wrapper around a function of SciPy, or a formula over stacks of
matrices. Such a function runs here once on tracers; the equations that it makes are lowered where the equation stood.
Ufuncs that a wrapper calls become equations of `loop_p`, which stands for their loop alone.

What decides by values in Python cannot be recorded; it has another definition here, or stays a call into Python.
"""

from __future__ import annotations

import contextvars
import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.special

from nnmath_core import numpy as xnp
from nnmath_core._ext._autodiff import Aval, Tracer, Var, dtype_of, is_weak, shape_of
from nnmath_core.autodiff.ops.shape import cast
from nnmath_core.autodiff.primitive import REGISTRY, Primitive
from nnmath_core.device import CPU, Backend
from nnmath_core.errors import NnmathError
from nnmath_core.program import loops
from nnmath_core.program.builder import Builder
from nnmath_core.program.ir import Equation
from nnmath_core.program.lower.bodies import define_constants, lower_equations
from nnmath_core.program.lower.elementwise import mapped
from nnmath_core.program.lower.entries import to_dtype
from nnmath_core.program.lower.gufuncs import emit_stack, found_ufunc, stack_loop
from nnmath_core.program.lower.rules import ANY, RULES, lowers
from nnmath_core.program.lower.systems import not_batched
from nnmath_core.program.passes import optimize
from nnmath_core.program.stage import stage

__all__ = ["Recording", "apply", "by_definition", "loop_p", "traced"]


# ------------------------------------------------------------------------------------------------ loops as primitives
def _call(be: Any, *xs: Any, module: Any, names: Any, types: Any, shapes: Any, refusal: Any) -> Any:
    """In Python, where there is no loop."""
    y = found_ufunc(module, *names)(*xs, signature=types)
    return y if isinstance(y, tuple) else (y,)


def _shapes(*avals: Any, module: Any, names: Any, types: Any, shapes: Any, refusal: Any) -> Any:
    chars = types.partition("->")[2]
    return tuple(Aval(s, np.dtype(c)) for s, c in zip(shapes, chars, strict=True))


loop_p = Primitive(
    "ufunc loop",
    forward=_call,
    differentiable=False,
    outputs="all",
    shape=_shapes,
    batch=not_batched,
    register=False,
)
"""All results of a universal function of a module, of given types and shapes; see `emit_stack` for the refusal."""


@lowers("ufunc loop")
def _loop(b: Builder, e: Equation) -> Any:
    p, types = e.params, e.params["types"]
    loop = stack_loop(p["module"], types, *p["names"])
    chars = types.partition("->")[0]
    if loop is None:
        return NotImplemented
    for x, c in zip(e.operands, chars, strict=True):
        if isinstance(x, Var) and not loops.castable(x.dtype, np.dtype(c)):
            return NotImplemented
    operands = [
        to_dtype(b, b.view(x), c) if isinstance(x, Var) else b.view(x, c)
        for x, c in zip(e.operands, chars, strict=True)
    ]
    if not any(loop.cores) and len(e.outputs) == 1:
        plain = loops.of_ufunc(found_ufunc(p["module"], *p["names"]), types)
        if plain is not None:
            out = e.outputs[0]
            b.define(out, mapped(b, plain, operands, out.dtype, out.shape))
            return None
    results = [b.new(v) for v in e.outputs]
    last = len(loop.cores[loop.nin])
    lead = results[0].shape[: results[0].ndim - last]
    entries = 8.0 * max((v.size for v in (*operands, *results)), default=0)
    emit_stack(b, loop, operands, results, lead, refusal=p["refusal"], flops=entries)
    return None


# ------------------------------------------------------------------------------------------------ functions of SciPy
def _promoting(x: Any) -> Any:
    if is_weak(x) or type(x) in (int, float, complex):
        return type(dtype_of(x).type(0).item()) if isinstance(x, Tracer) else type(x)
    return dtype_of(x)


def apply(module: str, name: str, ufunc: Any, *xs: Any) -> Any:
    """A ufunc on tracers, as NumPy would call it."""
    types = ufunc.resolve_dtypes((*map(_promoting, xs), *[None] * ufunc.nout))
    chars = "".join(t.char for t in types)
    shape = np.broadcast_shapes(*map(shape_of, xs))
    ys = loop_p(
        *xs, module=module, names=(name,), types=f"{chars[: ufunc.nin]}->{chars[ufunc.nin :]}",
        shapes=(shape,) * ufunc.nout, refusal=(),
    )  # fmt: skip
    return ys if ufunc.nout > 1 else ys[0]


def _own(name: str, *xs: Any) -> Any:
    """A ufunc that SciPy keeps to itself."""
    module = "scipy.special._ufuncs"
    return apply(module, name, found_ufunc(module, name), *xs)


def _reflected(name: str, even: int, n: Any, z: Any) -> Any:
    """A function that is even or odd, as its order says: ``even`` is its sign at -z for even orders."""
    if dtype_of(z).kind == "c":
        return _own(name, n, z)
    right, n = z >= 0, n if isinstance(n, Tracer) else np.asarray(n)
    y = _own(name, n, xnp.where(right, z, -z))
    return xnp.where(right, y, xnp.where(n % 2 == 0, even, -even) * y)


class _Special:
    """`scipy.special` on tracers: its ufuncs themselves, no primitives."""

    @staticmethod
    def lambertw(z: Any, k: Any) -> Any:
        """SciPy's wrapper: the branch is an integer, the tolerance its own."""
        return _own("_lambertw", z, k, 1e-8)

    @staticmethod
    def spherical_jn(n: Any, z: Any) -> Any:
        """SciPy's wrapper, as all of these: negative numbers by reflection."""
        return _reflected("_spherical_jn", 1, n, z)

    @staticmethod
    def spherical_yn(n: Any, z: Any) -> Any:
        """See `spherical_jn`."""
        return _reflected("_spherical_yn", -1, n, z)

    @staticmethod
    def spherical_in(n: Any, z: Any) -> Any:
        """See `spherical_jn`."""
        return _reflected("_spherical_in", 1, n, z)

    @staticmethod
    def spherical_kn(n: Any, z: Any) -> Any:
        """Negative numbers as complex ones."""
        if dtype_of(z).kind == "c":
            return _own("_spherical_kn", n, z)
        n = n if isinstance(n, Tracer) else np.asarray(n)
        y = _own("_spherical_kn", n, z)
        return xnp.where(z >= 0, y, xnp.real(_own("_spherical_kn", n, z + 0j)))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        f = getattr(scipy.special, name)
        for module, own in (("scipy.special", name), ("scipy.special._ufuncs", "_" + name)):
            ufunc = found_ufunc(module, own)
            if ufunc is not None:
                return functools.partial(_traced_or, f, module, own, ufunc)
        raise AttributeError(name)


def _traced_or(f: Any, module: str, name: str, ufunc: Any, *xs: Any) -> Any:
    return apply(module, name, ufunc, *xs) if any(isinstance(x, Tracer) for x in xs) else f(*xs)


class _Arrays:
    """`nnmath_core.numpy`, whose functions record tracers and run on arrays; not NumPy itself."""

    def __getattr__(self, name: str) -> Any:
        return getattr(xnp, name)

    @staticmethod
    def frexp(x: Any) -> Any:
        """Both results."""
        return apply("numpy", "frexp", np.frexp, x)

    @staticmethod
    def sinc(x: Any) -> Any:
        """NumPy's formula."""
        y = math.pi * xnp.where(x == 0, 1e-20, x)
        return xnp.sin(y) / y

    @staticmethod
    def asarray(x: Any, dtype: Any = None) -> Any:
        """What is an array or stands for one, in a dtype."""
        if not isinstance(x, Tracer):
            return np.asarray(x, dtype)
        return x if dtype is None else cast(x, dtype)


class Recording(Backend):
    """The backend that forward functions get: as on a device, by array code over its namespace."""

    name = "recording"
    device = CPU
    xp: Any = _Arrays()

    @property
    def special(self) -> Any:
        """`scipy.special` on tracers."""
        return _Special()


class _OnHost(Recording):
    """The same with NumPy as its namespace, for what is written apart for the host."""

    xp: Any = np


# ------------------------------------------------------------------------------------------------ the rule
_open: contextvars.ContextVar[tuple[Any, ...]] = contextvars.ContextVar("definitions", default=())
"""What is being recorded or lowered: nothing is made of itself."""


def traced(b: Builder, f: Callable[..., Any], e: Equation) -> bool:
    """Let the outputs be what f makes of the operands; False, and nothing emitted, where it cannot be recorded."""
    operands = e.operands
    variables = [x for x in operands if isinstance(x, Var)]
    if _kind(e) in _open.get() or not all(map(_has_kernels, (*variables, *e.outputs))):
        return False
    places = [i for i, x in enumerate(operands) if isinstance(x, Var)]

    def of_variables(*xs: Any) -> Any:
        full = list(operands)
        for i, x in zip(places, xs, strict=True):
            full[i] = x
        with np.errstate(all="ignore"):
            return f(*full)

    examples = [
        operands[i] if operands[i].weak else Aval(operands[i].shape, operands[i].dtype)
        for i in places
    ]
    before = _open.set((*_open.get(), _kind(e)))
    try:
        program, _ = optimize(stage(of_variables, *examples))
        if not _fits(program, e):
            return False
        for v, i in zip(program.inputs, places, strict=True):
            b.define(v, b.views[operands[i]])
        define_constants(b, program.constants)
        lower_equations(b, program.equations)
    except _UNTRACEABLE:
        return False
    finally:
        _open.reset(before)
    for y, v in zip(program.outputs, e.outputs, strict=True):
        view = to_dtype(b, b.view(y), v.dtype)
        b.define(v, replace(view, weak=v.weak))
    return True


_UNTRACEABLE = (
    NnmathError, TypeError, ValueError, AttributeError, NotImplementedError, IndexError, OverflowError
)  # fmt: skip
"""What a function raises that decides by values, or calls what knows no tracers."""


def _fits(program: Any, e: Equation) -> bool:
    """Whether a definition gives what the equation does, and is not made of what is being defined."""
    if len(program.outputs) != len(e.outputs):
        return False
    for y, v in zip(program.outputs, e.outputs, strict=True):
        if shape_of(y) != v.shape or not loops.castable(dtype_of(y), v.dtype):
            return False
    closed = _open.get()
    return not any(_kind(q) in closed for q in program.equations)


def _has_kernels(v: Var) -> bool:
    """Whether the machine computes with such numbers: a definition in parts that are done in Python gains nothing."""
    return v.dtype.kind in "biu" or v.dtype.str[1:] in ("f4", "f8", "c8", "c16")


def _kind(e: Equation) -> Any:
    """What may not be part of its own definition: the primitive for such operands."""
    return (e.primitive, *(dtype_of(x) for x in e.operands))


def by_definition(name: str, f: Callable[..., Any] | None = None, *, host: bool = False) -> None:
    """Lower a primitive by recording f, by default its forward function as on a device; ``host``: as on the host.

    Where it has a rule that declines, that comes first.
    """
    function = REGISTRY[name].on(_OnHost() if host else Recording()) if f is None else f
    first = RULES.pop(name, None)

    def rule(b: Builder, e: Equation) -> Any:
        if first is not None and first(b, e) is not NotImplemented:
            return None
        return None if traced(b, functools.partial(function, **e.params), e) else NotImplemented

    lowers(name)(rule)


@lowers(ANY)
def _any(b: Builder, e: Equation) -> Any:
    """A primitive without a rule: a function with a derivative of its own, or the derivative of a function."""
    if not isinstance(e.primitive, Primitive):
        return NotImplemented
    f = functools.partial(e.primitive.on(Recording()), **e.params)
    return None if traced(b, f, e) else NotImplemented
