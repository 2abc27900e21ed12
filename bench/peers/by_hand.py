"""NumPy, with derivatives worked out by hand: what a careful user without a framework writes."""

from __future__ import annotations

from typing import Any

import numpy as np
from registry import Inputs, Options, Work, contender

RATE = 1e-3


def log_softmax_gradient(logits: Any, labels: Any) -> tuple[Any, Any]:
    """Return the mean cross-entropy and its gradient; ``logits`` is written over."""
    n = len(labels)
    at = np.arange(n)
    logits -= logits.max(axis=1, keepdims=True)
    picked = logits[at, labels]
    np.exp(logits, out=logits)
    total = logits.sum(axis=1, keepdims=True)
    value = (np.log(total[:, 0]) - picked).mean()
    logits *= 1 / (n * total)
    logits[at, labels] -= np.float32(1 / n)
    return value, logits


@contender("mlp_step", "NumPy", "by hand")
def mlp_step(inputs: Inputs, options: Options) -> Work:
    """One step of Adam."""
    x, y = inputs["x"], inputs["y"]
    layers = len(inputs["params"])
    weights = [p["w"].copy() for p in inputs["params"]]
    biases = [p["b"].copy() for p in inputs["params"]]
    moments = [(np.zeros_like(p), np.zeros_like(p)) for p in (*weights, *biases)]
    count = 0

    def run() -> Any:
        nonlocal count
        kept, h = [x], x
        for k in range(layers):
            h = h @ weights[k]
            h += biases[k]
            if k < layers - 1:
                np.maximum(h, 0, out=h)
            kept.append(h)
        value, h = log_softmax_gradient(h, y)
        dw: list[Any] = [None] * layers
        db: list[Any] = [None] * layers
        for k in range(layers - 1, -1, -1):
            dw[k], db[k] = kept[k].T @ h, h.sum(axis=0)
            if k:
                h = h @ weights[k].T
                h *= kept[k] > 0
        count += 1
        rate, scale = np.float32(RATE / (1 - 0.9**count)), np.float32(1 / (1 - 0.999**count))
        for p, g, (m, v) in zip((*weights, *biases), (*dw, *db), moments, strict=True):
            m *= np.float32(0.9)
            m += np.float32(0.1) * g
            v *= np.float32(0.999)
            v += np.float32(0.001) * g * g
            p -= rate * m / (np.sqrt(v * scale) + np.float32(1e-8))
        return value

    answer = [run()]
    for w, b in zip(weights, biases, strict=True):
        answer += [w.copy(), b.copy()]
    return Work(run, answer)


@contender("layer_norm", "NumPy", "by hand")
def layer_norm(inputs: Inputs, options: Options) -> Work:
    """Forward and backward."""
    x, g, scale, shift = (inputs[k] for k in ("x", "g", "scale", "shift"))

    def run() -> list[Any]:
        centred = x - x.mean(axis=1, keepdims=True)
        r = 1 / np.sqrt((centred * centred).mean(axis=1, keepdims=True) + np.float32(1e-5))
        centred *= r
        y = centred * scale + shift
        gs = g * scale
        a = gs.mean(axis=1, keepdims=True)
        b = (gs * centred).mean(axis=1, keepdims=True)
        return [y, r * (gs - a - centred * b), (g * centred).sum(axis=0), g.sum(axis=0)]

    return Work(run, run())


@contender("cross_entropy", "NumPy", "by hand")
def cross_entropy(inputs: Inputs, options: Options) -> Work:
    """Value and gradient."""

    def run() -> list[Any]:
        return list(log_softmax_gradient(inputs["logits"].copy(), inputs["labels"]))

    return Work(run, run())


@contender("gelu", "NumPy", "by hand")
def gelu(inputs: Inputs, options: Options) -> Work:
    """Value and gradient by one tanh."""
    x, g = inputs["x"], inputs["g"]
    c = np.float32(0.7978845608028654)

    def run() -> list[Any]:
        square = x * x
        t = np.tanh(c * x * (1 + np.float32(0.044715) * square))
        half = np.float32(0.5) * (1 + t)
        slope = half + np.float32(0.5) * x * (1 - t * t) * c * (
            1 + np.float32(3 * 0.044715) * square
        )
        return [x * half, g * slope]

    return Work(run, run())


@contender("adamw", "NumPy", "by hand")
def adamw(inputs: Inputs, options: Options) -> Work:
    """One step, tensor by tensor."""
    params, grads = [p.copy() for p in inputs["params"]], inputs["grads"]
    moments = [(np.zeros_like(p), np.zeros_like(p)) for p in params]
    count = 0

    def run() -> None:
        nonlocal count
        count += 1
        rate, scale = np.float32(1e-3 / (1 - 0.9**count)), np.float32(1 / (1 - 0.999**count))
        for p, g, (m, v) in zip(params, grads, moments, strict=True):
            m *= np.float32(0.9)
            m += np.float32(0.1) * g
            v *= np.float32(0.999)
            v += np.float32(0.001) * g * g
            p *= np.float32(1 - 1e-3 * 1e-2)
            p -= rate * m / (np.sqrt(v * scale) + np.float32(1e-8))

    run()
    return Work(run, [p.copy() for p in params])


# Checks, second derivatives, kernels --------------------------------------------------------------------------------


@contender("gradient_check", "NumPy", "loop of central differences")
def gradient_check(inputs: Inputs, options: Options) -> Work:
    """Two evaluations an entry."""
    params = [{k: v.copy() for k, v in p.items()} for p in inputs["params"]]
    x, y = inputs["x"], inputs["y"]

    def loss() -> Any:
        h = x
        for k, p in enumerate(params):
            h = h @ p["w"] + p["b"]
            if k < len(params) - 1:
                h = np.tanh(h)
        return ((h - y) ** 2).mean()

    def run() -> list[Any]:
        answer = []
        for leaf in (p[k] for p in params for k in ("w", "b")):
            flat, slopes = leaf.reshape(-1), np.empty(leaf.size)
            for i in range(flat.size):
                kept = flat[i]
                flat[i] = kept + 1e-6
                above = loss()
                flat[i] = kept - 1e-6
                slopes[i] = (above - loss()) / 2e-6
                flat[i] = kept
            answer.append(slopes.reshape(leaf.shape))
        return answer

    return Work(run, run())


@contender("gradient_norms", "NumPy", "by hand, from factors")
def gradient_norms(inputs: Inputs, options: Options) -> Work:
    """Squared lengths of inputs times those of gradients, layer by layer: what no general tool does by itself."""
    params, x, y = inputs["params"], inputs["x"], inputs["y"]
    at = np.arange(len(y))

    def run() -> Any:
        kept, h = [x], x
        for k, p in enumerate(params):
            h = h @ p["w"] + p["b"]
            if k < len(params) - 1:
                h = np.tanh(h)
                kept.append(h)
        h = np.exp(h - h.max(axis=1, keepdims=True))
        h /= h.sum(axis=1, keepdims=True)
        h[at, y] -= 1
        total = np.float32(0)
        for k in range(len(params) - 1, -1, -1):
            total = total + (h * h).sum(axis=1) * ((kept[k] * kept[k]).sum(axis=1) + 1)
            if k:
                h = (h @ params[k]["w"].T) * (1 - kept[k] * kept[k])
        return np.sqrt(total)

    return Work(run, [run()])


@contender("ntk", "NumPy", "by hand, layer by layer")
def ntk(inputs: Inputs, options: Options) -> Work:
    """Gram matrices of inputs times those of gradients: what no general tool does by itself."""
    params = inputs["params"]

    def factors(x: Any) -> tuple[list[Any], list[Any]]:
        kept, h = [x], x
        for p in params[:-1]:
            h = np.maximum(h @ p["w"] + p["b"], 0)
            kept.append(h)
        slopes = [np.ones((len(x), 1), "f4")]
        for k in range(len(params) - 1, 0, -1):
            slopes.insert(0, (slopes[0] @ params[k]["w"].T) * (kept[k] > 0))
        return kept, slopes

    def run() -> Any:
        (a, c), (b, d) = factors(inputs["a"]), factors(inputs["b"])
        parts = zip(a, b, c, d, strict=True)
        return sum((p @ q.T + np.float32(1)) * (r @ s.T) for p, q, r, s in parts)

    return Work(run, [run()])


@contender("chain", "NumPy", "by hand")
def chain(inputs: Inputs, options: Options) -> Work:
    """Ten values kept, ten factors."""
    x = inputs["x"]

    def run() -> Any:
        kept, h = [], x
        for _ in range(10):
            h = np.tanh(h)
            kept.append(h)
        g = np.ones_like(x)
        for h in reversed(kept):
            g = g * (1 - h * h)
        return g

    return Work(run, [run()])


@contender("power", "NumPy", "by hand")
def power(inputs: Inputs, options: Options) -> Work:
    """Two products a step."""
    a = inputs["a"]

    def run() -> Any:
        v = inputs["v"]
        for _ in range(options["steps"]):
            v = (a @ v) @ a
            v /= np.linalg.norm(v)
        return np.linalg.norm(a @ v)

    return Work(run, [run()])
