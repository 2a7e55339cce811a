"""What a time plane writes down: who computed, sent and waited, what the event log hashes to, when rounds ended.

Legend: n hosts, E edges of one exchange.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from simnet.book import Book
from simnet.network.fate import Fate, FateInTime, Size
from simnet.network.ledger import Ledger
from simnet.network.network import EdgeSet
from simnet.recording import Recording

LAST = float(np.finfo(np.float64).max)
SHOWN_NODES, SHOWN_ROUNDS = 24, 12  # what the picture of who computed, sent and waited can show


class NeedsEvents(Exception):
    """The arrays tier cannot run this program exactly; the events tier can."""


class NeedsWalker(Exception):
    """The compiled walk has no verb for this; its reference has."""


class Values(Protocol):
    """What a time plane asks of the value plane."""

    def catch_up(self, recording: Recording, mark: int) -> None:
        """Run the recorded tasks below `mark`."""

    def mask(self, recording: Recording, task: int, mark: int) -> np.ndarray:
        """A `when=` Value as a mask over the members."""


class Hooks(Protocol):
    """What a time plane tells the run."""

    reporting: list[Recording]
    row: int  # the report evaluated last
    row_at: float  # the simulated time of the next row, where rows lie on a grid of time; else infinite

    def row_due(self, reports_n: Sequence[int]) -> bool:
        """The clock has come to `row_at`, each host having made so many reports; True to stop there."""

    def reported(self, recording: Recording, index: int, times: np.ndarray) -> bool:
        """Every member that ever does has made report `index`, at `times`; True to stop at `row`."""

    def left(self, recording: Recording) -> bool:
        """All members of a recording have left for good: it makes no more reports; True to stop at `row`."""


class Account:
    """Seconds by node, the byte ledger, the event log, and spans for a picture."""

    def __init__(self, book: Book, *, messages: bool = False, timeline: bool = True, until: float = np.inf) -> None:
        n = book.n
        self.book, self.until = book, until
        self.ledger = Ledger(book.network)
        self.compute_s, self.comm_s, self.idle_s = np.zeros(n), np.zeros(n), np.zeros(n)
        self.finish_s = np.zeros(n)
        self.gone_n = book.presence.left_s <= min(until, LAST)  # who leaves for good within the run
        self.departures = bool(self.gone_n.any())
        self.reports_n = np.zeros(n, dtype=np.int64)
        self.events = 0
        self._digests: list[tuple[Any, bytes]] = []
        self.totals: dict[tuple[int, ...], bytes] = {}  # log entries that grow until the end
        self.message_rows: list[dict[str, Any]] | None = [] if messages else None
        self.spans: list[tuple[int, str, float, float, int]] | None = [] if timeline else None

    def span(self, node: int, kind: str, start: float, end: float, round: int) -> None:
        """Note that `node` did `kind` (compute, send, wait) from start to end, if the picture has room for it. A port
        sends on while its host is away; whatever else it did, it did while it was there.
        """
        if self.spans is None or node >= SHOWN_NODES or round >= SHOWN_ROUNDS or end <= start:
            return
        if kind == "send" or not self.book.presence.has_n[node]:
            self.spans.append((node, kind, start, min(end, self.until), round))
            return
        for a, b in self.book.presence.pieces(node, start, min(end, self.until)):
            self.spans.append((node, kind, a, b, round))

    def sent(
        self, round: int, edges: EdgeSet, payload: Size, fate: Fate | None, start_n: np.ndarray | None = None,
        active_E: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Enter the bytes of one message per active edge; what was sent after the cut (`start_n`) does not exist. Where
        they hang on the moment of sending, `sent_by` enters them.
        """
        if isinstance(fate, FateInTime):
            return
        if start_n is not None and self.until < np.inf:
            before = start_n[edges.source] <= self.until
            active_E = before if active_E is None else before & active_E
        if edges.size:
            self.ledger.add(round, edges, payload, fate, None if active_E is None or active_E.all() else active_E)

    def sent_by(self, i: int, round: int, edges: EdgeSet, payload: Size, fate: Fate | None) -> None:
        """Enter the bytes that host i has just handed over, where they hung on the moment."""
        if isinstance(fate, FateInTime):
            self.ledger.add(round, edges, payload, fate, fate.drawn_E & (edges.source == i))

    def cut_by_round(self, last: int, ahead: list[tuple[Any, np.ndarray | None]]) -> None:
        """The run stops at report `last`: take back the exchanges of hosts that are `ahead` of it (each with its active
        edges), and what the picture shows of later rounds.
        """
        for x, active_E in ahead:
            if x.edges.size and x.round > last:
                self.ledger.add(x.round, x.edges, x.payload_bytes, x.fate, active_E, times=-1)
        if self.spans is not None:
            self.spans = [span for span in self.spans if span[4] <= last]

    def travelled(
        self, id: Any, edges: EdgeSet, payload: Size, fate: Fate | None, start_n: np.ndarray, arrival_E: np.ndarray,
        active_E: np.ndarray | None, got_E: np.ndarray | None,
    ) -> None:  # fmt: skip
        """Enter the messages of one exchange in the event log, in its order (exchange, edge)."""
        if edges.size == 0:
            return
        if self.until < np.inf:
            before = start_n[edges.source] <= self.until
            active_E = before if active_E is None else before & active_E
        seen = arrival_E if active_E is None else np.where(active_E, arrival_E, np.nan)
        digest = hashlib.sha256(np.ascontiguousarray(seen).data)
        if got_E is not None:
            digest.update(np.packbits(got_E & ~np.isnan(seen)).tobytes())  # what was never sent says nothing
        self._digests.append((id, digest.digest()))
        self.events += edges.size
        if self.message_rows is not None:
            self._list_messages(id, edges, payload, fate, start_n, seen, got_E)

    def _list_messages(
        self, id: Any, edges: EdgeSet, payload: Size, fate: Fate | None, start_n: np.ndarray, seen: np.ndarray,
        got_E: np.ndarray | None,
    ) -> None:  # fmt: skip
        number = id if isinstance(id, int) else id[0]
        sizes = np.broadcast_to(np.asarray(payload) + self.book.network.header_bytes, (edges.size,)).tolist()
        for e in np.flatnonzero(~np.isnan(seen)).tolist():
            s, t = int(edges.source[e]), int(edges.target[e])
            attempts = 1 if fate is None else int(fate.attempts_E[e])
            got = bool(got_E is None or got_E[e])
            self.list_message(number, s, t, float(start_n[s]), float(seen[e]), sizes[e], got, attempts)

    def list_message(
        self, exchange: int, source: int, target: int, sent_s: float, arrived_s: float, size: int, delivered: bool,
        attempts: int = 1,
    ) -> None:  # fmt: skip
        """Enter one message in the record's list of messages, which was asked for."""
        assert self.message_rows is not None
        self.message_rows.append(
            {"exchange": exchange, "source": source, "target": target, "sent_s": sent_s, "arrived_s": arrived_s,
             "bytes": size, "attempts": attempts, "delivered": delivered}
        )  # fmt: skip

    def log_hash(self) -> str:
        """Hash of the whole event log in its canonical order, with the clocks at the end."""
        total = hashlib.sha256()
        for id, digest in sorted([*self._digests, *self.totals.items()], key=lambda pair: _order(pair[0])):
            total.update(repr(id).encode())
            total.update(digest)
        total.update(self.finish_s.tobytes())
        return total.hexdigest()[:32]


def _order(id: Any) -> tuple[Any, ...]:
    return (id,) if isinstance(id, int) else tuple(id)
