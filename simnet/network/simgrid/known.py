"""Which elements and attributes of SimGrid's platform files (version 4) are read; all others are refused."""

from __future__ import annotations

ZONES = ("zone", "AS")
ZONE_ROUTES = ("zoneRoute", "ASroute")
BYPASSES = ("bypassRoute", "bypassZoneRoute", "bypassASroute")
_INSIDE = ("prop", "host", "router", "link", "route", "cluster", "cabinet", "peer", "backbone", "host_link", "trace",
           "trace_connect", *ZONES, *ZONE_ROUTES, *BYPASSES)  # fmt: skip

# element: (attributes, children). What has no part in the network (prop, disk, config) is read over.
KNOWN: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "platform": (("version",), ("config", "trace", "trace_connect", "cluster", "peer", *ZONES)),
    "config": (("id",), ("prop",)),
    "prop": (("id", "value"), ()),
    "disk": (("id", "read_bw", "write_bw"), ("prop",)),
    "host": (("id", "speed", "core", "pstate", "coordinates", "speed_file", "availability_file", "state_file"),
             ("prop", "disk")),
    "router": (("id", "coordinates"), ()),
    "peer": (("id", "speed", "coordinates", "bw_in", "bw_out", "speed_file", "availability_file", "state_file"), ()),
    "link": (("id", "bandwidth", "latency", "sharing_policy", "bandwidth_file", "latency_file", "state_file"),
             ("prop",)),
    "backbone": (("id", "bandwidth", "latency"), ()),
    "host_link": (("id", "up", "down"), ()),
    "link_ctn": (("id", "direction"), ()),
    "route": (("src", "dst", "symmetrical"), ("link_ctn",)),
    "cluster": (("id", "prefix", "suffix", "radical", "speed", "core", "bw", "lat", "sharing_policy", "bb_bw",
                 "bb_lat", "bb_sharing_policy", "topology", "topo_parameters", "loopback_bw", "loopback_lat",
                 "limiter_link", "router_id"), ("prop",)),
    "cabinet": (("id", "prefix", "suffix", "radical", "speed", "bw", "lat"), ("prop",)),
    "trace": (("id", "file", "periodicity"), ()),
    "trace_connect": (("kind", "trace", "element"), ()),
}  # fmt: skip
KNOWN |= dict.fromkeys(ZONES, (("id", "routing"), _INSIDE))
KNOWN |= dict.fromkeys(ZONE_ROUTES, (("src", "dst", "gw_src", "gw_dst", "symmetrical"), ("link_ctn",)))
KNOWN |= dict.fromkeys(BYPASSES, (("src", "dst", "gw_src", "gw_dst"), ("link_ctn",)))

ROUTINGS = ("Full", "Floyd", "Dijkstra", "DijkstraCache", "Star", "Cluster", "None", "Vivaldi")
