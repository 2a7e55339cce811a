"""Every byte on every link, by kind, and totals by round.

Kinds: payload, indices, headers, retransmissions, acknowledgements. `wire_bytes` is their sum; a round's messages
count once at their sender, its bytes on every link that they cross. `lost_bytes` are those of a link's wire bytes that
did not leave it: what leaves the links into a router enters those out of it. Where a transport sends again by itself
(TCP), each of a message's lost bytes is lost on one link of its way: they are shared out by how often each link loses
a packet that got as far, to whole bytes, and none of them is on the links behind.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simnet.links import NO_BURSTS
from simnet.network.fate import Fate, Size
from simnet.network.flows.models import along, loss_events, lost_by
from simnet.network.network import EdgeSet, Network
from simnet.payload import index_part, named_bytes, nominal_bits

KINDS = ("payload", "index", "header", "retransmitted", "acknowledgement")


class Ledger:
    """Byte counts of one run."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._messages = np.zeros(network.links, dtype=np.int64)
        self._lost = np.zeros(network.links, dtype=np.int64)
        self._lost_bytes = np.zeros(network.links, dtype=np.int64)
        self._bytes = np.zeros((len(KINDS), network.links), dtype=np.int64)
        self._whole: dict[tuple[EdgeSet, int, int], int] = {}  # lossless exchanges with every sender: only counted
        self._background = np.zeros(network.links, dtype=np.int64)
        self.background_flows = 0
        self.round_bytes: list[int] = []
        self.round_messages: list[int] = []
        self.nominal_bits: float = 0
        self._by_name: dict[str, float] = {}
        self._shares: dict[tuple[int, ...], np.ndarray] = {}  # a way -> what of its losses is lost by each link's end
        self.lost_messages = 0

    def add(
        self, round: int, edges: EdgeSet, payload: Size, fate: Fate | None = None, active_E: np.ndarray | None = None,
        times: int = 1,
    ) -> None:  # fmt: skip
        """Enter one message of `payload` bytes (headers apart) on each active edge of the set; `times=-1` takes it
        back.
        """
        header = self.network.header_bytes
        count = edges.size if active_E is None else int(np.count_nonzero(active_E))
        nominal = nominal_bits(payload)
        if fate is None and active_E is None and not isinstance(payload, np.ndarray):
            total, paid = len(edges.hops_H) * (payload + header), len(edges.hops_H) * payload
            key = edges, payload, index_part(payload)
            self._whole[key] = self._whole.get(key, 0) + times
        else:
            total, paid = self._enter(edges, payload, header, fate, active_E, times)
        for name, part in named_bytes(payload).items():
            self._by_name[name] = self._by_name.get(name, 0) + times * float(paid * part / payload)
        self._round(round, total * times, count * times)
        if isinstance(nominal, np.ndarray):
            self.nominal_bits += times * float(nominal.sum() if active_E is None else nominal[active_E].sum())
        else:
            self.nominal_bits += nominal * count * times

    def add_overhead(
        self, round: int, hops: np.ndarray, header: int = 0, again: int = 0, acknowledged_by: np.ndarray | None = None,
        acknowledgement: int = 0,
    ) -> None:  # fmt: skip
        """Enter what the transport adds to a message on each link of its way, and on each of the way back."""
        np.add.at(self._bytes[2], hops, header)
        total = header * len(hops)
        if again:
            total += int(self._send_again(hops.tolist(), np.array([again]))[0])
        if acknowledged_by is not None:
            np.add.at(self._bytes[4], acknowledged_by, acknowledgement)
            total += acknowledgement * len(acknowledged_by)
        self._round(round, total, 0)

    def add_overheads(
        self, round_M: np.ndarray, way_M: np.ndarray, header_M: np.ndarray, again_M: np.ndarray, back_M: np.ndarray,
        forward: Sequence[Sequence[int]], backward: Sequence[Sequence[int]],
    ) -> None:  # fmt: skip
        """The same for M messages, by the number of their ways; whole numbers of bytes, as float64."""
        for row, amount_M, ways in ((2, header_M, forward), (4, back_M, backward)):
            totals = np.bincount(way_M, amount_M)
            used = np.flatnonzero(totals)
            hops, of = along([ways[w] for w in used.tolist()])
            np.add.at(self._bytes[row], hops, totals[used].astype(np.int64)[of])
        there = np.array([len(way) for way in forward], np.int64)[way_M]
        back = np.array([len(way) for way in backward], np.int64)[way_M]
        total_M = header_M * there + back_M * back
        sent_again = np.flatnonzero(again_M)
        for w in np.unique(way_M[sent_again]).tolist():
            of_way = sent_again[way_M[sent_again] == w]
            total_M[of_way] += self._send_again(forward[w], again_M[of_way])
        totals = np.bincount(round_M, total_M)
        for round in np.unique(round_M).tolist():
            self._round(round, int(totals[round]), 0)

    def _send_again(self, way: Sequence[int], again_M: np.ndarray) -> np.ndarray:
        """Enter what M messages sent again over a way, and lost; gives its bytes on all links, int64 (M,)."""
        hops, entering, lost = self._sent_again(way, again_M)
        np.add.at(self._bytes[3], hops, entering.sum(0))
        np.add.at(self._lost_bytes, hops, lost.sum(0))
        total: np.ndarray = entering.sum(1)
        return total

    def _sent_again(self, way: Sequence[int], again_M: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of what M messages sent again over a way, and lost: its links, int64 (H,), and what enters and what is lost
        on each of them, int64 (M, H)."""
        by = np.floor(again_M[:, None] * self._lost_by(way) + 0.5).astype(np.int64)  # lost by the end of each link
        before = np.hstack((np.zeros((len(by), 1), np.int64), by))[:, :-1]
        return np.array(way, np.int64), again_M.astype(np.int64)[:, None] - before, by - before

    def _lost_by(self, way: Sequence[int]) -> np.ndarray:
        """See `models.lost_by`; of a loss that changes with time the mean of its values counts."""
        key = tuple(way)
        if key not in self._shares:
            net, events = self.network, []
            for k in key:
                change = net.changes[k].loss if k in net.changes else None
                loss = float(net.loss[k]) if change is None else float(change.values.mean())
                events.append(loss_events(loss, net.burst[k] if len(net.burst) else NO_BURSTS))
            self._shares[key] = lost_by(events)
        return self._shares[key]

    def add_background(self, hops: np.ndarray, amount: int, flows: int) -> None:
        """Enter `amount` bytes of background traffic on each of `hops`: they belong to no message and no round."""
        np.add.at(self._background, hops, amount)
        self.background_flows += flows

    def add_background_again(self, way: Sequence[int], amount: int) -> None:
        """Enter `amount` bytes that background traffic lost on a way and sent again: on the links up to each loss."""
        hops, entering, _ = self._sent_again(way, np.array([amount]))
        np.add.at(self._background, hops, entering[0])

    def add_counts(self, edges: EdgeSet, payload: int, count_E: np.ndarray) -> None:
        """Enter `count_E` lossless messages of `payload` bytes (headers apart) on each edge; they belong to no round
        and are entered in the first.
        """
        count_H = np.repeat(count_E, np.diff(edges.hop_ptr))
        on_link = np.zeros(self.network.links, dtype=np.int64)
        np.add.at(on_link, edges.hops_H, count_H)
        self._messages += on_link
        self._bytes[0] += on_link * payload
        self._bytes[2] += on_link * self.network.header_bytes
        total = int(count_H.sum()) * (payload + self.network.header_bytes)
        self._round(0, total, int(count_E.sum()))
        self.nominal_bits += 8 * payload * int(count_E.sum())

    def _enter(
        self, edges: EdgeSet, payload: Size, header: int, fate: Fate | None, active_E: np.ndarray | None, times: int
    ) -> tuple[int, int]:
        """Bytes on all links, and those of them that are payload, indices among it."""
        hops, per_edge = edges.hops_H, np.diff(edges.hop_ptr)
        index = index_part(payload)
        if isinstance(payload, np.ndarray):
            payload, index = (np.repeat(np.asarray(part), per_edge) for part in (payload, index))
        on = np.ones(len(hops), bool) if active_E is None else np.repeat(active_E, per_edge)
        size = payload + header
        extra = np.zeros(len(hops), dtype=np.int64)
        reached = on
        if fate is not None:
            packets_H = np.repeat(fate.packets_E, per_edge)
            packet_bytes = -(-size // np.maximum(packets_H, 1))
            again = fate.hop_packets_H - packets_H
            reached = on & (fate.hop_packets_H > 0)
            extra = np.where(reached, np.maximum(again, 0) * packet_bytes, 0)
            missing = np.where(reached, np.minimum(again, 0) * packet_bytes, 0)  # lost on an earlier hop
            lost_E = ~fate.delivered_E if active_E is None else ~fate.delivered_E & active_E
            self.lost_messages += times * int(np.count_nonzero(lost_E))
            np.add.at(self._lost, hops, times * (np.repeat(lost_E, per_edge) & reached))
            np.add.at(self._bytes[0], hops, times * np.maximum(missing, -payload * reached))
            left = again - fate.hop_lost_H  # beyond the message's packets, or short of them
            leaving = np.where(left + packets_H > 0, size + np.maximum(left * packet_bytes, -payload), 0)
            entering = size + np.maximum(again * packet_bytes, -payload)
            np.add.at(self._lost_bytes, hops, times * np.where(reached, entering - leaving, 0))
        np.add.at(self._messages, hops, times * reached)
        np.add.at(self._bytes[0], hops, times * (payload - index) * reached)
        np.add.at(self._bytes[1], hops, times * index * reached)
        np.add.at(self._bytes[2], hops, times * header * reached)
        np.add.at(self._bytes[3], hops, times * extra)
        paid = int((payload * reached).sum())
        if fate is not None:
            paid += int(np.maximum(missing, -payload * reached).sum())
        return paid + int((header * reached).sum() + extra.sum()), paid

    def _round(self, round: int, total: int, count: int) -> None:
        while len(self.round_bytes) <= round:
            self.round_bytes.append(0)
            self.round_messages.append(0)
        self.round_bytes[round] += total
        self.round_messages[round] += count

    @property
    def wire_bytes(self) -> int:
        return sum(self.round_bytes)

    @property
    def messages(self) -> int:
        return sum(self.round_messages)

    def by_link(self) -> dict[str, np.ndarray]:
        """Columns over the directed links: messages, lost messages and bytes, and bytes by kind."""
        messages, kinds = self._messages.copy(), self._bytes.copy()
        for (edges, payload, index), times in self._whole.items():
            on_link = np.bincount(edges.hops_H, minlength=self.network.links) * times
            messages += on_link
            kinds[0] += on_link * (payload - index)
            kinds[1] += on_link * index
            kinds[2] += on_link * self.network.header_bytes
        columns = {"messages": messages, "lost_messages": self._lost.copy(), "lost_bytes": self._lost_bytes.copy()}
        columns |= {f"{kind}_bytes": row for kind, row in zip(KINDS, kinds, strict=True)}
        if self.network.background:
            columns["background_bytes"] = self._background.copy()
        return columns | {"wire_bytes": kinds.sum(axis=0)}

    def by_variable(self) -> dict[str, int]:
        """Payload bytes of each variable that programs have named, over all links; without what is sent again."""
        return {name: round(part) for name, part in self._by_name.items()}

    @property
    def background_bytes(self) -> int:
        """Bytes of background traffic, over all links."""
        return int(self._background.sum())

    def by_kind(self) -> dict[str, int]:
        """Bytes by kind, over all links."""
        columns = self.by_link()
        return {kind: int(columns[f"{kind}_bytes"].sum()) for kind in KINDS}
