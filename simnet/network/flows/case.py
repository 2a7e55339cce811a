"""A network, its routes, and a list of transfers over it: what `simnet transfers` works on.

Legend: F transfers, L links, H hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from simnet.errors import InputError, TopologyError, nearest
from simnet.network.flows.links import Links
from simnet.network.flows.traces import Changes, Trace

CONGESTION_CONTROLS = ("cubic", "reno", "bbr")


@dataclass(frozen=True)
class Transfers:
    """F transfers. One starts `delay_s` after its start, or after the last of those it waits for if that is later."""

    source: np.ndarray  # int64 (F,): hosts
    target: np.ndarray  # int64 (F,)
    bytes: np.ndarray  # float64 (F,)
    start_s: np.ndarray  # float64 (F,)
    delay_s: np.ndarray  # float64 (F,)
    after: Sequence[Sequence[int]]  # (F,): transfers that must have ended

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class Case:
    """A network and what is transferred over it. Raises InputError for what cannot be simulated."""

    name: str
    hosts: tuple[str, ...]
    links: Links
    routes: Mapping[tuple[int, int], Sequence[int]]  # the links from one host to another
    transfers: Transfers
    congestion_control: str = "cubic"
    warm: bool = False  # whether connections are open before their transfer starts
    reference: Mapping[str, object] = field(default_factory=dict)  # what the file says of the true times
    traces: Mapping[int, Trace] = field(default_factory=dict)  # links whose bandwidth changes; theirs is the mean
    starts: Mapping[int, Changes] = field(
        default_factory=dict
    )  # those whose latency or loss changes; theirs is the first
    notes: tuple[str, ...] = ()  # what of the file was left out
    place_of: Callable[[str], str] | None = None  # where in its file a field stands

    def __post_init__(self) -> None:
        self._check_links()
        for k in self.traces:
            if self.links.fatpipe[k]:
                raise InputError(
                    f"{self.name}: link {self.links.names[k]}: a link that does not share (fatpipe) has one bandwidth; "
                    f"leave out its trace, or fatpipe"
                )
        for k, changes in self.starts.items():
            if changes.loss is not None and (changes.loss.values >= 1).any():
                raise InputError(
                    f"{self.name}: link {self.links.names[k]}: has a loss of 1 in its trace, and what is lost is sent "
                    f"again until it is through; take less, or a bandwidth of 0"
                )
        self._check_routes()
        self._check_transfers()
        if self.congestion_control not in CONGESTION_CONTROLS:
            raise InputError(
                f"{self.name}: cc = {self.congestion_control!r}: must be one of {', '.join(CONGESTION_CONTROLS)}"
                f"{nearest(self.congestion_control, CONGESTION_CONTROLS)}"
            )

    def _at(self, field: str) -> str:
        """How an error begins that a field is to blame for."""
        place = self.place_of(field) if self.place_of is not None else ""
        return f"{place} {field}" if place else f"{self.name}: {field}"

    def _check_links(self) -> None:
        links = self.links
        rules = (
            ("bandwidth", links.bandwidth, links.bandwidth > 0, "must be above 0 bytes/s, such as '100 Mbit/s'"),
            ("latency", links.latency_s, np.isfinite(links.latency_s) & (links.latency_s >= 0), "must be at least 0 s"),
            ("loss", links.loss, (links.loss >= 0) & (links.loss < 1), "must be at least 0 and below 1"),
            ("ge", links.burst, ((links.burst >= 0) & (links.burst <= 1)).all(axis=1),
             "must be probabilities: to bad, to good, loss"),
            ("ge", links.burst, ~((links.burst[:, 0] > 0) & (links.burst[:, 1] == 0) & (links.burst[:, 2] >= 1)),
             "a bad state that loses all and is never left lets nothing through"),
            ("queue_bytes", links.queue_bytes, links.queue_bytes > 0, "must be above 0 bytes"),
        )  # fmt: skip
        for what, values, good, rule in rules:
            if not np.all(good):
                k = int(np.nonzero(~good)[0][0])
                came = values[k].tolist() if values.ndim > 1 else f"{values[k]:g}"
                raise InputError(f"{self.name}: link {links.names[k]}: {what} = {came}: {rule}")

    def _check_routes(self) -> None:
        for (a, b), route in self.routes.items():
            for end in (a, b):
                if not 0 <= end < len(self.hosts):
                    raise TopologyError(
                        f"{self.name}: a route leads from {self._host(a)} to {self._host(b)}, but there is no host "
                        f"{end}: there are {len(self.hosts)}, numbered from 0"
                    )
            for k in route:
                if not 0 <= k < len(self.links.bandwidth):
                    raise TopologyError(
                        f"{self.name}: the route from {self._host(a)} to {self._host(b)} goes through link {k}, which "
                        f"is not there: there are {len(self.links.bandwidth)} links, numbered from 0"
                    )

    def _check_transfers(self) -> None:
        t, n = self.transfers, len(self.transfers)
        for what, values in (("bytes", t.bytes), ("start", t.start_s), ("delay", t.delay_s)):
            bad = np.nonzero(~(np.isfinite(values) & (values >= 0)))[0]
            if len(bad):
                raise InputError(
                    f"{self._at(f'flows.{bad[0]}')}: {what} = {values[bad[0]]:g}: must be finite and at least 0"
                )
        for i, (a, b) in enumerate(zip(t.source.tolist(), t.target.tolist(), strict=True)):
            for end in (a, b):
                if not 0 <= end < len(self.hosts):
                    raise InputError(
                        f"{self._at(f'flows.{i}')}: there is no host {end}: there are {len(self.hosts)}, numbered "
                        f"from 0"
                    )
            if a == b:
                raise InputError(f"{self._at(f'flows.{i}')}: goes from {self._host(a)} to itself; leave it out")
            if (a, b) not in self.routes:
                raise TopologyError(
                    f"{self._at(f'flows.{i}')}: no route leads from {self._host(a)} to {self._host(b)}; add one, or "
                    f"the links that it would take"
                )
        self._check_order(n)

    def _check_order(self, n: int) -> None:
        """No transfer waits for one that is not there, or for itself through others."""
        waits = [0] * n
        next_: list[list[int]] = [[] for _ in range(n)]
        for i, before in enumerate(self.transfers.after):
            for j in before:
                if not 0 <= j < n:
                    raise InputError(
                        f"{self._at(f'flows.{i}.after')}: waits for flow {j}, which is not there: there are {n}, "
                        f"numbered from 0"
                    )
                next_[j].append(i)
            waits[i] = len(before)
        ready = [i for i in range(n) if not waits[i]]
        for i in ready:
            for j in next_[i]:
                waits[j] -= 1
                if not waits[j]:
                    ready.append(j)
        if len(ready) < n:
            stuck = next(i for i in range(n) if waits[i])
            raise InputError(f"{self._at(f'flows.{stuck}.after')}: waits for itself, directly or through other flows")

    def _host(self, i: int) -> str:
        return f"host {self.hosts[i]}" if 0 <= i < len(self.hosts) else f"host {i}"
