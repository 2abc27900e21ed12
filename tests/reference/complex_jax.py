"""Functions from real to real with complex values inside, and what JAX says of their derivatives.

::

    python tests/reference/complex_jax.py           # write complex_jax.json
    python tests/reference/complex_jax.py --check   # ask again and compare

Each function takes the namespace (`numpy` or `jax.numpy`) and a vector of four numbers, and returns
one number. Stored are its value, gradient, directional derivative and Hessian at `POINT`, float64.
Constants are multiples of 1/64, the same numbers everywhere.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

STORED = Path(__file__).with_suffix(".json")
CHECK_TOLERANCE = 1e-13  # relative to the largest entry

_count = itertools.count(1)


def _coarse(*shape: int) -> numpy.ndarray:
    """Numbers without pattern in [-1.5, 1.5], of no random generator: the same in every version."""
    x = [round(96 * math.sin(n * n)) / 64 for n in itertools.islice(_count, math.prod(shape))]
    return numpy.array(x).reshape(shape)


POINT = _coarse(4)
TANGENT = _coarse(4)
A = _coarse(3, 3) + 1j * _coarse(3, 3) + 2 * numpy.eye(3)
B = _coarse(4, 3, 3) + 1j * _coarse(4, 3, 3)
C = _coarse(4, 4) + 1j * _coarse(4, 4)
D = _coarse(4) + 1j * _coarse(4)


def vector(np: Any, t: Any) -> Any:
    """Four complex numbers, holomorphic in t."""
    return np.exp(0.5j * t) @ C + D


def matrix(np: Any, t: Any) -> Any:
    """A complex matrix, quadratic in t."""
    return A + np.einsum("i,ijk->jk", t + 0.25j * t * t, B)


def hermitian(np: Any, t: Any) -> Any:
    """A positive definite matrix."""
    m = matrix(np, t)
    return m @ np.conj(m).T + np.eye(3)


def weighed(np: Any, z: Any) -> Any:
    """Real and imaginary parts of all entries, each with a weight of its own."""
    n = z.size
    w = np.arange(1.0, n + 1) / n
    z = np.reshape(z, (n,))
    return np.sum(w * np.real(z)) + np.sum((w * w - 0.5) * np.imag(z))


FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "conj": lambda np, t: np.real(np.sum(np.conj(vector(np, t)) * vector(np, 2 * t))),
    "method conj": lambda np, t: np.imag(np.sum(vector(np, t).conj() * vector(np, 2 * t))),
    "abs": lambda np, t: np.sum(np.abs(vector(np, t))),
    "abs squared": lambda np, t: np.sum(np.abs(vector(np, t)) ** 2),
    "angle": lambda np, t: np.sum(np.angle(vector(np, t)) * t),
    "sign": lambda np, t: weighed(np, np.sign(vector(np, t))),
    "product": lambda np, t: weighed(np, vector(np, t) * vector(np, t * t) / (2 + t * 1j)),
    "power, integer": lambda np, t: weighed(np, vector(np, t) ** 3),
    "power, complex": lambda np, t: weighed(np, vector(np, t) ** (0.5 - 1.5j)),
    "power of a constant": lambda np, t: weighed(np, (1.0 + 2.0j) ** vector(np, t)),
    "sqrt and log": lambda np, t: weighed(np, np.sqrt(vector(np, t)) * np.log(vector(np, t))),
    "exp, sin, cos": lambda np, t: weighed(
        np, np.exp(np.sin(vector(np, t))) + np.cos(vector(np, t))
    ),
    "tan, tanh": lambda np, t: weighed(np, np.tan(vector(np, t)) * np.tanh(vector(np, t))),
    "arcsin, arccos": lambda np, t: weighed(
        np, np.arcsin(vector(np, t)) + 2 * np.arccos(vector(np, t))
    ),
    "arctan": lambda np, t: weighed(np, np.arctan(vector(np, t))),
    "arcsinh": lambda np, t: weighed(np, np.arcsinh(vector(np, t))),
    "arccosh": lambda np, t: weighed(np, np.arccosh(vector(np, t))),
    "arctanh": lambda np, t: weighed(np, np.arctanh(vector(np, t))),
    "prod": lambda np, t: weighed(np, np.prod(vector(np, t)) * t),
    "cumprod": lambda np, t: weighed(np, np.cumprod(vector(np, t))),
    "mean and where": lambda np, t: weighed(
        np, np.where(t > 0, vector(np, t), np.mean(vector(np, t)))
    ),
    "vdot": lambda np, t: np.real(np.vdot(vector(np, t), vector(np, t * t))),
    "vdot, imaginary part": lambda np, t: np.imag(np.vdot(vector(np, t), vector(np, t * t))),
    "vecdot": lambda np, t: weighed(np, np.vecdot(matrix(np, t), hermitian(np, t))),
    "inner and outer": lambda np, t: weighed(
        np, np.inner(vector(np, t), D) * np.outer(vector(np, t), D)
    ),
    "matmul": lambda np, t: weighed(np, matrix(np, t) @ matrix(np, 2 * t)),
    "einsum": lambda np, t: weighed(
        np, np.einsum("ij,kj,ii->ik", matrix(np, t), np.conj(matrix(np, t)), A)
    ),
    "trace": lambda np, t: weighed(np, np.trace(matrix(np, t) @ matrix(np, t)) * t),
    "solve": lambda np, t: weighed(np, np.linalg.solve(matrix(np, t), hermitian(np, t))),
    "inv": lambda np, t: weighed(np, np.linalg.inv(matrix(np, t))),
    "det": lambda np, t: weighed(np, np.linalg.det(matrix(np, t)) * D),
    "slogdet, sign": lambda np, t: weighed(np, np.linalg.slogdet(matrix(np, t))[0] * D),
    "slogdet, logarithm": lambda np, t: np.linalg.slogdet(matrix(np, t))[1],
    "slogdet, both": lambda np, t: np.imag(
        np.linalg.slogdet(matrix(np, t))[0] * np.linalg.slogdet(matrix(np, t))[1]
    ),
    "cholesky": lambda np, t: weighed(np, np.linalg.cholesky(hermitian(np, t))),
    "norm": lambda np, t: np.linalg.norm(vector(np, t)),
    "norm, Frobenius": lambda np, t: np.linalg.norm(matrix(np, t)),
    "norm, 1": lambda np, t: np.linalg.norm(matrix(np, t), 1),
    "norm, of order 3": lambda np, t: np.linalg.norm(vector(np, t), 3),
    "norm, of rows": lambda np, t: np.sum(np.linalg.norm(matrix(np, t), axis=1) ** 3),
    "vector_norm": lambda np, t: np.linalg.vector_norm(matrix(np, t)),
    "var": lambda np, t: np.var(vector(np, t)),
    "std": lambda np, t: np.std(vector(np, t)),
}


def answers(name: str) -> dict[str, Any]:
    """What JAX says of one function."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def f(t: Any) -> Any:
        return FUNCTIONS[name](jnp, t)

    point = jnp.array(POINT)
    return {
        "value": float(f(point)),
        "grad": jax.grad(f)(point).tolist(),
        "jvp": float(jax.jvp(f, (point,), (jnp.array(TANGENT),))[1]),
        "hessian": jax.hessian(f)(point).tolist(),
    }


def main() -> None:
    """Ask JAX and write or compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    found = {name: answers(name) for name in FUNCTIONS}
    if not parser.parse_args().check:
        import jax

        text = json.dumps({"jax": jax.__version__, "answers": found}, indent=1)
        STORED.write_text(text + "\n")
        return
    stored = json.loads(STORED.read_text())["answers"]
    for name, mine in found.items():
        for key, value in mine.items():
            theirs = numpy.array(stored[name][key])
            error = numpy.abs(numpy.array(value) - theirs).max()
            bound = CHECK_TOLERANCE * max(1.0, numpy.abs(theirs).max())
            print("same" if error <= bound else f"off by {error:.1e}", name, key)


if __name__ == "__main__":
    main()
