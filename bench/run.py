"""Run the benchmarks: ``python bench/run.py [ROW ...] [--peers installed|none|PYTHON] [--sizes quick|full|tiny] ...``.

The rows are those of the registry (``cases/``), each beside its floors and the peers that are installed, on one and
on two threads. ``docs/performance.md`` explains them. A name of a file of this folder, as in ``bench/run.py
attention``, runs that script by ``components.py`` instead.

Peers are never requirements: they are looked for in the interpreter that ``--peers`` or NNMATH_PEERS names, by
default in this one; the output names those that are missing.
"""

from __future__ import annotations

import argparse
import contextlib
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
import engines  # noqa: E402
import registry  # noqa: E402
import report  # noqa: E402

SCHEMA = 2
SIZES = ("quick", "full", "tiny")


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
    code = (
        "import scipy; b = scipy.show_config(mode='dicts')['Build Dependencies']['blas']; "
        "print(b.get('name', ''), b.get('version', ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def cuda() -> str:
    """Return why the GPU's column is empty."""
    code = "import nnmath_core as nm; print(len([d for d in nm.devices() if d.kind == 'cuda']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode == 0 and done.stdout.strip() not in ("", "0"):
        return "not measured: the cases run on the CPU only so far"
    return "not measured: no GPU"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Run the benchmarks.")
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"default: all of {', '.join(registry.ROWS)}"
    )
    parser.add_argument("--devices", default="cpu", metavar="LIST", help="cpu or cpu,cuda")
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
        "--attempts", type=int, default=3, metavar="N", help="at a row when it was not quiet"
    )
    parser.add_argument("--no-variants", action="store_true", help="leave out the untuned variants")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="default: bench/results/DATE.json"
    )
    parser.add_argument("--plot", action="store_true", help="draw a picture beside the file")
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    options = parser.parse_args()
    unknown = [row for row in options.rows if row not in registry.ROWS]
    if unknown:
        names = ", ".join([*registry.ROWS, *components.ROWS])
        parser.error(f"unknown row {unknown[0]!r}; rows are {names}")
    options.devices = options.devices.split(",")
    wrong = [d for d in options.devices if d not in ("cpu", "cuda")]
    if wrong:
        parser.error(f"--devices: unknown device {wrong[0]!r}; devices are cpu, cuda")
    if options.json is not None and not options.json.resolve().parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.resolve().parent}")
    if options.peers not in ("installed", "none") and not Path(options.peers).exists():
        parser.error(f"--peers: there is no interpreter {options.peers}")
    try:
        options.threads = (
            [int(t) for t in options.threads.split(",")] if options.threads else [1, 2]
        )
    except ValueError:
        parser.error(f"--threads: numbers with commas between them, got {options.threads!r}")
    return options


def main() -> None:
    """Run the command line."""
    names = [word for word in sys.argv[1:] if word in components.ROWS]
    if names:
        components.main()
        return
    registry.load()
    options = arguments()
    rows = [registry.ROWS[r] for r in options.rows] or [
        r for r in registry.ROWS.values() if r.sizes == "quick" or options.sizes == "full"
    ]
    if options.list:
        for row in rows:
            print(f"{row.name:28} {row.title}")
        return
    tiny = options.sizes == "tiny"
    measure = __import__("measure")
    variants = __import__("variants").VARIANTS
    plan = measure.Plan(
        rounds=options.rounds or (1 if tiny else 15),
        seconds=0.0 if tiny else options.seconds,
        tiny=tiny,
        settle=not tiny,
        attempts=1 if tiny else options.attempts,
    )
    interpreters, missing, versions = found_engines(peers_interpreter(options.peers))
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "sizes": options.sizes,
        "rounds": plan.rounds,
        "machine": machine(),
        "versions": versions,
        "missing": missing,
        "devices": {"cpu": "measured", **({"cuda": cuda()} if "cuda" in options.devices else {})},
        "rows": [],
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
    print("\n" + report.closing(result))
    if target is not None:
        target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"written: {target}")
        if options.plot:
            print(report.picture(result, target.with_suffix(".png")))
    if result["failed"]:
        sys.exit(f"bench: {len(result['failed'])} rows failed, see above")


if __name__ == "__main__":
    main()
