"""Derivatives of the regressions of NIST StRD and of the problems of Moré, Garbow and Hillstrom.

Functions are plain NumPy. At the starts the gradient is compared with the complex step of the
function, and the Hessian with the complex step of a gradient by hand, which knows nothing of the
package: both to 1e-12 of the norm, some thousand roundings.
"""

import numpy as np
import pytest
from problems.mgh import PROBLEMS
from problems.nist import regressions
from scipy.optimize import least_squares

import nnmath_core as nm

REGRESSIONS = regressions()
AT_STARTS = [
    *[
        pytest.param(r.loss, r.gradient, start, id=f"{r.name}-{k}")
        for r in REGRESSIONS
        for k, start in enumerate(r.starts, 1)
    ],
    *[pytest.param(p.objective, p.gradient, p.start, id=p.name) for p in PROBLEMS],
]
TOLERANCE = 1e-12
STEP = 1e-40  # the complex step has no cancellation: its error is the square of this


def complex_steps(f, x):
    """Return the derivative of a real function, or of a gradient, by one step for each variable."""
    return np.stack([np.imag(f(x + 1j * STEP * e)) / STEP for e in np.eye(len(x))], axis=-1)


def test_all_problems_are_there():
    assert len(REGRESSIONS) == 27
    assert [p.number for p in PROBLEMS] == list(range(1, 36))


@pytest.mark.parametrize(("f", "by_hand", "x"), AT_STARTS)
def test_gradient_is_the_complex_step_of_the_function(f, by_hand, x):
    want = complex_steps(f, x)
    got = nm.grad(f)(x)
    assert np.linalg.norm(got - want) <= TOLERANCE * np.linalg.norm(want)
    assert np.linalg.norm(by_hand(x) - want) <= TOLERANCE * np.linalg.norm(want)


@pytest.mark.parametrize(("f", "by_hand", "x"), AT_STARTS)
@pytest.mark.parametrize("route", ["hessian", "reverse", "forward"])
def test_hessian_is_the_complex_step_of_the_gradient_by_hand(route, f, by_hand, x):
    routes = {
        "hessian": nm.hessian(f),
        "reverse": nm.jacrev(nm.grad(f)),
        "forward": nm.jacfwd(nm.jacfwd(f)),
    }
    want = complex_steps(by_hand, x)
    assert np.linalg.norm(routes[route](x) - want) <= TOLERANCE * np.linalg.norm(want)


@pytest.mark.parametrize("regression", REGRESSIONS, ids=lambda r: r.name)
def test_certified_parameters_have_the_certified_sum_of_squares(regression):
    got = regression.loss(regression.certified)
    want = regression.residual_sum_of_squares
    # the parameters have eleven digits, and the sum is flat there: an error of 1e-11 in each moves
    # the residuals by as much of the size of y, which counts where they are small (Lanczos1)
    slack = 1e-9 * want + np.sum((1e-10 * regression.y) ** 2) * 100
    assert abs(got - want) <= slack


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_trust_region_with_our_jacobian_finds_a_known_minimum(problem):
    fit = least_squares(
        problem.residuals,
        problem.start,
        jac=nm.jacfwd(problem.residuals),
        x_scale="jac",
        xtol=1e-14,
        ftol=1e-14,
        gtol=1e-14,
        max_nfev=4000,
    )
    value = 2.0 * fit.cost
    # six digits are printed; a minimum of 0 is reached to the accuracy of singular problems
    assert any(abs(value - m) <= 2e-5 * m + 1e-9 * (m == 0.0) for m in problem.minima), value
