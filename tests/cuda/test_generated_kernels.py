"""Every form of a generated kernel in three orders of threads, with three poisons, on adversarial data."""

import numpy as np
import pytest
from generated_kernels import CASES, plan_of

import nnmath_core as nm

ROUNDS = 8  # of float32, on the way to an entry; sums are made in double
# exponentials and differences from a mean are rounded at the size of their arguments
BY_SIZE = ("short rows", "long rows", "gradient of layer norm", "gradient of wide layer norm")


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
            bound *= max(1.0, max(np.abs(x).max() for x in args))
        first = None
        for order in (0, 1, 2):
            # 0 is what a flag of the last block must not be found to be
            device.order.update(order=order, poison=(0xFF, 0x7F, 0)[(order + turn) % 3], seed=1)
            got = nm.tree_leaves(nm.to_device(made(*nm.to_device(args, "cuda")), "cpu"))
            for y, z in zip(got, want, strict=True):
                np.testing.assert_allclose(y, z, rtol=0, atol=bound * max(1.0, np.abs(z).max()))
            for y, z in zip(got, first or got, strict=True):
                np.testing.assert_array_equal(y, z)  # the order of threads changes no bit
            first = first or got
