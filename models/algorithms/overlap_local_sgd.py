"""Overlap Local-SGD: nodes are pulled towards an anchor whose average travels while they compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.node import Node


@dataclass(frozen=True)
class OverlapLocalSGD(Algorithm):
    """H local steps, then a pull towards an anchor: the average of the models of one round ago.

    Each round, while the average a of the x_i with which the round began is on its way:

        x_i <- x_i - eta g_i(x_i)                            H times
        v <- beta v + a - z;    z <- z + v                   the anchor, once a is there (beta = 0: z = a)
        x_i <- x_i - pull (x_i - z)

    A round takes the longer of its steps and its average, and not their sum. Shapes: x_i, g_i, a, z, v (d,). Nodes
    agree up to a distance of order eta.

    Args:
        eta: step size.
        steps: H, local steps a round.
        pull: share of the way to the anchor that each round ends with; 0 < pull <= 1.
        beta: momentum of the anchor.

    Sends, per round, of b-byte numbers: d b up to the server of the collective from, and d b down to, every node but
    the server: 2 (N - 1) d b.
    Mixes over no topology. A collective is always reliable, so nothing stands in for a missing message.
    Reference: Wang, Liang and Joshi, "Overlap local-SGD: an algorithmic approach to hide communication delays in
    distributed SGD", ICASSP 2020.
    Departs: the average of the first point, which all nodes know, is sent too, so that all rounds are alike.
    `DelayedLocalSGD` keeps a round's own steps whole and corrects the point from which they began.

    >>> OverlapLocalSGD(eta=0.05, steps=5)
    OverlapLocalSGD(eta=0.05, steps=5, pull=0.6, beta=0.0)
    """

    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False

    eta: float = 0.1  # step size
    steps: int = 1  # H, local steps a round
    pull: float = 0.6  # share of the way to the anchor
    beta: float = 0.0  # momentum of the anchor

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ScenarioError("a round has at least 1 local step", field="algorithm.steps", value=self.steps)
        if not 0 < self.pull <= 1:
            raise ScenarioError("a share of the way: above 0 and at most 1", field="algorithm.pull", value=self.pull)

    def program(self, node: Node) -> Program:
        x, v = node.initial("x"), node.zeros()
        z = x
        for _ in node.rounds():
            sent = node.start(node.average(x))
            for _ in range(self.steps):
                g = yield node.gradient(x)
                x = x - self.eta * g
            v = self.beta * v + (yield sent) - z
            z = z + v
            x = x - self.pull * (x - z)
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return 2 * (nodes - 1) * dim
