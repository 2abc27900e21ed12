"""Checks of arguments at the public boundary, and the one sentence in which they complain.

``who: `argument` must be <wanted>, got <got>. <What to do.>``
"""

from collections.abc import Callable, Collection
from dataclasses import is_dataclass
from typing import Any

import numpy as np

from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.typing import Array, Rng

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def sentence(who: str, arg: str, wanted: str, got: str, advice: str = "") -> str:
    """Build the message of an error: who, which argument, wanted, got, and what to do.

    Examples
    --------
    >>> sentence("lanczos", "k", "a positive integer", "-1", "Ask for at least one eigenvalue.")
    'lanczos: `k` must be a positive integer, got -1. Ask for at least one eigenvalue.'
    """
    text = f"{who}: `{arg}` must be {wanted}, got {got}."
    return f"{text} {advice}" if advice else text


def describe(x: object) -> str:
    """Say in a few words what ``x`` is, never printing an array.

    Examples
    --------
    >>> describe(np.zeros((2, 3))), describe([1.0, 2.0]), describe(True), describe("relu")
    ('float64 array of shape (2, 3)', 'a list', 'True', "'relu'")
    """
    if isinstance(x, np.ma.MaskedArray):
        return f"masked {x.dtype} array of shape {x.shape}"
    shape, dtype = getattr(x, "shape", None), getattr(x, "dtype", None)
    if not (shape is None or dtype is None or isinstance(x, np.generic | type)):
        return f"{dtype} array of shape {tuple(shape)}"
    if x is None or isinstance(x, bool | int | float | complex | str | np.generic):
        text = repr(x.item() if isinstance(x, np.generic) else x)
        return text if len(text) <= 60 else f"{text[:57]}..."
    if callable(x):
        return f"`{getattr(x, '__name__', type(x).__name__)}`"
    kind = type(x).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def require_float(who: str, arg: str, x: Any) -> Array:
    """Return ``x`` as an array whose elements are float32 or float64, in native byte order.

    A Python or NumPy float becomes an array of no axes; arrays of other libraries pass when they
    speak the array API (device arrays, traced values) and are viewed through ``__array__`` when
    they do not (a pandas Series).

    Raises
    ------
    DtypeError
        ``x`` is no array, is masked, or has elements of another type.
    """
    wanted = "a float32 or float64 array"
    if isinstance(x, np.ma.MaskedArray):
        advice = "Put values where the mask is: `x.filled(...)`."
        raise DtypeError(sentence(who, arg, wanted, describe(x), advice))
    if isinstance(x, float | np.floating) or (
        hasattr(x, "__array__")
        and not hasattr(x, "__array_namespace__")
        and not hasattr(x, "__cuda_array_interface__")  # CuPy 14 has no array API attribute
    ):
        x = np.asarray(x)
    dtype = getattr(x, "dtype", None)
    if dtype is not None and dtype in _FLOATS:  # None == numpy.dtype("float64") is true
        return x  # type: ignore[no-any-return]
    if dtype is None:
        numbers = isinstance(x, list | tuple | int)
        advice = f"Convert it: `numpy.asarray({arg}, dtype=float)`." if numbers else ""
        if isinstance(x, tuple) and len(x) == 2 and is_dataclass(x[1]):
            advice = (
                "`train` returns a pair, the output and the layer: `y, layer = layer.train(x)`."
            )
    elif dtype.kind == "f" and dtype.newbyteorder("=") in _FLOATS:
        advice = f"Its byte order is foreign: `{arg}.astype({arg}.dtype.newbyteorder('='))`."
    elif dtype.kind == "c":
        advice = f"Pass `{arg}.real` and `{arg}.imag` as two arrays."
    else:
        advice = f"Convert it: `{arg}.astype(numpy.float64)`."
    raise DtypeError(sentence(who, arg, wanted, describe(x), advice))


def require_same_dtype(who: str, **arrays: Array) -> np.dtype[Any]:
    """Return the one element type of the named arrays.

    Raises
    ------
    DtypeError
        Two of them differ; the message names the first two that do.
    """
    (first, x), *others = arrays.items()
    for arg, y in others:
        if y.dtype != x.dtype:
            advice = f"Nothing is converted in silence: `{arg}.astype({x.dtype})`."
            wanted = f"{x.dtype} as `{first}` is"
            raise DtypeError(sentence(who, arg, wanted, str(y.dtype), advice))
    return x.dtype


def require_shape(
    who: str, arg: str, x: Array, shape: tuple[int | None, ...], advice: str = ""
) -> None:
    """Refuse an array whose shape is not ``shape``; ``None`` stands for any length.

    Raises
    ------
    ShapeError
        The number of axes or a length differs.
    """
    if len(x.shape) != len(shape) or any(
        want is not None and want != have for want, have in zip(shape, x.shape, strict=True)
    ):
        text = ", ".join("any" if n is None else str(n) for n in shape)
        text = f"({text},)" if len(shape) == 1 else f"({text})"
        raise ShapeError(sentence(who, arg, f"of shape {text}", str(tuple(x.shape)), advice))


def require_int(who: str, arg: str, n: Any, *, minimum: int, advice: str = "") -> int:
    """Return ``n`` as a Python integer that is at least ``minimum``.

    Raises
    ------
    DtypeError
        ``n`` is no integer (a bool is none, nor is ``3.0``).
    DomainError
        ``n`` is below ``minimum``.
    """
    if minimum == 1:
        wanted = "a positive integer"
    else:
        wanted = f"an integer >= {minimum}"
    if isinstance(n, bool | np.bool_) or not isinstance(n, int | np.integer):
        raise DtypeError(sentence(who, arg, wanted, describe(n), advice))
    if n < minimum:
        raise DomainError(sentence(who, arg, wanted, describe(n), advice))
    return int(n)


def require_positive_int(who: str, arg: str, n: Any, advice: str = "") -> int:
    """Return ``n`` as a positive Python integer; see `require_int`."""
    return require_int(who, arg, n, minimum=1, advice=advice)


def require_real(
    who: str, arg: str, x: Any, inside: Callable[[float], bool], wanted: str, advice: str = ""
) -> float:
    """Return the number ``x`` as a Python float for which ``inside`` holds.

    Parameters
    ----------
    who, arg : str
        The function and its argument.
    x : float or int
        The value.
    inside : callable
        The domain, as ``lambda x: 0 <= x < 1``; NaN falls out of any comparison.
    wanted : str
        The domain in words, as ``"a number in [0, 1)"``.
    advice : str, default ""
        What to do.

    Returns
    -------
    float

    Raises
    ------
    DtypeError
        ``x`` is no real number.
    DomainError
        ``inside(x)`` is false.
    """
    if isinstance(x, bool | np.bool_) or not isinstance(x, int | float | np.integer | np.floating):
        raise DtypeError(sentence(who, arg, wanted, describe(x), advice))
    value = float(x)
    if not inside(value):
        raise DomainError(sentence(who, arg, wanted, describe(x), advice))
    return value


def require_in(who: str, arg: str, value: Any, choices: Collection[Any], advice: str = "") -> None:
    """Refuse a value which is not one of ``choices``.

    Raises
    ------
    DomainError
        ``value`` is none of them.
    """
    several = bool(getattr(value, "shape", ()))  # an array has no one truth, and is none of them
    if several or not any(value is choice or value == choice for choice in choices):
        wanted = "one of " + ", ".join(repr(choice) for choice in choices)
        raise DomainError(sentence(who, arg, wanted, describe(value), advice))


def require_callable(who: str, arg: str, f: Any, advice: str = "") -> None:
    """Refuse what cannot be called.

    Raises
    ------
    DtypeError
        ``f`` is not callable.
    """
    if not callable(f):
        raise DtypeError(sentence(who, arg, "callable", describe(f), advice))


def require_rng(who: str, rng: Rng) -> np.random.Generator:
    """Return the generator which ``rng`` names: itself, of that seed, or a fresh one for ``None``.

    Raises
    ------
    DtypeError
        ``rng`` is none of the three.
    DomainError
        The seed is negative.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    wanted = "None, an integer >= 0 or a numpy.random.Generator"
    if rng is None:
        return np.random.default_rng()
    if isinstance(rng, bool | np.bool_) or not isinstance(rng, int | np.integer):
        raise DtypeError(sentence(who, "rng", wanted, describe(rng)))
    if rng < 0:
        raise DomainError(sentence(who, "rng", wanted, describe(rng)))
    return np.random.default_rng(int(rng))
