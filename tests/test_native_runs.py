"""Random runs of operations as one generated loop: the bits of the same operations one after the other."""

import ctypes
import itertools
import sys

import numpy as np
import pytest
from test_native import (
    DTYPES,
    call,
    guarded,
    lanes,
    numbers,
    operands_of,
    reference,
    runs_whole,
    same,
)

from nnmath_core._ext import _cpu, _vector
from nnmath_core._ext._native import Code
from nnmath_core.program import loops
from nnmath_core.program.native import Operation, available, joined
from nnmath_core.program.native.compositions import COMPOSITIONS
from nnmath_core.program.native.generate import ASSEMBLERS, generate
from nnmath_core.program.native.recipes import DIRECT, FUSED, MASKED, MASKS, RECIPES
from nnmath_core.program.native.run import Arg, Instruction, Run, expanded

pytestmark = pytest.mark.skipif(not available(), reason="generated loops need AVX2")

# Not those that see the sign and the bits of a NaN, which are whatever an operation makes of them, nor those that are
# right for some operands alone.
SHORT = sorted(
    {*RECIPES, *DIRECT}
    - {
        "hot",
        "half_power",
        "whole_power",
        "scalef_from",
        "exponent",
        "significand",
        "log_ends",
        "copysign",
        "head",
    }
)
NUMBERS = [0.5, -1.25, 3.0, 0.0, -0.0, 1.0, 1e-3]


class Draw:
    """A run of random operations, its operands, and what each of its values is."""

    def __init__(self, seed, dtype, length):
        self.rng = rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.n = int(rng.integers(1, 7 * lanes(dtype)))
        self.args, self.arrays = [], []
        self.reals, self.masks = [], []
        self.what = {}  # operand: its values
        self.read = {}  # arg: the last instruction that reads it
        self.instructions, self.outputs, self.sums = [], [], []
        for k in range(rng.integers(1, 5)):
            self.add_arg("stream", numbers(dtype, self.n, [seed, k]))
        for _ in range(rng.integers(0, 3)):
            self.add_arg("spread", np.array(rng.choice([1.5, -3.0, 0.1, 1e30, 7.0]), dtype))
        for kind in ("stream", "spread"):
            if rng.random() < 0.5:
                size = self.n if kind == "stream" else ()
                self.add_arg(kind, np.array(rng.random(size) < 0.5))
        for i in range(length):
            self.add_instruction(i, i == length - 1)

    def add_arg(self, kind, x):
        operand = "arg", len(self.args)
        mask = x.dtype == bool
        self.args.append(Arg(kind, mask))
        self.arrays.append(x)
        self.what[operand] = x
        (self.masks if mask else self.reals).append(operand)

    def pick(self, known):
        """An operand, one of the last ones more often."""
        if self.rng.random() < 0.5:
            known = known[-4:]
        return known[self.rng.integers(len(known))]

    def add_instruction(self, i, last):
        rng = self.rng
        if not last and rng.random() < 0.1:
            self.add_reduction(i)
            return
        name = str(rng.choice(SHORT))
        if rng.random() < 0.1:
            name = str(rng.choice(sorted({*COMPOSITIONS, "divide"})))
        masked = MASKED.get(name, (False,) * operands_of(name))
        if any(masked) and not self.masks:
            name, masked = "less", (False, False)
        reads, given = [], []
        for k, mask in enumerate(masked):
            if mask or rng.random() < 0.85 or (name, k) == ("divide", 1):
                reads.append(self.pick(self.masks if mask else self.reals))
                given.append(self.what[reads[-1]])
            else:
                reads.append(("number", float(rng.choice(NUMBERS))))
                given.append(np.array(reads[-1][1], self.dtype))
            self.read[reads[-1]] = i
        value = reference(name, given, self.n)
        operand = "value", i
        self.what[operand] = value
        (self.masks if value.dtype == bool else self.reals).append(operand)
        stores = ()
        if last or rng.random() < 0.25:
            stores = (len(self.args),)
            self.args.append(Arg("output", value.dtype == bool))
            self.arrays.append(None)
            self.outputs.append((stores[0], value, i))
        self.instructions.append(Instruction(name, tuple(reads), stores))

    def add_reduction(self, i):
        x = self.pick(self.reals)
        self.read[x] = i
        name = str(self.rng.choice(["max", "min", "sum", "sum_squares"]))
        kind = "sum" if name.startswith("sum") else name
        start = np.zeros(2) if kind == "sum" else np.array([0.25], self.dtype)
        self.sums.append((len(self.args), name, np.broadcast_to(self.what[x], self.n).copy()))
        self.instructions.append(Instruction(name, (x,), (), len(self.args)))
        self.args.append(Arg(kind))
        self.arrays.append(start)

    def placed(self):
        """Memory of all args: some outputs lie where an operand lies that is not read later."""
        memory, free = [], []
        for k, (arg, x) in enumerate(zip(self.args, self.arrays, strict=True)):
            if arg.kind != "stream":
                memory.append(None if x is None else x.copy())
                continue
            raw, place = guarded(self.n, x.dtype, shift=k % 4)
            place[:] = x
            memory.append(place)
            free.append((k, raw))
        guards = {}
        for k, value, i in self.outputs:
            taken = None
            for j, raw in free:
                alike = memory[j].dtype == value.dtype
                if alike and self.read.get(("arg", j), -1) <= i and self.rng.random() < 0.5:
                    taken = j, raw
                    break
            if taken is None:
                raw, memory[k] = guarded(self.n, value.dtype, shift=k % 5)
                raw[:] = 0xA5
            else:
                free.remove(taken)
                memory[k], raw = memory[taken[0]], taken[1]
            guards[k] = raw
        return memory, guards

    def check(self):
        """Whether the run was generated; it is compared."""
        run = Run(self.dtype is np.float64, tuple(self.args), tuple(self.instructions))
        made = generate(run)
        if made is None:
            return False
        memory, guards = self.placed()
        call(Code(made), memory, self.n)
        for k, value, i in self.outputs:
            same(memory[k], value, f"instruction {i}, {self.instructions[i].name}, of {run}")
            assert (guards[k] != 0xA5).sum() <= value.nbytes
        for k, name, x in self.sums:
            self.check_sum(name, x, memory[k])
        return True

    def check_sum(self, name, x, got):
        with np.errstate(all="ignore"):
            if name in ("max", "min"):
                want = _vector.apply(name, x, out=np.array([0.25], self.dtype))
                np.testing.assert_array_equal(got, want)
                return
            terms = (x * x if name == "sum_squares" else x).astype(float)
            size = np.abs(terms).sum()
            if not size < float(np.finfo(self.dtype).max) / 4:
                return  # whether such a sum overflows depends on its order
            # terms of a lane, then copies and lanes; products that underflow
            limit = (self.n / lanes(self.dtype) + 3) * np.finfo(self.dtype).eps * size
            limit += self.n * float(np.finfo(self.dtype).smallest_subnormal)
        assert abs(got.sum() - terms.sum()) <= limit


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_runs_have_the_bits_of_their_operations(dtype):
    generated = 0
    for seed in range(300):
        length = 2 + seed % 39
        generated += Draw(seed, dtype, length).check()
    assert generated >= 240


# ------------------------------------------------------------------------------------------ long runs
def long_run(dtype, width):
    """As many values as ``width`` that all live to the end, where they are added up."""
    make = [Instruction("multiply", (("arg", 0), ("number", k + 2.0))) for k in range(width)]
    add, last = [], ("value", 0)
    for k in range(1, width):
        add.append(Instruction("add", (last, ("value", k))))
        last = "value", width + k - 1
    add[-1] = Instruction(add[-1].name, add[-1].reads, (1,))
    return Run(dtype is np.float64, (Arg("stream"), Arg("output")), (*make, *add))


@pytest.mark.parametrize("dtype", DTYPES)
def test_registers_decide_how_many_vectors_go_at_a_time(dtype):
    """Four, two, one; where one vector's values find no room, some wait on the stack, or there is no loop."""
    n = 9 * lanes(dtype) + 3
    x = np.random.default_rng(0).standard_normal(n).astype(dtype)
    asm = ASSEMBLERS[_cpu.selected()](double=dtype is np.float64)
    literals = asm.width if asm.spills else asm.size
    sizes = []
    for fraction in (0.16, 0.38, 0.88, 1.25, 4.0):
        width = int(fraction * len(asm.vectors))
        out = np.zeros(n, dtype)
        made = generate(long_run(dtype, width))
        if fraction > 1 and not asm.spills:
            assert made is None
            continue
        sizes.append((len(made) - literals * width) / width)
        call(Code(made), [x, out], n)
        want = x * dtype(2)
        for k in range(1, width):
            want = want + x * dtype(k + 2)
        same(out, want)
    assert sizes[0] > sizes[1] > sizes[2]


class Place:
    def __init__(self, array, inside=False):
        self.array, self.inside = array, inside


class Places:
    """What `joined` asks: blocks inside are of this phase alone, nothing is known of other places."""

    def number(self, place):
        return None

    def internal(self, place):
        return place.inside

    def past(self, place):
        return False

    def far(self, place):
        return False

    def ramp(self, place):
        return False


def execute(operations, n):
    for op in operations:
        loop = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(op.loop.address)
        count = len(op.args)
        loop(
            (ctypes.c_void_p * count)(*[p.array.ctypes.data for p in op.args]), (ctypes.c_int64 * 2)(n, 1),
            (ctypes.c_int64 * count)(*op.strides), op.loop.data,
        )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_too_long_is_split(dtype):
    """Runs that need more registers, or more operands than the machine passes, are several loops."""
    size = np.dtype(dtype).itemsize
    n = 5 * lanes(dtype) + 7
    rng = np.random.default_rng(1)
    for width, inputs in ((40, 1), (70, 70)):
        source = [Place(rng.standard_normal(n).astype(dtype)) for _ in range(inputs)]

        def operations(source=source, width=width, inputs=inputs):
            out = []
            by = Place(np.array(1.1, dtype))
            values = [Place(np.zeros(n, dtype), True) for _ in range(width)]
            for k, v in enumerate(values):
                loop = loops.ours("divide" if k % 7 == 0 else "multiply", dtype)
                read = source[k % inputs] if inputs > 1 or k == 0 else values[k - 1]
                out.append(Operation(loop, [read, by, v], [size, 0, size]))
            total = values[0]
            for k, v in enumerate(values[1:]):
                place = Place(np.zeros(n, dtype), k < width - 2)
                loop = loops.ours("maximum" if k % 3 else "add", dtype)
                out.append(Operation(loop, [total, v, place], [size] * 3))
                total = place
            return out, total

        plain, want = operations()
        execute(plain, n)
        given, got = operations()
        made = joined(given, Places())
        whole = inputs == 1 and ASSEMBLERS[_cpu.selected()].spills
        assert len(made) == 1 if whole else 1 < len(made) < len(given) / 3
        assert all(op.code is not None for op in made)
        assert all(len(op.args) <= 64 for op in made)
        execute(made, n)
        same(got.array, want.array)


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_labels_and_accumulators(dtype):
    """More labels than registers for them, and accumulators beside labels: generated whole or not at all."""
    n = 3 * lanes(dtype) + 2
    ramp = np.arange(5, 5 + n)
    for count in (1, 4, 9, 12):
        args = [Arg("ramp"), *[Arg("label")] * count, *[Arg("output", True)] * count]
        args += [Arg("stream"), Arg("max")]
        labels = [(("arg", 1 + k), ("arg", 0)) for k in range(count)]
        steps = [Instruction("hot", reads, (1 + count + k,)) for k, reads in enumerate(labels)]
        steps.append(Instruction("max", (("arg", 2 * count + 1),), (), 2 * count + 2))
        made = generate(Run(dtype is np.float64, tuple(args), tuple(steps)))
        assert (made is None) == (count > 10)
        if made is None:
            continue
        labels = [np.array(5 + 3 * k) for k in range(count)]
        masks = [np.zeros(n, bool) for _ in range(count)]
        x, most = np.arange(n).astype(dtype), np.array([-np.inf], dtype)
        call(Code(made), [ramp, *labels, *masks, x, most], n)
        for label, mask in zip(labels, masks, strict=True):
            same(mask, ramp == label)
        assert most[0] == n - 1


def run_of(*steps, args=4):
    """A run of float32 whose last arg is an output and whose first one is a condition."""
    kinds = (Arg("stream", True), *[Arg("stream")] * (args - 2), Arg("output"))
    return Run(False, kinds, steps)


def test_a_choice_that_is_known_is_not_made_again():
    condition, x, y = ("arg", 0), ("arg", 1), ("arg", 2)
    first = Instruction("multiply", (x, y))
    inner = Instruction("where", (condition, ("value", 0), ("number", 0.0)))
    outer = Instruction("where", (condition, ("value", 1), ("number", 0.0)), (3,))
    names = [s.name for s in expanded(run_of(first, inner, outer)).instructions]
    assert names == ["multiply", "where", "copy"]
    signs = Instruction("where", (condition, ("value", 1), ("number", -0.0)), (3,))
    made = expanded(run_of(first, inner, signs)).instructions
    assert [s.name for s in made] == ["multiply", "where"]
    assert made[1].reads[1] == ("value", 0)
    assert str(made[1].reads[2][1]) == "-0.0"
    same = Instruction("where", (condition, ("number", 0.0), ("number", 0.0)), (3,))
    assert [s.name for s in expanded(run_of(same)).instructions] == ["copy"]
    signs = Instruction("where", (condition, ("number", 0.0), ("number", -0.0)), (3,))
    assert [s.name for s in expanded(run_of(signs)).instructions] == ["where"]
    # what lies in memory is not read later
    inner = Instruction("where", (condition, x, ("number", 0.0)))
    outer = Instruction("where", (condition, ("value", 0), y), (3,))
    assert [s.name for s in expanded(run_of(inner, outer)).instructions] == ["where", "where"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_beside_a_label_an_operand_is_read_before_its_memory_is_written(dtype):
    n = 9 * lanes(dtype) + 5
    run = Run(
        dtype is np.float64,
        (Arg("stream"), Arg("stream"), Arg("label"), Arg("ramp"), Arg("output"), Arg("output")),
        (
            Instruction("hot", (("arg", 2), ("arg", 3))),
            Instruction("where", (("value", 0), ("number", 0.5), ("arg", 0))),
            Instruction("negative", (("arg", 1),), (4,)),  # in the memory of the first operand
            Instruction("multiply", (("value", 1), ("value", 2)), (5,)),
        ),
    )
    x, y, out = np.arange(n).astype(dtype), np.arange(n).astype(dtype) + 2, np.zeros(n, dtype)
    want = np.where(np.arange(n) == 7, dtype(0.5), x) * -y
    code = Code(generate(run))
    call(code, [x, y, np.array(7), np.arange(n), x, out], n)
    same(out, want)
    same(x, -y)


def test_every_name_is_drawn():
    """The random runs see each operation at least once."""
    seen = set()
    for seed, dtype in itertools.product(range(60), DTYPES):
        seen |= {s.name for s in Draw(seed, dtype, 2 + seed % 39).instructions}
    assert {*SHORT, *COMPOSITIONS} - {*FUSED} <= seen
    assert seen & MASKS


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 7, 16, 40, 133])
def test_several_rows_are_as_many_runs(dtype, n):
    """Streams and outputs move by rows, the others by their entries, and what is the same for all stays."""
    rng, rows = np.random.default_rng(n), 5
    x = rng.standard_normal((rows, n + 3)).astype(dtype)
    r = rng.choice([0.5, 3.0, 1e-30, -2.0], rows).astype(
        dtype
    )  # a divisor of which one needs the slow way
    w, labels = rng.standard_normal(n).astype(dtype), rng.integers(-1, n + 1, rows)
    out, mask = np.zeros((rows, n + 1), dtype), np.zeros((rows, n), bool)
    sums, largest = np.zeros((rows, 2)), np.full(rows, -np.inf, dtype)
    columns = np.arange(n)
    args = (
        Arg("stream"), Arg("spread"), Arg("stream"), Arg("label"), Arg("ramp"), Arg("output"),
        Arg("output", mask=True), Arg("sum"), Arg("max"),
    )  # fmt: skip
    run = Run(
        dtype == np.float64,
        args,
        (
            Instruction("divide", (("arg", 0), ("arg", 1))),
            Instruction("multiply", (("value", 0), ("arg", 2))),
            Instruction("hot", (("arg", 3), ("arg", 4)), (6,)),
            Instruction("where", (("value", 2), ("number", 0.25), ("value", 1)), (5,)),
            Instruction("sum", (("value", 3),), (), 7),
            Instruction("max", (("value", 3),), (), 8),
        ),
    )
    code = Code(generate(run))
    loop = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(code.address)
    arrays = [x, r, w, labels, columns, out, mask, sums, largest]
    steps = [0 if a is w or a is columns else a.strides[0] for a in arrays]
    loop(
        (ctypes.c_void_p * 9)(*[a.ctypes.data for a in arrays]),
        (ctypes.c_int64 * 2)(n, rows),
        None,
        (ctypes.c_int64 * 9)(*steps),
    )
    hot = columns == labels[:, None]
    want = np.where(hot, dtype(0.25), x[:, :n] / r[:, None] * w)
    np.testing.assert_array_equal(mask, hot)
    np.testing.assert_array_equal(out[:, :n], want)
    np.testing.assert_array_equal(out[:, n], 0)
    np.testing.assert_array_equal(largest, want.max(axis=1))
    slack = n * np.finfo(dtype).eps * np.abs(want).sum(axis=1)
    assert (np.abs(sums.sum(axis=1) - want.astype(float).sum(axis=1)) <= slack).all()


# ------------------------------------------------------------------------------------------ the stack
ON_THE_STACK = """
import struct, sys
import numpy as np
sys.path.insert(0, {tests!r})
from test_native import call, same
from test_native_runs import long_run
from nnmath_core._ext._native import Code
from nnmath_core.program.native.assembler import RSP
from nnmath_core.program.native.avx2 import Avx2
from nnmath_core.program.native.generate import generate

class Strict(Avx2):
    placed = 0
    def store(self, at, a, *, tail=False):
        if at.base != RSP:
            return super().store(at, a, tail=tail)
        Strict.placed += 1
        self.packed(0x29, a, 0, at, prefix=int(self.double))  # vmovaps: to an address that is no multiple it traps

import nnmath_core.program.native.generate as module
module.ASSEMBLERS["v3"] = Strict
for dtype in (np.float32, np.float64):
    run, n = long_run(dtype, 24), 3 * 32 // np.dtype(dtype).itemsize + 3
    code = Code(generate(run, "v3"))
    x, out = np.random.default_rng(0).standard_normal(n).astype(dtype), np.zeros(n, dtype)
    want = x * dtype(2)
    for k in range(1, 24):
        want = want + x * dtype(k + 2)
    for down in range(0, 4096, 16):  # push rbp; mov rbp, rsp; sub rsp, down; mov rax, code; call rax; leave; ret
        lower = b"\\x55\\x48\\x89\\xe5\\x48\\x81\\xec" + struct.pack("<i", down) + b"\\x48\\xb8"
        lower += struct.pack("<Q", code.address) + b"\\xff\\xd0\\xc9\\xc3"
        out[:] = 0
        call(Code(lower), [x, out], n)
        same(out, want)
assert Strict.placed > 20
print("whole")
"""


@pytest.mark.skipif(not _cpu.runs_here("v3"), reason="the code is that of AVX2")
@pytest.mark.skipif(sys.platform == "win32", reason="calls as other systems do")
def test_what_waits_on_the_stack_lies_at_multiples_of_a_vector(request):
    """Where it crossed two pages, a GELU took five times as long, in one process of twelve."""
    runs_whole(ON_THE_STACK.format(tests=str(request.path.parent)))
