"""DeLi-CoCo: several compressed gossip steps between gradient steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.compressor import Compressor
from simnet.models.compressors.shipped import Identity
from simnet.node import Node


@dataclass(frozen=True)
class DeLiCoCo(Algorithm):
    """x_i <- x_i - eta grad f_i(x_i), then Q times m_i = C(x_i - z_i), s_i += sum_j w_ij m_j, z_i += m_i,
    x_i += gamma (s_i - z_i).

    Shapes: x_i, m_i and
        z_i    the public copy of x_i, which all neighbours know       (d,)
        s_i    sum_j w_ij z_j, one's own included: S = W Z always      (d,)

    z and s begin at 0 and are never reset. The mean of the x_i moves by gradients alone, whatever C, Q and gamma. With
    C = identity it is DGD with W_gamma^Q, W_gamma = (1 - gamma) I + gamma W.

    Args:
        eta: step size.
        gamma: consensus step size, to be tuned for each compressor; 1 for identity.
        Q: gossip steps per gradient step.
        compressor: C, one that contracts.

    Sends, per round: Q times C's bits to each neighbour.
    A missing message counts as zero (`missing="zero"`): filling with one's own diverges. Each neighbour must apply
    every m, so after a silent loss S differs from W Z for ever: take `policy: retry`.
    Reference: Hashemi, Acharya, Das, Vikalo, Sanghavi and Dhillon, IEEE TPDS 2022, algorithm 1 (arXiv 2011.10643).

    >>> from simnet.models.compressors.shipped import QSGD
    >>> DeLiCoCo(eta=0.1, gamma=0.6, Q=7, compressor=QSGD(levels=7)).Q
    7
    """

    mixing: ClassVar[str | None] = "symmetric"
    step_sizes: ClassVar[tuple[str, ...]] = ("eta", "gamma")
    contracts: ClassVar[bool] = True
    lost_for_good: ClassVar[str] = "S then differs from W Z for ever, and the mean drifts"

    eta: float = 0.1  # step size
    gamma: float = 1.0  # consensus step size; to be tuned for each compressor, 1 for identity
    Q: int = 1  # gossip steps per gradient step
    compressor: Compressor = Identity()

    def program(self, node: Node) -> Program:
        x, z, s = node.initial("x"), node.zeros(), node.zeros()
        for _ in node.rounds():
            g = yield node.gradient(x)
            x = x - self.eta * g
            for _ in range(self.Q):
                m = node.compress(self.compressor, x - z)
                s = s + (yield node.gossip(m, missing="zero"))
                z = z + m
                x = x + self.gamma * (s - z)
            node.report(x=x, z=z, s=s)
