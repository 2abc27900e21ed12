"""Functional updates: the changed copy of an array in place of an assignment to its entries."""

from __future__ import annotations

import numpy as np

from nnmath_core._ext._autodiff import Tracer
from nnmath_core.autodiff.ops.compare import greater_equal
from nnmath_core.autodiff.ops.conventions import beside, dtype_of, is_traced, shape_of
from nnmath_core.autodiff.ops.elementwise import add, multiply
from nnmath_core.autodiff.ops.index import getitem, last_writer_p, scatter_add_p, take_p
from nnmath_core.autodiff.ops.select import maximum, where
from nnmath_core.autodiff.ops.shape import broadcast_to, cast, copied, reshape_p
from nnmath_core.checks import sentence
from nnmath_core.device import to_device
from nnmath_core.errors import DtypeError, ShapeError, TraceError

__all__ = ["at"]


class at:
    """Functional updates: ``nm.at(x)[i].set(v)`` is a copy of x with ``x[i] = v``.

    Parameters
    ----------
    x : array
        Traced or plain; it is not changed.

    Notes
    -----
    ``.set(v)``, ``.add(v)`` and ``.multiply(v)`` take values that broadcast to ``x[i]``. Where an entry is addressed
    more than once, ``set`` keeps the last value (and gives only that one a derivative), ``add`` adds all of them (as
    ``np.add.at``), ``multiply`` multiplies by all of them. The result has the dtype of x; a value of a wider kind, such
    as a float for an integer array, is a `DtypeError`.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> nm.at(np.zeros(3))[1:].set(2.0)
    array([0., 2., 2.])
    >>> nm.grad(lambda x: np.sum(nm.at(x)[0].set(5.0) ** 2))(np.array([1.0, 2.0]))
    array([0., 4.])
    """

    def __init__(self, x):
        self._x = x

    def __getitem__(self, index):
        return _Place(self._x, index)


# Assignment converts to a dtype of the same or a wider kind; NumPy would cut a float to an integer in silence, and
# the derivative of what was cut would be wrong.
_RANK = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}


class _Place:
    """The entries ``x[index]`` of a functional update."""

    def __init__(self, x, index):
        self._x = x if isinstance(x, Tracer) or hasattr(x, "dtype") else np.asarray(x)
        self._shape = shape_of(self._x)
        size = int(np.prod(self._shape))
        self._ids = getitem(beside(self._x, np.arange(size).reshape(self._shape)), index)

    def _values(self, who, v):
        have, want = shape_of(v), shape_of(self._ids)
        try:
            fits = np.broadcast_shapes(have, want) == want
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(
                f"at(x)[i].{who}: the values of shape {have} do not broadcast to x[i] of shape {want}."
            )
        dtype = dtype_of(self._x)
        given = dtype_of(v if hasattr(v, "dtype") else np.asarray(v))
        if _RANK.get(given.kind, 9) > _RANK.get(dtype.kind, 9):
            wider = {"f": "float", "c": "complex"}.get(given.kind, "int")
            raise DtypeError(
                sentence(
                    f"at(x)[i].{who}",
                    "v",
                    f"of a kind that {dtype} can hold",
                    str(given),
                    f"Convert the array first: nm.at(x.astype({wider}))[i].{who}(v).",
                )
            )
        v = cast(v, dtype) if hasattr(v, "dtype") else beside(self._x, np.asarray(v, dtype))
        return reshape_p(broadcast_to(v, want), shape=(int(np.prod(want)),))

    def _flat_ids(self):
        ids = self._ids
        n = int(np.prod(shape_of(ids)))
        return reshape_p(ids, shape=(n,)) if hasattr(ids, "shape") else np.asarray([ids])

    def set(self, v):
        """A copy of x with ``x[i] = v``."""
        values, ids = self._values("set", v), self._flat_ids()
        size = int(np.prod(self._shape))
        if not shape_of(ids)[0]:
            return copied(self._x)
        writer = reshape_p(last_writer_p(ids, length=size), shape=self._shape)
        return where(greater_equal(writer, 0), take_p(values, maximum(writer, 0), axis=0), self._x)

    def add(self, v):
        """A copy of x with ``np.add.at(x, i, v)``."""
        values, ids = self._values("add", v), self._flat_ids()
        size = int(np.prod(self._shape))
        added = cast(scatter_add_p(values, ids, axis=0, shape=(size,)), dtype_of(self._x))
        return add(self._x, reshape_p(added, shape=self._shape))

    def multiply(self, v):
        """A copy of x with ``np.multiply.at(x, i, v)``; the index must be known while tracing."""
        values, ids = self._values("multiply", v), self._flat_ids()
        if is_traced(ids):
            raise TraceError(
                "at(x)[i].multiply: the index must be known while tracing. Write x * np.where(mask, v, 1.0)."
            )
        ids = to_device(ids, "cpu")
        size, x = int(np.prod(self._shape)), self._x
        one = np.ones((), dtype_of(x))[()]
        # one round for each repetition of an entry, so that all factors count
        order = np.argsort(ids, kind="stable")
        sorted_ids = ids[order]
        start = np.r_[True, sorted_ids[1:] != sorted_ids[:-1]] if ids.size else np.zeros(0, bool)
        run = np.arange(ids.size) - np.maximum.accumulate(np.where(start, np.arange(ids.size), 0))
        for k in range(int(run.max()) + 1 if ids.size else 0):
            chosen = order[run == k]
            writer = np.full(size, -1)
            writer[ids[chosen]] = chosen
            writer = beside(x, writer.reshape(self._shape))
            factor = where(
                greater_equal(writer, 0), take_p(values, maximum(writer, 0), axis=0), one
            )
            x = multiply(x, factor)
        return x if ids.size else copied(x)
