"""The benchmark on a device: its cases compute there what they do on the host, and nothing is timed in emulation."""

from __future__ import annotations

import gc
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import nnmath_core as nm

BENCH = Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))  # its files import each other by these names

registry = importlib.import_module("registry")
gpu = importlib.import_module("gpu")
registry.load()

FAMILIES = sorted({c.family: c for c in registry.CASES.values()}.values(), key=lambda c: c.name)


HOST_ONLY = {"hvp_frozen"}  # `plan.freeze` may refuse arrays on a device, by an error that says so

HOST_NUMBERS = {"eigenvalues", "lanczos_steps", "power"}  # what they give are numbers of the host


def on_host(tree):
    return nm.to_device(tree, "cpu")


@pytest.mark.parametrize("case", FAMILIES, ids=lambda c: c.family)
def test_cases_give_the_answers_of_the_host(case, cp):
    options = {**case.sizes[0].options, **case.tiny}
    inputs = registry.inputs_of(case.family, options)
    (contender, *_) = registry.of(case.family, "ours")
    here = contender.build(inputs, options)
    try:
        there = contender.build(gpu.moved(inputs), options)
    except nm.DtypeError as refusal:
        if case.family not in HOST_ONLY or "must be an array of the host" not in str(refusal):
            raise
        return
    there.run()
    assert case.family in HOST_NUMBERS or any(type(a) is cp.ndarray for a in there.answer)
    # the two sum in different orders
    tolerance = max(registry.FAMILIES[case.family].tolerance, 1e-9)
    for a, e in zip(on_host(there.answer), here.answer, strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * np.abs(e).max())


def test_emulation_is_not_timed(device):
    assert gpu.emulated()
    assert gpu.state() == ("not measured: emulated: timing it would be a lie", {})
    with pytest.raises(gpu.NotTimedError, match="emulated: timing it would be a lie"):
        gpu.clock("ours")
    worker = importlib.import_module("worker")
    held = worker.Held("cuda")
    with pytest.raises(gpu.NotTimedError, match="emulated"):
        held.load("formula", "ours", {"n": 10}, None)


def test_clock_says_what_is_asked_of_it(cp, monkeypatch):
    """Every call of CuPy that the timing makes exists; the numbers mean nothing here."""
    monkeypatch.setattr(gpu, "emulated", lambda: False)
    monkeypatch.setattr(
        gpu, "FASTEST_CLOCK", 1e5
    )  # the emulated clock stands still: the loop ends by its count
    clock = gpu.clock("ours")
    if sys.modules["emulated.plugin"].device is not None:
        first, last = clock.mark(), clock.mark()
        clock.wait(last)
        assert clock.reached(first)
        with pytest.raises(Exception, match="the emulated device measures no times"):
            clock.between(first, last)
        monkeypatch.setattr(clock, "between", lambda first, last: 1.0)
    x = cp.ones(100, "f4")
    found = gpu.timed(lambda: cp.sqrt(x), clock, 0.0)
    assert set(found) == {"times", "slow", "enqueue", "device"}
    assert len(found["times"]) == 1
    assert found["enqueue"] > 0


def test_ceilings_are_made_on_the_device(cp):
    for contender in registry.of("ceilings", "ours"):
        work = contender.build({}, {"bytes": 1 << 10, "n": 8, "dtype": "f8"})
        work.run()


def test_a_real_gpu_is_described(monkeypatch, cp):
    """All that a reader must know of a GPU is asked for by names that CuPy has."""
    monkeypatch.setattr(gpu, "emulated", lambda: False)
    state, facts = gpu.state()
    assert state == "measured"
    report = importlib.import_module("device_report")
    assert facts["name"] in report.gpu_line(facts)
    assert facts["cache"] > 0


class Here:
    """A worker in this process, where the emulated device is."""

    def __init__(self, engine, interpreter, threads, log, device):
        self.held = importlib.import_module("worker").Held(device)

    def ask(self, do, **command):
        return getattr(self.held, do)(**command)

    def close(self):
        gc.unfreeze()


def test_both_devices_are_measured_and_reported(monkeypatch, cp):
    """Everything that a run does with a GPU, but for the processes and the times."""
    devices, measure, report = map(importlib.import_module, ("devices", "measure", "device_report"))
    monkeypatch.setattr(devices, "Process", Here)
    monkeypatch.setattr(gpu, "emulated", lambda: False)
    monkeypatch.setattr(gpu, "FASTEST_CLOCK", 1e5)
    monkeypatch.setattr(gpu.CupyClock, "between", lambda self, first, last: 1e-3)
    plan = measure.Plan(rounds=2, seconds=0.0, tiny=True, settle=False)
    machine = devices.Machine(1, 1 << 20, 1 << 30, "measured", 1 << 20, 1 << 30)
    interpreters = dict.fromkeys(("ours", "floor"), sys.executable)
    missing = dict.fromkeys(("PyTorch", "torch.compile", "JAX"), "it is not installed")
    with devices.Devices(interpreters, missing, plan, None, machine) as bench:
        found = bench.case(registry.CASES["dense-layer"], False)
    (size,) = found["sizes"]
    assert size["devices"]["cpu"]["median"] > 0
    there = size["devices"]["cuda"]
    assert (there["median"], there["device"]) == (1e-3, None)  # nothing is behind anything here
    assert there["enqueue"] > 0
    assert {x["engine"] for x in size["absent"]} == set(missing)
    assert size["speedup"] == size["devices"]["cpu"]["median"] / 1e-3
    text = report.case_text(found, 1)
    assert "GPU        1 ms" in text
    assert "waits for the device" in text
    assert "not measured: JAX: it is not installed" in text
