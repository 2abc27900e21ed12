"""Iterations that peers run over their products: SciPy's ARPACK, and Lanczos by NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from registry import Options, Work


def eigsh(n: int, product: Any, options: Options) -> Work:
    """Return SciPy's ARPACK at the tolerance of the row."""
    from scipy.sparse import linalg

    start = np.random.default_rng(0).standard_normal(n).astype("f4")
    operator = linalg.LinearOperator((n, n), matvec=product, dtype=np.float32)

    def run() -> Any:
        return np.sort(
            linalg.eigsh(
                operator, options["k"], which="LA", tol=1e-3, v0=start, return_eigenvectors=False
            )
        )

    return Work(run, [run()])


def lanczos(n: int, product: Any, options: Options) -> Work:
    """Return Lanczos with full reorthogonalisation in one pass, by NumPy."""
    m = options["steps"]
    start = np.random.default_rng(0).standard_normal(n).astype("f4")

    def run() -> Any:
        basis = np.zeros((m + 1, n), "f4")
        alpha, beta = np.zeros(m), np.zeros(m)
        basis[0] = start / np.linalg.norm(start)
        for j in range(m):
            w = np.array(product(basis[j]))
            alpha[j] = w @ basis[j]
            w -= basis[: j + 1].T @ (basis[: j + 1] @ w)
            beta[j] = np.linalg.norm(w)
            basis[j + 1] = w / np.float32(beta[j])
        return np.linalg.eigvalsh(np.diag(alpha) + np.diag(beta[:-1], 1) + np.diag(beta[:-1], -1))[
            -1:
        ]

    return Work(run, [run()])
