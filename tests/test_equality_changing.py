"""The compiled walk gives what the plain one gives, bit for bit, where links change with time and others send too.

The scenarios are made up by hypothesis; the plain walker is the reference.
"""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simnet.network.changing
import simnet.timeplane.flows
from simnet.errors import ScenarioError
from simnet.models.topologies.underlays import dumbbell, switch
from simnet.network.flows.traces import Changes, Steps, Trace
from simnet.record import Record
from tests.programs import Averages, Masked, go
from tests.test_equality import check_equal, comings_and_goings, scenarios
from tests.test_equality_shared import shared

TICK = 0.0041
OTHER_VERBS = (Averages, Masked)  # what the compiled walk may leave to the plain one


@st.composite
def rates(draw: st.DrawFn) -> Trace:
    """A bandwidth over time: 0 for a while, too, wrapped or held at its end."""
    steps = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    values = [5e3 * draw(st.integers(0, 4)) for _ in steps]
    wrapped = draw(st.booleans())
    if not wrapped or not any(values):
        values[-1] += 5e3
    times = np.cumsum([draw(st.integers(0, 3)), *steps[:-1]]) * TICK
    period = float(times[-1] - times[0] + steps[-1] * TICK) if wrapped else math.inf
    return Trace(times, np.array(values), 5e3 * draw(st.integers(0, 4)), period)


@st.composite
def steps(draw: st.DrawFn, values: tuple[float, ...]) -> Steps:
    """Latencies or losses over time."""
    made = draw(rates())
    found = np.array([draw(st.sampled_from(values)) for _ in made.times_s])
    return Steps(made.times_s, found, float(found[0]), made.period_s)


@st.composite
def changes(draw: st.DrawFn, network: dict[str, Any]) -> Changes:
    """What of a link changes: one thing at least."""
    again = network["policy"] == "retry"
    latency = draw(steps((0.0, 0.0013, 0.006, 0.011))) if draw(st.booleans()) else None
    losses = (0.0, 0.1, 0.3) if again else (0.0, 0.3, 0.9)
    loss = draw(steps(losses)) if draw(st.booleans()) else None
    made = draw(rates()) if draw(st.booleans()) or (latency is None and loss is None) else None
    return Changes(made, latency, loss)


@st.composite
def others(draw: st.DrawFn, n: int) -> list[dict[str, Any]]:
    """Background traffic: given, regular or drawn, from one host to another or between any."""
    made = []
    for _ in range(draw(st.integers(1, 3))):
        stream: dict[str, Any] = {"size": draw(st.sampled_from((40, 700, 1500)))}
        ends = draw(st.permutations(range(n)))
        stream |= {"pairs": "random"} if draw(st.booleans()) else {"from": ends[0], "to": ends[1]}
        law = draw(st.sampled_from(("at", "regular", "every", "load")))
        if law == "at":
            stream["at"] = [k * TICK for k in sorted(draw(st.lists(st.integers(0, 40), min_size=1, max_size=5)))]
        elif law == "load":
            stream["load"] = draw(st.sampled_from((2e3, 3e4)))
        else:
            stream["every"] = draw(st.sampled_from((0.01, TICK, 0.05)))
            stream |= {"law": "regular"} if law == "regular" else {}
        if law != "at":  # what is more than the links carry piles up
            stream |= {"start": draw(st.sampled_from((0.0, 0.02))), "until": draw(st.sampled_from((0.09, 0.2)))}
        made.append(stream)
    return made


@st.composite
def changing(draw: st.DrawFn, with_others: bool = False) -> dict[str, Any]:
    """One of the scenarios over shared links, of which some change."""
    scenario: dict[str, Any] = draw(shared())
    network = scenario["network"]
    if "nodes" in network:
        n, directed = network.pop("nodes"), network["graph"] == "exponential"
        scenario["topology"] = network.pop("graph")
        network["graph"] = nx.complete_graph(n, create_using=nx.DiGraph if directed else nx.Graph)
    hosts = sum(1 for _, router in network["graph"].nodes(data="router") if not router)
    for _, _, data in network["graph"].edges(data=True):
        if draw(st.integers(0, 2)):
            data["trace"] = draw(changes(network))
    if with_others:
        network["background"] = draw(others(hosts))
    return scenario


@st.composite
def alone(draw: st.DrawFn) -> dict[str, Any]:
    """One of the scenarios over links that share nothing and of which some change, on the way through routers, too."""
    scenario: dict[str, Any] = draw(scenarios())
    network = scenario["network"]
    scenario["topology"], n = network.pop("graph"), network.pop("nodes")
    if network["receive_ports"] == "serial" and scenario["algorithm"].missing == "stale":
        network["receive_ports"] = "parallel"  # left to the plain walker
    network["graph"] = draw(st.sampled_from((nx.complete_graph, switch, dumbbell)))(n)
    for _, _, data in network["graph"].edges(data=True):
        if draw(st.integers(0, 2)):
            data["trace"] = draw(changes(network))
    scenario["record"] |= {"timeline": draw(st.booleans())}
    return scenario


def agree(scenario: dict[str, Any]) -> Record:
    """The compiled walk against the plain one; nothing but a verb may stand in its way."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (simnet.network.changing, simnet.timeplane.flows):
            patched.setattr(module, "PATIENCE", 300)
        reference = go(scenario, "events")
        try:
            fast = go(scenario, "compiled")
        except ScenarioError as error:
            assert "a verb other than" in str(error) and isinstance(scenario["algorithm"], OTHER_VERBS)
            return reference
    assert fast.summary["tier"] == "compiled"
    check_equal(reference, fast, True, "compiled")
    for name in ("background_flows", "background_bytes"):
        assert fast.summary.get(name) == reference.summary.get(name)
    return reference


@settings(max_examples=60)
@given(scenario=changing())
def test_links_that_change(scenario: dict[str, Any]) -> None:
    agree(scenario)


@settings(max_examples=60)
@given(scenario=changing(with_others=True))
def test_links_that_change_and_the_traffic_of_others(scenario: dict[str, Any]) -> None:
    agree(scenario)


@settings(max_examples=40)
@given(data=st.data(), scenario=changing(with_others=True))
def test_the_same_where_nodes_are_away(data: st.DataObject, scenario: dict[str, Any]) -> None:
    hosts = sum(1 for _, router in scenario["network"]["graph"].nodes(data="router") if not router)
    scenario["nodes"] |= data.draw(comings_and_goings(hosts))
    agree(scenario)


@settings(max_examples=80)
@given(data=st.data(), scenario=alone())
def test_links_that_change_and_share_nothing(data: st.DataObject, scenario: dict[str, Any]) -> None:
    hosts = sum(1 for _, router in scenario["network"]["graph"].nodes(data="router") if not router)
    if data.draw(st.booleans()):
        scenario["nodes"] |= data.draw(comings_and_goings(hosts))
    agree(scenario)
