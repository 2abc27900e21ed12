"""docs/source.md is true: its identifiers exist, its functions are there, its tests run and assert numbers."""

import ast
import importlib
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "source.md"
ITEMS = [
    line.split(maxsplit=1)[0]
    for line in (ROOT / "tests" / "source_items.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
COLUMNS = ("item", "statement", "corrected", "function", "test", "page")
SHARED = 3
"""Rows that one test may stand for."""


def rows_of(text):
    """The rows of the page's tables as dictionaries."""
    rows = []
    for line in text.splitlines():
        cells = [c.strip() for c in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        if len(cells) == len(COLUMNS) and re.fullmatch(r"[A-Z]\d\d", cells[0]):
            rows.append(dict(zip(COLUMNS, cells, strict=True)))
    return rows


def to_come(text):
    """The identifiers under the last heading."""
    part = text.partition("\n## To come\n")[2]
    return re.findall(r"\b[A-Z]\d\d\b", part)


def plain(cell):
    return cell.strip("`")


ROWS = rows_of(PAGE.read_text())


# ------------------------------------------------------------------------------------------ what a row says
def complaints(text):
    """What is wrong with the identifiers of a page."""
    rows = rows_of(text)
    named = [row["item"] for row in rows]
    found = [f"{i} is unknown" for i in [*named, *to_come(text)] if i not in ITEMS]
    found += [f"{i} has {n} rows" for i, n in Counter(named).items() if n > 1]
    found += [f"{i} is done and to come" for i in set(named) & set(to_come(text))]
    found += [f"{i} is nowhere" for i in ITEMS if i not in {*named, *to_come(text)}]
    tests = Counter(plain(row["test"]) for row in rows)
    found += [f"{t} stands for {n} rows" for t, n in tests.items() if n > SHARED]
    return found


def test_every_item_has_one_row_or_is_to_come():
    assert not complaints(PAGE.read_text())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["item"])
def test_function_and_page_exist(row):
    for name in re.findall(r"`([^`]+)`", row["function"]):
        target = importlib.import_module("nnmath_core")
        for part in name.split(".")[1:]:
            target = getattr(target, part)
        assert name.startswith("nm."), name
        assert callable(target), name
    assert re.search(r"\]\(([\w-]+\.md)(#[\w-]+)?\)", row["page"]), row["page"]
    for page in re.findall(r"\]\(([\w-]+\.md)", row["page"]):
        assert (ROOT / "docs" / page).is_file(), page


# ------------------------------------------------------------------------------------------ what a test asserts
COMPARISONS = re.compile(
    r"(assert_allclose|assert_array_equal|assert_array_less|assert_close|assert_\w+)$"
)


@cache
def functions_of(path):
    tree = ast.parse((ROOT / path).read_text())
    return {f.name: f for f in tree.body if isinstance(f, ast.FunctionDef)}


def numeric(node):
    """Whether an expression can be a number: no string, no bare name compared with None or a type."""
    return not (
        isinstance(node, ast.Constant) and not isinstance(node.value, int | float | complex)
    )


def asserts_numbers(function, beside=None):
    """Whether a test compares numbers: by an assert with a comparison, or by a function that does.

    ``beside`` has the functions of its file.
    """
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            for part in ast.walk(node.test):
                ordered = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq)
                if isinstance(part, ast.Compare) and isinstance(part.ops[0], ordered):
                    if all(numeric(x) for x in (part.left, *part.comparators)):
                        return True
                if isinstance(part, ast.Call) and "close" in ast.unparse(part.func):
                    return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            helper = (beside or {}).get(name)
            if COMPARISONS.search(name) or (helper and asserts_numbers(helper)):
                return True
    return False


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["item"])
def test_the_named_test_asserts_numbers(row):
    path, _, name = plain(row["test"]).partition("::")
    beside = functions_of(path)
    assert name in beside, f"{path} has no {name}"
    assert asserts_numbers(beside[name], beside), f"{name} compares no numbers"


@pytest.mark.parametrize(
    ("body", "right"),
    [
        ("assert x < 3", True),
        ("np.testing.assert_allclose(x, 1.0)", True),
        ("assert np.isclose(x, y)", True),
        ("assert x", False),
        ("assert name == 'a'", False),
        ("assert x is None", False),
        ("f(x)", False),
        ("with pytest.raises(ValueError):\n        f(x)", False),
    ],
)
def test_assertions_on_numbers_are_told_from_others(body, right):
    assert asserts_numbers(ast.parse(f"def test():\n    {body}").body[0]) is right


def test_wrong_pages_are_found():
    row = "| L01 | s | | `nm.grad` | `tests/a.py::b` | [p](api.md) |\n"
    others = " ".join(ITEMS[1:])
    assert not complaints(row + "\n## To come\n" + others)
    assert "L01 has 2 rows" in complaints(row + row + "\n## To come\n" + others)
    assert "Z99 is unknown" in complaints(row.replace("L01", "Z99") + "\n## To come\n")
    assert "L02 is nowhere" in complaints(row + "\n## To come\n" + " ".join(ITEMS[2:]))
    assert "L01 is done and to come" in complaints(row + "\n## To come\n" + " ".join(ITEMS))
    many = "".join(row.replace("L01", i) for i in ITEMS[:4])
    assert "tests/a.py::b stands for 4 rows" in complaints(many + "\n## To come\n" + others)


# ------------------------------------------------------------------------------------------ the tests run
def test_the_named_tests_pass(tmp_path):
    """In a run of their own: that a name is in the page and in a file does not say that pytest runs it."""
    names = sorted({plain(row["test"]) for row in ROWS})
    report = tmp_path / "report.txt"
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *names]
    with report.open("w") as out:
        subprocess.run(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, check=False)
    text = report.read_text()
    passed = {re.sub(r"\[.*", "", n) for n in re.findall(r"^PASSED (\S+)", text, re.M)}
    assert not set(names) - passed, f"{sorted(set(names) - passed)}\n{text[-3000:]}"
    assert not re.search(r"^(FAILED|ERROR)", text, re.M), text[-3000:]
