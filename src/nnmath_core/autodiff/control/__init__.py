"""Control flow whose decisions may be data: branches, loops, scans.

Where the deciding values exist, Python decides and nothing is recorded but what runs. Where they do not exist (under
`stage`) or differ between the examples of a batch (under `vmap`), the functions become sub-programs of one equation.
"""

from nnmath_core.autodiff.control.branches import cond, switch
from nnmath_core.autodiff.control.loops import fori_loop, while_loop
from nnmath_core.autodiff.control.scan import scan

__all__ = ["cond", "fori_loop", "scan", "switch", "while_loop"]
