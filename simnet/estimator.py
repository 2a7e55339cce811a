"""Zeroth-order estimators: what a ZO node answers when it is asked for a gradient, and what that costs.

    @dataclass(frozen=True)
    class TwoPointFwd(Estimator):
        rv: int = 10
        nu: float = 1e-3

        def forward_passes(self, d: int) -> float:
            return self.rv + 1

        def estimate(self, ask: Asked, x_SD: Tensor) -> Tensor:
            here, total = ask.losses(x_SD), torch.zeros_like(x_SD)
            for k in range(self.rv):
                u = ask.normal(k)
                total += ((ask.losses(x_SD + self.nu * u) - here) / (self.nu * self.rv))[:, None] * u
            return total

An estimator is written for S nodes at once, each with its own x, minibatch and directions; the executor that goes node
by node calls it with S = 1. All losses of one estimate are taken on the same minibatch. Directions are drawn from
counter-based streams by their number, so both executors, all tiers and all devices see the same.

Shapes: S nodes of a call, D parameters (d in formulas), K directions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from simnet import registry
from simnet.errors import InputError, ScenarioError
from simnet.fields import Part

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT = "two_point_central"


class Asked(Protocol):
    """What an estimator can ask of its S nodes."""

    def losses(self, x_SD: Tensor) -> Tensor:
        """f_i(x_i) on each node's minibatch, (S,)."""

    def gradients(self, x_SD: Tensor) -> Tensor:
        """The gradient of each f_i at x_i on the node's minibatch, (S, D): for products u . g in place of a jvp."""

    def normal(self, k: int) -> Tensor:
        """Direction number k of each node, independent N(0, 1) coordinates, (S, D)."""

    def sign(self, k: int) -> Tensor:
        """Direction number k of each node, coordinates +-1, (S, D)."""

    def normals(self, count: int) -> Iterator[Tensor]:
        """Directions 0 .. count - 1, the same as `normal` gives, in blocks (S, K, D) that stay in the cache."""

    def chi_square(self, degrees: int) -> Tensor:
        """A chi-square number of so many degrees of freedom for each node, independent of the directions, (S,)."""

    @property
    def slices(self) -> Mapping[str, slice]:
        """Where the problem's tensors lie in x."""


class Estimator(ABC):
    """A zeroth-order estimate of a gradient.

    `by_jvp`: it stands for forward-mode derivatives, which the simulator replaces by a gradient and products; the node
    is charged for the derivatives, and its calls cannot be timed.
    """

    by_jvp: ClassVar[bool] = False

    @abstractmethod
    def forward_passes(self, d: int) -> float:
        """The cost of one estimate, in evaluations of the loss."""

    @abstractmethod
    def estimate(self, ask: Asked, x_SD: Tensor) -> Tensor:
        """Estimates of the gradients at x, (S, D)."""

    def numbers(self, d: int) -> float:
        """How many numbers the accelerators of one node average for an estimate: by default one a loss."""
        return self.forward_passes(d)

    @abstractmethod
    def kappa(self, d: int) -> float:
        """How many times the noise of a stochastic gradient an estimate has where the mean gradient is 0."""

    @property
    def difference(self) -> float | None:
        """The distance nu over which it takes finite differences of losses; None where it takes none."""
        return getattr(self, "nu", None)


def require(holds: bool, field: str, value: float, what: str) -> None:
    """Raises ScenarioError, naming the estimator's parameter, unless a condition holds."""
    if not holds:
        raise ScenarioError(what, field=field, value=value)


# ---- from a scenario -----------------------------------------------------------------------------------------------


def merged(part: Any, above: Part | None) -> Part:
    """What a section says of the estimator; without a name it changes parameters of the one from `above`."""
    if isinstance(part, Mapping) and "name" not in part:
        part = Part("", dict(part))
    given = Part.of(part)
    if given.name:
        return given
    base = above or Part(DEFAULT)
    if base.object is not None:
        raise InputError("an estimator given as an object has its parameters; give another object")
    return Part(base.name, {**base.params, **given.params})


def made(part: Part, where: str, base_dir: Path | str | None = None) -> Estimator:
    """The estimator that a part names. Raises a ScenarioError that names the field."""
    if part.object is not None:
        estimator = part.object
    else:
        for old, new in (("directions", "rv"), ("smoothing", "nu")):
            if old in part.params:
                raise ScenarioError(f"is called {new} now", field=f"{where}.{old}", value=part.params[old])
        target = registry.find("estimators", part.name, base_dir, field=where)
        try:
            estimator = registry.call(target, {"base_dir": base_dir}, part.params, where)
        except ScenarioError as error:
            if error.field.startswith(where):
                raise
            said = str(error).partition(": ")[2]  # the estimator knows its parameter, and not where it stands
            raise ScenarioError(said, field=f"{where}.{error.field}", value=error.value) from None
    if not isinstance(estimator, Estimator):
        raise ScenarioError(
            f"{type(estimator).__name__} is no estimator: subclass simnet.estimator.Estimator", field=where
        )
    return estimator
