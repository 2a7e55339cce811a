"""Zeroth-order estimators: exact properties, moments, costs, and equality of executors.

Legend: S nodes, D parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import simnet
from simnet import registry, streams
from simnet.errors import ScenarioError
from simnet.estimator import Estimator
from tests.programs import Gossips, base, go, tiny_data

NAMES = list(registry.shipped("estimators"))
RANDOM = [name for name in NAMES if name != "coordinate"]
FORWARD = ("fwd_grad", "fwd_grad_fast", "fwd_grad_blockwise")


def make(name: str, **params: Any) -> Estimator:
    found: Estimator = registry.find("estimators", name)(**params)
    return found


class Asks:
    """S independent estimates of one function, with its gradient."""

    def __init__(self, count: int, loss: Any, slices: Mapping[str, slice] | None = None, seed: int = 1) -> None:
        self.keys = streams.keys(streams.key(seed, "test"), np.arange(count))
        self.loss, self.slices = loss, slices or {}
        self.evaluations = 0

    def losses(self, x_SD: torch.Tensor) -> torch.Tensor:
        self.evaluations += 1
        value: torch.Tensor = self.loss(x_SD)
        return value

    def gradients(self, x_SD: torch.Tensor) -> torch.Tensor:
        gradient: torch.Tensor = torch.func.grad(lambda x: self.loss(x).sum())(x_SD)
        return gradient

    def _drawn(self, law: Any, k: int, d: int) -> torch.Tensor:
        return torch.from_numpy(law(self.keys, d, k * d))

    def normal(self, k: int) -> torch.Tensor:
        return self._drawn(streams.normal, k, self.d)

    def sign(self, k: int) -> torch.Tensor:
        return self._drawn(streams.sign, k, self.d)

    def normals(self, count: int) -> Iterator[torch.Tensor]:
        for k in range(count):
            yield self.normal(k)[:, None]

    def chi_square(self, degrees: int) -> torch.Tensor:
        return torch.from_numpy(streams.chi_square(streams.keys(7, self.keys), degrees))

    def at(self, x_D: torch.Tensor, estimator: Estimator) -> torch.Tensor:
        self.d = len(x_D)
        return estimator.estimate(self, x_D.expand(len(self.keys), -1).contiguous())  # type: ignore[arg-type]


def linear(g: torch.Tensor) -> Any:
    return lambda x: x @ g


# ---- exact ---------------------------------------------------------------------------------------------------------


def test_coordinate_differences_of_a_linear_function_are_its_gradient() -> None:
    g = torch.linspace(-1, 2, 7, dtype=torch.float64)
    asks = Asks(3, linear(g))
    found = asks.at(torch.zeros(7, dtype=torch.float64), make("coordinate", nu=0.5))
    torch.testing.assert_close(found, g.expand(3, 7), rtol=1e-14, atol=1e-14)
    assert asks.evaluations == 8 == make("coordinate").forward_passes(7)


@pytest.mark.parametrize("name", ["two_point_fwd", "two_point_central", "sphere_central", "rademacher"])
def test_an_estimate_costs_the_losses_that_it_takes(name: str) -> None:
    estimator = make(name, rv=6, nu=0.1)
    asks = Asks(2, linear(torch.ones(5, dtype=torch.float64)))
    asks.at(torch.zeros(5, dtype=torch.float64), estimator)
    assert asks.evaluations == estimator.forward_passes(5) == (7 if name == "two_point_fwd" else 12)


def test_forward_gradients_cost_their_derivatives_alone() -> None:
    for name in FORWARD:
        assert make(name, rv=8).forward_passes(100) == 16
        assert make(name, rv=8, jvp=3.5).forward_passes(100) == 28
        asks = Asks(1, linear(torch.ones(4, dtype=torch.float64)), {"x": slice(0, 4)})
        asks.at(torch.zeros(4, dtype=torch.float64), make(name, rv=8))
        assert asks.evaluations == 0


def test_differences_of_a_linear_function_are_forward_gradients_whatever_nu() -> None:
    g, x = torch.linspace(-1, 2, 9, dtype=torch.float64), torch.zeros(9, dtype=torch.float64)
    exact = Asks(4, linear(g)).at(x, make("fwd_grad", rv=5))
    for name in ("two_point_fwd", "two_point_central"):
        found = Asks(4, linear(g)).at(x, make(name, rv=5, nu=3.0))
        torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-12)
    whole = Asks(4, linear(g), {"x": slice(0, 9)}).at(x, make("fwd_grad_blockwise", rv=5))
    torch.testing.assert_close(whole, exact, rtol=1e-12, atol=1e-12)


def test_a_gradient_of_zero_is_estimated_as_zero() -> None:
    for name in FORWARD:
        asks = Asks(3, linear(torch.zeros(6, dtype=torch.float64)), {"x": slice(0, 6)})
        assert (asks.at(torch.ones(6, dtype=torch.float64), make(name)) == 0).all()


# ---- moments -------------------------------------------------------------------------------------------------------

D, DRAWS = 40, 200_000


def variance(name: str, rv: int, slices: Mapping[str, slice] | None = None, draws: int = DRAWS) -> float:
    """E|G - g|^2 / |g|^2 on a linear function, where the mean of G is g."""
    g = torch.linspace(0.5, 1.5, D, dtype=torch.float64)
    found = Asks(draws, linear(g), slices).at(torch.zeros(D, dtype=torch.float64), make(name, rv=rv))
    mean_error = float((found.mean(0) - g).norm() / g.norm())
    assert mean_error < 4 * np.sqrt(D / rv / draws), f"{name}: biased by {mean_error}"
    return float(((found - g).square().sum(1)).mean() / g.square().sum())


@pytest.mark.parametrize("rv", [1, 4])
@pytest.mark.parametrize(
    ("name", "factor"),
    [("fwd_grad", D + 1), ("fwd_grad_fast", D + 1), ("two_point_fwd", D + 1), ("sphere_central", D - 1),
     ("rademacher", D - 1)],
)  # fmt: skip
def test_variance_on_a_linear_function(name: str, factor: int, rv: int) -> None:
    assert variance(name, rv, draws=DRAWS // 2) == pytest.approx(factor / rv, rel=0.02)
    assert make(name, rv=rv).kappa(D) == 1 + factor / rv


def test_blocks_have_less_variance_than_the_true_forward_gradient() -> None:
    g = torch.linspace(0.5, 1.5, D, dtype=torch.float64)
    blocks = {"a": slice(0, 10), "b": slice(10, D)}
    expected = sum((b.stop - b.start + 1) * float(g[b].square().sum()) for b in blocks.values()) / float(g @ g)
    assert variance("fwd_grad_blockwise", 1, blocks, 100_000) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("rv", [1, 4, 32])
def test_the_fast_sampler_has_the_distribution_of_the_literal_one(rv: int) -> None:
    """Variance, covariance along and across g, and quantiles of the norm."""
    count, g = 60_000, torch.linspace(0.5, 1.5, D, dtype=torch.float64)
    x, unit = torch.zeros(D, dtype=torch.float64), g / g.norm()
    literal, fast = (
        Asks(count, linear(g), seed=s).at(x, make(n, rv=rv)) for s, n in ((1, FORWARD[0]), (2, FORWARD[1]))
    )
    for found in (literal, fast):
        assert float((found - g).square().sum(1).mean() / (g @ g)) == pytest.approx((D + 1) / rv, rel=0.02)
        assert float((found @ unit).var() / (g @ g)) == pytest.approx(2 / rv, rel=0.04)
    levels = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9], dtype=torch.float64)
    a, b = (torch.quantile(found.norm(dim=1), levels) for found in (literal, fast))
    torch.testing.assert_close(a, b, rtol=0.02, atol=0)


@pytest.mark.parametrize("nu", [0.5, 1.0])
def test_the_bias_of_a_cubic_function_is_the_smoothing(nu: float) -> None:
    """f = sum x_k^3 / 6 at 0: nu^2/2 in every coordinate for Gaussian directions, nu^2/(2(d + 2)) on the sphere."""
    x = torch.zeros(10, dtype=torch.float64)
    for name, expected in (("two_point_central", nu**2 / 2), ("two_point_fwd", nu**2 / 2),
                           ("sphere_central", nu**2 / 24)):  # fmt: skip
        asks = Asks(200_000, lambda v: v.pow(3).sum(1) / 6)
        assert float(asks.at(x, make(name, rv=1, nu=nu)).mean()) == pytest.approx(expected, rel=0.02)


def test_differences_of_a_quadratic_are_unbiased_and_central_ones_have_no_variance_from_nu() -> None:
    x = torch.linspace(-1, 1, 10, dtype=torch.float64)
    half = lambda v: 0.5 * v.square().sum(1)  # noqa: E731
    central = [Asks(1000, half).at(x, make("two_point_central", rv=1, nu=nu)) for nu in (1e-2, 2.0)]
    torch.testing.assert_close(central[0], central[1], rtol=1e-9, atol=1e-9)
    forward = Asks(200_000, half).at(x, make("two_point_fwd", rv=1, nu=1.0))
    torch.testing.assert_close(forward.mean(0), x, rtol=0, atol=0.06)
    assert float((forward - x).square().sum(1).mean()) > 1.5 * float((central[0] - x).square().sum(1).mean())


@pytest.mark.parametrize("degrees", [1, 2, 3, 8, 64])
def test_chi_square_has_its_moments_and_is_the_same_alone(degrees: int) -> None:
    keys = streams.keys(3, np.arange(200_000))
    s = streams.chi_square(keys, degrees)
    assert s.min() >= 0
    assert s.mean() == pytest.approx(degrees, rel=0.01)
    assert s.var() == pytest.approx(2 * degrees, rel=0.03)
    np.testing.assert_array_equal(streams.chi_square(keys[100:110], degrees), s[100:110])


# ---- in a run ------------------------------------------------------------------------------------------------------


def scenario(name: str, **more: Any) -> dict[str, Any]:
    part = {"name": name, "nu": 0.01} if name not in FORWARD else {"name": name}
    part |= {} if name == "coordinate" else {"rv": 3}
    nodes = {
        "compute": 1e6, "jitter": 0.2,
        "groups": [{"nodes": [1, 3], "oracle": "zo", "estimator": part},
                   {"nodes": [4], "oracle": "zo", "estimator": "two_point_fwd"}],
    }  # fmt: skip
    problem = {"name": "Softmax", "data": tiny_data(), "batch": {"fo": 2, "zo": 3}}
    return base(Gossips(eta=0.1), nodes=nodes, problem=problem, **more)


@pytest.mark.parametrize("name", NAMES)
def test_executors_and_node_runs_agree(name: str) -> None:
    batched, single = (go(scenario(name), executor=executor) for executor in ("batched", "one_by_one"))
    alone = go(scenario(name), tier="processes", executor="one_by_one")
    for other in (single, alone):
        np.testing.assert_allclose(other.final["x"], batched.final["x"], rtol=0, atol=1e-11)
        np.testing.assert_allclose(other.nodes["finish_s"], batched.nodes["finish_s"], rtol=1e-12)


def test_the_estimator_changes_neither_minibatches_nor_time_drawn() -> None:
    """fwd_grad and its fast form cost the same, so the whole event log is the same."""
    first, second = (go(scenario(name)) for name in FORWARD[:2])
    assert first.summary["log_hash"] == second.summary["log_hash"]
    assert np.abs(first.final["x"] - second.final["x"]).max() > 1e-3


@pytest.mark.parametrize(("name", "passes"), [("fwd_grad", 6), ("two_point_fwd", 4), ("coordinate", 16)])
def test_a_node_is_charged_forward_passes_on_its_own_batch(name: str, passes: int) -> None:
    told = scenario(name)
    told["nodes"]["jitter"] = 0.0
    record = go(told)
    problem = registry.find("problems", "Softmax")
    loss = 2.0 * 3 * 4 * 3  # 2 B F C at B = 3
    assert problem.__name__ == "Softmax"
    np.testing.assert_allclose(record.nodes["compute_s"][1], 6 * passes * loss / 1e6, rtol=1e-12)
    np.testing.assert_allclose(record.nodes["compute_s"][4], 6 * 11 * loss / 1e6, rtol=1e-12)
    np.testing.assert_allclose(record.nodes["compute_s"][0], 6 * 2 * loss / 3 * 2 / 1e6, rtol=1e-12)


def test_calibrated_forward_gradients_take_the_time_of_losses() -> None:
    nodes = {"durations": "calibrated", "oracle": "zo", "estimator": {"name": "fwd_grad", "rv": 4}}
    record = simnet.run(base(Gossips(), nodes=nodes, rounds=2))
    (found,) = record.header["calibration"]
    assert found["oracle"] == "loss"
    np.testing.assert_allclose(record.nodes["compute_s"], 2 * 8 * found["median_s"], rtol=1e-12)
    with pytest.raises(ScenarioError, match=r"nodes\.durations: a forward gradient is simulated"):
        simnet.run(base(Gossips(), nodes=nodes | {"durations": "measured"}))


def test_a_group_without_a_name_changes_parameters_of_the_one_above() -> None:
    from simnet.profile import Profiles

    section = {
        "compute": 1e9, "oracle": "zo", "estimator": {"name": "fwd_grad", "rv": 5, "jvp": 3.0},
        "groups": [{"nodes": [1], "estimator": {"rv": 7}}, {"nodes": [2], "estimator": "coordinate"}],
    }  # fmt: skip
    profiles = Profiles.of(section, 3)
    chosen = [profiles.estimators[k] for k in profiles.estimator_N]
    assert chosen == [make("fwd_grad", rv=5, jvp=3.0), make("fwd_grad", rv=7, jvp=3.0), make("coordinate")]


def test_an_estimator_may_be_your_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from simnet.models.estimators.differences import TwoPointCentral\n"
        "class Mine(TwoPointCentral):\n"
        "    def direction(self, ask, k):\n"
        "        return ask.normal(k).sign()\n"
    )
    (tmp_path / "s.yaml").write_text(
        "network: {nodes: 3}\nproblem: Quadratic\nalgorithm: DPSGD\nrounds: 2\n"
        "nodes: {oracle: zo, estimator: {name: 'mine.py:Mine', rv: 2}}\n"
    )
    assert simnet.run(tmp_path / "s.yaml").outcome == "finished"
    given = base(Gossips(), nodes={"oracle": "zo", "estimator": make("fwd_grad", rv=2), "compute": 1e6})
    named = base(Gossips(), nodes={"oracle": "zo", "estimator": {"name": "fwd_grad", "rv": 2}, "compute": 1e6})
    np.testing.assert_array_equal(go(given).final["x"], go(named).final["x"])


@pytest.mark.parametrize(
    ("estimator", "says"),
    [
        ({"rv": 0}, r"nodes\.groups\.0\.estimator\.rv = 0: an estimate takes at least 1 random direction"),
        ({"name": "fwd_grad", "rv": 0}, r"nodes\.groups\.0\.estimator\.rv = 0: an estimate takes at least 1"),
        ({"nu": 0.0}, r"nodes\.groups\.0\.estimator\.nu = 0\.0: losses are compared at two points"),
        ({"directions": 5}, r"nodes\.groups\.0\.estimator\.directions = 5: is called rv now"),
        ({"name": "fwd_grad", "nu": 1e-3}, r"estimator\.nu: ForwardGradient has no parameter 'nu'"),
        ("fwd_gradd", "there is no estimator named 'fwd_gradd'.*fwd_grad"),
        ("simnet.estimator:merged", r"nodes\.groups\.0\.estimator"),
        ({"name": "fwd_grad", "jvp": 0.0}, r"jvp = 0\.0: a directional derivative costs more than 0"),
    ],
)
def test_bad_parameters_are_refused_by_their_field(estimator: Any, says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        simnet.run(
            base(Gossips(), nodes={"compute": 1e6, "groups": [{"count": 1, "oracle": "zo", "estimator": estimator}]})
        )


@pytest.mark.parametrize("batch", [{"fo": 2}, {"fo": 0, "zo": 1}, {"fo": 2, "zo": "full"}, {"fo": 1, "other": 2}])
def test_batches_per_kind_name_both_kinds(batch: Any) -> None:
    with pytest.raises(ScenarioError, match=r"problem\.batch.*or \{fo: 4, zo: 8\}"):
        simnet.run(base(Gossips(), problem={"name": "Softmax", "data": tiny_data(), "batch": batch}))


def test_a_batch_per_kind_larger_than_the_data_is_refused_without_replacement() -> None:
    told = scenario("fwd_grad")
    told["problem"] |= {"batch": {"fo": 2, "zo": 99}, "replace": False}
    with pytest.raises(ScenarioError, match=r"problem\.batch = 99: node 3 has 9 rows"):
        simnet.run(told)
