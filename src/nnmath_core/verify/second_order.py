"""Second derivatives at a point: those of our gradient against differences of our own gradient.

For a weighted sum of outputs w f the Hessian is symmetric: forward over reverse, reverse over
reverse and reverse over forward along one direction d are all H d, compared entry by entry with
differences of J^T w along d. Forward over forward is compared with differences of J d along d.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from nnmath_core.autodiff.transforms import jvp, vjp
from nnmath_core.typing import Array
from nnmath_core.verify.compared import Compared
from nnmath_core.verify.derivatives import cotangent, gradient_of, raveled, tangent_of
from nnmath_core.verify.diagnosis import with_one_side
from nnmath_core.verify.differences import Estimate, Samples
from nnmath_core.verify.findings import Findings
from nnmath_core.verify.jumps import JUMPS, jumps_explain
from nnmath_core.verify.names import Names
from nnmath_core.verify.nearby import Nearby
from nnmath_core.verify.on_device import DevicePoints
from nnmath_core.verify.variables import VectorFunction
from nnmath_core.verify.widened import widened

SINGLE = 2.0**-5  # of the largest in float32, whose steps are too long to resolve kinks
MANY = 1 << 16  # entries of a gradient; of more, a sample is compared


class Hessians:
    """Second derivatives of a function along a direction, by each composition of our modes."""

    def __init__(self, function: VectorFunction, out: Any, w: Array, kept: Array | None) -> None:
        self.function, self.variables = function, function.variables
        self.out, self.w, self.kept = out, w, kept
        self._points: dict[bool, DevicePoints] = {}

    def gradient(self, x: Array) -> Array:
        """Return J^T w by reverse mode."""
        return self._numbers("gradient", self._gradient, x)

    def tangent(self, x: Array, u: Array) -> Array:
        """Return J u by forward mode."""
        return self._numbers("tangent", self._tangent, x, u, outputs=True)

    def product(self, mode: str, x: Array, u: Array) -> Array:
        """Return H u, or for ``"fwd-over-fwd"`` the derivative of J u along u."""
        if mode == "fwd-over-fwd":
            return self._numbers(mode, self._forward, x, u, outputs=True)
        products = {
            "fwd-over-rev": lambda v, d: jvp(self._pulled, v, d)[1],
            "rev-over-rev": lambda v, d: vjp(self._pulled, *v)[1](tuple(d)),
            "rev-over-fwd": lambda v, d: vjp(tangent_of(self.function, d), *v)[1](self._weights),
        }
        return self._numbers(mode, products[mode], x, u)

    def on_device(self, u: Array | None) -> DevicePoints | None:
        """Return the gradient, or J u, at many points of a device; None on the host."""
        if u is None:
            return self._on_device(lambda *leaves: tuple(self._pulled(*leaves)), outputs=False)
        slope = cache(lambda: tangent_of(self.function, self.variables.values(u)))
        return self._on_device(lambda *leaves: tuple(slope()(*leaves)), outputs=True)

    def _on_device(self, f: Callable[..., Any], *, outputs: bool) -> DevicePoints | None:
        """Return a map from variables to outputs, or to a gradient, at points of a device; None on the host."""
        there = self.function.staged
        if not isinstance(there, DevicePoints) or there.wide != self.variables.wide:
            return None
        size, kept = (self.function.size, None) if outputs else (self.variables.size, self.kept)
        made = DevicePoints(self.variables, f, size, kept)
        made.batched = there.batched
        return made

    def _numbers(
        self, name: str, f: Callable[..., Any], *vectors: Array, outputs: bool = False
    ) -> Array:
        """Return what ``f`` makes of the leaves of these vectors as one vector, of outputs or of a gradient."""
        if outputs not in self._points:
            made = self._on_device(f, outputs=outputs)
            if made is None:
                leaves = self.run(name, f, *vectors)
                return raveled(leaves, self.function.size) if outputs else self._entries(leaves)
            self._points[outputs] = made
        return self._points[outputs].of(f, *vectors)

    def run(self, name: str, f: Callable[..., Any], *vectors: Array) -> Any:
        """Return ``f`` of the leaves of these vectors; ``name`` stands for ``f``."""
        return f(*(self.variables.values(v) for v in vectors))

    def _gradient(self, values: list[Any]) -> Any:
        return self._pulled(*values)

    @cached_property
    def _pulled(self) -> Callable[..., Any]:
        return gradient_of(self.function, self.out, self.w)

    def _tangent(self, values: list[Any], u: list[Any]) -> Any:
        return tangent_of(self.function, u)(*values)

    def _forward(self, values: list[Any], u: list[Any]) -> Any:
        return jvp(tangent_of(self.function, u), values, u)[1]

    @cached_property
    def _weights(self) -> Any:
        return cotangent(self.function, self.out, self.w)

    def _entries(self, leaves: Any) -> Array:
        flat = self.variables.ravel(list(leaves))
        return flat if self.kept is None else flat[self.kept]


class InDouble(Hessians):
    """The same of a function that insists on float32: recorded there, and run in float64."""

    def __init__(self, narrow: Hessians) -> None:
        super().__init__(narrow.function, narrow.out, narrow.w, narrow.kept)
        self.variables = copy(narrow.variables)
        self.variables.wide = True
        self.programs: dict[str, Callable[..., Any]] = {}

    def _on_device(self, f: Callable[..., Any], *, outputs: bool) -> DevicePoints | None:
        """Return None: the programs run one after another."""
        return None

    def run(self, name: str, f: Callable[..., Any], *vectors: Array) -> Any:
        """Return ``f`` of the leaves of these vectors, in float64."""
        if name not in self.programs:
            examples = [self.function.variables.values(v) for v in vectors]
            self.programs[name] = widened(f, *examples)
        return super().run(name, self.programs[name], *vectors)


def compare_second_order(
    k: int,
    near: Nearby,
    function: VectorFunction,
    modes: tuple[str, ...],
    directions: Array,
    rng: np.random.Generator,
    findings: Findings,
    names: Names,
) -> None:
    """Compare second derivatives along directions (b, n), in natural units."""
    n = len(near.x)
    w = np.ones(1) if function.size == 1 else rng.standard_normal(function.size)
    kept = None if n <= MANY else np.sort(rng.choice(n, MANY, replace=False))
    names.kept = kept
    out = function.floats(function.call(function.variables.values(near.x)))
    hessians = Hessians(function, out, w, kept)
    if "rev" in modes:
        unit = near.unit if kept is None else near.unit[kept]
        gradient = hessians.gradient(near.x)
        scale = np.abs(gradient) * unit + np.abs(w) @ np.abs(near.middle) / 8
        given = [
            mode
            for mode in ("fwd-over-rev", "rev-over-rev", "rev-over-fwd")
            if all(part in modes for part in mode.split("-over-"))
        ]
        for d in directions:
            line = _Line(hessians, near, d, forward=False)
            _compare(k, line, given, unit, scale, findings, names)
    if "fwd" in modes:
        by_output = Names(function, names.points, whole=False)
        for d in directions:
            line = _Line(hessians, near, d, forward=True)
            unit, scale = np.ones(function.size), np.abs(line.around.middle)
            scale += np.abs(near.middle) / 8
            _compare(k, line, ["fwd-over-fwd"], unit, scale, findings, by_output)


class _Line:
    """A first derivative and its differences along a direction d (n,) in natural units.

    The gradient, or with ``forward`` the derivative along d.
    """

    def __init__(self, hessians: Hessians, near: Nearby, d: Array, *, forward: bool) -> None:
        self.hessians, self.near, self.d, self.forward = hessians, near, d, forward
        self.unit = near.unit
        there = hessians.on_device(self.unit * d if forward else None)
        variables = hessians.variables
        self.around = Nearby(self._first, variables, near.x, variables.eps, staged=there)
        self.around.unit = near.unit  # in float32 and in float64 the same direction

    def _first(self, x: Array) -> Array:
        if self.forward:
            return self.hessians.tangent(x, self.unit * self.d)
        return self.hessians.gradient(x)

    def product(self, mode: str) -> Callable[[Array, Array], Array]:
        """Return (x, directions (b, n)) -> products (b, r); forward over forward keeps d within."""

        def product(x: Array, directions: Array) -> Array:
            us = [self.unit * d for d in directions]
            return np.array([self.hessians.product(mode, x, u) for u in us])

        return product

    @cached_property
    def differences(self) -> tuple[Estimate, Samples]:
        """The best differences along d, and their table."""
        self.around.measure_noise(self.d)
        best, table = self.around.along_directions(self.d[None])
        return with_one_side(best, table), table

    @cached_property
    def in_double(self) -> _Line | None:
        """The same in float64, of a function that insists on float32; None where it can't be recorded."""
        try:
            line = _Line(InDouble(self.hessians), self.near, self.d, forward=self.forward)
        except (
            Exception
        ):  # whatever says no: Python control flow, or an operation of one dtype alone
            return None
        return line if np.isfinite(line.around.middle).all() else None


def _compare(
    k: int,
    line: _Line,
    modes: list[str],
    unit: Array,
    scale: Array,
    findings: Findings,
    names: Names,
) -> None:
    """Compare products with differences along a line.

    In float32 the steps are so long that many kinks of a network may lie among them. At each the
    gradient jumps, and its differences then converge, or seem to, to what the jumps add up to. So
    what disagrees there is compared in float64.
    """
    eps = (
        line.around.variables.eps
    )  # of the gradient, which is rounded to parts of the function too
    for mode in modes:
        compared = _compared(k, line, mode, unit, scale)
        again = compared.bad & np.isfinite(compared.given)
        if eps > 1e-10 and again.any():
            wide = _in_double(k, line.in_double, mode, unit, scale, again)
            if wide is not None:
                findings.add(wide, names)
                findings.add_rounded(compared, wide, again, names)
            else:
                again &= jumps_explain(compared)
                findings.leave_open(compared, again, names, "non-smooth", JUMPS)
                findings.jumps += int(again.sum())
            compared = replace(compared, skip=again)
        findings.add(compared, names)


def _compared(
    k: int, line: _Line, mode: str, unit: Array, scale: Array, skip: Array | None = None
) -> Compared:
    best, table = line.differences
    product, directions = line.product(mode), line.d[None]
    values = product(line.around.x, directions)
    eps = line.around.variables.eps
    finite = np.where(np.isfinite(values), np.abs(values), 0.0)
    top = (finite * unit).max(initial=0.0)
    floor = 64 * eps * (top + scale.max(initial=0.0)) + (SINGLE * top if eps > 1e-10 else 0.0)
    return Compared(
        mode=mode,
        order=2,
        point=k,
        near=line.around,
        table=table,
        best=best,
        weights=None,
        given=values,
        evaluate=product,
        directions=directions,
        floor=floor / unit,
        skip=skip,
    )


def _in_double(
    k: int, line: _Line | None, mode: str, unit: Array, scale: Array, which: Array
) -> Compared | None:
    """Return a comparison of some entries in float64; None where the function can't be run there."""
    if line is None:
        return None
    try:
        return _compared(k, line, mode, unit, scale, ~which)
    except Exception:  # as above, now of the derivative
        return None
