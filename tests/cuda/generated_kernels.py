"""One function for each form of a generated kernel: what test_generated_kernels.py runs, and `make mutants` breaks."""

import numpy as np

import nnmath_core as nm
from nnmath_core.program.cuda import plan, writer


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


CASES = {
    "entries": (
        lambda x, r, c: (np.tanh(x) * r + c, x[::-1, ::2] - c),
        data((37, 33), (33,), (37, 1)),
    ),
    "short rows": (lambda x: (nm.nn.softmax(x, axis=-1), np.max(x, axis=1)), data((71, 45))),
    "long rows": (lambda x: (nm.nn.softmax(x, axis=-1), np.min(x, axis=1)), data((5, 300))),
    "rows made again": (
        lambda x: x / np.sqrt(np.sum(x * x, axis=1, keepdims=True)),
        data((1, 17000)),
    ),
    "parts of a row": (
        lambda x: (np.sqrt(np.sum(x * x, axis=1)), np.max(x, axis=1)),
        data((2, 20000)),
    ),
    "sums over rows": (lambda x: (np.sum(np.tanh(x), axis=0), np.max(x, axis=0)), data((300, 33))),
    "sums over few rows": (lambda x: np.sum(x, axis=1), data((3, 5, 7))),
    "gradient of layer norm": (
        nm.grad(layer_norm, argnums=(0, 1)),
        data((70, 33), (33,), (70, 33)),
    ),
    "gradient of wide layer norm": (
        nm.grad(layer_norm, argnums=(0, 1)),
        data((9, 300), (300,), (9, 300)),
    ),
    "gradient descent": (stepped(nm.optim.gradient_descent(0.1)), data((2100,), (33,))),
    "heavy ball": (stepped(nm.optim.heavy_ball(0.1, 0.9)), data((2100,), (33,))),
    "nesterov": (stepped(nm.optim.nesterov(0.1, 0.9)), data((2100,), (33,))),
    "adam": (stepped(nm.optim.adam(0.1)), data((2100,), (33,))),
    "adamw": (stepped(nm.optim.adamw(0.1, weight_decay=0.3)), data((2100,), (33,))),
}


MOST_BLOCKS = 2
"""Of a grid, so that blocks take several turns."""


def plan_of(name, *, compiles=True):
    """The plan of a case, whose buffers are allocations of their own, so that their ends are guarded."""
    f, arguments = CASES[name]
    before = plan.APART, plan.kernel_of, writer.MOST_BLOCKS
    plan.APART, writer.MOST_BLOCKS = True, MOST_BLOCKS
    if not compiles:  # a kernel that is known already would not be compiled from an edited text
        plan.kernel_of = lambda *about: None
    try:
        return nm.compile(f).plan(*nm.to_device(arguments[0], "cuda"))
    finally:
        plan.APART, plan.kernel_of, writer.MOST_BLOCKS = before


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
                    ["test_generated_kernels.py", "-k", name.replace(" ", "_")],
                )


def __getattr__(name):
    if name == "TARGETS":  # made when somebody asks: it needs a device
        return list(targets())
    raise AttributeError(name)
