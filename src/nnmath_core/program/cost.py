"""What an equation costs: floating-point operations and bytes, by its primitive and shapes, before anything is lowered.

Products count exactly (a multiplication and an addition for each pair that is summed), sums an addition for each
entry, other functions a few operations for each entry: eight for a transcendental one. Bytes are those of operands and
outputs, each once; a shape operation that only looks at its operand otherwise costs none. Sub-programs count once, a
scan's as often as it runs; how often a `while_loop` runs is not known, so it counts once too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from nnmath_core._ext._autodiff import Var, shape_of
from nnmath_core.autodiff.control.subprogram import SubProgram, sub_programs
from nnmath_core.program.ir import Equation

__all__ = ["EquationCost", "cost_of", "product_flops", "program_cost"]

CHEAP = {
    "add", "subtract", "multiply", "negative", "square", "absolute", "maximum", "minimum", "relu", "where",
    "same", "sign", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and",
    "logical_or", "logical_xor", "logical_not", "isnan", "isinf", "isfinite", "signbit", "floor", "ceil",
    "trunc", "rint", "conj",
}  # fmt: skip
FREE = {"reshape", "transpose", "broadcast_to", "flip", "slice", "stop_gradient", "diagonal"}
MOVES = {
    "astype", "real", "imag", "unslice", "take", "take_along_axis", "concatenate", "pad", "repeat", "embed_diagonal",
}  # fmt: skip
TRANSCENDENTAL = 8
CUBIC = {
    "solve": 2 / 3, "inv": 2, "cholesky": 1 / 3, "lu": 2 / 3, "qr": 4, "svd": 20, "eigh": 9, "eig": 25, "det": 2 / 3,
    "slogdet": 2 / 3, "pinv": 20, "expm": 30, "sqrtm": 30, "logm": 60, "sylvester": 60, "polar": 20,
}  # fmt: skip
"""Operations over n**3, of Golub and Van Loan's tables; the iterative ones about."""

GEMM_RATE, MEMORY_RATE, OVERHEAD = 2e10, 1e10, 5e-8


@dataclass(frozen=True, slots=True)
class EquationCost:
    """Floating-point operations, bytes that are read and written, and how many instructions that is."""

    flops: float = 0.0
    bytes: float = 0.0
    steps: int = 0

    def __add__(self, other: EquationCost) -> EquationCost:
        return EquationCost(
            self.flops + other.flops, self.bytes + other.bytes, self.steps + other.steps
        )

    def times(self, n: int) -> EquationCost:
        """The cost of n of them."""
        return EquationCost(n * self.flops, n * self.bytes, n * self.steps)

    @property
    def seconds(self) -> float:
        """About how long one core takes: it is for comparing ways to the same value, not a prediction."""
        return self.work + self.steps * OVERHEAD

    @property
    def work(self) -> float:
        """The same without what each instruction costs beside its work."""
        return self.flops / GEMM_RATE + self.bytes / MEMORY_RATE


def _size(x: Any) -> int:
    return math.prod(shape_of(x))


def _bytes(xs: Iterable[Any]) -> float:
    return float(sum(_size(x) * x.dtype.itemsize for x in xs if isinstance(x, Var)))


def product_flops(sizes: Iterable[int], summed: bool) -> float:
    """Operations of a product over labels of these sizes: twice their product, once where nothing is summed."""
    return float((2 if summed else 1) * math.prod(sizes))


def cost_of(e: Equation) -> EquationCost:
    """What one equation costs."""
    if e.cost is None:
        object.__setattr__(e, "cost", _cost_of(e))
    return cast(EquationCost, e.cost)


def _cost_of(e: Equation) -> EquationCost:
    name = e.primitive.name
    if name in FREE:
        return EquationCost()
    subs = [s for p in e.params.values() for s in sub_programs(p)]
    moved = _bytes(e.operands) + _bytes(e.outputs)
    if subs:
        return _of_sub_programs(e, subs) + EquationCost(0.0, moved, 1)
    return EquationCost(_flops(e, name), moved, 1)


def _flops(e: Equation, name: str) -> float:
    entries = sum(map(_size, e.outputs))
    operands = [shape_of(x) for x in e.operands]
    if name == "contract":
        a, b, o = e.params["spec"]
        sizes = dict(zip(a, operands[0], strict=True)) | dict(zip(b, operands[1], strict=True))
        return product_flops(sizes.values(), set(sizes) != set(o)) * _complex_factor(e)
    if e.primitive.elementwise:
        return float(
            entries * (1 if name in CHEAP else 4 if name in ("divide", "sqrt") else TRANSCENDENTAL)
        )
    if name in MOVES:
        return 0.0
    if name in CUBIC and operands and len(operands[0]) >= 2:
        n = max(operands[0][-2:], default=0)
        m = min(operands[0][-2:], default=0)
        stack = math.prod(operands[0][:-2])
        return CUBIC[name] * stack * n * m * m
    if name in ("conv", "conv_input", "conv_kernel"):
        return _conv_flops(e)
    if name in ("attention", "attention_pull"):
        return _attention_flops(e)
    if name in ("fft", "rfft", "irfft"):
        return _fft_flops(e, name)
    each = TRANSCENDENTAL + 3 if name in ("softmax", "logsumexp") else 1
    return float(each * max([entries, *map(math.prod, operands)]))


def _attention_flops(e: Equation) -> float:
    """The products of all pairs of queries and keys, two of values and three more of the pull; causal about half."""
    q, k, v = (shape_of(x) for x in e.operands[:3])
    pull = len(e.outputs) > 1
    pairs = math.prod(q[:-1]) * k[-2] * (0.5 if e.params["causal"] else 1.0)
    return pairs * (
        q[-1] * (6.0 if pull else 2.0) + v[-1] * (4.0 if pull else 2.0) + TRANSCENDENTAL
    )


def _fft_flops(e: Equation, name: str) -> float:
    """Those of the fast transform, 5 n log2(n) for n points, half as many where one side is real."""
    x, y = shape_of(e.operands[0]), e.outputs[0].shape
    axes = e.params["axes"] if name == "fft" else (e.params["axis"],)
    shape = y if name == "irfft" else x
    each = sum(math.log2(max(2, shape[a])) for a in axes)
    return (5.0 if name == "fft" else 2.5) * math.prod(shape) * each


def _complex_factor(e: Equation) -> int:
    return 4 if e.outputs[0].dtype.kind == "c" else 1


def _conv_flops(e: Equation) -> float:
    """Twice the product of the three sizes over those that two of them share: within a factor of the strides."""
    sizes = [_size(x) for x in (*e.operands, *e.outputs)]
    return 2.0 * math.sqrt(math.prod(map(float, sizes)))


def _of_sub_programs(e: Equation, subs: Sequence[SubProgram]) -> EquationCost:
    """Of a scan its body as often as it runs; of branches the dearest; of a while loop one step."""
    costs = [program_cost(Equation(*q) for q in s.equations) for s in subs]
    if e.primitive.name == "cond":
        return max(costs, key=lambda c: c.seconds)
    total = EquationCost()
    for c in costs:
        total += c
    length = e.params.get("length")
    return total.times(length) if isinstance(length, int) else total


def program_cost(equations: Iterable[Equation]) -> EquationCost:
    """The sum over equations."""
    total = EquationCost()
    for e in equations:
        total += cost_of(e)
    return total
