"""Elements that stand for many hosts: <cluster> (flat, with a backbone, torus) and <cabinet>."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from simnet.network.simgrid.platform import Host, Link
from simnet.network.simgrid.quantities import bandwidth, seconds, speed, whole_numbers
from simnet.network.simgrid.tree import Element
from simnet.network.simgrid.zones import Cluster, Point, Spoke, Torus, Zone

if TYPE_CHECKING:
    from simnet.network.simgrid.reader import Reader

_POLICIES = ("SPLITDUPLEX", "SHARED", "FATPIPE")


def _hosts(reader: Reader, zone: Zone, element: Element) -> list[tuple[int, Point]]:
    """The hosts prefix + number + suffix, with their numbers."""
    made, flops, cores = [], speed(element), reader.cores(element)
    for number in whole_numbers(element, "radical", element.need("radical")):
        name = f"{element.get('prefix')}{number}{element.get('suffix')}"
        point = reader.point(zone, element, name, "host")
        reader.platform.hosts[name] = Host(point, flops, cores)
        made.append((number, point))
    return made


def cluster(reader: Reader, parent: Zone | None, element: Element) -> None:
    """<cluster>: a zone of hosts, each with its own link, around a backbone if it has one, or on a torus."""
    name, torus = element.need("id"), element.choice("topology", "FLAT", ("FLAT", "TORUS")) == "TORUS"
    if element.get("loopback_bw"):
        bandwidth(element, "loopback_bw")  # checked, though nothing is sent from a host to itself
        seconds(element, "loopback_lat")
    if torus:
        _torus(reader, parent, element)
        return
    zone = Cluster(name, parent)
    reader.named(element, zone.point)
    policy = element.choice("sharing_policy", "SPLITDUPLEX", _POLICIES)
    rate, latency = bandwidth(element, "bw"), seconds(element, "lat")
    for number, point in _hosts(reader, zone, element):
        up, down = reader.duplex(element, Link(f"{name}_link_{number}", rate, latency), policy)
        limiter = _limiter(reader, element, f"{name}_link_{number}_limiter")
        zone.spokes[point.number] = Spoke((*limiter, up), (down, *limiter))
    if element.get("bb_bw") or element.get("bb_lat"):
        shared = element.choice("bb_sharing_policy", "SHARED", ("SHARED", "FATPIPE"))
        link = Link(f"{name}_backbone", bandwidth(element, "bb_bw"), seconds(element, "bb_lat"))
        zone.backbone = (reader.duplex(element, link, shared)[0],)
    _router(reader, zone, element)


def _limiter(reader: Reader, element: Element, name: str) -> tuple[int, ...]:
    """The link that all of a host's transfers share, both ways."""
    if not element.get("limiter_link"):
        return ()
    return (reader.new_link(element, Link(name, bandwidth(element, "limiter_link"), 0.0)),)


def _router(reader: Reader, zone: Zone, element: Element) -> None:
    named = f"{element.get('prefix')}{zone.name}_router{element.get('suffix')}"
    reader.point(zone, element, element.get("router_id") or named, "router")


def _torus(reader: Reader, parent: Zone | None, element: Element) -> None:
    name = element.need("id")
    sizes = whole_numbers(element, "topo_parameters", element.need("topo_parameters"))
    if element.get("bb_bw") or element.get("bb_lat"):
        raise element.error("a TORUS has no backbone: leave out bb_bw and bb_lat")
    zone = Torus(name, parent, sizes)
    reader.named(element, zone.point)
    count = len(_hosts(reader, zone, element))
    if min(sizes) < 1 or math.prod(sizes) != count:
        raise element.error(f"topo_parameters = {element.get('topo_parameters')!r}: is a torus of {math.prod(sizes)} "
                            f"nodes, but radical names {count}")  # fmt: skip
    policy = element.choice("sharing_policy", "SPLITDUPLEX", _POLICIES)
    rate, latency = bandwidth(element, "bw"), seconds(element, "lat")
    for node in range(count):
        limiter = _limiter(reader, element, f"{name}_link_{node}_limiter")
        if limiter:
            zone.limiter[node] = limiter[0]
        stride = 1
        for dimension, size in enumerate(sizes):
            there = node + stride * ((node // stride + 1) % size - node // stride % size)
            link = Link(f"{name}_link_from_{node}_to_{there}", rate, latency)
            if size > 1:
                zone.links[node, dimension] = reader.duplex(element, link, policy)
            stride *= size
    _router(reader, zone, element)


def cabinet(reader: Reader, zone: Zone, element: Element) -> None:
    """<cabinet>: hosts of a Cluster zone, each with its own link."""
    if not isinstance(zone, Cluster):
        raise element.error('needs a zone with routing="Cluster"')
    rate, latency = bandwidth(element, "bw"), seconds(element, "lat")
    for _, point in _hosts(reader, zone, element):
        up, down = reader.duplex(element, Link(f"link_{point.name}", rate, latency), "SPLITDUPLEX")
        zone.spokes[point.number] = Spoke((up,), (down,))
