"""The shape of the project: top level, import order, documented names, kernels, size."""

import ast
import importlib
import inspect
import re
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.autodiff.ops.conventions import methods
from nnmath_core.device import Backend

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "nnmath_core"
EXTENSIONS = ROOT / "src" / "_ext"

TOP_LEVEL = {
    *("meson.build", "pyproject.toml", "README.md", "src", "tests", "bench"),  # the project
    *(".ci", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "docs", "meson.options"),  # tools
    "DEVELOPERS.md",
}

# Imports go down only: a module imports from its own package and from those on its left.
ORDER = (
    "_version _build_info errors typing checks _ext device config autodiff "
    "numpy linalg signal special random program solvers verify "
    "io nn optim stats spectral info ot prob kernels curvature dynamics "
    "landscape geometry bayes theory calculus plot report study cli __main__"
).split()

SECTIONS = "Parameters Returns Yields Attributes Raises Notes References Examples".split()


def test_top_level_has_these_entries_and_no_others():
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    found = {path.split("/")[0] for path in listing.stdout.splitlines()}
    assert found <= TOP_LEVEL


def test_ignored_files_are_not_tracked():
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    assert listing.stdout == ""


# ---------------------------------------------------------------------------- import order


def module_name(path):
    """nnmath_core/nn/layers.py -> nn.layers; a package's __init__ is the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path, name):
    """Yield line and module or name of each import of ours in a file, also in functions."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top, _, rest = alias.name.partition(".")
                if top == "nnmath_core":
                    yield node.lineno, rest
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".")
            if node.level:
                base = [
                    "nnmath_core",
                    *package[: len(package) + 1 - node.level],
                    *filter(None, base),
                ]
            if base[0] == "nnmath_core":
                for alias in node.names:
                    yield node.lineno, ".".join([*base[1:], alias.name])


def home(target):
    """Return the longest module that ``target`` names: a module or a name in one."""
    while target and target not in MODULES:
        target = target.rpartition(".")[0]
    return target


def test_every_module_has_its_place_in_the_order():
    places = {name.split(".")[0] for name in MODULES} - {"__init__"}
    assert places <= set(ORDER)


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"__init__"}))
def test_imports_go_down_only(name):
    place = ORDER.index(name.split(".")[0])
    for line, target in imported(MODULES[name], name):
        first = target.split(".")[0]
        assert first in ORDER, f"line {line} imports the whole of nnmath_core, which is above it"
        assert ORDER.index(first) <= place, f"line {line} imports {target}, which is above it"


@pytest.mark.parametrize("path", sorted(EXTENSIONS.rglob("*.p[yx][xdi]")), ids=lambda p: p.name)
def test_compiled_modules_import_only_what_is_below_them(path):
    allowed = ORDER[: ORDER.index("_ext") + 1]
    text = path.read_text()
    for first in re.findall(r"^\s*(?:from|import|cimport) nnmath_core\.?(\w*)", text, flags=re.M):
        assert first in allowed


def test_no_module_imports_itself_in_a_circle():
    below = {
        name: {home(target) for _, target in imported(path, name)} - {"", name}
        for name, path in MODULES.items()
        if name != "__init__"
    }
    finished, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in finished:
            path.append(name)
            for target in sorted(below.get(name, ())):
                visit(target)
            finished.add(path.pop())

    for name in below:
        visit(name)


# ------------------------------------------------------------------- the documented contract


# Namespaces whose names, signatures and meaning are NumPy's or SciPy's: a summary is enough there.
MIRRORS = {"nnmath_core.numpy", "nnmath_core.linalg", "nnmath_core.signal", "nnmath_core.special"}


def public_names():
    """Yield where it is listed and the value, for the top level and the public submodules."""
    seen = set()
    for module in [nm, *(getattr(nm, name) for name in nm._SUBMODULES)]:
        for name in module.__all__:
            value = getattr(module, name)
            ours = getattr(value, "__module__", None) or ""
            if callable(value) and ours.startswith("nnmath_core") and id(value) not in seen:
                seen.add(id(value))
                yield module.__name__, name, value


PUBLIC = [
    pytest.param(module in MIRRORS, value, id=f"{module}.{name}".removeprefix("nnmath_core."))
    for module, name, value in public_names()
]


def sections_of(doc):
    """Map the sections of a numpydoc docstring to their text, in order."""
    doc = re.sub(r"\A\w+\(.*\n+", "", inspect.cleandoc(doc))  # the signature of a compiled function
    parts = re.split(r"^([A-Z][A-Za-z ]+)\n-{3,}\n", doc, flags=re.M)
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def parameters_of(value):
    try:
        signature = inspect.signature(value)
    except ValueError:
        return []
    return [name for name in signature.parameters if not name.startswith("_") and name != "self"]


@pytest.mark.parametrize(("mirror", "value"), PUBLIC)
def test_docstring_keeps_the_contract(mirror, value):
    assert value.__doc__, "no docstring"
    sections = sections_of(value.__doc__)
    summary = sections[""].split("\n\n")[0]
    assert summary.endswith(".")
    assert "\n" not in summary, "the first paragraph is one line"
    assert set(sections) - {""} <= set(SECTIONS)
    order = [name for name in SECTIONS if name in sections]
    assert list(sections)[1:] == order, "sections are out of order"
    if mirror or isinstance(value, type):
        return
    parameters = parameters_of(value)
    if parameters:
        rows = re.findall(
            r"^(\*{0,2}\w[\w, *]*)(?: :|$)", sections.get("Parameters", ""), flags=re.M
        )
        named = [name.strip(" *") for row in rows for name in row.split(",")]
        assert named == parameters
    assert "Returns" in sections or "Yields" in sections or returns_nothing(value)
    assert "Examples" in sections
    assert ">>>" in sections["Examples"]


def returns_nothing(value):
    return inspect.signature(value).return_annotation in (None, "None", "NoReturn")


@pytest.mark.parametrize(("mirror", "value"), PUBLIC)
def test_signature_is_explicit(mirror, value):
    if mirror or (isinstance(value, type) and issubclass(value, BaseException)):
        return
    try:
        parameters = inspect.signature(value).parameters.values()
    except ValueError:
        return
    assert all(p.kind is not p.VAR_KEYWORD for p in parameters), "**kwargs swallow typing errors"
    for p in parameters:
        if inspect.isfunction(value):  # compiled functions have a stub
            assert p.annotation is not p.empty, f"`{p.name}` has no type"
        if isinstance(p.default, bool):
            assert p.kind is p.KEYWORD_ONLY, f"the flag `{p.name}` can be given by position"


# ----------------------------------------------------------------------------- public names


def test_lists_of_public_names_agree():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.asname or alias.name for node in block.body for alias in node.names}
    assert nm.__all__ == sorted(nm.__all__)
    assert set(nm.__all__) == {*nm._HOME_OF, *nm._SUBMODULES, "__version__"}
    assert typed == {*nm._HOME_OF, *nm._SUBMODULES}
    assert dir(nm) == nm.__all__
    for name in nm.__all__:
        assert getattr(nm, name) is not None


def test_numpy_lists_all_its_names():
    tree = ast.parse((PACKAGE / "numpy" / "__init__.py").read_text())
    written = set(names_of(tree.body)) | {
        alias.asname or alias.name
        for statement in tree.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    written |= {
        target.id
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
    }
    assert nm.numpy.__all__ == sorted(name for name in written if not name.startswith("_"))
    assert dir(nm.numpy) == nm.numpy.__all__
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                assert alias.asname is not None, f"write `{alias.name} as {alias.name}`"


@pytest.mark.parametrize("path", sorted((PACKAGE / "_ext").glob("*.pyi")), ids=lambda p: p.stem)
def test_stub_lists_the_names_of_the_compiled_module(path):
    module = importlib.import_module(f"nnmath_core._ext.{path.stem}")
    stub = names_of(ast.parse(path.read_text()).body)
    compiled = {name: v for name, v in public(module).items() if is_made_in(module, v)}
    assert set(stub) == set(compiled)
    for name, value in compiled.items():
        if isinstance(value, type):
            # a tracer has NumPy's methods too, which Python hands in
            installed = {*methods, "sum"} if name == "Tracer" else set()
            assert set(names_of(stub[name].body)) == set(public(value)) - installed, name


def names_of(body):
    """Map the public names that statements of a stub define to the statements."""
    named = {
        **{s.target.id: s for s in body if isinstance(s, ast.AnnAssign)},
        **{s.name: s for s in body if isinstance(s, (ast.FunctionDef, ast.ClassDef))},
    }
    return {name: statement for name, statement in named.items() if not name.startswith("_")}


def public(owner):
    return {name: v for name, v in vars(owner).items() if not name.startswith("_")}


def is_made_in(module, value):
    """Whether a function or class, or the class of another value, is defined in the module."""
    home = getattr(value, "__module__", None) or type(value).__module__
    return home == module.__name__


def test_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match=r"^module 'nnmath_core' has no attribute 'gard'$"):
        nm.gard  # noqa: B018


# ------------------------------------------------------------------------- kernels and files

# of kinds.def, instructions of the executor, there are no wrappers; lowered programs call them
FAMILIES = sorted(path.parent for path in EXTENSIONS.glob("*/*.def") if path.name != "kinds.def")


@pytest.mark.parametrize("folder", FAMILIES, ids=lambda folder: folder.name)
def test_every_kernel_is_wrapped_in_its_door(folder):
    door = folder / f"_{folder.name}.pyx"
    if not door.exists():
        assert folder.name in ("attention", "elementwise", "gemm", "linalg"), (
            "only the core, the executor and the iterations call these, from C"
        )
        return
    loops = re.findall(r"^L\((\w+),", (folder / f"{folder.name}.def").read_text(), flags=re.M)
    if loops:  # called by their addresses
        module = importlib.import_module(f"nnmath_core._ext._{folder.name}")
        assert set(loops) <= set(module.names())
        assert all(module.loop_address(name, np.dtype("f4").num) for name in loops)
        return
    kernels = re.findall(r"^K\((\w+),", (folder / f"{folder.name}.def").read_text(), flags=re.M)
    wrapped = re.findall(r"^def (\w+)\(", door.read_text(), flags=re.M)
    assert kernels
    assert set(kernels) <= set(wrapped)
    assert all(hasattr(Backend, kernel) for kernel in kernels)
    assert kernels_in_bench(kernels), "no row of bench/ runs a kernel of this family"
    stub = (PACKAGE / "_ext" / f"_{folder.name}.pyi").read_text()
    assert set(re.findall(r"^def (\w+)\(", stub, flags=re.M)) == set(wrapped)


def kernels_in_bench(kernels):
    rows = [path.read_text() for path in (ROOT / "bench").glob("*.py")]
    return [kernel for kernel in kernels if any(f".{kernel}(" in row for row in rows)]


def test_no_kernel_file_names_a_dtype_or_allocates():
    words = r"\b(float|double|malloc|calloc|free|printf|pthread|omp parallel)\b"
    for path in EXTENSIONS.glob("*/*.inc.c"):
        code = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.S)
        assert not re.findall(words, code), path.name


def test_no_build_uses_fast_math():
    for path in (ROOT / "meson.build", EXTENSIONS / "meson.build", ROOT / "pyproject.toml"):
        lines = [
            line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")
        ]
        assert not re.search(r"fast-math|-Ofast|march=native", "\n".join(lines))


ABOUT_600 = 660


def test_files_stay_short():
    long = {
        str(path.relative_to(ROOT)): count
        for folder in (PACKAGE, EXTENSIONS)
        for path in folder.rglob("*")
        if path.suffix in {".py", ".pyx", ".pxi", ".pxd", ".c", ".h", ".cu", ".cuh"}
        and (count := path.read_bytes().count(b"\n")) > ABOUT_600
    }
    assert not long


def test_wheel_stays_below_five_megabytes():
    folder = Path(nm.__file__).parent
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) < 5e6
