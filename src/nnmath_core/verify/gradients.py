"""The gradient check: derivatives against differences, in both modes and to second order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from nnmath_core.autodiff.tree import tree_leaves
from nnmath_core.checks import (
    describe,
    require_callable,
    require_in,
    require_positive_int,
    require_rng,
    sentence,
)
from nnmath_core.device import CPU, to_device
from nnmath_core.errors import DomainError, DtypeError, GradientError, TraceError
from nnmath_core.typing import Array, Rng
from nnmath_core.verify.behaviour import changed_by, copied, plain, points_near, varying
from nnmath_core.verify.derivatives import (
    Forward,
    Given,
    Reverse,
    Source,
    UserGradient,
    UserJvp,
    roots_of,
)
from nnmath_core.verify.findings import Findings
from nnmath_core.verify.first_order import at_point, compare_directions, compare_entries
from nnmath_core.verify.names import Names, name_of
from nnmath_core.verify.nearby import Nearby
from nnmath_core.verify.numerical import complex_derivative
from nnmath_core.verify.precision import compare_precisions
from nnmath_core.verify.record import FAILURES, Disagreement, GradientReport
from nnmath_core.verify.second_order import compare_second_order
from nnmath_core.verify.staged import EACH, plan_in_c, prepared, remember, staged
from nnmath_core.verify.variables import Variables, VectorFunction, require_tuple, widest
from nnmath_core.verify.widened import nearby_in_double

__all__ = ["check_grads", "gradient_report"]

SAMPLE = 300  # of more entries than are compared one by one, at each point
JACOBIAN = 1 << 22  # numbers of a Jacobian by differences
SECOND = 2  # of them in second order
WITNESS = 1e-6  # relative distance from the complex step that passes where differences fail


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    *,
    grad: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    points: int = 3,
    order: int = 2,
    modes: Sequence[str] = ("fwd", "rev"),
    entries: int = 1000,
    projected: bool = False,
    directions: int = 4,
    rng: Rng = 0,
) -> None:
    r"""Check derivatives of a function against its differences, and say why when they disagree.

    .. math:: |\text{given} - \text{expected}| \le 10\,\text{estimated error of the differences} + \text{rounding}

    Parameters
    ----------
    f : callable
        Any Python function of floats, arrays and trees of them, with any floating-point outputs. It
        must be traceable unless ``grad`` or ``jvp`` is given.
    args : tuple
        An entry for each argument. float32 and float64 leaves are the variables; integers, booleans,
        strings and functions are held fixed.
    grad : callable, optional
        A gradient to check in place of ours: ``grad(*args)`` returns a tree like the argument when
        one argument alone has floats, else a tuple with an entry for each argument, None for those
        that are held fixed. For an ``f`` that returns an array, the Jacobian of shape
        ``out_shape + in_shape``.
    jvp : callable, optional
        A directional derivative to check in place of ours: ``jvp(args, tangents)`` returns the
        tangent of the output; both are tuples like ``args``.
    points : int, default 3
        The point given and random ones nearby, with entries moved by about a tenth of their size.
    order : int, default 2
        1, or 2 to check second derivatives too, against differences of our own gradient. What is
        given by ``grad`` or ``jvp`` is checked in first order.
    modes : sequence of str, default ("fwd", "rev")
        Which of our modes to check; in second order their compositions.
    entries : int, default 1000
        The most entries that are compared one by one at each point. Of more, a random sample is, and
        beside it random directions.
    projected : bool, default False
        Compare along random directions only, which costs the same for any number of entries. When a
        direction disagrees, its entries are halved until those to blame are found.
    directions : int, default 4
        How many random directions are taken at each point, where some are.
    rng : None, int or numpy.random.Generator, default 0
        For the points and the directions.

    Raises
    ------
    GradientError
        A derivative is wrong or not finite, ``f`` is not deterministic or changes its argument, or
        nothing could be decided. ``.report`` is the `GradientReport`.
    DomainError
        ``f`` is not finite at ``args``.
    DtypeError, ShapeError, TreeError
        ``args``, the output of ``f``, or that of ``grad`` or ``jvp`` has the wrong type, shape or
        structure.

    Notes
    -----
    *Tolerances* are not fixed numbers. Central differences with shrinking steps are extrapolated,
    and their error is estimated from the table and from the rounding of ``f``, which is measured.
    In float64 a relative error of ``1e-9`` is seen as a rule. float32 arguments are passed as
    float64 to take differences where ``f`` keeps float64; where it does not, as when it closes over
    float32 data, expect to see errors above one per cent, in second derivatives above a few. What seems
    wrong there is compared once more in float64, by the operations that were recorded for float32.

    *Kinks in float32.* A gradient jumps at every kink, and a step in float32 crosses many. Where the
    function cannot be recorded either (Python control flow on values, `cond`, `scan`) and such jumps
    are seen, second derivatives that disagree are left open, with the cause ``"non-smooth"``.

    *Kinks.* Where the slopes from both sides differ (``relu`` at 0, a tie of ``max``), any
    derivative between them passes and is listed as a kink.

    *Cost.* Up to ``entries`` of them are compared one by one at every point, with 8 to 20 evaluations
    each. Of more, a random sample of 300 a point is, and beside them random directions, as with
    ``projected=True``. The report says so. Where ``f`` can be compiled, and enough values are
    wanted to pay for it, all of this runs in C, and of ``f`` only what a moved entry reaches. Where
    the variables and the outputs are on one device, points are made there, 64 at a time go through
    ``f`` together (`nm.vmap`) or, where that is not possible, one after another, and values are
    copied to the host once for a block of entries and steps.

    *What directions can miss.* Let e be the errors of all entries, each times the size of its
    entry. A direction sees the normal number :math:`e^T d` and misses it when it is below the
    tolerance, with a probability of at most ``0.8 tolerance / norm(e)``, independently in each. So a
    wrong entry is missed when its effect is below the rounding of the whole derivative along a
    direction, relative ``1e-10`` or so, and otherwise with a probability that is negligible.

    References
    ----------
    Ridders, "Accurate computation of F'(x) and F'(x) F''(x)", 1982. More and Wild, "Estimating
    derivatives of noisy simulations", 2012.

    Examples
    --------
    >>> nm.check_grads(lambda w, n: np.sum(w**n), (np.array([1.0, 2.0]), 3))
    >>> wrong = lambda w: np.array([2.0, -4.0])
    >>> nm.check_grads(lambda w: np.sum(w**2), (np.array([1.0, 2.0]),), grad=wrong)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
      ...
    nnmath_core.errors.GradientError: check_grads: The derivative of `f` is wrong. ...
    """
    who = "check_grads"
    report = _Check(
        who, f, args, grad, jvp, points, order, modes, entries, projected, directions, rng
    ).run()
    if not report.ok:
        raise GradientError(f"check_grads: {report}", report=report)


def gradient_report(
    f: Callable[..., Any],
    args: Sequence[Any],
    *,
    grad: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    points: int = 3,
    order: int = 2,
    modes: Sequence[str] = ("fwd", "rev"),
    entries: int = 1000,
    projected: bool = False,
    directions: int = 4,
    rng: Rng = 0,
) -> GradientReport:
    """Record of a gradient check, whether it fails or not.

    Parameters
    ----------
    f, args, grad, jvp, points, order, modes, entries, projected, directions, rng
        As for `check_grads`.

    Returns
    -------
    GradientReport
        ``ok``, ``verdict``, the disagreements with their causes, and what was compared. It prints
        itself.

    Examples
    --------
    >>> report = nm.gradient_report(lambda x: abs(x), (0.0,), grad=lambda x: 0.5, points=1)
    >>> report.ok, report.verdict
    (True, 'agrees')
    >>> print(report.disagreements[0])
    x: a kink. The derivative given, 0.5, lies between the one-sided slopes -1 and 1.
    """
    who = "gradient_report"
    return _Check(
        who, f, args, grad, jvp, points, order, modes, entries, projected, directions, rng
    ).run()


class _Check:
    """One check, from its arguments to the record."""

    def __init__(
        self,
        who: str,
        f: Callable[..., Any],
        args: Sequence[Any],
        grad: Callable[..., Any] | None,
        jvp: Callable[..., Any] | None,
        points: int,
        order: int,
        modes: Sequence[str],
        entries: int,
        projected: bool,
        directions: int,
        rng: Rng,
    ) -> None:
        require_callable(who, "f", f)
        for name, function in (("grad", grad), ("jvp", jvp)):
            if function is not None:
                require_callable(who, name, function)
        require_in(who, "order", order, (1, 2))
        if isinstance(modes, str) or not modes or not set(modes) <= {"fwd", "rev"}:
            wanted = 'a tuple of "fwd" and "rev"'
            raise DomainError(sentence(who, "modes", wanted, _modes(modes)))
        self.who, self.f, self.grad, self.jvp = who, f, grad, jvp
        self.args = copied(require_tuple(who, args))
        self.count = require_positive_int(who, "points", points)
        self.own = grad is None and jvp is None
        self.order = order if self.own else 1
        self.modes = tuple(m for m in ("fwd", "rev") if m in modes)
        self.most = require_positive_int(who, "entries", entries)
        self.projected = projected
        self.lines = require_positive_int(who, "directions", directions)
        # a generator of a seed is made when it is first needed
        self._seed = rng if type(rng) is int and rng >= 0 else require_rng(who, rng)
        self.findings = Findings()
        self.notes: list[str] = []
        self.points: list[tuple[Any, ...]] = []
        self.calls = self.directions = self.total = 0
        self.entries = np.zeros(0, bool)  # which were compared one by one

    @cached_property
    def rng(self) -> np.random.Generator:
        """What points, directions and sums are drawn from."""
        return require_rng(self.who, self._seed)

    @cached_property
    def roots(self) -> list[str]:
        """Names of the arguments."""
        return roots_of(self.f, len(self.args))

    def run(self) -> GradientReport:
        """Check and return the record."""
        try:
            with np.errstate(all="ignore"):  # what is not finite is reported
                return self._run()
        except TraceError as e:
            if self.own:
                e.add_note(
                    f"{self.who}: without `grad` and `jvp` it is our derivatives of `f` that are checked."
                )
            raise

    def _run(self) -> GradientReport:
        if self.own:
            function = prepared(self.who, self.f, self.args)
            if function is not None:
                return self._compared(function, None)
        variables = Variables(self.who, self.args, self.roots)
        self._require_floats(variables)
        fault = None
        self.plan = plan_in_c(self.f, self.args)
        if self.plan is None:  # which changes nothing, and is the same each time
            fault = self._fault(self.f, self.roots, "`f`")
        given = None
        if fault is None and self.grad is not None:
            result = self.grad(*copied(self.args))
            given = Given(self.who, self.args, result)
            fault = self._fault(self.grad, self.roots, "`grad`")
        if fault is None and self.jvp is not None:
            fault = self._fault(self._whole_jvp, self.roots, "`jvp`")
        if fault is not None:
            self.points = [self.args]
            self.findings.disagreements.append(fault)
            self.findings.counts[fault.cause] += 1
            return self._report("")
        if given is not None and given.fixed:
            variables = Variables(self.who, self.args, self.roots, given.fixed)
        return self._compared(widest(self.f, variables, packed=True), given)

    def _require_floats(self, variables: Variables) -> None:
        if not variables.which:
            got = "none" if variables.leaves else "no argument"
            wanted = "arrays of floats, or floats, to differentiate by"
            raise DtypeError(sentence(self.who, "args", wanted, got))

    def _whole_jvp(self, *args: Any) -> Any:
        variables = Variables(self.who, args, self.roots)
        ones = variables.values(np.ones(variables.size))
        assert self.jvp is not None
        return self.jvp(args, tuple(variables.tangents(ones)))

    def _fault(self, call: Callable[..., Any], roots: list[str], what: str) -> Disagreement | None:
        """Return how a function changes its arguments or answers differently each time, if it does."""
        first, changed = changed_by(call, self.args, roots)
        if changed:
            text = f"{what} changes {changed} in place. Let it work on a copy."
            return plain("mutation", text)
        a, b = _flat(first), _flat(call(*copied(self.args)))
        at = varying(a, b, max(_eps(first), float(np.finfo(float).eps)))
        if at is None:
            return None
        one, other = (float(v[at]) if at < len(v) else float("nan") for v in (a, b))
        text = (
            f"{what} returned {one:.10g} and then {other:.10g} for the same arguments. Does it draw "
            "random numbers, or keep a state? Fix the seed inside."
        )
        return plain("nondeterminism", text, one, other)

    def _sources(self, function: VectorFunction, given: Given | None) -> list[Source]:
        sources: list[Source] = []
        if self.own:
            kinds: dict[str, type[Source]] = {"rev": Reverse, "fwd": Forward}
            return [kinds[m](function) for m in ("rev", "fwd") if m in self.modes]
        if self.grad is not None and given is not None:
            sources.append(UserGradient(function, self.grad, given))
        if self.jvp is not None:
            sources.append(UserJvp(function, self.jvp))
        return sources

    def _compared(self, function: VectorFunction, given: Given | None) -> GradientReport:
        variables, before = function.variables, function.staged
        middle = None if before is None else before.at(variables.start)
        if middle is None or not np.isfinite(middle).all():
            function.require_finite(function(variables.start), "at `args`")
        if function.narrowed:
            self.notes.append(f"Differences were taken in float32: {function.narrowed}.")
        if given is not None and given.fixed:
            held = [
                self.roots[i] for i in sorted(given.fixed) if _has_floats(self.who, self.args[i])
            ]
            if held:
                self.notes.append(f"Held fixed, since `grad` returns None: {', '.join(held)}.")
        xs = [variables.start]
        if self.count > 1:
            xs, note = points_near(function, variables, self.count, self.rng)
            self.notes += [note] if note else []
        self.total = variables.size
        self.points = [self.args, *(self._as_args(variables, x) for x in xs[1:])]
        names = Names(function, self.points, whole=given is not None and given.whole)
        by_entry = Names(function, self.points, whole=False, by_entry=True)
        sources = self._sources(function, given)
        if before is None:
            function.staged = staged(function, len(xs) * self._values(function), self.plan)
            if self.own:
                remember(function, self.args)
        try:
            self._at_points(xs, function, middle, sources, names, by_entry)
        finally:
            if function.staged is not None:
                function.staged.close()
        self._sampled(variables.size)
        self.calls = function.calls
        return self._report(self._rescue(function, sources[0], xs[0]))

    def _at_points(
        self,
        xs: list[Array],
        function: VectorFunction,
        middle: Array | None,
        sources: list[Source],
        names: Names,
        by_entry: Names,
    ) -> None:
        variables = function.variables
        second = self.order == 2
        for k, x in enumerate(xs):
            near = Nearby(
                function, variables, x, function.eps, None if k else middle, function.staged
            )
            if function.narrowed:
                near.widen = partial(nearby_in_double, function, near)
            near.measure_noise()
            before = self.findings.failures
            self._first_order(k, near, sources, names)
            if variables.wide and variables.narrow:
                compare_precisions(k, x, sources, self.findings)
            first_wrong = self.findings.failures > before
            if self.order == 2 and variables.size and function.size:
                if first_wrong:
                    second = False
                    continue
                directions = self.rng.standard_normal((SECOND, variables.size))
                compare_second_order(
                    k, near, function, self.modes, directions, self.rng, self.findings, by_entry
                )
        if self.order == 2 and not second:
            self.notes.append("Second order was not compared at every point: the first is wrong.")

    def _dense(self, n: int, m: int) -> tuple[int, bool]:
        """How many entries may be compared one by one, and whether these are all."""
        most = min(self.most, max(1, JACOBIAN // max(m, 1)))
        return most, n <= most and not self.projected

    def _values(self, function: VectorFunction) -> int:
        """About how many values the differences at a point take."""
        n, m = function.variables.size, function.size
        most, dense = self._dense(n, m)
        lines = 0 if dense else self.lines
        if not self.projected:
            lines += n if dense else min(SAMPLE, most)
        return EACH * lines

    def _first_order(self, k: int, near: Nearby, sources: list[Source], names: Names) -> None:
        n, m = len(near.x), len(near.middle)
        if n == 0 or m == 0:
            return
        given = [at_point(s, near, lambda: self.rng) for s in sources]
        most, dense = self._dense(n, m)
        if not self.projected:
            which = np.arange(n)
            if not dense:
                which = np.sort(self.rng.choice(n, min(SAMPLE, most), replace=False))
            compare_entries(k, near, given, which, self.findings, names)
            if not len(self.entries):
                self.entries = np.zeros(n, bool)
            self.entries[which] = True
        if not dense:
            directions = self.rng.standard_normal((self.lines, n))
            compare_directions(k, near, given, directions, self.findings, names)
            self.directions += self.lines

    def _sampled(self, n: int) -> None:
        if self.directions and not self.projected:
            self.notes.append(
                f"Of {n} entries {np.count_nonzero(self.entries)} were compared one by one, the others along random "
                "directions only."
            )
        if self.findings.unexamined:
            self.notes.append(
                f"{self.findings.unexamined} disagreements were counted and not examined."
            )
        if self.findings.jumps:
            n = self.findings.jumps
            self.notes.append(
                f"Undecided second {'derivatives' if n > 1 else 'derivative'}: {n}. Kinks lie closer to "
                "the point than the steps of float32."
            )
        if self.findings.undecided:
            n = self.findings.undecided
            self.notes.append(
                f"Undecided {'comparisons' if n > 1 else 'comparison'}: {n}. The derivative is below "
                "the error of the differences."
            )

    def _as_args(self, variables: Variables, x: Array) -> tuple[Any, ...]:
        wide, variables.wide = variables.wide, False
        try:
            return tuple(variables.tree(variables.values(x)))
        finally:
            variables.wide = wide

    def _rescue(self, function: VectorFunction, source: Source, x: Array) -> str:
        """Let the complex step decide when differences could decide nothing."""
        found = self.findings
        if not found.unclear or found.failures:
            return ""
        d = self.rng.standard_normal(len(x)) * function.variables.scale(x)
        try:
            witness = complex_derivative(function, x, d)
        except Exception:  # whatever a function of real numbers says to complex ones
            return ""
        w = self.rng.standard_normal((1, function.size))
        given = source.rows(x, w) @ d if source.by_rows else source.columns(x, [d]) @ w[0]
        if not abs(given[0] - w[0] @ witness) <= WITNESS * abs(given[0]):
            return ""
        return "Differences decide nothing here; the complex step agrees along a random direction."

    def _report(self, witness: str) -> GradientReport:
        found = self.findings
        failing = next((cause for cause in FAILURES if found.counts.get(cause)), None)
        disagreements = _worst_first(found.disagreements)
        counts = dict(found.counts)
        verdict = failing or "agrees"
        if failing is None and found.unclear and not witness:
            verdict = "undecided"
            if found.hidden is not None:
                disagreements.append(found.hidden)
                counts[found.hidden.cause] = counts.get(found.hidden.cause, 0) + 1
        modes = self.modes if self.own else ()
        modes += ("grad",) if self.grad is not None else ()
        modes += ("jvp",) if self.jvp is not None else ()
        return GradientReport(
            ok=verdict == "agrees",
            verdict=verdict,
            worst=found.worst,
            checked=int(np.count_nonzero(self.entries)),
            total=self.total,
            directions=self.directions,
            undecided=found.undecided,
            order=self.order,
            modes=modes,
            points=tuple(self.points),
            disagreements=tuple(disagreements),
            counts=counts,
            notes=(*self.notes, *([witness] if witness else [])),
            calls=self.calls,
            name=name_of(self.f),
        )


def _worst_first(found: list[Disagreement]) -> list[Disagreement]:
    """Sort by cause, the failing ones first, then by difference relative to tolerance."""
    order = {cause: k for k, cause in enumerate(FAILURES)}

    def key(d: Disagreement) -> tuple[int, float]:
        gap = abs(d.given - d.expected)
        ratio = gap / d.tolerance if d.tolerance > 0 and np.isfinite(gap) else np.inf
        return order.get(d.cause, len(order)), -ratio

    return sorted(found, key=key)


def _modes(modes: Any) -> str:
    return describe(modes) if isinstance(modes, str) else repr(modes)


def _has_floats(who: str, tree: Any) -> bool:
    return bool(Variables(who, tree, "").which)


def _flat(result: Any) -> Array:
    """The numbers in a result, one after another; nothing for what is no number."""
    parts = []
    for leaf in tree_leaves(result):
        a = np.asarray(to_device(leaf, CPU) if hasattr(leaf, "__cuda_array_interface__") else leaf)
        if a.dtype.kind in "fiub":
            parts.append(a.astype(float).reshape(-1))
    return np.concatenate(parts) if parts else np.zeros(0)


def _eps(result: Any) -> float:
    """The coarsest spacing of the floats in a result."""
    kinds = [np.dtype(x.dtype) for x in tree_leaves(result) if hasattr(x, "dtype")]
    return max([float(np.finfo(d).eps) for d in kinds if d.kind == "f"], default=0.0)
