"""Flows over the network in another file: of a SimGrid platform, of a map, of a matrix of round-trip times."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from simnet import sources
from simnet.errors import DataError, ScenarioError, TopologyError, nearest
from simnet.network.flows.case import Case
from simnet.network.flows.links import Links
from simnet.network.flows.maps import folder_of, map_case
from simnet.network.flows.platform import ImportedPlatform, transfers_of
from simnet.network.flows.traces import Changes
from simnet.network.simgrid.over_time import link_changes
from simnet.network.simgrid.platform import Link
from simnet.network.simgrid.reader import read_simgrid

READERS = {".gml": "gml", ".graphml": "graphml", ".csv": "rtt_matrix"}  # by a file's ending, those of maps


def imported_case(section: ImportedPlatform, places: sources.Places) -> Case:
    """The case over the network in a file, by the ending of its name."""
    suffix = Path(section.platform).suffix.lower()
    if suffix in READERS:
        return map_case(section, places, READERS[suffix])
    if suffix != ".xml":
        known = "a SimGrid platform (.xml), a map (.gml, .graphml) or a matrix of round-trip times (.csv)"
        raise ScenarioError(f"must be {known}", place=places.of("platform"), field="platform", value=section.platform)
    for key in ("link", "host"):
        if getattr(section, key) is not None:
            said = "is for maps: a SimGrid platform says all of its links and hosts; leave it out"
            raise ScenarioError(said, place=places.of(key, key=True), field=key)
    return simgrid_case(section, places)


def simgrid_case(section: ImportedPlatform, places: sources.Places) -> Case:
    """The case over a SimGrid platform: hosts in the file's order, and the links that a flow or its way back goes over.

    Profiles of links count: see `link_changes`. A flow has the latencies of the moment at which it starts.
    """
    folder = folder_of(places)
    try:
        platform = read_simgrid(folder / section.platform)
    except DataError as error:
        raise ScenarioError(str(error), place=places.of("platform"), field="platform") from None
    number = {name: i for i, name in enumerate(platform.hosts)}

    def host(name: object, field: str) -> str:
        if str(name) not in number:
            said = f"there is no host {str(name)!r} in {section.platform}{nearest(str(name), number)}"
            raise ScenarioError(said, place=places.of(field), field=field)
        return str(name)

    source = [host(flow.from_, f"flows.{i}.from") for i, flow in enumerate(section.flows)]
    target = [host(flow.to, f"flows.{i}.to") for i, flow in enumerate(section.flows)]
    ways: dict[tuple[str, str], tuple[int, ...]] = {}
    for i, (a, b) in enumerate(zip(source, target, strict=True)):
        if a != b and (a, b) not in ways:
            try:
                ways[a, b] = platform.route(a, b)
            except TopologyError as error:
                where = " ".join(part for part in (places.of(f"flows.{i}"), f"flows.{i}") if part)
                raise TopologyError(f"{where}: {error}: choose other hosts") from None
            with suppress(TopologyError):  # the models that need the way back say so
                ways[b, a] = platform.route(b, a)
    used = list(dict.fromkeys(k for way in ways.values() for k in way))
    place = {k: i for i, k in enumerate(used)}
    routes = {(number[a], number[b]): tuple(place[k] for k in way) for (a, b), way in ways.items()}
    made = [platform.links[k] for k in used]
    changes = {i: link_changes(platform, link) for i, link in enumerate(made) if link.profiles}
    traces = {i: each.bandwidth for i, each in changes.items() if each.bandwidth is not None}
    starts = {i: each for i, each in changes.items() if each.latency is not None}
    return Case(
        section.name, tuple(platform.hosts), _links(made, changes), routes,
        transfers_of(section, [number[a] for a in source], [number[b] for b in target]), section.cc, section.warm,
        traces=traces, starts=starts, notes=tuple(platform.notes), place_of=places.of,
    )  # fmt: skip


def _links(made: list[Link], changes: Mapping[int, Changes]) -> Links:
    count = len(made)
    bandwidth, latency_s = np.array([link.bandwidth for link in made]), np.array([link.latency_s for link in made])
    for i, each in changes.items():
        bandwidth[i] = bandwidth[i] if each.bandwidth is None else each.bandwidth.mean
        latency_s[i] = latency_s[i] if each.latency is None else each.latency.at(0.0)
    return Links(
        bandwidth=bandwidth.astype(np.float64), latency_s=latency_s.astype(np.float64),
        fatpipe=np.array([link.fatpipe for link in made], bool), loss=np.zeros(count), burst=np.zeros((count, 3)),
        queue_bytes=np.full(count, np.inf), names=tuple(link.name for link in made),
    )  # fmt: skip
