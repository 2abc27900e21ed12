"""The study from data to report: its parts against closed forms, its failures, its bits."""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

import nnmath_core as nm
from nnmath_core import cli
from nnmath_core.autodiff.tree import ravel_tree
from nnmath_core.errors import DomainError, MissingDependency
from nnmath_core.report.numbers import short
from nnmath_core.report.page import study_page
from nnmath_core.study import study
from nnmath_core.study.classifier import default_recipe, mean_loss
from nnmath_core.study.comparison import OPTIMIZERS, compare
from nnmath_core.study.data import stratified_folds
from nnmath_core.study.protocol import Protocol
from nnmath_core.study.run import standardised, wilson_interval
from nnmath_core.study.signals import find_products, layer_records
from nnmath_core.study.surface import surface_record, verdict
from nnmath_core.study.training import half_cosine, loss_over

SHORT = Protocol(epochs=2, comparison_epochs=1, least_steps=1, highest=2, lowest=2, hidden=4)


def blobs(rows=60, classes=3, dtype=float, spread=1.0):
    """Rows around one centre a class, easy to tell apart when the spread is small."""
    rng = np.random.default_rng(0)
    y = np.arange(rows) % classes
    centres = 4.0 * np.eye(classes, 5)
    return (centres[y] + spread * rng.standard_normal((rows, 5))).astype(dtype), y


@pytest.fixture
def file(tmp_path):
    """Return a function that writes an .npz file and gives its path."""

    def write(**arrays):
        path = tmp_path / "data.npz"
        np.savez(path, **arrays)
        return str(path)

    return write


# ------------------------------------------------------------------------------------ pieces


@pytest.mark.parametrize(("right", "rows"), [(0, 7), (7, 7), (9, 10), (1761, 1797)])
def test_interval_is_wilsons(right, rows):
    peer = scipy.stats.binomtest(right, rows).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(wilson_interval(right, rows), peer, rtol=0, atol=1e-12)


def test_folds_share_each_class_and_test_each_row_once():
    y = np.repeat([0, 1, 2], [50, 23, 9])
    folds = stratified_folds(y, folds=5, rng=np.random.default_rng(1))
    tested = np.concatenate([test for _, test in folds])
    assert sorted(tested) == list(range(len(y)))
    for train, test in folds:
        assert not set(train) & set(test)
        assert len(train) + len(test) == len(y)
        np.testing.assert_array_less(np.abs(np.bincount(y[test]) - np.bincount(y) / 5), 1.0)


def test_features_are_standardised_by_the_training_rows():
    rng = np.random.default_rng(0)
    x, other = rng.normal(3.0, [1.0, 5.0, 0.1], (50, 3)), rng.normal(size=(9, 3))
    a, b = standardised(x, other, one_unit=False)
    eps = np.finfo(float).eps
    np.testing.assert_allclose(a.mean(axis=0), 0, atol=50 * eps * 30)  # 50 terms of size up to 30
    np.testing.assert_allclose(a.std(axis=0), 1, rtol=50 * eps)
    np.testing.assert_allclose(b, (other - x.mean(axis=0)) / x.std(axis=0), rtol=8 * eps, atol=eps)
    one, _ = standardised(x, other, one_unit=True)
    np.testing.assert_allclose(np.mean(one**2), 1, rtol=150 * eps)
    assert one.std(axis=0)[2] < 0.1 * one.std(axis=0)[1]


@pytest.mark.parametrize("one_unit", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_features_are_only_shifted(dtype, one_unit):
    x = np.full((30, 2), 0.1, dtype)
    x[:, 1] = np.arange(30)
    (a,) = standardised(x, one_unit=one_unit)
    assert a.dtype == dtype
    assert np.abs(a[:, 0]).max() <= 30 * np.finfo(dtype).eps


def test_learning_rate_falls_along_half_a_cosine():
    rate = half_cosine(0.2, 10)
    np.testing.assert_allclose(
        [rate(0), rate(5), rate(10), rate(99)], [0.2, 0.1, 0.0, 0.0], atol=1e-17
    )


def test_few_rows_are_trained_for_more_epochs():
    protocol = Protocol(batch_size=32, least_steps=1000)
    assert protocol.epochs_for(30, 1437) == 30
    assert protocol.epochs_for(30, 48) == 500


@pytest.mark.parametrize(
    ("x", "text"),
    [(9994.0, "9990"), (9999.0, "1 × 10⁴"), (0.00099999, "0.001"), (-0.0, "0"), (1e-300, "1 × 10⁻³⁰⁰"),
     (float("inf"), "infinite"), (float("nan"), "undefined"), (99.96, "100"), (12.345, "12.3")],
)  # fmt: skip
def test_numbers_have_three_digits(x, text):
    assert short(x) == text


# ------------------------------------------------------------------------------------ signals


def network(dtype=float):
    return nm.nn.MLP.init((5, 7, 3), activation=nm.nn.gelu, rng=0, dtype=dtype)


def rms(a):
    return np.sqrt(np.mean(np.square(a)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layer_records_are_those_of_backpropagation_by_hand(dtype):
    x, y = blobs(dtype=dtype)
    model = network(dtype)
    first, second = model.layers
    z = x @ first.weight + first.bias
    h = nm.nn.gelu(z)
    logits = h @ second.weight + second.bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    delta = p / p.sum(axis=1, keepdims=True) - np.eye(3, dtype=dtype)[y]
    slope = nm.vmap(nm.vmap(nm.grad(nm.nn.gelu)))(z)
    delta_z = (delta @ second.weight.T) * slope
    tol = 64 * np.finfo(dtype).eps * np.sqrt(len(y) * 7)
    records = layer_records(model, x, y)
    assert [r["name"] for r in records] == ["layers[0].weight", "layers[1].weight"]
    for record, before, after, back, layer in (
        (records[0], x, z - first.bias, delta_z, first),
        (records[1], h, logits - second.bias, delta, second),
    ):
        np.testing.assert_allclose(record["input"], rms(before), rtol=tol)
        np.testing.assert_allclose(record["output"], rms(after), rtol=tol)
        np.testing.assert_allclose(record["output_gradient"], rms(back), rtol=tol)
        np.testing.assert_allclose(
            record["weight_gradient"], rms(before.T @ back / len(y)), rtol=tol
        )
        values = np.linalg.svd(layer.weight.astype(float), compute_uv=False)
        np.testing.assert_allclose(record["singular_values"], values, rtol=1e-12)
        np.testing.assert_allclose(record["condition"], values[0] / values[-1], rtol=1e-12)


def test_gain_is_the_growth_of_white_noise():
    rng = np.random.default_rng(0)
    model = nm.nn.MLP.init((400, 3), rng=rng)
    x = rng.standard_normal((4000, 400))
    record = layer_records(model, x, np.zeros(4000, int))[0]
    # a mean of 12,000 squares of normal numbers: relative deviation 1 / sqrt(2 * 12000), four of them
    np.testing.assert_allclose(record["output"] / record["input"], record["gain"], rtol=4 / 150)


@dataclasses.dataclass(frozen=True)
class Turned:
    """A layer that keeps its weight the other way round, and a table that is only added."""

    w: np.ndarray
    table: np.ndarray

    def __call__(self, x):
        return x @ self.w.T + self.table.sum(axis=0)


def test_layers_are_found_in_any_model():
    x, y = blobs()
    model = Turned(np.random.default_rng(0).standard_normal((3, 5)), np.zeros((2, 3)))
    program = nm.stage(lambda m, rows: m(rows), model, x)
    assert list(find_products(program, [0, 1])) == [0]
    found, lost = layer_records(model, x, y)
    np.testing.assert_allclose(found["output"], rms(x @ model.w.T), rtol=1e-14)
    assert lost["output"] is None
    assert "no product" in lost["note"]
    assert lost["condition"] is None


def test_signals_of_a_model_that_needs_values_are_not_measured():
    @dataclasses.dataclass(frozen=True)
    class Choosing:
        w: np.ndarray

        def __call__(self, x):
            return x @ self.w if self.w[0, 0] > 0 else x @ -self.w

    x, y = blobs()
    record = layer_records(Choosing(np.ones((5, 3))), x, y)[0]
    assert record["input"] is None
    assert record["note"].startswith("not measured: the model needs values")


# ------------------------------------------------------------------------------------ surface


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_surface_has_the_ends_of_the_dense_spectrum(dtype):
    x, y = blobs(dtype=dtype)
    model = network(dtype)
    flat, unravel = ravel_tree(model)
    dense = np.linalg.eigvalsh(
        nm.hessian(lambda p: mean_loss(unravel(p), x, y))(flat).astype(float)
    )
    record = surface_record(
        model, x, y, highest=4, lowest=3, basis_bytes=1 << 30,
        rng=np.random.default_rng(0), tell=lambda steps, converged: None,
    )  # fmt: skip
    values = np.array([e["value"] for e in record["eigenvalues"]])
    bounds = np.array([e["bound"] for e in record["eigenvalues"]])
    rounding = 64 * np.finfo(dtype).eps * np.abs(dense).max()  # of the products, in the dtype
    assert record["others"][0] <= dense[3]
    assert record["others"][1] >= dense[-5]
    assert np.all(np.abs(values - np.r_[dense[:3], dense[-4:]]) <= bounds + rounding)
    g = ravel_tree(nm.grad(mean_loss)(model, x, y))[0]
    np.testing.assert_allclose(record["gradient_norm"], np.linalg.norm(g), rtol=1e-5)
    assert record["downhill"]["loss"] < record["loss"]


def test_surface_of_fewer_parameters_than_eigenvalues():
    x = np.array([[1.0], [-1.0], [2.0], [1.5]])
    model = nm.nn.MLP.init((1, 2), rng=0)
    record = surface_record(
        model, x, np.array([0, 1, 0, 1]), highest=10, lowest=5, basis_bytes=1 << 20,
        rng=np.random.default_rng(0), tell=lambda steps, converged: None,
    )  # fmt: skip
    assert (record["highest"], record["lowest"]) == (4, 0)
    assert len(record["eigenvalues"]) == 4


def test_unconverged_eigenvalues_are_shown_as_such():
    x, y = blobs()
    record = surface_record(
        network(), x, y, highest=4, lowest=4, basis_bytes=1,
        rng=np.random.default_rng(0), tell=lambda steps, converged: None,
    )  # fmt: skip
    assert not all(e["converged"] for e in record["eigenvalues"])


@pytest.mark.parametrize(
    ("loss", "downhill", "lowest", "bound", "rest", "kind"),
    [
        (1.0, 0.5, 0.1, 0.0, 0.1, "a slope"),
        (1.0, 0.99999, 0.1, 0.01, 0.1, "a minimum"),
        (1.0, 0.99999, -0.1, 0.01, -0.1, "a saddle"),
        (
            1.0,
            0.99999,
            -0.1,
            0.01,
            -np.inf,
            "a saddle",
        ),  # a bound proves it, whatever the others are
        (1.0, 0.99999, 0.1, 0.2, 0.1, "a degenerate point"),
        (1.0, 0.99999, 0.1, 0.01, -0.2, "a degenerate point"),  # there may be lower ones
        (0.0, 0.0, 0.0, 0.0, 0.0, "a degenerate point"),
    ],
)
def test_verdict_says_what_is_proved(loss, downhill, lowest, bound, rest, kind):
    assert verdict(loss, downhill, lowest, bound, rest)[0] == kind


# ------------------------------------------------------------------------------------ comparison


def test_optimizers_start_together_and_divergence_is_a_result(monkeypatch):
    x, y = blobs()
    monkeypatch.setitem(OPTIMIZERS, "Adam", (nm.optim.gradient_descent, {"learning_rate": 1e308}))
    records = compare(
        network(), (x, y), (x, y), epochs=3, batch_size=16, seed=[0, 2], advance=lambda: None
    )
    assert [r["name"] for r in records] == list(OPTIMIZERS)
    assert len({r["loss"][0] for r in records}) == 1
    for record in records:
        if record["name"] == "Adam":
            assert record["diverged"]
            assert record["loss"][-1] is None
            assert record["test_accuracy"] is None
        else:
            assert record["loss"][-1] < record["loss"][0]


def test_loss_over_parts_is_the_loss_of_all():
    x, y = blobs(rows=9000)
    model = network()
    np.testing.assert_allclose(loss_over(model, x, y), mean_loss(model, x, y), rtol=1e-13)


# ------------------------------------------------------------------------------------ the whole


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The study as `make study` runs it."""
    folder = tmp_path_factory.mktemp("study")
    return study(out=folder), folder


def test_digits_are_recognised(digits):
    results, _ = digits
    accuracy = results["accuracy"]
    assert accuracy["mean"] >= 0.97
    assert accuracy["interval"][0] < accuracy["mean"] < accuracy["interval"][1]
    assert sum(s["tested"] for s in accuracy["splits"]) == 1797
    assert np.sum(accuracy["confusion"]) == 1797
    assert np.trace(accuracy["confusion"]) == sum(s["correct"] for s in accuracy["splits"])
    assert results["gradients"]["ok"]
    assert all(e["converged"] for e in results["surface"]["eigenvalues"])
    assert len(results["surface"]["eigenvalues"]) == 15
    assert len(results["optimizers"]) == 5


def test_results_are_what_was_returned(digits):
    results, folder = digits
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "results.json"]


def test_report_answers_three_questions_and_loads_nothing(digits):
    results, folder = digits
    page = (folder / "report.html").read_text(encoding="utf-8")
    first_screen = page[page.index("<body>") : page.index("<h2>Accuracy</h2>")]
    assert first_screen.count("?</h2>") == 3
    assert len(re.findall(r'class="number', first_screen)) == 3
    loaded = re.findall(r'(?:src|href)="(?!#)[^"]*"|url\((?!#)[^)]*\)|@import|<script|<link', page)
    assert loaded == []
    assert page.count("<svg") == 3
    assert "prefers-color-scheme:dark" in page
    assert 'name="viewport"' in page
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.S).lower().split()
    assert study_page(json.loads(json.dumps(results))) == page
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))


def test_pictures_take_their_colours_from_the_page(digits):
    page = (digits[1] / "report.html").read_text(encoding="utf-8")
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.S):
        colours = set(re.findall(r"(?:stroke|fill): ([^;\"]+)", svg))
        assert {c for c in colours if not c.startswith("var(--")} <= {"none"}


def test_same_seed_gives_the_same_bits(tmp_path, file):
    x, y = blobs()
    path = file(X=x, y=y)
    texts = []
    for name in ("a", "b"):
        study(data=path, out=tmp_path / name, seed=3, protocol=SHORT)
        texts.append([(tmp_path / name / f).read_bytes() for f in ("results.json", "report.html")])
    assert texts[0] == texts[1]
    study(data=path, out=tmp_path / "c", seed=4, protocol=SHORT)
    assert (tmp_path / "c" / "results.json").read_bytes() != texts[0][0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_file_with_text_labels_is_learnt(tmp_path, file, dtype):
    x, y = blobs(spread=0.3)
    x = np.round(8 * x).astype(dtype)
    path = file(X=x, y=np.array(["ant", "bee", "cow"])[y])
    results = study(
        data=path, out=tmp_path, protocol=dataclasses.replace(SHORT, least_steps=1000, hidden=16)
    )
    assert results["accuracy"]["mean"] == 1.0
    assert [c["label"] for c in results["data"]["classes"]] == ["ant", "bee", "cow"]
    kept = np.float32 if dtype == np.float32 else np.float64
    assert {leaf["dtype"] for leaf in results["model"]["leaves"]} == {np.dtype(kept).name}


def test_diverging_training_says_so(file, tmp_path):
    x, y = blobs()
    protocol = dataclasses.replace(SHORT, learning_rate=1e300)
    with pytest.raises(
        DomainError, match=r"^study: the training diverged \(loss \w+ in split 1\)\."
    ):
        study(data=file(X=x, y=y), out=tmp_path, protocol=protocol)


def test_missing_libraries_are_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingDependency, match=r"nnmath-core\[study\]"):
        study(out=tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependency, match="the figures need matplotlib"):
        study(out=tmp_path)


# ------------------------------------------------------------------------------------ the command

MODELS = """
import dataclasses
import numpy as np
import nnmath_core as nm

def good(X, y, *, rng):
    return nm.nn.MLP.init((X.shape[1], 8, 3), rng=rng, dtype=X.dtype)

def none(X, y, *, rng):
    return None

def constant(X, y, *, rng):
    return lambda x: 1

def narrow(X, y, *, rng):
    return nm.nn.MLP.init((X.shape[1], 8, 2), rng=rng)

def fails(X, y, *, rng):
    raise ValueError("no luck")

def misfit(X, y, *, rng):
    return nm.nn.MLP.init((X.shape[1] + 1, 8, 3), rng=rng)

def no_rng(X, y):
    return None

@dataclasses.dataclass(frozen=True)
class Answers:
    w: object
    def __call__(self, x):
        return (x @ self.w).argmax(axis=1)

def answers(X, y, *, rng):
    return Answers(np.ones((X.shape[1], 3)))

@dataclasses.dataclass(frozen=True)
class Writes:
    w: object
    def __call__(self, x):
        x *= 2.0
        return x @ self.w

def writes(X, y, *, rng):
    return Writes(np.ones((X.shape[1], 3)))

@dataclasses.dataclass(frozen=True)
class Picky:
    w: object
    def __call__(self, x):
        if len(x) > 2:
            raise RuntimeError("two rows at most")
        return x @ self.w

def picky(X, y, *, rng):
    return Picky(np.ones((X.shape[1], 3)))

wrong = nm.custom_rule(np.tanh, jvp=lambda primals, tangents: 2.0 * tangents[0])

def misled(X, y, *, rng):
    return nm.nn.MLP.init((X.shape[1], 8, 3), activation=wrong, rng=rng)
"""


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Return a function that runs the command in a folder of its own: status, output, errors."""
    (tmp_path / "study_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    sys.modules.pop("study_models", None)
    x, y = blobs()
    np.savez("good.npz", X=x, y=y)
    bad = x.copy()
    bad[3, 2] = np.nan
    np.savez("nan.npz", X=bad, y=y)
    np.savez("lonely.npz", X=x)
    np.savez("objects.npz", X=x, y=np.array([None] * len(y), dtype=object))
    np.savez("real.npz", X=x, y=x[:, 0])
    np.savez("one.npz", X=x, y=np.zeros(len(y), int))
    np.savez("short.npz", X=x, y=y[:-1])
    np.savez("cube.npz", X=x.reshape(30, 2, 5), y=y[:30])
    np.savez("words.npz", X=x.astype(str), y=y)
    np.savez("half.npz", X=x.astype(np.float16), y=y)
    (tmp_path / "broken.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:200])
    np.save("single.npy", x)

    def run(*options):
        status = cli.main(["study", *options])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--data missing.npz", "there is no file 'missing.npz'"),
        ("--data .", "got the folder"),
        ("--data nan.npz", r"1 entry is NaN, first X\[3, 2\]"),
        ("--data lonely.npz", "has no y"),
        ("--data objects.npz", "got Python objects"),
        ("--data real.npz", "is it a quantity and no class"),
        ("--data one.npz", "at least two classes"),
        ("--data short.npz", "a label for each of the 60 rows"),
        ("--data cube.npz", r"X\.reshape\(len\(X\), -1\)"),
        ("--data words.npz", r"X\.astype\(float\)"),
        ("--data half.npz", "got float16"),
        ("--data broken.npz", "is damaged or not an .npz file"),
        ("--data single.npy", r"is a single array \(\.npy\)"),
        ("--model nothing", "transformer or MODULE:FUNCTION"),
        ("--model no_such_module:f", "cannot be imported: ModuleNotFoundError"),
        ("--model study_models:absent", "has no function 'absent'"),
        ("--data good.npz --model study_models:none", "must be callable, got None"),
        ("--data good.npz --model study_models:constant", "must have floating-point arrays"),
        ("--data good.npz --model study_models:narrow", r"shape \(2, 3\) for 2 rows, got \(2, 2\)"),
        ("--data good.npz --model study_models:fails", r"ValueError: no luck \(.*, line 19\)"),
        ("--data good.npz --model study_models:misfit", r"ShapeError: Dense: `x` must be of shape"),
        ("--data good.npz --model study_models:no_rng", "unexpected keyword argument 'rng'"),
        ("--data good.npz --model study_models:answers", "an argmax too much"),
        ("--data good.npz --model study_models:writes", "read-only"),
        ("--data good.npz --model study_models:picky", "RuntimeError: two rows at most"),
        ("--out good.npz", "`out` must be a folder"),
        ("--out /proc/no", "cannot write to the folder"),
        ("--device tpu", 'must be "cpu", "cuda"'),
        (
            "--device cuda:99",
            "CuPy is not installed|finds no NVIDIA driver|has no device|there is no|cuda:99",
        ),
        ("--seed -1", "must be an integer >= 0"),
    ],
)
def test_failures_are_one_sentence(command, options, words):
    status, out, err = command(*options.split())
    assert status == 1
    assert out == ""
    assert err.startswith("nnmath: ")
    assert err.count("\n") == 1
    assert re.search(words, err)


@pytest.mark.parametrize(
    "options", [["nope"], ["study", "--unknown"], ["study", "--seed", "x"], []]
)
def test_misuse_is_one_line_and_status_two(options, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(options)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_wrong_gradients_end_in_a_report_and_a_failure(command, tmp_path):
    status, out, err = command("--data", "good.npz", "--model", "study_models:misled")
    assert status == 1
    assert "disagree" in err
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    assert re.search(r'class="number bad">\d+ wrong</div><p>No\. ', page)
    assert "report.html" in out


def test_users_model_is_studied(command, tmp_path):
    status, out, err = command("--data", "good.npz", "--model", "study_models:good", "--seed", "7")
    assert (status, err) == (0, "")
    results = json.loads((tmp_path / "study" / "results.json").read_text())
    assert results["model"]["name"] == "study_models:good"
    assert not results["study"]["standardised"]
    assert results["accuracy"]["mean"] > 0.9
    assert f"{100 * results['accuracy']['mean']:.1f} %" in out


def test_interrupted_study_leaves_the_old_files(command, tmp_path, monkeypatch):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "results.json").write_text("old")
    monkeypatch.setattr("nnmath_core.study.run.compare", lambda *_, **__: _interrupt())
    status, _, err = command("--data", "good.npz")
    assert status == 130
    assert err == "nnmath: interrupted; nothing was written.\n"
    assert [path.name for path in folder.iterdir()] == ["results.json"]
    assert (folder / "results.json").read_text() == "old"


def _interrupt():
    raise KeyboardInterrupt


def test_module_is_the_command():
    run = subprocess.run(
        [sys.executable, "-m", "nnmath_core", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == f"nnmath-core {nm.__version__}\n"


def test_default_network_has_the_features_and_classes():
    recipe = default_recipe(5, 4, 3, np.dtype(np.float32))
    x, y = blobs(dtype=np.float32)
    model = recipe.model(x, y, 3, np.random.default_rng(0))
    assert model(x).shape == (60, 3)
    assert model(x).dtype == np.float32
