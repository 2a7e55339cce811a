"""Local SGD whose average arrives one round late, as a whole or fragment by fragment, so that it costs no time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.lazy import torch
from simnet.node import Node


@dataclass(frozen=True)
class DelayedLocalSGD(Algorithm):
    """H local steps while the average travels; when it is there, the steps go on from it.

    The model is cut into F fragments, and a round into F stages of H/F steps. In stage f, with s_i = x_i at its
    beginning:

        the average of fragment f of the s_i sets out
        x_i <- x_i - eta g_i(x_i)                                       H/F times
        x_i <- (1/N) sum_j s_j + x_i - s_i    in fragment f             when it has arrived

    With F = 1 this is x_i <- mean(x) - eta (the gradients of H steps from x_i). A stage takes the longer of its steps
    and its message, a message F times shorter. Keeps the mean. Shapes: x_i and g_i (d,); fragments differ by at most
    one number.

    Args:
        eta: step size.
        steps: H, local steps a round.
        fragments: F, which must divide H; each fragment is averaged once a round.

    Sends, per round, of b-byte numbers: d b up to the server of the collective from, and d b down to, every node but
    the server, in F parts: 2 (N - 1) d b.
    Mixes over no topology. A collective is always reliable, so nothing stands in for a missing message.
    References: Zhou et al., "DaSGD: squeezing SGD parallelization performance in distributed training using delayed
    averaging", 2020 (F = 1); Sun et al., "CO2: efficient distributed training with full communication-computation
    overlap", ICLR 2024 (averages one round late); Douillard et al., "Streaming DiLoCo with overlapping communication",
    2025 (fragments in turn).
    Departs: a plain average, without outer optimizer and without penalties on staleness; fragments are cut by position
    and not by layer. `OverlapLocalSGD` pulls towards the late average instead.

    >>> DelayedLocalSGD(eta=0.05, steps=4, fragments=2)
    DelayedLocalSGD(eta=0.05, steps=4, fragments=2)
    """

    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False

    eta: float = 0.1  # step size
    steps: int = 1  # H, local steps a round
    fragments: int = 1  # F, parts of the model averaged in turn

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ScenarioError("a round has at least 1 local step", field="algorithm.steps", value=self.steps)
        if self.fragments < 1 or self.steps % self.fragments:
            raise ScenarioError(f"{self.steps} local steps do not fall into that many stages: take a divisor",
                                field="algorithm.fragments", value=self.fragments)  # fmt: skip

    def program(self, node: Node) -> Program:
        x: Any = node.initial("x")  # torch's own types know tensors only
        (d,) = x.shape
        if self.fragments > d:
            raise ScenarioError(f"the model has only {d} numbers", field="algorithm.fragments", value=self.fragments)
        cuts = [f * d // self.fragments for f in range(self.fragments + 1)]
        for _ in node.rounds():
            for a, b in zip(cuts, cuts[1:], strict=False):
                begun = x[a:b]
                sent = node.start(node.average(begun))
                for _ in range(self.steps // self.fragments):
                    g = yield node.gradient(x)
                    x = x - self.eta * g
                part = (yield sent) + x[a:b] - begun
                x = part if self.fragments == 1 else torch.cat((x[:a], part, x[b:]))
            node.report(x=x)

    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:
        return 2 * (nodes - 1) * dim
