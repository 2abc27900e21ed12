"""The libraries that primitives declare are those that CuPy enters, or nothing is there at all."""

import importlib

import numpy as np
import pytest
from emulated import libraries

from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.device import backend_for, to_device
from nnmath_core.device.sparse import Pattern
from nnmath_core.errors import DeviceError

MISSING = [p for p in REGISTRY.values() if p.library in libraries.WITHOUT_STAND_IN]
ABSENT = [p for p in REGISTRY.values() if p.library == "absent"]
RUN = [p for p in REGISTRY.values() if p not in MISSING and p not in ABSENT]

# CuPy factorises small matrices by cuBLAS and goes to cuSOLVER with larger ones than the samples are
LARGER = {"det", "slogdet", "lu"}


def operands_there(operands):
    return [there(np.asarray(x)) if isinstance(x, np.ndarray | np.generic) else x for x in operands]


def parameters_there(params):
    return {
        k: Pattern(there(v.columns), there(v.starts), v.shape) if isinstance(v, Pattern) else v
        for k, v in params.items()
    }


def there(x):
    return to_device(x, "cuda:0")


@pytest.mark.parametrize("primitive", RUN, ids=lambda p: p.name)
def test_library_is_the_one_that_is_entered(primitive, device):
    libraries.entered()
    for sample in primitive.draw_samples():
        if all(np.size(x) for x in sample.operands):
            primitive(*operands_there(sample.operands), **parameters_there(sample.params))
    found = libraries.entered()
    assert found <= {primitive.library}, (
        f"declare library={found} in the primitive {primitive.name}"
    )
    if primitive.library and primitive.name not in LARGER:
        assert found, f"{primitive.name} declares {primitive.library} and never enters it"


@pytest.mark.parametrize("primitive", ABSENT, ids=lambda p: p.name)
def test_absent_is_absent_and_says_so(primitive, device):
    sample = primitive.draw_samples()[0]
    with pytest.raises(DeviceError, match="CuPy has no implementation"):
        primitive(*operands_there(sample.operands), **sample.params)
    if isinstance(primitive.forward, str) and primitive.forward.startswith("special."):
        special = importlib.import_module("cupyx.scipy.special")
        name = primitive.forward.partition(".")[2]
        assert not hasattr(special, name), f"CuPy has {name}: drop library='absent'"


def test_missing_is_there_by_name(device):
    """Names and keywords are checked by test_cuda_surface.py; here that the wheel has the function."""
    for primitive in MISSING:
        assert callable(primitive.on(backend_for("cuda:0")))
