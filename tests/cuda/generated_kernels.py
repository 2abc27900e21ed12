"""One function for each form of a generated kernel: what test_generated_kernels.py runs, and `make mutants` breaks."""

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.program.cuda import plan, rows, writer


def normal(*shape, scale=1.0, shift=0.0):
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) * scale + shift).astype(np.float32)


def layer_norm(x, w, g):
    centred = x - np.mean(x, axis=-1, keepdims=True)
    return np.sum(centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + 1e-5) * w * g)


def stepped(optimizer):
    """Two steps of an optimizer on two tensors, of which one takes two blocks."""

    def f(x, y):
        params, grads = [x, y], [np.sin(x), np.cos(y)]
        state = optimizer.init(params)
        params, state = optimizer.step(params, grads, state)
        return optimizer.step(params, grads, state)[0]

    return f


def data(*shapes):
    """Arguments three times: usual, far apart, all negative."""
    return [
        [normal(*shape, scale=s, shift=b) for shape in shapes]
        for s, b in ((1, 0), (40, 0), (3, -100))
    ]


def not_finite(rows, cols):
    """Rows that are -inf, that have -inf, infinity, both or NaN, and usual ones."""
    x = normal(rows, cols)
    x[0] = -np.inf
    x[1, ::3] = -np.inf
    x[2, 7] = np.inf
    x[3, 5:8] = -np.inf, np.nan, np.inf
    return x


# Memory is taken in units of 512 bytes: where an array fills them, a read past its last row shows. The last share of
# the rows is a smaller one, and ends in the middle of what a block takes at once.
CASES = {
    "entries": (
        lambda x, r, c: (np.tanh(x) * r + c, x[::-1, ::2] - c),
        data((37, 33), (33,), (37, 1)),
    ),
    "short rows": (
        lambda x: (nm.nn.softmax(x, axis=-1), np.max(x, axis=1)),
        [*data((71, 45)), [not_finite(71, 45)]],
    ),
    # the smallest is above the largest, whose shared array lies beside its own
    "long rows": (
        lambda x: (nm.nn.softmax(x, axis=-1), np.min(x + 1000, axis=1)),
        [*data((5, 300)), [not_finite(5, 300)]],
    ),
    "one sum of a long row": (lambda x: x * np.sum(x, axis=1, keepdims=True), data((5, 300))),
    "rows made again": (
        lambda x: 1000 * x / np.sqrt(np.sum(x * x, axis=1, keepdims=True)),
        data((1, 77087))[:1],
    ),
    "rows read again": (
        lambda x: 1000 * x / np.sqrt(np.sum(x * x, axis=1, keepdims=True)),
        data((3, 17000)),
    ),
    "parts of a row": (
        lambda x: (np.max(x, axis=1), np.sqrt(np.sum(x * x, axis=1))),
        data((2, 77087))[::2],
    ),
    "sums over rows": (
        lambda x: (np.sum(np.tanh(x), axis=1), np.max(x, axis=1)),
        data((2, 304, 36)),
    ),
    "sums over few rows": (
        lambda x: (np.sum(x, axis=1), np.max(x, axis=1)),
        data((4, 80, 6)),
    ),
    "gradient of layer norm": (
        nm.grad(layer_norm, argnums=(0, 1)),
        data((176, 40), (40,), (176, 40)),
    ),
    "gradient of wide layer norm": (
        nm.grad(layer_norm, argnums=(0, 1)),
        data((13, 300), (300,), (13, 300)),
    ),
    # tensors that fill pages: both their ends are guarded
    "gradient descent": (stepped(nm.optim.gradient_descent(0.1)), data((3072,), (1024,))),
    "heavy ball": (stepped(nm.optim.heavy_ball(0.1, 0.9)), data((3072,), (1024,))),
    "nesterov": (stepped(nm.optim.nesterov(0.1, 0.9)), data((3072,), (1024,))),
    "adam": (stepped(nm.optim.adam(0.1)), data((3072,), (1024,))),
    "adamw": (stepped(nm.optim.adamw(0.1, weight_decay=0.3)), data((3072,), (1024,))),
}


MOST_BLOCKS = 2
"""Of a grid, so that blocks take several turns."""
PART = 300
"""Columns of a part, so that there are more parts than threads of a block."""


def plan_of(name, *, compiles=True):
    """The plan of a case, whose buffers are allocations of their own, so that their ends are guarded."""
    f, arguments = CASES[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "APART", True)
        patch.setattr(writer, "MOST_BLOCKS", MOST_BLOCKS)
        patch.setattr(rows, "PART", PART)
        if not compiles:  # a kernel that is known already would not be compiled from an edited text
            patch.setattr(plan, "kernel_of", lambda *about: None)
        return nm.compile(f).plan(*nm.to_device(arguments[0], "cuda"))


def targets():
    """For each kernel of each case its name, its text, and the tests that know it."""
    seen = set()
    for name in CASES:
        for k, text in enumerate(plan_of(name, compiles=False).kernels):
            if text not in seen:
                seen.add(text)
                yield (
                    f"generated: {name}, {k}",
                    text,
                    ["test_generated_kernels.py", "-k", f"[{name.replace(' ', '_')}]"],
                )


def __getattr__(name):
    if name == "TARGETS":  # made when somebody asks: it needs a device
        return list(targets())
    raise AttributeError(name)
