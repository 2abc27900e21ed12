"""PyTorch's operations in NumPy's names: what each sample of its operation database computes.

An adaptor gets the arguments of PyTorch's call as arrays or traced arrays and returns the floating
outputs. It is plain NumPy, or `nnmath_core.special` and `nnmath_core.linalg` where NumPy has no such
function: the same text that a user would write.
"""

from __future__ import annotations

import functools

import numpy as np

import nnmath_core as nm

special, linalg = nm.special, nm.linalg

ADAPTORS = {}
"""``name`` or ``name.variant`` of PyTorch's OpInfo -> function."""


def adapt(*names):
    def register(f):
        for name in names:
            ADAPTORS[name] = f
        return f

    return register


def same(names, module):
    """Functions that NumPy or SciPy has by the same name and with the same arguments."""
    for name in names.split():
        theirs, _, ours = name.partition("=")
        ADAPTORS[theirs] = getattr(module, ours or theirs)


# ------------------------------------------------------------------------------------ elementwise
same(
    "abs ceil cos cosh exp expm1 exp2 floor log log1p log2 log10 positive neg=negative reciprocal "
    "sign sgn=sign sin sinh sqrt square tan tanh trunc deg2rad rad2deg acos=arccos acosh=arccosh "
    "asin=arcsin asinh=arcsinh atan=arctan atanh=arctanh atan2=arctan2 hypot copysign fmax fmin "
    "fmod remainder logaddexp logaddexp2 maximum minimum max.binary=maximum min.binary=minimum pow=power "
    "float_power mul=multiply div.no_rounding_mode=divide true_divide sinc i0 angle",
    np,
)
same(
    "digamma erf erfc erfinv special.erfcx=erfcx special.entr=entr special.i0e=i0e special.i1=i1 "
    "special.i1e=i1e special.ndtr=ndtr special.ndtri=ndtri special.log_ndtr=log_ndtr "
    "special.xlog1py=xlog1py xlogy sigmoid=expit lgamma=gammaln",
    special,
)
for n in range(5):
    adapt(f"polygamma.polygamma_n_{n}")(lambda x, n: special.polygamma(n, x))
adapt("special.polygamma.special_polygamma_n_0")(lambda x, n: special.polygamma(n, x))


@adapt("mvlgamma.mvlgamma_p_1", "mvlgamma.mvlgamma_p_3", "mvlgamma.mvlgamma_p_5")
def mvlgamma(x, p):
    return special.multigammaln(x, p)


@adapt("add")
def add(x, y, alpha=1):
    return x + alpha * y


@adapt("sub")
def sub(x, y, alpha=1):
    return x - alpha * y


@adapt("rsub")
def rsub(x, y, alpha=1):
    return y - alpha * x


adapt("__radd__")(lambda x, y: y + x)
adapt("__rdiv__")(lambda x, y: y / x)
adapt("__rmul__")(lambda x, y: y * x)
adapt("__rpow__")(lambda x, y: y**x)
adapt("__rsub__")(lambda x, y: y - x)
adapt("__rmod__")(lambda x, y: np.remainder(y, x))
adapt("__rmatmul__")(lambda x, y: np.matmul(y, x))
adapt("rsqrt")(lambda x: 1.0 / np.sqrt(x))
adapt("frac")(lambda x: x - np.trunc(x))
adapt("lerp")(lambda a, b, w: a + w * (b - a))
adapt("addcmul")(lambda x, a, b, value=1: x + value * a * b)
adapt("addcdiv")(lambda x, a, b, value=1: x + value * a / b)
adapt("clamp_min")(lambda x, low: np.maximum(x, low))
adapt("clamp_max")(lambda x, high: np.minimum(x, high))
adapt("clamp")(lambda x, min=None, max=None: np.clip(x, min, max))
adapt("nan_to_num")(
    lambda x, nan=0.0, posinf=None, neginf=None: np.nan_to_num(
        x, nan=nan, posinf=posinf, neginf=neginf
    )
)
adapt("logit")(lambda x, eps=None: special.logit(x if eps is None else np.clip(x, eps, 1 - eps)))
adapt("where")(lambda x, condition, y: np.where(condition, x, y))
adapt("masked_fill")(lambda x, mask, value: np.where(mask, value, x))
adapt("masked_select")(
    lambda x, mask: np.broadcast_to(x, np.broadcast_shapes(x.shape, mask.shape))[
        np.broadcast_to(mask, np.broadcast_shapes(x.shape, mask.shape))
    ]
)
adapt("div.floor_rounding")(lambda x, y, rounding_mode: np.floor(x / y))
adapt("div.trunc_rounding")(lambda x, y, rounding_mode: np.trunc(x / y))
adapt("round", "round.decimals_0", "round.decimals_3", "round.decimals_neg_3")(
    lambda x, decimals=0: np.round(x, decimals)
)
adapt("frexp")(lambda x: np.frexp(x)[0])
adapt("ldexp")(lambda x, k: x * np.exp2(k))
adapt("polar")(lambda r, a: (r * np.cos(a), r * np.sin(a)))

# activations and losses, in the formulas of their documentation
adapt("nn.functional.relu")(lambda x, inplace=False: np.maximum(x, 0.0))
adapt("nn.functional.softplus")(
    lambda x, beta=1, threshold=20: np.where(
        beta * x > threshold, x, np.logaddexp(0.0, beta * x) / beta
    )
)
adapt("nn.functional.silu")(lambda x, inplace=False: x * special.expit(x))
adapt("nn.functional.softsign")(lambda x: x / (1 + np.abs(x)))
adapt("nn.functional.tanhshrink")(lambda x: x - np.tanh(x))
adapt("nn.functional.logsigmoid")(lambda x: -np.logaddexp(0.0, -x))
adapt("nn.functional.mish")(lambda x, inplace=False: x * np.tanh(np.logaddexp(0.0, x)))


@adapt("nn.functional.gelu")
def gelu(x, approximate="none"):
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x * special.ndtr(x)


@adapt("nn.functional.elu", "nn.functional.celu")
def elu(x, alpha=1.0, inplace=False):
    return np.where(x > 0, x, alpha * np.expm1(np.where(x > 0, 0.0, x)))


def reduced(values, reduction):
    return {"none": lambda v: v, "mean": np.mean, "sum": np.sum}[reduction](values)


@adapt("nn.functional.mse_loss")
def mse_loss(x, y, reduction="mean"):
    return reduced((x - y) ** 2, reduction)


@adapt("nn.functional.l1_loss")
def l1_loss(x, y, reduction="mean"):
    return reduced(np.abs(x - y), reduction)


@adapt("nn.functional.huber_loss")
def huber_loss(x, y, reduction="mean", delta=1.0, weight=None):
    return reduced(special.huber(delta, x - y), reduction)


@adapt("nn.functional.cosine_similarity")
def cosine_similarity(x, y, dim=1, eps=1e-8):
    x, y = np.broadcast_arrays(x, y)
    return np.sum(x * y, dim) / np.sqrt(np.sum(x * x, dim) * np.sum(y * y, dim))


# ------------------------------------------------------------------------------------- reductions
def axes(dim):
    return (
        None if dim is None or dim == [] else tuple(dim) if isinstance(dim, (list, tuple)) else dim
    )


adapt("sum")(lambda x, dim=None, keepdim=False: np.sum(x, axes(dim), keepdims=keepdim))
adapt("mean")(lambda x, dim=None, keepdim=False: np.mean(x, axes(dim), keepdims=keepdim))
adapt("nansum")(lambda x, dim=None, keepdim=False: np.nansum(x, axes(dim), keepdims=keepdim))
adapt("nanmean")(lambda x, dim=None, keepdim=False: np.nanmean(x, axes(dim), keepdims=keepdim))
adapt("amax")(lambda x, dim=None, keepdim=False: np.max(x, axes(dim), keepdims=keepdim))
adapt("amin")(lambda x, dim=None, keepdim=False: np.min(x, axes(dim), keepdims=keepdim))
adapt("max.reduction_no_dim", "max.reduction_with_dim")(
    lambda x, dim=None, keepdim=False: np.max(x, dim, keepdims=keepdim)
)
adapt("min.reduction_no_dim", "min.reduction_with_dim")(
    lambda x, dim=None, keepdim=False: np.min(x, dim, keepdims=keepdim)
)
adapt("aminmax")(
    lambda x, dim=None, keepdim=False: (
        np.min(x, dim, keepdims=keepdim),
        np.max(x, dim, keepdims=keepdim),
    )
)
adapt("prod")(lambda x, dim=None, keepdim=False: np.prod(x, dim, keepdims=keepdim))
adapt("logsumexp")(
    lambda x, dim, keepdim=False: special.logsumexp(x, axis=axes(dim), keepdims=keepdim)
)
adapt("softmax")(lambda x, dim: special.softmax(x, axis=dim))
adapt("log_softmax")(lambda x, dim: special.log_softmax(x, axis=dim))
adapt("nn.functional.softmin")(lambda x, dim: special.softmax(-x, axis=dim))
adapt("cumsum")(lambda x, dim: np.cumsum(x, dim))
adapt("cumprod")(lambda x, dim: np.cumprod(x, dim))
adapt("logcumsumexp")(lambda x, dim: np.logaddexp.accumulate(x, dim))
adapt("trapz", "trapezoid")(lambda y, x=None, dx=1.0, dim=-1: np.trapezoid(y, x, dx, dim))
adapt("norm", "linalg.vector_norm")(lambda x, *a, **k: vector_norm(x, *a, **k))
adapt("cov")(
    lambda x, correction=1, fweights=None, aweights=None: np.cov(
        x, ddof=correction, fweights=fweights, aweights=aweights
    )
)
adapt("corrcoef")(lambda x: np.corrcoef(x))


def vector_norm(x, ord=2, dim=None, keepdim=False, p=None):
    ord = p if p is not None else ord
    if isinstance(ord, str):
        raise NotImplementedError(ord)
    return np.linalg.vector_norm(x, ord=ord, axis=axes(dim), keepdims=keepdim)


def corrected(dim, unbiased, correction):
    return correction if correction is not None else int(unbiased)


@adapt("var", "var.unbiased")
def var(x, dim=None, unbiased=True, keepdim=False, correction=None):
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    return np.var(x, axes(dim), ddof=corrected(dim, unbiased, correction), keepdims=keepdim)


@adapt("std", "std.unbiased")
def std(x, dim=None, unbiased=True, keepdim=False, correction=None):
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    return np.std(x, axes(dim), ddof=corrected(dim, unbiased, correction), keepdims=keepdim)


adapt("var_mean", "var_mean.unbiased")(
    lambda x, dim=None, *a, **k: (
        var(x, dim, *a, **k),
        np.mean(x, None if isinstance(dim, bool) else axes(dim), keepdims=k.get("keepdim", False)),
    )
)
adapt("std_mean", "std_mean.unbiased")(
    lambda x, dim=None, *a, **k: (
        std(x, dim, *a, **k),
        np.mean(x, None if isinstance(dim, bool) else axes(dim), keepdims=k.get("keepdim", False)),
    )
)


@adapt("quantile")
def quantile(x, q, dim=None, keepdim=False, interpolation="linear"):
    return np.quantile(x, q, axis=dim, keepdims=keepdim, method=interpolation)


@adapt("nanquantile")
def nanquantile(x, q, dim=None, keepdim=False, interpolation="linear"):
    return np.nanquantile(x, q, axis=dim, keepdims=keepdim, method=interpolation)


# ----------------------------------------------------------------------------------------- moving
same("fliplr flipud kron hstack vstack dstack column_stack ravel tril triu outer", np)
adapt("diagflat")(lambda x, offset=0: np.diagflat(x, offset))
for name in ("hstack", "vstack", "dstack", "column_stack"):
    ADAPTORS[name] = functools.partial(getattr(np, name))
adapt("cat")(lambda xs, dim=0: np.concatenate(xs, dim))
adapt("stack")(lambda xs, dim=0: np.stack(xs, dim))
adapt("block_diag")(lambda *xs: linalg.block_diag(*xs))
adapt("atleast_1d")(lambda *xs: np.atleast_1d(*(xs[0] if isinstance(xs[0], (list, tuple)) else xs)))
adapt("atleast_2d")(lambda *xs: np.atleast_2d(*(xs[0] if isinstance(xs[0], (list, tuple)) else xs)))
adapt("broadcast_to", "expand")(
    lambda x, shape: np.broadcast_to(
        x, [x.shape[i - len(shape)] if s == -1 else s for i, s in enumerate(shape)]
    )
)
adapt("expand_as")(lambda x, y: np.broadcast_to(x, y.shape))
adapt("reshape", "view")(lambda x, shape: np.reshape(x, shape))
adapt("reshape_as", "view_as")(lambda x, y: np.reshape(x, y.shape))
adapt("flatten")(
    lambda x, start_dim=0, end_dim=-1: x.reshape(
        (*x.shape[: start_dim % max(x.ndim, 1)], -1, *x.shape[end_dim % max(x.ndim, 1) + 1 :])
    )
)
adapt("permute")(lambda x, dims: np.transpose(x, dims))
adapt("movedim")(lambda x, a, b: np.moveaxis(x, a, b))
adapt("transpose")(lambda x, a, b: np.swapaxes(x, a, b) if x.ndim else x)
adapt("t", "T")(lambda x: x.T)
adapt("mT")(lambda x: np.matrix_transpose(x))
adapt("squeeze", "squeeze.multiple")(
    lambda x, dim=None: np.squeeze(
        x,
        None
        if dim is None
        else tuple(
            d
            for d in (dim if isinstance(dim, (list, tuple)) else [dim])
            if x.ndim and x.shape[d] == 1
        ),
    )
)
adapt("unsqueeze")(lambda x, dim: np.expand_dims(x, dim))
adapt("flip")(lambda x, dims: np.flip(x, tuple(dims)))
adapt("roll")(
    lambda x, shifts, dims=None: np.roll(
        x,
        shifts,
        None if dims in (None, ()) else tuple(dims) if isinstance(dims, (list, tuple)) else dims,
    )
)
adapt("rot90")(lambda x, k=1, dims=(0, 1): np.rot90(x, k, dims))
adapt("tile")(lambda x, dims: np.tile(x, dims))
adapt("repeat")(lambda x, reps: np.tile(x, reps))
adapt("repeat_interleave")(
    lambda x, repeats, dim=None, output_size=None: np.repeat(x, repeats, dim)
)
adapt("diag")(lambda x, k=0: np.diag(x, k))
adapt("diagonal", "linalg.diagonal")(
    lambda x, offset=0, dim1=0, dim2=1: np.diagonal(x, offset, dim1, dim2)
)
ADAPTORS["linalg.diagonal"] = lambda x, offset=0, dim1=-2, dim2=-1: np.diagonal(
    x, offset, dim1, dim2
)
adapt("trace")(lambda x: np.trace(x))
adapt("meshgrid.variadic_tensors")(
    lambda *xs, indexing="ij": tuple(np.meshgrid(*xs, indexing=indexing))
)
adapt("meshgrid.list_of_tensors")(
    lambda xs, indexing="ij": tuple(np.meshgrid(*xs, indexing=indexing))
)
adapt("split")(lambda x, n, dim=0: tuple(np.split(x, range(n, x.shape[dim], n), dim)))
adapt("split_with_sizes", "split.list_args")(
    lambda x, sizes, dim=0: tuple(np.split(x, np.cumsum(sizes)[:-1], dim))
)
adapt("tensor_split")(
    lambda x, n, dim=0: tuple(np.array_split(x, n if np.ndim(n) else int(n), dim))
)
adapt("hsplit")(lambda x, n: tuple(np.hsplit(x, n)))
adapt("vsplit")(lambda x, n: tuple(np.vsplit(x, n)))
adapt("dsplit")(lambda x, n: tuple(np.dsplit(x, n)))
adapt("unbind")(lambda x, dim=0: tuple(np.moveaxis(x, dim, 0)))
adapt("narrow")(
    lambda x, dim, start, length: np.take(x, range(int(start), int(start) + length), axis=dim)
)
adapt("select")(lambda x, dim, i: np.take(x, i, axis=dim))
adapt("index_select")(
    lambda x, dim, i: np.take(np.atleast_1d(x), np.atleast_1d(i), axis=dim).reshape(
        ()
        if x.ndim == 0
        else (-1,)
        if x.ndim == 1
        else np.take(x, np.atleast_1d(i), axis=dim).shape
    )
)
adapt("take")(lambda x, i: np.take(x, i))
adapt("gather")(
    lambda x, dim, i: np.take_along_axis(
        *(
            np.atleast_1d(x)[
                tuple(
                    slice(None) if a == dim % max(x.ndim, 1) else slice(n)
                    for a, n in enumerate(np.atleast_1d(i).shape)
                )
            ],
            np.atleast_1d(i),
        ),
        axis=dim,
    ).reshape(i.shape)
)
adapt("take_along_dim")(
    lambda x, i, dim=None: np.take_along_axis(x, i.ravel() if dim is None else i, dim)
)
adapt("__getitem__")(lambda x, i: x[i])
adapt("constant_pad_nd", "nn.functional.pad.constant")(
    lambda x, pad, *rest, mode="constant", value=0.0: padded(
        x, pad, ([v for v in rest if not isinstance(v, str)] or [value])[0]
    )
)
adapt("msort")(lambda x: np.sort(x, 0) if x.ndim else x)
adapt("sort")(
    lambda x, dim=-1, descending=False, stable=False: (
        (np.flip(np.sort(x, dim), dim) if descending else np.sort(x, dim)) if x.ndim else x
    )
)
adapt("diff")(
    lambda x, n=1, dim=-1, prepend=None, append=None: np.diff(
        x, n, dim, **{k: v for k, v in (("prepend", prepend), ("append", append)) if v is not None}
    )
)
adapt("gradient")(
    lambda x, spacing=None, dim=None, edge_order=1: gradient(
        x, 1 if spacing is None else spacing, dim, edge_order
    )
)
adapt("linalg.vander")(lambda x, N=None: vander(x, N))


def vander(x, n):
    return x[..., None] ** np.arange(x.shape[-1] if n is None else n)


def padded(x, pad, value):
    if any(p < 0 for p in pad):
        raise NotImplementedError("negative padding")
    widths = [(0, 0)] * (x.ndim - len(pad) // 2) + [
        tuple(pad[i : i + 2]) for i in range(0, len(pad), 2)
    ][::-1]
    return np.pad(x, widths, constant_values=value)


def gradient(x, spacing, dim, edge_order):
    axis = None if dim is None else tuple(dim) if isinstance(dim, (list, tuple)) else dim
    spaced = spacing if isinstance(spacing, (list, tuple)) else [spacing]
    found = np.gradient(x, *spaced, axis=axis, edge_order=edge_order)
    return tuple(found) if isinstance(found, (list, tuple)) else found


# ------------------------------------------------------------------------------------ linear algebra
same("matmul dot vdot inner mv=matmul mm=matmul bmm=matmul", np)
adapt("addmm", "addmv", "baddbmm")(lambda c, a, b, beta=1, alpha=1: beta * c + alpha * (a @ b))
adapt("addbmm")(lambda c, a, b, beta=1, alpha=1: beta * c + alpha * np.sum(a @ b, 0))
adapt("addr")(lambda c, a, b, beta=1, alpha=1: beta * c + alpha * np.outer(a, b))
adapt("tensordot")(lambda a, b, dims: np.tensordot(a, b, dims))
adapt("einsum")(lambda xs, spec: np.einsum(spec, *xs))
adapt("linalg.vecdot")(lambda x, y, dim=-1: np.sum(x * y, dim))
adapt("linalg.cross", "cross")(lambda x, y, dim=-1: np.cross(x, y, axis=dim))
adapt("linalg.multi_dot")(lambda xs: np.linalg.multi_dot(xs))
adapt("linalg.det")(lambda a: np.linalg.det(a))
adapt("linalg.slogdet")(lambda a: tuple(np.linalg.slogdet(a)))
adapt("logdet")(lambda a: np.linalg.slogdet(a)[1])
adapt("linalg.inv", "linalg.inv_ex")(lambda a, **k: np.linalg.inv(a))
adapt("linalg.pinv", "pinverse")(lambda a: np.linalg.pinv(a))
adapt("linalg.cholesky", "cholesky")(lambda a, upper=False: cholesky(a, upper))
adapt("linalg.svdvals")(lambda a: np.linalg.svd(a, compute_uv=False))
adapt("linalg.matrix_power")(lambda a, n: np.linalg.matrix_power(a, n))
adapt("linalg.solve_triangular")(
    lambda a, b, upper, left=True, unitriangular=False: triangular(a, b, upper, left, unitriangular)
)
adapt("linalg.solve")(lambda a, b, left=True: solve(a, b, left))
adapt("linalg.tensorinv")(lambda a, ind=2: np.linalg.tensorinv(a, ind))
adapt("linalg.tensorsolve")(lambda a, b, dims=None: np.linalg.tensorsolve(a, b, dims))
adapt("linalg.cond")(lambda a, p=None: np.linalg.cond(a, p))
adapt("linalg.matrix_norm")(
    lambda a, ord="fro", dim=(-2, -1), keepdim=False: np.linalg.norm(
        a, ord, tuple(dim), keepdims=keepdim
    )
)
adapt("linalg.norm")(
    lambda a, ord=None, dim=None, keepdim=False: np.linalg.norm(a, ord, axes(dim), keepdims=keepdim)
)
adapt("norm.nuc")(
    lambda a, p, dim=None, keepdim=False: np.linalg.norm(
        a, "nuc", axes(dim) or (-2, -1), keepdims=keepdim
    )
)
adapt("matrix_exp")(lambda a: linalg.expm(a))
adapt("dist")(lambda x, y, p=2: vector_norm(x - y, p))
adapt("linalg.qr", "qr")(lambda a, mode="reduced": tuple(np.linalg.qr(a, mode)))


def cholesky(a, upper):
    low = np.linalg.cholesky(0.5 * (a + np.matrix_transpose(a)))
    return np.matrix_transpose(low) if upper else low


def triangular(a, b, upper, left, unit):
    if left:
        return linalg.solve_triangular(a, b, lower=not upper, unit_diagonal=unit)
    flipped = linalg.solve_triangular(
        np.matrix_transpose(a), np.matrix_transpose(b), lower=upper, unit_diagonal=unit
    )
    return np.matrix_transpose(flipped)


def solve(a, b, left):
    vector = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    if not left:
        a = np.matrix_transpose(a)
    if vector:
        return np.linalg.solve(a, b[..., None])[..., 0]
    b = b if left else np.matrix_transpose(b)
    x = np.linalg.solve(a, b)
    return x if left else np.matrix_transpose(x)


# ---------------------------------------------------------------------------------------- transforms
def transform(name):
    f = getattr(np.fft, name)
    return lambda x, n=None, dim=-1, norm=None: parts(f(x, n, dim, norm))


def transforms(name, default):
    f = getattr(np.fft, name)
    return lambda x, s=None, dim=default, norm=None: parts(f(x, s, dim, norm))


def parts(y):
    """PyTorch's answers are stored as real and imaginary part."""
    return (np.real(y), np.imag(y)) if np.iscomplexobj(y) else y


for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"):
    ADAPTORS[f"fft.{name}"] = transform(name)
for name in ("fft2", "ifft2", "rfft2", "irfft2"):
    ADAPTORS[f"fft.{name}"] = transforms(name, (-2, -1))
for name in ("fftn", "ifftn", "rfftn", "irfftn"):
    ADAPTORS[f"fft.{name}"] = transforms(name, None)
adapt("fft.fftshift")(lambda x, dim=None: np.fft.fftshift(x, axes(dim)))
adapt("fft.ifftshift")(lambda x, dim=None: np.fft.ifftshift(x, axes(dim)))
