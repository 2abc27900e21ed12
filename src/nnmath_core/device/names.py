"""The names of devices: `Device`, `device`, `devices`, and the default for new arrays."""

from __future__ import annotations

import contextlib
import contextvars
import re
from collections.abc import Iterator
from dataclasses import dataclass

from nnmath_core.checks import describe, sentence
from nnmath_core.device.driver import require_device, usable_cupy
from nnmath_core.errors import DeviceError, DtypeError

_SPELLING = re.compile(r"cpu|cuda(?::(\d{1,4}))?")
_WANTED = '"cpu", "cuda" or "cuda:<index>"'


@dataclass(frozen=True, slots=True, order=True)
class Device:
    """A place where arrays live and are worked on.

    Made by `device`, which makes sure that the device can be used.

    Attributes
    ----------
    kind : {"cpu", "cuda"}
    index : int
        The number of the CUDA device; 0 for the CPU.

    Examples
    --------
    >>> Device("cpu"), str(Device("cuda", 1))
    (Device('cpu'), 'cuda:1')
    """

    kind: str
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        # also its name: NumPy's arrays say "cpu" when they are asked for their device
        if isinstance(other, str):
            return str(self) == other
        if isinstance(other, Device):
            return (self.kind, self.index) == (other.kind, other.index)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return f"Device({str(self)!r})"


CPU = Device("cpu")


def device(name: str | Device) -> Device:
    """Return the device of this name, having made sure that it can be used.

    Parameters
    ----------
    name : str or Device
        ``"cpu"``, ``"cuda"`` (which is ``"cuda:0"``, whatever device another library made
        current) or ``"cuda:1"`` and so on. A `Device` is checked and returned.

    Returns
    -------
    Device

    Raises
    ------
    DeviceError
        No such name; or CuPy, the driver, a CUDA library or the device is missing, in which
        case the message says what is missing and how to install it.
    DtypeError
        ``name`` is neither a string nor a `Device`.

    Notes
    -----
    CuPy is imported by the first call that asks for a CUDA device, and never before.

    Examples
    --------
    >>> print(device("cpu"))
    cpu
    """
    if isinstance(name, Device):
        name = str(name)
    if not isinstance(name, str):
        raise DtypeError(sentence("device", "name", _WANTED, describe(name)))
    match = _SPELLING.fullmatch(name)
    if match is None:
        advice = 'NVIDIA GPUs are called "cuda".' if name.startswith("gpu") else ""
        raise DeviceError(sentence("device", "name", _WANTED, describe(name), advice))
    if name == "cpu":
        return CPU
    index = int(match[1] or 0)
    require_device(index)
    return Device("cuda", index)


def devices() -> tuple[Device, ...]:
    """Return the devices of this machine that `device` accepts, the CPU first.

    A CUDA device is listed when CuPy, its driver and its libraries can use it; where one is
    expected and missing, ``device("cuda")`` says why.

    Returns
    -------
    tuple of Device

    Examples
    --------
    >>> devices()[0]
    Device('cpu')
    """
    try:
        _, count = usable_cupy()
    except DeviceError:
        return (CPU,)
    found = [CPU]
    for index in range(count):
        with contextlib.suppress(DeviceError):
            found.append(device(f"cuda:{index}"))
    return tuple(found)


_default: contextvars.ContextVar[Device] = contextvars.ContextVar(
    "nnmath_default_device", default=CPU
)


def current_default_device() -> Device:
    """Return the device of new arrays: the CPU, or that of the enclosing `default_device`.

    Returns
    -------
    Device

    Examples
    --------
    >>> print(current_default_device())
    cpu
    """
    return _default.get()


def default_device(d: str | Device) -> contextlib.AbstractContextManager[Device]:
    """Make ``d`` the device of new arrays inside a ``with`` block.

    Only functions that create arrays from nothing (``zeros``, ``arange``, random numbers) read it;
    what has array arguments runs where these are.

    Parameters
    ----------
    d : str or Device
        As for `device`.

    Returns
    -------
    context manager
        Its value is the `Device`. The setting belongs to the current thread or asynchronous task
        (a context variable) and ends with the block, also by an exception.

    Raises
    ------
    DeviceError
        ``d`` cannot be used; nothing has been set.

    Examples
    --------
    >>> with default_device("cpu") as d:
    ...     print(d, current_default_device() == d)
    cpu True
    """
    return _set_default(device(d))


@contextlib.contextmanager
def _set_default(d: Device) -> Iterator[Device]:
    token = _default.set(d)
    try:
        yield d
    finally:
        _default.reset(token)
