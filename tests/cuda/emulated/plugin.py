"""The pytest plugin ``-p emulated.plugin``: the device under the run, the statistics after it.

It is named on the command line, so that CuPy is imported on the emulated device or not at all.
With ``REAL_GPU=1`` it does nothing, and the same tests run on the machine's own GPU.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest

import emulated
from emulated import build, modules

BUDGET = build.HERE.parent / "budget.json"
REAL = os.environ.get("REAL_GPU", "") not in ("", "0")
REASON = "" if REAL else emulated.unusable()

device = None if REAL or REASON else emulated.install()

_kernels: dict[str, set[str]] = {}  # by test file
_primitives: dict[str, set[str]] = {}  # by primitive, where the test's name tells it
_start = time.perf_counter()


def run_folder() -> Path:
    """Return where the processes of this run leave what they have compiled."""
    return build.CACHE / "runs" / os.environ["NNMATH_CUDA_RUN"]


# the first process names the run; the others inherit its environment
os.environ.setdefault("NNMATH_CUDA_RUN", str(os.getpid()))


def pytest_report_header(config):
    if REAL:
        return "cuda: the GPU of this machine"
    if REASON:
        return f"cuda: NOTHING IS RUN: {REASON}"
    return f"cuda: emulated, two devices; kernels by {build.compiler_version()} in {build.CACHE}"


def pytest_collection_modifyitems(config, items):
    if REASON:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=REASON))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Note which kernels the test needed."""
    if device is None:
        return (yield)
    seen = device.used
    seen.clear()
    result = yield
    _kernels.setdefault(item.location[0], set()).update(seen)
    named = re.search(r"\[(\w+)-\d+-(?:float|complex)\d+", item.nodeid)
    if named:
        _primitives.setdefault(named[1], set()).update(seen)
    return result


@pytest.fixture(autouse=True)
def _no_damage():
    """Fail the test in which memory was damaged where no exception could be raised."""
    yield
    if device is not None and device.faults:
        found = "; ".join(device.faults)
        device.faults.clear()
        pytest.fail(found)


def pytest_sessionfinish(session):
    if device is None:
        return
    if hasattr(session.config, "workerinput") or not is_controller(session.config):
        said = {
            "kernels": {k: sorted(v) for k, v in _kernels.items()},
            "primitives": {k: sorted(v) for k, v in _primitives.items()},
            "hits": modules.statistics.hits,
            "made": modules.statistics.made,
            "seconds": modules.statistics.seconds,
        }
        place = run_folder() / f"{os.getpid()}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(said))
    if not hasattr(session.config, "workerinput"):
        session.config.stash[SUMMARY] = summary = Summary(run_folder())
        if not session.exitstatus and is_whole(session.config):
            reached = sorted(set().union(*summary.files.values()))
            (build.CACHE / "reached.json").write_text(json.dumps(reached))  # for nvrtc.py
        if summary.excess and not session.exitstatus:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        shutil.rmtree(run_folder(), ignore_errors=True)


def is_controller(config) -> bool:
    """Whether other processes run the tests."""
    return bool(getattr(config.option, "numprocesses", None))


def is_whole(config) -> bool:
    """Whether this is the run of ``make test-cuda``, and not of some of its tests."""
    named = {os.path.basename(name.rstrip("/")) for name in config.args}
    chosen = config.option.keyword or config.option.markexpr not in ("", "not long")
    return named == {"test_gpu.py", "cuda"} and not chosen


class Summary:
    """What all processes of a run have compiled, and where it is more than the budget."""

    def __init__(self, folder: Path) -> None:
        found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
        self.files: dict[str, set[str]] = {}
        self.primitives: dict[str, set[str]] = {}
        for one in found:
            for name, keys in one["kernels"].items():
                self.files.setdefault(name, set()).update(keys)
            for name, keys in one["primitives"].items():
                self.primitives.setdefault(name, set()).update(keys)
        self.kernels = len(set().union(*self.files.values()))
        self.made = sum(one["made"] for one in found)
        self.hits = sum(one["hits"] for one in found)
        self.seconds = sum(one["seconds"] for one in found)
        budget = json.loads(BUDGET.read_text())
        self.excess = [
            f"{who} needs {count} distinct kernels and its budget is {allowed}: look whether samples "
            f"of new shapes do it, else raise the number in tests/cuda/{BUDGET.name}"
            for who, count, allowed in [
                ("the run", self.kernels, budget["kernels"]),
                *((f"the primitive {name}", len(keys), budget["kernels of one primitive"])
                  for name, keys in sorted(self.primitives.items())),
            ]
            if count > allowed
        ]  # fmt: skip


def not_run() -> dict[str, list[str]]:
    """Return the primitives that no emulation runs, by the reason."""
    from nnmath_core.autodiff.primitive import REGISTRY

    declared = {p.name: p.library for p in REGISTRY.values()}
    without = emulated.libraries.WITHOUT_STAND_IN
    return {
        "not run, their library has no stand-in": [k for k, v in declared.items() if v in without],
        "not run, CuPy has no implementation": [k for k, v in declared.items() if v == "absent"],
    }


SUMMARY = pytest.StashKey[Summary]()


def pytest_terminal_summary(terminalreporter, config):
    if REASON:
        terminalreporter.section("emulated device", red=True)
        terminalreporter.write_line(f"NOTHING WAS RUN: {REASON}")
    summary = config.stash.get(SUMMARY, None)
    if summary is None:
        return
    terminalreporter.section("emulated device")
    write = terminalreporter.write_line
    write(
        f"{summary.kernels} distinct kernels, {summary.made} compiled in {summary.seconds:.0f} s of "
        f"waiting for g++, {summary.hits} found in the cache; "
        f"{time.perf_counter() - _start:.0f} s in all"
    )
    for name, keys in sorted(summary.files.items(), key=lambda row: -len(row[1])):
        if keys:
            write(f"{len(keys):6d}  {name}")
    most = sorted(summary.primitives.items(), key=lambda row: -len(row[1]))[:8]
    if most:
        write("most by: " + ", ".join(f"{name} {len(keys)}" for name, keys in most))
    for what, names in not_run().items():
        if names:
            write(f"{what}: {', '.join(names)}")
    for sentence in summary.excess:
        write(f"OVER THE BUDGET: {sentence}", red=True)
