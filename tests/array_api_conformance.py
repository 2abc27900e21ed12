"""Runs the conformance suite of the array API standard, data-apis/array-api-tests, on `nnmath_core.numpy`.

The suite is in no package registry. With a checkout, its submodule included:

    make array-api CHECKOUT=/path/to/array-api-tests

or ``NNMATH_ARRAY_API_TESTS=/path/to/array-api-tests python -m pytest -m array_api``. It has not been run yet.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from array_api_standard import VERSION

VARIABLE = "NNMATH_ARRAY_API_TESTS"
CHECKOUT = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None
EXAMPLES = 5

# NumPy's floor division at infinities differs from the standard's table, which lets libraries return NaN.
_FLOORED = (
    "x1_i is +infinity and isfinite(x2_i) and x2_i > 0) -> +infinity",
    "x1_i is +infinity and isfinite(x2_i) and x2_i < 0) -> -infinity",
    "x1_i is -infinity and isfinite(x2_i) and x2_i > 0) -> -infinity",
    "x1_i is -infinity and isfinite(x2_i) and x2_i < 0) -> +infinity",
    "isfinite(x1_i) and x1_i > 0 and x2_i is -infinity) -> -0",
    "isfinite(x1_i) and x1_i < 0 and x2_i is +infinity) -> -0",
)
_CALLED = (("binary", "floor_divide"), ("binary", "__floordiv__"), ("iop", "__ifloordiv__"))
XFAILS = [
    f"array_api_tests/test_special_cases.py::test_{test}[{name}({case}]"
    for (test, name), case in itertools.product(_CALLED, _FLOORED)
]


def require_checkout(checkout: Path) -> None:
    """Refuse a folder that is no checkout of the suite, or one without its submodule."""
    if not (checkout / "array_api_tests").is_dir():
        raise FileNotFoundError(
            f"{checkout} has no folder array_api_tests: give a checkout of array-api-tests."
        )
    if not (checkout / "array-api" / "spec" / VERSION).is_dir():
        raise FileNotFoundError(
            f"{checkout} has no folder array-api/spec/{VERSION}: check out its submodule, too."
        )


def command(
    checkout: Path, xfails: Path, examples: int = EXAMPLES
) -> tuple[list[str], dict[str, str]]:
    """The command line, to be run in the checkout, and its environment."""
    line = [sys.executable, "-m", "pytest", "array_api_tests/", "-q", "--ci"]
    line += ["--max-examples", str(examples), "--disable-deadline", "--xfails-file", str(xfails)]
    line += ["-W", "ignore", "-p", "no:cacheprovider"]
    environment = {
        **os.environ,
        "ARRAY_API_TESTS_MODULE": "nnmath_core.numpy",
        "ARRAY_API_TESTS_VERSION": VERSION,
        "ARRAY_API_TESTS_XFAIL_MARK": "skip",
    }
    return line, environment


def run(checkout: Path, examples: int = EXAMPLES, **options: object) -> subprocess.CompletedProcess:
    """Run the suite; pytest's exit status is 0 when everything passed."""
    require_checkout(checkout)
    with tempfile.TemporaryDirectory() as folder:
        xfails = Path(folder) / "xfails.txt"
        xfails.write_text("\n".join(XFAILS) + "\n")
        line, environment = command(checkout, xfails, examples)
        return subprocess.run(line, cwd=checkout, env=environment, check=False, **options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--max-examples", type=int, default=EXAMPLES)
    arguments = parser.parse_args()
    sys.exit(run(arguments.checkout, arguments.max_examples).returncode)
