"""First-order steps as small interchangeable parts: from a point, a gradient and a state to the next point and state.

    x, state = step.taken(x, state, g)        from state = step.first(x)

A state is a tuple of Values (or tensors) and whole numbers; a part changes none of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simnet.errors import ScenarioError
from simnet.graph import recorded
from simnet.lazy import torch

State = tuple[Any, ...]


@dataclass(frozen=True)
class FirstOrderStep(ABC):
    """One rule, such as SGD or Adam.

    `counts`: its state holds the number of steps taken, so that states after unlike numbers of steps are no choice that
    values can make.
    """

    eta: float = 0.1  # step size

    def __post_init__(self) -> None:
        if not 0 < self.eta < math.inf:
            raise ScenarioError("a step size is above 0 and finite", field="eta", value=self.eta)

    @property
    def counts(self) -> bool:
        """Whether states differ in a whole number with the number of steps."""
        return False

    @abstractmethod
    def first(self, x: Any) -> State:
        """The state before the first step, at the first point x, (d,)."""

    @abstractmethod
    def taken(self, x: Any, state: State, g: Any) -> tuple[Any, State]:
        """The point after a step along the gradient g, and the state; x and g (d,)."""

    @abstractmethod
    def flop(self, dim: int) -> float:
        """FLOP of one step in `dim` coordinates, a root or a quotient counted as one."""


@dataclass(frozen=True)
class SGD(FirstOrderStep):
    """x - eta g."""

    def first(self, x: Any) -> State:
        return ()

    def taken(self, x: Any, state: State, g: Any) -> tuple[Any, State]:
        return x - self.eta * g, ()

    def flop(self, dim: int) -> float:
        return 2.0 * dim


def share(name: str, value: float) -> None:
    """Raises ScenarioError unless a share of the old is at least 0 and below 1."""
    if not 0 <= value < 1:
        raise ScenarioError("at least 0 and below 1", field=name, value=value)


@recorded
def row_of(index: Any, rows: Sequence[Any]) -> Any:
    """rows[index], where a Value says which."""
    return torch.stack(list(rows)).index_select(0, index.long().reshape(1))[0]


def state_of(index: Any, states: Sequence[State]) -> State:
    """states[index], where a Value says which; whole numbers are equal in all of them."""
    return tuple(parts[0] if isinstance(parts[0], int) else row_of(index, parts) for parts in zip(*states, strict=True))
