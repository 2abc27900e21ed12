"""What a refusal advises: it fits the expression that was refused, among several on its line."""

import linecache
import math
import re
from math import exp

import numpy as np
import pandas as pd
import pytest
import scipy.fft
import scipy.interpolate
import scipy.linalg
import scipy.optimize
import scipy.signal
import scipy.sparse
import scipy.special

import nnmath_core as nm
from nnmath_core.errors import TraceError

X = np.array([1.25, 0.75, 2.5])
EPS = np.finfo(float).eps


def message(f, x=X, through=nm.grad, error=TraceError):
    with pytest.raises(error) as caught:
        through(f)(x)
    return str(caught.value)


def by_name(x):
    rows = [x[0], x[1]]
    return np.array(rows).sum()


def storing(x):
    y = np.zeros(3)
    y[0], first = x[0], x[1]
    return y.sum() + first


def adding(x):
    y = np.zeros(3)
    y[0] += x[0]
    return y.sum()


@pytest.mark.parametrize(
    ("f", "advice"),
    [
        (lambda x: np.sum([v**2 for v in x]), "write np.sum(np.stack([...]))."),
        (lambda x: np.max([x[0], x[1]]), "write np.max(np.stack([...]))."),
        (lambda x: np.linalg.norm([x[0], x[1]]), "write np.linalg.norm(np.stack([...]))."),
        (lambda x: np.stack([[x[0], 1], [2, x[1]]]), "np.stack([np.stack([...]), ...])."),
        (lambda x: np.array([x[0], x[1]])[0], "np.stack([...]) or np.concatenate([...])."),
        (by_name, "np.stack([...]) or np.concatenate([...])."),
        (lambda x: np.asarray(x)[0], "Leave out the conversion"),
        (lambda x: float(x[0]), "Stay with arrays"),
        (lambda x: exp(x[0]), "Write np.exp(x) instead of math.exp(x)."),
        (lambda x: math.pow(x[0], 2), "Write np.power(x) instead of math.pow(x)."),
        (lambda x: math.fabs(x[0]), "Write np.abs(x) instead of math.fabs(x)."),
        (lambda x: math.lgamma(x[0]), "math.lgamma has no derivative rule"),
        (lambda x: "%f" % x[0], "Write f'{x:.3f}'"),  # noqa: UP031
        (lambda x: np.eye(3)[x], "np.take(a, i)."),
        (lambda x: [1, 2, 3][x[0]], "np.take(a, i)."),
        (lambda x: np.ones(3)[: x[0]], "The bounds of a slice"),
        (lambda x: np.r_[x, x[0]], "np.concatenate([...])."),
        (lambda x: np.c_[x, x], "np.column_stack([...])."),
        (lambda x: np.full(3, x[0])[0], "Write x * np.ones(shape)."),
        (lambda x: np.full_like(np.ones(3), x[0])[0], "Write x * np.ones(shape)."),
        (lambda x: np.ones(3).dot(x), "Write a @ x instead of a.dot(x)."),
        (lambda x: np.random.default_rng(int(X[0])).normal(x[0]), "rng.standard_normal"),
        (lambda x: np.random.normal(x)[0], "rng.standard_normal"),  # noqa: NPY002
        (storing, "Write y = nm.at(y)[i].set(x) instead of y[i] = x."),
        (adding, "Write y = nm.at(y)[i].set(x) instead of y[i] = x."),
    ],
)
def test_advice_fits_the_expression(f, advice):
    said = message(f)
    assert advice in said
    assert "its derivative would be lost" in said
    if "cannot become" in said:
        assert "lost (line " in said
        assert said.count("nm.value_of(x)") == 1


def test_a_long_line_shows_its_expression():
    line = "def f(x): return [" + "1.0, " * 30 + "float(x[0])]"
    linecache.cache["<long>"] = (len(line), None, [line], "<long>")
    scope = {}
    exec(compile(line, "<long>", "exec"), scope)
    assert "lost (line 1: float(x[0]))." in message(scope["f"])


def test_advice_does_without_the_source():
    scope = {"np": np}
    exec("def f(x): return float(x[0])", scope)  # as on a prompt
    assert "Stay with arrays" in message(scope["f"])
    assert "line" not in message(scope["f"])


def test_the_line_is_that_of_the_user_and_not_of_a_library():
    frame = pd.DataFrame(np.eye(3))
    for said in (message(lambda x: frame @ x), message(lambda x: frame[0].dot(x))):
        assert ": frame" in said or "(lambda x: frame" in said
        assert "a.to_numpy() @ x" in said


def test_under_vmap_and_stage_the_reason_is_another():
    said = message(lambda x: float(x[0]), np.ones((2, 3)), nm.vmap)
    assert "it stands for all examples of the batch" in said
    assert "value_of" not in said
    said = message(lambda x: float(x[0]), X, lambda f: lambda x: nm.stage(f, x))
    assert "it has no value while staging" in said
    assert "value_of" not in said
    said = message(nm.grad(lambda x: float(x[0])), np.ones((2, 3)), nm.vmap)
    assert "it stands for all examples of the batch" in said


# -------------------------------------------------------------------------------------- other libraries
SERIES, FRAME = pd.Series(X), pd.DataFrame(np.outer(X, X))


@pytest.mark.parametrize(
    ("f", "plain"),
    [
        (lambda x: (SERIES * x).sum(), lambda x: (X * x).sum()),
        (lambda x: (x * SERIES).sum(), lambda x: (X * x).sum()),
        (lambda x: (SERIES + x**2).sum(), lambda x: (X + x**2).sum()),
        (lambda x: (SERIES - x**2).sum(), lambda x: (X - x**2).sum()),
        (lambda x: (SERIES / x).sum(), lambda x: (X / x).sum()),
        (lambda x: (SERIES**x).sum(), lambda x: (X**x).sum()),
        (lambda x: np.where(SERIES >= x, x**2, x).sum(), lambda x: (x**2).sum()),
        (lambda x: (FRAME * x).sum(), lambda x: (np.outer(X, X) * x).sum()),
        (lambda x: (FRAME.to_numpy() @ x).sum(), lambda x: (np.outer(X, X) @ x).sum()),
        (lambda x: (x[SERIES > 1.0] ** 2).sum(), lambda x: (x[X > 1.0] ** 2).sum()),
        (lambda x: (x[FRAME.index] ** 2).sum(), lambda x: (x**2).sum()),
    ],
)
def test_pandas_operands_are_constants(f, plain):
    value, g = nm.value_and_grad(f)(X)
    want, slope = nm.value_and_grad(plain)(X)
    assert value == pytest.approx(want, rel=8 * EPS)
    np.testing.assert_array_equal(g, slope)


def test_sparse_matrices_on_the_left_name_what_to_write_and_it_works():
    a = scipy.sparse.csr_array(np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]))
    for f in (lambda x: (a @ x).sum(), lambda x: a.dot(x).sum(), lambda x: (a * x).sum()):
        said = message(f)
        assert (
            "nnmath_core.numpy.matmul(a, x) instead of a @ x; x @ a is traced as it stands" in said
        )
        assert "nm.SparseMatrix(a) * x" in said
    dense = lambda x: np.sum(np.sin(a.toarray() @ x))  # noqa: E731
    for product in (
        lambda x: nm.numpy.matmul(a, x),
        lambda x: x @ a.T,
        lambda x: nm.SparseMatrix(a) @ x,
    ):
        f = lambda x, product=product: np.sum(np.sin(product(x)))  # noqa: E731
        np.testing.assert_array_equal(nm.grad(f)(X), nm.grad(dense)(X))
        assert nm.jvp(f, (X,), (X,))[1] == nm.jvp(dense, (X,), (X,))[1]


def test_masked_arrays_name_filled():
    masked = np.ma.masked_less(X, 1.0)
    assert "a.filled(value)" in message(lambda x: (masked * x).sum())
    assert "filled(value)" in message(lambda x: (x * masked).sum(), error=TypeError)


@pytest.mark.parametrize("name", ["expm1", "log1p", "cbrt", "exp2"])
def test_ufuncs_of_scipy_that_numpy_has_too_are_traced(name):
    f, g = getattr(scipy.special, name), getattr(np, name)
    np.testing.assert_array_equal(
        nm.grad(lambda x: f(x).sum())(X), nm.grad(lambda x: g(x).sum())(X)
    )


@pytest.mark.parametrize(
    ("f", "wanted"),
    [
        (lambda x: scipy.signal.convolve(x, x), "nnmath_core.signal"),
        (lambda x: scipy.fft.fft(x), "np.fft"),
        (lambda x: scipy.linalg.expm(np.outer(x, x)), "nnmath_core.linalg"),
        (lambda x: scipy.special.logsumexp(x), "nnmath_core.special"),
        (lambda x: scipy.optimize.rosen(x), "nm.custom_rule"),
        (lambda x: (scipy.interpolate.CubicSpline)(X, x)(1.5), "nm.custom_rule"),
        (lambda x: np.vectorize(lambda t: 2.0 * t)(x), "nm.vmap"),
        (lambda x: np.sum(X, initial=x[0]), "nnmath_core.numpy.sum("),
        (lambda x: np.pad(X, 1, constant_values=x[0]), "nnmath_core.numpy.pad("),
        (lambda x: np.select([X > 1.0], [X], default=x[0]), "nnmath_core.numpy.select("),
        (lambda x: X.max(initial=x[0]), "nnmath_core.numpy.max(a, ...)"),
        (lambda x: np.sum([x[0], x[1]]), "np.sum(np.stack([...]))"),
        (lambda x: np.polynomial.polynomial.polyval(0.5, x), "np.polyval"),
    ],
)
def test_functions_that_convert_name_what_stands_for_them(f, wanted):
    assert wanted in message(lambda x: np.sum(f(x)))


def test_what_the_advice_names_for_traced_arguments_of_numpy_works():
    table, i = np.array([1.0, 10.0, 100.0]), np.array([2, 0])
    said = message(lambda i: np.take(table, i), i, nm.vmap)
    assert "nnmath_core.numpy.take(" in said
    assert "nnmath_core.numpy.take(a, i)" in message(lambda i: table[i], i, nm.vmap)
    np.testing.assert_array_equal(nm.vmap(lambda i: nm.numpy.take(table, i))(i), table[i])
    m = nm.numpy
    for f in (
        lambda x: m.sum(X, initial=x[0]),
        lambda x: m.pad(X, 1, constant_values=x[0]).sum() / 2,
        lambda x: m.select([X < -9.0], [X], default=x[0]).sum() / X.size,
        lambda x: m.max(X, initial=x[0] + 99.0),
    ):
        np.testing.assert_array_equal(nm.grad(f)(X), np.eye(X.size)[0])


def test_ufunc_of_scipy_without_a_rule_is_named():
    said = message(lambda x: scipy.special.struve(1.0, x).sum())
    assert "struve: this ufunc has no derivative rule" in said


# -------------------------------------------------------------------------------------- attributes
PUBLIC = [
    name
    for name in dir(np.ndarray)
    if not name.startswith("_")
    and hasattr(np.ones((1, 1)), name)  # NumPy 2.0 lists some that it removed
]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_tracer_has_every_attribute_of_an_array_or_says_what_to_write(name):
    def f(x):
        matrix = np.outer(x, x)
        if not hasattr(matrix, name):
            with pytest.raises(TraceError, match=rf"^a traced array has no `{name}`\. .*\.$"):
                getattr(matrix, name)
            with pytest.raises(AttributeError):
                getattr(matrix, name)
        return np.sum(x)

    nm.grad(f)(X)


@pytest.mark.parametrize("name", ["flat", "view", "fill", "put", "strides", "flags", "tobytes"])
def test_attributes_that_would_lose_a_derivative_are_missing(name):
    nm.grad(lambda x: (hasattr(x, name) and pytest.fail(name)) or np.sum(x))(X)


def test_an_attribute_that_no_array_has_is_an_ordinary_error():
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        nm.grad(lambda x: x.colour)(X)


@pytest.mark.parametrize(
    ("f", "name"),
    [(np.unpackbits, "np.unpackbits"), (np.packbits, "np.packbits")],
)
def test_functions_without_a_rule_are_called_by_their_whole_name(f, name):
    with pytest.raises(nm.TraceError, match=rf"^{re.escape(name)} cannot be traced\."):
        nm.grad(lambda x: f(x).sum())(np.ones((2, 2)))
