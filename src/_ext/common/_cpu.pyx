"""What `show_config` says about instruction sets."""

from _isa cimport require_isa

cdef extern from "nnm_isa.h":
    int nnm_isa_selected()
    int nnm_isa_runs_here(int level)

cdef tuple NAMES = ("baseline", "v3", "v4")     # in the order of the enumeration in nnm_isa.h

require_isa()


def selected():
    """The instruction set that the kernels of this process use."""
    return NAMES[nnm_isa_selected()]


def runs_here(str name):
    """Whether this processor has the instructions of `name`."""
    return bool(nnm_isa_runs_here(NAMES.index(name)))
