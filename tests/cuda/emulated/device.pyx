# cython: language_level=3
"""The runtime and driver of two CUDA devices that are this machine's memory and processor.

CuPy's compiled modules fetch the functions of `cupy_backends.cuda.api.runtime` and `driver` as C
pointers, from the capsules of those two modules, when they are imported. `install` puts functions
of this file into the capsules before that. What is not here stays CuPy's own and fails as on a
machine without a driver, so that a gap is seen.

Memory (memory.pxi). Each device owns a stretch of addresses. An array ends where an inaccessible page begins,
the bytes before it carry a pattern, new memory is filled with 0xFF (NaN), and an address is never
used twice. Device pages are inaccessible unless a
kernel, a copy or a library call runs, so that host code which follows a device pointer faults.

Time. Everything is done at once, in the order of the calls. Streams and events are numbers. With
``timing["late"]`` an asynchronous copy from the host is done as late as CUDA may do it: when something
waits for the device or uses it otherwise; until then events have not happened.
"""

import collections

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_New
from cython.operator cimport dereference, predecrement, preincrement
from libc.stdint cimport int64_t, intptr_t, uint64_t, uintptr_t
from libc.string cimport memmove, memset
from libcpp.map cimport map as cpp_map
from libcpp.vector cimport vector

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *, size_t, int, int, int, long)
    int mprotect(void *, size_t, int)
    int madvise(void *, size_t, int)
    int PROT_NONE, PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE, MADV_DONTNEED

cdef extern from "<dlfcn.h>" nogil:
    void *dlopen(const char *, int)
    void *dlsym(void *, const char *)
    char *dlerror()
    int RTLD_NOW, RTLD_LOCAL

cdef extern from "shim/scheduler.h" nogil:
    ctypedef struct nnm_launch:
        unsigned grid[3]
        unsigned block[3]
        size_t shared
        unsigned order
        unsigned poison
        uint64_t seed
    const char *nnm_error()
    void *nnm_fault()
    int (*nnm_may_read)(const void *) noexcept
    int (*nnm_open_at)(const void *) noexcept

cdef extern from *:
    """
    typedef int (*nnm_kernel)(void **, const nnm_launch *);
    typedef void (*nnm_kinds)(char *);
    """
    ctypedef void (*nnm_kinds)(char *) noexcept nogil
    ctypedef int (*nnm_kernel)(void **, const nnm_launch *) noexcept nogil

cdef enum:
    MOST_DEVICES = 8
cdef size_t PAGE = 4096, SPACE = <size_t>1 << 38     # addresses of one device; never reused
cdef enum:
    # cudaError_t
    INVALID_VALUE = 1
    OUT_OF_MEMORY = 2
    INVALID_DEVICE = 101
    NOT_FOUND = 500
    NOT_READY = 600
    ILLEGAL_ADDRESS = 700
    # cudaMemcpyKind, cudaMemoryType
    HOST_TO_HOST = 0
    HOST_TO_DEVICE = 1
    DEVICE_TO_HOST = 2
    DEVICE_TO_DEVICE = 3
    BY_ADDRESS = 4
    PATTERN = 0xA5

cdef struct Block:
    size_t size
    size_t base          # of its pages
    size_t span          # length of its pages; the inaccessible one follows
    int device           # -1: pinned host memory
    bint is_open

cdef cpp_map[size_t, Block] blocks                   # by the address of their array
cdef vector[size_t] opened_blocks                    # to be closed after the launch or copy
cdef size_t arena[MOST_DEVICES + 1]                  # the last one is pinned host memory
cdef size_t taken[MOST_DEVICES + 1]
cdef int device_count = 0, current = 0
cdef intptr_t last_handle = 0x1000
cdef bint all_open = False

counters = collections.Counter()
"""What has been asked of the devices: launches, allocations, copies by kind, synchronisations."""

faults = []
"""Sentences on damage that was found where no exception can be raised."""

order = {"order": 0, "poison": 0xFF, "seed": 0}
"""How kernels run: the order of threads (0, 1, 2), the byte in shared memory, the seed of order 2."""

launched = collections.Counter()
"""Launches by kernel name."""

history = collections.deque(maxlen=4096)
"""What was queued, in order: (what, its stream, bytes or event); for tests of what waits for what."""

timing = {"late": False}
"""Whether copies from the host wait for the last moment, to show sources that are changed or freed too early."""

used = set()
"""Modules (the stems of their files) whose kernels were launched since the set was cleared."""

attributes, properties = {}, {}
cdef dict module_keys = {}, kernels = {}      # by address: of a module; of a kernel, with its name
cdef dict kinds_of = {}                       # by address of a kernel: the function that says what its parameters are
cdef object error_type = None, pointer_attributes = None


class EmulatedDeviceError(RuntimeError):
    """What a GPU would have answered with damaged memory or an error of the whole context."""


cdef object fail(int status):
    raise error_type(status)


include "memory.pxi"


# ------------------------------------------------------------------------------------- runtime
# Names, arguments and results are those of the capsules; `skip` is Cython's last argument of cpdef.
cdef int getDeviceCount(int skip) except? -1:
    return device_count


cdef int getDevice(int skip) except? -1:
    return current


cdef object setDevice(int index, int skip):
    global current
    if not 0 <= index < device_count:
        fail(INVALID_DEVICE)
    current = index


cdef int version(int skip) except? -1:
    return 13020


cdef int deviceGetAttribute(int which, int index, int skip) except? -1:
    return attributes.get(which, 0)


cdef object getDeviceProperties(int index, int skip):
    return dict(properties)


cdef int deviceCanAccessPeer(int a, int b, int skip) except? -1:
    return 0


cdef object memGetInfo(int skip):
    return (80 << 30) - live_bytes(current), 80 << 30


cdef object deviceSynchronize(int skip):
    flush()
    counters["synchronize"] += 1


cdef object nothing():
    pass


cdef intptr_t malloc_(size_t size, int skip) except? 0:
    counters["malloc"] += 1
    return allocate(size, current)


cdef intptr_t mallocAsync(size_t size, intptr_t stream, int skip) except? 0:
    return malloc_(size, 0)


cdef intptr_t hostAlloc(size_t size, unsigned flags, int skip) except? 0:
    counters["pinned"] += 1
    return allocate(size, -1)


cdef object free_(intptr_t p, int skip):
    flush()      # cudaFree waits for the device
    release(p)


cdef object freeAsync(intptr_t p, intptr_t stream, int skip):
    release(p)


pending = collections.deque()        # late copies, numbered; an event knows how many were queued before it
cdef dict copies_before = {}
cdef int64_t copies_queued = 0


cdef object flush():
    """Do the copies that are late."""
    while pending:
        number, to, of, size, kind = pending.popleft()
        copy_now(to, of, size, kind)


cdef void may_touch(intptr_t p) noexcept nogil:
    cdef Block *b = block_at(<size_t>p)
    if b != NULL:
        open_block(first_of(b), b)


cdef object copy(intptr_t to, intptr_t of, size_t size, int kind):
    flush()
    copy_now(to, of, size, kind)


cdef object copy_now(intptr_t to, intptr_t of, size_t size, int kind):
    cdef int there = place_of(<void *>to), here = place_of(<void *>of)
    if size == 0:
        return
    if kind == BY_ADDRESS:
        kind = 2 * (here >= 0) + (there >= 0)
    names = ("host to host", "host to device", "device to host", "device to device")
    counters[names[kind]] += 1
    want_to, want_of = kind in (HOST_TO_DEVICE, DEVICE_TO_DEVICE), kind in (DEVICE_TO_HOST, DEVICE_TO_DEVICE)
    if (there >= 0) != want_to or (here >= 0) != want_of:
        raise EmulatedDeviceError(
            f"a copy {names[kind]} between {describe_address(of)} and {describe_address(to)}")
    if not (reaches(<size_t>to, size) and reaches(<size_t>of, size)):
        fail(INVALID_VALUE)
    may_touch(to)
    may_touch(of)
    memmove(<void *>to, <void *>of, size)
    close_blocks()


cdef object memcpy_(intptr_t to, intptr_t of, size_t size, int kind, int skip):
    copy(to, of, size, kind)


cdef object memcpyAsync(intptr_t to, intptr_t of, size_t size, int kind, intptr_t stream, int skip):
    global copies_queued
    history.append(("copy", stream, size))
    if timing["late"] and kind == HOST_TO_DEVICE:
        copies_queued += 1
        pending.append((copies_queued, to, of, size, kind))
    else:
        copy(to, of, size, kind)


cdef object memcpyPeer(intptr_t to, int there, intptr_t of, int here, size_t size, int skip):
    copy(to, of, size, DEVICE_TO_DEVICE)


cdef object memcpyPeerAsync(intptr_t to, int there, intptr_t of, int here, size_t size, intptr_t stream, int skip):
    history.append(("copy", stream, size))
    copy(to, of, size, DEVICE_TO_DEVICE)


cdef object memset_(intptr_t p, int value, size_t size, int skip):
    counters["memset"] += 1
    flush()
    if place_of(<void *>p) < 0 and size or not reaches(<size_t>p, size):
        fail(INVALID_VALUE)
    may_touch(p)
    memset(<void *>p, value, size)
    close_blocks()


cdef object memsetAsync(intptr_t p, int value, size_t size, intptr_t stream, int skip):
    memset_(p, value, size, 0)


cdef intptr_t new_handle() noexcept:
    global last_handle
    last_handle += 16
    return last_handle


cdef intptr_t create(int skip) except? 0:
    return new_handle()


cdef intptr_t createWithFlags(unsigned flags, int skip) except? 0:
    return new_handle()


cdef intptr_t streamCreateWithPriority(unsigned flags, int priority, int skip) except? 0:
    return new_handle()


cdef object of_handle(intptr_t handle, int skip):
    pass


cdef object done(intptr_t handle, int skip):
    return NOT_READY if pending else 0


cdef object eventQuery(intptr_t event, int skip):
    return NOT_READY if pending and copies_before.get(event, 0) >= pending[0][0] else 0


cdef object waits_for_handle(intptr_t handle, int skip):
    history.append(("synchronize", handle, None))
    flush()
    counters["synchronize"] += 1


cdef object streamWaitEvent(intptr_t stream, intptr_t event, int skip, void *optional):
    history.append(("wait", stream, event))


cdef int streamIsCapturing(intptr_t stream, int skip) except? -1:
    return stream in recordings


# ------------------------------------------------------------------------------------- graphs
# What is launched on a stream while it is recorded is kept with copies of its arguments, and done at each replay.
cdef dict recordings = {}, graphs = {}               # by stream; by graph, and by what is made of it

cdef struct optional_mode:
    int count
    int mode


cdef object streamBeginCapture(intptr_t stream, int skip, optional_mode *mode):
    if stream in (0, 1, 2) or stream in recordings:
        fail(900 if stream in (0, 1, 2) else 901)    # the default streams cannot be recorded; it is recorded already
    recordings[stream] = []


cdef intptr_t streamEndCapture(intptr_t stream, int skip) except? 0:
    if stream not in recordings:
        fail(INVALID_VALUE)
    cdef intptr_t graph = new_handle()
    graphs[graph] = recordings.pop(stream)
    return graph


cdef intptr_t graphInstantiate(intptr_t graph, int skip) except? 0:
    cdef intptr_t executable = new_handle()
    graphs[executable] = graphs[graph]
    return executable


cdef object graphDestroy(intptr_t graph, int skip):
    graphs.pop(graph)


cdef object graphLaunch(intptr_t graph, intptr_t stream, int skip):
    cdef list parts
    cdef vector[void *] at
    cdef const char *bytes_at
    counters["graph"] += 1
    for f, grid, block, shared, values in graphs[graph]:
        at.clear()
        for value in values:
            bytes_at = value
            at.push_back(<void *>bytes_at)
        start(f, grid, block, shared, stream, <intptr_t>at.data())


cdef list argument_bytes(intptr_t f, void **addresses):
    """The arguments of a launch, by what the kernel says of their sizes."""
    cdef char said[16384]
    (<nnm_kinds><intptr_t>kinds_of[f])(said)
    cdef list values = []
    cdef size_t i = 0, size
    for word in said.decode().split(",")[:-1]:
        size = int(word[1:])
        values.append((<char *>addresses[i])[:size])
        i += 1
    return values


cdef object eventRecord(intptr_t event, intptr_t stream, int skip):
    if pending or event in copies_before:
        copies_before[event] = copies_queued
    history.append(("record", stream, event))


cdef float eventElapsedTime(intptr_t start, intptr_t end, int skip) except? 0:
    raise EmulatedDeviceError("the emulated device measures no times")


cdef int pointerGetMemoryType(intptr_t p, int skip) except? -1:
    cdef int place = place_of(<void *>p)
    return 2 if place >= 0 else 1 if place == -1 else 0


cdef object pointerGetAttributes(intptr_t p, int skip):
    cdef int place = place_of(<void *>p)
    if place == -2:
        return pointer_attributes(-2, 0, 0, 0)
    return pointer_attributes(max(place, 0), p if place >= 0 else 0, 0 if place >= 0 else p,
                              2 if place >= 0 else 1)


# ------------------------------------------------------------------------------------- driver
cdef intptr_t ctxGetCurrent(int skip) except? 0:
    return 0x77


cdef intptr_t moduleLoadData(object image, int skip) except? 0:
    """Open the shared object whose path stands in place of a binary; see modules.py."""
    cdef bytes path = bytes(image)
    if not path.startswith(b"emulated:"):
        raise EmulatedDeviceError("a module of device code that the emulation has not compiled")
    cdef void *module = dlopen(path[9:], RTLD_NOW | RTLD_LOCAL)
    if module == NULL:
        raise EmulatedDeviceError(dlerror().decode())
    module_keys[<intptr_t>module] = path.rpartition(b"/")[2].partition(b".")[0].decode()
    return <intptr_t>module


cdef intptr_t moduleGetFunction(intptr_t module, object name, int skip) except? 0:
    cdef bytes symbol = f"nnm_launch_{name}".encode()
    cdef void *f = dlsym(<void *>module, symbol)
    if f == NULL:
        fail(NOT_FOUND)
    kernels[<intptr_t>f] = (name, module_keys[module])
    symbol = f"nnm_kinds_{name}".encode()
    kinds_of[<intptr_t>f] = <intptr_t>dlsym(<void *>module, symbol)
    return <intptr_t>f


cdef object launchKernel(intptr_t f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                         unsigned bz, unsigned shared, intptr_t stream, intptr_t addresses,
                         intptr_t extra, int skip):
    counters["launch"] += 1
    if stream in recordings:
        values = argument_bytes(f, <void **>addresses)
        recordings[stream].append((f, (gx, gy, gz), (bx, by, bz), shared, values))
        return
    start(f, (gx, gy, gz), (bx, by, bz), shared, stream, addresses)


cdef object start(intptr_t f, tuple grid, tuple block, unsigned shared, intptr_t stream, intptr_t addresses):
    """Run a kernel now."""
    cdef nnm_launch how
    cdef unsigned gx, gy, gz, bx, by, bz
    gx, gy, gz = grid
    bx, by, bz = block
    how.grid[0], how.grid[1], how.grid[2] = gx, gy, gz
    how.block[0], how.block[1], how.block[2] = bx, by, bz
    how.shared, how.order, how.poison, how.seed = shared, order["order"], order["poison"], order["seed"]
    name, key = kernels[f]
    flush()
    used.add(key)
    history.append(("launch", stream, name))
    launched[name] += 1
    if 0 in (gx, gy, gz, bx, by, bz) or gx > 0x7fffffff or gy > 65535 or gz > 65535 or bz > 64 \
            or bx * by * bz > 1024:
        fail(INVALID_VALUE)
    cdef int status = (<nnm_kernel>f)(<void **>addresses, &how)
    close_blocks()
    if status == 2:
        raise EmulatedDeviceError(f"kernel {name}: a pointer argument is not memory of device {current}")
    if status:
        what = nnm_error().decode()
        if nnm_fault() != NULL:
            what += f": {describe_address(<uintptr_t>nnm_fault())}"
        raise EmulatedDeviceError(f"kernel {name}: {what}")


cdef int funcGetAttribute(int which, intptr_t f, int skip) except? -2:
    return 1024 if which == 0 else 0         # 0: most threads of a block


cdef object funcSetAttribute(intptr_t f, int which, int value, int skip):
    pass


cdef int occupancy(intptr_t f, int block, size_t shared, int skip) except? -1:
    return 2


# ------------------------------------------------------------------------------------- installing
replaced = []      # the capsules that were there; they must outlive their readers


cdef object put(module, str name, void *f):
    capsules = module.__pyx_capi__
    old = capsules[name]
    capsules[name] = PyCapsule_New(f, PyCapsule_GetName(old), NULL)
    replaced.append(old)


def install(runtime, driver, int count):
    """Put this device in place of CuPy's runtime and driver, which nothing may have imported yet."""
    global device_count, error_type, pointer_attributes
    if not 0 < count <= MOST_DEVICES:
        raise ValueError(f"install: `count` must be 1 to {MOST_DEVICES}, got {count}")
    device_count, error_type = count, runtime.CUDARuntimeError
    pointer_attributes = runtime.PointerAttributes
    for k in (*range(count), MOST_DEVICES):
        arena[k] = <size_t>mmap(NULL, SPACE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if <intptr_t>arena[k] == -1:
            raise MemoryError("install: no room in the address space")
    global nnm_may_read, nnm_open_at
    nnm_may_read, nnm_open_at = may_read, open_at

    put(runtime, "getDeviceCount", <void *>getDeviceCount)
    put(runtime, "getDevice", <void *>getDevice)
    put(runtime, "setDevice", <void *>setDevice)
    put(runtime, "driverGetVersion", <void *>version)
    put(runtime, "deviceGetAttribute", <void *>deviceGetAttribute)
    put(runtime, "getDeviceProperties", <void *>getDeviceProperties)
    put(runtime, "deviceCanAccessPeer", <void *>deviceCanAccessPeer)
    put(runtime, "memGetInfo", <void *>memGetInfo)
    put(runtime, "deviceSynchronize", <void *>deviceSynchronize)
    put(runtime, "_ensure_context", <void *>nothing)
    put(runtime, "malloc", <void *>malloc_)
    put(runtime, "mallocAsync", <void *>mallocAsync)
    put(runtime, "hostAlloc", <void *>hostAlloc)
    put(runtime, "free", <void *>free_)
    put(runtime, "freeAsync", <void *>freeAsync)
    put(runtime, "freeHost", <void *>free_)
    put(runtime, "memcpy", <void *>memcpy_)
    put(runtime, "memcpyAsync", <void *>memcpyAsync)
    put(runtime, "memcpyPeer", <void *>memcpyPeer)
    put(runtime, "memcpyPeerAsync", <void *>memcpyPeerAsync)
    put(runtime, "memset", <void *>memset_)
    put(runtime, "memsetAsync", <void *>memsetAsync)
    put(runtime, "streamCreate", <void *>create)
    put(runtime, "streamCreateWithFlags", <void *>createWithFlags)
    put(runtime, "streamCreateWithPriority", <void *>streamCreateWithPriority)
    put(runtime, "streamDestroy", <void *>of_handle)
    put(runtime, "streamQuery", <void *>done)
    put(runtime, "streamSynchronize", <void *>waits_for_handle)
    put(runtime, "streamWaitEvent", <void *>streamWaitEvent)
    put(runtime, "streamIsCapturing", <void *>streamIsCapturing)
    put(runtime, "streamBeginCapture", <void *>streamBeginCapture)
    put(runtime, "streamEndCapture", <void *>streamEndCapture)
    put(runtime, "graphInstantiate", <void *>graphInstantiate)
    put(runtime, "graphLaunch", <void *>graphLaunch)
    put(runtime, "graphDestroy", <void *>graphDestroy)
    put(runtime, "graphExecDestroy", <void *>graphDestroy)
    put(runtime, "eventCreate", <void *>create)
    put(runtime, "eventCreateWithFlags", <void *>createWithFlags)
    put(runtime, "eventDestroy", <void *>of_handle)
    put(runtime, "eventQuery", <void *>eventQuery)
    put(runtime, "eventSynchronize", <void *>waits_for_handle)
    put(runtime, "eventRecord", <void *>eventRecord)
    put(runtime, "eventElapsedTime", <void *>eventElapsedTime)
    put(runtime, "pointerGetMemoryType", <void *>pointerGetMemoryType)
    put(runtime, "pointerGetAttributes", <void *>pointerGetAttributes)
    put(driver, "ctxGetCurrent", <void *>ctxGetCurrent)
    put(driver, "ctxSetCurrent", <void *>of_handle)
    put(driver, "moduleLoadData", <void *>moduleLoadData)
    put(driver, "moduleUnload", <void *>of_handle)
    put(driver, "moduleGetFunction", <void *>moduleGetFunction)
    put(driver, "launchKernel", <void *>launchKernel)
    put(driver, "funcGetAttribute", <void *>funcGetAttribute)
    put(driver, "funcSetAttribute", <void *>funcSetAttribute)
    put(driver, "occupancyMaxActiveBlocksPerMultiprocessor", <void *>occupancy)

    # the same names as CuPy's Python code and its users reach them
    for name, f in {
        "getDeviceCount": lambda: device_count,
        "getDevice": lambda: current,
        "setDevice": lambda index: setDevice(index, 0),
        "driverGetVersion": lambda: version(0),
        "deviceGetAttribute": lambda which, index: deviceGetAttribute(which, index, 0),
        "getDeviceProperties": lambda index: getDeviceProperties(index, 0),
        "deviceCanAccessPeer": lambda a, b: 0,
        "memGetInfo": lambda: memGetInfo(0),
        "deviceSynchronize": lambda: deviceSynchronize(0),
        "malloc": lambda size: malloc_(size, 0),
        "free": lambda p: free_(p, 0),
        "hostAlloc": lambda size, flags: hostAlloc(size, flags, 0),
        "freeHost": lambda p: free_(p, 0),
        "memcpy": lambda to, of, size, kind: memcpy_(to, of, size, kind, 0),
        "memcpyAsync": lambda to, of, size, kind, stream: memcpyAsync(to, of, size, kind, stream, 0),
        "memset": lambda p, value, size: memset_(p, value, size, 0),
        "memsetAsync": lambda p, value, size, stream: memset_(p, value, size, 0),
        "streamSynchronize": lambda stream: waits_for_handle(stream, 0),
        "eventSynchronize": lambda event: waits_for_handle(event, 0),
        "eventRecord": lambda event, stream: eventRecord(event, stream, 0),
        "streamWaitEvent": lambda stream, event, flags=0: streamWaitEvent(stream, event, 0, NULL),
        "pointerGetAttributes": lambda p: pointerGetAttributes(p, 0),
    }.items():
        setattr(runtime, name, f)
