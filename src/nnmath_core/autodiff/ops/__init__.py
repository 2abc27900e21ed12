"""The primitives, one group a file, each with the NumPy functions that are made of it."""
