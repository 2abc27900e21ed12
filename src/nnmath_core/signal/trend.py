"""Removing a trend, and the analytic signal."""

from __future__ import annotations

import itertools
import operator
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import alias, dtype_of, shape_of
from nnmath_core.autodiff.ops.contract import contract
from nnmath_core.autodiff.ops.conventions import as_operand, beside, normal_axis, real_dtype
from nnmath_core.autodiff.ops.fft import fft, ifft
from nnmath_core.autodiff.ops.join import concatenate
from nnmath_core.autodiff.ops.plain import scipys
from nnmath_core.autodiff.ops.reduce import mean
from nnmath_core.autodiff.ops.shape import floating, moveaxis
from nnmath_core.checks import require_in, sentence
from nnmath_core.errors import DomainError, DtypeError, ShapeError

__all__ = ["detrend", "hilbert"]


@scipys("scipy.signal")
def detrend(
    data: Any, axis: int = -1, type: str = "linear", bp: Any = 0, overwrite_data: bool = False
) -> Any:
    """SciPy's ``detrend``: the mean, or a straight line between break points, is taken away; a projection."""
    require_in("detrend", "type", type, ("linear", "l", "constant", "c"))
    x = floating(data)
    n_axes = len(shape_of(x))
    axis = normal_axis("detrend", axis, n_axes)
    if type in ("constant", "c"):
        return x - mean(x, axis, keepdims=True)
    n = shape_of(x)[axis]
    if 0 in shape_of(x):
        raise ShapeError(
            sentence(
                "detrend",
                "data",
                "an array with entries, through which a line can be drawn",
                f"shape {shape_of(x)}",
            )
        )
    ends = sorted({0, n, *np.asarray(bp).ravel().tolist()})
    if ends[-1] > n or ends[0] < 0:
        raise DomainError(
            f"detrend: `bp` must hold positions between 0 and {n}, the length of the axis, got {bp}."
        )
    x = moveaxis(alias(x), axis, -1)
    pieces = [_without_line(x[..., a:b]) for a, b in itertools.pairwise(ends)]
    y = pieces[0] if len(pieces) == 1 else concatenate(pieces, -1)
    return moveaxis(y, -1, axis)


def _without_line(x: Any) -> Any:
    """X minus its least-squares line along the last axis, by an orthonormal basis of lines."""
    n = shape_of(x)[-1]
    basis = np.ones((n, 1)) / n**0.5
    if n > 1:
        slope = np.arange(n) - (n - 1) / 2
        basis = np.stack([basis[:, 0], slope / np.sqrt(np.sum(slope**2))], 1)
    q = beside(x, basis.astype(real_dtype(x)))
    letters = "abcdefgh"[: len(shape_of(x)) - 1]
    along = contract(x, q, spec=(letters + "x", "xy", letters + "y"))
    return x - contract(along, q, spec=(letters + "y", "xy", letters + "x"))


@scipys("scipy.signal")
def hilbert(x: Any, N: Any = None, axis: int = -1) -> Any:
    """SciPy's ``hilbert``: the analytic signal, whose real part is x."""
    x = as_operand(x)
    if dtype_of(x).kind == "c":
        raise DtypeError("hilbert: `x` must be real, got a complex array.")
    n_axes = len(shape_of(x))
    axis = normal_axis("hilbert", axis, n_axes)
    n = shape_of(x)[axis] if N is None else operator.index(N)
    if n <= 0:
        raise DomainError(f"hilbert: `N` must be positive, got {n}.")
    spectrum = fft(x, n, axis)
    # frequencies above 0 twice, below 0 not at all; 0 and, for even n, n/2 once
    weight = np.zeros(n, real_dtype(spectrum))
    weight[0] = 1
    weight[1 : (n + 1) // 2] = 2
    if n % 2 == 0:
        weight[n // 2] = 1
    weight = weight.reshape((n,) + (1,) * (n_axes - 1 - axis))
    return ifft(spectrum * beside(spectrum, weight), axis=axis)
