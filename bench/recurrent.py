"""Gradients through time: an LSTM layer in its input, and a CTC loss in its logits, ours and PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import OURS, Calls, Group, Variant, given

TITLE = "gradients of an LSTM layer and of CTC in float32"


def groups(*, quick: bool) -> list[Group]:
    """Return a layer of speech or text, and the loss of its transcription."""
    if quick:
        return [lstm((2, 3, 4), 5), ctc((2, 6, 4), 2)]
    return [lstm((32, 100, 64), 128), lstm((1, 500, 16), 16), ctc((16, 200, 40), 30)]


def lstm(shape: tuple[int, int, int], features: int) -> Group:
    """Compare the gradient of the sum of all outputs in the sequences."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    sizes = [(shape[2], 4 * features), (features, 4 * features), (4 * features,)]
    weights = [(rng.standard_normal(s) / features**0.5).astype(np.float32) for s in sizes]

    def our_calls(nm: Any) -> Calls:
        layer = nm.nn.LSTM((nm.nn.LSTMCell(*weights),))
        gradient = nm.grad(lambda x: np.sum(layer(x)))
        return [lambda: gradient(x)]

    def torch_calls(torch: Any) -> Calls:
        torch.set_num_threads(1)
        layer = torch.nn.LSTM(shape[2], features, batch_first=True)
        values = [weights[0].T, weights[1].T, weights[2], np.zeros_like(weights[2])]
        with torch.no_grad():
            for parameter, value in zip(layer.parameters(), values, strict=True):
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
        leaf = torch.from_numpy(x.copy()).requires_grad_()

        def call() -> np.ndarray:
            return torch.autograd.grad(layer(leaf)[0].sum(), leaf)[0].numpy()

        return [call]

    size = f"{' x '.join(map(str, shape))} to {features}"
    return compared(f"LSTM, {size}", our_calls, torch_calls, shape[1])


def ctc(shape: tuple[int, int, int], most: int) -> Group:
    """Compare the gradient of the sum of the losses in the logits."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal(shape).astype(np.float32)
    labels = rng.integers(1, shape[2], (shape[0], most))

    def our_calls(nm: Any) -> Calls:
        gradient = nm.grad(lambda z: nm.nn.ctc(z, labels, reduction="sum"))
        return [lambda: gradient(z)]

    def torch_calls(torch: Any) -> Calls:
        torch.set_num_threads(1)
        leaf = torch.from_numpy(z.copy()).requires_grad_()
        rows = torch.from_numpy(labels)
        lengths = [torch.full((shape[0],), n) for n in (shape[1], most)]

        def call() -> np.ndarray:
            logs = torch.log_softmax(leaf, -1).transpose(0, 1)
            loss = torch.nn.functional.ctc_loss(logs, rows, *lengths, reduction="sum")
            return torch.autograd.grad(loss, leaf)[0].numpy()

        return [call]

    size = f"{' x '.join(map(str, shape))}, {most} labels"
    return compared(f"CTC, {size}", our_calls, torch_calls, shape[1])


def compared(
    name: str, our_calls: Callable[[Any], Calls], torch_calls: Callable[[Any], Calls], steps: int
) -> Group:
    """Put the two beside each other."""
    variants: list[Variant] = [
        *given(OURS, ["nm.grad"], our_calls),
        *given("torch", ["torch eager"], torch_calls),
    ]
    # rounding adds up from step to step
    return Group(name, variants, tolerance=256 * float(np.finfo(np.float32).eps) * steps)
