"""Let PyTorch and JAX draw initial weights, and find the numbers that they multiply their deviates by.

::

    python tests/reference/initialisation_peers.py    # write initialisation_peers.json

A peer draws with a seed through its initialiser, and again without; the quotient is the standard deviation of normal
weights, the bound of uniform ones, the standard deviation before the cut of truncated ones. In float64. Shapes are
those of this package, (kh, kw, in, out).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

STORED = Path(__file__).with_suffix(".json")
SHAPES = ((256, 128), (7, 31), (3, 3, 8, 5), (5, 6, 4), (1, 1, 64, 64))


def quotient(drawn: Any, deviates: Any) -> float:
    """The one number between two arrays."""
    a, b = np.asarray(drawn, dtype=float).ravel(), np.asarray(deviates, dtype=float).ravel()
    ratio = a / b
    assert np.ptp(ratio) <= 1e-9 * abs(ratio[0])
    return float(np.median(ratio))


def torch_answers() -> dict[str, Any]:
    """PyTorch's initialisers by shape, and its gains."""
    import torch
    from torch.nn import init

    options: dict[str, tuple[Any, str]] = {
        "glorot_uniform": (init.xavier_uniform_, "uniform"),
        "glorot_normal": (init.xavier_normal_, "normal"),
        "glorot_normal, gain 5/3": (lambda t: init.xavier_normal_(t, gain=5 / 3), "normal"),
        "he_uniform": (lambda t: init.kaiming_uniform_(t, nonlinearity="relu"), "uniform"),
        "he_normal": (lambda t: init.kaiming_normal_(t, nonlinearity="relu"), "normal"),
        "he_normal, fan_out": (
            lambda t: init.kaiming_normal_(t, mode="fan_out", nonlinearity="relu"),
            "normal",
        ),
        "he_uniform, leaky 0.2": (lambda t: init.kaiming_uniform_(t, a=0.2), "uniform"),
        "torch_default": (lambda t: init.kaiming_uniform_(t, a=math.sqrt(5)), "uniform"),
    }
    out: dict[str, Any] = {}
    for name, (f, kind) in options.items():
        for shape in SHAPES:
            *window, ins, outs = shape
            t = torch.empty((outs, ins, *window), dtype=torch.float64)
            torch.manual_seed(3)
            drawn = f(t).clone()
            torch.manual_seed(3)
            plain = t.uniform_(-1, 1) if kind == "uniform" else t.normal_(0, 1)
            out[f"{name}; {shape}"] = quotient(drawn, plain)
    gains = {
        name: init.calculate_gain(name) for name in ("linear", "sigmoid", "tanh", "relu", "selu")
    }
    gains |= {f"leaky_relu {a}": init.calculate_gain("leaky_relu", a) for a in (0.01, 0.2)}
    layer = torch.nn.Linear(256, 4096, dtype=torch.float64)
    bounds = {
        "Linear(256, .) weight": float(layer.weight.detach().abs().max()),
        "bias": float(layer.bias.detach().abs().max()),
    }
    return {"version": torch.__version__, "factors": out, "gains": gains, "largest": bounds}


def jax_answers() -> dict[str, Any]:
    """JAX's initialisers by shape."""
    import jax

    jax.config.update("jax_enable_x64", True)
    i = jax.nn.initializers
    options: dict[str, tuple[Any, str]] = {
        "glorot_uniform": (i.glorot_uniform(), "uniform"),
        "he_uniform": (i.he_uniform(), "uniform"),
        "lecun_uniform": (i.lecun_uniform(), "uniform"),
        "glorot_normal, truncated": (i.glorot_normal(), "truncated_normal"),
        "he_normal, truncated": (i.he_normal(), "truncated_normal"),
        "lecun_normal, truncated": (i.lecun_normal(), "truncated_normal"),
    }
    for mode in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg"):
        for kind in ("uniform", "normal", "truncated_normal"):
            options[f"variance_scaling, 1.7, {mode}, {kind}"] = (
                i.variance_scaling(1.7, mode, kind),
                kind,
            )
    options["variance_scaling, batch 0"] = (
        i.variance_scaling(2.0, "fan_in", "normal", batch_axis=0),
        "normal",
    )
    options["variance_scaling, axes"] = (
        i.variance_scaling(2.0, "fan_out", "normal", in_axis=-1, out_axis=-2),
        "normal",
    )
    key, out = jax.random.key(3), {}
    for name, (f, kind) in options.items():
        for shape in SHAPES:
            if "batch" in name and len(shape) < 3:
                continue
            drawn = f(key, shape, "float64")
            plain = {
                "uniform": lambda s: jax.random.uniform(key, s, "float64", -1),
                "normal": lambda s: jax.random.normal(key, s, "float64"),
                "truncated_normal": lambda s: jax.random.truncated_normal(key, -2, 2, s, "float64"),
            }[kind](shape)
            out[f"{name}; {shape}"] = quotient(drawn, plain)
    return {"version": jax.__version__, "factors": out}


def main() -> None:
    stored = {"torch": torch_answers(), "jax": jax_answers()}
    STORED.write_text(json.dumps(stored, indent=0) + "\n")


if __name__ == "__main__":
    main()
