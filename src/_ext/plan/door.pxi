# A compiled function: arguments in, results out.

cdef enum:
    MAX_RANK = 64


cdef struct InputSpec:
    Py_ssize_t slot
    int number                            # NumPy's type number
    int rank
    int weak                              # a Python number
    cnp.npy_intp dims[MAX_RANK]


cdef struct OutputSpec:
    Py_ssize_t slot
    int number
    int rank
    size_t nbytes
    Py_ssize_t donor                      # the input whose memory it takes; -1: none, -2: a Python number
    cnp.npy_intp dims[MAX_RANK]


cdef class Executable:
    """A program in C, immutable; runs of several threads at once have a frame each.

    Parameters are those of the lowering: instructions ``(kind, flags, refs, ints, reals, object, body)`` with refs
    as pairs (slot, offset) and the number of instructions that follow as its body; inputs ``(slot, shape, type
    number, weak)``, outputs ``(slot, shape, type number, donor)``, constants ``{slot: array}``; the trees of
    arguments and result; the seconds that a run will take, about.
    """
    cdef nnm_program c
    cdef char **base                      # of the constants; NULL elsewhere
    cdef void *store                      # refs, ints and reals of all instructions
    cdef InputSpec *ins
    cdef OutputSpec *outs
    cdef Py_ssize_t nin, nout
    cdef char **places                    # of arguments and `out` of the last call whose memory was compared
    cdef nnm_frames spare                 # frames that no run uses
    cdef _Face face                        # what C sees
    cdef list blocks                      # for each output: where the memory of large ones is kept, or None
    cdef readonly object constants, objects
    cdef readonly object in_def, out_def
    cdef readonly bint donates
    cdef Py_ssize_t nargs                 # of a signature of leaves alone; -1: a tree
    cdef bint one                         # the result is a single leaf
    cdef nnm_past past
    cdef double *times                    # of the instructions of a timed run

    def __cinit__(self, list instructions, Py_ssize_t nslots, Py_ssize_t arena, dict constants, tuple inputs,
                  tuple outputs, int threads, object in_def=None, object out_def=None, double seconds=0.0,
                  Py_ssize_t nargs=-1):
        cdef Py_ssize_t n = len(instructions), i, k, total = 0
        cdef char *at
        cdef nnm_instr *ins
        cdef cnp.ndarray a
        for _, _, refs, ints, reals, _, _ in instructions:
            total += 16 * len(refs) + 8 * len(ints) + 8 * len(reals)
        self.nin, self.nout = len(inputs), len(outputs)
        self.c.instr = <nnm_instr *>malloc(n * sizeof(nnm_instr) + 1)
        self.store = malloc(total + 1)
        self.base = <char **>malloc(nslots * sizeof(char *) + 1)
        self.ins = <InputSpec *>malloc(self.nin * sizeof(InputSpec) + 1)
        self.outs = <OutputSpec *>malloc(self.nout * sizeof(OutputSpec) + 1)
        self.places = <char **>malloc((self.nin + self.nout + 1) * sizeof(char *))
        if not (self.places and self.c.instr and self.store and self.base and self.ins and self.outs):
            raise MemoryError
        memset(self.base, 0, nslots * sizeof(char *))
        memset(self.places, 0, (self.nin + self.nout + 1) * sizeof(char *))
        memset(&self.spare, 0, sizeof(nnm_frames))
        self.c.ninstr, self.c.nslots, self.c.arena, self.c.threads = n, nslots, arena, threads
        self.c.seconds, self.c.constants, self.c.frames = seconds, self.base, &self.spare
        self.past.alone, self.past.turns = 0.0, 0
        self.c.past, self.c.products = &self.past, 0
        self.objects, self.blocks, self.constants = [], [], constants
        for slot, x in constants.items():
            a = x
            self.base[<Py_ssize_t>slot] = <char *>cnp.PyArray_DATA(a)
        at = <char *>self.store
        for i in range(n):
            kind, flags, refs, ints, reals, obj, body = instructions[i]
            ins = &self.c.instr[i]
            name = kind.encode()
            self.c.products |= kind not in ("machine", "copy", "cond", "scan", "while_loop")
            ins.exec = host_exec if kind == "host" else nnm_kind(name)
            if ins.exec is NULL:
                raise ValueError(f"Plan: there is no kind of instruction named {kind!r}")
            self.objects.append((obj, name))
            ins.kind, ins.object, ins.flags, ins.body = name, <void *>obj, flags, body
            ins.nrefs, ins.nints, ins.nreals = len(refs), len(ints), len(reals)
            at = put(at, np.asarray(refs, np.int64).reshape(-1), <const void **>&ins.refs)
            at = put(at, np.asarray(ints, np.int64), <const void **>&ins.ints)
            at = put(at, np.asarray(reals, np.float64), <const void **>&ins.reals)
        for i in range(self.nin):
            slot, shape, number, weak = inputs[i]
            self.ins[i].slot, self.ins[i].number, self.ins[i].weak = slot, number, weak
            self.ins[i].rank = len(shape)
            for k in range(len(shape)):
                self.ins[i].dims[k] = shape[k]
        self.donates = False
        for i in range(self.nout):
            slot, shape, number, donor = outputs[i]
            self.outs[i].slot, self.outs[i].number, self.outs[i].donor = slot, number, donor
            self.outs[i].rank = len(shape)
            self.donates = self.donates or donor >= 0
            self.outs[i].nbytes = np.dtype(cnp.PyArray_DescrFromType(number)).itemsize
            for k in range(len(shape)):
                self.outs[i].dims[k] = shape[k]
                self.outs[i].nbytes *= shape[k]
            self.blocks.append(_Blocks(self.outs[i].nbytes) if self.outs[i].nbytes >= POOLED and donor < 0 else None)
        self.in_def, self.out_def, self.nargs = in_def, out_def, nargs
        self.one = out_def is None or out_def.is_leaf
        self.face = _Face.__new__(_Face)
        self.face.fill(&self.c, inputs, outputs)

    def __dealloc__(self):
        if self.c.frames is not NULL:
            nnm_frames_clear(&self.c)
        free(self.c.instr)
        free(self.places)
        free(self.store)
        free(self.base)
        free(self.ins)
        free(self.outs)

    @property
    def arena(self):
        """Bytes of the arena of one run."""
        return self.c.arena

    @property
    def seconds(self):
        """That one thread takes, about."""
        return self.c.seconds

    @property
    def workspace(self):
        """Bytes that one run works in, and what else it writes beside results."""
        return self.face.c.face.workspace_size

    def capsule(self):
        """A PyCapsule for C, which keeps this alive."""
        return new_capsule(self, &self.face.c)

    cdef int take(self, nnm_frame *frame, Py_ssize_t i, object x, list leaves) except -1:
        """Put leaf i of these in its place, a copy if need be; 0: it is not what the plan was made for."""
        cdef InputSpec *s = &self.ins[i]
        cdef int k
        cdef cnp.ndarray a
        cdef char *place
        if cnp.PyArray_CheckExact(x):
            a = x
            if s.weak or cnp.PyArray_TYPE(a) != s.number or cnp.PyArray_NDIM(a) != s.rank:
                return 0
            for k in range(s.rank):
                if cnp.PyArray_DIM(a, k) != s.dims[k]:
                    return 0
            if not contiguous(a):
                a = np.array(a, cnp.PyArray_DescrFromType(s.number), order="C", copy=True)
                leaves[i] = a                    # held as long as the run is on
            frame.base[s.slot] = <char *>cnp.PyArray_DATA(a)
            return 1
        if s.rank != 0:
            return 0
        place = nnm_frame_number(frame, s.slot)
        if s.weak:
            if type(x) is float and s.number == cnp.NPY_DOUBLE:
                (<double *>place)[0] = x
            elif type(x) is int and s.number == cnp.NPY_LONG:
                (<long *>place)[0] = x
            elif type(x) is complex and s.number == cnp.NPY_CDOUBLE:
                (<double complex *>place)[0] = x
            else:
                return 0
        elif cnp.PyArray_CheckScalar(x) and type(x) is not float and (<object>x).dtype.num == s.number:
            cnp.PyArray_ScalarAsCtype(x, place)
        elif type(x) is bool and s.number == cnp.NPY_BOOL:
            place[0] = x
        else:
            return 0
        frame.base[s.slot] = place
        return 1

    cdef object result(self, nnm_frame *frame, Py_ssize_t i):
        """A fresh array for an output, in its place."""
        cdef OutputSpec *s = &self.outs[i]
        cdef _Blocks home = self.blocks[i]
        cdef _Block block
        cdef cnp.ndarray a
        if home is None:
            a = cnp.PyArray_EMPTY(s.rank, s.dims, s.number, 0)
        else:
            block = home.take()
            a = cnp.PyArray_SimpleNewFromData(s.rank, s.dims, s.number, block.data)
            cnp.set_array_base(a, block)
        frame.base[s.slot] = <char *>cnp.PyArray_DATA(a)
        return a

    cdef void forget(self) noexcept:
        """Compare memory anew in the next call: no array lies where it says now."""
        self.places[0] = <char *>self.places

    cdef bint may_take(self, list leaves) except -1:
        """Whether donated arrays may be written, and share no memory with another argument.

        Otherwise the Python side says what is wrong. Memory is compared anew when an argument lies elsewhere than in
        the call before.
        """
        cdef Py_ssize_t i, k
        cdef bint known = True
        cdef cnp.ndarray a, b
        cdef char *start
        for i in range(self.nin):
            x = leaves[i]
            start = NULL
            if cnp.PyArray_CheckExact(x):
                start = <char *>cnp.PyArray_DATA(<cnp.ndarray>x)
            if self.places[i] != start:
                known = False
                self.places[i] = start
        for k in range(self.nout):
            if self.outs[k].donor < 0:
                continue
            x = leaves[self.outs[k].donor]
            if not cnp.PyArray_CheckExact(x) or not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>x) or not contiguous(x):
                self.forget()
                return False
        if known:
            return True
        for k in range(self.nout):
            if self.outs[k].donor < 0:
                continue
            a = leaves[self.outs[k].donor]
            start = <char *>cnp.PyArray_DATA(a)
            for i in range(self.nin):
                if i == self.outs[k].donor or not cnp.PyArray_CheckExact(leaves[i]):
                    continue
                b = leaves[i]
                if (not contiguous(b)
                        or (<char *>cnp.PyArray_DATA(b) < start + cnp.PyArray_NBYTES(a)
                            and start < <char *>cnp.PyArray_DATA(b) + cnp.PyArray_NBYTES(b))):
                    self.forget()
                    return False
        return True

    cdef bint may_receive(self, list leaves, list given) except -1:
        """Whether these arrays may receive the results: they are as these are, can be written, and share no memory.

        Otherwise the Python side says what is wrong, or copies. Memory is compared anew as in `may_take`; an argument
        that is not contiguous is copied before a run.
        """
        cdef Py_ssize_t i, k, n = self.nin + self.nout
        cdef OutputSpec *s
        cdef cnp.ndarray a
        cdef char *start
        cdef bint known = True
        for k in range(self.nout):
            s = &self.outs[k]
            if not cnp.PyArray_CheckExact(given[k]):
                return False
            a = given[k]
            if (not contiguous(a) or not cnp.PyArray_ISWRITEABLE(a) or cnp.PyArray_TYPE(a) != s.number
                    or cnp.PyArray_NDIM(a) != s.rank):
                return False
            for i in range(s.rank):
                if cnp.PyArray_DIM(a, i) != s.dims[i]:
                    return False
        for i in range(n):
            start = place_of(leaves[i] if i < self.nin else given[i - self.nin])
            if self.places[i] != start:
                known = False
                self.places[i] = start
        if known:
            return True
        for k in range(self.nout):
            start = place_of(given[k])
            for i in range(self.nin + k):
                x = leaves[i] if i < self.nin else given[i - self.nin]
                if (place_of(x) is not NULL and place_of(x) < start + self.outs[k].nbytes
                        and start < place_of(x) + cnp.PyArray_NBYTES(<cnp.ndarray>x)):
                    self.forget()
                    return False
        return True

    cdef object run(self, list leaves, list given, int split):
        """The results for these leaves; None when they are not what the plan was made for.

        ``given`` arrays, which have been checked, receive results. ``split``: 0, TIMED, or the shares of so many
        threads, as `run_split` says.
        """
        cdef nnm_frame *frame = nnm_frame_take(&self.c)
        if frame is NULL:
            raise MemoryLimitError(f"compile: there is no memory for the {self.c.arena} bytes that the plan works in. "
                                   "Smaller batches need less, and so does nm.checkpoint.")
        try:
            return self.run_in(frame, leaves, given, split)
        finally:
            nnm_frame_give(frame)

    cdef object run_in(self, nnm_frame *frame, list leaves, list given, int split):
        cdef Py_ssize_t i
        cdef list results = []
        for i in range(self.nin):
            if not self.take(frame, i, leaves[i], leaves):
                return None
        for i in range(self.nout):
            if self.outs[i].donor >= 0:
                y = leaves[self.outs[i].donor]
                frame.base[self.outs[i].slot] = <char *>cnp.PyArray_DATA(<cnp.ndarray>y)
            elif given is not None:
                y = given[i]
                frame.base[self.outs[i].slot] = <char *>cnp.PyArray_DATA(<cnp.ndarray>y)
            else:
                y = self.result(frame, i)
            results.append(y)
        self.walk(frame, split)
        if given is None:
            for i in range(self.nout):
                if self.outs[i].rank == 0 and self.outs[i].donor < 0:
                    results[i] = results[i].item() if self.outs[i].donor == -2 else results[i][()]
        return results

    cdef int walk(self, nnm_frame *frame, int split) except -1:
        frame.failed, frame.error, frame.outside, frame.refused = 0, NULL, 0, 0
        with nogil:
            if split == TIMED:
                nnm_walk_timed(frame, self.times)
            elif split:
                nnm_walk_split(frame, split)
            else:
                nnm_frame_run(frame)
        if frame.failed or frame.outside:
            raise_failure(frame)
        return 0

    def run_split(self, list leaves, int nt):
        """The outputs, with the shares of ``nt`` threads run one after the other, as far apart as their meetings allow.

        With ``nt`` negative the last thread comes first. A test of the instructions and of where threads meet.
        """
        if not 1 <= abs(nt) <= self.c.threads:
            raise ValueError(f"run_split: the plan has scratch for 1 to {self.c.threads} threads, got {nt}")
        return self.run(leaves, None, nt)

    def run_timed(self, list leaves, list given=None):
        """Seconds that each instruction of a run on one thread takes; not for several threads at once."""
        cdef cnp.ndarray seconds = np.zeros(self.c.ninstr)
        self.times = <double *>cnp.PyArray_DATA(seconds)
        if self.run(leaves, given, TIMED) is None:
            return None
        return seconds


cdef int raise_failure(nnm_frame *frame) except -1:
    error = None
    if frame.error is not NULL:
        error = <object>frame.error
        Py_DECREF(error)
        frame.error = NULL
    if frame.outside:                     # what was raised later, was raised because of it
        raise IndexError(f"index {frame.index} is out of bounds for an axis of size {frame.length}")
    if frame.refused:
        k = frame.refused - 1
        kind, message = (<object>frame.program.instr[k // REASONS].object)[k % REASONS]
        raise kind(message)
    raise error


cdef inline bint contiguous(cnp.ndarray a):
    return (cnp.PyArray_FLAGS(a) & cnp.NPY_ARRAY_CARRAY_RO) == cnp.NPY_ARRAY_CARRAY_RO and cnp.PyArray_ISNOTSWAPPED(a)


cdef inline char *place_of(object x):
    """Where an array begins; NULL for what is no array or not contiguous."""
    if cnp.PyArray_CheckExact(x) and contiguous(x):
        return <char *>cnp.PyArray_DATA(<cnp.ndarray>x)
    return NULL


cdef char *put(char *at, object values, const void **place):
    """Copy 8-byte values into the store."""
    cdef cnp.ndarray a = values
    cdef size_t nbytes = 8 * cnp.PyArray_SIZE(a)
    memcpy(at, cnp.PyArray_DATA(a), nbytes)
    place[0] = at
    return at + nbytes


cdef class Door:
    """What a compiled function is called through: the plan of the last call, if it fits, else the one that is found."""
    cdef Executable last

    cdef object attempt(self, Executable plan, tuple args, object out):
        """The result by a plan, in ``out`` unless that is None; NotImplemented when the arguments are others."""
        cdef list leaves, results, given = None
        cdef Py_ssize_t n = len(args)
        if plan.nargs >= 0:
            if n != plan.nargs:
                return NotImplemented
            leaves = list(args)
        else:
            leaves = flatten_like((args, {}), plan.in_def)
            if leaves is None:
                return NotImplemented
        if out is not None:
            given = [out] if plan.one else flatten_like(out, plan.out_def)
            if plan.donates or given is None or len(leaves) != plan.nin or not plan.may_receive(leaves, given):
                return NotImplemented
        elif plan.donates and not plan.may_take(leaves):
            return NotImplemented
        results = plan.run(leaves, given, 0)
        if results is None:
            plan.forget()
            return NotImplemented
        return results[0] if plan.one else unflatten(plan.out_def, results)

    def __call__(self, *args, **kwargs):
        cdef object out = None
        if self.last is not None:
            if kwargs and len(kwargs) == 1:
                out = kwargs.get("out")
            if not kwargs or out is not None:
                y = self.attempt(self.last, args, out)
                if y is not NotImplemented:
                    return y
        return self.called(args, kwargs)

    def settle(self, Executable plan):
        """Try this plan first from now on."""
        self.last = plan

    def called(self, args, kwargs):
        """Find or make the plan and run it; the Python side's."""
        raise NotImplementedError


def execute(Executable plan, list leaves, list given=None):
    """The results of a plan for these leaves, as a list; None when they are not what it was made for."""
    return plan.run(leaves, given, 0)
