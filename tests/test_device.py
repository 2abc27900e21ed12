"""Devices and backends: names, dispatch, transfer, and every operation against a plain oracle.

The fixture ``backend`` is the host, and a CUDA device where there is one. What only the Python side
of the CUDA backend decides (entering the device, checking a launch, saying what is missing) is
tested in ``test_device_cuda.py`` with a stand-in for CuPy.
"""

import inspect
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import scipy.special

from nnmath_core.config import show_config
from nnmath_core.device import (
    CPU,
    Backend,
    CpuBackend,
    CudaBackend,
    Device,
    backend_for,
    backend_of,
    cpu as cpu_module,
    current_default_device,
    current_matmul_precision,
    default_device,
    device,
    device_of,
    devices,
    matmul_precision,
    synchronize,
    to_device,
)
from nnmath_core.device.contract import Contraction, contraction
from nnmath_core.device.products import gemm_can
from nnmath_core.errors import DeviceError, DomainError, DtypeError, ShapeError

HOST = backend_for("cpu")


@pytest.fixture(params=[str(d) for d in devices()])
def backend(request):
    return backend_for(request.param)


@pytest.mark.gpu
def test_a_cuda_device_takes_part():
    try:
        device("cuda")
    except DeviceError as error:
        pytest.skip(str(error))


# ------------------------------------------------------------------------------------ names


def test_a_device_prints_as_its_name():
    assert str(device("cpu")) == "cpu"
    assert str(Device("cuda", 1)) == "cuda:1"
    assert repr(Device("cuda", 1)) == "Device('cuda:1')"


def test_a_device_is_a_frozen_value():
    assert device("cpu") is device(CPU) is CPU
    assert {Device("cuda", 1): "x"}[Device("cuda", 1)] == "x"
    assert pickle.loads(pickle.dumps(Device("cuda", 1))) == Device("cuda", 1)
    with pytest.raises(AttributeError, match="cannot assign to field 'kind'"):
        CPU.kind = "cuda"


@pytest.mark.parametrize("name", ["", "CPU", "cpu:0", "cuda:", "cuda:-1", "cuda:x", "tpu", " cpu"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(DeviceError, match='device: `name` must be "cpu", "cuda" or "cuda:<index>"'):
        device(name)


def test_a_gpu_is_called_cuda():
    with pytest.raises(DeviceError, match=r'got \'gpu\'\. NVIDIA GPUs are called "cuda"\.'):
        device("gpu")


@pytest.mark.parametrize("name", [0, None, b"cpu", ["cpu"]])
def test_a_name_is_a_string(name):
    with pytest.raises(DtypeError, match="device: `name` must be"):
        device(name)


def test_the_module_can_be_called_as_its_function():
    import nnmath_core.device

    module = sys.modules["nnmath_core.device"]
    assert module("cpu") is nnmath_core.device.device("cpu") is CPU


def test_devices_lists_the_cpu_first():
    assert devices()[0] == CPU
    assert len(set(devices())) == len(devices())


def test_cupy_is_imported_only_when_a_cuda_device_is_asked_for():
    program = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("cupy", "cupyx"):
            raise SystemExit(f"{name} was imported")
sys.meta_path.insert(0, Finder())
import numpy as np
from nnmath_core.device import *
x = np.ones(3)
assert device("cpu") == device_of(x) == device_of(2.0) == current_default_device()
to_device({"x": x}, "cpu")
synchronize("cpu")
backend_of(x, 2.0).contract(x, x, spec=("i", "i", ""))
with default_device("cpu"):
    backend_of(x)
print("never")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("never\n", "", 0)


# --------------------------------------------------------------------------- default device


def test_default_device_ends_with_its_block():
    with default_device("cpu") as d:
        assert d == current_default_device() == CPU
    with pytest.raises(KeyError), default_device("cpu"):
        raise KeyError
    assert current_default_device() == CPU


def test_default_device_nests_and_belongs_to_one_thread(monkeypatch):
    monkeypatch.setattr("nnmath_core.device.names.require_device", lambda index: None)
    seen = []
    with default_device("cuda:1"):
        with default_device("cuda:2"):
            thread = threading.Thread(target=lambda: seen.append(current_default_device()))
            thread.start()
            thread.join()
            assert current_default_device() == Device("cuda", 2)
        assert current_default_device() == Device("cuda", 1)
    assert seen == [CPU]
    assert current_default_device() == CPU


def test_matmul_precision_nests_and_belongs_to_one_thread():
    seen = []
    with matmul_precision("tf32") as p:
        with matmul_precision("float32") as q:
            assert (p, q, current_matmul_precision()) == ("tf32", "highest", "highest")
        thread = threading.Thread(target=lambda: seen.append(current_matmul_precision()))
        thread.start()
        thread.join()
        assert current_matmul_precision() == "tf32"
        assert show_config(mode="dicts")["matmul precision"] == "tf32"
    assert seen == ["highest"]
    with pytest.raises(KeyError), matmul_precision("tf32"):
        raise KeyError
    assert current_matmul_precision() == "highest"


@pytest.mark.parametrize("p", ["high", "default", 32, None, ["tf32"]])
def test_matmul_precision_refuses_other_names(p):
    with pytest.raises(DomainError, match=r"`p` must be one of 'highest', 'float32', 'tf32', got"):
        matmul_precision(p)


def test_the_cpu_does_not_read_the_precision():
    x = np.full((2, 2), 1 + 2.0**-12, np.float32)
    with matmul_precision("tf32"):
        np.testing.assert_array_equal(HOST.matmul(x, np.eye(2, dtype=np.float32)), x)


def test_gemm_can_says_what_cublas_walks_over():
    assert gemm_can(4, 5, 3, 3, 1, 5, 1, 5)
    assert gemm_can(4, 5, 3, 1, 4, 1, 3, 7)  # transposes, and rows of C that lie apart
    assert gemm_can(1, 1, 3, 0, 2, 4, 0, 0)  # vectors
    assert gemm_can(0, 5, 3, 0, 0, 0, 0, 0)
    assert not gemm_can(4, 5, 3, 6, 2, 5, 1, 5)  # every second column
    assert not gemm_can(4, 5, 3, 2, 1, 5, 1, 5)  # rows that overlap
    assert not gemm_can(4, 5, 3, 0, 1, 5, 1, 5)  # one row for all
    assert not gemm_can(4, 5, 3, -3, 1, 5, 1, 5)
    assert not gemm_can(4, 5, 3, 3, 1, 5, 1, 4)


def test_default_device_refuses_before_the_block():
    with pytest.raises(DeviceError, match="`name` must be"):
        default_device("tpu")
    assert current_default_device() == CPU


# ----------------------------------------------------------------------- where arrays live


@pytest.mark.parametrize("x", [np.ones(2), np.array(1), 1, 1.5, True, 2j, np.float32(1)])
def test_device_of_arrays_and_numbers_is_the_cpu(x):
    assert device_of(x) == CPU


def test_device_of_reads_the_device_of_a_traced_value():
    traced = type("Traced", (), {"device": Device("cuda", 1)})()
    assert device_of(traced) == Device("cuda", 1)


@pytest.mark.parametrize("x", [[1.0], {"w": 1.0}, "x", None])
def test_device_of_refuses_what_has_no_device(x):
    with pytest.raises(DtypeError, match="device_of: `x` must be an array or a number, got"):
        device_of(x)


def test_backend_of_host_values_is_the_host():
    for arrays in [
        (),
        (1.0,),
        (np.ones(2), 2),
        (np.float16(1), np.int8(2), True),
        (np.ma.ones(2),),
    ]:
        assert backend_of(*arrays) is HOST


def test_backend_of_names_what_is_no_array():
    with pytest.raises(DtypeError, match="add: `y` must be an array or a number, got a list"):
        backend_of(np.ones(2), [1.0], who="add", names=("x", "y"))
    with pytest.raises(DtypeError, match="backend_of: argument 1 must be an array or a number"):
        backend_of(np.ones(2), "x")


def test_backend_of_refuses_two_devices_and_names_both():
    traced = type("Traced", (), {"device": Device("cuda", 1)})()
    with pytest.raises(DeviceError) as caught:
        backend_of(np.ones(2), 2.0, traced, who="add", names=("x", "s", "y"))
    assert str(caught.value) == (
        "add: `y` must be on cpu as `x` is, got cuda:1. Nothing is moved in silence: "
        '`to_device(x, "cpu")`.'
    )
    with pytest.raises(DeviceError, match="argument 1 must be on cuda:1 as argument 0 is, got cpu"):
        backend_of(traced, np.ones(2))


def test_to_device_keeps_the_structure_and_moves_nothing_without_need(backend):
    x, tree = np.arange(3.0), {"b": [np.ones((2, 2), np.float32), 3, "text", None], "a": (1.5,)}
    assert to_device(x, "cpu") is x
    moved = to_device(tree, backend.device)
    assert device_of(moved["b"][0]) == backend.device
    assert moved["b"][1:] == [3, "text", None]
    assert to_device([np.float32, np.ndarray], backend.device) == [np.float32, np.ndarray]
    assert moved["a"] == (1.5,)
    again = to_device(moved, backend.device)
    assert again["b"][0] is moved["b"][0]
    back = to_device(moved, "cpu")["b"][0]
    assert back.dtype == np.float32
    assert np.array_equal(back, tree["b"][0])
    synchronize(backend.device)


def test_to_device_refuses_an_array_of_another_library():
    foreign = type("Foreign", (), {"__array__": lambda self: np.ones(2)})()
    with pytest.raises(
        DtypeError, match=r"to_device: `tree\['w'\]` cannot be moved to cpu: .* of an"
    ):
        to_device({"w": foreign}, "cpu")


def test_to_device_refuses_a_traced_value_of_another_device():
    traced = type("Traced", (), {"device": Device("cuda", 1)})()
    with pytest.raises(DtypeError, match=r"`tree\[0\]` .* it is a traced value\. Move the arrays"):
        to_device([traced], "cpu")


# ----------------------------------------------------------------------------- the mirror


def methods(cls):
    return {
        name: inspect.signature(value)
        for name, value in vars(cls).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }


@pytest.mark.parametrize("cls", [CpuBackend, CudaBackend])
def test_a_backend_has_the_signatures_of_the_base(cls):
    base = methods(Backend)
    own = methods(cls)
    extra = {"launch"} if cls is CudaBackend else set()  # the door to our kernels
    assert set(own) - set(base) == extra
    for name in set(own) & set(base):
        assert str(own[name]) == str(base[name]), name


def test_every_operation_is_a_method():
    assert set(Backend.operations) <= set(methods(Backend))
    public = set(methods(Backend)) - set(Backend.operations)
    assert public == {
        *("function", "scope", "synchronize", "ring", "asarray", "from_host", "to_host", "matmul"),
        "by_rows",  # asks for a kernel, which there may be or not
    }


def test_function_finds_operations_names_and_callables(backend):
    x = backend.from_host(np.array([0.0, 0.5]))
    square = backend.from_host(np.eye(2))

    def value(y):
        return backend.to_host(y)

    assert np.array_equal(value(backend.function("square")(x)), [0.0, 0.25])
    assert np.array_equal(value(backend.function("linalg.inv")(square)), np.eye(2))
    erf = scipy.special.erf([0.0, 0.5])
    # one rounding of the result on either side
    assert np.allclose(value(backend.function("special.erf")(x)), erf, rtol=4e-16, atol=0)
    assert backend.function("contract") == backend.contract
    scaled = backend.function(lambda be, x, *, factor: be.xp.add(x, x) * factor)
    assert np.array_equal(value(scaled(x, factor=3)), [0.0, 3.0])


@pytest.mark.parametrize("name", ["no_such_function", "linalg.nothing", "special.nothing"])
def test_function_refuses_an_unknown_name(backend, name):
    with pytest.raises(AttributeError, match=name.rpartition(".")[2]):
        backend.function(name)


def test_a_singular_matrix_raises_on_every_device(backend):
    with pytest.raises(np.linalg.LinAlgError):
        backend.function("linalg.inv")(backend.from_host(np.zeros((2, 2))))


# ------------------------------------------------------------------------------- contract


def random_case(rng):
    """Return a random spec and two operands of small integers, sizes 0 to 3, in any layout."""
    letters = list("abcdef"[: rng.integers(0, 7)])
    sizes = {c: int(rng.choice([0, 1, 2, 3, 1, 2, 3, 2, 3])) for c in letters}
    in_x, in_y = ("".join(rng.permutation(letters)[: rng.integers(0, 5)]) for _ in range(2))
    both = sorted({*in_x, *in_y})
    out = "".join(rng.permutation(both)[: rng.integers(0, len(both) + 1)])
    dtypes = (np.float32, np.float64, np.complex64, np.complex128, np.int8, np.int64, np.bool_)
    first = dtypes[rng.integers(len(dtypes))]
    second = first if rng.random() < 0.8 else dtypes[rng.integers(len(dtypes))]
    x, y = (draw(rng, [sizes[c] for c in s], d) for s, d in ((in_x, first), (in_y, second)))
    return (in_x, in_y, out), x, y


def draw(rng, shape, dtype):
    order = rng.permutation(len(shape))
    values = rng.integers(-3, 4, [shape[i] for i in order]).astype(dtype)
    if np.dtype(dtype).kind == "c":
        values = values + np.array(1j, dtype) * rng.integers(-3, 4, values.shape).astype(dtype)
    values = values.transpose(np.argsort(order)) if shape else values
    return values[::-1] if shape and rng.random() < 0.3 else values


def test_contract_is_einsum_for_random_specs():
    rng = np.random.default_rng(20)
    kinds = set()
    for _ in range(3000):
        spec, x, y = random_case(rng)
        found = HOST.contract(x, y, spec=spec)
        # integers below 4 in at most 3^6 terms: every dtype but int8, which wraps alike, is exact
        expected = np.einsum(f"{spec[0]},{spec[1]}->{spec[2]}", x, y)
        assert np.shape(found) == expected.shape, spec
        assert np.array_equal(found, expected), spec
        one = np.ones((1, 1))
        assert found.dtype == np.matmul(one.astype(x.dtype), one.astype(y.dtype)).dtype, spec
        in_x, in_y, out = map(set, spec)
        kinds |= {
            ("batch", bool(in_x & in_y & out)),
            ("contracted", bool((in_x & in_y) - out)),
            ("summed", bool((in_x ^ in_y) - out)),
            ("empty", 0 in (*x.shape, *y.shape)),
            ("size 1", 1 in (*x.shape, *y.shape)),
            ("scalar", not spec[2]),
        }
    assert len(kinds) == 12  # every kind of letter occurs and is absent


SPECS = [
    *[("ij", "jk", "ik"), ("ji", "jk", "ik"), ("ij", "kj", "ik"), ("ij", "kj", "ki")],
    *[("ij", "j", "i"), ("i", "ij", "j"), ("i", "i", ""), ("ij", "ij", ""), ("ij", "ji", "")],
    *[("bij", "bjk", "bik"), ("ibj", "kbj", "bik"), ("bi", "bi", "b"), ("ij", "ij", "ij")],
    *[("i", "j", "ij"), ("i", "j", "ji"), ("ijk", "ljk", "il"), ("ijk", "kjl", "il")],
    *[("ab", "cd", "ad"), ("ab", "bc", "c"), ("bija", "bajk", "kib")],
]


@pytest.mark.parametrize("spec", SPECS, ids="-".join)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_])
def test_contract_of_usual_specs(backend, spec, dtype):
    rng = np.random.default_rng(3)
    sizes = dict(zip("abcdijkl", [2, 3, 4, 2, 3, 4, 2, 3], strict=True))
    x, y = (rng.integers(-3, 4, [sizes[c] for c in labels]).astype(dtype) for labels in spec[:2])
    found = backend.contract(backend.from_host(x), backend.from_host(y), spec=spec)
    expected = np.einsum(f"{spec[0]},{spec[1]}->{spec[2]}", x, y)
    assert found.dtype == expected.dtype == dtype
    assert np.array_equal(backend.to_host(found), expected)


@pytest.mark.parametrize("spec", SPECS, ids="-".join)
def test_contract_is_one_product(spec):
    count = []

    def matmul(x, y):
        count.append((x.ndim, y.ndim))
        return np.matmul(x, y)

    x, y = (np.ones([2] * len(labels)) for labels in spec[:2])
    contraction(spec)(np, matmul, x, y)
    contracted = (set(spec[0]) & set(spec[1])) - set(spec[2])
    assert len(count) == bool(contracted)


@pytest.mark.parametrize(
    "spec", [("ij", "jk", "ik"), ("ji", "jk", "ik"), ("ij", "kj", "ki"), ("bij", "bjk", "bki")]
)
def test_contract_gives_a_contiguous_result_without_copying_operands(spec):
    x, y = (np.ones([3] * len(labels)) for labels in spec[:2])
    seen = []

    def matmul(x, y):
        seen.extend([x, y])
        return np.matmul(x, y)

    found = contraction(spec)(np, matmul, x, y)
    assert found.flags.c_contiguous
    assert all(np.shares_memory(view, x) or np.shares_memory(view, y) for view in seen)


@pytest.mark.parametrize(
    ("spec", "views"),
    [
        (("ijk", "ljk", "il"), (True, True)),
        (("jki", "jkl", "il"), (True, True)),
        (("jik", "kjl", "il"), (False, True)),  # adjacent in the second operand only
        (("jki", "jlk", "il"), (True, False)),
    ],
)
def test_contract_merges_adjacent_axes_without_copying(spec, views):
    x, y = (np.ones([2] * 3) for _ in range(2))
    seen = []
    contraction(spec)(np, lambda a, b: seen.extend([a, b]) or np.matmul(a, b), x, y)
    assert tuple(map(np.shares_memory, seen, (x, y))) == views


@pytest.mark.parametrize(
    ("spec", "x_shape", "y_shape", "looped"),
    [
        (("bi", "bi", "b"), (9, 512), (9, 512), True),
        (("bi", "bi", "b"), (9, 513), (9, 513), False),  # BLAS has the longer ones
        (("ib", "ib", "b"), (900, 9), (900, 9), True),  # unless they lie apart in memory
        (("bi", "ib", "b"), (9, 600), (600, 9), True),
        (("bijk", "bijk", "b"), (3, 8, 8, 8), (3, 8, 8, 8), True),
        (("bij", "bj", "bi"), (9, 8, 8), (9, 8), True),
        (("bij", "bj", "bi"), (9, 8, 9), (9, 9), False),
        (("bj", "ijb", "ib"), (9, 3), (4, 3, 9), True),
        (("bij", "bjk", "bik"), (9, 2, 2), (9, 2, 2), False),
        (("ij", "ij", ""), (3, 3), (3, 3), False),
        (("bij", "bi", "b"), (3, 2, 2), (3, 2), False),  # j is summed first
    ],
)
def test_contract_loops_over_batches_of_short_products(spec, x_shape, y_shape, looped):
    rng = np.random.default_rng(4)
    x, y = (rng.integers(-3, 4, s).astype(float) for s in (x_shape, y_shape))
    prepared = contraction(spec)
    found = prepared.looped(np.einsum, x, y)
    assert (found is not None) == looped
    want = prepared(np, np.matmul, x, y)
    for got in (found if looped else want, HOST.contract(x, y, spec=spec)):
        assert got.dtype == want.dtype
        assert np.array_equal(got, want)
    assert HOST.contract(x > 0, y > 0, spec=spec).dtype == np.bool_
    assert np.array_equal(
        HOST.contract(x > 0, y > 0, spec=spec), prepared(np, np.matmul, x > 0, y > 0)
    )


@pytest.mark.parametrize("spec", [("ii", "i", "i"), ("i", "j", "ii"), ("i", "j", "k")])
def test_contract_refuses_a_malformed_spec(spec):
    with pytest.raises(ShapeError, match="contract: `spec` must name each axis of an operand by a"):
        Contraction(spec)


def test_contract_refuses_two_lengths_of_one_letter():
    # (2, 3) and (3, 2) would merge to the same six entries
    with pytest.raises(
        ShapeError, match="axis 1 of `x` and axis 0 of `y`, both 'j', must have one"
    ):
        HOST.contract(np.ones((4, 2, 3)), np.ones((3, 2, 5)), spec=("ijk", "jkl", "il"))
    with pytest.raises(ShapeError, match="both 'b', must have one length, got"):
        HOST.contract(np.ones((1, 2)), np.ones((3, 2)), spec=("bi", "bi", "b"))


def test_products_of_unusual_strides_reach_blas(monkeypatch):
    monkeypatch.setattr(cpu_module, "_matmul", cpu_module._matmul_by_blas)
    rng = np.random.default_rng(0)
    y = rng.integers(-3, 4, (20, 20)).astype(float)
    wide = rng.integers(-3, 4, (40, 40)).astype(float)
    for x in [wide[::2, ::2], wide[:20, :20], wide[:20, :20][::-1], wide[:20, :20].T]:
        assert np.array_equal(HOST.matmul(x, y), np.einsum("ij,jk->ik", x, y))
    row = np.broadcast_to(wide[0, :20], (20, 20))
    assert cpu_module._strided_for_blas(row).flags.c_contiguous
    for plain in (wide, wide.T, wide[:20, :20], wide[:20, :20].T):
        assert cpu_module._strided_for_blas(plain) is plain


# ------------------------------------------------------------------------------ selections

INDICES = [
    (slice(1, 3),),
    (1,),
    (-1, slice(None, None, -2)),
    (Ellipsis, 0),
    (None, slice(None)),
    (np.array([0, 3, -1, 0]),),
    (slice(None), np.array([0, 2, -3, 2])),
    (np.array([0, 3, -1, 0]), np.array([0, 1, 2, 0])),
    (np.array([0, 3, -1, 0]), slice(None), np.array([0, 1, 1, 0])),
    (Ellipsis, np.array([[1, 1], [0, 1]])),
    (np.array([True, False, True, False]),),
    (np.array([True, False, True, False]), np.array([1, 1])),
    (np.array([[0, 1], [1, 1]]), slice(0, 2), None),
    (None, np.array([2, 2])),
    ([0, 0, 1],),
    ([],),
    (np.array([], np.int64), slice(None), 1),
    (np.array(2),),
    (),
]
SHAPE = (4, 3, 2)


def on_device(backend, index):
    return tuple(backend.from_host(p) if isinstance(p, np.ndarray) else p for p in index)


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_index_get_is_indexing(backend, index):
    x = np.arange(24.0).reshape(SHAPE)
    for use in (index, on_device(backend, index)):
        found = backend.to_host(backend.index_get(backend.from_host(x), use))
        assert np.array_equal(found, x[index])


@pytest.mark.parametrize("index", INDICES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128, np.int8, np.bool_])
def test_index_add_is_add_at(backend, index, dtype):
    rng = np.random.default_rng(1)
    taken = np.zeros(SHAPE)[index].shape
    for shape in (taken, taken[-1:]):  # of the selection, and one that broadcasts to it
        values = rng.integers(-3, 4, shape).astype(dtype)
        expected = np.zeros(SHAPE, dtype)
        np.add.at(expected, index, values)
        for use in (index, on_device(backend, index)):
            found = backend.index_add(SHAPE, dtype, use, backend.from_host(values))
            assert found.dtype == dtype
            assert np.array_equal(backend.to_host(found), expected)


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_index_put_keeps_the_last_value(backend, index):
    values = np.random.default_rng(2).standard_normal(np.zeros(SHAPE)[index].shape)
    expected = np.zeros(SHAPE)
    for at in np.ndindex(values.shape):  # one by one, in order
        positions = np.arange(24).reshape(SHAPE)[index]
        expected.reshape(-1)[np.asarray(positions)[at]] = values[at]
    for use in (index, on_device(backend, index)):
        found = backend.index_put(SHAPE, np.float64, use, backend.from_host(values))
        assert np.array_equal(backend.to_host(found), expected)


def test_index_add_adds_in_the_order_of_the_values():
    values = np.array([1e8, 1.0, -1e8, 1.0], np.float32)  # the sum depends on the order
    expected = np.zeros(2, np.float32)
    np.add.at(expected, [1, 1, 1, 1], values)
    assert np.array_equal(
        HOST.index_add((2,), np.float32, (np.array([1, 1, 1, 1]),), values), expected
    )


@pytest.mark.parametrize("bad", [4, -5])
@pytest.mark.parametrize("where", ["host", "device"])
def test_an_index_out_of_range_is_an_error(backend, bad, where):
    x = backend.from_host(np.ones(SHAPE))
    i = np.array([0, bad])
    i = backend.from_host(i) if where == "device" else i
    wanted = pytest.raises(IndexError, match=f"index {bad} is out of bounds for axis 0 with size 4")
    along = np.full((1, 3, 2), bad)
    with wanted:
        backend.index_get(x, (i,))
    with wanted:
        backend.index_add(SHAPE, np.float64, (i,), x[:2])
    with wanted:
        backend.index_put(SHAPE, np.float64, (i, Ellipsis), x[:2])
    with pytest.raises(IndexError, match=f"index {bad} is out of bounds"):
        backend.take(x, i, axis=0)
    with pytest.raises(IndexError, match=f"index {bad} is out of bounds"):
        backend.take_along_axis(x, backend.from_host(along), axis=-3)


def test_take_and_take_along_axis_are_those_of_numpy(backend):
    x, i = np.arange(24.0).reshape(SHAPE), np.array([[2, -1], [0, 0]])
    found = backend.take(backend.from_host(x), backend.from_host(i), axis=1)
    assert np.array_equal(backend.to_host(found), np.take(x, i, axis=1))
    order = np.argsort(-x, axis=-2)
    found = backend.take_along_axis(backend.from_host(x), backend.from_host(order), axis=-2)
    assert np.array_equal(backend.to_host(found), np.take_along_axis(x, order, -2))


# --------------------------------------------------------------------------------- arrays


def test_arrays_cross_to_the_device_and_back(backend):
    x = np.arange(6.0).reshape(2, 3)
    there = backend.from_host(x)
    assert device_of(there) == backend.device
    assert np.array_equal(backend.to_host(there), x)
    assert backend.asarray([1, 2], dtype=np.float32).dtype == np.float32
    assert device_of(backend.asarray(2.0)) == backend.device
    with backend.scope():
        assert device_of(there * 2) == backend.device


STEP = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-6, "c1": 0.271, "c2": 0.029701}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 1, 7, 4099])
@pytest.mark.parametrize("name", ["adam_step", "adamw_step"])
def test_an_optimizer_step_is_its_definition(backend, name, n, dtype):
    rng = np.random.default_rng(n)
    w, m, v, g = (rng.standard_normal(n).astype(dtype) for _ in range(4))
    v = np.abs(v)
    parameters = STEP | ({"decay": 0.1} if name == "adamw_step" else {})
    arrays = [backend.from_host(a.copy()) for a in (w, m, v, g)]
    getattr(backend, name)(*arrays, **parameters)
    meaning = [a.copy() for a in (w, m, v, g)]
    getattr(Backend, name)(HOST, *meaning, **parameters)
    for found, expected in zip(arrays, meaning, strict=True):
        # about ten roundings a weight, of terms below lr / sqrt(c2) = 0.6 and |w|, |m|, |v| < 16
        assert np.allclose(
            backend.to_host(found),
            expected,
            rtol=16 * np.finfo(dtype).eps,
            atol=16 * np.finfo(dtype).eps,
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 1, 7, 4099])
@pytest.mark.parametrize("name", ["gradient_descent_step", "heavy_ball_step", "nesterov_step"])
def test_a_step_of_momentum_is_its_definition(backend, name, n, dtype):
    rng = np.random.default_rng(n)
    count = 2 if name == "gradient_descent_step" else 3
    start = [rng.standard_normal(n).astype(dtype) for _ in range(count)]
    parameters = {"lr": 0.1} | ({"momentum": 0.9} if count == 3 else {})
    arrays = [backend.from_host(a.copy()) for a in start]
    getattr(backend, name)(*arrays, **parameters)
    meaning = [a.copy() for a in start]
    getattr(Backend, name)(HOST, *meaning, **parameters)
    for found, expected in zip(arrays, meaning, strict=True):
        # a device may contract a multiplication and an addition: a few roundings of numbers near 4
        np.testing.assert_allclose(
            backend.to_host(found), expected, rtol=0, atol=16 * np.finfo(dtype).eps
        )
        if backend is HOST:  # the loops contract nothing
            assert np.array_equal(found, expected)


def test_a_step_of_momentum_refuses_other_lengths_and_what_it_cannot_write_through():
    w, v, g = np.ones((4, 3)), np.ones((4, 3)), np.ones((4, 2))
    for name in ("heavy_ball_step", "nesterov_step"):
        with pytest.raises(ShapeError, match=rf"{name}: `v` and `g` must be of shape \(12,\)"):
            getattr(HOST, name)(w, v, g, lr=0.1, momentum=0.9)
        with pytest.raises(ShapeError, match=f"{name}: `v` must be C-contiguous"):
            getattr(HOST, name)(w, v.T.copy().T, w.copy(), lr=0.1, momentum=0.9)
    with pytest.raises(ShapeError, match=r"gradient_descent_step: `g` must be of shape \(12,\)"):
        HOST.gradient_descent_step(w, g, lr=0.1)
    assert np.array_equal(w, np.ones((4, 3)))


def test_an_optimizer_step_refuses_what_it_cannot_write_through():
    w, m, v, g = (np.ones((4, 3)) for _ in range(4))
    with pytest.raises(ShapeError, match="adam_step: `m` must be C-contiguous, got strides"):
        HOST.adam_step(w, m.T.copy().T, v, g, **STEP)
    assert np.array_equal(w, np.ones((4, 3)))


def test_the_host_has_nothing_to_enter_or_to_wait_for():
    with HOST.scope() as entered:
        assert entered is None
    assert HOST.synchronize() is None
