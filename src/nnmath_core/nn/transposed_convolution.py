"""Transposed convolutions of images and sequences, and their layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.autodiff.ops.convolutions import conv_input_p
from nnmath_core.autodiff.ops.join import pad_p
from nnmath_core.autodiff.ops.shape import reshape_p, transpose_p
from nnmath_core.checks import require_positive_int, sentence
from nnmath_core.device import entering
from nnmath_core.errors import DomainError, ShapeError
from nnmath_core.nn.initializers import he_normal
from nnmath_core.nn.kernel_layer import KernelLayer, kernel_operands, require_channels, with_bias
from nnmath_core.nn.spatial import Padding, PerAxis, flat_batch, paddings, per_axis, unflat_batch
from nnmath_core.typing import Array, Rng

__all__ = ["ConvTranspose1d", "ConvTranspose2d", "conv_transpose"]


@entering
def conv_transpose(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Array:
    r"""Transposed convolution: the adjoint of `conv`, which spreads every entry over a window.

    .. math::
        y_{n, m, o} = b_o + \sum_{t, k:\; s t + d k - p = m} \; \sum_{c} x_{n, t, c} \, w_{k, c, o}

    Parameters
    ----------
    x : array, shape (..., size, in), float32 or float64
        As many axes of positions as the kernel has; before them any axes of examples, or none.
    kernel : array, shape (window, in / groups, out), dtype of ``x``
        The axes of `conv`: input before output.
    bias : array, shape (out,), dtype of ``x``, or None
    stride : int or sequence of int, default 1
        Positions of the result from one window to the next.
    padding : int, or an int or a pair (before, behind) for each axis, default 0
        How many positions at each end are left out: the padding of the `conv` that this is the
        adjoint of.
    output_padding : int or sequence of int, default 0
        Positions more behind; smaller than the stride or the dilation. Strided convolutions of
        several sizes have results of one size; this says which of them comes back.
    dilation : int or sequence of int, default 1
    groups : int, default 1
        The channels in that many blocks, each of which sees its own block of the input alone.

    Returns
    -------
    array, shape (..., lengths, out)
        ``(size - 1) * stride - padding before - padding behind + dilation * (window - 1) +
        output_padding + 1`` positions along each axis.

    Raises
    ------
    DtypeError
        ``x`` or ``kernel`` is no array of floats, or the dtypes differ; an option is no integer.
    ShapeError
        The channels do not fit, ``groups`` does not divide those of the output, the padding leaves
        nothing, or an option has not one number for each axis.
    DomainError
        A stride, dilation or number of groups below 1, a negative padding, or an output padding
        that is as large as stride and dilation.

    Notes
    -----
    As PyTorch's ``conv_transpose1d`` to ``conv_transpose3d`` up to the layout; there the kernel is
    ``(in, out / groups, *window)``. With one group it is the adjoint in this sense: the inner
    product of ``conv(x, w)`` and ``g`` is that of ``x`` and ``conv_transpose(g, v)`` with
    ``v = swapaxes(w, -1, -2)``.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> x = np.array([[1.0], [10.0]])
    >>> w = np.array([1.0, 2.0, 3.0])[:, None, None]
    >>> nm.nn.conv_transpose(x, w, stride=2)[:, 0]
    array([ 1.,  2., 13., 20., 30.])
    >>> nm.nn.conv_transpose(x, w, stride=2, padding=1, output_padding=1)[:, 0]
    array([ 2., 13., 20., 30.])
    """
    return _conv_transpose(
        "conv_transpose",
        "kernel",
        x,
        kernel,
        bias,
        stride,
        padding,
        output_padding,
        dilation,
        groups,
    )


def _require_no_word(who: str, padding: Any) -> None:
    """Refuse "same": there are several lengths whose convolution would have the given one."""
    if isinstance(padding, str) and padding != "valid":
        wanted = "an integer, or an integer or a pair for each axis"
        advice = "It is that of the convolution whose adjoint is wanted."
        raise DomainError(sentence(who, "padding", wanted, repr(padding), advice))


def _conv_transpose(
    who: str,
    name: str,
    x: Any,
    kernel: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: Any,
) -> Array:
    x, kernel, axes = kernel_operands(who, name, x, kernel)
    stride = per_axis(who, "stride", stride, axes, 1)
    dilation = per_axis(who, "dilation", dilation, axes, 1)
    more = per_axis(who, "output_padding", output_padding, axes, 0)
    groups = require_positive_int(who, "groups", groups)
    require_channels(who, name, x, kernel, groups)
    for i, (m, s, d) in enumerate(zip(more, stride, dilation, strict=True)):
        if m >= max(s, d):
            wanted = f"less than stride {s} or dilation {d} along axis {i} of positions"
            raise DomainError(sentence(who, "output_padding", wanted, str(m)))
    size, window = tuple(x.shape[-axes - 1 : -1]), tuple(kernel.shape[:-2])
    _require_no_word(who, padding)
    pairs = paddings(who, padding, size, window, stride, dilation)
    # Positions that the padding left out come back first; what is more has no entry to come from.
    empty = [max(m - p[1], 0) if m >= s else 0 for m, s, p in zip(more, stride, pairs, strict=True)]
    shown = [
        (p[0], max(p[1] - m, 0)) if m >= s else p
        for m, s, p in zip(more, stride, pairs, strict=True)
    ]
    kept = [m if m < s else 0 for m, s in zip(more, stride, strict=True)]
    terms = zip(size, window, stride, shown, dilation, kept, strict=True)
    lengths = tuple((n - 1) * s - sum(p) + d * (k - 1) + m + 1 for n, k, s, p, d, m in terms)
    for i, m in enumerate(lengths):
        if size[i] < 1 or m < 1:
            advice = f"It would leave {m + empty[i]} of them along axis {i}."
            wanted = "small enough to leave a position of the result"
            if size[i] < 1:
                raise ShapeError(
                    sentence(who, "x", "of at least one position", str(tuple(x.shape)))
                )
            raise ShapeError(sentence(who, "padding", wanted, str(pairs), advice))
    flat, lead = flat_batch(x, axes)
    y: Array = conv_input_p(
        flat,
        _turned(kernel, groups),
        size=lengths,
        stride=stride,
        padding=tuple(shown),
        dilation=dilation,
        groups=groups,
    )
    if any(empty):
        y = pad_p(y, widths=((0, 0), *((0, m) for m in empty), (0, 0)))
    return with_bias(who, unflat_batch(y, lead), bias, kernel, name)


def _turned(kernel: Array, groups: int) -> Array:
    """The kernel (*window, in / groups, out) with output before input: (*window, out / groups, in)."""
    *window, each, outs = kernel.shape
    d = len(window)
    split = reshape_p(kernel, shape=(*window, each, groups, outs // groups))
    split = transpose_p(split, axes=(*range(d), d + 2, d + 1, d))
    turned: Array = reshape_p(split, shape=(*window, outs // groups, groups * each))
    return turned


# ------------------------------------------------------------------------------ layers
@dataclass(frozen=True, eq=False, repr=False)
class _ConvTranspose(KernelLayer):
    """A layer around `conv_transpose`."""

    stride: PerAxis = 1
    padding: Padding = 0
    output_padding: PerAxis = 0
    dilation: PerAxis = 1
    groups: int = 1

    @classmethod
    def init(
        cls,
        sizes: Sequence[int],
        kernel: PerAxis,
        *,
        stride: PerAxis = 1,
        padding: Padding = 0,
        output_padding: PerAxis = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        init: Callable[..., Array] = he_normal,
        rng: Rng = None,
        dtype: DTypeLike = np.float64,
    ) -> Self:
        """Return a layer with random weights and, with ``bias``, a bias of zeros.

        Parameters
        ----------
        sizes : (in, out)
            Channels, two integers >= 1.
        kernel : int or sequence of int
            Length of the window along each axis of positions.
        stride, padding, output_padding, dilation, groups
            As for `conv_transpose`.
        bias : bool, default True
            Whether the layer has one.
        init : callable, default `he_normal`
            ``init(shape, *, rng, dtype)`` returns the weight; its shape is
            ``(*window, in / groups, out)``. With a stride an output is a sum of fewer terms than
            the whole window has, so that its variance is smaller by ``prod(stride)``.
        rng : None, int or numpy.random.Generator
            Where the weights come from.
        dtype : dtype, default float64
            float32 or float64.

        Returns
        -------
        layer
            On the default device.

        Raises
        ------
        ShapeError
            ``sizes`` is no pair, ``kernel`` has not one length for each axis, ``groups`` does not
            divide the channels, or ``init`` returns another shape.
        DomainError, DtypeError
            A size, ``rng``, ``dtype`` or an option is not as above.
        """
        who = f"{cls.__name__}.init"
        weight, b = cls.drawn(sizes, kernel, groups, bias, init, rng, dtype)
        window = weight.shape[:-2]
        strides = per_axis(who, "stride", stride, cls.axes, 1)
        dilations = per_axis(who, "dilation", dilation, cls.axes, 1)
        per_axis(who, "output_padding", output_padding, cls.axes, 0)
        _require_no_word(who, padding)
        paddings(who, padding, window, window, strides, dilations)
        return cls(weight, b, stride, padding, output_padding, dilation, groups)

    @entering
    def __call__(self, x: Array) -> Array:
        """Return the transposed convolution of ``x``.

        Parameters
        ----------
        x : array, shape (n, size, in), dtype of ``weight``
            Examples; one of shape (size, in) is fine.

        Returns
        -------
        array, shape (n, lengths, out)

        Raises
        ------
        DtypeError
            ``x`` is no array of floats, or the dtypes of ``x``, weight and bias differ.
        ShapeError
            The channels do not fit, or the padding leaves nothing.
        """
        self.require_weight()
        self.require_input(x)
        return _conv_transpose(
            type(self).__name__,
            "weight",
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.dilation,
            self.groups,
        )

    def __repr__(self) -> str:
        return self.show(
            stride=(self.stride, 1),
            padding=(self.padding, 0),
            output_padding=(self.output_padding, 0),
            dilation=(self.dilation, 1),
            groups=(self.groups, 1),
        )


@dataclass(frozen=True, eq=False, repr=False)
class ConvTranspose1d(_ConvTranspose):
    r"""Transposed convolution of sequences.

    .. math:: y_{n, m, o} = b_o + \sum_{t, k:\; s t + d k - p = m} \sum_c x_{n, t, c} \, w_{k, c, o}

    Parameters
    ----------
    weight : array, shape (k, in / groups, out), float32 or float64
    bias : array, shape (out,), of the same dtype, or None
    stride, padding, output_padding, dilation, groups
        As for `conv_transpose`; they belong to the structure of the tree.

    Notes
    -----
    A frozen dataclass, as `Dense`. PyTorch's weight is ``(in, out / groups, k)``: with one group
    ``transpose(2, 0, 1)`` brings it here, with several each block of ``in / groups`` rows is
    brought and they are joined along ``out``.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.ConvTranspose1d.init((4, 2), 4, stride=2, padding=1, rng=0)
    >>> layer(np.ones((5, 10, 4))).shape
    (5, 20, 2)
    """

    axes: ClassVar[int] = 1


@dataclass(frozen=True, eq=False, repr=False)
class ConvTranspose2d(_ConvTranspose):
    r"""Transposed convolution of images.

    .. math::
        y_{n, i, j, o} = b_o + \sum_{s t + d k - p = i} \; \sum_{s u + d l - p = j} \; \sum_c
            x_{n, t, u, c} \, w_{k, l, c, o}

    Parameters
    ----------
    weight : array, shape (kh, kw, in / groups, out), float32 or float64
    bias : array, shape (out,), of the same dtype, or None
    stride, padding, output_padding, dilation, groups
        As for `conv_transpose`; they belong to the structure of the tree.

    Notes
    -----
    A frozen dataclass, as `Dense`. PyTorch's weight is ``(in, out / groups, kh, kw)``: with one
    group ``transpose(2, 3, 0, 1)`` brings it here, with several each block of ``in / groups`` rows
    is brought and they are joined along ``out``.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.ConvTranspose2d.init((8, 3), 4, stride=2, padding=1, rng=0)
    >>> layer(np.ones((5, 7, 7, 8))).shape
    (5, 14, 14, 3)
    """

    axes: ClassVar[int] = 2
