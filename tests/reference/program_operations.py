"""The language of the random programs: operations, interpreter, file format.

A program is data: input shapes and numbers, and a list of steps ``[name, operands, parameters]``.
An operand is the number of an earlier value (inputs first, then the results of the steps; ``split``
and ``slogdet`` give several values). The same program runs on every array namespace, because an
operation receives the namespace that it shall use:

>>> steps = [["square", [0], {}], ["sum", [1], {"axis": None, "keepdims": False, "method": False}]]
>>> float(run(steps, [np.array([0.0, 0.5])], numpy_functions())[-1])
0.25

This file needs NumPy and SciPy only. `random_programs.py` draws the programs and lets JAX answer
them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import scipy.special

STORED = Path(__file__).with_name("random_programs.npz")

# How often every operation occurs in the stored programs, at least.
COVERAGE = 5


@dataclass(frozen=True)
class Functions:
    """What an operation may call: NumPy's names, SciPy's special and linalg, functional updates."""

    np: Any
    special: Any
    at: Callable[[Any], Any]
    linalg: Any


class _Updates:
    """`nm.at(x)[i].add(v)` for plain arrays: a copy that is written to."""

    def __init__(self, x: np.ndarray, index: Any = None) -> None:
        self.x, self.index = x, index

    def __getitem__(self, index: Any) -> _Updates:
        return _Updates(self.x, index)

    def set(self, v: Any) -> np.ndarray:
        y = np.array(self.x)
        y[self.index] = v
        return y

    def add(self, v: Any) -> np.ndarray:
        y = np.array(self.x)
        np.add.at(y, self.index, v)
        return y

    def multiply(self, v: Any) -> np.ndarray:
        y = np.array(self.x)
        np.multiply.at(y, self.index, v)
        return y


def numpy_functions() -> Functions:
    """NumPy and SciPy: forward values that share no code with the package under test."""
    return Functions(np, scipy.special, _Updates, scipy.linalg)


# Parameters ---------------------------------------------------------------------------------------


def decode_index(items: Sequence[Any]) -> tuple[Any, ...]:
    """Turn the stored form of an index into the index.

    An item is an integer, ``None`` (a new axis), ``"..."``, ``{"slice": [start, stop, step]}``,
    ``{"integers": nested list}`` or ``{"mask": nested list}``.
    """
    return tuple(_decode_item(item) for item in items)


def _decode_item(item: Any) -> Any:
    if item == "...":
        return Ellipsis
    if isinstance(item, dict):
        ((kind, value),) = item.items()
        if kind == "slice":
            return slice(*value)
        return np.array(value, dtype={"integers": np.int64, "mask": bool}[kind])
    return item


def weights(shape: tuple[int, ...]) -> np.ndarray:
    """Return irregular constants between 0.25 and 1.75: no symmetry survives them."""
    n = int(np.prod(shape, dtype=int))
    return (1.0 + 0.75 * np.cos(1.0 + 2.0 * np.arange(n))).reshape(shape)


def _tuple_or_same(x: Any) -> Any:
    return tuple(x) if isinstance(x, list) else x


# Operations ---------------------------------------------------------------------------------------

Operation = Callable[..., Any]
OPERATIONS: dict[str, Operation] = {}


def _operation(function: Operation) -> Operation:
    OPERATIONS[function.__name__.rstrip("_")] = function
    return function


def _elementwise(name: str) -> Operation:
    return lambda f, *xs: getattr(f.np, name)(*xs)


UNARY = (
    "negative absolute square sqrt cbrt reciprocal exp exp2 expm1 log log2 log10 log1p "
    "sin cos tan sinh cosh tanh arcsin arccos arctan arcsinh arccosh arctanh"
).split()
BINARY = "arctan2 hypot logaddexp maximum minimum".split()
OPERATIONS.update({name: _elementwise(name) for name in UNARY + BINARY})


@_operation
def add(f, x, y, *, operator):
    return x + y if operator else f.np.add(x, y)


@_operation
def subtract(f, x, y, *, operator):
    return x - y if operator else f.np.subtract(x, y)


@_operation
def multiply(f, x, y, *, operator):
    return x * y if operator else f.np.multiply(x, y)


@_operation
def divide(f, x, y, *, operator):
    return x / y if operator else f.np.divide(x, y)


@_operation
def power(f, x, y, *, operator):
    return x**y if operator else f.np.power(x, y)


@_operation
def constant_power(f, x, *, exponent):
    """``x ** 2``, ``x ** 3``, ``x ** -1``, ``x ** 1.7``: the exponent is a Python number."""
    return x**exponent


@_operation
def constant_base(f, x, *, base):
    return base**x


@_operation
def scalar_arithmetic(f, x, *, constant, spelling):
    """Combine with a Python number on either side of each operator."""
    return {
        "x+c": lambda: x + constant,
        "c+x": lambda: constant + x,
        "x-c": lambda: x - constant,
        "c-x": lambda: constant - x,
        "x*c": lambda: x * constant,
        "c*x": lambda: constant * x,
        "x/c": lambda: x / constant,
        "c/x": lambda: constant / x,
    }[spelling]()


@_operation
def array_arithmetic(f, x, *, spelling):
    """Combine with an ordinary NumPy array on either side of each operator."""
    c = weights(np.shape(x))
    return {
        "x+c": lambda: x + c,
        "c-x": lambda: c - x,
        "x*c": lambda: x * c,
        "c*x": lambda: c * x,
        "x/c": lambda: x / c,
    }[spelling]()


@_operation
def remainder(f, x, *, divisor):
    return x % divisor


@_operation
def clip(f, x, *, low, high):
    return f.np.clip(x, low, high)


@_operation
def compare(f, x, y, *, relation):
    return {
        "<": lambda: x < y,
        "<=": lambda: x <= y,
        ">": lambda: x > y,
        ">=": lambda: f.np.greater_equal(x, y),
        "!=": lambda: f.np.not_equal(x, y),
    }[relation]()


@_operation
def where(f, condition, x, y):
    return f.np.where(condition, x, y)


@_operation
def erf(f, x):
    return f.special.erf(x)


@_operation
def expit(f, x):
    return f.special.expit(x)


@_operation
def softmax(f, x, *, axis):
    return f.special.softmax(x, axis=axis)


@_operation
def logsumexp(f, x, *, axis, keepdims):
    return f.special.logsumexp(x, axis=_tuple_or_same(axis), keepdims=keepdims)


def _reduction(name: str) -> Operation:
    def reduce(f, x, *, axis, keepdims, method):
        axis = _tuple_or_same(axis)
        if method:
            return getattr(x, name)(axis=axis, keepdims=keepdims)
        return getattr(f.np, name)(x, axis=axis, keepdims=keepdims)

    return reduce


REDUCTIONS = "sum mean max min prod".split()
OPERATIONS.update({name: _reduction(name) for name in REDUCTIONS})


def _spread(name: str) -> Operation:
    def spread(f, x, *, axis, ddof):
        return getattr(f.np, name)(x, axis=_tuple_or_same(axis), ddof=ddof)

    return spread


OPERATIONS.update({name: _spread(name) for name in ("var", "std")})


@_operation
def cumsum(f, x, *, axis, method):
    return x.cumsum(axis=axis) if method else f.np.cumsum(x, axis=axis)


@_operation
def norm(f, x, *, axis):
    return f.np.linalg.norm(x, axis=axis)


@_operation
def matmul(f, x, y, *, operator):
    return x @ y if operator else f.np.matmul(x, y)


@_operation
def constant_matmul(f, x, *, left):
    """Multiply by an ordinary array: ``a @ x`` or ``x @ a``."""
    return weights((2, np.shape(x)[0])) @ x if left else x @ weights((np.shape(x)[-1], 2))


@_operation
def einsum(f, *xs, labels):
    return f.np.einsum(labels, *xs)


@_operation
def tensordot(f, x, y, *, axes):
    return f.np.tensordot(x, y, axes=axes)


@_operation
def outer(f, x, y):
    return f.np.outer(x, y)


@_operation
def dot(f, x, y):
    return f.np.dot(x, y)


@_operation
def reshape(f, x, *, shape, method):
    return x.reshape(*shape) if method else f.np.reshape(x, tuple(shape))


@_operation
def transpose(f, x, *, axes, attribute):
    return x.T if attribute else f.np.transpose(x, axes)


@_operation
def broadcast_to(f, x, *, shape):
    return f.np.broadcast_to(x, tuple(shape))


@_operation
def concatenate(f, *xs, axis):
    return f.np.concatenate(xs, axis=axis)


@_operation
def stack(f, *xs, axis):
    return f.np.stack(xs, axis=axis)


@_operation
def split(f, x, *, sections, axis):
    return list(f.np.split(x, sections, axis=axis))


@_operation
def pad(f, x, *, width, value):
    return f.np.pad(x, [tuple(w) for w in width], constant_values=value)


@_operation
def index_basic(f, x, *, index):
    return x[decode_index(index)]


@_operation
def index_integer(f, x, *, index):
    return x[decode_index(index)]


@_operation
def index_boolean(f, x, *, index):
    return x[decode_index(index)]


@_operation
def at_set(f, x, v, *, index):
    return f.at(x)[decode_index(index)].set(v)


@_operation
def at_add(f, x, v, *, index):
    return f.at(x)[decode_index(index)].add(v)


@_operation
def at_multiply(f, x, v, *, index):
    return f.at(x)[decode_index(index)].multiply(v)


@_operation
def take_along_axis(f, x, *, indices, axis):
    return f.np.take_along_axis(x, np.array(indices, dtype=np.int64), axis=axis)


@_operation
def take_along_argsort(f, x, order, *, axis):
    """Order one array by another: the indices come from a traced value."""
    return f.np.take_along_axis(x, f.np.argsort(order, axis=axis), axis=axis)


@_operation
def sort(f, x, *, axis):
    return f.np.sort(x, axis=axis)


@_operation
def add_identity(f, x, *, constant):
    return x + constant * np.eye(np.shape(x)[0])


@_operation
def solve(f, a, b):
    return f.np.linalg.solve(a, b)


@_operation
def inv(f, a):
    return f.np.linalg.inv(a)


@_operation
def det(f, a):
    return f.np.linalg.det(a)


@_operation
def slogdet(f, a):
    sign, logabsdet = f.np.linalg.slogdet(a)
    return [sign, logabsdet]


@_operation
def cholesky(f, a):
    return f.np.linalg.cholesky(a)


# Interpreter --------------------------------------------------------------------------------------


def apply(step: Sequence[Any], values: Sequence[Any], functions: Functions) -> list[Any]:
    """Run one step on the values so far and return the values that it adds."""
    name, operands, parameters = step
    out = OPERATIONS[name](functions, *(values[i] for i in operands), **parameters)
    return out if isinstance(out, list) else [out]


def run(steps: Sequence[Sequence[Any]], inputs: Sequence[Any], functions: Functions) -> list[Any]:
    """Run a program and return all its values: inputs first, then what each step added."""
    values = list(inputs)
    for step in steps:
        values.extend(apply(step, values, functions))
    return values


@dataclass(frozen=True)
class Program:
    """One random program with the point, the directions and the stored answers.

    The vector output is the value number ``vector``, the scalar output the value number ``scalar``.
    `tangents` has one array per input, `cotangent` the shape of the vector output. `answers` has
    arrays, or tuples of arrays where there is one per input.
    """

    name: str
    inputs: tuple[np.ndarray, ...]
    tangents: tuple[np.ndarray, ...]
    cotangent: np.ndarray
    steps: list[list[Any]]
    vector: int
    scalar: int
    answers: dict[str, Any]

    def scalar_function(self, functions: Functions) -> Callable[..., Any]:
        """Return the program as a function from its inputs to its scalar output."""
        return lambda *inputs: run(self.steps, inputs, functions)[self.scalar]

    def vector_function(self, functions: Functions) -> Callable[..., Any]:
        """Return the program as a function from its inputs to its vector output."""
        return lambda *inputs: run(self.steps, inputs, functions)[self.vector]

    def listing(self) -> str:
        """Return the program as text, one line a value: what a failed test shows."""
        values = run(self.steps, self.inputs, numpy_functions())
        lines = [f"v{i} = input {np.shape(x)}" for i, x in enumerate(self.inputs)]
        number = len(lines)
        for step in self.steps:
            name, operands, parameters = step
            made = len(apply(step, values, numpy_functions()))
            names = ", ".join(f"v{number + k}" for k in range(made))
            given = [f"v{i}" for i in operands] + [f"{k}={v!r}" for k, v in parameters.items()]
            lines.append(f"{names} = {name}({', '.join(given)})  # {np.shape(values[number])}")
            number += made
        return "\n".join([*lines, f"vector output v{self.vector}, scalar output v{self.scalar}"])


# File format: a text with the steps and with the shapes and numbers of inputs, tangents and
# cotangents, which are multiples of 1/1024; and all answers one after another.


def array_to_json(x: Any) -> dict[str, Any]:
    """Store an array as its shape and its numbers."""
    x = np.asarray(x, dtype=np.float64)
    return {"shape": list(x.shape), "data": x.ravel().tolist()}


def array_from_json(stored: dict[str, Any]) -> np.ndarray:
    """Read an array that `array_to_json` stored."""
    return np.array(stored["data"], dtype=np.float64).reshape(stored["shape"])


def save(header: dict[str, Any], programs: Sequence[Program], path: Path = STORED) -> None:
    """Write header, programs and answers."""
    numbers: list[np.ndarray] = []

    def shape_of_answer(value):
        if isinstance(value, tuple):
            return [shape_of_answer(v) for v in value]
        numbers.append(np.asarray(value, np.float64).ravel())
        return {"shape": list(np.shape(value))}

    stored = [
        {
            "name": p.name,
            "inputs": [array_to_json(x) for x in p.inputs],
            "tangents": [array_to_json(x) for x in p.tangents],
            "cotangent": array_to_json(p.cotangent),
            "steps": p.steps,
            "vector": p.vector,
            "scalar": p.scalar,
            "answers": {kind: shape_of_answer(value) for kind, value in p.answers.items()},
        }
        for p in programs
    ]
    text = json.dumps({"header": header, "programs": stored}, separators=(",", ":")).encode()
    np.savez_compressed(path, text=np.frombuffer(text, np.uint8), answers=np.concatenate(numbers))


def load(path: Path = STORED) -> tuple[dict[str, Any], list[Program]]:
    """Read the stored file: its header (versions, seed, conditions) and its programs."""
    with np.load(path) as file:
        stored = json.loads(bytes(file["text"]).decode())
        numbers = file["answers"]
    at = 0

    def answer(value):
        nonlocal at
        if isinstance(value, list):
            return tuple(answer(v) for v in value)
        n = int(np.prod(value["shape"]))
        at += n
        return numbers[at - n : at].reshape(value["shape"])

    return stored["header"], [
        Program(
            name=p["name"],
            inputs=tuple(array_from_json(x) for x in p["inputs"]),
            tangents=tuple(array_from_json(x) for x in p["tangents"]),
            cotangent=array_from_json(p["cotangent"]),
            steps=p["steps"],
            vector=p["vector"],
            scalar=p["scalar"],
            answers={kind: answer(value) for kind, value in p["answers"].items()},
        )
        for p in stored["programs"]
    ]


def distance(ours: Any, answer: Any) -> tuple[float, float]:
    """Return the largest difference between two answers and the scale of the second.

    The scale is the largest number of the whole answer (all inputs of a gradient together). Another
    shape or dtype is an infinite difference, as is anything that is not a finite number.
    """
    ours = ours if isinstance(ours, tuple | list) else (ours,)
    answer = answer if isinstance(answer, tuple) else (answer,)
    scale = max((float(np.abs(a).max()) for a in answer if a.size), default=0.0)
    if len(ours) != len(answer):
        return np.inf, scale
    worst = 0.0
    for x, a in zip(ours, answer, strict=True):
        x = np.asarray(x)
        if x.shape != a.shape or x.dtype != a.dtype or not np.isfinite(x).all():
            return np.inf, scale
        worst = max(worst, float(np.abs(x - a).max()) if a.size else 0.0)
    return worst, scale
