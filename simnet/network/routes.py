"""Shortest routes over the underlay."""

from __future__ import annotations

import heapq

import numpy as np


def shortest_path_tree(
    source: int, link_source: np.ndarray, link_target: np.ndarray, latency_s: np.ndarray, nodes: int
) -> dict[int, list[int]]:
    """For every node that `source` reaches, the links of its best path: least latency, then hops, then node order.

    Dijkstra over the key (latency, hops, nodes of the path): a total order, so the same graph gives the same routes.
    """
    out: list[list[tuple[int, int, float]]] = [[] for _ in range(nodes)]
    for link, (s, t, latency) in enumerate(
        zip(link_source.tolist(), link_target.tolist(), latency_s.tolist(), strict=True)
    ):
        out[s].append((t, link, latency))
    paths: dict[int, list[int]] = {}
    heap: list[tuple[float, int, tuple[int, ...], list[int]]] = [(0.0, 0, (source,), [])]
    while heap:
        latency, hops, nodes_on_path, links = heapq.heappop(heap)
        here = nodes_on_path[-1]
        if here in paths:
            continue
        paths[here] = links
        for t, link, more in out[here]:
            if t not in paths:
                heapq.heappush(heap, (latency + more, hops + 1, (*nodes_on_path, t), [*links, link]))
    return paths
