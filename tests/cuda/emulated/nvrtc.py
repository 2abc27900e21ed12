"""Compile with NVIDIA's own compiler what the tests have compiled with g++: ``make nvrtc``.

g++ accepts what NVRTC refuses, and NVRTC is what users run. Its wheel needs no GPU. Compiled is every
source in the cache, with CuPy's options, for the oldest architecture of CUDA 13 and a recent one.

    python -m emulated.nvrtc [MOST]      at most so many sources
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor

from emulated import build

ARCHITECTURES = ("sm_75", "sm_90")
OPTIONS = ("-ftz=true", "--device-as-default-execution-space")


def refusals(path: str) -> list[str]:
    """Return what NVRTC says about a source, a line for each architecture that it fails for."""
    from cupy.cuda import nvrtc

    with open(path) as file:
        asked = json.load(file)
    found = []
    for architecture in ARCHITECTURES:
        program = nvrtc.createProgram(asked["source"], "kernel.cu", (), ())
        try:
            for name in asked["names"] or ():
                nvrtc.addNameExpression(program, name)
            options = (*asked["options"], *OPTIONS, f"-arch={architecture}")
            nvrtc.compileProgram(program, tuple(dict.fromkeys(options)))
        except nvrtc.NVRTCError:
            log = nvrtc.getProgramLog(program)
            found.append(f"{path}, {architecture}:\n{log[:2000]}")
        finally:
            nvrtc.destroyProgram(program)
    return found


def main(most: int | None = None) -> int:
    """Compile all in as many processes as there are cores; return the number of failures."""
    paths = sorted(map(str, (build.CACHE / "kernels").glob("*/*.json")))[:most]
    if not paths:
        print("nvrtc: nothing has been compiled yet: run make test-cuda first")
        return 1
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        said = [line for lines in pool.map(refusals, paths, chunksize=8) for line in lines]
    for text in said:
        print(text)
    print(f"nvrtc: {len(paths)} sources for {' and '.join(ARCHITECTURES)}, {len(said)} refused")
    return min(len(said), 1)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else None))
