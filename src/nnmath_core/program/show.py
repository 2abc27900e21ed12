"""Shapes of a function, operation by operation, without running it; and what its variables are called."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FrameType, TracebackType
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Recording, Tracer, Var, shape_of, staged
from nnmath_core._ext._tree import flatten, paths
from nnmath_core.autodiff.control.subprogram import SubProgram, sub_programs
from nnmath_core.autodiff.origin import Origin, is_passed_over
from nnmath_core.autodiff.watch import noting_refusals, origin_of
from nnmath_core.checks import require_callable
from nnmath_core.program.ir import Program
from nnmath_core.program.shape_trace import Misfit, ShapeRow, ShapeTrace
from nnmath_core.program.stage import stage

__all__ = ["input_names", "operand_text", "sub_programs_of", "trace_shapes"]

_SAID = re.compile(r"([A-Za-z_][\w.]*): ")


def trace_shapes(f: Callable[..., Any], *args: Any) -> ShapeTrace:
    """Shapes, dtypes and bytes of each operation of a function, which is not run.

    Parameters
    ----------
    f : callable
        Function of arrays or trees of arrays; a derivative, as ``nm.grad(loss)``, is one, too.
    *args : array or tree
        Examples of the arguments: only structure, shapes and dtypes count. ``np.broadcast_to(np.float32(0), shape)``
        is an array of any size that takes no memory.

    Returns
    -------
    ShapeTrace
        Prints itself as a table, with the line of your code for each operation. Where ``f`` raises an error, it is
        not raised here but kept in ``.error``; the table ends there, and under it stand the operation that failed,
        the shapes of its operands and where each comes from.

    Raises
    ------
    DtypeError
        ``f`` is not callable, or an argument is not numeric.

    Notes
    -----
    ``f`` is staged, as by `stage`: what does not depend on its arguments runs once, Python control flow on values is
    an error. Operations inside of `scan`, `cond` and `while_loop` are indented under them, for one iteration. Bytes are
    those of all results, each counted as if it were an array of its own; the memory that is in use at once is less.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> def predict(w, x):
    ...     return np.tanh(x @ w)
    >>> found = nm.trace_shapes(predict, np.ones((3, 4)), np.ones((2, 3)))
    >>> [(row.name, row.out_shapes) for row in found.rows]
    [('contract', ((2, 4),)), ('tanh', ((2, 4),))]
    >>> found = nm.trace_shapes(predict, np.ones((3, 4)), np.ones((2, 5)))
    >>> found.misfit.name, found.misfit.in_shapes, found.misfit.origins
    ('matmul', ((2, 5), (3, 4)), ('argument x', 'argument w'))
    """
    require_callable("trace_shapes", "f", f)
    inputs = input_names(f, args)
    seen: list[Recording] = []
    ran = False

    def watched(*a: Any) -> Any:
        nonlocal ran
        ran = True
        for x in flatten(a)[0]:
            seen.append(staged(x)[0])  # type: ignore[index]
            break
        return f(*a)

    name = getattr(f, "__name__", type(f).__name__)
    error, program = None, None
    with noting_refusals() as refusals:
        try:
            program = stage(watched, *args)
        except Exception as e:  # whatever the function raises is what is reported
            if not ran:
                raise
            error = e
    names = _Names(inputs)
    if program is not None:
        names.enter(program.inputs, program.constants, "")
        rows = names.rows(program.equations_with_lines(), "", 0)
        results = tuple(_leaf("result", operand_text(o, names.of), o) for o in program.outputs)
        return names.record(name, program.inputs, program.constants, rows, results)
    recording = seen[0] if seen else None
    if recording is None:
        return ShapeTrace(name, (), (), (), (), error, None)
    names.enter(recording.inputs, recording.constants, "")
    rows = names.rows(_numbered(recording), "", 0)
    assert error is not None
    misfit, inner = _misfit(error, refusals, names, recording)
    if inner is not None and inner is not recording:
        names.enter(inner.inputs, inner.constants, "inner.")
        rows.append(_heading("inside of a sub-program:", 0))
        rows += names.rows(_numbered(inner), "inner.", 1)
        misfit, _ = _misfit(error, refusals, names, recording)
    return names.record(name, recording.inputs, recording.constants, rows, (), error, misfit)


# ------------------------------------------------------------------------------------------------ names
def input_names(f: Callable[..., Any], args: Sequence[Any]) -> list[str]:
    """What the leaves of the arguments are called: the parameter of the function and the path in it."""
    parameters: Iterable[inspect.Parameter] = ()
    if not isinstance(f, Program):
        try:
            parameters = inspect.signature(f).parameters.values()
        except (TypeError, ValueError):  # some functions in C have none
            parameters = ()
    known: list[str] = []
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            known += [f"{p.name}[{k}]" for k in range(len(args) - len(known))]
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            known.append(p.name)
    known += [f"args[{k}]" for k in range(len(known), len(args))]
    return [
        text for name, x in zip(known, args, strict=False) for text in paths(flatten(x)[1], name)
    ]


def operand_text(x: Any, names: Mapping[Var, str]) -> str:
    """The name of a variable, or a number as itself."""
    if isinstance(x, Var):
        return names.get(x, f"v{x.number}")
    return repr(x.item() if isinstance(x, np.generic) else x)


def sub_programs_of(params: Mapping[str, Any]) -> list[tuple[str, SubProgram]]:
    """The sub-programs among the parameters of an equation, with what each is called."""
    found = []
    for name, p in params.items():
        subs = sub_programs(p)
        found += [(s.name if len(subs) > 1 else name, s) for s in subs]
    return found


def _leaf(kind: str, name: str, x: Any) -> ShapeRow:
    v = x if isinstance(x, Var) else np.asarray(x)
    size = math.prod(v.shape) * v.dtype.itemsize
    return ShapeRow(kind, (), (), (name,), (tuple(v.shape),), (str(v.dtype),), size)


def _heading(text: str, depth: int) -> ShapeRow:
    return ShapeRow(text, (), (), (), (), (), 0, depth=depth)


def _numbered(recording: Recording) -> list[tuple[Any, int]]:
    return [(e, recording.lines.get(k, 0)) for k, e in enumerate(recording.equations)]


class _Names:
    """The names of variables, and which operation made each."""

    def __init__(self, inputs: list[str]) -> None:
        self.inputs = inputs
        self.of: dict[Var, str] = {}
        self.origins: dict[Var, str] = {}
        self.constants: dict[Var, Any] = {}

    def enter(self, inputs: Sequence[Var], constants: Mapping[Var, Any], prefix: str) -> None:
        """Name the inputs and constants of a program, or of the one inside of it with this prefix."""
        self.constants.update(constants)
        for k, v in enumerate(inputs):
            self.of[v] = f"{prefix}v{v.number}" if prefix else self.inputs[k]
            self.origins[v] = "input of the sub-program" if prefix else "argument"
        for v, x in constants.items():
            outside = staged(x) if isinstance(x, Tracer) else None
            if outside is not None and outside[1] in self.of:
                self.of[v] = self.of[outside[1]]
                self.origins[v] = self.origins[outside[1]]
            else:
                self.of[v] = f"{prefix}v{v.number}"
                self.origins[v] = "array that the function captured"

    def rows(self, equations: Iterable[tuple[Any, int]], prefix: str, depth: int) -> list[ShapeRow]:
        """A row for each equation, and for those of its sub-programs."""
        found = []
        for (primitive, operands, outputs, params), number in equations:
            origin = origin_of(number)
            for v in outputs:
                self.of[v] = f"{prefix}v{v.number}"
                at = f" at {origin.line}" if origin.line else ""
                self.origins[v] = f"result of `{primitive.name}`{at}"
            found.append(
                ShapeRow(
                    primitive.name,
                    tuple(operand_text(x, self.of) for x in operands),
                    tuple(tuple(shape_of(x)) for x in operands),
                    tuple(self.of[v] for v in outputs),
                    tuple(v.shape for v in outputs),
                    tuple(str(v.dtype) for v in outputs),
                    sum(math.prod(v.shape) * v.dtype.itemsize for v in outputs),
                    origin.line,
                    origin.source,
                    " of ".join(reversed(origin.rules)),
                    depth,
                )
            )
            for name, sub in sub_programs_of(params):
                inside = f"{prefix}{name}."
                found.append(_heading(f"{name}:", depth + 1))
                self.enter(sub.inputs, sub.constants, inside)
                numbered = [(e, sub.lines.get(e[2][0], 0)) for e in sub.equations]
                found += self.rows(numbered, inside, depth + 2)
        return found

    def record(
        self,
        name: str,
        inputs: Sequence[Var],
        constants: Mapping[Var, Any],
        rows: list[ShapeRow],
        results: tuple[ShapeRow, ...],
        error: Exception | None = None,
        misfit: Misfit | None = None,
    ) -> ShapeTrace:
        """The finished record."""
        return ShapeTrace(
            name,
            tuple(_leaf("argument", self.of[v], v) for v in inputs),
            tuple(_leaf("constant", self.of[v], v) for v in constants),
            tuple(rows),
            results,
            error,
            misfit,
        )


# ------------------------------------------------------------------------------------------------ what does not fit
def _misfit(
    error: Exception, refusals: list[Any], names: _Names, outer: Recording
) -> tuple[Misfit, Recording | None]:
    """The operation that raised the error, and the recording that it would have gone into."""
    causes = _causes(error)
    for e, recording, primitive, operands, number in reversed(refusals):
        if any(e is cause for cause in causes):
            origin = origin_of(number)
            texts = tuple(operand_text(x, names.of) for x in operands)
            where = tuple(_origin(x, t, names) for x, t in zip(operands, texts, strict=True))
            shapes = tuple(tuple(shape_of(x)) for x in operands)
            return Misfit(
                primitive.name, texts, shapes, where, origin.line, origin.source
            ), recording
    frames = _frames(error.__traceback__)
    last = max((k for k, (frame, _) in enumerate(frames) if _is_users(frame)), default=-1)
    origin = Origin()
    if last >= 0:
        frame, number = frames[last]
        origin = Origin(frame.f_code.co_filename, number, frame.f_code.co_name)
    ours = [(frame, _operands(frame)) for frame, _ in frames[last + 1 :]]
    ours = [(frame, found) for frame, found in ours if any(staged(x) for _, x in found)]
    if ours:
        frame, found = ours[-1]
        said = _SAID.match(str(error))
        if said is not None:  # the errors of this package begin with who complains
            name = said[1]
            frame, found = next(((o, xs) for o, xs in ours if o.f_code.co_name == name), ours[-1])
        else:
            name = frame.f_code.co_qualname.rpartition("<locals>.")[2].removesuffix(".__call__")
        recordings = [s[0] for _, x in found if (s := staged(x)) is not None]
        where = tuple(
            _origin(x if (s := staged(x)) is None else s[1], text, names) for text, x in found
        )
        return (
            Misfit(
                name,
                tuple(text for text, _ in found),
                tuple(tuple(shape_of(x)) for _, x in found),
                where,
                origin.line,
                origin.source,
            ),
            next((r for r in recordings if r is not outer), outer),
        )
    return Misfit("", (), (), (), origin.line, origin.source), None


def _causes(error: BaseException | None) -> list[BaseException]:
    """The error and those that it was raised from; not one that was caught before."""
    found: list[BaseException] = []
    while error is not None:
        found.append(error)
        error = error.__cause__
    return found


def _frames(traceback: TracebackType | None) -> list[tuple[FrameType, int]]:
    found = []
    while traceback is not None:
        found.append((traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found


def _is_users(frame: FrameType) -> bool:
    """Whether it is a frame of the user's; those of compiled modules have a name that is no path."""
    name = frame.f_code.co_filename
    return not is_passed_over(name) and not name.endswith((".pyx", ".pxi"))


def _operands(frame: FrameType) -> list[tuple[str, Any]]:
    """The arrays among the arguments of a function that is running."""
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    found = []
    for name in code.co_varnames[:count]:
        if name in frame.f_locals:
            leaves, d = flatten(frame.f_locals[name])
            found += [
                (text, x)
                for text, x in zip(paths(d, name), leaves, strict=True)
                if hasattr(x, "shape") and hasattr(x, "dtype")
            ]
    return found


def _origin(x: Any, text: str, names: _Names) -> str:
    """Where an operand comes from, with its name where it is called otherwise."""
    if not isinstance(x, Var):
        return "array that the function captured" if hasattr(x, "shape") else "number"
    name, origin = names.of.get(x, f"v{x.number}"), names.origins.get(x, "")
    if name == text:
        return origin
    return f"{origin} {name}" if origin == "argument" else f"{name}, {origin}"
