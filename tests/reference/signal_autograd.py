"""HIPS autograd's `scipy.signal.convolve`: values and gradients for labelled axes, in every mode.

::

    python tests/reference/signal_autograd.py           # write signal_autograd.json
    python tests/reference/signal_autograd.py --check   # ask again and compare

The number that is differentiated is the sum of the entries with the weights -2, -1, 0, 1, 2, -2, ....
Operands are multiples of 1/64, of no random generator.
"""

from __future__ import annotations

import argparse
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


AXES = [
    ((5,), (3,), None, ((), ())),
    ((2, 5), (3, 3), ((1,), (1,)), ((), ())),
    ((5, 2), (3, 4, 2), ((0,), (1,)), ((1,), (2,))),
    ((2, 3, 4, 3), (3, 5, 2, 3), ((2, 3), (2, 3)), ((1,), (0,))),
]
CASES = [(*row, mode) for row in AXES for mode in ("full", "valid", "same")]


def operands(case: tuple[Any, ...]) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Both operands of a case."""
    return coarse(1, *case[0]), coarse(50, *case[1])


def weighed(np: Any, z: Any) -> Any:
    """The number that is differentiated."""
    return np.sum(z * (numpy.arange(z.size).reshape(z.shape) % 5 - 2.0))


def answers(case: tuple[Any, ...]) -> dict[str, Any]:
    import autograd
    import autograd.numpy as np
    from autograd.scipy.signal import convolve

    *_, axes, dot_axes, mode = case

    def f(a: Any, b: Any) -> Any:
        return convolve(a, b, axes=axes, dot_axes=dot_axes, mode=mode)

    a, b = operands(case)
    slopes = [autograd.grad(lambda a, b: weighed(np, f(a, b)), i)(a, b) for i in (0, 1)]
    return {"value": f(a, b).tolist(), "a": slopes[0].tolist(), "b": slopes[1].tolist()}


def main() -> None:
    import importlib.metadata

    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    found = {repr(case): answers(case) for case in CASES}
    if not parser.parse_args().check:
        version = importlib.metadata.version("autograd")
        STORED.write_text(json.dumps({"autograd": version, "answers": found}) + "\n")
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
