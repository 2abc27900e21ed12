"""Train a network on handwritten digits, on the CPU or on a GPU: the same file, the same numbers.

    python tests/cuda/train_digits.py --device cuda --dtype float64 --steps 20 --save parameters.npz

Without a GPU, on the emulated device of the tests:

    PYTHONPATH=tests/cuda python -m emulated tests/cuda/train_digits.py --device cuda

Everything that depends on chance is drawn on the host from the seed. After the first step, which compiles, a step of
training queues work and waits for nothing.
"""

from __future__ import annotations

import argparse

import numpy as np

import nnmath_core as nm
from nnmath_core.study.named_data import digits

OPTIMIZERS = {
    "heavy_ball": nm.optim.heavy_ball(lambda count: 0.2 / (1.0 + 0.01 * count), 0.9),
    "adam": nm.optim.adam(1e-3),
}
HELDOUT = 297


def loss(model, x, y):
    return nm.nn.softmax_cross_entropy(model(x), y, reduction="mean")


def train(device, dtype, steps, optimizer, batch=64, seed=0, after=lambda step: None):
    """The network after so many steps, and its mean loss in the first and in the last."""
    data = digits()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data.y))
    x, y = data.x[order[HELDOUT:]].astype(dtype), data.y[order[HELDOUT:]]
    model = nm.nn.MLP.init((x.shape[1], 64, 32, 10), rng=rng, dtype=dtype)
    batches = rng.integers(0, len(y), (steps, batch))
    x, y = x[batches], y[batches]
    model, x, y = nm.to_device((model, x, y), device)
    state = optimizer.init(model)

    def gradient_step(model, state, x, y):
        value, slope = nm.value_and_grad(loss)(model, x, y)
        return (*optimizer.step(model, slope, state), value)

    step = nm.compile(gradient_step, donate_argnums=(0, 1))
    first = value = None
    for k in range(steps):
        model, state, value = step(model, state, x[k], y[k])
        first = value if first is None else first
        after(k)
    return nm.to_device(model, "cpu"), nm.to_device((first, value), "cpu")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--optimizer", default="heavy_ball", choices=sorted(OPTIMIZERS))
    parser.add_argument("--save", metavar="FILE", help="write the parameters as an .npz file")
    given = parser.parse_args(arguments)
    model, losses = train(given.device, given.dtype, given.steps, OPTIMIZERS[given.optimizer])
    print(
        f"loss {float(losses[0]):.6f} before the first step, {float(losses[-1]):.6f} before the last"
    )
    if given.save:
        np.savez(given.save, *nm.tree_leaves(model))
    return model


if __name__ == "__main__":
    main()
