"""Clocks computed by hand, to the last bit: every number here is a sum of powers of two, in every tier.

A message is 16 bytes (4 numbers), a link does 64 bytes/s (0.25 s a message) and 0.125 s of latency, a gradient takes
0.5 s, unless a test says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import networkx as nx
import numpy as np
import pytest

import simnet
from simnet.algorithm import Algorithm, Program
from simnet.models.problems.quadratic import Quadratic
from simnet.network.fate import Fates
from simnet.network.network import LinkSpec, Network
from simnet.node import Node
from simnet.record import Record
from tests.programs import Averages, Gossips, Overlaps, RunningSums, base, go

TIERS = ("arrays", "events", "processes")
ON_TIME = 0.375  # of one message alone
tiers = pytest.mark.parametrize("tier", TIERS)


def run(graph: Any, algorithm: Algorithm | None = None, tier: str = "events", **more: Any) -> Record:
    network: dict[str, Any] = {"graph": graph, "link": {"bandwidth": 64.0, "latency": 0.125}}
    for name in ("link", "ports", "receive_ports", "policy", "loss_unit", "header_bytes", "links"):
        if name in more:
            network[name] = {**network["link"], **more.pop(name)} if name == "link" else more.pop(name)
    if not isinstance(graph, nx.Graph):
        network["nodes"] = more.pop("n")
    settings = {
        "nodes": {"step": 0.5}, "problem": {"name": "Quadratic", "dim": 4}, "rounds": 1, "evaluate_every": 1,
        "mixing": "row_stochastic",
    }  # fmt: skip
    return go(base(algorithm or Gossips(), network=network, **(settings | more)), tier)


def arrivals(record: Record, exchange: int = 0) -> Mapping[tuple[int, int], float]:
    m = record.messages
    return {
        (int(m["source"][i]), int(m["target"][i])): float(m["arrived_s"][i])
        for i in np.flatnonzero(m["exchange"] == exchange)
    }


def check_ports(record: Record, seconds: np.ndarray) -> None:
    """Two hosts: each sends its messages one after another, each holding the port for its `seconds`."""
    m, free = record.messages, [0.0, 0.0]
    for i in np.argsort(m["exchange"], kind="stable"):
        source = int(m["source"][i])
        free[source] = max(free[source], float(m["sent_s"][i])) + float(seconds[i])
        assert m["arrived_s"][i] == free[source] + 0.125 * (2 * m["attempts"][i] - 1)


# ---- one link ----------------------------------------------------------------------------------------------------


@tiers
def test_one_link_of_known_latency_and_bandwidth(tier: str) -> None:
    record = run("path", tier=tier, n=2, rounds=3)
    assert arrivals(record) == {(0, 1): 0.875, (1, 0): 0.875}
    assert record.rounds["sim_time_s"].tolist() == [0.875, 1.75, 2.625]
    assert record.nodes["compute_s"].tolist() == [1.5, 1.5]
    assert record.nodes["exposed_comm_s"].tolist() == [3 * ON_TIME] * 2
    assert record.nodes["idle_s"].tolist() == [0.0, 0.0]
    assert record.summary["tier"] == tier


@tiers
def test_headers_take_time_too(tier: str) -> None:
    assert run("path", tier=tier, n=2, header_bytes=48).rounds["sim_time_s"].tolist() == [0.5 + 1.0 + 0.125]


@pytest.mark.parametrize("executor", ["batched", "one_by_one"])
@tiers
def test_one_step_of_two_nodes(tier: str, executor: str) -> None:
    problem = Quadratic.from_arrays(np.ones((2, 1)), np.ones((2, 1)))  # f(x) = x^2/2 - x + 1/2
    if (tier, executor) == ("processes", "batched"):
        executor = "one_by_one"
    record = go(base(Gossips(eta=0.1), network={"graph": nx.path_graph(2)}, problem=problem, rounds=1), tier, executor)
    assert record.final["x"].tolist() == [[0.1], [0.1]]


@tiers
def test_a_message_lost_and_sent_again_holds_the_port_and_comes_two_latencies_later(tier: str) -> None:
    record = run("path", tier=tier, n=2, rounds=12, link={"loss": 0.5}, loss_unit="message")
    m = record.messages
    assert m["attempts"].max() > 2
    assert m["delivered"].all()
    check_ports(record, 0.25 * m["attempts"])


@tiers
def test_only_the_lost_packets_are_sent_again(tier: str) -> None:
    problem = {"name": "Quadratic", "dim": 1500}  # 6000 bytes: 4 packets
    record = run("path", tier=tier, n=2, rounds=12, link={"loss": 0.5, "bandwidth": 1500 * 16}, problem=problem)
    fates = Fates(Network.build(nx.path_graph(2), LinkSpec(24000.0, 0.125, 0.5)), 0)
    edges = fates.network.edge_set(np.array([0, 1]), np.array([1, 0]))
    again = np.concatenate([fates.of(("exchange", k), edges, 6000).again_E for k in range(12)])  # type: ignore[union-attr]
    assert record.summary["bytes_by_kind"]["retransmitted"] == 1500 * int(again.sum())
    assert (again % 4 != 0).any()
    check_ports(record, (4 + again) / 16)


@tiers
def test_a_dropped_message_ends_the_wait_when_it_would_have_come(tier: str) -> None:
    record = run("path", tier=tier, n=2, rounds=8, link={"loss": 0.5}, policy="drop")
    assert 0 < record.messages["delivered"].sum() < 16
    assert record.rounds["sim_time_s"].tolist() == [0.875 * r for r in range(1, 9)]


# ---- ports -------------------------------------------------------------------------------------------------------


@tiers
def test_a_serial_port_sends_to_its_neighbours_one_after_another(tier: str) -> None:
    record = run("path", tier=tier, n=3)
    assert arrivals(record) == {(1, 0): 0.875, (0, 1): 0.875, (2, 1): 0.875, (1, 2): 1.125}
    assert record.nodes["finish_s"].tolist() == [0.875, 0.875, 1.125]


@tiers
def test_parallel_ports_send_to_all_at_once(tier: str) -> None:
    record = run("path", tier=tier, n=3, ports="parallel")
    assert set(arrivals(record).values()) == {0.875}


@tiers
def test_a_port_that_is_still_busy_makes_the_next_message_wait(tier: str) -> None:
    record = run("path", tier=tier, n=3, rounds=2, link={"bandwidth": 16.0})  # 1 s a message
    assert arrivals(record) == {(1, 0): 1.625, (0, 1): 1.625, (2, 1): 1.625, (1, 2): 2.625}
    # node 1 is ready at 1.625 + 0.5, and its port is free at 2.5
    assert arrivals(record, 1) == {(0, 1): 3.25, (1, 0): 3.625, (2, 1): 4.25, (1, 2): 4.625}


@pytest.mark.parametrize("tier", TIERS[1:])
def test_a_serial_receiver_takes_one_message_after_another(tier: str) -> None:
    record = run("star", tier=tier, n=4, receive_ports="serial")
    found = arrivals(record)
    assert [found[leaf, 0] for leaf in (1, 2, 3)] == [0.875, 1.125, 1.375]
    assert [found[0, leaf] for leaf in (1, 2, 3)] == [0.875, 1.125, 1.375]  # the hub's own port, sending
    assert run("path", tier=tier, n=2, receive_ports="serial").rounds["sim_time_s"].tolist() == [
        0.875
    ]  # bytes cost once


def test_a_serial_receiver_takes_them_in_the_order_of_their_first_bit() -> None:
    # node 1's message leaves last and is there first
    record = run("star", n=3, receive_ports="serial", links=[{"from": 2, "to": 0, "latency": 1.0}],
                 nodes={"step": 0.5, "groups": [{"nodes": [1], "step": 1.0}]})  # fmt: skip
    found = arrivals(record)
    assert found[1, 0] == 1.0 + 0.125 + 0.25
    assert found[2, 0] == 0.5 + 1.0 + 0.25
    crowded = run("star", n=3, receive_ports="serial", link={"bandwidth": 16.0},
                  links=[{"from": 2, "to": 0, "latency": 1.0}])  # fmt: skip
    assert arrivals(crowded)[1, 0] == 0.5 + 0.125 + 1.0
    assert arrivals(crowded)[2, 0] == 0.5 + 0.125 + 1.0 + 1.0  # its first bit is there at 1.5, and waits


@tiers
def test_over_two_links_latencies_add_and_the_smallest_bandwidth_counts(tier: str) -> None:
    topology = nx.Graph()
    topology.add_nodes_from(range(3))
    topology.add_edge(0, 2)
    record = run("path", tier=tier, n=3, topology=topology, links=[{"between": [1, 2], "bandwidth": 32.0}])
    assert arrivals(record) == {(0, 2): 0.5 + 0.5 + 0.25, (2, 0): 0.5 + 0.5 + 0.25}
    assert record.links["messages"].tolist() == [1, 1, 1, 1]
    assert record.nodes["finish_s"].tolist() == [1.25, 0.5, 1.25]


@tiers
def test_with_parallel_ports_routes_over_the_same_first_link_queue(tier: str) -> None:
    record = run("path", tier=tier, n=3, topology="complete", ports="parallel")
    found = arrivals(record)
    assert found[0, 1] == 0.875
    assert found[0, 2] == 0.5 + 0.5 + 0.25  # second on the link 0 -> 1


# ---- own clocks --------------------------------------------------------------------------------------------------


@tiers
def test_nodes_wait_for_their_own_neighbours_only(tier: str) -> None:
    record = run(
        "path", tier=tier, n=4, ports="parallel", rounds=2, nodes={"step": 0.5, "groups": [{"nodes": [3], "step": 8.0}]}
    )
    assert arrivals(record)[3, 2] == 8.375
    assert arrivals(record, 1)[0, 1] == 0.875 + 0.875  # round 2 of nodes 0 and 1, while node 3 is in its first
    assert record.nodes["finish_s"].tolist() == [1.75, 9.25, 16.375, 16.0]
    assert record.rounds["sim_time_s"].tolist() == [8.375, 16.375]


@tiers
def test_in_a_directed_graph_a_node_can_lead_without_bound(tier: str) -> None:
    graph = nx.DiGraph([(0, 1), (1, 2)])
    record = run(graph, tier=tier, rounds=50, ports="parallel", evaluate_every=50,
                 nodes={"step": 0.5, "groups": [{"nodes": [2], "step": 4.0}]})  # fmt: skip
    assert record.nodes["finish_s"].tolist() == [25.0, 25.375, 200.0]
    assert record.nodes["exposed_comm_s"].tolist() == [0.0, 0.375, 0.0]


@tiers
def test_waiting_is_idle_until_the_neighbour_has_sent(tier: str) -> None:
    record = run("path", tier=tier, n=2, nodes={"step": 0.5, "groups": [{"nodes": [1], "step": 1.5}]})
    assert record.nodes["idle_s"].tolist() == [1.0, 0.0]
    assert record.nodes["exposed_comm_s"].tolist() == [0.375, 0.0]
    assert record.nodes["finish_s"].tolist() == [1.875, 1.5]


@tiers
def test_time_hidden_by_overlap_is_not_exposed(tier: str) -> None:
    record = run("path", Overlaps(), tier, n=2, rounds=3)
    assert record.rounds["sim_time_s"].tolist() == [0.5, 1.0, 1.5]
    assert record.nodes["exposed_comm_s"].tolist() == [0.0, 0.0]
    slow = run("path", Overlaps(), tier, n=2, rounds=3, link={"latency": 0.5})
    assert slow.rounds["sim_time_s"].tolist() == [0.75, 1.5, 2.25]
    assert slow.nodes["exposed_comm_s"].tolist() == [0.75, 0.75]


# ---- deadlines ---------------------------------------------------------------------------------------------------


@tiers
def test_a_message_that_arrives_exactly_at_its_deadline_is_in_time(tier: str) -> None:
    at = run("path", Gossips(deadline_s=ON_TIME), tier, n=2)
    assert at.messages["delivered"].tolist() == [1, 1]
    just_before = float(np.nextafter(0.875, 0)) - 0.5
    late = run("path", Gossips(deadline_s=just_before), tier, n=2)
    assert late.messages["delivered"].tolist() == [0, 0]
    assert late.messages["arrived_s"].tolist() == [0.875, 0.875]
    assert late.rounds["sim_time_s"].tolist() == [0.5 + just_before]
    assert late.summary["wire_bytes"] == at.summary["wire_bytes"]


@pytest.mark.parametrize("latency", [0.0, 0.0013, 0.005])
def test_structural_ties_with_a_deadline_fall_alike_in_every_tier(latency: float) -> None:
    # two exchanges in a row: what was late by a whole number of messages comes in the instant of the second deadline
    link = {"bandwidth": 1e6, "latency": latency}
    for deadline_s in (0.0071, 0.0234, latency + 1.2e-5, latency + 2.4e-5):
        scenario = base(
            RunningSums(deadline_s=deadline_s),
            network={"nodes": 6, "graph": "star", "link": link},
            nodes={"step": "8 ms", "straggler": {"probability": 0.2, "slowdown": 4}},
            rounds=20,
        )
        found = [go(scenario, tier).messages["delivered"] for tier in TIERS]
        assert found[0].tolist() == found[1].tolist() == found[2].tolist()


@tiers
def test_a_deadline_counts_from_the_start_of_a_split_phase(tier: str) -> None:
    early = run("path", Overlaps(deadline_s=0.25), tier, n=2)  # over before the gradient is
    assert early.messages["delivered"].tolist() == [0, 0]
    assert early.rounds["sim_time_s"].tolist() == [0.5]
    later = run("path", Overlaps(deadline_s=1.0), tier, n=2, link={"latency": 2.0})
    assert later.messages["delivered"].tolist() == [0, 0]
    assert later.rounds["sim_time_s"].tolist() == [1.0]


# ---- averages ----------------------------------------------------------------------------------------------------


@tiers
def test_an_average_goes_through_the_server(tier: str) -> None:
    record = run("star", Averages(k=3), tier, n=3, collective={"server": 0})
    assert arrivals(record) == {(1, 0): 0.875, (2, 0): 0.875, (0, 1): 1.25, (0, 2): 1.5}
    assert record.nodes["finish_s"].tolist() == [0.875, 1.25, 1.5]
    assert record.summary["wire_bytes"] == 4 * 16


@pytest.mark.parametrize("tier", TIERS[1:])
def test_a_serial_receiver_slows_the_server(tier: str) -> None:
    record = run("star", Averages(k=3), tier, n=3, collective={"server": 0}, receive_ports="serial")
    assert arrivals(record) == {(1, 0): 0.875, (2, 0): 1.125, (0, 1): 1.5, (0, 2): 1.75}


# ---- durations ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Durations(Algorithm):
    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            yield node.gradient(x)
            yield node.oracle("loss", x)
            yield node.hvp(x, x)
            yield node.work(8e9)
            yield node.wait(0.0625)
            node.report(x=x)


@tiers
def test_each_verb_costs_what_the_profile_says(tier: str) -> None:
    nodes = {"compute": 16e9, "step": {"gradient": 1.0, "loss": 2.0, "hvp": 4.0},
             "groups": [{"nodes": [1], "oracle": "fo", "step": 8.0}]}  # fmt: skip
    record = run("edgeless", Durations(), tier, n=2, nodes=nodes)
    assert record.nodes["finish_s"].tolist() == [1 + 2 + 4 + 0.5 + 0.0625, 24 + 0.5 + 0.0625]
    assert record.nodes["compute_s"].tolist() == [7.5, 24.5]


@tiers
def test_flops_over_speed(tier: str) -> None:
    record = run("edgeless", tier=tier, n=2, nodes={"compute": 16.0, "groups": [{"nodes": [1], "compute": 2.0}]})
    assert record.nodes["finish_s"].tolist() == [0.5, 4.0]  # a gradient of the quadratic is 2 x 4 FLOP


def test_jitter_multiplies_each_call_and_is_the_same_in_every_tier() -> None:
    clocks = [
        run("edgeless", tier=t, n=3, rounds=5, nodes={"step": 0.5, "jitter": 0.5}).rounds["sim_time_s"] for t in TIERS
    ]
    for other in clocks[1:]:
        np.testing.assert_array_equal(clocks[0], other)
    assert len(np.unique(np.diff(clocks[0]))) == 4


def test_one_node_alone_and_nodes_without_edges_run() -> None:
    for n in (1, 3):
        record = simnet.run(base(Gossips(), network={"nodes": n, "graph": "edgeless"}, nodes={"step": 0.5}))
        assert record.rounds["sim_time_s"].tolist() == [1.0, 2.0, 3.0]
        assert record.summary["wire_bytes"] == 0


def test_the_walk_is_compiled_also_where_nothing_can_be_kept() -> None:
    from simnet.jit import kept

    made: dict[str, Any] = {}
    exec("def double(x):\n    return 2 * x\n", made)  # a function without a file has no folder for its cache
    assert kept(made["double"])(21) == 42
