"""Tables of the documentation that are made from the package, as Markdown; each is named after its function.

Nothing here is written twice: the special points come from the declarations of the primitives, the
lists of functions from the tables through which NumPy's calls are dispatched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any

import bad_compile
import bad_input as bad
import bad_networks
import cuda_table
import numpy as np
from function_list import ELSEWHERE, HEAD, NAMESPACES, on_cuda, rows
from refusals import GROUPS

import nnmath_core as nm
from nnmath_core._ext._autodiff import dispatch_tables
from nnmath_core.autodiff.advice import MISSING_ATTRIBUTES
from nnmath_core.autodiff.primitive import REGISTRY

__all__ = ["COMPOSED", "TABLES"]

COMPOSED = (
    (
        "laplace_nll at its target: 0, as `abs`",
        "nm.nn.laplace_nll(x, np.zeros_like(x)).sum()",
        (-1.0, 0.0, 1.0),
        (-1.0, 0.0, 1.0),
    ),
    (
        "quantile at its target: the mean of both sides",
        "nm.nn.quantile(x, np.zeros_like(x), level=0.25).sum()",
        (-1.0, 0.0, 1.0),
        (-0.25, 0.25, 0.75),
    ),
    (
        "hinge at its margin: 0, as `relu`",
        "nm.nn.hinge(x, np.ones_like(x)).sum()",
        (1.0, 0.5),
        (0.0, -1.0),
    ),
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
    (
        "max_pool at a tie: shared equally in each window; PyTorch's goes to the first",
        "nm.nn.max_pool(x[:, None], (2,), stride=1).sum()",
        (2.0, 2.0, 2.0),
        (0.5, 1.0, 0.5),
    ),
    (
        "attention of a query that may attend to nothing: the value and the derivative are 0",
        "nm.nn.attention(x[:, None], x[:, None], x[:, None], mask=np.array([[True], [False]]))[1].sum()",
        (1.0, 2.0),
        (0.0, 0.0),
    ),
    ("prod with two zeros: 0 in all", "np.prod(x)", (0.0, 2.0, 0.0), (0.0, 0.0, 0.0)),
    (
        "cumprod with a zero: exact, nothing is divided by it",
        "np.cumprod(x).sum()",
        (0.0, 2.0, 3.0),
        (9.0, 0.0, 0.0),
    ),
    ("log1mexp at 0: -inf, the limit", "nm.special.log1mexp(x[0])", (0.0,), (-np.inf,)),
    (
        "logsubexp with x2 = -inf, the logarithm of 0: 1 and 0",
        "nm.special.logsubexp(x[0], x[1])",
        (2.0, -np.inf),
        (1.0, 0.0),
    ),
    (
        "logsubexp with -inf in both: 1 and 0",
        "nm.special.logsubexp(x[0], x[1])",
        (-np.inf, -np.inf),
        (1.0, 0.0),
    ),
    (
        "logsubexp of equal arguments: inf and -inf, the limits",
        "nm.special.logsubexp(x[0], x[1])",
        (2.0, 2.0),
        (np.inf, -np.inf),
    ),
    (
        "safe_divide where the divisor is 0: 0 in both",
        "nm.special.safe_divide(x[0], x[1])",
        (1.0, 0.0),
        (0.0, 0.0),
    ),
    ("var of equal entries: 0", "np.var(x)", (2.0, 2.0), (0.0, 0.0)),
    (
        "std of equal entries: NaN, the root's inf times 0",
        "np.std(x)",
        (2.0, 2.0),
        (np.nan, np.nan),
    ),
    (
        "irfft, imaginary parts at frequency 0 and n/2: 0, they are not read",
        "np.fft.irfft(1j * x) @ np.array([1.0, 2.0, 3.0, 5.0])",
        (2.0, 3.0, 4.0),
        (0.0, 1.5, 0.0),
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
        "fmax, fmin: a tie is shared equally, at NaN the derivative is 0",
        "np.fmax(x, np.array([1.0, np.nan, 3.0])).sum()",
        (1.0, 2.0, np.nan),
        (0.5, 1.0, 0.0),
    ),
    (
        "copysign at 0: 0, as the absolute value",
        "np.copysign(x, -1.0).sum()",
        (0.0, 2.0),
        (0.0, -1.0),
    ),
    (
        "heaviside: 0 in its first operand; where that is 0, 1 in the second one",
        "np.heaviside(x[0], x[1])",
        (0.0, 0.5),
        (0.0, 1.0),
    ),
    (
        "modf at a whole number: 1 in the fractional part, as beside it",
        "np.modf(x)[0].sum()",
        (2.0, -1.5),
        (1.0, 1.0),
    ),
    (
        "nan_to_num: 0 in what is replaced",
        "np.nan_to_num(x, posinf=9.0).sum()",
        (np.nan, np.inf, 1.0),
        (0.0, 0.0, 1.0),
    ),
    (
        "nansum, nanmean, nanmax, ...: exactly 0 at NaN",
        "np.nanmean(x) + np.nanmax(x)",
        (1.0, np.nan, 2.0),
        (0.5, 0.0, 1.5),
    ),
    (
        "nanmean, nanvar, nanmax, ... of nothing but NaN: NaN, with derivative 0",
        "np.nanmean(x) + np.nanmax(x)",
        (np.nan, np.nan),
        (0.0, 0.0),
    ),
    (
        "median: half to each of two in the middle, by their place in the stable sorted order",
        "np.median(x)",
        (2.0, 1.0, 1.0, 1.0),
        (0.0, 0.0, 0.5, 0.5),
    ),
    (
        "quantile: shared between the two neighbours, which may be equal",
        "np.quantile(x, 0.25)",
        (3.0, 1.0, 1.0),
        (0.0, 0.5, 0.5),
    ),
    (
        "median, quantile, percentile with NaN, which they return: 1 there",
        "np.quantile(x, 0.5)",
        (1.0, np.nan, 2.0),
        (0.0, 1.0, 0.0),
    ),
    (
        "interp at a knot: the slope on its right, at the last knot that on its left; outside 0",
        "np.interp(x, [0.0, 1.0, 3.0], [0.0, 2.0, 3.0]).sum()",
        (1.0, 3.0, 4.0),
        (0.5, 0.5, 0.0),
    ),
    (
        "maximum.accumulate, minimum.accumulate at a tie: the entry that came first",
        "np.maximum.accumulate(x).sum()",
        (1.0, 1.0, 0.5),
        (3.0, 0.0, 0.0),
    ),
    (
        "unique, union1d, ...: of equal entries the first one",
        "np.unique(x).sum()",
        (2.0, 1.0, 2.0),
        (1.0, 1.0, 0.0),
    ),
    (
        "histogram, bincount: the counts are linear in the weights and carry no derivative in the data",
        "np.histogram([0.2, 0.3, 2.0], [0, 1, 3], weights=x)[0] @ np.array([1.0, 10.0])",
        (5.0, 6.0, 7.0),
        (1.0, 1.0, 10.0),
    ),
    (
        "round, floor, sign, comparisons, argmax: carry no derivative",
        "np.round(x).sum() + x[0]",
        (0.5,),
        (1.0,),
    ),
    (
        "pad by the maximum at a tie: the entries share the derivative of what is added",
        "np.pad(x, 1, 'maximum').sum()",
        (1.0, 1.0),
        (2.0, 2.0),
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
    (
        "layer_norm, batch_norm, ... of equal entries with eps = 0: 0, as the direction of the vector 0",
        "nm.nn.layer_norm(x, eps=0.0) @ np.array([1.0, 2.0, 4.0])",
        (2.0, 2.0, 2.0),
        (0.0, 0.0, 0.0),
    ),
    (
        "rms_norm, weight_norm at 0 with eps = 0: 0, as the norm",
        "nm.nn.rms_norm(x, eps=0.0) @ np.array([1.0, 2.0])",
        (0.0, 0.0),
        (0.0, 0.0),
    ),
    (
        "leaky_relu, elu, selu at 0: the slope on the left",
        "nm.nn.leaky_relu(x[0]) + nm.nn.elu(x[1], alpha=0.5)",
        (0.0, 0.0),
        (0.01, 0.5),
    ),
    (
        "relu6, hard_tanh, hard_sigmoid at the ends of their slope: 0",
        "nm.nn.relu6(x[:2]).sum() + nm.nn.hard_tanh(x[2])",
        (0.0, 6.0, 1.0),
        (0.0, 0.0, 0.0),
    ),
    (
        "hard_swish at -3 and 3: as outside, 0 and 1",
        "nm.nn.hard_swish(x).sum()",
        (-3.0, 3.0),
        (0.0, 1.0),
    ),
    (
        "dropout: exactly 0 in what is dropped, NaN included",
        "nm.nn.dropout(x, 0.5, nm.random.key(0)).sum()",
        (np.nan, 1.0, 2.0, 3.0),
        (0.0, 2.0, 2.0, 2.0),
    ),
    (
        "ctc of labels that no path reads: 0, the value is inf",
        "nm.nn.ctc(x.reshape(1, 3), np.array([1, 2]))",
        (0.5, 1.0, 2.0),
        (0.0, 0.0, 0.0),
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


# ---------------------------------------------------------------------------------------- losses
def losses() -> str:
    """Return what each loss assumes."""
    found = [(name, getattr(nm.nn, name)) for name in nm.nn.__all__]
    return _table(
        ("loss", "likelihood", "link", "unit", "`full=True` adds", "options"),
        (
            (
                _code(name),
                loss.likelihood or "none",
                loss.link,
                loss.unit,
                loss.constant if loss.likelihood else "",
                _codes([f.name for f in fields(loss) if f.name not in ("reduction", "full")]),
            )
            for name, loss in found
            if isinstance(loss, nm.nn.Loss)
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

    return _table(
        ("primitive", "facts", "rules", "derivative exists", "on CUDA"),
        (
            (_code(p.name), facts(p), rules(p), p.domain if p.differentiable else "", on_cuda(p))
            for p in REGISTRY.values()
        ),
    )


def cuda_libraries() -> str:
    """Return the primitives whose CuPy implementation enters a library, by library."""
    without = {
        "cusolver": "SciPy's LAPACK behind cuSOLVER's functions",
        "cufft": "sums of the definition behind cuFFT's functions",
        "cusparse": "loops over the entries behind cuSPARSE's functions",
        "absent": "not run: CuPy has no implementation, and the device says so",
    }
    return _table(
        ("declared", "without a GPU", "primitives"),
        (
            (_code(library), how, ", ".join(_code(p.name) for p in found))
            for library, how in without.items()
            if (found := [p for p in REGISTRY.values() if p.library == library])
        ),
    )


def cuda_primitives() -> str:
    """Return what each primitive is on CUDA, and what has checked it."""
    return _table(cuda_table.HEAD, cuda_table.primitive_rows())


def cuda_operations() -> str:
    """Return the same of the operations of the backend, optimizer steps among them."""
    return _table(cuda_table.HEAD, cuda_table.operation_rows())


def cuda_kernels() -> str:
    """Return our kernels and what launches them."""
    return _table(("kernel", "launched by"), cuda_table.kernel_rows())


def gpu_runs() -> str:
    """Return the recorded runs on GPUs."""
    return _table(
        ("called", "device", "date", "CuPy", "tests passed", "primitives"),
        (
            (
                r["short"],
                r["device"],
                r["date"],
                r["cupy"],
                f"{r['passed']:,}",
                str(len(r["primitives"])),
            )
            for r in cuda_table.RUNS
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
    groups: dict[str, list[str]] = {"ufuncs": [], "scipy.special": []}
    for name in map(_numpy_name, ufuncs):
        groups["ufuncs" if name.startswith("np.") else "scipy.special"].append(name)
    groups["methods of ufuncs"] = [f"{_numpy_name(u)}.{method}" for u, method in methods]
    for f in functions:
        groups.setdefault(_spelled(f).rpartition(".")[0], []).append(_spelled(f))
    groups["nm.special"] = [f"nm.special.{name}" for name in nm.special.__all__]
    groups["nm.linalg"] = [
        f"nm.linalg.{name}" for name in nm.linalg.__all__ if name != "LinAlgError"
    ]
    groups["nm.signal"] = [f"nm.signal.{name}" for name in nm.signal.__all__]
    return "\n".join(
        f"**{group}**: {_codes(sorted(set(names)))}\n" for group, names in groups.items()
    )


def _function_list(space: str) -> Callable[[], str]:
    return lambda: _table(HEAD, rows(space, COMPOSED))


def functions_elsewhere() -> str:
    """Return the public functions that have no row in the lists, and why."""
    return _table(
        ("they", "functions"),
        ((reason, _codes(sorted(names.split()))) for reason, names in ELSEWHERE.items()),
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


# ------------------------------------------------------------------------------------- bad input
def bad_input() -> str:
    """Return for each kind of bad input what NumPy and SciPy do, and the functions that do otherwise here."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in bad.KINDS}
    for case in bad.cases():
        counts[case.kind][str(bad.outcome(case, "theirs"))] += 1

    def done(kind: str) -> str:
        return ", ".join(
            f"{n} {_code(what) if what != 'a value' else 'return a value'}"
            for what, n in counts[kind].most_common()
        )

    return _table(
        ("input", "functions of NumPy and SciPy", "differs here"),
        ((kind, done(kind), _codes(bad.DIFFERENCES.get(kind, "").split())) for kind in bad.KINDS),
    )


def bad_input_errors() -> str:
    """Return for each function the errors that NumPy or SciPy, and so the function here, raise."""
    errors: dict[str, dict[str, list[str]]] = {}
    for case in bad.cases():
        what = bad.outcome(case, "theirs")
        if what is not None and what.error is not None:
            errors.setdefault(case.name, {}).setdefault(str(what), []).append(case.kind)
    return _table(
        ("function", "errors"),
        (
            (
                _code(name),
                "; ".join(f"{_code(e)}: {', '.join(kinds)}" for e, kinds in found.items()),
            )
            for name, found in errors.items()
        ),
    )


# ------------------------------------------------------------------------- bad input to networks
def _outcome(gives: type[Exception] | str, says: str) -> str:
    if isinstance(gives, str):
        return _code(gives)
    plain = says.replace("*", "\\*").replace("<", "\\<")
    return f"{_code(gives.__name__)}: {plain}" if says else _code(gives.__name__)


def _bad_rows(of: Any, topic: str) -> Callable[[], str]:
    def table() -> str:
        setting = "\n".join(of.SETTINGS[topic].split("; "))
        return f"```python\n{setting}\n```\n\n" + _table(
            ("input", "call", "outcome"),
            ((row.what, _code(row.call), _outcome(row.gives, row.says)) for row in of.ROWS[topic]),
        )

    return table


def _bad_for_all(kind: str) -> Callable[[], str]:
    return lambda: _table(
        ("input", "call", "outcome", "other ones"),
        (
            (
                row.what,
                _code(row.call),
                _outcome(row.gives, row.says),
                "; ".join(
                    f"{_outcome(gives, '')}: {_codes(names.split())}"
                    for names, gives in row.apart.items()
                ),
            )
            for row in bad_networks.EVERY[kind]
        ),
    )


TABLES: dict[str, Callable[[], str]] = {
    **{
        f.__name__: f
        for f in (special_points, composed_points, primitives, traced_functions, missing_functions)
    },
    **{f.__name__: f for f in (traced_methods, missing_methods, cuda_libraries)},
    **{f.__name__: f for f in (cuda_primitives, cuda_operations, cuda_kernels, gpu_runs)},
    **{f.__name__: f for f in (bad_input, bad_input_errors, losses)},
    **{f"functions_{space.replace('.', '_')}": _function_list(space) for space in NAMESPACES},
    "functions_elsewhere": functions_elsewhere,
    **{f"refused_{group}": _refusals(group) for group in GROUPS},
    **{f"bad_{topic}": _bad_rows(bad_networks, topic) for topic in bad_networks.ROWS},
    **{f"bad_compile_{topic}": _bad_rows(bad_compile, topic) for topic in bad_compile.ROWS},
    **{f"bad_for_all_{kind}": _bad_for_all(kind) for kind in bad_networks.EVERY},
}
"""What the directive ``table-of`` of the pages can show."""
