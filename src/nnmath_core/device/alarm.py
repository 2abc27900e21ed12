"""Index arrays on a device that are out of range: found there, and told when the host next waits.

CuPy wraps such an index around. To look at an index array here would wait for the device at each selection, so a kernel
looks, and the finding lies on the device until something waits anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core.typing import Array

__all__ = ["Alarm"]


class Alarm:
    """What has been found on one device.

    Parameters
    ----------
    cupy : module
    name : str
        The device, for a complaint.
    """

    def __init__(self, cupy: Any, name: str) -> None:
        self._cupy, self._name = cupy, name
        self._found: Any = None
        self._looked = False

    def found(self) -> Array:
        """Return the words that the kernel writes, on the current device; from now on a wait looks at them."""
        if self._found is None:
            self._found = self._cupy.zeros(4, np.uint64)
        self._looked = True
        words: Array = self._found
        return words

    def ring(self) -> None:
        """Raise what has been found since the last time; to be called on the device, where the host waits.

        Raises
        ------
        IndexError
            An index was out of range.
        """
        if not self._looked:
            return
        self._looked = False
        found, index, axis, size = self._cupy.asnumpy(self._found).view(np.int64).tolist()
        if found:
            self._found.fill(0)
            raise IndexError(
                f"index {index} is out of bounds for axis {axis} with size {size}, in an operation that ran on "
                f"{self._name} before; what has been computed with it since is not to be used."
            )
