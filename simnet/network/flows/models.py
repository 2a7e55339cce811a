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

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from simnet.network.flows.links import Links
from simnet.network.flows.state import BOTTLENECK, BOUND, FACTOR, LOSS, PENALTY, QUEUE, ROUTE_COLUMNS, RTT, WAIT_S
from simnet.network.flows.tcp import MSS, PACKET


class Model(NamedTuple):
    """The numbers of one model."""

    latency_factor: float = 1.0
    bandwidth_factor: float = 1.0
    weight_s: float | None = None  # bytes; None: every penalty is 1
    gamma: float = np.inf  # bytes: the largest window
    cross_traffic: float = 0.0
    forward_share: float = 1.0  # what a byte of payload takes of a link
    tcp: bool = False


ACKNOWLEDGEMENTS = 0.05
ACK_PACKET = 60.0  # bytes: IP, TCP, time stamps

MODELS = {
    "maxmin": Model(),
    "cm02": Model(weight_s=0.0, gamma=1e15),
    "lv08": Model(13.01, 0.97, 20537.0, 4194304.0, 0.05),
    "lv08_noxt": Model(13.01, 0.97, 20537.0, 4194304.0),
    "tcp": Model(cross_traffic=ACKNOWLEDGEMENTS, forward_share=PACKET / MSS, tcp=True),
}


class RouteTable(NamedTuple):
    """What the engine knows of R routes over L links: the first five arguments of `make_engine`."""

    capacity: np.ndarray  # float64 (L,): bytes/s
    route_start: np.ndarray  # int64 (R + 1,)
    route_link: np.ndarray  # int64 (Z,)
    route_share: np.ndarray  # float64 (Z,)
    route: np.ndarray  # float64 (R, ROUTE_COLUMNS)


def route_table(
    links: Links, forward: Sequence[Sequence[int]], backward: Sequence[Sequence[int]], model: Model, warm: bool = False
) -> RouteTable:
    """The table of routes (`forward[r]`, and `backward[r]` the way back) under a model.

    Links that do not share (`fatpipe`) bound each flow and take no part in the shares.
    """
    bandwidth, latency = links.bandwidth, links.latency_s
    starts, used, shares = [0], [], []
    rows = np.zeros((len(forward), ROUTE_COLUMNS))
    bandwidths, latencies, shared = bandwidth.tolist(), latency.tolist(), (~links.fatpipe).tolist()
    lossy = bool(links.loss.any() or links.burst.any())
    for r, (there, back) in enumerate(zip(forward, backward, strict=True)):
        latency_s = added(latencies[k] for k in there)
        taken: dict[int, float] = {}
        for k in there:
            taken[k] = taken.get(k, 0.0) + model.forward_share
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
            penalty = latency_s + added(model.weight_s / bandwidths[k] for k in there)
        most = min((bandwidths[k] for k in there if not shared[k]), default=np.inf)
        if latency_s > 0.0:
            most = min(most, model.gamma / (2 * latency_s))
        rows[r, PENALTY], rows[r, BOUND] = penalty, most
        rows[r, WAIT_S], rows[r, FACTOR] = model.latency_factor * latency_s, model.bandwidth_factor
        if model.tcp:
            _tcp_route(bandwidths, latencies, there, back, warm, rows[r])
            if lossy:
                rows[r, LOSS] = 1.0 - np.prod([1.0 - loss_events(links.loss[k], links.burst[k]) for k in there])
            slowest = min(there, key=bandwidths.__getitem__, default=None)
            rows[r, QUEUE] = np.inf if slowest is None else links.queue_bytes[slowest] / PACKET
    return RouteTable(
        bandwidth.astype(np.float64), np.array(starts), np.array(used, np.int64), np.array(shares, np.float64), rows
    )


def unlimited(table: RouteTable) -> np.ndarray:
    """Routes on which nothing limits the rate: no shared link, no bound; bool (R,)."""
    none: np.ndarray = np.isinf(table.route[:, BOUND]) & (np.diff(table.route_start) == 0)
    return none


def _tcp_route(
    bandwidth: list[float], latency: list[float], there: Sequence[int], back: Sequence[int], warm: bool, row: np.ndarray
) -> None:
    """What TCP knows of a route's times: a packet is sent on by a link when it has come whole."""
    one_way = added(latency[k] + PACKET / bandwidth[k] for k in there)
    rtt = one_way + added(latency[k] + ACK_PACKET / bandwidth[k] for k in back)
    last = next((k for k in reversed(there) if bandwidth[k] < np.inf), None)
    first_byte = one_way - (PACKET / bandwidth[last] if last is not None else 0.0)
    row[WAIT_S] = first_byte if warm else rtt + first_byte
    row[RTT] = rtt
    row[BOTTLENECK] = min((bandwidth[k] for k in there), default=np.inf) * MSS / PACKET


def loss_events(loss: float, burst: Sequence[float]) -> float:
    """How often a link loses packets, per packet, a burst counted once."""
    return 1.0 - (1.0 - loss) * (1.0 - burst_events(*burst))


def lost_by(events: Sequence[float]) -> np.ndarray:
    """Of what is lost on a way, the share that is lost by the end of each of its links; float64, the last is 1.

    `events` are the links' `loss_events`: a packet is lost by one link if it got over those before.
    """
    left, lost = 1.0, []
    for p in events:
        lost.append(left * p)
        left *= 1.0 - p
    by = np.cumsum(lost)
    if len(by):
        by = by / by[-1] if by[-1] > 0.0 else by
        by[-1] = 1.0
    return by


def added(numbers: Iterable[float]) -> float:
    """Their sum, one after another: from Python 3.12 on `sum` makes up for rounding, and compiled code does not."""
    total = 0.0
    for number in numbers:
        total += number
    return total


def burst_events(to_bad: float, to_good: float, loss: float) -> float:
    """How often a Gilbert-Elliott chain loses packets, per packet: each stay in the bad state is one event or none.

    The long-run share of packets that find the chain turning bad, times the probability that its stay loses any. A bad
    state that is never left loses every packet on its own.
    """
    if to_bad == 0.0 or loss == 0.0:
        return 0.0
    if to_good == 0.0:
        return loss
    turns = to_bad * to_good / (to_bad + to_good)
    spared = to_good * (1.0 - loss) / (1.0 - (1.0 - to_good) * (1.0 - loss)) if loss < 1.0 else 0.0
    return turns * (1.0 - spared)
