"""The documentation is true: its examples run, its tables hold, what it names exists."""

import importlib
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import nnmath_core as nm

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

import examples  # noqa: E402
import refusals  # noqa: E402
import tables  # noqa: E402

PAGES = [ROOT / "README.md", *sorted(DOCS.glob("**/*.md"))]
X = np.array([1.25, 0.75, 2.5])
"""The traced array of the tables: three numbers on both sides of 1, exact in both dtypes."""


def page_name(path):
    return path.name


# -------------------------------------------------------------------------------------- examples
@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_examples_of_the_page_print_what_it_shows(page):
    failures = examples.run(page).failures
    assert not failures, "\n\n".join(failures)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "printed\n\n1"),
        ("```python\nprint(1)\n```\nprose\n```text\n1\n```\n", "(nothing)"),
        ("```{table-of} t\n```\n\n```python\nprint(1)\n```\n", "(nothing)"),
        ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("```python\nimport warnings\nwarnings.warn('w')\n```\n", "UserWarning"),
    ],
)
def test_a_wrong_example_is_found(tmp_path, text, complaint):
    page = tmp_path / "page.md"
    page.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as when the pages are made
        (failure,) = examples.run(page).failures
    assert complaint in failure


def test_a_right_example_passes_and_names_last_for_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nx = 1\n```\n```python\nprint(x, 'a   b')\n```\n\n```text\n1 a b\n```\n"
    )
    done = examples.run(page)
    assert not done.failures
    assert done.names["x"] == 1


def test_what_a_page_sets_in_numpy_ends_with_it(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nimport numpy as np\nnp.seterr(all='ignore')\nnp.set_printoptions(precision=1)\n```\n"
    )
    before = np.geterr(), np.get_printoptions()
    assert not examples.run(page).failures
    assert (np.geterr(), np.get_printoptions()) == before


# --------------------------------------------------------------------------------------- special points
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("what", "code", "at", "gradient"), tables.COMPOSED, ids=[c[0] for c in tables.COMPOSED]
)
def test_composed_point_has_the_printed_gradient(what, code, at, gradient, dtype):
    with np.errstate(all="ignore"):
        found = nm.grad(refusals.function_of(code))(np.array(at, dtype))
    np.testing.assert_array_equal(found, np.array(gradient, dtype))
    assert found.dtype == dtype


# --------------------------------------------------------------------------------------- refusals
ROWS = [pytest.param(row, id=row.bad) for group in refusals.GROUPS.values() for row in group]


def through(name, f):
    """Run ``f`` inside a transformation; without a name the code holds its own."""
    if name == "grad":
        return nm.grad(f)(X.copy())
    if name == "vmap":
        return nm.vmap(f)(np.stack([X, X[::-1]]))
    if name == "stage":
        return nm.stage(f, X)(X)
    assert name == ""
    return f()


@pytest.mark.parametrize("row", ROWS)
def test_what_is_refused_says_so(row):
    for name in row.through:
        with pytest.raises(row.error) as caught:
            through(name, refusals.function_of(row.bad))
        said = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
        assert row.says in said


@pytest.mark.parametrize("row", ROWS)
def test_what_is_written_instead_works(row):
    f = refusals.function_of(row.good)
    for name in row.through:
        through(name, f)
    if row.through != ("",):
        value, gradient = nm.value_and_grad(f)(X)
        np.testing.assert_allclose(
            value, f(X), rtol=8 * np.finfo(float).eps
        )  # NumPy may sum otherwise
        np.testing.assert_allclose(gradient, differences(f, X), rtol=1e-8, atol=1e-8)


def differences(f, x):
    """Return the gradient by central differences at two steps, extrapolated: off by about 1e-12."""
    steps = 1e-3, 5e-4
    unit = np.eye(x.size)
    wide, narrow = (
        np.array([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in unit]) for h in steps
    )
    return (4 * narrow - wide) / 3


# ------------------------------------------------------------------------------ what the pages name
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}


def resolve(dotted):
    """Return what ``nm.a.b`` is; raise AttributeError where there is nothing."""
    found = nm
    for name in dotted.split(".")[1:]:
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("page", TEXTS)
def test_names_on_the_page_exist(page):
    for dotted in sorted(set(re.findall(r"\bnm(?:\.[A-Za-z]\w*)+", TEXTS[page]))):
        resolve(dotted)
    for dotted in sorted(set(re.findall(r"`(nnmath_core(?:\.\w+)+)`", TEXTS[page]))):
        module, _, name = dotted.rpartition(".")
        if importlib.util.find_spec(dotted) is None if module == "nnmath_core" else True:
            getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("page", TEXTS)
def test_files_on_the_page_exist(page):
    for path in sorted(set(re.findall(r"\b(?:src|tests|docs|bench)/[\w./*-]*[\w*]", TEXTS[page]))):
        made = path.startswith("docs/_build")  # by `make docs`, which may not have run
        assert made or list(ROOT.glob(path)), f"there is no {path}"


def test_each_table_is_shown_once():
    shown = [name for text in TEXTS.values() for name in re.findall(r"\{table-of\} (\w+)", text)]
    assert sorted(shown) == sorted(tables.TABLES)


def test_the_reference_documents_every_loss():
    """They are instances, which automodule leaves out."""
    listed = re.findall(r"^\.\. documented:: nn (\w+)$", TEXTS["api.md"], flags=re.M)
    losses = [name for name in nm.nn.__all__ if isinstance(getattr(nm.nn, name), nm.nn.Loss)]
    assert sorted(listed) == sorted(losses)


def test_the_reference_lists_every_public_name():
    text = TEXTS["api.md"]
    modules = re.findall(r"^\.\. automodule:: nnmath_core\.(\w+)$", text, flags=re.M)
    listed = re.findall(r"^\.\. auto(?:function|class):: nnmath_core\.([\w.]+)$", text, flags=re.M)
    for dotted in listed:
        resolve(f"nm.{dotted}")
    assert len(listed) == len(set(listed))
    shown = {dotted.rpartition(".")[2] for dotted in listed}
    for module in modules:
        shown |= {module, *getattr(nm, module).__all__}
    elsewhere = {"__version__", "numpy", "special", "typing"}  # on another page, or in words
    assert set(nm.__all__) - elsewhere - shown == set()
    listed_there = tables.TABLES["traced_functions"]()
    assert all(f"`nm.special.{name}`" in listed_there for name in nm.special.__all__)
    assert all(f"`{name}`\n: " in text for name in nm.typing.__all__)
