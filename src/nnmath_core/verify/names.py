"""What the numbers of a check are called, and the line of Python that shows them again."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core._ext._tree import flatten
from nnmath_core.checks import describe
from nnmath_core.typing import Array
from nnmath_core.verify.compared import Compared
from nnmath_core.verify.numerical import complex_derivative
from nnmath_core.verify.record import Disagreement
from nnmath_core.verify.variables import VectorFunction

LITERAL = 12  # numbers of a point that are written out
MANY = 1000  # entries of an argument whose whole gradient is too much for a line


class Names:
    """Names of entries and outputs, lines to reproduce, and the witness of the complex step.

    Parameters
    ----------
    function : VectorFunction
    points : list of tuple
        The arguments at each point.
    whole : bool
        Whether the user's ``grad`` returns the gradient of the one argument, not a tuple.
    by_entry : bool, default False
        The outputs compared are entries of our gradient (second order), not outputs of ``f``.
    """

    def __init__(
        self,
        function: VectorFunction,
        points: list[tuple[Any, ...]],
        *,
        whole: bool,
        by_entry: bool = False,
    ) -> None:
        self.function, self.points, self.whole = function, points, whole
        self.by_entry = by_entry
        self.kept: Array | None = None  # which entries of the gradient, when not all

    def entry(self, i: int) -> tuple[str, tuple[int, ...]]:
        """Return leaf and index of an entry of the variables."""
        return self.function.variables.component(i)

    def output(self, c: Compared, r: int) -> tuple[str, tuple[int, ...] | None, str]:
        """Return argument, index and output of row ``r`` of a comparison."""
        if self.by_entry:
            name, index = self.entry(r if self.kept is None else int(self.kept[r]))
            return name, index, ""
        if c.weights is not None:
            return "", None, "a random sum of the outputs"
        return "", None, self.function.component(r)

    def witness(self, c: Compared, b: int, r: int, unit: float) -> float | None:
        """Return the derivative by the complex step; None where ``f`` takes no complex numbers."""
        if c.order != 1:
            return None
        try:
            with np.errstate(all="ignore"):
                found = complex_derivative(self.function, c.near.x, c.near.unit * c.direction(b))
        except Exception:  # whatever a function of real numbers says to complex ones
            return None
        value = float(c.weight(r) @ found) / unit
        return value if np.isfinite(value) else None

    def reproduce(self, d: Disagreement, c: Compared) -> str:
        """Return a line that prints the derivative under check and the differences."""
        args = self.points[d.point]
        p = _literal(args)
        if p is None:
            p = f"report.points[{d.point}]"
        own = f", {d.mode}={d.mode}" if d.mode in ("grad", "jvp") else ""
        modes = "" if own or d.order != 1 else f", modes=({d.mode!r},)"
        fallback = f"nm.check_grads(f, {p}, points=1, order={d.order}{own}{modes})"
        if c.entries is None or d.order != 1 or d.mode == "jvp" or not self._short(c, d):
            return fallback
        b = int(np.flatnonzero([self.entry(int(i)) == (d.argument, d.index) for i in c.entries])[0])
        leaf = int(np.searchsorted(self.function.variables.starts, c.entries[b], side="right")) - 1
        a, path = self.function.variables.places[leaf]
        place = path + (str(list(d.index)) if d.index else "")
        ours = {"rev": "nm.grad", "fwd": "nm.jacfwd"}
        if d.mode == "grad":
            given = "grad(*p)" + ("" if self.whole else f"[{a}]")
        else:
            given = f"{ours[d.mode]}(f, {a})(*p)"
        alone = len(args) == 1
        inner = "f" if alone else f"lambda v: f(*p[:{a}], v, *p[{a + 1}:])"
        return f"p = {p}; print({given}{place}, nm.numerical_gradient({inner}, p[{a}]){place})"

    def _short(self, c: Compared, d: Disagreement) -> bool:
        """Whether the argument consists of few variables and ``f`` is a scalar."""
        variables = self.function.variables
        if not self.function.scalar or c.entries is None:
            return False
        leaf = variables.names.index(d.argument)
        a = variables.places[leaf][0]
        mine = [i for i, (entry, _) in enumerate(variables.places) if entry == a]
        argument = variables.tree([variables.leaves[i] for i in variables.which])[a]
        size = sum(variables.sizes[i] for i in mine)
        return len(flatten(argument, True)[0]) == len(mine) and size <= MANY


def _literal(args: tuple[Any, ...]) -> str | None:
    """Arguments as Python, when they are few numbers and plain arrays."""
    parts, count = [], 0
    for x in args:
        if isinstance(x, np.ndarray):
            count += x.size
            kind = "" if x.dtype in (np.float64, np.int64) else f", np.{x.dtype}"
            parts.append(f"np.array({x.tolist()!r}{kind})")
        elif isinstance(x, bool | int | float) and not isinstance(x, np.generic):
            parts.append(repr(x))
        else:
            return None
        if count > LITERAL or (isinstance(x, np.ndarray) and x.size == 0):
            return None
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def name_of(f: Any) -> str:
    """What a message calls the function: its own name when it has one.

    Examples
    --------
    >>> name_of(np.sum), name_of(lambda x: x)
    ('sum', 'f')
    """
    text = describe(f)
    return text[1:-1] if text.startswith("`") and "<" not in text else "f"
