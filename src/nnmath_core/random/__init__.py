"""Random numbers as functions of a key: the same in eager and staged functions, under vmap, and on every device.

A key is made by `key` from a seed and used once; `split` and `fold_in` make new ones. The numbers come from
Philox4x32-10, a function of key and position, so nothing is stored and nothing is advanced.
"""

from nnmath_core.random.continuous import (
    cauchy,
    exponential,
    gumbel,
    laplace,
    logistic,
    normal,
    truncated_normal,
    uniform,
)
from nnmath_core.random.discrete import bernoulli, categorical, geometric, rademacher, randint
from nnmath_core.random.gamma import beta, chisquare, dirichlet, gamma, t
from nnmath_core.random.keys import bits, fold_in, key, split
from nnmath_core.random.matrices import multivariate_normal, orthogonal
from nnmath_core.random.order import choice, permutation
from nnmath_core.random.positive import lognormal, pareto, rayleigh, weibull_min

__all__ = [
    "bernoulli",
    "beta",
    "bits",
    "categorical",
    "cauchy",
    "chisquare",
    "choice",
    "dirichlet",
    "exponential",
    "fold_in",
    "gamma",
    "geometric",
    "gumbel",
    "key",
    "laplace",
    "logistic",
    "lognormal",
    "multivariate_normal",
    "normal",
    "orthogonal",
    "pareto",
    "permutation",
    "rademacher",
    "randint",
    "rayleigh",
    "split",
    "t",
    "truncated_normal",
    "uniform",
    "weibull_min",
]
