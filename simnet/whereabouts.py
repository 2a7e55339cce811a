"""From a scenario's `nodes.absence` and `nodes.slow` to intervals of each host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from simnet.away import DAY_S, Absence, Slow
from simnet.dataset import find_file
from simnet.errors import DataError, ScenarioError, nearest
from simnet.intervals import read_intervals
from simnet.laws import INF, Cycle, Interval, Law, Renewal, day_and_night
from simnet.network.network import Network
from simnet.network.places import host_number
from simnet.node_sections import Nodes
from simnet.presence import Presence

E = TypeVar("E", Absence, Slow)
T = TypeVar("T", tuple[float, float], tuple[float, float, float])


def whereabouts(
    nodes: Nodes, network: Network, seed: int, written: Callable[[str], str], base_dir: Path | None = None
) -> Presence:
    """Who is away, and who is slow, when. `written` gives a field's name as the scenario has it, `base_dir` is the
    folder that files count from.

    Raises UnknownName for a host that is not there, ScenarioError where what two entries say of one host overlaps, and
    DataError for a file of intervals that is none.
    """
    away: dict[int, list[tuple[float, float]]] = {}
    drawn: dict[int, Law] = {}
    slow: dict[int, list[tuple[float, float, float]]] = {}
    files = {k: _read(entry, network, base_dir)
             for k, entry in enumerate(nodes.absence) if entry.file is not None}  # fmt: skip
    named = [entry if k not in files else entry.model_copy(update={"nodes": [network.hosts[i] for i in files[k]]})
             for k, entry in enumerate(nodes.absence)]  # fmt: skip
    for k, field, entry, host in _each("nodes.absence", named, network, written):
        again = entry.law is not None or entry.wrap is not None
        if host in drawn or (again and host in away):
            raise ScenarioError(
                f"host {network.hosts[host]} has a law of absence and another entry too: give it one of them",
                field=field,
            )
        intervals = files[k][host] if k in files else entry.away or []
        if entry.wrap is not None:
            drawn[host] = Cycle(tuple(intervals), entry.wrap)
        elif entry.law is not None:
            drawn[host] = _law(entry, seed, host)
        else:
            away[host] = _merged(away.get(host, []), intervals, network, host, field)
    for _, field, period, host in _each("nodes.slow", nodes.slow, network, written):
        more = [(a, b, period.factor) for a, b in period.periods]
        slow[host] = _merged(slow.get(host, []), more, network, host, field)
    return Presence(network.n, away, drawn, slow, seed)


def _law(entry: Absence, seed: int, host: int) -> Law:
    until = INF if entry.until is None else entry.until
    if entry.law == "diurnal":
        assert entry.share is not None
        return day_and_night(entry.period or DAY_S, entry.share, entry.phase, until, seed, host)
    assert entry.every is not None and entry.for_ is not None
    shape = entry.shape or 1.0
    return Renewal(entry.every, entry.for_, until, shape, entry.shape_away or shape)


def _read(entry: Absence, network: Network, base_dir: Path | None) -> dict[int, list[Interval]]:
    """Host -> its intervals from a file. DataError for a host that is not there, or one that a wrapped file keeps away
    beyond its end.
    """
    assert entry.file is not None
    file = find_file(entry.file, base_dir)
    numbers = {str(host): i for i, host in enumerate(network.hosts)}
    out: dict[int, list[Interval]] = {}
    for name, lines in read_intervals(file).items():
        if name not in numbers:
            raise DataError(f"{file}:{lines[0][2]}: there is no host {name!r}; there are {network.n}"
                            f"{nearest(name, numbers)}")  # fmt: skip
        host = numbers[name]
        out[host] = [(start, end) for start, end, _ in lines]
        if entry.wrap is not None and lines[-1][1] > entry.wrap:
            raise DataError(f"{file}:{lines[-1][2]}: lasts until {lines[-1][1]:g} s, and `wrap` begins again at "
                            f"{entry.wrap:g} s: wrap later, or end it before")  # fmt: skip
    return out


def _each(
    name: str, entries: Sequence[E], network: Network, written: Callable[[str], str]
) -> Iterator[tuple[int, str, E, int]]:
    """(number of the entry, field, entry, host) for each host that an entry names."""
    for k, entry in enumerate(entries):
        field = written(f"{name}.{k}")
        if entry.nodes == "all":
            hosts: Sequence[int] = range(network.n)
        else:
            assert entry.nodes is not None
            hosts = [host_number(network, h, f"{field}.nodes") for h in entry.nodes]
        if len(set(hosts)) < len(hosts):
            raise ScenarioError("names a host twice", field=f"{field}.nodes")
        for host in hosts:
            yield k, field, entry, host


def _merged(first: Sequence[T], second: Sequence[T], network: Network, host: int, field: str) -> list[T]:
    """The intervals of two entries in order. ScenarioError where one lies over another."""
    merged: list[T] = list(first) + list(second)
    merged.sort(key=lambda each: each[0])
    for before, after in zip(merged, merged[1:], strict=False):
        if after[0] < before[1]:
            raise ScenarioError(
                f"host {network.hosts[host]} has an interval from {after[0]:g} s, and another that ends at "
                f"{before[1]:g} s only: intervals of one host must not overlap",
                field=field,
            )
    return merged
