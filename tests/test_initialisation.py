"""Initialisers: variances, distributions, Haar's measure, isometries, layers, peers, complaints."""

import functools
import json
import math

import numpy as np
import pytest
import scipy.stats
from reference import initialisation_peers as reference

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError

EPS = np.finfo(float).eps
PEERS = json.loads(reference.STORED.read_text())
NAMED = {
    "glorot_uniform": lambda i, o: 2 / (i + o),
    "glorot_normal": lambda i, o: 2 / (i + o),
    "he_uniform": lambda i, o: 2 / i,
    "he_normal": lambda i, o: 2 / i,
    "lecun_uniform": lambda i, o: 1 / i,
    "lecun_normal": lambda i, o: 1 / i,
    "torch_default": lambda i, o: 1 / (3 * i),
}
ALL = [*NAMED, "orthogonal", "normal", "truncated_normal", "uniform", "constant", "zeros"]
RARE = 1e-6  # of a distribution test that fails by chance; seeds are fixed


def draws(f, shape, **options):
    return f(shape, rng=3, **options)


def mean_square_is(w, variance, kurtosis):
    """Within five standard errors."""
    error = variance * math.sqrt((kurtosis - 1) / w.size)
    assert abs(np.mean(w * w) - variance) <= 5 * error
    assert abs(np.mean(w)) <= 5 * math.sqrt(variance / w.size)


# ------------------------------------------------------------------------------ variances and distributions
@pytest.mark.parametrize("shape", [(300, 200), (3, 3, 40, 25), (5, 60, 50)])
@pytest.mark.parametrize("name", NAMED)
def test_variance_and_distribution(name, shape):
    field = math.prod(shape[:-2])
    variance = NAMED[name](field * shape[-2], field * shape[-1])
    w = draws(getattr(nm.nn, name), shape)
    if name.endswith("normal"):
        mean_square_is(w, variance, 3)
        law = scipy.stats.norm(scale=math.sqrt(variance))
    else:
        mean_square_is(w, variance, 9 / 5)
        bound = math.sqrt(3 * variance)
        law = scipy.stats.uniform(-bound, 2 * bound)
    assert scipy.stats.kstest(w.ravel(), law.cdf).pvalue > RARE


TRUNCATED = scipy.stats.truncnorm(-2, 2)


@pytest.mark.parametrize("name", ["glorot_normal", "he_normal", "lecun_normal"])
def test_truncated_weights_keep_the_variance(name):
    shape = (300, 200)
    variance = NAMED[name](*shape)
    w = draws(getattr(nm.nn, name), shape, truncated=True)
    kurtosis = float(TRUNCATED.expect(lambda z: z**4)) / TRUNCATED.var() ** 2
    mean_square_is(w, variance, kurtosis)
    scale = math.sqrt(variance) / 0.8796256610342398
    assert 1.99 * scale < np.abs(w).max() <= 2 * scale
    assert scipy.stats.kstest(w.ravel() / scale, TRUNCATED.cdf).pvalue > RARE
    # the other two laws are told apart
    assert scipy.stats.kstest(w.ravel() / math.sqrt(variance), "norm").pvalue < RARE
    assert scipy.stats.kstest(w.ravel() / math.sqrt(variance), TRUNCATED.cdf).pvalue < RARE


def test_the_correction_is_the_deviation_of_the_cut_distribution():
    assert abs(TRUNCATED.std() - 0.8796256610342398) < 4 * EPS
    w = draws(nm.nn.truncated_normal, (400, 300), std=0.5, mean=1.0)
    assert abs(np.std(w) - 0.5) < 5 * 0.5 * math.sqrt(0.4 / w.size)
    w = draws(nm.nn.truncated_normal, (400, 300), std=0.5, corrected=False)
    assert abs(np.std(w) - 0.5 * 0.8796256610342398) < 5 * 0.5 * math.sqrt(0.4 / w.size)


@pytest.mark.parametrize("bound", [1e-3, 0.05, 0.0999, 0.1001, 0.5, 1.0, 3.0, 9.0])
def test_any_bound_has_its_correction(bound):
    law = scipy.stats.truncnorm(-bound, bound)
    w = draws(nm.nn.truncated_normal, (200, 200), bound=bound, corrected=False)
    assert np.abs(w).max() <= bound
    assert scipy.stats.kstest(w.ravel(), law.cdf).pvalue > RARE
    got = draws(nm.nn.truncated_normal, (200, 200), bound=bound) / w
    with np.errstate(invalid="ignore"):
        want = 1 / math.sqrt(law.expect(lambda z: z * z))
    # the series of narrow bounds is cut behind bound^2: bound^4 / 50; quadrature gives 1e-8
    np.testing.assert_allclose(got, want, rtol=max(1e-7, bound**4 / 50 if bound < 0.1 else 0))


def test_plain_fillers():
    w = draws(nm.nn.normal, (300, 200), mean=2.0, std=0.1)
    assert scipy.stats.kstest(w.ravel(), scipy.stats.norm(2.0, 0.1).cdf).pvalue > RARE
    w = draws(nm.nn.uniform, (300, 200), low=-1.0, high=3.0)
    assert scipy.stats.kstest(w.ravel(), scipy.stats.uniform(-1, 4).cdf).pvalue > RARE
    assert np.array_equal(nm.nn.constant((2, 3), value=0.5), np.full((2, 3), 0.5))
    assert np.array_equal(nm.nn.zeros(()), np.zeros(()))
    assert nm.nn.normal((0, 4)).shape == (0, 4)


@pytest.mark.parametrize("distribution", ["normal", "uniform", "truncated_normal"])
@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
def test_variance_scaling(mode, distribution):
    shape = (3, 2, 30, 70)
    fans = {"fan_in": 180, "fan_out": 420, "fan_avg": 300, "fan_geo_avg": math.sqrt(180 * 420)}
    init = nm.nn.variance_scaling(1.7, mode=mode, distribution=distribution)
    assert abs(init.variance(shape) - 1.7 / fans[mode]) < 4 * EPS
    mean_square_is(draws(init, shape), 1.7 / fans[mode], 3)


def test_axes_of_variance_scaling():
    stack = nm.nn.variance_scaling(1.0, batch_axis=0)
    assert stack.variance((10, 20, 30)) == 1 / 20  # ten layers of 20 inputs
    assert nm.nn.variance_scaling(1.0).variance((10, 20, 30)) == 1 / 200  # a window of 10
    heads = nm.nn.variance_scaling(1.0, in_axis=0, out_axis=(1, 2))
    assert heads.variance((12, 3, 5)) == 1 / 12
    assert (
        nm.nn.variance_scaling(1.0, mode="fan_out", in_axis=0, out_axis=(1, 2)).variance((12, 3, 5))
        == 1 / 15
    )


def test_named_ones_are_variance_scaling():
    shape = (3, 3, 4, 5)
    for name, scale, mode in [
        ("glorot", 1.0, "fan_avg"),
        ("he", 2.0, "fan_in"),
        ("lecun", 1.0, "fan_in"),
    ]:
        for kind in ("normal", "uniform"):
            root = nm.nn.variance_scaling(scale, mode=mode, distribution=kind)
            named = getattr(nm.nn, f"{name}_{kind}")
            np.testing.assert_array_equal(named(shape, rng=1), root(shape, rng=1))
        cut = nm.nn.variance_scaling(scale, mode=mode, distribution="truncated_normal")
        named = getattr(nm.nn, f"{name}_normal")
        np.testing.assert_array_equal(named(shape, rng=1, truncated=True), cut(shape, rng=1))
    np.testing.assert_array_equal(
        nm.nn.he_normal(shape, rng=1, mode="fan_out"),
        nm.nn.variance_scaling(2.0, mode="fan_out")(shape, rng=1),
    )


def test_a_gain_is_a_factor():
    w = nm.nn.lecun_normal((6, 4), rng=0)
    np.testing.assert_allclose(nm.nn.lecun_normal((6, 4), gain=3.0, rng=0), 3 * w, rtol=4 * EPS)
    g = nm.nn.gain(np.tanh)
    np.testing.assert_allclose(nm.nn.lecun_normal((6, 4), gain=g, rng=0), g.value * w, rtol=4 * EPS)
    q = nm.nn.orthogonal((6, 4), rng=0)
    np.testing.assert_array_equal(nm.nn.orthogonal((6, 4), gain=2.0, rng=0), 2 * q)
    assert not nm.nn.he_uniform((6, 4), gain=0.0, rng=0).any()


def test_the_default_of_pytorch():
    w = nm.nn.torch_default((256, 500), rng=0)
    assert 0.06249 < np.abs(w).max() <= 0.0625
    b = nm.nn.torch_default((100000,), fan_in=256, rng=0)
    assert 0.06249 < np.abs(b).max() <= 0.0625


# ------------------------------------------------------------------------------ peers
def factor(kind, f, shape):
    """What the deviates are multiplied by: ours by the quotient of two draws, as the peers' are found."""
    rng = np.random.default_rng(4)
    plain = {
        "uniform": lambda: rng.uniform(-1, 1, shape),
        "normal": lambda: rng.standard_normal(shape),
        "truncated": lambda: nm.nn.truncated_normal(shape, corrected=False, rng=rng),
    }[kind]()
    return np.median(f(shape, rng=4) / plain)


NAMED_AT_PEERS = {
    "glorot_normal, gain 5/3": functools.partial(nm.nn.glorot_normal, gain=5 / 3),
    "he_normal, fan_out": functools.partial(nm.nn.he_normal, mode="fan_out"),
    "he_uniform, leaky 0.2": functools.partial(nm.nn.he_uniform, gain=math.sqrt(2 / 1.04)),
    "glorot_normal, truncated": functools.partial(nm.nn.glorot_normal, truncated=True),
    "he_normal, truncated": functools.partial(nm.nn.he_normal, truncated=True),
    "lecun_normal, truncated": functools.partial(nm.nn.lecun_normal, truncated=True),
    "variance_scaling, batch 0": nm.nn.variance_scaling(2.0, batch_axis=0),
    "variance_scaling, axes": nm.nn.variance_scaling(2.0, mode="fan_out", in_axis=-1, out_axis=-2),
}


@pytest.mark.parametrize("peer", ["torch", "jax"])
def test_factors_are_those_of_the_peers(peer):
    assert len(PEERS[peer]["factors"]) >= 40
    for case, want in PEERS[peer]["factors"].items():
        name, shape = case.split("; ")
        shape = tuple(json.loads(shape.replace("(", "[").replace(")", "]")))
        kind = (
            "truncated"
            if "truncated" in name
            else "uniform"
            if "uniform" in name or name == "torch_default"
            else "normal"
        )
        f = NAMED_AT_PEERS.get(name)
        if f is None and name.startswith("variance_scaling"):
            _, scale, mode, distribution = name.split(", ")
            f = nm.nn.variance_scaling(float(scale), mode=mode, distribution=distribution)
        f = f or getattr(nm.nn, name)
        # a peer's factor is rounded a few times, and found by a quotient
        assert abs(factor(kind, f, shape) / want - 1) < 16 * EPS, case


def test_conventional_gains_beside_those_that_keep_the_variance():
    conventional = PEERS["torch"]["gains"]
    assert abs(nm.nn.gain(nm.nn.relu).value - conventional["relu"]) < 4 * EPS
    for a in (0.01, 0.2):
        f = functools.partial(nm.nn.leaky_relu, negative_slope=a)
        assert abs(nm.nn.gain(f).value - conventional[f"leaky_relu {a}"]) < 8 * EPS
    assert conventional["tanh"] == 5 / 3
    assert abs(nm.nn.gain(np.tanh).value - 1.5925374197228312) < 8 * EPS
    assert (conventional["selu"], conventional["sigmoid"]) == (0.75, 1)
    assert abs(nm.nn.gain(nm.nn.selu).value - 1) < 8 * EPS
    assert PEERS["torch"]["largest"]["Linear(256, .) weight"] <= 0.0625


# ------------------------------------------------------------------------------ Haar
def matrices(n, count, init=nm.nn.orthogonal):
    rng = np.random.default_rng(8)
    return np.array([init((n, n), rng=rng) for _ in range(count)])


def raw(shape, *, rng, dtype=None):
    """What the factor Q is without the signs."""
    return np.linalg.qr(rng.standard_normal(shape))[0]


def wrong_signs(shape, *, rng, dtype=None):
    """The signs of Q's diagonal in place of R's."""
    q, _ = np.linalg.qr(rng.standard_normal(shape))
    return q * np.sign(np.diagonal(q))


def haar_moments(w):
    """Each in standard errors: trace, its square and fourth power, second and fourth moments of entries."""
    n = w.shape[1]
    trace = np.trace(w, axis1=1, axis2=2)
    corner = w[:, 0, 0]
    found = [trace, trace**2 - 1, trace**4 - 3, corner**2 - 1 / n, corner**4 - 3 / (n * (n + 2))]
    found += [
        w[:, 0, 0] * w[:, 1, 1],
        w[:, 0, 0] ** 2 * w[:, 1, 1] ** 2 - (n + 1) / (n * (n - 1) * (n + 2)),
    ]
    return np.array([np.mean(v) / (np.std(v) / math.sqrt(len(v))) for v in found])


def test_moments_are_those_of_haars_measure():
    assert np.abs(haar_moments(matrices(6, 4000))).max() < 5
    for wrong in (raw, wrong_signs):
        assert np.abs(haar_moments(matrices(6, 4000, wrong))).max() > 10


def test_a_rotation_of_the_plane_has_a_uniform_angle():
    def pvalue(w):
        rotations = w[np.linalg.det(w) > 0]
        angle = np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0])
        return scipy.stats.kstest(angle, scipy.stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue

    w = matrices(2, 4000)
    assert abs(np.mean(np.linalg.det(w) > 0) - 0.5) < 5 * 0.5 / math.sqrt(len(w))
    assert pvalue(w) > RARE
    raws = matrices(2, 4000, raw)
    assert not (np.linalg.det(raws) > 0).any() or pvalue(raws) < RARE


def test_eigenvalue_angles_repel_from_one():
    """Up to its sign a matrix of three rows is a rotation, whose angle has density (1 - cos t) / pi."""

    def pvalue(w):
        w = w * np.linalg.det(w)[:, None, None]
        angle = np.arccos(np.clip((np.trace(w, axis1=1, axis2=2) - 1) / 2, -1, 1))
        return scipy.stats.kstest(angle, lambda t: (t - np.sin(t)) / math.pi).pvalue

    assert pvalue(matrices(3, 4000)) > RARE
    assert pvalue(matrices(3, 4000, raw)) < RARE


@pytest.mark.parametrize(
    "shape", [(7, 3), (3, 7), (5, 5), (1, 4), (4, 1), (3, 3, 4, 8), (2, 2, 2, 20), (5, 3, 6)]
)
def test_orthonormal_columns_or_rows(shape):
    w = nm.nn.orthogonal(shape, rng=1).reshape(-1, shape[-1])
    rows, columns = w.shape
    gram = w.T @ w if rows >= columns else w @ w.T
    np.testing.assert_allclose(gram, np.eye(min(rows, columns)), atol=8 * EPS * max(rows, columns))


@pytest.mark.parametrize("shape", [(6, 2), (2, 6)])
def test_frames_are_uniform(shape):
    """The square of an entry of a uniform unit vector of n numbers is Beta(1/2, (n - 1) / 2)."""
    rng = np.random.default_rng(5)
    entries = np.array([nm.nn.orthogonal(shape, rng=rng)[-1, -1] for _ in range(3000)])
    assert scipy.stats.kstest(entries**2, scipy.stats.beta(0.5, 2.5).cdf).pvalue > RARE
    assert abs(np.mean(entries > 0) - 0.5) < 5 * 0.5 / math.sqrt(3000)


# ------------------------------------------------------------------------------ isometries
@pytest.mark.parametrize(
    ("window", "ins", "outs", "groups"),
    [
        *[
            ((3,), 4, 4, 1),
            ((4,), 3, 5, 1),
            ((3, 3), 4, 6, 1),
            ((2, 5), 4, 4, 1),
            ((1, 1), 2, 3, 1),
        ],
        *[((3, 3, 3), 2, 2, 1), ((3, 3), 4, 8, 2), ((3,), 3, 6, 3)],
    ],
)
def test_delta_orthogonal_convolutions_are_isometries(window, ins, outs, groups):
    rng = np.random.default_rng(2)
    w = nm.nn.delta_orthogonal((*window, ins // groups, outs), groups=groups, gain=1.5, rng=rng)
    x = rng.normal(size=(3, *(7,) * len(window), ins))
    y = nm.nn.conv(x, w, padding="same", groups=groups)
    lengths = [np.sqrt(np.sum(a**2, axis=tuple(range(1, a.ndim)))) for a in (x, y)]
    np.testing.assert_allclose(lengths[1], 1.5 * lengths[0], rtol=16 * EPS * ins)
    assert np.count_nonzero(np.abs(w).sum(axis=(-2, -1))) == 1
    blocks = np.split(w.sum(axis=tuple(range(len(window)))), groups, axis=1)
    assert len({block.tobytes() for block in blocks}) == groups  # each has its own numbers


def test_an_orthogonal_kernel_is_no_isometry():
    """Unlike the centre alone: its convolution has singular values on both sides of 1."""
    ordinary = nm.nn.orthogonal((3, 3, 4, 4), rng=0)
    centre = nm.nn.delta_orthogonal((3, 3, 4, 4), rng=0)
    norms = [nm.nn.conv_operator_norm(w, (8, 8)) for w in (ordinary, centre)]
    assert norms[0].lower > 1.5
    assert abs(norms[1].upper - 1) < 1e-12


# ------------------------------------------------------------------------------ layers and dtypes
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [*ALL, "variance_scaling", "delta_orthogonal"])
def test_layers_take_every_initialiser(name, dtype):
    init = getattr(nm.nn, name)
    init = init(2.0, distribution="truncated_normal") if name == "variance_scaling" else init
    options = {"init": init, "rng": 0, "dtype": dtype}
    if name != "delta_orthogonal":
        made = [
            (nm.nn.Dense.init((3, 4), **options), (5, 3)),
            (nm.nn.MLP.init((3, 4, 2), **options), (5, 3)),
            (nm.nn.LSTM.init((3, 4), **options), (2, 5, 3)),
            (nm.nn.GRU.init((3, 4), recurrent_init=init, **options), (2, 5, 3)),
            (nm.nn.ConvTranspose2d.init((4, 2), 3, **options), (1, 5, 5, 4)),
            (nm.nn.TransformerBlock.init(8, 2, **options), (1, 3, 8)),
        ]
        for layer, shape in made:
            assert {leaf.dtype for leaf in nm.tree_leaves(layer)} == {np.dtype(dtype)}
            assert all(y.dtype == dtype for y in nm.tree_leaves(layer(np.ones(shape, dtype))))
    assert nm.nn.Conv1d.init((2, 4), 3, **options).weight.shape == (3, 2, 4)
    layer = nm.nn.Conv2d.init((4, 8), (3, 2), groups=2, **options)
    assert layer(np.ones((1, 5, 5, 4), dtype)).dtype == dtype


@pytest.mark.parametrize("name", ALL)
def test_both_dtypes_have_the_same_numbers(name):
    f = getattr(nm.nn, name)
    w = f((5, 4), rng=7)
    assert w.dtype == np.float64
    assert np.array_equal(f((5, 4), rng=7), w)
    single = f([5, 4], rng=np.random.default_rng(7), dtype="float32")
    assert np.array_equal(single, w.astype(np.float32))
    assert single.flags.writeable
    assert w.flags.c_contiguous or w.flags.f_contiguous


# ------------------------------------------------------------------------------ complaints
N = nm.nn
BAD = [
    (
        lambda: N.lecun_normal((3,)),
        ShapeError,
        r"^lecun_normal: `shape` must be a tuple \(\.\.\., in, out\), got \(3,",
    ),
    (lambda: N.orthogonal(5), ShapeError, r"^orthogonal: `shape` must be a tuple"),
    (
        lambda: N.orthogonal((3, 0)),
        DomainError,
        r"^orthogonal: `shape\[1\]` must be a positive integer, got 0",
    ),
    (
        lambda: N.orthogonal((3, 3), gain=-1.0),
        DomainError,
        "^orthogonal: `gain` must be a finite number >= 0",
    ),
    (
        lambda: N.he_normal((3, 3), gain="relu"),
        DtypeError,
        "^he_normal: `gain` must be a finite number",
    ),
    (lambda: N.he_normal((3, 3), gain=math.nan), DomainError, "^he_normal: `gain` .*got nan"),
    (
        lambda: N.he_normal((3, 3), mode="fan_avg"),
        DomainError,
        "^he_normal: `mode` must be one of 'fan_in', 'fan_out'",
    ),
    (
        lambda: N.he_normal((3, 3), truncated="yes"),
        DomainError,
        "^he_normal: `truncated` must be one of True, False",
    ),
    (
        lambda: N.variance_scaling(0.0),
        DomainError,
        "^variance_scaling: `scale` must be a positive finite number",
    ),
    (
        lambda: N.variance_scaling(mode="in"),
        DomainError,
        "^variance_scaling: `mode` must be one of",
    ),
    (
        lambda: N.variance_scaling(distribution="gauss"),
        DomainError,
        "^variance_scaling: `distribution` must be",
    ),
    (
        lambda: N.variance_scaling(in_axis=1.0),
        DtypeError,
        "^variance_scaling: `in_axis` must be an integer",
    ),
    (lambda: N.variance_scaling(in_axis=-1)((2, 3)), DomainError, "must be distinct axes"),
    (lambda: N.variance_scaling(batch_axis=4)((2, 3)), DomainError, "must be distinct axes"),
    (lambda: N.delta_orthogonal((3, 4)), ShapeError, r"^delta_orthogonal: `shape` .*`orthogonal`"),
    (lambda: N.delta_orthogonal((3, 4, 2)), ShapeError, "as many outputs as inputs or more, got"),
    (lambda: N.delta_orthogonal((3, 4, 6), groups=2), ShapeError, "or more in each group"),
    (
        lambda: N.delta_orthogonal((3, 1, 4), groups=3),
        ShapeError,
        "`groups` must be a divisor of the 4 outputs",
    ),
    (
        lambda: N.delta_orthogonal((3, 1, 4), groups=0),
        DomainError,
        "`groups` must be a positive integer",
    ),
    (lambda: N.torch_default((5,)), ShapeError, "^torch_default: `shape` must be a tuple"),
    (
        lambda: N.torch_default((5,), fan_in=0),
        DomainError,
        "^torch_default: `fan_in` must be a positive",
    ),
    (lambda: N.normal((3,), std=-1.0), DomainError, "^normal: `std` must be a finite number >= 0"),
    (lambda: N.normal(3), ShapeError, "^normal: `shape` must be a tuple of lengths, got 3"),
    (lambda: N.normal((3, -1)), DomainError, r"^normal: `shape\[1\]` must be an integer >= 0"),
    (
        lambda: N.uniform((3,), low=1.0, high=0.0),
        DomainError,
        "^uniform: `high` must be a finite number >= low = 1",
    ),
    (
        lambda: N.truncated_normal((3,), bound=0.0),
        DomainError,
        "^truncated_normal: `bound` must be a positive",
    ),
    (
        lambda: N.constant((3,), value=math.inf),
        DomainError,
        "^constant: `value` must be a finite number",
    ),
    (lambda: N.constant((3,), rng=-1), DomainError, "^constant: `rng` must be"),
    (lambda: N.zeros((3,), dtype=int), DtypeError, "^zeros: `dtype` must be float32 or float64"),
]


@pytest.mark.parametrize(("call", "error", "says"), BAD)
def test_bad_input_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()
