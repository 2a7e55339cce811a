"""The exact hypergradient against central differences, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from simnet.analysis.hypergradient import central_differences, exact, largest_error
from simnet.bilevel import BilevelProblem
from simnet.errors import InputError
from simnet.models.problems.bilevel_quadratic import BilevelQuadratic
from simnet.models.problems.hyper_cleaning import SyntheticHyperCleaning
from simnet.models.problems.l2_coefficients import SyntheticL2Coefficients
from tests.bilevel import Levels


@pytest.mark.parametrize(
    "problem",
    [BilevelQuadratic(8), SyntheticL2Coefficients(8), SyntheticHyperCleaning(4, dim=3, train=5, validation_rows=6)],
    ids=["quadratic", "coefficients", "cleaning"],
)
def test_it_is_what_central_differences_find(problem: BilevelProblem) -> None:
    assert largest_error(problem, np.linspace(-0.5, 0.4, problem.dx)) <= 1e-8


def test_it_solves_both_levels_of_the_quadratic_instance() -> None:
    q, x = Levels(), np.linspace(-1, 1, 5)
    found = exact(BilevelQuadratic(8), x)
    A, B, b, c, e = (v.mean(0) for v in (q.A, q.B, q.b, q.c, q.e))
    y = np.linalg.solve(A, B @ x + b)
    np.testing.assert_allclose(found.y, y, rtol=1e-12)
    np.testing.assert_allclose(found.z, np.linalg.solve(A, y - c), rtol=1e-12)
    np.testing.assert_allclose(found.gradient, q.rho * (x - e) + B.T @ np.linalg.solve(A, y - c), rtol=1e-12)
    assert found.value == pytest.approx(q.value(x), rel=1e-14)
    assert found.curvature == pytest.approx(tuple(np.linalg.eigvalsh(A)[[0, -1]]), rel=1e-12)


def test_differences_shrink_with_the_fourth_power_of_the_step() -> None:
    problem = SyntheticL2Coefficients(3, dim=4, train=20, validation_rows=10)
    x = np.linspace(-0.5, 0.5, 4)
    off = [np.abs(central_differences(problem, x, h) - exact(problem, x).gradient).max() for h in (0.4, 0.2)]
    assert off[0] / off[1] == pytest.approx(16, rel=0.2)


def test_what_is_too_large_or_misshapen_is_refused() -> None:
    with pytest.raises(InputError, match="513 numbers"):
        exact(BilevelQuadratic(2, dy=513), np.zeros(5))
    with pytest.raises(InputError, match="shape"):
        exact(BilevelQuadratic(2), np.zeros(4))
