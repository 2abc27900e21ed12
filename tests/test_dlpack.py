"""DLPack both ways: arrays of other libraries come in without a copy, ours go out; a traced array never does."""

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import DeviceError, NnmathError


class Other:
    """An array of another library: it speaks DLPack and nothing else."""

    def __init__(self, data):
        self.data = data
        self.asked = []

    def __dlpack_device__(self):
        return self.data.__dlpack_device__()

    def __dlpack__(self, **options):
        self.asked.append(options)
        return self.data.__dlpack__(**options)


DTYPES = ["bool", "int8", "uint16", "int64", "float32", "float64", "complex64", "complex128"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_of_other_libraries_come_in_without_a_copy(dtype):
    data = np.ones((2, 3), dtype)
    y = nm.numpy.from_dlpack(Other(data))
    assert type(y) is np.ndarray
    assert y.dtype == dtype
    assert np.shares_memory(y, data)
    assert np.array_equal(y, data)
    strided = nm.numpy.from_dlpack(Other(data[:, ::2]))
    assert np.shares_memory(strided, data)


def test_copy_and_device_are_kept():
    data = np.ones(3)
    assert not np.shares_memory(nm.numpy.from_dlpack(Other(data), copy=True), data)
    for device in (None, "cpu", nm.device("cpu")):
        for copy in (None, False):
            assert np.shares_memory(
                nm.numpy.from_dlpack(Other(data), device=device, copy=copy), data
            )
    with pytest.raises(DeviceError):
        nm.numpy.from_dlpack(Other(data), device="tpu")
    with pytest.raises(AttributeError, match="__dlpack"):
        nm.numpy.from_dlpack([1.0, 2.0])


def test_results_go_out_without_a_copy():
    g = nm.grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    out = np.from_dlpack(Other(g))
    assert np.shares_memory(out, g)
    assert out.tolist() == [2.0, 4.0]


def test_an_imported_array_is_differentiated_like_any_other():
    data = np.array([1.0, 2.0, 3.0])
    x = nm.numpy.from_dlpack(Other(data))
    assert np.array_equal(nm.grad(lambda x: np.sum(x**3))(x), 3 * data**2)
    # NumPy imports it read-only; a constant of the function may be that
    assert np.array_equal(nm.grad(lambda y: np.sum(x * y))(data), data)


@pytest.mark.parametrize(
    "door", [np.from_dlpack, nm.numpy.from_dlpack], ids=["numpy", "nnmath_core.numpy"]
)
@pytest.mark.parametrize("transform", ["grad", "jvp", "vmap", "stage"])
def test_a_traced_array_does_not_go_out(door, transform):
    x = np.ones((2, 3))
    run = {
        "grad": lambda f: nm.grad(f)(x),
        "jvp": lambda f: nm.jvp(f, (x,), (x,)),
        "vmap": lambda f: nm.vmap(f)(x),
        "stage": lambda f: nm.stage(f, x),
    }[transform]
    text = r"no `__dlpack(_device)?__`. It would share memory that has lost its deriv"
    if door is np.from_dlpack and np.lib.NumpyVersion(np.__version__) < "2.1.0":
        text = "not callable"  # it looks at the type, not at the array
    with pytest.raises(TypeError, match=text):
        run(lambda x: np.sum(door(x)))


def test_other_libraries_see_that_a_traced_array_has_no_dlpack():
    def f(x):
        assert not hasattr(x, "__dlpack__")
        assert not hasattr(x, "__dlpack_device__")
        return x.sum()

    nm.grad(f)(np.ones(2))


def test_torch_tensors_come_in_and_gradients_go_out():
    torch = pytest.importorskip("torch")
    t = torch.arange(3, dtype=torch.float64)
    x = nm.numpy.from_dlpack(t)
    x[0] = 5.0
    assert t[0] == 5.0
    g = nm.grad(lambda x: np.sum(x**2))(x)
    back = torch.from_dlpack(g)
    back[1] = -1.0
    assert g[1] == -1.0
    with pytest.raises((NnmathError, TypeError, RuntimeError)):
        nm.grad(lambda x: np.sum(torch.from_dlpack(x)))(x)
