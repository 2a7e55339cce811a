"""Absence and slow periods in a run, sentence by sentence of SEMANTICS section 3; clocks by hand, to the last bit.

Two nodes unless a test says otherwise. A gradient takes 0.5 s, a message 0.25 s at its port and 0.125 s on the way, so
that both send at 0.5 s and have the other's message at 0.875 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from simnet.algorithm import Algorithm, Program
from simnet.errors import InputError, ScenarioError
from simnet.node import Node
from simnet.record import Record
from simnet.scenario import Scenario, schema
from tests.programs import Averages, Gossips, base, go

ALL = ("arrays", "compiled", "events", "processes")
tiers = pytest.mark.parametrize("tier", ALL)


def run(away: list[list[Any]] | None, algorithm: Algorithm | None = None, tier: str = "events", **more: Any) -> Record:
    """Two nodes of which node 1 is away."""
    network = {"nodes": 2, "graph": "path", "link": {"bandwidth": 64.0, "latency": 0.125}, **more.pop("network", {})}
    nodes = {
        "step": 0.5,
        **({} if away is None else {"absence": {"nodes": [1], "away": away}}),
        **more.pop("nodes", {}),
    }
    settings = {"problem": {"name": "Quadratic", "dim": 4}, "rounds": 1, "evaluate_every": 1} | more
    return go(base(algorithm or Gossips(), network=network, nodes=nodes, **settings), tier)


def delivered(record: Record) -> list[bool]:
    """Whether the messages to node 0 and to node 1 came, of the first exchange."""
    return [bool(each) for each in record.messages["delivered"][:2]]


@tiers
def test_computing_pauses_while_away(tier: str) -> None:
    record = run([[0.25, 0.5], [0.625, 1.25]], tier=tier)
    assert record.nodes["finish_s"].tolist() == [
        1.75,
        1.375,
    ]  # 0.25 s, 0.125 s and 0.125 s of work: node 1 sends at 1.375
    assert record.nodes["compute_s"].tolist() == [0.5, 0.5]
    assert record.nodes["away_s"].tolist() == [0.0, 0.875]
    assert record.nodes["idle_s"].tolist() == [0.875, 0.0]


@tiers
def test_an_arrival_waits_for_the_return_and_what_was_handed_to_a_port_still_goes_out(tier: str) -> None:
    record = run([[0.625, 2.0]], tier=tier)  # it leaves while its message is on the port
    assert record.messages["arrived_s"].tolist() == [0.875, 0.875]
    assert record.nodes["finish_s"].tolist() == [0.875, 2.0]
    assert delivered(record) == [True, True]
    assert record.nodes["exposed_comm_s"].tolist() == [0.375, 0.125]  # node 1 waits while it is there


@tiers
@pytest.mark.parametrize("policy", ["drop", "symmetric"])
@pytest.mark.parametrize("missing", ["self", "zero"])
def test_without_retry_it_is_lost_which_is_known_at_the_return(tier: str, policy: str, missing: str) -> None:
    record = run([[0.625, 2.0]], Ones(missing=missing), tier=tier, network={"policy": policy})
    assert record.nodes["finish_s"].tolist() == [0.875, 2.0]
    assert delivered(record) == [True, False]
    assert record.final["x"][:, 0].tolist() == [1.0, 1.0 if missing == "self" else 0.5]
    assert record.summary["lost_messages"] == 0  # no link lost anything


@tiers
def test_a_deadline_strikes_no_earlier_than_the_return_and_what_is_there_by_then_is_in_time(tier: str) -> None:
    record = run([[0.625, 2.0]], Gossips(deadline_s=0.25), tier=tier)
    assert record.nodes["finish_s"].tolist() == [0.75, 2.0]
    assert delivered(record) == [False, True]


@tiers
def test_a_message_that_comes_after_the_return_misses_a_deadline_that_struck_there(tier: str) -> None:
    record = run([[0.625, 0.8125]], Gossips(deadline_s=0.25), tier=tier)
    assert record.nodes["finish_s"].tolist() == [0.75, 0.8125]
    assert delivered(record) == [False, False]


@tiers
def test_deadlines_count_simulated_time(tier: str) -> None:
    record = run([[0.5625, 0.625]], Gossips(deadline_s=0.25), tier=tier)
    assert record.nodes["finish_s"].tolist() == [0.75, 0.75]  # the absence does not stretch it


@tiers
def test_who_is_away_at_an_instant_does_nothing_until_its_return(tier: str) -> None:
    record = run([[0.5, 1.0]], tier=tier)  # done with its gradient as it leaves
    assert record.messages["sent_s"].tolist() == [1.0, 0.5]  # by target
    assert record.nodes["finish_s"].tolist() == [1.375, 1.0]
    late = run([[0.0, 1.0]], tier=tier)  # away from the start
    assert late.nodes["finish_s"].tolist() == [1.875, 1.5]
    assert late.nodes["away_s"].tolist() == [0.0, 1.0]


@tiers
def test_the_newest_exchange_stands_in_under_stale(tier: str) -> None:
    # of three messages to node 1, the second finds it away; the fill is the first
    record = run([[1.5, 2.5]], Counts(), tier=tier, rounds=3, network={"policy": "drop"})
    assert record.messages["delivered"].tolist() == [True, True, True, False, True, True]
    lossless = run(None, Counts(), tier=tier, rounds=3)
    assert lossless.final["x"][:, 0].tolist() == [6.0, 6.0]
    assert record.final["x"][:, 0].tolist() == [6.0, 1.0 + 1.0 + 3.0]


@tiers
def test_who_never_returns_is_missed_by_the_rows_that_follow(tier: str) -> None:
    record = run([[1.0, "never"]], Gossips(deadline_s=0.5), tier=tier, rounds=4)
    assert record.outcome == "finished"
    assert record.rounds["round"].tolist() == [1, 2, 3, 4]
    assert record.rounds["nodes"].tolist() == [2, 1, 1, 1]
    assert record.rounds["sim_time_s"].tolist() == [0.875, 1.875, 2.875, 3.875]
    assert record.summary["never_returned"] == [1]
    assert record.final["x"].shape == (1, 4)
    assert record.nodes["finish_s"].tolist() == [3.875, 1.0]
    assert record.nodes["reports"].tolist() == [4, 1]
    assert record.nodes["compute_s"].tolist() == [2.0, 0.625]  # until it left
    assert record.summary["messages"] == 2 + 3
    assert record.rounds["consensus_distance"][1:].tolist() == [0.0, 0.0, 0.0]  # one node's distance from itself


@pytest.mark.parametrize("tier", ["auto", "compiled", "events", "processes"])
def test_who_waits_for_one_that_never_returns_starves(tier: str) -> None:
    record = run([[1.0, "never"]], tier=tier, rounds=4)
    assert record.outcome == (
        "starved: node 0 waits for ever in round 1: neighbour 1 (which left for good at 1 s) never gets to that "
        "exchange; give the verb a deadline or a timeout, or let the other side send"
    )
    assert record.rounds["round"].tolist() == [1]
    assert record.nodes["reports"].tolist() == [1, 1]


@tiers
def test_a_run_that_everybody_leaves_starves(tier: str) -> None:
    record = run(None, nodes={"absence": {"nodes": "all", "away": [[1.0, "never"]]}}, tier=tier, rounds=4)
    assert record.outcome.startswith("starved: every node that reports has left for good")
    assert record.rounds["round"].tolist() == [1]


@tiers
def test_who_leaves_after_its_last_round_has_not_left_the_run(tier: str) -> None:
    record = run([[0.9375, "never"]], tier=tier)
    assert record.outcome == "finished"
    assert record.summary["never_returned"] == []
    assert record.final["x"].shape == (2, 4)


@tiers
def test_work_takes_longer_in_a_slow_period(tier: str) -> None:
    slow = {"nodes": [1], "periods": [[0.25, 1.0]], "factor": 4}
    record = run(None, nodes={"slow": slow}, tier=tier)  # 0.25 s, 0.1875 s of work in 0.75 s, and 0.0625 s
    assert record.nodes["compute_s"].tolist() == [0.5, 1.0625]
    assert record.nodes["finish_s"].tolist() == [1.4375, 1.0625]
    assert record.nodes["away_s"].tolist() == [0.0, 0.0]


@tiers
def test_a_timer_runs_on_while_away(tier: str) -> None:
    record = run([[0.25, 0.75]], Timers(), tier=tier)
    assert record.nodes["finish_s"].tolist() == [1.0, 1.0]
    late = run([[0.25, 1.5]], Timers(), tier=tier)
    assert late.nodes["finish_s"].tolist() == [1.0, 1.5]


@pytest.mark.parametrize("tier", ["events", "processes"])
@pytest.mark.parametrize(("reliable", "timeout_s", "ends", "got"), [
    (True, None, 2.0, 1.0),
    (False, None, 2.0, 0.0),
    (True, 0.125, 2.0, 1.0),  # the timeout strikes at the return, when the message is there
    (False, 0.125, 2.0, 0.0),
])  # fmt: skip
def test_single_messages(tier: str, reliable: bool, timeout_s: float | None, ends: float, got: float) -> None:
    sends = Sends(reliable=reliable, timeout_s=timeout_s)
    record = run([[0.125, 2.0]], sends, tier, network={"policy": "drop"})  # the message is on its way until 0.375 s
    assert record.nodes["finish_s"][1] == ends
    assert record.final["x"].ravel().tolist() == [got] * 4


@pytest.mark.parametrize("pattern", ["server", "ring", "tree", "hierarchical"])
def test_averages_wait_for_the_return_in_every_tier(pattern: str) -> None:
    absence = [
        {"nodes": [1, 2], "away": [[0.2, 0.9], [1.2, 1.3]]},
        {"nodes": [0, 3], "law": "poisson", "every": 1, "for": 0.4},
    ]
    scenario = base(
        Means(), network={"nodes": 6, "graph": "ring", "link": {"bandwidth": 640.0, "latency": 0.125, "loss": 0.1}},
        nodes={"step": 0.3, "absence": absence}, collective={"pattern": pattern}, evaluate_every=1,
    )  # fmt: skip
    records = [go(scenario, tier, executor) for tier, executor in (
        ("arrays", "batched"), ("events", "one_by_one"), ("processes", "one_by_one"))]  # fmt: skip
    assert records[0].outcome == "finished" and records[0].nodes["away_s"][:4].all()
    for other in records[1:]:
        assert other.summary["log_hash"] == records[0].summary["log_hash"]
        for name in ("compute_s", "exposed_comm_s", "idle_s", "away_s"):
            np.testing.assert_allclose(other.nodes[name], records[0].nodes[name], rtol=0, atol=1e-9)
        np.testing.assert_allclose(other.final["x"], records[0].final["x"], rtol=0, atol=1e-12)
    without = go({**scenario, "nodes": {"step": 0.3}}, "arrays")
    np.testing.assert_allclose(records[0].final["x"], without.final["x"], rtol=0, atol=1e-12)  # reliable


@pytest.mark.parametrize("pattern", ["server", "ring", "tree"])
def test_an_average_with_one_that_never_returns_starves(pattern: str) -> None:
    record = run([[1.0, "never"]], Means(), "auto", rounds=9, collective={"pattern": pattern})
    assert record.outcome.startswith("starved: node 0 waits for ever in round 1: node 1 (which left for good at 1 s)")


@pytest.mark.parametrize("missing", ["self", "stale"])
@pytest.mark.parametrize("policy", ["retry", "drop", "symmetric"])
@pytest.mark.parametrize("deadline_s", [None, 0.5])
def test_all_ones_stay_all_ones(missing: str, policy: str, deadline_s: float | None) -> None:
    absence: list[dict[str, Any]] = [{"nodes": "all", "law": "poisson", "every": 2, "for": 1}]
    if deadline_s is not None:
        absence = [{"nodes": [0, 2, 3], "law": "poisson", "every": 2, "for": 1}, {"nodes": [4], "away": [[3, "never"]]}]
    record = run(
        None, Ones(missing=missing, deadline_s=deadline_s), "auto", rounds=30, nodes={"absence": absence},
        network={"nodes": 6, "graph": "ring", "policy": policy,
                 "link": {"bandwidth": 64.0, "latency": 0.125, "loss": 0.2}},
    )  # fmt: skip
    assert record.outcome == "finished"
    assert record.nodes["away_s"].max() > 1
    assert (record.final["x"] == 1.0).all()


@pytest.mark.parametrize(("absence", "field", "message"), [
    ([{"nodes": [1], "away": [["-1 s", "2 s"]]}], "nodes.absence.0.away.0.0", "at least 0 s"),
    ([{"nodes": [1], "away": [["2 s", "1 s"]]}], "nodes.absence.0.away.0", "give an end after the start"),
    ([{"nodes": [1], "away": [[2, 2]]}], "nodes.absence.0.away.0", "give an end after the start"),
    ([{"nodes": [1], "away": [[1, 3], [2, 4]]}], "nodes.absence.0.away.1", "none over another"),
    ([{"nodes": [1], "away": [[1, "never"], [2, 4]]}], "nodes.absence.0.away.1", "none over another"),
    ([{"nodes": [1], "away": [[1, 3]]}, {"nodes": "all", "away": [[2, 4]]}], "nodes.absence.1", "must not overlap"),
    ([{"nodes": [7], "away": [[1, 3]]}], "nodes.absence.0.nodes", "no such host"),
    ([{"nodes": [1, 1], "away": [[1, 3]]}], "nodes.absence.0.nodes", "twice"),
    ([{"nodes": "some", "away": [[1, 3]]}], "nodes.absence.0.nodes", "must be `all`, or a list of hosts"),
    ([{"nodes": [1], "law": "poisson", "every": "1 s"}], "nodes.absence.0.for", "a law needs `for`"),
    ([{"nodes": [1], "law": "poisson", "for": "1 s"}], "nodes.absence.0.every", "a law needs `every`"),
    ([{"nodes": [1], "law": "pareto"}], "nodes.absence.0.law", "poisson"),
    ([{"nodes": [1], "away": [[1, 3]], "every": 2}], "nodes.absence.0.every", "belongs to `law: poisson` or"),
    ([{"nodes": [1]}], "nodes.absence.0", "needs either"),
    ([{"nodes": [1], "away": [[1, 2]]}, {"nodes": [1], "law": "poisson", "every": 1, "for": 1}], "nodes.absence.1",
     "give it one of them"),
    ([{"nodes": [1], "awy": [[1, 2]]}], "nodes.absence.0.awy", "did you mean 'away'"),
])  # fmt: skip
def test_impossible_absences_are_refused(absence: Any, field: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        run(None, nodes={"absence": absence})
    assert isinstance(caught.value, ScenarioError) and caught.value.field == field


@pytest.mark.parametrize(("slow", "field", "message"), [
    ({"nodes": [1], "periods": [[1, 2]], "factor": 0.5}, "nodes.slow.factor", "at least 1"),
    ({"nodes": [1], "periods": [[2, 1]], "factor": 2}, "nodes.slow.periods.0", "give an end after the start"),
    ([{"nodes": [1], "periods": [[1, 2]], "factor": 2}] * 2, "nodes.slow.1", "must not overlap"),
    ({"nodes": [3], "periods": [[1, 2]], "factor": 2}, "nodes.slow.nodes", "no such host"),
])  # fmt: skip
def test_impossible_slow_periods_are_refused(slow: Any, field: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        run(None, nodes={"slow": slow})
    assert isinstance(caught.value, ScenarioError) and caught.value.field == field


def test_the_fields_are_written_out_and_read_back() -> None:
    given = {
        "absence": {"nodes": [1], "away": [["1 min", "never"]]},
        "slow": {"nodes": "all", "periods": [[1, 2]], "factor": 2},
    }
    made = Scenario(network={"nodes": 3}, problem="Quadratic", algorithm="DPSGD", nodes=given)
    assert made.plain()["nodes"]["absence"] == [{"nodes": [1], "away": [(60.0, "never")]}]
    assert Scenario(**made.plain()) == made
    fields = schema()["$defs"]
    assert {"nodes", "away", "law", "every", "for", "until", "file", "wrap"} < set(fields["Absence"]["properties"])
    assert {"$ref": "#/$defs/Slow"} in fields["Nodes"]["properties"]["slow"]["anyOf"]


# ---- programs ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ones(Gossips):
    """All ones, mixed again and again."""

    def program(self, node: Node) -> Program:
        x = node.zeros() + 1.0
        for _ in node.rounds():
            yield node.gradient(x)
            x = yield node.gossip(x, missing=self.missing, deadline_s=self.deadline_s)
            node.report(x=x)


@dataclass(frozen=True)
class Counts(Gossips):
    """The sum of what came: round numbers, and under loss the one that came before."""

    def program(self, node: Node) -> Program:
        x = node.zeros()
        for t in node.rounds():
            yield node.gradient(x)
            rows = yield node.exchange(node.zeros() + float(t + 1), missing="stale")
            x = x + torch.sum(rows, 0)
            node.report(x=x)


@dataclass(frozen=True)
class Timers(Gossips):
    """A second's rest."""

    def program(self, node: Node) -> Program:
        for _ in node.rounds():
            yield node.wait(1.0)
            node.report(x=node.zeros())


@dataclass(frozen=True)
class Means(Averages):
    """An exact average every round."""

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            g = yield node.gradient(x)
            x = yield node.average(x - self.eta * g)
            node.report(x=x)


@dataclass(frozen=True)
class Sends(Algorithm):
    """One message from the first host to the second, which reports ones where it came and zeros where not."""

    roles: ClassVar[tuple[str, ...]] = ("source", "sink")

    reliable: bool = True
    timeout_s: float | None = None

    def source(self, node: Node) -> Program:
        yield node.send(node.zeros() + 1.0, to="sink", reliable=self.reliable)

    def sink(self, node: Node) -> Program:
        for _ in node.rounds():
            got = yield node.receive("source", timeout_s=self.timeout_s)
            node.report(x=node.zeros() if got is None else got)
