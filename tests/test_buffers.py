"""Statistics in the fields of a dataclass: leaves that are carried along and not differentiated."""

import dataclasses

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import TreeError

X = np.array([[1.0, 2.0], [3.0, 5.0], [4.0, -1.0]])


@dataclasses.dataclass(frozen=True, eq=False)
class Centre:
    """A layer with a running mean, a counter and a dictionary of statistics."""

    scale: np.ndarray
    name: str
    mean: np.ndarray = nm.buffer()
    seen: np.ndarray = nm.buffer()
    more: dict = nm.buffer()

    def __call__(self, x):
        return (x - self.mean) * self.scale + self.more["shift"]

    def train(self, x):
        mean = x.mean(axis=0)
        new = dataclasses.replace(self, mean=0.5 * self.mean + 0.5 * mean, seen=self.seen + 1)
        return (x - mean) * self.scale, new


def centre(dtype=np.float64):
    return Centre(
        np.array([2.0, 3.0], dtype),
        "centre",
        np.array([1.0, -1.0], dtype),
        np.array(4),
        {"shift": np.array([0.5, 0.25], dtype)},
    )


def model(dtype=np.float64):
    return {"first": [np.ones(2, dtype), centre(dtype)]}


def loss(m, x=X):
    return np.sum(m["first"][1](x * m["first"][0]) ** 2)


def by_hand(m, x=X):
    """The gradients of `loss` in the two variables."""
    a, layer = m["first"]
    y = (x * a - layer.mean) * layer.scale + layer.more["shift"]
    return 2 * np.sum(y * layer.scale * x, axis=0), 2 * np.sum(y * (x * a - layer.mean), axis=0)


def assert_zero(layer, like, lead=(), dtypes=True):
    for mine, theirs in (
        (layer.mean, like.mean),
        (layer.seen, like.seen),
        (layer.more["shift"], like.more["shift"]),
    ):
        assert mine.dtype == theirs.dtype or not dtypes
        np.testing.assert_array_equal(mine, np.zeros(lead + np.shape(theirs)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_has_zeros_in_place_of_buffers(dtype):
    m = model(dtype)
    g = nm.grad(loss)(m, X.astype(dtype))
    want = by_hand(m, X.astype(dtype))
    rtol = 32 * np.finfo(dtype).eps  # sums of three products of two roundings each
    np.testing.assert_allclose(g["first"][0], want[0], rtol=rtol)
    np.testing.assert_allclose(g["first"][1].scale, want[1], rtol=rtol)
    assert g["first"][1].scale.dtype == dtype
    assert_zero(g["first"][1], m["first"][1])
    pulled = nm.vjp(loss, m)[1](1.0)[0]
    assert_zero(pulled["first"][1], m["first"][1])


def test_values_and_derivatives_see_the_statistics_as_constants():
    m = model()
    tangent = nm.tree_map(np.ones_like, m)
    _, t = nm.jvp(loss, (m,), (tangent,))
    want = sum(np.sum(part) for part in by_hand(m))
    np.testing.assert_allclose(t, want, rtol=1e-13)
    y, linear = nm.linearize(loss, m)
    np.testing.assert_allclose(y, loss(m), rtol=1e-15)
    np.testing.assert_allclose(linear(tangent), want, rtol=1e-13)
    h = nm.hvp(loss, (m,), (tangent,))["first"]
    flat, unravel = nm.ravel_tree(m)
    dense = nm.hessian(lambda v: loss(unravel(v)))(flat)
    np.testing.assert_allclose(np.concatenate([h[0], h[1].scale]), dense @ np.ones(4), rtol=1e-13)
    assert_zero(h[1], m["first"][1], dtypes=False)  # the derivative of an integer is a float


@pytest.mark.parametrize("jac", [nm.jacrev, nm.jacfwd, nm.jacobian])
def test_jacobians_have_zeros_of_their_own_shape(jac):
    m = model()
    j = jac(lambda m: m["first"][1](X[0]))(m)["first"][1]
    np.testing.assert_allclose(j.scale, np.diag(X[0] - m["first"][1].mean))
    assert_zero(j, m["first"][1], (2,))


def test_trees_see_buffers_and_vectors_do_not():
    m = model()
    assert len(nm.tree_leaves(m)) == 5
    assert "['first'][1].more['shift']" in nm.tree_paths(m)
    doubled = nm.tree_map(lambda v: 2 * v, m)
    np.testing.assert_array_equal(doubled["first"][1].mean, [2.0, -2.0])
    flat, unravel = nm.ravel_tree(m)
    np.testing.assert_array_equal(flat, [1.0, 1.0, 2.0, 3.0])
    back = unravel(flat + 1.0)["first"][1]
    np.testing.assert_array_equal(back.scale, [3.0, 4.0])
    assert back.mean is m["first"][1].mean


def test_steps_by_hand_and_by_optimizers_keep_the_statistics():
    m = model()
    g = nm.grad(loss)(m)
    by_map = nm.tree_map(lambda p, g: p - 0.1 * g, m, g)["first"][1]
    np.testing.assert_array_equal(by_map.mean, m["first"][1].mean)
    opt = nm.optim.adamw(0.1, weight_decay=0.5)
    state = opt.init(m)
    for _ in range(3):
        new, state = opt.step(m, nm.grad(loss)(m), state)
        for kept in ("mean", "seen"):
            np.testing.assert_array_equal(
                getattr(new["first"][1], kept), getattr(m["first"][1], kept)
            )
        assert np.all(new["first"][1].scale != m["first"][1].scale)
        m = new
    for moments in (state.mu, state.nu):
        assert_zero(moments["first"][1], m["first"][1])
    opt.step_in_place(m, nm.grad(loss)(m), state)
    np.testing.assert_array_equal(m["first"][1].mean, [1.0, -1.0])


def test_the_statistics_of_training_come_out_as_values():
    def f(m, x):
        y, layer = m["first"][1].train(x * m["first"][0])
        return np.sum(y**2), {**m, "first": [m["first"][0], layer]}

    m = model()
    (_, new), g = nm.value_and_grad(f, has_aux=True)(m, X)
    layer = new["first"][1]
    np.testing.assert_allclose(layer.mean, 0.5 * m["first"][1].mean + 0.5 * X.mean(axis=0))
    assert layer.seen == 5
    assert not any(isinstance(v, nm.Tracer) for v in nm.tree_leaves(new))
    state = nm.optim.gradient_descent(0.1).init(m)
    stepped, _ = nm.optim.gradient_descent(0.1).step(
        new, g, state
    )  # gradients of m beside its successor
    np.testing.assert_array_equal(stepped["first"][1].mean, layer.mean)
    # as a result a buffer has a derivative
    mean_of = lambda x: m["first"][1].train(x)[1].mean  # noqa: E731
    np.testing.assert_allclose(nm.jvp(mean_of, (X,), (np.ones_like(X),))[1], [0.5, 0.5])


def test_maps_programs_and_scans_carry_them():
    layers = [centre(), nm.tree_map(lambda v: 3 * v, centre())]
    many = nm.tree_map(lambda a, b: np.stack([a, b]), *layers)
    rows = nm.vmap(lambda layer: layer(X))(many)
    for row, layer in zip(rows, layers, strict=True):
        np.testing.assert_allclose(row, layer(X))
    g = nm.vmap(nm.grad(lambda layer: np.sum(layer(X) ** 2)))(many)
    assert_zero(g, layers[0], (2,))
    program = nm.stage(lambda layer, x: layer.train(x), centre(), X)
    y, new = program(layers[1], X)
    want = layers[1].train(X)
    np.testing.assert_allclose(y, want[0])
    np.testing.assert_allclose(new.mean, want[1].mean)

    def step(layer, x):
        y, layer = layer.train(x)
        return layer, y

    last, _ = nm.scan(step, centre(), np.stack([X, X + 1.0]))
    np.testing.assert_allclose(last.mean, 0.25 * centre().mean + 0.75 * X.mean(axis=0) + 0.5)
    assert last.seen == 6


def test_checks_and_curvature_have_the_variables_alone(tmp_path):
    m = model()
    nm.check_grads(loss, (m,))
    assert nm.curvature.HessianOperator(loss, m).shape == (4, 4)
    g = nm.numerical_gradient(loss, m)
    assert_zero((g.value if hasattr(g, "value") else g)["first"][1], m["first"][1])
    nm.save(tmp_path / "m.npz", m)
    back = nm.load(tmp_path / "m.npz", like=m)
    np.testing.assert_array_equal(back["first"][1].mean, m["first"][1].mean)
    assert back["first"][1].seen == 4
    there = nm.to_device(m, "cpu")
    np.testing.assert_array_equal(there["first"][1].mean, m["first"][1].mean)


def test_static_fields_still_tell_structures_apart():
    m, other = model(), model()
    other["first"][1] = dataclasses.replace(other["first"][1], name="another")
    with pytest.raises(TreeError):
        nm.jvp(loss, (m,), (other,))
    with pytest.raises(TreeError):
        nm.optim.gradient_descent(0.1).step(m, other, nm.optim.gradient_descent(0.1).init(m))
