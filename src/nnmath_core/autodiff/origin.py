"""Where in the user's code an operation was asked for."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from dataclasses import dataclass, replace
from types import FrameType

__all__ = ["Origin", "here", "is_passed_over", "user_frame"]

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_STDLIB = sysconfig.get_paths()["stdlib"]
_inside: dict[str, bool] = {}  # file -> whether it is one of those that are passed over


def is_passed_over(name: str) -> bool:
    """Whether a file belongs to this package, to NumPy, SciPy or pandas, or to the standard library."""
    known = _inside.get(name)
    if known is None:
        folders = [
            os.path.dirname(os.path.abspath(sys.modules[library].__file__ or ""))
            for library in ("numpy", "scipy", "pandas")
            if library in sys.modules
        ]
        known = (
            (name.startswith(_STDLIB) and "-packages" not in name)
            or name.startswith((_HERE + os.sep, "<frozen"))
            or any(name.startswith(folder + os.sep) for folder in folders)
        )
        _inside[name] = known
    return known


def user_frame() -> tuple[FrameType | None, tuple[str, ...]]:
    """The first frame outside of this package, NumPy, SciPy, pandas and the standard library; the files on the way."""
    inside = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_passed_over(frame.f_code.co_filename):
        inside.append(frame.f_code.co_filename)
        frame = frame.f_back
    return frame, tuple(inside)


@dataclass(frozen=True)
class Origin:
    """A line of the user's code, and of which operations on it this is the derivative.

    Attributes
    ----------
    file : str
        ``""`` where nothing is known.
    number : int
        Of the line.
    function : str
        The function that it is in.
    rules : tuple of str
        Names of primitives, innermost derivative first; empty for the operation itself.
    """

    file: str = ""
    number: int = 0
    function: str = ""
    rules: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """``file.py:12``, or ``""``."""
        return f"{os.path.basename(self.file)}:{self.number}" if self.file else ""

    @property
    def source(self) -> str:
        """The text of the line, where it can be read."""
        return linecache.getline(self.file, self.number).strip()

    def derivative_of(self, name: str) -> Origin:
        """The origin of what a rule of this primitive does."""
        return replace(self, rules=(*self.rules, name))

    def __str__(self) -> str:
        text = f" ({self.source})" if self.source else ""
        return f"{self.line or 'an unknown line'}{text}"


def here() -> Origin:
    """The line of the user's code that is running."""
    frame, _ = user_frame()
    if frame is None:
        return Origin()
    return Origin(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
