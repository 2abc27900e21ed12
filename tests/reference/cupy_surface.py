"""Write cupy_surface.json: the public names of CuPy and the parameters of each.

    pip install cupy-cuda13x==14.2.0
    python tests/reference/cupy_surface.py

Needs no GPU and no driver. Each name maps to its parameters in order, as in a signature: "/" ends
the positional ones, "*" begins the keyword-only ones, "*args" and "**kwargs" take anything. A
universal function has the word "ufunc" in front. "?" stands for a callable that does not tell, and
null for a value, a class or a module.
"""

import importlib
import inspect
import json
import re
from pathlib import Path
from types import ModuleType

MODULES = [
    "cupy",
    "cupy.linalg",
    "cupy.fft",
    "cupy.cuda",
    "cupy.cuda.runtime",
    "cupy.cuda.nvrtc",
    "cupyx",
    "cupyx.scipy.special",
]
CLASSES = ["cupy.RawModule", "cupy.cuda.Device"]  # whose constructors and methods we call
LIBRARIES = {"cupy.cuda": ["cublas"]}  # submodules that need their CUDA library to be imported
TARGET = Path(__file__).with_name("cupy_surface.json")


def parameters(function):
    """Return the parameters of a callable as one line, or "?"."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return from_docstring(function)
    words, kinds = [], [p.kind for p in signature.parameters.values()]
    for i, (name, p) in enumerate(signature.parameters.items()):
        if p.kind is p.KEYWORD_ONLY and "*" not in words and p.VAR_POSITIONAL not in kinds:
            words.append("*")
        words.append({p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "") + name)
        if p.kind is p.POSITIONAL_ONLY and p.POSITIONAL_ONLY not in kinds[i + 1 :]:
            words.append("/")
    return " ".join(words)


def from_docstring(function):
    """Return the parameters from the signature that Cython writes in the first line."""
    line = (getattr(function, "__doc__", None) or "").strip().split("\n")[0].replace("\\", "")
    match = re.match(r"[\w.]+\((.*)\)", line)
    if match is None:
        return "?"
    text = re.sub(r"\[, out1, out2\]|\[, out=\(None, None\)\]", ", out", match[1])
    text = re.sub(r"\([^()]*\)|'[^']*'", "", text)  # defaults with commas
    words = []
    for part in text.split(","):
        name = part.split("=")[0].split(":")[0].split()
        if name and name[-1] not in ("self", *words):
            words.append(name[-1])
    return " ".join(words)


def describe(value, ufunc):
    """Return what the surface says of one value."""
    if isinstance(value, ufunc):
        text = from_docstring(value)
        if text == "?":  # those of cupyx.scipy.special have no signature line
            inputs = " ".join(f"x{i + 1}" for i in range(value.nin)) if value.nin > 1 else "x"
            text = f"{inputs} / out * casting dtype"
        return f"ufunc {text}"
    if isinstance(value, type | ModuleType) or not callable(value):
        return None
    return parameters(value)


def find(path):
    """Return a module or what a module holds."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(find(module), name)


def surface():
    """Return version, names by module, and the attributes of a universal function."""
    cupy = importlib.import_module("cupy")
    modules = {}
    for module in MODULES:
        namespace = find(module)
        names = dict.fromkeys(LIBRARIES.get(module, ()))
        for name in sorted(dir(namespace)):
            if not name.startswith("_"):
                names[name] = describe(getattr(namespace, name), cupy.ufunc)
        modules[module] = names
    for path in CLASSES:
        module, _, name = path.rpartition(".")
        cls = find(path)
        modules[module][name] = from_docstring(cls)
        members = {m: getattr(cls, m) for m in sorted(dir(cls)) if not m.startswith("_")}
        modules[path] = {
            m: from_docstring(value) if callable(value) else None for m, value in members.items()
        }
    attributes = sorted(name for name in dir(cupy.add) if not name.startswith("_"))
    return {"cupy": cupy.__version__, "ufunc": attributes, "modules": modules}


def as_text(found):
    """Return the JSON text, one name a line."""
    return json.dumps(found, indent=0, sort_keys=True) + "\n"


if __name__ == "__main__":
    TARGET.write_text(as_text(surface()))
