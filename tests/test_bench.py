"""The benchmarks of components run, say what they did not measure, and write the file that they promise.

No time is asserted here: what else runs on the machine would decide.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnmath_core._ext import _autodiff

BENCH = Path(__file__).resolve().parents[1] / "bench"
ROWS = [
    "attention",
    "compiled_calls",
    "contractions",
    "convolutions",
    "cross_entropy",
    "eager_overhead",
    "gemm",
    "graph_size",
    "indexing",
    "lanczos",
    "normalisation",
    "optimizer_step",
    "random_numbers",
    "recurrent",
    "reductions",
    "scan_steps",
    "shape_contracts",
    "sparse_products",
    "trees",
    "vector_math",
]
PEERS = ["torch", "jax", "autograd"]


def load(name):
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


harness = load("harness")  # the rows import it by this name
components = load("components")


def command(*words, cwd):
    # the folders of PYTHONPATH may be relative to this process
    folders = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    path = os.pathsep.join(os.path.abspath(p) for p in folders)
    return subprocess.run(
        [sys.executable, str(BENCH / "components.py"), *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Everything once, as a user runs it: the printed table and the file."""
    folder = tmp_path_factory.mktemp("bench")
    done = command("--quick", "--out", "result.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout, json.loads((folder / "result.json").read_text(encoding="utf-8"))


def variants(result):
    return [(g, v) for row in result["rows"] for g in row["groups"] for v in g["variants"]]


# The command --------------------------------------------------------------------------------------


def test_rows_are_the_files_of_the_folder(quick):
    _, result = quick
    assert components.ROWS == ROWS
    assert [row["row"] for row in result["rows"]] == ROWS
    for name in ROWS:
        assert load(name).TITLE


def test_result_names_machine_versions_and_conditions(quick):
    _, result = quick
    assert set(result) == {
        *("schema", "quick", "clock", "pinned_core", "threads", "load_average"),
        *("machine", "versions", "rows"),
    }
    assert result["schema"] == components.SCHEMA == 1
    assert result["quick"] is True
    assert result["threads"] == 1
    assert set(result["machine"]) == {
        *("cpu", "cores", "vector_instructions", "system", "python", "blas"),
        *("nnmath_isa", "commit"),
    }
    assert result["machine"]["nnmath_isa"] == _autodiff.kernel_isa()
    assert set(result["versions"]) == {"numpy", "scipy", "nnmath_core", *PEERS}
    assert result["versions"]["numpy"] == np.__version__


def test_every_variant_is_measured_or_says_why_not(quick):
    _, result = quick
    for group, variant in variants(result):
        assert set(group) == {"name", "unit", "per", "reference", "variants"}
        assert group["unit"] in ("us", "ns")
        if not variant["measured"]:
            assert set(variant) == {"name", "measured", "reason"}
            assert variant["reason"].endswith(" is not installed"), variant
            continue
        assert set(variant) == {
            *("name", "measured", "median", "quartiles", "ratio", "ratio_quartiles"),
            *("limit", "met", "repeats", "calls_per_repeat"),
        }
        assert (variant["repeats"], variant["calls_per_repeat"]) == (1, 1)
        assert (variant["limit"] is None) == (variant["met"] is None)
    for row in result["rows"]:
        for group in row["groups"]:
            assert group["variants"][0]["name"] == group["reference"]


def test_our_variants_are_measured(quick):
    _, result = quick
    ours = [v for _, v in variants(result) if v["name"].startswith(("nm.", "nnmath_core"))]
    assert len(ours) == 73
    assert all(v["measured"] for v in ours)


def test_limits_of_the_project_stand_beside_the_ratios(quick):
    table, result = quick
    limits = {
        (group["name"].split(",")[0], variant["name"]): variant["limit"]
        for group, variant in variants(result)
        if variant["measured"] and variant["limit"] is not None
    }
    chain = "gradient of the sum of five tanh(x * w)"
    assert limits == {
        (chain, "nm.grad, np.*, NumPy's arithmetic"): 1.3,
        (chain, "nm.grad, np.*, kernels"): 0.5,
        (chain, "nm.grad, nm.numpy, kernels"): 0.5,
        ("Hessian-vector product of the same", "nm.hvp, np.*, kernels"): 2.0,
        ("a product of matrices", "nm.numpy.einsum"): 1.1,
        ("a small product", "nm.numpy.einsum"): 1.1,
        ("200 x 200", "nm.grad"): 2.0,
    }
    lines = [line for line in table.splitlines() if " nm.hvp, np.*, kernels " in line]
    assert len(lines) == 1
    assert lines[0].split()[-2:] in (["2", "met"], ["2", "MISSED"])
    assert "QUICK: everything ran once" in table


def test_unknown_row_and_missing_folder_are_refused(tmp_path):
    done = command("eager", cwd=tmp_path)
    assert done.returncode == 2
    rows = ", ".join(ROWS)
    assert f"unknown row 'eager'; rows are {rows}" in done.stderr
    done = command("trees", "--out", "nowhere/result.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "--out: there is no folder" in done.stderr


# Peers that are not there -------------------------------------------------------------------------


@pytest.mark.parametrize("peer", PEERS)
def test_absent_peer_is_said_to_be_not_measured(peer, monkeypatch):
    monkeypatch.setitem(sys.modules, peer, None)  # what `import` takes for "not installed"
    (variant,) = harness.given(peer, ["that peer"], lambda module: [module.call])
    assert variant.call is None
    assert variant.missing == f"{peer} is not installed"
    group = harness.Group("sums", [harness.Variant("ours", lambda: 1.0), variant])
    lines = components.group_lines(harness.measure(group, quick=True))
    assert lines[-1].split("not measured: ")[1] == f"{peer} is not installed"


def test_broken_peer_is_said_to_be_broken(monkeypatch, tmp_path):
    (tmp_path / "broken_peer.py").write_text("raise ImportError('wrong ABI')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert harness.optional("broken_peer") == (None, "broken_peer cannot be imported: wrong ABI")


# The measuring ------------------------------------------------------------------------------------


def test_variant_that_computes_something_else_is_refused():
    right = harness.Variant("by hand", lambda: np.ones(3))
    wrong = harness.Variant("other", lambda: np.ones(3) + 1e-9)
    with pytest.raises(harness.WrongAnswer, match=r"^sums: 'other' computes array\("):
        harness.measure(harness.Group("sums", [right, wrong]), quick=True)
    shape = harness.Variant("other", lambda: np.ones((1, 3)))
    with pytest.raises(harness.WrongAnswer, match=r"^sums: 'other' computes"):
        harness.measure(harness.Group("sums", [right, shape]), quick=True)
    single = harness.Variant("other", lambda: np.ones(3, dtype=np.float32))
    with pytest.raises(harness.WrongAnswer, match=r"^sums: 'other' computes"):
        harness.measure(harness.Group("sums", [right, single]), quick=True)
    nan = harness.Variant("other", lambda: np.full(3, np.nan))
    with pytest.raises(harness.WrongAnswer, match=r"^sums: 'other' computes"):
        harness.measure(harness.Group("sums", [right, nan]), quick=True)
    free = harness.Variant("other", lambda: 2.0, answer=None)
    assert (
        harness.measure(harness.Group("sums", [right, free]), quick=True)["reference"] == "by hand"
    )


def test_ratio_is_the_median_of_the_ratios_within_repeats(monkeypatch):
    clock = {"reference": iter([1.0, 10.0, 2.0]), "twice": iter([2.0, 20.0, 8.0])}
    monkeypatch.setattr(harness, "REPEATS", 3)
    monkeypatch.setattr(harness, "calls_per_repeat", lambda variant: 1)
    monkeypatch.setattr(harness, "seconds", lambda variant, calls: next(clock[variant.name]))
    names = ("reference", "twice")
    group = harness.Group("g", [harness.Variant(n, lambda: 0.0, limit=2.0) for n in names])
    first, second = harness.measure(group)["variants"]
    assert (first["ratio"], first["median"], first["repeats"]) == (1.0, 2e6, 3)
    assert (second["ratio"], second["median"], second["met"]) == (2.0, 8e6, True)


def test_calls_of_a_repeat_fill_the_time_of_a_repeat(monkeypatch):
    monkeypatch.setattr(harness, "seconds", lambda variant, calls: 1e-6)
    calls = harness.calls_per_repeat(harness.Variant("v", lambda: 0.0))
    assert calls == pytest.approx(harness.SECONDS_PER_REPEAT / 1e-6, rel=1e-3)


def setting_inside(on):
    """Return the setting of the kernels inside a block that ends with an error."""
    try:
        with harness.kernels(on):
            inside = _autodiff.set_small_kernels(on)
            raise KeyError
    except KeyError:
        return inside


@pytest.mark.parametrize("on", [True, False])
def test_kernel_setting_is_put_back_also_after_an_error(on):
    previous = _autodiff.set_small_kernels(on)
    try:
        assert setting_inside(not on) is (not on)
        assert _autodiff.set_small_kernels(on) is on
        with harness.kernels(None):
            assert _autodiff.set_small_kernels(on) is on
    finally:
        _autodiff.set_small_kernels(previous)
