"""Sets of edges as arrays that the compiled walk reads.

Legend: n hosts, T sets of edges, E edges, P ports in use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from simnet.network.network import EdgeSet
from simnet.timeplane import compiled as c

KEPT = 16  # sets of edges kept before the row of one that is not in use is taken again


class EdgeTable:
    """What each host sends over the sets of edges met so far."""

    def __init__(self, n: int, ways_of: Callable[[EdgeSet], list[int]] | None = None) -> None:
        self.n, self.ways_of = n, ways_of  # the number of each edge's way, if need be
        self.sets: list[EdgeSet] = []
        self.rows = c.Edges(*(np.zeros((0, 0), np.int64) for _ in range(8)))
        self.most_out = 1  # the largest number of messages that a host sends at once

    @property
    def widest(self) -> int:
        """E of the largest set."""
        return max(e.size for e in self.sets)

    @property
    def most_ports(self) -> int:
        """P of the set with the most ports."""
        return max(len(e.ports) for e in self.sets)

    def row_of(self, edges: EdgeSet, in_use: set[int]) -> int:
        """The row of a set of edges; a new one may take the row of one that no exchange under way uses."""
        if edges in self.sets:
            return self.sets.index(edges)
        free = [k for k in range(len(self.sets)) if k not in in_use] if len(self.sets) >= KEPT else []
        k = free[0] if free else len(self.sets)
        self.sets[k : k + 1] = [edges]
        self._fill(k, edges)
        return k

    def _fill(self, k: int, edges: EdgeSet) -> None:
        rows, widest, ports = len(self.sets), self.widest, self.most_ports
        shapes = [(rows, self.n + 1), (rows, ports), (rows, ports), (rows, ports + 1), *[(rows, widest)] * 3, (rows, 1)]
        self.rows = c.Edges(*(_fitted(a, shape) for a, shape in zip(self.rows, shapes, strict=True)))
        order = np.argsort(edges.port_host, kind="stable")  # ports by host, each with its messages in order
        sizes = np.diff(np.append(edges.port_starts, edges.size))[order]
        queues = [
            edges.by_port[edges.port_starts[q] : edges.port_starts[q] + m] for q, m in zip(order, sizes, strict=True)
        ]
        messages = np.concatenate(queues) if queues else np.zeros(0, np.int64)
        rows_, count = self.rows, len(edges.ports)
        rows_.host_ports[k] = np.searchsorted(edges.port_host[order], np.arange(self.n + 1))
        rows_.port[k, :count], rows_.rank[k, :count] = edges.ports[order], order
        rows_.port_messages[k, : count + 1] = np.concatenate(([0], np.cumsum(sizes)))
        rows_.edge[k, : edges.size], rows_.target[k, : edges.size] = messages, edges.target[messages]
        if self.ways_of is not None:
            rows_.way[k, : edges.size] = np.array(self.ways_of(edges), np.int64)[messages]
        rows_.varies[k] = edges.varies
        if edges.size:
            self.most_out = max(self.most_out, int(np.bincount(edges.source).max()))


def longer(array: np.ndarray) -> np.ndarray:
    """The array with twice the rows."""
    return np.concatenate((array, np.zeros_like(array)))


def no_places(n: int) -> c.Places:
    """Room for no exchange yet."""
    whole, real = (lambda *shape: np.zeros(shape, np.int64)), (lambda *shape: np.zeros(shape))
    parts: list[Any] = [whole(0), whole(0), real(0), whole(0), whole(0), whole(0), np.zeros((0, n), bool), whole(0, n)]
    parts += [real(0, n) for _ in range(5)] + [real(0, 0) for _ in range(4)]
    parts += [whole(0, n), real(0, n), real(0), real(0, 0), whole(0, 0), real(0, 0)]
    return c.Places(*parts)


def _fitted(array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The array with at least these rows and columns."""
    wanted = (max(array.shape[0], shape[0]), max(array.shape[1], shape[1]))
    if wanted == array.shape:
        return array
    fresh: Any = np.zeros(wanted, np.int64)
    fresh[: array.shape[0], : array.shape[1]] = array
    return fresh
