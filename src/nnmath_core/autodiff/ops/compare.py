"""Comparisons and logic: results carry no derivative, so in eager code they are plain arrays and `if` works on them."""

from __future__ import annotations

import numpy as np

from nnmath_core.autodiff.ops.conventions import ufuncs
from nnmath_core.autodiff.primitive import Primitive, sample

__all__ = [
    "equal",
    "greater",
    "greater_equal",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "not_equal",
    "signbit",
]


def _compare(name: str) -> Primitive:
    return Primitive(
        name,
        elementwise=True,
        differentiable=False,
        samples=lambda d: [
            sample(d.normal(3, 4), d.normal(3, 4)),
            sample(d.normal(3, 1), d.normal(4)),
            sample(np.array([1.0, 0.0, -1.0]), 0.0),
        ],
    )


def _logic(name: str) -> Primitive:
    return Primitive(
        name,
        elementwise=True,
        differentiable=False,
        samples=lambda d: [sample(d.mask(3, 4), d.mask(3, 4)), sample(d.mask(3, 1), d.mask(4))],
    )


def _test(name: str) -> Primitive:
    values = np.array([0.0, -0.0, 1.5, -2.0, np.inf, -np.inf, np.nan])
    return Primitive(
        name, elementwise=True, differentiable=False, samples=lambda d: [sample(values)]
    )


equal = _compare("equal")
not_equal = _compare("not_equal")
less = _compare("less")
less_equal = _compare("less_equal")
greater = _compare("greater")
greater_equal = _compare("greater_equal")
logical_and = _logic("logical_and")
logical_or = _logic("logical_or")
logical_xor = _logic("logical_xor")
logical_not = Primitive(
    "logical_not",
    elementwise=True,
    differentiable=False,
    samples=lambda d: [sample(d.mask(3, 4)), sample(d.mask(1))],
)
isnan = _test("isnan")
isinf = _test("isinf")
isfinite = _test("isfinite")
signbit = _test("signbit")


ufuncs.update(
    {
        np.equal: equal, np.not_equal: not_equal, np.less: less, np.less_equal: less_equal, np.greater: greater,
        np.greater_equal: greater_equal, np.logical_and: logical_and, np.logical_or: logical_or,
        np.logical_xor: logical_xor, np.logical_not: logical_not, np.isnan: isnan, np.isinf: isinf,
        np.isfinite: isfinite, np.signbit: signbit,
    }
)  # fmt: skip
