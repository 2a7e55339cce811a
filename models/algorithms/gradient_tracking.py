"""Gradient tracking: every node follows the mean gradient, so different data no longer bias the limit."""

from __future__ import annotations

from dataclasses import dataclass

from simnet.algorithm import Algorithm, Program
from simnet.node import Node


@dataclass(frozen=True)
class GradientTracking(Algorithm):
    """Gradient tracking, adapt then combine, with iterate and tracker in one message.

        y_i <- y_i + g_i(x_i) - g_i(previous x_i)           (at first y_i = g_i)
        x_i <- sum_j W_ij (x_j - eta y_j)
        y_i <- sum_j W_ij y_j

    The mean of the y_i equals the mean of the g_i at all times, while nothing is lost: exact under a constant step.
    In rows, with Y taken before its mixing: X+ = W (X - eta Y), Y+ = W Y + G+ - G, Y_0 = G_0. Shapes: x_i, y_i, g_i
    (d,). W: doubly stochastic, directed or not.

    Args:
        eta: step size.
        deadline_s: simulated seconds after which a node mixes with what has arrived; by default it waits for all.

    Reports `tracker` y (mixed) and `estimate` g, whose means must agree.
    Sends, per round: 2 d b to each neighbour in one message, for b-byte numbers.
    A missing message counts as the node's own rows (`missing="self"`): both are states. The tracked mean is then wrong
    for ever, by what was lost: the limit is near the optimum and no longer at it.
    References: Di Lorenzo and Scutari, "NEXT", IEEE Trans. Signal and Information Processing over Networks 2(2),
    2016 (this order of step and mixing); Pu and Nedic, "Distributed stochastic gradient tracking methods", Math.
    Programming 187, 2021 (stochastic gradients).
    Departs: DSGT of Pu and Nedic mixes Y + G+ - G in place of adding the difference after the mixing; that is
    `AugDGM`, whose tracker is W times this one and which therefore needs a second message. `DIGing` mixes x before
    the step.

    >>> GradientTracking(eta=0.05)
    GradientTracking(eta=0.05, deadline_s=None)
    """

    eta: float = 0.1  # step size
    deadline_s: float | None = None  # seconds a node waits for messages; None: for all of them

    def program(self, node: Node) -> Program:
        x, y, before = node.initial("x"), node.zeros(), node.zeros()
        for _ in node.rounds():
            g = yield node.gradient(x)
            y = y + g - before
            before = g
            x, y = yield node.gossip(x - self.eta * y, y, deadline_s=self.deadline_s)
            node.report(x=x, tracker=y, estimate=g)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return 2 * edges * dim
