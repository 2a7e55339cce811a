"""Decentralized SGD with heavy-ball momentum at every node."""

from __future__ import annotations

from dataclasses import dataclass

from simnet.algorithm import Algorithm, Program
from simnet.node import Node


@dataclass(frozen=True)
class DSGDm(Algorithm):
    """A momentum step with one's own gradients, then one gossip step.

        m_i <- beta m_i + g_i(x_i)
        x_i <- sum_j W_ij (x_j - eta m_j)

    The effective step is eta/(1 - beta), and so is the distance at which different data keep it from the optimum:
    momentum multiplies the bias of `DPSGD`. `QGDSGDm` does not. Shapes: x_i, m_i, g_i (d,). W: doubly stochastic.

    Args:
        eta: step size.
        beta: momentum; 0 gives `DPSGD`.
        deadline_s: simulated seconds after which a node mixes with what has arrived; by default it waits for all.

    Sends, per round: d b to each neighbour, for b-byte numbers; m stays at its node.
    A missing message counts as the node's own row (`missing="self"`): a mild bias, as in `DPSGD`.
    Reference: Lin, Karimireddy, Stich and Jaggi, "Quasi-global momentum", ICML 2021 (there the baseline DSGDm); local
    momentum with gossip also in Assran et al., ICML 2019.
    Departs: nothing; without Nesterov's extrapolation.

    >>> DSGDm(eta=0.05)
    DSGDm(eta=0.05, beta=0.9, deadline_s=None)
    """

    eta: float = 0.1  # step size
    beta: float = 0.9  # momentum
    deadline_s: float | None = None  # seconds a node waits for messages; None: for all of them

    def program(self, node: Node) -> Program:
        x, m = node.initial("x"), node.zeros()
        for _ in node.rounds():
            g = yield node.gradient(x)
            m = self.beta * m + g
            x = yield node.gossip(x - self.eta * m, deadline_s=self.deadline_s)
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return edges * dim
