"""Stochastic gradient push: push-sum for directed graphs, with running sums where messages are lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.lazy import torch
from simnet.node import Node


@dataclass(frozen=True)
class SGP(Algorithm):
    """A local step and one push-sum step, every round: each sender splits, and a weight w says what it gave away.

        u_i <- sum_j P_ij (u_j - eta g_j(z_j)),    w_i <- sum_j P_ij w_j,    z_i = u_i / w_i

    At first u_i = x, w_i = 1. P_ij = 1/(1 + out-degree of j) for j's out-neighbours and j itself: columns sum to one
    on any directed graph, the same or changing, and the sum of the u_i moves by gradients alone. z_i is the iterate.
    Shapes: u_i, z_i and g_i (d,), w_i (1,). On a regular graph w stays 1.

    With `running_sums` every message carries the total S_j of all that j has ever sent on that edge, and the receiver
    adds what is new in it, S_j less the last total it heard: a later message repairs all earlier losses, exactly.

    Args:
        eta: step size.
        running_sums: send totals; needs a topology that stays the same, and (d + 1) numbers of memory for each
            in-neighbour. Totals grow with the rounds and their differences do not: float64 is the dtype for long runs.
        deadline_s: simulated seconds after which a node goes on with what has arrived; by default it waits for all.

    Reports x = z.
    Sends, per round: (d + 1) b to each out-neighbour, for b-byte numbers. A receiver of totals must know old from
    new, by the exchange's number; those few bytes belong to `header_bytes`.
    A missing message counts as nothing (`missing="zero"`): what travels is a share of a sum, and a receiver that put
    its own in its place would make it twice. The lost share is lost for ever in u and w alike: the limit is biased
    towards nodes that lost little, and w shrinks until it underflows. With `running_sums` the last total heard stands
    in (a Value, at first zero; not `stale`, which starts from the node's own), so that nothing is new in it.
    References: Assran, Loizou, Ballas and Rabbat, ICML 2019, algorithm 1; Hadjicostis, Vaidya and Dominguez-Garcia,
    "Robust distributed average consensus via exchange of running sums", IEEE Trans. Automatic Control 61(6), 2016.
    Departs: weights are always equal shares, whatever the scenario's `mixing`; running sums hold u and w together and
    take a step with a gradient in every round, where the second paper averages alone.

    >>> SGP(eta=0.05)
    SGP(eta=0.05, running_sums=False, deadline_s=None)
    """

    mixing: ClassVar[str | None] = "column_stochastic"
    keeps_mean: ClassVar[bool] = False  # the mean of the u_i is kept, that of the z_i is not

    eta: float = 0.1  # step size
    running_sums: bool = False  # send totals, which a later message repairs
    deadline_s: float | None = None  # seconds a node waits for messages; None: for all of them

    def program(self, node: Node) -> Program:
        return self._sums(node) if self.running_sums else self._plain(node)

    def _plain(self, node: Node) -> Program:
        u, w = node.initial("x"), node.zeros((1,)) + 1.0
        z = u
        for _ in node.rounds():
            u = u - self.eta * (yield node.gradient(z))
            u, w = yield node.gossip(u, w, weights="sender", missing="zero", deadline_s=self.deadline_s)
            z = u / w
            node.report(x=z)

    def _sums(self, node: Node) -> Program:
        u: Any = node.initial("x")  # torch's own types know tensors only
        w: Any = node.zeros((1,)) + 1.0
        z = u
        shares = 1.0 + node.degree("out")
        total = node.zeros((*u.shape[:-1], u.shape[-1] + 1))  # S: sent so far to each out-neighbour
        heard = node.zeros((*node.weights("in").shape, *total.shape))  # by in-neighbour
        for _ in node.rounds():
            u = u - self.eta * (yield node.gradient(z))
            share = torch.cat((u, w)) / shares
            total = total + share
            before, heard = heard, (yield node.exchange(total, missing=heard, deadline_s=self.deadline_s))
            both = share + torch.sum(heard - before, 0)
            u, w = both[:-1], both[-1:]
            z = u / w
            node.report(x=z)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return edges * (dim + 1)
