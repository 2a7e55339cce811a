"""Steps beside plain SGD, which stands with their base class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simnet.errors import ScenarioError
from simnet.first_order import FirstOrderStep, State, share
from simnet.lazy import torch
from simnet.preconditioner import Scaling, Unscaled


@dataclass(frozen=True)
class Momentum(FirstOrderStep):
    """m <- beta m + g;  x - eta m (Polyak, 1964, as deep learning writes it)."""

    beta: float = 0.9  # share of the old m

    def __post_init__(self) -> None:
        super().__post_init__()
        share("beta", self.beta)

    def first(self, x: Any) -> State:
        return (torch.zeros_like(x),)

    def taken(self, x: Any, state: State, g: Any) -> tuple[Any, State]:
        m = self.beta * state[0] + g
        return x - self.eta * m, (m,)

    def flop(self, dim: int) -> float:
        return 4.0 * dim


@dataclass(frozen=True)
class Adam(FirstOrderStep):
    """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  x - eta m^ / (sqrt(v^) + epsilon).

    m^ = m / (1 - b1^t) and v^ = v / (1 - b2^t) after t steps (Kingma and Ba, ICLR 2015). The divisors are kept as what
    they are, the same two averages of ones: exact in float32, too, and no count of steps is needed.
    """

    eta: float = 0.001
    beta1: float = 0.9  # share of the old m
    beta2: float = 0.999  # share of the old v
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        share("beta1", self.beta1)
        share("beta2", self.beta2)
        if not self.epsilon >= 0:
            raise ScenarioError("at least 0", field="epsilon", value=self.epsilon)

    def first(self, x: Any) -> State:
        nothing = torch.zeros_like(x)
        return nothing, nothing, torch.zeros_like(x[0]), torch.zeros_like(x[0])

    def taken(self, x: Any, state: State, g: Any) -> tuple[Any, State]:
        m, v, ones1, ones2 = state
        m, ones1 = self.beta1 * m + (1.0 - self.beta1) * g, self.beta1 * ones1 + (1.0 - self.beta1)
        v, ones2 = self.beta2 * v + (1.0 - self.beta2) * torch.square(g), self.beta2 * ones2 + (1.0 - self.beta2)
        return x - self.eta * (m / ones1) / (torch.sqrt(v / ones2) + self.epsilon), (m, v, ones1, ones2)

    def flop(self, dim: int) -> float:
        return 14.0 * dim


@dataclass(frozen=True)
class Scaled(FirstOrderStep):
    """D <- scaling's update with g;  u <- beta1 u + g;  x - eta u / positive(D): a step of SAVIC's local form.

    D starts from the first gradient alone. A scaling that needs Hessian-vector products is refused: none are at hand.
    """

    scaling: Scaling = Unscaled()
    beta1: float = 0.0  # momentum

    def __post_init__(self) -> None:
        super().__post_init__()
        share("beta1", self.beta1)
        if self.scaling.statistic == "hessian":
            raise ScenarioError(
                "it needs Hessian-vector products, and a guessed step has none: take rmsprop, adam or identity",
                field="scaling", value=type(self.scaling).__name__,
            )  # fmt: skip

    @property
    def counts(self) -> bool:
        return type(self.scaling).beta_at is not Scaling.beta_at

    def first(self, x: Any) -> State:
        return torch.zeros_like(x), torch.zeros_like(x), 0

    def taken(self, x: Any, state: State, g: Any) -> tuple[Any, State]:
        u, D, k = state
        u = self.beta1 * u + g
        D = self.scaling.update(self.scaling.first(g) if k == 0 else D, g, k)
        direction = u if self.scaling.statistic == "none" else u / self.scaling.positive(D)
        return x - self.eta * direction, (u, D, k + 1 if self.counts else 1)

    def flop(self, dim: int) -> float:
        return 10.0 * dim
