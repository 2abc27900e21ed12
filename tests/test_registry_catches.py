"""The registry's checks can fail: primitives that are wrong on purpose, and what reports them."""

import numpy as np
import pytest
import registry_checks as checks
from oracles import ORACLES
from registry_checks import Case

import nnmath_core as nm
from nnmath_core._ext._autodiff import Aval, dtype_of
from nnmath_core.autodiff.primitive import REGISTRY, Primitive, Special, sample

SUM, MAX, RELU, SOFTMAX = (REGISTRY[name] for name in ("sum", "max", "relu", "softmax"))


def tanh_like(rule=lambda g, xs, y: g * (1.0 - y * y), **changes):
    """Return tanh with something changed; its name is unknown to the kernels."""
    declared = {
        "forward": "tanh",
        "elementwise": True,
        "vjp": (rule,),
        "keeps": ("y",),
        "samples": lambda d: [sample(d.normal(3, 4))],
        "register": False,
    }
    return Primitive("tanh_like", **{**declared, **changes})


def softmax_like(**changes):
    declared = {
        "forward": SOFTMAX.forward,
        "vjp": SOFTMAX.vjp,
        "jvp": SOFTMAX.jvp,
        "keeps": SOFTMAX.keeps,
        "through": SOFTMAX.through,
        "shape": SOFTMAX.shape_rule,
        "batch": lambda on, v, size, *, axis: SOFTMAX(v[0], axis=tuple(a + 1 for a in axis)),
        "samples": lambda d: [sample(d.normal(4, 4), axis=(1,))],
        "register": False,
    }
    return Primitive("softmax_like", **{**declared, **changes})


def first_case(p, dtype=np.float64):
    return Case.of(p, p.draw_samples()[0], dtype, f"{p.name}-0")


CHECKS = {
    name: getattr(checks, f"check_{name}")
    for name in ("shape", "jvp_differences", "adjoint", "second_order", "vmap",
                 "vmap_of_derivatives", "dtypes", "keeps", "staged")
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("make", [tanh_like, softmax_like])
def test_the_right_primitives_pass(make, check, dtype):
    if check != "jvp_differences" or dtype is np.float64:
        CHECKS[check](first_case(make(), dtype))


def hides_its_derivative(g, xs, y):
    return g * (1.0 - nm.value_of(y) ** 2)


def knows_its_tracer(g, xs, y):
    return g * (1.0 - y * y) * (1.0 if isinstance(y, np.ndarray) else 1.0001)


WRONG = {
    "factor": ("jvp_differences", lambda: tanh_like(lambda g, xs, y: g * (1.0001 - y * y))),
    "factor of one rule": (
        "adjoint",
        lambda: softmax_like(
            vjp=(lambda g, xs, y, *, axis: 1.0001 * SOFTMAX.vjp[0](g, xs, y, axis=axis),)
        ),
    ),
    "transpose forgotten": (
        "adjoint",
        lambda: softmax_like(
            vjp=(lambda g, xs, y, *, axis: y * g - SUM(g * y, axis=axis, keepdims=True),)
        ),
    ),
    "second derivative hidden": ("second_order", lambda: tanh_like(hides_its_derivative)),
    "float64 constant": (
        "dtypes",
        lambda: tanh_like(lambda g, xs, y: g * (np.float64(1.0) - y * y)),
    ),
    "float64 mask": (
        "dtypes",
        lambda: tanh_like(lambda g, xs, y: g * np.where(y > 0, 1.0, 1.0 - 1e-30) * (1.0 - y * y)),
    ),
    "output not kept": ("keeps", lambda: tanh_like(keeps=("",))),
    "operand not kept": (
        "keeps",
        lambda: tanh_like(lambda g, xs, y: g * (1.0 - y * np.tanh(xs[0]))),
    ),
    "not kept by a general rule": ("keeps", lambda: softmax_like(keeps=("0",))),
    "not kept by `selects`": (
        "keeps",
        lambda: tanh_like(selects=lambda i, xs, y: xs[0] > 0),
    ),
    "not kept by `through`": (
        "keeps",
        lambda: softmax_like(through=lambda m, i, xs, y, *, axis: m & (xs[0] > 0)),
    ),
    "shape": (
        "shape",
        lambda: softmax_like(shape=lambda x, *, axis: Aval(x.shape[1:], dtype_of(x))),
    ),
    "dtype of the shape rule": (
        "shape",
        lambda: softmax_like(shape=lambda x, *, axis: Aval(x.shape, np.dtype(np.float64))),
    ),
    "axis not moved by vmap": (
        "vmap",
        lambda: softmax_like(batch=lambda on, v, size, *, axis: SOFTMAX(v[0], axis=axis)),
    ),
    "batch axis last": (
        "vmap",
        lambda: softmax_like(
            batch=lambda on, v, size, *, axis: np.moveaxis(
                SOFTMAX(v[0], axis=(axis[0] + 1,)), 0, -1
            )
        ),
    ),
    "batch rule that breaks derivatives": (
        "vmap_of_derivatives",
        lambda: softmax_like(
            batch=lambda on, v, size, *, axis: nm.stop_gradient(SOFTMAX(v[0], axis=(axis[0] + 1,)))
        ),
    ),
    "staged differs from eager": ("staged", lambda: tanh_like(knows_its_tracer)),
}


@pytest.mark.parametrize(("check", "make"), WRONG.values(), ids=WRONG)
def test_a_wrong_primitive_is_reported(check, make):
    dtype = np.float32 if check in ("dtypes", "shape") else np.float64
    with pytest.raises(AssertionError):
        CHECKS[check](first_case(make(), dtype))


def test_a_wrong_forward_function_is_reported():
    checks.check_forward(first_case(tanh_like()), ORACLES["tanh"])
    nearly = tanh_like(forward=lambda be, x: be.xp.tanh(x) * (1 + 1e-14))
    with pytest.raises(AssertionError, match="forward: off by"):
        checks.check_forward(first_case(nearly), ORACLES["tanh"])


def test_a_wrong_special_point_is_reported():
    right = tanh_like(special=[Special("tanh at 0", (0.0,), (1.0,))])
    wrong = tanh_like(special=[Special("tanh at 0", (0.0,), (0.5,))])
    checks.check_special(right, right.special[0], np.float64)
    with pytest.raises(AssertionError, match="tanh at 0: reverse: off by"):
        checks.check_special(wrong, wrong.special[0], np.float64)


def test_constant_and_missing_operands_are_reported():
    with pytest.raises(AssertionError, match="constant operand"):
        checks.check_samples(tanh_like(samples=lambda d: [sample(np.ones(3))]))
    with pytest.raises(AssertionError, match="no array"):
        checks.check_samples(tanh_like(samples=lambda d: [sample(1.5)]))
    with pytest.raises(AssertionError, match="nothing to differentiate"):
        checks.check_samples(tanh_like(samples=lambda d: [sample(np.arange(3))]))


def test_the_complex_step_tells_analytic_functions():
    assert checks.takes_complex_steps(first_case(tanh_like()))
    assert not checks.takes_complex_steps(first_case(tanh_like(lambda g, xs, y: g * (1.0 - y))))
    assert not checks.takes_complex_steps(
        first_case(tanh_like(forward=lambda be, x: be.xp.tanh(x.real)))
    )


# ------------------------------------------------------------------------------------------- masks
SINGULAR, REGULAR = np.array([0.0, 0.3, 0.9]), np.array([0.1, 0.3, 0.9])


def relu_like(**changes):
    """Return relu with something changed; its name is unknown to the kernels."""
    declared = {
        "forward": RELU.forward,
        "elementwise": True,
        "vjp": (lambda g, xs, y: np.where(xs[0] > 0, g, 0.0),),
        "keeps": ("0",),
        "selects": lambda i, xs, y: xs[0] > 0,
        "samples": lambda d: [sample(d.apart(3, 4))],
        "register": False,
    }
    return Primitive("relu_like", **{**declared, **changes})


def masked_by_relu(p):
    return lambda x: np.sum(p(np.sqrt(x) - 0.4))


def test_right_masks_pass():
    checks.check_mask(masked_by_relu(relu_like()), SINGULAR, REGULAR, 0)


@pytest.mark.parametrize(
    "selects",
    [None, lambda i, xs, y: xs[0] <= 0, lambda i, xs, y: xs[0] < 10, lambda i, xs, y: xs[0] > 10],
    ids=["missing", "inverted", "too wide", "too narrow"],
)
def test_wrong_selections_are_reported(selects):
    with pytest.raises(AssertionError):
        checks.check_mask(masked_by_relu(relu_like(selects=selects)), SINGULAR, REGULAR, 0)


def hidden_row(p):
    """Row 0 of p(sqrt(x)) is masked out; entry 0 of x is in row 0."""

    def f(x):
        u = np.sqrt(np.reshape(x, (2, 3)))
        return np.sum(np.where(np.array([[False], [True]]), p(u, axis=(1,)), 0.0)[:, :2])

    return f


@pytest.mark.parametrize(
    ("through", "right"),
    [
        (SOFTMAX.through, True),
        (None, False),
        (lambda m, i, xs, y, *, axis: ~m, False),
        (lambda m, i, xs, y, *, axis: m & False, False),
        (lambda m, i, xs, y, *, axis: m, False),
    ],
    ids=["right", "missing", "inverted", "nothing is live", "not spread over the slice"],
)
def test_wrong_ways_back_are_reported(through, right):
    singular = np.array([0.0, 0.5, 0.7, 0.2, 0.6, 0.9])
    regular = np.array([0.1, 0.5, 0.7, 0.2, 0.6, 0.9])
    f = hidden_row(softmax_like(through=through))
    if right:
        checks.check_mask(f, singular, regular, 0)
    else:
        with pytest.raises(AssertionError):
            checks.check_mask(f, singular, regular, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"forward": lambda be, x, *, slope: slope * x},
        {"special": (Special("0", (0.0,), (1.0,), {"slope": 2.0}),)},
    ],
)
def test_an_elementwise_primitive_with_parameters_cannot_be_declared(changes):
    with pytest.raises(TypeError, match="'tanh_like': an elementwise primitive has no parameters"):
        tanh_like(**changes)


def test_samples_of_an_elementwise_primitive_have_no_parameters():
    p = tanh_like(samples=lambda d: [sample(d.normal(3)), sample(d.normal(3), slope=2.0)])
    with pytest.raises(TypeError, match="'tanh_like': an elementwise primitive has no parameters"):
        p.draw_samples()


def test_a_blanket_zero_is_reported():
    """A rule by which 0 times anything is 0 gives 0 for the derivative 1 of sqrt(x)**2 at 0."""

    def sqrt_rule(g, xs, y):
        zero = np.equal(g, 0)
        return np.where(zero, 0.0, g * (0.5 / y))

    blanket = Primitive(
        "blanket_sqrt",
        forward="sqrt",
        elementwise=True,
        vjp=(sqrt_rule,),
        keeps=("y",),
        samples=lambda d: [sample(d.positive(3))],
        register=False,
    )
    with np.errstate(all="ignore"):
        assert nm.grad(lambda x: blanket(x) * blanket(x))(0.0) == 0  # plausible and wrong
        assert np.isnan(nm.grad(lambda x: np.sqrt(x) * np.sqrt(x))(0.0))  # ours
