"""Calls for the fuzz test: functions found by walking the namespaces, arguments learned from their signatures.

A `Template` is a call that works on plain numbers. Arguments are drawn by the names of the parameters (`NAMED`), or by
a profile where a name says nothing, until the plain call succeeds; what was learned depends on the function's name
alone. Which of its floating arguments are traced is drawn later, by the test.
"""

from __future__ import annotations

import array
import contextlib
import decimal
import fractions
import importlib
import inspect
import io
import time
import types
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import fuzz_compositions
import numpy as np
import scipy.sparse

import nnmath_core as nm

__all__ = ["SKIPPED", "Slot", "Target", "Template", "floating_slots", "targets"]

# ------------------------------------------------------------------------------------------- what is not called
SKIPPED = {
    "reads or writes files": (
        "save savez savez_compressed savetxt load loadtxt genfromtxt fromfile fromregex memmap open_memmap DataSource "
        "open input print read_array write_array whosmat loadmat savemat load_npz save_npz mmread mmwrite dump dumps "
        "tofile"
    ),
    "asks, prints or starts something": (
        "info lookfor test show_config show_runtime breakpoint help exit quit copyright credits license exec eval "
        "compile __import__ __build_class__ runpy select_initial_step bench"
    ),
    "changes the state of the process": (
        "seterr seterrcall setbufsize set_printoptions set_string_function seed set_state set_bit_generator "
        "set_array_function_like_doc printoptions errstate get_array_wrap set_global_backend register_backend "
        "set_backend skip_backend set_workers setattr delattr setstate numpy_set errstate geterr geterrcall "
        "SystemRandom use_solver assert_ setflags"
    ),
    "gives text, types or the identity of the object, no number": (
        "array2string array_repr array_str base_repr binary_repr format_float_positional format_float_scientific "
        "typename mintypecode repr str format ascii id type isinstance issubclass callable hash dir vars locals "
        "globals object super property classmethod staticmethod memoryview getattr hasattr doc get_include "
        "iterable is_ is_not is_none is_not_none"
    ),
    "reads the memory of its argument as bytes": (
        "frombuffer ndarray recarray from_dlpack bytes bytearray chr ord fromstring record rec chararray tobytes "
        "as_strided void str_ bytes_ character flexible datetime64 timedelta64 busday_count busday_offset "
        "is_busday busdaycalendar datetime_as_string datetime_data unicode_"
    ),
    "searches or samples for seconds": (
        "fmin fmin_bfgs fmin_cg fmin_cobyla fmin_l_bfgs_b fmin_ncg fmin_powell fmin_slsqp fmin_tnc minimize "
        "expm_cond differential_evolution dual_annealing shgo direct basinhopping brute monte_carlo_test bootstrap "
        "permutation_test power goodness_of_fit fit multiscale_graphcorr dunnett tukey_hsd make_distribution "
        "qmc nquad qmc_quad tplquad cubature milp linprog linprog_verbose_callback quadratic_assignment "
        "levy_stable studentized_range nbdtrik vonmises_fisher random_correlation kstwo ecdf somersd "
        "kolmogn_inv sampling NumericalInverseHermite NumericalInversePolynomial DiscreteAliasUrn "
        "FastGeneratorInversion "
        "TransformedDensityRejection RatioUniforms SimpleRatioUniforms DiscreteGuideTable expect abcd_normalize "
        "Mixture truncate Normal Uniform Binomial Logistic order_statistic"
    ),
    "returns memory as it was found": "empty empty_like masked_all_like RK23 RK45 DOP853 Radau BDF LSODA OdeSolver",
    "differs by machine: NumPy's AVX-512 loops keep the last operand alone": (
        "arctan2.reduce arctan2.reduceat atan2.reduce atan2.reduceat power.reduce power.reduceat pow.reduce "
        "pow.reduceat"
    ),
    "its dtype is decided by rounding: SciPy keeps imaginary parts of 1e-16": (
        "fractional_matrix_power"
    ),
    "makes a distribution or a filter window of a size": "rv_histogram rv_sample get_window check_COLA check_NOLA",
    "advances a stored state at each call": "nditer nested_iters flatiter broadcast RLock iter next aiter anext",
}
"""Why functions are not drawn: reason -> names, whatever namespace they stand in."""

_NAMES_SKIPPED = {name for names in SKIPPED.values() for name in names.split()}

# ------------------------------------------------------------------------------------------- values
TRACEABLE = ("scalar", "array", "list")


@dataclass(frozen=True)
class Slot:
    """One argument; a float scalar, float array or list of floats can be replaced by a traced one."""

    value: Any
    kind: str = "fixed"


def _array(make: Callable[[np.random.Generator], Any]) -> Callable[[np.random.Generator], Slot]:
    return lambda rng: Slot(np.asarray(make(rng), float), "array")


def _fixed(*values: Any) -> Callable[[np.random.Generator], Slot]:
    def draw(rng: np.random.Generator) -> Slot:
        value = values[int(rng.integers(len(values)))]
        return Slot(value.copy() if isinstance(value, np.ndarray) else value)

    return draw


def _spd(rng: np.random.Generator) -> Any:
    a = rng.uniform(0.2, 1.5, (3, 3))
    # not quite symmetric: equal entries are ties, and factorisations read one triangle
    return a @ a.T + 2.0 * np.eye(3) + rng.uniform(0.0, 1e-2, (3, 3))


def _weights(rng: np.random.Generator) -> Any:
    w = rng.uniform(0.2, 1.5, 3)
    return w / w.sum()


KINDS: dict[str, Callable[[np.random.Generator], Slot]] = {
    "s": lambda rng: Slot(np.float64(rng.uniform(0.2, 0.9)), "scalar"),
    "p": lambda rng: Slot(np.float64(rng.uniform(1.2, 3.4)), "scalar"),
    "v": _array(lambda rng: rng.uniform(0.2, 0.9, 3)),
    "g": _array(lambda rng: rng.normal(0.1, 1.5, 3)),
    "w": _array(_weights),
    "long": _array(lambda rng: rng.uniform(0.2, 2.5, 12)),
    "u": _array(lambda rng: np.cumsum(rng.uniform(0.2, 0.9, 5))),
    "m": _array(lambda rng: rng.normal(0.0, 1.2, (3, 3)) + 2.0 * np.eye(3)),
    "spd": _array(_spd),
    "r": _array(lambda rng: rng.uniform(0.2, 1.9, (2, 3))),
    "t": _array(lambda rng: rng.uniform(0.2, 1.9, (2, 3, 3))),
    "l": lambda rng: Slot([float(v) for v in rng.uniform(0.2, 0.9, 3)], "list"),
    "ll": lambda rng: Slot(
        [[float(v) for v in row] for row in rng.uniform(0.2, 0.9, (2, 3))], "list"
    ),
    "i": _fixed(1, 2, 3),
    "i0": _fixed(0, 1, -1),
    "iv": _fixed(np.array([0, 2, 1]), np.array([1, 1, 2])),
    "b": _fixed(np.array([True, False, True])),
    "c": lambda rng: Slot(rng.normal(size=3) + 1j * rng.normal(size=3)),
    "f": _fixed(np.sin, lambda x: x * x + 1.0, np.sum),
    "f0": _fixed(
        lambda x, *a: float(np.sum(np.asarray(x) ** 3)) - 0.3, lambda x, *a: np.asarray(x) - 0.4
    ),
    "shape": _fixed((3,), 3, (3, 1), (2, 3), 9, (3, 3)),
    "seq": lambda rng: Slot([rng.uniform(0.2, 0.9, 3), rng.uniform(0.2, 0.9, 3)], "list"),
    "sparse": lambda rng: Slot(scipy.sparse.csr_array(_spd(rng))),
}
"""Names of kinds of values and how one is drawn: generic points, away from kinks and poles as far as a kind can be."""

PROFILES = ("v", "m", "s", "p", "spd", "g", "w", "u", "l", "ll", "long", "r", "t", "seq")
_BY_NAME = {
    "axis": "axis",
    "axis1": "i0",
    "axis2": "i0",
    "axes": "axes",
    "n": "i k",
    "N": "i",
    "k": "i i0 k",
    "m": "i m v",
    "nt": "i",
    "num": "i",
    "num_": "i",
    "deg": "i",
    "order": "i order",
    "repeats": "i iv",
    "reps": "i",
    "kth": "i",
    "shape": "shape",
    "newshape": "shape",
    "new_shape": "shape",
    "size": "shape",
    "dims": "shape",
    "pad_width": "i",
    "indices": "iv i0",
    "ind": "iv",
    "indices_or_sections": "i",
    "obj": "iv i0",
    "index": "i0 iv",
    "multi_index": "iv",
    "condition": "b",
    "mask": "b",
    "condlist": "condlist",
    "choicelist": "seq",
    "choices": "seq",
    "where": "b",
    "keepdims": "true",
    "dtype": "dtype",
    "copy": "true",
    "mode": "mode",
    "method": "method",
    "casting": "casting",
    "subok": "true",
    "q": "s v i",
    "p": "s v i w",
    "alpha": "s p v",
    "func": "f f0",
    "fun": "f0",
    "f": "f f0",
    "func1d": "f",
    "function": "f",
    "args": "none",
    "kwds": "none",
    "kwargs": "none",
    "kw": "none",
    "arrays": "seq",
    "tup": "seq",
    "arys": "seq",
    "arrs": "seq",
    "system": "system",
    "b": "v m s b0",
    "window": "window",
    "dist": "dist",
    "cdf": "dist",
    "bins": "u i",
    "shift": "i",
    "source": "i0",
    "destination": "i0",
    "start": "i0 s",
    "stop": "i",
    "table": "r",
    "initial": "s",
    "fill_value": "s",
    "val": "s",
    "values": "v s",
    "weights": "v",
    "x0": "v s",
    "y0": "v",
    "lb": "v",
    "bounds": "bounds",
    "t": "s v u",
    "tck": "none",
    "xp": "u",
    "fp": "long5",
    "xi": "u",
    "yi": "long5",
    "points": "u",
    "element": "v",
    "test_elements": "v",
    "a_min": "s",
    "a_max": "p",
    "sigma": "p",
    "input": "m v t",
    "samples": "long",
    "sample": "long",
    "rvs": "long",
    "in1": "m v",
    "in2": "m v",
    "sos": "sos",
    "wp": "s",
    "ws": "p",
    "gpass": "p",
    "gstop": "p",
    "Wn": "s",
    "numtaps": "i",
    "seq_of_zeros": "v",
    "subscripts": "subscripts",
    "A": "m spd sparse",
    "B": "m v",
    "M": "m i",
    "ab": "ab",
    "c": "v s p",
    "cb": "ab",
    "d": "v s",
    "decimals": "i",
    "lag": "i",
    "op": "f",
    "diagonals": "seq",
    "offsets": "iv",
    "widths": "iv",
    "polyorder": "i",
    "window_length": "w3",
    "format": "none",
    "blocks": "seqm",
    "matrix": "m spd",
    "dt": "s",
    "fs": "p",
    "freq": "u01",
    "gain": "v",
    "bands": "u01",
    "desired": "v",
    "cutoff": "s",
    "structure": "none",
    "footprint": "none",
    "iterations": "i",
    "rank": "i",
    "sigma_": "p",
    "peaks": "iv",
    "number": "s p",
    "x": "v m s u long",
    "y": "v m s long5",
    "a": "m v s p spd t",
    "z": "v s",
    "arr": "m v",
    "data": "m v long",
    "ary": "m v",
    "v": "v p s i",
    "u": "v s",
    "r": "v s",
    "h": "v",
    "X": "m r",
    "Q": "spd",
    "R": "spd",
    "lambda_": "s",
    "ddof": "i0",
    "theta": "s v",
    "phi": "s v",
    "ord": "ord",
    "norm": "fftnorm",
    "s": "shapes v",
    "l": "i",
    "side": "side",
    "out": "none",
}
"""Parameter name -> kinds to draw from."""

_FIXED = {
    "axis": (0, -1, None, 1),
    "axes": ((0, 1), (1, 0), None, 0),
    "k": (0, 1, 2),
    "order": ("C", "F", None),
    "true": (True, False),
    "dtype": (float, np.float64, complex, None, np.float32),
    "mode": ("same", "valid", "full", "reflect", "edge", "wrap", "constant", "nearest", "r"),
    "method": (None, "linear", "nearest", "exact", "auto"),
    "casting": ("same_kind", "unsafe"),
    "window": ("hann", ("tukey", 0.3)),
    "dist": ("norm", "expon"),
    "bounds": ([(0.0, 1.0)] * 3, (0.0, 1.0)),
    "subscripts": ("i,i->", "ij,jk->ik", "ij->ji", "ij,j", "i->"),
    "ord": (None, 1, 2, np.inf, "fro", "nuc"),
    "fftnorm": (None, "ortho", "forward"),
    "shapes": ((3,), (2, 3), None),
    "side": ("left", "right"),
    "w3": (3, 5),
    "none": (None,),
    "condlist": ([np.array([True, False, True]), np.array([False, True, False])],),
    "b0": (True, 1),
    "system": (
        (np.array([1.0]), np.array([1.0, 2.0])),
        (np.array([[-0.5]]), np.array([[1.0]]), np.array([[1.0]]), np.array([[0.0]])),
    ),
}
KINDS.update({name: _fixed(*values) for name, values in _FIXED.items()})
KINDS["long5"] = _array(lambda rng: rng.uniform(0.2, 1.9, 5))
KINDS["u01"] = _array(lambda rng: np.linspace(0.0, 1.0, 4))
KINDS["ab"] = _array(
    lambda rng: np.array([[0.0, *rng.uniform(0.1, 0.4, 2)], rng.uniform(2.0, 3.0, 3)])
)
KINDS["sos"] = _array(
    lambda rng: np.array([[*rng.uniform(0.2, 0.9, 3), 1.0, *rng.uniform(0.1, 0.4, 2)]])
)
KINDS["seqm"] = lambda rng: Slot(
    [[rng.uniform(0.2, 0.9, (2, 2)), rng.uniform(0.2, 0.9, (2, 2))]], "list"
)
NAMED = {name: tuple(kinds.split()) for name, kinds in _BY_NAME.items()}


# ------------------------------------------------------------------------------------------- templates
@dataclass
class Template:
    """A call that works on plain numbers."""

    args: list[Slot]
    kw: dict[str, Slot]
    seconds: float = 0.0


INTEGER_FIRST = frozenset(
    "expn yn kn spherical_jn spherical_yn spherical_in spherical_kn eval_jacobi eval_gegenbauer eval_genlaguerre "
    "eval_laguerre eval_legendre eval_chebyt eval_chebyu eval_chebyc eval_chebys eval_hermite eval_hermitenorm "
    "eval_sh_legendre eval_sh_chebyt eval_sh_chebyu eval_sh_jacobi".split()
)
"""Functions whose order is an integer, which is where they have a derivative here; SciPy truncates others."""


COUNTS = {"bdtr": 2, "bdtrc": 2, "bdtri": 2, "nbdtr": 2, "nbdtrc": 2, "nbdtri": 2}
"""The same for several leading arguments, which SciPy's loops for other types truncate, or not."""


@dataclass
class Target:
    """A function to call, and the calls of it that were learned."""

    name: str
    f: Callable[..., Any]
    templates: list[Template] = field(default_factory=list)
    tried: int = 0
    learned: bool = False

    def learn(self, want: int = 4, budget: int = 48, slowest: float = 0.02) -> None:
        """Draw arguments until some calls succeed; what takes longer than ``slowest`` seconds is given up."""
        self.learned = True
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        required, optional = parameters(self.f)
        while len(self.templates) < want and self.tried < budget:
            self.tried += 1
            template = draw(rng, required, optional)
            before = time.perf_counter()
            try:
                with quiet():
                    result = self.f(*fresh(template.args), **fresh(template.kw))
            except Exception:
                if time.perf_counter() - before > slowest:
                    return
                continue
            template.seconds = time.perf_counter() - before
            if template.seconds > slowest:
                self.tried += 16
                continue
            last = self.name.rpartition(".")[2]
            for i in range(min(len(template.args), COUNTS.get(last, int(last in INTEGER_FIRST)))):
                template.args[i] = Slot(int(rng.integers(0, 4)))
            if getattr(self.f, "fixed_first", False):
                template.args[0] = Slot(template.args[0].value)
            if "out" in optional and rng.random() < 0.2 and type(result) is np.ndarray:
                template.kw["out"] = Slot(np.zeros_like(result))
            self.templates.append(template)


@contextlib.contextmanager
def quiet() -> Any:
    with (
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def fresh(slots: Any) -> Any:
    """The values of slots; arrays are copies, since a function may write into them."""
    if isinstance(slots, dict):
        return {k: copied(s.value) for k, s in slots.items()}
    return [copied(s.value) for s in slots]


def copied(x: Any) -> Any:
    if isinstance(x, np.ndarray) or scipy.sparse.issparse(x):
        return x.copy()
    return [copied(v) for v in x] if type(x) is list else x


def parameters(f: Any) -> tuple[list[str] | None, list[str]]:
    """The names of required and optional parameters; None for the first where nothing is known."""
    if isinstance(f, np.ufunc):
        # no `where=`: without `out` it returns memory as it was found, and with SciPy's ufuncs it damages the heap
        # (SciPy 1.17 with NumPy 2.4), without anything traced
        return [f"x{i + 1}" for i in range(f.nin)], ["out", "dtype"]
    try:
        signature = inspect.signature(f)
    except (ValueError, TypeError):
        return None, []
    required, optional = [], []
    for p in signature.parameters.values():
        if p.kind is p.VAR_KEYWORD:
            continue
        if p.kind is p.VAR_POSITIONAL:
            if not required:
                required = ["*", "*"]
        elif p.default is p.empty and p.kind is not p.KEYWORD_ONLY:
            required.append(p.name)
        elif p.kind is p.POSITIONAL_ONLY:
            optional.append("/" + p.name)
        elif p.name in ("tol", "rtol", "atol", "xtol", "ftol", "epsilon"):
            continue  # when an iteration stops: the last digits move with it
        elif p.name in NAMED or not isinstance(p.default, (bool, str)):
            optional.append(p.name)
        elif isinstance(p.default, bool) and not p.name.startswith("overwrite"):
            optional.append("?" + p.name)
    return required, optional


def draw(rng: np.random.Generator, required: list[str] | None, optional: list[str]) -> Template:
    """Arguments for one try."""
    profile = str(rng.choice(PROFILES))
    if required is None:
        required = ["?"] * int(rng.choice([1, 1, 2, 2, 3]))
    args = [value_for(rng, name, profile) for name in required]
    kw: dict[str, Slot] = {}
    for name in optional:
        if name.startswith("/"):
            if len(args) == len(required) and rng.random() < 0.3:
                args.append(value_for(rng, name[1:], profile))
        elif name != "out" and rng.random() < min(0.25, 1.2 / len(optional)):
            kw[name.lstrip("?")] = (
                KINDS["true"](rng) if name.startswith("?") else value_for(rng, name, profile)
            )
    return Template(args, kw)


def value_for(rng: np.random.Generator, name: str, profile: str) -> Slot:
    kinds = NAMED.get(name)
    if (
        kinds is None
        or (profile in kinds and rng.random() < 0.5)
        or (len(kinds) > 1 and rng.random() < 0.35)
    ):
        return KINDS[profile if rng.random() < 0.85 else str(rng.choice(PROFILES))](rng)
    return KINDS[str(rng.choice(kinds))](rng)


def floating_slots(template: Template) -> list[tuple[str, Any]]:
    """Where a traced value can stand: ("arg", i) or ("kw", name)."""
    found: list[tuple[str, Any]] = [
        ("arg", i) for i, s in enumerate(template.args) if s.kind in TRACEABLE
    ]
    return found + [("kw", name) for name, s in template.kw.items() if s.kind in TRACEABLE]


# ------------------------------------------------------------------------------------------- the functions
MODULES = (
    "numpy",
    "numpy.linalg",
    "numpy.fft",
    "numpy.lib.stride_tricks",
    "numpy.lib.scimath",
    "numpy.ma",
    "numpy.polynomial.polynomial",
    "numpy.polynomial.chebyshev",
    "numpy.polynomial.legendre",
    "numpy.polynomial.hermite",
    "scipy.special",
    "scipy.linalg",
    "scipy.signal",
    "scipy.signal.windows",
    "scipy.stats",
    "scipy.stats.mstats",
    "scipy.sparse",
    "scipy.sparse.linalg",
    "scipy.ndimage",
    "scipy.optimize",
    "scipy.interpolate",
    "scipy.integrate",
    "scipy.spatial",
    "scipy.spatial.distance",
    "scipy.fft",
    "scipy.fftpack",
    "scipy.cluster.vq",
    "scipy.differentiate",
    "math",
    "cmath",
    "statistics",
    "operator",
    "builtins",
    "random",
)
OURS = ("numpy", "numpy.linalg", "numpy.fft", "linalg", "special", "signal", "stats")
"""Namespaces of the package, whose functions promise the same."""

_OF_OBJECTS = {
    "ndarray of": lambda: np.ndarray,
    "Tracer of": lambda: nm.Tracer,
    "Generator of": lambda: np.random.Generator,
    "csr_array of": lambda: scipy.sparse.csr_array,
    "coo_array of": lambda: scipy.sparse.coo_array,
    "masked array of": lambda: np.ma.MaskedArray,
    "matrix of": lambda: np.matrix,
}


def targets() -> list[Target]:
    """Every function that may be drawn, by name."""
    found: dict[str, Target] = {}

    def add(name: str, f: Any) -> None:
        last = name.split(".")
        if not {last[-1], ".".join(last[-2:])} & _NAMES_SKIPPED and callable(f):
            found.setdefault(name, Target(name, f))

    for module in MODULES:
        for name, f in public(module):
            add(f"{module}.{name}", f)
            if isinstance(f, np.ufunc) and f.nin == 2 and f.nout == 1 and module == "numpy":
                for method in ("reduce", "accumulate", "outer", "at", "reduceat"):
                    add(f"numpy.{name}.{method}", getattr(f, method))
    for module in OURS:
        with contextlib.suppress(ImportError):
            for name, f in public(f"nnmath_core.{module}"):
                add(f"nm.{module}.{name}", f)
    for module in ("scipy.stats", "nnmath_core.stats"):
        with contextlib.suppress(ImportError):
            for name, f in public(module):
                for method in DISTRIBUTION_METHODS if name in DISTRIBUTIONS else ():
                    if hasattr(f, method):
                        add(f"{module}.{name}.{method}", getattr(f, method))
    for name, f in methods():
        add(name, f)
    for name, f in fuzz_compositions.COMPOSITIONS.items():
        found[name] = Target(name, f)
    return list(found.values())


DISTRIBUTIONS = tuple(
    "norm t gamma beta chi2 expon uniform laplace logistic lognorm cauchy weibull_min pareto gumbel_r halfnorm "
    "truncnorm "
    "multivariate_normal dirichlet wishart poisson binom bernoulli geom nbinom multinomial".split()
)
"""Those of `scipy.stats` that stand for all: the others inherit the same methods."""

DISTRIBUTION_METHODS = tuple(
    "pdf logpdf pmf logpmf cdf logcdf sf logsf ppf isf entropy mean var std moment median stats nnlf interval support "
    "rvs".split()
)


def public(module: str) -> list[tuple[str, Any]]:
    home = importlib.import_module(module)
    names = getattr(home, "__all__", None) or [n for n in dir(home) if not n.startswith("_")]
    found = []
    for name in sorted(set(names)):
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("error")  # deprecated names
            f = getattr(home, name)
            exception = isinstance(f, type) and issubclass(f, BaseException)
            if callable(f) and not exception and not isinstance(f, types.ModuleType):
                found.append((name, f))
    return found


_DUNDERS = tuple(
    "add radd iadd sub rsub isub mul rmul imul truediv rtruediv itruediv pow rpow ipow matmul rmatmul imatmul "
    "mod rmod imod floordiv rfloordiv ifloordiv divmod rdivmod and or xor lshift neg pos abs lt le gt ge eq ne "
    "getitem setitem contains len iter float int complex index bool round".split()
)


def methods() -> list[tuple[str, Any]]:
    """Methods and operators: ``f(self, *args)``; of Generator with a generator of its own at each call."""
    found = []
    for prefix, cls in _OF_OBJECTS.items():
        names = [n for n in dir(cls()) if not n.startswith("_")] + [f"__{n}__" for n in _DUNDERS]
        found += [
            (f"{prefix}.{name}", Method(prefix, name))
            for name in names
            if callable(getattr(cls(), name, None)) or prefix == "Tracer of"
        ]
    numbers = (fractions.Fraction, decimal.Decimal, array.array)
    return found + [(f"{cls.__module__}.{cls.__name__}", cls) for cls in numbers]


class Method:
    """A method as a function of the object and its arguments."""

    def __init__(self, prefix: str, name: str) -> None:
        self.prefix, self.name, self.own = prefix, name, getattr(_OF_OBJECTS[prefix](), name, None)
        if prefix == "Generator of":
            self.convert = lambda x: np.random.default_rng(0)
        else:
            self.convert = {
                "csr_array of": lambda x: scipy.sparse.csr_array(np.atleast_2d(x)),
                "coo_array of": lambda x: scipy.sparse.coo_array(np.atleast_2d(x)),
                "masked array of": lambda x: np.ma.array(x, mask=np.asarray(x) > 0.6),
                "matrix of": lambda x: np.asmatrix(x),
            }.get(prefix, lambda x: np.asarray(x) if isinstance(x, (list, float)) else x)
        self.fixed_first = prefix.partition(" ")[0] in (
            "csr_array",
            "coo_array",
            "masked",
            "matrix",
        )
        self.__signature__ = self.signature()

    def signature(self) -> inspect.Signature:
        try:
            known = inspect.signature(self.own)
            first = next(iter(known.parameters.values()))
            rest = list(known.parameters.values())[1:]
            if any(p.name in ("args", "kwargs", "params") for p in rest):
                raise ValueError
            # a generator's self is no array: leave it out of what is drawn
            lead = (
                []
                if self.prefix == "Generator of"
                else [first.replace(name="a", kind=first.POSITIONAL_ONLY)]
            )
            return inspect.Signature(lead + rest)
        except (ValueError, TypeError, StopIteration):
            two = self.name.strip("_") in _DUNDERS and self.name not in _UNARY
            names = ["a", "b"] if two else ["a"]
            kind = inspect.Parameter.POSITIONAL_ONLY
            return inspect.Signature([inspect.Parameter(n, kind) for n in names])

    def __call__(self, *args: Any, **kw: Any) -> Any:
        if self.prefix == "Generator of":
            return getattr(np.random.default_rng(0), self.name)(*args, **kw)
        own, *rest = args
        found = getattr(own if isinstance(own, nm.Tracer) else self.convert(own), self.name)
        return found(*rest, **kw) if callable(found) else found


_UNARY = {f"__{n}__" for n in "neg pos abs len iter float int complex index bool round".split()}
