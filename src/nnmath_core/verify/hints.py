"""What a wrong derivative looks like: a sign, a factor, a transpose, a missing term."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nnmath_core.typing import Array
from nnmath_core.verify.compared import Compared

CLOSE = 1e-4  # relative, at most: by which two numbers may differ that are taken for one


def hint_for(
    c: Compared, component: Callable[[int], tuple[str, tuple[int, ...]]], b: int, r: int
) -> str:
    """Say in a few words how a wrong number differs, or nothing."""
    given, expected = float(c.given[b, r]), float(c.expected[b, r])
    if not np.isfinite(expected) or expected == 0:
        return ""
    wrong = c.bad[:, r]
    if c.entries is not None and _is_transposed(c, component, b, r):
        return "it looks transposed"
    if given == 0:
        return "it is zero: a term is missing, or a derivative is stopped on the way"
    close = min(CLOSE, 0.1 * abs(given / expected - 1))
    ratio = given / expected
    factor = next(
        (f for f in (-1.0, 2.0, 0.5, -2.0, -0.5) if abs(ratio / f - 1) <= min(close, CLOSE)), None
    )
    same = np.abs(c.given[wrong, r] - ratio * c.expected[wrong, r])
    if factor is None and not (
        wrong.sum() > 1 and np.all(same <= close * np.abs(c.given[wrong, r]))
    ):
        return ""
    if factor == -1.0:
        return "the sign is wrong"
    words = {2.0: "twice", 0.5: "half", -2.0: "minus twice", -0.5: "minus half"}
    if factor is not None:
        return f"it is {words[factor]} what it should be"
    return f"all {int(wrong.sum())} wrong entries are {ratio:.6g} times what they should be"


def _is_transposed(
    c: Compared, component: Callable[[int], tuple[str, tuple[int, ...]]], b: int, r: int
) -> bool:
    """Whether the wrong entries of a matrix are those of its transpose."""
    assert c.entries is not None
    name, index = component(int(c.entries[b]))
    if len(index) != 2 or index[0] == index[1]:
        return False
    unit = c.near.unit[c.entries]
    table: dict[tuple[int, ...], tuple[float, float]] = {}
    for k, i in enumerate(c.entries):
        other, at = component(int(i))
        if other == name:
            table[at] = (float(c.given[k, r] / unit[k]), float(c.expected[k, r] / unit[k]))
    pairs = [(table[i, j][0], table[j, i][1]) for i, j in table if (j, i) in table and i != j]
    if len(pairs) < 2:
        return False
    a: Array = np.array(pairs)
    return bool(np.all(np.abs(a[:, 0] - a[:, 1]) <= CLOSE * np.abs(a).max()))
