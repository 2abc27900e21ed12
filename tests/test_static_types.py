"""Ranks in types: mypy refuses planted errors, accepts what is right, and the checks at run time agree."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core import typing as nt
from nnmath_core.errors import DtypeError, ShapeError

PLANTED = """\
import numpy as np

from nnmath_core.typing import Matrix, Scalar, Tensor3, Tensor4, Vector, matrix, scalar, vector


def predict(w: Matrix, x: Vector) -> Vector:
    return w  # wrong


def single(w: Matrix[np.float32]) -> Scalar[np.float32]:
    return scalar(w.sum())


def sequence(x: Tensor3) -> Tensor3:
    return x


def images(x: Tensor4[np.float64]) -> Tensor4[np.float64]:
    return x


def use(s: Scalar, v: Vector[np.float64], w: Matrix[np.float64], x: Tensor3[np.float64]) -> None:
    predict(v, v)  # wrong
    predict(w, w)  # wrong
    predict(w, s)  # wrong
    predict(x, v)  # wrong
    sequence(w)  # wrong
    images(x)  # wrong
    single(w)  # wrong
    y: Matrix = predict(w, v)  # wrong
    z: Vector[np.float32] = v  # wrong
    predict(vector(w), v)  # wrong
    predict(w, matrix(v))  # wrong
    print(y, z)
"""

RIGHT = """\
import numpy as np

import nnmath_core as nm
from nnmath_core.typing import Array, Matrix, Scalar, Tensor3, Tensor4, Vector
from nnmath_core.typing import matrix, scalar, tensor3, tensor4, vector


@nm.shapes("i o, i -> o")
def predict(w: Matrix, x: Vector) -> Vector:
    return vector(x @ w)


def kept(x: Vector[np.float32]) -> Vector[np.float32]:
    return x


def use(s: Scalar, v: Vector[np.float32], w: Matrix[np.float64], x: Tensor3, y: Tensor4) -> None:
    predict(w, v)
    predict(w.T, v)
    predict(np.asarray([[1.0, 2.0]]), np.asarray([1.0]))
    predict(matrix(x[0]), vector(w[0]))
    single: Vector[np.float32] = kept(v)
    anything: Array = w
    parts: list[Array] = [s, single, anything, x, y]
    scalar(np.asarray(1.0)).item()
    tensor3(y[0]), tensor4(y)
    with nm.shapes.off():
        print(parts, nm.shapes.sizes("i o", w)["i"])
    print(nm.trace_shapes(predict, w, v).ok, nm.graph(predict, w, v).dot)
"""

CREATED = """\
import numpy as np

from nnmath_core.typing import Matrix, Vector


def predict(w: Matrix, x: Vector) -> None: ...


predict(np.zeros((2, 3)), np.ones(3))
predict(np.zeros((2, 3)) + 1.0, np.ones(3))
predict(np.zeros(3), np.ones(3))  # wrong
column = np.ones((3, 1))
predict(np.zeros((2, 3)), column)  # wrong
"""


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    """The lines of each file about which mypy complains, and what it says; one run for all files."""
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed: pip install mypy")
    folder = tmp_path_factory.mktemp("types")
    files = {"planted.py": PLANTED, "right.py": RIGHT, "created.py": CREATED}
    for name, text in files.items():
        (folder / name).write_text(text)
    package = Path(nm.__file__).parents[1]
    environment = {k: v for k, v in os.environ.items() if k != "MYPYPATH"}
    if package.name != "site-packages":
        environment["MYPYPATH"] = str(package)
    options = ["--strict", "--config-file=", "--no-incremental", "--follow-imports=silent"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *files],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = {name: {} for name in files}
    for line in done.stdout.splitlines():
        if m := re.match(r"([\w.]+):(\d+): error: (.*)", line):
            found.get(m[1], {})[int(m[2])] = m[3]
    return found


def marked(text):
    return [k for k, line in enumerate(text.splitlines(), 1) if line.endswith("# wrong")]


@pytest.mark.slow
def test_mypy_refuses_each_planted_error_and_nothing_else(mypy):
    assert sorted(mypy["planted.py"]) == marked(PLANTED)
    assert all("ndarray[tuple[" in text for text in mypy["planted.py"].values())
    assert (
        'Argument 1 to "predict" has incompatible type "ndarray[tuple[int]'
        in mypy["planted.py"][23]
    )


@pytest.mark.slow
def test_mypy_accepts_what_is_right(mypy):
    assert mypy["right.py"] == {}


@pytest.mark.slow
@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.2.0", reason="older stubs of NumPy do not know ranks"
)
def test_mypy_knows_the_ranks_of_created_arrays(mypy):
    assert sorted(mypy["created.py"]) == marked(CREATED)


# ------------------------------------------------------------------------------------------- at run time
RANKS = {"scalar": 0, "vector": 1, "matrix": 2, "tensor3": 3, "tensor4": 4}


@pytest.mark.parametrize("name", RANKS)
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_the_checks_return_what_has_the_rank(name, dtype):
    check, rank = getattr(nt, name), RANKS[name]
    for n in range(6):
        x = np.zeros((2,) * n, dtype)
        if n == rank:
            assert check(x) is x
            assert check(x).ndim == rank
            continue
        with pytest.raises(ShapeError, match=rf"^{name}: `x` must have \w+ ax[ie]s, got shape "):
            check(x)
    for x in (2.0, [1.0], None, np.ndarray):
        with pytest.raises(DtypeError, match=f"^{name}: `x` must be an array, got "):
            check(x)


def test_the_checks_let_traced_values_through():
    x = np.array([1.0, 2.0])
    np.testing.assert_array_equal(nm.grad(lambda x: np.sum(nt.vector(x) ** 2))(x), 2 * x)
    assert nm.vmap(nt.scalar)(x).shape == (2,)
    with pytest.raises(ShapeError, match=r"^matrix: `x` must have 2 axes, got shape \(2,\)"):
        nm.stage(nt.matrix, x)


def test_the_types_can_be_used_in_annotations():
    for kind, rank in zip(
        (nt.Scalar, nt.Vector, nt.Matrix, nt.Tensor3, nt.Tensor4), range(5), strict=True
    ):
        single = kind[np.float32]
        shape, dtype = single.__args__
        assert dtype == np.dtype[np.float32]
        assert shape == (tuple[()] if rank == 0 else tuple[(int,) * rank])
        assert single.__origin__ is np.ndarray
