"""The cases of the benchmark, on the CPU and on a GPU: what is declared, the arithmetic of the columns, a run.

No time is asserted. Without a GPU the run says so; tests/cuda/test_bench.py runs the cases on the emulated device.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nnmath_core as nm

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "bench"
sys.path.insert(0, str(BENCH))  # its files import each other by these names

registry = importlib.import_module("registry")
device_report = importlib.import_module("device_report")
devices = importlib.import_module("devices")
engines = importlib.import_module("engines")
gpu = importlib.import_module("gpu")
measure = importlib.import_module("measure")
run = importlib.import_module("run")
registry.load()

# what the engine's users run, and the case that measures it
WORK = {
    "products": "matmul",
    "skinny products": "matmul-skinny",
    "a dense layer": "dense-layer",
    "elementwise chains": "formula",
    "layer norm": "layer-norm",
    "softmax cross-entropy": "cross-entropy",
    "attention": "attention-heads",
    "AdamW": "adamw",
    "a step of an MLP": "mlp-step",
    "a step of a transformer": "transformer-step",
    "Hessian-vector products": "hvp",
    "Lanczos": "lanczos-steps",
    "a gradient check": "gradient-check",
}

# families of kernels that have a twin on the GPU, and the case that runs them
KERNELS = {
    "attention": "attention-heads",
    "elementwise": "gelu",
    "gemm": "matmul",
    "index": "embedding",
    "iterations": "lanczos-steps",
    "linalg": "lanczos-steps",
    "optim": "adamw",
    "random": "normals",
    "rows": "layer-norm",
    "vector": "formula",
}


# What is declared ---------------------------------------------------------------------------------------------------


def test_every_kind_of_work_has_a_case_of_several_sizes():
    for case in WORK.values():
        assert len([s for s in registry.CASES[case].sizes if s.sizes == "quick"]) >= 2, case


def test_every_family_of_kernels_of_the_gpu_has_a_case():
    families = {path.parent.name for path in (ROOT / "src" / "_ext").glob("*/*.cu")}
    assert families
    missing = families - set(KERNELS)
    assert not missing, f"name the case in bench/ that runs kernels of {missing}"
    assert set(KERNELS.values()) <= set(registry.CASES)


def test_every_row_is_a_size_of_one_case():
    rows = [s.row for c in registry.CASES.values() for s in c.sizes if s.row]
    assert sorted(rows) == sorted(registry.ROWS)
    for case in registry.CASES.values():
        for size in case.sizes:
            if size.row:
                row = registry.ROWS[size.row]
                assert (row.family, row.options) == (case.family, size.options)
                assert row.sizes == "full" or size.sizes == "quick"


def test_sizes_of_a_case_grow():
    for case in registry.CASES.values():
        ns = [s.n for s in case.sizes]
        assert ns == sorted(set(ns)), case.name
        assert bool(case.grows) == (len(ns) > 1 or case.name in WORK.values())
        assert len({s.label for s in case.sizes}) == len(ns)
        assert case.family in registry.FAMILIES
        assert set(case.tiny) <= set(case.sizes[0].options)


NEW = [
    c for c in registry.CASES.values() if c.family not in {r.family for r in registry.ROWS.values()}
]


@pytest.mark.parametrize("case", NEW, ids=lambda c: c.name)
def test_compiled_gives_the_eager_answer(case):
    options = {**case.sizes[0].options, **case.tiny}
    inputs = registry.inputs_of(case.family, options)
    for contender in registry.of(case.family, "ours"):
        work = contender.build(inputs, options)
        expected = work.eager()
        assert len(expected) == len(work.answer)
        for a, e in zip(work.answer, expected, strict=True):
            bound = registry.FAMILIES[case.family].tolerance * np.abs(e).max()
            np.testing.assert_allclose(a, e, rtol=0, atol=bound)
        work.run()


def test_operations_and_bytes_are_counted():
    count = registry.FAMILIES["gemm"].count
    assert count({"shape": (2, 3, 5)}) == (60.0, 4.0 * (6 + 15 + 10))
    layer = registry.FAMILIES["dense_layer"].count({"batch": 3, "widths": (5, 7)})
    assert layer[0] == 3 * 2 * 3 * 5 * 7
    for case in registry.CASES.values():
        family = registry.FAMILIES[case.family]
        if case.name in (*WORK.values(), "gelu") and "check" not in case.name:
            options = case.sizes[0].options
            assert family.count(options)[0] or family.arithmetic(options), case.name


# The arithmetic of the columns ---------------------------------------------------------------------------------------


def test_fraction_is_of_the_mean_of_the_ceilings():
    # 2e9 bytes in 0.1 s are 20 GB/s, of 40 and 42 GB/s before and after
    found = devices.fraction(2e9, 0.1, (40e9, 42e9), working=2e9, cache=1 << 20)
    assert found == {"fraction": pytest.approx(20 / 41)}
    assert device_report.percent(found) == "48.8 %"
    assert devices.fraction(0.0, 0.1, (1.0, 1.0)) == {"reason": ""}


def test_fraction_is_refused_when_the_ceilings_differ():
    assert "fraction" in devices.fraction(1.0, 1.0, (100.0, 109.0))
    assert devices.fraction(1.0, 1.0, (100.0, 112.0)) == {"reason": "ceilings differ by 12 %"}
    assert devices.fraction(1.0, 1.0, (112.0, 100.0)) == {"reason": "ceilings differ by 12 %"}


def test_working_set_that_may_stay_in_a_cache_has_no_fraction_of_memory():
    cache = 1 << 20
    assert devices.fraction(1e6, 1.0, (1e9, 1e9), 4 * cache - 1, cache) == {"reason": "cached"}
    assert "fraction" in devices.fraction(1e6, 1.0, (1e9, 1e9), 4 * cache, cache)
    assert devices.fraction(1.0, 1.0, (1.0, 1.0), 1e12, None) == {"reason": "cache unknown"}


def test_last_cache_is_the_largest_level():
    assert devices.last_cache({"L1d": "48K", "L1i": "32K", "L2": "2048K", "L3": "266240K"}) == (
        266240 << 10
    )
    assert devices.last_cache({"L1d": "32K", "L2": "1M"}) == 1 << 20
    assert devices.last_cache({}) is None


def test_copy_is_beyond_the_cache_and_within_the_memory():
    machine = devices.Machine(1, 100 << 20, 16 << 30, "measured", 50 << 20, 2 << 30)
    assert machine.copied("cpu") == 8 * (100 << 20)
    assert machine.copied("cuda") == 8 * (50 << 20)
    assert devices.Machine(1, 100 << 20, 1 << 30).copied("cpu") == 1 << 28
    assert devices.Machine(1, None, 16 << 30).copied("cpu") == devices.LEAST_BYTES
    assert machine.devices == ["cpu", "cuda"]
    assert devices.Machine(1, None, 1, "not measured: no GPU").devices == ["cpu"]


def sizes(*speedups):
    """Sizes 10, 100, 1000 and so on, with these speed-ups of the GPU."""
    return [
        {"label": str(10 ** (k + 1)), "n": 10.0 ** (k + 1), "speedup": s}
        for k, s in enumerate(speedups)
    ]


def test_crossover_is_between_the_sizes_where_the_winner_changes():
    # from half as fast to twice as fast: the middle of 100 and 1000 on a logarithmic scale
    found = devices.crossover(sizes(0.1, 0.5, 2.0, 5.0), "rows")
    assert found["n"] == pytest.approx(10**2.5)
    assert found["text"] == "the CPU wins below about 320 rows (between 100 and 1000)"
    found = devices.crossover(sizes(0.5, 4.0), "rows")  # a third of the way
    assert found["n"] == pytest.approx(10 ** (1 + 1 / 3))
    assert devices.crossover(sizes(1.0, 4.0), "rows")["n"] == pytest.approx(10.0)
    # the last change counts, and sizes that were not measured are left out
    assert devices.crossover(sizes(3.0, 0.5, None, 2.0), "rows")["n"] == pytest.approx(10**3)


def test_crossover_says_when_one_of_them_always_wins():
    every = devices.crossover(sizes(2.0, 3.0), "rows")
    assert every == {"n": None, "text": "the GPU wins at every size, from 10"}
    never = devices.crossover(sizes(0.2, 0.3), "rows")
    assert never == {"n": None, "text": "the CPU wins at every size, up to 100"}
    late = devices.crossover(sizes(2.0, 0.3), "rows")
    assert late == {"n": None, "text": "the CPU wins at the largest size, 100"}
    assert devices.crossover(sizes(2.0), "rows") is None
    assert devices.crossover(sizes(None, 2.0), "rows") is None


def test_speedup_needs_both_devices():
    assert devices.speedup({"cpu": {"median": 3.0}, "cuda": {"median": 2.0}}) == 1.5
    assert devices.speedup({"cpu": {"median": 3.0}, "cuda": {"reason": "no GPU"}}) is None
    assert devices.speedup({"cpu": {"median": 3.0}}) is None


class Simulated:
    """A host and a device on one time line: a call costs the host and the device so much, and may wait."""

    def __init__(self, enqueue, work, *, waits=False):
        self.enqueue, self.work, self.waits = enqueue, work, waits
        self.now = self.free = 0.0

    def run(self):
        self.now += self.enqueue
        self.free = max(self.free, self.now) + self.work
        if self.waits:
            self.now = self.free

    def mark(self):
        self.free = max(self.free, self.now)
        return self.free

    def reached(self, mark):
        return mark <= self.now

    def wait(self, mark):
        self.now = max(self.now, mark)

    def between(self, first, second):
        return second - first

    def stall(self, seconds):
        self.free = max(self.free, self.now) + seconds


@pytest.mark.parametrize(
    ("enqueue", "work", "waits", "each", "alone", "bound"),
    [
        (1e-5, 1e-3, False, 1e-3, 1e-3, False),
        (1e-3, 1e-4, False, 1e-3, 1e-4, True),  # the device waits for the host
        (1e-3, 1e-2, True, 1.1e-2, None, None),  # and the host for the device, in each call
        (1e-5, 0.1, False, 0.1, 0.1, False),  # slow: one call at a time
    ],
)
def test_times_of_the_host_and_of_the_device_are_told_apart(
    enqueue, work, waits, each, alone, bound, monkeypatch
):
    simulated = Simulated(enqueue, work, waits=waits)
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: simulated.now)
    found = gpu.timed(simulated.run, simulated, 0.05)
    # the first call of a turn finds the device idle and waits for the host
    assert np.median(found["times"]) == pytest.approx(each, rel=0.1)
    assert found["slow"] == (work == 0.1)
    queue = devices.queueing([found])
    assert queue["enqueue"] == pytest.approx(enqueue + work * waits)
    assert queue["device"] == (None if alone is None else pytest.approx(alone, rel=0.1))
    assert queue["launch_bound"] is bound


def test_calls_from_event_to_event_fill_what_events_resolve():
    assert gpu.calls_for(1e-4) == 20
    assert gpu.calls_for(1e-3) == gpu.FEWEST
    assert gpu.calls_for(1e-9) == gpu.MOST
    assert gpu.calls_for(1.0) == 1


# The measuring ------------------------------------------------------------------------------------------------------


class Recorded(devices.Devices):
    """Devices whose ceilings and times are given."""

    def __init__(self, machine, ceilings, times):
        plan = measure.Plan(rounds=2, settle=False)
        super().__init__({}, {}, plan, io.StringIO(), machine)
        self.given, self.times = ceilings, times

    def ceilings(self, device, dtype):
        copy = next(self.given[device])
        return {"copy": copy, "product": 1e12}

    def load(self, case, options):
        return [(d, "ours", "mine") for d in self.machine.devices], [], 1 << 30

    def rounds(self, entrants):
        n = 2
        queue = {"enqueue": 1e-5, "device": 2e-5, "launch_bound": False}
        apart = {e: queue if e[0] == "cuda" else {} for e in entrants}
        return {e: [self.times[e[0]]] * n for e in entrants}, apart


MACHINE = devices.Machine(2, 1 << 20, 16 << 30, "measured", 1 << 20, 16 << 30)


def case_of(*ns):
    made = tuple(registry.Size(str(n), n, {"n": n}) for n in ns)
    return registry.Case("gelu", "GELU", "gelu", made, "numbers", {"n": 3})


def test_both_devices_are_compared_with_their_own_ceilings():
    bench = Recorded(
        MACHINE,
        {"cpu": iter([1e10, 1e10, 1.05e10]), "cuda": iter([1e12] * 3)},
        {"cpu": 1e-1, "cuda": 1e-3},
    )
    found = bench.case(case_of(10_000_000, 20_000_000), False)
    first, second = found["sizes"]
    # four passes over 4e7 bytes
    assert first["devices"]["cpu"]["copy"] == {"fraction": pytest.approx(1.6e8 / 1e-1 / 1e10)}
    assert first["devices"]["cuda"]["copy"] == {"fraction": pytest.approx(1.6e8 / 1e-3 / 1e12)}
    assert second["devices"]["cpu"]["copy"]["fraction"] == pytest.approx(3.2e9 / 1.025e10)
    assert first["devices"]["cuda"]["enqueue"] == 1e-5
    assert first["speedup"] == pytest.approx(100)
    assert found["crossover"]["text"] == "the GPU wins at every size, from 10000000"
    text = device_report.case_text(found, 2)
    assert "the GPU is 100 times as fast" in text
    assert "enqueue 10 us, device 20 us" in text
    assert "launch-bound" not in text
    assert "crossover: the GPU wins at every size, from 10000000" in text
    assert "| GELU | 10000000 numbers | GPU | 1 ms | 16 % |" in device_report.table([found])


def test_only_ceilings_that_are_needed_make_a_size_count_again():
    class Products(Recorded):
        def load(self, case, options):
            return [("cpu", "ours", "mine")], [], 1 << 20  # stays in a cache

    machine = devices.Machine(2, 1 << 20, 16 << 30)
    bench = Products(machine, {"cpu": iter([1e10, 2e10])}, {"cpu": 1e-1})
    (size,) = bench.case(case_of(10_000_000), False)["sizes"]
    assert size["attempts"] == 1
    assert size["devices"]["cpu"]["copy"] == {"reason": "cached"}
    assert set(size["devices"]) == {"cpu"}  # nobody asked for a GPU


def test_size_whose_ceilings_moved_is_measured_again_and_then_refused():
    bench = Recorded(
        MACHINE,
        {"cpu": iter([1e10, 1.2e10, 1.21e10]), "cuda": iter([1e12] * 3)},
        {"cpu": 1e-1, "cuda": 1e-3},
    )
    (size,) = bench.case(case_of(10_000_000), False)["sizes"]
    assert size["attempts"] == 2
    assert "fraction" in size["devices"]["cpu"]["copy"]
    bench = Recorded(
        MACHINE,
        {"cpu": iter([1e10, 1.2e10, 1.5e10]), "cuda": iter([1e12] * 3)},
        {"cpu": 1e-1, "cuda": 1e-3},
    )
    found = bench.case(case_of(10_000_000), False)
    (size,) = found["sizes"]
    assert size["devices"]["cpu"]["copy"] == {"reason": "ceilings differ by 25 %"}
    assert "fraction" in size["devices"]["cuda"]["copy"]
    assert "ceilings differ by 25 % / -" in device_report.case_text(found, 2)


def test_without_a_gpu_every_size_says_why():
    machine = devices.Machine(2, 1 << 30, 16 << 30, "not measured: no GPU: CuPy is not installed.")
    bench = Recorded(machine, {"cpu": iter([1e10] * 2)}, {"cpu": 1e-1})
    found = bench.case(case_of(10_000_000), False)
    (size,) = found["sizes"]
    assert size["devices"]["cuda"] == {"reason": "no GPU: CuPy is not installed."}
    assert size["devices"]["cpu"]["copy"] == {"reason": "cached"}
    assert (size["speedup"], found["crossover"]) == (None, None)
    text = device_report.case_text(found, 2)
    assert "GPU  not measured: no GPU\n" in text + "\n"
    assert "cached / -; 2 threads" in text


def test_points_of_the_picture_are_operations_a_byte_and_a_second():
    size = {
        "count": {"flops": 60.0, "bytes": 10.0},
        "working_set": 20,
        "operations": 60.0,
        "devices": {
            "cpu": {"median": 2.0, "cached": True, "ceilings": [{"copy": 4.0, "product": 8.0}] * 2}
        },
    }
    cases = [{"dtype": "f4", "sizes": [size]}]
    assert device_report.points(cases, "cpu", "f4") == [(3.0, 30.0, True)]
    assert device_report.points(cases, "cuda", "f4") == []
    assert device_report.points(cases, "cpu", "f8") == []
    assert device_report.roof(cases, "cpu", "f4") == (4.0, 8.0)
    assert device_report.roof(cases, "cuda", "f4") is None


# Where there is no GPU ----------------------------------------------------------------------------------------------


def test_state_gives_the_reason_of_the_device(monkeypatch):
    def refuse(name):
        raise nm.DeviceError("device: CuPy is not installed. Install it\nwith pip.")

    monkeypatch.setattr(nm, "device", refuse)
    said = "not measured: no GPU: CuPy is not installed. Install it with pip."
    assert gpu.state() == (said, {})


def test_peers_run_on_the_gpu_only_when_they_can(monkeypatch):
    pytorch = importlib.import_module("peers.pytorch")

    class WithoutCuda:
        class cuda:
            is_available = staticmethod(lambda: False)

    monkeypatch.setattr(pytorch, "torch", lambda: WithoutCuda)
    assert pytorch.place() == "cpu"
    monkeypatch.setenv("NNMATH_BENCH_DEVICE", "cuda")
    with pytest.raises(RuntimeError, match="PyTorch is installed without CUDA"):
        pytorch.place()


# A run --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A row with its variants and some cases at tiny sizes, as a user runs them: printed text, file, folder."""
    folder = tmp_path_factory.mktemp("bench")
    folders = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    path = os.pathsep.join(os.path.abspath(p) for p in folders)
    words = [
        "gelu",
        "matmul",
        "dense-layer",
        "formula",
        "normals",
        "--devices",
        "cpu,cuda",
        "--sizes",
        "tiny",
    ]
    words += ["--threads", "1", "--peers", "none", "--json", "result.json", "--plot"]
    done = subprocess.run(
        [sys.executable, str(BENCH / "run.py"), *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stderr == ""
    return done.stdout, json.loads((folder / "result.json").read_text(encoding="utf-8")), folder


def test_cases_run_on_the_cpu_and_are_written(tiny):
    text, result, _ = tiny
    assert result["schema"] == run.SCHEMA == 4
    assert result["failed"] == []
    assert {c["case"] for c in result["cases"]} == {
        *("gelu", "matmul", "dense-layer", "formula", "normals")
    }
    for case in result["cases"]:
        assert set(case) == {"case", "title", "grows", "dtype", "sizes", "crossover"}
        assert f"# {case['title']} ({case['case']}, float32)" in text
        (size,) = case["sizes"]
        assert set(size) == {
            *("label", "n", "row", "options", "count", "operations", "working_set", "attempts"),
            *("devices", "peers", "absent", "speedup"),
        }
        assert size["working_set"] > 0
        cpu = size["devices"]["cpu"]
        assert cpu["median"] > 0
        assert all(c["copy"] > 0 and c["product"] > 0 for c in cpu["ceilings"])
        assert cpu["copy"] == cpu["product"] == {"reason": "tiny"}


def test_variants_run_beside_their_floor(tiny):
    text, result, _ = tiny
    (row,) = result["rows"]
    (variant,) = row["variants"]
    assert variant["name"] == "the exact GELU, by erf"
    assert {c["engine"] for c in variant["contenders"]} == {"ours", "floor"}
    assert "variant the exact GELU, by erf: " in text


def test_column_of_the_gpu_says_why_it_is_empty(tiny):
    text, result, _ = tiny
    state = result["devices"]["cuda"]
    if state == "measured":
        pytest.skip("there is a GPU")
    assert state.startswith("not measured: no GPU: ")
    assert f"cuda: {state}" in text
    assert text.count("GPU  not measured: no GPU\n") == len(result["cases"])
    assert result["gpu"] == {}
    for case in result["cases"]:
        (size,) = case["sizes"]
        assert size["devices"]["cuda"] == {"reason": state.removeprefix("not measured: ")}
        assert size["speedup"] is None


def test_pictures_are_drawn_where_matplotlib_is(tiny):
    text, _, folder = tiny
    if importlib.util.find_spec("matplotlib") is None:
        assert "no picture: matplotlib is not installed" in text
        assert "no roofline: matplotlib is not installed" in text
        return
    for name in ("result.png", "result.roofline.png"):
        assert f"written: {name}" in text
        assert (folder / name).stat().st_size > 5_000


@pytest.mark.parametrize(
    ("words", "rows", "cases"),
    [
        (["gelu"], ["gelu"], []),
        (["gelu", "--devices", "cpu,cuda"], ["gelu"], ["gelu"]),
        (["gelu", "--devices", "cuda"], [], ["gelu"]),
        (["mlp-784-1024-10", "--devices", "cpu,cuda"], ["mlp-784-1024-10"], ["mlp-step-widths"]),
        (["matmul", "--devices", "cpu,cuda"], [], ["matmul"]),
    ],
)
def test_names_choose_rows_and_cases(words, rows, cases, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench/run.py", *words])
    found = run.chosen(run.arguments())
    assert [[x.name for x in group] for group in found] == [rows, cases]


def test_case_is_refused_where_the_gpu_is_not_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench/run.py", "gelu", "matmul"])
    with pytest.raises(SystemExit):
        run.arguments()
    assert "'matmul' is a case: cases run with --devices cpu,cuda" in capsys.readouterr().err


def test_what_the_library_refuses_on_a_device_is_no_failure_of_the_run():
    said = "DtypeError: Plan of f: argument x must be an array of the host"
    assert run.refused({"device": "cuda", "reason": said})
    assert not run.refused({"device": "cpu", "reason": said})
    assert not run.refused({"device": "cuda", "reason": "AttributeError: no such name"})


def test_no_case_is_called_as_a_script_of_the_folder():
    assert not set(registry.CASES) & set(run.components.ROWS)


def test_quick_runs_have_every_quick_row_on_both_devices(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench/run.py", "--devices", "cpu,cuda"])
    rows, cases = run.chosen(run.arguments())
    quick = {s.row for c in cases for s in c.sizes if s.sizes == "quick" and s.row}
    assert {r.name for r in rows} <= quick


def test_page_explains_every_case():
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for case in registry.CASES.values():
        if case.grows:
            assert f"`{case.name}`" in text, case.name
