"""Let PyTorch name the arrays of its modules and evaluate them, and write files as its users do.

::

    python tests/reference/weights_torch.py    # write weights_torch.json

The file has for each module the names and shapes of its state dictionary, whose numbers `numbers` makes from the name,
and its output (in float64, in evaluation) of an input that it makes, too; and small files of `torch.save` and of the
package safetensors, in base 85, compressed.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["INPUTS", "STORED", "digest", "numbers", "state_of", "stored_file"]

STORED = Path(__file__).with_suffix(".json")

IMAGES, ROWS, SEQUENCES, INDICES = (2, 2, 7, 6), (5, 4), (2, 5, 4), (2, 3)
"""Shapes of inputs in PyTorch's layout."""

INPUTS: dict[str, tuple[int, ...]] = {
    "Linear": ROWS,
    "Linear, no bias": ROWS,
    "Conv2d": IMAGES,
    "Conv2d, groups": IMAGES,
    "Conv1d": SEQUENCES,
    "ConvTranspose2d": IMAGES,
    "ConvTranspose2d, groups": (2, 4, 3, 5),
    "ConvTranspose1d, groups": SEQUENCES,
    "BatchNorm2d": IMAGES,
    "BatchNorm1d, not affine": ROWS,
    "LayerNorm": SEQUENCES,
    "LayerNorm of images": IMAGES,
    "RMSNorm": SEQUENCES,
    "GroupNorm": (2, 4, 3, 5),
    "InstanceNorm2d": IMAGES,
    "Embedding": INDICES,
    "RNN": SEQUENCES,
    "GRU, two layers, two directions": SEQUENCES,
    "LSTM, two layers": SEQUENCES,
    "LSTM, no bias, two directions": SEQUENCES,
    "GRUCell": ROWS,
    "MultiheadAttention": SEQUENCES,
    "MultiheadAttention, other keys": SEQUENCES,
    "TransformerEncoder": SEQUENCES,
    "weight_norm": ROWS,
    "weight_norm of a convolution": IMAGES,
    "network": IMAGES,
    "network with a norm behind the flattening": IMAGES,
}
"""Module -> shape of its input."""


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of a name, around 0 and of size 0.5; variances are positive, indices are integers."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.array(3)
    if name == "Embedding/input":
        return rng.integers(0, 6, shape)
    x = 0.5 * rng.standard_normal(shape)
    return np.exp(x) if name.endswith("running_var") else x


def state_of(module: str, shapes: dict[str, Any]) -> dict[str, np.ndarray]:
    """The state dictionary of a module."""
    return {name: numbers(f"{module}/{name}", tuple(shape)) for name, shape in shapes.items()}


def digest(y: np.ndarray) -> list[float]:
    """The first numbers of an output, and a sum of all with weights."""
    flat = y.ravel()
    return [*flat[:12].tolist(), float(np.cos(np.arange(flat.size)) @ flat)]


def stored_file(name: str) -> bytes:
    """A file of PyTorch's or safetensors' users, as `files` has made it."""
    text = json.loads(STORED.read_text(encoding="utf-8"))["files"][name]
    return zlib.decompress(base64.b85decode(text))


def modules() -> dict[str, tuple[Any, Callable[..., Any]]]:
    """Module and how it is called with the input."""
    from torch import nn

    def call(m: Any, x: Any) -> Any:
        return m(x)

    def first(m: Any, x: Any) -> Any:
        return m(x)[0]

    def itself(m: Any, x: Any) -> Any:
        return m(x, x, x)[0]

    def others(m: Any, x: Any) -> Any:
        context = x.repeat(1, 2, 1)[..., :3]
        return m(x, context, context)[0]

    def network(*behind: Any) -> Any:
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), *behind,
            nn.Linear(36, 5), nn.Tanh(), nn.Linear(5, 3),
        )  # fmt: skip

    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6, 0.0, batch_first=True), 2)
    norm = nn.utils.parametrizations.weight_norm
    return {
        "Linear": (nn.Linear(4, 3), call),
        "Linear, no bias": (nn.Linear(4, 3, bias=False), call),
        "Conv2d": (nn.Conv2d(2, 3, (3, 2), stride=2, padding=1), call),
        "Conv2d, groups": (nn.Conv2d(2, 6, 3, groups=2, bias=False), call),
        "Conv1d": (nn.Conv1d(5, 3, 2, dilation=2), call),
        "ConvTranspose2d": (nn.ConvTranspose2d(2, 3, (3, 2), stride=2), call),
        "ConvTranspose2d, groups": (nn.ConvTranspose2d(4, 6, 3, groups=2, padding=1), call),
        "ConvTranspose1d, groups": (nn.ConvTranspose1d(5, 10, 3, groups=5), call),
        "BatchNorm2d": (nn.BatchNorm2d(2), call),
        "BatchNorm1d, not affine": (nn.BatchNorm1d(4, affine=False), call),
        "LayerNorm": (nn.LayerNorm(4), call),
        "LayerNorm of images": (nn.LayerNorm(IMAGES[1:]), call),
        "RMSNorm": (nn.RMSNorm(4, eps=1e-6), call),
        "GroupNorm": (nn.GroupNorm(2, 4), call),
        "InstanceNorm2d": (nn.InstanceNorm2d(2, affine=True), call),
        "Embedding": (nn.Embedding(6, 3), call),
        "RNN": (nn.RNN(4, 3, batch_first=True), first),
        "GRU, two layers, two directions": (
            nn.GRU(4, 3, 2, bidirectional=True, batch_first=True),
            first,
        ),
        "LSTM, two layers": (nn.LSTM(4, 3, 2, batch_first=True), first),
        "LSTM, no bias, two directions": (
            nn.LSTM(4, 3, bias=False, bidirectional=True, batch_first=True),
            first,
        ),
        "GRUCell": (nn.GRUCell(4, 3), lambda m, x: m(x, 0.1 * x[:, :3])),
        "MultiheadAttention": (nn.MultiheadAttention(4, 2, batch_first=True), itself),
        "MultiheadAttention, other keys": (
            nn.MultiheadAttention(4, 2, bias=False, kdim=3, vdim=3, batch_first=True),
            others,
        ),
        "TransformerEncoder": (encoder, call),
        "weight_norm": (norm(nn.Linear(4, 3)), call),
        "weight_norm of a convolution": (norm(nn.Conv2d(2, 3, 3)), call),
        "network": (network(), call),
        "network with a norm behind the flattening": (network(nn.BatchNorm1d(36)), call),
    }


def files() -> dict[str, str]:
    """Small files of both kinds, compressed and in base 85."""
    import torch
    from safetensors.numpy import save as save_numpy
    from safetensors.torch import save as save_tensors

    def saved(x: Any, **options: Any) -> bytes:
        stream = io.BytesIO()
        torch.save(x, stream, **options)
        return stream.getvalue()

    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    tensors = {
        "f32": base,
        "transposed": base.T,
        "part": base[1:, ::2],
        "expanded": torch.tensor([1.5]).expand(2, 3),
        "f64": torch.tensor([0.1, -0.0]).double(),
        "i64": torch.tensor([[1, -2]]),
        "bool": torch.tensor([True, False]),
        "f16": torch.tensor([0.5], dtype=torch.float16),
        "scalar": torch.tensor(7, dtype=torch.int32),
        "empty": torch.zeros(0, 3),
        "complex": torch.tensor([1 + 2j]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    torch.manual_seed(0)
    checkpoint = {
        "epoch": 3,
        "loss": 0.25,
        "note": "ünï",
        "shape": torch.Size([2, 3]),
        "none": None,
        "model": torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1)).state_dict(),
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-3, "params": [0, 1]}]},
    }  # fmt: skip
    arrays = {
        **{f"x{code}": np.arange(6).reshape(2, 3).astype(code) for code in "i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8".split()},
        "bool": np.array([True, False, True]),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 4)),
        "ünï/code": np.ones(1, np.float32),
    }  # fmt: skip
    made = {
        "tensors.pt": saved(tensors),
        "checkpoint.pt": saved(checkpoint),
        "bfloat16.pt": saved({"w": torch.tensor([1.0, -2.5, 3e38], dtype=torch.bfloat16)}),
        "old.pt": saved({"w": torch.ones(1)}, _use_new_zipfile_serialization=False),
        "module.pt": saved(torch.nn.Linear(1, 1)),
        "arrays.safetensors": save_numpy(arrays, {"format": "np"}),
        "bfloat16.safetensors": save_tensors(
            {"w": torch.tensor([1.0, -2.5, 3e38], dtype=torch.bfloat16)}
        ),
    }
    return {name: base64.b85encode(zlib.compress(data, 9)).decode() for name, data in made.items()}


def main() -> None:
    import safetensors
    import torch

    cases = {}
    for name, (module, call) in modules().items():
        module = module.double().eval()
        shapes = {key: list(value.shape) for key, value in module.state_dict().items()}
        state = {key: torch.tensor(value) for key, value in state_of(name, shapes).items()}
        module.load_state_dict(state)
        x = torch.tensor(numbers(f"{name}/input", INPUTS[name]))
        y = call(module, x).detach().numpy()
        cases[name] = {"state": shapes, "shape": list(y.shape), "digest": digest(y)}
    stored = {"torch": torch.__version__, "safetensors": safetensors.__version__}
    text = json.dumps({**stored, "cases": cases, "files": files()}, ensure_ascii=False)
    STORED.write_text(text + "\n", encoding="utf-8")


def check() -> None:
    """Hand our weights to PyTorch, strictly, where both packages are there; both must compute the same."""
    import torch

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from test_weights import OURS

    import nnmath_core as nm

    for name, (module, call) in modules().items():
        module, (model, ours) = module.double().eval(), OURS[name]
        state = nm.nn.to_torch(model)
        module.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
        x = numbers(f"{name}/input", INPUTS[name])
        with torch.no_grad():
            theirs = call(module, torch.tensor(x)).numpy()
        print(f"{name}: {np.abs(theirs - ours(model, x)).max():.1e}")


if __name__ == "__main__":
    check() if "--check" in sys.argv else main()
