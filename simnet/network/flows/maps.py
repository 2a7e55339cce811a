"""Flows over a map (GML, GraphML) or over a matrix of round-trip times.

Every node is a host, named by its label, or by its number in the file (from 0, as in a run) where another node has the
same label or it has none; the number always serves. Each edge is a link in both directions (of a directed map in one).
What the file leaves open of a link is as `link:` says; `host:` gives every host a port up and down. Over a map,
transfers take the shortest routes; in a matrix, every pair has a link of its own, which is its way.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import networkx as nx

from simnet import registry, sources
from simnet.errors import DataError, ScenarioError, nearest
from simnet.network.flows.case import Case
from simnet.network.flows.platform import ImportedPlatform, Platform, PlatformLink, PlatformRoute, built_case


def folder_of(places: sources.Places) -> Path:
    """The folder that names of files count from."""
    return places.file.parent if places.file is not None else Path()


def map_case(section: ImportedPlatform, places: sources.Places, reader: str) -> Case:
    """The case over the graph that a shipped reader of maps makes of the file."""
    try:
        graph: nx.Graph = registry.find("topologies", reader)(path=section.platform, base_dir=folder_of(places))
    except DataError as error:
        raise ScenarioError(str(error), place=places.of("platform"), field="platform") from None
    names = host_names(graph)
    links = [_link(section, places, names, edge, graph.is_directed()) for edge in graph.edges(data=True)]
    flows = [
        flow.model_copy(update={
            end: _host(getattr(flow, end), names, section.platform, f"flows.{i}.{end.rstrip('_')}", places)
            for end in ("from_", "to")
        })
        for i, flow in enumerate(section.flows)
    ]  # fmt: skip
    pairs = {pair for flow in flows for pair in ((flow.from_, flow.to), (flow.to, flow.from_))}
    routes = [
        PlatformRoute.model_construct(from_=a, to=b, via=[a, b])
        for a, b in sorted(pairs) if a != b and reader == "rtt_matrix"
    ]  # fmt: skip
    platform = Platform.model_construct(
        name=section.name, flows=flows, cc=section.cc, warm=section.warm, links=links, routers=[], routes=routes,
        hosts=dict.fromkeys(names, section.host),
    )  # fmt: skip
    notes = tuple(note.replace("network.link.", "link.") for note in graph.graph.get("read_notes", ()))
    return built_case(platform, places, notes)


def host_names(graph: nx.Graph) -> list[str]:
    """A name for each node 0 .. n-1: its label, or its number where the label is no name of its own."""
    labels = [str(data.get("label", "")).strip() for _, data in graph.nodes(data=True)]
    count = Counter(labels)
    return [label if label and count[label] == 1 and not label.isdigit() else str(i) for i, label in enumerate(labels)]


def _host(asked: int | str, names: list[str], file: str, field: str, places: sources.Places) -> str:
    """The name of the host that a flow names, or numbers."""
    text = str(asked)
    if text in names:
        return text
    if text.isdigit() and int(text) < len(names):
        return names[int(text)]
    cure = nearest(text, names) or f"; a number from 0 to {len(names) - 1} serves, too"
    raise ScenarioError(f"there is no host {text!r} in {file}{cure}", place=places.of(field), field=field)


def _link(
    section: ImportedPlatform,
    places: sources.Places,
    names: list[str],
    edge: tuple[int, int, dict[str, Any]],
    one_way: bool,
) -> PlatformLink:
    """An edge as a platform's link, with what `link:` says in the place of what it lacks."""
    a, b, data = edge
    link = section.link
    made: dict[str, Any] = {"from_": names[a], "to": names[b]} if one_way else {"between": (names[a], names[b])}
    for key, example in (("bandwidth", "1 Gbit/s"), ("latency", "5 ms")):
        made[key] = data.get(key, getattr(link, key) if link is not None else None)
        if made[key] is None:
            said = f"{section.platform} says no {key} of {names[a]} - {names[b]}: give `link: {{{key}: {example}}}`"
            raise ScenarioError(said, place=places.of("platform"), field="platform")
    try:
        made["loss"] = float(data.get("loss", link.loss if link is not None else 0.0))
    except (TypeError, ValueError):
        said = f"{section.platform}: loss = {data['loss']!r} of {names[a]} - {names[b]} is no number"
        raise ScenarioError(said, place=places.of("platform"), field="platform") from None
    if link is not None:
        made |= {"burst": link.burst, "queue": link.queue}
    return PlatformLink.model_construct(**made)
