"""Local SGD: several steps on one's own data, then an average. Every node holds data and takes part as a peer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.node import Node


@dataclass(frozen=True)
class LocalSGD(Algorithm):
    """H local steps at each of K sampled nodes, then an average.

    Each round, for a sample S of K nodes that hold the same x:

        x_i <- x_i - eta g_i(x_i)          H times, for i in S
        x_i <- (1/K) sum_{j in S} x_j      for the i to whom the average goes

    Shapes: x_i and g_i (d,).

    Args:
        eta: step size.
        steps: H, local steps between two averages.
        clients: K, nodes that take part in a round, drawn anew each round without replacement; None for all.
        deliver: who gets the average: `all` nodes, or the `next` round's sample alone. With `next` the others hold old
            models, and so does the mean that the record's metrics are taken on.

    Sends, per round, of b-byte numbers: d b from each of the K up to the server of the collective and d b down to each
    node that gets the average (the server itself excepted): 2 (N - 1) d b if all take part.
    Mixes over no topology. A collective is always reliable, so nothing stands in for a missing message.
    Reference: Stich, "Local SGD converges fast and communicates little", ICLR 2019; sampling as in McMahan et al.,
    AISTATS 2017. `FedAvg` is the form with a server that holds no data.

    >>> LocalSGD(eta=0.05, steps=5)
    LocalSGD(eta=0.05, steps=5, clients=None, deliver='all')
    """

    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False

    eta: float = 0.1  # step size
    steps: int = 1  # H, local steps a round
    clients: int | None = None  # K, sampled each round; None: all
    deliver: Literal["all", "next"] = "all"  # who gets the average

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ScenarioError("a round has at least 1 local step", field="algorithm.steps", value=self.steps)

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        chosen = node.sample(k=self.clients)
        for _ in node.rounds():
            for _ in range(self.steps):
                g = yield node.gradient(x, among=chosen)
                x = x - self.eta * g
            following = node.sample(k=self.clients)
            x = yield node.average(x, among=chosen, to="all" if self.deliver == "all" else following)
            chosen = following
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int | None:
        return 2 * (nodes - 1) * dim if self.clients is None else None
