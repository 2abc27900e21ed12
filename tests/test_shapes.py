"""Shape contracts: what they accept, what they refuse and in which words, and what they cost."""

import dataclasses
import sys
import threading

import numpy as np
import pytest
import scipy.sparse

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError, TreeError


def ones(*shape, dtype=float):
    return np.ones(shape, dtype)


@nm.shapes("b i, i o, o -> b o")
def dense(x, w, b=None):
    y = x @ w
    return y if b is None else y + b


@dataclasses.dataclass(frozen=True)
class Layer:
    weight: np.ndarray
    bias: np.ndarray | None = None

    @nm.shapes("x: ... i, self.weight: i o, self.bias: o -> ... o")
    def __call__(self, x):
        y = x @ self.weight
        return y if self.bias is None else y + self.bias

    @nm.shapes("b i -> b")
    def norms(self, x):
        return np.sqrt((x * x).sum(axis=1))

    @classmethod
    @nm.shapes("i o")
    def of(cls, weight):
        return cls(weight)

    @staticmethod
    @nm.shapes("i, i")
    def inner(a, b):
        return a @ b


def says(error, text, f, *args, **kw):
    with pytest.raises(error) as raised:
        f(*args, **kw)
    assert str(raised.value) == text


# ------------------------------------------------------------------------------------------- accepted
ACCEPTED = {
    "names": ("b i, i o -> b o", lambda x, w: x @ w, (ones(2, 3), ones(3, 5))),
    "no results checked": ("b i", lambda x: None, (ones(2, 3),)),
    "results alone": ("-> b 3", lambda x: x, (ones(2, 3),)),
    "a number": ("b 3 -> b", lambda x: x.sum(axis=1), (ones(2, 3),)),
    "anything": ("_ _ i -> i", lambda x: x[0, 0], (ones(2, 3, 4),)),
    "leading axes": ("... i -> ...", lambda x: x.sum(axis=-1), (ones(2, 3, 4),)),
    "no leading axes": ("... i -> ...", lambda x: x.sum(axis=-1), (ones(4),)),
    "axes in the middle": ("b ... i -> b i", lambda x: x.sum(axis=(1, 2)), (ones(2, 3, 4, 5),)),
    "groups by name": ("*n i, *m i -> *n i", lambda x, y: x, (ones(2, 3), ones(4, 5, 3))),
    "a group that is not compared": ("b *_, b *_", lambda x, y: x, (ones(2, 3), ones(2, 4, 5))),
    "no axes": ("b -> ()", lambda x: x.sum(), (ones(3),)),
    "no axes as in einsum": ("b ->", lambda x: x.sum(), (ones(3),)),
    "a float has no axes": ("b, () -> b", lambda x, a: a * x, (ones(3), 2.0)),
    "an int has no axes": ("b, () -> b", lambda x, a: a * x, (ones(3), 2)),
    "several results": ("b i -> b, i", lambda x: (x[:, 0], x[0]), (ones(2, 3),)),
    "a list of results": ("b i -> b, i", lambda x: [x[:, 0], x[0]], (ones(2, 3),)),
    "parts of a result": ("b i -> ['m']: b", lambda x: {"m": x[:, 0]}, (ones(2, 3),)),
    "attributes of a result": ("b i -> .real: b i", lambda x: x + 1j, (ones(2, 3),)),
    "a tree": ("b *_ -> b", lambda t: t["y"], ({"x": ones(2, 3), "y": ones(2)},)),
    "a list of floats is a tree": ("()", lambda t: t, ([1.0, 2.0],)),
    "an empty list": ("b", lambda t: t, ([],)),
    "twice": ("2*i -> i", lambda x: x[::2], (ones(6),)),
    "one more": ("i+1 -> i", np.diff, (ones(6),)),
    "one less": ("i-1 -> i", lambda x: np.append(x, 1.0), (ones(6),)),
    "known before": ("i, 2*i+1", lambda x, y: x, (ones(3), ones(7))),
    "known from an expression": ("2*i+1, i", lambda x, y: x, (ones(7), ones(3))),
    "an empty axis": ("b i, i -> b", lambda x, y: x @ y, (ones(0, 0), ones(0))),
    "a square": ("n n", lambda x: x, (ones(3, 3),)),
    "spaces": ("  b   i ,i  o->b o ", lambda x, w: x @ w, (ones(2, 3), ones(3, 5))),
    "names in other alphabets": ("λ i -> λ", lambda x: x[:, 0], (ones(2, 3),)),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_fits_passes(case):
    contract, f, args = ACCEPTED[case]
    checked = nm.shapes(contract)(f)
    for _ in range(2):  # the second time shapes are looked up
        np.testing.assert_equal(checked(*args), f(*args))


def test_arguments_go_by_place_by_name_and_by_default():
    x, w, b = ones(2, 3), ones(3, 5), ones(5)
    for args, kw in [((x, w, b), {}), ((x, w), {"b": b}), ((x,), {"b": b, "w": w}), ((x, w), {})]:
        assert dense(*args, **kw).shape == (2, 5)
    assert dense(x, w, None).shape == (2, 5)

    @nm.shapes("scale: i, x: b i")
    def scaled(x, /, *, scale=np.ones(4)):  # noqa: B008
        return x * scale

    assert scaled(ones(2, 4)).shape == (2, 4)
    says(
        ShapeError,
        "scaled: axis 1 of `x`, `i`, must be 4, the length of axis 0 of `scale` of shape (4,), got 1 in shape (2, 1). "
        'The contract is "scale: i, x: b i".',
        scaled,
        ones(2, 1),
    )


def test_more_arguments_and_keywords():
    @nm.shapes("i, j, i")
    def places(x, *more):
        return x

    assert places(ones(2), ones(3), ones(2)).shape == (2,)
    with pytest.raises(ShapeError, match=r"axis 0 of `args\[1\]`, `i`, must be 2, .* got 3"):
        places(ones(2), ones(3), ones(3))
    assert places(ones(2)).shape == (2,)

    @nm.shapes("more: b *_, known: b, extra: b, kw: b")
    def names(*more, known=None, **kw):
        return len(more)

    assert names(ones(2), ones(2, 3), known=ones(2), extra=ones(2), other=ones(2)) == 2
    with pytest.raises(ShapeError, match=r"axis 0 of `more\[1\]`, `b`, must be 2"):
        names(ones(2), ones(3))
    with pytest.raises(ShapeError, match="axis 0 of `extra`, `b`, must be 2"):
        names(ones(2), extra=ones(3))
    with pytest.raises(ShapeError, match=r"axis 0 of `kw\['other'\]`, `b`, must be 2"):
        names(ones(2), other=ones(3))


def test_parts_of_arguments():
    @nm.shapes("p['w'][0]: i o, p.b: o, x: i -> o")
    def f(p, x):
        return x @ p["w"][0] + p["b"]

    assert f({"w": [ones(2, 3)], "b": ones(3)}, ones(2)).shape == (3,)
    with pytest.raises(
        ShapeError,
        match=r"axis 0 of `p\.b`, `o`, must be 3, the length of axis 1 of `p\['w'\]\[0\]`",
    ):
        f({"w": [ones(2, 3)], "b": ones(2)}, ones(2))
    says(
        TreeError,
        "f: `p['w'][0]` must exist, and a list has no 0.",
        lambda: f({"w": [], "b": 1.0}, ones(2)),
    )
    says(
        TreeError,
        "f: `p.b` must exist, and a dict has no 'b'.",
        lambda: f({"w": [ones(2, 3)]}, ones(2)),
    )


@pytest.mark.parametrize(
    "a",
    [
        scipy.sparse.eye_array(3, format="csr"),
        nm.SparseMatrix(scipy.sparse.eye_array(3, format="csr")),
        nm.LowRank(ones(3, 1), ones(3, 1)),
    ],
    ids=lambda a: type(a).__name__,
)
def test_what_has_a_shape_is_an_array(a):
    f = nm.shapes("m n, n")(lambda a, x: a @ x)
    assert f(a, ones(3)).shape == (3,)
    with pytest.raises(ShapeError, match="axis 0 of `x`, `n`, must be 3"):
        f(a, ones(4))


def test_layers_methods_class_methods_and_static_ones():
    layer = Layer(ones(3, 4), ones(4))
    assert layer(ones(3)).shape == (4,)
    assert layer(ones(5, 2, 3)).shape == (5, 2, 4)
    assert Layer(ones(3, 4))(ones(3)).shape == (4,)  # without a bias
    assert layer.norms(ones(2, 3)).shape == (2,)
    assert Layer.of(ones(2, 2)).weight.shape == (2, 2)
    assert Layer.inner(ones(2), ones(2)) == 2.0
    says(
        ShapeError,
        "Layer: axis 0 of `self.weight`, `i`, must be 2, the length of axis 1 of `x` of shape (5, 2), got 3 in shape "
        '(3, 4). The contract is "x: ... i, self.weight: i o, self.bias: o -> ... o".',
        layer,
        ones(5, 2),
    )
    with pytest.raises(
        ShapeError, match=r"^Layer\.norms: `x` must have 2 axes, `b i`, got shape \(3,\)"
    ):
        layer.norms(ones(3))
    with pytest.raises(ShapeError, match=r"^Layer\.of: `weight` must have 2 axes"):
        Layer.of(ones(2))
    with pytest.raises(ShapeError, match=r"^Layer\.inner: axis 0 of `b`, `i`, must be 2"):
        Layer.inner(ones(2), ones(3))
    applied = nm.shapes("b i -> b o")(Layer(ones(3, 4)))  # an instance is a function, too
    assert applied(ones(2, 3)).shape == (2, 4)
    with pytest.raises(ShapeError, match=r"^Layer: `x` must have 2 axes"):
        applied(ones(3))


# ------------------------------------------------------------------------------------------- refused
REFUSED = {
    "two arguments": (
        "b i, i o -> b o",
        lambda x, w: x,
        (ones(2, 3), ones(4, 5)),
        "axis 0 of `w`, `i`, must be 3, the length of axis 1 of `x` of shape (2, 3), got 4 in shape (4, 5).",
    ),
    "one argument": (
        "n n",
        lambda x: x,
        (ones(2, 3),),
        "axis 1 of `x`, `n`, must be 2, the length of axis 0 of `x`, got 3 in shape (2, 3).",
    ),
    "a result": (
        "b i -> b",
        lambda x: x[0],
        (ones(2, 3),),
        "axis 0 of the result, `b`, must be 2, the length of axis 0 of `x` of shape (2, 3), got 3 in shape (3,).",
    ),
    "the second result": (
        "b i -> i, b",
        lambda x: (x[0], x[0]),
        (ones(2, 3),),
        "axis 0 of result 1, `b`, must be 2, the length of axis 0 of `x` of shape (2, 3), got 3 in shape (3,).",
    ),
    "results among themselves": (
        "-> k, k",
        lambda x: (ones(2), ones(3)),
        (1.0,),
        "axis 0 of result 1, `k`, must be 2, the length of axis 0 of result 0 of shape (2,), got 3 in shape (3,).",
    ),
    "a number": (
        "b 3",
        lambda x: x,
        (ones(2, 4),),
        "axis 1 of `x` must be 3, got 4 in shape (2, 4).",
    ),
    "too many axes": (
        "b i",
        lambda x: x,
        (ones(2, 3, 4),),
        "`x` must have 2 axes, `b i`, got shape (2, 3, 4).",
    ),
    "one axis": ("b", lambda x: x, (1.0,), "`x` must have 1 axis, `b`, got shape ()."),
    "no axes": ("()", lambda x: x, (ones(1),), "`x` must have 0 axes, `()`, got shape (1,)."),
    "too few axes": (
        "b ... i",
        lambda x: x,
        (ones(2),),
        "`x` must have at least 2 axes, `b ... i`, got shape (2,).",
    ),
    "leading axes": (
        "... i -> ...",
        lambda x: x.sum(axis=(0, 2)),
        (ones(2, 3, 4),),
        "`...` of the result must be (2, 3), the leading axes of `x` of shape (2, 3, 4), got (3,) in shape (3,). "
        "Write *_ for axes that are not compared.",
    ),
    "a group": (
        "b *n i, *n",
        lambda x, y: x,
        (ones(2, 3, 4), ones(2)),
        "`*n` of `y` must be (3,), the axes from 1 on of `x` of shape (2, 3, 4), got (2,) in shape (2,). "
        "Write *_ for axes that are not compared.",
    ),
    "an axis after a group": (
        "... i, i",
        lambda x, y: x,
        (ones(2, 3), ones(2)),
        "axis 0 of `y`, `i`, must be 3, the length of axis 1 of `x` of shape (2, 3), got 2 in shape (2,).",
    ),
    "twice": (
        "i, 2*i",
        lambda x, y: x,
        (ones(3), ones(5)),
        "axis 0 of `y`, `2*i`, must be 6, since `i` is 3, from axis 0 of `x` of shape (3,), got 5 in shape (5,).",
    ),
    "from twice": (
        "2*i, i",
        lambda x, y: x,
        (ones(4), ones(3)),
        "axis 0 of `y`, `i`, must be 2, from axis 0, `2*i`, of `x` of shape (4,), got 3 in shape (3,).",
    ),
    "an odd length": (
        "2*i",
        lambda x: x,
        (ones(5),),
        "axis 0 of `x` must be `2*i` for a whole number `i`, got 5 in shape (5,).",
    ),
    "a negative length": (
        "i+3",
        lambda x: x,
        (ones(2),),
        "axis 0 of `x` must be `i+3` for a whole number `i`, got 2 in shape (2,).",
    ),
    "in one entry": (
        "2*i i",
        lambda x: x,
        (ones(4, 3),),
        "axis 1 of `x`, `i`, must be 2, from axis 0, `2*i`, of `x`, got 3 in shape (4, 3).",
    ),
    "a tree": (
        "b *_",
        lambda t: t,
        ({"x": ones(2, 3), "y": ones(3)},),
        "axis 0 of `t['y']`, `b`, must be 2, the length of axis 0 of `t['x']` of shape (2, 3), got 3 in shape (3,).",
    ),
    "a part of a result": (
        "b -> ['m']: b",
        lambda x: {"m": ones(1)},
        (ones(2),),
        "axis 0 of `result['m']`, `b`, must be 2, the length of axis 0 of `x` of shape (2,), got 1 in shape (1,).",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_error_names_function_axis_lengths_and_origin(case):
    contract, f, args, text = REFUSED[case]
    checked = nm.shapes(contract)(f)
    for _ in range(2):
        says(ShapeError, f'<lambda>: {text} The contract is "{contract}".', checked, *args)


def test_how_many_results():
    two = nm.shapes("-> b, b")
    says(
        ShapeError,
        "<lambda>: it must return 2 results, got 3 results.",
        two(lambda: (ones(2),) * 3),
    )
    says(
        ShapeError,
        "<lambda>: it must return 2 results, got float64 array of shape (2,).",
        two(lambda: ones(2)),
    )
    says(
        DtypeError,
        "<lambda>: the result must be an array, got None.",
        nm.shapes("-> b")(lambda: None),
    )
    says(DtypeError, "<lambda>: result 1 must be an array, got None.", two(lambda: (ones(2), None)))


@pytest.mark.parametrize("x", ["text", object(), np.sum, {1.5}])
def test_what_is_no_array_is_said(x):
    with pytest.raises(DtypeError, match=r"^<lambda>: `x` must be an array, got "):
        nm.shapes("b")(lambda x: x)(x)


def test_other_errors_are_those_of_the_function():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'w'"):
        dense(ones(2, 3))
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        dense(ones(2, 3), ones(3, 4), c=1)

    @nm.shapes("b")
    def fails(x):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails(ones(2))


# ------------------------------------------------------------------------------------------- malformed
MALFORMED = {
    "": "must be a text",
    "b,,c": "an entry is empty",
    "b i,": "an entry is empty",
    "b ->,": "an entry is empty",
    "x:": "an entry is empty",
    "a -> b -> c": "one arrow at most",
    "a b: c": "before the colon stands a name",
    "a: b: c": "before the colon stands a name",
    "1x: b": "before the colon stands a name",
    "b 2 * i": "is no group of axes",
    "... ...": "only one of",
    "*n ...": "only one of",
    "*": "is no group of axes",
    "*2": "is no group of axes",
    "**n": "is no group of axes",
    "x: b, i": "after an entry with a name all entries need one",
    "b -> .x: b, i": "after an entry with a name all entries need one",
    "b -> b, .x: i": "by their paths, not both",
    "b -> y: b": "results have no names",
    "[0]: b": "the name of an argument stands before its path",
    "x[y]: b": "in brackets stands a number or a quoted key",
    "x[1.5]: b": "in brackets stands a number or a quoted key",
    "b[0": "is no axis",
    "3i": "is no axis",
    "i**2": "is no axis",
    "i*j": "is no axis",
    "0*i": "is no axis",
    "-1": "is no axis",
    "1.5": "is no axis",
    "2*_": "is no axis",
    "i/2": "is no axis",
    "() b": "is no axis",
    "....": "is no axis",
    "b, b, b": "has 3 entries for arguments, and `<lambda>` takes 2 by position",
    "q: b": "names `q`, and the arguments of `<lambda>` are `x`, `y`",
}


@pytest.mark.parametrize("contract", MALFORMED)
def test_a_malformed_contract_is_refused_when_decorating(contract):
    with pytest.raises(DomainError) as raised:
        nm.shapes(contract)(lambda x, y: x)
    assert MALFORMED[contract] in str(raised.value)
    assert str(raised.value).startswith("shapes: ")


@pytest.mark.parametrize("contract", [None, 3, ["b i"], b"b i"])
def test_a_contract_is_a_text(contract):
    with pytest.raises(DomainError, match=r"^shapes: the contract must be a text"):
        nm.shapes(contract)


@pytest.mark.parametrize(
    ("what", "advice"),
    [
        (staticmethod(len), "Write the contract below @staticmethod."),
        (classmethod(len), "Write the contract below @classmethod."),
        (Layer, "Decorate its `__call__`."),
        (3, "got 3."),
    ],
)
def test_what_cannot_be_decorated(what, advice):
    with pytest.raises(DomainError) as raised:
        nm.shapes("b")(what)
    assert str(raised.value).endswith(advice)


# ------------------------------------------------------------------------------------------- transformations
def test_gradients_go_through_and_both_modes_see_the_shapes():
    x, w, b = (np.random.default_rng(0).standard_normal(s) for s in ((2, 3), (3, 4), 4))

    def loss(w, b):
        return (np.tanh(dense(x, w, b)) ** 2).sum()

    nm.check_grads(loss, (w, b), order=2)
    plain = lambda w, b: (np.tanh(x @ w + b) ** 2).sum()  # noqa: E731
    for ours, theirs in zip(nm.grad(loss, (0, 1))(w, b), nm.grad(plain, (0, 1))(w, b), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ShapeError, match="axis 0 of `w`, `i`, must be 3"):
        nm.grad(loss)(ones(4, 4), b)


def test_under_vmap_the_function_sees_one_example():
    seen = []

    @nm.shapes("i, i o -> o")
    def one(x, w):
        seen.append(x.shape)
        return x @ w

    assert nm.vmap(one, (0, None))(ones(5, 3), ones(3, 4)).shape == (5, 4)
    assert seen == [(3,)]
    with pytest.raises(ShapeError, match=r"axis 0 of `w`, `i`, must be 2"):
        nm.vmap(one, (0, None))(ones(5, 2), ones(3, 4))


def test_while_staging_it_is_checked_once():
    program = nm.stage(dense, ones(2, 3), ones(3, 4))
    assert [e.primitive.name for e in program.equations] == ["contract"]
    assert program(ones(2, 3), ones(3, 4)).shape == (2, 4)
    with pytest.raises(ShapeError, match=r"^dense: "):
        nm.stage(dense, ones(2, 3), ones(4, 4))
    with pytest.raises(ShapeError, match=r"^Layer: "):
        nm.scan(lambda c, x: (Layer(ones(2, 2))(c), None), ones(3), length=4)


def test_a_decorated_layer_is_a_tree_as_before():
    layer = Layer(ones(3, 4), ones(4))
    g = nm.grad(lambda layer: layer(ones(2, 3)).sum())(layer)
    assert type(g) is Layer
    np.testing.assert_array_equal(g.bias, 2.0 * ones(4))


# ------------------------------------------------------------------------------------------- switching off, cost
def test_off_holds_for_this_thread_and_until_the_block_ends():
    f = nm.shapes("b b")(lambda x: x)
    found = []
    with nm.shapes.off():
        assert f(ones(2, 3)).shape == (2, 3)
        with nm.shapes.off():
            f(ones(2, 3))
        f(ones(2, 3))

        def elsewhere():
            try:
                f(ones(2, 3))
            except ShapeError as e:
                found.append(e)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert len(found) == 1
    with pytest.raises(ShapeError):
        f(ones(2, 3))
    with pytest.raises(ZeroDivisionError), nm.shapes.off():
        raise ZeroDivisionError
    with pytest.raises(ShapeError):
        f(ones(2, 3))


def test_it_stays_the_function_it_was():
    assert dense.__name__ == "dense"
    assert dense.__wrapped__.__code__.co_varnames[:3] == ("x", "w", "b")
    contract = nm.shapes("b i")
    assert contract.contract == "b i"
    assert repr(contract) == "shapes('b i')"


def test_shapes_that_have_passed_cost_one_frame():
    args = ones(2, 3), ones(3, 5), ones(5)
    dense(*args)
    calls = []
    sys.setprofile(
        lambda frame, event, arg: calls.append(frame.f_code.co_name) if event == "call" else None
    )
    try:
        dense(*args)
    finally:
        sys.setprofile(None)
    assert calls == ["checked", "dense"]


def test_what_is_remembered_is_bounded_and_right():
    f = nm.shapes("b, b -> b")(lambda x, y: x)
    for n in range(1500):
        assert f(ones(n), ones(n)).shape == (n,)
        with pytest.raises(ShapeError):
            f(ones(n), ones(n + 1))
    known = next(c.cell_contents for c in f.__closure__ if isinstance(c.cell_contents, set))
    assert 0 < len(known) <= 512


def test_remembered_results_belong_to_their_arguments():
    out = {2: ones(2), 3: ones(3)}
    f = nm.shapes("b -> b")(lambda x: out[x.shape[0]])
    f(ones(2))
    f(ones(3))
    out[2] = ones(3)
    with pytest.raises(ShapeError, match="axis 0 of the result, `b`, must be 2"):
        f(ones(2))


# ------------------------------------------------------------------------------------------- assertions inside
def test_sizes():
    sizes = nm.shapes.sizes
    assert sizes("b i, i o", ones(2, 3), ones(3, 5)) == {"b": 2, "i": 3, "o": 5}
    assert sizes("*n i, ... 2*j", ones(2, 3), ones(4)) == {"*n": (2,), "i": 3, "...": (), "j": 2}
    assert sizes("x: b, w: b", ones(2), None) == {"b": 2}
    says(
        ShapeError,
        "shapes.sizes: axis 0 of array 1, `i`, must be 3, the length of axis 1 of array 0 of shape (2, 3), got 4 in "
        'shape (4,). The contract is "b i, i".',
        sizes,
        "b i, i",
        ones(2, 3),
        ones(4),
    )
    with pytest.raises(
        ShapeError, match=r"axis 0 of `w`, `i`, must be 3, the length of axis 1 of `x` of shape"
    ):
        sizes("x: b i, w: i", ones(2, 3), ones(4))
    with pytest.raises(DomainError, match="must have an entry for each of 1 arrays, got 2"):
        sizes("b, b", ones(2))
    with pytest.raises(DomainError, match="no arrow, since there are no results"):
        sizes("b -> b", ones(2))
    with nm.shapes.off(), pytest.raises(ShapeError):
        sizes("b b", ones(2, 3))
    assert nm.vmap(lambda x: x * sizes("i", x)["i"])(ones(5, 3))[0, 0] == 3.0
