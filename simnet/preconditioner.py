"""Scalings: the diagonal by which an adaptive method divides its steps, as small interchangeable parts.

A scaling keeps D, one number for each coordinate, from statistics h: a gradient, or v * (Hessian v) with a random sign
vector v (Hutchinson's estimate of the Hessian's diagonal). Steps are divided by `positive(D)`.

    (Q)  D_k^2 = beta_k D_{k-1}^2 + (1 - beta_k) h_k^2          (L)  D_k = beta_k D_{k-1} + (1 - beta_k) h_k
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from simnet.errors import InputError
from simnet.graph import elementwise, recorded
from simnet.lazy import torch

Statistic = Literal["none", "gradient", "hessian"]


@dataclass(frozen=True)
class Scaling(ABC):
    """What D is made of, and how it changes.

    `statistic`: `gradient`; `hessian`, one Hessian-vector product; or `none`: steps are not scaled. A subclass has the
    recursion and its defaults.

    Args:
        alpha: the floor of the scaling; the largest gain of a coordinate is 1/alpha, so it is no mere guard.
        positivity: `floor` divides by max(alpha, |D|), `add` by |D| + alpha.
        warm_up: statistics at the first point that D starts from; they count as so many updates.
    """

    statistic: ClassVar[Statistic] = "gradient"
    linear: ClassVar[bool] = False  # whether D follows from means of statistics: a node may then send their mean alone

    beta: float = 0.999  # how slowly D changes
    alpha: float = 1e-3  # floor of the scaling
    positivity: Literal["floor", "add"] = "floor"  # max(alpha, |D|), or |D| + alpha
    warm_up: int = 10  # statistics at the first point

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not 0 <= self.beta < 1:
            raise InputError(f"{name}: beta = {self.beta:g}; at least 0 and below 1, such as 0.999")
        if not 0 < self.alpha < float("inf"):
            raise InputError(f"{name}: alpha = {self.alpha:g}; above 0: it bounds the gain of a coordinate by 1/alpha")
        if self.warm_up < 1:
            raise InputError(f"{name}: warm_up = {self.warm_up}; D starts from at least 1 statistic")

    def beta_at(self, k: int) -> float:
        """beta_k; k counts from 0."""
        return self.beta

    @abstractmethod
    def first(self, *h: Any) -> Any:
        """D from the statistics at the first point."""

    @abstractmethod
    def update(self, D: Any, h: Any, k: int) -> Any:
        """D_k from D_{k-1} and the statistic h_k; all of shape (d,)."""

    def rate(self, eta: float, D: Any) -> Any:
        """eta / positive(D): what a direction is multiplied with."""
        return _rate(D, eta, self.alpha, self.positivity == "add")

    def positive(self, D: Any) -> Any:
        """What one divides by; NaN where D is not finite, so that a run ends as diverged and does not stand still."""
        return _positive(D, self.alpha, self.positivity == "add")


@dataclass(frozen=True)
class Unscaled(Scaling):
    """Steps are not scaled."""

    statistic: ClassVar[Statistic] = "none"

    def first(self, *h: Any) -> Any:
        return h[0]

    def update(self, D: Any, h: Any, k: int) -> Any:
        return D

    def rate(self, eta: float, D: Any) -> Any:
        return eta


@recorded
@elementwise
def _positive(D: Any, alpha: float, add: bool) -> Any:
    size = torch.abs(D)
    size = size.add_(alpha) if add else size.clamp_(min=alpha)
    return size.sub_(D, alpha=0.0)  # less 0 D, which is NaN where D is infinite


@recorded
@elementwise
def _rate(D: Any, eta: float, alpha: float, add: bool) -> Any:
    return _positive(D, alpha, add).reciprocal_().mul_(eta)


def mean(values: Sequence[Any]) -> Any:
    """Their arithmetic mean; Values or tensors of one shape."""
    total = values[0]
    for each in values[1:]:
        total = total + each
    return total / len(values)
