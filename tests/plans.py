"""Plans in tests: what a function is lowered to, every way to run it, and whether it does what the function does."""

import numpy as np

from nnmath_core._ext._tree import flatten, unflatten
from nnmath_core.program.compiled import compile
from nnmath_core.program.lower_cpu import lower
from nnmath_core.program.plan import Plan
from nnmath_core.program.work import flattened


def lowered(f, *args):
    """The Plan of a function for arguments."""
    return compile(f).plan(*args)


def kinds_of(f, *args):
    """The kinds of its instructions, in order."""
    return [step.kind for step in lowered(f, *args).steps]


def run_all(f, *args, threads=3, deterministic=False):
    """Results of a function, or of its Plan, by one thread, and with the shares of 2 to ``threads``, in two orders."""
    plan = f if isinstance(f, Plan) else lowered(f, *args)
    made = lower(plan.program, threads=threads, deterministic=deterministic)
    leaves, _ = flatten((args, {}))
    return [
        unflatten(plan.program.out_def, made.executable.run_split(leaves, n))
        for n in (1, *(way * n for n in range(2, threads + 1) for way in (1, -1)))
    ]


# ------------------------------------------------------------------------------------ compiled is eager
def rounding(errors=64.0, terms=1):
    """The bound of `assert_same`: so many rounding errors, in a sum of so many terms, of the largest entry."""

    def bound(want):
        finite = np.abs(want[np.isfinite(want)])
        return errors * np.finfo(want.dtype).eps * terms**0.5 * max(1.0, *finite.ravel(), 0.0)

    return bound


def each_entry(errors):
    """The bound of `assert_same` for functions entry by entry: so many units in the last place of each of them."""

    def bound(want):
        info = np.finfo(want.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            return errors * np.fmax(info.eps * np.abs(want), info.smallest_subnormal)

    return bound


def assert_same(got, want, bound, what="compiled"):
    """The result of a compiled function is that of the function: tree, types, dtypes, shapes, NaN, infinity, values.

    What has rank 0 is a NumPy scalar, also where the function hands an array of rank 0 through; truth values of Python
    may be NumPy's.
    """
    (ours, d), (theirs, e) = flatten(got), flatten(want)
    assert d == e, f"{what}: the structure is {d}, not {e}"
    for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        where = f"{what}, leaf {k}"
        scalar = isinstance(b, bool | np.generic | np.ndarray) and np.ndim(b) == 0
        kind = bool | np.generic if scalar else type(b)
        assert isinstance(a, kind), f"{where}: {type(a)}, not {type(b)}"
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype), (
            f"{where}: {a.dtype}{a.shape}, not {b.dtype}{b.shape}"
        )
        if b.dtype.kind == "c":
            limit = bound(np.concatenate([b.real.ravel(), b.imag.ravel()]))
            limit = limit if np.ndim(limit) == 0 else np.max(limit, initial=0.0)
            _assert_near(a.real, b.real, limit, f"{where}, real part")
            _assert_near(a.imag, b.imag, limit, f"{where}, imaginary part")
        elif b.dtype.kind == "f":
            _assert_near(a, b, bound(b), where)
        else:
            assert np.array_equal(a, b), f"{where}: {a!r}, not {b!r}"


def _assert_near(a, b, bound, what):
    finite = np.isfinite(b)
    assert np.array_equal(np.isfinite(a), finite), (
        f"{what}: not finite at other places: {a}, not {b}"
    )
    assert np.array_equal(a[~finite], b[~finite], equal_nan=True), (
        f"{what}: NaN or infinities: {a}, not {b}"
    )
    a, b, bound = a[finite], b[finite], np.broadcast_to(bound, b.shape)[finite]
    with np.errstate(over="ignore"):
        wrong = ~(np.abs(a - b) <= bound)
    assert not wrong.any(), (
        f"{what}: {a[wrong][0]!r}, not {b[wrong][0]!r}, off by {np.abs(a - b)[wrong][0]:.2e}"
    )


IN_PYTHON = {"argpartition", "care", "dare", "logm", "sqrtm"}
"""The primitives that have no instruction in C; docs/compile.md says why."""


def check_compiled(f, args, bound, what="compiled", in_c=False):
    """Compiled equals eager for these arguments; ``in_c``: and does nothing in Python but what has to be done there."""
    with np.errstate(all="ignore"):
        compiled = compile(f)
        assert_same(compiled(*args), f(*args), bound, what)
    if in_c:
        steps = flattened(compiled.plan(*args).steps)
        found = {step.note for step in steps if step.kind == "host"}
        assert found <= IN_PYTHON, f"{what}: {found - IN_PYTHON} are done in Python"
