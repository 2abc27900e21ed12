"""The mathematics of neural networks as a numerical engine.

Names are looked up when they are first used, so that ``import nnmath_core`` loads nothing but
NumPy. ``dir(nnmath_core)`` lists them all.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from nnmath_core._version import __version__

if TYPE_CHECKING:  # what follows here says the same as the tables below, to type checkers
    from nnmath_core import curvature, errors, nn, numpy, optim, solvers, special, typing, verify
    from nnmath_core._ext._autodiff import Tracer
    from nnmath_core.autodiff.custom import checkpoint, custom_rule
    from nnmath_core.autodiff.jacobian import hessian, jacfwd, jacobian, jacrev
    from nnmath_core.autodiff.ops.update import at
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
    from nnmath_core.autodiff.tree import ravel_tree, tree_leaves, tree_map, tree_paths
    from nnmath_core.config import show_config
    from nnmath_core.device import (
        Device,
        default_device,
        device,
        device_of,
        devices,
        synchronize,
        to_device,
    )
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
    from nnmath_core.program import Program, linearize, stage
    from nnmath_core.verify.gradients import check_grads, gradient_report
    from nnmath_core.verify.numerical import complex_step, numerical_gradient

__all__ = [
    "ConvergenceError",
    "Device",
    "DeviceError",
    "DomainError",
    "DtypeError",
    "GradientError",
    "MemoryLimitError",
    "MissingDependency",
    "NnmathError",
    "Primitive",
    "Program",
    "ShapeError",
    "TraceError",
    "Tracer",
    "TreeError",
    "__version__",
    "at",
    "batches",
    "check_grads",
    "checkpoint",
    "complex_step",
    "curvature",
    "custom_rule",
    "default_device",
    "device",
    "device_of",
    "devices",
    "errors",
    "ggnvp",
    "grad",
    "gradient_report",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "linearize",
    "load",
    "nn",
    "numerical_gradient",
    "numpy",
    "optim",
    "ravel_tree",
    "save",
    "show_config",
    "solvers",
    "special",
    "stage",
    "stop_gradient",
    "synchronize",
    "to_device",
    "tree_leaves",
    "tree_map",
    "tree_paths",
    "typing",
    "value_and_grad",
    "value_of",
    "verify",
    "vjp",
    "vmap",
]

_SUBMODULES = (
    "curvature",
    "errors",
    "nn",
    "numpy",
    "optim",
    "solvers",
    "special",
    "typing",
    "verify",
)

# module -> the public names whose home it is
_HOMES = {
    "autodiff.custom": (
        "checkpoint",
        "custom_rule",
    ),
    "autodiff.jacobian": (
        "hessian",
        "jacfwd",
        "jacobian",
        "jacrev",
    ),
    "autodiff.ops.update": ("at",),
    "autodiff.primitive": ("Primitive",),
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
        "synchronize",
        "to_device",
    ),
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
    "program": (
        "Program",
        "linearize",
        "stage",
    ),
    "verify.gradients": (
        "check_grads",
        "gradient_report",
    ),
    "verify.numerical": (
        "complex_step",
        "numerical_gradient",
    ),
}

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME_OF:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__]
    )


def __dir__() -> list[str]:
    return __all__
