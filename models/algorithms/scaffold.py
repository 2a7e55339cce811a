"""SCAFFOLD: local steps corrected by control variates, so that different data no longer pull the nodes apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.node import Node


@dataclass(frozen=True)
class SCAFFOLD(Algorithm):
    """H corrected local steps at each of K sampled nodes, then an average of models and control variates.

    Each round, for a sample S of K of the N nodes, all of which hold the same x and c:

        y_i  = x;  H times  y_i <- y_i - eta (g_i(y_i) - c_i + c)           for i in S
        c_i' = c_i - c + (x - y_i) / (H eta)                                for i in S
        x   <- (1/K) sum_{i in S} y_i
        c   <- c + (1/N) sum_{i in S} (c_i' - c_i);    c_i <- c_i'

    c_i follows node i's gradient and c their mean. Exact under a constant step. Shapes: x, y_i, c, c_i, g_i (d,).

    Args:
        eta: step size of the local steps.
        steps: H, local steps a round.
        clients: K, nodes that take part in a round, drawn anew each round without replacement; None for all.

    Sends, per round, of b-byte numbers: 2 d b from each of the K up to the server of the collective and 2 d b down to
    every node (the server itself excepted): 4 (N - 1) d b if all take part.
    Mixes over no topology. A collective is always reliable, so nothing stands in for a missing message: a lost change
    of c_i would leave c wrong for ever.
    Reference: Karimireddy, Kale, Mohri, Reddi, Stich and Suresh, ICML 2020, algorithm 1, option II, with server step 1.
    Departs: peers with data and an average in place of a server without; every node gets x and c in every round, where
    the paper sends them to the next sample alone.

    >>> SCAFFOLD(eta=0.05, steps=5)
    SCAFFOLD(eta=0.05, steps=5, clients=None)
    """

    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False

    eta: float = 0.1  # step size
    steps: int = 1  # H, local steps a round
    clients: int | None = None  # K, sampled each round; None: all

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ScenarioError("a round has at least 1 local step", field="algorithm.steps", value=self.steps)

    def program(self, node: Node) -> Program:
        x, c, own = node.initial("x"), node.zeros(), node.zeros()
        nodes = len(node.sample().hosts)
        for _ in node.rounds():
            chosen = node.sample(k=self.clients)
            y = x
            for _ in range(self.steps):
                g = yield node.gradient(y, among=chosen)
                y = y - self.eta * (g - own + c)
            change = chosen.mask * ((x - y) / (self.steps * self.eta) - c)  # c_i' - c_i, and none outside the sample
            own = own + change
            x, mean = yield node.average(y, change, among=chosen)
            c = c + (len(chosen.hosts) / nodes) * mean
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int | None:
        return 4 * (nodes - 1) * dim if self.clients is None else None
