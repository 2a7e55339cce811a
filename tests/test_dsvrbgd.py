"""DSVRBGD against its matrix form, its invariants, its messages, and centralised single-loop descent."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from simnet.models.algorithms.dsvrbgd import DSVRBGD
from simnet.models.problems.bilevel_quadratic import BilevelQuadratic
from tests.bilevel import Levels, State, close, run, uniform_ring

EX, EY, EZ = 0.02, 0.05, 0.05
ORDERS: tuple[Literal["simultaneous", "alternating"], ...] = ("simultaneous", "alternating")


def matrix_form(
    w: np.ndarray, rounds: int, order: str, a: float = 1.0, tracking: bool = True, own_samples: bool = False,
    **more: float,
) -> State:  # fmt: skip
    """The update of the docstring, row by row of W, with exact oracles."""
    q = Levels()
    s: list[Any] = list(q.start)
    u: list[Any] = [None] * 3
    p: list[Any] = [None] * 3
    asked: dict[int, Any] = {}
    oracle = {0: q.hx, 1: lambda x, y, z: q.hy(x, y), 2: q.hz}
    for _ in range(rounds):
        new, mixed = list(s), [w @ v for v in s]
        for k in (1, 2, 0):
            at = tuple(s) if order == "simultaneous" else tuple(new)
            fresh = oracle[k](*at)
            if u[k] is None:
                estimate, p[k] = fresh, fresh
            else:
                estimate = fresh + (1 - a) * (u[k] - oracle[k](*asked[k]))
                p[k] = w @ p[k] + estimate - u[k] if tracking else estimate
            u[k], asked[k] = estimate, at
            new[k] = mixed[k] - (EX, EY, EZ)[k] * p[k]
            eta = more.get("damping", 1.0)
            new[k] = s[k] + eta * (new[k] - s[k])
            if k == 2 and "proj_z" in more:
                size = np.linalg.norm(new[k], axis=1, keepdims=True)
                new[k] = new[k] * np.minimum(1, more["proj_z"] / size)
        s = new
    return s[0], s[1], s[2]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"a": 0.3},
        {"tracking": False},
        {"damping": 0.6},
        {"proj_z": 0.4},
        {"a": 0.1, "damping": 0.5},
        {"own_samples": True, "a": 0.3},
    ],
)
def test_it_is_its_matrix_form(order: Any, more: dict[str, Any]) -> None:
    record = run(DSVRBGD(EX, EY, EZ, order=order, **more), 40)
    close(record, matrix_form(uniform_ring(8), 40, order, **more))


@pytest.mark.parametrize("order", ORDERS)
def test_a_projection_of_z_bites(order: Any) -> None:
    record = run(DSVRBGD(EX, EY, EZ, order=order, proj_z=0.4), 40)
    assert np.linalg.norm(record.final["z"], axis=1).max() == pytest.approx(0.4, rel=1e-12)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("a", [1.0, 0.1])
def test_trackers_keep_the_mean_of_their_estimates_at_every_iteration(order: Any, a: float) -> None:
    """Noisy oracles, so that estimates keep moving."""
    problem = {"name": "BilevelQuadratic", "noise": 0.3, "batch": 1}
    record = run(DSVRBGD(EX, 0.03, 0.03, a=a, order=order), 100, problem=problem, evaluate_every=1)
    for column in ("tracker_residual", "tracker_residual_x", "tracker_residual_y", "tracker_residual_z"):
        assert record.rounds[column].max() <= 1e-10 * np.abs(record.final["y"]).max()


@pytest.mark.parametrize("order", ORDERS)
def test_complete_averaging_of_equal_nodes_is_centralised_single_loop_descent(order: Any) -> None:
    """W = 11'/n, a = 1: every node is the one that knows the averages."""
    record = run(DSVRBGD(EX, EY, EZ, order=order), 60, "complete", problem={"name": "BilevelQuadratic", "het": 0.0})
    x, y, z = centralised(60, order)
    for name, expected in (("x", x), ("y", y), ("z", z)):
        np.testing.assert_allclose(record.final[name], np.tile(expected, (8, 1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_complete_averaging_of_unequal_nodes_ends_where_centralised_descent_does(order: Any) -> None:
    """A node's step is along its own tracker, so unequal nodes differ by e (p_i - p_j) until the trackers agree."""
    record = run(DSVRBGD(EX, EY, EZ, order=order), 2000, "complete")
    close(run(DSVRBGD(EX, EY, EZ, order=order), 30, "complete"), matrix_form(np.full((8, 8), 1 / 8), 30, order))
    x, _, _ = centralised(2000, order)
    np.testing.assert_allclose(record.final["x"], np.tile(x, (8, 1)), rtol=0, atol=1e-5)
    assert record.rounds["consensus_distance"][-1] < 1e-15


def centralised(rounds: int, order: str) -> State:
    """Single-loop descent by one node that knows the averages."""
    q = Levels()
    A, B, b, c, e = (v.mean(0) for v in (q.A, q.B, q.b, q.c, q.e))
    x, y, z = np.zeros(5), np.zeros(10), np.zeros(10)
    for _ in range(rounds):
        if order == "simultaneous":
            x, y, z = x - EX * (q.rho * (x - e) + B.T @ z), y - EY * (A @ y - B @ x - b), z - EZ * (A @ z - y + c)
        else:
            y = y - EY * (A @ y - B @ x - b)
            z = z - EZ * (A @ z - y + c)
            x = x - EX * (q.rho * (x - e) + B.T @ z)
    return x, y, z


@pytest.mark.parametrize("order", ORDERS)
def test_it_solves_the_quadratic_instance(order: Any) -> None:
    record = run(DSVRBGD(EX, EY, EZ, order=order), 3400)
    last = {name: column[-1] for name, column in record.rounds.items()}
    assert last["stationarity_gap"] <= 1e-18
    assert last["distance_to_optimum"] ** 0.5 <= 1e-7
    assert last["lower_error"] <= 1e-7 and last["multiplier_error"] <= 1e-7


# ---- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_one_message_per_directed_edge_and_iteration(order: Any) -> None:
    record = run(DSVRBGD(EX, EY, EZ, order=order), 5, evaluate_every=1, record={"messages": True})
    first, later = 16 * 4 * (5 + 20), 16 * 4 * (2 * 5 + 4 * 10)
    assert np.diff(record.rounds["wire_bytes"], prepend=0).tolist() == [first, *[later] * 4]
    assert np.diff(record.rounds["messages"], prepend=0).tolist() == [16] * 5
    assert record.rounds["gossip_rounds"].tolist() == [1, 2, 3, 4, 5]
    assert record.summary["bytes_by_variable"] == {
        "x": 5 * 16 * 4 * 5, "y": 5 * 16 * 4 * 10, "z": 5 * 16 * 4 * 10, "trackers": 4 * 16 * 4 * 25,
    }  # fmt: skip


def test_without_trackers_a_message_is_half_as_long() -> None:
    record = run(DSVRBGD(EX, EY, EZ, tracking=False), 3, evaluate_every=1)
    assert np.diff(record.rounds["wire_bytes"], prepend=0).tolist() == [16 * 4 * 25] * 3


@pytest.mark.parametrize("tier", ["arrays", "compiled", "events", "processes"])
def test_variables_are_counted_alike_by_every_tier_under_loss(tier: str) -> None:
    network = {"nodes": 8, "graph": "ring", "loss_unit": "message", "policy": "drop",
               "link": {"bandwidth": "1 Mbit/s", "latency": "5 ms", "loss": 0.2}}  # fmt: skip
    record = run(DSVRBGD(EX, EY, EZ), 6, network=network, execution={"dtype": "float64", "tier": tier})
    named = record.summary["bytes_by_variable"]
    assert sum(named.values()) == record.summary["bytes_by_kind"]["payload"] > 0
    assert named["y"] == named["z"] == 2 * named["x"]


def test_the_message_travels_during_the_oracle() -> None:
    """Compute 40 ms, message about 7 ms: a round takes the longer of the two."""
    record = run(DSVRBGD(EX, EY, EZ), 10, nodes={"step": "40 ms"})
    assert record.rounds["sim_time_s"][-1] == pytest.approx(0.4, rel=1e-9)


# ---- engines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("policy", ["retry", "drop"])
def test_group_and_node_runs_and_executors_agree(order: Any, policy: str) -> None:
    network = {"nodes": 8, "graph": "ring", "loss_unit": "message", "policy": policy,
               "link": {"bandwidth": "1 Mbit/s", "latency": "5 ms", "loss": 0.1}}  # fmt: skip
    more: dict[str, Any] = {
        "network": network, "problem": {"name": "BilevelQuadratic", "noise": 0.3, "batch": 2},
        "nodes": {"step": "2 ms", "jitter": 0.5},
    }  # fmt: skip
    algorithm = DSVRBGD(EX, EY, EZ, a=0.2, b0=5, order=order)
    batched = run(algorithm, 12, **more)
    for execution in ({"executor": "one_by_one"}, {"tier": "compiled"}, {"tier": "events"}, {"node_run": True}):
        other = run(algorithm, 12, **more, execution={"dtype": "float64", **execution})
        assert other.rounds["sim_time_s"][-1] == pytest.approx(batched.rounds["sim_time_s"][-1], rel=1e-12)
        close(other, (batched.final["x"], batched.final["y"], batched.final["z"]))


@pytest.mark.parametrize("own_samples", [False, True])
@pytest.mark.parametrize("order", ORDERS)
def test_one_sample_serves_both_points_of_a_correction(order: Any, own_samples: bool) -> None:
    """Where nothing moves and a is next to 0, the correction takes all noise out: the first estimate stays."""
    problem = {"name": "BilevelQuadratic", "noise": 0.3, "batch": 1}
    algorithm = DSVRBGD(1e-30, 1e-30, 1e-30, a=1e-12, order=order, own_samples=own_samples)
    first, later = (run(algorithm, rounds, problem=problem).final for rounds in (1, 30))
    for name in ("estimate_x", "estimate_y", "estimate_z"):
        np.testing.assert_allclose(later[name], first[name], rtol=0, atol=1e-9)


def test_oracles_may_draw_rows_of_their_own() -> None:
    """At zero, hx shows the row whose noise e has, and hz that of c: one row for both, or two."""
    problem = {"name": "BilevelQuadratic", "noise": 0.3, "batch": 1}
    noise = BilevelQuadratic(8, noise=0.3)._noise_rows()[:, 10 * 16 :]  # what is added to c, then to e
    exact = run(DSVRBGD(), 1).final

    def rows(own_samples: bool) -> list[list[int]]:
        found = run(DSVRBGD(own_samples=own_samples), 1, problem=problem).final
        added = [(found["estimate_z"] - exact["estimate_z"]), (found["estimate_x"] - exact["estimate_x"]) / -0.1]
        return [[int(np.abs(part - own).sum(1).argmin()) for own in off]
                for off, part in zip(added, (noise[:, :10], noise[:, 10:]), strict=True)]  # fmt: skip

    same, apart = rows(False), rows(True)
    assert same[0] == same[1] and not set(apart[0]) & set(apart[1])


def test_a_large_first_batch_starts_nearer_to_the_mean() -> None:
    problem = {"name": "BilevelQuadratic", "noise": 0.3, "batch": 1}
    exact = run(DSVRBGD(EX, EY, EZ), 1).final["estimate_y"]

    def off(b0: int | None) -> float:
        return float(np.square(run(DSVRBGD(EX, EY, EZ, b0=b0), 1, problem=problem).final["estimate_y"] - exact).sum())

    assert off(200) < 0.05 * off(None)


# ---- loss ------------------------------------------------------------------------------------------------------------


def test_a_lost_message_shows_in_the_tracker_residual_alone() -> None:
    def at(policy: str) -> dict[str, float]:
        network = {"nodes": 8, "graph": "ring", "loss_unit": "message", "policy": policy,
                   "link": {"bandwidth": "1 Mbit/s", "latency": "5 ms", "loss": 0.01}}  # fmt: skip
        record = run(DSVRBGD(0.03, EY, EZ), 2000, network=network)
        assert any("needs every one" in note for note in record.header.get("notes", ())) == (policy == "drop")
        return {name: float(column[-1]) for name, column in record.rounds.items()}

    sent_again, lost = at("retry"), at("drop")
    assert sent_again["tracker_residual"] < 1e-12 and sent_again["stationarity_gap"] < 1e-16
    assert lost["tracker_residual"] > 1e-4 and lost["stationarity_gap"] > 1e-6
    assert lost["consensus_distance"] < 1e-20  # nodes agree, on the wrong point
