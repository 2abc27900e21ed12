"""Slow forward functions, one for each primitive, that share no code with the package.

Loops over entries, `math` on single numbers, textbook linear algebra. NumPy is the container only.
Each oracle takes the operands and parameters of its primitive; operands are float64, integers or
booleans, and so is the result. A file for each group of primitives.
"""

from oracles import (  # noqa: F401  (register themselves)
    convolutions,
    convolve,
    elementwise,
    factorisations,
    fft,
    floats,
    index,
    linalg,
    normalisation,
    order,
    random,
    reduce,
    shape,
    sparse,
    special,
    special_higher,
    spectral,
)
from oracles.register import ORACLES

__all__ = ["ORACLES"]
