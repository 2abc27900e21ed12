"""The list of the public functions: in what they differentiate, where, with which special points, how on CUDA.

A call of the function (`recipes.py`) is staged, and its operations are followed from the arguments to the result; what
these declare makes the row. Written by hand are only the domains of some functions that are made of several operations
(`DOMAINS`), the functions whose operations depend on values, which cannot be staged (`VALUES`), and those that have no
row, with the reason (`ELSEWHERE`). `tests/test_function_list.py` holds all of it against the package.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import recipes
import scipy.special

import nnmath_core as nm
from nnmath_core._ext._autodiff import Var, dtype_of
from nnmath_core._ext._tree import flatten, unflatten
from nnmath_core.autodiff.ops.special.declare import typed
from nnmath_core.autodiff.primitive import REGISTRY, Primitive
from nnmath_core.device import Backend

__all__ = [
    "DOMAINS",
    "ELSEWHERE",
    "HEAD",
    "NAMESPACES",
    "VALUES",
    "concerned",
    "facts_of",
    "functions",
    "listed",
    "moves",
    "on_cuda",
    "operand_names",
    "rows",
    "traceable",
    "unlisted",
]

NAMESPACES = {
    "numpy": nm.numpy,
    "numpy.linalg": nm.numpy.linalg,
    "numpy.fft": nm.numpy.fft,
    "linalg": nm.linalg,
    "signal": nm.signal,
    "special": nm.special,
    "stats": nm.stats,
    "random": nm.random,
    "nn": nm.nn,
}
"""The namespaces of functions of arrays, as `nnmath_core` has them."""

ELSEWHERE = {
    "make an array of sizes, of numbers that are not traced or of what is no array": """
        numpy.arange numpy.bartlett numpy.blackman numpy.diag_indices numpy.empty numpy.eye numpy.from_dlpack
        numpy.frombuffer numpy.fromfile numpy.fromfunction numpy.fromstring numpy.hamming numpy.hanning numpy.identity
        numpy.indices numpy.kaiser numpy.mask_indices numpy.ones numpy.tri numpy.tril_indices numpy.triu_indices
        numpy.zeros numpy.fft.fftfreq numpy.fft.rfftfreq linalg.dft linalg.hadamard linalg.helmert linalg.hilbert
        linalg.invhilbert linalg.invpascal linalg.pascal signal.correlation_lags nn.glorot_normal nn.glorot_uniform
        nn.he_normal nn.he_uniform random.rademacher nn.constant nn.delta_orthogonal nn.lecun_normal nn.lecun_uniform
        nn.normal nn.orthogonal nn.positional_encoding nn.torch_default nn.truncated_normal nn.uniform
        nn.variance_scaling nn.zeros
    """,
    "answer about dtypes, shapes and memory, or write text": """
        numpy.array2string numpy.array_repr numpy.array_str numpy.broadcast_shapes numpy.can_cast numpy.common_type
        numpy.einsum_path numpy.get_printoptions numpy.isdtype numpy.isfortran numpy.issubdtype numpy.may_share_memory
        numpy.min_scalar_type numpy.printoptions numpy.promote_types numpy.result_type numpy.set_printoptions
        numpy.shares_memory numpy.typename numpy.iterable numpy.isscalar numpy.iscomplexobj numpy.isrealobj
        numpy.ndim numpy.shape numpy.size numpy.diag_indices_from numpy.tril_indices_from numpy.triu_indices_from
        signal.choose_conv_method
    """,
    "write into an ordinary array, which would lose the derivative: an error on traced arrays": """
        numpy.copyto numpy.fill_diagonal numpy.place numpy.put numpy.put_along_axis numpy.putmask
    """,
    "read the bits of their argument: an error on traced arrays": "numpy.packbits numpy.unpackbits",
    "measure, with proofs, and have no derivative: an error on traced arrays": "nn.conv_operator_norm",
    "make records of numbers, of which those that are called take arrays": "nn.elastic_net nn.explain_loss nn.l1 nn.l2",
    "answer about activations and models with a record, and have no derivative": """
        nn.critical_point nn.gain nn.lsuv nn.mean_field nn.variance_propagation
    """,
    "read and write files, and bring arrays from one layout into another": """
        nn.from_torch nn.load_state nn.read_torch nn.save_state nn.to_torch
    """,
    "work on keys": "random.bits random.fold_in random.key random.split",
}
"""The functions without a row: reason -> names."""

_UNIQUE = ("reshape", "take")
VALUES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "numpy.argwhere": ((), ()),
    "numpy.asarray_chkfinite": (("a",), ()),
    "numpy.digitize": ((), ()),
    "numpy.flatnonzero": ((), ()),
    "numpy.histogram": (("bins", "weights"), ("scatter_add",)),
    "numpy.histogram2d": (("x", "y", "weights"), ("min", "max", "scatter_add")),
    "numpy.histogram_bin_edges": (("a",), ("min", "max", "add", "multiply")),
    "numpy.histogramdd": (("sample", "weights"), ("min", "max", "scatter_add")),
    "numpy.intersect1d": (("ar1",), _UNIQUE),
    "numpy.nonzero": ((), ()),
    "numpy.roots": (("p",), ("divide", "eig")),
    "numpy.setdiff1d": (("ar1",), _UNIQUE),
    "numpy.setxor1d": (("ar1", "ar2"), _UNIQUE),
    "numpy.trim_zeros": (("filt",), ("slice",)),
    "numpy.union1d": (("ar1", "ar2"), _UNIQUE),
    "numpy.unique": (("ar",), _UNIQUE),
    "numpy.unique_all": (("x",), _UNIQUE),
    "numpy.unique_counts": (("x",), _UNIQUE),
    "numpy.unique_inverse": (("x",), _UNIQUE),
    "numpy.unique_values": (("x",), _UNIQUE),
    "numpy.linalg.lstsq": (("a", "b"), ("svd", "pinv")),
    "linalg.lstsq": (("a", "b"), ("svd", "pinv")),
    "linalg.null_space": (("A",), ("svd",)),
    "linalg.orth": (("A",), ("svd",)),
}
"""Functions that cannot be staged: parameters in which they differentiate, and the operations on the way."""

_TIES = "everywhere; shared equally at ties"
_INTEGER = "n is an integer"
_CUT = "square, no eigenvalue on the closed negative axis"
DOMAINS: dict[str, str] = {
    "numpy.angle": "everywhere; 0 at 0 by convention",
    "numpy.average": "the weights do not sum to 0",
    "numpy.copysign": "everywhere; 0 at 0 by convention",
    "numpy.corrcoef": "no variable is constant",
    "numpy.divmod": "x1 / x2 is no integer; 1 in x1 there, as beside it",
    "numpy.fmax": _TIES,
    "numpy.fmin": _TIES,
    "numpy.geomspace": "start and stop have one sign and are not 0",
    "numpy.gradient": "no two neighbours among the coordinates are equal",
    "numpy.histogram2d": "linear in the weights; the edges in the data, as `min` and `max`",
    "numpy.histogram_bin_edges": _TIES,
    "numpy.histogramdd": "linear in the weights; the edges in the data, as `min` and `max`",
    "numpy.interp": "the knots increase; between them",
    "numpy.logspace": "base > 0",
    "numpy.modf": "x is no integer; 1 in the fractional part there, as beside it",
    "numpy.nanmax": _TIES,
    "numpy.nanmin": _TIES,
    "numpy.nanstd": "not all entries are equal",
    "numpy.polydiv": "the first coefficient of v is not 0",
    "numpy.polyfit": "more than deg distinct x, the weights are not 0",
    "numpy.ptp": _TIES,
    "numpy.roots": "no root is repeated, the first coefficient is not 0",
    "numpy.std": "not all entries are equal",
    "numpy.linalg.cond": "no singular value is 0",
    "numpy.linalg.lstsq": "along matrices of one rank",
    "numpy.linalg.eigvals": "diagonalisable",
    "numpy.linalg.eigvalsh": "Hermitian; repeated values share their derivative",
    "numpy.linalg.svdvals": "everywhere; repeated values share their derivative, 0 at 0",
    "linalg.cho_solve": "no zero on the diagonal of c",
    "linalg.companion": "the first coefficient is not 0",
    "linalg.coshm": "square",
    "linalg.cosm": "square",
    "linalg.eigh": "Hermitian, b positive definite; vectors of a repeated value in functions that do not see them",
    "linalg.eigh_tridiagonal": "vectors of a repeated value in functions that do not see their basis",
    "linalg.eigvalsh_tridiagonal": "everywhere; repeated values share their derivative",
    "linalg.eigvals": "diagonalisable",
    "linalg.eigvalsh": "Hermitian; repeated values share their derivative",
    "linalg.expm_frechet": "square",
    "linalg.fiedler": "no two entries are equal; 0 there by convention",
    "linalg.fractional_matrix_power": _CUT,
    "linalg.logdet": "Hermitian, positive definite",
    "linalg.lstsq": "along matrices of one rank",
    "linalg.lu_solve": "no zero on the diagonal of U",
    "linalg.null_space": "in functions of the projector, along matrices of one rank",
    "linalg.orth": "in functions of the projector, along matrices of one rank",
    "linalg.sinhm": "square",
    "linalg.sinm": "square",
    "linalg.solve_banded": "the matrix is invertible",
    "linalg.solve_circulant": "no Fourier coefficient of c is 0",
    "linalg.solve_discrete_lyapunov": "no eigenvalue of a times the conjugate of one is 1",
    "linalg.solve_toeplitz": "the matrix is invertible",
    "linalg.solveh_banded": "the matrix is invertible",
    "linalg.svdvals": "everywhere; repeated values share their derivative, 0 at 0",
    "linalg.tanhm": "square, coshm(A) invertible",
    "linalg.tanm": "square, cosm(A) invertible",
    "signal.coherence": "no entry of either spectrum is 0",
    "special.bdtr": "0 <= floor(k) <= trunc(n), 0 <= p <= 1",
    "special.bdtrc": "k < 0 or floor(k) <= trunc(n), 0 <= p <= 1",
    "special.chdtr": "v > 0, x >= 0",
    "special.chdtrc": "v > 0, x >= 0",
    "special.chdtri": "v > 0, 0 < p < 1",
    "special.comb": "0 <= k <= N; 0 beyond",
    "special.eval_chebyc": _INTEGER,
    "special.eval_chebys": _INTEGER,
    "special.eval_sh_chebyt": _INTEGER,
    "special.eval_sh_chebyu": _INTEGER,
    "special.eval_sh_legendre": _INTEGER,
    "special.factorial": "n >= 0; 0 beyond",
    "special.fdtr": "dfn, dfd > 0, x >= 0",
    "special.fdtrc": "dfn, dfd > 0, x >= 0",
    "special.fdtri": "dfn, dfd > 0, 0 < p < 1",
    "special.gdtr": "b > 0, a * x >= 0",
    "special.gdtrc": "b > 0, a * x >= 0",
    "special.kn": "x > 0",
    "special.lambertw": "z is not -1 / e, nor 0 on the other branches than k = 0",
    "special.log1mexp": "x < 0",
    "special.logsubexp": "x1 > x2",
    "special.logsumexp": "everywhere; with b where the sum of b exp(a) is not 0",
    "special.multigammaln": "a > (d - 1) / 2",
    "special.nbdtr": "k > -1, n >= 1, 0 <= p <= 1",
    "special.nbdtrc": "k > -1, n >= 1, 0 <= p <= 1",
    "special.pdtr": "m >= 0; 0 for negative k",
    "special.pdtrc": "m >= 0; 0 for negative k",
    "special.perm": "0 <= k <= N; 0 beyond",
    "stats.multivariate_normal": "cov symmetric, positive definite",
    "nn.batch_norm": "a variance that is not 0, or eps > 0",
    "random.beta": "a, b > 0",
    "random.chisquare": "df > 0",
    "random.dirichlet": "alpha > 0",
    "random.gamma": "a > 0",
    "random.multivariate_normal": "cov symmetric, positive definite",
    "random.pareto": "b > 0",
    "random.t": "df > 0",
    "random.truncated_normal": "lower < upper",
    "random.weibull_min": "concentration > 0",
}
"""Where functions of several operations differentiate, when their operations do not say it in the function's terms."""


# ------------------------------------------------------------------------------------------- the facts
@dataclass
class Facts:
    """What is known of a function."""

    name: str
    function: Callable[..., Any]
    call: str = ""
    """The call, as `recipes.call_of` reads it."""

    into: list[str] = field(default_factory=list)
    """The parameters in which it differentiates."""

    held: list[str] = field(default_factory=list)
    """The other floating arguments of the call."""

    path: list[Primitive] = field(default_factory=list)
    """The operations between those parameters and the result."""

    conditions: list[Primitive] = field(default_factory=list)
    """Those of them that do not differentiate everywhere, for the operands that they get."""

    used: list[Primitive] = field(default_factory=list)
    """All operations."""

    def add(self, other: Facts) -> None:
        """Take in what another call shows."""
        for what in ("into", "held", "path", "conditions", "used"):
            mine = getattr(self, what)
            mine += [x for x in getattr(other, what) if x not in mine]


def functions(space: str) -> Iterator[tuple[str, Any]]:
    """Return the public functions of a namespace; a distribution stands for its own."""
    for name in NAMESPACES[space].__all__:
        f = getattr(NAMESPACES[space], name)
        if (callable(f) and not isinstance(f, type)) or space == "stats":
            yield f"{space}.{name}", f


def operand_names(p: Primitive) -> list[str]:
    """Return what the texts call the operands: SciPy's names, else x, or x1, x2, ...; an output's number is ``k``."""
    count = len(p.vjp)
    f = getattr(scipy.special, p.name, None)
    if isinstance(f, np.ufunc):
        found = re.findall(rf"^ *{p.name}\(([^)=\[/]*)", f.__doc__ or "", flags=re.M)
        lists = [[n for n in re.findall(r"[A-Za-z]\w*", text) if n != "out"] for text in found]
        # NumPy's line, which says x1, x2, may stand before SciPy's
        said = [names for names in lists if len(names) == f.nin and "x1" not in names]
        names = min(said, key=lambda names: names == ["x"], default=["x"])
    elif f is not None:
        names = list(inspect.signature(f).parameters)[:count]
    else:
        names = ["x"] if count == 1 else [f"x{i + 1}" for i in range(count)]
    return ["k"] * (count - len(names)) + names


@functools.cache
def facts_of(name: str) -> Facts | None:
    """Return what a call of a function shows; None when no call of it can be staged."""
    space, _, last = name.rpartition(".")
    f = getattr(NAMESPACES[space], last)
    if space == "stats":
        return _facts_of_distribution(name, f)
    if name in VALUES:
        into, path = VALUES[name]
        made_of = [REGISTRY[p] for p in path]
        conditions = [p for p in made_of if p.domain != "everywhere"]
        return Facts(name, f, recipes.CALLS[name], list(into), [], made_of, conditions, made_of)
    for text in recipes.texts_for(name, f):
        try:
            run, xs, parameters = traceable(f, text)
            program = nm.stage(run, *xs)
        except Exception:  # another number of axes, operands that are no floats: the next call
            continue
        return _followed(Facts(name, f, text), program, run, xs, parameters)
    return None


def methods(distribution: Any) -> list[str]:
    """Return the functions of a distribution."""
    return [
        n for n in dir(distribution) if not n.startswith("_") and callable(getattr(distribution, n))
    ]


def _facts_of_distribution(name: str, distribution: Any) -> Facts:
    facts = Facts(name, distribution)
    for method in methods(distribution):
        f = getattr(distribution, method)
        run, xs, parameters = traceable(f, recipes.text_for_distribution(name, method, f))
        facts.add(_followed(Facts(name, f), nm.stage(run, *xs), run, xs, parameters))
    facts.held = [n for n in facts.held if n not in facts.into]
    return facts


def traceable(f: Callable[..., Any], text: str) -> tuple[Callable[..., Any], list[Any], list[str]]:
    """Return a call as a function of its floating arrays and keys, these, and the names of their parameters."""
    call = recipes.call_of(text)
    leaves, tree = flatten((list(call.args), call.named))
    on = recipes.traceable(leaves)
    names = parameters_of(f, call)

    def run(*xs: Any) -> Any:
        at = list(leaves)
        for k, x in zip(on, xs, strict=True):
            at[k] = x
        args, named = unflatten(tree, at)
        return f(*args, **named)

    return run, [leaves[k] for k in on], [names[k] for k in on]


def moves(run: Callable[..., Any], xs: list[Any], k: int) -> bool:
    """Whether the result has a tangent other than 0 when one input moves: a selection may pass on none of it."""
    parts = (xs[k].real, xs[k].imag) if xs[k].dtype.kind == "c" else (xs[k],)
    tangents = tuple(np.cos(np.arange(p.size) + i).reshape(p.shape) for i, p in enumerate(parts))

    def f(re: Any, im: Any = None) -> Any:
        return run(*xs[:k], re if im is None else re + 1j * im, *xs[k + 1 :])

    with np.errstate(all="ignore"):
        found = flatten(nm.jvp(f, parts, tangents)[1])[0]
    return any(np.any(np.asarray(t) != 0) for t in found if np.asarray(t).dtype.kind in "fc")


def parameters_of(f: Callable[..., Any], call: recipes.Call) -> list[str]:
    """Return the name of the parameter to which each leaf of a call belongs."""
    signature = inspect.signature(f)
    rename = {}
    if isinstance(f, Primitive):
        rename = dict(zip(signature.parameters, operand_names(f), strict=False))
    owner = {}
    for name, value in signature.bind(*call.args, **call.named).arguments.items():
        several = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
        for x in flatten(list(value) if several else [value])[0]:
            owner[id(x)] = rename.get(name, name)
    return [owner[id(x)] for x in flatten((list(call.args), call.named))[0]]


def _passes(p: Primitive, i: int, output: int) -> bool:
    """Whether a derivative passes from operand i to an output."""
    if not p.differentiable or (p.differentiable_outputs and not p.differentiable_outputs[output]):
        return False
    rules = p.vjp or p.jvp
    rule = rules[i] if 1 < len(rules) > i else rules[0]
    return rule is not None and not getattr(rule, "fixed", False)


def _is_floating(x: Any) -> bool:
    return isinstance(x, Var) and dtype_of(x).kind in "fc"


def _followed(
    facts: Facts, program: nm.Program, run: Callable[..., Any], xs: list[Any], parameters: list[str]
) -> Facts:
    """Follow a program from its results to the inputs, and back."""
    live = {v for v in program.outputs if _is_floating(v)}
    back = []
    for e in reversed(program.equations):
        outputs = [k for k, v in enumerate(e.outputs) if v in live]
        reached = {
            x
            for i, x in enumerate(e.operands)
            if _is_floating(x) and any(_passes(e.primitive, i, k) for k in outputs)
        }
        if reached:
            back.append(e)
            live |= reached
    known = set(program.inputs)
    for e in reversed(back):
        if known & {x for x in e.operands if isinstance(x, Var)}:
            known.update(e.outputs)
            facts.path.append(e.primitive)
            # by a number, or by what no argument made: not 0 there
            harmless = e.primitive.name == "divide" and e.operands[1] not in known
            if e.primitive.domain != "everywhere" and not harmless:
                facts.conditions.append(e.primitive)
    facts.used = [e.primitive for e in program.equations]
    on = [v in live and moves(run, xs, k) for k, v in enumerate(program.inputs)]
    facts.into = [n for n, yes in zip(parameters, on, strict=True) if yes]
    floats = [n for x, n in zip(xs, parameters, strict=True) if x.dtype.kind in "fc"]
    facts.held = [n for n in floats if n not in facts.into]
    for what in ("path", "conditions", "used", "into", "held"):
        setattr(facts, what, list(dict.fromkeys(getattr(facts, what))))
    return facts


# -------------------------------------------------------------------------------------------- the cells
def on_cuda(p: Primitive) -> str:
    """Return how a primitive runs on CUDA."""
    if p.library == "absent":
        return "no implementation"
    if isinstance(p.forward, partial) and p.forward.func is typed:
        way = f"`cupyx.scipy.special.{p.forward.args[0]}`"
    elif not isinstance(p.forward, str):
        way = "array code over `cupy`"
    elif p.forward in Backend.operations:
        way = f"`CudaBackend.{p.forward}`"
    else:
        way = (
            f"`cupyx.scipy.{p.forward}`"
            if p.forward.startswith("special.")
            else f"`cupy.{p.forward}`"
        )
    return f"{way}, {p.library}" if p.library else way


def _is_one(facts: Facts) -> bool:
    """Whether a function is one operation, but for changes of shape and dtype."""
    return len([p for p in facts.used if p.name not in PLAIN]) <= 1


PLAIN = ("reshape", "astype", "transpose", "stop_gradient", "broadcast_to", "slice")


def _main(facts: Facts, among: Iterable[Primitive]) -> list[Primitive]:
    return [p for p in among if p.name not in PLAIN]


def differentiates(facts: Facts) -> str:
    """In what a function differentiates, and whether it selects."""
    if not facts.into:
        return "no derivative"
    said = "in " + ", ".join(f"`{n}`" for n in facts.into)
    if any(p.selects is not None for p in _main(facts, facts.path)):
        said += "; selects"
    if facts.held:
        said += "; not in " + ", ".join(f"`{n}`" for n in facts.held)
    return said


def domain(facts: Facts) -> str:
    """Where the derivative exists."""
    if not facts.into:
        return ""
    if facts.name in DOMAINS:
        return DOMAINS[facts.name]
    if facts.name.startswith("stats."):
        point = ", x inside of the support" if "x" in facts.into else ""
        return f"valid parameters{point}" + (", 0 < q < 1" if "q" in facts.into else "")
    last = facts.name.rpartition(".")[2]
    for p in facts.conditions:
        if _is_one(facts) or p.name == last:
            names = operand_names(p)  # a text may call a single operand x
            return re.sub(r"\bx\b", names[0], p.domain) if len(names) == 1 else p.domain
    return "; ".join(f"as `{p.name}`: {p.domain}" for p in facts.conditions) or "everywhere"


def special(facts: Facts, names: list[str], composed: Iterable[tuple[Any, ...]]) -> str:
    """The special points: the function's own, those of the functions that it is made of by name."""
    if facts.name.startswith("stats."):
        everywhere = facts.name == "stats.multivariate_normal"
        return "" if everywhere else "outside of the support 0; invalid parameters NaN"
    own = {name.rpartition(".")[2] for name in names}
    said = [row[0] for row in composed if own & set(concerned(row[0]))]
    with_points = [p for p in facts.path if p.special]
    if _is_one(facts):
        said += [s.what for p in with_points for s in p.special]
    elif with_points:
        said.append("those of " + ", ".join(f"`{p.name}`" for p in with_points))
    return "; ".join(dict.fromkeys(said))


def concerned(text: str) -> list[str]:
    """Return the names at the beginning of a text about a special point."""
    names = re.match(r"(?:[\w.]+, )*[\w.]+", text)
    return [] if names is None else names[0].split(", ")


def cuda(facts: Facts) -> str:
    """How a function runs on CUDA."""
    used = _main(facts, facts.used) or facts.used
    absent = [p.name for p in used if p.library == "absent"]
    if absent:
        return "no implementation" + (
            "" if _is_one(facts) else ": " + ", ".join(f"`{n}`" for n in absent)
        )
    if len(used) == 1:
        return on_cuda(used[0])
    libraries = dict.fromkeys(p.library for p in used if p.library)
    kernels = any(str(p.forward).startswith("random_") for p in used)
    ways = ["array code over `cupy`", *libraries, *(["own kernels"] if kernels else [])]
    return ", ".join(ways)


def row(name: str, names: list[str], composed: Iterable[tuple[Any, ...]]) -> tuple[str, ...]:
    """Return the row of a function that has several names."""
    facts = facts_of(name)
    assert facts is not None, (
        f"{name}: no call of it can be staged; write one in recipes.py, or say why in ELSEWHERE"
    )
    shown = ", ".join(f"`{n.rpartition('.')[2]}`" for n in names)
    if name.startswith("stats."):
        shown += ": " + ", ".join(f"`{m}`" for m in methods(facts.function))
    return shown, differentiates(facts), domain(facts), special(facts, names, composed), cuda(facts)


def listed(space: str) -> dict[str, list[str]]:
    """Return the functions of a namespace that have rows: first name -> all names."""
    found: dict[int, list[str]] = {}
    for name, f in functions(space):
        if name not in unlisted():
            found.setdefault(id(f), []).append(name)
    return {names[0]: names for names in found.values()}


@functools.cache
def unlisted() -> dict[str, str]:
    """Return the functions without a row, and the reason."""
    return {name: reason for reason, names in ELSEWHERE.items() for name in names.split()}


HEAD = ("function", "differentiates", "derivative exists", "special points", "on CUDA")
"""The head of the tables."""


def rows(space: str, composed: Iterable[tuple[Any, ...]]) -> list[tuple[str, ...]]:
    """Return the table of a namespace."""
    return [row(first, names, composed) for first, names in listed(space).items()]
