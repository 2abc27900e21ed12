"""Eigenvalues and singular values: derivatives of what does not see the basis, and what is said where it does.

The oracle of a function of the matrix is the same function written with products; of a function of
vectors alone, differences. Repeated values, phases and the value 0 are the subject.
"""

import numpy as np
import pytest

import nnmath_core as nm

EPS = float(np.finfo(np.float64).eps)
RNG = np.random.default_rng(20261126)
DTYPES = (np.float32, np.float64)


def close(got, want, dtype=np.float64, size=1.0):
    """Agreement to 64 n rounding errors of the largest entry: a factorisation and a few products."""
    top = max(1.0, float(np.abs(want).max())) * size
    bound = (
        64 * np.shape(want)[-1] * float(np.finfo(dtype).eps) * top
        if np.ndim(want)
        else 256 * EPS * top
    )
    np.testing.assert_allclose(got, want, rtol=0, atol=bound)


def orthogonal(n, kind=float):
    a = RNG.standard_normal((n, n))
    return np.linalg.qr(a + 1j * RNG.standard_normal((n, n)) if kind is complex else a)[0]


def hermitian(values, kind=float):
    q = orthogonal(len(values), kind)
    a = (q * values) @ q.conj().T
    return (a + a.conj().T) / 2


def rectangular(m, n, values, kind=float):
    k = len(values)
    return (orthogonal(m, kind)[:, :k] * np.array(values)) @ orthogonal(n, kind)[:, :k].conj().T


def symmetric(a):
    return (a + a.T) / 2


REPEATED = {
    "identity": np.eye(4),
    "diagonal": np.diag([1.0, 1.0, 2.0, 3.0]),
    "rotated": hermitian(np.array([2.0, 2.0, 2.0, 5.0])),
    "two pairs": hermitian(np.array([1.0, 1.0, 3.0, 3.0])),
    "distinct": hermitian(np.array([1.0, 2.0, 3.5, 5.0])),
}


# ------------------------------------------------------------------------- functions of eigenvalues
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("a", REPEATED.values(), ids=REPEATED)
def test_a_symmetric_function_of_eigenvalues_has_the_gradient_of_the_matrix(a, dtype):
    a = a.astype(dtype)
    for values in (
        np.linalg.eigvalsh,
        lambda a: np.linalg.eigh(a)[0],
        lambda a: np.linalg.eigvalsh(a, "U"),
    ):

        def logdet(a, values=values):
            return np.sum(np.log(values(symmetric(a))))

        want = np.linalg.inv(a.astype(float))
        close(nm.grad(logdet)(a), want, dtype)
        close(nm.jacfwd(logdet)(a), want, dtype)
        close(nm.vmap(nm.grad(logdet))(np.stack([a, 2 * a]))[1], want / 2, dtype)
        close(nm.stage(nm.grad(logdet), a)(a), want, dtype)


@pytest.mark.parametrize("a", REPEATED.values(), ids=REPEATED)
def test_its_hessian_is_exact_where_eigenvalues_are_repeated(a):
    def logdet(a):
        return np.sum(np.log(np.linalg.eigvalsh(symmetric(a))))

    inverse = np.linalg.inv(a)
    t = RNG.standard_normal((4, 4))
    close(nm.hvp(logdet, (a,), (t,)), -inverse @ symmetric(t) @ inverse)
    h = nm.hessian(logdet)(a)
    close(np.tensordot(h, t, 2), -inverse @ symmetric(t) @ inverse)
    # forward over forward
    second = nm.jvp(lambda a: nm.jvp(logdet, (a,), (t,))[1], (a,), (t,))[1]
    close(second, -np.sum(symmetric(t) * (inverse @ symmetric(t) @ inverse)), size=16)


def test_the_reverse_of_a_reverse_says_that_it_does_not_know():
    def logdet(a):
        return np.sum(np.log(np.linalg.eigvalsh(symmetric(a))))

    with pytest.raises(
        nm.GradientError, match="eigh: the function uses both a repeated eigenvalue"
    ):
        nm.jacrev(nm.grad(logdet))(np.eye(3))


def test_one_of_the_repeated_eigenvalues_shares_its_derivative():
    np.testing.assert_allclose(
        nm.grad(lambda a: np.linalg.eigvalsh(a)[-1])(np.eye(2)), np.eye(2) / 2
    )
    projector = hermitian(np.array([0.0, 1.0, 1.0]))
    close(nm.grad(lambda a: np.linalg.eigvalsh(symmetric(a))[2])(projector), projector / 2)
    # forward: the one-sided derivatives, in the order of the eigenvalues
    t = np.diag([3.0, -1.0])
    close(nm.jvp(np.linalg.eigvalsh, (np.eye(2),), (t,))[1], np.array([-1.0, 3.0]))


# ------------------------------------------------------------------------- functions of the matrix
def through_eigh(a):
    w, v = np.linalg.eigh(a)
    return (v * w**3) @ v.conj().T


@pytest.mark.parametrize("a", REPEATED.values(), ids=REPEATED)
def test_forward_mode_is_exact_for_functions_of_the_matrix(a):
    t, weight = symmetric(RNG.standard_normal((4, 4))), RNG.standard_normal((4, 4))
    want = t @ a @ a + a @ t @ a + a @ a @ t
    close(nm.jvp(through_eigh, (a,), (t,))[1], want)
    got = nm.jacfwd(lambda a: np.sum(weight * through_eigh(symmetric(a))))(a)
    close(got, nm.grad(lambda a: np.sum(weight * np.linalg.matrix_power(symmetric(a), 3)))(a))


def test_reverse_mode_refuses_what_cotangents_do_not_determine():
    weight = RNG.standard_normal((4, 4))
    for name, a in REPEATED.items():

        def f(a):
            return np.sum(weight * through_eigh(symmetric(a)))

        if name == "distinct":
            close(nm.grad(f)(a), nm.jacfwd(f)(a))
            continue
        with pytest.raises(nm.GradientError, match="do not determine"):
            nm.grad(f)(a)
        with pytest.raises(nm.GradientError, match="do not determine"):
            nm.vmap(nm.grad(f))(np.stack([REPEATED["distinct"], a]))
        with pytest.raises(nm.GradientError, match="do not determine"):
            nm.stage(nm.grad(f), a)(a)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_norm_of_the_product_of_its_factors_has_the_gradient_a_over_norm_a(dtype):
    def f(a):
        u, s, vh = np.linalg.svd(a)
        return np.sqrt(np.sum(((u * s) @ vh) ** 2))

    a = np.diag([1.0, 1.0, 2.0, 3.0]).astype(dtype)
    close(nm.grad(f)(a), a / np.linalg.norm(a), dtype)
    close(nm.jacfwd(f)(a), a / np.linalg.norm(a), dtype)


def test_a_projector_of_whole_eigenspaces_is_right_in_both_modes():
    a = hermitian(np.array([1.0, 1.0, 4.0, 4.0]))
    weight = RNG.standard_normal((4, 4))

    def f(a):
        v = np.linalg.eigh(symmetric(a))[1][:, 2:]
        return np.sum(weight * (v @ v.T))

    got = nm.grad(f)(a)
    close(nm.jacfwd(f)(a), got)
    # the projector is (a - 1) / 3, and to first order p t (1 - p) / 3 + its transpose
    p, t = (a - np.eye(4)) / 3, symmetric(RNG.standard_normal((4, 4)))
    moved = p @ t @ (np.eye(4) - p) / 3
    close(np.sum(got * t), np.sum(weight * (moved + moved.T)), size=16)


def test_the_basis_of_a_repeated_eigenvalue_has_no_derivative():
    a, weight = hermitian(np.array([1.0, 1.0, 4.0])), RNG.standard_normal((3, 3))
    chosen = "basis that was chosen for the vectors of a repeated"
    with pytest.raises(
        nm.GradientError, match=f"eigh: the function depends on the {chosen} eigenvalue"
    ):
        nm.grad(lambda a: np.sum(weight * np.linalg.eigh(symmetric(a))[1]))(a)
    with pytest.raises(
        nm.GradientError, match=f"svd: the function depends on the {chosen} singular value"
    ):
        nm.grad(lambda a: np.sum(weight * np.linalg.svd(a)[0]))(np.linalg.qr(a)[0])


def test_nearly_repeated_is_what_rounding_cannot_tell_apart():
    q = orthogonal(3)

    weight = RNG.standard_normal((3, 3))

    def f(a):
        return np.sum(weight * np.linalg.eigh(symmetric(a))[1])

    apart = (q * np.array([1.0, 1.0 + 1e-6, 4.0])) @ q.T
    assert np.all(np.isfinite(nm.grad(f)(apart)))
    with pytest.raises(nm.GradientError):
        nm.grad(f)((q * np.array([1.0, 1.0 + 2 * EPS, 4.0])) @ q.T)


# ------------------------------------------------------------------------- one triangle
@pytest.mark.parametrize("uplo", ["L", "U"])
def test_eigh_reads_one_triangle_and_so_does_its_derivative(uplo):
    a = RNG.standard_normal((3, 3))
    g = nm.grad(lambda a: np.sum(np.linalg.eigh(a, uplo)[0] ** 3))(a)
    other = np.triu(g, 1) if uplo == "L" else np.tril(g, -1)
    assert not other.any()
    nm.check_grads(lambda a: np.sum(np.linalg.eigvalsh(a, uplo) ** 3), (a,))


# ------------------------------------------------------------------------- complex
COMPLEX_VALUES = {
    "repeated": [3.0, 3.0, 1.0],
    "distinct": [3.0, 2.0, 1.0],
    "singular": [3.0, 1.0, 0.0],
}


COMPOSED = [
    pytest.param(shape, values, id=f"{shape}-{name}")
    for shape in ((3, 3), (4, 3), (3, 4))
    for name, values in COMPLEX_VALUES.items()
    if shape == (3, 3) or 0.0 not in values  # vectors of 0 of a rectangular matrix leave their span
]


@pytest.mark.parametrize(("shape", "values"), COMPOSED)
@pytest.mark.parametrize("full", [False, True])
def test_complex_svd_composed_again(shape, values, full):
    a = rectangular(*shape, values, complex)
    weight = RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)

    def f(x, y):
        u, s, vh = np.linalg.svd(x + 1j * y, full_matrices=full)
        return np.real(np.sum(weight * ((u[:, :3] * s**3) @ vh[:3])))

    def g(x, y):
        z = x + 1j * y
        return np.real(np.sum(weight * (z @ z.conj().T @ z)))

    want = nm.grad(g, argnums=(0, 1))(a.real, a.imag)
    for got, w in zip(nm.jacfwd(f, argnums=(0, 1))(a.real, a.imag), want, strict=True):
        close(got, w, size=4)
    if len(set(values)) == 3 and 0.0 not in values:
        for got, w in zip(nm.grad(f, argnums=(0, 1))(a.real, a.imag), want, strict=True):
            close(got, w, size=4)
        h, k = nm.hessian(f)(a.real, a.imag), nm.hessian(g)(a.real, a.imag)
        close(h, k, size=64)


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [2.0, 2.0, 4.0]], ids=["distinct", "repeated"])
def test_complex_eigh_composed_again(values):
    a = hermitian(np.array(values), complex)
    weight = RNG.standard_normal((3, 3)) + 1j * RNG.standard_normal((3, 3))

    def through(power):
        def f(x, y):
            z = x + 1j * y
            return np.real(np.sum(weight * power((z + z.conj().T) / 2)))

        return f

    f, g = through(through_eigh), through(lambda z: z @ z @ z)
    want = nm.grad(g)(a.real, a.imag)
    close(nm.jacfwd(f)(a.real, a.imag), want, size=4)
    if len(set(values)) == 3:
        close(nm.grad(f)(a.real, a.imag), want, size=4)
        close(nm.hessian(f)(a.real, a.imag), nm.hessian(g)(a.real, a.imag), size=64)


@pytest.mark.parametrize(
    "vector",
    [
        lambda z: np.linalg.eigh(z + z.conj().T)[1],
        lambda z: np.linalg.svd(z)[0],
        lambda z: np.linalg.eig(z)[1],
    ],
    ids=["eigh", "svd", "eig"],
)
def test_the_phase_of_a_complex_vector_has_no_derivative(vector):
    x, y = RNG.standard_normal((2, 3, 3))
    with pytest.raises(nm.GradientError, match="phase of a complex vector"):
        nm.grad(lambda x: np.real(vector(x + 1j * y)[1, 0] * (0.3 + 1j)))(x)
    nm.check_grads(lambda x: np.sum(np.abs(vector(x + 1j * y)) ** 4), (x,))


# ------------------------------------------------------------------------- singular values
def test_singular_values_at_zero_have_the_derivative_of_least_norm():
    a = np.outer([1.0, 2.0], [3.0, 4.0])
    unit = a / np.linalg.norm(a)
    for f in (lambda a: np.sum(np.linalg.svdvals(a)), lambda a: np.linalg.norm(a, "nuc")):
        close(nm.grad(f)(a), unit)
    close(nm.jacfwd(lambda a: np.linalg.norm(a, "nuc"))(a), unit)
    assert not nm.grad(lambda a: np.sum(np.linalg.svdvals(a)))(np.zeros((2, 3))).any()


@pytest.mark.parametrize(
    "a", [np.diag([2.0, 1.0, 0.0]), np.zeros((2, 2)), np.eye(3)], ids=["rank 2", "zero", "one"]
)
def test_the_sum_of_their_squares_is_smooth_everywhere(a):
    def f(a):
        return np.sum(np.linalg.svdvals(a) ** 2)

    close(nm.grad(f)(a), 2 * a)
    close(nm.hessian(f)(a).reshape(a.size, a.size), 2 * np.eye(a.size))


def test_the_spectral_norm_shares_a_tie():
    a = np.diag([2.0, 2.0, 1.0])
    want = np.diag([0.5, 0.5, 0.0])
    close(nm.grad(lambda a: np.linalg.norm(a, 2))(a), want)
    close(nm.jacfwd(lambda a: np.linalg.norm(a, 2))(a), want)
    b = rectangular(4, 3, [2.0, 1.0, 0.5])
    u, _, vh = np.linalg.svd(b)
    close(nm.grad(lambda a: np.linalg.norm(a, 2))(b), np.outer(u[:, 0], vh[0]))


def test_completing_columns_are_a_basis_without_derivative():
    a = rectangular(4, 2, [2.0, 1.0])

    def f(a):
        u = np.linalg.svd(a)[0][:, 2:]
        return np.sum(weight * (u @ u.T))

    weight = RNG.standard_normal((4, 4))
    close(nm.grad(f)(a), nm.jacfwd(f)(a))
    close(nm.grad(f)(a), nm.grad(lambda a: -np.sum(weight * (a @ np.linalg.pinv(a))))(a))
    with pytest.raises(nm.GradientError, match="basis"):
        nm.grad(lambda a: np.linalg.svd(a)[0][0, 2])(a)


def test_hermitian_svd():
    a = hermitian(np.array([-3.0, 1.0, 2.0]))
    weight = RNG.standard_normal((3, 3))

    def f(a):
        u, s, vh = np.linalg.svd(symmetric(a), hermitian=True)
        return np.sum(weight * ((u * s**2) @ u.T)) + np.sum(weight * ((u * s) @ vh))

    want = nm.grad(lambda a: np.sum(weight * (symmetric(a) @ symmetric(a) + symmetric(a))))(a)
    close(nm.grad(f)(a), want)
    close(nm.jacfwd(f)(a), want)


# ------------------------------------------------------------------------- eig
def test_eig_composed_again():
    a, weight = RNG.standard_normal((2, 4, 4))

    def f(a):
        w, v = np.linalg.eig(a)
        return np.real(np.sum(weight * ((v * w**2) @ np.linalg.inv(v))))

    def g(a):
        return np.sum(weight * (a @ a))

    for d in (nm.grad, nm.jacfwd):
        close(d(f)(a), nm.grad(g)(a), size=64)
    close(nm.hessian(f)(a), nm.hessian(g)(a), size=1024)


def test_eigenvalues_of_a_traced_matrix_are_complex_and_numpys():
    a = RNG.standard_normal((2, 4, 4))
    seen = []

    def f(a):
        seen.append(np.linalg.eig(a))
        return np.sum(np.abs(np.linalg.eigvals(a)) ** 2)

    nm.grad(f)(a)
    for got, want in zip(seen[0], np.linalg.eig(a), strict=True):
        assert got.dtype == np.complex128
        np.testing.assert_array_equal(nm.value_of(got), want)
    nm.check_grads(f, (a,))


def test_repeated_eigenvalues_of_eig_share():
    def f(a):
        return np.real(np.sum(np.exp(np.linalg.eigvals(a))))

    close(nm.grad(f)(np.eye(3)), np.exp(1.0) * np.eye(3))
    close(nm.jacfwd(f)(np.eye(3)), np.exp(1.0) * np.eye(3))


# ------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    "f", [np.linalg.eigh, np.linalg.eigvalsh, np.linalg.eig, np.linalg.eigvals]
)
def test_matrices_must_be_square(f):
    with pytest.raises(nm.ShapeError, match=rf"{f.__name__}: `a` must have shape"):
        nm.jvp(lambda a: f(a), (np.ones((2, 3)),), (np.ones((2, 3)),))


def test_a_triangle_must_be_named():
    with pytest.raises(ValueError, match="UPLO"):
        nm.grad(lambda a: np.sum(np.linalg.eigvalsh(a, "X")))(np.eye(2))


@pytest.mark.parametrize("shape", [(0, 0), (2, 0, 0), (0, 3, 3)], ids=str)
def test_empty_matrices(shape):
    a = np.zeros(shape)
    for f in (
        lambda a: np.sum(np.linalg.eigvalsh(a)),
        lambda a: np.sum(np.linalg.eigh(a)[1] ** 2),
        lambda a: np.sum(np.linalg.svdvals(a)),
    ):
        assert nm.grad(f)(a).shape == shape
        assert nm.jvp(f, (a,), (a,))[1] == 0.0
