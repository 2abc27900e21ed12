"""The differentiation core: primitives, tracers, the five traces, the sweep and the doors of the transformations.

How it works. A *trace* is one running transformation. It has a unique increasing id and an `alive` flag; a *tracer*
is a value that belongs to a trace. `bind(p, *xs)` runs a primitive: the newest trace among the operands processes it,
and the values inside its tracers may be tracers of older traces, so transformations nest in any order. Operands
without a tracer just run. Nothing is global but the id counter, hence threads, generators, re-entrancy and exceptions
are right by construction: there is no stack to leave in disorder. (One exception: a branch that may not run; see
stage.pxi.)

Reverse mode keeps a graph by reference (tracer -> node -> parents), not a tape: a dead branch is freed at once,
threads share nothing, and a pullback holds only what it reaches. The sweep takes nodes newest first from a heap, frees
what it has used, and never recurses.

This module is one compilation unit in several included files, since each trace calls the others:

    primitive.pxi   PrimitiveBase, Aval, hooks through which the Python side hands in primitives and backends
    tracer.pxi      Trace, Tracer: operators, NumPy protocols, what a tracer refuses
    kernels.pxi     C kernels on small arrays, running a primitive on plain operands
    grad.pxi        GradTrace: record and sweep, structural zeros, buffer locks
    again.pxi       recomputation: a call that the sweep runs again
    jvp.pxi         JvpTrace
    batch.pxi       BatchTrace (vmap): the batch axis is axis 0 of the value
    stage.pxi       StageTrace: equations instead of numbers
    jet.pxi         JetTrace (Taylor mode): power series instead of numbers
    doors.pxi       grad, vjp, jvp, vmap and stage as callables
    watch.pxi       what debug_nans and precision_report see of all this
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
cimport numpy as cnp

import functools
import threading
from types import MappingProxyType

import numpy as np

from nnmath_core._ext._tree import flatten, flatten_like, leaf_def, paths, unflatten
from nnmath_core.errors import DtypeError, ShapeError, TraceError, TreeError

cnp.import_array()

# What all threads share: the counter of ids, and how many of them trace a branch that may not run.
cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    static long long nnm_ids = 0;
    static int nnm_branches = 0;
    static inline long long nnm_next_id(void) { return __atomic_add_fetch(&nnm_ids, 1, __ATOMIC_RELAXED); }
    static inline void nnm_add_branches(int n) { __atomic_fetch_add(&nnm_branches, n, __ATOMIC_RELAXED); }
    static inline int nnm_open_branches(void) { return __atomic_load_n(&nnm_branches, __ATOMIC_RELAXED); }
    #else
    #include <stdatomic.h>
    static _Atomic long long nnm_ids = 0;
    static _Atomic int nnm_branches = 0;
    static inline long long nnm_next_id(void) { return atomic_fetch_add(&nnm_ids, 1) + 1; }
    static inline void nnm_add_branches(int n) { atomic_fetch_add(&nnm_branches, n); }
    static inline int nnm_open_branches(void) { return atomic_load(&nnm_branches); }
    #endif
    """
    long long next_id "nnm_next_id"() noexcept nogil
    void add_branches "nnm_add_branches"(int n) noexcept nogil
    int open_branches "nnm_open_branches"() noexcept nogil

include "primitive.pxi"
include "watch.pxi"
include "tracer.pxi"
include "kernels.pxi"
include "grad.pxi"
include "again.pxi"
include "jvp.pxi"
include "batch.pxi"
include "stage.pxi"
include "jet.pxi"
include "doors.pxi"
