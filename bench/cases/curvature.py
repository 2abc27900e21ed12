"""Second derivatives of a classifier: Hessian-vector products, eigenvalues of the Hessian, a dense Hessian."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from floors import READ, compiled_gemm_floor, gemm_floor, gemms, moved
from models import classify, flops, mlp_params
from registry import Inputs, Options, Target, Work, case, contender, family, row

Products = list[tuple[int, int, int]]


def hvp_products(options: Options, *, frozen: bool = False) -> Products:
    """Return the products of a Hessian-vector product; with the point frozen, of its tangent part alone."""
    widths, batch = options["widths"], options["batch"]
    made: Products = []
    for k, (i, o) in enumerate(itertools.pairwise(widths)):
        inner = k > 0  # the first layer's input has no tangent and wants no gradient
        made += [(batch, i, o)] * ((0 if frozen else 1) + 1 + inner)
        made += [(i, batch, o)] * (1 + inner)
        made += [(batch, o, i)] * (((0 if frozen else 1) + 2) if inner else 0)
    return made


def frozen_products(options: Options) -> Products:
    """Return the products of the tangent part."""
    return hvp_products(options, frozen=True)


def classifier(rng: np.random.Generator, options: Options, dtype: str = "f4") -> Inputs:
    """Draw a batch with labels, the parameters and a direction."""
    widths, batch = options["widths"], options["batch"]
    x = rng.standard_normal((batch, widths[0])).astype(dtype)
    if options.get("columns"):
        x = np.ascontiguousarray(x.T)
    return {
        "params": mlp_params(rng, options, dtype),
        "direction": mlp_params(rng, options, dtype),
        "x": x,
        "y": rng.integers(0, widths[-1], batch),
    }


def ordered(tree: Any) -> list[Any]:
    """Return weights and biases in the order of the answers."""
    return [p[k] for p in tree for k in ("w", "b")]


# Hessian-vector products. Answer: the product, weight and bias of each layer.

family("hvp", count=lambda o: (flops(hvp_products(o)), 0.0), tolerance=1e-4)(classifier)
family("hvp_frozen", count=lambda o: (flops(frozen_products(o)), 0.0), tolerance=1e-4)(classifier)


def hvp_of(options: Options) -> Callable[..., Any]:
    """Return the product as a user writes it."""
    import nnmath_core as nm

    loss = classify(options)

    def product(params: Any, v: Any, x: Any, y: Any) -> Any:
        return nm.hvp(lambda p: loss(p, x, y), (params,), (v,))

    return product


@contender("hvp", "ours", "nm.compile(nm.hvp)")
def hvp_ours(inputs: Inputs, options: Options) -> Work:
    """Forward over reverse."""
    import nnmath_core as nm

    f = hvp_of(options)
    args = tuple(inputs[k] for k in ("params", "direction", "x", "y"))
    call = nm.compile(f)
    return Work(lambda: call(*args), ordered(call(*args)), lambda: ordered(f(*args)))


@contender("hvp_frozen", "ours", "plan.freeze at the point")
def frozen_ours(inputs: Inputs, options: Options) -> Work:
    """The tangent part of the same program."""
    import nnmath_core as nm

    f = hvp_of(options)
    args = tuple(inputs[k] for k in ("params", "direction", "x", "y"))
    call = nm.compile(f).plan(*args).freeze({0: args[0], 2: args[2], 3: args[3]})
    v = inputs["direction"]
    return Work(lambda: call(v), ordered(call(v)), lambda: ordered(f(*args)))


for name, products in (("hvp", hvp_products), ("hvp_frozen", frozen_products)):
    gemm_floor(name, products)
    compiled_gemm_floor(name, products)

NETWORK = {"widths": (784, 256, 10), "batch": 1024, "activation": "tanh"}
TINY = {"widths": (6, 5, 3), "batch": 4}

row(
    "hvp",
    "HVP of the MLP 784-256-10, batch 1024",
    "hvp",
    options=NETWORK,
    tiny=TINY,
    targets=(Target("floor", 1.05, "GEMMs"), Target("ahead", 1.0)),
)
row(
    "hvp-frozen",
    "HVP of the MLP 784-256-10, batch 1024, with the point frozen",
    "hvp_frozen",
    options=NETWORK,
    tiny=TINY,
    targets=(Target("floor", 1.05, "GEMMs"), Target("ahead", 1.0)),
)


# Eigenvalues by Lanczos. Answer: the ten largest, ascending; of the hundred steps, the largest alone (the others of a
# run of fixed length depend on where it began).

family("eigenvalues", tolerance=1e-3)(classifier)
family(
    "lanczos_steps",
    count=lambda o: (o["steps"] * flops(frozen_products(o)), 0.0),
    tolerance=1e-3,
)(classifier)


def parameters(options: Options) -> int:
    """Return how many parameters the network has."""
    widths = options["widths"]
    return sum((i + 1) * o for i, o in itertools.pairwise(widths))


def operator_of(inputs: Inputs, options: Options) -> Any:
    """Return the library's operator, whose products run a Plan frozen at the point."""
    import nnmath_core as nm

    return nm.curvature.HessianOperator(
        classify(options), inputs["params"], inputs["x"], inputs["y"]
    )


def defined_operator(inputs: Inputs, options: Options) -> Any:
    """Return the same with products that are evaluated eagerly."""
    import nnmath_core as nm

    H = operator_of(inputs, options)

    class Defined(nm.solvers.LinearOperator):
        symmetric = True
        shape, dtype = H.shape, H.dtype

        def _matmat(self, block: Any) -> Any:
            return H._by_definition(block)

    return Defined()


def ten_largest(operator: Any, options: Options) -> Any:
    """Return the eigenpairs, to the accuracy that the peers are asked for.

    ARPACK's tolerance is relative to each value, ours to the norm of the operator; 1e-3 of the smallest of the ten is
    asked for, which is not easier. Which that is comes from a first search and is kept with the operator.
    """
    import nnmath_core as nm

    def search(tol: float) -> Any:
        return nm.solvers.lanczos(operator, k=options["k"], tol=tol, rng=0, confirm=False)

    if not hasattr(operator, "bench_tol"):
        first = search(1e-3)
        share = float(np.abs(first.value).min() / first.norm)
        operator.bench_tol = max(
            1e-3 * share, 5e-6
        )  # 32 eps of float32 is the least that can be asked for
    return search(operator.bench_tol)


def hundred_steps(operator: Any, options: Options) -> Any:
    """Return what a fixed number of steps has: ten pairs at the least tolerance take more, so that no step is spared.

    Their residuals cost ten products more, which the peers' loop does not have.
    """
    import nnmath_core as nm

    try:
        return nm.solvers.lanczos(
            operator, k=options["k"], tol=4e-6, max_steps=options["steps"], rng=0, confirm=False
        )
    except nm.ConvergenceError as error:
        return error.partial


for family_name, solve in (("eigenvalues", ten_largest), ("lanczos_steps", hundred_steps)):

    @contender(family_name, "ours", "nm.solvers.lanczos of nm.curvature.HessianOperator")
    def build(inputs: Inputs, options: Options, solve: Any = solve) -> Work:
        """The iteration in C over a Plan frozen at the point."""
        operator, defined = operator_of(inputs, options), defined_operator(inputs, options)

        def run() -> Any:
            return solve(operator, options)

        def answer(found: Any) -> list[Any]:
            return [found.value if solve is ten_largest else found.value[-1:]]

        return Work(run, answer(run()), lambda: answer(solve(defined, options)))


def lanczos_floor(name: str, steps: Callable[[Inputs, Options], int]) -> None:
    """Declare that m steps cannot avoid m products' GEMMs and reading the basis, as high as it is, twice a step."""

    @contender(name, "floor", "GEMMs and bytes of the reorthogonalisation")
    def build(inputs: Inputs, options: Options) -> Work:
        m = steps(inputs, options)
        products = gemms(frozen_products(options))
        basis = moved(READ, 4.0 * m * parameters(options))

        def run() -> None:
            for height in range(1, m + 1):
                products()
                basis(height / m)
                basis(height / m)

        return Work(run)


lanczos_floor("eigenvalues", lambda i, o: int(ten_largest(operator_of(i, o), o).iterations))
lanczos_floor("lanczos_steps", lambda i, o: int(o["steps"]))

NOTE = "ours measures ten residuals by products besides"
row(
    "hessian-eigenvalues",
    "ten largest Hessian eigenvalues of the MLP 784-256-10, batch 1024",
    "eigenvalues",
    options={**NETWORK, "k": 10},
    tiny={**TINY, "k": 2},
    targets=(
        Target("floor", 1.1, "GEMMs"),
        Target("ahead", 1.05, "JAX"),
        Target("ahead", 3.5, "curvlinops"),
    ),
    note=NOTE,
)
row(
    "lanczos-100",
    "100 Lanczos steps on the Hessian of the MLP 784-256-10, batch 1024",
    "lanczos_steps",
    options={**NETWORK, "steps": 100, "k": 10},
    tiny={**TINY, "steps": 20, "k": 2},
    targets=(
        Target("floor", 1.1, "GEMMs"),
        Target("ahead", 1.05, "JAX"),
        Target("ahead", 3.5, "curvlinops"),
    ),
    note=NOTE,
)


# The dense Hessian of a small network in float64, in its raveled parameters (weights and biases layer by layer, each
# layer's bias first: keys are sorted). Answer: the matrix.

family("dense_hessian", tolerance=1e-10)(lambda rng, options: classifier(rng, options, "f8"))


@contender("dense_hessian", "ours", "nm.compile(nm.hessian(loss))")
def hessian_ours(inputs: Inputs, options: Options) -> Work:
    """One program."""
    import nnmath_core as nm

    loss = classify(options)
    flat, unravel = nm.ravel_tree(inputs["params"])
    f = nm.hessian(lambda w, x, y: loss(unravel(w), x, y))
    args = flat, inputs["x"], inputs["y"]
    call = nm.compile(f)
    return Work(lambda: call(*args), [call(*args)], lambda: [f(*args)])


row(
    "dense-hessian",
    "dense Hessian of 16-16-4, float64",
    "dense_hessian",
    options={"widths": (16, 16, 4), "batch": 64, "activation": "tanh"},
    tiny={"widths": (4, 3, 2), "batch": 3},
    targets=(Target("ahead", 6.0),),
)


# Sizes by the batch of the network above.


def batch(n: int, **rest: Any) -> Options:
    """Return the network with another batch."""
    return {**NETWORK, "batch": n, **rest}


case(
    "hvp",
    "Hessian-vector product of the MLP 784-256-10",
    "hvp",
    "rows",
    [(16, batch(16)), (128, batch(128)), (1024, "hvp"), (8192, batch(8192), "full")],
    tiny=TINY,
)
case(
    "lanczos-steps",
    "100 Lanczos steps on the Hessian of the MLP 784-256-10",
    "lanczos_steps",
    "rows",
    [
        (64, batch(64, steps=100, k=10)),
        (1024, "lanczos-100"),
        (8192, batch(8192, steps=100, k=10), "full"),
    ],
    tiny={**TINY, "steps": 20, "k": 2},
)
