"""Federated averaging with an adaptive step of the server: FedAdam, FedYogi and FedAdagrad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.lazy import torch
from simnet.node import Node


@dataclass(frozen=True)
class FedOpt(Algorithm):
    """Plain local steps; what they achieved together is taken as a gradient of an adaptive method.

    Each round, for a sample S of K nodes that hold the same x:

        x_i <- x;  x_i <- x_i - eta g_i(x_i)          H times, for i in S
        Delta = (1/K) sum_{i in S} x_i - x
        m <- beta1 m + (1 - beta1) Delta
        v <- beta2 v + (1 - beta2) Delta^2                            server: adam
             v - (1 - beta2) Delta^2 sign(v - Delta^2)                yogi: v falls no faster than it rises
             v + Delta^2                                              adagrad
        x <- x + server_eta m / (sqrt(v) + tau)

    Shapes: x, x_i, g_i, m and v (d,); m starts at 0, v at tau^2. Every node makes the server's step, from the average
    that all hear, so that the average may go through a server, round a ring or along a tree.

    Args:
        server: `adam`, `yogi` or `adagrad`: FedAdam, FedYogi and FedAdagrad.
        eta: step size of the local steps.
        server_eta: step size of the server.
        steps: H, local steps a round.
        clients: K, drawn anew each round without replacement; None for all.
        beta1, beta2: how slowly m and v change.
        tau: how adaptive the server is; coordinates with smaller sqrt(v) are not scaled up further.

    Sends, per round, of b-byte numbers: d b up and d b down for each node: 2 (N - 1) d b if all take part.
    A collective is always reliable, so nothing stands in for a missing message.
    Reference: Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar and McMahan, "Adaptive federated optimization",
    ICLR 2021, algorithm 2.
    Departs: clients weigh equally; local work is counted in steps and not in epochs. All nodes hear of each average.

    >>> FedOpt(server="yogi", steps=5).tau
    0.001
    """

    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False
    step_sizes: ClassVar[tuple[str, ...]] = ("eta", "server_eta", "tau")

    server: Literal["adam", "yogi", "adagrad"] = "adam"  # how v is made
    eta: float = 0.1  # step size of the local steps
    server_eta: float = 0.1  # step size of the server
    steps: int = 1  # H, local steps a round
    clients: int | None = None  # K, sampled each round; None: all
    beta1: float = 0.9  # how slowly m changes
    beta2: float = 0.99  # how slowly v changes
    tau: float = 1e-3  # added to sqrt(v)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ScenarioError("a round has at least 1 local step", field="algorithm.steps", value=self.steps)
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ScenarioError("is at least 0 and below 1", field=f"algorithm.{name}", value=getattr(self, name))

    def second(self, v: Any, delta: Any) -> Any:
        """v of this round from that of the round before; all of shape (d,)."""
        square = torch.square(delta)
        if self.server == "adagrad":
            return v + square
        if self.server == "yogi":
            return v - (1.0 - self.beta2) * square * torch.sign(v - square)
        return self.beta2 * v + (1.0 - self.beta2) * square

    def program(self, node: Node) -> Program:
        x, m = node.initial("x"), node.zeros()
        v: Any = m + self.tau**2
        for _ in node.rounds():
            chosen, mine = node.sample(k=self.clients), x
            for _ in range(self.steps):
                g = yield node.gradient(mine, among=chosen)
                mine = mine - self.eta * g
            delta = (yield node.average(mine, among=chosen)) - x
            m = self.beta1 * m + (1.0 - self.beta1) * delta
            v = self.second(v, delta)
            x = x + self.server_eta * m / (torch.sqrt(v) + self.tau)
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int | None:
        return 2 * (nodes - 1) * dim if self.clients is None else None
