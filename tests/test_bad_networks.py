"""Bad input to networks: every row of the table of the docs, plain and inside of transformations."""

import dataclasses
import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import NnmathError

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
import bad_networks as bad

EPS = np.finfo(np.float64).eps
WAYS = ("plain", "grad", "vmap", "stage")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NaN and infinity are the point


def has_x(call):
    return "x" in compile(call, call, "eval").co_names


# a list or a number cannot be made of a traced array, and NumPy cannot convert one
def ways_of(call):
    return WAYS if has_x(call) and ".tolist()" not in call else WAYS[:1]


ROWS = [
    pytest.param(way, row, bad.SETTINGS[topic], id=f"{way}: {row.call}")
    for topic, rows in bad.ROWS.items()
    for row in rows
    for way in ways_of(row.call)
]


def summed(tree):
    return sum(
        np.sum(y) for y in nm.tree_leaves(tree) if hasattr(y, "dtype") and y.dtype.kind == "f"
    )


def through(way, f, x):
    """Run ``f`` inside a transformation; of two examples the second is returned."""
    if way == "grad":
        return nm.grad(lambda x: summed(f(x)))(x)
    if way == "vmap":
        return nm.tree_map(lambda y: y[1], nm.vmap(f)(np.stack([x, x])))
    return nm.stage(f, x)(x) if way == "stage" else f(x)


def assert_equal(found, wanted):
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    if wanted.dtype.kind == "f":  # sums of at most 36 terms, and functions of a few units
        np.testing.assert_allclose(found, wanted, rtol=64 * np.finfo(wanted.dtype).eps, atol=0)
    else:
        np.testing.assert_array_equal(found, wanted)


@pytest.fixture
def files(tmp_path, monkeypatch):
    bad.write_files(tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("way", "row", "setting"), ROWS)
def test_row(way, row, setting):
    f, x = bad.function_of(row.call, setting)
    if not isinstance(row.gives, str):
        with pytest.raises(row.gives) as caught:
            through(way, f, x)
        assert row.says in str(caught.value)
        assert_says_who(caught.value)
    elif way == "grad":
        found = through(way, f, x)
        assert (found.shape, found.dtype) == (x.shape, x.dtype)
        if row.gradient:
            np.testing.assert_allclose(
                found, bad.function_of(row.gradient, setting)[0](x), rtol=64 * EPS, atol=EPS
            )
    else:
        assert_equal(through(way, f, x), bad.function_of(row.gives, setting)[0](x))


def names_of_nn():
    """The names that a message may begin with: what is public, and methods of it."""
    names = set(nm.nn.__all__) | {"scan", "Regularizer"}
    for name in nm.nn.__all__:
        public = getattr(nm.nn, name)
        cls = public if inspect.isclass(public) else type(public)
        names |= {f"{name}.{method}" for method in dir(cls) if not method.startswith("_")}
    return names


NAMES = names_of_nn()


def assert_says_who(error):
    """The message has a name that the user wrote or finds on a page; and it is an error of ours, or names a file."""
    assert isinstance(error, NnmathError | FileNotFoundError)
    who, _, what = str(error).partition(": ")
    assert who in NAMES, who
    assert any(word in what for word in ("`", "'", " got ", "undefined")), what


# -------------------------------------------------------------------------------- what all have in common
def outcome(every, subject):
    for names, gives in every.apart.items():
        if bad.label(subject) in names.split():
            return gives, "" if not isinstance(gives, str) else gives
    return every.gives, every.says


EACH = [
    pytest.param(kind, every, subject, id=f"{bad.label(subject)}: {every.what}")
    for kind, asked in bad.EVERY.items()
    for every in asked
    for subject in bad.SUBJECTS[kind]
]


@pytest.mark.parametrize(("kind", "every", "subject"), EACH)
def test_all_of_a_kind(kind, every, subject):
    names = {"np": np, "nm": nm, "nn": nm.nn}
    names["f"] = eval(subject, names)
    y = eval(bad.SUBJECTS[kind][subject], names)
    if kind == "losses":
        names |= {"y": y, "x": np.linspace(-1.0, 1.0, y.size).reshape(y.shape)}
    elif kind != "initialisers":
        names["x"] = np.random.default_rng(0).standard_normal(y)
    gives, says = outcome(every, subject)
    if isinstance(gives, str):
        assert_equal(eval(every.call, names), eval(gives, names))
        return
    with pytest.raises(gives) as caught:
        eval(every.call, names)
    assert says in str(caught.value)
    assert_says_who(caught.value)


def test_labels_apart_exist():
    for kind, asked in bad.EVERY.items():
        labels = {bad.label(subject) for subject in bad.SUBJECTS[kind]}
        for every in asked:
            assert {name for names in every.apart for name in names.split()} <= labels


RECORDS = set(
    "CriticalPoint Gain LSUV Likelihood Loss LossExplanation MeanField OperatorNorm Regularizer VariancePropagation "
    "VarianceScaling".split()
)
"""What functions return, and the base classes of losses."""


def test_every_public_name_has_a_row():
    calls = [row.call for rows in bad.ROWS.values() for row in rows]
    calls += [bad.SETTINGS[topic] for topic in bad.ROWS]
    calls += [subject for subjects in bad.SUBJECTS.values() for subject in subjects]
    named = set(re.findall(r"\bnn\.(\w+)", "\n".join(calls)))
    assert set(nm.nn.__all__) - named - RECORDS == set()
    assert all(dataclasses.is_dataclass(getattr(nm.nn, name)) for name in RECORDS)
    assert sum(map(len, bad.ROWS.values())) >= 120


@pytest.mark.parametrize("topic", bad.ROWS)
def test_rows_differ(topic):
    rows = bad.ROWS[topic]
    assert len({row.call for row in rows}) == len({row.what for row in rows}) == len(rows)
