"""Let PyTorch take twenty steps with each optimizer; or check the stored steps against PyTorch.

::

    python tests/reference/optim_torch.py           # write optim_torch.json
    python tests/reference/optim_torch.py --check   # recompute and compare

The loss is a ridge-like regression with a quartic penalty, so that the gradient is neither linear
nor bounded; parameters are a matrix and a vector in float64. Data are multiples of 1/1024, results
hexadecimal floats.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

STORED = Path(__file__).with_suffix(".json")
STEPS = 20
CHECK_TOLERANCE = 1e-13  # relative: PyTorch sums in an order of its own on each machine

OPTIMIZERS = {
    "gradient_descent": (torch.optim.SGD, {"lr": 0.05}),
    "heavy_ball": (torch.optim.SGD, {"lr": 0.02, "momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"lr": 0.02, "momentum": 0.9, "nesterov": True}),
    "adam": (torch.optim.Adam, {"lr": 0.1}),
    "adam, other betas, large eps": (
        torch.optim.Adam,
        {"lr": 0.1, "betas": (0.7, 0.95), "eps": 0.05},
    ),
    "adamw": (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.2}),
    "heavy_ball, halving": (torch.optim.SGD, {"lr": 0.04, "momentum": 0.8}),
    "adamw, halving": (torch.optim.AdamW, {"lr": 0.2, "weight_decay": 0.1}),
}


def coarse(x: np.ndarray) -> np.ndarray:
    return np.round(x * 1024) / 1024


def problem() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(20261122)
    x, y = rng.standard_normal((7, 3)), rng.standard_normal((7, 2))
    w, b = rng.standard_normal((3, 2)), rng.standard_normal(2)
    return {name: coarse(value) for name, value in zip("xywb", (x, y, w, b), strict=True)}


def trajectory(name: str, data: dict[str, np.ndarray]) -> list[list[float]]:
    """Return all parameters, w before b, after each step."""
    x, y = torch.tensor(data["x"]), torch.tensor(data["y"])
    w, b = (torch.tensor(data[k], requires_grad=True) for k in "wb")
    make, options = OPTIMIZERS[name]
    optimizer = make([w, b], **options)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda steps: 0.5**steps if "halving" in name else 1.0
    )
    path = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = ((x @ w + b - y) ** 2).mean() + 0.25 * (w**4).sum()
        loss.backward()
        optimizer.step()
        schedule.step()
        path.append(torch.cat([w.detach().ravel(), b.detach()]).tolist())
    return path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    torch.set_num_threads(1)
    data = problem()
    paths = {name: trajectory(name, data) for name in OPTIMIZERS}
    if check:
        stored = json.loads(STORED.read_text())
        for name, path in paths.items():
            want = np.array([[float.fromhex(v) for v in row] for row in stored["paths"][name]])
            error = np.max(np.abs(np.array(path) - want)) / np.max(np.abs(want))
            print(f"{name}: {error:.1e}")
            if error > CHECK_TOLERANCE:
                raise SystemExit(f"{name} differs from {STORED.name}")
        return
    record = {
        "torch": torch.__version__,
        "data": {name: value.tolist() for name, value in data.items()},
        "paths": {name: [[v.hex() for v in row] for row in path] for name, path in paths.items()},
    }
    STORED.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
