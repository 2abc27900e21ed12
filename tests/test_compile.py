"""compile: arguments and results of all kinds, the cache, static and donated arguments, transformations, effects."""

import copy
import dataclasses
import functools
import pickle
import threading

import numpy as np
import pytest
from plans import assert_same, check_compiled, rounding, run_all

import nnmath_core as nm
from nnmath_core.errors import DtypeError, ShapeError, TraceError, TreeError

X = np.arange(6.0).reshape(2, 3) - 2.5
DTYPES = [np.float32, np.float64]


class Counted:
    """A function that counts how often it is called, which is how often it is recorded."""

    def __init__(self, f):
        self.f, self.times = f, 0

    def __call__(self, *args, **kwargs):
        self.times += 1
        return self.f(*args, **kwargs)


def stable_id(x):
    """An id without an address: those of all test processes must agree."""
    text = repr(x)
    return type(x).__name__ if " at 0x" in text else text


def squares(x):
    return np.sum(x * x)


# ------------------------------------------------------------------------------------ arguments
def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def misaligned(x):
    return np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape)


LAYOUTS = {
    "as it is": lambda x: x,
    "Fortran": np.asfortranarray,
    "reversed": lambda x: x[::-1, ::-1],
    "strided": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "broadcast": lambda x: np.broadcast_to(x[:1], (4, 3)),
    "read-only": read_only,
    "misaligned": misaligned,
    "of the other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "no rows": lambda x: x[:0],
    "no columns": lambda x: x[:, :0],
    "one entry": lambda x: x[:1, :1],
}


def in_many_ways(x):
    return (
        np.tanh(x),
        np.sum(x, axis=0),
        x.T,
        x @ x.T,
        x[::-1],
        np.max(np.abs(x) + 1.0, initial=0.0),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_an_argument(layout, dtype):
    x = LAYOUTS[layout](X.astype(dtype))
    compiled = nm.compile(in_many_ways)
    native = np.array(x, dtype)
    for _ in range(2):  # the second call takes the short way
        assert_same(compiled(x), in_many_ways(native), rounding())
    assert_same(compiled(native), in_many_ways(native), rounding())
    assert np.array_equal(x, native)


def test_memory_mapped_files_are_arrays(tmp_path):
    x = np.memmap(tmp_path / "x", X.dtype, "w+", shape=X.shape)
    x[:] = X
    compiled = nm.compile(in_many_ways)
    assert_same(compiled(x), in_many_ways(X), rounding())
    assert_same(compiled.plan(X)(x), in_many_ways(X), rounding())


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (X.view(np.matrix), "np.matrix cannot take part"),
        (np.ma.masked_array(X, X > 0), "a masked array cannot take part"),
        (X.view(np.recarray), "recarray, a subclass of ndarray, cannot take part"),
        (X.astype(object), "argument 0 must be a numeric array, got object array"),
        (np.array(["a"]), "argument 0 must be a numeric array, got <U1 array"),
        (
            np.array(["2020-01-01"], "M8[D]"),
            "argument 0 must be a numeric array, got datetime64[D] array",
        ),
        ("a", "argument 0 must be a numeric array, got 'a'"),
        ({"w": [1.0, squares]}, "argument 0 at `['w'][1]` must be a numeric array, got"),
        (2**63, "argument 0 must be an integer of 64 bits, got 9223372036854775808"),
    ],
    ids=stable_id,
)
def test_what_is_no_numeric_array_is_refused(x, says):
    with pytest.raises(DtypeError) as caught:
        nm.compile(lambda x: x)(x)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "dtype", "bool int8 uint8 int32 int64 uint64 float16 longdouble complex64 complex128".split()
)
def test_dtypes_of_an_argument(dtype):
    x = np.arange(6).reshape(2, 3).astype(dtype)

    def f(x):
        return (
            x,
            x * x,
            x == 1,
            np.where(x == 1, x, 0),
            np.sum(x, axis=0),
            x.T,
            np.concatenate([x, x]),
            x[1],
        )

    check_compiled(f, (x,), rounding(4))


def test_programs_of_integers_and_booleans():
    i, u, b = np.arange(-6, 6), np.arange(12, dtype=np.uint8), np.arange(12) % 3 == 0

    def f(i, u, b):
        return (
            i // 3, i % 4, -i, abs(i), i + u, i * 3, u + 250, i << 1, u >> 2, i & 5, u | 1, i ^ 3, ~u, i > 2,
            np.sign(i), b & (i > 0), b | (i > 0), ~b, b ^ (i < 0), b + b, b * 2, np.any(b), np.all(b), np.sum(b),
            np.max(i), np.min(u),
            np.prod(i), np.cumsum(i), np.argmax(i), np.argsort(i), np.sort(-i), i[np.array([3, -1])], np.where(b, i, u),
            i / 2, np.mean(i), i @ i, np.exp(u), np.maximum(i, 2), np.floor_divide(i, 5), i**2, np.left_shift(i, 2),
        )  # fmt: skip

    check_compiled(f, (i, u, b), rounding(8, 12))


def test_complex_programs():
    z = X + 1j * X[::-1]

    def f(z, x):
        w = np.exp(1j * x) * z
        return (
            w,
            abs(w),
            np.conj(w),
            w.real + w.imag,
            np.angle(w),
            w @ w.T,
            np.fft.fft(w),
            np.sum(w * np.conj(w)).real,
        )

    def real(x, y):
        return sum(np.sum(np.real(v) ** 2 + np.imag(v)) for v in f(x + 1j * y, x))

    check_compiled(f, (z, X), rounding(64, 6))
    check_compiled(f, (z.astype(np.complex64), X.astype(np.float32)), rounding(64, 6))
    check_compiled(nm.grad(real, argnums=(0, 1)), (X, X[::-1].copy()), rounding(256, 36))


# ------------------------------------------------------------------------------------ numbers of Python
NUMBERS = [
    3,
    2.5,
    2j,
    True,
    np.float32(0.5),
    np.float64(0.5),
    np.int8(3),
    np.array(2.0),
    np.bool_(False),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int64", "complex64", "bool"])
@pytest.mark.parametrize("a", NUMBERS, ids=stable_id)
def test_numbers_take_the_dtype_of_the_arrays_they_meet(dtype, a):
    x = np.arange(1, 4).astype(dtype)

    def f(x, a):
        b = a if np.result_type(a).kind == "b" else 2 * a  # a truth value is an array of rank 0
        return x * a, x + b, [b - 1.5, np.sin(x * a)], np.where(x > 1, x, a), abs(a) > 1, np.exp(a)

    check_compiled(f, (x, a), rounding(8))


def test_what_is_made_of_numbers_alone_stays_a_number():
    """So that the next call has a number again, and float32 stays float32."""
    step = Counted(lambda w, lr: (w - lr * w, 0.9 * lr, 3, None, lr > 0.1))
    compiled = nm.compile(step)
    w, lr = np.ones(3, np.float32), 0.5
    for _ in range(4):
        w, lr, three, none, more = compiled(w, lr)
        assert (w.dtype, type(lr), three, type(three), none) == (np.float32, float, 3, int, None)
        assert isinstance(more, bool | np.bool_)
    assert step.times == 1
    assert lr == pytest.approx(0.5 * 0.9**4, rel=8 * np.finfo(float).eps)


def test_another_number_does_not_compile_anew_but_another_type_does():
    f = Counted(lambda x, a: x * a)
    compiled = nm.compile(f)
    for a in (2, 3, -7):
        assert np.array_equal(compiled(X, a), X * a)
    assert f.times == 1
    for k, a in enumerate((2.0, 2j, True, np.float64(2), np.float32(2), np.array(2.0))):
        for _ in range(2):
            assert_same(compiled(X, a), X * a, rounding(0))
        assert f.times == min(k + 2, 6)  # an array of rank 0 is what its scalar is
    assert nm.compile(lambda a: a)(float("nan")) != nm.compile(lambda a: a)(1.0)


def test_a_call_alternates_between_plans():
    compiled = nm.compile(lambda x, a=1.0, *, b=0.0: x * a + b)
    x32 = X.astype(np.float32)
    for _ in range(3):
        assert_same(compiled(X), X, rounding(0))
        assert_same(compiled(x32), x32, rounding(0))
        assert_same(compiled(X, 2.0), 2 * X, rounding(0))
        assert_same(compiled(X, 2), 2 * X, rounding(0))
        assert_same(compiled(X, b=2.0), X + 2, rounding(0))
        assert_same(compiled(X, a=X), X * X, rounding(0))
        assert_same(compiled(2.0), 2.0, rounding(0))


# ------------------------------------------------------------------------------------ results
def test_trees_of_results():
    constant = np.arange(3.0)

    def f(x, p):
        y = x + 1.0
        return {
            "inputs": (x, x, p["w"]),
            "twice": [y, y, y],
            "constants": (constant, constant, np.float32(2), 7, True, 2.5, None, ()),
            "views": (
                y.T,
                y[::-1],
                y[0],
                y[:, 1],
                np.broadcast_to(y[0], (2, 3)),
                x.T,
                x[1],
                y.reshape(3, 2),
            ),
            "empty": (x[:0], np.zeros((0, 3)), []),
            "scalars": (x[0, 0], y[1, 1], np.sum(y)),
        }

    check_compiled(f, (X, {"w": np.ones(2), "none": None}), rounding(1))


@pytest.mark.parametrize("n", [3, 40_000])
def test_results_have_memory_of_their_own(n):
    x, constant = np.arange(float(n)), np.ones(n)
    compiled = nm.compile(lambda x: (x, x, x + 1.0, x[::-1], constant, constant))
    results = [(x + k, compiled(x + k)) for k in range(4)]
    arrays = [x, constant, *(y for _, ys in results for y in ys)]
    for i, a in enumerate(arrays):
        assert not any(np.may_share_memory(a, b) for b in arrays[:i])
    for z, (a, b, c, d, e, g) in results:  # no later call has written into them
        assert np.array_equal(a, z)
        assert np.array_equal(b, z)
        assert np.array_equal(c, z + 1)
        assert np.array_equal(d, z[::-1])
        assert np.array_equal(e, constant)
        assert np.array_equal(g, constant)
    results[0][1][4][:] = 7.0
    assert np.array_equal(compiled(x)[4], np.ones(n))


def test_a_view_keeps_the_memory_of_a_result():
    x = np.arange(40_000.0)
    compiled = nm.compile(lambda x: 2 * x)
    view = compiled(x)[5:8]
    others = [compiled(x + k) for k in range(5)]
    assert np.array_equal(view, [10.0, 12.0, 14.0])
    assert len(others) == 5


def test_captured_arrays_are_copies():
    w = np.ones(3)
    compiled = nm.compile(lambda x: x * w)
    assert np.array_equal(compiled(np.ones(3)), np.ones(3))
    w[:] = 5.0
    assert np.array_equal(compiled(np.ones(3)), np.ones(3))
    assert np.array_equal(
        compiled(np.ones((1, 3))), np.full((1, 3), 5.0)
    )  # another plan: recorded now


@pytest.mark.parametrize(
    "bad", ["text", squares, (i for i in [1]), np.array(["a"]), {1, 2}], ids=stable_id
)
def test_results_are_arrays_and_numbers(bad):
    with pytest.raises(TypeError, match="the function must return arrays or numbers, got a"):
        nm.compile(lambda x: bad)(1.0)


def test_no_floating_point_warnings_and_the_same_nan_and_infinity():
    x = np.array([-1.0, 0.0, np.inf, -np.inf, np.nan, 1e308, 5e-324])

    def f(x):
        return (
            np.log(x),
            1 / x,
            np.sqrt(x),
            x * 10,
            x - x,
            np.exp(x),
            x / 0.0,
            np.sum(x),
            np.max(x),
            x**-2.0,
            x % 0.0,
        )

    with np.errstate(all="raise"):
        got = nm.compile(f)(x)
    with np.errstate(all="ignore"):
        assert_same(got, f(x), rounding(8))


# ------------------------------------------------------------------------------------ the cache
def test_it_compiles_for_each_structure_shape_and_dtype_once():
    f = Counted(lambda tree: nm.tree_map(lambda v: v + 1, tree))
    compiled = nm.compile(f)
    trees = [
        X,
        X[:1],
        X.astype(np.float32),
        [X],
        (X,),
        {"a": X},
        {"b": X},
        [X, X],
        [X, None],
        X.astype(int),
        np.float64(1),
    ]
    for k, tree in enumerate(trees):
        for _ in range(3):
            assert_same(compiled(tree), f.f(tree), rounding(0))
        assert f.times == k + 1
    assert nm.compile(lambda: 3)() == 3


def test_an_error_of_the_function_passes_through_and_the_next_call_is_right():
    class Mine(Exception):
        pass

    fail = [True]

    def f(x):
        if fail[0]:
            raise Mine("of the user")
        return 2 * x

    compiled = nm.compile(f)
    with pytest.raises(Mine, match=r"^of the user$"):
        compiled(X)
    fail[0] = False
    assert_same(compiled(X), 2 * X, rounding(0))


def test_an_error_in_the_middle_of_a_run_passes_through_and_the_next_run_is_right():
    compiled = nm.compile(lambda a, b: np.linalg.solve(a, b) + 1)
    a, b = np.eye(3), np.arange(3.0)
    for _ in range(2):
        with pytest.raises(np.linalg.LinAlgError):
            compiled(np.zeros((3, 3)), b)
        assert_same(compiled(a, b), b + 1, rounding())


@pytest.mark.parametrize("donate", [False, True])
def test_eight_threads_share_a_compiled_function(donate):
    def f(x, y):
        h = np.tanh(x @ y.T)
        return nm.tree_map(np.sin, {"a": x * 2, "b": [h @ y, np.sum(h)]})

    compiled = nm.compile(f, donate_argnums=0 if donate else ())
    rng = np.random.default_rng(5)
    points = [(rng.standard_normal((4 + k % 3, 5)), rng.standard_normal((3, 5))) for k in range(8)]
    one = nm.compile(f)
    want = [one(*p) for p in points]
    wrong, ready = [], threading.Barrier(8)

    def work(k):
        ready.wait()
        for _ in range(100):
            x, y = points[k]
            got = compiled(x.copy(), y)
            if any(
                not np.array_equal(a, b)
                for a, b in zip(nm.tree_leaves(got), nm.tree_leaves(want[k]), strict=True)
            ):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
    assert len(compiled._plans) == 3


def test_shares_of_threads_give_the_same_results():
    def f(x, y):
        return nm.value_and_grad(lambda x: np.sum(np.tanh(x @ y) ** 2) + np.max(x))(x)

    x, y = np.random.default_rng(6).standard_normal((2, 40, 40))
    one, *others = run_all(f, x, y, threads=4)
    for other in others:
        assert_same(other, one, rounding(4, 40))
    one, *others = run_all(
        lambda x: (np.sum(np.exp(x)), np.sort(x, axis=0), x[::-1] * x), x, threads=4
    )
    for other in others:
        assert_same(other, one, rounding(0))


# ------------------------------------------------------------------------------------ static arguments
def test_static_arguments_are_part_of_the_function():
    f = Counted(lambda n, x, mode="up": n * x if mode == "up" else x - n)
    compiled = nm.compile(f, static_argnums=0, static_argnames="mode")
    for _ in range(2):
        assert_same(compiled(2, X), 2 * X, rounding(0))
        assert_same(compiled(3, X), 3 * X, rounding(0))
        assert_same(compiled(2, X, mode="down"), X - 2, rounding(0))
        assert_same(compiled(2, X.astype(int)), 2 * X.astype(int), rounding(0))
        assert_same(
            compiled(2.0, X.astype(int)), 2.0 * X.astype(int), rounding(0)
        )  # 2 == 2.0, but not here
        assert_same(compiled(True, X.astype(int)), True * X.astype(int), rounding(0))
        assert_same(compiled(1, X.astype(int)), X.astype(int), rounding(0))
    assert f.times == 7


def test_static_arguments_may_be_functions_strings_and_loops():
    def power(x, f, n):
        for _ in range(n):
            x = f(x)
        return x

    compiled = nm.compile(power, static_argnums=(1, 2))
    assert_same(compiled(X, np.sin, 3), np.sin(np.sin(np.sin(X))), rounding(8))
    assert_same(compiled(X, np.cos, 0), X, rounding(0))
    assert_same(
        nm.compile(nm.grad(lambda x: np.sum(compiled(x, np.sin, 2))))(X),
        np.cos(np.sin(X)) * np.cos(X),
        rounding(8),
    )


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        (
            {"static_argnums": -1},
            "compile: `static_argnums` must be positions of arguments, 0 or more, got -1",
        ),
        (
            {"static_argnums": 1.5},
            "compile: `static_argnums` must be positions of arguments, 0 or more, got 1.5",
        ),
        (
            {"static_argnums": (0, True)},
            "compile: `static_argnums` must be positions of arguments, 0 or more, got True",
        ),
        (
            {"donate_argnums": (0, -2)},
            "compile: `donate_argnums` must be positions of arguments, 0 or more, got -2",
        ),
        ({"static_argnums": 0, "donate_argnums": 0}, "compile: argument 0 is static and donated"),
    ],
    ids=stable_id,
)
def test_bad_options(kwargs, says):
    with pytest.raises(DtypeError) as caught:
        nm.compile(squares, **kwargs)
    assert says in str(caught.value)


def test_static_arguments_must_be_there_and_hashable():
    compiled = nm.compile(lambda x, n: x * n, static_argnums=1)
    with pytest.raises(DtypeError, match=r"static argument 1 must be hashable.*got a list"):
        compiled(X, [1])
    with pytest.raises(
        DtypeError, match=r"static argument 1 must be hashable.*got float64 array of shape \(2, 3\)"
    ):
        compiled(X, X)
    with pytest.raises(TreeError, match="static argument 1 was not given; there are 1 arguments"):
        compiled(X)
    with pytest.raises(DtypeError, match="compile: `f` must be callable, got 3"):
        nm.compile(3)


# ------------------------------------------------------------------------------------ transformations
def model(p, x):
    h = np.tanh(x @ p["w"] + p["b"])
    return np.sum(h * h) / x.shape[0]


P = {"w": np.linspace(-1.0, 1.0, 12).reshape(3, 4), "b": np.linspace(0.0, 1.0, 4)}
ALONG = nm.tree_map(np.cos, P)


def scanned(p, x):
    def body(c, row):
        c = np.tanh(c @ p["w"].T @ p["w"] + row @ p["w"])
        return c, np.sum(c)

    c, ys = nm.scan(body, p["b"], x)
    return np.sum(c) + np.sum(ys**2)


def branched(p, x):
    return nm.cond(np.sum(x) > 0, lambda w: np.sum(w**2), lambda w: np.sum(np.sin(w)), p["w"])


def repeated(p, x):
    return nm.while_loop(
        lambda s: s[0] < 10, lambda s: (s[0] * 1.5 + 0.5, s[1] + np.sum(p["b"])), (1.0, np.sum(x))
    )[1]


TRANSFORMED = {
    "value": lambda f: f,
    "grad": nm.grad,
    "value_and_grad": nm.value_and_grad,
    "jvp": lambda f: lambda p, x: nm.jvp(lambda p: f(p, x), (p,), (ALONG,)),
    "hvp": lambda f: lambda p, x: nm.hvp(lambda p: f(p, x), (p,), (ALONG,)),
    "vmap": lambda f: lambda p, x: nm.vmap(f, in_axes=(None, 0))(p, np.stack([x, -x])),
    "vmap of grad": lambda f: (
        lambda p, x: nm.vmap(nm.grad(f), in_axes=(None, 0))(p, np.stack([x, -x]))
    ),
    "jacfwd of grad": lambda f: nm.jacfwd(nm.grad(lambda b, x: f({**P, "b": b}, x))),
    "checkpoint": lambda f: nm.grad(nm.checkpoint(f)),
}


@pytest.mark.parametrize("how", TRANSFORMED)
@pytest.mark.parametrize("f", [model, scanned, branched, repeated], ids=lambda f: f.__name__)
def test_transformations_inside_and_outside(f, how):
    change = TRANSFORMED[how]
    if f is repeated and how not in (
        "value",
        "jvp",
        "vmap",
    ):  # not even where the loop has the same steps for all
        with pytest.raises(
            TraceError, match="reverse mode cannot go back through a loop that was recorded"
        ):
            nm.compile(change(f))(P["b"] if how == "jacfwd of grad" else P, X)
        return
    p = P["b"] if how == "jacfwd of grad" else P
    with np.errstate(all="ignore"):
        want = change(f)(p, X)
        bound = rounding(64, 60)
        assert_same(nm.compile(change(f))(p, X), want, bound, "inside")
        assert_same(change(nm.compile(f))(p, X), want, bound, "outside")
        assert_same(nm.compile(change(nm.compile(f)))(p, X), want, bound, "both")
        assert_same(nm.stage(change(nm.compile(f)), p, X)(p, X), want, bound, "staged")


def test_traced_calls_take_keywords_and_no_out():
    compiled = nm.compile(lambda x, *, a=1.0: np.sum(a * x**2))
    assert_same(nm.grad(lambda x: compiled(x, a=3.0))(X), 6 * X, rounding(4))
    with pytest.raises(TraceError, match="`out` cannot receive the result of a traced call"):
        nm.grad(lambda x: compiled(x, out=np.empty(())))(X)


# ------------------------------------------------------------------------------------ callables
@dataclasses.dataclass(frozen=True)
class Affine:
    w: np.ndarray
    b: np.ndarray

    def __call__(self, x):
        return x @ self.w + self.b

    @nm.compile
    def twice(self, x):
        """Twice."""
        return 2 * self(x)


def test_models_methods_partials_and_lambdas():
    affine = Affine(P["w"], P["b"])
    want = X @ P["w"] + P["b"]
    assert_same(nm.compile(affine)(X), want, rounding(8))  # the model is captured
    assert_same(
        nm.compile(Affine.__call__)(affine, X), want, rounding(8)
    )  # the model is an argument
    assert_same(nm.compile(affine.__call__)(X), want, rounding(8))
    assert_same(affine.twice(X), 2 * want, rounding(8))
    assert_same(Affine.twice(affine, X), 2 * want, rounding(8))
    assert_same(nm.compile(functools.partial(np.sum, axis=0))(X), np.sum(X, axis=0), rounding(8))
    assert_same(nm.compile(lambda m, x: m(x))(affine, X), want, rounding(8))
    assert_same(
        nm.compile(lambda m: dataclasses.replace(m, b=m.b + 1))(affine),
        Affine(P["w"], P["b"] + 1),
        rounding(8),
    )
    assert_same(nm.compile(np.tanh)(X), np.tanh(X), rounding(8))
    assert_same(nm.compile(len)([X, X]), 2, rounding(0))


def test_what_is_static_in_a_model_is_part_of_the_function():
    f = Counted(lambda layer, x: layer(x))
    compiled = nm.compile(f)
    x = np.ones((2, 6, 4))
    for size in (2, 3, 2, 3):
        layer = nm.nn.MaxPool1d(size)
        assert_same(compiled(layer, x), layer(x), rounding(0))
    assert f.times == 2


def test_it_looks_like_the_function():
    compiled = nm.compile(model)
    assert (compiled.__name__, compiled.__wrapped__, compiled.f) == ("model", model, model)
    assert repr(compiled) == "compile(model)"
    assert Affine.twice.__doc__ == "Twice."
    assert nm.compile(functools.partial(model, P)).__name__ == "partial"


@pytest.mark.parametrize(
    "through", [pickle.dumps, copy.copy, copy.deepcopy], ids=lambda f: f.__name__
)
def test_programs_are_not_pickled(through):
    compiled = nm.compile(squares)
    for thing in (compiled, compiled.plan(X)):
        with pytest.raises(TypeError, match="in C cannot be pickled or copied"):
            through(thing)


# ------------------------------------------------------------------------------------ what a function must not do
def needs_a_value(x):
    return x if x[0, 0] > 0 else -x


@pytest.mark.parametrize(
    ("f", "says"),
    [
        (needs_a_value, "np.where(condition, a, b), nm.cond or nm.while_loop"),
        (lambda x: float(np.sum(x)), "cannot become a Python float"),
        (lambda x: X[int(x[0, 0])], "cannot become a"),
        (lambda x: [i for i in range(x[0, 0])], "cannot"),
        (lambda x: x[x > 0], "x[mask] needs values"),
        (lambda x: np.nonzero(x), "needs values"),
        (lambda x: np.unique(x), "unique"),
    ],
    ids=stable_id,
)
def test_values_that_do_not_exist_yet(f, says):
    with pytest.raises(TraceError) as caught:
        nm.compile(f)(X)
    assert says in str(caught.value)


GENERATOR, LEGACY = np.random.default_rng(0), np.random.RandomState(0)
TABLE = {"counts": np.zeros(3), "lists": [np.zeros(2)]}


def helper():
    return GENERATOR.standard_normal()


class Noisy:
    def __init__(self):
        self.rng, self.seen = np.random.default_rng(0), np.zeros(2)

    def __call__(self, x):
        return x + self.rng.normal()

    def remember(self, x):
        self.seen[0] += 1
        return x


def counts(x):
    TABLE["counts"][1] += 1
    return x


def deep(x):
    TABLE["lists"][0].fill(3.0)
    return x


def closing_over():
    seen = np.zeros(1)

    def f(x):
        np.add(seen, 1, out=seen)
        return x

    return f


DRAWS = {
    "np.random": lambda x: x + np.random.normal(),  # noqa: NPY002
    "np.random, seeded": lambda x: (np.random.seed(0), x)[1],  # noqa: NPY002
    "a generator": lambda x: x + GENERATOR.normal(),
    "a RandomState": lambda x: x + LEGACY.normal(),
    "a helper's generator": lambda x: x + helper(),
    "a model's generator": Noisy(),
    "a default argument": lambda x, rng=np.random.default_rng(1): x + rng.normal(),  # noqa: B008
    "a partial": functools.partial(lambda rng, x: x + rng.normal(), np.random.default_rng(2)),
    "shuffling": lambda x: x + GENERATOR.permutation(3)[0],
}
CHANGES = {
    "a global table": counts,
    "deep in a table": deep,
    "a closure": closing_over(),
    "a model": Noisy().remember,
}


@pytest.mark.parametrize("f", DRAWS.values(), ids=DRAWS)
def test_host_randomness_is_an_error(f):
    with pytest.raises(
        TraceError, match=r"draws random numbers from .*Pass a key, nm\.random\.key\(seed\)"
    ):
        nm.compile(f)(1.0)


@pytest.mark.parametrize("f", CHANGES.values(), ids=CHANGES)
def test_changing_captured_arrays_is_an_error(f):
    with pytest.raises(
        TraceError, match=r"the function changes the array `.*`, which it closes over"
    ):
        nm.compile(f)(1.0)


def test_random_numbers_from_keys_are_those_of_the_function():
    def f(key, x):
        a, b = nm.random.split(key)
        return (
            nm.random.normal(a, (3,)) + x,
            nm.random.uniform(b, (2, 2)),
            nm.random.permutation(a, 5),
        )

    compiled = nm.compile(f)
    for seed in (0, 1):
        assert_same(compiled(nm.random.key(seed), 1.0), f(nm.random.key(seed), 1.0), rounding(4))


def test_looking_at_generators_and_arrays_is_no_change():
    rng, table = np.random.default_rng(0), {"a": np.arange(3.0)}
    before = rng.bit_generator.state
    compiled = nm.compile(lambda x: (x * table["a"], rng is None, table["a"].copy().fill(0.0))[0])
    assert_same(compiled(np.ones(3)), np.arange(3.0), rounding(0))
    assert rng.bit_generator.state == before


# ------------------------------------------------------------------------------------ out= and donated memory
def test_out_receives_the_results():
    f = nm.compile(lambda x: {"a": x * 2, "b": (np.sum(x), x.T)})
    out = {"a": np.empty((2, 3)), "b": (np.empty(()), np.empty((3, 2)))}
    for x in (X, X + 1, X.T.copy().T):
        got = f(x, out=out)
        assert got["a"] is out["a"]
        assert got["b"][1] is out["b"][1]
        assert np.array_equal(out["a"], 2 * x)
        assert out["b"][0] == np.sum(x)
        assert np.array_equal(out["b"][1], x.T)
    y = np.empty((2, 3))
    plan = nm.compile(np.exp).plan(X)
    assert plan(X, out=y) is y
    assert_same(y, np.exp(X), rounding(8))


@pytest.mark.parametrize("n", [8, 5000])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: (np.cumsum(x)[::-1] * 2, x),
        lambda x: (x[::-1], x[::-1] * x),
        lambda x: (x, x - x[0]),
        lambda x: (x + 1, np.sort(x)),
    ],
)
def test_out_may_be_an_argument(f, n):
    for shift in (0, 2):
        memory = np.arange(n + 4.0)
        x, y, z = memory[:n], memory[shift : n + shift], np.empty(n)
        want = f(x.copy())
        first, second = nm.compile(f)(x, out=(y, z))
        assert first is y
        assert second is z
        assert_same((y, z), want, rounding(4, n))


@pytest.mark.parametrize(
    "f",
    [
        lambda w, g: w - 0.1 * g,
        lambda w, g: w[::-1] - g * w,
        lambda w, g: (np.cumsum(w), g + w),
        lambda w, g: (g + 1, w * 2),
        lambda w, g: (w, w + g),
        lambda w, g: (g, w),
        lambda w, g: np.sum(w) + g,
        lambda w, g: w @ np.outer(w, g),
        lambda w, g: np.sort(w + g)[::-1],
    ],
)
def test_donated_arguments_give_their_memory_and_no_value_is_lost(f):
    for both in (False, True):
        w, g = np.linspace(1.0, 2.0, 6), np.cos(np.arange(6.0))
        want = f(w.copy(), g.copy())
        compiled = nm.compile(f, donate_argnums=(0, 1) if both else 0)
        got = compiled(w, g)
        assert_same(got, want, rounding(8, 6))
        results = nm.tree_leaves(got)
        assert results[0] is w
        assert not both or len(results) == 1 or results[1] is g


def test_numbers_and_scalars_have_no_memory_to_give():
    step = nm.compile(lambda w, t, n: (w * t, t + 1, n + 1), donate_argnums=(0, 1, 2))
    for t in (np.float64(2), np.array(2.0), 2.0):
        w = np.ones(3)
        y, u, n = step(w, t, 7)
        assert y is w
        assert (float(t), u, n) == (2.0, 3.0, 8)


def test_a_copy_in_the_other_byte_order_does_not_spoil_the_plan():
    compiled = nm.compile(lambda w, g: w[::-1] - g, donate_argnums=0)
    w, g = np.arange(6.0), np.ones(6)
    other = w.astype(w.dtype.newbyteorder())
    assert_same(compiled(other, g), w[::-1] - g, rounding(0))
    assert np.array_equal(other, w)
    assert compiled(w, g) is w


def test_donated_trees():
    def step(params, state, g):
        state = nm.tree_map(lambda m, g: 0.9 * m + g, state, g)
        return nm.tree_map(lambda p, m: p - 0.1 * m, params, state), state

    params, state = nm.tree_map(np.copy, P), nm.tree_map(np.zeros_like, P)
    compiled = nm.compile(step, donate_argnums=(0, 1))
    plain = nm.tree_map(np.copy, (params, state))
    places = {x.ctypes.data for x in nm.tree_leaves((params, state))}
    for k in range(4):
        g = nm.tree_map(lambda p, k=k: np.sin(p + k), plain[0])
        params, state = compiled(params, state, g)
        plain = step(*plain, g)
        assert_same((params, state), plain, rounding(8))
    assert {x.ctypes.data for x in nm.tree_leaves((params, state))} == places


def test_donated_memory_that_cannot_be_taken():
    compiled = nm.compile(lambda w, g: w - g[::-1], donate_argnums=0)
    y = np.arange(8.0)
    for args, says in [
        ((read_only(y), y), "argument 0 is donated, but is read-only"),
        ((np.repeat(y, 2)[::2], y), "argument 0 is donated, but is not contiguous"),
        ((y, y), "argument 1 shares memory with argument 0, and one of them is donated"),
        ((y[:5], y[1:6]), "argument 1 shares memory with argument 0, and one of them is donated"),
        ((y[1:6], y[:5]), "argument 1 shares memory with argument 0, and one of them is donated"),
        ((y[:4], y[::2]), "argument 1 shares memory with argument 0, and one of them is donated"),
    ]:
        for _ in range(2):
            with pytest.raises(DtypeError) as caught:
                compiled(*args)
            assert says in str(caught.value)
        assert np.array_equal(y, np.arange(8.0))
    w = y.copy()
    assert compiled(w, y) is w
    for _ in range(2):  # the short way looks, too
        with pytest.raises(DtypeError, match="shares memory"):
            compiled(w, w)
        assert compiled(w, y) is w


# ------------------------------------------------------------------------------------ plans
def test_a_plan_refuses_what_it_was_not_made_for():
    plan = nm.compile(lambda x, p: x @ p["w"] * p["a"]).plan(X, {"w": P["w"], "a": 2.0})
    ours = {"w": P["w"], "a": 2.0}
    assert_same(plan(X, ours), X @ P["w"] * 2.0, rounding(8))
    for args, error, says in [
        ((X[:1], ours), ShapeError, "argument 0 must have shape (2, 3), as when the plan was made"),
        ((X.astype(np.float32), ours), DtypeError, "argument 0 must be float64, as when the plan was made"),
        ((X.astype(int), ours), DtypeError, "argument 0 must be float64, as when the plan was made, got int64 array"),
        ((X, {**ours, "w": P["w"].T}), ShapeError, "argument 1 at `['w']` must have shape (3, 4), as when"),
        ((X, {**ours, "a": np.float64(2)}), DtypeError, "argument 1 at `['a']` must be a Python float, as when"),
        ((X, {**ours, "a": 2}), DtypeError, "argument 1 at `['a']` must be a Python float, as when"),
        ((X,), TreeError, "the plan is for arguments"),
        ((X, ours, X), TreeError, "the plan is for arguments"),
        ((X, {"w": P["w"]}), TreeError, "the plan is for arguments"),
        ((X.view(np.matrix), ours), DtypeError, "np.matrix cannot take part"),
    ]:  # fmt: skip
        with pytest.raises(error) as caught:
            plan(*args)
        assert says in str(caught.value)
    with pytest.raises(TreeError, match="the plan is for arguments"):
        plan(x=X, p=ours)


def test_inspection_says_what_a_plan_does():
    compiled = nm.compile(nm.value_and_grad(model))
    text = str(compiled.inspect(P, X))
    for word in (
        "program",
        "passes",
        "instructions",
        "gemm",
        "machine",
        "memory: an arena of",
        "FLOPs",
        "at the peak",
    ):
        assert word in text
    plan = compiled.plan(P, X)
    assert plan is compiled.plan(P, X)
    assert plan.cost.host == 0
    assert plan.cost.instructions == len(plan.steps)
    assert plan.cost.flops >= 2 * 2 * (2 * 3 * 4)


def test_deterministic_results_are_the_same():
    x = np.random.default_rng(0).standard_normal((64, 64))
    f = nm.grad(lambda x: np.sum(np.tanh(x @ x)))
    want = nm.compile(f, deterministic=True)(x)
    assert_same(want, f(x), rounding(8, 64 * 64))
    one, *others = run_all(f, x, threads=4, deterministic=True)
    assert all(np.array_equal(other, one) for other in others)
