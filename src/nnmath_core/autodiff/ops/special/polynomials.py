"""Orthogonal polynomials and hypergeometric functions: differentiable in the argument.

The derivative of a classical orthogonal polynomial is one of the next family, without a quotient that is singular at
the ends of the interval.
"""

from __future__ import annotations

import numpy as np

from nnmath_core.autodiff.ops.compare import greater
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.special.declare import (
    dispatches,
    fixed,
    floating,
    like,
    primitive,
    require_integral,
    weak,
)
from nnmath_core.autodiff.primitive import sample

__all__ = [
    "eval_chebyc",
    "eval_chebys",
    "eval_chebyt",
    "eval_chebyu",
    "eval_gegenbauer",
    "eval_genlaguerre",
    "eval_hermite",
    "eval_hermitenorm",
    "eval_jacobi",
    "eval_laguerre",
    "eval_legendre",
    "eval_sh_chebyt",
    "eval_sh_chebyu",
    "eval_sh_legendre",
    "hyp0f1",
    "hyp1f1",
    "hyp2f1",
    "hyperu",
]


def _family(name, slope, parameters=(), domain="n is an integer"):
    """Polynomials of an integer degree n, with parameters that are held fixed; ``slope(n - 1, *parameters, x)``."""
    count = len(parameters)

    def rule(g, xs, y):
        n, x = xs[0], xs[-1]
        require_integral(name, n, "n")
        if isinstance(n, (int, float)):
            return g * (slope(n, *xs[1:]) if n > 0 else 0.0 * x)
        return g * where(greater(n, 0), slope(where(greater(n, 0), n, 1), *xs[1:]), 0.0)

    def forward(be, *xs):
        if isinstance(xs[0], float) and xs[0] == int(xs[0]):
            xs = (int(xs[0]), *xs[1:])
        return like(be, getattr(be.special, name)(*xs), xs[-1])

    words = ("its degree", *(f"its parameter {p}" for p in parameters))
    return primitive(
        name,
        (*(fixed(name, word) for word in words), rule),
        forward=forward,
        keeps=(*("" for _ in words), "*" if count else "01"),
        samples=lambda d: [
            sample(3, *(0.75, 1.5)[:count], d.within(-0.9, 0.9, 3, 4)),
            sample(np.array([[0], [2]]), *(0.75, 1.5)[:count], d.within(-0.9, 0.9, 4)),
        ],
        where=domain,
    )


eval_jacobi = _family(
    "eval_jacobi",
    lambda n, a, b, x: (
        (0.5 * (weak(n, x) + (a + b + 1.0))) * eval_jacobi(n - 1, a + 1.0, b + 1.0, x)
    ),
    ("alpha", "beta"),
)
eval_gegenbauer = _family(
    "eval_gegenbauer",
    lambda n, a, x: (2.0 * a) * eval_gegenbauer(n - 1, a + 1.0, x),
    ("alpha",),
)
eval_genlaguerre = _family(
    "eval_genlaguerre",
    lambda n, a, x: -eval_genlaguerre(n - 1, a + 1.0, x),
    ("alpha",),
    "n is an integer, alpha > -1",
)
eval_laguerre = _family("eval_laguerre", lambda n, x: -eval_genlaguerre(n - 1, 1.0, x))
eval_legendre = _family("eval_legendre", lambda n, x: eval_gegenbauer(n - 1, 1.5, x))
eval_chebyt = _family("eval_chebyt", lambda n, x: weak(n, x) * eval_chebyu(n - 1, x))
eval_chebyu = _family("eval_chebyu", lambda n, x: 2.0 * eval_gegenbauer(n - 1, 2.0, x))
eval_hermite = _family("eval_hermite", lambda n, x: (2.0 * weak(n, x)) * eval_hermite(n - 1, x))
eval_hermitenorm = _family("eval_hermitenorm", lambda n, x: weak(n, x) * eval_hermitenorm(n - 1, x))


@dispatches("eval_chebyc")
def eval_chebyc(n, x):
    """SciPy's ``eval_chebyc``: 2 T_n(x / 2)."""
    return 2.0 * eval_chebyt(n, 0.5 * floating(x))


@dispatches("eval_chebys")
def eval_chebys(n, x):
    """SciPy's ``eval_chebys``: U_n(x / 2)."""
    return eval_chebyu(n, 0.5 * floating(x))


@dispatches("eval_sh_legendre")
def eval_sh_legendre(n, x):
    """SciPy's ``eval_sh_legendre``: P_n(2 x - 1)."""
    return eval_legendre(n, 2.0 * floating(x) - 1.0)


@dispatches("eval_sh_chebyt")
def eval_sh_chebyt(n, x):
    """SciPy's ``eval_sh_chebyt``: T_n(2 x - 1)."""
    return eval_chebyt(n, 2.0 * floating(x) - 1.0)


@dispatches("eval_sh_chebyu")
def eval_sh_chebyu(n, x):
    """SciPy's ``eval_sh_chebyu``: U_n(2 x - 1)."""
    return eval_chebyu(n, 2.0 * floating(x) - 1.0)


# ---------------------------------------------------------------------------------------------- hypergeometric
def _hyper(name, parameters, slope, values, low, high, where="everywhere"):
    return primitive(
        name,
        (*(fixed(name, f"its parameter {p}") for p in parameters), lambda g, xs, y: g * slope(*xs)),
        keeps=(*("" for _ in parameters), "*" if len(parameters) > 1 else "01"),
        samples=lambda d: [
            sample(*values, d.within(low, high, 3, 4)),
            sample(*values, d.within(low, high)),
        ],
        where=where,
    )


hyp0f1 = _hyper(
    "hyp0f1",
    "v",
    lambda v, z: hyp0f1(v + 1.0, z) / v,
    (1.25,),
    -2.0,
    2.0,
    "v is not 0, -1, -2, ...",
)
hyp1f1 = _hyper(
    "hyp1f1",
    "ab",
    lambda a, b, x: (a / b) * hyp1f1(a + 1.0, b + 1.0, x),
    (0.75, 1.5),
    -2.0,
    2.0,
    "b is not 0, -1, -2, ...",
)
hyp2f1 = _hyper(
    "hyp2f1",
    "abc",
    lambda a, b, c, z: (a * b / c) * hyp2f1(a + 1.0, b + 1.0, c + 1.0, z),
    (0.75, 1.5, 2.25),
    -0.7,
    0.7,
    "z < 1, c is not 0, -1, -2, ...",
)
hyperu = _hyper(
    "hyperu", "ab", lambda a, b, x: -a * hyperu(a + 1.0, b + 1.0, x), (0.75, 1.5), 0.3, 3.0, "x > 0"
)
