"""RelaySGD: on a tree, every message carries the sum of all models behind it, so the average is exact in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.lazy import torch
from simnet.node import Node


@dataclass(frozen=True)
class RelaySGD(Algorithm):
    """A local step, then a sum relayed along a tree, every round.

        h_i       = x_i - eta g_i(x_i)
        m_{i->j} <- h_i + sum_{k in N(i), k != j} m_{k->i}        with the m_{k->i} of the round before
        c_{i->j} <- 1 + sum_{k in N(i), k != j} c_{k->i}          likewise: how many models are in it
        x_i      <- (h_i + sum_j m_{j->i} + (n - n_i) x0) / n,    n_i = 1 + sum_j c_{j->i}

    The model of a node at distance r counts with its state r rounds ago, and equally with all others: no mixing
    matrix, and different data leave no bias. Exact under a constant step. Shapes: x_i, h_i, m_{i->j} (d,), c a number;
    x0 is the first point, which stands for models not heard of yet. Needs a tree with n nodes.

    Args:
        eta: step size.
        deadline_s: simulated seconds after which a node goes on with what has arrived; by default it waits for all.

    Sends, per round: (d + 1) b to each neighbour, for b-byte numbers, a message of its own to each.
    A missing message counts as the last one on its edge (the Value of the round before, at first zero with count zero;
    not `stale`, which starts from what the node would itself send): without it a whole subtree would be missing for a
    round, and with it that subtree is one round older.
    Reference: Vogels, He, Koloskova, Karimireddy, Lin, Stich and Jaggi, "RelaySum for decentralized deep learning on
    heterogeneous data", NeurIPS 2021, algorithm 1.
    Departs: nothing; without momentum.

    >>> RelaySGD(eta=0.05)
    RelaySGD(eta=0.05, deadline_s=None)
    """

    mixing: ClassVar[str | None] = None
    tree: ClassVar[bool] = True
    keeps_mean: ClassVar[bool] = False  # models of different age are averaged: exact in the limit alone

    eta: float = 0.1  # step size
    deadline_s: float | None = None  # seconds a node waits for messages; None: for all of them

    def program(self, node: Node) -> Program:
        x: Any = node.initial("x")  # torch's own types know tensors only
        one: Any = node.zeros((1,)) + 1.0
        first, n = x, len(node.sample().hosts)
        m: Any = node.zeros((*node.weights("in").shape, x.shape[-1] + 1))  # by neighbour: the sum, and at the end c
        for _ in node.rounds():
            g = yield node.gradient(x)
            h = torch.cat((x - self.eta * g, one))
            m = yield node.exchange(h + torch.sum(m, 0) - m, missing=m, deadline_s=self.deadline_s)
            s = h + torch.sum(m, 0)
            x = (s[:-1] + (n - s[-1]) * first) / n
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return edges * (dim + 1)
