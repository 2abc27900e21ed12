"""Checks of gradients: order 1, reverse mode, at one point, of a multilayer perceptron in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from models import mlp, mlp_params
from registry import Inputs, Options, Target, Work, case, contender, family, row

# Every entry against central differences, and along random directions. The answer is the gradient that was checked (a
# peer that returns the differences gives those: they agree to the square of a step of 1e-6 and its rounding).


def inputs(rng: np.random.Generator, options: Options) -> Inputs:
    """Draw a batch, targets and parameters."""
    widths, batch = options["widths"], options["batch"]
    x, y = rng.standard_normal((batch, widths[0])), rng.standard_normal((batch, widths[-1]))
    return {"params": mlp_params(rng, options, "f8"), "x": x, "y": y}


for name in ("gradient_check", "projected_check"):
    family(name, tolerance=1e-6)(inputs)


def squares(options: Options, x: Any, y: Any) -> Any:
    """Return the mean squared error as a function of the parameters."""

    def loss(params: Any) -> Any:
        return np.mean((mlp(params, x, options) - y) ** 2)

    return loss


def checked(inputs: Inputs, options: Options, *, projected: bool, compiled: bool) -> Work:
    """Return one call of `nm.check_grads`."""
    import nnmath_core as nm

    loss = squares(options, inputs["x"], inputs["y"])
    f = nm.compile(loss) if compiled else loss
    params = inputs["params"]
    most = sum(leaf.size for p in params for leaf in p.values())

    def run() -> None:
        nm.check_grads(
            f,
            (params,),
            points=1,
            order=1,
            modes=("rev",),
            entries=most,
            projected=projected,
            directions=1,
        )

    def gradient(grad: Any) -> list[Any]:
        return [p[k] for p in grad(params) for k in ("w", "b")]

    run()
    return Work(run, gradient(nm.compile(nm.grad(loss))), lambda: gradient(nm.grad(loss)))


for projected, family_name in ((False, "gradient_check"), (True, "projected_check")):
    for compiled, title in (
        (True, "nm.check_grads of nm.compile(loss)"),
        (False, "nm.check_grads of the plain function"),
    ):

        @contender(family_name, "ours", title)
        def build(
            inputs: Inputs, options: Options, projected: bool = projected, compiled: bool = compiled
        ) -> Work:
            return checked(inputs, options, projected=projected, compiled=compiled)


OPTIONS = {"widths": (64, 32, 10), "batch": 16, "activation": "tanh"}
TINY = {"widths": (4, 3, 2), "batch": 3}
NOTE = "the check finds its own steps, eight values and more for each entry; JAX's loop takes two and compares nothing"

row(
    "gradient-check",
    "gradient check of the 64-32-10 MLP, all 2,410 entries, float64",
    "gradient_check",
    options=OPTIONS,
    tiny=TINY,
    targets=(Target("ahead", 5.0, "JAX"), Target("ahead", 100.0, "gradcheck")),
    note=NOTE,
)
row(
    "gradient-check-projected",
    "gradient check of the 64-32-10 MLP, projected, float64",
    "projected_check",
    options=OPTIONS,
    tiny=TINY,
    targets=(Target("ahead", 10.0),),
    note="one direction, as the peers take, with steps that are chosen by their errors: some twenty values for two",
)


def network(*widths: int) -> Options:
    """Return a tanh network of other widths."""
    return {**OPTIONS, "widths": widths}


case(
    "gradient-check",
    "gradient check, all entries, float64",
    "gradient_check",
    "parameters",
    [
        (340, network(16, 16, 4)),
        (2410, "gradient-check"),
        (34186, network(256, 128, 10), "full"),
    ],
    tiny=TINY,
    dtype="f8",
    label=lambda o: "-".join(map(str, o["widths"])),
)
case(
    "gradient-check-projected",
    "gradient check, projected, float64",
    "projected_check",
    "parameters",
    [
        (2410, "gradient-check-projected"),
        (203530, network(784, 256, 10)),
        (5_001_000, network(784, 4096, 436), "full"),
    ],
    tiny=TINY,
    dtype="f8",
    label=lambda o: "-".join(map(str, o["widths"])),
)
