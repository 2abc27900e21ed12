"""compile: a function of arrays as a program that runs in C."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from nnmath_core._ext._autodiff import Tracer, dtype_of, shape_of, stage_door
from nnmath_core._ext._plan import Door
from nnmath_core._ext._tree import flatten, unflatten
from nnmath_core.checks import describe, require_callable, sentence
from nnmath_core.device import CPU, Device, backend_for, device_of
from nnmath_core.errors import DeviceError, DtypeError, TraceError, TreeError
from nnmath_core.program.cuda import DevicePlan, planned_on
from nnmath_core.program.effects import Effects
from nnmath_core.program.inspection import Inspection, inspected
from nnmath_core.program.ir import Program
from nnmath_core.program.passes import optimize
from nnmath_core.program.plan import Plan, admitted, argument_name, planned

__all__ = ["Compiled", "compile"]


def compile(
    f: Callable[..., Any],
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    donate_argnums: int | Sequence[int] = (),
    deterministic: bool = False,
) -> Compiled:
    r"""Make a function run as one program in C, without Python.

    Parameters
    ----------
    f : callable
        Function of arrays or trees of arrays. Derivatives may be inside, as in
        ``nm.compile(nm.value_and_grad(loss))``; so may `vmap`, `cond`, `while_loop`, `scan`.
    static_argnums : int or sequence of int
        Arguments by position that are no arrays but part of the function: each new value compiles anew. They must be
        hashable.
    static_argnames : str or sequence of str
        The same for keyword arguments.
    donate_argnums : int or sequence of int
        Arguments whose memory the results of the same shapes and dtypes take, in order: the returned arrays are those
        that were passed in. For training steps, whose old parameters nobody needs.
    deterministic : bool, default False
        Split matrix products among threads by shape alone, so that the bits do not depend on the number of threads.

    Returns
    -------
    Compiled
        Callable as ``f`` is, and with ``out=``, arrays that receive the result; it has ``.plan(*args)`` and
        ``.inspect(*args)``.

    Raises
    ------
    TraceError
        When it is called: Python control flow, or a conversion, needs a value that does not exist while the function is
        recorded; ``f`` changes an array that it closes over, or draws from a random generator of the host.

    Notes
    -----
    At the first call with arguments of some structure, shapes and dtypes the function is recorded (`stage`), simplified
    and turned into a `Plan`; later calls run the plan. Numbers of Python stay weak: ``compile(f)(x, 0.1)`` gives
    float32 for a float32 ``x``, and another number does not compile anew. Arrays that ``f`` closes over are copied when
    it is recorded. Operations that do not depend on the arguments run once, then.

    Results equal those of ``f`` to rounding, NaN and infinity included; there are no floating-point warnings. With a
    tracer among the arguments, ``f`` itself is called: a compiled function can be differentiated, mapped and staged.
    A call costs about a microsecond and allocates nothing but its results. It may be called from several threads at
    once.

    With arrays on a CUDA device the plan queues work there: elementwise operations and reductions as generated kernels,
    products by cuBLAS, a step of an optimizer as one kernel; what has no such form (sorting, factorisations, control
    flow, selections by index arrays) runs as `f` runs it. It queues on the current stream and waits for nothing, unless
    one of those does. Captured arrays of the host are copied to the device when it is compiled.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> g = nm.compile(nm.grad(lambda x: np.sum(np.tanh(x) ** 2)))
    >>> g(np.array([0.0, 1.0]))
    array([0.        , 0.63970001])
    """
    require_callable("compile", "f", f)
    return Compiled(
        f,
        _positions("static_argnums", static_argnums),
        (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames),
        _positions("donate_argnums", donate_argnums),
        bool(deterministic),
    )


def _positions(name: str, given: int | Sequence[int]) -> tuple[int, ...]:
    numbers = tuple(given) if isinstance(given, Iterable) else (given,)
    for k in numbers:
        if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 0:
            raise DtypeError(
                sentence("compile", name, "positions of arguments, 0 or more", describe(k))
            )
    return tuple(int(k) for k in numbers)


class Compiled(Door):
    """A function that runs in C; what `compile` returns.

    Attributes
    ----------
    f : callable
        The function.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        static: tuple[int, ...],
        static_names: tuple[str, ...],
        donated: tuple[int, ...],
        deterministic: bool,
    ) -> None:
        both = set(static) & set(donated)
        if both:
            raise DtypeError(
                f"compile: argument {min(both)} is static and donated; what is static has no memory to give."
            )
        self.f = f
        self.__wrapped__ = f
        self.__name__ = getattr(f, "__name__", type(f).__name__)
        self.__doc__ = getattr(f, "__doc__", None)
        self._static, self._static_names = static, static_names
        self._donated, self._deterministic = donated, deterministic
        self._plans: dict[Any, Plan | DevicePlan] = {}
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"compile({self.__name__})"

    def __reduce__(self) -> Any:
        raise TypeError(
            f"compile: {self.__name__} as a program in C cannot be pickled or copied; pickle the function and "
            "compile it again."
        )

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """A compiled function in a class body is a method, with the instance as an argument."""
        return self if instance is None else types.MethodType(self, instance)

    # ---------------------------------------------------------------------------------------------- calls
    def called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Find or make the plan of these arguments, and run it."""
        out = kwargs.pop("out", None)
        leaves, in_def, statics = self._taken(args, kwargs)
        if any(isinstance(x, Tracer) for x in leaves):
            if out is not None:
                raise TraceError(
                    "compile: `out` cannot receive the result of a traced call; leave it out."
                )
            return self.f(*args, **kwargs)
        plan = self._found(args, kwargs, leaves, in_def, statics)
        if isinstance(plan, Plan) and not kwargs and not statics[0]:
            self.settle(plan.executable)
        return plan.execute(leaves, out)

    def plan(self, *args: Any, **kwargs: Any) -> Any:
        """The Plan for arguments of these structures, shapes and dtypes, on their device.

        Parameters
        ----------
        *args, **kwargs
            As in a call; of arrays only shapes and dtypes count.

        Returns
        -------
        Plan or DevicePlan
        """
        leaves, in_def, statics = self._taken(args, kwargs)
        return self._found(args, kwargs, leaves, in_def, statics)

    def inspect(self, *args: Any, **kwargs: Any) -> Inspection:
        """What the function becomes for such arguments: its program, passes, instructions, memory map and cost.

        Parameters
        ----------
        *args, **kwargs
            As in a call; of arrays only shapes and dtypes count.

        Returns
        -------
        Inspection
            Prints itself; ``nm.graph(inspection.program)`` draws the program.
        """
        return inspected(self.plan(*args, **kwargs))

    # ---------------------------------------------------------------------------------------------- plans
    def _taken(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Leaves of what is not static, their tree, and what is static."""
        if self._static or self._static_names:
            for k in self._static:
                if k >= len(args):
                    raise TreeError(
                        f"compile: static argument {k} was not given; there are {len(args)} arguments."
                    )
            by_place = {k: args[k] for k in self._static}
            by_name = {k: kwargs[k] for k in self._static_names if k in kwargs}
            statics = (by_place, by_name)
        else:
            statics = ({}, {})
        leaves, in_def = flatten(_dynamic(args, kwargs, statics))
        return admitted(leaves), in_def, statics

    def _found(self, args: Any, kwargs: Any, leaves: list[Any], in_def: Any, statics: Any) -> Any:
        place = _place(leaves, in_def)
        kinds = (_kind(x, i, in_def) for i, x in enumerate(leaves))
        key = (in_def, place, _hashable(statics), *kinds)
        plan = self._plans.get(key)
        if plan is None:
            with self._lock:
                plan = self._plans.get(key)
                if plan is None:
                    make = self._made if place == CPU else self._made_on
                    plan = self._plans[key] = make(args, kwargs, leaves, in_def, statics)
        return plan

    def _program(self, leaves: list[Any], in_def: Any, statics: Any) -> Program:
        by_place, by_name = statics

        def of_leaves(positional: Any, named: Any) -> Any:
            full = [by_place.get(k, x) for k, x in enumerate(positional)]
            return self.f(*full, **named, **by_name)

        with Effects(self.f) as effects:
            recording, outputs, out_def = stage_door(
                of_leaves, unflatten(in_def, leaves), "compile", False, False, True
            )
            effects.check()
        return Program(recording, in_def, outputs, out_def, self.__name__)

    def _made_on(
        self, args: Any, kwargs: Any, leaves: list[Any], in_def: Any, statics: Any
    ) -> DevicePlan:
        """The plan of a device. What the function captured there becomes an argument, which no pass looks into."""
        be = backend_for(_place(leaves, in_def))
        with be.scope():
            program = self._program(leaves, in_def, statics)
        captured = {v: x for v, x in program.constants.items() if not isinstance(x, np.ndarray)}
        for x in captured.values():
            if device_of(x) != be.device:
                raise DeviceError(
                    f"compile: the arguments of {self.__name__} are on {be.device}, and it captured an array on "
                    f'{device_of(x)}. Move it: nm.to_device(x, "{be.device}").'
                )
        rest = {v: x for v, x in program.constants.items() if v not in captured}
        program = program.replaced(inputs=(*program.inputs, *captured), constants=rest)
        donated = self._donated_leaves(args, kwargs, statics)
        return planned_on(be, *optimize(program), donated, list(captured.values()))

    def _made(self, args: Any, kwargs: Any, leaves: list[Any], in_def: Any, statics: Any) -> Plan:
        program, passes = optimize(self._program(leaves, in_def, statics))
        donated = self._donated_leaves(args, kwargs, statics)
        flat = not kwargs and not statics[0] and all(flatten(a)[1].is_leaf for a in args)
        return planned(program, passes, donated, self._deterministic, len(args) if flat else -1)

    def _donated_leaves(self, args: Any, kwargs: Any, statics: Any) -> list[int]:
        """Which leaves belong to donated arguments."""
        out: list[int] = []
        at = 0
        positional, _ = _dynamic(args, kwargs, statics)
        beyond = [k for k in self._donated if k >= len(positional)]
        if beyond:
            raise TreeError(
                f"compile: donated argument {beyond[0]} was not given; there are {len(positional)} by position."
            )
        for k, a in enumerate(positional):
            n = len(flatten(a)[0])
            if k in self._donated:
                out += range(at, at + n)
            at += n
        return out


def _dynamic(args: tuple[Any, ...], kwargs: dict[str, Any], statics: Any) -> Any:
    """The arguments with nothing in the place of static ones."""
    by_place, by_name = statics
    if not by_place and not by_name:
        return args, kwargs
    return (
        tuple(None if k in by_place else x for k, x in enumerate(args)),
        {k: x for k, x in kwargs.items() if k not in by_name},
    )


def _hashable(statics: Any) -> Any:
    by_place, by_name = statics
    key = (tuple(by_place.items()), tuple(sorted(by_name.items())))
    try:
        hash(key)
    except TypeError:
        name, value = next(
            (k, v) for k, v in [*by_place.items(), *by_name.items()] if not _is_hashable(v)
        )
        raise DtypeError(
            f"compile: static argument {name!r} must be hashable, since each new value compiles anew, got "
            f"{describe(value)}. Pass arrays as ordinary arguments."
        ) from None
    # 1, 1.0 and True are equal
    return key, tuple(type(v) for v in (*by_place.values(), *by_name.values()))


def _is_hashable(x: Any) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True


def _place(leaves: list[Any], in_def: Any) -> Device:
    """The device of the leaves; numbers, also 0-d arrays of the host, are at home everywhere."""
    place, first = CPU, -1
    for i, x in enumerate(leaves):
        if not hasattr(x, "dtype") or (isinstance(x, (np.generic, np.ndarray)) and not x.ndim):
            continue
        own = device_of(x)
        if first < 0:
            place, first = own, i
        elif own != place:
            raise DeviceError(
                f"compile: {argument_name(in_def, i)} must be on {place} as {argument_name(in_def, first)} is, got "
                f'{own}. Nothing is moved in silence: nm.to_device(x, "{place}").'
            )
    return place


def _kind(x: Any, i: int, in_def: Any) -> Any:
    """What a plan depends on of a leaf."""
    if type(x) in (float, int, complex):
        if type(x) is int and not -(2**63) <= x < 2**63:
            raise DtypeError(
                f"compile: {argument_name(in_def, i)} must be an integer of 64 bits, got {x}. Pass a float."
            )
        return type(x)
    dtype = dtype_of(x)
    if dtype.kind not in "biufc":
        raise DtypeError(
            f"compile: {argument_name(in_def, i)} must be a numeric array, got {describe(x)}. What is part of the "
            "function is named in `static_argnums`."
        )
    return shape_of(x), dtype.num
