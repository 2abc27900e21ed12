"""Data in and out: batches of arrays, and trees on disk without pickle."""

from nnmath_core.io.batches import Batches, batches
from nnmath_core.io.storage import load, save

__all__ = ["Batches", "batches", "load", "save"]
