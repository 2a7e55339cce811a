"""Aug-DGM: gradient tracking that mixes the iterate and the tracker after their steps, in two messages."""

from __future__ import annotations

from dataclasses import dataclass

from simnet.algorithm import Algorithm, Program
from simnet.node import Node


@dataclass(frozen=True)
class AugDGM(Algorithm):
    """Gradient tracking, adapt then combine for both iterate and tracker, in two messages.

        x_i <- sum_j W_ij (x_j - eta y_j)
        y_i <- sum_j W_ij (y_j + g_j(new x_j) - g_j(old x_j))        (at first y_i = g_i)

    In rows: X+ = W (X - eta Y), Y+ = W (Y + G+ - G), Y_0 = G_0. The new gradient rests on the first message and the
    second message on the new gradient, so the two cannot be joined; `GradientTracking` is the form with one. Exact
    under a constant step while nothing is lost. Shapes: x_i, y_i, g_i (d,). W: doubly stochastic, directed or not.

    Args:
        eta: step size.
        deadline_s: simulated seconds, for each of the two messages, after which a node mixes with what has arrived;
            by default it waits for all.

    Reports `tracker` y and `estimate` g, whose means must agree.
    Sends, per round: two messages of d b to each neighbour, for b-byte numbers, and one gradient before the first.
    A missing message counts as the node's own row (`missing="self"`), the iterate's and the tracker's each for itself.
    Reference: Xu, Zhu, Soh and Xie, "Augmented distributed gradient methods for multi-agent optimization under
    uncoordinated constant stepsizes", IEEE CDC 2015; also called ATC-DIGing, and with stochastic gradients DSGT.
    Departs: one step size for all nodes where the paper lets each choose.

    >>> AugDGM(eta=0.05)
    AugDGM(eta=0.05, deadline_s=None)
    """

    eta: float = 0.1  # step size
    deadline_s: float | None = None  # seconds a node waits for messages; None: for all of them

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        g = yield node.gradient(x)
        y = g
        for _ in node.rounds():
            x = yield node.gossip(x - self.eta * y, deadline_s=self.deadline_s)
            before, g = g, (yield node.gradient(x))
            y = yield node.gossip(y + g - before, deadline_s=self.deadline_s)
            node.report(x=x, tracker=y, estimate=g)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return 2 * edges * dim
