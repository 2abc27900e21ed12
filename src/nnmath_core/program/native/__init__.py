"""Loops that are written as machine code for the runs of operations of one micro-program."""

from nnmath_core.program.native.joined import Operation, available, joined

__all__ = ["Operation", "available", "joined"]
