# cython: language_level=3
"""A Cython module that runs a plan of numbers in double precision, with a workspace of its own."""

from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.time cimport time

from nnmath_core.embed cimport nnm_message, nnm_plan, nnm_run, plan_of


def run_until(capsule, list inputs, list outputs, int64_t[::1] state, double seconds):
    """Run again and again, without the GIL, until state[0] is set; state[1] counts the runs."""
    cdef const nnm_plan *plan = plan_of(capsule)
    cdef const void *ins[64]
    cdef void *outs[64]
    cdef volatile int64_t *s = &state[0]
    cdef double end = time(NULL) + seconds
    cdef int code = 0, i
    cdef const double[::1] x
    cdef double[::1] y
    cdef list held = []
    cdef char *room = <char *>malloc(plan.workspace_size + plan.workspace_alignment)
    cdef uintptr_t unit = plan.workspace_alignment
    cdef void *workspace = <void *>((<uintptr_t>room + unit - 1) // unit * unit)
    try:
        if len(inputs) != plan.ninputs or len(outputs) != plan.noutputs:
            raise ValueError("another number of arrays than the plan takes")
        for i in range(plan.ninputs):
            x = inputs[i].reshape(-1)
            held.append(x)
            if plan.inputs[i].nbytes != 8 * x.shape[0]:
                raise ValueError(f"input {i} has another size")
            ins[i] = <const void *>&x[0]
        for i in range(plan.noutputs):
            y = outputs[i].reshape(-1)
            held.append(y)
            if plan.outputs[i].nbytes != 8 * y.shape[0]:
                raise ValueError(f"output {i} has another size")
            outs[i] = <void *>&y[0]
        with nogil:
            while True:
                code = nnm_run(plan, ins, outs, workspace)
                s[1] += 1
                if code or s[0] or time(NULL) > end:
                    break
        if code:
            raise RuntimeError(nnm_message(code).decode())
    finally:
        free(room)
