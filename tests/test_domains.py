"""Where a derivative exists: what a primitive declares as its `domain` is what its rules give.

The text of an elementwise primitive begins with a condition on its operands, by SciPy's names or as x, x1, x2:
``x > 0``, ``|x| < 1``, ``a, b > 0``, ``x is not 0, -1, -2, ...``; behind a semicolon stand remarks. The condition is
evaluated on a grid without boundary points and compared, in both directions, with where value and derivatives are
finite.
"""

import itertools
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import registry_checks as checks
import scipy.special

import nnmath_core as nm
from nnmath_core.autodiff.primitive import REGISTRY

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

import function_list

GRID = np.array([-3.3, -2.7, -1.45, -0.85, -0.31, 0.23, 0.62, 0.93, 1.37, 2.6, 3.4])
"""On both sides of -1, 0 and 1; no integers, no poles, and so small that nothing overflows."""

ORDERS = (0, 1, 2, 3)
DIFFERENTIABLE = [p for p in REGISTRY.values() if p.differentiable]
ELEMENTWISE = [p for p in DIFFERENTIABLE if p.elementwise]

VALUES = {
    ("where", 0): (True, False),
    **{("share", i): (True, False) for i in (1, 2, 3)},
    ("ldexp", 1): ORDERS,
    ("lambertw", 1): (0,),
    ("sici", 0): (1,),  # the output with the smaller domain
    ("shichi", 0): (1,),
    ("fresnel", 0): (0, 1),
    ("gammainc_da", 0): (1, 2),
    ("betainc_dab", 0): (1,),
    ("betainc_dab", 1): (0, 1),
}
"""Operands that are no numbers of the grid: primitive and position -> values."""


OWN_NAMES = {"gammainc_da": "k a x", "betainc_dab": "k l a b x"}
"""Of primitives that are no function of SciPy; orders are k and l."""


# ---------------------------------------------------------------------------------------- the texts
def names_of(p):
    """Return what the texts call the operands of a primitive."""
    return OWN_NAMES[p.name].split() if p.name in OWN_NAMES else function_list.operand_names(p)


def condition(text):
    """Return the condition of a text as a Python expression; None where it says more than can be evaluated."""
    text = text.partition(";")[0]
    if text == "everywhere":
        return "True"
    text = text.replace("is not 0, -1, -2, ...", "is no pole of gamma")
    if text.endswith(" unless the order is an integer"):
        return f"{condition(text.removesuffix(' unless the order is an integer'))} or whole(v)"
    clauses, names = [], []
    for part in re.split(r", | and ", text):
        part = re.sub(r"\|(.+?)\|", r"abs(\1)", part)
        names.append(part)
        for pattern, form in (
            (r"(.+) (?:is|are) no poles? of gamma", "not pole({})"),
            (r"(.+) is an integer", "whole({})"),
            (r"(.+) is no integer", "not whole({})"),
            (r"(.+) is not (\S+(?: / \S+)?)", "{} != \\2"),
            (r"([^<>=!]+) ([<>]=?|!=) ([^<>]+)", "{} \\2 \\3"),
            (r"(.+ <=? .+ <=? .+)", "{}"),
        ):
            if found := re.fullmatch(pattern, part):
                names[-1] = found[1]
                clauses += [found.expand(form).format(name) for name in names]
                names = []
                break
    return " and ".join(f"({clause})" for clause in clauses) if not names else None


def whole(x):
    return float(x).is_integer()


KNOWN = {
    "__builtins__": {},
    "abs": abs,
    "whole": whole,
    "pole": lambda x: whole(x) and x <= 0,
    "e": np.e,
    "cos": np.cos,
    "floor": np.floor,
    "trunc": np.trunc,
    "sindg": scipy.special.sindg,
    "cosdg": scipy.special.cosdg,
}


@pytest.mark.parametrize(
    ("text", "at", "expected"),
    [
        ("everywhere; 0 at 0 by convention", {"x": 0}, True),
        ("|x| < 1", {"x": -0.5}, True),
        ("|x| < 1", {"x": -1.5}, False),
        ("a, b > 0", {"a": -1, "b": 1}, False),
        ("a, b > 0, 0 < x < 1", {"a": 1, "b": 1, "x": 0.5}, True),
        ("a, b > 0, 0 < x < 1", {"a": 1, "b": 1, "x": 1.5}, False),
        ("x is not 0, -1, -2, ...", {"x": -3.0}, False),
        ("x is not 0, -1, -2, ...", {"x": 3.0}, True),
        ("a, b and a + b are no poles of gamma", {"a": 0.5, "b": -1.5}, False),
        ("z > 0 unless the order is an integer", {"z": -1.0, "v": 2.0}, True),
        ("z > 0 unless the order is an integer", {"z": -1.0, "v": 2.5}, False),
        ("x1 / x2 is no integer; 1 in x1 there", {"x1": 4.0, "x2": 2.0}, False),
    ],
)
def test_a_text_is_read_as_it_is_meant(text, at, expected):
    assert eval(condition(text), KNOWN, at) is expected


# ------------------------------------------------------------------------------------------- the grid
def grid(p, names):
    """Return the points, operands in order."""
    sizes = 1 if len(names) < 3 else 2

    def values(i, name):
        if (p.name, i) in VALUES:
            return VALUES[p.name, i]
        if getattr(p.vjp[i], "fixed", False) and name in ("n", "k", "l"):
            return ORDERS
        orders = (2.0,) if name == "v" else ()  # integer orders of Bessel functions
        # operands differ, so that no two are equal and no sum is an integer
        return (*(GRID[i % sizes :: sizes] * (1.0 + i / 64)), *orders)

    return list(itertools.product(*map(values, range(len(names)), names)))


def derivatives(p, points):
    """Return the value at each point, and its derivatives in the operands that have one, by position."""
    value, found, rows = np.empty(len(points)), {}, {}
    for k, point in enumerate(
        points
    ):  # operands that are no floats are the same for all points of a call
        rows.setdefault(tuple(x for x in point if not isinstance(x, float)), []).append(k)
    for ks in rows.values():
        columns = zip(*(points[k] for k in ks), strict=True)
        operands = [np.array(c) if isinstance(c[0], float) else c[0] for c in columns]
        moving = [
            i
            for i, rule in enumerate(p.vjp)
            if rule and not getattr(rule, "fixed", False) and isinstance(operands[i], np.ndarray)
        ]

        def f(*xs, operands=operands, moving=moving):
            at = dict(zip(moving, xs, strict=True))
            return p(*(at.get(i, x) for i, x in enumerate(operands)))

        with np.errstate(all="ignore"):
            value[ks], pull = nm.vjp(f, *(operands[i] for i in moving))
            for i, d in zip(moving, pull(np.ones(len(ks))), strict=True):
                found.setdefault(i, np.full(len(points), np.nan))[ks] = d
    return value, found


@pytest.mark.parametrize("p", ELEMENTWISE, ids=lambda p: p.name)
def test_an_elementwise_derivative_exists_where_the_domain_says(p):
    names, said = names_of(p), condition(p.domain)
    assert said is not None, f"the text {p.domain!r} is in none of the forms that can be evaluated"
    points = grid(p, names)
    one = {"x": None} if len(names) == 1 else {}  # a single operand may also be called x

    def holds(point):
        return bool(
            eval(said, KNOWN, dict.fromkeys(one, point[0]) | dict(zip(names, point, strict=True)))
        )

    value, found = derivatives(p, points)
    got = np.all(np.isfinite([value, *found.values()]), axis=0)
    want = np.array([holds(point) for point in points])
    wrong = np.flatnonzero(want != got)
    assert not wrong.size, (
        f"{p.domain!r}, but finite: {got[wrong[0]]} at {names} = {points[wrong[0]]}"
    )


@pytest.mark.parametrize("p", ELEMENTWISE, ids=lambda p: p.name)
def test_an_elementwise_derivative_is_that_of_the_value_in_all_of_its_domain(p):
    points = grid(p, names_of(p))
    value, found = derivatives(p, points)
    h = 1e-4
    for i, d in found.items():
        moved = [
            derivatives(p, [(*x[:i], x[i] + s * h, *x[i + 1 :]) for x in points])[0]
            for s in (-2, -1, 1, 2)
        ]
        with np.errstate(invalid="ignore"):
            rough = (moved[2] - moved[1]) / (2 * h)
            slope = rough + (rough - (moved[3] - moved[0]) / (4 * h)) / 3
            # the error of the rough one, of order h^2, bounds that of the other; values good to 12 digits
            # (hypergeometric functions) add 1e-12 / h
            bound = np.abs(slope - rough) + 1e-8 * np.maximum(np.abs(value), 1.0)
            wrong = np.flatnonzero(np.isfinite(value + d + slope) & (np.abs(d - slope) > bound))
        assert not wrong.size, (
            f"{points[wrong[0]]} in operand {i}: {d[wrong[0]]}, differences {slope[wrong[0]]}"
        )


# --------------------------------------------------------------------------------------- the samples
@pytest.mark.parametrize(
    "case",
    checks.registry_cases(
        (np.float64,),
        lambda c: c.primitive.differentiable and bool(c.floats) and not c.primitive.elementwise,
    ),
)
def test_derivatives_at_the_samples_are_finite(case):
    ys, pull = nm.vjp(case.f, *case.point)
    for ct in pull(case.randoms(ys, case.rng)):
        assert np.all(np.isfinite(ct)), case.primitive.domain
