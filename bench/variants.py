"""The untuned variants: each row a second time on a network or a size that nobody tuned.

Only ours and the variant's own floor are measured. The ratio of the two may be at most 1.15 times that of the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ODD = (700, 130, 11)

VARIANTS: dict[str, dict[str, Mapping[str, Any]]] = {
    "mlp-784-128-10": {
        "widths 700-130-11": {"widths": ODD},
        "gelu for relu": {"activation": "gelu"},
        "a learnt temperature in the loss": {"temperature": True},
        "x.T instead of x": {"columns": True},
        "one more norm": {"norm": True},
    },
    "mlp-784-512-512-10": {
        "one skip connection": {"skip": True},
        "widths 700-500-300-11, gelu for relu": {
            "widths": (700, 500, 300, 11),
            "activation": "gelu",
        },
    },
    "mlp-784-2048-2048-10": {
        "one skip connection, gelu for relu": {"skip": True, "activation": "gelu"}
    },
    "transformer-block": {
        "one more norm": {"norm": True},
        "relu for gelu, d 240, feed-forward 900": {"relu": True, "d": 240, "ff": 900},
    },
    "layer-norm": {"rows of 1100": {"shape": (4096, 1100)}, "one more norm": {"twice": True}},
    "cross-entropy-4096x1000": {"a learnt temperature in the loss": {"temperature": True}},
    "cross-entropy-512x32000": {"a learnt temperature in the loss": {"temperature": True}},
    "gelu": {"the exact GELU, by erf": {"exact": True}},
    "adamw-1e7": {"AdamW as a formula in plain NumPy": {"formula": True}},
    "adamw-200x1e4": {"AdamW as a formula in plain NumPy": {"formula": True}},
    "gradient-check": {"one skip connection": {"widths": (64, 32, 32, 10), "skip": True}},
    "gradient-check-projected": {"gelu for tanh": {"activation": "gelu"}},
    "hvp": {
        "widths 700-130-11": {"widths": ODD},
        "gelu for tanh, x.T instead of x": {"activation": "gelu", "columns": True},
    },
    "hvp-frozen": {"widths 700-130-11": {"widths": ODD}, "one more norm": {"norm": True}},
    "hessian-eigenvalues": {"widths 700-130-11": {"widths": ODD}},
    "lanczos-100": {"widths 700-130-11": {"widths": ODD}},
    "dense-hessian": {
        "widths 15-13-5, gelu for tanh": {"widths": (15, 13, 5), "activation": "gelu"}
    },
    "gradient-norms": {
        "widths 700-130-11": {"widths": ODD},
        "gelu for tanh, a learnt temperature": {"activation": "gelu", "temperature": True},
    },
    "ntk": {
        "widths 60-500-500-1, one skip connection": {"widths": (60, 500, 500, 1), "skip": True}
    },
    "power-iteration": {"x.T instead of x": {"turned": True}},
}
