"""Run the benchmarks: ``python bench/run.py [NAME ...] [--devices cpu,cuda] [--sizes quick|full|tiny] [--peers ...]``.

The rows are those of the registry (``cases/``), each beside its floors and the peers that are installed, on one and
on two threads. With ``--devices cpu,cuda`` the cases follow: the same work at growing sizes on the CPU and on a GPU;
where there is none its column says so, and why. ``docs/performance.md`` explains both. A name of a file of this folder,
as in ``bench/run.py attention``, runs that script by ``components.py`` instead.

Peers are never requirements: they are looked for in the interpreter that ``--peers`` or NNMATH_PEERS names, by
default in this one; the output names those that are missing.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH))

import components  # noqa: E402
import device_report  # noqa: E402
import devices  # noqa: E402
import engines  # noqa: E402
import measure  # noqa: E402
import registry  # noqa: E402
import report  # noqa: E402

SCHEMA = 4
SIZES = ("quick", "full", "tiny")
DEVICE_ROUNDS = 7  # of a size of a case: there are more of them than rows


def peers_interpreter(given: str) -> str | None:
    """Return the Python that has the peers, None for no peers."""
    if given == "none":
        return None
    if given == "installed":
        return os.environ.get("NNMATH_PEERS") or sys.executable
    return given


def found_engines(peers: str | None) -> tuple[dict[str, str], dict[str, str], dict[str, Any]]:
    """Return the interpreter of each engine that is there, why others are not, and the versions."""
    own = engines.installed(sys.executable)
    theirs: dict[str, str | None] = {} if peers is None else engines.installed(peers)
    interpreters, missing = {}, {}
    for name, engine in engines.ENGINES.items():
        if not engine.peer:
            interpreters[name] = sys.executable
        elif peers is None:
            missing[name] = f"{engine.label}: not asked for"
        elif theirs.get(engine.needs) is None:
            missing[name] = f"{engine.label}: not installed"
        else:
            interpreters[name] = peers
    versions = {"nnmath_core": own["nnmath_core"], "numpy": own["numpy"], "scipy": own["scipy"]}
    versions |= {e.label: theirs.get(e.needs) for e in engines.ENGINES.values() if e.peer}
    return interpreters, missing, versions


def machine() -> dict[str, Any]:
    """Return what a reader needs to know of the machine."""
    harness = __import__("harness")
    facts: dict[str, Any] = harness.machine_facts()
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        with contextlib.suppress(OSError):
            level, kind, size = ((index / k).read_text().strip() for k in ("level", "type", "size"))
            caches[f"L{level}" + ("" if kind == "Unified" else kind[0].lower())] = size
    facts["caches"] = caches
    facts["cpus"] = engines.cpus()
    facts["scipy_blas"] = scipy_blas()
    facts["node"] = platform.machine()
    return facts


def scipy_blas() -> str:
    """Return the BLAS of SciPy, which the compiled functions and the floors call."""
    scipy = __import__("scipy")
    try:
        blas = scipy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    except KeyError:
        return "unknown"
    return f"{blas.get('name', '')} {blas.get('version', '')}".strip() or "unknown"


def cuda() -> tuple[str, dict[str, Any]]:
    """Return "measured" with what there is, or why the GPU's column is empty; asked in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(BENCH / "gpu.py")], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"not measured: no GPU: looking for it failed: {last}", {}
    state, facts = json.loads(done.stdout)
    return state, facts


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Run the benchmarks.")
    parser.add_argument(
        "rows",
        nargs="*",
        metavar="NAME",
        help=f"of rows and cases; default: all of {', '.join({**registry.ROWS, **registry.CASES})}",
    )
    parser.add_argument("--devices", default="cpu", metavar="LIST", help="cpu, or cpu,cuda or cuda")
    parser.add_argument(
        "--peers",
        default="installed",
        metavar="WHICH",
        help="installed (in the interpreter NNMATH_PEERS, or this one), none, or the path of an interpreter",
    )
    parser.add_argument("--sizes", choices=SIZES, default="quick", help="tiny measures nothing")
    parser.add_argument(
        "--threads", default="", metavar="LIST", help="default: 1,2 where there are two CPUs"
    )
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help="default: 15")
    parser.add_argument(
        "--seconds", type=float, default=0.05, help="of each contender in each round"
    )
    parser.add_argument(
        "--attempts",
        type=int,
        default=3,
        metavar="N",
        help="the rounds of a row may be N times as many, until enough of them were quiet, if a quarter was at first",
    )
    parser.add_argument("--no-variants", action="store_true", help="leave out the untuned variants")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="default: bench/results/DATE.json"
    )
    parser.add_argument("--plot", action="store_true", help="draw a picture beside the file")
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    options = parser.parse_args()
    unknown = [row for row in options.rows if row not in {**registry.ROWS, **registry.CASES}]
    if unknown:
        names = ", ".join(dict.fromkeys([*registry.ROWS, *registry.CASES, *components.ROWS]))
        parser.error(f"unknown row {unknown[0]!r}; rows are {names}")
    options.devices = options.devices.split(",")
    wrong = [d for d in options.devices if d not in ("cpu", "cuda")]
    if wrong:
        parser.error(f"--devices: unknown device {wrong[0]!r}; devices are cpu, cuda")
    only = [name for name in options.rows if name not in registry.ROWS]
    if only and "cuda" not in options.devices:
        parser.error(f"{only[0]!r} is a case: cases run with --devices cpu,cuda")
    if options.json is not None and not options.json.resolve().parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.resolve().parent}")
    if options.peers not in ("installed", "none") and not Path(options.peers).exists():
        parser.error(f"--peers: there is no interpreter {options.peers}")
    try:
        given = [int(t) for t in options.threads.split(",")] if options.threads else []
        options.threads = given or [1, 2]
        options.cpus = min(max(given), engines.cpus()) if given else engines.cpus()
    except ValueError:
        parser.error(f"--threads: numbers with commas between them, got {options.threads!r}")
    return options


def chosen(options: argparse.Namespace) -> tuple[list[registry.Row], list[registry.Case]]:
    """Return the rows, which run on the CPU, and the cases, which run when the GPU is asked for.

    A name is of a row, of a case, or of both; a case is also chosen by a row that is among its sizes.
    """
    full = options.sizes == "full"
    rows = [r for r in registry.ROWS.values() if r.sizes == "quick" or full]
    cases = [c for c in registry.CASES.values() if full or any(s.sizes == "quick" for s in c.sizes)]
    if options.rows:
        rows = [registry.ROWS[name] for name in options.rows if name in registry.ROWS]
        cases = [
            c
            for c in registry.CASES.values()
            if {c.name, *(s.row for s in c.sizes)} & set(options.rows)
        ]
    return (
        rows if "cpu" in options.devices else [],
        cases if "cuda" in options.devices else [],
    )


def refused(absent: dict[str, str]) -> bool:
    """Return whether the library itself says that it does not do some work on a device: nothing is broken."""
    return absent["device"] == "cuda" and absent["reason"].startswith(("DeviceError", "DtypeError"))


def measure_cases(
    cases: list[registry.Case],
    options: argparse.Namespace,
    plan: measure.Plan,
    found: tuple[dict[str, str], dict[str, str]],
    result: dict[str, Any],
    target: Path | None,
) -> None:
    """Measure the cases, print them and add them to the result, which is written after each."""
    rounds = options.rounds or min(plan.rounds, DEVICE_ROUNDS)
    machine = devices.Machine(
        options.cpus,
        devices.last_cache(result["machine"]["caches"]),
        devices.memory(),
        result["devices"]["cuda"],
        result["gpu"].get("cache", 0),
        result["gpu"].get("memory", 0),
        "cpu" in options.devices,
    )
    with (
        tempfile.TemporaryFile("w+") as log,
        devices.Devices(*found, dataclasses.replace(plan, rounds=rounds), log, machine) as bench,
    ):
        for case in cases:
            base = {"row": case.name, "threads": options.cpus}
            try:
                measured = bench.case(case, options.sizes == "full")
            except engines.Failed as error:
                result["failed"].append({**base, "reason": str(error)})
                print(f"\n# {case.title}: FAILED: {error}", flush=True)
                continue
            for size in measured["sizes"]:
                result["failed"] += [
                    {**base, "device": x["device"], "reason": x["reason"]}
                    for x in size["absent"]
                    if x["engine"] == "ours" and not refused(x)
                ]
            result["cases"].append(measured)
            print("\n" + device_report.case_text(measured, options.cpus), flush=True)
            if target is not None:
                target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run the command line."""
    names = [word for word in sys.argv[1:] if word in components.ROWS]
    if names:
        components.main()
        return
    registry.load()
    options = arguments()
    rows, cases = chosen(options)
    if options.list:
        for found in (*rows, *cases):
            print(f"{found.name:28} {found.title}")
        return
    tiny = options.sizes == "tiny"
    variants = __import__("variants").VARIANTS
    plan = measure.Plan(
        rounds=options.rounds or (1 if tiny else 15),
        seconds=0.0 if tiny else options.seconds,
        tiny=tiny,
        settle=not tiny,
        attempts=1 if tiny else options.attempts,
    )
    interpreters, missing, versions = found_engines(peers_interpreter(options.peers))
    gpu, facts = cuda() if "cuda" in options.devices else ("", {})
    states = {"cpu": "measured", "cuda": gpu}
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "sizes": options.sizes,
        "rounds": plan.rounds,
        "machine": machine(),
        "versions": versions,
        "missing": missing,
        "devices": {d: states[d] for d in options.devices},
        "gpu": facts,
        "rows": [],
        "cases": [],
        "failed": [],
    }
    print(report.heading(result), flush=True)
    target = options.json
    if target is None and not tiny:
        (BENCH / "results").mkdir(exist_ok=True)
        target = BENCH / "results" / f"{result['date'][:19].replace(':', '')}.json"
    with (
        tempfile.TemporaryFile("w+") as log,
        measure.Bench(interpreters, missing, plan, log) as bench,
    ):
        for row in rows:
            for threads in options.threads:
                if threads > engines.cpus():
                    print(
                        f"\n{row.title}, {threads} threads: not measured: {engines.cpus()} CPU",
                        flush=True,
                    )
                    continue
                try:
                    changes = {} if options.no_variants else variants.get(row.name, {})
                    found = bench.row(row, threads, changes)
                except engines.Failed as error:
                    result["failed"].append(
                        {"row": row.name, "threads": threads, "reason": str(error)}
                    )
                    print(f"\n# {row.title}; {threads} threads: FAILED: {error}", flush=True)
                    continue
                result["rows"].append(found)
                print("\n" + report.row_text(found), flush=True)
                if target is not None:  # what is measured is kept, whatever comes next
                    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if cases:
        measure_cases(cases, options, plan, (interpreters, missing), result, target)
    print("\n" + report.closing(result))
    if target is not None:
        target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"written: {target}")
        if options.plot:
            if rows:
                print(report.picture(result, target.with_suffix(".png")))
            if cases:
                print(device_report.roofline(result, target.with_suffix(".roofline.png")))
    if result["failed"]:
        sys.exit(f"bench: {len(result['failed'])} rows and cases failed, see above")


if __name__ == "__main__":
    main()
