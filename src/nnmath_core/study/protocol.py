"""What a study does, in numbers: recorded with its results."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Protocol"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The sizes of a study.

    Attributes
    ----------
    splits : int
        Folds of the cross-validation; each example is tested once. With 1 a single network is trained, and tested on
        the rows that the data set aside, or on a fifth of all.
    hidden : int
        Units of the hidden layer of the default network.
    epochs, batch_size : int
        Of the training, by Adam.
    least_steps : int
        Few rows are trained for more epochs, until there are so many steps.
    learning_rate : float
        At the first step of the training; it falls to zero along half a cosine.
    comparison_epochs : int
        Epochs of each of the five optimizers that are compared, at their constant rates; 0: none are.
    checked_rows, checked_points : int
        Rows of the batch on which the gradients are checked, and at how many points.
    highest, lowest : int
        How many eigenvalues of the Hessian are computed from each end.
    surface_rows : int
        At most so many training rows make the loss whose surface and signals are measured.
    basis_bytes : int
        At most so much memory for the vectors of the eigenvalue iteration.
    """

    splits: int = 5
    hidden: int = 64
    epochs: int = 30
    batch_size: int = 32
    least_steps: int = 1000
    learning_rate: float = 3e-3
    comparison_epochs: int = 20
    checked_rows: int = 32
    checked_points: int = 3
    highest: int = 10
    lowest: int = 5
    surface_rows: int = 4096
    basis_bytes: int = 1 << 30

    def epochs_for(self, epochs: int, rows: int) -> int:
        """Return how many epochs rows are trained for: ``epochs``, or more where rows are few."""
        return max(epochs, math.ceil(self.least_steps / math.ceil(rows / self.batch_size)))
