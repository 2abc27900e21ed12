"""Shape contracts: what the axes of arguments and results must have in common, checked at each call."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from nnmath_core._ext._tree import flatten, paths
from nnmath_core.checks import describe
from nnmath_core.errors import DomainError, DtypeError, NnmathError, ShapeError, TreeError
from nnmath_core.verify.pattern import Axis, Entry, Pattern, Sizes, parse

__all__ = ["shapes"]

F = TypeVar("F", bound=Callable[..., Any])

_wanted: ContextVar[bool] = ContextVar("nnmath_shapes", default=True)
_MISSING: Any = inspect.Parameter.empty


class shapes:
    r"""Check the shapes of arguments and results at each call of a function or layer.

    Parameters
    ----------
    contract : str
        Entries for the arguments, and after an arrow for the results, with commas between them: ``"b i, i o -> b o"``.

    Attributes
    ----------
    contract : str
        The text.

    Raises
    ------
    DomainError
        When decorating: the contract is malformed, or names an argument that the function does not have.
    ShapeError
        At a call: names the function, the axis, both lengths, and the arrays and axes they come from.
    DtypeError
        At a call: an argument or result is no array.
    TreeError
        At a call: there is no such part of an argument or result.

    Notes
    -----
    The axes of an entry are separated by spaces:

    - a name is a length, the same wherever it stands; a number is that length; ``_`` is any length;
    - ``2*i``, ``i+1`` and ``2*i-1`` are computed, whether ``i`` is known before or follows from it;
    - ``...`` stands for any number of axes, the same wherever it stands; ``*n`` is a second such group, ``*_`` one
      that is not compared. There is one in an entry at most;
    - ``()`` is an array without axes, a Python number included.

    Entries belong to the arguments in their order, ``self`` left out; or by name: ``"x: b i, w: i o -> b o"``. A name
    may go on into the argument: ``self.weight``, ``params['w']``, ``layers[0].bias``. For a tree (a dict, list, tuple
    or dataclass) an entry holds for each of its arrays. An argument that is None is passed over, and so are arguments
    without an entry. Several results are a tuple: ``-> b o, b``; parts of one are ``-> .mean: b, .cov: b b``.

    What counts is the shape that the function sees: that of one example under `vmap`; while staging, once. Only
    shapes are looked at, never values or dtypes, on whatever device. `shapes.off` switches the checks off.

    Cost: about one microsecond a call for three arrays, since shapes that have passed once are looked up; eight for new
    ones.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> @nm.shapes("b i, i o -> b o")
    ... def dense(x, w):
    ...     return x @ w
    >>> dense(np.ones((2, 3)), np.ones((3, 5))).shape
    (2, 5)
    >>> dense(np.ones((2, 3)), np.ones((4, 5)))
    Traceback (most recent call last):
        ...
    nnmath_core.errors.ShapeError: dense: axis 0 of `w`, `i`, must be 3, the length of axis 1 of `x` of shape (2, 3),
    got 4 in shape (4, 5). The contract is "b i, i o -> b o".
    """

    __slots__ = ("_arguments", "_results", "contract")

    def __init__(self, contract: str) -> None:
        self._arguments, self._results = parse(contract)
        self.contract = contract

    def __repr__(self) -> str:
        return f"shapes({self.contract!r})"

    def __call__(self, f: F) -> F:
        """The function with its checks."""
        _require_function(f)
        who = _name_of(f)
        contract = _Contract(
            who, self.contract, _places(who, f, self._arguments, self.contract), self._results
        )
        places = [
            (p.position, p.name, p.default, p.value if p.special else None)
            for p in contract.arguments
        ]
        result = contract.single_result
        known: set[Any] = set()  # shapes, and pairs of them with the result's, that have passed

        def checked(*args: Any, **kw: Any) -> Any:
            if not _wanted.get():
                return f(*args, **kw)
            seen = []
            given = len(args)
            for position, name, default, value in places:
                if value is not None:
                    x = value(args, kw)
                elif position < given:
                    x = args[position]
                else:
                    x = kw.get(name, default)
                shape = getattr(x, "shape", None)
                if shape.__class__ is not tuple and x is not None:  # a tree, or a number
                    return contract.checked(f, args, kw)
                seen.append(shape)
            key: Any = tuple(seen)
            if key not in known:
                contract.check(args, kw)
                _remember(known, key)
            y = f(*args, **kw)
            if result:
                key = (key, getattr(y, "shape", None))
                if key not in known:
                    contract.check(args, kw, y)
                    if key[1].__class__ is tuple:
                        _remember(known, key)
            elif contract.results is not None:
                contract.check(args, kw, y)
            return y

        plain = inspect.isroutine(f)
        return functools.wraps(f, updated=("__dict__",) if plain else ())(checked)  # type: ignore[return-value]

    @staticmethod
    @contextlib.contextmanager
    def off() -> Iterator[None]:
        """Switch the checks off in this thread and context until the block ends.

        Yields
        ------
        None
            A context manager; as a decorator it holds for each call of a function.
        """
        token = _wanted.set(False)
        try:
            yield
        finally:
            _wanted.reset(token)

    @staticmethod
    def sizes(contract: str, *arrays: Any) -> dict[str, Any]:
        """Assert shapes inside of a function, and return the length of each name.

        Parameters
        ----------
        contract : str
            An entry for each array, without results; names serve the message: ``"x: b i, w: i o"``.
        *arrays : array or tree
            What is checked; `shapes.off` does not concern it.

        Returns
        -------
        dict
            Name to length; a group (``"..."``, ``"*n"``) to a tuple of lengths.

        Raises
        ------
        ShapeError
            The shapes disagree with the contract.
        DomainError
            The contract is malformed, or has not as many entries as there are arrays.

        Examples
        --------
        >>> import numpy as np
        >>> import nnmath_core as nm
        >>> nm.shapes.sizes("x: b i, w: i o", np.ones((2, 3)), np.ones((3, 5)))
        {'b': 2, 'i': 3, 'o': 5}
        """
        who = "shapes.sizes"
        entries, _ = parse(contract, results=False)
        if len(entries) != len(arrays):
            raise DomainError(
                f"{who}: `contract` must have an entry for each of {len(arrays)} arrays, got {len(entries)} in "
                f'"{contract}".'
            )
        found: Sizes = {}
        given = []
        for k, (e, x) in enumerate(zip(entries, arrays, strict=True)):
            label = f"`{e.name}{e.path}`" if e.name else f"array {k}"
            if x is not None:
                given += [(name, s, e.pattern) for name, s in _leaves(who, label, x)]
        if not all(p.fits(s, found) for _, s, p in given):
            raise _refusal(who, contract, given)
        return found


# ------------------------------------------------------------------------------------------------ decorating
def _require_function(f: Any) -> None:
    advice = ""
    if isinstance(f, (staticmethod, classmethod)):
        advice = f" Write the contract below @{type(f).__name__}."
    elif isinstance(f, type):
        advice = " Decorate its `__call__`."
    elif callable(f):
        return
    raise DomainError(
        f"shapes: what is decorated must be a function or method, got {describe(f)}.{advice}"
    )


def _name_of(f: Any) -> str:
    name = getattr(f, "__qualname__", None) or type(f).__qualname__
    return str(name).rpartition("<locals>.")[2].removesuffix(".__call__")


class _Place(NamedTuple):
    """Where a call has the value of an entry."""

    position: int  # -1: by keyword alone
    name: str  # "": by position alone
    default: Any
    rest: Callable[[tuple[Any, ...], dict[str, Any]], Any] | None  # of *args and **kw as wholes
    steps: tuple[str | int, ...]
    pattern: Pattern
    who: str
    label: str

    @property
    def special(self) -> bool:
        """Whether it takes more than a look at the arguments."""
        return self.rest is not None or bool(self.steps) or self.position < 0

    def value(self, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
        """The value; None where there is none, of which the function itself complains."""
        if self.rest is not None:
            x = self.rest(args, kw)
        elif 0 <= self.position < len(args):
            x = args[self.position]
        else:
            x = kw.get(self.name, self.default)
        return x if not self.steps or x is None else _part(x, self.steps, self.who, self.label)


def _places(who: str, f: Any, entries: tuple[Entry, ...], contract: str) -> list[_Place]:
    """Each entry and where its value is."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # some functions in C have none
        parameters = [inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)]
    ordered = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    start = 1 if ordered and ordered[0].name in ("self", "cls") else 0
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    free = any(p.kind is p.VAR_KEYWORD for p in parameters)
    known = {p.name: p for p in parameters}
    places = []
    for k, e in enumerate(entries):
        position, name, default, rest = start + k, "", None, None
        if not e.name:
            if position < len(ordered):
                p = ordered[position]
                name = p.name if p.kind is not p.POSITIONAL_ONLY else ""
                default = None if p.default is _MISSING else p.default
                label = p.name
            elif several:
                label = f"args[{position - len(ordered)}]"
            else:
                raise DomainError(
                    f'shapes: the contract "{contract}" has {len(entries)} entries for arguments, and `{who}` takes '
                    f'{len(ordered) - start} by position. Give the others by name: "x: b i".'
                )
        elif e.name in known:
            p, label = known[e.name], e.name
            position = ordered.index(p) if p in ordered else -1
            name = p.name if p.kind is not p.POSITIONAL_ONLY else ""
            default = None if p.default is _MISSING else p.default
            if p.kind is p.VAR_POSITIONAL:
                rest = functools.partial(_rest_of_args, len(ordered))
            elif p.kind is p.VAR_KEYWORD:
                rest = functools.partial(_rest_of_keywords, frozenset(known))
        elif free:
            position, name, label = -1, e.name, e.name
        else:
            names = ", ".join(f"`{p}`" for p in known) or "none"
            raise DomainError(
                f'shapes: the contract "{contract}" names `{e.name}`, and the arguments of `{who}` are {names}.'
            )
        places.append(
            _Place(position, name, default, rest, e.steps, e.pattern, who, f"`{label}{e.path}`")
        )
    return places


def _rest_of_args(first: int, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    return args[first:]


def _rest_of_keywords(named: frozenset[str], args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    return {k: x for k, x in kw.items() if k not in named}


# ------------------------------------------------------------------------------------------------ at a call
def _part(x: Any, steps: tuple[str | int, ...], who: str, label: str) -> Any:
    for step in steps:
        if x is None:
            return None
        try:
            if isinstance(step, str) and not isinstance(x, dict):
                x = getattr(x, step)
            else:
                x = x[step]
        except (AttributeError, KeyError, IndexError, TypeError):
            raise TreeError(
                f"{who}: {label} must exist, and {describe(x)} has no {step!r}."
            ) from None
    return x


def _leaves(who: str, label: str, x: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Label and shape of each array of a tree; a Python number is an array without axes."""
    if isinstance(getattr(x, "shape", None), tuple):  # a sparse matrix is a tree, and an array here
        return [(label, tuple(x.shape))]
    leaves, d = flatten(x)
    names = (
        [label]
        if d.is_leaf
        else [f"{label[:-1]}{p}`" if label[-1] == "`" else label + p for p in paths(d)]
    )
    found = []
    for name, leaf in zip(names, leaves, strict=True):
        shape = getattr(leaf, "shape", None)
        if shape is None and isinstance(leaf, (bool, int, float, complex)):
            shape = ()
        if not isinstance(shape, tuple):
            raise DtypeError(f"{who}: {name} must be an array, got {describe(leaf)}.")
        found.append((name, tuple(shape)))
    if not leaves and not isinstance(x, (dict, list, tuple)):
        raise DtypeError(f"{who}: {label} must be an array, got {describe(x)}.")
    return found


_Given = list[tuple[str, tuple[int, ...], Pattern]]
REMEMBERED = 512


def _remember(known: set[Any], key: Any) -> None:
    if len(known) >= REMEMBERED:  # of a function that is called with ever new shapes
        known.clear()
    known.add(key)


class _Contract:
    """A contract and the function that it is of."""

    def __init__(
        self, who: str, text: str, arguments: list[_Place], results: tuple[Entry, ...] | None
    ) -> None:
        self.who, self.text, self.arguments, self.results = who, text, arguments, results
        self.single_result = results is not None and len(results) == 1 and not results[0].path

    def checked(self, f: Callable[..., Any], args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
        """Check, call, check."""
        self.check(args, kw)
        y = f(*args, **kw)
        if self.results is not None:
            self.check(args, kw, y)
        return y

    def check(self, args: tuple[Any, ...], kw: dict[str, Any], y: Any = _MISSING) -> None:
        """Refuse arguments, and the result where it is given, that do not fit."""
        given: _Given = []
        for place in self.arguments:
            x = place.value(args, kw)
            if x is not None:
                given += [(name, s, place.pattern) for name, s in _leaves(self.who, place.label, x)]
        if y is not _MISSING and self.results is not None:
            given += _returned(self.who, self.results, y)
        sizes: Sizes = {}
        if not all(pattern.fits(shape, sizes) for _, shape, pattern in given):
            raise _refusal(self.who, self.text, given)


def _returned(who: str, results: tuple[Entry, ...], y: Any) -> _Given:
    """Label, shape and pattern of all results."""
    found: _Given = []
    if results[0].path:
        parts = [
            (f"`result{e.path}`", _part(y, e.steps, who, f"`result{e.path}`")) for e in results
        ]
    elif len(results) == 1:
        parts = [("the result", y)]
    elif isinstance(y, (tuple, list)) and len(y) == len(results):
        parts = [(f"result {k}", part) for k, part in enumerate(y)]
    else:
        got = f"{len(y)} results" if isinstance(y, (tuple, list)) else describe(y)
        raise ShapeError(f"{who}: it must return {len(results)} results, got {got}.")
    for (label, part), e in zip(parts, results, strict=True):
        if part is None:
            raise DtypeError(f"{who}: {label} must be an array, got None.")
        found += [(name, s, e.pattern) for name, s in _leaves(who, label, part)]
    return found


def _refusal(who: str, contract: str, given: _Given) -> NnmathError:
    """The error for the first array that does not fit, with what came before it."""
    sizes: Sizes = {}
    origin: dict[str, str] = {}
    for label, shape, pattern in given:
        known = dict(sizes)
        if not pattern.fits(shape, sizes):
            text = _complaint(label, shape, pattern, known, origin)
            return ShapeError(f'{who}: {text} The contract is "{contract}".')
        for name in sizes.keys() - known.keys():
            origin[name] = f"{_where(name, pattern, len(shape))} of {label} of shape {shape}"
    raise AssertionError("the shapes fit")  # pragma: no cover


def _where(name: str, pattern: Pattern, rank: int) -> str:
    """The axis, or axes, that gave a name its length."""
    if name == pattern.group:
        return "the leading axes" if pattern.before == 0 else f"the axes from {pattern.before} on"
    for axis, k in zip(pattern.axes, pattern.places(rank), strict=True):
        if axis == name or (isinstance(axis, Axis) and axis.name == name):
            return f"axis {k}" if axis == name else f"axis {k}, `{axis.text}`,"  # type: ignore[union-attr]
    raise AssertionError(name)  # pragma: no cover


def _complaint(
    label: str, shape: tuple[int, ...], pattern: Pattern, sizes: Sizes, origin: dict[str, str]
) -> str:
    """What is wrong with the first axis that does not fit."""
    if not pattern.takes(len(shape)):
        least = " at least" if pattern.group is not None else ""
        count = "1 axis" if len(pattern.axes) == 1 else f"{len(pattern.axes)} axes"
        return f"{label} must have{least} {count}, `{pattern.text}`, got shape {shape}."
    places = pattern.places(len(shape))
    group = pattern.group
    if group is not None and group != "_":
        got = shape[pattern.before : pattern.before + len(shape) - len(pattern.axes)]
        if sizes.get(group, got) != got:
            return (
                f"`{group}` of {label} must be {sizes[group]}, {origin[group]}, got {got} in shape {shape}. "
                "Write *_ for axes that are not compared."
            )
    for axis, k in zip(pattern.axes, places, strict=True):
        n = shape[k]
        spelled = f"`{axis.text}`" if isinstance(axis, Axis) else f"`{axis}`"
        got_here = f"got {n} in shape {shape}."
        if isinstance(axis, Axis):
            want = axis.length(sizes)
            if want is None:
                value = axis.solve(n)
                if value is None:
                    return f"axis {k} of {label} must be {spelled} for a whole number `{axis.name}`, {got_here}"
                sizes[axis.name] = value
                origin[axis.name] = f"axis {k}, {spelled}, of {label}"
            elif want != n:
                since = f"since `{axis.name}` is {sizes[axis.name]}, from {origin[axis.name]}"
                return f"axis {k} of {label}, {spelled}, must be {want}, {since}, {got_here}"
        elif isinstance(axis, int):
            if axis != n:
                return f"axis {k} of {label} must be {axis}, {got_here}"
        elif axis is not None:
            if axis not in sizes:
                sizes[axis], origin[axis] = n, f"axis {k} of {label}"
            elif sizes[axis] != n:
                of = f"the length of {origin[axis]}"
                if "`" in origin[axis].split(" of ")[0]:
                    of = f"from {origin[axis]}"
                return f"axis {k} of {label}, {spelled}, must be {sizes[axis]}, {of}, {got_here}"
    raise AssertionError("the shape fits")  # pragma: no cover
