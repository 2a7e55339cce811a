"""Exact Diffusion: adapt, correct, combine. D2 with a mixing matrix that every symmetric W gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.node import Node


@dataclass(frozen=True)
class ExactDiffusion(Algorithm):
    """Adapt, correct, combine: D2 for any symmetric W.

    With psi_i = x_i before the first round:

        psi_i'  = x_i - eta g_i                              adapt
        phi_i   = psi_i' + x_i - psi_i                       correct
        x_i     <- (phi_i + sum_j W_ij phi_j) / 2            combine
        psi_i   <- psi_i'

    Exact under a constant step while nothing is lost. Shapes: x_i, psi_i, phi_i, g_i (d,).
    W: symmetric, the same every round; (I + W)/2 has no negative eigenvalue, whatever W has.

    Args:
        eta: step size.
        deadline_s: simulated seconds after which a node mixes with what has arrived; by default it waits for all.

    Sends, per round: d b to each neighbour, for b-byte numbers.
    A missing message counts as the node's own row (`missing="self"`): what travels is a corrected state. Exactness is
    lost with the first message, as in `D2`.
    Reference: Yuan, Ying, Zhao and Sayed, "Exact diffusion for distributed optimization and learning, part I", IEEE
    Trans. Signal Processing 67(3), 2019, algorithm 1.
    Departs: symmetric W and one step size; the paper also has left-stochastic weights.

    >>> ExactDiffusion(eta=0.05)
    ExactDiffusion(eta=0.05, deadline_s=None)
    """

    mixing: ClassVar[str | None] = "symmetric"

    eta: float = 0.1  # step size
    deadline_s: float | None = None  # seconds a node waits for messages; None: for all of them

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        psi = x
        for _ in node.rounds():
            g = yield node.gradient(x)
            adapted = x - self.eta * g
            phi = adapted + x - psi
            psi = adapted
            x = (phi + (yield node.gossip(phi, deadline_s=self.deadline_s))) / 2
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return edges * dim
