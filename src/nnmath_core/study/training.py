"""Training, the same loop for the network that is studied and for the optimizers that are compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core import random
from nnmath_core.autodiff.transforms import value_and_grad
from nnmath_core.device import device_of, to_device
from nnmath_core.errors import TraceError
from nnmath_core.io import batches
from nnmath_core.nn.training import train_layer
from nnmath_core.optim import Optimizer
from nnmath_core.program import compile
from nnmath_core.study.classifier import loss_of, mean_loss
from nnmath_core.typing import Array

__all__ = ["correct_answers", "half_cosine", "loss_over", "train"]

CHUNK = 4096  # rows that are evaluated at once


def half_cosine(start: float, steps: int) -> Callable[[int], float]:
    """Return the schedule that falls from ``start`` to 0 over ``steps`` steps along half a cosine."""
    return lambda count: 0.5 * start * (1.0 + np.cos(math.pi * np.minimum(count / steps, 1.0)))


def train(
    model: Any,
    x: Array,
    y: Array,
    *,
    optimizer: Optimizer,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
    after_epoch: Callable[[Any], bool],
) -> Any:
    """Return the model after training; ``after_epoch(model)`` is called each time and says whether to go on.

    A model that is another one in training (dropout, batch normalisation) has a method ``train``, which is called. A
    step is one compiled program; where the model has Python control flow on values, it runs in Python.
    """
    differs = hasattr(model, "train")
    key = to_device(random.key(int(rng.integers(2**63))), device_of(x)) if differs else None
    data = batches((x, y), size=min(batch_size, len(y)), rng=rng)
    state = optimizer.init(model)
    slope_of = (
        value_and_grad(_training_loss, has_aux=True) if differs else value_and_grad(mean_loss)
    )

    def once(model: Any, state: Any, x: Array, y: Array, *keys: Any) -> tuple[Any, Any]:
        if differs:
            (_, model), slope = slope_of(model, x, y, *keys)
        else:
            _, slope = slope_of(model, x, y)
        return optimizer.step(model, slope, state)

    step: Callable[..., Any] = compile(once)
    count = 0
    for _ in range(epochs):
        for xb, yb in data:
            keys = (random.fold_in(key, count),) if differs else ()
            try:
                model, state = step(model, state, xb, yb, *keys)
            except TraceError:  # the model decides by values: its steps run in Python
                if step is once:
                    raise
                step = once
                model, state = step(model, state, xb, yb, *keys)
            count += 1
        if not after_epoch(model):
            break
    return model


def _training_loss(model: Any, x: Array, y: Array, key: Any) -> tuple[Array, Any]:
    """Return the mean loss in training, and the model with its new statistics."""
    logits, model = train_layer(model, x, key)
    return loss_of(logits, y), model


def loss_over(model: Any, x: Array, y: Array) -> float:
    """Return the mean loss of rows, evaluated in parts; NaN or infinite where training has diverged."""
    total = 0.0
    with np.errstate(all="ignore"):
        for start in range(0, len(y), CHUNK):
            part = slice(start, start + CHUNK)
            total += float(mean_loss(model, x[part], y[part])) * len(y[part])
    return total / len(y)


def correct_answers(model: Any, x: Array, y: Array) -> tuple[int, Array]:
    """Return how many rows get their class, and the class that each gets."""
    parts = [model(x[start : start + CHUNK]).argmax(axis=1) for start in range(0, len(y), CHUNK)]
    answers = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return int((answers == y).sum()), answers
