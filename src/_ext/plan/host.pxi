# ------------------------------------------------------------------------------------------------ calls into Python
cdef void host_exec(const nnm_instr *ins, nnm_frame *frame, int t, int nt) noexcept nogil:
    """Run a primitive by its definition: object is (function, operands, params, outputs), see `lower.host`.

    refs: the operands that are in memory, then the outputs. ints: for each ref its type number, rank, lengths, strides.
    """
    if frame.failed:
        return
    with gil:
        try:
            call_host(ins, frame)
        except BaseException as e:
            Py_INCREF(e)
            frame.error = <void *>e
            frame.failed = 1


cdef void check_signals(nnm_frame *frame) noexcept nogil:
    """Let Ctrl-C end a run: in a thread that gets no signals this does nothing."""
    with gil:
        try:
            PyErr_CheckSignals()
        except BaseException as e:
            Py_INCREF(e)
            frame.error = <void *>e
            frame.failed = 1


cdef object array_at(const nnm_frame *frame, nnm_ref ref, const int64_t **spec, bint writeable):
    """A NumPy array over memory of the frame; moves on to the next spec."""
    cdef const int64_t *s = spec[0]
    cdef int rank = <int>s[1]
    cdef cnp.npy_intp dims[64]
    cdef cnp.npy_intp strides[64]
    cdef int i
    for i in range(rank):
        dims[i], strides[i] = s[2 + i], s[2 + rank + i]
    spec[0] = s + 2 + 2 * rank
    return cnp.PyArray_New(cnp.ndarray, rank, dims, <int>s[0], strides, nnm_at(frame, ref), 0,
                           cnp.NPY_ARRAY_WRITEABLE if writeable else 0, None)


cdef int call_host(const nnm_instr *ins, nnm_frame *frame) except -1:
    cdef const int64_t *spec = ins.ints
    cdef int k = 0
    function, operands, params, count = <object>ins.object
    args = []
    for how, x in operands:
        if how != "given":                       # "array" or "number": in memory
            x = array_at(frame, ins.refs[k], &spec, False)
            k += 1
            x = x.item() if how == "number" else x[()]
        args.append(x)
    y = function(*args, **params)
    ys = (y,) if count == 0 else tuple(y)
    for y in ys:
        out = array_at(frame, ins.refs[k], &spec, True)
        k += 1
        y = np.asarray(y)
        if y.shape != out.shape or y.dtype != out.dtype:
            raise ShapeError(f"compile: an operation gave {y.dtype}{list(y.shape)} where its shape rule says "
                             f"{out.dtype}{list(out.shape)}.")
        out[...] = y
    return 0
