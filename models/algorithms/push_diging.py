"""Push-DIGing: gradient tracking on directed graphs, by push-sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.node import Node


@dataclass(frozen=True)
class PushDIGing(Algorithm):
    """Gradient tracking with weights that each sender splits, in one message.

        u_i <- sum_j P_ij (u_j - eta y_j),    w_i <- sum_j P_ij w_j,    x_i = u_i / w_i
        y_i <- sum_j P_ij y_j + g_i(new x_i) - g_i(old x_i)                (at first y_i = g_i)

    At first u_i = x, w_i = 1. P_ij = 1/(1 + out-degree of j), for j's out-neighbours and j itself: any directed
    graph, the same or changing. Exact under a constant step while nothing is lost. Shapes: u_i, x_i, y_i, g_i (d,),
    w_i (1,).

    Args:
        eta: step size; on directed graphs smaller than `DIGing` would bear.
        deadline_s: simulated seconds after which a node goes on with what has arrived; by default it waits for all.

    Reports `tracker` y (mixed) and `estimate` g, whose means must agree.
    Sends, per round: (2 d + 1) b to each out-neighbour in one message, for b-byte numbers.
    A missing message counts as nothing (`missing="zero"`): what travels are shares of sums. What is lost is lost for
    ever: u and w shrink together, but the tracked mean is wrong by what y lost.
    Reference: Nedic, Olshevsky and Shi, SIAM J. Optimization 27(4), 2017, algorithm 2.
    Departs: gradients may be stochastic; weights are always equal shares, whatever the scenario's `mixing`.

    >>> PushDIGing(eta=0.02)
    PushDIGing(eta=0.02, deadline_s=None)
    """

    mixing: ClassVar[str | None] = "column_stochastic"
    keeps_mean: ClassVar[bool] = False  # the mean of the u_i is kept, that of the x_i is not

    eta: float = 0.02  # step size
    deadline_s: float | None = None  # seconds a node waits for messages; None: for all of them

    def program(self, node: Node) -> Program:
        u, w = node.initial("x"), node.zeros((1,)) + 1.0
        x, y, before = u, node.zeros(), node.zeros()
        for _ in node.rounds():
            g = yield node.gradient(x)
            y = y + g - before
            before = g
            u, w, y = yield node.gossip(
                u - self.eta * y, w, y, weights="sender", missing="zero", deadline_s=self.deadline_s
            )
            x = u / w
            node.report(x=x, tracker=y, estimate=g)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return edges * (2 * dim + 1)
