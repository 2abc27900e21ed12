"""Where threads meet: not between shares that agree, but where parts are exchanged; the worst order is right."""

import itertools

import numpy as np
import pytest
from plans import assert_same, rounding, run_all

import nnmath_core as nm
from nnmath_core.program.builder import Buffer, Step, View, row_major
from nnmath_core.program.lower_cpu import lower
from nnmath_core.program.meetings import Share, join_scratch, meetings, shares
from nnmath_core.program.memory import lay_out

RNG = np.random.default_rng(41)


def step_of(widths, activation, dtype="f4"):
    """A training step with Adam, and arguments for it."""
    sizes = list(itertools.pairwise(widths))
    params = [
        {"w": RNG.standard_normal(s).astype(dtype) / s[0] ** 0.5, "b": np.zeros(s[1], dtype)}
        for s in sizes
    ]
    x = RNG.standard_normal((48, widths[0])).astype(dtype)
    y = RNG.integers(0, widths[-1], 48)
    optimizer = nm.optim.adam(
        1e-2, eps=1e-2
    )  # a step then moves no more than the gradient by rounding

    def loss(params, x, y):
        for layer in params[:-1]:
            x = activation(x @ layer["w"] + layer["b"])
        logits = x @ params[-1]["w"] + params[-1]["b"]
        return nm.nn.softmax_cross_entropy(logits, y).mean()

    def step(params, state, x, y):
        value, grads = nm.value_and_grad(loss)(params, x, y)
        return value, *optimizer.step(params, grads, state)

    return step, (params, optimizer.init(params), x, y)


def view(buffer, shape, strides=None, offset=0):
    strides = row_major(shape, 4) if strides is None else strides
    return View(buffer, offset, shape, strides, np.dtype("f4"))


# ---------------------------------------------------------------------------------------------- whole programs
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("widths", [(33, 20, 7), (64, 96, 96, 10), (130, 257, 65, 3)], ids=str)
def test_training_steps_in_the_worst_order(widths, dtype):
    """All of one thread between two meetings, then all of the next, in both orders and for 1 to 5 threads."""
    step, args = step_of(widths, np.tanh, dtype)
    want = step(*args)
    for got in run_all(step, *args, threads=5):
        assert_same(got, want, rounding(terms=max(widths)))


@pytest.mark.parametrize("name", ["attention", "normed", "convolved", "looped"])
def test_programs_in_the_worst_order(name):
    f, *args = {
        "attention": lambda: (
            nm.value_and_grad(lambda q, k, v: np.sum(nm.nn.attention(q, k, v) ** 2), argnums=(0, 1, 2)),
            *(RNG.standard_normal((2, 4, 24, 8)) for _ in range(3)),
        ),
        "normed": lambda: (
            nm.value_and_grad(lambda x, w: np.sum(np.sin(nm.nn.layer_norm(x @ w) @ w.T)), argnums=(0, 1)),
            RNG.standard_normal((70, 40)), RNG.standard_normal((40, 56)),
        ),
        "convolved": lambda: (
            nm.grad(lambda x, w: np.sum(np.tanh(nm.nn.conv(x, w))), argnums=(0, 1)),
            RNG.standard_normal((3, 12, 12, 4)), RNG.standard_normal((3, 3, 4, 5)),
        ),
        "looped": lambda: (
            nm.grad(lambda w, x: np.sum(nm.scan(lambda h, _: (np.tanh(h @ w + np.sum(h)), None), x, None, 4)[0])),
            RNG.standard_normal((40, 40)) / 40, RNG.standard_normal((64, 40)),
        ),
    }[name]()  # fmt: skip
    want = f(*args)
    for got in run_all(f, *args, threads=4):
        assert_same(got, want, rounding(errors=1e4, terms=100))


def test_a_network_meets_only_where_rows_are_exchanged():
    """Products share columns or rows, what stands behind them follows, and the optimizer follows the gradients."""
    step, args = step_of((784, 128, 10), lambda x: np.maximum(x, 0))
    plan = nm.compile(step).plan(*args)
    made = lower(plan.program, threads=2)
    kinds = [s.kind for s in made.steps]
    assert sum(made.meets) <= 5
    for kind, wait in zip(kinds[2:], made.meets[2:], strict=True):
        if kind == "optimizer":
            assert not wait
    assert kinds[:2] == ["machine", "gemm"]  # the number of the step goes first
    assert kinds[2:4] == ["machine", "gemm"]
    assert (
        made.meets[2:4].count(True) == 1
    )  # from columns to rows, behind the first loop or before it


# ---------------------------------------------------------------------------------------------- shares
def test_cuts_are_those_of_the_executor():
    """`nnm_share`: blocks of a quantum, as equal in number as can be."""
    assert Share(100, 8).cuts(2) == (48,)
    assert Share(100, 8).cuts(3) == (32, 64)
    assert Share(10, 64).cuts(2) == (0,)
    assert Share(128, 8).agrees(Share(128, 16), 2)
    assert not Share(120, 8).agrees(Share(120, 16), 2)
    assert not Share(128, 8, 256).agrees(Share(128, 8), 2)


def product(a, b, c, *, how=4, panel=0, axes=()):
    (m, k), n = a.shape[-2:], b.shape[-1]
    ints = (0, how, panel, m, n, k, k, 1, n, 1, n, len(axes), *(x for axis in axes for x in axis))
    return Step("gemm", (a, b), (c,), ints, ())


def test_products_share_their_longer_side():
    x, w, y = Buffer(4 * 128 * 30), Buffer(4 * 30 * 512), Buffer(4 * 128 * 512)
    wide = product(view(x, (128, 30)), view(w, (30, 512)), view(y, (128, 512)))
    assert shares(wide, 2) == [None, Share(2048, 128, 2048), Share(2048, 128, 2048)]
    tall = product(view(w, (512, 30)), view(x, (30, 128)), view(y, (512, 128)))
    assert shares(tall, 4) == [Share(512 * 120, 8 * 120), None, Share(512 * 512, 8 * 512)]
    # by BLAS rows while there are enough for all threads, then columns: nothing is known for any number
    some = product(view(x, (40, 30)), view(w, (30, 512)), view(y, (40, 512)), how=0)
    assert shares(some, 2)[2] == Share(40 * 2048, 8 * 2048)
    assert shares(some, 4) == [None, None, None]
    panels = product(view(w, (512, 30)), view(x, (30, 128)), view(y, (512, 128)), how=0, panel=256)
    assert shares(panels, 2) == [None, None, None]
    stack = product(
        view(x, (16, 12, 10)),
        view(w, (16, 10, 20)),
        view(y, (16, 12, 20)),
        axes=[(16, 480, 800, 960)],
    )
    assert shares(stack, 4) == [Share(16 * 480, 480), Share(16 * 800, 800), Share(16 * 960, 960)]


def test_meetings_stand_between_different_parts():
    """A reader with the writer's share does not wait; with another share, place or as a whole it does."""
    x, w, y, z = (Buffer(4 * 512 * 512) for _ in range(4))
    first = product(view(x, (512, 30)), view(w, (30, 128)), view(y, (512, 128)))
    same = product(view(y, (512, 128)), view(w, (128, 100)), view(z, (512, 100)))
    assert meetings([first, same], 2, placed=False) == [False, False]
    across = product(view(w, (100, 512)), view(y, (512, 128)), view(z, (100, 128)))
    assert meetings([first, across], 2, placed=False) == [False, True]
    shifted = product(
        view(y, (512, 128), offset=4 * 128 * 16), view(w, (128, 100)), view(z, (512, 100))
    )
    assert meetings([first, shifted], 2, placed=False) == [False, True]
    # arrays that lie in one place, though they are not the same
    assert meetings([first, same], 2, placed=True) == [False, True]
    alone = Step("machine", (view(y, (512, 128)),), (view(z, (1,)),), (), (), alone=True)
    assert meetings([first, alone, alone], 2, placed=False) == [False, True, False]


def packed(a, b, c, each, threads):
    step = product(a, b, c, panel=each)
    step.scratch = (View(Buffer(each * threads), 0, (each * threads,), (1,), np.dtype("u1")),)
    return step


def test_scratch_is_there_once_between_meetings():
    """Instructions that do not wait for each other work in one place, where a thread has what the largest asks."""
    x, w, y, z = (Buffer(4 * 512 * 512) for _ in range(4))
    steps = [
        packed(view(x, (512, 30)), view(w, (30, 128)), view(y, (512, 128)), 640, 3),
        packed(view(x, (512, 30)), view(w, (30, 100)), view(z, (512, 100)), 1280, 3),
        packed(view(w, (30, 512)), view(y, (512, 128)), view(x, (30, 128)), 320, 3),
    ]
    waits = meetings(steps, 3, placed=False)
    assert waits == [False, False, True]
    join_scratch(steps, waits)
    assert [s.scratch[0].nbytes for s in steps] == [3840, 3840, 960]
    assert [s.ints[2] for s in steps] == [1280, 1280, 320]
    assert steps[0].scratch[0].buffer is steps[1].scratch[0].buffer
    arena = lay_out(steps, waits)
    assert arena >= 4 * (4 * 512 * 512) + 3840
    assert meetings(steps, 3) == waits
    f = lambda x, w: (x @ w, x @ w.T)  # noqa: E731
    x, w = (RNG.standard_normal((640, 640)).astype("f4") for _ in range(2))
    for got in run_all(f, x, w, threads=4):
        assert_same(got, f(x, w), rounding(terms=640))
