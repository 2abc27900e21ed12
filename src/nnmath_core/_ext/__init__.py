"""Compiled doors: kernels, the core, BLAS. Private; nothing here is a stable interface."""
