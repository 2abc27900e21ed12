"""Taylor mode: every primitive against nested forward mode, functions against closed forms, errors.

`jet` shares the rules of forward mode and nothing else with it; the closed forms and the contour
integral share nothing.
"""

import math

import numpy as np
import pytest
from numpy.polynomial import Polynomial
from registry_checks import Case, assert_close, registry_cases, smooth

import nnmath_core as nm
from nnmath_core.autodiff.primitive import Primitive, sample
from nnmath_core.errors import DtypeError, ShapeError, TraceError, TreeError

SMOOTH = registry_cases((np.float64, np.float32), smooth)
ORDER = 3
EPS = np.finfo(float).eps


def curve(x, terms):
    """Return the curve with these derivatives at 0, as a function of t."""

    def at(t):
        y = x
        for k, term in enumerate(terms, 1):
            y = y + term * (t**k / math.factorial(k))
        return y

    return at


def nested(g, order):
    """Return the derivatives of orders 1 to `order` of a function of one number, at 0."""
    found = []
    for _ in range(order):
        g = (lambda h: lambda t: nm.jvp(h, (t,), (np.ones((), t.dtype),))[1])(g)
        found.append(g)
    return found


@pytest.mark.parametrize("case", SMOOTH)
def test_terms_are_those_of_nested_forward_mode(case):
    rng = case.rng
    given = [[0.3 * r for r in case.randoms(case.point, rng)] for _ in range(ORDER)]
    series = [[given[k][i] for k in range(ORDER)] for i in range(len(case.point))]
    value, terms = nm.jet(case.f, case.point, series)
    for got, want in zip(value, case.value, strict=True):
        np.testing.assert_array_equal(got, want)
    curves = [curve(x, s) for x, s in zip(case.point, series, strict=True)]
    zero = np.zeros((), case.dtype)
    want = [d(zero) for d in nested(lambda t: case.f(*(c(t) for c in curves)), ORDER)]
    size = case.bound(*case.value, *want[0], *case.point)
    for got, expected in zip(terms, want, strict=True):
        for g, w in zip(got, expected, strict=True):
            assert np.asarray(g).dtype == np.asarray(w).dtype
            # three derivatives amplify the roundings of the rule by their own size
            scale = 1.0 + np.abs(w).max(initial=0.0)
            assert_close(g, w, size * 64 * scale * case.condition**2, f"{case.name}")


CLOSED = {
    "exp": (np.exp, 0.3, lambda k: math.exp(0.3)),
    "log": (np.log, 2.0, lambda k: -((-1.0) ** k) * math.factorial(k - 1) / 2.0**k),
    "sin": (np.sin, 0.7, lambda k: math.sin(0.7 + k * math.pi / 2)),
    "reciprocal": (
        lambda x: 1.0 / x,
        0.5,
        lambda k: (-1.0) ** k * math.factorial(k) / 0.5 ** (k + 1),
    ),
    "square": (lambda x: x**2, 3.0, lambda k: {1: 6.0, 2: 2.0}.get(k, 0.0)),
    "product": (lambda x: x * np.exp(x), 0.0, float),
}


@pytest.mark.parametrize("name", CLOSED)
def test_terms_of_high_order_are_those_of_the_closed_form(name):
    f, x, want = CLOSED[name]
    order = 16
    _, terms = nm.jet(f, (x,), ([1.0] + [0.0] * (order - 1),))
    for k, term in enumerate(terms, 1):
        # each coefficient is a sum of k products of rounded ones
        assert abs(term - want(k)) <= 8 * k * k * EPS * max(abs(want(k)), 1.0), k


def test_composition_agrees_with_cauchys_integral():
    def f(x):
        return np.exp(np.sin(x)) * np.tanh(x) / (1 + x**2) + np.log(3 + x) ** 1.5

    x, order, radius, n = 0.2, 8, 0.5, 64
    _, terms = nm.jet(f, (x,), ([1.0] + [0.0] * (order - 1),))
    circle = np.exp(2j * np.pi * np.arange(n) / n)
    taylor = np.fft.fft(f(x + radius * circle)).real / n / radius ** np.arange(n)
    for k, term in enumerate(terms, 1):
        # roundings of f, amplified by k! / radius^k; aliasing is below them: (0.5 / 0.98)^64
        slack = 64 * EPS * math.factorial(k) / radius**k
        assert abs(term - taylor[k] * math.factorial(k)) <= slack, k


def test_curve_of_several_arguments_is_followed():
    # f(x, y) = x^2 y along x = 1 + t + t^2, y = 2 - t: multiply the polynomials
    want = (Polynomial([1, 1, 1]) ** 2 * Polynomial([2, -1])).coef
    _, terms = nm.jet(
        lambda x, y: x**2 * y, (1.0, 2.0), ([1.0, 2.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0])
    )
    got = [t / math.factorial(k) for k, t in enumerate(terms, 1)]
    np.testing.assert_allclose(got, want[1:5], rtol=16 * EPS)


def test_trees_go_in_and_come_out():
    def f(p):
        return {"y": p["w"] @ p["w"], "n": 3.0, "z": (np.sin(p["b"]),)}

    p = {"w": np.arange(3.0), "b": 0.5}
    line = {"w": np.ones(3), "b": 1.0}
    still = {"w": np.zeros(3), "b": 0.0}
    value, terms = nm.jet(f, (p,), ([line, still],))
    assert value["n"] == 3.0
    assert [t["n"] for t in terms] == [0.0, 0.0]
    assert [float(t["y"]) for t in terms] == [6.0, 6.0]
    np.testing.assert_allclose(
        [t["z"][0] for t in terms], [math.cos(0.5), -math.sin(0.5)], rtol=4 * EPS
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype):
    x = np.linspace(0.1, 1.0, 5).astype(dtype)
    value, terms = nm.jet(lambda x: np.tanh(x) / 3, (x,), ([np.ones_like(x)] * 4,))
    assert {value.dtype, *(t.dtype for t in terms)} == {np.dtype(dtype)}


def network(w, x):
    h = np.tanh(x @ w["a"] + 0.1)
    return np.sum(np.log(np.sum(np.exp(h @ w["b"]), axis=-1)))


def weights(rng):
    return {"a": rng.standard_normal((3, 4)), "b": rng.standard_normal((4, 2))}


def test_second_term_is_the_quadratic_form_of_the_hessian():
    rng = np.random.default_rng(0)
    w, v, x = weights(rng), weights(rng), rng.standard_normal((5, 3))
    still = nm.tree_map(np.zeros_like, v)
    _, (first, second) = nm.jet(lambda w: network(w, x), (w,), ([v, still],))
    hv = nm.hvp(lambda w: network(w, x), (w,), (v,))
    slope = nm.grad(lambda w: network(w, x))(w)
    quadratic = sum(np.vdot(v[k], hv[k]) for k in v)
    assert abs(first - sum(np.vdot(v[k], slope[k]) for k in v)) <= 256 * EPS * abs(first)
    assert abs(second - quadratic) <= 1024 * EPS * (abs(second) + abs(first))


def test_other_transformations_compose_with_it():
    x = np.array([0.3, 0.8])

    def third(x):
        return nm.jet(lambda t: np.sum(np.sin(x * t) * t), (1.0,), ([1.0, 0.0, 0.0],))[1][2]

    def by_hand(x):  # (sin(x t) t)''' at 1
        return np.sum(-(x**3) * np.cos(x) - 3 * x**2 * np.sin(x))

    assert abs(third(x) - by_hand(x)) <= 64 * EPS
    np.testing.assert_allclose(nm.grad(third)(x), nm.grad(by_hand)(x), rtol=0, atol=256 * EPS)
    staged = nm.stage(third, x)
    assert abs(staged(x) - third(x)) <= 16 * EPS
    batch = np.stack([x, 2 * x])
    np.testing.assert_allclose(
        nm.vmap(third)(batch), [third(b) for b in batch], rtol=0, atol=64 * EPS
    )
    # a jet of a gradient: the derivative of x^3 has the second derivative 6 x^0
    _, (_, second) = nm.jet(nm.grad(lambda x: x**3), (2.0,), ([1.0, 0.0],))
    assert second == 6.0
    # and a jet in a jet
    _, (outer,) = nm.jet(
        lambda s: nm.jet(lambda t: np.exp(s * t), (1.0,), ([1.0, 0.0],))[1][1], (0.5,), ([1.0],)
    )
    assert abs(outer - (2 * 0.5 + 0.25) * math.exp(0.5)) <= 16 * EPS


def test_long_programs_do_not_recurse():
    def f(x):
        for _ in range(3000):
            x = np.sin(x) + 0.1
        return x

    _, terms = nm.jet(f, (0.5,), ([1.0, 0.0, 0.0],))
    assert np.all(np.isfinite(terms))


def test_a_rule_is_evaluated_once():
    calls = []

    def rule(g, xs, y):
        calls.append(1)
        return g * y

    twin = Primitive(
        "twin_of_exp",
        forward="exp",
        elementwise=True,
        vjp=(rule,),
        keeps=("y",),
        samples=lambda d: [sample(d.normal(3))],
        register=False,
    )
    _, terms = nm.jet(twin, (0.0,), ([1.0] + [0.0] * 9,))
    assert len(calls) == 1
    np.testing.assert_allclose(terms, 1.0, rtol=64 * EPS)


def test_work_grows_with_the_square_of_the_order():
    # counted, not timed: multiplications of numbers in one product of series
    counted = []
    times = Primitive(
        "counted_times",
        forward=lambda be, x, y: counted.append(1) or x * y,
        multilinear=True,
        vjp=(lambda g, xs, y: g * xs[1], lambda g, xs, y: g * xs[0]),
        keeps=("1", "0"),
        shape=lambda x, y: x,
        batch=lambda on, v, size: v,
        samples=lambda d: [sample(d.normal(), d.normal())],
        register=False,
    )
    for order in (4, 8):
        counted.clear()
        nm.jet(times, (1.0, 2.0), ([1.0] * order, [1.0] * order))
        assert len(counted) == (order + 1) * (order + 2) // 2


def test_comparisons_and_branches_read_the_value():
    def f(x):
        return x**2 if x > 0 else -x

    assert [float(t) for t in nm.jet(f, (2.0,), ([1.0, 0.0],))[1]] == [4.0, 2.0]
    assert [float(t) for t in nm.jet(f, (-2.0,), ([1.0, 0.0],))[1]] == [-1.0, 0.0]
    two, one = (np.array([1.0, -1.0]),), ([np.ones(2), np.zeros(2)],)
    _, terms = nm.jet(lambda x: np.where(x > 0, x**3, x), two, one)
    np.testing.assert_array_equal(terms, [[3.0, 1.0], [6.0, 0.0]])


def test_operators_in_place_work_on_series():
    def f(x):
        y = x * 1.0
        y += x * x
        y *= x
        return y

    assert [float(t) for t in nm.jet(f, (1.0,), ([1.0, 0.0, 0.0],))[1]] == [5.0, 8.0, 6.0]
    x = np.ones(3)
    with pytest.raises(TraceError, match="writes into the caller's array"):
        nm.jet(lambda x: x.__iadd__(1.0), (x,), ([x],))


@pytest.mark.parametrize(
    ("primals", "series", "error", "says"),
    [
        ((1.0,), ([1.0], [1.0]), TreeError, "an entry for each of the 1 arguments"),
        ((1.0, 2.0), ([1.0], [1.0, 0.0]), TreeError, r"of one length, at least 1.*\[1, 2\]"),
        ((1.0,), ([],), TreeError, "at least 1"),
        ((1.0,), (1.0,), TreeError, r"series\[0\]"),
        ((np.ones(2),), ([np.ones(3)],), ShapeError, r"terms of order 1.*\(2,\).*\(3,\)"),
        ((np.ones(2),), ([np.ones(2), np.ones(2) * 1j],), DtypeError, "order 2"),
        (({"a": 1.0},), ([{"b": 1.0}],), TreeError, "structure of `primals`"),
        ((1,), ([1.0],), DtypeError, "the integer 1"),
        (np.ones(1), ([1.0],), TreeError, r"Write \(x,\)"),
    ],
)
def test_bad_input_says_what_is_wrong(primals, series, error, says):
    with pytest.raises(error, match=says):
        nm.jet(lambda *xs: xs[0], primals, series)


def test_leaked_tracer_is_refused():
    kept = []
    nm.jet(lambda x: kept.append(x) or x, (1.0,), ([1.0],))
    with pytest.raises(TraceError, match="leaked"):
        np.sin(kept[0])


def test_wrong_series_is_noticed():
    """The comparison above fails for a primitive whose forward rule is wrong at second order."""
    wrong = Primitive(
        "wrong_tan",
        forward="tan",
        elementwise=True,
        vjp=(lambda g, xs, y: g * (1.0 + nm.value_of(y) * y),),
        keeps=("y",),
        samples=lambda d: [sample(d.normal(3))],
        register=False,
    )
    case = Case.of(wrong, wrong.draw_samples()[0], np.float64, "wrong_tan")
    _, terms = nm.jet(case.f, case.point, ([np.ones(3), np.zeros(3)],))
    y = np.tan(case.point[0])
    assert np.abs(terms[1][0] - 2 * y * (1 + y * y)).max() > 0.01


def powers(x):  # x^4 by a loop of three steps
    return nm.scan(lambda c, _: (c * x, c), x, None, length=3)[0]


CONTROL = {
    "scan": powers,
    "scan with checkpoint": lambda x: nm.scan(lambda c, _: (c * x, None), x, None, length=3, checkpoint=True)[0],
    "fori_loop": lambda x: nm.fori_loop(0, 3, lambda i, c: c * x, x),
    "while_loop": lambda x: nm.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * x), (0, x))[1],
    "cond": lambda x: nm.cond(x > 0, lambda x: x**4, lambda x: -x, x),
    "checkpoint": nm.checkpoint(lambda x: x**4),
}  # fmt: skip


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize("name", CONTROL)
def test_control_flow_carries_series(name, staged):
    f = nm.stage(CONTROL[name], np.float64(2.0)) if staged else CONTROL[name]
    value, terms = nm.jet(f, (np.float64(2.0),), ([1.0, 0.0, 0.0, 0.0, 0.0],))
    assert value == 16.0
    assert [float(t) for t in terms] == [32.0, 48.0, 48.0, 24.0, 0.0]
