"""Colourings of sparsity patterns: which columns may be differentiated together.

Columns of one colour have no row in common, so one directional derivative along their sum holds the entries of all of
them. For symmetric matrices a star colouring does with fewer: every path on four vertices has at least three colours,
and then each entry stands alone in one of its two places.

Source: A. H. Gebremedhin, F. Manne, A. Pothen, "What color is your Jacobian? Graph coloring for computing derivatives",
SIAM Review 47 (2005), sections 3.2 and 4.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

__all__ = ["column_coloring", "star_coloring"]


def column_coloring(pattern: Any) -> np.ndarray:
    """Colour columns so that no two of one colour meet in a row; greedy, columns with many neighbours first.

    Parameters
    ----------
    pattern : scipy.sparse array, shape (m, n)

    Returns
    -------
    array of int, shape (n,)
        Colours 0, 1, ...
    """
    by_row = sparse.csr_array(pattern)
    by_column = sparse.csc_array(pattern)
    n = by_row.shape[1]
    in_row = np.diff(by_row.indptr)
    weight = np.add.reduceat(
        np.append(in_row[by_column.indices], 0), np.minimum(by_column.indptr[:-1], by_column.nnz)
    )
    weight[np.diff(by_column.indptr) == 0] = 0
    colors = np.full(n, -1)
    forbidden = np.full(n + 1, -1)
    used = 0
    for j in np.argsort(-weight, kind="stable"):
        for i in by_column.indices[by_column.indptr[j] : by_column.indptr[j + 1]]:
            forbidden[colors[by_row.indices[by_row.indptr[i] : by_row.indptr[i + 1]]]] = j
        colors[j] = _smallest(forbidden, j, used)
        used = max(used, colors[j] + 1)
    return colors


def star_coloring(pattern: Any) -> np.ndarray:
    """Colour the vertices of a symmetric pattern so that every path on four of them has three colours; greedy.

    Parameters
    ----------
    pattern : scipy.sparse array, shape (n, n)
        Symmetric; its diagonal does not count.

    Returns
    -------
    array of int, shape (n,)
        Colours 0, 1, ...; neighbours differ.
    """
    i, j = sparse.coo_array(pattern).coords
    off = i != j
    n = pattern.shape[0]
    graph = sparse.csr_array((np.ones(int(off.sum()), bool), (i[off], j[off])), shape=(n, n))
    near = [graph.indices[graph.indptr[i] : graph.indptr[i + 1]] for i in range(n)]
    colors = np.full(n, -1)
    forbidden = np.full(n + 1, -1)
    used = 0
    for v in np.argsort(-np.diff(graph.indptr), kind="stable"):
        for w in near[v]:
            if colors[w] < 0:  # w may take any colour later: no two of its neighbours may share one
                forbidden[colors[near[w]]] = v
                continue
            forbidden[colors[w]] = v
            for x in near[w]:
                if colors[x] >= 0 and np.any(colors[near[x][near[x] != w]] == colors[w]):
                    forbidden[colors[x]] = v  # else v, w, x, y would have two colours
        colors[v] = _smallest(forbidden, v, used)
        used = max(used, colors[v] + 1)
    return colors


def _smallest(forbidden: np.ndarray, mark: int, used: int) -> int:
    """The smallest colour that is not marked; colour ``used`` is new. The last entry belongs to -1, no colour."""
    return int(np.argmax(forbidden[: used + 1] != mark))
