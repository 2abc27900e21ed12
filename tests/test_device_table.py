"""The tables of the page of CUDA devices: every operation is there, and what they name exists.

That it is also what runs, `tests/cuda/test_operation_table.py` sees on the emulated device.
"""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.device import Backend, CudaBackend
from nnmath_core.device.launch import read_signatures

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
sys.path.insert(0, str(ROOT / "tests" / "reference"))

import cuda_table  # noqa: E402

SURFACE = json.loads((ROOT / "tests" / "reference" / "cupy_surface.json").read_text())["modules"]


def names(rows):
    return [row[0].strip("`") for row in rows]


def test_every_primitive_has_a_row():
    assert names(cuda_table.primitive_rows()) == [*REGISTRY]


def test_every_operation_of_the_backend_has_a_row():
    found = names(cuda_table.operation_rows())
    assert len(set(found)) == len(found)
    made = {
        name
        for name, value in vars(Backend).items()
        if callable(value) and not name.startswith("_")
    }
    assert made - {"function", "scope", "by_rows"} <= set(found)
    assert {*Backend.operations} <= set(found)


def test_every_kernel_has_a_row():
    sources = (ROOT / "src" / "_ext").glob("*/*.cu")
    there = {
        f"{path.stem}.{name}" for path in sources for name in read_signatures(path.read_text())
    }
    rows = dict(cuda_table.kernel_rows())
    assert {name.strip("`") for name in rows} == there
    assert rows["`optim.adam_step`"] == "`CudaBackend.adam_step`"


def test_what_cupy_implements_is_there():
    for name, how, *_ in cuda_table.primitive_rows() + cuda_table.operation_rows():
        for path in re.findall(r"`(cupyx?\.[\w.]+)`", how):
            module = max((m for m in SURFACE if path.startswith(f"{m}.")), key=len)
            rest = path.removeprefix(f"{module}.")
            assert rest in SURFACE[module], f"{name}: {path}"


def test_an_operation_without_a_kernel_is_named_as_what_it_is():
    kernels = {name: used for name, used in cuda_table.launched_by().items() if used}
    assert kernels["adamw_step"] == ["adamw_step"]
    for name in cuda_table.OPERATIONS:
        how = cuda_table.operation_implementation(name)
        assert how.startswith("kernel") == (name in kernels)
        assert (how == cuda_table.DEFINITION) == (name not in vars(CudaBackend))


def test_runs_are_recorded_for_what_is_implemented_now(monkeypatch):
    run = {
        "short": "G",
        "primitives": {"tanh": "`cupy.tanh`", "exp": "`cupy.other`"},
        "operations": {},
    }
    monkeypatch.setattr(cuda_table, "RUNS", [run])
    rows = {name: checked for name, _, _, checked in cuda_table.primitive_rows()}
    assert rows["`tanh`"] == "surface, strict, emulated, NVRTC, G"
    assert rows["`exp`"] == "surface, strict, emulated, NVRTC"  # something else ran then
    absent = next(p for p in REGISTRY.values() if p.library == "absent")
    assert rows[f"`{absent.name}`"] == "surface"


def test_the_recorded_runs_are_whole():
    assert cuda_table.RUNS
    for run in cuda_table.RUNS:
        assert {
            "short",
            "device",
            "date",
            "cupy",
            "passed",
            "failed",
            "primitives",
            "operations",
        } == {*run}
        assert len(run["primitives"]) > 200
        assert len(run["operations"]) > 10


@pytest.mark.long
def test_the_recorded_names_are_those_that_array_api_strict_runs():
    assert importlib.import_module("array_api_strict_names").names() == sorted(cuda_table.STRICT)


REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_gpu" name="test_forward[tanh-0-float64]"/>
<testcase classname="tests.test_gpu" name="test_derivatives[tanh-0-float64]"/>
<testcase classname="tests.test_gpu" name="test_forward[exp-0-float64]"/>
<testcase classname="tests.test_gpu" name="test_second[exp-0-float64]"><failure message="x"/></testcase>
<testcase classname="tests.test_gpu" name="test_forward[sin-0-float64]"><skipped/></testcase>
<testcase classname="tests.test_device" name="test_x"/>{more}
</testsuite></testsuites>"""


@pytest.mark.parametrize("failed", [False, True])
def test_a_report_of_pytest_is_read(tmp_path, failed):
    runs = importlib.import_module("gpu_runs")
    more = (
        '<testcase classname="tests.test_device" name="test_y"><error/></testcase>'
        if failed
        else ""
    )
    (tmp_path / "run.xml").write_text(REPORT.format(more=more))
    made = runs.entry(tmp_path / "run.xml", "G", "a GPU", "14.2.0", "2026-11-27")
    assert made["primitives"] == {"tanh": "`cupy.tanh`"}
    assert made["passed"] == 4
    assert bool(made["operations"]) is not failed
