"""Shortest routes over the underlay."""

from __future__ import annotations

import heapq

import numpy as np

Neighbours = list[list[tuple[int, int, float]]]  # of each node: (node, link to it, its latency)


def neighbours(link_source: np.ndarray, link_target: np.ndarray, latency_s: np.ndarray, nodes: int) -> Neighbours:
    """What one link away from each node is."""
    out: Neighbours = [[] for _ in range(nodes)]
    links = zip(link_source.tolist(), link_target.tolist(), latency_s.tolist(), strict=True)
    for link, (s, t, latency) in enumerate(links):
        out[s].append((t, link, latency))
    return out


class PathTree:
    """The best paths from one node: least latency, then hops, then node order.

    Dijkstra over the key (latency, hops, nodes of the path): a total order, so the same graph gives the same routes. It
    goes no farther than the targets that were asked for, since most messages go to somebody near.
    """

    def __init__(self, source: int, out: Neighbours) -> None:
        self._out = out
        self._paths: dict[int, list[int]] = {}
        self._heap: list[tuple[float, int, tuple[int, ...], list[int]]] = [(0.0, 0, (source,), [])]

    def to(self, target: int) -> list[int] | None:
        """The links of the best path to `target`, None where there is none."""
        paths, heap = self._paths, self._heap
        while target not in paths and heap:
            latency, hops, nodes_on_path, links = heapq.heappop(heap)
            here = nodes_on_path[-1]
            if here in paths:
                continue
            paths[here] = links
            for t, link, more in self._out[here]:
                if t not in paths:
                    heapq.heappush(heap, (latency + more, hops + 1, (*nodes_on_path, t), [*links, link]))
        return paths.get(target)
