"""Functions of NumPy that compute with values, and what JAX and HIPS autograd say of their derivatives.

::

    python tests/reference/numpy_peers.py           # write numpy_peers.json
    python tests/reference/numpy_peers.py --check   # ask again and compare

Each function takes a namespace (`numpy`, `jax.numpy`, `autograd.numpy`) and a vector of six numbers;
its outputs are weighed and added. Stored are value and gradient at `POINT` and, of JAX, the Hessian
times a vector, float64. A peer that lacks the function has no entry, and one whose convention is
another at a point is not asked there: the special points are tested by themselves. Nor is ``unique``,
of which JAX 0.10.2 says that its derivative is 0.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

STORED = Path(__file__).with_suffix(".json")
CHECK_TOLERANCE = 1e-12  # relative to the largest entry

POINT = numpy.array([0.53125, -1.28125, 2.171875, 0.90625, -0.703125, 1.453125])
DIRECTION = numpy.array([1.0, -0.5, 0.25, 2.0, 0.75, -1.25])
KNOTS = numpy.array([-2.0, -0.75, 0.25, 1.0, 2.5])
OTHER = numpy.array([0.25, 1.5, -0.5, 0.75, 2.0, -1.0])
HOLE = numpy.array([False, False, True, False, True, False])


def holed(np: Any, x: Any) -> Any:
    """The vector with two entries that are NaN."""
    return np.where(HOLE, np.nan, x)


def table(np: Any, x: Any) -> Any:
    """A 2 by 3 array."""
    return np.reshape(x * x + x, (2, 3))


FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "fmax": lambda np, x: np.fmax(x, OTHER),
    "fmin": lambda np, x: np.fmin(x, OTHER * x),
    "fmod": lambda np, x: np.fmod(x, 0.75),
    "fmod, divisor": lambda np, x: np.fmod(2.0, x),
    "copysign": lambda np, x: np.copysign(x, OTHER),
    "ldexp": lambda np, x: np.ldexp(x, numpy.array([1, -2, 0, 3, 1, 2])),
    "frexp": lambda np, x: np.frexp(x)[0],
    "modf": lambda np, x: np.modf(x)[0],
    "divmod": lambda np, x: np.divmod(x, 0.75)[1],
    "logaddexp2": lambda np, x: np.logaddexp2(x, x * x - 1),
    "deg2rad": lambda np, x: np.deg2rad(x),
    "rad2deg": lambda np, x: np.rad2deg(x),
    "float_power": lambda np, x: np.float_power(x * x + 0.5, x),
    "sinc": lambda np, x: np.sinc(x),
    "i0": lambda np, x: np.i0(x),
    "nan_to_num": lambda np, x: np.nan_to_num(x * x),
    "unwrap": lambda np, x: np.unwrap(4 * x),
    "nansum": lambda np, x: np.nansum(holed(np, x) ** 2),
    "nanprod": lambda np, x: np.nanprod(holed(np, x)),
    "nanmean": lambda np, x: np.nanmean(holed(np, x) ** 2),
    "nanvar": lambda np, x: np.nanvar(holed(np, x)),
    "nanstd": lambda np, x: np.nanstd(holed(np, x), ddof=1),
    "nanmax": lambda np, x: np.nanmax(holed(np, x)),
    "nanmin": lambda np, x: np.nanmin(holed(np, x)),
    "nancumsum": lambda np, x: np.nancumsum(holed(np, x) ** 2),
    "nancumprod": lambda np, x: np.nancumprod(holed(np, x)),
    "nanmedian": lambda np, x: np.nanmedian(holed(np, x)),
    "nanquantile": lambda np, x: np.nanquantile(holed(np, x), 0.375),
    "median": lambda np, x: np.median(x),
    "median, odd": lambda np, x: np.median(table(np, x), axis=1),
    "quantile": lambda np, x: np.quantile(x, numpy.array([0.125, 0.6875])),
    "quantile, axis": lambda np, x: np.quantile(table(np, x), 0.3125, axis=1),
    "quantile, midpoint": lambda np, x: np.quantile(x, 0.3125, method="midpoint"),
    "quantile, nearest": lambda np, x: np.quantile(x, 0.3125, method="nearest"),
    "quantile, lower": lambda np, x: np.quantile(x, 0.3125, method="lower"),
    "quantile, fraction": lambda np, x: np.quantile(x, 0.25 + 0.1 * x[0]),
    "percentile": lambda np, x: np.percentile(x, 40.0),
    "average": lambda np, x: np.average(x, weights=x * x),
    "cov": lambda np, x: np.cov(table(np, x)),
    "cov, weights": lambda np, x: np.cov(table(np, x), aweights=numpy.array([1.0, 0.5, 2.0])),
    "corrcoef": lambda np, x: np.corrcoef(table(np, x)),
    "ptp": lambda np, x: np.ptp(x),
    "interp": lambda np, x: np.interp(x * 0.75, KNOTS, KNOTS**2 - 1),
    "interp, heights": lambda np, x: np.interp(OTHER[:4], KNOTS, x[:5]),
    "interp, knots": lambda np, x: np.interp(OTHER[:4], KNOTS + 0.01 * x[:5], KNOTS**2),
    "gradient": lambda np, x: np.gradient(x * x),
    "gradient, spacing": lambda np, x: np.gradient(x * x, 0.75),
    "trapezoid": lambda np, x: np.trapezoid(x * x, dx=0.5),
    "trapezoid, places": lambda np, x: np.trapezoid(OTHER, x),
    "diff": lambda np, x: np.diff(x * x, 2),
    "diff, ends": lambda np, x: np.diff(x, prepend=x[:1] ** 2, append=1.0),
    "ediff1d": lambda np, x: np.ediff1d(x * x),
    "cross": lambda np, x: np.cross(x[:3], x[3:] ** 2),
    "kron": lambda np, x: np.kron(x[:2], x[2:]),
    "convolve": lambda np, x: np.convolve(x, x[:3]),
    "convolve, same": lambda np, x: np.convolve(x, x[:4], mode="same"),
    "correlate": lambda np, x: np.correlate(x, x[:3], mode="full"),
    "correlate, valid": lambda np, x: np.correlate(x, x[:3], mode="valid"),
    "bincount": lambda np, x: (
        np.bincount(numpy.array([0, 2, 2, 1, 0, 4]), x, length=5)
        if "jax" in np.__name__
        else np.bincount(numpy.array([0, 2, 2, 1, 0, 4]), x)
    ),
    "polyval": lambda np, x: np.polyval(x[:3], x[3:]),
    "polyadd": lambda np, x: np.polyadd(x, x[:3]),
    "polymul": lambda np, x: np.polymul(x, x[:3]),
    "polyder": lambda np, x: np.polyder(x * x),
    "polyint": lambda np, x: np.polyint(x * x),
    "poly": lambda np, x: np.poly(x),
    "vander": lambda np, x: np.vander(x),
    "select": lambda np, x: np.select([OTHER > 1, OTHER < 0], [x * x, x], 0.5),
    "choose": lambda np, x: np.choose(numpy.array([0, 1, 1, 0, 1, 0]), [x, x * x]),
    "piecewise": lambda np, x: np.piecewise(x, [x < 0, x >= 0], [lambda u: u * u, lambda u: u]),
    "sort": lambda np, x: np.sort(x),
    "partition": lambda np, x: np.sort(np.partition(x, 2)[:3]),
    "logaddexp.reduce": lambda np, x: np.logaddexp.reduce(x),
    "maximum.accumulate": lambda np, x: np.maximum.accumulate(x),
}


def weighed(np: Any, name: str) -> Callable[[Any], Any]:
    """The sum of all outputs of a function, each with a weight of its own."""

    def f(x: Any) -> Any:
        y = np.ravel(FUNCTIONS[name](np, x))
        return np.sum(y * (numpy.arange(1.0, y.size + 1) / 4 - 0.375))

    return f


def _of_jax() -> dict[str, Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    found = {}
    for name in FUNCTIONS:
        f = weighed(jax.numpy, name)
        try:
            value, gradient = jax.value_and_grad(f)(jax.numpy.asarray(POINT))
            product = jax.jvp(
                jax.grad(f), (jax.numpy.asarray(POINT),), (jax.numpy.asarray(DIRECTION),)
            )[1]
        except Exception as e:
            print("jax", name, type(e).__name__, str(e).splitlines()[0][:100])
            continue
        found[name] = [
            float(value),
            numpy.asarray(gradient).tolist(),
            numpy.asarray(product).tolist(),
        ]
    return found


def _of_autograd() -> dict[str, Any]:
    import autograd

    found = {}
    for name in FUNCTIONS:
        f = weighed(autograd.numpy, name)
        try:
            value, gradient = autograd.value_and_grad(f)(POINT)
        except Exception as e:
            print("autograd", name, type(e).__name__, (str(e).splitlines() or [""])[0][:100])
            continue
        found[name] = [float(value), numpy.asarray(gradient).tolist()]
    return found


def ask() -> dict[str, Any]:
    """What the installed peers say, with their versions."""
    versions = {p: importlib.metadata.version(p) for p in ("jax", "autograd", "numpy")}
    return {"versions": versions, "jax": _of_jax(), "autograd": _of_autograd()}


def main() -> None:
    """Write the answers, or compare them with the stored ones."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    answers = ask()
    if not parser.parse_args().check:
        STORED.write_text(json.dumps(answers, indent=None, separators=(",", ":")) + "\n")
        return
    stored = json.loads(STORED.read_text())
    for peer in ("jax", "autograd"):
        assert set(stored[peer]) == set(answers[peer]), peer
        for name, parts in stored[peer].items():
            for a, b in zip(parts, answers[peer][name], strict=True):
                a, b = numpy.asarray(a), numpy.asarray(b)
                assert numpy.all(abs(a - b) <= CHECK_TOLERANCE * max(1, abs(a).max())), (peer, name)


if __name__ == "__main__":
    main()
