"""The instruction set of the kernels, for the doors: inline only, nothing is imported at run time."""

from libc.stdlib cimport getenv

cdef extern from "nnm_isa.h":
    const char *nnm_isa_problem()


cdef inline int require_isa() except -1:
    """Raise ImportError where NNMATH_ISA asks for an instruction set that cannot be had."""
    cdef const char *problem = nnm_isa_problem()
    if problem is not NULL:
        raise ImportError(
            f"nnmath_core: NNMATH_ISA={getenv(b'NNMATH_ISA').decode()!r} {problem.decode()}. "
            "Unset it, or set it to 'baseline'."
        )
    return 0
