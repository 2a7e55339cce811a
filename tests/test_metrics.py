"""Metrics of an evaluation: exact zeros, hand-made formulas, and the same numbers however large the chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from simnet import metrics
from simnet.errors import InputError
from simnet.metrics import evaluate


class Bowls:
    """f_i(x) = 1/2 |x - c_i|^2, with a made-up validation: loss |x|^2 and accuracy x_0 > 0."""

    has_test = has_objective = own_objectives = True

    def __init__(self, c_ND: Tensor) -> None:
        self.c_ND = c_ND
        self.nodes, self.dim = c_ND.shape
        self.samples_N = np.zeros(self.nodes, np.int64)

    def losses(self, x_SD: Tensor, nodes_S: Tensor, samples_SB: Any = None) -> Tensor:
        return 0.5 * (x_SD - self.c_ND[nodes_S]).square().sum(1)

    def gradients(self, x_SD: Tensor, nodes_S: Tensor, samples_SB: Any = None) -> Tensor:
        return x_SD - self.c_ND[nodes_S]

    def objective(self, x_D: Tensor) -> Tensor:
        return self.losses(x_D.expand(self.nodes, -1), torch.arange(self.nodes)).mean()

    def objective_gradient(self, x_D: Tensor) -> Tensor:
        return x_D - self.c_ND.mean(0)

    def optimum(self) -> tuple[Tensor, Tensor] | None:
        best_D = self.c_ND.mean(0)
        return best_D, self.objective(best_D)

    def validate(self, x_KD: Tensor) -> dict[str, Tensor]:
        return {"validation_loss": x_KD.square().sum(1), "accuracy": (x_KD[:, 0] > 0).to(x_KD.dtype)}


def states(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@given(n=st.integers(1, 40), d=st.integers(1, 9), seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_equal_nodes_have_consensus_distance_exactly_zero(dtype: torch.dtype, n: int, d: int, seed: int) -> None:
    x_D = states(1, d, seed, dtype)[0]
    found = evaluate(Bowls(states(n, d, 1, dtype)), x_D.repeat(n, 1))
    assert found["consensus_distance"] == 0.0
    assert found["accuracy"] == found["accuracy_mean_model"]


def test_the_metrics_are_their_formulas() -> None:
    c, x = states(7, 3, 1), states(7, 3, 2)
    found = evaluate(Bowls(c), x)
    c_, x_ = c.numpy(), x.numpy()
    xbar, best = x_.mean(0), c_.mean(0)
    own = 0.5 * ((x_ - c_) ** 2).sum(1)

    def f(z: np.ndarray) -> float:
        return float(0.5 * ((z - c_) ** 2).sum(1).mean())

    expected = {
        "objective": f(xbar),
        "objective_gap": f(xbar) - f(best),
        "node_objective_mean": own.mean(),
        "node_objective_spread": own.std(),
        "consensus_distance": ((x_ - xbar) ** 2).sum(1).mean(),
        "stationarity_gap": ((xbar - best) ** 2).sum(),
        "distance_to_optimum": ((x_ - best) ** 2).sum(1).mean(),
        "validation_loss": (x_**2).sum(1).mean(),
        "accuracy": (x_[:, 0] > 0).mean(),
        "validation_loss_mean_model": (xbar**2).sum(),
        "accuracy_mean_model": float(xbar[0] > 0),
    }
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_at_the_optimum_every_gap_is_zero() -> None:
    c = torch.tensor([[1.0, 2.0], [3.0, 6.0]], dtype=torch.float64)
    found = evaluate(Bowls(c), torch.tensor([[2.0, 4.0], [2.0, 4.0]], dtype=torch.float64))
    for name in ("objective_gap", "stationarity_gap", "distance_to_optimum", "consensus_distance"):
        assert found[name] == 0.0


def test_trackers_that_keep_the_mean_have_residual_zero() -> None:
    u = states(4, 3)
    p = u.roll(1, 0)
    found = evaluate(Bowls(states(4, 3)), states(4, 3), trackers=[(p, u)])
    assert found["tracker_residual"] == pytest.approx(0, abs=1e-16)
    assert evaluate(Bowls(u), u, trackers=[(u, u)])["tracker_residual"] == 0.0


def test_residuals_of_several_trackers_add_in_quadrature() -> None:
    u, shift = states(4, 2), torch.tensor([3.0, 0.0], dtype=torch.float64)
    other = states(4, 5)
    pairs = [(u + shift, u), (other + 0.8 * 5**0.5, other)]
    found = evaluate(Bowls(u), u, trackers=pairs)
    assert found["tracker_residual"] == pytest.approx(5.0)
    assert "tracker_residual" not in evaluate(Bowls(u), u)


def test_weights_make_the_objective_a_weighted_sum() -> None:
    c, x = states(3, 2, 1), states(3, 2, 2)
    equal = evaluate(Bowls(c), x)
    third = evaluate(Bowls(c), x, weights=[1 / 3] * 3)
    for name in ("objective", "stationarity_gap"):
        assert third[name] == pytest.approx(equal[name], rel=1e-12)
    alone = evaluate(Bowls(c), x, weights=[0.0, 1.0, 0.0])
    assert alone["objective"] == pytest.approx(float(0.5 * (x.mean(0) - c[1]).square().sum()))
    assert "objective_gap" not in alone


def test_a_server_alone_reports_no_node_objectives() -> None:
    found = evaluate(Bowls(states(5, 2)), states(1, 2))
    assert "node_objective_mean" not in found
    assert found["consensus_distance"] == 0.0
    owned = evaluate(Bowls(states(5, 2)), states(2, 2), nodes=[4, 0])
    assert "node_objective_mean" in owned


def test_the_size_of_a_chunk_changes_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, x = Bowls(states(50, 4, 1)), states(50, 4, 2)
    whole = evaluate(problem, x, trackers=[(x, problem.c_ND)], weights=[0.02] * 50)
    monkeypatch.setattr(metrics, "CHUNK_BYTES", 3 * 8 * 4)
    monkeypatch.setattr(metrics, "VALIDATION_ROWS", 7)
    parts = evaluate(problem, x, trackers=[(x, problem.c_ND)], weights=[0.02] * 50)
    assert parts == pytest.approx(whole, rel=1e-12)


def test_a_diverged_state_gives_numbers_that_say_so() -> None:
    x = states(3, 2)
    x[1, 0] = torch.inf
    assert not np.isfinite(evaluate(Bowls(states(3, 2)), x)["objective"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x_ND": states(3, 5)}, "shape (nodes, 2), not (3, 5)"),
        ({"weights": [0.5, 0.5]}, "3 weights, one per node"),
        ({"nodes": [0]}, "3 rows of x need as many"),
        ({"trackers": [(states(3, 2), states(3, 4))]}, "cannot follow"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        evaluate(**{"problem": Bowls(states(3, 2)), "x_ND": states(3, 2), **change})
    assert says in str(caught.value)
