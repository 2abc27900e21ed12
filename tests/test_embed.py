"""Plans called from C, Cython, ctypes and SciPy: the same bits as from Python, without the GIL, without allocation.

The examples are built against the installed package, through `nm.get_include()` and its .pxd alone.
"""

import ctypes
import gc
import importlib.machinery
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import weakref
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import LowLevelCallable, integrate, ndimage

import nnmath_core as nm
from nnmath_core.errors import DtypeError, ShapeError

EXAMPLES = Path(__file__).parent / "embed"
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
COMPILER = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-pedantic"]

OK, NULL_POINTER, MISALIGNED, NOT_THE_INPUT, NO_MEMORY, PYTHON_ERROR, ABI_MISMATCH = range(7)
OUTSIDE, NO_VALUE = 9, 10


# ---------------------------------------------------------------------------- building
def command(*parts, **kwargs):
    """Run a command; its output is the message of a failure."""
    done = subprocess.run([*map(str, parts)], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, f"{' '.join(map(str, parts))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def shared(source, target, *flags):
    command(
        *COMPILER, "-O2", "-fPIC", "-shared", f"-I{nm.get_include()}", *flags, source, "-o", target
    )
    return target


def loaded(path, name):
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def cython_module(source, folder, name):
    command(sys.executable, "-m", "cython", source, "-o", folder / f"{name}.c", cwd=folder)
    python = f"-I{sysconfig.get_path('include')}"
    return loaded(shared(folder / f"{name}.c", folder / f"{name}{SUFFIX}", "-O1", python), name)


@pytest.fixture(scope="session")
def extension(tmp_path_factory):
    """The C extension."""
    target = tmp_path_factory.mktemp("extension") / f"embed_extension{SUFFIX}"
    python = f"-I{sysconfig.get_path('include')}"
    return loaded(
        shared(EXAMPLES / "extension.c", target, "-Wall", "-Wextra", "-Werror", python),
        "embed_extension",
    )


@pytest.fixture(scope="session")
def cython(tmp_path_factory):
    """The Cython module."""
    folder = tmp_path_factory.mktemp("cython")
    return cython_module(shutil.copy(EXAMPLES / "embed_cython.pyx", folder), folder, "embed_cython")


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """The library in plain C."""
    target = tmp_path_factory.mktemp("plain") / "plain.so"
    library = ctypes.CDLL(str(shared(EXAMPLES / "plain.c", target, "-std=c99", *WARNINGS)))
    library.run_until.argtypes = [*[ctypes.c_void_p] * 4, ctypes.c_double]
    return library


# ---------------------------------------------------------------------------- a user's function
def loss(params, x, target):
    for w, b in params[:-1]:
        x = np.tanh(x @ w + b)
    w, b = params[-1]
    return np.mean((x @ w + b - target) ** 2)


def network(seed=0, widths=(12, 30, 3), batch=16):
    rng = np.random.default_rng(seed)
    params = [
        (rng.normal(size=(m, n)) / np.sqrt(m), rng.normal(size=n)) for m, n in pairwise(widths)
    ]
    return params, rng.normal(size=(batch, widths[0])), rng.normal(size=(batch, widths[-1]))


def plan_of(f, *args):
    """A plan whose bits do not depend on the number of threads, so that runs of any kind compare."""
    return nm.compile(f, deterministic=True).plan(*args)


def buffers(plan, args):
    """Inputs in the order of the leaves, and memory for the outputs."""
    results = nm.tree_leaves(plan(*args))
    return [np.asarray(x) for x in nm.tree_leaves(args)], [
        np.full_like(np.asarray(y), np.nan) for y in results
    ]


def address(plan):
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return get(plan.capsule, b"nnmath_core.plan")


def pointers(arrays):
    return (ctypes.c_void_p * max(len(arrays), 1))(
        *[a if isinstance(a, int) else a.ctypes.data for a in arrays]
    )


class Spec(ctypes.Structure):
    _fields_ = (
        ("dtype", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("itemsize", ctypes.c_int64),
        ("nbytes", ctypes.c_int64),
        ("alignment", ctypes.c_int32),
        ("takes", ctypes.c_int32),
    )


class Face(ctypes.Structure):
    """nnm_plan as ctypes sees it: what docs/embedding.md shows."""

    _fields_ = (
        ("abi_version", ctypes.c_int32),
        ("struct_size", ctypes.c_int32),
        ("ninputs", ctypes.c_int32),
        ("noutputs", ctypes.c_int32),
        ("inputs", ctypes.POINTER(Spec)),
        ("outputs", ctypes.POINTER(Spec)),
        ("workspace_size", ctypes.c_size_t),
        ("workspace_alignment", ctypes.c_size_t),
        ("run", ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4)),
        ("host", ctypes.c_int32),
        ("threads", ctypes.c_int32),
    )


def face(plan):
    return Face.from_address(address(plan))


def run(plan, inputs, outputs, workspace=None):
    """One run through the function pointer."""
    return face(plan).run(address(plan), pointers(inputs), pointers(outputs), workspace)


# ---------------------------------------------------------------------------- without the GIL
COUNTS = 20_000
SECONDS = 20.0


def race(run_until, cases):
    """Each case in a thread of its own, until this one, which needs the GIL, has counted while all of them ran.

    With the GIL held by a run nobody would count, and the threads would end with their time.
    """
    states = [np.zeros(2, np.int64) for _ in cases]
    errors = []

    def work(case, state):
        try:
            run_until(*case, state, SECONDS)
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=x) for x in zip(cases, states, strict=True)]
    for t in threads:
        t.start()
    counted = 0
    while any(t.is_alive() for t in threads) and counted < COUNTS:
        counted += all(s[1] >= 3 for s in states)  # all are inside of their loops
    for s in states:
        s[0] = 1
    for t in threads:
        t.join()
    assert not errors
    assert counted == COUNTS


def race_two_threads(run_until):
    cases, wanted = [], []
    args = network(0)
    plan = plan_of(nm.value_and_grad(loss), *args)
    for seed in (0, 1):  # one plan, two points
        params, *_ = network(seed)
        inputs, outputs = buffers(plan, (params, *args[1:]))
        wanted.append(nm.tree_leaves(plan(params, *args[1:])))
        cases.append((plan, inputs, outputs))
    race(run_until, cases)
    for (_, _, outputs), results in zip(cases, wanted, strict=True):
        assert [y.tobytes() for y in outputs] == [np.asarray(y).tobytes() for y in results]
    value, gradient = nm.value_and_grad(loss)(*args)
    np.testing.assert_allclose(cases[0][2][0], value, rtol=1e-13)
    for y, g in zip(cases[0][2][1:], nm.tree_leaves(gradient), strict=True):
        np.testing.assert_allclose(y, g, rtol=1e-11, atol=1e-13)


def test_c_extension_runs_in_two_threads_without_the_gil(extension):
    race_two_threads(lambda plan, *rest: extension.run_until(plan.capsule, *rest))


def test_cython_module_runs_in_two_threads_without_the_gil(cython):
    race_two_threads(lambda plan, *rest: cython.run_until(plan.capsule, *rest))


def test_ctypes_library_runs_in_two_threads_without_the_gil(plain):
    def run_until(plan, inputs, outputs, state, seconds):
        code = plain.run_until(
            address(plan), pointers(inputs), pointers(outputs), state.ctypes.data, seconds
        )
        assert code == OK

    race_two_threads(run_until)


def test_ctypes_calls_the_function_pointer():
    def run_until(plan, inputs, outputs, state, seconds):
        assert plan.workspace_size == face(plan).workspace_size
        room = np.zeros(plan.workspace_size + 64, np.uint8)
        while not state[0]:
            assert run(plan, inputs, outputs, -(-room.ctypes.data // 64) * 64) == OK
            state[1] += 1

    race_two_threads(run_until)


def test_scipy_integrates_in_two_threads():
    params, _, _ = network(0, (1, 8, 1))

    def f(x):
        return np.sum(loss(params, np.reshape(x, (1, 1)), np.zeros((1, 1))))

    plans = [plan_of(f, 1.0), plan_of(nm.grad(f), 1.0)]
    callables = [plan.low_level_callable() for plan in plans]
    results = [[], []]

    def run_until(c, out, state, seconds):
        while not state[0]:
            out.append(integrate.quad(c, 0.0, 1.0)[0])
            state[1] += 1

    race(run_until, list(zip(callables, results, strict=True)))
    for plan, out in zip(plans, results, strict=True):
        assert set(out) == {integrate.quad(plan, 0.0, 1.0)[0]}  # the same bits as through Python
    # the integral of the slope is the rise: to quad's own bound of the error
    rise = plans[0](1.0) - plans[0](0.0)
    assert abs(results[1][0] - rise) <= integrate.quad(callables[1], 0.0, 1.0)[1] + 1e-14


# ---------------------------------------------------------------------------- the page
PAGE = Path(__file__).parents[1] / "docs" / "embedding.md"


def block(language):
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), flags=re.M | re.S)
    return text


def descent(module):
    """What the examples of the page do, and the same in Python."""
    rng = np.random.default_rng(0)
    w, x, y = rng.normal(size=3), rng.normal(size=(8, 3)), np.zeros(8)
    plan = plan_of(nm.value_and_grad(lambda w, x, y: np.mean((np.tanh(x @ w) - y) ** 2)), w, x, y)
    here = w.copy()
    for _ in range(50):
        value, slope = plan(here, x, y)
        here -= 0.1 * slope
    assert module.descend(plan.capsule, w, x, y, 50) == value
    np.testing.assert_allclose(
        w, here, rtol=50 * 2 * np.finfo(float).eps
    )  # compilers may fuse w - 0.1 s
    return plan, w, x, y


def test_c_extension_of_the_page(tmp_path):
    source = tmp_path / "steps.c"
    source.write_text(block("c"))
    (script,) = [b for b in [block("bash")] if "steps.c" in b]
    python = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command("sh", "-e", "-c", script, cwd=tmp_path, env={**os.environ, "PATH": python})
    module = loaded(tmp_path / f"steps{SUFFIX}", "steps")
    plan, w, x, y = descent(module)
    with pytest.raises(ValueError, match="another shape than the plan was made for"):
        module.descend(plan.capsule, w, x[1:], y, 1)
    with pytest.raises(ValueError, match="PyCapsule_GetPointer called with incorrect name"):
        module.descend(nm.compile(lambda x: x).plan(1.0).low_level_callable().function, w, x, y, 1)


def test_cython_module_of_the_page(tmp_path):
    source = tmp_path / "steps.pyx"
    source.write_text(block("cython"))
    descent(cython_module(source, tmp_path, "steps"))


# ---------------------------------------------------------------------------- the header
@pytest.mark.parametrize("standard", ["c99", "c11"])
def test_header_is_clean_in_c(tmp_path, standard):
    shared(
        EXAMPLES / "plain.c",
        tmp_path / "x.so",
        f"-std={standard}",
        *WARNINGS,
        "-Wstrict-prototypes",
        "-Wshadow",
    )


def test_header_is_clean_in_cpp_where_there_is_a_compiler(tmp_path):
    for name in filter(shutil.which, ["g++", "clang++"]):
        flags = ["-std=c++11", *WARNINGS, "-Wshadow", f"-I{nm.get_include()}", "-fsyntax-only"]
        command(name, *flags, "-x", "c++", EXAMPLES / "plain.c")
    text = (Path(nm.get_include()) / "nnmath_core.h").read_text()
    assert "Python.h" not in text
    assert 'extern "C"' in text


def test_header_agrees_with_what_python_sees(tmp_path):
    source = tmp_path / "sizes.c"
    source.write_text(
        '#include "nnmath_core.h"\nint sizes(int k) { return k == 0 ? (int)sizeof(nnm_plan) : k == 1 ? '
        "(int)sizeof(nnm_spec) : NNM_ABI_VERSION; }\nconst char *message(int k) { return nnm_message(k); }\n"
        "int check(const nnm_plan *p) { return nnm_check(p); }\n"
        "int require(const nnm_spec *s, int d, int r, const int64_t *n) { return nnm_require(s, d, r, n); }\n"
    )
    library = ctypes.CDLL(str(shared(source, tmp_path / "sizes.so")))
    plan = nm.compile(lambda x: x * 2.0).plan(np.zeros((2, 3), np.float32))
    assert library.sizes(0) == ctypes.sizeof(Face) == face(plan).struct_size
    assert library.sizes(1) == ctypes.sizeof(Spec)
    assert library.sizes(2) == face(plan).abi_version

    library.message.restype = ctypes.c_char_p
    messages = [library.message(k) for k in range(10)]
    assert len(set(messages)) == 10
    assert b"unknown code" not in messages
    assert library.message(99) == library.message(-1) == b"unknown code"

    copy = Face.from_buffer_copy(face(plan))
    assert library.check(None) == NULL_POINTER
    assert library.check(ctypes.byref(copy)) == OK
    copy.struct_size += 8
    assert library.check(ctypes.byref(copy)) == OK, "a later library, which appended a field"
    copy.struct_size -= 16
    assert library.check(ctypes.byref(copy)) == ABI_MISMATCH
    copy.struct_size, copy.abi_version = ctypes.sizeof(Face), 2
    assert library.check(ctypes.byref(copy)) == ABI_MISMATCH

    spec, lengths = face(plan).inputs[0], (ctypes.c_int64 * 2)(2, 3)
    assert library.require(ctypes.byref(spec), 11, 2, lengths) == OK
    assert library.require(ctypes.byref(spec), 12, 2, lengths) == 7
    assert library.require(ctypes.byref(spec), 11, 1, lengths) == 8
    lengths[1] = 4
    assert library.require(ctypes.byref(spec), 11, 2, lengths) == 8


def test_cython_declares_what_the_header_has():
    header = (Path(nm.get_include()) / "nnmath_core.h").read_text()
    pxd = (Path(nm.__file__).parent / "embed.pxd").read_text()
    names = {
        w
        for w in re.findall(r"\b(?:NNM|nnm)_[A-Za-z0-9_]*[A-Za-z0-9]\b", header)
        if w != "NNM_TYPE"
    }
    assert len(names) > 25
    assert names == set(re.findall(r"\b(?:NNM|nnm)_[A-Za-z0-9_]*[A-Za-z0-9]\b", pxd))


DTYPES = "? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16 g".split()


@pytest.mark.parametrize("dtype", DTYPES)
def test_specs_say_dtype_shape_and_size(dtype):
    dtype = np.dtype(dtype)
    plan = nm.compile(lambda x, y: (np.reshape(x, (3, 2)), y)).plan(
        np.zeros((2, 3), dtype), np.zeros((), dtype)
    )
    f = face(plan)
    assert (f.ninputs, f.noutputs, f.workspace_alignment) == (2, 2, 64)
    code = (
        (DTYPES.index(dtype.str[1:].replace("b1", "?")) + 1) % len(DTYPES)
        if dtype.char != "g"
        else 0
    )
    for spec, shape in [
        (f.inputs[0], [2, 3]),
        (f.inputs[1], []),
        (f.outputs[0], [3, 2]),
        (f.outputs[1], []),
    ]:
        assert spec.shape[: spec.rank] == shape
        assert (spec.dtype, spec.itemsize) == (code, dtype.itemsize)
        assert (spec.alignment, spec.takes) == (dtype.alignment, -1)
        assert spec.nbytes == dtype.itemsize * int(np.prod(shape))


# ---------------------------------------------------------------------------- arguments
def test_a_python_number_is_a_double_or_an_int64():
    plan = nm.compile(lambda x, a, n, z: x * a + n + z.real).plan(np.ones(3), 0.5, 2, 1j)
    y = np.empty(3)
    inputs = [np.arange(3.0), np.array(0.25), np.array(7, np.int64), np.array(2 + 1j)]
    assert run(plan, inputs, [y]) == OK
    np.testing.assert_array_equal(y, np.arange(3.0) * 0.25 + 7 + 2)
    np.testing.assert_array_equal(y, plan(np.arange(3.0), 0.25, 7, 2 + 1j))


def test_empty_arrays_may_be_null():
    plan = nm.compile(lambda x: (x * 2.0, np.sum(x))).plan(np.zeros((0, 3)))
    total = np.full((), np.nan)
    assert run(plan, [0], [0, total]) == OK
    assert total == 0


def test_a_plan_without_arguments_runs():
    plan = nm.compile(lambda: np.ones(3) * 2.0).plan()
    y = np.empty(3)
    assert face(plan).run(address(plan), None, pointers([y]), None) == OK
    np.testing.assert_array_equal(y, 2.0)


def test_null_and_misaligned_pointers_are_refused():
    plan = nm.compile(lambda x: x * 2.0).plan(np.ones(4))
    x, y = np.arange(5.0), np.full(5, np.nan)
    inside = y.ctypes.data + 4
    room = np.zeros(plan.workspace_size + 128, np.uint8)
    aligned = -(-room.ctypes.data // 64) * 64
    assert run(plan, [0], [y]) == NULL_POINTER
    assert run(plan, [x], [0]) == NULL_POINTER
    assert face(plan).run(address(plan), None, pointers([y]), None) == NULL_POINTER
    assert face(plan).run(address(plan), pointers([x]), None, None) == NULL_POINTER
    assert run(plan, [x.ctypes.data + 1], [y]) == MISALIGNED
    assert run(plan, [x], [inside]) == MISALIGNED
    assert run(plan, [x], [y], aligned + 8) == MISALIGNED
    assert np.isnan(y).all(), "nothing was written"
    assert run(plan, [x], [y], aligned) == OK
    np.testing.assert_array_equal(y[:4], 2 * x[:4])
    assert np.isnan(y[4])


def test_a_run_stays_inside_of_its_workspace():
    args = network(3)
    plan = plan_of(nm.value_and_grad(loss), *args)
    inputs, outputs = buffers(plan, args)
    room = np.full(plan.workspace_size + 256, 0xA5, np.uint8)
    at = -(-(room.ctypes.data + 64) // 64) * 64 - room.ctypes.data
    assert run(plan, inputs, outputs, room.ctypes.data + at) == OK
    assert (room[:at] == 0xA5).all()
    assert (room[at + plan.workspace_size :] == 0xA5).all()
    assert (room[at : at + plan.workspace_size] != 0xA5).any()
    assert [y.tobytes() for y in outputs] == [
        np.asarray(y).tobytes() for y in nm.tree_leaves(plan(*args))
    ]


def test_a_donated_input_is_given_as_output_too():
    plan = nm.compile(lambda x, y: x * y + 1.0, donate_argnums=0).plan(np.ones(3), np.ones(3))
    assert face(plan).outputs[0].takes == 0
    x, y = np.arange(3.0), np.full(3, 2.0)
    assert run(plan, [x, y], [np.empty(3)]) == NOT_THE_INPUT
    np.testing.assert_array_equal(x, np.arange(3.0))
    assert run(plan, [x, y], [x]) == OK
    np.testing.assert_array_equal(x, np.arange(3.0) * 2 + 1)


def failing(x):
    """A function one of whose operations is done in Python and can fail: a logarithm of a matrix with infinities."""
    return np.diagonal(nm.linalg.logm(x))


def test_an_exception_of_a_host_instruction_is_printed_and_a_code(monkeypatch):
    plan = nm.compile(failing).plan(np.eye(3))
    assert face(plan).host == plan.cost.host > 0
    seen = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda u: seen.append((u.exc_type, u.exc_value, u.object))
    )
    y = np.empty(3)
    bad = np.full((3, 3), np.inf)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - the same as through Python
        plan(bad)
    assert run(plan, [bad], [y]) == PYTHON_ERROR
    assert [(t, str(e)) for t, e, _ in seen] == [(type(raised.value), str(raised.value))]
    assert "nnmath_core" in seen[0][2]
    assert run(plan, [np.diag(np.exp([1.0, 3.0, 2.0]))], [y]) == OK, "the next run is not disturbed"
    np.testing.assert_allclose(y, [1, 3, 2], rtol=1e-14)


def test_an_index_outside_of_its_axis_is_a_code(monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda u: None)
    plan = nm.compile(lambda x, i: x[i] * 2.0).plan(np.ones(4), np.zeros(2, np.int64))
    x, i, y = np.arange(4.0), np.array([3, 9]), np.empty(2)
    with pytest.raises(IndexError, match="index 9 is out of bounds"):
        plan(x, i)
    assert run(plan, [x, i], [y]) == (PYTHON_ERROR if plan.cost.host else OUTSIDE)
    assert run(plan, [x, i % 3], [y]) == OK
    np.testing.assert_array_equal(y, 2 * x[i % 3])


def test_memory_that_cannot_be_had_is_a_code():
    x = np.broadcast_to(1.0, 1 << 46)  # of arrays only shapes and dtypes count
    plan = nm.compile(lambda x: np.sum(np.cumsum(np.tanh(x)))).plan(x)
    assert plan.workspace_size > 8 << 46
    y = np.zeros(())
    assert run(plan, [64], [y]) == NO_MEMORY


def test_the_capsule_keeps_the_plan_alive():
    def made():
        constant = np.arange(100_000.0)
        plan = nm.compile(lambda x: x * constant).plan(np.ones(100_000))
        return plan.capsule, weakref.ref(plan)

    capsule, plan = made()
    gc.collect()
    assert plan() is None, "the Python object is gone, its program is not"
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    at = get(capsule, b"nnmath_core.plan")
    x, y = np.full(100_000, 2.0), np.empty(100_000)
    assert Face.from_address(at).run(at, pointers([x]), pointers([y]), None) == OK
    np.testing.assert_array_equal(y, 2 * np.arange(100_000.0))


def test_many_runs_at_once_have_a_frame_each():
    args = network(5, (20, 40, 5))
    plan = plan_of(nm.value_and_grad(loss), *args)
    want = [np.asarray(y).tobytes() for y in nm.tree_leaves(plan(*args))]
    results = []

    def work():
        inputs, outputs = buffers(plan, args)
        for _ in range(20):
            assert run(plan, inputs, outputs) == OK
            results.append([y.tobytes() for y in outputs] == want)
            results.append([np.asarray(y).tobytes() for y in nm.tree_leaves(plan(*args))] == want)

    threads = [threading.Thread(target=work) for _ in range(24)]  # more than a plan keeps frames
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 24 * 40
    assert all(results)


# ---------------------------------------------------------------------------- no allocation
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="interposes the functions of glibc")
def test_a_run_allocates_nothing_and_a_call_only_its_results(tmp_path):
    library = shared(EXAMPLES / "allocations.c", tmp_path / "allocations.so")
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    script = EXAMPLES / "count_calls.py"
    counts = json.loads(command(sys.executable, script, library, env=environment))
    assert len(counts) == 5
    for name in ("small network", "network", "reductions"):
        assert counts[name]["host"] == 0
    for name, c in counts.items():
        assert c["equal"], name
        if c["host"]:  # Python's own
            continue
        assert c["workspace"] == c["pool"] == 0, name
        # OpenBLAS takes a buffer from malloc in its kernels for small products on some processors, one a product
        assert c["blas"] <= c["products"], name
        # of ctypes' two calls around the loop: less than one for each call
        assert c["python"] < c["results"] + 40, name


# ---------------------------------------------------------------------------- SciPy
def test_quad_takes_a_number_several_and_an_array():
    one = nm.compile(lambda x: np.exp(-(x**2))).plan(1.0)
    assert one.low_level_callable().signature == "double (double, void *)"
    assert integrate.quad(one.low_level_callable(), 0, 2) == integrate.quad(one, 0, 2)

    several = nm.compile(lambda x, a, b: a * np.sin(b * x)).plan(1.0, 1.0, 1.0)
    c = several.low_level_callable("quad")
    assert c.signature == "double (int, double *, void *)"
    assert integrate.quad(c, 0, 2, args=(3.0, 0.5)) == integrate.quad(
        several, 0, 2, args=(3.0, 0.5)
    )
    array = nm.compile(lambda v: v[1] * np.sin(v[2] * v[0])).plan(np.ones(3))
    assert integrate.quad(array.low_level_callable(), 0, 2, args=(3.0, 0.5)) == integrate.quad(
        c, 0, 2, args=(3.0, 0.5)
    )


def test_nquad_and_dblquad_and_tplquad():
    box = [(0, 1), (-1, 1)]
    f = nm.compile(lambda x, y: np.cos(x * y) + y**2).plan(1.0, 1.0)
    c = f.low_level_callable("nquad")
    assert integrate.nquad(c, box) == integrate.nquad(f, box)
    assert integrate.dblquad(c, 0, 1, 0, 2) == integrate.dblquad(f, 0, 1, 0, 2)
    g = nm.compile(lambda v: v[0] * v[1] ** 2 * v[2]).plan(np.ones(3))
    value = integrate.tplquad(g.low_level_callable("tplquad"), 0, 1, 0, 2, 0, 3)[0]
    np.testing.assert_allclose(value, 0.5 * 8 / 3 * 4.5, rtol=1e-12)


def test_filters_of_ndimage():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(12, 15))
    spread = nm.compile(lambda x: np.max(x) - np.min(x)).plan(np.zeros(9))
    c = spread.low_level_callable("generic_filter")
    assert isinstance(c, LowLevelCallable)
    np.testing.assert_array_equal(
        ndimage.generic_filter(image, c, size=3), ndimage.generic_filter(image, np.ptp, size=3)
    )
    mean = nm.compile(lambda line: (line[2:] + line[1:-1] + line[:-2]) / 3.0).plan(np.zeros(17))
    np.testing.assert_allclose(
        ndimage.generic_filter1d(image, mean.low_level_callable("generic_filter1d"), 3),
        ndimage.uniform_filter1d(image, 3),
        rtol=0,
        atol=8
        * np.finfo(float).eps
        * np.abs(image).max(),  # a running sum of 3 entries against a fresh one
    )


def test_coordinates_of_ndimage():
    image = np.random.default_rng(0).normal(size=(9, 8))

    def turned(p):  # by a quarter of a right angle, about a corner
        c, s = np.cos(np.pi / 8), np.sin(np.pi / 8)
        return np.array([[c, s], [-s, c]]) @ p

    plan = plan_of(turned, np.zeros(2))
    made = ndimage.geometric_transform(image, plan.low_level_callable("geometric_transform"))
    want = ndimage.geometric_transform(image, lambda at: tuple(plan(np.asarray(at, np.float64))))
    np.testing.assert_array_equal(made, want)
    assert np.ptp(made) > 0.5
    c = plan_of(lambda p: p[:2], np.zeros(3)).low_level_callable("geometric_transform")
    with pytest.raises(ShapeError, match="takes 3 entries to 2, got 2 entries to 2"):
        ndimage.geometric_transform(image, c)


def test_large_plans_take_their_workspace_from_the_pool():
    w = np.random.default_rng(0).normal(size=(9, 4000))
    plan = nm.compile(lambda x: np.sum(np.tanh(x @ w)), deterministic=True).plan(np.ones(9))
    assert plan.workspace_size > 1 << 14
    image = np.random.default_rng(1).normal(size=(4, 5))
    np.testing.assert_array_equal(
        ndimage.generic_filter(image, plan.low_level_callable("generic_filter"), size=3),
        ndimage.generic_filter(image, plan, size=3),
    )


def test_another_number_of_entries_is_an_error():
    c = nm.compile(lambda x: np.sum(x)).plan(np.zeros(9)).low_level_callable("generic_filter")
    with pytest.raises(ShapeError, match="takes 9 entries, got 16 entries"):
        ndimage.generic_filter(np.zeros((5, 5)), c, size=4)
    c = nm.compile(lambda x: x[1:-1]).plan(np.zeros(7)).low_level_callable("generic_filter1d")
    with pytest.raises(ShapeError, match="takes 7 entries to 5, got 9 entries to 5"):
        ndimage.generic_filter1d(np.zeros((5, 5)), c, 5)
    for plan in (
        nm.compile(lambda v: np.sum(v)).plan(np.zeros(2)),
        nm.compile(lambda x, y: x + y).plan(1.0, 1.0),
    ):
        with pytest.raises(
            SystemError
        ) as raised:  # QUADPACK goes on with NaN, Python sees the exception afterwards
            integrate.quad(plan.low_level_callable(), 0, 1, args=(1.0, 2.0))
        assert isinstance(raised.value.__cause__, ShapeError)
        assert "takes 2 entries, got 3 entries" in str(raised.value.__cause__)


@pytest.mark.parametrize(
    ("f", "args", "function", "error", "message"),
    [
        (lambda x: x, (1.0,), "quadrature", ValueError, "`function` must be one of quad, dblquad"),
        (lambda x: x, (np.float32(1),), "quad", DtypeError, "the arguments must be float64"),
        (lambda x: x > 0, (1.0,), "quad", DtypeError, "the result must be float64"),
        (
            lambda x: (x, x),
            (1.0,),
            "quad",
            ShapeError,
            "the result must be one number, got 2 of shapes",
        ),
        (
            lambda x: x,
            (np.ones(3),),
            "quad",
            ShapeError,
            r"the result must be one number, got shape \(3,\)",
        ),
        (
            lambda x: np.sum(x),
            (np.ones((3, 3)),),
            "quad",
            ShapeError,
            "up to 64 numbers, or one array of rank 1",
        ),
        (
            lambda x, y: np.sum(x) + y,
            (np.ones(3), 1.0),
            "nquad",
            ShapeError,
            "Close over arrays that stay the same",
        ),
        (lambda: np.ones(()), (), "quad", ShapeError, "got none"),
        (
            lambda x: x,
            (1.0,),
            "generic_filter",
            ShapeError,
            "the arguments must be one array of rank 1",
        ),
        (
            lambda x: np.sum(x),
            (np.ones(3),),
            "generic_filter1d",
            ShapeError,
            "must be one array of rank 1, got shape",
        ),
    ],
)
def test_plans_that_do_not_fit_are_refused(f, args, function, error, message):
    with pytest.raises(error, match=message):
        nm.compile(f).plan(*args).low_level_callable(function)


def test_donated_arguments_are_refused():
    plan = nm.compile(lambda x: x + 1.0, donate_argnums=0).plan(np.ones(3))
    with pytest.raises(DtypeError, match="Compile without `donate_argnums`"):
        plan.low_level_callable("generic_filter1d")
