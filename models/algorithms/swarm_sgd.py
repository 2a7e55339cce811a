"""SwarmSGD: some local steps, then the mean of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.node import Node


@dataclass(frozen=True)
class SwarmSGD(Algorithm):
    """H local steps at each node, then the mean of two neighbours that meet.

    At node i:

        y <- x_i;  H times  y <- y - eta g_i(y)
        blocking:      x_i <- y, wait for a neighbour j that is done too, x_i, x_j <- (x_i + x_j) / 2
        non-blocking:  x_i, x_j <- (x_i + x_j) / 2 with a random neighbour j, whatever it is doing;
                       x_i <- x_i + (y - the x_i from which y began)

    Shapes: x_i, y and g_i (d,).

    Args:
        eta: step size.
        steps: H, local steps between two meetings.
        blocking: wait for a partner that has done its steps; False meets a random neighbour at once.

    Sends, per round and node, of b-byte numbers: d b (blocking: one message each way for two nodes' rounds) or 2 d b
    (non-blocking). Nothing stands in for a missing message: a meeting that loses one averages at neither node.
    Reference: Nadiradze, Sabour, Davies, Li and Alistarh, NeurIPS 2021, algorithms 1 and 2.
    Departs: H is fixed (the paper also allows a geometric one), partners are drawn among the neighbours that are ready
    instead of by Poisson clocks, and messages are not quantized.

    >>> SwarmSGD(eta=0.05, steps=5).blocking
    True
    """

    mixing: ClassVar[str | None] = None
    keeps_mean: ClassVar[bool] = False  # what is published keeps it; reports may be of different times

    eta: float = 0.1  # step size
    steps: int = 2  # H, local steps between two meetings
    blocking: bool = True  # wait for a partner that is done too

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ScenarioError("between two meetings is at least 1 local step", field="algorithm.steps",
                                value=self.steps)  # fmt: skip

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        node.publish(x)
        for _ in node.rounds():
            y = x
            for _ in range(self.steps):
                g = yield node.gradient(y)
                y = y - self.eta * g
            if self.blocking:
                node.publish(y)
                x = yield node.meet(pool="ready")
            else:
                x = (yield node.meet()) + (y - x)
                node.publish(x)
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int | None:
        return None if self.blocking else 2 * nodes * dim
