"""Sub-programs: functions of arrays, recorded once, that are parameters of an equation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import (
    Aval,
    Recording,
    Tracer,
    Var,
    dtype_of,
    is_batched,
    is_weak,
    jvp_door,
    replay,
    shape_of,
    stage_door,
    value_of,
    vjp_door,
)
from nnmath_core._ext._tree import TreeDef
from nnmath_core.autodiff.ops.conventions import expand_batch
from nnmath_core.autodiff.transforms import vmap
from nnmath_core.autodiff.variables import carries, joined, parts, zero
from nnmath_core.autodiff.watch import at_line, watches_lines
from nnmath_core.device.resident import Resident

__all__ = [
    "SubProgram",
    "close",
    "lines_of",
    "one_pass",
    "sub_programs",
    "trace",
    "with_spent",
]


class SubProgram:
    """A recorded function of leaves. It closes over no tracer: what it captured are arrays.

    Calling it runs its equations on arrays or tracers. Its derivatives and its batched form are sub-programs too, each
    traced when it is first asked for.
    """

    def __init__(
        self, recording: Recording, outputs: Iterable[Any], name: str, captured: Sequence[Var] = ()
    ) -> None:
        self.name = name
        self.inputs = (*captured, *recording.inputs)
        self.outputs = tuple(outputs)
        self.equations = _alive(recording.equations, self.outputs)
        read = {x for _, operands, _, _ in self.equations for x in operands if isinstance(x, Var)}
        read.update(x for x in self.outputs if isinstance(x, Var))
        self.constants = {
            v: x for v, x in recording.constants.items() if v in read and v not in self.inputs
        }
        self._resident = Resident(self.constants)
        self._recorded = with_spent(
            self.equations, {*self.constants, *(x for x in self.outputs if isinstance(x, Var))}
        )
        self.lines = {  # first output of an equation -> the user's line, where somebody watched
            recording.equations[k][2][0]: number for k, number in recording.lines.items() if number
        }
        self._derived: dict[Any, Any] = {}

    def __call__(self, *xs: Any) -> list[Any]:
        """Run the equations."""
        env: dict[Any, Any] = self._resident.beside(map(value_of, xs))
        env.update(zip(self.inputs, xs, strict=True))
        if self.lines and watches_lines():  # recorded once more: from the same lines
            for equation in self._recorded:
                with at_line(self.lines.get(equation[2][0], 0)):
                    replay([equation], env)
        else:
            replay(self._recorded, env)
        return [env[o] if isinstance(o, Var) else o for o in self.outputs]

    def __repr__(self) -> str:
        return (
            f"SubProgram({self.name}: {len(self.inputs)} inputs, {len(self.equations)} equations)"
        )

    @property
    def avals(self) -> list[Aval]:
        """Shapes and dtypes of the outputs."""
        return [Aval(shape_of(o), dtype_of(o)) for o in self.outputs]

    def replaced(
        self,
        equations: Iterable[Any],
        constants: dict[Var, Any],
        outputs: Iterable[Any],
        lines: dict[Var, int],
    ) -> SubProgram:
        """A sub-program of the same inputs that does the same by other equations; its derivatives are traced anew."""
        new = object.__new__(SubProgram)
        new.name, new.inputs, new.outputs = self.name, self.inputs, tuple(outputs)
        new.equations, new.constants, new.lines = list(equations), dict(constants), dict(lines)
        new._resident = Resident(new.constants)
        kept = {*new.constants, *(x for x in new.outputs if isinstance(x, Var))}
        new._recorded = with_spent(new.equations, kept)
        new._derived = {}
        return new

    def derived(self, key: Any, name: str, f: Callable[..., Any], avals: Sequence[Any]) -> Any:
        """The sub-program of another function of such operands, traced once for each key."""
        if key not in self._derived:
            self._derived[key] = trace(name, f, avals)[0]
        return self._derived[key]

    def pushed(self, active: tuple[int, ...]) -> Any:
        """Its inputs and the tangents of the active ones -> its outputs and the tangents of those that carry one."""
        n = len(self.inputs)

        def f(*a: Any) -> list[Any]:
            ys, dots = push(self, a[:n], active, a[n:])
            return [*ys, *(t for t, y in zip(dots, self.outputs, strict=True) if carries(y))]

        inputs = [*self.inputs, *(self.inputs[i] for i in active)]
        return self.derived(("jvp", active), f"jvp of {self.name}", f, inputs)

    def pulled(self, wanted: tuple[int, ...], given: tuple[int, ...]) -> Any:
        """Its inputs and the cotangents of the given outputs -> cotangents of the wanted inputs."""
        n = len(self.inputs)
        return self.derived(
            ("vjp", wanted, given),
            f"vjp of {self.name}",
            lambda *a: pull(self, a[:n], wanted, given, a[n:]),
            [*self.inputs, *(self.avals[k] for k in given)],
        )

    def batched(self, on: tuple[bool, ...], size: int, everything: bool) -> Any:
        """The function over a batch, whose axis is first in the inputs that have it, and which outputs have it.

        With ``everything`` all outputs get it.
        """
        key = ("vmap", on, size, everything)
        if key not in self._derived:
            self._derived[key] = self._over_batch(on, size, everything)
        return self._derived[key]

    def _over_batch(self, on: tuple[bool, ...], size: int, everything: bool) -> Any:
        avals = [
            Aval((size, *v.shape) if m else v.shape, v.dtype)
            for v, m in zip(self.inputs, on, strict=True)
        ]
        name = f"vmap of {self.name}"
        if not any(on):
            if not everything:
                return self, (False,) * len(self.outputs)
            sub, _, _ = trace(name, lambda *a: [expand_batch(y, size) for y in self(*a)], avals)
            return sub, (True,) * len(self.outputs)
        found: list[bool] = []

        def one(*a: Any) -> tuple[Any, ...]:
            ys = self(*a)
            found[:] = [is_batched(y) for y in ys]
            return tuple(ys)

        axes = tuple(0 if m else None for m in on)
        sub, _, _ = trace(name, lambda *a: vmap(one, axes)(*a), avals)
        if everything or all(found):
            return sub, (True,) * len(self.outputs)
        outs = tuple(0 if m else None for m in found)
        sub, _, _ = trace(name, lambda *a: vmap(one, axes, outs)(*a), avals)
        return sub, tuple(found)


def trace(
    name: str,
    f: Callable[..., Any],
    avals: Sequence[Any],
    who: str = "stage",
    by_reference: bool = False,
    branch: bool = False,
) -> tuple[SubProgram, list[Any], TreeDef]:
    """Record ``f(*operands)``, which returns a tree of leaves.

    Returns the sub-program, the tracers that ``f`` closes over, which are its first inputs, and the tree.
    ``by_reference``: it runs at once, so captured arrays need no copy. ``branch``: it may not run at all, so nothing of
    it runs now, operations on what it closes over included.
    """
    examples = tuple(a if is_weak(a) else Aval(shape_of(a), dtype_of(a)) for a in avals)
    recording, outputs, out_def = stage_door(f, examples, who, by_reference, branch)
    captured = {v: x for v, x in recording.constants.items() if isinstance(x, Tracer)}
    return (
        SubProgram(recording, outputs, name, tuple(captured)),
        list(captured.values()),
        out_def,
    )


def close(
    subs: Sequence[SubProgram], captured: Sequence[list[Any]]
) -> tuple[list[Any], list[Callable[..., list[Any]]]]:
    """The tracers that several functions close over, each once, and the functions with these as first operands."""
    shared: list[Any] = []
    places: dict[int, int] = {}
    for xs in captured:
        for x in xs:
            if id(x) not in places:
                places[id(x)] = len(shared)
                shared.append(x)

    def closed(sub: SubProgram, own: list[Any]) -> Callable[..., list[Any]]:
        reads = [places[id(x)] for x in own]
        return lambda *a: sub(*(a[i] for i in reads), *a[len(shared) :])

    return shared, [closed(s, xs) for s, xs in zip(subs, captured, strict=True)]


# ------------------------------------------------------------------------------------------------ derivatives
def _of(sub: Callable[..., list[Any]], xs: Sequence[Any], active: Sequence[int]) -> Any:
    """A function of the active operands, in parts where they are complex; and where they are now."""

    def f(vs: list[Any]) -> list[Any]:
        full = list(xs)
        for i, v in zip(active, vs, strict=True):
            full[i] = joined(v, 1j)
        return sub(*full)

    return f, [parts(xs[i]) for i in active]


def push(
    sub: Callable[..., list[Any]], xs: Sequence[Any], active: Sequence[int], ts: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """The outputs and their tangents, for tangents of the active operands."""
    if not active:
        ys = sub(*xs)
        return ys, [zero(y) for y in ys]
    f, at = _of(sub, xs, active)
    ys, dots = jvp_door(f, (at,), ([parts(t) for t in ts],), False)
    return ys, dots


def pull(
    sub: Callable[..., list[Any]],
    xs: Sequence[Any],
    wanted: Sequence[int],
    given: Sequence[int],
    gs: Sequence[Any],
) -> list[Any]:
    """Cotangents of the wanted operands, for cotangents of the given outputs."""
    if not wanted:
        return []
    f, at = _of(sub, xs, wanted)

    def some(vs: list[Any]) -> list[Any]:
        ys = f(vs)
        return [ys[k] for k in given]

    return [joined(c, -1j) for c in vjp_door(some, (at,), False)[1](list(gs))[0]]


def one_pass(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A forward rule that gives values and tangents at once, for who has the values already, too."""

    def both(ts: Any, xs: Any, ys: Any = None, **params: Any) -> Any:
        values, dots = rule(ts, xs, **params)
        return (values, dots) if ys is None else dots

    return both


# ------------------------------------------------------------------------------------------------ equations
def _alive(equations: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
    """The equations that the outputs depend on."""
    wanted = {x for x in outputs if isinstance(x, Var)}
    kept = []
    for e in reversed(equations):
        if not wanted.isdisjoint(e[2]):
            wanted.update(x for x in e[1] if isinstance(x, Var))
            kept.append(e)
    return kept[::-1]


def with_spent(equations: Sequence[Any], kept: set[Any]) -> list[Any]:
    """Add to each equation the variables that nobody reads after it, those of ``kept`` excepted."""
    seen, out = set(kept), []
    for primitive, operands, outputs, params in reversed(equations):
        used = {x for x in operands if isinstance(x, Var)} | set(outputs)
        out.append((primitive, operands, outputs, params, tuple(used - seen)))
        seen |= used
    return out[::-1]


def lines_of(
    head: str,
    inputs: Iterable[Var],
    constants: Iterable[Var],
    equations: Iterable[Any],
    outputs: Iterable[Any],
) -> list[str]:
    """The text of a program: a line for each equation, under it its sub-programs, indented."""
    lines = [f"{head}({', '.join(map(_declared, inputs))})"]
    lines += [f"  constant {_declared(v)}" for v in constants]
    for primitive, operands, outs, params in equations:
        plain = {k: p for k, p in params.items() if not sub_programs(p)}
        text = ", ".join(
            [*map(_operand, operands), *(f"{k}={_shown(p)}" for k, p in plain.items())]
        )
        lines.append(f"  {', '.join(map(_declared, outs))} = {primitive.name}({text})")
        for name, p in params.items():
            subs = sub_programs(p)
            for s in subs:
                inner = lines_of(
                    s.name if len(subs) > 1 else name, s.inputs, s.constants, s.equations, s.outputs
                )
                lines += ["    " + line for line in inner]
    lines.append(f"  return {', '.join(map(_operand, outputs))}")
    return lines


def sub_programs(p: Any) -> tuple[SubProgram, ...]:
    """The sub-programs in a parameter."""
    if isinstance(p, SubProgram):
        return (p,)
    return p if isinstance(p, tuple) and p and isinstance(p[0], SubProgram) else ()


def _declared(v: Var) -> str:
    kind = {"float64": "f64", "float32": "f32", "int64": "i64", "bool": "bool"}.get(
        str(v.dtype), str(v.dtype)
    )
    return f"v{v.number}:{kind}[{','.join(map(str, v.shape))}]"


def _operand(x: Any) -> str:
    return (
        f"v{x.number}" if isinstance(x, Var) else repr(x.item() if isinstance(x, np.generic) else x)
    )


def _shown(p: Any) -> str:
    return repr(p) if not isinstance(p, np.dtype) else str(p)
