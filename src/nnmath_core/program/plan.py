"""A Plan: the program of one structure, set of shapes and dtypes, and what is known of it before it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nnmath_core._ext._autodiff import Var, dtype_of, shape_of
from nnmath_core._ext._plan import Executable, execute
from nnmath_core._ext._tree import flatten, flatten_like, paths, unflatten
from nnmath_core.autodiff.wiring import admit
from nnmath_core.checks import describe
from nnmath_core.errors import DtypeError, ShapeError, TreeError
from nnmath_core.program.embed import low_level_callable
from nnmath_core.program.freeze import cut
from nnmath_core.program.ir import Program
from nnmath_core.program.lower_cpu import Lowered, lower
from nnmath_core.program.work import flattened, work

__all__ = ["Cost", "FrozenPlan", "Plan", "Profile", "admitted", "argument_name", "planned"]


@dataclass(frozen=True)
class Cost:
    """What one run of a Plan takes, known before it runs.

    Of branches it is the dearest, of a loop of unknown length one turn.

    Attributes
    ----------
    flops : float
        Floating-point operations: those of products exactly, of other functions about (an exponential counts as eight).
    bytes : int
        Bytes that instructions read and write.
    peak : int
        Bytes of memory beside the arguments and captured arrays: the arena and the results.
    instructions : int
        Number of instructions.
    host : int
        Instructions that call Python, since their operation has no kernel in C.
    """

    flops: float
    bytes: int
    peak: int
    instructions: int
    host: int


@dataclass(frozen=True)
class Profile:
    """Where the time of a run goes.

    Attributes
    ----------
    rows : tuple of (str, str, float)
        Kind, what it computes, and median seconds of each instruction, in order.
    runs : int
        Over which the median was taken.
    """

    rows: tuple[tuple[str, str, float], ...]
    runs: int

    @property
    def seconds(self) -> float:
        """Of all instructions together."""
        return sum(t for _, _, t in self.rows)

    def __str__(self) -> str:
        total = self.seconds or 1.0
        lines = [f"{1e6 * self.seconds:.1f} microseconds on one thread, median of {self.runs} runs"]
        for k, (kind, note, t) in sorted(enumerate(self.rows), key=lambda row: -row[1][2]):
            lines.append(f"{1e6 * t:10.2f} us {100 * t / total:5.1f} %  {k:3d} {kind} {note}"[:150])
        return "\n".join(lines)

    __repr__ = __str__


class Plan:
    """A function as a program in C, for one structure, set of shapes and dtypes.

    Attributes
    ----------
    program : Program
        After the passes.
    cost : Cost
        FLOPs, bytes and peak memory of a run.

    Notes
    -----
    Calling it refuses other arguments. It may run in several threads at once.
    """

    def __init__(
        self,
        program: Program,
        passes: Sequence[Any],
        lowered: Lowered,
        executable: Executable,
        donors: dict[int, int],
        *,
        deterministic: bool = False,
    ) -> None:
        self.deterministic = deterministic
        self.program, self.passes, self.executable = program, tuple(passes), executable
        self.donors = donors
        self.residuals: list[Any] = []
        self._lowered = lowered

    def __repr__(self) -> str:
        c = self.cost
        return f"Plan({self.program.name}: {c.instructions} instructions, {c.peak} bytes)"

    def __reduce__(self) -> Any:
        raise TypeError(
            "Plan: a program in C cannot be pickled or copied; compile the function again."
        )

    @property
    def steps(self) -> tuple[Any, ...]:
        """Its instructions, as the lowering made them."""
        return self._lowered.steps

    @property
    def meets(self) -> tuple[bool, ...]:
        """Before which of them the threads of a run meet, bodies of control flow included."""
        return self._lowered.meets

    @property
    def arena(self) -> int:
        """Bytes that one run works in, beside arguments and results."""
        return int(self.executable.arena)

    @property
    def cost(self) -> Cost:
        """FLOPs, bytes and peak memory of a run, known before it runs."""
        done = work(self._lowered.steps)
        results = sum(
            int(np.prod(shape_of(o), dtype=np.int64)) * dtype_of(o).itemsize
            for k, o in enumerate(self.program.outputs)
            if k not in self.donors
        )
        return Cost(
            done.flops,
            int(done.bytes),
            self.arena + results,
            done.instructions,
            done.host,
        )

    @property
    def capsule(self) -> Any:
        """The plan for C: a PyCapsule named "nnmath_core.plan" whose pointer is the ``nnm_plan`` of ``nnmath_core.h``.

        It keeps the plan alive; a C program holds it as long as it may run the plan. See `nm.get_include`.
        """
        return self.executable.capsule()

    @property
    def workspace_size(self) -> int:
        """Bytes of the workspace that a run from C may bring."""
        return int(self.executable.workspace)

    def low_level_callable(self, function: str = "quad") -> Any:
        """The plan as a function that SciPy calls from C, without Python.

        Parameters
        ----------
        function : str, default "quad"
            The function of SciPy that it is for.

            - ``"quad"``, ``"dblquad"``, ``"tplquad"``, ``"nquad"`` of `scipy.integrate`: a plan of one number, of
              several numbers, or of one array of rank 1 whose entries they are; its result is a number.
            - ``"generic_filter"`` of `scipy.ndimage`: a plan of one array of rank 1, as long as the footprint has
              points, to a number.
            - ``"generic_filter1d"``: a plan of one array of rank 1, the padded line, to one of rank 1.
            - ``"geometric_transform"``: a plan of one array of rank 1, the coordinates of a pixel of the result, to
              those in the input.

        Returns
        -------
        scipy.LowLevelCallable
            Keeps the plan alive. It may be used in several threads at once.

        Raises
        ------
        ShapeError
            The arguments or the result have other shapes.
        DtypeError
            Something is not float64, or an argument is donated.

        Notes
        -----
        A workspace of up to 8 kB lies on the stack, so that a call allocates nothing. Where SciPy passes another number
        of entries than the plan takes, a `ShapeError` is set; an exception inside of a host instruction is printed, and
        the value is NaN.

        Examples
        --------
        >>> from scipy.integrate import quad
        >>> import numpy as np
        >>> import nnmath_core as nm
        >>> slope = nm.compile(nm.grad(lambda x: np.exp(-(x**2)))).plan(1.0)
        >>> round(quad(slope.low_level_callable(), 0.0, 2.0)[0], 9)
        -0.981684361
        """
        return low_level_callable(self, function)

    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        """The result for arguments that the plan was made for."""
        leaves = flatten_like((args, kwargs), self.executable.in_def)
        if leaves is None:
            raise TreeError(
                f"{self._who}: the plan is for arguments {self.executable.in_def}, got {flatten((args, kwargs))[1]}. "
                "Call the compiled function, which makes a plan for each structure."
            )
        return self.execute(leaves, out)

    def profile(self, *args: Any, runs: int = 50, **kwargs: Any) -> Profile:
        """Time the instructions, one by one, on one thread.

        Parameters
        ----------
        *args, **kwargs
            As in a call. Donated arguments are copied first.
        runs : int, default 50
            Of which the median is taken.

        Returns
        -------
        Profile
            Prints itself as a table, slowest first.
        """
        leaves = flatten_like((args, kwargs), self.executable.in_def)
        if leaves is None:
            raise TreeError(f"{self._who}: the plan is for arguments {self.executable.in_def}.")
        leaves = [np.array(x) if i in self.donors.values() else x for i, x in enumerate(leaves)]
        times = [self.executable.run_timed(leaves) for _ in range(runs + 3)][3:]
        if times[0] is None:
            raise self._refusal(leaves)
        median = np.median(times, axis=0)
        rows = tuple(
            (s.kind, s.note, float(t))
            for s, t in zip(flattened(self._lowered.steps), median, strict=True)
        )
        return Profile(rows, runs)

    def freeze(self, frozen: Mapping[int | str, Any]) -> FrozenPlan:
        """Run once what depends only on some arguments; calls of the result run only the rest.

        Parameters
        ----------
        frozen : dict
            Arguments by position or name, as in ``plan.freeze({0: params})``.

        Returns
        -------
        FrozenPlan
            Takes the other arguments. With parameters and data frozen, a Hessian-vector product costs its tangent part
            alone.

        Raises
        ------
        TreeError
            There is no such argument, or its structure is another one.
        ShapeError, DtypeError
            A value has another shape or dtype than the plan was made for.
        """
        return FrozenPlan(self, frozen)

    captured_places: ClassVar[tuple[int, ...]] = ()
    """Arguments that it always passes itself."""

    def halves(
        self, once: Program, rest: Program, passed: Sequence[Var], nargs: int
    ) -> tuple[Plan, Plan]:
        """Plans of the parts of its program: what runs once, and the rest, which reads what that has made."""
        residuals = [np.zeros(v.shape, v.dtype) for v in passed]
        constants = {**rest.constants, **dict(zip(passed, residuals, strict=True))}
        later = planned(
            rest.replaced(constants=constants), self.passes, (), self.deterministic, nargs
        )
        later.residuals = residuals
        return planned(once, (), (), self.deterministic, -1), later

    def pass_on(self, later: Plan, leaves: list[Any]) -> None:
        """Run, and give the results to the plan that reads them."""
        if execute(self.executable, leaves, later.residuals) is None:
            raise self._refusal(leaves)

    @property
    def _who(self) -> str:
        return f"Plan of {self.program.name}"

    def execute(self, leaves: list[Any], out: Any = None) -> Any:
        """The result for the leaves of the arguments."""
        leaves = admitted(leaves)
        given: list[Any] | None = None
        late: list[Any] | None = None
        if self.donors:
            self._require_donated(leaves)
        if out is not None:
            late = self._receivers(out)
            overlap = any(
                np.may_share_memory(y, x) for y in late for x in leaves if isinstance(x, np.ndarray)
            )
            given = None if overlap or self.donors else late
        results = execute(self.executable, leaves, given)
        if results is None:
            raise self._refusal(leaves)
        if late is not None and given is None:
            for y, r in zip(late, results, strict=True):
                y[...] = r
            results = late
        return unflatten(self.executable.out_def, results)

    def _refusal(self, leaves: Sequence[Any]) -> Exception:
        """The error that names what does not fit."""
        for i, (v, x) in enumerate(zip(self.program.inputs, leaves, strict=True)):
            name = argument_name(self.executable.in_def, i)
            got = (
                f"a Python {type(x).__name__}" if type(x) in (int, float, complex) else describe(x)
            )
            if shape_of(x) != v.shape:
                return ShapeError(
                    f"{self._who}: {name} must have shape {v.shape}, as when the plan was made, got {got}. Call the "
                    "compiled function, which makes a plan for each shape."
                )
            if dtype_of(x) != v.dtype or (type(x) in (int, float, complex)) != v.weak:
                want = (
                    f"a Python {v.dtype.type(0).item().__class__.__name__}"
                    if v.weak
                    else str(v.dtype)
                )
                return DtypeError(
                    f"{self._who}: {name} must be {want}, as when the plan was made, got {got}. Call the compiled "
                    "function, which makes a plan for each dtype."
                )
            if not isinstance(x, (np.ndarray, np.generic, int, float, complex)):
                return DtypeError(f"{self._who}: {name} must be an array of the host, got {got}.")
        return DtypeError(f"{self._who}: the arguments are not those that the plan was made for.")

    def _require_donated(self, leaves: Sequence[Any]) -> None:
        """Refuse donated arrays whose memory cannot be taken."""
        donated = sorted(set(self.donors.values()))
        for i in donated:
            x, name = leaves[i], argument_name(self.executable.in_def, i)
            if type(x) is not np.ndarray:
                raise DtypeError(
                    f"compile: {name} is donated, so it must be a NumPy array, got {describe(x)}. Leave it out of "
                    "`donate_argnums`, or pass an array."
                )
            if what := _unfit(x):
                raise DtypeError(
                    f"compile: {name} is donated, but {what}, so its memory cannot be taken. Pass a copy: "
                    f"np.array(x, {str(x.dtype.newbyteorder('='))!r})."
                )
        spans = sorted(
            (x.__array_interface__["data"][0], x.nbytes, i)
            for i, x in enumerate(leaves)
            if type(x) is np.ndarray and x.nbytes
        )
        require_apart(self.program.in_def, spans, donated)

    def _receivers(self, out: Any) -> list[Any]:
        """The arrays of ``out``, checked."""

        def place(y: Any) -> Exception | None:
            if type(y) is not np.ndarray:
                return DtypeError(f"must be a NumPy array, got {describe(y)}.")
            return None

        def memory(y: Any) -> str:
            what = _unfit(y)
            return f"{what}. Pass np.empty({y.shape}, {str(y.dtype)!r})." if what else ""

        return receivers(self._who, out, self.program, place, memory, np.may_share_memory)


class FrozenPlan:
    """A Plan of which some arguments are fixed; what `Plan.freeze` returns.

    Attributes
    ----------
    plan : Plan or DevicePlan
        The rest, which a call runs.
    once : Plan or DevicePlan
        What ran when the arguments were frozen.
    """

    def __init__(self, plan: Any, frozen: Mapping[int | str, Any]) -> None:
        self._whole = plan
        self._names = tuple(frozen)
        # positions of the leaves in the places of the arguments
        self._args, self._kwargs = unflatten(
            plan.program.in_def, list(range(len(plan.program.inputs)))
        )
        leaves = self._leaves("Plan.freeze", frozen)
        self._order = sorted(leaves)
        once, rest, passed = cut(plan.program, [*self._order, *plan.captured_places])
        once = once.replaced(in_def=_flat_def(len(once.inputs)), out_def=_flat_def(len(passed)))
        positional = tuple(x for k, x in enumerate(self._args) if k not in frozen)
        named = {k: x for k, x in self._kwargs.items() if k not in frozen}
        in_def = flatten((positional, named))[1]
        flat = not named and all(flatten(a)[1].is_leaf for a in positional)
        nargs = len(positional) if flat else -1
        self.once, self.plan = plan.halves(once, rest.replaced(in_def=in_def), passed, nargs)
        self.once.pass_on(self.plan, [leaves[i] for i in self._order])

    @property
    def residuals(self) -> tuple[Any, ...]:
        """What has run once: the arrays that a call reads."""
        return tuple(self.plan.residuals)

    def __repr__(self) -> str:
        return f"FrozenPlan({self._whole.program.name}: {self.plan.cost.instructions} instructions left)"

    def _leaves(self, who: str, frozen: Mapping[int | str, Any]) -> dict[int, Any]:
        """The values of frozen leaves by their positions."""
        leaves: dict[int, Any] = {}
        for name, value in frozen.items():
            known = self._kwargs if isinstance(name, str) else dict(enumerate(self._args))
            if name not in known:
                raise TreeError(
                    f"{who}: there is no argument {name!r}; the plan is for {self._whole.program.in_def}."
                )
            places, d = flatten(known[name])
            values = flatten_like(value, d)
            if values is None:
                raise TreeError(
                    f"{who}: argument {name!r} must have the structure {d}, got {flatten(value)[1]}."
                )
            leaves.update(zip(places, values, strict=True))
        return leaves

    def update(self, frozen: Mapping[int | str, Any]) -> None:
        """Freeze other values of the same arguments; no call may run meanwhile."""
        if set(frozen) != set(self._names):
            raise TreeError(
                f"FrozenPlan.update: the frozen arguments are {self._names}, got {tuple(frozen)}."
            )
        leaves = self._leaves("FrozenPlan.update", frozen)
        self.once.pass_on(self.plan, [leaves[i] for i in self._order])

    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        """The result for the arguments that are not frozen."""
        return self.plan(*args, out=out, **kwargs)


def _flat_def(n: int) -> Any:
    """The tree of a list of n leaves."""
    return flatten([0.0] * n)[1]


def require_apart(
    in_def: Any, spans: Sequence[tuple[int, int, int]], donated: Iterable[int]
) -> None:
    """Refuse donated arrays that share memory with another argument; spans are (address, bytes, leaf), sorted."""
    given = set(donated)
    end, owner = 0, -1
    for start, nbytes, i in spans:
        if start < end and (i in given or owner in given):
            first, second = sorted((i, owner))
            raise DtypeError(
                f"compile: {argument_name(in_def, second)} shares memory with "
                f"{argument_name(in_def, first)}, and one of them is donated: a result would "
                "overwrite what is still needed. Pass a copy."
            )
        if start + nbytes > end:
            end, owner = start + nbytes, i


def receivers(
    who: str,
    out: Any,
    program: Program,
    place: Callable[[Any], Exception | None],
    memory: Callable[[Any], str],
    share: Callable[[Any, Any], bool],
) -> list[Any]:
    """The arrays of ``out``, after checks: where they are, shapes and dtypes, memory that can be written, and apart.

    ``place`` says what is wrong with an object that is no array of the plan's, ``memory`` what with its memory.
    """
    d = program.out_def
    given = flatten_like(out, d)
    if given is None:
        raise TreeError(
            f"{who}: `out` must have the structure of the result, {d}, got {flatten(out)[1]}."
        )
    for k, (y, o) in enumerate(zip(given, program.outputs, strict=True)):
        name = f"`out{paths(d)[k]}`"
        wrong = place(y)
        if wrong is not None:
            raise type(wrong)(f"{who}: {name} {wrong}")
        if y.shape != shape_of(o):
            raise ShapeError(
                f"{who}: {name} must have shape {shape_of(o)}, that of the result, got {y.shape}."
            )
        if y.dtype != dtype_of(o):
            raise DtypeError(
                f"{who}: {name} must have dtype {dtype_of(o)}, that of the result, got {y.dtype}."
            )
        if what := memory(y):
            raise DtypeError(f"{who}: {name} {what}")
        if any(share(y, z) for z in given[:k]):
            raise DtypeError(
                f"{who}: {name} shares memory with another array of `out`; each result needs its own."
            )
    return list(given)


def _unfit(x: np.ndarray) -> str:
    """Why a program cannot write into an array; empty: it can."""
    if not x.flags.writeable:
        return "is read-only"
    if not x.flags.c_contiguous:
        return "is not contiguous"
    return "" if x.flags.aligned else "is not aligned"


def admitted(leaves: list[Any]) -> list[Any]:
    """The leaves with mapped files as arrays, in the byte order of this machine; other subclasses are refused."""
    return [_native(x) if isinstance(x, np.ndarray) else x for x in leaves]


def _native(x: np.ndarray) -> Any:
    if type(x) is not np.ndarray:
        x = admit(x)
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def argument_name(in_def: Any, i: int) -> str:
    """What leaf i of ``(args, kwargs)`` is called in an error."""
    path = paths(in_def)[i]
    kind, _, rest = path.removeprefix("[").partition("]")
    first, _, deeper = rest.removeprefix("[").partition("]")
    if kind == "0":
        return f"argument {first}" + (f" at `{deeper}`" if deeper else "")
    return f"argument `{first.strip(chr(39))}{deeper}`"


def planned(
    program: Program, passes: Sequence[Any], donated: Sequence[int], deterministic: bool, nargs: int
) -> Plan:
    """The Plan of a program after its passes."""
    lowered = lower(program, donated=donated, deterministic=deterministic, nargs=nargs)
    return Plan(
        program, passes, lowered, lowered.executable, lowered.donors, deterministic=deterministic
    )
