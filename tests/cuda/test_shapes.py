"""Contracts of shapes, their trace and the graph, for device arrays."""

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import ShapeError


@nm.shapes("b i, i o -> b o")
def dense(x, w):
    return np.tanh(x @ w) if isinstance(x, nm.Tracer) else nm.numpy.tanh(x @ w)


def test_contracts_look_at_device_arrays(cp):
    x, w = cp.ones((2, 3)), cp.ones((3, 4))
    assert dense(x, w).shape == (2, 4)
    with pytest.raises(
        ShapeError, match="axis 0 of `w`, `i`, must be 3, the length of axis 1 of `x`"
    ):
        dense(x, cp.ones((4, 4)))
    g = nm.grad(lambda w: dense(x, w).sum())(w)
    assert type(g) is cp.ndarray
    assert nm.shapes.sizes("b i", x) == {"b": 2, "i": 3}
    assert nm.typing.matrix(x) is x


def test_tables_and_graphs_are_those_of_the_host(cp):
    x, w = np.ones((2, 3)), np.ones((3, 4))
    there = cp.asarray(x), cp.asarray(w)
    assert str(nm.trace_shapes(dense, *there)) == str(nm.trace_shapes(dense, x, w))
    assert nm.graph(dense, *there).dot == nm.graph(dense, x, w).dot
    found = nm.trace_shapes(dense, there[1], there[1])
    assert isinstance(found.error, ShapeError)
