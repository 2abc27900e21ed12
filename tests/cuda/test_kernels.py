"""Kernels on the processor: thread orders, shared memory, collectives, and the faults that are seen."""

import numpy as np
import pytest

ORDERS = [(order, poison) for order in (0, 1, 2) for poison in (0xFF, 0x7F)]

# One block a row: maximum and sum by shared memory and shuffles.
SOFTMAX = r"""
extern "C" __global__ void softmax(const float *x, float *y, int n)
{
    __shared__ float part[32];
    extern __shared__ float row[];
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5;
    float top = -3.402823466e38f;
    for (int i = t; i < n; i += blockDim.x) {
        row[i] = x[blockIdx.x * n + i];
        top = fmaxf(top, row[i]);
    }
    for (int s = 16; s > 0; s /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, s));
    if (lane == 0) part[warp] = top;
    __syncthreads();    // maxima
    for (int w = 0; w < blockDim.x / 32; ++w) top = fmaxf(top, part[w]);
    __syncthreads();    // read
    float sum = 0;
    for (int i = t; i < n; i += blockDim.x) {
        row[i] = expf(row[i] - top);
        sum += row[i];
    }
    for (int s = 16; s > 0; s /= 2) sum += __shfl_down_sync(0xffffffff, sum, s);
    if (lane == 0) part[warp] = sum;
    __syncthreads();    // sums
    sum = 0;
    for (int w = 0; w < blockDim.x / 32; ++w) sum += part[w];
    for (int i = t; i < n; i += blockDim.x) y[blockIdx.x * n + i] = row[i] / sum;
}
"""


def softmax(cp, source, x):
    kernel = cp.RawKernel(source, "softmax")
    far, y = cp.asarray(x), cp.empty_like(cp.asarray(x))
    rows, n = x.shape
    kernel((rows,), (64,), (far, y, np.int32(n)), shared_mem=4 * n)
    return cp.asnumpy(y)


def expected(x):
    e = np.exp(x.astype(float) - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def rows(scale, shift):
    return (np.random.default_rng(0).standard_normal((3, 100)) * scale + shift).astype(np.float32)


DATA = [(1, 0), (400, 0), (4, -1000)]  # usual, far apart, all negative


@pytest.mark.parametrize(("scale", "shift"), DATA)
@pytest.mark.parametrize(("order", "poison"), ORDERS)
def test_a_kernel_with_shared_memory_and_shuffles(cp, device, order, poison, scale, shift):
    device.order.update(order=order, poison=poison, seed=1)
    x = rows(scale, shift)
    # the exponent's argument is rounded at the size of x: 100 terms of that relative error
    bound = 16 * np.finfo(np.float32).eps * max(1, np.abs(x).max())
    np.testing.assert_allclose(softmax(cp, SOFTMAX, x), expected(x), rtol=0, atol=bound)


def wrong_somewhere(cp, device, source):
    """Whether some order, poison and data show a fault of the kernel."""
    for order, poison in ORDERS:
        device.order.update(order=order, poison=poison, seed=1)
        for scale, shift in DATA:
            x = rows(scale, shift)
            try:
                # far above rounding: a planted fault must show as one, and not in the last digits
                if not np.allclose(softmax(cp, source, x), expected(x), rtol=1e-2, atol=1e-3):
                    return True
            except RuntimeError:
                return True
    return False


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("__syncthreads();    // maxima", ""),
        ("__syncthreads();    // read", ""),
        ("__syncthreads();    // sums", ""),
        ("if (lane == 0) part[warp] = top;", ""),
        ("for (int s = 16; s > 0; s /= 2) top", "for (int s = 8; s > 0; s /= 2) top"),
        ("float top = -3.402823466e38f;", "float top = 0;"),
        ("__shfl_down_sync(0xffffffff, sum, s)", "__shfl_down_sync(0x0fffffff, sum, s)"),
        ("i < n; i += blockDim.x) y", "i <= n; i += blockDim.x) y"),
    ],
)
def test_a_kernel_broken_on_purpose_is_found(cp, device, right, wrong):
    assert right in SOFTMAX
    assert wrong_somewhere(cp, device, SOFTMAX.replace(right, wrong))


def run(cp, body, threads=64, n=64):
    y = cp.zeros(n, np.float32)
    cp.RawKernel(f'extern "C" __global__ void f(float *y) {{ {body} }}', "f")(
        (1,), (threads,), (y,)
    )
    return cp.asnumpy(y)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("y[threadIdx.x + 1] = 0;", "0 bytes past the end of an array of 256 bytes on device 0"),
        ("if (threadIdx.x < 3) __syncthreads();\nelse __syncthreads();", "at different barriers"),
        ("if (threadIdx.x) __shfl_sync(0xffffffff, 1, 0);", "lane 0, which has exited"),
        ("__shfl_sync(1, 1, 0);", "whose mask does not name it"),
        ("y[0] = __shfl_sync(0xffffffff, 1, 0) + *(float *)8;", "a null pointer"),
        ("if (threadIdx.x < 32) __syncthreads(); else __shfl_sync(0xffffffffu >> (threadIdx.x & 1), 1, 0);",
         "which does not name it|does not name it|deadlock"),
    ],
)  # fmt: skip
def test_a_fault_of_a_kernel_is_an_error_that_names_it(cp, device, body, said):
    with pytest.raises(RuntimeError, match=said):
        run(cp, body)
    np.testing.assert_array_equal(run(cp, "y[threadIdx.x] = threadIdx.x;"), np.arange(64))


def test_collectives_give_what_cuda_gives(cp, device):
    lanes = np.arange(64)
    for body, want in {
        "y[threadIdx.x] = __shfl_up_sync(0xffffffff, (int)threadIdx.x, 3);": np.where(
            lanes % 32 < 3, lanes, lanes - 3
        ),
        "y[threadIdx.x] = __shfl_down_sync(0xffffffff, (double)threadIdx.x, 5, 16);": np.where(
            lanes % 16 > 10, lanes, lanes + 5
        ),
        "y[threadIdx.x] = __popc(__ballot_sync(0xffffffff, threadIdx.x % 3 == 0));": np.where(
            lanes < 32, 11, 11
        ),
        "y[threadIdx.x] = __all_sync(0xffffffff, threadIdx.x < 32);": lanes < 32,
        "y[threadIdx.x] = atomicAdd(y + threadIdx.x, 1.0f) + 2;": np.full(64, 2),
    }.items():
        np.testing.assert_array_equal(run(cp, body), want.astype(np.float32), body)


@pytest.mark.parametrize("poison", [0xFF, 0x7F])
def test_shared_arrays_of_templates_are_filled_before_each_block(cp, device, poison):
    source = """
    template <typename real_t> __global__ void f(unsigned *y, real_t x)
    {
        __shared__ real_t part[2][32];
        __shared__ unsigned word[1];
        if (threadIdx.x == 5) y[blockIdx.x] = word[0] & ((unsigned *)part)[3];
        __syncthreads();
        part[1][threadIdx.x & 31] = x;
        ((unsigned *)part)[3] = word[0] = 0;
    }
    """
    device.order.update(order=0, poison=poison)
    module = cp.RawModule(code=source, name_expressions=("f<float>", "f<double>"))
    for name, number in (("f<float>", np.float32(1)), ("f<double>", np.float64(1))):
        y = cp.zeros(3, np.uint32)
        for _ in range(2):
            module.get_function(name)((3,), (64,), (y, number))
            np.testing.assert_array_equal(cp.asnumpy(y), poison * 0x01010101)
