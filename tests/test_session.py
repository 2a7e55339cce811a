"""From a scenario to a record: stops as cuts, evaluations, targets, named outcomes, estimates, determinism."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import networkx as nx
import numpy as np
import pytest
import torch

import simnet
from simnet.algorithm import Algorithm, Program
from simnet.errors import Outcome, ProgramError
from simnet.models.problems.quadratic import Quadratic
from simnet.node import Node
from simnet.record import Record
from tests.programs import Gossips, Joint, Masked, Matches, Overlaps, RunningSums, Tracks, Tuples, base, go, tiny_data

WAYS = (("auto", "batched"), ("auto", "one_by_one"), ("events", "batched"), ("events", "one_by_one"),
        ("processes", "one_by_one"), ("compiled", "batched"))  # fmt: skip
UNEVEN = {"step": "10 ms", "jitter": 0.6, "groups": [{"nodes": [0], "step": "31 ms"}]}


def uneven(algorithm: Algorithm | None = None, **more: Any) -> dict[str, Any]:
    """A path whose first node is slow, so that the others run ahead."""
    network = {"nodes": 5, "graph": "path", "link": {"bandwidth": "1 Mbit/s", "latency": "5 ms"}}
    return base(
        algorithm or Gossips(), **({"network": network, "nodes": UNEVEN, "rounds": 12, "evaluate_every": 1} | more)
    )


def same(a: Record, b: Record, label: Any = "") -> None:
    """Rows, ledger and clocks agree; values to rounding."""
    assert a.outcome == b.outcome, label
    for name, column in a.rounds.items():
        if not name.startswith("host_"):
            np.testing.assert_allclose(b.rounds[name], column, rtol=1e-9, atol=1e-12, err_msg=f"{label} {name}")
    for name in ("wire_bytes", "messages", "bytes_by_kind", "nominal_bits", "rounds"):
        assert a.summary[name] == b.summary[name], (label, name)
    for name in ("compute_s", "exposed_comm_s", "idle_s", "finish_s", "reports", "sent_bytes", "received_bytes"):
        np.testing.assert_allclose(b.nodes[name], a.nodes[name], rtol=0, atol=1e-9, err_msg=f"{label} {name}")
    np.testing.assert_allclose(b.final["x"], a.final["x"], rtol=1e-11, atol=1e-13, err_msg=str(label))


# ---- rows and evaluations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rounds", "every", "expected"),
    [
        (7, 3, [3, 6, 7]),
        (6, 3, [3, 6]),
        (3, 1, [1, 2, 3]),
        (5, 100, [5]),
        (120, None, [*range(3, 121, 3)]),
        (40, None, [*range(1, 41)]),
    ],
)
def test_evaluations_come_every_so_many_rounds_and_at_the_end(
    rounds: int, every: int | None, expected: list[int]
) -> None:
    scenario = base(Gossips(), rounds=rounds, evaluate_every=every)
    assert go(scenario).rounds["round"].tolist() == expected


@pytest.mark.parametrize(
    "algorithm", [Gossips(), Tracks(), RunningSums(missing="stale", deadline_s=0.0071), Overlaps()]
)
def test_evaluating_does_not_change_what_happens(algorithm: Algorithm) -> None:
    often, seldom = (go(uneven(algorithm, evaluate_every=e)) for e in (1, 12))
    np.testing.assert_array_equal(often.final["x"], seldom.final["x"])
    assert often.summary["log_hash"] == seldom.summary["log_hash"]
    for name, column in seldom.rounds.items():
        if not name.startswith("host_"):
            assert often.rounds[name][-1] == column[-1], name


def test_a_row_holds_report_r_of_every_node() -> None:
    record = go(uneven(rounds=9))
    for r in range(1, 10):
        alone = go(uneven(rounds=r))
        for name, column in alone.rounds.items():
            if not name.startswith("host_"):
                assert column[-1] == record.rounds[name][r - 1], (r, name)
        assert alone.nodes["finish_s"].max() == record.rounds["sim_time_s"][r - 1]
        assert alone.summary["wire_bytes"] == record.rounds["wire_bytes"][r - 1]
        assert alone.summary["messages"] == record.rounds["messages"][r - 1]


def test_metrics_are_those_of_the_reported_values() -> None:
    a, c = np.array([[1.0, 2.0], [3.0, 0.5], [2.0, 1.0]]), np.array([[1.0, -1.0], [0.5, 2.0], [0.0, 0.0]])
    record = go(
        base(Tracks(eta=0.1), network={"graph": nx.complete_graph(3)}, problem=Quadratic.from_arrays(a, c), rounds=3)
    )
    x, p, g = (record.final[k] for k in ("x", "tracker", "estimate"))
    mean = x.mean(0)
    losses = 0.5 * (a * (mean - c) ** 2).sum(1)
    best = (a * c).sum(0) / a.sum(0)
    optimum = (0.5 * a * (best - c) ** 2).sum(1).mean()
    expected = {
        "objective": losses.mean(), "objective_gap": losses.mean() - optimum,
        "node_objective_mean": (0.5 * a * (x - c) ** 2).sum(1).mean(),
        "consensus_distance": ((x - mean) ** 2).sum(1).mean(),
        "stationarity_gap": (((a * (mean - c)).mean(0)) ** 2).sum(),
        "distance_to_optimum": ((x - best) ** 2).sum(1).mean(),
        "tracker_residual": np.linalg.norm(p.mean(0) - g.mean(0)),
    }  # fmt: skip
    for name, value in expected.items():
        assert record.rounds[name][-1] == pytest.approx(value, rel=1e-9, abs=1e-14), name
        assert record.summary[name] == record.rounds[name][-1]


def test_validation_is_taken_at_the_nodes_and_at_their_mean() -> None:
    record = go(base(Gossips(), problem={"name": "Softmax", "data": tiny_data()}, rounds=20))
    assert record.rounds["accuracy"][-1] > 0.6
    assert {"validation_loss", "accuracy_mean_model", "validation_loss_mean_model"} <= set(record.rounds)
    assert record.header["rows_per_node"] == [10, 10, 10, 9, 9]


# ---- stops -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "algorithm", [Gossips(), Overlaps(), Tracks(deadline_s=0.0071), Gossips(missing="stale", deadline_s=0.0071)]
)
def test_a_stop_by_bytes_is_a_cut(algorithm: Algorithm) -> None:
    whole = go(uneven(algorithm))
    limit = int(whole.rounds["wire_bytes"][6])
    records = [go(uneven(algorithm, stop={"bytes": limit}, evaluate_every=5), *way) for way in WAYS]
    short = go(uneven(algorithm, rounds=7, evaluate_every=5))
    for record, way in zip(records, WAYS, strict=True):
        assert record.ended is Outcome.BYTES_LIMIT
        assert record.rounds["round"].tolist() == [5, 7]
        assert record.rounds["wire_bytes"].tolist() == [whole.rounds["wire_bytes"][4], limit]
        np.testing.assert_allclose(record.final["x"], short.final["x"], rtol=1e-11, atol=1e-13)
        for name in ("compute_s", "exposed_comm_s", "idle_s", "finish_s", "reports", "sent_bytes"):
            np.testing.assert_allclose(
                record.nodes[name], short.nodes[name], rtol=0, atol=1e-9, err_msg=f"{way} {name}"
            )
        assert record.summary["wire_bytes"] == limit, way
        assert int(record.links["wire_bytes"].sum()) == limit, way


def test_a_stop_at_the_target_is_a_cut() -> None:
    whole = go(uneven())
    value = float(whole.rounds["objective"][5])
    for way in WAYS:
        record = go(uneven(target={"objective": value}, stop={"at_target": True}), *way)
        assert record.ended is Outcome.TARGET_REACHED
        assert record.rounds["round"].tolist() == [1, 2, 3, 4, 5, 6]
        target = record.summary["targets"]["objective"]
        assert (target["round"], target["wire_bytes"]) == (6, whole.rounds["wire_bytes"][5])
        assert target["sim_time_s"] == pytest.approx(whole.rounds["sim_time_s"][5], abs=1e-9)
        assert record.summary["wire_bytes"] == whole.rounds["wire_bytes"][5]


def test_targets_are_reported_or_said_not_to_be_reached() -> None:
    record = go(uneven(target={"objective": 1e9, "consensus_distance": -1.0}))
    assert record.summary["targets"]["objective"]["round"] == 1
    assert record.summary["targets"]["consensus_distance"]["round"] is None
    assert record.reached("objective", 1e9) is not None
    assert record.outcome == "finished"


@pytest.mark.parametrize(
    "algorithm",
    [
        Gossips(),
        Overlaps(),
        Joint(missing="zero", deadline_s=0.0071),
        Gossips(missing="stale", deadline_s=0.0071),
        RunningSums(),
    ],
)
@pytest.mark.parametrize("until", [0.0817, 0.1303])
def test_a_stop_by_simulated_time_takes_each_nodes_last_report(algorithm: Algorithm, until: float) -> None:
    whole = go(uneven(algorithm))
    records = [go(uneven(algorithm, stop={"sim_time": until}), *way) for way in WAYS]
    reports = records[0].nodes["reports"]
    assert reports.max() < 12
    if algorithm.deadline_s is None:
        assert reports.min() < reports.max()
    for record, way in zip(records, WAYS, strict=True):
        assert record.ended is Outcome.TIME_LIMIT
        same(records[0], record, way)
    assert records[2].summary["log_hash"] == records[3].summary["log_hash"] == records[4].summary["log_hash"]
    record = records[0]
    for host, count in enumerate(reports.tolist()):  # each node's state is that of its own last report
        alone = go(uneven(algorithm, rounds=count))
        np.testing.assert_allclose(record.final["x"][host], alone.final["x"][host], rtol=1e-11, atol=1e-13)
    before = whole.messages["sent_s"] <= until
    assert record.summary["messages"] == int(before.sum())
    assert record.summary["wire_bytes"] == int(whole.messages["bytes"][before].sum())
    assert record.rounds["sim_time_s"][-1] == until
    assert record.rounds["round"][-1] == reports.min()
    assert (record.nodes["compute_s"] + record.nodes["idle_s"] + record.nodes["exposed_comm_s"] <= until + 1e-12).all()


def test_a_stop_later_than_the_end_changes_nothing() -> None:
    for way in WAYS:
        free, stopped = go(uneven(), *way), go(uneven(stop={"sim_time": 100.0, "bytes": 1e12}), *way)
        assert stopped.outcome == "finished"
        same(free, stopped, way)
        assert free.summary["log_hash"] == stopped.summary["log_hash"]


def test_a_stop_before_anything_was_reported() -> None:
    for way in WAYS:
        record = go(uneven(stop={"sim_time": 0.001}), *way)
        assert record.ended is Outcome.TIME_LIMIT
        assert "had finished its first round" in record.outcome
        assert record.rounds["round"].size == 0
        assert record.summary["wire_bytes"] == 0
        np.testing.assert_allclose(record.nodes["compute_s"], 0.001)


# ---- bad ends ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Starves(Algorithm):
    roles: ClassVar[tuple[str, ...]] = ("server", "client")
    mixing: ClassVar[str | None] = None

    def server(self, node: Node) -> Program:
        x = node.zeros() + 1.0
        for _ in node.rounds():
            yield node.gather("client")
            node.report(x=x)

    def client(self, node: Node) -> Program:
        for _ in range(3):
            yield node.gradient(node.zeros())
            yield node.send(node.zeros(), to="server")


def test_a_starved_run_names_the_node_and_keeps_its_rows(tmp_path: Path) -> None:
    scenario = base(Starves(), network={"nodes": 3, "graph": "star"}, evaluate_every=1)
    record = simnet.run(scenario, out=tmp_path / "run")
    assert record.ended is Outcome.STARVED
    assert "node 0 waits for ever in round 3: it wants a message from 1, 2 that is never sent" in record.outcome
    assert record.rounds["round"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(record.nodes["compute_s"], [0, 0.03, 0.03])
    assert record.summary["wire_bytes"] == 6 * 12
    assert (record.final["x"] == 1).all()
    assert Record.load(tmp_path / "run").outcome == record.outcome


@pytest.mark.parametrize("way", WAYS)
def test_a_diverged_run_stops_at_its_first_bad_row(way: tuple[str, str]) -> None:
    record = go(uneven(Gossips(eta=1e200), rounds=12), *way)
    assert record.ended is Outcome.DIVERGED
    assert record.outcome.startswith("diverged: the objective is")
    assert "smaller step size" in record.outcome
    last = int(record.rounds["round"][-1])
    assert last < 12
    assert not np.isfinite(record.rounds["objective"][-1])
    assert record.nodes["compute_s"].min() > 0.004 * last
    np.testing.assert_allclose(record.nodes["finish_s"].max(), record.rounds["sim_time_s"][-1], atol=1e-12)
    assert record.summary["wire_bytes"] == record.rounds["wire_bytes"][-1]


# ---- estimates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "algorithm", [Gossips(), Overlaps(), Tracks(), Joint(), Matches(), RunningSums(), Tuples(), Masked()]
)
@pytest.mark.parametrize("tier", ["auto", "events", "processes"])
def test_an_estimate_has_the_clocks_and_bytes_of_the_run(algorithm: Algorithm, tier: str) -> None:
    scenario = uneven(algorithm)
    executor = "one_by_one" if tier == "processes" else "batched"
    whole = go(scenario, tier, executor)
    record = simnet.estimate(scenario, set={"execution.tier": tier})
    assert record.summary["log_hash"] == whole.summary["log_hash"]
    for name in ("round", "sim_time_s", "wire_bytes", "messages"):
        np.testing.assert_array_equal(record.rounds[name], whole.rounds[name])
    assert record.final == {}
    assert "objective" not in record.rounds


def test_an_estimate_of_roles() -> None:
    record = simnet.estimate(base(Starves(), network={"nodes": 3, "graph": "star"}, rounds=3, evaluate_every=1))
    assert record.outcome == "finished"
    assert record.rounds["round"].tolist() == [1, 2, 3]


def test_an_estimate_says_when_a_program_needs_numbers() -> None:
    for tier in ("auto", "events", "processes"):
        with pytest.raises(ProgramError, match="use 'simnet run'"):
            simnet.estimate(base(Masked(by_value=True)), set={"execution.tier": tier})


ESTIMATE = """
import sys
import simnet
from simnet.models.algorithms.dpsgd import DPSGD
for graph in ("ring", "star"):
    for problem in ({"name": "MLP", "data": "digits", "hidden": 1000, "batch": 8}, {"name": "Quadratic", "dim": 10**9}):
        for tier in ("auto", "events", "processes"):
            record = simnet.estimate({
                "network": {"nodes": 12, "graph": graph, "link": {"loss": 0.1}}, "problem": problem,
                "algorithm": {"name": "DPSGD", "eta": 0.1}, "rounds": 3, "execution": {"tier": tier}})
            assert record.outcome == "finished", record.outcome
assert "torch" not in sys.modules
assert "matplotlib" not in sys.modules
"""


def test_an_estimate_makes_no_tensors() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", ESTIMATE]
    done = subprocess.run(command, env=environment, timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- determinism -------------------------------------------------------------------------------------------------

SAME = """
import sys
import simnet
record = simnet.run({
    "network": {"nodes": 9, "graph": {"name": "erdos_renyi", "p": 0.5}, "link": {"loss": 0.1}},
    "nodes": {"jitter": 0.3},
    "problem": {"name": "Softmax", "data": "digits", "split": {"name": "dirichlet", "alpha": 0.5}, "batch": 4},
    "algorithm": {"name": "DPSGD", "eta": 0.1}, "rounds": 5, "record": {"messages": True}, "seed": 3}, out=sys.argv[1])
"""


def test_the_same_scenario_and_seed_give_the_same_run_byte_for_byte(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    for k, hash_seed in enumerate(("0", "1")):
        command = [sys.executable, "-c", SAME, str(tmp_path / str(k))]
        subprocess.run(command, check=True, env={**environment, "PYTHONHASHSEED": hash_seed}, timeout=60)
    one, two = (Record.load(tmp_path / k) for k in "01")
    assert one.summary["log_hash"] == two.summary["log_hash"] == one.header["log_hash"]
    for table in ("messages", "links", "nodes", "spans"):
        assert [(n, c.tobytes()) for n, c in getattr(one, table).items()] == [
            (n, c.tobytes()) for n, c in getattr(two, table).items()
        ]
    for name, column in one.rounds.items():
        assert name.startswith("host_") or column.tobytes() == two.rounds[name].tobytes()
    assert one.final["x"].tobytes() == two.final["x"].tobytes()
    assert len(one.messages["source"]) == one.summary["messages"]


def test_another_seed_gives_another_run() -> None:
    one, two = (go(uneven(network={"nodes": 5, "graph": "ring", "link": {"loss": 0.2}}, seed=s)) for s in (0, 1))
    assert one.summary["log_hash"] != two.summary["log_hash"]
    assert (one.final["x"] != two.final["x"]).any()


def test_a_record_can_be_run_again_from_its_own_scenario(tmp_path: Path) -> None:
    scenario = {"network": {"nodes": 4}, "problem": {"name": "Quadratic", "dim": 3}, "algorithm": "DPSGD", "rounds": 5}
    first = simnet.run(scenario, out=tmp_path / "one")
    again = simnet.run(tmp_path / "one" / "scenario.yaml")
    assert again.summary["log_hash"] == first.summary["log_hash"]
    np.testing.assert_array_equal(again.final["x"], first.final["x"])


def test_progress_is_told() -> None:
    told: list[dict[str, Any]] = []
    simnet.run(uneven(), progress=told.append)
    assert told[-1]["round"] == told[-1]["rounds"] == 12
    assert told[-1]["objective"] == pytest.approx(told[-1]["objective"])


def test_spans_are_within_the_run_and_do_not_overlap() -> None:
    for way in WAYS:
        record = go(uneven(rounds=10), *way)  # the picture shows twelve rounds
        spans = record.spans
        assert set(spans["kind"]) == {"compute", "send", "wait"}
        assert (spans["end_s"] > spans["start_s"]).all()
        assert spans["end_s"].max() <= record.rounds["sim_time_s"][-1] + 1e-12
        for node in range(5):
            busy = [i for i in np.flatnonzero(spans["node"] == node) if spans["kind"][i] != "send"]
            busy.sort(key=lambda i: spans["start_s"][i])
            assert all(spans["end_s"][a] <= spans["start_s"][b] + 1e-12 for a, b in zip(busy, busy[1:], strict=False))
            total = sum(spans["end_s"][i] - spans["start_s"][i] for i in busy if spans["kind"][i] == "compute")
            assert total == pytest.approx(record.nodes["compute_s"][node])


def test_threads_and_device_are_in_the_header() -> None:
    record = go(base(Gossips()))
    assert record.header["threads"] == torch.get_num_threads() == 1
    assert record.header["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert record.header["tier"] == record.summary["tier"] == "arrays"
    assert record.header["cost_source"] == "step_s"


def test_hosts_have_their_names_in_every_table() -> None:
    graph = nx.Graph([("a", "b"), ("b", "hub")])
    graph.nodes["hub"]["router"] = True
    graph.add_edge("hub", "c")
    record = go(base(Gossips(), network={"graph": graph}, topology=nx.path_graph(3)))
    assert record.nodes["node"].tolist() == ["a", "b", "c"]
    assert set(record.links["source"]) == {"a", "b", "c", "hub"}
    assert set(record.messages["source"]) == set(record.spans["node"]) == {"a", "b", "c"}
    assert go(base(Gossips())).links["source"].dtype == np.int64


@pytest.mark.parametrize("policy", ["drop", "symmetric"])
def test_the_log_of_a_run_cut_by_time_is_the_same_in_every_tier(policy: str) -> None:
    scenario = {
        "network": {
            "nodes": 6, "link": {"bandwidth": "1 Mbit/s", "latency": "5 ms", "loss": 0.3}, "policy": policy,
            "ports": "parallel", "loss_unit": "message",
        },
        "nodes": {"step": "8 ms", "jitter": {"law": "exponential", "spread": 0.5}},
        "problem": {"name": "Quadratic", "dim": 3},
        "algorithm": {"name": "DPSGD", "deadline_s": 0.02},
        "stop": {"sim_time": "80 ms"},
    }  # fmt: skip
    hashes = {
        tier: simnet.run(scenario, set={"execution.tier": tier}).summary["log_hash"]
        for tier in ("arrays", "compiled", "events", "processes")
    }
    assert len(set(hashes.values())) == 1, hashes
