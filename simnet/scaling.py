"""Estimates of long runs: some rounds simulated, the rest scaled from them, and said so.

Rounds are simulated in thirds: the first is for settling down, and the run is steady when the mean round of the second
and of the last third agree. Until they do, twice as many rounds are simulated, as far as `MOST_MESSAGES` lets it; what
they differ by is the estimate's spread. The rounds that are left then add, to every sum of the record, what the rounds
of these two thirds added: the run is simulated once more, cut before them, and the sums compared.

Where the first rounds say nothing of the later ones, all are simulated: nodes that are away or slow at certain times,
partners set by time (rows lie on a grid of time, and nobody's rounds are another's), a scenario that may end early.
What else changes later than the rounds simulated (a schedule of the algorithm's own) is not in the estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from simnet.errors import InputError, Outcome
from simnet.prepare import Plan
from simnet.record import Record

FIRST = 6  # rounds simulated at first
STEADY = 0.01  # what the mean rounds of the two last thirds may differ by
SMALL = 20_000  # nodes x rounds: so few are simulated whole without asking
MOST_MESSAGES = {"arrays": 20_000_000, "compiled": 10_000_000, "events": 1_000_000, "processes": 200_000}
WHOLE = 0.1  # of those: runs of so few messages are simulated whole
FEWEST = 0.01  # of those: where rounds are cheap, at least so many messages are simulated

_NAMES = ("node", "source", "target", "host_time_s")  # columns that are no sums
_SUMS = ("wire_bytes", "nominal_bits", "messages", "lost_messages")
_SECONDS = ("compute_s", "exposed_comm_s", "idle_s")


def estimated(
    simulate: Callable[[int], Record], nodes: int, rounds: int, given: int | None, whole: bool, unlike: str
) -> Record:
    """A record of `rounds` rounds, of which as many as it takes are simulated by `simulate(r)`, the first r.

    `given`: simulate exactly so many; `whole`: all; `unlike`: why later rounds do not follow from the first, "" where
    they do: all are simulated then. Raises InputError for a number that cannot be scaled from.
    """
    if given is not None and whole:
        raise InputError(
            "an estimate simulates a given number of rounds, or all of them (full); ask for one of the two"
        )
    if given is not None and given < 3:
        raise InputError(
            f"rounds_simulated = {given}; give at least 3, since rounds are scaled from two thirds of them"
        )
    if given is not None and unlike and given < rounds:
        raise InputError(f"{unlike}: leave out rounds_simulated, and all rounds are simulated")
    if whole or unlike or rounds <= (given or FIRST) or (given is None and nodes * rounds <= SMALL):
        return simulate(rounds)
    count = given or FIRST
    while True:
        record = simulate(count)
        if record.ended is not Outcome.FINISHED:
            return record  # it starved, or was interrupted: there is nothing to scale
        most = MOST_MESSAGES[record.summary["tier"]]
        per_round = record.summary["messages"] / count
        if given is None and per_round * rounds <= WHOLE * most:
            return simulate(rounds)
        spread = _spread(record, count)
        steady = spread <= STEADY and count * per_round >= FEWEST * most
        if given is not None or steady or 3 * count * per_round > most or 2 * count >= rounds:
            return scaled(record, simulate(count - 2 * (count // 3)), rounds, spread)
        count *= 2


def unlike(plan: Plan) -> str:
    """Why a scenario's later rounds do not follow from its first ones; "" where they do."""
    stop = plan.scenario.stop
    if stop.sim_time is not None or stop.bytes is not None:
        return "a scenario with `stop` ends by what happens in all its rounds"
    if plan.presence:
        return "rounds are not alike where nodes are away or slow at certain times (`nodes.absence`, `nodes.slow`)"
    if plan.network.background:
        return "rounds are not alike under traffic that comes and goes (`network.background`)"
    if plan.network.changes:
        return "rounds are not alike where links change with time (`trace`)"
    if plan.algorithm.partners_by_time:
        return f"rounds are no common measure of time where partners are set by time ({plan.scenario.algorithm.name})"
    return ""


def _thirds(record: Record, count: int, column: str) -> tuple[float, float]:
    """The mean round of the second and of the last third, in a column that counts up."""
    end, width = np.asarray(record.rounds[column], dtype=np.float64), count // 3
    last, before, start = end[count - 1], end[count - 1 - width], end[count - 1 - 2 * width]
    return float(before - start) / width, float(last - before) / width


def _spread(record: Record, count: int) -> float:
    """By how much the two thirds differ, relative to their mean: the worse of time and bytes."""
    pairs = [_thirds(record, count, column) for column in ("sim_time_s", "wire_bytes")]
    return max(abs(a - b) / (0.5 * (a + b)) if a + b > 0 else 0.0 for a, b in pairs)


def scaled(record: Record, before: Record, rounds: int, spread: float) -> Record:
    """A record made one of `rounds` rounds: every sum grows on as it grew since `before`, the same run cut earlier."""
    count, early = record.summary["rounds"], before.summary["rounds"]
    factor = (rounds - count) / (count - early)
    grown = partial(_grown, factor=factor)
    ends = grown(_last_row(record), _last_row(before))
    table = {name: np.append(column, ends[name].astype(column.dtype)) for name, column in record.rounds.items()}
    summary, then = dict(record.summary), before.summary
    for name in (*_SUMS, *_SECONDS):
        summary[name] = grown({name: np.asarray(summary[name])}, {name: np.asarray(then[name])})[name].item()
    kinds = {k: np.asarray(v) for k, v in summary["bytes_by_kind"].items()}
    summary["bytes_by_kind"] = {k: v.item() for k, v in grown(kinds, then["bytes_by_kind"]).items()}
    summary |= {"rounds": rounds, "sim_time_s": float(ends["sim_time_s"]), "simulated_rounds": count,
                "scaled_rounds": rounds - count, "scaled_spread": spread}  # fmt: skip
    return replace(
        record,
        rounds=table,
        nodes=grown(record.nodes, before.nodes),
        links=grown(record.links, before.links),
        summary=summary,
    )


def _last_row(record: Record) -> dict[str, np.ndarray]:
    return {name: np.asarray(column[-1]) for name, column in record.rounds.items()}


def _grown(now: Mapping[str, Any], then: Mapping[str, Any], factor: float) -> dict[str, np.ndarray]:
    """Each column of numbers, grown by `factor` times what it grew since `then`; whole numbers stay whole."""
    out = {}
    for name, column in now.items():
        out[name] = column
        if name not in _NAMES and np.issubdtype(column.dtype, np.number):
            more = column + factor * (column - np.asarray(then[name]))
            out[name] = np.rint(more).astype(column.dtype) if np.issubdtype(column.dtype, np.integer) else more
    return out
