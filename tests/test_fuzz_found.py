"""What the fuzz test found, each with a test of its own."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import scipy.special

import nnmath_core as nm

X = np.array([1.25, -0.75, 2.5])
EPS = np.finfo(float).eps


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.nonzero(),
        np.nonzero,
        np.argwhere,
        np.flatnonzero,
        np.trim_zeros,
        lambda x: x[np.nonzero(x)],
    ],
)
@pytest.mark.parametrize("inner", [nm.grad, lambda f: lambda x: nm.jvp(f, (x,), (x,))[1]])
def test_shapes_that_depend_on_values_are_refused_in_a_derivative_under_vmap(f, inner):
    # a tracer of grad around one of vmap: its innermost value is that of the whole batch
    with pytest.raises(
        nm.TraceError, match="needs values, which differ between the examples under vmap"
    ):
        nm.vmap(inner(lambda x: np.sum(x) + 0.0 * len(f(x))))(np.stack([X, X]))


def test_the_remainder_of_polydiv_is_not_trimmed_by_the_values_of_a_batch():
    u, v = np.array([1.0, 3.0, 2.0]), np.array([1.0, 1.0])  # divides without remainder
    shapes = []

    def f(u):
        quotient, rest = np.polydiv(u, v)
        shapes.append(rest.shape)
        return np.sum(quotient)

    for g in nm.vmap(nm.grad(f))(np.stack([u, u])):
        np.testing.assert_allclose(g, nm.grad(f)(u), rtol=8 * EPS)
    assert np.polydiv(2.0, 1.5)[1].shape == (1,)
    seen = []
    nm.stage(lambda a, b: seen.append(np.polydiv(a, b)[1].shape) or a, 2.0, 1.5)
    assert seen == [(1,)]


def test_nextafter_moves_with_its_first_operand():
    np.testing.assert_array_equal(nm.grad(lambda x: np.nextafter(x, 9.0) @ X)(X), X)
    np.testing.assert_array_equal(nm.grad(lambda y: np.nextafter(X, y) @ X)(X), np.zeros(3))
    np.testing.assert_array_equal(
        nm.grad(lambda x: np.nextafter.outer(x, np.ones(2)).sum())(X), [2.0, 2.0, 2.0]
    )
    np.testing.assert_array_equal(
        nm.grad(lambda x: np.nextafter.accumulate(x).sum())(X), [3.0, 0.0, 0.0]
    )


@pytest.mark.parametrize("f", [np.logical_and, np.logical_or, np.logical_xor])
def test_running_logical_functions_are_truth_values(f):
    seen = []
    x = np.array([0.5, 0.0, 2.0])
    nm.grad(lambda x: (seen.append(f.accumulate(x)), np.sum(x))[1])(x)
    assert seen[0].dtype == np.bool_
    np.testing.assert_array_equal(seen[0], f.accumulate(x))


def test_a_piece_of_one_entry_is_that_entry():
    x, starts = np.array([-2.0, 3.0, -1.0]), [0, 1, 2]
    value, _ = nm.vjp(lambda x: np.hypot.reduceat(x, starts), x)
    np.testing.assert_array_equal(value, np.hypot.reduceat(x, starts))


def test_reductions_of_extrema_take_the_dtype():
    for f in (np.maximum, np.minimum, np.fmax, np.fmin):
        value, g = nm.value_and_grad(lambda x, f=f: f.reduce(x, dtype=np.float32))(X)
        assert value.dtype == np.float32
        assert g.dtype == np.float64
        assert value == f.reduce(X)


def test_round_does_not_forget_where_to_write():
    y = np.zeros(3)
    for call in (
        lambda x: np.round(x, out=y),
        lambda x: x.round(out=y),
        lambda x: np.around(x, 1, y),
    ):
        with pytest.raises(nm.TraceError, match="`out` is not supported"):
            nm.grad(lambda x, call=call: np.sum(call(x)))(X)
    np.testing.assert_array_equal(y, 0.0)


def test_arrays_and_conditions_of_piecewise_are_those_of_an_index():
    x = np.arange(6.0).reshape(2, 3)
    rows = [np.array([True, False]), np.array([False, True])]
    values = [np.array([1.0, 2.0, 3.0]), 5.0]

    def f(v, s):
        return nm.numpy.piecewise(
            x, rows, [v, s]
        )  # NumPy's does not look for traced arrays in the list

    np.testing.assert_array_equal(nm.jvp(f, tuple(values), tuple(values))[0], f(*values))
    g = nm.grad(lambda v, s: np.sum(f(v, s) * x), (0, 1))(*values)
    np.testing.assert_array_equal(g[0], x[0])
    assert g[1] == x[1].sum()
    # a condition of fewer axes is one of the first axes, also where its values are not known
    x = np.arange(9.0).reshape(3, 3)
    for some in (
        lambda c: np.piecewise(x, [c > 0], [7.0]),
        lambda c: np.piecewise(x, [c > 0], [np.square]),
    ):
        np.testing.assert_array_equal(nm.stage(some, X)(X), some(X))
    with pytest.raises(nm.TraceError, match="piecewise"):
        nm.stage(lambda c: np.piecewise(x, [c > 0], [np.ones((2, 3))]), X)


def test_the_namespace_of_a_tracer_needs_no_import():
    code = (
        "import numpy as np, sys, nnmath_core as nm; f = lambda x: x.__array_namespace__().sum(x * x); "
        "assert 'nnmath_core.numpy' not in sys.modules; print(nm.grad(f)(np.ones(1)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[2.]\n"


def test_circulant_systems_of_several_columns_broadcast_as_in_scipy():
    rng = np.random.default_rng(5)
    c, b = rng.standard_normal((2, 3)) + 4.0 * np.eye(2, 3), rng.standard_normal((3, 2))
    for kw in ({}, {"outaxis": -1}):
        want = scipy.linalg.solve_circulant(c, b, **kw)
        got = nm.vjp(lambda c, b, kw=kw: nm.linalg.solve_circulant(c, b, **kw), c, b)[0]
        np.testing.assert_allclose(got, want, rtol=64 * EPS, atol=64 * EPS)


def test_special_functions_are_written_into_no_array():
    y = np.zeros(3)
    with pytest.raises(nm.TraceError, match="out=a"):
        nm.grad(lambda x: np.sum(scipy.special.gammaln(x, out=y)))(X)
