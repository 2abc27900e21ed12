"""What the tests of the gradient check share: readings of a report, and rules that are wrong on purpose."""

import nnmath_core as nm


def found(report, cause):
    """The disagreements of a report with a cause."""
    return [d for d in report.disagreements if d.cause == cause]


def wrong_entries(report):
    """Names of the entries that are called wrong."""
    return {d.argument + (str(list(d.index)) if d.index else "") for d in found(report, "bug")}


def rule(value, derivative, *, fwd=1.0, rev=1.0):
    """A function whose rules in the two modes are off by factors."""
    return nm.custom_rule(
        value,
        jvp=lambda p, t: derivative(p[0]) * t[0] * fwd,
        vjp=lambda p, y, g: (derivative(p[0]) * g * rev,),
    )
