"""Decentralized gradient descent with several exact gossip steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.node import Node


@dataclass(frozen=True)
class DGD(Algorithm):
    """X <- W^Q (X - eta grad F(X)), rows of X the nodes' x_i.

    Shapes: X (N, d). With a constant step it stops at the fixed point of this map, not at the optimum: f(mean) - f* is
    proportional to |lambda_2|^(2 Q) where the f_i differ and Q is large. With Q = 1 it is `DPSGD`.

    Args:
        eta: step size.
        Q: gossip steps per gradient step.

    Sends, per round: Q d b to each neighbour, for b-byte numbers.
    A missing message counts as the node's own row (`missing="self"`), as in `DPSGD`.
    Reference: Nedic and Ozdaglar, IEEE Trans. Automatic Control 54(1), 2009, with Q = 1; with Q steps Berahas,
    Bollapragada, Keskar and Wei, IEEE Trans. Automatic Control 64(8), 2019 (DGD^t).
    Departs: both mix first and subtract the step from the mixed iterate; here the step comes first, as in DeLi-CoCo.

    >>> DGD(eta=0.1, Q=3)
    DGD(eta=0.1, Q=3)
    """

    whole_numbers: ClassVar[tuple[str, ...]] = ("Q",)

    eta: float = 0.1  # step size
    Q: int = 1  # gossip steps per gradient step

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            g = yield node.gradient(x)
            x = x - self.eta * g
            for _ in range(self.Q):
                x = yield node.gossip(x)
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return self.Q * edges * dim
