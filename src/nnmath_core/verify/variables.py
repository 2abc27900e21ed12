"""A function of trees seen as a function of one vector: its floating-point entries, named."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Tracer
from nnmath_core._ext._perturb import natural_units
from nnmath_core._ext._tree import flatten, paths, unflatten
from nnmath_core.autodiff.tree import tree_map
from nnmath_core.autodiff.wiring import leaf_value
from nnmath_core.checks import describe
from nnmath_core.device import CPU, backend_for, device_of
from nnmath_core.errors import DomainError, DtypeError, ShapeError, TraceError, TreeError
from nnmath_core.typing import Array, Tree

SINGLE, DOUBLE = float(np.finfo(np.float32).eps), float(np.finfo(np.float64).eps)
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_FIXED = (bool, int, str, bytes, np.bool_, np.integer, np.str_, type(None))


class Variables:
    """The float32 and float64 leaves of a tree as one float64 vector; all other leaves are fixed.

    Parameters
    ----------
    who : str
        In whose name a complaint is made.
    tree : tree
        Python floats, NumPy floats and arrays of floats are variables; integers, booleans, strings
        and functions are held fixed.
    roots : str or list of str
        What a path begins with: one name for the whole tree, or one for each entry of a tuple.
    fixed : set of int
        Entries of the tuple that are held fixed whatever they are.
    """

    def __init__(
        self, who: str, tree: Tree, roots: str | list[str], fixed: frozenset[int] = frozenset()
    ) -> None:
        self.who = who
        self.leaves, self.treedef = flatten(tree, True)
        self.which: list[int] = []
        self.names: list[str] = []
        self.places: list[tuple[int, str]] = []  # entry of the tuple, and path in it
        names = self._names(tree, roots)
        for i, (leaf, (entry, root, path)) in enumerate(zip(self.leaves, names, strict=True)):
            name = root + path
            if entry in fixed or is_fixed(leaf):
                continue
            if isinstance(leaf, Tracer):
                raise TraceError(
                    f"{who}: {name} must be a plain array, got a traced one. Call it outside of the "
                    "transformation."
                )
            self.leaves[i] = leaf_value(who, leaf, name)
            self.which.append(i)
            self.names.append(name)
            self.places.append((entry, path))
        values = [self.leaves[i] for i in self.which]
        self.shapes = [tuple(getattr(v, "shape", ())) for v in values]
        self.dtypes = [np.dtype(getattr(v, "dtype", _FLOAT64)) for v in values]
        self.kinds = [float if type(v) is float else type(v) for v in values]
        self.devices = [device_of(v) for v in values]
        self.sizes = [math.prod(s) for s in self.shapes]
        ends = list(itertools.accumulate(self.sizes, initial=0))
        self.starts = np.array(ends, int)
        self.size = ends[-1]
        self.narrow = _FLOAT32 in self.dtypes
        """Whether a variable is float32."""
        self._slices = [slice(a, b) for a, b in itertools.pairwise(ends)]
        self.start = self.ravel(values)
        self.wide = False

    def like(self, who: str, leaves: list[Any]) -> Variables:
        """Return the same for other leaves, of the same types, shapes and dtypes."""
        new = Variables.__new__(Variables)
        new.__dict__.update(self.__dict__)
        new.who, new.leaves = who, leaves
        new.start = new.ravel([leaves[i] for i in new.which])
        return new

    def _names(self, tree: Tree, roots: str | list[str]) -> list[tuple[int, str, str]]:
        """Return for each leaf the entry of the tuple, its root and the path from there."""
        if isinstance(roots, str):
            return [(0, roots, path) for path in paths(self.treedef)]
        out = []
        for i, (entry, root) in enumerate(zip(tree, roots, strict=True)):
            out += [(i, root, path) for path in paths(flatten(entry, True)[1])]
        return out

    @property
    def eps(self) -> float:
        """Spacing of the coarsest dtype in which variables are passed."""
        return SINGLE if self.narrow and not self.wide else DOUBLE

    def slices(self) -> list[slice]:
        """The part of the vector of each leaf."""
        return self._slices

    def ravel(self, values: list[Any]) -> Array:
        """Return values of the variables as one float64 vector on the host."""
        out = np.empty(self.size)
        for part, v in zip(self._slices, values, strict=True):
            here = _host(v)
            out[part] = here.reshape(-1) if isinstance(here, np.ndarray) else here
        return out

    def snap(self, flat: Array) -> Array:
        """Return the vector rounded to the dtypes in which variables are passed."""
        if self.wide or not self.narrow:
            return flat
        return self.rounded(flat)

    @property
    def single(self) -> Array:
        """1 for each entry that is passed in float32, of type uint8; empty where none is."""
        if self.wide or not self.narrow:
            return np.zeros(0, np.uint8)
        return np.repeat([d == np.float32 for d in self.dtypes], self.sizes).astype(np.uint8)

    def rounded(self, flat: Array) -> Array:
        """Return the vector rounded to the variables' own dtypes."""
        out = flat.copy()
        for part, dtype in zip(self.slices(), self.dtypes, strict=True):
            out[part] = flat[part].astype(dtype)
        return out

    def values(self, flat: Array, *, dtype: Any = None) -> list[Any]:
        """Return fresh leaves from a vector, in ``dtype`` or in the dtypes that are passed."""
        out: list[Any] = []
        rows = zip(self.slices(), self.shapes, self.dtypes, self.kinds, self.devices, strict=True)
        for part, shape, own, kind, place in rows:
            kept = dtype or (np.float64 if self.wide else own)
            leaf = flat[part].astype(kept).reshape(shape)
            if kind is np.ndarray and place is CPU:
                out.append(leaf)
            elif kind is float and not np.issubdtype(kept, np.complexfloating):
                out.append(float(leaf))
            elif issubclass(kind, np.generic) or kind is float:
                out.append(leaf[()])
            else:
                out.append(leaf if place == CPU else backend_for(place).from_host(leaf))
        return out

    def tree(self, values: list[Any]) -> Tree:
        """Return the whole tree with these values of the variables."""
        leaves = list(self.leaves)
        for i, v in zip(self.which, values, strict=True):
            leaves[i] = v
        tree = unflatten(self.treedef, leaves)
        if not self.wide:
            return tree
        # what is held fixed goes along, so that dtypes are not mixed
        return tree_map(lambda x: x.astype(np.float64) if _is_single(x) else x, tree)

    def tangents(self, values: list[Any]) -> Tree:
        """Return a tree like the whole, zero where a leaf is fixed."""
        leaves = [np.zeros(np.shape(x)) if _is_number(x) else None for x in self.leaves]
        for i, v in zip(self.which, values, strict=True):
            leaves[i] = v
        return unflatten(self.treedef, leaves)

    def component(self, i: int) -> tuple[str, tuple[int, ...]]:
        """Return leaf name and index of an entry of the vector."""
        leaf = int(np.searchsorted(self.starts, i, side="right")) - 1
        index = np.unravel_index(i - self.starts[leaf], self.shapes[leaf])
        return self.names[leaf], tuple(int(k) for k in index)

    def scale(self, flat: Array) -> Array:
        """Return the natural unit of each entry, in which steps are relative.

        The size of the entry, but at least a fraction of the root mean square of its leaf, and 1
        where a whole leaf is zero. The fraction is small in double precision, which can afford
        short steps, so that entries much smaller than their neighbours keep their own scale.
        """
        out = np.empty(len(flat))
        natural_units(flat, self.starts, 2.0**-10 if self.eps < 1e-10 else 2.0**-3, out)
        return out


def _host(v: Any) -> Any:
    if type(v) is np.ndarray:
        return v
    place = device_of(v)
    return v if place == CPU else backend_for(place).to_host(v)


def _is_single(leaf: Any) -> bool:
    return getattr(leaf, "dtype", None) is not None and leaf.dtype == np.float32


def is_fixed(leaf: Any) -> bool:
    """Whether a leaf of the arguments carries no derivative: integers, booleans, text, functions."""
    if isinstance(leaf, np.ndarray):
        return leaf.dtype.kind in "biu" and not isinstance(leaf, np.ma.MaskedArray)
    if isinstance(leaf, _FIXED) or (callable(leaf) and not hasattr(leaf, "dtype")):
        return True
    return getattr(getattr(leaf, "dtype", None), "kind", "") in ("b", "i", "u")


def _is_number(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") or isinstance(leaf, bool | int | float)


class VectorFunction:
    """A function of trees as a map from the vector of its variables to that of its outputs.

    The floating-point leaves of the output are the entries, others are left out. Structure and
    shapes are those of the first call.
    """

    def __init__(self, f: Callable[..., Any], variables: Variables, *, packed: bool) -> None:
        self.f, self.variables, self.packed, self.who = f, variables, packed, variables.who
        self.calls = 0
        self.treedef: Any = None
        self.narrowed = ""  # why it is not evaluated in float64, where it is not
        self.staged: Any = None  # the same by a Plan, where there is one

    def like(self, f: Any, variables: Variables) -> VectorFunction:
        """Return the same of other variables, that has not been called."""
        new = VectorFunction.__new__(VectorFunction)
        new.__dict__.update(self.__dict__)
        new.f, new.variables, new.who, new.calls, new.staged = f, variables, variables.who, 0, None
        return new

    def call(self, values: list[Any]) -> Any:
        """Return ``f`` at these values of the variables, as it returns it."""
        self.calls += 1
        tree = self.variables.tree(values)
        return self.f(*tree) if self.packed else self.f(tree)

    def __call__(self, flat: Array) -> Array:
        """Return the outputs, a vector (m,), at a vector of the variables (n,)."""
        return self.vector(self.call(self.variables.values(flat)))

    def vector(self, out: Any) -> Array:
        """Return the floating-point leaves of an output as one float64 vector."""
        leaves, treedef = flatten(out)
        if self.treedef is None:
            self._remember(leaves, treedef)
        if treedef != self.treedef or [np.shape(v) for v in leaves] != self.all_shapes:
            raise ShapeError(
                f"{self.who}: `f` must return one structure and shape at all points, and returned "
                "another one at a point nearby."
            )
        parts = [_host(leaves[i]) for i in self.which]
        return np.concatenate(parts, axis=None, dtype=np.float64) if parts else np.zeros(0)

    def _remember(self, leaves: list[Any], treedef: Any) -> None:
        wanted = f"{self.who}: `f` must return floating-point numbers, got "
        for leaf in leaves:
            kind = getattr(getattr(leaf, "dtype", None), "kind", "")
            if isinstance(leaf, complex) or kind == "c":
                raise DtypeError(
                    wanted + "complex ones. Return the real and the imaginary part as two outputs."
                )
            if isinstance(leaf, Tracer):
                raise TraceError(wanted + "a traced value. Call it outside of the transformation.")
            if kind not in tuple("fbiu") and not isinstance(leaf, bool | int | float):
                raise DtypeError(wanted + f"{describe(leaf)}.")
        self.which = [i for i, x in enumerate(leaves) if is_float(x)]
        if not self.which:
            got = "integers" if leaves else "nothing"
            raise DtypeError(
                wanted + f"{got}. Is a `return` missing, or does an argmax, a rounding or a "
                "comparison stand on the way?"
            )
        self.treedef = treedef
        self.all_shapes = [np.shape(v) for v in leaves]
        self.shapes = [self.all_shapes[i] for i in self.which]
        self.sizes = [math.prod(s) for s in self.shapes]
        self.starts = np.array(list(itertools.accumulate(self.sizes, initial=0)), int)
        self.size = int(self.starts[-1])
        self.dtypes = [np.dtype(getattr(leaves[i], "dtype", np.float64)) for i in self.which]
        self.eps = np.repeat([float(np.finfo(d).eps) for d in self.dtypes], self.sizes)
        every = paths(treedef)
        self.names = ["output" + every[i] for i in self.which]
        self.scalar = len(leaves) == 1 and self.shapes == [()]

    def floats(self, out: Any) -> tuple[Any, ...]:
        """Return the floating-point leaves of an output, traced or not."""
        leaves = flatten(out)[0]
        return tuple(leaves[i] for i in self.which)

    def component(self, o: int) -> str:
        """Return the name of an entry of the output; empty where there is but one."""
        if self.size == 1 and self.scalar:
            return ""
        leaf = int(np.searchsorted(self.starts, o, side="right")) - 1
        index = np.unravel_index(o - self.starts[leaf], self.shapes[leaf])
        return self.names[leaf] + (str(list(map(int, index))) if index else "")

    def require_finite(self, y: Array, where: str) -> None:
        """Refuse a value with which no difference can be formed."""
        bad = np.flatnonzero(~np.isfinite(y))
        if len(bad):
            name = self.component(int(bad[0])) or "output"
            raise DomainError(
                f"{self.who}: `f` must be finite {where}, and {name} is {y[bad[0]]}. Check the "
                "derivative at a point inside the domain."
            )


def widest(f: Callable[..., Any], variables: Variables, *, packed: bool) -> VectorFunction:
    """Return ``f`` evaluated in float64 where it keeps float64, else in the dtypes given.

    ``variables.wide`` says which, and ``.narrowed`` of the result why not.
    """
    function = VectorFunction(f, variables, packed=packed)
    if variables.narrow:
        variables.wide = True
        try:
            function(variables.start)
        except Exception as e:  # whatever a function of float32 says to float64
            function.narrowed = f"`f` refused float64 ({type(e).__name__})"
            if isinstance(e, DtypeError):  # it holds arrays of its own
                function.narrowed += (
                    ". To see more, cast the arrays that it closes over to the dtype of its arguments, "
                    "as x.astype(w.dtype)"
                )
        else:
            if all(d == np.float64 for d in function.dtypes):
                return function
            function.narrowed = "`f` returns float32 also for float64 arguments. To see more, let it keep their dtype"
        variables.wide = False
        function.treedef = None
    return function


def is_float(leaf: Any) -> bool:
    """Whether a leaf of an output carries a derivative."""
    return isinstance(leaf, float) or getattr(getattr(leaf, "dtype", None), "kind", "") == "f"


def require_tuple(who: str, args: Any) -> tuple[Any, ...]:
    """Return the arguments as a tuple."""
    if not isinstance(args, tuple | list) or hasattr(args, "_fields"):
        raise TreeError(
            f"{who}: `args` must be a tuple with an entry for each argument of `f`, got "
            f"{describe(args)}. Write (x,)."
        )
    return tuple(args)
