"""Progress bars on the error stream, where it is a terminal and tqdm is installed."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

__all__ = ["Progress"]


class Progress:
    """A bar over a known number of steps; silent where nobody would see it.

    Examples
    --------
    >>> with Progress("training", 2) as bar:
    ...     bar.advance()
    """

    def __init__(self, what: str, total: int, *, show: bool = True) -> None:
        self._bar: Any = None
        if not (show and sys.stderr.isatty()):
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        form = "{desc:<34}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
        self._bar = tqdm(total=total, desc=what, bar_format=form, leave=False, file=sys.stderr)

    def advance(self, steps: int = 1) -> None:
        """Say that so many more steps are done."""
        if self._bar is not None:
            self._bar.update(steps)

    def reach(self, step: int) -> None:
        """Say that so many steps are done in all."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
