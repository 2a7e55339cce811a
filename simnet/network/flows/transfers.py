"""What a list of transfers costs on a network: the flow engine driven from start to end.

Legend: F transfers, L links.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simnet.errors import InputError, TopologyError, nearest
from simnet.network.flows.case import CONGESTION_CONTROLS, Case, Transfers
from simnet.network.flows.drive import BEGUN, ENDED, NEEDS_ROOM, READY, drive
from simnet.network.flows.files import read_case
from simnet.network.flows.models import MODELS, RouteTable, loss_events, lost_by, route_table, unlimited
from simnet.network.flows.moves import next_time
from simnet.network.flows.over_time import BandwidthChanges, Starts
from simnet.network.flows.state import CONTROL, FACTOR, KEY, OWN, Engine, make_engine, with_room
from simnet.network.flows.tcp import MSS, PACKET
from simnet.network.flows.traces import Trace
from simnet.streams import key

PATIENCE = 100_000  # changes in a row after which nothing moves
FIRST_ROOM = 1024  # flows at a time that an engine has room for before it grows


class Driven(NamedTuple):
    """What driving F transfers to their end gives."""

    start_s: np.ndarray  # float64 (F,)
    finish_s: np.ndarray  # float64 (F,): infinity where it never ends
    limit: np.ndarray  # int64 (F,)
    lost_packets: np.ndarray  # float64 (F,)
    engine: Engine


@dataclass(frozen=True)
class TransferTimes:
    """When each transfer started and ended, and what limited it."""

    case: Case
    model: str
    start_s: np.ndarray  # float64 (F,): before any latency is paid; infinity: it waits for one that never ends
    finish_s: (
        np.ndarray
    )  # float64 (F,): the last byte has arrived; infinity: never, over links that stand still for good
    limit: np.ndarray  # int64 (F,): the link that limited it in the end, or -1: nothing shared did
    lost_packets: np.ndarray  # float64 (F,): packets that were lost and sent again (tcp)
    carried_bytes: np.ndarray  # float64 (L,): what transfers that ended brought over each link, the model's headers and
    # acknowledgements included
    engine: Engine  # as the run left it; its counters are for measuring

    @property
    def mean_rate(self) -> np.ndarray:
        """Bytes/s of each transfer from its start to its end, float64 (F,)."""
        ends = np.isfinite(self.finish_s)
        spent = np.subtract(self.finish_s, self.start_s, out=np.zeros(len(ends)), where=ends)
        return np.divide(self.case.transfers.bytes, spent, out=np.zeros(len(spent)), where=spent > 0)

    @property
    def makespan_s(self) -> float:
        """When the last of those transfers ended that do end."""
        return float(self.finish_s[np.isfinite(self.finish_s)].max(initial=0.0))

    @property
    def utilisation(self) -> np.ndarray:
        """The share of each link's bandwidth that was used until the last transfer ended, float64 (L,)."""
        makespan = self.makespan_s
        if not makespan:
            return np.zeros_like(self.carried_bytes)
        can = self.case.links.bandwidth * makespan
        for k, trace in self.case.traces.items():
            can[k] = trace.bytes_until(makespan)
        return np.divide(self.carried_bytes, can, out=np.zeros_like(can), where=can > 0)

    @property
    def ignored_loss(self) -> list[str]:
        """The names of the links on some transfer's way whose loss the model leaves out: all but tcp leave it out."""
        if MODELS[self.model].tcp:
            return []
        links, t = self.case.links, self.case.transfers
        lossy = (links.loss > 0) | ((links.burst[:, 0] > 0) & (links.burst[:, 2] > 0))
        lossy[
            [k for k, changes in self.case.starts.items() if changes.loss is not None and changes.loss.values.any()]
        ] = True
        ways = {tuple(self.case.routes[way]) for way in zip(t.source.tolist(), t.target.tolist(), strict=True)}
        return [links.names[k] for k in sorted({k for way in ways for k in way}) if lossy[k]]

    def bottleneck(self, i: int) -> str:
        """The name of the link that limited transfer i in the end, or that keeps it from ever ending."""
        t = self.case.transfers
        ends = int(t.source[i]), int(t.target[i])
        route = self.case.routes[ends]
        if np.isinf(self.finish_s[i]):
            traces = {
                k: self.case.traces[k] for k in (*route, *self.case.routes.get(ends[::-1], ())) if k in self.case.traces
            }
            still = (k for k, trace in traces.items() if np.isinf(trace.period_s) and trace.rates[-1] == 0.0)
            return next((self.case.links.names[k] for k in still), "what it waits for")
        if self.limit[i] >= 0:
            return self.case.links.names[self.limit[i]]
        own = min(
            (k for k in route if self.case.links.fatpipe[k]), key=self.case.links.bandwidth.__getitem__, default=None
        )
        return self.case.links.names[own] if own is not None else "its window"


def transfer_times(source: str | Path | Mapping[str, Any] | Case, model: str = "tcp", seed: int = 0) -> TransferTimes:
    """Start and finish of every transfer of a case: a file's name, a dict, or a `Case`.

    `model` is maxmin, cm02, lv08, lv08_noxt or tcp, which alone draws: from `seed`.
    Raises InputError for what cannot be simulated.
    """
    if model not in MODELS:
        raise InputError(f"model = {model!r}: must be one of {', '.join(MODELS)}{nearest(str(model), MODELS)}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise InputError(f"seed = {seed!r}: must be a whole number")
    case = read_case(source)
    pairs = dict.fromkeys(zip(case.transfers.source.tolist(), case.transfers.target.tolist(), strict=True))
    number = {pair: i for i, pair in enumerate(pairs)}
    forward = [case.routes[pair] for pair in pairs]
    for a, b in pairs:
        if MODELS[model].cross_traffic and (b, a) not in case.routes:
            raise TopologyError(
                f"{case.name}: no route leads back from host {case.hosts[b]} to host {case.hosts[a]} for the "
                f"acknowledgements of {model}: add one"
            )
    backward = [case.routes.get((b, a), ()) for a, b in pairs]
    table = route_table(case.links, forward, backward, MODELS[model], case.warm)
    free = unlimited(table)
    if free.any():
        a, b = list(pairs)[int(np.nonzero(free)[0][0])]
        raise TopologyError(
            f"{case.name}: nothing limits the rate from host {case.hosts[a]} to host {case.hosts[b]} under {model}: "
            f"their route has no link with a bandwidth; give it one, or take lv08, whose window does"
        )
    t = case.transfers
    control = 1 + CONGESTION_CONTROLS.index(case.congestion_control) if MODELS[model].tcp else 0
    route = np.array([number[pair] for pair in zip(t.source.tolist(), t.target.tolist(), strict=True)], np.int64)
    used = {k for way in (*forward, *backward) for k in way}
    moving = {k: changes for k, changes in case.starts.items() if k in used}
    starts = Starts(case.links, moving, forward, backward, route, MODELS[model], case.warm) if moving else None
    made = run_transfers(table, route, t, control, key(seed, "tcp"), case.traces, starts)
    ended = np.isfinite(made.finish_s)
    for i in np.flatnonzero(~ended).tolist():
        if not ended[list(t.after[i])].all():
            made.start_s[i] = np.inf
    carried = _carried(table, route, np.where(ended, t.bytes + made.lost_packets * MSS, 0.0))
    if made.lost_packets.any():
        carried -= _not_reached(case, forward, np.bincount(route, made.lost_packets * PACKET, len(forward)))
    return TransferTimes(case, model, made.start_s, made.finish_s, made.limit, made.lost_packets, carried, made.engine)


def run_transfers(
    table: RouteTable,
    route: np.ndarray,
    transfers: Transfers,
    control: int = 0,
    draws: int = 0,
    traces: Mapping[int, Trace] | None = None,
    starts: Starts | None = None,
) -> Driven:
    """Drive transfers over `route` (F,), numbers of routes of a table, to their end.

    `control` numbers TCP's congestion control (0: no TCP); its numbers are drawn under the key `draws`. `traces` are
    the bandwidths that change, by link, and `starts` latencies and losses. Where nothing moves over so many changes as
    `PATIENCE`, the transfers that are left never end.
    """
    n, still = len(transfers), 0
    if starts is not None:
        table, route = starts.table, np.arange(n)
    engine = make_engine(*table, min(max(n, 1), FIRST_ROOM))
    engine.state[CONTROL], engine.state[KEY] = control, np.uint64(draws).astype(np.int64)
    next_start, next_who, waits = _followers(transfers)
    made = Driven(transfers.start_s.copy(), np.full(n, np.inf), np.full(n, OWN), np.zeros(n), engine)
    free = np.nonzero(waits == 0)[0]
    first = free[np.lexsort((free, (made.start_s + transfers.delay_s)[free]))]
    progress, when, who = np.zeros(2, np.int64), np.zeros(n), np.zeros(n, np.int64)
    changes = BandwidthChanges(traces or {}, engine)
    while still <= PATIENCE:
        until = changes.next_s if starts is None else min(changes.next_s, starts.next_s)
        said = drive(
            engine, progress, first, when, who, route, transfers.bytes, transfers.delay_s, waits, next_start, next_who,
            *made[:4], until,
        )  # fmt: skip
        if said == ENDED:
            break
        if said == NEEDS_ROOM:
            engine = with_room(engine, 2 * len(engine.flow))
            continue
        if until == changes.next_s:
            changes.make(engine)
        if starts is not None and until == starts.next_s:
            begun = waits == 0
            begun[first[progress[BEGUN] :]] = begun[who[: progress[READY]]] = False
            starts.make(engine, begun)
        moves = progress[BEGUN] < len(first) or progress[READY] > 0 or next_time(engine) < np.inf
        still = 0 if moves else still + 1
    return made._replace(engine=engine)


def _followers(transfers: Transfers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who waits for whom: the followers of each transfer (starts and members), and how many each waits for."""
    n = len(transfers)
    waits = np.fromiter((len(before) for before in transfers.after), np.int64, n)
    followers = np.repeat(np.arange(n), waits)
    leaders = np.fromiter((j for before in transfers.after for j in before), np.int64, int(waits.sum()))
    order = np.argsort(leaders, kind="stable")
    next_start = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(leaders, minlength=n), out=next_start[1:])
    return next_start, followers[order], waits


def _not_reached(case: Case, forward: list[Sequence[int]], lost_R: np.ndarray) -> np.ndarray:
    """Of the bytes that were lost on each route, those that lost links before spare each link, float64 (L,). Of a loss
    that changes the mean of its values counts.
    """
    links, spared = case.links, np.zeros(len(case.links.bandwidth))
    loss = links.loss.copy()
    for k, changes in case.starts.items():
        loss[k] = loss[k] if changes.loss is None else changes.loss.values.mean()
    for r in np.flatnonzero(lost_R).tolist():
        by = lost_by([loss_events(loss[k], links.burst[k]) for k in forward[r]])
        behind = [(k, share) for k, share in zip(forward[r][1:], by[:-1].tolist(), strict=True)
                  if not links.fatpipe[k] and links.bandwidth[k] < np.inf]  # fmt: skip
        for k, share in behind:
            spared[k] += share * lost_R[r]
    return spared


def _carried(table: RouteTable, route: np.ndarray, bytes_: np.ndarray) -> np.ndarray:
    """Bytes over each link, float64 (L,)."""
    over = np.bincount(route, bytes_, minlength=len(table.route)) / table.route[:, FACTOR]
    per_entry = np.repeat(over, np.diff(table.route_start)) * table.route_share
    return np.bincount(table.route_link, per_entry, minlength=len(table.capacity))
