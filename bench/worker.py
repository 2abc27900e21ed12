"""A process that holds contenders and runs them on demand; ``measure.py`` starts it, one for each engine.

It reads a command a line and answers with a line, both JSON. Between commands it waits and computes nothing. What
libraries print goes to the standard error.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.metadata
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

BATCH_SECONDS = 50e-6  # what one reading of the clock covers at least
SLOW_SECONDS = 0.3
WARM_SECONDS = 0.003  # caches, clocks and sleeping threads come back before what is timed


class Held:
    """The contenders of one family in this engine."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.clock: Any = None
        self.works: dict[str, Any] = {}
        self.batch: dict[str, int] = {}

    def load(
        self, family: str, engine: str, options: Any, only: list[str] | None
    ) -> dict[str, Any]:
        """Make contenders ready; what fails says why."""
        registry = importlib.import_module("registry")
        self.works.clear()
        self.batch.clear()
        gc.unfreeze()
        gc.collect()
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
        inputs = registry.inputs_of(family, options)
        working = {}
        if self.device != "cpu":
            gpu = importlib.import_module("gpu")
            self.clock = gpu.clock(engine)
            inputs = gpu.moved(inputs) if engine == "ours" else inputs
        failed = {}
        for contender in registry.of(family, engine):
            if only is not None and contender.name not in only:
                continue
            started = time.perf_counter()
            try:
                work = self.works[contender.name] = contender.build(inputs, options)
                working[contender.name] = size_of(inputs) + size_of(work.answer)
                self.calibrate(contender.name)
            except Exception as error:
                self.works.pop(contender.name, None)
                if not isinstance(error, ImportError):
                    traceback.print_exc()
                failed[contender.name] = (
                    f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                )
            self.batch.setdefault(contender.name, 1)
            print(
                f"{contender.name}: ready in {time.perf_counter() - started:.2f} s", file=sys.stderr
            )
        gc.collect()
        gc.freeze()
        return {"ready": list(self.works), "failed": failed, "working_set": working}

    def calibrate(self, name: str) -> None:
        """Choose how many calls one reading of the clock covers."""
        run = self.works[name].run
        calls = 1
        while self.clock is None:
            started = time.perf_counter()
            for _ in range(calls):
                run()
            if time.perf_counter() - started >= BATCH_SECONDS:
                break
            calls *= 2
        self.batch[name] = calls

    def time(self, name: str, seconds: float) -> dict[str, Any]:
        """Run a contender for about so many seconds; return the times of one call.

        It runs a moment untimed before; of what is slow that moment would be no more than a hundredth, so its first
        call counts.
        """
        run, calls = self.works[name].run, self.batch[name]
        gc.disable()
        try:
            if self.clock is not None:
                timed: dict[str, Any] = importlib.import_module("gpu").timed(
                    run, self.clock, seconds
                )
                return timed
            clock = time.perf_counter
            until = clock() + WARM_SECONDS
            started = clock()
            run()
            first = clock() - started
            slow = first > SLOW_SECONDS
            while clock() < until:
                run()
            times: list[float] = [first] if slow else []
            until = clock() + (0.0 if slow else seconds)
            while not times or (clock() < until and len(times) < 10_000):
                started = clock()
                for _ in range(calls):
                    run()
                times.append((clock() - started) / calls)
        finally:
            gc.enable()
        return {"times": times, "slow": slow}

    def answer(self, name: str, path: str, eager: bool) -> dict[str, Any]:
        """Write the answer of a contender to a file."""
        work = self.works[name]
        arrays = work.eager() if eager else work.answer
        np.savez(path, **{f"a{k}": on_host(a) for k, a in enumerate(arrays)})
        return {"arrays": len(arrays)}


def size_of(tree: Any) -> int:
    """Return the bytes of all arrays of a tree."""
    if isinstance(tree, dict):
        return sum(map(size_of, tree.values()))
    if isinstance(tree, list | tuple):
        return sum(map(size_of, tree))
    return int(getattr(tree, "nbytes", 0))


def on_host(a: Any) -> Any:
    """Return an array as one of NumPy's."""
    return a.get() if hasattr(a, "__cuda_array_interface__") else np.asarray(a)


def versions(names: list[str]) -> dict[str, Any]:
    """Return the versions of packages; None for what is not installed."""
    found: dict[str, Any] = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    if found.get("nnmath_core") is None and "nnmath_core" in names:
        with contextlib.suppress(ImportError):
            found["nnmath_core"] = importlib.import_module("nnmath_core").__version__
    return found


def main() -> None:
    """Answer commands until the input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.path.insert(0, str(Path(__file__).parent))
    importlib.import_module("registry").load()
    held = Held(os.environ.get("NNMATH_BENCH_DEVICE", "cpu"))
    for line in sys.stdin:
        command = json.loads(line)
        do = command.pop("do")
        try:
            if do == "versions":
                reply: Any = versions(**command)
            else:
                reply = getattr(held, do)(**command)
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
