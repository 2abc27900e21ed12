"""Results as text, as tables for ``docs/performance.md``, and as a picture.

``python bench/report.py FILE.json [--page docs/performance.md] [--plot FILE.png]`` prints the tables of a run, or
puts them into the page between its two marks.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import device_report
from device_report import duration

BEGIN, END = "<!-- numbers: begin -->", "<!-- numbers: end -->"


def ratio(value: float, interval: list[float]) -> str:
    """Return a ratio with its interval."""
    return f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def heading(result: dict[str, Any]) -> str:
    """Return what a run has in common: machine, versions, what is missing."""
    m = result["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items() if v)
    caches = ", ".join(f"{k} {v}" for k, v in m["caches"].items()) or "caches unknown"
    lines = [
        f"{m['cpu']}, {m['cpus']} CPUs, {caches}, {' '.join(m['vector_instructions'])}",
        f"{m['system']}, Python {m['python']}; kernels {m['nnmath_isa'] or 'none'}; SciPy's BLAS {m['scipy_blas']}, "
        f"NumPy's {m['blas']}; commit {m['commit'] or 'unknown'}",
        versions,
        *[f"missing: {why}" for why in dict.fromkeys(result["missing"].values())],
        *[f"{device}: {state}" for device, state in result["devices"].items() if device != "cpu"],
        *([f"cuda: {device_report.gpu_line(result['gpu'])}"] if result.get("gpu") else []),
    ]
    if result["sizes"] == "tiny":
        lines.append("TINY: everything ran, to see that it runs. The times mean nothing.")
    return "\n".join(lines)


def row_text(row: dict[str, Any]) -> str:
    """Return a row as text."""
    threads = f"{row['threads']} thread" + ("s" if row["threads"] > 1 else "")
    c = row["calibration"]
    state = "" if row["quiet"] else ", NOT QUIET"
    rounds = row["rounds"]
    load = [x for x in row["load"] if x is not None]
    lines = [
        f"# {row['title']}; {threads}",
        f"  calibration varied by {100 * c['variation']:.1f} % (all: {100 * c['range']:.1f} %){state}; "
        + (f"load {min(load):.1f} to {max(load):.1f}" if load else "load unknown")
        + f"; {rounds['counted']} of {rounds['run']} rounds count",
    ]
    if row["note"]:
        lines.append(f"  {row['note']}")
    order = {"ours": 0, "floor": 1, "peer": 2}
    mine = next((x["median"] for x in row["contenders"] if x["kind"] == "ours"), None)
    for x in sorted(row["contenders"], key=lambda x: (order[x["kind"]], x["median"])):
        low, high = (duration(q) for q in x["quartiles"])
        against = "" if mine is None else f"{x['median'] / mine:7.2f} x ours"
        what = "floor" if x["kind"] == "floor" else x["engine"]
        lines.append(
            f"  {what + ': ' + x['name']:62} {duration(x['median']):>9} ({low} to {high}) {against}"
        )
    lines += [f"  not measured: {reason}" for reason in absences(row["absent"])]
    lines += [f"  {target_text(t)}" for t in row["targets"]]
    lines += [f"  {variant_text(v)}" for v in row.get("variants", [])]
    return "\n".join(lines)


def absences(absent: list[dict[str, str]]) -> list[str]:
    """Return why contenders are missing: a package once for all its engines, a failure with the contender's name."""
    said = []
    for x in absent:
        package = x["reason"].endswith(("not installed", "not asked for"))
        said.append(x["reason"] if package else f"{x['engine']}: {x['name']}: {x['reason']}")
    return list(dict.fromkeys(said))


def target_text(t: dict[str, Any]) -> str:
    """Return a target and what came of it."""
    aim = (
        f"at most {t['target']:g} x"
        if t["kind"] == "floor"
        else f"at least {t['target']:g} x ahead of"
    )
    which = t["of"] or ("the floor" if t["kind"] == "floor" else "the best peer")
    which = {"tuned": "the best peer with tuned malloc", "default": "the best peer by default"}.get(
        which, which
    )
    if "reason" in t:
        return f"target {aim} {which}: not measured: {t['reason']}"
    verdict = "met" if t["met"] else "MISSED"
    return f"target {aim} {which}: {ratio(t['ratio'], t['interval'])} {verdict} ({t['against']})"


def variant_text(v: dict[str, Any]) -> str:
    """Return a variant and how it compares with its row."""
    if "error" in v:
        return f"variant {v['name']}: not measured: {v['error']}"
    if "ratio" not in v:
        return f"variant {v['name']}: ran; the row has no floor"
    flag = " FLAGGED: more than 1.15" if v["flagged"] else ""
    reached = ratio(v["ratio"], v["interval"])
    return f"variant {v['name']}: {reached} of its floor, {v['of_row']:.2f} times the row's ratio{flag}"


def closing(result: dict[str, Any]) -> str:
    """Return how many targets were met."""
    judged = [t for r in result["rows"] for t in r["targets"] if "met" in t]
    flagged = sum(bool(v.get("flagged")) for r in result["rows"] for v in r.get("variants", []))
    noisy = [f"{r['row']} ({r['threads']})" for r in result["rows"] if not r["quiet"]]
    lines = [
        f"targets met: {sum(t['met'] for t in judged)} of {len(judged)}; variants flagged: {flagged}"
    ]
    if result["failed"]:
        lines.append("failed: " + ", ".join(failure(r) for r in result["failed"]))
    if noisy:
        lines.append(f"not quiet: {', '.join(noisy)}")
    return "\n".join(lines)


def failure(found: dict[str, Any]) -> str:
    """Return which row or case failed, and on how many threads or on which device."""
    return f"{found['row']} ({found.get('device', found['threads'])})"


# The page -----------------------------------------------------------------------------------------------------------


def tables(result: dict[str, Any]) -> str:
    """Return the tables of the page, in Markdown."""
    lines = [line + "  " for line in heading(result).splitlines()]
    dates = result["date"][:10]
    lines += [
        "",
        f"Measured on {dates}, {result['rounds']} rounds; medians, 95 % intervals in brackets.",
        "",
    ]
    head = ("row", "threads", "ours", "floor", "of the floor", "best peer", "ahead of it", "quiet")
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += [table_line(row) for row in result["rows"]]
    lines += ["", "| row | threads | target | reached | |", "|---|---|---|---|---|"]
    for row in result["rows"]:
        for t in row["targets"]:
            aim, _, reached = target_text(t).removeprefix("target ").partition(": ")
            verdict = "" if "met" not in t else "met" if t["met"] else "missed"
            shown = reached if "reason" in t else ratio(t["ratio"], t["interval"])
            lines.append(f"| {row['title']} | {row['threads']} | {aim} | {shown} | {verdict} |")
    lines += [
        "",
        "| row | threads | variant | of its floor | times the row's ratio | |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        for v in row.get("variants", []):
            if "ratio" in v:
                flag = "outside" if v["flagged"] else ""
                shown = ratio(v["ratio"], v["interval"])
                lines.append(
                    f"| {row['title']} | {row['threads']} | {v['name']} | {shown} | {v['of_row']:.2f} | {flag} |"
                )
    if result.get("cases"):
        lines += ["", device_report.table(result["cases"])]
    return "\n".join(lines)


def table_line(row: dict[str, Any]) -> str:
    """Return the line of a row in the first table."""
    mine = min((x["median"] for x in row["contenders"] if x["kind"] == "ours"), default=None)
    floors = {t["against"]: t for t in row["targets"] if t["kind"] == "floor" and "ratio" in t}
    peers = [x for x in row["contenders"] if x["kind"] == "peer" and x["engine"] != "NumPy"]
    peer = min(peers, key=lambda x: x["median"], default=None)
    first = next(iter(floors.values()), None)
    floor = next(
        (x for x in row["contenders"] if first is not None and x["name"] == first["against"]), None
    )
    ahead = next((t for t in row["targets"] if t["kind"] == "ahead" and "ratio" in t), None)
    cells = (
        row["title"],
        str(row["threads"]),
        "" if mine is None else duration(mine),
        "" if floor is None else f"{duration(floor['median'])} ({floor['name']})",
        "" if first is None else ratio(first["ratio"], first["interval"]),
        "" if peer is None else f"{duration(peer['median'])} ({peer['engine']}: {peer['name']})",
        "" if ahead is None else ratio(ahead["ratio"], ahead["interval"]),
        "yes" if row["quiet"] else "no",
    )
    return "| " + " | ".join(cells) + " |"


def put(result: dict[str, Any], page: Path) -> None:
    """Replace what stands between the marks of a page."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"report: {page} lacks the marks {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{tables(result)}\n\n{END}{after}", encoding="utf-8")


# The picture --------------------------------------------------------------------------------------------------------


def picture(result: dict[str, Any], path: Path) -> str:
    """Draw how far ahead of the fastest peer, and above the floor, each row is; say what became of it."""
    try:
        import matplotlib as mpl
    except ImportError:
        return "no picture: matplotlib is not installed"
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [r for r in result["rows"] if any(x["kind"] == "ours" for x in r["contenders"])]
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.32 * max(1, len(rows))), layout="constrained")
    for at, row in enumerate(rows):
        mine = min(x["median"] for x in row["contenders"] if x["kind"] == "ours")
        for what, colour, mark in (("peer", "tab:orange", "o"), ("floor", "tab:gray", "|")):
            others = [x["median"] / mine for x in row["contenders"] if x["kind"] == what]
            axes.plot(others, [at] * len(others), mark, color=colour, alpha=0.8)
    axes.axvline(1.0, color="tab:blue")
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [f"{r['row']}, {r['threads']}" for r in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("time divided by ours: peers (dots) and floors (bars)")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return f"written: {path}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="bench/report.py", description="Print the tables of a run."
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--page", type=Path, help="put them into this page")
    parser.add_argument("--plot", type=Path, help="draw a picture")
    options = parser.parse_args()
    result = json.loads(options.file.read_text(encoding="utf-8"))
    if options.page is None:
        print(tables(result))
    else:
        put(result, options.page)
    if options.plot is not None:
        print(picture(result, options.plot))


if __name__ == "__main__":
    main()
