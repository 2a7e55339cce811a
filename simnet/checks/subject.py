"""An algorithm under check, the small scenarios it is put into, and how a check fails."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import networkx as nx
import numpy as np

from simnet.algorithm import Algorithm
from simnet.bilevel import BilevelProblem, Level
from simnet.checks.watched import Log, Place, Watched, line_of
from simnet.errors import CapabilityError, InputError, ProgramError, SimnetError
from simnet.lazy import torch
from simnet.problem import Problem
from simnet.record import Record
from simnet.session import run

if TYPE_CHECKING:
    from torch import Tensor

NODES, ROUNDS = 6, 6
LINK = {"bandwidth": "1 Mbit/s", "latency": "3 ms"}
LOSS = 0.3
KEEP_LOCAL = "the instance serves every node and every run: keep what changes in local variables of the program"
# What a user's program can plausibly raise, or make torch raise.
PROGRAM_ERRORS = (
    SimnetError, TypeError, ValueError, AttributeError, NameError, LookupError, ArithmeticError, RuntimeError,
)  # fmt: skip


class NotApplicable(Exception):
    """The check says nothing about this algorithm; the text says why."""


class Failed(Exception):
    """The algorithm breaks the contract: what was seen, and the cure."""

    def __init__(self, message: str, cure: str) -> None:
        super().__init__(message)
        self.message, self.cure = message, cure


class Flat(Problem):
    """f_i = 0 everywhere, from a first point of all ones: without gradients only communication can move x."""

    closed_forms: ClassVar[bool] = True

    def __init__(self, nodes: int, dim: int) -> None:
        self.nodes, self.dim = nodes, dim
        self.samples_N = np.zeros(nodes, np.int64)

    def flop(self, oracle: str, samples: np.ndarray | int) -> np.ndarray | float:
        return np.ones(np.shape(samples))

    def load(self, device: Any, dtype: Any) -> None:
        """There are no data."""

    def initial_point(self, name: str) -> np.ndarray:
        return np.ones(self.dim)

    def node_data(self, nodes_S: Tensor, samples_SB: Tensor | None) -> tuple[Tensor, ...]:
        return (torch.zeros(len(nodes_S), self.dim, dtype=self.dtype, device=self.device),)

    def data_loss(self, x_D: Tensor, *data: Tensor) -> Tensor:
        return (x_D * data[0]).sum()

    def closed_losses(self, x_SD: Tensor, *data: Tensor) -> Tensor:
        return (x_SD * data[0]).sum(1)

    def closed_gradients(self, x_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        out.zero_()

    def closed_hvps(self, x_SD: Tensor, v_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        out.zero_()

    def objectives(self, x_KD: Tensor) -> Tensor:
        return torch.zeros(len(x_KD), dtype=x_KD.dtype, device=x_KD.device)

    def objective_gradient(self, x_D: Tensor) -> Tensor:
        return torch.zeros_like(x_D)


class FlatLevels(BilevelProblem):
    """Two such levels: every oracle gives zeros."""

    closed_forms: ClassVar[bool] = True

    def __init__(self, nodes: int, dx: int) -> None:
        super().__init__(nodes, dx, 2, np.zeros(nodes), np.zeros(nodes))
        self.has_objective = False

    def oracle_flop(self, oracle: str, upper: np.ndarray | float, lower: np.ndarray | float) -> np.ndarray | float:
        return np.ones(np.shape(lower))

    def load(self, device: Any, dtype: Any) -> None:
        """There are no data."""

    def initial_point(self, name: str) -> np.ndarray:
        return np.ones(self.variables()[name])

    def level_data(self, level: Level, nodes_S: Tensor, rows_SB: Tensor | None) -> tuple[Tensor, ...]:
        return (torch.zeros(len(nodes_S), dtype=self.dtype, device=self.device),)

    def upper_loss(self, x_X: Tensor, y_Y: Tensor, *data: Tensor) -> Tensor:
        return (x_X.sum() + y_Y.sum()) * data[0]

    lower_loss = upper_loss

    def answers(
        self, oracle: str, operands: list[Tensor], nodes_S: Tensor, samples: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, ...]:
        return tuple(operands[0].new_zeros(len(nodes_S), *shape) for shape in self.oracles()[oracle].gives)

    def answer(
        self, oracle: str, operands: list[Tensor], node: int, samples: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, ...]:
        return tuple(operands[0].new_zeros(shape) for shape in self.oracles()[oracle].gives)


class Subject:
    """An algorithm under check, and the scenarios it is put into."""

    def __init__(self, kind: type[Algorithm], algorithm: Algorithm) -> None:
        self.kind, self.algorithm = kind, algorithm
        self.file = inspect.getsourcefile(kind) or ""
        self.log = Log()  # of the first plain run

    @property
    def directed(self) -> bool:
        return self.algorithm.mixing in ("row_stochastic", "column_stochastic")

    def scenario(self, n: int = NODES, **sections: Any) -> dict[str, Any]:
        """A small scenario on an irregular graph, so that equal degrees hide nothing; sections replace its own."""
        kind = nx.DiGraph if self.directed else nx.Graph
        graph = nx.cycle_graph(n, create_using=kind) if n > 1 else nx.empty_graph(1, create_using=kind)
        if self.algorithm.tree and n > 1:
            graph = nx.from_edgelist((max(0, i - 2), i) for i in range(1, n))  # two arms of uneven length
        elif n > 3:
            graph.add_edges_from([(0, 2), (1, n - 1)] if self.directed else [(0, n // 2)])
        made: dict[str, Any] = {
            "network": {"graph": graph, "link": LINK},
            "problem": self.problem(3),
            "algorithm": self.algorithm,
            "mixing": self.algorithm.mixing if self.directed else "lazy",
            "nodes": {"step": "10 ms", "jitter": 0.5},
            "rounds": ROUNDS,
            "evaluate_every": 1,
            "execution": {"dtype": "float64", "device": "cpu"},
            "roles": self._roles(),
        }
        for name, section in sections.items():
            own = made.get(name)
            made[name] = {**own, **section} if isinstance(own, dict) and isinstance(section, dict) else section
        return made

    def problem(self, dim: int) -> dict[str, Any]:
        """A problem with x of that many numbers, and the oracles that the algorithm asks for."""
        if self.algorithm.asks:
            return {"name": "BilevelQuadratic", "dx": dim, "dy": 2}
        return {"name": "Quadratic", "dim": dim}

    def _roles(self) -> dict[str, list[int]]:
        """One host for each role but the last, which has the others; two roles are left to the scenario's default."""
        roles = self.algorithm.roles
        return {role: [i] for i, role in enumerate(roles[:-1])} if len(roles) > 2 else {}

    def run(self, n: int = NODES, **sections: Any) -> Record:
        """One run; an error that the program causes fails the check, with the program's line."""
        watched = sections.get("algorithm")
        log = watched.log if isinstance(watched, Watched) else None
        try:
            return run(self.scenario(n, **sections))
        except PROGRAM_ERRORS as error:
            at: list[Place | None] = [line_of(error, self.file)]
            if isinstance(error, ProgramError) and log is not None:
                if "before it is there" in str(error):
                    at = [place for _, place in log.forgotten()[-1:]]
                elif at == [None]:
                    at = [log.at or Place(self.file, self._first_line())]
            elif isinstance(error, InputError) and log is not None and at == [None]:
                at = [log.reported]
            if at == [None] and not isinstance(error, SimnetError | RuntimeError):
                raise  # it never passed through the program: the kernel's own
            lines = [str(place) for place in at if place is not None]
            raise Failed("\n".join([*lines, words(error)]), cure_of(error)) from error

    def _first_line(self) -> int:
        return next(iter(self.algorithm.programs().values())).__code__.co_firstlineno

    def flat(self, dim: int = 3) -> Problem:
        """The problem without gradients, over the hosts that hold data."""
        algorithm = self.algorithm
        without = sum(role not in algorithm.data_roles for role in algorithm.roles) if algorithm.data_roles else 0
        return FlatLevels(NODES - without, dim) if algorithm.asks else Flat(NODES - without, dim)

    def policies(self, *names: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(words, network section): without loss, then under each of the policies with heavy loss."""
        yield "without loss", {"policy": "retry"}
        for name in names:
            if name == "symmetric" and self.directed:
                continue  # there is no other direction to lose
            section = {"policy": name, "loss_unit": "message", "link": {**LINK, "loss": LOSS}}
            yield f"with {LOSS:.0%} loss under 'policy: {name}'", section

    def talk(self) -> list[str]:
        """The lines of the program that communicate, with what they say of missing messages."""
        fills = self.log.fills()
        places = self.log.lines("gossip", "exchange", "average", "all_gather", "send", "scatter", "gather", "receive")
        return [f"{p}" + (f"   (missing={fills[p]!r})" if isinstance(fills.get(p), str) else "") for p in places]


def words(error: BaseException) -> str:
    text = str(error)
    return text if isinstance(error, SimnetError) else f"{type(error).__name__}: {text}"


def cure_of(error: BaseException) -> str:
    if isinstance(error, dataclasses.FrozenInstanceError):
        return KEEP_LOCAL
    if isinstance(error, CapabilityError):
        return "say 'first_order: ClassVar[bool] = True', so that a ZO-only node is refused before the run"
    if isinstance(error, ProgramError) and "has no truth" in str(error):
        return "every node shares this one program, and a Value differs from node to node: branch with torch.where"
    if isinstance(error, SimnetError):
        return ""  # the message says it
    return "the program must run with Values, which know only their shape: see 'How to add an algorithm' in README.md"
