"""From CUDA source to a shared object whose kernels run on the processor.

The text of a kernel is compiled as it is, after rewritings that C++ has no word for:
``extern __shared__ T name[]`` becomes a pointer to the launch's dynamic shared memory, a shared array
of a template is filled where it is declared (g++ puts it into no section of its own), and each
kernel is exported with a function that takes its arguments as a launch passes them
(``shim/module.h``). SciPy's special functions (xsf), which CuPy's wheel carries, know Thrust's
complex numbers under CUDA and the standard ones elsewhere, so kernels that use them get the latter.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

from emulated import build

# Optimising less or more changes the seconds of a cold run by a tenth. The scheduler, which is loaded
# first, brings the C libraries (-nostdlib).
FLAGS = ["-std=gnu++17", "-O1", "-g0", "-fPIC", "-w", "-ffp-contract=off", "-fno-strict-aliasing",
         "-fvisibility=hidden", "-fno-gnu-unique", "-nostdlib"]  # fmt: skip

_KERNEL = re.compile(
    r"__global__\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?void\s+"
    r"(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\("
)
_DYNAMIC = re.compile(
    r"extern\s+__shared__\s+(?:__align__\s*\(\s*\d+\s*\)\s*)?([\w:<>, ]+?)\s+(\w+)\s*\[\s*\]\s*;"
)
_SHARED_ARRAY = re.compile(r"(?<!extern )(__shared__\s+[\w:<>, ]+?\s+(\w+)\s*\[[^;]*;)")
_THRUST_COMPLEX = re.compile(r"(?<![\w:])(?:thrust::)?complex<")


class Statistics:
    """What this process has compiled, or found in the cache."""

    def __init__(self) -> None:
        self.made = self.hits = 0
        self.seconds = 0.0


statistics = Statistics()


def headers_of(includes: tuple[str, ...]) -> str:
    """Return what is precompiled: the dialect and, where CuPy's headers are at hand, those."""
    cupy = "".join(
        f"#include <cupy/{name}.cuh>\n" for name in ("complex", "carray", "atomics", "float16")
    )
    has_cupy = any((Path(place) / "cupy" / "carray.cuh").exists() for place in includes)
    return '#include "dialect.h"\n' + (cupy if has_cupy else "")


def precompiled(flags: list[str], includes: tuple[str, ...]) -> Path:
    """Return the header to include first; g++ takes its precompiled twin for the same flags."""
    text = headers_of(includes)
    folder = build.CACHE / f"headers-{build.key_of(text, build.shim_text(), *flags)}"
    header = folder / "kernel.h"
    product = folder / "kernel.h.gch"
    with build.making(product) as needed:
        if needed:
            header.write_text(text)
            build.run([build.compiler(), "-x", "c++-header", *flags, str(header)], product)
    return header


def compile_source(
    source: str,
    includes: tuple[str, ...] = (),
    defines: tuple[str, ...] = (),
    exports: dict[str, str] | None = None,
) -> Path:
    """Return the shared object of a CUDA source, from the cache or made now.

    Parameters
    ----------
    source : str
    includes : tuple of str
        Folders of headers.
    defines : tuple of str
        Options of the form ``-DNAME=value``.
    exports : dict, optional
        Exported name -> kernel as written, ``"scale_f": "scale<float>"``. By default every kernel
        that the text defines, under its own name.

    Raises
    ------
    CompilationError
        With what g++ says about the source.
    """
    if exports is None:
        exports = {name: name for name in _KERNEL.findall(source)}
    flags = [*FLAGS, *defines, f"-I{build.SHIM}", *(f"-I{place}" for place in includes)]
    text = _DYNAMIC.sub(r"\1 *\2 = (\1 *)nnm_dynamic;", source)
    if "template" in text and "<cupy/" not in text:  # CuPy's kernels are no templates
        filled, count = _SHARED_ARRAY.subn(r"\1 nnm_fill(\2, sizeof \2);", text)
        if count:
            text = f'extern "C" void nnm_fill(void *, size_t);\n#line 1\n{filled}'
    if "xsf/" in text:
        text = "#include <complex>\n#line 1\n" + _THRUST_COMPLEX.sub("std::complex<", text)
    key = build.key_of(text, build.shim_text(), repr(exports), *flags)
    product = build.CACHE / "kernels" / key[:2] / f"{key}.so"
    start = time.perf_counter()
    with build.making(product) as needed:
        if not needed:
            statistics.hits += 1
            return product
        header = precompiled(flags, includes)
        unit = product.with_suffix(".cpp")
        kernels = "".join(f"NNM_KERNEL({name}, {what})\n" for name, what in exports.items())
        unit.write_text(
            f'#include "{header}"\n#line 1 "kernel.cu"\n{text}\n'
            f'#line 1 "exported kernels"\n#include "module.h"\n{kernels}'
        )
        build.run([build.compiler(), "-shared", "-s", *flags, str(unit)], product)
        unit.unlink()
        statistics.made += 1
        statistics.seconds += time.perf_counter() - start
    return product


def compile_for_cupy(source, options=(), *, name_expressions=None, **ignored):
    """Stand in place of ``cupy.cuda.compiler._compile_module_with_cache``.

    The module that CuPy then loads is the path of a shared object.
    """
    from cupy.cuda import function

    # CuPy's own headers; those of a toolkit that happens to be here would not fit the dialect
    includes = tuple(o[2:] for o in options if o.startswith("-I") and "/cupy/_core/" in o)
    defines = tuple(o for o in options if o.startswith("-D"))
    # the exported name, which the device counts launches by, begins with that of the template
    mapping = {
        e: f"{re.sub(r'[^0-9A-Za-z]+', '_', e.partition('<')[0])}__{i}"
        for i, e in enumerate(name_expressions or ())
    }
    exports = {symbol: e for e, symbol in mapping.items()} or None
    path = compile_source(source, includes, defines, exports)
    asked = path.with_suffix(".json")  # for nvrtc.py
    if not asked.exists():
        asked.write_text(
            json.dumps({"source": source, "options": list(options), "names": name_expressions})
        )
    module = function.Module()
    module.load(b"emulated:" + os.fsencode(path))
    if mapping:
        module._set_mapping(mapping)
    return module
