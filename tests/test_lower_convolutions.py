"""Convolutions of layers in a Plan equal the sum over all windows, entry by entry."""

import itertools

import numpy as np
import pytest
from plans import kinds_of, lowered, run_all

import nnmath_core as nm
from nnmath_core.autodiff.ops.convolutions import (
    conv_input_p,
    conv_kernel_p,
    conv_p,
    output_lengths,
)

# size, window, stride, padding, dilation
AXES = [
    [(7, 3, 1, (0, 0), 1)],
    [(9, 3, 2, (1, 2), 1)],
    [(8, 2, 1, (0, 3), 3)],
    [(5, 5, 3, (2, 2), 1)],
    [(6, 1, 2, (0, 0), 1)],
    [(3, 9, 1, (4, 4), 1)],
    [(4, 2, 1, (3, 3), 1)],
    [(9, 2, 1, (-1, -2), 1)],
    [(6, 3, 1, (1, 1), 1), (5, 3, 1, (1, 1), 1)],
    [(7, 2, 2, (0, 1), 2), (6, 3, 1, (2, 0), 1)],
    [(1, 1, 1, (0, 0), 1), (9, 4, 2, (1, 1), 1)],
    [(28, 3, 1, (0, 0), 1), (28, 3, 1, (0, 0), 1)],
    [(3, 2, 1, (0, 0), 1), (4, 2, 1, (1, 0), 1), (5, 3, 2, (1, 1), 1)],
]
CHANNELS = [(1, 1, 8), (1, 3, 5), (2, 2, 3), (1, 20, 34), (3, 1, 2), (2, 17, 1), (4, 1, 1)]
"""Groups, channels of x and of y a group."""


def params(axes, groups):
    size, window, stride, padding, dilation = zip(*axes, strict=True)
    return (
        size,
        window,
        {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups},
    )


def sums(g, x, w, counts, p):
    """The form sum g conv(x, w) and its three partial derivatives, term by term, in the widest type."""
    g, x, w = (v.astype(np.longdouble) for v in (g, x, w))
    y, dx, dw = np.zeros_like(g), np.zeros_like(x), np.zeros_like(w)
    each, outs = w.shape[-2], w.shape[-1] // p["groups"]
    for t in np.ndindex(*counts):
        for k in np.ndindex(*w.shape[:-2]):
            steps = zip(t, k, p["stride"], p["dilation"], p["padding"], strict=True)
            at = [i * s + j * d - b for i, j, s, d, (b, _) in steps]
            if any(not 0 <= a < n for a, n in zip(at, x.shape[1:-1], strict=True)):
                continue
            for group in range(p["groups"]):
                c, o = (
                    slice(group * each, (group + 1) * each),
                    slice(group * outs, (group + 1) * outs),
                )
                window, matrix, given = (
                    x[(slice(None), *at, c)],
                    w[(*k, slice(None), o)],
                    g[(slice(None), *t, o)],
                )
                y[(slice(None), *t, o)] += window @ matrix
                dx[(slice(None), *at, c)] += given @ matrix.T
                dw[(*k, slice(None), o)] += window.T @ given
    return y, dx, dw


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("channels", CHANNELS, ids=str)
@pytest.mark.parametrize("axes", AXES, ids=str)
def test_each_partial_derivative_of_the_form_equals_its_sum(axes, channels, dtype):
    groups, each, outs = channels
    size, window, p = params(axes, groups)
    counts = output_lengths(size, window, p["stride"], p["padding"], p["dilation"])
    rng = np.random.default_rng(0)
    for n in (1, 3) if np.prod(size) < 20 else (2,):
        x, w, g = (
            rng.standard_normal(s).astype(dtype)
            for s in (
                (n, *size, each * groups),
                (*window, each, outs * groups),
                (n, *counts, outs * groups),
            )
        )
        cases = [
            (lambda x, w, g: conv_p(x, w, **p), (x, w, g)),
            (lambda x, w, g: conv_input_p(g, w, size=size, **p), (x, w, g)),
            (lambda x, w, g: conv_kernel_p(x, g, size=window, **p), (x, w, g)),
        ]
        wants = sums(g, x, w, counts, p)
        bounds = sums(abs(g), abs(x), abs(w), counts, p)
        terms = max(np.prod(window) * each, np.prod(window) * outs, n * np.prod(counts))
        for (f, args), want, bound in zip(cases, wants, bounds, strict=True):
            results = run_all(f, *args)
            for got in results:
                assert got.dtype == dtype
                assert got.tobytes() == results[0].tobytes()  # whatever the number of threads
                # a sum of so many terms in another order
                assert np.all(abs(got - want) <= (terms + 4) * np.finfo(dtype).eps * bound)
            alone = each == outs == 1 and set(p["stride"]) != {1}
            assert "host" not in kinds_of(f, *args) or (alone and f is cases[1][0])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_windows_of_length_one_are_one_product(dtype):
    rng = np.random.default_rng(1)
    p = {"stride": (1, 1), "padding": ((0, 0),) * 2, "dilation": (1, 1), "groups": 1}
    x, w, g = (
        rng.standard_normal(s).astype(dtype) for s in ((2, 4, 5, 6), (1, 1, 6, 7), (2, 4, 5, 7))
    )
    for f in (
        lambda x, w, g: conv_p(x, w, **p),
        lambda x, w, g: conv_input_p(g, w, size=(4, 5), **p),
        lambda x, w, g: conv_kernel_p(x, g, size=(1, 1), **p),
    ):
        want = f(x, w, g)
        for got in run_all(f, x, w, g):
            assert got.shape == want.shape
            np.testing.assert_allclose(
                got, want, rtol=0, atol=60 * np.finfo(dtype).eps * np.max(abs(want))
            )
        assert set(kinds_of(f, x, w, g)) <= {"gemm", "copy"}


def test_empty_batches():
    p = {"stride": (1,), "padding": ((0, 0),), "dilation": (1,), "groups": 1}
    x, w, g = np.ones((0, 5, 2)), np.ones((3, 2, 4)), np.ones((0, 3, 4))
    for f in (
        lambda x, w, g: conv_p(x, w, **p),
        lambda x, w, g: conv_input_p(g, w, size=(5,), **p),
        lambda x, w, g: conv_kernel_p(x, g, size=(3,), **p),
    ):
        for got in run_all(f, x, w, g):
            np.testing.assert_array_equal(got, f(x, w, g))
        assert "host" not in kinds_of(f, x, w, g)


def test_nan_stays_where_its_windows_are():
    p = {"stride": (1,), "padding": ((1, 1),), "dilation": (1,), "groups": 1}
    x, w = np.ones((2, 8, 3)), np.ones((3, 3, 4))
    x[1, 3, 0] = np.nan
    for got in run_all(lambda x, w: conv_p(x, w, **p), x, w):
        np.testing.assert_array_equal(
            np.isnan(got[1, :, 0]), [False, False, True, True, True, False, False, False]
        )
        assert not np.isnan(got[0]).any()


def test_a_network_with_its_derivatives():
    rng = np.random.default_rng(2)
    x, w, v = (rng.standard_normal(s) for s in ((3, 9, 8, 2), (3, 3, 2, 5), (2, 2, 5, 4)))
    one = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    two = {**one, "stride": (2, 2), "padding": ((0, 0), (0, 0))}

    def loss(w, v, x):
        return np.sum(np.tanh(conv_p(np.tanh(conv_p(x, w, **one)), v, **two)) ** 2)

    for f in (
        nm.grad(loss, (0, 1, 2)),
        lambda w, v, x: nm.jvp(lambda w: nm.grad(loss, 1)(w, v, x), (w,), (w + 1,)),
        nm.vmap(nm.grad(lambda w, v, x: loss(w, v, x[None])), (None, None, 0)),
    ):
        want = f(w, v, x)
        for got in run_all(f, w, v, x):
            for a, b in zip(flat(got), flat(want), strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.max(abs(b)))
        python = {s.note for s in lowered(f, w, v, x).steps if s.kind == "host"}
        assert not {"conv", "conv_input", "conv_kernel"} & python


def flat(x):
    return (
        list(itertools.chain.from_iterable(map(flat, x))) if isinstance(x, (tuple, list)) else [x]
    )
