"""Arrays of the host that belong to something that is called again and again: each device gets them once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nnmath_core.device.dispatch import backend_for, device_of
from nnmath_core.device.names import Device

__all__ = ["Resident"]


class Resident:
    """The constants of a program, beside the arrays that it is called with.

    Parameters
    ----------
    constants : mapping
        Name -> array. Those of the host follow the arguments; others stay where they are.

    Examples
    --------
    >>> constants = Resident({"a": np.ones(2)})
    >>> constants.beside([np.zeros(2)])
    {'a': array([1., 1.])}
    """

    __slots__ = ("_constants", "_movable", "_moved")

    def __init__(self, constants: Mapping[Any, Any]) -> None:
        self._constants = dict(constants)
        self._movable = [k for k, x in constants.items() if isinstance(x, np.ndarray)]
        self._moved: dict[Device, tuple[dict[Any, Any], Any]] = {}

    def beside(self, values: Iterable[Any]) -> dict[Any, Any]:
        """Return a dictionary of the constants where the first of the values that is on a device lives.

        The first call on a device queues their copies, and nothing waits for them but other streams.
        """
        if self._movable:
            for x in values:
                if type(x) is not np.ndarray and hasattr(x, "__cuda_array_interface__"):
                    return self._on(device_of(x))
        return self._constants.copy()

    def _on(self, place: Device) -> dict[Any, Any]:
        be: Any = backend_for(place)
        with be.scope():
            stream = be.cupy.cuda.get_current_stream()
            if place not in self._moved:
                there = {k: be.from_host(self._constants[k]) for k in self._movable}
                copied = be.cupy.cuda.Event(disable_timing=True)
                copied.record(stream)
                self._moved[place] = {**self._constants, **there}, copied
            constants, copied = self._moved[place]
            if copied is not None:
                if copied.done:
                    self._moved[place] = constants, None
                else:
                    stream.wait_event(copied)
        return constants.copy()
