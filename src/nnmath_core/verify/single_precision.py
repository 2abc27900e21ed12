"""A Program in float32 beside the same in float64, equation by equation: where digits go."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core._ext._tree import flatten, unflatten
from nnmath_core.autodiff.origin import Origin
from nnmath_core.autodiff.watch import origin_of, watching
from nnmath_core.checks import require_callable, require_real
from nnmath_core.device import to_device
from nnmath_core.program import Equation, Program, stage
from nnmath_core.verify.casts import narrow, wide
from nnmath_core.verify.formulas import Formula, formulas_of
from nnmath_core.verify.graph import Graph
from nnmath_core.verify.precision_record import DIGITS, PrecisionReport, PrecisionRow
from nnmath_core.verify.variables import require_tuple

__all__ = ["precision_report"]

UNIT = 2.0**-24  # half an ulp of float32: the relative error of one rounding
LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).tiny)
JUMP = 30.0  # times the error of its operands: an equation that adds as much has lost the digits itself
NOISE = (
    2.0**22
)  # times its value in float64: float64, with 29 bits more, has lost all but two digits, too
END = ("overflows", "is infinite", "divides by nearly nothing", "is not a number")
SPARED = 50  # one entry in so many may be small by chance, as one of a matrix product, and keep fewer digits


def precision_report(
    f: Callable[..., Any], args: Sequence[Any], *, digits: float = 3.0
) -> PrecisionReport:
    """Run a function in float32 and in float64, and name the first operation that spoils the result.

    Parameters
    ----------
    f : callable
        Function of arrays or trees of arrays; a derivative, as ``nm.grad(loss)``, is one, too.
    args : tuple
        Its arguments. They are rounded to float32 first, so both runs begin with the same numbers.
    digits : float, default 3.0
        How many of float32's 7.2 decimal digits an output may lose.

    Returns
    -------
    PrecisionReport
        Prints itself: the first culprit with your line and the form to write, then the equations that lose something.

    Raises
    ------
    TraceError
        The function cannot be staged: Python control flow needs a value.
    TreeError
        ``args`` is no tuple.
    DomainError
        ``digits`` is not between 0 and 7.2.

    Notes
    -----
    ``f`` is staged; each equation then runs three times: in float64 throughout, in float32 throughout, and in float64
    on the operands of the float32 run. The last tells what an equation inherits from what it adds. Errors are relative
    to each entry, the smallest normal number at least; of an array of n entries the n / 50 worst are spared, which may
    be near 0 by chance. The culprit is found from the worst output backwards, along the operands that are as bad as
    their result: a difference of nearly equal numbers that later does no harm (as in the two passes of a variance) is
    listed and not blamed. Control flow (`cond`, `scan`, `while_loop`) is one equation. It says where digits go for
    these arguments, and proves nothing for others.

    Cost: three evaluations by definition; all arrays of both runs are kept.

    References
    ----------
    Higham, "Accuracy and stability of numerical algorithms", 2nd edition, 2002, chapters 1 and 3.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> def spread(x):
    ...     return np.mean(x**2) - np.mean(x) ** 2
    >>> report = nm.precision_report(spread, (2000.1 + np.arange(5.0),))
    >>> report.ok, report.culprit.name, report.culprit.verdict
    (False, 'subtract', 'loses digits')
    >>> print(report.culprit.advice)
    Instead of mean(x**2) - mean(x)**2 write np.var(x, axis=...), which takes two passes.
    >>> nm.precision_report(np.var, (2000.1 + np.arange(5.0),)).ok
    True
    """
    require_callable("precision_report", "f", f)
    args = require_tuple("precision_report", args)
    digits = require_real(
        "precision_report", "digits", digits, lambda d: 0.0 < d < DIGITS, f"in (0, {DIGITS})"
    )
    given, tree = flatten(to_device(args, "cpu"))
    leaves = [_array(x) for x in given]
    with watching("lines"), np.errstate(all="ignore"):
        rounded = [narrow(x) for x in leaves]
        program = stage(f, *unflatten(tree, [wide(x) for x in rounded]))
        run = _Run(program, leaves, rounded)
        run.equations()
        return _Reading(program, run, digits).report()


# ------------------------------------------------------------------------------------------------ both precisions
def _array(x: Any) -> Any:
    """A leaf as an array that `stage` takes."""
    return np.asarray(x) if isinstance(x, (float, complex)) else x


@dataclass
class _Error:
    """How a float32 value differs from that of float64."""

    relative: float  # infinite where only one of them is finite
    overflows: bool = False  # infinite in float32 alone
    vanishes: bool = False  # 0 in float32 alone
    infinite: bool = False  # not finite in float64, either
    worst: tuple[int, ...] | None = None


_NONE = _Error(0.0)


def _error(low: Any, high: Any, beside: float = 0.0) -> _Error:
    """Compare a value in float32 with the one in float64.

    With ``beside``, the size of the largest output, an entry that is noise in float64, too, counts relative to it.
    """
    low, high = np.asarray(low), np.asarray(high)
    if high.dtype.kind not in "fc" or not high.size:
        return _NONE
    low = low.astype(high.dtype)
    same = (low == high) | (np.isnan(low) & np.isnan(high))
    gap = np.abs(np.where(same, 0.0, low - high))
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(high), SMALLEST)
        if beside:
            size = np.where(gap >= NOISE * np.abs(high), np.maximum(size, beside), size)
        relative = gap / size
    relative = np.where(same, 0.0, np.where(np.isfinite(relative), relative, np.inf)).ravel()
    kth = relative.size - 1 - (0 if np.isinf(relative).any() else relative.size // SPARED)
    order = np.argpartition(relative, kth)
    at = int(order[kth])
    if not relative[at]:
        at = int(np.argmax(~np.isfinite(high).ravel()))
    return _Error(
        relative=float(relative[at]),
        overflows=bool((np.isinf(low) & np.isfinite(high)).any()),
        vanishes=bool(((low == 0) & (high != 0) & (np.abs(high) < SMALLEST)).any()),
        infinite=bool((~np.isfinite(high)).any()),
        worst=tuple(int(i) for i in np.unravel_index(at, high.shape)),
    )


class _Run:
    """The values of all variables in both precisions, and their errors."""

    def __init__(self, program: Program, leaves: list[Any], rounded: list[Any]) -> None:
        self.program = program
        self.low: dict[Any, Any] = dict(zip(program.inputs, rounded, strict=True))
        self.high: dict[Any, Any] = {v: wide(x) for v, x in self.low.items()}
        self.error: dict[Any, _Error] = {}
        self.fits = {
            v: bool(np.all(np.isfinite(x) | ~np.isfinite(leaf)))
            for (v, x), leaf in zip(self.low.items(), leaves, strict=True)
            if np.asarray(x).dtype.kind in "fc"
        }
        for v, x in program.constants.items():
            self.low[v] = narrow(np.asarray(x) if not hasattr(x, "dtype") else x)
            self.high[v] = wide(self.low[v])
        self.mixed: list[list[_Error]] = []  # of each equation and output: what it inherits

    def equations(self) -> None:
        """Run all equations in the three ways."""
        for e in self.program.equations:
            low, high = self._operands(e)
            many = len(e.outputs) > 1 or e.primitive.several
            ys = _outputs(_run(e, high, wide), many)
            if any(np.asarray(x).dtype.kind in "fc" for x in low):
                mixed = _outputs(_run(e, [wide(x) for x in low], wide), many)
                zs = _outputs(self._in_float32(e, low, mixed), many)
            else:  # made of integers, as random numbers are of their key: it is its rounding
                mixed, zs = ys, [narrow(y) for y in ys]
            self.mixed.append([_error(m, y) for m, y in zip(mixed, ys, strict=True)])
            for v, y, z in zip(e.outputs, ys, zs, strict=True):
                self.high[v], self.low[v] = y, narrow(z)
                self.error[v] = _error(self.low[v], y)

    def _operands(self, e: Equation) -> tuple[list[Any], list[Any]]:
        low = [self.low[x] if isinstance(x, Var) else narrow(x) for x in e.operands]
        high = [self.high[x] if isinstance(x, Var) else wide(narrow(x)) for x in e.operands]
        return low, high

    def _in_float32(self, e: Equation, low: list[Any], mixed: list[Any]) -> Any:
        if e.primitive.inline is None:
            return _run(e, low, narrow)
        try:  # arrays in a sub-program may be float64
            return _run(e, low, narrow)
        except Exception:
            return mixed if len(e.outputs) > 1 or e.primitive.several else mixed[0]


def _run(e: Equation, xs: list[Any], cast: Callable[[Any], Any]) -> Any:
    run = e.primitive if e.primitive.inline is None else e.primitive.inline
    return run(*xs, **{k: cast(p) for k, p in e.params.items()})


def _outputs(y: Any, many: bool) -> list[Any]:
    return list(y) if many else [y]


# ------------------------------------------------------------------------------------------------ who it was
class _Reading:
    """The rows of a run, and the first culprit."""

    def __init__(self, program: Program, run: _Run, digits: float) -> None:
        self.program, self.run, self.digits = program, run, digits
        self.graph = Graph(program)
        self.formulas = formulas_of(self.graph)
        self.allowed = UNIT * 10.0**digits
        self.maker = self.graph.maker

    def report(self) -> PrecisionReport:
        """The record."""
        rows = [self._row(k) for k in range(len(self.program.equations))]
        outside = [
            self._argument(i)
            for i, v in enumerate(self.program.inputs)
            if not self.run.fits.get(v, True)
        ]
        outputs = [v for v in self.program.outputs if isinstance(v, Var) and v in self.maker]
        self._judge(outputs)
        bad = [v for v in outputs if self._size(v) > self.allowed]
        worst = max((self._size(v) for v in outputs), default=0.0)
        culprit: PrecisionRow | None = None
        if bad:
            k = self._first(max(bad, key=self._size))
            culprit = rows[k] if k is not None else None
        if outside:
            culprit = outside[0]
        elif culprit is not None:
            verdict = culprit.verdict
            if verdict in ("ok", "inherits"):
                culprit = replace(culprit, verdict="loses digits")
            culprit = replace(culprit, advice=self._advice(culprit))
            rows[culprit.index] = culprit
        return PrecisionReport(
            ok=not bad and not outside,
            culprit=culprit,
            lost=DIGITS if outside else _digits(worst),
            digits=self.digits,
            rows=(*outside, *rows),
            name=self.program.name,
        )

    def _error_of(self, x: Any) -> _Error:
        return self.run.error.get(x, _NONE) if isinstance(x, Var) else _NONE

    def _judge(self, outputs: list[Any]) -> None:
        """Measure the outputs again, beside each other: a derivative that is 0 on paper is rounding in both runs."""
        highs = [self._high(v) for v in outputs]
        sizes = [np.max(np.abs(y), where=np.isfinite(y), initial=0.0) for y in highs]
        largest = float(max(sizes, default=0.0))
        for v in outputs:
            self.run.error[v] = _error(self.run.low[v], self.run.high[v], largest)

    def _size(self, v: Any) -> float:
        e = self._error_of(v)
        return math.inf if e.infinite and self._born(v) is not None else e.relative

    def _born(self, v: Any) -> int | None:
        """The equation that made the first infinity or NaN of float64 of finite numbers; None: an argument has it."""
        seen: set[Any] = set()
        while v in self.maker and v not in seen:
            seen.add(v)
            e = self.program.equations[self.maker[v]]
            odd = [x for x in e.operands if not np.all(np.isfinite(self._high(x)))]
            if not odd:
                return self.maker[v]
            v = next((x for x in odd if isinstance(x, Var)), None)
        return None

    def _high(self, x: Any) -> Any:
        y = np.asarray(self.run.high[x] if isinstance(x, Var) else x)
        return y if y.dtype.kind in "fc" else np.zeros(())

    def _first(self, v: Any) -> int | None:
        """The first equation that spoils a value, on the way back along its worst operands."""
        if self._error_of(v).relative <= self.allowed:
            return self._born(v)
        path: list[tuple[int, float]] = []
        while v in self.maker:
            k = self.maker[v]
            e = self.program.equations[k]
            mine = self._error_of(v).relative
            operands = [x for x in e.operands if isinstance(x, Var)]
            x = max(operands, key=lambda x: self._error_of(x).relative, default=None)
            theirs = self._error_of(x).relative if x is not None else 0.0
            gone = [x for x in operands if self._error_of(x).vanishes]
            if theirs <= self.allowed and gone:
                return self._vanished(gone[0])
            path.append((k, mine / max(theirs, UNIT)))
            if self._verdict(k) in END and theirs <= self.allowed:
                return k
            if theirs <= 8 * UNIT:
                break
            v = x
        jumps = [k for k, factor in path if factor >= JUMP]
        if jumps:
            return jumps[-1]
        return max(path, key=lambda p: p[1])[0] if path else None

    def _vanished(self, v: Any) -> int:
        """The equation at which a value fell below float32."""
        while True:
            k = self.maker[v]
            before = [
                x
                for x in self.program.equations[k].operands
                if isinstance(x, Var) and x in self.maker and self._error_of(x).vanishes
            ]
            if before:
                v = before[0]
                continue
            broken = [x for x in self.program.equations[k].operands if self._size(x) == math.inf]
            first = self._first(broken[0]) if broken else None
            return k if first is None else first

    # -------------------------------------------------------------------------------- rows
    def _verdict(self, k: int) -> str:
        """What an equation does itself."""
        e = self.program.equations[k]
        xs = [np.asarray(self.run.low[x] if isinstance(x, Var) else x) for x in e.operands]
        xs = [x for x in xs if x.dtype.kind in "fc"]
        finite = all(bool(np.isfinite(x).all()) for x in xs)
        errors = [self._error_of(v) for v in e.outputs]
        ys = [np.asarray(self.run.low[v]) for v in e.outputs]
        ys = [y for y in ys if y.dtype.kind in "fc"]
        theirs = max((self._error_of(x).relative for x in e.operands), default=0.0)
        mine = max((d.relative for d in errors), default=0.0)
        if any(bool(np.isnan(y).any()) for y in ys) and not any(np.isnan(x).any() for x in xs):
            nothing = self._divisor_vanishes(e) and finite
            return "divides by nearly nothing" if nothing else "is not a number"
        if finite and any(bool(np.isinf(y).any()) for y in ys):
            if self._divisor_vanishes(e):
                return "divides by nearly nothing"
            return "overflows" if any(d.overflows for d in errors) else "is infinite"
        if any(d.vanishes for d in errors) and not any(
            self._error_of(x).vanishes for x in e.operands
        ):
            return "underflows"
        if mine >= JUMP * max(theirs, UNIT) and theirs < math.inf:
            return "loses digits"
        return "inherits" if mine > self.allowed else "ok"

    def _divisor_vanishes(self, e: Equation) -> bool:
        if e.primitive.name not in ("divide", "reciprocal", "divided_times"):
            return False
        y = e.operands[0 if e.primitive.name == "reciprocal" else 1]
        low = np.asarray(self.run.low[y] if isinstance(y, Var) else y)
        return bool((np.abs(low) < 1.0 / math.sqrt(LARGEST)).any())

    def _row(self, k: int) -> PrecisionRow:
        e = self.program.equations[k]
        at = origin_of(self.program.line_of(k))
        errors = [self._error_of(v) for v in e.outputs]
        worst = max(range(len(errors)), key=lambda i: errors[i].relative, default=0)
        verdict = self._verdict(k)
        row = PrecisionRow(
            index=k,
            name=e.primitive.name + "".join(f", derivative of {r}" for r in at.rules),
            line=at.line,
            source=at.source,
            lost=_digits(errors[worst].relative),
            inherited=_digits(max(d.relative for d in self.run.mixed[k])),
            verdict=verdict,
            example=self._example(e, e.outputs[worst], errors[worst], verdict)
            if verdict != "ok"
            else "",
            advice="",
        )
        return row if verdict == "ok" else replace(row, advice=self._advice(row))

    def _argument(self, i: int) -> PrecisionRow:
        return PrecisionRow(
            index=-1,
            name=f"argument leaf {i}",
            line="",
            source="",
            lost=DIGITS,
            inherited=0.0,
            verdict="overflows",
            example=f"An entry is larger than float32 holds, {LARGEST:.3g}.",
            advice="Scale it, or keep it in float64.",
        )

    def _example(self, e: Equation, out: Var, error: _Error, verdict: str) -> str:
        """The worst entry: operands, float32, float64."""
        low, high = np.asarray(self.run.low[out]), np.asarray(self.run.high[out])
        if error.worst is None or low.shape != high.shape:
            return ""
        at = error.worst
        gone = (low == 0) & (high != 0) & (np.abs(high) < SMALLEST)
        if verdict == "underflows" and gone.any():
            at = tuple(int(i) for i in np.unravel_index(int(np.argmax(gone)), low.shape))
        place = f" at {list(at)}" if at else ""
        values = f"{low[at]:.8g} in float32, {high[at]:.8g} in float64"
        if not e.primitive.elementwise:
            return f"Its result{place}: {values}."
        xs = [np.asarray(self.run.low[x] if isinstance(x, Var) else x) for x in e.operands]
        entries = [np.broadcast_to(x, low.shape)[at] for x in xs]
        return f"{e.primitive.name}({', '.join(f'{x:.9g}' for x in entries)}){place}: {values}."

    # -------------------------------------------------------------------------------- advice
    def _advice(self, row: PrecisionRow) -> str:
        found = self._formula(row.index)
        if found is not None:
            return f"Instead of {found.what} write {found.instead}."
        if self.program.equations[row.index].primitive.inline is not None:
            return "It is one equation here. Look inside: nm.precision_report of its branch or step alone."
        return {
            "overflows": "The result is beyond 3.4e38. Keep its logarithm, or scale the operands.",
            "underflows": "The result is below 1.2e-38. Keep its logarithm, or scale the operands.",
            "is infinite": "It is so in float64, too: the argument is a pole. Choose it with np.where before.",
            "divides by nearly nothing": "Where the divisor may vanish write nm.special.safe_divide(x, y, fill=...).",
            "is not a number": "An operand is outside of the domain. Choose the argument with np.where before.",
            "loses digits": "Nearly equal numbers meet here. Write the difference so that it is formed of exact "
            "numbers, or compute this line in float64: x.astype(np.float64).",
        }.get(row.verdict, "")

    def _formula(self, k: int) -> Formula | None:
        """The largest formula that an equation belongs to; of a derivative, that of the operation itself."""
        for f in self.formulas:
            if k in f.members:
                return f
        at = origin_of(self.program.line_of(k))
        if not at.rules:
            return None
        of = Origin(at.file, at.number, at.function, at.rules[:-1])
        for f in self.formulas:
            for i in f.members:
                same = origin_of(self.program.line_of(i)) == of
                if same and self.program.equations[i].primitive.name == at.rules[-1]:
                    return f
        lines = [
            {origin_of(self.program.line_of(i)).line for i in f.members} for f in self.formulas
        ]
        return next((f for f, on in zip(self.formulas, lines, strict=True) if at.line in on), None)


def _digits(relative: float) -> float:
    """Decimal digits lost, of 7.2."""
    return min(DIGITS, max(0.0, math.log10(relative / UNIT))) if relative > 0 else 0.0
