"""The fused optimizer steps against the textbook, on each instruction set and element type."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from nnmath_core._ext import _cpu, _optim
from nnmath_core.errors import ShapeError

DTYPES = [np.float32, np.float64]
SIZES = [0, 1, 7, 4096, 100003]
KERNELS = ["adam_step", "adamw_step"]
CASES = [
    pytest.param(kernel, np.dtype(dtype), n, id=f"{kernel}-{np.dtype(dtype).name}-{n}")
    for kernel, dtype, n in itertools.product(KERNELS, DTYPES, SIZES)
]
LR, BETA1, BETA2, EPS, DECAY, STEP = 3e-3, 0.9, 0.999, 1e-8, 0.04, 3
C1, C2 = 1 - BETA1**STEP, 1 - BETA2**STEP


def arrays(dtype, n):
    """Weights, moments and gradient over thirty decades, with zeros and with g = m."""
    rng = np.random.default_rng([n, dtype.itemsize])
    w, m, g = rng.standard_normal((3, n)) * 10.0 ** rng.uniform(-15, 15, (3, n))
    v = (rng.standard_normal(n) * 10.0 ** rng.uniform(-15, 15, n)) ** 2
    for zeros, x in enumerate((w, m, v, g)):
        x[zeros::9] = 0
    g[5::9] = m[5::9]
    return tuple(x.astype(dtype) for x in (w, m, v, g))


def scalars(kernel):
    """Return the hyperparameters of ``kernel`` in the order of its arguments."""
    return (LR, BETA1, BETA2, EPS, *([DECAY] if kernel == "adamw_step" else []), C1, C2)


def textbook(kernel, w, m, v, g):
    """Return w, m, v as the papers write the step, and each error's scale, in long double."""
    w, m, v, g = (x.astype(np.longdouble) for x in (w, m, v, g))
    lr, beta1, beta2, c1, c2 = map(np.longdouble, (LR, BETA1, BETA2, C1, C2))
    m_new = beta1 * m + (1 - beta1) * g
    v_new = beta2 * v + (1 - beta2) * g**2
    root = np.sqrt(v_new / c2) + np.longdouble(EPS)
    kept = 1 - lr * np.longdouble(DECAY) if kernel == "adamw_step" else np.longdouble(1)
    w_new = kept * w - lr * (m_new / c1) / root
    m_scale = np.abs(m) + np.abs(g)
    w_scale = np.abs(w) + lr * (m_scale / c1) / root
    return (w_new, m_new, v_new), (w_scale, m_scale, v + g**2)


RUN_ALL = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_optim_kernels import CASES, _optim, arrays, scalars
results = {"isa": np.array(_optim.isa())}
for case in CASES:
    kernel, dtype, n = case.values
    w, m, v, g = arrays(dtype, n)
    getattr(_optim, kernel)(w, m, v, g, *scalars(kernel))
    results |= {f"{case.id}-{name}": x for name, x in zip("wmv", (w, m, v))}
np.savez(sys.argv[2], **results)
"""

ISAS = [
    pytest.param(
        isa,
        marks=pytest.mark.skipif(not _cpu.runs_here(isa), reason="this processor lacks it"),
    )
    for isa in ("baseline", "v3", "v4")
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run every case on an instruction set, in a process of its own."""
    folder, known = tmp_path_factory.mktemp("isa"), {}

    def load(isa):
        if isa not in known:
            path = folder / f"{isa}.npz"
            here = os.path.dirname(__file__)
            environment = os.environ | {"NNMATH_ISA": isa}
            subprocess.run([sys.executable, "-c", RUN_ALL, here, path], env=environment, check=True)
            known[isa] = dict(np.load(path))
        return known[isa]

    return load


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("kernel", "dtype", "n"), CASES)
def test_step_matches_the_textbook(results, isa, kernel, dtype, n, request):
    found = results(isa)
    assert found["isa"] == isa
    want, scales = textbook(kernel, *arrays(dtype, n))
    # Rounding: three operations and a rounded gain in m and v; in w also lr, c1, c2, the root, a
    # product, a quotient and the difference. 16 eps of the scale holds their sum.
    tol = 16 * np.finfo(dtype).eps
    tiny = np.finfo(dtype).tiny
    name = f"{kernel}-{dtype.name}-{n}"
    for letter, exact, scale in zip("wmv", want, scales, strict=True):
        got = found[f"{name}-{letter}"]
        assert got.dtype == dtype
        assert got.shape == (n,)
        assert np.all(np.abs(got - exact) <= tol * scale + tiny), letter


@pytest.mark.parametrize("isa", ISAS[1:])
def test_step_has_the_same_bits_on_each_instruction_set(results, isa):
    """But for Adam and AdamW in float32 with AVX-512, whose sums of products are fused (adam_wide.h)."""
    baseline, other = results("baseline"), results(isa)
    assert baseline.keys() == other.keys()
    for name in baseline.keys() - {"isa"}:
        if isa == "v4" and name.startswith("adam") and "float32" in name:
            continue
        assert baseline[name].tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_decay_of_a_small_rate_is_not_rounded_away(dtype):
    n, lr, decay = 1000, 1e-3, 1e-3  # 1 - 1e-6 in float32 is off by up to 3 percent of 1e-6
    w = np.linspace(1, 2, n).astype(dtype)
    before = w.copy()
    m, v, g = np.zeros((3, n), dtype)
    _optim.adamw_step(w, m, v, g, lr, BETA1, BETA2, EPS, decay, C1, C2)
    lost = (before.astype(np.float64) - w).sum()
    exact = lr * decay * before.astype(np.float64).sum()
    # Each w is rounded to eps / 2 of itself; over n weights the roundings add up like a walk.
    assert abs(lost - exact) <= 2 * np.finfo(dtype).eps * np.sqrt(n)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_in_a_gradient_stays_in_its_weight(kernel, dtype):
    w, m, v, g = np.ones((4, 9), dtype)
    g[4] = np.nan
    getattr(_optim, kernel)(w, m, v, g, *scalars(kernel))
    assert np.array_equal(np.isnan(w), np.arange(9) == 4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_arrays_of_different_length_are_refused(kernel):
    for short in range(1, 4):
        args = [np.ones(3) for _ in range(4)]
        args[short] = np.ones(2)
        words = rf"^{kernel}: `m`, `v` and `g` must be of shape \(3,\) as `w` is\.$"
        with pytest.raises(ShapeError, match=words):
            getattr(_optim, kernel)(*args, *scalars(kernel))


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_cannot_be_updated_in_place_is_refused(kernel):
    ones = np.ones(4)
    read_only = np.ones(4)
    read_only.flags.writeable = False
    step, rest = getattr(_optim, kernel), scalars(kernel)
    with pytest.raises(ValueError, match="read-only"):
        step(read_only, ones.copy(), ones.copy(), ones, *rest)
    with pytest.raises(ValueError, match="not C-contiguous"):
        step(np.ones(8)[::2], ones.copy(), ones.copy(), ones, *rest)
    with pytest.raises(ValueError, match="Buffer dtype mismatch"):
        step(ones.copy(), ones.copy(), ones.copy(), ones.astype(np.float32), *rest)
    step(ones.copy(), ones.copy(), ones.copy(), read_only, *rest)  # a gradient is only read
    assert np.array_equal(read_only, ones)


def test_an_unknown_instruction_set_is_refused_at_import():
    command = [sys.executable, "-c", "import nnmath_core._ext._optim"]
    run = subprocess.run(
        command, env=os.environ | {"NNMATH_ISA": "avx9"}, capture_output=True, text=True
    )
    assert run.returncode != 0
    assert run.stderr.splitlines()[-1] == (
        "ImportError: nnmath_core: NNMATH_ISA='avx9' is not one of baseline, v3, v4. "
        "Unset it, or set it to 'baseline'."
    )
