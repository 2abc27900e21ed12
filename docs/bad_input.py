"""Bad input over the whole surface: what NumPy and SciPy do, and what the functions here do, as a page and its test.

A function's ordinary call is the first of `CALLS` that NumPy (or SciPy) takes. A kind of bad input changes that call.
The functions are those of the public namespaces which have a counterpart; nothing is listed by hand.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import recipes
import scipy.stats

import nnmath_core as nm

__all__ = [
    "DIFFERENCES",
    "KINDS",
    "NAMESPACES",
    "WAYS",
    "Case",
    "Outcome",
    "cases",
    "functions",
    "outcome",
    "verdict",
]

NAMESPACES = {
    "nnmath_core.numpy": "numpy",
    "nnmath_core.numpy.linalg": "numpy.linalg",
    "nnmath_core.numpy.fft": "numpy.fft",
    "nnmath_core.linalg": "scipy.linalg",
    "nnmath_core.signal": "scipy.signal",
    "nnmath_core.special": "scipy.special",
    "nnmath_core.stats": "scipy.stats",
}
"""Our namespace -> the one whose names, signatures and errors it follows."""

WAYS = ("plain", "grad", "jvp", "vmap", "stage")
"""How a function is called: on plain arrays, and on the tracers of each transformation."""

LEFT_OUT = frozenset(
    "array2string array_repr array_str array from_dlpack frombuffer fromfile fromstring fromiter fromfunction empty "
    "empty_like vectorize ndenumerate ndindex printoptions set_printoptions get_printoptions errstate copyto put "
    "put_along_axis putmask place fill_diagonal packbits unpackbits finfo iinfo isdtype issubdtype promote_types "
    "typename iterable isscalar isfortran may_share_memory shares_memory broadcast_shapes dtype ndarray ufunc generic "
    "mask_indices require asarray asanyarray asarray_chkfinite ascontiguousarray asfortranarray".split()
)
"""No functions of numbers, or functions that write into their argument, which are in `refusals.py`."""


# -------------------------------------------------------------------------------------------- ordinary calls
def _numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape) + len(shape)).uniform(0.3, 0.9, shape)


V, W, M = _numbers(3), _numbers(3) + 0.7, _numbers(3, 3) + 2.0 * np.eye(3)
BOTH = np.array([True, False, True])
PLACES = np.array([2, 0, 1])

CALLS: tuple[tuple[Any, ...], ...] = (
    (M,),
    (V,),
    (M, V),
    (V, W),
    (M, M),
    (V, M),
    (V, 2),
    (M, 2),
    (2, V),
    (V, PLACES),
    (PLACES, V),
    (BOTH, V),
    ([V, W],),
    ([M, M],),
    (V, W, V),
    (M, V, V),
    (M, M, M),
    (M, M, M, M),
    (BOTH, V, W),
    (V, 0, 1),
    (M, 0, 1),
    (V, PLACES, W),
    (V, PLACES, 0),
    (M, PLACES[:, None], 0),
    ("i,i->", V, W),
    ([BOTH], [V]),
    (V, [BOTH], [np.sin]),
    (np.sum, 0, M),
    (np.sum, M, 0),
    (0.2, V, W),
    (V, W, 0.4),
    (2, V, W, V),
    (2, V, 0.4),
    ((1, 1), M, V),
    ((M, PLACES.astype(np.int32)), V),
    ((M, True), V),
    (V, W, V, W),
    (PLACES, [V, W, V]),
    (PLACES, PLACES),
    (3,),
    ((3, 3),),
    (2.0, 3.0, 4),
    (M[:, :2], M[:, 2]),
)
"""Arguments, the most telling first: matrices before vectors."""

OWN_CALLS: dict[str, tuple[Any, ...]] = {
    "piecewise": (V, [BOTH], [2.0]),
    "searchsorted": (np.sort(V), W),
    "interp": (V, np.sort(W), W),
}
"""Functions that take other arguments, too, but not in this sense."""


@dataclass(frozen=True)
class Case:
    """A bad call of one function."""

    name: str
    kind: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    args: tuple[Any, ...]
    kw: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """The numbers that came back, or the exception."""

    numbers: tuple[Any, ...] = ()
    error: Exception | None = None
    wide: tuple[Any, ...] | None = None
    """Where numbers overflowed: those of the same call in float64, or of a smaller argument, scaled."""

    def __str__(self) -> str:
        return "a value" if self.error is None else type(self.error).__name__


# -------------------------------------------------------------------------------------------- kinds of bad input
def _is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def _changed(args: tuple[Any, ...], change: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """The arguments with every float array changed; None when there is none."""

    def walk(x: Any) -> Any:
        return change(x) if _is_array(x) else [walk(v) for v in x] if type(x) is list else x

    new = tuple(walk(x) for x in args)
    return new if str(new) != str(args) else None


def _last_longer(args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    places = [i for i, x in enumerate(args) if _is_array(x)]
    if len(args) == 1 and type(args[0]) is list:
        return ([*args[0][:-1], _numbers(*(n + 1 for n in np.shape(args[0][-1])))],)
    if len(places) < 2:
        return None
    i = places[-1]
    return (*args[:i], _numbers(*(n + 1 for n in args[i].shape)), *args[i + 1 :])


def _places(args: tuple[Any, ...], value: int) -> tuple[Any, ...] | None:
    found = [i for i, x in enumerate(args) if isinstance(x, np.ndarray) and x.dtype.kind == "i"]
    if not found or not any(map(_is_array, args)):
        return None
    i = found[0]
    return (*args[:i], np.full_like(args[i], value), *args[i + 1 :])


def _parameter(args: tuple[Any, ...], which: int) -> tuple[Any, ...] | None:
    """A scale that is negative or 0, a probability above 1, the covariance ``-I``."""
    places = [i for i, x in enumerate(args) if _is_array(x)]
    if len(places) < 2:
        return None
    i = places[which]
    x = args[i]
    bad = -np.eye(len(x)) if x.ndim == 2 else np.resize([-1.0, 0.0, 2.0], x.shape)
    return (*args[:i], bad, *args[i + 1 :])


def _square(args: tuple[Any, ...]) -> bool:
    return bool(args) and _is_array(args[0]) and args[0].ndim == 2


def _matrix(to: np.ndarray) -> Callable[[tuple[Any, ...]], tuple[Any, ...] | None]:
    return lambda args: (to, *args[1:]) if _square(args) else None


def _with_nan(x: np.ndarray) -> np.ndarray:
    y = x.copy()
    y.flat[0] = np.nan
    if y.size > 1:
        y.flat[-1] = np.inf
    return y


KINDS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "axis out of range": lambda args: (args, {"axis": 7}),
    "axis twice": lambda args: (args, {"axis": (0, 0)}),
    "shapes that do not fit": _last_longer,
    "no entries": lambda args: _changed(args, lambda x: np.zeros((0, *x.shape[1:]))),
    "rows without entries": lambda args: (
        _changed(args, lambda x: np.zeros((*x.shape[:-1], 0))) if _square(args) else None
    ),
    "one number": lambda args: _changed(args, lambda x: np.array(0.5)),
    "index too large": lambda args: _places(args, 99),
    "index too small": lambda args: _places(args, -99),
    "NaN and infinity": lambda args: _changed(args, _with_nan),
    "huge numbers": lambda args: _changed(args, lambda x: x * 1e200),
    "singular matrix": _matrix(np.ones((3, 3))),
    "zero matrix": _matrix(np.zeros((3, 3))),
    "matrix that is not symmetric": _matrix(np.triu(np.arange(1.0, 10.0).reshape(3, 3))),
    "matrix that is not definite": _matrix(-np.eye(3)),
    "matrix that is not square": _matrix(np.arange(1.0, 7.0).reshape(2, 3)),
    "vector for a matrix": _matrix(V),
    "small integers that overflow": lambda args: _changed(
        args, lambda x: np.full(x.shape, 127, np.int8)
    ),
    "text": lambda args: (*args[:-1], "text") if args and any(map(_is_array, args[:-1])) else None,
    "nothing": lambda args: (*args[:-1], None) if args and any(map(_is_array, args[:-1])) else None,
    "unknown keyword": lambda args: (args, {"colour": 1}),
    "first parameter out of range": lambda args: _parameter(args, 1),
    "last parameter out of range": lambda args: _parameter(args, -1),
}
"""Kind -> a change of the ordinary arguments: new ones, (arguments, keywords), or None where it does not apply."""

_MATRICES = tuple(k for k in KINDS if "matrix" in k)
_PARAMETERS = tuple(k for k in KINDS if "parameter" in k)


# -------------------------------------------------------------------------------------------- functions and cases
def functions() -> Iterator[tuple[str, Callable[..., Any], Callable[..., Any]]]:
    """Name, ours, and theirs, of all functions that have a counterpart."""
    for ours, theirs in NAMESPACES.items():
        home, other = importlib.import_module(ours), importlib.import_module(theirs)
        for name in sorted(home.__all__):
            f, g = getattr(home, name), getattr(other, name, None)
            path = f"{ours.replace('nnmath_core', 'nm')}.{name}"
            if name in LEFT_OUT or g is None or inspect.isclass(f) or inspect.isclass(g):
                continue
            if callable(f):
                yield path, f, g
                continue
            for method in dir(f) if other is scipy.stats else ():  # of a distribution
                if not method.startswith("_") and callable(getattr(g, method, None)):
                    yield f"{path}.{method}", getattr(f, method), getattr(g, method)


def _quiet(f: Callable[[], Any]) -> Outcome:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return Outcome(tuple(f()))
        except Exception as e:
            return Outcome(error=e)


def ordinary(name: str, f: Callable[..., Any]) -> tuple[Any, ...] | None:
    """The first call that works; of a distribution the one that gives all parameters."""
    if name.startswith("nm.stats."):
        _, _, distribution, method = name.split(".")
        mine = getattr(getattr(nm.stats, distribution), method)
        text = recipes.text_for_distribution(f"stats.{distribution}", method, mine)
        args = recipes.call_of(text).args
        return None if _quiet(lambda: _leaves(f(*_copies(args)))).error else tuple(args)
    own = OWN_CALLS.get(name.rpartition(".")[2])
    for args in CALLS if own is None else (own,):
        if _quiet(lambda args=args: _leaves(f(*_copies(args)))).error is None:
            return args
    return None


def cases() -> Iterator[Case]:
    """All bad calls."""
    for name, ours, theirs in functions():
        matrices = "linalg" in name
        args = ordinary(name, theirs)
        if args is None:
            continue
        axes = _has(theirs, "axis")
        for kind, change in KINDS.items():
            if (kind.startswith("axis") and not axes) or (kind in _MATRICES and not matrices):
                continue
            if kind == "huge numbers" and "special" in name:
                continue  # SciPy's recurrences count up to the order
            if kind in _PARAMETERS and "stats" not in name:
                continue
            changed = change(args)
            if changed is None:
                continue
            new, kw = changed if isinstance(changed[-1], dict) else (changed, {})
            yield Case(name, kind, ours, theirs, new, kw)


def _has(f: Any, name: str) -> bool:
    if isinstance(f, np.ufunc):
        return False
    try:
        return name in inspect.signature(f).parameters
    except (ValueError, TypeError):
        return False


# -------------------------------------------------------------------------------------------- outcomes
_PLAIN_ERRORS = (TypeError, ValueError, IndexError, ArithmeticError, NotImplementedError)


def verdict(theirs: Outcome, here: Outcome, way: str) -> str:
    """What a pair of outcomes is called: a difference begins with "differs"."""
    if theirs.error is not None:
        if here.error is None:
            if not all(map(_finite, here.numbers)):
                return "NaN for an error"  # SciPy's `check_finite` is of plain arrays
            return "differs: a value for an error"
        if isinstance(here.error, type(theirs.error)):
            return "the same error"
        if isinstance(here.error, nm.NnmathError):
            return "our error"
        return "another error" if isinstance(here.error, _PLAIN_ERRORS) else "differs: a slip"
    if here.error is not None:
        refused = isinstance(here.error, nm.NnmathError) and way != "plain"
        return "refused" if refused else "differs: an error for a value"
    if _all_same(here.numbers, theirs.numbers):
        return "the same value"
    # SciPy's polygamma and distributions compute with int8 in float16, and return float64: the right value is no fault
    dtypes = [list(map(np.result_type, numbers)) for numbers in (here.numbers, theirs.numbers)]
    wide = theirs.wide is not None and dtypes[0] == dtypes[1]
    same = wide and _all_same(here.numbers, theirs.wide)
    return "the same value" if same else "differs: another value"


def _all_same(a: tuple[Any, ...], b: tuple[Any, ...] | None) -> bool:
    return b is not None and len(a) == len(b) and all(map(_same, a, b))


def _finite(x: Any) -> bool:
    return np.asarray(x).dtype.kind not in "fc" or bool(np.all(np.isfinite(x)))


def _same(a: Any, b: Any) -> bool:
    """Equal to rounding: 1e-9 of the largest finite entry, NaN and infinities in their places."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind not in "biufc" or b.dtype.kind not in "biufc":
        return True
    if a.shape != b.shape:
        return False
    if "c" in (a.dtype.kind, b.dtype.kind):
        # which part of a product that overflowed is inf and which NaN depends on its order: not finite is enough
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return False
        a, b = (np.where(np.isfinite(x), x, 0.0) for x in (a, b))
    with np.errstate(all="ignore"):
        sizes = np.abs(b[np.isfinite(b)]) if b.dtype.kind in "fc" else np.zeros(0)
        eps = max(
            [2.0**-52, *(float(np.finfo(x.dtype).eps) for x in (a, b) if x.dtype.kind in "fc")]
        )
        bound = 1e-9 * eps / 2.0**-52
        return np.allclose(
            a, b, rtol=bound, atol=1e-3 * bound * (1.0 + sizes.max(initial=0.0)), equal_nan=True
        )


def _copies(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return x.copy()
    return type(x)(map(_copies, x)) if type(x) in (list, tuple) else x


def _agreed(case: Case, found: Outcome) -> Outcome:
    """SciPy's value of a function of a distribution, where its other functions contradict it.

    Above the support its ``logcdf`` on the integers is 0, whatever the parameters; its ``cdf`` is NaN as it should be.
    A density may be infinity times 0, where its logarithm is -inf.
    """
    home, method = case.theirs.__self__, case.name.rpartition(".")[2]
    (y,) = found.numbers
    if method == "logcdf" and hasattr(home, "pmf"):
        (cdf,) = _quiet(lambda: _leaves(home.cdf(*_copies(case.args), **case.kw))).numbers
        y = np.where(np.isnan(cdf), np.nan, y)
    elif method == "pdf" and np.any(np.isnan(y)):
        (log,) = _quiet(lambda: _leaves(home.logpdf(*_copies(case.args), **case.kw))).numbers
        y = np.where(log == -np.inf, 0.0, y)
    return replace(found, numbers=(y,))


DEGREES: dict[str, tuple[int, ...]] = {
    # NumPy and SciPy overflow in the squares
    "nm.numpy.linalg.norm": (1,),
    "nm.numpy.linalg.matrix_norm": (1,),
    "nm.numpy.linalg.vector_norm": (1,),
    "nm.linalg.norm": (1,),
    # SciPy does not undo a scaling: its eigenvalues of M * 1e200 are near 1e138
    "nm.linalg.eigvals": (1,),
    "nm.linalg.eig": (1, 0),
}
"""Function that is wrong of huge numbers -> with which power of a factor of the argument its results grow."""


def _scaled(case: Case) -> tuple[Any, ...]:
    """What the results should be: those of the argument divided by a large power of two, which rounds nothing."""
    factor = 2.0**664  # near 1e200
    small = _changed(case.args, lambda x: x / factor) or ()
    found = _quiet(lambda: _leaves(case.theirs(*small, **case.kw))).numbers
    powers = DEGREES[case.name]
    return tuple(y * factor if d else y for y, d in zip(found, powers, strict=True))


def _widened(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return x.astype(np.float64) if x.dtype == np.int8 else x.copy()
    return type(x)(map(_widened, x)) if type(x) in (list, tuple) else x


def _leaves(y: Any) -> list[Any]:
    if isinstance(y, (tuple, list)):
        return [leaf for v in y for leaf in _leaves(v)]
    if isinstance(y, (np.ndarray, np.generic, nm.Tracer, bool, int, float, complex)):
        return [y]
    return []


def _parts(args: tuple[Any, ...], numbers: list[Any]) -> list[Any]:
    """What NumPy says of a partition: the entry at its place, and which are before and which behind, in any order."""
    (y,), k = numbers, args[1]
    return [np.sort(y[:k]), y[k], np.sort(y[k + 1 :])] if len(y) > k else numbers


def _remainder(args: tuple[Any, ...], numbers: list[Any]) -> list[Any]:
    """A remainder that is NaN throughout as one NaN: NumPy counts cancelled coefficients, too, but not under vmap."""
    q, r = numbers
    return [q, np.full(1, np.nan)] if np.size(r) and np.isnan(r).all() else numbers


def _matrix_of_eigenpairs(args: tuple[Any, ...], numbers: list[Any]) -> list[Any]:
    """The sign of a vector is free, and the basis of a repeated value: LAPACK's driver, and a tangent, choose it."""
    w, v = numbers
    return [w, (v * w) @ np.conj(v.T), *_products(v)]


def _matrix_of_triplets(args: tuple[Any, ...], numbers: list[Any]) -> list[Any]:
    """The same of singular vectors, and of those that complete them."""
    if len(numbers) == 1:
        return numbers
    u, s, vh = numbers
    return [s, (u[:, : len(s)] * s) @ vh[: len(s)], *_products(u, vh)]


def _projector(args: tuple[Any, ...], numbers: list[Any]) -> list[Any]:
    """The same of a null space."""
    return [numbers[0] @ np.conj(numbers[0].T), *_products(numbers[0])]


def _products(*vs: Any) -> list[Any]:
    """Identities, if the columns are orthonormal."""
    return [np.conj(v.T) @ v for v in vs]


def _triangle(args: tuple[Any, ...], numbers: list[Any]) -> list[Any]:
    """SciPy leaves in the other triangle of a Cholesky factor what it finds there, and says so; here it is 0."""
    c, lower = numbers
    return [np.tril(c) if lower else np.triu(c), lower]


def _square_of_root(args: tuple[Any, ...], numbers: list[Any]) -> list[Any]:
    """An eigenvalue 0 that was rounded to -1e-16 has an imaginary root of 1e-8 in SciPy, and 0 here."""
    (y,) = numbers
    return [y @ y, np.trace(y).real >= 0]


def _complex_vectors(args: tuple[Any, ...], numbers: list[Any]) -> list[Any]:
    """Eigenvectors of a traced matrix are complex, whatever their values."""
    return [numbers[0], numbers[1] + 0j]


FORMS: dict[str, Callable[[tuple[Any, ...], list[Any]], list[Any]]] = {
    "nm.numpy.partition": _parts,
    "nm.numpy.polydiv": _remainder,
    "nm.numpy.linalg.eigh": _matrix_of_eigenpairs,
    "nm.linalg.eigh": _matrix_of_eigenpairs,
    "nm.numpy.linalg.svd": _matrix_of_triplets,
    "nm.linalg.svd": _matrix_of_triplets,
    "nm.linalg.null_space": _projector,
    "nm.linalg.cho_factor": _triangle,
    "nm.linalg.sqrtm": _square_of_root,
    "nm.linalg.eig": _complex_vectors,
}
"""Function -> the arguments and its numbers, to what of them is defined; this is compared in place of the numbers."""


def outcome(case: Case, way: str) -> Outcome | None:
    """What happens in a way of calling, as `verdict` compares it; see `_outcome` and `FORMS`."""
    found, form = _outcome(case, way), FORMS.get(case.name)
    if form is None or found is None or found.error is not None:
        return found
    return replace(found, numbers=tuple(form(case.args, list(found.numbers))))


def _outcome(case: Case, way: str) -> Outcome | None:
    """What happens in a way of calling, or ``theirs``; None where nothing is floating, so that nothing is traced."""
    if way == "theirs":
        found = _quiet(lambda: _leaves(case.theirs(*_copies(case.args), **case.kw)))
        if case.name.startswith("nm.stats.") and found.error is None:
            found = _agreed(case, found)
        if case.kind == "huge numbers" and found.error is None and case.name in DEGREES:
            found = replace(found, wide=_scaled(case))
        if case.kind == "small integers that overflow" and found.error is None:
            args = _widened(case.args)
            found = replace(
                found, wide=_quiet(lambda: _leaves(case.theirs(*args, **case.kw))).numbers
            )
        return found
    if way == "plain":
        return _quiet(lambda: _leaves(case.ours(*_copies(case.args), **case.kw)))
    places = [i for i, x in enumerate(case.args) if _is_array(x)]
    if not places:
        return None
    first = case.args[places[0]]
    seen: list[Any] = []

    def call(x: Any) -> list[Any]:
        args = _copies(case.args)
        return _leaves(case.ours(*args[: places[0]], x, *args[places[0] + 1 :], **case.kw))

    def body(x: Any) -> Any:
        seen[:] = map(nm.value_of, call(x))
        return 0.0 * np.sum(x)

    def numbers(x: Any) -> tuple[Any, ...]:
        return tuple(call(x))

    if way == "grad":
        return _quiet(lambda: [nm.grad(body)(first), seen][1])
    if way == "jvp":
        return _quiet(lambda: [nm.jvp(body, (first,), (first,)), seen][1])
    if way == "vmap":
        return _quiet(lambda: [y[0] for y in nm.vmap(numbers)(np.stack([first, first]))])
    return _quiet(lambda: nm.stage(numbers, first)(first))


# -------------------------------------------------------------------------------------------- what differs
DIFFERENCES: dict[str, str] = {
    "huge numbers": (
        # SciPy's entropy is a difference that has lost all digits, and its logarithms are of numbers that underflow;
        # ours are right: `test_stats.py`
        "stats.dirichlet.entropy stats.pareto.logpdf stats.pareto.logsf"
    ),
}
"""Kind -> functions that do otherwise than NumPy or SciPy in at least one way of calling, all of them known."""


def differences() -> dict[str, list[str]]:
    """What `DIFFERENCES` must list, by running everything."""
    found: dict[str, set[str]] = {}
    for case in cases():
        theirs = outcome(case, "theirs")
        for way in WAYS:
            here = outcome(case, way)
            if here is not None and verdict(theirs, here, way).startswith("differs"):
                found.setdefault(case.kind, set()).add(case.name.removeprefix("nm."))
    return {kind: sorted(names) for kind, names in found.items()}


if __name__ == "__main__":
    for kind, names in differences().items():
        print(f"{kind}: {' '.join(names)}")
