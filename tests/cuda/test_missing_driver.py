"""The real CuPy on a machine without a driver: what is missing is said, and the CPU goes on."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import warnings
import nnmath_core as nm
warnings.simplefilter("error")

def said():
    assert nm.devices() == (nm.device("cpu"),)
    try:
        nm.device("cuda")
    except nm.DeviceError as error:
        print(error)

said()                                     # no driver
import cupy
runtime = cupy.cuda.runtime
runtime.driverGetVersion = lambda: 12040
said()                                     # an old one
runtime.getDeviceCount = lambda: 0
said()
runtime.getDeviceCount = lambda: 1         # and no cuBLAS
class Device:
    def __init__(self, index): pass
    compute_capability = "80"
cupy.cuda.Device = Device
said()
cupy.cuda.cublas = object()
cupy.cuda.nvrtc.getSupportedArchs = lambda: [90, 100]
said()
"""


def test_the_real_cupy_without_a_driver_says_what_is_missing():
    if os.environ.get("REAL_GPU", "") not in ("", "0"):
        pytest.skip("this machine has a driver")
    environment = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CUDA_VISIBLE_DEVICES")
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    built = "device: CuPy 14.2.0 is built for CUDA 13 and"
    other = (
        ", or exchange the wheel: `pip uninstall cupy-cuda13x` and "
        '`pip install "nnmath-core[cuda12]"`.'
    )
    assert lines[0] == (
        f'{built} finds no NVIDIA driver. Install the driver of the GPU, or use `device("cpu")`.'
    )
    assert lines[1] == f"{built} the NVIDIA driver reaches only CUDA 12.4. Update the driver{other}"
    assert lines[2] == 'device: the NVIDIA driver shows no GPU. Use `device("cpu")`.'
    if "cannot load" in lines[3]:  # this machine has no CUDA libraries
        assert lines[3].startswith("device: CuPy 14.2.0 cannot load cuBLAS of CUDA 13 (")
        assert "libcublas" in lines[3]
        assert lines[3].endswith('Install the CUDA libraries: `pip install "cupy-cuda13x[ctk]"`.')
    assert lines[-1] == (
        f"device: cuda:0 has compute capability 8.0 and CUDA 13 begins at 9.0. Use a newer GPU{other}"
    )
