"""What travels between nodes, as both planes see it: exchanges among neighbours, averages, single messages.

The time plane fills in what became of each message; the value plane reads it. Legend: E edges, n hosts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simnet.network.fate import Fate
from simnet.network.network import EdgeSet

INF = float("inf")


@dataclass(eq=False)
class Channel:
    """A place in a program at which neighbours meet again and again.

    Keeps, for `missing="stale"`, which exchange each edge was last heard from (`stored_E`, -1 before any) and the
    messages that came too late for their own exchange: edge -> [(arrival, exchange number)].
    """

    name: Any
    stored_E: np.ndarray | None = None
    late: dict[int, list[tuple[float, int]]] = field(default_factory=dict)


@dataclass(eq=False)
class Exchange:
    """One message on each edge, and what the receivers make of them.

    kind: `gossip` (weighted sum) or `rows` (one row per in-neighbour). `weight_E` is what the target gives to the
    source's message, `own_n` to its own value. `missing`: `self`, `zero`, `stale`, or `value` (a Value is given).
    """

    id: int
    channel: Channel
    k: int
    kind: str
    edges: EdgeSet
    weight_E: np.ndarray | None
    own_n: np.ndarray | None
    missing: str
    deadline_s: float
    payload_bytes: Any  # of every message (an int), or of each (`simnet.payload.Payloads`)
    round: int
    active_n: np.ndarray | None = None  # who takes part; None: all
    fate: Fate | None = None
    by_value: bool = False  # whether sizes are known only when a message is sent; until then they are bounds
    # filled by the time plane when the last receiver has left
    closed: bool = False
    got_E: np.ndarray | None = None  # arrived in time; None: all did
    source_E: np.ndarray | None = None  # stale: number k' of the exchange whose message is used, -1: one's own
    late_E: np.ndarray | None = None  # stale: will still arrive, after its receiver has left
    _mixing: Any = None  # the value plane's prepared indices


@dataclass(eq=False)
class Average:
    """One average over `among`, delivered to `to`; the subclass says which way.

    kind: `average`, or `all_gather` (every row to everybody). Masks are over hosts.
    """

    id: int
    key: tuple[str, int]  # role, and its number there
    kind: str
    among_n: np.ndarray
    to_n: np.ndarray
    round: int
    closed: bool = field(default=False, init=False)


@dataclass(eq=False)
class ServerAverage(Average):
    """Through a server host: contributions up, the mean down."""

    server: int
    up: EdgeSet  # among -> server
    down: EdgeSet  # server -> to
    up_bytes: int
    down_bytes: int
    up_fate: Fate | None = None
    down_fate: Fate | None = None


@dataclass(eq=False)
class RelayedAverage(Average):
    """From host to host, in the waves of a pattern (ring, tree, hierarchical)."""

    waves: tuple[Wave, ...]
    fates: list[Fate | None]


@dataclass(frozen=True, eq=False)
class Wave:
    """Messages of `payload_bytes` on each edge; a host sends once it has got all that earlier waves bring it."""

    edges: EdgeSet
    payload_bytes: int


@dataclass(eq=False)
class Message:
    """One sending from host to host; `values` are filled in by the value plane when it is sent."""

    source: int
    target: int
    arrival_s: float
    lost: bool
    shapes: tuple[tuple[int, ...], ...]
    values: tuple[Any, ...] = ()
