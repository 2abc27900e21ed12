"""Unusual inputs, as a table: a defined result or one clear error, never a wrong number."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import nnmath_core as nm
from nnmath_core.errors import DtypeError, ShapeError, TraceError, TreeError

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

import bad_input

EPS = np.finfo(float).eps
BASE = np.array([0.5, -1.0, 2.0, 3.0])


def swapped(x):
    return x.astype(x.dtype.newbyteorder())


def unaligned(x):
    raw = np.zeros(x.nbytes + 1, np.uint8)
    y = raw[1:].view(x.dtype)
    y[:] = x
    assert not y.flags.aligned
    return y


def read_only(x):
    y = x.copy()
    y.flags.writeable = False
    return y


def loss(x):
    """Of entries and their neighbours, so that layout matters."""
    return np.sum(np.tanh(x) * x) + np.sum(np.cumsum(x.reshape(-1)) ** 2)


LAYOUTS = {
    "contiguous": lambda: BASE.copy(),
    "float32": lambda: BASE.astype(np.float32),
    "big-endian": lambda: swapped(BASE),
    "big-endian float32": lambda: swapped(BASE.astype(np.float32)),
    "unaligned": lambda: unaligned(BASE),
    "read-only": lambda: read_only(BASE),
    "strided": lambda: np.repeat(BASE, 2)[::2],
    "negative stride": lambda: BASE[::-1].copy()[::-1],
    "fortran order": lambda: np.asfortranarray(BASE.reshape(2, 2)),
    "transposed": lambda: BASE.reshape(2, 2).T,
    "broadcast": lambda: np.broadcast_to(0.5, (4,)),
    "overlapping windows": lambda: np.lib.stride_tricks.sliding_window_view(BASE, 2),
    "zero size": lambda: np.zeros((0, 3)),
    "zero size row": lambda: np.zeros((2, 0)),
    "one element": lambda: np.array([0.7]),
    "0-d array": lambda: np.array(0.7),
    "NumPy scalar": lambda: np.float64(0.7),
    "NumPy float32 scalar": lambda: np.float32(0.7),
    "Python float": lambda: 0.7,
    "memmap": lambda: np.asarray(BASE),
    "subnormal": lambda: np.array([5e-324, 1e-310]),
    "huge": lambda: np.array([1e150, -1e150]),
}


def reference(x):
    """The gradient of `loss` by hand, on a contiguous native copy."""
    y = np.array(np.asarray(x), dtype=np.asarray(x).dtype.newbyteorder("="), order="C")
    flat = np.cumsum(y.reshape(-1))
    tail = 2 * np.cumsum(flat[::-1])[::-1].reshape(y.shape)
    t = np.tanh(y)
    return t + y * (1 - t * t) + tail


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_gradient_of_its_values(name):
    x = LAYOUTS[name]()
    before = np.array(x)
    writeable = getattr(getattr(x, "flags", None), "writeable", None)
    with np.errstate(over="ignore"):
        g = nm.grad(loss)(x)
        want = reference(x)
        _, t = nm.jvp(loss, (x,), (np.ones_like(np.asarray(x)),))
    dtype = np.asarray(x).dtype.newbyteorder("=")
    scale = max(1.0, float(np.max(np.abs(want), initial=0.0)))
    tol = float(16 * np.finfo(dtype).eps * scale)  # sums of at most six terms of this scale
    assert g.dtype == dtype
    assert g.dtype.isnative
    assert np.shape(g) == np.shape(x)
    np.testing.assert_allclose(g, want, rtol=0, atol=tol)
    assert float(t) == pytest.approx(float(want.sum()), abs=8 * tol)
    np.testing.assert_array_equal(np.array(x), before)
    if writeable is not None:
        assert x.flags.writeable == writeable
    if isinstance(x, np.ndarray):
        assert isinstance(g, np.ndarray)
        assert g.flags.writeable
        assert not np.shares_memory(g, x)


@pytest.mark.parametrize("name", [n for n in LAYOUTS if n != "broadcast"])
def test_every_layout_works_as_a_constant(name):
    c = LAYOUTS[name]()
    x = np.full(np.shape(c), 0.3)
    with np.errstate(over="ignore"):
        g = nm.grad(lambda x: np.sum(x * c) + np.sum(c * x))(x)
    np.testing.assert_array_equal(g, 2.0 * np.asarray(c, dtype=float))


class Quantity(np.ndarray):
    """A subclass with a meaning of its own."""


REFUSED = {
    "a string": ("text", DtypeError, "str"),
    "None in a list": ([None, "a"], DtypeError, "str"),
    "object array": (np.array([1.0, None], object), DtypeError, "objects"),
    "ragged": (np.array([np.ones(2), np.ones(3)], object), DtypeError, "ragged"),
    "masked": (np.ma.array([1.0, 2.0], mask=[True, False]), DtypeError, "filled"),
    "matrix": (np.array([[1.0, 2.0]]).view(np.matrix), DtypeError, "np.asarray"),
    "subclass": (BASE.view(Quantity), DtypeError, "Quantity"),
    "complex": (BASE + 0j, DtypeError, "real"),
    "complex scalar": (1j, DtypeError, "complex"),
    "float16": (BASE.astype(np.float16), DtypeError, "astype"),
    "longdouble": (BASE.astype(np.longdouble), DtypeError, "astype"),
    "integers": (np.arange(3), DtypeError, "float"),
    "unsigned": (np.arange(3, dtype=np.uint8), DtypeError, "float"),
    "booleans": (np.array([True]), DtypeError, "float"),
    "datetime": (np.array(["2020-01-01"], "datetime64[D]"), DtypeError, "datetime64"),
    "structured": (np.zeros(2, [("a", float)]), DtypeError, r"argument 0|primals\[0\]"),
    "a Series": (pd.Series([1.0]), DtypeError, "to_numpy"),
    "a DataFrame": (pd.DataFrame({"a": [1.0]}), DtypeError, "to_numpy"),
    "a set": ({1.0}, DtypeError, "set"),
    "a function": (np.sum, DtypeError, r"argument 0|primals\[0\]"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize(
    "door",
    [
        lambda f, x: nm.grad(f)(x),
        lambda f, x: nm.value_and_grad(f)(x),
        lambda f, x: nm.vjp(f, x),
        lambda f, x: nm.jvp(f, (x,), (x,)),
        lambda f, x: nm.hessian(f)(x),
        lambda f, x: nm.linearize(f, x),
    ],
    ids=["grad", "value_and_grad", "vjp", "jvp", "hessian", "linearize"],
)
def test_what_cannot_be_differentiated_is_one_clear_error(name, door):
    x, error, words = REFUSED[name]
    calls = []

    def f(x):
        calls.append(1)
        return np.sum(x)

    with pytest.raises(error, match=words):
        door(f, x)
    assert not calls, "the function ran before the argument was refused"


@pytest.mark.parametrize(
    ("c", "words"),
    [
        (np.ma.array([1.0, 2.0, 3.0, 4.0], mask=[1, 0, 0, 0]), "masked"),
        (np.ones((1, 4)).view(np.matrix), "np.matrix"),
        (BASE.view(Quantity), "Quantity"),
        ("text", "str|text|ufunc"),
        (object(), "object"),
        ({"a": 1.0}, "dict"),
        (None, "NoneType"),
        ([1.0, None, 2.0, 3.0], "list"),
    ],
)
def test_a_constant_that_cannot_take_part_is_one_clear_error(c, words):
    with pytest.raises(TypeError, match=words):
        nm.grad(lambda x: np.sum(x * c))(BASE)


@pytest.mark.parametrize(
    "c",
    [
        np.array([1, 2, 3, 4]),
        np.array([True, False, True, False]),
        2,
        True,
        np.int64(3),
        [1, 2, 3, 4],
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_integers_and_booleans_are_constants(c, dtype):
    x = BASE.astype(dtype)
    g = nm.grad(lambda x: np.sum(x * c))(x)
    assert g.dtype == dtype
    np.testing.assert_array_equal(g, np.broadcast_to(np.asarray(c, float), (4,)))


def test_float32_with_float64_constants_promotes_as_numpy_and_returns_float32():
    x = BASE.astype(np.float32)
    value, g = nm.value_and_grad(lambda x: np.sum(x * BASE))(x)
    assert value.dtype == np.float64
    assert g.dtype == np.float32
    np.testing.assert_array_equal(g, BASE.astype(np.float32))


def test_complex_values_inside_a_real_function_carry_the_derivative():
    # |x + 2i|^2 = x^2 + 4 through complex arithmetic
    def f(x):
        z = x * (1.0 + 0.5j) * (1.0 - 0.5j) / 1.25 + 2.0j
        return np.sum(np.real(z * z) + 2.0 * np.imag(z) ** 2)

    # z = x + 2i: real(z^2) + 2 imag(z)^2 = x^2 - 4 + 8
    np.testing.assert_allclose(nm.grad(f)(BASE), 2 * BASE, rtol=16 * EPS)
    np.testing.assert_allclose(
        nm.jvp(f, (BASE,), (np.ones(4),))[1], np.sum(2 * BASE), rtol=16 * EPS
    )


@pytest.mark.parametrize(
    ("tangent", "error", "words"),
    [
        (np.ones(3), ShapeError, r"\(4,\).*\(3,\)"),
        (np.ones((4, 1)), ShapeError, r"\(4, 1\)"),
        (np.ones(4) + 1j, DtypeError, "complex"),
        ({"a": np.ones(4)}, TreeError, "structure"),
        ("text", DtypeError, "str"),
        (1.0, ShapeError, r"\(\)"),
    ],
)
def test_a_tangent_that_does_not_fit_is_refused(tangent, error, words):
    with pytest.raises(error, match=words):
        nm.jvp(loss, (BASE,), (tangent,))
    with pytest.raises(error, match=words):
        nm.vjp(lambda x: x * 2.0, BASE)[1](tangent)


def test_integer_tangents_are_converted():
    _, t = nm.jvp(lambda x: x * 2.0, (BASE,), (np.array([1, 0, 0, 0]),))
    assert t.dtype == np.float64
    np.testing.assert_array_equal(t, [2.0, 0, 0, 0])


def test_nan_and_infinity_flow_and_are_not_hidden():
    x = np.array([np.nan, np.inf, 1.0])
    with np.errstate(invalid="ignore"):
        g = nm.grad(lambda x: np.sum(x * x))(x)
    np.testing.assert_array_equal(g, [np.nan, np.inf, 2.0])


def test_argnums_out_of_range_and_missing_arguments_are_explained():
    with pytest.raises(TypeError, match="argnums"):
        nm.grad(lambda x: x, argnums=1)(1.0)
    with pytest.raises(TypeError, match="argnums"):
        nm.grad(lambda x: x, argnums="x")
    with pytest.raises(TypeError, match="argnums"):
        nm.grad(lambda x, y: x, argnums=(0, 0))
    with pytest.raises(TypeError, match="callable"):
        nm.grad(3.0)


@pytest.mark.parametrize("i", [1, np.int64(1), np.uint8(1), -1, np.int64(-1)])
def test_argnums_may_be_an_integer_of_numpy(i):
    f = lambda x, y: x * y**2  # noqa: E731
    assert nm.grad(f, argnums=i)(2.0, 3.0) == 12.0
    assert nm.grad(f, argnums=[i, 0])(2.0, 3.0) == (12.0, 9.0)
    assert nm.jacrev(f, argnums=i)(2.0, 3.0) == 12.0


@pytest.mark.parametrize("i", [True, 1.0, None, (), (0, 0), (0, np.int64(0)), (0, 1.0), "0"])
def test_argnums_that_are_no_integers_are_refused(i):
    with pytest.raises(TypeError, match="argnums"):
        nm.grad(lambda x, y: x * y, argnums=i)


def test_an_integer_is_advised_by_what_the_function_takes():
    for door in (nm.grad, nm.value_and_grad, nm.jacrev, nm.jacfwd, nm.jacobian, nm.hessian):
        with pytest.raises(DtypeError, match="argnums"):
            door(np.square)(3)
    for door in (
        lambda: nm.vjp(np.square, 3),
        lambda: nm.jvp(np.square, (3,), (1.0,)),
        lambda: nm.hvp(np.square, (np.arange(3),), (np.ones(3),)),
        lambda: nm.linearize(np.square, 3),
    ):
        with pytest.raises(DtypeError, match=r"or close over it\.$"):
            door()


def test_hvp_takes_tuples():
    for at, along in (((BASE,), BASE), (BASE, (BASE,)), (BASE, BASE)):
        with pytest.raises(TreeError, match=r"hvp: `\w+` must be a tuple .*Write \(x,\)"):
            nm.hvp(lambda x: np.sum(x**3), at, along)
    np.testing.assert_array_equal(nm.hvp(lambda x: np.sum(x**3), [BASE], [BASE]), 6 * BASE**2)


def test_a_tree_that_contains_itself_is_refused():
    x = [1.0]
    x.append(x)
    with pytest.raises(TreeError, match="itself"):
        nm.grad(lambda x: x[0])(x)


def test_dict_keys_that_cannot_be_sorted_are_refused():
    with pytest.raises(TreeError, match="sortable"):
        nm.grad(lambda p: p["a"])({"a": 1.0, 2: 2.0})


def test_vmap_without_a_common_length_is_refused():
    with pytest.raises(ShapeError, match="length"):
        nm.vmap(lambda x, y: x + y)(np.ones(3), np.ones(4))
    with pytest.raises(ShapeError, match="no axis"):
        nm.vmap(lambda x: x)(1.0)
    with pytest.raises(ShapeError, match="mapped"):
        nm.vmap(lambda x: x, in_axes=None)(np.ones(3))


def test_a_branch_on_a_batched_or_staged_value_names_where():
    f = lambda x: x if x > 0 else -x  # noqa: E731
    with pytest.raises(TraceError, match=r"np\.where"):
        nm.vmap(f)(BASE)
    with pytest.raises(TraceError, match=r"np\.where"):
        nm.stage(f, 1.0)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ShapeError, match=r"matmul.*\(4,\).*\(3,\)"):
        nm.grad(lambda x: x @ np.ones(3))(BASE)
    with pytest.raises(ShapeError, match="index `i` has length 4 in operand 0 and 3 in operand 1"):
        nm.grad(lambda x: np.einsum("i,i->", x, np.ones(3)))(BASE)
    with pytest.raises(ValueError, match="reshape"):
        nm.grad(lambda x: np.sum(x.reshape(3)))(BASE)
    with pytest.raises(IndexError):
        nm.grad(lambda x: x[4])(BASE)
    with pytest.raises(IndexError, match="out of bounds"):
        nm.grad(lambda x: np.sum(x[np.array([0, 9])]))(BASE)


# -------------------------------------------------------------------------------------- over the whole surface
SURFACE = {
    name: list(cases)
    for name, cases in itertools.groupby(bad_input.cases(), lambda case: case.name)
}


@pytest.mark.parametrize("name", SURFACE)
def test_bad_input_ends_as_in_numpy_or_in_one_clear_error(name):
    differs = []
    for case in SURFACE[name]:
        theirs = bad_input.outcome(case, "theirs")
        for way in bad_input.WAYS:
            here = bad_input.outcome(case, way)
            if here is None:
                continue
            if here.error is not None:
                assert str(here.error).strip(), f"{case.kind}, {way}: an error without a word"
            what = bad_input.verdict(theirs, here, way)
            listed = bad_input.DIFFERENCES.get(case.kind, "").split()
            if what.startswith("differs") and name.removeprefix("nm.") not in listed:
                differs.append(f"{case.kind}, {way}: {what}: {theirs} there, {here} here")
    assert not differs, "\n".join(differs)


def test_most_functions_have_an_ordinary_call():
    names = {name for name, _, _ in bad_input.functions()}
    assert len(SURFACE) >= 0.9 * len(names), sorted(names - set(SURFACE))


def test_differences_name_functions_and_kinds_that_exist():
    names = {name.removeprefix("nm.") for name, _, _ in bad_input.functions()}
    for kind, listed in bad_input.DIFFERENCES.items():
        assert kind in bad_input.KINDS
        assert set(listed.split()) <= names


@pytest.mark.parametrize(
    ("theirs", "here", "way", "what"),
    [
        (ValueError(), 1.0, "grad", "differs: a value for an error"),
        (ValueError(), np.nan, "grad", "NaN for an error"),
        (ValueError(), KeyError(), "grad", "differs: a slip"),
        (ValueError(), ShapeError(), "grad", "the same error"),
        (ValueError(), TraceError(), "grad", "our error"),
        (1.0, TraceError(), "plain", "differs: an error for a value"),
        (1.0, TraceError(), "grad", "refused"),
        (1.0, ValueError(), "grad", "differs: an error for a value"),
        (1.0, 1.0 + 1e-6, "jvp", "differs: another value"),
        (np.nan, 0.0, "jvp", "differs: another value"),
        (np.nan, np.nan, "jvp", "the same value"),
        (np.ones(2), np.ones((2, 1)), "vmap", "differs: another value"),
        (complex(np.inf, 0), complex(np.nan, np.nan), "jvp", "the same value"),
        (complex(0, 0), complex(np.nan, np.nan), "jvp", "differs: another value"),
        (np.array([1j, np.inf]), np.array([2j, np.nan]), "jvp", "differs: another value"),
    ],
)
def test_the_judge_can_find_fault(theirs, here, way, what):
    a, b = (
        bad_input.Outcome(error=x) if isinstance(x, Exception) else bad_input.Outcome((x,))
        for x in (theirs, here)
    )
    assert bad_input.verdict(a, b, way) == what


def test_the_judge_takes_the_value_that_did_not_overflow_and_no_other():
    theirs = bad_input.Outcome((np.nan,), wide=(2.0,))
    assert bad_input.verdict(theirs, bad_input.Outcome((2.0,)), "plain") == "the same value"
    assert bad_input.verdict(theirs, bad_input.Outcome((3.0,)), "plain").startswith("differs")
    assert bad_input.verdict(theirs, bad_input.Outcome(()), "plain").startswith("differs")


def judged(name, kind, here):
    """The verdict of a case of that name and kind, where a function of ours does what ``here`` does."""
    (case,) = (c for c in SURFACE[name] if c.kind == kind)
    there = bad_input.outcome(case, "theirs")
    form = bad_input.FORMS.get(name, lambda args, numbers: numbers)
    mine = bad_input.Outcome(tuple(form(case.args, list(here(*case.args)))))
    return bad_input.verdict(there, mine, "jvp")


def turned(a):
    """Another basis of the null space of the matrix of ones."""
    w, v = np.linalg.eigh(a)
    c, s = np.cos(0.3), np.sin(0.3)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, -1.0]])
    return w, v @ turn


def scaled_eig(a, factor):
    w, v = np.linalg.eig(a / 1e200)
    return factor * w + 0j, v + 0j


@pytest.mark.parametrize(
    ("name", "kind", "good", "bad"),
    [
        (
            "nm.numpy.linalg.eigh",
            "singular matrix",
            turned,
            lambda a: (turned(a)[0], np.eye(3)),
        ),
        (
            "nm.linalg.eigh",
            "singular matrix",
            turned,
            lambda a: (turned(a)[0], turned(a)[1] * np.array([1.0, 2.0, 1.0])),
        ),
        (
            "nm.linalg.svd",
            "singular matrix",
            lambda a: (turned(a)[1][:, ::-1], turned(a)[0][::-1], turned(a)[1].T[::-1]),
            lambda a: (turned(a)[1][:, ::-1], turned(a)[0][::-1], -turned(a)[1].T[::-1]),
        ),
        (
            "nm.linalg.null_space",
            "singular matrix",
            lambda a: (turned(a)[1][:, :2],),
            lambda a: (turned(a)[1][:, 1:],),
        ),
        (
            "nm.linalg.cho_factor",
            "huge numbers",
            lambda a: (np.linalg.cholesky(a.T).T, False),
            lambda a: (np.triu(a), False),
        ),
        (
            "nm.linalg.sqrtm",
            "singular matrix",
            lambda a: (a / 3**0.5,),
            lambda a: (-a / 3**0.5,),
        ),
        (
            "nm.numpy.linalg.norm",
            "huge numbers",
            lambda a: (np.linalg.norm(a / 1e200) * 1e200,),
            lambda a: (np.linalg.norm(a / 1e200) * 2e200,),
        ),
        (
            "nm.linalg.eig",
            "huge numbers",
            lambda a: scaled_eig(a, 1e200),
            lambda a: scaled_eig(a, 1e199),
        ),
    ],
)
def test_the_judge_tells_another_choice_from_a_fault(name, kind, good, bad):
    assert judged(name, kind, good) == "the same value"
    assert judged(name, kind, bad).startswith("differs")
