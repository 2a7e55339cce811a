"""What became of an exchange's messages, once its receivers have left: for the value plane, the ledger and the log.

Legend: n hosts, E edges of the exchange. A start that never was, and an arrival that nobody knows, are infinite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simnet.book import Book
from simnet.exchange import INF, Exchange
from simnet.network.fate import FateInTime
from simnet.timeplane.account import Account


def settle(
    account: Account,
    x: Exchange,
    start_n: np.ndarray,
    arrival_E: np.ndarray,
    leave_n: np.ndarray,
    entered: bool,
    learn: bool,
) -> None:
    """Fill in what arrived in time (at a cut: of an unfinished exchange).

    Its bytes are entered here unless they are `entered` already. `learn`: also which older message stands in
    under `missing="stale"`.
    """
    edges = x.edges
    active_E = _sent(x, start_n)
    got = in_time(account, x, start_n, arrival_E, leave_n, active_E)
    x.got_E = None if got is None or got.all() else got
    if x.missing == "stale" and learn:
        arrived = arrival_E if active_E is None else np.where(active_E, arrival_E, INF)
        settle_stale(account.book, x, arrived, leave_n, active_E)
    if not entered:
        account.sent(x.round, edges, x.payload_bytes, x.fate, start_n, active_E)


def in_time(
    account: Account, x: Exchange, start_n: np.ndarray, arrival_E: np.ndarray, leave_n: np.ndarray,
    sent_E: np.ndarray | None,
) -> np.ndarray | None:  # fmt: skip
    """Which messages arrived in time, at receivers that ever leave the exchange; None for all.

    Who is away takes a message at its return, and its deadline, too, strikes no earlier.
    """
    presence, target = account.book.presence, x.edges.target
    parts = [through_E(account.book, x, arrival_E), sent_E]
    if x.deadline_s < INF:
        limit_n = start_n + x.deadline_s
        if presence:
            arrival_E = presence.back_each(target, arrival_E)
            limit_n = presence.back_each(np.arange(len(limit_n)), limit_n)
        parts.append(arrival_E <= limit_n[target])
    if account.departures:
        parts.append(~account.gone_n[target] | (leave_n[target] < INF))
    known = [part for part in parts if part is not None]
    return np.logical_and.reduce(known) if known else None


def through_E(book: Book, x: Exchange, arrival_E: np.ndarray) -> np.ndarray | None:
    """Which messages get through, however late; None for all. But for `retry`, one that finds its receiver away is
    lost; of an arrival that is not known yet (infinite), nothing is held.
    """
    if book.network.policy == "retry":
        return None
    parts = [] if x.fate is None else [x.fate.delivered_E]
    if book.presence:
        parts.append(book.presence.back_each(x.edges.target, arrival_E) <= arrival_E)
    return np.logical_and.reduce(parts) if parts else None


def enter_arrivals(account: Account, x: Exchange, start_n: np.ndarray, arrival_E: np.ndarray) -> None:
    """Enter an exchange's messages in the event log."""
    account.travelled(x.id, x.edges, x.payload_bytes, x.fate, start_n, arrival_E, _sent(x, start_n), x.got_E)


def entered_E(x: Exchange, gone: Sequence[bool]) -> np.ndarray | None:
    """The edges whose bytes are entered as an exchange opens: those of senders that are still there (None: all)."""
    active_E = None if x.active_n is None else x.active_n[x.edges.source]
    if not any(gone):
        return active_E
    here_E = ~np.array(gone)[x.edges.source]
    return here_E if active_E is None else here_E & active_E


def take_back(account: Account, x: Exchange, i: int) -> None:
    """Host i never sends what was entered for it."""
    mine_E = x.edges.source == i
    if isinstance(x.fate, FateInTime):  # enters nothing before it is sent
        return
    if x.active_n is not None and not x.active_n[i]:
        return
    if mine_E.any():
        account.ledger.add(x.round, x.edges, x.payload_bytes, x.fate, mine_E, times=-1)


def _sent(x: Exchange, start_n: np.ndarray) -> np.ndarray | None:
    """Which messages there are; None for all."""
    sent = start_n[x.edges.source] < INF
    if x.active_n is not None:
        sent &= x.active_n[x.edges.source]
    return None if sent.all() else sent


def settle_stale(
    book: Book, x: Exchange, arrival_E: np.ndarray, leave_n: np.ndarray, sent_E: np.ndarray | None
) -> None:
    """Fill in which exchange's message each edge uses under `missing="stale"`: the newest that had arrived when its
    receiver left, none newer than this exchange; -1 before any. `sent_E`: the messages that there are (None: all);
    one that is still on its way may have an arrival that nobody knows yet (infinite; see `learn_late`).
    """
    channel, edges = x.channel, x.edges
    if channel.stored_E is None:
        channel.stored_E = np.full(edges.size, -1, dtype=np.int64)
    got = np.ones(edges.size, bool) if x.got_E is None else x.got_E
    if x.active_n is not None:  # one who takes no part did not wait: what it has is what is there
        got = got & (x.active_n[edges.target] | (arrival_E <= leave_n[edges.target]))
    source = np.where(got, x.k, channel.stored_E)
    for e, waiting in list(channel.late.items()):
        left = leave_n[edges.target[e]]
        arrived = [k for t, k in waiting if t <= left]
        if arrived:
            source[e] = max(source[e], *arrived)
        channel.late[e] = [(t, k) for t, k in waiting if t > left and k > source[e]]
        if not channel.late[e]:
            del channel.late[e]
    through = through_E(book, x, arrival_E)
    delivered = np.ones(edges.size, bool) if through is None else through
    x.late_E = delivered & ~got if sent_E is None else delivered & ~got & sent_E
    for e in np.flatnonzero(x.late_E).tolist():
        channel.late.setdefault(e, []).append((float(arrival_E[e]), x.k))
    x.source_E = source
    channel.stored_E = source.copy()


def learn_late(book: Book, x: Exchange, e: int, t: float) -> None:
    """The message on edge e of a settled exchange turns out to arrive at t."""
    waiting = x.channel.late.get(e, [])
    kept = book.is_through(x, e, t)
    x.channel.late[e] = [(t if k == x.k else arrival, k) for arrival, k in waiting if k != x.k or kept]
