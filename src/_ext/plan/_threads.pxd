"""The pool of threads, for modules that run on it: `pool_table()` is the one pool of the process.

Everything is inline: a module that cimports this file links nothing, and imports `_threads` when it first asks.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer

cdef extern from "plan/pool.h":
    ctypedef void (*nnm_job)(void *arg, int t, int nt) noexcept nogil
    ctypedef struct nnm_barrier:
        pass
    void nnm_barrier_join(nnm_barrier *b, int nt) noexcept nogil
    ctypedef struct nnm_pool_table:
        int (*run)(nnm_job job, void *arg, int nt, double seconds) noexcept nogil
        void (*barrier_init)(nnm_barrier *b, int nt) noexcept nogil
        void (*barrier_wait)(nnm_barrier *b) noexcept nogil
        double (*barrier_waited)(const nnm_barrier *b) noexcept nogil
        double (*now)() noexcept nogil
        int (*threads_get)() noexcept nogil
        void (*threads_set)(int n) noexcept nogil
        void (*feedback)(double lost) noexcept nogil


cdef inline const nnm_pool_table *pool_table() except NULL:
    from nnmath_core._ext._threads import table
    return <const nnm_pool_table *>PyCapsule_GetPointer(table, "nnmath_core._ext._threads.table")
