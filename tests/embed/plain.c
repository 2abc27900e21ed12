/* A library in plain C, with no header of Python, that ctypes calls. */
#include <time.h>

#include "nnmath_core.h"

#if defined(__cplusplus)
extern "C"
#endif
int run_until(const nnm_plan *plan, const void *const *inputs, void *const *outputs, volatile int64_t *state,
              double seconds);

/* Run again and again until state[0] is set; state[1] counts the runs. */
int run_until(const nnm_plan *plan, const void *const *inputs, void *const *outputs, volatile int64_t *state, double seconds)
{
    const time_t begin = time(NULL);
    int code = nnm_check(plan);
    while (!code) {
        code = nnm_run(plan, inputs, outputs, NULL);
        ++state[1];
        if (state[0] || difftime(time(NULL), begin) > seconds)
            break;
    }
    return code;
}
