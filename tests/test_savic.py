"""SAVIC: against Local SGD, against distributed scaled SGD in matrices, and the exact statements of its theory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import simnet
from simnet.errors import CapabilityError, InputError, ScenarioError
from simnet.models.algorithms.savic import SAVIC
from simnet.models.problems.quadratic import Quadratic
from simnet.models.scalings.shipped import OASIS, AdaHessian, Adam, RMSProp
from simnet.record import Record


def run(algorithm: Any, problem: Any, rounds: int, count: int = 10, **over: Any) -> Record:
    return simnet.run(
        {
            "network": {"nodes": count, "graph": "complete"}, "nodes": {"step": 0.01}, "problem": problem,
            "algorithm": algorithm, "rounds": rounds, "execution": {"device": "cpu", "dtype": "float64"}, **over,
        }
    )  # fmt: skip


DIGITS = {"name": "Softmax", "data": "digits", "batch": 16}


# ---- exact ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "clients"), [(1, None), (4, None), (3, 2)])
def test_without_scaling_it_is_local_sgd_bit_for_bit(steps: int, clients: int | None) -> None:
    ours = run(SAVIC(eta=0.3, H=steps, clients=clients), DIGITS, 8, count=6)
    local = run({"name": "LocalSGD", "eta": 0.3, "steps": steps, "clients": clients}, DIGITS, 8, count=6)
    np.testing.assert_array_equal(ours.final["x"], local.final["x"])
    assert ours.summary["log_hash"] == local.summary["log_hash"]


@pytest.mark.parametrize(
    "scaling",
    [RMSProp(beta=0.9, alpha=1e-2), Adam(beta=0.9, alpha=1e-2, positivity="add"), OASIS(beta=0.9), AdaHessian()],
)
def test_one_local_step_is_distributed_scaled_sgd(scaling: Any) -> None:
    problem = Quadratic(6, 0, dim=8, condition=20.0)
    x = torch.zeros(8, dtype=torch.float64)
    problem.prepare("cpu", torch.float64)
    hessian = problem.gradients(torch.ones(6, 8, dtype=torch.float64), torch.arange(6)) - problem.gradients(
        torch.zeros(6, 8, dtype=torch.float64), torch.arange(6)
    )

    def statistic(g: torch.Tensor) -> torch.Tensor:
        return hessian.mean(0) if scaling.statistic == "hessian" else g

    def gradient(at: torch.Tensor) -> torch.Tensor:
        return problem.gradients(at.repeat(6, 1), torch.arange(6)).mean(0)

    d = scaling.first(statistic(gradient(x)))
    for k in range(12):
        g = gradient(x)
        x = x - 0.05 * g / scaling.positive(d)
        d = scaling.update(d, statistic(g), k + 10)
    record = run(SAVIC(eta=0.05, scaling=scaling), Quadratic(6, 0, dim=8, condition=20.0), 12, count=6)
    np.testing.assert_allclose(record.final["x"], x.repeat(6, 1).numpy(), atol=1e-12, rtol=0)


def test_adams_beta_is_its_bias_correction() -> None:
    rng, adam = np.random.default_rng(0), Adam(beta=0.97)
    d, v = torch.full((5,), 7.0, dtype=torch.float64), np.zeros(5)
    for k in range(40):
        h = rng.normal(size=5)
        d = adam.update(d, torch.from_numpy(h), k)
        v = 0.97 * v + 0.03 * h**2
        np.testing.assert_allclose(d.numpy() ** 2, v / (1 - 0.97 ** (k + 1)), rtol=1e-12)
    assert adam.beta_at(0) == 0.0


@pytest.mark.parametrize("scaling", [Adam(alpha=1e-2), AdaHessian()])
@pytest.mark.parametrize(
    "options",
    [{}, {"scope": "local_sync"}, {"scope": "local_step"}, {"stat": "fresh"}, {"beta1": 0.9},
     {"beta1": 0.9, "momentum": "keep"}, {"beta1": 0.9, "momentum": "reset"}, {"clients": 2}, {"refresh": 2},
     {"averaging": "gossip"}, {"H": [1, 2, 3, 2]},
     {"H": [1, 2, 3, 2], "scope": "local_step", "beta1": 0.9}, {"clients": 2, "scope": "local_sync"},
     {"clients": 2, "stat": "fresh", "beta1": 0.9, "momentum": "keep"}, {"averaging": "gossip", "stat": "fresh"}],
    ids=str,
)  # fmt: skip
def test_executors_and_the_node_run_agree(scaling: Any, options: dict[str, Any]) -> None:
    algorithm = SAVIC(**{"eta": 0.02, "H": 2, "scaling": scaling, **options})
    whole, single, apart = (
        run(algorithm, DIGITS, 4, count=4, execution={"device": "cpu", "dtype": "float64", **each})
        for each in ({}, {"executor": "one_by_one"}, {"node_run": True})
    )
    assert whole.summary["log_hash"] == single.summary["log_hash"] == apart.summary["log_hash"]
    np.testing.assert_allclose(single.final["x"], whole.final["x"], atol=1e-9)
    np.testing.assert_array_equal(apart.final["x"], single.final["x"])


@pytest.mark.parametrize(
    ("options", "vectors"),
    [({}, 1), ({"scaling": Adam()}, 2), ({"scaling": OASIS()}, 2), ({"scaling": Adam(), "beta1": 0.9}, 3),
     ({"beta1": 0.9}, 2), ({"beta1": 0.9, "momentum": "keep"}, 1), ({"scaling": Adam(), "scope": "local_sync"}, 1),
     ({"scaling": Adam(), "scope": "local_step"}, 1), ({"scaling": Adam(), "beta1": 0.9, "momentum": "reset"}, 2)],
    ids=str,
)  # fmt: skip
def test_bytes_of_a_round_are_those_of_the_table(options: dict[str, Any], vectors: int) -> None:
    one, two = (run(SAVIC(eta=0.01, H=2, **options), DIGITS, r, count=5).summary["wire_bytes"] for r in (1, 2))
    assert two - one == vectors * 2 * 4 * 650 * 4  # up and down, four nodes beside the server, float32


def test_the_second_vector_is_amortised_by_refreshing_seldom() -> None:
    sent = [run(SAVIC(scaling=Adam(), refresh=3), DIGITS, r, count=5).summary["wire_bytes"] for r in range(1, 7)]
    assert np.diff(sent).tolist() == [20_800, 41_600, 20_800, 20_800, 41_600]
    assert sent[0] == 11 * 20_800  # the first round has the ten statistics of the warm-up, too


def test_hessian_vector_products_are_charged() -> None:
    nodes = {"step": {"gradient": 1.0, "hvp": 10.0}}
    oasis = simnet.run(
        {"network": {"nodes": 4, "graph": "complete"}, "nodes": nodes, "problem": DIGITS, "rounds": 4,
         "algorithm": SAVIC(H=3, scaling=OASIS(warm_up=2))}
    )  # fmt: skip
    np.testing.assert_allclose(oasis.nodes["compute_s"], 2 * 10 + 4 * (3 + 10))


# ---- step counts of their own, and who is not drawn -----------------------------------------------------------------


def by_hand(algorithm: SAVIC, steps: list[int], rounds: int) -> np.ndarray:
    """SAVIC with momentum on full gradients of a quadratic, node by node, in numpy."""
    problem = Quadratic(len(steps), 0, dim=6, condition=20.0)
    problem.prepare("cpu", torch.float64)
    who = torch.arange(len(steps))

    def gradients(x_ND: np.ndarray) -> np.ndarray:
        return problem.gradients(torch.from_numpy(x_ND), who).numpy()

    hessian_ND = gradients(np.ones((len(steps), 6))) - gradients(np.zeros((len(steps), 6)))
    hessian = algorithm.scaling.statistic == "hessian"
    x, u = np.zeros((len(steps), 6)), np.zeros((len(steps), 6))
    d = algorithm.scaling.first(torch.from_numpy(hessian_ND.mean(0) if hessian else gradients(x).mean(0)))
    for k in range(rounds):
        s = np.zeros_like(x)
        for i, count in enumerate(steps):
            for _ in range(count):
                s[i] = gradients(x)[i]
                u[i] = algorithm.beta1 * u[i] + s[i]
                x[i] -= algorithm.eta * u[i] / algorithm.scaling.positive(d).numpy()
        mean = (hessian_ND if hessian else s).mean(0)
        d = algorithm.scaling.update(d, torch.from_numpy(mean), k + 10)
        x[:] = x.mean(0)
        u[:] = {"sync": u.mean(0), "keep": u, "reset": 0.0}[algorithm.momentum]
    return x


@pytest.mark.parametrize("momentum", ["sync", "keep", "reset"])
@pytest.mark.parametrize("scaling", [Adam(alpha=1e-2), OASIS()])
def test_nodes_with_steps_of_their_own_number_do_as_by_hand(scaling: Any, momentum: Any) -> None:
    steps = [1, 3, 2, 5]
    algorithm = SAVIC(eta=0.05, H=steps, scaling=scaling, beta1=0.6, momentum=momentum)
    record = run(algorithm, Quadratic(4, 0, dim=6, condition=20.0), 7, count=4)
    np.testing.assert_allclose(record.final["x"], by_hand(algorithm, steps, 7), atol=1e-12, rtol=0)
    np.testing.assert_allclose(record.nodes["compute_s"], 0.01 * np.array([7 * h for h in steps]) + (
        0.1 if scaling.statistic == "gradient" else 0.1 + 0.07))  # fmt: skip


@pytest.mark.parametrize("averaging", ["server", "ring", "tree"])
def test_faster_nodes_make_more_steps_and_all_are_ready_together(averaging: str) -> None:
    nodes = {"step": "40 ms", "groups": [{"nodes": [1], "step": "10 ms"}, {"nodes": [3], "step": "20 ms"}]}
    given = {"nodes": nodes, "collective": {"pattern": averaging}}
    by_speed = {"name": "SAVIC", "eta": 0.05, "H": {"mean": 8, "by": "speed"}, "scaling": "adam"}
    listed = by_speed | {"H": [4, 16, 4, 8]}
    one, two = (run(each, DIGITS, 3, count=4, **given) for each in (by_speed, listed))
    assert one.summary["log_hash"] == two.summary["log_hash"]
    np.testing.assert_array_equal(one.final["x"], two.final["x"])
    warm_up = 10 * np.array([0.04, 0.01, 0.04, 0.02])
    np.testing.assert_allclose(one.nodes["compute_s"], 3 * 0.16 + warm_up)
    apart = run(by_speed, DIGITS, 3, count=4, **given | {"execution": {"node_run": True, "dtype": "float64"}})
    assert apart.summary["log_hash"] == one.summary["log_hash"]


@pytest.mark.parametrize("pattern", ["server", "ring", "tree"])
def test_every_collective_sends_the_same_bytes(pattern: str) -> None:
    def sent(rounds: int) -> int:
        algorithm = SAVIC(eta=0.01, scaling=Adam(), beta1=0.9)
        record = run(algorithm, DIGITS, rounds, count=5, collective={"pattern": pattern})
        return int(record.summary["wire_bytes"])

    assert sent(2) - sent(1) == 3 * 2 * (5 - 1) * 650 * 4  # three vectors; round a ring each node 2 (n - 1)/n of them


@pytest.mark.parametrize("scope", ["global", "local_sync", "local_step"])
def test_who_is_not_drawn_computes_nothing(scope: str) -> None:
    algorithm = {
        "name": "SAVIC",
        "eta": 0.05,
        "H": 2,
        "clients": 2,
        "scaling": "oasis",
        "scope": scope,
        "stat": "fresh",
    }
    record = run(algorithm, DIGITS, 6, count=5, nodes={"step": {"gradient": 1.0, "hvp": 10.0}})
    products = 2 if scope == "local_step" else 1
    drawn = (record.nodes["compute_s"] - 10 * 10.0) / (2 * 1.0 + products * 10.0)
    np.testing.assert_allclose(drawn, np.rint(drawn), atol=1e-9)
    assert drawn.sum() == pytest.approx(2 * 6)


def test_a_scaling_of_its_own_stays_where_a_node_is_not_drawn() -> None:
    """Two nodes whose f_i differ, one drawn a round: each D is that of the node's own rounds alone."""
    a_ND, b_ND = np.array([[1.0, 3.0], [2.0, 0.5]]), np.array([[1.0, 1.0], [-1.0, 2.0]])
    algorithm = SAVIC(eta=0.1, scaling=RMSProp(beta=0.5, alpha=1e-2, warm_up=1), scope="local_sync", clients=1)
    found = run(algorithm, Quadratic.from_arrays(a_ND, b_ND), 8, count=2).final["x"][0]
    possible = []
    for pattern in range(2**8):
        x, d = np.zeros(2), [np.abs(a_ND[i] * (0 - b_ND[i])) for i in (0, 1)]
        for k in range(8):
            i = pattern >> k & 1
            g = a_ND[i] * (x - b_ND[i])
            x = x - 0.1 * g / np.maximum(1e-2, d[i])
            d[i] = np.sqrt(0.5 * d[i] ** 2 + 0.5 * g**2)
        possible.append(x)
    assert np.abs(np.array(possible) - found).max(1).min() < 1e-12


# ---- how a run ends ------------------------------------------------------------------------------------------------


def test_statistics_without_end_are_a_named_outcome_and_the_last_good_round_is_kept() -> None:
    """Gradients of 1e21 squared have no float32: D is infinite, and steps divided by it would stand still."""
    problem = Quadratic.from_arrays(np.full((3, 1), 1e18), np.ones((3, 2)))
    single = {"device": "cpu", "dtype": "float32"}
    record = run(SAVIC(eta=1000.0, scaling=Adam()), problem, 6, count=3, evaluate_every=1, execution=single)
    assert record.outcome == (
        "diverged: the objective is nan after round 3; the states of round 2 are kept; a reported value is no longer "
        "finite; try a smaller step size, or `missing` other than this one"
    )
    assert record.rounds["round"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(record.final["x"], 1e3 - 999e3, rtol=1e-6)  # a step of eta g/D: 1, then -999, times 1000


@pytest.mark.parametrize("scaling", [{"name": "adam", "alpha": 1e-2}, {"name": "oasis"}], ids=["adam", "oasis"])
def test_it_trains_a_transformer_on_the_characters_of_a_text_file(scaling: Any, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("the node sends what the server wants. " * 60)
    problem = {
        "name": "Transformer", "activation": "gelu", "width": 8, "heads": 2, "layers": 1, "batch": 8,
        "data": {"name": "text", "path": str(tmp_path / "words.txt"), "block": 8},
    }  # fmt: skip
    algorithm = {"name": "SAVIC", "eta": 0.01, "H": 4, "beta1": 0.9, "scaling": scaling}
    record = run(algorithm, problem, 30, count=2, evaluate_every=30)
    assert record.rounds["objective"][-1] < 0.6 * np.log(17)  # of so many characters


# ---- the reproductions that are exact -------------------------------------------------------------------------------


def badly_scaled(kappa: float, apart: float = 0.0) -> tuple[Quadratic, float]:
    """R1 and R2: Hessians diag(a), a log-spaced on [1, kappa] and shuffled; with `apart`, each node's own. The problem,
    and |x*|^2.
    """
    rng = np.random.default_rng(3)
    a = rng.permutation(np.logspace(0, np.log10(kappa), 100))
    b = rng.normal(size=100) + rng.normal(size=(10, 100))
    a_nd = a * np.exp(rng.uniform(-apart, apart, (10, 100)))
    return Quadratic.from_arrays(a_nd, b), float((((a_nd * b).sum(0) / a_nd.sum(0)) ** 2).sum())


@pytest.mark.parametrize(("kappa", "rounds"), [(10, 11), (100, 102), (1000, 1006)])
def test_scaling_makes_the_rounds_independent_of_the_condition(kappa: float, rounds: int) -> None:
    def needed(algorithm: Any, most: int) -> int:
        problem, start = badly_scaled(kappa)
        distance = run(algorithm, problem, most, evaluate_every=1).rounds["distance_to_optimum"]
        assert (distance <= 1e-6 * start).any()
        return int(np.argmax(distance <= 1e-6 * start)) + 1

    assert needed(SAVIC(eta=0.5, H=5, scaling=OASIS(beta=0.999, warm_up=1)), 5) == 2
    if kappa < 1000:
        assert needed(SAVIC(eta=1 / kappa, H=5), rounds + 20) == pytest.approx(rounds, rel=0.1)


def test_local_scalings_stop_at_another_point_and_global_ones_do_not() -> None:
    def bias(rounds: int, **options: Any) -> float:
        problem, size = badly_scaled(100, apart=0.5)
        record = run(SAVIC(scaling=OASIS(beta=0.999, warm_up=1), **options), problem, rounds)
        return float(record.summary["distance_to_optimum"]) / size

    assert bias(800, eta=0.1, H=1) < 1e-12
    coarse, fine = bias(400, eta=0.1, H=5), bias(800, eta=0.05, H=5)
    assert 3 < coarse / fine < 4.5
    local = [bias(400, eta=g, H=h, scope="local_sync") for g, h in ((0.1, 1), (0.05, 5), (0.1, 10))]
    assert max(local) / min(local) < 1.01 and min(local) > 100 * 1e-12


def leaky() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(64, 10), torch.nn.LeakyReLU())


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"scaling": {"name": "adam", "alpha": 0.0}}, "alpha = 0; above 0"),
        ({"scaling": {"name": "adam", "beta": 1.0}}, "beta = 1; at least 0 and below 1"),
        ({"H": 0}, "algorithm.H = 0"),
        ({"beta1": 1.0}, "algorithm.beta1 = 1.0"),
        ({"eta": 0.0}, "algorithm.eta"),
        ({"scaling": "adm"}, "did you mean 'adam'"),
        ({"H": []}, "algorithm.H = 0"),
        ({"H": [1, 2]}, "algorithm.H = [1, 2]: 2 numbers of local steps for 10 nodes"),
        ({"H": {"mean": 0, "by": "speed"}}, "algorithm.H.mean = 0"),
        ({"H": {"mean": 4, "bye": "speed"}}, "(bye: unexpected keyword argument)"),
        ({"H": {"mean": 4, "by": "sped"}}, "(by: input should be 'speed')"),
        ({"refresh": 0}, "algorithm.refresh = 0"),
        ({"clients": 11}, "algorithm.clients = 11: takes 1 to 10"),
        ({"clients": 2, "averaging": "gossip"}, "algorithm.clients = 2: a sample is averaged exactly"),
    ],
)
def test_bad_parameters_are_refused_by_field(params: dict[str, Any], words: str) -> None:
    with pytest.raises((InputError, ScenarioError)) as caught:
        run({"name": "SAVIC", **params}, DIGITS, 1)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ({"name": "MLP", "hidden": 4, "data": "digits"}, "MLP has relu in it, which has none at its kink"),
        ({"name": "CNN", "channels": [2], "data": "digits"}, "CNN has relu in it"),
        ({"name": "Transformer", "width": 8, "data": "sample_text"}, "Transformer has relu in it"),
        ({"name": "Module", "module": "tests.test_savic:leaky",
          "data": "digits"}, "Module has leaky_relu in it"),
    ],
    ids=["MLP", "CNN", "Transformer", "Module"],
)  # fmt: skip
def test_kinks_are_refused_where_second_derivatives_are_asked_for(problem: dict[str, Any], reason: str) -> None:
    with pytest.raises(CapabilityError, match="the scaling OASIS rests on second derivatives") as caught:
        run({"name": "SAVIC", "scaling": "oasis"}, problem, 1)
    assert reason in str(caught.value) and "activation: tanh" in str(caught.value)
    run({"name": "SAVIC", "scaling": "adam", "eta": 0.01}, problem | {"batch": 4}, 1, count=2)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [({"durations": "measured"}, "nodes.durations = 'measured': they are known call by call"),
     ({"step": 0.0}, "algorithm.H.by = 'speed': a gradient takes 0 s at some node")],
)  # fmt: skip
def test_steps_by_speed_need_speeds(nodes: dict[str, Any], words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        run({"name": "SAVIC", "H": {"mean": 4, "by": "speed"}}, DIGITS, 1, nodes=nodes)
    assert words in str(caught.value)
