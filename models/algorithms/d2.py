"""D2: differences of successive iterates remove the bias of different data, at the bytes of D-PSGD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.node import Node


@dataclass(frozen=True)
class D2(Algorithm):
    """Differences of successive iterates and gradients, mixed once a round.

        x_i <- sum_j W_ij (2 x_j - x_j' - eta (g_j - g_j')),    ' marking the round before

    The first round is one of D-PSGD, x_i <- sum_j W_ij (x_j - eta g_j), which is the same line with x' = x, g' = 0.
    Exact under a constant step while nothing is lost. Shapes: x_i and g_i (d,).
    W: symmetric, the same every round, with lambda_min > -1/3. A ring of even length with Metropolis weights stands
    at -1/3: take `mixing: lazy` there, or `ExactDiffusion`, which makes any symmetric W fit.

    Args:
        eta: step size.
        deadline_s: simulated seconds after which a node mixes with what has arrived; by default it waits for all.

    Sends, per round: d b to each neighbour, for b-byte numbers.
    A missing message counts as the node's own row (`missing="self"`): what travels is a state extrapolated. Exactness
    is lost with the first message, and the differences carry the error on.
    Reference: Tang, Lian, Yan, Zhang and Liu, ICML 2018, algorithm 1.

    >>> D2(eta=0.05)
    D2(eta=0.05, deadline_s=None)
    """

    mixing: ClassVar[str | None] = "symmetric"

    eta: float = 0.1  # step size
    deadline_s: float | None = None  # seconds a node waits for messages; None: for all of them

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        x_before, g_before = x, node.zeros()
        for _ in node.rounds():
            g = yield node.gradient(x)
            z = 2 * x - x_before - self.eta * (g - g_before)
            x_before, g_before = x, g
            x = yield node.gossip(z, deadline_s=self.deadline_s)
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return edges * dim
