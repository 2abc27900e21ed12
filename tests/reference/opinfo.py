"""Samples of PyTorch's operation database with PyTorch's answers: write or check ``opinfo.npz``.

::

    python tests/reference/opinfo.py            # draw anew, write opinfo.npz
    python tests/reference/opinfo.py --check    # let the installed PyTorch recompute the answers

Needs PyTorch and expecttest, in an environment of their own; nothing of the package is imported. The tests need the
stored file only.

A sample is a call of ``torch.testing._internal.common_methods_invocations.op_db`` in float64 whose
arrays have at most `LARGEST` entries together and whose answers are finite. Entries are rounded to
multiples of 1/1024, so that inputs are short; PyTorch answers for the rounded ones. Of each output
and each gradient its length and its products with up to `PROBES` random arrays are stored: a wrong
entry changes all of them.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
import zlib
from pathlib import Path

import numpy as np

STORED = Path(__file__).with_name("opinfo.npz")
ADAPTORS = Path(__file__).with_name("opinfo_operations.py")
SEED = 20261126
LARGEST = 160
PER_OPERATION = 8
PROBES = 6
GRID = 1024.0


# ------------------------------------------------------------------------------ shared with the test
def probes(size, name):
    """Return the random arrays with which an answer of this size is multiplied."""
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    return rng.standard_normal((min(PROBES, size), size))


def measured(x, name):
    """Return the length of an answer and its products with the probes."""
    x = np.asarray(x, float).ravel()
    return np.concatenate([[np.sqrt(np.sum(x * x))], probes(x.size, name) @ x])


def cotangent(shape, name):
    """Return the cotangent of an output."""
    rng = np.random.default_rng([SEED + 1, zlib.crc32(name.encode())])
    return rng.standard_normal(shape)


def load():
    """Return header and samples: ``{"op", "args", "kwargs", "arrays", "answers", "gradients"}``."""
    with np.load(STORED) as file:
        text = json.loads(bytes(file["text"]).decode())
        inputs, answers = file["inputs"].astype(float), file["answers"]
    samples = []
    at = place = 0
    for entry in text["samples"]:
        arrays = []
        for shape, kind in entry["arrays"]:
            n = int(np.prod(shape))
            values = inputs[at : at + n].reshape(shape)
            arrays.append(values.astype({"f": float, "i": np.int64, "b": bool}[kind]))
            at += n
        measures = []
        for n in entry["measures"]:
            measures.append(None if n is None else answers[place : place + n])
            place += n or 0
        k = entry["outputs"]
        samples.append(
            {**entry, "arrays": arrays, "answers": measures[:k], "gradients": measures[k:]}
        )
    return text["header"], samples


def decoded(x, arrays):
    """Return an argument from its stored form."""
    if isinstance(x, list):
        return [decoded(v, arrays) for v in x]
    if not isinstance(x, dict):
        return x
    ((kind, value),) = x.items()
    if kind == "array":
        return arrays[value]
    if kind == "tuple":
        return tuple(decoded(v, arrays) for v in value)
    if kind == "slice":
        return slice(*value)
    return {"ellipsis": ..., "inf": np.inf, "-inf": -np.inf}[kind]


# ----------------------------------------------------------------------------------------- PyTorch
def encoded(x, tensors):
    import torch

    if isinstance(x, torch.Tensor):
        if x.dtype not in (torch.float64, torch.int64, torch.bool):
            raise ValueError("dtype")
        tensors.append(x)
        return {"array": len(tensors) - 1}
    if isinstance(x, torch.Size) or (isinstance(x, tuple) and type(x) is tuple):
        return {"tuple": [encoded(v, tensors) for v in x]}
    if isinstance(x, list):
        return [encoded(v, tensors) for v in x]
    if isinstance(x, slice):
        return {"slice": [x.start, x.stop, x.step]}
    if x is Ellipsis:
        return {"ellipsis": 0}
    if isinstance(x, float) and not np.isfinite(x):
        if np.isnan(x):
            raise ValueError("nan")
        return {"inf" if x > 0 else "-inf": 0}
    if x is None or isinstance(x, (bool, int, float, str)):
        return x
    raise ValueError(type(x).__name__)


def outputs_of(y):
    """The floating outputs; complex ones as real and imaginary part."""
    import torch

    ys = [y] if isinstance(y, torch.Tensor) else list(y)
    found = []
    for v in ys:
        if not isinstance(v, torch.Tensor):
            raise ValueError("output")
        if v.is_complex():
            found += [v.real, v.imag]
        elif v.dtype == torch.float64:
            found.append(v)
    return found


def rebuilt(x, tensors):
    return decoded(x, tensors)


def answer(op, entry, tensors):
    """Return PyTorch's outputs, and the gradients of the floating arrays."""
    import torch

    leaves = [t.detach().clone().requires_grad_(t.dtype == torch.float64) for t in tensors]
    args = [rebuilt(a, leaves) for a in entry["args"]]
    kwargs = {k: rebuilt(v, leaves) for k, v in entry["kwargs"].items()}
    ys = outputs_of(op(*args, **kwargs))
    total = sum(
        (y * torch.from_numpy(cotangent(tuple(y.shape), f"{entry['name']}/{i}"))).sum()
        for i, y in enumerate(ys)
    )
    floats = [t for t in leaves if t.requires_grad]
    if isinstance(total, int) or not total.requires_grad:
        gradients = [None] * len(floats)
    else:
        gradients = torch.autograd.grad(total, floats, allow_unused=True)
    gradients = [
        torch.zeros_like(t) if g is None else g for g, t in zip(gradients, floats, strict=True)
    ]
    return [y.detach().resolve_neg().numpy() for y in ys], [
        g.resolve_neg().numpy() for g in gradients
    ]


def names_of_adaptors():
    """The names in opinfo_operations.py, which imports the package and is therefore not imported here."""
    spec = [
        n.value
        for n in ast.walk(ast.parse(ADAPTORS.read_text()))
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
    ]
    words = {w.partition("=")[0] for s in spec for w in s.split()}
    return words


def draw():
    """Yield entries with their tensors."""
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    wanted = names_of_adaptors()
    for n in range(5):
        wanted.add(f"polygamma.polygamma_n_{n}")
    wanted |= {f"fft.{p}{f}" for f in ("fft", "fft2", "fftn") for p in ("", "i", "r", "ir")}
    wanted |= {"fft.hfft", "fft.ihfft"}
    for op in op_db:
        full = f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name
        if full not in wanted or full == "real" or torch.float64 not in op.supported_dtypes("cpu"):
            continue
        torch.manual_seed(SEED)
        kept = 0
        samples = list(op.sample_inputs("cpu", torch.float64, requires_grad=True))
        step = max(1, len(samples) // PER_OPERATION)
        ordered = samples[::step] + [s for i, s in enumerate(samples) if i % step]
        for sample in ordered:
            if {"atol", "rtol"} & set(sample.kwargs):
                continue  # NumPy's tolerance is another one
            tensors = []
            entry = {"op": full, "name": f"{full}-{kept}"}
            try:
                entry["args"] = [encoded(v, tensors) for v in (sample.input, *sample.args)]
                entry["kwargs"] = {k: encoded(v, tensors) for k, v in sample.kwargs.items()}
            except ValueError:
                continue
            tensors = [
                (torch.round(t.detach().clamp(-4096, 4096) * GRID) / GRID)
                if t.dtype == torch.float64
                else t.detach()
                for t in tensors
            ]
            if (
                tensors
                and tensors[0].ndim == 0
                and (sample.kwargs or any(isinstance(a, (int, tuple, list)) for a in sample.args))
            ):
                continue  # PyTorch takes a number for an array with one axis, NumPy does not
            if any(t.shape == (0,) for t in tensors) or (
                full == "tensordot" and tensors[0].shape == (1, 1, 1)
            ):
                continue  # an empty vector beside matrices, an axis of 1 beside one of 2: errors in NumPy
            if sum(t.numel() for t in tensors) > LARGEST or not any(t.numel() for t in tensors):
                continue
            try:
                ys, gs = answer(op, entry, tensors)
            except Exception as e:  # a rounded matrix may have left the domain
                print(f"  {full}: {type(e).__name__}: {str(e)[:80]}")
                continue
            if not ys or not all(np.isfinite(v).all() for v in (*ys, *gs)):
                continue
            yield op, entry, tensors, ys, gs
            kept += 1
            if kept == PER_OPERATION:
                break


def write():
    import torch

    entries, inputs, answers = [], [], []
    for _, entry, tensors, ys, gs in draw():
        kinds = {torch.float64: "f", torch.int64: "i", torch.bool: "b"}
        entry["arrays"] = [[list(t.shape), kinds[t.dtype]] for t in tensors]
        entry["outputs"] = len(ys)
        measures = [measured(v, f"{entry['name']}:{i}") for i, v in enumerate((*ys, *gs))]
        entry["shapes"] = [list(y.shape) for y in ys]
        entry["measures"] = [len(m) for m in measures]
        answers += measures
        inputs += [t.double().numpy().ravel().astype(np.float32) for t in tensors]  # exact
        entries.append(entry)
    header = {
        "made_by": "tests/reference/opinfo.py",
        "peer": f"PyTorch {torch.__version__}, float64, CPU",
        "seed": SEED,
        "samples": len(entries),
        "operations": len({e["op"] for e in entries}),
    }
    text = json.dumps({"header": header, "samples": entries}, separators=(",", ":")).encode()
    np.savez_compressed(
        STORED,
        text=np.frombuffer(text, np.uint8),
        inputs=np.concatenate(inputs),
        answers=np.concatenate(answers),
    )
    print(header, f"{STORED.stat().st_size / 1e3:.0f} kB")


def check():
    header, samples = load()
    stored = {s["name"]: s for s in samples}
    worst = count = 0
    for _, entry, _, ys, gs in draw():
        s = stored[entry["name"]]
        for i, (v, want) in enumerate(zip((*ys, *gs), s["answers"] + s["gradients"], strict=True)):
            got = measured(v, f"{entry['name']}:{i}")
            worst = max(worst, np.abs(got - want).max() / max(1.0, np.abs(want).max()))
        count += 1
    if worst > 1e-9:
        sys.exit(f"opinfo: PyTorch differs from the stored answers by {worst:.1e}")
    print(f"{count} samples agree with the stored answers ({header['peer']}): worst {worst:.1e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check() if parser.parse_args().check else write()
