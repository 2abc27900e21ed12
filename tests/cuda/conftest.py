"""The tests of this folder run under ``-p emulated.plugin`` (make test-cuda) and not in the ordinary run."""

import sys

import pytest

PLUGIN = sys.modules.get("emulated.plugin")

collect_ignore_glob = [] if PLUGIN else ["test_*.py"]


@pytest.fixture
def cp():
    """CuPy."""
    import cupy

    return cupy


@pytest.fixture
def device():
    """The emulated device, with its counters at zero; the test is skipped on a GPU."""
    if PLUGIN is None or PLUGIN.device is None:
        pytest.skip("this is about the emulated device, and a GPU runs the tests")
    PLUGIN.device.counters.clear()
    PLUGIN.device.history.clear()
    yield PLUGIN.device
    PLUGIN.device.order.update(order=0, poison=0xFF, seed=0)
    PLUGIN.device.timing["late"] = False
