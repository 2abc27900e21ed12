"""Which primitives are lowered by their definition, and definitions where the forward function decides by values.

What an eager call refuses, by a `LinAlgError` or a `GradientError`, the run refuses, too.
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

from nnmath_core import numpy as xnp
from nnmath_core._ext._autodiff import Aval, Var, dtype_of, shape_of
from nnmath_core.autodiff.control import cond, scan
from nnmath_core.autodiff.ops.gauge import WORDS
from nnmath_core.autodiff.ops.matrix_functions import expm_p
from nnmath_core.autodiff.ops.shape import cast
from nnmath_core.autodiff.ops.spectral import svd_p
from nnmath_core.autodiff.primitive import REGISTRY, Primitive
from nnmath_core.errors import GradientError
from nnmath_core.program.builder import Builder
from nnmath_core.program.ir import Equation
from nnmath_core.program.lower import convolutions, rows  # noqa: F401 - their rules are the first ones
from nnmath_core.program.lower.definitions import Recording, apply, by_definition, loop_p
from nnmath_core.program.lower.entries import alias, to_dtype
from nnmath_core.program.lower.factorisations import MODULE, NO_EIGENVALUES
from nnmath_core.program.lower.gufuncs import refuses
from nnmath_core.program.lower.rules import lowers
from nnmath_core.program.lower.systems import not_batched, schur_p, sylvester_triangle_p

__all__: list[str] = []

LinAlgError = np.linalg.LinAlgError
_RECORDING = Recording()


# ------------------------------------------------------------------------------------------------ what ends a run
@lowers("guarded")
def _guarded(b: Builder, e: Equation) -> Any:
    x, flags = e.operands
    if not isinstance(x, Var):
        return NotImplemented
    if not isinstance(flags, Var):
        return NotImplemented if flags > 0 else alias(b, e, b.view(x))
    if flags.dtype.kind not in "iu":
        return NotImplemented
    p = e.params
    words = [f"{p['who']}: " + WORDS[k].format(value=p["value"]) for k in sorted(WORDS)]
    refuses(b, to_dtype(b, b.view(flags), np.int64), tuple((GradientError, w) for w in words))
    alias(b, e, b.view(x))
    return None


refused_p = Primitive(
    "refused",
    forward=lambda be, x, flags, *, reasons: x,
    differentiable=False,
    shape=lambda x, flags, *, reasons: Aval(x.shape, x.dtype),
    batch=not_batched,
    register=False,
)
"""x, where no flag is above 0: else the run ends with reason flag - 1."""


@lowers("refused")
def _refused(b: Builder, e: Equation) -> Any:
    x, flags = e.operands
    if not isinstance(x, Var) or not isinstance(flags, Var):
        return NotImplemented
    refuses(b, b.view(flags), e.params["reasons"])
    alias(b, e, b.view(x))
    return None


def _unless(x: Any, wrong: Any, kind: type, message: str) -> Any:
    """X, but where ``wrong`` is true the end."""
    return refused_p(x, cast(wrong, np.int64), reasons=((kind, message),))


# ------------------------------------------------------------------------------------------------ matrices
def _factor(name: str, types: str, x: Any, shapes: Any, refusal: Any = ()) -> Any:
    """The results of a loop of NumPy's linalg, in double precision."""
    x = cast(x, types[0])
    return loop_p(x, module=MODULE, names=(name,), types=types, shapes=shapes, refusal=refusal)


def _turned(a: Any) -> Any:
    return xnp.conj(xnp.swapaxes(a, -1, -2))


def _eig(a: Any) -> Any:
    """Of a complex matrix that is real the decomposition of the real one."""
    shapes = (shape_of(a)[:-1], shape_of(a))
    a = _unless(a, xnp.any(~xnp.isfinite(a)), LinAlgError, "Array must not contain infs or NaNs")
    w, v = cond(
        xnp.any(xnp.imag(a) != 0),
        lambda a: _factor("eig", "D->DD", a, shapes, NO_EIGENVALUES),
        lambda a: _factor("eig", "d->DD", xnp.real(a), shapes, NO_EIGENVALUES),
        a,
    )
    return cast(w, dtype_of(a)), cast(v, dtype_of(a))


def _inverse_or_limit(a: Any) -> Any:
    dtype = np.result_type(dtype_of(a), np.float32)
    a, n, wide = cast(a, dtype), shape_of(a)[-1], "D" if dtype.kind == "c" else "d"
    (y,) = _factor("inv", f"{wide}->{wide}", a, (shape_of(a),))
    y = cast(y, dtype)

    def limit(a: Any, y: Any) -> Any:
        sign, _ = REGISTRY["slogdet"](a)
        singular = (sign == 0)[..., None, None]
        adjugate = xnp.swapaxes(REGISTRY["cofactors"](a), -1, -2)
        size = xnp.sqrt(xnp.sum(xnp.abs(a) ** 2, (-2, -1), keepdims=True))
        small = 4 * n * float(np.finfo(dtype).eps) * size ** (n - 1)
        far = xnp.where(xnp.abs(adjugate) <= small, 0.0, adjugate) / 0.0
        return xnp.where(singular, far, y)

    return cond(xnp.any(xnp.isnan(y)), limit, lambda a, y: y, a, y) if n else y


# ---------------------------------------------------------------------------------------------- cofactors
def _without(s: Any, order: int) -> Any:
    """For each choice of ``order`` different entries of s the product of the others; 0 where two of them are one.

    Quotients of the product of all, unless it is out of range.
    """
    n, lead = shape_of(s)[-1], shape_of(s)[:-1]
    places = [np.reshape(np.arange(n), (n,) + (1,) * (order - 1 - m)) for m in range(order)]
    several = np.zeros((n,) * order, bool)
    for p, q in itertools.combinations(places, 2):
        several = several | (p == q)
    chosen = np.zeros((n,) * (order + 1), bool)
    for p in places:
        chosen |= np.arange(n).reshape(n, *(1,) * order) == p
    info = np.finfo(dtype_of(s))
    whole = xnp.prod(s, axis=-1)
    ends = [whole, xnp.min(s, axis=-1) ** order, xnp.max(s, axis=-1) ** order]
    good = True
    for end in ends:
        good = good & xnp.all((end > info.tiny / info.eps) & (end < info.max))

    def divided(s: Any, whole: Any) -> Any:
        out = xnp.reshape(whole, (*lead, *(1,) * order))
        for m in range(order):
            out = out / xnp.reshape(s, (*lead, *(1,) * m, n, *(1,) * (order - 1 - m)))
        return out

    def multiplied(s: Any, whole: Any) -> Any:
        def one(out: Any, x: Any) -> Any:
            entry, mine = x
            return out * xnp.where(mine, 1, xnp.reshape(entry, (*lead, *(1,) * order))), None

        start = xnp.ones((*lead, *(n,) * order), dtype_of(s))
        return scan(one, start, (xnp.moveaxis(s, -1, 0), chosen))[0]

    return xnp.where(several, 0.0, cond(good, divided, multiplied, s, whole))


def _cofactors_of_diagonal(s: Any, ts: Any) -> Any:
    """Derivative of the cofactors at the diagonal matrix of s along all of ts; see `autodiff.ops.linalg`."""
    n, order = shape_of(s)[-1], len(ts) + 1
    others = _without(s, order)
    letters = string.ascii_lowercase[:order]
    full: Any = 0.0
    inner: Any = 0.0
    for turn in itertools.permutations(range(order)):
        columns = [letters[k] for k in turn]
        taken = [f"...{r}{c}" for r, c in zip(letters[1:], columns[1:], strict=True)]
        to = letters[0] + (columns[0] if turn[0] else "")
        part = xnp.einsum(f"{','.join(['...' + letters, *taken])}->...{to}", others, *ts)
        turned_round = sum(p > q for p, q in itertools.combinations(turn, 2))
        part = -part if turned_round % 2 else part
        if turn[0]:
            full = full + part
        else:
            inner = inner + part
    return full + xnp.where(np.eye(n, dtype=bool), inner[..., None], 0.0)


def _cofactors(a: Any, *ts: Any) -> Any:
    """Through singular values: cof(u s vh) = cof(u) cof(s) cof(vh), and that of a unitary u is det(u) conj(u)."""
    dtype = np.result_type(*map(dtype_of, (a, *ts)), np.float32)
    if len(ts) >= shape_of(a)[-1]:
        return cast(a * 0, dtype)
    known = xnp.all(xnp.isfinite(a), axis=(-2, -1))[..., None, None]
    u, s, vh = svd_p(xnp.where(known, a, 0.0), full=True)
    uh, v = _turned(u), _turned(vh)
    inner = _cofactors_of_diagonal(s, [xnp.matmul(uh, xnp.matmul(t, v)) for t in ts])
    det = REGISTRY["det"]
    sign = (det(u) * det(vh))[..., None, None]
    y = sign * xnp.matmul(xnp.conj(u), xnp.matmul(inner, xnp.conj(vh)))
    return cast(xnp.where(known, y, math.nan), dtype)


def _sylvester(a: Any, b: Any, q: Any) -> Any:
    dtype = np.result_type(dtype_of(a), dtype_of(b), dtype_of(q), np.float32)
    a, b, q = (cast(x, dtype) for x in (a, b, q))
    r, u = schur_p(a)
    s, v = schur_p(_turned(b))
    f = xnp.matmul(xnp.matmul(_turned(u), q), v)
    return xnp.matmul(xnp.matmul(u, sylvester_triangle_p(r, s, f)), _turned(v))


def _root_slope(y: Any, t: Any) -> Any:
    """Solve y x + x y = t; along the null space of y that is a division by 0. See `autodiff.ops.matrix_functions`."""
    dtype = np.result_type(dtype_of(y), dtype_of(t), np.float32)
    y, t = cast(y, dtype), cast(t, dtype)
    n, eps, eye = shape_of(y)[-1], float(np.finfo(dtype).eps), np.eye(shape_of(y)[-1], dtype=bool)
    if not n:
        return t

    def largest(x: Any) -> Any:
        return xnp.max(xnp.abs(x), axis=(-2, -1), keepdims=True)

    finite = xnp.all(xnp.isfinite(y) & xnp.isfinite(t), axis=(-2, -1))[..., None, None]
    y, t = xnp.where(finite, y, 0.0), xnp.where(finite, t, 0.0)
    u, s, vh = svd_p(y, full=True)
    null = s <= 4 * n * eps * s[..., :1]

    def regular(y: Any, t: Any, *_: Any) -> Any:
        return _sylvester(y, y, t)

    def singular(y: Any, t: Any, u: Any, vh: Any, null: Any) -> Any:
        both = null[..., :, None] & null[..., None, :]
        right = xnp.where(null[..., None, :], _turned(vh), 0.0)
        left = xnp.where(null[..., :, None], _turned(u), 0.0)
        between = xnp.where(both, xnp.matmul(left, right), 0.0)
        size = xnp.linalg.svdvals(between)
        last = xnp.sum(null, axis=-1)[..., None] - 1
        least = xnp.sum(xnp.where(np.arange(n) == last, size, 0.0), axis=-1)[..., None, None]
        broken = xnp.any(null, axis=-1)[..., None, None] & ~(least > size[..., :1, None] * eps**0.5)
        between = xnp.where(both & ~broken, between, cast(eye, dtype))  # of a Jordan block: no root
        p = xnp.matmul(right, _solved(between, left))
        q, moved = eye - p, xnp.where(broken, eye, y + p)
        inside = xnp.matmul(p, xnp.matmul(t, p))
        x = _sylvester(moved, moved, xnp.matmul(q, xnp.matmul(t, q)))
        x = x + _solved(moved, xnp.matmul(q, xnp.matmul(t, p)))
        across = xnp.matmul(p, xnp.matmul(t, q))
        x = x + xnp.swapaxes(
            _solved(xnp.swapaxes(moved, -1, -2), xnp.swapaxes(across, -1, -2)), -1, -2
        )
        high, wide = xnp.max(xnp.abs(p), axis=-1), xnp.max(xnp.abs(p), axis=-2)
        touched = high[..., :, None] * wide[..., None, :] > 4 * n * eps * largest(p) ** 2
        inside = xnp.where(xnp.abs(inside) > 4 * n * eps * largest(t), inside, 0.0)
        return xnp.where(broken, math.nan, xnp.where(touched, inside / 0.0, x))

    x = cond(xnp.any(null), singular, regular, y, t, u, vh, null)
    return xnp.where(finite, x, math.nan)


def _solved(a: Any, b: Any) -> Any:
    return REGISTRY["solve"](a, b)


def _expm_frechet(a: Any, e: Any) -> Any:
    """The corner of the exponential of [[a, e], [0, a]]."""
    dtype = np.result_type(dtype_of(a), dtype_of(e), np.float64)
    n = shape_of(a)[-1]
    a, e = cast(a, dtype), cast(e, dtype)
    top = xnp.concatenate([a, e], -1)
    block = expm_p(xnp.concatenate([top, xnp.concatenate([a * 0, a], -1)], -2))
    return block[..., :n, :n], block[..., :n, n:]


def _norm(x: Any, *, axis: Any, keepdims: bool) -> Any:
    """By squares in double precision, which hold those of single; else by entries that the largest has divided.

    A long row is not read twice, unless the sum of its squares has overflowed, or vanished beside others.
    """
    dtype = dtype_of(x)
    half = np.zeros(0, dtype).real.dtype
    whole = math.prod(shape_of(x)[a] for a in axis)

    def squares(x: Any) -> Any:
        parts = (xnp.real(x), xnp.imag(x)) if dtype.kind == "c" else (x,)
        wide = [xnp.square(cast(v, np.float64)) for v in parts]
        return xnp.sum(sum(wide[1:], wide[0]), axis=axis, keepdims=keepdims)

    def scaled(x: Any) -> Any:
        return REGISTRY["norm"].on(_RECORDING)(x, axis=axis, keepdims=keepdims)

    if dtype.kind not in "fc" or not math.prod(shape_of(x)):
        return scaled(x)
    if half == np.float32:
        return cast(xnp.sqrt(squares(x)), half)
    if whole < LONG:
        return scaled(x)
    info = np.finfo(half)
    total = squares(x)
    good = xnp.all((total > info.tiny / info.eps) & (total < math.inf))
    return cond(good, lambda x, total: xnp.sqrt(total), lambda x, total: scaled(x), x, total)


LONG = 1 << 14
"""Entries of a row from which it is worth to read it once."""

by_definition("eig", _eig)
by_definition("inverse_or_limit", _inverse_or_limit)
by_definition("cofactors", _cofactors)
by_definition("sylvester", _sylvester)
by_definition("root_slope", _root_slope)
by_definition("expm_frechet", _expm_frechet)
by_definition("norm", _norm)
AS_DECLARED = (
    "pinv polar inverse_root symmetric_slope alike rotation rotations gauge "
    "logsumexp softmax softmax_or_zero standardize rms"
)
"""Whose forward functions can be recorded as they are; the last five where the rules of the machine decline."""

for _name in AS_DECLARED.split():
    by_definition(_name)


def _by_parts(name: str) -> Callable[..., Any]:
    """A product of complex arrays as products of their real and imaginary parts, for which there are kernels."""

    def f(x: Any, y: Any, **params: Any) -> Any:
        p = REGISTRY[name]
        a, b = (xnp.real(v) for v in (x, y))
        if dtype_of(x).kind != "c":
            return p(a, b, **params) + 1j * p(a, xnp.imag(y), **params)
        c = xnp.imag(x)
        if dtype_of(y).kind != "c":
            return p(a, b, **params) + 1j * p(c, b, **params)
        d = xnp.imag(y)
        real = p(a, b, **params) - p(c, d, **params)
        return real + 1j * (p(a, d, **params) + p(c, b, **params))

    return f


for _name in ("conv", "conv_input", "conv_kernel"):
    by_definition(_name, _by_parts(_name))


# ------------------------------------------------------------------------------------------------ functions of SciPy
HOST = {"yn", "stdtr", "stdtrit", "betainc", "betaincc", "betaincinv", "betainccinv"}
"""Whose forward functions call SciPy's function on the host alone."""

by_definition("ellipe", lambda x: apply("scipy.special", "ellipe", scipy.special.ellipe, x))
by_definition("spacing", lambda x: apply("numpy", "spacing", np.spacing, x))
by_definition("bitwise_count", lambda x: apply("numpy", "bitwise_count", np.bitwise_count, x))
_OWN = {"ellipe", "spacing", "bitwise_count"}
for _p in list(REGISTRY.values()):
    if _p.elementwise and callable(_p.forward) and _p.name not in _OWN:
        by_definition(_p.name, host=_p.name in HOST)
