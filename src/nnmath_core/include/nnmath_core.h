/* nnmath_core.h - plans of nnmath-core, called from C and C++ without Python.
 *
 *     plan = nm.compile(f).plan(*args)     # in Python: f for these shapes and dtypes, as a program in C
 *     plan.capsule                         # a PyCapsule named NNM_CAPSULE, whose pointer is the nnm_plan below
 *
 *     int code = nnm_check(plan);          // once: was this header made for that library?
 *     code = nnm_run(plan, inputs, outputs, NULL);
 *     if (code) fputs(nnm_message(code), stderr);
 *
 * inputs[i] and outputs[k] point to C-contiguous arrays as plan->inputs[i] and plan->outputs[k] describe them, in the
 * order of `nm.tree_leaves` of the arguments and of the result. A number of Python among the arguments is an input of
 * rank 0: a double, an int64_t, or a complex of doubles. Outputs overlap neither inputs nor each other, apart from the
 * outputs that take the memory of an input (`takes`).
 *
 * A run may be started from any thread, with or without the GIL, in several threads at once. It changes nothing but the
 * outputs and the workspace. With a workspace (plan->workspace_size bytes, aligned to plan->workspace_alignment, used by
 * one run at a time) it allocates nothing and waits for nobody; with NULL it uses memory that the plan keeps, which is
 * allocated when more runs are on at once than ever before. Only a plan with host instructions (plan->host > 0) calls
 * Python; each of these takes the GIL.
 *
 * The plan lives as long as a reference to its capsule, or to the Plan, is held. See docs/embedding.md.
 */
#ifndef NNMATH_CORE_H
#define NNMATH_CORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The layout of what follows. Fields are only ever added at the end of nnm_plan, which struct_size tells; anything else
 * would change the version. */
#define NNM_ABI_VERSION 1
#define NNM_CAPSULE "nnmath_core.plan"

/* What a call returns. */
enum {
    NNM_OK = 0,
    NNM_NULL_POINTER,  /* the plan, an array of pointers, or the pointer to an array that is not empty */
    NNM_MISALIGNED,    /* an input or output is not aligned to its `alignment`, or the workspace to its own */
    NNM_NOT_THE_INPUT, /* an output that takes the memory of an input is at another address than that input */
    NNM_NO_MEMORY,     /* workspace was NULL and the system gave no memory */
    NNM_PYTHON_ERROR,  /* a host instruction raised; the exception was printed, as that of a destructor is */
    NNM_ABI_MISMATCH,  /* the header is of another version than the library, or newer */
    NNM_OTHER_DTYPE,   /* nnm_require: an array has another dtype than the plan was made for */
    NNM_OTHER_SHAPE,   /* nnm_require: an array has another shape than the plan was made for */
    NNM_OUTSIDE,       /* an index among the numbers is outside of the axis that it indexes */
    NNM_NO_VALUE       /* an operation has no value for the numbers: a singular matrix, an iteration without a limit */
};

/* Types of entries. */
enum {
    NNM_TYPE_OTHER = 0, /* long double and its complex: see itemsize */
    NNM_TYPE_BOOL,
    NNM_TYPE_INT8,
    NNM_TYPE_INT16,
    NNM_TYPE_INT32,
    NNM_TYPE_INT64,
    NNM_TYPE_UINT8,
    NNM_TYPE_UINT16,
    NNM_TYPE_UINT32,
    NNM_TYPE_UINT64,
    NNM_TYPE_FLOAT16,
    NNM_TYPE_FLOAT32,
    NNM_TYPE_FLOAT64,
    NNM_TYPE_COMPLEX64,
    NNM_TYPE_COMPLEX128
};

/* One input or output. */
typedef struct nnm_spec {
    int32_t dtype;        /* NNM_TYPE_... */
    int32_t rank;
    const int64_t *shape; /* rank lengths */
    int64_t itemsize;     /* bytes of an entry */
    int64_t nbytes;       /* of the whole array */
    int32_t alignment;    /* of its address, in bytes */
    int32_t takes;        /* of an output: the input whose memory it takes, which must be given as outputs[k]; else -1 */
} nnm_spec;

typedef struct nnm_plan nnm_plan;

struct nnm_plan {
    int32_t abi_version; /* NNM_ABI_VERSION of the library */
    int32_t struct_size; /* sizeof(nnm_plan) of the library */
    int32_t ninputs;
    int32_t noutputs;
    const nnm_spec *inputs;
    const nnm_spec *outputs;
    size_t workspace_size; /* bytes, at least 1 */
    size_t workspace_alignment;
    int (*run)(const nnm_plan *plan, const void *const *inputs, void *const *outputs, void *workspace);
    int32_t host; /* instructions that call Python */
    int32_t threads; /* the most that a run uses, see nm.threads */
};

/* NNM_OK when a program that was compiled with this header may use the plan. */
static inline int nnm_check(const nnm_plan *plan)
{
    if (!plan)
        return NNM_NULL_POINTER;
    if (plan->abi_version != NNM_ABI_VERSION || plan->struct_size < (int32_t)sizeof(nnm_plan))
        return NNM_ABI_MISMATCH;
    return NNM_OK;
}

/* Run a plan; see above. The outputs are whole when NNM_OK is returned, else undefined. */
static inline int nnm_run(const nnm_plan *plan, const void *const *inputs, void *const *outputs, void *workspace)
{
    return plan ? plan->run(plan, inputs, outputs, workspace) : NNM_NULL_POINTER;
}

/* NNM_OK when an array of this dtype and shape is what a spec describes. */
static inline int nnm_require(const nnm_spec *spec, int dtype, int rank, const int64_t *shape)
{
    if (spec->dtype != dtype)
        return NNM_OTHER_DTYPE;
    if (spec->rank != rank)
        return NNM_OTHER_SHAPE;
    for (int i = 0; i < rank; ++i)
        if (spec->shape[i] != shape[i])
            return NNM_OTHER_SHAPE;
    return NNM_OK;
}

/* What a code means, in a sentence. */
static inline const char *nnm_message(int code)
{
    switch (code) {
    case NNM_OK: return "no error";
    case NNM_NULL_POINTER: return "the plan, the inputs, the outputs, or one of their arrays is a null pointer";
    case NNM_MISALIGNED: return "an input, an output or the workspace is not aligned as the plan says";
    case NNM_NOT_THE_INPUT: return "an output takes the memory of an input, so both pointers must be the same";
    case NNM_NO_MEMORY: return "there is no memory for another run; pass a workspace";
    case NNM_PYTHON_ERROR: return "an operation that is done in Python raised an exception, which was printed";
    case NNM_ABI_MISMATCH: return "nnmath_core.h is of another version than the library; compile again with its own";
    case NNM_OTHER_DTYPE: return "an array has another dtype than the plan was made for";
    case NNM_OTHER_SHAPE: return "an array has another shape than the plan was made for";
    case NNM_OUTSIDE: return "an index is outside of the axis that it indexes";
    case NNM_NO_VALUE: return "an operation has no value for these numbers, as a singular matrix has no inverse";
    default: return "unknown code";
    }
}

#ifdef __cplusplus
}
#endif

#endif
