"""The way of host arrays to a CUDA device: a ring of pinned memory that is filled and sent in parts.

A device reads pinned memory by itself, later than the call that asks for it. So what is sent must neither change nor
be freed until it has been read: arrays are copied into memory of our own first, and a part of it is filled again when
the event behind its copy has happened. The memory is bounded: CuPy's own pool would pin as much as the largest array
and keep it.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np

from nnmath_core.typing import Array

_RING = 16 << 20  # bytes of pinned memory of a device
_PART = _RING // 4  # of one copy at most: the next part is filled while the device reads this one
_STEP = 256  # to which places in the ring are aligned
_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation


class Staging:
    """Pinned memory through which host arrays go to one device.

    Every method is called with the device entered, and works on its current stream. Threads take turns.

    Parameters
    ----------
    cupy : module
    empty_pinned : callable
        `cupyx.empty_pinned`.
    """

    def __init__(self, cupy: Any, empty_pinned: Callable[..., Array]) -> None:
        self.cupy = cupy
        self._empty_pinned = empty_pinned
        self._lock = threading.Lock()
        self._ring: Array | None = None
        # counted in bytes since the beginning of time: what lies between them is on its way
        self._head = self._tail = 0
        self._sent: deque[tuple[int, Any]] = deque()  # the end of a part, the event behind its copy
        self._kept: deque[tuple[Any, Any]] = deque()

    def send(self, x: Any) -> Array:
        """Return a copy of a host array on the device; ``x`` has been read when the call returns.

        The layout is kept where it is that of C or Fortran; other arrays are copied to that of C, foreign byte order
        becomes native.
        """
        x = np.asarray(x)
        order: Literal["C", "F"] = "F" if x.flags.fnc else "C"
        x = np.asarray(x, x.dtype.newbyteorder("="), order=order)
        out: Array = self.cupy.empty(x.shape, x.dtype, order)
        if x.size == 0:
            return out
        with self._lock:
            if self._ring is None and not self._allocate():
                copied: Array = self.cupy.asarray(x, order=order, blocking=True)
                return copied
            self._send_parts(x.ravel(order="K").view(np.uint8), out)
        return out

    def keep(self, x: Any) -> None:
        """Keep an object alive until everything that is queued now on the current stream has been done."""
        with self._lock:
            while self._kept and self._kept[0][0].done:
                self._kept.popleft()
            self._kept.append((self._mark(self.cupy.cuda.get_current_stream()), x))

    def _send_parts(self, data: Array, out: Any) -> None:
        stream = self.cupy.cuda.get_current_stream()
        for start in range(0, data.size, _PART):
            part = data[start : start + _PART]
            place, end = self._room(part.size)
            place[...] = part
            (out.data + start).copy_from_host_async(place.ctypes.data, part.size, stream)
            self._sent.append((end, self._mark(stream)))
            self._head = end

    def _room(self, size: int) -> tuple[Array, int]:
        """Return the next ``size`` bytes of the ring and where they end, waiting until they have been read."""
        assert self._ring is not None
        head = -(-self._head // _STEP) * _STEP
        if head % _RING + size > _RING:  # a part lies in one piece
            head += _RING - head % _RING
        while head + size - self._tail > _RING:
            if (
                not self._sent
            ):  # nothing is on its way; only the skipped end of the ring lies behind
                self._tail = head
                break
            end, read = self._sent.popleft()
            if not read.done:
                read.synchronize()  # the only waiting
            self._tail = end
        first = head % _RING
        return self._ring[first : first + size], head + size

    def _mark(self, stream: Any) -> Any:
        event = self.cupy.cuda.Event(disable_timing=True)
        event.record(stream)
        return event

    def _allocate(self) -> bool:
        """Pin the memory of the ring; False where the machine has none to give."""
        error = self.cupy.cuda.runtime.CUDARuntimeError
        try:
            self._ring = self._empty_pinned(_RING, np.uint8)
        except error as said:
            if said.status != _OUT_OF_MEMORY:
                raise
            return False
        return True


@contextlib.contextmanager
def between(cupy: Any, here: Any, there: Any) -> Iterator[Any]:
    """Context of a copy from the device ``here`` to ``there``: ordered after and before the work of both streams.

    The copy belongs to the current stream of ``there``. It begins when what is queued now on the current stream of
    ``here`` has been done, and what is queued on that stream afterwards, which may overwrite the source or use its
    freed memory, begins when the copy has been done. The host waits for nothing.
    """
    with here:
        source = cupy.cuda.get_current_stream()
        written = cupy.cuda.Event(disable_timing=True)
        written.record(source)
    with there:
        stream = cupy.cuda.get_current_stream()
        stream.wait_event(written)
        yield stream
        read = cupy.cuda.Event(disable_timing=True)
        read.record(stream)
    with here:
        source.wait_event(read)
