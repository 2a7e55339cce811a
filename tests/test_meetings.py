"""Partners set by time: publish, meet, peers and timers, in every tier, against simulations written here."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import networkx as nx
import numpy as np
import pytest
import torch

import simnet
from simnet import streams
from simnet.algorithm import Algorithm, Program
from simnet.errors import ProgramError, ScenarioError, TopologyError
from simnet.models.algorithms.ad_psgd import ADPSGD
from simnet.models.algorithms.gossip_learning import GossipLearning
from simnet.models.algorithms.swarm_sgd import SwarmSGD
from simnet.node import Node
from simnet.record import Record
from simnet.valueplane import pairs
from tests.dense import Quadratics
from tests.programs import base, go

FAST = {"link": {"bandwidth": "1 Tbit/s", "latency": "0 s"}}
LOSSY = {"nodes": 6, "graph": "ring", "loss_unit": "message",
         "link": {"bandwidth": "1 Mbit/s", "latency": "5 ms", "loss": 0.2}}  # fmt: skip


TIMED = ("round", "sim_time_s", "wire_bytes", "messages")


def everywhere(scenario: dict[str, Any]) -> list[Record]:
    """The run by whole arrays (walked, and compiled where it can be), node by node, and as a node run."""
    ways = [("events", "batched"), ("events", "one_by_one"), ("processes", "batched")]
    listed = scenario.get("record", {}).get("messages", False)
    if not scenario["network"].get("link", {}).get("loss") and not listed:
        ways.append(("compiled", "batched"))
    return [go(scenario, tier, executor) for tier, executor in ways]


def agree(records: list[Record], within: float = 0.0) -> None:
    """Clocks and bytes are equal to the last bit, and values too, or within rounding."""
    first = records[0]
    for other in records[1:]:
        assert other.summary["log_hash"] == first.summary["log_hash"]
        for table in ("rounds", "nodes", "links"):
            for name, column in getattr(first, table).items():
                same = (
                    np.array_equal if name in TIMED or table != "rounds" else partial(np.allclose, rtol=within, atol=0)
                )
                if not name.startswith("host_"):
                    assert same(column, getattr(other, table)[name]), (table, name, other.summary["tier"])
        for name, value in first.final.items():
            assert np.allclose(value, other.final[name], rtol=0, atol=within)


# ---- tiers and executors agree --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanders(Algorithm):
    """Values of several shapes, scalars per node, draws, a function that runs as a batch, pauses, both pools."""

    mixing: ClassVar[str | None] = None
    keeps_mean: ClassVar[bool] = False

    eta: float = 0.1

    def program(self, node: Node) -> Program:
        x: Any = node.initial("x")
        m = node.zeros()
        rate = node.constant({"fo": self.eta, "zo": self.eta / 2})
        node.publish(x)
        for t in node.rounds():
            g = yield node.gradient(node.published)
            noise = node.random("noise")
            m = 0.9 * m + g + 0.01 * noise
            if t % 3 == 1:
                yield node.wait(0.004, spread=1.0)
            x = yield node.meet(pool="ready" if t % 4 == 3 else "neighbours")
            x = (-x) * -1.0 - rate * m / 2.0 + (1.0 - 1.0 * t / (t + 1)) * 0.0
            size = torch.sum(x * x)
            node.publish(x / (1.0 + 0.001 * size))
            g2 = yield node.gradient(node.published)
            node.publish(1.0 * node.published - 0.5 * self.eta * g2)
            node.report(x=node.published, tracker=(m, g), estimate=(g2, g))


PROGRAMS = (ADPSGD(0.1), SwarmSGD(0.1, 3), SwarmSGD(0.1, 2, blocking=False), Wanders())
NETWORKS: tuple[dict[str, Any], ...] = (
    {"nodes": 5, "graph": "ring", "link": {"bandwidth": "1 Mbit/s", "latency": "5 ms"}},
    {"nodes": 9, "graph": "star", "link": {"bandwidth": "20 kbit/s", "latency": "1 ms"}, "ports": "parallel"},
    {"nodes": 8, "graph": "complete", "link": {"bandwidth": "50 kbit/s", "latency": "0 s"}, "header_bytes": 20},
    LOSSY,
    LOSSY | {"policy": "drop", "receive_ports": "serial"},
    LOSSY | {"policy": "symmetric"},
)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("algorithm", PROGRAMS, ids=lambda a: f"{type(a).__name__}-{getattr(a, 'blocking', '')}")
@pytest.mark.parametrize("jitter", (0, 0.4))
def test_tiers_and_executors_agree(algorithm: Algorithm, network: dict[str, Any], jitter: float) -> None:
    sections: dict[str, Any] = {"network": network, "rounds": 9, "record": {"messages": False}}
    sections["nodes"] = {"step": "10 ms", "jitter": jitter, "groups": [{"nodes": [1], "oracle": "zo"}]}
    agree(everywhere(base(algorithm, **sections)), within=1e-11)
    agree(everywhere(base(algorithm, **sections, stop={"sim_time": "70 ms"}, evaluate_period="13 ms")), within=1e-11)
    if not isinstance(algorithm, Wanders):  # averages and sums alone: to the bit
        sections["nodes"] = {"step": "10 ms", "jitter": jitter}
        agree(everywhere(base(algorithm, **sections)))


def test_a_number_per_node_is_no_coordinate_where_there_are_as_many_nodes() -> None:
    problem = {"name": "Quadratic", "dim": 5}
    agree(everywhere(base(Wanders(), problem=problem, nodes={"step": "10 ms", "jitter": 0.3}, record={})), within=1e-11)


def test_minibatches_of_hosts_at_different_rounds_are_their_own() -> None:
    problem = {"name": "Softmax", "data": "digits", "batch": 4}
    scenario = base(ADPSGD(0.1), problem=problem, nodes={"step": "10 ms", "jitter": 0.9}, record={}, rounds=12)
    records = everywhere(scenario)
    for other in records[1:]:
        assert np.allclose(records[0].final["x"], other.final["x"], rtol=0, atol=1e-12)


def test_row_by_row_is_level_by_level(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = base(Wanders(), nodes={"step": "10 ms", "jitter": 0.4}, rounds=20, record={})
    compiled = go(scenario)
    monkeypatch.setattr(pairs.Pairs, "_one_kind", lambda self: False)
    agree([compiled, go(scenario)], within=1e-13)


def test_records_run_in_pieces_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = base(Wanders(), nodes={"step": "10 ms", "jitter": 0.4}, rounds=20, record={})
    whole = go(scenario)
    monkeypatch.setattr(pairs, "FEWEST", 7)
    monkeypatch.setattr(pairs, "MOST_PER_HOST", 1)
    agree([whole, go(scenario), go(scenario, "compiled"), go(scenario, execution__chunk_rows=2)], within=1e-13)


def test_memory_is_that_of_the_values_alive_however_far_hosts_drift_apart() -> None:
    """A node fifty times as slow: the others are thousands of verbs ahead, and no value waits for it."""
    seen: list[int] = []
    run = pairs.Pairs.flush

    def watched(self: pairs.Pairs) -> None:
        run(self)
        seen.append(sum(pool.taken for pool in self.slots.pools.values()))

    pairs.Pairs.flush = watched  # type: ignore[method-assign]
    try:
        groups = [{"nodes": [0], "step": "500 ms"}]
        go(base(ADPSGD(0.1), nodes={"step": "10 ms", "groups": groups}, rounds=200, record={}, stop={"sim_time": 5}))
    finally:
        pairs.Pairs.flush = run  # type: ignore[method-assign]
    assert max(seen) == seen[len(seen) // 2] <= 12


# ---- the mean -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Averages(Algorithm):
    """Only meets: from numbered starts, and a last look when all is over."""

    mixing: ClassVar[str | None] = None
    keeps_mean: ClassVar[bool] = False

    numbered: bool = True
    pool: str = "neighbours"

    def program(self, node: Node) -> Program:
        x = node.initial("x") * 0.0 + 1.0
        node.publish(x * (node.index + 1.0) if self.numbered else x)
        for _ in range(40):
            yield node.wait(0.01, spread=0.5)
            yield node.meet(pool=self.pool)
        yield node.wait(100.0)
        node.report(x=node.published)


@pytest.mark.parametrize("pool", ("neighbours", "ready"))
@pytest.mark.parametrize("network", NETWORKS)
def test_meetings_keep_the_mean_and_all_ones(network: dict[str, Any], pool: str) -> None:
    """Both commit or neither, whatever is lost."""
    for record in everywhere(base(Averages(False, pool), network=network, record={})):
        assert (record.final["x"] == 1.0).all()
    for record in everywhere(base(Averages(True, pool), network=network, record={})):
        x = record.final["x"]
        n = len(x)
        assert np.allclose(x.mean(0), (n + 1) / 2, rtol=1e-14)
        assert x.std(0).max() < 0.35 * n / 3.4  # and comes together: the start has n / sqrt(12)


# ---- against a simulation of the same by hand -----------------------------------------------------------------------


def choice(seed: int, i: int, k: int) -> float:
    return float(streams.uniform(streams.keys(streams.key(seed, "meet", "node"), np.array([i])), 1, start=k)[0, 0])


def simulated(problem: Quadratics, step_n: np.ndarray, eta: float, rounds: int, latency: float) -> Any:
    """AD-PSGD on a ring, from its description: x (n, d) as each reported last, and when each ended."""
    n, d = problem.c.shape
    a = np.broadcast_to(np.asarray(problem.a).reshape(n, -1), (n, d))
    x, g, last = np.zeros((n, d)), np.zeros((n, d)), np.zeros((n, d))
    done, end = np.zeros(n, int), np.zeros(n)
    order = iter(range(10**9))
    queue: list[tuple[float, int, str, int]] = []
    for i in range(n):
        g[i] = a[i] * (x[i] - problem.c[i])
        heapq.heappush(queue, (step_n[i], next(order), "computed", i))
    while queue:
        now, _, what, i = heapq.heappop(queue)
        if what == "computed":
            heapq.heappush(queue, (now + latency, next(order), "asked", i))
        elif what == "asked":
            heapq.heappush(queue, (now + latency, next(order), "answered", i))
        else:
            neighbours = sorted(((i - 1) % n, (i + 1) % n))
            j = neighbours[int(choice(0, i, done[i]) * 2)]
            x[i] = x[j] = (x[i] + x[j]) / 2
            x[i] = x[i] - eta * g[i]
            last[i], end[i] = x[i], now
            done[i] += 1
            if done[i] < rounds:
                g[i] = a[i] * (x[i] - problem.c[i])
                heapq.heappush(queue, (now + step_n[i], next(order), "computed", i))
    return last, end


def test_ad_psgd_is_what_its_description_says() -> None:
    problem = Quadratics.reference()
    step_n = 0.01 * (1.0 + np.arange(16) / 7.0)
    groups = [{"nodes": [i], "step": float(s)} for i, s in enumerate(step_n)]
    network = {"link": {"bandwidth": "1e30 bit/s", "latency": "3 ms"}}
    scenario = problem.scenario({"name": "ADPSGD", "eta": 0.05}, rounds=60, network=network,
                                nodes={"step": "10 ms", "groups": groups}, record={"messages": False})  # fmt: skip
    record = simnet.run(scenario)
    x, end = simulated(problem, step_n, 0.05, 60, 0.003)
    assert np.allclose(record.nodes["finish_s"], end, rtol=1e-12)
    assert np.allclose(record.final["x"], x, rtol=0, atol=1e-12)


# ---- times, by hand -------------------------------------------------------------------------------------------------


def pair(algorithm: Algorithm, **sections: Any) -> Record:
    network = {"nodes": 2, "graph": "path", "link": {"bandwidth": "96 kbit/s", "latency": "5 ms"}}
    return go(base(algorithm, network=network, **sections))  # 12 bytes in 1 ms: 6 ms a message


def test_a_node_is_answered_as_its_message_arrives_and_its_partner_never_waits() -> None:
    record = pair(ADPSGD(), nodes={"step": "10 ms", "groups": [{"nodes": [1], "step": "1 s"}]}, rounds=2)
    assert np.allclose(record.nodes["finish_s"], (2 * (0.010 + 0.012), 2 * (1.0 + 0.012)))
    assert np.allclose(record.nodes["exposed_comm_s"], 2 * 0.012) and not record.nodes["idle_s"].any()
    assert record.summary["messages"] == 8 and record.summary["wire_bytes"] == 8 * 12


def test_two_that_are_ready_send_at_once_and_go_on_together() -> None:
    record = pair(SwarmSGD(steps=1), nodes={"step": "10 ms", "groups": [{"nodes": [1], "step": "30 ms"}]}, rounds=2)
    assert np.allclose(record.nodes["finish_s"], 2 * (0.030 + 0.006))
    assert np.allclose(record.nodes["idle_s"], (2 * 0.020, 0.0)) and np.allclose(record.nodes["exposed_comm_s"], 0.012)
    assert record.summary["messages"] == 4


def test_who_is_left_without_partners_goes_on_alone() -> None:
    network = {"nodes": 3, "graph": "path", "link": {"bandwidth": "96 kbit/s", "latency": "5 ms"}}
    record = go(base(SwarmSGD(steps=1), network=network, rounds=7))
    assert record.outcome == "finished" and (record.nodes["reports"] == 7).all()


def test_alone_a_node_meets_nobody_and_loses_no_time() -> None:
    record = go(base(ADPSGD(), network={"nodes": 1}, rounds=3))
    assert record.summary["messages"] == 0 and np.allclose(record.nodes["finish_s"], 0.030)


def test_a_meeting_with_a_lost_message_ends_when_that_would_have_been_there() -> None:
    lost = {"nodes": 2, "graph": "path", "policy": "drop", "loss_unit": "message",
            "link": {"bandwidth": "1 Tbit/s", "latency": "6 ms", "loss": 0.5}}  # fmt: skip
    record = go(base(ADPSGD(), network=lost, rounds=30))
    asked = [m["delivered"] for m in zip_rows(record.messages)]
    trips = sum(0.006 for _ in asked)
    assert not all(asked) and any(asked)
    assert np.allclose(record.nodes["finish_s"].sum(), trips + 60 * 0.010)


def zip_rows(table: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def test_stragglers_hold_up_nobody_but_themselves() -> None:
    """At equal simulated time: averaging in step goes as fast as the slowest, AD-PSGD as everyone can."""
    sections: dict[str, Any] = {
        "network": {"nodes": 8, "graph": "ring"}, "rounds": 10_000, "stop": {"sim_time": "2 s"},
        "nodes": {"step": "10 ms", "groups": [{"nodes": [3], "step": "200 ms"}]}, "record": {},
    }  # fmt: skip
    steps = {a: go(base(a, **sections)).nodes["reports"].sum() for a in (ADPSGD(), DPSGD_())}
    fast, slow = steps.values()
    assert fast > 5 * slow


def DPSGD_() -> Algorithm:
    from simnet.models.algorithms.dpsgd import DPSGD

    return DPSGD()


# ---- rows on a grid of time -----------------------------------------------------------------------------------------


def test_rows_lie_on_a_grid_of_time_and_count_the_fewest_reports() -> None:
    nodes = {"step": "10 ms", "groups": [{"nodes": [2], "step": "25 ms"}]}
    record = go(base(ADPSGD(), nodes=nodes, rounds=20, evaluate_period="50 ms"))
    times = record.rounds["sim_time_s"]
    assert np.allclose(times[:-1], 0.05 * (1 + np.arange(len(times) - 1)))
    assert times[-1] == record.nodes["finish_s"].max()
    assert (
        record.rounds["round"].tolist() == sorted(record.rounds["round"].tolist()) and record.rounds["round"][-1] == 20
    )
    slowest = 0.025 + 2 * (0.005 + 12 / 125_000)
    assert record.rounds["round"][0] == int(0.05 / slowest)


def test_a_row_holds_each_nodes_own_last_report() -> None:
    """A run cut at a row's time ends with what that row saw."""
    scenario = base(ADPSGD(), nodes={"step": "10 ms", "jitter": 0.5}, rounds=40, evaluate_period="90 ms", record={})
    whole = go(scenario)
    at = int(np.flatnonzero(whole.rounds["sim_time_s"] == 0.18)[0])
    cut = go(scenario | {"stop": {"sim_time": 0.18}})
    assert cut.outcome == "simulated time limit"
    for name in ("objective", "consensus_distance", "wire_bytes", "messages", "round", "sim_time_s"):
        assert cut.rounds[name][-1] == whole.rounds[name][at], name


def test_without_a_period_a_run_has_about_fifty_rows() -> None:
    scenario = base(ADPSGD(), nodes={"step": "10 ms", "jitter": 0.2}, rounds=500, record={})
    del scenario["evaluate_every"]
    assert 35 <= len(go(scenario).rounds["round"]) <= 75
    assert len(go(scenario | {"stop": {"sim_time": "4 s"}}).rounds["round"]) == 50


def test_bytes_and_targets_stop_at_a_row() -> None:
    scenario = base(ADPSGD(), rounds=1000, evaluate_period="100 ms", record={})
    record = go(scenario | {"stop": {"bytes": 2000}})
    assert record.outcome.startswith("bytes") and 2000 <= record.summary["wire_bytes"] < 2000 + 5 * 24 * 11
    assert (record.nodes["finish_s"] == record.rounds["sim_time_s"][-1]).all()
    record = go(scenario | {"stop": {"at_target": True}, "target": {"objective_gap": 0.5}})
    assert record.rounds["objective_gap"][-1] <= 0.5 < record.rounds["objective_gap"][-2]


# ---- peers and timers -----------------------------------------------------------------------------------------------


def test_gossip_learning_sends_once_a_period_from_a_random_phase() -> None:
    record = go(base(GossipLearning(period_s=0.5), network={"nodes": 6, "graph": "ring"}, rounds=20))
    rows = zip_rows(record.messages)
    ring = nx.cycle_graph(6)
    for i in range(6):
        sent = sorted(m["sent_s"] for m in rows if m["source"] == i)
        assert len(sent) == 20 and 0 <= sent[0] < 0.5
        assert (np.diff(sent) >= 0.5 - 1e-9).all() and sent[-1] - sent[0] < 19 * 0.51
        targets = [m["target"] for m in rows if m["source"] == i]
        assert set(targets) == set(ring[i])


def test_a_lost_model_teaches_nobody() -> None:
    """Every delivered message is one gradient, and no other is computed."""
    record = go(base(GossipLearning(period_s=0.5), network=LOSSY | {"policy": "drop"}, rounds=20))
    arrived = sum(m["delivered"] for m in zip_rows(record.messages))
    learned = record.nodes["compute_s"].sum() / 0.010
    assert record.summary["lost_messages"] > 0
    assert arrived - 6 <= round(learned) <= arrived  # the last ones come after the last period of their receiver


@dataclass(frozen=True)
class Listens(Algorithm):
    """Node 1 sends at 10, 20, ... ms; node 0 listens until its timer of 35 ms."""

    mixing: ClassVar[str | None] = None
    keeps_mean: ClassVar[bool] = False
    synchronous: ClassVar[bool] = False
    roles: ClassVar[tuple[str, ...]] = ("hears", "speaks")

    def hears(self, node: Node) -> Program:
        heard = node.zeros(())
        timer = node.start(node.wait(0.035))
        while (said := (yield node.receive("any", until=timer))) is not None:
            heard = heard + said
        late = yield node.receive("any", until=timer)
        assert late is None
        more = yield node.receive("any")
        node.report(x=node.initial("x") + heard + 100.0 * more)

    def speaks(self, node: Node) -> Program:
        for k in range(5):
            yield node.wait(0.010)
            yield node.send(node.zeros(()) + float(2**k), to="hears")


def test_a_timer_ends_a_receive_and_what_comes_later_can_still_be_taken() -> None:
    network = {"nodes": 2, "graph": "path", "link": {"bandwidth": "1 Tbit/s", "latency": "0 s"}}
    record = go(base(Listens(), network=network, roles={"hears": [0], "speaks": [1]}, rounds=1))
    assert np.allclose(record.final["x"], 1 + 2 + 4 + 100 * 8)
    assert np.allclose(record.nodes["finish_s"][0], 0.040)


# ---- the reference problem ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InTurn(ADPSGD):
    """AD-PSGD by clocks: a node waits an exponential time, then acts at once, so that nodes act one after another."""

    def program(self, node: Node) -> Program:
        node.publish(node.initial("x"))
        for _ in node.rounds():
            yield node.work(1e7)
            node.report(x=node.published)  # seen at a random time
            g = yield node.gradient(node.published)
            x = yield node.meet()
            node.publish(x - self.eta * g)


def on_the_ring(algorithm: Any, seconds: float, **nodes: Any) -> float:
    """Row 19 or 20 of the table: mean of mean |x_i - x*|^2 over the last three quarters of a run."""
    problem, jitter = Quadratics.reference(), {"law": "exponential", "spread": 1.0}
    scenario = problem.scenario(algorithm, rounds=10**6, nodes={"compute": "1 GFLOP/s", "jitter": jitter} | nodes,
                                network=FAST, record={"messages": False})  # fmt: skip
    del scenario["evaluate_every"]
    record = simnet.run(scenario | {"stop": {"sim_time": seconds}, "evaluate_period": "50 ms"})
    gap = record.rounds["distance_to_optimum"]
    return float(gap[len(gap) // 4 :].mean())


def test_ad_psgd_in_turn_has_the_known_floor() -> None:
    """Row 19 (serial): .99."""
    assert on_the_ring(InTurn(0.05), 40, step={"gradient": 1e-9}) == pytest.approx(0.99, rel=0.05)


@pytest.mark.slow
def test_what_simulated_time_makes_of_the_serial_floors() -> None:
    """Stale gradients raise AD-PSGD's floor, waiting for each other lowers that of SwarmSGD (row 20, serial: 4.68)."""
    assert on_the_ring(ADPSGD(0.05), 40, step="10 ms") == pytest.approx(1.07, rel=0.05)
    assert on_the_ring(SwarmSGD(0.05, 5), 100, step="10 ms") == pytest.approx(4.37, rel=0.05)


# ---- what is refused ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Odd(Algorithm):
    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False

    how: str = ""

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        if self.how == "unpublished":
            yield node.meet()
        if self.how == "unread":
            x = node.published
        node.publish(x)
        if self.how == "pool":
            yield node.meet(pool="everyone")
        if self.how == "shape":
            node.publish(x[0])
        if self.how == "verb":
            node.publish(node.gradient(x))  # type: ignore[arg-type]
        if self.how == "timer":
            yield node.start(node.wait(1.0))  # type: ignore[misc]
        if self.how == "both":
            yield node.receive("any", timeout_s=1.0, until=node.start(node.wait(1.0)), missing=x)
        if self.how == "until":
            yield node.receive("any", until=3.0, missing=x)  # type: ignore[arg-type]
        if self.how == "spread":
            yield node.wait(1.0, spread=2.0)
        yield node.meet()
        node.report(x=x)


@pytest.mark.parametrize(
    "how, words",
    (
        ("unpublished", "node.publish"), ("unread", "before anything was"), ("pool", "'neighbours' or 'ready'"),
        ("shape", "was published before"), ("verb", "yield node.gradient"), ("timer", "receive"),
        ("both", "not both"), ("until", "node.start"), ("spread", "between 0 and 1"),
    ),
)  # fmt: skip
def test_a_program_that_means_nothing_is_told_so(how: str, words: str) -> None:
    with pytest.raises(ProgramError, match=words):
        go(base(Odd(how)))


def test_a_partner_pool_that_can_never_match_is_refused_before_the_start() -> None:
    lonely = nx.path_graph(4)
    lonely.add_node(4)
    with pytest.raises(TopologyError, match="node 4 has no neighbour"):
        go(base(Odd(), network={"graph": lonely}))
    with pytest.raises(TopologyError, match="but none back"):
        go(base(Odd(), network={"nodes": 5}, topology=nx.DiGraph([(i, (i + 1) % 5) for i in range(5)])))
    with pytest.raises(TopologyError, match="stays the same"):
        go(base(ADPSGD(), network={"nodes": 4}, topology="one_peer_exponential"))


def test_a_period_is_for_rows_of_time_alone() -> None:
    with pytest.raises(ScenarioError, match="evaluate_every"):
        go(base(DPSGD_(), evaluate_period="1 s"))


def test_tiers_that_cannot_say_so() -> None:
    with pytest.raises(ScenarioError, match="set by time"):
        go(base(ADPSGD()), "arrays")
    with pytest.raises(ScenarioError, match="tier"):
        go(base(ADPSGD(), network=LOSSY), "compiled")


def test_an_estimate_has_the_clocks_of_the_run() -> None:
    scenario = base(ADPSGD(), nodes={"step": "10 ms", "jitter": 0.4}, record={})
    assert simnet.estimate(scenario).summary["log_hash"] == go(scenario).summary["log_hash"]
