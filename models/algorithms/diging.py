"""DIGing: gradient tracking that mixes first and steps afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from simnet.algorithm import Algorithm, Program
from simnet.node import Node


@dataclass(frozen=True)
class DIGing(Algorithm):
    """Gradient tracking, combine then adapt, with iterate and tracker in one message.

        x_i <- sum_j W_ij x_j - eta y_i
        y_i <- sum_j W_ij y_j + g_i(new x_i) - g_i(old x_i)          (at first y_i = g_i)

    In rows: X+ = W X - eta Y, Y+ = W Y + G+ - G, Y_0 = G_0. The mean of the y_i equals the mean of the g_i at all
    times, while nothing is lost: exact under a constant step. Shapes: x_i, y_i, g_i (d,). W: doubly stochastic,
    directed or not, the same or changing.

    Args:
        eta: step size.
        deadline_s: simulated seconds after which a node mixes with what has arrived; by default it waits for all.

    Reports `tracker` y (mixed) and `estimate` g, whose means must agree.
    Sends, per round: 2 d b to each neighbour in one message, for b-byte numbers.
    A missing message counts as the node's own rows (`missing="self"`): both are states. The tracked mean is then wrong
    for ever, by what was lost.
    Reference: Nedic, Olshevsky and Shi, SIAM J. Optimization 27(4), 2017, algorithm 1.
    Departs: gradients may be stochastic.

    >>> DIGing(eta=0.05)
    DIGing(eta=0.05, deadline_s=None)
    """

    eta: float = 0.1  # step size
    deadline_s: float | None = None  # seconds a node waits for messages; None: for all of them

    def program(self, node: Node) -> Program:
        x, y, before = node.initial("x"), node.zeros(), node.zeros()
        for _ in node.rounds():
            g = yield node.gradient(x)
            own = y + g - before
            before = g
            x, y = yield node.gossip(x, own, deadline_s=self.deadline_s)
            x = x - self.eta * own
            node.report(x=x, tracker=y, estimate=g)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return 2 * edges * dim
