"""The types that signatures of nnmath-core speak of, and static types of rank for those of users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nnmath_core.errors import DtypeError, ShapeError

if TYPE_CHECKING:  # with a default value, which the typing module of Python 3.11 does not have: `Vector` alone is one
    from typing_extensions import TypeVar

    T = TypeVar("T", bound=np.generic, default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T", bound=np.generic)

A = TypeVar("A")

__all__ = [
    "Array",
    "ArrayLike",
    "Matrix",
    "Rng",
    "Scalar",
    "Tensor3",
    "Tensor4",
    "Tree",
    "Vector",
    "matrix",
    "scalar",
    "tensor3",
    "tensor4",
    "vector",
]

Array: TypeAlias = NDArray[Any]
"""A host array (`numpy.ndarray`), a device array (`cupy.ndarray`, untyped) or a traced value."""

ArrayLike: TypeAlias = Array | float
"""An array or a Python number, which is an array of no axes."""

Tree: TypeAlias = Any
"""Nested dicts, lists, tuples, named tuples, ``None`` and dataclasses whose leaves are arrays."""

Rng: TypeAlias = np.random.Generator | int | None
"""What ``rng=`` takes: a generator, a seed, or ``None`` for a fresh one."""

Scalar: TypeAlias = np.ndarray[tuple[()], np.dtype[T]]
"""An array of no axes; ``Scalar[np.float32]`` says the elements, too."""

Vector: TypeAlias = np.ndarray[tuple[int], np.dtype[T]]
"""An array of one axis."""

Matrix: TypeAlias = np.ndarray[tuple[int, int], np.dtype[T]]
"""An array of two axes, as a batch of rows."""

Tensor3: TypeAlias = np.ndarray[tuple[int, int, int], np.dtype[T]]
"""An array of three axes, as a batch of sequences."""

Tensor4: TypeAlias = np.ndarray[tuple[int, int, int, int], np.dtype[T]]
"""An array of four axes, as a batch of images."""


def scalar(x: NDArray[T]) -> Scalar[T]:
    """Return an array that has no axes, typed as a `Scalar`.

    Parameters
    ----------
    x : array
        On any device, or traced. It is not converted.

    Returns
    -------
    array
        ``x`` itself.

    Raises
    ------
    ShapeError
        It has axes.
    DtypeError
        It is no array.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.typing.scalar(np.array(2.0))
    array(2.)
    """
    return _of_rank("scalar", x, 0)


def vector(x: NDArray[T]) -> Vector[T]:
    """Return an array that has one axis, typed as a `Vector`.

    Parameters
    ----------
    x : array
        On any device, or traced. It is not converted.

    Returns
    -------
    array
        ``x`` itself.

    Raises
    ------
    ShapeError
        It has another number of axes.
    DtypeError
        It is no array.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.typing.vector(np.ones(3))
    array([1., 1., 1.])
    >>> nm.typing.vector(np.ones((2, 3)))
    Traceback (most recent call last):
        ...
    nnmath_core.errors.ShapeError: vector: `x` must have 1 axis, got shape (2, 3).
    """
    return _of_rank("vector", x, 1)


def matrix(x: NDArray[T]) -> Matrix[T]:
    """Return an array that has two axes, typed as a `Matrix`.

    Parameters
    ----------
    x : array
        On any device, or traced. It is not converted.

    Returns
    -------
    array
        ``x`` itself.

    Raises
    ------
    ShapeError
        It has another number of axes.
    DtypeError
        It is no array.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.typing.matrix(np.ones((1, 2)))
    array([[1., 1.]])
    """
    return _of_rank("matrix", x, 2)


def tensor3(x: NDArray[T]) -> Tensor3[T]:
    """Return an array that has three axes, typed as a `Tensor3`.

    Parameters
    ----------
    x : array
        On any device, or traced. It is not converted.

    Returns
    -------
    array
        ``x`` itself.

    Raises
    ------
    ShapeError
        It has another number of axes.
    DtypeError
        It is no array.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.typing.tensor3(np.ones((1, 1, 2)))
    array([[[1., 1.]]])
    """
    return _of_rank("tensor3", x, 3)


def tensor4(x: NDArray[T]) -> Tensor4[T]:
    """Return an array that has four axes, typed as a `Tensor4`.

    Parameters
    ----------
    x : array
        On any device, or traced. It is not converted.

    Returns
    -------
    array
        ``x`` itself.

    Raises
    ------
    ShapeError
        It has another number of axes.
    DtypeError
        It is no array.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.typing.tensor4(np.ones((1, 1, 1, 2)))
    array([[[[1., 1.]]]])
    """
    return _of_rank("tensor4", x, 4)


def _of_rank(who: str, x: A, rank: int) -> A:
    shape = getattr(x, "shape", None)
    if not isinstance(shape, tuple) or not hasattr(x, "dtype") or isinstance(x, type):
        got = type(x).__name__
        raise DtypeError(f"{who}: `x` must be an array, got {got}. Convert it: `numpy.asarray(x)`.")
    if len(shape) != rank:
        axes = "no axes" if rank == 0 else "1 axis" if rank == 1 else f"{rank} axes"
        raise ShapeError(f"{who}: `x` must have {axes}, got shape {tuple(shape)}.")
    return x
