"""Orthogonal initialisers: weights that change no length, for layers and for convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from nnmath_core.checks import require_positive_int, require_rng, sentence
from nnmath_core.errors import ShapeError
from nnmath_core.nn.gain import Gain, number_of
from nnmath_core.nn.variance_scaling import matrix_shape, placed
from nnmath_core.typing import Array, Rng

__all__ = ["delta_orthogonal", "haar_matrix", "orthogonal"]


def orthogonal(
    shape: Sequence[int],
    *,
    gain: float | Gain = 1.0,
    rng: Rng = None,
    dtype: DTypeLike = np.float64,
) -> Array:
    r"""Orthogonal weights, uniformly distributed (Haar's measure).

    .. math:: W^T W = g^2 I \quad (in \ge out), \qquad W W^T = g^2 I \quad (in \le out)

    Parameters
    ----------
    shape : sequence of int, (..., in, out)
        Lengths >= 1. A kernel (kh, kw, in, out) is the matrix (kh kw in, out).
    gain : float or Gain, default 1
        All singular values.
    rng : None, int or numpy.random.Generator
        Where the numbers come from; drawn on the host, the same in both dtypes up to rounding.
    dtype : dtype, default float64
        float32 or float64.

    Returns
    -------
    array, shape ``shape``
        On the default device.

    Raises
    ------
    ShapeError
        There are fewer than two axes.
    DomainError, DtypeError
        A length, ``gain`` or ``rng`` is not as above, or ``dtype`` is neither of the two.

    Notes
    -----
    The factor Q of normal numbers, each column multiplied by the sign of R's diagonal: without that the signs are those
    that Householder's algorithm prefers, and eigenvalues keep away from 1. A matrix that is not square is the first
    columns, or rows, of a square one.

    All singular values of a product of square orthogonal matrices are 1, of however many: a deep linear network
    neither loses nor amplifies any direction, where normal weights of the same variance spread the squared singular
    values of L layers over (0, (L + 1)^(L + 1) / L^L).

    A kernel is orthogonal *as that matrix*, as PyTorch's and JAX's are; the convolution is no isometry then. Take
    `delta_orthogonal` for that.

    Cost: ``2 m n**2`` for the longer side m and the shorter n.

    References
    ----------
    Mezzadri, "How to generate random matrices from the classical compact groups", 2007. Saxe, McClelland & Ganguli,
    "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks", 2014.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> w = nm.nn.orthogonal((5, 3), rng=0)
    >>> bool(np.allclose(w.T @ w, np.eye(3)))
    True
    """
    lengths = matrix_shape("orthogonal", shape)
    factor = number_of("orthogonal", gain)
    rows = math.prod(lengths[:-1])
    w = factor * haar_matrix(require_rng("orthogonal", rng), rows, lengths[-1])
    return placed("orthogonal", w.reshape(lengths), dtype)


def delta_orthogonal(
    shape: Sequence[int],
    *,
    gain: float | Gain = 1.0,
    groups: int = 1,
    rng: Rng = None,
    dtype: DTypeLike = np.float64,
) -> Array:
    r"""Kernels of zeros but for the centre, which is orthogonal: convolutions that change no length.

    .. math:: W_k = g \, Q \, \delta_{k, centre}, \qquad Q Q^T = I

    Parameters
    ----------
    shape : sequence of int, (k, in / groups, out), (kh, kw, in / groups, out), ...
        Lengths >= 1, and at least as many outputs as inputs.
    gain : float or Gain, default 1
        All singular values of the centre.
    groups : int, default 1
        That of the convolution: each group has an orthogonal matrix of its own.
    rng : None, int or numpy.random.Generator
        Where the numbers come from; drawn on the host, the same in both dtypes up to rounding.
    dtype : dtype, default float64
        float32 or float64.

    Returns
    -------
    array, shape ``shape``
        On the default device.

    Raises
    ------
    ShapeError
        There are fewer than three axes, fewer outputs than inputs, or ``groups`` does not divide the outputs.
    DomainError, DtypeError
        A length, an option or ``rng`` is not as above, or ``dtype`` is neither of the two.

    Notes
    -----
    With ``stride=1`` and ``padding="same"`` the convolution is an isometry: ``|conv(x, w)| = gain |x|`` for images of
    any size, the edges included. The centre is entry ``(k - 1) // 2`` of each axis, on which "same" puts the position
    itself, for even lengths too. Q is uniform in Haar's sense, as that of `orthogonal`.

    References
    ----------
    Xiao, Bahri, Sohl-Dickstein, Schoenholz & Pennington, "Dynamical isometry and a mean field theory of CNNs", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> w = nm.nn.delta_orthogonal((3, 3, 4, 6), rng=0)
    >>> x = np.random.default_rng(1).normal(size=(8, 8, 4))
    >>> y = nm.nn.conv(x, w, padding="same")
    >>> bool(np.isclose(np.linalg.norm(y), np.linalg.norm(x)))
    True
    """
    who = "delta_orthogonal"
    wanted = "a tuple (*window, in / groups, out)"
    lengths = matrix_shape(who, shape, wanted)
    if len(lengths) < 3:
        advice = "A weight without a window is `orthogonal`."
        raise ShapeError(sentence(who, "shape", wanted, str(lengths), advice))
    *window, ins, outs = lengths
    groups = require_positive_int(who, "groups", groups)
    if outs % groups:
        raise ShapeError(sentence(who, "groups", f"a divisor of the {outs} outputs", str(groups)))
    each = outs // groups
    if each < ins:
        of = " in each group" if groups > 1 else ""
        wanted = f"one with as many outputs as inputs or more{of}"
        advice = "Fewer outputs cannot keep all lengths."
        raise ShapeError(sentence(who, "shape", wanted, str(lengths), advice))
    factor, generator = number_of(who, gain), require_rng(who, rng)
    w = np.zeros(lengths)
    centre = tuple((k - 1) // 2 for k in window)
    w[centre] = factor * np.hstack([haar_matrix(generator, ins, each) for _ in range(groups)])
    return placed(who, w, dtype)


def haar_matrix(generator: np.random.Generator, rows: int, columns: int) -> Array:
    """Return orthonormal columns, or rows where these are fewer, uniformly distributed."""
    long, short = max(rows, columns), min(rows, columns)
    q, r = np.linalg.qr(generator.standard_normal((long, short)))
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return q if rows >= columns else q.T
