"""Convolutions, forward and backward, at the sizes of digits: NumPy by hand, ours, PyTorch.

By hand means windows gathered into one matrix, two products of it, and windows added back. The last
groups are the gradient of a small network, time per image at several sizes of a batch: what batches gain.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import OURS, Calls, Group, Variant, given

TITLE = "convolutions of images of digits, forward and backward"

# name, image, channels in and out, kernel, whether the gradient in the images is wanted
LAYERS = (
    ("first layer", (28, 28), 1, 32, 3, False),
    ("second layer", (14, 14), 32, 64, 3, True),
    ("1 x 1", (14, 14), 64, 64, 1, True),
)


def groups(*, quick: bool) -> list[Group]:
    """Return a group for each layer and for each size of a batch."""
    batch, batches = (2, (1, 2)) if quick else (64, (1, 4, 16, 64, 256))
    return [layer(*row, batch) for row in LAYERS] + [network(n) for n in batches]


def layer(
    name: str, size: tuple[int, int], ins: int, outs: int, k: int, both: bool, n: int
) -> Group:
    """Compare gradients of a weighted sum of a convolution in float32."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((n, *size, ins)), rng.standard_normal((k, k, ins, outs))
    h, v = size[0] - k + 1, size[1] - k + 1
    c = rng.standard_normal((n, h, v, outs))
    x, w, c = (a.astype(np.float32) for a in (x, w, c))

    def by_hand() -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))
        matrix = windows.transpose(0, 1, 2, 4, 5, 3).reshape(n * h * v, -1)
        kernel, g = w.reshape(-1, outs), c.reshape(-1, outs)
        np.vdot(matrix @ kernel, g)
        if not both:
            return matrix.T @ g
        back = (g @ kernel.T).reshape(n, h, v, k, k, ins)
        gx = np.zeros_like(x)
        for i, j in np.ndindex(k, k):
            gx[:, i : i + h, j : j + v] += back[:, :, :, i, j]
        return matrix.T @ g + gx.sum()

    def our_calls(nm: Any) -> Calls:
        gradient = nm.grad(
            lambda w, x: np.vdot(nm.nn.conv(x, w), c), argnums=(0, 1) if both else (0,)
        )

        def call() -> np.ndarray:
            gw, *rest = gradient(w, x)
            return gw.reshape(-1, outs) + sum(g.sum() for g in rest)

        return [call]

    def torch_calls(torch: Any) -> Calls:
        torch.set_num_threads(1)
        images = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        kernel = torch.from_numpy(np.ascontiguousarray(w.transpose(3, 2, 0, 1))).requires_grad_()
        weights = torch.from_numpy(np.ascontiguousarray(c.transpose(0, 3, 1, 2)))
        leaves = [kernel, images.requires_grad_()] if both else [kernel]

        def call() -> np.ndarray:
            y = (torch.nn.functional.conv2d(images, kernel) * weights).sum()
            gw, *rest = torch.autograd.grad(y, leaves)
            gw = gw.permute(2, 3, 1, 0).numpy().reshape(-1, outs)
            return gw + sum(float(g.sum()) for g in rest)

        return [call]

    return Group(
        f"{name}, {size[0]} x {size[1]} x {ins} to {outs}, {k} x {k}, batch {n}",
        [
            Variant("NumPy by hand", by_hand),
            *given(OURS, ["nm.grad"], our_calls),
            *given("torch", ["torch eager"], torch_calls),
        ],
        # sums of so many terms in another order, and the sum of all entries of a gradient
        tolerance=64 * float(np.finfo(np.float32).eps) * (n * h * v) ** 0.5,
    )


def network(n: int) -> Group:
    """Compare the gradient of a network of two convolutions and a dense layer, a time per image."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 28, 28, 1)).astype(np.float32)
    labels = rng.integers(0, 10, n)
    shapes = [(3, 3, 1, 16), (3, 3, 16, 32), (5 * 5 * 32, 10)]
    weights = [rng.standard_normal(s) / np.prod(s[:-1]) ** 0.5 for s in shapes]
    weights = [w.astype(np.float32) for w in weights]

    def our_calls(nm: Any) -> Calls:
        def loss(weights: Any) -> Any:
            h = nm.nn.max_pool(nm.nn.relu(nm.nn.conv(x, weights[0])), 2)
            h = nm.nn.max_pool(nm.nn.relu(nm.nn.conv(h, weights[1])), 2)
            logits = h.reshape(n, -1) @ weights[2]
            return nm.nn.softmax_cross_entropy(logits, labels, reduction="mean")

        gradient = nm.grad(loss)
        return [lambda: gradient(weights)[2]]

    def torch_calls(torch: Any) -> Calls:
        torch.set_num_threads(1)
        f = torch.nn.functional
        images = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        kernels = [np.ascontiguousarray(w.transpose(3, 2, 0, 1)) for w in weights[:2]]
        leaves = [torch.from_numpy(a.copy()).requires_grad_() for a in (*kernels, weights[2])]
        classes = torch.from_numpy(labels)

        def call() -> np.ndarray:
            h = f.max_pool2d(f.relu(f.conv2d(images, leaves[0])), 2)
            h = f.max_pool2d(f.relu(f.conv2d(h, leaves[1])), 2)
            logits = h.permute(0, 2, 3, 1).reshape(n, -1) @ leaves[2]
            return torch.autograd.grad(f.cross_entropy(logits, classes), leaves)[2].numpy()

        return [call]

    return Group(
        f"gradient of a convolutional network, a time per image, batch {n}",
        [
            *given(OURS, ["nm.grad"], our_calls),
            *given("torch", ["torch eager"], torch_calls),
        ],
        per=n,
        tolerance=1e-4,
    )
