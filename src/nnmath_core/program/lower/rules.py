"""The table of lowering rules, by primitive name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["RULES", "lowers"]

RULES: dict[str, Callable[..., Any]] = {}


def lowers(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``rule(builder, equation)`` for some primitives; one that returns NotImplemented has emitted nothing."""

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            if name in RULES:
                raise TypeError(f"lowers: {name} has a rule")
            RULES[name] = rule
        return rule

    return register
