"""Attention, blocks and embeddings on device arrays: value, gradient and second order are the host's."""

import functools

import numpy as np
import pytest
from test_transformer import NAMES, layers

import nnmath_core as nm

DTYPES = [np.float32, np.float64]
OPTIONS = {
    "plain": {},
    "causal": {"causal": True},
    "mask": {"mask": np.arange(6) % 3 > 0},
    "dead row": {"mask": (np.arange(5) != 2)[:, None]},
    "bias": {"bias": np.linspace(-1.0, 1.0, 6)},
    "dropout": {"dropout_rate": 0.4, "key": nm.random.key(1)},
}


def close(cp, got, want, dtype):
    assert type(got) is cp.ndarray
    assert got.dtype == want.dtype == dtype
    size = max(1.0, float(np.max(np.abs(want), initial=0.0)))
    # sums of some dozen terms, in another order
    assert np.max(np.abs(cp.asnumpy(got) - want), initial=0.0) <= 256 * np.finfo(dtype).eps * size


def compare(cp, f, there, here, dtype):
    """Value, gradient and Hessian-vector product of sum(sin(f)), on the device and on the host."""
    close(cp, f["there"](*there), f["here"](*here), dtype)
    every = tuple(range(len(here)))
    results = []
    for g, xs in ((f["there"], there), (f["here"], here)):
        number = lambda *a, g=g: np.sum(np.sin(g(*a)))  # noqa: E731
        results.append((nm.grad(number, argnums=every)(*xs), nm.hvp(number, xs, xs)))
    for a, b in zip(*map(nm.tree_leaves, results), strict=True):
        close(cp, a, b, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_layer_gives_what_it_gives_on_the_host(cp, name, dtype):
    layer, shape = layers(dtype)[name]
    here = (layer, np.random.default_rng(3).standard_normal(shape).astype(dtype))
    call = lambda m, x: m(x)  # noqa: E731
    compare(cp, {"there": call, "here": call}, nm.to_device(here, "cuda:0"), here, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("block_size", [None, 2])  # as one operation, and composed
def test_attention_gives_what_it_gives_on_the_host(cp, block_size, name, dtype):
    rng = np.random.default_rng(3)
    here = tuple(rng.standard_normal((2, 4, n, 3)).astype(dtype) for n in (5, 6, 6))
    options = {k: v.astype(dtype) if k == "bias" else v for k, v in OPTIONS[name].items()}
    device = {
        k: nm.to_device(v, "cuda:0") if isinstance(v, np.ndarray) else v for k, v in options.items()
    }
    f = {
        "there": functools.partial(nm.nn.attention, block_size=block_size, **device),
        "here": functools.partial(nm.nn.attention, block_size=block_size, **options),
    }
    compare(cp, f, nm.to_device(here, "cuda:0"), here, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_embedding_gives_what_it_gives_on_the_host(cp, dtype):
    layer, x = (
        nm.nn.Embedding.init(5, 3, padding_index=1, rng=0, dtype=dtype),
        np.array([[4, 1], [0, 4]]),
    )
    tx = nm.to_device(x, "cuda:0")
    f = {"there": lambda m: m(tx), "here": lambda m: m(x)}
    compare(cp, f, (nm.to_device(layer, "cuda:0"),), (layer,), dtype)
    with pytest.raises(nm.DomainError, match=r"got 9 at index 1"):
        nm.to_device(layer, "cuda:0")(nm.to_device(np.array([0, 9]), "cuda:0"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_gives_what_it_gives_on_the_host(cp, interleaved, dtype):
    x = np.random.default_rng(3).standard_normal((2, 5, 4)).astype(dtype)
    f = functools.partial(nm.nn.rotary, interleaved=interleaved)
    compare(cp, {"there": f, "here": f}, (nm.to_device(x, "cuda:0"),), (x,), dtype)


def test_training_drops_the_same_entries_as_on_the_host(cp):
    block = nm.nn.TransformerBlock.init(8, 2, dropout=0.3, rng=0)
    x, key = np.random.default_rng(3).standard_normal((2, 5, 8)), nm.random.key(1)
    want, _ = block.train(x, key=key, causal=True)
    there, tx, tkey = nm.to_device((block, x, key), "cuda:0")
    close(cp, there.train(tx, key=tkey, causal=True)[0], want, np.float64)


def test_initial_layers_are_on_the_default_device(cp):
    with nm.default_device("cuda:0"):
        made = [
            nm.nn.MultiHeadAttention.init(4, 2, rng=0),
            nm.nn.TransformerBlock.init(4, 2, rng=0),
            nm.nn.Embedding.init(4, 2, rng=0),
            nm.nn.PositionEmbedding.init(4, 2, rng=0),
            nm.nn.positional_encoding(3, 4),
        ]
    for layer in made:
        assert all(type(leaf) is cp.ndarray for leaf in nm.tree_leaves(layer))
