"""EXTRA: a correction by the difference of two mixing matrices makes decentralized gradient descent exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.node import Node


@dataclass(frozen=True)
class EXTRA(Algorithm):
    """Gradient descent with mixing, and the difference of two rounds of it.

        first:  x_i <- sum_j W_ij x_j - eta g_i
        then:   x_i <- x_i + sum_j W_ij x_j - (x_i' + sum_j W_ij x_j')/2 - eta (g_i - g_i'),    ' the round before

    The first is the second with (x' + W x')/2 = x and g' = 0. Exact under a constant step while nothing is lost.
    Shapes: x_i and g_i (d,). W: symmetric, the same every round.

    Args:
        eta: step size.
        deadline_s: simulated seconds after which a node mixes with what has arrived; by default it waits for all.

    Sends, per round: d b to each neighbour, for b-byte numbers, while the gradient is computed: both rest on the same
    x. A node keeps its last mixed x, so one message is enough.
    A missing message counts as the node's own row (`missing="self"`): what travels is a state. Exactness is lost with
    the first message, and the differences carry the error on; here more than in any other exact method shipped.
    Reference: Shi, Ling, Wu and Yin, SIAM J. Optimization 25(2), 2015, algorithm 1, the second matrix being
    (I + W)/2.
    Departs: gradients may be stochastic.

    >>> EXTRA(eta=0.05)
    EXTRA(eta=0.05, deadline_s=None)
    """

    mixing: ClassVar[str | None] = "symmetric"

    eta: float = 0.1  # step size
    deadline_s: float | None = None  # seconds a node waits for messages; None: for all of them

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        half, before = x, node.zeros()  # (x' + W x')/2 and g' of the round before
        for _ in node.rounds():
            sent = node.start(node.gossip(x, deadline_s=self.deadline_s))
            g = yield node.gradient(x)
            both = x + (yield sent)
            x = both - half - self.eta * (g - before)
            half, before = both / 2, g
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return edges * dim
