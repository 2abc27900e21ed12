"""Our derivatives in float32 beside those in float64, which differences have confirmed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nnmath_core.typing import Array
from nnmath_core.verify.behaviour import plain
from nnmath_core.verify.derivatives import Source
from nnmath_core.verify.diagnosis import FLOOR
from nnmath_core.verify.findings import Findings
from nnmath_core.verify.record import MODES, pair

SHARE = 2.0**-8  # of the largest derivative in a leaf, by which float32 may differ: two digits
SPACING = float(np.finfo(np.float32).eps)
TINY = 64 * float(np.finfo(np.float32).tiny)
RADIUS = 2.0**-3
PROBES = 8
SCATTER = 4.0  # a mistake adds some ten times as much as it varies over the radius


def compare_precisions(k: int, x: Array, sources: list[Source], findings: Findings) -> None:
    """Compare derivatives of float32 arguments with those of the same numbers in float64.

    float32 loses digits where a function cancels, and that is no mistake: what counts is a
    difference beyond the scatter that rounding has from point to point.
    """
    for source in sources:
        if not source.wide:
            continue  # compared with differences in float32 already
        variables = source.variables
        scale = variables.scale(x)
        signs = np.where(np.arange(len(x)) % 2 == 0, 1.0, -0.5)
        line = scale * signs
        exact, rough = _sweep(source, x, line, wide=True), _sweep(source, x, line, wide=False)
        unit = scale if source.by_rows else np.ones(len(exact))
        values = source.function(x)
        largest = np.abs(values).sum() if source.by_rows else np.abs(values)
        allowed = (_allowed(source, exact * unit) + FLOOR * SPACING * largest + TINY) / unit
        gap = np.abs(rough - exact)
        if not (~(gap <= allowed)).any():
            continue
        noise = np.broadcast_to(_noise(source, x, line), gap.shape)
        bad = ~(gap <= allowed + SCATTER * noise)
        if not bad.any():
            continue
        i = int(np.argmax(np.where(bad, np.nan_to_num(gap * unit, nan=np.inf, posinf=np.inf), -1)))
        findings.count("bug" if np.isfinite(rough[i]) else "not finite", int(bad.sum()))
        name, index = variables.component(i) if source.by_rows else ("", None)
        place = name + (str(list(index)) if index else "") or "a random direction"
        low, high = pair(float(rough[i]), float(exact[i]))
        text = (
            f"{place}: {MODES[source.mode]} gives {low} for float32 arguments and {high} for the same "
            "numbers in float64."
        )
        cause = "bug" if np.isfinite(rough[i]) else "not finite"
        found = plain(cause, text, float(rough[i]), float(exact[i]))
        tolerance = float(allowed[i])
        findings.disagreements.append(
            replace(
                found,
                mode=source.mode,
                order=1,
                point=k,
                argument=name,
                index=index,
                error=float(noise[i]),
                tolerance=tolerance,
            )
        )


def _allowed(source: Source, natural: Array) -> Array:
    """Return the differences that are no matter, in natural units."""
    size = np.where(np.isfinite(natural), np.abs(natural), 0.0)
    allowed = np.full(size.shape, 8 * SPACING * size.max(initial=0.0))
    parts = source.variables.slices() if source.by_rows else [slice(None)]
    for part in parts:
        allowed[part] += SHARE * size[part].max(initial=0.0)
    return allowed


def _sweep(source: Source, x: Array, line: Array, *, wide: bool) -> Array:
    """One derivative: of a sum of outputs by all entries, or of all outputs along one direction."""
    variables = source.variables
    before, variables.wide = variables.wide, wide
    try:
        if source.by_rows:
            weights = np.where(np.arange(source.function.size) % 2 == 0, 1.0, -0.5)
            return np.asarray(source.rows(x, weights[None])[0])
        return np.asarray(source.columns(x, [line])[0])
    finally:
        variables.wide = before


def _noise(source: Source, x: Array, line: Array) -> Array:
    """Scatter of what float32 adds to the derivatives, over points a tenth of the entries away.

    A mistake adds nearly the same share at all of them, and rounding another number at each.
    """
    added = []
    for move in np.random.default_rng(0).uniform(-1, 1, (PROBES, len(x))):
        z = source.variables.rounded(x + RADIUS * move * source.variables.scale(x))
        try:
            rough, exact = (_sweep(source, z, line, wide=wide) for wide in (False, True))
        except Exception:  # outside of the domain of the function
            continue
        if np.isfinite(rough).all() and np.isfinite(exact).all():
            added.append(rough - exact)
    return np.asarray(np.std(added, axis=0)) if added else np.zeros(())
