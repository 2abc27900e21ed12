"""NumPy, einops and opt_einsum on traced arrays: derivatives, or a clear error; never an object array."""

import functools
import operator
import sys
import warnings
from pathlib import Path

import einops
import einops.array_api
import numpy as np
import opt_einsum
import pytest

import nnmath_core as nm
from nnmath_core.errors import NnmathError, TraceError

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

from recipes import WAYS, matrix

EPS = np.finfo(float).eps
RNG = np.random.default_rng(11)


# ------------------------------------------------------------------------------ everything NumPy dispatches
# In files and on screen; with another meaning of arrays (dates); not functions of arrays at all.
OUTSIDE = {
    "save",
    "savez",
    "savez_compressed",
    "savetxt",
    "datetime_as_string",
    "busday_count",
    "busday_offset",
}
OUTSIDE |= {"is_busday", "isnat"}

S = matrix()
STEP = RNG.standard_normal((3, 3))

ONLY = {"(x, dtype)": ("np.astype", "np.can_cast")}

# name -> ways that are not compared, and why
EXCEPTIONS = {
    "np.empty_like": (*WAYS, "its numbers mean nothing"),
    "np.astype": ("(x, dtype)", "differences of float32 are noise"),
    "np.linalg.svd": (
        "(three axes, 3)",
        "(x, indices, x, 0)",
        "free vectors where a singular value is 0 or repeats",
    ),
    "np.histogramdd": ("(v)", "(s)", "a sample without a row for each point"),
    "np.intersect1d": ("(mask, x)", "(mask, x, 0)", "NumPy makes a float of no boolean"),
    "np.std": ("(s)", "the root at 0"),
    "np.nanstd": ("(s)", "the root at 0"),
    "np.piecewise": ("(x, x, x)", "(x, indices, x, 0)", "a condition that is a number"),
    "np.repeat": ("(x, float)", "a count that is no integer"),
    "np.rot90": ("(x, float)", "a count that is no integer"),
    **{
        f"np.fft.{f}": (
            "(x, tuple)",
            "(x, shape)",
            "(x, list)",
            "deprecated by NumPy: `s` without `axes`",
        )
        for f in ("fftn", "ifftn", "rfftn", "irfftn")
    },
    "np.linalg.eig": ("(x)", "the length and phase of an eigenvector are free"),
}

# Of integers, of bits and of things that are no numbers: nothing to differentiate.
NOT_OF_FLOATS = {
    f"np.{name}"
    for name in (
        "bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor gcd lcm "
        "left_shift right_shift packbits unpackbits ravel_multi_index unravel_index bincount"
    ).split()
}


def dispatched():
    """Every function of np, np.linalg and np.fft that asks its arguments what to do."""
    for module, spelled in ((np, "np"), (np.linalg, "np.linalg"), (np.fft, "np.fft")):
        names = getattr(module, "__all__", dir(module))
        for name in sorted(set(names) - OUTSIDE):
            f = getattr(module, name)
            if isinstance(f, np.ufunc) or hasattr(f, "_implementation"):
                yield f"{spelled}.{name}", f
    yield "np.lib.stride_tricks.sliding_window_view", np.lib.stride_tricks.sliding_window_view


def flat(y):
    """The arrays and numbers of a result."""
    if isinstance(y, (tuple, list)):
        return [leaf for part in y for leaf in flat(part)]
    return [y] if isinstance(y, (np.ndarray, np.generic, nm.Tracer, int, float, complex)) else []


def vector(ys):
    """The floating-point numbers of a result as one real vector."""
    parts = [np.ravel(np.asarray(y)) for y in ys if np.asarray(y).dtype.kind in "fc"]
    z = np.concatenate([*parts, []])
    return np.concatenate([z.real, z.imag])


def plain(f, way, x):
    """The result on an ordinary array; None when NumPy refuses the call, or its size follows the values."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            ys = flat(f(*WAYS[way](x)))
            return ys if all(np.asarray(y).dtype.kind in "biufc" for y in ys) else None
    except Exception:
        return None


FUNCTIONS = dict(dispatched())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_numpy_dispatches_differentiates_or_says_that_it_cannot(name):
    f = FUNCTIONS[name]
    tried = 0
    for way in WAYS:
        at = plain(f, way, S.copy())
        h = 1e-6
        after, before = plain(f, way, S + h * STEP), plain(f, way, S - h * STEP)
        if at is None or after is None or before is None or name not in ONLY.get(way, (name,)):
            continue
        tried += 1
        if way in EXCEPTIONS.get(name, ("",))[:-1]:
            continue
        lengths = {vector(ys).size for ys in (at, after, before)}
        with np.errstate(invalid="ignore"):  # an infinity less an infinity
            slope = (vector(after) - vector(before)) / (2 * h) if len(lengths) == 1 else None
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                value, tangent = nm.jvp(
                    lambda x, way=way: flat(f(*WAYS[way](x))), (S.copy(),), (STEP,)
                )
        except NnmathError:
            continue
        assert all(getattr(y, "dtype", np.dtype(float)).kind != "O" for y in value), (
            f"{way}: an object array"
        )
        assert len(value) == len(at), way
        for y, want in zip(value, at, strict=True):
            assert np.shape(y) == np.shape(want), way
            assert np.asarray(y).dtype.kind == np.asarray(want).dtype.kind, way
            np.testing.assert_allclose(y, want, rtol=1e-9, atol=1e-12, err_msg=way)
        if slope is None or not np.all(np.isfinite(slope)) or vector(at).size == 0:
            continue
        got = vector(
            [t for y, t in zip(value, tangent, strict=True) if np.asarray(y).dtype.kind in "fc"]
        )
        # central differences: the error is h^2 times the third derivative, and rounding / h
        bound = 1e-5 * max(1.0, np.max(np.abs(slope)), np.max(np.abs(vector(at))))
        np.testing.assert_allclose(
            got, slope, rtol=0, atol=bound, err_msg=f"{way}: a lost derivative"
        )
    assert bool(tried) == (name not in NOT_OF_FLOATS), "no way to call it is in the table"


@pytest.mark.parametrize(
    "name", ["add", "copysign", "fmax", "float_power", "heaviside", "hypot", "nextafter"]
)
def test_a_list_beside_a_traced_array_is_an_array(name):
    f, numbers = getattr(np, name), [1.0, -0.5, 2.0]
    value, _ = nm.vjp(lambda x: f(x, numbers), S)
    assert np.asarray(value).dtype == np.float64
    np.testing.assert_allclose(value, f(S, numbers), rtol=4 * EPS)


# ------------------------------------------------------------------------------ opt_einsum
A, B, C = (RNG.standard_normal(s) for s in ((3, 4), (4, 5), (5, 3)))

CONTRACTIONS = {
    "chain": (lambda a, b, c: opt_einsum.contract("ij,jk,kl->il", a, b, c), (A, B, C)),
    "trace": (lambda a, b, c: opt_einsum.contract("ij,jk,ki->", a, b, c), (A, B, C)),
    "constants first": (lambda c: opt_einsum.contract("ij,jk,kl->il", A, B, c), (C,)),
    "constants last": (lambda a: opt_einsum.contract("ij,jk,kl->il", a, B, C), (A,)),
    "diagonal": (lambda s: opt_einsum.contract("ii->i", s), (S,)),
    "repeated index": (lambda s: opt_einsum.contract("ii,ij->j", s, s), (S,)),
    "outer": (lambda a, c: opt_einsum.contract("ij,kl->ijkl", a, c), (A, C)),
    "transpose": (lambda a: opt_einsum.contract("ij->ji", a), (A,)),
    "ellipsis": (lambda s: opt_einsum.contract("...i,...i->...", s, s), (S,)),
    "expression": (
        lambda a: opt_einsum.contract_expression("ij,jk->ik", (3, 4), (4, 5))(a, B),
        (A,),
    ),
    "constants of an expression": (
        lambda a: opt_einsum.contract_expression("ij,jk,kl->il", (3, 4), B, C, constants=[1, 2])(a),
        (A,),
    ),
    "interleaved": (lambda a, b: opt_einsum.contract(a, (0, 1), b, (1, 2), (2, 0)), (A, B)),
}


@pytest.mark.parametrize("name", CONTRACTIONS)
def test_opt_einsum_contracts_traced_arrays(name):
    f, arrays = CONTRACTIONS[name]

    def loss(*xs):
        y = f(*xs)
        assert isinstance(y, nm.Tracer) or not any(isinstance(x, nm.Tracer) for x in xs)
        return np.sum(np.sin(y))

    value, _ = nm.value_and_grad(loss)(*arrays)
    assert value == pytest.approx(loss(*arrays), rel=64 * EPS * A.size)
    nm.check_grads(loss, arrays)


def test_opt_einsum_finds_its_functions_in_the_package_of_the_tracer():
    assert nm.Tracer.__module__.partition(".")[0] == "nnmath_core"
    for name in ("einsum", "tensordot", "transpose"):
        assert getattr(nm, name) is getattr(nm.numpy, name)
        assert name not in nm.__all__


# ------------------------------------------------------------------------------ einops
X = RNG.standard_normal((2, 6, 4))


class Backend(einops._backends.AbstractBackend):
    """What einops needs to know of traced arrays; also printed in docs/functions.md."""

    framework_name = "nnmath_core"

    def is_appropriate_type(self, tensor):
        return isinstance(tensor, nm.Tracer)

    def transpose(self, x, axes):
        return np.transpose(x, axes)

    def tile(self, x, repeats):
        return np.tile(x, repeats)

    def concat(self, tensors, axis):
        return np.concatenate(tensors, axis)

    def stack_on_zeroth_dimension(self, tensors):
        return np.stack(tensors)

    def add_axis(self, x, new_position):
        return np.expand_dims(x, new_position)

    def is_float_type(self, x):
        return x.dtype.kind == "f"

    def einsum(self, pattern, *x):
        return np.einsum(pattern, *x)


PATTERNS = {
    "rearrange": lambda e, x: e.rearrange(x, "b (h w) c -> b c h w", h=2),
    "rearrange a list": lambda e, x: e.rearrange([x, 2 * x], "l b t c -> b (l t) c"),
    "reduce mean": lambda e, x: e.reduce(x, "b (h w) c -> h c", "mean", h=2),
    "reduce max": lambda e, x: e.reduce(x, "b t c -> b c", "max"),
    "reduce min": lambda e, x: e.reduce(x, "b t c -> b", "min"),
    "reduce prod": lambda e, x: e.reduce(x, "b t c -> b c", "prod"),
    "reduce sum": lambda e, x: e.reduce(x, "b t c -> ", "sum"),
    "repeat": lambda e, x: e.repeat(x, "b t c -> b t k c", k=3),
    "pack": lambda e, x: e.pack([x, x[:, 0]], "b * c")[0],
    "unpack": lambda e, x: e.unpack(x, [(2,), (2, 2)], "b * c")[1],
}


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("module", [einops.array_api, einops], ids=["array_api", "backend"])
def test_einops_rearranges_traced_arrays(module, name):
    f = functools.partial(PATTERNS[name], module)
    np.testing.assert_allclose(nm.vjp(f, X)[0], PATTERNS[name](einops, X), rtol=8 * EPS)
    nm.check_grads(lambda x: np.sum(np.sin(f(x))), (X,))


def test_einops_einsum_of_traced_arrays():
    f = lambda x: einops.einsum(x, x, "b t c, b s c -> b t s")  # noqa: E731
    np.testing.assert_allclose(nm.vjp(f, X)[0], f(X), rtol=0, atol=64 * EPS)
    nm.check_grads(lambda x: np.sum(np.sin(f(x))), (X,))


# ------------------------------------------------------------------------------ no way into an ordinary array
INTO = {
    "np.asarray": np.asarray,
    "np.array of a list": lambda x: np.array([x[0, 0], x[1, 1]]),
    "np.full": lambda x: np.full(3, x[0, 0]),
    "np.fromiter": lambda x: np.fromiter(iter(x[0]), float),
    "np.copyto": lambda x: np.copyto(np.zeros((3, 3)), x),
    "np.put": lambda x: np.put(np.zeros(3), [0], x[0, :1]),
    "np.putmask": lambda x: np.putmask(np.zeros(3), [True, False, True], x[0]),
    "np.place": lambda x: np.place(np.zeros(3), [True, False, True], x[0]),
    "np.put_along_axis": lambda x: np.put_along_axis(
        np.zeros((3, 3)), np.array([[0, 1, 2]]), x[:1], 0
    ),
    "np.fill_diagonal": lambda x: np.fill_diagonal(np.zeros((3, 3)), x[0, 0]),
    "np.fill_diagonal of a tracer": lambda x: np.fill_diagonal(x, 0.0),
    "np.add.at": lambda x: np.add.at(np.zeros(3), [0, 1, 2], x[0]),
    "out=": lambda x: np.add(x, x, out=np.zeros((3, 3))),
    "item assignment": lambda x: operator.setitem(np.zeros(3), 0, x[0, 0]),
    "np.from_dlpack": np.from_dlpack,
    "nm.numpy.from_dlpack": nm.numpy.from_dlpack,
    "np.r_": lambda x: np.r_[x[0], 1.0],
    "np.vectorize": lambda x: np.vectorize(lambda v: 2 * v)(x),
    "np.frompyfunc": lambda x: np.frompyfunc(lambda v: 2 * v, 1, 1)(x),
}


@pytest.mark.parametrize("name", INTO)
def test_a_traced_array_never_enters_an_ordinary_one(name):
    error = TypeError if name == "np.from_dlpack" else TraceError  # NumPy 2.0 words its own
    with pytest.raises(error) as caught:
        nm.grad(lambda x: (INTO[name](x), x.sum())[1])(S)
    assert len(str(caught.value)) > 30


IN_PLACE = ("copyto", "fill_diagonal", "place", "put", "put_along_axis", "putmask")


@pytest.mark.parametrize("name", IN_PLACE)
def test_functions_that_write_are_numpys_on_plain_arrays(name):
    calls = {
        "copyto": lambda f, y: f(y, 1.0),
        "fill_diagonal": lambda f, y: f(y, 1.0),
        "place": lambda f, y: f(y, y == 0, [1.0, 2.0]),
        "put": lambda f, y: f(y, [0, 4], 3.0),
        "put_along_axis": lambda f, y: f(y, np.array([[0, 1, 2]]), 1.0, 0),
        "putmask": lambda f, y: f(y, y == 0, 2.0),
    }
    ours, numpys = np.zeros((3, 3)), np.zeros((3, 3))
    calls[name](getattr(nm.numpy, name), ours)
    calls[name](getattr(np, name), numpys)
    assert np.array_equal(ours, numpys)
    assert ours.any()
