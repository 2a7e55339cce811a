"""How the walk of the events tier ends: at a cut by time or by round, or with a node that waits for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simnet.errors import Starved
from simnet.exchange import INF
from simnet.timeplane.boxes import AverageBox, RelayBox
from simnet.timeplane.mail import Waiting

if TYPE_CHECKING:
    from simnet.timeplane.walker import Walker


def leave_waiting(walker: Walker) -> None:
    """At a cut by time, whoever is not at its end stops there; who waits has waited until then."""
    until = walker.account.until
    for i, waiting in enumerate(walker.waiting):
        if walker.finished[i]:
            continue
        walker.account.finish_s[i] = until if until < INF else walker.env.now
        if waiting is not None:
            since = waiting.since if isinstance(waiting, Waiting) else waiting.since[i]
            if until < INF:
                walker.waited(i, since, until, _handed(walker, i, waiting))
            else:
                walker.account.finish_s[i] = since


def _handed(walker: Walker, i: int, waiting: Any) -> float:
    """When the last of what host i waits for was handed over; infinite where something was not."""
    if isinstance(waiting, Waiting):
        return walker.mail.handed(i, waiting)
    known = waiting.missing == 0 if isinstance(waiting, AverageBox | RelayBox) else waiting.left[i] == 0
    handed = waiting.handed if isinstance(waiting, AverageBox | RelayBox) else waiting.handed[i]
    return float(handed) if known else INF


def cut(walker: Walker, last: int, spent: dict[int, tuple[float, float, float, float]]) -> None:
    """The run stops at report `last`: each reporting host is put back to where it made it."""
    ahead: list[Any] = [
        (box.x, None if box.x.active_n is None else box.x.active_n[box.x.edges.source])
        for box in walker.exchanges.boxes.values()
        if box.entered
    ]
    walker.account.cut_by_round(last, ahead + walker.averages.entered() + walker.relays.entered())
    for i, (compute, comm, idle, at) in spent.items():
        walker.compute[i], walker.comm[i], walker.idle[i], walker.account.finish_s[i] = compute, comm, idle, at
        walker.reports[i] = last + 1


def check_starved(walker: Walker) -> None:
    """A reporting node that waits for ever starves, unless time was up."""
    if walker._queue:
        return
    reporting = [r for r in walker.recordings if r.reports] or walker.recordings
    for recording in reporting:
        for host in recording.members.tolist():
            if not walker.finished[host]:
                name = walker.book.network.hosts[host]
                raise Starved(
                    f"node {name} waits for ever in round {walker.reports[host]}: {walker.mail.why(host)}; "
                    "give the verb a deadline or a timeout, or let the other side send"
                )
