"""What ``import nnmath_core`` loads, measured in fresh processes."""

import json
import subprocess
import sys

import pytest

LOADED = """
import json, sys
{before}
known = set(sys.modules)
{statement}
print(json.dumps(sorted(set(sys.modules) - known)))
"""


def loaded(statement, before=""):
    """Return the modules that ``statement`` adds to those of ``before``, in a fresh interpreter."""
    code = LOADED.format(before=before, statement=statement)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def others(modules):
    """Return the top-level packages among ``modules`` that are neither ours nor Python's own."""
    first = {name.split(".")[0] for name in modules}
    return first - set(sys.stdlib_module_names) - {"nnmath_core", "cython_runtime"}


def test_import_loads_numpy_and_nothing_else():
    found = {
        name for name in others(loaded("import nnmath_core")) if not name.startswith("_cython")
    }
    assert found <= {"numpy"}


def test_import_leaves_submodules_for_later():
    found = [name for name in loaded("import nnmath_core") if name.startswith("nnmath_core.")]
    assert found == ["nnmath_core._version"]


def test_a_name_loads_its_home():
    found = loaded("import nnmath_core as nm; nm.ShapeError")
    assert "nnmath_core.errors" in found
    assert "nnmath_core.config" not in found


@pytest.mark.parametrize("library", ["cupy", "matplotlib", "sklearn", "pandas", "tqdm"])
def test_no_public_name_loads_an_optional_library(library):
    statement = "import nnmath_core as nm\nfor name in nm.__all__: getattr(nm, name)"
    assert library not in others(loaded(statement))


def test_show_config_does_not_import_cupy():
    statement = "import nnmath_core as nm; nm.show_config(mode='dicts')"
    assert "cupy" not in others(loaded(statement))


TIMED = """
import time, numpy, scipy.special
start = time.process_time()
{statement}
print(time.process_time() - start)
"""


@pytest.mark.parametrize(
    ("what", "statement"),
    [
        ("import", "import nnmath_core"),
        ("every name", "import nnmath_core as nm\nfor name in nm.__all__: getattr(nm, name)"),
    ],
)
def test_import_loads_nothing_large(what, statement, record_property):
    command = [sys.executable, "-c", TIMED.format(statement=statement)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)]
    seconds = min(float(run.stdout) for run in runs)  # other work on the machine only adds
    record_property(f"{what}: milliseconds over NumPy and SciPy", round(1000 * seconds, 1))
    print(f"\n{what}: {1000 * seconds:.1f} ms over NumPy and SciPy")  # shown with pytest -rP
    assert seconds < 0.6  # ten times what is promised: another library, not a busy machine
