"""One step of AdamW in place: NumPy by hand, the fused kernel, PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Calls, Group, Variant, given

TITLE = "AdamW, one step in place"

DOOR = "nnmath_core._ext._optim"
LR, BETA1, BETA2, EPS, DECAY, T = 1e-3, 0.9, 0.999, 1e-8, 1e-2, 10
C1, C2 = 1 - BETA1**T, 1 - BETA2**T


def groups(*, quick: bool) -> list[Group]:
    """Return one group a size and dtype: in the first cache, in the last, and beyond it."""
    sizes = (1000,) if quick else (1000, 100_000, 10_000_000)
    return [one_size(n, dtype) for n in sizes for dtype in (np.float32, np.float64)]


def state(n: int, dtype: type) -> tuple[np.ndarray, ...]:
    """Return weights, moments and gradient."""
    rng = np.random.default_rng(0)
    w, m, g = rng.standard_normal((3, n)).astype(dtype)
    return w, m, m * m, g


def by_hand(w: np.ndarray, m: np.ndarray, v: np.ndarray, g: np.ndarray) -> None:
    """Take the step as one writes it in NumPy."""
    m *= BETA1
    m += (1 - BETA1) * g
    v *= BETA2
    v += (1 - BETA2) * g * g
    w *= 1 - LR * DECAY
    w -= (LR / C1) * m / (np.sqrt(v / C2) + EPS)


def one_size(n: int, dtype: type) -> Group:
    """Compare steps over ``n`` weights; each variant changes arrays of its own."""
    own = state(n, dtype)

    def kernel(door: Any) -> Calls:
        arrays = state(n, dtype)
        return [lambda: door.adamw_step(*arrays, LR, BETA1, BETA2, EPS, DECAY, C1, C2)]

    def torch_calls(torch: Any) -> Calls:
        torch.set_num_threads(1)
        w, _, _, g = (torch.from_numpy(x) for x in state(n, dtype))
        calls = []
        for fused in (False, True):
            weight = torch.nn.Parameter(w.clone())
            weight.grad = g
            options = {"foreach": False, "fused": fused}
            optimizer = torch.optim.AdamW([weight], LR, (BETA1, BETA2), EPS, DECAY, **options)
            calls.append(optimizer.step)
        return calls

    # The arrays differ after each call, so nothing is compared here: the kernel's tests do that.
    return Group(
        f"{n:,} {np.dtype(dtype).name}",
        [
            Variant("NumPy by hand", lambda: by_hand(*own), answer=None),
            *given(DOOR, ["nnmath_core, fused kernel"], kernel, answer=None),
            *given("torch", ["torch AdamW", "torch AdamW, fused"], torch_calls, answer=None),
        ],
    )
