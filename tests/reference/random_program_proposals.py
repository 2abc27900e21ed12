"""What an operation of a random program needs: a proposal for each.

A proposal appends its operation to a draft, with operands that suit it and the steps that prepare
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from program_operations import BINARY, REDUCTIONS, UNARY
from random_program_draft import LARGEST, MARGIN, Draft, Rejected

PROPOSALS: dict[str, Callable[[Draft], Any]] = {}

# (low, high) of the argument: inside the domain and away from its boundary, so that derivatives up
# to the third stay of order one.
DOMAINS = {
    **{name: (0.4, LARGEST) for name in ("sqrt", "log", "log2", "log10", "cbrt", "reciprocal")},
    **{
        name: (-1.5, 1.5)
        for name in ("exp", "exp2", "expm1", "sinh", "cosh", "erf", "expit", "tanh")
    },
    **{name: (-0.8, 0.8) for name in ("arcsin", "arccos", "arctanh")},
    **{name: (-3.0, 3.0) for name in ("sin", "cos", "arctan", "arcsinh", "square")},
    "tan": (-1.0, 1.0),
    "log1p": (-0.6, LARGEST),
    "arccosh": (1.4, LARGEST),
    "negative": (-LARGEST, LARGEST),
}


def proposal(function: Callable[[Draft], Any]) -> Callable[[Draft], Any]:
    """Register how an operation is drawn, under the name of the operation."""
    PROPOSALS[function.__name__.rstrip("_")] = function
    return function


def _unary(name: str) -> Callable[[Draft], Any]:
    def propose(d: Draft) -> None:
        d.emit(name, d.within(d.pick(), *DOMAINS[name]))

    return propose


PROPOSALS.update({name: _unary(name) for name in [*UNARY, "erf", "expit"] if name in DOMAINS})


def broadcastable(d: Draft, i: int) -> int:
    """Choose a second operand whose shape broadcasts with the first."""

    def fits(v: np.ndarray) -> bool:
        try:
            np.broadcast_shapes(v.shape, d.values[i].shape)
        except ValueError:
            return False
        return True

    return d.pick(fits)


def _arithmetic(name: str) -> Callable[[Draft], Any]:
    def propose(d: Draft) -> None:
        i = d.pick()
        j = broadcastable(d, i)
        if name in ("divide", "power"):
            i, j = (
                (i, d.within(j, 0.4, LARGEST))
                if name == "divide"
                else (d.within(i, 0.4, 3.0), d.within(j, -2.0, 2.0))
            )
        d.emit(name, i, j, operator=d.coin())

    return propose


PROPOSALS.update(
    {name: _arithmetic(name) for name in ("add", "subtract", "multiply", "divide", "power")}
)


def _binary(name: str) -> Callable[[Draft], Any]:
    def propose(d: Draft) -> None:
        i = d.pick()
        j = broadcastable(d, i)
        if i == j:
            raise Rejected(name)
        if name in ("maximum", "minimum"):
            d.far(d.values[i] - d.values[j])
        else:  # hypot and arctan2 have their singularity where both operands vanish
            if np.hypot(d.values[i], d.values[j]).min() < 0.3:
                raise Rejected(name)
        d.emit(name, i, j)

    return propose


PROPOSALS.update({name: _binary(name) for name in BINARY})


@proposal
def absolute(d):
    i = d.pick()
    d.far(d.values[i])
    d.emit("absolute", i)


@proposal
def constant_power(d):
    exponent = d.choice([2, 3, -1, 2.0, 0.5, 1.7, -0.5])
    i = d.pick()
    d.emit("constant_power", i if exponent in (2, 3) else d.within(i, 0.4, 4.0), exponent=exponent)


@proposal
def constant_base(d):
    d.emit("constant_base", d.within(d.pick(), -1.5, 1.5), base=d.choice([2.0, 0.5, 3.0]))


@proposal
def scalar_arithmetic(d):
    spelling = d.choice(["x+c", "c+x", "x-c", "c-x", "x*c", "c*x", "x/c", "c/x"])
    i = d.pick()
    i = d.within(i, 0.4, LARGEST) if spelling == "c/x" else i
    d.emit("scalar_arithmetic", i, constant=d.choice([0.5, 0.75, 1.25, -0.6]), spelling=spelling)


@proposal
def array_arithmetic(d):
    d.emit("array_arithmetic", d.pick(), spelling=d.choice(["x+c", "c-x", "x*c", "c*x", "x/c"]))


@proposal
def remainder(d):
    i = d.pick()
    divisor = d.choice([0.7, 1.3])
    d.far(d.values[i] / divisor - np.round(d.values[i] / divisor))
    d.emit("remainder", i, divisor=divisor)


@proposal
def clip(d):
    i = d.pick(lambda v: v.size > 2)
    low, high = np.round(np.quantile(d.values[i], [0.25, 0.8]), 2)
    if high - low < MARGIN:
        raise Rejected("clip")
    d.far(d.values[i] - low)
    d.far(d.values[i] - high)
    d.emit("clip", i, low=float(low), high=float(high))


@proposal
def where(d):
    i = d.pick(lambda v: v.size > 1)
    j = broadcastable(d, i)
    d.far(d.values[i] - d.values[j])
    condition = d.emit("compare", i, j, relation=d.choice(["<", "<=", ">", ">="]))
    shape = d.values[condition].shape
    branches = [d.pick(lambda v: v.shape in (shape, ())) for _ in range(2)]
    d.emit("where", condition, *branches)


PROPOSALS["compare"] = where


@proposal
def softmax(d):
    i = d.within(d.pick(lambda v: v.size > 1), -3.0, 3.0)
    d.emit("softmax", i, axis=d.axis(i))


@proposal
def logsumexp(d):
    i = d.pick(lambda v: v.ndim > 0)
    d.emit("logsumexp", i, axis=d.axis_or_all(i), keepdims=d.coin())


def _reduction(name: str) -> Callable[[Draft], Any]:
    def propose(d: Draft) -> None:
        i = d.pick(lambda v: v.ndim > 0 and v.size > 1)
        axis = d.axis_or_all(i)
        if name in ("max", "min"):
            chosen = tuple(axis) if isinstance(axis, list) else axis
            best = getattr(np, name)(d.values[i], axis=chosen, keepdims=True)
            gap = np.abs(d.values[i] - best)
            if np.count_nonzero(gap < MARGIN) > best.size:
                raise Rejected("tie")
        d.emit(name, i, axis=axis, keepdims=d.coin(), method=d.coin())

    return propose


PROPOSALS.update({name: _reduction(name) for name in REDUCTIONS})


def _spread(name: str) -> Callable[[Draft], Any]:
    def propose(d: Draft) -> None:
        i = d.pick(lambda v: v.ndim > 0 and min(v.shape) > 1)
        axis = d.axis_or_all(i)
        k = d.emit(name, i, axis=axis, ddof=d.choice([0, 1]))
        if d.values[k].min() < 0.1:  # the derivative of the root of a small variance is large
            raise Rejected(name)

    return propose


PROPOSALS.update({name: _spread(name) for name in ("var", "std")})


@proposal
def cumsum(d):
    i = d.pick(lambda v: v.ndim > 0)
    d.emit("cumsum", i, axis=d.choice([None, d.axis(i), d.axis(i)]), method=d.coin())


@proposal
def norm(d):
    i = d.pick(lambda v: v.ndim in (1, 2))
    k = d.emit("norm", i, axis=d.choice([None, d.axis(i)]))
    if d.values[k].min() < 0.2:
        raise Rejected("norm")


@proposal
def matmul(d):
    i = d.pick(lambda v: v.ndim > 0)
    n = d.values[i].shape[-1]
    j = d.pick(lambda v: v.ndim > 0 and v.shape[-2 if v.ndim > 1 else 0] == n and v.ndim < 3)
    d.emit("matmul", i, j, operator=d.coin())


@proposal
def constant_matmul(d):
    d.emit("constant_matmul", d.pick(lambda v: v.ndim in (1, 2)), left=d.coin())


@proposal
def einsum(d):
    labels = d.choice(
        [
            "ij,jk->ik",
            "ij,kj->ki",
            "i,j->ij",
            "ij,j->i",
            "ij->j",
            "ij->ji",
            "i,ij,j->",
            "ij,ij->",
            "ij,i->ij",
        ]
    )
    sizes: dict[str, int] = {}
    operands = []
    for term in labels.split("->")[0].split(","):

        def fits(v: np.ndarray, term: str = term) -> bool:
            return v.ndim == len(term) and all(
                sizes.get(a, n) == n for a, n in zip(term, v.shape, strict=True)
            )

        operands.append(d.pick(fits))
        sizes.update(zip(term, d.values[operands[-1]].shape, strict=True))
    d.emit("einsum", *operands, labels=labels)


@proposal
def tensordot(d):
    i = d.pick(lambda v: v.ndim >= 1)
    if d.coin():
        n = d.values[i].shape[-1]
        j = d.pick(lambda v: v.ndim >= 1 and v.shape[0] == n)
        d.emit("tensordot", i, j, axes=1)
    else:
        n = d.values[i].shape[0]
        j = d.pick(lambda v: v.ndim >= 1 and v.shape[-1] == n)
        d.emit("tensordot", i, j, axes=[[0], [d.values[j].ndim - 1]])


@proposal
def outer(d):
    d.emit("outer", d.pick(lambda v: v.ndim == 1), d.pick(lambda v: v.ndim == 1))


@proposal
def dot(d):
    i = d.pick(lambda v: v.ndim in (1, 2))
    n = d.values[i].shape[-1]
    d.emit("dot", i, d.pick(lambda v: v.ndim in (1, 2) and v.shape[0] == n))


@proposal
def reshape(d):
    i = d.pick(lambda v: v.size > 1)
    n = d.values[i].size
    shapes = [
        [-1],
        [n, 1],
        [1, n],
        *([a, n // a] for a in range(2, n) if n % a == 0),
        [2, -1, 1][: 3 if n % 2 == 0 else 0],
    ]
    d.emit("reshape", i, shape=d.choice([s for s in shapes if s]), method=d.coin())


@proposal
def transpose(d):
    i = d.pick(lambda v: v.ndim >= 2)
    axes = d.choice([None, [int(a) for a in d.rng.permutation(d.values[i].ndim)]])
    d.emit("transpose", i, axes=axes, attribute=axes is None and d.coin())


@proposal
def broadcast_to(d):
    i = d.pick(lambda v: v.size <= 6 and v.ndim <= 2)
    shape = [n if n > 1 else int(d.rng.integers(1, 4)) for n in d.values[i].shape]
    d.emit("broadcast_to", i, shape=[int(d.rng.integers(2, 4)), *shape])


@proposal
def concatenate(d):
    i = d.pick(lambda v: v.ndim >= 1)
    axis = int(d.rng.integers(d.values[i].ndim))
    rest = np.delete(d.values[i].shape, axis)

    def fits(v: np.ndarray) -> bool:
        return v.ndim == d.values[i].ndim and np.array_equal(np.delete(v.shape, axis), rest)

    d.emit("concatenate", i, *(d.pick(fits) for _ in range(d.choice([1, 2]))), axis=axis)


@proposal
def stack(d):
    i = d.pick(lambda v: v.ndim <= 2)
    j = d.pick(lambda v: v.shape == d.values[i].shape)
    d.emit("stack", i, j, axis=int(d.rng.integers(-1, d.values[i].ndim + 1)))


@proposal
def split(d):
    i = d.pick(lambda v: v.ndim >= 1 and max(v.shape) > 1)
    axis = int(np.argmax(d.values[i].shape))
    n = d.values[i].shape[axis]
    d.emit("split", i, sections=d.choice([[n // 2], *([2] if n % 2 == 0 else []), [1]]), axis=axis)


@proposal
def pad(d):
    i = d.pick(lambda v: v.ndim >= 1)
    width = [[int(d.rng.integers(3)), int(d.rng.integers(2))] for _ in d.values[i].shape]
    d.emit("pad", i, width=width, value=d.choice([0.0, 0.5]))


@proposal
def index_basic(d):
    i = d.pick(lambda v: v.ndim >= 1)
    slices = [
        [None, None, -1],
        [1, None, None],
        [None, -1, None],
        [None, None, 2],
        [None, None, None],
    ]
    index: list[Any] = [
        d.choice(
            [{"slice": d.choice(slices)}, {"slice": d.choice(slices)}, int(d.rng.integers(-n, n))]
        )
        for n in d.values[i].shape
    ]
    if d.coin():
        index.insert(int(d.rng.integers(len(index) + 1)), None)
    if d.coin():
        index[-1:] = ["...", index[-1]]
    d.emit("index_basic", i, index=index)


def integers(d: Draft, n: int, shape: Any) -> dict[str, Any]:
    """Draw integers from -n to n - 1; with luck the same one twice."""
    return {"integers": d.rng.integers(-n, n, size=shape).tolist()}


@proposal
def index_integer(d):
    i = d.pick(lambda v: v.ndim >= 1 and v.size > 1)
    shape = d.values[i].shape
    count = int(d.rng.integers(2, 5))
    index: list[Any] = [integers(d, n, count) for n in shape]
    if len(shape) == 1 and d.coin():
        index = [integers(d, shape[0], (2, 2))]
    elif len(shape) >= 2 and d.coin():
        index[d.choice([0, 1])] = {"slice": [None, None, d.choice([None, -1])]}
    elif len(shape) >= 2 and d.coin():
        index = index[:1]
    d.emit("index_integer", i, index=index)


@proposal
def index_boolean(d):
    i = d.pick(lambda v: v.ndim in (1, 2) and v.size > 2)
    shape = d.values[i].shape[: d.choice([1, d.values[i].ndim])]
    mask = d.rng.random(shape) < 0.6
    d.emit("index_boolean", i, index=[{"mask": mask.tolist()}])


def _update(name: str) -> Callable[[Draft], Any]:
    def propose(d: Draft) -> None:
        i = d.pick(lambda v: v.ndim in (1, 2) and v.size > 1)
        n = d.values[i].shape[0]
        if (
            name == "at_set" or d.coin()
        ):  # where `set` writes one place twice, NumPy promises no order
            index = [
                d.choice(
                    [
                        {"slice": [1, None, None]},
                        int(d.rng.integers(-n, n)),
                        {"slice": [None, None, 2]},
                    ]
                )
            ]
        else:
            index = [integers(d, n, 3)]
        if name == "at_multiply" and isinstance(index[0], dict) and "integers" in index[0]:
            index = [{"integers": d.rng.permutation(n)[: min(n, 2)].tolist()}]
        j = d.pick(lambda v: v.shape in ((), d.values[i].shape[1:]))
        d.emit(name, i, j, index=index)

    return propose


PROPOSALS.update({name: _update(name) for name in ("at_set", "at_add", "at_multiply")})


@proposal
def take_along_axis(d):
    i = d.pick(lambda v: v.ndim >= 1 and v.size > 1)
    axis = d.axis(i)
    shape = list(d.values[i].shape)
    n, shape[axis] = shape[axis], int(d.rng.integers(1, 4))
    d.emit("take_along_axis", i, indices=d.rng.integers(0, n, size=shape).tolist(), axis=axis)


def ordered(d: Draft) -> tuple[int, int]:
    """Choose a value and an axis along which no two entries are close."""
    i = d.pick(lambda v: v.ndim >= 1 and v.size > 1)
    axis = d.axis(i)
    d.far(np.diff(np.sort(d.values[i], axis=axis), axis=axis))
    return i, axis


@proposal
def take_along_argsort(d):
    order, axis = ordered(d)
    d.emit(
        "take_along_argsort", d.pick(lambda v: v.shape == d.values[order].shape), order, axis=axis
    )


@proposal
def sort(d):
    i, axis = ordered(d)
    d.emit("sort", i, axis=axis)


@proposal
def solve(d):
    a = d.invertible()
    n = d.values[a].shape[0]
    b = d.pick(lambda v: v.ndim in (1, 2) and v.shape[0] == n and v is not d.values[a])
    d.emit("solve", a, b)


@proposal
def inv(d):
    d.emit("inv", d.invertible())


@proposal
def det(d):
    i = d.invertible()
    d.emit("det", d.emit("scalar_arithmetic", i, constant=0.5, spelling="x*c"))


@proposal
def slogdet(d):
    d.emit("slogdet", d.invertible())


@proposal
def cholesky(d):
    d.emit("cholesky", d.positive_definite())
