"""The mathematics of neural networks as a numerical engine.

Names are looked up when they are first used, so that ``import nnmath_core`` loads nothing but
NumPy. ``dir(nnmath_core)`` lists them all.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from nnmath_core._version import __version__

if TYPE_CHECKING:  # what follows here says the same as the tables below, to type checkers
    from nnmath_core import (
        curvature,
        errors,
        linalg,
        nn,
        numpy,
        optim,
        random,
        signal,
        solvers,
        special,
        stats,
        typing,
        verify,
    )
    from nnmath_core._ext._autodiff import Tracer
    from nnmath_core.autodiff.control import cond, fori_loop, scan, switch, while_loop
    from nnmath_core.autodiff.custom import checkpoint, custom_rule
    from nnmath_core.autodiff.implicit import implicit_minimum, implicit_root
    from nnmath_core.autodiff.jacobian import hessian, jacfwd, jacobian, jacrev
    from nnmath_core.autodiff.jet import jet
    from nnmath_core.autodiff.ops.low_rank import LowRank
    from nnmath_core.autodiff.ops.sparse_matrix import SparseMatrix
    from nnmath_core.autodiff.ops.update import at
    from nnmath_core.autodiff.per_example import per_example_grad
    from nnmath_core.autodiff.primitive import Primitive
    from nnmath_core.autodiff.transforms import (
        ggnvp,
        grad,
        hvp,
        jvp,
        stop_gradient,
        value_and_grad,
        value_of,
        vjp,
        vmap,
    )
    from nnmath_core.autodiff.tree import buffer, ravel_tree, tree_leaves, tree_map, tree_paths
    from nnmath_core.config import show_config
    from nnmath_core.device import (
        Device,
        default_device,
        device,
        device_of,
        devices,
        from_dlpack,
        matmul_precision,
        synchronize,
        to_device,
    )
    from nnmath_core.device.graphs import cuda_graphs
    from nnmath_core.device.threads import threads
    from nnmath_core.errors import (
        ConvergenceError,
        DeviceError,
        DomainError,
        DtypeError,
        GradientError,
        MemoryLimitError,
        MissingDependency,
        NnmathError,
        ShapeError,
        TraceError,
        TreeError,
    )
    from nnmath_core.io import batches, load, save
    from nnmath_core.plot.graph import graph
    from nnmath_core.program import Compiled, DevicePlan, Plan, Program, compile, linearize, stage
    from nnmath_core.program.embed import get_include
    from nnmath_core.program.example_norms import per_example_norms
    from nnmath_core.program.show import trace_shapes
    from nnmath_core.program.sparse import (
        hessian_sparsity,
        jacobian_sparsity,
        sparse_hessian,
        sparse_jacobian,
    )
    from nnmath_core.verify.contracts import shapes
    from nnmath_core.verify.gradients import check_grads, gradient_report
    from nnmath_core.verify.nans import debug_nans
    from nnmath_core.verify.numerical import complex_step, numerical_gradient
    from nnmath_core.verify.single_precision import precision_report

__all__ = [
    "Compiled",
    "ConvergenceError",
    "Device",
    "DeviceError",
    "DevicePlan",
    "DomainError",
    "DtypeError",
    "GradientError",
    "LowRank",
    "MemoryLimitError",
    "MissingDependency",
    "NnmathError",
    "Plan",
    "Primitive",
    "Program",
    "ShapeError",
    "SparseMatrix",
    "TraceError",
    "Tracer",
    "TreeError",
    "__version__",
    "at",
    "batches",
    "buffer",
    "check_grads",
    "checkpoint",
    "compile",
    "complex_step",
    "cond",
    "cuda_graphs",
    "curvature",
    "custom_rule",
    "debug_nans",
    "default_device",
    "device",
    "device_of",
    "devices",
    "errors",
    "fori_loop",
    "from_dlpack",
    "get_include",
    "ggnvp",
    "grad",
    "gradient_report",
    "graph",
    "hessian",
    "hessian_sparsity",
    "hvp",
    "implicit_minimum",
    "implicit_root",
    "jacfwd",
    "jacobian",
    "jacobian_sparsity",
    "jacrev",
    "jet",
    "jvp",
    "linalg",
    "linearize",
    "load",
    "matmul_precision",
    "nn",
    "numerical_gradient",
    "numpy",
    "optim",
    "per_example_grad",
    "per_example_norms",
    "precision_report",
    "random",
    "ravel_tree",
    "save",
    "scan",
    "shapes",
    "show_config",
    "signal",
    "solvers",
    "sparse_hessian",
    "sparse_jacobian",
    "special",
    "stage",
    "stats",
    "stop_gradient",
    "switch",
    "synchronize",
    "threads",
    "to_device",
    "trace_shapes",
    "tree_leaves",
    "tree_map",
    "tree_paths",
    "typing",
    "value_and_grad",
    "value_of",
    "verify",
    "vjp",
    "vmap",
    "while_loop",
]

_SUBMODULES = (
    "curvature",
    "errors",
    "linalg",
    "nn",
    "numpy",
    "optim",
    "random",
    "signal",
    "solvers",
    "special",
    "stats",
    "typing",
    "verify",
)

# module -> the public names whose home it is
_HOMES = {
    "autodiff.control": (
        "cond",
        "fori_loop",
        "scan",
        "switch",
        "while_loop",
    ),
    "autodiff.custom": (
        "checkpoint",
        "custom_rule",
    ),
    "autodiff.implicit": (
        "implicit_minimum",
        "implicit_root",
    ),
    "autodiff.jacobian": (
        "hessian",
        "jacfwd",
        "jacobian",
        "jacrev",
    ),
    "autodiff.jet": ("jet",),
    "autodiff.ops.low_rank": ("LowRank",),
    "autodiff.ops.update": ("at",),
    "autodiff.per_example": ("per_example_grad",),
    "autodiff.primitive": ("Primitive",),
    "autodiff.ops.sparse_matrix": ("SparseMatrix",),
    "autodiff.transforms": (
        "ggnvp",
        "grad",
        "hvp",
        "jvp",
        "stop_gradient",
        "value_and_grad",
        "value_of",
        "vjp",
        "vmap",
    ),
    "autodiff.tree": (
        "buffer",
        "ravel_tree",
        "tree_leaves",
        "tree_map",
        "tree_paths",
    ),
    "autodiff.wiring": ("Tracer",),
    "config": ("show_config",),
    "device": (
        "Device",
        "default_device",
        "device",
        "device_of",
        "devices",
        "from_dlpack",
        "matmul_precision",
        "synchronize",
        "to_device",
    ),
    "device.graphs": ("cuda_graphs",),
    "device.threads": ("threads",),
    "errors": (
        "ConvergenceError",
        "DeviceError",
        "DomainError",
        "DtypeError",
        "GradientError",
        "MemoryLimitError",
        "MissingDependency",
        "NnmathError",
        "ShapeError",
        "TraceError",
        "TreeError",
    ),
    "io": (
        "batches",
        "load",
        "save",
    ),
    "plot.graph": ("graph",),
    "program": (
        "Compiled",
        "DevicePlan",
        "Plan",
        "Program",
        "compile",
        "linearize",
        "stage",
    ),
    "program.embed": ("get_include",),
    "program.example_norms": ("per_example_norms",),
    "program.show": ("trace_shapes",),
    "program.sparse": (
        "hessian_sparsity",
        "jacobian_sparsity",
        "sparse_hessian",
        "sparse_jacobian",
    ),
    "verify.contracts": ("shapes",),
    "verify.gradients": (
        "check_grads",
        "gradient_report",
    ),
    "verify.nans": ("debug_nans",),
    "verify.numerical": (
        "complex_step",
        "numerical_gradient",
    ),
    "verify.single_precision": ("precision_report",),
}

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

# Not public: opt_einsum looks for them in the package of an array's type, which is this one for a traced array.
_BY_TYPE = ("einsum", "tensordot", "transpose")


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME_OF:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
    if name in _BY_TYPE:
        return getattr(importlib.import_module(f"{__name__}.numpy"), name)
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__]
    )


def __dir__() -> list[str]:
    return __all__
