"""The exceptions, and the sentences in which arguments are refused."""

import pickle

import numpy as np
import pytest

from nnmath_core import checks, errors

BUILTIN = {
    "ShapeError": ValueError,
    "DomainError": ValueError,
    "DeviceError": ValueError,
    "DtypeError": TypeError,
    "TreeError": TypeError,
    "TraceError": TypeError,
    "GradientError": AssertionError,
    "ConvergenceError": RuntimeError,
    "MemoryLimitError": MemoryError,
    "MissingDependency": ImportError,
}


def test_errors_are_these_and_no_others():
    assert set(errors.__all__) == {"NnmathError", *BUILTIN}
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined == set(errors.__all__)


@pytest.mark.parametrize("name", BUILTIN)
def test_error_is_also_a_builtin(name):
    assert issubclass(getattr(errors, name), errors.NnmathError)
    assert issubclass(getattr(errors, name), BUILTIN[name])


@pytest.mark.parametrize("name", ["NnmathError", *BUILTIN])
def test_error_survives_pickling_with_what_it_carries(name):
    carried = {"GradientError": "report", "ConvergenceError": "partial"}.get(name)
    error = getattr(errors, name)("words", **({carried: [1, 2]} if carried else {}))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == "words"
    if carried:
        assert getattr(copy, carried) == [1, 2]


def test_carried_record_is_none_when_not_given():
    assert errors.GradientError("words").report is None
    assert errors.ConvergenceError("words").partial is None


# What require_float says about each kind of argument; every sentence has the one form.
NOT_FLOAT = {
    "int64": (np.zeros(3, dtype=np.int64), "got int64 array of shape (3,). Convert it"),
    "bool": (np.zeros(2, dtype=bool), "got bool array of shape (2,). Convert it"),
    "float16": (np.zeros((2, 1), dtype=np.float16), "got float16 array of shape (2, 1)."),
    "complex": (np.zeros(2, dtype=complex), "Pass `x.real` and `x.imag` as two arrays."),
    "object": (np.array([None, 1.0]), "got object array of shape (2,)."),
    "string": (np.array(["a"]), "got <U1 array of shape (1,)."),
    "big-endian": (np.zeros(2, dtype=">f8"), "byte order is foreign"),
    "masked": (np.ma.masked_less(np.zeros(2), 1), "got masked float64 array of shape (2,)."),
    "list": ([1.0, 2.0], "got a list. Convert it: `numpy.asarray(x, dtype=float)`."),
    "int": (3, "got 3. Convert it"),
    "None": (None, "got None."),
    "str": ("one", "got 'one'."),
    "dict": ({"a": 1.0}, "got a dict."),
    "function": (np.linalg.norm, "got `norm`."),
}


@pytest.mark.parametrize("kind", NOT_FLOAT)
def test_require_float_refuses_with_the_remedy(kind):
    value, words = NOT_FLOAT[kind]
    with pytest.raises(errors.DtypeError) as caught:
        checks.require_float("f", "x", value)
    assert str(caught.value).startswith("f: `x` must be a float32 or float64 array, got ")
    assert words in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_require_float_keeps_an_array_and_its_dtype(dtype):
    x = np.zeros((2, 0, 3), dtype=dtype)[:, :, ::-1]
    assert checks.require_float("f", "x", x) is x


def test_require_float_takes_scalars_and_series():
    pandas = pytest.importorskip("pandas")
    assert checks.require_float("f", "x", 2.5).dtype == np.float64
    assert checks.require_float("f", "x", np.float32(2.5)).dtype == np.float32
    assert isinstance(checks.require_float("f", "x", pandas.Series([1.0, 2.0])), np.ndarray)


def test_require_same_dtype_names_the_odd_one():
    x, y = np.zeros(2), np.zeros(2, dtype=np.float32)
    assert checks.require_same_dtype("f", x=x, y=x) == np.float64
    with pytest.raises(errors.DtypeError) as caught:
        checks.require_same_dtype("layer_norm", x=x, scale=x, shift=y)
    assert str(caught.value) == (
        "layer_norm: `shift` must be float64 as `x` is, got float32. "
        "Nothing is converted in silence: `shift.astype(float64)`."
    )


@pytest.mark.parametrize(
    ("shape", "words"),
    [((3,), "of shape (3,)"), ((2, 4), "of shape (2, 4)"), ((None, 2, 3), "of shape (any, 2, 3)")],
)
def test_require_shape_says_wanted_and_got(shape, words):
    with pytest.raises(errors.ShapeError) as caught:
        checks.require_shape("f", "cost", np.zeros((2, 3)), shape, "Transpose it.")
    assert str(caught.value) == f"f: `cost` must be {words}, got (2, 3). Transpose it."


def test_require_shape_takes_any_length_where_none_is_asked():
    checks.require_shape("f", "x", np.zeros((2, 3)), (None, 3))
    checks.require_shape("f", "x", np.zeros(()), ())


def test_require_int_returns_a_python_integer():
    assert type(checks.require_int("f", "n", np.int32(0), minimum=0)) is int
    assert type(checks.require_positive_int("f", "n", np.uint8(7))) is int


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float64(3), "3", None])
def test_require_int_refuses_what_is_no_integer(value):
    with pytest.raises(errors.DtypeError, match=r"^f: `n` must be a positive integer, got "):
        checks.require_positive_int("f", "n", value)


def test_require_int_refuses_what_is_too_small():
    with pytest.raises(errors.DomainError, match=r"^f: `n` must be a positive integer, got 0\.$"):
        checks.require_positive_int("f", "n", 0)
    with pytest.raises(errors.DomainError, match=r"^f: `n` must be an integer >= 0, got -1\. Why"):
        checks.require_int("f", "n", -1, minimum=0, advice="Why.")


def test_require_real_refuses_outside_its_domain():
    def beta(value):
        return checks.require_real(
            "adam", "beta1", value, lambda x: 0 <= x < 1, "a number in [0, 1)"
        )

    assert beta(np.float32(0.5)) == 0.5
    assert beta(0) == 0.0
    for value in (1.0, -0.1, float("nan"), float("inf")):
        with pytest.raises(
            errors.DomainError, match=r"^adam: `beta1` must be a number in \[0, 1\)"
        ):
            beta(value)
    for value in (True, "0.9", None, 0.5j, np.zeros(1)):
        with pytest.raises(errors.DtypeError, match=r"^adam: `beta1` must be a number in \[0, 1\)"):
            beta(value)


def test_require_in_lists_the_choices():
    checks.require_in("f", "mode", "rev", ("fwd", "rev"))
    with pytest.raises(errors.DomainError) as caught:
        checks.require_in("f", "mode", "reverse", ("fwd", "rev"))
    assert str(caught.value) == "f: `mode` must be one of 'fwd', 'rev', got 'reverse'."


def test_require_callable_says_what_came():
    checks.require_callable("grad", "f", np.tanh)
    with pytest.raises(errors.DtypeError, match=r"^grad: `f` must be callable, got float64 array"):
        checks.require_callable("grad", "f", np.zeros(()))


def test_require_rng_takes_none_a_seed_or_a_generator():
    generator = np.random.default_rng(3)
    assert checks.require_rng("f", generator) is generator
    assert checks.require_rng("f", 3).random() == np.random.default_rng(3).random()
    assert checks.require_rng("f", None).random() != checks.require_rng("f", None).random()


@pytest.mark.parametrize("value", [True, 1.0, "seed", np.random.RandomState(0)])
def test_require_rng_refuses_other_types(value):
    with pytest.raises(errors.DtypeError, match=r"^init: `rng` must be None, an integer >= 0 or"):
        checks.require_rng("init", value)


def test_require_rng_refuses_a_negative_seed():
    with pytest.raises(errors.DomainError, match=r"^init: `rng` must be .*, got -1\.$"):
        checks.require_rng("init", -1)


def test_describe_never_prints_an_array_and_shortens_long_text():
    assert checks.describe(np.zeros((1000, 1000))) == "float64 array of shape (1000, 1000)"
    assert len(checks.describe("x" * 1000)) == 60
    assert checks.describe(object()) == "an object"
    assert checks.describe(np.ndarray) == "`ndarray`"
