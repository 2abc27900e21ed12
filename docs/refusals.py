"""What cannot be traced, and what to write instead: the list behind a page and its test.

A row is code with ``x``, a traced array of three numbers, and ``a``, an ordinary one. Several statements are joined
by "; ", the last of them is the result. `tests/test_docs.py` runs both sides: the first must raise the error and name
the remedy, the second must give the derivative of what it computes.
"""

from __future__ import annotations

import copy
import linecache
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.special
import scipy.stats

import nnmath_core as nm

__all__ = ["GROUPS", "Refusal", "function_of", "names"]


@dataclass(frozen=True)
class Refusal:
    """Code that is refused, code that does what was meant, the error, and words of its message."""

    bad: str
    good: str
    says: str
    error: type[Exception] = nm.TraceError
    through: tuple[str, ...] = ("grad",)


_WITHOUT_VALUES = ("vmap", "stage")

GROUPS: dict[str, list[Refusal]] = {
    "conversions": [
        Refusal("np.asarray(x).sum()", "x.sum()", "Leave out the conversion"),
        Refusal(
            "np.array([x[0] ** 2, x[1]]).sum()", "np.stack([x[0] ** 2, x[1]]).sum()", "np.stack"
        ),
        Refusal("np.r_[x, 1.0].sum()", "np.concatenate([x, [1.0]]).sum()", "np.concatenate([...])"),
        Refusal(
            "np.sum([v**2 for v in x])", "np.sum(np.stack([v**2 for v in x]))", "np.sum(np.stack"
        ),
        Refusal(
            "np.linalg.norm([x[0], x[1]])",
            "np.linalg.norm(np.stack([x[0], x[1]]))",
            "np.linalg.norm(np.stack([...]))",
        ),
        Refusal(
            "np.stack([[x[0], 1.0], [2.0, x[1]]]).sum()",
            "np.stack([np.stack([x[0], 1.0]), np.stack([2.0, x[1]])]).sum()",
            "np.stack([np.stack([...]), ...])",
        ),
        Refusal("np.full(3, x[0]).sum()", "(x[0] * np.ones(3)).sum()", "x * np.ones(shape)"),
        Refusal(
            "np.fromiter(iter(x), float).sum()",
            "nm.numpy.fromiter(iter(x), float).sum()",
            "cannot become a Python float",
        ),
        Refusal(
            "np.arange(x[0], x[0] + 3).sum()",
            "(x[0] + np.arange(3)).sum()",
            "start + step * np.arange(n)",
        ),
        Refusal("float(x[0]) ** 2", "x[0] ** 2", "cannot become a Python float"),
        Refusal("np.float64(x[0]) ** 2", "x[0] ** 2", "cannot become a plain array"),
        Refusal("x[0].item() ** 2", "x[0] ** 2", "cannot become a Python float"),
        Refusal("x.tolist()[0] ** 2", "x[0] ** 2", "cannot become a Python float"),
        Refusal("math.exp(x[0])", "np.exp(x[0])", "np.exp(x)"),
        Refusal("len('%.3f' % x[0]) * x[0]", "len(f'{x[0]:.3f}') * x[0]", "f'{x:.3f}'"),
        Refusal(
            "(complex(x[0], 1.0) ** 2).imag",
            "((x[0] + 1j) ** 2).imag",
            "cannot become a Python complex",
        ),
        Refusal("x[0] * a[int(x[0])]", "x[0] * a[x[0].astype(int)]", "x.astype(int)"),
        Refusal("a.dot(x)", "a @ x", "a @ x"),
        Refusal(
            "(scipy.sparse.eye(3) @ x).sum()",
            "nm.numpy.matmul(scipy.sparse.eye(3), x).sum()",
            "nnmath_core.numpy.matmul(a, x)",
        ),
        Refusal(
            "(np.ma.masked_less(a, 0.0) * x).sum()",
            "(np.ma.masked_less(a, 0.0).filled(0.0) * x).sum()",
            "a.filled(value)",
        ),
        Refusal(
            "np.random.default_rng(0).normal(x[0], 2.0)",
            "x[0] + 2.0 * np.random.default_rng(0).standard_normal()",
            "rng.standard_normal",
        ),
        Refusal("np.vectorize(math.exp)(x).sum()", "np.exp(x).sum()", "NumPy functions"),
    ],
    "writing": [
        Refusal(
            "y = np.zeros(3); y[0] = x[0]; y.sum()",
            "y = np.zeros(3); y = nm.at(y)[0].set(x[0]); y.sum()",
            "nm.at(y)[i].set",
        ),
        Refusal(
            "y = np.zeros(3); y[1:] = x[1:]; y.sum()",
            "y = np.zeros(3); y = nm.at(y)[1:].set(x[1:]); y.sum()",
            "nm.at(y)[i].set",
        ),
        Refusal(
            "y = np.zeros(3); y += x; y.sum()", "y = np.zeros(3); y = y + x; y.sum()", "a = a + x"
        ),
        Refusal("y = np.zeros(3); np.exp(x, out=y); y.sum()", "y = np.exp(x); y.sum()", "out=a"),
        Refusal(
            "y = np.zeros(3); np.add.at(y, [0, 0], x[0]); y.sum()",
            "y = np.zeros(3); y = nm.at(y)[[0, 0]].add(x[0]); y.sum()",
            "nm.at(a)[i].add",
        ),
        Refusal("y = np.zeros(3); np.copyto(y, x); y.sum()", "y = x; y.sum()", "nm.at(y)[i].set"),
        Refusal(
            "np.full_like(a, x[0]).sum()", "(x[0] * np.ones_like(a)).sum()", "x * np.ones(shape)"
        ),
        Refusal(
            "x[0] = 1.0; (x**2).sum()", "x = nm.at(x)[0].set(1.0); (x**2).sum()", "nm.at(x)[i].set"
        ),
        Refusal("x += 1.0; (x**2).sum()", "x = x + 1.0; (x**2).sum()", "x = x + y"),
        Refusal(
            "y = 2.0 * x; head = y[:2]; head += 1.0; (y**2).sum()",
            "y = 2.0 * x; y = nm.at(y)[:2].add(1.0); (y**2).sum()",
            "a view of another traced array",
        ),
        Refusal(
            "y = 2.0 * x; head = y[:2]; y += 1.0; (head**2).sum()",
            "y = 2.0 * x; y = y + 1.0; head = y[:2]; (head**2).sum()",
            "a traced array that has views",
        ),
        Refusal("x.sort(); x[0]", "x = np.sort(x); x[0]", "np.sort(x)"),
        Refusal("x.partition(1); x[0]", "x = np.sort(x); x[0]", "np.sort(x)"),
        Refusal(
            "y = 2.0 * x; y.fill(1.0); (x * y).sum()",
            "y = 2.0 * x; y = np.full_like(y, 1.0); (x * y).sum()",
            "np.full_like(x, value)",
        ),
        Refusal(
            "y = 2.0 * x; y.put([0], 1.0); (x * y).sum()",
            "y = 2.0 * x; y = nm.at(y.ravel())[[0]].set(1.0).reshape(y.shape); (x * y).sum()",
            "nm.at(x.ravel())[i].set(v)",
        ),
        Refusal("x.flat[0] ** 2", "x.ravel()[0] ** 2", "x.ravel()"),
        Refusal("x.view().sum()", "x[...].sum()", "x[...]"),
        Refusal(
            "x.strides[0] * x[0]", "nm.value_of(x).strides[0] * x[0]", "nm.value_of(x).strides"
        ),
        Refusal(
            "np.sqrt(x, where=x > 1.0).sum()",
            "np.where(x > 1.0, np.sqrt(x), 0.0).sum()",
            "np.where",
        ),
        Refusal(
            "b = a.copy(); s = (b * x).sum(); b *= 2.0; s",
            "b = a.copy(); s = (b * x).sum(); b = 2.0 * b; s",
            "read-only",
            ValueError,
        ),
    ],
    "functions": [
        Refusal("scipy.linalg.norm(x)", "nm.linalg.norm(x)", "nnmath_core.linalg"),
        Refusal("scipy.special.logsumexp(x)", "nm.special.logsumexp(x)", "nnmath_core.special"),
        Refusal(
            "scipy.special.struve(0, x).sum()",
            "f = nm.custom_rule(lambda v: scipy.special.struve(0, v), jvp=lambda p, t: "
            "(2 / np.pi - scipy.special.struve(1, p[0])) * t[0]); f(x).sum()",
            "nm.custom_rule",
        ),
        Refusal(
            "scipy.stats.norm.logpdf(x).sum()",
            "nm.stats.norm.logpdf(x).sum()",
            "nnmath_core.stats",
        ),
        Refusal(
            "nm.custom_rule(lambda v, s: v * s, jvp=lambda p, t: t[0] * p[1] + p[0] * t[1])(x, s=x).sum()",
            "nm.custom_rule(lambda v, s: v * s, jvp=lambda p, t: t[0] * p[1] + p[0] * t[1])(x, x).sum()",
            "Pass it by position",
        ),
    ],
    "values": [
        Refusal(
            "x[0] if x[0] > 1.0 else x[1]",
            "np.where(x[0] > 1.0, x[0], x[1])",
            "np.where",
            through=_WITHOUT_VALUES,
        ),
        Refusal(
            "x[x > 1.0].sum()",
            "np.where(x > 1.0, x, 0.0).sum()",
            "np.where",
            through=_WITHOUT_VALUES,
        ),
        Refusal(
            "x[np.nonzero(x > 1.0)].sum()",
            "np.where(x > 1.0, x, 0.0).sum()",
            "np.where",
            through=_WITHOUT_VALUES,
        ),
        Refusal(
            "np.unique(x).sum()",
            "np.where(np.diff(np.sort(x), prepend=-np.inf) > 0.0, np.sort(x), 0.0).sum()",
            "np.unique needs values",
            through=_WITHOUT_VALUES,
        ),
        Refusal(
            "np.where(x > nm.value_of(x), 1.0, x).sum()",
            "np.where(x > nm.stop_gradient(x), 1.0, x).sum()",
            "nm.stop_gradient(x)",
            through=("vmap",),
        ),
    ],
    "arguments": [
        Refusal("nm.grad(np.square)(3)", "nm.grad(np.square)(3.0)", "3.0", nm.DtypeError, ("",)),
        Refusal(
            "nm.grad(np.sum)(np.arange(3))",
            "nm.grad(np.sum)(np.arange(3).astype(float))",
            "astype(float)",
            nm.DtypeError,
            ("",),
        ),
        Refusal(
            "nm.grad(lambda v: np.sum(v * 2.0))([1.0, 2.0])",
            "nm.grad(lambda v: np.sum(v * 2.0))(np.array([1.0, 2.0]))",
            "np.array([...])",
            TypeError,
            ("",),
        ),
        Refusal(
            "nm.grad(lambda v: v.sum())([1.0, 2.0])",
            "nm.grad(lambda v: v.sum())(np.array([1.0, 2.0]))",
            "np.array([...])",
            AttributeError,
            ("",),
        ),
        Refusal(
            "nm.vjp(np.square, 3)", "nm.vjp(np.square, 3.0)", "close over it", nm.DtypeError, ("",)
        ),
        Refusal(
            "nm.hvp(np.prod, a, a)", "nm.hvp(np.prod, (a,), (a,))", "(x,)", nm.TreeError, ("",)
        ),
        Refusal(
            "nm.grad(np.sum)(a.astype(np.float16))",
            "nm.grad(np.sum)(a.astype(np.float32))",
            "astype(np.float32)",
            nm.DtypeError,
            ("",),
        ),
        Refusal(
            "nm.grad(lambda z: np.sum(z.real))(1j * a)",
            "nm.grad(lambda re, im: np.sum((re + 1j * im).real), (0, 1))(0 * a, a)",
            "x.real and x.imag",
            nm.DtypeError,
            ("",),
        ),
        Refusal(
            "nm.grad(np.sum)(np.ma.masked_less(a, 2.0))",
            "nm.grad(np.sum)(np.ma.masked_less(a, 2.0).filled(0.0))",
            "x.filled(value)",
            nm.DtypeError,
            ("",),
        ),
        Refusal(
            "nm.grad(np.sum)(np.array([1.0, None]))",
            "nm.grad(np.sum)(np.array([1.0, 0.0]))",
            "numeric",
            nm.DtypeError,
            ("",),
        ),
    ],
    "results": [
        Refusal("nm.grad(np.sin)(a)", "nm.jacrev(np.sin)(a)", "nm.jacrev", nm.ShapeError, ("",)),
        Refusal("nm.grad(np.argmax)(a)", "nm.grad(np.max)(a)", "argmax", nm.DtypeError, ("",)),
        Refusal(
            "nm.grad(lambda v: (np.sum(v), v))(a)",
            "nm.grad(lambda v: (np.sum(v), v), has_aux=True)(a)",
            "has_aux=True",
            TypeError,
            ("",),
        ),
        Refusal(
            "nm.grad(lambda v: print(v))(a)",
            "nm.grad(lambda v: np.sum(v))(a)",
            "return",
            TypeError,
            ("",),
        ),
        Refusal(
            "kept = []; nm.grad(lambda v: kept.append(2.0 * v) or np.sum(v))(a); kept[0] + 1.0",
            "_, kept = nm.grad(lambda v: (np.sum(v), 2.0 * v), has_aux=True)(a); kept + 1.0",
            "leaked",
            nm.TraceError,
            ("",),
        ),
        Refusal(
            "f = nm.custom_rule(np.square, jvp=lambda xs, ts: ts[0].sum()); nm.jvp(f, (a,), (a,))",
            "f = nm.custom_rule(np.square, jvp=lambda xs, ts: 2.0 * xs[0] * ts[0]); nm.jvp(f, (a,), (a,))",
            "must have shape",
            nm.ShapeError,
            ("",),
        ),
        Refusal("copy.copy(x).sum()", "(x * 1.0).sum()", "x * 1.0"),
        Refusal(
            "pickle.dumps(x) and x.sum()", "pickle.dumps(nm.value_of(x)) and x.sum()", "nm.value_of"
        ),
    ],
}
"""The rows, in the order and under the names of the sections of the page."""


def names() -> dict[str, Any]:
    """Return fresh names for the code of a row."""
    modules = {"np": np, "nm": nm, "math": math, "copy": copy, "pickle": pickle, "scipy": scipy}
    return {**modules, "a": np.ones(3)}


def function_of(code: str) -> Callable[..., Any]:
    """Return the code of a row as a function of ``x``; errors can quote its line."""
    *before, result = code.split("; ")
    source = f"def f(x=None): {''.join(step + '; ' for step in before)}return {result}\n"
    name = f"<{code}>"
    linecache.cache[name] = (len(source), None, [source], name)
    scope = names()
    exec(compile(source, name, "exec"), scope)
    made: Callable[..., Any] = scope["f"]
    return made
