"""Libraries for one purpose: curvlinops, on PyTorch, for Hessians."""

from __future__ import annotations

import importlib
from typing import Any

from registry import Inputs, Options, Work, contender

from peers.iterations import eigsh, lanczos
from peers.pytorch import place, tensors, torch


def product(inputs: Inputs) -> tuple[int, Any]:
    """Return the number of parameters, and the products of curvlinops' Hessian."""
    library = importlib.import_module("curvlinops")
    t = torch()
    layers: list[Any] = []
    for p in inputs["params"]:
        layer = t.nn.Linear(*p["w"].shape)
        with t.no_grad():
            layer.weight.copy_(t.from_numpy(p["w"]).T)
            layer.bias.copy_(t.from_numpy(p["b"]))
        layers += [layer, t.nn.Tanh()]
    net = t.nn.Sequential(*layers[:-1]).to(place())
    data = [tuple(tensors([inputs["x"], inputs["y"]]))]
    operator = library.HessianLinearOperator(
        net, t.nn.CrossEntropyLoss(), list(net.parameters()), data, check_deterministic=False
    ).to_scipy()
    return operator.shape[0], lambda v: operator.matvec(v.astype("f4").ravel())


@contender("eigenvalues", "curvlinops", "eigsh of HessianLinearOperator")
def eigenvalues(inputs: Inputs, options: Options) -> Work:
    """SciPy's ARPACK, as its documentation has it."""
    return eigsh(*product(inputs), options)


@contender("lanczos_steps", "curvlinops", "HessianLinearOperator, Lanczos by NumPy")
def steps(inputs: Inputs, options: Options) -> Work:
    """A fixed number of steps."""
    return lanczos(*product(inputs), options)
