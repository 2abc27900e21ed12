"""Sparse Jacobians and Hessians: the pattern, a colouring, as many derivatives as colours, and the entries read off."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from scipy import sparse

from nnmath_core._ext._autodiff import Tracer, dtype_of, jvp_door, shape_of, value_of, vjp_door
from nnmath_core._ext._tree import flatten, unflatten
from nnmath_core.autodiff.jacobian import chunks
from nnmath_core.autodiff.ops.conventions import beside
from nnmath_core.autodiff.transforms import grad, vmap
from nnmath_core.autodiff.tree import ravel_tree
from nnmath_core.checks import require_callable, require_positive_int, sentence
from nnmath_core.device import backend_of
from nnmath_core.errors import DomainError, GradientError, ShapeError, TraceError
from nnmath_core.program.coloring import column_coloring, star_coloring
from nnmath_core.program.sparsity import program_sparsity
from nnmath_core.program.stage import stage

__all__ = ["hessian_sparsity", "jacobian_sparsity", "sparse_hessian", "sparse_jacobian"]


def jacobian_sparsity(f: Callable[..., Any], x: Any, *args: Any) -> Any:
    """Where the Jacobian of a function can be nonzero, for all values of its argument.

    Parameters
    ----------
    f : callable
        ``f(x, *args)``, an array or a tree of arrays. Traceable without values: Python branches on them are an error.
    x : array or tree
        An example of the first argument; only structure, shapes and dtypes count.
    *args : array or tree
        Held fixed; the pattern holds for all values of those that are floating.

    Returns
    -------
    scipy.sparse.csr_array of bool, shape (m, n)
        Rows are the entries of the output, columns those of ``x``, both raveled in order. Every entry that can be
        nonzero is there; there may be more.

    Raises
    ------
    TraceError
        ``f`` branches on values.
    MemoryLimitError
        A contraction has more than fifty million products.

    Notes
    -----
    The program of ``f`` is walked once; the cost is about that of a product of its sparse matrices.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.jacobian_sparsity(lambda x: x[1:] * x[:-1], np.ones(3)).toarray().astype(int)
    array([[1, 1, 0],
           [0, 1, 1]])
    """
    require_callable("jacobian_sparsity", "f", f)
    return _sparsity(f, x, args)


def hessian_sparsity(f: Callable[..., Any], x: Any, *args: Any) -> Any:
    """Where the Hessian of a scalar function can be nonzero, for all values of its argument.

    Parameters
    ----------
    f : callable
        ``f(x, *args)``, a scalar. Traceable without values.
    x : array or tree
        An example of the first argument.
    *args : array or tree
        Held fixed; the pattern holds for all values of those that are floating.

    Returns
    -------
    scipy.sparse.csr_array of bool, shape (n, n)
        Symmetric. The pattern of the Jacobian of the gradient, which holds every entry that can be nonzero.

    Raises
    ------
    TraceError
        ``f`` branches on values.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.hessian_sparsity(lambda x: np.sum(x[1:] * x[:-1]), np.ones(3)).toarray().astype(int)
    array([[0, 1, 0],
           [1, 0, 1],
           [0, 1, 0]])
    """
    require_callable("hessian_sparsity", "f", f)
    pattern = _sparsity(grad(f), x, args)
    return _canonical(pattern + pattern.T)


def sparse_jacobian(
    f: Callable[..., Any],
    pattern: Any = None,
    *,
    mode: Literal["forward", "reverse"] | None = None,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Jacobian as a sparse matrix, for about as many derivatives as its fullest row has entries.

    Parameters
    ----------
    f : callable
        ``f(x, *args)``, an array or a tree of arrays; differentiated in ``x``.
    pattern : scipy.sparse array, shape (m, n), optional
        Where the Jacobian may be nonzero; explicit zeros count. By default `jacobian_sparsity` finds it at the first
        call, and again when shapes change.
    mode : {"forward", "reverse"}, optional
        Colour columns and use directional derivatives, or rows and pullbacks. By default whichever needs fewer.
    chunk_size : int, optional
        Derivatives that run at once; all of them by default.

    Returns
    -------
    callable
        ``J(x, *args)``: `scipy.sparse.csr_array` of shape (m, n), entries of the output against entries of ``x``, both
        raveled in order, with the pattern's entries in it, zeros included. On a CUDA device a
        `cupyx.scipy.sparse.csr_matrix`.

    Raises
    ------
    ShapeError
        ``pattern`` has another shape than the Jacobian.
    GradientError
        The pattern lacks an entry: along one random direction the matrix and the derivative differ.
    TraceError
        ``x`` is traced: `jacobian` can be traced.

    Notes
    -----
    Costs one derivative a colour, and one more to check the matrix along a random direction. A greedy colouring of the
    columns takes at least as many colours as the fullest row has entries, and for banded matrices no more.

    References
    ----------
    A. H. Gebremedhin, F. Manne, A. Pothen, "What color is your Jacobian? Graph coloring for computing derivatives",
    SIAM Review 47 (2005).

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> J = nm.sparse_jacobian(lambda x: x[1:] * x[:-1])
    >>> J(np.array([1.0, 2.0, 3.0])).toarray()
    array([[2., 1., 0.],
           [0., 3., 2.]])
    """
    who = "sparse_jacobian"
    require_callable(who, "f", f)
    _require_pattern(who, pattern)
    if chunk_size is not None:
        require_positive_int(who, "chunk_size", chunk_size)
    if mode not in (None, "forward", "reverse"):
        raise TypeError(sentence(who, "mode", "'forward', 'reverse' or None", repr(mode)))
    plans: dict[Any, Any] = {}

    def jacobian(x: Any, *args: Any) -> Any:
        flat, of_flat = _flattened(who, f, x, args)
        key = _signature((x, *args))
        if key not in plans:
            own = jacobian_sparsity(f, x, *args) if pattern is None else _canonical(pattern)
            plans[key] = (own, *_colored(own, mode))
        own, colors, forward = plans[key]
        n = shape_of(flat)[0]
        m = own.shape[0]
        if own.shape[1] != n:
            raise ShapeError(
                sentence(who, "pattern", f"{n} columns, the entries of `x`", own.shape)
            )
        rows, columns = _coordinates(own)
        if forward:
            derivatives = _along(lambda t: jvp_door(of_flat, (flat,), (t,), False, who)[1],
                                 colors, flat, chunk_size)  # fmt: skip
            _require_rows(who, derivatives, m)
            data = derivatives[beside(flat, colors[columns]), beside(flat, rows)]
        else:
            value, pull = vjp_door(of_flat, (flat,), False)
            _require_rows(who, value[None], m)
            derivatives = _along(lambda g: pull(g)[0], colors, value, chunk_size)
            data = derivatives[beside(flat, colors[rows]), beside(flat, columns)]
        matrix = _matrix(who, flat, data, own)
        t = _direction(flat)
        _require_product(who, matrix, t, jvp_door(of_flat, (flat,), (t,), False, who)[1])
        return matrix

    return jacobian


def sparse_hessian(
    f: Callable[..., Any], pattern: Any = None, *, chunk_size: int | None = None
) -> Callable[..., Any]:
    """Hessian as a sparse matrix, for as many Hessian-vector products as a star colouring has colours.

    Parameters
    ----------
    f : callable
        ``f(x, *args)``, a scalar; differentiated in ``x``.
    pattern : scipy.sparse array, shape (n, n), optional
        Where the Hessian may be nonzero, symmetric; explicit zeros count. By default `hessian_sparsity` finds it at the
        first call, and again when shapes change.
    chunk_size : int, optional
        Products that run at once; all of them by default.

    Returns
    -------
    callable
        ``H(x, *args)``: `scipy.sparse.csr_array` of shape (n, n) on the entries of ``x`` raveled in order, exactly
        symmetric. On a CUDA device a `cupyx.scipy.sparse.csr_matrix`.

    Raises
    ------
    ShapeError, DomainError
        ``pattern`` has another shape, or is not symmetric.
    GradientError
        The pattern lacks an entry: along one random direction the matrix and the product differ.
    TraceError
        ``x`` is traced: `hessian` can be traced.

    Notes
    -----
    Costs one Hessian-vector product a colour, three for a tridiagonal matrix and two for an arrow, whatever its size;
    and one more to check the matrix along a random direction.

    References
    ----------
    A. H. Gebremedhin, F. Manne, A. Pothen, "What color is your Jacobian? Graph coloring for computing derivatives",
    SIAM Review 47 (2005), section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> H = nm.sparse_hessian(lambda x: np.sum(x[0] * x[1:] ** 2))
    >>> H(np.array([1.0, 2.0, 3.0])).toarray()
    array([[0., 4., 6.],
           [4., 2., 0.],
           [6., 0., 2.]])
    """
    who = "sparse_hessian"
    require_callable(who, "f", f)
    _require_pattern(who, pattern, symmetric=True)
    if chunk_size is not None:
        require_positive_int(who, "chunk_size", chunk_size)
    slope = grad(f)
    plans: dict[Any, Any] = {}

    def hessian(x: Any, *args: Any) -> Any:
        flat, of_flat = _flattened(who, slope, x, args)
        key = _signature((x, *args))
        if key not in plans:
            own = hessian_sparsity(f, x, *args) if pattern is None else _canonical(pattern)
            colors = star_coloring(own)
            plans[key] = (own, colors, *_places(own, colors))
        own, colors, at, of = plans[key]
        if own.shape[0] != shape_of(flat)[0]:
            wanted = f"{shape_of(flat)[0]} rows, the entries of `x`"
            raise ShapeError(sentence(who, "pattern", wanted, own.shape))

        def product(t: Any) -> Any:
            return jvp_door(of_flat, (flat,), (t,), False, who)[1]

        derivatives = _along(product, colors, flat, chunk_size)
        data = derivatives[beside(flat, of), beside(flat, at)]
        matrix = _matrix(who, flat, data, own)
        t = _direction(flat)
        _require_product(who, matrix, t, product(t))
        return matrix

    return hessian


# ------------------------------------------------------------------------------------------------ patterns, colours
def _sparsity(f: Callable[..., Any], x: Any, args: tuple[Any, ...]) -> Any:
    """The pattern of f in x: floating arguments have any values, integers (indices, say) have these."""
    variables, x_def = flatten(x, True)
    leaves, d = flatten(args)
    free = [i for i, v in enumerate(leaves) if _is_float(v)]

    def staged(variables: list[Any], values: list[Any]) -> Any:
        full = list(leaves)
        for i, v in zip(free, values, strict=True):
            full[i] = v
        return f(unflatten(x_def, variables), *unflatten(d, full))

    pattern = program_sparsity(stage(staged, variables, [leaves[i] for i in free]))
    return _canonical(pattern[:, : sum(math.prod(shape_of(v)) for v in variables)])


def _is_float(v: Any) -> bool:
    return dtype_of(v).kind in "fc"


def _require_pattern(who: str, pattern: Any, *, symmetric: bool = False) -> None:
    if pattern is None:
        return
    if not sparse.issparse(pattern):
        wanted = "a scipy.sparse array"
        advice = "Write scipy.sparse.csr_array(pattern)."
        raise TypeError(sentence(who, "pattern", wanted, type(pattern).__name__, advice))
    if symmetric:
        if pattern.shape[0] != pattern.shape[1]:
            raise ShapeError(sentence(who, "pattern", "a square array", f"shape {pattern.shape}"))
        lone = _canonical(pattern) != _canonical(pattern).T
        if lone.nnz:
            i, j = (int(c[0]) for c in lone.tocoo().coords)
            raise DomainError(
                sentence(
                    who, "pattern", "symmetric", f"only one of the entries ({i}, {j}), ({j}, {i})"
                )
            )


def _canonical(pattern: Any) -> Any:
    """A pattern as sorted rows of booleans, explicit zeros among the entries."""
    coo = sparse.coo_array(pattern)
    return sparse.csr_array((np.ones(coo.nnz, bool), (coo.row, coo.col)), shape=coo.shape)


def _signature(args: Any) -> Any:
    """What a pattern depends on: shapes, dtypes, and the values of what is not floating."""
    leaves, d = flatten(args)
    return (
        str(d),
        *(
            (shape_of(v), dtype_of(v), None if _is_float(v) else np.asarray(v).tobytes())
            for v in leaves
        ),
    )


def _coordinates(pattern: Any) -> tuple[np.ndarray, np.ndarray]:
    rows = np.repeat(np.arange(pattern.shape[0]), np.diff(pattern.indptr))
    return rows, pattern.indices


def _colored(pattern: Any, mode: str | None) -> tuple[np.ndarray, bool]:
    """Colours of the columns or of the rows; the fullest row, and column, are what each takes at least."""
    if mode is None:
        fullest_row = int(np.diff(pattern.indptr).max(initial=0))
        fullest_column = int(np.bincount(pattern.indices, minlength=1).max(initial=0))
        mode = "forward" if fullest_row <= 2 * fullest_column else "reverse"
    forward = mode == "forward"
    return column_coloring(pattern if forward else pattern.T), forward


def _places(pattern: Any, colors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each entry (i, j) the entry and the colour of the derivative in which it stands alone.

    That of i's row along the colour of j, unless another neighbour of i has that colour; then that of j's row along the
    colour of i, where a star colouring leaves it alone.
    """
    i, j = _coordinates(pattern)
    n = max(pattern.shape[0], 1)
    _, inverse, counts = np.unique(i * n + colors[j], return_inverse=True, return_counts=True)
    alone = counts[inverse] == 1
    row, color = np.where(alone, i, j), np.where(alone, colors[j], colors[i])
    # both halves from one place, so that the matrix is symmetric to the bit
    upper = np.where(i <= j, np.arange(len(i)), np.searchsorted(i * n + j, j * n + i))
    return row[upper], color[upper]


# ------------------------------------------------------------------------------------------------ derivatives
def _flattened(who: str, f: Callable[..., Any], x: Any, args: tuple[Any, ...]) -> Any:
    if any(isinstance(v, Tracer) for v in flatten((x, args))[0]):
        raise TraceError(
            f"{who}: the arguments are traced, and a sparse matrix holds no traced values. Use nm.jacobian or "
            "nm.hessian."
        )
    flat, unravel = ravel_tree(x)
    return flat, lambda v: ravel_tree(f(unravel(v), *args))[0]


def _along(product: Callable[[Any], Any], colors: np.ndarray, like: Any, chunk: int | None) -> Any:
    """The derivatives along the sum of the columns (or rows) of each colour, one a row."""
    count = int(colors.max(initial=-1)) + 1
    n = shape_of(like)[0]
    parts = []
    for low, high in chunks(count, chunk):
        seeds = (colors[None] == np.arange(low, high)[:, None]).astype(dtype_of(like))
        if high == low:
            seeds = np.zeros((1, n), dtype_of(like))
        parts.append(vmap(product)(beside(like, seeds)))
    xp = backend_of(value_of(like)).xp
    return parts[0] if len(parts) == 1 else xp.concatenate(parts)


def _direction(like: Any) -> Any:
    """A random vector, the same at every call."""
    t = np.random.default_rng(0).standard_normal(shape_of(like)[0])
    return beside(like, t.astype(dtype_of(like)))


def _require_rows(who: str, derivatives: Any, m: int) -> None:
    if shape_of(derivatives)[1] != m:
        wanted = f"{shape_of(derivatives)[1]} rows, the entries of the output"
        raise ShapeError(sentence(who, "pattern", wanted, f"{m}"))


def _matrix(who: str, like: Any, data: Any, pattern: Any) -> Any:
    if isinstance(data, Tracer):
        raise TraceError(
            f"{who}: the function closes over a traced value, and a sparse matrix holds no traced values. Use "
            "nm.jacobian or nm.hessian."
        )
    if isinstance(data, np.ndarray):
        return sparse.csr_array((data, pattern.indices, pattern.indptr), shape=pattern.shape)
    from cupyx.scipy.sparse import csr_matrix  # there is no device array without CuPy

    be = backend_of(like)
    parts = (data, be.from_host(pattern.indices), be.from_host(pattern.indptr))
    return csr_matrix(parts, shape=pattern.shape)


def _require_product(who: str, matrix: Any, t: Any, want: Any) -> None:
    """Refuse a pattern that lacks an entry: then the product with a random vector is wrong in its row."""
    xp = backend_of(t).xp
    off = xp.abs(matrix @ t - want)
    scale = float(xp.max(xp.abs(want))) if want.size else 0.0
    eps = float(np.finfo(dtype_of(t)).eps)
    worst = int(xp.argmax(off)) if off.size else 0
    if off.size and not float(off[worst]) <= eps ** (2 / 3) * max(
        scale, np.finfo(dtype_of(t)).tiny
    ):
        raise GradientError(
            f"{who}: the pattern lacks an entry in row {worst}: along a random direction the matrix gives "
            f"{float((matrix @ t)[worst]):.6g}, the derivative is {float(want[worst]):.6g}. Leave `pattern` out to "
            f"have it found; after a change of arrays that the function closes over call {who} again."
        )
