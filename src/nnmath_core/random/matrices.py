"""Random vectors with a covariance, and random orthogonal matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import shape_of
from nnmath_core.autodiff.ops.compare import less
from nnmath_core.autodiff.ops.contract import matmul
from nnmath_core.autodiff.ops.select import where
from nnmath_core.autodiff.ops.shape import expand_dims
from nnmath_core.checks import require_int
from nnmath_core.device import entering
from nnmath_core.errors import ShapeError
from nnmath_core.numpy.linalg import cholesky, diagonal, qr
from nnmath_core.random.domains import REAL, require_parameter
from nnmath_core.random.draws import (
    as_parameter,
    dtype_of_draw,
    normals,
    require_key,
    shape_of_draw,
)

__all__ = ["multivariate_normal", "orthogonal"]


@entering
def multivariate_normal(key: Any, mean: Any, cov: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Normal vectors with a mean and a covariance.

    Parameters
    ----------
    key : array, shape (2,), uint32
    mean : array, shape (..., n)
        Differentiable.
    cov : array, shape (..., n, n)
        Positive definite. Differentiable.
    shape : int or tuple of int, optional
        Without the last axis; None is what the leading axes of the parameters broadcast to.
    dtype : {float32, float64}, optional
        None is that of the parameters.

    Returns
    -------
    array, shape ``(*shape, n)``
        ``mean + L z`` with the Cholesky factor L of the covariance and normal numbers z.

    Raises
    ------
    ShapeError
        The parameters do not belong together.
    numpy.linalg.LinAlgError
        A covariance is not positive definite.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.random.multivariate_normal(nm.random.key(0), np.zeros(2), np.eye(2), 5).shape
    (5, 2)
    """
    key = require_key("multivariate_normal", key)
    require_parameter("multivariate_normal", "mean", mean, REAL)
    require_parameter("multivariate_normal", "cov", cov, REAL)
    dtype = dtype_of_draw("multivariate_normal", dtype, mean, cov)
    mean, cov = as_parameter(mean, dtype), as_parameter(cov, dtype)
    sm, sc = shape_of(mean), shape_of(cov)
    if not sm or len(sc) < 2 or sc[-2:] != (sm[-1], sm[-1]):
        raise ShapeError(
            f"multivariate_normal: `mean` and `cov` must have shapes (..., n) and (..., n, n), got {sm} and {sc}."
        )
    lead = np.broadcast_shapes(sm[:-1], sc[:-2])
    if shape is not None:
        want = shape_of_draw("multivariate_normal", shape)
        try:
            fits = np.broadcast_shapes(want, lead) == want
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(
                f"multivariate_normal: `shape` must be one to which {lead}, the leading axes of the parameters, "
                f"broadcast, got {want}."
            )
        lead = want
    z = normals(key, (*lead, sm[-1]), dtype)
    return mean + matmul(cholesky(cov), expand_dims(z, -1))[..., 0]


@entering
def orthogonal(key: Any, n: int, shape: Any = (), dtype: Any = np.float64) -> Any:
    """Orthogonal matrices, uniformly distributed (Haar's measure).

    Parameters
    ----------
    key : array, shape (2,), uint32
    n : int
        The number of rows and columns.
    shape : int or tuple of int, default ()
        Of the stack.
    dtype : {float32, float64}, default float64

    Returns
    -------
    array, shape ``(*shape, n, n)``

    Notes
    -----
    The factor Q of normal matrices, its columns turned so that R has a positive diagonal: only then is it uniform.

    References
    ----------
    Mezzadri, "How to generate random matrices from the classical compact groups", 2007.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> q = nm.random.orthogonal(nm.random.key(0), 3)
    >>> bool(np.allclose(q @ q.T, np.eye(3)))
    True
    """
    key = require_key("orthogonal", key)
    n = require_int("orthogonal", "n", n, minimum=1)
    dtype = dtype_of_draw("orthogonal", dtype)
    q, r = qr(normals(key, (*shape_of_draw("orthogonal", shape), n, n), dtype))
    return where(less(diagonal(r), 0)[..., None, :], -q, q)
