"""What convolutions and their layers share: the checks of operands, a bias, the draw of the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import DTypeLike

from nnmath_core.checks import (
    describe,
    require_callable,
    require_in,
    require_positive_int,
    require_rng,
    require_shape,
    sentence,
)
from nnmath_core.device import backend_for, current_default_device
from nnmath_core.errors import ShapeError
from nnmath_core.nn.initializers import require_float_dtype
from nnmath_core.nn.operands import require_operand, require_operand_of
from nnmath_core.nn.spatial import per_axis
from nnmath_core.typing import Array, Rng

__all__ = ["KernelLayer", "kernel_operands", "require_channels", "with_bias"]


def kernel_operands(who: str, name: str, x: Any, kernel: Any) -> tuple[Array, Array, int]:
    """Return input and kernel as arrays, and how many axes of positions the kernel has.

    Raises
    ------
    DtypeError
        One is no array of floats, or the two differ in dtype.
    ShapeError
        The kernel has fewer than three axes or no window, or the input has too few axes.
    """
    kernel = require_operand(who, name, kernel)
    shape = tuple(kernel.shape)
    if len(shape) < 3 or 0 in shape[:-2]:
        wanted = "of shape (*window, in / groups, out), a window of at least one entry"
        raise ShapeError(sentence(who, name, wanted, str(shape)))
    x = require_operand_of(who, "x", x, kernel.dtype, name)
    axes = len(shape) - 2
    if len(x.shape) <= axes:
        wanted = f"of shape (..., {', '.join(['size'] * axes)}, in): {axes + 1} axes or more"
        advice = "One channel is an axis of length 1: `x[..., None]`."
        raise ShapeError(sentence(who, "x", wanted, str(tuple(x.shape)), advice))
    return x, kernel, axes


def require_channels(who: str, name: str, x: Array, kernel: Array, groups: int) -> None:
    """Refuse channels that do not fit the kernel, and groups that do not divide those of the output.

    Raises
    ------
    ShapeError
        Either of the two.
    """
    each, outs = kernel.shape[-2:]
    if x.shape[-1] != each * groups:
        wanted = f"of shape (..., {each * groups}), the channels last"
        advice = (
            f"`{name}` {tuple(kernel.shape)} takes {each} channels for each of {groups} groups."
        )
        raise ShapeError(sentence(who, "x", wanted, str(tuple(x.shape)), advice))
    if outs % groups:
        wanted = f"a divisor of the {outs} channels of the output"
        raise ShapeError(sentence(who, "groups", wanted, str(groups)))


def with_bias(who: str, y: Array, bias: Any, kernel: Array, name: str) -> Array:
    """Return ``y + bias``.

    Raises
    ------
    DtypeError, ShapeError
        The bias has another dtype than the kernel, or not one number for each channel.
    """
    if bias is None:
        return y
    bias = require_operand_of(who, "bias", bias, kernel.dtype, name)
    require_shape(who, "bias", bias, (kernel.shape[-1],), "One number for each channel.")
    shifted: Array = y + bias
    return shifted


@dataclass(frozen=True, eq=False, repr=False)
class KernelLayer:
    """What layers with a kernel share: the draw of the weights, the check of its axes."""

    weight: Array
    bias: Array | None

    axes: ClassVar[int]

    @classmethod
    def drawn(
        cls,
        sizes: Any,
        kernel: Any,
        groups: Any,
        bias: bool,
        init: Callable[..., Array],
        rng: Rng,
        dtype: DTypeLike,
    ) -> tuple[Array, Array | None]:
        """Return a random weight and a bias of zeros or None.

        Raises
        ------
        ShapeError, DomainError, DtypeError
            An argument is not as the layer says.
        """
        who = f"{cls.__name__}.init"
        if not isinstance(sizes, tuple | list) or len(sizes) != 2:
            got = str(sizes) if isinstance(sizes, tuple | list) else describe(sizes)
            raise ShapeError(sentence(who, "sizes", "a pair (in, out)", got))
        ins, outs = (require_positive_int(who, f"sizes[{i}]", n) for i, n in enumerate(sizes))
        window = per_axis(who, "kernel", kernel, cls.axes, 1)
        groups = require_positive_int(who, "groups", groups)
        if ins % groups or outs % groups:
            wanted = f"a divisor of the {ins} and {outs} channels"
            raise ShapeError(sentence(who, "groups", wanted, str(groups)))
        require_callable(who, "init", init)
        require_in(who, "bias", bias, (True, False))
        dtype = require_float_dtype(who, dtype)
        generator = require_rng(who, rng)
        shape = (*window, ins // groups, outs)
        weight = init(shape, rng=generator, dtype=dtype)
        weight = require_operand_of(who, "init(...)", weight, dtype, "dtype")
        require_shape(who, "init(...)", weight, shape)
        xp = backend_for(current_default_device()).xp
        return weight, xp.zeros(outs, dtype) if bias else None

    def require_weight(self) -> None:
        """Refuse a weight with another number of axes.

        Raises
        ------
        ShapeError
        """
        who = type(self).__name__
        weight = require_operand(who, "weight", self.weight)
        if len(weight.shape) != self.axes + 2:
            window = ", ".join(("k",) if self.axes == 1 else ("kh", "kw"))
            wanted = f"of shape ({window}, in / groups, out)"
            raise ShapeError(sentence(who, "weight", wanted, str(tuple(weight.shape))))

    def require_input(self, x: Any) -> None:
        """Refuse an input with other axes than examples, positions and channels.

        Raises
        ------
        ShapeError
        """
        shape = tuple(getattr(x, "shape", ()))
        if hasattr(x, "shape") and len(shape) not in (self.axes + 1, self.axes + 2):
            places = ", ".join(("t",) if self.axes == 1 else ("h", "w"))
            wanted = f"of shape (n, {places}, c), or ({places}, c) for one example"
            raise ShapeError(sentence(type(self).__name__, "x", wanted, str(shape)))

    def show(self, **options: tuple[Any, Any]) -> str:
        """Return the layer as it prints, with the options that are not (value, default) alike."""
        said = [f"weight: {describe(self.weight)}", f"bias: {describe(self.bias)}"]
        said += [
            f"{name}={value!r}" for name, (value, default) in options.items() if value != default
        ]
        return f"{type(self).__name__}({', '.join(said)})"
