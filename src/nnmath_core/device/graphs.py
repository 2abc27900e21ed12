"""Whether compiled functions replay their kernels as CUDA graphs: `cuda_graphs`."""

from __future__ import annotations

from types import TracebackType

from nnmath_core.checks import describe, sentence
from nnmath_core.errors import DtypeError

__all__ = ["CudaGraphs", "cuda_graphs"]

_on = [False]


class CudaGraphs(int):
    """Whether graphs are on, 1 or 0; in a ``with`` statement, inside of the block.

    Made by `cuda_graphs`. After the block it is again what it was before the call.

    Examples
    --------
    >>> bool(cuda_graphs())
    False
    """

    _before: bool

    def __new__(cls, on: bool, before: bool | None = None) -> CudaGraphs:
        """Return the setting ``on``, which `cuda_graphs` made in place of ``before``."""
        self = super().__new__(cls, on)
        self._before = on if before is None else before
        return self

    def __repr__(self) -> str:
        return f"cuda_graphs({bool(self)})"

    def __enter__(self) -> CudaGraphs:
        _on[0] = bool(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _on[0] = self._before


def cuda_graphs(on: bool | None = None) -> CudaGraphs:
    """Return whether compiled functions replay their kernels on a GPU as CUDA graphs, or set it.

    ``nm.cuda_graphs(True)`` sets it from now on, ``with nm.cuda_graphs(True):`` for a block. The
    setting is one for the process, and off at the beginning: replay has never been run on a GPU.

    Parameters
    ----------
    on : bool, optional
        The new setting.

    Returns
    -------
    CudaGraphs
        The setting that holds now. As a context manager it sets it for the block and restores
        afterwards what held before this call.

    Raises
    ------
    DtypeError
        ``on`` is no boolean.

    Notes
    -----
    Kernels of a plan that follow each other, without a product or an operation that runs by
    definition between them, are recorded as one graph when they run a second time on the same
    memory, and from then on queued by one call. CuPy lets no product of cuBLAS be recorded. A graph
    holds addresses: it serves steps whose arguments are donated, and arguments that stay where they
    are; other calls queue their kernels one by one. A plan keeps at most eight graphs of each
    sequence and stream.

    Examples
    --------
    >>> with cuda_graphs(True):
    ...     print(cuda_graphs())
    cuda_graphs(True)
    """
    before = _on[0]
    if on is None:
        return CudaGraphs(before)
    if type(on) is not bool:
        raise DtypeError(sentence("cuda_graphs", "on", "True or False", describe(on)))
    _on[0] = on
    return CudaGraphs(on, before)
