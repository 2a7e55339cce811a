"""DCD-PSGD: D-PSGD that sends compressed differences of its own iterates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.compressor import Compressor
from simnet.models.compressors.shipped import Identity
from simnet.node import Node


@dataclass(frozen=True)
class DCDPSGD(Algorithm):
    """m_i = C(s_i - eta g_i - x_i), then x_i += m_i and s_i += sum_j w_ij m_j, with s_i = sum_j w_ij x_j always.

    Shapes: x_i, m_i and
        g_i    a stochastic gradient of f_i at x_i                             (d,)
        s_i    the mix that D-PSGD would make; every neighbour knows x_i       (d,)

    Nodes move by what they send, so neighbours know the x_i exactly, and the noise of C goes into the iterates: C must
    be unbiased, and its noise small against the spectral gap.

    Args:
        eta: step size.
        compressor: C, unbiased.

    Sends, per round: C's bits to each neighbour; before the first x itself, d numbers.
    A missing message counts as zero (`missing="zero"`), and nothing makes up for it.
    Reference: Tang, Gan, Zhang, Zhang and Liu, NeurIPS 2018, algorithm 1 (arXiv 1803.06443).
    Departs: the paper begins with equal x_i and sends nothing before the first round.

    >>> from simnet.models.compressors.shipped import UnbiasedQSGD
    >>> DCDPSGD(eta=0.1, compressor=UnbiasedQSGD(levels=127)).eta
    0.1
    """

    mixing: ClassVar[str | None] = "symmetric"
    unbiased: ClassVar[bool] = True
    lost_for_good: ClassVar[str] = "what neighbours know of its x_i is wrong from then on"

    eta: float = 0.1  # step size
    compressor: Compressor = Identity()

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        s = yield node.gossip(x)
        for _ in node.rounds():
            g = yield node.gradient(x)
            m = node.compress(self.compressor, s - self.eta * g - x)
            s = s + (yield node.gossip(m, missing="zero"))
            x = x + m
            node.report(x=x)
