"""Sample calls of the public functions, for the tests and for the list of functions.

`WAYS` are the ways in which NumPy's functions are called, with arguments made of one square matrix. `CALLS` has a call
for each public function that none of `TRIED` fits: all of its floating arrays are operands that could be traced.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

import nnmath_core as nm

__all__ = [
    "CALLS",
    "TRIED",
    "WAYS",
    "Call",
    "call_of",
    "constant",
    "matrix",
    "text_for_distribution",
    "texts_for",
    "traceable",
]


def matrix() -> Any:
    """A matrix with a dominant diagonal, all entries positive and distinct."""
    return np.random.default_rng(11).uniform(0.2, 0.8, (3, 3)) + 2 * np.eye(3)


def constant() -> Any:
    """An array beside the traced one; afresh, since some functions write into it."""
    return 1.1 * matrix() + 0.05


# Arguments as functions of the array; a function is called in every way that NumPy takes.
WAYS = {
    "(x)": lambda x: (x,),
    "(v)": lambda x: (x[0],),
    "(s)": lambda x: (x[0, 1],),
    "(x, x)": lambda x: (x, x[::-1]),
    "(c, x)": lambda x: (constant(), x),
    "(x, c)": lambda x: (x, constant()[::-1]),
    "(v, v)": lambda x: (x[0], x[1]),
    "(x, 1)": lambda x: (x, 1),
    "(x, 2)": lambda x: (x, 2),
    "(x, 0, 1)": lambda x: (x, 0, 1),
    "(x, float)": lambda x: (x, 0.5),
    "(float, x)": lambda x: (0.5, x),
    "(x, tuple)": lambda x: (x, (1, 0)),
    "(x, shape)": lambda x: (x, (3, 3)),
    "(x, list)": lambda x: (x, [0, 2]),
    "([x, x])": lambda x: ([x, 2 * x],),
    "([x, c], 1)": lambda x: ([x, constant()], 1),
    "([[x, x]])": lambda x: ([[x, x]],),
    "(mask, x)": lambda x: (x > 0.5, x),
    "(mask, x, 0)": lambda x: (x > 0.5, x, 0.0),
    "(x, mask, x)": lambda x: (x[0], [True, False, True], x[1, :2]),
    "(x, i, x)": lambda x: (x, 1, x[0]),
    "(x, i, x, 0)": lambda x: (x, 1, x[0], 0),
    "(x, indices, 0)": lambda x: (x, np.array([[1, 0, 2]]), 0),
    "(v, v, v)": lambda x: (x[0], np.sort(constant()[1]), x[2]),
    "(x, x, x)": lambda x: (x, 0.4 * x, 3.0 * x),
    "(indices, [v, v])": lambda x: (np.array([0, 1, 1]), [x[0], x[1]]),
    "(mask list, list)": lambda x: ([x > 0.5, x > 0.2], [x, 2 * x]),
    "(function, 0, x)": lambda x: (lambda r: r * r, 0, x),
    "(function, x, axes)": lambda x: (np.sum, x, [0]),
    "('ij,jk', x, x)": lambda x: ("ij,jk", x, x),
    "(x, [v, v, v])": lambda x: (x, list(constant())),
    "(x, 4)": lambda x: (x, 4),
    "(x, dtype)": lambda x: (x, np.dtype(np.float32)),
    "(v, v, degree)": lambda x: (x[0], x[1], 1),
    "(three axes, 3)": lambda x: (x[:, None] * np.ones((3, 3, 3)), 3),
    "(four axes, matrix)": lambda x: (np.kron(x, x).reshape(3, 3, 3, 3), x),
    "(x, indices, x, 0)": lambda x: (x, np.array([[0, 2, 1]]), x[:1], 0),
}


# ---------------------------------------------------------------------------------- one call of each
class Call:
    """Arguments by position and by name."""

    def __init__(self, *args: Any, **named: Any) -> None:
        self.args, self.named = args, named


def _values() -> dict[str, Any]:
    """What the texts of calls are made of."""
    rng = np.random.default_rng(7)
    v, w, u, q, p = (rng.uniform(0.2, 0.9, 3) for _ in range(5))
    a = rng.uniform(0.1, 0.9, (3, 3))
    x, y = rng.uniform(0.2, 0.9, (2, 16))
    return {
        "Call": Call,
        "np": np,
        "nm": nm,
        "s": np.array(0.4),
        "r": np.array(0.7),
        "v": v,
        "w": w,
        "u": u,
        "q": q,
        "p": p,
        "x": x,
        "y": y,
        "A": matrix(),
        "B": constant(),
        "P": a @ a.T + np.eye(3),
        "Q": 2 * np.eye(3) + a.T @ a,
        "i": np.array([2, 0, 1]),
        "b": np.array([True, False, True]),
        "key": nm.random.key(3),
        "square": lambda r: r * r,
    }


TRIED = {
    0: ("A",),
    1: ("A", "v", "x"),
    2: ("v, w", "A, B", "A, v", "x, y"),
    3: ("v, w, u", "A, B, P"),
    4: ("v, w, u, q", "A, B, P, Q"),
    5: ("v, w, u, q, p",),
}
"""By the number of arguments that must be given: what is tried, in order."""

"""Function -> its arguments."""


CALLS: dict[str, str] = {
    "numpy.angle": "v + 1j * w",
    "numpy.apply_along_axis": "np.cumsum, 0, A",
    "numpy.apply_over_axes": "np.sum, A, (0,)",
    "numpy.argpartition": "v, 1",
    "numpy.array_split": "A, 2",
    "numpy.astype": "A, np.float32",
    "numpy.argwhere": "v",
    "numpy.asarray_chkfinite": "v",
    "numpy.flatnonzero": "v",
    "numpy.nonzero": "v",
    "numpy.unique": "v",
    "numpy.unique_all": "v",
    "numpy.unique_counts": "v",
    "numpy.unique_inverse": "v",
    "numpy.unique_values": "v",
    "numpy.average": "A, 0, v",
    "numpy.bincount": "i, v",
    "numpy.bitwise_and": "i, i",
    "numpy.bitwise_count": "i",
    "numpy.bitwise_invert": "i",
    "numpy.bitwise_left_shift": "i, i",
    "numpy.bitwise_or": "i, i",
    "numpy.bitwise_right_shift": "i, i",
    "numpy.bitwise_xor": "i, i",
    "numpy.block": "[[A, B]]",
    "numpy.broadcast_arrays": "v, A",
    "numpy.broadcast_to": "v, (2, 3)",
    "numpy.choose": "i, [v, w, u]",
    "numpy.clip": "x, 0.4 + 0 * y, 0.6 + 0 * y",
    "numpy.column_stack": "[v, A]",
    "numpy.compress": "b, v",
    "numpy.concat": "[v, w]",
    "numpy.cov": "A, B",
    "numpy.corrcoef": "A, B",
    "numpy.delete": "v, 1",
    "numpy.diag": "A",
    "numpy.diagflat": "v",
    "numpy.diff": "v, prepend=s, append=r",
    "numpy.digitize": "v, np.sort(w)",
    "numpy.dsplit": "np.ones((2, 2, 4)) * r, 2",
    "numpy.dstack": "[A, B]",
    "numpy.ediff1d": "v, s, r",
    "numpy.einsum": "'ij,jk->ik', A, B",
    "numpy.expand_dims": "v, 0",
    "numpy.extract": "b, v",
    "numpy.fromiter": "[s, r], float",
    "numpy.full": "(2, 3), s",
    "numpy.full_like": "v, s",
    "numpy.gcd": "i, i",
    "numpy.geomspace": "s, r, 4",
    "numpy.gradient": "v, w",
    "numpy.histogram": "v, np.array([0.0, 0.5, 1.0]), weights=w",
    "numpy.histogram2d": "v, w, 2, weights=u",
    "numpy.histogram_bin_edges": "v, 3",
    "numpy.histogramdd": "A, 2, weights=v",
    "numpy.hsplit": "A, 3",
    "numpy.heaviside": "v - v[0], w",
    "numpy.hstack": "[v, w]",
    "numpy.imag": "v + 1j * w",
    "numpy.insert": "v, 1, s",
    "numpy.interp": "x, np.array([0.4, 0.5, 0.6]), u, s, r",
    "numpy.intersect1d": "v, v[::-1]",
    "numpy.lcm": "i, i",
    "numpy.ldexp": "v, i",
    "numpy.lexsort": "[v, w]",
    "numpy.linspace": "s, r, 4",
    "numpy.logspace": "s, r, 4",
    "numpy.matmul": "A, B",
    "numpy.meshgrid": "v, w",
    "numpy.moveaxis": "A, 0, 1",
    "numpy.nan_to_num": "v, nan=0.0",
    "numpy.nanpercentile": "v, r",
    "numpy.nanquantile": "v, r",
    "numpy.outer": "v, w",
    "numpy.pad": "v, 1",
    "numpy.partition": "v, 1",
    "numpy.percentile": "v, r",
    "numpy.piecewise": "v, [v > 0.5], [square, np.sin]",
    "numpy.polyfit": "x, y, 2, w=x + y",
    "numpy.prod": "A",
    "numpy.quantile": "v, r",
    "numpy.ravel_multi_index": "(i, i), (3, 3)",
    "numpy.repeat": "v, 2",
    "numpy.real": "v + 1j * w",
    "numpy.reshape": "A, (9,)",
    "numpy.resize": "v, (2, 3)",
    "numpy.roll": "v, 1",
    "numpy.rollaxis": "A, 1",
    "numpy.roots": "v",
    "numpy.searchsorted": "np.sort(v), w",
    "numpy.select": "[b, b], [v, w], s",
    "numpy.setdiff1d": "v, w",
    "numpy.setxor1d": "v, w",
    "numpy.split": "v, 3",
    "numpy.stack": "[v, w]",
    "numpy.sum": "A",
    "numpy.swapaxes": "A, 0, 1",
    "numpy.take": "v, i",
    "numpy.take_along_axis": "v, i, 0",
    "numpy.tile": "v, 2",
    "numpy.trapezoid": "v, w",
    "numpy.transpose": "A",
    "numpy.trim_zeros": "v",
    "numpy.union1d": "v, w",
    "numpy.unravel_index": "i, (3, 3)",
    "numpy.vander": "v, 3",
    "numpy.vsplit": "A, 3",
    "numpy.vstack": "[v, w]",
    "numpy.where": "b, v, w",
    "numpy.linalg.lstsq": "A, B",
    "numpy.linalg.matrix_power": "A, 3",
    "numpy.linalg.multi_dot": "[A, B, P]",
    "numpy.linalg.tensorinv": "np.kron(A, B).reshape(3, 3, 3, 3)",
    "numpy.linalg.tensorsolve": "np.kron(A, B).reshape(3, 3, 3, 3), P",
    "linalg.block_diag": "A, B",
    "linalg.cho_solve": "(np.linalg.cholesky(P), True), v",
    "linalg.convolution_matrix": "v, 4",
    "linalg.eigh": "P, Q",
    "linalg.eigh_tridiagonal": "v, w[:2]",
    "linalg.eigvalsh_tridiagonal": "v, w[:2]",
    "linalg.fractional_matrix_power": "P, 0.4",
    "linalg.hankel": "v, w",
    "linalg.leslie": "v, w[:2]",
    "linalg.lstsq": "A, B",
    "linalg.lu_solve": "(A, i), v",
    "linalg.null_space": "A[:2]",
    "linalg.orth": "A",
    "linalg.solve_banded": "(1, 1), A, v",
    "linalg.solveh_banded": "np.stack([v, w + 2]), u",
    "linalg.solve_discrete_lyapunov": "0.1 * A, P",
    "linalg.solve_toeplitz": "(v, w), u",
    "linalg.toeplitz": "v, w",
    "signal.coherence": "x, y, nperseg=8",
    "signal.csd": "x, y, nperseg=8",
    "signal.stft": "x, nperseg=8",
    "signal.welch": "x, nperseg=8",
    "special.eval_chebyc": "2, v",
    "special.eval_chebys": "2, v",
    "special.eval_chebyt": "2, v",
    "special.eval_chebyu": "2, v",
    "special.eval_gegenbauer": "2, 1.5, v",
    "special.eval_genlaguerre": "2, 0.5, v",
    "special.eval_hermite": "2, v",
    "special.eval_hermitenorm": "2, v",
    "special.eval_jacobi": "2, 0.5, 1.5, v",
    "special.eval_laguerre": "2, v",
    "special.eval_legendre": "2, v",
    "special.eval_sh_chebyt": "2, v",
    "special.eval_sh_chebyu": "2, v",
    "special.eval_sh_legendre": "2, v",
    "special.expn": "2, v",
    "special.log1mexp": "-v",
    "special.logsubexp": "v + 2, w",
    "special.logsumexp": "v, b=w",
    "special.multigammaln": "v + 2, 2",
    "special.polygamma": "2, v",
    "special.spherical_in": "2, v",
    "special.spherical_jn": "2, v",
    "special.spherical_kn": "2, v",
    "special.spherical_yn": "2, v",
    "special.yn": "2, v",
    "special.zeta": "2, v",
    "nn.batch_norm": "A, v, w, mean=u, var=q",
    "nn.adaptive_avg_pool": "A[None], 2",
    "nn.attention": "A[None], A[None] + 1, A[None] - 1",
    "nn.attention_weights": "A[None], A[None] + 1",
    "nn.avg_pool": "A[None], 2",
    "nn.conv": "A[None], A[None, :, :2], w[:2]",
    "nn.conv_transpose": "A[None], A[None, :, :2], w[:2]",
    "nn.global_avg_pool": "A[None]",
    "nn.max_pool": "A[None], 2",
    "nn.binary_cross_entropy": "v, w",
    "nn.crps_gaussian": "(v, w), u",
    "nn.ctc": "A, np.array([1, 2])",
    "nn.dropout": "A, 0.5, key",
    "nn.gaussian_nll": "(v, w), u",
    "nn.glu": "x",
    "nn.group_norm": "A, v, w, groups=1",
    "nn.hinge": "A, i",
    "nn.huber": "v, w",
    "nn.instance_norm": "A[None], v, w",
    "nn.laplace_nll": "v, w",
    "nn.layer_norm": "A, v, w",
    "nn.mean_squared_error": "v, w",
    "nn.poisson_nll": "v, w",
    "nn.quantile": "v, w",
    "nn.rms_norm": "A, v",
    "nn.rotary": "A[:, :2]",
    "nn.softmax_cross_entropy": "A, i",
    "nn.student_t_nll": "v, w",
    "nn.unroll": "lambda row, state: (state, np.tanh(row + state)), A, v",
    "nn.weight_norm": "A, v",
    "nn.whiten": "A, mean=v, covariance=P",
    "random.bernoulli": "key, v",
    "random.beta": "key, v, w",
    "random.categorical": "key, v",
    "random.cauchy": "key, loc=v, scale=w",
    "random.chisquare": "key, v",
    "random.choice": "key, v, (2,), p=w / w.sum()",
    "random.dirichlet": "key, v",
    "random.exponential": "key, scale=v",
    "random.gamma": "key, v, scale=w",
    "random.geometric": "key, v",
    "random.gumbel": "key, loc=v, scale=w",
    "random.laplace": "key, loc=v, scale=w",
    "random.logistic": "key, loc=v, scale=w",
    "random.lognormal": "key, v",
    "random.multivariate_normal": "key, v, P",
    "random.normal": "key, loc=v, scale=w",
    "random.orthogonal": "key, 3",
    "random.pareto": "key, v",
    "random.permutation": "key, v",
    "random.randint": "key, (3,), 0, 5",
    "random.rayleigh": "key, v",
    "random.t": "key, v",
    "random.truncated_normal": "key, -v, w",
    "random.uniform": "key, minval=-v, maxval=w",
    "random.weibull_min": "key, v, w",
    "stats.dirichlet.logpdf": "v / v.sum(), w",
    "stats.dirichlet.pdf": "v / v.sum(), w",
    **{
        f"stats.truncnorm.{f}": "v, -w - 2, u + 3, -w, u + 1"
        for f in ("cdf", "logcdf", "logpdf", "logsf", "pdf", "sf")
    },
    "stats.multinomial.logpmf": "i, 3, v / v.sum()",
    "stats.multinomial.pmf": "i, 3, v / v.sum()",
    "stats.multivariate_normal.logpdf": "v, w, P",
    "stats.multivariate_normal.pdf": "v, w, P",
    "stats.multivariate_normal.entropy": "v, P",
}
"""Function -> its arguments. A function is called once, in a way that shows all operands that can differentiate."""


OF_DISTRIBUTIONS = {
    "x": "v",
    "q": "v",
    "k": "i",
    "n": "i + 4.0",
    "loc": "-w",
    "scale": "np.array([0.4, 2.0, 2.5])",
}
"""Arguments of distributions: parameter -> text; shape parameters are numbers between 0 and 1."""


def call_of(text: str) -> Call:
    """Return the arguments that a text stands for, made afresh."""
    return eval(f"Call({text})", _values())


def traceable(leaves: list[Any]) -> list[int]:
    """Return which of some leaves are floating arrays, or keys."""
    return [k for k, x in enumerate(leaves) if isinstance(x, np.ndarray) and x.dtype.kind in "fcu"]


def texts_for(name: str, f: Callable[..., Any]) -> tuple[str, ...]:
    """Return the calls to try for a function."""
    if name in CALLS:
        return (CALLS[name],)
    parameters = inspect.signature(f).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return TRIED.get(len(needed), ())


def text_for_distribution(name: str, method: str, f: Callable[..., Any]) -> str:
    """Return the call of a function of a distribution: all parameters are given."""
    if f"{name}.{method}" in CALLS:
        return CALLS[f"{name}.{method}"]
    values = iter("uqp")
    parameters = inspect.signature(f).parameters
    known = OF_DISTRIBUTIONS | ({"loc": "0"} if "k" in parameters else {})  # of whole numbers
    return ", ".join(known.get(n) or next(values) for n in parameters)
