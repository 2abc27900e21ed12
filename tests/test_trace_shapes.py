"""nm.trace_shapes: the table of a function's operations, and where it ends when shapes do not fit."""

import inspect
import math

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import DtypeError, ShapeError, TraceError


def ones(*shape, dtype=float):
    return np.ones(shape, dtype)


def line_of(text):
    """``file.py:12`` of the only line of this file with this text; the mark is put together to be found once."""
    source = inspect.getsource(inspect.getmodule(line_of)).splitlines()
    (number,) = [k for k, line in enumerate(source, 1) if line.rstrip().endswith(f"# {text}")]
    return f"test_trace_shapes.py:{number}"


def predict(params, x):
    h = np.tanh(x @ params["w"])  # hidden
    return h + params["b"]  # output


def parameters(inputs=3, outputs=4, bias=4):
    return {"w": ones(inputs, outputs), "b": ones(bias)}


# ------------------------------------------------------------------------------------------- the table
def test_each_operation_has_its_shapes_dtype_bytes_and_line():
    found = nm.trace_shapes(predict, parameters(), ones(2, 3))
    assert found.ok
    assert found.error is None
    assert found.misfit is None
    assert [(r.name, r.operands, r.in_shapes, r.out_shapes) for r in found.rows] == [
        ("contract", ("x", "params['w']"), ((2, 3), (3, 4)), ((2, 4),)),
        ("tanh", ("v3",), ((2, 4),), ((2, 4),)),
        ("add", ("v4", "params['b']"), ((2, 4), (4,)), ((2, 4),)),
    ]
    hidden, output = line_of("hidden"), line_of("output")
    assert [r.line for r in found.rows] == [hidden, hidden, output]
    assert found.rows[2].source == 'return h + params["b"]  # output'
    assert {r.dtypes for r in found.rows} == {("float64",)}
    assert [r.nbytes for r in found.rows] == [64, 64, 64]
    assert found.nbytes == 192
    assert [r.outputs[0] for r in found.arguments] == ["params['b']", "params['w']", "x"]
    assert [r.nbytes for r in found.arguments] == [32, 96, 48]
    assert found.results[0].outputs == found.rows[-1].outputs


def test_it_prints_a_table():
    text = str(nm.trace_shapes(predict, parameters(), ones(2, 3)))
    hidden, output = line_of("hidden"), line_of("output")
    assert text == "\n".join(
        [
            "shapes of `predict`: 3 operations, results of 192 bytes",
            "  operation  operands                      result              dtype    bytes  line",
            "  argument                                 params['b'] (4,)    float64     32",
            "  argument                                 params['w'] (3, 4)  float64     96",
            "  argument                                 x (2, 3)            float64     48",
            f"  contract   x (2, 3), params['w'] (3, 4)  v3 (2, 4)           float64     64  {hidden}",
            f"  tanh       v3 (2, 4)                     v4 (2, 4)           float64     64  {hidden}",
            f"  add        v4 (2, 4), params['b'] (4,)   v5 (2, 4)           float64     64  {output}",
            "  result                                   v5 (2, 4)           float64     64",
        ]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.int8])
def test_dtypes_and_bytes_are_those_of_numpy(dtype):
    def f(x):
        return x * x, x > 1 if dtype is not np.complex64 else x == 1

    x = ones(3, 5, dtype=dtype)
    found = nm.trace_shapes(f, x)
    for row, y in zip(found.results, f(x), strict=True):
        assert row.dtypes == (str(y.dtype),)
        assert row.nbytes == y.nbytes
        assert row.out_shapes == (y.shape,)
    assert [r.nbytes for r in found.rows] == [y.nbytes for y in f(x)]


def test_nothing_is_computed_and_nothing_allocated():
    huge = np.broadcast_to(np.float32(0), (10**6, 10**6))
    found = nm.trace_shapes(lambda x: x @ x.T, huge)
    assert found.results[0].nbytes == 4 * 10**12
    assert found.ok


def test_shapes_are_those_of_the_values_for_each_layer_of_a_model():
    model = nm.nn.MLP.init((5, 7, 3), rng=0)
    labels = np.array([0, 2])
    x = ones(2, 5)
    found = nm.trace_shapes(lambda m, x: nm.nn.softmax_cross_entropy(m(x), labels).mean(), model, x)
    program = nm.stage(lambda m, x: nm.nn.softmax_cross_entropy(m(x), labels).mean(), model, x)
    assert [r.name for r in found.rows] == [e.primitive.name for e in program.equations]
    env = dict(program.constants)
    env.update(zip(program.inputs, [*nm.tree_leaves(model), x], strict=True))
    for row, e in zip(
        found.rows, program.equations, strict=True
    ):  # run it: the table is what happens
        y = e.primitive(
            *(env.get(o, o) if hasattr(o, "number") else o for o in e.operands), **e.params
        )
        env[e.outputs[0]] = y
        assert row.out_shapes == (np.shape(y),)
        assert row.nbytes == math.prod(np.shape(y)) * np.asarray(y).dtype.itemsize
    names = [r.outputs[0] for r in found.arguments]
    assert names[:2] == ["m.layers[0].weight", "m.layers[0].bias"]


def test_constants_and_derivatives():
    table = np.arange(3.0)
    found = nm.trace_shapes(nm.grad(lambda x: np.sum(np.tanh(x) * table)), ones(3))  # derivative
    assert [r.out_shapes for r in found.constants] == [((3,),)] * len(found.constants)
    assert {r.rule for r in found.rows} >= {"", "tanh"}
    assert {r.line for r in found.rows} == {line_of("derivative")}
    assert "derivative of tanh" in str(found)


def test_a_function_without_arguments_or_arrays():
    assert nm.trace_shapes(lambda: 2.0).rows == ()
    found = nm.trace_shapes(lambda x: 2.0, ones(3))
    assert found.results[0].outputs == ("2.0",)
    assert "0 operations, results of 0 bytes" in str(found)


def test_names_of_arguments():
    def f(a, /, b, *rest, c=1):
        return a + b + rest[0] + rest[1]["k"]

    found = nm.trace_shapes(f, 1.0, 2.0, 3.0, {"k": 4.0})
    assert [r.outputs[0] for r in found.arguments] == ["a", "b", "rest[0]", "rest[1]['k']"]
    assert [r.outputs[0] for r in nm.trace_shapes(max, ones()).arguments] == ["args[0]"]


# ------------------------------------------------------------------------------------------- sub-programs
def test_operations_inside_of_loops_and_branches_are_indented_with_their_own_lines():
    def step(c, t):
        u = np.sin(t)  # sine
        return nm.cond(c.sum() > 0, lambda a: 2 * a, lambda a: a, c + u), u  # branch

    found = nm.trace_shapes(lambda c, ts: nm.scan(step, c, ts), ones(3), ones(5, 3))  # loop
    rows = {(r.name, r.depth): r for r in found.rows}
    assert rows["scan", 0].out_shapes == ((3,), (5, 3))
    assert rows["scan", 0].line == line_of("loop")
    assert rows["body:", 1].operands == ()
    assert rows["sin", 2].in_shapes == ((3,),)
    assert rows["sin", 2].line == line_of("sine")
    assert rows["cond", 2].line == line_of("branch")
    assert rows["multiply", 4].operands[1:] == ("2",) or rows["multiply", 4].operands[:1] == ("2",)
    assert rows["multiply", 4].outputs[0].startswith("body.true_fun.v")
    assert found.nbytes == sum(r.nbytes for r in found.rows if r.depth == 0) == 3 * 8 + 15 * 8
    assert "\n      sin" in str(found)


def test_an_error_inside_of_a_loop_shows_the_loop_so_far():
    def f(x, w):
        y = 2 * x

        def step(c, t):
            u = np.sin(t)  # inside
            return c + u * w, None  # wrong inside

        return nm.scan(step, y, ones(5, 3))

    found = nm.trace_shapes(f, ones(3), ones(4))
    assert isinstance(found.error, ValueError)
    assert [(r.name, r.depth) for r in found.rows] == [
        ("multiply", 0),
        ("inside of a sub-program:", 0),
        ("sin", 1),
    ]
    m = found.misfit
    assert (m.name, m.in_shapes, m.line) == ("multiply", ((3,), (4,)), line_of("wrong inside"))
    assert m.origins == (f"result of `sin` at {line_of('inside')}", "argument")


# ------------------------------------------------------------------------------------------- what does not fit
def test_the_operation_that_fails_its_operands_and_where_they_come_from():
    found = nm.trace_shapes(predict, parameters(bias=5), ones(2, 3))
    assert not found.ok
    assert [r.name for r in found.rows] == ["contract", "tanh"]
    assert found.results == ()
    m = found.misfit
    assert m.name == "add"
    assert m.operands == ("v4", "params['b']")
    assert m.in_shapes == ((2, 4), (5,))
    assert m.origins == (f"result of `tanh` at {line_of('hidden')}", "argument")
    assert m.line == line_of("output")
    text = str(found)
    assert "2 operations, results of 128 bytes up to where it fails" in text
    assert f'Then `add` fails, at {m.line}: return h + params["b"]' in text
    assert f"  v4 (2, 4)         result of `tanh` at {line_of('hidden')}" in text
    assert text.splitlines()[-1].startswith("ValueError: ")
    with pytest.raises(ValueError, match="shape"):
        raise found.error


def fails(f, *args):
    found = nm.trace_shapes(f, *args)
    assert not found.ok
    assert str(found.error) in str(found)
    return found


FAILING = {
    "matmul": (
        lambda x, y: np.tanh(x) @ y,
        (ones(2, 5), ones(3, 4)),
        ("x1", "x2"),
        ((2, 5), (3, 4)),
    ),
    "add": (lambda x, y: x + y, (ones(2, 5), ones(3, 4)), ("x", "y"), ((2, 5), (3, 4))),
    "concatenate": (
        lambda x, y: np.concatenate([x, y], axis=1),
        (ones(2, 3), ones(4, 3)),
        ("arrays[0]", "arrays[1]"),
        ((2, 3), (4, 3)),
    ),
    "solve": (
        lambda x, y: np.linalg.solve(x, y),
        (ones(2, 3), ones(2)),
        ("a", "b"),
        ((2, 3), (2,)),
    ),
    "where": (lambda x, y: np.where(x > 0, x, y), (ones(3), ones(4)), None, ((3,), (3,), (4,))),
    "reshape": (lambda x: x.reshape(4, 2), (ones(3, 3),), None, ((3, 3),)),
}


@pytest.mark.parametrize("name", FAILING)
def test_functions_that_refuse_shapes(name):
    f, args, operands, shapes = FAILING[name]
    m = fails(f, *args).misfit
    assert m.name == name
    assert m.in_shapes[: len(shapes)] == shapes
    assert operands is None or m.operands == operands
    assert m.line.startswith("test_trace_shapes.py:")


def test_a_layer_that_refuses():
    model = nm.nn.MLP.init((3, 4, 2), rng=0)
    found = fails(lambda m, x: m(x), model, ones(2, 5))
    assert found.misfit.name == "Dense"
    at = dict(
        zip(
            found.misfit.operands,
            zip(found.misfit.in_shapes, found.misfit.origins, strict=True),
            strict=True,
        )
    )
    assert at["x"] == ((2, 5), "argument")
    assert at["self.weight"] == ((3, 4), "argument m.layers[0].weight")


def test_a_contract_that_refuses():
    @nm.shapes("b i, i o")
    def dense(x, w):
        return x @ w

    found = fails(lambda x, w: dense(np.sin(x), w), ones(2, 3), ones(4, 5))  # contract
    assert found.misfit.name == "dense"
    assert found.misfit.origins == (f"v2, result of `sin` at {line_of('contract')}", "argument w")
    assert "axis 0 of `w`, `i`, must be 3" in str(found)


def test_errors_of_the_function_itself():
    def own(x):
        y = np.sin(x)
        assert y.shape == (2,)
        raise ValueError(f"mine: {y.shape}")  # own

    found = fails(own, ones(2))
    assert (found.misfit.name, found.misfit.line) == ("", line_of("own"))
    assert "Then your code fails" in str(found)
    assert [r.name for r in found.rows] == ["sin"]
    found = fails(lambda p: p["w9"], {"w": 1.0})
    assert isinstance(found.error, KeyError)
    found = fails(lambda x: 1 if x > 0 else 2, ones())
    assert isinstance(found.error, TraceError)
    assert [r.name for r in found.rows] == ["greater"]


def test_an_error_that_was_caught_is_no_misfit():
    def f(x, y):
        try:
            return x + y
        except ValueError:
            return np.sin(x).reshape(7)

    found = fails(f, ones(2), ones(3))
    assert found.misfit.name == "reshape"
    assert nm.trace_shapes(lambda x: f(x, ones(2)), ones(2)).ok


def test_errors_under_other_transformations():
    found = fails(nm.vmap(lambda a: a @ ones(4)), ones(2, 3))
    assert found.misfit.in_shapes[0] == (3,)
    found = fails(nm.grad(lambda w: np.sum(ones(2, 3) @ w)), ones(4))
    assert found.misfit.name == "matmul"
    assert found.misfit.origins[1] == "argument w"


def test_bad_arguments_are_refused():
    with pytest.raises(DtypeError, match="trace_shapes: `f` must be callable"):
        nm.trace_shapes(3, ones(2))
    with pytest.raises(DtypeError, match="must be a numeric array"):
        nm.trace_shapes(np.sin, np.array(["a"]))


def test_nothing_is_left_behind():
    fails(lambda x: x @ ones(4), ones(3))
    with pytest.raises(ShapeError):
        nm.stage(lambda x: x @ ones(4), ones(3))
    assert nm.stage(lambda x: x + 1, ones(3))._lines == {}
