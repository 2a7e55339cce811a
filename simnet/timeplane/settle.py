"""What became of an exchange's messages, once its receivers have left: for the value plane, the ledger and the log.

Legend: n hosts, E edges of the exchange. A start that never was, and an arrival that nobody knows, are infinite.
"""

from __future__ import annotations

import numpy as np

from simnet.exchange import INF, Exchange
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
    parts = []
    if x.fate is not None and account.book.network.policy != "retry":
        parts.append(x.fate.delivered_E)
    if x.deadline_s < INF or not x.closed:
        parts.append(arrival_E <= start_n[edges.target] + x.deadline_s)
    if active_E is not None:
        parts.append(active_E)
    got = np.logical_and.reduce(parts) if parts else None
    x.got_E = None if got is None or got.all() else got
    if x.missing == "stale" and learn:
        arrived = arrival_E if active_E is None else np.where(active_E, arrival_E, INF)
        settle_stale(x, arrived, leave_n, active_E)
    if not entered:
        account.sent(x.round, edges, x.payload_bytes, x.fate, start_n, active_E)


def enter_arrivals(account: Account, x: Exchange, start_n: np.ndarray, arrival_E: np.ndarray) -> None:
    """Enter an exchange's messages in the event log."""
    account.travelled(x.id, x.edges, x.payload_bytes, x.fate, start_n, arrival_E, _sent(x, start_n), x.got_E)


def _sent(x: Exchange, start_n: np.ndarray) -> np.ndarray | None:
    """Which messages there are; None for all."""
    sent = start_n[x.edges.source] < INF
    if x.active_n is not None:
        sent &= x.active_n[x.edges.source]
    return None if sent.all() else sent


def settle_stale(x: Exchange, arrival_E: np.ndarray, leave_n: np.ndarray, sent_E: np.ndarray | None) -> None:
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
    delivered = np.ones(edges.size, bool) if x.fate is None else x.fate.delivered_E
    x.late_E = delivered & ~got if sent_E is None else delivered & ~got & sent_E
    for e in np.flatnonzero(x.late_E).tolist():
        channel.late.setdefault(e, []).append((float(arrival_E[e]), x.k))
    x.source_E = source
    channel.stored_E = source.copy()


def learn_late(x: Exchange, e: int, t: float) -> None:
    """The message on edge e of a settled exchange turns out to arrive at t."""
    waiting = x.channel.late.get(e, [])
    x.channel.late[e] = [(t if k == x.k else arrival, k) for arrival, k in waiting]
