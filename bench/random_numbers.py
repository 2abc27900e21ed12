"""Random numbers of one key: NumPy's Philox and PCG64, the kernels, JAX and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Calls, Group, Variant, given

TITLE = "Random numbers: uniform and normal"

DOOR = "nnmath_core._ext._random"


def groups(*, quick: bool) -> list[Group]:
    """Return one group a law, size and dtype: a mini-batch and more than a cache."""
    sizes = (1000,) if quick else (1000, 1_000_000)
    return [
        one(law, n, dtype)
        for law in ("uniform", "normal")
        for n in sizes
        for dtype in (np.float32, np.float64)
    ]


def one(law: str, n: int, dtype: type) -> Group:
    """Compare ways to make ``n`` numbers; NumPy fills an array that exists, as the kernel does."""
    out = np.empty(n, dtype)

    def of_numpy(bits: type) -> Any:
        rng = np.random.Generator(bits(0))
        fill = rng.random if law == "uniform" else rng.standard_normal
        return lambda: fill(n, dtype, out)

    def kernel(door: Any) -> Calls:
        rows, keys = out.reshape(1, n), np.array([[0, 0]], np.uint32)
        if law == "uniform":
            return [lambda: door.random_uniform(rows, keys)]
        return [lambda: door.random_normal(rows, keys)]

    def torch_calls(torch: Any) -> Calls:
        torch.set_num_threads(1)
        x = torch.from_numpy(np.empty(n, dtype))
        return [x.uniform_ if law == "uniform" else x.normal_]

    def jax_calls(jax: Any) -> Calls:
        draw = jax.jit(lambda key: getattr(jax.random, law)(key, (n,), dtype))
        key = jax.random.key(0)
        return [lambda: draw(key).block_until_ready()]

    # Other generators give other numbers, so nothing is compared here: the tests of the laws do that.
    return Group(
        f"{law}, {n:,} {np.dtype(dtype).name}",
        [
            Variant("NumPy, Philox", of_numpy(np.random.Philox), answer=None),
            Variant("NumPy, PCG64", of_numpy(np.random.PCG64), answer=None),
            *given(DOOR, ["nnmath_core, kernel"], kernel, answer=None),
            *given("torch", ["torch, in place"], torch_calls, answer=None),
            *given("jax", ["jax, compiled (threefry)"], jax_calls, answer=None),
        ],
    )
