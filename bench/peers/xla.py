"""JAX: functions under `jax.jit`, with donated buffers where a user would donate them."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from registry import Inputs, Options, Work, contender

from peers.iterations import eigsh, lanczos


@functools.cache
def jax() -> Any:
    """Import JAX; an error where it lacks the device of this process."""
    module = importlib.import_module("jax")
    if os.environ.get("NNMATH_BENCH_DEVICE") == "cuda":
        try:
            module.devices("cuda")
        except Exception as error:  # which one depends on what is missing
            said = "JAX is installed without CUDA, or finds no GPU"
            raise RuntimeError(said) from error
    return module


def jnp() -> Any:
    """Import JAX's NumPy."""
    return importlib.import_module("jax.numpy")


def arrays(tree: Any) -> Any:
    """Return a tree of JAX's arrays in memory of its own."""
    return jax().tree.map(lambda a: jnp().array(np.array(a)), tree)


def to_numpy(values: Any) -> list[Any]:
    """Return copies of JAX's arrays."""
    return [np.array(v) for v in values]


def jitted(
    f: Callable[..., Any], args: tuple[Any, ...], order: Any = lambda result: result
) -> Work:
    """Return a function under `jax.jit`."""
    block = jax().block_until_ready
    call = jax().jit(f)
    return Work(lambda: block(call(*args)), to_numpy(order(call(*args))))


def cross_entropy(logits: Any, labels: Any) -> Any:
    """Return the mean cross-entropy by log-sum-exp, the faster of the two usual forms."""
    picked = jnp().take_along_axis(logits, labels[:, None], 1)[:, 0]
    return jnp().mean(jax().nn.logsumexp(logits, axis=1) - picked)


def perceptron(params: Any, x: Any, activation: Any) -> Any:
    """Return the outputs of a multilayer perceptron."""
    h = x
    for k, p in enumerate(params):
        h = h @ p["w"] + p["b"]
        if k < len(params) - 1:
            h = activation(h)
    return h


def ordered(params: Any) -> list[Any]:
    """Return weights and biases in the order of the answers."""
    return [p[k] for p in params for k in ("w", "b")]


@contender("mlp_step", "JAX", "jit of value_and_grad and Adam, donated")
def mlp_step(inputs: Inputs, options: Options) -> Work:
    """One step of Adam written out, as optax does it."""
    j, n = jax(), jnp()
    params, x, y = arrays(inputs["params"]), arrays(inputs["x"]), arrays(inputs["y"])
    zeros = j.tree.map(n.zeros_like, params)

    def loss(p: Any, x: Any, y: Any) -> Any:
        return cross_entropy(perceptron(p, x, j.nn.relu), y)

    def step(p: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> Any:
        value, g = j.value_and_grad(loss)(p, x, y)
        t = t + 1
        m = j.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = j.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        a, b = 1 - 0.9**t, 1 - 0.999**t
        p = j.tree.map(lambda p, m, v: p - 1e-3 * (m / a) / (n.sqrt(v / b) + 1e-8), p, m, v)
        return p, m, v, t, value

    call = j.jit(step, donate_argnums=(0, 1, 2, 3))
    state = [params, zeros, j.tree.map(n.copy, zeros), n.zeros((), n.float32)]

    def run() -> Any:
        *moved, value = call(*state, x, y)
        state[:] = moved
        j.block_until_ready((state, value))
        return value

    value = run()
    return Work(run, to_numpy([value, *ordered(state[0])]))


@contender("layer_norm", "JAX", "jit of vjp")
def layer_norm(inputs: Inputs, options: Options) -> Work:
    """Forward and backward of the formula."""
    j = jax()

    def norm(x: Any, scale: Any, shift: Any) -> Any:
        centred = x - x.mean(axis=1, keepdims=True)
        variance = (centred * centred).mean(axis=1, keepdims=True)
        return centred * j.lax.rsqrt(variance + 1e-5) * scale + shift

    def both(x: Any, scale: Any, shift: Any, g: Any) -> Any:
        y, pull = j.vjp(norm, x, scale, shift)
        return [y, *pull(g)]

    return jitted(both, tuple(arrays(inputs[k]) for k in ("x", "scale", "shift", "g")))


@contender("cross_entropy", "JAX", "jit of value_and_grad, log-sum-exp")
def cross_entropy_lse(inputs: Inputs, options: Options) -> Work:
    """Value and gradient of the log-sum-exp form."""
    args = arrays(inputs["logits"]), arrays(inputs["labels"])
    return jitted(jax().value_and_grad(cross_entropy), args)


@contender("cross_entropy", "JAX", "jit of value_and_grad, log_softmax")
def cross_entropy_log_softmax(inputs: Inputs, options: Options) -> Work:
    """Value and gradient of the log-softmax form."""

    def loss(logits: Any, labels: Any) -> Any:
        picked = jnp().take_along_axis(jax().nn.log_softmax(logits), labels[:, None], 1)
        return -jnp().mean(picked)

    args = arrays(inputs["logits"]), arrays(inputs["labels"])
    return jitted(jax().value_and_grad(loss), args)


@contender("gelu", "JAX", "jit of vjp")
def gelu(inputs: Inputs, options: Options) -> Work:
    """Value and gradient."""

    def both(x: Any, g: Any) -> Any:
        y, pull = jax().vjp(lambda x: jax().nn.gelu(x, approximate=True), x)
        return [y, *pull(g)]

    return jitted(both, (arrays(inputs["x"]), arrays(inputs["g"])))


@contender("formula", "JAX", "jit of the formula")
def formula(inputs: Inputs, options: Options) -> Work:
    """Seven operations."""

    def f(x: Any, a: Any, b: Any) -> Any:
        return (a * x + b) * jnp().exp(-0.5 * x * x)

    return jitted(f, tuple(arrays(inputs[k]) for k in "xab"), lambda r: [r])


@contender("gemm", "JAX", "jit of a @ b")
def gemm(inputs: Inputs, options: Options) -> Work:
    """One product."""
    return jitted(lambda a, b: a @ b, (arrays(inputs["a"]), arrays(inputs["b"])), lambda r: [r])


@contender("dense_layer", "JAX", "jit of vjp")
def dense_layer(inputs: Inputs, options: Options) -> Work:
    """Forward and backward."""

    def both(x: Any, w: Any, b: Any, g: Any) -> Any:
        y, pull = jax().vjp(lambda x, w, b: jax().nn.relu(x @ w + b), x, w, b)
        return [y, *pull(g)]

    return jitted(both, tuple(arrays(inputs[k]) for k in "xwbg"))


def decayed(p: Any, m: Any, v: Any, t: Any, g: Any) -> Any:
    """Return parameters, moments and counter after a step of AdamW."""
    j, n = jax(), jnp()
    t = t + 1
    m = j.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
    v = j.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
    a, b = 1 - 0.9**t, 1 - 0.999**t
    p = j.tree.map(
        lambda p, m, v: p * (1 - 1e-3 * 1e-2) - 1e-3 * (m / a) / (n.sqrt(v / b) + 1e-8), p, m, v
    )
    return p, m, v, t


@contender("adamw", "JAX", "jit of AdamW, donated")
def adamw(inputs: Inputs, options: Options) -> Work:
    """One step on given gradients."""
    j, n = jax(), jnp()
    params, grads = arrays(inputs["params"]), arrays(inputs["grads"])
    zeros = j.tree.map(n.zeros_like, params)

    call = j.jit(decayed, donate_argnums=(0, 1, 2, 3))
    state = [params, zeros, j.tree.map(n.copy, zeros), n.zeros((), n.float32)]

    def run() -> None:
        state[:] = call(*state, grads)
        j.block_until_ready(state)

    run()
    return Work(run, to_numpy(state[0]))


def attention_by_hand(q: Any, k: Any, v: Any) -> Any:
    """Softmax attention of (batch, time, heads, width) by two products."""
    scores = jnp().einsum("bqhe,bkhe->bhqk", q, k) * q.shape[-1] ** -0.5
    return jnp().einsum("bhqk,bkhe->bqhe", jax().nn.softmax(scores), v)


def transformer(options: Options, attention: Any) -> Any:
    """Return a block as a function of its input and parameters."""
    j, n = jax(), jnp()
    d, heads = options["d"], options["heads"]

    def norm(x: Any, scale: Any, shift: Any) -> Any:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return centred * j.lax.rsqrt(variance + 1e-5) * scale + shift

    def forward(x: Any, p: Any) -> Any:
        b, t, _ = x.shape
        h = norm(x, p["norm1"], p["norm1_b"])
        q, k, v = (
            z.reshape(b, t, heads, d // heads) for z in n.split(h @ p["qkv"] + p["qkv_b"], 3, -1)
        )
        x = x + attention(q, k, v).reshape(b, t, d) @ p["out"] + p["out_b"]
        h = norm(x, p["norm2"], p["norm2_b"])
        return x + j.nn.gelu(h @ p["up"] + p["up_b"], approximate=True) @ p["down"] + p["down_b"]

    return forward


def forward_and_backward(inputs: Inputs, options: Options, attention: Any) -> Work:
    """Return the output of a block and all gradients."""
    j = jax()
    names = sorted(inputs["params"])
    forward = transformer(options, attention)

    def both(x: Any, p: Any, g: Any) -> Any:
        y, pull = j.vjp(forward, x, p)
        return y, *pull(g)

    args = arrays(inputs["x"]), arrays(inputs["params"]), arrays(inputs["g"])
    return jitted(both, args, lambda r: [r[0], r[1], *(r[2][k] for k in names)])


@contender("transformer_block", "JAX", "jit of vjp, attention by hand")
def transformer_by_hand(inputs: Inputs, options: Options) -> Work:
    """Attention by two products and a softmax."""
    return forward_and_backward(inputs, options, attention_by_hand)


@contender("transformer_block", "JAX", "jit of vjp, dot_product_attention")
def transformer_library(inputs: Inputs, options: Options) -> Work:
    """Attention by JAX's own function."""
    return forward_and_backward(inputs, options, jax().nn.dot_product_attention)


@contender("transformer_step", "JAX", "jit of value_and_grad and AdamW, donated")
def transformer_step(inputs: Inputs, options: Options) -> Work:
    """A training step, AdamW written out."""
    j, n = jax(), jnp()
    forward = transformer(options, j.nn.dot_product_attention)
    params, x, y = arrays(inputs["params"]), arrays(inputs["x"]), arrays(inputs["y"])
    zeros = j.tree.map(n.zeros_like, params)

    def step(p: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> Any:
        value, g = j.value_and_grad(lambda p: n.mean((forward(x, p) - y) ** 2))(p)
        return *decayed(p, m, v, t, g), value

    call = j.jit(step, donate_argnums=(0, 1, 2, 3))
    state = [params, zeros, j.tree.map(n.copy, zeros), n.zeros((), n.float32)]

    def run() -> Any:
        *moved, value = call(*state, x, y)
        state[:] = moved
        j.block_until_ready((state, value))
        return value

    value = run()
    return Work(run, to_numpy([value, *(state[0][k] for k in sorted(state[0]) if k != "qkv_b")]))


@contender("attention", "JAX", "jit of vjp, dot_product_attention")
def attention(inputs: Inputs, options: Options) -> Work:
    """Values and gradients by JAX's own function, whose heads are the third axis."""
    j = jax()
    causal = options["causal"]

    def forward(*xs: Any) -> Any:
        turned = [x.transpose(0, 2, 1, 3) for x in xs]
        return j.nn.dot_product_attention(*turned, is_causal=causal).transpose(0, 2, 1, 3)

    def both(q: Any, k: Any, v: Any, g: Any) -> Any:
        y, pull = j.vjp(forward, q, k, v)
        return [y, *pull(g)]

    return jitted(both, tuple(arrays(inputs[name]) for name in "qkvg"), list)


# Checks of gradients ------------------------------------------------------------------------------------------------


def squares(inputs: Inputs) -> tuple[Any, Any]:
    """Return the mean squared error of a tanh network and its parameters."""
    x, y = arrays(inputs["x"]), arrays(inputs["y"])
    params = arrays(inputs["params"])
    return lambda p: ((perceptron(p, x, jnp().tanh) - y) ** 2).mean(), params


@contender("gradient_check", "JAX", "jit of lax.map over central differences")
def gradient_check(inputs: Inputs, options: Options) -> Work:
    """Two evaluations an entry inside of one program, without a comparison or a choice of steps."""
    j, n = jax(), jnp()
    loss, params = squares(inputs)
    flat, unravel = importlib.import_module("jax.flatten_util").ravel_pytree(params)

    def difference(w: Any, i: Any) -> Any:
        above, below = loss(unravel(w.at[i].add(1e-6))), loss(unravel(w.at[i].add(-1e-6)))
        return (above - below) / 2e-6

    call = j.jit(lambda w: j.lax.map(lambda i: difference(w, i), n.arange(w.size)))
    return Work(lambda: call(flat).block_until_ready(), to_numpy(ordered(unravel(call(flat)))))


@contender("projected_check", "JAX", "check_grads of the jitted function")
def check_grads(inputs: Inputs, options: Options) -> Work:
    """One random direction."""
    j = jax()
    loss, params = squares(inputs)
    check = importlib.import_module("jax.test_util").check_grads
    call = j.jit(loss)
    answer = to_numpy(ordered(j.grad(loss)(params)))
    return Work(lambda: check(call, (params,), 1, modes=["rev"]), answer)


# Second derivatives -------------------------------------------------------------------------------------------------


def classifier(inputs: Inputs) -> tuple[Any, Any]:
    """Return the cross-entropy of a tanh network as ``loss(params, x, y)``, and its three arguments."""

    def loss(p: Any, x: Any, y: Any) -> Any:
        return cross_entropy(perceptron(p, x, jnp().tanh), y)

    return loss, (arrays(inputs["params"]), arrays(inputs["x"]), arrays(inputs["y"]))


@contender("hvp", "JAX", "jit of jvp of grad")
def hvp(inputs: Inputs, options: Options) -> Work:
    """Forward over reverse."""
    j = jax()
    loss, (params, x, y) = classifier(inputs)
    v = arrays(inputs["direction"])

    def product(p: Any, v: Any, x: Any, y: Any) -> Any:
        return j.jvp(lambda p: j.grad(loss)(p, x, y), (p,), (v,))[1]

    return jitted(product, (params, v, x, y), ordered)


@contender("hvp_frozen", "JAX", "jit of linearize at the point")
def linearized(inputs: Inputs, options: Options) -> Work:
    """The tangent part alone."""
    j = jax()
    loss, (params, x, y) = classifier(inputs)
    _, tangent = j.linearize(lambda p: j.grad(loss)(p, x, y), params)
    return jitted(tangent, (arrays(inputs["direction"]),), ordered)


def product(inputs: Inputs) -> tuple[int, Any]:
    """Return the number of parameters, and Hessian-vector products of raveled vectors linearised at the point."""
    j = jax()
    loss, (params, x, y) = classifier(inputs)
    flat, unravel = importlib.import_module("jax.flatten_util").ravel_pytree(params)
    _, tangent = j.linearize(j.grad(lambda w: loss(unravel(w), x, y)), flat)
    call = j.jit(tangent)
    return flat.size, lambda v: np.asarray(call(jnp().asarray(np.ravel(v), dtype=jnp().float32)))


@contender("eigenvalues", "JAX", "eigsh, products of a jitted linearize")
def eigsh_linearized(inputs: Inputs, options: Options) -> Work:
    """SciPy's ARPACK over JAX's products."""
    return eigsh(*product(inputs), options)


@contender("lanczos_steps", "JAX", "products of a jitted linearize, Lanczos by NumPy")
def lanczos_linearized(inputs: Inputs, options: Options) -> Work:
    """A fixed number of steps."""
    return lanczos(*product(inputs), options)


def dense(inputs: Inputs, transform: Any) -> Work:
    """The Hessian in the raveled parameters."""
    loss, (params, x, y) = classifier(inputs)
    flat, unravel = importlib.import_module("jax.flatten_util").ravel_pytree(params)
    return jitted(transform(lambda w: loss(unravel(w), x, y)), (flat,), lambda h: [h])


@contender("dense_hessian", "JAX", "jit of jax.hessian")
def hessian(inputs: Inputs, options: Options) -> Work:
    """Forward over reverse."""
    return dense(inputs, jax().hessian)


@contender("dense_hessian", "JAX", "jit of jacrev of jacrev")
def jacrev(inputs: Inputs, options: Options) -> Work:
    """Reverse over reverse."""
    return dense(inputs, lambda f: jax().jacrev(jax().jacrev(f)))


# Jacobians and kernels ----------------------------------------------------------------------------------------------


@contender("gradient_norms", "JAX", "jit of vmap of grad")
def gradient_norms(inputs: Inputs, options: Options) -> Work:
    """All gradients, then their norms."""
    j, n = jax(), jnp()
    loss, args = classifier(inputs)

    def norms(p: Any, x: Any, y: Any) -> Any:
        one = j.grad(lambda p, x, y: loss(p, x[None], y[None]))
        grads = j.tree.leaves(j.vmap(one, (None, 0, 0))(p, x, y))
        return n.sqrt(sum((g.reshape(len(x), -1) ** 2).sum(1) for g in grads))

    return jitted(norms, args, lambda r: [r])


def scalar_network(p: Any, x: Any) -> Any:
    """Return the outputs of a scalar relu network."""
    return perceptron(p, x, jax().nn.relu)[..., 0]


@contender("ntk", "JAX", "jit, both Jacobians")
def ntk_explicit(inputs: Inputs, options: Options) -> Work:
    """Jacobians row by row, then their product."""
    j = jax()

    def kernel(p: Any, a: Any, b: Any) -> Any:
        rows = j.vmap(j.grad(scalar_network), (None, 0))
        pairs = zip(j.tree.leaves(rows(p, a)), j.tree.leaves(rows(p, b)), strict=True)
        return sum(u.reshape(len(a), -1) @ v.reshape(len(b), -1).T for u, v in pairs)

    return jitted(kernel, tuple(arrays(inputs[k]) for k in ("params", "a", "b")), lambda r: [r])


@contender("ntk", "JAX", "jit, kernel-vector products")
def ntk_implicit(inputs: Inputs, options: Options) -> Work:
    """Column by column: a gradient, then a tangent."""
    j = jax()

    def kernel(p: Any, a: Any, b: Any) -> Any:
        def column(x: Any) -> Any:
            slope = j.grad(scalar_network)(p, x)
            return j.jvp(lambda p: scalar_network(p, a), (p,), (slope,))[1]

        return j.vmap(column)(b).T

    return jitted(kernel, tuple(arrays(inputs[k]) for k in ("params", "a", "b")), lambda r: [r])


# Overhead and memory ------------------------------------------------------------------------------------------------


@contender("chain", "JAX", "jit of grad")
def chain(inputs: Inputs, options: Options) -> Work:
    """The gradient of the sum of ten nested tanh."""

    def f(x: Any) -> Any:
        for _ in range(10):
            x = jnp().tanh(x)
        return jnp().sum(x)

    return jitted(jax().grad(f), (arrays(inputs["x"]),), lambda r: [r])


@contender("power", "JAX", "jit of lax.fori_loop")
def power(inputs: Inputs, options: Options) -> Work:
    """Two products a step, in one program."""
    j, n = jax(), jnp()

    def iterate(a: Any, v: Any) -> Any:
        def body(_: Any, v: Any) -> Any:
            w = (a @ v) @ a
            return w / n.linalg.norm(w)

        return n.linalg.norm(a @ j.lax.fori_loop(0, options["steps"], body, v))

    return jitted(iterate, (arrays(inputs["a"]), arrays(inputs["v"])), lambda r: [r])
