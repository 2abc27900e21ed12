"""Recurrent cells and layers: against PyTorch, against loops, and their promises about padding, state and memory."""

import json
import tracemalloc

import numpy as np
import pytest
from reference import recurrent_torch as reference
from reference.parity import compare, direction, weights

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError

EPS = np.finfo(np.float64).eps
STORED = json.loads(reference.STORED.read_text())["cases"]
CASES = reference.cases()
CELLS = {"RNN": nm.nn.RNNCell, "GRU": nm.nn.GRUCell, "LSTM": nm.nn.LSTMCell}
LAYERS = {"RNN": nm.nn.RNN, "GRU": nm.nn.GRU, "LSTM": nm.nn.LSTM}
VARIANTS = {
    "RNN": lambda **o: nm.nn.RNN.init((3, 4), rng=1, **o),
    "RNN of relu": lambda **o: nm.nn.RNN.init((3, 4), activation="relu", rng=1, **o),
    "GRU": lambda **o: nm.nn.GRU.init((3, 4), rng=1, **o),
    "GRU of the paper": lambda **o: nm.nn.GRU.init((3, 4), reset_after=False, rng=1, **o),
    "LSTM": lambda **o: nm.nn.LSTM.init((3, 4), rng=1, **o),
}


@pytest.fixture
def x():
    return np.random.default_rng(20261126).standard_normal((2, 5, 3))


# ------------------------------------------------------------------------------ PyTorch


def ours(case):
    """Return the function of the arguments of a case that `recurrent_torch` describes."""
    kind = case["kind"].split()[0]
    each = 4 if case["bias"] else 2
    states = 2 if kind == "LSTM" else 1
    h = case["sizes"][3]

    def cell(w, u, b=None, c=None):
        if kind == "GRU":
            keep = None if b is None else np.concatenate([np.ones(2 * h), np.zeros(h)])
            bias = None if b is None else b + keep * c
            return nm.nn.GRUCell(w, u, bias, None if c is None else c[2 * h :])
        bias = None if b is None else b + c
        if kind == "RNN":
            return nm.nn.RNNCell(w, u, bias, "relu" if "relu" in case["kind"] else "tanh")
        return nm.nn.LSTMCell(w, u, bias)

    def f(x, *rest):
        first, flat = rest[:states], rest[states:]
        cells = tuple(cell(*flat[i : i + each]) for i in range(0, len(flat), each))
        layer = LAYERS[kind](cells, bidirectional=case["directions"] == 2)
        state = [
            tuple(s[i] for s in first) if states == 2 else first[0][i] for i in range(len(cells))
        ]
        lengths = None if case["lengths"] is None else np.array(case["lengths"])
        y, last = layer.unroll(x, state, lengths=lengths)
        columns = zip(*last, strict=True) if states == 2 else [last]
        return np.concatenate(
            [y.ravel(), *(np.stack(column).ravel() for column in map(list, columns))]
        )

    return f


@pytest.mark.parametrize("name", CASES)
def test_layer_agrees_with_pytorch(name):
    f, arguments = ours(CASES[name]), reference.arguments(name, CASES[name])
    stored = STORED[name]
    y = f(*arguments)
    w = weights(name, y.shape)
    compare("value", y, stored["value"], 1e-12)

    def total(arguments):
        return np.sum(w * f(*arguments))

    g = nm.grad(total)(arguments)
    along = [direction(name, i, a.shape) for i, a in enumerate(arguments)]
    products = nm.hvp(total, (arguments,), (along,))
    for i, (first, second) in enumerate(zip(g, products, strict=True)):
        compare(f"gradient in argument {i}", first, stored["gradient"][i], 1e-12)
        compare(f"product in argument {i}", second, stored["product"][i], 1e-12)


# ------------------------------------------------------------------------------ slow oracles


def sigma(v):
    return 1 / (1 + np.exp(-v))


def slow_step(kind, cell, x, state):
    """One step of one row, written entry by entry from the papers."""
    n = cell.recurrent_weight.shape[0]
    z = cell.bias.copy()
    for j in range(z.size):
        z[j] += sum(x[i] * cell.weight[i, j] for i in range(x.size))
    h = state[0] if kind == "LSTM" else state
    u = [[sum(h[i] * cell.recurrent_weight[i, j] for i in range(n)) for j in range(z.size)]][0]
    if kind == "RNN":
        return np.array([np.tanh(z[j] + u[j]) for j in range(n)])
    if kind == "LSTM":
        out, memory = np.empty(n), np.empty(n)
        for j in range(n):
            i, f, g, o = (z[j + k * n] + u[j + k * n] for k in range(4))
            memory[j] = sigma(f) * state[1][j] + sigma(i) * np.tanh(g)
            out[j] = sigma(o) * np.tanh(memory[j])
        return out, memory
    r = np.array([sigma(z[j] + u[j]) for j in range(n)])
    out = np.empty(n)
    for j in range(n):
        update = sigma(z[j + n] + u[j + n])
        if cell.reset_after:
            inner = r[j] * (u[j + 2 * n] + cell.recurrent_bias[j])
        else:
            inner = sum(r[i] * h[i] * cell.recurrent_weight[i, j + 2 * n] for i in range(n))
        out[j] = (1 - update) * np.tanh(z[j + 2 * n] + inner) + update * h[j]
    return out


@pytest.mark.parametrize("name", [v for v in VARIANTS if "relu" not in v])
@pytest.mark.parametrize("reverse", [False, True])
def test_layer_agrees_with_a_loop_over_entries(name, reverse, x):
    layer = VARIANTS[name](reverse=reverse)
    kind = name.split()[0]
    rng = np.random.default_rng(3)
    cell = nm.tree_map(lambda a: a + 0.1 * rng.standard_normal(a.shape), layer.cells[0])
    lengths = np.array([3, 5])
    y, (last,) = LAYERS[kind]((cell,), reverse=reverse).unroll(x, lengths=lengths)
    for row in range(2):
        state = (np.zeros(4), np.zeros(4)) if kind == "LSTM" else np.zeros(4)
        steps = range(lengths[row])
        for t in reversed(steps) if reverse else steps:
            state = slow_step(kind, cell, x[row, t], state)
            out = state[0] if kind == "LSTM" else state
            np.testing.assert_allclose(y[row, t], out, rtol=0, atol=32 * EPS)
        np.testing.assert_array_equal(y[row, lengths[row] :], 0.0)
        for got, want in zip(nm.tree_leaves(last), nm.tree_leaves(state), strict=True):
            np.testing.assert_allclose(got[row], want, rtol=0, atol=32 * EPS)


# ------------------------------------------------------------------------------ derivatives


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one", "four"]
)
def test_gradients_are_right_to_second_order(name, options, x):
    layer = VARIANTS[name](**options)
    lengths = np.array([3, 2])
    # entry by entry for one cell, along random directions for four of them
    nm.check_grads(
        lambda layer, x: np.sum(np.sin(layer(x, lengths=lengths))),
        (layer, x[:, :4]),
        order=2,
        points=1,
        projected=bool(options),
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_staged_mapped_and_checkpointed_layers_give_the_same(name, x):
    layer = VARIANTS[name](num_layers=2, bidirectional=True)
    lengths = np.array([5, 2])

    def f(layer, x, lengths):
        return np.sum(np.sin(layer(x, lengths=lengths)))

    y = layer(x, lengths=lengths)
    tol = 64 * EPS  # a handful of products of three or eight numbers below 2
    staged = nm.stage(lambda layer, x: layer(x, lengths=lengths), layer, x)(layer, x)
    np.testing.assert_allclose(staged, y, rtol=0, atol=tol)
    np.testing.assert_allclose(
        nm.vmap(lambda x, n: layer(x, lengths=n))(x, lengths), y, rtol=0, atol=tol
    )
    two = nm.tree_map(lambda a: np.stack([a, 2 * a]), layer)
    mapped = nm.vmap(lambda layer: layer(x, lengths=lengths))(two)
    np.testing.assert_allclose(mapped[0], y, rtol=0, atol=tol)
    doubled = nm.tree_map(lambda a: 2 * a, layer)
    np.testing.assert_allclose(mapped[1], doubled(x, lengths=lengths), rtol=0, atol=tol)
    g = nm.tree_leaves(nm.grad(f)(layer, x, lengths))
    kept = type(layer)(layer.cells, bidirectional=True, checkpoint=2)
    for a, b in zip(g, nm.tree_leaves(nm.grad(f)(kept, x, lengths)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tol * (1 + np.abs(a).max()))
    for a, b in zip(
        g, nm.tree_leaves(nm.stage(nm.grad(f), layer, x, lengths)(layer, x, lengths)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=tol * (1 + np.abs(a).max()))


@pytest.mark.parametrize("name", VARIANTS)
def test_complex_step_differentiates_a_layer(name, x):
    layer = VARIANTS[name](num_layers=2)
    v = np.random.default_rng(5).standard_normal(x.shape)
    want = nm.jvp(layer, (x,), (v,))[1]
    np.testing.assert_allclose(layer(x + 1e-30j * v).imag / 1e-30, want, rtol=0, atol=64 * EPS)


def test_state_carries_on_where_a_sequence_was_cut(x):
    for make in VARIANTS.values():
        layer = make(num_layers=2)
        whole, last = layer.unroll(x)
        first, state = layer.unroll(x[:, :2])
        second, end = layer.unroll(x[:, 2:], state)
        np.testing.assert_allclose(
            np.concatenate([first, second], axis=1), whole, rtol=0, atol=16 * EPS
        )
        for a, b in zip(nm.tree_leaves(last), nm.tree_leaves(end), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=16 * EPS)


# ------------------------------------------------------------------------------ padding


@pytest.mark.parametrize("name", VARIANTS)
def test_padding_has_no_influence_even_where_it_is_nan(name, x):
    layer = VARIANTS[name](num_layers=2, bidirectional=True)
    lengths = np.array([5, 2])
    spoilt = x.copy()
    spoilt[1, 2:] = np.nan

    def f(layer, x):
        return np.sum(np.sin(layer(x, lengths=lengths)))

    value, (g, gx) = nm.value_and_grad(f, (0, 1))(layer, spoilt)
    clean, wanted = nm.value_and_grad(f)(layer, x)
    assert value == clean
    for a, b in zip(nm.tree_leaves(g), nm.tree_leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.all(gx[1, 2:] == 0.0)
    alone = layer(x[1:, :2])
    np.testing.assert_allclose(
        layer(spoilt, lengths=lengths)[1, :2], alone[0], rtol=0, atol=16 * EPS
    )


def test_mask_says_the_same_as_lengths_and_may_have_holes(x):
    layer = VARIANTS["LSTM"](bidirectional=True)
    mask = np.arange(5) < np.array([[4], [2]])
    np.testing.assert_array_equal(layer(x, mask=mask), layer(x, lengths=np.array([4, 2])))
    holes = np.array([[True, False, True, True, False], [False, True, True, False, True]])
    y = layer(x, mask=holes)
    for row in range(2):
        want = layer(x[row, holes[row]])
        np.testing.assert_allclose(y[row, holes[row]], want, rtol=0, atol=16 * EPS)
        assert np.all(y[row, ~holes[row]] == 0.0)


def test_empty_sequences_batches_and_lengths_return_the_first_state(x):
    for make in VARIANTS.values():
        layer = make(bidirectional=True)
        y, last = layer.unroll(x[:, :0])
        assert y.shape == (2, 0, 8)
        assert all(np.all(s == 0.0) for s in nm.tree_leaves(last))
        state = nm.tree_map(lambda a: a + 0.5, last)
        for given in ({"x": x[:, :0]}, {"x": x, "lengths": np.array([0, 0])}):
            kept = layer.unroll(given["x"], state, lengths=given.get("lengths"))[1]
            assert all(np.all(s == 0.5) for s in nm.tree_leaves(kept))
        assert layer(x[:0]).shape == (0, 5, 8)
        assert layer(x[0]).shape == (5, 8)
        g = nm.grad(lambda layer: layer(x[:, :0]).sum() + layer(x[:0]).sum())(layer)
        assert all(np.all(a == 0.0) for a in nm.tree_leaves(g))


# ------------------------------------------------------------------------------ the rest


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept_and_mixing_is_refused(dtype, x):
    for name, make in VARIANTS.items():
        layer = make(num_layers=2, dtype=dtype)
        y, state = layer.unroll(x.astype(dtype))
        assert y.dtype == dtype
        assert all(s.dtype == dtype for s in nm.tree_leaves(state))
        g = nm.grad(lambda layer: np.sum(layer(x.astype(dtype))))(layer)
        assert all(a.dtype == dtype for a in nm.tree_leaves(g))
        wide = make(num_layers=2)(x)
        # products of eight float32 numbers below 2, five steps, two layers
        np.testing.assert_allclose(y, wide, rtol=0, atol=200 * np.finfo(dtype).eps, err_msg=name)
        other = np.float64 if dtype == np.float32 else np.float32
        with pytest.raises(DtypeError, match="`x` must be"):
            layer(x.astype(other))


def test_initial_weights_are_orthogonal_and_the_forget_gate_open():
    cell = nm.nn.LSTMCell.init((7, 16), rng=0)
    for k in range(4):
        u = cell.recurrent_weight[:, 16 * k : 16 * (k + 1)]
        np.testing.assert_allclose(u.T @ u, np.eye(16), rtol=0, atol=32 * EPS)
        block = cell.weight[:, 16 * k : 16 * (k + 1)]
        assert np.abs(block).max() <= np.sqrt(
            6 / (7 + 16)
        )  # Glorot's bound of one gate, not of four
    np.testing.assert_array_equal(cell.bias, np.repeat([0.0, 1.0, 0.0, 0.0], 16))
    assert np.all(nm.nn.LSTMCell.init((2, 3), forget_bias=2.5, rng=0).bias[3:6] == 2.5)
    assert nm.nn.GRUCell.init((2, 3), bias=False, rng=0).recurrent_bias is None


def test_memory_of_a_long_sequence_is_that_of_its_segments():
    layer = nm.nn.LSTM.init((4, 16), rng=0)
    x = np.random.default_rng(0).standard_normal((8, 400, 4))

    def peak(layer):
        tracemalloc.start()
        g = nm.grad(lambda layer: np.sum(layer(x)[:, -1]))(layer)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return g, most

    plain, all_steps = peak(layer)
    kept, segments = peak(nm.nn.LSTM(layer.cells, checkpoint=True))
    for p, q in zip(nm.tree_leaves(plain), nm.tree_leaves(kept), strict=True):
        np.testing.assert_allclose(
            p, q, rtol=0, atol=400 * EPS * (1 + np.abs(p).max())
        )  # 400 steps
    # about 20 arrays a step of the size of its state are kept, of 400 steps those of 40; the outputs remain
    assert segments < 0.3 * all_steps


def test_dropout_stands_between_layers_in_training_alone(x):
    layer = VARIANTS["GRU"](num_layers=2, dropout=0.5)
    plain = type(layer)(layer.cells)
    np.testing.assert_array_equal(layer(x), plain(x))
    key = nm.random.key(4)
    y, same = layer.train(x, key=key)
    assert same is layer
    first = type(layer)(layer.cells[:1])(x)
    second = type(layer)(layer.cells[1:])
    want = second(nm.nn.dropout(first, 0.5, nm.random.fold_in(key, 1)))
    np.testing.assert_array_equal(y, want)
    assert np.array_equal(
        VARIANTS["GRU"](dropout=0.5).train(x)[0], VARIANTS["GRU"]()(x)
    )  # one layer


def test_models_with_recurrent_layers_save_and_load(x, tmp_path):
    for make in VARIANTS.values():
        layer = make(num_layers=2, bidirectional=True, dropout=0.25)
        model = nm.nn.Sequential([layer, nm.nn.Dense.init((8, 2), rng=0)])
        nm.save(tmp_path / "model.npz", model)
        again = nm.load(tmp_path / "model.npz")
        assert repr(again) == repr(model)
        np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize("name", VARIANTS)
def test_transformations_of_a_layer_compose(name, x):
    layer = VARIANTS[name](num_layers=2, checkpoint=2)
    lengths = np.array([5, 2])

    def f(x, n):
        return np.sum(np.sin(layer(x, lengths=n)))

    v = np.random.default_rng(2).standard_normal(x.shape)
    whole = nm.grad(f)(x, lengths)
    tol = 64 * EPS * (1 + np.abs(whole).max())
    each = nm.vmap(nm.grad(f))
    np.testing.assert_allclose(each(x, lengths), whole, rtol=0, atol=tol)
    np.testing.assert_allclose(nm.stage(each, x, lengths)(x, lengths), whole, rtol=0, atol=tol)

    def product(x):
        return nm.hvp(lambda x: f(x, lengths), (x,), (v,))

    want = product(x)
    tol = 256 * EPS * (1 + np.abs(want).max())
    np.testing.assert_allclose(nm.stage(product, x)(x), want, rtol=0, atol=tol)
    forward = nm.jvp(nm.grad(lambda x: f(x, lengths)), (x,), (v,))[1]
    np.testing.assert_allclose(forward, want, rtol=0, atol=tol)
    backward = nm.grad(lambda x: np.sum(nm.grad(lambda x: f(x, lengths))(x) * v))(x)
    np.testing.assert_allclose(backward, want, rtol=0, atol=tol)


def test_cell_of_the_user_is_unrolled_with_its_own_weights(x):
    def energy(w):
        y, _ = nm.nn.unroll(lambda row, s: (s @ w, np.tanh(s @ w + row)), x, np.zeros((2, 3)))
        return np.sum(y * y)

    nm.check_grads(energy, (np.eye(3) * 0.7 + 0.1,), order=2)


CELL = nm.nn.LSTMCell.init((3, 4), rng=0)
LAYER = nm.nn.LSTM.init((3, 4), rng=0)
X = np.zeros((2, 5, 3))
BAD = [
    (lambda: LAYER(X[..., :2]), ShapeError, r"LSTM: `x` must be of shape \(\.\.\., t, 3\), got \(2, 5, 2\)"),
    (lambda: LAYER(X[0, 0]), ShapeError, r"LSTM: `x` must be of shape \(\.\.\., t, d\)"),
    (lambda: LAYER(X.astype(int)), DtypeError, "LSTM: `x` must be a float32 or float64 array"),
    (lambda: LAYER(X, lengths=np.array([6, 1])), DomainError, r"`lengths` must be in \[0, 5\].* got 6 at index 0"),
    (lambda: LAYER(X, lengths=np.array([2, -1])), DomainError, r"got -1 at index 1"),
    (lambda: LAYER(X, lengths=np.array([2.0, 1.0])), DtypeError, "an array of integers"),
    (lambda: LAYER(X, lengths=np.array([2])), ShapeError, r"`lengths` must be of shape \(2,\)"),
    (lambda: LAYER(X, mask=np.ones((2, 5))), DtypeError, "an array of booleans"),
    (lambda: LAYER(X, mask=np.ones((2, 4), bool)), ShapeError, r"`mask` must be of shape \(2, 5\)"),
    (
        lambda: LAYER(X, lengths=np.array([1, 1]), mask=np.ones((2, 5), bool)),
        DomainError,
        "Pass one of them",
    ),
    (lambda: LAYER(X, state=np.zeros((2, 4))), ShapeError, "a tuple of 1 states, one for each cell"),
    (lambda: LAYER(X, state=(np.zeros((2, 4)),)), DtypeError, r"a pair \(h, c\)"),
    (
        lambda: LAYER(X, state=((np.zeros((2, 3)), np.zeros((2, 4))),)),
        ShapeError,
        r"`state\[0\]` must be of shape \(2, 4\)",
    ),
    (lambda: CELL(X[0, 0], (np.zeros(4),)), DtypeError, r"a pair \(h, c\)"),
    (lambda: nm.nn.LSTM.init((3,)), ShapeError, r"a pair \(in, features\)"),
    (lambda: nm.nn.GRU.init((3, 0)), DomainError, "positive integer"),
    (lambda: nm.nn.GRU.init((3, 4), num_layers=0), DomainError, "positive integer"),
    (lambda: nm.nn.GRU.init((3, 4), bidirectional=True, reverse=True), DomainError, "has no meaning"),
    (lambda: nm.nn.GRU.init((3, 4), dropout=1.0), DomainError, r"`dropout` must be in \[0, 1\)"),
    (lambda: nm.nn.RNN.init((3, 4), activation="sigmoid"), DomainError, "one of 'tanh', 'relu'"),
    (lambda: nm.nn.LSTM.init((3, 4), forget_bias=np.inf), DomainError, "a finite number"),
    (lambda: nm.nn.RNN.init((3, 4), dtype=int), DtypeError, "float32 or float64"),
    (
        lambda: nm.nn.LSTM.init((3, 4), num_layers=2, dropout=0.5, rng=0).train(X),
        DtypeError,
        "Dropout needs a key",
    ),
    (lambda: nm.nn.GRUCell(np.ones((3, 6)), np.ones((2, 5)), None, None)(np.ones(3), np.ones(2)), ShapeError,
     r"`recurrent_weight` must be of shape \(2, 6\)"),
    (lambda: nm.nn.GRUCell(np.ones((3, 6)), np.ones((2, 6)), None, np.ones(2), reset_after=False)(
        np.ones(3), np.ones(2)),
     DtypeError, "`recurrent_bias` must be None"),
    (lambda: nm.nn.LSTM((CELL,), bidirectional=True)(X), ShapeError, "`cells` must be pairs of cells"),
    (lambda: nm.nn.unroll(3, X), DtypeError, "`cell` must be callable"),
    (lambda: nm.nn.unroll(lambda x, s: (x, s), X), DtypeError, "no `initial_state`"),
]  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=range(len(BAD)))
def test_bad_input_is_one_clear_error(case):
    call, error, words = case
    with pytest.raises(error, match=words):
        call()


def test_wrong_lengths_make_a_staged_layer_nan():
    f = nm.stage(lambda x, n: LAYER(x, lengths=n), X, np.array([1, 2]))
    assert np.isfinite(f(X, np.array([5, 0]))).all()
    assert np.isnan(f(X, np.array([6, 1]))).all()
