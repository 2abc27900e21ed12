"""Calls of more than one step for the fuzz test: objects that are made and then called, and callbacks.

A callback that closes over a traced value hands it to compiled code, which may convert what comes back.
"""

from __future__ import annotations

import copy
import json
import pickle
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.integrate
import scipy.interpolate
import scipy.linalg
import scipy.ndimage
import scipy.optimize
import scipy.signal
import scipy.sparse
import scipy.sparse.linalg
import scipy.spatial
import scipy.special
import scipy.stats

__all__ = ["COMPOSITIONS"]

_KNOTS = np.array([0.0, 0.4, 1.1, 1.7, 2.2])
_POINTS = np.array([[0.0, 0.0], [1.0, 0.1], [0.2, 1.0], [1.1, 1.2], [0.5, 0.6]])


def _write(y, index, value):
    y[index] = value
    return y


def _written(method, *args):
    y = np.zeros(3)
    getattr(y, method)(*args)
    return y


def _copied(x):
    y = np.zeros(3)
    np.copyto(y, x)
    return y


def _pasted(x):
    y = np.zeros((3, 3))
    np.fill_diagonal(y, x)
    return y


def _at(x):
    y = np.zeros(3)
    np.add.at(y, [0, 1, 1], x)
    return y


def _iterated(x):
    y = np.zeros(3)
    for i, v in enumerate(x):
        y[i] = v * v
    return y


def _flat(x):
    y = np.zeros(3)
    y.flat[0] = x
    return y


def _structured(x):
    y = np.zeros(3, [("a", float)])
    y["a"] = x
    return y


def _nditer(x):
    return [float(v) * 2.0 for v in np.nditer(x)]


def _ma(x):
    y = np.ma.zeros(3)
    y[0] = x
    return y.filled(0.0)


def _sparse_set(x):
    a = scipy.sparse.lil_array((3, 3))
    a[0, 1] = x
    return a.toarray()


def _generator(seed, name, *args):
    return getattr(np.random.default_rng(seed), name)(*args)


def _legacy(name, *args):
    return getattr(np.random.RandomState(0), name)(*args)


def _spline(u, y, x):
    return scipy.interpolate.CubicSpline(u, y)(x)


COMPOSITIONS: dict[str, Callable[..., Any]] = {
    # written into ordinary arrays
    "y[0] = s": lambda s: _write(np.zeros(3), 0, s),
    "y[:] = v": lambda x: _write(np.zeros(3), slice(None), x),
    "y[mask] = s": lambda s: _write(np.zeros(3), np.array([True, False, True]), s),
    "y[[0, 1, 2]] = v": lambda x: _write(np.zeros(3), [0, 1, 2], x),
    "list[0] = s": lambda s: np.stack(_write([1.0, 2.0], 0, s)),
    "y.fill(s)": lambda s: _written("fill", s),
    "y.put(0, s)": lambda s: _written("put", [0], s),
    "y.itemset": lambda s: _written("__setitem__", 1, s),
    "y.__iadd__(v)": lambda x: np.zeros(3).__iadd__(x),
    "copyto": _copied,
    "fill_diagonal": _pasted,
    "add.at": _at,
    "loop over entries": _iterated,
    "flat[0] = s": _flat,
    "structured array": _structured,
    "nditer": _nditer,
    "masked y[0] = s": _ma,
    "sparse y[0, 1] = s": _sparse_set,
    "putmask": lambda x: [y := np.zeros(3), np.putmask(y, np.array([True, False, True]), x)][0],
    "place": lambda x: [y := np.zeros(3), np.place(y, np.array([True, False, True]), x)][0],
    "put_along_axis": lambda x: [y := np.zeros(3), np.put_along_axis(y, np.array([0]), x, 0)][0],
    "exp(out=)": lambda x: [y := np.zeros(3), np.exp(x, out=y)][0],
    "add(out=)": lambda x: [y := np.zeros(3), np.add(x, 1.0, out=y)][0],
    "sum(out=)": lambda x: [y := np.zeros(()), np.sum(x, out=y)][0],
    "clip(out=)": lambda x: [y := np.zeros(3), np.clip(x, 0.3, 0.7, out=y)][0],
    "dot(out=)": lambda x: [y := np.zeros(()), np.dot(x, np.ones(3), out=y)][0],
    "take(out=)": lambda x: [y := np.zeros(2), np.take(x, [0, 1], out=y)][0],
    "concatenate(out=)": lambda x: [y := np.zeros(4), np.concatenate([x, [1.0]], out=y)][0],
    "stack(out=)": lambda x: [y := np.zeros((2, 3)), np.stack([x, np.ones(3)], out=y)][0],
    "einsum(out=)": lambda x: [y := np.zeros(3), np.einsum("i,i->i", x, x, out=y)][0],
    "median(out=)": lambda x: [y := np.zeros(()), np.median(x, out=y)][0],
    "vecdot(out=)": lambda x: [y := np.zeros(()), np.vecdot(x, x, out=y)][0],
    # arrays made of entries
    "array of entries": lambda x: np.array([x[0] ** 2, x[1]]),
    "array of nested entries": lambda x: np.array([[x[0], 1.0], [2.0, x[1]]]),
    "array of objects": lambda x: np.array([x[0], x[1]], dtype=object),
    "asarray of tuple": lambda x: np.asarray((x[0], x[1])),
    "fromiter": lambda x: np.fromiter((v for v in x), float),
    "full": lambda s: np.full(3, s),
    "linspace": lambda s: np.linspace(0.0, s, 4),
    "arange": lambda s: np.arange(s, s + 3.0),
    "r_": lambda x: np.r_[x, 1.0],
    "c_": lambda x: np.c_[x, x],
    "mgrid": lambda s: np.mgrid[0 : s + 3.0 : 1.0],
    "diag of list": lambda x: np.diag([x[0], x[1]]),
    "sum of list": lambda x: np.sum([v * v for v in x]),
    "max of list": lambda x: np.max([x[0], x[1]]),
    "stack of list": lambda x: np.stack([x[0], x[2]]),
    "block of entries": lambda x: np.block([[x[0], x[1]], [x[2], 1.0]]),
    "tile of list": lambda x: np.tile([x[0], x[1]], 2),
    "where of list": lambda x: np.where([True, False], [x[0], x[1]], 0.0),
    "matrix of list": lambda x: np.asmatrix([x[0], x[1]]),
    "vectorize": lambda x: np.vectorize(lambda v: v * v)(x),
    "frompyfunc": lambda x: np.frompyfunc(lambda v: v * v, 1, 1)(x),
    "fromfunction": lambda s: np.fromfunction(lambda i: i * s, (3,)),
    "apply_along_axis": lambda x: np.apply_along_axis(lambda r: r * r, 0, x),
    "apply_along_axis, closure": lambda s: np.apply_along_axis(lambda r: r * s, 0, np.ones((3, 2))),
    "apply_over_axes": lambda x: np.apply_over_axes(np.sum, x, [0]),
    "piecewise, closure": lambda s: np.piecewise(
        np.array([0.2, 0.8]), [np.array([True, False])], [lambda v: v * s, 0.0]
    ),
    "map and list": lambda x: np.asarray(list(map(float, x))),
    "polynomial object": lambda x: np.polynomial.Polynomial(x)(0.7),
    "poly1d object": lambda x: np.poly1d(x)(0.7),
    "Chebyshev object": lambda x: np.polynomial.Chebyshev(x)(0.7),
    "emath.sqrt": lambda x: np.emath.sqrt(x),
    "sliding windows": lambda x: np.lib.stride_tricks.sliding_window_view(x, 2),
    # conversions of Python
    "json": lambda s: float(json.dumps(s)),
    "struct": lambda s: struct.unpack("d", struct.pack("d", s))[0],
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "deepcopy": lambda x: copy.deepcopy(x),
    "percent format": lambda s: float("%.17g" % s),  # noqa: UP031
    "range": lambda s: list(range(int(s) + 2)),
    "sorted": lambda x: np.stack(sorted(x)),
    "sum": lambda x: sum(x),
    "max": lambda x: max(x),
    "min": lambda x: min(x[0], x[1], x[2]),
    "unpacking": lambda x: np.stack([*x]),
    "dictionary": lambda s: {"a": s * 2.0, "b": 1.0},
    "comparison": lambda s: 1.0 if s > 0.55 else 2.0,
    "list index": lambda s: [1.0, 2.0][s],
    # random numbers
    "normal(loc)": lambda s: _generator(0, "normal", s, 1.0),
    "uniform(0, s)": lambda s: _generator(0, "uniform", 0.0, s),
    "choice(p=)": lambda w: np.random.default_rng(0).choice(3, 5, p=w),
    "permutation(v)": lambda x: _generator(0, "permutation", x),
    "shuffle(v)": lambda x: _generator(0, "shuffle", x),
    "legacy normal": lambda s: _legacy("normal", s),
    "legacy choice": lambda x: _legacy("choice", x),
    "legacy shuffle": lambda x: _legacy("shuffle", x),
    "multivariate_normal(mean)": lambda x: _generator(0, "multivariate_normal", x, np.eye(3)),
    "norm.rvs(s)": lambda s: scipy.stats.norm.rvs(s, random_state=0),
    "frozen norm": lambda s: scipy.stats.norm(s, 1.0).logpdf(0.4),
    "frozen norm of traced point": lambda s: scipy.stats.norm(0.1, 1.0).logpdf(s),
    "gaussian_kde": lambda x: scipy.stats.gaussian_kde(x)(0.5),
    "gaussian_kde at": lambda x: scipy.stats.gaussian_kde([0.1, 0.4, 0.9])(x),
    "multivariate_normal frozen": lambda x: scipy.stats.multivariate_normal(np.zeros(3)).logpdf(x),
    # interpolation
    "CubicSpline of values": lambda y: _spline(_KNOTS[:3], y, 0.7),
    "CubicSpline at": lambda x: _spline(_KNOTS, np.sin(_KNOTS), x),
    "interp1d of values": lambda y: scipy.interpolate.interp1d(_KNOTS[:3], y)(0.7),
    "interp1d at": lambda x: scipy.interpolate.interp1d(_KNOTS, np.sin(_KNOTS))(x),
    "PchipInterpolator of values": lambda y: scipy.interpolate.PchipInterpolator(_KNOTS[:3], y)(
        0.7
    ),
    "Akima1DInterpolator at": lambda x: scipy.interpolate.Akima1DInterpolator(
        _KNOTS, np.sin(_KNOTS)
    )(x),
    "BarycentricInterpolator of values": lambda y: scipy.interpolate.BarycentricInterpolator(
        _KNOTS[:3], y
    )(0.7),
    "KroghInterpolator of values": lambda y: scipy.interpolate.KroghInterpolator(_KNOTS[:3], y)(
        0.7
    ),
    "BSpline at": lambda x: scipy.interpolate.make_interp_spline(_KNOTS, np.sin(_KNOTS))(x),
    "UnivariateSpline at": lambda x: scipy.interpolate.UnivariateSpline(_KNOTS, np.sin(_KNOTS))(x),
    "splev at": lambda x: scipy.interpolate.splev(
        x, scipy.interpolate.splrep(_KNOTS, np.sin(_KNOTS))
    ),
    "RegularGridInterpolator at": lambda x: scipy.interpolate.RegularGridInterpolator(
        (_KNOTS,), np.sin(_KNOTS)
    )(x),
    "RegularGridInterpolator of values": lambda y: scipy.interpolate.RegularGridInterpolator(
        (_KNOTS[:3],), y
    )([0.7]),
    "RBFInterpolator at": lambda x: scipy.interpolate.RBFInterpolator(_POINTS, _POINTS[:, 0])(
        np.reshape(x, (1, -1))[:, :2]
    ),
    "griddata at": lambda x: scipy.interpolate.griddata(_KNOTS, np.sin(_KNOTS), x),
    "PPoly": lambda x: scipy.interpolate.PPoly(np.reshape(x, (3, 1)), [0.0, 1.0])(0.4),
    # callbacks that close over a traced value
    "quad": lambda s: scipy.integrate.quad(lambda z: z * s, 0.0, 1.0)[0],
    "quad(args=)": lambda s: scipy.integrate.quad(lambda z, k: z * k, 0.0, 1.0, args=(s,))[0],
    "quad to s": lambda s: scipy.integrate.quad(np.sin, 0.0, s)[0],
    "quad_vec": lambda s: scipy.integrate.quad_vec(lambda z: z * s, 0.0, 1.0)[0],
    "fixed_quad": lambda s: scipy.integrate.fixed_quad(lambda z: z * s, 0.0, 1.0)[0],
    "dblquad": lambda s: scipy.integrate.dblquad(lambda y, z: y * z * s, 0, 1, 0, 1)[0],
    "solve_ivp": lambda s: scipy.integrate.solve_ivp(lambda t, y: -s * y, (0.0, 0.1), [1.0]).y[
        0, -1
    ],
    "solve_ivp from": lambda x: scipy.integrate.solve_ivp(lambda t, y: -y, (0.0, 0.1), x).y[0, -1],
    "odeint": lambda s: scipy.integrate.odeint(lambda y, t: -s * y, [1.0], [0.0, 0.1])[-1],
    "odeint(args=)": lambda s: scipy.integrate.odeint(
        lambda y, t, k: -k * y, [1.0], [0.0, 0.1], args=(s,)
    )[-1],
    "simpson": lambda x: scipy.integrate.simpson(x, dx=0.5),
    "trapezoid": lambda x: scipy.integrate.trapezoid(x, dx=0.5),
    "brentq": lambda s: scipy.optimize.brentq(lambda z: z - s, 0.0, 1.0),
    "brentq(args=)": lambda s: scipy.optimize.brentq(lambda z, k: z - k, 0.0, 1.0, args=(s,)),
    "newton": lambda s: scipy.optimize.newton(lambda z: z * z - s, 0.7),
    "bisect": lambda s: scipy.optimize.bisect(lambda z: z - s, 0.0, 1.0),
    "fsolve": lambda s: scipy.optimize.fsolve(lambda z: z * z - s, 0.7),
    "fsolve(args=)": lambda s: scipy.optimize.fsolve(lambda z, k: z * z - k, 0.7, args=(s,)),
    "root": lambda s: scipy.optimize.root(lambda z: z * z - s, 0.7).x,
    "root_scalar": lambda s: scipy.optimize.root_scalar(lambda z: z - s, bracket=(0.0, 1.0)).root,
    "minimize": lambda s: scipy.optimize.minimize(lambda z: np.sum((z - s) ** 2), [0.1]).x,
    "minimize Nelder-Mead": lambda s: (
        scipy.optimize.minimize(
            lambda z: np.sum((z - s) ** 2), [0.1], method="Nelder-Mead", options={"maxiter": 5}
        ).x
    ),
    "minimize jac": lambda s: (
        scipy.optimize.minimize(
            lambda z: float(np.sum(z * z)), [0.4], jac=lambda z: 2.0 * z * s, method="CG"
        ).x
    ),
    "minimize L-BFGS-B": lambda s: (
        scipy.optimize.minimize(lambda z: np.sum((z - s) ** 2), [0.1], method="L-BFGS-B").x
    ),
    "minimize SLSQP": lambda s: (
        scipy.optimize.minimize(lambda z: np.sum((z - s) ** 2), [0.1], method="SLSQP").x
    ),
    "minimize COBYLA": lambda s: (
        scipy.optimize.minimize(
            lambda z: np.sum((z - s) ** 2), [0.1], method="COBYLA", options={"maxiter": 5}
        ).x
    ),
    "minimize from": lambda x: (
        scipy.optimize.minimize(lambda z: float(np.sum(z * z)), x, options={"maxiter": 2}).x
    ),
    "minimize_scalar": lambda s: scipy.optimize.minimize_scalar(lambda z: (z - s) ** 2).x,
    "least_squares": lambda s: scipy.optimize.least_squares(lambda z: z - s, [0.1]).x,
    "leastsq": lambda s: scipy.optimize.leastsq(lambda z: z - s, [0.1])[0],
    "curve_fit": lambda y: scipy.optimize.curve_fit(lambda z, a, b: a * z + b, _KNOTS[:3], y)[0],
    "curve_fit, closure": lambda s: scipy.optimize.curve_fit(
        lambda z, a: a * z * s, _KNOTS[:3], [0.1, 0.2, 0.3]
    )[0],
    "fixed_point": lambda s: scipy.optimize.fixed_point(lambda z: 0.5 * (z + s), 0.3),
    "approx_fprime": lambda s: scipy.optimize.approx_fprime([0.3], lambda z: z[0] * s),
    "nnls": lambda x: scipy.optimize.nnls(np.eye(3), x)[0],
    "lsq_linear": lambda x: scipy.optimize.lsq_linear(np.eye(3), x).x,
    "generic_filter": lambda s: scipy.ndimage.generic_filter(np.ones(4), lambda w: w.sum() * s, 3),
    "geometric_transform": lambda s: scipy.ndimage.geometric_transform(
        np.arange(4.0), lambda p: (p[0] * s,)
    ),
    "gaussian_filter": lambda x: scipy.ndimage.gaussian_filter(x, 1.0),
    "map_coordinates": lambda x: scipy.ndimage.map_coordinates(
        np.arange(4.0), np.reshape(x, (1, -1))
    ),
    "cdist(metric=f)": lambda s: scipy.spatial.distance.cdist(
        _POINTS, _POINTS, lambda a, b: np.sum(a * b) * s
    ),
    "pdist": lambda x: scipy.spatial.distance.pdist(np.outer(x, x)),
    "cKDTree": lambda x: scipy.spatial.cKDTree(_POINTS).query(x[:2])[0],
    "LinearOperator": lambda s: (
        scipy.sparse.linalg.LinearOperator((3, 3), matvec=lambda z: z * s, dtype=float) @ np.ones(3)
    ),
    "LinearOperator @ v": lambda x: (
        scipy.sparse.linalg.LinearOperator((3, 3), matvec=lambda z: z * 2.0, dtype=float) @ x
    ),
    "aslinearoperator @ v": lambda x: scipy.sparse.linalg.aslinearoperator(np.eye(3)) @ x,
    "cg": lambda x: scipy.sparse.linalg.cg(np.eye(3), x)[0],
    "cg, closure": lambda s: scipy.sparse.linalg.cg(
        scipy.sparse.linalg.LinearOperator((3, 3), matvec=lambda z: z * s, dtype=float), np.ones(3)
    )[0],
    "gmres": lambda x: scipy.sparse.linalg.gmres(np.eye(3), x)[0],
    "splu.solve": lambda x: scipy.sparse.linalg.splu(scipy.sparse.csc_array(np.eye(3))).solve(x),
    "spsolve": lambda x: scipy.sparse.linalg.spsolve(scipy.sparse.csc_array(np.eye(3)), x),
    "expm_multiply": lambda x: scipy.sparse.linalg.expm_multiply(np.eye(3), x),
    "eigsh, closure": lambda s: scipy.sparse.linalg.eigsh(
        scipy.sparse.linalg.LinearOperator((5, 5), matvec=lambda z: z * s, dtype=float), 1
    )[0],
    "csr_array(v)": lambda x: scipy.sparse.csr_array(x).toarray(),
    "csr_array of parts": lambda x: scipy.sparse.csr_array((x, [0, 1, 2], [0, 1, 2, 3])).toarray(),
    "coo_array of parts": lambda x: scipy.sparse.coo_array((x, ([0, 1, 2], [0, 1, 2]))).toarray(),
    "dia_array": lambda x: scipy.sparse.diags_array(x).toarray(),
    "sparse * s": lambda s: (scipy.sparse.eye_array(3) * s).toarray(),
    "sparse + v": lambda x: scipy.sparse.eye_array(3) + x,
    "sparse.data = v": lambda x: [
        a := scipy.sparse.csr_array(np.eye(3)),
        setattr(a, "data", x),
        a.toarray(),
    ][-1],
    "lfilter": lambda x: scipy.signal.lfilter([1.0], [1.0, 0.5], x),
    "lsim": lambda x: scipy.signal.lsim((1.0, [1.0, 1.0]), x, [0.0, 0.5, 1.0])[1],
    "logsumexp": lambda x: scipy.special.logsumexp(x),
    "softmax": lambda x: scipy.special.softmax(x),
    "special.expit": lambda x: scipy.special.expit(x),
    "special.gammaln(out=)": lambda x: [y := np.zeros(3), scipy.special.gammaln(x, out=y)][0],
}
"""Name -> function; a name is the code or the function in short."""
