"""The command ``nnmath``: options in, exit status out, and each failure in one sentence."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import NoReturn

from nnmath_core._version import __version__
from nnmath_core.errors import NnmathError
from nnmath_core.report.numbers import interval, percent
from nnmath_core.study import study

__all__ = ["main"]

FAILED, MISUSED, INTERRUPTED = 1, 2, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(MISUSED, f"{self.prog}: {message}; `{self.prog} --help` lists the options\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nnmath", description="The mathematics of neural networks.")
    parser.add_argument("--version", action="version", version=f"nnmath-core {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    command = commands.add_parser(
        "study",
        help="train and examine a network on data, and write a report",
        description="Train and examine a network on labelled data: accuracy, gradient check, optimizers, "
        "layers, Hessian eigenvalues. Writes results.json and report.html.",
    )
    command.add_argument(
        "--data",
        metavar="NAME|FILE.npz",
        help="digits, mnist, mnist1d, or a file of features X and labels y; default: what the model is for",
    )
    command.add_argument(
        "--model",
        metavar="NAME|MODULE:FUNCTION",
        help="cnn (for mnist), transformer (for mnist1d), or FUNCTION(X, y, *, rng) that returns a model, which "
        "maps rows to logits; default: one hidden layer over five splits, with five optimizers",
    )
    command.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1; default: cpu")
    command.add_argument("--out", default="study", metavar="DIR", help="default: study")
    command.add_argument("--seed", default=0, type=int, help="of all random numbers; default: 0")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0: done. 1: it could not be done, or gradients are wrong. 2: unknown options. 130: interrupted.
    """
    options = _parser().parse_args(argv)
    start = time.perf_counter()
    try:
        results = study(
            data=options.data,
            model=options.model,
            device=options.device,
            out=options.out,
            seed=options.seed,
            progress=True,
        )
    except (NnmathError, OSError) as error:
        print(f"nnmath: {_one_line(error)}", file=sys.stderr)
        return FAILED
    except MemoryError:
        print("nnmath: study: the memory of this machine is not enough.", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("nnmath: interrupted; nothing was written.", file=sys.stderr)
        return INTERRUPTED
    accuracy, gradients, surface = (results[k] for k in ("accuracy", "gradients", "surface"))
    folder = os.path.join(options.out, "")
    seconds = time.perf_counter() - start
    right = f"{percent(accuracy['mean'])} of new examples ({interval(*accuracy['interval'])})"
    for name, words in (
        ("accuracy", right),
        ("gradients", gradients["verdict"]),
        ("surface", surface["verdict"]),
        ("written", f"{folder}report.html, {folder}results.json ({seconds:.0f} s)"),
    ):
        print(textwrap.fill(words, 110, initial_indent=f"{name:<11}", subsequent_indent=" " * 11))
    if not gradients["ok"]:
        print("nnmath: study: the gradients disagree with differences.", file=sys.stderr)
        return FAILED
    return 0


def _one_line(error: BaseException) -> str:
    """Return what an error says, on one line; the system's errors without their number."""
    if isinstance(error, OSError) and not isinstance(error, NnmathError) and error.strerror:
        file = f": {error.filename!r}" if error.filename else ""
        return f"{error.strerror}{file}"
    return " ".join(str(error).split())
