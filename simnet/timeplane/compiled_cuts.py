"""Who leaves for good, and how the compiled walk ends: at a cut by time or round, or with one that waits for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simnet.errors import Starved
from simnet.exchange import INF
from simnet.network.fate import FateInTime
from simnet.timeplane import compiled_parts as st
from simnet.timeplane.departures import ALL_LEFT, who
from simnet.timeplane.settle import entered_E, take_back

if TYPE_CHECKING:
    from simnet.timeplane.events import CompiledWalker


def depart(walk: CompiledWalker, i: int) -> None:
    """Host i has left for good: nobody waits for it any more."""
    if walk.hosts.finished[i]:
        return
    walk.gone[i] = True
    walk.state[st.UNFINISHED] -= 1
    for x, s in sorted(walk.open.values(), key=lambda pair: pair[0].id):
        if x.closed or walk.places.leave[s, i] < INF:
            continue
        if walk.places.start[s, i] == INF and walk.account.until == INF:
            take_back(walk.account, x, i)
        walk.places.remaining[s] -= 1
        if walk.places.remaining[s] == 0:
            walk.hosts.closings[walk.state[st.CLOSINGS]] = s
            walk.state[st.CLOSINGS] += 1
    walk.close()
    first, rows = int(walk.state[st.FIRST_REPORT]), len(walk.hosts.made)
    for r in range(max(first, int(walk.hosts.reports[i])), first + rows):
        walk.count_out(r % rows, i)
    while not walk.stopping and walk.complete():
        walk.report()


def leave_waiting(walk: CompiledWalker, until: float) -> None:
    """At a cut by time, whoever is not at its end stops there; who waits has waited until then."""
    hosts = walk.hosts
    for i in np.flatnonzero(~hosts.finished & ~walk.gone).tolist():
        s = int(hosts.waiting[i])
        since = float(walk.places.since[s, i]) if s >= 0 else INF
        hosts.finish_s[i] = until if until < INF else since if s >= 0 else hosts.finish_s[i]
        if until < INF and s >= 0:  # for someone who has not sent: all of it is idle
            hosts.idle[i] += walk.book.presence.there(i, since, until)
            walk.account.span(i, "wait", since, until, int(hosts.reports[i]))
    for i in np.flatnonzero(walk.gone).tolist():
        stop_waiting(walk, i)


def stop_waiting(walk: CompiledWalker, i: int) -> None:
    """Host i has left for good, waiting for someone who has not sent: it was idle until then."""
    hosts, s, until = walk.hosts, int(walk.hosts.waiting[i]), walk.account.until
    hosts.finish_s[i] = walk.book.presence.left_s[i]
    if s >= 0:
        hosts.waiting[i], since = -1, float(walk.places.since[s, i])
        hosts.idle[i] += walk.book.presence.there(i, since, until)
        walk.account.span(i, "wait", since, until, int(hosts.reports[i]))


def check_starved(walk: CompiledWalker) -> None:
    """Starved, naming a host that waits for ever: one that waits for a node that is gone, if there is any."""
    hosts, network = walk.hosts, walk.book.network
    if walk.gone.all():
        raise Starved(ALL_LEFT)
    waiting = np.flatnonzero(~hosts.finished & ~walk.gone).tolist()
    if not waiting or walk.state[st.SIZE]:
        return
    host = next((h for h in waiting if walk.gone[_silent(walk, h)].any()), waiting[0])
    raise Starved(
        f"node {network.hosts[host]} waits for ever in round {hosts.reports[host]}: neighbour "
        f"{who(network, walk.book.presence, _silent(walk, host))} never gets to that exchange; give the verb a "
        "deadline or a timeout, or let the other side send"
    )


def _silent(walk: CompiledWalker, host: int) -> list[int]:
    """Whose messages a host waits for that never come."""
    s = int(walk.hosts.waiting[host])
    x = walk.at[s]
    assert x is not None
    sources = x.edges.source[x.edges.in_ptr[host] : x.edges.in_ptr[host + 1]]
    return [int(j) for j in sources if walk.places.start[s, j] == INF and walk.places.active[s, j]]


def cut(walk: CompiledWalker, last: int, row: int) -> None:
    """The run stops at report `last`: each host is put back to where it made it."""
    walk.flush_spans()
    ahead: list[Any] = [
        (x, entered_E(x, (walk.gone & (walk.places.start[s] == INF)).tolist()))
        for x, s in walk.open.values()
        if not x.closed and walk.account.until == INF and not isinstance(x.fate, FateInTime)
    ]
    ahead += [(x, x.fate.drawn_E) for x, _ in walk.open.values() if not x.closed and isinstance(x.fate, FateInTime)]
    walk.account.cut_by_round(last, ahead)
    hosts = walk.hosts
    made = hosts.times[row] < INF
    hosts.compute[made], hosts.comm[made], hosts.idle[made] = hosts.spent[row][:, made]
    hosts.finish_s[made], hosts.reports[made] = hosts.times[row][made], last + 1
    for i in np.flatnonzero(~made).tolist():
        stop_waiting(walk, i)
