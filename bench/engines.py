"""The engines that are compared, and the processes in which they run."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent

# glibc gives no block back and takes none fresh from the kernel: what a user can do against page faults
TUNED = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}

# the memory is for all processes; products in full float32, as ours and PyTorch's are
CUDA = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    "CUPY_TF32": "0",
}

SETTLE_SECONDS = 0.6  # at most; a pool of OpenBLAS spins for 0.11 s after a product
QUIET_FRACTION = 0.02  # of a core: what a process that waits may use


@dataclass(frozen=True)
class Engine:
    """A way of computing, in a process of its own.

    Parameters
    ----------
    name : str
        As in tables.
    needs : str
        The package without which there is nothing to measure; "" is none.
    label : str
        How the output calls the package.
    peer : bool
        Whether it runs by the interpreter of the peers.
    environment : mapping
        Added to that of the process.
    same_as : str
        The engine whose contenders it runs, when it differs by its environment alone.
    """

    name: str
    needs: str = ""
    label: str = ""
    peer: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    same_as: str = ""

    @property
    def contenders(self) -> str:
        """The engine under which the registry lists the contenders."""
        return self.same_as or self.name


ENGINES = {
    engine.name: engine
    for engine in (
        Engine("ours", "nnmath_core", "nnmath-core"),
        Engine("floor"),
        Engine("floor, serial BLAS", environment={"OPENBLAS_NUM_THREADS": "1"}),
        Engine("NumPy", "numpy", "NumPy"),
        Engine("PyTorch", "torch", "PyTorch", peer=True),
        Engine("PyTorch, tuned malloc", "torch", "PyTorch", True, TUNED, "PyTorch"),
        Engine("torch.compile", "torch", "PyTorch", peer=True),
        Engine("torch.compile, tuned malloc", "torch", "PyTorch", True, TUNED, "torch.compile"),
        Engine("JAX", "jax", "JAX", peer=True),
        Engine("JAX, tuned malloc", "jax", "JAX", True, TUNED, "JAX"),
        Engine("curvlinops", "curvlinops-for-pytorch", "curvlinops", peer=True),
    )
}


class Failed(RuntimeError):
    """A worker ended or could not do what it was asked."""


class Process:
    """A worker: one engine on so many threads.

    Parameters
    ----------
    engine : Engine
    interpreter : str
        Path of the Python that runs it.
    threads : int
        It may use so many CPUs, the last ones of the machine, and its libraries are told so; 0 is all.
    log : file
        Where its standard error goes.
    device : str
        "cpu", or "cuda" for work on the first GPU.
    """

    def __init__(
        self, engine: Engine, interpreter: str, threads: int, log: Any, device: str = "cpu"
    ) -> None:
        self.engine = engine
        threads = threads or cpus()
        count = str(threads)
        environment = {
            **os.environ,
            **{f"{name}_NUM_THREADS": count for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")},
            "NNMATH_BENCH_DEVICE": device,
            "JAX_PLATFORMS": device,
            **(CUDA if device == "cuda" else {}),
            "JAX_ENABLE_X64": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **engine.environment,
        }
        if engine.peer and interpreter != sys.executable:
            environment.pop("PYTHONPATH", None)  # another interpreter has its own packages
        self.child = subprocess.Popen(
            [interpreter, str(BENCH / "worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            text=True,
            preexec_fn=lambda: place(threads),
        )

    def ask(self, do: str, **command: Any) -> Any:
        """Send a command and wait for its reply."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        try:
            self.child.stdin.write(json.dumps({"do": do, **command}) + "\n")
            self.child.stdin.flush()
            line = self.child.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise Failed(f"the process of {self.engine.name} ended with status {self.child.wait()}")
        reply = json.loads(line)
        if isinstance(reply, dict) and "error" in reply:
            raise Failed(f"{self.engine.name}: {reply['error']}")
        return reply

    def settle(self) -> None:
        """Wait until the process has stopped computing: pools of threads spin after the work is done."""
        until = time.perf_counter() + SETTLE_SECONDS
        before, then = self.cpu_seconds(), time.perf_counter()
        if before is None:
            time.sleep(0.15)
            return
        while time.perf_counter() < until:
            time.sleep(0.004)
            after, now = self.cpu_seconds(), time.perf_counter()
            if after is None or after - before < QUIET_FRACTION * (now - then):
                return
            before, then = after, now

    def cpu_seconds(self) -> float | None:
        """Return the time that the threads of the process have run; None where the system does not say."""
        total = 0
        try:
            for thread in Path(f"/proc/{self.child.pid}/task").iterdir():
                total += int((thread / "schedstat").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None
        return total * 1e-9

    def close(self) -> None:
        """End the process."""
        if self.child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # a command that a dead process never read
                self.child.stdin.close()
        try:
            self.child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        if self.child.stdout is not None:
            self.child.stdout.close()


def place(threads: int) -> None:
    """Restrict this process to so many CPUs, the last ones of those that it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def cpus() -> int:
    """Return how many CPUs there are for this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def installed(interpreter: str) -> dict[str, str | None]:
    """Ask an interpreter for the versions of all that engines need."""
    names = sorted({e.needs for e in ENGINES.values() if e.needs} | {"scipy"})
    code = (
        "import importlib.metadata as m, json, sys\n"
        "def v(n):\n"
        "    try: return m.version(n)\n"
        "    except m.PackageNotFoundError: return None\n"
        "print(json.dumps({n: v(n) for n in sys.argv[1:]}))"
    )
    try:
        done = subprocess.run(
            [interpreter, "-c", code, *names], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failed(f"the interpreter {interpreter} does not run: {error}") from None
    found: dict[str, str | None] = json.loads(done.stdout)
    return found
