"""What compiled functions and Plans do with bad input: one clear error, or a result that is stated.

A row is one line of Python and what comes of it: the class of the error and words of its message, or the value, as an
expression. `SETTINGS` makes the names in it, once for each row. `tests/test_bad_compile.py` runs all of it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from bad_networks import Bad

import nnmath_core as nm
from nnmath_core.errors import DtypeError, MemoryLimitError, ShapeError, TraceError, TreeError

__all__ = ["ROWS", "SETTINGS", "Bad", "call_from_c", "names_of"]


# -------------------------------------------------------------------------------------------- a caller in C
class _Face(ctypes.Structure):
    """The head of ``nnm_plan`` in ``nnmath_core.h``."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("abi_version", "struct_size", "ninputs", "noutputs")),
        ("inputs", ctypes.c_void_p),
        ("outputs", ctypes.c_void_p),
        ("workspace_size", ctypes.c_size_t),
        ("workspace_alignment", ctypes.c_size_t),
        ("run", ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4)),
    )


CODES = (
    "NNM_OK NNM_NULL_POINTER NNM_MISALIGNED NNM_NOT_THE_INPUT NNM_NO_MEMORY NNM_PYTHON_ERROR NNM_ABI_MISMATCH "
    "NNM_OTHER_DTYPE NNM_OTHER_SHAPE NNM_OUTSIDE NNM_NO_VALUE"
).split()


def call_from_c(
    capsule: Any, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any = None
) -> str:
    """Run a plan as C does, with addresses; the name of the code that comes back."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    address = get(capsule, b"nnmath_core.plan")

    def places(arrays: Sequence[Any]) -> Any:
        where = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arrays]
        return (ctypes.c_void_p * len(where))(*where)

    run = _Face.from_address(address).run
    return CODES[run(address, places(inputs), places(outputs), workspace)]


def names_of(setting: str) -> dict[str, Any]:
    """The names that a setting makes."""
    names: dict[str, Any] = {"np": np, "nm": nm, "call_from_c": call_from_c}
    exec(setting, names)
    return names


SETTINGS = {
    "arguments": "x = np.ones((2, 3)); f = nm.compile(lambda x: 2 * x)",
    "plans": (
        "x = np.ones((2, 3)); w = np.ones(3); "
        'plan = nm.compile(lambda x, p: x * p["w"] + p["a"]).plan(x, {"w": w, "a": 1.0}); p = {"w": w, "a": 1.0}'
    ),
    "static": (
        "x = np.ones((2, 3)); f = nm.compile(lambda x, n: x * n, static_argnums=1); "
        "g = nm.compile(lambda x, *, mode: x, static_argnames='mode')"
    ),
    "donated": "x = np.arange(6.0); y = np.arange(6.0); f = nm.compile(lambda x, y: x[::-1] + y, donate_argnums=0)",
    "out": (
        "x = np.arange(6.0); y = np.empty(6); memory = np.arange(9.0); f = nm.compile(lambda x: np.cumsum(x)[::-1]); "
        "two = nm.compile(lambda x: (x + 1, x * 2))"
    ),
    "values": "x = np.array([[1.0, 2.0], [3.0, 0.0]]); nan, inf = np.nan, np.inf",
    "effects": (
        "x = np.ones(3); w = np.ones(3); rng = np.random.default_rng(0); table = {'seen': [np.zeros(2)]}; "
        "key = nm.random.key(0)"
    ),
    "results": "x = np.ones(3)",
    "sizes": "x = np.zeros((1, 1), np.float32); n = 2**31 + 8; far = 2**45",
    "c": (
        "x = np.arange(6.0); y = np.empty(6); bytes_ = np.empty(57, np.uint8); "
        "plan = nm.compile(lambda x: 2 * x).plan(x); taken = nm.compile(lambda x: 2 * x, donate_argnums=0).plan(x); "
        "pick = nm.compile(lambda x, i: x[i]).plan(x, 0)"
    ),
}  # fmt: skip
"""The names of the calls, by topic."""

ROWS: dict[str, list[Bad]] = {
    "arguments": [
        Bad("another shape: compiled anew", "f(x[:1])", "np.full((1, 3), 2.0)"),
        Bad("another dtype: compiled anew", "f(x.astype(np.float32))", "np.full((2, 3), 2.0, np.float32)"),
        Bad("another rank: compiled anew", "f(x[0, 0])", "np.float64(2.0)"),
        Bad("a number: compiled anew, and stays one", "f(1.5)", "3.0"),
        Bad("no entries", "f(x[:0])", "np.zeros((0, 3))"),
        Bad("not contiguous: copied first", "f(np.asfortranarray(x)[::-1])", "np.full((2, 3), 2.0)"),
        Bad("of the other byte order: copied first", "f(x.astype('>f8'))", "np.full((2, 3), 2.0)"),
        Bad("read-only: as any other", "f(np.broadcast_to(1.0, (2, 3)))", "np.full((2, 3), 2.0)"),
        Bad("a list is a tree of numbers, and 2 * x repeats it", "f([1.0])", "[1.0, 1.0]"),
        Bad("a matrix", "f(x.view(np.matrix))", DtypeError, "np.matrix cannot take part in a traced computation"),
        Bad("a masked array", "f(np.ma.masked_array(x))", DtypeError,
            "a masked array cannot take part in a traced computation. Fill it: x.filled(value)"),
        Bad("objects", "f(x.astype(object))", DtypeError,
            "compile: argument 0 must be a numeric array, got object array of shape (2, 3)"),
        Bad("text", "f('text')", DtypeError, "compile: argument 0 must be a numeric array, got 'text'"),
        Bad("a function in a tree", "nm.compile(lambda t: t['x'])({'x': x, 'f': np.sin})", DtypeError,
            "compile: argument 0 at `['f']` must be a numeric array"),
        Bad("an integer of more than 64 bits", "f(2**64)", DtypeError,
            "compile: argument 0 must be an integer of 64 bits, got 18446744073709551616. Pass a float"),
        Bad("integers that leave 64 bits in the program: they wrap, as NumPy's do", "f(2**62)", "-(2**63)"),
        Bad("a name that the function does not have", "f(x, scale=2.0)", TypeError, "unexpected keyword argument"),
        Bad("no function", "nm.compile(x)", DtypeError, "compile: `f` must be callable, got float64 array"),
    ],
    "plans": [
        Bad("another shape", "plan(x[:1], p)", ShapeError,
            "argument 0 must have shape (2, 3), as when the plan was made, got float64 array of shape (1, 3)"),
        Bad("another dtype", "plan(x.astype(np.float32), p)", DtypeError,
            "argument 0 must be float64, as when the plan was made, got float32 array of shape (2, 3)"),
        Bad("another shape in a tree", "plan(x, {**p, 'w': x})", ShapeError,
            "argument 1 at `['w']` must have shape (3,), as when the plan was made"),
        Bad("a number of another type", "plan(x, {**p, 'a': 1})", DtypeError,
            "argument 1 at `['a']` must be a Python float, as when the plan was made, got a Python int"),
        Bad("a scalar of NumPy for a number", "plan(x, {**p, 'a': np.float64(1)})", DtypeError,
            "argument 1 at `['a']` must be a Python float"),
        Bad("another tree", "plan(x, {'w': w})", TreeError, "the plan is for arguments"),
        Bad("more arguments", "plan(x, p, x)", TreeError, "the plan is for arguments"),
        Bad("fewer arguments", "plan(x)", TreeError, "the plan is for arguments"),
        Bad("a matrix", "plan(x.view(np.matrix), p)", DtypeError, "np.matrix cannot take part"),
        Bad("not contiguous: copied first", "plan(np.asfortranarray(x), p)", "np.full((2, 3), 2.0)"),
        Bad("frozen: no such argument", "plan.freeze({2: x})", TreeError, "there is no argument 2"),
        Bad("frozen: another tree", "plan.freeze({1: w})", TreeError, "argument 1 must have the structure"),
        Bad("frozen: another shape", "plan.freeze({0: x[:1]})", ShapeError, "must have shape (2, 3)"),
    ],
    "static": [
        Bad("no hash", "f(x, [1])", DtypeError, "compile: static argument 1 must be hashable"),
        Bad("an array", "f(x, x)", DtypeError, "Pass arrays as ordinary arguments"),
        Bad("missing", "f(x)", TreeError, "compile: static argument 1 was not given; there are 1 arguments"),
        Bad("equal values of other types: each is its own function", "f(x.astype(int), 2.0)", "np.full((2, 3), 2.0)"),
        Bad("no hash, by name", "g(x, mode=[])", DtypeError, "compile: static argument 'mode' must be hashable"),
        Bad("positions from the end", "nm.compile(np.sin, static_argnums=-1)", DtypeError,
            "`static_argnums` must be positions of arguments, 0 or more, got -1"),
        Bad("no positions", "nm.compile(np.sin, donate_argnums=0.5)", DtypeError,
            "`donate_argnums` must be positions of arguments, 0 or more, got 0.5"),
        Bad("static and donated", "nm.compile(np.sin, static_argnums=0, donate_argnums=0)", DtypeError,
            "compile: argument 0 is static and donated"),
    ],
    "donated": [
        Bad("read before it is overwritten: no value is lost", "f(x, y)", "np.full(6, 5.0)"),
        Bad("the memory of another argument", "f(x, x)", DtypeError,
            "compile: argument 1 shares memory with argument 0, and one of them is donated"),
        Bad("a piece of the memory of another argument", "f(x[:4], x[2:])", DtypeError,
            "compile: argument 1 shares memory with argument 0, and one of them is donated"),
        Bad("read-only", "f(np.broadcast_to(1.0, (6,)), y)", DtypeError,
            "compile: argument 0 is donated, but is read-only, so its memory cannot be taken. Pass a copy"),
        Bad("not contiguous", "f(np.arange(12.0)[::2], y)", DtypeError,
            "compile: argument 0 is donated, but is not contiguous"),
        Bad("of the other byte order: copied first, and the copy is taken", "f(x.astype('>f8'), y)", "np.full(6, 5.0)"),
        Bad("a list of numbers", "nm.compile(lambda t: t[0] + x, donate_argnums=0)([1.0])", "np.arange(6.0) + 1"),
        Bad("a number: it has no memory, nothing is taken",
            "nm.compile(lambda a, y: a + y, donate_argnums=0)(1.0, y)", "np.arange(1.0, 7.0)"),
        Bad("no result has its shape: nothing is taken", "nm.compile(np.sum, donate_argnums=0)(x)", "np.float64(15.0)"),
    ],
    "out": [
        Bad("an argument: no value is lost", "f(x, out=x)", "np.array([15.0, 10.0, 6.0, 3.0, 1.0, 0.0])"),
        Bad("memory that overlaps an argument: no value is lost", "f(memory[:6], out=memory[2:8])",
            "np.array([15.0, 10.0, 6.0, 3.0, 1.0, 0.0])"),
        Bad("another tree", "two(x, out=y)", TreeError, "`out` must have the structure of the result"),
        Bad("another shape", "f(x, out=y[:5])", ShapeError,
            "`out` must have shape (6,), that of the result, got (5,)"),
        Bad("another dtype", "f(x, out=y.astype(np.float32))", DtypeError,
            "`out` must have dtype float64, that of the result, got float32"),
        Bad("read-only", "f(x, out=np.broadcast_to(0.0, (6,)))", DtypeError, "`out` is read-only"),
        Bad("not contiguous", "f(x, out=np.empty(12)[::2])", DtypeError, "`out` is not contiguous. Pass np.empty((6,)"),
        Bad("no array", "f(x, out=[0.0] * 6)", TreeError, "`out` must have the structure of the result"),
        Bad("the same memory twice", "two(x, out=(memory[:6], memory[3:]))", DtypeError,
            "`out[1]` shares memory with another array of `out`"),
        Bad("in a traced call", "nm.grad(lambda x: np.sum(f(x, out=y)))(x)", TraceError,
            "compile: `out` cannot receive the result of a traced call"),
    ],
    "values": [
        Bad("NaN and infinities: as without", "nm.compile(np.exp)(np.array([nan, inf, -inf]))",
            "np.array([nan, inf, 0.0])"),
        Bad("outside of the domain: NaN, and no warning", "nm.compile(np.log)(np.array([-1.0, 0.0]))",
            "np.array([nan, -inf])"),
        Bad("division by zero: no warning", "nm.compile(lambda x: 1 / x)(x[1])", "np.array([1 / 3, inf])"),
        Bad("the maximum with NaN", "nm.compile(np.max)(np.array([1.0, nan]))", "np.float64(nan)"),
        Bad("`if` of a value", "nm.compile(lambda x: x if x[0, 0] > 0 else -x)(x)", TraceError,
            "Write np.where(condition, a, b), nm.cond or nm.while_loop"),
        Bad("a number of Python", "nm.compile(lambda x: float(x[0, 0]))(x)", TraceError,
            "a traced value cannot become a Python float"),
        Bad("a shape that depends on values", "nm.compile(lambda x: x[x > 0])(x)", TraceError,
            "x[mask] needs values"),
        Bad("an index outside, known", "nm.compile(lambda x: x[5])(x)", IndexError, "out of bounds"),
        Bad("an index outside, when it runs", "nm.compile(lambda x, i: x[i])(x, 5)", IndexError, "out of bounds"),
        Bad("a singular matrix", "nm.compile(np.linalg.inv)(np.zeros((2, 2)))", np.linalg.LinAlgError, "Singular"),
        Bad("an error of the function", "nm.compile(lambda x: 1 / 0)(x)", ZeroDivisionError, "division by zero"),
    ],
    "effects": [
        Bad("a changed array", "nm.compile(lambda x: (np.add(w, 1.0, out=w), x)[1])(x)", TraceError,
            "compile: the function changes the array `w`, which it closes over"),
        Bad("a changed array deep in a table",
            "nm.compile(lambda x: (np.add(table['seen'][0], 1.0, out=table['seen'][0]), x)[1])(x)", TraceError,
            "the function changes the array `table['seen'][0]`"),
        Bad("a traced value in an array", "nm.compile(lambda x: w.__setitem__(0, x[0]))(x)", TraceError,
            "y = nm.at(y)[i].set(x)"),
        Bad("numbers of np.random", "nm.compile(lambda x: x + np.random.normal())(x)", TraceError,
            "compile: the function draws random numbers from `np.random`"),
        Bad("numbers of a generator", "nm.compile(lambda x: x + rng.normal())(x)", TraceError,
            "compile: the function draws random numbers from `rng`, which would be the same in every run. Pass a key"),
        Bad("numbers of a key: those of the function", "nm.compile(nm.random.normal)(key)", "nm.random.normal(key)"),
        Bad("printing, lists that grow: once, when it is recorded",
            "nm.compile(lambda x: (table['seen'].append(1), x)[1])(x)",
            "np.ones(3)"),
    ],
    "results": [
        Bad("text", "nm.compile(lambda x: 'text')(x)", TypeError,
            "compile: the function must return arrays or numbers, got a str"),
        Bad("a function", "nm.compile(lambda x: np.sin)(x)", TypeError, "must return arrays or numbers, got a"),
        Bad("nothing", "nm.compile(lambda x: None)(x)", "None"),
        Bad("a number", "nm.compile(lambda x: 3)(x)", "3"),
        Bad("an argument: a copy", "nm.compile(lambda x: x)(x) is x", "False"),
        Bad("an array that it closes over: a copy", "nm.compile(lambda y: x)(1.0) is x", "False"),
        Bad("pickled", "__import__('pickle').dumps(nm.compile(np.sin))", TypeError,
            "as a program in C cannot be pickled or copied; pickle the function and compile it again"),
        Bad("a pickled plan", "__import__('pickle').dumps(nm.compile(np.sin).plan(x))", TypeError,
            "Plan: a program in C cannot be pickled or copied"),
    ],
    "sizes": [
        Bad("products with a side that BLAS cannot count: ours",
            "['BLAS' in s.note for s in nm.compile(np.matmul).plan(np.broadcast_to(x, (n, 64)), "
            "np.broadcast_to(x, (64, 32))).steps]", "[False]"),
        Bad("rows further apart than BLAS can count: ours",
            "['BLAS' in s.note for s in nm.compile(lambda a, b: a[:, :300] @ b).plan(np.broadcast_to(x, (400, n)), "
            "np.broadcast_to(x, (300, 200))).steps]", "[False]"),
        Bad("an arena that cannot be had",
            "nm.compile(lambda a: np.cumsum(np.sort(np.broadcast_to(a, (far,))))[-1])(1.0)", MemoryLimitError,
            "compile: there is no memory for the"),
        Bad("a result that cannot be had", "nm.compile(lambda a: np.broadcast_to(a, (far,)) + 1)(1.0)",
            MemoryError, ""),
        Bad("its cost is known before",
            "nm.compile(lambda a: np.broadcast_to(a, (far,)) + 1).plan(1.0).cost.peak >= 8 * far",
            "True"),
    ],
    "c": [
        Bad("as it should be", "call_from_c(plan.capsule, [x], [y])", "'NNM_OK'"),
        Bad("the capsule alone keeps the plan alive",
            "call_from_c(nm.compile(np.tanh).plan(x).capsule, [x], [y])", "'NNM_OK'"),
        Bad("a null pointer for an input", "call_from_c(plan.capsule, [None], [y])", "'NNM_NULL_POINTER'"),
        Bad("a null pointer for an output", "call_from_c(plan.capsule, [x], [None])", "'NNM_NULL_POINTER'"),
        Bad("an address that is not aligned",
            "call_from_c(plan.capsule, [x], [bytes_.ctypes.data | 1])", "'NNM_MISALIGNED'"),
        Bad("a workspace that is not aligned", "call_from_c(plan.capsule, [x], [y], bytes_.ctypes.data | 1)",
            "'NNM_MISALIGNED'"),
        Bad("a donated input that is not the output", "call_from_c(taken.capsule, [x], [y])", "'NNM_NOT_THE_INPUT'"),
        Bad("a donated input that is the output", "call_from_c(taken.capsule, [x], [x])", "'NNM_OK'"),
        Bad("an index outside", "call_from_c(pick.capsule, [x, np.array(6)], [y])", "'NNM_OUTSIDE'"),
        Bad("a singular matrix", "call_from_c(nm.compile(np.linalg.inv).plan(np.eye(2)).capsule, "
            "[np.zeros((2, 2))], [np.empty((2, 2))])", "'NNM_NO_VALUE'"),
    ],
}  # fmt: skip
"""What is bad, the call and its outcome, by topic."""
