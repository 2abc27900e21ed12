"""What the iterations have in common: products for C, progress, and the end by Ctrl-C."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext import _iterations
from nnmath_core.checks import require_callable, sentence
from nnmath_core.device import CPU, to_device
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.solvers.operator import LinearOperator
from nnmath_core.typing import Array

__all__ = ["Progress", "lengths", "product_of", "require_progress", "require_symmetric"]


def product_of(who: str, op: LinearOperator, *, transpose: bool = False) -> Any:
    """Return the product with an operator, or with its transpose, that iterations in C call.

    It is the operator's own one in C when it has one, else a function of Python, which takes the GIL; a device receives
    and returns vectors of the host.
    """
    if op.device == CPU:
        made = op._compiled_transpose() if transpose else op._compiled_product()
        if made is not None:
            return made
    rows, cols = op.shape[::-1] if transpose else op.shape
    name = "A.T @ x" if transpose else "A @ x"

    def multiply(x: Array) -> Array:
        """From rows (k, cols) to rows (k, rows); one row goes as a vector, which `_matmat` may know better."""
        block = x[0] if len(x) == 1 else x.T
        moved = block if op.device == CPU else to_device(block, op.device)
        y = op.rmatvec(moved) if transpose else op @ moved
        wanted = (rows, *block.shape[1:])
        if y.shape != wanted:
            raise ShapeError(sentence(who, name, f"of shape {wanted}", str(y.shape)))
        if y.dtype != op.dtype:
            raise DtypeError(
                sentence(who, name, f"of the operator's dtype, {op.dtype}", str(y.dtype))
            )
        y = y if op.device == CPU else to_device(y, CPU)
        return np.ascontiguousarray(y.T).reshape(len(x), rows)

    return _iterations.python_product(multiply, rows, cols, op.dtype)


def lengths(rows: Array) -> Array:
    """Return the lengths of rows on the host, in double; their squares need not fit a number."""
    wide = rows.astype(float, copy=False)
    top = np.abs(wide).max(axis=-1, initial=0.0)
    if not np.any((top < 1e-150) | (top > 1e150)):
        return np.sqrt(np.einsum("...i,...i->...", wide, wide))  # type: ignore[no-any-return]
    unit = np.where((top > 0) & np.isfinite(top), top, 1.0)
    with np.errstate(over="ignore"):
        scaled = wide / unit[..., None]
        return unit * np.sqrt(np.einsum("...i,...i->...", scaled, scaled))  # type: ignore[no-any-return]


def require_symmetric(
    who: str, op: LinearOperator, multiply: Callable[[Array], Array], rng: np.random.Generator
) -> None:
    """Compare y'Ax with x'Ay for a random pair, to n products' worth of rounding."""
    pair = rng.standard_normal((2, op.shape[0])).astype(op.dtype)
    (x, y), (ax, ay) = pair.astype(float), multiply(pair).astype(float)
    scale = float(np.linalg.norm(ax) * np.linalg.norm(y) + np.linalg.norm(ay) * np.linalg.norm(x))
    if not math.isfinite(scale):
        raise DomainError(
            f"{who}: `A @ x` must be finite, got infinity or NaN for a random vector."
        )
    gap = abs(float(y @ ax) - float(x @ ay))
    if gap > 32 * float(np.finfo(op.dtype).eps) * scale:
        raise DomainError(
            f"{who}: `A` must be symmetric, and for random vectors x'Ay and y'Ax differ by "
            f"{gap / scale:.1e} of |x| |Ay|. Pass (A + A.T) / 2, or use the operator A.T A."
        )


def require_progress(who: str, progress: Any) -> None:
    """Check the option ``progress``: a bool or a callable."""
    if not isinstance(progress, bool):
        require_callable(who, "progress", progress)


class Progress:
    """How far an iteration has come, to a bar of tqdm, to a callable, or to nobody.

    It is called with the number of steps and with how many of ``total`` are done.
    """

    def __init__(
        self, progress: bool | Callable[[int, int], object], total: int, who: str, unit: str
    ) -> None:
        self.bar: Any = None
        self.call = progress if callable(progress) else None
        if progress is True:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self.bar = tqdm(total=total, desc=who, unit=unit)

    @property
    def wanted(self) -> bool:
        """Whether anybody looks."""
        return self.call is not None or self.bar is not None

    def __enter__(self) -> Progress:
        return self

    def __call__(self, steps: int, done: int) -> None:
        """Say how far it is."""
        if self.call is not None:
            self.call(steps, done)
        if self.bar is not None:
            self.bar.n = done
            self.bar.set_postfix(steps=steps)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
