"""Gossip learning: models walk from node to node and learn where they come by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.lazy import torch
from simnet.node import Node


@dataclass(frozen=True)
class GossipLearning(Algorithm):
    """Each node sends its model to a random neighbour once a period; who receives one merges it and learns.

    At node i, with model x_i of age t_i (the local steps in it):

        every `period_s`, from a random phase on:  x_i, t_i to one random neighbour
        as x_j, t_j arrives:  x_i <- merge(x_i, x_j);  t_i <- max(t_i, t_j);  x_i <- x_i - eta g_i(x_i);  t_i <- t_i + 1

    with merge = (x_i + x_j) / 2 (`average`) or (t_i x_i + t_j x_j) / (t_i + t_j) (`age`).
    Shapes: x_i and g_i (d,), t_i a scalar.

    Args:
        eta: step size.
        period_s: seconds between two sends of a node.
        merge: `age` (older models count for more) or `average`.

    A round is a period of the node. Sends, per round and node, of b-byte numbers: (d + 1) b. What is lost is not sent
    again, and nothing stands in for a missing message: a node that hears nothing learns nothing in that period.
    Reference: Ormandi, Hegedus and Jelasity, Concurrency and Computation 25, 2013, algorithm 1 with CreateModelMU;
    the merge by age is that of Hegedus, Danner and Jelasity, JPDC 148, 2021.

    >>> GossipLearning(eta=0.05, period_s=0.5).merge
    'age'
    """

    mixing: ClassVar[str | None] = None
    keeps_mean: ClassVar[bool] = False
    synchronous: ClassVar[bool] = False

    eta: float = 0.1  # step size
    period_s: float = 1.0  # seconds between two sends
    merge: str = "age"  # age | average

    def __post_init__(self) -> None:
        if not self.period_s > 0:
            raise ScenarioError("a period lasts longer than 0 s", field="algorithm.period_s", value=self.period_s)
        if self.merge not in ("age", "average"):
            raise ScenarioError("merge is 'age' or 'average'", field="algorithm.merge", value=self.merge)

    def program(self, node: Node) -> Program:
        x: Any = node.initial("x")  # torch's own types know tensors only
        age: Any = node.zeros(())
        yield node.wait(self.period_s / 2, spread=1.0)
        for _ in node.rounds():
            yield node.send(x, age, to=node.peer(), reliable=False)
            timer = node.start(node.wait(self.period_s))
            while (model := (yield node.receive("any", until=timer))) is not None:
                x = self.merged(x, age, *model)
                age = torch.maximum(age, model[1])
                g = yield node.gradient(x)
                x, age = x - self.eta * g, age + 1.0
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return nodes * (dim + 1)

    def merged(self, x: Any, age: Any, y: Any, other: Any) -> Any:
        """What a node makes of its own model and one that arrives."""
        if self.merge == "average":
            return (x + y) / 2
        share = torch.where(age + other > 0, other / torch.clamp(age + other, min=1.0), 0.5)
        return x + share * (y - x)
