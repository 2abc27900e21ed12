"""The door of the pool: the number of threads, BLAS inside of runs, what the pool did, and trials of it."""

import atexit
import ctypes
import os
import warnings

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport calloc, free

from _threads cimport nnm_barrier, nnm_barrier_join, nnm_pool_table

import scipy.linalg.cython_blas

cdef extern from "plan/pool.h":
    enum: NNM_THREADS_MOST
    const nnm_pool_table nnm_pool
    ctypedef struct nnm_pool_counts:
        long long runs, parallel, fewer, late, resting, busy, brief, alone, placed, slow
        int workers
    nnm_pool_counts nnm_pool_read() noexcept nogil
    void nnm_pool_init() noexcept nogil
    void nnm_pool_end() noexcept nogil
    ctypedef void (*nnm_blas_set)(int) noexcept nogil
    ctypedef int (*nnm_blas_get)() noexcept nogil
    void nnm_pool_blas(nnm_blas_set, nnm_blas_get) noexcept nogil

table = PyCapsule_New(<void *>&nnm_pool, "nnmath_core._ext._threads.table", NULL)


# ------------------------------------------------------------------------------------------------ the setting
def number():
    """The most threads that a run may have."""
    return nnm_pool.threads_get()


def most():
    """The largest number that can be set."""
    return NNM_THREADS_MOST


def set_number(int n):
    """Let runs have up to `n` threads, 1 <= n <= most()."""
    nnm_pool.threads_set(n)


def usable_cpus():
    """The number of CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:                       # not on macOS
        return os.cpu_count() or 1


def default_number():
    """What OMP_NUM_THREADS says, of a list its first number; else the number of usable CPUs."""
    text = os.environ.get("OMP_NUM_THREADS", "").strip()
    if text:
        first = text.split(",")[0].strip()
        if first.isascii() and first.isdigit() and int(first) > 0:
            return min(int(first), NNM_THREADS_MOST)
        warnings.warn(f"threads: the environment variable OMP_NUM_THREADS must be a positive integer, got {text!r}. "
                      "It is ignored: runs use the CPUs of this process.", RuntimeWarning, stacklevel=2)
    return min(usable_cpus(), NNM_THREADS_MOST)


# ------------------------------------------------------------------------------------------------ BLAS
cdef object _library = None                      # its name and functions, which it keeps alive
cdef str _blas


def find_blas(str path):
    """The functions of the OpenBLAS of a library, (name, set, get), or a sentence that says why there are none."""
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        return f"not controlled: {error}"
    for prefix in ("scipy_openblas", "openblas"):
        for suffix in ("", "64_", "_64"):
            try:
                put, ask, how = [getattr(library, f"{prefix}_{word}{suffix}")
                                 for word in ("set_num_threads", "get_num_threads", "get_parallel")]
            except AttributeError:
                continue
            if how() == 0:
                return "has no threads of its own"
            if how() == 1:
                return prefix + suffix, put, ask
            return "not controlled: it has the threads of OpenMP, whose number each of ours would have to set"
    return "not controlled: SciPy's BLAS is no OpenBLAS"


cdef str _control(str path):
    global _library
    found = find_blas(path)
    if isinstance(found, str):
        return found
    name, put, ask = _library = found
    nnm_pool_blas(<nnm_blas_set><uintptr_t>ctypes.cast(put, ctypes.c_void_p).value,
                  <nnm_blas_get><uintptr_t>ctypes.cast(ask, ctypes.c_void_p).value)
    return f"one thread inside of runs ({name})"


def blas():
    """What is done about the threads of SciPy's BLAS inside of runs."""
    return _blas


def blas_threads():
    """The number of threads that SciPy's BLAS uses now; 0 when it cannot be asked."""
    return _library[2]() if _library is not None else 0


def set_blas_threads(int n):
    """Set the number of threads of SciPy's BLAS, when that can be done."""
    if _library is not None:
        _library[1](n)


# ------------------------------------------------------------------------------------------------ statistics
def statistics():
    """How often runs were parallel, and why not; see NNM_POOL_COUNTERS in pool.h. Of the whole process."""
    cdef nnm_pool_counts c = nnm_pool_read()
    return dict(c)


def feedback(double lost):
    """Tell the pool by how many seconds a run with several threads took longer than one alone."""
    nnm_pool.feedback(lost)


# ------------------------------------------------------------------------------------------------ trials
cdef struct trial_work:
    int64_t n
    int rounds, nested, blas_wrong, inner
    int64_t *values
    int64_t wrong                                # of thread 0
    int64_t *sums                                # one a thread, a cache line apart
    nnm_blas_get blas
    nnm_barrier barrier


cdef void trial_inner(void *arg, int t, int nt) noexcept nogil:
    (<int *>arg)[0] += 1 if nt == 1 else 1000


cdef void trial_job(void *arg, int t, int nt) noexcept nogil:
    """Each round adds to one's own share and sums that of the next thread, which is right only after the barrier."""
    cdef trial_work *w = <trial_work *>arg
    cdef int64_t i, low = w.n * t // nt, high = w.n * (t + 1) // nt
    cdef int other = (t + 1) % nt, r, k
    cdef int64_t olow = w.n * other // nt, ohigh = w.n * (other + 1) // nt, total
    nnm_barrier_join(&w.barrier, nt)
    for r in range(w.rounds):
        for i in range(low, high):
            w.values[i] += i + r
        nnm_pool.barrier_wait(&w.barrier)
        total = 0
        for i in range(olow, ohigh):
            total += w.values[i]
        w.sums[8 * t] = total
        if w.nested and t == 0:
            nnm_pool.run(trial_inner, &w.inner, nt, 0)
        if w.blas != NULL and t == 0 and w.blas() != 1:
            w.blas_wrong += 1
        nnm_pool.barrier_wait(&w.barrier)
        if t == 0:
            # the sum over i of (r + 1) i + r (r + 1) / 2
            total = (r + 1) * (w.n * (w.n - 1) // 2) + w.n * (<int64_t>r * (r + 1) // 2)
            for k in range(nt):
                total -= w.sums[8 * k]
            w.wrong += total != 0


def trial(int nt, int64_t n=64, int rounds=3, double seconds=0, bint nested=False):
    """One run that checks all shares at all rounds: (threads, wrong rounds, inner runs, runs with threaded BLAS).

    With `nested` each round also runs a job from inside, which must be serial: an inner run with several threads counts
    as a thousand.
    """
    cdef trial_work w
    cdef int got
    w.n, w.rounds, w.nested, w.wrong, w.blas_wrong, w.inner = n, rounds, nested, 0, 0, 0
    w.blas = NULL
    if _library is not None:
        w.blas = <nnm_blas_get><uintptr_t>ctypes.cast(_library[2], ctypes.c_void_p).value
    w.values = <int64_t *>calloc(n + 8 * nt + 1, sizeof(int64_t))
    if w.values is NULL:
        raise MemoryError
    w.sums = w.values + n
    nnm_pool.barrier_init(&w.barrier, nt)
    with nogil:
        got = nnm_pool.run(trial_job, &w, nt, seconds)
    free(w.values)
    return got, w.wrong, w.inner, w.blas_wrong


cdef struct meeting_work:
    int count
    double seconds
    nnm_barrier barrier


cdef void meeting_job(void *arg, int t, int nt) noexcept nogil:
    cdef meeting_work *w = <meeting_work *>arg
    cdef int _
    nnm_barrier_join(&w.barrier, nt)
    nnm_pool.barrier_wait(&w.barrier)
    cdef double start = nnm_pool.now()
    for _ in range(w.count):
        nnm_pool.barrier_wait(&w.barrier)
    if t == 0:
        w.seconds = nnm_pool.now() - start


cdef void late_job(void *arg, int t, int nt) noexcept nogil:
    cdef meeting_work *w = <meeting_work *>arg
    cdef double end
    nnm_barrier_join(&w.barrier, nt)
    nnm_pool.barrier_wait(&w.barrier)
    if t == nt - 1:
        end = nnm_pool.now() + w.seconds
        while nnm_pool.now() < end:
            pass
    nnm_pool.barrier_wait(&w.barrier)


cdef struct steady_work:
    int64_t units
    int meetings
    double sink
    nnm_barrier barrier


cdef void steady_job(void *arg, int t, int nt) noexcept nogil:
    """Dependent additions and products, shared equally between meetings."""
    cdef steady_work *w = <steady_work *>arg
    cdef int64_t _, low = w.units * t // nt, high = w.units * (t + 1) // nt
    cdef double x = 1.0
    cdef int _m
    nnm_barrier_join(&w.barrier, nt)
    for _m in range(w.meetings):
        for _ in range(low, high):
            x = 0.5 * x + 1.0
        nnm_pool.barrier_wait(&w.barrier)
    if t == 0:
        w.sink = x


cdef void empty_job(void *arg, int t, int nt) noexcept nogil:
    pass


def time_meetings(int nt, int count):
    """The threads of a run and the seconds of one barrier, over `count` of them."""
    cdef meeting_work w
    cdef int got
    w.count, w.seconds = count, 0
    nnm_pool.barrier_init(&w.barrier, nt)
    with nogil:
        got = nnm_pool.run(meeting_job, &w, nt, 0)
    return got, w.seconds / count


def time_runs(int nt, int count):
    """How many of `count` empty runs had several threads, and the seconds of one."""
    cdef int _, parallel = 0
    cdef double start
    with nogil:
        start = nnm_pool.now()
        for _ in range(count):
            parallel += nnm_pool.run(empty_job, NULL, nt, 0) > 1
        start = nnm_pool.now() - start
    return parallel, start / count


def time_work(int nt, int64_t units, int meetings, double seconds=0):
    """Threads, seconds, and seconds waited at barriers, of a run of `meetings` times `units` steps of arithmetic."""
    cdef steady_work w
    cdef double start
    cdef int got
    w.units, w.meetings, w.sink = units, meetings, 0
    nnm_pool.barrier_init(&w.barrier, nt)
    with nogil:
        start = nnm_pool.now()
        got = nnm_pool.run(steady_job, &w, nt, seconds)
        start = nnm_pool.now() - start
    return got, start, nnm_pool.barrier_waited(&w.barrier)


def trial_late(int nt, double seconds):
    """The threads of a run whose last thread comes late by `seconds`, and what its barrier says of the waiting."""
    cdef meeting_work w
    cdef int got
    w.seconds = seconds
    nnm_pool.barrier_init(&w.barrier, nt)
    with nogil:
        got = nnm_pool.run(late_job, &w, nt, 0)
    return got, nnm_pool.barrier_waited(&w.barrier)


def end():
    """End the workers; later runs are serial. At the end of the process."""
    with nogil:
        nnm_pool_end()


nnm_pool_init()                                  # after BLAS was loaded: its handlers of fork run inside of ours
_blas = _control(scipy.linalg.cython_blas.__file__)
nnm_pool.threads_set(default_number())
atexit.register(end)
