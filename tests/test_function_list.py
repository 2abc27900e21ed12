"""docs/function-list.md is true: every public function has its row, and what the row says is what happens."""

import inspect
import itertools
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import test_domains as domains

import nnmath_core as nm
from nnmath_core._ext._tree import flatten
from nnmath_core.errors import NnmathError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

import function_list  # noqa: E402
import recipes  # noqa: E402
import tables  # noqa: E402

ALL = {name: f for space in function_list.NAMESPACES for name, f in function_list.functions(space)}
LISTED = [name for space in function_list.NAMESPACES for name in function_list.listed(space)]
STAGED = [n for n in LISTED if n not in function_list.VALUES and not n.startswith("stats.")]
DISTRIBUTIONS = [
    (name, method)
    for name in LISTED
    if name.startswith("stats.")
    for method in function_list.methods(ALL[name])
]


# ------------------------------------------------------------------------------------------- complete
@pytest.mark.parametrize("space", function_list.NAMESPACES)
def test_every_public_function_has_a_row_or_a_reason(space):
    """A new function fails here: write a call of it in docs/recipes.py, or a reason in docs/function_list.py."""
    text = tables.TABLES[f"functions_{space.replace('.', '_')}"]()
    heads = [
        set(re.findall(r"`(\w+)`", line.split(" | ")[0].partition(": ")[0]))
        for line in text.splitlines()[2:]
    ]
    shown = [name for head in heads for name in head]
    assert len(shown) == len(set(shown))
    public = {name.rpartition(".")[2] for name, _ in function_list.functions(space)}
    without = {
        n.rpartition(".")[2] for n in function_list.unlisted() if n.rpartition(".")[0] == space
    }
    assert set(shown) | without == public
    assert not set(shown) & without


def test_every_namespace_of_functions_is_listed():
    named = {n for n in dir(nm) if inspect.ismodule(getattr(nm, n)) and n in nm.__all__}
    of_no_functions = {"curvature", "device", "errors", "optim", "solvers", "typing", "verify"}
    assert named - of_no_functions <= {n.partition(".")[0] for n in function_list.NAMESPACES}


def test_what_is_written_by_hand_names_functions_and_is_needed():
    hand = [*function_list.unlisted(), *function_list.VALUES, *function_list.DOMAINS]
    assert [n for n in hand if n not in ALL] == []
    called = [n if n in ALL else n.rpartition(".")[0] for n in recipes.CALLS]
    assert [n for n in called if n not in ALL or n in function_list.unlisted()] == []
    for name in function_list.DOMAINS:
        assert function_list.facts_of(name).conditions, f"{name}: its operations say as much"


@pytest.mark.parametrize("name", function_list.VALUES)
def test_a_row_by_hand_stands_for_a_function_that_needs_values(name):
    run, xs, _ = function_list.traceable(ALL[name], recipes.CALLS[name])
    with pytest.raises(NnmathError):
        nm.stage(run, *xs)


def test_the_points_of_composed_functions_are_in_the_rows():
    last = {name.rpartition(".")[2] for name in ALL if name not in function_list.unlisted()}
    elsewhere = ("integer index", "at(x)[i].set", "maximum.accumulate")  # no public functions
    for what, *_ in tables.COMPOSED:
        assert last & set(function_list.concerned(what)) or what.startswith(elsewhere), what


# ------------------------------------------------------------------------------- in what it differentiates
UNSEEN = ("numpy.linalg.eig", "linalg.eig", "linalg.null_space", "linalg.orth")
"""Functions whose result is not unique: any cotangent but those of what is unique is an error."""


def check_parameters(f, text, into):
    """In the parameters that are named, and in no other, reverse mode finds a derivative."""
    run, xs, names = function_list.traceable(f, text)
    for k, name in enumerate(names):
        if xs[k].dtype.kind not in "fc":
            continue

        def in_one(*parts, k=k):
            x = parts[0] if len(parts) == 1 else parts[0] + 1j * parts[1]
            leaves = flatten(run(*xs[:k], x, *xs[k + 1 :]))[0]
            return tuple(y for y in leaves if np.dtype(getattr(y, "dtype", object)).kind in "fc")

        parts = (xs[k].real, xs[k].imag) if xs[k].dtype.kind == "c" else (xs[k],)
        try:
            with np.errstate(all="ignore"):
                ys, pull = nm.vjp(in_one, *parts)
                found = pull(
                    tuple(
                        np.cos(1 + np.arange(y.size)).reshape(y.shape).astype(y.dtype) for y in ys
                    )
                )
        except NnmathError:
            found = ()
        live = any(np.any(np.asarray(ct) != 0) for ct in flatten(found)[0])
        if live:
            assert name in into, f"there is a derivative in {name}"
        elif names.count(name) == 1:
            assert name not in into, f"there is no derivative in {name}"


@pytest.mark.parametrize("name", [n for n in (*STAGED, *function_list.VALUES) if n not in UNSEEN])
def test_it_differentiates_in_what_the_row_names(name):
    facts = function_list.facts_of(name)
    check_parameters(ALL[name], facts.call, facts.into)


@pytest.mark.parametrize(("name", "method"), DISTRIBUTIONS)
def test_a_distribution_differentiates_in_what_its_row_names(name, method):
    f = getattr(ALL[name], method)
    text = recipes.text_for_distribution(name, method, f)
    run, xs, names = function_list.traceable(f, text)
    into = function_list.facts_of(name).into
    for k, parameter in enumerate(names):
        if function_list.moves(run, xs, k):
            assert parameter in into


LOST = {
    "nn.conv_operator_norm": lambda x: nm.nn.conv_operator_norm(x[:, :, None, None], (4, 4)),
    "numpy.copyto": lambda x: np.copyto(np.eye(3), x),
    "numpy.fill_diagonal": lambda x: np.fill_diagonal(np.eye(3), x[0]),
    "numpy.packbits": lambda x: np.packbits(x),
    "numpy.place": lambda x: np.place(np.eye(3), np.eye(3) > 0, x),
    "numpy.put": lambda x: np.put(np.eye(3), [0], x),
    "numpy.put_along_axis": lambda x: np.put_along_axis(np.eye(3), np.zeros((3, 3), int), x, 0),
    "numpy.putmask": lambda x: np.putmask(np.eye(3), np.eye(3) > 0, x),
    "numpy.unpackbits": lambda x: np.unpackbits(x),
}


def test_a_function_that_would_lose_the_derivative_is_an_error():
    reasons = function_list.unlisted().items()
    assert set(LOST) == {n for n, reason in reasons if "an error on traced arrays" in reason}
    for call in LOST.values():

        def lost(x, call=call):
            call(x)
            return np.sum(x)

        with pytest.raises(NnmathError):
            nm.grad(lost)(np.ones((3, 3)))


# --------------------------------------------------------------------------------------------- its domain
ORDERS = {"n": (0, 1, 2, 3)}
CONDITIONS = {
    name: text
    for name, text in function_list.DOMAINS.items()
    if name.startswith("special.")
    and name not in ("special.logsumexp", "special.multigammaln", "special.lambertw")
}
"""Domains written by hand that are conditions on numbers."""


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_special_function_of_several_operations_differentiates_where_its_row_says(name):
    said, _, remark = CONDITIONS[name].partition(";")
    f, into = ALL[name], function_list.facts_of(name).into
    names = [p.name for p in inspect.signature(f).parameters.values() if p.default is p.empty]
    orders = name.startswith("special.eval_") or name == "special.kn"
    grid = domains.GRID if len(names) < 3 else domains.GRID[::2]
    values = [
        ORDERS["n"] if n == "n" and orders else tuple(grid * (1 + i / 64))
        for i, n in enumerate(names)
    ]
    points = list(itertools.product(*values))
    for order in ORDERS["n"] if orders else (None,):
        rows = [p for p in points if order is None or p[0] == order]
        columns = [np.array(c) for c in zip(*rows, strict=True)]
        if order is not None:
            columns[0] = order
        moving = [i for i, n in enumerate(names) if n in into]

        def in_moving(*xs, columns=columns, moving=moving):
            at = dict(zip(moving, xs, strict=True))
            return f(*(at.get(i, c) for i, c in enumerate(columns)))

        with np.errstate(all="ignore"):
            y, pull = nm.vjp(in_moving, *(columns[i] for i in moving))
            got = np.all(np.isfinite([y, *pull(np.ones_like(y))]), axis=0)
        want = np.array(
            [
                bool(eval(domains.condition(said), domains.KNOWN, dict(zip(names, p, strict=True))))
                for p in rows
            ]
        )
        wrong = np.flatnonzero((want & ~got) if remark else (want != got))
        assert not wrong.size, (
            f"{said!r}, but finite: {got[wrong[0]]} at {names} = {rows[wrong[0]]}"
        )


# ------------------------------------------------------------------------------------------------- CUDA
def test_the_functions_of_cupy_in_the_rows_exist():
    surface = json.loads((ROOT / "tests/reference/cupy_surface.json").read_text())["modules"]
    named = set()
    for space in function_list.NAMESPACES:
        for cells in function_list.rows(space, tables.COMPOSED):
            named |= set(re.findall(r"`(cupyx?\.[\w.]+)`", cells[-1]))
    assert len(named) > 100
    for path in named:
        module, _, last = path.rpartition(".")
        assert last in surface[module], path
