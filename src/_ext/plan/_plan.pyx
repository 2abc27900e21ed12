"""The door of the executor: Plans made of instructions, and their runs on NumPy arrays.

    blas.pxi    addresses of BLAS's functions
    lapack.pxi  those of LAPACK's
    host.pxi    instructions that call Python
    frame.pxi   memory of results
    door.pxi    a compiled function: arguments in, results out
    embed.pxi   plans for C and for SciPy
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
cimport numpy as cnp
from _threads cimport pool_table

import numpy as np

from nnmath_core._ext._tree import flatten_like, unflatten
from nnmath_core.errors import MemoryLimitError, ShapeError

cnp.import_array()

cdef extern from "plan/nnm_plan.h":
    ctypedef struct nnm_ref:
        int64_t slot, offset
    ctypedef struct nnm_instr:
        void (*exec "exec")(const nnm_instr *, nnm_frame *, int, int) noexcept nogil
        int32_t flags, nrefs, nints, nreals
        const nnm_ref *refs
        const int64_t *ints
        const double *reals
        const char *kind
        void *object
        int64_t body
    ctypedef struct nnm_past:
        double alone
        unsigned int turns
    ctypedef struct nnm_program:
        int64_t ninstr, nslots, arena
        nnm_instr *instr
        int threads
        double seconds
        int products
        nnm_past *past
        char *const *constants
        nnm_frames *frames
    ctypedef struct nnm_frame:
        char **base
        const nnm_program *program
        void *barrier
        int failed
        void *error
        int outside
        int64_t index, length
        int64_t refused
    enum:
        REASONS "NNM_REASONS"
    ctypedef void (*nnm_exec)(const nnm_instr *, nnm_frame *, int, int) noexcept nogil
    char *nnm_at(const nnm_frame *, nnm_ref) noexcept nogil
    void nnm_walk_split(nnm_frame *, int) noexcept nogil
    void nnm_walk_timed(nnm_frame *, double *) noexcept nogil
    void nnm_plan_use_pool(const void *) noexcept nogil
    void nnm_plan_use_signals(void (*check)(nnm_frame *) noexcept nogil) noexcept nogil
    nnm_exec nnm_kind(const char *)

cdef enum:
    TIMED = 1 << 20

cdef extern from "plan/frame.h":
    ctypedef struct nnm_frames:
        pass
    nnm_frame *nnm_frame_take(const nnm_program *) noexcept nogil
    void nnm_frame_give(nnm_frame *) noexcept nogil
    char *nnm_frame_number(const nnm_frame *, int64_t) noexcept nogil
    int nnm_frame_run(nnm_frame *) noexcept nogil
    void nnm_frames_clear(const nnm_program *) noexcept nogil

cdef extern from "plan/arena.h":
    void *nnm_arena_new(size_t nbytes) noexcept nogil
    void nnm_arena_free(void *, size_t nbytes) noexcept nogil


# ------------------------------------------------------------------------------------------------ loops of ufuncs
def ufunc_loop(f, str types):
    """``(address, address of its data)`` of the inner loop of a ufunc for "dd->d" or the like; None: it has none."""
    cdef cnp.ufunc u = f
    cdef list names = f.types
    cdef Py_ssize_t i
    if types not in names:
        return None
    i = names.index(types)
    return <uintptr_t>u.functions[i], <uintptr_t>u.data[i] if u.data is not NULL else 0


nnm_plan_use_pool(pool_table())
nnm_plan_use_signals(check_signals)

include "blas.pxi"
include "lapack.pxi"
include "host.pxi"
include "frame.pxi"
include "embed.pxi"
include "door.pxi"
