"""Each algorithm against a matrix form of itself, and the properties that need no tolerance."""

from __future__ import annotations

import doctest
import importlib
from typing import Any

import networkx as nx
import numpy as np
import pytest

import simnet
from simnet import registry
from simnet.errors import ScenarioError, TopologyError
from tests import dense
from tests.dense import MATRIX_FORMS, Quadratics

GOSSIP = sorted(MATRIX_FORMS)
TRACKING = ("AugDGM", "DIGing", "GradientTracking")
AVERAGING = ("AllReduceSGD", "LocalSGD", "FedAvg")
BY_TIME = ("ADPSGD", "SwarmSGD", "GossipLearning", "HDOReady")  # their own tests are in `test_meetings.py`
MOMENTUM = ("DSGDm", "QGDSGDm")
ALL = sorted(registry.shipped("algorithms"))
STEPS = [name for name in ALL if hasattr(registry.find("algorithms", name), "eta")]  # others: tests of their own

SEVEN = nx.erdos_renyi_graph(7, 0.5, seed=3)  # uneven degrees
EXPONENTIAL = nx.DiGraph([(i, (i + 2**k) % 8) for i in range(8) for k in range(3)])

LOSSES: dict[str, dict[str, Any]] = {
    "no loss": {},
    "retry": {"network": {"link": {"loss": 0.3}, "policy": "retry"}},
    "drop": {"network": {"link": {"loss": 0.3}, "policy": "drop"}},
    "symmetric": {"network": {"link": {"loss": 0.3}, "policy": "symmetric"}},
    "deadline": {"nodes": {"step": "10 ms", "jitter": 0.5}, "algorithm": {"deadline_s": 0.004}},
}


def close(x: np.ndarray, y: np.ndarray, relative: float = 1e-12) -> bool:
    return bool(np.abs(x - y).max() <= relative * max(1.0, np.abs(y).max()))


def run(
    problem: Quadratics, algorithm: str, loss: str = "no loss", eta: float = 0.2, fields: Any = None, **sections: Any
) -> simnet.Record:
    """`fields` of the algorithm beside eta; `sections` of the scenario beside those of the loss."""
    more = LOSSES[loss]
    part = {"name": algorithm, "eta": eta, **more.get("algorithm", {}), **(fields or {})}
    return simnet.run(problem.scenario(part, **{k: v for k, v in more.items() if k != "algorithm"}, **sections))


def lost(record: simnet.Record) -> int:
    return int((record.messages["delivered"] == 0).sum())


# ---- matrix forms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("algorithm", GOSSIP)
def test_equals_its_matrix_form(algorithm: str, loss: str) -> None:
    problem = Quadratics.drawn(7, 3)
    record = run(problem, algorithm, loss, graph=SEVEN)
    assert (lost(record) > 0) == (loss not in ("no loss", "retry"))
    mix = dense.mixer(dense.metropolis(SEVEN), record)
    expected = MATRIX_FORMS[algorithm](mix, problem.gradient, problem.start, 0.2, 12)
    assert close(record.final["x"], expected)


@pytest.mark.parametrize("loss", ("no loss", "drop"))
@pytest.mark.parametrize("algorithm", GOSSIP)
def test_as_many_nodes_as_numbers(algorithm: str, loss: str) -> None:
    """With N == D a number per node could be taken for a coordinate."""
    problem, ring = Quadratics.drawn(5, 5), nx.cycle_graph(5)
    record = run(problem, algorithm, loss, graph=ring, execution={"executor": "one_by_one"})
    mix = dense.mixer(dense.metropolis(ring), record)
    assert close(record.final["x"], MATRIX_FORMS[algorithm](mix, problem.gradient, problem.start, 0.2, 12))


@pytest.mark.parametrize("loss", ("no loss", "drop"))
@pytest.mark.parametrize("algorithm", ("DPSGD", "DPSGDOverlap", *TRACKING))
def test_directed_graph_with_doubly_stochastic_weights(algorithm: str, loss: str) -> None:
    problem = Quadratics.drawn(8, 3)
    record = run(problem, algorithm, loss, graph="exponential", mixing="uniform")
    mix = dense.mixer(dense.uniform(EXPONENTIAL), record)
    assert close(record.final["x"], MATRIX_FORMS[algorithm](mix, problem.gradient, problem.start, 0.2, 12))


@pytest.mark.parametrize("algorithm", ("DPSGD", "DIGing", "GradientTracking"))
def test_topology_that_changes_every_round(algorithm: str) -> None:
    problem = Quadratics.drawn(8, 3)
    record = run(problem, algorithm, graph="complete", topology="one_peer_exponential", mixing="uniform")
    shifts = iter([np.roll(np.eye(8), 2 ** (k % 3), axis=0) for k in range(12)])

    def mix(x: np.ndarray) -> np.ndarray:
        return 0.5 * (x + next(shifts) @ x)

    assert close(record.final["x"], MATRIX_FORMS[algorithm](mix, problem.gradient, problem.start, 0.2, 12))


def test_all_reduce_is_gradient_descent_on_the_mean() -> None:
    problem = Quadratics.drawn(7, 3)
    record = run(problem, "AllReduceSGD", "drop", graph=SEVEN)  # a collective is reliable whatever the policy
    assert close(record.final["x"], dense.all_reduce(problem.gradient, problem.start, 0.2, 12))


def samples_seen(record: simnet.Record, server: int, clients: int) -> list[np.ndarray]:
    """Who sent to the server, average by average; the server's own part needs no message."""
    m = record.messages
    out = []
    for exchange in np.unique(m["exchange"]):
        chosen = m["source"][(m["exchange"] == exchange) & (m["target"] == server)]
        out.append(chosen if len(chosen) == clients else np.append(chosen, server))
        assert len(out[-1]) == clients
    return out


@pytest.mark.parametrize("clients", (None, 3))
@pytest.mark.parametrize("deliver", ("all", "next"))
def test_local_sgd_equals_its_matrix_form(clients: int | None, deliver: str) -> None:
    problem = Quadratics.drawn(7, 3)
    record = run(
        problem, "LocalSGD", graph=SEVEN, collective={"server": 2},
        fields={"steps": 3, "clients": clients, "deliver": deliver},
    )  # fmt: skip
    samples = samples_seen(record, 2, clients or 7)
    assert len(samples) == 12
    if clients:
        assert len({tuple(sorted(s)) for s in samples}) > 4
    expected = dense.local_sgd(problem.gradient, problem.start, 0.2, 3, samples)
    m = record.messages
    last = m["exchange"] == m["exchange"].max()
    got = np.union1d(m["target"][last & (m["source"] == 2)], [2] if deliver == "all" else [])
    assert len(got) >= (clients or 7) - 1
    assert close(record.final["x"][got.astype(int)], expected[: len(got)])


@pytest.mark.parametrize("clients", (None, 3))
def test_fedavg_equals_its_matrix_form(clients: int | None) -> None:
    problem = Quadratics.drawn(6, 4)
    record = run(
        problem, "FedAvg", graph=nx.star_graph(6), fields={"steps": 3, "clients": clients}
    )  # fmt: skip
    m = record.messages
    down = m["target"][m["source"] == 0]  # the server is host 0, client i of the problem host i + 1
    samples = list(down.reshape(12, clients or 6) - 1)
    expected = dense.local_sgd(problem.gradient, problem.start, 0.2, 3, samples)
    assert record.final["x"].shape == (1, 4)
    assert close(record.final["x"], expected[:1])


@pytest.mark.parametrize("loss", LOSSES)
def test_exact_diffusion_is_d2_with_lazy_weights(loss: str) -> None:
    problem = Quadratics.drawn(7, 3)
    diffusion = run(problem, "ExactDiffusion", loss, graph=SEVEN)
    d2 = run(problem, "D2", loss, graph=SEVEN, mixing="lazy")
    assert close(diffusion.final["x"], d2.final["x"])


# ---- the centralised reference --------------------------------------------------------------------------------------


def test_two_nodes_and_one_step() -> None:
    """f(x) = x^2/2 - x at both: one step of 0.1 from 0 gives 0.1."""
    problem = Quadratics(np.ones((2, 1)), np.ones((2, 1)))
    for algorithm in STEPS:
        others = ("FedAvg", "FedOpt", "OverlapLocalSGD", "SwarmSGDInTurn", "HDOInTurn", "ChocoGossip")
        if algorithm not in (*others, *BY_TIME):
            record = run(problem, algorithm, eta=0.1, graph="path", rounds=1)
            assert record.final["x"].tolist() == [[0.1], [0.1]], algorithm


def test_complete_graph_equals_centralised_sgd_exactly() -> None:
    """With dyadic numbers nothing is rounded, so equal means equal."""
    generator = np.random.default_rng(1)
    problem = Quadratics(np.ones((8, 1)), generator.integers(-8, 8, (8, 3)).astype(float))
    expected = dense.all_reduce(problem.gradient, problem.start, 0.25, 6)
    for algorithm in ("AllReduceSGD", "LocalSGD", "DPSGD"):
        record = run(problem, algorithm, eta=0.25, graph="complete", rounds=6)
        assert np.array_equal(record.final["x"], expected), algorithm


@pytest.mark.parametrize("algorithm", ("DPSGD", "LocalSGD", "GradientTracking"))
def test_complete_graph_equals_centralised_sgd_on_minibatches(algorithm: str) -> None:
    scenario = {
        "network": {"nodes": 4, "graph": "complete"},
        "problem": {"name": "Softmax", "data": "digits", "split": "by_label", "batch": 8},
        "algorithm": {"name": algorithm, "eta": 0.1},
        "rounds": 6,
        "execution": {"dtype": "float64"},
    }
    reference = simnet.run(scenario, set={"algorithm.name": "AllReduceSGD"})
    assert close(simnet.run(scenario).final["x"], reference.final["x"])


@pytest.mark.parametrize("graph", ("edgeless", "ring"))
@pytest.mark.parametrize(
    "algorithm", sorted({*STEPS} - {"FedOpt", "OverlapLocalSGD", "GossipLearning", "ChocoGossip"})
)  # steps adaptively; pulled to its own past; hears nobody; takes no gradient
def test_a_single_node_is_gradient_descent(algorithm: str, graph: str) -> None:
    problem = Quadratics.drawn(1, 3)
    expected = dense.all_reduce(problem.gradient, problem.start, 0.2, 12)
    plain = {"beta": 0.0} if algorithm in MOMENTUM else {"steps": 1} if "Swarm" in algorithm else {}
    if algorithm == "FedAvg":
        with pytest.raises(ScenarioError, match="no host is left for the role 'client'"):
            run(problem, algorithm, graph=graph)
        record = run(problem, algorithm, graph=nx.path_graph(2))
    else:
        record = run(problem, algorithm, graph=graph, fields=plain)
        assert record.summary["wire_bytes"] == 0
    assert record.outcome == "finished"
    assert close(record.final["x"], expected)


# ---- bytes and clocks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, b", (("float32", 4), ("float64", 8), ("bfloat16", 2)))
@pytest.mark.parametrize("algorithm", GOSSIP)
def test_bytes_by_formula_gossip(algorithm: str, dtype: str, b: int) -> None:
    problem = Quadratics.drawn(7, 3)
    record = run(problem, algorithm, graph=SEVEN, rounds=4, network={"wire_dtype": dtype})
    sent = 2 * SEVEN.number_of_edges()  # messages an exchange
    vectors, exchanges = (2 if algorithm in TRACKING else 1), (2 if algorithm == "AugDGM" else 1)
    assert record.summary["messages"] == 4 * sent * exchanges
    assert record.summary["wire_bytes"] == 4 * sent * vectors * 3 * b
    degrees = np.array([SEVEN.degree[i] for i in range(7)])
    assert np.array_equal(record.nodes["sent_bytes"], 4 * degrees * vectors * 3 * b)


@pytest.mark.parametrize("algorithm", AVERAGING)
def test_bytes_by_formula_averages(algorithm: str) -> None:
    clients = 6
    problem = Quadratics.drawn(clients if algorithm == "FedAvg" else 7, 3)
    record = run(problem, algorithm, graph=nx.star_graph(6), rounds=4)
    assert record.summary["messages"] == 4 * 2 * clients
    assert record.summary["wire_bytes"] == 4 * 2 * clients * 3 * 4


@pytest.mark.parametrize("deliver", ("all", "next"))
def test_bytes_of_sampled_clients(deliver: str) -> None:
    problem = Quadratics.drawn(7, 3)
    record = run(
        problem, "LocalSGD", graph=nx.star_graph(6), rounds=40, fields={"clients": 3, "deliver": deliver}
    )  # fmt: skip
    up = sum(int((s != 0).sum()) for s in samples_seen(record, 0, 3))
    m = record.messages
    down = int((m["source"] == 0).sum())
    assert down == 40 * 6 if deliver == "all" else 40 * 2 <= down <= 40 * 3
    assert record.summary["wire_bytes"] == (up + down) * 3 * 4


def test_fedavg_bytes_of_sampled_clients() -> None:
    record = run(Quadratics.drawn(6, 3), "FedAvg", graph=nx.star_graph(6), rounds=5, fields={"clients": 2})
    assert record.summary["wire_bytes"] == 5 * 2 * 2 * 3 * 4


def test_overlap_hides_the_shorter_of_message_and_gradient() -> None:
    """4 numbers of 4 bytes at 1,000 bytes/s and 5 ms of latency: 21 ms; a gradient of 30 ms hides them."""
    problem = Quadratics.drawn(2, 4)
    link = {"bandwidth": "1 kB/s", "latency": "5 ms"}
    for step_s in (0.030, 0.010):
        same: dict[str, Any] = {"graph": "path", "rounds": 5, "network": {"link": link}, "nodes": {"step": step_s}}
        one_after_the_other, overlapped = run(problem, "DPSGD", **same), run(problem, "DPSGDOverlap", **same)
        assert one_after_the_other.summary["sim_time_s"] == pytest.approx(5 * (step_s + 0.021), abs=1e-12)
        assert overlapped.summary["sim_time_s"] == pytest.approx(5 * max(step_s, 0.021), abs=1e-12)
        assert overlapped.summary["exposed_comm_s"] == pytest.approx(2 * 5 * max(0.0, 0.021 - step_s), abs=1e-12)


# ---- trackers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", TRACKING)
def test_trackers_keep_the_mean_gradient_unless_a_message_is_dropped(algorithm: str) -> None:
    problem = Quadratics.drawn(7, 3)
    for loss in ("no loss", "retry", "symmetric"):
        assert run(problem, algorithm, loss, graph=SEVEN).summary["tracker_residual"] < 1e-14
    assert run(problem, algorithm, "drop", graph=SEVEN).summary["tracker_residual"] > 1e-3


# ---- what is promised and refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ("D2", "ExactDiffusion"))
def test_methods_of_symmetric_weights_refuse_directed_graphs(algorithm: str) -> None:
    with pytest.raises(TopologyError, match=f"{algorithm} needs a symmetric mixing matrix"):
        run(Quadratics.drawn(8, 3), algorithm, graph="exponential", mixing="uniform")


@pytest.mark.parametrize("algorithm", GOSSIP)
def test_gossip_refuses_a_graph_in_parts(algorithm: str) -> None:
    with pytest.raises(TopologyError, match="needs a connected topology"):
        run(Quadratics.drawn(4, 3), algorithm, graph=nx.Graph([(0, 1), (2, 3)]))


@pytest.mark.parametrize("algorithm", ("AllReduceSGD", "LocalSGD"))
def test_averages_need_a_route_but_no_topology(algorithm: str) -> None:
    problem = Quadratics.drawn(8, 3)
    record = run(problem, algorithm, graph="exponential", topology="edgeless")  # directed links, no W at all
    assert close(record.final["x"], dense.all_reduce(problem.gradient, problem.start, 0.2, 12))
    with pytest.raises(TopologyError, match="no route"):
        run(Quadratics.drawn(4, 3), algorithm, graph=nx.Graph([(0, 1), (2, 3)]))


@pytest.mark.parametrize("algorithm", ("LocalSGD", "FedAvg"))
def test_local_steps_and_samples_out_of_range_are_refused(algorithm: str) -> None:
    for fields, words in (({"steps": 0}, "at least 1 local step"), ({"clients": 99}, "a sample of 99 of the")):
        with pytest.raises(ScenarioError, match=words):
            run(
                Quadratics.drawn(4, 3), algorithm, graph=nx.star_graph(4 if algorithm == "FedAvg" else 3), fields=fields
            )


@pytest.mark.parametrize("name", ALL)
def test_docstring_says_what_is_sent_what_stands_in_and_where_it_is_from(name: str) -> None:
    module_name, _, attribute = registry.shipped("algorithms")[name].partition(":")
    module = importlib.import_module(module_name)
    text = getattr(module, attribute).__doc__
    for words in ("Shapes:", "Args:", "Sends, per round", "Reference", "missing message", ">>> "):
        assert words in text, f"{name}: {words}"
    assert doctest.testmod(module).failed == 0
