"""Draw random programs and let JAX answer them; or check the stored answers against JAX.

::

    python tests/reference/random_programs.py               # draw anew, write random_programs.npz
    python tests/reference/random_programs.py --check       # recompute the answers and compare
    python tests/reference/random_programs.py --check 3 17  # those of two programs
    python tests/reference/random_programs.py --show 17     # print one program (needs no JAX)

Drawing and checking need JAX and SciPy, best in an environment of their own; both take some minutes
for all programs. The tests need the stored file only.

A program is kept when

- its draft was not rejected (`random_program_draft.py`): values are of order one and every
  non-smooth step is away from its kink or tie, so that a change of a few bits changes no branch;
- each answer has a scale between 1e-3 and 1e4, and the gradient of no input is zero;
- JAX agrees with itself to `AGREEMENT` of the scale by two routes: Hessian-vector product in
  reverse over reverse and in forward over reverse, Jacobian in both modes, the adjoint identity of
  its `jvp` and `vjp`, and the vector output of NumPy. A disagreement of 1e-10 is then the fault of
  what is tested and not of the program.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import program_functions  # noqa: F401  (registers its operations)
import random_program_functions  # noqa: F401
from program_operations import (
    COVERAGE,
    OPERATIONS,
    STORED,
    Functions,
    Program,
    distance,
    load,
    numpy_functions,
    save,
)
from random_program_draft import Draft, Rejected
from random_program_proposals import PROPOSALS

SEED = 20261126
PROGRAMS = 300
SHORTEST, LONGEST = 10, 30
AGREEMENT = 1e-12  # between two of JAX's own routes: a hundredth of the tolerance of the tests
CHECK_TOLERANCE = 1e-11  # between the stored answers and those of the JAX that checks them


# Drawing ------------------------------------------------------------------------------------------


def coarse(x: np.ndarray) -> np.ndarray:
    """Round to multiples of 1/1024, which are short and exact in decimal."""
    return np.round(np.asarray(x) * 1024) / 1024


def draw_inputs(rng: np.random.Generator) -> list[np.ndarray]:
    """Draw two or three arrays; the first, whose Hessian is stored, has at most six elements."""
    shapes: list[tuple[int, ...]] = [
        ((), (int(rng.integers(2, 7)),), (2, 2), (2, 3), (3, 2))[rng.integers(5)]
    ]
    for _ in range(rng.integers(1, 3)):
        n, m = (int(k) for k in rng.integers(1, 7, size=2))
        shapes.append(((), (n,), (n, n), (n, m), (n, m))[rng.integers(5)] if n * m <= 20 else (n,))
    return [coarse(rng.uniform(-1.5, 1.5, size=s)) for s in shapes]


def draw(name: str, rng: np.random.Generator, seen: Counter[str]) -> Program:
    """Draw one program, preferring the operations that were seen least."""
    d = Draft(rng, draw_inputs(rng))
    inputs = tuple(d.values)
    length = int(rng.integers(SHORTEST, LONGEST + 1))
    names = list(PROPOSALS)
    own: Counter[str] = Counter()
    for _ in range(400):
        if len(d.steps) + len(d.loose()) + 4 >= length:  # what `finish` adds
            break
        rarity = np.array([1.0 / (1 + seen[n] + 4 * own[n]) ** 2 for n in names])
        name_of_step = names[rng.choice(len(names), p=rarity / rarity.sum())]
        try:
            with d.attempt():
                PROPOSALS[name_of_step](d)
                if len(d.steps) + len(d.loose()) + 4 > LONGEST:
                    raise Rejected("too long")
        except Rejected:
            continue
        own = Counter(step[0] for step in d.steps)
    vector, scalar = finish(d)
    if not SHORTEST <= len(d.steps) <= LONGEST:
        raise Rejected("length")
    return Program(
        name=name,
        inputs=inputs,
        tangents=tuple(coarse(rng.normal(size=x.shape)) for x in inputs),
        cotangent=coarse(rng.normal(size=d.values[vector].shape)),
        steps=d.steps,
        vector=vector,
        scalar=scalar,
        answers={},
    )


def finish(d: Draft) -> tuple[int, int]:
    """Join the loose ends to the vector output; the scalar is a weighted sum of its sines."""
    flat = [
        i if d.values[i].ndim == 1 else d.emit("reshape", i, shape=[-1], method=False)
        for i in d.loose()
    ]
    vector = d.emit("concatenate", *flat, axis=0) if len(flat) > 1 else flat[0]
    bent = d.emit(d.choice(["sin", "arctan"]), vector)
    weighed = d.emit("array_arithmetic", bent, spelling="x*c")
    return vector, d.emit("sum", weighed, axis=None, keepdims=False, method=False)


# Answers ------------------------------------------------------------------------------------------


class _JaxUpdates:
    """JAX's ``x.at[i]``; the derivative of its ``multiply`` wants distinct places."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __getitem__(self, index: Any) -> SimpleNamespace:
        place = self.x.at[index]
        return SimpleNamespace(
            set=place.set,
            add=place.add,
            multiply=lambda v: place.multiply(v, unique_indices=True),
        )


def answers_by_jax(program: Program) -> tuple[dict[str, Any], float]:
    """Return JAX's answers in float64 and the largest disagreement of two routes to them."""
    import jax
    import jax.numpy as jnp
    import jax.scipy.linalg
    import jax.scipy.special

    jax.config.update("jax_enable_x64", True)
    special = SimpleNamespace(
        **{n: f for n, f in vars(jax.scipy.special).items() if callable(f)}
        | {"softmax": jax.nn.softmax, "log_softmax": jax.nn.log_softmax}
    )
    functions = Functions(jnp, special, _JaxUpdates, jax.scipy.linalg)
    f = program.scalar_function(functions)
    g = program.vector_function(functions)
    every = tuple(range(len(program.inputs)))
    gradient = jax.grad(f, argnums=every)

    def reverse_over_reverse(xs, ts):
        return jax.grad(
            lambda *ys: sum(jnp.vdot(a, t) for a, t in zip(gradient(*ys), ts, strict=True)),
            argnums=every,
        )(*xs)

    @jax.jit
    def everything(xs, ts, cotangent):
        vector, pullback = jax.vjp(g, *xs)
        answers = {
            "value": f(*xs),
            "vector": vector,
            "grad": gradient(*xs),
            "jvp": jax.jvp(g, xs, ts)[1],
            "vjp": pullback(cotangent),
            "hvp": jax.jvp(gradient, xs, ts)[1],
            "hessian": jax.jacfwd(jax.jacrev(f))(*xs),
            "jacobian": jax.jacrev(g)(*xs),
        }
        routes = {
            "hvp": reverse_over_reverse(xs, ts),
            "jacobian": jax.jacfwd(g)(*xs),
        }
        return answers, routes

    answers, routes = everything(program.inputs, program.tangents, program.cotangent)
    answers = {
        k: tuple(map(np.asarray, v)) if isinstance(v, tuple) else np.asarray(v)
        for k, v in answers.items()
    }
    spread = 0.0
    for kind, other in routes.items():
        other = tuple(map(np.asarray, other)) if isinstance(other, tuple) else np.asarray(other)
        worst, scale = distance(other, answers[kind])
        spread = max(spread, worst / max(scale, np.finfo(float).tiny))
    left = float(program.cotangent @ answers["jvp"])
    right = sum(float(np.vdot(a, t)) for a, t in zip(answers["vjp"], program.tangents, strict=True))
    spread = max(spread, abs(left - right) / max(abs(left), 1e-3))
    forward, scale = distance(
        np.asarray(program.vector_function(numpy_functions())(*program.inputs)), answers["vector"]
    )
    return answers, max(spread, forward / scale)


def wanted(answers: dict[str, Any]) -> bool:
    """Tell whether the answers are of order one and every input matters."""
    if any(np.abs(g).max() < 1e-3 for g in answers["grad"]):
        return False
    return all(1e-3 <= distance(a, a)[1] <= 1e4 for a in answers.values())


def write() -> None:
    """Draw `PROGRAMS` programs and store them with JAX's answers."""
    import jax

    seen: Counter[str] = Counter()
    programs: list[Program] = []
    worst = 0.0
    attempt = 0
    while len(programs) < PROGRAMS or any(seen[name] < COVERAGE for name in OPERATIONS):
        attempt += 1
        rng = np.random.default_rng([SEED, attempt])
        try:
            program = draw(f"program-{len(programs):03d}", rng, seen)
        except Rejected:
            continue
        try:
            answers, spread = answers_by_jax(program)
        except (NotImplementedError, RuntimeError, TypeError, ValueError) as e:
            print(f"  attempt {attempt}: {type(e).__name__}: {str(e)[:90]}", flush=True)
            continue
        if not wanted(answers) or spread > AGREEMENT:
            print(f"  attempt {attempt}: refused", flush=True)
            continue
        program.answers.update(answers)
        programs.append(program)
        seen.update(step[0] for step in program.steps)
        worst = max(worst, spread)
        print(
            f"{program.name}: {len(program.steps)} steps, routes differ by {spread:.1e}", flush=True
        )
    header = {
        "made_by": "tests/reference/random_programs.py",
        "seed": SEED,
        "answers": f"JAX {jax.__version__}, float64, compiled for the CPU",
        "numpy": np.__version__,
        "largest_disagreement_of_two_routes": worst,
        "occurrences": {name: seen[name] for name in sorted(OPERATIONS)},
    }
    save(header, programs)
    print(
        f"{len(programs)} programs, {sum(seen.values())} steps, {attempt} attempts, "
        f"{STORED.stat().st_size / 1e3:.0f} kB"
    )


def check(numbers: list[int]) -> None:
    """Recompute the stored answers with JAX; exit with a message when one differs."""
    header, programs = load()
    worst = 0.0
    for number in numbers or range(len(programs)):
        answers, _ = answers_by_jax(programs[number])
        for kind, stored in programs[number].answers.items():
            difference, scale = distance(answers[kind], stored)
            worst = max(worst, difference / scale)
            if not difference <= CHECK_TOLERANCE * scale:
                sys.exit(
                    f"random_programs: program {number}, {kind}: JAX differs from the stored "
                    f"answer by {difference:.1e} (scale {scale:.1e})."
                )
    print(
        f"{len(numbers) or len(programs)} programs agree with the stored answers "
        f"({header['answers']}): worst {worst:.1e}"
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Random programs and JAX's answers.")
    parser.add_argument(
        "--check", nargs="*", type=int, metavar="NUMBER", help="compare the stored answers with JAX"
    )
    parser.add_argument(
        "--show", nargs="+", type=int, metavar="NUMBER", help="print stored programs"
    )
    options = parser.parse_args()
    if options.show is not None:
        for number in options.show:
            print(load()[1][number].listing())
    elif importlib.util.find_spec("jax") is None:
        sys.exit("random_programs: JAX is not installed; without it only --show works.")
    elif options.check is not None:
        check(options.check)
    else:
        write()


if __name__ == "__main__":
    main()
