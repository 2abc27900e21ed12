"""PyTorch: eager, with fused optimizers, and `torch.compile`."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from floors import threads
from registry import Inputs, Options, Work, contender

from peers.iterations import eigsh, lanczos


def torch() -> Any:
    """Import PyTorch and give it the threads of this process."""
    module = importlib.import_module("torch")
    module.set_num_threads(threads())
    return module


def place() -> str:
    """Return the device of this process; an error where PyTorch has none."""
    device = os.environ.get("NNMATH_BENCH_DEVICE", "cpu")
    if device == "cuda" and not torch().cuda.is_available():
        raise RuntimeError("PyTorch is installed without CUDA, or finds no GPU")
    return device


def tensors(arrays: Any) -> list[Any]:
    """Return copies of arrays as tensors."""
    return [torch().from_numpy(np.array(a)).to(place()) for a in arrays]


def to_numpy(values: Any) -> list[Any]:
    """Return copies of tensors as arrays."""
    return [v.detach().cpu().numpy().copy() for v in values]


def flat(params: list[dict[str, Any]]) -> list[Any]:
    """Return weights and biases in the order of the answers."""
    return [p[k] for p in params for k in ("w", "b")]


def fused_or_compiled(family: str, name: str) -> Callable[[Any], Any]:
    """Declare a contender eager and with `torch.compile`: ``build(inputs, options, compile)``."""

    def declare(build: Any) -> Any:
        @contender(family, "PyTorch", f"{name}, eager")
        def eager(inputs: Inputs, options: Options) -> Work:
            torch()
            return build(inputs, options, lambda f: f)

        @contender(family, "torch.compile", name)
        def compiled(inputs: Inputs, options: Options) -> Work:
            module = torch()
            module._dynamo.reset()
            return build(inputs, options, module.compile)

        return build

    return declare


def perceptron(params: list[Any], x: Any, activation: Any) -> Any:
    """Return the outputs of a multilayer perceptron of (weight, bias) pairs."""
    h = x
    for k in range(0, len(params), 2):
        h = h @ params[k] + params[k + 1]
        if k < len(params) - 2:
            h = activation(h)
    return h


@fused_or_compiled("mlp_step", "autograd and fused Adam")
def mlp_step(inputs: Inputs, options: Options, compiler: Any) -> Work:
    """One step; `torch.compile` gets the loss, the optimizer is PyTorch's own fused one."""
    t = torch()
    made: list[Any] = []
    for p in inputs["params"]:
        layer = t.nn.Linear(*p["w"].shape)
        with t.no_grad():
            layer.weight.copy_(t.from_numpy(p["w"]).T)
            layer.bias.copy_(t.from_numpy(p["b"]))
        made += [layer, t.nn.ReLU()]
    net = t.nn.Sequential(*made[:-1]).to(place())
    optimizer = t.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    loss = compiler(lambda x, y: t.nn.functional.cross_entropy(net(x), y))
    x, y = tensors([inputs["x"], inputs["y"]])

    def run() -> Any:
        optimizer.zero_grad(set_to_none=True)
        value = loss(x, y)
        value.backward()
        optimizer.step()
        return value

    answer = to_numpy([run()])
    for layer in made[::2]:
        answer += to_numpy([layer.weight.T, layer.bias])
    return Work(run, answer)


@fused_or_compiled("layer_norm", "layer_norm and backward")
def layer_norm(inputs: Inputs, options: Options, compiler: Any) -> Work:
    """Forward and backward."""
    t = torch()
    x, scale, shift, g = tensors(inputs[k] for k in ("x", "scale", "shift", "g"))
    for leaf in (x, scale, shift):
        leaf.requires_grad_()
    forward = compiler(lambda x, a, b: t.nn.functional.layer_norm(x, x.shape[-1:], a, b, 1e-5))

    def run() -> list[Any]:
        y = forward(x, scale, shift)
        return [y, *t.autograd.grad(y, (x, scale, shift), g)]

    return Work(run, to_numpy(run()))


@fused_or_compiled("cross_entropy", "cross_entropy and backward")
def cross_entropy(inputs: Inputs, options: Options, compiler: Any) -> Work:
    """Value and gradient."""
    t = torch()
    logits, labels = tensors([inputs["logits"], inputs["labels"]])
    logits.requires_grad_()
    loss = compiler(t.nn.functional.cross_entropy)

    def run() -> list[Any]:
        value = loss(logits, labels)
        return [value, *t.autograd.grad(value, logits)]

    return Work(run, to_numpy(run()))


@fused_or_compiled("gelu", "gelu and backward")
def gelu(inputs: Inputs, options: Options, compiler: Any) -> Work:
    """Value and gradient."""
    t = torch()
    x, g = tensors([inputs["x"], inputs["g"]])
    x.requires_grad_()
    forward = compiler(lambda x: t.nn.functional.gelu(x, approximate="tanh"))

    def run() -> list[Any]:
        y = forward(x)
        return [y, *t.autograd.grad(y, x, g)]

    return Work(run, to_numpy(run()))


@fused_or_compiled("formula", "the formula")
def formula(inputs: Inputs, options: Options, compiler: Any) -> Work:
    """Seven operations."""
    t = torch()
    args = tensors(inputs[k] for k in "xab")
    call = compiler(lambda x, a, b: (a * x + b) * t.exp(-0.5 * x * x))
    return Work(lambda: call(*args), to_numpy([call(*args)]))


@contender("gemm", "PyTorch", "mm into a tensor")
def gemm(inputs: Inputs, options: Options) -> Work:
    """One product."""
    t = torch()
    a, b = tensors([inputs["a"], inputs["b"]])
    out = a @ b
    return Work(lambda: t.mm(a, b, out=out), to_numpy([out]))


@fused_or_compiled("dense_layer", "linear, relu and backward")
def dense_layer(inputs: Inputs, options: Options, compiler: Any) -> Work:
    """Forward and backward."""
    t = torch()
    x, w, b, g = tensors(inputs[k] for k in "xwbg")
    for leaf in (x, w, b):
        leaf.requires_grad_()
    forward = compiler(lambda x, w, b: t.relu(x @ w + b))

    def run() -> list[Any]:
        y = forward(x, w, b)
        return [y, *t.autograd.grad(y, (x, w, b), g)]

    return Work(run, to_numpy(run()))


def adamw(inputs: Inputs, compiler: Any, **kind: bool) -> Work:
    """One step on given gradients."""
    t = torch()
    params = [p.requires_grad_() for p in tensors(inputs["params"])]
    for p, g in zip(params, tensors(inputs["grads"]), strict=True):
        p.grad = g
    optimizer = t.optim.AdamW(params, lr=1e-3, weight_decay=1e-2, **kind)
    step = compiler(optimizer.step)
    step()
    return Work(step, to_numpy(params))


@contender("adamw", "PyTorch", "AdamW, fused")
def adamw_fused(inputs: Inputs, options: Options) -> Work:
    """The optimizer in one kernel a tensor."""
    return adamw(inputs, lambda f: f, fused=True)


@contender("adamw", "PyTorch", "AdamW, foreach")
def adamw_foreach(inputs: Inputs, options: Options) -> Work:
    """The optimizer operation by operation over all tensors."""
    return adamw(inputs, lambda f: f, foreach=True)


@contender("adamw", "torch.compile", "AdamW")
def adamw_compiled(inputs: Inputs, options: Options) -> Work:
    """The optimizer's step compiled; for two hundred tensors this takes long, once."""
    return adamw(inputs, torch().compile, foreach=True)


@fused_or_compiled("attention", "scaled_dot_product_attention and backward")
def attention(inputs: Inputs, options: Options, compiler: Any) -> Work:
    """Values and gradients."""
    t = torch()
    q, k, v, g = tensors(inputs[name] for name in "qkvg")
    for leaf in (q, k, v):
        leaf.requires_grad_()
    causal = options["causal"]
    forward = compiler(
        lambda *xs: t.nn.functional.scaled_dot_product_attention(*xs, is_causal=causal)
    )

    def run() -> list[Any]:
        y = forward(q, k, v)
        return [y, *t.autograd.grad(y, (q, k, v), g)]

    return Work(run, to_numpy(run()))


def transformer(names: list[str], options: Options) -> Any:
    """Return a block as a function of its input and of the parameters by name, with PyTorch's own attention."""
    f = torch().nn.functional
    d, heads = options["d"], options["heads"]

    def forward(x: Any, *leaves: Any) -> Any:
        p = dict(zip(names, leaves, strict=True))
        b, n, _ = x.shape

        def split(z: Any) -> Any:
            return z.reshape(b, n, heads, d // heads).transpose(1, 2)

        h = f.layer_norm(x, (d,), p["norm1"], p["norm1_b"], 1e-5)
        q, k, v = (h @ p["qkv"] + p["qkv_b"]).chunk(3, -1)
        mixed = f.scaled_dot_product_attention(split(q), split(k), split(v))
        x = x + mixed.transpose(1, 2).reshape(b, n, d) @ p["out"] + p["out_b"]
        h = f.layer_norm(x, (d,), p["norm2"], p["norm2_b"], 1e-5)
        return x + f.gelu(h @ p["up"] + p["up_b"], approximate="tanh") @ p["down"] + p["down_b"]

    return forward


@fused_or_compiled("transformer_block", "scaled_dot_product_attention and backward")
def transformer_block(inputs: Inputs, options: Options, compiler: Any) -> Work:
    """Forward and backward."""
    t = torch()
    names = sorted(inputs["params"])
    params = [p.requires_grad_() for p in tensors(inputs["params"][k] for k in names)]
    x, g = tensors([inputs["x"], inputs["g"]])
    x.requires_grad_()
    call = compiler(transformer(names, options))

    def run() -> list[Any]:
        y = call(x, *params)
        return [y, *t.autograd.grad(y, [x, *params], g)]

    return Work(run, to_numpy(run()))


@fused_or_compiled("transformer_step", "scaled_dot_product_attention, backward and fused AdamW")
def transformer_step(inputs: Inputs, options: Options, compiler: Any) -> Work:
    """A training step."""
    t = torch()
    names = sorted(inputs["params"])
    params = [p.requires_grad_() for p in tensors(inputs["params"][k] for k in names)]
    x, y = tensors([inputs["x"], inputs["y"]])
    forward = transformer(names, options)
    loss = compiler(lambda x, y, *leaves: ((forward(x, *leaves) - y) ** 2).mean())
    optimizer = t.optim.AdamW(params, lr=1e-3, weight_decay=1e-2, fused=True)

    def run() -> Any:
        optimizer.zero_grad(set_to_none=True)
        value = loss(x, y, *params)
        value.backward()
        optimizer.step()
        return value

    value = run()
    kept = [p for k, p in zip(names, params, strict=True) if k != "qkv_b"]
    return Work(run, to_numpy([value, *kept]))


# Checks of gradients ------------------------------------------------------------------------------------------------


def squares(inputs: Inputs) -> tuple[Any, list[Any]]:
    """Return the mean squared error of a tanh network and its parameters."""
    t = torch()
    x, y = tensors([inputs["x"], inputs["y"]])
    params = [p.requires_grad_() for p in tensors(flat(inputs["params"]))]
    return lambda *leaves: ((perceptron(list(leaves), x, t.tanh) - y) ** 2).mean(), params


def gradcheck(inputs: Inputs, *, fast: bool) -> Work:
    """One call of `torch.autograd.gradcheck`."""
    t = torch()
    loss, params = squares(inputs)
    answer = to_numpy(t.autograd.grad(loss(*params), params))
    return Work(lambda: t.autograd.gradcheck(loss, params, fast_mode=fast), answer)


@contender("gradient_check", "PyTorch", "gradcheck")
def gradcheck_all(inputs: Inputs, options: Options) -> Work:
    """Every entry."""
    return gradcheck(inputs, fast=False)


@contender("projected_check", "PyTorch", "gradcheck, fast mode")
def gradcheck_fast(inputs: Inputs, options: Options) -> Work:
    """One random direction."""
    return gradcheck(inputs, fast=True)


# Second derivatives -------------------------------------------------------------------------------------------------


def classifier(inputs: Inputs) -> tuple[Any, list[Any]]:
    """Return the cross-entropy of a tanh network as a function of its parameters, and those."""
    t = torch()
    x, y = tensors([inputs["x"], inputs["y"]])
    params = [p.requires_grad_() for p in tensors(flat(inputs["params"]))]
    return lambda *leaves: t.nn.functional.cross_entropy(
        perceptron(list(leaves), x, t.tanh), y
    ), params


@contender("hvp", "PyTorch", "double backward")
def double_backward(inputs: Inputs, options: Options) -> Work:
    """The graph of the gradient is made anew each time."""
    t = torch()
    loss, params = classifier(inputs)
    v = tensors(flat(inputs["direction"]))

    def run() -> Any:
        slopes = t.autograd.grad(loss(*params), params, create_graph=True)
        return t.autograd.grad(slopes, params, v)

    return Work(run, to_numpy(run()))


def forward_over_reverse(inputs: Inputs, compiler: Any) -> Work:
    """``jvp(grad)`` of torch.func."""
    t = torch()
    loss, params = classifier(inputs)
    at, v = tuple(p.detach() for p in params), tuple(tensors(flat(inputs["direction"])))
    slope = t.func.grad(lambda leaves: loss(*leaves))
    call = compiler(lambda at, v: t.func.jvp(slope, (at,), (v,))[1])
    return Work(lambda: call(at, v), to_numpy(call(at, v)))


@contender("hvp", "PyTorch", "torch.func.jvp of grad")
def func_hvp(inputs: Inputs, options: Options) -> Work:
    """Eager."""
    return forward_over_reverse(inputs, lambda f: f)


@contender("hvp", "torch.compile", "torch.func.jvp of grad")
def compiled_hvp(inputs: Inputs, options: Options) -> Work:
    """Compiled."""
    torch()._dynamo.reset()
    return forward_over_reverse(inputs, torch().compile)


@contender("hvp_frozen", "PyTorch", "backward through a kept graph")
def kept_graph(inputs: Inputs, options: Options) -> Work:
    """The graph of the gradient is made once."""
    t = torch()
    loss, params = classifier(inputs)
    v = tensors(flat(inputs["direction"]))
    slopes = t.autograd.grad(loss(*params), params, create_graph=True)

    def run() -> Any:
        return t.autograd.grad(slopes, params, v, retain_graph=True)

    return Work(run, to_numpy(run()))


def kept_product(inputs: Inputs) -> tuple[int, Any]:
    """Return the number of parameters, and Hessian-vector products through a kept graph."""
    t = torch()
    loss, params = classifier(inputs)
    slopes = t.autograd.grad(loss(*params), params, create_graph=True)
    ends = np.cumsum([0, *(p.numel() for p in params)])

    def product(v: Any) -> Any:
        (v,) = tensors([np.ravel(v).astype("f4")])
        parts = [v[a:b].view(p.shape) for a, b, p in zip(ends, ends[1:], params, strict=False)]
        found = t.autograd.grad(slopes, params, parts, retain_graph=True)
        return to_numpy([t.cat([h.reshape(-1) for h in found])])[0]

    return int(ends[-1]), product


@contender("eigenvalues", "PyTorch", "eigsh, products through a kept graph")
def eigsh_kept(inputs: Inputs, options: Options) -> Work:
    """SciPy's ARPACK over PyTorch's products."""
    n, product = kept_product(inputs)
    return eigsh(n, product, options)


@contender("lanczos_steps", "PyTorch", "products through a kept graph, Lanczos by NumPy")
def lanczos_kept(inputs: Inputs, options: Options) -> Work:
    """A fixed number of steps."""
    n, product = kept_product(inputs)
    return lanczos(n, product, options)


def dense(inputs: Inputs, transform: Any, compiler: Any) -> Work:
    """The Hessian in the raveled parameters, each layer's bias first."""
    t = torch()
    x, y = tensors([inputs["x"], inputs["y"]])
    leaves = [p[k] for p in inputs["params"] for k in ("b", "w")]
    ends = np.cumsum([0, *(leaf.size for leaf in leaves)])
    (at,) = tensors([np.concatenate([leaf.ravel() for leaf in leaves])])

    def loss(w: Any) -> Any:
        parts = [w[a:b].view(q.shape) for a, b, q in zip(ends, ends[1:], leaves, strict=False)]
        ordered = [parts[k + s] for k in range(0, len(parts), 2) for s in (1, 0)]
        return t.nn.functional.cross_entropy(perceptron(ordered, x, t.tanh), y)

    call = compiler(transform(loss))
    return Work(lambda: call(at), to_numpy([call(at)]))


@contender("dense_hessian", "PyTorch", "torch.func.hessian")
def func_hessian(inputs: Inputs, options: Options) -> Work:
    """Forward over reverse."""
    return dense(inputs, torch().func.hessian, lambda f: f)


@contender("dense_hessian", "PyTorch", "torch.func.jacrev of jacrev")
def func_jacrev(inputs: Inputs, options: Options) -> Work:
    """Reverse over reverse."""
    jacrev = torch().func.jacrev
    return dense(inputs, lambda f: jacrev(jacrev(f)), lambda f: f)


@contender("dense_hessian", "torch.compile", "torch.func.hessian")
def compiled_hessian(inputs: Inputs, options: Options) -> Work:
    """Compiled."""
    torch()._dynamo.reset()
    return dense(inputs, torch().func.hessian, torch().compile)


# Jacobians and kernels ----------------------------------------------------------------------------------------------


def per_example(inputs: Inputs, compiler: Any) -> Work:
    """Gradients of all examples by ``vmap(grad)``, then their norms."""
    t = torch()
    x, y = tensors([inputs["x"], inputs["y"]])
    params = tuple(tensors(flat(inputs["params"])))

    def loss(leaves: Any, x: Any, y: Any) -> Any:
        return t.nn.functional.cross_entropy(perceptron(list(leaves), x, t.tanh)[None], y[None])

    grads = t.func.vmap(t.func.grad(loss), (None, 0, 0))

    def norms(leaves: Any, x: Any, y: Any) -> Any:
        return t.sqrt(sum((g.reshape(len(x), -1) ** 2).sum(1) for g in grads(leaves, x, y)))

    call = compiler(norms)
    return Work(lambda: call(params, x, y), to_numpy([call(params, x, y)]))


@contender("gradient_norms", "PyTorch", "torch.func.vmap of grad")
def norms_eager(inputs: Inputs, options: Options) -> Work:
    """Eager."""
    return per_example(inputs, lambda f: f)


@contender("gradient_norms", "torch.compile", "torch.func.vmap of grad")
def norms_compiled(inputs: Inputs, options: Options) -> Work:
    """Compiled."""
    torch()._dynamo.reset()
    return per_example(inputs, torch().compile)


def scalar_network(inputs: Inputs) -> tuple[Any, Any, Any, Any]:
    """Return a scalar relu network, its parameters and the two sets of inputs."""
    t = torch()
    a, b = tensors([inputs["a"], inputs["b"]])
    params = tuple(tensors(flat(inputs["params"])))
    return lambda leaves, x: perceptron(list(leaves), x, t.relu)[..., 0], params, a, b


@contender("ntk", "PyTorch", "torch.func, both Jacobians")
def ntk_explicit(inputs: Inputs, options: Options) -> Work:
    """Jacobians row by row, then their product."""
    t = torch()
    f, params, a, b = scalar_network(inputs)
    rows = t.func.vmap(t.func.grad(f), (None, 0))

    def run() -> Any:
        pairs = zip(rows(params, a), rows(params, b), strict=True)
        return sum(u.reshape(len(a), -1) @ v.reshape(len(b), -1).T for u, v in pairs)

    return Work(run, to_numpy([run()]))


@contender("ntk", "PyTorch", "torch.func, kernel-vector products")
def ntk_implicit(inputs: Inputs, options: Options) -> Work:
    """Column by column: a gradient, then a tangent."""
    t = torch()
    f, params, a, b = scalar_network(inputs)

    def column(x: Any) -> Any:
        return t.func.jvp(lambda p: f(p, a), (params,), (t.func.grad(f)(params, x),))[1]

    call = t.func.vmap(column)
    return Work(lambda: call(b).T, to_numpy([call(b).T]))


# Overhead and memory ------------------------------------------------------------------------------------------------


def chain(x: Any) -> Any:
    """Return the sum of ten nested tanh."""
    for _ in range(10):
        x = x.tanh()
    return x.sum()


@contender("chain", "PyTorch", "autograd.grad")
def chain_eager(inputs: Inputs, options: Options) -> Work:
    """Eager."""
    t = torch()
    (x,) = tensors([inputs["x"]])
    x.requires_grad_()

    def run() -> Any:
        return t.autograd.grad(chain(x), x)

    return Work(run, to_numpy(run()))


@contender("chain", "torch.compile", "torch.func.grad")
def chain_compiled(inputs: Inputs, options: Options) -> Work:
    """Compiled."""
    t = torch()
    t._dynamo.reset()
    (x,) = tensors([inputs["x"]])
    call = t.compile(t.func.grad(chain))
    return Work(lambda: call(x), to_numpy([call(x)]))


@contender("power", "PyTorch", "mv")
def power(inputs: Inputs, options: Options) -> Work:
    """Two products a step."""
    t = torch()
    a, start = tensors([inputs["a"], inputs["v"]])

    def run() -> Any:
        v = start
        for _ in range(options["steps"]):
            v = t.mv(a.t(), t.mv(a, v))
            v = v / v.norm()
        return t.mv(a, v).norm()

    return Work(run, to_numpy([run()]))
