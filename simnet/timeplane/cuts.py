"""How the walk of the events tier ends: at a cut by time or by round, or with a node that waits for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simnet.errors import Starved
from simnet.exchange import INF
from simnet.network.fate import FateInTime
from simnet.timeplane.boxes import AverageBox, RelayBox
from simnet.timeplane.departures import ALL_LEFT
from simnet.timeplane.mail import Waiting
from simnet.timeplane.meetings import Meeting
from simnet.timeplane.settle import entered_E

if TYPE_CHECKING:
    from simnet.timeplane.walker import Walker


def leave_waiting(walker: Walker) -> None:
    """At a cut by time, whoever is not at its end stops there; who waits has waited until then."""
    until = walker.account.until
    for i, waiting in enumerate(walker.waiting):
        if walker.finished[i]:
            continue
        gone = walker.gone[i]
        walker.account.finish_s[i] = walker.presence.left_s[i] if gone else until if until < INF else walker.env.now
        if waiting is not None:
            since = waiting.since if isinstance(waiting, Waiting | Meeting) else waiting.since[i]
            if until < INF or gone:
                walker.waited(i, since, until, _handed(walker, i, waiting))
            else:
                walker.account.finish_s[i] = since


def _handed(walker: Walker, i: int, waiting: Any) -> float:
    """When the last of what host i waits for was handed over; infinite where something was not."""
    if isinstance(waiting, Waiting):
        return walker.mail.handed(i, waiting)
    if isinstance(waiting, Meeting):
        return waiting.handed
    known = waiting.missing == 0 if isinstance(waiting, AverageBox | RelayBox) else waiting.left[i] == 0
    handed = waiting.handed if isinstance(waiting, AverageBox | RelayBox) else waiting.handed[i]
    return float(handed) if known else INF


def cut(walker: Walker, last: int, spent: dict[int, tuple[float, float, float, float]]) -> None:
    """The run stops at report `last`: each reporting host is put back to where it made it."""
    ahead: list[Any] = [
        (box.x, entered_E(box.x, [gone and t == INF for gone, t in zip(walker.gone, box.start, strict=True)]))
        for box in walker.exchanges.boxes.values()
        if box.entered and not isinstance(box.x.fate, FateInTime)
    ]
    ahead += [
        (box.x, box.x.fate.drawn_E) for box in walker.exchanges.boxes.values() if isinstance(box.x.fate, FateInTime)
    ]
    walker.account.cut_by_round(last, ahead + walker.averages.entered() + walker.relays.entered())
    for i, (compute, comm, idle, at) in spent.items():
        walker.compute[i], walker.comm[i], walker.idle[i], walker.account.finish_s[i] = compute, comm, idle, at
        walker.reports[i] = last + 1
    for i in (i for i, gone in enumerate(walker.gone) if gone and i not in spent):
        walker.account.finish_s[i] = walker.presence.left_s[i]
        if (waiting := walker.waiting[i]) is not None:
            since = waiting.since if isinstance(waiting, Waiting | Meeting) else waiting.since[i]
            walker.waited(i, since, walker.account.until, _handed(walker, i, waiting))


def check_starved(walker: Walker) -> None:
    """A reporting node that waits for ever starves, unless time was up."""
    reporting = walker.hooks.reporting or walker.recordings
    hosts = [h for recording in reporting for h in recording.members.tolist()]
    if all(walker.gone[h] for h in hosts):
        raise Starved(ALL_LEFT)
    waiting = [h for h in hosts if not walker.finished[h] and not walker.gone[h]]
    if waiting and not walker._queue:
        # the first of those that wait for a node that is gone, since others wait for them in turn
        host = next((h for h in waiting if _waits_for_gone(walker, h)), waiting[0])
        raise Starved(
            f"node {walker.book.network.hosts[host]} waits for ever in round {walker.reports[host]}: "
            f"{walker.mail.why(host)}; give the verb a deadline or a timeout, or let the other side send"
        )


def _waits_for_gone(walker: Walker, host: int) -> bool:
    return any(walker.gone[j] for j in walker.mail.silent(host))
