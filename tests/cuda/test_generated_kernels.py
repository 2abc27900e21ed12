"""Every form of a generated kernel in three orders of threads, with three poisons, on adversarial data."""

import numpy as np
import pytest
from generated_kernels import CASES, plan_of

import nnmath_core as nm
from nnmath_core.program.cuda import plan

ROUNDS = 8  # of float32, on the way to an entry; sums are made in double
# exponentials and differences from a mean are rounded at the size of their arguments
BY_SIZE = ("short rows", "long rows", "gradient of layer norm", "gradient of wide layer norm")


def largest(x):
    """The largest absolute value of those that are finite."""
    return np.abs(x[np.isfinite(x)]).max(initial=0)


@pytest.mark.parametrize("name", CASES, ids=lambda name: name.replace(" ", "_"))
def test_form(device, name):
    f, arguments = CASES[name]
    made = plan_of(name)
    assert made.cost.host == 0
    for turn, args in enumerate(arguments):
        with np.errstate(all="ignore"):
            want = nm.tree_leaves(f(*[x.astype(np.float64) for x in args]))
        bound = ROUNDS * np.finfo(np.float32).eps
        if name in BY_SIZE:
            bound *= max(1.0, *map(largest, args))
        first = None
        for order in (0, 1, 2):
            # 0 is what a flag of the last block must not be found to be
            device.order.update(order=order, poison=(0xFF, 0x7F, 0)[(order + turn) % 3], seed=1)
            got = nm.tree_leaves(nm.to_device(made(*nm.to_device(args, "cuda")), "cpu"))
            for y, z in zip(got, want, strict=True):
                np.testing.assert_allclose(y, z, rtol=0, atol=bound * max(1.0, largest(z)))
            for y, z in zip(got, first or got, strict=True):
                np.testing.assert_array_equal(y, z)  # the order of threads changes no bit
            first = first or got


def memory_of(cp, kernel):
    """Random numbers for each buffer of a kernel, and its counters, at zero."""
    rng = np.random.default_rng(1)
    arrays = {}
    for v in (*kernel.reads, *kernel.writes, *kernel.scratch):
        size = v.buffer.nbytes // v.dtype.itemsize
        arrays[v.buffer] = cp.asarray(rng.random(size), v.dtype)
    return arrays, cp.zeros(kernel.tickets, np.uint32)


def launch(cp, kernel, arrays, tickets, grid):
    """Run so many blocks of a kernel."""
    views = (*kernel.reads, *kernel.writes, *kernel.scratch)
    pointers = [arrays[v.buffer].data.ptr + v.offset for v in views]
    if kernel.tickets:
        pointers.append(tickets.data.ptr)
    function = plan.kernel_of(cp, 0, kernel.source, kernel.name)
    function((grid,), (kernel.block,), tuple(pointers))


# forms whose results are smaller than their operands
SMALLER = ("parts of a row", "sums over rows", "sums over few rows")


@pytest.mark.parametrize(
    "name", [name for name in CASES if name not in SMALLER], ids=lambda name: name.replace(" ", "_")
)
def test_a_result_may_take_the_memory_of_an_operand(cp, device, name):
    steps = plan_of(name).steps
    assert any(step.inplace for step in steps)
    for step in steps:
        kernel = step.object
        start, tickets = memory_of(cp, kernel)
        apart = {b: x.copy() for b, x in start.items()}
        launch(cp, kernel, apart, tickets, kernel.grid)
        for write, read in step.inplace:
            arrays = {b: x.copy() for b, x in start.items()}
            arrays[kernel.writes[write].buffer] = arrays[kernel.reads[read].buffer]
            launch(cp, kernel, arrays, tickets, kernel.grid)
            for v in kernel.writes:
                np.testing.assert_array_equal(arrays[v.buffer].get(), apart[v.buffer].get())


# of the kernels in which blocks wait for the last one: what that writes, by the number of the result
LAST = {
    "rows made again": {0: np.s_[:]},
    "parts of a row": {0: np.s_[1:], 1: np.s_[1:]},
    "sums over rows": {0: np.s_[1:, 32:], 1: np.s_[1:, 32:]},
    "gradient of layer norm": {1: np.s_[:]},
    "gradient of wide layer norm": {1: np.s_[:]},
}


@pytest.mark.parametrize("name", LAST, ids=lambda name: name.replace(" ", "_"))
def test_nothing_is_joined_before_the_last_block(cp, device, name):
    kernel = plan_of(name).steps[0].object
    arrays, tickets = memory_of(cp, kernel)
    before = {b: x.get() for b, x in arrays.items()}
    launch(cp, kernel, arrays, tickets, kernel.grid - 1)
    together = kernel.grid // kernel.tickets
    np.testing.assert_array_equal(tickets.get(), [0] * (kernel.tickets - 1) + [together - 1])
    for k, entries in LAST[name].items():
        v = kernel.writes[k]
        now, then = arrays[v.buffer].get().reshape(v.shape), before[v.buffer].reshape(v.shape)
        np.testing.assert_array_equal(now[entries], then[entries])
