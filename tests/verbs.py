"""What the tests of the verbs share: programs of one and of two roles, run in every tier and executor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import networkx as nx
import numpy as np

from simnet.algorithm import Algorithm, Program
from simnet.node import Node
from simnet.record import Record
from tests.programs import base, go

Body = Callable[[Node], Program]


@dataclass(frozen=True)
class Does(Algorithm):
    """Runs the generator function that it is given."""

    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False

    body: Any = None

    def program(self, node: Node) -> Program:
        yield from self.body(node)


@dataclass(frozen=True)
class Roles(Algorithm):
    """A server and clients."""

    roles: ClassVar[tuple[str, ...]] = ("server", "client")
    mixing: ClassVar[str | None] = None

    first: Any = None
    second: Any = None

    def server(self, node: Node) -> Program:
        yield from self.first(node)
        assert node.report  # a role that nowhere names report makes none

    def client(self, node: Node) -> Program:
        yield from self.second(node)


class BothReport(Roles):
    """Clients report too."""

    def client(self, node: Node) -> Program:
        yield from self.second(node)
        assert node.report


WAYS = (("auto", "batched"), ("events", "batched"), ("events", "one_by_one"), ("processes", "one_by_one"))
LINK = {"bandwidth": 64.0, "latency": 0.125}  # 16 bytes take 0.25 s + 0.125 s


def each_way(body: Body, ways: Any = WAYS, n: int = 3, graph: Any = "ring", **more: Any) -> Record:
    """Run in every tier and executor, check that all agree to the last bit but one, and return one of the records."""
    network = {"nodes": n, "graph": graph, "link": LINK, **more.pop("network", {})}
    if isinstance(graph, nx.Graph):
        del network["nodes"]
    settings: dict[str, Any] = {"problem": {"name": "Quadratic", "dim": 4}, "rounds": 1, "nodes": {"step": 0.5}}
    scenario = base(Does(body), network=network, **({"evaluate_every": 1} | settings | more))
    return agree([go(scenario, *way) for way in ways])


def roles(server: Body, client: Body, n: int = 4, **more: Any) -> Record:
    """The same for a server (host 0 of a star) and clients."""
    network = {"nodes": n, "graph": "star", "link": LINK, **more.pop("network", {})}
    settings: dict[str, Any] = {"problem": {"name": "Quadratic", "dim": 4}, "rounds": 1, "nodes": {"step": 0.5}}
    algorithm = more.pop("kind", Roles)(server, client)
    scenario = base(algorithm, network=network, evaluate_every=1, **(settings | more))
    return agree([go(scenario, *way) for way in (WAYS[0], WAYS[3])])


def agree(records: list[Record]) -> Record:
    for other in records[1:]:
        assert other.outcome == records[0].outcome
        np.testing.assert_array_equal(other.nodes["finish_s"], records[0].nodes["finish_s"])
        np.testing.assert_array_equal(other.rounds["wire_bytes"], records[0].rounds["wire_bytes"])
        assert other.summary["wire_bytes"] == records[0].summary["wire_bytes"]
        assert other.final.keys() == records[0].final.keys()
        for name, value in records[0].final.items():
            np.testing.assert_allclose(other.final[name], value, rtol=1e-13, atol=1e-15, err_msg=name)
    return records[-1]


def ends(record: Record) -> list[float]:
    found: list[float] = record.nodes["finish_s"].tolist()
    return found


def number(node: Node) -> Any:
    """A vector that says whose it is: 1, 2, 4, ..."""
    return node.zeros() + 2.0**node.index
