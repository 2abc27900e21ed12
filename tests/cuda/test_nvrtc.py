"""The rung of `make nvrtc`: what NVIDIA's compiler says is read, kept, and fails the run when it is a refusal."""

import json
from pathlib import Path

import pytest
from emulated import nvrtc

GOOD = 'extern "C" __global__ void twice(float *x) { x[threadIdx.x] *= 2; }'
BAD = 'extern "C" __global__ void f(float *x) { x[0] = INFINITY; }'
LOG = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z4loopIfEvxPT_' for 'sm_90'
ptxas info    : Function properties for _Z4loopIfEvxPT_
    48 bytes stack frame, 16 bytes spill stores, 24 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 48 bytes cumulative stack size
ptxas info    : Function properties for helper
    8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Compiling entry function 'plain' for 'sm_90'
ptxas info    : Function properties for plain
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers
"""


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Return a function that writes a source as the emulation does."""
    monkeypatch.setattr(nvrtc, "VERDICTS", tmp_path / "nvrtc")

    def write(source, names=None):
        path = tmp_path / "asked.json"
        path.write_text(json.dumps({"source": source, "options": ["--std=c++17"], "names": names}))
        return str(path)

    return write


def test_a_source_is_compiled_once(asked):
    home = nvrtc.home_of("sm_75")
    said, made = nvrtc.verdicts(asked(GOOD), home, ("sm_75", "sm_90"))
    assert made == 2
    for architecture in ("sm_75", "sm_90"):
        assert said[architecture]["refused"] == ""
        (row,) = said[architecture]["kernels"]
        assert row["kernel"] == "twice"
        assert 0 < row["registers"] < 256
        assert row["spilled"] == 0
    assert nvrtc.verdicts(asked(GOOD), home, ("sm_75",)) == ({"sm_75": said["sm_75"]}, 0)
    assert nvrtc.verdicts(asked(GOOD + " "), home, ("sm_75",))[1] == 1  # another source


def test_templates_are_compiled_by_name(asked):
    source = "template <typename T> __global__ void twice(T *x) { x[threadIdx.x] *= 2; }"
    home = nvrtc.home_of("sm_75")
    said, _ = nvrtc.verdicts(asked(source, ["twice<float>", "twice<double>"]), home, ("sm_75",))
    names = nvrtc.readable([row["kernel"] for row in said["sm_75"]["kernels"]])
    assert sorted(names) == ["twice<double>", "twice<float>"]


def test_a_refusal_is_told_and_kept(asked):
    home = nvrtc.home_of("sm_75")
    for made in (1, 0):
        said, now = nvrtc.verdicts(asked(BAD), home, ("sm_90",))
        assert 'identifier "INFINITY" is undefined' in said["sm_90"]["refused"]
        assert now == made


def test_the_run_fails_when_a_source_is_refused(asked, monkeypatch, capsys):
    monkeypatch.setenv("NNMATH_JOBS", "1")
    for source, refused in ((GOOD, 0), (BAD, 1)):
        path = asked(source)
        monkeypatch.setattr(nvrtc, "sources", lambda path=path: [path])
        assert nvrtc.main(("sm_75",)) == refused
        assert f"nvrtc: {refused} refused" in capsys.readouterr().out
    monkeypatch.setattr(nvrtc, "sources", list)
    assert nvrtc.main() == 1


def test_registers_and_spills_are_read_and_the_worst_comes_first():
    rows = nvrtc.resources_in(LOG)
    assert rows == [
        {"kernel": "_Z4loopIfEvxPT_", "registers": 255, "spilled": 40, "stack": 48},
        {"kernel": "plain", "registers": 8, "spilled": 0, "stack": 0},
    ]
    title, _, first, second = nvrtc.table([("sm_75", rows[1]), ("sm_90", rows[0])])
    assert title.startswith("nvrtc: 2 kernels, 1 of them spill")
    assert first.split()[:4] == ["255", "40", "48", "sm_90"]
    assert second.split() == ["8", "0", "0", "sm_75", "plain"]


def test_an_old_architecture_needs_an_old_toolkit(monkeypatch):
    monkeypatch.delenv("NNMATH_NVRTC_12", raising=False)
    with pytest.raises(SystemExit, match="NNMATH_NVRTC_12"):
        nvrtc.home_of("sm_70")
    monkeypatch.setenv("NNMATH_NVRTC_12", "somewhere")
    assert nvrtc.home_of("sm_70") == Path("somewhere").resolve()
    assert nvrtc.home_of("sm_75").name == "nvidia"
