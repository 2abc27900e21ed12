"""Kernels on the processor: thread orders, shared memory, collectives, and the faults that are seen."""

import numpy as np
import pytest

from nnmath_core.device import backend_for

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


@pytest.mark.parametrize("n", [0, 1, 33, 4099])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["gradient_descent_step", "heavy_ball_step", "nesterov_step"])
def test_steps_of_momentum_are_their_meaning_in_every_order(device, name, dtype, n):
    be = backend_for("cuda:0")
    rng = np.random.default_rng(n)
    count = 2 if name == "gradient_descent_step" else 3
    start = [rng.standard_normal(n).astype(dtype) for _ in range(count)]
    step = {"lr": 1e-2} | ({"momentum": 0.9} if count == 3 else {})
    host = [x.copy() for x in start]
    getattr(backend_for("cpu"), name)(*host, **step)
    for order in (0, 1, 2):
        device.order.update(order=order, seed=n)
        far = [be.from_host(x) for x in start]
        getattr(be, name)(*far, **step)
        for a, b in zip(far, host, strict=True):
            tol = 16 * np.finfo(dtype).eps
            np.testing.assert_allclose(be.to_host(a), b, rtol=0, atol=tol)


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 1023, 4099])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_our_kernels_are_their_meaning_in_every_order(device, dtype, n):
    be = backend_for("cuda:0")
    rng = np.random.default_rng(n)
    start = [rng.standard_normal(n).astype(dtype) for _ in range(2)]
    start[2:] = [rng.random(n).astype(dtype), rng.standard_normal(n).astype(dtype)]
    step = {"lr": 1e-2, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "c1": 0.1, "c2": 0.001}
    host = [x.copy() for x in start]
    backend_for("cpu").adamw_step(*host, **step, decay=0.1)
    found = []
    for order in (0, 1, 2):
        device.order.update(order=order, seed=n)
        far = [be.from_host(x) for x in start]
        be.adamw_step(*far, **step, decay=0.1)
        found.append([be.to_host(x) for x in far])
    for got in found:
        for a, b, first in zip(got, host, found[0], strict=True):
            np.testing.assert_array_equal(a, first)
            np.testing.assert_allclose(
                a, b, rtol=64 * np.finfo(dtype).eps, atol=64 * np.finfo(dtype).eps
            )
