"""A function drawn as a graph of operations, in the language of Graphviz."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Var
from nnmath_core._ext._tree import paths
from nnmath_core.autodiff.control.subprogram import SubProgram
from nnmath_core.autodiff.origin import Origin
from nnmath_core.autodiff.watch import origin_of, watching
from nnmath_core.checks import describe, require_callable
from nnmath_core.errors import DomainError, MissingDependency
from nnmath_core.io.replacing import replacing
from nnmath_core.program import Program, stage
from nnmath_core.program.show import input_names, sub_programs_of

__all__ = ["ProgramGraph", "graph"]

_TEXT = (".dot", ".gv")
_DRAWN = (".svg", ".pdf", ".png")
_LONGEST = 40  # characters of a parameter; longer ones are left out


@dataclass(frozen=True)
class ProgramGraph:
    """A graph as DOT text. Notebooks show the picture where Graphviz is installed.

    Attributes
    ----------
    dot : str
        The text, which Graphviz and many other programs read.
    name : str
        Of the function.
    """

    dot: str
    name: str

    def __str__(self) -> str:
        return self.dot

    def __repr__(self) -> str:
        return f"ProgramGraph({self.name}: {len(self.dot.splitlines())} lines of DOT)"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file, whole or not at all.

        Parameters
        ----------
        path : str or path
            ``.dot`` or ``.gv`` for the text; ``.svg``, ``.pdf`` or ``.png`` for a picture, which Graphviz draws.

        Raises
        ------
        DomainError
            The name has another ending.
        MissingDependency
            A picture is asked for, and there is no working ``dot`` on the PATH.
        """
        target = os.fspath(path)
        ending = os.path.splitext(target)[1].lower()
        if ending not in (*_TEXT, *_DRAWN):
            wanted = ", ".join((*_TEXT, *_DRAWN))
            raise DomainError(f"graph: `path` must end in one of {wanted}, got {target!r}.")
        content = self.dot.encode() if ending in _TEXT else self._drawn(ending[1:])
        with replacing(target) as file:
            file.write(content)

    def _drawn(self, kind: str) -> bytes:
        program = shutil.which("dot")
        if program is None:
            raise MissingDependency(
                f"graph: a picture (.{kind}) needs Graphviz, and there is no `dot` on the PATH. Install Graphviz, or "
                "save the text as .dot and draw it elsewhere."
            )
        done = subprocess.run(
            [program, f"-T{kind}"], input=self.dot.encode(), capture_output=True, check=False
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise MissingDependency(f"graph: {program} failed with code {done.returncode}: {said}")
        return done.stdout

    def _repr_svg_(self) -> str | None:
        """The picture for notebooks; None where it cannot be drawn."""
        try:
            return self._drawn("svg").decode()
        except (MissingDependency, OSError):
            return None


def graph(f: Callable[..., Any], *args: Any) -> ProgramGraph:
    """Draw the operations of a function as a graph.

    Parameters
    ----------
    f : callable or Program
        Function of arrays or trees of arrays, as for `stage`; or what `stage` returned, without ``args``.
    *args : array or tree
        Examples of the arguments: only structure, shapes and dtypes count.

    Returns
    -------
    ProgramGraph
        With ``.dot``, the text, and ``.save("net.svg")``.

    Raises
    ------
    TraceError
        The function cannot be staged.
    DomainError
        A Program is given together with arguments.

    Notes
    -----
    Boxes are the arguments (a leaf of a tree has its path, as ``model.layers[0].weight``), arrays that the function
    captured (dashed) and results; ovals are operations with the shape of what they return. What `scan`, `cond` and
    the like run stands in a frame of its own. A tooltip of the picture tells the line of your code.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> def predict(w, x):
    ...     return np.tanh(x @ w)
    >>> drawn = nm.graph(predict, np.ones((3, 4)), np.ones((2, 3)))
    >>> drawn
    ProgramGraph(predict: 14 lines of DOT)
    """
    if isinstance(f, Program):
        if args:
            raise DomainError(f"graph: a Program takes no `args`, got {len(args)}.")
        program, names = f, paths(f.in_def, "args")
    else:
        require_callable("graph", "f", f)
        names = input_names(f, args)
        with watching("lines"):
            program = stage(f, *args)
    writer = _Writer()
    writer.program(program, names)
    title = _quoted(program.name)
    head = [
        f"digraph {title} {{",
        "  graph [compound=true, rankdir=TB];",
        '  node [fontname="Helvetica", fontsize=11];',
        '  edge [fontname="Helvetica", fontsize=9];',
    ]
    return ProgramGraph("\n".join([*head, *writer.lines, "}", ""]), program.name)


def _quoted(text: str) -> str:
    r"""A DOT string: quotes and backslashes are escaped, a line break is ``\n``."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", " ")
    return '"' + text.replace("\n", "\\n") + '"'


def _kind(x: Any) -> str:
    return f"{x.dtype} {tuple(x.shape)}"


class _Writer:
    """The lines of a graph; nodes are numbered through, since variables of sub-programs repeat their numbers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.nodes = 0
        self.clusters = 0

    def node(self, depth: int, label: str, **attributes: str) -> str:
        """Write a node and return its name."""
        name = f"n{self.nodes}"
        self.nodes += 1
        more = "".join(f", {k}={_quoted(a)}" for k, a in attributes.items() if a)
        self.lines.append(f"{'  ' * (depth + 1)}{name} [label={_quoted(label)}{more}];")
        return name

    def edge(self, depth: int, tail: str, head: str, label: str = "") -> None:
        """Write an edge."""
        text = f" [headlabel={_quoted(label)}]" if label else ""
        self.lines.append(f"{'  ' * (depth + 1)}{tail} -> {head}{text};")

    def program(self, program: Program, names: Iterable[str]) -> None:
        """Write a program."""
        inputs = dict(zip(program.inputs, names, strict=True))
        outputs = zip(paths(program.out_def, "result"), program.outputs, strict=True)
        self.body(0, inputs, program.constants, program.equations_with_lines(), list(outputs))

    def body(
        self,
        depth: int,
        inputs: Mapping[Var, str],
        constants: Mapping[Var, Any],
        equations: Iterable[tuple[Any, int]],
        outputs: Iterable[tuple[str, Any]],
    ) -> str:
        """Write inputs, constants, equations and outputs; return the first node."""
        first = f"n{self.nodes}"
        source: dict[
            Var, tuple[str, str]
        ] = {}  # the node that made a variable, and which of its results it is
        for v, name in inputs.items():
            box = {"shape": "box", "style": "filled", "fillcolor": "#dbe9f6"}
            source[v] = self.node(depth, f"{name}\n{_kind(v)}", **box), ""
        for v in constants:
            box = {"shape": "box", "style": "dashed"}
            source[v] = self.node(depth, f"constant\n{_kind(v)}", **box), ""
        for (primitive, operands, outs, params), number in equations:
            self.equation(depth, primitive.name, operands, outs, params, origin_of(number), source)
        for name, x in outputs:
            box = {"shape": "box", "style": "filled", "fillcolor": "#e3f1dd"}
            label = name if isinstance(x, Var) else f"{name}\n{_number(x)}"
            node = self.node(depth, label, **box)
            if isinstance(x, Var):
                self.edge(depth, source[x][0], node, source[x][1])
        return first

    def equation(
        self,
        depth: int,
        name: str,
        operands: tuple[Any, ...],
        outs: tuple[Var, ...],
        params: Mapping[str, Any],
        origin: Origin,
        source: dict[Var, tuple[str, str]],
    ) -> None:
        """Write a node for an equation, its edges, and a frame for each of its sub-programs."""
        variables = [x for x in operands if isinstance(x, Var)]
        call = name
        if len(variables) < len(operands):
            call += f"({', '.join('_' if isinstance(x, Var) else _number(x) for x in operands)})"
        shown = [f"{k}={text}" for k, p in params.items() if (text := _parameter(p))]
        lines = [call, *shown, *(_kind(v) for v in outs)]
        tooltip = "" if not origin.line else f"{origin.line}: {origin.source}"
        node = self.node(depth, "\n".join(lines), shape="ellipse", tooltip=tooltip)
        order = len(set(variables)) > 1  # the order of operands counts
        for k, x in enumerate(operands):
            if isinstance(x, Var):
                tail, which = source[x]
                label = str(k) if order else ""
                self.edge(
                    depth, tail, node, f"{label} of {which}" if label and which else label or which
                )
        for k, v in enumerate(outs):
            source[v] = node, f"result {k}" if len(outs) > 1 else ""
        for what, sub in sub_programs_of(params):
            self.frame(depth, node, f"{name}: {what}", sub)

    def frame(self, depth: int, node: str, title: str, sub: SubProgram) -> None:
        """Write a sub-program in a cluster, joined to its operation by a dashed line."""
        cluster = f"cluster_{self.clusters}"
        self.clusters += 1
        pad = "  " * (depth + 1)
        self.lines.append(f"{pad}subgraph {cluster} {{")
        self.lines.append(f'{pad}  label={_quoted(title)}; fontname="Helvetica"; fontsize=11;')
        inputs = {v: f"input {k}" for k, v in enumerate(sub.inputs)}
        numbered = [(e, sub.lines.get(e[2][0], 0)) for e in sub.equations]
        outputs = [(f"output {k}", x) for k, x in enumerate(sub.outputs)]
        before = self.nodes
        first = self.body(depth + 1, inputs, sub.constants, numbered, outputs)
        self.lines.append(f"{pad}}}")
        if self.nodes > before:
            self.lines.append(
                f"{pad}{node} -> {first} [lhead={cluster}, style=dashed, arrowhead=none];"
            )


def _number(x: Any) -> str:
    return repr(x.item() if isinstance(x, np.generic) else x)


def _parameter(p: Any) -> str:
    """A parameter in few characters; "" where there is nothing to say."""
    if p is None or p is False or isinstance(p, SubProgram) or hasattr(p, "shape") or callable(p):
        return ""
    if isinstance(p, tuple) and any(isinstance(x, SubProgram) or hasattr(x, "shape") for x in p):
        return ""
    text = str(p) if isinstance(p, np.dtype) else describe(p) if isinstance(p, str) else repr(p)
    return text if len(text) <= _LONGEST else ""
