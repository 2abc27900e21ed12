"""Values of a function by its Plan, at many points in one call: the perturb-and-evaluate loop of differences.

A function that `nm.compile` has made brings its Plan; of another one the check makes a Plan for itself, when enough
values are wanted to pay for it. What cannot be recorded, has operations in Python, or gives other values than the
function itself, is evaluated by calls. So is the gradient, until a compiled function has been checked so often that a
Plan of the sweep has paid for itself.

Single entries of an argument move through a second Plan, where that is cheaper by the cost that is computed: what does
not depend on the argument is frozen, and of the rest only what moves is computed (`nnmath_core.verify.incremental`).
Both stay with the compiled function, for its next check; so does what else depends on types, shapes and dtypes alone.
"""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from nnmath_core._ext._autodiff import dtype_of, shape_of
from nnmath_core._ext._perturb import Along, Batches, Points, failure
from nnmath_core._ext._plan import execute
from nnmath_core._ext._tree import flatten, unflatten
from nnmath_core.autodiff.transforms import vjp
from nnmath_core.device import CPU, device_of
from nnmath_core.program.compiled import Compiled, compile
from nnmath_core.program.cost import program_cost
from nnmath_core.program.lower_cpu import lower
from nnmath_core.program.plan import FrozenPlan, Plan
from nnmath_core.typing import Array
from nnmath_core.verify.behaviour import varying
from nnmath_core.verify.incremental import moved, pins_of
from nnmath_core.verify.on_device import DevicePoints, device_points
from nnmath_core.verify.variables import VectorFunction

__all__ = ["Staged", "staged"]

ENOUGH = 400
"""Values of an uncompiled function from which a Plan is made for it: that costs as much as about so many calls."""
EACH = 16
"""Values that the differences of one entry take, about; half of them at once."""
RECORDING = 1e-3
"""Seconds that one equation takes to be recorded, simplified and lowered, about."""
LARGEST, LEAST, MOST = 1 << 16, 64, 256
"""Numbers in the largest moving value of a batch, and the sizes of batches."""
STEPS = 4
"""Values of one entry in a batch: what is gathered for it serves them all."""
FIRST = np.zeros(1, np.int64)
"""The entry that moves nowhere when a value at a point is wanted."""
SHORT = 1e-4
"""Seconds of a Plan that does not share its runs."""
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

_known: WeakKeyDictionary[Plan, _Known] = WeakKeyDictionary()
_forms: WeakKeyDictionary[Compiled, dict[Any, _Form]] = WeakKeyDictionary()


class _Known:
    """What has been found out about a Plan: whether it serves, and Plans of its entries that nobody uses now."""

    def __init__(self, plan: Plan) -> None:
        program = plan.program
        self.serves = plan.cost.host == 0 and not plan.donors
        every = [*program.inputs, *(v for e in program.equations for v in e.outputs)]
        kinds = {dtype_of(v) for v in (*every, *program.constants)}
        self.double = all(d == np.float64 for d in kinds if d.kind in "fc")
        self.seconds = program_cost(program.equations).seconds
        self.refused: set[int] = set()
        self.spent: dict[int, float] = {}
        self.free: dict[int, list[_Entries]] = {}
        self.alone: Any = None
        self.swept = 0.0  # seconds of reverse sweeps
        self.pullback: Plan | None = None
        self.pulls = True

    def capsule(self, plan: Plan) -> Any:
        """The Plan for C; on one thread where a run is too short to be shared, since the threads have points each."""
        if self.seconds > SHORT:
            return plan.capsule
        if self.alone is None:
            lowered = lower(plan.program, deterministic=plan.deterministic, threads=1)
            self.alone = lowered.executable.capsule()
        return self.alone


class _Form:
    """What a check of a compiled function has found out that depends on types, shapes and dtypes alone."""

    def __init__(self, made: Staged) -> None:
        variables = made.variables.like("", made.variables.leaves)
        variables.leaves, variables.start = [], np.zeros(0)
        self.variables, self.function = variables, made.function.like(None, variables)
        self.plan, self.order, self.wanted = made.plan, made.order, made.wanted


class _Entries:
    """A Plan of the entries of one argument, frozen at a point."""

    def __init__(self, plan: Plan, leaf: int, point: list[Any]) -> None:
        program = plan.program
        shape = program.inputs[leaf].shape
        size, plan_of = MOST, None
        for _ in range(2):  # the size of a batch, once the largest value is known
            some = size // STEPS
            where = [np.zeros(some, np.int64) for _ in pins_of(shape)]
            of_entries = moved(program, leaf, some, STEPS)
            plan_of = compile(of_entries).plan(point, where, np.zeros(size))
            largest = max(map(math.prod, _moving(plan_of, some)), default=1) // size
            fit = MOST
            while fit > LEAST and fit * largest > LARGEST:
                fit //= 2
            if fit == size:
                break
            size = fit
        assert plan_of is not None
        self.frozen: FrozenPlan = plan_of.freeze({0: point})
        self.lengths = tuple(shape[a] for a in pins_of(shape))
        # threads have runs of their own: one that shared itself would find the pool taken, or make it rest
        self.once = lower(self.frozen.once.program, threads=1).executable
        self.capsule = lower(self.frozen.plan.program, threads=1).executable.capsule()
        self.batches = Batches(self.capsule, self.lengths, STEPS)
        self.seconds = program_cost(self.frozen.plan.program.equations).seconds / size
        self.at: Array | None = None
        self.sound = True
        self.serves = self.frozen.plan.cost.host == 0

    def ready(self) -> _Entries:
        """Itself, with arrays for the threads of today."""
        if not self.batches.enough:
            self.batches = Batches(self.capsule, self.lengths, STEPS)
        return self

    def move_to(self, x: Array, point: list[Any]) -> None:
        """Freeze at a point. It is sound where all that is frozen is finite, so that differences can be added to it."""
        kept = list(self.frozen.residuals)
        if execute(self.once, point, kept) is None:  # of other kinds than those of the plan
            self.frozen.update({0: point})
        self.sound = all(np.isfinite(a).all() for a in kept if a.dtype.kind in "fc")
        self.at = x


def _moving(plan: Plan, size: int) -> list[tuple[int, ...]]:
    """Shapes of the values that have an entry for each of a batch."""
    made = [v.shape for e in plan.program.equations for v in e.outputs]
    return [shape for shape in made if shape and shape[-1] == size]


class Staged:
    """A function by its Plan, at points near a point.

    Parameters
    ----------
    function : VectorFunction
        Called at least once.
    plan : Plan
    leaves : list
        The arguments of the plan.
    order : list of int
        Which of them are the variables.
    wanted : list of int
        Which results are the outputs.
    """

    def __init__(
        self,
        function: VectorFunction,
        plan: Plan,
        leaves: list[Any],
        order: list[int],
        wanted: list[int],
    ) -> None:
        self.function, self.variables, self.plan = function, function.variables, plan
        self.order = order
        fixed = [
            None if i in order else np.require(x, v.dtype, ["C", "A"])
            for i, (x, v) in enumerate(zip(leaves, plan.program.inputs, strict=True))
        ]
        self.fixed = fixed
        self.known = _known[plan]
        self.points = Points(self.known.capsule(plan), fixed, order, wanted)
        self.wide = self.variables.wide
        self.wanted = wanted
        self.entries_of: dict[int, _Entries] = {}
        self.sweep: Points | None = None
        self.cotangents: list[Any] = []
        self.failure: Exception | None = None
        whole = wanted == list(range(len(plan.program.outputs)))
        self.by_entries = self.known.double and whole and self.variables.eps < 1e-10

    def close(self) -> None:
        """Leave what was made to the next check of this function."""
        for leaf, e in self.entries_of.items():
            self.known.free.setdefault(leaf, []).append(e)
        self.entries_of = {}

    def at(self, x: Array) -> Array:
        """Return the values (m,) at ``x``."""
        out = np.empty((1, self.function.size))
        self.function.calls += 1
        self._failed(self.points.entries(x, FIRST, x[:1], out))
        value: Array = out[0]
        return value

    def directions(self, x: Array, unit: Array, d: Array) -> Along:
        """Return the lines ``x + t unit d[b]``."""
        return Along(self.points, x, unit * d, self._ran)

    def _ran(self, count: int, code: int) -> None:
        """Count evaluations, and remember where the function has no value."""
        self.function.calls += count
        self._failed(code)

    def entries(self, x: Array, which: Array, to: Array) -> Array:
        """Return the values (k, m) at ``x`` with entry ``which[k]`` as ``to[k]``; the entries repeat, likewise."""
        out = np.empty((len(to), self.function.size))
        self.function.calls += len(to)
        if not self.by_entries:
            self._failed(self.points.entries(x, which, to, out))
            return out
        left = None  # what no Plan of entries has done, or for one of which it has no value
        starts = self.variables.starts
        for k in range(len(starts) - 1):
            made = self._entries(k, x, which)
            if made is None or made.batches.run(which, to, starts[k], starts[k + 1], out):
                mine = (which >= starts[k]) & (which < starts[k + 1])
                left = mine if left is None else left | mine
        if left is not None and left.any():
            some, n = which[left], len(which)
            rest = np.empty((len(some) * (len(to) // n), self.function.size))
            self._failed(self.points.entries(x, some, to.reshape(-1, n)[:, left].ravel(), rest))
            out.reshape(-1, n, out.shape[1])[:, left] = rest.reshape(-1, len(some), out.shape[1])
        return out

    def rows(self, x: Array, weights: Array, sweeps: Callable[[], Array]) -> Array:
        """Return W J by a Plan of the pullback of a compiled function, or by ``sweeps`` until it pays to make one."""
        known, variables = self.known, self.variables
        if known.pullback is None and known.pulls and self._pays():
            try:
                known.pullback = self._pullback(x)
                known.pulls = known.pullback.cost.host == 0
            except Exception:  # a rule of the user's that cannot be recorded
                known.pulls = False
        if known.pullback is None or not known.pulls or variables.wide != self.wide:
            begin = time.perf_counter()
            found = sweeps()
            known.swept += time.perf_counter() - begin
            return found
        self.function.calls += 1
        sweep = self._sweep(known.pullback)
        found = np.empty((len(weights), variables.size))
        starts = self.function.starts
        for r, w in enumerate(weights):
            for k, part in enumerate(self.cotangents):
                part.reshape(-1)[:] = w[starts[k] : starts[k + 1]]
            if code := sweep.entries(x, FIRST, x[:1], found[r : r + 1]):
                known.pullback.execute([*self._point(x), *self.cotangents])  # raises as a call does
                raise failure(code)
        return found

    def _sweep(self, pullback: Plan) -> Points:
        """The Plan of the pullback at points; it reads what stands in ``cotangents``."""
        if self.sweep is None:
            shapes = zip(self.function.shapes, self.function.dtypes, strict=True)
            self.cotangents = [np.empty(s, d) for s, d in shapes]
            fixed, every = [*self.fixed, *self.cotangents], list(range(len(self.order)))
            self.sweep = Points(_of(pullback).capsule(pullback), fixed, self.order, every)
        return self.sweep

    def _pays(self) -> bool:
        """Whether sweeps have taken as long as it takes to make a Plan of one, which has twice the equations."""
        f = self.function.f
        plain = isinstance(f, Compiled) and not f._static and not f._static_names
        equations = len(self.plan.program.equations)
        return plain and self.known.swept > 2 * RECORDING * equations

    def _cotangents(self, w: Array) -> list[Any]:
        function = self.function
        bounds = zip(function.starts[:-1], function.starts[1:], strict=True)
        return [
            w[a:b].astype(d).reshape(s)
            for (a, b), d, s in zip(bounds, function.dtypes, function.shapes, strict=True)
        ]

    def _pullback(self, x: Array) -> Plan:
        """The Plan of (arguments, cotangents) -> gradients by the variables; it does not keep the function."""
        compiled, order, wanted = self.function.f, self.order, self.wanted
        assert isinstance(compiled, Compiled)
        f = compiled.f
        in_def = self.plan.program.in_def

        def of_leaves(leaves: list[Any], w: list[Any]) -> tuple[Any, ...]:
            def outputs(*moving: Any) -> tuple[Any, ...]:
                full = list(leaves)
                for i, v in zip(order, moving, strict=True):
                    full[i] = v
                args, kwargs = unflatten(in_def, full)
                made = flatten(f(*args, **kwargs))[0]
                return tuple(made[i] for i in wanted)

            found: tuple[Any, ...] = vjp(outputs, *[leaves[i] for i in order])[1](tuple(w))
            return found

        w = self._cotangents(np.ones(self.function.size))
        plan: Plan = compile(of_leaves).plan(self._point(x), w)
        return plan

    def _failed(self, code: int) -> None:
        """Remember that the function has no value somewhere."""
        if code and self.failure is None:
            self.failure = failure(code)

    def _point(self, x: Array) -> list[Any]:
        point: list[Any] = list(self.fixed)
        inputs = self.plan.program.inputs
        for i, part in zip(self.order, self.variables.slices(), strict=True):
            point[i] = x[part].astype(inputs[i].dtype, copy=False).reshape(inputs[i].shape)
        # numbers of Python stay weak
        return [a.item() if v.weak else a for a, v in zip(point, inputs, strict=True)]

    def _entries(self, k: int, x: Array, which: Array) -> _Entries | None:
        """What runs entries of variable k around a point; None where whole evaluations are as good."""
        leaf = self.order[k]
        e = self.entries_of.get(leaf)
        if e is None:
            if leaf in self.known.refused:
                return None
            part = self.variables.slices()[k]
            count = int(np.count_nonzero((which >= part.start) & (which < part.stop)))
            e = self._found(leaf, x, count) if count else None
            if e is None:
                return None
            self.entries_of[leaf] = e
        if e.at is not x:
            e.move_to(x, self._point(x))
        return e if e.sound else None

    def _found(self, leaf: int, x: Array, count: int) -> _Entries | None:
        """The Plan of entries of an argument that nobody uses now, or a new one when it pays to make it.

        It pays once whole evaluations of these entries have taken as long, in this check and those before it.
        """
        known = self.known
        free = known.free.get(leaf)
        if free:
            return free.pop().ready()
        known.spent[leaf] = known.spent.get(leaf, 0.0) + 2 * count * known.seconds
        if known.spent[leaf] < RECORDING * len(self.plan.program.equations):
            return None
        try:
            e = _Entries(self.plan, leaf, self._point(x))
        except Exception:  # an operation without a rule for batches
            known.refused.add(leaf)
            return None
        if not e.serves or e.seconds >= known.seconds:
            known.refused.add(leaf)
            return None
        return e


def plan_in_c(f: Any, args: tuple[Any, ...]) -> Plan | None:
    """The Plan of a compiled function for such arguments if it calls no Python and writes to none of them."""
    if not isinstance(f, Compiled):
        return None
    try:
        leaves, in_def, statics = f._taken(args, {})
        if any(device_of(x) != CPU for x in leaves if hasattr(x, "dtype")):
            return None
        plan: Plan = f._found(args, {}, leaves, in_def, statics)
        return plan if _of(plan).serves else None
    except Exception:  # said when it is called
        return None


def _of(plan: Plan) -> _Known:
    known = _known.get(plan)
    if known is None:
        known = _known[plan] = _Known(plan)
    return known


def staged(
    function: VectorFunction, count: int, known: Plan | None = None
) -> Staged | DevicePoints | None:
    """Return a function by its Plan, or None where there is none, or ``count`` values do not pay for it.

    ``known`` is its Plan for the arguments as they were given, where the caller has it. A function of device arrays is
    evaluated there, many points between two copies.
    """
    variables = function.variables
    if variables.size and CPU not in variables.devices:
        return device_points(function)
    if not variables.size or not function.size or any(place != CPU for place in variables.devices):
        return None
    values = variables.values(variables.start)
    try:
        found = _plan_of(function, values, count, None if variables.wide else known)
        if found is None:
            return None
        plan, leaves = found
        made = _staged(function, plan, leaves, values) if _of(plan).serves else None
        if made is not None and not isinstance(function.f, Compiled) and not _agree(function, made):
            return None
    except Exception:  # it cannot be recorded, or not for such arguments: it is evaluated as it is
        return None
    return made


def _agree(function: VectorFunction, made: Staged) -> bool:
    """Whether a Plan gives the function's values at its point and beside it."""
    x = function.variables.start
    beside = function.variables.snap(x + 2.0**-12 * function.variables.scale(x))
    return all(varying(function(z), made.at(z), function.eps) is None for z in (x, beside))


def prepared(who: str, f: Any, args: tuple[Any, ...]) -> VectorFunction | None:
    """Return a compiled function by its Plan if arguments of these types, shapes and dtypes were checked before."""
    forms = _forms.get(f) if isinstance(f, Compiled) else None
    if forms is None:
        return None
    leaves, treedef = flatten(args, True)
    try:
        form = forms.get((treedef, *map(_kind, leaves)))
    except TypeError:  # a structure that has no hash: said when it is called
        return None
    if form is None:
        return None
    function = form.function.like(f, form.variables.like(who, leaves))
    function.staged = Staged(function, form.plan, leaves, form.order, form.wanted)
    return function


def remember(function: VectorFunction, args: tuple[Any, ...]) -> None:
    """Keep what the next check of a compiled function need not find out."""
    made, f, variables = function.staged, function.f, function.variables
    if not isinstance(made, Staged) or not isinstance(f, Compiled) or variables.narrow:
        return
    leaves, treedef = flatten(args, True)
    # what is static, held fixed in the tree or passed as another object is found out each time
    for others in (flatten(args)[0], variables.leaves, f._taken(args, {})[0]):
        if len(leaves) != len(others) or not all(map(operator.is_, leaves, others)):
            return
    _forms.setdefault(f, {})[treedef, *map(_kind, leaves)] = _Form(made)


def _kind(x: Any) -> Any:
    """The type of a leaf, and of an array its shape and dtype."""
    return (x.shape, x.dtype) if type(x) is np.ndarray else type(x)


def _plan_of(function: VectorFunction, values: list[Any], count: int, known: Plan | None) -> Any:
    f, variables = function.f, function.variables
    tree = variables.tree(values)
    args = tuple(tree) if function.packed else (tree,)
    if isinstance(f, Compiled):
        leaves, in_def, statics = f._taken(args, {})
        if known is not None:
            return known, leaves
        if any(device_of(x) != CPU for x in leaves if hasattr(x, "dtype")):
            return None
        return f._found(args, {}, leaves, in_def, statics), leaves
    if count < ENOUGH:
        return None
    before = function.calls
    try:
        of_values = compile(lambda *xs: function.floats(function.call(list(xs))))
        return of_values.plan(*values), values
    finally:
        function.calls = before


def _staged(
    function: VectorFunction, plan: Plan, leaves: list[Any], values: list[Any]
) -> Staged | None:
    places = {id(x): i for i, x in enumerate(leaves)}
    order = [places.get(id(x), -1) for x in values]
    program = plan.program
    if len(set(order)) != len(values) or -1 in order:
        return None
    shapes = [shape_of(o) for o in program.outputs]
    if isinstance(function.f, Compiled):
        wanted, same = list(function.which), shapes == [tuple(s) for s in function.all_shapes]
    else:
        wanted, same = list(range(len(shapes))), shapes == [tuple(s) for s in function.shapes]
    dtypes = [dtype_of(program.outputs[i]) for i in wanted] if same else []
    moving = [program.inputs[i].dtype for i in order]
    if not same or dtypes != function.dtypes or not set(dtypes) | set(moving) <= set(FLOATS):
        return None
    return Staged(function, plan, leaves, order, wanted)
