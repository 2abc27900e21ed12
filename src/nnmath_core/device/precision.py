"""The precision of float32 matrix products on CUDA devices: `matmul_precision`."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Literal

from nnmath_core.checks import require_in

__all__ = ["MatmulPrecision", "current_matmul_precision", "matmul_precision"]

MatmulPrecision = Literal["highest", "tf32"]

# Every name that is accepted, and the one that is told.
_NAMES: dict[str, MatmulPrecision] = {"highest": "highest", "float32": "highest", "tf32": "tf32"}
_ADVICE = '"highest" (or "float32") keeps float32, "tf32" lets tensor cores round the factors.'

_precision: contextvars.ContextVar[MatmulPrecision] = contextvars.ContextVar(
    "nnmath_matmul_precision", default="highest"
)


def current_matmul_precision() -> MatmulPrecision:
    """Return the precision of float32 matrix products on CUDA devices, as it is here and now.

    Returns
    -------
    {"highest", "tf32"}
        ``"highest"``, or what the enclosing `matmul_precision` says.

    Examples
    --------
    >>> current_matmul_precision()
    'highest'
    """
    return _precision.get()


def matmul_precision(
    p: Literal["highest", "float32", "tf32"],
) -> contextlib.AbstractContextManager[MatmulPrecision]:
    r"""Choose how float32 matrices are multiplied on CUDA devices inside a ``with`` block.

    In TF32 the tensor cores of a GPU (compute capability 8.0 or newer) round both factors to 10 bits
    of fraction, multiply exactly and add in float32, which is several times as fast:

    .. math:: |z_{ij} - (xy)_{ij}| \lesssim 2^{-10} \sum_p |x_{ip}| |y_{pj}|

    Parameters
    ----------
    p : {"highest", "float32", "tf32"}
        ``"highest"``, which is the default and is also called ``"float32"``: products and sums in
        float32. ``"tf32"``: the factors may be rounded.

    Returns
    -------
    context manager
        Its value is the precision, ``"highest"`` or ``"tf32"``. The setting belongs to the current
        thread or asynchronous task (a context variable) and ends with the block, also by an exception.

    Raises
    ------
    DomainError
        ``p`` is another name.

    Notes
    -----
    It is read when a product runs, so that one compiled function can run either way;
    `nnmath_core.show_config` says what is set. Products of float32 and complex64 matrices on CUDA
    devices follow it. Other dtypes, inner products of two vectors, factorisations and the CPU do not.
    GPUs older than compute capability 8.0 have no TF32 and stay in float32.

    The default never uses TF32, whatever the environment variable ``CUPY_TF32`` or the math mode of
    CuPy's cuBLAS handle say. (``NVIDIA_TF32_OVERRIDE`` is NVIDIA's switch for debugging, under all
    libraries.)

    In JAX, ``jax.default_matmul_precision`` calls these ``"highest"`` or ``"float32"``, and
    ``"tensorfloat32"``, which is JAX's default on a GPU. In PyTorch,
    ``torch.set_float32_matmul_precision`` calls them ``"highest"``, its default, and ``"high"``.

    References
    ----------
    Stosic and Micikevicius, "Accelerating AI training with NVIDIA TF32 tensor cores", 2021.

    Examples
    --------
    >>> with matmul_precision("tf32") as p:
    ...     print(p, current_matmul_precision())
    tf32 tf32
    >>> current_matmul_precision()
    'highest'
    """
    require_in("matmul_precision", "p", p, tuple(_NAMES), _ADVICE)
    return _set(_NAMES[p])


@contextlib.contextmanager
def _set(p: MatmulPrecision) -> Iterator[MatmulPrecision]:
    token = _precision.set(p)
    try:
        yield p
    finally:
        _precision.reset(token)
