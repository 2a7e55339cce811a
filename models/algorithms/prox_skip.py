"""ProxSkip: local steps with control variates, and an average with probability p in each iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.node import Node


@dataclass(frozen=True)
class ProxSkip(Algorithm):
    """A corrected local step, and a common coin that says whether models are averaged; also called Scaffnew.

        x_i' = x_i - eta (g_i(x_i) - h_i)
        with probability p:  x_i <- (1/N) sum_j (x_j' - (eta/p) h_j),    otherwise  x_i <- x_i'
        h_i <- h_i + (p/eta) (x_i - x_i')

    The h_i add up to zero and h_i follows node i's gradient at the optimum. Exact under a constant step, and with
    p = 1/sqrt(condition) it needs as few iterations as gradient descent, and a p-th of its averages. Shapes: x_i, h_i,
    g_i (d,).

    Args:
        eta: step size.
        p: probability of an average; one draw common to all nodes.

    Sends, per round, of b-byte numbers: with probability p d b up to the server of the collective from, and d b down
    to, every node but the server: 2 p (N - 1) d b in the mean. A round is one iteration, with or without average.
    Mixes over no topology. A collective is always reliable, so nothing stands in for a missing message.
    Reference: Mishchenko, Malinovsky, Stich and Richtarik, ICML 2022, algorithm 2 (Scaffnew).
    Departs: gradients may be stochastic.

    >>> ProxSkip(eta=0.05)
    ProxSkip(eta=0.05, p=0.2)
    """

    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False

    eta: float = 0.1  # step size
    p: float = 0.2  # probability of an average

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise ScenarioError("a probability above 0 and at most 1: without averages the nodes stay apart",
                                field="algorithm.p", value=self.p)  # fmt: skip

    def program(self, node: Node) -> Program:
        x, h = node.initial("x"), node.zeros()
        for _ in node.rounds():
            g = yield node.gradient(x)
            x = x - self.eta * (g - h)
            if node.coin(self.p):
                before, x = x, (yield node.average(x - (self.eta / self.p) * h))
                h = h + (self.p / self.eta) * (x - before)
            node.report(x=x)
