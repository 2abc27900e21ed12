"""Formulas that lose digits or overflow, as they stand in a Program, and what to write in their place.

Each recogniser looks at one equation, the last of its formula. Formulas are recognised in the graph of operations, so
it does not matter how they were written: ``x ** 2``, ``x * x`` and ``np.square(x)`` are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nnmath_core.program import Equation
from nnmath_core.verify.graph import Graph

__all__ = ["Formula", "formulas_of"]


@dataclass(frozen=True)
class Formula:
    """A formula that was recognised.

    Attributes
    ----------
    what : str
        The formula.
    instead : str
        What to write.
    members : frozenset of int
        The equations that belong to it.
    """

    what: str
    instead: str
    members: frozenset[int]


_Found = tuple[str, str, int] | None
"""The formula, what to write, and over how many operations it reaches back from its last."""
_RECOGNISERS: dict[str, Callable[[Graph, Equation], _Found]] = {}
_INNER = frozenset(
    "add subtract multiply divide negative exp expm1 log sum square power sqrt cos sin expit max tanh prod "
    "cosh reciprocal softmax erf ndtr gamma det contract absolute erfc".split()
)


def formulas_of(graph: Graph) -> list[Formula]:
    """All formulas in a program that have a better form; the largest ones first."""
    found = []
    for k, e in enumerate(graph.equations):
        name = e.primitive.name
        recognise = _RECOGNISERS.get(name)
        said = recognise(graph, e) if recognise is not None else None
        if said is not None:
            what, instead, depth = said
            members = frozenset(graph.between(k, _INNER, depth))
            found.append(Formula(what, instead, members))
    return sorted(found, key=lambda f: -len(f.members))


def _last(*names: str) -> Callable[[Any], Any]:
    """Register the recogniser of formulas that end with these operations."""

    def register(f: Callable[[Graph, Equation], _Found]) -> Any:
        _RECOGNISERS.update(dict.fromkeys(names, f))
        return f

    return register


# ------------------------------------------------------------------------------------------------ logarithms
_LOG_OF = {
    "prod": ("log(prod(x))", "np.sum(np.log(x))"),
    "cosh": ("log(cosh(x))", "np.logaddexp(x, -x) - np.log(2.0)"),
    "gamma": ("log(gamma(x))", "nm.special.gammaln(x)"),
    "det": ("log(det(a))", "np.linalg.slogdet(a)[1]"),
    "ndtr": ("log(ndtr(x))", "nm.special.log_ndtr(x)"),
    "erfc": ("log(erfc(x))", "nm.special.log_ndtr(-np.sqrt(2.0) * x) + np.log(2.0)"),
    "softmax": ("log(softmax(x))", "nm.special.log_softmax(x, axis=...)"),
}


@_last("log")
def _log(g: Graph, e: Equation) -> _Found:
    (a,) = e.operands
    if g.softmax(a) is not None:
        return "log(exp(x) / sum(exp(x)))", "nm.special.log_softmax(x, axis=...)", 4
    if g.argument(g.total(a), "exp") is not None:
        return "log(sum(exp(x)))", "nm.special.logsumexp(x, axis=...)", 3
    if g.logistic(a) is not None:
        return "log(sigmoid(x))", "nm.nn.log_sigmoid(x)", 4
    rest = g.one_minus(a)
    if rest is not None and g.logistic(rest) is not None:
        return "log(1 - sigmoid(x))", "nm.nn.log_sigmoid(-x)", 5
    if g.argument(g.one_plus(a), "exp") is not None:
        return "log(1 + exp(x))", "nm.special.log1pexp(x)", 2
    if rest is not None and g.argument(rest, "exp") is not None:
        return "log(1 - exp(x))", "nm.special.log1mexp(x)", 3
    if g.argument(g.negated(a), "expm1") is not None:
        return "log(-expm1(x))", "nm.special.log1mexp(x)", 2
    for name, both, instead in (
        ("add", "log(exp(x) + exp(y))", "np.logaddexp(x, y)"),
        ("subtract", "log(exp(x) - exp(y))", "nm.special.logsubexp(x, y)"),
    ):
        found = g.pair(a, name)
        if found is not None and all(g.argument(u, "exp") is not None for u in found):
            return both, instead, 2
    if rest is not None:
        return "log(1 - x)", "np.log1p(-x)", 1
    if g.one_plus(a) is not None:
        return "log(1 + x)", "np.log1p(x)", 1
    inner = g.made_by(a, *_LOG_OF)
    if inner is not None:
        return (*_LOG_OF[inner.primitive.name], 1)
    if g.argument(a, "exp") is not None:
        return "log(exp(x))", "x", 1
    found = g.pair(a, "divide")
    if found is not None and g.number(found[0]) is None:
        return "log(x / y)", "np.log(x) - np.log(y)", 1
    return None


@_last("log1p")
def _log1p(g: Graph, e: Equation) -> _Found:
    (a,) = e.operands
    if g.argument(a, "exp") is not None:
        return "log1p(exp(x))", "nm.special.log1pexp(x)", 1
    if g.argument(g.negated(a), "exp") is not None:
        return "log1p(-exp(x))", "nm.special.log1mexp(x)", 2
    return None


# ------------------------------------------------------------------------------------------------ differences
@_last("subtract")
def _subtract(g: Graph, e: Equation) -> _Found:
    a, b = e.operands
    mean, of_square = g.squared(b), g.squared(g.total(a))
    if mean is not None and of_square is not None and g.total(mean) is not None:
        return "mean(x**2) - mean(x)**2", "np.var(x, axis=...), which takes two passes", 3
    if g.argument(a, "exp") is not None:
        if g.number(b) == 1.0:
            return "exp(x) - 1", "np.expm1(x)", 1
        if g.argument(b, "exp") is not None:
            u, v = g.argument(a, "exp"), g.argument(b, "exp")
            if g.same(g.negated(v), u):
                return "exp(x) - exp(-x)", "2.0 * np.sinh(x)", 2
            return "exp(x) - exp(y)", "np.exp(y) * np.expm1(x - y)", 1
    if g.argument(b, "cos") is not None and g.number(a) == 1.0:
        return "1 - cos(x)", "2.0 * np.sin(x / 2) ** 2", 2
    if g.argument(a, "cos") is not None and g.number(b) == 1.0:
        return "cos(x) - 1", "-2.0 * np.sin(x / 2) ** 2", 1
    if g.rooted(a) is not None and g.rooted(b) is not None:
        return "sqrt(x) - sqrt(y)", "(x - y) / (np.sqrt(x) + np.sqrt(y)), with x - y by hand", 1
    if g.number(a) == 1.0:
        said = _one_minus(g, b)
        if said is not None:
            return said
    if g.rooted(a) is not None and g.number(b) == 1.0 and g.one_plus(g.rooted(a)) is not None:
        return "sqrt(1 + x) - 1", "x / (np.sqrt(1.0 + x) + 1.0)", 2
    if g.rooted(a) is not None and _is_quadratic(g, g.rooted(a), b):
        return "sqrt(b**2 - c) - b", "-c / (np.sqrt(b**2 - c) + b)", 3
    if g.argument(a, "log") is not None and g.argument(b, "log") is not None:
        return "log(x) - log(y)", "np.log1p((x - y) / y) where x is near y", 1
    if g.total(b) is not None and g.same(g.total(b), a):
        return (
            "x - mean(x) of numbers that are large beside their spread",
            "nm.nn.layer_norm(x); or d = x - x[..., :1], which is nearly exact, and d - np.mean(d, ...)",
            2,
        )
    if g.squared(a) is not None and g.squared(b) is not None:
        return "x**2 - y**2", "(x - y) * (x + y)", 1
    return None


def _one_minus(g: Graph, b: Any) -> _Found:
    if g.argument(b, "exp") is not None:
        return "1 - exp(x)", "-np.expm1(x)", 1
    if g.argument(g.squared(b), "tanh") is not None:
        return "1 - tanh(x)**2", "1.0 / np.cosh(x) ** 2", 2
    if g.logistic(b) is not None:
        return "1 - sigmoid(x)", "nm.special.expit(-x)", 4
    if g.argument(b, "erf") is not None:
        return "1 - erf(x)", "nm.special.erfc(x)", 1
    if g.argument(b, "ndtr") is not None:
        return "1 - ndtr(x)", "nm.special.ndtr(-x)", 1
    if g.squared(b) is not None:
        return "1 - x**2", "(1.0 - x) * (1.0 + x)", 1
    return None


def _is_quadratic(g: Graph, under: Any, b: Any) -> bool:
    """Whether something is ``b**2 - c`` or ``b**2 + c``."""
    for name in ("subtract", "add"):
        found = g.pair(under, name)
        if found is not None and g.squared(found[0]) is not None and g.same(g.squared(found[0]), b):
            return True
    return False


@_last("add")
def _add(g: Graph, e: Equation) -> _Found:
    for a, b in (e.operands, e.operands[::-1]):
        b_negated = g.negated(a)
        if b_negated is not None and g.rooted(b) is not None:
            if _is_quadratic(g, g.rooted(b), b_negated):
                return "-b + sqrt(b**2 - c)", "-c / (b + np.sqrt(b**2 - c))", 3
        if g.number(a) == -1.0 and g.argument(b, "exp") is not None:
            return "exp(x) - 1", "np.expm1(x)", 1
        if g.number(a) == 1.0 and g.argument(g.negated(b), "cos") is not None:
            return "1 - cos(x)", "2.0 * np.sin(x / 2) ** 2", 2
    return None


# ------------------------------------------------------------------------------------------------ roots, quotients
@_last("sqrt", "power")
def _root(g: Graph, e: Equation) -> _Found:
    a = g.rooted(e.outputs[0])
    if a is None:
        return None
    found = g.pair(a, "add")
    if found is not None and all(g.squared(u) is not None for u in found):
        return "sqrt(x**2 + y**2)", "np.hypot(x, y)", 2
    if g.squared(g.total(a)) is not None:
        if g.argument(a, "sum") is None:
            return "sqrt(mean(x**2))", "np.linalg.norm(x) / np.sqrt(x.size)", 3
        return "sqrt(sum(x**2))", "np.linalg.norm(x, axis=...)", 2
    e_inner = g.made_by(a, "contract")
    if e_inner is not None and g.same(*e_inner.operands[:2]):
        return "sqrt(x @ x)", "np.linalg.norm(x)", 1
    return None


@_last("divide")
def _divide(g: Graph, e: Equation) -> _Found:
    a, b = e.operands
    if g.softmax(e.outputs[0]) is not None:
        return "exp(x) / sum(exp(x))", "nm.special.softmax(x, axis=...)", 3
    if g.logistic(e.outputs[0]) is not None:
        return "1 / (1 + exp(-x))", "nm.special.expit(x)", 3
    found = g.pair(a, "subtract")
    if found is not None and g.number(found[1]) == 1.0:
        u = g.argument(found[0], "exp")
        if u is not None and g.same(u, b):
            return "(exp(x) - 1) / x", "nm.special.exprel(x)", 2
    if g.argument(a, "expm1") is not None and g.same(g.argument(a, "expm1"), b):
        return "expm1(x) / x", "nm.special.exprel(x)", 1
    if g.argument(a, "sin") is not None and g.same(g.argument(a, "sin"), b):
        return "sin(x) / x", "np.sinc(x / np.pi)", 1
    if _is_tanh(g, a, b):
        return "(exp(x) - exp(-x)) / (exp(x) + exp(-x))", "np.tanh(x)", 3
    added = g.pair(b, "add")
    if added is not None and any(0 < abs(g.number(c) or 0.0) <= 1e-3 for c in added):
        return (
            "x / (y + eps)",
            "nm.special.safe_divide(x, y); or an eps that float32 holds beside y, "
            "which changes all other quotients, too",
            1,
        )
    return None


def _is_tanh(g: Graph, a: Any, b: Any) -> bool:
    above, below = g.pair(a, "subtract"), g.pair(b, "add")
    return (
        above is not None
        and below is not None
        and all(g.argument(u, "exp") is not None for u in (*above, *below))
        and g.same(above[0], below[0])
        and g.same(above[1], below[1])
    )


@_last("arccos", "arcsin")
def _angle(g: Graph, e: Equation) -> _Found:
    return (
        f"{e.primitive.name} of a cosine near 1",
        "np.arctan2(norm of the difference, norm of the sum) * 2 of unit vectors",
        0,
    )
