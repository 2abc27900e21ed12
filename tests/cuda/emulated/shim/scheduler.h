// What a compiled kernel and the scheduler know of each other. Both include this file.
//
// The scheduler is one shared object (scheduler.cpp), loaded once for the process; every CUDA source
// becomes a small one of its own, whose undefined names below are resolved against it. So the text
// that g++ reads with each kernel stays short, which is what the seconds of a cold run go into.
#pragma once
#include <cstddef>
#include <cstdint>

#define NNM_SHARED __attribute__((visibility("default")))

struct uint3 { unsigned x, y, z; };

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
    constexpr operator uint3() const { return {x, y, z}; }
};

// How a grid is run. Mirrored in device.pyx and in modules.py.
struct nnm_launch {
    unsigned grid[3], block[3];
    size_t shared;           // bytes of dynamic shared memory
    unsigned order;          // of threads and blocks: 0 forward, 1 backward, 2 shuffled by `seed`
    unsigned poison;         // the byte that fills shared memory before each block
    uint64_t seed;
};

extern "C" {
extern NNM_SHARED uint3 nnm_thread, nnm_block;     // threadIdx, blockIdx of the running thread
extern NNM_SHARED dim3 nnm_block_dim, nnm_grid_dim;
extern NNM_SHARED char *nnm_dynamic;               // extern __shared__ T name[] is here

// Run every thread of a grid; begin..end is the module's static shared memory. 0, or 1 after an error.
NNM_SHARED int nnm_run(const nnm_launch *, void (*body)(void *), void *argument, char *begin, char *end);
// Stop the grid with a sentence, which nnm_error returns.
NNM_SHARED void nnm_fail(const char *sentence);
NNM_SHARED const char *nnm_error(void);
// Address of an access that the memory map refused in the last grid, else null.
NNM_SHARED void *nnm_fault(void);
// Set by the device: whether a kernel may follow a pointer argument, and what to do when the memory
// map refuses an access (1: it has been opened, try again).
extern NNM_SHARED int (*nnm_may_read)(const void *);
extern NNM_SHARED int (*nnm_open_at)(const void *);

NNM_SHARED void nnm_barrier(int line);
// A warp collective: put `size` bytes down, wait for the lanes of the mask, read those of lane `from`.
NNM_SHARED void nnm_exchange(unsigned mask, const void *in, void *out, unsigned size, int from, int line);
NNM_SHARED unsigned nnm_ballot(unsigned mask, int predicate, int line);
NNM_SHARED void nnm_warp_barrier(unsigned mask, int line);
NNM_SHARED int nnm_lane(void);
}
