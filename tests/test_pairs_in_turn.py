"""Pairs drawn in one global order: node.pair, gossip over a sample, and SwarmSGD as it is analysed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import networkx as nx
import numpy as np
import pytest

import simnet
from simnet import streams
from simnet.algorithm import Algorithm, Program
from simnet.models.algorithms.swarm_sgd_in_turn import SwarmSGDInTurn
from simnet.node import Node
from tests.dense import Quadratics
from tests.programs import base, go


def drawn(graph: nx.Graph, t: int) -> tuple[int, int]:
    """The t-th pair, from its description: uniform over the edges, ascending by (target, source)."""
    edges = sorted((max(edge), min(edge)) for edge in graph.edges)
    u = streams.uniform1(streams.key(0, "pair", "node", t), 1)[0]
    j, i = edges[int(u * len(edges))]
    return i, j


@pytest.mark.parametrize("tier", ("arrays", "events", "processes"))
@pytest.mark.parametrize("graph", (nx.cycle_graph(7), nx.star_graph(5), nx.complete_graph(4)))
def test_swarm_in_turn_is_what_its_description_says(graph: nx.Graph, tier: str) -> None:
    problem = Quadratics.drawn(len(graph), 3)
    record = simnet.run(
        problem.scenario({"name": "SwarmSGDInTurn", "eta": 0.1, "steps": 3}, graph=graph, rounds=40),
        set={"execution.tier": tier},
    )
    x = np.zeros((len(graph), 3)) + problem.start
    for t in range(40):
        pair = list(drawn(graph, t))
        for _ in range(3):
            x[pair] -= 0.1 * problem.gradient(x)[pair]
        x[pair] = x[pair].mean(0)
    assert np.allclose(record.final["x"], x, rtol=0, atol=1e-12)
    assert record.summary["messages"] == 80


def test_only_the_pair_computes_and_waits() -> None:
    graph = nx.path_graph(4)
    network = {"graph": graph, "link": {"bandwidth": "1 Tbit/s", "latency": "5 ms"}}
    record = go(base(SwarmSGDInTurn(steps=2), network=network, rounds=30))
    meetings = np.bincount(np.ravel([drawn(graph, t) for t in range(30)]), minlength=4)
    assert np.allclose(record.nodes["compute_s"], 0.020 * meetings)
    assert record.rounds["sim_time_s"][-1] < 30 * 0.025  # pairs without a node in common overlap


@dataclass(frozen=True)
class Samples(Algorithm):
    """Three sampled nodes take their mean; the others keep their own."""

    mixing: ClassVar[str | None] = None
    size: int = 3

    def program(self, node: Node) -> Program:
        x = node.initial("x") * 0.0 + node.index + 1.0
        for _ in node.rounds():
            x = yield node.gossip(x, over=node.sample(k=self.size))
            node.report(x=x)


@pytest.mark.parametrize("size", (1, 2, 3, 6))
def test_gossip_over_a_sample_is_the_mean_of_its_nodes(size: int) -> None:
    record = go(base(Samples(size), network={"nodes": 6, "graph": "complete"}, rounds=1))
    x = record.final["x"]
    moved = np.flatnonzero((x != np.arange(1.0, 7.0)[:, None]).any(1))
    assert np.isclose(x.mean(), 3.5) and len(moved) <= size
    if size > 2:
        assert np.allclose(x[moved], x[moved[0]])
    assert record.summary["messages"] == size * (size - 1)


@pytest.mark.slow
def test_swarm_in_turn_has_the_known_floor() -> None:
    """Row 20 of the table: 4.68, mean over the last sweeps of n/2 meetings."""
    scenario = Quadratics.reference().scenario(
        {"name": "SwarmSGDInTurn", "eta": 0.05, "steps": 5}, rounds=8 * 2000, record={"messages": False}
    )
    record = simnet.run(scenario | {"evaluate_every": 8})
    assert record.rounds["distance_to_optimum"][1000:].mean() == pytest.approx(4.68, rel=0.05)
