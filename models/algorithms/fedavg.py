"""Federated averaging: a server that holds the model, clients that hold the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.lazy import torch
from simnet.node import Node


@dataclass(frozen=True)
class FedAvg(Algorithm):
    """H local steps at each of K sampled clients, averaged by a server without data.

    Each round, for a sample S of K clients:

        server:    x to each client of S;  x <- (1/K) sum_{i in S} x_i
        client i:  x_i <- x;  H times  x_i <- x_i - eta g_i(x_i);  x_i to the server

    Shapes: x, x_i and g_i (d,). The record's metrics are those of the server's x.

    Args:
        eta: step size of the clients.
        steps: H, local steps a round.
        clients: K, drawn anew each round without replacement; None for all.

    Roles: one `server` (by default the graph's centre, without data) and the `client`s.
    Sends, per round, of b-byte numbers: d b down to and d b up from each of K clients: 2 K d b, each times the hops of
    its path. Messages between server and clients are reliable, so nothing stands in
    for a missing message.
    Reference: McMahan et al., AISTATS 2017, algorithm 1.
    Departs: clients weigh equally, where the paper weighs them by their number of rows; local work is counted in steps
    and not in epochs.

    >>> FedAvg(eta=0.05, steps=5, clients=4)
    FedAvg(eta=0.05, steps=5, clients=4)
    """

    roles: ClassVar[tuple[str, ...]] = ("server", "client")
    data_roles: ClassVar[tuple[str, ...]] = ("client",)
    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False

    eta: float = 0.1  # step size
    steps: int = 1  # H, local steps a round
    clients: int | None = None  # K, sampled each round; None: all

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ScenarioError("a round has at least 1 local step", field="algorithm.steps", value=self.steps)

    def server(self, node: Node) -> Program:
        x: Any = node.initial("x")  # torch's own types know tensors only
        for _ in node.rounds():
            chosen = node.sample("client", self.clients)
            yield node.send(x, to=chosen)
            x = torch.mean((yield node.gather(chosen)), 0)
            node.report(x=x)

    def client(self, node: Node) -> Program:
        while True:
            x = yield node.receive("server")
            for _ in range(self.steps):
                g = yield node.gradient(x)
                x = x - self.eta * g
            yield node.send(x, to="server")

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return 2 * (self.clients or nodes - 1) * dim
