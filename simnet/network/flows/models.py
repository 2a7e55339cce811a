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
from itertools import chain
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
    ways = along(forward), along(backward)
    rows = route_rows(links, ways, len(forward), model, warm)
    return RouteTable(links.bandwidth.astype(np.float64), *_shares(links, ways, len(forward), model), rows)


Ragged = tuple[np.ndarray, np.ndarray]  # the links of all ways, int64 (Z,), and the way of each


def along(ways: Sequence[Sequence[int]]) -> Ragged:
    """The links of some ways, one way after another."""
    links = np.fromiter(chain.from_iterable(ways), np.int64)
    return links, np.repeat(np.arange(len(ways)), np.fromiter(map(len, ways), np.int64, len(ways)))


def route_rows(links: Links, ways: tuple[Ragged, Ragged], routes: int, model: Model, warm: bool) -> np.ndarray:
    """What the engine knows of each route besides its shares, float64 (R, ROUTE_COLUMNS)."""
    (there, of), (back, back_of) = ways
    bandwidth, latency = links.bandwidth[there], links.latency_s[there]
    latency_s = _total(latency, of, routes)
    rows = np.zeros((routes, ROUTE_COLUMNS))
    rows[:, FACTOR], rows[:, WAIT_S] = model.bandwidth_factor, model.latency_factor * latency_s
    late = latency_s > 0.0
    rows[:, PENALTY] = 1.0
    if model.weight_s is not None:  # without latency the penalty is 1, as in SimGrid
        rows[late, PENALTY] = (latency_s + _total(model.weight_s / bandwidth, of, routes))[late]
    alone = links.fatpipe[there]
    rows[:, BOUND] = _least(bandwidth[alone], of[alone], routes)
    rows[late, BOUND] = np.minimum(rows[late, BOUND], model.gamma / (2 * latency_s[late]))
    if model.tcp:
        # a packet is sent on by a link when it has come whole
        one_way = _total(latency + PACKET / bandwidth, of, routes)
        rtt = one_way + _total(links.latency_s[back] + ACK_PACKET / links.bandwidth[back], back_of, routes)
        last = np.full(routes, np.inf)
        last[of[bandwidth < np.inf]] = bandwidth[bandwidth < np.inf]  # of several, the last one stays
        first_byte = one_way - PACKET / last
        rows[:, WAIT_S], rows[:, RTT] = first_byte if warm else rtt + first_byte, rtt
        slowest = _least(bandwidth, of, routes)
        rows[:, BOTTLENECK], rows[:, QUEUE] = slowest * MSS / PACKET, np.inf
        at = np.flatnonzero(bandwidth == slowest[of])[::-1]  # of several, the first one stays
        rows[of[at], QUEUE] = links.queue_bytes[there[at]] / PACKET
        if links.loss.any() or links.burst.any():
            of_each = zip(links.loss[there].tolist(), links.burst[there].tolist(), strict=True)
            passed = np.ones(routes)
            np.multiply.at(passed, of, [1.0 - loss_events(loss, burst) for loss, burst in of_each])
            rows[:, LOSS] = 1.0 - passed
    return rows


def _total(values: np.ndarray, of: np.ndarray, routes: int) -> np.ndarray:
    """The sum of each route's values, from its first link on."""
    return np.bincount(of, values, routes).astype(np.float64)


def _least(values: np.ndarray, of: np.ndarray, routes: int) -> np.ndarray:
    """The least value of each route, infinity where it has none."""
    found = np.full(routes, np.inf)
    np.minimum.at(found, of, values)
    return found


def _shares(
    links: Links, ways: tuple[Ragged, Ragged], routes: int, model: Model
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a flow takes of the links that it shares, in the order in which it comes to them: where each route starts,
    links, shares."""
    (there, there_of), (back, back_of) = ways
    link, of = np.concatenate((there, back)), np.concatenate((there_of, back_of))
    share = np.repeat([model.forward_share, model.cross_traffic], [len(there), len(back)])
    taken = (share > 0.0) & ~links.fatpipe[link] & (links.bandwidth[link] < np.inf)
    link, of, share = link[taken], of[taken], share[taken]
    # a link that comes more than once in a route is one, with all its shares
    _, first, one = np.unique(of * len(links.bandwidth) + link, return_index=True, return_inverse=True)
    order = np.lexsort((first, of[first]))
    start = np.concatenate(([0], np.cumsum(np.bincount(of[first], minlength=routes))))
    return start, link[first][order], _total(share, one, len(first))[order]


def unlimited(table: RouteTable) -> np.ndarray:
    """Routes on which nothing limits the rate: no shared link, no bound; bool (R,)."""
    none: np.ndarray = np.isinf(table.route[:, BOUND]) & (np.diff(table.route_start) == 0)
    return none


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
