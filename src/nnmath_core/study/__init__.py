"""The main job: train and examine a network on data, and write what was found.

`nnmath study` is its face (`nnmath_core.cli`); `study` is the same from Python.
"""

from nnmath_core.study.command import study

__all__ = ["study"]
