# Plans for C (nnmath_core.h) and for SciPy.

from cpython.exc cimport PyErr_SetObject, PyErr_WriteUnraisable
from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_New, PyCapsule_SetContext
from libc.stddef cimport ptrdiff_t

cdef extern from "plan/embed.h":
    const char *NNM_CAPSULE
    ctypedef struct nnm_spec:
        int32_t dtype, rank
        const int64_t *shape
        int64_t itemsize, nbytes
        int32_t alignment, takes
    ctypedef struct nnm_plan:
        int32_t ninputs, noutputs, host
        const nnm_spec *inputs
        const nnm_spec *outputs
        size_t workspace_size
    ctypedef struct nnm_embedded:
        nnm_plan face
        const int64_t *slots
    void nnm_embed(nnm_embedded *, const nnm_program *) noexcept nogil
    void nnm_embed_errors(void (*print)(void *) noexcept,
                          void (*misfit)(const nnm_plan *, ptrdiff_t, ptrdiff_t) noexcept)
    enum:
        NNM_QUAD_MOST
    double nnm_quad(double, void *) noexcept nogil
    double nnm_quad_numbers(int, double *, void *) noexcept nogil
    double nnm_quad_array(int, double *, void *) noexcept nogil
    int nnm_filter(double *, ptrdiff_t, double *, void *) noexcept nogil
    int nnm_filter1d(double *, ptrdiff_t, double *, ptrdiff_t, void *) noexcept nogil
    int nnm_mapping(ptrdiff_t *, double *, int, int, void *) noexcept nogil

# The place of a dtype among NNM_TYPE_..., from 1 on.
cdef tuple TYPES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")


@cython.final
cdef class _Face:
    """What C sees of an Executable."""
    cdef nnm_embedded c
    cdef nnm_spec *specs
    cdef int64_t *numbers                 # slots, then shapes

    cdef int fill(self, const nnm_program *program, tuple inputs, tuple outputs) except -1:
        cdef Py_ssize_t n = len(inputs) + len(outputs), i, at = n
        cdef Py_ssize_t lengths = sum([len(x[1]) for x in inputs + outputs])
        cdef nnm_spec *s
        self.specs = <nnm_spec *>malloc(n * sizeof(nnm_spec) + 1)
        self.numbers = <int64_t *>malloc((n + lengths) * sizeof(int64_t) + 1)
        if self.specs is NULL or self.numbers is NULL:
            raise MemoryError
        for i, (slot, shape, number, donor) in enumerate(inputs + outputs):
            dtype = np.dtype(cnp.PyArray_DescrFromType(number))
            name = f"{'b' if dtype.kind == 'b' else dtype.kind}{dtype.itemsize}"
            s = &self.specs[i]
            s.dtype = TYPES.index(name) + 1 if name in TYPES else 0
            s.rank, s.shape, s.itemsize, s.alignment = len(shape), self.numbers + at, dtype.itemsize, dtype.alignment
            s.takes = max(donor, -1) if i >= len(inputs) else -1
            s.nbytes = dtype.itemsize
            for length in shape:
                self.numbers[at] = length
                s.nbytes *= length
                at += 1
            self.numbers[i] = slot
        nnm_embed(&self.c, program)
        self.c.slots = self.numbers
        self.c.face.inputs, self.c.face.outputs = self.specs, self.specs + len(inputs)
        self.c.face.ninputs, self.c.face.noutputs = len(inputs), len(outputs)
        self.c.face.host = 0
        for i in range(program.ninstr):
            self.c.face.host += program.instr[i].exec == host_exec
        return 0

    def __dealloc__(self):
        free(self.specs)
        free(self.numbers)


cdef object new_capsule(object owner, nnm_embedded *e):
    capsule = PyCapsule_New(e, NNM_CAPSULE, drop_owner)
    PyCapsule_SetContext(capsule, <void *>owner)
    Py_INCREF(owner)
    return capsule


cdef void drop_owner(object capsule) noexcept:
    Py_DECREF(<object>PyCapsule_GetContext(capsule))


cdef void print_failure(void *error) noexcept with gil:
    """An exception of a run that C has started: nobody else can be told."""
    e = <object>error
    Py_DECREF(e)
    PyErr_SetObject(type(e), e)
    PyErr_WriteUnraisable("a run of a nnmath_core plan from C")


cdef void raise_misfit(const nnm_plan *plan, ptrdiff_t n, ptrdiff_t m) noexcept with gil:
    """Set the exception of a call of SciPy's with another number of entries; m: those of the result, -1 for one."""
    cdef bint apart = plan.ninputs > 1 or plan.inputs[0].rank == 0
    want = plan.ninputs if apart else plan.inputs[0].shape[0]
    got = f"{n} entries"
    text = f"{want} entries"
    if m >= 0:
        text += f" to {plan.outputs[0].shape[0]}"
        got += f" to {m}"
    PyErr_SetObject(ShapeError, f"low_level_callable: the plan takes {text}, got {got}. Make a plan for that shape.")


nnm_embed_errors(print_failure, raise_misfit)

# SciPy's functions tell the signature by the name of the capsule, whose memory must last: these are literals.
cdef dict _scipy_functions = {
    "quad": PyCapsule_New(<void *>nnm_quad, "double (double, void *)", NULL),
    "quad_numbers": PyCapsule_New(<void *>nnm_quad_numbers, "double (int, double *, void *)", NULL),
    "quad_array": PyCapsule_New(<void *>nnm_quad_array, "double (int, double *, void *)", NULL),
    "filter": PyCapsule_New(<void *>nnm_filter, "int (double *, npy_intp, double *, void *)", NULL),
    "filter1d": PyCapsule_New(<void *>nnm_filter1d, "int (double *, npy_intp, double *, npy_intp, void *)", NULL),
    "mapping": PyCapsule_New(<void *>nnm_mapping, "int (npy_intp *, double *, int, int, void *)", NULL),
}


def scipy_table():
    """What SciPy can call, by name and signature, as capsules; and how many numbers it may pass."""
    return _scipy_functions, NNM_QUAD_MOST
