"""Asynchronous decentralized SGD: average with one random neighbour, wait for nobody else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.node import Node


@dataclass(frozen=True)
class ADPSGD(Algorithm):
    """AD-PSGD: a gradient, an atomic average with one random neighbour, then the step.

    At node i, whenever it is free:

        g = g_i(x_i)                       # meanwhile neighbours may average into x_i
        x_i, x_j <- (x_i + x_j) / 2        # j a random neighbour, whatever it is doing
        x_i <- x_i - eta g

    Shapes: x_i and g (d,). No node waits for another's computation: a slow node is only met in the state it is in.

    Args:
        eta: step size.

    Sends, per round and node, of b-byte numbers: d b to the partner and d b back. Nothing stands in for a
    missing message: a meeting that loses one averages at neither node, so the mean of the x_i is kept.
    Reference: Lian, Zhang, Zhang and Liu, ICML 2018, algorithm 1.
    Departs: the paper's bipartite graph avoids deadlock between blocking sends; here a meeting never blocks the
    partner, so any undirected graph will do.

    >>> ADPSGD(eta=0.05)
    ADPSGD(eta=0.05)
    """

    mixing: ClassVar[str | None] = None
    keeps_mean: ClassVar[bool] = False  # what is published keeps it; reports are of different times

    eta: float = 0.1  # step size

    def program(self, node: Node) -> Program:
        node.publish(node.initial("x"))
        for _ in node.rounds():
            g = yield node.gradient(node.published)
            x = yield node.meet()
            node.publish(x - self.eta * g)
            node.report(x=node.published)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return 2 * nodes * dim
