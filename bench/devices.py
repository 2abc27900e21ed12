"""How cases are measured on the CPU and on a GPU: each size in turn, beside what either device can do at best.

Each device has a process for the work and one for its ceilings, which are measured before and after each size: the rate
of a copy and that of a product of matrices. Within a round every device has one turn, in an order drawn anew.
"""

from __future__ import annotations

import math
import os
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import registry
from engines import ENGINES, Failed, Process
from measure import Plan, Processes, kind, spread
from registry import Case, Size

DIFFER = 0.10  # how much the ceilings before and after may differ
CACHED = 4  # a working set below so many caches may stay in one
CEILING_TURNS = 3
ATTEMPTS = 2  # at a size whose ceilings differ
LEAST_BYTES = 1 << 28  # of a copy
PRODUCT = {"cpu": 2048, "cuda": 4096}  # rows of the product, in float64 half of it
CEILINGS = "ceilings"


@dataclass(frozen=True)
class Machine:
    """What is measured.

    Parameters
    ----------
    threads : int
        Of the CPU.
    cache : int or None
        Bytes of the last cache of the CPU.
    memory : int
        Bytes of memory.
    gpu : str
        "measured", "not measured: ..." with the reason, or "" when it was not asked for.
    gpu_cache, gpu_memory : int
    cpu : bool
        Whether the CPU is measured.
    """

    threads: int
    cache: int | None
    memory: int
    gpu: str = ""
    gpu_cache: int = 0
    gpu_memory: int = 0
    cpu: bool = True

    @property
    def devices(self) -> list[str]:
        """The devices that are measured."""
        return ["cpu"] * self.cpu + ["cuda"] * (self.gpu == "measured")

    def cache_of(self, device: str) -> int | None:
        """Return the bytes of the last cache of a device."""
        return self.cache if device == "cpu" else self.gpu_cache

    def copied(self, device: str) -> int:
        """Return the bytes that the copy moves: beyond the cache, and no more than a quarter of the memory."""
        cache = self.cache_of(device) or 0
        memory = self.memory if device == "cpu" else self.gpu_memory
        return int(min(max(LEAST_BYTES, 2 * CACHED * cache), memory / 4))


class Devices(Processes):
    """The processes of one run.

    Parameters
    ----------
    interpreters, missing : dict of str to str
        The Python of each engine that is there; why the others are not.
    plan : Plan
    log : file
    machine : Machine
    """

    def __init__(
        self,
        interpreters: Mapping[str, str],
        missing: Mapping[str, str],
        plan: Plan,
        log: Any,
        machine: Machine,
    ) -> None:
        self.interpreters, self.missing, self.plan, self.log = interpreters, missing, plan, log
        self.machine = machine
        super().__init__()
        self.loaded: dict[tuple[str, str], Any] = {}
        self.rng = np.random.default_rng(0)

    def close(self) -> None:
        """End all processes."""
        super().close()
        self.loaded.clear()

    def process(self, device: str, what: str) -> Process:
        """Return the process of an engine, or of the ceilings, on a device."""
        key = device, what
        if key not in self.processes:
            name = what
            if what == CEILINGS:
                name = "floor" if device == "cpu" else "ours"
            threads = self.machine.threads if device == "cpu" else 0
            self.processes[key] = Process(
                ENGINES[name], self.interpreters[name], threads, self.log, device
            )
        return self.processes[key]

    # A case -------------------------------------------------------------------------------------------------------

    def case(self, case: Case, full: bool) -> dict[str, Any]:
        """Measure the sizes of a case."""
        sizes = [s for s in case.sizes if s.sizes == "quick" or full] or list(case.sizes)
        if self.plan.tiny:
            sizes = sizes[:1]
        measured = []
        try:
            before = {d: self.ceilings(d, case.dtype) for d in self.machine.devices}
            for size in sizes:
                found, before = self.size(case, size, before)
                measured.append(found)
        finally:
            if not self.plan.tiny:
                self.close()  # the next case begins with fresh processes
        return {
            "case": case.name,
            "title": case.title,
            "grows": case.grows,
            "dtype": case.dtype,
            "sizes": measured,
            "crossover": None if self.plan.tiny else crossover(measured, case.grows),
        }

    def size(
        self, case: Case, size: Size, before: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Measure a size, again when the ceilings moved; return it with the ceilings after it."""
        options = dict(size.options) | (dict(case.tiny) if self.plan.tiny else {})
        entrants, absent, working = self.load(case, options)
        family = registry.FAMILIES[case.family]
        flops, nbytes = family.count(options)
        attempts = 0
        while True:
            attempts += 1
            times, extra = self.rounds(entrants)
            after = {d: self.ceilings(d, case.dtype) for d in self.machine.devices}
            needed = {d: self.needed(d, flops, nbytes, working) for d in after}
            moved = [d for d in after if drift(before[d], after[d], needed[d]) > DIFFER]
            if not moved or attempts >= min(ATTEMPTS, self.plan.attempts):
                break
            before = after
        found: dict[str, Any] = {
            "label": size.label,
            "n": size.n,
            "row": size.row,
            "options": options,
            "count": {"flops": flops, "bytes": nbytes},
            "operations": flops or (family.arithmetic(options) if family.arithmetic else 0.0),
            "working_set": working,
            "attempts": attempts,
            "devices": {},
            "peers": [],
            "absent": absent,
        }
        for (device, engine, name), seconds in times.items():
            what = {
                "engine": engine,
                "name": name,
                **spread(seconds),
                **extra[device, engine, name],
            }
            if engine != "ours":
                found["peers"].append({"device": device, **what})
                continue
            found["devices"][device] = what | self.compared(
                what["median"], found, device, before[device], after[device]
            )
        for entry in absent:
            if entry["engine"] == "ours":
                found["devices"][entry["device"]] = {"reason": entry["reason"]}
        if self.machine.gpu.startswith("not measured"):
            found["devices"]["cuda"] = {"reason": self.machine.gpu.partition(": ")[2]}
        found["speedup"] = speedup(found["devices"])
        return found, after

    def needed(self, device: str, flops: float, nbytes: float, working: int) -> list[str]:
        """Return the ceilings with which work on a device is compared."""
        cache = self.machine.cache_of(device)
        return ["copy"] * bool(nbytes and not stays(working, cache)) + ["product"] * bool(flops)

    def compared(
        self,
        seconds: float,
        found: Mapping[str, Any],
        device: str,
        before: Mapping[str, float],
        after: Mapping[str, float],
    ) -> dict[str, Any]:
        """Return what fraction of its ceilings a device reached."""
        cache, working = self.machine.cache_of(device), found["working_set"]
        common = {"ceilings": [dict(before), dict(after)], "cached": stays(working, cache)}
        if self.plan.tiny:
            return {"copy": {"reason": "tiny"}, "product": {"reason": "tiny"}, **common}
        pairs = {what: (before[what], after[what]) for what in ("copy", "product")}
        return {
            "copy": fraction(found["count"]["bytes"], seconds, pairs["copy"], working, cache),
            "product": fraction(found["count"]["flops"], seconds, pairs["product"]),
            **common,
        }

    def load(
        self, case: Case, options: Mapping[str, Any]
    ) -> tuple[list[tuple[str, str, str]], list[dict[str, str]], int]:
        """Make contenders ready: ours on each device, the peers on the GPU; say who is absent, and the working set."""
        name = case.ours or registry.of(case.family, "ours")[0].name
        wanted: list[tuple[str, str, list[str] | None]] = [
            (d, "ours", [name]) for d in self.machine.devices
        ]
        if "cuda" in self.machine.devices:
            wanted += [
                ("cuda", e.name, None)
                for e in ENGINES.values()
                if kind(e.name) == "peer"
                and not e.same_as
                and e.peer
                and registry.of(case.family, e.contenders)
            ]
        entrants: list[tuple[str, str, str]] = []
        absent: list[dict[str, str]] = []
        working = 0
        for device, engine, only in wanted:
            base = {"device": device, "engine": engine}
            if engine not in self.interpreters:
                absent.append({**base, "name": "", "reason": self.missing[engine]})
                continue
            try:
                reply = self.process(device, engine).ask(
                    "load",
                    family=case.family,
                    engine=ENGINES[engine].contenders,
                    options=dict(options),
                    only=only,
                )
            except Failed as error:
                self.drop(device, engine)
                absent.append({**base, "name": name, "reason": str(error)})
                continue
            entrants += [(device, engine, ready) for ready in reply["ready"]]
            absent += [{**base, "name": k, "reason": why} for k, why in reply["failed"].items()]
            if engine == "ours":
                working = max(working, *reply["working_set"].values(), 0)
            self.settle(device, engine)
        return entrants, absent, working

    def drop(self, device: str, what: str) -> None:
        """Forget a process that has ended."""
        self.loaded.pop((device, what), None)
        process = self.processes.pop((device, what), None)
        if process is not None:
            process.close()

    def settle(self, device: str, what: str) -> None:
        """Wait until a process has stopped computing."""
        if self.plan.settle:
            self.process(device, what).settle()

    def rounds(
        self, entrants: list[tuple[str, str, str]]
    ) -> tuple[dict[tuple[str, str, str], list[float]], dict[tuple[str, str, str], dict[str, Any]]]:
        """Return the time of each entrant in each round; of those on the GPU what a call costs host and device."""
        times: dict[tuple[str, str, str], list[float]] = {e: [] for e in entrants}
        apart: dict[tuple[str, str, str], list[dict[str, Any]]] = {e: [] for e in entrants}
        for _ in range(self.plan.rounds):
            for place in self.rng.permutation(len(entrants)):
                device, engine, name = entrants[place]
                reply = self.process(device, engine).ask(
                    "time", name=name, seconds=self.plan.seconds
                )
                times[device, engine, name].append(statistics.median(reply["times"]))
                apart[device, engine, name].append(reply)
                self.settle(device, engine)
        return times, {e: queueing(replies) for e, replies in apart.items()}

    # Ceilings -----------------------------------------------------------------------------------------------------

    def ceilings(self, device: str, dtype: str) -> dict[str, float]:
        """Return what a device does at best: bytes and operations a second, each by its median of some turns."""
        options: dict[str, Any] = {
            "bytes": 1 << 20 if self.plan.tiny else self.machine.copied(device),
            "n": 32 if self.plan.tiny else PRODUCT[device] // (1 if dtype == "f4" else 2),
            "dtype": dtype,
        }
        process = self.process(device, CEILINGS)
        if self.loaded.get((device, CEILINGS)) != options:
            reply = process.ask(
                "load",
                family=CEILINGS,
                engine="floor" if device == "cpu" else "ours",
                options=options,
                only=None,
            )
            if reply["failed"]:
                raise Failed(f"the ceilings of {device}: {reply['failed']}")
            self.loaded[device, CEILINGS] = options
        amounts = {"copy": float(options["bytes"]), "product": 2.0 * options["n"] ** 3}
        rates = {}
        for what, amount in amounts.items():
            turns = []
            for _ in range(1 if self.plan.tiny else CEILING_TURNS):
                reply = process.ask("time", name=what, seconds=self.plan.seconds)
                turns.append(statistics.median(reply["times"]))
            rates[what] = amount / statistics.median(turns)
        self.settle(device, CEILINGS)
        return rates


# Numbers ------------------------------------------------------------------------------------------------------------


def last_cache(caches: Mapping[str, str]) -> int | None:
    """Return the bytes of the last of some caches, as {"L2": "2048K"}; None when there are none."""
    levels = {}
    for name, said in caches.items():
        level, size = re.match(r"L(\d+)", name), re.fullmatch(r"(\d+)([KMG]?)", said)
        if level and size:
            levels[int(level[1])] = int(size[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[size[2]]
    return levels[max(levels)] if levels else None


def memory() -> int:
    """Return the bytes of memory of this machine; 4 GiB where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 4 << 30


def differ(before: float, after: float) -> float:
    """Return by how much two rates differ, relative to the smaller."""
    return max(before, after) / min(before, after) - 1


def drift(before: Mapping[str, float], after: Mapping[str, float], needed: Sequence[str]) -> float:
    """Return by how much some ceilings of a device differ at most."""
    return max((differ(before[what], after[what]) for what in needed), default=0.0)


def stays(working: float, cache: int | None) -> bool:
    """Return whether a working set may stay in a cache, or nobody knows."""
    return cache is None or working < CACHED * cache


def fraction(
    amount: float,
    seconds: float,
    ceilings: Sequence[float],
    working: float | None = None,
    cache: int | None = None,
) -> dict[str, Any]:
    """Return what fraction of a ceiling some work reached, or the reason why there is none.

    ``working`` is the working set of work that is compared with a copy, and ``cache`` the last cache: what may stay
    there says nothing of memory. A product of matrices is compared without.
    """
    if not amount:
        return {"reason": ""}
    if working is not None and stays(working, cache):
        return {"reason": "cache unknown" if cache is None else "cached"}
    apart = differ(*ceilings)
    if apart > DIFFER:
        return {"reason": f"ceilings differ by {100 * apart:.0f} %"}
    return {"fraction": amount / seconds / statistics.fmean(ceilings)}


def queueing(replies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a call costs the host and the device, of the replies of a process on the GPU; else nothing."""
    enqueues = [r["enqueue"] for r in replies if r.get("enqueue") is not None]
    if not enqueues:
        return {}
    alone = [r["device"] for r in replies if r["device"] is not None]
    enqueue = statistics.median(enqueues)
    device = statistics.median(alone) if alone else None
    return {
        "enqueue": enqueue,
        "device": device,
        "launch_bound": None if device is None else enqueue > device,
    }


def speedup(devices: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return how many times faster the GPU is; None where one of the two was not measured."""
    medians = [devices.get(d, {}).get("median") for d in ("cpu", "cuda")]
    return None if None in medians else medians[0] / medians[1]


def crossover(sizes: Sequence[Mapping[str, Any]], grows: str) -> dict[str, Any] | None:
    """Return the size below which the CPU wins, of sizes in ascending order; None where fewer than two are known.

    Between the last size at which the CPU wins and the next, the logarithm of the speed-up is taken to be linear in the
    logarithm of the size.
    """
    known = [s for s in sizes if s["speedup"] is not None]
    if len(known) < 2:
        return None
    first, last = known[0]["label"], known[-1]["label"]
    slower = [k for k, s in enumerate(known) if s["speedup"] <= 1]
    if not slower:
        return {"n": None, "text": f"the GPU wins at every size, from {first}"}
    if slower[-1] == len(known) - 1:
        every = len(slower) == len(known)
        where = f"at every size, up to {last}" if every else f"at the largest size, {last}"
        return {"n": None, "text": f"the CPU wins {where}"}
    low, high = known[slower[-1]], known[slower[-1] + 1]
    a, b = math.log(low["speedup"]), math.log(high["speedup"])
    n = math.exp(
        math.log(low["n"]) + (math.log(high["n"]) - math.log(low["n"])) * (a / (a - b) if a else 0)
    )
    about = f"{float(f'{n:.2g}'):,.0f} {grows} (between {low['label']} and {high['label']})"
    return {"n": n, "text": f"the CPU wins below about {about}"}
