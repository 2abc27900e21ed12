"""The examples of every docstring, in the package as it is installed."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import nnmath_core as nm

NAMES = ["nnmath_core"] + [
    found.name
    for found in pkgutil.walk_packages(nm.__path__, "nnmath_core.")
    if not found.name.endswith("__main__")
]


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_true(name):
    module = importlib.import_module(name)
    known = {"np": np, "nm": nm}
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    found = doctest.testmod(module, extraglobs=known, optionflags=flags, raise_on_error=False)
    assert found.failed == 0
