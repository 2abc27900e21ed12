"""Compiled equals eager: every primitive with its derivatives, special points, random programs, all of `nn`.

All of it runs in C, but for the primitives that docs/compile.md names.

The default run compiles for each sample the value or its vmap, and one derivative; which, a hash of the name decides.
All ways of all samples are in `make test-long`.
"""

import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from loss_cases import CLOSED
from plans import assert_same, check_compiled, each_entry, rounding, run_all
from registry_checks import (
    batch_of,
    is_float,
    pullback,
    registry_cases,
    smooth,
)
from test_optim import OPTIMIZERS
from test_random_programs import KINDS, PLAIN, PROGRAMS, compute

import nnmath_core as nm
from nnmath_core.autodiff.primitive import REGISTRY
from nnmath_core.errors import TraceError

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
import bad_networks

nn = nm.nn
EVERY = registry_cases()


def chosen(name, n):
    """A number below n that only the name decides."""
    return zlib.crc32(name.encode()) % n


# ------------------------------------------------------------------------------------ the registry
def value(case):
    return case.at(case.arrays), tuple(case.operands[i] for i in case.arrays)


def mapped(case):
    f, args = value(case)
    return nm.vmap(f), tuple(batch_of(case, x, 2) for x in args)


def pull(case):
    return pullback(case), (case.randoms(case.value, case.rng), *case.point)


def push(case):
    return lambda xs, ts: nm.jvp(case.f, xs, ts), (case.point, case.randoms(case.point, case.rng))


def seeds(case):
    rng = case.rng
    return tuple(case.randoms(v, rng) for v in (case.value, case.point))


def push_of_pull(case):
    def f(gs, xs, ts):
        return nm.jvp(lambda *zs: pullback(case)(gs, *zs), xs, ts)

    gs, ts = seeds(case)
    return f, (gs, case.point, ts)


def pull_of_pull(case):
    def f(gs, xs, ts):
        return nm.vjp(lambda *zs: pullback(case)(gs, *zs), *xs)[1](ts)

    gs, ts = seeds(case)
    return f, (gs, case.point, ts)


def mapped_pull(case):
    f, (gs, *xs) = pull(case)
    batch = [batch_of(case, case.operands[i], 2) for i in case.floats]
    return nm.vmap(f, in_axes=(None, *[0] * len(xs))), (gs, *batch)


VALUES = (value, mapped)
DERIVATIVES = (pull, push, push_of_pull, pull_of_pull, mapped_pull)

ULP = 8
"""Units in the last place between two implementations of a function that are off by up to four each."""


def bound_of(case, way):
    """Values of elementwise functions to units in the last place of each entry, others to rounding errors of sums."""
    if way in VALUES and case.primitive.elementwise:
        return entry_bound(case)
    floats = [x for x in case.operands if is_float(x)]
    return lambda want: (
        case.bound(want, *floats) * (np.finfo(want.dtype).eps / np.finfo(case.dtype).eps or 1)
    )


ROUGH = {"gammaln", "logaddexp"}
"""Functions with zeros beside which implementations are right to a unit in the last place of one, not of the value."""


def entry_bound(case):
    near = each_entry(ULP)
    if case.primitive.name not in ROUGH:
        return near
    return lambda want: near(want) + ULP * np.finfo(want.dtype).eps


def check(case, way):
    with np.errstate(all="ignore"):
        f, args = way(case)
    check_compiled(f, args, bound_of(case, way), way.__name__, in_c=True)


@pytest.mark.parametrize("case", EVERY)
def test_primitive(case):
    check(case, VALUES[chosen(case.name, 2)])


@pytest.mark.parametrize("case", registry_cases(keep=smooth))
def test_derivative_of_primitive(case):
    check(case, DERIVATIVES[chosen(case.name + "'", len(DERIVATIVES))])


@pytest.mark.long
@pytest.mark.parametrize("case", EVERY)
def test_primitive_every_way(case):
    for way in (*VALUES, *(DERIVATIVES if smooth(case) else ())):
        check(case, way)


# ------------------------------------------------------------------------------------ special points
SPECIAL = [
    pytest.param(p, row, dtype, id=f"{p.name}-{k}-{dtype.__name__}")
    for p in REGISTRY.values()
    for k, row in enumerate(p.special)
    for dtype in (np.float32, np.float64)
]


@pytest.mark.parametrize(("primitive", "row", "dtype"), SPECIAL)
def test_special_point(primitive, row, dtype):
    at = [i for i, g in enumerate(row.gradient) if g is not None]

    def f(*xs):
        operands = list(row.operands)
        for i, x in zip(at, xs, strict=True):
            operands[i] = x
        y = primitive(*operands, **row.params)
        real = [v for v in nm.tree_leaves(y) if v.dtype.kind in "fc"]
        return sum(np.sum(np.real(v)) for v in real), y

    def all_of(*xs):
        y, pull = nm.vjp(f, *xs)
        return y, pull(nm.tree_map(np.ones_like, y)), nm.jvp(f, xs, xs)

    xs = [np.asarray(row.operands[i], dtype)[()] for i in at]
    check_compiled(all_of, xs, rounding(), in_c=True)


def extremes(dtype):
    info = np.finfo(dtype)
    top, tiny, low = info.max, info.tiny, info.smallest_subnormal
    values = [
        np.nan,
        np.inf,
        -np.inf,
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -2.5,
        3.0,
        90.0,
        -1e4,
        top,
        -top,
        tiny,
        -tiny,
        low,
    ]
    return np.array(values, dtype)


SLOW = {"hyp1f1", "hyp2f1", "hyperu"}
"""SciPy's functions do not come back within seconds for some extreme values."""
ELEMENTWISE = [
    pytest.param(case, id=case.name)
    for case in (p.values[0] for p in EVERY)
    if case.primitive.elementwise
    and case.floats
    and "-0-" in case.name
    and case.primitive.name not in SLOW
]


@pytest.mark.parametrize("case", ELEMENTWISE)
def test_extreme_values(case):
    grid = extremes(case.dtype)
    if case.primitive.name in ROUGH:
        grid = grid[:-1]  # SciPy's is infinite at 5e-324, where the logarithm is 744.4
    if len(case.floats) > 2:
        grid = grid[[0, 1, 2, 3, 5, 8]]
    if len(case.floats) > 3:
        grid = grid[:4]
    xs = [x.ravel() for x in np.meshgrid(*[grid] * len(case.floats), indexing="ij")]
    rest = {i: np.ravel(case.operands[i])[0] for i in case.arrays if i not in case.floats}

    def f(*xs):
        operands = list(case.operands)
        for i, x in (*zip(case.floats, xs, strict=True), *rest.items()):
            operands[i] = x
        return case.primitive(*operands, **case.params)

    check_compiled(f, xs, entry_bound(case), in_c=True)
    with np.errstate(all="ignore"):
        got, want = (nm.tree_leaves(g(*xs)) for g in (nm.compile(f), f))
    for a, b in zip(got, want, strict=True):
        zero = b == 0
        if b.dtype.kind == "f":
            assert np.array_equal(np.signbit(a[zero]), np.signbit(b[zero])), [x[zero] for x in xs]


# ------------------------------------------------------------------------------------ random programs
def terms(program):
    """The length of the sums in a program: 40 at most, through thirty steps."""
    return 40 * 30


def check_program(program, kind):
    every = tuple(program.inputs)

    def f(xs, ts, ct):
        return compute(kind, WithOther(program, xs, ts, ct), PLAIN)

    args = (every, tuple(program.tangents), program.cotangent)
    if any(step[0] == "lstsq" for step in program.steps):
        with pytest.raises(TraceError, match="lstsq"):
            nm.compile(f)(*args)
        return
    check_compiled(f, args, rounding(terms=terms(program)), f"{kind} of {program.name}", in_c=True)


class WithOther:
    """A random program with other inputs, tangents and cotangents."""

    def __init__(self, program, inputs, tangents, cotangent):
        self._program = program
        self.inputs, self.tangents, self.cotangent = inputs, tangents, cotangent

    def __getattr__(self, name):
        return getattr(self._program, name)


by_name = pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)


@by_name
def test_random_program(program):
    check_program(program, KINDS[chosen(program.name, len(KINDS))])


@pytest.mark.parametrize("program", PROGRAMS[::12], ids=lambda p: p.name)
def test_shares_of_threads_make_the_same_bits(program):
    def f(xs):
        return compute("grad", WithOther(program, xs, program.tangents, program.cotangent), PLAIN)

    if any(step[0] == "lstsq" for step in program.steps):
        return  # not staged, see check_program
    xs = tuple(np.stack([x * (1 + 0.001 * k) for k in range(64)]) for x in program.inputs)
    with np.errstate(all="ignore"):
        one, *others = run_all(nm.vmap(f), xs, threads=4)
    for other in others:
        assert_same(other, one, lambda want: 0.0)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@by_name
def test_random_program_every_way(program, kind):
    check_program(program, kind)


# ------------------------------------------------------------------------------------ networks
def weighted(y):
    """A number that depends on every entry of every output, on no two alike."""
    leaves = [v for v in nm.tree_leaves(y) if v.dtype.kind == "f"]
    return sum(
        np.sum(v * np.cos(np.arange(v.size, dtype=v.dtype)).reshape(v.shape)) for v in leaves
    )


def cast_tree(tree, dtype):
    return nm.tree_map(
        lambda v: np.asarray(v, dtype) if np.asarray(v).dtype.kind == "f" else v, tree
    )


def check_network(f, params, x):
    """Values, the gradient, and the derivative of the gradient, in one program."""

    def all_of(params, x):
        def g(params, x):
            return nm.value_and_grad(lambda p, x: weighted(f(p, x)), argnums=(0, 1))(params, x)

        return f(params, x), nm.jvp(g, (params, x), (params, x))

    check_compiled(all_of, (params, x), rounding(terms=4 * max(x.size, 1)), in_c=True)


def layers():
    for kind in ("layers", "functions"):
        for subject, shape in bad_networks.SUBJECTS[kind].items():
            for dtype in (np.float32, np.float64):
                yield pytest.param(subject, shape, dtype, id=f"{subject[3:]}-{dtype.__name__}")


@pytest.mark.parametrize(("subject", "shape", "dtype"), list(layers()))
def test_layer(subject, shape, dtype):
    layer = eval(subject)
    x = np.random.default_rng(1).standard_normal(eval(shape)).astype(dtype)
    if subject in bad_networks.SUBJECTS["functions"]:
        check_network(lambda params, x: params * layer(x), dtype(1.5), x)
    else:
        check_network(lambda layer, x: layer(x), cast_tree(layer, dtype), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CLOSED)
def test_loss(name, dtype):
    loss, prediction, target = CLOSED[name]
    rng = np.random.default_rng(chosen(name, 2**31))
    x, y = (cast_tree(make(rng), dtype) for make in (prediction, target))
    loss = cast_tree(loss, dtype)

    def all_of(loss, x, y):
        return loss(x, y), nm.jvp(nm.grad(lambda x: np.sum(loss(x, y))), (x,), (x,))

    check_compiled(all_of, (loss, x, y), rounding(terms=64), in_c=True)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_optimizer_step(name, dtype):
    rng = np.random.default_rng(3)
    params = {
        "w": rng.standard_normal((3, 4)).astype(dtype),
        "b": [rng.standard_normal(4).astype(dtype)],
        "none": None,
    }
    optimizer = OPTIMIZERS[name]
    step = nm.compile(optimizer.step)
    ours = theirs = (params, optimizer.init(params))
    for _ in range(3):
        g = nm.tree_map(lambda x: np.sin(3 * x), theirs[0])
        ours, theirs = step(ours[0], g, ours[1]), optimizer.step(theirs[0], g, theirs[1])
        assert_same(ours, theirs, rounding())


# ------------------------------------------------------------------------------------ training
NETWORKS = {
    "dense": ("nn.MLP.init((6, 8, 8, 3), rng=0)", (5, 6)),
    "convolutional": (
        "nn.Sequential([nn.Conv2d.init((2, 4), 3, padding='same', rng=0), nn.relu, nn.MaxPool2d(2), "
        "nn.GroupNorm.init(2, 4), nn.Flatten(), nn.Dense.init((16, 3), rng=1)])",
        (5, 4, 4, 2),
    ),
    "recurrent": (
        "nn.Sequential([nn.LSTM.init((4, 6), rng=0), nn.GlobalAvgPool(), nn.Dense.init((6, 3), rng=1)])",
        (5, 7, 4),
    ),
    "transformer": (
        "nn.Sequential([nn.PositionEmbedding.init(6, 4, rng=2), nn.TransformerBlock.init(4, 2, rng=0), "
        "nn.LayerNorm.init(4), nn.GlobalAvgPool(), nn.Dense.init((4, 3), rng=1)])",
        (5, 6, 4),
    ),
}


def copy_of(x):
    return x.copy() if isinstance(x, np.ndarray) else x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NETWORKS)
def test_training_steps(name, dtype):
    """The whole step in one program, with the learning rate as a number and the parameters donated."""
    made, shape = NETWORKS[name]
    rng = np.random.default_rng(4)
    model = cast_tree(eval(made), dtype)
    x, labels = rng.standard_normal(shape).astype(dtype), rng.integers(0, 3, shape[0])

    def step(model, state, x, labels, rate):
        def loss(model):
            return np.mean(nn.softmax_cross_entropy(model(x), labels))

        value, g = nm.value_and_grad(loss)(model)
        model, state = optimizer.step(model, g, state)
        return nm.tree_map(lambda p, g: p - rate * g, model, g), state, value, 0.5 * rate

    optimizer = nm.optim.heavy_ball(0.02, 0.9)
    compiled = nm.compile(step, donate_argnums=(0, 1))
    theirs = (model, optimizer.init(model), None, 0.1)
    ours = (*nm.tree_map(copy_of, theirs[:2]), None, 0.1)
    for _ in range(3):
        theirs = step(*theirs[:2], x, labels, theirs[3])
        ours = compiled(*ours[:2], x, labels, ours[3])
        # what one step rounds differently, the next ones carry on: a smooth loss stretches it little
        assert_same(ours, theirs, rounding(terms=x.size), name)
        assert type(ours[3]) is float
    assert len(compiled._plans) == 1
