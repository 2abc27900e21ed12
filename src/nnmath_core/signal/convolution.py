"""Convolution and correlation, in any number of dimensions, by products or by Fourier transforms."""

from __future__ import annotations

import importlib
import math
import string
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.fft import next_fast_len

from nnmath_core._ext._autodiff import alias, dtype_of, shape_of
from nnmath_core.autodiff.ops.contract import contract
from nnmath_core.autodiff.ops.conventions import as_operand, constant, normal_axis
from nnmath_core.autodiff.ops.convolve import convolve_p
from nnmath_core.autodiff.ops.elementwise import conj
from nnmath_core.autodiff.ops.fft import fftn, ifftn, irfftn, rfftn
from nnmath_core.autodiff.ops.pad import pad
from nnmath_core.autodiff.ops.plain import scipys
from nnmath_core.autodiff.ops.shape import cast, flip, transpose
from nnmath_core.checks import require_in
from nnmath_core.errors import ShapeError

__all__ = [
    "choose_conv_method",
    "convolve",
    "convolve2d",
    "correlate",
    "correlate2d",
    "correlation_lags",
    "fftconvolve",
    "oaconvolve",
    "tensor_convolve",
]

_MODES = ("full", "valid", "same")


# ---------------------------------------------------------------------------------------------- operands
def _operands(who: str, in1: Any, in2: Any, mode: str) -> tuple[Any, Any]:
    require_in(who, "mode", mode, _MODES)
    x, y = as_operand(in1), as_operand(in2)
    if len(shape_of(x)) != len(shape_of(y)):
        raise ShapeError(
            f"{who}: `in1` and `in2` must have the same number of axes, "
            f"got shapes {shape_of(x)} and {shape_of(y)}."
        )
    return x, y


def _is_shorter(who: str, sx: Sequence[int], sy: Sequence[int]) -> bool:
    """Whether the operands of a valid convolution must change places; an error if neither contains the other."""
    if all(m >= n for m, n in zip(sx, sy, strict=True)):
        return False
    if all(m <= n for m, n in zip(sx, sy, strict=True)):
        return True
    raise ShapeError(
        f'{who}: for mode="valid" one operand must be at least as large as the other in every dimension, '
        f"got shapes {tuple(sx)} and {tuple(sy)}."
    )


def _centre(y: Any, lengths: Sequence[int]) -> Any:
    """The middle of y, of these lengths; what is left over on one side more is on the right."""
    have = shape_of(y)
    if tuple(have) == tuple(lengths):
        return y
    starts = [(m - n) // 2 for m, n in zip(have, lengths, strict=True)]
    return alias(y)[tuple(slice(a, a + n) for a, n in zip(starts, lengths, strict=True))]


def _reversed(x: Any) -> Any:
    return conj(flip(alias(x)))


# ---------------------------------------------------------------------------------------------- the two methods
def _direct(who: str, x: Any, y: Any, mode: str) -> Any:
    sx, sy = shape_of(x), shape_of(y)
    if mode == "valid":
        if _is_shorter(who, sx, sy):
            x, y = y, x
        return convolve_p(x, y, spec=("", "", ""), full=False)
    z = convolve_p(x, y, spec=("", "", ""), full=True)
    return _centre(z, sx) if mode == "same" else z


def _by_fourier(who: str, x: Any, y: Any, mode: str, axes: Sequence[int]) -> Any:
    """Convolve along the axes and broadcast along the others."""
    axes = [a for a in axes if shape_of(x)[a] != 1 and shape_of(y)[a] != 1]
    sx, sy = shape_of(x), shape_of(y)
    rest = [a for a in range(len(sx)) if a not in axes]
    if any(sx[a] != sy[a] and 1 not in (sx[a], sy[a]) for a in rest):
        raise ShapeError(
            f"{who}: axes that are not convolved must broadcast, got shapes {sx} and {sy}."
        )
    if mode == "valid" and _is_shorter(who, [sx[a] for a in axes], [sy[a] for a in axes]):
        x, y, sx, sy = y, x, sy, sx
    full = [sx[a] + sy[a] - 1 if a in axes else max(sx[a], sy[a]) for a in range(len(sx))]
    z = x * y if not axes else _product_of_spectra(x, y, axes, [full[a] for a in axes])
    z = alias(z)[tuple(slice(0, n) for n in full)]
    if mode == "full":
        return z
    if mode == "same":
        return _centre(z, sx)
    return _centre(z, [sx[a] - sy[a] + 1 if a in axes else full[a] for a in range(len(sx))])


def _product_of_spectra(x: Any, y: Any, axes: Sequence[int], lengths: Sequence[int]) -> Any:
    dtype = np.result_type(dtype_of(x), dtype_of(y))
    dtype = dtype if dtype.kind in "fc" else np.dtype(float)
    x, y = cast(x, dtype), cast(y, dtype)  # or a float32 operand would be transformed in float32
    is_complex = dtype.kind == "c"
    fast = [next_fast_len(n, not is_complex) for n in lengths]
    to, back = (fftn, ifftn) if is_complex else (rfftn, irfftn)
    return back(to(x, fast, axes) * to(y, fast, axes), fast, axes)


# Nanoseconds of one product of the direct method, along one axis and along several; of one pass over the array for an
# entry of the smaller operand; of one point of three transforms, for each factor of two in their number; and of a call.
_PRODUCT_1D, _PRODUCT, _PASS = 0.35, 1.7, 8e3
_POINT, _CALL = 4.0, 1.5e5


def _cheaper(x: Any, y: Any, mode: str) -> str:
    """The method that takes less time by a count of operations; integers stay exact."""
    sx, sy = shape_of(x), shape_of(y)
    if dtype_of(x).kind not in "fc" and dtype_of(y).kind not in "fc":
        return "direct"
    taps = min(math.prod(sx), math.prod(sy))
    if mode == "valid":
        outputs = math.prod(abs(m - n) + 1 for m, n in zip(sx, sy, strict=True))
    else:
        outputs = max(math.prod(sx), math.prod(sy))
    if len(sx) == 1:
        direct = outputs * taps * _PRODUCT_1D
    else:
        direct = outputs * taps * _PRODUCT + taps * _PASS
    points = math.prod(m + n - 1 for m, n in zip(sx, sy, strict=True))
    fourier = points * math.log2(max(points, 2)) * _POINT + _CALL
    return "fft" if fourier < direct else "direct"


@scipys("scipy.signal")
def choose_conv_method(in1: Any, in2: Any, mode: str = "full", measure: bool = False) -> Any:
    """SciPy's ``choose_conv_method``; on traced arrays what `convolve` will do, by a count of operations."""
    x, y = _operands("choose_conv_method", in1, in2, mode)
    return _cheaper(x, y, mode)


# ---------------------------------------------------------------------------------------------- SciPy's functions
def _is_empty(x: Any, y: Any) -> bool:
    return 0 in shape_of(x) or 0 in shape_of(y)


@scipys("scipy.signal")
def convolve(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    """SciPy's ``convolve``, in any number of dimensions; ``method="auto"`` counts operations."""
    return _convolved("convolve", in1, in2, mode, method)


def _convolved(who: str, in1: Any, in2: Any, mode: str, method: str) -> Any:
    require_in(who, "method", method, ("auto", "direct", "fft"))
    x, y = _operands(who, in1, in2, mode)
    if shape_of(x) == ():
        return x * y
    if _is_empty(x, y):
        raise ShapeError(
            f"{who}: `in1` and `in2` must not be empty, got shapes {shape_of(x)} and {shape_of(y)}."
        )
    if method == "auto":
        method = _cheaper(x, y, mode)
    if method == "direct":
        return _direct(who, x, y, mode)
    if mode == "valid":  # an error before anything is broadcast
        _is_shorter(who, shape_of(x), shape_of(y))
    return _by_fourier(who, x, y, mode, range(len(shape_of(x))))


@scipys("scipy.signal")
def correlate(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    """SciPy's ``correlate``: the convolution with the conjugate of ``in2``, reversed."""
    return _convolved("correlate", in1, _reversed(as_operand(in2)), mode, method)


def correlation_lags(in1_len: int, in2_len: int, mode: str = "full") -> Any:
    """SciPy's ``correlation_lags``: which shift each entry of `correlate` belongs to."""
    return importlib.import_module("scipy.signal").correlation_lags(in1_len, in2_len, mode)


@scipys("scipy.signal")
def fftconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> Any:
    """SciPy's ``fftconvolve``: along all axes or some, the others broadcast."""
    return _fftconvolve("fftconvolve", in1, in2, mode, axes)


@scipys("scipy.signal")
def oaconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> Any:
    """SciPy's ``oaconvolve``; on traced arrays one transform, without the economy of overlapping blocks."""
    return _fftconvolve("oaconvolve", in1, in2, mode, axes)


def _fftconvolve(who: str, in1: Any, in2: Any, mode: str, axes: Any) -> Any:
    x, y = _operands(who, in1, in2, mode)
    n = len(shape_of(x))
    if n == 0:
        return x * y
    if _is_empty(x, y):
        return constant(x, (0,), 0, np.float64)
    if axes is None:
        axes = range(n)
    else:
        axes = axes if isinstance(axes, (tuple, list)) else (axes,)
        axes = [normal_axis(who, a, n) for a in axes]
        if not axes or len(set(axes)) != len(axes):
            raise ValueError(
                f"{who}: `axes` must name at least one axis and none twice, got {axes}."
            )
    return _by_fourier(who, x, y, mode, axes)


# ---------------------------------------------------------------------------------------------- two dimensions
_BOUNDARIES = {"fill": "constant", "wrap": "wrap", "symm": "symmetric"}


@scipys("scipy.signal")
def convolve2d(
    in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0
) -> Any:
    """SciPy's ``convolve2d``: what lies outside of ``in1`` is a number, or ``in1`` repeated or mirrored."""
    x, y = _images("convolve2d", in1, in2, mode, boundary)
    return _convolved_images(x, y, mode, boundary, fillvalue, early=True)


@scipys("scipy.signal")
def correlate2d(
    in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0
) -> Any:
    """SciPy's ``correlate2d``: as `convolve2d` with the conjugate of ``in2``, reversed."""
    x, y = _images("correlate2d", in1, in2, mode, boundary)
    z = _convolved_images(x, _reversed(y), mode, boundary, fillvalue, early=False)
    if mode == "valid" and _is_shorter("correlate2d", shape_of(x), shape_of(y)):
        return conj(z)  # SciPy's conjugates the smaller one, which is `in1` here
    return z


def _images(who: str, in1: Any, in2: Any, mode: str, boundary: str) -> tuple[Any, Any]:
    require_in(who, "boundary", boundary, tuple(_BOUNDARIES))
    x, y = _operands(who, in1, in2, mode)
    if len(shape_of(x)) != 2 or _is_empty(x, y):
        raise ShapeError(
            f"{who}: `in1` and `in2` must be matrices that are not empty, got shapes {shape_of(x)} and {shape_of(y)}."
        )
    return x, y


def _convolved_images(
    x: Any, y: Any, mode: str, boundary: str, fillvalue: Any, *, early: bool
) -> Any:
    if mode == "valid":
        return _convolved("convolve2d", x, y, "valid", "auto")
    reach = [n - 1 for n in shape_of(y)]
    if mode == "full":
        widths = [(r, r) for r in reach]
    else:  # of an even kernel the middle is the entry before, of a correlation after it
        starts = [r // 2 if early else (r + 1) // 2 for r in reach]
        widths = [(r - a, a) for r, a in zip(reach, starts, strict=True)]
    mode_of_pad = _BOUNDARIES[boundary]
    more = {"constant_values": fillvalue} if mode_of_pad == "constant" else {}
    if not any(map(any, widths)):
        padded = x
    else:
        padded = pad(alias(x), widths, mode_of_pad, **more)
    method = _cheaper(padded, y, "valid")
    if method == "direct":
        return _direct("convolve2d", padded, y, "valid")
    return _by_fourier("convolve2d", padded, y, "valid", (0, 1))


# ---------------------------------------------------------------------------------------------- labelled axes
def tensor_convolve(
    A: Any,
    B: Any,
    axes: Any = None,
    dot_axes: Any = ((), ()),
    mode: str = "full",
) -> Any:
    """Convolve some axes, sum over pairs of others, keep the rest: ``convolve`` of HIPS autograd's ``scipy.signal``.

    The axes of the result are those of A that are neither in ``axes[0]`` nor in ``dot_axes[0]``, those of B likewise,
    and the convolved ones. ``axes=None`` convolves all axes. The method is direct: made for short kernels and many
    channels.
    """
    require_in("tensor_convolve", "mode", mode, _MODES)
    x, y = as_operand(A), as_operand(B)
    sx, sy = shape_of(x), shape_of(y)
    if axes is None:
        axes = (range(len(sx)), range(len(sy)))
    cx, cy = (
        [normal_axis("tensor_convolve", i, len(s)) for i in a]
        for a, s in zip(axes, (sx, sy), strict=True)
    )
    dx, dy = (
        [normal_axis("tensor_convolve", i, len(s)) for i in a]
        for a, s in zip(dot_axes, (sx, sy), strict=True)
    )
    if len(cx) != len(cy) or len(dx) != len(dy):
        raise ShapeError(
            f"tensor_convolve: `axes` and `dot_axes` must name as many axes of A as of B, got {axes} and {dot_axes}."
        )
    if any(len(set(used)) != len(used) for used in (cx + dx, cy + dy)):
        raise ShapeError(
            f"tensor_convolve: an axis is named twice in `axes` = {axes} and `dot_axes` = {dot_axes}."
        )
    for i, j in zip(dx, dy, strict=True):
        if sx[i] != sy[j]:
            raise ShapeError(
                f"tensor_convolve: axis {i} of A and axis {j} of B are summed and must have one length, "
                f"got {sx[i]} and {sy[j]}."
            )
    ix = [i for i in range(len(sx)) if i not in cx + dx]
    iy = [i for i in range(len(sy)) if i not in cy + dy]
    letters = iter(string.ascii_letters)
    kept_x, kept_y, summed = ("".join(next(letters) for _ in group) for group in (ix, iy, dx))
    x, y = transpose(alias(x), ix + dx + cx), transpose(alias(y), iy + dy + cy)
    spec = (kept_x + summed, kept_y + summed, kept_x + kept_y)
    kx, ky = [sx[i] for i in cx], [sy[i] for i in cy]
    if 0 in kx or 0 in ky:
        raise ShapeError(
            f"tensor_convolve: convolved axes must not be empty, got lengths {kx} and {ky}."
        )
    if not kx:
        return contract(x, y, spec=spec)
    if mode == "valid":
        if _is_shorter("tensor_convolve", kx, ky):
            x, y, spec = y, x, (spec[1], spec[0], spec[2])
        return convolve_p(x, y, spec=spec, full=False)
    z = convolve_p(x, y, spec=spec, full=True)
    return z if mode == "full" else _centre(z, [*shape_of(z)[: len(spec[2])], *kx])
