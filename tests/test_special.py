"""Special functions: SciPy's values, derivatives against mpmath and against other libraries, dispatch, refusals."""

import inspect
import itertools
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from registry_checks import Case, check_adjoint, check_second_order

import nnmath_core as nm
from nnmath_core._ext._autodiff import dispatch_tables
from nnmath_core.autodiff.ops.special import quadrature
from nnmath_core.autodiff.ops.special.cumulative import SCIPY_IS_EXACT
from nnmath_core.autodiff.ops.special.declare import ABSENT
from nnmath_core.autodiff.primitive import REGISTRY

REFERENCE = Path(__file__).parent / "reference"
EPS = float(np.finfo(float).eps)
EXACT = json.loads((REFERENCE / "special_mpmath.json").read_text())["rows"]
RECENT = tuple(map(int, scipy.__version__.split(".")[:2])) >= (1, 17)
PEERS = json.loads((REFERENCE / "special_peers.json").read_text())["rows"]
INTEGER_FIRST = ("polygamma", "expn", "eval_")


def of_one(name, args, k):
    """Return the function in argument k alone; orders and degrees are integers."""
    f = getattr(nm.special, name)
    args = [int(a) if i == 0 and name.startswith(INTEGER_FIRST) else a for i, a in enumerate(args)]
    return lambda x: f(*args[:k], x, *args[k + 1 :])


# --------------------------------------------------------------------------------- against mpmath
@pytest.mark.parametrize("row", EXACT, ids=lambda r: f"{r[0]}-{'-'.join(map(str, r[1]))}-{r[2]}")
def test_value_and_two_derivatives_are_exact(row):
    """In the tails and beside removable singularities too, in relative error.

    SciPy's own functions are off by up to 200 units in the last place in their tails; a second
    derivative is made of three of them, and of differences of terms as large as the first one.
    """
    name, args, k, value, first, second = row
    f = of_one(name, args, k)
    with np.errstate(all="ignore"):
        got = f(args[k]), nm.grad(f)(args[k]), nm.grad(nm.grad(f))(args[k])
        forward = nm.jvp(lambda x: nm.jvp(f, (x,), (1.0,))[1], (args[k],), (1.0,))
    assert abs(got[0] - value) <= 500 * EPS * abs(value)
    assert abs(got[1] - first) <= 1000 * EPS * abs(first) + 1e-50
    bound = 5e4 * EPS * abs(second) + 4 * EPS * (abs(first) + abs(value))
    assert abs(got[2] - second) <= bound
    assert abs(forward[0] - first) <= 1000 * EPS * abs(first) + 1e-50
    assert abs(forward[1] - second) <= bound


# ---------------------------------------------------------------------------------- against peers
WRONG = {
    ("jax", "spence", 1.6166752192159137): "NaN for z > 1",
    ("torch", "digamma", 0.6486980852803875): "its trigamma is exact to 1e-9",
    ("torch", "psi", 3.5725669014929893): "its trigamma is exact to 1e-10",
}
"""Gradients of peers that are wrong: mpmath has ours."""


@pytest.mark.parametrize("row", PEERS, ids=lambda r: f"{r[0]}-{r[1]}-{r[2][0]:.3g}")
def test_value_and_gradient_are_those_of_a_peer(row):
    peer, name, args, value, gradient = row
    home, _, last = name.rpartition(".")
    f = getattr(getattr(nm.stats, home) if home else nm.special, last)
    assert abs(f(*args) - value) <= 4e3 * EPS * max(abs(value), 0.01)
    for k, want in enumerate(gradient):
        if want is None:
            continue
        got = nm.grad(f, k)(*args)
        if (peer, name, args[0]) in WRONG:
            assert not abs(got - want) <= 1e-12 * abs(got)
        else:
            assert abs(got - want) <= 4e4 * EPS * max(abs(want), 0.1)


def test_peers_gradients_are_counted():
    count = {peer: 0 for peer, *_ in PEERS}
    for peer, *_, gradient in PEERS:
        count[peer] += sum(g is not None for g in gradient)
    assert count == {"jax": 333, "torch": 21, "autograd": 56}


# ---------------------------------------------------------------------------------- SciPy's values
SAME = [
    pytest.param(p, id=p.name)
    for p in REGISTRY.values()
    if isinstance(getattr(scipy.special, p.name, None), np.ufunc)
    and p.name in nm.special.__all__
    and getattr(scipy.special, p.name).nout == 1
]


@pytest.mark.parametrize("p", SAME)
def test_ufunc_of_scipy_has_its_values_and_is_traced(p):
    ours, theirs = getattr(nm.special, p.name), getattr(scipy.special, p.name)
    for s in p.draw_samples():
        ulps = 4 if hasattr(np, p.name) else 0  # NumPy's function of that name
        if p.name == "stdtrit" and not SCIPY_IS_EXACT:
            ulps = 1e6
        np.testing.assert_allclose(p(*s.operands), theirs(*s.operands), rtol=ulps * EPS)
    case = Case.of(p, p.draw_samples()[0], np.float64)
    if p.differentiable and case.floats:
        i = case.floats[-1]
        operands = list(case.operands)

        def at(f):
            return lambda x: np.sum(f(*operands[:i], x, *operands[i + 1 :]))

        np.testing.assert_array_equal(
            nm.grad(at(theirs))(operands[i]), nm.grad(at(ours))(operands[i])
        )


def test_every_ufunc_of_the_namespace_is_dispatched():
    ufuncs, _, _ = dispatch_tables()
    ours = {
        "log1mexp",
        "log1pexp",
        "logsubexp",
        "safe_divide",
        "softplus",
    }  # the last: SciPy's since 1.17
    for name in nm.special.__all__:
        assert name in ours or hasattr(scipy.special, name), name
        f = getattr(scipy.special, name, None)
        assert not isinstance(f, np.ufunc) or f in ufuncs, name


PLAIN = {
    "polygamma": (2, 1.3),
    "zeta": (2.5, 0.7),
    "multigammaln": (2.3, 3),
    "comb": (7.5, 2.5),
    "perm": (7.5, 2.5),
    "factorial": (3.5,),
    "lambertw": (0.7,),
    "spherical_jn": (2, 1.1),
    "spherical_yn": (2, 1.1),
    "spherical_in": (2, 1.1),
    "spherical_kn": (2, 1.1),
    "radian": (1.0, 2.0, 3.0),
    "gdtr": (0.7, 1.5, 2.0),
    "gdtrc": (0.7, 1.5, 2.0),
    "chdtr": (3.5, 2.0),
    "chdtrc": (3.5, 2.0),
    "chdtri": (3.5, 0.3),
    "pdtr": (2.0, 1.7),
    "pdtrc": (2.0, 1.7),
    "bdtr": (2.0, 5, 0.3),
    "bdtrc": (2.0, 5, 0.3),
    "nbdtr": (2, 5, 0.3),
    "nbdtrc": (2, 5, 0.3),
    "fdtr": (3.0, 4.0, 1.2),
    "fdtrc": (3.0, 4.0, 1.2),
    "fdtri": (3.0, 4.0, 0.7),
    "eval_chebyc": (3, 0.4),
    "eval_chebys": (3, 0.4),
    "eval_sh_legendre": (3, 0.4),
    "eval_sh_chebyt": (3, 0.4),
    "eval_sh_chebyu": (3, 0.4),
    "kn": (2, 1.2),
    "expn": (2, 1.2),
    "wofz": (0.7,),
    "airy": (-1.3,),
    "sici": (1.3,),
    "shichi": (1.3,),
    "fresnel": (1.3,),
    "ellipj": (0.7, 0.4),
}
"""Functions made of several primitives, with arguments; the last float is differentiated."""


@pytest.mark.parametrize("name", PLAIN)
def test_function_of_several_primitives_has_scipys_values_and_its_derivative(name):
    args = PLAIN[name]
    ours, theirs = getattr(nm.special, name), getattr(scipy.special, name)
    k = max(i for i, a in enumerate(args) if isinstance(a, float)) if name != "ellipj" else 0
    k = 0 if name == "multigammaln" else k

    def parts(y):
        ys = y if isinstance(y, tuple) else (y,)
        return [part for v in ys for part in ((v.real, v.imag) if np.iscomplexobj(v) else (v,))]

    def f(x):
        return np.stack([np.asarray(1.0) * v for v in parts(ours(*args[:k], x, *args[k + 1 :]))])

    def plain(x):
        return np.stack(parts(theirs(*args[:k], x, *args[k + 1 :])))

    x = args[k]
    value, tangent = nm.jvp(f, (x,), (1.0,))
    np.testing.assert_allclose(value, plain(x), rtol=64 * EPS, atol=4 * EPS)
    h = EPS ** (1 / 3)
    slopes = [(plain(x + t) - plain(x - t)) / (2 * t) for t in (h, 2 * h)]
    error = np.abs(slopes[0] - slopes[1]) + 64 * EPS * (1 + np.abs(value)) / h
    assert np.all(error <= 1e-6 * (1 + np.abs(slopes[0])))
    assert np.all(np.abs(tangent - slopes[0]) <= error)
    np.testing.assert_allclose(nm.jacrev(f)(x), tangent, rtol=64 * EPS, atol=64 * EPS)
    np.testing.assert_allclose(nm.vmap(f)(np.array([x, x]))[1], value, rtol=8 * EPS)


@pytest.mark.parametrize(
    "name", [name for name in nm.special.__all__ if name in REGISTRY and name != "sinc"]
)
def test_float32_stays_float32(name):
    """SciPy itself turns some of these to float64; its functions with orders know no other."""
    p = REGISTRY[name]
    for s in p.draw_samples():
        operands = [
            x.astype(np.float32) if getattr(x, "dtype", None) == np.float64 else x
            for x in s.operands
        ]
        assert p(*operands, **s.params).dtype in (np.float32, np.complex64)


def test_signatures_of_functions_are_scipys():
    for name in ("polygamma", "multigammaln", "comb", "perm", "factorial", "logsumexp", "softmax"):
        ours, theirs = (
            list(inspect.signature(getattr(m, name)).parameters)
            for m in (nm.special, scipy.special)
        )
        assert ours == theirs, name


# ----------------------------------------------------------------------------------------- refusals
ORDERS = [
    ("jv", (1.5, 2.0), 0),
    ("kve", (1.5, 2.0), 0),
    ("polygamma", (1.0, 2.0), 0),
    ("zeta", (1.5, 2.0), 0),
    ("hyp2f1", (0.5, 1.5, 2.0, 0.3), 1),
    ("eval_legendre", (2.0, 0.3), 0),
    ("ellipkinc", (0.5, 0.3), 1),
    ("ellipj", (0.5, 0.3), 1),
    ("expn", (2.0, 0.3), 0),
]


@pytest.mark.parametrize(("name", "args", "k"), ORDERS)
def test_operand_without_a_derivative_is_an_error_that_names_it(name, args, k):
    def f(x):
        y = getattr(nm.special, name)(*args[:k], x, *args[k + 1 :])
        return y[0] if isinstance(y, tuple) else y

    for derivative in (nm.grad(f), lambda x: nm.jvp(f, (x,), (1.0,))):
        with pytest.raises(nm.errors.TraceError, match=f"^{name}: no derivative is known in"):
            derivative(args[k])


def test_zeta_of_riemann_has_no_derivative_and_says_so():
    with pytest.raises(nm.errors.TraceError, match=r"^zeta: no derivative is known in x"):
        nm.grad(nm.special.zeta)(2.5)
    assert nm.special.zeta(2.5) == scipy.special.zeta(2.5)


def test_functions_that_are_no_ufuncs_name_ours():
    x = np.array([0.5, 1.5])
    for f in (scipy.special.logsumexp, scipy.special.softmax, lambda x: scipy.special.comb(x, 1.5)):
        with pytest.raises(nm.errors.TraceError, match=r"nnmath_core\.special"):
            nm.grad(lambda x: np.sum(f(x)))(x)  # noqa: B023


def test_what_cupy_lacks_is_declared():
    assert {p.name for p in REGISTRY.values() if p.library == "absent"} == ABSENT


# -------------------------------------------------------------------------------------- logsumexp
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("factors", [None, "positive", "mixed", "zeros"])
@pytest.mark.parametrize("return_sign", [False, True])
def test_logsumexp_has_scipys_arguments(axis, keepdims, factors, return_sign):
    rng = np.random.default_rng(5)
    a = rng.standard_normal((3, 4))
    b = None if factors is None else rng.uniform(0.2, 2.0, (3, 4))
    if factors == "mixed":
        b[:, ::2] *= -1
    if factors == "zeros":
        b[0, :2] = 0.0
        a[0, 0] = 800.0  # not seen: its factor is 0
    kw = {"axis": axis, "b": b, "keepdims": keepdims, "return_sign": return_sign}
    with np.errstate(invalid="ignore", over="ignore"):
        want = scipy.special.logsumexp(a, **kw)
    got = nm.special.logsumexp(a, **kw)
    for x, y in zip(got if return_sign else (got,), want if return_sign else (want,), strict=True):
        np.testing.assert_allclose(x, y, rtol=16 * EPS, atol=16 * EPS)
        assert np.shape(x) == np.shape(y)
    if factors != "mixed":

        def total(a):
            y = nm.special.logsumexp(a, **kw)
            return np.sum(y[0] if return_sign else y)

        nm.check_grads(total, (np.minimum(a, 2.0),))


def test_logsumexp_differentiates_its_factors_also_at_zero():
    a, b = np.array([0.5, 0.8, -1.0]), np.array([1.0, 0.0, -0.2])
    s = np.sum(b * np.exp(a))
    np.testing.assert_allclose(
        nm.grad(lambda b: nm.special.logsumexp(a, b=b))(b), np.exp(a) / s, rtol=8 * EPS
    )
    value, sign = nm.special.logsumexp(a, b=-b, return_sign=True)
    assert sign == -1.0
    np.testing.assert_allclose(value, np.log(s), rtol=8 * EPS)
    assert np.isnan(nm.special.logsumexp(a, b=-b))


# ------------------------------------------------------------------------- parameters, by quadrature
def test_bell_polynomials_are_the_derivatives_of_an_exponential():
    # F = exp(x**3) at x = 1: F'/F = 3, F''/F = 15, F'''/F = 87, F''''/F = 585
    slopes = [3.0, 6.0, 6.0, 0.0]
    assert [quadrature.bell(slopes, n) for n in range(5)] == [1.0, 3.0, 15.0, 87.0, 585.0]
    # F = exp(a**2 b) at a = 1, b = 2: F_ab / F = (4)(1) + 2, F_aab / F = 16 * 1 + 4 * 1 + 2 * 4 * 2 + 2
    table = {(1, 0): 4.0, (2, 0): 4.0, (0, 1): 1.0, (1, 1): 2.0, (2, 1): 2.0}
    slope = lambda i, j: table.get((i, j), 0.0)  # noqa: E731
    assert quadrature.bell2(slope, 1, 1) == 6.0
    assert quadrature.bell2(slope, 2, 1) == 38.0


@pytest.mark.parametrize(("a", "x"), [(1e4, 9.9e3), (1e4, 1.01e4), (1e6, 1e6)])
def test_incomplete_gamma_in_a_large_parameter(a, x):
    """Where the gamma distribution is nearly normal: dP/da = -density of x in a, to order 1/sqrt(a)."""
    got = nm.grad(lambda a: nm.special.gammainc(a, x))(a)
    h = 1e-3 * math.sqrt(a)
    near = (scipy.special.gammainc(a + h, x) - scipy.special.gammainc(a - h, x)) / (2 * h)
    assert abs(got - near) <= 1e-6 * abs(near)


def test_incomplete_functions_have_mixed_and_third_derivatives():
    def f(v):
        return nm.special.gammainc(v[0], v[1]) + nm.special.betainc(v[0], v[1], 0.1 * v[2])

    x = np.array([1.3, 2.1, 4.0])
    third = nm.jacfwd(nm.hessian(f))(x)
    np.testing.assert_allclose(third, np.transpose(third, (2, 1, 0)), rtol=1e-11, atol=1e-13)
    h = 1e-4
    e = np.eye(3)[0] * h
    near = (nm.hessian(f)(x + e) - nm.hessian(f)(x - e)) / (2 * h)
    np.testing.assert_allclose(third[..., 0], near, rtol=1e-6, atol=1e-7)


def test_parameter_derivatives_at_the_ends_of_the_domain():
    for x in (0.0, np.inf):
        assert nm.grad(lambda a: nm.special.gammainc(a, x))(1.5) == 0.0  # noqa: B023
    for x in (0.0, 1.0):
        assert nm.grad(lambda a: nm.special.betainc(a, 2.0, x))(1.5) == 0.0  # noqa: B023
    with np.errstate(all="ignore"):
        assert np.isnan(nm.grad(lambda a: nm.special.gammainc(a, 1.0))(-1.5))
        assert np.isnan(nm.grad(lambda a: nm.special.betainc(a, 2.0, 0.3))(-1.5))


# -------------------------------------------------------------- branches that the samples do not reach
POINTS = {
    "rgamma": np.array([-3.0, -2.4, -0.5, 0.0, 0.49, 0.51]),
    "airy": np.array([-7.5, -2.0, 1.5, 4.0]),
    "loggamma": np.array([5.0, 40.0]),
    "log_ndtr": np.array([-30.0, -3.0, 8.0]),
    "spence": np.array([0.2, 1.2, 1.3, 6.0]),
}


@pytest.mark.parametrize("name", POINTS)
def test_derivatives_on_the_branches(name):
    p = REGISTRY[name]
    operands = (1, POINTS[name]) if name == "airy" else (POINTS[name],)
    case = Case(p, operands, {}, np.dtype(float), f"{name}-branches")
    check_adjoint(case)
    check_second_order(case)


def test_lambertw_on_both_real_branches_and_beyond():
    z = np.array([-0.3, -0.1])
    for k in (0, -1):
        f = lambda z: nm.special.lambertw(z, k).real  # noqa: B023, E731
        w = scipy.special.lambertw(z, k).real
        np.testing.assert_allclose(f(z), w, rtol=4 * EPS)
        np.testing.assert_allclose(nm.vjp(f, z)[1](np.ones(2))[0], w / (z * (1 + w)), rtol=64 * EPS)
    w = scipy.special.lambertw(-2.0)
    slope = w / (-2.0 * (1 + w))
    got = nm.jvp(lambda z: nm.special.lambertw(z), (-2.0,), (1.0,))[1]
    np.testing.assert_allclose(got, slope, rtol=64 * EPS)


def test_multigammaln_outside_of_its_domain():
    with pytest.raises(ValueError, match="condition a"):
        nm.special.multigammaln(0.4, 3)
    assert np.isnan(nm.vmap(lambda a: nm.special.multigammaln(a, 3))(np.array([0.4]))[0])


def test_selection_hides_a_pole():
    x = np.array([0.0, 2.0])
    for f in (
        nm.special.gammaln,
        nm.special.digamma,
        nm.special.k0,
        nm.special.exp1,
        nm.special.entr,
    ):
        with np.errstate(all="ignore"):
            g = nm.grad(lambda x: np.sum(np.where(x > 0, f(x), 0.0)))(x)  # noqa: B023
        assert g[0] == 0.0
        assert np.isfinite(g[1])
        assert g[1] != 0


@pytest.mark.parametrize("n", [0.5, -0.5, np.array([1.0, 2.5])])
@pytest.mark.parametrize(
    "name",
    "yn expn spherical_jn spherical_yn spherical_in spherical_kn eval_legendre eval_chebyt "
    "eval_chebyu eval_laguerre".split(),
)
def test_no_derivative_at_an_order_that_is_no_integer(name, n):
    f = getattr(nm.special, name)
    for route in (
        lambda: nm.grad(lambda x: f(n, x).sum())(0.4),
        lambda: nm.jvp(lambda x: f(n, x), (0.4,), (1.0,)),
        lambda: nm.vmap(nm.grad(lambda x: f(n, x).sum()))(np.array([0.4, 0.6])),
    ):
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SciPy's own of a truncated order
            with pytest.raises(nm.DomainError, match="`n` must be an integer where the derivative"):
                route()


def test_counts_are_whole_as_scipys():
    x = np.array([0.2, 0.7])
    k, n = np.meshgrid(np.arange(-2.0, 5.0), np.arange(-1.0, 4.0))
    for name in ("bdtr", "bdtrc", "nbdtr", "nbdtrc"):  # outside, too
        want = getattr(scipy.special, name)(k, n.astype(int), 0.3)
        np.testing.assert_allclose(getattr(nm.special, name)(k, n, 0.3), want, rtol=1e-13)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy says that it cuts the fractions off
        for name in ("bdtr", "bdtrc", "nbdtr", "nbdtrc"):
            want = getattr(scipy.special, name)(2.6, 4.7, x)
            np.testing.assert_allclose(getattr(nm.special, name)(2.6, 4.7, x), want, rtol=1e-13)
        np.testing.assert_allclose(nm.special.kn(2.6, x), scipy.special.kn(2.6, x), rtol=1e-13)
    y, _ = nm.jvp(nm.special.factorial, (np.array([np.nan, -1.0, 3.0]),), (np.ones(3),))
    np.testing.assert_array_equal(y, [np.nan, 0.0, 6.0])


def test_functions_at_infinity_have_scipys_values_and_no_slope():
    inf = math.inf
    for name, front in (("fdtr", (2.0, 3.0)), ("fdtrc", (2.0, 3.0)), ("kn", (2,)), ("kn", (2.0,))):
        f = lambda x: getattr(nm.special, name)(*front, x)  # noqa: B023, E731
        value, slope = nm.value_and_grad(f)(inf)
        assert value == (1.0 if name == "fdtr" else 0.0)  # SciPy 1.15 has NaN of the F distribution
        assert slope == nm.jvp(f, (inf,), (1.0,))[1] == 0.0
    x = np.array([inf, 0.6, -inf])
    np.testing.assert_allclose(nm.special.wofz(x), scipy.special.wofz(x), rtol=8 * EPS)
    f = lambda x: np.real(nm.special.wofz(x))  # noqa: E731
    slope = nm.grad(lambda x: np.sum(f(x)))(x)
    np.testing.assert_array_equal(slope, nm.jvp(f, (x,), (np.ones(3),))[1])
    # the real part is exp(-x**2)
    np.testing.assert_allclose(slope, [0.0, -1.2 * math.exp(-0.36), 0.0], rtol=64 * EPS)


@pytest.mark.filterwarnings("ignore")
def test_values_at_the_ends_and_outside_are_scipys():
    ends = [-1.0, 0.0, 2.0, math.inf, math.nan]
    a, b, x = np.array(list(itertools.product(ends, ends, [*ends, 0.5]))).T
    for name in ("fdtr", "fdtrc"):
        want = getattr(scipy.special, name)(a, b, x)
        keep = RECENT | ~(np.isinf(a) | np.isinf(b) | np.isinf(x))  # SciPy 1.15 differs at infinity
        with np.errstate(all="ignore"):
            got = getattr(nm.special, name)(a, b, x)
        np.testing.assert_allclose(got[keep], want[keep], rtol=64 * EPS)
    orders, x = np.array(list(itertools.product([*ends, -math.inf], [*ends, -math.inf]))).T
    np.testing.assert_allclose(nm.special.kn(orders, x), scipy.special.kn(orders, x), rtol=8 * EPS)
    parts = np.array(list(itertools.product([1.0, math.inf, -math.inf, math.nan], repeat=2)))
    z = parts.view(complex)[:, 0]
    np.testing.assert_allclose(nm.special.wofz(z), scipy.special.wofz(z), rtol=8 * EPS)


@pytest.mark.parametrize("name", ["cbrt", "exp2", "expm1", "log1p"])
def test_functions_that_numpy_has_too_take_integers_as_scipy(name):
    f, theirs = getattr(nm.special, name), getattr(scipy.special, name)
    for x in (np.full(3, 127, np.int8), np.arange(3), 2, True):
        got, want = f(x), theirs(np.asarray(x, float))  # of int8 SciPy 1.15 has float32
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, want, rtol=4 * EPS)
    assert f(np.float32(0.5)).dtype == np.float32
    x = np.array([0.3, 2.0])
    np.testing.assert_array_equal(
        nm.grad(lambda x: np.sum(f(x)))(x), nm.jvp(f, (x,), (1 + 0 * x,))[1]
    )


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_nothing_has_no_softmax(name):
    f, theirs = getattr(nm.special, name), getattr(scipy.special, name)
    for shape, axis in (((0, 3), None), ((0, 3), 0), ((3, 0), 1), ((0,), None)):
        x = np.zeros(shape)
        with pytest.raises(ValueError, match="zero-size"):
            theirs(x, axis)
        for call in (
            lambda x: f(x, axis),  # noqa: B023
            lambda x: nm.grad(lambda x: np.sum(f(x, axis)))(x),  # noqa: B023
            lambda x: nm.stage(lambda x: f(x, axis), x),  # noqa: B023
        ):
            with pytest.raises(nm.ShapeError, match=f"^{name}: `x` must be an array with entries"):
                call(x)
    x = np.zeros((0, 3))  # a batch of none
    assert f(x, 1).shape == theirs(x, 1).shape == nm.grad(lambda x: np.sum(f(x, 1)))(x).shape
