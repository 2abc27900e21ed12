"""What people type in their first hour works, or says what to do."""

import importlib.util
import math

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.special

import nnmath_core as nm
from nnmath_core.errors import DeviceError, DtypeError, ShapeError, TraceError

X = np.array([0.5, -1.5, 2.0])
EPS = np.finfo(float).eps


# ------------------------------------------------------------------ what works
def test_the_gradient_of_a_square_at_three_is_six():
    g = nm.grad(lambda x: x**2)(3.0)
    assert g == 6.0
    assert isinstance(g, float)


@pytest.mark.parametrize(
    ("f", "gradient"),
    [
        (lambda x: x.sum(), lambda x: np.ones(3)),
        (lambda x: x.mean(), lambda x: np.ones(3) / 3),
        (lambda x: x @ x, lambda x: 2 * x),
        (lambda x: (x.T * x).sum(), lambda x: 2 * x),
        (lambda x: np.dot(x, x), lambda x: 2 * x),
        (lambda x: x.dot(x), lambda x: 2 * x),
        (lambda x: np.linalg.norm(x), lambda x: x / np.linalg.norm(x)),
        (lambda x: np.where(x > 0, x, 0.1 * x).sum(), lambda x: np.where(x > 0, 1.0, 0.1)),
        (lambda x: scipy.special.expit(x).sum(), lambda x: 1 / (2 + 2 * np.cosh(x))),
        (lambda x: scipy.special.erf(x).sum(), lambda x: 2 / np.sqrt(np.pi) * np.exp(-(x**2))),
        (lambda x: np.exp(x)[0], lambda x: np.array([np.exp(x[0]), 0, 0])),
        (lambda x: x[0] ** 2 + x[1] * x[2], lambda x: np.array([2 * x[0], x[2], x[1]])),
        (lambda x: sum(v * v for v in x), lambda x: 2 * x),
        (lambda x: sum(x), lambda x: np.ones(3)),
        (lambda x: max(x[0], x[2]), lambda x: np.array([0.0, 0.0, 1.0])),
        (lambda x: abs(x).sum(), lambda x: np.sign(x)),
        (lambda x: (-x).sum() + (+x).sum() * 2, lambda x: np.ones(3)),
        (lambda x: np.stack([x[0] ** 2, x[1]]).sum(), lambda x: np.array([2 * x[0], 1, 0])),
        (lambda x: np.concatenate([x, x[:1]]).sum(), lambda x: np.array([2.0, 1, 1])),
        (lambda x: np.clip(x, 0, 1).sum(), lambda x: np.array([1.0, 0, 0])),
        (lambda x: np.max(x), lambda x: np.array([0.0, 0, 1])),
        (lambda x: np.sort(x)[0], lambda x: np.array([0.0, 1, 0])),
        (lambda x: np.sum(x[x > 0] ** 2), lambda x: np.where(x > 0, 2 * x, 0)),
        (lambda x: np.sum(x[[0, 0, 2]]), lambda x: np.array([2.0, 0, 1])),
        (lambda x: np.prod(x), lambda x: np.prod(x) / x),
        (lambda x: np.einsum("i,i->", x, x), lambda x: 2 * x),
        (lambda x: x.reshape(3, 1).T.ravel().sum(), lambda x: np.ones(3)),
        (lambda x: np.var(x), lambda x: 2 * (x - x.mean()) / 3),
        (lambda x: np.outer(x, x).trace(), lambda x: 2 * x),
        (lambda x: (x / (1 + x**2)).sum(), lambda x: (1 - x**2) / (1 + x**2) ** 2),
        (lambda x: (2.0**x).sum(), lambda x: math.log(2) * 2.0**x),
        (lambda x: (np.array(2.0) * x * np.float64(3.0)).sum(), lambda x: np.full(3, 6.0)),
        (lambda x: (x * np.full_like(x, 2.0)).sum(), lambda x: np.full(3, 2.0)),
        (
            lambda x: (x * np.full_like(x, x[0])).sum(),
            lambda x: np.array([x.sum() + x[0], *x[[0, 0]]]),
        ),
        (
            lambda x: np.full_like(x, [1, 2, 3], shape=(2, 3)) @ x @ np.ones(2),
            lambda x: np.array([2.0, 4, 6]),
        ),
        (
            lambda x: x.astype(float, order="F", casting="safe", subok=False).sum(),
            lambda x: np.ones(3),
        ),
        (lambda x: x.sum() * x.searchsorted(0.0), lambda x: np.full(3, np.searchsorted(x, 0.0))),
        (lambda x: np.diff(x).sum(), lambda x: np.array([-1.0, 0, 1])),
        (lambda x: np.log1p(np.exp(x)).sum(), lambda x: 1 / (1 + np.exp(-x))),
    ],
)
def test_ordinary_code_differentiates(f, gradient):
    value, g = nm.value_and_grad(f)(X)
    assert value == pytest.approx(f(X), rel=16 * EPS)
    np.testing.assert_allclose(g, gradient(X), rtol=64 * EPS, atol=16 * EPS)


def test_python_control_flow_follows_the_values():
    def f(x):
        total = 0.0
        for i in range(3):
            if x[i] > 0:
                total = total + x[i] ** 2
            else:
                total = total - x[i]
        while total > 100.0:
            total = total / 2
        return total

    np.testing.assert_array_equal(nm.grad(f)(X), [1.0, -1.0, 4.0])


def test_printing_inside_shows_the_value(capsys):
    def f(x):
        print(x)
        print(f"{x[0]:.3f} {x!r}")
        return np.sum(x)

    nm.grad(f)(X)
    out = capsys.readouterr().out
    assert str(X) in out
    assert "0.500" in out
    assert "Tracer" in out


def test_rosenbrock_with_scipy_minimize():
    def f(x):
        return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    x0 = np.array([-1.2, 1.0])
    assert f(x0) == pytest.approx(24.2, rel=4 * EPS)
    np.testing.assert_allclose(nm.grad(f)(x0), [-215.6, -88.0], rtol=16 * EPS)
    np.testing.assert_allclose(nm.hessian(f)(x0), [[1330, 480], [480, 200]], rtol=16 * EPS)
    found = scipy.optimize.minimize(f, x0, jac=nm.grad(f), method="BFGS")
    np.testing.assert_allclose(found.x, 1.0, atol=1e-4)  # gtol 1e-5 over the smallest curvature 0.4
    found = scipy.optimize.minimize(
        f,
        np.zeros(5),
        jac=nm.grad(f),
        hessp=lambda x, p: nm.hvp(f, (x,), (p,)),
        method="Newton-CG",
        options={"xtol": 1e-10},
    )
    np.testing.assert_allclose(found.x, 1.0, atol=1e-6)


def test_logistic_regression_finds_the_stationary_point():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3))
    y = (x @ np.array([1.0, -2.0, 0.5]) + rng.standard_normal(200) > 0).astype(float)

    def loss(params):
        z = x @ params["w"] + params["b"]
        return np.mean(np.logaddexp(0.0, z) - y * z) + 0.01 * np.sum(params["w"] ** 2)

    params = {"w": np.zeros(3), "b": 0.0}
    for _ in range(400):
        g = nm.grad(loss)(params)
        params = nm.tree_map(lambda p, d: p - 1.0 * d, params, g)
    g = nm.grad(loss)(params)
    assert np.abs(g["w"]).max() < 1e-6
    p = scipy.special.expit(x @ params["w"] + params["b"])
    np.testing.assert_allclose(g["w"], x.T @ (p - y) / 200 + 0.02 * params["w"], atol=64 * EPS)


def test_a_pandas_series_as_data_works():
    s = pd.Series([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(nm.grad(lambda x: np.sum(x * s.to_numpy()))(X), [1, 2, 3])
    np.testing.assert_array_equal(nm.grad(lambda x: np.sum(x * s))(X), [1, 2, 3])


# ------------------------------------------------------------------ what says what to do
def refused(error, words, f, *args):
    with pytest.raises(error) as caught:
        f(*args)
    text = str(caught.value) + " ".join(getattr(caught.value, "__notes__", ()))
    for word in words:
        assert word in text, f"{word!r} is missing in: {text}"


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (3, ("float", "3.0")),
        (np.arange(3), ("float", "astype(float)")),
        (np.int64(3), ("float",)),
        (True, ("float", "boolean")),
        (np.array([True, False]), ("float",)),
        (np.float16(1.0), ("float32", "float64")),
        (np.ones(2, np.float16), ("astype(np.float32)",)),
        (np.ones(2, complex), ("real", "imag")),
        (1.0 + 2.0j, ("complex", "two floats")),
        (np.array([1, "a"], object), ("objects", "ragged")),
        (np.array(["a"]), ("float",)),
        ("text", ("float", "str")),
        (pd.Series([1.0, 2.0]), ("Series", "to_numpy")),
        (np.ma.array([1.0, 2.0], mask=[0, 1]), ("masked", "filled")),
        (np.array([[1.0]]).view(np.matrix), ("np.matrix", "np.asarray")),
    ],
)
def test_an_argument_that_is_no_float_array_says_float(x, words):
    refused(DtypeError, ("argument 0", *words), nm.grad(lambda x: np.sum(x)), x)


def test_a_wrong_leaf_is_named_by_its_path():
    params = {"layers": [{"w": np.ones(2)}, {"w": np.arange(2)}]}
    refused(
        DtypeError,
        ("['layers'][1]['w']", "int64"),
        nm.grad(lambda p: p["layers"][0]["w"].sum()),
        params,
    )


def test_a_list_of_floats_says_that_lists_are_trees():
    refused(TypeError, ("list", "tree", "np.array"), nm.grad(lambda x: np.sum(x**2)), [1.0, 2.0])
    assert nm.grad(lambda x: x[0] ** 2 + x[1])([1.0, 2.0]) == [2.0, 1.0]
    refused(AttributeError, ("list", "tree", "np.array"), nm.grad(lambda x: x.sum()), [1.0, 2.0])
    with pytest.raises(AttributeError) as caught:
        nm.grad(lambda x: math.no_such_name)([1.0, 2.0])
    assert not hasattr(caught.value, "__notes__")


def test_np_array_of_traced_values_names_stack():
    refused(
        TraceError,
        ("np.stack", "derivative"),
        nm.grad(lambda x: np.array([x[0] ** 2, x[1]]).sum()),
        X,
    )


def test_writing_into_an_array_names_at():
    def f(x):
        y = np.zeros(3)
        y[0] = x[0]
        return y.sum()

    refused(TraceError, ("nm.at", "derivative"), nm.grad(f), X)

    def g(x):
        y = np.zeros(3)
        y[:2] = x[:2]
        return y.sum()

    refused(TraceError, ("nm.at",), nm.grad(g), X)

    def h(x):
        x[0] = 1.0
        return x.sum()

    refused(TraceError, ("nm.at(x)[i].set",), nm.grad(h), X)


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda x: float(x[0]), ("float", "value_of")),
        (lambda x: int(x[0]) * x[0], ("int", "value_of")),
        (lambda x: x[0].item(), ("value_of",)),
        (lambda x: math.exp(x[0]), ("np.exp", "math")),
        (lambda x: np.asarray(x).sum(), ("array", "value_of")),
        (lambda x: np.full(3, x[0]).sum(), ("np.ones",)),
        (lambda x: np.float64(x[0]), ("value_of",)),
        (lambda x: np.arange(x[0], 3.0).sum(), ("np.arange",)),
        (lambda x: np.eye(3)[x].sum(), ("value_of",)),
        (lambda x: np.ones(3).dot(x), ("a @ x",)),
        (lambda x: np.tanh(x, out=np.zeros(3)).sum(), ("out", "a = a + x")),
        (lambda x: np.add.at(np.zeros(3), [0], x[0]), ("nm.at",)),
        (lambda x: np.copyto(np.zeros(3), x), ("nm.at",)),
        (lambda x: np.random.default_rng(0).normal(x).sum(), ("standard_normal",)),
        (lambda x: scipy.special.logsumexp(x), ("nnmath_core.special",)),
        (lambda x: scipy.special.struve(1.0, x).sum(), ("struve", "custom_rule")),
        (lambda x: np.packbits(x).sum(), ("np.packbits", "custom_rule")),
        (lambda x: x.sort(), ("np.sort",)),
        (lambda x: x.tolist(), ("value_of",)),
    ],
)
def test_what_cannot_be_traced_names_the_remedy(f, words):
    refused(TraceError, words, nm.grad(f), X)


def test_adding_into_an_array_names_the_functional_form():
    def f(x):
        a = np.zeros(3)
        a += x
        return a.sum()

    refused(TraceError, ("a = a + x",), nm.grad(f), X)


def test_a_loss_that_is_not_scalar_names_the_remedies():
    refused(ShapeError, ("scalar", "(3,)", "jacrev", ".sum()"), nm.grad(lambda x: x * 2.0), X)
    refused(ShapeError, ("(1,)",), nm.grad(lambda x: x[:1]), X)


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda x: None, ("None", "return")),
        (lambda x: np.argmax(x), ("integer", "argmax")),
        (lambda x: (x > 0).sum(), ("integer",)),
        (lambda x: np.all(x > 0), ("boolean",)),
        (lambda x: x.astype(int).sum(), ("integer", "astype(int)")),
        (lambda x: (x.sum(), 1), ("tuple", "has_aux")),
        (lambda x: {"loss": x.sum()}, ("dict",)),
        (lambda x: "loss", ("str",)),
    ],
)
def test_a_function_that_returns_no_number_says_so(f, words):
    refused(TypeError, words, nm.grad(f), X)


def test_a_function_that_changes_its_input_is_refused():
    x = X.copy()

    def f(t):
        x[0] = 7.0
        return np.sum(t * t)

    refused(ValueError, ("read-only", "copy"), nm.grad(f), x)
    np.testing.assert_array_equal(x, X)
    assert x.flags.writeable


def test_a_buffer_that_changes_between_forward_and_backward_is_refused():
    buffer = np.ones(3)

    def f(x):
        s = np.sum(x * buffer)
        buffer[:] = buffer * 2
        return s + np.sum(x * buffer)

    refused(ValueError, ("read-only", "b = a.copy()"), nm.grad(f), X)
    assert buffer.flags.writeable


@pytest.mark.skipif(len(nm.devices()) > 1, reason="there is a GPU")
def test_moving_to_cuda_without_cupy_says_what_to_install():
    found = importlib.util.find_spec("cupy") is not None
    words = ("CUDA", "driver") if found else ("cuda", "pip install")
    refused(DeviceError, words, nm.to_device, X, "cuda")
    assert str(nm.devices()[0]) == "cpu"


def test_a_number_under_vmap_is_formatted_for_all_examples(capsys):
    nm.vmap(lambda x: print(f"{x:.2f} {x}") or x)(X)
    nm.vmap(nm.vmap(lambda x: print(f"{x:.1f}") or x))(np.stack([X, X]))
    nm.vmap(nm.grad(lambda x: print(f"{x:+.0f}") or x))(X)
    out = capsys.readouterr().out.splitlines()
    assert out == [f"[0.50 -1.50 2.00] {X}", "[[0.5 -1.5 2.0] [0.5 -1.5 2.0]]", "[+0 -2 +2]"]


def test_casting_that_loses_is_refused_as_numpy_refuses_it():
    with pytest.raises(TypeError, match="Cannot cast array data"):
        nm.grad(lambda x: x.astype(np.float32, casting="safe").sum())(X)


def test_isinstance_ndarray_is_false_and_attributes_answer():
    def f(x):
        assert not isinstance(x, np.ndarray)
        assert isinstance(x, nm.Tracer)
        assert x.shape == (3,)
        assert x.ndim == 1
        assert x.size == 3
        assert x.dtype == np.float64
        assert len(x) == 3
        assert np.shape(x) == (3,)
        assert np.ndim(x) == 1
        return np.sum(x)

    nm.grad(f)(X)


@pytest.mark.parametrize(
    "name",
    ["__array_interface__", "__cuda_array_interface__", "__dlpack__", "__cupy_get_ndarray__"],
)
def test_a_tracer_offers_no_protocol_that_would_lose_the_derivative(name):
    nm.grad(lambda x: (not hasattr(x, name) or pytest.fail(name)) and np.sum(x))(X)
