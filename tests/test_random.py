"""nnmath_core.random: known answers, the same bits everywhere, laws, independence, derivatives, errors.

Statistical tests have fixed seeds, so they are deterministic: each would fail for one seed in ten
thousand if the law is right (`LEVEL`), and none of the sixty or so does for these.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.special
import scipy.stats
from registry_checks import assert_close

import nnmath_core as nm
from nnmath_core._ext import _cpu, _random
from nnmath_core.device import backend_for, counters
from nnmath_core.device.backend import Backend
from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.random import order

R = nm.random
KEY = R.key(20110711)
DTYPES = [np.float32, np.float64]
LEVEL = 1e-4


def words(text):
    return np.array([int(w, 16) for w in text.split()], np.uint32)


# ------------------------------------------------------------------------------- known answers
# Random123, kat_vectors: philox4x32 with 10 rounds. Counter, key, words.
KNOWN = [
    ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


@pytest.mark.parametrize(("counter", "key", "want"), KNOWN)
def test_philox_gives_the_known_answers_of_random123(counter, key, want):
    got = counters.philox(np, words(counter), words(key))
    np.testing.assert_array_equal(got, words(want))


def test_the_kernel_gives_the_known_answer():
    np.testing.assert_array_equal(R.bits(R.key(0), 4), words(KNOWN[0][2]))
    # the counter has the block first and the purpose last
    w = np.zeros((1, 8), np.uint32)
    _random.random_words(w, words("a4093822 299f31d0")[None], 0x03707344)
    want = counters.philox(np, words("1 0 0 03707344"), words("a4093822 299f31d0"))
    np.testing.assert_array_equal(w[0, 4:], want)


def test_numbers_are_made_of_these_words():
    w = R.bits(KEY, 8)
    wide = [int(a) + (int(b) << 32) for a, b in w.reshape(4, 2)]
    np.testing.assert_array_equal(R.bits(KEY, 4, np.uint64), np.array(wide, np.uint64))
    np.testing.assert_array_equal(R.bits(KEY, 8, np.uint8), (w % 256).astype(np.uint8))
    np.testing.assert_array_equal(R.uniform(KEY, 4), [(n >> 11) / 2**53 for n in wide])
    np.testing.assert_array_equal(R.uniform(KEY, 8, np.float32), (w >> 8) / np.float32(2**24))
    assert R.uniform(KEY, 8, np.float32).dtype == np.float32
    np.testing.assert_array_equal(R.randint(KEY, 4, -5, 12), [n % 17 - 5 for n in wide])
    np.testing.assert_array_equal(R.bernoulli(KEY, 0.5, 4), R.uniform(KEY, 4) < 0.5)


# ------------------------------------------------------------------------------- kernels and their meaning
SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 31, 63, 64, 65, 127, 128, 129, 4096, 100003]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("rows", [(), (3,), (2, 0), (2, 2)])
def test_kernels_are_what_the_backend_says(n, rows):
    be = backend_for("cpu")
    keys = np.random.default_rng(n).integers(0, 2**32, (*rows, 2), dtype=np.uint32)
    for dtype in DTYPES:
        got = be.random_uniform(keys, count=n, dtype=dtype)
        want = Backend.random_uniform(be, keys, count=n, dtype=dtype)
        assert got.dtype == want.dtype == dtype
        np.testing.assert_array_equal(got, want)
        got = be.random_normal(keys, count=n, dtype=dtype)
        want = Backend.random_normal(be, keys, count=n, dtype=dtype)
        assert got.dtype == want.dtype == dtype
        assert got.shape == want.shape == (*rows, n)
        np.testing.assert_array_less(
            np.abs(got.astype(float) - want), 4.5 * np.spacing(np.abs(want)) + 1e-300
        )
    counter = np.random.default_rng(n + 1).integers(0, 2**32, (*rows, 4), dtype=np.uint32)
    got, want = (
        f(counter, keys) for f in (be.random_blocks, lambda *x: Backend.random_blocks(be, *x))
    )
    assert got.dtype == want.dtype == np.uint32
    np.testing.assert_array_equal(got, want)
    for purpose in (0, 1, 2**32 - 1):
        got = be.random_words(keys, count=n, purpose=purpose)
        want = Backend.random_words(be, keys, count=n, purpose=purpose)
        assert got.dtype == want.dtype == np.uint32
        np.testing.assert_array_equal(got, want)


def test_normal_numbers_are_within_4_ulp():
    be = backend_for("cpu")
    keys = np.array([[1, 2], [3, 4]], np.uint32)
    for dtype in DTYPES:
        got = be.random_normal(keys, count=300_001, dtype=dtype)
        want = Backend.random_normal(be, keys, count=300_001, dtype=dtype)
        error = np.abs(got.astype(np.longdouble) - want) / np.spacing(np.abs(want))
        assert 0 < error.max() <= 4


def test_extreme_words_make_finite_numbers():
    # the words themselves cannot be chosen, so the meaning is asked what it makes of them
    for dtype, top in ((np.float32, 6.77), (np.float64, 8.58)):
        z = R.normal(KEY, 1_000_000, dtype)
        assert np.isfinite(z).all()
        assert np.abs(z).max() < top
    smallest = {np.float32: np.sqrt(2 * 33 * np.log(2)), np.float64: np.sqrt(2 * 53 * np.log(2))}
    assert smallest[np.float32] < 6.77
    assert smallest[np.float64] < 8.58


HASH = """
import hashlib
import numpy as np
from nnmath_core._ext import _random
h = hashlib.sha256()
keys = np.arange(6, dtype=np.uint32).reshape(3, 2)
w = np.empty((3, 1001), np.uint32)
_random.random_words(w, keys, 0)
h.update(w.tobytes())
for dtype in (np.float32, np.float64):
    for f in (_random.random_uniform, _random.random_normal):
        x = np.empty((3, 1001), dtype)
        f(x, keys)
        h.update(x.tobytes())
print(_random.isa(), h.hexdigest())
"""


def test_bits_are_the_same_on_every_instruction_set():
    found = {}
    for isa in ("baseline", "v3", "v4"):
        if _cpu.runs_here(isa):
            out = subprocess.run(
                [sys.executable, "-c", HASH],
                env={**os.environ, "NNMATH_ISA": isa},
                capture_output=True,
                text=True,
                check=True,
            )
            name, found[isa] = out.stdout.split()
            assert name == isa
    assert len(set(found.values())) == 1
    # and these bits are a promise: a change of them is a change for users
    assert found["baseline"][:16] == GOLDEN


GOLDEN = "df6ba7fc93727ac6"


# ------------------------------------------------------------------------------- every function
FUNCTIONS = {
    "split": lambda k: R.split(k, 3),
    "fold_in": lambda k: R.fold_in(k, 7),
    "bits": lambda k: R.bits(k, (2, 3)),
    "bits, 16": lambda k: R.bits(k, 3, np.uint16),
    "uniform": lambda k: R.uniform(k, 3),
    "uniform, bounds": lambda k: R.uniform(k, minval=np.arange(3.0), maxval=5.0),
    "normal": lambda k: R.normal(k, (2, 2)),
    "normal, one": lambda k: R.normal(k),
    "normal, float32": lambda k: R.normal(k, 3, np.float32, loc=1.0, scale=np.float64(2.0)),
    "truncated_normal": lambda k: R.truncated_normal(k, -1.0, 2.0, 3),
    "exponential": lambda k: R.exponential(k, 3, scale=2.0),
    "gumbel": lambda k: R.gumbel(k, 3),
    "laplace": lambda k: R.laplace(k, 3),
    "logistic": lambda k: R.logistic(k, 3),
    "cauchy": lambda k: R.cauchy(k, 3),
    "lognormal": lambda k: R.lognormal(k, 0.5, 3),
    "pareto": lambda k: R.pareto(k, 2.0, 3),
    "rayleigh": lambda k: R.rayleigh(k, np.ones(3)),
    "weibull_min": lambda k: R.weibull_min(k, 2.0, 1.5, 3),
    "geometric": lambda k: R.geometric(k, np.full(8, 0.2)),
    "gamma": lambda k: R.gamma(k, np.array([0.5, 2.0]), scale=3.0),
    "beta": lambda k: R.beta(k, 2.0, 3.0, 3),
    "chisquare": lambda k: R.chisquare(k, 3.0, 3),
    "t": lambda k: R.t(k, 3.0, 3),
    "dirichlet": lambda k: R.dirichlet(k, np.arange(1.0, 4.0), 2),
    "randint": lambda k: R.randint(k, 3, 0, np.array([2, 5, 100])),
    "bernoulli": lambda k: R.bernoulli(k, np.array([0.1, 0.5, 0.9]), (4, 3)),
    "rademacher": lambda k: R.rademacher(k, 4, np.float32),
    "categorical": lambda k: R.categorical(k, np.zeros((4, 2)), axis=0, shape=(3, 2)),
    "permutation": lambda k: R.permutation(k, 5),
    "permutation, axis": lambda k: R.permutation(k, np.arange(6.0).reshape(2, 3), axis=1),
    "permutation, independent": lambda k: R.permutation(
        k, np.arange(6.0).reshape(3, 2), independent=True
    ),
    "choice": lambda k: R.choice(k, 5, (2, 3)),
    "choice, p": lambda k: R.choice(k, np.arange(4.0), 3, p=[1, 0, 2, 3]),
    "choice, no replacement": lambda k: R.choice(k, 5, 3, replace=False),
    "choice, p, no replacement": lambda k: R.choice(
        k, np.ones((2, 4)) * np.arange(4), (3, 1), replace=False, p=np.arange(4.0), axis=1
    ),
    "multivariate_normal": lambda k: R.multivariate_normal(k, np.ones(2), np.eye(2) * 4, 3),
    "orthogonal": lambda k: R.orthogonal(k, 3, 2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_the_same_under_vmap_and_staged(name):
    f = FUNCTIONS[name]
    keys = R.split(KEY, 4)
    rows = [f(k) for k in keys]
    assert not np.array_equal(rows[0], rows[1]), "keys do not matter"
    assert np.array_equal(rows[0], f(keys[0])), "there is a state"
    together, nested = nm.vmap(f)(keys), nm.vmap(nm.vmap(f))(keys.reshape(2, 2, 2))
    program = nm.stage(f, keys[0])
    for k, want in enumerate(rows):
        for got in (together[k], nested.reshape(together.shape)[k], program(keys[k])):
            assert got.dtype == np.asarray(want).dtype
            if (
                np.asarray(want).dtype.kind == "f"
            ):  # LAPACK and NumPy treat stacks and rows differently
                assert_close(got, want, 64 * np.finfo(want.dtype).eps * np.abs(want).max(), name)
            else:
                assert np.array_equal(got, want)
    np.testing.assert_array_equal(
        together, np.stack(rows) if "u" in together.dtype.kind else together
    )


def test_every_function_is_here():
    assert {name.partition(",")[0] for name in FUNCTIONS} == set(R.__all__) - {"key"}


@pytest.mark.parametrize("dtype", [*DTYPES, np.uint32, np.uint64])
def test_numbers_depend_on_key_and_position_alone(dtype):
    draw = R.normal if np.dtype(dtype).kind == "f" else R.bits
    long = draw(KEY, 1000, dtype)
    for shape in (999, 7, 1, 0, (3, 5), (2, 0), (2, 3, 4)):
        got = draw(KEY, shape, dtype)
        assert got.shape == (shape if isinstance(shape, tuple) else (shape,))
        np.testing.assert_array_equal(got.ravel(), long[: got.size])
    assert draw(KEY, (), dtype) == draw(KEY, (), dtype) == long[0]
    np.testing.assert_array_equal(R.split(KEY, 2), R.split(KEY, 5)[:2])
    np.testing.assert_array_equal(R.split(KEY, (2, 3)).reshape(6, 2), R.split(KEY, 6))


def test_fold_in_takes_any_integer_traced_ones_too():
    keys = [R.fold_in(KEY, i) for i in (0, 1, 2**32, 2**64 - 1, -1, np.int8(-1), np.uint64(1))]
    assert np.array_equal(keys[3], keys[4])
    assert np.array_equal(keys[4], keys[5])
    assert np.array_equal(keys[1], keys[6])
    assert len({k.tobytes() for k in keys}) == 4
    program = nm.stage(lambda k, i: R.fold_in(k, i), KEY, np.int64(0))
    for i in (1, 2**40, -1):
        np.testing.assert_array_equal(program(KEY, np.int64(i)), R.fold_in(KEY, i))
    many = nm.vmap(lambda i: R.fold_in(KEY, i))(np.arange(3))
    np.testing.assert_array_equal(many[1], keys[1])


def test_keys_inside_a_differentiated_training_step():
    x = np.random.default_rng(0).standard_normal((5, 3))

    def loss(w, key):
        noisy, mask = R.split(key)
        h = np.tanh(x @ w + 0.1 * R.normal(noisy, (5, 2)))
        return np.sum(np.where(R.bernoulli(mask, 0.5, (5, 2)), h, 0.0) ** 2)

    w = np.ones((3, 2))
    nm.check_grads(lambda w: loss(w, KEY), (w,))
    g = nm.stage(nm.grad(loss), w, KEY)
    for k in R.split(KEY, 3):
        np.testing.assert_array_equal(g(w, k), nm.grad(loss)(w, k))
    per_key = nm.vmap(nm.grad(loss), in_axes=(None, 0))(w, R.split(KEY, 3))
    assert_close(per_key[2], nm.grad(loss)(w, R.split(KEY, 3)[2]), 1e-13, "vmap over keys")


# ------------------------------------------------------------------------------- laws
N = 20_000
CONTINUOUS = {
    "uniform": (lambda k, n, d: R.uniform(k, n, d, -1.0, 3.0), scipy.stats.uniform(-1, 4)),
    "normal": (lambda k, n, d: R.normal(k, n, d, loc=1.0, scale=2.0), scipy.stats.norm(1, 2)),
    "truncated": (
        lambda k, n, d: R.truncated_normal(k, -0.5, 2.0, n, d),
        scipy.stats.truncnorm(-0.5, 2.0),
    ),
    "truncated, far out": (
        lambda k, n, d: R.truncated_normal(k, 5.0, np.inf, n, d),
        scipy.stats.truncnorm(5.0, np.inf),
    ),
    "truncated, to the left": (
        lambda k, n, d: R.truncated_normal(k, -np.inf, -3.0, n, d),
        scipy.stats.truncnorm(-np.inf, -3.0),
    ),
    "exponential": (lambda k, n, d: R.exponential(k, n, d, scale=3.0), scipy.stats.expon(0, 3)),
    "gumbel": (lambda k, n, d: R.gumbel(k, n, d, loc=1.0, scale=2.0), scipy.stats.gumbel_r(1, 2)),
    "laplace": (lambda k, n, d: R.laplace(k, n, d, loc=1.0, scale=2.0), scipy.stats.laplace(1, 2)),
    "logistic": (lambda k, n, d: R.logistic(k, n, d, scale=0.5), scipy.stats.logistic(0, 0.5)),
    "cauchy": (lambda k, n, d: R.cauchy(k, n, d, loc=-1.0), scipy.stats.cauchy(-1)),
    "lognormal": (lambda k, n, d: R.lognormal(k, 0.5, n, d), scipy.stats.lognorm(0.5)),
    "pareto": (lambda k, n, d: R.pareto(k, 2.5, n, d), scipy.stats.pareto(2.5)),
    "rayleigh": (lambda k, n, d: R.rayleigh(k, 2.0, n, d), scipy.stats.rayleigh(0, 2)),
    "weibull_min": (
        lambda k, n, d: R.weibull_min(k, 2.0, 1.5, n, d),
        scipy.stats.weibull_min(1.5, scale=2),
    ),
    "gamma": (lambda k, n, d: R.gamma(k, 0.7, n, d, scale=2.0), scipy.stats.gamma(0.7, scale=2)),
    "gamma, large": (lambda k, n, d: R.gamma(k, 30.0, n, d), scipy.stats.gamma(30)),
    "chisquare": (lambda k, n, d: R.chisquare(k, 5.0, n, d), scipy.stats.chi2(5)),
    "beta": (lambda k, n, d: R.beta(k, 0.8, 3.0, n, d), scipy.stats.beta(0.8, 3)),
    "t": (lambda k, n, d: R.t(k, 3.0, n, d), scipy.stats.t(3)),
    "dirichlet": (
        lambda k, n, d: R.dirichlet(k, np.array([1.0, 2.0, 0.5]), n, d)[:, 1],
        scipy.stats.beta(2.0, 1.5),
    ),
    "multivariate_normal": (
        lambda k, n, d: (
            R.multivariate_normal(k, np.zeros(2), np.array([[2.0, 1.0], [1.0, 3.0]]), n, d)
            @ np.array([1.0, 1.0], d)
        ),
        scipy.stats.norm(0, 7**0.5),
    ),
    "orthogonal": (
        lambda k, n, d: R.orthogonal(k, 3, n, d)[:, 0, 0],
        scipy.stats.uniform(-1, 2),  # a coordinate of a point of the sphere (Archimedes)
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_law_is_right(name, dtype):
    draw, law = CONTINUOUS[name]
    x = draw(R.fold_in(KEY, sum(map(ord, name))), N, dtype)
    assert x.dtype == dtype
    assert x.shape == (N,)
    assert scipy.stats.kstest(x.astype(float), law.cdf).pvalue > LEVEL
    # a law that is off by 3 percent would be seen
    assert scipy.stats.kstest(x.astype(float) * 1.2 + 0.05, law.cdf).pvalue < LEVEL


def chi_square(counts, expected):
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    statistic = np.sum((counts - expected) ** 2 / expected)
    return scipy.stats.chi2(len(counts) - 1).sf(statistic)


PAIRS = [(i, j) for i in range(4) for j in range(4) if i != j]
WEIGHTS = np.array([0.1, 0.2, 0.3, 0.4])
DISCRETE = {
    "randint": (lambda k: R.randint(k, N, -3, 4) + 3, np.full(7, 1 / 7)),
    "bernoulli": (lambda k: R.bernoulli(k, 0.3, N).astype(int), [0.7, 0.3]),
    "geometric": (
        lambda k: np.minimum(R.geometric(k, 0.4, N), 6),
        {**{i: 0.4 * 0.6 ** (i - 1) for i in range(1, 6)}, 6: 0.6**5},
    ),
    "rademacher": (lambda k: (R.rademacher(k, N) + 1) // 2, [0.5, 0.5]),
    "categorical": (lambda k: R.categorical(k, np.log(WEIGHTS) + 7, shape=(N,)), WEIGHTS),
    "choice": (lambda k: R.choice(k, 4, N, p=WEIGHTS * 3), WEIGHTS),
    "choice, alike": (lambda k: R.choice(k, 5, N), np.full(5, 0.2)),
    "bits": (lambda k: R.bits(k, N, np.uint8) // 16, np.full(16, 1 / 16)),
    "high bits": (
        lambda k: (R.bits(k, N, np.uint64) >> np.uint64(60)).astype(int),
        np.full(16, 1 / 16),
    ),
    "permutation": (
        lambda k: nm.vmap(lambda k: R.permutation(k, 4))(R.split(k, N)) @ [1, 4, 16, 64],
        None,
    ),
    "choice without replacement": (
        lambda k: (
            nm.vmap(lambda k: R.choice(k, 4, 2, replace=False, p=WEIGHTS))(R.split(k, N)) @ [4, 1]
        ),
        {4 * i + j: WEIGHTS[i] * WEIGHTS[j] / (1 - WEIGHTS[i]) for i, j in PAIRS},
    ),
}


@pytest.mark.parametrize("name", DISCRETE)
def test_the_discrete_law_is_right(name):
    draw, law = DISCRETE[name]
    x = draw(R.fold_in(KEY, sum(map(ord, name))))
    values, counts = np.unique(x, return_counts=True)
    if law is None:
        assert len(values) == 24
        law = dict.fromkeys(values.tolist(), 1 / 24)
    law = law if isinstance(law, dict) else dict(enumerate(law))
    assert set(values.tolist()) == set(law)
    assert chi_square(counts, [N * law[v] for v in values.tolist()]) > LEVEL


def test_what_has_no_weight_is_not_chosen_even_where_u_is_0(monkeypatch):
    monkeypatch.setattr(order, "uniforms", lambda key, shape, dtype: np.zeros(shape, dtype))
    np.testing.assert_array_equal(R.choice(KEY, 4, 3, p=[0, 0, 1, 2]), [2, 2, 2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_moments_tails_and_independence_of_normal_numbers(dtype):
    n = 2_000_000
    z = R.normal(R.key(5), n, dtype).astype(float)
    bound = scipy.stats.norm.isf(LEVEL / 2) / n**0.5
    # means of z^k and their standard deviations for a normal law
    for k, mean, std in ((1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)):
        assert abs(np.mean(z**k) - mean) < bound * std
    for lag in (1, 2, 3, 4, 128):
        assert abs(np.mean(z[lag:] * z[:-lag])) < 1.01 * bound
        square = z**2 - 1
        assert abs(np.mean(square[lag:] * square[:-lag])) < 1.01 * bound * 2
    for edge in (3.0, 4.0, 4.5):  # tails, where a short u would be seen
        p = 2 * scipy.stats.norm.sf(edge)
        count = int(np.sum(np.abs(z) > edge))
        low, high = scipy.stats.poisson(n * p).interval(1 - LEVEL)
        assert low <= count <= high
    radius, angle = z[0::2] ** 2 + z[1::2] ** 2, np.arctan2(z[1::2], z[0::2])
    assert scipy.stats.kstest(radius[:N], scipy.stats.expon(0, 2).cdf).pvalue > LEVEL
    assert scipy.stats.kstest(angle[:N], scipy.stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > LEVEL


def test_small_normal_numbers_keep_their_precision():
    z = np.abs(R.normal(R.key(5), 4_000_000, np.float32))
    small = z[z < 1e-4]
    assert small.size > 200
    assert len(np.unique(small)) > 0.99 * small.size  # no lattice
    assert (z == 0).sum() <= 1


def test_streams_of_keys_and_purposes_do_not_meet():
    # of a million blocks of 128 bits none is equal by chance
    children = R.split(KEY, 50)
    folded = np.stack([R.fold_in(KEY, i) for i in range(50)])
    near = np.stack([R.key(i) for i in range(50)])
    keys = np.concatenate([children, folded, near, KEY[None]])
    assert len(np.unique(keys, axis=0)) == len(keys)
    blocks = [
        backend_for("cpu").random_words(keys, count=4000, purpose=p).reshape(-1, 4)
        for p in (0, 1, 2)
    ]
    blocks = np.concatenate(blocks)
    assert len(np.unique(blocks, axis=0)) == len(blocks)


def test_neighbouring_keys_are_independent():
    n, m = 64, 4096
    by = {
        "seeds": np.stack([R.key(i) for i in range(n)]),
        "split": R.split(KEY, n),
        "fold_in": np.stack([R.fold_in(KEY, i) for i in range(n)]),
        "bit": np.stack([R.key(1 << i) for i in range(n)]),
    }
    for name, keys in by.items():
        z = nm.vmap(lambda k: R.normal(k, m))(keys)
        r = (z @ z.T / m)[np.triu_indices(n, 1)]
        # the largest of n(n-1)/2 correlations, each normal with standard deviation m**-0.5
        assert np.abs(r).max() < scipy.stats.norm.isf(LEVEL / 2 / r.size) * m**-0.5, name
        bits = np.unpackbits(nm.vmap(lambda k: R.bits(k, 8))(keys).view(np.uint8), axis=1)
        half = np.mean(bits[:-1] != bits[1:])
        assert abs(half - 0.5) < scipy.stats.norm.isf(LEVEL / 2) * 0.5 / bits[1:].size ** 0.5, name


def test_uniform_numbers_fill_the_interval_and_never_reach_1():
    for dtype, bits in ((np.float32, 24), (np.float64, 53)):
        u = R.uniform(R.key(8), 1_000_000, dtype)
        assert 0 <= u.min() < 1e-5
        assert 1 - 1e-5 < u.max() < 1
        whole = u.astype(float) * 2.0**bits
        assert np.array_equal(whole, np.floor(whole)), "multiples of one step"
        low = whole.astype(np.int64) & 255
        assert chi_square(np.bincount(low, minlength=256), np.full(256, len(u) / 256)) > LEVEL


# ------------------------------------------------------------------------------- derivatives
PARAMETERS = {
    "uniform": (lambda k, a, b: R.uniform(k, 5, minval=a, maxval=b), (0.5, 2.0)),
    "normal": (lambda k, m, s: R.normal(k, 5, loc=m, scale=s), (0.5, 2.0)),
    "normal, arrays": (
        lambda k, m, s: R.normal(k, loc=m, scale=s),
        (np.ones(3), np.full((2, 1), 2.0)),
    ),
    "truncated_normal": (lambda k, a, b: R.truncated_normal(k, a, b, 5), (-0.5, 2.0)),
    "truncated_normal, right": (lambda k, a, b: R.truncated_normal(k, a, b, 5), (1.5, 2.5)),
    "exponential": (lambda k, s: R.exponential(k, 5, scale=s), (2.0,)),
    "gumbel": (lambda k, m, s: R.gumbel(k, 5, loc=m, scale=s), (0.5, 2.0)),
    "laplace": (lambda k, m, s: R.laplace(k, 5, loc=m, scale=s), (0.5, 2.0)),
    "logistic": (lambda k, m, s: R.logistic(k, 5, loc=m, scale=s), (0.5, 2.0)),
    "cauchy": (lambda k, m, s: R.cauchy(k, 5, loc=m, scale=s), (0.5, 2.0)),
    "lognormal": (lambda k, s: R.lognormal(k, s, 5), (0.5,)),
    "pareto": (lambda k, b: R.pareto(k, b, 5), (2.5,)),
    "rayleigh": (lambda k, s: R.rayleigh(k, s, 5), (2.0,)),
    "weibull_min": (lambda k, s, c: R.weibull_min(k, s, c, 5), (2.0, 1.5)),
    "gamma": (lambda k, a, s: R.gamma(k, a, 5, scale=s), (2.5, 2.0)),
    "chisquare": (lambda k, a: R.chisquare(k, a, 5), (3.0,)),
    "beta": (lambda k, a, b: R.beta(k, a, b, 2), (2.5, 2.0)),
    "t": (lambda k, a: R.t(k, a, 5), (4.0,)),
    "dirichlet": (lambda k, a: R.dirichlet(k, a, 2), (np.array([0.7, 2.0, 3.0]),)),
    "multivariate_normal": (
        lambda k, m, c: R.multivariate_normal(k, m, c @ c.T + np.eye(2), 3),
        (np.ones(2), np.array([[1.0, 0.5], [0.0, 2.0]])),
    ),
    "permutation": (lambda k, x: R.permutation(k, x) * np.arange(4.0), (np.arange(1.0, 5.0),)),
    "choice": (lambda k, x: R.choice(k, x, 5, p=[1, 2, 3, 4]), (np.arange(1.0, 5.0),)),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_differentiable(name):
    draw, point = PARAMETERS[name]

    def loss(*params):
        return np.sum(np.sin(draw(KEY, *params)))

    order = 1 if name == "beta" else 2  # its second derivatives are integrals, seconds of work
    nm.check_grads(loss, point, order=order)
    argnums = tuple(range(len(point)))
    single = tuple(np.asarray(p, np.float32) for p in point)
    for g in nm.grad(loss, argnums=argnums)(*single):
        assert g.dtype == np.float32
    for a, b in zip(
        nm.stage(nm.grad(loss, argnums=argnums), *point)(*point),
        nm.grad(loss, argnums=argnums)(*point),
        strict=True,
    ):
        assert_close(a, b, 1e-12 * (1 + np.abs(b)), "staged")
    if order == 2:
        assert all(np.isfinite(h).all() for h in nm.tree_leaves(nm.jacfwd(nm.grad(loss))(*point)))


def test_the_derivatives_of_gamma_numbers_have_the_mean_of_the_law():
    # d/da of E x = a and of E log x = digamma(a), of N numbers each
    for a in (0.6, 3.0):
        x, t = nm.jvp(lambda a: R.gamma(KEY, a, N), (a,), (1.0,))
        assert abs(t.mean() - 1.0) < 4 * t.std() / N**0.5
        u = t / x
        assert abs(u.mean() - scipy.special.polygamma(1, a)) < 4 * u.std() / N**0.5


def test_draws_without_derivative_pass_none():
    assert nm.grad(lambda p: np.sum(np.where(R.bernoulli(KEY, p, 5), 1.0, 2.0)) + p)(0.5) == 1.0
    g = nm.grad(lambda x: np.sum(R.categorical(KEY, x, shape=(5,)) * 1.0) + np.sum(x))(np.ones(3))
    np.testing.assert_array_equal(g, np.ones(3))


# ------------------------------------------------------------------------------- shapes, dtypes, errors
def test_shape_and_dtype_follow_the_parameters():
    assert R.normal(KEY).shape == ()
    assert type(R.normal(KEY)) is np.float64
    assert R.normal(KEY, loc=np.zeros((3, 1)), scale=np.ones(2)).shape == (3, 2)
    assert R.normal(KEY, loc=np.float32(1)).dtype == np.float32
    assert R.normal(KEY, loc=np.float32(1), scale=np.ones(2)).dtype == np.float64
    assert R.normal(KEY, 2, np.float32, scale=np.ones(2)).dtype == np.float32
    assert R.uniform(KEY, minval=0, maxval=2).dtype == np.float64
    assert R.gamma(KEY, [1.0, 2.0]).shape == (2,)
    assert R.randint(KEY, None, [0, 5], 9, np.int8).dtype == np.int8
    assert R.categorical(KEY, np.zeros((2, 3), np.float32)).shape == (2,)
    assert R.choice(KEY, np.zeros((4, 3, 2)), (5, 6), axis=1).shape == (4, 5, 6, 2)
    assert R.multivariate_normal(KEY, np.zeros((4, 2)), np.eye(2)).shape == (4, 2)
    assert R.dirichlet(KEY, np.ones((4, 2))).shape == (4, 2)
    span = R.randint(KEY, 1000, -(2**63), 2**63 - 1)
    assert span.min() < -(2**62)
    assert span.max() > 2**62


ERRORS = [
    (lambda: R.key(1.0), DtypeError),
    (lambda: R.key(True), DtypeError),
    (lambda: R.key(2**64), DomainError),
    (lambda: R.key(-(2**63) - 1), DomainError),
    (lambda: R.normal(7), DtypeError),
    (lambda: R.normal(np.array([1, 2])), DtypeError),
    (lambda: R.normal(R.split(KEY)), ShapeError),
    (lambda: R.normal(KEY, -1), ShapeError),
    (lambda: R.normal(KEY, 2.0), TypeError),
    (lambda: R.normal(KEY, (3,), loc=np.zeros(2)), ShapeError),
    (lambda: R.normal(KEY, 3, np.float16), DtypeError),
    (lambda: R.normal(KEY, 3, int), DtypeError),
    (lambda: R.bits(KEY, 3, np.int32), DomainError),
    (lambda: R.fold_in(KEY, 1.0), DtypeError),
    (lambda: R.fold_in(KEY, np.arange(2)), DtypeError),
    (lambda: R.randint(KEY, 3, 0, 1.5), DtypeError),
    (lambda: R.randint(KEY, 3, 0, 5, float), DtypeError),
    (lambda: R.randint(KEY, 3, 5, 5), DomainError),
    (lambda: R.categorical(KEY, 1.0), ShapeError),
    (lambda: R.categorical(KEY, np.zeros((2, 3)), shape=(3,)), ShapeError),
    (lambda: R.choice(KEY, 3, 4, replace=False), DomainError),
    (lambda: R.choice(KEY, 0, 4), DomainError),
    (lambda: R.choice(KEY, 3, 4, p=[0.5, 0.5]), ShapeError),
    (lambda: R.permutation(KEY, np.zeros(3), axis=1), IndexError),
    (lambda: R.dirichlet(KEY, 1.0), ShapeError),
    (lambda: R.multivariate_normal(KEY, np.zeros(2), np.eye(3)), ShapeError),
    (lambda: R.multivariate_normal(KEY, np.zeros((4, 2)), np.eye(2), 3), ShapeError),
    (lambda: R.multivariate_normal(KEY, np.zeros(2), -np.eye(2)), np.linalg.LinAlgError),
    (lambda: R.orthogonal(KEY, 0), DomainError),
    (lambda: _random.random_normal(np.zeros((2, 3)), np.zeros((3, 2), np.uint32)), ShapeError),
]


@pytest.mark.parametrize(("call", "error"), ERRORS)
def test_bad_arguments_are_one_clear_error(call, error):
    with pytest.raises(error):
        call()


def test_errors_say_what_to_do():
    with pytest.raises(ShapeError, match=r"^normal: `key` must be of shape \(2,\).*nm.vmap"):
        R.normal(R.split(KEY))
    with pytest.raises(DtypeError, match=r"^normal: `key` must be made by nm.random.key"):
        R.normal(0)
