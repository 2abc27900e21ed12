"""Every public function on the second device while the first one is current: it runs as it does where it is at home.

The calls are those of the list of functions (`docs/recipes.py`).
"""

import sys
from pathlib import Path

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.device import device_of, to_device

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))

import function_list
import recipes

# NumPy's own, which call CuPy's: these write into an array, or look at its memory
CUPYS = {"numpy.fill_diagonal", "numpy.place", "numpy.putmask", "numpy.shares_memory"}


def calls(space):
    """Yield name, function and the texts of calls to try."""
    for name, f in function_list.functions(space):
        if space != "stats":
            yield name, f, recipes.texts_for(name, f)
            continue
        for method in function_list.methods(f):
            g = getattr(f, method)
            yield f"{name}.{method}", g, (recipes.text_for_distribution(name, method, g),)


def first_that_runs(f, texts):
    for text in texts:
        call = recipes.call_of(text)
        try:
            f(*call.args, **call.named)
        except Exception:  # another number of axes: the next call
            continue
        return text
    return None


def run(cp, f, text, current):
    """Call with arrays of cuda:1 while a device is current; the result, or the error."""
    call = recipes.call_of(text)
    args, named = to_device((list(call.args), call.named), "cuda:1")
    with cp.cuda.Device(current):
        try:
            return f(*args, **named)
        except Exception as error:
            return error


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("space", function_list.NAMESPACES)
def test_functions_run_where_their_arrays_live(cp, space):
    if cp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("two devices are needed")
    wrong, ran = {}, 0
    for name, f, texts in calls(space):
        text = first_that_runs(f, texts)
        if text is None or name in CUPYS:
            continue
        home = run(cp, f, text, 1)
        if isinstance(home, Exception):  # CuPy has no implementation
            continue
        away = run(cp, f, text, 0)
        if isinstance(away, Exception):
            wrong[name] = f"{type(away).__name__}: {away}"
            continue
        ran += 1
        for x, y in zip(nm.tree_leaves(home), nm.tree_leaves(away), strict=True):
            if isinstance(x, cp.ndarray) and str(device_of(y)) != str(device_of(x)):
                wrong[name] = f"a result on {device_of(y)}"
            elif isinstance(x, cp.ndarray | np.ndarray | np.number) and "empty" not in name:
                np.testing.assert_array_equal(
                    to_device(y, "cpu"), to_device(x, "cpu"), err_msg=name
                )
    assert wrong == {}
    assert ran > 2
