"""Five optimizers on one problem: the same start, the same batches, constant learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core import optim
from nnmath_core.optim import Optimizer
from nnmath_core.study.training import correct_answers, loss_over, train
from nnmath_core.typing import Array

__all__ = ["OPTIMIZERS", "compare"]

OPTIMIZERS: dict[str, tuple[Callable[..., Optimizer], dict[str, float]]] = {
    "gradient descent": (optim.gradient_descent, {"learning_rate": 0.1}),
    "heavy ball": (optim.heavy_ball, {"learning_rate": 0.05, "momentum": 0.9}),
    "Nesterov": (optim.nesterov, {"learning_rate": 0.05, "momentum": 0.9}),
    "Adam": (optim.adam, {"learning_rate": 1e-3}),
    "AdamW": (optim.adamw, {"learning_rate": 1e-3, "weight_decay": 0.1}),
}
"""The optimizers of the comparison, at rates that are common and not tuned."""


def compare(
    model: Any,
    train_rows: tuple[Array, Array],
    test_rows: tuple[Array, Array],
    *,
    epochs: int,
    batch_size: int,
    seed: list[int],
    advance: Callable[[], None],
) -> list[dict[str, Any]]:
    """Return for each optimizer its settings, the training loss after each epoch and the test accuracy.

    An optimizer that diverges is a result: its curve ends with None where the loss is not finite.
    """
    x, y = train_rows
    start = loss_over(model, x, y)
    records = []
    for name, (make, settings) in OPTIMIZERS.items():
        losses: list[float | None] = [start]

        def after_epoch(now: Any, losses: list[float | None] = losses) -> bool:
            loss = loss_over(now, x, y)
            losses.append(loss if math.isfinite(loss) else None)
            advance()
            return math.isfinite(loss)

        with np.errstate(all="ignore"):
            end = train(
                model,
                x,
                y,
                optimizer=make(**settings),
                epochs=epochs,
                batch_size=batch_size,
                rng=np.random.default_rng(seed),
                after_epoch=after_epoch,
            )
        diverged = losses[-1] is None
        correct = 0 if diverged else correct_answers(end, *test_rows)[0]
        records.append(
            {
                "name": name,
                "settings": settings,
                "loss": losses,
                "diverged": diverged,
                "test_accuracy": None if diverged else correct / len(test_rows[1]),
            }
        )
    return records
