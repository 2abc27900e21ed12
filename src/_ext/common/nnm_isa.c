#include "nnm_isa.h"

#include <stdlib.h>
#include <string.h>

#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
/* Feature by feature: compilers before gcc 12 do not know the names of the levels here. */
int nnm_isa_runs_here(int level)
{
    __builtin_cpu_init();
    const int v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi")
                   && __builtin_cpu_supports("bmi2");
    if (level == NNM_ISA_V3)
        return v3;
    if (level == NNM_ISA_V4)
        return v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
               && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
               && __builtin_cpu_supports("avx512vl");
    return level == NNM_ISA_BASELINE;
}
#else
int nnm_isa_runs_here(int level) { return level == NNM_ISA_BASELINE; }
#endif

static int built(int level)
{
#ifdef NNM_HAVE_V3
    if (level == NNM_ISA_V3)
        return 1;
#endif
#ifdef NNM_HAVE_V4
    if (level == NNM_ISA_V4)
        return 1;
#endif
    return level == NNM_ISA_BASELINE;
}

static const char *problem(int *level)
{
    const char *want = getenv("NNMATH_ISA");
    if (want == NULL || *want == '\0') {
        *level = NNM_ISA_V4;
        while (*level > NNM_ISA_BASELINE && !(built(*level) && nnm_isa_runs_here(*level)))
            --*level;
        return NULL;
    }
    *level = !strcmp(want, "baseline") ? NNM_ISA_BASELINE
             : !strcmp(want, "v3")     ? NNM_ISA_V3
             : !strcmp(want, "v4")     ? NNM_ISA_V4
                                       : NNM_ISA_NONE;
    if (*level == NNM_ISA_NONE)
        return "is not one of baseline, v3, v4";
    if (!built(*level))
        return "was not compiled into this installation";
    if (!nnm_isa_runs_here(*level))
        return "needs instructions that this processor does not have";
    return NULL;
}

const char *nnm_isa_problem(void)
{
    int level;
    return problem(&level);
}

int nnm_isa_selected(void)
{
    int level;
    return problem(&level) == NULL ? level : NNM_ISA_NONE;
}
