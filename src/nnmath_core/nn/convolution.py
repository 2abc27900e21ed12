"""Convolutions of images and sequences, and their layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.autodiff.ops.convolutions import conv_p
from nnmath_core.checks import require_positive_int
from nnmath_core.device import entering
from nnmath_core.nn.initializers import he_normal
from nnmath_core.nn.kernel_layer import KernelLayer, kernel_operands, require_channels, with_bias
from nnmath_core.nn.spatial import (
    Padding,
    PerAxis,
    flat_batch,
    paddings,
    per_axis,
    require_room,
    unflat_batch,
)
from nnmath_core.typing import Array, Rng

__all__ = ["Conv1d", "Conv2d", "conv"]


@entering
def conv(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Array:
    r"""Convolution of images, sequences or volumes, with the channels last.

    .. math::
        y_{n, t, o} = b_o + \sum_{k} \sum_{c} x_{n,\; s t + d k - p,\; c} \; w_{k, c, o}

    with :math:`t` and :math:`k` over one axis for a sequence, two for an image, and zeros where the
    position is outside of ``x``. The kernel is not turned around: mathematics calls it a
    cross-correlation, networks a convolution. `nnmath_core.signal.convolve` turns it.

    Parameters
    ----------
    x : array, shape (..., size, in), float32 or float64
        As many axes of positions as the kernel has; before them any axes of examples, or none.
    kernel : array, shape (window, in / groups, out), dtype of ``x``
        ``(k, in, out)`` for sequences, ``(kh, kw, in, out)`` for images.
    bias : array, shape (out,), dtype of ``x``, or None
    stride : int or sequence of int, default 1
        Positions from one window to the next.
    padding : "valid", "same", int, or an int or a pair (before, behind) for each axis
        Zeros around ``x``: none, or as many as make ``ceil(size / stride)`` windows (half of them
        before, of an odd number one more behind), or that number at each end.
    dilation : int or sequence of int, default 1
        Positions from one entry of the kernel to the next.
    groups : int, default 1
        The channels in that many blocks, each of which sees its own block of the input alone.
        ``groups=in`` is a depthwise convolution.

    Returns
    -------
    array, shape (..., counts, out)
        ``(size + padding - dilation * (window - 1) - 1) // stride + 1`` positions along each axis.

    Raises
    ------
    DtypeError
        ``x`` or ``kernel`` is no array of floats, or the dtypes differ.
    ShapeError
        The kernel is longer than padded ``x``, the channels do not fit, ``groups`` does not divide
        those of the output, or an option has not one number for each axis.
    DomainError
        A stride, dilation or number of groups below 1, a negative padding.

    Notes
    -----
    Size, window and counts stand for one axis, two or more, as many as the kernel has.

    As PyTorch's ``conv1d`` to ``conv3d`` up to the layout; "same" also with
    a stride, as in TensorFlow and JAX. The gradient in ``x`` is `conv_transpose` of the cotangent,
    the gradient in the kernel a correlation of the two. No examples give an array without examples.

    Cost: ``2 * n * counts * window * in / groups * out`` operations in matrix products, of windows
    that are gathered a few examples at a time; a kernel of length 1 is one product and no copy.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> x = np.arange(5.0)[:, None]  # a sequence of one channel
    >>> w = np.array([1.0, 0.0, -1.0])[:, None, None]
    >>> nm.nn.conv(x, w)[:, 0], nm.nn.conv(x, w, padding="same", stride=2)[:, 0]
    (array([-2., -2., -2.]), array([-1., -2.,  3.]))
    >>> images = np.ones((8, 28, 28, 3))
    >>> nm.nn.conv(images, np.ones((3, 3, 3, 16)), padding=1).shape
    (8, 28, 28, 16)
    """
    return _conv("conv", "kernel", x, kernel, bias, stride, padding, dilation, groups)


def _conv(
    who: str,
    name: str,
    x: Any,
    kernel: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
) -> Array:
    x, kernel, axes = kernel_operands(who, name, x, kernel)
    stride = per_axis(who, "stride", stride, axes, 1)
    dilation = per_axis(who, "dilation", dilation, axes, 1)
    groups = require_positive_int(who, "groups", groups)
    require_channels(who, name, x, kernel, groups)
    size, window = tuple(x.shape[-axes - 1 : -1]), tuple(kernel.shape[:-2])
    pairs = paddings(who, padding, size, window, stride, dilation)
    require_room(who, name, size, window, stride, pairs, dilation)
    flat, lead = flat_batch(x, axes)
    y = conv_p(flat, kernel, stride=stride, padding=pairs, dilation=dilation, groups=groups)
    return with_bias(who, unflat_batch(y, lead), bias, kernel, name)


# ------------------------------------------------------------------------------ layers
@dataclass(frozen=True, eq=False, repr=False)
class _Conv(KernelLayer):
    """A layer around `conv`."""

    stride: PerAxis = 1
    padding: Padding = "valid"
    dilation: PerAxis = 1
    groups: int = 1

    @classmethod
    def init(
        cls,
        sizes: Sequence[int],
        kernel: PerAxis,
        *,
        stride: PerAxis = 1,
        padding: Padding = "valid",
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
        stride, padding, dilation, groups
            As for `conv`.
        bias : bool, default True
            Whether the layer has one.
        init : callable, default `he_normal`
            ``init(shape, *, rng, dtype)`` returns the weight; its shape is
            ``(*window, in / groups, out)``.
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
        paddings(who, padding, window, window, strides, dilations)
        return cls(weight, b, stride, padding, dilation, groups)

    @entering
    def __call__(self, x: Array) -> Array:
        """Return the convolution of ``x``.

        Parameters
        ----------
        x : array, shape (n, size, in), dtype of ``weight``
            Examples; one of shape (size, in) is fine.

        Returns
        -------
        array, shape (n, counts, out)

        Raises
        ------
        DtypeError
            ``x`` is no array of floats, or the dtypes of ``x``, weight and bias differ.
        ShapeError
            The channels do not fit, or the kernel is longer than padded ``x``.
        """
        self.require_weight()
        self.require_input(x)
        return _conv(
            type(self).__name__,
            "weight",
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )

    def __repr__(self) -> str:
        return self.show(
            stride=(self.stride, 1),
            padding=(self.padding, "valid"),
            dilation=(self.dilation, 1),
            groups=(self.groups, 1),
        )


@dataclass(frozen=True, eq=False, repr=False)
class Conv1d(_Conv):
    r"""Convolution of sequences.

    .. math:: y_{n, t, o} = b_o + \sum_{k, c} x_{n,\; s t + d k - p,\; c} \; w_{k, c, o}

    Parameters
    ----------
    weight : array, shape (k, in / groups, out), float32 or float64
    bias : array, shape (out,), of the same dtype, or None
    stride, padding, dilation, groups
        As for `conv`; they belong to the structure of the tree.

    Notes
    -----
    A frozen dataclass, as `Dense`. PyTorch's weight is ``(out, in / groups, k)``:
    ``transpose(2, 1, 0)`` brings it here.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.Conv1d.init((2, 4), 3, padding="same", rng=0)
    >>> layer(np.ones((5, 10, 2))).shape
    (5, 10, 4)
    >>> layer
    Conv1d(weight: float64 array of shape (3, 2, 4), bias: float64 array of shape (4,), padding='same')
    """

    axes: ClassVar[int] = 1


@dataclass(frozen=True, eq=False, repr=False)
class Conv2d(_Conv):
    r"""Convolution of images.

    .. math:: y_{n, i, j, o} = b_o + \sum_{k, l, c} x_{n,\; s i + d k - p,\; s j + d l - p,\; c} \; w_{k, l, c, o}

    Parameters
    ----------
    weight : array, shape (kh, kw, in / groups, out), float32 or float64
    bias : array, shape (out,), of the same dtype, or None
    stride, padding, dilation, groups
        As for `conv`; they belong to the structure of the tree.

    Notes
    -----
    A frozen dataclass, as `Dense`. PyTorch's weight is ``(out, in / groups, kh, kw)``:
    ``transpose(2, 3, 1, 0)`` brings it here.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.Conv2d.init((1, 8), 3, rng=0)
    >>> layer(np.ones((5, 28, 28, 1))).shape
    (5, 26, 26, 8)
    >>> nm.grad(lambda l: l(np.ones((5, 28, 28, 1))).sum())(layer).bias[0]
    np.float64(3380.0)
    """

    axes: ClassVar[int] = 2
