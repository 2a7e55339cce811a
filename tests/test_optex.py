"""OptEx: against itself written in dense arrays, exact statements, its bytes and its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import simnet
from simnet.errors import Outcome, ScenarioError
from simnet.first_order import SGD
from simnet.models.algorithms.optex import OptEx, OptExReplicated
from simnet.models.problems.quadratic import Quadratic
from simnet.models.scalings.shipped import Adam as AdamScaling
from simnet.models.scalings.shipped import RMSProp
from simnet.models.steps.shipped import Adam, Momentum, Scaled
from simnet.record import Record

STEPS = (SGD(0.7), Momentum(0.2, 0.8), Adam(0.05), Scaled(0.05, RMSProp(beta=0.9, alpha=1e-3), 0.5))
EQUAL = {"name": "Quadratic", "dim": 12, "condition": 30.0, "heterogeneity": 0.0}


def run(algorithm: Any, rounds: int = 10, workers: int = 5, problem: Any = EQUAL, **more: Any) -> Record:
    apart = isinstance(algorithm, OptEx)
    return simnet.run(
        {
            "network": {"nodes": workers + apart, "graph": "star" if apart else "complete",
                        "link": {"bandwidth": "1 Mbit/s", "latency": "1 ms"}},
            "nodes": {"step": {"gradient": 0.01, "loss": 0.005}}, "problem": problem, "algorithm": algorithm,
            "rounds": rounds, "evaluate_every": 1, "execution": {"device": "cpu", "dtype": "float64"}, **more,
        }
    )  # fmt: skip


def reports(algorithm: Any, rounds: int, **more: Any) -> np.ndarray:
    """x after `rounds` rounds, at the coordinator or the first node."""
    found: np.ndarray = run(algorithm, rounds, **more).final["x"][0]
    return found


# ---- the whole algorithm in dense arrays ---------------------------------------------------------------------------


def stepper(step: Any) -> tuple[Any, Callable[[np.ndarray, Any, np.ndarray], tuple[np.ndarray, Any]]]:
    """STEP.init for 12 coordinates and STEP, by hand."""
    zero = np.zeros(12)

    def momentum(x: Any, s: Any, g: Any) -> Any:
        m = step.beta * s + g
        return x - step.eta * m, m

    def adam(x: Any, s: Any, g: Any) -> Any:
        m, v, t = s
        m, v, t = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g, t + 1
        return x - step.eta * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), (m, v, t)

    def scaled(x: Any, s: Any, g: Any) -> Any:
        u, d = s
        d = np.abs(g) if d is None else np.sqrt(0.9 * d * d + 0.1 * g * g)
        u = 0.5 * u + g
        return x - step.eta * u / np.maximum(d, 1e-3), (u, d)

    first: dict[type, Any] = {SGD: None, Momentum: zero, Adam: (zero, zero, 0), Scaled: (zero, None)}
    rules: dict[type, Any] = {SGD: lambda x, s, g: (x - step.eta * g, None), Momentum: momentum, Adam: adam,
                              Scaled: scaled}  # fmt: skip
    return first[type(step)], rules[type(step)]


def dense(algorithm: Any, rounds: int, workers: int) -> np.ndarray:
    """x after each round, (rounds, 12), on the quadratic of EQUAL, whose nodes are all alike."""
    a, c = (part[0] for part in Quadratic(workers, 0, dim=12, condition=30.0, heterogeneity=0.0).arrays)
    state, step = stepper(algorithm.step)
    x, points, gradients, found = np.zeros(12), np.zeros((0, 12)), np.zeros((0, 12)), []

    def true(z: np.ndarray) -> np.ndarray:
        return a * (z - c)

    def matern(r: np.ndarray) -> np.ndarray:
        return (1 + np.sqrt(5) * r + 5 / 3 * r**2) * np.exp(-np.sqrt(5) * r)

    for _ in range(rounds):
        n = (algorithm.N or workers) if len(points) >= 2 else 1
        if n > 1:
            apart = np.linalg.norm(points[:, None] - points, axis=2)
            scale = algorithm.c * np.median(apart[np.triu_indices(len(points), 1)])
            K = matern(apart / scale) + algorithm.ridge * np.eye(len(points))
        Z, S = [x], [state]
        for _ in range(n - 1):
            w = np.linalg.solve(K, matern(np.linalg.norm(points - Z[-1], axis=1) / scale))
            mu = {"optex": gradients.T @ w, "zero": np.zeros(12), "last_grad": gradients[-1]}[algorithm.mode]
            z, s = step(Z[-1], S[-1], mu)
            Z.append(z)
            S.append(s)
        G = [true(z) for z in Z]
        losses = [0.5 * np.sum(a * (z - c) ** 2) for z in Z]
        best = {"last": n - 1, "loss": int(np.argmin(losses)), "grad": int(np.argmin([g @ g for g in G]))}
        i = best[algorithm.selection]
        x, state = step(Z[i], S[i], G[i])
        points, gradients = (np.concatenate([old, new])[-algorithm.T0 :] for old, new in ((points, Z), (gradients, G)))
        found.append(x)
    return np.array(found)


CASES = [
    *(({"step": step}) for step in STEPS),
    *({"step": Adam(0.3), "selection": s} for s in ("loss", "grad")),
    *({"step": STEPS[3], "selection": s} for s in ("loss", "grad")),
    {"step": SGD(1.9), "selection": "grad", "N": 4, "T0": 9},
    {"step": SGD(0.7), "N": 3, "T0": 7, "ridge": 0.1, "c": 1.0},
    {"step": Adam(0.05), "mode": "zero"},
    {"step": Momentum(0.05, 0.5), "mode": "last_grad", "N": 2},
]


@pytest.mark.parametrize("options", CASES, ids=str)
def test_it_is_the_algorithm_written_in_dense_arrays(options: dict[str, Any]) -> None:
    algorithm = OptEx(**{"T0": 12, **options})
    expected = dense(algorithm, 9, 5)
    for rounds in (1, 2, 3, 4, 9):
        np.testing.assert_allclose(reports(algorithm, rounds), expected[rounds - 1], rtol=1e-9, atol=1e-9)
    if algorithm.N is None:
        replicated = OptExReplicated(**{"T0": 12, **options})
        np.testing.assert_allclose(reports(replicated, 9), expected[8], rtol=1e-9, atol=1e-9)


def test_selections_choose_other_points_than_the_last() -> None:
    last, loss = (dense(OptEx(T0=12, step=Adam(0.3), selection=s), 9, 5) for s in ("last", "loss"))
    assert np.abs(last - loss).max() > 0.01


# ---- exact ---------------------------------------------------------------------------------------------------------

DIGITS = {"name": "Softmax", "data": "digits", "batch": 16}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_one_point_a_round_is_the_plain_method_bit_for_bit(step: Any) -> None:
    first, plain = (run(OptEx(step=step, **o), 12, 3, DIGITS) for o in ({"N": 1}, {"mode": "vanilla"}))
    np.testing.assert_array_equal(first.rounds["objective"], plain.rounds["objective"])
    np.testing.assert_array_equal(first.final["x"], plain.final["x"])
    np.testing.assert_array_equal(first.rounds["sim_time_s"], plain.rounds["sim_time_s"])
    for mode in ("zero", "last_grad", "target"):
        np.testing.assert_array_equal(run(OptEx(N=1, step=step, mode=mode), 12, 3, DIGITS).final["x"], plain.final["x"])


def test_the_target_takes_n_plain_steps_a_round() -> None:
    target, plain = run(OptEx(mode="target", step=Adam(0.01)), 4, 5, DIGITS), OptEx(mode="vanilla", step=Adam(0.01))
    np.testing.assert_array_equal(target.final["x"], run(plain, 20, 5, DIGITS).final["x"])
    assert target.summary["sim_time_s"] == pytest.approx(run(plain, 20, 5, DIGITS).summary["sim_time_s"], rel=1e-12)


def test_guessing_nothing_leaves_sgd_as_it_is() -> None:
    plain, zero = (run(OptEx(mode=m), 10) for m in ("vanilla", "zero"))
    np.testing.assert_allclose(zero.final["x"], plain.final["x"], rtol=1e-14)


@pytest.mark.parametrize(
    "algorithm",
    [OptEx(step=Adam(0.01), ridge=0.1), OptEx(N=3, T0=7, selection="grad"),
     OptEx(selection="loss", step=Momentum(0.05)), OptEx(coordinates=20), OptEx(mode="last_grad"),
     OptEx(mode="target"), OptEx(step=Scaled(0.01, AdamScaling())),
     OptEx(deadline_s=0.06), OptExReplicated(step=Adam(0.01)), OptExReplicated(selection="loss"),
     OptExReplicated(selection="grad", step=Momentum(0.05)), OptExReplicated(mode="target")],
    ids=str,
)  # fmt: skip
def test_executors_and_the_node_run_agree(algorithm: Any) -> None:
    slow = {"nodes": {"step": {"gradient": 0.01, "loss": 0.005}, "groups": [{"nodes": [3], "step": 0.05}]}}
    whole, single, apart = (
        run(algorithm, 7, 5, DIGITS, **slow, execution={"device": "cpu", "dtype": "float64", **each})
        for each in ({}, {"executor": "one_by_one"}, {"node_run": True})
    )
    assert whole.summary["log_hash"] == single.summary["log_hash"] == apart.summary["log_hash"]
    np.testing.assert_allclose(single.final["x"], whole.final["x"], atol=1e-9)
    np.testing.assert_array_equal(apart.final["x"], single.final["x"])


def test_workers_draw_minibatches_of_their_own() -> None:
    noisy = {"name": "Quadratic", "dim": 12, "heterogeneity": 0.0, "noise": 1.0, "batch": 1}
    one = run(OptEx(N=2, mode="zero"), 3, 2, noisy)  # with no proxy step both workers are asked about one point
    other = run(OptEx(mode="vanilla"), 3, 2, noisy)
    assert np.abs(one.final["x"] - other.final["x"]).max() > 1e-3


def test_without_a_ridge_the_guess_at_a_known_point_is_its_gradient() -> None:
    """A step of no length asks for a guess at the very point that the history ends with."""
    tiny = OptEx(N=2, step=SGD(1e-13), ridge=0.0, length_scale=1.0)
    assert np.isfinite(run(tiny, 2).final["x"]).all()


# ---- bytes and time ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("N", "extra"), [(1, 0), (3, 0), (5, 0), (4, 1)])
def test_a_round_sends_n_points_and_n_gradients(N: int, extra: int) -> None:
    algorithm = OptEx(N=N, selection="loss" if extra else "last")
    sent = [run(algorithm, rounds).summary["wire_bytes"] for rounds in (1, 2, 3, 4)]
    assert np.diff([0, *sent]).tolist() == [4 * (2 * n * 12 + n * extra) for n in (1, 1, N, N)]


def test_the_replicated_form_sends_gradients_alone() -> None:
    ring = {"collective": {"pattern": "ring"}}
    three, four = (run(OptExReplicated(), rounds, **ring).summary["wire_bytes"] for rounds in (3, 4))
    assert four - three == 5 * 4 * 4 * 12  # each of five nodes receives four vectors of 12 float32 numbers


def test_fit_and_proxy_steps_are_charged_to_the_coordinator() -> None:
    nodes = {"step": 0.01, "compute": 1e6}
    record = run(OptEx(N=4, T0=8), 6, nodes=nodes)
    fit = [2 * 4 * kept * 12 + kept**3 / 3 for kept in (2, 6, 8, 8)]
    path = [3 * (4 * kept * 12 + 2 * 12) for kept in (2, 6, 8, 8)]
    assert record.nodes["compute_s"][0] == pytest.approx((sum(fit) + sum(path)) / 1e6, rel=1e-12)
    assert record.nodes["compute_s"][1:].tolist() == pytest.approx([0.06, 0.04, 0.04, 0.04, 0.0])
    free = run(OptEx(N=4, T0=8), 6, nodes={"step": {"gradient": 0.01, "work": 0.0}})
    assert free.nodes["compute_s"][0] == 0.0
    (note,) = record.header["notes"]
    assert note == "a round charges the coordinator 0.0009387 MFLOP for the fit and 0.001224 MFLOP for 3 proxy steps"


POINT = 10**6  # numbers, 4 MB: 3.2 ms through 10 Gbit/s


@pytest.mark.parametrize("model", ["maxmin", "independent"])
@pytest.mark.parametrize("port_s", [3.2e-3, 0.8e-3])
@pytest.mark.parametrize("gradient_s", [0.005, 0.01024, 0.05, 0.2])
def test_a_round_takes_what_its_closed_form_says(model: str, port_s: float, gradient_s: float) -> None:
    """The coordinator's port as one shared link, or as one port in each direction that serves message by message."""
    N, rounds = 4, 12
    shape = {"graph": "switch"} if model == "maxmin" else {"graph": "star", "receive_ports": "serial"}
    record = simnet.estimate(
        {
            "network": {"nodes": N + 1, "model": model, "link": {"bandwidth": 4e6 / port_s, "latency": 0.0}, **shape},
            "nodes": {"step": {"gradient": gradient_s, "work": 0.0}}, "roles": {"coordinator": [0]},
            "topology": "star", "problem": {"name": "Declared", "parameters": POINT},
            "algorithm": {"name": "OptEx", "N": N}, "rounds": rounds, "evaluate_every": 1,
        }, full=True,
    )  # fmt: skip
    expected = gradient_s + (2 * N if model == "maxmin" else N + 1) * port_s
    assert np.diff(record.rounds["sim_time_s"])[1:] == pytest.approx(expected, rel=1e-9)


# ---- late workers --------------------------------------------------------------------------------------------------


def test_late_answers_join_the_history_and_nobody_waits_for_them() -> None:
    slow = {"nodes": [2], "step": {"gradient": 0.3, "work": 0.0}}
    nodes = {"step": {"gradient": 0.01, "work": 0.0}, "groups": [slow]}
    waits, hurries = (run(OptEx(N=5, deadline_s=s), 40, nodes=nodes) for s in (None, 0.05))
    assert waits.summary["sim_time_s"] > 10.0 > 1.2 > hurries.summary["sim_time_s"]
    asked = hurries.nodes["compute_s"] / np.array([1, 0.01, 0.3, 0.01, 0.01, 0.01])
    assert asked[[1, 3, 4, 5]] == pytest.approx([40, 38, 38, 38], rel=1e-12) and 1 < asked[2] < 5
    assert hurries.summary["objective"] < run(OptEx(mode="vanilla"), 40).summary["objective"]


def test_a_deadline_that_nobody_misses_changes_nothing() -> None:
    waits, hurries = (run(OptEx(N=5, deadline_s=s), 8) for s in (None, 5.0))
    np.testing.assert_array_equal(waits.final["x"], hurries.final["x"])
    np.testing.assert_array_equal(waits.rounds["sim_time_s"], hurries.rounds["sim_time_s"])


def test_where_all_are_late_the_first_is_waited_for() -> None:
    record = run(OptEx(N=3, deadline_s=1e-4), 8, 3)
    assert record.ended is Outcome.FINISHED and record.summary["rounds"] == 8
    assert record.summary["objective"] < record.rounds["objective"][0]


# ---- bad input -----------------------------------------------------------------------------------------------------


def test_a_short_history_is_warned_of() -> None:
    for algorithm, said in ((OptEx(N=5, T0=4), True), (OptEx(N=5, T0=5), False), (OptExReplicated(T0=4), True)):
        notes = " ".join(run(algorithm, 1).header["notes"])
        assert ("T0 = 4 is below N = 5" in notes and "2 N or more" in notes) is said


@pytest.mark.parametrize(
    ("algorithm", "said"),
    [({"name": "OptEx", "N": 6}, "algorithm.N = 6: each point of a round goes to a worker of its own, and there are 5"),
     ({"name": "OptEx", "N": 0}, "algorithm.N = 0"), ({"name": "OptEx", "T0": 1}, "algorithm.T0 = 1"),
     ({"name": "OptEx", "ridge": -0.1}, "algorithm.ridge = -0.1"), ({"name": "OptEx", "c": 0.0}, "algorithm.c = 0"),
     ({"name": "OptEx", "deadline_s": 0.0}, "algorithm.deadline_s = 0.0"),
     ({"name": "OptEx", "deadline_s": 1.0, "selection": "loss"}, "algorithm.selection"),
     ({"name": "OptEx", "mode": "last"}, "algorithm.mode"), ({"name": "OptEx", "kernel": "matern"}, "algorithm.kernel"),
     ({"name": "OptEx", "step": {"name": "sgd", "eta": 0.0}}, "algorithm.step.eta = 0.0"),
     ({"name": "OptEx", "step": {"name": "scaled", "scaling": "oasis"}}, "Hessian-vector products"),
     ({"name": "OptEx", "selection": "grad", "step": {"name": "scaled", "scaling": "adam"}}, "algorithm.selection")],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_any_work(algorithm: dict[str, Any], said: str) -> None:
    scenario = {"network": {"nodes": 6, "graph": "star"}, "problem": "Quadratic", "algorithm": algorithm, "rounds": 1}
    with pytest.raises(ScenarioError) as refused:
        simnet.run(scenario)
    assert said in str(refused.value)


def test_the_replicated_form_takes_all_nodes_and_all_coordinates() -> None:
    for options, said in (({"N": 3}, "N = 3: every one of the 5 nodes"), ({"coordinates": 4}, "coordinates = 4")):
        with pytest.raises(ScenarioError, match=said):
            run(OptExReplicated(**options), 1)


def test_a_step_far_too_large_ends_by_name() -> None:
    record = run(OptEx(step=SGD(1e200)), 8)
    assert record.ended is Outcome.DIVERGED
