"""The number of threads of compiled programs: `threads`."""

from __future__ import annotations

from types import TracebackType

from nnmath_core._ext import _threads
from nnmath_core.checks import describe, require_positive_int, sentence
from nnmath_core.errors import DomainError

__all__ = ["Threads", "threads"]


class Threads(int):
    """A number of threads; in a ``with`` statement, the number inside of the block.

    Made by `threads`. After the block the number is again what it was before the call.

    Examples
    --------
    >>> threads(1) == 1
    True
    """

    _before: int

    def __new__(cls, n: int, before: int | None = None) -> Threads:
        """Return the number ``n``, which `threads` set in place of ``before``."""
        self = super().__new__(cls, n)
        self._before = n if before is None else before
        return self

    def __enter__(self) -> Threads:
        _threads.set_number(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _threads.set_number(self._before)


def threads(n: int | None = None) -> Threads:
    """Return the number of threads that a compiled program may use, or set it.

    ``nm.threads(2)`` sets it from now on, ``with nm.threads(1):`` for a block. The setting is one
    for the process. It is a limit: small programs, and those that find the cores at work on
    something else, use fewer.

    Parameters
    ----------
    n : int, optional
        The new number, from 1 to 1024. More than there are CPUs is the same as their number.

    Returns
    -------
    Threads
        The number that holds now, an ``int``. As a context manager it sets the number for the
        block and restores afterwards what held before this call.

    Raises
    ------
    DtypeError
        ``n`` is no integer.
    DomainError
        ``n`` is below 1 or above 1024.

    Notes
    -----
    The number is first that of the environment variable ``OMP_NUM_THREADS`` (of a list, the first),
    else of the CPUs on which the process may run. A value that is no positive integer is ignored,
    with a ``RuntimeWarning`` when the number is first needed.
    No thread is started before a program runs on several. A forked child keeps the number and
    runs on one thread. With one thread results are the same to the bit on every call; see the
    page "Threads" of the documentation.

    Examples
    --------
    >>> with threads(1):
    ...     threads()
    1
    """
    before = _threads.number()
    if n is None:
        return Threads(before, before)
    n = require_positive_int("threads", "n", n, "One thread is the least: `nm.threads(1)`.")
    if n > _threads.most():
        wanted = f"at most {_threads.most()}"
        raise DomainError(sentence("threads", "n", wanted, describe(n)))
    _threads.set_number(n)
    return Threads(n, before)
