"""The exceptions of nnmath-core; each is a `NnmathError` and also a built-in.

Code that catches ``ValueError`` or ``TypeError`` keeps working, and code that wants to tell a
mistake in a shape from a mistake in a value can. The sentences are built in `nnmath_core.checks`.
"""

__all__ = [
    "ConvergenceError",
    "DeviceError",
    "DomainError",
    "DtypeError",
    "GradientError",
    "MemoryLimitError",
    "MissingDependency",
    "NnmathError",
    "ShapeError",
    "TraceError",
    "TreeError",
]


class NnmathError(Exception):
    """Base class of every exception that nnmath-core raises on purpose."""


class ShapeError(NnmathError, ValueError):
    """An array has the wrong shape, or a number of rows, columns or items is not allowed."""


class DomainError(NnmathError, ValueError):
    """A value lies outside the set on which the function is defined."""


class DeviceError(NnmathError, ValueError):
    """A device does not exist or cannot be used, or arrays of two devices were mixed."""


class DtypeError(NnmathError, TypeError):
    """An array or scalar has an element type which the function does not take."""


class TreeError(NnmathError, TypeError):
    """A nested structure holds something that is not a leaf, or two structures differ."""


class TraceError(NnmathError, TypeError):
    """A traced value was used where only its derivative-free value could have been used."""


class GradientError(NnmathError, AssertionError):
    """A derivative does not exist, or disagrees with the differences of the function.

    Parameters
    ----------
    message : str
        The finding in words.
    report : object, optional
        The record of the comparison.

    Attributes
    ----------
    report : object or None
        What was compared, point by point.
    """

    def __init__(self, message: str, *, report: object = None) -> None:
        super().__init__(message)
        self.report = report


class ConvergenceError(NnmathError, RuntimeError):
    """An iteration ended before it reached its tolerance.

    Parameters
    ----------
    message : str
        What was wanted and what was reached.
    partial : object, optional
        The result as far as it got.

    Attributes
    ----------
    partial : object or None
        The result as far as it got, with its residual.
    """

    def __init__(self, message: str, *, partial: object = None) -> None:
        super().__init__(message)
        self.partial = partial


class MemoryLimitError(NnmathError, MemoryError):
    """A computation would need more memory than its stated limit; nothing was allocated."""


class MissingDependency(NnmathError, ImportError):
    """An optional package is needed and cannot be imported."""
