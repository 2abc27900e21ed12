"""Every public function on a device: the host's values and gradients, or an error that says what there is not.

On the second device while the first one is current, it runs as it does where it is at home. The calls are those of the
list of functions (`docs/recipes.py`).
"""

import sys
from pathlib import Path

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core._ext._tree import flatten, unflatten
from nnmath_core.device import device_of, to_device
from nnmath_core.errors import DeviceError

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


NOT_THERE = {"numpy.frombuffer": "reads the memory of the host"}
OTHERWISE = {
    "linalg.cho_factor": "the half that nobody reads is whatever LAPACK left",
    "numpy.empty_like": "is not filled",
    "random.orthogonal": "a choice of signs",
}
"""Functions with another result than on the host: name -> the reason."""

SLOW = {
    f"special.{name}"
    for name in "betaincc betainccinv betaincinv fdtr fdtrc fdtri stdtr stdtrit".split()
}
"""Their gradients are the long series of that of `betainc`."""


def attempt(f, *args, **named):
    """The result, or the error."""
    try:
        return f(*args, **named)
    except Exception as error:
        return error


def on_host(f, text):
    call = recipes.call_of(text)
    return attempt(f, *call.args, **call.named)


def run(cp, f, text, current):
    """Call with arrays of cuda:1 while a device is current; the result, or the error."""
    call = recipes.call_of(text)
    args, named = to_device((list(call.args), call.named), "cuda:1")
    with cp.cuda.Device(current):
        return attempt(f, *args, **named)


# The host and CuPy have implementations of their own of special functions and factorisations, good to some 1e-13 of a
# number of order 1; sums over the entries of a call and condition numbers of the recipes leave three decimals of that,
# gradients two more. What is wrong (another branch, another axis, float32) is wrong by 1e-7 and more.
VALUES = {"rtol": 1e-10, "atol": 1e-12}
GRADIENTS = {"rtol": 1e-8, "atol": 1e-10}


def compare(name, got, want, rtol=0.0, atol=0.0):
    """Hold trees of arrays, numbers and truth values against each other."""
    for x, y in zip(nm.tree_leaves(want), nm.tree_leaves(got), strict=True):
        if isinstance(x, np.ndarray | np.generic | float) or hasattr(
            type(x), "__cuda_array_interface__"
        ):
            x, y = (to_device(z, "cpu") for z in (x, y))
            np.testing.assert_allclose(y, x, rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("space", function_list.NAMESPACES)
def test_functions_run_where_their_arrays_live(cp, space):
    if cp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("two devices are needed")
    wrong, ran = {}, 0
    for name, f, texts in calls(space):
        home, want = None, None
        for text in texts:
            want = on_host(f, text)
            if isinstance(want, Exception):  # another number of axes: the next call
                continue
            home = run(cp, f, text, 1)
            if not isinstance(home, Exception):
                break
        if home is None or name in CUPYS:
            continue
        if isinstance(home, Exception):
            if not isinstance(home, DeviceError) and name not in NOT_THERE:
                wrong[name] = f"at home {type(home).__name__}: {home}"
            continue
        away = run(cp, f, text, 0)
        if isinstance(away, Exception):
            wrong[name] = f"{type(away).__name__}: {away}"
            continue
        ran += 1
        for x, y in zip(nm.tree_leaves(home), nm.tree_leaves(away), strict=True):
            if isinstance(x, cp.ndarray) and str(device_of(y)) != str(device_of(x)):
                wrong[name] = f"a result on {device_of(y)}"
        if "empty" not in name:
            compare(name, away, home)
        if name not in OTHERWISE:
            compare(name, home, want, **VALUES)
    assert wrong == {}
    assert ran > 2


def size_of(tree):
    """The sum of the squares of all floating numbers."""
    total = 0.0
    for x in nm.tree_leaves(tree):
        if getattr(getattr(x, "dtype", None), "kind", "") in ("f", "c"):
            total = total + nm.numpy.sum(nm.numpy.abs(x) ** 2)
    return total


def gradient(f, text, device):
    """The gradient of `size_of` in all floating arrays of a call; None without."""
    call = recipes.call_of(text)
    leaves, treedef = flatten((list(call.args), call.named))
    leaves = [to_device(x, device) if isinstance(x, np.ndarray) else x for x in leaves]
    which = [
        k for k, x in enumerate(leaves) if getattr(getattr(x, "dtype", None), "kind", "") == "f"
    ]

    def of_arrays(*xs):
        mine = list(leaves)
        for k, x in zip(which, xs, strict=True):
            mine[k] = x
        args, named = unflatten(treedef, mine)
        return size_of(f(*args, **named))

    if not which:
        return None
    return attempt(nm.grad(of_arrays, tuple(range(len(which)))), *(leaves[k] for k in which))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("space", function_list.NAMESPACES)
def test_gradients_of_functions_are_the_hosts(cp, space):
    wrong, ran = {}, 0
    for name, f, texts in calls(space):
        if space == "stats" and not name.endswith(("logpdf", "logpmf", "entropy")):
            continue  # the other methods are made of the same functions
        if name in SLOW:
            continue
        for text in texts:
            want = gradient(f, text, "cpu")
            if want is None or isinstance(want, Exception):
                continue
            got = gradient(f, text, "cuda:0")
            if isinstance(got, Exception):
                if not isinstance(got, DeviceError):
                    wrong[name] = f"{type(got).__name__}: {got}"
            elif name not in OTHERWISE:
                ran += 1
                compare(name, got, want, **GRADIENTS)
            break
    assert wrong == {}
    assert ran > 2
