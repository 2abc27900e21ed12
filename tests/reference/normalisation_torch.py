"""Let PyTorch evaluate the normalisations with gradients, Hessian-vector products and statistics.

::

    python tests/reference/normalisation_torch.py    # write normalisation_torch.json

Everything is in float64; `cases` gives the arguments without PyTorch, for the test. Channels are last, as in the
package; the functions for PyTorch move them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from reference.parity import hexadecimal, torch_answer

__all__ = ["STORED", "cases"]

STORED = Path(__file__).with_suffix(".json")

Case = tuple[str, list[np.ndarray], dict[str, Any]]


def cases() -> dict[str, Case]:
    """Case -> name of the function, arrays that are differentiated, options."""
    rng = np.random.default_rng(20261126)
    normal = rng.standard_normal
    made: dict[str, Case] = {}

    def add(name: str, arrays: list[np.ndarray], **options: Any) -> None:
        made[f"{name}, {sum(n.startswith(name + ',') for n in made)}"] = (name, arrays, options)

    def affine(*shape: int) -> list[np.ndarray]:
        return [1 + 0.3 * normal(shape), normal(shape)]

    for shape, axis, eps in [
        ((3, 4), (-1,), 1e-5),
        ((1, 1, 7), (-1,), 1e-5),
        ((2, 3, 4), (-2, -1), 1e-3),
        ((4, 65), (-1,), 1e-5),
        ((2, 2, 3, 5), (-3, -2, -1), 0.5),
        ((5,), (-1,), 1e-12),
    ]:
        lengths = tuple(shape[k] for k in axis)
        add("layer_norm", [3 * normal(shape) + 2, *affine(*lengths)], axis=axis, eps=eps)
        add("rms_norm", [3 * normal(shape) + 2, affine(*lengths)[0]], axis=axis, eps=eps)
    add("layer_norm", [normal((3, 6))], axis=(-1,), eps=1e-5)
    add("rms_norm", [normal((3, 6))], axis=(-1,), eps=1e-6)
    for shape, eps in [
        ((5, 3), 1e-5),
        ((1, 6, 2), 1e-5),
        ((2, 5, 4, 3), 1e-3),
        ((2, 3), 0.3),
        ((7, 1), 0.1),
    ]:
        c = shape[-1]
        given = {"mean": normal(c), "var": rng.uniform(0.5, 2, c)}
        add("batch_norm", [2 * normal(shape) - 1, *affine(c)], eps=eps)
        add("batch_norm in evaluation", [2 * normal(shape) - 1, *affine(c)], eps=eps, **given)
    add("batch_norm", [normal((6, 4))], eps=1e-5)
    for shape, groups, eps in [
        ((2, 3, 3, 4), 2, 1e-5),
        ((1, 5, 6), 3, 1e-5),
        ((3, 6), 1, 1e-3),
        ((2, 3, 4), 4, 1e-5),
        ((1, 2, 2, 2, 6), 2, 0.5),
    ]:
        add("group_norm", [normal(shape) + 1, *affine(shape[-1])], groups=groups, eps=eps)
    for shape, eps in [
        ((2, 3, 3, 4), 1e-5),
        ((1, 5, 6), 1e-5),
        ((3, 2, 1), 1e-3),
        ((2, 7, 2), 1e-5),
        ((1, 2, 3, 2, 3), 0.5),
    ]:
        add("instance_norm", [normal(shape) + 1, *affine(shape[-1])], eps=eps)
    add("instance_norm", [normal((2, 4, 3))], eps=1e-5)
    for shape, axis in [
        ((4, 3), -1),
        ((4, 3), 0),
        ((5, 1), -1),
        ((3, 3, 2, 4), -1),
        ((2, 6), None),
    ]:
        add("weight_norm", [normal(shape), normal(() if axis is None else shape[axis])], axis=axis)
    for (ins, outs), steps in [((4, 3), 1), ((3, 5), 2), ((1, 4), 1), ((6, 1), 3), ((5, 5), 1)]:
        vectors = {"left": normal(outs), "right": normal(ins)}
        vectors = {k: v / np.linalg.norm(v) for k, v in vectors.items()}
        arrays = [normal((3, ins)), normal((ins, outs)), normal(outs)]
        add("spectral_norm", arrays, iterations=steps, **vectors)
        add("spectral_norm in evaluation", arrays, iterations=steps, **vectors)
    return made


def batches() -> list[np.ndarray]:
    """What running statistics are made of."""
    rng = np.random.default_rng(7)
    return [rng.standard_normal((n, 2, 3)) * (i + 1) + i for i, n in enumerate((4, 1, 7))]


# ------------------------------------------------------------------------------------ PyTorch
def _channels_second(f: Any) -> Any:
    """A function of PyTorch that has the channels second, for those that have them last.

    The result goes through a flat view, so that the gradient arrives in one piece: on the strides of a moved axis
    PyTorch 2.13 gives a wrong gradient of `instance_norm` of volumes.
    """

    def call(x: Any, *parameters: Any) -> Any:
        y = f(x.movedim(-1, 1).contiguous(), *parameters).contiguous()
        return y.flatten().view(y.shape).movedim(1, -1)

    return call


def theirs(name: str, options: dict[str, Any], after: dict[str, Any]) -> Any:
    """The function for PyTorch; ``after`` receives what a module has stored."""
    import torch
    from torch.nn import functional

    if name == "layer_norm":

        def layer(x: Any, scale: Any = None, shift: Any = None) -> Any:
            lengths = [x.shape[k] for k in options["axis"]]
            return functional.layer_norm(x, lengths, scale, shift, options["eps"])

        return layer
    if name == "rms_norm":
        return lambda x, scale=None: functional.rms_norm(
            x, [x.shape[k] for k in options["axis"]], scale, options["eps"]
        )
    if name.startswith("batch_norm"):
        mean, var = (torch.tensor(options[k]) if k in options else None for k in ("mean", "var"))
        return _channels_second(
            lambda x, scale=None, shift=None: functional.batch_norm(
                x, mean, var, scale, shift, training=mean is None, eps=options["eps"]
            )
        )
    if name == "group_norm":
        groups, eps = options["groups"], options["eps"]
        return _channels_second(lambda x, *affine: functional.group_norm(x, groups, *affine, eps))
    if name == "instance_norm":
        return _channels_second(
            lambda x, scale=None, shift=None: functional.instance_norm(
                x, weight=scale, bias=shift, eps=options["eps"]
            )
        )
    if name == "weight_norm":
        return lambda v, g: weight(v, g, options["axis"])
    return spectral(options, after, training="evaluation" not in name)


def weight(v: Any, g: Any, axis: int | None) -> Any:
    """Weight normalisation as PyTorch documents it.

    Its own function agrees in value and gradient; the second derivative of `torch._weight_norm` in v is wrong in
    PyTorch 2.13, which differences show.
    """
    import torch

    if axis is None:
        found, length = v * (g / v.norm()), torch._weight_norm(v, g, -1)
    else:
        first = v.movedim(axis, 0)
        g = g.reshape(-1, *[1] * (v.ndim - 1))
        size = first.flatten(1).norm(dim=1).reshape(g.shape)
        found = (first * (g / size)).movedim(0, axis)
        length = torch._weight_norm(first, g, 0).movedim(0, axis)
    assert torch.allclose(found, length, rtol=1e-14)
    return found


def spectral(options: dict[str, Any], after: dict[str, Any], *, training: bool) -> Any:
    import torch

    ins, outs = options["right"].size, options["left"].size
    module = torch.nn.Linear(ins, outs, dtype=torch.float64)
    module = torch.nn.utils.parametrizations.spectral_norm(
        module, n_power_iterations=options["iterations"], eps=1e-12
    )
    module.train(training)
    norm = module.parametrizations.weight[0]
    norm._u.copy_(torch.tensor(options["left"]))
    norm._v.copy_(torch.tensor(options["right"]))

    def call(x: Any, weight: Any, bias: Any) -> Any:
        given = {"parametrizations.weight.original": weight.T, "bias": bias}
        y = torch.func.functional_call(module, given, (x,))
        after["left"], after["right"] = norm._u.numpy().copy(), norm._v.numpy().copy()
        return y

    return call


def running() -> dict[str, list[str]]:
    import torch

    out = {}
    for momentum in (0.1, 0.7):
        module = torch.nn.BatchNorm1d(3, momentum=momentum, dtype=torch.float64)
        for i, x in enumerate(batches()):
            module(torch.tensor(x).movedim(-1, 1))
            out[f"mean, {momentum}, {i}"] = hexadecimal(module.running_mean.numpy())
            out[f"var, {momentum}, {i}"] = hexadecimal(module.running_var.numpy())
    return out


def main() -> None:
    import torch

    torch.set_num_threads(1)
    answers = {}
    for name, (f, arrays, options) in cases().items():
        after: dict[str, Any] = {}
        answers[name] = torch_answer(name, theirs(f, options, after), arrays)
        answers[name] |= {key: hexadecimal(v) for key, v in after.items()}
    stored = {"torch": torch.__version__, "cases": answers, "running": running()}
    STORED.write_text(json.dumps(stored, indent=0) + "\n")


if __name__ == "__main__":
    main()
