"""Device memory: allocation with guards, and who may touch it when. Part of device.pyx."""

# Opening is a system call a block, so a launch opens what its arguments point to (`may_read`), then
# what it turns out to touch (`open_at`, called when an access is refused).
cdef void open_block(size_t key, Block *b) noexcept nogil:
    if b.device >= 0 and not b.is_open and not all_open:
        mprotect(<void *>b.base, b.span, PROT_READ | PROT_WRITE)
        b.is_open = True
        opened_blocks.push_back(key)


cdef void close_blocks() noexcept nogil:
    cdef size_t key
    for key in opened_blocks:
        mprotect(<void *>blocks[key].base, blocks[key].span, PROT_NONE)
        blocks[key].is_open = False
    opened_blocks.clear()


cdef int gate(int open_it) noexcept nogil:
    """Make all device memory accessible, or none: around the calls of the libraries' stand-ins."""
    global all_open
    cdef cpp_map[size_t, Block].iterator it = blocks.begin()
    if open_it == all_open:
        return 0
    all_open = open_it
    while it != blocks.end():
        if dereference(it).second.device >= 0:
            mprotect(<void *>dereference(it).second.base, dereference(it).second.span,
                     PROT_READ | PROT_WRITE if open_it else PROT_NONE)
        preincrement(it)
    return 0


def gate_address():
    return <uintptr_t><void *>gate


class opened:
    """Context in which the host may read and write device memory."""

    def __enter__(self):
        gate(1)

    def __exit__(self, *error):
        gate(0)


cdef Block *block_at(size_t p) noexcept nogil:
    """Return the block that an address lies in (or ends at), or null."""
    cdef cpp_map[size_t, Block].iterator it = blocks.upper_bound(p)
    if it == blocks.begin():
        return NULL
    predecrement(it)
    if p > dereference(it).first + dereference(it).second.size:
        return NULL
    return &dereference(it).second


cdef size_t first_of(Block *b) noexcept nogil:
    """Return the address of the array in its pages: it ends where they end.

    So it is aligned to the largest power of two that divides its size, which is enough for its
    elements; a GPU aligns to 256 bytes.
    """
    return b.base + b.span - b.size


cdef int place_of(const void *p) noexcept nogil:
    """Return the device of an address, -1 for pinned memory, -2 for any other."""
    cdef Block *b = block_at(<size_t>p)
    return -2 if b == NULL else b.device


cdef int may_read(const void *p) noexcept nogil:
    """Whether a kernel may follow a pointer argument; opens what it points to."""
    cdef Block *b = block_at(<size_t>p)
    if b == NULL or b.device not in (current, -1):
        return 0
    open_block(first_of(b), b)
    return 1


cdef int open_at(const void *p) noexcept nogil:
    """Open the block that a kernel was refused; 0 where the access is wrong."""
    cdef Block *b = block_at(<size_t>p)
    if b == NULL or b.device != current or b.is_open or all_open or <size_t>p >= b.base + b.span:
        return 0
    open_block(first_of(b), b)
    return 1


cdef bint reaches(size_t p, size_t n) noexcept nogil:
    cdef Block *b = block_at(p)
    return b == NULL or p + n <= first_of(b) + b.size


cdef intptr_t allocate(size_t size, int device) except 0:
    cdef int owner = device if device >= 0 else MOST_DEVICES
    cdef size_t span = (max(size, <size_t>1) + PAGE - 1) // PAGE * PAGE
    if taken[owner] + span + PAGE > SPACE:
        fail(OUT_OF_MEMORY)
    cdef Block b
    b.size, b.span, b.device = size, span, device
    b.base = arena[owner] + taken[owner]
    taken[owner] += span + PAGE
    mprotect(<void *>b.base, span, PROT_READ | PROT_WRITE)
    cdef size_t first = first_of(&b)
    memset(<void *>b.base, PATTERN, first - b.base)
    memset(<void *>first, 0xFF, b.base + span - first)
    b.is_open = False
    blocks[first] = b
    if device >= 0 and not all_open:
        mprotect(<void *>b.base, span, PROT_NONE)
    return <intptr_t>first


cdef int release(intptr_t p) except -1:
    if p == 0:
        return 0
    if blocks.count(<size_t>p) == 0:
        fail(INVALID_VALUE)
    cdef Block b = blocks[<size_t>p]
    cdef size_t at
    mprotect(<void *>b.base, b.span, PROT_READ)
    for at in range(b.base, <size_t>p):
        if (<unsigned char *>at)[0] != PATTERN:
            faults.append(f"bytes before an array of {b.size} bytes on device {b.device} were overwritten")
            break
    mprotect(<void *>b.base, b.span, PROT_NONE)
    madvise(<void *>b.base, b.span, MADV_DONTNEED)      # the address stays taken: use after free faults
    blocks.erase(<size_t>p)
    return 0


def describe_address(uintptr_t p):
    """Return where an address lies, in words."""
    cdef cpp_map[size_t, Block].iterator it = blocks.upper_bound(p)
    cdef Block b
    for k in range(device_count):
        if arena[k] <= p < arena[k] + SPACE:
            if it != blocks.begin():
                predecrement(it)
                b = dereference(it).second
                if p < b.base + b.span + PAGE:
                    past = p - dereference(it).first - b.size
                    return f"{past} bytes past the end of an array of {b.size} bytes on device {k}"
            return f"memory of device {k} that has been freed, or never was allocated"
    return "memory of the host" if p >= PAGE else "a null pointer"


def is_device_pointer(uintptr_t p):
    return place_of(<void *>p) >= 0


def live_bytes(int device):
    cdef cpp_map[size_t, Block].iterator it = blocks.begin()
    total = 0
    while it != blocks.end():
        if dereference(it).second.device == device:
            total += dereference(it).second.size
        preincrement(it)
    return total
