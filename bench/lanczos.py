"""Extreme eigenvalues of the Hessian of a trained network: ours, SciPy's, and the products alone.

A 64-64-10 network (4810 parameters) on 1437 rows in ten classes, as many as the training part of
the handwritten digits, after training: a few outliers, and a bulk at zero with a negative end. Ten
largest and five smallest eigenvalues, all to residuals of 1e-10 of the largest.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from harness import OURS, Calls, Group, given

TITLE = "ten largest and five smallest eigenvalues of a Hessian"

HIGH, LOW, TOL = 10, 5, 1e-10


def groups(*, quick: bool) -> list[Group]:
    """Return one group; a quick run has a small network."""
    sizes, rows, epochs = ((64, 4, 10), 150, 2) if quick else ((64, 64, 10), 1437, 60)
    names = [
        "as many products of nm.curvature.HessianOperator",
        "nm.solvers.lanczos, confirm=False",
        "nm.solvers.lanczos",
        "scipy eigsh of the same operator, LA and SA",
    ]

    def calls(nm: Any) -> Calls:
        H = hessian(nm, sizes, rows, epochs)
        vector = np.random.default_rng(0).standard_normal(H.shape[0])
        options = {"k": (HIGH, LOW), "which": "BE", "tol": TOL}
        once = nm.solvers.lanczos(H, **options, rng=0, confirm=False)

        def products() -> None:
            for _ in range(once.products):
                H @ vector

        def lanczos(confirm: bool) -> np.ndarray:
            return nm.solvers.lanczos(H, **options, rng=0, confirm=confirm).value

        def scipy() -> np.ndarray:
            from scipy.sparse.linalg import eigsh

            ends = []
            for which, k, part in [("SA", LOW, once.value[:LOW]), ("LA", HIGH, once.value[LOW:])]:
                tol = TOL * once.norm / np.abs(part).max()  # SciPy's is relative to each value
                found = eigsh(
                    H,
                    k=k,
                    which=which,
                    tol=tol,
                    v0=vector,
                    return_eigenvectors=False,
                    maxiter=10**5,
                )
                ends.append(np.sort(found))
            return np.concatenate(ends)

        return [products, lambda: lanczos(False), lambda: lanczos(True), scipy]

    variants = given(OURS, names, calls)
    variants[0] = dataclasses.replace(variants[0], answer=None)  # products are no eigenvalues
    name = f"{'-'.join(map(str, sizes))} network, {rows} rows, float64"
    return [Group(name, variants, tolerance=2 * TOL)]


def hessian(nm: Any, sizes: tuple[int, ...], rows: int, epochs: int) -> Any:
    """Return the Hessian operator where training stopped."""
    rng = np.random.default_rng(0)
    y = rng.integers(10, size=rows)
    x = np.clip(rng.random((10, 64))[y] + 0.4 * rng.standard_normal((rows, 64)), 0, 1)

    def loss(model: Any, x: np.ndarray, y: np.ndarray) -> Any:
        return nm.nn.softmax_cross_entropy(model(x), y).mean()

    model = nm.nn.MLP.init(sizes, activation=nm.nn.relu, rng=0)
    optimizer, slope = nm.optim.adam(1e-3), nm.grad(loss)
    state = optimizer.init(model)
    for epoch in range(epochs):
        for xb, yb in nm.batches((x, y), size=32, rng=epoch):
            model, state = optimizer.step(model, slope(model, xb, yb), state)
    return nm.curvature.HessianOperator(loss, model, x, y)
