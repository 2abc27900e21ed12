"""Programs on a CUDA device: kernels made from groups of operations, and the plan that queues them."""

from nnmath_core.program.cuda.plan import DevicePlan, planned_on

__all__ = ["DevicePlan", "planned_on"]
