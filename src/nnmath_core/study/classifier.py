"""The network of a study: the default one, or the user's, with the checks that training relies on."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnmath_core import nn
from nnmath_core._ext._tree import flatten, paths
from nnmath_core.checks import describe
from nnmath_core.errors import DomainError, DtypeError, NnmathError, ShapeError
from nnmath_core.study.protocol import Protocol
from nnmath_core.typing import Array, Tree

__all__ = ["Recipe", "blaming", "default_recipe", "loss_of", "mean_loss", "recipe_from"]

_LIBRARIES = (
    os.path.join(os.path.dirname(os.path.dirname(nn.__file__)), ""),
    os.path.join(os.path.dirname(np.__file__), ""),
    os.path.join(os.path.dirname(importlib.__file__), ""),
)


@dataclass(frozen=True)
class Recipe:
    """How a model is made, and whether features are standardised for it.

    Attributes
    ----------
    name : str
        For the report: the sizes of the default network, or ``MODULE:FUNCTION``.
    standardise : bool
        Whether each feature is shifted and scaled by mean and deviation of the training rows.
    build : callable
        ``build(X, y, *, rng)`` with the training rows; returns a model, which maps rows to logits.
    data : str
        The data that it is made for, where it is made for some.
    protocol : Protocol
        The sizes of a study of it.
    """

    name: str
    standardise: bool
    build: Callable[..., Any]
    data: str = "digits"
    protocol: Protocol = field(default_factory=Protocol)

    def model(self, x: Array, y: Array, classes: int, rng: np.random.Generator) -> Any:
        """Return a new model for training rows, checked: what it is made of and what it returns."""
        with blaming(self.name, "raised"):
            model = self.build(x, y, rng=rng)
        _require_model(self.name, model)
        with blaming(self.name, "returned a model whose call raised"):
            out = model(x[:2])
        _require_logits(self.name, out, (len(x[:2]), classes), x.dtype)
        return model


def default_recipe(features: int, hidden: int, classes: int, dtype: np.dtype[Any]) -> Recipe:
    """Return the recipe of the default network: one hidden layer of GELUs."""

    def build(x: Array, y: Array, *, rng: np.random.Generator) -> nn.MLP:
        sizes = (features, hidden, classes)
        return nn.MLP.init(sizes, activation=nn.gelu, init=nn.glorot_uniform, rng=rng, dtype=dtype)

    return Recipe(f"MLP {features}-{hidden}-{classes}, GELU", True, build)


def recipe_from(name: str) -> Recipe:
    """Return the recipe that ``MODULE:FUNCTION`` names; modules of the working folder are found.

    Raises
    ------
    DomainError
        The text has no such form, there is no such module or function, or importing it fails.
    """
    module, colon, function = name.partition(":")
    if not (colon and module and function.isidentifier()):
        raise DomainError(
            f"study: `--model` must be cnn, transformer or MODULE:FUNCTION, as `mynet:make`, got {name!r}."
        )
    if "" not in sys.path:
        sys.path.insert(0, "")
    with blaming(name, "cannot be imported:"):
        found = getattr(importlib.import_module(module), function, None)
    if not callable(found):
        raise DomainError(
            f"study: `--model` {name!r}: the module {module!r} has no function {function!r}. Write "
            f"`def {function}(X, y, *, rng): return model` there."
        )
    return Recipe(name, False, found)


def mean_loss(model: Any, x: Array, y: Array) -> Array:
    """Return the mean cross entropy in nats: what is trained, checked and whose surface is measured."""
    return loss_of(model(x), y)


def loss_of(logits: Array, y: Array) -> Array:
    """Return the mean cross entropy of logits, in nats."""
    return nn.softmax_cross_entropy(logits, y, reduction="mean")


@contextmanager
def blaming(name: str, did: str, *, ours_too: bool = True) -> Iterator[None]:
    """Turn what the user's code raises into one sentence that names the line where it happened.

    Errors of nnmath_core, which are sentences already, pass as they are unless ``ours_too``.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, NnmathError) and not ours_too:
            raise
        words = str(error).splitlines()
        text = f"{type(error).__name__}: {words[0]}" if words else type(error).__name__
        frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
        if not frames and not ours_too:
            raise  # nothing of the user's is on the way: this is our own mistake
        where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
        raise DomainError(f"study: the model {name!r} {did} {text}{where}") from error


def _is_users(file: str) -> bool:
    """Return whether a source file is neither ours, nor NumPy's, nor the import system's."""
    return not file.startswith("<") and not file.startswith(_LIBRARIES)


def _require_model(name: str, model: Tree) -> None:
    """Refuse what is no tree of floating-point arrays or cannot be called."""
    advice = (
        "Return an object whose arrays are its leaves and which maps rows to logits, as nm.nn.MLP."
    )
    if not callable(model):
        raise DtypeError(
            f"study: the model {name!r} must be callable, got {describe(model)}. {advice}"
        )
    try:
        leaves, structure = flatten(model, True)
    except NnmathError as error:
        raise DtypeError(f"study: the model {name!r} is no tree of arrays: {error}") from None
    floats = [x for x in leaves if getattr(getattr(x, "dtype", None), "kind", "") == "f"]
    if not floats:
        got = f"{len(leaves)} others" if leaves else "none"
        raise DtypeError(
            f"study: the model {name!r} must have floating-point arrays as leaves, got {got}. {advice}"
        )
    for leaf, path in zip(leaves, paths(structure), strict=True):
        if getattr(leaf, "dtype", None) not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise DtypeError(
                f"study: all leaves of the model {name!r} are trained and must be float32 or float64 "
                f"arrays, got {describe(leaf)} at {path or 'its root'}."
            )


def _require_logits(name: str, out: Any, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
    """Refuse an output that is no row of logits for each row."""
    rows, classes = shape
    if getattr(getattr(out, "dtype", None), "kind", "") != "f":
        raise DtypeError(
            f"study: the model {name!r} must return logits, a floating-point array of shape (rows, "
            f"{classes}), got {describe(out)}. Is a `return` missing, or an argmax too much?"
        )
    if tuple(out.shape) != (rows, classes):
        raise ShapeError(
            f"study: the model {name!r} must return a column of logits for each of the {classes} "
            f"classes, shape ({rows}, {classes}) for {rows} rows, got {tuple(out.shape)}."
        )
    if out.dtype != dtype:
        raise DtypeError(
            f"study: the model {name!r} must return {dtype}, as the features are, got {out.dtype}. "
            f"Make its weights with `dtype=X.dtype`."
        )
