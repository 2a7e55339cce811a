"""Background traffic: its own schedule, its share of the links, its own bytes, and no say in when a run ends."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

import simnet
from simnet.algorithm import Algorithm
from simnet.errors import InputError, Outcome, ScenarioError, TopologyError, UnknownName
from simnet.models.algorithms.ad_psgd import ADPSGD
from simnet.models.topologies.underlays import dumbbell
from simnet.network.background import Stream
from simnet.record import Record
from tests.programs import Gossips, base, go
from tests.waterfill import finish_times

LINK = {"bandwidth": "1 Mbit/s", "latency": "5 ms"}  # 1,000 bytes are 8 ms
SHARED = ("maxmin", "cm02", "lv08", "lv08_noxt", "tcp")


def scenario(background: Any, algorithm: Algorithm | None = None, **more: Any) -> dict[str, Any]:
    network = {"graph": dumbbell(4), "model": "maxmin", "link": LINK, "background": background}
    network |= more.pop("network", {})
    options = {"rounds": 1, "topology": "ring", "record": {"timeline": False, "messages": True}, **more}
    return base(algorithm or Gossips(), network=network, problem={"name": "Quadratic", "dim": 250}, **options)


def end(record: Record) -> float:
    return float(record.rounds["sim_time_s"][-1])


# ---- schedules -----------------------------------------------------------------------------------------------------


def test_moments_are_given_or_regular_or_drawn() -> None:
    assert list(Stream(0, 1.0, (0, 1), at_s=(1.0, 1.0, 3.0)).moments(0)) == [1.0, 1.0, 3.0]
    regular = Stream(0, 1.0, (0, 1), every_s=0.5, regular=True, start_s=1.0, until_s=2.5)
    assert list(regular.moments(0)) == [1.0, 1.5, 2.0, 2.5]
    drawn = Stream(0, 1.0, (0, 1), every_s=2.0, start_s=10.0)
    first = list(islice(drawn.moments(3), 20_000))
    assert first == sorted(first) and first[0] > 10.0
    assert np.diff(first).mean() == pytest.approx(2.0, rel=0.03)  # four standard deviations
    assert np.diff(first).std() == pytest.approx(2.0, rel=0.05)
    assert first == list(islice(drawn.moments(3), 20_000)) != list(islice(drawn.moments(4), 20_000))
    other = Stream(1, 1.0, (0, 1), every_s=2.0, start_s=10.0)
    assert list(islice(other.moments(3), 9)) != first[:9]


def test_drawn_pairs_are_two_hosts_and_all_pairs_alike() -> None:
    stream, sites = Stream(0, 1.0, None, every_s=1.0), np.array([0, 1, 2, 7])
    pairs = [stream.pair(5, k, sites) for k in range(12_000)]
    counts = {pair: pairs.count(pair) for pair in set(pairs)}
    assert len(counts) == 12 and all(s != t for s, t in counts)
    assert all(900 < count < 1100 for count in counts.values())  # three standard deviations


# ---- sharing -------------------------------------------------------------------------------------------------------


def test_a_flow_takes_its_half_of_the_bottleneck_while_it_lasts() -> None:
    """Pairs 0-2 and 1-3 cross the dumbbell; by hand: three flows of 1,000 bytes each way in place of two."""
    pairs = nx.Graph([(0, 2), (1, 3)])
    alone = go(scenario([], topology=pairs))
    assert np.isclose(end(alone), 0.010 + 0.015 + 0.016)
    flow = {"from": 0, "to": 3, "size": 1000, "at": ["10 ms"]}
    both = go(scenario([flow], topology=pairs))
    assert np.isclose(end(both), 0.010 + 0.015 + 0.024)
    later = go(scenario([flow | {"at": ["18 ms"]}], topology=pairs))  # 8 ms later: its first bits come half-way
    assert np.isclose(end(later), 0.010 + 0.015 + 0.020)
    assert both.summary["background_flows"] == 1
    assert both.summary["background_bytes"] == 3 * 1000
    assert both.summary["wire_bytes"] == alone.summary["wire_bytes"] == sum(both.summary["bytes_by_kind"].values())
    columns = (both.links[c].tolist() for c in ("source", "target", "background_bytes"))
    crossed = {(s, t): amount for s, t, amount in zip(*columns, strict=True) if amount}
    assert crossed == {("0", "left"): 1000, ("left", "right"): 1000, ("right", "3"): 1000}
    assert "background_bytes" not in alone.links and "background_flows" not in alone.summary


def test_shares_with_messages_are_those_of_water_filling() -> None:
    """One exchange and a dozen flows over one link, against the plain solver."""
    rng = np.random.default_rng(4)
    at = np.sort(rng.uniform(0.0, 0.08, 12)).tolist()
    graph = nx.Graph([(0, 1)])
    background = [{"from": 0, "to": 1, "size": 700, "at": at}]
    record = go(scenario(background, topology="path", network={"graph": graph}))
    sent = record.messages
    flows = [0.010] + at
    size = [1000.0] + [700.0] * 12
    expected = finish_times([125_000.0], [{0: 1.0}] * 13, [1.0] * 13, [np.inf] * 13, [0.005] * 13, size, flows)
    there = float(sent["arrived_s"][(sent["source"] == 0)][0])
    assert there == pytest.approx(expected[0], rel=1e-9)
    assert float(sent["arrived_s"][sent["source"] == 1][0]) == pytest.approx(0.023)  # the other direction is free


# ---- tiers, seeds, stops -------------------------------------------------------------------------------------------

DRAWN = [
    {"from": 0, "to": 2, "size": 3000, "every": "60 ms"},
    {"pairs": "random", "size": 2000, "load": "0.3 Mbit/s", "start": "50 ms"},
    {"from": 3, "to": 1, "size": 500, "every": "100 ms", "law": "regular", "until": "0.7 s"},
]


@pytest.mark.parametrize("model", SHARED)
def test_events_and_processes_agree_bit_for_bit(model: str) -> None:
    network = {"model": model, "link": LINK | {"loss": 0.05 if model == "tcp" else 0.0}}
    made = scenario(DRAWN, rounds=12, network=network, nodes={"step": "10 ms", "jitter": 0.3})
    group, nodes = go(made), go(made, "processes")
    assert (group.summary["tier"], nodes.summary["tier"]) == ("events", "processes")
    assert group.summary["background_flows"] > 10
    for column in ("sim_time_s", "wire_bytes"):
        assert np.array_equal(group.rounds[column], nodes.rounds[column])
    for column in group.links:
        assert group.links[column].tolist() == nodes.links[column].tolist()
    assert group.summary["log_hash"] == nodes.summary["log_hash"]
    assert end(group) > end(go(made | {"network": {**made["network"], "background": []}}))


def test_the_same_seed_is_the_same_traffic() -> None:
    made = scenario(DRAWN, rounds=12)
    one, same, other = go(made), go(made), go(made | {"seed": 3})
    assert one.links["background_bytes"].tolist() == same.links["background_bytes"].tolist()
    assert np.array_equal(one.rounds["sim_time_s"], same.rounds["sim_time_s"])
    assert one.links["background_bytes"].tolist() != other.links["background_bytes"].tolist()


def test_traffic_ends_with_the_training_and_at_a_cut() -> None:
    every = {"from": 0, "to": 2, "size": 100, "every": "10 ms", "law": "regular"}
    record = go(scenario([every], rounds=3))
    assert record.summary["background_flows"] == int(end(record) / 0.010 + 1e-9) + 1
    cut = go(scenario([every], rounds=500, stop={"sim_time": "0.305 s"}))
    assert cut.summary["background_flows"] == 31
    assert cut.links["background_bytes"].sum() == 31 * 3 * 100


def test_traffic_does_not_keep_a_starved_run_going() -> None:
    background = [{"from": 0, "to": 1, "size": 50, "every": "1 ms"}]
    absence = {"nodes": [1], "away": [[0.05, "never"]]}
    record = go(
        scenario(background, topology="path", network={"graph": nx.Graph([(0, 1)])}, rounds=50,
                 nodes={"step": "10 ms", "absence": absence}),
    )  # fmt: skip
    assert record.ended is Outcome.STARVED
    assert 0 < record.summary["background_flows"] < 1000


def test_traffic_runs_beside_partners_by_time() -> None:
    made = scenario([{"pairs": "random", "size": 3000, "every": "30 ms"}], ADPSGD(eta=0.1), rounds=10)
    made["record"] = {"timeline": False}
    record = go(made)
    assert record.outcome == "finished" and record.summary["background_flows"] > 0


def test_tcp_draws_of_messages_do_not_depend_on_traffic_elsewhere() -> None:
    """Loss under tcp is drawn for each message: a flow that shares no link with it changes nothing."""
    graph = nx.Graph([(0, 1), (2, 3)])
    network = {"graph": graph, "model": "tcp", "link": LINK | {"loss": 0.1}, "placement": {"given": [0, 1]}}
    far = [{"from": 2, "to": 3, "size": 500, "every": "20 ms"}]
    made = [go(scenario(b, topology="path", rounds=20, network=network)) for b in ([], far)]
    ends = [r.messages["arrived_s"][r.messages["target"] == 1] for r in made]
    assert np.allclose(*ends, rtol=1e-12, atol=0)
    assert made[1].links["background_bytes"].sum() > 1_000


@pytest.mark.parametrize("tier", ["events", "compiled"])
def test_what_tcp_sends_again_crosses_the_links_up_to_the_loss(tier: str) -> None:
    """Where the first link alone loses, the one behind carries each byte once, whatever was sent again."""
    graph = nx.path_graph(3)
    flows = [{"from": 0, "to": 2, "size": 20_000, "at": [0, 0.3, 0.6]}]

    def carried(lossy: tuple[int, int]) -> dict[tuple[int, int], int]:
        network = {"graph": graph.copy(), "model": "tcp", "placement": {"given": [0, 1]}}
        network["graph"].edges[lossy]["loss"] = 0.2
        record = go(scenario(flows, topology="path", rounds=200, network=network), tier)
        assert record.summary["background_flows"] == 3
        ends = zip(record.links["source"].tolist(), record.links["target"].tolist(), strict=True)
        return dict(zip(ends, record.links["background_bytes"].tolist(), strict=True))

    early, late = carried((0, 1)), carried((1, 2))
    assert early[0, 1] > early[1, 2] > 3 * 20_000
    assert late[0, 1] == late[1, 2] > early[1, 2]


def test_hosts_without_a_node_may_send() -> None:
    network = {"graph": nx.path_graph(4), "placement": {"given": [1, 2]}}
    record = go(scenario([{"from": 0, "to": 3, "size": 1000, "at": [0]}], topology="path", network=network))
    assert np.isclose(end(record), 0.015 + 0.016)  # both are there after 15 ms, and share the link
    assert record.summary["background_bytes"] == 3000


# ---- refused -------------------------------------------------------------------------------------------------------

FLOW = {"from": 0, "to": 1, "size": "1 kB"}
BAD: list[tuple[Any, type[Exception], str]] = [
    (FLOW, ScenarioError, r"background\.0: needs exactly one of `at: .*`every: 5 s` and `load"),
    (FLOW | {"at": [1], "every": 2}, ScenarioError, r"background\.0: needs exactly one of"),
    (FLOW | {"at": []}, ScenarioError, r"background\.0\.at: needs a moment"),
    (FLOW | {"at": [2, 1]}, ScenarioError, r"background\.0\.at\.1: is 1 s, and the one before it 2 s"),
    (FLOW | {"at": [1], "law": "regular"}, ScenarioError, r"background\.0\.law: belongs to `every` or `load`"),
    (FLOW | {"every": 1, "pairs": "random"}, ScenarioError, r"background\.0: needs either `from: a`"),
    ({"from": 0, "size": 1, "every": 1}, ScenarioError, r"background\.0: needs either `from: a`"),
    (FLOW | {"every": 0}, ScenarioError, r"background\.0\.every = 0: must be above 0 s"),
    (FLOW | {"load": "0 Mbit/s"}, ScenarioError, r"background\.0\.load.*above 0 bytes/s"),
    (FLOW | {"size": 0, "every": 1}, ScenarioError, r"background\.0\.size = 0: must be above 0 bytes"),
    (FLOW | {"to": 9, "every": 1}, UnknownName, r"background\.0\.to = 9: no such host; there are 4"),
    (FLOW | {"to": "left", "every": 1}, UnknownName, r"background\.0\.to = 'left': no such host"),
    (FLOW | {"to": 0, "every": 1}, ScenarioError, r"background\.0: goes from a host to itself"),
    (FLOW | {"evry": 1}, InputError, r"background\.0\.evry.*did you mean 'every'"),
]


@pytest.mark.parametrize(("entry", "error", "message"), BAD)
def test_traffic_that_cannot_be_is_refused(entry: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        go(scenario([entry]))


def test_traffic_needs_a_model_that_shares_and_a_way() -> None:
    with pytest.raises(ScenarioError, match=r"network\.background: .*`model: independent` nothing is shared"):
        go(scenario([FLOW | {"every": 1}], network={"model": "independent"}))
    apart = {"graph": nx.Graph([(0, 1), (2, 3)])}
    with pytest.raises(TopologyError, match="no route from host 0 to host 2"):
        go(scenario([{"from": 0, "to": 2, "size": 1, "every": 1}], topology=nx.Graph([(0, 1), (2, 3)]), network=apart))
    with pytest.raises(TopologyError, match="hosts 0 and 2 cannot reach each other"):
        go(scenario([{"pairs": "random", "size": 1, "every": 1}], topology=nx.Graph([(0, 1), (2, 3)]), network=apart))
    with pytest.raises(ScenarioError, match=r"needs two hosts to draw pairs from"):
        lone = {"graph": nx.empty_graph(1)}
        go(scenario([{"pairs": "random", "size": 1, "every": 1}], topology="edgeless", network=lone))


def test_an_estimate_under_traffic_simulates_all_rounds() -> None:
    made = simnet.estimate(scenario([FLOW | {"every": "50 ms"}], rounds=30))
    assert "scaled_rounds" not in made.summary
    assert made.summary["background_flows"] > 0


@pytest.mark.parametrize("model", SHARED)
def test_the_compiled_tier_has_the_same_clocks_and_bytes(model: str) -> None:
    pytest.importorskip("numba")
    network = {"model": model, "link": LINK | {"loss": 0.05 if model == "tcp" else 0.0}}
    made = scenario(DRAWN, rounds=12, network=network, nodes={"step": "10 ms", "jitter": 0.3})
    plain, compiled = go(made, "events"), go(made, "compiled")
    assert compiled.summary["tier"] == "compiled"
    assert compiled.summary["log_hash"] == plain.summary["log_hash"]
    assert compiled.summary["background_flows"] == plain.summary["background_flows"] > 10
    for column in compiled.links:
        assert compiled.links[column].tolist() == plain.links[column].tolist()


def test_a_way_of_a_flow_that_never_begins_is_not_asked_for() -> None:
    """Nothing limits the second flow's rate, an error; the run is over before it begins, in every tier."""
    graph = nx.Graph([(0, 1), (2, 3)])
    graph.edges[2, 3]["bandwidth"] = np.inf
    flows = [{"from": 0, "to": 1, "size": 10, "at": [0]}, {"from": 2, "to": 3, "size": 10, "at": [0.1]}]
    made = scenario(flows, topology="path", network={"graph": graph, "placement": {"given": [0, 1]}})
    for tier in ("events", "compiled"):
        assert go(made, tier).summary["background_flows"] == 1
        with pytest.raises(TopologyError, match="nothing limits the rate from host 2 to host 3"):
            go(made | {"rounds": 50}, tier)


def test_traffic_over_links_that_change_with_time_agrees_across_tiers(tmp_path: Path) -> None:
    """Both draw on one engine; and a starved run under both still ends."""
    (tmp_path / "rate.txt").write_text("0 1\n0.02 0.3\n0.05 2\n")
    network = {"link": LINK | {"trace": {"file": str(tmp_path / "rate.txt")}}}
    made = scenario(DRAWN, rounds=12, network=network, nodes={"step": "10 ms", "jitter": 0.3})
    group = go(made, "events")
    for other in (go(made, "processes"), go(made, "compiled")):
        assert np.array_equal(group.rounds["sim_time_s"], other.rounds["sim_time_s"])
        assert group.links["background_bytes"].tolist() == other.links["background_bytes"].tolist()
    starves = {"step": "10 ms", "absence": {"nodes": [1], "away": [[0.05, "never"]]}}
    for tier in ("events", "compiled"):
        assert go(made | {"nodes": starves}, tier).ended is Outcome.STARVED
