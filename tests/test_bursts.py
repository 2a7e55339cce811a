"""Losses in bursts in training runs: the chain's law, what the ledger says of it, and what is refused."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simnet
from simnet.errors import ScenarioError
from simnet.links import Burst
from simnet.models.algorithms.dpsgd import DPSGD
from simnet.models.topologies.underlays import dumbbell, switch
from simnet.network.bursts import bad_packets, mean_loss, none_lost
from simnet.network.fate import Fates
from simnet.network.ledger import Ledger
from simnet.network.network import LinkSpec, Network
from simnet.streams import keys
from simnet.topology import StaticTopology
from tests.programs import Gossips, base, go
from tests.test_equality import check_all

Chain = tuple[float, float, float]
CHAINS: tuple[Chain, ...] = ((0.02, 0.2, 1.0), (0.3, 0.7, 1.0), (0.01, 0.01, 0.5), (1.0, 1.0, 1.0), (0.5, 0.0, 0.3))


# ---- the chain's law -----------------------------------------------------------------------------------------------


@cache
def law_of_bad(m: int, to_bad: float, to_good: float) -> np.ndarray:
    """P(k of m packets find the link bad), k = 0 .. m, by walking the chain packet by packet."""
    p = np.zeros((2, m + 1))
    p[1, 0] = to_bad / (to_bad + to_good)
    p[0, 0] = 1 - p[1, 0]
    for i in range(m):
        counted = np.stack((p[0], np.concatenate(([0.0], p[1, :-1]))))
        p = counted
        if i < m - 1:
            good = p[0] * (1 - to_bad) + p[1] * to_good
            p = np.stack((good, p[0] * to_bad + p[1] * (1 - to_good)))
    return p.sum(0)


def check_law(drawn: np.ndarray, law: np.ndarray) -> None:
    """Every value as often as its probability says, within 5 standard deviations."""
    seen = np.bincount(drawn, minlength=len(law)) / len(drawn)
    assert len(seen) == len(law)
    assert (np.abs(seen - law) <= 5 * np.sqrt(law * (1 - law) / len(drawn)) + 1e-12).all()


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("m", (1, 2, 9))
def test_bad_packets_have_the_law_of_the_chain(chain: Chain, m: int) -> None:
    count = 20_000
    drawn = bad_packets(np.full(count, m), np.tile(chain, (count, 1)), keys(3, np.arange(count)), 0)
    check_law(drawn, law_of_bad(m, chain[0], chain[1]))


@given(p=st.floats(0.01, 0.99), m=st.integers(1, 60))
@settings(max_examples=40)
def test_a_chain_without_memory_is_bernoulli(p: float, m: int) -> None:
    """The next state does not depend on the last: exactly (1 - p)^m to lose none, and the binomial law."""
    assert none_lost(m, 0.0, p, 1.0 - p, 1.0) == pytest.approx((1 - p) ** m, rel=1e-12)
    binomial = [math.comb(m, k) * p**k * (1 - p) ** (m - k) for k in range(m + 1)]
    np.testing.assert_allclose(law_of_bad(m, p, 1.0 - p), binomial, rtol=1e-9, atol=1e-12)


def test_a_chain_without_memory_draws_like_bernoulli() -> None:
    p, m, count = 0.2, 6, 20_000
    drawn = bad_packets(np.full(count, m), np.tile((p, 1 - p, 1.0), (count, 1)), keys(8, np.arange(count)), 1)
    check_law(drawn, np.array([math.comb(m, k) * p**k * (1 - p) ** (m - k) for k in range(m + 1)]))


@given(m=st.integers(1, 12), loss=st.floats(0, 0.9), chain=st.sampled_from(CHAINS))
def test_none_lost_is_the_sum_over_all_ways_of_the_chain(m: int, loss: float, chain: Chain) -> None:
    law = law_of_bad(m, chain[0], chain[1])
    by_hand = (1 - loss) ** m * sum(law[k] * (1 - chain[2]) ** k for k in range(m + 1))
    assert none_lost(m, loss, *chain) == pytest.approx(by_hand, rel=1e-11, abs=1e-300)


@given(mean=st.floats(0, 0.4), length=st.floats(1, 100), loss=st.floats(0.5, 1))
def test_mean_loss_and_length_give_a_chain_of_that_mean_and_length(mean: float, length: float, loss: float) -> None:
    burst = Burst(mean_loss=mean, length=length, loss=loss) if mean / loss <= length / (1 + length) else None
    if burst is not None:
        assert mean_loss(0.0, burst.chain) == pytest.approx(mean, rel=1e-12)
        assert burst.chain[1] == 1 / length


def bursty(graph: nx.Graph, chain: Chain, loss: float = 0.0, **options: Any) -> Network:
    return Network.build(graph, LinkSpec(1e6, 0.01, loss, chain), **options)


@pytest.mark.parametrize("chain", CHAINS[:4])
def test_mean_loss_of_many_messages_is_that_of_the_closed_form(chain: Chain) -> None:
    graph = nx.random_regular_graph(6, 400, seed=1)
    net = bursty(graph, chain, 0.02, policy="drop")
    edges, packets = net.edge_set(*StaticTopology(graph, net.hosts).edges(0)), 40
    rates = []
    for k in range(20):
        fate = Fates(net, 5).of(("exchange", k), edges, 1500 * packets)
        assert fate is not None
        rates.append(fate.hop_lost_H.sum() / (packets * edges.size))
    spread = np.std(rates) / math.sqrt(len(rates))
    assert abs(np.mean(rates) - mean_loss(0.02, chain)) < 5 * spread + 1e-12


@pytest.mark.parametrize("policy", ("drop", "symmetric"))
def test_a_message_gets_through_as_often_as_none_is_lost(policy: str) -> None:
    graph = nx.random_regular_graph(6, 400, seed=1)
    chain = (0.05, 0.3, 0.9)
    net = bursty(graph, chain, 0.01, policy=policy)
    edges = net.edge_set(*StaticTopology(graph, net.hosts).edges(0))
    through = [Fates(net, 5).of(("exchange", k), edges, 4 * 1500).delivered_E for k in range(20)]  # type: ignore[union-attr]
    p, count = none_lost(4, 0.01, *chain), 20 * edges.size // (2 if policy == "symmetric" else 1)
    assert abs(np.mean(through) - p) < 5 * math.sqrt(p * (1 - p) / count)
    if policy == "symmetric":
        assert all((d == d[edges.reverse_E]).all() for d in through)


def test_bursts_lose_fewer_messages_than_single_losses_of_the_same_mean() -> None:
    """At the same mean, losses that stand together leave more messages whole."""
    burst = Burst(mean_loss=0.02, length=10)
    assert none_lost(50, 0.0, *burst.chain) > 2 * (1 - 0.02) ** 50


# ---- the ledger ----------------------------------------------------------------------------------------------------


@st.composite
def ways(draw: st.DrawFn) -> tuple[Network, Any, int, str]:
    """A network with routers, each link of its own loss and bursts, and messages over several links."""
    policy = draw(st.sampled_from(("retry", "drop", "symmetric")))
    graph = draw(st.sampled_from((dumbbell(6), switch(5), nx.path_graph(5), nx.cycle_graph(4)))).copy()
    for _, _, data in graph.edges(data=True):
        data["loss"] = draw(st.sampled_from((0.0, 0.1, 0.4)))
        data["burst"] = draw(st.sampled_from(((0.0, 1.0, 1.0), *CHAINS[:3])))
    net = Network.build(graph, LinkSpec(1e6, 0.01), policy=policy, header_bytes=draw(st.sampled_from((0, 40))))
    source, target = np.nonzero(~np.eye(net.n, dtype=bool))
    return net, net.edge_set(source, target), draw(st.sampled_from((1, 900, 3000, 22_500))), policy


@given(made=ways(), seed=st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_what_enters_a_link_leaves_it_or_is_lost(made: Any, seed: int) -> None:
    net, edges, payload, policy = made
    ledger, size = Ledger(net), payload + net.header_bytes
    arrived = np.zeros(net.n, np.int64)
    sent = np.zeros(net.n, np.int64)
    for k in range(3):
        fate = Fates(net, seed).of(("exchange", k), edges, size)
        ledger.add(0, edges, payload, fate)
        first, last = edges.hop_ptr[:-1], edges.hop_ptr[1:] - 1
        if fate is None:
            np.add.at(arrived, edges.target, size)
            np.add.at(sent, edges.source, size)
            continue
        each = -(-size // fate.packets_E)
        out = fate.hop_packets_H - fate.hop_lost_H
        inner = np.setdiff1d(np.arange(len(out)), last)
        assert (out[inner] == fate.hop_packets_H[inner + 1]).all()  # from link to link no packet comes or goes
        assert (fate.hop_packets_H[first] == fate.packets_E + fate.again_E).all()
        lost_E = np.add.reduceat(fate.hop_lost_H, first)
        if policy == "retry":
            assert (fate.again_E == lost_E).all()  # each loss is sent again, once
            assert (out[last] == fate.packets_E).all()
        else:
            assert not fate.again_E.any()
            assert (fate.delivered_E == (lost_E == 0)).all()
        came = np.where(out[last] > 0, size + np.maximum((out[last] - fate.packets_E) * each, -payload), 0)
        np.add.at(arrived, edges.target, came)
        np.add.at(sent, edges.source, size + fate.again_E * each)
    columns = ledger.by_link()
    passed = columns["wire_bytes"] - columns["lost_bytes"]
    assert (columns["lost_bytes"] >= 0).all() and (passed >= 0).all()
    total = len(net.node_names)
    into, out_of = np.zeros((2, total), np.int64)
    np.add.at(into, net.link_target, passed)
    np.add.at(out_of, net.link_source, columns["wire_bytes"])
    consumed, made_ = np.pad(arrived, (0, total - net.n)), np.pad(sent, (0, total - net.n))
    assert (into + made_ == out_of + consumed).all()  # at every host and router
    assert columns["lost_bytes"].sum() == columns["wire_bytes"].sum() - passed.sum()


@pytest.mark.parametrize("model", ("independent", "maxmin", "lv08", "tcp"))
@pytest.mark.parametrize("policy", ("retry", "drop", "symmetric"))
@pytest.mark.parametrize("loss, burst", ((0.1, None), (0.0, CHAINS[0]), (0.05, CHAINS[2])))
def test_a_training_run_keeps_account_of_every_byte(model: str, policy: str, loss: float, burst: Chain | None) -> None:
    if model == "tcp" and policy != "retry":
        return  # refused: see test_shared_links
    link: dict[str, Any] = {"bandwidth": "10 Mbit/s", "latency": "2 ms", "loss": loss}
    if burst is not None:
        link["burst"] = dict(zip(("to_bad", "to_good", "loss"), burst, strict=True))
    network = {"graph": dumbbell(6), "model": model, "policy": policy, "link": link}
    problem = {"name": "Quadratic", "dim": 3750}  # messages of exactly ten packets
    sections = base(DPSGD(), network=network, problem=problem, topology="ring", rounds=5)
    record = go(sections)
    net = simnet.prepare.prepare(simnet.Scenario.of(sections)).network
    links = record.links
    assert links["source"].tolist() == [str(net.node_names[i]) for i in net.link_source]
    into, out_of = np.zeros((2, len(net.node_names)), np.int64)
    there = links["wire_bytes"] - links["acknowledgement_bytes"]
    np.add.at(into, net.link_target, there - links["lost_bytes"])
    np.add.at(out_of, net.link_source, there)
    assert (into[net.n :] == out_of[net.n :]).all()  # routers keep nothing
    again = record.summary["bytes_by_kind"]["retransmitted"]
    source, lost = net.link_source, int(links["lost_bytes"].sum())
    if policy == "retry":
        assert again > 0
        payload = 5 * 2 * 15_000  # two messages a round to and from every host
        assert into[: net.n].sum() == 6 * payload + (links["header_bytes"][source < net.n].sum())
        assert links["retransmitted_bytes"][source < net.n].sum() == lost  # what hosts send again is what was lost
        assert lost % 1500 == 0 and record.summary["lost_messages"] == 0
    else:
        assert again == 0 and lost > 0 and record.summary["lost_messages"] > 0


# ---- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ("retry", "drop", "symmetric"))
@pytest.mark.parametrize("missing", ("self", "zero", "stale", "value"))
def test_every_tier_and_executor_sees_the_same_bursts(policy: str, missing: str) -> None:
    link = {"bandwidth": "1 Mbit/s", "latency": "3 ms", "burst": {"mean_loss": "20 %", "length": 4}}
    network = {"nodes": 5, "graph": "ring", "policy": policy, "link": link}
    problem = {"name": "Quadratic", "dim": 2500}
    nodes = {"step": "10 ms", "jitter": 0.3}
    program = Gossips(missing=missing, deadline_s=None if missing == "self" else 0.2)
    record = check_all(base(program, network=network, problem=problem, nodes=nodes, rounds=8))
    lost = record.summary["bytes_by_kind"]["retransmitted"] if policy == "retry" else record.summary["lost_messages"]
    assert lost > 0


@pytest.mark.parametrize("model", ("independent", "maxmin", "cm02", "lv08"))
@pytest.mark.parametrize("policy", ("retry", "drop", "symmetric"))
def test_all_ones_stay_all_ones(model: str, policy: str) -> None:
    link = {"bandwidth": "1 Mbit/s", "latency": "3 ms", "loss": 0.05, "burst": {"mean_loss": "30 %", "length": 2}}
    network = {"graph": switch(5), "model": model, "policy": policy, "link": link}
    problem = {"name": "Quadratic", "dim": 750}

    class FromOnes(Gossips):
        def program(self, node: Any) -> Any:
            ones = node.initial("x") * 0 + 1.0
            x = ones
            for _ in node.rounds():
                x = yield node.gossip(x)
                node.report(x=x)

    record = go(base(FromOnes(), network=network, problem=problem, topology="ring", rounds=8))
    lost = record.summary["lost_messages"] + record.summary["bytes_by_kind"]["retransmitted"]
    assert lost > 0
    assert (record.final["x"] == 1.0).all()


def test_independent_and_shared_links_lose_the_same_packets() -> None:
    link = {"bandwidth": "1 Mbit/s", "latency": "3 ms", "burst": {"to_bad": 0.02, "to_good": 0.2}}
    sent = []
    for model in ("independent", "maxmin"):
        network = {"graph": switch(6), "model": model, "link": link}
        record = go(base(DPSGD(), network=network, problem={"name": "Quadratic", "dim": 5000}, topology="ring"))
        sent.append(record.links["retransmitted_bytes"])
    assert (sent[0] == sent[1]).all() and sent[0].sum() > 0


def test_tcp_meets_bursts_and_a_queue_of_its_link() -> None:
    link = {"bandwidth": "10 Mbit/s", "latency": "20 ms"}
    problem = {"name": "Quadratic", "dim": 20_000}

    def seconds(**more: Any) -> float:
        network = {"nodes": 4, "graph": "ring", "model": "tcp", "link": {**link, **more}}
        return float(go(base(DPSGD(), network=network, problem=problem, rounds=10)).rounds["sim_time_s"][-1])

    alone, bursts = seconds(), seconds(burst={"mean_loss": "2 %", "length": 5})
    single = seconds(loss="2 %")
    assert alone < bursts < single  # a burst is one event to a window


def test_a_short_queue_keeps_windows_small_under_tcp() -> None:
    def seconds(**more: Any) -> float:
        link = {"bandwidth": "20 Mbit/s", "latency": "2 ms", "loss": "1 %", **more}
        network = {"nodes": 4, "graph": "ring", "model": "tcp", "tcp": {"control": "reno"}, "link": link}
        problem = {"name": "Quadratic", "dim": 100_000}
        return float(go(base(DPSGD(), network=network, problem=problem, rounds=10)).rounds["sim_time_s"][-1])

    assert seconds(queue="3 kB") > seconds(queue="30 kB")


def test_links_and_edges_say_bursts_queues_and_fatpipes_of_their_own() -> None:
    graph = nx.path_graph(4)
    graph.edges[0, 1].update(burst=(0.1, 0.5, 1.0), queue=5000, fatpipe=True)
    graph.edges[1, 2]["burst"] = {"mean_loss": "1 %", "length": 10}
    network = {
        "graph": graph, "model": "tcp", "link": {"burst": {"to_bad": 0.2, "to_good": 0.3}, "queue": "30 kB"},
        "links": [{"from": 1, "to": 0, "burst": {"to_bad": 0.3, "to_good": 0.4, "loss": 0.5}, "fatpipe": False}],
    }  # fmt: skip
    net = simnet.prepare.prepare(simnet.Scenario.of(base(DPSGD(), network=network))).network
    assert net.burst.tolist()[:2] == [[0.1, 0.5, 1.0], [0.3, 0.4, 0.5]]
    assert net.burst[2].tolist() == pytest.approx([0.01 / (0.99 * 10), 0.1, 1.0])
    assert net.burst[4].tolist() == [0.2, 0.3, 1.0]
    assert net.queue_bytes.tolist() == [5000, 5000, 30_000, 30_000, 30_000, 30_000]
    assert net.fatpipe.tolist() == [True, False, False, False, False, False]
    assert not net.notes


def test_a_fatpipe_is_not_shared_and_what_only_tcp_has_is_told_unused() -> None:
    def seconds(**link: Any) -> float:
        network = {"graph": switch(6), "model": "maxmin", "link": {"bandwidth": "1 Mbit/s", "latency": 0, **link}}
        record = go(
            base(Gossips(), network=network, problem={"name": "Quadratic", "dim": 250}, topology="ring", rounds=1)
        )
        return float(record.rounds["sim_time_s"][-1]) - 0.01

    assert seconds() == pytest.approx(2 * 0.008)
    assert seconds(fatpipe=True) == pytest.approx(0.008)
    only = {"link": {"queue": "10 kB"}, "tcp": {"control": "reno"}}
    for model, words in (("maxmin", ["queues are left out", "network.tcp is left out"]), ("tcp", [])):
        network = {"nodes": 4, "model": model, **only}
        notes = simnet.prepare.prepare(simnet.Scenario.of(base(DPSGD(), network=network))).network.notes
        assert [any(word in note for word in words) for note in notes] == [True] * len(words)


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network, words",
    (
        ({"link": {"burst": {"to_bad": 1.2, "to_good": 0.1}}}, "network.link.burst.to_bad"),
        ({"link": {"burst": {"to_bad": 0.1}}}, "network.link.burst"),
        ({"link": {"burst": {"to_bad": 0.1, "to_good": 0.2, "length": 3}}}, "either `to_bad` with `to_good`"),
        ({"link": {"burst": {"to_bad": 0, "to_good": 0}}}, "never changes its state"),
        ({"link": {"burst": {"mean_loss": "70 %", "length": 1}}}, "network.link.burst.mean_loss"),
        ({"link": {"burst": {"mean_loss": 0.5, "length": 4, "loss": 0.5}}}, "must be below `loss`"),
        ({"link": {"burst": {"mean_loss": 0.5, "length": 0.5}}}, "network.link.burst.length"),
        ({"link": {"burst": {"to_bad": 0.5, "to_good": 0}}}, "network.link.burst.*would send for ever"),
        ({"links": [{"between": [0, 1], "burst": {"to_bad": 1, "to_good": 0}}]}, "network.links.0.burst"),
        ({"loss_unit": "message", "link": {"burst": {"to_bad": 0.1, "to_good": 0.2}}}, "loss_unit: message"),
        ({"link": {"queue": 0}}, "network.link.queue"),
        ({"link": {"bandwidth": -1}}, "network.link.bandwidth"),
    ),
)  # fmt: skip
def test_bursts_that_cannot_be_are_refused_by_their_field(network: dict[str, Any], words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        go(base(DPSGD(), network={"nodes": 4, **network}))


@pytest.mark.parametrize("said", ((0.1, 2.0, 1.0), {"to_bad": 0.1}, {"to_bat": 0.1}))
def test_a_bad_burst_of_an_edge_names_the_edge(said: Any) -> None:
    graph = nx.path_graph(3)
    graph.edges[1, 2]["burst"] = said
    with pytest.raises(ScenarioError, match="edge 1-2: burst"):
        go(base(DPSGD(), network={"graph": graph}))
