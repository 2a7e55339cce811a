"""Nodes that leave for good, in the events tier: from that moment on nobody waits for them, but who waits for a message
of theirs. Each is one event at its moment, ahead of whatever else happens then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simnet.network.network import Network
from simnet.presence import Presence

if TYPE_CHECKING:
    from simnet.timeplane.walker import Walker

ALL_LEFT = "every node that reports has left for good; see `nodes.absence`"
FIRST = 0  # the priority within one instant


def watch_departures(walker: Walker) -> None:
    """Put into the queue when each host leaves for good."""
    for i in np.flatnonzero(walker.account.gone_n).tolist():
        walker.push(float(walker.presence.left_s[i]), _depart, walker, i, FIRST)


def _depart(event: Any) -> None:
    walker, i = event.a, event.b
    if walker.finished[i]:
        return
    walker.gone[i] = True
    recording = walker.recording_of[i]
    for under_way in (walker.exchanges, walker.averages, walker.relays):
        under_way.depart(i, recording.role)
    walker.meetings.finished(i, walker.env._now)
    if walker.items is not None:
        walker.items.left(recording, walker.member_of[i])
    if recording not in walker.hooks.reporting:
        return
    walker.departed.append(i)
    walker.unfinished -= 1
    walker.ended = walker.unfinished == 0
    there = [m for m, h in enumerate(recording.members.tolist()) if not walker.gone[h]]
    for r in sorted(r for index, r in walker.times if index == recording.index_):
        if (walker.times[recording.index_, r][there] < np.inf).all():
            walker.complete(recording, r)
            if walker.stopping:
                return
    if not there:
        walker.told_gone(recording)


def who(network: Network, presence: Presence, hosts: list[int]) -> str:
    """Hosts by name, with when those left that never return."""
    return ", ".join(
        str(network.hosts[h])
        + (f" (which left for good at {presence.left_s[h]:g} s)" if presence.left_s[h] < np.inf else "")
        for h in hosts
    )
