"""Convolutions and pooling on device arrays: value, gradient and second order are the host's."""

import numpy as np
import pytest
from test_convolution import GRID, LAYERS

import nnmath_core as nm
from nnmath_core.autodiff.ops import convolutions
from nnmath_core.autodiff.ops.convolutions import conv_input_p, conv_kernel_p, conv_p

DTYPES = [np.float32, np.float64]


def number(m, x):
    return np.sum(np.sin(m(x)))


def close(cp, got, want, dtype):
    assert type(got) is cp.ndarray
    assert got.dtype == want.dtype == dtype
    size = max(1.0, float(np.max(np.abs(want), initial=0.0)))
    # sums of up to some hundred products in another order
    assert np.max(np.abs(cp.asnumpy(got) - want), initial=0.0) <= 256 * np.finfo(dtype).eps * size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_layer_gives_what_it_gives_on_the_host(cp, name, dtype):
    make, shape = LAYERS[name]
    rng = np.random.default_rng(7)
    layer = make(rng, dtype)
    x, v = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    there, tx, tv = nm.to_device((layer, x, v), "cuda:0")
    close(cp, there(tx), layer(x), dtype)
    close(cp, nm.grad(number, argnums=1)(there, tx), nm.grad(number, argnums=1)(layer, x), dtype)
    second = nm.hvp(lambda x: number(layer, x), (x,), (v,))
    close(cp, nm.hvp(lambda x: number(there, x), (tx,), (tv,)), second, dtype)
    if not nm.tree_leaves(layer):
        return
    got, want = (nm.tree_leaves(nm.grad(number)(m, x)) for m, x in ((there, tx), (layer, x)))
    for a, b in zip(got, want, strict=True):
        close(cp, a, b, dtype)
    got, want = (
        nm.tree_leaves(nm.hvp(lambda m, x=x: number(m, x), (m,), (m,)))
        for m, x in ((there, tx), (layer, x))
    )
    for a, b in zip(got, want, strict=True):
        close(cp, a, b, dtype)


@pytest.mark.parametrize("block", [1, 1 << 20])
@pytest.mark.parametrize("case", GRID, ids=range(len(GRID)))
def test_the_three_convolutions_are_those_of_the_host(cp, case, block, monkeypatch):
    size, window, channels, outs, groups, stride, padding, dilation = case
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    rng = np.random.default_rng(5)
    x = rng.standard_normal((3, *size, channels))
    w = rng.standard_normal((*window, channels // groups, outs))
    y = conv_p(x, w, **options)
    g = rng.standard_normal(y.shape)
    want = y, conv_input_p(g, w, size=size, **options), conv_kernel_p(x, g, size=window, **options)
    monkeypatch.setattr(convolutions, "BLOCK", {False: block, True: block})
    x, w, g = nm.to_device((x, w, g), "cuda:0")
    got = (
        conv_p(x, w, **options),
        conv_input_p(g, w, size=size, **options),
        conv_kernel_p(x, g, size=window, **options),
    )
    for a, b in zip(got, want, strict=True):
        close(cp, a, b, np.float64)


def test_entries_in_no_window_are_structural_zeros_here_too(cp):
    x = cp.asarray(np.array([1.0, 4.0, 9.0, 16.0, 0.0])[None, :, None])
    with np.errstate(all="ignore"):
        g = nm.grad(lambda x: nm.nn.max_pool(np.sqrt(x), 2).sum())(x)
    assert cp.asnumpy(g)[0, :, 0].tolist() == [0.0, 0.25, 0.0, 0.125, 0.0]
