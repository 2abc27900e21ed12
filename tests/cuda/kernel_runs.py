"""How the tests of kernels run them: in three orders of threads, with two fillings, on grids of several sizes."""

import contextlib

from nnmath_core.device import backend_for
from nnmath_core.device.launch import family_of

SIZES = [0, 1, 31, 32, 33, 1023, 4099]
ORDERS = [(order, poison) for order in (0, 1, 2) for poison in (0xFF, 0x7F)]


def runs(device, seed=0):
    """Yield once for each order of threads and filling of shared memory, which then holds."""
    for order, poison in ORDERS:
        device.order.update(order=order, poison=poison, seed=seed)
        yield order, poison
    device.order.update(order=0, poison=0xFF, seed=0)


@contextlib.contextmanager
def grid(family, most, place="cuda:0"):
    """Let launches of a family have at most so many blocks, so that few elements need the stride."""
    be = backend_for(place)
    with be.scope():
        kernels = family_of(be.cupy, be.device.index, family)
    usual, kernels.most_blocks = kernels.most_blocks, most
    try:
        yield be
    finally:
        kernels.most_blocks = usual
