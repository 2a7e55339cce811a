"""CHOCO-Gossip: averaging with compressed differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.compressor import Compressor
from simnet.models.compressors.shipped import Identity
from simnet.node import Node


@dataclass(frozen=True)
class ChocoGossip(Algorithm):
    """Q times a round: m_i = C(x_i - z_i), s_i += sum_j w_ij m_j, z_i += m_i, x_i += gamma (s_i - z_i).

    Shapes: x_i, m_i and
        z_i    the public copy of x_i, which all neighbours know; 0 at the start      (d,)
        s_i    sum_j w_ij z_j, one's own included: S = W Z always                     (d,)

    No gradient is taken: what is averaged are the first points, so give nodes points of their own (`problem:
    {start_std: 1}`). Their mean never moves, and all x_i tend to it for any C that contracts if gamma is small enough:
    e_t <= (1 - delta^2 omega / 82)^t e_0, delta the spectral gap of W, e = sum_i |x_i - mean|^2 + |x_i - z_i|^2.

    Args:
        gamma: consensus step size, to be tuned for each compressor; 1 for identity.
        Q: gossip steps in a round.
        compressor: C, one that contracts.

    Sends, per round: Q times C's bits to each neighbour.
    A missing message counts as zero (`missing="zero"`), and nothing makes up for it, as in `DeLiCoCo`.
    Reference: Koloskova, Stich and Jaggi, ICML 2019, algorithm 1 (arXiv 1902.00340).

    >>> from simnet.models.compressors.shipped import TopK
    >>> ChocoGossip(gamma=0.15, compressor=TopK(fraction=0.1)).gamma
    0.15
    """

    mixing: ClassVar[str | None] = "symmetric"
    step_sizes: ClassVar[tuple[str, ...]] = ("gamma",)
    contracts: ClassVar[bool] = True
    lost_for_good: ClassVar[str] = "S then differs from W Z for ever, and the nodes agree on another mean or on none"

    gamma: float = 1.0  # consensus step size; to be tuned for each compressor, 1 for identity
    Q: int = 1  # gossip steps in a round
    compressor: Compressor = Identity()

    def program(self, node: Node) -> Program:
        x, z, s = node.initial("x"), node.zeros(), node.zeros()
        for _ in node.rounds():
            for _ in range(self.Q):
                m = node.compress(self.compressor, x - z)
                s = s + (yield node.gossip(m, missing="zero"))
                z = z + m
                x = x + self.gamma * (s - z)
            node.report(x=x, z=z, s=s)
