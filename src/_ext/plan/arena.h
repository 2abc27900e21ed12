/* Memory of a run, aligned for vector loads; huge pages where the system gives them. */
#ifndef NNM_ARENA_H
#define NNM_ARENA_H

#include <stddef.h>

void *nnm_arena_new(size_t nbytes);
void nnm_arena_free(void *p, size_t nbytes);

#endif
