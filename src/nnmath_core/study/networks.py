"""The networks that a study knows by name, for data that it knows by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core import nn
from nnmath_core.errors import ShapeError
from nnmath_core.study.classifier import Recipe
from nnmath_core.study.protocol import Protocol
from nnmath_core.typing import Array

__all__ = ["NETWORKS", "ImageNetwork", "SignalTransformer"]


@dataclass(frozen=True, eq=False, repr=False)
class ImageNetwork:
    """Convolutions of square grey images that come as rows of pixels.

    Parameters
    ----------
    side : int
        Pixels of an edge.
    layers : Sequential
        From images (n, side, side, 1) to logits.
    """

    side: int
    layers: nn.Sequential

    def __call__(self, x: Array) -> Array:
        """Return logits (n, k) of rows (n, side * side)."""
        return self.layers(x.reshape(-1, self.side, self.side, 1))


@dataclass(frozen=True, eq=False, repr=False)
class SignalTransformer:
    """A transformer over pieces of a signal that comes as a row.

    Parameters
    ----------
    piece : int
        Samples of a piece, which is one token.
    embed : Dense
        From a piece and its neighbours' first difference to a vector.
    places : array, shape (tokens, d)
        Added to the tokens: where each stands.
    blocks : Sequential
    norm : LayerNorm
    head : Dense
        From the mean over the tokens to logits.
    """

    piece: int
    embed: nn.Dense
    places: Array
    blocks: nn.Sequential
    norm: nn.LayerNorm
    head: nn.Dense

    def __call__(self, x: Array) -> Array:
        """Return logits (n, k) of rows (n, tokens * piece)."""
        tokens = x.reshape(-1, self.places.shape[0], self.piece)
        h = self.blocks(self.embed(tokens) + self.places)
        return self.head(self.norm(h).mean(axis=1))


def _convolutional(x: Array, y: Array, *, rng: np.random.Generator) -> ImageNetwork:
    side = math.isqrt(x.shape[1])
    if side * side != x.shape[1] or side % 4:
        raise ShapeError(
            f"study: the model `cnn` needs square images with a side that is a multiple of 4, got rows of "
            f"{x.shape[1]} numbers."
        )
    make: dict[str, Any] = {"rng": rng, "dtype": x.dtype}
    layers = nn.Sequential(
        (
            nn.Conv2d.init((1, 16), 3, padding="same", **make),  # smooth throughout: see `_ONE`
            nn.gelu,
            nn.AvgPool2d(2),
            nn.Conv2d.init((16, 32), 3, padding="same", **make),
            nn.gelu,
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Dense.init((32 * (side // 4) ** 2, 64), **make),
            nn.gelu,
            nn.Dense.init((64, int(y.max()) + 1), init=nn.glorot_uniform, **make),
        )
    )
    return ImageNetwork(side, layers)


PIECE, WIDTH, HEADS, BLOCKS = 4, 48, 4, 2


def _transformer(x: Array, y: Array, *, rng: np.random.Generator) -> SignalTransformer:
    if x.shape[1] % PIECE:
        raise ShapeError(
            f"study: the model `transformer` needs rows whose length is a multiple of {PIECE}, got "
            f"{x.shape[1]}."
        )
    make: dict[str, Any] = {"rng": rng, "dtype": x.dtype}
    tokens = x.shape[1] // PIECE
    glorot: dict[str, Any] = {"init": nn.glorot_uniform, **make}
    return SignalTransformer(
        PIECE,
        nn.Dense.init((PIECE, WIDTH), **glorot),
        (0.02 * rng.standard_normal((tokens, WIDTH))).astype(x.dtype),
        nn.Sequential(tuple(nn.TransformerBlock.init(WIDTH, HEADS, **make) for _ in range(BLOCKS))),
        nn.LayerNorm.init(WIDTH, dtype=x.dtype),
        nn.Dense.init((WIDTH, int(y.max()) + 1), **glorot),
    )


# Activations without kinks: differences check every entry, and the Hessian exists at every point.
_ONE: dict[str, Any] = {
    "splits": 1,
    "comparison_epochs": 0,
    "checked_rows": 8,
    "checked_points": 1,
    "highest": 3,
    "lowest": 1,
    "surface_rows": 256,
}

NETWORKS = {
    "cnn": Recipe(
        "two convolutions and two dense layers, GELU",
        False,
        _convolutional,
        data="mnist",
        protocol=Protocol(epochs=6, batch_size=32, learning_rate=2e-3, **_ONE),
    ),
    "transformer": Recipe(
        f"transformer of {BLOCKS} blocks with {HEADS} heads, width {WIDTH}",
        False,
        _transformer,
        data="mnist1d",
        protocol=Protocol(epochs=25, batch_size=64, learning_rate=3e-3, **_ONE),
    ),
}
"""What `--model` knows by name, with the data and the sizes of a study of it: one split, one optimizer."""
