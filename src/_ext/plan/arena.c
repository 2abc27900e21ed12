#if defined(__linux__)
#define _GNU_SOURCE /* MAP_ANONYMOUS, madvise */
#endif
#include "plan/arena.h"

#include <stdint.h>
#include <stdlib.h>

enum { ALIGNMENT = 64 };
static const size_t HUGE_PAGE = (size_t)2 << 20;

#if defined(__linux__)
#include <sys/mman.h>

void *nnm_arena_new(size_t nbytes)
{
    if (nbytes < HUGE_PAGE)
        return aligned_alloc(ALIGNMENT, (nbytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    /* One page more, so that the arena begins where a huge page can. */
    const size_t whole = (nbytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    char *p = mmap(NULL, whole + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    char *start = (char *)(((uintptr_t)p + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
    if (start > p)
        munmap(p, (size_t)(start - p));
    const size_t behind = (size_t)(p + HUGE_PAGE - start);
    if (behind)
        munmap(start + whole, behind);
    madvise(start, whole, MADV_HUGEPAGE); /* a wish: without it the pages are small */
    return start;
}

void nnm_arena_free(void *p, size_t nbytes)
{
    if (nbytes < HUGE_PAGE)
        free(p);
    else
        munmap(p, (nbytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
}
#else
void *nnm_arena_new(size_t nbytes)
{
    return aligned_alloc(ALIGNMENT, (nbytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

void nnm_arena_free(void *p, size_t nbytes)
{
    (void)nbytes;
    free(p);
}
#endif
