"""Runs of the bilevel reproduction, each in a form that a worker can be asked for, and what is read off them.

Legend: R rows of a record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import simnet
from simnet.analysis.reproduce.claims import Say
from simnet.analysis.reproduce.workers import side_by_side
from simnet.record import Record

LINK = {"bandwidth": "1 Mbit/s", "latency": "1 ms"}
QUADRATIC: dict[str, Any] = {"name": "BilevelQuadratic"}
S = {"name": "DSVRBGD"}
A = {"name": "DSVRBGD", "order": "alternating"}


def steps(algorithm: Mapping[str, Any], ex: float, ey: float, ez: float | None = None, **more: Any) -> dict[str, Any]:
    """An algorithm's section with its steps."""
    return {**algorithm, "ex": ex, "ey": ey, **({} if ez is None else {"ez": ez}), **more}


def go(
    algorithm: Mapping[str, Any], rounds: int, every: int, problem: Mapping[str, Any] = QUADRATIC, *,
    nodes: int = 8, graph: str = "ring", seed: int = 0, network: Mapping[str, Any] | None = None,
) -> Record:  # fmt: skip
    """A run in float64, on one thread, over links that share nothing; weights are equal over neighbours and oneself."""
    return simnet.run({
        "network": {"nodes": nodes, "graph": graph, "link": LINK, "ports": "parallel", **(network or {})},
        "mixing": "uniform", "nodes": {"step": "1 ms"}, "problem": dict(problem), "algorithm": dict(algorithm),
        "rounds": rounds, "evaluate_every": every, "seed": seed,
        "execution": {"dtype": "float64", "threads": 1, "device": "cpu"}, "record": {"timeline": False},
    })  # fmt: skip


def columns(algorithm: Mapping[str, Any], rounds: int, every: int, problem: Any = None, more: Any = None) -> Any:
    """What a worker gives: every column of `rounds`, how the run ended, its bytes by variable, and final x and y."""
    record = go(algorithm, rounds, every, problem or QUADRATIC, **(more or {}))
    return {
        "rounds": {name: values.tolist() for name, values in record.rounds.items()},
        "outcome": record.ended.value,
        "bytes_by_variable": record.summary.get("bytes_by_variable", {}),
        "final": {name: record.final[name].mean(0).tolist() for name in ("x", "y") if name in record.final},
    }


class Found:
    """The columns of a run."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.rounds = {name: np.array(values, np.float64) for name, values in given["rounds"].items()}
        self.outcome: str = given["outcome"]
        self.by_variable: dict[str, int] = given["bytes_by_variable"]
        self.final = {name: np.array(values) for name, values in given["final"].items()}

    def last(self, column: str) -> float:
        """Its last value."""
        return float(self.rounds[column][-1])

    def until(self, column: str, value: float) -> tuple[float, int] | None:
        """(bytes, gossip rounds) until it is at or below a value; None where it never is."""
        below = np.flatnonzero(self.rounds[column] <= value)
        if not len(below):
            return None
        return float(self.rounds["wire_bytes"][below[0]]), int(self.rounds["gossip_rounds"][below[0]])

    def line(self, x: str, y: str) -> list[list[float]]:
        """Two columns as plain lists, for a figure; 200 points at most."""
        keep = np.unique(np.linspace(0, len(self.rounds[x]) - 1, 200).astype(int))
        return [self.rounds[x][keep].tolist(), self.rounds[y][keep].tolist()]


def together(tasks: Mapping[str, Sequence[Any]], say: Say) -> Iterator[tuple[str, Found]]:
    """The runs of `tasks` (name -> arguments of `columns`), two at a time, in their order."""
    for name, given in zip(tasks, side_by_side(columns, list(tasks.values())), strict=True):
        found = Found(given)
        say(f"{name}: {found.outcome} after {int(found.last('round'))} rounds, {found.last('wire_bytes') / 1e6:.3g} MB")
        yield name, found


def megabytes(spent: tuple[float, int] | None) -> float:
    """Bytes of `until` in MB; infinite where it was never reached."""
    return np.inf if spent is None else spent[0] / 1e6
