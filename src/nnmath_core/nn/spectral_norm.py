"""Spectral normalisation: a layer divided by its largest gain, the operator norm of its linear map."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.autodiff.ops.norms import norm_p
from nnmath_core.autodiff.transforms import stop_gradient, vjp
from nnmath_core.autodiff.tree import buffer
from nnmath_core.checks import describe, require_int, require_real, require_rng, sentence
from nnmath_core.device import backend_of, entering
from nnmath_core.errors import ShapeError
from nnmath_core.nn.affine import require_lengths
from nnmath_core.nn.operands import require_operand
from nnmath_core.nn.training import show_layer, train_layer
from nnmath_core.nn.weight_norm import require_weighted
from nnmath_core.typing import Array, Rng

__all__ = ["SpectralNorm"]

_FIRST_ITERATIONS = 15
"""Steps of the power iteration when the layer is made, as PyTorch takes."""


@dataclass(frozen=True, eq=False, repr=False)
class SpectralNorm:
    r"""A layer divided by its operator norm.

    .. math:: \bar W = W / \sigma, \qquad \sigma = u^T A_W v \approx \lVert A_W \rVert = \max_{\lVert x \rVert = 1}
        \lVert A_W x \rVert

    Parameters
    ----------
    layer : dataclass with a field ``weight``
        Linear in x and in its weight, up to a bias: `Dense`, a convolution, a transposed convolution.
    iterations : int
        Steps of the power iteration in each call of `train`.
    eps : float
        Lengths below it are taken for it when a vector is divided by its length.
    left, right : array
        u, an output, and v, an input of the layer for one example, of length 1; buffers.

    Notes
    -----
    :math:`A_W` is the linear map of the layer *on its inputs*: for `Dense` the weight itself, for a convolution the
    map from images (h, w, c) to images, with its stride, padding and dilation. That is where it differs from
    ``torch.nn.utils.parametrizations.spectral_norm``, whose :math:`\sigma` of a convolution is the norm of the kernel
    as a matrix (out, in * kh * kw). Where some window lies inside of the image, the norm of the layer is between that
    number and sqrt(kh * kw) times that number: dividing by it leaves a gain of up to 3 for a 3 x 3 kernel. For
    `Dense` both are the same.

    ``layer(x)`` uses the stored vectors; ``y, layer = layer.train(x)`` first moves them by ``iterations`` steps of

    .. math:: u \leftarrow \frac{A_W v}{\lVert A_W v \rVert}, \qquad v \leftarrow \frac{A_W^T u}{\lVert A_W^T u \rVert}

    Derivatives go through :math:`\sigma` with u and v held fixed: :math:`\partial \sigma / \partial W` is that of
    :math:`u^T A_W v`, which is the derivative of the norm itself once the vectors have converged and the largest
    singular value is simple. Second derivatives leave out how u and v move with the weight. :math:`\sigma` is never
    above the norm, so that the layer's gain is at least 1; `conv_operator_norm` returns the norm with certified
    bounds. A weight of zeros has no norm to divide by, and gives NaN.

    The norm of a convolution belongs to a size of images: another size than that of ``right`` is an error.

    References
    ----------
    Miyato, Kataoka, Koyama & Yoshida, "Spectral normalization for generative adversarial networks", 2018. Farnia, Zhang
    & Tse, "Generalizable adversarial training via spectral normalization", 2019 (the norm of the map). Sedghi, Gupta &
    Long, "The singular values of convolutional layers", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> layer = nm.nn.SpectralNorm.init(nm.nn.Dense(np.diag([3.0, 1.0]), None), rng=0)
    >>> layer(np.array([[6.0, 6.0]])).round(6)
    array([[6., 2.]])
    """

    layer: Any
    iterations: int
    eps: float
    left: Array = buffer()
    right: Array = buffer()

    @classmethod
    def init(
        cls,
        layer: Any,
        input_shape: Sequence[int] | None = None,
        *,
        iterations: int = 1,
        eps: float = 1e-12,
        rng: Rng = None,
    ) -> SpectralNorm:
        """Return the layer with vectors after 15 steps of the power iteration.

        Parameters
        ----------
        layer : dataclass with a field ``weight``
        input_shape : sequence of int, optional
            The shape of one example: (h, w, c), (t, c). For a dense layer it is known.
        iterations : int, default 1
            Steps in each call of `train`; >= 0.
        eps : float, default 1e-12
            Positive.
        rng : None, int or numpy.random.Generator
            Where the first vector comes from.

        Returns
        -------
        SpectralNorm
            On the device of the weight.

        Raises
        ------
        ShapeError
            ``input_shape`` is missing, or does not fit the layer.
        DtypeError, DomainError
            ``layer`` has no weight, or another argument is not as above.
        """
        who = "SpectralNorm.init"
        weight = require_weighted(who, layer)
        if input_shape is None:
            if len(weight.shape) != 2:
                advice = "The norm of a convolution depends on the size of the images: (h, w, c)."
                wanted = "the shape of one example"
                raise ShapeError(sentence(who, "input_shape", wanted, "None", advice))
            input_shape = (weight.shape[0],)
        shape = require_lengths(who, "input_shape", input_shape)
        steps = require_int(who, "iterations", iterations, minimum=0)
        eps = require_real(who, "eps", eps, lambda e: 0 < e < 1, "in (0, 1)")
        drawn = require_rng(who, rng).standard_normal(shape).astype(weight.dtype)
        v = _unit(backend_of(weight).from_host(drawn), eps)
        u = _unit(_linear(layer, weight)(v), eps)
        u, v = _iterated(layer, weight, u, v, _FIRST_ITERATIONS, eps)
        return cls(layer, steps, eps, u, v)

    @property
    def norm(self) -> Array:
        """The number by which the weight is divided, with the stored vectors."""
        weight = require_weighted("SpectralNorm", self.layer)
        return self._gain(weight, self.left, self.right)

    def _gain(self, weight: Array, u: Array, v: Array) -> Array:
        sigma: Array = np.sum(u * _linear(self.layer, weight)(v))
        return sigma

    def _divided(self, who: str, x: Array, u: Array, v: Array) -> Any:
        weight = require_weighted(who, self.layer)
        x = require_operand(who, "x", x)
        shape = tuple(v.shape)
        if tuple(x.shape[len(x.shape) - len(shape) :]) != shape:
            wanted = f"of shape (..., {', '.join(map(str, shape))})"
            advice = (
                "The norm was made for examples of this shape: SpectralNorm.init(layer, shape)."
            )
            raise ShapeError(sentence(who, "x", wanted, str(tuple(x.shape)), advice))
        sigma = self._gain(weight, stop_gradient(u), stop_gradient(v))
        return dataclasses.replace(self.layer, weight=weight / sigma)

    @entering
    def __call__(self, x: Array) -> Array:
        """Return the output of the layer, divided by its norm but for the bias.

        Parameters
        ----------
        x : array
            Of the shape that the inner layer takes.

        Returns
        -------
        array

        Raises
        ------
        ShapeError, DtypeError
            ``x`` has another shape or dtype.
        """
        y: Array = self._divided("SpectralNorm", x, self.left, self.right)(x)
        return y

    @entering
    def train(self, x: Array, *, key: Array | None = None) -> tuple[Array, SpectralNorm]:
        """Return the output with vectors moved by the power iteration, and the layer with them.

        Parameters
        ----------
        x : array
            Of the shape that the inner layer takes.
        key : array, optional
            What the inner layer takes.

        Returns
        -------
        y : array
        layer : SpectralNorm

        Raises
        ------
        ShapeError, DtypeError
            ``x`` has another shape or dtype.
        """
        who = "SpectralNorm.train"
        weight = stop_gradient(require_weighted(who, self.layer))
        u, v = stop_gradient((self.left, self.right))
        u, v = _iterated(self.layer, weight, u, v, self.iterations, self.eps)
        y, new = train_layer(self._divided(who, x, u, v), x, key)
        inner = dataclasses.replace(new, weight=self.layer.weight)
        return y, dataclasses.replace(self, layer=inner, left=u, right=v)

    def __repr__(self) -> str:
        parts = f"{show_layer(self.layer)}, right: {describe(self.right)}"
        return f"SpectralNorm({parts}, iterations: {self.iterations})"


def _linear(layer: Any, weight: Array) -> Callable[[Array], Array]:
    """The map of one example that a layer with this weight is, without its bias."""
    fields = {field.name for field in dataclasses.fields(layer)}
    parts = {"weight": weight, "bias": None} if "bias" in fields else {"weight": weight}
    bare = dataclasses.replace(layer, **parts)

    def apply(v: Array) -> Array:
        y: Array = bare(v[None])[0]
        return y

    return apply


def _unit(x: Array, eps: float) -> Array:
    unit: Array = x / np.maximum(norm_p(x, axis=tuple(range(len(x.shape))), keepdims=False), eps)
    return unit


def _iterated(
    layer: Any, weight: Array, u: Array, v: Array, steps: int, eps: float
) -> tuple[Array, Array]:
    """The singular vectors after some steps of the power iteration."""
    apply = _linear(layer, weight)
    for _ in range(steps):
        output, transpose = vjp(apply, v)
        u = _unit(output, eps)
        v = _unit(transpose(u)[0], eps)
    return u, v
