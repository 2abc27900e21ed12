"""Every primitive: samples, shape, value, first and second derivative, dtypes, what rules keep."""

import numpy as np
import pytest
from oracles import ORACLES
from registry_checks import (
    Case,
    check_adjoint,
    check_dtypes,
    check_forward,
    check_jvp_differences,
    check_keeps,
    check_mixed_dtypes,
    check_samples,
    check_second_order,
    check_shape,
    check_staged,
    check_vmap_of_derivatives,
    is_float,
    registry_cases,
    smooth,
    takes_complex_steps,
)

import nnmath_core as nm  # noqa: F401  (declares the primitives)
from nnmath_core.autodiff.primitive import REGISTRY, Primitive
from nnmath_core.errors import DomainError

EVERY = registry_cases()
SAMPLES = registry_cases(
    (np.float64,), lambda c: np.isfinite(np.concatenate([np.ravel(x) for x in c.operands])).all()
)
SMOOTH = registry_cases(keep=smooth)
SMOOTH64 = registry_cases((np.float64,), smooth)
SEVERAL = registry_cases((np.float64,), lambda c: smooth(c) and len(c.floats) > 1)


# ------------------------------------------------------------------------------ oracles and samples
def test_every_primitive_has_an_oracle_and_every_oracle_a_primitive():
    assert set(ORACLES) == set(REGISTRY)


@pytest.mark.parametrize("primitive", REGISTRY.values(), ids=lambda p: p.name)
def test_every_primitive_has_samples_without_constant_operands(primitive):
    check_samples(primitive)


@pytest.mark.parametrize("primitive", REGISTRY.values(), ids=lambda p: p.name)
def test_samples_are_the_same_at_every_draw(primitive):
    for a, b in zip(primitive.draw_samples(), primitive.draw_samples(), strict=True):
        assert all(
            np.array_equal(x, y, equal_nan=True)
            for x, y in zip(a.operands, b.operands, strict=True)
        )


def test_samples_reach_scalars_empty_arrays_and_broadcasting():
    elementwise = [p for p in REGISTRY.values() if p.elementwise and p.differentiable]
    for p in elementwise:
        shapes = [tuple(map(np.shape, s.operands)) for s in p.draw_samples()]
        if len(p.vjp) > 1:
            assert any(len(set(s)) > 1 for s in shapes), f"{p} never broadcasts"
        else:
            assert ((),) in shapes, f"{p} has no scalar sample"
            assert any(0 in s[0] for s in shapes), f"{p} has no empty sample"


# ---------------------------------------------------------------------------------------- the checks
@pytest.mark.parametrize("case", EVERY)
def test_shape_rule_says_what_the_forward_function_makes(case):
    check_shape(case)


CONVERTED = set(
    "standardize rms inverse_root symmetric_slope logsumexp softmax softmax_or_zero alike rotation rotations gauge "
    "lu solve_triangular solve_banded sylvester sqrtm logm pivots order_of_pivots expm_frechet root_slope".split()
)
"""Primitives that never see integers: the functions that use them convert first."""


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.int64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("case", SAMPLES)
def test_shape_rule_knows_what_becomes_of_integers(case, dtype):
    p = case.primitive
    operands = tuple((2 * np.abs(x) + 1).astype(dtype) if is_float(x) else x for x in case.operands)
    integers = Case(p, operands, case.params, np.dtype(float), case.name)
    with np.errstate(all="ignore"):
        try:
            p(*operands, **case.params)
        except (TypeError, np.linalg.LinAlgError, DomainError):
            return  # NumPy has no such function of integers, or this matrix of integers is singular
        if p.name not in CONVERTED:
            check_shape(integers)


@pytest.mark.parametrize("case", EVERY)
def test_forward_agrees_with_the_oracle(case):
    check_forward(case, ORACLES[case.primitive.name])


@pytest.mark.parametrize("case", SMOOTH64)
def test_jvp_agrees_with_central_differences(case):
    check_jvp_differences(case)


ANALYTIC = set(
    "add subtract multiply divide divided_times negative square reciprocal power sqrt exp exp2 "
    "expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh "
    "arctanh erf relu maximum minimum where reshape transpose broadcast_to concatenate pad flip "
    "slice unslice take scatter_add take_along_axis add_along_axis repeat sum prod max min cumsum "
    "cumprod others recurrence share clip standardize rms logsumexp softmax contract spmm sddmm diagonal "
    "softmax_or_zero embed_diagonal sinc solve inv inverse_or_limit det cofactors convolve guarded solve_triangular "
    "lu solve_banded conv conv_input conv_kernel windows add_windows max_windows share_windows pick_windows".split()
) | set(
    "airy dawsn digamma erfc erfcx erfi gelu gelu_slope eval_chebyt eval_chebyu eval_gegenbauer eval_genlaguerre "
    "eval_jacobi eval_laguerre eval_legendre exp1 fresnel gamma hyp1f1 iv kv kve lambertw log_ndtr "
    "loggamma ndtr rgamma spence spherical_in spherical_kn wrightomega xlog1py xlogy".split()
)
"""Primitives whose host function takes complex numbers and continues the real one analytically.

Not among them: NumPy's or SciPy's function is real (arctan2, cbrt, hypot, logaddexp, remainder,
fmod, ldexp, logaddexp2, expit), gives a real result (absolute, real, imag, slogdet, astype, norm), or conjugates (conj,
cholesky).
"""


BY_SCHUR = set("care dare expm expm_frechet logm root_slope sqrtm sylvester".split())
"""Analytic primitives in whose algorithm a tiny imaginary part may be lost among rounding errors of the real one."""


@pytest.mark.parametrize("case", SMOOTH64)
def test_jvp_agrees_with_the_complex_step_where_there_is_one(case):
    if any(map(np.size, case.point)) and case.primitive.name not in BY_SCHUR:
        assert takes_complex_steps(case) == (case.primitive.name in ANALYTIC)


@pytest.mark.parametrize("case", SMOOTH)
def test_vjp_is_the_adjoint_of_jvp(case):
    check_adjoint(case)


@pytest.mark.parametrize("case", SMOOTH)
def test_second_derivatives_agree_in_every_order(case):
    check_second_order(case)


@pytest.mark.parametrize("case", SMOOTH)
def test_tangents_and_cotangents_keep_the_dtype(case):
    check_dtypes(case)


@pytest.mark.parametrize("case", SEVERAL)
def test_mixed_dtypes_keep_each_its_own(case):
    check_mixed_dtypes(case)


@pytest.mark.parametrize("case", SMOOTH)
def test_rules_read_nothing_but_what_they_keep(case):
    check_keeps(case)


@pytest.mark.parametrize("case", EVERY)
def test_staged_gives_the_bits_of_eager(case):
    check_staged(case)


# -------------------------------------------------------------------- rules made by transposition
BOTH = [
    pytest.param(case.values[0], drop, id=f"{case.id}-without-{drop}")
    for case in SMOOTH64
    for drop in ("vjp", "jvp")
    if case.values[0].primitive.vjp
    and case.values[0].primitive.jvp
    # the core transposes a jvp rule of one operand, and not one of any
    and not (drop == "vjp" and case.values[0].primitive.variadic)
]


def test_one_of_the_two_rules_is_enough_somewhere():
    nonlinear = [
        p for p in REGISTRY.values() if p.differentiable and not (p.elementwise or p.linear)
    ]
    assert any(p.jvp and not p.vjp for p in nonlinear)
    assert BOTH


@pytest.mark.parametrize(("case", "drop"), BOTH)
def test_transposition_makes_the_missing_rule(case, drop):
    whole = case.primitive
    half = Primitive(
        f"{whole.name}_without_{drop}",
        forward=whole.forward,
        variadic=whole.variadic,
        vjp=whole.vjp if drop == "jvp" else (),
        jvp=whole.jvp if drop == "vjp" else (),
        keeps=whole.keeps if drop == "jvp" else ("*y",),
        shape=whole.shape_rule,
        batch=whole.batch_rule,
        outputs=None if not whole.several else whole.differentiable_outputs or "all",
        register=False,
    )
    made = Case(half, case.operands, case.params, case.dtype, case.name)
    check_jvp_differences(made)
    check_adjoint(made)
    check_second_order(made)
    check_dtypes(made)
    check_vmap_of_derivatives(made)
    check_staged(made)
