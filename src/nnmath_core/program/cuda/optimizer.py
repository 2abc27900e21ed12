"""The step of an optimizer over many tensors: one launch, the tensors one behind the other in the grid.

The arithmetic of an entry is that of the eager kernels (``optim.cuh``). The learning rate and the number of the step
are read on the device, unless they are Python numbers; what follows from them is computed once a block, in double.
"""

from __future__ import annotations

from collections.abc import Sequence

from nnmath_core.program.builder import Step, View
from nnmath_core.program.cuda.writer import Kernel
from nnmath_core.program.lower.optimizers import SLOTS

__all__ = ["optimizer_steps"]

THREADS, ENTRIES = 256, 8
MOST_TENSORS = 64
"""Of a launch: its parameters have to fit into 4096 bytes."""

_UPDATES = (
    "nnm_gradient_descent(w, g, rate)",
    "nnm_heavy_ball(w, m, g, rate, a0)",
    "nnm_nesterov(w, m, g, rate, a0)",
    "nnm_adam(w, m, v, g, step, a0, a1, a2, root)",
    "nnm_adamw(w, m, v, g, step, a0, a1, a2, root, shrink)",
)


def optimizer_steps(step: Step) -> list[Step]:
    """The launches of an optimizer's step."""
    rule, wide, tensors = step.ints[:3]
    sizes = step.ints[3 : 3 + tensors]
    slots = SLOTS[rule]
    out = []
    filled = [k for k in range(tensors) if sizes[k]]
    for at in range(0, len(filled), MOST_TENSORS):
        some = filled[at : at + MOST_TENSORS]
        reads = [step.reads[2 + k * (2 + slots) + j] for k in some for j in range(2 + slots)]
        writes = [step.writes[k * (1 + slots) + j] for k in some for j in range(1 + slots)]
        out.append(_launch(step, rule, bool(wide), [sizes[k] for k in some], reads, writes))
    return out


def _launch(
    step: Step, rule: int, wide: bool, sizes: Sequence[int], reads: list[View], writes: list[View]
) -> Step:
    slots = SLOTS[rule]
    numbers = [v for v in step.reads[:2] if v.buffer.kind == "input" and v.weak]
    fixed = [v for v in step.reads[:2] if _is_fixed(v)]
    pointers = [v for v in step.reads[:2] if v not in numbers and v not in fixed]
    name = f"{step.note.split()[0]}_of_{len(sizes)}"
    source = _source(name, step, rule, wide, sizes)
    every = [*pointers, *reads]
    k = Kernel(name, source, _blocks(sizes), THREADS, every, writes, [], 0, numbers)
    inplace = [
        (i * (1 + slots) + j, len(pointers) + i * (2 + slots) + (j + 1 if j else 0))
        for i in range(len(sizes))
        for j in range(1 + slots)
    ]
    share = sum(sizes) / max(1, sum(step.ints[3 : 3 + step.ints[2]]))
    return Step(
        "kernel", (*k.reads, *k.numbers), tuple(writes), (), (), object=k, inplace=tuple(inplace),
        flops=step.flops * share, note=step.note,
    )  # fmt: skip


def _is_fixed(v: View) -> bool:
    array = v.buffer.array if v.buffer.kind == "constant" else None
    return array is not None and array.size == 1 and not array.flags.writeable


def _blocks(sizes: Sequence[int]) -> int:
    return sum(-(-n // (THREADS * ENTRIES)) for n in sizes)


def _source(name: str, step: Step, rule: int, wide: bool, sizes: Sequence[int]) -> str:
    real = "double" if wide else "float"
    slots = SLOTS[rule]
    letters = ("w", "m", "v")[: 1 + slots]
    params: list[str] = []
    values: list[str] = []
    numbers: list[str] = []
    for v, kind in zip(step.reads[:2], ("double", "long long"), strict=True):
        if v.buffer.kind == "input" and v.weak:
            numbers.append(f"{kind} n{len(numbers)}")
            values.append(f"n{len(numbers) - 1}")
        elif _is_fixed(v):
            number = v.buffer.array.reshape(-1)[0]
            values.append(f"({float(number).hex()})" if kind == "double" else f"{int(number)}LL")
        else:
            params.append(f"const {kind} *r{len(params)}")
            values.append(f"*r{len(params) - 1}")
    for k in range(len(sizes)):
        params += [
            f"const {real} *w{k}",
            f"const {real} *g{k}",
            *(f"const {real} *{s}{k}" for s in letters[1:]),
        ]
    for k in range(len(sizes)):
        params += [f"{real} *to_{s}{k}" for s in letters]
    lines = [
        f'extern "C" __global__ void __launch_bounds__({THREADS}) {name}({", ".join([*params, *numbers])})',
        "{",
    ]
    reals = [float(x) for x in step.reals]
    if rule in (3, 4):
        lines += [
            f"    __shared__ {real} shared[3];",
            "    if (threadIdx.x == 0) {",
            f"        const double lr = {values[0]}, t = (double)({values[1]});",
            f"        const {real} c1 = ({real})(1 - pow({reals[0].hex()}, t));",
            f"        const {real} c2 = ({real})(1 - pow({reals[1].hex()}, t));",
            f"        shared[0] = ({real})lr / c1;",
            f"        shared[1] = {real}(1) / sqrt(c2);",
            f"        shared[2] = ({real})lr * ({real}){reals[3].hex()};"
            if rule == 4
            else "        shared[2] = 0;",
            "    }",
            "    __syncthreads();",
            f"    const {real} step = shared[0], root = shared[1], shrink = shared[2];",
            f"    const {real} a0 = {real}({(1 - reals[0]).hex()}), a1 = {real}({(1 - reals[1]).hex()});",
            f"    const {real} a2 = {real}({reals[2].hex()});",
        ]
    else:
        lines.append(f"    const {real} rate = ({real})({values[0]});")
        if slots:
            lines.append(f"    const {real} a0 = {real}({reals[0].hex()});")
    lines += [
        f"    const {real} *from_{s};"
        if s == "g"
        else f"    const {real} *from_{s}; {real} *to_{s};"
        for s in (*letters, "g")
    ]
    lines += ["    long long block = blockIdx.x, n;"]
    before = 0
    for k, n in enumerate(sizes):
        count = -(-n // (THREADS * ENTRIES))
        condition = f"if (block < {before + count}) {{" if k < len(sizes) - 1 else "{"
        word = "    " if k == 0 else "    else "
        pointers = "".join(f" from_{s} = {s}{k}; to_{s} = to_{s}{k};" for s in letters)
        lines.append(f"{word}{condition}{pointers} from_g = g{k}; n = {n}LL; block -= {before}; }}")
        before += count
    lines += [
        f"    const long long first = block * {THREADS * ENTRIES} + threadIdx.x;",
        "    #pragma unroll",
        f"    for (int j = 0; j < {ENTRIES}; ++j) {{",
        f"        const long long i = first + j * {THREADS};",
        "        if (i >= n) break;",
        *(f"        {real} {s} = from_{s}[i];" for s in letters),
        f"        const {real} g = from_g[i];",
        f"        {_UPDATES[rule]};",
        *(f"        to_{s}[i] = {s};" for s in letters),
        "    }",
        "}",
    ]
    return "\n".join(lines) + "\n"
