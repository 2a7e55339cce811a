"""Runs of the reproduction of OptEx, and what is read off them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import simnet
from simnet.analysis.reproduce.optex_parts import HERE
from simnet.analysis.reproduce.workers import side_by_side
from simnet.errors import Outcome
from simnet.record import Record

Options = Mapping[str, Any]  # of the algorithm
CONTROLS: dict[str, Options] = {"zero": {"mode": "zero"}, "last_grad": {"mode": "last_grad"}}
SEEDS = 3


def go(problem: Options, options: Options, rounds: int, seed: int, **more: Any) -> Record:
    """A run over a star, in float64, every round evaluated; N is 5 unless the options say more."""
    algorithm: dict[str, Any] = {"name": "OptEx", "N": 5} | dict(options)
    return simnet.run({
        "network": {"nodes": algorithm["N"] + 1, "graph": "star"}, "roles": {"coordinator": [0]},
        "nodes": {"step": {"gradient": "10 ms", "work": 0.0}}, "problem": dict(problem),
        "algorithm": algorithm, "rounds": rounds,
        "evaluate_every": 1, "execution": {"dtype": "float64", "threads": 1, "device": "cpu"}, "seed": seed,
        "record": {"timeline": False}, **more,
    })  # fmt: skip


def race(
    problem: Options, common: Options, methods: Mapping[str, Options], rounds: int, limit: int, seed: int
) -> dict[str, Any]:
    """How many times as many rounds as each method, of at most `limit`, the plain method needs to its own objective
    after `rounds`: `speedup` by name (0: not reached), `diverged`, and curves.
    """
    plain = go(problem, {**common, "mode": "vanilla"}, rounds, seed)
    objective = plain.rounds["objective"]
    level = float(objective[-1])
    reached = 1 + int(np.flatnonzero(objective <= level)[0])
    found: dict[str, Any] = {"speedup": {}, "diverged": [], "curves": {"vanilla": objective.tolist()}}
    for name, options in methods.items():
        record = go(problem, {**common, **options}, limit, seed, target={"objective": level}, stop={"at_target": True})
        at = record.summary["targets"]["objective"]["round"]
        found["speedup"][name] = 0.0 if at is None else reached / at
        if record.ended is Outcome.DIVERGED or not record.rounds["objective"][-1] < objective[0]:
            found["diverged"].append(name)
        found["curves"][name] = [float(v) for v in record.rounds["objective"]]
    return found


def races(tasks: Sequence[tuple[Options, Options, Mapping[str, Options], int, int]]) -> Iterator[list[dict[str, Any]]]:
    """The races of each task with seeds 0, 1, 2."""
    made = side_by_side(race, [[*task, seed] for task in tasks for seed in range(SEEDS)])
    for _ in tasks:
        yield [next(made) for _ in range(SEEDS)]


def speedups(runs: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """A method's speed-ups, one for each seed."""
    return [each["speedup"][name] for each in runs]


def errors(problem: Options, options: Options, rounds: int, seed: int) -> dict[str, Any]:
    """|mu(Z_N) - g_N| / |g_N| in each round with a guess, and the objective."""
    record = go(problem, {**options, "name": f"{HERE}:Watched"}, rounds, seed)
    return {"error": record.rounds["tracker_residual"][2:].tolist(), "objective": record.rounds["objective"].tolist()}
