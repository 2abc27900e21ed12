"""Differences and the complex step: right for any shape, and frank where they cannot be."""

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError

EPS = np.finfo(np.float64).eps

# Extrapolated differences lose some digits to rounding over the step: three or four of sixteen.
CLOSE = 1e-11
# The complex step has no subtraction: rounding of the function alone, some tens of operations.
EXACT = 64 * EPS


@pytest.fixture
def rng():
    return np.random.default_rng(20261123)


def total(x):
    return np.sum(np.sin(x) * x)


def derivative(x):
    return np.cos(x) * x + np.sin(x)


def squire_trapp(x):
    return np.exp(x) / np.sqrt(np.sin(x) ** 3 + np.cos(x) ** 3)


BOTH = [(nm.numerical_gradient, CLOSE), (nm.complex_step, EXACT)]


@pytest.mark.parametrize(("differentiate", "tol"), BOTH)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (2, 1, 3), (0,), (3, 0)])
def test_gradient_has_the_shape_of_the_argument(differentiate, tol, shape, rng):
    x = rng.standard_normal(shape)
    g = differentiate(total, x)
    assert np.shape(g) == shape
    assert g.dtype == np.float64
    np.testing.assert_allclose(g, derivative(x), rtol=0, atol=tol)


@pytest.mark.parametrize(("differentiate", "tol"), BOTH)
def test_python_numbers_give_numbers(differentiate, tol):
    g = differentiate(np.sin, 0.5)
    assert isinstance(g, np.float64)
    assert abs(g - np.cos(0.5)) <= tol
    assert type(differentiate(np.sin, np.float32(0.5))) is np.float32


@pytest.mark.parametrize(("differentiate", "tol"), BOTH)
def test_jacobian_has_output_axes_first(differentiate, tol, rng):
    a, x = rng.standard_normal((4, 2, 3)), rng.standard_normal((2, 3))
    J = differentiate(lambda x: np.sum(a * x, axis=(1, 2)), x)
    np.testing.assert_allclose(J, a, rtol=0, atol=4 * tol)
    K = differentiate(lambda x: np.sin(x).T, x)
    assert K.shape == (3, 2, 2, 3)
    want = np.einsum("ij,ik,jl->jikl", np.cos(x), np.eye(2), np.eye(3))
    np.testing.assert_allclose(K, want, rtol=0, atol=tol)


@pytest.mark.parametrize(("differentiate", "tol"), BOTH)
def test_trees_in_and_out(differentiate, tol, rng):
    p = {"w": rng.standard_normal((2, 2)), "b": (0.5, rng.standard_normal(2))}
    found = differentiate(lambda p: {"y": p["w"] @ p["b"][1], "z": p["b"][0] ** 2}, p)
    assert set(found) == {"y", "z"}
    np.testing.assert_allclose(found["y"]["b"][1], p["w"], rtol=0, atol=tol)
    assert found["y"]["w"].shape == (2, 2, 2)
    assert abs(found["z"]["b"][0] - 1.0) <= tol
    assert not found["z"]["w"].any()


def test_layers_are_trees(rng):
    model = nm.nn.MLP.init((3, 2, 1), activation=nm.nn.tanh, rng=0)
    x = rng.standard_normal((4, 3))

    def loss(model):
        return np.sum(model(x) ** 2)

    found, want = nm.numerical_gradient(loss, model), nm.grad(loss)(model)
    assert type(found) is type(model)
    for a, b in zip(nm.tree_leaves(found), nm.tree_leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=CLOSE)


@pytest.mark.parametrize(("differentiate", "tol"), BOTH)
def test_float32_is_kept_and_passed_as_float64_inside(differentiate, tol, rng):
    x = rng.standard_normal((2, 3)).astype(np.float32)
    g = differentiate(total, x)
    assert g.dtype == np.float32
    want = derivative(x.astype(float))
    # the result is rounded to float32, and loses nothing else
    np.testing.assert_allclose(g, want, rtol=2.0**-24, atol=tol)


def test_a_function_that_insists_on_float32_gets_it(rng):
    def f(x):
        assert x.dtype == np.float32
        return total(x)

    x = rng.standard_normal(4).astype(np.float32)
    g = nm.numerical_gradient(f, x)
    # eps**(2/3) for central differences; extrapolation gains and its steps lose about ten
    np.testing.assert_allclose(g, derivative(x), rtol=0, atol=100 * (2.0**-23) ** (2 / 3))


@pytest.mark.parametrize(("differentiate", "tol"), BOTH)
def test_memory_layout_does_not_matter_and_nothing_is_written(differentiate, tol, rng):
    base = rng.standard_normal((4, 6))
    for x in (base[::2, ::-3], base.T, np.asfortranarray(base), base[1:1], base.astype(">f8")):
        before = x.copy()
        x = x.view()
        x.flags.writeable = False
        np.testing.assert_allclose(differentiate(total, x), derivative(x), rtol=0, atol=tol)
        assert np.array_equal(x, before)


def test_a_function_may_write_to_its_copy():
    def f(x):
        x *= 2.0
        return np.sum(x)

    x = np.ones(3)
    np.testing.assert_allclose(nm.numerical_gradient(f, x), 2.0, rtol=CLOSE)
    assert (x == 1).all()


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e6, 1e12])
def test_steps_follow_the_size_of_an_entry(scale, rng):
    x = rng.uniform(0.5, 1.5, 3) * scale
    for f, g in ((lambda x: np.sum(x**3), 3 * x**2), (lambda x: np.sum(np.log(x)), 1 / x)):
        np.testing.assert_allclose(nm.numerical_gradient(f, x), g, rtol=1e-9)
    mixed = np.array([1e-5, 1.0, 1e5])
    found = nm.numerical_gradient(lambda x: np.sum(np.log(x)), mixed)
    np.testing.assert_allclose(found, 1 / mixed, rtol=1e-6)


def test_the_number_of_squire_and_trapp():
    # exp(x) / sqrt(sin^3 x + cos^3 x) at 1.5, from their paper of 1998
    want = 4.053427893898621
    assert abs(nm.complex_step(squire_trapp, 1.5) - want) <= 4 * EPS * want
    assert abs(nm.numerical_gradient(squire_trapp, 1.5) - want) <= CLOSE * want
    # a fixed step has the error h^2 f''' / 6 + eps |f| / h: at its best eps^(2/3), a hundred times more
    fixed = nm.numerical_gradient(squire_trapp, 1.5, step=EPS ** (1 / 3))
    assert 1e-12 < abs(fixed - want) < 1e-9
    nm.check_grads(squire_trapp, (1.5,))


def test_a_fixed_step_is_that_step():
    f = lambda x: np.sum(x**3)  # noqa: E731
    x = np.array([1.0, 2.0])
    # the central difference of a cube is 3 x^2 + h^2 exactly
    found = nm.numerical_gradient(f, x, step=0.5)
    np.testing.assert_allclose(found, 3 * x**2 + 0.25, rtol=8 * EPS)


def test_at_a_kink_differences_give_the_mean_slope():
    assert abs(nm.numerical_gradient(np.abs, 0.0)) <= CLOSE
    g = nm.numerical_gradient(lambda x: np.sum(nm.nn.relu(x)), np.array([0.0, -1.0, 1.0]))
    np.testing.assert_allclose(g, [0.5, 0.0, 1.0], rtol=0, atol=CLOSE)


def test_untraceable_functions_are_welcome():
    def f(x):
        out = np.zeros(2)
        out[0] = float(x[0]) * 3
        out[1] = x[1].item()
        return out

    np.testing.assert_allclose(
        nm.numerical_gradient(f, np.ones(2)), [[3, 0], [0, 1]], rtol=0, atol=CLOSE
    )


# ---------------------------------------------------------------------------------------- complaints


@pytest.mark.parametrize("differentiate", [nm.numerical_gradient, nm.complex_step])
def test_what_is_no_float_is_refused(differentiate):
    who = differentiate.__name__
    for x in (3, np.arange(3), {"a": np.ones(2), "n": 3}, True):
        with pytest.raises(DtypeError, match=rf"^{who}: `x` must be .*astype\(float\)"):
            differentiate(np.sum, x)
    with pytest.raises(DtypeError, match="float32 or float64"):
        differentiate(np.sum, np.ones(2, np.float16))
    with pytest.raises(DtypeError, match=rf"^{who}: `f` must be callable"):
        differentiate(None, 1.0)
    with pytest.raises(DtypeError, match=rf"^{who}: `f` must return floating-point numbers"):
        differentiate(np.argmax, np.ones(2))
    with pytest.raises(DomainError, match=rf"^{who}: `f` must be finite at `x`, .* nan"):
        differentiate(lambda x: x * np.nan, 1.0)


def test_steps_out_of_range_are_refused():
    for step, error in ((0.0, DomainError), (-1.0, DomainError), ("a", DtypeError)):
        with pytest.raises(error, match=r"`step` must be a positive number"):
            nm.numerical_gradient(np.sin, 1.0, step=step)
    with pytest.raises(DomainError, match="above the spacing of `x`"):
        nm.numerical_gradient(np.sin, 1.0, step=1e-18)


def test_the_error_of_the_function_is_kept_and_explained():
    def f(x):
        if x != 1.0:
            raise ZeroDivisionError("not here")
        return x

    with pytest.raises(ZeroDivisionError) as caught:
        nm.numerical_gradient(f, 1.0)
    assert "`f` raised this at points around `x`" in caught.value.__notes__[0]
    with pytest.raises(ShapeError, match="one structure and shape at all points"):
        nm.numerical_gradient(lambda x: np.ones(1 + int(x > 1)) * x, 1.0)


def test_complex_step_finds_out_what_is_not_analytic():
    with pytest.raises(DtypeError, match=r"returns float64 for a complex argument"):
        nm.complex_step(np.abs, 1.0)
    with pytest.raises(DtypeError, match="casts them to real ones"):
        nm.complex_step(lambda x: np.asarray(x).astype(float) * 2.0, 1.0)
    for f in (lambda x: x * np.conj(x), lambda x: x * x.real, lambda x: x + np.abs(x)):
        with pytest.raises(DomainError, match=r"`f` must be analytic as written"):
            nm.complex_step(f, np.array(1.5))
