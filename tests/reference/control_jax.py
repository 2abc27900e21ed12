"""Let JAX answer random programs with control flow.

::

    python tests/reference/control_jax.py           # write control_jax.json
    python tests/reference/control_jax.py --check   # recompute and compare

Needs JAX, best in an environment of its own, and some minutes: compiling takes them, and XLA_FLAGS=
--xla_backend_optimization_level=0 makes them fewer. The tests need the stored file only.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import control_programs as programs
import numpy as np

STORED = Path(__file__).with_suffix(".json")
PROGRAMS, LOOPS = 14, 8


def answers(seed: int, *, loops: bool) -> dict[str, Any]:
    """Value and derivatives of one program at its points."""
    import jax
    import jax.numpy as jnp

    flow = SimpleNamespace(
        cond=jax.lax.cond, switch=jax.lax.switch, scan=jax.lax.scan,
        while_loop=jax.lax.while_loop, fori_loop=jax.lax.fori_loop,
    )  # fmt: skip
    f = programs.function(programs.draw(seed, loops=loops), flow, jnp)
    v, x = programs.direction(seed), programs.points(seed)
    push = lambda g: lambda x: jax.jvp(g, (x,), (v,))[1]  # noqa: E731
    kinds = {"value": f, "jvp": push(f), "second": push(push(f))}
    if not loops:
        kinds |= {"grad": jax.grad(f), "hvp": push(jax.grad(f))}
    every = jax.jit(lambda x: {kind: g(x) for kind, g in kinds.items()})  # one compilation
    rows = [every(point) for point in x]
    return {kind: np.stack([row[kind] for row in rows]).tolist() for kind in kinds}


def main() -> None:
    """Write the file, or compare with it."""
    import jax

    jax.config.update("jax_enable_x64", True)
    found = {
        "made_by": "tests/reference/control_jax.py",
        "answers": f"JAX {jax.__version__}, float64, compiled for the CPU",
        "programs": [answers(k, loops=False) for k in range(PROGRAMS)],
        "with_loops": [answers(k, loops=True) for k in range(1000, 1000 + LOOPS)],
    }
    if "--check" in sys.argv:
        stored = json.loads(STORED.read_text())
        worst = 0.0
        for group in ("programs", "with_loops"):
            for a, b in zip(found[group], stored[group], strict=True):
                for kind, value in a.items():
                    scale = max(1.0, np.abs(b[kind]).max())
                    worst = max(worst, np.abs(np.subtract(value, b[kind])).max() / scale)
        print(f"largest difference, relative to the scale: {worst:.1e}")
        sys.exit(not worst < 1e-11)
    lines = json.dumps(found).replace('{"value"', '\n{"value"')
    STORED.write_text(lines + "\n")


if __name__ == "__main__":
    main()
