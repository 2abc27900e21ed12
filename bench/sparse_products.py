"""Gradients of a loss of a sparse matrix times a dense one: dense, ours, PyTorch's CSR.

By hand means SciPy's two products and the product sampled on the pattern by gathered rows. The
gradient of PyTorch by a CSR matrix is a dense matrix, ours has the pattern.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from harness import OURS, Calls, Group, Variant, given

TITLE = "sparse times dense: gradients of sum((A @ x)**2) by A's entries and x"


def groups(*, quick: bool) -> list[Group]:
    """Return one group a size; a quick run has a small one."""
    sizes = [(200, 0.05, 8)] if quick else [(2000, 0.01, 1), (2000, 0.01, 64), (20_000, 5e-4, 16)]
    return [compared(*size) for size in sizes]


def joined(results: Any) -> np.ndarray:
    """Return the gradients of the entries and of x as one vector."""
    a, x = results
    return np.concatenate(
        [(a if isinstance(a, np.ndarray) else a.data).ravel(), np.asarray(x).ravel()]
    )


def compared(n: int, density: float, columns: int) -> Group:
    """Compare the gradients for one matrix."""
    rng = np.random.default_rng(0)
    matrix = scipy.sparse.random_array((n, n), density=density, format="csr", rng=rng)
    x = rng.standard_normal((n, columns))
    rows = np.repeat(np.arange(n), np.diff(matrix.indptr))

    def by_hand() -> Any:
        g = 2.0 * (matrix @ x)
        return np.einsum("ep,ep->e", g[rows], x[matrix.indices]), matrix.T @ g

    def dense() -> Any:
        full = matrix.toarray()
        g = 2.0 * (full @ x)
        return (g @ x.T)[rows, matrix.indices], full.T @ g

    def ours(nm: Any) -> Calls:
        gradient = nm.grad(lambda A, x: ((A @ x) ** 2).sum(), argnums=(0, 1))
        return [lambda: gradient(matrix, x)]

    def torch_calls(torch: Any) -> Calls:
        torch.set_num_threads(1)
        parts = [torch.from_numpy(v.astype(np.int64)) for v in (matrix.indptr, matrix.indices)]
        a = torch.sparse_csr_tensor(
            *parts, torch.from_numpy(matrix.data), (n, n), requires_grad=True
        )
        leaf = torch.from_numpy(x.copy()).requires_grad_()

        def call() -> Any:
            return torch.autograd.grad(((a @ leaf) ** 2).sum(), (a, leaf))

        return [call]

    def entries(results: Any) -> np.ndarray:  # PyTorch's gradient is a dense matrix
        a, x = results
        return joined((a.to_dense().numpy()[rows, matrix.indices], x))

    return Group(
        f"{n:,} x {n:,}, {matrix.nnz:,} entries, {columns} columns",
        [
            Variant("SciPy by hand", by_hand, answer=joined),
            *([Variant("dense NumPy by hand", dense, answer=joined)] if n <= 2000 else []),
            *given(OURS, ["nm.grad"], ours, limit=2.0, answer=joined),
            *given("torch", ["torch eager, CSR"], torch_calls, answer=entries),
        ],
        tolerance=1e-12,  # sums of at most a few hundred products
    )
