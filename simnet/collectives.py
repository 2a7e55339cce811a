"""How an average travels from host to host: the waves of a pattern.

    ring          each host passes 1/n of the vector to the next, 2 (n - 1) times: n - 1 to add up, n - 1 to hand round
    tree          contributions climb a binary tree to its root, the mean comes down it
    hierarchical  each group sends to its leader, the leaders form a ring, each leader sends to its group

On equal links and with hosts that start together, the ring takes 2 (m - 1) (latency + bytes / (m bandwidth)); a tree of
depth D takes D (latency + bytes / bandwidth) up and, with a serial port, D latency + 2 D bytes / bandwidth down.
References: Patarasuk and Yuan, J. Parallel Distrib. Comput. 69, 2009 (ring); Thakur, Rabenseifner and Gropp, Int. J.
High Perform. Comput. Appl. 19, 2005 (trees).

Legend: n hosts of the network, m of them take part.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simnet.errors import ProgramError
from simnet.exchange import Wave
from simnet.network.network import EdgeSet

PATTERNS = ("server", "ring", "tree", "hierarchical")
MakeEdges = Callable[[np.ndarray, np.ndarray], EdgeSet]  # sources and targets -> the routed set of edges


def waves_of(
    pattern: str, kind: str, hosts: np.ndarray, root: int, group: int | None, payload: int, edges: MakeEdges
) -> tuple[Wave, ...]:
    """The waves of one `average` (or `all_gather`) of `payload` bytes over `hosts`.

    `root` leads the tree; `group` is the size of a hierarchical group (default: about the square root of m). Raises
    ProgramError for an all_gather by a pattern that only adds up.
    """
    builder = _Builder(edges)
    if pattern == "ring":
        chunk, rounds = (-(-payload // len(hosts)), 2) if kind == "average" else (payload, 1)
        builder.ring(hosts, chunk, rounds * (len(hosts) - 1))
        return tuple(builder.waves)
    if kind != "average":
        raise ProgramError(f"all_gather goes by 'collective.pattern: server' or 'ring', not by {pattern!r}")
    if pattern == "tree":
        builder.tree(hosts, root, payload)
    else:
        size = group or max(1, round(len(hosts) ** 0.5))
        groups = [hosts[a : a + size] for a in range(0, len(hosts), size)]
        leaders = np.array([g[0] for g in groups])
        members = np.concatenate([g[1:] for g in groups])
        leader_of = np.concatenate([np.full(len(g) - 1, g[0]) for g in groups])
        builder.wave(members, leader_of, payload)
        builder.ring(leaders, -(-payload // len(leaders)), 2 * (len(leaders) - 1))
        builder.wave(leader_of, members, payload)
    return tuple(builder.waves)


class _Builder:
    """Adds waves."""

    def __init__(self, edges: MakeEdges) -> None:
        self.edges = edges
        self.waves: list[Wave] = []

    def wave(self, source: np.ndarray, target: np.ndarray, payload: int) -> None:
        """One message on each edge."""
        if len(source):
            self.waves.append(Wave(self.edges(source, target), payload))

    def ring(self, hosts: np.ndarray, chunk: int, steps: int) -> None:
        """`steps` times a chunk from each host to the next."""
        if steps > 0:
            edges = self.edges(hosts, np.roll(hosts, -1))
            self.waves += [Wave(edges, chunk)] * steps

    def tree(self, hosts: np.ndarray, root: int, payload: int) -> None:
        """Up a binary tree level by level, and down again; `root` first (or the first host where it takes no part)."""
        order = np.concatenate(([root], hosts[hosts != root])) if root in hosts else hosts
        places = np.arange(1, len(order))
        level = np.frexp(places + 1.0)[1] - 1  # floor of the binary logarithm, exactly
        parent = order[(places - 1) // 2]
        for depth in range(int(level.max(initial=0)), 0, -1):
            at = level == depth
            self.wave(order[places[at]], parent[at], payload)
        for depth in range(1, int(level.max(initial=0)) + 1):
            at = level == depth
            self.wave(parent[at], order[places[at]], payload)
