"""Turning, splitting, joining, inserting, padding, spacing: NumPy's values, and derivatives in every transformation.

All of these functions select entries or are smooth in them, so that both modes are compared with central differences
by `check_grads`, `vmap` with one call after the other, and a staged program with the call itself.
"""

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.autodiff.ops import join
from nnmath_core.errors import DomainError, DtypeError, TraceError

EPS = np.finfo(float).eps
X = np.random.default_rng(4).standard_normal((3, 4))
windows = np.lib.stride_tricks.sliding_window_view
ones = np.ones

CALLS = {
    "rot90": lambda x: np.rot90(x),
    "rot90 twice": lambda x: np.rot90(x, 2),
    "rot90 back": lambda x: np.rot90(x, -1, (1, 0)),
    "rot90 around": lambda x: np.rot90(x, 4),
    "rollaxis": lambda x: np.rollaxis(x, 1),
    "rollaxis to": lambda x: np.rollaxis(x[None], -2, 3),
    "rollaxis stays": lambda x: np.rollaxis(x, 0, 1),
    "hsplit": lambda x: np.hsplit(x, 2),
    "hsplit vector": lambda x: np.hsplit(x[0], [1, 3]),
    "vsplit": lambda x: np.vsplit(x, [1]),
    "dsplit": lambda x: np.dsplit(x[:, :, None] * ones(4), 2),
    "append flat": lambda x: np.append(x, x[0]),
    "append axis": lambda x: np.append(x, x[:1], 0),
    "block nested": lambda x: np.block([[x, x], [x[:2], 2 * x[:2]]]),
    "block row": lambda x: np.block([x, x]),
    "block alone": lambda x: np.block(x),
    "block of vectors": lambda x: np.block([[x[0]], [x[1]]]),
    "block of numbers": lambda x: np.block([[x[0, 0], 2.0], [1.0, x[1, 1]]]),
    "insert": lambda x: np.insert(x, 1, x[0], axis=0),
    "insert columns": lambda x: np.insert(x, [1, 3], x[:, :2], axis=1),
    "insert one": lambda x: np.insert(x, [1], x[:, :1], axis=1),
    "insert flat": lambda x: np.insert(x, [0, 2, 2], 5.0),
    "insert at a slice": lambda x: np.insert(x, slice(0, 3), x[:, :1], 1),
    "insert at a mask": lambda x: np.insert(x[0], np.array([True, False, True, False]), x[1, :2]),
    "insert into a constant": lambda x: np.insert(np.arange(4.0), 2, x[0]),
    "delete": lambda x: np.delete(x, 1, 0),
    "delete flat": lambda x: np.delete(x, [0, 5, -1]),
    "delete slice": lambda x: np.delete(x, slice(None, None, 2), -1),
    "delete mask": lambda x: np.delete(x, [True, False, True, False], 1),
    "resize": lambda x: np.resize(x, (5, 4)),
    "resize smaller": lambda x: np.resize(x, 7),
    "resize empty": lambda x: np.resize(x[:0], (2, 2)) + x[0, 0],
    "diagflat": lambda x: np.diagflat(x, 1),
    "diagflat below": lambda x: np.diagflat(x[0], -1),
    "windows": lambda x: windows(x, 2, 1),
    "windows of all axes": lambda x: windows(x, (2, 3)),
    "windows twice": lambda x: windows(x, (2, 2), (1, 1)),
    "windows of no axis": lambda x: windows(x, (), ()),
    "meshgrid": lambda x: np.meshgrid(x[0], x[:, 0]),
    "meshgrid ij": lambda x: np.meshgrid(x[0], x[:, 0], x[1], indexing="ij"),
    "meshgrid sparse": lambda x: np.meshgrid(x[0], x[:, 0], sparse=True),
    "meshgrid views": lambda x: np.meshgrid(x[0], x[:, 0], copy=False),
    "meshgrid of one": lambda x: np.meshgrid(x[0]),
    "meshgrid of a number": lambda x: np.meshgrid(x[0, 0], x[0]),
    "ix_": lambda x: np.ix_(x[0], x[:, 1]),
    "apply_along_axis": lambda x: np.apply_along_axis(lambda r: r * r[0], 0, x),
    "apply_along_axis to numbers": lambda x: np.apply_along_axis(
        lambda r, k: (r**k).sum(), 1, x, 2
    ),
    "apply_along_axis to matrices": lambda x: np.apply_along_axis(np.diag, -1, x),
    "apply_over_axes": lambda x: np.apply_over_axes(np.sum, x, (0, 1)),
    "roll of several axes": lambda x: np.roll(x, (1, -2), (0, 1)),
    "roll twice": lambda x: np.roll(x, (1, 2), (1, 1)),
    "roll flat by two": lambda x: np.roll(x, (1, 2)),
    "roll axes by one": lambda x: np.roll(x, 1, (0, 1)),
    "repeat counts": lambda x: np.repeat(x, np.array([2, 0, 3]), axis=0),
    "reshape copy": lambda x: np.reshape(x, (2, 6), copy=True),
    "reshape method copy": lambda x: x.reshape(2, 6, copy=True),
    "expand_dims list": lambda x: np.expand_dims(x, [0, 2]),
    "size of axes": lambda x: x * np.size(x, 1),
    "linspace": lambda x: np.linspace(x[0], x[1], 5),
    "linspace open": lambda x: np.linspace(x[0], 3.0, 4, endpoint=False, axis=-1),
    "linspace of one": lambda x: np.linspace(x[0, 0], 2, 1),
    "linspace of none": lambda x: np.linspace(x[0, 0], 2, 0),
    "linspace step": lambda x: np.linspace(x[0], x[1], 5, retstep=True),
    "linspace step of one": lambda x: np.linspace(x[0], x[1], 1, endpoint=False, retstep=True),
    "linspace of integers": lambda x: np.linspace(0, 7 + x[0], 4, dtype=int) * 1.0,
    "logspace": lambda x: np.logspace(x[0], x[1], 4),
    "logspace base": lambda x: np.logspace(x[0], x[1], 3, base=2.0, axis=1),
    "logspace bases": lambda x: np.logspace(x[0], x[1], 3, base=np.array([2.0, 3, 4, 5])),
    "logspace traced base": lambda x: np.logspace(0.0, 1.0, 3, base=np.exp(x[0])),
    "geomspace": lambda x: np.geomspace(np.exp(x[0]), np.exp(x[1]), 5),
    "geomspace negative": lambda x: np.geomspace(-np.exp(x[0]), -5.0, 4, endpoint=False, axis=1),
    "geomspace complex": lambda x: np.geomspace(np.exp(1j * x[0]), 2j, 4).real,
    "full_like": lambda x: nm.numpy.full_like(X, x[0, 0]),
    "copy": lambda x: np.copy(x),
}
if np.lib.NumpyVersion(np.__version__) < "2.1.0":  # without these keywords and masks
    for name in ("insert at a mask", "reshape copy", "reshape method copy"):
        del CALLS[name]
WIDTHS = {"1": 1, "pairs": ((2, 1), (0, 3)), "long": ((0, 0), (7, 9)), "none": 0}
if np.lib.NumpyVersion(np.__version__) >= "2.3.0":  # widths by axis
    WIDTHS["dict"] = {0: 2, -1: (1, 3)}
KEYWORDS = {
    "constant": [
        {},
        {"constant_values": ((1, 2), (3, 4))},
        {"constant_values": 2.5},
        {"constant_values": (1, 2)},
    ],
    "edge": [{}],
    "linear_ramp": [{}, {"end_values": ((1, 2), (3, 4))}, {"end_values": 2.5}],
    **{
        mode: [{}, {"stat_length": 2}, {"stat_length": ((1, 2), (3, 9))}]
        for mode in ("maximum", "mean", "median", "minimum")
    },
    "reflect": [{}, {"reflect_type": "odd"}],
    "symmetric": [{}, {"reflect_type": "odd"}],
    "wrap": [{}],
}
PADS = {
    f"{mode} {width} {k}": lambda x, mode=mode, width=width, k=k: np.pad(
        x, WIDTHS[width], mode, **KEYWORDS[mode][k]
    )
    for mode, options in KEYWORDS.items()
    for width in WIDTHS
    for k in range(len(options))
}
PADS["traced constant"] = lambda x: np.pad(x, 1, constant_values=x[0, 0])
PADS["traced ends"] = lambda x: np.pad(x, 2, "linear_ramp", end_values=x[1, 1])
ALL = {**CALLS, **{f"pad {name}": f for name, f in PADS.items()}}


def leaves(y):
    return list(y) if isinstance(y, (tuple, list)) else [y]


def same(got, want, tol=0.0):
    """Of one shape and dtype; compositions may round a sum or a power otherwise, by a few units."""
    assert len(leaves(got)) == len(leaves(want))
    for a, b in zip(leaves(got), leaves(want), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=tol, atol=tol)


@pytest.mark.parametrize("name", ALL)
def test_function_has_numpys_values_and_derivatives(name):
    f = ALL[name]
    want = f(X)
    value, pull = nm.vjp(f, X)
    same(value, want, 64 * EPS)
    nm.check_grads(
        lambda x: sum(np.sum(np.sin(y) * (k + 1)) for k, y in enumerate(leaves(f(x)))), (X,)
    )
    pulled = pull(value)[0]
    assert pulled.shape == X.shape


@pytest.mark.parametrize("name", ALL)
def test_function_maps_over_batches(name):
    f = ALL[name]
    batch = np.stack([X, 2 * X + 1])
    if name == "geomspace complex":
        batch = np.stack([X, X + 0.1])  # another turn would be another branch
    got = leaves(nm.vmap(f)(batch))
    for k in range(2):
        same([y[k] for y in got], leaves(f(batch[k])), 64 * EPS)


@pytest.mark.parametrize("name", ALL)
def test_function_is_staged(name):
    program = nm.stage(ALL[name], X)
    same(program(2 * X), ALL[name](2 * X), 64 * EPS)


@pytest.mark.parametrize("name", ALL)
def test_function_keeps_float32(name):
    f, x = ALL[name], X.astype(np.float32)
    want = f(x)
    value, pull = nm.vjp(f, x)
    assert [np.asarray(v).dtype for v in leaves(value)] == [
        np.asarray(v).dtype for v in leaves(want)
    ]
    assert pull(value)[0].dtype == np.float32


@pytest.mark.parametrize("n", range(2, 6))
@pytest.mark.parametrize("mode", ["reflect", "symmetric"])
def test_odd_reflection_of_any_width_is_numpys(n, mode):
    x = np.random.default_rng(n).standard_normal(n)
    for before in range(0, 14):
        for after in (0, 3, 11):
            f = lambda x: np.pad(x, (before, after), mode, reflect_type="odd")  # noqa: B023, E731
            # up to 14 reflections, each the double of an entry less another
            np.testing.assert_allclose(
                nm.vjp(f, x)[0], f(x), rtol=0, atol=64 * EPS * np.max(np.abs(f(x)))
            )


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
@pytest.mark.parametrize("mode", [*KEYWORDS, "empty"])
def test_padding_integers_rounds_as_numpy_does(mode, dtype):
    """Integers are traced by vmap alone."""
    x = np.array([[3, 7, 1, 4], [9, 2, 2, 6]], dtype)
    got = nm.vmap(lambda x: np.pad(x, (3, 2), mode))(x)
    want = np.stack([np.pad(row, (3, 2), mode) for row in x])
    assert got.dtype == dtype
    assert np.array_equal(got if mode != "empty" else got[:, 3:7], want if mode != "empty" else x)


def test_grids_of_indices_follow_a_traced_index():
    i = np.array([[0, 5, 11], [7, 3, 2]])
    for order in ("C", "F"):
        got = nm.vmap(lambda i: np.unravel_index(i, (3, 4), order))(i)  # noqa: B023
        want = np.unravel_index(i, (3, 4), order)
        assert all(map(np.array_equal, got, want))
        back = nm.vmap(lambda *p: np.ravel_multi_index(p, (3, 4), order=order))(*got)  # noqa: B023
        assert np.array_equal(back, i)
    parts = (np.array([[-1, 4]]), np.array([[5, -2]]))
    for mode in ("wrap", "clip", ("wrap", "clip")):
        got = nm.vmap(lambda a, b: np.ravel_multi_index((a, b), (3, 4), mode))(*parts)  # noqa: B023
        assert np.array_equal(got, np.ravel_multi_index(parts, (3, 4), mode))
    for bad in (
        lambda i: np.unravel_index(i, (2, 2)),
        lambda i: np.ravel_multi_index((i, i), (3, 4)),
    ):
        with pytest.raises(ValueError, match="out of bounds for size"):
            nm.vmap(bad)(i)
    with pytest.raises(TypeError, match="only int indices"):
        nm.vmap(lambda x: np.unravel_index(x, (3, 4)))(X)
    with pytest.raises(TraceError, match='mode="clip"'):
        nm.stage(lambda i: np.unravel_index(i, (3, 4)), i)


def test_index_arrays_come_from_the_shape_alone():
    def f(x):
        for name, args in (
            ("tril_indices_from", (1,)),
            ("triu_indices_from", (-1,)),
            ("diag_indices_from", ()),
        ):
            y = x[:, :3] if name == "diag_indices_from" else x
            got, want = getattr(np, name)(y, *args), getattr(np, name)(np.zeros(y.shape), *args)
            assert all(map(np.array_equal, got, want))
            with pytest.raises(ValueError, match="array"):
                getattr(np, name)(x[0], *args)
        i, j = np.tril_indices_from(x)
        return x[i, j].sum()

    assert np.array_equal(nm.grad(f)(X), np.tril(np.ones((3, 4))))


def test_trimming_zeros_keeps_the_derivatives_of_the_rest():
    x = np.array([0.0, 0.0, 1.0, 0.0, 2.0, 0.0])
    for trim in ("fb", "f", "b", "FB"):
        value, pull = nm.vjp(lambda x: np.trim_zeros(x, trim), x)  # noqa: B023
        assert np.array_equal(value, np.trim_zeros(x, trim))
        rest = pull(np.ones(value.shape))[0]
        assert rest.sum() == value.size
        assert rest[2] == rest[4] == 1
    assert nm.vjp(np.trim_zeros, np.zeros(3))[0].shape == (0,)
    assert nm.vjp(lambda x: nm.numpy.trim_zeros(x, axis=1), np.eye(3)[:, :2])[0].shape == (3, 2)
    with pytest.raises(TraceError, match="trim_zeros needs values"):
        nm.vmap(np.trim_zeros)(x[None])
    with pytest.raises(DomainError, match="`trim` must be one of"):
        nm.grad(lambda x: np.trim_zeros(x, "x").sum())(x)


def test_results_share_no_memory_with_their_operand_where_numpys_do_not():
    def f(x):
        for y in (
            np.append(x, x), np.insert(x, 0, 1.0), np.delete(x, 0), np.resize(x, 3), np.block([x]), np.block(x),
            np.pad(x, 1), np.pad(x, 0, "edge"), np.pad(x, 0, "mean"), np.meshgrid(x[0], x[1])[0], np.roll(x, 0),
            np.apply_along_axis(lambda r: r, 0, x),
        ):  # fmt: skip
            y += 1.0  # of a view this would be an error
        return x.sum()

    assert np.array_equal(nm.grad(f)(X), np.ones(X.shape))


def refused(f, x=X):
    return lambda: nm.grad(lambda x: sum(np.sum(y) for y in leaves(f(x))))(x)


BAD = {
    "rot90 axes": (lambda x: np.rot90(x, 1, (0, 0)), ValueError, "Axes must be different"),
    "rot90 three axes": (lambda x: np.rot90(x, 1, (0, 1, 2)), ValueError, r"len\(axes\) must be 2"),
    "rot90 outside": (lambda x: np.rot90(x, 1, (0, 5)), ValueError, "out of range for array of ndim=2"),
    "rollaxis": (lambda x: np.rollaxis(x, 2), np.exceptions.AxisError, "rollaxis: axis 2 is out of bounds"),
    "rollaxis start": (lambda x: np.rollaxis(x, 0, 4), np.exceptions.AxisError, "'start' arg requires"),
    "hsplit": (lambda x: np.hsplit(x, 3), ValueError, "equal division"),
    "vsplit vector": (lambda x: np.vsplit(x[0], 2), ValueError, "vsplit only works on arrays of 2 or more"),
    "dsplit": (lambda x: np.dsplit(x, 2), ValueError, "dsplit only works on arrays of 3 or more"),
    "block tuple": (lambda x: np.block((x, x)), TypeError, "arrays is a tuple"),
    "block empty": (lambda x: np.block([[x], []]), ValueError, r"List at arrays\[1\] cannot be empty"),
    "block depths": (lambda x: np.block([[x], x]), ValueError, "List depths are mismatched"),
    "block shapes": (lambda x: np.block([x, x[:2]]), ValueError, "must agree except along"),
    "append": (lambda x: np.append(x, x[0], 0), ValueError, "must agree except along"),
    "insert outside": (lambda x: np.insert(x, 9, 1.0, 0), IndexError, "out of bounds"),
    "insert shape": (lambda x: np.insert(x, 1, x[:, :2], 0), ValueError, "broadcast"),
    "insert complex": (lambda x: np.insert(x, 0, 1j), TypeError, "complex values do not fit"),
    "delete outside": (lambda x: np.delete(x, 9, 0), IndexError, "out of bounds"),
    "resize negative": (lambda x: np.resize(x, -1), ValueError, "non-negative|negative"),
    "windows": (lambda x: windows(x, 5, 0), ValueError, "cannot be larger than input"),
    "windows count": (lambda x: windows(x, (2, 2), 0), ValueError, "matching length window_shape"),
    "windows axes": (lambda x: windows(x, 2), ValueError, "Since axis is None"),
    "windows negative": (lambda x: windows(x, (-1, 1)), ValueError, "cannot contain negative"),
    "meshgrid": (lambda x: np.meshgrid(x[0], indexing="xx"), DomainError, "`indexing` must be one of 'xy', 'ij'"),
    "ix_": (lambda x: np.ix_(x), ValueError, "Cross index must be 1 dimensional"),
    "roll": (lambda x: np.roll(x, 1, 2), np.exceptions.AxisError, "roll: axis 2 is out of bounds"),
    "roll pairs": (lambda x: np.roll(x, (1, 2, 3), (0, 1)), ValueError, "broadcast|shape mismatch"),
    "linspace": (lambda x: np.linspace(x, 1, -1), ValueError, "must be non-negative"),
    "linspace count": (lambda x: np.linspace(x, 1, 2.5), TypeError, "integer"),
    "geomspace": (lambda x: np.geomspace(0 * x[0], 1), ValueError, "cannot include zero"),
    "pad mode": (lambda x: np.pad(x, 1, "mirror"), DomainError, "pad: `mode` must be one of"),
    "pad function": (lambda x: np.pad(x, 1, lambda *a: None), TraceError, r"np.concatenate\(\[...\]\)"),
    "pad keyword": (lambda x: np.pad(x, 1, "edge", end_values=1), ValueError, "unsupported keyword arguments for mode"),
    "pad negative": (lambda x: np.pad(x, -1), ValueError, "can't contain negative"),
    "pad fraction": (lambda x: np.pad(x, 0.5), TypeError, "must be of integral type"),
    "pad pairs": (lambda x: np.pad(x, ((1, 1),) * 3), ValueError, "broadcast"),
    "pad statistic of none": (lambda x: np.pad(x, 1, "maximum", stat_length=0), ValueError, "stat_length of 0"),
    "pad reflect type": (lambda x: np.pad(x, 1, "reflect", reflect_type="x"), DomainError, "`reflect_type` must be"),
    "pad empty": (lambda x: np.pad(x[:0], 1, "edge"), ValueError, "can't extend empty axis 0"),
    "apply_along_axis": (lambda x: np.apply_along_axis(np.sum, 1, x[:0]), ValueError, "dimensions are 0"),
    "apply_over_axes": (lambda x: np.apply_over_axes(lambda a, i: a[0, 0], x, 0), ValueError, "correct shape"),
    "astype object": (lambda x: x.astype(object), DtypeError, "must be a type of numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_numpys_error_or_a_clear_one(name):
    f, error, text = BAD[name]
    with pytest.raises(error, match=text):
        refused(f)()


@pytest.mark.parametrize("f", [np.delete, lambda a, i: np.insert(a, i, 0.0)])
def test_positions_that_are_traced_numbers_are_refused(f):
    a = np.arange(4.0)
    with pytest.raises(DtypeError, match="`obj` must be integers, got a traced array of float64"):
        nm.grad(lambda x: f(a, x).sum())(1.0)
    slope = nm.grad(lambda x: f(a * x, x.astype(int)).sum())(1.0)  # an integer has its value
    assert slope == f(a, 1).sum()


def test_derivative_of_many_joined_arrays_costs_no_sum_for_each(monkeypatch):
    counted = []
    starts = join._starts
    monkeypatch.setattr(
        join, "_starts", lambda xs, axis: counted.append(starts(xs, axis)) or counted[-1]
    )
    g = nm.grad(lambda x: np.concatenate([x[:1], x[1:3], x[3:], x[:2]]) @ np.arange(6.0))(
        np.ones(4)
    )
    assert g.tolist() == [4.0, 6.0, 2.0, 3.0]
    assert counted[0] == [0, 1, 3, 4, 6]
    assert all(found is counted[0] for found in counted)  # one list for all four
