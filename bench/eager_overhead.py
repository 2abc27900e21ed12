"""What eager differentiation costs on arrays so small that only the overhead counts.

The work of the first groups is the gradient of the sum of five ``tanh(x * w)`` in a row on ten
numbers: ten elementwise operations. By hand that is 31 NumPy calls. The limits are promises of the
project, relative to those 31 calls: 1.3 with plain ``np.*`` and NumPy's arithmetic, 0.5 with the
small-array kernels, and 2 for an eager Hessian-vector product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import OURS, Calls, Group, Variant, given

TITLE = "eager gradients of small arrays"

WEIGHTS = (0.9, 1.1, 0.8, 1.2, 0.7)
PLAIN_LIMIT = 1.3
KERNEL_LIMIT = 0.5
HVP_LIMIT = 2.0


def groups(*, quick: bool) -> list[Group]:
    """Return the groups of this row; a quick run has the same."""
    return [
        gradient(np.float64),
        gradient(np.float32),
        hessian_vector_product(),
        gradient_of_sum(),
        network(),
        forward(),
    ]


def chain(namespace: Any) -> Callable[[Any], Any]:
    """Return the function that is differentiated, written in a namespace."""
    tanh = namespace.tanh

    def function(x: Any) -> Any:
        for w in WEIGHTS:
            x = tanh(x * w)
        return namespace.sum(x)

    return function


def point(dtype: Any = np.float64) -> np.ndarray:
    """Return the ten numbers."""
    return np.linspace(-1.0, 1.2, 10).astype(dtype)


def one_thread(torch: Any) -> Any:
    """Return PyTorch, told to use one thread."""
    torch.set_num_threads(1)
    return torch


# Gradient -----------------------------------------------------------------------------------------


def gradient_by_hand(x: np.ndarray) -> np.ndarray:
    """Return the gradient of the chain as a careful user of NumPy writes it."""
    saved = []
    for w in WEIGHTS:
        x = np.tanh(x * w)
        saved.append(x)
    g = np.ones_like(x)
    for w, h in zip(WEIGHTS[::-1], saved[::-1], strict=True):
        g = g * (1.0 - h * h) * w
    return g


def gradient(dtype: Any) -> Group:
    """Compare gradients of the chain."""
    x = point(dtype)

    def plain(nm: Any) -> Calls:
        g = nm.grad(chain(np))
        return [lambda: g(x)]

    def own(nm: Any) -> Calls:
        g = nm.grad(chain(nm.numpy))
        return [lambda: g(x)]

    def torch_calls(torch: Any) -> Calls:
        f = chain(one_thread(torch))
        leaf, data = torch.from_numpy(x.copy()).requires_grad_(), torch.from_numpy(x.copy())
        functional = torch.func.grad(f)
        return [lambda: torch.autograd.grad(f(leaf), leaf)[0], lambda: functional(data)]

    def autograd_calls(autograd: Any) -> Calls:
        g = autograd.grad(chain(autograd.numpy))
        return [lambda: g(x)]

    def jax_calls(jax: Any) -> Calls:
        data, g = jax.numpy.asarray(x), jax.grad(chain(jax.numpy))
        compiled = jax.jit(g)
        return [lambda: g(data).block_until_ready(), lambda: compiled(data).block_until_ready()]

    return Group(
        f"gradient of the sum of five tanh(x * w), 10 {np.dtype(dtype).name}",
        [
            Variant("NumPy by hand", lambda: gradient_by_hand(x)),
            *given(OURS, ["nm.grad, np.*, NumPy's arithmetic"], plain, PLAIN_LIMIT, kernels=False),
            *given(OURS, ["nm.grad, np.*, kernels"], plain, KERNEL_LIMIT, kernels=True),
            *given(OURS, ["nm.grad, nm.numpy, NumPy's arithmetic"], own, kernels=False),
            *given(OURS, ["nm.grad, nm.numpy, kernels"], own, KERNEL_LIMIT, kernels=True),
            *given("torch", ["torch eager", "torch.func"], torch_calls),
            *given("autograd", ["autograd"], autograd_calls),
            *given("jax", ["jax, not compiled", "jax.jit"], jax_calls),
        ],
        tolerance=1e-13 if dtype is np.float64 else 1e-5,
    )


# Hessian-vector product ---------------------------------------------------------------------------


def hvp_by_hand(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the Hessian-vector product of the chain: forward over reverse, by hand."""
    saved = []
    for w in WEIGHTS:
        x = np.tanh(x * w)
        slope = 1.0 - x * x
        v = slope * v * w
        saved.append((x, slope, v))
    g = np.ones_like(x)
    dg = np.zeros_like(x)
    for w, (h, slope, t) in zip(WEIGHTS[::-1], saved[::-1], strict=True):
        dg = (dg * slope - 2.0 * g * h * t) * w
        g = g * slope * w
    return dg


def hessian_vector_product() -> Group:
    """Compare Hessian-vector products of the chain with NumPy's *gradient* by hand."""
    x = point()
    v = np.cos(np.arange(10.0))

    def plain(nm: Any) -> Calls:
        f = chain(np)
        return [lambda: nm.hvp(f, (x,), (v,))]

    def torch_calls(torch: Any) -> Calls:
        f = chain(one_thread(torch))
        leaf, data = torch.from_numpy(x.copy()).requires_grad_(), torch.from_numpy(x.copy())
        direction = torch.from_numpy(v.copy())
        functional = torch.func.grad(f)

        def double_backward() -> Any:
            g = torch.autograd.grad(f(leaf), leaf, create_graph=True)[0]
            return torch.autograd.grad(g, leaf, direction)[0]

        return [
            double_backward,
            lambda: torch.func.jvp(functional, (data,), (direction,))[1],
        ]

    def autograd_calls(autograd: Any) -> Calls:
        product = autograd.hessian_vector_product(chain(autograd.numpy))
        return [lambda: product(x, v)]

    def jax_calls(jax: Any) -> Calls:
        g = jax.grad(chain(jax.numpy))
        compiled = jax.jit(lambda a, b: jax.jvp(g, (a,), (b,))[1])
        a, b = jax.numpy.asarray(x), jax.numpy.asarray(v)
        return [lambda: compiled(a, b).block_until_ready()]

    return Group(
        "Hessian-vector product of the same, 10 float64",
        [
            Variant("NumPy, the gradient by hand", lambda: gradient_by_hand(x), answer=None),
            Variant("NumPy by hand", lambda: hvp_by_hand(x, v)),
            *given(OURS, ["nm.hvp, np.*, NumPy's arithmetic"], plain, kernels=False),
            *given(OURS, ["nm.hvp, np.*, kernels"], plain, HVP_LIMIT, kernels=True),
            *given("torch", ["torch, double backward", "torch.func, jvp of grad"], torch_calls),
            *given("autograd", ["autograd"], autograd_calls),
            *given("jax", ["jax.jit, jvp of grad"], jax_calls),
        ],
    )


# The smallest gradient, and the forward pass ------------------------------------------------------


def gradient_of_sum() -> Group:
    """Compare a gradient in which nothing happens: the door, the trace and one sum."""
    x = point()

    def plain(nm: Any) -> Calls:
        g = nm.grad(np.sum)
        return [lambda: g(x)]

    def own(nm: Any) -> Calls:
        g = nm.grad(nm.numpy.sum)
        return [lambda: g(x)]

    def torch_calls(torch: Any) -> Calls:
        leaf = one_thread(torch).from_numpy(x.copy()).requires_grad_()
        return [lambda: torch.autograd.grad(leaf.sum(), leaf)[0]]

    def autograd_calls(autograd: Any) -> Calls:
        g = autograd.grad(autograd.numpy.sum)
        return [lambda: g(x)]

    def jax_calls(jax: Any) -> Calls:
        compiled, data = jax.jit(jax.grad(jax.numpy.sum)), jax.numpy.asarray(x)
        return [lambda: compiled(data).block_until_ready()]

    return Group(
        "gradient of sum(x) alone, 10 float64",
        [
            Variant("NumPy by hand: ones_like(x)", lambda: np.ones_like(x)),
            *given(OURS, ["nm.grad, np.sum"], plain),
            *given(OURS, ["nm.grad, nm.numpy.sum"], own),
            *given("torch", ["torch eager"], torch_calls),
            *given("autograd", ["autograd"], autograd_calls),
            *given("jax", ["jax.jit"], jax_calls),
        ],
    )


def forward() -> Group:
    """Compare the chain without a derivative: no gradient can cost less."""
    x = point()
    f = chain(np)

    def own(nm: Any) -> Calls:
        g = chain(nm.numpy)
        return [lambda: g(x)]

    def torch_calls(torch: Any) -> Calls:
        g, data = chain(one_thread(torch)), torch.from_numpy(x.copy())
        return [lambda: g(data)]

    def autograd_calls(autograd: Any) -> Calls:
        g = chain(autograd.numpy)
        return [lambda: g(x)]

    def jax_calls(jax: Any) -> Calls:
        compiled, data = jax.jit(chain(jax.numpy)), jax.numpy.asarray(x)
        return [lambda: compiled(data).block_until_ready()]

    return Group(
        "the same chain forward only, 10 float64",
        [
            Variant("NumPy", lambda: f(x)),
            *given(OURS, ["nm.numpy, NumPy's arithmetic"], own, kernels=False),
            *given(OURS, ["nm.numpy, kernels"], own, kernels=True),
            *given("torch", ["torch eager"], torch_calls),
            *given("autograd", ["autograd.numpy"], autograd_calls),
            *given("jax", ["jax.jit"], jax_calls),
        ],
    )


# A small network ----------------------------------------------------------------------------------


def network_loss(tanh: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return the loss of a network 16-16-4: plain array code, a dict of parameters."""

    def loss(params: dict[str, Any], x: Any, y: Any) -> Any:
        h = tanh(x @ params["w1"] + params["b1"])
        r = h @ params["w2"] + params["b2"] - y
        return (r * r).sum() / 32.0

    return loss


def network_by_hand(p: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Return the gradient of the loss by hand."""
    h = np.tanh(x @ p["w1"] + p["b1"])
    r = (h @ p["w2"] + p["b2"] - y) * (2.0 / 32.0)
    a = (r @ p["w2"].T) * (1.0 - h * h)
    return {"w1": x.T @ a, "b1": a.sum(axis=0), "w2": h.T @ r, "b2": r.sum(axis=0)}


def flat(tree: dict[str, Any]) -> np.ndarray:
    """Return the numbers of a dict of arrays, in the order of its keys."""
    return np.concatenate([np.asarray(tree[key]).ravel() for key in sorted(tree)])


def network() -> Group:
    """Compare the gradient of a small network whose parameters are a dict."""
    rng = np.random.default_rng(0)
    params = {
        "w1": rng.normal(size=(16, 16)) / 4,
        "b1": rng.normal(size=16) / 4,
        "w2": rng.normal(size=(16, 4)) / 4,
        "b2": rng.normal(size=4) / 4,
    }
    x, y = rng.normal(size=(32, 16)), rng.normal(size=(32, 4))

    def plain(nm: Any) -> Calls:
        g = nm.grad(network_loss(np.tanh))
        return [lambda: g(params, x, y)]

    def torch_calls(torch: Any) -> Calls:
        loss = network_loss(one_thread(torch).tanh)
        tx, ty = torch.from_numpy(x), torch.from_numpy(y)
        data = {k: torch.from_numpy(v.copy()) for k, v in params.items()}
        leaves = {k: torch.from_numpy(v.copy()).requires_grad_() for k, v in params.items()}
        listed = list(leaves.values())
        functional = torch.func.grad(loss)

        def eager() -> dict[str, Any]:
            g = torch.autograd.grad(loss(leaves, tx, ty), listed)
            return dict(zip(leaves, g, strict=True))

        return [eager, lambda: functional(data, tx, ty)]

    def autograd_calls(autograd: Any) -> Calls:
        g = autograd.grad(network_loss(autograd.numpy.tanh))
        return [lambda: g(params, x, y)]

    def jax_calls(jax: Any) -> Calls:
        compiled = jax.jit(jax.grad(network_loss(jax.numpy.tanh)))
        jp, jx, jy = jax.tree.map(jax.numpy.asarray, (params, x, y))
        return [lambda: jax.block_until_ready(compiled(jp, jx, jy))]

    off, on = ["nm.grad, np.*, NumPy's arithmetic"], ["nm.grad, np.*, kernels"]
    return Group(
        "gradient of a network 16-16-4, batch 32, dict of parameters, float64",
        [
            Variant("NumPy by hand", lambda: network_by_hand(params, x, y), answer=flat),
            *given(OURS, off, plain, kernels=False, answer=flat),
            *given(OURS, on, plain, kernels=True, answer=flat),
            *given("torch", ["torch eager", "torch.func"], torch_calls, answer=flat),
            *given("autograd", ["autograd"], autograd_calls, answer=flat),
            *given("jax", ["jax.jit"], jax_calls, answer=flat),
        ],
    )
