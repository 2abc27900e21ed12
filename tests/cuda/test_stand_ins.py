"""The stand-ins for cuBLAS, cuSOLVER and cuFFT, through CuPy, against NumPy: every type, batches."""

import numpy as np
import pytest
from emulated import libraries

TYPES = [np.float32, np.float64, np.complex64, np.complex128]


@pytest.fixture(autouse=True)
def _emulated(device):
    """All of this file is about the emulated device."""


def random(dtype, *shape):
    rng = np.random.default_rng(sum(shape))
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def close(got, want, dtype, scale=1.0):
    want = np.asarray(want)
    assert got.dtype == want.dtype
    # a few hundred roundings: matrices of order 5 with condition numbers below 100
    bound = 512 * np.finfo(dtype).eps * max(scale, float(np.abs(want).max(initial=1)))
    np.testing.assert_allclose(got.get(), want, rtol=0, atol=bound)


def definite(dtype, *shape):
    x = random(dtype, *shape)
    return x @ x.swapaxes(-1, -2).conj() + shape[-1] * np.eye(shape[-1], dtype=dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_products(cp, dtype):
    for a, b in [
        (random(dtype, 4, 3), random(dtype, 3, 5)),
        (random(dtype, 3, 4).T, random(dtype, 5, 3).T),
        (random(dtype, 2, 4, 3), random(dtype, 2, 3, 5)),
        (random(dtype, 4, 3), random(dtype, 3)),
        (random(dtype, 3), random(dtype, 3)),
    ]:
        close(cp.matmul(cp.asarray(a), cp.asarray(b)), np.matmul(a, b), dtype)
    a, b = random(dtype, 6), random(dtype, 6) + 1
    close(cp.vdot(cp.asarray(a), cp.asarray(b)), np.vdot(a, b), dtype)
    close(cp.outer(cp.asarray(a), cp.asarray(b)), np.outer(a, b), dtype)
    c, d = random(dtype, 3, 4, 2), random(dtype, 4, 2, 5)
    close(cp.tensordot(cp.asarray(c), cp.asarray(d)), np.tensordot(c, d), dtype)


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("dtype", TYPES)
def test_systems_and_determinants(cp, dtype, batch):
    a, b = definite(dtype, *batch, 5, 5) + random(dtype, 5, 5), random(dtype, *batch, 5, 2)
    far = cp.asarray(a)
    close(cp.linalg.solve(far, cp.asarray(b)), np.linalg.solve(a, b), dtype)
    close(cp.linalg.inv(far), np.linalg.inv(a), dtype)
    close(cp.linalg.det(far), np.linalg.det(a), dtype)
    for got, want in zip(cp.linalg.slogdet(far), np.linalg.slogdet(a), strict=True):
        close(got, want, dtype)
    close(cp.linalg.cholesky(cp.asarray(definite(dtype, *batch, 5, 5))),
          np.linalg.cholesky(definite(dtype, *batch, 5, 5)), dtype)  # fmt: skip
    if not batch:
        close(cp.linalg.lstsq(far[:, :3], cp.asarray(b), rcond=None)[0],
              np.linalg.lstsq(a[:, :3], b, rcond=None)[0], dtype)  # fmt: skip
    close(cp.linalg.pinv(far[..., :3]), np.linalg.pinv(a[..., :3]), dtype)


@pytest.mark.parametrize("shape", [(5, 5), (5, 3), (3, 5), (2, 4, 3), (2, 3, 4)])
@pytest.mark.parametrize("dtype", TYPES)
def test_factors_multiply_to_the_matrix(cp, dtype, shape):
    a = random(dtype, *shape)
    far = cp.asarray(a)
    for mode in ("reduced", "complete"):
        q, r = cp.linalg.qr(far, mode)
        close(q @ r, a, dtype)
        close(q.swapaxes(-1, -2).conj() @ q, np.broadcast_to(
            np.eye(q.shape[-1], dtype=dtype), (*shape[:-2], q.shape[-1], q.shape[-1])), dtype)  # fmt: skip
    for full in (False, True):
        u, s, vh = cp.linalg.svd(far, full_matrices=full)
        k = s.shape[-1]
        close((u[..., :k] * s[..., None, :]) @ vh[..., :k, :], a, dtype)
        close(s, np.linalg.svd(a, compute_uv=False), dtype)
    close(cp.linalg.svd(far, compute_uv=False), np.linalg.svd(a, compute_uv=False), dtype)


@pytest.mark.parametrize("uplo", ["L", "U"])
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("dtype", TYPES)
def test_eigenvectors(cp, dtype, batch, uplo):
    a = definite(dtype, *batch, 5, 5)
    wanted = np.tril(a) if uplo == "L" else np.triu(a)  # the other triangle is not read
    w, v = cp.linalg.eigh(cp.asarray(wanted), UPLO=uplo)
    close(w, np.linalg.eigvalsh(a), dtype)
    close(cp.asarray(a) @ v, (v * w[..., None, :]).get(), dtype)
    close(cp.linalg.eigvalsh(cp.asarray(wanted), UPLO=uplo), np.linalg.eigvalsh(a), dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_eigenvectors_of_general_matrices(cp, dtype):
    a = random(dtype, 5, 5)
    w, v = cp.linalg.eig(cp.asarray(a))
    wide = a.astype(w.dtype)
    close(cp.asarray(wide) @ v, (v * w).get(), dtype)


FFTS = [
    ("fft", {}), ("fft", {"n": 4}), ("fft", {"n": 9, "norm": "ortho"}), ("ifft", {"axis": 0}),
    ("rfft", {"axis": 1}), ("rfft", {"n": 8}), ("irfft", {}), ("irfft", {"n": 7}), ("hfft", {}),
    ("ihfft", {}), ("fft2", {}), ("ifft2", {"norm": "forward"}), ("fftn", {}), ("ifftn", {"axes": (0, 2)}),
    ("rfft2", {}), ("irfft2", {}), ("rfftn", {"s": (3, 4), "axes": (0, 1)}), ("irfftn", {}),
]  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("name", "options"), FFTS)
def test_transforms(cp, name, options, dtype):
    if name in ("rfft", "rfft2", "rfftn", "ihfft") and np.dtype(dtype).kind == "c":
        return  # of real arrays
    x = random(dtype, 3, 4, 6)
    close(
        getattr(cp.fft, name)(cp.asarray(x), **options), getattr(np.fft, name)(x, **options), dtype
    )


def test_most_of_what_cupy_links_to_is_computed():
    """The rest says its name; the numbers are here so that a loss is seen."""
    least = {"cublas": 70, "cusolver": 120, "cufft": 14}
    for name, number in least.items():
        _, wanted = libraries.symbols(name)
        assert len(libraries.computed(name) & set(wanted)) >= number, name
