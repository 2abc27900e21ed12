"""What each layer does to a signal: its singular values, and the sizes on the way forth and back.

The layers are found in the recorded program of the model (`nm.stage`): a weight is a leaf with at
least two axes, and its layer is the first product in which it meets the data. So any model has
layers, whatever classes it is made of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core import nn
from nnmath_core._ext._autodiff import Var
from nnmath_core._ext._tree import flatten, paths
from nnmath_core.autodiff.transforms import grad
from nnmath_core.autodiff.tree import tree_leaves
from nnmath_core.device import to_device
from nnmath_core.errors import TraceError
from nnmath_core.program import Program, stage
from nnmath_core.study.classifier import mean_loss
from nnmath_core.typing import Array

__all__ = ["layer_records"]

# A weight that passes through one of these is still that weight.
_RESHAPING = {"reshape", "transpose", "moveaxis", "squeeze", "expand_dims"}


@dataclass(frozen=True)
class Product:
    """Where a weight meets the data: the other operand and the output."""

    data: Any
    output: Var


def layer_records(model: Any, x: Array, y: Array) -> list[dict[str, Any]]:
    """Return a record for each weight of the model, in the order of its leaves, at rows ``x, y``.

    Sizes are root mean squares over rows and units: of what enters the layer's product and what
    leaves it, of the loss's gradient in what leaves it (for the sum over rows: per example) and in
    the weight (for the mean over rows). They are None, with the reason under ``note``, where the
    model cannot be recorded without values or the weight enters no product.
    """
    leaves, structure = flatten(
        model
    )  # with what is not trained: places are those of a program's inputs
    places, trained = paths(structure), set(paths(flatten(model, True)[1]))
    weights = [i for i, leaf in enumerate(leaves) if leaf.ndim >= 2 and places[i] in trained]
    slopes = tree_leaves(grad(mean_loss)(model, x, y))
    sizes, note = _signals(model, weights, x, y)
    records = []
    for i in weights:
        singular = singular_values(leaves[i])
        found = sizes.get(i)
        records.append(
            {
                "name": places[i].lstrip("."),
                "shape": list(leaves[i].shape),
                "singular_values": singular.tolist(),
                "condition": float(singular[0] / singular[-1]) if singular[-1] > 0 else None,
                "gain": gain(leaves[i]),
                "weight_gradient": rms(slopes[i]),
                "input": None if found is None else found[0],
                "output": None if found is None else found[1],
                "output_gradient": None if found is None else found[2],
                "note": note if found is None else "",
            }
        )
    return records


def as_matrix(weight: Array) -> Array:
    """Return a weight as a matrix (in, out) in float64 on the host; kernels (kh, kw, in, out) flattened."""
    host = np.asarray(to_device(weight, "cpu"), np.float64)
    return host.reshape(-1, host.shape[-1])


def singular_values(weight: Array) -> Array:
    """Return the singular values of a weight seen as a matrix, in descending order."""
    values: Array = np.linalg.svd(as_matrix(weight), compute_uv=False)
    return values


def gain(weight: Array) -> float:
    r"""Return :math:`|W|_F / \sqrt{out}`: the factor by which white noise grows in passing the layer."""
    matrix = as_matrix(weight)
    return float(np.linalg.norm(matrix) / math.sqrt(matrix.shape[1]))


def rms(x: Array) -> float:
    """Return the root mean square of all entries."""
    host = np.asarray(to_device(x, "cpu"), np.float64)
    return float(np.sqrt(np.mean(np.square(host)))) if host.size else 0.0


def _signals(
    model: Any, weights: list[int], x: Array, y: Array
) -> tuple[dict[int, tuple[float, float, float]], str]:
    """Return for each weight the sizes before and after its product and of the gradient there."""
    try:
        program = stage(lambda m, rows: m(rows), model, x)
    except TraceError as error:
        return {}, f"not measured: the model needs values while it runs ({error})"
    products = find_products(program, weights)
    inputs = [*tree_leaves(model), x]
    values = run(program, inputs, {})
    outputs = {p.output: np.zeros_like(values[p.output]) for p in products.values()}
    order = list(outputs)

    def loss_of(shifts: list[Array]) -> Array:
        env = run(program, inputs, dict(zip(order, shifts, strict=True)))
        logits = env[program.outputs[0]]
        return nn.softmax_cross_entropy(logits, y, reduction="sum")

    slopes = dict(zip(order, grad(loss_of)(list(outputs.values())), strict=True)) if order else {}
    sizes = {}
    for i, product in products.items():
        before = values[product.data] if isinstance(product.data, Var) else product.data
        sizes[i] = (rms(before), rms(values[product.output]), rms(slopes[product.output]))
    return sizes, "not measured: this array enters no product with the data"


def find_products(program: Program, weights: list[int]) -> dict[int, Product]:
    """Return for each weight, a position among the inputs, the first product it enters with other data."""
    carries = {
        program.inputs[i]: i for i in weights
    }  # variables that are a weight, perhaps reshaped
    found: dict[int, Product] = {}
    for equation in program.equations:
        mine = [carries.get(v) if isinstance(v, Var) else None for v in equation.operands]
        if equation.primitive.name in _RESHAPING and mine[0] is not None:
            carries[equation.outputs[0]] = mine[0]
        elif equation.primitive.name in ("contract", "conv") and mine.count(None) == 1:
            side = 1 if mine[0] is None else 0
            i = mine[side]
            if i is not None and i not in found:
                found[i] = Product(equation.operands[1 - side], equation.outputs[0])
    return found


def run(program: Program, inputs: list[Any], shifts: dict[Var, Any]) -> dict[Any, Any]:
    """Run a program equation by equation and return the values of all variables.

    A variable in ``shifts`` is that much larger than the program makes it; zeros, traced, give the
    gradient in an intermediate value.
    """
    env: dict[Any, Any] = {**program.constants, **dict(zip(program.inputs, inputs, strict=True))}
    for equation in program.equations:
        operands = [env[v] if isinstance(v, Var) else v for v in equation.operands]
        results = equation.primitive(*operands, **equation.params)
        outputs = results if equation.primitive.several else (results,)
        for v, value in zip(equation.outputs, outputs, strict=True):
            env[v] = value + shifts[v] if v in shifts else value
    return env
