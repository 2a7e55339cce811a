"""All-reduce SGD: the mean of all gradients, and one step with it. The centralised reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.node import Node


@dataclass(frozen=True)
class AllReduceSGD(Algorithm):
    """One common step along the mean of all gradients.

        x <- x - eta (1/N) sum_i g_i,    g_i a stochastic gradient of f_i at the common x

    Shapes: x and g_i (d,). All nodes hold the same x at all times.

    Args:
        eta: step size.

    Sends, per round, of b-byte numbers: with the collective pattern `server`, d b up from and d b down to every node
    but the server, 2 (N - 1) d b in all, each times the hops of its path. Mixes over no topology; the network alone
    must be connected.
    A collective is always reliable: a lost packet is sent again, and everybody waits for it, so nothing ever stands in
    for a missing message.
    Reference: the synchronous minibatch SGD of Chen et al., "Revisiting distributed synchronous SGD", 2016, without
    back-up workers.

    >>> AllReduceSGD(eta=0.05)
    AllReduceSGD(eta=0.05)
    """

    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False

    eta: float = 0.1  # step size

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            g = yield node.gradient(x)
            x = x - self.eta * (yield node.average(g))
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return 2 * (nodes - 1) * dim
