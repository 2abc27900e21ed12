"""Prints how many allocations runs from C make with and without a workspace, and calls from Python.

Run with LD_PRELOAD=allocations.so and the library's path as the argument.
"""

import ctypes
import json
import sys
from itertools import pairwise

import numpy as np

import nnmath_core as nm

TIMES = 50
library = ctypes.CDLL(sys.argv[1])
library.allocations.restype = library.end.restype = library.end_of_blas.restype = ctypes.c_long
pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def mlp(params, x, t):
    for w, b in params[:-1]:
        x = np.tanh(x @ w + b)
    w, b = params[-1]
    return np.mean((x @ w + b - t) ** 2)


def repeated(x, w):
    def body(carry, _):
        return np.tanh(carry @ w), np.sum(carry)

    return nm.scan(body, x, None, length=5)


def chosen(x):
    return nm.cond(np.sum(x) > 0, lambda x: np.sin(x) * 2.0, lambda x: np.cos(x), x)


rng = np.random.default_rng(0)


def layers(*widths):
    return [(rng.normal(size=(m, n)), rng.normal(size=n)) for m, n in pairwise(widths)]


CASES = {
    "small network": (nm.value_and_grad(mlp), layers(6, 5, 2), np.ones((4, 6)), np.ones((4, 2))),
    "network": (nm.value_and_grad(mlp), layers(80, 200, 10), np.ones((64, 80)), np.ones((64, 10))),
    "reductions": (
        lambda x: (np.sum(x), np.max(x, 0), np.sum(np.exp(x), 1)),
        rng.normal(size=(300, 400)),
    ),
    "scan": (repeated, np.ones((3, 8)), rng.normal(size=(8, 8))),
    "cond": (chosen, rng.normal(size=100)),
}


def pointers(arrays):
    return (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])


out = {}
for name, (f, *args) in CASES.items():
    compiled = nm.compile(f)
    plan = compiled.plan(*args)
    inputs = nm.tree_leaves(args)
    results = [np.asarray(y) for y in nm.tree_leaves(compiled(*args))]
    outputs = [np.zeros_like(y) for y in results]
    room = np.zeros(plan.workspace_size + 64, np.uint8)
    workspace = ctypes.c_void_p(-(-room.ctypes.data // 64) * 64)
    address = ctypes.c_void_p(pointer_of(plan.capsule, b"nnmath_core.plan"))
    call = [address, pointers(inputs), pointers(outputs)]
    counts = {"host": plan.cost.host, "products": TIMES * sum(s.kind == "gemm" for s in plan.steps)}
    for way, memory in (("workspace", workspace), ("pool", None)):
        library.allocations(*call, memory, 3)  # threads start, BLAS takes its memory
        counts[way] = library.allocations(*call, memory, TIMES)
        counts["blas"] = library.end_of_blas()
    counts["equal"] = all(y.tobytes() == z.tobytes() for y, z in zip(results, outputs, strict=True))
    for _ in range(3):
        compiled(*args)
    library.begin()
    for _ in range(TIMES):
        compiled(*args)
    counts["python"] = library.end()
    counts["results"] = TIMES * len(results)
    out[name] = counts
print(json.dumps(out))
