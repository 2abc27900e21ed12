"""Bad input to compiled functions and Plans: every row of the table of the docs."""

import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from plans import assert_same, rounding

import nnmath_core as nm

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
import bad_compile as bad

PAGE = Path(bad.__file__).with_name("bad-compile.md").read_text()

ROWS = [
    pytest.param(row, bad.SETTINGS[topic], id=f"{topic}: {row.what}")
    for topic, rows in bad.ROWS.items()
    for row in rows
]


@pytest.mark.parametrize(("row", "setting"), ROWS)
def test_row(row, setting):
    names = bad.names_of(setting)
    for _ in range(
        2
    ):  # what is bad is bad again, and a plan that exists answers as the one that was made
        if not isinstance(row.gives, str):
            with pytest.raises(row.gives) as caught:
                eval(row.call, names)
            assert row.says in str(caught.value)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got = eval(row.call, names)
        want = eval(row.gives, bad.names_of(setting))
        if isinstance(want, list | str):
            assert got == want
        else:
            assert_same(got, want, rounding(4))
        names = bad.names_of(setting) if "out=" in row.call or "donate" in setting else names


def test_errors_name_who_speaks():
    """Ours begin with compile, Plan or a function; others are NumPy's, Python's, or those of tracing."""
    for topic in ("static", "donated", "out", "effects"):
        for row in bad.ROWS[topic]:
            if isinstance(row.gives, str) or "__setitem__" in row.call:
                continue
            with pytest.raises(row.gives) as caught:
                eval(row.call, bad.names_of(bad.SETTINGS[topic]))
            assert re.match(r"(compile|Plan of [\w<>]+): ", str(caught.value)), str(caught.value)


def test_a_refused_call_leaves_arrays_as_they_were():
    names = bad.names_of(bad.SETTINGS["donated"])
    for call in ("f(x, x)", "f(x[:4], x[2:])"):
        with pytest.raises(nm.DtypeError):
            eval(call, names)
        assert np.array_equal(names["x"], np.arange(6.0))


@pytest.mark.parametrize("topic", bad.ROWS)
def test_rows_differ_and_are_on_the_page(topic):
    rows = bad.ROWS[topic]
    assert len({row.call for row in rows}) == len({row.what for row in rows}) == len(rows)
    assert f"bad_compile_{topic}\n" in PAGE


def test_codes_are_those_of_the_header():
    header = (Path(nm.get_include()) / "nnmath_core.h").read_text()
    cases = re.findall(r"case (NNM_\w+): return", header)
    assert set(cases) == set(bad.CODES)
    order = [header.index(f"{code}") for code in bad.CODES]
    assert order == sorted(order)
