"""Plans of nnmath-core for Cython: ``from nnmath_core.embed cimport nnm_plan, nnm_run, plan_of``.

The C compiler needs the folder ``nnmath_core.get_include()``. See nnmath_core.h for what each name means.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t

cdef extern from "nnmath_core.h":
    const char *NNM_CAPSULE
    enum:
        NNM_ABI_VERSION
    enum:
        NNM_OK
        NNM_NULL_POINTER
        NNM_MISALIGNED
        NNM_NOT_THE_INPUT
        NNM_NO_MEMORY
        NNM_PYTHON_ERROR
        NNM_ABI_MISMATCH
        NNM_OTHER_DTYPE
        NNM_OTHER_SHAPE
        NNM_OUTSIDE
        NNM_NO_VALUE
    enum:
        NNM_TYPE_OTHER
        NNM_TYPE_BOOL
        NNM_TYPE_INT8
        NNM_TYPE_INT16
        NNM_TYPE_INT32
        NNM_TYPE_INT64
        NNM_TYPE_UINT8
        NNM_TYPE_UINT16
        NNM_TYPE_UINT32
        NNM_TYPE_UINT64
        NNM_TYPE_FLOAT16
        NNM_TYPE_FLOAT32
        NNM_TYPE_FLOAT64
        NNM_TYPE_COMPLEX64
        NNM_TYPE_COMPLEX128
    ctypedef struct nnm_spec:
        int32_t dtype, rank
        const int64_t *shape
        int64_t itemsize, nbytes
        int32_t alignment, takes
    ctypedef struct nnm_plan:
        int32_t abi_version, struct_size, ninputs, noutputs
        const nnm_spec *inputs
        const nnm_spec *outputs
        size_t workspace_size, workspace_alignment
        int (*run)(const nnm_plan *, const void *const *, void *const *, void *) noexcept nogil
        int32_t host, threads
    int nnm_check(const nnm_plan *plan) noexcept nogil
    int nnm_run(const nnm_plan *plan, const void *const *inputs, void *const *outputs, void *workspace) noexcept nogil
    int nnm_require(const nnm_spec *spec, int dtype, int rank, const int64_t *shape) noexcept nogil
    const char *nnm_message(int code) noexcept nogil


cdef inline const nnm_plan *plan_of(object capsule) except NULL:
    """The plan of ``Plan.capsule``, checked; hold the capsule as long as the pointer is used."""
    cdef const nnm_plan *plan = <const nnm_plan *>PyCapsule_GetPointer(capsule, NNM_CAPSULE)
    cdef int code = nnm_check(plan)
    if code != NNM_OK:
        raise ImportError((<bytes>nnm_message(code)).decode())
    return plan
