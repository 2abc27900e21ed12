/* A C extension module that runs a plan: built with Python.h and nnmath_core.h alone. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <time.h>

#include "nnmath_core.h"

enum { MOST = 64 }; /* arrays of a plan */

static double now(void)
{
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The memory of the arrays of a list; the number of arrays that are held, -1: an exception is set. */
static int hold(PyObject *arrays, int n, const nnm_spec *specs, int flags, Py_buffer *held, void **at)
{
    if (PyList_Size(arrays) != n || n > MOST) {
        PyErr_SetString(PyExc_ValueError, "another number of arrays than the plan takes");
        return -1;
    }
    for (int i = 0; i < n; ++i) {
        if (PyObject_GetBuffer(PyList_GET_ITEM(arrays, i), &held[i], PyBUF_C_CONTIGUOUS | flags) < 0)
            return -1;
        at[i] = held[i].buf;
        if (held[i].len != specs[i].nbytes) {
            PyErr_Format(PyExc_ValueError, "array %d has %zd bytes, not %lld", i, held[i].len, (long long)specs[i].nbytes);
            return -1;
        }
    }
    return 0;
}

/* run_until(capsule, inputs, outputs, state, seconds): run again and again, without the GIL, until state[0] is set.
 * state: two int64; the second counts the runs. */
static PyObject *run_until(PyObject *module, PyObject *args)
{
    PyObject *capsule, *inputs, *outputs;
    Py_buffer state, held[2 * MOST];
    void *in[MOST], *out[MOST];
    double seconds;
    int code;
    (void)module;
    if (!PyArg_ParseTuple(args, "OO!O!w*d", &capsule, &PyList_Type, &inputs, &PyList_Type, &outputs, &state, &seconds))
        return NULL;
    const nnm_plan *plan = PyCapsule_GetPointer(capsule, NNM_CAPSULE);
    memset(held, 0, sizeof held);
    if (!plan)
        goto end;
    if ((code = nnm_check(plan))) {
        PyErr_SetString(PyExc_ImportError, nnm_message(code));
        goto end;
    }
    if (hold(inputs, plan->ninputs, plan->inputs, 0, held, in) < 0 ||
        hold(outputs, plan->noutputs, plan->outputs, PyBUF_WRITABLE, held + MOST, out) < 0)
        goto end;
    Py_BEGIN_ALLOW_THREADS
    volatile int64_t *const s = state.buf;
    const double end = now() + seconds;
    do {
        code = nnm_run(plan, (const void *const *)in, out, NULL);
        ++s[1];
    } while (!code && !s[0] && now() < end);
    Py_END_ALLOW_THREADS
    if (code)
        PyErr_SetString(PyExc_RuntimeError, nnm_message(code));
end:
    for (int i = 0; i < 2 * MOST; ++i)
        PyBuffer_Release(&held[i]);
    PyBuffer_Release(&state);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"run_until", run_until, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "embed_extension", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_embed_extension(void)
{
    return PyModuleDef_Init(&definition);
}
