"""Meetings and timers of nodes that are away: sentence by sentence of SEMANTICS section 3, and in every tier alike.

By hand: two nodes unless a test says otherwise. A gradient takes 0.5 s, a message 0.25 s at its port and 0.125 s on the
way: a message handed over at 0.5 s is there at 0.875 s, its answer at 1.25 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from simnet.algorithm import Algorithm, Program
from simnet.models.algorithms.ad_psgd import ADPSGD
from simnet.models.algorithms.gossip_learning import GossipLearning
from simnet.models.algorithms.swarm_sgd import SwarmSGD
from simnet.node import Node
from simnet.prepare import prepare
from simnet.record import Record
from simnet.scenario import Scenario
from tests.programs import base, go
from tests.test_meetings import Averages, agree

WAYS = (("events", "batched"), ("events", "one_by_one"), ("processes", "batched"))
ways = pytest.mark.parametrize(("tier", "executor"), WAYS)
LOSES = ("drop", "symmetric")


@dataclass(frozen=True)
class Meets(Algorithm):
    """A gradient, then the mean of numbered states with a partner."""

    mixing: ClassVar[str | None] = None
    keeps_mean: ClassVar[bool] = False

    pool: str = "neighbours"

    def program(self, node: Node) -> Program:
        node.publish(node.initial("x") * 0.0 + node.index)
        for _ in node.rounds():
            yield node.gradient(node.published)
            x = yield node.meet(pool=self.pool)
            node.report(x=x)


def run(
    away: dict[int, list[list[Any]]], pool: str = "neighbours", tier: str = "events", executor: str = "batched",
    *, hosts: int = 2, steps: dict[int, float] | None = None, policy: str = "retry", **more: Any,
) -> Record:  # fmt: skip
    """Hosts in a row, some of them away, some with a step of their own."""
    network = {"nodes": hosts, "graph": "path", "link": {"bandwidth": 64.0, "latency": 0.125}, "policy": policy}
    nodes = {
        "step": 0.5,
        "groups": [{"nodes": [i], "step": s} for i, s in (steps or {}).items()],
        "absence": [{"nodes": [i], "away": intervals} for i, intervals in away.items()],
    }
    settings = {"problem": {"name": "Quadratic", "dim": 4}, "rounds": 1, "evaluate_every": 1} | more
    return go(base(Meets(pool), network=network, nodes=nodes, **settings), tier, executor)


def ends(record: Record) -> list[float]:
    assert record.outcome == "finished"
    return [float(t) for t in record.nodes["finish_s"]]


def listed(record: Record) -> list[tuple[int, int, float, bool]]:
    """(source, target, sent, delivered) of each message, as they were sent."""
    columns = [record.messages[name].tolist() for name in ("sent_s", "source", "target", "delivered")]
    return [(s, t, at, bool(got)) for at, s, t, got in sorted(zip(*columns, strict=True))]


# ---- a partner whatever it does -----------------------------------------------------------------------------------


@ways
def test_a_message_to_one_that_is_away_waits_for_the_return(tier: str, executor: str) -> None:
    record = run({1: [[0.625, 2.0]]}, tier=tier, executor=executor)
    assert ends(record) == [2.375, 2.0]  # node 1 answers as it returns, and finds its own answer there
    assert record.nodes["exposed_comm_s"].tolist() == [1.875, 0.125]  # waiting counts while a node is there
    assert record.nodes["idle_s"].tolist() == [0.0, 0.0]
    assert record.nodes["away_s"].tolist() == [0.0, 1.375]
    assert listed(record) == [(0, 1, 0.5, True), (1, 0, 0.5, True), (0, 1, 0.875, True), (1, 0, 2.0, True)]
    assert (record.final["x"] == 0.5).all()


@ways
@pytest.mark.parametrize("policy", LOSES)
def test_without_retry_it_is_lost_and_neither_takes_the_mean(tier: str, executor: str, policy: str) -> None:
    record = run({1: [[0.625, 2.0]]}, tier=tier, executor=executor, policy=policy)
    assert ends(record) == [0.875, 2.0]  # known when it would have been there; by who is away, at its return
    assert listed(record) == [(0, 1, 0.5, False), (1, 0, 0.5, True), (0, 1, 0.875, False)]
    assert record.final["x"][:, 0].tolist() == [0.0, 1.0]
    assert record.summary["lost_messages"] == 0  # no link lost anything


@ways
def test_who_is_away_asks_at_its_return(tier: str, executor: str) -> None:
    record = run({1: [[0.25, 1.25]]}, tier=tier, executor=executor)  # a gradient in two halves, done at 1.5 s
    assert ends(record) == [1.625, 2.25]
    assert listed(record)[0] == (0, 1, 0.5, True) and listed(record)[1] == (1, 0, 1.25, True)


@ways
def test_a_partner_that_has_left_for_good_starves_who_waits_for_it(tier: str, executor: str) -> None:
    record = run({1: [[0.625, "never"]]}, tier=tier, executor=executor)
    assert record.outcome == (
        "starved: node 0 waits for ever in round 0: its meeting with 1 (which left for good at 0.625 s) never ends; "
        "give the verb a deadline or a timeout, or let the other side send"
    )


@ways
@pytest.mark.parametrize("policy", LOSES)
def test_without_retry_the_meeting_fails(tier: str, executor: str, policy: str) -> None:
    record = run({1: [[0.625, "never"]]}, tier=tier, executor=executor, policy=policy, rounds=3)
    assert ends(record) == [3 * 0.875, 0.625]
    assert record.final["x"].tolist() == [[0.0] * 4]  # nobody's but node 0's
    assert record.summary["never_returned"] == [1]


# ---- partners that wait for each other -----------------------------------------------------------------------------


@ways
def test_who_is_away_while_it_waits_is_not_matched_until_it_is_back(tier: str, executor: str) -> None:
    record = run({1: [[0.625, 2.0]]}, "ready", tier, executor, steps={0: 1.0})
    assert ends(record) == [2.375, 2.375]  # matched at 2 s; both messages take 0.375 s
    assert record.nodes["idle_s"].tolist() == [1.0, 0.125]
    assert record.nodes["exposed_comm_s"].tolist() == [0.375, 0.375]
    assert (record.final["x"] == 0.5).all()


@ways
def test_one_that_waits_is_matched_before_one_that_is_away(tier: str, executor: str) -> None:
    record = run({0: [[0.625, 9.0]]}, "ready", tier, executor, hosts=3, steps={2: 1.0, 1: 1.5})
    assert ends(record) == [9.0, 1.875, 1.875]  # node 0 is left without partners, and goes on at its return
    assert record.final["x"][:, 0].tolist() == [0.0, 1.5, 1.5]


@ways
def test_two_that_are_away_in_turn_meet_when_both_are_there(tier: str, executor: str) -> None:
    away = {0: [[1.25, 3.0], [4.0, 5.0]], 1: [[0.625, 2.0], [2.5, 4.5]]}
    record = run(away, "ready", tier, executor, steps={0: 1.0})  # node 0 comes at 1 s; both are there from 5 s on
    assert ends(record) == [5.375, 5.375]


@ways
def test_a_message_of_a_matched_pair_waits_too_and_both_go_on_with_the_later(tier: str, executor: str) -> None:
    record = run({1: [[0.625, 2.0]]}, "ready", tier, executor)
    assert ends(record) == [2.0, 2.0]
    assert listed(record) == [(0, 1, 0.5, True), (1, 0, 0.5, True)]
    for policy in LOSES:
        record = run({1: [[0.625, 2.0]]}, "ready", tier, executor, policy=policy)
        assert ends(record) == [0.875, 2.0]
        assert listed(record) == [(0, 1, 0.5, False), (1, 0, 0.5, True)]
        assert record.final["x"][:, 0].tolist() == [0.0, 1.0]


@ways
def test_who_has_left_for_good_is_nobodys_partner(tier: str, executor: str) -> None:
    record = run({1: [[0.75, "never"]]}, "ready", tier, executor, steps={1: 1.0})
    assert ends(record) == [0.75, 0.75]  # node 0 waits until the other has left
    assert record.nodes["idle_s"].tolist() == [0.25, 0.0]
    early = run({1: [[0.25, "never"]]}, "ready", tier, executor, rounds=3)
    assert ends(early) == [1.5, 0.25]
    assert early.summary["messages"] == 0
    three = run({1: [[0.625, "never"]]}, "ready", tier, executor, hosts=4, steps={0: 1.0, 2: 1.0, 3: 1.0})
    assert ends(three) == [1.0, 0.625, 1.375, 1.375]  # it waited for a partner, and left


@ways
def test_a_partner_that_leaves_during_the_transfer(tier: str, executor: str) -> None:
    record = run({1: [[0.625, "never"]]}, "ready", tier, executor)
    assert record.outcome.startswith(
        "starved: node 0 waits for ever in round 0: its meeting with 1 (which left for good at 0.625 s) never ends"
    )
    for policy in LOSES:
        assert ends(run({1: [[0.625, "never"]]}, "ready", tier, executor, policy=policy)) == [0.875, 0.625]


# ---- timers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listens(Algorithm):
    """Host 0 takes what host 1 says at 0.25, 0.75, 1.25 and 2.25 s until its timer of 1 s, and one message more."""

    mixing: ClassVar[str | None] = None
    keeps_mean: ClassVar[bool] = False
    synchronous: ClassVar[bool] = False
    roles: ClassVar[tuple[str, ...]] = ("hears", "speaks")

    reliable: bool = True

    def hears(self, node: Node) -> Program:
        heard = node.zeros(())
        timer = node.start(node.wait(1.0))
        while (said := (yield node.receive("any", until=timer))) is not None:
            heard = heard + said
        assert (yield node.receive("any", until=timer)) is None
        node.report(x=node.zeros() + heard)
        more = yield node.receive("any")
        node.report(x=node.zeros() + heard + 100.0 * more)

    def speaks(self, node: Node) -> Program:
        for k, pause in enumerate((0.25, 0.5, 0.5, 1.0)):
            yield node.wait(pause)
            yield node.send(node.zeros(()) + float(2**k), to="hears", reliable=self.reliable)


@pytest.mark.parametrize(("away", "reliable", "timer_s", "heard", "next_s", "after"), [
    ([], True, 1.0, 1 + 2, 1.25, 4),
    ([[0.5, 0.75]], True, 1.0, 1 + 2, 1.25, 4),  # back before the timer
    ([[0.5, 0.875]], True, 1.0, 1 + 2, 1.25, 4),
    ([[0.5, 0.875]], False, 1.0, 1, 1.25, 4),
    ([[0.5, 2.0]], True, 2.0, 1 + 2, 2.0, 4),  # at the return: one is taken, then the timer has fired
    ([[0.5, 2.0]], False, 2.0, 1, 2.25, 8),
    ([[0.875, 2.0]], False, 2.0, 1 + 2, 2.25, 8),
    ([[1.0, 1.125]], True, 1.125, 1 + 2, 1.25, 4),  # it leaves as the timer fires
    ([[0.875, 1.0]], True, 1.0, 1 + 2, 1.25, 4),
])  # fmt: skip
def test_a_timer_that_fires_while_its_node_is_away_ends_the_receive_at_the_return(
    away: list[list[float]], reliable: bool, timer_s: float, heard: float, next_s: float, after: float
) -> None:
    network = {"nodes": 2, "graph": "path", "link": {"bandwidth": "1e30 bit/s", "latency": 0}, "policy": "drop"}
    absence = [{"nodes": [0], "away": away}] if away else []
    scenario = base(Listens(reliable), network=network, nodes={"step": 1.0, "absence": absence},
                    roles={"hears": [0], "speaks": [1]}, rounds=2, evaluate_every=1)  # fmt: skip
    record = go(scenario)
    assert record.rounds["sim_time_s"].tolist() == [timer_s, next_s]
    assert record.final["x"].ravel().tolist() == [heard + 100 * after] * 3


@dataclass(frozen=True)
class Chats(Algorithm):
    """All ones sent to a random neighbour, and merged with what comes until a timer."""

    mixing: ClassVar[str | None] = None
    keeps_mean: ClassVar[bool] = False

    numbered: bool = False

    def program(self, node: Node) -> Program:
        x = node.initial("x") * 0.0 + (node.index if self.numbered else 1.0)
        for _ in node.rounds():
            yield node.wait(0.005, spread=1.0)
            yield node.send(x, to=node.peer(), reliable=False)
            timer = node.start(node.wait(0.02))
            for _ in range(2):
                y = yield node.receive("any", until=timer, missing=x)
                x = (x + y) / 2.0
            node.report(x=x)


# ---- rows --------------------------------------------------------------------------------------------------------


@ways
def test_rows_leave_out_who_has_left(tier: str, executor: str) -> None:
    record = run({1: [[4.0, "never"]]}, tier=tier, executor=executor, policy="drop", hosts=3, rounds=6,
                 evaluate_period=1.0)  # fmt: skip
    assert record.outcome == "finished"
    times, nodes = record.rounds["sim_time_s"], record.rounds["nodes"]
    assert nodes.tolist() == [3 if t < 4.0 else 2 for t in times] and {2, 3} == set(nodes.tolist())
    assert record.final["x"].shape == (2, 4)
    assert record.rounds["round"][-1] == 6 and record.nodes["reports"][1] < 6


@ways
def test_rows_begin_when_all_that_remain_have_reported(tier: str, executor: str) -> None:
    record = run({1: [[2.5, "never"]]}, tier=tier, executor=executor, policy="drop", steps={1: 9.0}, rounds=5,
                 evaluate_period=1.0)  # fmt: skip
    times, rounds = record.rounds["sim_time_s"], record.rounds["round"]
    assert times[0] == 3.0  # no row of a time at which node 1 was there, and had nothing to say
    trip, alone = 1.25, 0.875  # node 0 is answered until node 1 has left
    made = np.array([trip, 2 * trip, 2 * trip + alone, 2 * trip + 2 * alone, 2 * trip + 3 * alone])
    assert rounds.tolist() == [int((made <= t).sum()) for t in times]


# ---- generated ---------------------------------------------------------------------------------------------------


def generated(seed: int, lasting: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """A network and nodes: absences given and drawn, slow periods, and departures for good unless not `lasting`."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 8))
    network = {
        "nodes": n, "graph": str(rng.choice(["ring", "complete", "star", "path"])), "loss_unit": "message",
        "policy": str(rng.choice(["retry", "drop", "symmetric"])),
        "link": {"bandwidth": "50 kbit/s", "latency": "2 ms", "loss": float(rng.choice([0.0, 0.2]))},
        "receive_ports": str(rng.choice(["parallel", "serial"])),
    }  # fmt: skip
    given = np.sort(rng.uniform(0, 0.4, 4)).tolist()
    hosts = rng.permutation(n).tolist()
    absence: list[dict[str, Any]] = [
        {"nodes": hosts[:2], "away": [given[:2], given[2:]]},
        {"nodes": hosts[2:-1], "law": "poisson", "every": 0.1, "for": float(rng.choice([0.01, 0.08]))},
    ]
    if lasting:
        absence.append({"nodes": hosts[-1:], "away": [[float(rng.uniform(0, 0.3)), "never"]]})
    nodes = {
        "step": "10 ms", "jitter": float(rng.choice([0.0, 0.4])), "absence": absence,
        "slow": {"nodes": hosts[1:3], "periods": [[0.05, 0.15]], "factor": 3},
    }  # fmt: skip
    return network, nodes


PROGRAMS = (ADPSGD(0.1), SwarmSGD(0.1, 2), SwarmSGD(0.1, 2, blocking=False))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("algorithm", PROGRAMS, ids=lambda a: f"{type(a).__name__}-{getattr(a, 'blocking', '')}")
def test_tiers_and_executors_agree(algorithm: Algorithm, seed: int) -> None:
    network, nodes = generated(seed)
    scenario = base(algorithm, network=network, nodes=nodes, rounds=12)
    for more in ({}, {"stop": {"sim_time": "230 ms"}, "evaluate_period": "13 ms"}):
        records = [go(scenario | more, tier, executor) for tier, executor in WAYS]
        assert len({record.outcome for record in records}) == 1
        agree(records)
        assert records[0].nodes["away_s"].max() > 0


@pytest.mark.parametrize("seed", range(5))
def test_gossip_learning_follows_from_its_messages(seed: int) -> None:
    """It runs node by node in every tier; here each node's sends follow from the messages that reached it."""
    network, nodes = generated(seed)
    scenario = base(GossipLearning(0.1, 0.03), network=network, nodes=nodes | {"jitter": 0.0}, rounds=12)
    record, presence = go(scenario), prepare(Scenario.of(scenario)).book().presence
    assert record.outcome == "finished"
    rows = [dict(zip(record.messages, row, strict=True)) for row in zip(*record.messages.values(), strict=True)]
    for i, reports in enumerate(record.nodes["reports"].tolist()):
        come = [(presence.back(i, m["arrived_s"]), m["source"]) for m in rows if m["target"] == i and m["delivered"]]
        come.sort(reverse=True)
        sent = sorted(m["sent_s"] for m in rows if m["source"] == i)
        now = sent[0] if sent else presence.left_s[i]
        for r in range(reports):
            assert now == sent[r]
            timer = presence.back(i, now + 0.03)
            while timer > now:
                if not come or come[-1][0] > timer:
                    now = timer
                else:
                    now = presence.work(i, max(now, come.pop()[0]), 0.010)
        assert now == record.nodes["finish_s"][i] or presence.left_s[i] == record.nodes["finish_s"][i]


@pytest.mark.parametrize("seed", range(5))
def test_timers_of_a_group_run_agree_with_those_of_each_node(seed: int) -> None:
    network, nodes = generated(seed)
    for numbered in (False, True):
        agree([go(base(Chats(numbered), network=network, nodes=nodes, rounds=8), t, e) for t, e in WAYS], within=1e-12)
    record = go(base(Chats(), network=network, nodes=nodes, rounds=8))
    assert record.outcome == "finished" and (record.final["x"] == 1.0).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pool", ("neighbours", "ready"))
@pytest.mark.parametrize("numbered", (False, True))
def test_meetings_keep_the_mean_and_all_ones(seed: int, pool: str, numbered: bool) -> None:
    network, nodes = generated(seed, lasting=False)
    for tier, executor in WAYS:
        record = go(base(Averages(numbered, pool), network=network, nodes=nodes, record={}), tier, executor)
        x = record.final["x"]
        assert record.outcome == "finished" and record.nodes["away_s"].max() > 0
        if numbered:
            assert np.allclose(x.mean(0), (len(x) + 1) / 2, rtol=1e-14)
            assert x.std(0).max() < 0.5 * len(x) / 3.4
        else:
            assert (x == 1.0).all()
