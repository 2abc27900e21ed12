// Index arrays on the device: their range, looked at where they are. The host has no twin: it reads its own arrays.

// Remember the first index that is found outside of [-size, size).
//
// found: four words, 0 while all are inside; else 1, the index, the axis and its length. One thread wins the first word
// and alone writes the others, so that they belong together.
// index: (n,).
template <typename real_t>
__global__ void require_range(long long n, const long long *__restrict__ index, long long size, long long axis,
                              unsigned long long *found)
{
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        const long long at = index[i];
        if ((at < -size || at >= size) && atomicCAS(&found[0], 0ULL, 1ULL) == 0ULL) {
            found[1] = (unsigned long long)at;
            found[2] = (unsigned long long)axis;
            found[3] = (unsigned long long)size;
        }
    }
}
