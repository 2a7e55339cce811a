"""Compressed gossip without memory, to show what public copies are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simnet.algorithm import Algorithm, Program
from simnet.compressor import Compressor
from simnet.models.compressors.shipped import Identity
from simnet.node import Node


@dataclass(frozen=True)
class NaiveGossip(Algorithm):
    """x_i <- x_i - eta g_i, then Q times, with m_i = C(x_i):

        replace    x_i <- sum_j w_ij m_j
        diff       x_i <- x_i + gamma (sum_j w_ij m_j - m_i)

    Shapes: x_i and m_i (d,). What is compressed does not vanish as the nodes agree, so neither does the noise:
    `replace` moves the mean too, `diff` keeps it and stalls at a distance, or blows up where gamma is large.

    Args:
        form: see above.
        eta: step size; None: no gradient is taken.
        gamma: consensus step size of `diff`.
        Q: gossip steps in a round.
        compressor: C.

    Sends, per round: Q times C's bits to each neighbour.
    A missing message counts as the node's own (`missing="self"`): that edge is left out of the sum, once.
    Reference: the schemes (Q1) and (Q2) that Koloskova, Stich and Jaggi, ICML 2019, compare with.

    >>> from simnet.models.compressors.shipped import UnbiasedQSGD
    >>> NaiveGossip(form="replace", compressor=UnbiasedQSGD(levels=7)).form
    'replace'
    """

    mixing: ClassVar[str | None] = "symmetric"
    step_sizes: ClassVar[tuple[str, ...]] = ("eta", "gamma")
    keeps_mean: ClassVar[bool] = False

    form: Literal["replace", "diff"] = "diff"  # see above
    eta: float | None = None  # step size; None: no gradient is taken
    gamma: float = 1.0  # consensus step size of `diff`
    Q: int = 1  # gossip steps in a round
    compressor: Compressor = Identity()

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            if self.eta is not None:
                g = yield node.gradient(x)
                x = x - self.eta * g
            for _ in range(self.Q):
                m = node.compress(self.compressor, x)
                mixed = yield node.gossip(m, missing="self")
                x = mixed if self.form == "replace" else x + self.gamma * (mixed - m)
            node.report(x=x)
