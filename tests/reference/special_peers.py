"""Write special_peers.json: special functions and densities of JAX, HIPS autograd and PyTorch, with gradients.

    pip install jax==0.10.2 autograd==1.9.1 torch scipy
    python tests/reference/special_peers.py

A row is [peer, name, arguments, value, gradient]: float64, the gradient of the function at numbers,
None for an argument that the peer does not differentiate. `name` is that of nnmath_core.
"""

import json
from pathlib import Path

import autograd
import autograd.scipy.special
import autograd.scipy.stats
import jax
import numpy as np
import torch

jax.config.update("jax_enable_x64", True)
import jax.scipy.special as js  # noqa: E402
import jax.scipy.stats as jst  # noqa: E402

TARGET = Path(__file__).with_name("special_peers.json")
RNG = np.random.default_rng(20260)


def draw(low, high):
    return float(RNG.uniform(low, high))


P, N, U = (0.3, 4.0), (-2.5, 2.5), (0.05, 0.95)
# name -> domains of the arguments
SPECIAL = {
    "gammaln": [P], "gamma": [P], "loggamma": [P], "digamma": [P], "beta": [P, P], "betaln": [P, P],
    "betainc": [P, P, U], "gammainc": [P, P], "gammaincc": [P, P], "erf": [N], "erfc": [N], "erfinv": [U], "erfcx": [N],
    "dawsn": [N], "logit": [U], "expit": [N], "xlogy": [P, P], "xlog1py": [P, P], "entr": [P], "boxcox": [P, U],
    "boxcox1p": [P, U], "kl_div": [P, P], "rel_entr": [P, P], "ndtr": [N], "ndtri": [U], "log_ndtr": [N], "i0": [N],
    "i0e": [N], "i1": [N], "i1e": [N], "expi": [P], "exp1": [P], "spence": [P], "poch": [P, P], "owens_t": [N, N],
}  # fmt: skip
TORCH = {
    "gammaln": [P], "digamma": [P], "erfc": [N], "erfcx": [N], "erfinv": [U], "entr": [P], "expit": [N], "i0": [N],
    "i0e": [N], "i1": [N], "i1e": [N], "log_ndtr": [N], "logit": [U], "ndtr": [N], "ndtri": [U], "sinc": [N],
    "xlog1py": [P, P], "xlogy": [P, P], "psi": [P],
}  # fmt: skip
AUTOGRAD = {
    "beta": [P, P], "betaln": [P, P], "psi": [P], "gamma": [P], "gammaln": [P], "rgamma": [P], "j0": [N], "j1": [N],
    "y0": [P], "y1": [P], "i0": [N], "i1": [N], "erfc": [N], "erfinv": [U], "erfcinv": [U], "logit": [U],
}  # fmt: skip
X = (0.2, 2.5)
STATS = {
    "norm.logpdf": [N, N, P], "norm.logcdf": [N, N, P], "norm.cdf": [N, N, P], "norm.sf": [N, N, P],
    "norm.logsf": [N, N, P], "norm.ppf": [U, N, P], "t.logpdf": [N, P, N, P], "gamma.logpdf": [X, P, (-1.0, 0.0), P],
    "gamma.cdf": [X, P, (-1.0, 0.0), P], "gamma.sf": [X, P, (-1.0, 0.0), P],
    "beta.logpdf": [U, P, P, (-0.04, 0.0), (1.0, 2.0)],
    "beta.cdf": [U, P, P, (-0.04, 0.0), (1.0, 2.0)], "chi2.logpdf": [X, P, (-1.0, 0.0), P],
    "chi2.cdf": [X, P, (-1.0, 0.0), P], "cauchy.logpdf": [N, N, P], "cauchy.cdf": [N, N, P],
    "expon.logpdf": [X, (-1.0, 0.0), P],
    "laplace.logpdf": [N, N, P], "laplace.cdf": [N, N, P], "logistic.logpdf": [N, N, P], "logistic.cdf": [N, N, P],
    "pareto.logpdf": [(1.6, 3.0), P, (-0.5, 0.5), (0.5, 1.0)], "uniform.logpdf": [U, (-1.0, 0.0), (1.0, 2.0)],
    "gennorm.logpdf": [N, P], "truncnorm.logpdf": [(-0.5, 0.5), (-3.0, -1.0), (1.0, 3.0)],
    "vonmises.logpdf": [N, P], "wrapcauchy.logpdf": [X, U], "gumbel_r.logpdf": [N, N, P], "gumbel_l.logpdf": [N, N, P],
}  # fmt: skip
COUNTS = {
    "poisson.logpmf": ([3, 0], [P]), "binom.logpmf": ([2], [(4, 4), U]), "geom.logpmf": ([3], [U]),
    "bernoulli.logpmf": ([1, 0], [U]), "nbinom.logpmf": ([4], [P, U]), "betabinom.logpmf": ([2], [(5, 5), P, P]),
}  # fmt: skip
OURS = {"psi": "digamma"}


def row(peer, name, f, args, on=None):
    on = range(len(args)) if on is None else on
    if peer == "torch":
        ts = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in args]
        y = f(*ts)
        grads = torch.autograd.grad(y, ts)
        return ["torch", name, args, y.item(), [g.item() for g in grads]]
    grads = [None] * len(args)
    for k in on:
        try:
            grads[k] = float(jax.grad(f, k)(*args) if peer == "jax" else autograd.grad(f, k)(*args))
        except (NotImplementedError, TypeError, ValueError):  # a rule is missing or broken
            continue
    return [peer, name, args, float(f(*args)), grads]


def main():
    """Write the table."""
    rows = []
    for name, domains in SPECIAL.items():
        f = getattr(js, name)
        rows += [row("jax", name, f, [draw(*d) for d in domains]) for _ in range(3)]
    for name, domains in TORCH.items():
        rows.append(row("torch", name, getattr(torch.special, name), [draw(*d) for d in domains]))
    for name, domains in AUTOGRAD.items():
        f = getattr(autograd.scipy.special, name)
        rows.append(row("autograd", name, f, [draw(*d) for d in domains]))
    for name, domains in STATS.items():
        family, _, f = name.partition(".")
        for _ in range(2):
            args = [draw(*d) for d in domains]
            rows.append(row("jax", name, getattr(getattr(jst, family), f), args))
            if family in ("norm", "t", "gamma", "beta", "chi2") and hasattr(
                getattr(autograd.scipy.stats, family), f
            ):
                peer = getattr(getattr(autograd.scipy.stats, family), f)
                rows.append(row("autograd", name, peer, args))
    for name, (counts, domains) in COUNTS.items():
        family, _, f = name.partition(".")
        peer = getattr(getattr(jst, family), f)
        for k in counts:
            args = [k, *(d[0] if isinstance(d[0], int) else draw(*d) for d in domains)]
            rows.append(
                row(
                    "jax", name, peer, args, [i for i, a in enumerate(args) if isinstance(a, float)]
                )
            )
    about = {"jax": jax.__version__, "autograd": "1.9.1", "torch": torch.__version__, "seed": 20260}
    lines = ",\n".join(json.dumps(r) for r in rows)
    TARGET.write_text(f'{{"about": {json.dumps(about)},\n"rows": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
