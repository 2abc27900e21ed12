"""The kernel that looks at index arrays: every size, both ends of the range, and what it writes."""

import numpy as np
import pytest

from nnmath_core.device import backend_for

SIZES = [0, 1, 31, 32, 33, 1023, 4099]


def found(cp, indices, size, axis=2):
    be = backend_for("cuda:0")
    words = cp.zeros(4, np.uint64)
    be.launch("index", "require_range", len(indices), cp.asarray(indices), size, axis, words)
    return cp.asnumpy(words).view(np.int64).tolist()


@pytest.mark.parametrize(("order", "poison"), [(k, p) for k in (0, 1, 2) for p in (0xFF, 0x7F)])
@pytest.mark.parametrize("n", SIZES)
def test_both_ends_of_the_range(cp, device, n, order, poison):
    device.order.update(order=order, poison=poison, seed=1)
    inside = np.resize(np.array([-7, 6, 0, -1], np.int64), n)
    assert found(cp, inside, 7) == [0, 0, 0, 0]
    for bad in (7, -8, 2**40, -(2**40)):
        for at in {0, n // 2, n - 1} if n else ():
            outside = inside.copy()
            outside[at] = bad
            assert found(cp, outside, 7) == [1, bad, 2, 7]


def test_of_several_one_is_told_whole(cp, device):
    got = found(cp, np.arange(4099, dtype=np.int64), 5, axis=0)
    assert got[0] == 1
    assert got[1] >= 5
    assert got[2:] == [0, 5]


def test_a_grid_shorter_than_the_indices(cp, device):
    turn, n = 65_536, 300_000  # the threads of a grid of ours on the emulated device, and more
    for at in (turn - 1, turn, turn + 1, 3 * turn, n - 1):
        indices = np.zeros(n, np.int64)
        indices[at] = 9
        assert found(cp, indices, 9) == [1, 9, 2, 9]
