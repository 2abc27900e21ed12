"""The registry of benchmarks: it is complete, what it compares computes the same, and the measuring is right.

No time is asserted: what else runs on the machine would decide. Peers are compared where they are installed, in the
long tests, by the interpreter that NNMATH_PEERS names.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
PAGE = BENCH.parent / "docs" / "performance.md"
sys.path.insert(0, str(BENCH))  # its files import each other by these names

registry = importlib.import_module("registry")
engines = importlib.import_module("engines")
floors = importlib.import_module("floors")
measure = importlib.import_module("measure")
models = importlib.import_module("models")
report = importlib.import_module("report")
run = importlib.import_module("run")
VARIANTS = importlib.import_module("variants").VARIANTS
registry.load()

STREAMED = "bytes, non-temporal copy"

QUICK = {
    "mlp-784-128-10": "MLP 784-128-10, batch 32, step with Adam",
    "mlp-784-512-512-10": "MLP 784-512-512-10, batch 128, step with Adam",
    "mlp-784-2048-2048-10": "MLP 784-2048-2048-10, batch 512, step with Adam",
    "transformer-block": "transformer block, B 8, T 128, d 256, forward and backward",
    "layer-norm": "layer norm 4096 x 1024, forward and backward",
    "cross-entropy-4096x1000": "softmax cross-entropy 4096 x 1000, value and gradient",
    "cross-entropy-512x32000": "softmax cross-entropy 512 x 32000, value and gradient",
    "gelu": "GELU on 1e7, value and gradient",
    "adamw-1e7": "AdamW, one tensor of 1e7",
    "adamw-200x1e4": "AdamW, 200 tensors of 1e4",
    "gradient-check": "gradient check of the 64-32-10 MLP, all 2,410 entries, float64",
    "gradient-check-projected": "gradient check of the 64-32-10 MLP, projected, float64",
    "hvp": "HVP of the MLP 784-256-10, batch 1024",
    "hvp-frozen": "HVP of the MLP 784-256-10, batch 1024, with the point frozen",
    "hessian-eigenvalues": "ten largest Hessian eigenvalues of the MLP 784-256-10, batch 1024",
    "lanczos-100": "100 Lanczos steps on the Hessian of the MLP 784-256-10, batch 1024",
    "dense-hessian": "dense Hessian of 16-16-4, float64",
    "gradient-norms": "per-example gradient norms, MLP 784-256-10, batch 256",
    "ntk": "empirical NTK Gram 256 x 256, MLP 64-512-512-1",
    "chain-compiled": "gradient of a chain of ten tanh on ten numbers: compiled",
    "chain-eager": "gradient of a chain of ten tanh on ten numbers: eager",
    "power-iteration": "power iteration, 2048 x 2048, 100 steps",
}
FULL = ["mlp-784-1024-10", "gelu-1e5"]
FULL += [
    f"attention-{shape}{causal}"
    for shape in ("1x8x4096x32", "8x8x128x32", "4x8x512x64")
    for causal in ("", "-causal")
]

CROSS_ENTROPY = [("ahead", 1.3, "tuned", None), ("ahead", 2.5, "default", None)]
EIGENVALUES = [("ahead", 1.05, "JAX", None), ("ahead", 3.5, "curvlinops", None)]

# what the rows promise: (kind, ratio, of, threads)
TARGETS = {
    "mlp-784-128-10": [("floor", 1.05, "GEMMs by BLAS", None), ("ahead", 2, "", 1), ("ahead", 3, "", 2)],
    "mlp-784-512-512-10": [("floor", 1.15, "GEMMs by BLAS", None), ("ahead", 1.2, "", None)],
    "mlp-784-2048-2048-10": [("floor", 1.04, "GEMMs by BLAS", None), ("ahead", 1.02, "", None)],
    "transformer-block": [("floor", 1.15, "GEMMs by BLAS", None), ("ahead", 1.12, "", None)],
    "layer-norm": [("floor", 1.4, STREAMED, None), ("ahead", 1.3, "", None)],
    "cross-entropy-4096x1000": [("floor", 1.5, "one exp", None), *CROSS_ENTROPY],
    "cross-entropy-512x32000": [("floor", 1.3, "one exp", None), *CROSS_ENTROPY],
    "gelu": [("floor", 1.5, STREAMED, None), ("ahead", 1.7, "tuned", None), ("ahead", 4, "default", None)],
    "adamw-1e7": [("floor", 1.03, STREAMED, None), ("ahead", 1, "", None)],
    "adamw-200x1e4": [("floor", 1.2, STREAMED, None), ("ahead", 2, "", None)],
    "gradient-check": [("ahead", 5, "JAX", None), ("ahead", 100, "gradcheck", None)],
    "gradient-check-projected": [("ahead", 10, "", None)],
    "hvp": [("floor", 1.05, "GEMMs", None), ("ahead", 1, "", None)],
    "hvp-frozen": [("floor", 1.05, "GEMMs", None), ("ahead", 1, "", None)],
    "hessian-eigenvalues": [("floor", 1.1, "GEMMs", None), *EIGENVALUES],
    "lanczos-100": [("floor", 1.1, "GEMMs", None), *EIGENVALUES],
    "dense-hessian": [("ahead", 6, "", None)],
    "gradient-norms": [("floor", 2, "GEMMs", None), ("ahead", 20, "", None)],
    "ntk": [("floor", 1.4, "GEMMs", None), ("ahead", 40, "", None)],
    "chain-compiled": [("ahead", 3, "JAX", None)],
    "chain-eager": [("ahead", 10, "PyTorch: ", None)],
    "power-iteration": [("floor", 1.2, "one pass", None), ("ahead", 1.5, "", None)],
}  # fmt: skip

SPECIAL = {  # rows in which one of the two has nothing of its own kind, and why
    "torch.compile": {
        "gradient-check",
        "gradient-check-projected",
        "hvp-frozen",
        "hessian-eigenvalues",
        "lanczos-100",
    }
    | {"ntk", "power-iteration"},
}


def tiny(row, change=None):
    return {**row.options, **(change or {}), **row.tiny}


def ours(row, change=None):
    options = tiny(row, change)
    return [
        (c.name, c.build(registry.inputs_of(row.family, options), options))
        for c in registry.of(row.family, "ours")
    ]


def differences(answer, expected):
    """Largest difference of each array, relative to its largest number."""
    assert len(answer) == len(expected)
    found = []
    for a, e in zip(answer, expected, strict=True):
        a, e = np.asarray(a, "f8"), np.asarray(e, "f8")
        assert a.shape == e.shape
        found.append(np.abs(a - e).max() / np.abs(e).max())
    return found


# The rows -----------------------------------------------------------------------------------------------------------


def test_every_row_of_the_table_is_there_with_its_targets():
    assert {r.name: r.title for r in registry.ROWS.values() if r.sizes == "quick"} == QUICK
    assert [r.name for r in registry.ROWS.values() if r.sizes == "full"] == FULL
    for name, targets in TARGETS.items():
        row = registry.ROWS[name]
        assert [(t.kind, t.ratio, t.of, t.threads) for t in row.targets] == targets, name
    assert set(TARGETS) == set(QUICK)


def test_every_target_speaks_of_contenders_that_exist():
    for row in registry.ROWS.values():
        assert measure.ours(row) in [c.name for c in registry.of(row.family, "ours")]
        for target in row.targets:
            if target.kind == "floor":
                names = [
                    c.name
                    for c in registry.CONTENDERS
                    if c.family == row.family and c.engine.startswith("floor")
                ]
                assert any(n.startswith(target.of) for n in names), row.name
                continue
            peers = [
                {"engine": e.name, "name": c.name}
                for e in engines.ENGINES.values()
                for c in registry.of(row.family, e.contenders)
                if measure.kind(e.name) == "peer"
            ]
            assert any(measure.belongs(p, target.of) for p in peers), row.name


def test_every_row_has_its_peers():
    for row in registry.ROWS.values():
        for engine in ("PyTorch", "JAX", "torch.compile"):
            if row.name in SPECIAL.get(engine, ()):
                continue
            assert registry.of(row.family, engine), (row.name, engine)
    assert {c.family for c in registry.CONTENDERS if c.engine == "curvlinops"} == {
        "eigenvalues",
        "lanczos_steps",
    }


def test_every_contender_belongs_to_a_family_and_an_engine():
    for c in registry.CONTENDERS:
        assert c.family in registry.FAMILIES
        assert c.engine in engines.ENGINES
    names = [(c.family, c.engine, c.name) for c in registry.CONTENDERS]
    assert len(names) == len(set(names))


def test_every_row_has_a_variant_that_differs():
    assert set(VARIANTS) == set(QUICK) - {
        "chain-compiled",
        "chain-eager",
    }  # a chain of tanh has none
    for name, changes in VARIANTS.items():
        assert changes, name
        for change in changes.values():
            assert {**registry.ROWS[name].options, **change} != registry.ROWS[name].options


def test_variants_are_those_of_the_issue():
    said = " ".join(name for changes in VARIANTS.values() for name in changes)
    for words in (
        "700-130-11",
        "gelu for relu",
        "one skip connection",
        "a learnt temperature",
        "x.T instead of x",
        "one more norm",
    ):
        assert words in said


def test_inputs_come_from_the_seed():
    row = registry.ROWS["mlp-784-128-10"]
    first, second = (registry.inputs_of(row.family, tiny(row)) for _ in range(2))
    assert np.array_equal(first["x"], second["x"])
    assert np.array_equal(first["params"][0]["w"], second["params"][0]["w"])
    assert np.ptp(first["x"]) > 1


# What is computed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(registry.ROWS))
def test_compiled_gives_the_eager_answer(name):
    row = registry.ROWS[name]
    for title, work in ours(row):
        expected = work.eager()
        assert expected, title
        assert max(differences(work.answer, expected)) <= registry.FAMILIES[row.family].tolerance, (
            title
        )
        work.run()  # again, from the state that the first run left


@pytest.mark.parametrize(
    ("name", "variant"), [(n, v) for n, changes in VARIANTS.items() for v in changes]
)
def test_variants_give_their_eager_answers(name, variant):
    row = registry.ROWS[name]
    for title, work in ours(row, VARIANTS[name][variant]):
        assert (
            max(differences(work.answer, work.eager())) <= registry.FAMILIES[row.family].tolerance
        ), title
        work.run()


@pytest.mark.parametrize(
    "name", [n for n, r in registry.ROWS.items() if registry.of(r.family, "NumPy")]
)
def test_numpy_by_hand_gives_the_same(name):
    row = registry.ROWS[name]
    options = tiny(row)
    (contender,) = registry.of(row.family, "NumPy")
    answer = contender.build(registry.inputs_of(row.family, options), options).answer
    expected = ours(row)[0][1].eager()
    assert max(differences(answer, expected)) <= registry.FAMILIES[row.family].tolerance


def test_steps_move_on():
    row = registry.ROWS["mlp-784-128-10"]
    work = ours(row)[0][1]
    loss, *params = work.answer
    initial = registry.inputs_of(row.family, tiny(row))["params"][0]["w"]
    assert np.isfinite(loss)
    # the first step of Adam is the rate, whatever the gradient: 1e-3 where it is not 0
    moved = np.abs(params[0] - initial)
    assert 0.9e-3 < moved.max() < 1.1e-3


# Floors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [floors.COPY, floors.STREAM])
@pytest.mark.parametrize("nt", [1, 2, 3])
def test_passes_copy_every_number(kind, nt):
    library = floors.library()
    if library is None:  # no compiler: NumPy's copy is the floor
        assert floors.moved(kind, 1024.0) is not None
        return
    n = 64 * 37
    source, target = floors.aligned(n), floors.aligned(n)
    assert source.ctypes.data % 64 == target.ctypes.data % 64 == 0
    source[...] = np.arange(n)
    target[...] = -1
    library.nnm_pass(kind, target.ctypes.data, source.ctypes.data, n, nt)
    assert np.array_equal(target, source)
    assert library.nnm_pass(floors.READ, 0, source.ctypes.data, n, nt) == pytest.approx(
        n * (n - 1) / 2, rel=1e-5
    )


def test_passes_move_the_bytes_that_they_are_asked_for(monkeypatch):
    passed = []
    fake = types.SimpleNamespace(nnm_pass=lambda kind, to, source, n, nt: passed.append(n))
    monkeypatch.setattr(floors, "library", lambda: fake)
    for kind, nbytes in ((floors.COPY, 1 << 16), (floors.STREAM, 1 << 16), (floors.READ, 1 << 16)):
        floors.moved(kind, nbytes)()
    assert passed == [(1 << 16) // 8, (1 << 16) // 8, (1 << 16) // 4]


def test_products_of_a_gradient_are_counted():
    options = {"widths": (784, 128, 10), "batch": 32}
    assert models.mlp_products(options) == [
        *((32, 784, 128), (784, 32, 128)),
        *((32, 128, 10), (128, 32, 10), (32, 10, 128)),
    ]
    # two products of 32 x 784 x 128, three of 32 x 128 x 10
    assert models.flops(models.mlp_products(options)) == 2 * (
        2 * 32 * 784 * 128 + 3 * 32 * 128 * 10
    )


def multiplications(equation):
    """Of a contraction: the product of the sizes of its labels."""
    *labels, _ = equation.params["spec"]
    sizes = {
        k: n
        for spec, x in zip(labels, equation.operands, strict=True)
        for k, n in zip(spec, x.shape, strict=True)
    }
    return np.prod(list(sizes.values()))


@pytest.mark.parametrize(
    "name", ["mlp-784-128-10", "hvp", "gradient-norms", "ntk", "transformer-block"]
)
def test_floor_is_what_the_program_multiplies(name):
    """The GEMMs of the floor are those of the compiled program: no more, and no less."""
    import nnmath_core as nm

    row = registry.ROWS[name]
    options = {**tiny(row), "batch": 3}
    if "widths" in options:  # sizes at which no product can be taken for another one
        options["widths"] = (23, 19, 17, 1) if name == "ntk" else (23, 19, 17)
    made = []
    plain = nm.compile

    def kept(f, **rest):
        made.append(plain(f, **rest))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nm, "compile", kept)
        contender = registry.of(row.family, "ours")[0]
        contender.build(registry.inputs_of(row.family, options), options)
    (plan,) = made[0]._plans.values()
    multiplied = sum(
        multiplications(e) for e in plan.program.equations if e.primitive.name == "contract"
    )
    floor = registry.FAMILIES[row.family].count(options)[0]
    assert (
        floor <= 2 * multiplied <= 1.005 * floor
    )  # the kernel's program has one product with a vector besides


# The measuring ------------------------------------------------------------------------------------------------------


def contender(kind, engine, name, times):
    return {"kind": kind, "engine": engine, "name": name, **measure.spread(times)}


def test_ratio_is_the_median_within_rounds_with_an_interval():
    ratio, (low, high) = measure.paired([2.0, 40.0, 6.0], [1.0, 10.0, 2.0])  # ratios 2, 4, 3
    assert (ratio, low, high) == (3.0, 2.0, 4.0)
    rng = np.random.default_rng(0)
    noise = 2 + rng.standard_normal(400)
    ratio, (low, high) = measure.paired(list(noise), [1.0] * 400)
    # the standard error of the median of n normal numbers is sqrt(pi / 2 n) sigma, the interval 1.96 of it on both
    # sides
    error = np.sqrt(np.pi / 800)
    assert low < ratio < high
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.35)


def test_target_is_met_when_the_interval_reaches_it():
    row = registry.ROWS["mlp-784-512-512-10"]
    rounds = np.array([1.0, 1.01, 0.99] * 5)
    mine = contender("ours", "ours", measure.ours(row), list(1.2 * rounds))
    gemm = contender("floor", "floor", "GEMMs by BLAS", [1.0] * 15)
    serial = contender("floor", "floor, serial BLAS", "GEMMs by BLAS, one thread", [1.1] * 15)
    copied = contender("floor", "floor", "bytes, ordinary copy", [0.1] * 15)
    slow = contender("peer", "PyTorch", "eager", [5.0] * 15)
    fast = contender("peer", "JAX, tuned malloc", "jit", [1.5] * 15)
    by_hand = contender("peer", "NumPy", "by hand", [0.5] * 15)
    everything = [mine, serial, gemm, copied, slow, fast, by_hand]
    floor = measure.judged(registry.Target("floor", 1.19, "GEMMs"), row, everything)
    assert (floor["against"], floor["met"]) == ("GEMMs by BLAS", True)
    assert floor["ratio"] == pytest.approx(1.2)
    assert not measure.judged(registry.Target("floor", 1.18, "GEMMs"), row, everything)["met"]
    ahead = measure.judged(
        registry.Target("ahead", 1.26), row, everything
    )  # 1.5 / 1.2 = 1.25, up to 1.5 / 1.188
    assert (ahead["against"], ahead["met"]) == ("JAX, tuned malloc: jit", True)
    assert not measure.judged(registry.Target("ahead", 1.27), row, everything)["met"]
    default = measure.judged(registry.Target("ahead", 4.0, "default"), row, everything)
    assert default["against"] == "PyTorch: eager"
    nobody = measure.judged(registry.Target("ahead", 2.0, "curvlinops"), row, everything)
    assert nobody["reason"] == "nothing to compare with was measured"
    assert (
        measure.judged(registry.Target("floor", 2.0), row, everything[1:])["reason"]
        == "ours did not run"
    )


def test_tuned_peers_are_those_with_a_tuned_allocator_where_there_are_any():
    def belongs(engine, of):
        return measure.belongs({"engine": engine, "name": "x"}, of)

    assert belongs("JAX, tuned malloc", "tuned")
    assert not belongs("JAX", "tuned")
    assert belongs("JAX", "default")
    assert not belongs("JAX, tuned malloc", "default")
    assert belongs("curvlinops", "tuned")
    assert belongs("curvlinops", "default")
    assert not any(belongs("NumPy", of) for of in ("", "tuned", "default"))


class Recorded(measure.Bench):
    """A bench whose calibrations and times are given."""

    def __init__(self, calibrations, times, rounds=2, **plan):
        super().__init__({}, {}, measure.Plan(rounds=rounds, settle=False, **plan), io.StringIO())
        self.calibrations = iter(calibrations)
        self.given = {name: iter(values) for name, values in times.items()}

    def load(self, family, options, threads, engines):
        return {"entrants": [("ours", "mine"), ("floor", "GEMMs by BLAS")], "absent": []}

    def calibrate(self, threads):
        return next(self.calibrations)

    def process(self, engine, threads):
        given = self.given[engine.name]
        return types.SimpleNamespace(ask=lambda *_, **__: {"times": [next(given)]})


def test_rounds_between_calibrations_that_agree_are_quiet():
    assert measure.quiet_rounds([1.0, 1.05, 1.0, 1.2, 1.01, 1.02]) == [0, 1, 4]
    assert measure.quiet_rounds([1.3, 1.3, 1.3, 1.0, 1.0]) == [0, 1]  # what most of them agree on
    assert measure.quiet_rounds([1.3, 1.3, 1.0, 1.0]) == [2]  # the faster of equals
    assert measure.quiet_rounds([1.0, 1.06, 1.0]) == []
    assert measure.quiet_rounds([1.0]) == []


def test_rounds_that_were_not_quiet_are_run_again():
    row = registry.Row("r", "t", "mlp_step", {"widths": (2, 2), "batch": 1}, {}, (), "mine")
    times = {"ours": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "floor": [1.0] * 6}
    found = Recorded([1.0, 1.01, 1.5, 1.0, 1.02], times).row(row, 1, {})
    assert (found["quiet"], found["rounds"]) == (True, {"run": 4, "counted": 2})
    assert found["contenders"][0]["times"] == [
        1.0,
        4.0,
    ]  # the second and third had a noisy neighbour
    assert found["calibration"]["variation"] == pytest.approx(0.02)
    assert found["calibration"]["range"] == pytest.approx(0.5)
    found = Recorded([1.0, 1.04, 1.2, 1.5, 1.9, 2.3, 2.8], times).row(row, 1, {})
    assert (found["quiet"], found["rounds"]) == (
        False,
        {"run": 5, "counted": 5},
    )  # one of five at last
    assert found["contenders"][0]["times"] == times["ours"][:5]


def test_a_machine_that_is_never_quiet_is_not_waited_for():
    row = registry.Row("r", "t", "mlp_step", {"widths": (2, 2), "batch": 1}, {}, (), "mine")
    times = {"ours": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "floor": [1.0] * 6}
    found = Recorded([1.0, 1.2, 1.5, 1.9, 2.3, 2.8, 3.5], times).row(row, 1, {})
    assert (found["quiet"], found["rounds"]) == (False, {"run": 2, "counted": 2})
    assert found["contenders"][0]["times"] == [1.0, 2.0]


@pytest.mark.parametrize(("mine", "flagged"), [(1.3, False), (1.5, True)])
def test_variant_is_flagged_beyond_its_limit(mine, flagged):
    row = registry.Row(
        "r",
        "t",
        "mlp_step",
        {"widths": (2, 2), "batch": 1},
        {},
        (registry.Target("floor", 1.1, "GEMMs"),),
        "mine",
    )
    measured = {
        "contenders": [
            contender("ours", "ours", "mine", [1.2, 1.2]),
            contender("floor", "floor", "GEMMs by BLAS", [1.0, 1.0]),
        ]
    }
    bench = Recorded([1.0, 1.0, 1.0], {"ours": [mine, mine], "floor": [1.0, 1.0]})
    found = bench.variant(row, 1, "v", {}, measured)
    assert found["of_row"] == pytest.approx(mine / 1.2)  # 1.08 and 1.25, on both sides of 1.15
    assert found["flagged"] is flagged
    assert ("FLAGGED" in report.variant_text(found)) is flagged


def test_process_computes_on_demand_and_waits_otherwise(tmp_path):
    with open(tmp_path / "log", "w+", encoding="utf-8") as log:
        process = engines.Process(engines.ENGINES["NumPy"], sys.executable, 1, log)
        try:
            loaded = process.ask(
                "load", family="chain", engine="NumPy", options={"n": 10}, only=None
            )
            assert (loaded["ready"], loaded["failed"]) == (["by hand"], {})
            assert loaded["working_set"] == {"by hand": 160}  # ten numbers and ten of the answer
            times = process.ask("time", name="by hand", seconds=0.01)["times"]
            assert len(times) >= 2
            assert all(0 < t < 0.01 for t in times)
            process.settle()
            before = process.cpu_seconds()
            if before is not None:
                assert process.cpu_seconds() - before < 0.005
            with pytest.raises(engines.Failed, match="NumPy: KeyError: 'nobody'"):
                process.ask("time", name="nobody", seconds=0.0)
            process.child.kill()
            process.child.wait()  # its end of the pipe is closed: the next command cannot be sent
            with pytest.raises(engines.Failed, match=r"the process of NumPy ended with status -9"):
                process.ask("time", name="by hand", seconds=0.0)
        finally:
            process.close()


def test_settling_waits_for_threads_that_spin(monkeypatch):
    process = object.__new__(engines.Process)
    clock = iter(np.arange(100) * 0.01)
    used = iter(
        [0.0, 0.01, 0.02, 0.03, 0.03, 99.0]
    )  # of a whole core for three looks, then of none
    looks = []
    monkeypatch.setattr(engines.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(engines.time, "sleep", looks.append)
    monkeypatch.setattr(engines.Process, "cpu_seconds", lambda self: next(used))
    process.settle()
    assert len(looks) == 4
    assert next(used) == 99.0


# The command --------------------------------------------------------------------------------------------------------


def command(*words, cwd, **environment):
    folders = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    path = os.pathsep.join(os.path.abspath(p) for p in folders)
    return subprocess.run(
        [sys.executable, str(BENCH / "run.py"), *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """All rows at tiny sizes, as a user runs them: the printed table and the file."""
    folder = tmp_path_factory.mktemp("bench")
    words = ("--sizes", "tiny", "--peers", "none", "--threads", "1", "--no-variants")
    done = command(*words, "--json", "result.json", cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stderr == ""
    return done.stdout, json.loads((folder / "result.json").read_text(encoding="utf-8"))


def test_every_row_runs_and_is_printed(everything):
    text, result = everything
    assert [r["row"] for r in result["rows"]] == list(QUICK)
    assert result["failed"] == []
    for row in result["rows"]:
        assert f"# {row['title']}; 1 thread" in text
        run_here = {(c["engine"], c["name"]) for c in row["contenders"]}
        family = registry.ROWS[row["row"]].family
        for engine in ("ours", "floor", "NumPy"):
            assert {(engine, c.name) for c in registry.of(family, engine)} <= run_here
        assert all(len(c["times"]) == 1 and c["times"][0] > 0 for c in row["contenders"])
    assert "TINY: everything ran, to see that it runs. The times mean nothing." in text


def test_machine_versions_and_absent_peers_are_named(everything):
    text, result = everything
    assert set(result["machine"]) >= {
        "cpu",
        "caches",
        "cpus",
        "vector_instructions",
        "nnmath_isa",
        "scipy_blas",
        "commit",
    }
    assert result["versions"]["numpy"] == np.__version__
    for peer in ("PyTorch", "JAX", "curvlinops"):
        assert f"missing: {peer}: not asked for" in text
    for row in result["rows"]:
        absent = {x["engine"] for x in row["absent"]}
        family = registry.ROWS[row["row"]].family
        peers = [
            e for e in engines.ENGINES.values() if e.peer and registry.of(family, e.contenders)
        ]
        assert {e.name for e in peers} == absent


def test_missing_peers_are_named(tmp_path):
    (tmp_path / "site").mkdir()
    # an interpreter without site-packages has no peers
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n', encoding="utf-8")
    bare.chmod(0o755)
    done = command(
        "chain-eager", "--sizes", "tiny", "--threads", "1", cwd=tmp_path, NNMATH_PEERS=str(bare)
    )
    assert done.returncode == 0, done.stderr
    for peer in ("PyTorch", "JAX", "curvlinops"):
        assert f"missing: {peer}: not installed" in done.stdout
    assert "not measured: PyTorch: not installed" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nothing",), "unknown row 'nothing'; rows are mlp-784-128-10, "),
        (("--devices", "tpu"), "--devices: unknown device 'tpu'; devices are cpu, cuda"),
        (("--json", "nowhere/result.json"), "--json: there is no folder "),
        (("--peers", "/nowhere/python"), "--peers: there is no interpreter /nowhere/python"),
        (("--threads", "two"), "--threads: numbers with commas between them, got 'two'"),
    ],
)
def test_what_makes_no_sense_is_refused(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench/run.py", *words])
    with pytest.raises(SystemExit) as refused:
        run.main()
    assert refused.value.code == 2
    assert message in capsys.readouterr().err


def test_names_of_components_run_their_scripts(tmp_path):
    done = command("trees", "--quick", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "# trees: " in done.stdout


# The page -----------------------------------------------------------------------------------------------------------


def test_tables_go_between_the_marks_of_the_page(everything, tmp_path):
    _, result = everything
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    for _ in range(2):  # a second time replaces the first
        report.put(result, page)
        text = page.read_text(encoding="utf-8")
        assert text.startswith("before\n\n" + report.BEGIN)
        assert text.endswith(report.END + "\nafter\n")
        assert "old" not in text
        assert text.count("| row | threads | ours |") == 1
        for row in result["rows"]:
            assert f"| {row['title']} | 1 | " in text
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(SystemExit, match="lacks the marks"):
        report.put(result, page)


def test_page_explains_every_row():
    text = PAGE.read_text(encoding="utf-8")
    assert report.BEGIN in text
    assert report.END in text
    for row in registry.ROWS.values():
        if row.sizes == "quick":
            assert f"`{row.name}`" in text


def rows_of_cases():
    """The families that no row has, at the size of tiny runs."""
    families = {r.family for r in registry.ROWS.values()}
    return [
        registry.Row(c.name, c.title, c.family, c.sizes[0].options, c.tiny)
        for c in registry.CASES.values()
        if c.family not in families
    ]


@pytest.mark.long
def test_peers_give_our_answers():
    """In the interpreter that NNMATH_PEERS names, or in this one; who is not installed is named, and nobody fails."""
    interpreters, missing, _ = run.found_engines(run.peers_interpreter("installed"))
    plan = measure.Plan(tiny=True, settle=False, attempts=1)
    with measure.Bench(interpreters, missing, plan, sys.stderr) as bench:
        for row in (*registry.ROWS.values(), *rows_of_cases()):
            found = bench.answers(row, 1)
            expected = next(v for k, v in found["answers"].items() if k.endswith(", eager"))
            for who, answer in found["answers"].items():
                assert (
                    max(differences(answer, expected)) <= registry.FAMILIES[row.family].tolerance
                ), (row.name, who)
            assert {x["engine"] for x in found["absent"]} <= set(missing), found["absent"]
