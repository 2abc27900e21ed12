/* Loaded before everything else (LD_PRELOAD), this counts the allocations of all threads of the process while it is told
 * to: those that the library of BLAS makes for itself, and all others. Needs glibc, whose own functions do the work.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nnmath_core.h"

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static atomic_int on;
static atomic_long ours, of_blas;

static void counted(void *caller)
{
    Dl_info found;
    const int blas = dladdr(caller, &found) && found.dli_fname && strstr(found.dli_fname, "blas");
    atomic_fetch_add(blas ? &of_blas : &ours, 1);
}

#define COUNT() (atomic_load_explicit(&on, memory_order_relaxed) ? counted(__builtin_return_address(0)) : (void)0)

void *malloc(size_t n) { COUNT(); return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { COUNT(); return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { COUNT(); return __libc_realloc(p, n); }
void *memalign(size_t a, size_t n) { COUNT(); return __libc_memalign(a, n); }
void *aligned_alloc(size_t a, size_t n) { COUNT(); return __libc_memalign(a, n); }

int posix_memalign(void **p, size_t a, size_t n)
{
    COUNT();
    *p = __libc_memalign(a, n);
    return *p ? 0 : ENOMEM;
}

void *mmap(void *at, size_t n, int prot, int flags, int file, off_t offset)
{
    COUNT();
    return (void *)syscall(SYS_mmap, at, n, prot, flags, file, offset);
}

void *mmap64(void *at, size_t n, int prot, int flags, int file, off_t offset)
{
    return mmap(at, n, prot, flags, file, offset);
}

void begin(void)
{
    atomic_store(&ours, 0);
    atomic_store(&of_blas, 0);
    atomic_store(&on, 1);
}

/* The allocations since then, without those of BLAS. */
long end(void)
{
    atomic_store(&on, 0);
    return atomic_load(&ours);
}

long end_of_blas(void)
{
    return atomic_load(&of_blas);
}

/* The allocations of `times` runs, without those of BLAS; -1: one failed. */
long allocations(const nnm_plan *plan, const void *const *inputs, void *const *outputs, void *workspace, int times)
{
    int code = 0;
    begin();
    for (int i = 0; i < times && !code; ++i)
        code = nnm_run(plan, inputs, outputs, workspace);
    const long n = end();
    return code ? -1 : n;
}
