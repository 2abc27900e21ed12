"""Add a run of the device tests on a GPU to gpu_runs.json, from the report that pytest wrote of it.

    REAL_GPU=1 python -m pytest -m gpu --junitxml=run.xml tests/test_gpu.py tests/test_device.py tests/cuda
    python tests/reference/gpu_runs.py run.xml --short H100

Both on the machine with the GPU, or the second one elsewhere with ``--device``, ``--cupy`` and ``--date``. A primitive
is recorded with what implements it now, if none of its tests failed and at least one passed, and so are the operations
of the backend when `tests/test_device.py` passed. The pages show a run for what is implemented as it was then.
"""

import argparse
import datetime
import importlib.metadata
import json
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).parents[2]
TARGET = Path(__file__).with_name("gpu_runs.json")
sys.path.insert(0, str(ROOT / "docs"))


def outcomes(path):
    """Return the number of tests that passed, the names in brackets that passed, and those that failed."""
    passed, failed, count = set(), set(), 0
    for case in ET.parse(path).iter("testcase"):
        named = re.search(r"\[(\w+)-\d+-(?:float|complex)\d+", case.get("name"))
        name = named[1] if named else case.get("classname")
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(name)
        elif case.find("skipped") is None:
            passed.add(name)
            count += 1
    return count, passed, failed


def entry(path, short, device, cupy, date):
    """Return what is recorded of a run."""
    import cuda_table

    from nnmath_core.autodiff.primitive import REGISTRY

    count, passed, failed = outcomes(path)
    whole = "tests.test_device" in passed and "tests.test_device" not in failed
    return {
        "short": short,
        "device": device,
        "date": date,
        "cupy": cupy,
        "passed": count,
        "failed": len(failed),
        "primitives": {
            p.name: cuda_table.implementation(p)
            for p in REGISTRY.values()
            if p.name in passed - failed
        },
        "operations": {
            name: cuda_table.operation_implementation(name)
            for name in cuda_table.OPERATIONS
            if whole
        },
    }


def as_text(runs):
    """Return the JSON text, one name a line."""
    return json.dumps(runs, indent=1, sort_keys=True) + "\n"


def this_device():
    import cupy

    return cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()


def main(arguments=None):
    say = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    say.add_argument("report", type=Path)
    say.add_argument("--short", required=True, help="what the tables call it")
    say.add_argument("--device")
    say.add_argument("--cupy")
    say.add_argument("--date", default=datetime.date.today().isoformat())
    asked = say.parse_args(arguments)
    cupy = asked.cupy or importlib.metadata.version("cupy-cuda13x")
    made = entry(asked.report, asked.short, asked.device or this_device(), cupy, asked.date)
    runs = [run for run in json.loads(TARGET.read_text()) if run["short"] != asked.short]
    TARGET.write_text(as_text([*runs, made]))
    print(
        f"{made['passed']} tests passed, {len(made['primitives'])} primitives, {made['failed']} failed"
    )


if __name__ == "__main__":
    main()
