"""Spectra: singular values of layers, eigenvalues at the ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnmath_core.plot.svg import AXIS, LINES, SERIES, canvas

__all__ = ["eigenvalue_ends", "singular_values"]


def singular_values(layers: Mapping[str, Sequence[float]]) -> str:
    """Return the picture of each layer's singular values in descending order, on a logarithmic axis."""
    with canvas("Singular values of the weights") as drawn:
        axes = drawn.axes
        for k, (name, values) in enumerate(layers.items()):
            shown = [v for v in values if v > 0]
            c = k % len(SERIES)
            many = len(shown) > 24
            axes.plot(
                range(1, len(shown) + 1),
                shown,
                color=SERIES[c],
                linestyle=LINES[c],
                marker=None if many else "o",
                markersize=3.5,
                label=name,
            )
        axes.set_yscale("log")
        axes.set_xlabel("number of the singular value")
        axes.set_ylabel("singular value")
        axes.legend(handlelength=3)
    return drawn.svg


def eigenvalue_ends(low: Sequence[float], high: Sequence[float]) -> str:
    """Return the picture of the lowest and the highest eigenvalues, ascending, with the rest left out."""
    with canvas("Largest and smallest Hessian eigenvalues") as drawn:
        axes = drawn.axes
        gap = 2 if low and high else 0
        places = [*range(len(low)), *(len(low) + gap + k for k in range(len(high)))]
        values = [*low, *high]
        signs = [SERIES[1] if v < 0 else SERIES[0] for v in values]
        axes.vlines(places, 0, values, colors=signs, linewidth=2)
        axes.scatter(places, values, c=signs, s=22, zorder=3, clip_on=False)
        axes.axhline(0, color=AXIS, linewidth=1)
        size = max((abs(v) for v in values), default=0.0)
        small = min((abs(v) for v in values if v), default=0.0)
        if small and size / small > 50:
            axes.set_yscale("symlog", linthresh=small)
        names = [str(k + 1) for k in range(len(low))] + [str(k) for k in range(len(high), 0, -1)]
        axes.set_xticks(places, names)
        axes.grid(visible=False, axis="x")
        for part, words in ((places[: len(low)], "lowest"), (places[len(low) :], "highest")):
            if part:
                middle = (part[0] + part[-1]) / 2
                below = axes.get_xaxis_transform()  # x in data, y in axes
                axes.text(middle, -0.16, words, ha="center", va="top", transform=below)
        axes.set_ylabel("eigenvalue")
    return drawn.svg
