"""Curves over epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnmath_core.plot.svg import LINES, SERIES, canvas

__all__ = ["loss_curves"]


def loss_curves(curves: Mapping[str, Sequence[float | None]]) -> str:
    """Return the picture of losses over epochs, on a logarithmic axis; a curve ends where it diverged."""
    with canvas("Training loss over epochs") as drawn:
        axes = drawn.axes
        for k, (name, losses) in enumerate(curves.items()):
            shown = [loss for loss in losses if loss is not None and loss > 0]
            axes.plot(range(len(shown)), shown, color=SERIES[k], linestyle=LINES[k], label=name)
            if None in losses:
                axes.plot(len(shown) - 1, shown[-1], marker="x", color=SERIES[k])
        axes.set_yscale("log")
        axes.set_xlabel("epoch")
        axes.set_ylabel("training loss (nats)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(handlelength=3)
    return drawn.svg
