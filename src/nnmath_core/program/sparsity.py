"""Which inputs each output of a program can depend on: the sparsity of its Jacobian, whatever the values are.

Every variable has a sparse boolean matrix, a row for each of its entries and a column for each input. An equation makes
the rows of its outputs from those of its operands:

- elementwise primitives: the union of the operands' rows, broadcast;
- primitives that move entries (reshape, slices, concatenation): rows are moved likewise. Whether a linear primitive
  does so, and where to, is read off what it makes of labels;
- reductions and what runs along an axis: the union over the slice;
- contractions: the union over the summed labels, without the zeros of a constant factor;
- no derivative, no dependence;
- anything else: every output entry on every operand entry.

So the pattern holds every entry that can ever be nonzero, and may hold more.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import sparse

from nnmath_core._ext._autodiff import Var, dtype_of, shape_of
from nnmath_core.errors import MemoryLimitError
from nnmath_core.program.ir import Equation, Program

__all__ = ["program_sparsity"]

Pattern = Any
"""A boolean `scipy.sparse.csr_array` of shape (entries of the variable, entries of all inputs)."""

LARGEST = 50_000_000
"""Products of a contraction that are listed one by one, at 8 bytes for each of two indices."""


def program_sparsity(program: Program) -> Pattern:
    """Return the pattern of the Jacobian of a program: all outputs against all inputs, raveled in order.

    Parameters
    ----------
    program : Program

    Returns
    -------
    scipy.sparse.csr_array of bool, shape (entries of the outputs, entries of the inputs)
        True where the derivative may be nonzero for some values of the inputs.
    """
    n = sum(math.prod(v.shape) for v in program.inputs)
    env: dict[Any, Pattern] = {}
    at = 0
    for v in program.inputs:
        size = math.prod(v.shape)
        env[v] = _rows(np.arange(size), np.arange(at, at + size), (size, n))
        at += size
    values = dict(program.constants)
    for equation in program.equations:
        made = _outputs(equation, env, values, n)
        env.update(zip(equation.outputs, made, strict=True))
    rows = [env[o] if isinstance(o, Var) and o in env else _nothing(o, n) for o in program.outputs]
    if not rows:
        return _zero(0, n)
    return sparse.csr_array(sparse.vstack(rows, format="csr", dtype=bool))


def _rows(rows: Any, columns: Any, shape: tuple[int, int]) -> Pattern:
    return sparse.csr_array((np.ones(len(rows), bool), (rows, columns)), shape=shape)


def _zero(size: int, n: int) -> Pattern:
    return sparse.csr_array((size, n), dtype=bool)


def _nothing(x: Any, n: int) -> Pattern:
    return _zero(math.prod(shape_of(x)), n)


def _size(v: Any) -> int:
    return math.prod(shape_of(v))


def _outputs(e: Equation, env: dict[Any, Pattern], values: dict[Any, Any], n: int) -> list[Pattern]:
    p = e.primitive
    moving = [i for i, x in enumerate(e.operands) if isinstance(x, Var) and x in env]
    if not p.differentiable or not any(env[e.operands[i]].nnz for i in moving):
        return [_nothing(o, n) for o in e.outputs]
    if p.elementwise:
        return [_elementwise(e, env, moving)]
    known = [
        None if i in moving else values[x] if isinstance(x, Var) else x
        for i, x in enumerate(e.operands)
    ]
    if len(e.outputs) == 1:
        out = e.outputs[0]
        for rule in (_moved, _contraction, _along_axes):
            pattern = rule(e, env, moving, known, out)
            if pattern is not None:
                return [pattern]
    else:
        patterns = [_along_axes(e, env, moving, known, o) for o in e.outputs]
        several = [pattern for pattern in patterns if pattern is not None]
        if len(several) == len(patterns):
            return several
    read = np.zeros(n, bool)
    for i in moving:
        read[env[e.operands[i]].indices] = True
    columns = np.flatnonzero(read)
    return [
        _rows(
            np.repeat(np.arange(_size(o)), len(columns)), np.tile(columns, _size(o)), (_size(o), n)
        )
        for o in e.outputs
    ]


def _elementwise(e: Equation, env: dict[Any, Pattern], moving: list[int]) -> Pattern:
    out = e.outputs[0]
    total = None
    for i in moving:
        v = e.operands[i]
        rows = np.broadcast_to(np.arange(_size(v)).reshape(v.shape), out.shape).ravel()
        part = env[v] if v.shape == out.shape else env[v][rows]
        total = part if total is None else total + part
    return sparse.csr_array(total)


def _moved(
    e: Equation, env: dict[Any, Pattern], moving: list[int], known: list[Any], out: Any
) -> Pattern | None:
    """The rows where a primitive that moves entries puts them; None for one that does more."""
    p = e.primitive
    if not (p.linear or p.multilinear) or dtype_of(out).kind == "c":
        return None
    if p.linear and None in [k for i, k in enumerate(known) if i not in moving]:
        return None
    sizes = [_size(e.operands[i]) for i in moving]
    total = sum(sizes)
    if total == 0 or (not p.linear and len(moving) > 1):
        return None
    if any(dtype_of(e.operands[i]).kind != "f" for i in moving):
        return None
    found = None  # two sets of labels: no sum is a label by accident in both
    small = total <= 2**20  # then they are exact in float32
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        labels = 1.0 + (
            rng.choice(2**22, total, replace=False) if small else rng.permutation(total)
        )
        operands = list(known)
        at = 0
        for i, size in zip(moving, sizes, strict=True):
            v = e.operands[i]
            operands[i] = labels[at : at + size].reshape(v.shape)
            if small:
                operands[i] = operands[i].astype(v.dtype)
            at += size
        try:
            got = np.asarray(p(*operands, **e.params), float).ravel()
        except Exception:  # an operand that must be of another kind: this rule has nothing to say
            return None
        order = np.argsort(labels)
        place = np.minimum(np.searchsorted(labels[order], got), total - 1)
        source = np.where(got == 0.0, -1, order[place])
        if not np.all((got == 0.0) | (labels[order[place]] == got)):
            return None
        if found is not None and not np.array_equal(found, source):
            return None
        found = source
    stacked = sparse.vstack([env[e.operands[i]] for i in moving], format="csr", dtype=bool)
    assert found is not None
    live = np.flatnonzero(found >= 0)
    picked = _rows(live, found[live], (len(found), total))
    return sparse.csr_array(picked @ stacked)


def _contraction(
    e: Equation, env: dict[Any, Pattern], moving: list[int], known: list[Any], out: Any
) -> Pattern | None:
    """A labelled product of two operands: out[o] depends on x[i] and y[j] where their labels meet."""
    if e.primitive.name != "contract":
        return None
    labels = [tuple(s) for s in e.params["spec"]]
    sizes: dict[Any, int] = {}
    for operand, names in zip((*e.operands, out), labels, strict=True):
        for label, length in zip(names, shape_of(operand), strict=True):
            sizes[label] = max(length, sizes.get(label, 1))
    every = list(sizes)
    if math.prod(sizes.values()) > LARGEST:
        raise MemoryLimitError(
            f"jacobian_sparsity: the contraction {e.params['spec']} has {math.prod(sizes.values())} products, more "
            f"than the {LARGEST} that are listed. Give the pattern yourself: `pattern=`."
        )

    def entries(operand: Any, own: tuple[Any, ...]) -> Any:
        """The entry of an operand in each product, as a raveled array over all labels."""
        index: Any = np.zeros([1] * len(every), np.int64)
        stride = 1
        for label, length in zip(reversed(own), reversed(shape_of(operand)), strict=True):
            where = [1] * len(every)
            where[every.index(label)] = sizes[label]
            steps = np.arange(sizes[label]) if length > 1 else np.zeros(sizes[label], np.int64)
            index = index + stride * steps.reshape(where)
            stride *= length
        return np.broadcast_to(index, list(sizes.values())).ravel()

    target = entries(out, labels[2])
    live = np.ones(len(target), bool)
    for k, own in zip(known, labels[:2], strict=True):
        if k is not None:
            live &= np.asarray(k).ravel()[entries(k, own)] != 0
    total = None
    for i in moving:
        v = e.operands[i]
        part = _rows(target[live], entries(v, labels[i])[live], (_size(out), _size(v))) @ env[v]
        total = part if total is None else total + part
    return sparse.csr_array(total)


def _along_axes(
    e: Equation, env: dict[Any, Pattern], moving: list[int], known: list[Any], out: Any
) -> Pattern | None:
    """A reduction over axes, or what runs along one and keeps the shape: the union over each slice."""
    if "axis" not in e.params or len(e.operands) != 1:
        return None
    v = e.operands[0]
    axis = e.params["axis"]
    axes = (
        tuple(range(len(v.shape))) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    )
    if not all(isinstance(a, (int, np.integer)) for a in axes):
        return None
    axes = tuple(int(a) % max(len(v.shape), 1) for a in axes)
    kept = tuple(1 if a in axes else s for a, s in enumerate(v.shape))
    slices = np.broadcast_to(np.arange(math.prod(kept)).reshape(kept), v.shape).ravel()
    union = _rows(slices, np.arange(_size(v)), (math.prod(kept), _size(v))) @ env[v]
    if _size(out) == math.prod(kept) and out.shape in (
        kept,
        tuple(s for a, s in enumerate(v.shape) if a not in axes),
    ):
        return sparse.csr_array(union)
    return sparse.csr_array(union[slices]) if out.shape == v.shape else None
