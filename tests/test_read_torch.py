"""Files of `torch.save`: tensors are read, nothing is executed, and what is broken is refused."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from reference.weights_torch import stored_file

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError


def file_of(name, folder):
    """Write a stored file and return its path."""
    path = folder / name
    path.write_bytes(stored_file(name))
    return path


def test_tensors_of_pytorch_are_read(tmp_path):
    found = nm.nn.read_torch(file_of("tensors.pt", tmp_path))
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    wanted = {
        "f32": base,
        "transposed": base.T,
        "part": base[1:, ::2],
        "expanded": np.full((2, 3), 1.5, np.float32),
        "f64": np.array([np.float32(0.1), -0.0], np.float64),
        "i64": np.array([[1, -2]]),
        "bool": np.array([True, False]),
        "f16": np.array([0.5], np.float16),
        "scalar": np.array(7, np.int32),
        "empty": np.zeros((0, 3), np.float32),
        "complex": np.array([1 + 2j], np.complex64),
        "parameter": np.ones(2, np.float32),
    }
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype, name
        assert np.array_equal(found[name], value), name
    assert np.signbit(found["f64"][1])
    found["f32"][:] = 0.0  # copies, though the tensors share a storage
    assert np.array_equal(found["transposed"], base.T)


def test_a_checkpoint_of_pytorch_is_read(tmp_path):
    found = nm.nn.read_torch(file_of("checkpoint.pt", tmp_path))
    assert [found[k] for k in ("epoch", "loss", "note", "shape", "none")] == [
        3,
        0.25,
        "ünï",
        (2, 3),
        None,
    ]
    assert list(found["model"])[:2] == ["0.weight", "0.bias"]
    assert found["optimizer"]["param_groups"] == [{"lr": 1e-3, "params": [0, 1]}]
    like = nm.nn.Sequential([nm.nn.Dense.init((2, 1)), nm.nn.BatchNorm.init(1)])
    model = nm.nn.from_torch(found["model"], like=like)
    assert model[1].var == np.float32(1.0)
    with pytest.raises(DtypeError, match=r"Give that part alone: `state\['model'\]`"):
        nm.nn.from_torch(found, like=like)


def test_bfloat16_of_pytorch_is_widened_on_request(tmp_path):
    path = file_of("bfloat16.pt", tmp_path)
    with pytest.raises(
        DtypeError, match=r"bfloat16, which NumPy does not have\. Pass `dtype=numpy.float32`"
    ):
        nm.nn.read_torch(path)
    for dtype in (np.float32, np.float64):
        w = nm.nn.read_torch(path, dtype=dtype)["w"]
        assert w.dtype == dtype
        assert np.array_equal(w[:2], [1.0, -2.5])
        assert abs(w[2] / 3e38 - 1) <= 2.0**-8  # 8 bits of precision
    with pytest.raises(DtypeError, match="`dtype` must be float32 or float64"):
        nm.nn.read_torch(path, dtype=int)


def test_other_files_of_pytorch_are_refused(tmp_path):
    with pytest.raises(DomainError, match="is no zip archive"):
        nm.nn.read_torch(file_of("old.pt", tmp_path))
    with pytest.raises(
        DomainError, match=r"names torch.nn.modules.linear.Linear, and only tensors"
    ):
        nm.nn.read_torch(file_of("module.pt", tmp_path))
    with pytest.raises(FileNotFoundError, match="read_torch: there is no file"):
        nm.nn.read_torch(tmp_path / "none.pt")


def archive_of(program, folder, compression=zipfile.ZIP_STORED, **members):
    path = folder / "a.pt"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a/data.pkl", program)
        for name, data in members.items():
            archive.writestr(f"a/data/{name[1:]}", data)
    return path


class Evil:
    def __init__(self, f, *args):
        self.f, self.args = f, args

    def __reduce__(self):
        return self.f, self.args


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "thing", [Evil(os.system, "touch evil"), Evil(eval, "1"), Evil(io.BytesIO), len, Evil]
)
def test_nothing_that_a_pickle_names_is_called(tmp_path, monkeypatch, protocol, thing):
    monkeypatch.chdir(tmp_path)
    if thing is Evil:
        thing = {"w": Evil(getattr, "x", "upper")}
    path = archive_of(pickle.dumps(thing, protocol), tmp_path)
    with pytest.raises(DomainError, match=r"names |has the instruction "):
        nm.nn.read_torch(path)
    assert os.listdir(tmp_path) == ["a.pt"]


@pytest.mark.parametrize("size", [(3,), (2, 2), (10**9, 10**9), (-1,), (2.0,), ("x",)])
@pytest.mark.parametrize("offset", [0, 1, -1, 10**30])
def test_tensors_stay_inside_of_their_storage(tmp_path, size, offset):
    torch_size = b"(" + b"".join(pickle.dumps(n, 2)[2:-1] for n in size) + b"t"
    strides = b"(" + b"K\x01" * len(size) + b"t"
    program = (
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x03tQ" + pickle.dumps(offset, 2)[2:-1] + torch_size + strides +
        b"\x89}tRs."
    )  # fmt: skip
    path = archive_of(program, tmp_path, _0=np.arange(3, dtype="<f4").tobytes())
    if offset in (0, 1) and (size, offset) in {((3,), 0), ((2, 2), 0)}:
        assert nm.nn.read_torch(path)["w"].shape == size
        return
    with pytest.raises(DomainError, match="is damaged"):
        nm.nn.read_torch(path)


def test_damaged_files_of_pytorch(tmp_path):
    good = file_of("checkpoint.pt", tmp_path).read_bytes()
    path = tmp_path / "b.pt"
    rng = np.random.default_rng(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(300):
        data = bytearray(good)
        if rng.integers(3) == 0:
            data = data[: rng.integers(len(data))]
        else:
            for at in rng.integers(len(data), size=rng.integers(1, 6)):
                data[at] = rng.integers(256)
        path.write_bytes(data)
        try:
            nm.nn.read_torch(path)
            outcomes["read"] += 1
        except (DomainError, DtypeError):
            outcomes["refused"] += 1
    assert outcomes["refused"] > 100  # nothing else is raised; padding may be anything


def test_damaged_programs_of_pytorch(tmp_path):
    """The checksum of the archive is right here, and the pickle is not."""
    with zipfile.ZipFile(file_of("checkpoint.pt", tmp_path)) as archive:
        (program,) = (n for n in archive.namelist() if n.endswith("data.pkl"))
        good = archive.read(program)
        folder = program.removesuffix("data.pkl")
        members = {
            f"_{n.rpartition('/')[2]}": archive.read(n)
            for n in archive.namelist()
            if f"{folder}data/" in n
        }
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(400):
        data = bytearray(good)
        for at in rng.integers(len(data), size=rng.integers(1, 4)):
            data[at] = rng.integers(256)
        try:
            nm.nn.read_torch(archive_of(bytes(data), tmp_path, **members))
        except (DomainError, DtypeError):
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    ("program", "text"),
    [
        (b"", "is damaged"),
        (b"\x80\x02}", "is damaged"),
        (b"\x80\x02}}.", "is damaged"),
        (b"\x80\x02h\x05.", "is damaged"),
        (b"\x80\x02t.", "is damaged"),
        (b"\x80\x02K\x01K\x02K\x03s.", "is damaged"),
        (b"\x80\x02}]K\x01s.", "is damaged"),  # a list as a key
        (b"\x80\x02X\x01\x00\x00\x00xQ.", "is damaged"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "calls torch.FloatStorage. It is refused"),
        (
            b"\x80\x02(X\x06\x00\x00\x00moduleK\x01K\x02K\x03K\x04tQ.",
            "refers to 'module', which is no storage",
        ),
    ],
)
def test_wrong_programs(tmp_path, program, text):
    with pytest.raises(DomainError, match=text):
        nm.nn.read_torch(archive_of(program, tmp_path))


def test_compressed_members_are_refused(tmp_path):
    """A small file could unpack to one that fills the memory; PyTorch does not compress."""
    path = archive_of(b"\x80\x02}." + b" " * 1000, tmp_path, zipfile.ZIP_DEFLATED)
    with pytest.raises(DomainError, match="uncompressed, are expected"):
        nm.nn.read_torch(path)


def test_tensors_that_share_a_storage_do_not_fill_the_memory(tmp_path):
    """A thousand tensors of one storage of 40 kB, in a file of 80 kB."""
    call = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X"
    call += b"\x03\x00\x00\x00cpuM\x10\x27tQK\x00M\x10\x27\x85K\x01\x85\x89}tR"
    data = np.arange(10_000, dtype="<f4").tobytes()
    few = nm.nn.read_torch(archive_of(b"\x80\x02](" + call * 3 + b"e.", tmp_path, _0=data))
    assert all(np.array_equal(x, np.arange(10_000)) for x in few)
    with pytest.raises(DomainError, match="16 times as large as the file"):
        nm.nn.read_torch(archive_of(b"\x80\x02](" + call * 1000 + b"e.", tmp_path, _0=data))


def test_tuples_of_tuples_do_not_take_for_ever(tmp_path):
    """Sixty instructions make a value whose text, and whose hash, would take 2**60 steps."""
    deep = b"K\x01" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))
    for program in (
        b"\x80\x02" + deep + b")R.",  # called
        b"\x80\x02}" + deep + b"K\x01s.",  # a key
        b"\x80\x02(" + deep + b"K\x01K\x02K\x03K\x04tQ.",  # the kind of a reference
        b"\x80\x04" + deep + deep + b"\x93.",  # a name
    ):
        with pytest.raises(DomainError):
            nm.nn.read_torch(archive_of(program, tmp_path))
