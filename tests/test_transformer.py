"""Multi-head attention, transformer blocks, embeddings, positions, and layers made of layers."""

import functools
import json
import math

import numpy as np
import pytest
from reference import attention_torch
from reference.parity import compare, direction, weights

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError

DTYPES = [np.float32, np.float64]
EPS = np.finfo(np.float64).eps
STORED = json.loads(attention_torch.STORED.read_text())["cases"]
CASES = {k: v for k, v in attention_torch.cases().items() if v["kind"] != "attention"}


@pytest.fixture
def rng():
    return np.random.default_rng(20261126)


def layers(dtype=np.float64):
    """Name -> layer, and the shape of what it takes, of floats; indices for embeddings are the caller's."""
    nn = nm.nn
    made = {"rng": 3, "dtype": dtype}
    return {
        "MultiHeadAttention": (nn.MultiHeadAttention.init(4, 2, **made), (2, 3, 4)),
        "MultiHeadAttention, grouped": (nn.MultiHeadAttention.init(8, 4, kv_heads=2, bias=False, **made), (3, 8)),
        "TransformerBlock": (nn.TransformerBlock.init(4, 2, hidden=5, **made), (2, 3, 4)),
        "TransformerBlock, post-norm": (
            nn.TransformerBlock.init(4, 2, hidden=5, norm_first=False, activation=np.tanh, **made), (2, 3, 4),
        ),
        "PositionEmbedding": (nn.PositionEmbedding.init(5, 4, std=1.0, **made), (2, 3, 4)),
        "Sequential": (
            nn.Sequential([nn.Dense.init((4, 3), **made), np.tanh, nn.Dense.init((3, 2), **made), nn.softplus]), (2, 4),
        ),
        "Residual": (nn.Residual(nn.Dense.init((4, 4), **made)), (2, 4)),
        "Residual, projection": (
            nn.Residual(nn.Dense.init((4, 2), **made), nn.Dense.init((4, 2), bias=False, **made)), (2, 4),
        ),
    }  # fmt: skip


NAMES = list(layers())


def close(got, want, tol):
    assert got.shape == want.shape
    assert np.max(np.abs(got - want), initial=0.0) <= tol


# ---------------------------------------------------------------------------------------------------------- PyTorch
def dense(rest, bias):
    """The layers of a flat list of weights and biases."""
    pairs = [(w, None) for w in rest] if not bias else zip(rest[::2], rest[1::2], strict=True)
    return [nm.nn.Dense(w, b) for w, b in pairs]


def function_of(name, case):
    mask, causal = attention_torch.mask_of(name, case), case.get("causal", False)
    if case["kind"] == "embedding":
        x = attention_torch.indices(case)
        return lambda w: nm.nn.Embedding(w, case.get("padding"))(x)
    if case["kind"] == "multihead":

        def multihead(x, *rest):
            context, rest = (rest[0], rest[1:]) if "s" in case else (None, rest)
            layer = nm.nn.MultiHeadAttention(*dense(rest, case["bias"]), case["heads"])
            return layer(x, context, mask=mask, causal=causal)

        return multihead

    def block(x, *rest):
        count = 12 if case["bias"] else 6
        parts, norms = dense(rest[:count], case["bias"]), rest[count:]
        shifts = norms[1::2] if case["bias"] else (None, None)
        scales = norms[::2] if case["bias"] else norms
        norms = [
            nm.nn.LayerNorm(a, b, (case["d"],), 1e-5) for a, b in zip(scales, shifts, strict=True)
        ]
        made = nm.nn.TransformerBlock(
            nm.nn.MultiHeadAttention(*parts[:4], case["heads"]), *norms, *parts[4:],
            activation=getattr(nm.nn, case["activation"]), norm_first=case["norm_first"],
        )  # fmt: skip
        return made(x, mask=mask, causal=causal)

    return block


@pytest.mark.parametrize("name", CASES)
def test_layer_agrees_with_pytorch(name):
    f, arrays = function_of(name, CASES[name]), attention_torch.arguments(name, CASES[name])
    stored = STORED[name]
    y = f(*arrays)
    compare("value", y, stored["value"], 1e-12)
    w = weights(name, y.shape)
    loss = lambda *xs: np.sum(w * f(*xs))  # noqa: E731
    gradient = nm.grad(loss, argnums=tuple(range(len(arrays))))(*arrays)
    product = nm.hvp(
        loss, tuple(arrays), tuple(direction(name, i, x.shape) for i, x in enumerate(arrays))
    )
    product = product if isinstance(product, tuple) else (product,)
    # relative to the largest number of all arguments: some derivatives are 0, such as that in the keys' bias
    scale = [
        max(np.abs([float.fromhex(v) for v in a]).max(initial=0.0) for a in stored[k])
        for k in ("gradient", "product")
    ]
    for what, got, size in (("gradient", gradient, scale[0]), ("product", product, scale[1])):
        for i, (g, want) in enumerate(zip(got, stored[what], strict=True)):
            own = max(np.abs([float.fromhex(v) for v in want]).max(initial=0.0), 1e-300)
            compare(f"{what} {i}", g, want, 1e-12 * max(1.0, size / own) if own > 1e-300 else 1e-12)


# ------------------------------------------------------------------------------------------- every layer of this file
@pytest.mark.parametrize("name", NAMES)
def test_derivatives_in_both_modes_and_both_orders(name, rng):
    layer, shape = layers()[name]
    x = rng.standard_normal((*shape[:-1], shape[-1]))
    nm.check_grads(lambda m, x: m(x), (layer, x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_dtype_is_kept_everywhere_and_transformations_agree(name, dtype, rng):
    layer, shape = layers(dtype)[name]
    x = rng.standard_normal(shape).astype(dtype)
    tol = 64 * np.finfo(dtype).eps
    y = layer(x)
    assert y.dtype == dtype
    assert all(a.dtype == dtype for a in nm.tree_leaves(layer))
    call = lambda m, x: m(x)  # noqa: E731
    close(nm.stage(call, layer, x)(layer, x), y, tol)
    close(nm.vmap(call, in_axes=(None, 0))(layer, np.stack([x, x])), np.stack([y, y]), tol)
    both = nm.tree_map(lambda a: np.stack([a, a]), layer)
    close(nm.vmap(call)(both, np.stack([x, x])), np.stack([y, y]), tol)
    g = nm.grad(lambda m, x: np.sum(np.square(m(x))))
    got = g(layer, x)
    assert type(got) is type(layer)
    for a, b in zip(
        nm.tree_leaves(got), nm.tree_leaves(nm.stage(g, layer, x)(layer, x)), strict=True
    ):
        assert a.dtype == b.dtype == dtype
        close(a, b, tol * max(1.0, np.max(np.abs(a))))


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_saved_and_loaded(name, rng, tmp_path):
    layer, shape = layers()[name]
    x = rng.standard_normal(shape)
    nm.save(tmp_path / "layer.npz", layer)
    found = nm.load(tmp_path / "layer.npz")
    assert type(found) is type(layer)
    assert repr(found) == repr(layer)
    assert np.array_equal(found(x), layer(x))


@pytest.mark.parametrize("name", NAMES)
def test_training_without_dropout_is_evaluation(name, rng):
    layer, shape = layers()[name]
    if not hasattr(layer, "train"):
        assert name == "PositionEmbedding"
        return
    x = rng.standard_normal(shape)
    y, new = layer.train(x)
    assert np.array_equal(y, layer(x))
    assert repr(new) == repr(layer)
    assert all(a is b for a, b in zip(nm.tree_leaves(new), nm.tree_leaves(layer), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_complex_step(name, rng):
    layer, shape = layers()[name]
    x, step = rng.standard_normal(shape), rng.standard_normal(shape)
    want = np.sum(step * nm.grad(lambda x: layer(x).sum())(x))
    assert abs(layer(x + 1e-30j * step).sum().imag / 1e-30 - want) <= 1e3 * EPS * max(
        1.0, abs(want)
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_steps(name, rng):
    layer, shape = layers()[name]
    x = rng.standard_normal(shape)
    loss = lambda m: np.sum(np.square(m(x)))  # noqa: E731
    optimizer = nm.optim.gradient_descent(1e-4)
    new, _ = optimizer.step(layer, nm.grad(loss)(layer), optimizer.init(layer))
    assert type(new) is type(layer)
    assert loss(new) < loss(layer)


# ------------------------------------------------------------------------------------------------- multi-head attention
def test_heads_are_columns_beside_each_other(rng):
    layer, x = nm.nn.MultiHeadAttention.init(6, 3, rng=0), rng.standard_normal((4, 6))
    parts = []
    for i in range(3):
        columns = slice(2 * i, 2 * i + 2)
        q, k, v = (d(x)[:, columns] for d in (layer.query, layer.key, layer.value))
        a = np.exp(q @ k.T / math.sqrt(2))
        parts.append(a / a.sum(axis=1, keepdims=True) @ v)
        close(layer.weights(x)[i], a / a.sum(axis=1, keepdims=True), 16 * EPS)
    close(layer(x), layer.out(np.concatenate(parts, axis=1)), 32 * EPS)


def test_grouped_queries_are_heads_with_equal_keys(rng):
    layer = nm.nn.MultiHeadAttention.init(8, 4, kv_heads=2, rng=0)
    assert layer.key.weight.shape == layer.value.weight.shape == (8, 4)

    def double(d):
        return nm.nn.Dense(
            *(
                np.repeat(a.reshape(*a.shape[:-1], 2, 2), 2, axis=-2).reshape(*a.shape[:-1], 8)
                for a in (d.weight, d.bias)
            )
        )

    whole = nm.nn.MultiHeadAttention(
        layer.query, double(layer.key), double(layer.value), layer.out, 4
    )
    x = rng.standard_normal((2, 5, 8))
    close(layer(x, causal=True), whole(x, causal=True), 32 * EPS)


def test_cross_attention_takes_rows_of_another_length(rng):
    layer = nm.nn.MultiHeadAttention.init(6, 2, context=5, rng=0)
    x, context = rng.standard_normal((2, 3, 6)), rng.standard_normal((2, 7, 5))
    mask = np.arange(7) < 4
    close(layer(x, context, mask=mask), layer(x, context[:, :4]), 32 * EPS)
    assert layer.weights(x, context).shape == (2, 2, 3, 7)


def test_a_causal_block_does_not_see_what_comes(rng):
    block = nm.nn.TransformerBlock.init(4, 2, rng=0)
    x = rng.standard_normal((6, 4))
    for i in range(1, 6):
        close(block(x[:i], causal=True), block(x, causal=True)[:i], 64 * EPS)
    jacobian = nm.jacobian(lambda x: block(x, causal=True))(x)
    assert not np.any(np.triu(np.abs(jacobian).sum(axis=(1, 3)), 1))
    assert np.all(np.abs(block(x[:5]) - block(x)[:5]).max(axis=1) > 1e-6)


def test_attention_without_positions_does_not_know_the_order(rng):
    block = nm.nn.TransformerBlock.init(4, 2, rng=0)
    x, order = rng.standard_normal((6, 4)), rng.permutation(6)
    close(block(x[order]), block(x)[order], 64 * EPS)
    moved = x + nm.nn.positional_encoding(6, 4)
    other = x[order] + nm.nn.positional_encoding(6, 4)
    assert np.max(np.abs(block(other) - block(moved)[order])) > 1e-3


def test_sequences_are_examples_times_positions_times_rows(rng):
    """Those of the source document are T x B x D: positions first, which a swap of axes brings here."""
    layer, x = nm.nn.MultiHeadAttention.init(4, 2, rng=0), rng.standard_normal((7, 3, 4))
    y = layer(np.swapaxes(x, 0, 1))
    assert y.shape == (3, 7, 4)
    for i in range(3):  # an example is attended to by itself alone
        close(y[i], layer(x[:, i]), 32 * EPS)
    assert np.max(np.abs(layer(x) - np.swapaxes(y, 0, 1))) > 1e-3


def test_blocks_run_in_a_scan(rng):
    blocks = [nm.nn.TransformerBlock.init(4, 2, hidden=5, rng=i) for i in range(3)]
    x = rng.standard_normal((2, 3, 4))

    def deep(blocks, x):
        for block in blocks:
            x = block(x, causal=True)
        return np.sum(np.sin(x))

    def scanned(blocks, x):
        stacked = nm.tree_map(lambda *leaves: np.stack(leaves), *blocks)
        return np.sum(
            np.sin(nm.scan(lambda h, block: (block(h, causal=True), None), x, stacked)[0])
        )

    for f in (
        lambda g: g(blocks, x),
        lambda g: nm.grad(g)(blocks, x),
        lambda g: nm.hvp(g, (blocks, x), (blocks, x)),
    ):
        for a, b in zip(*(nm.tree_leaves(f(g)) for g in (scanned, deep)), strict=True):
            close(np.asarray(a), np.asarray(b), 1e3 * EPS * max(1.0, np.max(np.abs(b))))


# --------------------------------------------------------------------------------------------------------- training
def test_a_block_drops_in_training_by_its_key_alone(rng):
    for norm_first in (True, False):
        block = nm.nn.TransformerBlock.init(8, 2, dropout=0.3, norm_first=norm_first, rng=0)
        x = rng.standard_normal((2, 5, 8))
        key = nm.random.key(1)
        y, new = block.train(x, key=key, causal=True)
        assert repr(new) == repr(block)
        assert np.array_equal(block.train(x, key=key, causal=True)[0], y)
        assert np.any(block.train(x, key=nm.random.key(2), causal=True)[0] != y)
        assert np.any(block(x, causal=True) != y)
        staged = nm.stage(lambda b, x, k: b.train(x, key=k, causal=True)[0], block, x, key)
        close(staged(block, x, key), y, 64 * EPS)
        with pytest.raises(DtypeError, match="`key` must be made by nm\\.random\\.key"):
            block.train(x)
    nm.check_grads(lambda x: block.train(x, key=key)[0], (x[:1, :2],))


@pytest.mark.parametrize("norm_first", [True, False])
def test_every_part_of_a_block_has_a_key_of_its_own(norm_first, rng):
    block = nm.nn.TransformerBlock.init(8, 2, dropout=0.3, norm_first=norm_first, rng=0)
    x, key = rng.standard_normal((2, 5, 8)), nm.random.key(1)
    first, second, third, fourth = (nm.random.fold_in(key, i) for i in range(4))
    drop = lambda x, k: nm.nn.dropout(x, 0.3, k)  # noqa: E731
    mlp = lambda x: drop(block.linear2(drop(nm.nn.gelu(block.linear1(x)), third)), fourth)  # noqa: E731
    if norm_first:
        u = x + drop(block.attention.train(block.norm1(x), key=first)[0], second)
        want = u + mlp(block.norm2(u))
    else:
        u = block.norm1(x + drop(block.attention.train(x, key=first)[0], second))
        want = block.norm2(u + mlp(u))
    close(block.train(x, key=key)[0], want, 32 * EPS)


def test_the_mean_over_keys_of_dropped_attention_is_the_output(rng):
    layer = nm.nn.MultiHeadAttention.init(4, 2, dropout=0.2, rng=0)
    x = rng.standard_normal((3, 4))
    keys = nm.random.split(nm.random.key(0), 2000)
    every = nm.vmap(lambda k: layer.train(x, key=k)[0])(keys)
    error = every.std(axis=0) / math.sqrt(2000)
    assert np.all(np.abs(every.mean(axis=0) - layer(x)) <= 5 * error)
    assert np.all(error > 0)


def test_sequential_hands_keys_and_statistics_on(rng):
    nn = nm.nn
    model = nn.Sequential(
        [
            nn.BatchNorm.init(3),
            nn.Dropout(0.5),
            nn.Residual(nn.Sequential([nn.Dropout(0.5), np.tanh])),
        ]
    )
    x = rng.standard_normal((50, 3))
    y, new = model.train(x, key=nm.random.key(0))
    assert isinstance(new, nn.Sequential)
    assert np.any(new[0].mean != model[0].mean)
    assert np.array_equal(nn.BatchNorm.init(3).train(x)[1].mean, new[0].mean)
    zeros = model[1].train(np.ones((50, 3)), key=nm.random.fold_in(nm.random.key(0), 1))[0] == 0.0
    assert np.array_equal(y == 0.0, zeros)
    with pytest.raises(DtypeError, match="key"):
        model.train(x)
    state, value = model, None
    for i in range(3):
        value, state = state.train(x, key=nm.random.key(i))
    assert np.all(np.isfinite(value))
    g = nm.grad(lambda m: m.train(x, key=nm.random.key(0))[0].sum())(model)
    assert isinstance(g, nn.Sequential)
    assert not np.any(g[0].mean)


# ------------------------------------------------------------------------------------------------------- containers
def test_sequential_is_a_sequence_of_what_was_given():
    nn = nm.nn
    a, b = nn.Dense.init((2, 3), rng=0), nn.Dense.init((3, 2), rng=1)
    leaky = functools.partial(nn.leaky_relu, negative_slope=0.2)
    model = nn.Sequential((a, nn.relu, b, leaky, np.tanh))
    assert len(model) == 5
    assert list(model) == [a, nn.relu, b, leaky, np.tanh]
    assert model[1] is nn.relu
    assert model[-1] is np.tanh
    assert isinstance(model[:2], nn.Sequential)
    assert list(model[2:]) == [b, leaky, np.tanh]
    x = np.ones((4, 2))
    assert np.array_equal(model(x), np.tanh(leaky(b(nn.relu(a(x))))))
    assert nm.tree_paths(model) == [f".layers[{i}].{p}" for i in (0, 2) for p in ("weight", "bias")]
    assert repr(model).startswith("Sequential(Dense(")
    assert "`relu`" in repr(model)
    empty = nn.Sequential(())
    assert empty(x) is x
    assert np.array_equal(nn.Sequential([model, model[:0]])(x), model(x))


def test_the_jacobian_of_a_residual_is_the_identity_and_that_of_the_layer(rng):
    layer, x = nm.nn.Dense.init((4, 4), rng=0), rng.standard_normal(4)
    close(nm.jacobian(nm.nn.Residual(layer))(x), np.eye(4) + layer.weight.T, 4 * EPS)
    close(nm.nn.Residual(np.tanh)(x), x + np.tanh(x), 0.0)


# ------------------------------------------------------------------------------------------------------- embeddings
def test_embedding_is_the_product_of_one_hot_rows(rng):
    w, x = rng.standard_normal((5, 3)), np.array([[4, 0], [4, 2]])
    layer = nm.nn.Embedding(w)
    rows = np.eye(5)[x]
    assert np.array_equal(layer(x), rows @ w)
    weight = rng.standard_normal((2, 2, 3))
    g = nm.grad(lambda e: np.sum(weight * e(x)))(layer).weight
    close(g, np.einsum("ijk,ijd->kd", rows, weight), 4 * EPS)
    assert not np.any(g[[1, 3]])
    nm.check_grads(lambda e: e(x), (layer,))
    assert layer(3).shape == (3,)
    assert layer(np.zeros((0, 2), int)).shape == (0, 2, 3)
    assert layer(np.array([1, 2], np.uint8)).shape == (2, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_embedding_under_transformations(dtype, tmp_path):
    layer, x = (
        nm.nn.Embedding.init(5, 3, padding_index=1, rng=0, dtype=dtype),
        np.array([[4, 1], [0, 4]]),
    )
    y = layer(x)
    assert y.dtype == dtype
    assert not np.any(layer.weight[1])
    call = lambda e, x: e(x)  # noqa: E731
    assert np.array_equal(nm.stage(call, layer, x)(layer, x), y)
    assert np.array_equal(nm.vmap(call, in_axes=(None, 0))(layer, x), y)
    assert np.array_equal(
        nm.vmap(call)(nm.tree_map(lambda a: np.stack([a, -a]), layer), x), np.stack([y[0], -y[1]])
    )
    g = nm.grad(lambda e: np.sum(np.square(e(x)) + e(x)))
    assert g(layer).weight.dtype == dtype
    assert not np.any(g(layer).weight[1])
    assert np.all(g(layer).weight[4] != 0.0)
    # the squares' derivative is summed in another order
    close(nm.stage(g, layer)(layer).weight, g(layer).weight, 32 * np.finfo(dtype).eps)
    nm.save(tmp_path / "e.npz", layer)
    assert np.array_equal(nm.load(tmp_path / "e.npz")(x), y)
    assert "padding_index: 1" in repr(layer)


def test_a_staged_index_out_of_range_gives_nan():
    layer = nm.nn.Embedding(np.ones((3, 2)))
    program = nm.stage(lambda x: layer(x), np.array([0, 1, 2]))
    found = program(np.array([0, 3, -1]))
    assert np.array_equal(np.isnan(found), [[False] * 2, [True] * 2, [True] * 2])


def test_statistics_of_initial_embeddings():
    w = nm.nn.Embedding.init(200, 50, std=0.5, rng=0).weight
    assert abs(w.std() - 0.5) <= 4 * 0.5 / math.sqrt(2 * w.size)
    p = nm.nn.PositionEmbedding.init(200, 50, rng=0).weight
    assert abs(p.std() - 0.02) <= 4 * 0.02 / math.sqrt(2 * p.size)


@pytest.mark.parametrize("d", [1, 4, 7])
def test_positional_encoding_is_the_formula(d):
    table = nm.nn.positional_encoding(9, d)
    for t in range(9):
        for j in range(d):
            angle = t / 10000 ** ((j - j % 2) / d)
            assert abs(table[t, j] - (math.cos(angle) if j % 2 else math.sin(angle))) <= 8 * EPS * (
                1 + angle
            )
    single = nm.nn.positional_encoding(9, d, dtype=np.float32)
    assert np.array_equal(single, table.astype(np.float32))
    assert nm.nn.positional_encoding(0, 4).shape == (0, 4)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_products_depend_on_the_difference_of_positions(interleaved, rng):
    turn = functools.partial(nm.nn.rotary, interleaved=interleaved)
    q, k = (np.broadcast_to(rng.standard_normal(6), (8, 6)) for _ in range(2))
    products = turn(q) @ turn(k).T
    for lag in range(-7, 8):
        diagonal = np.diagonal(products, lag)
        assert np.ptp(diagonal) <= 32 * EPS * np.abs(q[0]) @ np.abs(k[0])
    x = rng.standard_normal((2, 5, 6))
    close(np.linalg.norm(turn(x), axis=-1), np.linalg.norm(x, axis=-1), 8 * EPS)
    close(turn(x, offset=3), turn(np.concatenate([np.zeros((2, 3, 6)), x], axis=1))[:, 3:], 0.0)
    pairs = x[..., ::2] + 1j * x[..., 1::2] if interleaved else x[..., :3] + 1j * x[..., 3:]
    turned = pairs * np.exp(1j * np.arange(5)[:, None] / 10000 ** (np.arange(3) / 3))
    want = np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)
    want = want if interleaved else np.concatenate([turned.real, turned.imag], axis=-1)
    close(turn(x), want, 16 * EPS)
    nm.check_grads(turn, (x,))
    assert turn(x.astype(np.float32)).dtype == np.float32


# -------------------------------------------------------------------------------------------------------- bad input
X = np.zeros((2, 3, 4))
MHA, BLOCK = nm.nn.MultiHeadAttention, nm.nn.TransformerBlock


class Opaque:
    def __call__(self, x):
        return x


BAD = {
    "heads that do not divide": (lambda: MHA.init(6, 4), DomainError, "`heads` must be a divisor of d = 6, got 4"),
    "heads of a block": (lambda: BLOCK.init(6, 4), DomainError, "`heads` must be a divisor of d = 6, got 4"),
    "no heads": (lambda: MHA.init(6, 0), DomainError, "`heads` must be a positive integer"),
    "key heads that do not divide": (lambda: MHA.init(8, 4, kv_heads=3), DomainError, "a divisor of heads = 4"),
    "half a head": (lambda: MHA.init(8, 2.0), DtypeError, "`heads` must be"),
    "negative rate": (lambda: MHA.init(4, 2, dropout=-0.5), DomainError, "`dropout` must be in [0, 1)"),
    "rate of one": (lambda: BLOCK.init(4, 2, dropout=1.0), DomainError, "`dropout` must be in [0, 1)"),
    "unknown dtype": (lambda: MHA.init(4, 2, dtype=int), DtypeError, "dtype"),
    "no activation": (lambda: BLOCK.init(4, 2, activation="gelu"), DtypeError, "`activation` must be callable"),
    "one row": (lambda: MHA.init(4, 2)(X[0, 0]), ShapeError, "`x` must be of shape (..., t, d)"),
    "long rows": (lambda: MHA.init(3, 1)(X), ShapeError, "`x` must be of shape (..., 3)"),
    "other dtype": (lambda: MHA.init(4, 2)(X.astype(np.float32)), DtypeError, "float64 as `weight` is"),
    "other context": (lambda: MHA.init(4, 2)(X, X[:1]), ShapeError, "`context` must be of shape (2, s, d)"),
    "heads against weights": (
        lambda: MHA(*(nm.nn.Dense.init((4, 4)) for _ in range(4)), 3)(X), DomainError, "`heads` must be a divisor of",
    ),
    "keys against queries": (
        lambda: MHA(*(nm.nn.Dense.init((4, n)) for n in (4, 3, 3, 4)), 2)(X), ShapeError, "`key, value` must be",
    ),
    "no key": (lambda: MHA.init(4, 2, dropout=0.1).train(X), DtypeError, "made by nm.random.key"),
    "no indices": (lambda: nm.nn.Embedding(X[0])(np.zeros(3)), DtypeError, "`x` must be an array of integers"),
    "booleans for indices": (lambda: nm.nn.Embedding(X[0])(np.zeros(3, bool)), DtypeError, "an array of integers"),
    "index out of range": (
        lambda: nm.nn.Embedding(X[0])(np.array([[0, 1], [3, 9]])), DomainError, "[0, 3), got 3 at index (1, 0)",
    ),
    "index from the end": (lambda: nm.nn.Embedding(X[0])(np.array([0, -1])), DomainError, "got -1 at index 1"),
    "padding out of range": (lambda: nm.nn.Embedding.init(3, 2, padding_index=3), DomainError, "in [0, 3)"),
    "negative deviation": (lambda: nm.nn.Embedding.init(3, 2, std=-1.0), DomainError, "`std` must be finite and >= 0"),
    "no rows": (lambda: nm.nn.Embedding(np.zeros((0, 2)))(np.zeros(0, int)), ShapeError, "`weight` must be of a row"),
    "a long sequence": (lambda: nm.nn.PositionEmbedding(X[0, :2])(X), ShapeError, "with t <= 2"),
    "negative length": (lambda: nm.nn.positional_encoding(-1, 4), DomainError, "`length` must be an integer >= 0"),
    "base of zero": (lambda: nm.nn.positional_encoding(3, 4, base=0.0), DomainError, "`base` must be finite and > 0"),
    "odd rotary": (lambda: nm.nn.rotary(X[..., :3]), ShapeError, "an even d"),
    "layers that are none": (lambda: nm.nn.Sequential(np.tanh), DtypeError, "`layers` must be a list or tuple"),
    "a number for a layer": (lambda: nm.nn.Sequential([3]), DtypeError, "`layers[0]` must be a layer"),
    "a class for a layer": (lambda: nm.nn.Sequential([nm.nn.Dense]), DtypeError, "`layers[0]` must be a layer"),
    "an object with hidden arrays": (lambda: nm.nn.Sequential([Opaque()]), DtypeError, "make its class a dataclass"),
    "a residual of an object": (lambda: nm.nn.Residual(Opaque()), DtypeError, "make its class a dataclass"),
    "a residual of another shape": (
        lambda: nm.nn.Residual(nm.nn.Dense.init((4, 1)))(X), ShapeError, "`layer(x)` must be of the shape (2, 3, 4)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error(name):
    call, error, words = BAD[name]
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


def test_an_activation_that_differs_in_training_is_refused():
    with pytest.raises(DtypeError, match=r"`activation` must be the same in training .*`Dropout`"):
        nm.nn.TransformerBlock.init(8, 2, activation=nm.nn.Dropout(0.5), rng=0)
