# The memory of results.

cdef enum:
    POOLED = 1 << 17                      # bytes from which the memory of a result is used again: its pages are warm
    SPARE = 2                             # blocks that wait for each output


@cython.final
cdef class _Blocks:
    """Memory of results that nobody holds any more. Fresh pages cost more than most arithmetic."""
    cdef list spare                       # of addresses
    cdef size_t nbytes

    def __cinit__(self, size_t nbytes):
        self.nbytes, self.spare = nbytes, []

    cdef _Block take(self):
        cdef _Block b = _Block.__new__(_Block)
        b.home = self
        if self.spare:
            b.data = <void *><uintptr_t>self.spare.pop()
        else:
            b.data = nnm_arena_new(self.nbytes)
            if b.data is NULL:
                raise MemoryLimitError(f"compile: there is no memory for a result of {self.nbytes} bytes.")
        return b

    def __dealloc__(self):
        for address in self.spare:
            nnm_arena_free(<void *><uintptr_t>address, self.nbytes)


@cython.final
cdef class _Block:
    """The owner of the memory of one result."""
    cdef _Blocks home
    cdef void *data

    def __dealloc__(self):
        if self.data is NULL:
            return
        if self.home is not None and len(self.home.spare) < SPARE:
            self.home.spare.append(<uintptr_t>self.data)
        else:
            nnm_arena_free(self.data, self.home.nbytes)
