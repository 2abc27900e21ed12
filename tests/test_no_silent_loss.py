"""The promise of a traced array: what would lose a derivative is an error, in every transformation."""

import math
import operator

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.signal

import nnmath_core as nm

X = np.array([1.25, 0.75, 2.5])

THROUGH = {
    "grad": lambda f: nm.grad(f)(X),
    "jvp": lambda f: nm.jvp(f, (X,), (X,)),
    "hvp": lambda f: nm.hvp(f, (X,), (X,)),
    "linearize": lambda f: nm.linearize(f, X),
    "vmap": lambda f: nm.vmap(f)(np.stack([X, X])),
    "vmap of grad": lambda f: nm.vmap(nm.grad(f))(np.stack([X, X])),
    "stage": lambda f: nm.stage(f, X),
    "stage of grad": lambda f: nm.stage(nm.grad(f), X),
}


def stored(index, value):
    y = np.zeros(3)
    y[index] = value
    return y


def added(x):
    y = np.zeros(3)
    y += x
    return y


REFUSED = {
    "np.asarray(t)": np.asarray,
    "np.array(t)": np.array,
    "np.array([t, ...])": lambda x: np.array([x[0], x[1]]),
    "np.array([[t, ...]])": lambda x: np.array([[x[0], 1.0], [2.0, x[1]]]),
    "np.array([t, ...], object)": lambda x: np.array([x[0], x[1]], dtype=object),
    "np.full": lambda x: np.full(3, x[0]),
    "float(t)": lambda x: float(x[0]),
    "int(t)": lambda x: int(x[0]),
    "complex(t)": lambda x: complex(x[0]),
    "operator.index(t)": lambda x: operator.index(x[0]),
    "t.item()": lambda x: x[0].item(),
    "t.tolist()": lambda x: x.tolist(),
    "math.exp(t)": lambda x: math.exp(x[0]),
    "math.hypot(t, t)": lambda x: math.hypot(x[0], x[1]),
    "math.fsum(t)": lambda x: math.fsum(x),
    "np.float64(t)": lambda x: np.float64(x[0]),
    "np.float32(t)": lambda x: np.float32(x[0]),
    "y[i] = t": lambda x: stored(0, x[0]),
    "y[:] = t": lambda x: stored(slice(None), x),
    "y[mask] = t": lambda x: stored(X > 1.0, x[0]),
    "y += t": added,
    "np.exp(t, out=y)": lambda x: np.exp(x, out=np.zeros(3)),
    "np.sum(t, out=y)": lambda x: np.sum(x, out=np.zeros(())),
    "np.copyto(y, t)": lambda x: np.copyto(np.zeros(3), x),
    "np.add.at(y, i, t)": lambda x: np.add.at(np.zeros(3), [0], x[0]),
    "scipy.linalg.expm(t)": lambda x: scipy.linalg.expm(np.outer(x, x)),
    "scipy.signal.lfilter(t)": lambda x: scipy.signal.lfilter([1.0], [1.0, 0.5], x),
    "scipy.integrate.quad of a closure": lambda x: scipy.integrate.quad(
        lambda s: s * x[0], 0.0, 1.0
    ),
    "t[i] = v": lambda x: operator.setitem(x, 0, 1.0),
    "t += 1 on the caller's array": lambda x: operator.iadd(x, 1.0),
    "a view += 1": lambda x: operator.iadd((2.0 * x)[:2], 1.0),
    "hash(t)": hash,
}


@pytest.mark.parametrize("through", THROUGH)
@pytest.mark.parametrize("what", REFUSED)
def test_what_would_lose_a_derivative_is_an_error(what, through):
    ran = []

    def f(x):
        ran.append(True)
        REFUSED[what](x)
        pytest.fail("it returned")

    with pytest.raises((nm.TraceError, TypeError)) as caught:
        THROUGH[through](f)
    assert ran
    assert what == "hash(t)" or isinstance(caught.value, nm.TraceError), caught.value


@pytest.mark.parametrize("through", ["grad", "jvp", "hvp"])
def test_a_branch_on_a_value_is_allowed_where_there_is_one(through):
    THROUGH[through](lambda x: x[0] ** 2 if x[0] > 1.0 else x[1])


@pytest.mark.parametrize("through", ["vmap", "vmap of grad", "stage", "stage of grad"])
@pytest.mark.parametrize("ask", [bool, lambda c: 1.0 if c else 2.0, lambda c: not c])
def test_a_branch_on_no_one_value_is_refused(through, ask):
    with pytest.raises(nm.TraceError, match=r"np\.where"):
        THROUGH[through](lambda x: x[0] * ask(x[0] > 1.0))


@pytest.mark.parametrize("through", THROUGH)
@pytest.mark.parametrize(
    "name",
    [
        "__array_interface__",
        "__array_struct__",
        "__cuda_array_interface__",
        "__dlpack__",
        "__cupy_get_ndarray__",
        "__buffer__",
    ],
)
def test_no_protocol_hands_the_memory_out(through, name):
    def f(x):
        assert not hasattr(x, name)
        with pytest.raises((TypeError, BufferError)):
            memoryview(x)
        return np.sum(x)

    THROUGH[through](f)


@pytest.mark.parametrize("through", ["grad", "jvp", "vmap", "stage"])
@pytest.mark.parametrize(
    "use",
    [lambda t: t + 1.0, np.sin, lambda t: t[0], bool, float, np.asarray, lambda t: np.ones(3) @ t],
)
def test_a_tracer_used_after_its_end_is_leaked(through, use):
    kept = []
    THROUGH[through](lambda x: kept.append(x * 2.0) or np.sum(x))
    with pytest.raises(nm.TraceError, match="leaked"):
        use(kept[0][0] if use in (bool, float) else kept[0])


def test_value_of_takes_the_number_out_on_purpose():
    np.testing.assert_array_equal(nm.grad(lambda x: np.sum(x * nm.value_of(x)))(X), X)
    with pytest.raises(nm.TraceError):
        nm.vmap(nm.value_of)(np.stack([X, X]))
