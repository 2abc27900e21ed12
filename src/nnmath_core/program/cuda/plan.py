"""A Plan of a device: what one run queues, prepared once.

A run binds addresses and queues: kernels, matrix products, and equations that run by definition. Everything lies in one
arena, laid out as on the host; there is one arena for each stream that a plan runs on, since the work of a stream is
done in order. Results are new arrays, or the memory of donated arguments.
"""

from __future__ import annotations

import functools
import itertools
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var, dtype_of, replay, shape_of
from nnmath_core._ext._tree import flatten, flatten_like, unflatten
from nnmath_core.checks import describe
from nnmath_core.device import Backend
from nnmath_core.device.graphs import cuda_graphs
from nnmath_core.device.launch import expanded
from nnmath_core.device.products import gemm
from nnmath_core.errors import DeviceError, DtypeError, ShapeError, TreeError
from nnmath_core.program.builder import Buffer, Step, View, row_major
from nnmath_core.program.cuda.expressions import PRELUDE, computes
from nnmath_core.program.cuda.lower import DeviceBuilder, copied, lower_equations, scheduled
from nnmath_core.program.cuda.optimizer import optimizer_steps
from nnmath_core.program.cuda.replay import Segment
from nnmath_core.program.cuda.writer import Kernel
from nnmath_core.program.ir import Program
from nnmath_core.program.lower.bodies import define_constants, output_of
from nnmath_core.program.lower_cpu import donors_of
from nnmath_core.program.memory import lay_out
from nnmath_core.program.plan import Cost, FrozenPlan, argument_name, receivers, require_apart
from nnmath_core.program.work import work

__all__ = ["DevicePlan", "planned_on"]

APART = False
"""For tests: each buffer is an allocation of its own, so that its ends are guarded."""

ARENA = 0
"""The slot of the arena."""


def planned_on(
    be: Backend,
    program: Program,
    passes: Sequence[Any],
    donated: Sequence[int],
    captured: Sequence[Any],
) -> DevicePlan:
    """The plan of a program after its passes; its last inputs are arrays that the function captured."""
    return DevicePlan(be, program, passes, donated, captured)


class DevicePlan:
    """A function as work for a CUDA device, for one structure, set of shapes and dtypes.

    Attributes
    ----------
    program : Program
        After the passes. Its last inputs are arrays of the device that the function captured.
    cost : Cost
        FLOPs, bytes and peak memory of a run; ``host`` counts the operations that run by definition.
    steps : tuple of Step
    """

    def __init__(
        self,
        be: Backend,
        program: Program,
        passes: Sequence[Any],
        donated: Sequence[int],
        captured: Sequence[Any],
    ) -> None:
        self.program, self.passes = program, tuple(passes)
        self._be: Any = be
        self._captured = list(captured)
        self._lock = threading.Lock()
        self._spaces: dict[int, _Space] = {}
        self._recorder: Any = None
        with be.scope():
            self._lower(donated)
            self._mark()

    def __repr__(self) -> str:
        c = self.cost
        return f"DevicePlan({self.program.name} on {self._be.device}: {c.instructions} instructions, {c.peak} bytes)"

    def __reduce__(self) -> Any:
        raise TypeError("DevicePlan: it cannot be pickled or copied; compile the function again.")

    def _mark(self) -> None:
        """Remember the work behind which constants and residuals are there, for streams other than the current one."""
        self._ready = self._be.cupy.cuda.Event(disable_timing=True)
        self._ready.record(self._be.cupy.cuda.get_current_stream())

    # ------------------------------------------------------------------------------------------ making
    def _lower(self, donated: Sequence[int]) -> None:
        program = self.program
        b = DeviceBuilder(program.name, blas_only=True)
        inputs = []
        for v in program.inputs:
            size = int(np.prod(v.shape, dtype=np.int64)) * v.dtype.itemsize
            buffer = Buffer(size, "input")
            b.define(
                v, View(buffer, 0, v.shape, row_major(v.shape, v.dtype.itemsize), v.dtype, v.weak)
            )
            inputs.append(buffer)
        define_constants(b, program.constants)
        lower_equations(b, program.equations)
        outputs = [
            output_of(b, b.view(o), "output") if isinstance(o, Var) else b.view(o)
            for o in program.outputs
        ]
        b.steps = scheduled(b, {v.buffer for v in outputs})
        self.donors = donors_of(b, program, inputs, outputs, donated)
        b.steps = [copied(s) if s.kind in ("node", "copy") else s for s in b.steps]
        steps: list[Step] = []
        for s in b.steps:
            steps += optimizer_steps(s) if s.kind == "optimizer" else [s]
        for s in steps:
            if s.kind == "definition":
                for w in s.writes:
                    w.buffer.kind = "held" if w.buffer.kind == "arena" else w.buffer.kind
        self.steps = tuple(steps)
        self.meets = (False,) * len(steps)
        self.arena = lay_out(steps, (True,) * len(steps))
        self._number(inputs, outputs)
        self._inputs, self._outputs = inputs, outputs
        self.in_memory = {
            v.buffer.slot
            for s in steps
            for v in s.reads
            if v.weak and v.buffer.kind == "input" and not computes(v.dtype)
        }
        self._operations = self._segments(steps)

    def _number(self, inputs: Sequence[Buffer], outputs: Sequence[View]) -> None:
        """Give every buffer its slot."""
        slot = 1
        for buffer in (*inputs, *(v.buffer for v in outputs)):
            if not buffer.slot and buffer.kind in ("input", "output"):
                buffer.slot = slot
                slot += 1
        for k, i in self.donors.items():
            outputs[k].buffer.slot = inputs[i].slot
        self._constants: dict[int, Any] = {}
        self._tickets: dict[int, int] = {}
        self._apart: dict[int, int] = {}
        tickets = 0
        for s in self.steps:
            for v in (*s.reads, *s.writes, *s.scratch):
                b = v.buffer
                if not b.slot and (b.kind in ("constant", "held") or (APART and b.kind == "arena")):
                    b.slot = slot
                    slot += 1
                    if b.kind == "constant":
                        self._constants[b.slot] = self._be.from_host(np.ascontiguousarray(b.array))
                    elif b.kind == "arena":
                        self._apart[b.slot], b.offset = b.nbytes, 0
            if isinstance(s.object, Kernel) and s.object.tickets:
                self._tickets[id(s)] = tickets
                tickets += s.object.tickets
        self._all_tickets = tickets
        self._slots = slot

    # ------------------------------------------------------------------------------------------ operations
    def _segments(self, steps: Sequence[Step]) -> list[Callable[[_Run], None]]:
        """What a run calls: kernels that follow each other together, and the rest one by one."""
        out: list[Callable[[_Run], None]] = []
        for is_kernel, group in itertools.groupby(steps, lambda s: s.kind == "kernel"):
            some = list(group)
            operations = [self._operation(s) for s in some]
            if not is_kernel:
                out += operations
                continue
            kernels = [s.object for s in some]
            views = [v for k in kernels for v in (*k.reads, *k.writes, *k.scratch)]
            slots = sorted({v.buffer.slot for v in views})
            numbers = sorted({v.buffer.slot - 1 for k in kernels for v in k.numbers})
            out.append(Segment(operations, slots, numbers))
        return out

    def stream_to_record(self) -> Any:
        """A stream of its own on which launches are recorded."""
        if self._recorder is None:
            self._recorder = self._be.cupy.cuda.Stream(non_blocking=True)
        return self._recorder

    def _operation(self, step: Step) -> Callable[[_Run], None]:
        if step.kind == "kernel":
            return self._launch(step)
        if step.kind == "gemm":
            return self._product(step)
        assert step.kind == "definition"
        return self._definition(step)

    def _refs(self, views: Sequence[View]) -> list[tuple[int, int]]:
        return [(v.buffer.slot, v.buffer.offset + v.offset) for v in views]

    def _launch(self, step: Step) -> Callable[[_Run], None]:
        k: Kernel = step.object
        function = kernel_of(self._be.cupy, self._be.device.index, k.source, k.name)
        refs = self._refs((*k.reads, *k.writes, *k.scratch))
        ticket = 4 * self._tickets.get(id(step), 0)
        numbers = [(v.buffer.slot - 1, v.dtype.type) for v in k.numbers]
        grid, block, some = (k.grid,), (k.block,), k.tickets > 0

        def launch(run: _Run) -> None:
            bases = run.bases
            args: list[Any] = [bases[s] + o for s, o in refs]
            if some:
                args.append(run.space.tickets + ticket)
            for i, kind in numbers:
                args.append(kind(run.leaves[i]))
            function(grid, block, tuple(args))

        return launch

    def _product(self, step: Step) -> Callable[[_Run], None]:
        _, _, _, m, n, k, ra, ka, kb, nb, ldc, count, *axes = step.ints
        dtype = step.writes[0].dtype
        size = dtype.itemsize
        batch: Any = tuple(
            (axes[4 * i], *(stride // size for stride in axes[4 * i + 1 : 4 * i + 4]))
            for i in range(count)
        )
        (a, b), (c,) = self._refs(step.reads), self._refs(step.writes)
        cupy = self._be.cupy

        def multiply(run: _Run) -> None:
            at_a, at_b, at_c = (run.bases[slot] + offset for slot, offset in (a, b, c))
            gemm(cupy, dtype, m, n, k, at_a, ra, ka, at_b, kb, nb, at_c, ldc, batch)

        return multiply

    def _definition(self, step: Step) -> Callable[[_Run], None]:
        what = step.object
        e = what.equation
        outs = e.outputs
        recorded = [(e.primitive, e.operands, outs, e.params, ())]
        reads = [
            (x, v) for x, v in zip(e.operands, what.operands, strict=True) if isinstance(x, Var)
        ]
        writes = step.writes
        last = self._last_reads(step)

        def define(run: _Run) -> None:
            env = {x: run.value(v) for x, v in reads}
            operands = list(env.values())
            replay(recorded, env)
            for x, w in zip(outs, writes, strict=True):
                run.receive(w, env[x], operands)
            for slot in last:
                run.drop(slot)

        return define

    def _last_reads(self, step: Step) -> list[int]:
        """Slots of held results that nobody reads after a step."""
        at = next(k for k, s in enumerate(self.steps) if s is step)
        later = {v.buffer for s in self.steps[at + 1 :] for v in s.reads}
        mine = {v.buffer for v in step.reads if v.buffer.kind == "held"}
        return [b.slot for b in mine - later]

    # ------------------------------------------------------------------------------------------ what is known
    @property
    def cost(self) -> Cost:
        """FLOPs, bytes and peak memory of a run, known before it runs."""
        done = work(self.steps)
        results = sum(
            int(np.prod(shape_of(o), dtype=np.int64)) * dtype_of(o).itemsize
            for k, o in enumerate(self.program.outputs)
            if k not in self.donors
        )
        by_definition = sum(s.kind == "definition" for s in self.steps)
        return Cost(
            done.flops, int(done.bytes), self.arena + results, done.instructions, by_definition
        )

    @property
    def kernels(self) -> tuple[str, ...]:
        """The texts of its kernels, in the order of their launches."""
        return tuple(s.object.source for s in self.steps if s.kind == "kernel")

    # ------------------------------------------------------------------------------------------ freezing
    def freeze(self, frozen: Mapping[int | str, Any]) -> FrozenPlan:
        """Run once what depends only on some arguments; calls of the result run only the rest. See `Plan.freeze`."""
        return FrozenPlan(self, frozen)

    @property
    def captured_places(self) -> tuple[int, ...]:
        """Arguments that it always passes itself: arrays that the function captured."""
        n = len(self.program.inputs)
        return tuple(range(n - len(self._captured), n))

    @property
    def residuals(self) -> list[Any]:
        """What it passes itself."""
        return self._captured

    def halves(
        self, once: Program, rest: Program, passed: Sequence[Var], nargs: int
    ) -> tuple[DevicePlan, DevicePlan]:
        """Plans of the parts of its program: what runs once, and the rest, which reads what that has made."""
        first = DevicePlan(self._be, once, (), (), self._captured)
        constants = {v: x for v, x in rest.constants.items() if v not in passed}
        rest = rest.replaced(inputs=(*rest.inputs, *passed), constants=constants)
        return first, DevicePlan(self._be, rest, self.passes, (), [None] * len(passed))

    def pass_on(self, later: DevicePlan, leaves: list[Any]) -> None:
        """Run, and give the results to the plan that reads them."""
        later._captured[:] = self.execute(leaves)
        with self._be.scope():
            later._mark()

    @property
    def _who(self) -> str:
        return f"DevicePlan of {self.program.name}"

    # ------------------------------------------------------------------------------------------ running
    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        """The result for arguments that the plan was made for."""
        leaves = flatten_like((args, kwargs), self.program.in_def)
        if leaves is None:
            raise TreeError(
                f"{self._who}: the plan is for arguments {self.program.in_def}, got {flatten((args, kwargs))[1]}. "
                "Call the compiled function, which makes a plan for each structure."
            )
        return self.execute(leaves, out)

    def execute(self, leaves: list[Any], out: Any = None) -> Any:
        """The result for the leaves of the arguments."""
        be = self._be
        with be.scope():
            leaves = [*self._admitted(leaves), *self._captured]
            given = self._receivers(out, leaves)
            stream = be.cupy.cuda.get_current_stream()
            with self._lock:
                space = self._spaces.get(stream.ptr)
                if space is None:
                    space = self._spaces[stream.ptr] = _Space(self)
                if space.ready is not self._ready:
                    stream.wait_event(self._ready)
                    space.ready = self._ready
                run = _Run(self, space, leaves, given)
                for operation in self._operations:
                    operation(run)
            results = [run.result(k) for k in range(len(self._outputs))]
            if out is not None and given is None:
                late: list[Any] = flatten_like(out, self.program.out_def) or []
                for y, r in zip(late, results, strict=True):
                    y[...] = r
                results = late
        return unflatten(self.program.out_def, results)

    def _admitted(self, leaves: list[Any]) -> list[Any]:
        """The leaves as contiguous arrays of the device; Python numbers stay what they are."""
        cupy, index = self._be.cupy, self._be.device.index
        out = []
        inputs = self.program.inputs
        if len(leaves) + len(self._captured) != len(inputs):
            raise TreeError(
                f"{self._who}: it takes {len(inputs) - len(self._captured)} leaves, got {len(leaves)}."
            )
        for i, (v, x) in enumerate(zip(inputs, leaves, strict=False)):
            if v.weak:
                fits = type(x) in (int, float, complex) and dtype_of(x) == v.dtype
            else:
                if (
                    isinstance(x, (np.generic, np.ndarray))
                    and not v.shape
                    and dtype_of(x) == v.dtype
                    and not x.shape
                ):
                    x = self._be.from_host(np.asarray(x))
                fits = isinstance(x, cupy.ndarray) and x.shape == v.shape and x.dtype == v.dtype
                fits = fits and x.device.id == index
            if not fits:
                raise self._refusal(i, v, x)
            if not v.weak and not x.flags.c_contiguous:
                if i in self.donors.values():
                    raise DtypeError(
                        f"compile: {argument_name(self.program.in_def, i)} is donated, but is not contiguous, so its "
                        "memory cannot be taken. Pass a copy: x.copy()."
                    )
                x = cupy.ascontiguousarray(x)
            out.append(x)
        if self.donors:
            self._require_apart(out)
        return out

    def _refusal(self, i: int, v: Var, x: Any) -> Exception:
        name = argument_name(self.program.in_def, i)
        got = f"a Python {type(x).__name__}" if type(x) in (int, float, complex) else describe(x)
        advice = "Call the compiled function, which makes a plan for each shape, dtype and device."
        if shape_of(x) != v.shape:
            return ShapeError(
                f"{self._who}: {name} must have shape {v.shape}, as when the plan was made, got {got}. {advice}"
            )
        if dtype_of(x) != v.dtype or (type(x) in (int, float, complex)) != v.weak:
            want = f"a Python {type(v.dtype.type(0).item()).__name__}" if v.weak else str(v.dtype)
            return DtypeError(
                f"{self._who}: {name} must be {want}, as when the plan was made, got {got}. {advice}"
            )
        return DeviceError(
            f"{self._who}: {name} must be an array on {self._be.device}, got {got}. {advice}"
        )

    def _require_apart(self, leaves: Sequence[Any]) -> None:
        """Refuse donated arrays that share memory with another argument."""
        cupy = self._be.cupy
        spans = sorted(
            (x.data.ptr, x.nbytes, i)
            for i, x in enumerate(leaves)
            if isinstance(x, cupy.ndarray) and x.nbytes
        )
        require_apart(self.program.in_def, spans, self.donors.values())

    def _receivers(self, out: Any, leaves: Sequence[Any]) -> list[Any] | None:
        """The arrays of ``out``, checked; None where there are none, or where they are filled at the end."""
        if out is None:
            return None
        cupy, device = self._be.cupy, self._be.device

        def place(y: Any) -> Exception | None:
            if not isinstance(y, cupy.ndarray) or y.device.id != device.index:
                return DeviceError(f"must be an array on {device}, got {describe(y)}.")
            return None

        def memory(y: Any) -> str:
            if y.flags.c_contiguous:
                return ""
            return f"is not contiguous. Pass cupy.empty({y.shape}, {str(y.dtype)!r})."

        given = receivers(self._who, out, self.program, place, memory, cupy.may_share_memory)
        arrays = [x for x in leaves if isinstance(x, cupy.ndarray)]
        if self.donors or any(cupy.may_share_memory(y, x) for y in given for x in arrays):
            return None
        return given


class _Space:
    """What the runs on one stream work in: the arena, and counters of blocks."""

    def __init__(self, plan: DevicePlan) -> None:
        cupy = plan._be.cupy
        self.arena = cupy.empty(max(plan.arena, 1), np.uint8)
        self._tickets = cupy.zeros(max(plan._all_tickets, 1), np.uint32)
        self.tickets = self._tickets.data.ptr
        self.graphs: dict[Segment, dict[Any, Any]] = {}
        self.ready: Any = None
        """Behind what the stream has waited."""
        self.apart = {slot: cupy.empty(n, np.uint8) for slot, n in plan._apart.items()}


class _Run:
    """One run: addresses by slot, and the arrays behind them."""

    __slots__ = ("arrays", "bases", "given", "graphs", "leaves", "plan", "space")

    def __init__(
        self, plan: DevicePlan, space: _Space, leaves: list[Any], given: list[Any] | None
    ) -> None:
        self.plan, self.space, self.leaves, self.given = plan, space, leaves, given
        self.graphs = bool(cuda_graphs())
        cupy = plan._be.cupy
        self.arrays: list[Any] = [None] * plan._slots
        self.bases = [0] * plan._slots
        self._set(ARENA, space.arena)
        for slot, array in space.apart.items():
            self._set(slot, array)
        for slot, array in plan._constants.items():
            self._set(slot, array)
        for buffer, x in zip(plan._inputs, leaves, strict=True):
            if isinstance(x, cupy.ndarray):
                self._set(buffer.slot, x)
            elif buffer.slot in plan.in_memory:
                self._set(buffer.slot, plan._be.from_host(np.asarray(x)))
        made = {w.buffer for s in plan.steps if s.kind == "definition" for w in s.writes}
        for k, v in enumerate(plan._outputs):
            if k in plan.donors or v.buffer.kind != "output":
                continue
            if given is not None:
                self._set(v.buffer.slot, given[k])
            elif v.buffer not in made:
                self._set(v.buffer.slot, cupy.empty(v.shape, v.dtype))

    def _set(self, slot: int, array: Any) -> None:
        self.arrays[slot] = array
        self.bases[slot] = array.data.ptr

    def value(self, v: View) -> Any:
        """The operand that a view is."""
        slot = v.buffer.slot
        if v.weak and v.buffer.kind == "input":
            return self.leaves[slot - 1]
        array = self.arrays[slot]
        if (
            v.buffer.kind != "arena"
            and v.offset == 0
            and array.shape == v.shape
            and array.dtype == v.dtype
            and v.contiguous
        ):
            return array
        cupy = self.plan._be.cupy
        memory = array.data + (v.buffer.offset + v.offset)
        return cupy.ndarray(v.shape, v.dtype, memory, v.strides)

    def receive(self, w: View, y: Any, operands: Sequence[Any]) -> None:
        """Keep the result of an equation, which must not be memory that is written again."""
        cupy = self.plan._be.cupy
        if not isinstance(y, cupy.ndarray):
            y = self.plan._be.from_host(np.asarray(y, w.dtype))
        slot = w.buffer.slot
        if self.arrays[slot] is not None:
            cupy.copyto(self.arrays[slot], y)
            return
        if y.dtype != w.dtype:
            y = y.astype(w.dtype)
        shared = any(isinstance(x, cupy.ndarray) and cupy.may_share_memory(x, y) for x in operands)
        self._set(slot, y.copy() if shared or not y.flags.c_contiguous else y)

    def drop(self, slot: int) -> None:
        """Let go of a held result."""
        self.arrays[slot] = None

    def result(self, k: int) -> Any:
        """Result k."""
        plan = self.plan
        o, v = plan.program.outputs[k], plan._outputs[k]
        if not isinstance(o, Var):
            return o
        array = self.arrays[v.buffer.slot]
        return array.item() if o.weak else array


@functools.cache
def kernel_of(cupy: Any, index: int, source: str, name: str) -> Any:
    """The compiled kernel of a text on a device, made once."""
    includes = [
        f'#include "{file}.cuh"\n' for file, words in _HEADERS.items() if re.search(words, source)
    ]
    prelude = PRELUDE if re.search(r"nnm_(16|floor_|remainder)", source) else ""
    text = expanded("".join(includes)) + prelude + source
    with cupy.cuda.Device(index):
        return cupy.RawModule(code=text).get_function(name)


_OPTIMIZERS = "adam|adamw|gradient_descent|heavy_ball|nesterov"
_HEADERS = {
    "vector": rf"nnm_(?!16|floor_quotient|floor_remainder|remainder|{_OPTIMIZERS})[a-z0-9_]+\(",
    "optim": rf"nnm_({_OPTIMIZERS})\(",
}
