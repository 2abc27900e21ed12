"""The source document's tools and pitfalls of checking, computed; `docs/source.md` names each test."""

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import GradientError, ShapeError


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def model(rng):
    params = {"w": rng.normal(size=(3, 2)), "b": rng.normal(size=2)}
    return params, rng.normal(size=(6, 3)), rng.normal(size=(6, 2))


def squared(params, x, y):
    return np.mean((np.tanh(x @ params["w"] + params["b"]) - y) ** 2)


def squared_by_hand(params, x, y):
    z = np.tanh(x @ params["w"] + params["b"])
    delta = 2 * (z - y) * (1 - z * z) / z.size
    return {"w": x.T @ delta, "b": delta.sum(axis=0)}


def test_loss_and_gradient_of_plain_numpy(rng):
    """A01: the document's loss and grad, of NumPy code, in one call."""
    params, x, y = model(rng)
    value, g = nm.value_and_grad(squared)(params, x, y)
    want = squared_by_hand(params, x, y)
    np.testing.assert_allclose(value, squared(params, x, y), rtol=1e-15)
    for name in params:
        np.testing.assert_allclose(g[name], want[name], rtol=1e-12, atol=1e-15)


def test_a_product_with_the_hessian(rng):
    """A02: H v against the difference of gradients along v, of second order in the step."""
    params, x, y = model(rng)
    v = {name: rng.normal(size=p.shape) for name, p in params.items()}
    got = nm.hvp(lambda p: squared(p, x, y), (params,), (v,))
    errors = []
    for h in (1e-3, 5e-4):
        up, down = (
            squared_by_hand({n: p + s * h * v[n] for n, p in params.items()}, x, y) for s in (1, -1)
        )
        errors.append(max(np.abs((up[n] - down[n]) / (2 * h) - got[n]).max() for n in params))
    assert errors[0] < 1e-4
    assert 3.5 < errors[0] / errors[1] < 4.5


def test_gradients_of_the_parameters_of_a_model(rng):
    """A03: a tree of gradients like the model, without state that accumulates: twice is the same."""
    layer = nm.nn.Dense.init((3, 2), rng=0)
    x, y = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    loss = lambda m: nm.nn.mean_squared_error(m(x), y, reduction="mean")  # noqa: E731
    first, second = nm.grad(loss)(layer), nm.grad(loss)(layer)
    np.testing.assert_array_equal(first.weight, second.weight)
    want = 2 * x.T @ (layer(x) - y) / y.size
    np.testing.assert_allclose(first.weight, want, rtol=1e-12)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 2, 2)])
def test_a_numerical_gradient_of_any_shape(shape, rng):
    """A04, K08: the document's loop perturbs whole rows of a matrix; this one has an entry for each entry."""
    x = rng.normal(size=shape)
    f = lambda x: np.sum(np.sin(x) * x)  # noqa: E731
    got = np.asarray(nm.numerical_gradient(f, x))
    np.testing.assert_allclose(got, np.cos(x) * x + np.sin(x), rtol=1e-8, atol=1e-8)
    if len(shape) == 2:
        rows = [
            (f(x + 1e-6 * np.eye(2)[:, [i]]) - f(x)) / 1e-6 for i in range(2)
        ]  # as written there
        assert np.abs(np.asarray(rows)[:, None] - got).max() > 0.1


def test_the_tolerance_tells_a_right_gradient_from_a_wrong_one(rng):
    """A05: the check passes what is right and fails an error of a thousandth."""
    params, x, y = model(rng)
    at = (params, x, y)
    nm.check_grads(squared, at, grad=lambda *a: (squared_by_hand(*a), None, None))

    def wrong(*a):
        g = squared_by_hand(*a)
        return ({**g, "b": g["b"] * 1.001}, None, None)

    with pytest.raises(GradientError) as caught:
        nm.check_grads(squared, at, grad=wrong)
    assert "['b']" in str(caught.value)
    np.testing.assert_allclose(nm.grad(squared)(*at)["b"], squared_by_hand(*at)["b"], rtol=1e-12)


def test_a_gradient_that_the_user_wrote_is_checked(rng):
    """A06: a rule of one's own, with a slip of sign, is found before it trains anything."""
    x = rng.normal(size=4)
    right = nm.custom_rule(lambda x: np.sum(x**3), vjp=lambda args, y, g: (3 * args[0] ** 2 * g,))
    slip = nm.custom_rule(lambda x: np.sum(x**3), vjp=lambda args, y, g: (-3 * args[0] ** 2 * g,))
    nm.check_grads(right, (x,), order=1, modes=("rev",))
    np.testing.assert_allclose(nm.grad(slip)(x), -nm.grad(right)(x))
    with pytest.raises(GradientError):
        nm.check_grads(slip, (x,), order=1, modes=("rev",))


def test_differences_have_a_best_step(rng):
    """D08: the error of a difference falls with the step and then rises again: truncation, then rounding."""
    x, d = 0.7, 1.0
    error = lambda h: abs((np.exp(x + h * d) - np.exp(x - h * d)) / (2 * h) - np.exp(x))  # noqa: E731
    assert error(1e-5) < 1e-2 * error(1e-2)
    assert error(1e-5) < 1e-2 * error(1e-12)
    assert abs(np.asarray(nm.numerical_gradient(np.exp, x)) - np.exp(x)) < 1e-9


def test_differences_agree_with_automatic_differentiation(rng):
    """D09: all entries, and the complex step to the last digits."""
    w = rng.normal(size=(4, 4))
    f = lambda x: np.sum(np.tanh(w @ x) * x)  # noqa: E731
    x = rng.normal(size=4)
    g = nm.grad(f)(x)
    np.testing.assert_allclose(nm.numerical_gradient(f, x), g, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(nm.complex_step(f, x), g, rtol=1e-13, atol=1e-14)


def test_one_point_can_hide_an_error(rng):
    """D10: a wrong branch is not seen where it is not taken."""
    rule = lambda args, y, g: (g * np.where(args[0] > 0, 2 * args[0], 3.0),)  # noqa: E731
    f = nm.custom_rule(lambda x: np.sum(np.where(x > 0, x**2, 2 * x)), vjp=rule)
    here, there = np.array([1.0, 2.0]), np.array([-1.0, 2.0])
    nm.check_grads(f, (here,), order=1, modes=("rev",))
    np.testing.assert_allclose(nm.grad(f)(there), [3.0, 4.0])
    with pytest.raises(GradientError):
        nm.check_grads(f, (there,), order=1, modes=("rev",))


def test_a_contract_names_both_lengths_and_where_they_come_from(rng):
    """D12: a layer whose contract is broken says which axes of which arguments have which lengths."""
    layer = nm.shapes("b i, i o -> b o")(lambda x, w: x @ w)
    x, w = rng.normal(size=(5, 3)), rng.normal(size=(3, 2))
    np.testing.assert_array_equal(layer(x, w), x @ w)
    with pytest.raises(ShapeError) as caught:
        layer(x, rng.normal(size=(4, 2)))
    assert all(word in str(caught.value) for word in ("`x`", "`w`", "3", "4"))


def test_index_notation_names_what_does_not_fit(rng):
    """D11: einsum names the index and both of its lengths."""
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(5, 2))
    with pytest.raises(ShapeError) as caught:
        nm.numpy.einsum("ik,kj->ij", a, b)
    assert all(word in str(caught.value) for word in ("`k`", "4", "5"))
    np.testing.assert_array_equal(nm.numpy.einsum("ik,kj->ij", a, b[:4]), a @ b[:4])
