"""Programs that were staged on the host run on a device: their constants go there, once."""

import numpy as np

import nnmath_core as nm
from nnmath_core.device import device_of, to_device

xnp = nm.numpy
X = np.array([[0.3, 1.2, -0.4], [2.0, 0.1, 0.7]])
TABLE = np.arange(3.0)


def of_constants(x):
    edges = xnp.linspace(0.0, x[0, 0], 3)  # whose steps are an array of the host while staging
    return xnp.sum(x * TABLE, 1) + edges[:2] + xnp.polyint(x[0])[:2]


def test_a_staged_program_brings_its_constants_once(cp, device):
    program = nm.stage(of_constants, X)
    assert any(isinstance(c, np.ndarray) for c in program.constants.values())
    for place in ("cuda:0", "cuda:1"):
        x = to_device(X, place)
        y = program(x)
        assert str(device_of(y)) == place
        np.testing.assert_allclose(to_device(y, "cpu"), of_constants(X), rtol=1e-14)
        device.counters.clear()
        program(x)
        assert device.counters["host to device"] == 0
    np.testing.assert_array_equal(program(X), nm.stage(of_constants, X)(X))


def test_derivatives_and_loops_of_programs_on_a_device(cp):
    program = nm.stage(of_constants, X)
    x = to_device(X, "cuda:0")
    g = nm.grad(lambda x: xnp.sum(program(x) ** 2))
    np.testing.assert_allclose(to_device(g(x), "cpu"), g(X), rtol=1e-13)

    def scanned(x):
        step = lambda h, row: (h + xnp.polyder(row)[0] * xnp.sum(xnp.linspace(0.0, h, 3)), h)  # noqa: E731
        return nm.scan(step, x[0, 0], x)[0]

    for f in (scanned, nm.grad(scanned), lambda x: nm.linearize(xnp.polyint, x[0])[1](x[1])):
        np.testing.assert_allclose(to_device(f(x), "cpu"), f(X), rtol=1e-13)


def test_another_stream_waits_for_the_constants_of_a_program(cp, device):
    program = nm.stage(of_constants, X)
    x = to_device(X, "cuda:0")
    program(x)
    moved, _ = next(iter(program._resident._moved.values()))
    waited = []

    class Pending:
        done = False

    class Stream:
        def wait_event(self, event):
            waited.append(event)

    program._resident._moved = dict.fromkeys(program._resident._moved, (moved, Pending()))
    get = cp.cuda.get_current_stream
    try:
        cp.cuda.get_current_stream = Stream
        program._resident.beside([x])
    finally:
        cp.cuda.get_current_stream = get
    assert len(waited) == 1
