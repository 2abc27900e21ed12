"""How special functions are declared: one row each, with the device that has them and the operands without a rule.

SciPy's universal functions compute in float32 for float32; CuPy has about half of them. Where it has none, the
declaration says ``library="absent"``: the function runs on the host and is an error on a device.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import scipy.special

from nnmath_core._ext._autodiff import Tracer, value_of
from nnmath_core.autodiff.ops.compare import less
from nnmath_core.autodiff.ops.conventions import (
    as_operand,
    constant,
    dtype_of,
    is_traced,
    ufuncs,
)
from nnmath_core.autodiff.ops.elementwise import absolute
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import cast
from nnmath_core.autodiff.primitive import Primitive, sample
from nnmath_core.checks import sentence
from nnmath_core.device import backend_of
from nnmath_core.errors import DomainError, DtypeError, TraceError

ABSENT = frozenset(
    "airy dawsn erfi eval_chebyt eval_chebyu eval_gegenbauer eval_genlaguerre "
    "eval_hermite eval_hermitenorm eval_jacobi eval_laguerre eval_legendre fresnel hyp0f1 hyp1f1 hyp2f1 hyperu iv ive "
    "jv kv kve owens_t powm1 spence spherical_in spherical_jn spherical_kn wrightomega "
    "yv".split()
)
"""SciPy's special functions that CuPy lacks."""


def unary(name, factor, *, keeps, forward=None, domain="normal", where="everywhere", special=()):
    """A primitive of one operand, SciPy's ufunc of that name; ``domain`` names the draw of its samples."""

    def samples(d):
        at = (lambda *s: d.within(*domain, *s)) if isinstance(domain, tuple) else getattr(d, domain)
        return [sample(at(5)), sample(at(0)), sample(at())]

    return primitive(
        name,
        (factor,),
        forward=forward,
        keeps=(keeps,),
        samples=samples,
        special=special,
        where=where,
    )


def primitive(
    name, rules, *, keeps, samples, forward=None, special=(), where="everywhere", table=True
):
    """An elementwise primitive: SciPy's ufunc of that name, dispatched, or ``forward(be, *operands)``."""
    if forward is None:
        forward = f"special.{name}" if len(rules) == 1 else functools.partial(typed, name)
    made = Primitive(
        name,
        forward=forward,
        elementwise=True,
        vjp=rules if len(rules) == 1 else _in_arrays(rules),
        keeps=keeps,
        samples=samples,
        special=special,
        domain=where,
        library="absent" if name in ABSENT else "",
    )
    ufunc = getattr(scipy.special, name, None)
    if table and isinstance(ufunc, np.ufunc):
        ufuncs[ufunc] = made
    return made


def _in_arrays(rules):
    """Rules that see Python numbers as arrays: a function of a number is a float64, which would promote float32.

    Orders, which are held fixed, stay what they are.
    """
    orders = [getattr(rule, "fixed", False) for rule in rules]

    def seen(rule):
        @functools.wraps(rule)
        def run(g, xs, y):
            dtype = np.result_type(dtype_of(g).type(0).real)
            return rule(
                g,
                tuple(
                    constant(g, (), x, dtype) if isinstance(x, (int, float)) and not order else x
                    for x, order in zip(xs, orders, strict=True)
                ),
                y,
            )

        return run

    return tuple(rule if order else seen(rule) for rule, order in zip(rules, orders, strict=True))


def typed(name, be, *xs):
    """SciPy's function in the precision of the arrays.

    Of Python numbers it would take float64, of complex64 and real operands together complex128.
    """
    kinds = [x.dtype for x in xs if hasattr(x, "dtype") and x.dtype.kind in "fc"]
    if kinds:
        to = np.result_type(*kinds).type(0).real.dtype.type
        xs = [to(x) if isinstance(x, (int, float)) else x for x in xs]
    y = getattr(be.special, name)(*xs)
    mixed = any(k.kind == "c" for k in kinds) and any(dtype_of(x).kind != "c" for x in xs)
    return like(be, y, *xs) if mixed else y


def fixed(who, what, instead=""):
    """The rule of an operand in which the function is not differentiated: an error that names it."""

    def rule(g, xs, y):
        raise TraceError(
            f"{who}: no derivative is known in {what}. "
            f"{instead or 'Hold it fixed: a plain number, or nm.stop_gradient.'}"
        )

    rule.fixed = True
    return rule


def require_integral(who, n, what="order"):
    """Refuse a derivative at an order or degree that is no integer, where the rule would be another function's."""
    n = value_of(n)
    if isinstance(n, (int, Tracer)) or (hasattr(n, "dtype") and n.dtype.kind in "biu"):
        return  # a tracer here is staged: there is no value to judge
    xp = np if isinstance(n, (float, np.generic, np.ndarray)) else backend_of(n).xp
    if not bool(xp.all(n == xp.floor(n))):
        shown = n if np.ndim(n) == 0 else f"an array of {n.dtype} with others"
        raise DomainError(
            sentence(who, what, "an integer where the derivative is asked for", str(shown))
        )


def dispatches(*names):
    """Register a function of several primitives as what SciPy's ufuncs of these names do on tracers."""

    def register(f):
        for name in names:
            ufuncs[getattr(scipy.special, name)] = f
        return f

    return register


def floating(x: Any) -> Any:
    """Lists as arrays, integers and booleans as float64; a Python number stays one, so that float32 is kept."""
    x = as_operand(x)
    if dtype_of(x).kind in "fc":
        return x
    return cast(x, np.float64) if is_traced(x) or hasattr(x, "dtype") else float(x)


def require_real(who, *xs):
    """Refuse complex operands, as SciPy does; a conversion to float64 would drop their imaginary parts."""
    for x in xs:
        if dtype_of(x).kind == "c":
            raise DtypeError(
                f"{who}: the operands must be real, got {dtype_of(x)}. There is no complex version: pass x.real."
            )


def like(be, y, *xs):
    """Y in the floating dtype of the operands, where SciPy computes in double precision alone."""
    kinds = [x.dtype for x in xs if hasattr(x, "dtype") and x.dtype.kind in "fc"]
    to = np.result_type(*kinds) if kinds else np.dtype(np.float64)
    if y.dtype.kind == "c" and to.kind != "c":
        to = np.result_type(to, np.complex64)
    return y.astype(to, copy=False)


def horner(x, coefficients):
    """The polynomial with these coefficients, the constant first."""
    *rest, y = coefficients
    for c in reversed(rest):
        y = x * y + c
    return y


def near_zero(x, radius, coefficients, elsewhere):
    """A power series for |x| < radius and ``elsewhere(x)`` beyond: removable singularities, in derivatives too."""
    small = less(absolute(x), radius)
    return where(
        small, horner(where(small, x, 0.0), coefficients), elsewhere(where(small, radius, x))
    )


def weak(n, x):
    """An order as a factor: an array of integers in the dtype of x, which it would promote."""
    return cast(n, dtype_of(x)) if hasattr(n, "dtype") and dtype_of(n).kind in "iu" else n


def lowered(n):
    """max(n - 1, 0) of an order, and whether the order is 0: the factor in front of it vanishes there."""
    if isinstance(n, (int, np.integer)):
        return max(int(n) - 1, 0)
    return np.maximum(n - 1, 0) if isinstance(n, np.ndarray) else where(less(n, 1), 0, n - 1)
