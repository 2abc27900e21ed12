"""Gradient of a loop of a thousand small steps: what a step costs beside its arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import OURS, Calls, Group, Variant, given

TITLE = "gradient of a loop of many steps"

EPS = np.finfo(np.float64).eps
SIZE = 8


def groups(*, quick: bool) -> list[Group]:
    """Return one group; a quick run takes fewer steps."""
    rng = np.random.default_rng(0)
    steps = 50 if quick else 1000
    w, xs = 0.1 * rng.standard_normal(SIZE), rng.standard_normal(steps)

    def looped(np: Any, w: Any, rows: Any) -> Any:
        h = w
        for x in rows:
            h = np.tanh(h * w + x)
        return h.sum()

    def ours(nm: Any) -> Calls:
        def scanned(w: Any, **kw: Any) -> Any:
            return np.sum(nm.scan(lambda h, x: (np.tanh(h * w + x), None), w, xs, **kw)[0])

        program = nm.stage(nm.grad(scanned), w)
        gradients = [
            nm.grad(lambda w: looped(np, w, xs)),
            nm.grad(scanned),
            nm.grad(lambda w: scanned(w, checkpoint=True)),
            program,
            nm.compile(nm.grad(scanned)),
        ]
        return [lambda g=g: g(w) for g in gradients]

    def torch_calls(torch: Any) -> Calls:
        torch.set_num_threads(1)
        leaf, rows = torch.from_numpy(w.copy()).requires_grad_(), torch.from_numpy(xs)
        return [lambda: torch.autograd.grad(looped(torch, leaf, rows), leaf)[0]]

    def jax_calls(jax: Any) -> Calls:
        jnp, rows = jax.numpy, jax.numpy.asarray(xs)

        def scanned(w: Any) -> Any:
            return jnp.sum(jax.lax.scan(lambda h, x: (jnp.tanh(h * w + x), None), w, rows)[0])

        g, start = jax.jit(jax.grad(scanned)), jnp.asarray(w)
        return [lambda: g(start)]

    ways = [
        "a Python loop",
        "nm.scan",
        "nm.scan, checkpoint=True",
        "nm.scan, a Program",
        "nm.scan, compiled",
    ]
    return [
        Group(
            f"{steps} steps of tanh(h w + x) on {SIZE} numbers",
            [
                Variant("NumPy, forward only", lambda: looped(np, w, xs), answer=None),
                *given(OURS, [f"nm.grad, {way}" for way in ways], ours),
                *given("torch", ["torch eager, a Python loop"], torch_calls),
                *given("jax", ["jax.jit, lax.scan"], jax_calls),
            ],
            tolerance=steps * EPS,
        )
    ]
