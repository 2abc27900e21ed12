"""ctc, distillation and InfoNCE: against PyTorch, against sums over all paths, in closed form, and their complaints."""

import itertools
import json
import math

import numpy as np
import pytest
from reference import sequence_losses_torch as reference
from reference.parity import compare, direction, weights

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError

EPS = np.finfo(np.float64).eps
STORED = json.loads(reference.STORED.read_text())["cases"]
CASES = reference.cases()


@pytest.fixture
def rng():
    return np.random.default_rng(20261126)


def ours(name):
    loss, o = CASES[name]
    options = {
        k: v for k, v in o.items() if k not in ("sizes", "labels", "steps", "lengths", "scale")
    }
    f = getattr(nm.nn, loss)
    if loss != "ctc":
        return lambda p, t: f(p, t, **options)
    given = {
        "input_lengths": np.array(o["steps"]) if "steps" in o else None,
        "target_lengths": np.array(o["lengths"]) if "lengths" in o else None,
    }
    return lambda z: f(z, reference.labels(name, o), **given, **options)


@pytest.mark.parametrize("name", CASES)
def test_loss_agrees_with_pytorch(name):
    f, arguments = ours(name), reference.arguments(name, *CASES[name])
    y = f(*arguments)
    w = weights(name, y.shape)
    stored = STORED[name]
    # of one pair both are 0; PyTorch rounds: its products of unit vectors are 1 up to eps, over the temperature
    floor = 16 * EPS if name == "info_nce, one pair" else 0.0

    def check(what, got, want):
        if floor and max(abs(float.fromhex(v)) for v in want) <= floor:
            assert np.abs(got).max() <= floor
        else:
            compare(what, got, want, 1e-12)

    check("value", y, stored["value"])
    numbers = tuple(range(len(arguments)))
    g = nm.grad(lambda *a: np.sum(w * f(*a)), numbers)(*arguments)
    for i, want in enumerate(stored["gradient"]):
        check(f"gradient in argument {i}", g[i], want)
    if "product" in stored:
        along = [direction(name, i, a.shape) for i, a in enumerate(arguments)]
        products = nm.hvp(lambda a: np.sum(w * f(*a)), (arguments,), (along,))
        for i, want in enumerate(stored["product"]):
            check(f"product in argument {i}", products[i], want)


# ------------------------------------------------------------------------------ ctc: all paths


def reads_as(path, blank):
    """Remove repetitions, then blanks."""
    return [k for k, _ in itertools.groupby(path) if k != blank]


def by_all_paths(z, labels, blank=0):
    """Loss, gradient and Hessian in the logits of one sequence, by the sum over every path.

    The loss is sum_t lse(z_t) - log sum_path exp(sum_t z[t, path_t]): the gradient is the softmax less the mean of the
    paths' indicators, the Hessian that of the softmax less their covariance.
    """
    t, k = z.shape
    paths = [p for p in itertools.product(range(k), repeat=t) if reads_as(p, blank) == list(labels)]
    s = np.exp(z - z.max(1, keepdims=True))
    s /= s.sum(1, keepdims=True)
    if not paths:
        return math.inf, np.zeros_like(z), np.zeros((t * k, t * k))
    indicators = np.zeros((len(paths), t * k))
    for row, path in zip(indicators, paths, strict=True):
        for i, c in enumerate(path):
            row[i * k + c] = 1.0
    score = indicators @ z.ravel()
    p = np.exp(score - score.max())
    total = p.sum()
    p /= total
    lse = sum(math.log(sum(math.exp(v - max(r)) for v in r)) + max(r) for r in z.tolist())
    loss = lse - math.log(total) - score.max()
    mean = p @ indicators
    covariance = (indicators * p[:, None]).T @ indicators - np.outer(mean, mean)
    blocks = np.zeros((t * k, t * k))
    for i, row in enumerate(s):
        blocks[i * k : (i + 1) * k, i * k : (i + 1) * k] = np.diag(row) - np.outer(row, row)
    return loss, s - mean.reshape(t, k), blocks - covariance


PATHS = {
    "two labels": (4, 3, [1, 2], 0),
    "a repetition": (5, 3, [2, 2], 0),
    "no labels": (4, 3, [], 0),
    "as many labels as steps": (3, 4, [3, 1, 2], 0),
    "the last class is the blank": (5, 3, [0, 1, 0], 2),
    "one step": (1, 4, [2], 0),
    "three of a kind": (6, 2, [1, 1, 1], 0),
    "no path": (3, 3, [1, 1, 1], 0),
}


@pytest.mark.parametrize("name", PATHS)
def test_ctc_is_the_sum_over_all_paths_to_second_order(name, rng):
    t, k, labels, blank = PATHS[name]
    z = 2 * rng.standard_normal((t, k))
    row = np.array(labels, int)
    loss, gradient, hessian = by_all_paths(z, labels, blank)
    tol = 64 * EPS * (1 + t)  # t additions of logarithms below 10

    def f(z):
        return nm.nn.ctc(z, row, blank=blank)

    assert f(z) == loss or abs(f(z) - loss) <= tol
    np.testing.assert_allclose(nm.grad(f)(z), gradient, rtol=0, atol=tol)
    np.testing.assert_allclose(
        nm.nn.ctc.replace(blank=blank).gradient(z, row), gradient, rtol=0, atol=tol
    )
    np.testing.assert_allclose(nm.hessian(f)(z).reshape(t * k, t * k), hessian, rtol=0, atol=tol)
    v = rng.standard_normal(z.shape)
    np.testing.assert_allclose(nm.jvp(f, (z,), (v,))[1], np.sum(gradient * v), rtol=0, atol=8 * tol)
    np.testing.assert_allclose(
        nm.hvp(f, (z,), (v,)).ravel(), hessian @ v.ravel(), rtol=0, atol=8 * tol
    )


def test_probabilities_of_all_label_sequences_sum_to_one(rng):
    z = rng.standard_normal((4, 3))
    sequences = {tuple(reads_as(p, 0)) for p in itertools.product(range(3), repeat=4)}
    total = sum(float(np.exp(-nm.nn.ctc(z, np.array(s, int)))) for s in sequences)
    assert len(sequences) == 15
    assert abs(total - 1.0) <= 64 * EPS


def test_impossible_labels_are_infinite_with_derivative_zero(rng):
    z = rng.standard_normal((2, 3, 4))
    labels = np.array([[1, 1, 2], [1, 2, 3]])

    def f(z, **o):
        return nm.nn.ctc(z, labels, **o).sum()

    assert nm.nn.ctc(z, labels)[0] == math.inf
    assert nm.nn.ctc(z, labels, zero_infinity=True)[0] == 0.0
    for options in ({}, {"zero_infinity": True}):
        g = nm.grad(lambda z: f(z, **options))(z)  # noqa: B023
        assert np.all(g[0] == 0.0)
        assert np.all(g[1] != 0.0)
        h = nm.hvp(lambda z: f(z, **options), (z,), (np.ones_like(z) * np.arange(4),))  # noqa: B023
        assert np.all(h[0] == 0.0)
        assert np.any(h[1] != 0.0)
    assert np.isfinite(h).all()


def test_what_is_beyond_a_length_has_no_influence(rng):
    z = rng.standard_normal((3, 6, 4))
    labels = np.array([[1, 2, 3], [2, 99, -7], [0, 0, 0]])
    steps, lengths = np.array([6, 3, 2]), np.array([3, 1, 0])
    spoilt = z.copy()
    spoilt[1, 3:] = np.nan
    spoilt[2, 2:] = np.inf

    def f(z):
        return nm.nn.ctc(z, labels, input_lengths=steps, target_lengths=lengths)

    alone = [nm.nn.ctc(z[i, : steps[i]], labels[i, : lengths[i]]) for i in range(3)]
    np.testing.assert_allclose(f(spoilt), alone, rtol=0, atol=64 * EPS)
    g = nm.grad(lambda z: f(z).sum())(spoilt)
    np.testing.assert_array_equal(g, nm.grad(lambda z: f(z).sum())(z))
    assert np.all(g[1, 3:] == 0.0)
    assert np.all(g[2, 2:] == 0.0)
    closed = nm.nn.ctc.gradient(z, labels, input_lengths=steps, target_lengths=lengths)
    np.testing.assert_allclose(closed, g, rtol=0, atol=64 * EPS)


def test_ctc_stages_maps_and_keeps_dtype(rng):
    z = rng.standard_normal((2, 5, 4))
    labels, steps, lengths = np.array([[1, 2], [3, 3]]), np.array([5, 4]), np.array([2, 2])

    def f(z, labels, steps, lengths):
        return nm.nn.ctc(z, labels, input_lengths=steps, target_lengths=lengths)

    y = f(z, labels, steps, lengths)
    staged = nm.stage(f, z, labels, steps, lengths)
    np.testing.assert_allclose(staged(z, labels, steps, lengths), y, rtol=0, atol=64 * EPS)
    np.testing.assert_allclose(nm.vmap(f)(z, labels, steps, lengths), y, rtol=0, atol=64 * EPS)
    for wrong in ((np.array([[0, 2], [3, 3]]), steps, lengths), (labels, np.array([6, 4]), lengths),
                  (labels, steps, np.array([3, 2]))):  # fmt: skip
        assert np.isnan(staged(z, *wrong)).tolist() == [True, False]
    single = f(z.astype(np.float32), labels, steps, lengths)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, y, rtol=64 * np.finfo(np.float32).eps)
    nm.check_grads(lambda z: f(z, labels, steps, lengths).sum(), (z,), order=2)
    assert f(z[:0], labels[:0], steps[:0], lengths[:0]).shape == (0,)
    for reduction in ("sum", "mean"):
        g = nm.grad(lambda z: nm.nn.ctc(z, labels, target_lengths=lengths, reduction=reduction))(z)  # noqa: B023
        closed = nm.nn.ctc.replace(reduction=reduction).gradient(z, labels, target_lengths=lengths)
        np.testing.assert_allclose(closed, g, rtol=0, atol=64 * EPS)


# ------------------------------------------------------------------------------ distillation


def slow_divergence(student, teacher, t):
    """T^2 KL of one row, number by number."""
    p = [math.exp(v / t) for v in teacher]
    q = [math.exp(v / t) for v in student]
    return t * t * sum(
        a / sum(p) * (math.log(a / sum(p)) - math.log(b / sum(q))) for a, b in zip(p, q, strict=True)
    )  # fmt: skip


def test_distillation_is_the_divergence_of_the_student_from_the_teacher(rng):
    student, teacher = rng.standard_normal((2, 4, 5))
    for t in (0.5, 1.0, 3.0):
        got = nm.nn.distillation(student, teacher, temperature=t)
        want = [slow_divergence(s, u, t) for s, u in zip(student, teacher, strict=True)]
        np.testing.assert_allclose(got, want, rtol=0, atol=64 * EPS * t * t)
        assert np.all(got > 0)
        assert np.all(
            np.abs(nm.nn.distillation(teacher, teacher, temperature=t)) <= 8 * EPS * t * t
        )
    other = nm.nn.distillation(teacher, student)
    assert np.all(
        np.abs(other - nm.nn.distillation(student, teacher)) > 1e-3
    )  # not symmetric: teacher first


def test_distillation_differs_from_the_cross_entropy_by_the_teachers_entropy(rng):
    student, teacher = rng.standard_normal((2, 4, 5))
    rows = nm.nn.softmax(teacher)
    rows = rows / rows.sum(axis=-1, keepdims=True)
    entropy = -np.sum(rows * np.log(rows), axis=-1)
    want = nm.nn.softmax_cross_entropy(student, rows) - entropy
    np.testing.assert_allclose(nm.nn.distillation(student, teacher), want, rtol=0, atol=32 * EPS)


def test_factor_of_the_temperature_keeps_the_size_of_the_gradient(rng):
    student, teacher = rng.standard_normal((2, 4, 5))

    def size(t, **o):
        return np.linalg.norm(
            nm.grad(lambda s: nm.nn.distillation(s, teacher, temperature=t, **o).sum())(student)
        )

    # for a large T the gradient is (student - teacher) / k, each less its mean, up to O(1 / T)
    d = student - teacher
    limit = (d - d.mean(axis=-1, keepdims=True)) / 5
    found = nm.grad(lambda s: nm.nn.distillation(s, teacher, temperature=1e4).sum())(student)
    np.testing.assert_allclose(found, limit, rtol=0, atol=1e-3)
    assert abs(size(1e3) / size(1e4) - 1) < 1e-2
    assert abs(size(1e4, scaled=False) * 1e8 / size(1e4) - 1) < 1e-9


def test_closed_forms_of_distillation_are_its_derivatives(rng):
    student, teacher = rng.standard_normal((2, 3, 4))
    for options in (
        {"temperature": 2.0},
        {"temperature": 0.5, "scaled": False},
        {"reduction": "mean"},
    ):
        loss = nm.nn.distillation.replace(**options)
        g = nm.grad(lambda s: loss(s, teacher).sum())(student)  # noqa: B023
        np.testing.assert_allclose(loss.gradient(student, teacher), g, rtol=0, atol=64 * EPS)
        h = nm.hessian(lambda s: loss(s, teacher).sum())(student)  # noqa: B023
        blocks = np.stack([h[i, :, i] for i in range(3)])
        np.testing.assert_allclose(loss.hessian(student, teacher), blocks, rtol=0, atol=64 * EPS)
    nm.check_grads(
        lambda s, t: nm.nn.distillation(s, t, temperature=2.0).sum(), (student, teacher), order=2
    )


def test_excluded_classes_of_a_teacher_add_nothing():
    teacher = np.array([[0.5, -np.inf, 1.0]])
    student = np.array([[0.1, 0.2, 0.3]])
    two = nm.nn.distillation(student[:, ::2], teacher[:, ::2])
    q = nm.nn.softmax(student)
    want = two - np.log(q[:, 0] + q[:, 2])
    np.testing.assert_allclose(nm.nn.distillation(student, teacher), want, rtol=0, atol=8 * EPS)
    g = nm.grad(lambda s: nm.nn.distillation(s, teacher).sum())(student)
    np.testing.assert_allclose(g, q - nm.nn.softmax(teacher), rtol=0, atol=8 * EPS)
    assert nm.nn.distillation(teacher, student)[0] == math.inf


# ------------------------------------------------------------------------------ InfoNCE


def slow_info_nce(q, k, t, normalize=True):
    def similarity(a, b):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        if normalize:
            dot /= math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
        return dot / t

    n = len(q)
    return [
        -similarity(q[i], k[i]) + math.log(sum(math.exp(similarity(q[i], k[j])) for j in range(n)))
        for i in range(n)
    ]


@pytest.mark.parametrize("normalize", [True, False])
def test_info_nce_agrees_with_loops(normalize, rng):
    q, k = rng.standard_normal((2, 5, 3))
    want = slow_info_nce(q.tolist(), k.tolist(), 0.5, normalize)
    got = nm.nn.info_nce(q, k, temperature=0.5, normalize=normalize)
    np.testing.assert_allclose(got, want, rtol=0, atol=128 * EPS)
    other = slow_info_nce(k.tolist(), q.tolist(), 0.5, normalize)
    both = nm.nn.info_nce(q, k, temperature=0.5, normalize=normalize, symmetric=True)
    np.testing.assert_allclose(both, (np.array(want) + other) / 2, rtol=0, atol=128 * EPS)


def test_info_nce_is_within_its_bounds(rng):
    n, t = 6, 0.4
    low, high = (math.log1p((n - 1) * math.exp(s * 2 / t)) for s in (-1, 1))
    for _ in range(20):
        q, k = rng.standard_normal((2, n, 3))
        losses = nm.nn.info_nce(q, k, temperature=t)
        assert np.all(losses >= low)
        assert np.all(losses <= high)
        bound = nm.nn.info_nce.replace(temperature=t).mutual_information(q, k)
        assert abs(bound - (math.log(n) - losses.mean())) <= 16 * EPS
        assert bound <= math.log(n)
    # both ends are reached: the pair is opposite to all the others, or they to it
    axis = np.tile([[1.0, 0.0]], (2, 1)) * np.array([[1.0], [-1.0]])
    best = nm.nn.info_nce(axis, axis, temperature=t)
    np.testing.assert_allclose(best, math.log1p(math.exp(-2 / t)), rtol=32 * EPS)
    worst = nm.nn.info_nce(axis, -axis, temperature=t)
    np.testing.assert_allclose(worst, math.log1p(math.exp(2 / t)), rtol=32 * EPS)
    alike = np.ones((n, 2))
    np.testing.assert_allclose(nm.nn.info_nce(alike, alike), math.log(n), rtol=8 * EPS)


def test_lower_bound_holds_for_gaussians_of_known_information():
    # correlated pairs: I = -d/2 log(1 - rho^2); with the optimal critic the bound is tight up to log n
    rho, d, n = 0.8, 2, 64
    information = -0.5 * d * math.log(1 - rho**2)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(50):
        x = rng.standard_normal((n, d))
        y = rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((n, d))
        # log density ratio up to a function of x alone, as an inner product of features
        a = rho / (1 - rho**2)
        q = np.concatenate([a * x, np.ones((n, 1))], axis=1)
        k = np.concatenate([y, -0.5 * a * rho * np.sum(y**2, axis=1, keepdims=True)], axis=1)
        loss = nm.nn.info_nce.replace(normalize=False, temperature=1.0)
        found.append(float(loss.mutual_information(q, k)))
    mean, error = np.mean(found), np.std(found) / math.sqrt(len(found))
    assert mean <= information + 3 * error
    assert mean >= 0.85 * information


def test_rows_of_zeros_and_large_rows_are_harmless(rng):
    q, k = rng.standard_normal((2, 4, 3))
    q[1] = 0.0
    losses = nm.nn.info_nce(q, k)
    assert abs(losses[1] - math.log(4)) <= 8 * EPS
    g = nm.grad(lambda q: nm.nn.info_nce(q, k).sum())(q)
    assert np.all(g[1] == 0.0)
    assert np.isfinite(g).all()
    scales = np.array([[1e200], [1.0], [1e-200], [1e300]])
    np.testing.assert_allclose(nm.nn.info_nce(q * scales, k), losses, rtol=0, atol=256 * EPS)


def test_info_nce_to_second_order_in_both_modes(rng):
    q, k = rng.standard_normal((2, 4, 3))
    for options in ({}, {"symmetric": True}, {"normalize": False, "temperature": 2.0}):
        f = nm.nn.info_nce.replace(**options)
        nm.check_grads(lambda q, k: f(q, k).sum(), (q, k), order=2)  # noqa: B023
        np.testing.assert_allclose(nm.stage(f, q, k)(q, k), f(q, k), rtol=0, atol=64 * EPS)
        mapped = nm.vmap(f)(np.stack([q, k]), np.stack([k, q]))
        np.testing.assert_allclose(mapped[1], f(k, q), rtol=0, atol=64 * EPS)
    assert nm.nn.info_nce(q.astype(np.float32), k.astype(np.float32)).dtype == np.float32
    assert nm.nn.info_nce(q[:0], k[:0]).shape == (0,)


def test_info_nce_learns_its_temperature(rng):
    q, k = rng.standard_normal((2, 5, 3))
    s = np.array(-1.2)  # log T, as CLIP has it

    def loss(q, k, s):
        return nm.nn.info_nce(q, k, temperature=np.exp(s), symmetric=True, reduction="mean")

    want = nm.nn.info_nce(q, k, temperature=math.exp(-1.2), symmetric=True, reduction="mean")
    assert abs(loss(q, k, s) - want) <= 64 * EPS * want
    nm.check_grads(loss, (q, k, s), order=2)
    # d/dT of one direction: the mean of s_ij under the softmax less s_ii, over T**2
    unit_q, unit_k = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, k))
    scores = unit_q @ unit_k.T
    for t in (0.3, 2.0):
        model = nm.nn.info_nce.replace(temperature=np.array(t), reduction="mean")
        p = np.exp(scores / t)
        p /= p.sum(axis=1, keepdims=True)
        closed = np.mean(np.diagonal(scores) - np.sum(p * scores, axis=1)) / t**2
        found = nm.grad(lambda model: model(q, k))(model).temperature
        assert abs(found - closed) <= 64 * EPS / t**2
        assert abs(nm.stage(lambda m: m(q, k), model)(model) - model(q, k)) <= 64 * EPS / t
    many = nm.vmap(lambda t: nm.nn.info_nce(q, k, temperature=t))(np.array([0.3, 2.0]))
    np.testing.assert_allclose(
        many[1], nm.nn.info_nce(q, k, temperature=2.0), rtol=0, atol=64 * EPS
    )
    single = nm.nn.info_nce(q.astype("f4"), k.astype("f4"), temperature=np.array(0.3, "f4"))
    assert single.dtype == np.float32


# ------------------------------------------------------------------------------ what they say


def test_losses_explain_themselves_and_print_their_options():
    assert repr(nm.nn.distillation.replace(temperature=4.0)) == "distillation(temperature=4.0)"
    assert repr(nm.nn.ctc.replace(blank=3)) == "ctc(blank=3)"
    assert "alignment" not in str(nm.nn.explain_loss(nm.nn.info_nce))
    assert "independent categorical" in str(nm.nn.explain_loss(nm.nn.ctc))
    assert "none" in str(nm.nn.explain_loss(nm.nn.distillation))


Z = np.zeros((2, 4, 3))
LABELS = np.array([[1, 2], [1, 1]])
Q = np.ones((3, 2))
BAD = [
    (lambda: nm.nn.ctc(Z, np.array([[1, 3], [1, 1]])), DomainError, r"`labels` must be .* got 3 at index 0, 1"),
    (lambda: nm.nn.ctc(Z, np.array([[1, 2], [-1, 1]])), DomainError, r"got -1 at index 1, 0"),
    (lambda: nm.nn.ctc(Z, np.array([[1, 2], [0, 1]])), DomainError, r"without the blank 0, got 0 at index 1, 0"),
    (lambda: nm.nn.ctc(Z, LABELS, input_lengths=np.array([4, 5])), DomainError,
     r"`input_lengths` must be in \[0, 4\], .* got 5 at index 1"),
    (lambda: nm.nn.ctc(Z, LABELS, target_lengths=np.array([3, 1])), DomainError,
     r"`target_lengths` must be in \[0, 2\], .* got 3 at index 0"),
    (lambda: nm.nn.ctc(Z, LABELS, input_lengths=np.array([-1, 2])), DomainError, "got -1 at index 0"),
    (lambda: nm.nn.ctc(Z, LABELS, input_lengths=np.array([4])), ShapeError, r"of shape \(2,\), one for each"),
    (lambda: nm.nn.ctc(Z, LABELS, input_lengths=np.array([4.0, 4.0])), DtypeError, "an array of integers"),
    (lambda: nm.nn.ctc(Z, LABELS.astype(float)), DtypeError, "`labels` must be an array of integers"),
    (lambda: nm.nn.ctc(Z, LABELS[0]), ShapeError, r"of shape \(2, l\), a row for each sequence"),
    (lambda: nm.nn.ctc(Z[0, 0], LABELS[0]), ShapeError, r"`logits` must be of shape \(\.\.\., t, k\)"),
    (lambda: nm.nn.ctc(Z.astype(int), LABELS), DtypeError, "`logits` must be a float32 or float64 array"),
    (lambda: nm.nn.ctc(Z, LABELS, blank=3), DomainError, r"`blank` must be a class, in \[0, 3\), got 3"),
    (lambda: nm.nn.ctc(Z, LABELS, blank=-1), DomainError, "`blank`"),
    (lambda: nm.nn.ctc(Z, LABELS, reduction="median"), DomainError, "`reduction` must be one of"),
    (lambda: nm.nn.ctc(Z[:0], LABELS[:0], reduction="mean"), DomainError, "mean over no examples"),
    (lambda: nm.nn.ctc.fisher(Z), DomainError, "over all label sequences"),
    (lambda: nm.nn.distillation(Q, Q, temperature=0.0), DomainError, "`temperature` must be positive and finite"),
    (lambda: nm.nn.distillation(Q, Q, temperature=-1.0), DomainError, "`temperature` must be positive"),
    (lambda: nm.nn.distillation(Q, Q[:2]), ShapeError, r"must be of shape \(3, 2\)"),
    (lambda: nm.nn.distillation(Q, Q.astype(np.float32)), DtypeError, "float64 as"),
    (lambda: nm.nn.distillation(Q[:, :0], Q[:, :0]), ShapeError, "a column for each class"),
    (lambda: nm.nn.distillation(Q[:0], Q[:0], reduction="mean"), DomainError, "mean over no examples"),
    (lambda: nm.nn.info_nce(Q[0], Q[0]), ShapeError, r"of shape \(n, d\) with d >= 1, a row for each pair"),
    (lambda: nm.nn.info_nce(Q[:, :0], Q[:, :0]), ShapeError, "with d >= 1"),
    (lambda: nm.nn.info_nce(Q, Q[:, :1]), ShapeError, r"must be of shape \(3, 2\)"),
    (lambda: nm.nn.info_nce(Q, Q, temperature=np.nan), DomainError, "`temperature` must be positive"),
    (lambda: nm.nn.info_nce(Q, Q, temperature=np.array(0.0)), DomainError, "positive and finite, got 0"),
    (lambda: nm.nn.info_nce(Q, Q, temperature=np.ones(3)), ShapeError, r"`temperature` must be of shape \(\)"),
    (lambda: nm.nn.info_nce(Q, Q, temperature=np.array(1, "f4")), DtypeError, "float64 as `queries` is"),
    (lambda: nm.nn.info_nce(Q[:0], Q[:0], reduction="mean"), DomainError, "mean over no examples"),
    (lambda: nm.nn.info_nce.mutual_information(Q[:0], Q[:0]), DomainError, "mean over no pairs"),
    (lambda: nm.nn.info_nce.replace(symetric=True), DomainError, "`options` must be one of"),
]  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=range(len(BAD)))
def test_bad_input_is_one_clear_error(case):
    call, error, words = case
    with pytest.raises(error, match=words):
        call()
