"""From a scenario's `nodes.absence` and `nodes.slow` to intervals of each host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from simnet.away import Absence, Slow
from simnet.errors import ScenarioError
from simnet.network.network import Network
from simnet.network.places import host_number
from simnet.presence import INF, Poisson, Presence
from simnet.sections import Nodes

E = TypeVar("E", Absence, Slow)
T = TypeVar("T", tuple[float, float], tuple[float, float, float])


def whereabouts(nodes: Nodes, network: Network, seed: int, written: Callable[[str], str]) -> Presence:
    """Who is away, and who is slow, when. `written` gives a field's name as the scenario has it.

    Raises UnknownName for a host that is not there, and ScenarioError where what two entries say of one host overlaps.
    """
    away: dict[int, list[tuple[float, float]]] = {}
    drawn: dict[int, Poisson] = {}
    slow: dict[int, list[tuple[float, float, float]]] = {}
    for field, entry, host in _each("nodes.absence", nodes.absence, network, written):
        if host in drawn or (entry.law is not None and host in away):
            raise ScenarioError(
                f"host {network.hosts[host]} has a law of absence and another entry too: give it one of them",
                field=field,
            )
        if entry.law is not None:
            assert entry.every is not None and entry.for_ is not None
            drawn[host] = Poisson(entry.every, entry.for_, INF if entry.until is None else entry.until)
        else:
            away[host] = _merged(away.get(host, []), entry.away or [], network, host, field)
    for field, period, host in _each("nodes.slow", nodes.slow, network, written):
        more = [(a, b, period.factor) for a, b in period.periods]
        slow[host] = _merged(slow.get(host, []), more, network, host, field)
    return Presence(network.n, away, drawn, slow, seed)


def _each(
    name: str, entries: Sequence[E], network: Network, written: Callable[[str], str]
) -> Iterator[tuple[str, E, int]]:
    """(field, entry, host) for each host that an entry names."""
    for k, entry in enumerate(entries):
        field = written(f"{name}.{k}")
        if entry.nodes == "all":
            hosts: Sequence[int] = range(network.n)
        else:
            hosts = [host_number(network, h, f"{field}.nodes") for h in entry.nodes]
        if len(set(hosts)) < len(hosts):
            raise ScenarioError("names a host twice", field=f"{field}.nodes")
        for host in hosts:
            yield field, entry, host


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
