"""Trees: in a dataclass the arrays are leaves and the rest is structure."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core._ext._tree import flatten, flatten_like, unflatten
from nnmath_core.errors import DtypeError, TreeError


@dataclasses.dataclass(frozen=True)
class Field:
    """A dataclass of one field that may hold anything."""

    held: Any


@dataclasses.dataclass(frozen=True)
class Layer:
    w: Any
    slope: Any = 0.25
    steps: int = 2
    name: str = "layer"
    f: Any = np.tanh
    bias: Any = None
    marked: Any = dataclasses.field(default=1.0, metadata={"static": True})


class Pair(NamedTuple):
    first: Any
    second: Any


STATIC = [
    0.5, 3, True, "text", None, 1j, math.nan, np.sin, len, float, np.float64, np.dtype("f4"), (3, 3), [], {}, ["a"],
    {"k": 3}, (1, (2, "x")),
]  # fmt: skip
CHILDREN = [
    (np.ones(2), 1), (np.array(0.5), 1), (np.float64(0.5), 1), (np.float32(0.5), 1), (np.arange(3), 1),
    ([0.5, 0.25], 2), ((np.ones(2), 3), 2), ({"a": 1.0, "b": None}, 1), (Pair(1.0, "x"), 2), (Field(np.ones(2)), 1),
    (Field(0.5), 0), ([Field(np.ones(2)), Field(1.0)], 1),
]  # fmt: skip


@pytest.mark.parametrize("value", STATIC, ids=repr)
def test_what_holds_no_array_belongs_to_the_structure(value):
    leaves, treedef = flatten(Field(value))
    assert leaves == []
    assert treedef.static_fields[0][1] is value
    again = unflatten(treedef, [])
    assert again.held is value
    assert flatten(again)[1] == treedef
    assert hash(flatten(again)[1]) == hash(treedef)
    assert flatten_like(again, treedef) == []


@pytest.mark.parametrize(("value", "leaves"), CHILDREN, ids=repr)
def test_arrays_dataclasses_and_containers_of_them_are_children(value, leaves):
    found, treedef = flatten(Field(value))
    assert len(found) == leaves
    assert treedef.static_fields == ()
    assert type(unflatten(treedef, found).held) is type(value)


def test_a_traced_field_is_a_leaf():
    seen = []
    nm.grad(lambda x: seen.append(flatten(Layer(w=x, slope=x))) or x)(2.0)
    nm.vmap(lambda x: seen.append(flatten(Layer(w=x, slope=x))) or x)(np.ones(2))
    for leaves, treedef in seen:
        assert len(leaves) == 2
        assert treedef.keys == ("w", "slope")


def test_a_float_in_a_field_gets_no_gradient_and_is_not_trained():
    def loss(layer):
        return layer.slope * np.sum(layer.f(layer.w)) + layer.marked

    layer = Layer(w=np.array([0.5, -1.0]))
    g = nm.grad(loss)(layer)
    assert (g.slope, g.steps, g.name, g.f, g.bias) == (0.25, 2, "layer", np.tanh, None)
    np.testing.assert_allclose(g.w, 0.25 / np.cosh(layer.w) ** 2, rtol=8 * np.finfo(float).eps)
    opt = nm.optim.adam(0.1)
    new, _ = opt.step(layer, g, opt.init(layer))
    assert new.slope == 0.25
    assert not np.array_equal(new.w, layer.w)


def test_a_numpy_float_in_a_field_is_trained():
    g = nm.grad(lambda layer: layer.slope * np.sum(layer.w))(
        Layer(w=np.array([1.0, 2.0]), slope=np.float64(0.25))
    )
    assert g.slope == 3.0
    np.testing.assert_array_equal(g.w, [0.25, 0.25])


@pytest.mark.parametrize(
    ("a", "b"),
    [(0.5, 0.25), (1, 1.0), (1, True), (0, False), ("a", "b"), (None, 0.0), (np.sin, np.cos), (0.5, np.float64(0.5)),
     (2.0, np.array(2.0)), ([1], (1,))],
)  # fmt: skip
def test_other_static_values_are_another_structure(a, b):
    one, other = flatten(Field(a))[1], flatten(Field(b))[1]
    assert one != other
    assert flatten_like(Field(b), one) is None
    with pytest.raises(TreeError) as caught:
        nm.tree_map(lambda x, y: x, [Field(a), np.ones(2)], [Field(b), np.ones(2)])
    first, _, got = str(caught.value).partition(", got ")
    assert "Field(held=" in first
    assert "Field(held=" in got
    assert first.rpartition("[")[2] != got.rpartition("[")[2]


def test_messages_show_static_values_in_the_order_of_the_fields():
    shown = repr(flatten(Layer(w=np.ones(2)))[1])
    assert shown == (
        "TreeDef(Layer(w=*, slope=0.25, steps=2, name='layer', f=tanh, bias=None, marked=1.0))"
    )


def test_hashes_tell_static_values_apart():
    structures = {flatten(nm.optim.adam(rate))[1] for rate in np.linspace(0.1, 1.0, 50).tolist()}
    assert len(structures) == 50
    assert len({hash(d) for d in structures}) > 45  # equal hashes would make the set a list
    assert hash(flatten(Field([1]))[1]) == hash(flatten(Field([1]))[1])


@pytest.mark.parametrize("tree", [Field(0.5), [Field(0.5)], {"a": Field(0.5), "b": Field("x")}])
@pytest.mark.parametrize(
    "door",
    [
        lambda f, x: nm.grad(f)(x),
        lambda f, x: nm.grad(f, argnums=(0,))(x),
        lambda f, x: nm.vjp(f, x),
        lambda f, x: nm.jvp(f, (x,), (x,)),
        lambda f, x: nm.hvp(f, (x,), (x,)),
        lambda f, x: nm.jacrev(f)(x),
        lambda f, x: nm.jacfwd(f)(x),
        lambda f, x: nm.hessian(f)(x),
    ],
)
def test_a_dataclass_of_nothing_but_floats_is_refused(door, tree):
    with pytest.raises(DtypeError, match=r"no array to differentiate.*held is a constant"):
        door(lambda x: 1.0, tree)


def test_an_empty_tree_has_an_empty_gradient():
    assert nm.grad(lambda x: 1.0)({}) == {}
    assert nm.grad(lambda x: 1.0)(Field("x")) == Field("x")


def test_cotangents_and_tangents_may_hold_floats_where_arrays_were():
    y, pull = nm.vjp(lambda x: Field(np.sum(x**2)), np.array([1.0, 2.0]))
    np.testing.assert_array_equal(pull(Field(1.0))[0], [2.0, 4.0])
    assert y.held == 5.0
    at, along = Field(np.float64(3.0)), Field(1.0)
    assert nm.jvp(lambda p: p.held**2, (at,), (along,))[1] == 6.0
    assert nm.tree_map(lambda a, b: a + b, at, along).held == 4.0


def test_staging_and_mapping_keep_static_values():
    layer = Layer(w=np.array([1.0, 2.0]))
    f = lambda p, x: p.slope * (p.w * x)  # noqa: E731
    program = nm.stage(f, layer, 3.0)
    np.testing.assert_array_equal(program(layer, 3.0), [0.75, 1.5])
    with pytest.raises(TreeError, match=r"slope=0\.5"):
        program(dataclasses.replace(layer, slope=0.5), 3.0)
    stacked = Layer(w=np.ones((3, 2)))
    assert nm.vmap(f, in_axes=(0, None))(stacked, 3.0).shape == (3, 2)
    mapped = nm.vmap(lambda p: dataclasses.replace(p, w=2.0 * p.w))(stacked)
    assert mapped.slope == 0.25
    np.testing.assert_array_equal(mapped.w, 2.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    size: Any = 2


@pytest.mark.parametrize(
    ("make", "other"),
    [
        (lambda: (Step(), Step(3)), lambda: (Step(), Step(4))),
        (lambda: [Step((1, 2))], lambda: [Step((2, 2))]),
        (lambda: (Step(), None), lambda: (Step(),)),
        (
            lambda: functools.partial(nm.nn.leaky_relu, negative_slope=0.2),
            lambda: functools.partial(nm.nn.leaky_relu, negative_slope=0.3),
        ),
        (
            lambda: (Step(functools.partial(np.clip, a_min=0.0, a_max=1)),),
            lambda: (Step(functools.partial(np.clip, a_min=0.0, a_max=1.0)),),
        ),
    ],
)
def test_static_values_that_are_made_alike_are_one_structure(make, other):
    one, again = flatten(Field(make()))[1], flatten(Field(make()))[1]
    assert one == again
    assert hash(one) == hash(again)
    assert flatten_like(Field(make()), one) == []
    assert one != flatten(Field(other()))[1]


def test_lambdas_are_compared_by_identity():
    def make(n):
        return (Step(lambda x: x * n),)

    assert flatten(Field(make(1)))[1] != flatten(Field(make(1)))[1]
    assert flatten(Field(one := make(1)))[1] == flatten(Field(one))[1]
    trees = [nm.nn.Sequential([nm.nn.BatchNorm.init(2), lambda x: x]) for _ in range(2)]
    with pytest.raises(TreeError, match="read alike, and hold different objects, such as two lamb"):
        nm.tree_map(lambda a, b: a + b, *trees)


def test_static_values_without_an_end_are_no_structure_in_common():
    def loop():
        step = Step()
        object.__setattr__(step, "size", (step,))
        return Layer(w=np.ones(2), marked=step)

    one, other = flatten(loop())[1], flatten(loop())[1]
    assert one != other
    assert hash(one) == hash(other)  # of what is compared to the same depth


def test_a_model_goes_on_after_loading_with_layers_that_have_no_arrays(tmp_path):
    def make(seed):
        inner = nm.nn.Sequential([nm.nn.relu, nm.nn.MaxPool2d(2), nm.nn.Dropout(0.1)])
        slope = functools.partial(nm.nn.leaky_relu, negative_slope=0.2)
        conv = nm.nn.Conv2d.init((1, 2), 3, rng=seed)
        return nm.nn.Sequential([conv, slope, inner, nm.nn.Flatten()])

    model, optimizer = make(0), nm.optim.adam(0.1)
    state = optimizer.init(model)
    stacked = nm.tree_map(lambda *leaves: np.stack(leaves), make(0), make(1))
    assert stacked[0].bias.shape == (2, 2)
    program = nm.stage(lambda m: m(np.ones((1, 4, 4, 1))), model)
    assert np.array_equal(program(make(1)), make(1)(np.ones((1, 4, 4, 1))))

    plain = nm.nn.Sequential([model[0], model[2], model[3]])
    state = optimizer.init(plain)
    nm.save(tmp_path / "state.npz", {"model": plain, "state": state})
    found = nm.load(tmp_path / "state.npz")
    grads = nm.grad(lambda m: m(np.ones((1, 4, 4, 1))).sum())(found["model"])
    after, _ = optimizer.step(found["model"], grads, found["state"])
    want, _ = optimizer.step(plain, grads, state)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(nm.tree_leaves(after), nm.tree_leaves(want), strict=True)
    )
