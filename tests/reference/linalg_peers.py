"""Write linalg_peers.json: values and gradients of linear algebra by JAX and PyTorch.

    pip install jax torch
    python tests/reference/linalg_peers.py

The matrices are made from a seed (`operands`), which the tests call too. Each answer is the gradient
of ``sum(W * f(a))``, with W from the same seed. A peer that has no such derivative is left out.
"""

import json
from pathlib import Path

import numpy as np

STORED = Path(__file__).with_name("linalg_peers.json")

# name -> (the kind of matrix, the function as an expression of the array a; `L` is the namespace numpy.linalg or that
# of the peer, `S` scipy.linalg's)
PROGRAMS = {
    "solve": ("square", "L.solve(a, a[:, 0] ** 2)"),
    "inv": ("square", "L.inv(a)"),
    "det": ("square", "L.det(a)"),
    "slogdet": ("square", "L.slogdet(a)[1]"),
    "cholesky": ("spd", "L.cholesky((a + a.T) / 2)"),
    "qr": ("tall", "L.qr(a)[0]"),
    "r of qr": ("tall", "L.qr(a)[1]"),
    "eigenvalues": ("spd", "L.eigvalsh((a + a.T) / 2) ** 2"),
    "function by eigh": ("spd", "(lambda e: (e[1] * e[0] ** 0.5) @ e[1].T)(L.eigh((a + a.T) / 2))"),
    "singular values": ("tall", "L.svd(a, full_matrices=False)[1]"),
    "function by svd": ("tall", "(lambda e: (e[0] * e[1] ** 3) @ e[2])(L.svd(a, full_matrices=False))"),
    "pinv": ("tall", "L.pinv(a)"),
    "matrix_power": ("square", "L.matrix_power(a, 3)"),
    "negative power": ("square", "L.matrix_power(a, -2)"),
    "nuclear norm": ("tall", "L.norm(a, 'nuc')"),
    "spectral norm": ("tall", "L.norm(a, 2)"),
    "frobenius": ("tall", "L.norm(a)"),
    "multi_dot": ("square", "L.multi_dot([a, a.T, a])"),
    "expm": ("square", "S.expm(a / 3)"),
    "sqrtm": ("spd", "S.sqrtm(a).real"),
    "solve_triangular": ("square", "S.solve_triangular(a, a[:, :2] ** 2, lower=True)"),
    "solve_sylvester": ("spd", "S.solve_sylvester(a, a.T, a[:, ::-1])"),
    "cho_solve": ("spd", "S.cho_solve(S.cho_factor((a + a.T) / 2, lower=True), a[:, 1])"),
    "toeplitz": ("square", "S.toeplitz(a[0], a[:, 0])"),
    "polar": ("square", "S.polar(a)[0]"),
}  # fmt: skip


def operands(kind):
    """Return the matrix and a generator for the weights."""
    rng = np.random.default_rng(17)
    a = rng.standard_normal((5, 3) if kind == "tall" else (4, 4))
    if kind == "square":
        a = a * 0.4 + 2 * np.eye(4)
    if kind == "spd":
        a = a @ a.T / 4 + np.eye(4) + 0.05 * rng.standard_normal((4, 4))
    return a, np.random.default_rng(18)


def value(expression, a, linalg, scipy_linalg):
    """Evaluate an expression of the table."""
    return eval(expression, {"a": a, "L": linalg, "S": scipy_linalg})


def by_jax():
    """Return the answers of JAX."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import jax.scipy.linalg as jsl

    answers = {}
    for name, (kind, text) in PROGRAMS.items():
        a, rng = operands(kind)
        try:
            w = rng.standard_normal(
                np.shape(value(text, a, np.linalg, __import__("scipy.linalg").linalg))
            )
            g = jax.grad(lambda a, t=text, w=w: jnp.sum(w * value(t, a, jnp.linalg, jsl)))(a)
        except (AttributeError, NotImplementedError, TypeError, ValueError) as e:
            print(f"jax: {name}: {type(e).__name__}: {str(e)[:80]}")
            continue
        answers[name] = np.asarray(g).ravel().tolist()
    return jax.__version__, answers


def by_torch():
    """Return the answers of PyTorch for what is spelled alike there."""
    import torch

    class Linalg:
        def __getattr__(self, name):
            return getattr(torch.linalg, name)

        def svd(self, a, full_matrices=True):
            return torch.linalg.svd(a, full_matrices=full_matrices)

        def norm(self, a, ord=None):
            return torch.linalg.norm(a, ord)

    class Scipy:
        def expm(self, a):
            return torch.linalg.matrix_exp(a)

        def solve_triangular(self, a, b, lower):
            return torch.linalg.solve_triangular(a, b, upper=not lower)

    answers = {}
    for name, (kind, text) in PROGRAMS.items():
        a, rng = operands(kind)
        w = rng.standard_normal(
            np.shape(value(text, a, np.linalg, __import__("scipy.linalg").linalg))
        )
        x = torch.tensor(a, requires_grad=True)
        try:
            (torch.tensor(w) * value(text, x, Linalg(), Scipy())).sum().backward()
        except (AttributeError, NotImplementedError, TypeError, ValueError, RuntimeError) as e:
            print(f"torch: {name}: {type(e).__name__}: {str(e)[:80]}")
            continue
        answers[name] = x.grad.numpy().ravel().tolist()
    return torch.__version__, answers


def main():
    """Write the file."""
    out = {}
    for peer, (version, answers) in (("jax", by_jax()), ("torch", by_torch())):
        out[peer] = {"version": version, "answers": answers}
        print(peer, version, len(answers))
    STORED.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
