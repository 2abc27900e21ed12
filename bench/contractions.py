"""einsum of typical patterns, value alone: NumPy with and without a path, opt_einsum, PyTorch, ours.

The reference is ``np.einsum(..., optimize=True)``: an order of products, each by BLAS. The bound is
that ours is not slower, in the value or through the plan that it keeps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import OURS, Calls, Group, Variant, given

TITLE = "einsum"

PATTERNS = [
    ("a product of matrices", "ij,jk->ik", [(64, 64), (64, 64)]),
    ("a batch of products", "bij,bjk->bik", [(32, 64, 64), (32, 64, 64)]),
    ("attention scores", "bqhd,bkhd->bhqk", [(4, 64, 4, 32), (4, 64, 4, 32)]),
    ("attention outputs", "bhqk,bkhd->bqhd", [(4, 4, 64, 64), (4, 64, 4, 32)]),
    ("a dense layer over a sequence", "btd,de->bte", [(16, 50, 64), (64, 64)]),
    ("two contracted axes", "abcd,ebfd->aecf", [(8, 8, 8, 8), (8, 8, 8, 8)]),
    ("a batch of dot products", "bi,bi->b", [(100_000, 3), (100_000, 3)]),
    ("a batch of dot products, last axis first", "ib,ib->b", [(3, 100_000), (3, 100_000)]),
    ("a batch of small matrices and vectors", "bij,bj->bi", [(10_000, 3, 3), (10_000, 3)]),
    ("a bilinear form", "bi,ijk,bk->bj", [(32, 40), (40, 20, 40), (32, 40)]),
    ("a chain that ends in a vector", "ab,bc,cd,de,e->a", [(200, 200)] * 4 + [(200,)]),
    ("a tensor network", "ea,fb,abcd,gc,hd->efgh", [(10, 10), (10, 10), (10,) * 4, (10, 10), (10, 10)]),
    ("a small product", "ij,j->i", [(3, 3), (3,)]),
]  # fmt: skip


def groups(*, quick: bool) -> list[Group]:
    """Return one group a pattern; a quick run has the first and the last."""
    chosen = (PATTERNS[0], PATTERNS[-1]) if quick else PATTERNS
    return [compared(*pattern) for pattern in chosen]


def compared(name: str, text: str, shapes: list[tuple[int, ...]]) -> Group:
    """Compare the value of one pattern."""
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal(s) for s in shapes]

    def ours(nm: Any) -> Calls:
        return [lambda: nm.numpy.einsum(text, *xs)]

    def opt_einsum(module: Any) -> Calls:
        return [lambda: module.contract(text, *xs)]

    def torch_calls(torch: Any) -> Calls:
        torch.set_num_threads(1)
        ts = [torch.from_numpy(x) for x in xs]
        return [lambda: torch.einsum(text, *ts)]

    loop = [] if len(xs) > 2 else [Variant("np.einsum, no path", lambda: np.einsum(text, *xs))]
    return Group(
        f"{name}, {text}",
        [
            Variant("np.einsum, path", lambda: np.einsum(text, *xs, optimize=True)),
            *loop,
            *given(OURS, ["nm.numpy.einsum"], ours, limit=1.1),
            *given("opt_einsum", ["opt_einsum and NumPy"], opt_einsum),
            *given("torch", ["torch.einsum"], torch_calls),
        ],
        tolerance=1e-12,  # sums of up to 1,600 products in another order
    )
