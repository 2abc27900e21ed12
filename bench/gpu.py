"""The GPU of the benchmarks: whether there is one, what it is, and how work on it is timed.

``python bench/gpu.py`` prints as JSON whether work can be timed, or why not. Work is queued and done later, so that
three times are told apart: that of a call among many, from event to event; the host's, until the call is queued; and
that of the device alone, when calls have been queued behind a kernel that waits.
"""

from __future__ import annotations

import importlib
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

EMULATED = "emulated: timing it would be a lie"
WARM_SECONDS = 0.02  # clocks of an idle GPU rise
BATCH_SECONDS = 0.002  # from event to event, whose resolution is half a microsecond
FEWEST, MOST = 10, 1000  # calls from event to event, of what is not slow
SLOW_SECONDS = 0.05  # of a call: one is enough
QUEUED = 10  # calls behind the kernel that waits: a thousand launches fill the queue
LONGEST_WAIT = 0.05
FASTEST_CLOCK = 3e9  # cycles a second, more than any GPU has


class NotTimedError(RuntimeError):
    """There is nothing here that could be timed."""


def emulated() -> bool:
    """Return whether CuPy runs on the emulated device of the tests."""
    cupy = sys.modules.get("cupy")
    if cupy is None:
        return False
    return bool(cupy.cuda.runtime.getDeviceProperties(0)["name"] == b"emulated")


def state() -> tuple[str, dict[str, Any]]:
    """Return "measured" with what a reader must know of the GPU, or "not measured: ..." with nothing."""
    nm = importlib.import_module("nnmath_core")
    try:
        nm.device("cuda")
    except nm.DeviceError as error:
        reason = " ".join(str(error).split()).removeprefix("device: ")
        return f"not measured: no GPU: {reason}", {}
    if emulated():
        return f"not measured: {EMULATED}", {}
    cupy = importlib.import_module("cupy")
    runtime = cupy.cuda.runtime
    found = runtime.getDeviceProperties(0)
    return "measured", {
        "name": found["name"].decode(),
        "capability": f"{found['major']}.{found['minor']}",
        "multiprocessors": int(found["multiProcessorCount"]),
        "cache": int(found["l2CacheSize"]),
        "memory": int(found["totalGlobalMem"]),
        "cuda": int(runtime.runtimeGetVersion()),
        "driver": int(runtime.driverGetVersion()),
        "cupy": str(cupy.__version__),
    }


# Clocks -------------------------------------------------------------------------------------------------------------


class Clock(Protocol):
    """Events on a stream."""

    def mark(self) -> Any:
        """Queue an event."""

    def reached(self, mark: Any) -> bool:
        """Return whether all that was queued before an event is done."""

    def wait(self, mark: Any) -> None:
        """Wait for that."""

    def between(self, first: Any, second: Any) -> float:
        """Return the seconds between two events that were reached."""

    def stall(self, seconds: float) -> None:
        """Queue a kernel that takes about so long, and longer rather than shorter."""


STALL = """
extern "C" __global__ void stall(long long cycles)
{   /* for so many cycles; a reading of the clock takes some ten of them, so that the loop has an end in any case */
    long long start = clock64();
    for (long long i = 0; i < cycles / 8 && clock64() - start < cycles; i++) { }
}
"""


class CupyClock:
    """CuPy's current stream."""

    def __init__(self) -> None:
        self.cupy = importlib.import_module("cupy")
        if emulated():
            raise NotTimedError(EMULATED)
        self.kernel = self.cupy.RawKernel(STALL, "stall")

    def mark(self) -> Any:
        event = self.cupy.cuda.Event()
        event.record()
        return event

    def reached(self, mark: Any) -> bool:
        return bool(mark.done)

    def wait(self, mark: Any) -> None:
        mark.synchronize()

    def between(self, first: Any, second: Any) -> float:
        return 1e-3 * float(self.cupy.cuda.get_elapsed_time(first, second))

    def stall(self, seconds: float) -> None:
        self.kernel((1,), (1,), (np.int64(seconds * FASTEST_CLOCK),))


class TorchClock:
    """PyTorch's current stream."""

    def __init__(self) -> None:
        self.torch = importlib.import_module("torch")

    def mark(self) -> Any:
        event = self.torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def reached(self, mark: Any) -> bool:
        return bool(mark.query())

    def wait(self, mark: Any) -> None:
        mark.synchronize()

    def between(self, first: Any, second: Any) -> float:
        return 1e-3 * float(first.elapsed_time(second))

    def stall(self, seconds: float) -> None:
        self.torch.cuda._sleep(int(seconds * FASTEST_CLOCK))


def clock(engine: str) -> Clock | None:
    """Return the clock of an engine; None for JAX, which has no events and waits in each call."""
    if engine in ("PyTorch", "torch.compile", "curvlinops"):
        return TorchClock()
    return None if engine == "JAX" else CupyClock()


def moved(inputs: Any) -> Any:
    """Return the inputs of a case on the GPU."""
    return importlib.import_module("nnmath_core").to_device(inputs, "cuda")


# Times --------------------------------------------------------------------------------------------------------------


def calls_for(seconds: float) -> int:
    """Return how many calls stand from event to event when one takes so long."""
    if seconds > SLOW_SECONDS:
        return 1
    return min(MOST, max(FEWEST, math.ceil(BATCH_SECONDS / max(seconds, 1e-9))))


def timed(run: Callable[[], Any], clock: Clock, seconds: float) -> dict[str, Any]:
    """Time work for about so long, after a warm-up.

    Returns
    -------
    dict
        "times": of a call among many, from event to event. "enqueue": the host's time of a call that finds the device
        idle. "device": the device's time of calls that were all queued before the first began; None where the host
        waits for the device within a call, so that this cannot be.
    """
    host = time.perf_counter
    until = host() + (WARM_SECONDS if seconds else 0.0)
    while True:
        first = clock.mark()
        run()
        last = clock.mark()
        clock.wait(last)
        if host() >= until:
            break
    calls = calls_for(clock.between(first, last)) if seconds else 1
    times: list[float] = []
    until = host() + seconds
    while not times or host() < until:
        first = clock.mark()
        for _ in range(calls):
            run()
        last = clock.mark()
        clock.wait(last)
        times.append(clock.between(first, last) / calls)
    enqueues = [enqueued(run, clock) for _ in range(5 if seconds else 1)]
    enqueue = statistics.median(enqueues)
    queued = min(calls, QUEUED)
    known: list[float] = []
    for together in (queued, 1):  # a call of many launches fills the queue
        if not known:
            alone = [behind(run, clock, together, enqueue) for _ in range(3 if seconds else 1)]
            known = [x for x in alone if x is not None]
    return {
        "times": times,
        "slow": calls == 1,
        "enqueue": enqueue,
        "device": statistics.median(known) if known else None,
    }


def enqueued(run: Callable[[], Any], clock: Clock) -> float:
    """Return the host's time of one call; the device is idle when it begins and when this returns."""
    started = time.perf_counter()
    run()
    spent = time.perf_counter() - started
    clock.wait(clock.mark())
    return spent


def behind(run: Callable[[], Any], clock: Clock, calls: int, enqueue: float) -> float | None:
    """Return the device's time of a call among some that wait for a kernel; None when they did not all wait."""
    clock.stall(min(LONGEST_WAIT, 1e-4 + 2 * calls * enqueue))
    first = clock.mark()
    for _ in range(calls):
        run()
    last = clock.mark()
    together = not clock.reached(first)
    clock.wait(last)
    return clock.between(first, last) / calls if together else None


if __name__ == "__main__":
    print(json.dumps(state()))
