"""What becomes of messages: how many packets are lost, sent again, and whether a message gets through.

Bursts: see `bursts.py`; a chain begins anew whenever packets of a message enter a link. Under `symmetric` one draw
decides for both directions, for the longer of the two messages and with the larger probability that a packet is lost.
Where a link's loss changes with time, each message has that of the moment at which it starts; under `symmetric`, of the
two the one that is handed over first decides for both, by the loss of both directions as it starts.

A fate is a pure function of (seed, purpose, occurrence, edge), drawn for a whole set of edges at once, so every tier
sees the same. Lost packets are binomial; Bin(m, p) is the sum of Bin(2^j, p) over the binary digits j of m, each by
inversion of a table built from + - * / alone, so a draw does not depend on the processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from simnet import streams
from simnet.errors import ScenarioError, TopologyError
from simnet.network.bursts import bad_packets, none_lost
from simnet.network.network import EdgeSet, Network

_STRIDE = 64  # counters set aside for one binomial draw: one per binary digit


@dataclass
class Fate:
    """What becomes of one message on each edge of a set.

    `again_E` packets sent again by the source, `attempts_E` rounds of sending, `delivered_E` whether the message got
    through; `hop_packets_H` packets that entered each hop, all attempts together, and `hop_lost_H` those of them that
    did not leave it.
    """

    packets_E: np.ndarray
    again_E: np.ndarray
    attempts_E: np.ndarray
    delivered_E: np.ndarray
    hop_packets_H: np.ndarray
    hop_lost_H: np.ndarray


class Hops(Protocol):
    """The hops that messages take, as far as loss goes: an EdgeSet has them, or one message alone."""

    @property
    def size(self) -> int: ...
    @property
    def hop_ptr(self) -> np.ndarray: ...
    @property
    def loss_H(self) -> np.ndarray: ...
    @property
    def chain_H(self) -> np.ndarray: ...
    @property
    def bursty(self) -> bool: ...


@dataclass
class _OneWay:
    """The hops of one message, or of two that go there and back."""

    hop_ptr: np.ndarray
    loss_H: np.ndarray
    chain_H: np.ndarray
    bursty: bool
    size: int = 1


@lru_cache(maxsize=4096)
def _binomial_table(j: int, p: float) -> tuple[int, np.ndarray]:
    """First value and cumulative probabilities of Bin(2^j, p), by the recurrence from its mode."""
    m = 1 << j
    mode = min(m, int((m + 1) * p))
    spread = int(12 * (m * p * (1 - p)) ** 0.5) + 40
    low, high = max(0, mode - spread), min(m, mode + spread)
    up = np.arange(mode, high, dtype=np.float64)
    down = np.arange(mode, low, -1, dtype=np.float64)
    odds = p / (1.0 - p)
    above = np.cumprod((m - up) / (up + 1.0) * odds)
    below = np.cumprod(down / (m - down + 1.0) / odds)
    cdf = np.cumsum(np.concatenate((below[::-1], [1.0], above)))
    return low, cdf / cdf[-1]


def binomial(m_E: np.ndarray, p_E: np.ndarray, keys_E: np.ndarray, draw: int) -> np.ndarray:
    """Binomial(m, p) for each entry, from counters draw*64 .. draw*64 + 63 under its key; int64."""
    total = np.zeros(len(m_E), dtype=np.int64)
    live = np.flatnonzero((m_E > 0) & (p_E > 0))
    total[live[p_E[live] >= 1.0]] = m_E[live[p_E[live] >= 1.0]]
    live = live[p_E[live] < 1.0]
    for p in np.unique(p_E[live]):
        of_p = live[p_E[live] == p]
        for j in range(int(m_E[of_p].max()).bit_length()):
            at = of_p[(m_E[of_p] >> j) & 1 == 1]
            if len(at):
                low, cdf = _binomial_table(j, float(p))
                u = streams.uniform(keys_E[at], 1, start=draw * _STRIDE + j)[:, 0]
                total[at] += low + np.searchsorted(cdf, u, side="right")
    return total


def _lost(edges: Hops, hop: np.ndarray, packets: np.ndarray, keys: list[np.ndarray], draw: int) -> np.ndarray:
    """How many of the packets that enter each hop are lost there; one of `keys`, or three where there are bursts."""
    loss = edges.loss_H[hop]
    if not edges.bursty:
        return binomial(packets, loss, keys[0], draw)
    chain = edges.chain_H[hop]
    bad = bad_packets(packets, chain, keys[1], draw)
    while_bad = 1.0 - (1.0 - loss) * (1.0 - chain[:, 2])
    return binomial(packets - bad, loss, keys[0], draw) + binomial(bad, while_bad, keys[2], draw)


def _sequential(keys: list[np.ndarray], edges: Hops, packets: np.ndarray, again: bool) -> Fate:
    """Packets go hop by hop; with `again`, what was lost on the way is sent again until all are through."""
    if again and (edges.loss_H >= 1.0).any():
        raise ScenarioError("a message that is sent again until it is through never gets over a link that loses all: "
                            "take a loss below 1", field="network.link.loss", value=1.0)  # fmt: skip
    hops_E = np.diff(edges.hop_ptr)
    longest = int(hops_E.max(initial=0))
    hop_packets, hop_lost = np.zeros((2, len(edges.loss_H)), dtype=np.int64)
    remaining, attempts = packets.copy(), np.zeros(edges.size, dtype=np.int64)
    sent_again = np.zeros(edges.size, dtype=np.int64)
    attempt = 0
    while True:
        attempts += remaining > 0
        if attempt:
            sent_again += remaining
        travelling, lost = remaining.copy(), np.zeros_like(remaining)
        for h in range(longest):
            at = np.flatnonzero((hops_E > h) & (travelling > 0))
            hop = edges.hop_ptr[at] + h
            hop_packets[hop] += travelling[at]
            gone = _lost(edges, hop, travelling[at], [key[at] for key in keys], attempt * longest + h)
            hop_lost[hop] += gone
            travelling[at] -= gone
            lost[at] += gone
        if not again:
            return Fate(packets, sent_again, attempts, lost == 0, hop_packets, hop_lost)
        if not lost.any():
            return Fate(packets, sent_again, attempts, np.ones(edges.size, bool), hop_packets, hop_lost)
        remaining, attempt = lost, attempt + 1


Size = int | np.ndarray  # bytes of every message, or of each (E,)


def sent_bytes(edges: EdgeSet, size: Size, fate: Fate | None) -> np.ndarray:
    """Bytes (E,) that each message of `size` bytes puts on its way, lost packets sent again included."""
    size = np.asarray(size)
    if fate is None:
        return np.full(edges.size, size)
    again: np.ndarray = size + fate.again_E * -(-size // np.maximum(fate.packets_E, 1))
    return again


def schedule(edges: EdgeSet, size: Size, fate: Fate | None) -> tuple[np.ndarray, np.ndarray]:
    """When a host hands one message of `size` bytes (headers included) to each of its edges in `edges`: how long after
    its port begins each message arrives (E,), and how long each port in use is busy (P,), retransmissions included.

    Every tier takes its times from here, so that ties fall alike in all of them.
    """
    if fate is None:
        per_byte = edges.seconds_per_byte_E
        queue_E = edges.queue_sums(size * per_byte) if np.ndim(size) else size * edges.cumulative_E
        return queue_E + edges.latency_E, edges.last_in_port(queue_E)
    queue_E = edges.queue_sums(sent_bytes(edges, size, fate) * edges.seconds_per_byte_E)
    return queue_E + edges.latency_E * (2 * fate.attempts_E - 1), edges.last_in_port(queue_E)


class FateInTime(Fate):
    """Fates over links whose loss changes with time: each is drawn as its message starts, by the loss of that moment.
    Until then (`drawn_E`) nothing of it has entered a link.
    """

    def __init__(self, edges: EdgeSet, packets: np.ndarray, keys: list[np.ndarray], again: bool) -> None:
        none, hops = np.zeros(edges.size, np.int64), np.zeros(len(edges.hops_H), np.int64)
        super().__init__(packets, none, none + 1, np.ones(edges.size, bool), hops, hops.copy())
        self.drawn_E = np.zeros(edges.size, bool)
        self._edges, self._keys, self._again = edges, keys, again

    def _way(self, t: float, *edges: int) -> tuple[_OneWay, slice]:
        """The hops of some edges as they are at time t, and where the first edge's stand among all."""
        known, spans = self._edges, [slice(*self._edges.hop_ptr[e : e + 2].tolist()) for e in edges]
        loss = [known.loss_of[h].at(t) if h in known.loss_of else known.loss_H[h]
                for span in spans for h in range(span.start, span.stop)]  # fmt: skip
        ptr = np.cumsum([0, *(span.stop - span.start for span in spans)])
        chains = np.concatenate([known.chain_H[span] for span in spans])
        return _OneWay(ptr, np.array(loss), chains, known.bursty, len(edges)), spans[0]

    def draw(self, e: int, t: float) -> None:
        """The message on edge e starts at time t."""
        self.drawn_E[e] = True
        way, hops = self._way(t, e)
        fate = _sequential([key[e : e + 1] for key in self._keys], way, self.packets_E[e : e + 1], self._again)
        self.again_E[e], self.attempts_E[e], self.delivered_E[e] = (
            fate.again_E[0], fate.attempts_E[0], fate.delivered_E[0],
        )  # fmt: skip
        self.hop_packets_H[hops], self.hop_lost_H[hops] = fate.hop_packets_H, fate.hop_lost_H

    def draw_all(self, edges_M: np.ndarray, times_M: np.ndarray) -> None:
        """`draw` for M messages at once, in the order in which they are handed over."""
        sizes_M = np.diff(self._edges.hop_ptr)[edges_M]
        for size in np.unique(sizes_M).tolist():  # a draw's counters go by the links of its way
            of_size = np.flatnonzero(sizes_M == size)
            e = edges_M[of_size]
            way, hops = self._ways(e, times_M[of_size])
            fate = _sequential([key[e] for key in self._keys], way, self.packets_E[e], self._again)
            self.again_E[e], self.attempts_E[e], self.delivered_E[e] = fate.again_E, fate.attempts_E, fate.delivered_E
            self.hop_packets_H[hops], self.hop_lost_H[hops] = fate.hop_packets_H, fate.hop_lost_H
        self.drawn_E[edges_M] = True

    def _ways(self, edges_M: np.ndarray, times_M: np.ndarray) -> tuple[_OneWay, np.ndarray]:
        """The hops of M messages, each as they are when it starts, and the places of these hops among all."""
        known = self._edges
        sizes_M = np.diff(known.hop_ptr)[edges_M]
        ptr = np.concatenate(([0], np.cumsum(sizes_M)))
        hops = np.repeat(known.hop_ptr[edges_M] - ptr[:-1], sizes_M) + np.arange(ptr[-1])
        loss, seen = known.loss_H[hops], dict[tuple[int, float], float]()
        for place, (h, t) in enumerate(zip(hops.tolist(), np.repeat(times_M, sizes_M).tolist(), strict=True)):
            if (steps := known.loss_of.get(h)) is not None:
                if (id(steps), t) not in seen:
                    seen[id(steps), t] = steps.at(t)
                loss[place] = seen[id(steps), t]
        return _OneWay(ptr, loss, known.chain_H[hops], known.bursty, len(edges_M)), hops


class SymmetricInTime(FateInTime):
    """The same under `symmetric`: the first message of a pair that is handed over decides for both."""

    def draw(self, e: int, t: float) -> None:
        """The message on edge e starts at time t."""
        back, packets = int(self._edges.reverse_E[e]), int(self.packets_E[e])
        way, hops = self._way(t, e, back)
        if self.drawn_E[back]:
            self.delivered_E[e] = self.delivered_E[back]
        else:
            both = np.array([e, back])
            self.delivered_E[e] = _both_get_through(way, self.packets_E[both], self._keys[0][both], np.array([1, 0]))[0]
        self.drawn_E[e] = True
        self.hop_packets_H[hops] = packets
        self.hop_lost_H[hops.stop - 1] = 0 if self.delivered_E[e] else packets

    def draw_all(self, edges_M: np.ndarray, times_M: np.ndarray) -> None:
        """`draw` for M messages at once, in the order in which they are handed over."""
        back_M, turn_M = self._edges.reverse_E[edges_M], np.arange(len(edges_M))
        turn_E = np.full(self._edges.size, len(edges_M))
        turn_E[edges_M] = turn_M
        decides_M = ~self.drawn_E[back_M] & (turn_M < turn_E[back_M])
        e, back = edges_M[decides_M], back_M[decides_M]
        if len(e):
            both = np.stack((e, back), 1).ravel()
            way, _ = self._ways(both, np.repeat(times_M[decides_M], 2))
            through = _both_get_through(way, self.packets_E[both], self._keys[0][both], np.arange(len(both)) ^ 1)
            self.delivered_E[e] = through[::2]
        self.delivered_E[edges_M[~decides_M]] = self.delivered_E[back_M[~decides_M]]
        _, hops = self._ways(edges_M, times_M)
        self.hop_packets_H[hops] = np.repeat(self.packets_E[edges_M], np.diff(self._edges.hop_ptr)[edges_M])
        lost_M = np.where(self.delivered_E[edges_M], 0, self.packets_E[edges_M])
        self.hop_lost_H[self._edges.hop_ptr[edges_M + 1] - 1] = lost_M
        self.drawn_E[edges_M] = True


def _both_get_through(edges: Hops, packets: np.ndarray, keys: np.ndarray, reverse_E: np.ndarray) -> np.ndarray:
    """Whether the messages of each pair of directions get through, bool (E,): equal for both, whose `keys` are."""
    packets = np.maximum(packets, packets[reverse_E])
    if edges.bursty:
        of_hops = np.repeat(packets, np.diff(edges.hop_ptr)).tolist(), edges.loss_H.tolist(), *edges.chain_H.T.tolist()
        none_H = np.array([none_lost(*of_hop) for of_hop in zip(*of_hops, strict=True)])
        none_E = np.multiply.reduceat(none_H, edges.hop_ptr[:-1])
        return streams.uniform(keys, 1)[:, 0] < np.minimum(none_E, none_E[reverse_E])
    through = np.multiply.reduceat(1.0 - edges.loss_H, edges.hop_ptr[:-1])
    return binomial(packets, np.maximum(1.0 - through, (1.0 - through)[reverse_E]), keys, 0) == 0


class Fates:
    """Draws the fates of messages for one run."""

    def __init__(self, network: Network, seed: int) -> None:
        self.network, self.seed = network, seed

    def of(
        self, occurrence: tuple[str | int, ...], edges: EdgeSet, size: Size, *, policy: str | None = None
    ) -> Fate | None:
        """The fate of one message of `size` bytes on every edge; None where nothing can be lost.

        `occurrence` names the draw within the run; `policy` overrides the network's (collectives are always `retry`).
        """
        if not edges.lossy or self.network.model == "tcp":  # which sends again by itself
            return None
        policy = policy or self.network.policy
        base = streams.key(self.seed, "loss", *occurrence)
        packets = np.full(edges.size, self.network.packets(np.asarray(size)), dtype=np.int64)
        if policy == "symmetric":
            if (edges.reverse_E < 0).any():
                raise TopologyError("policy symmetric fails both directions of a link together, but this topology is "
                                    "directed; use policy drop or retry")  # fmt: skip
            return self._symmetric(base, edges, packets)
        ends = edges.source << np.int64(32) | edges.target
        keys = [streams.keys(base, ends)]
        if edges.bursty:
            keys += [
                streams.keys(streams.key(self.seed, what, *occurrence), ends) for what in ("burst", "loss in burst")
            ]
        if edges.loss_of:
            return FateInTime(edges, packets, keys, again=policy == "retry")
        return _sequential(keys, edges, packets, again=policy == "retry")

    def _symmetric(self, base: int, edges: EdgeSet, packets: np.ndarray) -> Fate:
        """One draw for both directions of an edge, for the longer message with the larger loss of the two. A message
        counts as lost, whole, on its last link.
        """
        low, high = np.minimum(edges.source, edges.target), np.maximum(edges.source, edges.target)
        keys = streams.keys(base, low << np.int64(32) | high)
        if edges.loss_of:
            return SymmetricInTime(edges, packets, [keys], again=False)
        delivered = _both_get_through(edges, packets, keys, edges.reverse_E)
        hop_packets = np.repeat(packets, np.diff(edges.hop_ptr))
        hop_lost = np.zeros_like(hop_packets)
        hop_lost[edges.hop_ptr[1:] - 1] = np.where(delivered, 0, packets)
        none = np.zeros(edges.size, dtype=np.int64)
        return Fate(packets, none, none + 1, delivered, hop_packets, hop_lost)
