"""Batches of rows: every row once an epoch, the same order from the same generator."""

import itertools

import numpy as np
import pandas
import pytest

from nnmath_core.errors import DomainError, DtypeError, ShapeError
from nnmath_core.io import batches


def rows_of(epoch):
    return [batch[0].tolist() for batch in epoch]


def rows_in(epoch):
    return list(itertools.chain.from_iterable(rows_of(epoch)))


def data(n=10):
    return np.arange(n), np.arange(3.0 * n).reshape(n, 3)


def test_an_epoch_holds_every_row_once_and_keeps_rows_together():
    i, x = data(11)
    seen = []
    for ib, xb in batches((i, x), size=4, rng=0):
        assert np.array_equal(xb, x[ib])
        seen += ib.tolist()
    assert sorted(seen) == list(range(11))


def test_the_same_seed_gives_the_same_epochs():
    first, second = (batches(data(), size=3, rng=7) for _ in range(2))
    epochs = [rows_of(first) for _ in range(3)]
    assert epochs == [rows_of(second) for _ in range(3)]
    assert len({str(epoch) for epoch in epochs}) == 3  # a new order each time
    assert rows_of(batches(data(), size=3, rng=8)) not in epochs


def test_the_order_is_a_permutation_of_the_generator():
    order = np.random.default_rng(5).permutation(10).tolist()
    assert rows_in(batches(data(), size=4, rng=5)) == order
    generator = np.random.default_rng(5)
    epoch = batches(data(), size=4, rng=generator)
    assert rows_in(epoch) == order
    again = np.random.default_rng(5)
    again.permutation(10)
    assert rows_in(epoch) == again.permutation(10).tolist()


def test_an_epoch_draws_its_order_when_it_begins():
    source = batches(data(), size=10, rng=1)
    first, second = iter(source), iter(source)
    expected = [rows_of(e) for e in [batches(data(), size=10, rng=1)] * 2]
    assert [next(second)[0].tolist()] == expected[1]
    assert [next(first)[0].tolist()] == expected[0]


def test_no_seed_gives_another_order():
    # equal with probability 1 / 100!
    assert rows_of(batches(data(100), size=100)) != rows_of(batches(data(100), size=100))


@pytest.mark.parametrize(
    ("n", "size", "drop_last", "lengths"),
    [
        (10, 3, False, [3, 3, 3, 1]),
        (10, 3, True, [3, 3, 3]),
        (9, 3, False, [3, 3, 3]),
        (9, 3, True, [3, 3, 3]),
        (2, 5, False, [2]),
        (5, 5, True, [5]),
        (1, 1, False, [1]),
    ],
)
def test_the_remainder_is_given_unless_dropped(n, size, drop_last, lengths):
    epoch = batches(data(n), size=size, rng=0, drop_last=drop_last)
    assert [len(i) for i, _ in epoch] == lengths
    assert len(epoch) == len(lengths)


def test_without_shuffling_rows_come_in_order_and_nothing_is_drawn():
    generator = np.random.default_rng(0)
    i, x = data()
    found = list(batches((i, x), size=4, rng=generator, shuffle=False))
    assert np.array_equal(np.concatenate([a for a, _ in found]), i)
    assert all(np.shares_memory(b, x) for _, b in found)
    assert generator.random() == np.random.default_rng(0).random()


def test_a_shuffled_batch_is_a_copy():
    i, x = data()
    for _, xb in batches((i, x), size=4, rng=0):
        assert not np.shares_memory(xb, x)


def test_batches_keep_the_structure_of_the_tree():
    i, x = data()
    tree = {"x": x, "labels": [i, (i,)]}
    for batch in batches(tree, size=4, rng=0):
        assert np.array_equal(batch["x"], x[batch["labels"][0]])
        assert np.array_equal(batch["labels"][0], batch["labels"][1][0])
    assert [b.shape for b in batches(x, size=5, rng=0)] == [(5, 3), (5, 3)]


def test_a_pandas_frame_gives_arrays():
    frame = pandas.DataFrame({"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 6.0]}, index=[7, 8, 9])
    x, y = next(iter(batches((frame, frame["a"]), size=3, shuffle=False)))
    assert x.tolist() == [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]
    assert y.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("arrays", "options", "error", "words"),
    [
        (data(), {"size": 0}, DomainError, "batches: `size` must be a positive integer, got 0"),
        (data(), {"size": 2.0}, DtypeError, "batches: `size` must be a positive integer, got 2.0"),
        (data(), {"size": True}, DtypeError, "batches: `size` must be a positive integer, got Tr"),
        (data(), {"size": 2, "rng": "a"}, DtypeError, "batches: `rng` must be None, an integer"),
        ((), {"size": 2}, DomainError, "batches: `arrays` must hold at least one array"),
        ((np.ones((0, 3)),), {"size": 2}, DomainError, r"`arrays\[0\]` must have at least one row"),
        (
            (np.ones(3), {"y": np.ones(4)}),
            {"size": 2},
            ShapeError,
            r"`arrays\[1\]\['y'\]` must have 3 rows as `arrays\[0\]` has, got shape \(4,\)\.",
        ),
        ((np.ones(3), np.array(1.0)), {"size": 2}, ShapeError, r"`arrays\[1\]` must have rows"),
        (([1.0, 2.0],), {"size": 2}, DtypeError, r"`arrays\[0\]\[0\]` must be an array, got 1\.0"),
        ((np.float64(1),), {"size": 2}, DtypeError, r"`arrays\[0\]` must be an array, got 1\.0\."),
        (
            data(),
            {"size": 11, "drop_last": True},
            DomainError,
            "`size` must be at most 10, the number of rows, got 11. With `drop_last` no batch",
        ),
    ],
)
def test_batches_refuse_bad_input(arrays, options, error, words):
    with pytest.raises(error, match=words):
        batches(arrays, **options)
