"""Every name and keyword that a device operation uses exists in CuPy, without CuPy or a GPU.

Three readings of the same code are compared with ``reference/cupy_surface.json``, which
``reference/cupy_surface.py`` has written from the CuPy wheel:

- the syntax trees of ``device`` and of the primitives: ``be.xp.<name>``, ``cupy.<name>``,
  ``be.special.<name>`` with their keywords and number of arguments, and ``forward="<name>"``;
- the registry: the forward name of every primitive with the parameters of its samples;
- a run: every primitive works its samples on a backend whose namespaces are NumPy's and SciPy's
  behind a guard that knows only what CuPy has. That sees names that are computed.

Where CuPy is importable, the file itself is compared with it.
"""

import ast
import importlib
import importlib.util
import json
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.special

import nnmath_core.autodiff.ops
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.device import CPU, Backend, Device
from nnmath_core.errors import DeviceError

REFERENCE = Path(__file__).parent / "reference"
PACKAGE = Path(__file__).parents[1] / "src" / "nnmath_core"
SOURCES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if re.search(r"\b(xp|cupy|cupyx|special)\.", path.read_text())
)

# How a chain of attributes names a CuPy module: its first or second link.
ROOTS = {"xp": "cupy", "cupy": "cupy", "special": "cupyx.scipy.special", "_cupyx": "cupyx"}
HOST_MODULES = {"np", "scipy"}  # `scipy.special` is not the special of a backend


class Surface:
    """What CuPy has, as read from its wheel."""

    def __init__(self, found):
        self.version, self.modules, self.ufunc = found["cupy"], found["modules"], found["ufunc"]

    def find(self, path):
        """Return (complaint or None, parameters or None) of a dotted path that begins at a root."""
        module = max((root for root in ROOTS.values() if under(path, root)), key=len)
        entry, seen = None, module
        for name in path[len(module) + 1 :].split(".") if path != module else []:
            if module is None:  # an attribute of a function or a value
                if entry and entry.startswith("ufunc") and name not in self.ufunc:
                    return f"{seen} has no {name} in CuPy {self.version}", None
                entry = None
                continue
            if name.startswith("__"):  # a module's own, as __version__
                return None, None
            if name not in self.modules[module]:
                return f"{module}.{name} does not exist in CuPy {self.version}", None
            entry, seen = self.modules[module][name], f"{module}.{name}"
            module = seen if seen in self.modules else None
        return None, entry

    def complaints(self, path, call=None):
        """Return what is wrong with a use; ``call`` is (number of arguments or None, keywords)."""
        wrong, entry = self.find(path)
        if wrong:
            return [wrong]
        if call is None or entry in (None, "?"):
            return []
        count, keywords = call
        words = entry.removeprefix("ufunc ").split()
        positional, named = positions_and_names(words)
        found = [
            f"{path} has no keyword {name!r} in CuPy {self.version}"
            for name in keywords
            if named is not None and name not in named
        ]
        if count is not None and positional is not None and count > positional:
            found.append(f"{path} takes {positional} arguments in CuPy {self.version}, not {count}")
        return found


def under(path, module):
    return path == module or path.startswith(module + ".")


def positions_and_names(words):
    """Return the number of positional parameters and the names of keywords; None: any."""
    star = next((i for i, word in enumerate(words) if word.startswith("*")), len(words))
    many = star < len(words) and words[star] not in ("*",) and not words[star].startswith("**")
    positional = [word for word in words[:star] if word != "/"]
    named = words[words.index("/") + 1 :] if "/" in words else words
    if any(word.startswith("**") for word in words):
        return None if many else len(positional), None
    return None if many else len(positional), {w for w in named if not w.startswith("*")}


# ------------------------------------------------------------------------------ syntax trees


def links(node):
    """Return the names of ``a.b.c``, or None for another expression."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else None


def cupy_path(node, aliases):
    """Return the dotted CuPy path of an expression, or None."""
    names = links(node)
    if names is None:
        return None
    if names[0] in aliases:
        return ".".join([aliases[names[0]], *names[1:]])
    for i, name in enumerate(names[:2]):
        if name in ROOTS and names[0] not in HOST_MODULES:
            return ".".join([ROOTS[name], *names[i + 1 :]])
    return None


def aliases_of(tree):
    """Return the local names of CuPy's modules, as ``runtime = cupy.cuda.runtime``."""
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = zip(target.elts, value.elts, strict=False)
            for left, right in pairs:
                path = cupy_path(right, {})
                if isinstance(left, ast.Name) and path is not None and "." in path:
                    aliases[left.id] = path
    return aliases


def arguments(call):
    """Return (number of positional arguments, keywords); None where a star hides the number."""
    starred = any(isinstance(a, ast.Starred) for a in call.args)
    return None if starred else len(call.args), [k.arg for k in call.keywords if k.arg]


def uses(text):
    """Yield (line, path, call or None) for every use of CuPy in a source text."""
    tree = ast.parse(text)
    aliases = aliases_of(tree)
    calls = {id(n.func): n for n in ast.walk(tree) if isinstance(n, ast.Call)}
    inner = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            path = cupy_path(node, aliases)
            if path is not None and isinstance(node.ctx, ast.Load):
                call = calls.get(id(node))
                yield node.lineno, path, None if call is None else arguments(call)
    for call in calls.values():
        yield from forward_uses(call)


def forward_uses(call):
    """Yield the forward name of a declaration: of ``forward=``, else the name of a Primitive."""
    given = {k.arg: k.value for k in call.keywords}
    forward = given.get("forward")
    if forward is None and (links(call.func) or [""])[-1] == "Primitive" and call.args:
        forward = call.args[0]
    if isinstance(forward, ast.Constant) and isinstance(forward.value, str):
        path = forward_path(forward.value)
        if path is not None:
            yield call.lineno, path, None


def forward_path(name):
    """Return the CuPy path of a forward name, or None for a method of the backend."""
    if name in Backend.operations:
        return None
    root, _, rest = name.partition(".")
    return f"cupyx.scipy.special.{rest}" if root == "special" else f"cupy.{name}"


def complaints_about(text, surface):
    return [
        f"{line}: {wrong}"
        for line, path, call in uses(text)
        for wrong in surface.complaints(path, call)
    ]


# ------------------------------------------------------------------------------------ a run


class Guard:
    """A NumPy or SciPy namespace that knows only the names and keywords of CuPy's."""

    def __init__(self, target, path, surface):
        self._target, self._path, self._surface = target, path, surface

    def __getattr__(self, name):
        path = f"{self._path}.{name}"
        wrong, _ = self._surface.find(path)
        assert wrong is None, wrong
        value = getattr(self._target, name)
        if isinstance(value, type) or not (callable(value) or isinstance(value, ModuleType)):
            return value
        return Guard(value, path, self._surface)

    def __call__(self, *args, **keywords):
        wrong = self._surface.complaints(self._path, (len(args), list(keywords)))
        assert not wrong, wrong
        plain = self._path == "cupy.where" and isinstance(args[0], bool | np.generic)
        assert not plain, "cupy.where takes no condition that is a plain boolean"
        return self._target(*args, **keywords)


class GuardedBackend(Backend):
    """The meaning of every operation, on host arrays, with CuPy's names."""

    name = "guarded"
    device = CPU

    def __init__(self, surface):
        self.xp = Guard(np, "cupy", surface)
        self._special = Guard(scipy.special, "cupyx.scipy.special", surface)

    @property
    def special(self):
        return self._special

    def from_host(self, x):
        return x

    def to_host(self, x):
        return x


# ------------------------------------------------------------------------------------ tests


@pytest.fixture(scope="module")
def surface():
    return Surface(json.loads((REFERENCE / "cupy_surface.json").read_text()))


@pytest.fixture(scope="module", autouse=True)
def _all_primitives():
    for found in pkgutil.iter_modules(nnmath_core.autodiff.ops.__path__):
        importlib.import_module(f"nnmath_core.autodiff.ops.{found.name}")
    assert len(REGISTRY) > 60


def test_surface_is_that_of_the_tested_version(surface):
    assert surface.version == "14.2.0"
    assert len(surface.modules["cupy"]) > 400


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_source_uses_only_names_and_keywords_of_cupy(path, surface):
    assert complaints_about(path.read_text(), surface) == []


def test_uses_are_found_in_the_sources():
    found = {path for source in SOURCES for _, path, _ in uses(source.read_text())}
    seen = {"cupy.cuda.runtime.getDeviceCount", "cupy.maximum.at", "cupy.RawModule", "cupy.zeros"}
    assert seen <= found
    assert any(path.startswith("cupyx.scipy.special.") for path in found)


def test_forward_of_every_primitive_is_a_name_of_cupy(surface):
    wrong = []
    for primitive in REGISTRY.values():
        if primitive.library == "absent":
            continue
        path = forward_path(primitive.forward) if isinstance(primitive.forward, str) else None
        if path is not None:
            wrong += surface.complaints(path)
            for sample in primitive.draw_samples():
                wrong += surface.complaints(path, (len(sample.operands), list(sample.params)))
    assert wrong == []


def test_every_primitive_runs_with_what_cupy_has(surface):
    backend = GuardedBackend(surface)
    for primitive in REGISTRY.values():
        if primitive.library == "absent":
            continue
        run = primitive.on(backend)
        for sample in primitive.draw_samples():
            # NumPy scalars are arrays on a device, Python numbers stay what they are
            plain = (bool, int, float)
            operands = [x if type(x) in plain else np.asarray(x) for x in sample.operands]
            run(*operands, **sample.params)


class Elsewhere(GuardedBackend):
    """A backend that says that it is not the host."""

    device = Device("cuda", 1)


def test_primitives_said_to_be_absent_from_cupy_are_and_say_so(surface):
    absent = [p for p in REGISTRY.values() if p.library == "absent"]
    assert absent
    backend = Elsewhere(surface)
    for primitive in absent:
        assert primitive.name not in surface.modules["cupyx.scipy.special"]
        with pytest.raises(DeviceError, match=f"^{primitive.name}: CuPy has no .* on cuda:1"):
            primitive.on(backend)(*primitive.draw_samples()[0].operands)


def test_backend_operations_run_with_what_cupy_has(surface):
    be = GuardedBackend(surface)
    x, index = np.arange(12.0).reshape(3, 4), np.array([0, 2, 0])
    be.contract(x, x, spec=("ij", "kl", "ik"))
    be.contract(x > 1, x > 1, spec=("ij", "ik", "k"))
    be.contract(x, x, spec=("ij", "ij", ""))
    be.contract(x, x[0], spec=("ij", "j", "ij"))
    be.index_add((3, 4), np.float32, (index,), x[index])
    be.index_put((3, 4), np.float32, (index,), x[index])
    be.take(x, index, axis=0)
    be.take_along_axis(x, index[:, None], axis=1)
    w, m, v, g = (np.ones(3) for _ in range(4))
    be.adamw_step(w, m, v, g, lr=0.1, beta1=0.9, beta2=0.9, eps=1e-8, decay=0.1, c1=0.1, c2=0.1)
    be.asarray([1.0, 2.0], dtype=np.float32)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("be.xp.sliding_sum(x)", "1: cupy.sliding_sum does not exist in CuPy 14.2.0"),
        ("be.xp.linalg.cholesky_solve(x)", "1: cupy.linalg.cholesky_solve does not exist in CuPy"),
        ("be.xp.sum(x, where=mask)", "1: cupy.sum has no keyword 'where' in CuPy 14.2.0"),
        ("be.xp.tanh(x, where=mask)", "1: cupy.tanh has no keyword 'where' in CuPy 14.2.0"),
        ("xp.add.reducer(x)", "1: cupy.add has no reducer in CuPy 14.2.0"),
        ("be.xp.tril(x, 0, 1)", "1: cupy.tril takes 2 arguments in CuPy 14.2.0, not 3"),
        ("be.special.spence(x)", "1: cupyx.scipy.special.spence does not exist in CuPy 14.2.0"),
        ("self.cupy.RawModule(source=s)", "1: cupy.RawModule has no keyword 'source' in CuPy"),
        ("r = cupy.cuda.runtime\nr.getCount()", "2: cupy.cuda.runtime.getCount does not exist in"),
        ('Primitive("spence")', "1: cupy.spence does not exist in CuPy 14.2.0"),
        ('f("a", forward="special.erfx")', "1: cupyx.scipy.special.erfx does not exist in CuPy"),
    ],
)
def test_a_planted_mistake_is_reported(text, said, surface):
    (complaint,) = complaints_about(text, surface)
    assert complaint.startswith(said)


@pytest.mark.parametrize(
    "text",
    [
        "be.xp.sum(x, axis=axis, keepdims=True)",
        "be.xp.add.at(out, index, values)",
        "xp.zeros(shape, dtype)",
        "scipy.special.spence(x)",
        'Primitive("sinh")',
        'Primitive("spence", forward=lambda be, x: be.xp.sinh(x))',
        'Primitive("anything", forward="contract")',
    ],
)
def test_a_right_use_is_not_reported(text, surface):
    assert complaints_about(text, surface) == []


def test_the_run_reports_a_computed_name_and_keyword(surface):
    be = GuardedBackend(surface)
    with pytest.raises(AssertionError, match=r"cupy\.sliding_sum does not exist in CuPy"):
        be.function(lambda be, x: getattr(be.xp, "sliding" + "_sum")(x))(np.ones(2))
    with pytest.raises(AssertionError, match=r"cupy\.sum has no keyword 'where'"):
        be.function("sum")(np.ones(2), **{"where": np.array([True, False])})


def test_stored_surface_is_that_of_the_wheel(surface):
    spec = importlib.util.spec_from_file_location("cupy_surface", REFERENCE / "cupy_surface.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed; the stored surface is used as it is")
    found = script.surface()
    if found["cupy"] != surface.version:
        pytest.skip(f"CuPy {found['cupy']} is installed, the surface is of {surface.version}")
    assert script.as_text(found) == (REFERENCE / "cupy_surface.json").read_text()
