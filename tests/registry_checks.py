"""What every primitive must satisfy, as functions that raise AssertionError.

`test_registry*.py` run them over the registry; `test_registry_catches.py` runs them over primitives
that are wrong on purpose. Bounds are rounding errors, ``c * eps * sqrt(n) * scale``, or, for
differences, the difference between two step sizes.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core._ext._autodiff import Var, aval_of, dtype_of, shape_of
from nnmath_core.autodiff.primitive import REGISTRY, Primitive, Sample

MATRICES = set(
    "solve inv inverse_or_limit det slogdet cofactors cholesky eigh svd qr lu solve_triangular pinv expm "
    "expm_frechet sqrtm root_slope inverse_root symmetric_slope logm sylvester polar care dare".split()
)
"""Primitives whose operands are well-conditioned matrices, which a shuffle would spoil."""

SORTED = {"searchsorted"}
"""Primitives whose first operand is a sorted array, which a shuffle would spoil, too."""

ROUNDING = 16.0
"""Rounding errors of an operation: NumPy's functions are off by up to 4 units in the last place, a
rule is made of two or three of them, and two sides are compared."""


# ------------------------------------------------------------------------------------------- cases
def is_float(x):
    """Whether an operand can be differentiated: a floating array or NumPy scalar."""
    return hasattr(x, "dtype") and x.dtype.kind == "f"


def cast(x, dtype):
    """Return a floating operand in a dtype; other operands as they are."""
    return x.astype(dtype) if is_float(x) else x


@dataclass(frozen=True)
class Case:
    """A primitive, operands of one floating dtype, parameters."""

    primitive: Primitive
    operands: tuple[Any, ...]
    params: dict[str, Any]
    dtype: Any
    name: str

    @classmethod
    def of(cls, primitive, sample: Sample, dtype, name="case"):
        """Return a sample in a floating dtype."""
        operands = tuple(cast(x, dtype) for x in sample.operands)
        params = dict(sample.params)
        if "dtype" in params and np.dtype(params["dtype"]).kind == "f":
            params["dtype"] = np.dtype(dtype)
        return cls(primitive, operands, params, np.dtype(dtype), name)

    @property
    def floats(self):
        """Positions of the operands that can be differentiated."""
        return tuple(i for i, x in enumerate(self.operands) if is_float(x))

    @property
    def arrays(self):
        """Positions of the operands that can be traced or batched: all but Python numbers."""
        return tuple(i for i, x in enumerate(self.operands) if hasattr(x, "dtype"))

    @property
    def point(self):
        """The operands that can be differentiated."""
        return tuple(self.operands[i] for i in self.floats)

    @property
    def rng(self):
        """Random numbers of this case's own."""
        return np.random.default_rng(zlib.crc32(self.name.encode()))

    def at(self, positions):
        """Return the primitive as a function of the operands at some positions, all outputs."""

        def f(*xs):
            operands = list(self.operands)
            for i, x in zip(positions, xs, strict=True):
                operands[i] = x
            return self.primitive(*operands, **self.params)

        return f

    @property
    def whole(self):
        """Return the function of the floating operands: a tuple of differentiable outputs."""
        of_floats = self.at(self.floats)

        def f(*xs):
            y = of_floats(*xs)
            if not self.primitive.several:
                return (y,)
            on = self.primitive.differentiable_outputs or (True,) * len(y)
            return tuple(v for v, m in zip(y, on, strict=True) if m)

        return f

    @property
    def f(self):
        """Return `whole` with a complex output as two real ones, its real and imaginary part."""
        whole = self.whole
        return lambda *xs: tuple(part for y in whole(*xs) for part in parts(y))

    @functools.cached_property
    def value(self):
        """The differentiable outputs."""
        return self.f(*self.point)

    @property
    def matrices(self):
        """Whether the operands are matrices with a good condition number."""
        return self.name.partition("-")[0] in MATRICES

    @property
    def condition(self):
        """Amplification of rounding errors: the condition number of matrices, else 1."""
        if not self.matrices:
            return 1.0
        return float(np.max(np.linalg.cond(self.operands[0].astype(float))))

    def bound(self, *values, terms=None):
        """Rounding error of results of the size of these values, with as many terms in a sum."""
        n = max([1, *(np.size(x) for x in self.operands)]) if terms is None else terms
        eps = float(np.finfo(self.dtype).eps)
        return ROUNDING * eps * n**0.5 * self.condition**2 * scale_of(*values)

    def randoms(self, values, rng):
        """Random arrays of the shapes and dtypes of some values."""
        return tuple(
            np.asarray(rng.standard_normal(np.shape(v))).astype(dtype_of(v)) for v in values
        )


def smooth(case):
    """Whether a case has something to differentiate."""
    return case.primitive.differentiable and bool(case.floats)


def registry_cases(dtypes=(np.float32, np.float64), keep=lambda case: True):
    """Return the samples of all primitives as test parameters."""
    found = []
    for p in REGISTRY.values():
        for k, sample in enumerate(p.draw_samples()):
            for dtype in dtypes:
                name = f"{p.name}-{k}-{np.dtype(dtype).name}"
                case = Case.of(p, sample, dtype, name)
                if keep(case):
                    found.append(pytest.param(case, id=name))
    return found


def parts(y):
    """Return a real array alone, or the real and the imaginary part of a complex one."""
    return (np.real(y), np.imag(y)) if dtype_of(y).kind == "c" else (y,)


def as_tuple(y):
    """Return several outputs as a tuple, one as a tuple of one."""
    return tuple(y) if isinstance(y, tuple) else (y,)


def scale_of(*values):
    """Return the largest finite magnitude among numbers and arrays, at least 1."""
    top = 1.0
    for v in values:
        v = np.asarray(np.abs(v), np.float64)
        v = v[np.isfinite(v)]
        top = max(top, float(v.max())) if v.size else top
    return top


def assert_same_kind(got, want, what):
    """Assert that shape and dtype agree."""
    assert shape_of(got) == shape_of(want), f"{what}: shape {shape_of(got)} and {shape_of(want)}"
    assert dtype_of(got) == dtype_of(want), f"{what}: dtype {dtype_of(got)} and {dtype_of(want)}"


def assert_close(got, want, bound, what):
    """Assert agreement within an absolute bound, entry by entry; inf and NaN at the same places."""
    if dtype_of(want).kind == "c":
        for name in ("real", "imag"):
            assert_close(getattr(got, name), getattr(want, name), bound, f"{what}: {name}")
        return
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"{what}: shape {got.shape} and {want.shape}"
    finite = np.isfinite(want)
    assert np.array_equal(np.isfinite(got), finite), f"{what}: not finite at different places"
    assert np.array_equal(got[~finite], want[~finite], equal_nan=True), f"{what}: inf or NaN differ"
    error = np.abs(got[finite] - want[finite])
    worst = error - np.broadcast_to(bound, want.shape)[finite]
    if worst.size and worst.max() > 0:
        k = int(np.argmax(worst))
        raise AssertionError(
            f"{what}: off by {error[k]:.3e}, got {got[finite][k]!r}, want {want[finite][k]!r}"
        )


def assert_identical(got, want, what):
    """Assert the same shape, dtype and bits (any NaN is any NaN)."""
    assert_same_kind(got, want, what)
    assert np.array_equal(
        np.asarray(got), np.asarray(want), equal_nan=dtype_of(want).kind in "fc"
    ), f"{what}: {got!r} and {want!r}"


def inner(a, b):
    """Inner product of two tuples of arrays in float64, and the sum of its terms' magnitudes."""
    terms = [
        (np.asarray(x, np.float64) * np.asarray(y, np.float64)).ravel()
        for x, y in zip(a, b, strict=True)
    ]
    terms = np.concatenate(terms)
    return float(terms.sum()), float(np.abs(terms).sum())


def pullback(case):
    """Return ``(g, xs) -> cotangents`` of the case as a function."""

    def pull(g, *xs):
        return nm.vjp(case.f, *xs)[1](g)

    return pull


# ----------------------------------------------------------------------------------- value and shape
def check_samples(primitive):
    """There are samples, none is constant, and each of a differentiable primitive has a float."""
    samples = primitive.draw_samples()
    assert any(np.size(x) > 1 for s in samples for x in s.operands), f"{primitive}: no array"
    for s in samples:
        for x in s.operands:
            if np.size(x) > 1:
                assert len(np.unique(x)) > 1, f"{primitive}: constant operand {x!r}"
        if primitive.differentiable:
            assert any(dtype_of(x).kind in "fc" for x in s.operands), (
                f"{primitive}: nothing to differentiate"
            )


def check_shape(case):
    """Staging predicts shape and dtype of every output."""
    args = tuple(case.operands[i] for i in case.arrays)
    program = nm.stage(case.at(case.arrays), *args)
    results = case.primitive(*case.operands, **case.params)
    results = results if case.primitive.several else (results,)
    assert len(program.outputs) == len(results), "number of outputs"
    for said, made in zip(program.outputs, results, strict=True):
        assert isinstance(said, Var), "the output was not staged"
        assert_same_kind(said, made, "shape rule and result")


def check_forward(case, oracle):
    """The forward function agrees with a slow one that shares no code with it."""
    operands = [np.asarray(x, np.float64) if is_float(x) else x for x in case.operands]
    got = case.primitive(*case.operands, **case.params)
    want = oracle(*operands, **case.params)
    if settle := getattr(oracle, "settle", None):  # signs, phases and orders that are free
        got, want = settle(*as_tuple(got)), settle(*as_tuple(want))
        got, want = (v if case.primitive.several else v[0] for v in (got, want))
    for a, b in zip(*((v if case.primitive.several else (v,)) for v in (got, want)), strict=True):
        if dtype_of(a).kind not in "fc":
            assert np.array_equal(a, b), f"forward: {a!r} and {b!r}"
        elif case.primitive.elementwise:
            # an operand's own rounding error moves logaddexp near 0 by as much
            assert_close(a, b, case.bound(0.0, terms=1) * np.maximum(np.abs(b), 0.25), "forward")
        else:
            assert_close(a, b, case.bound(b, *(x for x in operands if is_float(x))), "forward")


# -------------------------------------------------------------------------------------- first order
def difference(f, xs, ts, h):
    """Central difference of a function with a tuple of results."""
    ahead = f(*(x + h * t for x, t in zip(xs, ts, strict=True)))
    behind = f(*(x - h * t for x, t in zip(xs, ts, strict=True)))
    return tuple((np.asarray(a) - b) / (2 * h) for a, b in zip(ahead, behind, strict=True))


def check_against_differences(case, f, xs, ts, got, what):
    """A directional derivative is within the error of a central difference.

    The error of the step h = eps**(1/3) is c h^2; that of 2 h is four times as large, so their
    difference is three times the error of h. Rounding adds ``eps |f| / h``. A bound that is not
    small says nothing, so it must be.
    """
    eps = float(np.finfo(np.float64).eps)
    h = eps ** (1 / 3)
    near, far = difference(f, xs, ts, h), difference(f, xs, ts, 2 * h)
    values = f(*xs)
    for y, t, a, b in zip(values, got, near, far, strict=True):
        bound = np.abs(a - b) + case.bound(y) / h
        assert np.all(bound <= 1e-5 * scale_of(y, a)), f"{what}: the difference is too rough"
        assert_close(t, a, bound, what)


def check_jvp_differences(case):
    """Forward mode agrees with central differences (float64)."""
    xs, ts = case.point, case.randoms(case.point, case.rng)
    _, got = nm.jvp(case.f, xs, ts)
    check_against_differences(case, case.f, xs, ts, got, "jvp")


def takes_complex_steps(case):
    """Whether the host function is analytic on complex operands: its complex step is the jvp."""
    xs, ts = case.point, case.randoms(case.point, case.rng)
    h = 1e-30  # no subtraction: as small as one likes
    with np.errstate(all="ignore"):
        try:
            ys = case.whole(*(x + 1j * h * t for x, t in zip(xs, ts, strict=True)))
        except (TypeError, np.exceptions.ComplexWarning):
            return False
    if any(np.asarray(y).dtype.kind != "c" for y in ys) or len(case.value) != len(ys):
        return False
    _, got = nm.jvp(case.f, xs, ts)
    try:
        for y, t in zip(ys, got, strict=True):
            assert_close(np.imag(y) / h, t, case.bound(t, y.real), "complex step")
    except AssertionError:
        return False
    return True


def check_adjoint(case):
    """<g, J t> = <J^T g, t> to rounding."""
    rng = case.rng
    xs = case.point
    ys, ts = case.value, case.randoms(xs, rng)
    gs = case.randoms(ys, rng)
    forward, a = inner(gs, nm.jvp(case.f, xs, ts)[1])
    back, b = inner(pullback(case)(gs, *xs), ts)
    assert np.isfinite(forward), "adjoint: not finite"
    assert np.isfinite(back), "adjoint: not finite"
    assert_close(forward, back, case.bound(a, b), "adjoint identity")


# ------------------------------------------------------------------------------------- second order
def check_second_order(case):
    """Three ways to the second derivative agree with each other, and with differences (float64)."""
    rng = case.rng
    xs = case.point
    gs, ts, us = (case.randoms(v, rng) for v in (case.value, xs, xs))
    pull = functools.partial(pullback(case), gs)
    cts, forward_reverse = nm.jvp(pull, xs, ts)
    reverse_reverse = nm.vjp(pull, *xs)[1](ts)
    reverse_forward = nm.vjp(lambda *zs: nm.jvp(case.f, zs, ts)[1], *xs)[1](gs)
    bound = case.bound(*forward_reverse, *cts) * 4  # a rule of a rule
    for x, a, b, c in zip(xs, forward_reverse, reverse_reverse, reverse_forward, strict=True):
        for h in (a, b, c):
            assert_same_kind(h, x, "second order")
            assert np.all(np.isfinite(h)), "second order: not finite"
        assert_close(b, a, bound, "reverse over reverse")
        assert_close(c, a, bound, "reverse over forward")
    there, p = inner(us, forward_reverse)
    back, q = inner(ts, nm.jvp(pull, xs, us)[1])
    assert_close(there, back, case.bound(p, q, *cts) * 4, "symmetry of the Hessian")
    if case.dtype == np.float64:
        check_against_differences(case, pull, xs, ts, forward_reverse, "second order")


# ------------------------------------------------------------------------------------- vmap
def batch_of(case, x, size):
    """Return examples like an operand along a new first axis, no two alike."""
    x = np.asarray(x)
    if is_float(x):
        fixed = case.matrices or case.primitive.name in SORTED
        moved = [x if fixed else rolled(x, k) for k in range(size)]
        return np.stack([v * v.dtype.type(1 + 0.02 * (k - 1)) for k, v in enumerate(moved)])
    if x.dtype == bool and x.size == 1:
        return np.stack([x ^ bool(k % 2) for k in range(size)])
    return np.stack([rolled(x, k) for k in range(size)])


def rolled(x, k):
    return np.roll(x.ravel(), k).reshape(x.shape)


def check_loop(case, f, args, axes, what):
    """vmap(f) is a loop over f, in value, shape and dtype."""
    size = 3
    got = nm.vmap(f, in_axes=axes)(*args)
    rows = [
        f(*(a[k] if on == 0 else a for a, on in zip(args, axes, strict=True))) for k in range(size)
    ]
    for j, y in enumerate(got):
        want = np.stack([r[j] for r in rows])
        assert_same_kind(y, want, what)
        if want.dtype.kind in "fc":
            assert_close(y, want, case.bound(want), what)
        else:
            assert np.array_equal(y, want), f"{what}: {y!r} and {want!r}"


def check_vmap(case):
    """A vmap is a loop: each operand batched alone, all of them, and nested."""
    arrays = tuple(
        i for i, x in enumerate(case.operands) if hasattr(x, "dtype") or isinstance(x, bool)
    )
    p = case.primitive

    def f(*xs):
        y = case.at(arrays)(*xs)
        return y if p.several else (y,)

    plain = [case.operands[i] for i in arrays]
    for on in {*((i,) for i in range(len(arrays))), tuple(range(len(arrays)))}:
        args = [batch_of(case, x, 3) if i in on else x for i, x in enumerate(plain)]
        axes = tuple(0 if i in on else None for i in range(len(plain)))
        check_loop(case, f, args, axes, f"vmap over {on} of {len(plain)} operands")
    # outside all operands, inside the first one once more
    args = [batch_of(case, x, 3) for x in plain]
    args[0] = np.stack([batch_of(case, x, 2) for x in args[0]])
    axes = (0, *[None] * (len(plain) - 1))

    def within(*xs):
        return nm.vmap(f, in_axes=axes)(*xs)

    check_loop(case, within, args, (0,) * len(plain), "nested vmap")


def check_vmap_of_derivatives(case):
    """A vmap of a pullback and of a jvp is a loop, and the pullback of a vmap is the same."""
    rng = case.rng
    gs = case.randoms(case.value, rng)
    ts = case.randoms(case.point, rng)
    n = len(case.floats)
    ints = tuple(i for i in case.arrays if i not in case.floats)

    def at(xs):
        operands = list(case.operands)
        for i, x in zip(ints, xs[n:], strict=True):
            operands[i] = x
        return Case(case.primitive, tuple(operands), case.params, case.dtype, case.name)

    def pull(*xs):
        return pullback(at(xs))(gs, *xs[:n])

    def push(*xs):
        return nm.jvp(at(xs).f, xs[:n], ts)[1]

    args = [batch_of(case, case.operands[i], 3) for i in (*case.floats, *ints)]
    axes = (0,) * len(args)
    check_loop(case, pull, args, axes, "vmap of a pullback")
    check_loop(case, push, args, axes, "vmap of a jvp")
    if not ints:
        inside = nm.vmap(pull)(*args)
        seeds = tuple(np.stack([g] * 3) for g in gs)
        outside = nm.vjp(nm.vmap(case.f), *args)[1](seeds)
        for a, b in zip(outside, inside, strict=True):
            assert_same_kind(a, b, "pullback of a vmap")
            assert_close(a, b, case.bound(b), "pullback of a vmap")


# ------------------------------------------------------------------------------- dtypes and keeps
def check_dtypes(case):
    """Tangents and cotangents have the dtype of their values, and rules make no other dtype."""
    rng = case.rng
    xs, p = case.point, case.primitive
    ts, gs = case.randoms(xs, rng), case.randoms(case.value, rng)
    ys, tangents = nm.jvp(case.f, xs, ts)
    for y, t in zip(ys, tangents, strict=True):
        assert_same_kind(t, y, "tangent")
    for x, ct in zip(xs, pullback(case)(gs, *xs), strict=True):
        assert_same_kind(ct, x, "cotangent")
    # the core casts what a rule returns, so ask the rules themselves
    for i, rule in vjp_rules(case):
        got = rule(cotangent_like(case, gs), case.operands, outputs_of(case))
        assert got is None or dtype_of(got) == case.dtype, f"vjp rule {i} returns {dtype_of(got)}"
    for i, t in zip(case.floats, ts, strict=True):
        rule = p.jvp[0 if p.variadic else i] if i < len(p.jvp) or (p.variadic and p.jvp) else None
        if rule is not None:
            place = {"i": i} if p.variadic else {}
            got = rule(t, case.operands, outputs_of(case), **place, **case.params)
            for r in got if p.several else (got,):
                assert r is None or dtype_of(r) == case.dtype, f"jvp rule {i}: {dtype_of(r)}"


def check_mixed_dtypes(case):
    """A float32 operand among float64 ones has float32 cotangents; tangents have the output's."""
    for i in case.floats:
        operands = tuple(
            cast(x, np.float32 if j == i else np.float64) for j, x in enumerate(case.operands)
        )
        mixed = Case(case.primitive, operands, case.params, np.dtype(np.float32), case.name)
        rng = mixed.rng
        ts, gs = mixed.randoms(mixed.point, rng), mixed.randoms(mixed.value, rng)
        ys, tangents = nm.jvp(mixed.f, mixed.point, ts)
        for y, t in zip(ys, tangents, strict=True):
            assert_same_kind(t, y, "tangent of mixed dtypes")
        for x, ct in zip(mixed.point, pullback(mixed)(gs, *mixed.point), strict=True):
            assert_same_kind(ct, x, "cotangent of mixed dtypes")
        # the same with that operand alone traced
        y, pull = nm.vjp(mixed.at((i,)), operands[i])
        if not case.primitive.several:
            (ct,) = pull(np.ones(shape_of(y), dtype_of(y)))
            assert_same_kind(ct, operands[i], "cotangent beside constants of another dtype")


def outputs_of(case):
    """The output as a rule gets it: a tuple when there are several."""
    y = case.primitive(*case.operands, **case.params)
    return tuple(y) if case.primitive.several else y


def cotangent_like(case, gs):
    """The cotangent as a vjp rule gets it: a tuple with None for outputs without derivative."""
    p = case.primitive
    ys = outputs_of(case) if p.several else (outputs_of(case),)
    on = p.differentiable_outputs or (True,) * len(ys)
    rest = iter(gs)

    def cotangent(y):  # the parts of z = x + iy are one: Re(c dz) = g dx + h dy
        return next(rest) - 1j * next(rest) if dtype_of(y).kind == "c" else next(rest)

    found = tuple(cotangent(y) if m else None for y, m in zip(ys, on, strict=True))
    return found if p.several else found[0]


def vjp_rules(case):
    """Yield (operand, rule) of the vjp rules that the operands of the case use."""
    p = case.primitive
    for i in case.floats:
        if p.variadic and p.vjp:
            yield i, functools.partial(p.vjp[0], i=i, **case.params)
        elif i < len(p.vjp) and p.vjp[i] is not None:
            yield i, functools.partial(p.vjp[i], **case.params)


def check_keeps(case):
    """Rules, `selects` and `through` give the same with everything that is not kept poisoned."""
    p = case.primitive
    ys = outputs_of(case)
    (g,) = (cotangent_like(case, case.randoms(case.value, case.rng)),)
    for i, rule in vjp_rules(case):
        readers = {"vjp": functools.partial(rule, g)}
        if p.selects is not None:
            readers["selects"] = functools.partial(p.selects, i, **case.params)
        if p.through is not None:
            masks = tuple(np.arange(np.size(y)).reshape(np.shape(y)) % 2 == 0 for y in as_tuple(ys))
            mask = masks if p.several else masks[0]
            readers["through"] = functools.partial(p.through, mask, i, **case.params)
        for name, read in readers.items():
            want = read(case.operands, ys)
            for how, xs, y in poisoned(case, i, ys):
                try:
                    got = read(xs, y)
                except Exception as e:
                    raise AssertionError(
                        f"{p}: {name} of operand {i} reads what it does not keep ({how}): {e}"
                    ) from e
                assert_identical(got, want, f"{p}: {name} of operand {i} with {how} for the rest")


def poisoned(case, i, ys):
    """Yield (how, operands, output) in which only what rule i keeps has its values.

    `nothing` is what the core passes: None for elementwise primitives of one or two operands, else
    shape and dtype. `NaN` keeps the arrays and spoils their values.
    """
    p = case.primitive
    keep = p.keeps[0] if p.variadic or len(p.keeps) == 1 else p.keeps[i]
    kept = set(range(len(case.operands))) if "*" in keep else {int(c) for c in keep if c != "y"}
    inline = p.elementwise and len(case.operands) <= 2

    def nothing(x):
        return None if inline else x if type(x) in (float, int) else aval_of(x)

    def nan(x):
        return np.full_like(x, np.nan) if is_float(x) else nothing(x)

    for how, spoil in (("nothing", nothing), ("NaN", nan)):
        xs = tuple(x if j in kept else spoil(x) for j, x in enumerate(case.operands))
        y = ys if "y" in keep else tuple(map(spoil, ys)) if p.several else spoil(ys)
        yield how, xs, y


# ----------------------------------------------------------------------------------------- staging
def check_staged(case):
    """A staged function gives the bits of the eager one: value, pullback, jvp."""
    rng = case.rng
    args = tuple(case.operands[i] for i in case.arrays)
    check_same_bits(case.at(case.arrays), args, "staged value")
    if not case.primitive.differentiable or not case.floats:
        return
    xs = case.point
    gs, ts = case.randoms(case.value, rng), case.randoms(xs, rng)
    check_same_bits(pullback(case), (gs, *xs), "staged pullback")
    check_same_bits(lambda xs, ts: nm.jvp(case.f, xs, ts)[1], (xs, ts), "staged jvp")


def check_same_bits(f, args, what):
    want = nm.tree_leaves(f(*args))
    got = nm.tree_leaves(nm.stage(f, *args)(*args))
    for a, b in zip(got, want, strict=True):
        assert_identical(a, b, what)


# ---------------------------------------------------------------------------------- special points
def special_operands(row, dtype):
    """Return operands of a special point: promised gradients mark those that are differentiated."""
    return tuple(
        x if g is None else np.asarray(x, dtype)[()]
        for x, g in zip(row.operands, row.gradient, strict=True)
    )


def check_special(primitive, row, dtype):
    """The gradient of the sum of the output is the promised one, in both modes."""
    operands = special_operands(row, dtype)
    on = tuple(i for i, g in enumerate(row.gradient) if g is not None)
    case = Case(primitive, operands, dict(row.params), np.dtype(dtype), row.what)
    shapes = [()] if not primitive.elementwise else [(), (3,)]  # (3,): the kernels for arrays
    for shape in shapes:
        xs = tuple(np.full(shape, operands[i], dtype) if shape else operands[i] for i in on)
        with np.errstate(all="ignore"):
            back = nm.grad(lambda *zs: np.sum(case.at(on)(*zs)), argnums=tuple(range(len(on))))(*xs)
            forward = tuple(forward_gradient(case.at(on), xs, k) for k in range(len(on)))
        for i, a, b, x in zip(on, back, forward, xs, strict=True):
            want = np.broadcast_to(np.asarray(row.gradient[i], np.float64), np.shape(x))
            assert_same_kind(a, x, row.what)
            assert_close(a, want, case.bound(want), f"{row.what}: reverse")
            assert_close(b, want, case.bound(want), f"{row.what}: forward")


def forward_gradient(f, xs, k):
    """Gradient of the sum of f in argument k, one jvp for each entry."""
    x = np.asarray(xs[k])
    out = np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        e = np.zeros_like(x)
        e[i] = 1
        ts = [np.zeros_like(np.asarray(z)) for z in xs]
        ts[k] = e
        # entries of an elementwise function do not see each other: sum what this one moves
        t = np.asarray(nm.jvp(f, xs, tuple(ts))[1])
        out[i] = t[i] if t.shape == x.shape else np.sum(t)
    return out


# ------------------------------------------------------------------------------------------ masks
def check_mask(f, singular, regular, where, *, second_order=True):
    """An entry that f does not pass on is a structural zero, whatever its own derivative is.

    ``singular`` and ``regular`` differ at ``where`` only, which f must not see. First and second
    derivatives are those at the regular point, in every order, and finite; 0 at ``where``. A
    forward derivative has the dtype of the value, a reverse one that of the operand.
    """
    with np.errstate(all="ignore"):
        want = nm.grad(f)(regular)
        bound = ROUNDING * np.finfo(regular.dtype).eps * scale_of(want)
        assert np.all(np.isfinite(want)), "the regular point is singular"
        assert np.any(want != 0), "nothing is passed on"
        assert want[where] == 0, "the entry is passed on"
        for name, found in {
            "reverse": nm.grad(f)(singular),
            "reverse under vmap": nm.vmap(nm.grad(f))(np.stack([regular, singular]))[1],
            "reverse staged": nm.stage(nm.grad(f), singular)(singular),
        }.items():
            assert_same_kind(found, want, name)
            assert_close(found, want, bound, name)
        assert_close(nm.jacfwd(f)(singular), want, bound, "forward")
        if not second_order:
            return
        hessian = nm.jacfwd(nm.grad(f))(regular)
        bound = 4 * ROUNDING * np.finfo(regular.dtype).eps * scale_of(hessian, want)
        for name, found in {
            "forward over reverse": nm.jacfwd(nm.grad(f))(singular),
            "reverse over reverse": nm.jacrev(nm.grad(f))(singular),
            "reverse over forward": nm.jacrev(nm.jacfwd(f))(singular),
        }.items():
            assert_close(found, hessian, bound, name)
