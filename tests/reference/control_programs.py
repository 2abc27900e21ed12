"""Random programs with control flow, written over a module of control flow and a NumPy namespace.

A program is a nested list drawn from a seed; `run` executes it with JAX, with the package under
test, or as plain Python. Imports NumPy alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SIZE = 4
POINTS = 3
Op = tuple[Any, ...]


def draw(seed: int, *, loops: bool) -> list[Op]:
    """A program; with ``loops`` there are while loops in it, which JAX cannot differentiate in reverse mode."""
    rng = np.random.default_rng([20261126, seed])
    ops = _block(rng, 3, 3, loops)
    kinds = ["scan", "cond", "while" if loops else "switch"]
    return [*ops, _op(rng, str(rng.choice(kinds)), 2, loops), *_block(rng, 1, 2, loops)]


def points(seed: int) -> np.ndarray:
    """Points at which a program is asked, shape (POINTS, SIZE)."""
    return np.random.default_rng([20261127, seed]).uniform(-1.5, 1.5, (POINTS, SIZE)).round(3)


def direction(seed: int) -> np.ndarray:
    """A direction, shape (SIZE,)."""
    return np.random.default_rng([20261128, seed]).uniform(-1.0, 1.0, SIZE).round(3)


SMOOTH = ("tanh", "sin", "times", "shift", "mix", "bend")
FLOW = ("cond", "cond", "switch", "scan", "scan", "fori", "closure")


def _block(rng: Any, length: int, depth: int, loops: bool) -> list[Op]:
    flow = FLOW + (("while",) if loops else ())
    ops = []
    for _ in range(length):
        kinds = flow if depth and rng.random() < 0.6 else SMOOTH
        ops.append(_op(rng, str(rng.choice(kinds)), depth, loops))
    return ops


def _op(rng: Any, kind: str, depth: int, loops: bool) -> Op:
    c = rng.uniform(-1.0, 1.0, SIZE).round(3)
    sub = lambda n: _block(rng, n, depth - 1, loops)  # noqa: E731
    if kind == "cond":
        return kind, c, sub(2), sub(2)
    if kind == "switch":
        return kind, c, [sub(1), sub(2), sub(1)]
    if kind == "scan":
        rows = rng.uniform(-1.0, 1.0, (int(rng.integers(1, 6)), SIZE)).round(3)
        return kind, rows, bool(rng.random() < 0.5), sub(2)
    if kind == "fori":
        return kind, int(rng.integers(0, 4)), sub(1)
    if kind == "while":
        return kind, round(float(rng.uniform(0.2, 2.0)), 3), sub(1)
    if kind == "closure":
        return kind, c, sub(1)
    if kind == "mix":
        return kind, rng.uniform(-0.5, 0.5, (SIZE, SIZE)).round(3)
    return kind, c


def run(ops: list[Op], flow: Any, xp: Any, h: Any, x: Any) -> Any:
    """Execute operations on a vector h, in view of the input x, which functions close over."""
    for op in ops:
        h = _STEPS[op[0]](op, flow, xp, h, x)
    return h


def function(ops: list[Op], flow: Any, xp: Any) -> Any:
    """The program as a function of a vector, with a number as result."""
    return lambda x: xp.sum(run(ops, flow, xp, x * 1.0, x) * (1.0 + 0.5 * x))


def _cond(op, flow, xp, h, x):
    _, c, yes, no = op
    return flow.cond(
        xp.sum(c * h) > 0.05,
        lambda h: run(yes, flow, xp, h, x),
        lambda h: run(no, flow, xp, h, x) * 0.5,
        h,
    )


def _switch(op, flow, xp, h, x):
    index = xp.floor(2.0 * xp.tanh(xp.sum(op[1] * h)) + 1.0).astype(int)
    branches = [lambda h, ops=ops: run(ops, flow, xp, h, x) for ops in op[2]]
    return flow.switch(index, branches, h)


def _scan(op, flow, xp, h, x):
    _, rows, reverse, body = op

    def step(carry, row):
        h, total, k = carry
        new = xp.tanh(run(body, flow, xp, h + row, x))
        return (new, total + xp.sum(new * row), k + 1), {"y": new * k, "t": total}

    (h, total, k), ys = flow.scan(step, (h, 0.0, 0), xp.asarray(rows), reverse=reverse)
    return h + 0.1 * total * k + 0.1 * xp.sum(ys["y"], axis=0) + xp.sum(xp.sin(ys["t"]))


def _while(op, flow, xp, h, x):
    _, bound, body = op

    def step(carry):
        h, i = carry
        return xp.tanh(run(body, flow, xp, 1.25 * h, x)) * (1.0 + 0.1 * x), i + 1

    h, i = flow.while_loop(lambda c: (xp.sum(c[0] ** 2) < bound) & (c[1] < 4), step, (h, 0))
    return h * (1.0 + 0.25 * i)


_STEPS = {
    "tanh": lambda op, flow, xp, h, x: xp.tanh(h + op[1]),
    "sin": lambda op, flow, xp, h, x: xp.sin(h) * op[1] + 0.5 * h,
    "times": lambda op, flow, xp, h, x: h * xp.cos(x) + op[1],
    "shift": lambda op, flow, xp, h, x: h + op[1] * x,
    "mix": lambda op, flow, xp, h, x: h @ xp.asarray(op[1]) + 0.1 * x,
    "bend": lambda op, flow, xp, h, x: h / (1.0 + h * h) + op[1],
    "cond": _cond,
    "switch": _switch,
    "scan": _scan,
    "while": _while,
    "fori": lambda op, flow, xp, h, x: flow.fori_loop(
        0, op[1], lambda i, h: xp.tanh(run(op[2], flow, xp, h, x)) + 0.1 * i, h
    ),
    "closure": lambda op, flow, xp, h, x: flow.cond(
        xp.sum(x * op[1]) < 0, lambda: run(op[2], flow, xp, h, x) * x, lambda: h - 0.3 * x
    ),
}
