"""Gradients of Fourier transforms by JAX and PyTorch: odd and even lengths, all norms, cut and padded.

::

    python tests/reference/fft_peers.py           # write fft_peers.json
    python tests/reference/fft_peers.py --check   # ask again and compare

The operand is a + ib (a alone for transforms of real arrays). The number is a weighed sum of the
real and imaginary parts of the transform and of their squares; stored are its value and its
gradients in a and in b, float64. Numbers are multiples of 1/64, of no random generator.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy

STORED = Path(__file__).with_suffix(".json")
CHECK_TOLERANCE = 1e-13  # relative to the largest entry


def coarse(start: int, *shape: int) -> numpy.ndarray:
    """Numbers without pattern in [-1.5, 1.5]."""
    x = [round(96 * math.sin(n * n)) / 64 for n in range(start, start + math.prod(shape))]
    return numpy.array(x).reshape(shape)


NORMS = ("backward", "ortho", "forward")
ONE = [
    (name, {"n": n, "norm": norm})
    for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
    for n, norm in itertools.product((None, 3, 4, 7, 8), NORMS)
]
SEVERAL = [
    (name, {"s": s, "axes": (0, 1), "norm": norm})
    for name in ("fftn", "ifftn", "rfftn", "irfftn")
    for s, norm in itertools.product((None, (2, 4), (4, 5)), NORMS)
]
CASES = ONE + SEVERAL


def operand(name: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The real and the imaginary part of the argument."""
    shape = (3, 5) if name.endswith("n") else (5,)
    return coarse(1, *shape), coarse(40, *shape)


def takes_real(name: str) -> bool:
    """Whether the transform is of real arrays."""
    return name in ("rfft", "rfftn", "ihfft")


def weighed(np: Any, y: Any) -> Any:
    """A number made of all entries, each with weights of its own, quadratic."""
    w, v = coarse(100, *y.shape), coarse(200, *y.shape)
    u, z = np.real(y), np.imag(y)
    return np.sum(w * u) + np.sum(v * z) + np.sum(v * u * u) + np.sum(w * z * u)


def run(np: Any, name: str, keywords: dict[str, Any], a: Any, b: Any) -> Any:
    """The number of a case, in a namespace that has NumPy's names."""
    x = a if takes_real(name) else a + 1j * b
    return weighed(np, getattr(np.fft, name)(x, **keywords))


def by_jax(name: str, keywords: dict[str, Any]) -> dict[str, Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    f = jax.value_and_grad(
        lambda a, b: run(jax.numpy, name, keywords, a, b) + 0 * b.sum(), argnums=(0, 1)
    )
    value, (a, b) = f(*operand(name))
    return {"value": float(value), "a": a.tolist(), "b": b.tolist()}


def by_torch(name: str, keywords: dict[str, Any]) -> dict[str, Any]:
    import torch

    a, b = (torch.tensor(x, requires_grad=True) for x in operand(name))
    names = {"axes": "dim"}
    keywords = {names.get(k, k): v for k, v in keywords.items()}
    x = a if takes_real(name) else torch.complex(a, b)
    y = getattr(torch.fft, name)(x, **keywords)
    u, z = (y.real, y.imag) if y.is_complex() else (y, torch.zeros_like(y))
    w, v = (torch.tensor(coarse(k, *y.shape)) for k in (100, 200))
    value = ((w + v * u + w * z) * u + v * z).sum() + 0 * b.sum()
    value.backward()
    return {"value": value.item(), "a": a.grad.tolist(), "b": b.grad.tolist()}


def label(name: str, keywords: dict[str, Any]) -> str:
    """A case as it is called."""
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in keywords.items())})"


def main() -> None:
    import jax
    import torch

    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    answers = {label(*case): {"jax": by_jax(*case), "torch": by_torch(*case)} for case in CASES}
    if not parser.parse_args().check:
        versions = {"jax": jax.__version__, "torch": torch.__version__}
        STORED.write_text(json.dumps({**versions, "answers": answers}) + "\n")
        return
    stored = json.loads(STORED.read_text())["answers"]
    for case, peer, key in itertools.product(answers, ("jax", "torch"), ("value", "a", "b")):
        theirs = numpy.array(stored[case][peer][key])
        error = numpy.abs(numpy.array(answers[case][peer][key]) - theirs).max()
        bound = CHECK_TOLERANCE * max(1.0, numpy.abs(theirs).max())
        print("same" if error <= bound else f"off by {error:.1e}", case, peer, key)


if __name__ == "__main__":
    main()
