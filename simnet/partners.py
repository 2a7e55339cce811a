"""Whom a node may meet: its neighbours in the topology, and the two edges between them.

Legend: n hosts, E directed edges, M members of a role.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from simnet.errors import TopologyError
from simnet.network.network import EdgeSet


class Partners:
    """The neighbours of each member of a role, ascending; drawn among by a uniform number.

    Where nobody has any (one node, or a graph without edges; `somebody` is False) everybody is on its own.
    """

    def __init__(self, edges: EdgeSet, members: np.ndarray, hosts: list[Any], somebody: bool) -> None:
        lonely = np.setdiff1d(members, edges.source)
        if len(lonely) and somebody:
            raise TopologyError(
                f"node {hosts[int(lonely[0])]} has no neighbour among those it may meet or send to, and others have: "
                "it would never find a partner; take a topology without isolated nodes"
            )
        if (edges.reverse_E < 0).any():
            one_way = int(np.flatnonzero(edges.reverse_E < 0)[0])
            raise TopologyError(
                f"partners answer each other, and the topology has an edge from {hosts[int(edges.source[one_way])]} to "
                f"{hosts[int(edges.target[one_way])]} but none back: take an undirected topology"
            )
        self.edges = edges
        self.out_E = np.lexsort((edges.target, edges.source))  # edges by source, then target
        self.neighbours = edges.target[self.out_E]
        self.start_n = np.searchsorted(edges.source[self.out_E], np.arange(edges.n + 1))

    def pick(self, hosts: np.ndarray, u: np.ndarray) -> np.ndarray:
        """One neighbour of each of `hosts`, by uniform numbers u in [0, 1); -1 where there is none."""
        if not self.edges.size:
            return np.full(len(hosts), -1)
        degree = self.start_n[hosts + 1] - self.start_n[hosts]
        picked: np.ndarray = self.neighbours[
            self.start_n[hosts] + np.minimum((u * degree).astype(np.int64), degree - 1)
        ]
        return picked

    @cached_property
    def of(self) -> list[list[tuple[int, int]]]:
        """For each host its (neighbour, edge to it), ascending."""
        pairs = list(zip(self.neighbours.tolist(), self.out_E.tolist(), strict=True))
        ends = self.start_n.tolist()
        return [pairs[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)]
