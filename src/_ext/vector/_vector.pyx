"""The door to the loops of the elementwise machine: their addresses, their operands, and a call for tests.

A loop has the signature of NumPy's ufunc loops (plan/nnm_plan.h). One of the family `vector` is made for float32 and
float64; the plain ones (logic, casts `to_<kind and size>`, `copy`) are found by the dtype of their first input.
"""

from libc.stdint cimport uintptr_t
cimport numpy as cnp

import numpy as np

from _isa cimport require_isa

from nnmath_core.errors import DtypeError, ShapeError

cnp.import_array()

cdef extern from "vector/vector_rows.h":
    ctypedef void (*loop_f "nnm_loop")(char **, const Py_ssize_t *, const Py_ssize_t *, void *) noexcept nogil
    ctypedef struct row_t "nnm_vector_row":
        const char *name
        const char *ins
        const char *outs
        loop_f loop[2]
    ctypedef struct plain_t "nnm_plain_row":
        const char *name
        const char *type
        const char *ins
        const char *outs
        loop_f loop
    row_t *rows "nnm_vector_rows"
    int NNM_VECTOR_COUNT
    const plain_t *plain "nnm_plain_rows"
    int plain_count "nnm_plain_count"
    const char *nnm_vector_init() noexcept

require_isa()
cdef const char *_isa = nnm_vector_init()

cdef dict _loops = {}                           # (name, "f8") -> address
cdef dict _names = {}                           # name -> (letters of the inputs, of the outputs)


cdef int fill() except -1:
    cdef int i
    for i in range(NNM_VECTOR_COUNT):
        name = rows[i].name.decode()
        _names[name] = (rows[i].ins.decode(), rows[i].outs.decode())
        _loops[name, "f8"] = <uintptr_t>rows[i].loop[0]
        _loops[name, "f4"] = <uintptr_t>rows[i].loop[1]
        if "r" not in _names[name][0] + _names[name][1]:    # bytes alone: `any`, `all`
            _loops[name, "b1"] = _loops[name, "f8"]
    for i in range(plain_count):
        name = plain[i].name.decode()
        logic = name.startswith("logical")
        _names[name] = (plain[i].ins.decode(), plain[i].outs.decode()) if logic else ("x", "x")
        _loops[name, plain[i].type.decode()] = <uintptr_t>plain[i].loop
    return 0


fill()


def isa():
    """The instruction set of the loops: 'baseline', 'v3' or 'v4'."""
    return _isa.decode()


cdef str kind(object dtype):
    return f"{dtype.kind}{dtype.itemsize}"


def loop_address(str name, int dtype_num):
    """The address of the loop `name` for the NumPy type number; 0 where there is none.

    The type is that of the real operands; of the input of a plain loop.
    """
    dtype = np.dtype(cnp.PyArray_DescrFromType(dtype_num))
    return _loops.get((name, str(dtype.itemsize) if name == "copy" else kind(dtype)), 0)


def names():
    """Each loop's name and the letters of its inputs and outputs, as vector.def explains them; x is any type."""
    return dict(_names)


def apply(str name, *operands, out=None):
    """Run one loop, for tests and benchmarks. Arrays are of shape (n,) and contiguous, or () and broadcast.

    `copy` takes any stride.

    `out` receives the result; it may be an operand. Of an accumulator it holds the value so far; without it a sum
    begins at 0. Returns the output.
    """
    cdef char *args[4]
    cdef Py_ssize_t strides[4]
    cdef Py_ssize_t n = -1
    cdef int i = 0
    cdef uintptr_t address
    ins, outs = _names[name]
    letter = {"r": None, "b": np.dtype(bool), "s": np.dtype((np.float64, 2)), "t": np.dtype(bool)}
    arrays = [np.asarray(x) for x in operands]
    if len(arrays) != len(ins):
        raise ShapeError(f"vector.apply: `{name}` takes {len(ins)} operands, got {len(arrays)}.")
    real = [a.dtype for a, c in zip(arrays, ins) if c in "rx"]
    if out is not None and not real and outs == "r":
        real = [out.dtype]
    dtype = real[0] if real else np.dtype(np.float64 if outs == "r" else bool)
    address = loop_address(name, dtype.num)
    if not address or any(r != dtype for r in real):
        raise DtypeError(f"vector.apply: `{name}` has no loop for {', '.join(str(r) for r in real)}.")
    for a, c in zip(arrays, ins):
        if c == "b" and a.dtype != np.dtype(bool):
            raise DtypeError(f"vector.apply: `{name}` takes a bool here, got {a.dtype}.")
        steps = a.ndim - (c == "s")
        if steps:
            if n >= 0 and n != a.shape[0]:
                raise ShapeError(f"vector.apply: `{name}` got operands of {n} and {a.shape[0]} entries.")
            n = a.shape[0]
        if not a.flags.c_contiguous and name != "copy":
            raise ShapeError(f"vector.apply: an operand of `{name}` is not contiguous.")
        args[i] = <char *>cnp.PyArray_DATA(a)
        strides[i] = a.strides[0] if steps else 0
        i += 1
    if n < 0:
        n = 1 if out is None or outs in "smt" else out.shape[0]
    if out is None:
        target = np.dtype(name[3:].replace("b1", "?")) if name.startswith("to_") else letter.get(outs) or dtype
        out = np.zeros(2) if outs == "s" else np.zeros(1 if outs in "mt" else n, target)
    args[i] = <char *>cnp.PyArray_DATA(out)
    strides[i] = out.strides[0] if outs in "rbx" else 0
    with nogil:
        (<loop_f>address)(args, &n, strides, NULL)
    return out
