"""The registry of cases: what is measured, on which inputs, against which floors, beside which peers.

A *family* is some work with inputs made from a seed. A *contender* does the work of a family in one engine; a *floor*
does less than the work, namely what nobody can avoid. A *row* is a family at one size with its targets. A *case* is a
family at growing sizes, which are measured on the CPU and on a GPU; rows are among the sizes. Modules of
``cases`` declare families, rows, our contenders and the floors; modules of ``peers`` declare what others do. None of
them imports a package at its top that need not be there, so every interpreter can load all of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Options = Mapping[str, Any]
Inputs = dict[str, Any]
SEED = 20261127

CASE_MODULES = (
    "training",
    "rows",
    "optimizers",
    "checks",
    "curvature",
    "structure",
    "small",
    "attention",
    "products",
    "ceilings",
)
PEER_MODULES = ("by_hand", "pytorch", "xla", "curvature_libraries")


@dataclass(frozen=True)
class Work:
    """One contender, ready to run.

    Parameters
    ----------
    run : callable
        Does the work once and returns when it is done.
    answer : list of arrays
        What the work gives for the inputs of the registry, in the order that the family says; empty for floors.
    eager : callable, optional
        The same answer without `nm.compile`; ours alone have it.
    """

    run: Callable[[], Any]
    answer: list[Any] = field(default_factory=list)
    eager: Callable[[], list[Any]] | None = None


@dataclass(frozen=True)
class Contender:
    """One way of doing the work of a family: ``build(inputs, options)`` makes it ready."""

    family: str
    engine: str
    name: str
    build: Callable[[Inputs, Options], Work]


@dataclass(frozen=True)
class Family:
    """Work that is the same but for its size.

    Parameters
    ----------
    name : str
    inputs : callable
        ``inputs(rng, options)`` gives arrays by name.
    count : callable
        ``count(options)`` gives (FLOPs, bytes that must move); zero where it says nothing.
    tolerance : float
        Largest difference of two answers, relative to the largest number of each array.
    arithmetic : callable, optional
        ``arithmetic(options)`` gives the operations of work that has no products, a function as exp counted as one;
        for the picture alone.
    """

    name: str
    inputs: Callable[[np.random.Generator, Options], Inputs]
    count: Callable[[Options], tuple[float, float]]
    tolerance: float
    arithmetic: Callable[[Options], float] | None = None


@dataclass(frozen=True)
class Target:
    """A ratio that the project promises.

    Parameters
    ----------
    kind : str
        "floor": our time is at most ``ratio`` times that of a floor. "ahead": a peer's time is at least ``ratio``
        times ours.
    ratio : float
    of : str
        Beginning of the names of the floors, or of the peers, of which the fastest counts; "tuned" and "default" are
        the peers with and without a tuned allocator, "" is all of them.
    threads : int, optional
        Only for so many threads.
    """

    kind: str
    ratio: float
    of: str = ""
    threads: int | None = None


@dataclass(frozen=True)
class Row:
    """A family at one size.

    Parameters
    ----------
    name, title : str
        In commands and files; in tables.
    family : str
    options : mapping
        The size, and which of several networks.
    tiny : mapping
        What replaces some of the options in runs that measure nothing.
    targets : tuple of Target
    ours : str, optional
        Name of our contender that the targets speak of; by default the family's first.
    note : str, optional
        What a reader must know.
    sizes : str
        "quick": in every run; "full": only in full runs.
    """

    name: str
    title: str
    family: str
    options: Options
    tiny: Options
    targets: tuple[Target, ...] = ()
    ours: str = ""
    note: str = ""
    sizes: str = "quick"


@dataclass(frozen=True)
class Size:
    """One size of a case.

    Parameters
    ----------
    label : str
        In tables.
    n : float
        What grows from size to size, and in which the crossover is given.
    options : mapping
    sizes : str
        "quick" or "full", as of a row.
    row : str
        The row of this size; "" is none.
    """

    label: str
    n: float
    options: Options
    sizes: str = "quick"
    row: str = ""


@dataclass(frozen=True)
class Case:
    """A family at growing sizes, on the CPU and on a GPU.

    Parameters
    ----------
    name, title : str
        In commands and files; in tables.
    family : str
    sizes : tuple of Size
        In ascending order.
    grows : str
        What ``n`` of the sizes counts.
    tiny : mapping
        What replaces some of the options in runs that measure nothing.
    dtype : str
        Of the products: they are compared with this rate.
    ours : str, optional
        Name of our contender; by default the family's first.
    """

    name: str
    title: str
    family: str
    sizes: tuple[Size, ...]
    grows: str
    tiny: Options
    dtype: str = "f4"
    ours: str = ""


FAMILIES: dict[str, Family] = {}
ROWS: dict[str, Row] = {}
CASES: dict[str, Case] = {}
CONTENDERS: list[Contender] = []


def family(
    name: str,
    *,
    count: Callable[[Options], tuple[float, float]] = lambda options: (0.0, 0.0),
    tolerance: float,
    arithmetic: Callable[[Options], float] | None = None,
) -> Callable[[Any], Any]:
    """Declare a family by the function that makes its inputs."""

    def declare(inputs: Any) -> Any:
        assert name not in FAMILIES, name
        FAMILIES[name] = Family(name, inputs, count, tolerance, arithmetic)
        return inputs

    return declare


def contender(family: str, engine: str, name: str) -> Callable[[Any], Any]:
    """Declare a contender by the function that makes it ready."""

    def declare(build: Any) -> Any:
        CONTENDERS.append(Contender(family, engine, name, build))
        return build

    return declare


def row(name: str, title: str, family: str, **rest: Any) -> None:
    """Declare a row."""
    assert name not in ROWS, name
    ROWS[name] = Row(name, title, family, **rest)


def case(
    name: str,
    title: str,
    family: str,
    grows: str,
    sizes: Iterable[tuple[float, str | Options] | tuple[float, str | Options, str]],
    *,
    tiny: Options,
    label: Callable[[Options], str] | None = None,
    **rest: Any,
) -> None:
    """Declare a case.

    Its sizes are (n, options) or (n, name of a row), in ascending order; a third member says "quick" or "full" where it
    is not quick, or not what the row says. A label is n unless there is a function for it.
    """
    assert name not in CASES, name
    made = []
    for n, what, *which in sizes:
        given = ROWS[what] if isinstance(what, str) else None
        options = what if given is None else given.options
        assert not isinstance(options, str)
        said = f"{n:,.0f}" if label is None else label(options)
        kind = which[0] if which else "quick" if given is None else given.sizes
        made.append(Size(said, n, options, kind, "" if given is None else given.name))
    CASES[name] = Case(name, title, family, tuple(made), grows, tiny, **rest)


def single_cases() -> None:
    """Make a case of every row that is a size of none."""
    taken = {size.row for c in CASES.values() for size in c.sizes}
    for given in ROWS.values():
        if given.name not in taken:
            size = Size("", 1.0, given.options, given.sizes, given.name)
            dtype = "f8" if given.title.endswith("float64") else "f4"
            CASES[given.name] = Case(
                given.name, given.title, given.family, (size,), "", given.tiny, dtype, given.ours
            )


def load() -> None:
    """Fill the registry."""
    for module in CASE_MODULES:
        importlib.import_module(f"cases.{module}")
    single_cases()  # a second time there are none left
    for module in PEER_MODULES:
        importlib.import_module(f"peers.{module}")


def of(family: str, engine: str) -> list[Contender]:
    """Return the contenders of a family in an engine, in the order in which they were declared."""
    return [c for c in CONTENDERS if c.family == family and c.engine == engine]


def inputs_of(family: str, options: Options) -> Inputs:
    """Make the inputs of a family, the same in every process."""
    return FAMILIES[family].inputs(np.random.default_rng(SEED), options)
