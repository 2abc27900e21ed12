"""Doors to the optimizer kernels. The arrays are distinct; hyperparameters are Python floats."""

from cython cimport floating

from _isa cimport require_isa

from nnmath_core.errors import ShapeError

cdef extern from "nnm_optim.h":
    ctypedef struct nnm_optim_kernels:
        const char *isa
        void (*adam_step_f32)(Py_ssize_t, float *, float *, float *, const float *,
                              float, float, float, float, float, float) noexcept nogil
        void (*adam_step_f64)(Py_ssize_t, double *, double *, double *, const double *,
                              double, double, double, double, double, double) noexcept nogil
        void (*adamw_step_f32)(Py_ssize_t, float *, float *, float *, const float *,
                               float, float, float, float, float, float, float) noexcept nogil
        void (*adamw_step_f64)(Py_ssize_t, double *, double *, double *, const double *,
                               double, double, double, double, double, double, double) noexcept nogil
    const nnm_optim_kernels *nnm_optim_table()

require_isa()
cdef const nnm_optim_kernels *K = nnm_optim_table()


def isa():
    """The instruction set of the kernels: 'baseline', 'v3' or 'v4'."""
    return K.isa.decode()


def adam_step(floating[::1] w, floating[::1] m, floating[::1] v, const floating[::1] g,
              double lr, double beta1, double beta2, double eps, double c1, double c2):
    """One step of Adam in place. w, m, v, g: (n,), one dtype, distinct; c_i = 1 - beta_i^t."""
    cdef Py_ssize_t n = w.shape[0]
    if m.shape[0] != n or v.shape[0] != n or g.shape[0] != n:
        raise ShapeError(f"adam_step: `m`, `v` and `g` must be of shape ({n},) as `w` is.")
    if n == 0:
        return
    with nogil:
        if floating is float:
            K.adam_step_f32(n, &w[0], &m[0], &v[0], &g[0], lr, 1 - beta1, 1 - beta2, eps, c1, c2)
        else:
            K.adam_step_f64(n, &w[0], &m[0], &v[0], &g[0], lr, 1 - beta1, 1 - beta2, eps, c1, c2)


def adamw_step(floating[::1] w, floating[::1] m, floating[::1] v, const floating[::1] g,
               double lr, double beta1, double beta2, double eps, double decay, double c1, double c2):
    """One step of AdamW in place, as `adam_step`; the decay of w is multiplied by lr."""
    cdef Py_ssize_t n = w.shape[0]
    if m.shape[0] != n or v.shape[0] != n or g.shape[0] != n:
        raise ShapeError(f"adamw_step: `m`, `v` and `g` must be of shape ({n},) as `w` is.")
    if n == 0:
        return
    with nogil:
        if floating is float:
            K.adamw_step_f32(n, &w[0], &m[0], &v[0], &g[0], lr, 1 - beta1, 1 - beta2, eps, decay, c1, c2)
        else:
            K.adamw_step_f64(n, &w[0], &m[0], &v[0], &g[0], lr, 1 - beta1, 1 - beta2, eps, decay, c1, c2)
