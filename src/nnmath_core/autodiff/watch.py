"""What is looked at while somebody watches: results that are not finite, and the user's lines.

The compiled core calls `watch` only while `_ext._autodiff.add_watchers` counts somebody, in whatever thread; whether
it is this one is a context variable. Inside of a derivative rule results are not looked at, since the rules of masked
entries may divide by zero, and what they give is discarded; what a rule hands on is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar, Token
from typing import Any

import numpy as np

from nnmath_core._ext import _autodiff as core
from nnmath_core._ext._autodiff import Aval, Tracer, value_of
from nnmath_core.autodiff.origin import Origin, here
from nnmath_core.device import backend_of
from nnmath_core.errors import DomainError

__all__ = ["at_line", "noting_refusals", "origin_of", "watch", "watches_lines", "watching"]

_wanted: ContextVar[str | None] = ContextVar("nnmath_watch", default=None)
"""None: this thread does not watch. ``"lines"``, ``"nan"``, or ``"inf"``, which is NaN and infinity."""
_rule: ContextVar[Origin | None] = ContextVar("nnmath_rule", default=None)
"""Of which operation the rule that is running is the derivative."""

_refusals: ContextVar[list[Any] | None] = ContextVar("nnmath_refusals", default=None)
"""Where operations are noted whose operands do not fit: ``(error, recording, primitive, operands, line)``."""

_origins: list[Origin] = [Origin()]
_numbers: dict[Origin, int] = {_origins[0]: 0}


@contextlib.contextmanager
def watching(what: str) -> Iterator[None]:
    """Watch in this thread until the block ends."""
    token = _wanted.set(what)
    core.add_watchers(1)
    try:
        yield
    finally:
        core.add_watchers(-1)
        _wanted.reset(token)


@contextlib.contextmanager
def noting_refusals() -> Iterator[list[Any]]:
    """Watch lines and collect the operations that refuse their operands until the block ends."""
    kept: list[Any] = []
    token = _refusals.set(kept)
    try:
        with watching("lines"):
            yield kept
    finally:
        _refusals.reset(token)


def watches_lines() -> bool:
    """Whether this thread wants the lines of what is recorded, and nothing else."""
    return _wanted.get() == "lines"


@contextlib.contextmanager
def at_line(number: int) -> Iterator[None]:
    """Operations in the block are of this line, where it is known and no rule is running."""
    if not number or _rule.get() is not None:
        yield
        return
    token = _rule.set(origin_of(number))
    try:
        yield
    finally:
        _rule.reset(token)


def origin_of(number: int) -> Origin:
    """The origin that `watch.line` gave this number."""
    return _origins[number]


class Watch:
    """The methods that the core calls."""

    def line(self) -> int:
        """The number of the user's line, or of the derivative that is being computed; 0 when nobody wants it."""
        if _wanted.get() is None:
            return 0
        found = _rule.get() or here()
        number = _numbers.get(found)
        if number is None:
            number = _numbers.setdefault(found, len(_origins))
            _origins.append(found)
        return number

    def refused(self, error: Exception, recording: Any, p: Any, operands: tuple[Any, ...]) -> None:
        """The shapes of the operands do not fit an operation that was to be recorded."""
        kept = _refusals.get()
        if kept is not None:
            kept.append((error, recording, p, operands, self.line()))

    def enter(self, p: Any, line: int) -> Token[Origin | None] | None:
        """A derivative rule begins; ``line`` is that of the operation, -1 when it is the running one."""
        if _wanted.get() is None:
            return None
        of = (_rule.get() or here()) if line < 0 else origin_of(line)
        return _rule.set(of.derivative_of(p.name))

    def leave(self, token: Token[Origin | None] | None) -> None:
        """It ends."""
        if token is not None:
            _rule.reset(token)

    def ran(self, p: Any, xs: tuple[Any, ...], y: Any) -> None:
        """An operation has run on values."""
        if _wanted.get() in ("nan", "inf") and _rule.get() is None:
            found = _born(y if p.several else (y,), xs)
            if found:
                raise DomainError(
                    f"debug_nans: `{p.name}` returned {found} at {here()}.{_operands(xs)}"
                )

    def clean(self, ct: Any) -> bool:
        """Whether a cotangent may still be blamed on the next contribution."""
        return _wanted.get() in ("nan", "inf") and not _flaw((ct,))

    def swept(
        self, p: Any, line: int, g: Any, kept: tuple[Any, ...], y: Any, cts: list[Any]
    ) -> None:
        """A rule of reverse mode has handed on its results."""
        if _wanted.get() in ("nan", "inf") and _rule.get() is None:
            found = _born(cts, [g, *kept, y])
            if found:
                self._refuse(p, found, origin_of(line), "reverse", "cotangent", g, kept, y)

    def pushed(self, p: Any, xs: tuple[Any, ...], ts: list[Any], dots: list[Any]) -> None:
        """A rule of forward mode has given a tangent."""
        if _wanted.get() in ("nan", "inf") and _rule.get() is None:
            found = _born(dots, (*ts, *xs))
            if found:
                self._refuse(p, found, here(), "forward", "tangent", ts, xs)

    def _refuse(
        self,
        p: Any,
        found: str,
        at: Origin,
        mode: str,
        name: str,
        given: Any,
        xs: Any,
        y: Any = None,
    ) -> None:
        of = "".join(f"the derivative of `{r}` in " for r in reversed(at.rules))
        where = (
            f"called at {at}"
            if at.file
            else "called at a line that was not recorded: it ran before debug_nans began"
        )
        parts = given if isinstance(given, list) else [given]
        shown = ", ".join(_summary(g) for g in parts if g is not None)
        text = (
            f"debug_nans: the derivative of `{p.name}` in {mode} mode, {of}{where}, is {found}. "
            f"The {name} is {shown}."
        )
        if xs:
            text += _operands(xs)
        if y is not None and not p.several:
            text += f" Its result: {_summary(y)}."
        raise DomainError(text)


watch = Watch()


# ------------------------------------------------------------------------------------------------ looking at values
def _values(xs: Any) -> Iterator[tuple[Any, Any]]:
    """The floating arrays among some values, with their namespace."""
    for x in xs:
        if isinstance(x, (list, tuple)):
            yield from _values(x)
            continue
        x = value_of(x)
        if x is None or isinstance(x, (Tracer, Aval)):
            continue
        if isinstance(x, (float, complex, np.ndarray, np.generic)):
            xp = np
        elif hasattr(x, "dtype") and hasattr(x, "shape"):
            xp = backend_of(x).xp
        else:
            continue
        if np.dtype(getattr(x, "dtype", type(x))).kind in "fc":
            yield x, xp


def _flaw(xs: Any) -> str:
    """``"NaN"``, ``"infinity"`` or ``""``: the worst among some values, as far as it is asked for."""
    worst = ""
    for x, xp in _values(xs):
        if bool(xp.all(xp.isfinite(x))):
            continue
        if bool(xp.any(xp.isnan(x))):
            return "NaN"
        if _wanted.get() == "inf":
            worst = "infinity"
    return worst


def _born(ys: Any, xs: Any) -> str:
    """What the results have and the operands have not; NaN may come from infinities."""
    found = _flaw(ys)
    if found and not any(bool(xp.any(xp.isnan(x))) for x, xp in _values(xs)):
        if found == "NaN" or not _flaw(xs):
            return found
    return ""


def _operands(xs: tuple[Any, ...]) -> str:
    shown = [f"{i}: {_summary(x)}" for i, x in enumerate(xs) if x is not None]
    what = "operands" if len(shown) > 1 else "operand"
    return f" Its {what}: {'; '.join(shown)}." if shown else ""


def _summary(x: Any) -> str:
    """Shape, range and what stands out of a value, in some words."""
    if isinstance(x, Aval):
        return f"{x!r}, not kept"
    x = value_of(x)
    if isinstance(x, Tracer):
        return f"{x.dtype}{list(x.shape)}, staged"
    if not hasattr(x, "dtype"):
        return repr(x)
    if x.dtype.kind not in "fc":
        return f"{x.dtype}{list(x.shape)}"
    xp = np if isinstance(x, (np.ndarray, np.generic)) else backend_of(x).xp
    if x.shape == ():
        return f"{x.dtype} {x.item()!r}"
    text = f"{x.dtype}{list(x.shape)}"
    size = xp.abs(x) if x.dtype.kind == "c" else x
    finite = size[xp.isfinite(size)]
    if finite.size:
        low, high = float(xp.min(finite)), float(xp.max(finite))
        text += f" in [{low:.6g}, {high:.6g}]"
    for what, mask in (
        ("0", x == 0),
        ("infinite", xp.isinf(x)),
        ("NaN", xp.isnan(x)),
    ):
        n = int(xp.sum(mask))
        if n:
            text += f", {n} {what}"
    return text
