"""Discrete Fourier transforms: NumPy's loops, an axis at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core.program.builder import Builder, View
from nnmath_core.program.ir import Equation
from nnmath_core.program.loops import castable
from nnmath_core.program.lower.entries import to_dtype, zeros
from nnmath_core.program.lower.gufuncs import StackLoop, emit_stack, stack_loop
from nnmath_core.program.lower.rules import lowers

__all__: list[str] = []

MODULE = "numpy.fft._pocketfft_umath"


def _operand(b: Builder, x: Any, dtype: Any) -> View | None:
    if not isinstance(x, Var) or not castable(x.dtype, dtype):
        return None
    return to_dtype(b, b.view(x), dtype)


def _factor(b: Builder, n: int, divides: str, dtype: Any) -> View:
    """The number that a transform of n points is multiplied with: 1, 1 / sqrt(n) or 1 / n."""
    one = np.ones((), dtype)
    root = np.sqrt(np.asarray(n, dtype))
    value = {"no": one, "ortho": one / root, "all": one / np.asarray(n, dtype)}[divides]
    return b.constant(np.asarray(value, dtype))


def _divides(norm: str, inverse: bool) -> str:
    """By how much a transform divides: not, by the root of its length, or by all of it."""
    if norm == "ortho":
        return "ortho"
    return "all" if (norm == "backward") == inverse else "no"


def _along(
    b: Builder, loop: StackLoop, x: View, axis: int, factor: View, out: View, n: int
) -> None:
    """Transform along one axis, which is put last."""
    order = [*(a for a in range(x.ndim) if a != axis), axis]
    lead = [x.shape[a] for a in order[:-1]]
    share = 1.0 if loop.name in ("fft", "ifft") else 0.5
    flops = 5.0 * share * n * math.log2(max(n, 2)) * math.prod(lead)
    emit_stack(
        b, loop, [x.transposed(order), factor], [out.transposed(order)], lead, flops=flops,
        note=f"{loop.name} of {n}",
    )  # fmt: skip


def _loop(name: str, dtype: Any, types: str) -> StackLoop | None:
    """Its loop; in ``types`` C stands for the complex type of a precision and r for the real one."""
    half = np.zeros(0, dtype).real.dtype
    if half.itemsize not in (4, 8):
        return None
    chars = types.replace("C", np.result_type(half, 1j).char).replace("r", half.char)
    return stack_loop(MODULE, chars, name)


@lowers("fft")
def _fft(b: Builder, e: Equation) -> Any:
    out, axes = e.outputs[0], e.params["axes"]
    inverse = e.params["inverse"]
    loop = _loop("ifft" if inverse else "fft", out.dtype, "Cr->C")
    if loop is None or not isinstance(e.operands[0], Var):
        return NotImplemented
    if 0 in out.shape:
        zeros(b, out)
        return None
    x = _operand(b, e.operands[0], out.dtype)
    if x is None:
        return NotImplemented
    half = np.zeros(0, out.dtype).real.dtype
    for axis in reversed(axes):
        n = x.shape[axis]
        y = b.array(x.shape, out.dtype)
        _along(b, loop, x, axis, _factor(b, n, _divides(e.params["norm"], inverse), half), y, n)
        x = y
    b.define(out, x)
    return None


@lowers("rfft")
def _rfft(b: Builder, e: Equation) -> Any:
    out, axis = e.outputs[0], e.params["axis"]
    half = np.zeros(0, out.dtype).real.dtype
    operand = e.operands[0]
    if not isinstance(operand, Var) or operand.dtype.kind == "c":
        return NotImplemented
    n = operand.shape[axis]
    loop = _loop("rfft_n_odd" if n % 2 else "rfft_n_even", out.dtype, "rr->C")
    return _real(b, e, loop, half, n, _divides(e.params["norm"], False))


@lowers("irfft")
def _irfft(b: Builder, e: Equation) -> Any:
    out, n = e.outputs[0], e.params["n"]
    loop = _loop("irfft", out.dtype, "Cr->r")
    return _real(b, e, loop, np.result_type(out.dtype, 1j), n, _divides(e.params["norm"], True))


def _real(b: Builder, e: Equation, loop: StackLoop | None, dtype: Any, n: int, divides: str) -> Any:
    """A transform whose operand or result is real."""
    out, operand = e.outputs[0], e.operands[0]
    if loop is None or not isinstance(operand, Var):
        return NotImplemented
    if 0 in out.shape or 0 in operand.shape:
        zeros(b, out)
        return None
    x = _operand(b, operand, dtype)
    if x is None:
        return NotImplemented
    half = np.zeros(0, out.dtype).real.dtype
    _along(b, loop, x, e.params["axis"], _factor(b, n, divides, half), b.new(out), n)
    return None
