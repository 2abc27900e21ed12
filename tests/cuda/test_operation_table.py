"""The table of operations says what runs: held against the dispatcher, and against what the device has launched."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.device import Backend, backend_for, to_device
from nnmath_core.device.sparse import Pattern

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))

import cuda_table

RUN = [p for p in REGISTRY.values() if p.library != "absent" and cuda_table.has_stand_in(p.library)]


def there(x):
    if isinstance(x, Pattern):
        return Pattern(there(x.columns), there(x.starts), x.shape)
    return to_device(np.asarray(x), "cuda:0") if isinstance(x, np.ndarray | np.generic) else x


CHECKS = {"require_range"}  # looks at the index arrays of any operation


def own_kernels(device):
    """The kernels of ours that were launched to compute; CuPy's functions may be called as they are."""
    ours = {*cuda_table.kernels()} - CHECKS
    return {name.rpartition("__")[0] for name in device.launched} & ours


def named(how):
    return {*re.findall(r"`\w+\.(\w+)`", how)} if how.startswith("kernel") else set()


@pytest.mark.parametrize("primitive", RUN, ids=lambda p: p.name)
def test_a_primitive_is_what_the_table_says(primitive, cp, device):
    how = cuda_table.implementation(primitive)
    run = primitive.on(backend_for("cuda:0"))
    if how.startswith("`cupy"):
        path = how.strip("`")
        if not path.startswith("cupyx.scipy.special") or isinstance(primitive.forward, str):
            module, _, name = path.rpartition(".")
            place = importlib.import_module(module) if module in sys.modules else attribute(module)
            assert run._target is getattr(place, name)
    elif primitive.forward in Backend.operations:
        assert run.__func__ is getattr(type(backend_for("cuda:0")), primitive.forward)
    device.launched.clear()
    for sample in primitive.draw_samples():
        if all(np.size(x) for x in sample.operands):
            primitive(
                *map(there, sample.operands), **{k: there(v) for k, v in sample.params.items()}
            )
    assert own_kernels(device) <= named(how)
    assert bool(own_kernels(device)) == bool(named(how))


def attribute(path):
    """Return what a dotted path names."""
    root, *rest = path.split(".")
    found = importlib.import_module(root)
    for name in rest:
        found = getattr(found, name)
    return found


STEPS = {
    "adam_step": {"lr": 0.1, "beta1": 0.9, "beta2": 0.9, "eps": 1e-8, "c1": 0.1, "c2": 0.1},
    "adamw_step": {
        "lr": 0.1,
        "beta1": 0.9,
        "beta2": 0.9,
        "eps": 1e-8,
        "decay": 0.1,
        "c1": 0.1,
        "c2": 0.1,
    },
    "gradient_descent_step": {"lr": 0.1},
    "heavy_ball_step": {"lr": 0.1, "momentum": 0.9},
    "nesterov_step": {"lr": 0.1, "momentum": 0.9},
}
ARRAYS = {"adam_step": 4, "adamw_step": 4, "gradient_descent_step": 2}
OTHERS = {
    "random_blocks": lambda be, k: be.random_blocks(
        be.xp.zeros((3, 4), np.uint32), be.xp.zeros((3, 2), np.uint32)
    ),
    "random_words": lambda be, k: be.random_words(k, count=5, purpose=0),
    "random_uniform": lambda be, k: be.random_uniform(k, count=5, dtype=np.float32),
    "random_normal": lambda be, k: be.random_normal(k, count=5, dtype=np.float64),
}


@pytest.mark.parametrize(
    "name", [n for n, used in cuda_table.launched_by().items() if used and n in Backend.operations]
)
def test_an_operation_launches_the_kernel_of_the_table_once(name, cp, device):
    be = backend_for("cuda:0")
    if name in STEPS:
        arrays = [cp.ones(33) for _ in range(ARRAYS.get(name, 3))]
        call = lambda: getattr(be, name)(*arrays, **STEPS[name])  # noqa: E731
    elif name in OTHERS:
        keys = cp.zeros((2, 2), np.uint32)
        call = lambda: OTHERS[name](be, keys)  # noqa: E731
    else:
        pytest.skip("its own test file launches it")
    call()
    device.launched.clear()
    device.counters.clear()
    call()
    assert own_kernels(device) == named(cuda_table.operation_implementation(name))
    assert device.launched.total() == 1
