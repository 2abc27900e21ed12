"""`nnmath_core.numpy` is a namespace of the array API standard: names, parameters, element types, devices.

The table `array_api_standard.py` is compared with array-api-strict; plain arrays and traced ones are compared with
the table. The conformance suite runs when a checkout of it is given (`array_api_conformance.py`).
"""

import builtins
import inspect
import itertools
import os
import subprocess
import sys
from pathlib import Path

import array_api_conformance as conformance
import array_api_standard as standard
import array_api_strict
import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.autodiff.ops import conventions
from nnmath_core.errors import DeviceError, TraceError

xp = nm.numpy
EPS = np.finfo(float).eps
KINDS = inspect.Parameter


def found(namespace, name):
    for part in name.split("."):
        namespace = getattr(namespace, part)
    return namespace


def parameters(text):
    """The parameters of a function with this signature."""
    scope = {}
    exec(f"def f({text}): ...", {}, scope)
    return list(inspect.signature(scope["f"]).parameters.values())


# ------------------------------------------------------------------------------ names and parameters
def test_table_lists_the_names_of_array_api_strict():
    assert array_api_strict.__array_api_version__ == standard.VERSION
    listed = set(array_api_strict.__all__)
    listed |= {f"linalg.{name}" for name in array_api_strict.linalg.__all__}
    listed |= {f"fft.{name}" for name in array_api_strict.fft.__all__}
    own = {"ArrayAPIStrictFlags", "Device", "__version__"}  # of that package, not of the standard
    own |= {f"{verb}_array_api_strict_flags" for verb in ("get", "set", "reset")}
    ours = {*standard.SIGNATURES, *standard.CONSTANTS, *standard.DTYPES}
    ours |= {"__array_api_version__", "linalg", "fft"}
    # the two general eigenvalue functions are new in 2025.12, and array-api-strict 2.6 has not got them yet
    assert listed - own <= ours
    assert ours - listed <= {"linalg.eig", "linalg.eigvals"}


@pytest.mark.parametrize(
    "name", sorted(set(standard.SIGNATURES) - {"linalg.eig", "linalg.eigvals"})
)
def test_table_has_the_parameters_of_array_api_strict(name):
    def form(ps):
        """Names of what can be passed by name, kinds of the rest."""
        return [
            p.kind if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL) else (p.name, p.kind)
            for p in ps
        ]

    theirs = inspect.signature(found(array_api_strict, name)).parameters.values()
    assert form(parameters(standard.SIGNATURES[name])) == form(theirs)


@pytest.mark.parametrize("name", sorted(standard.SIGNATURES))
def test_function_takes_the_parameters_of_the_standard(name):
    f = found(xp, name)
    assert callable(f)
    try:
        ours = list(inspect.signature(f).parameters.values())
    except ValueError:
        assert f in (np.finfo, np.iinfo, np.result_type), "only NumPy's classes have no signature"
        return
    by_place = [p for p in ours if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    by_name = {p.name for p in ours if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    any_place = any(p.kind is p.VAR_POSITIONAL for p in ours)
    any_name = any(p.kind is p.VAR_KEYWORD for p in ours)
    wanted = parameters(standard.SIGNATURES[name])
    for i, p in enumerate(wanted):
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            assert any_place or i < len(by_place), f"`{p.name}` cannot be given by position"
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD):
            assert any_name or p.name in by_name, f"`{p.name}` cannot be given by name"
        if p.kind is p.VAR_POSITIONAL:
            assert any_place
    needed = [
        p for p in ours if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    assert len(needed) <= len([p for p in wanted if p.default is p.empty]), "asks for more"


def test_constants_and_dtypes_are_there():
    assert {name: getattr(xp, name) for name in ("e", "pi", "inf")} == {
        "e": np.e,
        "pi": np.pi,
        "inf": np.inf,
    }
    assert np.isnan(xp.nan)
    assert xp.newaxis is None
    for name in standard.DTYPES:
        dtype = getattr(xp, name)
        assert np.dtype(dtype).name == name
        assert xp.zeros(2, dtype=dtype).dtype == dtype
    assert xp.__array_api_version__ == standard.VERSION


def test_names_that_are_builtins_too_do_not_reach_the_code_of_the_namespace():
    shadowing = set(xp.__all__) & set(dir(builtins))
    assert {"abs", "all", "any", "bool", "max", "min", "pow", "round", "sum"} <= shadowing
    for module in ("creation", "inspection", "fft", "linalg"):
        code = vars(sys.modules[f"nnmath_core.numpy.{module}"])
        assert not shadowing & set(code)


# ------------------------------------------------------------------------------ element types
def expected(rule, dtype):
    if rule == "bool":
        return np.dtype(bool)
    return np.zeros(0, dtype).real.dtype if rule == "real" else np.dtype(dtype)


def ones(dtype, shape=(2,)):
    return np.ones(shape, dtype)


# NumPy 2.0 makes floats of integers here.
ROUNDING = {"ceil", "floor", "trunc"} if np.lib.NumpyVersion(np.__version__) < "2.1.0" else set()
CASES_1 = [
    (name, d)
    for name, (dtypes, _) in standard.UNARY.items()
    for d in dtypes
    if name not in ROUNDING or d in standard.REAL_FLOATING
]
CASES_2 = [(name, d) for name, (dtypes, _) in standard.BINARY.items() for d in dtypes]


@pytest.mark.parametrize(("name", "dtype"), CASES_1)
def test_function_of_one_array_has_the_element_type_of_the_standard(name, dtype):
    with np.errstate(all="ignore"):
        for x in (ones(dtype), ones(dtype, ())):
            y = getattr(xp, name)(x)
            assert y.dtype == expected(standard.UNARY[name][1], dtype)
            assert y.shape == x.shape


@pytest.mark.parametrize(("name", "dtype"), CASES_2)
def test_function_of_two_arrays_has_the_element_type_of_the_standard(name, dtype):
    f, rule = getattr(xp, name), standard.BINARY[name][1]
    kinds = {"b": True, "i": 1, "u": 1, "f": 1.0, "c": 1.0}
    with np.errstate(all="ignore"):
        for x, y in ((ones(dtype), ones(dtype)), (ones(dtype), ones(dtype, (3, 1)))):
            z = f(x, y)
            assert z.dtype == expected(rule, dtype)
            assert z.shape == np.broadcast_shapes(x.shape, y.shape)
        number = kinds[np.dtype(dtype).kind]
        assert f(ones(dtype), number).dtype == f(number, ones(dtype)).dtype == expected(rule, dtype)


def traced(f, dtype):
    """Result, its dtype and whether it is traced, of f inside of a differentiation at a vector of that type."""
    seen = []

    def g(x):
        part = x if np.dtype(dtype).kind == "f" else x + 0j * x
        y = f(part * 1)
        seen.append((type(y), y.dtype, y.shape))
        return x.sum()

    real = np.zeros(0, dtype).real.dtype
    with np.errstate(all="ignore"):
        nm.grad(g)(np.ones(2, real))
    return seen[0]


CARRY_NOTHING = {"ceil", "floor", "round", "sign", "trunc", "floor_divide"}


@pytest.mark.parametrize(
    ("name", "dtype"), [(n, d) for n, d in CASES_1 + CASES_2 if d in standard.FLOATING]
)
def test_elementwise_functions_keep_the_element_type_of_traced_arrays(name, dtype):
    f = getattr(xp, name)
    two = name in standard.BINARY
    rule = (standard.BINARY if two else standard.UNARY)[name][1]
    for call in [lambda x: f(x, x), lambda x: f(x, 1.0), lambda x: f(2.0, x)] if two else [f]:
        kind, dtype_, shape = traced(call, dtype)
        assert dtype_ == expected(rule, dtype)
        assert shape == (2,)
        constant = (
            rule == "bool"
            or name in CARRY_NOTHING
            or (name in ("copysign", "nextafter") and call(2.0) == 2.0)
        )
        if not constant:
            assert issubclass(kind, nm.Tracer), "the derivative is lost"


def test_element_types_promote_as_the_standard_says():
    families = (standard.SIGNED, standard.UNSIGNED, standard.REAL_FLOATING, standard.COMPLEX)
    pairs = [p for family in families for p in itertools.product(family, repeat=2)]
    pairs += list(itertools.product(standard.REAL_FLOATING, standard.COMPLEX))
    for a, b in pairs:
        bits = max(np.dtype(a).itemsize * (1 + (a[0] != "c" and b[0] == "c")), np.dtype(b).itemsize)
        want = next(d for f in families if b in f for d in f if np.dtype(d).itemsize == bits)
        assert xp.result_type(ones(a), ones(b)) == want
        assert xp.result_type(getattr(xp, a), getattr(xp, b)) == want
        assert (ones(a) + ones(b)).dtype == want
    for signed, unsigned in itertools.product(standard.SIGNED, standard.UNSIGNED[:-1]):
        bits = max(np.dtype(signed).itemsize, 2 * np.dtype(unsigned).itemsize)
        assert xp.result_type(getattr(xp, signed), getattr(xp, unsigned)) == f"int{8 * bits}"


def test_questions_about_element_types_are_answered_for_traced_arrays():
    def f(x):
        assert xp.can_cast(x, xp.float64)
        assert not xp.can_cast(x, xp.int64)
        assert np.can_cast(x, np.float32) == (x.dtype == np.float32)
        assert xp.finfo(x).dtype == x.dtype
        assert xp.finfo(x.dtype).eps == np.finfo(x.dtype).eps
        assert xp.result_type(x, xp.complex64) == np.result_type(x.dtype, np.complex64)
        assert xp.common_type(x, x) is x.dtype.type
        assert np.common_type(x) is x.dtype.type
        assert xp.min_scalar_type(x) == x.dtype
        assert np.min_scalar_type(x[0]) == np.float16
        assert xp.isdtype(x.dtype, "real floating")
        assert xp.issubdtype(x.dtype, xp.floating)
        assert xp.promote_types(x.dtype, "f4") == x.dtype
        return x.sum()

    for dtype in standard.REAL_FLOATING:
        nm.grad(f)(np.ones(3, dtype))


# ------------------------------------------------------------------------------ the other functions
X = np.random.default_rng(5).uniform(0.2, 0.8, (3, 4))
S = X[:, :3] + 3 * np.eye(3)
INDICES = np.array([2, 0, 2])

# name -> calls of a namespace and an array (3, 4), or a regular matrix (3, 3); results carry derivatives
DIFFERENTIABLE = {
    "astype": [
        lambda p, x: p.astype(x, p.float64, copy=True),
        lambda p, x: p.astype(x, p.float64, device="cpu"),
    ],
    "asarray": [
        lambda p, x: p.asarray(x, dtype=p.float64, device="cpu", copy=True),
        lambda p, x: p.asarray([[x[0, 0], 1.0], [2.0, x[1, 1]]]),
    ],
    "broadcast_arrays": [lambda p, x: p.broadcast_arrays(x, x[0], p.ones((2, 1, 1)))],
    "broadcast_to": [
        lambda p, x: p.broadcast_to(x, (2, 3, 4)),
        lambda p, x: p.broadcast_to(x, shape=(3, 4)),
    ],
    "clip": [
        lambda p, x: p.clip(x, 0.3, 0.7),
        lambda p, x: p.clip(x, min=0.3),
        lambda p, x: p.clip(x, max=0.5),
    ],
    "concat": [lambda p, x: p.concat([x, x], axis=1), lambda p, x: p.concat((x, x[0]), axis=None)],
    "cumulative_prod": [lambda p, x: p.cumulative_prod(x, axis=1, include_initial=True)],
    "cumulative_sum": [
        lambda p, x: p.cumulative_sum(x, axis=0, dtype=p.float64, include_initial=True)
    ],
    "diff": [
        lambda p, x: p.diff(x, axis=0, n=2),
        lambda p, x: p.diff(x, prepend=x[:, :1], append=x[:, :2]),
    ],
    "expand_dims": [lambda p, x: p.expand_dims(x, axis=1), lambda p, x: p.expand_dims(x, (0, -1))],
    "flip": [lambda p, x: p.flip(x), lambda p, x: p.flip(x, axis=(0, 1))],
    "full": [lambda p, x: p.full((2, 3), x[0, 0], dtype=p.float64, device="cpu")],
    "full_like": [lambda p, x: p.full_like(x, x[0, 0], dtype=p.float64, device="cpu")],
    "linspace": [
        lambda p, x: p.linspace(x[0, 0], x[1, 1], 5, endpoint=False),
        lambda p, x: p.linspace(0, x, num=3),
    ],
    "matmul": [lambda p, x: p.matmul(x, x.mT)],
    "matrix_transpose": [lambda p, x: p.matrix_transpose(x)],
    "max": [lambda p, x: p.max(x, axis=(0, 1), keepdims=True)],
    "mean": [lambda p, x: p.mean(x, axis=1, keepdims=True)],
    "meshgrid": [
        lambda p, x: p.meshgrid(x[0], x[:, 0], indexing="ij"),
        lambda p, x: p.meshgrid(x[0], x[:, 0]),
    ],
    "min": [lambda p, x: p.min(x, axis=0)],
    "moveaxis": [
        lambda p, x: p.moveaxis(x, 0, 1),
        lambda p, x: p.moveaxis(x[None], (0, 1), (1, 2)),
    ],
    "permute_dims": [lambda p, x: p.permute_dims(x, axes=(1, 0))],
    "prod": [lambda p, x: p.prod(x, axis=1, keepdims=True, dtype=p.float64)],
    "repeat": [
        lambda p, x: p.repeat(x, 2, axis=0),
        lambda p, x: p.repeat(x, np.array([1, 0, 2]), axis=0),
    ],
    "reshape": [
        lambda p, x: p.reshape(x, shape=(4, -1), copy=True),
        lambda p, x: p.reshape(x, (2, 6)),
    ],
    "roll": [lambda p, x: p.roll(x, (1, -2), axis=(0, 1)), lambda p, x: p.roll(x, shift=2)],
    "sort": [lambda p, x: p.sort(x, axis=0, descending=True, stable=True), lambda p, x: p.sort(x)],
    "squeeze": [lambda p, x: p.squeeze(x[None], axis=0)],
    "stack": [lambda p, x: p.stack([x, 2 * x], axis=-1)],
    "std": [lambda p, x: p.std(x, axis=1, correction=1, keepdims=True)],
    "sum": [lambda p, x: p.sum(x, axis=(0, 1), keepdims=True, dtype=p.float64)],
    "take": [lambda p, x: p.take(x, INDICES, axis=1)],
    "take_along_axis": [lambda p, x: p.take_along_axis(x, INDICES[:, None], axis=1)],
    "tensordot": [
        lambda p, x: p.tensordot(x, x, axes=((1,), (1,))),
        lambda p, x: p.tensordot(x, x),
    ],
    "tile": [lambda p, x: p.tile(x, (2, 1, 3))],
    "tril": [lambda p, x: p.tril(x, k=-1)],
    "triu": [lambda p, x: p.triu(x, k=1)],
    "unique_values": [lambda p, x: p.unique_values(x)],
    "unstack": [lambda p, x: p.unstack(x, axis=1)],
    "var": [lambda p, x: p.var(x, axis=0, correction=0.5)],
    "vecdot": [lambda p, x: p.vecdot(x, x[0], axis=-1)],
    "where": [lambda p, x: p.where(x > 0.5, x, 2 * x)],
    "linalg.cholesky": [
        lambda p, s: p.linalg.cholesky(s @ s.mT),
        lambda p, s: p.linalg.cholesky(s @ s.mT, upper=True),
    ],
    "linalg.cross": [lambda p, s: p.linalg.cross(s, 2 * s[::-1], axis=-1)],
    "linalg.det": [lambda p, s: p.linalg.det(s)],
    "linalg.diagonal": [lambda p, s: p.linalg.diagonal(s, offset=1)],
    "linalg.eigh": [lambda p, s: p.linalg.eigh(s + s.mT)[0]],
    "linalg.eigvalsh": [lambda p, s: p.linalg.eigvalsh(s + s.mT)],
    "linalg.inv": [lambda p, s: p.linalg.inv(s)],
    "linalg.matmul": [lambda p, s: p.linalg.matmul(s, s)],
    "linalg.matrix_norm": [lambda p, s: p.linalg.matrix_norm(s, ord="fro", keepdims=True)],
    "linalg.matrix_power": [
        lambda p, s: p.linalg.matrix_power(s, 3),
        lambda p, s: p.linalg.matrix_power(s, -1),
    ],
    "linalg.matrix_transpose": [lambda p, s: p.linalg.matrix_transpose(s)],
    "linalg.outer": [lambda p, s: p.linalg.outer(s[0], s[1])],
    "linalg.pinv": [lambda p, s: p.linalg.pinv(s), lambda p, s: p.linalg.pinv(s, rtol=1e-12)],
    "linalg.qr": [lambda p, s: p.linalg.qr(s, mode="reduced")],
    "linalg.slogdet": [lambda p, s: p.linalg.slogdet(s)[1]],
    "linalg.solve": [
        lambda p, s: p.linalg.solve(s, s[0]),
        lambda p, s: p.linalg.solve(s, s[:, :2]),
    ],
    "linalg.svd": [lambda p, s: p.linalg.svd(s, full_matrices=False)[1]],
    "linalg.svdvals": [lambda p, s: p.linalg.svdvals(s)],
    "linalg.tensordot": [lambda p, s: p.linalg.tensordot(s, s, axes=1)],
    "linalg.trace": [lambda p, s: p.linalg.trace(s, offset=1, dtype=p.float64)],
    "linalg.vecdot": [lambda p, s: p.linalg.vecdot(s, s[0], axis=-1)],
    "linalg.vector_norm": [lambda p, s: p.linalg.vector_norm(s, axis=1, keepdims=True, ord=3)],
    "linalg.eig": [lambda p, s: p.abs(p.linalg.eig(s)[0]) ** 2],
    "linalg.eigvals": [lambda p, s: p.abs(p.linalg.eigvals(s)) ** 2],
    **{
        f"fft.{name}": [
            lambda p, x, name=name: p.abs(getattr(p.fft, name)(x, n=5, axis=0, norm="ortho")) ** 2
        ]
        for name in ("fft", "ifft", "rfft", "ihfft")
    },
    **{
        f"fft.{name}": [
            lambda p, x, name=name: getattr(p.fft, name)(x + 0j, n=6, axis=-1, norm="forward")
        ]
        for name in ("hfft", "irfft")
    },
    **{
        f"fft.{name}": [
            lambda p, x, name=name: p.real(getattr(p.fft, name)(x, s=(4, 4), axes=(0, 1)))
        ]
        for name in ("fftn", "ifftn", "rfftn")
    },
    "fft.irfftn": [lambda p, x: p.fft.irfftn(x + 0j, s=(3, 6), axes=(0, 1), norm="backward")],
    "fft.fftshift": [lambda p, x: p.fft.fftshift(x, axes=1)],
    "fft.ifftshift": [lambda p, x: p.fft.ifftshift(x)],
}
# without derivative: called on plain arrays of float64; name -> (call, dtype or None for "anything")
WITHOUT = {
    "__array_namespace_info__": [],
    "all": [(lambda p, x: p.all(x, axis=1, keepdims=True), "bool")],
    "any": [(lambda p, x: p.any(x, axis=(0, 1)), "bool")],
    "arange": [
        (lambda p, x: p.arange(3), "int64"),
        (lambda p, x: p.arange(1.0, stop=4, step=2, device="cpu"), "float64"),
        (lambda p, x: p.arange(5, step=2, dtype=p.float32), "float32"),
    ],
    "argmax": [(lambda p, x: p.argmax(x, axis=1, keepdims=True), "int64")],
    "argmin": [(lambda p, x: p.argmin(x), "int64")],
    "argsort": [
        (lambda p, x: p.argsort(x, axis=0), "int64"),
        (lambda p, x: p.argsort(x, descending=True, stable=True), "int64"),
    ],
    "broadcast_shapes": [],
    "can_cast": [],
    "count_nonzero": [(lambda p, x: p.count_nonzero(x, axis=0, keepdims=True), "int64")],
    "empty": [
        (lambda p, x: 0 * p.zeros_like(p.empty((2, 3), dtype=p.float32, device="cpu")), "float32")
    ],
    "empty_like": [
        (lambda p, x: p.zeros_like(p.empty_like(x, dtype=p.int8, device="cpu")), "int8")
    ],
    "eye": [(lambda p, x: p.eye(3, 4, k=1, dtype=p.complex64, device="cpu"), "complex64")],
    "fft.fftfreq": [
        (lambda p, x: p.fft.fftfreq(4, d=0.5, dtype=p.float32, device="cpu"), "float32")
    ],
    "fft.rfftfreq": [(lambda p, x: p.fft.rfftfreq(4, d=0.5), "float64")],
    "finfo": [],
    "from_dlpack": [],
    "iinfo": [],
    "isdtype": [],
    "isin": [(lambda p, x: p.isin(x, x[0], invert=True), "bool")],
    "linalg.matrix_rank": [(lambda p, x: p.linalg.matrix_rank(x, rtol=1e-10), "int64")],
    "nonzero": [(lambda p, x: p.nonzero(x > 0.5), "int64")],
    "ones": [(lambda p, x: p.ones((2,), dtype=p.uint8, device="cpu"), "uint8")],
    "ones_like": [(lambda p, x: p.ones_like(x, dtype=p.float32, device="cpu"), "float32")],
    "result_type": [],
    "searchsorted": [
        (lambda p, x: p.searchsorted(p.sort(x[0]), x[1], side="right", sorter=None), "int64")
    ],
    "unique_all": [(lambda p, x: p.unique_all(x)[1:], "int64")],
    "unique_counts": [(lambda p, x: p.unique_counts(x).counts, "int64")],
    "unique_inverse": [(lambda p, x: p.unique_inverse(x).inverse_indices, "int64")],
    "zeros": [(lambda p, x: p.zeros(3, dtype=p.bool, device="cpu"), "bool")],
    "zeros_like": [(lambda p, x: p.zeros_like(x, dtype=p.int16, device="cpu"), "int16")],
}


def test_every_function_of_the_standard_is_called():
    called = {*DIFFERENTIABLE, *WITHOUT, *standard.UNARY, *standard.BINARY}
    assert called == set(standard.SIGNATURES)


def operand(name):
    return S if name.startswith("linalg.") else X


def leaves(y):
    return list(y) if isinstance(y, (tuple, list)) else [y]


CALLS = [
    pytest.param(n, f, id=f"{n}-{i}") for n, fs in DIFFERENTIABLE.items() for i, f in enumerate(fs)
]


@pytest.mark.parametrize(("name", "f"), CALLS)
def test_function_differentiates_and_has_the_plain_result(name, f):
    x = operand(name)
    plain = leaves(f(xp, x))
    results = []

    def total(x):
        ys = leaves(f(xp, x))
        results.append(
            [(type(y), y.dtype, y.shape, nm.value_of(y)) for y in ys if isinstance(y, nm.Tracer)]
        )
        return sum(np.sum(np.sin(y) * (k + 1)) for k, y in enumerate(ys))

    nm.grad(total)(x)
    first = results[0]
    assert first, "the derivative is lost"
    constant = name == "broadcast_arrays"  # its last operand is one
    assert constant or len(first) == len(plain)
    for (_, dtype, shape, value), y in zip(first, plain, strict=False):
        assert (dtype, shape) == (y.dtype, y.shape)
        assert isinstance(y, (np.ndarray, np.generic))
        # a composition may round otherwise than NumPy's own loop; entries are of order 10
        np.testing.assert_allclose(value, y, rtol=0, atol=2000 * EPS)
    nm.check_grads(total, (x,))


OF_ANY_PRECISION = [c for c in CALLS if "float64" not in c.values[1].__code__.co_names]


@pytest.mark.parametrize(("name", "f"), OF_ANY_PRECISION)
def test_float32_stays_float32(name, f):
    x = operand(name).astype(np.float32)
    plain = leaves(f(xp, x))
    # joined with numbers of float64
    want = {"asarray": {"float64"}, "broadcast_arrays": {"float32", "float64"}}
    assert {y.dtype.name for y in plain} == want.get(name, {"float32"})
    value, pull = nm.vjp(lambda x: leaves(f(xp, x)), x)
    assert [y.dtype for y in value] == [y.dtype for y in plain]
    assert pull(value)[0].dtype == np.float32


@pytest.mark.parametrize(
    ("name", "f", "dtype"),
    [
        pytest.param(n, f, d, id=f"{n}-{i}")
        for n, fs in WITHOUT.items()
        for i, (f, d) in enumerate(fs)
    ],
)
def test_function_without_derivative_has_its_element_type(name, f, dtype):
    plain = leaves(f(xp, X))
    for y in plain:
        assert y.dtype.name == dtype

    def same(x):
        for y, want in zip(leaves(f(xp, x)), plain, strict=True):
            assert y.dtype == want.dtype
            assert np.array_equal(nm.value_of(y), want)
        return x.sum()

    nm.grad(same)(X)


@pytest.mark.parametrize("dtype", standard.NUMERIC)
def test_sums_and_products_are_of_the_default_type_or_wider(dtype):
    x = ones(dtype)
    kind = x.dtype.kind
    wide = {"i": "int64", "u": "uint64"}.get(kind, dtype)
    for f in (xp.sum, xp.prod, xp.cumulative_sum, xp.cumulative_prod):
        assert f(x).dtype == wide
        assert f(x, dtype=getattr(xp, dtype)).dtype == dtype
    if kind in "fc":
        assert xp.mean(x).dtype == dtype
        assert xp.var(x).dtype == xp.std(x, correction=1).dtype == np.zeros(0, dtype).real.dtype


def test_descending_order_keeps_equal_entries_in_their_order():
    x = np.array([1.0, 3.0, 3.0, -2.0, 1.0, np.inf])
    assert xp.argsort(x, descending=True).tolist() == [5, 1, 2, 0, 4, 3]
    assert xp.argsort(x, descending=False).tolist() == [3, 0, 4, 1, 2, 5]
    assert xp.sort(x, descending=True).tolist() == x[[5, 1, 2, 0, 4, 3]].tolist()
    assert xp.sort(np.array([3, 1, 2], np.uint8), descending=True).tolist() == [3, 2, 1]
    weights = np.arange(6.0)
    _, pull = nm.vjp(lambda x: xp.sort(x, descending=True), x)
    want = np.zeros(6)
    want[[5, 1, 2, 0, 4, 3]] = weights
    assert np.array_equal(pull(weights)[0], want)
    batch = np.stack([x, x[::-1]])
    assert np.array_equal(
        nm.vmap(lambda x: xp.argsort(x, descending=True))(batch)[0], [5, 1, 2, 0, 4, 3]
    )
    assert xp.argsort(np.zeros((0, 3)), axis=0, descending=True).shape == (0, 3)


# ------------------------------------------------------------------------------ the array object
def test_traced_arrays_have_the_attributes_and_operators_of_the_standard():
    def f(x):
        for name in standard.ATTRIBUTES:
            assert hasattr(x, name)
        for name in standard.OPERATORS:
            # Python makes x <<= y of __lshift__, and shifts are of integers, which are not traced by a gradient
            assert hasattr(type(x), f"__{name}__") or "shift" in name, name
        for name in standard.METHODS + tuple(f"__{c}__" for c in standard.CONVERSIONS):
            assert callable(getattr(x, name))
        assert type(x).__hash__ is None
        assert (x.shape, x.ndim, x.size, x.dtype) == ((2, 3), 2, 6, np.float64)
        assert x.T.shape == x.mT.shape == (3, 2)
        assert x.device == "cpu"
        return x.sum()

    nm.grad(f)(np.ones((2, 3)))


def test_array_namespace_knows_its_versions():
    def f(x):
        assert x.__array_namespace__() is nm.numpy
        for version in standard.VERSIONS:
            assert x.__array_namespace__(api_version=version) is nm.numpy
        for version in ("2020.12", "2026.12", "", 2025):
            with pytest.raises(
                ValueError, match=r"`api_version` must be one of 2021.12, .*2025.12 or None"
            ):
                x.__array_namespace__(api_version=version)
        return x.sum()

    nm.grad(f)(np.ones(2))


@pytest.mark.parametrize("name", standard.REFUSED)
def test_traced_arrays_share_no_memory(name):
    def f(x):
        assert not hasattr(x, name)
        with pytest.raises(TraceError, match=rf"a traced array has no `{name}`.*nm.value_of\(x\)"):
            getattr(x, name)
        return x.sum()

    nm.grad(f)(np.ones(2))


# ------------------------------------------------------------------------------ inspection and devices
def test_inspection_says_what_the_namespace_can_do():
    info = xp.__array_namespace_info__()
    assert isinstance(info.devices(), tuple)
    assert info.default_device() in info.devices()
    assert info.capabilities() == {
        "boolean indexing": True,
        "data-dependent shapes": True,
        "max dimensions": 64,
    }
    assert info.default_dtypes(device="cpu") == {
        "real floating": np.float64,
        "complex floating": np.complex128,
        "integral": np.int64,
        "indexing": np.int64,
    }
    assert tuple(info.dtypes()) == standard.ALL
    for kind, names in {
        "bool": standard.BOOLEAN,
        "signed integer": standard.SIGNED,
        "unsigned integer": standard.UNSIGNED,
        "integral": standard.INTEGER,
        "real floating": standard.REAL_FLOATING,
        "complex floating": standard.COMPLEX,
        "numeric": standard.NUMERIC,
        ("bool", "real floating"): standard.BOOLEAN + standard.REAL_FLOATING,
        (): (),
    }.items():
        assert info.dtypes(kind=kind) == {name: np.dtype(name) for name in names}
    with pytest.raises(ValueError, match="`kind` must be one of bool, signed integer"):
        info.dtypes(kind="floats")


MADE = {
    "arange": (3,),
    "asarray": ([1.0],),
    "empty": (2,),
    "empty_like": (X,),
    "eye": (2,),
    "full": (2, 1.0),
    "full_like": (X, 1.0),
    "linspace": (0, 1, 3),
    "ones": (2,),
    "ones_like": (X,),
    "zeros": (2,),
    "zeros_like": (X,),
    "fft.fftfreq": (4,),
    "fft.rfftfreq": (4,),
}


@pytest.mark.parametrize("name", MADE)
def test_arrays_are_made_on_the_device_that_is_named(name):
    f = found(xp, name)
    for device in (None, "cpu", nm.device("cpu"), X.device):
        y = f(*MADE[name], device=device)
        assert y.device == nm.device("cpu")
        assert nm.device_of(y) == y.device
    with pytest.raises(DeviceError):
        f(*MADE[name], device="tpu")


def test_a_device_is_equal_to_its_name():
    cpu = nm.device("cpu")
    assert cpu == "cpu"
    assert "cpu" == cpu
    assert cpu != "cuda:0"
    assert cpu != 0
    assert {cpu: 1}["cpu"] == 1
    assert nm.device("cpu") == cpu


def test_a_traced_array_stays_on_its_device():
    def f(x):
        assert x.to_device("cpu") is x
        assert x.to_device(nm.device("cpu"), stream=None) is x
        assert xp.astype(x, np.float64, device="cpu").dtype == np.float64
        for move in (lambda: x.to_device("tpu"), lambda: xp.asarray(x, device="tpu")):
            with pytest.raises(DeviceError):
                move()
        return x.sum()

    nm.grad(f)(np.ones(2))
    nm.stage(f, np.ones(2))
    assert np.array_equal(
        nm.vmap(lambda x: x.to_device("cpu") * 2)(np.ones((2, 3))), np.full((2, 3), 2.0)
    )


def test_a_traced_array_does_not_move(monkeypatch):
    there = nm.device_of(X).__class__("cuda", 0)
    monkeypatch.setattr(conventions, "place_of", lambda device: there)

    def f(x):
        for name, move in {
            "to_device": lambda: x.to_device("cuda"),
            "astype": lambda: xp.astype(x, np.float64, device="cuda"),
            "asarray": lambda: xp.asarray(x, device="cuda"),
        }.items():
            with pytest.raises(
                DeviceError, match=f"{name}: `device` must be cpu, .* got cuda:0. Move what is"
            ):
                move()
        return x.sum()

    nm.grad(f)(np.ones(2))


# ------------------------------------------------------------------------------ code over a namespace alone
def strict_devices():
    return [d for d in array_api_strict.__array_namespace_info__().devices()]


@pytest.mark.parametrize("device", strict_devices(), ids=str)
def test_definitions_over_a_namespace_run_on_strict_arrays(device):
    from nnmath_core.device.backend import Backend

    class Strict(Backend):
        xp = array_api_strict

    be, s = Strict(), array_api_strict
    dtype = np.float32  # the device without float64 has it too

    def strict(x):
        return s.asarray(np.asarray(x, dtype), device=device)

    def host(y):
        assert y.device == device
        assert y.dtype == s.float32
        return np.asarray(y.to_device(s.Device("CPU_DEVICE")))

    tol = dict(rtol=0, atol=32 * np.finfo(dtype).eps)
    rng = np.random.default_rng(2)
    a, b = rng.uniform(size=(2, 3, 4)).astype(dtype), rng.uniform(size=(2, 4, 5)).astype(dtype)
    np.testing.assert_allclose(host(be.matmul(strict(a), strict(b))), a @ b, **tol)
    i = s.asarray(rng.integers(0, 4, (2, 3, 2), np.int32), device=device)
    got = be.take_along_axis(strict(a), i, axis=-1)
    np.testing.assert_array_equal(
        host(got), np.take_along_axis(a, np.asarray(i.to_device(s.Device("CPU_DEVICE"))), -1)
    )
    np.testing.assert_array_equal(
        host(be.where(strict(a) > strict(0.5), strict(a), strict(b[:, :3, :4]))),
        np.where(a > 0.5, a, b[:, :3, :4]),
    )
    np.testing.assert_array_equal(host(be.index_get(strict(a), (slice(None), 1, ...))), a[:, 1])
    hyper = dict(lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8, c1=0.1, c2=0.01)
    for step in ("adam_step", "adamw_step"):
        more = {"decay": 0.1} if step == "adamw_step" else {}
        w, m, v, g = (rng.uniform(0.5, 1, 6).astype(dtype) for _ in range(4))
        theirs = [strict(z) for z in (w, m, v, g)]
        getattr(be, step)(*theirs, **hyper, **more)
        getattr(nm.device.backend_for("cpu"), step)(w, m, v, g, **hyper, **more)
        for y, want in zip(theirs, (w, m, v, g), strict=True):
            np.testing.assert_allclose(host(y), want, **tol)


# ------------------------------------------------------------------------------ the conformance suite
def test_conformance_command_follows_the_rules():
    command, environment = conformance.command(Path("/suite"), Path("/tmp/x.txt"), examples=7)
    assert command[:4] == [sys.executable, "-m", "pytest", "array_api_tests/"]
    assert command[command.index("--max-examples") + 1] == "7"
    assert command[command.index("--xfails-file") + 1] == "/tmp/x.txt"
    assert {"--ci", "--disable-deadline"} <= set(command)
    assert environment["ARRAY_API_TESTS_MODULE"] == "nnmath_core.numpy"
    assert environment["ARRAY_API_TESTS_VERSION"] == standard.VERSION
    assert environment["ARRAY_API_TESTS_XFAIL_MARK"] == "skip"
    assert environment["PATH"] == os.environ["PATH"]


def test_conformance_exceptions_are_numpys_floor_division_and_nothing_else():
    lines = conformance.XFAILS
    assert len(lines) == len(set(lines)) == 18
    assert all(
        ("floor_divide" in line or "floordiv__" in line) and "infinity" in line for line in lines
    )
    # what they say of NumPy: dividing an infinity gives NaN, and a negative number by an infinity -1
    with np.errstate(all="ignore"):
        assert np.isnan(np.floor_divide(np.inf, 2.0))
        assert np.floor_divide(-1.0, np.inf) == -1


def test_conformance_runner_refuses_what_is_no_checkout(tmp_path):
    with pytest.raises(FileNotFoundError, match="array_api_tests"):
        conformance.require_checkout(tmp_path)
    (tmp_path / "array_api_tests").mkdir()
    with pytest.raises(FileNotFoundError, match=r"array-api/spec.*submodule"):
        conformance.require_checkout(tmp_path)
    (tmp_path / "array-api" / "spec" / "2025.12").mkdir(parents=True)
    conformance.require_checkout(tmp_path)


def test_conformance_runner_runs_the_suite_of_a_checkout(tmp_path):
    """A stand-in for the suite: it fails unless it is called as the suite is."""
    (tmp_path / "array-api" / "spec" / standard.VERSION).mkdir(parents=True)
    tests = tmp_path / "array_api_tests"
    tests.mkdir()
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n"
        "    for name in ('--max-examples', '--xfails-file'):\n"
        "        parser.addoption(name)\n"
        "    for name in ('--ci', '--disable-deadline'):\n"
        "        parser.addoption(name, action='store_true')\n"
    )
    (tests / "test_names.py").write_text(
        "import importlib, os\n"
        "def test_module(request):\n"
        "    xp = importlib.import_module(os.environ['ARRAY_API_TESTS_MODULE'])\n"
        "    assert xp.__array_api_version__ == os.environ['ARRAY_API_TESTS_VERSION']\n"
        "    assert 'floordiv' in open(request.config.getoption('--xfails-file')).read()\n"
        "    assert request.config.getoption('--max-examples') == '3'\n"
    )
    assert conformance.run(tmp_path, examples=3).returncode == 0
    (tests / "test_names.py").write_text("def test_fails():\n    assert False\n")
    assert conformance.run(tmp_path, examples=3).returncode == 1


@pytest.mark.array_api
@pytest.mark.slow
@pytest.mark.skipif(
    conformance.CHECKOUT is None,
    reason=f"set {conformance.VARIABLE} to a checkout of array-api-tests",
)
def test_conformance_suite_passes():
    result = conformance.run(
        conformance.CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert result.returncode == 0, result.stdout[-4000:]
