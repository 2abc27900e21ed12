"""Cases as text, as a table for a page, and as a roofline picture."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WIDE = 28  # of the longest label
NAMES = {"cpu": "CPU", "cuda": "GPU"}


def duration(seconds: float) -> str:
    """Return a time with a unit that fits it."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def percent(found: Mapping[str, Any]) -> str:
    """Return a fraction of a ceiling, or why there is none."""
    if "reason" in found:
        return str(found["reason"])
    return f"{100 * found['fraction']:.3g} %"


def gpu_line(facts: Mapping[str, Any]) -> str:
    """Return what a reader must know of the GPU."""
    return (
        f"{facts['name']}, capability {facts['capability']}, {facts['multiprocessors']} multiprocessors, "
        f"L2 {facts['cache'] >> 20} MiB, {facts['memory'] >> 30} GiB; CUDA {facts['cuda']}, driver {facts['driver']}, "
        f"CuPy {facts['cupy']}"
    )


def cells(found: Mapping[str, Any], threads: str) -> list[str]:
    """Return the cells of a device: the time, its spread, both fractions, what is said of the queue."""
    if "reason" in found:
        return [f"not measured: {found['reason'].partition(': ')[0]}", "", "", "", ""]
    low, high = (duration(q) for q in found["quartiles"])
    queue = ""
    if "enqueue" in found:
        alone = "" if found["device"] is None else f", device {duration(found['device'])}"
        bound = {True: ", launch-bound", False: "", None: ", waits for the device"}
        queue = f"enqueue {duration(found['enqueue'])}{alone}{bound[found['launch_bound']]}"
    return [
        duration(found["median"]),
        f"({low} to {high})",
        percent(found["copy"]),
        percent(found["product"]),
        queue or threads,
    ]


def case_text(found: Mapping[str, Any], threads: int) -> str:
    """Return a case as text."""
    dtype = {"f4": "float32", "f8": "float64"}[found["dtype"]]
    said = f"{threads} thread" + ("s" if threads > 1 else "")
    lines = [f"# {found['title']} ({found['case']}, {dtype})"]
    lines.append(
        f"  {found['grows']:{WIDE}} {'':4} {'time':>10} {'quartiles':24} of copy / of product"
    )
    for size in found["sizes"]:
        label = size["label"] or size["row"]
        for device, entry in size["devices"].items():
            time, spread, copy, product, queue = cells(entry, said)
            line = f"  {label:{WIDE}} {NAMES[device]:4} {time:>10} {spread:24}"
            if spread:
                line += f" {copy or '-'} / {product or '-'}; {queue}"
            lines.append(line.rstrip())
            label = ""
        for peer in size["peers"]:
            line = f"{peer['engine']}: {peer['name']}"
            lines.append(
                f"  {'':{WIDE}} {NAMES[peer['device']]:4} {duration(peer['median']):>10} {line}"
            )
        lines += [
            f"  {'':{WIDE}} {NAMES[x['device']]:4} not measured: {x['engine']}: {x['reason']}"
            for x in size["absent"]
            if x["engine"] != "ours"
        ]
        if size["speedup"] is not None:
            lines.append(f"  {'':{WIDE}} the GPU is {size['speedup']:.3g} times as fast")
    if found["crossover"] is not None:
        lines.append(f"  crossover: {found['crossover']['text']}")
    return "\n".join(lines)


def table(cases: list[dict[str, Any]]) -> str:
    """Return the table of the page, in Markdown."""
    head = ("case", "size", "device", "time", "of the copy", "of the product", "queue", "speed-up")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for found in cases:
        for size in found["sizes"]:
            for device, entry in size["devices"].items():
                time, _, copy, product, queue = cells(entry, "")
                faster = size["speedup"] if device == "cuda" else None
                row = (
                    found["title"],
                    f"{size['label']} {found['grows']}".strip(),
                    NAMES[device],
                    time,
                    copy,
                )
                row = (*row, product, queue, "" if faster is None else f"{faster:.3g}")
                lines.append("| " + " | ".join(row) + " |")
    crossed = [(c["title"], c["crossover"]["text"]) for c in cases if c["crossover"]]
    return "\n".join([*lines, "", *(f"- {title}: {text}" for title, text in crossed)])


# The picture --------------------------------------------------------------------------------------------------------


def points(cases: list[dict[str, Any]], device: str, dtype: str) -> list[tuple[float, float, bool]]:
    """Return operations a byte and a second of all sizes that count both, and whether a cache may hold their arrays.

    The bytes are those that the family counts, or the working set, whichever is more: each must move once.
    """
    made = []
    for found in cases:
        for size in found["sizes"] if found["dtype"] == dtype else ():
            entry = size["devices"].get(device, {})
            nbytes = max(size["count"]["bytes"], size["working_set"])
            if "median" in entry and size["operations"] and nbytes:
                operations = size["operations"]
                reached = operations / entry["median"]
                made.append((operations / nbytes, reached, entry["cached"]))
    return made


def roof(cases: list[dict[str, Any]], device: str, dtype: str) -> tuple[float, float] | None:
    """Return the medians of the ceilings of a device, in bytes and operations a second; None where there are none."""
    pairs = [
        pair
        for found in cases
        for size in found["sizes"]
        if found["dtype"] == dtype
        for pair in size["devices"].get(device, {}).get("ceilings", ())
    ]
    if not pairs:
        return None
    return (
        statistics.median(p["copy"] for p in pairs),
        statistics.median(p["product"] for p in pairs),
    )


def roofline(result: Mapping[str, Any], path: Path) -> str:
    """Draw what each size reaches under the ceilings of its device; say what became of it."""
    try:
        import matplotlib as mpl
    except ImportError:
        return "no roofline: matplotlib is not installed"
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5.5), layout="constrained")
    cases = result["cases"]
    for device, colour in (("cpu", "tab:blue"), ("cuda", "tab:green")):
        for dtype, line, mark in (("f4", "-", "o"), ("f8", "--", "s")):
            ceilings, found = roof(cases, device, dtype), points(cases, device, dtype)
            if ceilings is None or not found:
                continue
            copy, product = ceilings
            corner = product / copy
            ends = [
                min(corner, *(x for x, *_ in found)) / 2,
                corner,
                max(corner, *(x for x, *_ in found)) * 2,
            ]
            name = f"{NAMES[device]}, {'float32' if dtype == 'f4' else 'float64'}"
            label = f"{name}: {copy / 1e9:.3g} GB/s, {product / 1e9:.3g} GFLOP/s"
            axes.plot(ends, [copy * ends[0], product, product], line, color=colour, label=label)
            for cached, fill in ((True, "none"), (False, colour)):
                shown = [(x, y) for x, y, held in found if held == cached]
                if shown:
                    style = {"color": colour, "markerfacecolor": fill, "markersize": 4}
                    axes.plot(*zip(*shown, strict=True), mark, **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations for each byte that must move (hollow: a cache may hold the arrays)")
    axes.set_ylabel("operations a second")
    if result["devices"].get("cuda", "measured") != "measured":
        axes.set_title("GPU " + ": ".join(result["devices"]["cuda"].split(": ")[:2]), fontsize=9)
    if axes.lines:
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return f"written: {path}"
