"""The examples of a Markdown page: run in order, in one namespace, and compared with what the page shows.

An example is a block marked ``python``. Where a block marked ``text`` follows it, that is what it
must print; an example that raises prints ``NameOfTheError: message``. In the text ``...`` stands
for anything and any two runs of white space are equal. An example without a text prints nothing.
`conf.py` runs them when the documentation is made, `tests/test_docs.py` with the other tests.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import itertools
import linecache
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Example:
    """One block of code, what it must print, and the line of the page where it begins."""

    code: str
    printed: str
    line: int


@dataclass
class Run:
    """What running a page has left: its names, and a paragraph for each example that failed."""

    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    failures: list[str] = field(default_factory=list)


def examples_of(text: str) -> list[Example]:
    """Return the examples of a page in order."""
    found = []
    for fence, after in itertools.pairwise([*_FENCE.finditer(text), None]):
        if fence[1] != "python":
            continue
        shown = (
            after is not None
            and after[1] == "text"
            and not text[fence.end() : after.start()].strip()
        )
        line = text.count("\n", 0, fence.start()) + 2
        found.append(Example(fence[2], after[2] if shown else "", line))
    return found


def run(page: Path) -> Run:
    """Run the examples of a page; what they set in NumPy (`numpy.seterr`, ...) ends with it."""
    done = Run()
    with np.errstate(), np.printoptions():
        for example in examples_of(page.read_text(encoding="utf-8")):
            printed = _printed(example, f"<{page.name}:{example.line}>", done.names)
            if not doctest.OutputChecker().check_output(example.printed, printed, _FLAGS):
                done.failures.append(
                    f"{page.name}, line {example.line}: this example\n\n{example.code}\n"
                    f"should print\n\n{example.printed or '(nothing)'}\n\n"
                    f"and printed\n\n{printed}"
                )
    return done


def _printed(example: Example, name: str, names: dict[str, Any]) -> str:
    """Return what an example prints; warnings are errors, as in the tests."""
    # error messages quote the line of the user, which they look up here
    lines = example.code.splitlines(keepends=True)
    linecache.cache[name] = (len(example.code), None, lines, name)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            exec(compile(example.code, name, "exec"), names)
        except Exception as error:
            print(f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ()), sep="\n")
    return out.getvalue()
