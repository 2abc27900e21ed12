"""How rows are measured: rounds in which every engine runs once, beside a calibration that says whether it was quiet.

In each round each contender runs for a fixed time in its own process, one after another in an order drawn anew, while
all others sleep; a process is left alone until its threads have stopped spinning. Between rounds a calibration runs, a
matrix product of known size; rounds between calibrations that agree are quiet, and only they count where there are
enough of them. A ratio is the median, over the rounds, of the ratio within a round, with the 95 % interval of a
bootstrap over the rounds.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import registry
from engines import ENGINES, Engine, Failed, Process
from registry import Row, Target

QUIET = 0.05  # how much the calibrations of quiet rounds may differ
RESAMPLES = 2000
CALIBRATION = "calibration"  # a family of its own, in the process of the floors
VARIANT_LIMIT = 1.15  # ratio to the own floor, of that of the row


@dataclass(frozen=True)
class Plan:
    """How long to measure.

    Parameters
    ----------
    rounds : int
    seconds : float
        Of one contender in one round.
    tiny : bool
        Run everything at sizes that say nothing, to see that it runs.
    settle : bool
        Wait for the threads of a process to stop before the next runs.
    attempts : int
        So many times the rounds are run, at most, until enough of them were quiet; once, where fewer than a quarter
        were: on such a machine more of them would not help.
    """

    rounds: int = 15
    seconds: float = 0.05
    tiny: bool = False
    settle: bool = True
    attempts: int = 3


class Processes:
    """Processes by what they are for, which end with the ``with`` block."""

    def __init__(self) -> None:
        self.processes: dict[Any, Process] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        for process in self.processes.values():
            process.close()
        self.processes.clear()


class Bench(Processes):
    """The processes of one run.

    Parameters
    ----------
    interpreters : dict of str to str
        The Python of each engine that is there.
    missing : dict of str to str
        Why the others are not.
    plan : Plan
    log : file
        Where the processes write what they have to say.
    """

    def __init__(
        self, interpreters: Mapping[str, str], missing: Mapping[str, str], plan: Plan, log: Any
    ) -> None:
        self.interpreters, self.missing, self.plan, self.log = interpreters, missing, plan, log
        super().__init__()
        self.rng = np.random.default_rng(0)

    def process(self, engine: Engine, threads: int) -> Process:
        """Return the process of an engine, started when it is needed."""
        key = engine.name, threads
        if key not in self.processes:
            self.processes[key] = Process(engine, self.interpreters[engine.name], threads, self.log)
        return self.processes[key]

    # A row --------------------------------------------------------------------------------------------------------

    def row(
        self, row: Row, threads: int, variants: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Measure a row with its variants."""
        try:
            ready = self.load(row.family, self.options(row), threads, list(ENGINES))
            found = self.once(row, threads, ready)
            found["variants"] = [
                self.variant(row, threads, name, change, found) for name, change in variants.items()
            ]
        finally:
            if not self.plan.tiny:
                self.close()  # the next row begins with fresh processes
        return found

    def options(self, row: Row, change: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the options of a row or of a variant of it, in small when nothing is to be measured."""
        options = {**row.options, **(change or {})}
        if self.plan.tiny:
            options |= row.tiny
        return options

    def load(
        self, family: str, options: Mapping[str, Any], threads: int, engines: list[str]
    ) -> dict[str, Any]:
        """Make all contenders of a family ready; say who is and who is not, and why."""
        entrants: list[tuple[str, str]] = []
        absent: list[dict[str, str]] = []
        for name in engines:
            engine = ENGINES[name]
            contenders = registry.of(family, engine.contenders)
            if not contenders or (threads == 1 and name == "floor, serial BLAS"):
                continue
            if name not in self.interpreters:
                absent += [
                    {"engine": name, "name": c.name, "reason": self.missing[name]}
                    for c in contenders
                ]
                continue
            try:
                process = self.process(engine, threads)
                reply = process.ask(
                    "load",
                    family=family,
                    engine=engine.contenders,
                    options=dict(options),
                    only=None,
                )
            except Failed as error:
                self.drop(name, threads)
                absent += [
                    {"engine": name, "name": c.name, "reason": str(error)} for c in contenders
                ]
                continue
            entrants += [(name, ready) for ready in reply["ready"]]
            absent += [
                {"engine": name, "name": k, "reason": why} for k, why in reply["failed"].items()
            ]
            if self.plan.settle:
                process.settle()
        return {"entrants": entrants, "absent": absent}

    def drop(self, name: str, threads: int) -> None:
        """Forget a process that has ended."""
        process = self.processes.pop((name, threads), None)
        if process is not None:
            process.close()

    def once(self, row: Row, threads: int, ready: Mapping[str, Any]) -> dict[str, Any]:
        """Measure a row, without its variants."""
        load_before = load_average()
        times, calibration = self.rounds(ready["entrants"], threads, self.plan.attempts)
        chosen = quiet_rounds(calibration)
        quiet = len(chosen) >= self.plan.rounds
        if not quiet:
            chosen = list(range(len(calibration) - 1))
        contenders = [
            {"engine": engine, "name": name, "kind": kind(engine), **spread([t[k] for k in chosen])}
            for (engine, name), t in times.items()
        ]
        beside = [calibration[k + after] for k in chosen for after in (0, 1)]
        return {
            "row": row.name,
            "title": row.title,
            "note": row.note,
            "threads": threads,
            "options": self.options(row),
            "count": dict(zip(("flops", "bytes"), self.count(row), strict=True)),
            "quiet": quiet,
            "rounds": {"run": len(calibration) - 1, "counted": len(chosen)},
            "calibration": {
                "median": statistics.median(beside),
                "variation": max(beside) / min(beside) - 1,
                "range": max(calibration) / min(calibration) - 1,
            },
            "load": [load_before, load_average()],
            "contenders": contenders,
            "absent": ready["absent"],
            "targets": []
            if self.plan.tiny
            else [judged(t, row, contenders) for t in targets_for(row, threads)],
        }

    def count(self, row: Row) -> tuple[float, float]:
        """Return the operations and bytes of a row."""
        return registry.FAMILIES[row.family].count(self.options(row))

    def rounds(
        self, entrants: list[tuple[str, str]], threads: int, attempts: int = 1
    ) -> tuple[dict[tuple[str, str], list[float]], list[float]]:
        """Return the time of each contender in each round, and the calibrations before, between and after them."""
        times: dict[tuple[str, str], list[float]] = {entrant: [] for entrant in entrants}
        calibration = [self.calibrate(threads)]
        for done in range(self.plan.rounds * attempts):
            quiet = len(quiet_rounds(calibration))
            if quiet >= self.plan.rounds or (done >= self.plan.rounds and 4 * quiet < done):
                break
            for place in self.rng.permutation(len(entrants)):
                engine, name = entrants[place]
                process = self.process(ENGINES[engine], threads)
                reply = process.ask("time", name=name, seconds=self.plan.seconds)
                times[engine, name].append(statistics.median(reply["times"]))
                if self.plan.settle:
                    process.settle()
            calibration.append(self.calibrate(threads))
        return times, calibration

    def calibrate(self, threads: int) -> float:
        """Return the time of a matrix product of known size."""
        process = self.processes.get((CALIBRATION, threads))
        if process is None:
            process = Process(ENGINES["floor"], self.interpreters["floor"], threads, self.log)
            self.processes[CALIBRATION, threads] = process
            process.ask(
                "load",
                family=CALIBRATION,
                engine="floor",
                options={"n": 64 if self.plan.tiny else 768},
                only=None,
            )
        reply = process.ask("time", name="product", seconds=0.0 if self.plan.tiny else 0.05)
        if self.plan.settle:
            process.settle()
        return statistics.median(reply["times"])

    # A variant ----------------------------------------------------------------------------------------------------

    def variant(
        self,
        row: Row,
        threads: int,
        name: str,
        change: Mapping[str, Any],
        measured: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Measure a variant beside its own floor, and compare the ratio with that of the row."""
        target = next((t for t in targets_for(row, threads) if t.kind == "floor"), None)
        of = target.of if target is not None else ""
        result: dict[str, Any] = {"name": name, "options": dict(change)}
        engines = ["ours", *(e for e in ENGINES if kind(e) == "floor")]
        ready = self.load(row.family, self.options(row, change), threads, engines)
        entrants = [
            (engine, entrant)
            for engine, entrant in ready["entrants"]
            if (engine == "ours" and entrant == ours(row))
            or (engine != "ours" and entrant.startswith(of))
        ]
        if {e for e, _ in entrants} & {"ours"} == set():
            why = next(
                (a["reason"] for a in ready["absent"] if a["name"] == ours(row)), "it is not there"
            )
            return {**result, "error": why}
        rounds, calibration = self.rounds(entrants, threads)
        contenders = [
            {"engine": engine, "name": entrant, "kind": kind(engine), **spread(times)}
            for (engine, entrant), times in rounds.items()
        ]
        result |= {
            "contenders": contenders,
            "variation": max(calibration) / min(calibration) - 1,
        }
        own = fastest([c for c in contenders if c["kind"] == "floor"])
        base = fastest(
            [c for c in measured["contenders"] if c["kind"] == "floor" and c["name"].startswith(of)]
        )
        mine = next((c for c in contenders if c["kind"] == "ours"), None)
        theirs = next((c for c in measured["contenders"] if c["name"] == ours(row)), None)
        if own is None or base is None or mine is None or theirs is None:
            return result
        ratio, interval = paired(mine["times"], own["times"])
        row_ratio, _ = paired(theirs["times"], base["times"])
        return {
            **result,
            "floor": own["name"],
            "ratio": ratio,
            "interval": interval,
            "of_row": ratio / row_ratio,
            "flagged": not self.plan.tiny and interval[0] / row_ratio > VARIANT_LIMIT,
        }

    # Answers ------------------------------------------------------------------------------------------------------

    def answers(self, row: Row, threads: int, *, eager: bool = True) -> dict[str, Any]:
        """Return the answer of every contender of a row, ours first, and who is absent."""
        ready = self.load(
            row.family, self.options(row), threads, [e for e in ENGINES if kind(e) != "floor"]
        )
        found: dict[str, list[Any]] = {}
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "answer.npz")
            for engine, name in ready["entrants"]:
                process = self.process(ENGINES[engine], threads)
                for unplanned in (False, True) if engine == "ours" and eager else (False,):
                    try:
                        process.ask("answer", name=name, path=path, eager=unplanned)
                    except Failed as error:
                        if not unplanned:
                            raise
                        print(f"bench: {error}", file=sys.stderr)
                        continue
                    with np.load(path) as arrays:
                        key = f"{engine}: {name}" + (", eager" if unplanned else "")
                        found[key] = [arrays[f"a{k}"] for k in range(len(arrays.files))]
        return {"answers": found, "absent": ready["absent"]}


# Numbers ------------------------------------------------------------------------------------------------------------


def kind(engine: str) -> str:
    """Return what an engine is: "ours", "floor" or "peer"."""
    return "ours" if engine == "ours" else "floor" if engine.startswith("floor") else "peer"


def ours(row: Row) -> str:
    """Return the name of our contender that the targets speak of."""
    return row.ours or registry.of(row.family, "ours")[0].name


def targets_for(row: Row, threads: int) -> list[Target]:
    """Return the targets that hold for so many threads."""
    return [t for t in row.targets if t.threads in (None, threads)]


def spread(times: list[float]) -> dict[str, Any]:
    """Return times in seconds with their median and quartiles."""
    low, middle, high = (float(q) for q in np.quantile(times, [0.25, 0.5, 0.75]))
    return {"times": times, "median": middle, "quartiles": [low, high]}


def quiet_rounds(calibration: list[float]) -> list[int]:
    """Return the rounds whose calibrations, before and after, agree: the most that differ by 5 % or less.

    Only calibrations choose, never what was measured between them. Of ranges with as many rounds the fastest counts.
    """
    pairs = list(itertools.pairwise(calibration))
    ranges = [
        [
            k
            for k, pair in enumerate(pairs)
            if least <= min(pair) and max(pair) <= least * (1 + QUIET)
        ]
        for least in sorted(calibration)
    ]
    return max(ranges, key=len)


def paired(times: list[float], reference: list[float]) -> tuple[float, list[float]]:
    """Return the median of the ratios within rounds, and its 95 % interval by resampling rounds."""
    ratios = np.array(times) / np.array(reference)
    drawn = np.random.default_rng(0).integers(0, ratios.size, (RESAMPLES, ratios.size))
    medians = np.median(ratios[drawn], axis=1)
    low, high = (float(q) for q in np.quantile(medians, [0.025, 0.975]))
    return float(np.median(ratios)), [low, high]


def fastest(contenders: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the contender with the smallest median."""
    return min(contenders, key=lambda c: c["median"], default=None)


def judged(target: Target, row: Row, contenders: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a target with the ratio reached; it is met when the interval reaches it."""
    base = {"kind": target.kind, "of": target.of, "target": target.ratio}
    mine = next((c for c in contenders if c["kind"] == "ours" and c["name"] == ours(row)), None)
    if mine is None:
        return {**base, "reason": "ours did not run"}
    if target.kind == "floor":
        chosen = [c for c in contenders if c["kind"] == "floor" and c["name"].startswith(target.of)]
    else:
        chosen = [c for c in contenders if c["kind"] == "peer" and belongs(c, target.of)]
    other = fastest(chosen)
    if other is None:
        return {**base, "reason": "nothing to compare with was measured"}
    if target.kind == "floor":
        ratio, interval = paired(mine["times"], other["times"])
        met = interval[0] <= target.ratio
    else:
        ratio, interval = paired(other["times"], mine["times"])
        met = interval[1] >= target.ratio
    against = other["name"] if target.kind == "floor" else f"{other['engine']}: {other['name']}"
    return {**base, "against": against, "ratio": ratio, "interval": interval, "met": met}


def belongs(contender: Mapping[str, Any], of: str) -> bool:
    """Return whether a peer is among those that a target speaks of; NumPy by hand is only shown."""
    engine = contender["engine"]
    if engine == "NumPy":
        return False
    tuned = engine.endswith("tuned malloc")
    if of == "tuned":
        return tuned or all(e.same_as != engine for e in ENGINES.values())
    if of == "default":
        return not tuned
    return f"{engine}: {contender['name']}".startswith(of) or contender["name"].startswith(of)


def load_average() -> float | None:
    """Return the load of the machine over the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
