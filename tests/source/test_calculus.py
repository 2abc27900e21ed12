"""The source document's statements on calculus, computed; `docs/source.md` names each test."""

import itertools
import math

import numpy as np
import pytest

import nnmath_core as nm

EPS = np.finfo(float).eps


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def network(rng, sizes=(3, 5, 4, 2)):
    """Weights, an input and a target."""
    shapes = itertools.pairwise(sizes)
    weights = [rng.normal(size=s) / math.sqrt(s[0]) for s in shapes]
    return weights, rng.normal(size=sizes[0]), rng.normal(size=sizes[-1])


def forward(weights, x):
    for w in weights:
        x = np.tanh(x @ w)
    return x


def loss(weights, x, target):
    return 0.5 * np.sum((forward(weights, x) - target) ** 2)


def by_hand(weights, x, target):
    """The document's recursion: activations are kept on the way up and used on the way down."""
    z = [x]
    for w in weights:
        z.append(np.tanh(z[-1] @ w))
    delta, grads = z[-1] - target, []
    for i in reversed(range(len(weights))):
        delta = delta * (1 - z[i + 1] ** 2)
        grads.append(np.outer(z[i], delta))
        delta = weights[i] @ delta
    return grads[::-1]


def flops(program):
    """Multiplications in the products of a program."""
    total = 0
    for e in program.equations:
        if e.primitive.name == "contract":
            left, right, _ = e.params["spec"]
            lengths = dict(zip(left, e.operands[0].shape, strict=True))
            lengths.update(zip(right, e.operands[1].shape, strict=True))
            total += math.prod(lengths.values())
    return total


def test_the_chain_rule_for_two_functions(rng):
    """C01: the Jacobian of f(g(x)) is the product of the Jacobians."""
    a, x = rng.normal(size=(3, 4)), rng.normal(size=3)
    g = lambda x: np.sin(x) @ a  # noqa: E731
    f = lambda y: np.stack([np.sum(y**2), np.prod(y)])  # noqa: E731
    whole = nm.jacobian(lambda x: f(g(x)))(x)
    np.testing.assert_allclose(
        whole, nm.jacobian(f)(g(x)) @ nm.jacobian(g)(x), rtol=1e-13, atol=1e-13
    )
    step = np.array([nm.complex_step(lambda x, i=i: f(g(x))[i], x) for i in range(2)])
    np.testing.assert_allclose(whole, step, rtol=1e-13, atol=1e-13)


def test_a_network_is_a_composition(rng):
    """C02: L = loss(f_3(f_2(f_1(x)))), and its pullback is that of the parts in reverse order."""
    weights, x, target = network(rng)
    parts = [lambda z, w=w: np.tanh(z @ w) for w in weights]
    z, pulls = x, []
    for f in parts:
        z, pull = nm.vjp(f, z)
        pulls.append(pull)
    np.testing.assert_array_equal(z, forward(weights, x))
    ct = z - target
    for pull in reversed(pulls):
        (ct,) = pull(ct)
    np.testing.assert_allclose(
        ct, nm.grad(lambda x: loss(weights, x, target))(x), rtol=1e-13, atol=1e-14
    )


def test_the_backward_pass_layer_by_layer(rng):
    """C03: dL/dW_i by the document's recursion is the gradient; the program of the gradient prints it."""
    weights, x, target = network(rng)
    for got, want in zip(
        nm.grad(loss)(weights, x, target), by_hand(weights, x, target), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)
    program = nm.stage(lambda w: nm.grad(loss)(w, x, target), weights)
    products = [e for e in program.equations if e.primitive.name == "contract"]
    # three on the way up; on the way down one for each weight and one for each layer but the first
    assert len(products) == 3 + 3 + 2
    assert str(program).count("contract(") == 8


def test_what_is_kept_for_the_way_back(rng):
    """C04: the linear part reads of each layer its input, its slopes and (but for the first) its weights."""
    weights, _, _ = network(rng)
    x = rng.normal(size=(7, 3))
    _, linear = nm.linearize(lambda w: forward(w, x), weights)
    kept = [c.shape for c in linear.program.constants.values()]
    inputs = [(7, w.shape[0]) for w in weights]
    slopes = [(7, w.shape[1]) for w in weights]
    assert sorted(kept) == sorted(inputs + slopes + [w.shape for w in weights[1:]])
    numbers = sum(7 * sum(w.shape) for w in weights) + sum(w.size for w in weights[1:])
    assert sum(c.nbytes for c in linear.program.constants.values()) == 8 * numbers


def test_a_gradient_costs_a_small_multiple_of_the_function(rng):
    """C05: of the multiplications of a network's products the gradient has less than three times as many."""
    weights, x, target = network(rng, (20, 30, 40, 30, 10))
    up = nm.stage(lambda w: loss(w, x, target), weights)
    both = nm.stage(lambda w: nm.value_and_grad(loss)(w, x, target), weights)
    forward_cost = sum(math.prod(w.shape) for w in weights)
    assert flops(up) == forward_cost
    # all weights twice more, less the pullback into the input
    assert flops(both) == 3 * forward_cost - math.prod(weights[0].shape)


def test_the_jacobian_has_outputs_in_rows(rng):
    """C06: J_ij = df_i / dx_j, shape (outputs, inputs)."""
    a, x = rng.normal(size=(4, 3)), rng.normal(size=3)
    j = nm.jacobian(lambda x: a @ x)(x)
    assert j.shape == (4, 3)
    np.testing.assert_allclose(j, a, rtol=1e-15)


def test_a_vjp_is_a_row_combination_without_the_jacobian(rng):
    """C07: v^T J from one pass; the number of operations does not grow with the outputs."""
    a = {m: rng.normal(size=(m, 6)) for m in (2, 200)}
    x = rng.normal(size=6)
    f = lambda m: lambda x: np.tanh(a[m] @ x)  # noqa: E731
    counts = []
    for m in a:
        v = rng.normal(size=m)
        (got,) = nm.vjp(f(m), x)[1](v)
        np.testing.assert_allclose(got, v @ nm.jacfwd(f(m))(x), rtol=1e-11, atol=1e-12)
        pull = lambda x, v, m=m: nm.vjp(f(m), x)[1](v)  # noqa: E731
        counts.append(len(nm.stage(pull, x, v).equations))
    assert counts[0] == counts[1]


def test_a_jvp_is_a_directional_derivative(rng):
    """C08: J v is the limit of the difference quotient along v."""
    weights, x, _ = network(rng)
    v = rng.normal(size=3)
    _, got = nm.jvp(lambda x: forward(weights, x), (x,), (v,))
    h = 1e-30
    quotient = np.imag(forward(weights, x + 1j * h * v)) / h
    np.testing.assert_allclose(got, quotient, rtol=1e-13, atol=1e-15)


def test_the_cheaper_mode_is_chosen_and_says_why(rng):
    """C09: few outputs: reverse; few inputs: forward."""
    a = rng.normal(size=(2, 50))
    wide, tall = nm.jacobian(lambda x: a @ x), nm.jacobian(lambda x: a.T @ x)
    np.testing.assert_allclose(wide(np.ones(50)), a)
    np.testing.assert_allclose(tall(np.ones(2)), a.T)
    assert (wide.mode, tall.mode) == ("reverse", "forward")
    assert wide.why == "50 inputs, 2 outputs"


def test_the_hessian_is_symmetric_and_right(rng):
    """C10: second derivatives against the complex step of the gradient."""
    weights, x, target = network(rng)
    f = lambda x: loss(weights, x, target)  # noqa: E731
    h = nm.hessian(f)(x)
    np.testing.assert_allclose(h, h.T, rtol=0, atol=64 * EPS * np.abs(h).max())
    a = rng.normal(size=(3, 3))
    np.testing.assert_allclose(
        nm.hessian(lambda x: np.sum(np.sin(x) * (a @ x)))(x),
        np.diag(-np.sin(x) * (a @ x)) + np.cos(x)[:, None] * a + (np.cos(x)[:, None] * a).T,
        rtol=1e-13,
        atol=1e-13,
    )


def test_newton_converges_quadratically(rng):
    """C11: theta - H^-1 g: the number of right digits doubles."""
    f = lambda x: np.sum(np.exp(x) - 2.0 * x) + np.prod(x)  # noqa: E731
    x, sizes = np.array([0.9, 0.5, 0.8]), []
    for _ in range(7):
        g = nm.grad(f)(x)
        sizes.append(np.linalg.norm(g))
        x = x - np.linalg.solve(nm.hessian(f)(x), g)
    assert sizes[-1] < 1e-14
    late = [s for s in sizes if 1e-12 < s < 0.1]
    for now, then in zip(late[1:], late[:-1], strict=True):
        assert now < 4 * then**2


def test_a_natural_gradient_does_not_depend_on_the_parameters(rng):
    """C12: F^-1 g moves a model the same way in two parametrisations; a gradient does not."""
    x = rng.normal(size=(20, 2))
    y = (rng.uniform(size=20) < 0.5).astype(float)
    turn = np.array([[1.0, 0.4], [-0.3, 2.0]])
    predict = lambda w: x @ w  # noqa: E731
    cross_entropy = lambda z: nm.nn.binary_cross_entropy(z, y, reduction="sum")  # noqa: E731

    def steps(of_parameters, w):
        """Change of the logits to first order, along the gradient and the natural gradient."""
        model = lambda w: predict(of_parameters(w))  # noqa: E731
        g = nm.grad(lambda w: cross_entropy(model(w)))(w)
        fisher = np.stack([nm.ggnvp(model, cross_entropy, w, e) for e in np.eye(2)])
        moved = [nm.jvp(model, (w,), (d,))[1] for d in (g, np.linalg.solve(fisher, g))]
        return moved

    w = np.array([0.3, -0.7])
    plain, natural = steps(lambda w: w, w)
    other_plain, other_natural = steps(lambda v: turn @ v, np.linalg.solve(turn, w))
    np.testing.assert_allclose(natural, other_natural, rtol=1e-10)
    assert np.abs(plain - other_plain).max() > 0.1 * np.abs(plain).max()


def test_curvature_tells_a_flat_minimum_from_a_sharp_one():
    """C13: the eigenvalues of the Hessian at two minima of one function."""
    f = lambda x: x[0] ** 2 * (x[0] - 3.0) ** 2 * (1.0 + x[0]) + 0.5 * x[1] ** 2  # noqa: E731
    flat, sharp = (nm.curvature.HessianOperator(f, np.array([a, 0.0])) for a in (0.0, 3.0))
    for h in (flat, sharp):
        assert np.abs(h.gradient).max() == 0.0
    # f'' = 2 (a - b)^2 (1 + a) at the minimum a, with b the other one
    np.testing.assert_allclose(np.linalg.eigvalsh(flat @ np.eye(2)), [1.0, 18.0], rtol=1e-13)
    np.testing.assert_allclose(np.linalg.eigvalsh(sharp @ np.eye(2)), [1.0, 72.0], rtol=1e-13)


def test_a_hessian_vector_product_never_forms_the_hessian(rng):
    """C14: no array in its program is larger than the parameters; the Hessian's would have n^2 numbers."""
    weights, x, target = network(rng, (20, 30, 10))
    v = [rng.normal(size=w.shape) for w in weights]
    product = lambda w: nm.hvp(lambda w: loss(w, x, target), (w,), (v,))  # noqa: E731
    largest = max(
        math.prod(o.shape) for e in nm.stage(product, weights).equations for o in e.outputs
    )
    assert largest == 20 * 30
    flat, unravel = nm.ravel_tree(weights)
    h = nm.hessian(lambda p: loss(unravel(p), x, target))(flat)
    np.testing.assert_allclose(
        nm.ravel_tree(product(weights))[0], h @ nm.ravel_tree(v)[0], rtol=1e-10, atol=1e-12
    )


def test_the_documents_hessian_vector_product_mended(rng):
    """C15: its snippet calls an array; both of the forms that were meant agree with H v."""
    weights, x, target = network(rng)
    f = lambda w: loss(w, x, target)  # noqa: E731
    v = [rng.normal(size=w.shape) for w in weights]
    _, forward_over_reverse = nm.jvp(nm.grad(f), (weights,), (v,))
    inner = lambda w: sum(np.vdot(g, t) for g, t in zip(nm.grad(f)(w), v, strict=True))  # noqa: E731
    reverse_over_reverse = nm.grad(inner)(weights)
    direct = nm.hvp(f, (weights,), (v,))
    for a, b, c in zip(forward_over_reverse, reverse_over_reverse, direct, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(a, c, rtol=1e-12, atol=1e-14)
    with pytest.raises(TypeError, match="callable"):
        nm.grad(f)(weights)[0](v)


def test_derivatives_of_order_three_and_more():
    """C16: Taylor coefficients of exp(sin x) at 0 are 1, 1, 1, 0, -3, -8: its derivatives there."""
    zero = np.zeros(())
    _, terms = nm.jet(
        lambda x: np.exp(np.sin(x)), (zero,), ([np.ones(()), zero, zero, zero, zero],)
    )
    np.testing.assert_allclose(terms, [1.0, 1.0, 0.0, -3.0, -8.0], atol=1e-13)
    f = lambda x: np.exp(np.sin(x))  # noqa: E731
    for want in (1.0, 1.0, 0.0, -3.0):
        f = nm.grad(f)
        assert abs(f(0.0) - want) < 1e-12
