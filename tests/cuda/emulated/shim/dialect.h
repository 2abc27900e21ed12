// CUDA C++ as g++ can read it: the first thing in every kernel, from a precompiled header.
//
// Only what CuPy's kernels and ours use; a name that is missing is a compile error that names it.
// Places of waiting carry their line number (a collective: a number of its own), by which the
// scheduler tells apart threads that wait at different places.
#pragma once
#include <algorithm>
#include <cassert>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <math.h>
#include <type_traits>
#include <utility>

#include "scheduler.h"

#define __CUDA_ARCH__ 800
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
// A section of their own, so that all shared arrays of a module can be poisoned before each block.
#define __shared__ static __attribute__((section("nnm_shared_memory"), aligned(16)))

#define threadIdx nnm_thread
#define blockIdx nnm_block
#define blockDim nnm_block_dim
#define gridDim nnm_grid_dim
constexpr int warpSize = 32;

#define NNM_VECTOR(T, name) \
    struct name##1 { T x; }; \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; }; \
    struct name##3 { T x, y, z; }; \
    struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) name##4 { T x, y, z, w; }; \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; } \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
NNM_VECTOR(float, float)
NNM_VECTOR(double, double)
NNM_VECTOR(int, int)
NNM_VECTOR(long long, longlong)
#undef NNM_VECTOR
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };

// ------------------------------------------------------------------------------- collectives
#define __syncthreads() nnm_barrier(__LINE__)
#define __syncwarp(...) nnm_warp_barrier(nnm_mask(__VA_ARGS__), __COUNTER__ + 1)
#define __shfl_sync(...) nnm_shuffle(__COUNTER__ + 1, nnm_at, __VA_ARGS__)
#define __shfl_xor_sync(...) nnm_shuffle(__COUNTER__ + 1, nnm_xor, __VA_ARGS__)
#define __shfl_down_sync(...) nnm_shuffle(__COUNTER__ + 1, nnm_down, __VA_ARGS__)
#define __shfl_up_sync(...) nnm_shuffle(__COUNTER__ + 1, nnm_up, __VA_ARGS__)
#define __ballot_sync(mask, p) nnm_ballot(mask, (p) != 0, __COUNTER__ + 1)
#define __any_sync(mask, p) (__ballot_sync(mask, p) != 0)
#define __all_sync(mask, p) (__ballot_sync(mask, p) == (mask))
#define __activemask() 0xffffffffu     // of converged warps; a diverged one is caught at its collective

inline unsigned nnm_mask(unsigned mask = 0xffffffffu) { return mask; }
enum nnm_way { nnm_at, nnm_xor, nnm_down, nnm_up };

// Lane that `lane` reads, in its segment of `width` lanes; its own where the way leads outside.
inline int nnm_source(nnm_way way, int lane, int by, int width)
{
    const int first = lane & ~(width - 1);
    const int to = way == nnm_at ? first | (by & (width - 1)) : way == nnm_xor ? lane ^ by
                 : way == nnm_down ? lane + by : lane - by;
    return to < first || to >= first + width ? lane : to;
}

template <class T> T nnm_shuffle(int line, nnm_way way, unsigned mask, T value, int by, int width = 32)
{
    static_assert(sizeof(T) <= 16, "a shuffle moves at most 16 bytes here");
    T got;
    nnm_exchange(mask, &value, (void *)&got, sizeof(T), nnm_source(way, nnm_lane(), by, width), line);
    return got;
}

// Threads run one at a time: every read-modify-write is atomic, and fences have nothing to do.
#define NNM_ATOMIC(name, expression) \
    template <class T> T name(T *p, std::common_type_t<T> v) { const T old = *p; *p = expression; return old; }
NNM_ATOMIC(atomicAdd, T(old + v))
NNM_ATOMIC(atomicSub, T(old - v))
NNM_ATOMIC(atomicMax, std::max(old, v))
NNM_ATOMIC(atomicMin, std::min(old, v))
NNM_ATOMIC(atomicExch, v)
NNM_ATOMIC(atomicAnd, T(old & v))
NNM_ATOMIC(atomicOr, T(old | v))
NNM_ATOMIC(atomicXor, T(old ^ v))
#undef NNM_ATOMIC
template <class T> T atomicCAS(T *p, std::common_type_t<T> compare, std::common_type_t<T> v)
{
    const T old = *p;
    if (old == compare) *p = v;
    return old;
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline long long clock64() { return 0; }

#include "intrinsics.h"

// NVRTC has none of the C library's constants: a kernel that uses one must fail here too, and CuPy's
// kernels define some themselves.
#undef M_E
#undef M_LOG2E
#undef M_LOG10E
#undef M_LN2
#undef M_LN10
#undef M_PI
#undef M_PI_2
#undef M_PI_4
#undef M_1_PI
#undef M_2_PI
#undef M_2_SQRTPI
#undef M_SQRT2
#undef M_SQRT1_2
#undef INFINITY
#undef NAN
#undef HUGE_VAL
