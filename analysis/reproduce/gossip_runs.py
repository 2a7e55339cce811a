"""Runs of the reproduction of several compressed gossip steps, and what is read off them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np

import simnet
from simnet.algorithm import Algorithm
from simnet.record import Record

STEP = {"step": "1 ms"}
FREE = {"bandwidth": "1 Mbit/s", "latency": "1 ms"}


def go(problem: Any, algorithm: Algorithm, graph: str, rounds: int, every: int = 1, **more: Any) -> Record:
    """A run in float64, on one thread, over links that share nothing; further keys of `network` in `more`."""
    network = {"nodes": problem.nodes, "graph": graph, "link": FREE, "ports": "parallel"} | more.pop("network", {})
    return simnet.run({
        "network": network, "nodes": STEP, "problem": problem, "algorithm": algorithm, "rounds": rounds,
        "evaluate_every": every, "execution": {"dtype": "float64", "threads": 1}, "record": {"timeline": False}, **more,
    })  # fmt: skip


def mixing(graph: str, n: int) -> np.ndarray:
    """W of a regular graph: 1/(degree + 1) for neighbours and for oneself."""
    module = importlib.import_module("simnet.models.topologies.shipped")
    adjacency = nx.to_numpy_array(getattr(module, graph)(n), nodelist=range(n)) + np.eye(n)
    return np.asarray(adjacency / adjacency.sum(1, keepdims=True))


def gap_of(w_NN: np.ndarray) -> float:
    """The spectral gap."""
    return float(1 - np.sort(np.abs(np.linalg.eigvalsh(w_NN)))[-2])


def at(record: Record, column: str, rounds: Sequence[int]) -> list[float]:
    """A metric after these rounds, each the last evaluated one up to it."""
    rows = np.searchsorted(record.rounds["round"], rounds, side="right") - 1
    return [float(v) for v in record.rounds[column][rows]]


def first(record: Record, column: str, value: float) -> int | None:
    """The first evaluated round with a metric at or below a value."""
    below = np.flatnonzero(record.rounds[column] <= value)
    return int(record.rounds["round"][below[0]]) if len(below) else None


def line(record: Record, column: str) -> list[list[float]]:
    """(round, metric) as plain lists, for a figure; 200 points at most."""
    keep = np.unique(np.linspace(0, len(record.rounds["round"]) - 1, 200).astype(int))
    return [record.rounds["round"][keep].tolist(), record.rounds[column][keep].tolist()]
