"""CHOCO-SGD: stochastic gradients, and one compressed gossip step after each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.compressor import Compressor
from simnet.models.compressors.shipped import Identity
from simnet.node import Node


@dataclass(frozen=True)
class ChocoSGD(Algorithm):
    """x_i <- x_i - eta_t g_i, then m_i = C(x_i - z_i), s_i += sum_j w_ij m_j, z_i += m_i, x_i += gamma (s_i - z_i).

    Shapes: x_i, m_i and
        g_i      a stochastic gradient of f_i at x_i                                                   (d,)
        z_i      the public copy of x_i, which all neighbours know; 0 at the start                     (d,)
        s_i      sum_j w_ij z_j, one's own included: S = W Z always                                    (d,)
        eta_t    eta, or eta / (1 + t / decay_rounds)

    The paper's step 4 / (mu (a + t)) is eta = 4 / (mu a) with decay_rounds = a. It is DeLi-CoCo with Q = 1 and
    stochastic gradients; with full ones the literature calls it CHOCO-GD.

    Args:
        eta: first step size.
        gamma: consensus step size, to be tuned for each compressor; 1 for identity.
        decay_rounds: rounds after which the step is half the first; None: it is constant.
        compressor: C, one that contracts.

    Sends, per round: C's bits to each neighbour.
    A missing message counts as zero (`missing="zero"`), and nothing makes up for it, as in `DeLiCoCo`.
    Reference: Koloskova, Stich and Jaggi, ICML 2019, algorithm 2 (arXiv 1902.00340).
    Departs: the authors' convex code mixes with the old public copies first, then compresses the new difference, and
    begins with z_i = x_i.

    >>> from simnet.models.compressors.shipped import QSGD
    >>> ChocoSGD(eta=0.5, gamma=0.34, decay_rounds=100, compressor=QSGD(levels=7)).decay_rounds
    100
    """

    mixing: ClassVar[str | None] = "symmetric"
    step_sizes: ClassVar[tuple[str, ...]] = ("eta", "gamma", "decay_rounds")
    contracts: ClassVar[bool] = True
    lost_for_good: ClassVar[str] = "S then differs from W Z for ever, and the mean drifts"

    eta: float = 0.1  # first step size
    gamma: float = 1.0  # consensus step size; to be tuned for each compressor, 1 for identity
    decay_rounds: float | None = None  # rounds after which the step is half the first; None: it is constant
    compressor: Compressor = Identity()

    def program(self, node: Node) -> Program:
        x, z, s = node.initial("x"), node.zeros(), node.zeros()
        for t in node.rounds():
            eta = self.eta if self.decay_rounds is None else self.eta / (1.0 + t / self.decay_rounds)
            g = yield node.gradient(x)
            x = x - eta * g
            m = node.compress(self.compressor, x - z)
            s = s + (yield node.gossip(m, missing="zero"))
            z = z + m
            x = x + self.gamma * (s - z)
            node.report(x=x)
