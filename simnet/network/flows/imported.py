"""Flows over the network in another file: of a SimGrid platform, of a map, of a matrix of round-trip times."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import numpy as np

from simnet import sources
from simnet.errors import DataError, ScenarioError, TopologyError, nearest
from simnet.network.flows.case import Case
from simnet.network.flows.links import Links
from simnet.network.flows.maps import folder_of, map_case
from simnet.network.flows.platform import ImportedPlatform, transfers_of
from simnet.network.flows.traces import Trace
from simnet.network.simgrid.platform import Link, SimgridPlatform
from simnet.network.simgrid.profiles import Profile
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

    A profile of bandwidth becomes a trace, and so does one of state: a link that is off carries nothing until it is on
    again. A latency that changes is refused where a flow meets it.
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
    for a, b in zip(source, target, strict=True):
        if a != b:
            ways[a, b] = platform.route(a, b)
            with suppress(TopologyError):  # the models that need the way back say so
                ways[b, a] = platform.route(b, a)
    used = list(dict.fromkeys(k for way in ways.values() for k in way))
    place = {k: i for i, k in enumerate(used)}
    routes = {(number[a], number[b]): tuple(place[k] for k in way) for (a, b), way in ways.items()}
    made = [platform.links[k] for k in used]
    traces = {i: trace for i, link in enumerate(made) if (trace := _trace(platform, link)) is not None}
    return Case(
        section.name, tuple(platform.hosts), _links(made, traces), routes,
        transfers_of(section, [number[a] for a in source], [number[b] for b in target]), section.cc, section.warm,
        traces=traces, notes=tuple(platform.notes), place_of=places.of,
    )  # fmt: skip


def _links(made: list[Link], traces: dict[int, Trace]) -> Links:
    count = len(made)
    return Links(
        bandwidth=np.array([traces[i].mean if i in traces else link.bandwidth for i, link in enumerate(made)]),
        latency_s=np.array([link.latency_s for link in made], np.float64),
        fatpipe=np.array([link.fatpipe for link in made], bool), loss=np.zeros(count), burst=np.zeros((count, 3)),
        queue_bytes=np.full(count, np.inf), names=tuple(link.name for link in made),
    )  # fmt: skip


def _trace(platform: SimgridPlatform, link: Link) -> Trace | None:
    """What a link's profiles make of its bandwidth."""
    if "latency_file" in link.profiles:
        raise DataError(
            f"{platform.file.name}: link {link.name}: has a latency that changes (latency_file), which is not "
            f"simulated: leave the profile out, or send over other links"
        )
    if len(link.profiles) > 1:
        raise DataError(
            f"{platform.file.name}: link {link.name}: has profiles of bandwidth and of state; write one that says both"
        )
    for attribute, profile in link.profiles.items():
        rates = np.array(profile.values, np.float64)
        if attribute == "state_file":
            rates = np.where(rates > 0, link.bandwidth, 0.0)
        try:
            return Trace(np.array(profile.times_s, np.float64), rates, link.bandwidth, _period(profile))
        except DataError as error:
            raise DataError(f"{platform.file.name}: link {link.name}: {attribute}: {error}") from None
    return None


def _period(profile: Profile) -> float:
    """As SimGrid counts: the first change comes again its own time after the pause that follows the last."""
    return profile.times_s[-1] + profile.again_s if profile.again_s < math.inf else math.inf
