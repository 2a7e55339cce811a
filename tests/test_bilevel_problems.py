"""Ridge coefficients, hyper-cleaning and a shared representation: values, oracles, splits, what they measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import simnet
from simnet.bilevel import BilevelProblem
from simnet.dataset import Dataset, Parts
from simnet.errors import DataError, InputError, ScenarioError
from simnet.models.algorithms.dsvrbgd import DSVRBGD
from simnet.models.problems.bilevel_rows import LevelRows
from simnet.models.problems.hyper_cleaning import HyperCleaning, SyntheticHyperCleaning
from simnet.models.problems.hyper_representation import HyperRepresentation
from simnet.models.problems.l2_coefficients import L2Coefficients, SyntheticL2Coefficients
from tests.bilevel import operands, prepared, run

ORACLES = ("hx", "hy", "hz", "directions", "upper", "gyy", "gxy", "gyy_matrix", "gxy_matrix", "gyy_solve")


def parts(classes: int = 3, nodes: int = 4, seed: int = 1) -> Parts:
    """Uneven nodes of 7 to 10 rows, so that there is padding."""
    rng = np.random.default_rng(seed)
    sizes = 7 + np.arange(nodes)
    x, y = rng.normal(size=(sizes.sum(), 3)), rng.integers(classes, size=sizes.sum())
    y[:classes] = np.arange(classes)
    rows = np.split(np.arange(sizes.sum()), np.cumsum(sizes)[:-1])
    return Parts(Dataset("small", x, y, x[:5], y[:5], classes), rows)


PROBLEMS: dict[str, Any] = {
    "coefficients": lambda: L2Coefficients(parts(2)),
    "coefficients of three classes": lambda: L2Coefficients(parts(3)),
    "cleaning": lambda: HyperCleaning(parts(2), 3, flip_least=0.5),
    "cleaning of three classes": lambda: HyperCleaning(parts(3), 3, flip_least=0.5),
    "representation": lambda: HyperRepresentation(parts(2), hidden=2),
    "representation of three classes": lambda: HyperRepresentation(parts(3), hidden=2, activation="softplus"),
}


@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize("batch", [None, 4])
def test_closed_forms_passes_and_single_nodes_agree(kind: str, batch: int | None) -> None:
    closed, stacked = prepared(PROBLEMS[kind]()), prepared(PROBLEMS[kind](), "vmap")
    nodes, rows = torch.arange(4), None
    if batch is not None:
        generator = torch.Generator().manual_seed(2)
        rows = tuple(torch.stack([torch.randint(int(n), (batch,), generator=generator) for n in level])
                     for level in (closed.upper_N, closed.lower_N))  # fmt: skip
    for oracle in ORACLES:
        given = operands(closed, oracle)
        by_hand = closed.answers(oracle, given, nodes, rows)
        for one, other in zip(by_hand, stacked.answers(oracle, given, nodes, rows), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
        for i in range(4):
            own = None if rows is None else tuple(level[i] for level in rows)
            for one, other in zip(closed.answer(oracle, [v[i] for v in given], i, own), by_hand, strict=True):
                torch.testing.assert_close(one, other[i], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", PROBLEMS)
def test_the_hypergradient_is_the_slope_of_f(kind: str) -> None:
    problem: BilevelProblem = prepared(PROBLEMS[kind]())
    x = problem.initial("x") + torch.linspace(-0.3, 0.4, problem.dx, dtype=torch.float64)
    h = 1e-4
    for axis in torch.eye(problem.dx, dtype=torch.float64)[:: max(1, problem.dx // 5)]:
        ahead, behind = problem.objectives(torch.stack([x + h * axis, x - h * axis])).tolist()
        assert float(problem.objective_gradient(x) @ axis) == pytest.approx((ahead - behind) / (2 * h), abs=1e-8)


def test_ridge_coefficients_have_the_values_of_their_specification() -> None:
    problem = prepared(SyntheticL2Coefficients(8))
    x = torch.zeros(20, dtype=torch.float64)
    assert float(problem.objective(x)) == pytest.approx(0.3259, abs=5e-5)
    assert float(problem.objective_gradient(x).square().sum()) == pytest.approx(3.16e-3, rel=2e-3)


def test_hyper_cleaning_has_the_values_of_its_specification() -> None:
    problem = prepared(SyntheticHyperCleaning(8))
    assert problem.dx == 480 and problem.dy == 10
    assert problem.wrong_X.mean() == pytest.approx(0.369, abs=5e-4)
    blind = problem.newton.at(torch.zeros(480, dtype=torch.float64))
    assert float(blind.value) == pytest.approx(0.5908, abs=5e-5)
    x = torch.as_tensor(np.where(problem.wrong_X, -8.0, 8.0))
    knowing = problem.newton.at(x)
    assert float(knowing.value) == pytest.approx(0.3356, abs=5e-5)
    accuracy = [float(problem.accuracy(x, solved.y)) for solved in (blind, knowing)]
    assert accuracy == pytest.approx([0.853, 0.961], abs=5e-4)
    said = problem.state_metrics({"x": x})
    assert float(said["label_auc"]) == 1.0 and float(said["weight_right"]) == pytest.approx(1 / (1 + np.exp(-8)))
    assert float(problem.state_metrics({"x": torch.zeros(480, dtype=torch.float64)})["label_auc"]) == 0.5


def test_auc_counts_ties_by_half() -> None:
    problem = prepared(SyntheticHyperCleaning(2, train=3))
    problem.wrong_X = np.array([True, False, True, False, False, True])
    x = torch.tensor([1.0, 1.0, 0.0, 2.0, -1.0, 5.0], dtype=torch.float64)  # right 1, 2, -1; wrong 1, 0, 5
    pairs = [(r > w) + 0.5 * (r == w) for r in (1, 2, -1) for w in (1, 0, 5)]
    assert float(problem.state_metrics({"x": x})["label_auc"]) == pytest.approx(np.mean(pairs))


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_every_row_of_a_node_is_at_one_level() -> None:
    given = parts(2)
    held = LevelRows.of(given, 1 / 3, "test")
    for upper, lower, rows in zip(held.upper, held.lower, given.rows, strict=True):
        assert sorted([*upper, *lower]) == rows.tolist()
        assert len(upper) == len(rows) // 3
    assert (held.features[:, -1] == 1).all() and held.features.shape[1] == 4


def test_labels_flip_at_the_stated_rates_and_validation_stays_clean() -> None:
    rng = np.random.default_rng(0)
    data = Dataset("many", rng.normal(size=(9000, 2)), np.arange(9000) % 3, classes=3)
    given = Parts(data, list(np.arange(9000).reshape(3, 3000)))
    problem = HyperCleaning(given, 5, flip_least=0.2, flip_most=0.6)
    rates = problem.wrong_X.reshape(3, -1).mean(1)
    assert rates == pytest.approx([0.2, 0.4, 0.6], abs=0.04)
    lower, upper = np.concatenate(problem.rows.lower), np.concatenate(problem.rows.upper)
    np.testing.assert_array_equal(problem.rows.labels[lower] != data.train_y[lower], problem.wrong_X)
    np.testing.assert_array_equal(problem.rows.labels[upper], data.train_y[upper])
    told = np.bincount((problem.rows.labels[lower] - data.train_y[lower])[problem.wrong_X] % 3, minlength=3)
    assert told[0] == 0 and told[1] == pytest.approx(told[2], rel=0.15)


@pytest.mark.parametrize(
    ("problem", "split"),
    [
        ({"name": "L2Coefficients", "data": "heart_scale"}, {"name": "dirichlet", "alpha": 1.0}),
        ({"name": "L2Coefficients", "data": "digits", "batch": 16}, {"name": "dirichlet", "alpha": 0.3}),
        ({"name": "HyperCleaning", "data": "digits", "batch": 16}, {"name": "iid"}),
        ({"name": "HyperRepresentation", "data": "digits", "hidden": 4, "batch": 16}, {"name": "shards"}),
    ],
)
def test_they_run_on_embedded_data_with_split_rows(problem: dict[str, Any], split: dict[str, Any]) -> None:
    record = run(DSVRBGD(0.1, 0.1, 0.1), 3, problem=problem | {"split": split}, nodes={"compute": "1 GFLOP/s"})
    last = {name: float(column[-1]) for name, column in record.rounds.items()}
    assert np.isfinite(last["upper_loss"]) and 0 <= last["accuracy_mean_model"] <= 1
    assert ("objective" in last) == (problem["data"] == "heart_scale" or problem["name"] == "HyperRepresentation")
    assert (record.nodes["compute_s"] > 0).all()


def test_they_run_on_libsvm_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(120, 3))
    lines = [
        f"{'+1' if row.sum() > 0 else '-1'} " + " ".join(f"{k + 1}:{v:.6f}" for k, v in enumerate(row)) for row in x
    ]
    (tmp_path / "rows.txt").write_text("\n".join(lines) + "\n")
    problem = {"name": "L2Coefficients", "data": {"name": "libsvm", "path": str(tmp_path / "rows.txt")},
               "split": {"name": "main_class", "fraction": 0.8}}  # fmt: skip
    record = run(DSVRBGD(5.0, 0.5, 0.5), 200, problem=problem, evaluate_every=10)
    assert record.rounds["objective"][-1] < record.rounds["objective"][0]


def test_a_representation_learns() -> None:
    problem = {"name": "HyperRepresentation", "data": "heart_scale", "hidden": 4, "l2": 0.05}
    record = run(DSVRBGD(0.5, 0.3, 0.3), 300, problem=problem, evaluate_every=50)
    assert record.rounds["objective"][-1] < 0.9 * record.rounds["objective"][0]


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_straight_pieces_below_are_refused() -> None:
    problem = {"name": "HyperRepresentation", "data": "digits", "activation": "relu"}
    with pytest.raises(InputError, match="goes through relu.*tanh or softplus"):
        run(DSVRBGD(), 1, problem=problem)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: L2Coefficients(parts(2), validation=1.0), InputError, "validation = 1.0"),
        (lambda: L2Coefficients(Parts(parts(2).dataset, [np.arange(3), np.arange(1)])), DataError, "node 1 holds 1 r"),
        (lambda: HyperCleaning(parts(2), l2=0.0), InputError, "l2 = 0.0"),
        (lambda: HyperCleaning(parts(2), flip_most=1.5), InputError, "flip_most = 1.5"),
        (lambda: SyntheticL2Coefficients(3, train=0), InputError, "train = 0"),
        (lambda: SyntheticL2Coefficients(3, dim=0), InputError, "dim = 0"),
        (lambda: SyntheticHyperCleaning(3, dim=0), InputError, "dim = 0"),
        (lambda: HyperRepresentation(parts(2), hidden=0), InputError, "hidden = 0"),
        (
            lambda: L2Coefficients(Parts(Dataset("real", np.ones((4, 1)), np.ones(4)), [np.arange(4)])),
            DataError, "real numbers",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_a_batch_without_replacement_must_fit_both_levels() -> None:
    with pytest.raises(ScenarioError, match="has 60 rows, fewer than a batch"):
        run(DSVRBGD(), 1, problem={"name": "SyntheticHyperCleaning", "train": 100, "batch": 80, "replace": False})


def test_targets_know_the_problems_own_metrics() -> None:
    more: dict[str, Any] = {"problem": "SyntheticHyperCleaning", "evaluate_every": 10, "target": {"label_auc": 0.8}}
    reached = run(DSVRBGD(200, 0.2, 0.2), 60, **more).summary["targets"]["label_auc"]
    assert reached["round"] is not None and reached["gossip_rounds"] == reached["round"]
    with pytest.raises(simnet.errors.UnknownName, match="label_auc"):
        run(DSVRBGD(), 1, problem="SyntheticHyperCleaning", target={"label_acu": 0.8})
