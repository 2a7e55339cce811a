"""Two levels: the quadratic instance, its oracles, the exact hypergradient, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import simnet
from simnet.algorithm import Algorithm, Program
from simnet.bilevel import BilevelProblem, Level
from simnet.calibration import _measured, _meter
from simnet.errors import InputError, ProgramError, ScenarioError
from simnet.models.algorithms.dpsgd import DPSGD
from simnet.models.algorithms.dsvrbgd import DSVRBGD
from simnet.models.problems.bilevel_quadratic import BilevelQuadratic
from simnet.node import Node
from simnet.scenario import Scenario
from tests.bilevel import Levels, operands, prepared, run, scenario
from tests.test_costs import TRUE

ORACLES = ("hx", "hy", "hz", "directions", "upper", "gyy", "gxy", "gyy_matrix", "gxy_matrix", "gyy_solve")


class Curved(BilevelProblem):
    """Not quadratic, x in the lower level's curvature: g = sum softplus(t y) + exp(x_0)|y|^2/2, f = mean tanh."""

    def __init__(self, nodes: int = 4, dx: int = 2, dy: int = 3) -> None:
        super().__init__(nodes, dx, dy, np.full(nodes, 5), np.full(nodes, 7))
        rng = np.random.default_rng(3)
        self.rows = {"upper": rng.normal(size=(nodes, 5, dy)), "lower": rng.normal(size=(nodes, 7, dy))}

    def oracle_flop(self, oracle: str, upper: Any, lower: Any) -> Any:
        return 10.0 * np.asarray(upper) + 100.0 * np.asarray(lower)

    def load(self, device: Any, dtype: Any) -> None:
        self.tensors = {k: torch.as_tensor(v, dtype=dtype, device=device) for k, v in self.rows.items()}

    def level_data(self, level: Level, nodes_S: Any, rows_SB: Any) -> tuple[Any, ...]:
        own = self.tensors[level][nodes_S]
        return (own if rows_SB is None else torch.stack([o[r] for o, r in zip(own, rows_SB, strict=True)]),)

    def upper_loss(self, x_X: Any, y_Y: Any, *data: Any) -> Any:
        return torch.tanh(data[0] @ y_Y + x_X.sum()).mean()

    def lower_loss(self, x_X: Any, y_Y: Any, *data: Any) -> Any:
        return torch.nn.functional.softplus(data[0] @ y_Y).mean() + 0.5 * torch.exp(x_X[0]) * y_Y.square().sum()


# ---- the instance ----------------------------------------------------------------------------------------------------


def test_the_quadratic_instance_has_the_values_of_its_specification() -> None:
    problem = prepared(BilevelQuadratic(8))
    A = problem.arrays[0]
    assert np.linalg.eigvalsh(A.mean(0))[[0, -1]] == pytest.approx([1.5635, 2.5277], abs=5e-5)
    assert np.linalg.eigvalsh(A).min() == pytest.approx(1.0003, abs=5e-5)
    assert np.linalg.eigvalsh(A).max() == pytest.approx(5.2450, abs=5e-5)
    zero = torch.zeros(5, dtype=torch.float64)
    assert float(problem.objective(zero)) == pytest.approx(6.2646155414, abs=5e-11)
    x, value = problem.optimum()
    assert float(value) == pytest.approx(6.0697700813, abs=5e-11)
    assert x.numpy() == pytest.approx([-0.01602907, -0.11871214, -0.04033996, -0.69576384, 0.35128010], abs=5e-9)
    expected = [0.09565146, -0.15344790, -0.08338721, 0.52290561, -0.13071868]
    assert problem.objective_gradient(zero).numpy() == pytest.approx(expected, abs=5e-9)


@pytest.mark.parametrize("het", [0.0, 0.3])
def test_heterogeneity_moves_no_average(het: float) -> None:
    spread, whole = BilevelQuadratic(8, het=het), BilevelQuadratic(8)
    for mine, theirs in zip(spread.arrays, whole.arrays, strict=True):
        np.testing.assert_allclose(mine.mean(0), theirs.mean(0), atol=1e-14)
        np.testing.assert_allclose(mine - mine.mean(0), het * (theirs - theirs.mean(0)), atol=1e-14)


def test_tiles_stand_for_the_same_nodes() -> None:
    twice, once = BilevelQuadratic(16, tiles=2), BilevelQuadratic(8)
    for mine, theirs in zip(twice.arrays, once.arrays, strict=True):
        np.testing.assert_array_equal(mine, np.concatenate([theirs, theirs]))


# ---- oracles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("make", [Curved, lambda: BilevelQuadratic(4, dx=2, dy=3)])
def test_every_oracle_is_its_formula_by_explicit_matrices(make: Any, oracle: str) -> None:
    """By closed forms, in one stacked pass, node by node, and one node alone."""
    problem = prepared(make())
    given = operands(problem, oracle)
    nodes = torch.arange(problem.nodes)
    expected: list[Any] = []
    for i in range(problem.nodes):
        upper = [part[i] for part in problem.level_data("upper", nodes, None)]
        lower = [part[i] for part in problem.level_data("lower", nodes, None)]
        x, y, *rest = (v[i] for v in given)
        fx, fy = torch.func.grad(problem.upper_loss, (0, 1))(x, y, *upper)
        slope = torch.func.grad(problem.lower_loss, 1)
        hy, gyy = slope(x, y, *lower), torch.func.jacrev(slope, 1)(x, y, *lower)
        gxy = torch.func.jacrev(slope, 0)(x, y, *lower).mT
        z = rest[0] if rest else y
        # of `gyy_solve` z is a matrix; of all others a vector, so that only one of the two forms fits
        Z = z.view(problem.dy, -1)
        fits = Z.shape[1] == 1
        expected.append({
            "hy": (hy,), "upper": (fx, fy), "gyy_matrix": (gyy.reshape(-1),), "gxy_matrix": (gxy.reshape(-1),),
            "gyy_solve": () if fits else ((gyy @ Z - gxy.mT).reshape(-1),),
        } | ({
            "hx": (fx - gxy @ z,), "hz": (gyy @ z - fy,), "directions": (fx - gxy @ z, hy, gyy @ z - fy),
            "gyy": (gyy @ z,), "gxy": (gxy @ z,),
        } if fits else {}))  # fmt: skip
        expected[-1] = expected[-1][oracle]
    wanted = [torch.stack(parts) for parts in zip(*expected, strict=True)]
    for kernels in ("closed", "vmap", "loop"):
        found = prepared(make(), kernels).answers(oracle, given, nodes, None)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-13)
    for i in range(problem.nodes):
        alone = problem.answer(oracle, [v[i] for v in given], i, None)
        for one, other in zip(alone, wanted, strict=True):
            torch.testing.assert_close(one, other[i], rtol=0, atol=1e-13)


@pytest.mark.parametrize("oracle", ["directions", "gyy_solve"])
def test_nodes_in_pieces_answer_as_all_at_once(oracle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = prepared(Curved(nodes=7))
    rows = (torch.randint(5, (7, 2)), torch.randint(7, (7, 2)))
    whole = problem.answers(oracle, operands(problem, oracle), torch.arange(7), rows)
    monkeypatch.setattr(problem, "piece_size", lambda batch: 3)
    for one, other in zip(
        problem.answers(oracle, operands(problem, oracle), torch.arange(7), rows), whole, strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-14)


def test_noise_has_mean_zero_and_the_stated_variances() -> None:
    problem = prepared(BilevelQuadratic(2, dx=2, dy=3, noise=0.3))
    nodes, rows = torch.arange(2), torch.arange(4096).expand(2, -1)[:, :, None]
    exact = problem.level_data("lower", nodes, None) + problem.level_data("upper", nodes, None)
    off: list[list[torch.Tensor]] = [[] for _ in exact]
    for r in range(4096):
        drawn = problem.level_data("lower", nodes, rows[:, r]) + problem.level_data("upper", nodes, rows[:, r])
        for parts, one, other in zip(off, drawn, exact, strict=True):
            parts.append((one - other)[0])
    for parts in off:
        every = torch.stack(parts)
        assert float(every.mean(0).abs().max()) < 1e-12
        variance = every.var(0, correction=0)
        if every.ndim == 3 and every.shape[1] == every.shape[2]:
            torch.testing.assert_close(every, every.mT, rtol=0, atol=0)
            variance = variance[~torch.eye(3, dtype=torch.bool)]
            torch.testing.assert_close(variance, torch.full_like(variance, 0.09), rtol=0.1, atol=0)
        else:
            torch.testing.assert_close(variance, torch.full_like(variance, 0.09), rtol=1e-9, atol=0)


def test_levels_draw_rows_apart_and_a_ticket_gives_the_same_rows_twice() -> None:
    from simnet.node import Batch
    from simnet.prepare import prepare
    from simnet.valueplane.oracles import Oracles

    made = scenario(DSVRBGD(), 1, problem=Curved(nodes=8), nodes={"compute": "1 GFLOP/s"})
    plan = prepare(Scenario(**made))
    oracles, ticket = Oracles(plan.book(), torch.device("cpu"), torch.float64), Batch(123, 400)
    upper, lower = oracles.sample_groups(ticket, np.arange(8)) or ()
    assert int(upper.max()) == 4 and int(lower.max()) == 6
    assert not torch.equal(upper % 5, lower % 5)
    again = oracles.sample_groups(ticket, np.arange(8)) or ()
    assert torch.equal(again[0], upper) and torch.equal(again[1], lower)


# ---- the exact hypergradient -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [Curved(), BilevelQuadratic(8), BilevelQuadratic(4, dx=3, dy=2, rho=0.0)])
def test_the_hypergradient_is_the_slope_of_f(problem: BilevelProblem) -> None:
    prepared(problem)
    x = torch.linspace(-0.4, 0.5, problem.dx, dtype=torch.float64)
    h = 1e-5
    slopes = []
    for axis in torch.eye(problem.dx, dtype=torch.float64):
        ahead, behind = problem.objectives(torch.stack([x + h * axis, x - h * axis])).tolist()
        slopes.append((ahead - behind) / (2 * h))
    np.testing.assert_allclose(problem.objective_gradient(x).numpy(), slopes, rtol=0, atol=1e-8)


def test_the_solution_by_hand_is_that_of_newtons_method() -> None:
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)
    by_hand, found = (prepared(BilevelQuadratic(8), kernels).newton.at(x) for kernels in ("closed", "vmap"))
    for name in ("y", "z", "value", "gradient"):
        torch.testing.assert_close(getattr(by_hand, name), getattr(found, name), rtol=1e-13, atol=1e-13)


def test_f_is_the_upper_loss_at_the_lower_minimiser() -> None:
    levels, problem = Levels(), prepared(BilevelQuadratic(8))
    x = np.linspace(-1, 1, 5)
    assert float(problem.objective(torch.as_tensor(x))) == pytest.approx(levels.value(x), rel=1e-14)


# ---- costs, streams, the ledger --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asks(Algorithm):
    """Asks one oracle a round, with a minibatch of a stream of its own."""

    asks: ClassVar[tuple[str, ...]] = ("hy",)
    mixing: ClassVar[str | None] = None
    step_sizes: ClassVar[tuple[str, ...]] = ()
    oracle: str = "hy"
    others: int = 0

    def program(self, node: Node) -> Program:
        x, y, z = (node.initial(v) for v in "xyz")
        for _ in node.rounds():
            for _ in range(self.others):
                node.batch(stream="other")
            given = (x, y) if self.oracle == "hy" else (x, y, z)
            found = yield node.oracle(self.oracle, *given, batch=node.batch(2, stream="mine"))
            y = y - 0.1 * (found if self.oracle == "hy" else found[1])
            node.report(x=x, y=y)


def test_a_call_costs_the_flop_of_its_rows_at_both_levels() -> None:
    problem = {"problem": Curved(nodes=8), "nodes": {"compute": "1 MFLOP/s"}}
    record = run(DSVRBGD(), 3, **problem)
    assert record.nodes["compute_s"] == pytest.approx(np.full(8, 3 * (10 * 5 + 100 * 7) / 1e6), rel=1e-12)
    assert run(Asks(), 3, **problem).nodes["compute_s"] == pytest.approx(np.full(8, 3 * 110 * 2 / 1e6), rel=1e-12)


def test_streams_do_not_disturb_each_other() -> None:
    problem = {"problem": Curved(nodes=8)}
    alone, beside = run(Asks(), 4, **problem), run(Asks(others=3), 4, **problem)
    np.testing.assert_array_equal(alone.final["y"], beside.final["y"])
    assert not np.allclose(alone.final["y"], simnet.run(scenario(Asks(), 4, **problem) | {"seed": 5}).final["y"])


def test_one_pass_gives_what_one_oracle_gives() -> None:
    problem = {"problem": Curved(nodes=8)}
    np.testing.assert_allclose(run(Asks("directions"), 4, **problem).final["y"], run(Asks(), 4, **problem).final["y"],
                               rtol=0, atol=1e-15)  # fmt: skip


@pytest.mark.parametrize("durations", ["calibrated", "measured"])
def test_measured_sources_of_durations_price_a_pass(durations: str) -> None:
    record = run(DSVRBGD(), 2, nodes={"durations": durations})
    assert (record.nodes["compute_s"] > 0).all()


def test_a_device_profile_prices_a_product_above_a_slope(tmp_path: Path) -> None:
    path = tmp_path / "made_up.yaml"
    path.write_text(TRUE.text())
    spent = [run(Asks(oracle), 2, nodes={"device": str(path)}).nodes["compute_s"][0] for oracle in ("hy", "directions")]
    assert 0 < spent[0] < spent[1]


def test_a_calibration_takes_the_oracles_that_the_problem_has() -> None:
    made = Scenario(**scenario(DSVRBGD(), 1, problem={"name": "BilevelQuadratic", "dx": 2, "dy": 2}))
    calls = list(_measured("two levels", "small", made, True, _meter(made)))
    assert [call.oracle for call in calls] == list(ORACLES)
    assert all(call.timing.median_s > 0 for call in calls)


def test_measured_durations_are_replayed(tmp_path: Path) -> None:
    measured = run(DSVRBGD(order="alternating"), 3, nodes={"durations": "measured"})
    measured.save(tmp_path / "here")
    again = run(DSVRBGD(order="alternating"), 3, nodes={"durations": {"replay": str(tmp_path / "here")}})
    assert again.summary["sim_time_s"] == pytest.approx(measured.summary["sim_time_s"], rel=1e-9)


# ---- what is refused -------------------------------------------------------------------------------------------------


class Concave(Curved):
    def lower_loss(self, x_X: Any, y_Y: Any, *data: Any) -> Any:
        return super().lower_loss(x_X, y_Y, *data) - y_Y[0] ** 2


class Linear(Curved):
    def lower_loss(self, x_X: Any, y_Y: Any, *data: Any) -> Any:
        return data[0].mean() * y_Y.sum()


class Kinked(Curved):
    def lower_loss(self, x_X: Any, y_Y: Any, *data: Any) -> Any:
        return torch.relu(data[0] @ y_Y).mean() + y_Y.square().sum()


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (Concave(8), "not strongly convex.*eigenvalue of -.*ridge"),
        (Linear(8), "not strongly convex"),
        (Kinked(8), "relu.*twice differentiable.*softplus"),
    ],
)
def test_a_lower_level_that_cannot_be_solved_is_refused(problem: BilevelProblem, words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(DSVRBGD(), 1, problem=problem)


def test_a_large_lower_level_is_run_and_said_not_to_be_checked() -> None:
    record = run(DSVRBGD(ex=1e-3, ey=1e-3, ez=1e-3), 2, problem={"name": "BilevelQuadratic", "dy": 513})
    assert any("strongly convex is not checked" in note for note in record.header["notes"])
    assert "objective" not in record.rounds and np.isfinite(record.rounds["upper_loss"]).all()


@pytest.mark.parametrize("field", ["dx", "dy"])
def test_a_level_of_no_numbers_is_refused(field: str) -> None:
    with pytest.raises(InputError, match=f"{field} = 0; both levels have at least 1 number"):
        run(DSVRBGD(), 1, problem={"name": "BilevelQuadratic", field: 0})


def test_steps_that_are_too_long_end_as_diverged_with_advice() -> None:
    record = run(DSVRBGD(ex=0.5, ey=2.0, ez=2.0), 2000, evaluate_every=100)
    assert record.outcome.startswith("diverged") and "smaller step" in record.outcome


def test_algorithms_and_problems_of_unlike_levels_are_told_so() -> None:
    with pytest.raises(ScenarioError, match="asks for directions, hx, hy, hz, and Quadratic has gradient, loss, hvp"):
        run(DSVRBGD(), 1, problem={"name": "Quadratic"})
    with pytest.raises(ProgramError, match="no oracle 'gradient'; BilevelQuadratic has hx, hy"):
        run(DPSGD(), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"a": 0.0}, "algorithm.a = 0.0"), ({"a": 1.5}, "share"), ({"damping": 0.0}, "algorithm.damping"),
     ({"proj_z": -1.0}, "radius above 0")],
)  # fmt: skip
def test_shares_out_of_range_are_refused(fields: dict[str, float], words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        DSVRBGD(**fields)  # type: ignore[arg-type]


def test_names_that_do_not_fit_the_values_are_refused() -> None:
    @dataclass(frozen=True)
    class Misnamed(Asks):
        def program(self, node: Node) -> Program:
            x = node.initial("x")
            for _ in node.rounds():
                x = yield node.gossip(x, names=("x", "y"))
                node.report(x=x)

    with pytest.raises(ProgramError, match="a name for each of its 1 Values"):
        run(Misnamed(), 1)
