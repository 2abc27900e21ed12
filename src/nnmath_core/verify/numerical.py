"""Derivatives by differences and by the complex step, for any function of floating-point trees."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from nnmath_core._ext._tree import flatten, unflatten
from nnmath_core.checks import describe, require_callable, require_real, sentence
from nnmath_core.device import CPU, backend_for
from nnmath_core.errors import DomainError, DtypeError
from nnmath_core.typing import Array, Tree
from nnmath_core.verify.differences import values_on
from nnmath_core.verify.nearby import Nearby
from nnmath_core.verify.staged import EACH, staged
from nnmath_core.verify.variables import Variables, VectorFunction, widest

__all__ = ["complex_step", "numerical_gradient"]

TINY = 2.0**-200  # its square is far below rounding, and it leaves room above the least double


def numerical_gradient(f: Callable[[Any], Any], x: Tree, *, step: float | None = None) -> Tree:
    r"""Gradient or Jacobian by central differences, extrapolated to step zero.

    .. math:: \frac{\partial f}{\partial x_i} = \lim_{h\to 0} \frac{f(x + h e_i) - f(x - h e_i)}{2h}

    Parameters
    ----------
    f : callable
        Any Python function of one argument; it need not be traceable.
    x : float, array or tree of them
        float32 or float64, of any shape. ``f`` gets copies; ``x`` is never written to.
    step : float, optional
        A fixed step h > 0 for every entry, without extrapolation. By default steps shrink from 1/8
        of the entry's size by factors of 4, and the extrapolate of least estimated error is kept.

    Returns
    -------
    tree
        For scalar ``f`` like ``x``, in its dtypes; else for each output leaf a tree like ``x`` with
        arrays of shape ``out_shape + in_shape``.

    Raises
    ------
    DtypeError
        An entry of ``x`` is an integer or of another type; an output is no real floating-point.
    DomainError
        ``f(x)`` is not finite, or ``step`` is not positive or below the spacing of ``x``.

    Notes
    -----
    Costs 8 to 20 evaluations an entry, or 2 with ``step``. The relative error for smooth ``f`` is
    near ``1e-12``; with the best fixed step, ``eps**(1/3)``, it is near ``1e-10``. float32 arguments
    are passed as float64 when ``f`` keeps float64, so that the result has float32 precision; where
    it does not, expect three to four digits. At a kink it is the mean of both slopes. `check_grads`
    says how far differences can be trusted at a point; this function does not.

    References
    ----------
    Ridders, "Accurate computation of F'(x) and F'(x) F''(x)", 1982.

    Examples
    --------
    >>> g = nm.numerical_gradient(lambda p: np.sum(p["w"] ** 3), {"w": np.array([1.0, 2.0])})
    >>> np.round(g["w"], 9)
    array([ 3., 12.])
    """
    who = "numerical_gradient"
    require_callable(who, "f", f)
    variables = _all_float(who, x)
    function = widest(f, variables, packed=False)
    middle = function(variables.start)
    function.require_finite(middle, "at `x`")
    _require_float_outputs(function)
    each = EACH if step is None else 2
    fast = staged(function, each * variables.size)
    near = Nearby(
        function, variables, variables.start, function.eps, middle if fast is None else None, fast
    )
    jacobian = np.empty((function.size, variables.size))
    if step is None:
        near.measure_noise()
        for block in near.blocks(variables.size):
            found, _ = near.along_components(block)
            jacobian[:, block] = (found.value / near.unit[block, None]).T
    else:
        advice = "Leave it out for a choice by error estimate."
        step = require_real(
            who, "step", step, lambda h: 0 < h < np.inf, "a positive number", advice
        )
        for block in near.blocks(variables.size):
            jacobian[:, block] = _fixed(near, block, step).T
    if fast is not None:
        fast.close()
        near.failure = near.failure or fast.failure
    if near.failure is not None and not np.isfinite(jacobian).all():
        near.failure.add_note(
            f"{who}: `f` raised this at points around `x`, where it must be defined."
        )
        raise near.failure
    return _shaped(variables, function, jacobian)


def _fixed(near: Nearby, which: Array, step: float) -> Array:
    """The central differences (b, m) of some entries with one step."""
    lines, t = np.arange(len(which)), step / near.unit[which]
    values, reached = values_on(near.components(which), lines, np.concatenate([t, -t]))
    (above, below), (right, left) = np.split(values, 2), np.split(reached, 2)
    if (stuck := np.flatnonzero(right <= left)).size:
        raise DomainError(
            f"numerical_gradient: `step` must be above the spacing of `x`, got {step:.1e} where an "
            f"entry of `x` is {near.x[which[stuck[0]]]:.6g}."
        )
    return np.asarray((above - below) / ((right - left) * near.unit[which])[:, None])


def complex_step(f: Callable[[Any], Any], x: Tree) -> Tree:
    r"""Gradient or Jacobian by the complex step, exact to rounding where ``f`` is analytic.

    .. math:: \frac{\partial f}{\partial x_i} = \frac{\operatorname{Im} f(x + i h e_i)}{h}, \qquad h \to 0

    Parameters
    ----------
    f : callable
        Function of one argument that takes complex numbers and is analytic as written: no ``abs``,
        ``conj``, ``real``, ``angle`` of the argument. Comparisons are fine.
    x : float, array or tree of them
        float32 or float64, of any shape; passed as complex128.

    Returns
    -------
    tree
        As `numerical_gradient`.

    Raises
    ------
    DtypeError
        An entry of ``x`` is no float, or ``f`` drops the imaginary part.
    DomainError
        ``f(x)`` is not finite, or ``f`` is not analytic as written: the result disagrees with
        differences along a random direction.

    Notes
    -----
    Costs one complex evaluation an entry and about 40 real ones for the test against differences.
    There is no subtraction, hence no rounding to trade against truncation: the step is ``2**-200``
    of an entry's size.

    References
    ----------
    Squire and Trapp, "Using complex variables to estimate derivatives of real functions", 1998.

    Examples
    --------
    >>> f = lambda x: np.exp(x) / np.sqrt(np.sin(x) ** 3 + np.cos(x) ** 3)
    >>> float(nm.complex_step(f, 1.5))
    4.053427893898621
    """
    who = "complex_step"
    require_callable(who, "f", f)
    variables = _all_float(who, x)
    variables.wide = True
    function = VectorFunction(f, variables, packed=False)
    middle = function(variables.start)
    function.require_finite(middle, "at `x`")
    _require_float_outputs(function)
    unit = variables.scale(variables.start)
    jacobian = np.empty((function.size, variables.size))
    for i in range(variables.size):
        direction = np.zeros(variables.size)
        direction[i] = unit[i]
        jacobian[:, i] = complex_derivative(function, variables.start, direction) / unit[i]
    if variables.size:
        _require_analytic(function, variables, middle, jacobian)
    return _shaped(variables, function, jacobian)


def complex_derivative(function: VectorFunction, x: Array, direction: Array) -> Array:
    """Im f(x + i h d) / h; raises whatever says that ``f`` does not take complex numbers."""
    variables = function.variables
    leaves = variables.values(x + 1j * TINY * direction, dtype=np.complex128)
    dropped = f"{function.who}: `f` must keep complex numbers, and it "
    advice = "Does it use abs, real or float? Use nm.numerical_gradient."
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        try:
            out = function.call(leaves)
        except np.exceptions.ComplexWarning as e:
            raise DtypeError(dropped + f"casts them to real ones. {advice}") from e
    parts = [np.asarray(leaf) for leaf in flatten(out)[0]]
    if len(parts) != len(function.all_shapes):
        raise DtypeError(dropped + f"returns another structure for them. {advice}")
    for part in (parts[i] for i in function.which):
        if part.dtype.kind != "c":
            raise DtypeError(dropped + f"returns {part.dtype} for a complex argument. {advice}")
    return np.concatenate([parts[i].imag.reshape(-1) / TINY for i in function.which])


def _require_analytic(
    function: VectorFunction, variables: Variables, middle: Array, jacobian: Array
) -> None:
    near = Nearby(function, variables, variables.start, function.eps, middle)
    d = np.random.default_rng(0).standard_normal((1, variables.size))
    near.measure_noise(d[0])
    found, _ = near.along_directions(d)
    want = jacobian @ (near.unit * d[0])
    wrong = np.abs(want - found.value[0]) > 10 * found.error[0] + 1e-3 * np.abs(found.value[0])
    if wrong.any():
        o = int(np.argmax(wrong))
        raise DomainError(
            "complex_step: `f` must be analytic as written, and along a random direction the complex "
            f"step gives {want[o]:.6g} where differences give {found.value[0, o]:.6g}. Does it use "
            "abs, conj or real? Use nm.numerical_gradient."
        )


def _all_float(who: str, x: Tree) -> Variables:
    """The variables of a tree in which every leaf must be one."""
    variables = Variables(who, x, "x")
    for i, leaf in enumerate(variables.leaves):
        if i not in variables.which:
            advice = "Integers carry no derivative: `x.astype(float)`, or close over what is fixed."
            wanted = "made of float32 or float64 arrays, or floats"
            raise DtypeError(sentence(who, "x", wanted, describe(leaf), advice))
    return variables


def _require_float_outputs(function: VectorFunction) -> None:
    if len(function.which) != len(function.all_shapes):
        raise DtypeError(
            f"{function.who}: `f` must return floating-point numbers, got integers among them. "
            "Return only what is to be differentiated."
        )


def _shaped(variables: Variables, function: VectorFunction, jacobian: Array) -> Tree:
    """The Jacobian (m, n) as a tree of outputs of trees of inputs."""
    rows = []
    for start, stop, out_shape in zip(
        function.starts[:-1], function.starts[1:], function.shapes, strict=True
    ):
        leaves = []
        for part, shape, dtype, place in zip(
            variables.slices(), variables.shapes, variables.dtypes, variables.devices, strict=True
        ):
            block = jacobian[start:stop, part].astype(dtype).reshape(out_shape + shape)
            leaves.append(block if place == CPU else backend_for(place).from_host(block))
        plain = [
            v[()] if kind is float or issubclass(kind, np.generic) else v
            for v, kind in zip(leaves, variables.kinds, strict=True)
        ]
        rows.append(unflatten(variables.treedef, plain, out_shape))
    return unflatten(function.treedef, rows)
