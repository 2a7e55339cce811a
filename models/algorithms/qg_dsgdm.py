"""Quasi-global momentum: momentum along what the iterate did after mixing, and not along one's own gradients."""

from __future__ import annotations

from dataclasses import dataclass

from simnet.algorithm import Algorithm, Program
from simnet.node import Node


@dataclass(frozen=True)
class QGDSGDm(Algorithm):
    """Decentralized SGD with momentum taken from the difference of successive mixed iterates.

        x_i' <- sum_j W_ij (x_j - eta (beta m_j + g_j))
        m_i  <- mu m_i + (1 - mu) (x_i - x_i') / eta
        x_i  <- x_i'

    The difference holds what the neighbours did too, so m_i follows the global direction, and momentum does not
    multiply the bias of different data as it does in `DSGDm`. Shapes: x_i, m_i, g_i (d,). W: doubly stochastic.

    Args:
        eta: step size.
        beta: how far a step follows the momentum.
        mu: how much of the momentum is kept in a round.
        deadline_s: simulated seconds after which a node mixes with what has arrived; by default it waits for all.

    Sends, per round: d b to each neighbour, for b-byte numbers; m stays at its node.
    A missing message counts as the node's own row (`missing="self"`): a mild bias, as in `DPSGD`.
    Reference: Lin, Karimireddy, Stich and Jaggi, "Quasi-global momentum: accelerating decentralized deep learning on
    heterogeneous data", ICML 2021, algorithm 1 (QG-DSGDm).
    Departs: nothing; without the Nesterov variant (QG-DSGDm-N).

    >>> QGDSGDm(eta=0.05)
    QGDSGDm(eta=0.05, beta=0.9, mu=0.9, deadline_s=None)
    """

    eta: float = 0.1  # step size
    beta: float = 0.9  # weight of the momentum in a step
    mu: float = 0.9  # what is kept of the momentum
    deadline_s: float | None = None  # seconds a node waits for messages; None: for all of them

    def program(self, node: Node) -> Program:
        x, m = node.initial("x"), node.zeros()
        for _ in node.rounds():
            g = yield node.gradient(x)
            before, x = x, (yield node.gossip(x - self.eta * (self.beta * m + g), deadline_s=self.deadline_s))
            m = self.mu * m + ((1 - self.mu) / self.eta) * (before - x)
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return edges * dim
