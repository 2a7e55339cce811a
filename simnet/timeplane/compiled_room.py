"""Room for whatever the compiled walk runs out of: its arrays become longer between two calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simnet.exchange import INF
from simnet.timeplane import compiled as c
from simnet.timeplane import compiled_parts as st
from simnet.timeplane.tables import longer

if TYPE_CHECKING:
    from simnet.timeplane.events import CompiledWalker


def grow(walk: CompiledWalker) -> None:
    """Whatever the walk ran out of: events, spans, flows, or rows for reports."""
    more = walk.edges.most_out + 8
    if walk.shared is not None and walk.shared.engine is not None:
        walk.shared.fit(walk.edges.most_out)
        more = walk.shared.more(walk.edges.most_out)
    while walk.state[st.SIZE] + more > len(walk.heap.t):
        more_events(walk)
    walk.flush_spans()
    while 2 * more + 8 > len(walk.hosts.spans):
        walk.hosts = walk.hosts._replace(spans=longer(walk.hosts.spans))
    ahead = int(walk.hosts.reports.max()) - int(walk.state[st.FIRST_REPORT])
    if ahead >= len(walk.hosts.made):
        _more_reports(walk)


def more_events(walk: CompiledWalker) -> None:
    """Room for twice as many events."""
    room = len(walk.heap.t)
    walk.heap = c.Heap(*(longer(a) for a in walk.heap))
    walk.heap.row[room:] = np.arange(room, 2 * room)


def _more_reports(walk: CompiledWalker) -> None:
    """Twice the rows for reports, each in its new place."""
    hosts, old = walk.hosts, len(walk.hosts.made)
    times, made = np.zeros((2 * old, walk.book.n)), np.zeros(2 * old, np.int64)
    spent = np.zeros((2 * old, 3, walk.book.n))
    times[:, walk.gone], made[:] = INF, np.count_nonzero(walk.gone)
    for r in range(int(walk.state[st.FIRST_REPORT]), int(hosts.reports.max())):
        times[r % (2 * old)], made[r % (2 * old)] = hosts.times[r % old], hosts.made[r % old]
        spent[r % (2 * old)] = hosts.spent[r % old]
    walk.hosts = hosts._replace(times=times, made=made, spent=spent)


def more_places(walk: CompiledWalker) -> None:
    """Twice as many exchanges can be under way, each as wide as the largest set of edges."""
    more = max(4, len(walk.at))
    widest = walk.edges.widest
    widths = {"arrival": widest, "offset": widest, "own": widest, "busy": walk.edges.most_ports}
    widths |= dict.fromkeys(("sent", "attempts", "began"), widest if walk.timed is not None else 0)
    grown = []
    for name, array in zip(c.Places._fields, walk.places, strict=True):
        shape = (len(walk.at) + more, *array.shape[1:])
        if name in widths:
            shape = (shape[0], max(array.shape[1], widths[name]))
        fresh = np.zeros(shape, array.dtype)
        fresh[tuple(slice(0, k) for k in array.shape)] = array
        grown.append(fresh)
    walk.places = c.Places(*grown)
    walk.at += [None] * more
    if len(walk.hosts.closings) < 2 * len(walk.at) + 8:
        walk.hosts = walk.hosts._replace(closings=np.zeros(4 * len(walk.at) + 8, np.int64))
