"""NumPy's convolution and correlation of sequences."""

from __future__ import annotations

import numpy as np

from nnmath_core.autodiff.ops.conventions import as_operand, ndim_of, shape_of
from nnmath_core.autodiff.ops.convolve import convolve_p
from nnmath_core.autodiff.ops.elementwise import conjugated
from nnmath_core.autodiff.ops.plain import numpys
from nnmath_core.autodiff.ops.shape import flip_p
from nnmath_core.checks import require_in, sentence
from nnmath_core.errors import ShapeError

__all__ = ["convolve", "correlate"]


def _full(a, v):
    return convolve_p(a, v, spec=("", "", ""), full=True)


def _sequences(who, a, v, numbers):
    """The two sequences; ``numbers``: whether a number is a sequence of one."""
    found = []
    for name, x in (("a", a), ("v", v)):
        x = as_operand(x)
        if ndim_of(x) > 1 or not (numbers or ndim_of(x)):
            raise ShapeError(sentence(who, name, "an array of one axis", f"shape {shape_of(x)}"))
        x = x[None] if not ndim_of(x) else x
        if shape_of(x)[0] == 0:
            raise ValueError(f"{name} cannot be empty")
        found.append(x)
    return found


def _part(y, n, m, mode, late=False):
    """The part of a full convolution of n and m entries that a mode shows; ``late``: of two middles the second one."""
    small, large = min(n, m), max(n, m)
    if mode == "full":
        return y
    if mode == "valid":
        return y[small - 1 : large]
    start = small // 2 if late else (small - 1) // 2
    return y[start : start + large]


@numpys(np.convolve)
def convolve(a, v, mode="full"):
    """NumPy's ``convolve``, which is linear in both operands."""
    a, v = _sequences("convolve", a, v, numbers=True)
    require_in("convolve", "mode", mode, ("full", "same", "valid"))
    return _part(_full(a, v), shape_of(a)[0], shape_of(v)[0], mode)


@numpys(np.correlate)
def correlate(a, v, mode="valid"):
    """NumPy's ``correlate``: the convolution with v conjugated and in reverse order."""
    a, v = _sequences("correlate", a, v, numbers=False)
    require_in("correlate", "mode", mode, ("full", "same", "valid"))
    y = _full(a, flip_p(conjugated(v), axis=(0,)))
    n, m = shape_of(a)[0], shape_of(v)[0]
    return _part(y, n, m, mode, late=n < m)
