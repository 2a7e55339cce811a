"""Topologies made of others, which are given by name or as objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from simnet import registry
from simnet.errors import TopologyError
from simnet.topology import Topology, as_topology, is_connected

_LOOKED_AT = 64  # exchanges of each part that tell whether the whole is connected


class Sequence(Topology):
    """Exchange k uses topology k mod L of a list of L, and of that one its exchange k // L.

    So `[ring, one_peer_exponential]` alternates a ring with the hops 1, 2, 4, ... in their own order.

    Args:
        n: nodes.
        topologies: names (`ring`, `file.py:Name`), mappings `{name: erdos_renyi, p: 0.3}`, graphs or Topology objects.
        seed: given to each part that draws.
        base_dir: folder that file names count from.
    """

    def __init__(self, n: int, *, topologies: list[Any], seed: int = 0, base_dir: Path | None = None) -> None:
        if not topologies:
            raise TopologyError("sequence: an empty list of topologies; name at least one")
        where = [f"topology.topologies.{i}" for i in range(len(topologies))]
        self.n = n
        self.parts = [as_topology(made(t, n, seed, base_dir, w)) for t, w in zip(topologies, where, strict=True)]
        for part, place in zip(self.parts, where, strict=True):
            if part.n != n:
                raise TopologyError(f"sequence: {place} has {part.n} nodes, and the sequence {n}")
        self.directed = any(part.directed for part in self.parts)
        self.static = len(self.parts) == 1 and self.parts[0].static
        self.connected = any(part.connected for part in self.parts) or self._connected_together()

    def _connected_together(self) -> bool:
        pieces = [part.edges(k) for part in self.parts for k in range(1 if part.static else _LOOKED_AT)]
        src, dst = (np.concatenate([piece[end] for piece in pieces]) for end in (0, 1))
        return is_connected(src, dst, self.n)

    def edges(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        return self.parts[k % len(self.parts)].edges(k // len(self.parts))

    def weights(self, k: int) -> np.ndarray | None:
        return self.parts[k % len(self.parts)].weights(k // len(self.parts))


def made(
    named: str | Mapping[str, Any] | nx.Graph | Topology, n: int, seed: int, base_dir: Path | None, where: str
) -> nx.Graph | Topology:
    """The graph or topology on n nodes that a name, a mapping with `name` and parameters, or an object means.

    Raises UnknownName or ScenarioError, with `where` as the field, for what cannot be found or made.
    """
    if isinstance(named, nx.Graph | Topology):
        return named
    params = {"name": named} if isinstance(named, str) else dict(named)
    if not isinstance(params.get("name"), str):
        raise TopologyError(f"{where}: give a name, or a mapping with a name such as {{name: erdos_renyi, p: 0.3}}")
    target = registry.find("topologies", params.pop("name"), base_dir, field=where)
    injected = {"n": n, "seed": seed, "base_dir": base_dir}
    built: nx.Graph | Topology = registry.call(target, injected, params, where)
    return built
