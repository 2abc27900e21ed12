"""Arrays on their way: how many copies and waits, on which streams, what may happen to their sources.

Copies are late where a test says so (``late``): the emulated device reads the host's memory at the last moment that
CUDA allows, so that a source that is read after the call has returned shows.
"""

import threading

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.device import backend_for, device_of, staging, to_device

SIZES = (0, 1, 31, 32, 33, 1023, 4099)
DTYPES = (
    "bool",
    "int8",
    "uint16",
    "int64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)
KINDS = ("host to device", "device to host", "device to device", "synchronize", "launch")


def counts(device):
    return {name: device.counters[name] for name in KINDS if device.counters[name]}


@pytest.fixture
def late(device):
    """The emulated device with copies from the host that are late."""
    device.timing["late"] = True
    return device


def layouts(x):
    """Return views of an array of two axes: C, Fortran, with steps, reversed, broadcast."""
    yield from (x, x.T, x[::2, 1:], x[::-1, ::-1], np.broadcast_to(x[0], x.shape), x[:0], x[0, 0])


# ------------------------------------------------------------------------------------ to a device
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_dtypes_and_layouts_arrive(cp, dtype):
    x = (np.arange(63).reshape(9, 7) % 5).astype(dtype)
    for v in layouts(x):
        v = np.asarray(v)
        y = to_device(v, "cuda:0")
        assert (y.shape, y.dtype) == (v.shape, v.dtype)
        assert y.flags.f_contiguous if v.flags.fnc else y.flags.c_contiguous
        np.testing.assert_array_equal(cp.asnumpy(y), v)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", SIZES)
def test_hard_values_arrive_to_the_bit(cp, n, dtype):
    x = np.resize(np.array([np.nan, np.inf, -np.inf, -0.0, np.finfo(dtype).max, -1e-30]), n).astype(
        dtype
    )
    back = to_device(to_device(x, "cuda:0"), "cpu")
    assert back.tobytes() == x.tobytes()


def test_foreign_byte_order_becomes_native(cp):
    x = np.arange(5, dtype=">f8")
    y = to_device(x, "cuda:0")
    assert y.dtype == np.float64
    assert cp.asnumpy(y).tolist() == x.tolist()


def test_a_tree_costs_a_copy_for_each_array_and_no_wait(device):
    tree = {"w": [np.ones(n, np.float32) for n in SIZES if n], "none": np.ones((0, 3)), "n": 3}
    to_device(tree, "cuda:0")  # pins the memory
    device.counters.clear()
    moved = to_device(tree, "cuda:0")
    assert counts(device) == {"host to device": len(tree["w"])}
    assert device.counters["pinned"] == 0
    assert device.counters["malloc"] == len(tree["w"])
    device.counters.clear()
    again = to_device(moved, "cuda:0")
    assert again["w"][0] is moved["w"][0]
    assert counts(device) == {}


def test_a_source_may_be_changed_as_soon_as_the_call_returns(late, cp):
    pinned = __import__("cupyx").empty_pinned(1023, np.float32)
    pinned[...] = 1
    tree = [np.ones(1023, np.float32), np.ones((33, 31)).T, pinned, np.ones(1)]
    moved = to_device(tree, "cuda:0")
    for x in tree:
        x[...] = 7
    del x, pinned
    tree.clear()
    assert late.pending
    assert counts(late) == {}
    for y in moved:
        assert (cp.asnumpy(y) == 1).all()


def test_what_does_not_fit_into_the_pinned_memory_waits_for_its_parts(late, cp):
    parts = 2 * staging._RING // staging._PART + 1
    x = np.arange(parts * staging._PART // 4, dtype=np.float32)[:-3]
    y = to_device(x, "cuda:0")
    assert late.counters["pinned"] <= 1
    assert late.counters["synchronize"] == 2  # at each, all four parts are there
    want = x.copy()
    x[...] = -1
    assert np.array_equal(cp.asnumpy(y), want)
    assert late.counters["host to device"] == parts
    late.timing["late"] = False
    late.counters.clear()
    to_device(x, "cuda:0")
    assert counts(late) == {"host to device": parts}  # a device that keeps up is never waited for


def test_the_ring_is_right_for_any_sequence_of_sizes(late, cp, monkeypatch):
    monkeypatch.setattr(staging, "_RING", 4096)
    monkeypatch.setattr(staging, "_PART", 1024)
    be = backend_for("cuda:0")
    monkeypatch.setattr(be, "staging", staging.Staging(cp, be._cupyx.empty_pinned))
    rng = np.random.default_rng(0)
    moved = []
    for _ in range(200):
        x = rng.integers(0, 255, rng.integers(0, 3000)).astype(np.uint8)
        moved.append((x.copy(), to_device(x, "cuda:0")))
        x[...] = 0
    for want, got in moved:
        assert np.array_equal(cp.asnumpy(got), want)


def test_threads_share_the_pinned_memory(cp):
    found, errors = {}, []

    def send(k):
        try:
            for i in range(20):
                found[k, i] = to_device(np.full(1023, 100 * k + i), "cuda:0")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=send, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    assert all((cp.asnumpy(y) == 100 * k + i).all() for (k, i), y in found.items())


def test_copies_belong_to_the_current_stream(device, cp):
    x = np.ones(33)
    with cp.cuda.Stream(non_blocking=True) as stream:
        to_device([x, x], "cuda:0")
    assert [row[:2] for row in device.history if row[0] == "copy"] == [("copy", stream.ptr)] * 2
    assert [row[1] for row in device.history if row[0] == "record"] == [stream.ptr] * 2


def test_without_pinned_memory_the_host_waits(device, cp, monkeypatch):
    def refuse(status):
        def empty_pinned(size, dtype):
            raise cp.cuda.runtime.CUDARuntimeError(status)

        return staging.Staging(cp, empty_pinned)

    be = backend_for("cuda:0")
    monkeypatch.setattr(be, "staging", refuse(2))
    x = np.arange(12.0).reshape(3, 4)
    for v in layouts(x):
        assert np.array_equal(cp.asnumpy(to_device(np.asarray(v), "cuda:0")), v)
    assert device.counters["synchronize"] > 0
    monkeypatch.setattr(be, "staging", refuse(999))
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError):
        to_device(x, "cuda:0")


@pytest.mark.parametrize("bad", [np.array([None]), np.ones(2, np.longdouble), np.ma.ones(2)])
def test_nothing_is_moved_when_a_leaf_cannot_be(device, bad):
    with pytest.raises(nm.errors.DtypeError, match=r"`tree\[1\]` cannot be moved to cuda:0"):
        to_device([np.ones(3), bad], "cuda:0")
    assert counts(device) == {}


# -------------------------------------------------------------------------------------- to the host
def test_a_tree_comes_back_with_one_wait(device):
    tree = {"a": [np.arange(n, dtype=np.float32) for n in SIZES], "b": np.ones((5, 3)).T, "n": 2.5}
    moved = to_device(tree, "cuda:0")
    device.counters.clear()
    back = to_device(moved, "cpu")
    assert counts(device) == {
        "device to host": len(SIZES),
        "synchronize": 1,
    }  # the empty one has none
    for got, want in zip(nm.tree_leaves(back), nm.tree_leaves(tree), strict=True):
        np.testing.assert_array_equal(got, want)


def test_what_is_queued_is_done_before_it_comes_back(device, cp):
    x = to_device(np.arange(33.0), "cuda:0")
    with cp.cuda.Stream(non_blocking=True) as stream:
        y = x * 2
        back = to_device(y, "cpu")
    assert back.tolist() == [2.0 * i for i in range(33)]
    names = [row[0] for row in device.history if row[1] == stream.ptr]
    assert names[-2:] == ["copy", "synchronize"]


# --------------------------------------------------------------------------------- between devices
def two(cp):
    if cp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("two devices are needed")


def happens_before(history, first, last):
    """Whether an entry of the history is done before another one begins, by streams and events alone.

    Each stream is an order of its own; an event carries what its stream had done to the stream that waits for it.
    """
    done = {}  # by stream, and by event: the entries that are behind it
    for i, (what, stream, of) in enumerate(history):
        here = done.setdefault(stream, set())
        if i == last:
            return first in here
        if what == "wait":
            here |= done.get(("event", of), set())
        elif what == "record":
            done["event", of] = set(here)
        here.add(i)
    raise AssertionError("the history has no such entry")


@pytest.mark.parametrize("layout", range(7))
def test_between_devices_copies_are_ordered_by_events(device, cp, layout):
    two(cp)
    host = np.asarray([*layouts(np.arange(63.0).reshape(9, 7))][layout])
    with cp.cuda.Device(0), cp.cuda.Stream(non_blocking=True) as source:
        x = to_device(host, "cuda:0") * 3  # queued, perhaps not done
        with cp.cuda.Device(1), cp.cuda.Stream(non_blocking=True) as target:
            device.counters.clear()
            y = to_device(x, "cuda:1")
        x *= 0  # the next work of its stream overwrites what is copied
        del x
    assert str(device_of(y)) == "cuda:1"
    assert not counts(device).get("synchronize")
    np.testing.assert_array_equal(to_device(y, "cpu"), 3 * host)
    if host.size == 0:
        return
    history = [*device.history]
    copies = [
        i
        for i, row in enumerate(history)
        if row[:2] == ("copy", target.ptr) and row[2] == host.nbytes
    ]
    kernels = [i for i, row in enumerate(history) if row[:2] == ("launch", source.ptr)]
    (copy,), before, after = copies[:1], kernels[0], kernels[-1]
    assert happens_before(history, before, copy)
    assert happens_before(history, copy, after)


def test_the_order_of_a_history_is_known():
    rows = [
        ("launch", 1, "f"),
        ("record", 1, 9),
        ("launch", 1, "g"),
        ("wait", 2, 9),
        ("launch", 2, "h"),
    ]
    assert happens_before(rows, 0, 4)
    assert not happens_before(rows, 2, 4)  # queued after the event
    assert not happens_before([row for row in rows if row[0] != "wait"], 0, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_arrive_on_another_device(cp, dtype):
    two(cp)
    x = (np.arange(63).reshape(9, 7) % 5).astype(dtype)
    for v in layouts(x):
        v = np.asarray(v)
        for names in (("cuda:0", "cuda:1"), ("cuda:1", "cuda:0")):
            y = to_device(to_device(v, names[0]), names[1])
            assert str(device_of(y)) == names[1]
            assert (y.shape, y.dtype) == (v.shape, v.dtype)
            np.testing.assert_array_equal(to_device(y, "cpu"), v)


def test_a_part_of_a_device_array_moves_alone(cp):
    two(cp)
    x = to_device(np.arange(63.0).reshape(9, 7), "cuda:0")
    y = to_device(x[1::2, ::-2], "cuda:1")
    np.testing.assert_array_equal(to_device(y, "cpu"), np.arange(63.0).reshape(9, 7)[1::2, ::-2])
    (back,) = to_device([x[:, 0]], "cpu")
    assert back.tolist() == [7.0 * i for i in range(9)]


def test_a_tree_of_both_devices_waits_for_each_once(device, cp):
    two(cp)
    tree = [to_device(np.full(3, float(i)), f"cuda:{i % 2}") for i in range(6)]
    device.counters.clear()
    back = to_device(tree, "cpu")
    assert counts(device) == {"device to host": 6, "synchronize": 2}
    assert [x[0] for x in back] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_what_is_kept_is_given_up_after_its_work(late, cp, monkeypatch):
    class Thing:
        pass

    be, thing = backend_for("cuda:0"), Thing()
    # a ring of its own: one that other tests have filled waits for what is behind it
    monkeypatch.setattr(be, "staging", type(be.staging)(cp, be._cupyx.empty_pinned))
    ends = []
    import weakref

    weakref.finalize(thing, ends.append, 1)
    y = to_device(np.ones(3), "cuda:0")
    be.staging.keep(thing)
    del thing
    be.staging.keep(None)
    assert ends == []  # the copy is still on its way
    cp.cuda.get_current_stream().synchronize()
    be.staging.keep(None)
    assert ends == [1]
    del y
