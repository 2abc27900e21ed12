"""Run a program on the emulated device: ``python -m emulated FILE ...``, as ``python FILE ...`` on a GPU."""

import runpy
import sys

import emulated

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("python -m emulated FILE [arguments]")
    emulated.install()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
