"""Decentralized SGD: a local step and one gossip step, every round."""

from __future__ import annotations

from dataclasses import dataclass

from simnet.algorithm import Algorithm, Program
from simnet.node import Node


@dataclass(frozen=True)
class DPSGD(Algorithm):
    """Decentralized SGD, adapt then combine: a local step, then one gossip step.

        x_i <- sum_j W_ij (x_j - eta g_j),    g_j a stochastic gradient of f_j at x_j

    Shapes: x_i and g_i (d,). With a constant step it stops at a distance of order eta from the optimum, larger the
    more the f_i differ (W: doubly stochastic).

    Args:
        eta: step size.
        deadline_s: simulated seconds after which a node mixes with what has arrived; by default it waits for all.

    Sends, per round: d b to each neighbour, for b-byte numbers.
    A missing message counts as the node's own row (`missing="self"`): W stays row stochastic but not column
    stochastic, a mild bias, and always stable.
    Reference: Lian et al., NeurIPS 2017, algorithm 1; the order of step and mixing is that of Chen and Sayed, IEEE
    Trans. Signal Processing 60(8), 2012 (ATC diffusion).
    Departs: the paper mixes first and subtracts the step from the mixed iterate; `DPSGDOverlap` is that form.

    >>> DPSGD(eta=0.05)
    DPSGD(eta=0.05, deadline_s=None)
    """

    eta: float = 0.1  # step size
    deadline_s: float | None = None  # seconds a node waits for messages; None: for all of them

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            g = yield node.gradient(x)
            x = yield node.gossip(x - self.eta * g, deadline_s=self.deadline_s)
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return edges * dim
