"""Samples of PyTorch's operation database: value and gradient against PyTorch's stored answers.

``tests/reference/opinfo.py`` has drawn the samples and asked PyTorch; each operation is written in
NumPy's names in ``tests/reference/opinfo_operations.py``.
"""

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import nnmath_core as nm

REFERENCE = Path(__file__).parent / "reference"


def load_reference(name):
    spec = importlib.util.spec_from_file_location(name, REFERENCE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


opinfo = load_reference("opinfo")
ADAPTORS = load_reference("opinfo_operations").ADAPTORS
HEADER, SAMPLES = opinfo.load()

# Answers are measured by products with up to 160 normal numbers; both libraries sum in float64, and
# condition numbers of the database's matrices stay below 1e3 (with squares in the gradients).
TOLERANCE = 1e-9


def floats(y):
    """The floating outputs in PyTorch's order; complex ones as real and imaginary part."""
    ys = y if isinstance(y, (tuple, list)) else (y,)
    found = []
    for v in ys:
        if np.iscomplexobj(v):
            found += [np.real(v), np.imag(v)]
        elif not hasattr(v, "dtype") or v.dtype.kind == "f":
            found.append(v)
    return tuple(found)


def computed(sample):
    """Return our outputs, and the gradients of the floating arrays."""
    arrays = sample["arrays"]
    places = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]

    def f(*xs):
        every = list(arrays)
        for i, x in zip(places, xs, strict=True):
            every[i] = x
        args = [opinfo.decoded(a, every) for a in sample["args"]]
        kwargs = {k: opinfo.decoded(v, every) for k, v in sample["kwargs"].items()}
        return floats(ADAPTORS[sample["op"]](*args, **kwargs))

    xs = [arrays[i] for i in places]
    ys, pull = nm.vjp(f, *xs)
    gs = pull(
        tuple(opinfo.cotangent(np.shape(y), f"{sample['name']}/{i}") for i, y in enumerate(ys))
    )
    return ys, gs, f, xs


def assert_measured(got, want, name):
    measure = opinfo.measured(got, name)
    assert measure.shape == want.shape, f"{name}: another number of entries"
    scale = max(1.0, want[0])
    off = np.abs(measure - want).max(initial=0.0)
    assert off <= TOLERANCE * scale, f"{name}: differs by {off:.1e}, length {want[0]:.3g}"


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s["name"])
def test_value_and_gradient_agree_with_pytorch(sample):
    ys, gs, f, xs = computed(sample)
    assert len(ys) == len(sample["answers"])
    for i, (y, want) in enumerate(zip(ys, sample["answers"], strict=True)):
        assert list(np.shape(y)) == sample["shapes"][i]
        assert_measured(y, want, f"{sample['name']}:{i}")
    for i, (g, want) in enumerate(zip(gs, sample["gradients"], strict=True), len(ys)):
        assert_measured(g, want, f"{sample['name']}:{i}")
    # and forward mode is the adjoint
    ts = [opinfo.cotangent(x.shape, f"{sample['name']}!{i}") for i, x in enumerate(xs)]
    _, tangents = nm.jvp(f, tuple(xs), tuple(ts))
    gaps = zip(
        tangents,
        (opinfo.cotangent(np.shape(y), f"{sample['name']}/{i}") for i, y in enumerate(ys)),
        strict=True,
    )
    left = sum(float(np.vdot(c, t)) for t, c in gaps)
    right = sum(float(np.vdot(g, t)) for g, t in zip(gs, ts, strict=True))
    size = sum(float(np.linalg.norm(g) * np.linalg.norm(t)) for g, t in zip(gs, ts, strict=True))
    assert abs(left - right) <= TOLERANCE * max(1.0, size)


def test_samples_are_many_and_of_many_operations():
    seen = Counter(s["op"] for s in SAMPLES)
    assert len(SAMPLES) == HEADER["samples"] >= 600
    assert len(seen) == HEADER["operations"] >= 150
    assert set(seen) <= set(ADAPTORS)


def test_measures_notice_one_wrong_entry():
    x = np.arange(12.0)
    want = opinfo.measured(x, "x")
    x[7] += 1e-6
    assert np.abs(opinfo.measured(x, "x") - want).max() > 1e-7
