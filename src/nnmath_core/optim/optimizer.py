"""What all optimizers share: the walk over the trees, the checks, the count of steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from nnmath_core._ext import _optim
from nnmath_core._ext._autodiff import Tracer
from nnmath_core._ext._tree import TreeDef, flatten, flatten_like, paths, unflatten
from nnmath_core.checks import (
    describe,
    require_float,
    require_int,
    require_same_dtype,
    require_shape,
    sentence,
)
from nnmath_core.device import Backend, backend_of
from nnmath_core.errors import DomainError, DtypeError, TraceError, TreeError
from nnmath_core.optim.hyperparameters import Schedule, require_hyperparameter
from nnmath_core.optim.memory import require_own_memory
from nnmath_core.optim.whole import is_recorded, recorded_step
from nnmath_core.program.lower.optimizers import RULES
from nnmath_core.typing import Array, Tree

__all__ = ["Optimizer"]

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_GRADS = 1  # where the gradient stands in a row: weight, gradient, slots


class Optimizer(ABC):
    """A rule that turns gradients into new parameters.

    An optimizer is a frozen dataclass of its hyperparameters, and its state another one, of trees
    like the parameters and the number of steps taken. Both are trees: `nnmath_core.save` and `load`
    take them, and transformations go through `step`. The hyperparameters belong to the structure,
    so that nothing changes them; to differentiate in one, or to map it, make the optimizer inside of
    the function: ``nm.grad(lambda rate: after_training(nm.optim.adam(rate)))``.

    Notes
    -----
    A new optimizer names itself and its state, whose first field is ``count`` and whose others are
    trees like the parameters, zero at first; it writes `_meaning`, the step of one leaf in array
    code that can be traced, and `_in_place`, the same by the operations of a backend.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> opt = nm.optim.adam(0.1)
    >>> params = {"w": np.array([1.0, -2.0])}
    >>> state = opt.init(params)
    >>> params, state = opt.step(params, {"w": np.array([3.0, -0.5])}, state)
    >>> params["w"], int(state.count)
    (array([ 0.9, -1.9]), 1)
    """

    name: ClassVar[str]
    State: ClassVar[type[Any]]
    kernel: ClassVar[tuple[str, tuple[str, ...]] | None] = None
    """The kernel of a step in a Plan and the hyperparameters that it takes; None: there is none."""
    learning_rate: float | Schedule

    @abstractmethod
    def _meaning(self, rate: Any, t: Any, w: Array, g: Array, *slots: Array) -> tuple[Array, ...]:
        """Return the new weights and slots of one leaf; ``rate``, ``t`` and all may be traced."""

    @abstractmethod
    def _in_place(
        self, be: Backend, rate: float, t: int, w: Array, g: Array, *slots: Array
    ) -> None:
        """Change weights and slots of one leaf to those of step number ``t`` (1 is the first)."""

    def __post_init__(self) -> None:
        for name, x in list(vars(self).items()):
            if not (name == "learning_rate" and callable(x)):
                object.__setattr__(self, name, require_hyperparameter(self.name, name, x))

    def init(self, params: Tree) -> Any:
        """Return the state before the first step.

        Parameters
        ----------
        params : tree of arrays, float32 or float64

        Returns
        -------
        state
            Zeros like the parameters, and ``count``, a 0-d int64 array on the host.

        Raises
        ------
        DtypeError
            A leaf is no array of floats; the message names it.
        """
        leaves, treedef = flatten(params, True)
        for i, x in enumerate(leaves):
            if type(x) is not np.ndarray or x.dtype not in _FLOATS:
                leaves[i] = require_float(f"{self.name}.init", f"params{paths(treedef)[i]}", x)
        slots = [unflatten(treedef, [_zeros_like(x) for x in leaves], ()) for _ in self._slots()]
        return self.State(_counted(0), *slots)

    def step(self, params: Tree, grads: Tree, state: Any) -> tuple[Tree, Any]:
        """Return parameters and state after one step; nothing that is passed in changes.

        Parameters
        ----------
        params : tree of arrays, float32 or float64
        grads : tree
            Of the structure, shapes, dtypes and devices of ``params``.
        state
            What `init` or the last step has returned.

        Returns
        -------
        params, state
            New arrays, contiguous in C order, of the same structure and dtypes.

        Raises
        ------
        TreeError
            ``grads`` or ``state`` has another structure than ``params``, or ``state`` is of
            another type than that of `init`. (Adam and AdamW share one type, and so do heavy ball
            and Nesterov: their states mean the same, and training may go on with the other.)
        DtypeError, ShapeError, DeviceError
            A leaf is no array of floats, or differs from that of ``params``; the message names it.

        Notes
        -----
        Copies, then one pass over each leaf. When anything is traced (parameters, gradients, state
        or hyperparameters) the step is made of traceable operations, so that one can differentiate
        through training and map it; the two agree to a few roundings. Under `compile` all leaves are one
        operation, by the kernels, with the bits of an eager step.
        """
        who = f"{self.name}.step"
        treedef, rows = self._rows(who, params, grads, state)
        count, rate = self._count_and_rate(who, state)
        if self._is_traced(rows, count, rate):
            plain = not any(isinstance(x, Tracer) for x in vars(self).values())
            if plain and self.kernel is not None and is_recorded((count, rate), rows):
                results = recorded_step(self, rate, count + 1, rows)
            else:
                results = [self._meaning(rate, count + 1, *row) for row in rows]
        else:
            results = self._copied_steps(rate, count + 1, rows)
        columns = zip(*results, strict=True) if results else [()] * (1 + len(self._slots()))
        weights, *moments = (list(column) for column in columns)
        new_params = unflatten(treedef, weights)
        slots = [unflatten(treedef, column, ()) for column in moments]
        return new_params, self.State(_counted(count + 1), *slots)

    def step_in_place(self, params: Tree, grads: Tree, state: Any) -> None:
        """Take one step by changing the arrays of ``params`` and ``state``.

        For loops that own their arrays. Adam and AdamW allocate no array; the others one at a time,
        of the size of a leaf.

        Parameters
        ----------
        params, state : tree
            As for `step`; every leaf is an array that can be written: contiguous in C order,
            aligned, writeable, and sharing no memory with another one.
        grads : tree
            As for `step`, contiguous and aligned; it is only read.

        Raises
        ------
        TreeError, DtypeError, ShapeError, DeviceError
            As for `step`, or a leaf is not contiguous or not aligned. Nothing has been changed.
        DomainError
            A leaf is read-only or shares memory with another one. Nothing has been changed.
        TraceError
            Something is traced: a step in place has no derivative.

        Notes
        -----
        The same numbers as those of `step`, to the bit.
        """
        who = f"{self.name}.step_in_place"
        treedef, rows = self._rows(who, params, grads, state)
        count, rate = self._count_and_rate(who, state)
        if self._is_traced(rows, count, rate):
            raise TraceError(f"{who}: a step in place has no derivative. Use `{self.name}.step`.")
        columns = self._columns()

        def name(row: int, column: int) -> str:
            return f"{columns[column]}{paths(treedef)[row]}"

        if not (hasattr(state.count, "flags") and getattr(state.count.flags, "writeable", True)):
            wanted = "a 0-d array that can be written"
            raise DomainError(sentence(who, "state.count", wanted, describe(state.count)))
        if not self._whole_step(rate, count + 1, rows):
            require_own_memory(who, rows, name, read_only=_GRADS)
            for row in rows:
                be = backend_of(*row)
                with be.scope():
                    self._in_place(be, rate, count + 1, *row)
        state.count[...] = count + 1

    # --- all leaves, by one call of the kernels --------------------------------------------------

    def _whole_step(self, rate: float, t: int, rows: list[tuple[Any, ...]]) -> bool:
        """Take a step in place on arrays of the host that fit; False, and nothing is changed: they do not."""
        if self.kernel is None:
            return False
        rule, names = self.kernel
        numbers = np.array([getattr(self, name) for name in names], np.float64)
        return _optim.step(RULES[rule], rate, t, numbers, rows)

    def _copied_steps(
        self, rate: float, t: int, rows: list[tuple[Any, ...]]
    ) -> list[tuple[Array, ...]]:
        """Return the new weights and slots of all leaves."""
        if self.kernel is not None and all(type(row[0]) is np.ndarray for row in rows):
            new = [
                tuple(
                    x if k == _GRADS and x.flags.carray else np.array(x, copy=True, order="C")
                    for k, x in enumerate(row)
                )
                for row in rows
            ]
            if self._whole_step(rate, t, new):
                return [(row[0], *row[2:]) for row in new]
        return [self._copied_step(rate, t, *row) for row in rows]

    # --- one leaf -------------------------------------------------------------------------------

    def _copied_step(
        self, rate: float, t: int, w: Array, g: Array, *slots: Array
    ) -> tuple[Array, ...]:
        """Return the new weights and slots of one leaf, by `_in_place` on copies."""
        be = backend_of(w)
        with be.scope():
            new = [be.xp.array(x, copy=True, order="C") for x in (w, *slots)]
            if not (g.flags.c_contiguous and getattr(g.flags, "aligned", True)):
                g = be.xp.array(g, copy=True, order="C")
            self._in_place(be, rate, t, new[0], g, *new[1:])
        return tuple(new)

    # --- checks, once at the boundary -----------------------------------------------------------

    def _slots(self) -> tuple[str, ...]:
        """Return the names of the trees in the state: its fields after ``count``."""
        names: tuple[str, ...] = self.State.__match_args__[1:]
        return names

    def _columns(self) -> list[str]:
        """Return what the entries of a row are called in messages."""
        return ["params", "grads", *(f"state.{slot}" for slot in self._slots())]

    def _rows(
        self, who: str, params: Tree, grads: Tree, state: Any
    ) -> tuple[TreeDef, list[tuple[Any, ...]]]:
        """Return the structure, and for each leaf the row of its weight, gradient and slots."""
        if type(state) is not self.State:
            wanted = f"of type {self.State.__name__}, as `{self.name}.init(params)` returns it"
            raise TreeError(sentence(who, "state", wanted, describe(state)))
        leaves, treedef = flatten(params, True)
        columns = [leaves]
        trees = (grads, *(getattr(state, slot) for slot in self._slots()))
        for name, tree in zip(self._columns()[1:], trees, strict=True):
            column = flatten_like(tree, treedef)
            if column is None:
                wanted = f"of the structure of `params`, {treedef}"
                raise TreeError(sentence(who, name, wanted, str(flatten(tree)[1])))
            columns.append(column)
        rows = zip(*columns, strict=True)
        return treedef, [self._row(who, treedef, i, row) for i, row in enumerate(rows)]

    def _row(self, who: str, treedef: TreeDef, i: int, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return one leaf's arrays, which agree in shape, dtype and device."""
        w = row[0]
        if type(w) is np.ndarray and w.dtype in _FLOATS:
            shape, dtype = w.shape, w.dtype
            if all(type(x) is np.ndarray and x.dtype == dtype and x.shape == shape for x in row):
                return row
        path = paths(treedef)[i]
        named = {
            name + path: require_float(who, name + path, x)
            for name, x in zip(self._columns(), row, strict=True)
        }
        require_same_dtype(who, **named)
        row = tuple(named.values())
        for name, x in named.items():
            require_shape(who, name, x, tuple(row[0].shape))
        plain = {name: x for name, x in named.items() if not isinstance(x, Tracer)}
        backend_of(*plain.values(), who=who, names=tuple(plain))
        return row

    def _count_and_rate(self, who: str, state: Any) -> tuple[Any, Any]:
        """Return the number of steps taken and the learning rate: numbers, or traced scalars."""
        count = state.count
        dtype = getattr(count, "dtype", np.dtype(np.int64))
        if getattr(count, "shape", ()) != () or dtype.kind not in "iu":
            wanted = "a 0-d array of an integer"
            raise DtypeError(sentence(who, "state.count", wanted, describe(count)))
        if not isinstance(count, Tracer):
            count = count.item() if hasattr(count, "item") else count
            count = require_int(who, "state.count", count, minimum=0)
        rate: Any = self.learning_rate
        if callable(rate):
            rate = require_hyperparameter(who, "learning_rate", rate(count))
        return count, rate if isinstance(rate, Tracer) else float(rate)

    def _is_traced(self, rows: list[tuple[Any, ...]], *numbers: Any) -> bool:
        """Return whether an array or a number of the step is traced."""
        if any(isinstance(x, Tracer) for x in (*numbers, *vars(self).values())):
            return True
        return any(isinstance(x, Tracer) for row in rows for x in row)


def _zeros_like(x: Any) -> Array:
    """Return zeros in C order on the device of ``x``; those of a traced array are not traced."""
    if isinstance(x, Tracer):
        return np.zeros_like(x)
    zeros: Array = backend_of(x).xp.zeros(x.shape, x.dtype)
    return zeros


def _counted(count: Any) -> Any:
    """Return a number of steps as an array, so that a state is a tree of arrays throughout."""
    return count if isinstance(count, Tracer) else np.array(count, np.int64)
