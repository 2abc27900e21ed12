"""Trees on disk: every structure comes back as it was, or there is one clear error."""

import dataclasses
import json
import os
import stat
import subprocess
import sys
import zipfile
from collections import Counter, OrderedDict, defaultdict
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core._ext import _tree
from nnmath_core.device import Device
from nnmath_core.errors import DomainError, DtypeError, ShapeError, TraceError, TreeError
from nnmath_core.io import load, save, storage as storage_module

# ----------------------------------------------------------------------- there and back


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass(frozen=True)
class Layer:
    w: Any
    b: Any
    activation: Any = np.tanh
    name: str = dataclasses.field(default="layer", metadata={"static": True})

    def __post_init__(self):
        raise AssertionError("loading must not run __init__ again")


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    step: int
    moments: Any


def make(cls, **fields):
    made = object.__new__(cls)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


def a_layer(scale=1.0):
    return make(Layer, w=scale * np.ones((2, 3)), b=np.zeros(3), activation=np.tanh, name="one")


def same(a, b):
    """Whether two trees are equal in structure, types, dtypes and bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, np.generic):
        return a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return a.hex() == b.hex()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    return a == b


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tree.npz"


ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.arange(6, dtype=np.float32).reshape(2, 3).T,
    np.arange(10)[::-2],
    np.array([True, False]),
    np.array(3.5),
    np.zeros((0, 4), np.float32),
    np.array([1 + 2j, np.inf, -0.0]),
    np.array([np.nan, np.inf, -0.0, 5e-324]),
    np.arange(3, dtype=">f4"),
    np.arange(3, dtype=np.float16),
    np.array(["a", "bcd"]),
    np.array([b"a", b"bcd"]),
    np.array(["2026-01-01"], "M8[D]"),
    np.broadcast_to(1.0, (2, 3)),
]


@pytest.mark.parametrize("x", ARRAYS, ids=lambda x: f"{x.dtype.str}-{x.shape}")
def test_an_array_comes_back_bit_for_bit(path, x):
    save(path, x)
    found = load(path)
    assert same(found, np.array(x))
    assert found.flags.writeable
    assert same(load(path, like=x), np.array(x))


TREES = [
    None,
    True,
    -7,
    10**40,
    0.1,
    float("inf"),
    -0.0,
    2 + 0.5j,
    "text with ünïcode / \\ ' \" \x00",
    np.float32(0.1),
    np.int8(3),
    [],
    (),
    {},
    [1, [2.0, (None, "x")], {"a": ()}],
    {"b": np.ones(2), "a": np.zeros(3), 3: "three", -1: [np.ones(1)]},
    {
        "a/b": np.ones(1),
        "a.b": np.ones(2),
        "a": {"b": np.ones(3)},
        "": np.ones(4),
        "..": np.ones(5),
    },
    {"array-0": np.ones(1), "x y": np.ones(2), "array-1": np.ones(3), "structure": np.ones(4)},
    {"structure.json": np.ones(1), "x" * 300: np.ones(2)},
    OrderedDict([("z", 1), ("a", np.ones(2))]),
    {"d": np.dtype("f4"), "t": np.float64, "f": np.tanh, "relu": np.maximum},
    Device("cuda", 1),
]


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: repr(tree)[:40])
def test_a_tree_comes_back_as_it_was(path, tree):
    save(path, tree)
    assert same(load(path), tree)
    assert same(load(path, like=tree), tree)


def test_primitives_come_back_by_name(path):
    from nnmath_core.autodiff.primitive import REGISTRY

    save(path, {"activation": REGISTRY["tanh"]})
    assert load(path)["activation"] is REGISTRY["tanh"]


def test_classes_of_others_come_back_with_like(path):
    tree = {"model": [a_layer(2.0)], "state": Pair(make(State, step=3, moments=np.ones(2)), None)}
    like = {"model": [a_layer()], "state": Pair(make(State, step=0, moments=np.zeros(2)), None)}
    save(path, tree)
    found = load(path, like=like)
    assert same(found, tree)
    assert found["state"].first.step == 3  # numbers are those of the file


def test_classes_of_others_need_like(path):
    save(path, {"model": [a_layer()]})
    with pytest.raises(TreeError) as caught:
        load(path)
    assert str(caught.value) == (
        f"load: `tree['model'][0]` was saved with the class {Layer.__module__}:Layer, which is none "
        "of nnmath_core, and nothing else is imported. Pass a tree of the same structure as `like=`."
    )
    save(path, Pair(1, 2))
    with pytest.raises(TreeError, match=r"load: `tree` was saved with the class .*:Pair, which is"):
        load(path)


def test_functions_of_others_need_like(path):
    def mine(x):
        return x

    save(path, {"f": mine})
    with pytest.raises(
        TreeError, match=r"load: `tree\['f'\]` was saved with the function .*mine, wh"
    ):
        load(path)
    assert load(path, like={"f": mine})["f"] is mine
    with pytest.raises(
        TreeError, match=r"load: `like\['f'\]` must have the structure that was saved"
    ):
        load(path, like={"f": np.tanh})
    half = partial(np.power, 0.5)
    save(path, half)
    with pytest.raises(TreeError, match="Pass a tree of the same structure"):
        load(path)
    assert load(path, like=half) is half


def test_nothing_outside_the_package_is_looked_up(path):
    for name in (
        "os:system",
        "builtins:eval",
        "nnmath_core.io.storage:shutil.copyfile",
        "nnmath_core.__main__:main",
    ):
        write_structure(path, {"callable": name})
        with pytest.raises(TreeError, match="which is none of nnmath_core, and nothing else is"):
            load(path)
        write_structure(path, {"dataclass": name, "fields": []})
        with pytest.raises(TreeError, match="was saved with"):
            load(path)


def write_structure(path, node, version=1):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("structure.json", json.dumps({"format": version, "tree": node}))


LIKE = [
    (
        {"a": 1, "b": 2},
        {"a": 1},
        r"`like` .*a dict with the keys 'a', 'b', got a dict with the keys",
    ),
    ({"a": [1, 2]}, {"a": [1]}, r"`like\['a'\]` .*a list of length 2, got a list of length 1\."),
    (
        {"a": [1, 2]},
        {"a": (1, 2)},
        r"`like\['a'\]` .*a list of length 2, got a tuple of length 2\.",
    ),
    ([1.0], [1], r"`like\[0\]` must have .* saved, a float, got an int\."),
    ([None], [1], r"`like\[0\]` must have the structure that was saved, None, got an int\."),
    (["a"], [None], r"`like\[0\]` must have the structure that was saved, a str, got None\."),
    ([np.ones(2)], [1.0], r"`like\[0\]` .* saved, float64 array of shape \(2,\), got 1\.0\."),
    ([np.float64(2)], [np.ones(())], r"`like\[0\]` must have the structure that was saved"),
    (Pair(1, 2), (1, 2), r"`like` must have the structure that was saved, Pair, got a tuple"),
    (make(State, step=1, moments=2), Pair(1, 2), r"`like` .* was saved, State, got a Pair"),
]


@pytest.mark.parametrize(("tree", "like", "words"), LIKE, ids=lambda x: repr(x)[:20])
def test_another_structure_is_named_by_its_path(path, tree, like, words):
    save(path, tree)
    with pytest.raises(TreeError, match="load: " + words):
        load(path, like=like)


def test_another_shape_or_dtype_is_named_by_its_path(path):
    save(path, {"w": [np.ones((2, 3))]})
    with pytest.raises(ShapeError, match=r"`like\['w'\]\[0\]` .*shape \(2, 3\), got \(3, 2\)"):
        load(path, like={"w": [np.ones((3, 2))]})
    with pytest.raises(DtypeError, match=r"`like\['w'\]\[0\]` .*float64 elements, got float32"):
        load(path, like={"w": [np.ones((2, 3), np.float32)]})


def test_a_class_whose_fields_have_changed_is_refused(path):
    write_structure(
        path, {"dataclass": "nnmath_core.device.names:Device", "fields": [["kind", "c"]]}
    )
    with pytest.raises(
        TreeError, match=r"saved with the fields \['kind'\], and Device has \['kind'"
    ):
        load(path)


def test_numpy_reads_the_arrays_by_their_paths(path):
    save(path, {"layers": [{"w": np.ones(2)}], "step": 3})
    with np.load(path) as plain:
        assert plain["layers.0.w"].tolist() == [1.0, 1.0]


def test_the_same_tree_gives_the_same_bytes(path, tmp_path):
    save(path, {"a": np.ones(2), "b": [1, "x"]})
    save(tmp_path / "again.npz", {"a": np.ones(2), "b": [1, "x"]})
    assert path.read_bytes() == (tmp_path / "again.npz").read_bytes()


def test_a_state_saved_in_another_process_loads(path):
    program = (
        "import sys, numpy as np; from nnmath_core.io import save; "
        "save(sys.argv[1], {'w': np.arange(3.0), 'device': __import__('nnmath_core.device')"
        ".device.names.Device('cuda', 1)})"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert same(load(path), {"w": np.arange(3.0), "device": Device("cuda", 1)})


# -------------------------------------------------------------------- what cannot be saved


class Opaque:
    def __repr__(self):
        return "opaque"


class Renamed(dict):
    pass


REFUSED = [
    (
        {"w": np.array([None, 1])},
        DtypeError,
        r"`tree\['w'\]` cannot be saved: object array of shap",
    ),
    ([np.ma.ones(2)], DtypeError, r"`tree\[0\]` cannot be saved: masked .*its mask would be lost"),
    ([np.zeros(2, [("a", "f4")])], DtypeError, r"`tree\[0\]` cannot be saved: .*would need pickle"),
    ({"a": [1, {2, 3}]}, TreeError, r"`tree\['a'\]\[1\]` cannot be saved: a set\. Arrays, numbers"),
    ({"a": Opaque()}, TreeError, r"`tree\['a'\]` cannot be saved: an Opaque"),
    ({(1, 2): 3}, TreeError, r"the keys of `tree` must be strings or integers, got a tuple"),
    (
        {"a": {True: 3}},
        TreeError,
        r"the keys of `tree\['a'\]` must be strings or integers, got True",
    ),
    (
        {"a": {1.5: 3}},
        TreeError,
        r"the keys of `tree\['a'\]` must be strings or integers, got 1\.5",
    ),
    (Renamed(a=1), TreeError, "`tree` cannot be saved: a Renamed. Convert it to a dict"),
    (defaultdict(list), TreeError, "`tree` cannot be saved: a defaultdict. Convert it to a dict"),
    (b"bytes", TreeError, "`tree` cannot be saved: a bytes"),
]


@pytest.mark.parametrize(("tree", "error", "words"), REFUSED, ids=lambda x: repr(x)[:20])
def test_what_cannot_be_saved_is_named_by_its_path(path, tree, error, words):
    save(path, {"old": 1})
    with pytest.raises(error, match="save: " + words):
        save(path, tree)
    assert load(path) == {"old": 1}
    assert os.listdir(path.parent) == ["tree.npz"]


def test_a_tree_that_contains_itself_is_refused(path):
    tree = [1]
    tree.append(tree)
    with pytest.raises(TreeError, match=r"nested deeper than 200 levels\. Does it contain it"):
        save(path, tree)


def test_a_traced_value_is_refused(path):
    def f(x):
        save(path, {"x": [x]})
        return x

    with pytest.raises(
        TraceError, match=r"save: `tree\['x'\]\[0\]` is a traced value\. Save outside"
    ):
        nm.grad(f)(1.0)
    assert not path.exists()


# ------------------------------------------------------------------------ files and folders


def test_the_name_ends_in_npz(tmp_path):
    with pytest.raises(
        DomainError, match=r'save: `path` must end in "\.npz" or "\.safetensors", got \'.*model\'\.'
    ):
        save(tmp_path / "model", {})
    assert os.listdir(tmp_path) == []


def test_a_missing_file_or_folder_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"load: there is no file '.*nothing\.npz'\."):
        load(tmp_path / "nothing.npz")
    with pytest.raises(
        FileNotFoundError, match=r"save: there is no folder '.*no'\. Create it first"
    ):
        save(tmp_path / "no" / "a.npz", {})


def test_a_plain_npz_file_is_told_apart(path):
    np.savez(path, w=np.ones(2))
    with pytest.raises(DomainError, match=r"was not written by nnmath_core\.save: it has no str"):
        load(path)


def test_a_newer_format_is_told_apart(path):
    write_structure(path, None, version=2)
    with pytest.raises(
        DomainError, match="has format 2 and this version of nnmath_core reads form"
    ):
        load(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_damaged_file_is_one_clear_error_or_harmless(path):
    tree = {
        "w": np.arange(6.0).reshape(2, 3),
        "n": [1, 2.5, (np.float32(2),)],
        "t": np.array(["a"]),
    }
    save(path, tree)
    whole = path.read_bytes()
    outcomes = Counter()
    for i in range(0, len(whole), 3):
        turned = whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :]
        for kind, content in (("cut", whole[:i]), ("turned", turned)):
            path.write_bytes(content)
            try:
                found = load(path)
            except DomainError as error:
                outcomes[kind] += 1
                assert str(error).startswith(f"load: {str(path)!r} ")  # noqa: PT017
                assert error.__suppress_context__ or "structure" in str(error)  # noqa: PT017
            else:
                assert kind == "turned"
                assert same(found, tree)  # a date or another field that nothing reads
    assert outcomes["cut"] == len(range(0, len(whole), 3))
    assert outcomes["turned"] > 200


def test_an_array_with_bytes_after_its_end_is_damaged(path):
    write_structure(path, {"array": "x"})
    with zipfile.ZipFile(path, "a") as archive, archive.open("x.npy", "w") as member:
        np.lib.format.write_array(member, np.ones(2))
        member.write(b"more")
    with pytest.raises(DomainError, match=r"is damaged .*\(x is longer than its header says\)"):
        load(path)


def test_a_text_file_is_one_clear_error(path):
    path.write_text("not an archive\n" * 10)
    with pytest.raises(
        DomainError, match=r"is damaged or not an \.npz file \(File is not a zip file\)"
    ):
        load(path)


@pytest.mark.parametrize("step", ["write_array", "fsync", "replace"])
def test_an_interrupted_save_leaves_the_old_file(path, monkeypatch, step):
    save(path, {"w": np.ones(3)})
    old = path.read_bytes()

    def interrupt(*args, **keywords):
        raise KeyboardInterrupt

    home = np.lib.format if step == "write_array" else os
    monkeypatch.setattr(home, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(path, {"w": np.zeros(300)})
    monkeypatch.undo()
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == ["tree.npz"]
    assert same(load(path), {"w": np.ones(3)})


def test_a_full_disk_leaves_the_old_file(path, monkeypatch):
    save(path, {"w": np.ones(3)})

    def full(*args, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage_module.np.lib.format, "write_array", full)
    with pytest.raises(OSError, match="No space left on device"):
        save(path, {"w": np.zeros(3)})
    monkeypatch.undo()
    assert load(path)["w"].tolist() == [1.0, 1.0, 1.0]
    assert os.listdir(path.parent) == ["tree.npz"]


@pytest.mark.skipif(os.name != "posix", reason="modes and links are those of POSIX")
def test_a_replaced_file_keeps_its_mode_and_a_link_its_place(path, tmp_path):
    save(path, 1)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    path.chmod(0o640)
    link = tmp_path / "link.npz"
    link.symlink_to(path)
    save(link, 2)
    assert link.is_symlink()
    assert load(path) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_relative_name_is_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("here.npz", (1, 2))
    assert load("here.npz") == (1, 2)


def test_saved_trees_flatten_as_before(path):
    tree = {"b": [np.ones(2), None], "a": (np.zeros(1),)}
    save(path, tree)
    leaves, treedef = _tree.flatten(load(path))
    assert treedef == _tree.flatten(tree)[1]
    assert same(_tree.unflatten(treedef, leaves), {"a": tree["a"], "b": tree["b"]})
