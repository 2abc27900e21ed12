"""precision_report: a catalogue of naive formulas, each with culprit, line and advice; their stable forms are clean.

So are the gradients of both, where the derivative is naive, too. The numbers that a report shows are compared with an
evaluation by hand in both precisions.
"""

import dataclasses

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.verify import PrecisionReport, PrecisionRow

S = nm.special
LOUD = 2000 + np.random.default_rng(0).standard_normal(100)


@dataclasses.dataclass(frozen=True)
class Naive:
    """A formula, where it fails, the operation that is to blame and why; what is to be written; the stable form."""

    naive: object
    args: tuple
    culprit: str
    verdict: str
    advice: str
    stable: object
    gradient: str = ""  # "bad": its gradient is bad as well, "ok": it is not; "": not looked at


CATALOGUE = {
    "log-sum-exp overflows": Naive(
        lambda x: np.log(np.sum(np.exp(x))),
        (np.array([100.0, 101.0]),),
        *("exp", "overflows", "nm.special.logsumexp"),
        lambda x: S.logsumexp(x),
        "bad",
    ),
    "log-sum-exp underflows": Naive(
        lambda x: np.log(np.exp(x).mean()),
        (np.array([-200.0, -201.0]),),
        *("exp", "underflows", "nm.special.logsumexp"),
        lambda x: S.logsumexp(x) - np.log(2.0),
        "bad",
    ),
    "softmax": Naive(
        lambda x: np.exp(x) / np.sum(np.exp(x)),
        (np.array([100.0, 99.0]),),
        *("exp", "overflows", "nm.special.softmax"),
        lambda x: S.softmax(x),
        "bad",
    ),
    "log of softmax": Naive(
        lambda x: np.log(np.exp(x) / np.exp(x).sum()),
        (np.array([0.0, -200.0]),),
        *("exp", "underflows", "nm.special.log_softmax"),
        lambda x: S.log_softmax(x),
        "bad",
    ),
    "log of our softmax": Naive(
        lambda x: np.log(S.softmax(x)),
        (np.array([0.0, -200.0]),),
        *("softmax", "underflows", "nm.special.log_softmax"),
        lambda x: S.log_softmax(x),
        "bad",
    ),
    "softplus loses": Naive(
        lambda x: np.log(1 + np.exp(x)),
        (np.array([-20.0, 3.0]),),
        *("log", "loses digits", "nm.special.log1pexp"),
        lambda x: S.log1pexp(x),
        "ok",
    ),
    "softplus overflows": Naive(
        lambda x: np.log1p(np.exp(x)),
        (np.array([120.0, 3.0]),),
        *("exp", "overflows", "nm.special.log1pexp"),
        lambda x: nm.nn.softplus(x),
        "bad",
    ),
    "log of sigmoid by hand": Naive(
        lambda x: np.log(1.0 / (1.0 + np.exp(-x))),
        (np.array([-100.0, 3.0]),),
        *("exp", "overflows", "nm.nn.log_sigmoid(x)"),
        lambda x: nm.nn.log_sigmoid(x),
        "bad",
    ),
    "log of sigmoid": Naive(
        lambda x: np.log(nm.nn.sigmoid(x)),
        (np.array([20.0, -200.0]),),
        *("expit", "underflows", "nm.nn.log_sigmoid(x)"),
        lambda x: nm.nn.log_sigmoid(x),
        "bad",
    ),
    "log of one minus sigmoid": Naive(
        lambda x: np.log(1.0 - nm.nn.sigmoid(x)),
        (np.array([12.0, 14.0]),),
        *("subtract", "loses digits", "nm.nn.log_sigmoid(-x)"),
        lambda x: nm.nn.log_sigmoid(-x),
    ),
    "log of one minus exp": Naive(
        lambda x: np.log(1.0 - np.exp(x)),
        (np.array([-1e-5]),),
        *("subtract", "loses digits", "nm.special.log1mexp"),
        lambda x: S.log1mexp(x),
        "bad",
    ),
    "log of a difference of exps": Naive(
        lambda x, y: np.log(np.exp(x) - np.exp(y)),
        (100.0, 99.0),
        *("exp", "overflows", "nm.special.logsubexp"),
        lambda x, y: S.logsubexp(x, y),
        "bad",
    ),
    "log of a sum of exps": Naive(
        lambda x, y: np.log(np.exp(x) + np.exp(y)),
        (100.0, 99.0),
        *("exp", "overflows", "np.logaddexp"),
        lambda x, y: np.logaddexp(x, y),
        "bad",
    ),
    "variance": Naive(
        lambda x: np.mean(x**2) - np.mean(x) ** 2,
        (LOUD,),
        *("subtract", "loses digits", "np.var"),
        lambda x: np.var(x),
        "bad",
    ),
    "standard deviation": Naive(
        lambda x: np.sqrt((x * x).mean() - np.square(x.mean())),
        (LOUD,),
        *("subtract", "loses digits", "np.var"),
        lambda x: np.std(x),
        "bad",
    ),
    "log(1 - x)": Naive(
        lambda x: np.log(1 - x),
        (np.array([1e-6, 0.5]),),
        *("log", "loses digits", "np.log1p(-x)"),
        lambda x: np.log1p(-x),
        "ok",
    ),
    "exp(x) - 1": Naive(
        lambda x: np.exp(x) - 1,
        (np.array([1e-6, 0.5]),),
        *("subtract", "loses digits", "np.expm1"),
        lambda x: np.expm1(x),
        "ok",
    ),
    "(exp(x) - 1) / x": Naive(
        lambda x: (np.exp(x) - 1) / x,
        (1e-5,),
        *("subtract", "loses digits", "nm.special.exprel"),
        lambda x: S.exprel(x),
        "bad",
    ),
    "hypot overflows": Naive(
        lambda x, y: np.sqrt(x**2 + y**2),
        (1e25, 2e25),
        *("square", "overflows", "np.hypot"),
        lambda x, y: np.hypot(x, y),
        "bad",
    ),
    "hypot underflows": Naive(
        lambda x, y: (x * x + y * y) ** 0.5,
        (1e-25, 2e-25),
        *("multiply", "underflows", "np.hypot"),
        lambda x, y: np.hypot(x, y),
        "bad",
    ),
    "norm": Naive(
        lambda x: np.sqrt(np.sum(x**2)),
        (np.array([1e25, 2e25]),),
        *("square", "overflows", "np.linalg.norm"),
        lambda x: np.linalg.norm(x),
        "bad",
    ),
    "1 - cos(x)": Naive(
        lambda x: 1 - np.cos(x),
        (np.array([1e-3, 0.5]),),
        *("subtract", "loses digits", "2.0 * np.sin(x / 2) ** 2"),
        lambda x: 2 * np.sin(x / 2) ** 2,
        "ok",
    ),
    "a quotient with eps": Naive(
        lambda x, y: x / (y + 1e-50),
        (1.0, 0.0),
        *("add", "underflows", "nm.special.safe_divide"),
        lambda x, y: S.safe_divide(x, y),
        "bad",
    ),
    "a quotient": Naive(
        lambda x, y: x / y,
        (1.0, 1e-39),
        *("divide", "divides by nearly nothing", "nm.special.safe_divide"),
        lambda x, y: S.safe_divide(x, y, tolerance=1e-30),
    ),
    "a difference of roots": Naive(
        lambda x: np.sqrt(x + 1) - np.sqrt(x),
        (1e6,),
        *("subtract", "loses digits", "(np.sqrt(x) + np.sqrt(y))"),
        lambda x: 1 / (np.sqrt(x + 1) + np.sqrt(x)),
        "bad",
    ),
    "1 - tanh(x)**2": Naive(
        lambda x: 1 - np.tanh(x) ** 2,
        (6.0,),
        *("subtract", "loses digits", "1.0 / np.cosh(x) ** 2"),
        lambda x: 1 / np.cosh(x) ** 2,
        "bad",
    ),
    "log of cosh": Naive(
        lambda x: np.log(np.cosh(x)),
        (100.0,),
        *("cosh", "overflows", "np.logaddexp(x, -x)"),
        lambda x: np.logaddexp(x, -x) - np.log(2.0),
        "bad",
    ),
    "log of a product": Naive(
        lambda x: np.log(np.prod(x)),
        (np.full(30, 1e-3),),
        *("prod", "underflows", "np.sum(np.log(x))"),
        lambda x: np.sum(np.log(x)),
        "bad",
    ),
    "log of a determinant": Naive(
        lambda a: np.log(np.linalg.det(a)),
        (1e-8 * np.eye(6),),
        *("det", "underflows", "np.linalg.slogdet"),
        lambda a: np.linalg.slogdet(a)[1],
        "bad",
    ),
    "a root of a quadratic": Naive(
        lambda b, c: -b + np.sqrt(b**2 - c),
        (1e3, 1.0),
        *("add", "loses digits", "-c / (b + np.sqrt(b**2 - c))"),
        lambda b, c: -c / (b + np.sqrt(b**2 - c)),
        "bad",
    ),
    "sinh": Naive(
        lambda x: (np.exp(x) - np.exp(-x)) / 2,
        (1e-5,),
        *("subtract", "loses digits", "np.sinh"),
        lambda x: np.sinh(x),
        "ok",
    ),
    "tanh": Naive(
        lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)),
        (100.0,),
        *("exp", "overflows", "np.tanh"),
        lambda x: np.tanh(x),
        "bad",
    ),
    "1 - erf(x)": Naive(
        lambda x: 1 - S.erf(x),
        (3.5,),
        *("subtract", "loses digits", "nm.special.erfc"),
        lambda x: S.erfc(x),
        "ok",
    ),
}


@pytest.mark.parametrize("case", CATALOGUE.values(), ids=CATALOGUE)
def test_a_naive_formula_is_named_with_its_line_and_the_form_to_write(case):
    report = nm.precision_report(case.naive, case.args)
    row = report.culprit
    assert not report.ok
    assert report.lost > 3.0
    assert (row.name, row.verdict) == (case.culprit, case.verdict)
    assert row.line == f"test_precision_report.py:{case.naive.__code__.co_firstlineno}"
    assert row.source.startswith("lambda")
    assert case.advice in row.advice
    assert row.example
    text = str(report).splitlines()
    assert f"First, `{row.name}` at {row.line} {row.verdict}" in text[1]
    assert row.advice in text[3]
    assert report.rows[row.index] == row


@pytest.mark.parametrize("case", CATALOGUE.values(), ids=CATALOGUE)
def test_its_stable_form_is_clean(case):
    report = nm.precision_report(case.stable, case.args)
    assert report.ok, str(report)
    assert report.culprit is None
    assert report.lost < 1.0
    assert "is safe in float32 here" in str(report)


def summed(f):
    return lambda *args: np.sum(f(*args))


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=name) for name, c in CATALOGUE.items() if c.gradient],
)
def test_gradients_are_reported_too(case):
    argnums = tuple(range(len(case.args)))
    report = nm.precision_report(nm.grad(summed(case.naive), argnums), case.args)
    assert report.ok == (case.gradient == "ok"), str(report)
    if not report.ok:
        assert (
            report.culprit.line == f"test_precision_report.py:{case.naive.__code__.co_firstlineno}"
        )
        assert "nm." in report.culprit.advice or "np." in report.culprit.advice
    report = nm.precision_report(nm.grad(summed(case.stable), argnums), case.args)
    assert report.ok, str(report)


# ------------------------------------------------------------------------------------------ the numbers
def test_rows_tell_what_an_equation_loses_and_what_it_inherits():
    x = np.array([1e-3])

    def f(x):
        return 1 - np.cos(x)

    cosine, difference = nm.precision_report(f, (x,)).rows
    low, high = np.float32(1) - np.cos(np.float32(1e-3)), 1 - np.cos(np.float64(np.float32(1e-3)))
    lost = np.log10(abs(low - high) / high / 2.0**-24)
    assert difference.lost == pytest.approx(lost, abs=1e-6)
    assert difference.inherited == pytest.approx(lost, abs=1e-6)  # the difference itself is exact
    assert (cosine.verdict, cosine.inherited) == ("ok", 0.0)
    assert cosine.lost < 0.1


def test_own_error_is_told_from_what_is_inherited():
    def f(x):
        return np.exp(x)

    (row,) = nm.precision_report(f, (np.array([80.1]),), digits=1.0).rows
    assert row.inherited == 0.0  # the argument is the same number in both precisions

    def g(x):
        return np.exp(x / 3.0)

    _, row = nm.precision_report(g, (np.array([250.0]),), digits=1.0).rows
    assert row.inherited == pytest.approx(row.lost, abs=0.2)
    assert 1.0 < row.lost <= np.log10(250.0 / 3.0)


def test_digits_decide_what_passes():
    def f(x):
        return np.exp(x / 3.0)

    x = (np.array([250.0]),)
    assert nm.precision_report(f, x).ok
    strict = nm.precision_report(f, x, digits=1.0)
    assert not strict.ok
    assert (strict.culprit.name, strict.culprit.verdict) == ("exp", "loses digits")
    for digits in (0.0, 8.0, np.nan):
        with pytest.raises(
            nm.DomainError, match=r"^precision_report: `digits` must be in \(0, 7.2\)"
        ):
            nm.precision_report(f, x, digits=digits)


def test_a_difference_that_does_no_harm_is_listed_and_not_blamed():
    report = nm.precision_report(np.var, (LOUD,))
    assert report.ok
    (row,) = (r for r in report.rows if r.name == "subtract")
    assert row.verdict == "loses digits"
    assert row.lost > 3.0
    assert "subtract" in str(report)


def test_the_first_of_several_is_named():
    def f(x):
        a = np.exp(x) - 1
        b = 1e5 * a
        return b - 0.99

    report = nm.precision_report(f, (1e-5,))
    assert report.culprit.line == f"test_precision_report.py:{f.__code__.co_firstlineno + 1}"


def test_the_worst_output_is_followed():
    def f(x):
        return {"good": np.sin(x), "bad": np.exp(x) - 1}

    report = nm.precision_report(f, (1e-6,))
    assert report.culprit.name == "subtract"
    assert report.culprit.source == 'return {"good": np.sin(x), "bad": np.exp(x) - 1}'


# ------------------------------------------------------------------------------------------ what is no fault of float32
def test_poles_are_named_although_float64_has_them_too():
    def quotient(x):
        return x / (x - x)

    row = nm.precision_report(quotient, (np.array([1.0, 2.0]),)).culprit
    assert (row.name, row.verdict) == ("divide", "divides by nearly nothing")
    row = nm.precision_report(lambda x: np.log(0.0 * x), (1.0,)).culprit
    assert (row.name, row.verdict) == ("log", "is infinite")
    row = nm.precision_report(lambda x: np.sqrt(x - 2.0), (1.0,)).culprit
    assert (row.name, row.verdict) == ("sqrt", "is not a number")
    row = nm.precision_report(nm.grad(np.std), (np.ones(3),)).culprit
    assert row.verdict == "divides by nearly nothing"
    assert "derivative of sqrt" in row.name


def test_infinities_that_are_given_are_no_finding():
    mask = np.array([True, False])
    for f in (S.softmax, S.log_softmax):
        assert nm.precision_report(lambda s, f=f: f(np.where(mask, s, -np.inf)), (np.ones(2),)).ok
    assert nm.precision_report(np.exp, (np.array([-np.inf, 0.0]),)).ok


def test_arguments_beyond_float32_are_named():
    report = nm.precision_report(lambda x: x / 2, (1e300,))
    assert not report.ok
    assert report.culprit.name == "argument leaf 0"
    assert report.culprit.verdict == "overflows"


def test_entries_that_are_small_by_chance_are_spared():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((200, 60)), rng.standard_normal((60, 200))
    assert nm.precision_report(np.matmul, (a, b)).ok


# ------------------------------------------------------------------------------------------ networks, trees, programs
def network():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((32, 20)), rng.integers(0, 5, 32)
    model = nm.nn.MLP.init((20, 16, 5), activation=nm.nn.gelu, rng=0)
    return model, lambda p: np.mean(nm.nn.softmax_cross_entropy(p(x), y))


@pytest.mark.parametrize("of", ["loss", "gradient", "product"])
def test_a_network_is_safe(of):
    model, loss = network()
    f = {
        "loss": loss,
        "gradient": nm.grad(loss),
        "product": lambda p: nm.hvp(loss, (p,), (p,)),
    }[of]
    report = nm.precision_report(f, (model,))
    assert report.ok, str(report)
    assert len(report.rows) > 10
    assert all(row.line.startswith(("test_precision_report.py:", "")) for row in report.rows)


def test_layer_norm_of_large_numbers_is_safe_and_by_hand_it_is_not():
    x = LOUD.reshape(4, 25)

    def by_hand(x):
        return (x - np.mean(x, axis=-1, keepdims=True)) / np.sqrt(
            np.var(x, axis=-1, keepdims=True) + 1e-5
        )

    assert nm.precision_report(lambda x: nm.nn.layer_norm(x, np.ones(25), np.zeros(25)), (x,)).ok
    row = nm.precision_report(by_hand, (x,)).culprit
    assert (row.name, row.verdict) == ("subtract", "loses digits")
    assert "nm.nn.layer_norm" in row.advice


def test_control_flow_is_one_equation():
    def scanned(x):
        def step(c, t):
            c = np.log(np.exp(c) + np.exp(t))
            return c, c

        return nm.scan(step, x[0], x)[0]

    report = nm.precision_report(scanned, (np.array([1.0, 100.0, 50.0]),))
    assert (report.culprit.name, report.culprit.verdict) == ("scan", "overflows")
    assert report.culprit.line.startswith("test_precision_report.py:")
    assert "Look inside" in report.culprit.advice
    for f in (scanned, nm.grad(scanned)):
        assert nm.precision_report(f, (np.array([1.0, 2.0, 3.0]),)).ok

    def chosen(x):
        return nm.cond(x[0] > 0, lambda: np.exp(50 * x), lambda: x)

    assert nm.precision_report(chosen, (np.array([1.0, 2.0]),)).culprit.name == "cond"
    assert nm.precision_report(chosen, (np.array([-1.0, 2.0]),)).ok


def test_trees_integers_and_random_numbers():
    def f(params, n):
        noise = nm.random.normal(nm.random.key(n), (3,))
        return np.sum(params["w"] * noise) * params["b"] * n

    report = nm.precision_report(lambda p: f(p, 3), ({"w": np.ones(3), "b": 2.0},))
    assert report.ok, str(report)
    keyed = nm.precision_report(
        lambda k, x: x + nm.random.normal(k, (3,)), (nm.random.key(0), np.ones(3))
    )
    assert keyed.ok, str(keyed)


def test_the_dtype_of_the_arguments_and_of_captured_arrays_does_not_matter():
    captured = np.array([1.0, 2.0], np.float32)
    for dtype in (np.float32, np.float64):
        x = np.array([1e-6, 0.5], dtype)
        row = nm.precision_report(lambda x: captured * (np.exp(x) - 1), (x,)).culprit
        assert row.name == "subtract"
        cast = nm.precision_report(lambda x: np.exp(x.astype(np.float32)) - 1, (x,)).culprit
        assert cast.lost == pytest.approx(row.lost, abs=1e-9)


def test_complex_values_inside():
    x = np.random.default_rng(0).standard_normal(64)
    assert nm.precision_report(lambda x: np.abs(np.fft.fft(x)) ** 2, (x,)).ok


def test_the_record_is_frozen_and_public():
    report = nm.precision_report(lambda x: np.exp(x) - 1, (1e-6,))
    assert isinstance(report, PrecisionReport)
    assert isinstance(report.culprit, PrecisionRow)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.ok = True
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.culprit.lost = 0.0


BAD = [
    ((3, (1.0,)), TypeError, r"^precision_report: `f` must be callable"),
    ((np.exp, np.ones(3)), nm.TreeError, r"^precision_report: `args` must be a tuple"),
    ((lambda x: x if x > 0 else -x, (1.0,)), nm.TraceError, "`if`"),
    ((np.exp, ("text",)), nm.DtypeError, "numeric"),
]


@pytest.mark.parametrize(("args", "error", "match"), BAD)
def test_bad_arguments_are_one_clear_error(args, error, match):
    with pytest.raises(error, match=match):
        nm.precision_report(*args)


def test_what_is_zero_on_paper_is_judged_beside_the_other_outputs():
    """The middle entry of the gradient of a variance, and the gradient of a bias before a normalisation, are 0."""
    x = 2000.0 + np.arange(5.0)
    report = nm.precision_report(nm.grad(np.var), (x,))
    assert report.ok, str(report)

    def normalised(w, b):
        y = nm.nn.layer_norm(w + b, np.ones(9), np.zeros(9))
        return np.sum(np.sin(y * np.arange(9.0)))

    w, b = np.random.default_rng(0).standard_normal((3, 9)), np.array([0.3])
    assert abs(nm.grad(normalised, 1)(w, b)[0]) < 1e-12
    report = nm.precision_report(nm.grad(normalised, (0, 1)), (w, b))
    assert report.ok, str(report)
