"""SwarmSGD as it is analysed: meetings one after another, in one drawn order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.node import Node


@dataclass(frozen=True)
class SwarmSGDInTurn(Algorithm):
    """One pair at a time: H local steps at both of its nodes, then their mean.

    For t = 0, 1, ...: an edge {i, j} of the topology is drawn, uniformly; then

        at both:  H times  x <- x - eta g(x)
        x_i, x_j <- (x_i + x_j) / 2

    Shapes: x_i and g_i (d,). A round is one meeting. In simulated time a meeting begins when both of its nodes have
    ended their earlier ones, so meetings of different nodes overlap.

    Args:
        eta: step size.
        steps: H, local steps at each node of a pair.

    Sends, per round, of b-byte numbers: 2 d b. A missing message is replaced by the receiver's own x.
    Reference: Nadiradze, Sabour, Davies, Li and Alistarh, NeurIPS 2021, algorithm 1.
    Departs: H is fixed (the paper also allows a geometric one). `SwarmSGD` is the one whose pairs are set by time.

    >>> SwarmSGDInTurn(eta=0.05, steps=5)
    SwarmSGDInTurn(eta=0.05, steps=5)
    """

    mixing: ClassVar[str | None] = None

    eta: float = 0.1  # step size
    steps: int = 2  # H, local steps at each node of a pair

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ScenarioError("before a meeting is at least 1 local step", field="algorithm.steps", value=self.steps)

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            pair = node.pair()
            for _ in range(self.steps):
                g = yield node.gradient(x, among=pair)
                x = x - self.eta * g
            x = yield node.gossip(x, over=pair)
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return 2 * dim
