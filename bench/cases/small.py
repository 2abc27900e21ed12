"""Calls that are all overhead, and a power iteration that is all memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from floors import READ, moved
from registry import Inputs, Options, Target, Work, case, contender, family, row

# The gradient of the sum of ten nested tanh of ten numbers. Answer: the gradient.


@family(
    "chain",
    count=lambda o: (0.0, 16.0 * o["n"]),
    tolerance=1e-13,
    arithmetic=lambda o: 40.0 * o["n"],
)
def chain_inputs(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw the numbers."""
    return {"x": rng.standard_normal(options["n"])}


def chain(x: Any) -> Any:
    """Return the sum of ten nested tanh."""
    for _ in range(10):
        x = np.tanh(x)
    return np.sum(x)


@contender("chain", "ours", "nm.compile(nm.grad(chain))")
def chain_compiled(inputs: Inputs, options: Options) -> Work:
    """The door and one instruction."""
    import nnmath_core as nm

    x = inputs["x"]
    call, eager = nm.compile(nm.grad(chain)), nm.grad(chain)
    return Work(lambda: call(x), [call(x)], lambda: [eager(x)])


@contender("chain", "ours", "nm.grad(chain), eager")
def chain_eager(inputs: Inputs, options: Options) -> Work:
    """Trace and sweep in each call."""
    import nnmath_core as nm

    x, call = inputs["x"], nm.grad(chain)
    return Work(lambda: call(x), [call(x)], lambda: [call(x)])


CHAIN = "gradient of a chain of ten tanh on ten numbers"
row(
    "chain-compiled",
    f"{CHAIN}: compiled",
    "chain",
    options={"n": 10},
    tiny={},
    targets=(Target("ahead", 3.0, "JAX"),),
)
row(
    "chain-eager",
    f"{CHAIN}: eager",
    "chain",
    options={"n": 10},
    tiny={},
    targets=(Target("ahead", 10.0, "PyTorch: "),),
    ours="nm.grad(chain), eager",
)
case(
    "chain",
    "gradient of a chain of ten tanh, float64",
    "chain",
    "numbers",
    [
        (10, "chain-compiled"),
        (1e4, {"n": 10_000}),
        (1e6, {"n": 1_000_000}),
        (1e7, {"n": 10_000_000}, "full"),
    ],
    tiny={"n": 10},
    dtype="f8",
)


# Power iteration for the spectral norm: A (A^T A)^k v. Answer: the norm of A times the last unit vector.


@family(
    "power",
    count=lambda o: (4.0 * o["steps"] * o["n"] ** 2, 4.0 * o["steps"] * o["n"] ** 2),
    tolerance=1e-4,
)
def power_inputs(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw the matrix and where to begin."""
    n = options["n"]
    return {
        "a": rng.standard_normal((n, n)).astype("f4"),
        "v": rng.standard_normal(n).astype("f4"),
    }


@contender("power", "ours", "nm.solvers.spectral_norm")
def power_ours(inputs: Inputs, options: Options) -> Work:
    """A^T A x in one pass over A a step."""
    import nnmath_core as nm

    a, v, steps = inputs["a"], inputs["v"], options["steps"]
    a = a.T if options.get("turned") else a

    def run() -> Any:
        return nm.solvers.spectral_norm(a, steps=steps, start=v).value

    def by_definition() -> list[Any]:
        w = v
        for _ in range(steps):
            w = a.T @ (a @ w)
            w = w / np.sqrt(np.sum(w * w))
        u = a @ w
        return [np.sqrt(np.sum(u * u))]

    return Work(run, [run()], by_definition)


@contender("power", "floor", "one pass over A a step")
def power_floor(inputs: Inputs, options: Options) -> Work:
    """A read of A, again and again; a cache that holds A makes it faster, as it does the work."""
    read = moved(READ, 4.0 * options["n"] ** 2)

    def run() -> None:
        for _ in range(options["steps"]):
            read()

    return Work(run)


row(
    "power-iteration",
    "power iteration, 2048 x 2048, 100 steps",
    "power",
    options={"n": 2048, "steps": 100},
    tiny={"n": 8, "steps": 3},
    targets=(Target("floor", 1.2, "one pass"), Target("ahead", 1.5)),
)
