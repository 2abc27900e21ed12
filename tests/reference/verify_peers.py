"""Ask the gradient checks of PyTorch and JAX about right and wrong derivatives; store what they say.

::

    python tests/reference/verify_peers.py torch           # write their part of verify_peers.json
    python tests/reference/verify_peers.py jax
    python tests/reference/verify_peers.py torch --check   # ask again and compare

A case is a function, a point, its dtype, and a factor by which the rule of one elementwise function
is off in reverse mode. The answers are whether `torch.autograd.gradcheck` (also in its fast mode),
`torch.autograd.gradgradcheck` and `jax.test_util.check_grads` (reverse, order 1 or 2) accept the
derivative with their default tolerances. The test asks ours the same, and knows the truth.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

STORED = Path(__file__).with_suffix(".json")


class Case(NamedTuple):
    """A function by name, a point, and what is wrong with its derivative."""

    function: str
    point: list[float]
    dtype: str = "float64"
    factor: float = 1.0  # of the first derivative in reverse mode
    second: float = 1.0  # of the second derivative
    right: bool = True


SMALL, LARGE = 1e-6, 1e6

CASES = {
    "right": Case("sine", [0.3, -1.2, 2.0]),
    "right, float32": Case("sine", [0.3, -1.2, 2.0], "float32"),
    "right, small argument": Case("logarithm", [0.5 * SMALL, 0.75 * SMALL, SMALL]),
    "right, large values": Case("cube", [0.5 * LARGE, 0.75 * LARGE, LARGE]),
    "right, at a kink": Case("rectifier", [0.0, -1.0, 1.0]),
    "wrong by a tenth": Case("sine", [0.3, -1.2, 2.0], factor=1.1, right=False),
    "wrong by 1e-4": Case("sine", [0.3, -1.2, 2.0], factor=1 + 1e-4, right=False),
    "wrong by 1e-7": Case("sine", [0.3, -1.2, 2.0], factor=1 + 1e-7, right=False),
    "wrong by a tenth, small values": Case("scaled", [0.3, -1.2, 2.0], factor=1.1, right=False),
    "wrong by a tenth, float32": Case("sine", [0.3, -1.2, 2.0], "float32", factor=1.1, right=False),
    "wrong second derivative": Case("sine", [0.3, -1.2, 2.0], second=1.1, right=False),
}


def torch_answers(case: Case) -> dict[str, bool]:
    """What PyTorch says."""
    import torch

    class Cosine(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return torch.cos(x)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return -g * torch.sin(ctx.saved_tensors[0]) * case.second

    class Sine(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return torch.sin(x)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * Cosine.apply(ctx.saved_tensors[0]) * case.factor

    functions = {
        "sine": lambda x: torch.sum(Sine.apply(x)),
        "scaled": lambda x: SMALL * torch.sum(Sine.apply(x)),
        "logarithm": lambda x: torch.sum(torch.log(x)),
        "cube": lambda x: torch.sum(x * x * x),
        "rectifier": lambda x: torch.sum(torch.relu(x)),
    }
    f = functions[case.function]
    x = torch.tensor(case.point, dtype=getattr(torch, case.dtype), requires_grad=True)
    first, second = torch.autograd.gradcheck, torch.autograd.gradgradcheck
    return {
        "torch": first(f, (x,), raise_exception=False),
        "torch, fast": first(f, (x,), raise_exception=False, fast_mode=True),
        "torch, second order": second(f, (x,), raise_exception=False),
    }


def jax_answers(case: Case) -> dict[str, bool]:
    """What JAX says."""
    import jax
    import jax.numpy as jnp
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)

    @jax.custom_vjp
    def cosine(x: Any) -> Any:
        return jnp.cos(x)

    cosine.defvjp(lambda x: (jnp.cos(x), x), lambda x, g: (-g * jnp.sin(x) * case.second,))

    @jax.custom_vjp
    def sine(x: Any) -> Any:
        return jnp.sin(x)

    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * cosine(x) * case.factor,))

    functions = {
        "sine": lambda x: jnp.sum(sine(x)),
        "scaled": lambda x: SMALL * jnp.sum(sine(x)),
        "logarithm": lambda x: jnp.sum(jnp.log(x)),
        "cube": lambda x: jnp.sum(x * x * x),
        "rectifier": lambda x: jnp.sum(jax.nn.relu(x)),
    }
    x = jnp.array(case.point, case.dtype)

    def accepts(order: int) -> bool:
        try:
            check_grads(functions[case.function], (x,), order, modes=("rev",))
        except AssertionError:
            return False
        return True

    return {"jax": accepts(1), "jax, second order": accepts(2)}


PEERS: dict[str, Callable[[Case], dict[str, bool]]] = {"torch": torch_answers, "jax": jax_answers}


def main() -> None:
    """Ask one peer and write or compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    stored = json.loads(STORED.read_text()) if STORED.exists() else {"versions": {}, "cases": {}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns of float32
        answers = {name: PEERS[arguments.peer](case) for name, case in CASES.items()}
    if arguments.check:
        for name, mine in answers.items():
            theirs = {k: v for k, v in stored["cases"][name].items() if k in mine}
            print("same" if theirs == mine else f"changed from {theirs} to {mine}", name)
        return
    version = __import__(arguments.peer).__version__
    stored["versions"][arguments.peer] = version
    for name, mine in answers.items():
        stored["cases"][name] = {**stored["cases"].get(name, {}), **mine}
    STORED.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
