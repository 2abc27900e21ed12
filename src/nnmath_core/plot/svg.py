"""A figure of matplotlib as an SVG element whose colours are CSS variables.

Colours are drawn as marks, hexadecimal numbers that stand for a variable of the page, and replaced
in the text: the same picture is readable on white and on black. The text of a picture stays text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nnmath_core.errors import MissingDependency

__all__ = ["AXIS", "INK", "SERIES", "Canvas", "canvas", "require_matplotlib"]

INK, AXIS, GRID = "#0a0b01", "#0a0b02", "#0a0b03"
SERIES = tuple(f"#0a0b1{k}" for k in range(6))
_VARIABLES = {INK: "--ink", AXIS: "--soft", GRID: "--line"} | {
    mark: f"--series-{k + 1}" for k, mark in enumerate(SERIES)
}
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
"""A style of line for each colour: the curves differ without colours too."""

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nnmath",  # names inside the picture come from its content: the same bytes again
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": AXIS,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": AXIS,
    "ytick.color": AXIS,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
}


def require_matplotlib(who: str) -> None:
    """Refuse to begin what would end without its figures.

    Raises
    ------
    MissingDependency
        matplotlib cannot be imported.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingDependency(
            f'{who}: the figures need matplotlib: `pip install "nnmath-core[study]"`.'
        ) from None


@dataclass
class Canvas:
    """Axes to draw on, and after the block the picture."""

    axes: Any
    svg: str = ""


@contextmanager
def canvas(title: str, *, width: float = 5.6, height: float = 3.6) -> Iterator[Canvas]:
    """Give axes in the project's style; when the block ends ``.svg`` is the picture as text.

    Parameters
    ----------
    title : str
        What the picture shows, for those who hear the page.
    width, height : float
        In inches; the page scales it to its column.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        drawn = Canvas(figure.add_subplot())
        yield drawn
        out = io.StringIO()
        figure.savefig(
            out, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    drawn.svg = _themed(out.getvalue(), title)


def _themed(svg: str, title: str) -> str:
    """Return the element alone, scaling with its box, with variables for the marks."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    head, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None  # matplotlib writes one
    head = (
        f'<svg {box[0]} role="img" aria-label="{title}" xmlns:xlink="http://www.w3.org/1999/xlink"'
    )
    for mark, variable in _VARIABLES.items():
        rest = rest.replace(mark, f"var({variable})")
    # identifiers are unique in a picture and must be so in the page
    key = re.sub(r"\W+", "-", title.lower()).strip("-")
    rest = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', rest)
    rest = re.sub(r'"#([^"]+)"', rf'"#{key}-\1"', rest)
    rest = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", rest)
    return f"{head}>{rest}".strip()
