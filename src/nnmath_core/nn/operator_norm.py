"""The operator norm of a convolution: of the map from images to images, not of the kernel as a matrix."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nnmath_core.autodiff.ops.conventions import is_traced
from nnmath_core.checks import require_float, require_positive_int, sentence
from nnmath_core.device import to_device
from nnmath_core.errors import ConvergenceError, DomainError, ShapeError, TraceError
from nnmath_core.nn.affine import require_lengths
from nnmath_core.nn.spatial import Padding, Pairs, PerAxis, paddings, per_axis, require_room
from nnmath_core.nn.symbol import UNIT, certified_root, torus_norm
from nnmath_core.solvers import LinearOperator, lanczos
from nnmath_core.typing import Array

__all__ = ["OperatorNorm", "conv_operator_norm"]

_DENSE = 1024
"""Inputs or outputs up to which the map is a matrix; the Cholesky factorisation of its Gram matrix takes 0.05 s."""


@dataclass(frozen=True)
class OperatorNorm:
    """The norm of a linear map, with what proves it.

    Attributes
    ----------
    value : float
        The gain of the best vector found; between the bounds.
    lower, upper : float
        Bounds that are proofs in floating point: rounding is counted.
    residual : float
        ``|A^T A v - value**2 v| / value`` for that vector of length 1: some singular value is within it of the value,
        up to rounding.
    iterations : int
        Lanczos steps; 0 where the norm was found directly.
    """

    value: float
    lower: float
    upper: float
    residual: float
    iterations: int


def conv_operator_norm(
    kernel: Array,
    input_shape: int | Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: Padding | Literal["circular"] = "circular",
    dilation: PerAxis = 1,
    groups: int = 1,
) -> OperatorNorm:
    r"""Operator norm of a convolution on images of a given size, with certified bounds.

    .. math:: \lVert A \rVert = \max_{x \ne 0} \frac{\lVert \mathrm{conv}(x, K) \rVert_2}{\lVert x \rVert_2}

    Parameters
    ----------
    kernel : array, shape (kh, kw, in / groups, out), or (k, in / groups, out), ..., float32 or float64
        On any device; the computation is on the host, in double precision.
    input_shape : int or sequence of int
        The size of the images, (h, w), or (t,) or t of sequences.
    stride : int or sequence of int, default 1
        For all axes, or one for each.
    padding : "circular", or what `conv` takes, default "circular"
        Around the image: itself again, for ``ceil(size / stride)`` windows; or zeros.
    dilation : int or sequence of int, default 1
        Positions from one entry of the kernel to the next.
    groups : int, default 1
        Channels are in so many groups, which do not see each other; the norm is the largest of theirs.

    Returns
    -------
    OperatorNorm
        ``value``, ``lower``, ``upper``, ``residual``, ``iterations``.

    Raises
    ------
    ShapeError
        A number of axes does not fit, ``groups`` does not divide the outputs, or the kernel is larger than the image.
    DomainError
        The kernel has an entry that is not finite, or an option is not as above.
    DtypeError
        The kernel is no array of floats.
    TraceError
        The kernel is a traced value: this is a measurement, without derivative. `SpectralNorm` has one.

    Notes
    -----
    *Circular padding* is diagonal in frequency: the norm is the largest singular value of the (in, out) matrices
    :math:`\hat K(\theta) = \sum_k K_k e^{i \theta \cdot k}`. With a stride that divides the size, those of the s
    frequencies that become one stand together. Both bounds are then equal but for rounding.

    *Other padding*: up to 1024 inputs or outputs the map is written as a matrix, and the bounds are equal but for
    rounding. Above, `lanczos` finds the vector, from a fixed start, and with it the lower bound. The upper bound is the
    norm on a torus into which the image with its zeros fits, the smallest over functions that keep or change their sign
    around each axis (for 3 x 3 ones it is tight).

    *Rounding*. Upper bounds are proved by a Cholesky factorisation that succeeds (Rump); sums are bounded by their
    length times the unit roundoff; cosines are trusted to 4 units.

    *Against the reshaped kernel.* PyTorch's spectral norm divides by :math:`\sigma_R`, the norm of the kernel as a
    matrix (out, in kh kw). Where a window lies inside of the image, :math:`\sigma_R \le \lVert A \rVert \le \sqrt{k_h
    k_w} \, \sigma_R`, and both ends are met.

    *Cost*: with f frequencies :math:`O(f \, (k_h k_w \, c_i c_o + c_i c_o \min(c_i, c_o)))`.

    References
    ----------
    Sedghi, Gupta & Long, "The singular values of convolutional layers", 2019. Rump, "Verification of positive
    definiteness", 2006.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> ones = np.ones((3, 3, 1, 1))
    >>> round(nm.nn.conv_operator_norm(ones, (16, 16)).value, 10), np.linalg.norm(ones.reshape(9, 1), 2)
    (9.0, np.float64(3.0))
    >>> found = nm.nn.conv_operator_norm(ones, (16, 16), padding="same")
    >>> round(found.value, 10), found.upper - found.lower < 1e-8
    (8.7968368575, True)
    """
    who = "conv_operator_norm"
    kernel = _host(who, kernel)
    d = len(kernel.shape) - 2
    sizes = _sizes(who, input_shape, d)
    strides = per_axis(who, "stride", stride, d, 1)
    dilations = per_axis(who, "dilation", dilation, d, 1)
    groups = require_positive_int(who, "groups", groups)
    if kernel.shape[-1] % groups:
        wanted = f"a divisor of the {kernel.shape[-1]} outputs"
        raise ShapeError(sentence(who, "groups", wanted, str(groups)))
    circular = isinstance(padding, str) and padding == "circular"
    window, around = kernel.shape[:-2], "same" if circular else padding
    pads = paddings(who, around, sizes, window, strides, dilations)
    require_room(who, "kernel", sizes, window, strides, pads, dilations)
    top = float(np.max(np.abs(kernel), initial=0.0))
    if top == 0.0:
        return OperatorNorm(0.0, 0.0, 0.0, 0.0, 0)
    scale = 2.0 ** math.frexp(top)[1]  # exact, and nothing overflows
    parts = [
        _norm(_Map(k, sizes, strides, dilations, pads, circular))
        for k in np.split(kernel / scale, groups, axis=-1)
    ]
    best = max(parts, key=lambda p: p.value)
    return OperatorNorm(
        best.value * scale,
        max(p.lower for p in parts) * scale,
        max(p.upper for p in parts) * scale,
        best.residual * scale,
        sum(p.iterations for p in parts),
    )


# ------------------------------------------------------------------------------------ arguments
def _host(who: str, kernel: Any) -> Array:
    if is_traced(kernel):
        raise TraceError(
            f"{who}: `kernel` is a traced value, and this measurement has no derivative. Pass nm.value_of(kernel) "
            "for the number alone; SpectralNorm has a derivative, and so has np.linalg.norm(matrix, 2)."
        )
    kernel = require_float(who, "kernel", kernel)
    if len(kernel.shape) < 3 or 0 in kernel.shape:
        wanted = "of shape (kh, kw, in / groups, out), or (k, in / groups, out), without axes of 0"
        raise ShapeError(sentence(who, "kernel", wanted, str(tuple(kernel.shape))))
    host = np.asarray(to_device(kernel, "cpu"), dtype=np.float64)
    if not np.isfinite(host).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(host))[0])
        got = f"{host[index]} at {index}"
        raise DomainError(sentence(who, "kernel", "finite", got))
    return host


def _sizes(who: str, given: Any, d: int) -> tuple[int, ...]:
    """The lengths of the axes of positions."""
    sizes = require_lengths(who, "input_shape", given)
    if len(sizes) != d:
        wanted = f"the size of the images, {d} number{'s' * (d > 1)} for this kernel"
        raise ShapeError(sentence(who, "input_shape", wanted, str(sizes)))
    return sizes


# ------------------------------------------------------------------------------------ the map
class _Map:
    """A convolution of one group, from (n, *sizes, in) to (n, *counts, out), and its transpose."""

    def __init__(
        self,
        kernel: Array,
        sizes: tuple[int, ...],
        stride: tuple[int, ...],
        dilation: tuple[int, ...],
        pads: Pairs,
        circular: bool,
    ) -> None:
        self.kernel, self.sizes, self.stride, self.dilation = kernel, sizes, stride, dilation
        self.pads, self.circular = pads, circular
        *self.lengths, self.ins, self.outs = kernel.shape
        axes = zip(sizes, pads, self.lengths, stride, dilation, strict=True)
        self.counts = tuple((n + sum(p) - m * (k - 1) - 1) // s + 1 for n, p, k, s, m in axes)
        self.inputs = math.prod(sizes) * self.ins
        self.outputs = math.prod(self.counts) * self.outs
        self.taps = math.prod(self.lengths)
        self.places = self._places()

    def _places(self) -> Array:
        """Where each entry of the padded image comes from, flat; the number of entries stands for a zero."""
        total = math.prod(self.sizes)
        places = np.zeros((), dtype=np.int64)
        inside = np.ones((), dtype=bool)
        for n, (before, after) in zip(self.sizes, self.pads, strict=True):
            at = np.arange(-before, n + after)
            places = places[..., None] * n + at % n
            inside = inside[..., None] & ((at >= 0) & (at < n) | self.circular)
        return np.where(inside, places, total)

    def windows(self) -> list[tuple[tuple[int, ...], Array]]:
        """For each tap the entries of the flat image that it meets."""
        out = []
        for tap in np.ndindex(*self.lengths):
            axes = zip(tap, self.dilation, self.stride, self.counts, strict=True)
            cut = tuple(slice(k * m, k * m + (c - 1) * s + 1, s) for k, m, s, c in axes)
            out.append((tap, self.places[cut].ravel()))
        return out

    def apply(self, x: Array) -> Array:
        """Rows of images to rows of images: (n, inputs) -> (n, outputs)."""
        n, total = len(x), math.prod(self.sizes)
        full = np.zeros((n, total + 1, self.ins))
        full[:, :total] = x.reshape(n, total, self.ins)
        y = np.zeros((n, math.prod(self.counts), self.outs))
        for tap, places in self.windows():
            y += full[:, places] @ self.kernel[tap]
        return y.reshape(n, -1)

    def transpose(self, g: Array) -> Array:
        """(n, outputs) -> (n, inputs)."""
        n, total = len(g), math.prod(self.sizes)
        g = g.reshape(n, -1, self.outs)
        x = np.zeros((total + 1, n, self.ins))
        for tap, places in self.windows():
            part = np.swapaxes(g @ self.kernel[tap].T, 0, 1)
            if self.circular:  # windows may go around, and meet a place twice
                np.add.at(x, places, part)
            else:
                x[places] += part  # only that of the zeros is met more than once
        return np.swapaxes(x[:total], 0, 1).reshape(n, -1)

    def rounding(self) -> float:
        """A bound of the error of a product with a vector of length 1: of |A||x|, by its norms 1 and infinity."""
        size = np.abs(self.kernel).sum(axis=tuple(range(len(self.lengths))))
        spread = math.sqrt(float(size.sum(axis=0).max() * size.sum(axis=1).max()))
        if self.circular:  # an input may be met as often as windows overlap it
            spread *= math.sqrt(self.taps)
        terms = self.taps * max(self.ins, self.outs) + 8
        return float(terms * UNIT * spread)


class _Gram(LinearOperator):
    """A^T A, or A A^T where that is smaller."""

    symmetric = True

    def __init__(self, of: _Map) -> None:
        self.of = of
        self.narrow = of.inputs <= of.outputs
        n = min(of.inputs, of.outputs)
        self.shape, self.dtype = (n, n), np.dtype(np.float64)

    def _matmat(self, X: Array) -> Array:
        rows, of = np.ascontiguousarray(X.T), self.of
        if self.narrow:
            return of.transpose(of.apply(rows)).T
        return of.apply(of.transpose(rows)).T


# ------------------------------------------------------------------------------------ the norm
def _norm(of: _Map) -> OperatorNorm:
    divides = all(n % s == 0 for n, s in zip(of.sizes, of.stride, strict=True))
    if of.circular and divides:
        found = torus_norm(of.kernel, of.sizes, of.stride, of.dilation, (0,) * len(of.sizes))
        return OperatorNorm(found.value, found.lower, found.upper, found.residual, 0)
    if min(of.inputs, of.outputs) <= _DENSE:
        return _dense_norm(of)
    return _found_norm(of)


def _dense_norm(of: _Map) -> OperatorNorm:
    """The map as a matrix; its entries are those of the kernel, or sums of a few where a torus is small."""
    narrow = of.inputs <= of.outputs
    rows = of.apply(np.eye(of.inputs)) if narrow else of.transpose(np.eye(of.outputs))
    gram = rows @ rows.T
    values, vectors = np.linalg.eigh(gram)
    weight = float(np.square(rows).sum())
    terms = of.taps * max(of.ins, of.outs) + 8  # the other entries of a row are exact zeros
    upper = certified_root(gram, terms * UNIT * weight, max(float(values[-1]), 0.0))
    upper += of.taps * UNIT * math.sqrt(weight) if of.circular else 0.0
    return _measured(of, vectors[:, -1], narrow, upper, 0)


def _found_norm(of: _Map) -> OperatorNorm:
    gram = _Gram(of)
    pairs: Any
    try:
        pairs = lanczos(gram, k=1, tol=1e-9, max_steps=500, rng=0, confirm=False)
    except ConvergenceError as stop:
        pairs = stop.partial
    if pairs.interrupted:
        raise KeyboardInterrupt
    sizes = of.sizes
    if not of.circular:
        sizes = tuple(
            max(n + a, n + b, n + a + b - m * (k - 1))
            for n, (a, b), k, m in zip(of.sizes, of.pads, of.lengths, of.dilation, strict=True)
        )
    # on a torus of a size that the stride does not divide, the map is a part of that without a stride
    stride = (1,) * len(sizes) if of.circular else of.stride
    sizes = tuple(-(-n // s) * s for n, s in zip(sizes, stride, strict=True))
    twists = [(0,) * len(sizes)]
    if not of.circular:
        twists = list(itertools.product((0, 1), repeat=len(sizes)))
    upper = min(torus_norm(of.kernel, sizes, stride, of.dilation, t).upper for t in twists)
    return _measured(of, pairs.vectors[:, -1], gram.narrow, upper, int(pairs.iterations))


def _measured(of: _Map, vector: Array, narrow: bool, upper: float, iterations: int) -> OperatorNorm:
    """The gain of a vector, with the bound that it proves."""
    first, second = (of.apply, of.transpose) if narrow else (of.transpose, of.apply)
    v = (vector / np.linalg.norm(vector))[None]
    image = first(v)
    value = float(np.linalg.norm(image))
    residual = float(np.linalg.norm(second(image) - value**2 * v)) / value if value else 0.0
    terms = v.size + image.size + 8  # of the lengths
    lower = max(0.0, value * (1 - terms * UNIT) - of.rounding() * (1 + terms * UNIT))
    return OperatorNorm(min(value, upper), min(lower, upper), upper, residual, iterations)
