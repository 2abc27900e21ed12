"""What the pool of threads costs, and what disturbs it: ``python bench/thread_pool.py``.

No row of `run.py`, which pins a process to one core. Prints microseconds, medians with the
quartiles in brackets. Needs two CPUs, and a machine on which nothing else runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

MEETINGS = 20
PARTS = ("costs", "quiet", "idle before", "busy process", "after a product", "spinner")


def show(what: str, seconds: list[float], note: str = "") -> None:
    low, middle, high = (1e6 * q for q in statistics.quantiles(seconds, n=4))
    print(f"  {what:<44} {middle:9.3f} [{low:.3f}, {high:.3f}] {note}", flush=True)


def costs() -> None:
    """One barrier, one empty run."""
    from nnmath_core._ext import _threads

    _threads.set_number(2)
    meetings, runs, serial = [], [], []
    end = time.monotonic() + 5
    while (len(meetings) < 50 or len(runs) < 50) and time.monotonic() < end:
        got, seconds = _threads.time_meetings(2, 2000)
        meetings += [seconds] if got == 2 else []
        parallel, seconds = _threads.time_runs(2, 200)
        runs += [seconds] if parallel == 200 else []
        serial.append(_threads.time_runs(1, 200)[1])
        time.sleep(0 if got == 2 else 0.004)
    show("barrier, two threads", meetings)
    show("empty run, two threads, back to back", runs)
    show("empty run, one thread", serial)


def runs(before: Callable[[], object]) -> None:
    """Runs of 100 us and 5 ms of arithmetic with 20 barriers, on one thread and on up to two."""
    from nnmath_core._ext import _threads

    _threads.set_number(2)
    for microseconds in (100, 5000):
        many = 20_000
        step = min(_threads.time_work(1, many, MEETINGS)[1] for _ in range(20)) / many
        units = round(1e-6 * microseconds / step)
        one, two, several = [], [], 0
        usual = 1.0  # the smallest part of a run that its barriers ever took
        end = time.monotonic() + 3
        while len(one) < 200 and time.monotonic() < end:
            before()
            one.append(_threads.time_work(1, units, MEETINGS)[1])
            before()
            got, seconds, waited = _threads.time_work(2, units, MEETINGS, 1e-6 * microseconds)
            two.append(seconds)
            several += got == 2
            if got == 2:
                usual = min(usual, waited / seconds)
                _threads.feedback(waited - usual * seconds, seconds)
        show(f"{microseconds} us of work, one thread", one)
        ratio = statistics.median(b / a for a, b in zip(one, two, strict=True))
        show("  up to two", two, f"x {ratio:.2f}; {several} of {len(two)} runs had two")


def product() -> None:
    import numpy as np

    x = np.ones((400, 400))
    x @ x  # by several threads of NumPy's BLAS


def spinner() -> None:
    """CPU time of the process in which nothing happens after a threaded product."""
    product()
    time.sleep(0.5)
    for idle in (0.05, 0.2, 0.5):
        product()
        begin = time.process_time()
        time.sleep(idle)
        print(f"  CPU time in {idle:.2f} s of sleep: {1e3 * (time.process_time() - begin):.1f} ms")


def part(name: str) -> None:
    if name == "costs":
        costs()
    elif name == "spinner":
        spinner()
    elif name == "after a product":
        runs(product)
    elif name == "idle before":
        runs(lambda: time.sleep(0.005))
    else:
        runs(lambda: None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        part(options.part)
        return 0
    print("microseconds: median [quartiles]")
    for name in PARTS:
        with_threads = name in ("after a product", "spinner")
        for timeout in ("", "4") if with_threads else ("",):
            env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
            env |= {"OMP_NUM_THREADS": "2" if with_threads else "1"}
            env |= {"OPENBLAS_THREAD_TIMEOUT": timeout} if timeout else {}
            print(f"{name}{', OPENBLAS_THREAD_TIMEOUT=4' if timeout else ''}", flush=True)
            loop = [sys.executable, "-c", "while True: pass"]
            busy = subprocess.Popen(loop) if name == "busy process" else None
            try:
                command = [sys.executable, __file__, "--part", name]
                subprocess.run(command, env=env, check=True)
            finally:
                if busy is not None:
                    busy.kill()
                    busy.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
