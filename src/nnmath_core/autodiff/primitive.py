"""What a primitive is: one declaration that says everything, checked when it is made.

The compiled part (`PrimitiveBase`) holds what the traces read. This class adds what tests and documentation read
(samples, special points), turns `forward` into the host function, refuses an incomplete declaration at import, and
keeps the registry from which tests and tables are generated.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from nnmath_core._ext._autodiff import PrimitiveBase
from nnmath_core.device import Backend, backend_for
from nnmath_core.errors import DeviceError

__all__ = ["REGISTRY", "Draw", "Primitive", "Sample", "Special"]

REGISTRY: dict[str, Primitive] = {}
"""All primitives by name, in the order of their declaration."""


@dataclass(frozen=True)
class Sample:
    """One valid call of a primitive: operands in order and parameters by name."""

    operands: tuple[Any, ...]
    params: dict[str, Any] = field(default_factory=dict)


def sample(*operands: Any, **params: Any) -> Sample:
    """Operands and parameters as a `Sample`."""
    return Sample(operands, params)


@dataclass(frozen=True)
class Special:
    """A point where the derivative is a convention or a limit, with the value that is promised there.

    ``gradient`` has one entry for each operand, the derivative of the sum of the output; None: not differentiable in
    that operand. ``what`` is the row's text in the documentation.
    """

    what: str
    operands: tuple[Any, ...]
    gradient: tuple[Any, ...]
    params: dict[str, Any] = field(default_factory=dict)


class Draw:
    """Random operands for samples, reproducible from the primitive's name; float64, cast by the tests."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape: int) -> np.ndarray:
        """Standard normal numbers."""
        return self.rng.standard_normal(shape)

    def positive(self, *shape: int) -> np.ndarray:
        """Numbers in [0.3, 2.3]."""
        return self.rng.uniform(0.3, 2.3, shape)

    def within(self, low: float, high: float, *shape: int) -> np.ndarray:
        """Uniform numbers in [low, high]."""
        return self.rng.uniform(low, high, shape)

    def apart(self, *shape: int) -> np.ndarray:
        """Distinct numbers in random order, at least 0.1 apart and away from 0: no ties, no kinks nearby."""
        n = int(np.prod(shape))
        values = (np.arange(n) - n / 2 + 0.25) * 0.2 + self.rng.uniform(-0.02, 0.02, n)
        return self.rng.permutation(values).reshape(shape)

    def spd(self, n: int, *batch: int) -> np.ndarray:
        """Well-conditioned symmetric positive definite matrices."""
        a = self.rng.standard_normal((*batch, n, n))
        return a @ np.swapaxes(a, -1, -2) / n + np.eye(n)

    def index(self, high: int, *shape: int) -> np.ndarray:
        """Integers in [-high, high): valid indices of an axis of that length, negative ones included."""
        return self.rng.integers(-high, high, shape)

    def mask(self, *shape: int) -> np.ndarray:
        """Booleans, both values present when there is room."""
        m = self.rng.random(shape) < 0.5
        if m.size > 1:
            m.flat[0], m.flat[-1] = True, False
        return m


class Primitive(PrimitiveBase):
    """A differentiable operation, declared once.

    Parameters
    ----------
    name : str
        Unique name; also the forward function's name when ``forward`` is not given.
    forward : str or callable, optional
        A name that `Backend.function` resolves on each device, or ``forward(backend, *arrays, **params)``.
    elementwise : bool
        The output broadcasts the operands. ``vjp[i](g, xs, y, **params)`` multiplies by the derivative; it is the JVP
        rule too, and gives shape and batching. The sum over broadcast axes is the core's business. There are no
        parameters: what is not an operand belongs into the declaration, or makes the primitive a general one.
    linear, multilinear : bool
        Jointly linear in all operands, or linear in each differentiable operand: the JVP is the primitive itself.
    differentiable : bool
        False: the result carries no derivative (comparisons, ``argmax``).
    variadic : bool
        Any number of operands; rules are called with ``i=`` the operand's position.
    joint : bool
        One rule for all operands at once: ``vjp(gs, xs, ys) -> cotangents`` and ``jvp(ts, xs, ys) -> tangents``,
        where a missing tangent or cotangent is None.
    view : bool
        The output may share memory with the operand (in-place operators on it are then refused).
    vjp, jvp : sequence of callables
        One rule for each operand, ``(g or t, xs, y, **params)``, written in primitives. One of the two may be missing:
        it is the transpose of the other.
    keeps : sequence of str
        What each ``vjp`` rule reads: digits name operands, ``y`` the output, ``*`` all operands.
    selects : callable, optional
        ``selects(i, xs, y, **params)``: which entries are passed on to operand i (True: live), of the output's shape
        for elementwise primitives, else of the operand's shape. The ``vjp`` rule gives exactly 0 elsewhere.
    through : callable, optional
        ``through(mask, i, xs, y, **params)``: the mask of the output carried back to operand i. Missing: it ends here.
        Of several outputs a tuple of masks, None for those without a cotangent.
    shield : callable, optional
        ``shield(live, xs, y, **params) -> (xs, y)`` with 0 in place of what only entries that are not live were made
        of. For a primitive whose rule mixes entries: what is singular there does not reach the others.
    accumulate : callable, optional
        ``accumulate(out, g, xs, **params)``, for a primitive that reads entries of operand 0: adds the cotangent g into
        the operand's, a NumPy array, in place: what ``vjp`` says, at the cost of the entries that were read.
    inline : callable, optional
        ``inline(*operands, **params)``, of a primitive with sub-programs: what runs in place of an equation of a
        Program, on arrays or tracers; it decides by what is known of them. The ``vjp`` rule then gets ``needs``: which
        operands want a cotangent.
    shape : callable, optional
        ``shape(*avals, **params) -> Aval`` (a tuple of them for several outputs); not needed when elementwise.
    batch : callable, optional
        ``batch(on, values, size, **params)``: operands with ``on[i]`` have the batch axis first; so has the result.
    outputs : sequence of bool or "all", optional
        Several outputs, and which of them are differentiable.
    samples : callable
        ``samples(draw) -> list of Sample``: valid calls, from which the registry tests are made.
    special : sequence of Special
        Points where the derivative is a convention.
    domain : str
        Where the derivative exists, as the documentation prints it: ``"x > 0"``, ``"square, invertible"``; behind a
        semicolon remarks. Of an elementwise primitive the tests evaluate it.
    library : {"", "cusolver", "cufft", "cusparse", "absent"}
        The library that CuPy's implementation calls beside its own kernels and cuBLAS. The emulated device of the tests
        may lack it; then names, keywords and result types are what is checked without a GPU. ``"absent"``: CuPy has no
        implementation, and on a device the primitive is a `DeviceError` that says so.
    adapt : callable, optional
        ``adapt(ts, xs, ys, **params) -> ys``, for several outputs that are not unique (a basis of a repeated
        eigenvalue): in forward mode, the choice that moves smoothly along the tangent.
    register : bool
        False for the primitives that `custom_rule` makes.
    """

    def __init__(
        self,
        name: str,
        *,
        forward: str | Callable[..., Any] | None = None,
        elementwise: bool = False,
        linear: bool = False,
        multilinear: bool = False,
        differentiable: bool = True,
        variadic: bool = False,
        joint: bool = False,
        view: bool = False,
        vjp: Sequence[Callable[..., Any] | None] = (),
        jvp: Sequence[Callable[..., Any] | None] = (),
        keeps: Sequence[str] = (),
        selects: Callable[..., Any] | None = None,
        through: Callable[..., Any] | None = None,
        shield: Callable[..., Any] | None = None,
        accumulate: Callable[..., Any] | None = None,
        inline: Callable[..., Any] | None = None,
        shape: Callable[..., Any] | None = None,
        batch: Callable[..., Any] | None = None,
        outputs: Sequence[bool] | Literal["all"] | None = None,
        samples: Callable[[Draw], list[Sample]] | None = None,
        special: Sequence[Special] = (),
        domain: str = "everywhere",
        library: Literal["", "cusolver", "cufft", "cusparse", "absent"] = "",
        adapt: Callable[..., Any] | None = None,
        register: bool = True,
    ) -> None:
        self.forward = name if forward is None else forward
        self.domain = domain
        self.library = library
        self.samples = samples
        self.keeps = tuple(keeps)
        self.special = tuple(special)
        _refuse_incomplete(
            name, forward, elementwise, linear, multilinear, differentiable, variadic, vjp, jvp, keeps, shape, batch,
            samples, special, register,
        )  # fmt: skip
        super().__init__(
            name,
            host=self.on(backend_for("cpu")),
            elementwise=elementwise,
            linear=linear,
            multilinear=multilinear,
            differentiable=differentiable,
            variadic=variadic,
            view=view,
            selects=selects,
            through=through,
            accumulate=accumulate,
            shield=shield,
            inline=inline,
            adapt=adapt,
            shape=shape,
            batch=batch,
            vjp=vjp,
            jvp=jvp,
            keeps=keeps,
            joint=joint,
            several=outputs is not None,
            differentiable_outputs=None if outputs is None or outputs == "all" else tuple(outputs),
        )
        if elementwise:
            self.__signature__ = _signature_of_operands(getattr(self.host, "nin", len(vjp) or 1))
        if register:
            REGISTRY[name] = self

    def on(self, backend: Backend) -> Callable[..., Any]:
        """The forward function on a device."""
        if self.library == "absent" and backend.device.kind != "cpu":
            return functools.partial(_refuse_device, self.name, str(backend.device))
        if isinstance(self.forward, str):
            return backend.function(self.forward)
        return functools.partial(self.forward, backend)

    def draw_samples(self) -> list[Sample]:
        """The declared samples, the same in every process; a primitive that is not registered may have none."""
        found = [] if self.samples is None else self.samples(Draw(sum(map(ord, self.name))))
        if self.elementwise and any(s.params for s in found):
            raise TypeError(f"Primitive {self.name!r}: {_NO_PARAMETERS}")
        return found


_NO_PARAMETERS = (
    "an elementwise primitive has no parameters, since its rules never receive them; make them operands, or declare "
    "`shape` and `batch` in place of elementwise=True"
)


def _signature_of_operands(n: int) -> inspect.Signature:
    """Operands by position, and the keywords of a ufunc."""
    names = ["x"] if n == 1 else [f"x{i + 1}" for i in range(n)]
    operands = [inspect.Parameter(x, inspect.Parameter.POSITIONAL_ONLY) for x in names]
    return inspect.Signature([*operands, inspect.Parameter("kw", inspect.Parameter.VAR_KEYWORD)])


def _refuse_device(name: str, device: str, *operands: Any, **params: Any) -> Any:
    raise DeviceError(
        f"{name}: CuPy has no implementation, so there is none on {device}. Compute it on the host: "
        'nm.to_device(x, "cpu").'
    )


def _refuse_incomplete(
    name: str,
    forward: Any,
    elementwise: bool,
    linear: bool,
    multilinear: bool,
    differentiable: bool,
    variadic: bool,
    vjp: Sequence[Any],
    jvp: Sequence[Any],
    keeps: Sequence[str],
    shape: Any,
    batch: Any,
    samples: Any,
    special: Sequence[Special],
    register: bool,
) -> None:
    def refuse(what: str) -> None:
        raise TypeError(f"Primitive {name!r}: {what}")

    if register and name in REGISTRY:
        refuse("this name is taken; names are unique")
    if register and samples is None:
        refuse("declare `samples`: the registry tests are made from them")
    if not elementwise and (shape is None or batch is None):
        refuse("declare `shape` and `batch`; only an elementwise primitive has them for free")
    keywords = getattr(getattr(forward, "__code__", None), "co_kwonlyargcount", 0)
    if elementwise and (keywords or any(s.params for s in special)):
        refuse(_NO_PARAMETERS)
    if differentiable and not vjp and not jvp:
        refuse("declare `vjp` or `jvp`, or differentiable=False")
    if elementwise and differentiable and not vjp:
        refuse("an elementwise primitive declares its factor rules as `vjp`")
    if (linear or multilinear) and not vjp:
        refuse("a linear primitive declares its transpose as `vjp`")
    if vjp and len(keeps) != len(vjp):
        refuse(f"declare `keeps` for each of the {len(vjp)} vjp rules, got {len(keeps)}")
    if not differentiable and (vjp or jvp):
        refuse("it has rules and says differentiable=False")
    if variadic and len(vjp) > 1:
        refuse("a variadic primitive has one vjp rule, called with i=")
