"""A study from data to results: cross-validated training, checks, comparison, layers, surface."""

from __future__ import annotations

import hashlib
import math
import platform
from typing import Any

import numpy as np
import scipy

from nnmath_core import optim
from nnmath_core._ext._tree import flatten, paths
from nnmath_core._version import __version__
from nnmath_core.config import show_config
from nnmath_core.device import device as device_named, to_device
from nnmath_core.errors import DomainError
from nnmath_core.study.classifier import Recipe, mean_loss
from nnmath_core.study.comparison import OPTIMIZERS, compare
from nnmath_core.study.data import HELD_OUT, Dataset, stratified_folds
from nnmath_core.study.progress import Progress
from nnmath_core.study.protocol import Protocol
from nnmath_core.study.signals import layer_records
from nnmath_core.study.surface import surface_record
from nnmath_core.study.training import correct_answers, half_cosine, loss_over, train
from nnmath_core.typing import Array
from nnmath_core.verify import gradient_report
from nnmath_core.verify.record import FAILURES

__all__ = ["SCHEMA", "run_study", "wilson_interval"]

SCHEMA = 1
LEVEL = 0.95
NORMAL_QUANTILE = 1.959963984540054  # of (1 + LEVEL) / 2


def run_study(
    data: Dataset,
    recipe: Recipe,
    *,
    device: str = "cpu",
    seed: int = 0,
    protocol: Protocol | None = None,
    show: bool = False,
) -> dict[str, Any]:
    """Train and examine a network, and return all results as a dictionary for JSON.

    Parameters
    ----------
    data : Dataset
    recipe : Recipe
        How the network is made.
    device : str, default "cpu"
    seed : int, default 0
        All random numbers come from it; there is no clock in the results.
    protocol : Protocol, optional
    show : bool, default False
        Whether to show progress bars on the error stream.

    Returns
    -------
    dict
        The sections ``study``, ``environment``, ``data``, ``model``, ``accuracy``, ``gradients``,
        ``optimizers``, ``layers`` and ``surface``.

    Raises
    ------
    DomainError
        The training diverged, or the model of the recipe fails.
    DeviceError
        The device does not exist.
    """
    protocol = protocol or Protocol()
    place = str(device_named(device))
    folds = divided(data, protocol.splits, rng=np.random.default_rng([seed, 0]))
    splits = [_Split(data, recipe, place, seed, i, *rows) for i, rows in enumerate(folds)]
    first = splits[0]
    gradients = _checked(first, protocol, seed, show)
    trained, accuracy = _cross_validated(splits, data, protocol, show)
    optimizers = _compared(first, protocol, seed, show) if protocol.comparison_epochs else []
    x, y = first.train
    rows = np.random.default_rng([seed, 3]).permutation(len(data.y[folds[0][0]]))
    rows = np.sort(rows[: protocol.surface_rows])
    x, y = x[rows], y[rows]
    with Progress("curvature", protocol.highest + protocol.lowest, show=show) as bar:
        surface = surface_record(
            trained,
            x,
            y,
            highest=protocol.highest,
            lowest=protocol.lowest,
            basis_bytes=protocol.basis_bytes,
            rng=np.random.default_rng([seed, 4]),
            tell=lambda steps, converged: bar.reach(converged),
        )
    return {
        "schema": SCHEMA,
        "study": {
            "seed": seed,
            "device": place,
            "protocol": vars(protocol).copy(),
            "standardised": recipe.standardise,
        },
        "environment": environment(),
        "data": _data_record(data),
        "model": _model_record(recipe, first.model),
        "accuracy": accuracy,
        "gradients": gradients,
        "optimizers": optimizers,
        "layers": layer_records(trained, x, y),
        "surface": surface,
    }


def divided(data: Dataset, splits: int, *, rng: np.random.Generator) -> list[tuple[Array, Array]]:
    """Return pairs (training rows, test rows): folds, or for one split what the data set aside, or a fifth."""
    if splits > 1:
        return stratified_folds(data.y, folds=splits, rng=rng)
    if data.tested is None:
        return stratified_folds(data.y, folds=HELD_OUT, rng=rng)[:1]
    return [(np.setdiff1d(np.arange(len(data.y)), data.tested), data.tested)]


def _compared(split: _Split, protocol: Protocol, seed: int, show: bool) -> list[dict[str, Any]]:
    """Train by five optimizers from one start."""
    epochs = protocol.epochs_for(protocol.comparison_epochs, len(split.train[1]))
    with Progress("five optimizers", len(OPTIMIZERS) * epochs, show=show) as bar:
        return compare(
            split.model,
            split.train,
            split.test,
            epochs=epochs,
            batch_size=protocol.batch_size,
            seed=[seed, 2],
            advance=bar.advance,
        )


class _Split:
    """One division of the rows, on the device, with the untrained model for it."""

    def __init__(
        self,
        data: Dataset,
        recipe: Recipe,
        place: str,
        seed: int,
        number: int,
        train_rows: Array,
        test_rows: Array,
    ) -> None:
        x, x_test = data.x[train_rows], data.x[test_rows]
        if recipe.standardise:
            x, x_test = standardised(x, x_test, one_unit=data.one_unit)
        y, y_test = data.y[train_rows], data.y[test_rows]
        self.number, self.seed = number, seed
        model = recipe.model(x, y, len(data.classes), np.random.default_rng([seed, 1, number]))
        self.model, self.train, self.test = to_device((model, (x, y), (x_test, y_test)), place)
        self.truth = y_test
        if place == "cpu":
            for rows in (*self.train, *self.test):
                rows.flags.writeable = False  # a model that writes into its input fails at once


def standardised(x: Array, *others: Array, one_unit: bool) -> tuple[Array, ...]:
    """Return arrays shifted by the mean of each feature of ``x`` and scaled by its deviation.

    Features of one unit are scaled by one number, the root mean square of the deviations, so that
    a pixel which is nearly always empty does not become loud. A feature that is constant in ``x``
    is only shifted.

    Examples
    --------
    >>> a, b = standardised(np.array([[0.0, 5.0], [2.0, 5.0]]), np.array([[4.0, 6.0]]), one_unit=False)
    >>> a, b
    (array([[-1.,  0.],
           [ 1.,  0.]]), array([[3., 1.]]))
    """
    wide = x.astype(np.float64)
    middle, width = wide.mean(axis=0), wide.std(axis=0)
    constant = width <= 8 * np.finfo(x.dtype).eps * np.abs(middle)  # the rounding of equal entries
    if one_unit:
        width = np.full_like(width, np.sqrt(np.mean(np.square(width))))
    width = np.where(constant, 1.0, width)
    return tuple(((a - middle) / width).astype(a.dtype) for a in (x, *others))


def _checked(split: _Split, protocol: Protocol, seed: int, show: bool) -> dict[str, Any]:
    """Compare the derivatives of the loss with differences, before any training."""
    x, y = (a[: protocol.checked_rows] for a in split.train)

    def loss(model: Any) -> Array:
        dtype = flatten(model, True)[0][0].dtype  # float64 where float32 is checked to more digits
        return mean_loss(model, x.astype(dtype), y)

    with Progress("gradient check", 1, show=show) as bar:
        report = gradient_report(
            loss,
            (split.model,),
            points=protocol.checked_points,
            rng=np.random.default_rng([seed, 6]),
        )
        bar.advance()
    verdict, *findings = str(report).splitlines()
    return {
        "rows": len(y),
        "ok": report.ok,
        "verdict": verdict,
        "findings": [line.strip() for line in findings],
        "wrong": sum(n for cause, n in report.counts.items() if cause in FAILURES),
        "checked": report.checked,
        "entries": report.total,
        "directions": report.directions,
        "points": len(report.points),
        "undecided": report.undecided,
        "worst": report.worst,
    }


def _cross_validated(
    splits: list[_Split], data: Dataset, protocol: Protocol, show: bool
) -> tuple[Any, dict[str, Any]]:
    """Train on each split; return the model of the first one, and the accuracies with their interval."""
    trained: list[Any] = []
    rows, classes = sum(len(split.truth) for split in splits), len(data.classes)
    records, confusion = [], np.zeros((classes, classes), np.int64)
    curve: list[float] = []
    epochs = protocol.epochs_for(protocol.epochs, len(splits[0].train[1]))
    with Progress("training", len(splits) * epochs, show=show) as bar:
        for split in splits:
            x, y = split.train
            start = split.model
            if split.number == 0:
                curve.append(loss_over(start, x, y))

            def after_epoch(model: Any, split: _Split = split) -> bool:
                bar.advance()
                loss = loss_over(model, *split.train)
                if not math.isfinite(loss):
                    raise DomainError(
                        f"study: the training diverged (loss {loss} in split {split.number + 1}). "
                        "Scale the features, or the weights of the model at the start."
                    )
                if split.number == 0:
                    curve.append(loss)
                return True

            steps = epochs * math.ceil(len(y) / protocol.batch_size)
            with np.errstate(all="ignore"):  # a divergence is found by its loss
                model = train(
                    start,
                    x,
                    y,
                    optimizer=optim.adam(half_cosine(protocol.learning_rate, steps)),
                    epochs=epochs,
                    batch_size=protocol.batch_size,
                    rng=np.random.default_rng([split.seed, 5, split.number]),
                    after_epoch=after_epoch,
                )
            if split.number == 0:
                trained.append(model)
            correct, answers = correct_answers(model, *split.test)
            np.add.at(confusion, (split.truth, np.asarray(to_device(answers, "cpu"))), 1)
            records.append({"tested": len(split.truth), "correct": correct})
    total = sum(r["correct"] for r in records)
    shares = [r["correct"] / r["tested"] for r in records]
    return trained[0], {
        "mean": math.fsum(shares) / len(shares),
        "interval": list(wilson_interval(total, rows)),
        "level": LEVEL,
        "method": f"Wilson's interval for {total} right answers of {rows}"
        + ("; each row is tested once" if len(splits) > 1 else ""),
        "splits": [r | {"accuracy": a} for r, a in zip(records, shares, strict=True)],
        "confusion": confusion.tolist(),
        "epochs": epochs,
        "training_loss": curve,
    }


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    r"""Return Wilson's 95 % interval for a probability.

    .. math:: \frac{p + z^2 / 2n \pm z \sqrt{p (1 - p) / n + z^2 / 4 n^2}}{1 + z^2 / n}

    References
    ----------
    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Examples
    --------
    >>> low, high = wilson_interval(9, 10)
    >>> round(low, 4), round(high, 4)
    (0.5958, 0.9821)
    """
    z, p = NORMAL_QUANTILE, successes / trials
    middle = p + z * z / (2 * trials)
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def _data_record(data: Dataset) -> dict[str, Any]:
    digest = hashlib.sha256(np.ascontiguousarray(data.x).tobytes())
    digest.update(np.ascontiguousarray(data.y).tobytes())
    counts = np.bincount(data.y, minlength=len(data.classes))
    return {
        "name": data.name,
        "source": data.source,
        "rows": len(data.y),
        "features": data.x.shape[1],
        "dtype": str(data.x.dtype),
        "classes": [
            {"label": label, "rows": int(count)}
            for label, count in zip(data.classes, counts, strict=True)
        ],
        "sha256": digest.hexdigest(),
    }


def _model_record(recipe: Recipe, model: Any) -> dict[str, Any]:
    leaves, structure = flatten(model, True)
    return {
        "name": recipe.name,
        "parameters": sum(math.prod(leaf.shape) for leaf in leaves),
        "leaves": [
            {"name": path.lstrip("."), "shape": list(leaf.shape), "dtype": str(leaf.dtype)}
            for leaf, path in zip(leaves, paths(structure), strict=True)
        ],
    }


def environment() -> dict[str, Any]:
    """Return what the bits of the results depend on beside the seed: versions, machine, threads."""
    config: Any = show_config(mode="dicts")
    return {
        "nnmath_core": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "machine": platform.machine(),
        "instruction_set": config["instruction sets"]["selected"],
        "blas": _blas_pools(),
    }


def _blas_pools() -> list[dict[str, Any]] | str:
    """Return the BLAS libraries in use with their numbers of threads."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "not measured: threadpoolctl is not installed"
    return [
        {
            name: pool.get(name)
            for name in ("internal_api", "version", "architecture", "num_threads")
        }
        for pool in sorted(threadpool_info(), key=lambda pool: str(pool["filepath"]))
        if pool["user_api"] == "blas"
    ]
