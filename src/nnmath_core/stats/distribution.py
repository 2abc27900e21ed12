"""What all univariate distributions share: location and scale, the support, parameters outside of their domain.

A distribution states its functions for the standard form, inside of the support. Outside of it the density is 0 and
its logarithm -inf, as a selection: the derivative is exactly 0 there. Where a parameter is outside of its domain the
value is NaN, and so is every derivative.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import dtype_of
from nnmath_core.autodiff.ops.compare import (
    equal,
    greater,
    greater_equal,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
)
from nnmath_core.autodiff.ops.conventions import constant
from nnmath_core.autodiff.ops.elementwise import exp, expm1, floor, log, log1p
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.special.declare import floating
from nnmath_core.device import entering
from nnmath_core.special import digamma, gammaln

__all__ = ["Continuous", "Discrete", "operands"]

_POINT = {
    "pdf": "density",
    "logpdf": "logarithm of the density",
    "pmf": "probability of k",
    "logpmf": "logarithm of the probability of k",
    "cdf": "distribution function, the probability of what is not above {x}",
    "logcdf": "logarithm of the distribution function",
    "sf": "survival function, 1 - cdf without the difference",
    "logsf": "logarithm of the survival function",
    "ppf": "quantile function, the inverse of the cdf",
    "isf": "inverse of the survival function",
    "entropy": "differential entropy, in nats",
}


def operands(*xs: Any) -> tuple[Any, ...]:
    """Operands as floating arrays; Python numbers in the dtype of the arrays, which they must not promote."""
    ys = [floating(x) for x in xs]
    kinds = [dtype_of(y) for y in ys if hasattr(y, "dtype")]
    if not kinds:
        return tuple(ys)
    first = next(y for y in ys if hasattr(y, "dtype"))
    dtype = np.result_type(*kinds)
    return tuple(y if hasattr(y, "dtype") else constant(first, (), y, dtype) for y in ys)


class _Distribution:
    """Functions of SciPy's names and arguments, made from what a subclass states for the standard form."""

    shapes: tuple[str, ...] = ()
    """Names of the shape parameters, in SciPy's order."""

    _scaled = True
    _argument = "x"
    _functions: tuple[str, ...] = ()

    def __init__(self) -> None:
        for name in self._functions:
            if name != "entropy" or hasattr(self, "_entropy"):
                setattr(self, name, self._function(name))

    def __repr__(self) -> str:
        return f"nm.stats.{self.name}"

    @property
    def name(self) -> str:
        """The name of the distribution."""
        return type(self).__name__.removeprefix("_")

    def _function(self, name: str) -> Callable[..., Any]:
        argument = {"ppf": "q", "isf": "q", "entropy": None}.get(name, self._argument)
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        first = [] if argument is None else [argument]
        rest = [("loc", 0), ("scale", 1)][: 2 if self._scaled else 1]
        signature = inspect.Signature(
            [inspect.Parameter(n, kind) for n in (*first, *self.shapes)]
            + [inspect.Parameter(n, kind, default=value) for n, value in rest]
        )
        run = getattr(self, f"_public_{name}")

        @entering
        def function(*args: Any, **named: Any) -> Any:
            bound = signature.bind(*args, **named)
            bound.apply_defaults()
            return run(*operands(*bound.arguments.values()))[()]

        function.__signature__ = signature  # type: ignore[attr-defined]
        function.__name__ = name
        function.__qualname__ = f"{self.name}.{name}"
        function.__doc__ = self._document(name, argument)
        return function

    def _document(self, name: str, argument: str | None) -> str:
        of = f"{argument} : array, q in [0, 1]\n" if argument == "q" else f"{argument} : array\n"
        shapes = f"{', '.join(self.shapes)} : array\n" if self.shapes else ""
        rest = "loc, scale" if self._scaled else "loc"
        what = _POINT[name].format(x=argument)
        return (
            f"Return the {what}; SciPy's ``{self.name}.{name}``.\n\n"
            f"Parameters\n----------\n{of if argument else ''}{shapes}{rest} : array\n\n"
            "Returns\n-------\narray\n    Of the shape to which all operands broadcast.\n"
        )

    # ------------------------------------------------------------------- stated by a distribution
    def _valid(self, *shapes: Any) -> Any:
        """Where the shape parameters are in their domain."""
        good: Any = True
        for s in shapes:
            good = logical_and(good, greater(s, 0))
        return good

    def _support(self, *shapes: Any) -> tuple[Any, Any]:
        return -math.inf, math.inf


def _checked(y: Any, good: Any, args: Any) -> Any:
    """NaN, with derivatives NaN in all arguments, where a parameter is outside of its domain."""
    if isinstance(good, (bool, np.bool_, np.ndarray)) and np.all(good):
        return y
    return where(good, y, math.nan * sum(args[1:], args[0]))


def _above(x: Any, bound: Any, strict: bool) -> Any:
    """Whether x > bound (or >=); infinity itself is outside of every support."""
    if isinstance(bound, float) and math.isinf(bound):
        return equal(x, bound)
    return greater(x, bound) if strict else greater_equal(x, bound)


def _below(x: Any, bound: Any, strict: bool) -> Any:
    if isinstance(bound, float) and math.isinf(bound):
        return equal(x, bound)
    return less(x, bound) if strict else less_equal(x, bound)


def _select(condition: Any, x: Any, y: Any) -> Any:
    return y if condition is False else where(condition, x, y)


class Continuous(_Distribution):
    """A distribution with a density: ``_logpdf``, ``_cdf``, ``_sf``, ``_ppf``, ``_isf`` and what is known better."""

    pdf: Callable[..., Any]
    logpdf: Callable[..., Any]
    cdf: Callable[..., Any]
    logcdf: Callable[..., Any]
    sf: Callable[..., Any]
    logsf: Callable[..., Any]
    ppf: Callable[..., Any]
    isf: Callable[..., Any]
    entropy: Callable[..., Any]

    # what a distribution states, as methods of the standardized point and the shape parameters
    _logpdf: Callable[..., Any]
    _cdf: Callable[..., Any]
    _sf: Callable[..., Any]
    _ppf: Callable[..., Any]
    _isf: Callable[..., Any]
    _entropy: Callable[..., Any]

    _functions: tuple[str, ...] = (
        "pdf",
        "logpdf",
        "cdf",
        "logcdf",
        "sf",
        "logsf",
        "ppf",
        "isf",
        "entropy",
    )
    _inner = 0.5
    """A point inside of the support, which stands for what is outside."""
    _open = False
    """Whether the density at the lower end of the support is 0, where its formula is no number."""

    def __init__(self) -> None:
        self._functions = tuple(
            name
            for name in self._functions
            if (hasattr(self, "_cdf") or name not in ("cdf", "logcdf", "sf", "logsf"))
            and (hasattr(self, "_ppf") or name not in ("ppf", "isf"))
        )
        super().__init__()

    def _density(self, f: Callable[..., Any], outside: float, x: Any, args: tuple[Any, ...]) -> Any:
        *shapes, loc, scale = args
        z = (x - loc) / scale
        low, high = self._support(*shapes)
        out = logical_or(_below(z, low, not self._open), _above(z, high, True))
        y = f(_select(out, self._inner_point(*shapes), z), *shapes, scale)
        return _checked(_select(out, outside, y), self._good(shapes, scale), (x, *args))

    def _inner_point(self, *shapes: Any) -> Any:
        return self._inner

    def _good(self, shapes: Any, scale: Any) -> Any:
        good = self._valid(*shapes)
        return logical_and(good, greater(scale, 0))

    def _public_logpdf(self, x: Any, *args: Any) -> Any:
        return self._density(
            lambda z, *s: self._logpdf(z, *s[:-1]) - log(s[-1]), -math.inf, x, args
        )

    def _public_pdf(self, x: Any, *args: Any) -> Any:
        return self._density(lambda z, *s: self._pdf(z, *s[:-1]) / s[-1], 0.0, x, args)

    def _cumulative(
        self, f: Callable[..., Any], below: float, above: float, x: Any, args: tuple[Any, ...]
    ) -> Any:
        *shapes, loc, scale = args
        z = (x - loc) / scale
        low, high = self._support(*shapes)
        left, right = _below(z, low, False), _above(z, high, False)
        inner = _select(logical_or(left, right), self._inner_point(*shapes), z)
        y = _select(left, below, _select(right, above, f(inner, *shapes)))
        return _checked(y, self._good(shapes, scale), (x, *args))

    def _public_cdf(self, x: Any, *args: Any) -> Any:
        return self._cumulative(self._cdf, 0.0, 1.0, x, args)

    def _public_sf(self, x: Any, *args: Any) -> Any:
        return self._cumulative(self._sf, 1.0, 0.0, x, args)

    def _public_logcdf(self, x: Any, *args: Any) -> Any:
        return self._cumulative(self._logcdf, -math.inf, 0.0, x, args)

    def _public_logsf(self, x: Any, *args: Any) -> Any:
        return self._cumulative(self._logsf, 0.0, -math.inf, x, args)

    def _quantile(self, f: Callable[..., Any], at0: Any, at1: Any, q: Any, args: Any) -> Any:
        *shapes, loc, scale = args
        zero, one = equal(q, 0), equal(q, 1)
        inside = logical_and(greater(q, 0), less(q, 1))
        z = f(where(inside, q, 0.5), *shapes)
        end = where(zero, at0, where(one, at1, q * math.nan))
        return _checked(where(inside, z, end) * scale + loc, self._good(shapes, scale), (q, *args))

    def _public_ppf(self, q: Any, *args: Any) -> Any:
        return self._quantile(self._ppf, *self._support(*args[:-2]), q, args)

    def _public_isf(self, q: Any, *args: Any) -> Any:
        return self._quantile(self._isf, *self._support(*args[:-2])[::-1], q, args)

    def _public_entropy(self, *args: Any) -> Any:
        *shapes, loc, scale = args
        y = self._entropy(*shapes) + log(scale) + where(isnan(loc), loc, 0.0)
        return _checked(y, self._good(shapes, scale), args)

    # what follows from the rest, where nothing better is known
    def _pdf(self, z: Any, *shapes: Any) -> Any:
        return exp(self._logpdf(z, *shapes))

    def _logcdf(self, z: Any, *shapes: Any) -> Any:
        return _log_of(self._cdf(z, *shapes), lambda: self._sf(z, *shapes))

    def _logsf(self, z: Any, *shapes: Any) -> Any:
        return _log_of(self._sf(z, *shapes), lambda: self._cdf(z, *shapes))


def _log_of(p: Any, complement: Callable[[], Any]) -> Any:
    """The logarithm of a probability, by its complement above one half."""
    large = greater(p, 0.5)
    rest = where(large, complement(), 0.25)
    return where(large, log1p(-rest), log(where(large, 0.75, p)))


def log1mexp(x: Any) -> Any:
    """log(1 - exp(-x)) for x > 0, by the better of two ways (Maechler, 2012)."""
    small = less(x, math.log(2.0))
    return where(small, log(-expm1(-where(small, x, 0.5))), log1p(-exp(-where(small, 1.0, x))))


def gamma_entropy(a: Any) -> Any:
    """Entropy of a gamma number: a + log(gamma(a)) + (1 - a) digamma(a), for large a by its expansion: they cancel.

    The entropies of what is made of gamma numbers are sums of this one.
    """
    large = greater(a, 100.0)
    near, r = where(large, 1.0, a), 1.0 / where(large, a, 100.0)
    s = r * r
    tail = r / 3 + s * (1 / 12 + r / 90 - s * (1 / 120 + r / 210 - s / 252))
    far = 0.5 * (1.0 + math.log(2.0 * math.pi) - log(r)) - tail
    return where(large, far, near + gammaln(near) + (1.0 - near) * digamma(near))


class Discrete(_Distribution):
    """A distribution on the integers: ``_logpmf``, ``_cdf``, ``_sf``."""

    pmf: Callable[..., Any]
    logpmf: Callable[..., Any]
    cdf: Callable[..., Any]
    logcdf: Callable[..., Any]
    sf: Callable[..., Any]
    logsf: Callable[..., Any]

    # what a distribution states, as methods of k - loc and the shape parameters
    _logpmf: Callable[..., Any]
    _cdf: Callable[..., Any]
    _sf: Callable[..., Any]

    _scaled = False
    _argument = "k"
    _functions: tuple[str, ...] = ("pmf", "logpmf", "cdf", "logcdf", "sf", "logsf")

    def __init__(self) -> None:
        if not hasattr(self, "_cdf"):
            self._functions = ("pmf", "logpmf")
        super().__init__()

    def _support(self, *shapes: Any) -> tuple[Any, Any]:
        return 0.0, math.inf

    def _public_logpmf(self, k: Any, *args: Any) -> Any:
        *shapes, loc = args
        j = k - loc
        low, high = self._support(*shapes)
        out = logical_or(_below(j, low, True), _above(j, high, True))
        out = logical_or(out, logical_and(logical_not(equal(j, floor(j))), logical_not(isnan(j))))
        y = where(out, -math.inf, self._logpmf(where(out, low, j), *shapes))
        return _checked(y, self._valid(*shapes), (k, *args))

    def _public_pmf(self, k: Any, *args: Any) -> Any:
        return exp(self._public_logpmf(k, *args))

    def _cumulative(
        self, f: Callable[..., Any], below: float, above: float, k: Any, args: Any
    ) -> Any:
        *shapes, loc = args
        j = floor(k - loc)
        low, high = self._support(*shapes)
        left, right = _below(j, low, True), _above(j, high, False)
        inner = _select(logical_or(left, right), low, j)
        y = _select(left, below, _select(right, above, f(inner, *shapes)))
        return _checked(_select(isnan(j), math.nan, y), self._valid(*shapes), (k, *args))

    def _public_cdf(self, k: Any, *args: Any) -> Any:
        return self._cumulative(self._cdf, 0.0, 1.0, k, args)

    def _public_sf(self, k: Any, *args: Any) -> Any:
        return self._cumulative(self._sf, 1.0, 0.0, k, args)

    def _public_logcdf(self, k: Any, *args: Any) -> Any:
        return self._cumulative(self._logcdf, -math.inf, 0.0, k, args)

    def _public_logsf(self, k: Any, *args: Any) -> Any:
        return self._cumulative(self._logsf, 0.0, -math.inf, k, args)

    def _logcdf(self, k: Any, *shapes: Any) -> Any:
        return _log_of(self._cdf(k, *shapes), lambda: self._sf(k, *shapes))

    def _logsf(self, k: Any, *shapes: Any) -> Any:
        return _log_of(self._sf(k, *shapes), lambda: self._cdf(k, *shapes))
