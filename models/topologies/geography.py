"""What a map leaves out, filled by stated rules: speeds of links, places of nodes, and latencies from distances.

- Bandwidth of an edge: its own `bandwidth` (bytes/s), else its `LinkSpeedRaw` (bit/s) / 8, else the median of the map's
  others; in a map that says no speed at all it stays open, for the scenario's `network.link`.
- Place of a node: its own `Latitude` and `Longitude` (degrees), else the middle of its neighbours that have one, taken
  over the nodes in their order and again until no more are found.
- Latency of an edge: its own `latency` (s), else the great-circle distance of its ends over 2e8 m/s (light in glass);
  where an end has no place it stays open.
"""

from __future__ import annotations

import math
from statistics import median
from typing import Any

import networkx as nx

from simnet.errors import DataError

EARTH_RADIUS_M = 6_371_008.8  # mean radius
FIBRE_M_PER_S = 2e8


def great_circle_m(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Metres along the surface between two places, each (latitude, longitude) in degrees.

    >>> round(great_circle_m((0, 0), (0, 90)) / 1000)
    10008
    """
    (lat_a, lon_a), (lat_b, lon_b) = (tuple(map(math.radians, place)) for place in (a, b))
    half = math.sin((lat_b - lat_a) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(min(1.0, half)))


def fill(graph: nx.Graph, file: str) -> list[str]:
    """Fills a map in place by the rules above; says what it filled. Raises DataError for what no number can be."""
    return [*_speeds(graph, file), *_latencies(graph, _places(graph, file))]


def _number(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{what} = {value!r} is no number")
    return number


def _speeds(graph: nx.Graph, file: str) -> list[str]:
    known = []
    for u, v, data in graph.edges(data=True):
        if "bandwidth" not in data and "LinkSpeedRaw" in data:
            data["bandwidth"] = _number(data["LinkSpeedRaw"], f"{file}: edge {u}-{v}: LinkSpeedRaw") / 8
        if "bandwidth" in data:
            data["bandwidth"] = _number(data["bandwidth"], f"{file}: edge {u}-{v}: bandwidth")
            if data["bandwidth"] <= 0:
                raise DataError(f"{file}: edge {u}-{v}: bandwidth = {data['bandwidth']:g}: must be above 0 bytes/s")
            known.append(data["bandwidth"])
    missing = [data for _, _, data in graph.edges(data=True) if "bandwidth" not in data]
    if not missing:
        return []
    if not known:
        return [f"none of {len(missing)} links says its speed: network.link.bandwidth counts"]
    for data in missing:
        data["bandwidth"] = median(known)
    return [f"{len(missing)} of {graph.number_of_edges()} links say no speed: the median of the others counts"]


def _places(graph: nx.Graph, file: str) -> tuple[dict[Any, tuple[float, float]], int]:
    """Latitude and longitude of each node that has a place or was given one, and how many were given one."""
    places = {}
    for node, data in graph.nodes(data=True):
        if "Latitude" in data and "Longitude" in data:
            pair = tuple(_number(data[name], f"{file}: node {node}: {name}") for name in ("Latitude", "Longitude"))
            if abs(pair[0]) > 90 or abs(pair[1]) > 360:
                raise DataError(f"{file}: node {node}: there is no place at {pair[0]:g}, {pair[1]:g}")
            places[node] = (pair[0], pair[1])
    own = len(places)
    near = graph.to_undirected(as_view=True) if graph.is_directed() else graph
    found = bool(places)
    while found:
        found = False
        for node in graph:
            around = [places[other] for other in near[node] if other in places]
            if node not in places and around:
                places[node] = _middle(around)
                found = True
    return places, len(places) - own


def _middle(places: list[tuple[float, float]]) -> tuple[float, float]:
    """The place in the middle of others: of their points in space, brought back to the surface."""
    if places.count(places[0]) == len(places):
        return places[0]  # itself, not a rounding error beside it
    x = y = z = 0.0
    for latitude, longitude in places:
        lat, lon = math.radians(latitude), math.radians(longitude)
        x, y, z = x + math.cos(lat) * math.cos(lon), y + math.cos(lat) * math.sin(lon), z + math.sin(lat)
    return math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))


def _latencies(graph: nx.Graph, placed: tuple[dict[Any, tuple[float, float]], int]) -> list[str]:
    places, given = placed
    notes, open_ = [], 0
    for u, v, data in graph.edges(data=True):
        if "latency" not in data and u in places and v in places:
            data["latency"] = great_circle_m(places[u], places[v]) / FIBRE_M_PER_S
        open_ += "latency" not in data
    if given:
        notes.append(f"{given} of {len(graph)} nodes have no place: the middle of their neighbours counts")
    if open_:
        notes.append(
            f"{open_} of {graph.number_of_edges()} links have ends without a place: network.link.latency counts"
        )
    return notes
