"""What many small messages between pairs come to: counted edge by edge, logged by sums that no order can change.

Legend: E edges, M meetings.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simnet import streams
from simnet.network.network import EdgeSet

_MEETINGS = 1 << 61  # in the log's order, meetings come after all exchanges and single messages
_KEPT = 16_384  # meetings kept before they are summed


class Tally:
    """Messages of one size over one set of edges, each entered alone, settled together."""

    def __init__(self, account: Any, edges: EdgeSet, payload: int, number: int) -> None:
        self.account, self.edges, self.payload = account, edges, payload
        self.count: list[int] = [0] * edges.size  # messages sent since they were last entered in the ledger
        self._id = (_MEETINGS, number)
        self._rows: list[tuple[int, int, int, float, bool]] = []
        self._sums = np.zeros(2, np.uint64)

    def log(self, i: int, k: int, j: int, end: float, ok: bool) -> None:
        """Host i's meeting k with j was over at `end`; ok: both took the mean."""
        self._rows.append((i, k, j, end, ok))
        if len(self._rows) >= _KEPT:
            self._sum()

    def settle(self) -> None:
        """Enter what was counted in the ledger, and what was logged in the event log."""
        self.add(np.array(self.count, dtype=np.int64))
        self.count[:] = [0] * len(self.count)
        self._sum()
        self.account.totals[self._id] = self._sums.tobytes()

    def add(self, count_E: np.ndarray) -> None:
        """Enter so many messages on each edge in the ledger."""
        if count_E.any():
            self.account.ledger.add_counts(self.edges, self.payload, count_E)

    def _sum(self) -> None:
        if not self._rows:
            return
        i, k, j, end, ok = (np.array(column) for column in zip(*self._rows, strict=True))
        self._rows.clear()
        self.enter(i, k, j, end, ok)

    def enter(self, i: np.ndarray, k: np.ndarray, j: np.ndarray, end: np.ndarray, ok: np.ndarray) -> None:
        """Meetings as columns (M,): their hashes are added up, so that no order of entering shows."""
        ends = np.ascontiguousarray(end, dtype=np.float64).view(np.int64)
        words = (i << 32 | k, j << 1 | ok.astype(np.int64), ends)
        h = np.zeros(len(i), np.uint64)
        for word in words:
            h = streams.keys(0, h ^ word.view(np.uint64))
        for s in range(2):
            self._sums[s : s + 1] += h.sum(dtype=np.uint64, keepdims=True)  # modulo 2^64
            h = streams.keys(1, h)
        self.account.events += len(i)
