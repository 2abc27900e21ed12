"""vmap of every primitive, of its pullback and of its jvp is a loop."""

import pytest
from registry_checks import check_vmap, check_vmap_of_derivatives, registry_cases, smooth


@pytest.mark.parametrize("case", registry_cases())
def test_vmap_is_a_loop(case):
    check_vmap(case)


@pytest.mark.parametrize("case", registry_cases(keep=smooth))
def test_vmap_of_derivatives_is_a_loop(case):
    check_vmap_of_derivatives(case)
