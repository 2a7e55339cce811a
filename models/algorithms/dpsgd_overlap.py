"""Decentralized SGD whose messages travel while the gradient is computed."""

from __future__ import annotations

from dataclasses import dataclass

from simnet.algorithm import Algorithm, Program
from simnet.node import Node


@dataclass(frozen=True)
class DPSGDOverlap(Algorithm):
    """Decentralized SGD, combine then adapt: the messages travel while the gradients are computed.

        x_i <- sum_j W_ij x_j - eta g_i,    g_i a stochastic gradient of f_i at x_i

    Mixing and gradient start from the same x_i, so the message leaves before the gradient begins and a round lasts as
    long as the longer of the two. Shapes: x_i and g_i (d,). W: doubly stochastic.

    Args:
        eta: step size.
        deadline_s: simulated seconds, counted from the start of the round and so from that of the gradient, after
            which a node mixes with what has arrived; by default it waits for all.

    Sends, per round: d b to each neighbour, for b-byte numbers.
    A missing message counts as the node's own row (`missing="self"`): a mild bias, as in `DPSGD`.
    Reference: Lian et al., NeurIPS 2017, algorithm 1 (which notes that its two steps can run in parallel).
    Departs: nothing. The bias under a constant step is a little larger than that of `DPSGD`, which mixes the step too.

    >>> DPSGDOverlap(eta=0.05)
    DPSGDOverlap(eta=0.05, deadline_s=None)
    """

    eta: float = 0.1  # step size
    deadline_s: float | None = None  # seconds a node waits for messages; None: for all of them

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            sent = node.start(node.gossip(x, deadline_s=self.deadline_s))
            g = yield node.gradient(x)
            x = (yield sent) - self.eta * g
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return edges * dim
