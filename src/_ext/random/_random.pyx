"""Doors to the kernels of random numbers: rows of numbers, one a key."""

from libc.stdint cimport uint32_t
from cython cimport floating

from _isa cimport require_isa

from nnmath_core.errors import ShapeError

cdef extern from "nnm_random.h":
    ctypedef struct nnm_random_kernels:
        const char *isa
        void (*random_blocks_f32)(Py_ssize_t, unsigned int *, const unsigned int *, const unsigned int *) noexcept nogil
        void (*random_words_f32)(Py_ssize_t, unsigned int *, const unsigned int *, Py_ssize_t,
                                 unsigned int) noexcept nogil
        void (*random_uniform_f32)(Py_ssize_t, float *, const unsigned int *, Py_ssize_t) noexcept nogil
        void (*random_uniform_f64)(Py_ssize_t, double *, const unsigned int *, Py_ssize_t) noexcept nogil
        void (*random_normal_f32)(Py_ssize_t, float *, const unsigned int *, Py_ssize_t) noexcept nogil
        void (*random_normal_f64)(Py_ssize_t, double *, const unsigned int *, Py_ssize_t) noexcept nogil
    const nnm_random_kernels *nnm_random_table()

require_isa()
cdef const nnm_random_kernels *K = nnm_random_table()


def isa():
    """The instruction set of the kernels: 'baseline', 'v3' or 'v4'."""
    return K.isa.decode()


cdef int require_keys(str who, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t wanted) except -1:
    if rows != wanted or columns != 2:
        raise ShapeError(f"{who}: `keys` must be of shape ({wanted}, 2), a key for each row, got ({rows}, {columns}).")
    return 0


def random_blocks(uint32_t[:, ::1] w, const uint32_t[:, ::1] counters, const uint32_t[:, ::1] keys):
    """Fill w, (n, 4), with Philox4x32-10 of the counters, (n, 4), under the keys, (n, 2)."""
    cdef Py_ssize_t n = w.shape[0]
    require_keys("random_blocks", keys.shape[0], keys.shape[1], n)
    if w.shape[1] != 4 or counters.shape[0] != n or counters.shape[1] != 4:
        raise ShapeError(f"random_blocks: `w` and `counters` must be of shape ({n}, 4).")
    if n == 0:
        return
    with nogil:
        K.random_blocks_f32(n, <unsigned int *>&w[0, 0], <const unsigned int *>&counters[0, 0],
                            <const unsigned int *>&keys[0, 0])


def random_words(uint32_t[:, ::1] w, const uint32_t[:, ::1] keys, unsigned int purpose):
    """Fill w, (rows, count), with the words of the keys, (rows, 2)."""
    cdef Py_ssize_t rows = w.shape[0], count = w.shape[1]
    require_keys("random_words", keys.shape[0], keys.shape[1], rows)
    if rows == 0 or count == 0:
        return
    with nogil:
        K.random_words_f32(rows * ((count + 3) // 4), <unsigned int *>&w[0, 0], <const unsigned int *>&keys[0, 0],
                           count, purpose)


def random_uniform(floating[:, ::1] u, const uint32_t[:, ::1] keys):
    """Fill u, (rows, count), with uniform numbers in [0, 1) of the keys, (rows, 2)."""
    cdef Py_ssize_t rows = u.shape[0], count = u.shape[1]
    require_keys("random_uniform", keys.shape[0], keys.shape[1], rows)
    if rows == 0 or count == 0:
        return
    with nogil:
        if floating is float:
            K.random_uniform_f32(rows * ((count + 3) // 4), &u[0, 0], <const unsigned int *>&keys[0, 0], count)
        else:
            K.random_uniform_f64(rows * ((count + 1) // 2), &u[0, 0], <const unsigned int *>&keys[0, 0], count)


def random_normal(floating[:, ::1] z, const uint32_t[:, ::1] keys):
    """Fill z, (rows, count), with normal numbers of the keys, (rows, 2)."""
    cdef Py_ssize_t rows = z.shape[0], count = z.shape[1]
    require_keys("random_normal", keys.shape[0], keys.shape[1], rows)
    if rows == 0 or count == 0:
        return
    with nogil:
        if floating is float:
            K.random_normal_f32(rows * ((count + 3) // 4), &z[0, 0], <const unsigned int *>&keys[0, 0], count)
        else:
            K.random_normal_f64(rows * ((count + 1) // 2), &z[0, 0], <const unsigned int *>&keys[0, 0], count)
