"""DeepSqueeze: compressed gossip that feeds its own compression errors back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.compressor import Compressor
from simnet.models.compressors.shipped import Identity
from simnet.node import Node


@dataclass(frozen=True)
class DeepSqueeze(Algorithm):
    """v_i = x_i - eta g_i + e_i, m_i = C(v_i), e_i <- v_i - m_i, x_i <- x_i - eta g_i + gamma (sum_j w_ij m_j - m_i).

    Shapes: x_i, m_i and
        g_i    a stochastic gradient of f_i at x_i                        (d,)
        e_i    what compression has kept back so far; 0 at the start      (d,)

    The mean of the x_i moves by gradients alone. The iterates themselves are compressed, not differences that vanish:
    the noise does not die out as in CHOCO.

    Args:
        eta: step size.
        gamma: consensus step size, to be tuned for each compressor.
        compressor: C, one that contracts.

    Sends, per round: C's bits to each neighbour.
    A missing message counts as the node's own (`missing="self"`): that edge is left out of the sum, once.
    Reference: Tang, Lian, Qiu, Yuan, Zhang, Zhang and Liu, 2019, algorithm 1 (arXiv 1907.07346).

    >>> from simnet.models.compressors.shipped import TopK
    >>> DeepSqueeze(eta=0.1, gamma=0.1, compressor=TopK(k=2)).gamma
    0.1
    """

    mixing: ClassVar[str | None] = "symmetric"
    step_sizes: ClassVar[tuple[str, ...]] = ("eta", "gamma")
    contracts: ClassVar[bool] = True

    eta: float = 0.1  # step size
    gamma: float = 1.0  # consensus step size; to be tuned for each compressor
    compressor: Compressor = Identity()

    def program(self, node: Node) -> Program:
        x, e = node.initial("x"), node.zeros()
        for _ in node.rounds():
            g = yield node.gradient(x)
            x = x - self.eta * g
            v = x + e
            m = node.compress(self.compressor, v)
            mixed = yield node.gossip(m, missing="self")
            e = v - m
            x = x + self.gamma * (mixed - m)
            node.report(x=x)
