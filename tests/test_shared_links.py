"""Training over links that messages share: the flow engine under the walker, by hand, and against `transfer_times`."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest

import simnet
from simnet.errors import ScenarioError, TopologyError
from simnet.models.algorithms.ad_psgd import ADPSGD
from simnet.models.algorithms.all_reduce import AllReduceSGD
from simnet.models.algorithms.dpsgd import DPSGD
from simnet.models.algorithms.fedavg import FedAvg
from simnet.models.topologies.underlays import dumbbell, fat_tree, switch
from simnet.record import Record
from tests.programs import Gossips, Overlaps, Tracks, base, go

MODELS = ("maxmin", "cm02", "lv08", "lv08_noxt", "tcp")
LINK = {"bandwidth": "1 Mbit/s", "latency": "5 ms"}


def over(graph: nx.Graph, model: str, loss: float = 0.0, **more: Any) -> dict[str, Any]:
    """A network section; 8 ms and 1,000 bytes are one message of the usual problem with 250 numbers."""
    return {"graph": graph, "model": model, "link": {**LINK, "loss": loss}, **more}


def scenario(algorithm: Any, network: dict[str, Any], **more: Any) -> dict[str, Any]:
    problem = {"name": "Quadratic", "dim": 250}
    return base(algorithm, network=network, problem=problem, record={"timeline": False}, **more)


# ---- by hand -------------------------------------------------------------------------------------------------------


def test_two_messages_up_one_link_take_twice_as_long() -> None:
    """Each host sends 1,000 bytes to two others through its one link: 2 x 8 ms of bits, 2 x 5 ms of latency."""
    record = go(scenario(DPSGD(), over(switch(6), "maxmin"), topology="ring", rounds=3))
    assert record.summary["tier"] == "events"
    assert np.allclose(record.rounds["sim_time_s"][-1], 3 * (0.010 + 0.016 + 0.010))


def test_alone_on_its_links_a_message_takes_its_bits_once_however_many_links() -> None:
    network = over(nx.path_graph(2), "maxmin")
    network["graph"] = nx.Graph([(0, "a"), ("a", "b"), ("b", 1)])
    nx.set_node_attributes(network["graph"], {"a": True, "b": True}, "router")
    record = go(scenario(DPSGD(), network, topology="path", rounds=2))
    assert np.allclose(record.rounds["sim_time_s"][-1], 2 * (0.010 + 0.015 + 0.008))


def test_a_bottleneck_is_shared_by_all_that_cross_it() -> None:
    """Three pairs across a link of a third of the speed: nine times the bits' time of one alone."""
    graph = dumbbell(6, bottleneck=125_000 / 3)
    pairs = nx.Graph([(0, 3), (1, 4), (2, 5)])
    record = go(scenario(Gossips(), over(graph, "maxmin"), topology=pairs, rounds=1))
    assert np.allclose(record.rounds["sim_time_s"][-1], 0.010 + 0.015 + 9 * 0.008)


def test_a_topology_is_over_hosts_by_their_numbers_and_names_in_whatever_order_it_was_made() -> None:
    pairs = nx.Graph([(3, 0), (2, 1)])
    by_number = go(
        scenario(Gossips(), over(nx.complete_graph(4), "maxmin"), topology=pairs) | {"record": {"messages": True}}
    )
    assert set(zip(by_number.messages["source"], by_number.messages["target"], strict=True)) == {
        (0, 3),
        (3, 0),
        (1, 2),
        (2, 1),
    }
    names = nx.relabel_nodes(nx.complete_graph(4), dict(enumerate("abcd")))
    named = go(
        scenario(Gossips(), over(names, "maxmin"), topology=nx.Graph([("d", "a"), ("c", "b")]))
        | {"record": {"messages": True}}
    )
    assert set(zip(named.messages["source"], named.messages["target"], strict=True)) == {
        ("a", "d"),
        ("d", "a"),
        ("b", "c"),
        ("c", "b"),
    }


def test_links_of_their_own_are_as_independent_ones() -> None:
    """Where nothing is shared, fairness gives latency and bits, as independent links with a port each do."""
    jitter = {"step": "50 ms", "jitter": 0.3}
    shared = go(scenario(DPSGD(), over(nx.cycle_graph(6), "maxmin"), nodes=jitter, rounds=20))
    alone = over(nx.cycle_graph(6), "independent", ports="parallel")
    other = go(scenario(DPSGD(), alone, nodes=jitter, rounds=20))
    assert np.allclose(shared.rounds["sim_time_s"], other.rounds["sim_time_s"], rtol=1e-12)
    assert np.allclose(shared.final["x"], other.final["x"], rtol=0, atol=1e-13)


@pytest.mark.parametrize("model", MODELS[:-1])
@pytest.mark.parametrize("graph", (switch(8), dumbbell(8), fat_tree(8)), ids=("switch", "dumbbell", "fat tree"))
def test_one_exchange_takes_what_transfer_times_says(graph: nx.Graph, model: str) -> None:
    topology = nx.random_regular_graph(3, 8, seed=2)
    record = go(scenario(Gossips(), over(graph, model), topology=topology, rounds=1) | {"record": {"messages": True}})
    sent = record.messages
    number = {v: i for i, v in enumerate(graph)}
    links: list[list[float]] = []
    index: dict[tuple[int, int], int] = {}
    for a, b in graph.edges:
        for s, t in ((number[a], number[b]), (number[b], number[a])):
            index[s, t] = len(links)
            links.append([125_000.0, 0.005])
    network = simnet.prepare.prepare(
        simnet.Scenario.of(scenario(Gossips(), over(graph, model), topology=topology))
    ).network
    ends = list(zip(network.link_source.tolist(), network.link_target.tolist(), strict=True))
    order = [index[number[network.node_names[s]], number[network.node_names[t]]] for s, t in ends]
    routes = []
    for s in range(8):
        for t in range(8):
            if s != t:
                routes.append([s, t, [order[k] for k in network.path(s, t)]])
    flows = [[int(s), int(t), 1000, 0.010, 0, []] for s, t in zip(sent["source"], sent["target"], strict=True)]
    case = {"name": "one", "seed": 0, "hosts": len(number), "links": links, "routes": routes, "flows": flows}
    finish = simnet.transfer_times(case, model).finish_s
    assert np.allclose(sent["arrived_s"], finish, rtol=1e-12)


def test_a_loss_that_is_due_at_the_instant_of_another_does_not_stop_the_clock() -> None:
    """Windows of many packets: several stops of one flow fall on one instant."""
    network = {"nodes": 8, "graph": "ring", "model": "tcp", "tcp": {"control": "reno"}}
    network["link"] = {"bandwidth": "100 Mbit/s", "latency": "20 ms", "loss": 0.01}
    problem = {"name": "Quadratic", "dim": 20_000}
    sections = base(DPSGD(), network=network, problem=problem, topology="ring", rounds=60, seed=0)
    kinds = simnet.estimate(sections, full=True).summary["bytes_by_kind"]
    assert kinds["payload"] == 60 * 16 * 80_000
    assert kinds["retransmitted"] == pytest.approx(0.01 * kinds["payload"], rel=0.3)


# ---- every way of running agrees -----------------------------------------------------------------------------------


def agree(sections: dict[str, Any]) -> Record:
    """Group run, one by one and node run: clocks and bytes to the bit, values to rounding."""
    records = [go(sections), go(sections, executor="one_by_one"), go(sections, "processes")]
    for other in records[1:]:
        assert other.summary["log_hash"] == records[0].summary["log_hash"]
        assert other.summary["bytes_by_kind"] == records[0].summary["bytes_by_kind"]
        assert np.array_equal(other.rounds["sim_time_s"], records[0].rounds["sim_time_s"])
        assert np.array_equal(other.nodes["exposed_comm_s"], records[0].nodes["exposed_comm_s"])
        assert np.allclose(other.final["x"], records[0].final["x"], rtol=0, atol=1e-12)
    return records[0]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("loss", (0.0, 0.05))
@pytest.mark.parametrize(
    "algorithm, more",
    (
        (DPSGD(), {}),
        (Overlaps(missing="stale", deadline_s=0.04), {}),
        (AllReduceSGD(), {"collective": {"pattern": "ring"}}),
        (AllReduceSGD(), {}),
        (FedAvg(), {"topology": "complete"}),
        (ADPSGD(), {}),
    ),
    ids=("gossip", "stale", "ring", "server", "messages", "meetings"),
)
def test_group_run_is_node_run(algorithm: Any, more: dict[str, Any], loss: float, model: str) -> None:
    sections: dict[str, Any] = {"topology": "ring", "nodes": {"step": "10 ms", "jitter": 0.3}, **more}
    agree(scenario(algorithm, over(dumbbell(6), model, loss), **sections))


@pytest.mark.parametrize("policy", ("retry", "drop", "symmetric"))
@pytest.mark.parametrize("missing", ("self", "zero", "stale", "value"))
def test_group_run_is_node_run_with_deadlines_absences_and_cuts(missing: str, policy: str) -> None:
    network = over(switch(6), "maxmin", 0.3, policy=policy, loss_unit="message")
    absence = [{"nodes": [1], "away": [["60 ms", "95 ms"]]}, {"nodes": [4], "away": [["100 ms", "never"]]}]
    nodes = {"step": "10 ms", "jitter": 0.3, "absence": absence}
    for algorithm in (Gossips(missing=missing, deadline_s=0.03), Overlaps(missing=missing, deadline_s=0.03)):
        agree(scenario(algorithm, network, topology="ring", nodes=nodes, stop={"sim_time": "170 ms"}))


# ---- what must hold exactly ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_all_ones_stay_all_ones(model: str) -> None:
    policies = ("retry",) if model == "tcp" else ("retry", "drop", "symmetric")
    for policy in policies:
        network = over(switch(5), model, 0.2, policy=policy)
        problem = {"name": "Quadratic", "dim": 3}
        record = go(base(DPSGD(eta=1e-300), network=network, problem=problem, topology="ring", rounds=8))
        assert np.abs(record.final["x"]).max() < 1e-290  # from zero by steps of nothing: no message adds anything


def test_every_byte_is_on_every_link_of_its_way() -> None:
    record = go(scenario(DPSGD(), over(dumbbell(6), "tcp", 0.02), topology="ring", rounds=10))
    network = simnet.prepare.prepare(
        simnet.Scenario.of(scenario(DPSGD(), over(dumbbell(6), "tcp"), topology="ring"))
    ).network
    hops = sum(len(network.path(i, j)) for i in range(6) for j in ((i + 1) % 6, (i - 1) % 6))
    links = record.links
    assert links["payload_bytes"].sum() == 10 * hops * 1000
    assert links["header_bytes"].sum() == 10 * hops * round(1000 * 52 / 1448)
    assert links["acknowledgement_bytes"].sum() == 10 * hops * 50
    assert (links["wire_bytes"] == sum(links[f"{k}_bytes"] for k in KINDS)).all()
    assert record.summary["wire_bytes"] == links["wire_bytes"].sum()


def test_tcp_s_lost_bytes_are_on_the_links_that_lose() -> None:
    """Where links up to a switch lose packets, what is lost is on no link down; where both do, on each its share."""
    size, more = 100_000, {"topology": "ring", "rounds": 10}
    one_way = [{"from": i, "to": "switch", "loss": 0.05} for i in range(6)]
    for down, share in ((0.0, 1.0), (0.02, 0.05 / (0.05 + 0.95 * 0.02))):
        network = over(switch(6), "tcp") | {"links": one_way}
        network["link"] = network["link"] | {"loss": down}
        problem = {"name": "Quadratic", "dim": size // 4}
        record = go(base(DPSGD(), network=network, problem=problem, **more))
        links = record.links
        up = links["target"] == "switch"
        lost, again = links["lost_bytes"], links["retransmitted_bytes"]
        assert lost[up].sum() / lost.sum() == pytest.approx(share, rel=1e-4)
        assert again[up].sum() == lost.sum() > 0  # every lost byte was sent again by its host ...
        assert again[~up].sum() == lost[~up].sum()  # ... and went on only if it was lost behind the switch
        assert record.summary["wire_bytes"] == links["wire_bytes"].sum()


KINDS = ("payload", "index", "header", "retransmitted", "acknowledgement")


def test_under_retry_a_flow_carries_what_is_sent_again() -> None:
    """The same draws as on independent links: the same bytes, and a longer way through the switch."""
    lossy = go(scenario(DPSGD(), over(switch(6), "maxmin", 0.2), topology="ring", rounds=20))
    alone = go(scenario(DPSGD(), over(switch(6), "independent", 0.2), topology="ring", rounds=20))
    assert lossy.summary["bytes_by_kind"] == alone.summary["bytes_by_kind"]
    assert lossy.summary["bytes_by_kind"]["retransmitted"] > 0


def test_a_late_message_is_on_its_way_still_and_stale_learns_it() -> None:
    """A deadline shorter than any message: nobody waits longer, and later rounds take what came meanwhile."""
    network = over(switch(4), "maxmin")
    record = go(scenario(Gossips(missing="stale", deadline_s=0.015), network, topology="ring", rounds=6))
    assert np.allclose(record.rounds["sim_time_s"], 0.025 * record.rounds["round"])
    own = go(scenario(Gossips(missing="self", deadline_s=0.015), network, topology="ring", rounds=6))
    assert not np.allclose(record.final["x"], own.final["x"])


def test_warm_connections_save_the_handshake() -> None:
    sections = scenario(DPSGD(), over(switch(4), "tcp"), topology="ring", rounds=5)
    warm, cold = go(sections), go(sections | {"network": over(switch(4), "tcp", tcp={"warm": False})})
    trip = 0.020 + 4 * 0  # a handshake is one round trip of 20 ms, and the packets' own bits
    assert cold.rounds["sim_time_s"][-1] - warm.rounds["sim_time_s"][-1] > 4 * trip


def test_an_estimate_has_the_clocks_of_the_run() -> None:
    sections = scenario(DPSGD(), over(dumbbell(6), "tcp", 0.02), topology="ring")
    assert simnet.estimate(sections).summary["log_hash"] == go(sections).summary["log_hash"]


def test_time_is_longer_through_a_narrower_middle_for_gossip_than_inside_a_half() -> None:
    halves = nx.Graph([(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)])
    narrow = over(dumbbell(6, bottleneck=12_500), "maxmin")
    inside = go(scenario(Gossips(), narrow, topology=halves, rounds=3)).rounds["sim_time_s"][-1]
    across = go(scenario(Gossips(), narrow, topology="complete", rounds=3)).rounds["sim_time_s"][-1]
    assert across > 10 * inside


# ---- underlays -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", (1, 2, 5, 16, 54))
def test_fat_trees_have_room_and_equal_ways(n: int) -> None:
    graph = fat_tree(n)
    hosts = [v for v, data in graph.nodes(data=True) if not data.get("router")]
    assert hosts == list(range(n)) and nx.is_connected(graph)
    assert all(graph.degree[h] == 1 for h in hosts)
    k = next(k for k in range(2, 100, 2) if k**3 // 4 >= n)
    assert max((graph.degree[v] for v in graph if v not in hosts), default=0) <= k


@pytest.mark.parametrize("n", (1, 5, 16, 54))
def test_fat_trees_have_ways_of_the_least_hops_spread_evenly_over_cores(n: int) -> None:
    graph = fat_tree(n)
    way, crossings = graph.graph["way"], dict.fromkeys((v for v in graph if str(v).startswith("core")), 0)
    for a in range(n):
        for b in range(n):
            links = way(a, b)
            assert all(graph.has_edge(*link) for link in links)
            assert [a, *(end for _, end in links)] == [*(start for start, _ in links), b]
            assert len(links) == nx.shortest_path_length(graph, a, b)
            for _, end in links:
                if end in crossings:
                    crossings[end] += 1
    if n in (16, 54):  # a whole tree: every core is crossed by as many pairs of hosts
        assert len(set(crossings.values())) == 1 and min(crossings.values()) > 0


def test_underlays_refuse_what_they_cannot_be() -> None:
    with pytest.raises(TopologyError, match="ports = 3"):
        fat_tree(4, ports=3)
    with pytest.raises(TopologyError, match="left = 9"):
        dumbbell(4, left=9)


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network, words",
    (
        ({"model": "tcp", "policy": "drop"}, "tcp delivers everything"),
        ({"model": "tcp", "policy": "symmetric"}, "network.policy"),
        ({"model": "maxmin", "ports": "parallel"}, "network.ports"),
        ({"model": "maxmin", "receive_ports": "serial"}, "network.receive_ports"),
        ({"model": "maxmim"}, "maxmin"),
        ({"model": "tcp", "tcp": {"control": "vegas"}}, "cubic"),
    ),
)
def test_what_makes_no_sense_is_refused_by_its_field(network: dict[str, Any], words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        go(base(DPSGD(), network={"nodes": 4, **network}))


def test_routers_need_a_topology_over_the_hosts() -> None:
    with pytest.raises(ScenarioError, match="topology: ring"):
        go(base(DPSGD(), network={"graph": switch(4), "model": "maxmin"}))


def test_the_arrays_tier_says_that_messages_share_links() -> None:
    ring = base(DPSGD(), network={"nodes": 4, "link": LINK})
    for network in ({"model": "lv08"}, {"model": "tcp"}, over(switch(4), "maxmin")):
        with pytest.raises(ScenarioError, match="share links"):
            go(ring | {"network": ring["network"] | network, "topology": "ring"}, "arrays")


@pytest.mark.parametrize("model", ("maxmin", "cm02", "lv08_noxt"))
def test_where_no_two_messages_meet_the_arrays_tier_has_the_engines_clocks(model: str) -> None:
    """Each link is one edge's; a node has its step to do before it sends over it again."""
    network = {"nodes": 6, "model": model, "link": {**LINK, "loss": 0.1}}
    sections = base(DPSGD(), network=network, nodes={"step": "40 ms", "jitter": 0.3}, rounds=20)
    fast, slow = go(sections), go(sections, "events")
    assert (fast.summary["tier"], slow.summary["tier"]) == ("arrays", "events")
    np.testing.assert_allclose(fast.rounds["sim_time_s"], slow.rounds["sim_time_s"], rtol=1e-12)
    assert fast.summary["bytes_by_kind"] == slow.summary["bytes_by_kind"]


def test_a_message_that_meets_the_one_before_it_is_left_to_the_events_tier() -> None:
    """Two gossips with nothing between them: a late node sends again while its last message is under way."""
    network = {"nodes": 6, "model": "maxmin", "link": LINK}
    sections = base(Tracks(), network=network, nodes={"step": "10 ms", "jitter": 0.3}, rounds=20)
    assert go(sections).summary["tier"] == "events"
    with pytest.raises(ScenarioError, match="before the last is through"):
        go(sections, "arrays")
