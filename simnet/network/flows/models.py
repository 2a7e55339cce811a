"""The models of the flow engine that differ in weights, bounds and factors only.

A flow first waits `latency_factor` times the latency of its route; then its bytes flow at `bandwidth_factor` x, where
the x are weighted max-min shares of the links' bandwidths: on a saturated link x w is the same for all flows that it
limits. The penalty w is the latency of the route plus S over the bandwidth of each of its links (`maxmin`: 1), x is at
most `gamma` / (2 latency), and every link of the way back carries `cross_traffic` x.

    maxmin      plain max-min fairness, latency paid first
    cm02        penalty = latency (Casanova and Marchal 2002): the share of TCP flows of unequal round trip
    lv08        cm02 with the corrections of Velho and Legrand (2009): SimGrid's default
    lv08_noxt   lv08 without the traffic of acknowledgements
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from simnet.network.flows.links import Links
from simnet.network.flows.state import BOUND, FACTOR, PENALTY, WAIT_S


class Model(NamedTuple):
    """The numbers of one model."""

    latency_factor: float = 1.0
    bandwidth_factor: float = 1.0
    weight_s: float | None = None  # bytes; None: every penalty is 1
    gamma: float = np.inf  # bytes: the largest window
    cross_traffic: float = 0.0


MODELS = {
    "maxmin": Model(),
    "cm02": Model(weight_s=0.0, gamma=1e15),
    "lv08": Model(13.01, 0.97, 20537.0, 4194304.0, 0.05),
    "lv08_noxt": Model(13.01, 0.97, 20537.0, 4194304.0),
}


class RouteTable(NamedTuple):
    """What the engine knows of R routes over L links: the first five arguments of `make_engine`."""

    capacity: np.ndarray  # float64 (L,): bytes/s
    route_start: np.ndarray  # int64 (R + 1,)
    route_link: np.ndarray  # int64 (Z,)
    route_share: np.ndarray  # float64 (Z,)
    route: np.ndarray  # float64 (R, 4)


def route_table(
    links: Links, forward: Sequence[Sequence[int]], backward: Sequence[Sequence[int]], model: Model
) -> RouteTable:
    """The table of routes (`forward[r]`, and `backward[r]` the way back) under a model.

    Links that do not share (`fatpipe`) bound each flow and take no part in the shares.
    """
    bandwidth, latency = links.bandwidth, links.latency_s
    starts, used, shares = [0], [], []
    rows = np.empty((len(forward), 4))
    bandwidths, latencies, shared = bandwidth.tolist(), latency.tolist(), (~links.fatpipe).tolist()
    for r, (there, back) in enumerate(zip(forward, backward, strict=True)):
        latency_s = sum(latencies[k] for k in there)
        taken: dict[int, float] = {}
        for k in there:
            taken[k] = taken.get(k, 0.0) + 1.0
        if model.cross_traffic:
            for k in back:
                taken[k] = taken.get(k, 0.0) + model.cross_traffic
        for k, share in taken.items():
            if shared[k] and bandwidths[k] < np.inf:
                used.append(k)
                shares.append(share)
        starts.append(len(used))
        penalty = 1.0
        if model.weight_s is not None and latency_s > 0.0:  # without latency the penalty is 1, as in SimGrid
            penalty = latency_s + sum(model.weight_s / bandwidths[k] for k in there)
        most = min((bandwidths[k] for k in there if not shared[k]), default=np.inf)
        if latency_s > 0.0:
            most = min(most, model.gamma / (2 * latency_s))
        rows[r, PENALTY], rows[r, BOUND] = penalty, most
        rows[r, WAIT_S], rows[r, FACTOR] = model.latency_factor * latency_s, model.bandwidth_factor
    return RouteTable(
        bandwidth.astype(np.float64), np.array(starts), np.array(used, np.int64), np.array(shares, np.float64), rows
    )
