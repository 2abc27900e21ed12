#include "plan/embed.h"

#include <math.h>

#include "plan/frame.h"

enum { ON_STACK = 8192 }; /* bytes: the workspace of a small plan that SciPy calls */

static void (*print)(void *error);
static void (*misfit)(const nnm_plan *plan, ptrdiff_t n, ptrdiff_t m);

void nnm_embed_errors(void (*f)(void *error), void (*g)(const nnm_plan *plan, ptrdiff_t n, ptrdiff_t m))
{
    print = f;
    misfit = g;
}

/* 0 when p is a place for what the spec describes. */
static inline int misplaced(const nnm_spec *s, const void *p)
{
    if (!p && s->nbytes)
        return NNM_NULL_POINTER;
    return (uintptr_t)p & (uintptr_t)(s->alignment - 1) ? NNM_MISALIGNED : NNM_OK;
}

static int run(const nnm_plan *plan, const void *const *inputs, void *const *outputs, void *workspace)
{
    const nnm_embedded *e = (const nnm_embedded *)plan;
    const int nin = plan->ninputs, nout = plan->noutputs;
    int code;
    if ((nin && !inputs) || (nout && !outputs))
        return NNM_NULL_POINTER;
    if ((uintptr_t)workspace & (NNM_FRAME_ALIGN - 1))
        return NNM_MISALIGNED;
    for (int i = 0; i < nin; ++i)
        if ((code = misplaced(&plan->inputs[i], inputs[i])))
            return code;
    for (int k = 0; k < nout; ++k) {
        if ((code = misplaced(&plan->outputs[k], outputs[k])))
            return code;
        if (plan->outputs[k].takes >= 0 && outputs[k] != inputs[plan->outputs[k].takes])
            return NNM_NOT_THE_INPUT;
    }
    nnm_frame *frame = workspace ? nnm_frame_place(e->program, workspace) : nnm_frame_take(e->program);
    if (!frame)
        return NNM_NO_MEMORY;
    for (int i = 0; i < nin; ++i)
        frame->base[e->slots[i]] = (char *)inputs[i]; /* read only, but for those that an output takes */
    for (int k = 0; k < nout; ++k)
        frame->base[e->slots[nin + k]] = outputs[k];
    code = NNM_OK;
    if (nnm_frame_run(frame)) {
        if (frame->error)
            print(frame->error);
        code = frame->outside ? NNM_OUTSIDE : frame->refused ? NNM_NO_VALUE : NNM_PYTHON_ERROR;
    }
    if (!workspace)
        nnm_frame_give(frame);
    return code;
}

void nnm_embed(nnm_embedded *e, const nnm_program *program)
{
    e->program = program;
    e->face.abi_version = NNM_ABI_VERSION;
    e->face.struct_size = (int32_t)sizeof(nnm_plan);
    e->face.workspace_size = nnm_frame_nbytes(program);
    e->face.workspace_alignment = NNM_FRAME_ALIGN;
    e->face.run = run;
    e->face.threads = program->threads;
}

/* --- SciPy --------------------------------------------------------------------------------------------------------- */

/* Small workspaces lie on the stack: two threads share nothing, and a call of a microsecond need not look for a frame. */
static int run_small(const nnm_plan *plan, const void *const *inputs, void *output)
{
    void *const outputs[1] = {output};
    if (plan->workspace_size > ON_STACK)
        return plan->run(plan, inputs, outputs, NULL);
    char room[ON_STACK + NNM_FRAME_ALIGN];
    const uintptr_t at = ((uintptr_t)room + NNM_FRAME_ALIGN - 1) & ~(uintptr_t)(NNM_FRAME_ALIGN - 1);
    return plan->run(plan, inputs, outputs, (void *)at);
}

double nnm_quad(double x, void *user_data)
{
    const void *const inputs[1] = {&x};
    double y;
    return run_small(user_data, inputs, &y) ? (double)NAN : y;
}

double nnm_quad_numbers(int n, double *x, void *user_data)
{
    const nnm_plan *plan = user_data;
    const void *inputs[NNM_QUAD_MOST];
    double y;
    if (n != plan->ninputs || n > NNM_QUAD_MOST)
        return misfit(plan, n, -1), (double)NAN;
    for (int i = 0; i < n; ++i)
        inputs[i] = x + i;
    return run_small(plan, inputs, &y) ? (double)NAN : y;
}

double nnm_quad_array(int n, double *x, void *user_data)
{
    const nnm_plan *plan = user_data;
    const void *const inputs[1] = {x};
    double y;
    if (n != plan->inputs[0].shape[0])
        return misfit(plan, n, -1), (double)NAN;
    return run_small(plan, inputs, &y) ? (double)NAN : y;
}

int nnm_filter(double *x, ptrdiff_t n, double *y, void *user_data)
{
    const nnm_plan *plan = user_data;
    const void *const inputs[1] = {x};
    if (n != plan->inputs[0].shape[0])
        return misfit(plan, n, -1), 0;
    return !run_small(plan, inputs, y);
}

int nnm_filter1d(double *x, ptrdiff_t n, double *y, ptrdiff_t m, void *user_data)
{
    const nnm_plan *plan = user_data;
    const void *const inputs[1] = {x};
    if (n != plan->inputs[0].shape[0] || m != plan->outputs[0].shape[0])
        return misfit(plan, n, m), 0;
    return !run_small(plan, inputs, y);
}

int nnm_mapping(ptrdiff_t *x, double *y, int n, int m, void *user_data)
{
    const nnm_plan *plan = user_data;
    double place[NNM_QUAD_MOST];
    const void *const inputs[1] = {place};
    if (n != plan->inputs[0].shape[0] || m != plan->outputs[0].shape[0] || n > NNM_QUAD_MOST)
        return misfit(plan, n, m), 0;
    for (int i = 0; i < n; ++i)
        place[i] = (double)x[i];
    return !run_small(plan, inputs, y);
}
