"""Slow forward functions, one for each primitive, that share no code with the package.

Loops over entries, `math` on single numbers, textbook linear algebra. NumPy is the container only.
Each oracle takes the operands and parameters of its primitive; operands are float64, integers or
booleans, and so is the result.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

ORACLES = {}


def oracle(f):
    """Register a function under its own name, without the trailing underscore."""
    ORACLES[f.__name__.rstrip("_")] = f
    return f


# ------------------------------------------------------------------------------------- elementwise
def broadcast_entry(x, i, shape):
    """Return the entry of x that broadcasting to ``shape`` puts at index i."""
    x = np.asarray(x)
    at = i[len(shape) - x.ndim :]
    return x[tuple(0 if n == 1 else k for k, n in zip(at, x.shape, strict=True))].item()


def broadcast_shape(*shapes):
    """Return the shape to which the shapes broadcast: the longest, an axis of 1 stretched."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    return tuple(next((n for n in lengths if n != 1), 1) for lengths in zip(*padded, strict=True))


def entrywise(f, dtype=float):
    """Apply a function of numbers to each entry, operands broadcast."""

    def apply(*xs):
        shape = broadcast_shape(*map(np.shape, xs))
        out = np.zeros(shape, dtype)
        for i in np.ndindex(*shape):
            out[i] = f(*(broadcast_entry(x, i, shape) for x in xs))
        return out

    return apply


def remainder(a, b):
    r = math.fmod(a, b)
    return r + b if r and (r < 0) != (b < 0) else r


NUMBERS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "divided_times": lambda a, b, c: a / b * c,
    "negative": lambda a: -a,
    "square": lambda a: a * a,
    "reciprocal": lambda a: 1 / a,
    "conj": lambda a: a,
    "absolute": lambda a: a if a >= 0 else -a,
    "sign": lambda a: (a > 0) - (a < 0),
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "rint": round,  # half to even, as IEEE
    "floor_divide": lambda a, b: math.floor(a / b),
    "remainder": remainder,
    "power": math.pow,
    "sqrt": math.sqrt,
    "cbrt": lambda a: math.copysign(math.exp(math.log(abs(a)) / 3), a),
    "hypot": lambda a, b: math.sqrt(a * a + b * b),
    "exp": math.exp,
    "exp2": lambda a: math.pow(2, a),
    "expm1": math.expm1,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "log1p": math.log1p,
    "logaddexp": lambda a, b: math.log(math.exp(a) + math.exp(b)),
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "arcsin": math.asin,
    "arccos": math.acos,
    "arctan": math.atan,
    "arctan2": math.atan2,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "tanh": math.tanh,
    "arcsinh": math.asinh,
    "arccosh": math.acosh,
    "arctanh": math.atanh,
    "erf": math.erf,
    "expit": lambda a: 1 / (1 + math.exp(-a)),
    "relu": lambda a: a if a > 0 else 0,
    "maximum": lambda a, b: a if a > b else b,
    "minimum": lambda a, b: a if a < b else b,
    "clip": lambda a, low, high: high if a > high else low if a < low else a,
    "where": lambda c, a, b: a if c else b,
    "share": lambda g, mine, *others: g / (1 + others.count(True)) if mine else 0,
    "stop_gradient": lambda a: a,
}
TRUTHS = {
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "same": lambda a, b: a == b or (math.isnan(a) and math.isnan(b)),
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
    "logical_and": lambda a, b: bool(a) and bool(b),
    "logical_or": lambda a, b: bool(a) or bool(b),
    "logical_xor": lambda a, b: bool(a) != bool(b),
    "logical_not": lambda a: not a,
    "isnan": lambda a: a != a,
    "isinf": lambda a: abs(a) == math.inf,
    "isfinite": lambda a: abs(a) < math.inf,
    "signbit": lambda a: math.copysign(1, a) < 0,
}
ORACLES.update({name: entrywise(f) for name, f in NUMBERS.items()})
ORACLES.update({name: entrywise(f, bool) for name, f in TRUTHS.items()})


# -------------------------------------------------------------------------------------- reductions
def reduction(f, dtype=float):
    """Apply a function of a list of numbers to each slice over ``axis``."""

    def apply(x, *, axis, keepdims):
        shape = tuple(1 if k in axis else n for k, n in enumerate(x.shape))
        slices = {i: [] for i in np.ndindex(*shape)}
        for i in np.ndindex(*x.shape):
            slices[tuple(0 if k in axis else j for k, j in enumerate(i))].append(x[i].item())
        out = np.zeros(shape, dtype)
        for i, entries in slices.items():
            out[i] = f(entries)
        return out if keepdims else squeezed(out, axis)

    return apply


def squeezed(x, axis):
    return x[tuple(0 if k in axis else slice(None) for k in range(x.ndim))]


def product(entries):
    p = 1.0
    for e in entries:
        p *= e
    return p


def log_sum_exp(entries):
    return math.log(math.fsum(map(math.exp, entries)))


ORACLES["sum"] = reduction(math.fsum)
ORACLES["prod"] = reduction(product)
ORACLES["max"] = reduction(lambda e: sorted(e)[-1])
ORACLES["min"] = reduction(lambda e: sorted(e)[0])
ORACLES["any"] = reduction(lambda e: True in e, bool)
ORACLES["all"] = reduction(lambda e: False not in e, bool)
ORACLES["logsumexp"] = reduction(log_sum_exp)
ORACLES["norm"] = reduction(lambda e: math.sqrt(math.fsum(a * a for a in e)))


def position(pick):
    def apply(x, *, axis):
        find = reduction(lambda entries: entries.index(pick(entries)), int)
        return find(x, axis=(axis,), keepdims=False)

    return apply


ORACLES["argmax"] = position(lambda e: sorted(e)[-1])
ORACLES["argmin"] = position(lambda e: sorted(e)[0])


@oracle
def softmax(x, *, axis):
    total = reduction(log_sum_exp)(x, axis=axis, keepdims=True)
    return entrywise(lambda a, b: math.exp(a - b))(x, total)


@oracle
def cumsum(x, *, axis, reverse):
    out = np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        before = range(i[axis], x.shape[axis]) if reverse else range(i[axis] + 1)
        out[i] = math.fsum(x[(*i[:axis], k, *i[axis + 1 :])] for k in before)
    return out


@oracle
def cumprod(x, *, axis):
    out = np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        out[i] = product(x[(*i[:axis], k, *i[axis + 1 :])].item() for k in range(i[axis] + 1))
    return out


@oracle
def others(x, *, axis):
    out = np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        out[i] = product(
            x[j].item()
            for j in np.ndindex(*x.shape)
            if j != i and all(k in axis or j[k] == i[k] for k in range(x.ndim))
        )
    return out


@oracle
def recurrence(b, c, *, reverse):
    """Sum over the places at which a path begins, of the product of the steps from there."""
    out = np.zeros(b.shape)
    for *row, k in np.ndindex(*b.shape):
        starts = range(k, b.shape[-1]) if reverse else range(k + 1)
        steps = {j: range(k + 1, j + 1) if reverse else range(j + 1, k + 1) for j in starts}
        out[(*row, k)] = math.fsum(
            b[(*row, j)].item() * product(c[(*row, i)].item() for i in steps[j]) for j in starts
        )
    return out


# ------------------------------------------------------------------------------------------ shapes
def filled(shape, entries, dtype=float):
    """Return the array of a shape with these entries in C order."""
    out = np.zeros(shape, dtype)
    for i, e in zip(np.ndindex(*shape), entries, strict=True):
        out[i] = e
    return out


@oracle
def reshape(x, *, shape):
    return filled(shape, [x[i] for i in np.ndindex(*x.shape)])


@oracle
def transpose(x, *, axes):
    out = np.zeros([x.shape[a] for a in axes])
    for i in np.ndindex(*x.shape):
        out[tuple(i[a] for a in axes)] = x[i]
    return out


@oracle
def broadcast_to(x, *, shape):
    return filled(shape, [broadcast_entry(x, i, shape) for i in np.ndindex(*shape)])


@oracle
def concatenate(*xs, axis):
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    out, start = np.zeros(shape), 0
    for x in xs:
        for i in np.ndindex(*x.shape):
            out[(*i[:axis], start + i[axis], *i[axis + 1 :])] = x[i]
        start += x.shape[axis]
    return out


@oracle
def repeat(x, *, count, axis):
    out = np.zeros([n * count if k == axis else n for k, n in enumerate(x.shape)])
    for i in np.ndindex(*out.shape):
        out[i] = x[(*i[:axis], i[axis] // count, *i[axis + 1 :])]
    return out


@oracle
def pad(x, *, widths):
    out = np.zeros([a + n + b for n, (a, b) in zip(x.shape, widths, strict=True)])
    for i in np.ndindex(*x.shape):
        out[tuple(k + a for k, (a, _) in zip(i, widths, strict=True))] = x[i]
    return out


@oracle
def flip(x, *, axis):
    out = np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        out[tuple(x.shape[k] - 1 - j if k in axis else j for k, j in enumerate(i))] = x[i]
    return out


@oracle
def astype(x, *, dtype):
    return entrywise(lambda a: a)(x)


@oracle
def real(x):
    return entrywise(lambda a: a)(x)


@oracle
def imag(x):
    return entrywise(lambda a: 0.0)(x)


# ---------------------------------------------------------------------------------------- indexing
def places(shape, index):
    """Yield for each entry of ``x[index]`` its index in x; returns the shape first."""
    axes, lengths, axis = [], [], 0
    for part in index:
        if part is None:
            lengths.append(1)
        elif isinstance(part, slice):
            axes.append((len(lengths), list(range(shape[axis]))[part]))
            lengths.append(len(axes[-1][1]))
            axis += 1
        else:
            axes.append((None, [list(range(shape[axis]))[part]]))
            axis += 1
    found = [
        (i, tuple(chosen[0 if k is None else i[k]] for k, chosen in axes))
        for i in np.ndindex(*lengths)
    ]
    return tuple(lengths), found


@oracle
def slice_(x, *, index):
    shape, found = places(x.shape, index)
    out = np.zeros(shape)
    for i, j in found:
        out[i] = x[j]
    return out


@oracle
def unslice(g, *, index, shape):
    out = np.zeros(shape)
    for i, j in places(shape, index)[1]:
        out[j] = g[i]
    return out


def taken(g_shape, i, axis, n):
    """Yield for each entry of ``take(x, i, axis)`` its index and its index in x."""
    i = np.asarray(i)
    for k in np.ndindex(*g_shape):
        at = int(i[k[axis : axis + i.ndim]])
        yield k, (*k[:axis], at + n if at < 0 else at, *k[axis + i.ndim :])


@oracle
def take(x, i, *, axis):
    out = np.zeros(x.shape[:axis] + np.shape(i) + x.shape[axis + 1 :])
    for k, j in taken(out.shape, i, axis, x.shape[axis]):
        out[k] = x[j]
    return out


@oracle
def scatter_add(g, i, *, axis, shape):
    out = np.zeros(shape)
    for k, j in taken(g.shape, i, axis, shape[axis]):
        out[j] += g[k]
    return out


def along(i, axis, n):
    for k in np.ndindex(*i.shape):
        yield k, (*k[:axis], int(i[k]) + (n if i[k] < 0 else 0), *k[axis + 1 :])


@oracle
def take_along_axis(x, i, *, axis):
    out = np.zeros(i.shape)
    for k, j in along(i, axis, x.shape[axis]):
        out[k] = x[j]
    return out


@oracle
def add_along_axis(g, i, *, axis, shape):
    out = np.zeros(shape)
    for k, j in along(i, axis, shape[axis]):
        out[j] += g[k]
    return out


@oracle
def argsort(x, *, axis):
    out = np.zeros(x.shape, int)
    for i in np.ndindex(*x.shape[:axis], *x.shape[axis + 1 :]):
        line = (*i[:axis], slice(None), *i[axis:])
        entries = list(x[line])
        out[line] = sorted(range(len(entries)), key=entries.__getitem__)
    return out


@oracle
def last_writer(i, *, length):
    out = np.full(length, -1)
    for k, at in enumerate(i):
        out[at] = k
    return out


# --------------------------------------------------------------------------------- products, diagonals
@oracle
def contract(x, y, *, spec):
    a, b, o = spec
    length = dict(zip(a + b, x.shape + y.shape, strict=True))
    out = np.zeros([length[c] for c in o])
    for i in itertools.product(*(range(n) for n in length.values())):
        at = dict(zip(length, i, strict=True))
        left, right = x[tuple(at[c] for c in a)], y[tuple(at[c] for c in b)]
        out[tuple(at[c] for c in o)] += left * right
    return out


def diagonal_places(m, n, k):
    return [(i, i + k) for i in range(m) if 0 <= i + k < n]


@oracle
def diagonal(x, *, k):
    found = diagonal_places(*x.shape[-2:], k)
    out = np.zeros((*x.shape[:-2], len(found)))
    for lead in np.ndindex(*x.shape[:-2]):
        for at, (i, j) in enumerate(found):
            out[(*lead, at)] = x[(*lead, i, j)]
    return out


@oracle
def embed_diagonal(g, *, k, shape):
    out = np.zeros(shape)
    for lead in np.ndindex(*shape[:-2]):
        for at, (i, j) in enumerate(diagonal_places(*shape[-2:], k)):
            out[(*lead, i, j)] = g[(*lead, at)]
    return out


# ---------------------------------------------------------------------------------- linear algebra
def each_matrix(f, result=lambda a, *rest: a.shape[-2:]):
    """Apply a function of matrices to each one of a stack."""

    def apply(*xs):
        lead = xs[0].shape[:-2]
        out = np.zeros((*lead, *result(*xs)))
        for i in np.ndindex(*lead):
            out[i] = f(*(x[i] for x in xs))
        return out

    return apply


def gauss(a, b):
    """Solve a x = b by elimination with row exchanges."""
    a, b = [list(map(float, r)) for r in a], [list(map(float, r)) for r in b]
    n = len(a)
    for c in range(n):
        top = max(range(c, n), key=lambda r: abs(a[r][c]))
        a[c], a[top], b[c], b[top] = a[top], a[c], b[top], b[c]
        for r in range(c + 1, n):
            f = a[r][c] / a[c][c]
            a[r] = [x - f * y for x, y in zip(a[r], a[c], strict=True)]
            b[r] = [x - f * y for x, y in zip(b[r], b[c], strict=True)]
    for c in reversed(range(n)):
        b[c] = [x / a[c][c] for x in b[c]]
        for r in range(c):
            b[r] = [x - a[r][c] * y for x, y in zip(b[r], b[c], strict=True)]
    return np.array(b)


def minor(a, i, j):
    return [[a[r][c] for c in range(len(a)) if c != j] for r in range(len(a)) if r != i]


def laplace(a):
    """Determinant by expansion along the first row."""
    if not len(a):
        return 1.0
    return math.fsum((-1) ** j * a[0][j] * laplace(minor(a, 0, j)) for j in range(len(a)))


def cofactor_matrix(a):
    n = range(len(a))
    return np.array([[(-1) ** (i + j) * laplace(minor(a, i, j)) for j in n] for i in n])


def banachiewicz(a):
    """Cholesky factor, row by row, of the lower triangle."""
    n = len(a)
    low = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            rest = a[i][j] - math.fsum(low[i, k] * low[j, k] for k in range(j))
            low[i, j] = math.sqrt(rest) if i == j else rest / low[j, j]
    return low


ORACLES["solve"] = each_matrix(gauss, lambda a, b: b.shape[-2:])
ORACLES["inv"] = each_matrix(lambda a: gauss(a, np.eye(len(a))))
ORACLES["det"] = each_matrix(laplace, lambda a: ())
ORACLES["cofactors"] = each_matrix(cofactor_matrix)
ORACLES["cholesky"] = each_matrix(banachiewicz)


@oracle
def slogdet(a):
    d = each_matrix(laplace, lambda a: ())(a)
    return entrywise(lambda x: math.copysign(1, x))(d), entrywise(lambda x: math.log(abs(x)))(d)
