"""Tables of the documentation that are made from the package, as Markdown; each is named after its function.

Nothing here is written twice: the special points come from the declarations of the primitives, the
lists of functions from the tables through which NumPy's calls are dispatched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from refusals import GROUPS

import nnmath_core as nm
from nnmath_core._ext._autodiff import dispatch_tables
from nnmath_core.autodiff.advice import MISSING_ATTRIBUTES
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.device import Backend

__all__ = ["COMPOSED", "TABLES"]

COMPOSED = (
    (
        "clip at a bound: shared equally with the bound, as `maximum`",
        "np.clip(x, 0.0, 1.0).sum()",
        (0.0, 0.5),
        (0.5, 1.0),
    ),
    ("clip outside of the bounds: 0", "np.clip(x, 0.0, 1.0).sum()", (-1.0, 2.0), (0.0, 0.0)),
    (
        "sort with ties: the order is that of the positions, each entry keeps its own derivative",
        "np.sort(x) @ np.array([1.0, 10.0, 100.0])",
        (3.0, 1.0, 1.0),
        (100.0, 1.0, 10.0),
    ),
    (
        "ptp of equal entries: 0, the shares of maximum and minimum cancel",
        "np.ptp(x)",
        (1.0, 1.0),
        (0.0, 0.0),
    ),
    (
        "ptp with NaN: NaN there, although maximum and minimum both select it",
        "np.ptp(x)",
        (1.0, np.nan),
        (0.0, np.nan),
    ),
    ("prod with two zeros: 0 in all", "np.prod(x)", (0.0, 2.0, 0.0), (0.0, 0.0, 0.0)),
    (
        "cumprod with a zero: exact, nothing is divided by it",
        "np.cumprod(x).sum()",
        (0.0, 2.0, 3.0),
        (9.0, 0.0, 0.0),
    ),
    ("var of equal entries: 0", "np.var(x)", (2.0, 2.0), (0.0, 0.0)),
    (
        "std of equal entries: NaN, the root's inf times 0",
        "np.std(x)",
        (2.0, 2.0),
        (np.nan, np.nan),
    ),
    ("norm of order 1 at 0: 0 in that entry", "np.linalg.norm(x, 1)", (0.0, 2.0), (0.0, 1.0)),
    (
        "norm of order inf at a tie: shared equally",
        "np.linalg.norm(x, np.inf)",
        (2.0, -2.0),
        (0.5, -0.5),
    ),
    (
        "norm of another order than 1, 2, inf at 0: NaN",
        "np.linalg.norm(x, 3)",
        (0.0, 0.0),
        (np.nan, np.nan),
    ),
    (
        "remainder at a multiple: 1, as beside it on the right",
        "np.remainder(x, 1.0).sum()",
        (2.0, 2.5),
        (1.0, 1.0),
    ),
    (
        "round, floor, sign, comparisons, argmax: carry no derivative",
        "np.round(x).sum() + x[0]",
        (0.5,),
        (1.0,),
    ),
    (
        "tril, triu: 0 in the other triangle, whatever stands there",
        "np.tril(np.log(x)[None] * np.ones((2, 1)))[0].sum()",
        (1.0, 0.0),
        (1.0, 0.0),
    ),
    (
        "integer index that repeats: the derivatives add up",
        "x[[0, 0, 1]].sum()",
        (1.0, 2.0),
        (2.0, 1.0),
    ),
    (
        "at(x)[i].set with a repeated index: only the last value counts",
        "nm.at(x)[[0, 0]].set(np.array([1.0, 2.0]) * x[1]).sum()",
        (3.0, 5.0),
        (0.0, 3.0),
    ),
)
"""Points of functions made of several primitives: text, code, point, gradient. `tests/test_docs.py` runs them."""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _code(text: object) -> str:
    return f"`{text}`"


def _codes(texts: Iterable[object]) -> str:
    return ", ".join(map(_code, texts))


def _value(x: Any) -> str:
    return "none" if x is None else _code(x)


# ------------------------------------------------------------------------------- special points
def special_points() -> str:
    """Return all points at which a primitive's derivative is a convention or a limit."""
    return _table(
        ("primitive", "point and derivative", "at", "gradient of the sum"),
        (
            (
                _code(p.name),
                s.what,
                ", ".join(map(_value, s.operands)),
                ", ".join(map(_value, s.gradient)),
            )
            for p in REGISTRY.values()
            for s in p.special
        ),
    )


def composed_points() -> str:
    """Return the points of functions that are made of several primitives."""
    return _table(
        ("point and derivative", "function", "at", "gradient"),
        (
            (what, _code(code), _code(list(at)), _code(list(gradient)))
            for what, code, at, gradient in COMPOSED
        ),
    )


# ------------------------------------------------------------------------------------ primitives
def primitives() -> str:
    """Return all primitives and their facts."""

    def facts(p: Any) -> str:
        said = [
            name
            for name, true in (
                ("elementwise", p.elementwise),
                ("linear", p.linear),
                ("multilinear", p.multilinear and not p.linear),
                ("no derivative", not p.differentiable),
                ("several outputs", p.several),
                ("any number of operands", p.variadic),
                ("selects", p.selects is not None),
                ("carries masks", (p.elementwise and p.differentiable) or p.through is not None),
            )
            if true
        ]
        return ", ".join(said)

    def rules(p: Any) -> str:
        if not p.differentiable:
            return ""
        return (
            "one rule for both"
            if p.elementwise
            else " and ".join(n for n in ("vjp", "jvp") if getattr(p, n))
        )

    def device(p: Any) -> str:
        if not isinstance(p.forward, str):
            way = "array code over `cupy`"
        elif p.forward in Backend.operations:
            way = _code(f"CudaBackend.{p.forward}")
        else:
            special = p.forward.startswith("special.")
            way = _code(f"cupyx.scipy.{p.forward}" if special else f"cupy.{p.forward}")
        return f"{way}, {p.library}" if p.library else way

    return _table(
        ("primitive", "facts", "rules", "derivative exists", "on CUDA"),
        (
            (_code(p.name), facts(p), rules(p), p.domain if p.differentiable else "", device(p))
            for p in REGISTRY.values()
        ),
    )


# ------------------------------------------------------------------------------------- functions
def _spelled(f: Any) -> str:
    module = getattr(f, "__module__", "numpy") or "numpy"
    return (
        f"{module.replace('numpy', 'np', 1) if module != 'scipy.special' else module}.{f.__name__}"
    )


def traced_functions() -> str:
    """Return the functions that can be called on traced arrays, by the kind of their dispatch."""
    ufuncs, methods, functions = dispatch_tables()
    groups: dict[str, list[str]] = {"ufuncs": [_numpy_name(u) for u in ufuncs]}
    groups["methods of ufuncs"] = [f"{_numpy_name(u)}.{method}" for u, method in methods]
    for f in functions:
        groups.setdefault(_spelled(f).rpartition(".")[0], []).append(_spelled(f))
    groups["scipy.special"] = ["scipy.special.erf", "scipy.special.expit"]
    groups["nm.special"] = [f"nm.special.{name}" for name in nm.special.__all__]
    return "\n".join(
        f"**{group}**: {_codes(sorted(set(names)))}\n" for group, names in groups.items()
    )


def _numpy_name(ufunc: Any) -> str:
    return (
        f"np.{ufunc.__name__}"
        if getattr(np, ufunc.__name__, None) is ufunc
        else f"scipy.special.{ufunc.__name__}"
    )


def _dispatched(module: Any) -> dict[str, Any]:
    """Return the functions of a namespace that ask their arguments what to do, by name."""
    names = getattr(module, "__all__", dir(module))
    found = {name: getattr(module, name) for name in names}
    return {
        name: f
        for name, f in found.items()
        if isinstance(f, np.ufunc) or hasattr(f, "_implementation")
    }


def missing_functions() -> str:
    """Return NumPy's functions that have no rule here and say so when a traced array arrives."""
    ufuncs, _, functions = dispatch_tables()
    lines = []
    for module, spelled in ((np, "np"), (np.linalg, "np.linalg"), (np.fft, "np.fft")):
        missing = sorted(
            f"{spelled}.{name}"
            for name, f in _dispatched(module).items()
            if f not in ufuncs and f not in functions
        )
        lines.append(f"**{spelled}**: {_codes(missing)}\n")
    return "\n".join(lines)


def _public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def traced_methods() -> str:
    """Return the attributes and methods of `numpy.ndarray` that a traced array has."""
    has = _public(np.ndarray) & _public(nm.Tracer) - set(MISSING_ATTRIBUTES)
    return _codes(sorted(has)) + "\n"


def missing_methods() -> str:
    """Return the attributes and methods of `numpy.ndarray` that a traced array has not."""
    has = _public(nm.Tracer) - set(MISSING_ATTRIBUTES)
    return _codes(sorted(_public(np.ndarray) - has)) + "\n"


# -------------------------------------------------------------------------------------- refusals
def _refusals(group: str) -> Callable[[], str]:
    def table() -> str:
        rows = GROUPS[group]
        return _table(
            ("refused", "error", "write"),
            ((_code(r.bad), _code(r.error.__name__), _code(r.good)) for r in rows),
        )

    return table


TABLES: dict[str, Callable[[], str]] = {
    **{
        f.__name__: f
        for f in (special_points, composed_points, primitives, traced_functions, missing_functions)
    },
    **{f.__name__: f for f in (traced_methods, missing_methods)},
    **{f"refused_{group}": _refusals(group) for group in GROUPS},
}
"""What the directive ``table-of`` of the pages can show."""
