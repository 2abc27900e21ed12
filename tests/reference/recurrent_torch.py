"""Let PyTorch evaluate whole recurrent layers with the gradients of every weight and Hessian-vector products.

::

    python tests/reference/recurrent_torch.py    # write recurrent_torch.json

Everything is in float64; `cases` and `arguments` give the arguments without PyTorch, for the test. The result of a case
is one vector: the outputs, then the last states. Its arguments are the input, the first states, and for each cell what
the package's cell holds.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from reference.parity import torch_answer

__all__ = ["GATES", "STORED", "arguments", "cases"]

STORED = Path(__file__).with_suffix(".json")
GATES = {"RNN": 1, "RNN relu": 1, "GRU": 3, "LSTM": 4}


def cases() -> dict[str, dict[str, Any]]:
    """Case -> kind, sizes (n, t, d, h), layers, directions, biases, lengths."""
    plain = {"sizes": (3, 5, 4, 2), "layers": 1, "directions": 1, "bias": True, "lengths": None}
    changes: dict[str, dict[str, Any]] = {
        "plain": {},
        "bidirectional": {"directions": 2},
        "three layers": {"layers": 3, "sizes": (2, 4, 3, 3)},
        "two layers, bidirectional": {"layers": 2, "directions": 2, "sizes": (2, 6, 3, 2)},
        "one sequence, one step, no bias": {"sizes": (1, 1, 2, 5), "bias": False},
        "padded": {"lengths": [5, 2, 1]},
        "padded, two layers, bidirectional": {"lengths": [1, 4, 3], "layers": 2, "directions": 2},
    }
    return {
        f"{kind}, {name}": {**plain, **change, "kind": kind}
        for kind in GATES
        for name, change in changes.items()
    }


def arguments(name: str, case: dict[str, Any]) -> list[np.ndarray]:
    """Input, first states (h, and c of an LSTM, cells first), then weight, recurrent weight, biases of each cell.

    The biases are ``b_ih`` and ``b_hh`` of PyTorch.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    n, t, d, h = case["sizes"]
    gates = GATES[case["kind"]]
    cells = case["layers"] * case["directions"]
    made = [rng.standard_normal((n, t, d))]
    made += [rng.standard_normal((cells, n, h)) for _ in range(2 if case["kind"] == "LSTM" else 1)]
    for i in range(cells):
        fan_in = d if i < case["directions"] else case["directions"] * h
        made.append(rng.standard_normal((fan_in, gates * h)) / np.sqrt(fan_in))
        made.append(rng.standard_normal((h, gates * h)) / np.sqrt(h))
        if case["bias"]:
            made += [0.5 * rng.standard_normal(gates * h) for _ in range(2)]
    return made


def theirs(case: dict[str, Any]) -> Any:
    import torch

    _n, t, d, h = case["sizes"]
    kind = case["kind"].split()[0]
    more = {"nonlinearity": "relu"} if "relu" in case["kind"] else {}
    layer = getattr(torch.nn, kind)(
        d,
        h,
        num_layers=case["layers"],
        bias=case["bias"],
        bidirectional=case["directions"] == 2,
        batch_first=True,
        **more,
    ).double()
    names = [name for name, _ in layer.named_parameters()]
    states = 2 if kind == "LSTM" else 1

    def f(x: Any, *rest: Any) -> Any:
        first, weights = rest[:states], rest[states:]
        values = [w.T if w.ndim == 2 else w for w in weights]
        given = x
        if case["lengths"] is not None:
            given = torch.nn.utils.rnn.pack_padded_sequence(
                x, torch.tensor(case["lengths"]), batch_first=True, enforce_sorted=False
            )
        state = first if states == 2 else first[0]
        parameters = dict(zip(names, values, strict=True))
        y, last = torch.func.functional_call(layer, parameters, (given, state))
        if case["lengths"] is not None:
            y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=t)
        last = last if states == 2 else (last,)
        return torch.cat([y.reshape(-1), *(s.reshape(-1) for s in last)])

    return f


def main() -> None:
    import torch

    answers = {
        name: torch_answer(name, theirs(case), arguments(name, case))
        for name, case in cases().items()
    }
    STORED.write_text(json.dumps({"torch": torch.__version__, "cases": answers}) + "\n")


if __name__ == "__main__":
    main()
