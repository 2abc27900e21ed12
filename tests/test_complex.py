"""Complex values inside functions from real to real: every primitive, both modes, second order.

The convention is JAX's: a cotangent c of z stands for the differential Re(c dz), so a holomorphic
function multiplies by its derivative in both modes. What cannot be right is refused.
"""

import functools
import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import registry_checks as checks
import scipy.special
from registry_checks import (
    Case,
    assert_close,
    assert_same_kind,
    parts,
    pullback,
    registry_cases,
    smooth,
)
from test_random_programs import load_reference

import nnmath_core as nm
from nnmath_core.autodiff.primitive import REGISTRY

reference = load_reference("complex_jax")
ANSWERS = json.loads(reference.STORED.read_text())["answers"]
EPS = float(np.finfo(np.float64).eps)


def is_real_ufunc(name):
    """Whether NumPy, or else SciPy, has a ufunc of this name, and no complex loop in it."""
    found = [getattr(module, name, None) for module in (np, scipy.special)]
    ufuncs = [f for f in found if isinstance(f, np.ufunc)]
    return bool(ufuncs) and not any(set(t.partition("->")[0]) & set("FDG") for t in ufuncs[0].types)


REAL_ONLY = set(filter(is_real_ufunc, REGISTRY)) | set(
    "betainc_dab gammainc_da gelu_tanh gelu_tanh_slope inverse_root polygamma rfft symmetric_slope zeta".split()
)
"""Primitives whose host function takes no complex numbers: it says so, on tracers as on arrays."""

ORDERS = {"digamma": 0, "ive": 0, "gamma": 1, "loggamma": 1, "rgamma": 1}
"""How many derivatives there are where they end: that of digamma is known of real numbers only, ive is not
holomorphic."""

GAUGED = {"eigh", "svd"}
"""Primitives with complex outputs whose phase is free: `test_linalg_spectral.py` has their tests."""


# ------------------------------------------------------------------------------- every primitive
@dataclass(frozen=True)
class ComplexCase(Case):
    """A primitive whose operands at ``made`` are z = (1 + a i) u + b i, with u the float operands.

    The real part is u, so that the order of entries, and what is far from a tie or a kink, stays.
    """

    made: tuple[int, ...] = ()

    @property
    def f(self):
        """Real and imaginary part of each output, as functions of u."""
        rng = self.rng
        size = 0.1 if self.matrices else 0.4  # positive definite stays positive definite
        shifts = {i: size * rng.standard_normal(np.shape(self.operands[i])) for i in self.made}
        shifts = {i: s.astype(self.dtype)[()] for i, s in shifts.items()}
        params = dict(self.params)
        if "dtype" in params:
            params["dtype"] = np.result_type(params["dtype"], np.complex64)

        def f(*us):
            operands = list(self.operands)
            for i, u in zip(self.floats, us, strict=True):
                operands[i] = u * (1 + 1j * size) + 1j * shifts[i] if i in self.made else u
            y = self.primitive(*operands, **params)
            ys = y if self.primitive.several else (y,)
            on = self.primitive.differentiable_outputs or (True,) * len(ys)
            return tuple(part for v, m in zip(ys, on, strict=True) if m for part in parts(v))

        return f


def complex_cases(dtype):
    found = []
    for param in registry_cases((dtype,), smooth):
        (case,) = param.values
        if case.primitive.name in GAUGED:
            continue
        n = len(case.floats)
        for made in {case.floats, *((i,) for i in case.floats)}:
            name = param.id if n == 1 else f"{param.id}-{'all' if made == case.floats else made[0]}"
            new = ComplexCase(
                case.primitive, case.operands, case.params, case.dtype, case.name, made
            )
            found.append(pytest.param(new, id=name))
    return found


def orders(param):
    """How many derivatives there are of complex operands; -1: not even the value."""
    name = param.values[0].primitive.name
    return -1 if name in REAL_ONLY else ORDERS.get(name, 2)


COMPLEX64 = [p for p in complex_cases(np.float32) if orders(p) > 0]
COMPLEX128 = [p for p in complex_cases(np.float64) if orders(p) > 0]
TWICE = [p for p in COMPLEX128 if orders(p) > 1]
REFUSED = [p for p in complex_cases(np.float64) if orders(p) < 0]
REFUSED_DERIVATIVE = [p for p in complex_cases(np.float64) if orders(p) in (0, 1)]


@pytest.mark.parametrize("case", COMPLEX128)
def test_jvp_agrees_with_central_differences(case):
    checks.check_jvp_differences(case)


@pytest.mark.parametrize("case", COMPLEX128)
def test_vjp_is_the_adjoint_of_jvp(case):
    checks.check_adjoint(case)


@pytest.mark.parametrize("case", TWICE)
def test_second_derivatives_agree_in_every_order(case):
    checks.check_second_order(case)


@pytest.mark.parametrize("case", COMPLEX64)
def test_single_precision_is_kept(case):
    xs = case.point
    ts, gs = case.randoms(xs, case.rng), case.randoms(case.value, case.rng)
    ys, tangents = nm.jvp(case.f, xs, ts)
    for y, t in zip(ys, tangents, strict=True):
        assert y.dtype == np.float32
        assert_same_kind(t, y, "tangent")
    for x, ct in zip(xs, pullback(case)(gs, *xs), strict=True):
        assert_same_kind(ct, x, "cotangent")
    checks.check_adjoint(case)


@pytest.mark.parametrize("case", COMPLEX128)
def test_vmap_and_staging_give_the_same(case):
    gs = case.randoms(case.value, case.rng)

    def pull(*xs):
        return pullback(case)(gs, *xs)

    args = [checks.batch_of(case, x, 3) for x in case.point]
    checks.check_loop(case, pull, args, (0,) * len(args), "vmap of a pullback")
    # NumPy's complex scalars and arrays differ by rounding, and staging tells them apart
    for a, b in zip(nm.stage(pull, *case.point)(*case.point), pull(*case.point), strict=True):
        assert_close(a, b, case.bound(b), "staged pullback")


@pytest.mark.parametrize("case", REFUSED)
def test_a_real_function_refuses_complex_numbers(case):
    with pytest.raises(TypeError):
        nm.vjp(case.f, *case.point)


@pytest.mark.parametrize("case", REFUSED_DERIVATIVE)
def test_a_derivative_that_is_not_known_is_refused(case):
    f = case.f
    for _ in range(ORDERS[case.primitive.name]):
        f = functools.partial(lambda g, *xs: nm.jvp(g, xs, case.point)[1], f)
    f(*case.point)
    who = "ive" if case.primitive.name == "ive" else "polygamma"
    with pytest.raises(nm.DtypeError, match=who):
        nm.jvp(f, case.point, case.point)
    value, back = nm.vjp(f, *case.point)
    with pytest.raises(nm.DtypeError, match=who):
        back(value)


def test_the_refused_are_primitives():
    assert set(REGISTRY) >= REAL_ONLY >= {"arctan2", "betainc", "erfinv", "expit", "nextafter"}


# ------------------------------------------------------------------------------- against JAX
WRONG_IN_JAX = {"sign", "arccosh"}
"""JAX 0.10 says that the sign of a complex number is constant, and takes the wrong branch of the root
in the derivative of arccosh left of the imaginary axis; differences decide."""


@pytest.mark.parametrize("name", reference.FUNCTIONS)
@pytest.mark.parametrize("namespace", [np, nm.numpy], ids=["numpy", "nnmath_core.numpy"])
def test_derivatives_are_those_of_jax(name, namespace):
    # Thirty steps with condition numbers below a hundred: the bound of the random programs.
    bound = 1e-10
    want = SimpleNamespace(**ANSWERS[name])
    t, v = reference.POINT, reference.TANGENT

    def f(t):
        return reference.FUNCTIONS[name](namespace, t)

    if name in WRONG_IN_JAX:
        report = nm.gradient_report(f, (t,))
        assert report.ok, report
        assert np.abs(nm.grad(f)(t) - want.grad).max() > 1e-3
        return
    value, grad = nm.value_and_grad(f)(t)
    assert_close(value, want.value, bound * checks.scale_of(want.value), "value")
    assert_close(f(t), want.value, bound * checks.scale_of(want.value), "value of plain arrays")
    assert_close(grad, want.grad, bound * checks.scale_of(want.grad), "gradient")
    assert_close(nm.jvp(f, (t,), (v,))[1], want.jvp, bound * checks.scale_of(want.jvp), "jvp")
    scale = checks.scale_of(want.hessian)
    for how, hessian in {
        "forward over reverse": nm.hessian(f),
        "reverse over reverse": nm.jacrev(nm.grad(f)),
        "reverse over forward": nm.jacrev(nm.jacfwd(f)),
    }.items():
        assert_close(hessian(t), want.hessian, bound * scale, how)


# ------------------------------------------------------------------------------- NumPy's meaning
Z = np.array([1 + 2j, 3 - 1j, -0.25 - 0.5j])
M = np.arange(6.0).reshape(3, 2) * (1 - 0.5j) + 1j
PRODUCTS = {
    "conj": lambda np, z, m: np.conj(z),
    "conjugate": lambda np, z, m: np.conjugate(z),
    "angle": lambda np, z, m: np.angle(z),
    "angle in degrees": lambda np, z, m: np.angle(z, deg=True),
    "angle of reals": lambda np, z, m: np.angle(z.real),
    "abs": lambda np, z, m: np.abs(z),
    "sign": lambda np, z, m: np.sign(z),
    "vdot": lambda np, z, m: np.vdot(z, 2 * z + 1),
    "vdot of matrices": lambda np, z, m: np.vdot(m, m + 1j),
    "vecdot": lambda np, z, m: np.vecdot(z, m.T),
    "vecdot along an axis": lambda np, z, m: np.vecdot(m, m + 1j, axis=0),
    "linalg.vecdot": lambda np, z, m: np.linalg.vecdot(m, m + 1j, axis=0),
    "matvec": lambda np, z, m: np.matvec(m.T, z),
    "vecmat": lambda np, z, m: np.vecmat(z, m),
    "inner": lambda np, z, m: np.inner(z, z),
    "norm": lambda np, z, m: np.linalg.norm(z),
    "norm 1": lambda np, z, m: np.linalg.norm(z, 1),
    "norm 0": lambda np, z, m: np.linalg.norm(z, 0),
    "norm inf": lambda np, z, m: np.linalg.norm(z, np.inf),
    "norm -inf": lambda np, z, m: np.linalg.norm(z, -np.inf),
    "norm 3": lambda np, z, m: np.linalg.norm(z, 3),
    "norm of a matrix": lambda np, z, m: np.linalg.norm(m),
    "norm of a matrix, 1": lambda np, z, m: np.linalg.norm(m, 1),
    "norm of a matrix, inf": lambda np, z, m: np.linalg.norm(m, np.inf),
    "norm of a matrix, -inf": lambda np, z, m: np.linalg.norm(m, -np.inf, axis=(1, 0)),
    "norm of a matrix, kept": lambda np, z, m: np.linalg.norm(m, 1, keepdims=True),
    "norm of columns": lambda np, z, m: np.linalg.norm(m, axis=0, keepdims=True),
    "vector_norm": lambda np, z, m: np.linalg.vector_norm(m),
    "matrix_norm": lambda np, z, m: np.linalg.matrix_norm(m),
    "slogdet": lambda np, z, m: np.linalg.slogdet(m.T @ m),
    "cholesky": lambda np, z, m: np.linalg.cholesky(np.conj(m.T) @ m + 9j * np.eye(2) + np.eye(2)),
    "cholesky, upper": lambda np, z, m: np.linalg.cholesky(
        np.conj(m.T) @ m + np.eye(2), upper=True
    ),
    "einsum": lambda np, z, m: np.einsum("i,ij->j", z, m),
    "einsum with a number": lambda np, z, m: np.einsum("i,->i", z, 2.0),
    "einsum of numbers": lambda np, z, m: np.einsum(",->", 3.0, 2j),
    "tensordot with a number": lambda np, z, m: np.tensordot(2.0, z, 0),
    "outer with a number": lambda np, z, m: np.outer(2.0, z),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_values_and_dtypes_are_those_of_numpy(name):
    f = PRODUCTS[name]
    if name in ("matvec", "vecmat") and not hasattr(np, name):
        pytest.skip("NumPy 2.2 brought it")
    for dtype in (np.complex64, np.complex128):
        z, m = Z.astype(dtype), M.astype(dtype)
        want = f(np, z, m)
        ours = f(nm.numpy, z, m)
        # inside a function the operands are traced: 0 * x makes them so
        kept = []

        def traced(x):
            kept.append(f(np, z + 0 * x, m + 0 * x))  # noqa: B023
            return x

        nm.grad(traced)(z.real.dtype.type(1))
        inside = [nm.tree_map(nm.value_of, v) for v in kept]
        for got in (ours, *inside):
            for a, b in zip(as_tuple(got), as_tuple(want), strict=True):
                assert np.dtype(a.dtype) == b.dtype
                assert np.shape(a) == np.shape(b)
                np.testing.assert_allclose(a, b, rtol=16 * np.finfo(dtype).eps, atol=0)


def as_tuple(y):
    return tuple(y) if isinstance(y, tuple) else (y,)


def test_conj_of_a_real_array_is_numpys():
    x = np.array([1.0, 2.0])

    def f(x):
        y = x * 1.0
        assert y.conj() is y  # as in NumPy
        assert y.conjugate() is y
        z = np.conj(y)  # a ufunc: a new array
        z += 1.0
        return np.sum(y * y + z)

    value, grad = nm.value_and_grad(f)(x)
    assert value == 5.0 + 5.0
    np.testing.assert_array_equal(grad, 2 * x + 1)


def test_the_conjugate_is_conjugated():
    x = np.array([0.5, -1.5])
    z, pull = nm.vjp(lambda x: (x + 1j * x).conj(), x)
    np.testing.assert_array_equal(z, x - 1j * x)
    # the differential of the sum of Re((a + bi) z) is a - (-b) for each entry
    np.testing.assert_array_equal(pull(np.full(2, 2.0 + 3.0j))[0], [5.0, 5.0])
    np.testing.assert_array_equal(nm.jvp(lambda x: np.conj(x * 1j), (x,), (x,))[1], -1j * x)


@pytest.mark.parametrize(
    "f",
    [
        lambda z: np.sum(np.abs(z)),
        lambda z: np.linalg.norm(z),
        lambda z: np.sum(np.real(np.sign(z))),
        lambda z: np.sum(np.angle(z)),
    ],
    ids=["abs", "norm", "sign", "angle"],
)
def test_derivatives_at_zero_are_zero(f):
    def g(x):
        return f(x * (1 + 2j))

    zero = np.zeros(3)
    np.testing.assert_array_equal(nm.grad(g)(zero), zero)
    np.testing.assert_array_equal(nm.jacfwd(g)(zero), zero)
    np.testing.assert_array_equal(nm.hessian(g)(zero), np.zeros((3, 3)))


def test_the_sign_of_a_real_determinant_is_plain():
    def f(a):
        sign, logabsdet = np.linalg.slogdet(a)
        assert type(sign) is np.float64
        return sign * logabsdet

    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(nm.grad(f)(a), -np.linalg.inv(a).T, rtol=64 * EPS)


def test_a_negative_base_has_a_complex_logarithm():
    for base in (-2.0, np.float64(-2.0), np.array(-2.0)):

        def f(t):
            return np.real(np.power(base, t * (0.5 + 1j)))  # noqa: B023

        report = nm.gradient_report(f, (0.7,))
        assert report.ok, report


# ------------------------------------------------------------------------------- the user's rules
def test_a_custom_rule_of_complex_values_works_in_both_modes():
    def cube(z):
        return z * z * z

    with_vjp = nm.custom_rule(cube, vjp=lambda primals, out, g: (3 * primals[0] ** 2 * g,))
    with_jvp = nm.custom_rule(cube, jvp=lambda primals, t: 3 * primals[0] ** 2 * t[0])
    x = np.array([0.5, -1.25, 2.0])
    for rule in (with_vjp, with_jvp):

        def f(x, rule=rule):
            return np.sum(np.imag(rule(x + 0.5j * x * x)))

        def g(x):
            return np.sum(np.imag(cube(x + 0.5j * x * x)))

        bound = checks.ROUNDING * EPS * 100
        assert_close(nm.grad(f)(x), nm.grad(g)(x), bound, "reverse")
        assert_close(nm.jacfwd(f)(x), nm.grad(g)(x), bound, "forward")
        assert_close(nm.hessian(f)(x), nm.hessian(g)(x), bound, "second order")


# ------------------------------------------------------------------------------- norms
def test_norms_neither_overflow_nor_vanish():
    for dtype in (np.float32, np.float64):
        info = np.finfo(dtype)
        for size in (3, 5000):
            x = np.linspace(0.5, 1.0, size).astype(dtype)
            want = np.linalg.norm(x)
            for scale in (info.max / 2**13, info.tiny * 2**24, 1.0):
                for z in (x, x[::-1], x * (0.6 + 0.8j)):
                    z = (z * dtype(scale)).astype(np.result_type(z.dtype, dtype), copy=False)
                    got = nm.numpy.linalg.norm(z)
                    assert np.dtype(got.dtype) == np.empty(0, z.dtype).real.dtype
                    np.testing.assert_allclose(got / scale, want, rtol=64 * info.eps)
                g = nm.grad(np.linalg.norm)(x * dtype(scale))
                np.testing.assert_allclose(g, x / want, rtol=64 * info.eps)
        assert nm.numpy.linalg.norm(np.array([np.inf, 1.0], dtype)) == np.inf
        assert np.isnan(nm.numpy.linalg.norm(np.array([np.nan, 1.0], dtype)))


@pytest.mark.parametrize("size", [7, 1024, 1025, 5000])
def test_a_norm_in_blocks_is_the_norm(size):
    x = np.random.default_rng(size).standard_normal((2, size))
    for y in (x, x.T, x[:, ::2], x[::-1]):
        np.testing.assert_allclose(nm.numpy.linalg.norm(y), np.sqrt(np.sum(y * y)), rtol=16 * EPS)
        kept = nm.numpy.linalg.norm(y, keepdims=True)
        assert kept.shape == (1, 1)
        np.testing.assert_array_equal(kept[0, 0], nm.numpy.linalg.norm(y))


# ------------------------------------------------------------------------------- scalars
EYE = np.eye(3, dtype=np.float32)
X = np.array([0.25, -0.75, 1.5])
TO_NUMBERS = {
    "norm": np.linalg.norm,
    "norm 1": lambda x: np.linalg.norm(x, 1),
    "norm 3": lambda x: np.linalg.norm(x, 3),
    "vector_norm": np.linalg.vector_norm,
    "matrix_norm": lambda x: np.linalg.matrix_norm(np.outer(x, x)),
    "matrix_norm 1": lambda x: np.linalg.norm(np.outer(x, x) + 0.5, 1),
    "logsumexp": nm.special.logsumexp,
    "det": lambda x: np.linalg.det(np.outer(x, x) + EYE),
    "slogdet": lambda x: np.linalg.slogdet(np.outer(x, x) + EYE)[1],
    "vdot": lambda x: np.vdot(x, x),
    "vecdot": lambda x: np.vecdot(x, x),
}
OF_NUMBERS = {
    "arctan2": lambda x: np.arctan2(x, 1.5),
    "arctan2 of a constant": lambda x: np.arctan2(1.5, x),
    "logaddexp": lambda x: np.logaddexp(x, 1.0),
    "hypot": lambda x: np.hypot(1.0, x),
    "power": lambda x: x**x,
    "where": lambda x: np.where(x > 0, x, 0.0),
    "maximum": lambda x: np.maximum(x, 0.125),
    "clip": lambda x: np.clip(x, 0.0, 1.0),
    "relu": nm.nn.relu,
    "angle": lambda x: np.angle(x + 1j * x * x),
    "modulus": lambda x: abs(x + 1j * x * x),
}


@pytest.mark.parametrize("f", TO_NUMBERS.values(), ids=TO_NUMBERS)
def test_a_result_without_axes_is_a_numpy_scalar(f):
    value, _ = nm.value_and_grad(f)(X)
    assert type(value) is np.float64
    assert type(nm.jvp(f, (X,), (X,))[1]) is np.float64
    assert type(nm.value_and_grad(f)(X.astype(np.float32))[0]) is np.float32


@pytest.mark.parametrize("f", OF_NUMBERS.values(), ids=OF_NUMBERS)
@pytest.mark.parametrize(
    "x", [0.5, np.float64(0.5), np.float32(0.5)], ids=lambda x: type(x).__name__
)
def test_the_gradient_at_a_number_is_a_numpy_scalar(f, x):
    kind = type(np.asarray(x)[()])
    assert type(nm.grad(f)(x)) is kind
    assert type(nm.grad(nm.grad(f))(x)) is kind
