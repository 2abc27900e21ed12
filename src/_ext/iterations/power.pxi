# Powers of a symmetric product.

def power(Product product, floating[:, ::1] v, int64_t[::1] done, Py_ssize_t stop, double tol, double[::1] facts):
    """Steps done[0] .. stop-1 of v <- A v / |A v|, of the unit vector v[0]; v[1] is work. True where it ended early.

    done[0] counts the steps that v[0] has had, also when the product fails or a signal comes. facts: v'Av, |A v| and
    |A v - (v'Av) v| (the last with tol > 0 alone) of the vector multiplied last. It ends early where that residual is
    at most tol |A v|, then without the step, and where |A v| is 0 or not finite.
    """
    cdef Py_ssize_t n = v.shape[1], i
    cdef blas_int length = as_blas_int(n, "power_iteration: the number of rows of `A`")
    cdef double since = pool.now(), theta, size, rest, d
    cdef floating *x
    cdef floating *y
    cdef floating *kept
    cdef int failed = 0
    cdef bint ended = False
    require_product(product, n, floating is float)
    if product.rows != n or v.shape[0] != 2 or facts.shape[0] != 3 or n == 0:
        raise ShapeError("power: the arrays must agree.")
    x, y = &v[0, 0], &v[1, 0]
    try:
        with nogil:
            while done[0] < stop and not ended:
                failed = multiply(&product.c, 1, x, y)
                if failed:
                    break
                size = wide_norm(length, y)
                theta = wide_dot(length, x, y)
                facts[0], facts[1], facts[2] = theta, size, 0
                ended = not isfinite(size) or size == 0
                if tol > 0 and not ended:
                    rest = 0
                    for i in range(n):
                        d = y[i] - theta * x[i]
                        rest += d * d
                    facts[2] = sqrt(rest)
                    ended = facts[2] <= tol * size
                if not ended:
                    scal(length, <floating>(1 / size), y, 1)
                    kept = x
                    x = y
                    y = kept
                    done[0] += 1
                if signals_due(&since):
                    with gil:
                        PyErr_CheckSignals()
    finally:
        if x != &v[0, 0]:                # an odd number of steps
            memcpy(&v[0, 0], x, n * sizeof(floating))
    if failed:
        product.fail()
    return ended
