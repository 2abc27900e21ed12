"""Code that needs a namespace alone runs on arrays that are not NumPy's, on a device, and without float64.

array-api-strict has devices that refuse what a GPU refuses: its arrays on `device1` become no NumPy arrays and meet no
arrays of another device, and those on `no_float64` have no element of 64-bit floating point. A backend is made of its
namespace; the primitives whose definition the standard can express, and losses, activations, schedules and steps made
of them, with their gradients, run there by definition and give the host's numbers.
"""

import functools
import importlib
import pkgutil
import re

import array_api_strict as standard
import loss_cases
import numpy as np
import pytest
import scipy.special

import nnmath_core as nm
import nnmath_core.autodiff.ops as ops
from nnmath_core._ext._autodiff import Var
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.device import CPU, Backend
from nnmath_core.errors import DtypeError

# NumPy's spelling -> the standard's
SPELLED = {
    "absolute": "abs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh", "arctan": "atan",
    "arctan2": "atan2", "arctanh": "atanh", "array": "asarray", "concatenate": "concat", "conjugate": "conj",
    "cumsum": "cumulative_sum", "cumprod": "cumulative_prod", "invert": "bitwise_invert",
    "left_shift": "bitwise_left_shift", "power": "pow", "right_shift": "bitwise_right_shift", "rint": "round",
    "transpose": "permute_dims",
}  # fmt: skip
ARRAY = type(standard.zeros(0))
CREATES = ("arange", "asarray", "empty", "eye", "full", "linspace", "ones", "zeros")
# what NumPy takes by position and the standard by name, behind the arrays and shapes
NAMED = {
    "asarray": ("dtype",), "concat": ("axis",), "empty": ("dtype",), "flip": ("axis",), "full": ("dtype",),
    "ones": ("dtype",), "repeat": ("axis",), "tril": ("k",), "triu": ("k",), "zeros": ("dtype",),
}  # fmt: skip
FIRST = {"full": 2, "repeat": 2}


class Namespace:
    """The standard's functions by NumPy's names, with arguments where NumPy has them, for one device."""

    def __init__(self, device):
        self.device = device

    def __getattr__(self, name):
        name = SPELLED.get(name, name)
        f = getattr(standard, name)
        if not callable(f) or isinstance(f, type):
            return f

        @functools.wraps(f)
        def call(*args, **keywords):
            first = FIRST.get(name, 1) if name in NAMED else len(args)
            keywords |= zip(NAMED.get(name, ()), args[first:], strict=False)
            if keywords.get("dtype") is not None:
                keywords["dtype"] = standard_dtype(keywords["dtype"])
            if name in CREATES:
                keywords["device"] = self.device
            if name == "argsort" and keywords.pop("kind", "stable") == "stable":
                keywords["stable"] = True
            return f(*args[:first], **keywords)

        return call


def standard_dtype(dtype):
    return dtype if hasattr(dtype, "_np_dtype") else getattr(standard, np.dtype(dtype).name)


class Special:
    """SciPy's special functions in the place of the device's own: arrays of one device go in and come out."""

    def __init__(self, device):
        self.device = device

    def __getattr__(self, name):
        f = getattr(scipy.special, name)

        def call(*args):
            assert all(x.device == self.device for x in args if isinstance(x, ARRAY))
            made = f(*(x._array if isinstance(x, ARRAY) else x for x in args))
            return standard.asarray(np.asarray(made), device=self.device)

        return call


class StrictBackend(Backend):
    """The meaning of every operation, on arrays of array-api-strict."""

    name = "strict"
    device = CPU

    def __init__(self, device):
        self.place = standard.Device(device)
        self.xp = Namespace(self.place)
        self._special = Special(self.place)

    @property
    def special(self):
        return self._special

    def from_host(self, x):
        return standard.asarray(np.asarray(x), device=self.place)

    def to_host(self, x):
        assert x.device == self.place
        return x._array

    def contract(self, x, y, *, spec):
        """Multiply with all letters as axes, and sum: `Contraction` uses methods of NumPy's arrays."""
        a, b, out = spec
        inner = sorted({*a, *b} - {*out})
        lined = []
        for v, own in ((x, a), (y, b)):
            order = [c for c in (*out, *inner) if c in own]
            v = standard.permute_dims(v, tuple(own.index(c) for c in order))
            for axis, c in enumerate((*out, *inner)):
                v = v if c in own else standard.expand_dims(v, axis=axis)
            lined.append(v)
        product = standard.multiply(*lined)
        return standard.sum(product, axis=tuple(range(len(out), product.ndim)), dtype=product.dtype)


def logsumexp(be, x, *, axis, keepdims):
    """The primitive's own definition subtracts booleans, which NumPy and CuPy do and the standard does not."""
    top = standard.max(x, axis=axis, keepdims=True)
    y = standard.log(standard.sum(standard.exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else standard.squeeze(y, axis=axis)


def run(backend, program, leaves):
    """Run the equations of a program on a backend by definition; the results on the host."""
    env = {v: backend.from_host(x) for v, x in program.constants.items()}
    env |= zip(program.inputs, map(backend.from_host, leaves), strict=True)

    def value(x):
        if isinstance(x, Var):
            return env[x]
        return backend.from_host(x) if isinstance(x, np.generic) else x

    for e in program.equations:
        f = e.primitive.on(backend)
        if e.primitive.name == "logsumexp":
            f = functools.partial(logsumexp, backend)
        found = f(*map(value, e.operands), **e.params)
        env |= zip(e.outputs, found if isinstance(found, tuple) else (found,), strict=True)
    return [backend.to_host(value(x)) for x in program.outputs]


# ---------------------------------------------------------------------------------------------- primitives
# What an array says that is on another device than it should be, or of an element type that its device lacks.
REFUSED = re.compile(
    r"Can not convert array on|two different devices|different device|Could not convert|does not support dtype"
)

# NumPy functions of arrays stand in these definitions; CuPy's arrays answer to them (NEP 18), on their device.
NUMPY_OF_ARRAYS = {"alike", "convolve", "gauge", "rotation", "rotations"}

# A sample asks for float64, or the function exists in double precision alone and its result is rounded.
WIDE = {"astype", "eig", "expn", "lambertw", "spherical_yn", "yn"}


# How the standard says that something is NumPy's alone; a warning, of comparing its dtypes with NumPy's.
BEYOND = (AttributeError, DtypeError, IndexError, RuntimeError, TypeError, UserWarning, ValueError)


@functools.cache
def outcomes(device, dtype):
    """Run every sample of every primitive: name -> None where the standard can express it, else why not."""
    for found in pkgutil.iter_modules(ops.__path__):
        importlib.import_module(f"{ops.__name__}.{found.name}")
    backend, said = StrictBackend(device), {}
    for name, primitive in REGISTRY.items():
        if primitive.library != "absent":
            try:
                for sample in primitive.draw_samples():
                    compare(backend, primitive, sample, dtype)
            except BEYOND as error:
                said[name] = f"{type(error).__name__}: {error}"
            else:
                said[name] = None
    return said


def compare(backend, primitive, sample, dtype):
    """Compare a sample with the host's result."""
    operands = [cast(x, dtype) for x in sample.operands]
    there = [backend.from_host(x) if isinstance(x, np.ndarray) else x for x in operands]
    got, want = (
        primitive.on(backend)(*there, **sample.params),
        primitive.host(*operands, **sample.params),
    )
    if not isinstance(want, tuple):
        got, want = (got,), (want,)
    for a, b in zip(got, want, strict=True):
        close(backend.to_host(a), b)


def cast(x, dtype):
    """Return a floating operand in ``dtype``, others as they are."""
    if isinstance(x, np.ndarray | np.generic):
        return np.asarray(x, dtype if x.dtype.kind == "f" else None)
    return x


def close(got, want):
    want = np.asarray(want)
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if (
        want.dtype.kind in "fc"
    ):  # the same loops of NumPy; sums and products may run in another order
        eps = np.finfo(want.dtype).eps
        np.testing.assert_allclose(got, want, rtol=256 * eps, atol=256 * eps)
    else:
        np.testing.assert_array_equal(got, want)


DEVICES = [("device1", np.float64), ("no_float64", np.float32)]


@pytest.mark.parametrize(("device", "dtype"), DEVICES)
def test_primitives_that_the_standard_can_express_give_the_hosts_numbers(device, dtype):
    expressed = {name for name, why in outcomes(device, dtype).items() if why is None}
    assert expressed >= {name for name, p in REGISTRY.items() if is_plain(p)}
    assert len(expressed) > 140  # and many whose definition is more than a name


def is_plain(primitive):
    """Whether the forward is a name that the standard has."""
    name = primitive.forward
    return isinstance(name, str) and hasattr(standard, SPELLED.get(name, name))


@pytest.mark.parametrize(("device", "dtype"), DEVICES)
def test_no_primitive_leaves_its_device_or_its_precision(device, dtype):
    found = {k for k, why in outcomes(device, dtype).items() if why and REFUSED.search(why)}
    assert found == NUMPY_OF_ARRAYS | (WIDE if dtype == np.float32 else set())


# ---------------------------------------------------------------------------------------------- compositions
P, Q = np.random.default_rng(3).standard_normal((2, 3, 4))
ACTIVATIONS = (
    "elu", "gelu", "hard_sigmoid", "hard_swish", "hard_tanh", "leaky_relu", "log_sigmoid", "mish", "relu", "relu6",
    "selu", "sigmoid", "silu", "softplus", "tanh",
)  # fmt: skip


def loss_case(name):
    loss, prediction, target = loss_cases.CLOSED[name]
    rng = np.random.default_rng(0)
    return loss, (prediction(rng), target(rng))


def network(params, x):
    """Two layers, the second normalised by what its rows spread."""
    h = np.tanh(x @ params["w"] + params["b"])
    h = (h - np.mean(h, axis=1, keepdims=True)) / np.sqrt(np.var(h, axis=1, keepdims=True) + 1e-3)
    return np.sum(np.where(h > 0, h, 0.1 * h) ** 2)


def decayed(step):
    """A learning rate that rises and falls with the number of steps."""
    return np.where(step < 10.0, step / 10.0, 0.5 * (1.0 + np.cos(np.pi * (step - 10.0) / 90.0)))


def adam(w, m, v, g):
    """One step by the rule of the optimizers, at a rate from a schedule."""
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    return w - 1e-3 * m / (np.sqrt(v) + 1e-8), m, v


CASES = {
    **{f"loss: {name}": loss_case(name) for name in loss_cases.CLOSED},
    **{f"activation: {name}": (getattr(nm.nn, name), (P,)) for name in ACTIVATIONS},
    "network": (network, ({"w": Q.T, "b": np.ones(3)}, P)),
    "schedule": (decayed, (np.array([0.0, 5.0, 40.0, 100.0]),)),
    "step": (adam, (P, Q, Q * Q, P - Q)),
}

# of the gradient alone: masks are summed as booleans, and a mean over classes picks rows by `x[:, None]` of three axes
NUMPY_GRADIENTS = {f"loss: hinge, {kind}, {power}" for kind in ("mean", "max") for power in (1, 2)}


@pytest.mark.parametrize(("device", "dtype"), DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_compositions_and_their_gradients_run_there(name, device, dtype):
    f, args = CASES[name]
    args = nm.tree_map(lambda x: cast(x, dtype), args)
    if name.startswith("loss"):  # a tree of its options
        f = nm.tree_map(lambda x: cast(x, dtype), f)

    def gradient(*args):
        return nm.grad(lambda first: sum(np.sum(y) for y in nm.tree_leaves(f(first, *args[1:]))))(
            args[0]
        )

    for g in (f,) if name in NUMPY_GRADIENTS else (f, gradient):
        program = nm.stage(g, *args)
        want = nm.tree_leaves(program(*args))
        for a, b in zip(
            run(StrictBackend(device), program, nm.tree_leaves(args)), want, strict=True
        ):
            close(a, b)


# ---------------------------------------------------------------------------------------------- the checks see faults
@pytest.mark.parametrize(
    "forward",
    [
        lambda be, x: be.xp.add(x, np.ones(3)),  # an array of the host
        lambda be, x: be.xp.add(x, standard.ones(3)),  # of another device
        lambda be, x: be.from_host(np.asarray(x) + 1),  # to the host and back
        lambda be, x: be.xp.astype(x, standard.float64),  # wider than it was
    ],
)
def test_a_planted_fault_is_seen(forward):
    backend = StrictBackend("no_float64")
    x = backend.from_host(np.ones(3, np.float32))
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        forward(backend, x)
