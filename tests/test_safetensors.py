"""The safetensors format: what others write is read, what is written others read, what is broken is refused."""

import importlib.util
import json
import os

import numpy as np
import pytest
from reference.weights_torch import stored_file

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError, TreeError
from nnmath_core.io import storage as storage_module
from nnmath_core.io.safetensors import read_safetensors, write_safetensors

CODES = "i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8".split()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


def theirs():
    """What `reference/weights_torch.py` let the package safetensors write."""
    return {
        **{f"x{code}": np.arange(6).reshape(2, 3).astype(code) for code in CODES},
        "bool": np.array([True, False, True]),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 4)),
        "ünï/code": np.ones(1, np.float32),
    }


def raw(header, data=b"", pad=0):
    """A file by hand."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * pad
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


# ----------------------------------------------------------------------------- there and back
def test_a_file_of_the_reference_implementation_is_read(path):
    path.write_bytes(stored_file("arrays.safetensors"))
    arrays, metadata = read_safetensors("test", path)
    assert metadata == {"format": "np"}
    assert set(arrays) == set(theirs())
    for name, value in theirs().items():
        assert arrays[name].dtype == value.dtype
        assert arrays[name].shape == value.shape
        assert np.array_equal(arrays[name], value)
        assert arrays[name].flags.writeable


def test_the_bytes_are_those_of_the_reference_implementation(path):
    """As a set of entries: that package sorts names of one size by its own order."""
    write_safetensors("test", path, theirs(), {"format": "np"})
    ours, reference = path.read_bytes(), stored_file("arrays.safetensors")

    def entries(data):
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        body = data[8 + length :]
        metadata = header.pop("__metadata__")
        return metadata, {
            name: (e["dtype"], e["shape"], body[slice(*e["data_offsets"])])
            for name, e in header.items()
        }

    assert entries(ours) == entries(reference)
    assert int.from_bytes(ours[:8], "little") % 8 == 0


@pytest.mark.parametrize("order", ["C", "F", "strided", "foreign"])
def test_any_array_is_written_in_c_order_and_little_endian(path, order):
    x = np.arange(12.0).reshape(3, 4)
    given = {"C": x, "F": np.asfortranarray(x), "strided": np.repeat(x, 2, 0)[::2]}
    given["foreign"] = x.astype(">f8")
    write_safetensors("test", path, {"x": given[order]})
    assert path.read_bytes()[-96:] == x.astype("<f8").tobytes()
    assert np.array_equal(read_safetensors("test", path)[0]["x"], x)


def test_the_same_arrays_give_the_same_bytes_in_any_order(path):
    arrays = theirs()
    write_safetensors("test", path, arrays)
    first = path.read_bytes()
    write_safetensors("test", path, dict(reversed(arrays.items())))
    assert path.read_bytes() == first


def test_the_package_reads_what_is_written(path):
    if importlib.util.find_spec("safetensors") is None:
        pytest.skip("safetensors is not installed: pip install safetensors")
    from safetensors.numpy import load_file

    write_safetensors("test", path, theirs(), {"a": "b"})
    found = load_file(path)
    assert set(found) == set(theirs())
    for name, value in theirs().items():
        assert found[name].dtype == value.dtype
        assert np.array_equal(found[name], value)


def test_no_array_at_all(path):
    write_safetensors("test", path, {})
    assert read_safetensors("test", path) == ({}, {})


def test_bfloat16_is_widened_on_request(path):
    path.write_bytes(stored_file("bfloat16.safetensors"))
    with pytest.raises(
        DtypeError, match=r"bfloat16, which NumPy does not have\. Pass `dtype=numpy.float32`"
    ):
        nm.nn.load_state({"w": np.zeros(3)}, path)
    with pytest.raises(DtypeError, match="bfloat16"):
        nm.load(path)
    for dtype in (np.float32, np.float64):
        w = nm.nn.load_state({"w": np.zeros(3)}, path, dtype=dtype)["w"]
        assert w.dtype == dtype
        assert np.array_equal(w[:2], [1.0, -2.5])
        assert abs(w[2] / 3e38 - 1) <= 2.0**-8


def test_bfloat16_by_its_bits(path):
    bits = np.array([0x3F80, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 0x0001, 0x7F7F], "<u2")
    path.write_bytes(raw({"w": entry("BF16", (7,), (0, 14))}, bits.tobytes()))
    w = read_safetensors("test", path, dtype=np.float32)[0]["w"]
    assert w.view(np.uint32).tolist() == [int(b) << 16 for b in bits]


# ----------------------------------------------------------------------------- trees
TREES = [
    {"w": np.ones((2, 3), np.float32), "step": 3, "name": "x", "none": None, "list": [np.zeros(2)]},
    nm.nn.Sequential([nm.nn.Dense.init((2, 3), rng=0), nm.nn.relu, nm.nn.BatchNorm.init(3)]),
    np.arange(3),
    {"a.b": np.ones(1), "a": {"b": np.zeros(1)}, "": np.ones(2), "x" * 300: np.ones(3)},
    {"flag": np.array(True), "empty": np.zeros((0, 2)), "scalar": np.float32(2.0)},
    7,
]


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: type(tree).__name__)
def test_a_tree_comes_back(path, tree):
    nm.save(path, tree)
    for found in (nm.load(path), nm.load(path, like=tree)):
        assert type(found) is type(tree)
        assert nm.tree_paths(found) == nm.tree_paths(tree)
        for x, y in zip(nm.tree_leaves(found), nm.tree_leaves(tree), strict=True):
            assert type(x) is type(y)
            assert np.array_equal(x, y)
            assert np.asarray(x).dtype == np.asarray(y).dtype


def test_a_plain_file_is_a_dictionary(path):
    path.write_bytes(stored_file("arrays.safetensors"))
    found = nm.load(path)
    assert set(found) == set(theirs())
    assert set(nm.load(path, like=theirs())) == set(theirs())
    with pytest.raises(TreeError, match="with the keys"):
        nm.load(path, like={"a": np.ones(1)})
    wrong = {**theirs(), "scalar": np.ones(2, np.float32)}
    with pytest.raises(ShapeError, match="scalar"):
        nm.load(path, like=wrong)


def test_others_read_a_saved_model_as_named_arrays(path):
    nm.save(path, TREES[1])
    arrays = read_safetensors("test", path)[0]
    assert set(arrays) >= {"layers.0.weight", "layers.2.mean"}


@pytest.mark.parametrize(
    "x", [np.ones(2, complex), np.array(["a"]), np.array(["2026"], "M8[D]"), np.ones(2, ">f4")]
)
def test_types_that_the_format_does_not_have(path, x):
    path.write_bytes(b"old")
    with pytest.raises(DtypeError, match=r"save: .*\.npz"):
        nm.save(path, {"x": x})
    assert path.read_bytes() == b"old"


def test_a_changed_structure_is_refused(path):
    nm.save(path, {"w": np.ones(2)})
    arrays, metadata = read_safetensors("test", path)
    changed = metadata["nnmath_core"]
    for text, error, wanted in (
        ("no json", DomainError, "damaged"),
        ("{}", DomainError, "damaged"),
        (changed.replace('"format": 1', '"format": 99'), DomainError, "format 99"),
        (changed.replace('{"array": "w"}', '{"array": "v"}'), DomainError, "damaged"),
    ):
        assert text != changed
        write_safetensors("test", path, arrays, {"nnmath_core": text})
        with pytest.raises(error, match=wanted):
            nm.load(path)


def test_the_name_of_the_metadata_is_taken(path):
    with pytest.raises(DomainError, match="belongs to the format"):
        nm.save(path, {"__metadata__": np.ones(1)})


# ----------------------------------------------------------------------------- whole or not at all
def test_a_crash_leaves_the_old_file(path, monkeypatch):
    nm.save(path, {"w": np.ones(2)})
    before = path.read_bytes()

    def crash(*args):
        raise OSError("disk full")

    monkeypatch.setattr("nnmath_core.io.replacing.os.fsync", crash)
    for write in (nm.save, lambda p, tree: nm.nn.save_state(tree, p)):
        with pytest.raises(OSError, match="disk full"):
            write(path, {"w": np.zeros(9)})
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == [path.name]
    assert storage_module  # the module under test


# ----------------------------------------------------------------------------- what is broken
F4 = np.ones(1, "<f4").tobytes()
GOOD = entry()
BROKEN = [
    ("empty", b"", "a header of 0 bytes in a file of 0"),
    ("seven bytes", b"1234567", "in a file of 7"),
    ("longer than the file", (100).to_bytes(8, "little") + b"{}", "a header of 100 bytes in a file of 10"),
    ("longer than allowed", (10**8 + 1).to_bytes(8, "little") + b"{}", "a header of 100000001 bytes"),
    ("longer than anything", b"\xff" * 8 + b"{}", "a header of 18446744073709551615 bytes"),
    ("no json", raw(b"{"), "Expecting property name"),
    ("no text", raw(b"\xff\xfe"), "decode"),
    ("deep", raw(b"[" * 100_000), "nested too deeply|recursion"),
    ("a list", raw([]), "no JSON object"),
    ("twice", raw(b'{"a": 1, "a": 2}'), "the name 'a' stands twice"),
    ("twice inside", raw(b'{"a": {"shape": [], "shape": [1]}}'), "the name 'shape' stands twice"),
    ("metadata", raw({"__metadata__": {"a": 1}}), "not strings"),
    ("metadata as list", raw({"__metadata__": []}), "not strings"),
    ("no entry", raw({"a": 3}), "'a' needs dtype, shape and data_offsets"),
    ("an entry too many", raw({"a": {**GOOD, "x": 1}}, F4), "'a' needs dtype"),
    ("no shape", raw({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, F4), "'a' needs dtype"),
    ("shape", raw({"a": {**GOOD, "shape": 1}}, F4), "no lists of sizes"),
    ("negative", raw({"a": entry(shape=(-1,))}, F4), "no lists of sizes"),
    ("fraction", raw({"a": entry(shape=(1.0,))}, F4), "no lists of sizes"),
    ("boolean", raw({"a": entry(shape=(True,))}, F4), "no lists of sizes"),
    ("many axes", raw({"a": entry(shape=(1,) * 65)}, F4), "'a' lies at"),
    ("three offsets", raw({"a": entry(offsets=(0, 4, 8))}, F4), "no lists of sizes"),
    ("backwards", raw({"a": entry(offsets=(4, 0))}, F4), "'a' lies at 4 to 0 of 4"),
    ("outside", raw({"a": entry(shape=(2,), offsets=(0, 8))}, F4), "'a' lies at 0 to 8 of 4"),
    ("too few bytes", raw({"a": entry(shape=(2,))}, F4), "'a' needs 8 bytes and has 4"),
    ("huge", raw({"a": entry(shape=(2**62, 2**62))}, F4), "'a' needs .* bytes and has 4"),
    (
        "overlap", raw({"a": entry(shape=(2,), offsets=(0, 8)), "b": entry(shape=(2,), offsets=(4, 12))}, F4 * 3),
        "'b' overlaps another array, at byte 4",
    ),
    ("the same", raw({"a": GOOD, "b": GOOD}, F4), "overlaps another array"),
    ("gap", raw({"a": GOOD, "b": entry(offsets=(8, 12))}, F4 * 3), "'b' leaves a gap before it"),
    ("gap in front", raw({"a": entry(offsets=(4, 8))}, F4 * 2), "'a' leaves a gap"),
    ("more behind", raw({"a": GOOD}, F4 + b"x"), "1 bytes belong to no array"),
    ("half a boolean", raw({"a": entry("BOOL", (2,), (0, 2))}, b"\x01\x02"), "neither 0 nor 1"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "text"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_broken_files_are_refused(path, data, text):
    path.write_bytes(data)
    for read in (nm.load, lambda p: nm.nn.load_state({"a": np.ones(1)}, p)):
        with pytest.raises(DomainError, match=f"is damaged or no safetensors file .*({text})"):
            read(path)


@pytest.mark.parametrize("kind", ["F8_E4M3", "F128", 3, None, ["F32"]])
def test_types_that_numpy_does_not_have(path, kind):
    path.write_bytes(raw({"a": {**GOOD, "dtype": kind}}, F4))
    with pytest.raises(DtypeError, match=r"'a' in .* is of type .*, which NumPy does not have"):
        nm.load(path)


def test_every_shorter_file_is_refused(path):
    write_safetensors("test", path, {"a": np.ones(2), "b": np.arange(3)}, {"x": "y"})
    whole = path.read_bytes()
    for n in range(len(whole)):
        path.write_bytes(whole[:n])
        with pytest.raises(DomainError):
            nm.load(path)


def test_changed_bytes_are_read_or_refused(path):
    write_safetensors("test", path, theirs(), {"x": "y"})
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        data = bytearray(whole)
        for at in rng.integers(len(data), size=rng.integers(1, 4)):
            data[at] = rng.integers(256)
        path.write_bytes(data)
        try:
            nm.load(path)
        except (DomainError, DtypeError):
            refused += 1
    assert refused > 200


def test_there_is_no_file(path):
    with pytest.raises(FileNotFoundError, match="load: there is no file"):
        nm.load(path)
    with pytest.raises(FileNotFoundError, match="load_state: there is no file"):
        nm.nn.load_state({}, path)
    with pytest.raises(DomainError, match=r'"\.npz" or "\.safetensors"'):
        nm.save(path.with_suffix(".pt"), 1)
