"""Traced values in any function of NumPy, SciPy and Python: a right derivative, a constant, or an error.

Every call is made of a function that was found by walking a namespace and of arguments that work on plain numbers
(`fuzz_calls.py`); some of the floating ones are then traced. What comes back is held against plain calls: a traced
result against a central difference, a plain result against what it is beside the point, which must be the same. A
plain number that moves with a traced argument has lost a derivative in silence.

The seed is printed; NNMATH_FUZZ_SEED changes it, NNMATH_FUZZ_CALLS the number of calls.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import random
import traceback
import warnings
import zlib
from typing import Any

import fuzz_calls
import numpy as np
import pytest
import scipy
import scipy.sparse

import nnmath_core as nm

# Junk reaches compiled code of NumPy and SciPy; that of SciPy 1.15 was seen to write beyond its arrays.
pytestmark = pytest.mark.skipif(
    tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 17),
    reason="SciPy before 1.17 corrupts its memory when its functions get arguments at random",
)

SEED = int(os.environ.get("NNMATH_FUZZ_SEED", "20250711"))
CALLS = int(os.environ.get("NNMATH_FUZZ_CALLS", "10000"))
CHUNKS = 20
MODES = ("grad", "grad", "jvp", "vmap", "nested", "stage")
EPS = float(np.finfo(float).eps)
H = EPS ** (1 / 3)

OURS = (
    nm.NnmathError,
    ValueError,
    TypeError,
    IndexError,
    OverflowError,
    NotImplementedError,
    np.exceptions.AxisError,
)
"""What may be raised inside of the package: the errors of its own, and NumPy's."""

GAUGED: dict[str, tuple[str, ...]] = {
    "eigh": ("[0]", ".eigenvalues"),
    "eig": ("[0]", ".eigenvalues"),
    "svd": ("[1]", "", ".S"),
    "eigh_tridiagonal": ("[0]",),
    **dict.fromkeys(("null_space", "orth", "schur", "cho_factor"), ()),
}
"""Results that are defined up to signs or phases, or hold what was in memory: the parts that are compared."""

# --------------------------------------------------------------------------------------------- what comes back


def leaves(y: Any, path: str = "", depth: int = 0) -> list[tuple[str, Any]]:
    """The numbers of a result, plain and traced, by their place: in tuples, lists, dicts, records and objects."""
    if isinstance(y, nm.Tracer) or isinstance(
        y, (np.ndarray, np.generic, bool, int, float, complex)
    ):
        return [(path, y)]
    if isinstance(y, (str, bytes)) or y is None or depth > 3:
        return []
    if scipy.sparse.issparse(y):
        return [(path, y.toarray())]
    if isinstance(y, dict):
        return [leaf for k, v in y.items() for leaf in leaves(v, f"{path}.{k}", depth + 1)]
    if isinstance(y, (tuple, list, set, frozenset, range)):
        return [leaf for i, v in enumerate(y) for leaf in leaves(v, f"{path}[{i}]", depth + 1)]
    if callable(y) or isinstance(y, type) or type(y).__module__ in ("builtins", "_io"):
        return []
    if dataclasses.is_dataclass(y) or hasattr(y, "__dict__"):
        return leaves(vars(y), path, depth + 1)
    return []


def weight(path: str, shape: tuple[int, ...]) -> Any:
    """Fixed weights for the sum of the entries of a leaf."""
    return np.random.default_rng(zlib.crc32(f"{path}{shape}".encode())).uniform(0.5, 1.5, shape)


def is_floating(x: Any) -> bool:
    return hasattr(x, "dtype") and x.dtype.kind in "fc"


def total(parts: list[Any]) -> Any:
    """The weighted sum of real and imaginary parts of some leaves."""
    out = 0.0
    for path, x in parts:
        w = weight(path, tuple(x.shape))
        if x.dtype.kind == "c":
            out = out + np.sum(np.real(x) * w) + 0.7 * np.sum(np.imag(x) * w)
        else:
            out = out + np.sum(x * w)
    return out


def same(a: Any, b: Any) -> bool:
    """Whether two plain leaves are equal, to rounding, NaN included; text and objects are not numbers.

    A number that moves with slope 1 moves by 1e-5, of which the bound is 1e-5 again.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind not in "biufc" or b.dtype.kind not in "biufc":
        return True
    if a.shape != b.shape:
        return False
    if a.dtype.kind in "fc" and b.dtype.kind in "fc":
        if np.array_equal(a, np.round(a)) and np.array_equal(b, np.round(b)):
            return True  # counts, which jump and have no derivative
        finite = a[np.isfinite(a)]
        return np.allclose(
            a, b, rtol=0, atol=1e-10 * (1.0 + np.max(np.abs(finite), initial=0.0)), equal_nan=True
        )
    return bool(np.array_equal(a, b))


# --------------------------------------------------------------------------------------------- one call
class Finding(Exception):
    """What must not happen."""


class Call:
    """A template, which of its arguments are traced, and how."""

    def __init__(
        self,
        target: Any,
        template: Any,
        on: list[tuple[str, Any]],
        mode: str,
        rng: np.random.Generator,
    ) -> None:
        self.target, self.template, self.on, self.mode, self.rng = target, template, on, mode, rng
        self.masks = {place: self.mask(place) for place in on}

    def slot(self, place: tuple[str, Any]) -> Any:
        return self.template.args[place[1]] if place[0] == "arg" else self.template.kw[place[1]]

    def mask(self, place: tuple[str, Any]) -> Any:
        """Which entries of a list are traced."""
        slot = self.slot(place)
        if slot.kind != "list":
            return None
        on = [bool(self.rng.random() < 0.7) for _ in slot.value]
        return on if any(on) else [True] * len(on)

    def points(self) -> tuple[Any, ...]:
        """The traced arguments as arrays; of a scalar a float."""
        return tuple(
            np.float64(v) if self.slot(p).kind == "scalar" else np.array(v, float)
            for p in self.on
            for v in [self.slot(p).value]
        )

    def run(self, xs: Any) -> tuple[Any, list[Any]]:
        """The result with ``xs`` at the chosen places, and the plain arguments after the call."""
        args, kw = fuzz_calls.fresh(self.template.args), fuzz_calls.fresh(self.template.kw)
        for place, x in zip(self.on, xs, strict=True):
            value = x
            if self.slot(place).kind == "list":
                plain = self.slot(place).value
                value = [x[i] if m else plain[i] for i, m in enumerate(self.masks[place])]
            if place[0] == "arg":
                args[place[1]] = value
            else:
                kw[place[1]] = value
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002  (SciPy's functions draw from the global state)
        y = self.target.f(*args, **kw)
        taken = set(self.on)
        kept = [v for i, v in enumerate(args) if ("arg", i) not in taken] + [
            v for k, v in kw.items() if ("kw", k) not in taken
        ]
        return y, [v for v in kept if isinstance(v, np.ndarray)]

    def compares(self, path: str) -> bool:
        """Whether a part of the result is the same in all implementations."""
        return path in GAUGED.get(self.target.name.rpartition(".")[2], (path,))

    def __str__(self) -> str:
        def show(slot: Any, place: tuple[str, Any]) -> str:
            text = (
                repr(slot.value)
                if not callable(slot.value)
                else getattr(slot.value, "__name__", "f")
            )
            return f"<traced {text}>" if place in self.on else text

        args = [show(s, ("arg", i)) for i, s in enumerate(self.template.args)]
        args += [f"{k}={show(s, ('kw', k))}" for k, s in self.template.kw.items()]
        return f"{self.mode}: {self.target.name}({', '.join(args)})"


def judge(call: Call) -> str:
    """How the call ended, or a `Finding`."""
    xs, rng = call.points(), call.rng
    ts = tuple(rng.uniform(0.4, 1.0, np.shape(x)) for x in xs)

    def at(h: float) -> tuple[Any, ...]:
        pairs = zip(xs, ts, strict=True)
        return tuple(x + h * t if np.shape(x) else np.float64(x + h * t) for x, t in pairs)

    with fuzz_calls.quiet():
        try:
            plain, plain_args = call.run(xs)
        except Exception:
            plain, plain_args = None, None
    seen: list[Any] = []
    warned: list[Any] = []

    def body(zs: Any) -> Any:
        y, args = call.run(zs)
        found = leaves(y)
        for path, v in found:
            if isinstance(v, np.ndarray) and any(
                isinstance(e, nm.Tracer) for e in (v.flat if v.dtype.kind == "O" else ())
            ):
                raise Finding(f"an array of objects at {path or 'the result'}")
        seen[:] = [found, args]
        parts = [
            (path, v)
            for path, v in found
            if isinstance(v, nm.Tracer) and is_floating(v) and call.compares(path)
        ]
        return total(parts) + 0.0 * sum(np.sum(z) for z in zs)

    with fuzz_calls.quiet(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = transformed(call.mode, body, xs, ts, at)
        except Finding:
            raise
        except Exception as e:
            return refused(e, plain_args is not None)
        warned = [
            w
            for w in caught
            if not issubclass(
                w.category, (RuntimeWarning, DeprecationWarning, PendingDeprecationWarning)
            )
        ]
    if plain_args is None:
        return "plain call fails"
    found, args = seen
    traced = {path for path, v in found if isinstance(v, nm.Tracer)}
    kind = check_plain(call, found, args, at)
    if traced:
        parts = {p: v for p, v in found if isinstance(v, nm.Tracer) and is_floating(v)}
        kind = check_traced(call, parts, plain, result, at)
    if warned:
        with fuzz_calls.quiet(), warnings.catch_warnings(record=True) as before:
            warnings.simplefilter("always")
            call.run(xs)
        if {w.category for w in warned} - {w.category for w in before}:
            raise Finding(f"a warning instead of an error: {warned[0].message}")
    return kind


def transformed(mode: str, body: Any, xs: Any, ts: Any, at: Any) -> dict[str, Any]:
    """Value and directional derivatives of ``body`` by a transformation."""
    along = lambda g: sum(float(np.sum(a * t)) for a, t in zip(g, ts, strict=True))  # noqa: E731
    if mode == "grad":
        value, g = nm.value_and_grad(body)(xs)
        return {"value": value, "slope": along(g)}
    if mode == "jvp":
        value, slope = nm.jvp(body, (xs,), (ts,))
        return {"value": value, "slope": slope}
    if mode == "vmap":
        rows = tuple(np.stack([x, y]) for x, y in zip(xs, at(1e-3), strict=True))
        g = nm.vmap(nm.grad(body))(rows)
        return {"slope": along([v[0] for v in g])}
    if mode == "stage":
        return {"value": nm.stage(body, xs)(at(1e-3)), "moved": True}
    g, hv = nm.jvp(nm.grad(body), (xs,), (ts,))
    second = along(hv)
    return {"slope": along(g), "second": second, "gradient": lambda h: along(nm.grad(body)(at(h)))}


def refused(error: Exception, plain_works: bool) -> str:
    """An error is right unless it is a slip inside of the package."""
    if isinstance(error, OURS):
        return "our error" if isinstance(error, nm.NnmathError) else "error of NumPy or SciPy"
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    if plain_works and "nnmath_core" in last:
        raise Finding(f"a slip: {type(error).__name__}: {error}")
    return "error of NumPy or SciPy"


def check_plain(call: Call, found: list[Any], args: list[Any], at: Any) -> str:
    """Plain parts of the result, and plain arguments, must not depend on what was traced."""
    far = 0.05 if call.mode == "stage" else 1e-5
    with fuzz_calls.quiet():
        try:
            moved, moved_args = call.run(at(far))
        except Exception:
            return "plain"
    beside = dict(leaves(moved))
    plain = [(path, v) for path, v in found if not isinstance(v, nm.Tracer)]
    for path, v in plain:
        if path in beside and not same(v, beside[path]):
            raise Finding(
                f"a lost derivative: {path or 'the result'} is plain, {v!r}, and moves to {beside[path]!r}"
            )
    for v, w in zip(args, moved_args, strict=True):
        if not same(v, w):
            raise Finding("a lost derivative: a plain argument was written into")
    return "constant"


def check_traced(
    call: Call, parts: dict[str, Any], plain: Any, result: dict[str, Any], at: Any
) -> str:
    """Shape, value and derivative of the traced parts, the last where the plain call is smooth."""
    known = dict(leaves(plain))
    if not set(parts) <= set(known):
        return "traced, of another structure"  # as a list of NumPy's that is an array here
    paths = [p for p in parts if call.compares(p)]
    for p in paths:
        if tuple(parts[p].shape) != np.shape(known[p]):
            raise Finding(f"another shape: {tuple(parts[p].shape)}, plain {np.shape(known[p])}")
        kinds = np.asarray(known[p]).dtype.kind, parts[p].dtype.kind
        if kinds == ("f", "c") and call.target.name.endswith(
            ("eig", "eigvals", "roots", "place_poles")
        ):
            continue  # NumPy looks at the values
        if call.target.name == "builtins.round":
            continue  # of a number an int, of an array an array
        if np.asarray(known[p]).dtype != parts[p].dtype:
            raise Finding(f"another dtype: {parts[p].dtype}, plain {np.asarray(known[p]).dtype}")

    def phi(h: float) -> float:
        found = dict(leaves(call.run(at(h))[0]))
        return float(total([(p, np.asarray(found[p])) for p in paths]))

    if not paths:
        return "traced, not compared"
    with fuzz_calls.quiet():
        try:
            values = [phi(h) for h in (0.0, H, -H, 2 * H, -2 * H)]
            here = phi(1e-3) if "moved" in result else values[0]
        except Exception:
            return "traced, no difference"
    size = max([1.0, *(float(np.max(np.abs(np.asarray(known[p])), initial=0.0)) for p in paths)])
    eps = max(float(np.finfo(parts[p].dtype).eps) for p in paths)
    if not np.all(np.isfinite(values)) or size > 1e6:
        return "traced, not finite"
    if "value" in result and abs(float(result["value"]) - here) > 1e-9 * max(1.0, eps / EPS) * (
        size + abs(here)
    ):
        raise Finding(f"another value: {float(result['value'])!r}, plain {here!r}")
    if "slope" not in result or eps > EPS:
        return "value"
    near, wide = (values[1] - values[2]) / (2 * H), (values[3] - values[4]) / (4 * H)
    rough = abs(near - wide) + 64 * EPS * size * 10 / H
    scale = 1.0 + abs(near) + size
    if rough > 1e-3 * scale:
        return "traced, not smooth"
    if np.isnan(result["slope"]):
        # the standard deviation of one number; a parameter outside of the domain
        if all(not np.any(known[p]) for p in paths) or any(
            m in call.target.name for m in ("special", "stats", "windows")
        ):
            return "traced, NaN outside of the domain"
    if not abs(float(result["slope"]) - near) <= 4 * rough + 1e-7 * scale:
        raise Finding(
            f"a wrong derivative: {float(result['slope'])!r}, by differences {near!r} +- {rough:.1e}"
        )
    if "second" in result:
        with fuzz_calls.quiet():
            ends = [result["gradient"](h) for h in (H, -H, 2 * H, -2 * H)]
        near, wide = (ends[0] - ends[1]) / (2 * H), (ends[2] - ends[3]) / (4 * H)
        rough = abs(near - wide) + 640 * EPS * (size + abs(ends[0])) / H
        scale = 1.0 + abs(near) + abs(ends[0])
        if rough <= 1e-3 * scale and not abs(result["second"] - near) <= 4 * rough + 1e-7 * scale:
            raise Finding(
                f"a wrong second derivative: {result['second']!r}, by differences {near!r} +- {rough:.1e}"
            )
    return "derivative"


# --------------------------------------------------------------------------------------------- all calls
def asks_for_arrays(name: str) -> bool:
    """Functions of NumPy that ask isinstance(x, np.ndarray), and give coefficients of several axes no more for others.

    A traced array gets another shape from them than a plain one, with the derivative of that.
    """
    return name.startswith("numpy.polynomial") and ("val" in name or "grid" in name)


LAZY = {f"scipy.stats.{name}" for name in ("bartlett", "fligner", "levene")}
"""Functions of SciPy 1.17 that take the last axis for axis=0 of arrays whose values are not known."""

TARGETS = [t for t in fuzz_calls.targets() if not asks_for_arrays(t.name) and t.name not in LAZY]
ENDED: collections.Counter[str] = collections.Counter()


def draw(rng: np.random.Generator) -> Call | None:
    """A function, a call of it, and what is traced; None where no call of the function is known."""
    target = TARGETS[int(rng.integers(len(TARGETS)))]
    if not target.learned:
        target.learn()
    templates = [t for t in target.templates if fuzz_calls.floating_slots(t)]
    if not templates:
        return None
    template = templates[int(rng.integers(len(templates)))]
    places = fuzz_calls.floating_slots(template)
    on = [p for p in places if rng.random() < 0.6] or [places[int(rng.integers(len(places)))]]
    return Call(target, template, on, MODES[int(rng.integers(len(MODES)))], rng)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_call_loses_a_derivative_in_silence(chunk):
    print(f"NNMATH_FUZZ_SEED={SEED}")
    rng = np.random.default_rng([SEED, chunk])
    findings: dict[str, str] = {}
    made = 0
    while made < CALLS // CHUNKS:
        call = draw(rng)
        if call is None:
            continue
        made += 1
        try:
            ENDED[judge(call)] += 1
        except Finding as e:
            findings.setdefault(call.target.name, f"{call}\n    {e}")
    assert not findings, f"{len(findings)} functions:\n" + "\n".join(findings.values())
