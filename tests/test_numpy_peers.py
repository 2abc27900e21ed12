"""Functions of NumPy: values and derivatives are those of JAX and HIPS autograd, stored with their versions."""

import json

import numpy as np
import pytest
from reference import numpy_peers as reference

import nnmath_core as nm

ANSWERS = json.loads(reference.STORED.read_text())
TOLERANCE = 1e-12
"""Relative to the largest entry: some hundred rounding errors, in sums of up to 16 terms on either side."""

CASES = [(peer, name) for peer in ("jax", "autograd") for name in ANSWERS[peer]]


def near(got, want):
    want = np.asarray(want)
    assert np.shape(got) == want.shape
    assert np.all(np.abs(got - want) <= TOLERANCE * max(1.0, np.abs(want).max()))


@pytest.mark.parametrize(("peer", "name"), CASES)
def test_peer_agrees(peer, name):
    f = reference.weighed(np, name)
    value, gradient = nm.value_and_grad(f)(reference.POINT)
    near(value, ANSWERS[peer][name][0])
    near(gradient, ANSWERS[peer][name][1])
    if peer == "jax":
        product = nm.hvp(f, (reference.POINT,), (reference.DIRECTION,))
        near(product, ANSWERS[peer][name][2])


def test_every_function_is_answered_by_a_peer():
    asked = set(ANSWERS["jax"]) | set(ANSWERS["autograd"])
    assert asked == set(reference.FUNCTIONS)
    assert len(ANSWERS["jax"]) >= 70
