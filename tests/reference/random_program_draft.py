"""A draft of a random program: values, steps, and the rules by which a step is rejected.

Every step is run with NumPy as it is drawn. A step is rejected when a value becomes large, small or
singular, or when a non-smooth operation has an argument near its kink or tie; the draft then
forgets the attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from program_operations import apply, numpy_functions

LARGEST = 8.0  # of any value: products of a few such numbers stay far from overflow
SMALLEST = 1e-3  # of the largest entry of a value: what is smaller says nothing
MARGIN = 0.02  # to the next kink or tie
LARGEST_SIZE = 40  # elements of one value


class Rejected(Exception):
    """A drawn step is not wanted: too large, too near a kink, no operand that fits."""


class Draft:
    """A program while it is drawn: steps with their NumPy values."""

    def __init__(self, rng: np.random.Generator, inputs: list[np.ndarray]) -> None:
        self.rng = rng
        self.values: list[Any] = list(inputs)
        self.steps: list[list[Any]] = []
        self.used: set[int] = set()

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Undo the steps of an attempt that is rejected."""
        values, steps, used = len(self.values), len(self.steps), set(self.used)
        try:
            yield
        except Rejected:
            del self.values[values:], self.steps[steps:]
            self.used = used
            raise

    def emit(self, name: str, *operands: int, **parameters: Any) -> int:
        """Append a step; return the number of its (first) value."""
        step = [name, [int(i) for i in operands], parameters]
        with np.errstate(all="raise"):
            try:
                made = apply(step, self.values, numpy_functions())
            except (FloatingPointError, ValueError, np.linalg.LinAlgError):
                raise Rejected(name) from None
        for value in made:
            value = np.asarray(value)
            if value.size == 0 or value.size > LARGEST_SIZE or value.ndim > 3:
                raise Rejected(name)
            if value.dtype == np.float64 and not SMALLEST <= np.abs(value).max() <= LARGEST:
                raise Rejected(name)
        first = len(self.values)
        self.steps.append(step)
        self.values.extend(np.asarray(v) for v in made)
        self.used.update(operands)
        return first

    def loose(self) -> list[int]:
        """Return the numbers of the floating-point values that nothing uses yet."""
        return [
            i for i, v in enumerate(self.values) if v.dtype == np.float64 and i not in self.used
        ]

    def pick(self, fits: Callable[[np.ndarray], bool] = lambda v: True) -> int:
        """Choose an operand among the values that fit, rather one that nothing uses yet."""
        fitting = [i for i, v in enumerate(self.values) if v.dtype == np.float64 and fits(v)]
        loose = [i for i in fitting if i not in self.used]
        if loose and self.rng.random() < 0.8:
            fitting = loose
        if not fitting:
            raise Rejected("no operand fits")
        return int(self.rng.choice(fitting))

    def choice(self, options: Any) -> Any:
        """Choose one of a few options."""
        return options[int(self.rng.integers(len(options)))]

    def coin(self) -> bool:
        """Return True or False."""
        return bool(self.rng.random() < 0.5)

    def axis(self, i: int) -> int:
        """Choose an axis of a value, from the left or from the right."""
        ndim = self.values[i].ndim
        return int(self.rng.integers(-ndim, ndim))

    def axis_or_all(self, i: int) -> Any:
        """Choose what a reduction reduces: one axis, two, or all."""
        ndim = self.values[i].ndim
        options: list[Any] = [None]
        if ndim >= 1:
            options += [self.axis(i), self.axis(i)]
        if ndim >= 2:
            options += [[0, ndim - 1], [-1, -2]]
        return self.choice(options)

    def far(self, difference: Any) -> None:
        """Reject unless all numbers are away from zero."""
        if np.size(difference) and np.abs(difference).min() < MARGIN:
            raise Rejected("near a kink")

    def within(self, i: int, low: float, high: float) -> int:
        """Bring a value into a range: by scaling, or by ``x * x + c`` if that is positive."""
        x = self.values[i]
        if low <= x.min() and x.max() <= high:
            return i
        if low >= 0:
            square = self.emit("multiply", i, i, operator=self.coin())
            i = self.emit("scalar_arithmetic", square, constant=low + 0.5, spelling="x+c")
            if self.values[i].max() <= high:
                return i
            raise Rejected("out of range")
        size = min(-low, high) / np.abs(x).max()
        constant = np.floor(size * 1000) / 1000
        return self.emit(
            "scalar_arithmetic", i, constant=float(constant), spelling=self.choice(["x*c", "c*x"])
        )

    def square(self) -> int:
        """Choose a square matrix, or make one of a matrix or of two vectors."""
        kind = self.rng.integers(3)
        if kind == 0:
            return self.pick(lambda v: v.ndim == 2 and v.shape[0] == v.shape[1] > 1)
        if kind == 1:
            i = self.pick(lambda v: v.ndim == 2 and v.shape[1] > 1)
            t = self.emit("transpose", i, axes=None, attribute=self.coin())
            return self.emit("matmul", t, i, operator=True)
        i = self.pick(lambda v: v.ndim == 1 and 2 <= v.size <= 5)
        n = self.values[i].size
        j = self.pick(lambda v: v.shape == (n,))
        return self.emit("outer", i, j)

    def invertible(self) -> int:
        """Make a matrix with rows of absolute sum at most 1, plus twice the identity."""
        i = self.square()
        rows = np.abs(self.values[i]).sum(axis=1).max()
        if rows > 1:
            constant = float(np.floor(1000 / rows) / 1000)
            i = self.emit("scalar_arithmetic", i, constant=constant, spelling="x*c")
        return self.emit("add_identity", i, constant=2.0)

    def positive_definite(self) -> int:
        """Make a symmetric positive definite matrix: ``a @ a.T`` plus the identity."""
        i = self.pick(lambda v: v.ndim == 2 and v.shape[0] > 1)
        i = self.within(i, -1.0, 1.0)
        t = self.emit("transpose", i, axes=None, attribute=True)
        return self.emit("add_identity", self.emit("matmul", i, t, operator=True), constant=1.0)
