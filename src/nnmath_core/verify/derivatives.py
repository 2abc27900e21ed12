"""Where a derivative under check comes from: our two modes, their compositions, or functions of the user.

All of them speak in vectors: `rows` gives W J for cotangents W (r, m), `columns` gives J D^T for
directions D (b, n), in the units of the variables.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nnmath_core._ext._tree import flatten
from nnmath_core.autodiff.transforms import jvp, vjp
from nnmath_core.checks import describe
from nnmath_core.device import CPU, backend_for, device_of, to_device
from nnmath_core.errors import DtypeError, ShapeError, TreeError
from nnmath_core.program.compiled import Compiled
from nnmath_core.typing import Array
from nnmath_core.verify.on_device import DevicePoints
from nnmath_core.verify.variables import Variables, VectorFunction


class Source:
    """A derivative of a vector function.

    Parameters
    ----------
    function : VectorFunction
        Called at least once, so that its output is known.
    """

    mode = ""
    """As in a report: ``"fwd"``, ``"rev"``, ``"grad"`` or ``"jvp"``."""
    by_rows = True
    """Whether `rows` is what it computes; else `columns`."""

    wide = True
    """Whether float32 arguments may be passed as float64; else they are passed as they are."""

    def __init__(self, function: VectorFunction) -> None:
        self.function, self.variables = function, function.variables

    @property
    def eps(self) -> float:
        """Spacing of the coarsest dtype in which the arguments are passed."""
        if self.variables.narrow and not self.wide:
            return float(np.finfo(np.float32).eps)
        return self.variables.eps

    def arguments(self, x: Array) -> tuple[Any, ...]:
        """Return the arguments at a point, in the dtypes in which this derivative gets them."""
        before = self.variables.wide
        self.variables.wide = before and self.wide
        try:
            return tuple(self.variables.tree(self.variables.values(x)))
        finally:
            self.variables.wide = before

    def tangents(self, d: Array) -> tuple[Any, ...]:
        """Return a direction like the arguments, zero where they are fixed."""
        before = self.variables.wide
        self.variables.wide = before and self.wide
        try:
            return tuple(self.variables.tangents(self.variables.values(d)))
        finally:
            self.variables.wide = before

    def rows(self, x: Array, weights: Array) -> Array:
        """Return W J, shape (r, n), for W of shape (r, m)."""
        raise NotImplementedError

    def columns(self, x: Array, directions: Iterable[Array]) -> Array:
        """Return the derivatives along directions (b, n), shape (b, m)."""
        raise NotImplementedError


class Reverse(Source):
    """Our reverse mode."""

    mode = "rev"

    def rows(self, x: Array, weights: Array) -> Array:
        """Return W J by one sweep a row."""
        staged = self.function.staged
        if staged is not None:
            found: Array = staged.rows(x, weights, lambda: self.sweeps(x, weights))
            return found
        return self.sweeps(x, weights)

    def sweeps(self, x: Array, weights: Array) -> Array:
        """Return it by calls of the function."""
        out, pull = vjp(traced(self.function), *self.variables.values(x))
        found = [
            self.variables.ravel(list(pull(cotangent(self.function, out, w)))) for w in weights
        ]
        return np.array(found).reshape(len(weights), self.variables.size)


class Forward(Source):
    """Our forward mode."""

    mode, by_rows = "fwd", False

    def columns(self, x: Array, directions: Iterable[Array]) -> Array:
        """Return J d, one sweep a direction; on a device many at once."""
        there = self.function.staged
        if isinstance(there, DevicePoints) and there.wide == self.variables.wide:
            return there.columns(x, directions)
        f, leaves = traced(self.function), self.variables.values(x)
        found = [
            raveled(jvp(f, leaves, self.variables.values(d))[1], self.function.size)
            for d in directions
        ]
        return np.array(found).reshape(len(found), self.function.size)


class UserGradient(Source):
    """A gradient, or a Jacobian of shape ``out_shape + in_shape``, that the user computes."""

    mode, wide = "grad", False

    def __init__(
        self, function: VectorFunction, gradient: Callable[..., Any], given: Given
    ) -> None:
        super().__init__(function)
        self.gradient, self.given = gradient, given

    def jacobian(self, x: Array) -> Array:
        """Return the whole of it, shape (m, n)."""
        return self.given.jacobian(self.gradient(*self.arguments(x)), self.function)

    def rows(self, x: Array, weights: Array) -> Array:
        """Return W J."""
        return np.asarray(weights @ self.jacobian(x))


class UserJvp(Source):
    """A function ``(args, tangents) -> tangent`` of the user."""

    mode, by_rows, wide = "jvp", False, False

    def __init__(self, function: VectorFunction, product: Callable[..., Any]) -> None:
        super().__init__(function)
        self.product = product

    def columns(self, x: Array, directions: Iterable[Array]) -> Array:
        """Return J d, one call a direction."""
        found = [
            self._vector(self.product(self.arguments(x), self.tangents(d))) for d in directions
        ]
        return np.array(found).reshape(len(found), self.function.size)

    def _vector(self, out: Any) -> Array:
        leaves, treedef = flatten(out)
        wanted = f"{self.function.who}: `jvp` must return a tangent like the output of `f`"
        if treedef != self.function.treedef:
            raise TreeError(f"{wanted}, {self.function.treedef}, got {treedef}.")
        parts = []
        for i, shape, name in zip(
            self.function.which, self.function.shapes, self.function.names, strict=True
        ):
            leaf = numbers(self.function.who, "jvp", leaves[i], name)
            if leaf.shape != shape:
                raise ShapeError(f"{wanted}, of shape {shape}, got {leaf.shape} for {name}.")
            parts.append(leaf.reshape(-1))
        return np.concatenate(parts)


class Given:
    """What a user's gradient returns: which arguments it covers, and where its entries stand.

    Parameters
    ----------
    who : str
    args : tuple
    result : object
        What ``grad(*args)`` returned.
    """

    def __init__(self, who: str, args: tuple[Any, ...], result: Any) -> None:
        self.who = who
        floats = [i for i in range(len(args)) if Variables(who, args[i], f"args[{i}]").which]
        self.alone = floats[0] if len(floats) == 1 else -1
        self.count = len(args)
        self.whole = self.alone >= 0 and not self._is_tuple(result, args[self.alone])
        self.fixed: frozenset[int] = frozenset()
        if not self.whole:
            if not (isinstance(result, tuple | list) and len(result) == len(args)):
                raise TreeError(
                    f"{who}: `grad` must return a tuple with an entry for each of the {len(args)} "
                    f"arguments, got {_length(result)}. Put None for an argument that is held fixed."
                )
            self.fixed = frozenset(i for i in range(len(args)) if result[i] is None)
            if not set(floats) - self.fixed:
                raise TreeError(
                    f"{who}: `grad` must return a gradient, got None for every argument of floats."
                )

    def _is_tuple(self, result: Any, argument: Any) -> bool:
        """Whether the result has an entry for each argument although one alone has floats."""
        if not isinstance(result, tuple) or len(result) != self.count:
            return False
        like_argument = flatten(result, True)[1] == flatten(argument, True)[1]
        return not like_argument and (self.count > 1 or isinstance(result[0], type(argument)))

    def jacobian(self, result: Any, function: VectorFunction) -> Array:
        """Return it as a matrix (m, n) whose columns are in the order of the variables."""
        entries = {self.alone: result} if self.whole else dict(enumerate(result))
        variables = function.variables
        args = variables.tree([variables.leaves[i] for i in variables.which])
        leaves: list[Any] = []
        for i, argument in enumerate(args):
            mine, treedef = flatten(argument, True)
            if i not in entries or entries[i] is None:
                leaves += [None] * len(mine)
            elif treedef.is_leaf:
                leaves.append(entries[i])  # a list of numbers is welcome for one array
            else:
                got, other = flatten(entries[i], True)
                if other != treedef:
                    raise TreeError(
                        f"{self.who}: `grad` must return a tree like argument {i}, {treedef}, got "
                        f"{other}."
                    )
                leaves += got
        blocks = []
        rows = zip(variables.which, variables.shapes, variables.sizes, variables.names, strict=True)
        for i, shape, size, name in rows:
            blocks.append(self._block(leaves[i], shape, size, name, function))
        return np.concatenate(blocks, axis=1) if blocks else np.zeros((function.size, 0))

    def _block(
        self, leaf: Any, shape: tuple[int, ...], size: int, name: str, function: VectorFunction
    ) -> Array:
        if leaf is None:
            raise TreeError(f"{self.who}: `grad` must return an array for {name}, got None.")
        if len(function.shapes) > 1:
            raise TreeError(
                f"{self.who}: `grad` can be given when `f` has one output, and it has "
                f"{len(function.shapes)}. Give `jvp`."
            )
        block = numbers(self.who, "grad", leaf, name)
        wanted = function.shapes[0] + shape
        if block.shape != wanted and not (function.size == 1 and block.shape == shape):
            like = "the argument" if function.shapes[0] == () else "output and argument together"
            raise ShapeError(
                f"{self.who}: `grad` must return an array of shape {wanted} for {name}, as {like}, "
                f"got {block.shape}."
            )
        return block.reshape(function.size, size)


def _length(result: Any) -> str:
    if isinstance(result, tuple | list):
        return f"{describe(result)} of {len(result)}"
    return describe(result)


def numbers(who: str, arg: str, x: Any, name: str) -> Array:
    """Return what a user's function gave for a leaf as a float64 array on the host."""
    a = np.asarray(to_device(x, CPU) if hasattr(x, "__cuda_array_interface__") else x)
    if a.dtype.kind not in "fiub":
        got = describe(x) if a.dtype.kind == "O" else f"{a.dtype} ones"
        raise DtypeError(f"{who}: `{arg}` must return real numbers for {name}, got {got}.")
    return a.astype(np.float64)


# ------------------------------------------------------------------------------ traced functions


def traced(function: VectorFunction) -> Callable[..., tuple[Any, ...]]:
    """Return ``f`` as a function of its variables, to the tuple of its floating-point outputs."""

    def of_leaves(*leaves: Any) -> tuple[Any, ...]:
        return function.floats(function.call(list(leaves)))

    return of_leaves


def cotangent(function: VectorFunction, out: tuple[Any, ...], w: Array) -> tuple[Any, ...]:
    """Return a vector (m,) as cotangents of outputs, in their dtypes and places."""
    parts = []
    bounds = zip(function.starts[:-1], function.starts[1:], function.shapes, out, strict=True)
    for start, stop, shape, y in bounds:
        dtype = np.dtype(getattr(y, "dtype", np.float64))
        part, place = w[start:stop].astype(dtype).reshape(shape), device_of(y)
        parts.append(part if place == CPU else backend_for(place).from_host(part))
    return tuple(parts)


def raveled(out: tuple[Any, ...], size: int) -> Array:
    """Return outputs, or tangents of them, as one float64 vector."""
    parts = [numbers("", "", y, "").reshape(-1) for y in out]
    return np.concatenate(parts) if size else np.zeros(0)


def gradient_of(function: VectorFunction, out: tuple[Any, ...], w: Array) -> Callable[..., Any]:
    """Return leaves -> J^T w, a function that can be differentiated again."""
    f, weights = traced(function), cotangent(function, out, w)
    return lambda *leaves: vjp(f, *leaves)[1](weights)


def tangent_of(function: VectorFunction, u: list[Any]) -> Callable[..., Any]:
    """Return leaves -> J u, a function that can be differentiated again; ``u`` are leaves, too."""
    f = traced(function)
    return lambda *leaves: jvp(f, leaves, u)[1]


# --------------------------------------------------------------------------------- roots of names


def roots_of(f: Callable[..., Any], count: int) -> list[str]:
    """Return the names of the first arguments of ``f``, or args[0], args[1], ..."""
    f = f.f if isinstance(f, Compiled) else f
    if type(f) is types.FunctionType and not {"__wrapped__", "__signature__"} & f.__dict__.keys():
        # what its signature says, sooner
        names = list(f.__code__.co_varnames[: f.__code__.co_argcount])
        return [names[i] if i < len(names) else f"args[{i}]" for i in range(count)]
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (ValueError, TypeError):
        parameters = []
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [named[i] if i < len(named) else f"args[{i}]" for i in range(count)]
