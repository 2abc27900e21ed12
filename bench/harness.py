"""How the benchmarks measure: groups of variants, interleaved, process CPU time, medians.

A row is a file of this folder with a ``TITLE`` and a function ``groups(*, quick)``, which returns
`Group`s. A group compares variants that do the same work; its first variant is the reference. A
ratio is the median, over the repeats, of the time of the variant divided by the time of the
reference in the same repeat: the clock of a machine drifts more between minutes than within one
repeat.

The process is pinned to one core and runs one thread (`run.py` sees to it), so that process CPU
time is the time of the work, and what else runs on the machine counts little.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

REPEATS = 15
SECONDS_PER_REPEAT = 0.004  # of each variant: long against the clock's resolution and a call
BUDGET_SECONDS = 30.0  # of a group; a slow variant gets fewer repeats, but at least three
FEWEST_REPEATS = 3

# None of these need be installed: a row that lacks one says so.
OURS = "nnmath_core"
PEERS = ("torch", "jax", "autograd")

Calls = list[Callable[[], Any]]


class WrongAnswer(AssertionError):
    """A variant computes something else than the reference of its group: its time means nothing."""


@dataclass(frozen=True)
class Variant:
    """One way of doing the work of a group.

    Parameters
    ----------
    name : str
        What the table calls it.
    call : callable or None
        Does the work once; None when the variant cannot be measured here.
    missing : str, optional
        Why ``call`` is None, as a sentence: "torch is not installed".
    limit : float, optional
        Largest ratio to the reference that the project promises.
    kernels : bool, optional
        Run with the small-array kernels of nnmath_core on or off; None leaves the setting alone.
    answer : callable, optional
        Turns what ``call`` returns into an array, to be compared with that of the reference; None
        for variants that compute something else on purpose (a forward pass, say).
    """

    name: str
    call: Callable[[], Any] | None
    missing: str | None = None
    limit: float | None = None
    kernels: bool | None = None
    answer: Callable[[Any], Any] | None = np.asarray


@dataclass(frozen=True)
class Group:
    """Variants that are compared; the first is the reference.

    ``per`` divides the times (a million nodes: nanoseconds a node), ``unit`` is "us" or "ns", and
    ``tolerance`` is the largest difference of two answers relative to the largest number of the
    reference's: rounding of some ten operations, 1e-13 in float64 and 1e-5 in float32.
    """

    name: str
    variants: list[Variant]
    per: int = 1
    unit: str = "us"
    tolerance: float = 1e-13


def optional(module: str) -> tuple[ModuleType | None, str | None]:
    """Import a module that need not be there; return it, or None and why it is not measured."""
    try:
        return importlib.import_module(module), None
    except ImportError as error:
        root = module.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name in (root, module):
            return None, f"{root} is not installed"
        return None, f"{root} cannot be imported: {error}"


def given(
    module: str,
    names: list[str],
    make: Callable[[ModuleType], Calls],
    limit: float | None = None,
    *,
    kernels: bool | None = None,
    answer: Callable[[Any], Any] | None = np.asarray,
) -> list[Variant]:
    """Return the variants of a module that need not be there.

    ``make`` gets the module and returns one call for each of ``names``; where the module is
    missing, the variants are not measured. The other arguments are those of `Variant`.
    """
    found, why = optional(module)
    calls = [None] * len(names) if found is None else make(found)
    return [
        Variant(name, call, missing=why, limit=limit, kernels=kernels, answer=answer)
        for name, call in zip(names, calls, strict=True)
    ]


@contextlib.contextmanager
def kernels(on: bool | None) -> Iterator[None]:
    """Switch the small-array kernels of nnmath_core inside a block; None leaves them alone."""
    if on is None:
        yield
        return
    switch = importlib.import_module("nnmath_core._ext._autodiff").set_small_kernels
    previous = switch(on)
    try:
        yield
    finally:
        switch(previous)


def measure(group: Group, *, quick: bool = False) -> dict[str, Any]:
    """Measure a group and return its part of the result file; ``quick`` runs everything once."""
    present = [v for v in group.variants if v.call is not None]
    check_answers(group, present)
    calls: dict[str, int] = {}
    times: dict[str, list[float]] = {v.name: [] for v in present}
    for variant in present:
        calls[variant.name] = 1 if quick else calls_per_repeat(variant)
    started = time.perf_counter()
    for round_ in range(1 if quick else REPEATS):
        for variant in present:
            times[variant.name].append(seconds(variant, calls[variant.name]))
        if round_ + 1 >= FEWEST_REPEATS and time.perf_counter() - started > BUDGET_SECONDS:
            break
    reference = times[present[0].name]
    scale = {"us": 1e6, "ns": 1e9}[group.unit] / group.per
    variants = []
    for variant in group.variants:
        if variant.call is None:
            variants.append({"name": variant.name, "measured": False, "reason": variant.missing})
            continue
        own = times[variant.name]
        paired = [t / r for t, r in zip(own, reference, strict=True)]
        ratio = statistics.median(paired)
        variants.append(
            {
                "name": variant.name,
                "measured": True,
                "median": statistics.median(own) * scale,
                "quartiles": [float(q) * scale for q in np.quantile(own, [0.25, 0.75])],
                "ratio": ratio,
                "ratio_quartiles": [float(q) for q in np.quantile(paired, [0.25, 0.75])],
                "limit": variant.limit,
                "met": None if variant.limit is None else ratio <= variant.limit,
                "repeats": len(own),
                "calls_per_repeat": calls[variant.name],
            }
        )
    return {
        "name": group.name,
        "unit": group.unit,
        "per": group.per,
        "reference": present[0].name,
        "variants": variants,
    }


def check_answers(group: Group, present: list[Variant]) -> None:
    """Run every variant once and compare what it computes with the reference."""
    expected: np.ndarray | None = None
    for variant in present:
        with kernels(variant.kernels):
            result = variant.call()
        if variant.answer is None:
            continue
        answer = np.asarray(variant.answer(result))
        if expected is None:
            expected = answer
            continue
        largest = float(np.abs(expected).max())
        alike = answer.shape == expected.shape and answer.dtype == expected.dtype
        if not (alike and np.abs(answer - expected).max() <= group.tolerance * largest):
            raise WrongAnswer(
                f"{group.name}: {variant.name!r} computes {answer!r}, the reference {expected!r}"
            )


def calls_per_repeat(variant: Variant) -> int:
    """Return how often a variant is called in one repeat."""
    calls = 1
    while True:
        elapsed = seconds(variant, calls) * calls
        if elapsed >= SECONDS_PER_REPEAT / 4:
            return max(1, round(calls * SECONDS_PER_REPEAT / elapsed))
        calls *= 4


def seconds(variant: Variant, calls: int) -> float:
    """Return the process CPU time of one call, from a loop of ``calls``."""
    call = variant.call
    with kernels(variant.kernels):
        start = time.process_time()
        for _ in repeat(None, calls):
            call()
        return (time.process_time() - start) / calls


# Facts of the machine -----------------------------------------------------------------------------


def machine_facts() -> dict[str, Any]:
    """Return what a reader needs to judge the figures."""
    cpu = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            cpu[key.strip()] = value.strip()
    flags = set(cpu.get("flags", "").split())
    return {
        "cpu": cpu.get("model name") or platform.processor() or "unknown",
        "cores": os.cpu_count(),
        "vector_instructions": [f for f in ("avx2", "fma", "avx512f") if f in flags],
        "system": platform.platform(),
        "python": platform.python_version(),
        "blas": blas(),
        "nnmath_isa": nnmath_isa(),
        "commit": commit(),
    }


def blas() -> str:
    """Return the name and version of NumPy's BLAS."""
    facts = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return f"{facts.get('name', 'unknown')} {facts.get('version', '')}".strip()


def nnmath_isa() -> str | None:
    """Return the instruction set of the small-array kernels, None without nnmath_core."""
    module, _ = optional("nnmath_core._ext._autodiff")
    return None if module is None else module.kernel_isa()


def commit() -> str | None:
    """Return the commit of the working tree, with "+" when files differ from it."""

    def git(*words: str) -> str:
        folder = Path(__file__).parent
        done = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str | None]:
    """Return the versions of what is measured; None for what is not installed."""
    found: dict[str, str | None] = {}
    for name in ("numpy", "scipy", OURS, *PEERS):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            module, _ = optional(name)
            found[name] = None if module is None else getattr(module, "__version__", "unknown")
    return found
