"""The table of lowering rules, by primitive name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["ANY", "RULES", "lowers", "rule_of"]

RULES: dict[str, Callable[..., Any]] = {}


ANY = "any primitive"
"""The name of the rule for primitives that have none of their own."""


def rule_of(primitive: Any) -> Callable[..., Any] | None:
    """The rule of a primitive, None where there is none."""
    return RULES.get(primitive.name) or RULES.get(ANY)


def lowers(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``rule(builder, equation)`` for some primitives; one that returns NotImplemented has emitted nothing."""

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            if name in RULES:
                raise TypeError(f"lowers: {name} has a rule")
            RULES[name] = rule
        return rule

    return register
