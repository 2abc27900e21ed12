"""Let PyTorch evaluate attention, embeddings and transformer layers, with gradients and Hessian-vector products.

::

    python tests/reference/attention_torch.py    # write attention_torch.json

Everything is in float64; `cases` and `arguments` give the arguments without PyTorch, for the test. Weights
are (in, out).
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

__all__ = ["STORED", "arguments", "cases", "indices", "mask_of"]

STORED = Path(__file__).with_suffix(".json")


def cases() -> dict[str, dict[str, Any]]:
    """Case -> kind and options; ``mask`` is the shape of a mask drawn from the case's name."""
    function: dict[str, dict[str, Any]] = {
        "plain": {},
        "mask for all": {"mask": (5, 6)},
        "padded keys": {"mask": (2, 1, 1, 6)},
        "bias of each head": {"bias": (4, 5, 6)},
        "mask and causal": {"mask": (2, 4, 5, 5), "s": 5, "causal": True},
        "causal, more keys": {"causal": True, "s": 8},
        "causal, fewer keys": {"causal": True, "s": 3},
        "scale": {"scale": 0.3},
        "grouped queries": {"groups": 2},
        "multi-query, causal": {"groups": 1, "causal": True},
        "one query, one example": {"n": 1, "t": 1},
        "one key": {"s": 1},
        "bias of distances, causal": {"bias": (5, 5), "s": 5, "causal": True},
    }
    multihead: dict[str, dict[str, Any]] = {
        "self": {},
        "one head": {"heads": 1},
        "cross": {"s": 7},
        "cross, of other rows": {"s": 3, "context": 5},
        "no bias": {"bias": False},
        "causal": {"causal": True},
        "padded keys": {"mask": (3, 1, 1, 4)},
        "one example, one position": {"n": 1, "t": 1},
        "mask for each head": {"mask": (3, 2, 4, 4)},
    }
    block: dict[str, dict[str, Any]] = {
        "pre-norm, gelu": {},
        "post-norm, relu": {"norm_first": False, "activation": "relu"},
        "pre-norm, relu, causal": {"activation": "relu", "causal": True},
        "post-norm, gelu, padded keys": {"norm_first": False, "mask": (2, 1, 1, 4)},
        "post-norm, gelu, no bias": {"norm_first": False, "bias": False},
        "one example, one position": {"n": 1, "t": 1},
    }
    embedding: dict[str, dict[str, Any]] = {
        "rows": {"x": [[0, 3, 1], [3, 3, 2]]},
        "padding": {"x": [[0, 3, 1], [3, 3, 2]], "padding": 3},
        "one index": {"x": 2},
        "no index": {"x": []},
        "three axes": {"x": [[[0], [1]], [[1], [1]]]},
    }
    sizes = {
        "attention": {"n": 2, "h": 4, "t": 5, "s": 6, "d": 3, "e": 2, "groups": 4},
        "multihead": {"n": 3, "t": 4, "d": 6, "heads": 2, "bias": True},
        "block": {
            "n": 2, "t": 4, "d": 6, "heads": 2, "hidden": 7, "bias": True, "norm_first": True, "activation": "gelu",
        },
        "embedding": {"rows": 4, "d": 3},
    }  # fmt: skip
    groups = {"attention": function, "multihead": multihead, "block": block, "embedding": embedding}
    return {
        f"{kind}, {name}": {**sizes[kind], **options, "kind": kind}
        for kind, listed in groups.items()
        for name, options in listed.items()
    }


def mask_of(name: str, case: dict[str, Any]) -> np.ndarray | None:
    """True where may be attended; the first key always, since PyTorch gives NaN where there is none."""
    if "mask" not in case:
        return None
    mask = np.random.default_rng(zlib.crc32(f"{name}, mask".encode())).random(case["mask"]) < 0.6
    mask[..., 0] = True
    return mask


def indices(case: dict[str, Any]) -> np.ndarray:
    """Indices of an embedding."""
    return np.asarray(case["x"], int)


def arguments(name: str, case: dict[str, Any]) -> list[np.ndarray]:
    """The arrays that are differentiated, in the order in which the package's layer holds them."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    normal = rng.standard_normal
    kind = case["kind"]
    if kind == "embedding":
        return [normal((case["rows"], case["d"]))]
    if kind == "attention":
        n, h, t, s, d, e, g = (case[k] for k in ("n", "h", "t", "s", "d", "e", "groups"))
        made = [normal((n, h, t, d)), normal((n, g, s, d)), normal((n, g, s, e))]
        return [*made, normal(case["bias"])] if "bias" in case else made
    n, t, d = case["n"], case["t"], case["d"]
    made = [normal((n, t, d))]
    if "s" in case:
        made.append(normal((n, case["s"], case.get("context", d))))
    source = case.get("context", d)
    shapes = [(d, d), (source, d), (source, d), (d, d)]
    if kind == "block":
        shapes += [(d, case["hidden"]), (case["hidden"], d)]
    for fan_in, fan_out in shapes:
        made.append(normal((fan_in, fan_out)) / np.sqrt(fan_in))
        if case["bias"]:
            made.append(0.5 * normal(fan_out))
    if kind == "block":
        for _ in range(2):
            made.append(1 + 0.3 * normal(d))
            if case["bias"]:
                made.append(0.3 * normal(d))
    return made


def _attention(name: str, case: dict[str, Any]) -> Any:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    mask = mask_of(name, case)
    allowed = None if mask is None else torch.tensor(mask)
    if case.get("causal") and (mask is not None or "bias" in case):
        below = torch.ones(case["t"], case["s"], dtype=torch.bool).tril()
        allowed = below if allowed is None else allowed & below

    def f(q: Any, k: Any, v: Any, bias: Any = None) -> Any:
        added = allowed
        if bias is not None:
            added = bias if allowed is None else bias.masked_fill(~allowed, -torch.inf)
        with sdpa_kernel(SDPBackend.MATH):  # the fused ones have no second derivative
            return torch.nn.functional.scaled_dot_product_attention(
                q, k, v, added, is_causal=case.get("causal", False) and added is None, scale=case.get("scale"),
                enable_gqa=case["groups"] < case["h"],
            )  # fmt: skip

    return f


def _pairs(rest: tuple[Any, ...], bias: bool) -> list[tuple[Any, Any]]:
    """Weight, transposed as PyTorch has it, and bias of each dense layer."""
    if not bias:
        return [(w.T, None) for w in rest]
    return [(w.T, b) for w, b in zip(rest[::2], rest[1::2], strict=True)]


def _masks(name: str, case: dict[str, Any]) -> dict[str, Any]:
    """PyTorch's masks are True where nothing is attended, and for (n * heads, t, s) or (n, s)."""
    import torch

    mask = mask_of(name, case)
    if case.get("causal"):
        return {"attn_mask": ~torch.ones(case["t"], case["t"], dtype=torch.bool).tril()}
    if mask is None:
        return {}
    if mask.shape[1:3] == (1, 1):
        return {"key_padding_mask": torch.tensor(~mask[:, 0, 0])}
    return {"attn_mask": torch.tensor(~mask.reshape(-1, *mask.shape[2:]))}


def _projections(pairs: list[tuple[Any, Any]], packed: bool) -> dict[str, Any]:
    import torch

    (wq, bq), (wk, bk), (wv, bv), (wo, bo) = pairs
    made = {"out_proj.weight": wo}
    if packed:
        made["in_proj_weight"] = torch.cat([wq, wk, wv])
    else:
        made.update(q_proj_weight=wq, k_proj_weight=wk, v_proj_weight=wv)
    if bq is not None:
        made.update({"in_proj_bias": torch.cat([bq, bk, bv]), "out_proj.bias": bo})
    return made


def _multihead(name: str, case: dict[str, Any]) -> Any:
    import torch

    source = case.get("context", case["d"])
    layer = torch.nn.MultiheadAttention(
        case["d"], case["heads"], bias=case["bias"], kdim=source, vdim=source, batch_first=True
    ).double()
    masks = _masks(name, case)

    def f(x: Any, *rest: Any) -> Any:
        context, rest = (rest[0], rest[1:]) if "s" in case else (x, rest)
        parameters = _projections(_pairs(rest, case["bias"]), source == case["d"])
        return torch.func.functional_call(layer, parameters, (x, context, context), masks)[0]

    return f


def _block(name: str, case: dict[str, Any]) -> Any:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    layer = torch.nn.TransformerEncoderLayer(
        case["d"], case["heads"], case["hidden"], dropout=0.0, activation=case["activation"], batch_first=True,
        norm_first=case["norm_first"], bias=case["bias"],
    ).double()  # fmt: skip
    masks = _masks(name, case)
    masks = {
        {"attn_mask": "src_mask", "key_padding_mask": "src_key_padding_mask"}[k]: v
        for k, v in masks.items()
    }

    def f(x: Any, *rest: Any) -> Any:
        dense = 12 if case["bias"] else 6
        pairs = _pairs(rest[:dense], case["bias"])
        parameters = {f"self_attn.{k}": v for k, v in _projections(pairs[:4], True).items()}
        for i, (w, b) in enumerate(pairs[4:], 1):
            parameters[f"linear{i}.weight"] = w
            if b is not None:
                parameters[f"linear{i}.bias"] = b
        norms = rest[dense:]
        names = [
            f"norm{i}.{part}" for i in (1, 2) for part in ("weight", "bias")[: 1 + case["bias"]]
        ]
        parameters.update(zip(names, norms, strict=True))
        with sdpa_kernel(SDPBackend.MATH):
            return torch.func.functional_call(layer, parameters, (x,), masks)

    return f


def _embedding(name: str, case: dict[str, Any]) -> Any:
    import torch

    x = torch.tensor(indices(case))
    return lambda w: torch.nn.functional.embedding(x, w, padding_idx=case.get("padding"))


def main() -> None:
    import torch

    kinds = {
        "attention": _attention,
        "multihead": _multihead,
        "block": _block,
        "embedding": _embedding,
    }
    answers = {
        name: torch_answer(name, kinds[case["kind"]](name, case), arguments(name, case))
        for name, case in cases().items()
    }
    STORED.write_text(json.dumps({"torch": torch.__version__, "cases": answers}) + "\n")


if __name__ == "__main__":
    main()
