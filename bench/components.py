"""Measure components one by one: ``python bench/components.py [ROW ...] [--out FILE.json] [--quick] [--core N]``.

Every row runs in a process of its own, pinned to one core and with one thread. Peers (PyTorch,
JAX, autograd) are measured where they are installed; for the others the table says "not measured"
and why. The figures of one run belong together; two runs, or two machines, are compared through
their ratios. The range behind a ratio is that of its quartiles.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
ROWS = sorted(path.stem for path in BENCH.glob("*.py") if "\nTITLE = " in path.read_text("utf-8"))
SCHEMA = 1

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_X64": "1",
}


def run_row(row: str, *, core: int | None, quick: bool) -> dict[str, Any]:
    """Measure one row in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "row.json"
        command = [sys.executable, str(BENCH / "components.py"), "--here", "--out", str(out), row]
        command += ["--quick"] if quick else []
        command += [] if core is None else ["--core", str(core)]
        done = subprocess.run(command, env={**os.environ, **ONE_THREAD}, check=False)
        if done.returncode != 0:
            sys.exit(f"bench: row {row} failed (exit status {done.returncode}), see above")
        return json.loads(out.read_text(encoding="utf-8"))


def measure_here(row: str, *, core: int | None, quick: bool) -> dict[str, Any]:
    """Measure one row in this process (which `run_row` has started for it)."""
    pinned = pin(core)
    sys.path.insert(0, str(BENCH))
    harness = importlib.import_module("harness")  # NumPy is imported after the threads are set
    module = importlib.import_module(row)
    before = load_average()
    groups = [harness.measure(group, quick=quick) for group in module.groups(quick=quick)]
    return {
        "schema": SCHEMA,
        "quick": quick,
        "clock": "process CPU time",
        "pinned_core": pinned,
        "threads": 1,
        "load_average": [before, load_average()],
        "machine": harness.machine_facts(),
        "versions": harness.versions(),
        "rows": [{"row": row, "title": module.TITLE, "groups": groups}],
    }


def pin(core: int | None) -> int | None:
    """Pin the process to a core, by default the last one; None where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    chosen = max(os.sched_getaffinity(0)) if core is None else core
    os.sched_setaffinity(0, {chosen})
    return chosen


def load_average() -> float | None:
    """Return the load of the machine over the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def join(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Join the results of several rows: facts of the first, load of all."""
    loads = [load for part in parts for load in part["load_average"] if load is not None]
    rows = [row for part in parts for row in part["rows"]]
    return {**parts[0], "load_average": loads, "rows": rows}


# Tables -------------------------------------------------------------------------------------------


def table(result: dict[str, Any]) -> str:
    """Return a result as text: facts of the machine, then one table a group."""
    machine = result["machine"]
    installed = [f"{k} {v}" for k, v in result["versions"].items() if v is not None]
    loads = result["load_average"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {' '.join(machine['vector_instructions'])}",
        f"{machine['system']}, Python {machine['python']}, BLAS {machine['blas']}",
        f"{', '.join(installed)}; kernels {machine['nnmath_isa'] or 'none'}; "
        f"commit {machine['commit'] or 'unknown'}",
        f"{result['clock']}, 1 thread, core {result['pinned_core']}, "
        + (f"load {min(loads):.1f} to {max(loads):.1f}" if loads else "load unknown"),
    ]
    if result["quick"]:
        lines.append("QUICK: everything ran once, to see that it runs. The times mean nothing.")
    for row in result["rows"]:
        lines += ["", f"# {row['row']}: {row['title']}"]
        for group in row["groups"]:
            lines += ["", *group_lines(group)]
    return "\n".join(lines)


def group_lines(group: dict[str, Any]) -> list[str]:
    """Return the table of one group."""
    width = max(len(v["name"]) for v in group["variants"])
    unit = group["unit"]
    lines = [f"{group['name']}", f"  {'':{width}}  {unit:>10}  {'ratio':>20}  limit"]
    for v in group["variants"]:
        if not v["measured"]:
            lines.append(f"  {v['name']:{width}}  not measured: {v['reason']}")
            continue
        low, high = v["ratio_quartiles"]
        ratio = f"{v['ratio']:.2f} ({low:.2f}-{high:.2f})"
        limit = "" if v["limit"] is None else f"{v['limit']:g} {'met' if v['met'] else 'MISSED'}"
        lines.append(f"  {v['name']:{width}}  {v['median']:>10.4g}  {ratio:>20}  {limit}".rstrip())
    return lines


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="bench/components.py", description="Measure components one by one."
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"default: all of {', '.join(ROWS)}")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the figures there")
    parser.add_argument("--quick", action="store_true", help="run everything once, measure nothing")
    parser.add_argument("--core", type=int, metavar="N", help="pin to this core (default: last)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = [row for row in options.rows if row not in ROWS]
    if unknown:
        parser.error(f"unknown row {unknown[0]!r}; rows are {', '.join(ROWS)}")
    if options.out is not None and not options.out.resolve().parent.is_dir():
        parser.error(f"--out: there is no folder {options.out.resolve().parent}")
    if options.here:
        result = measure_here(options.rows[0], core=options.core, quick=options.quick)
    else:
        rows = options.rows or ROWS
        result = join([run_row(row, core=options.core, quick=options.quick) for row in rows])
        print(table(result))
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
