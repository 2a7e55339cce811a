"""Links whose bandwidth, latency and loss change with time, in training runs: the rule, the tiers, the files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simnet
import simnet.network.changing
import simnet.prepare
import simnet.timeplane.flows
from simnet.errors import ScenarioError, Starved
from simnet.models.algorithms.ad_psgd import ADPSGD
from simnet.models.algorithms.all_reduce import AllReduceSGD
from simnet.models.algorithms.dpsgd import DPSGD
from simnet.models.algorithms.fedavg import FedAvg
from simnet.models.topologies.underlays import dumbbell, switch
from simnet.network.changing import WayInTime
from simnet.network.fate import FateInTime, Fates
from simnet.network.flows.traces import Changes, Steps, Trace, read_changes
from tests.programs import Gossips, Overlaps, base, go
from tests.shared import shared_dir
from tests.test_equality import check_all
from tests.test_shared_links import agree
from tests.test_traces import traces

MODELS = ("independent", "maxmin", "cm02", "lv08", "tcp")
ALL = "time_s, bandwidth_mbit_per_s, latency_ms, loss\n0, 1, 5, 0.1\n0.05, 0, 5, 0.3\n0.08, 2, 9, 0\n0.2, 0.5, 2, 0.2\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where scenarios given as dicts look for their files; `all.csv` changes everything."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all.csv").write_text(ALL)
    return tmp_path


def scenario(algorithm: Any, network: dict[str, Any], dim: int = 250, **more: Any) -> dict[str, Any]:
    return base(algorithm, network=network, problem={"name": "Quadratic", "dim": dim}, **more)


def way(made: list[Trace], steady: float = math.inf) -> WayInTime:
    links = range(len(made) + 1)
    changes = {k: Changes(trace) for k, trace in enumerate(made)}
    return WayInTime(links, ["l"] * len(links), changes, np.full(len(links), steady), np.zeros(len(links)))


# ---- when a message has passed ---------------------------------------------------------------------------------------


@given(traces(), st.floats(0, 30), st.floats(0.01, 40))
def test_a_message_has_passed_when_the_integral_of_the_rate_is_its_size(made: Trace, start: float, size: float) -> None:
    if made.period_s == math.inf and made.rates[-1] == 0:
        return  # refused in a scenario
    end = way([made]).end(start, size)
    assert made.bytes_until(end) - made.bytes_until(start) == pytest.approx(size, rel=1e-9, abs=1e-9)
    assert made.bytes_until(np.nextafter(end, 0) - 1e-9) - made.bytes_until(start) < size


@settings(deadline=None)
@given(traces(), traces(), st.floats(0.5, 6), st.floats(0, 30), st.floats(0.01, 40))
def test_the_slowest_link_at_each_moment_counts(a: Trace, b: Trace, steady: float, start: float, size: float) -> None:
    if any(t.period_s == math.inf and t.rates[-1] == 0 for t in (a, b)):
        return
    cuts = [start]  # by hand: piece by piece, over all moments at which either changes
    moments = sorted({t for made in (a, b) for t, _ in zip_until(made, start + 200)})
    cuts += [t for t in moments if t > start]
    left, end = size, None
    for t, until in zip(cuts, [*cuts[1:], math.inf], strict=True):
        rate = min(a.at(t), b.at(t), steady)
        if rate and left <= rate * (until - t):
            end = t + left / rate
            break
        left -= rate * (until - t) if until < math.inf else 0
    if end is not None:
        assert way([a, b], steady).end(start, size) == pytest.approx(end, rel=1e-12)


def zip_until(made: Trace, end: float) -> list[tuple[float, float]]:
    out = []
    for t, rate in made.changes():
        if t > end:
            break
        out.append((t, rate))
    return out


def test_links_that_are_never_open_together_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (simnet.network.changing, simnet.timeplane.flows):
        monkeypatch.setattr(module, "PATIENCE", 1000)
    a = Trace(np.array([0.0, 1.0]), np.array([1.0, 0.0]), 1.0, 2.0)
    b = Trace(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0.0, 2.0)
    with pytest.raises(Starved, match="l, l, l from 0.5 s on"):
        way([a, b]).end(0.5, 1.0)
    graph = nx.Graph([(0, "r"), ("r", 1)])
    graph.nodes["r"]["router"] = True
    graph.edges[0, "r"]["trace"], graph.edges["r", 1]["trace"] = Changes(a), Changes(b)
    for model in ("independent", "maxmin"):
        made = scenario(DPSGD(), {"graph": graph, "model": model}, topology="path", rounds=1)
        record = go(made)
        assert record.outcome.startswith("starved") and "nothing gets over the links" in record.outcome
        assert go(made, "compiled").outcome == record.outcome


# ---- by hand -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ("independent", "maxmin"))
def test_a_message_waits_while_the_rate_is_0(folder: Path, model: str) -> None:
    """1,000 bytes at 1 Mbit/s are 8 ms; handed over at 10 ms, 5 ms are gone when the link closes until 50 ms."""
    (folder / "t.csv").write_text("0 1\n0.015 0\n0.05 1\n")
    link = {"latency": 0, "trace": {"file": "t.csv", "at_end": "hold"}}
    network = {"nodes": 2, "graph": "path", "model": model, "link": link}
    record = go(scenario(DPSGD(), network, rounds=2, evaluate_every=1))
    assert record.rounds["sim_time_s"] == pytest.approx([0.053, 0.053 + 0.010 + 0.008])


@pytest.mark.parametrize("model", ("independent", "maxmin"))
def test_latency_is_that_of_the_start(folder: Path, model: str) -> None:
    (folder / "t.csv").write_text("time_ms,latency_ms\n0,5\n12,500\n15,20\n")
    link = {"bandwidth": "1 Mbit/s", "latency": "7 s", "trace": {"file": "t.csv", "at_end": "hold"}}
    network = {"nodes": 2, "graph": "path", "model": model, "link": link}
    record = go(scenario(DPSGD(), network, rounds=2, evaluate_every=1))
    assert record.rounds["sim_time_s"] == pytest.approx([0.010 + 0.008 + 0.005, 0.023 + 0.010 + 0.008 + 0.020])


@pytest.mark.parametrize("model", ("independent", "maxmin"))
def test_loss_is_that_of_the_start(folder: Path, model: str) -> None:
    """A loss of 1 from 20 ms to 40 ms: every message that starts then is lost, and no other."""
    (folder / "t.csv").write_text("time_s loss\n0 0\n0.02 1\n0.04 0\n")
    link = {"bandwidth": "10 Mbit/s", "latency": "1 ms", "trace": {"file": "t.csv", "at_end": "hold"}}
    network = {"nodes": 5, "graph": "ring", "policy": "drop", "model": model, "link": link}
    record = go(scenario(DPSGD(), network, rounds=6) | {"record": {"messages": True}})
    sent = record.messages
    lost = (sent["sent_s"] >= 0.02) & (sent["sent_s"] < 0.04)
    if model == "independent":  # the port's second message starts when the first has left
        second = np.isclose(sent["arrived_s"] - sent["sent_s"], 0.0008 * 2 + 0.001)
        lost = (sent["sent_s"] + 0.0008 * second >= 0.02) & (sent["sent_s"] + 0.0008 * second < 0.04)
    assert lost.any() and not lost.all()
    assert ((sent["delivered"] == 0) == lost).all()
    assert record.summary["lost_messages"] == lost.sum()


@pytest.mark.parametrize("model", ("independent", "maxmin"))
def test_under_symmetric_the_message_that_starts_first_decides_for_both(folder: Path, model: str) -> None:
    """A loss of 1 in every second half of 20 ms, on links out of node 0: what starts then is lost both ways."""
    (folder / "t.csv").write_text("time_s loss\n0 0\n0.01 1\n")
    links = [{"from": 0, "to": k, "trace": "t.csv"} for k in (1, 4)]
    network = {"nodes": 5, "graph": "ring", "policy": "symmetric", "model": model, "links": links,
               "link": {"bandwidth": "10 Mbit/s", "latency": "1 ms"}}  # fmt: skip
    network |= {"ports": "parallel"} if model == "independent" else {}
    nodes = {"step": "5 ms", "jitter": 0.6}
    record = go(scenario(DPSGD(), network, nodes=nodes, rounds=20) | {"record": {"messages": True}})
    sent = record.messages
    decided = 0
    for k in range(20):
        for other in (1, 4):
            pair = [
                np.flatnonzero((sent["exchange"] == k) & (sent["source"] == a) & (sent["target"] == b))[0]
                for a, b in ((0, other), (other, 0))
            ]
            starts, delivered = sent["sent_s"][pair], sent["delivered"][pair]
            first, second = (starts.min() % 0.02 >= 0.01, starts.max() % 0.02 >= 0.01)
            assert (delivered == (not first)).all()
            decided += first != second  # alone the other would have fared otherwise
    assert decided > 5 and record.summary["lost_messages"] == (sent["delivered"] == 0).sum()
    assert (sent["delivered"] == 1)[(sent["source"] != 0) & (sent["target"] != 0)].all()


def test_symmetric_keeps_the_mean_though_losses_change(folder: Path) -> None:
    class FromDrawn(Gossips):
        def program(self, node: Any) -> Any:
            x = node.random("start", (50,))
            for _ in node.rounds():
                yield node.gradient(x)
                x = yield node.gossip(x)
                node.report(x=x)

    for graph, model in (("ring", "independent"), (dumbbell(6), "maxmin")):
        network = {"graph": graph, "model": model, "policy": "symmetric", "link": {"trace": "all.csv"}}
        network |= {"nodes": 6} if graph == "ring" else {}
        sections = scenario(
            FromDrawn(), network, 50, topology="ring", rounds=12, nodes={"step": "10 ms", "jitter": 0.5}
        )
        record, first = go(sections), go(sections | {"rounds": 1})
        assert record.summary["lost_messages"] > first.summary["lost_messages"] > 0
        assert abs(record.final["x"] - record.final["x"].mean(0)).max() < abs(first.final["x"]).max() / 5  # it did mix
        assert record.final["x"].mean(0) == pytest.approx(first.final["x"].mean(0), abs=1e-12)


def test_a_serial_port_sends_the_second_message_by_what_the_first_has_left(folder: Path) -> None:
    """Two messages of 1,000 bytes through one port: 16 ms of bits at 1 Mbit/s, the last half at 2 Mbit/s."""
    (folder / "t.csv").write_text("0 1\n0.018 2\n")
    link = {"latency": "1 ms", "trace": {"file": "t.csv", "at_end": "hold"}}
    record = go(scenario(DPSGD(), {"nodes": 3, "graph": "ring", "link": link}, rounds=1))
    assert record.rounds["sim_time_s"] == pytest.approx([0.018 + 0.004 + 0.001])


# ---- what must hold exactly ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("policy", ("retry", "drop"))
def test_a_trace_that_says_what_the_link_says_changes_nothing(folder: Path, model: str, policy: str) -> None:
    if model == "tcp" and policy != "retry":
        return
    (folder / "t.csv").write_text(
        "time_s, bandwidth_kbit_per_s, latency_ms, loss_percent\n0, 1000, 5, 10\n1, 1000, 5, 10\n"
    )
    said = {"bandwidth": "1 Mbit/s", "latency": "5 ms", "loss": "10 %"}
    runs = []
    for link in (said, {"trace": "t.csv"}):
        network = {"graph": switch(5), "model": model, "policy": policy, "link": link}
        runs.append(go(scenario(DPSGD(), network, dim=2000, topology="ring", rounds=5)))
    one, other = runs
    assert other.rounds["sim_time_s"] == pytest.approx(one.rounds["sim_time_s"], rel=1e-12)
    assert other.summary["bytes_by_kind"] == one.summary["bytes_by_kind"]
    assert other.summary["lost_messages"] == one.summary["lost_messages"]
    assert (other.links["lost_bytes"] == one.links["lost_bytes"]).all() and one.links["lost_bytes"].sum() > 0
    assert np.allclose(other.final["x"], one.final["x"], rtol=0, atol=1e-13)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_flows_on_links_of_their_own_are_as_independent_messages(data: Any) -> None:
    """One round: of a host's next messages, flows would share the link, and independent ones queue."""
    graph = nx.cycle_graph(4)
    for edge in graph.edges:
        rates = data.draw(st.lists(st.integers(0, 5), min_size=3, max_size=3).filter(any))
        times = np.array([0.0, 0.013, 0.029])
        graph.edges[edge]["trace"] = Changes(Trace(times, np.array(rates) * 1e5, rates[0] * 1e5, 0.041))
    ends = []
    for more in ({"model": "maxmin"}, {"model": "independent", "ports": "parallel"}):
        network = {"graph": graph, "link": {"latency": 0}, **more}
        record = go(scenario(DPSGD(), network, nodes={"step": "10 ms", "jitter": 0.9}, rounds=1))
        ends.append(record.rounds["sim_time_s"])
    assert ends[0] == pytest.approx(ends[1], rel=1e-9)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("policy", ("retry", "drop", "symmetric"))
def test_all_ones_stay_all_ones_and_no_byte_is_left_over(folder: Path, model: str, policy: str) -> None:
    if model == "tcp" and policy != "retry":
        return

    class FromOnes(Gossips):
        def program(self, node: Any) -> Any:
            x = node.initial("x") * 0 + 1.0
            for _ in node.rounds():
                x = yield node.gossip(x)
                node.report(x=x)

    link = {"trace": "all.csv", "burst": {"mean_loss": "5 %", "length": 3}}
    network = {"graph": dumbbell(6), "model": model, "policy": policy, "link": link}
    sections = scenario(FromOnes(), network, dim=3750, topology="ring", rounds=6)
    record = go(sections)
    assert (record.final["x"] == 1.0).all()
    links, net = record.links, simnet.prepare.prepare(simnet.Scenario.of(sections)).network
    assert links["lost_bytes"].sum() > 0
    there = links["wire_bytes"] - links["acknowledgement_bytes"]
    into, out_of = np.zeros((2, len(net.node_names)), np.int64)
    np.add.at(into, net.link_target, there - links["lost_bytes"])
    np.add.at(out_of, net.link_source, there)
    assert (into[net.n :] == out_of[net.n :]).all()
    if policy == "retry":
        assert links["retransmitted_bytes"][net.link_source < net.n].sum() == links["lost_bytes"].sum()


# ---- every way of running agrees -----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ("retry", "drop", "symmetric"))
@pytest.mark.parametrize("missing", ("self", "zero", "stale", "value"))
@pytest.mark.parametrize("receive_ports", ("parallel", "serial"))
def test_every_tier_that_can_agrees(folder: Path, policy: str, missing: str, receive_ports: str) -> None:
    network = {
        "nodes": 4, "graph": "ring", "policy": policy, "receive_ports": receive_ports, "header_bytes": 40,
        "link": {"bandwidth": "1 Mbit/s", "latency": "2 ms", "loss": 0.1},
        "links": [{"between": [0, 1], "trace": "all.csv"}, {"from": 2, "to": 3, "trace": "all.csv"}],
    }  # fmt: skip
    for program, stop in ((Gossips, {"sim_time": 0.21}), (Overlaps, {"bytes": 20_000}), (Overlaps, None)):
        more: dict[str, Any] = {} if stop is None else {"stop": stop}
        made = program(missing=missing, deadline_s=None if missing == "self" else 0.04)
        check_all(scenario(made, network, nodes={"step": "10 ms", "jitter": 0.3}, rounds=8, **more))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "algorithm, more",
    (
        (DPSGD(), {}),
        (Overlaps(missing="stale", deadline_s=0.04), {}),
        (AllReduceSGD(), {"collective": {"pattern": "ring"}, "stop": {"bytes": 40_000}}),
        (AllReduceSGD(), {}),
        (FedAvg(), {"topology": "complete"}),
        (ADPSGD(), {}),
    ),
    ids=("gossip", "stale", "ring", "server", "messages", "meetings"),
)
def test_group_run_is_node_run(folder: Path, algorithm: Any, more: dict[str, Any], model: str) -> None:
    sections: dict[str, Any] = {"topology": "ring", "nodes": {"step": "10 ms", "jitter": 0.3}, **more}
    network = {"graph": dumbbell(6), "model": model, "link": {"trace": "all.csv"}}
    record = agree(scenario(algorithm, network, record={"timeline": False}, **sections))
    assert record.summary["bytes_by_kind"]["retransmitted"] > 0


@pytest.mark.parametrize("model", MODELS[:-1])
@pytest.mark.parametrize("algorithm", (DPSGD(), Overlaps(missing="stale", deadline_s=0.04), ADPSGD()),
                         ids=("gossip", "stale", "meetings"))  # fmt: skip
def test_group_run_is_node_run_under_symmetric(folder: Path, algorithm: Any, model: str) -> None:
    for ports in ("serial", "parallel") if model == "independent" else ("serial",):
        network = {"graph": dumbbell(6), "model": model, "policy": "symmetric", "link": {"trace": "all.csv"}}
        network |= {"ports": ports} if ports == "parallel" else {}
        nodes = {"step": "10 ms", "jitter": 0.3}
        record = agree(scenario(algorithm, network, record={"timeline": False}, topology="complete", nodes=nodes))
        assert record.summary["lost_messages"] > 0


def test_absences_and_departures_over_links_that_change(folder: Path) -> None:
    absence = [{"nodes": [1], "away": [["60 ms", "95 ms"]]}, {"nodes": [3], "away": [["100 ms", "never"]]}]
    nodes = {"step": "10 ms", "jitter": 0.3, "absence": absence}
    for policy in ("retry", "drop", "symmetric"):
        for model in ("independent", "maxmin"):
            network = {"graph": switch(5), "model": model, "policy": policy, "link": {"trace": "all.csv"}}
            made = Gossips(missing="zero", deadline_s=0.05)
            agree(scenario(made, network, topology="ring", nodes=nodes, stop={"sim_time": "300 ms"}, rounds=30))


def test_the_arrays_tier_says_that_links_change(folder: Path) -> None:
    for model in ("independent", "maxmin"):
        with pytest.raises(ScenarioError, match="links change with time"):
            go(scenario(DPSGD(), {"nodes": 4, "model": model, "link": {"trace": "all.csv"}}), "arrays")


@settings(max_examples=60)
@given(data=st.data(), policy=st.sampled_from(("retry", "drop", "symmetric")), bursty=st.booleans())
def test_messages_drawn_at_once_are_those_drawn_one_by_one(data: Any, policy: str, bursty: bool) -> None:
    """In whatever order they start, and however they are parted; over ways of one link and of several."""
    graph = dumbbell(4)
    graph.add_edge(0, 1)
    for edge in graph.edges:
        values = np.array(data.draw(st.lists(st.sampled_from((0.0, 0.2, 0.6)), min_size=2, max_size=2)))
        if data.draw(st.booleans()):
            graph.edges[edge]["trace"] = Changes(loss=Steps(np.array([0.0, 1.0]), values, 0.0, 2.0))
    link = {"loss": 0.1, **({"burst": {"to_bad": 0.1, "to_good": 0.5}} if bursty else {})}
    sections = scenario(DPSGD(), {"graph": graph, "policy": policy, "link": link}, topology="complete")
    plan = simnet.prepare.prepare(simnet.Scenario.of(sections))
    edges, _ = plan.book().edges(plan.topology, 0, "node")
    one, other = (Fates(plan.network, 3).of(("x",), edges, 5000) for _ in range(2))
    if not isinstance(one, FateInTime):
        return
    order = np.array(data.draw(st.permutations(range(edges.size))))[: data.draw(st.integers(0, edges.size))]
    times = np.array([data.draw(st.sampled_from((0.5, 1.0, 1.7))) for _ in order])
    for e, t in zip(order.tolist(), times.tolist(), strict=True):
        one.draw(e, t)
    assert isinstance(other, FateInTime)
    turn = data.draw(st.integers(0, len(order)))
    for part in (slice(turn), slice(turn, None)):
        other.draw_all(order[part], times[part])
    for name in ("drawn_E", "again_E", "attempts_E", "delivered_E", "hop_packets_H", "hop_lost_H"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_an_estimate_simulates_every_round(folder: Path) -> None:
    sections = scenario(DPSGD(), {"nodes": 4, "link": {"trace": "all.csv"}}, rounds=40)
    assert simnet.estimate(sections).summary["log_hash"] == go(sections).summary["log_hash"]
    assert "scaled_rounds" not in simnet.estimate(sections).summary


# ---- where a trace is said -----------------------------------------------------------------------------------------


def test_overrides_and_edges_have_traces_of_their_own(folder: Path) -> None:
    (folder / "t.csv").write_text("0 1\n1 3\n")
    graph = nx.path_graph(4)
    graph.edges[1, 2]["trace"] = {"file": "t.csv", "at_end": "hold"}
    graph.edges[2, 3]["trace"] = "all.csv"
    network = {"graph": graph, "links": [{"from": 0, "to": 1, "trace": "t.csv"}]}
    net = simnet.prepare.prepare(simnet.Scenario.of(scenario(DPSGD(), network))).network
    said = {(int(net.link_source[k]), int(net.link_target[k])): c for k, c in net.changes.items()}
    assert set(said) == {(0, 1), (1, 2), (2, 1), (2, 3), (3, 2)}
    assert said[0, 1].bandwidth is not None and said[0, 1].bandwidth.period_s == 2.0
    assert said[1, 2].bandwidth is not None and said[1, 2].bandwidth.period_s == math.inf
    loss = said[3, 2].loss
    assert loss is not None and loss.values.tolist() == [0.1, 0.3, 0.0, 0.2]
    assert net.latency_s[-1] == 0.005 and net.loss[-1] == 0.1  # as at the start


def test_named_columns_say_their_units(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(
        "# ours\nlatency_us,loss_percent,time_ms,bandwidth_gbit_per_s\n\n250,5,1000,1\n500,0,3000,0.5 # note\n"
    )
    made = read_changes(file)
    assert made.bandwidth is not None and made.latency is not None and made.loss is not None
    assert made.bandwidth.times_s.tolist() == [0, 2] and made.bandwidth.period_s == 4
    assert made.bandwidth.rates.tolist() == [125e6, 62.5e6]
    assert made.latency.values == pytest.approx([250e-6, 500e-6]) and made.loss.values == pytest.approx([0.05, 0])
    assert made.loss.at(5.9) == pytest.approx(0.05) and made.loss.at(6.0) == 0


@given(traces(), st.floats(0, 100))
def test_a_piece_is_the_value_until_the_next_change(made: Trace, t: float) -> None:
    value, until = made.piece(t)
    assert until > t and value == made.at(t)
    if until < math.inf:
        assert made.at((t + until) / 2) == value and made.at(until) == made.piece(until)[0]
    else:
        assert made.at(t + 1e6) == value


REAL = (
    "mahimahi/Verizon-LTE-short.down",
    "mahimahi/TMobile-UMTS-driving.up",
    "bandwidth_traces/hsdpa_3g/norway_bus_10",
)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("model", ("independent", "tcp"))
def test_training_over_a_measured_link(name: str, model: str) -> None:
    file = shared_dir() / "data" / name
    rate = read_changes(file).bandwidth
    assert rate is not None
    network = {"nodes": 3, "graph": "ring", "model": model, "link": {"latency": "20 ms", "trace": str(file)}}
    record = agree(scenario(DPSGD(), network, dim=20_000, rounds=5, record={"timeline": False}))
    end = float(record.rounds["sim_time_s"][-1])
    carried = record.links["wire_bytes"]
    assert (carried <= rate.bytes_until(end) * (1 + 1e-9)).all()  # no link passes more than its trace lets through
    assert carried.sum() >= 5 * 6 * 80_000


def test_every_real_trace_loads() -> None:
    folder = shared_dir() / "data" / "bandwidth_traces"
    files = sorted(path for path in folder.glob("*/*") if path.suffix not in (".md", ".txt"))
    assert len(files) > 10
    for file in files:
        assert read_changes(file).bandwidth is not None


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, more, words",
    (
        ("time_s,loss\n0,0.1\n1,1.5\n", {}, "network.link.trace.*t.csv, line 3: loss = 1.5"),
        ("time_s,latency_ms\n0,10\n1,-5\n", {}, "t.csv, line 3: latency_ms = -5"),
        ("time_s,bandwidth_mbit_per_s\n0,-1\n1,5\n", {}, "t.csv, line 2: bandwidth_mbit_per_s = -1"),
        ("time_s,latency_ms\n1,10\n0.5,5\n", {}, "t.csv, line 3: .*out of order"),
        ("time_s,latency_ms\n0,10\n1\n", {}, "t.csv, line 3: .*needs a number for each of time_s, latency_ms"),
        ("time_s,latency_ms\n0,ten\n", {}, "t.csv, line 2: .*needs a number"),
        ("time_s,latency\n0,10\n", {}, "t.csv, line 1: there is no column 'latency'; did you mean 'latency_"),
        ("time_s,loss,loss_percent\n0,1,1\n", {}, "t.csv, line 1: two columns of loss"),
        ("time_s\n0\n", {}, "t.csv, line 1: names no bandwidth"),
        ("time_s,loss\n", {}, "t.csv: holds no line of numbers"),
        ("", {}, "t.csv: holds no line of numbers"),
        ("0 5\n1 0\n", {"at_end": "hold"}, "holds its last rate, which is 0"),
        ("0 0\n1 0\n", {}, "lets nothing through"),
        ("time_s,loss\n0,0\n1,1\n", {}, "a loss of 1 under `policy: retry`"),
        ("0 5\n", {}, "say at_end: hold"),
        ("0 5\n1 6\n", {"at_end": "stop"}, "network.link.trace.at_end"),
    ),
)  # fmt: skip
def test_a_bad_trace_is_told_with_its_field_file_and_line(folder: Path, text: str, more: Any, words: str) -> None:
    (folder / "t.csv").write_text(text)
    with pytest.raises(ScenarioError, match=words):
        go(scenario(DPSGD(), {"nodes": 4, "link": {"trace": {"file": "t.csv", **more}}}))


@pytest.mark.parametrize(
    "network, words",
    (
        (
            {"links": [{"between": [0, 1], "trace": "nowhere.csv"}]},
            "network.links.0.trace.*nowhere.csv: there is no such file",
        ),
        ({"model": "maxmin", "link": {"fatpipe": True, "trace": "all.csv"}}, "network.link.trace.*fatpipe"),
        ({"link": {"trace": {"at_end": "wrap"}}}, "network.link.trace.file"),
    ),
)
def test_what_a_trace_does_not_go_with_is_refused(folder: Path, network: dict[str, Any], words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        go(scenario(DPSGD(), {"nodes": 4, **network}))


def test_averages_are_never_dropped_so_a_link_that_loses_all_is_refused(folder: Path) -> None:
    (folder / "t.csv").write_text("time_s,loss\n0,0\n0.005,1\n")
    network = {"nodes": 4, "policy": "drop", "link": {"trace": "t.csv"}}
    with pytest.raises(ScenarioError, match="never gets over a link that loses all"):
        go(scenario(AllReduceSGD(), network))


def test_steps_are_at_least_0_and_in_order() -> None:
    from simnet.errors import DataError

    for times, values in (([1.0, 1.0], [1.0, 1.0]), ([0.0, 1.0], [1.0, -1.0]), ([], [])):
        with pytest.raises(DataError):
            Steps(np.array(times), np.array(values), 0.0)
