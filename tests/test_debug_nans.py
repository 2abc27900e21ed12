"""debug_nans: the operation and the line of the first NaN, in every mode; nothing when it is off."""

import threading

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core._ext import _autodiff as core
from nnmath_core.autodiff.primitive import REGISTRY

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def line_of(f):
    """The first line of the body of a function."""
    return f"test_debug_nans.py:{f.__code__.co_firstlineno + 1}"


def root(x):
    return np.sum(np.sqrt(x) * np.array([0.0, 1.0]))


def found(call, *args, **kw):
    """The message of the error that a call under debug_nans raises."""
    with pytest.raises(nm.DomainError) as e, nm.debug_nans(**kw):
        call(*args)
    return str(e.value)


# ------------------------------------------------------------------------------------------ where it comes from
def test_forward_names_operation_line_and_operands():
    text = found(nm.numpy.log, np.array([2.0, -1.0, 0.0]))
    assert text.startswith("debug_nans: `log` returned NaN at test_debug_nans.py:")
    assert text.endswith("Its operand: 0: float64[3] in [-1, 2], 1 0.")


def test_small_arrays_large_arrays_and_numbers_are_all_looked_at():
    for x in (
        -1.0,
        np.float64(-1.0),
        np.float32(-1.0),
        -np.ones(3),
        -np.ones(10_000),
        -np.ones((2, 3), np.float32),
    ):
        assert "`sqrt` returned NaN" in found(nm.numpy.sqrt, x)
    inf = np.full(3, np.inf)
    for f, name in ((nm.numpy.subtract, "subtract"), (nm.numpy.divide, "divide")):
        text = found(f, inf, inf)
        assert f"`{name}` returned NaN" in text
        assert "float64[3], 3 infinite" in text
    assert "`contract` returned NaN" in found(
        nm.numpy.matmul, np.array([[np.inf, -np.inf]]), np.ones((2, 1))
    )
    assert "`sum` returned NaN" in found(nm.grad(lambda x: np.sum(x)), np.array([np.inf, -np.inf]))


def test_under_a_transformation_the_line_is_the_users():
    def f(x):
        return np.sum(np.log(x))

    for transformed in (
        nm.grad(f),
        lambda x: nm.jvp(f, (x,), (x,)),
        lambda x: nm.vmap(f)(x[None]),
        lambda x: nm.hvp(f, (x,), (x,)),
    ):
        text = found(transformed, np.array([1.0, -2.0]))
        assert f"`log` returned NaN at {line_of(f)} (return np.sum(np.log(x)))" in text


def test_backward_names_the_forward_line():
    text = found(nm.grad(root), np.array([0.0, 4.0]))
    assert text.startswith(
        f"debug_nans: the derivative of `sqrt` in reverse mode, called at {line_of(root)} (return np.sum(np.sqrt(x) "
    )
    assert (
        "The cotangent is float64[2] in [0, 1], 1 0. Its result: float64[2] in [0, 2], 1 0." in text
    )


def test_backward_of_general_operations_and_of_vjp():
    def f(x):
        return np.linalg.norm(x, ord=3)

    y, pull = nm.vjp(lambda x: np.prod(np.sqrt(x)), np.array([0.0, 1.0]))
    assert "called at a line that was not recorded" in found(pull, 0.0)
    assert "derivative of" in found(nm.grad(lambda x: np.std(x)), np.ones(3))
    assert y == 0
    with nm.debug_nans():
        assert np.isfinite(nm.grad(f)(np.array([0.0, 1.0]))).all()


def test_forward_mode_names_the_rule():
    text = found(lambda x: nm.jvp(root, (x,), (np.array([0.0, 1.0]),)), np.array([0.0, 4.0]))
    assert text.startswith(
        f"debug_nans: the derivative of `sqrt` in forward mode, called at {line_of(root)}"
    )


def test_second_order_names_the_operation():
    def f(x):
        return np.sum(x**1.5)

    x = np.array([0.0, 1.0])
    with nm.debug_nans():
        np.testing.assert_allclose(nm.grad(f)(x), [0.0, 1.5])
    text = found(nm.grad(lambda x: np.sum(nm.grad(f)(x) * np.array([0.0, 1.0]))), x)
    assert "derivative of" in text
    assert line_of(f) in text


def test_programs_and_control_flow():
    program = nm.stage(lambda x: np.log(x - 1.0), np.ones(2))
    assert "`log` returned NaN" in found(program, np.zeros(2))

    def step(c, x):
        c = np.sqrt(c - x)
        return c, c

    def last(c, xs):
        return nm.scan(step, c, xs)[0]

    xs = np.array([1.0, 5.0])
    with nm.debug_nans():
        staged, slope = nm.stage(last, 2.0, xs), nm.stage(nm.grad(last), 2.0, xs)
    for f in (
        staged,
        slope,
        nm.grad(last),
        nm.stage(lambda c, xs: nm.jvp(last, (c, xs), (c, xs)), 2.0, xs),
    ):
        assert "`sqrt` returned NaN" in found(f, 2.0, xs)
    assert "NaN" in found(nm.grad(lambda c: last(c, xs) * 0.0), 6.0)


def test_recomputed_calls_are_looked_at():
    def f(x):
        return np.sum(np.sqrt(x) * np.array([0.0, 1.0]))

    text = found(nm.grad(nm.checkpoint(f)), np.array([0.0, 4.0]))
    assert f"derivative of `sqrt` in reverse mode, called at {line_of(f)}" in text


# ------------------------------------------------------------------------------------------ what is no error
def test_what_comes_in_is_not_blamed():
    x = np.array([np.nan, 1.0])
    with nm.debug_nans():
        assert np.isnan(nm.numpy.exp(x)[0])
        assert np.isnan(nm.grad(lambda x: np.sum(np.exp(x)))(x)[0])
        assert np.isnan(nm.jvp(np.exp, (np.ones(2),), (x,))[1][0])


def test_masked_entries_of_the_backward_pass_are_zero_and_no_error():
    def f(x):
        return np.sum(np.where(x > 0, np.sqrt(x), 0.0))

    with nm.debug_nans():
        np.testing.assert_array_equal(nm.grad(f)(np.array([0.0, 4.0])), [0.0, 0.25])
        # the rule takes the logarithm of -1, in an entry that is not selected
        base = np.array([-1.0, 2.0])
        slope = nm.grad(lambda p: np.sum(np.where(base > 0, base**p, 0.0)))(2.0)
        np.testing.assert_allclose(slope, 4 * np.log(2.0))
        for g in (np.linalg.norm, lambda x: np.hypot(x[0], x[1])):
            np.testing.assert_array_equal(nm.grad(g)(np.zeros(2)), [0.0, 0.0])


def test_infinities_only_on_request():
    x = np.array([0.0, 1.0])
    with nm.debug_nans():
        assert nm.numpy.log(x)[0] == -np.inf
    assert "`log` returned infinity" in found(nm.numpy.log, x, infinities=True)
    big = np.array([100.0], np.float32)
    assert "`exp` returned infinity" in found(
        nm.grad(lambda x: np.sum(np.exp(x))), big, infinities=True
    )
    with nm.debug_nans(infinities=True):
        assert nm.numpy.exp(np.array([np.inf]))[0] == np.inf
    with (
        pytest.raises(nm.DomainError, match=r"^debug_nans: `infinities` must be one of"),
        nm.debug_nans(infinities=2),
    ):
        pass


SKIPPED = {"rotation", "rotations"}


@pytest.mark.parametrize("name", [n for n, p in REGISTRY.items() if p.samples is not None])
def test_results_are_the_same_bits_and_samples_raise_nothing(name):
    p = REGISTRY[name]
    for s in p.draw_samples():
        plain = p(*s.operands, **s.params)
        with nm.debug_nans():
            watched = p(*s.operands, **s.params)
        for a, b in zip(*((y if p.several else (y,)) for y in (plain, watched)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_gradients_are_the_same_bits():
    def f(x):
        return np.sum(np.tanh(x * 0.9) ** 2 / (1 + np.exp(-x)))

    x = np.linspace(-2, 2, 11)
    plain = nm.grad(f)(x), nm.hvp(f, (x,), (x,)), nm.jvp(f, (x,), (x,))
    with nm.debug_nans():
        watched = nm.grad(f)(x), nm.hvp(f, (x,), (x,)), nm.jvp(f, (x,), (x,))
    for a, b in zip(plain, watched, strict=True):
        np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------------------ on and off
def test_it_ends_with_the_block_also_after_an_error():
    found(nm.numpy.log, -1.0)
    assert np.isnan(nm.numpy.log(-1.0))
    with nm.debug_nans():
        with nm.debug_nans(infinities=True), pytest.raises(nm.DomainError):
            nm.numpy.log(0.0)
        assert nm.numpy.log(0.0) == -np.inf
        with pytest.raises(nm.DomainError):
            nm.numpy.log(-1.0)
    assert np.isnan(nm.grad(root)(np.array([0.0, 4.0]))[0])


def test_it_is_a_decorator_too():
    @nm.debug_nans()
    def f(x):
        return nm.numpy.log(x)

    for _ in range(2):
        with pytest.raises(nm.DomainError):
            f(-1.0)


def test_other_threads_do_not_watch():
    seen = []

    def work():
        seen.append(nm.numpy.log(-1.0))
        seen.append(nm.grad(root)(np.array([0.0, 4.0]))[0])
        seen.append(nm.jvp(root, (np.array([0.0, 4.0]),), (np.array([0.0, 1.0]),))[1])

    with nm.debug_nans():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert np.isnan(seen).all()
    assert len(seen) == 3


def test_who_begins_to_watch_in_the_middle_of_a_gradient():
    def f(x):
        y = np.sqrt(x)
        with nm.debug_nans():
            return np.sum(y * np.array([0.0, 1.0]))

    assert np.isnan(nm.grad(f)(np.array([0.0, 4.0]))[0])
    core.add_watchers(1)
    try:  # somebody watches, and not in this thread
        assert np.isnan(nm.grad(root)(np.array([0.0, 4.0]))[0])
    finally:
        core.add_watchers(-1)
