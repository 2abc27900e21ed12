"""Memory for machine code that the project itself has written: `Code(bytes).address` can be called.

A page is written first and made executable then, never both. Where the system forbids pages that execute
(`OSError`), or there are none (Windows), callers go on without.
"""

from libc.stdint cimport uintptr_t

cdef extern from *:
    """
    #include <string.h>
    #if defined(_WIN32)
    #include <windows.h>
    static void *code_new(const void *bytes, size_t n)
    {
        DWORD before;
        void *p = VirtualAlloc(NULL, n, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
        if (!p)
            return NULL;
        memcpy(p, bytes, n);
        if (!VirtualProtect(p, n, PAGE_EXECUTE_READ, &before)) {
            VirtualFree(p, 0, MEM_RELEASE);
            return NULL;
        }
        return p;
    }
    static void code_free(void *p, size_t n) { VirtualFree(p, 0, MEM_RELEASE); }
    #else
    #include <sys/mman.h>
    static void *code_new(const void *bytes, size_t n)
    {
        void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return NULL;
        memcpy(p, bytes, n);
        if (mprotect(p, n, PROT_READ | PROT_EXEC)) {
            munmap(p, n);
            return NULL;
        }
        return p;
    }
    static void code_free(void *p, size_t n) { munmap(p, n); }
    #endif
    """
    void *code_new(const void *bytes, size_t n) nogil
    void code_free(void *p, size_t n) nogil


cdef class Code:
    """Machine code in memory of its own, as long as the object lives; raises OSError where that is forbidden."""

    cdef void *place
    cdef readonly Py_ssize_t size
    cdef object __weakref__

    def __cinit__(self, bytes code not None):
        self.size = len(code)
        self.place = code_new(<const char *>code, <size_t>self.size)
        if self.place is NULL:
            raise OSError("Code: the system gives no memory that executes")

    def __dealloc__(self):
        if self.place is not NULL:
            code_free(self.place, <size_t>self.size)

    @property
    def address(self):
        """Where the code is."""
        return <uintptr_t>self.place
