"""Numbers as a reader takes them in: three digits, powers of ten spelt, and never a bare NaN."""

from __future__ import annotations

import math

__all__ = ["interval", "percent", "short"]

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def short(x: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits.

    Examples
    --------
    >>> short(0.012345), short(-1.5e-9), short(123456.0), short(2.0), short(None)
    ('0.0123', '−1.5 × 10⁻⁹', '1.23 × 10⁵', '2', 'not measured')
    """
    if x is None:
        return "not measured"
    if not math.isfinite(x):
        return "infinite" if math.isinf(x) else "undefined"
    sign, size = ("−" if x < 0 else ""), abs(x)
    if size == 0:
        return "0"
    mantissa, exponent = f"{size:.{digits - 1}e}".split("e")
    power = int(exponent)
    if -3 <= power < 4:
        places = max(0, digits - 1 - power)
        text = f"{round(size, digits - 1 - power):.{places}f}"
        return sign + (text.rstrip("0").rstrip(".") if "." in text else text)
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{sign}{mantissa} × 10{str(power).translate(_SUPERSCRIPT)}"


def percent(share: float, digits: int = 1) -> str:
    """Return a share in percent.

    Examples
    --------
    >>> percent(0.97531)
    '97.5 %'
    """
    return f"{100 * share:.{digits}f} %"


def interval(low: float, high: float, digits: int = 1) -> str:
    """Return an interval of shares in percent.

    Examples
    --------
    >>> interval(0.961, 0.984)
    '96.1 to 98.4 %'
    """
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f} %"
