"""What every function made of primitives must satisfy, as `check_function`: value, modes, orders, batches, staging.

The value is NumPy's own. First and second derivatives are held against central differences, whose
error is read off two step sizes, and forward against reverse mode by the adjoint identity.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from registry_checks import ROUNDING, assert_close, difference, inner, scale_of

import nnmath_core as nm

EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class Use:
    """A use of a function: floating operands, and what of the rest it can do."""

    name: str
    f: Any
    xs: tuple[Any, ...]
    stages: bool = True
    batches: bool = True
    linear: bool = False
    dtypes: tuple[Any, ...] = (np.float32, np.float64)

    @property
    def rng(self):
        return np.random.default_rng(zlib.crc32(self.name.encode()))


def outputs(y):
    """The floating outputs of a function as a tuple of arrays."""
    parts = y if isinstance(y, (tuple, list)) else (y,)
    return tuple(p for p in parts if hasattr(p, "dtype") and p.dtype.kind == "f")


def check_value(use, dtype):
    """A traced call returns NumPy's value, shape and dtype, eager and staged."""
    xs = tuple(np.asarray(x, dtype)[()] for x in use.xs)
    want = use.f(*xs)
    runs = {"traced": nm.jvp(use.f, xs, tuple(np.zeros_like(x) for x in xs))[0]}
    if use.stages:
        runs["staged"] = nm.stage(use.f, *xs)(*xs)
    for how, got in runs.items():
        pairs = zip(as_tuple(got), as_tuple(want), strict=True)
        for a, b in pairs:
            assert np.shape(a) == np.shape(b), (
                f"{use.name} {how}: shape {np.shape(a)}, {np.shape(b)}"
            )
            assert np.asarray(a).dtype == np.asarray(b).dtype, (
                f"{use.name} {how}: {np.asarray(a).dtype}"
            )
            eps = float(np.finfo(dtype).eps)
            n = max([1, *map(np.size, xs)])
            bound = ROUNDING * eps * n**0.5 * scale_of(b, *xs)
            if np.asarray(b).dtype.kind == "c":
                assert_close(np.real(a), np.real(b), bound, f"{use.name} {how}")
                assert_close(np.imag(a), np.imag(b), bound, f"{use.name} {how}")
            else:
                assert_close(a, b, bound, f"{use.name} {how}")


def as_tuple(y):
    return tuple(y) if isinstance(y, (tuple, list)) else (y,)


def near(got, f, xs, ts, what):
    """A directional derivative within the error of a central difference."""
    h = EPS ** (1 / 3)
    close, far = difference(f, xs, ts, h), difference(f, xs, ts, 2 * h)
    for y, t, a, b in zip(f(*xs), got, close, far, strict=True):
        bound = np.abs(a - b) + ROUNDING * EPS * max(1, np.size(y)) ** 0.5 * scale_of(y, *xs) / h
        assert np.all(bound <= 1e-4 * scale_of(y, a)), f"{what}: the difference is too rough"
        assert_close(t, a, bound, what)


def check_derivatives(use):
    """Forward mode is the difference quotient, reverse mode its transpose, and so once more."""
    rng = use.rng
    xs = tuple(np.asarray(x, float)[()] for x in use.xs)

    def f(*zs):
        return outputs(use.f(*zs))

    ts = tuple(rng.standard_normal(np.shape(x)) for x in xs)
    ys, got = nm.jvp(f, xs, ts)
    assert any(np.any(np.asarray(t) != 0) for t in got), f"{use.name}: nothing moves"
    near(got, f, xs, ts, f"{use.name}: jvp")
    gs = tuple(rng.standard_normal(np.shape(y)) for y in ys)
    forward, a = inner(gs, got)
    cts = nm.vjp(f, *xs)[1](gs)
    back, b = inner(cts, ts)
    n = sum(map(np.size, xs))
    bound = ROUNDING * EPS * n**0.5 * max(a, b, scale_of(*got, *cts)) * 4
    assert abs(forward - back) <= bound, f"{use.name}: adjoint {forward} {back}"

    def pull(*zs):
        return nm.vjp(f, *zs)[1](gs)

    second = nm.jvp(pull, xs, ts)[1]
    if use.linear:
        assert not any(map(np.any, second)), f"{use.name}: is not linear"
    else:
        near(second, pull, xs, ts, f"{use.name}: second order")
    other = nm.vjp(pull, *xs)[1](ts)
    for u, v in zip(second, other, strict=True):
        bound = 8 * ROUNDING * EPS * n**0.5 * scale_of(u, v, *cts)
        assert_close(v, u, bound, f"{use.name}: reverse over reverse")
    if use.stages:
        again = nm.stage(pull, *xs)(*xs)
        for u, v in zip(again, cts, strict=True):
            assert np.array_equal(u, v, equal_nan=True), f"{use.name}: staged pullback"


def check_batches(use):
    """A vmap of the function and of its pullback is a loop."""
    if not use.batches:
        return
    xs = tuple(np.asarray(x, float) for x in use.xs)
    batch = tuple(np.stack([x, x * 1.0625, x * 0.96875]) for x in xs)

    def f(*zs):
        return outputs(use.f(*zs))

    def pull(*zs):
        ys, back = nm.vjp(f, *zs)
        return back(tuple(np.ones(np.shape(y)) for y in ys))

    for g in (f, pull):
        got = nm.vmap(g)(*batch)
        rows = [g(*(x[k] for x in batch)) for k in range(3)]
        for j, y in enumerate(got):
            want = np.stack([r[j] for r in rows])
            assert_close(y, want, ROUNDING * EPS * 8 * scale_of(want, *batch), f"{use.name}: vmap")


def check_function(use):
    """All of it."""
    for dtype in use.dtypes:
        check_value(use, dtype)
    check_derivatives(use)
    check_batches(use)
