"""Compile with NVIDIA's own compiler what the tests have compiled with g++: ``make nvrtc``.

g++ accepts what NVRTC refuses, and NVRTC is what users run. Its wheel needs no GPU. Compiled is every source that the
last whole run of ``make test-cuda`` reached (or all in the cache, where there was none), with CuPy's options, to a
binary: so ptxas has seen it too, and says how many registers it takes and what it spills.

    python -m emulated.nvrtc [ARCHITECTURE ...]     sm_75 and sm_90 by default

CUDA 13 begins at sm_75. For sm_70 a folder with the wheels of CUDA 12.9 is needed, beside the environment's CUDA 13:

    pip install --no-deps --target FOLDER nvidia-cuda-nvrtc-cu12==12.9.* nvidia-cuda-runtime-cu12==12.9.*
    NNMATH_NVRTC_12=FOLDER python -m emulated.nvrtc sm_70

What was said of a source is kept beside the emulation's cache under a hash of everything that it depends on.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from emulated import build

DEFAULT = ("sm_75", "sm_90")
OPTIONS = ("-ftz=true", "--device-as-default-execution-space")  # CuPy's own, which it adds last
RESOURCES = "--ptxas-options=-v"  # registers and spills in the log
VERDICTS = build.CACHE / "nvrtc"
REACHED = build.CACHE / "reached.json"  # written by plugin.py
WORST = 12  # rows of the table

_KERNEL = re.compile(r"Compiling entry function '(\w+)' for '\w+'")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")


class Refused(Exception):
    """What NVRTC says about a source that it does not compile."""


class Nvrtc:
    """As much of NVRTC as compiling one source needs.

    Parameters
    ----------
    home : Path
        A folder under which its wheel has been installed.
    """

    def __init__(self, home: Path) -> None:
        (builtins,) = home.glob("**/lib/libnvrtc-builtins.so.*")
        libraries = builtins.parent.glob("libnvrtc.so.*")
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)  # NVRTC looks for it by name
        self.lib = ctypes.CDLL(str(next(p for p in libraries if "alt" not in p.name)))
        self.lib.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def call(self, name: str, *args) -> None:
        code = getattr(self.lib, name)(*args)
        if code:
            raise Refused(f"{name}: {self.lib.nvrtcGetErrorString(code).decode()}")

    def log(self, program) -> str:
        size = ctypes.c_size_t()
        self.call("nvrtcGetProgramLogSize", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self.call("nvrtcGetProgramLog", program, text)
        return text.value.decode(errors="replace")

    def compile(self, source: str, names: tuple[str, ...], options: tuple[str, ...]) -> str:
        """Compile a source to a binary, and return the log.

        Raises
        ------
        Refused
            With the log.
        """
        program = ctypes.c_void_p()
        text = source.encode()
        self.call("nvrtcCreateProgram", ctypes.byref(program), text, b"kernel.cu", 0, None, None)
        try:
            for name in names:
                self.call("nvrtcAddNameExpression", program, name.encode())
            array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            if self.lib.nvrtcCompileProgram(program, len(options), array):
                raise Refused(self.log(program)[:2000])
            return self.log(program)
        finally:
            self.call("nvrtcDestroyProgram", ctypes.byref(program))


# ------------------------------------------------------------------------------ toolkits
def home_of(architecture: str) -> Path:
    """Return the folder of the toolkit that compiles for an architecture."""
    if int(architecture.removeprefix("sm_")) < 75:
        folder = os.environ.get("NNMATH_NVRTC_12", "")
        if not folder:
            raise SystemExit(
                f"nvrtc: for {architecture} say in NNMATH_NVRTC_12 where CUDA 12.9 is; `make nvrtc` does"
            )
        return Path(folder).resolve()
    return Path(next(iter(importlib.util.find_spec("nvidia").submodule_search_locations)))


@functools.cache
def toolkit(home: Path) -> Nvrtc:
    """Return the compiler of a toolkit; one process loads one of them."""
    return Nvrtc(home)


def options_of(asked: dict, home: Path) -> tuple[str, ...]:
    """Return the options with which CuPy asked, for the headers of this environment and of the toolkit."""
    site = str(Path(importlib.util.find_spec("cupy").origin).parents[1])
    found = []
    for option in asked["options"]:
        if "/cupy/_core/" in option:  # the run may have been that of another environment
            option = f"-I{site}/cupy/_core/{option.partition('/cupy/_core/')[2]}"
        elif option.startswith("-I"):  # headers of a toolkit: the compiler's, where it has them
            own = [p.parent for p in home.glob("**/include/cuda_fp16.h")]
            option = f"-I{own[0]}" if own else option
        found.append(option)
    return tuple(dict.fromkeys((*found, *OPTIONS)))


# ------------------------------------------------------------------------------ verdicts
def resources_in(log: str) -> list[dict]:
    """Return registers and spilled bytes of each kernel, as ptxas says."""
    rows: list[dict] = []
    for line in log.splitlines():
        if found := _KERNEL.search(line):
            rows.append({"kernel": found[1], "registers": 0, "spilled": 0, "stack": 0})
        elif not rows:
            continue
        elif found := _SPILLS.search(line):
            rows[-1]["stack"] = max(rows[-1]["stack"], int(found[1]))
            rows[-1]["spilled"] = max(rows[-1]["spilled"], int(found[2]) + int(found[3]))
        elif found := _REGISTERS.search(line):
            rows[-1]["registers"] = int(found[1])
    return rows


def verdicts(path: str, home: Path, architectures: tuple[str, ...]) -> tuple[dict[str, dict], int]:
    """Return what NVRTC says of a source, by architecture, and how many of them were compiled now."""
    asked = json.loads(Path(path).read_text())
    compiler, options = toolkit(home), options_of(asked, home)
    names = tuple(asked["names"] or ())
    headers = importlib.metadata.version("cupy-cuda13x"), compiler.version
    plain = [o for o in options if not o.startswith("-I")]  # the versions say what lies there
    key = build.key_of(asked["source"], repr(names), *plain, *headers)
    kept = VERDICTS / key[:2] / f"{key}.json"
    said = json.loads(kept.read_text()) if kept.exists() else {}
    missing = [a for a in architectures if a not in said]
    for architecture in missing:
        try:
            log = compiler.compile(
                asked["source"], names, (*options, RESOURCES, f"-arch={architecture}")
            )
            said[architecture] = {"refused": "", "kernels": resources_in(log)}
        except Refused as error:
            said[architecture] = {"refused": str(error), "kernels": []}
    if missing:
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(said))
        os.replace(unfinished, kept)
    return {a: said[a] for a in architectures}, len(missing)


def sources() -> list[str]:
    """Return the files that say what the last whole run of the tests reached, or all in the cache."""
    kernels = build.CACHE / "kernels"
    if REACHED.exists():
        keys = json.loads(REACHED.read_text())
        found = [kernels / key[:2] / f"{key}.json" for key in keys]
        found = [path for path in found if path.exists()]
        if found:
            return sorted(map(str, found))
    return sorted(map(str, kernels.glob("*/*.json")))


# ------------------------------------------------------------------------------ the report
def readable(names: list[str]) -> list[str]:
    """Return kernels' names as they are written, where c++filt is installed."""
    try:
        said = subprocess.run(
            ["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return names
    return [re.sub(r"^void |\(.*", "", line) for line in said.stdout.splitlines()]


def table(rows: list[tuple[str, dict]]) -> list[str]:
    """Return lines on the kernels that spill, or take most registers, worst first: once a kernel, at its worst."""
    worst: dict[str, tuple[str, dict]] = {}
    for architecture, row in rows:
        before = worst.get(row["kernel"])
        if before is None or weight(row) > weight(before[1]):
            worst[row["kernel"]] = architecture, row
    found = sorted(worst.values(), key=lambda pair: weight(pair[1]), reverse=True)
    spilling = sum(row["spilled"] > 0 for _, row in found)
    names = readable([row["kernel"] for _, row in found[:WORST]])
    return [
        f"nvrtc: {len(found)} kernels, {spilling} of them spill registers; the largest:",
        f"{'registers':>10} {'spilled':>8} {'stack':>6}  {'for':<7} kernel",
        *(
            f"{row['registers']:10d} {row['spilled']:8d} {row['stack']:6d}  {architecture:<7} {name[:100]}"
            for (architecture, row), name in zip(found[:WORST], names, strict=True)
        ),
    ]


def weight(row: dict) -> tuple[int, int]:
    return row["spilled"], row["registers"]


def main(architectures: tuple[str, ...] = DEFAULT) -> int:
    """Compile all in as many processes as there are cores; return 1 if a source was refused."""
    paths = sources()
    if not paths:
        print("nvrtc: nothing has been compiled yet: run make test-cuda first")
        return 1
    homes: dict[Path, list[str]] = {}
    for architecture in architectures:
        homes.setdefault(home_of(architecture), []).append(architecture)
    jobs = int(os.environ.get("NNMATH_JOBS", os.cpu_count() or 1))
    refused, rows = 0, []
    for home, names in homes.items():
        start, made = time.perf_counter(), 0
        work = functools.partial(verdicts, home=home, architectures=tuple(names))
        # a pool for each toolkit: two do not fit into one process
        with ProcessPoolExecutor(jobs) as pool:
            for path, (said, new) in zip(paths, pool.map(work, paths, chunksize=8), strict=True):
                made += new
                for architecture, verdict in said.items():
                    rows += [(architecture, row) for row in verdict["kernels"]]
                    if verdict["refused"]:
                        refused += 1
                        print(f"{path}, {architecture}:\n{verdict['refused']}")
            version = pool.submit(version_of, home).result()
        seconds = time.perf_counter() - start
        print(f"nvrtc {version}: {len(paths)} sources for {', '.join(names)}; {made} compiled in {seconds:.0f} s, "
              f"{len(paths) * len(names) - made} known")  # fmt: skip
    print("\n".join(table(rows)) if rows else "nvrtc: this version says nothing of registers")
    print(f"nvrtc: {refused} refused")
    return min(refused, 1)


def version_of(home: Path) -> str:
    """Return the version of a toolkit's compiler; asked in a process that has loaded it."""
    return toolkit(home).version


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:]) or DEFAULT))
